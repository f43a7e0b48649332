"""Studies: which one is in front, and how it stood when it was last read. No widgets here."""

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import RecipeError, WakewordError
from engine.files import is_file
from engine.recipe import Recipe
from engine.recipe_file import load, override
from engine.runs import Workspace
from engine.space import space_of
from engine.trials import StudyView
from wakeword_tui import searching
from wakeword_tui.config import typed_path
from wakeword_tui.draft import Draft

LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """What reading the disk found: the studies, newest first, and the one in front or why not."""

    names: tuple[str, ...] = ()
    view: StudyView | None = None
    trouble: WakewordError | None = None


class Studies:
    """The study in front. SQLite is read in a thread that neither screen nor quitting waits for."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.name = ""
        """The study in front; "" until one is chosen, or found to be the newest."""
        self.found: Found | None = None
        self._reading = threading.Lock()
        self._stamp: object = None
        self._looked_s = 0.0

    @property
    def view(self) -> StudyView | None:
        """The study as it was last read."""
        return self.found.view if self.found else None

    def choose(self, name: str) -> None:
        """Bring a study to the front; what was read of another one is put away."""
        if name != self.name:
            self.name = name
            self.found = Found(self.found.names) if self.found else None
        self.look_again()

    def look_again(self) -> None:
        """Read at the next occasion."""
        self._looked_s, self._stamp = 0.0, None

    def due(self, trial: object) -> bool:
        """Whether to read now: something was written, or another `trial` runs."""
        if self._reading.locked() or time.monotonic() - self._looked_s < LOOK_EVERY_S:
            return False
        stamp = trial, self.name, *map(_changed, self.workspace.studies.glob("*.db*"))
        if stamp == self._stamp:
            self._looked_s = time.monotonic()
            return False
        self._stamp = stamp
        return True

    def look(self) -> None:
        """Read the studies and the one in front, in a thread."""
        threading.Thread(target=self._read, name="studies", daemon=True).start()

    def _read(self) -> None:
        with self._reading:
            name, names = self.name, tuple(searching.studies(self.workspace))
            try:
                name = name or (names[0] if names else "")
                view = searching.view_study(self.workspace, name) if name in names else None
                found = Found(names, view)
            except WakewordError as error:
                found = Found(names, trouble=error)
            if self.name in ("", name) and found != self.found:  # else another one was chosen
                self.name, self.found = name, found
            self._looked_s = time.monotonic()


def trials_problems(texts: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with a number of trials."""
    text = texts["trials"].strip()
    return {} if text.isdecimal() and int(text) > 0 else {"trials": "a whole number above 0"}


def begin_problems(names: Sequence[str], draft: Draft, texts: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with a new study, by the line it is wrong in."""
    wrong, name = trials_problems(texts), texts["name"].strip()
    try:
        override(Recipe(), {"name": f"{name}-t0000"})  # what a trial's run is called
        if name in names:
            wrong["name"] = "there is one of that name: r goes on with it"
    except RecipeError:
        wrong["name"] = "letters, digits, dots and dashes, at most 35"
    try:
        data = begin_recipe(texts["recipe"], draft).data
        if not (data.manifest or data.sources):
            wrong["recipe"] = "it names no data, and Setup does not either"
    except RecipeError as error:
        wrong["recipe"] = error.problems[0] if error.problems else error.message
    return wrong


def begin_recipe(text: str, draft: Draft) -> Recipe:
    """The recipe of a new study from its path: as edited, if Setup has it open.

    Where it names no data, it takes that of Setup. Raises RecipeError, also for a bad space.
    """
    path = typed_path(text)
    if not is_file(path):
        raise RecipeError("there is no such file")
    here = draft.path is not None and path.resolve() == draft.path.resolve()
    recipe = draft.recipe if here else load(path)
    space_of(recipe)
    named = recipe.data.manifest or recipe.data.sources
    return recipe if named else recipe.model_copy(update={"data": draft.recipe.data})


def _changed(path: Path) -> tuple[str, int]:
    """A file and when it was written; SQLite takes its journals away again."""
    with contextlib.suppress(FileNotFoundError):
        return path.name, path.stat().st_mtime_ns
    return path.name, 0
