"""What the screens ask of the engine about studies: begin, read, fork; verbs take the rest."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.events import Emit, Event, Record, TrialFinished, TrialStarted
from engine.jobs import Control, Jobs
from engine.recipe import Recipe
from engine.recipe_file import load, override
from engine.runs import Run, Workspace, read_events
from engine.space import problems_of, space_of
from wakeword_tui.draft import parse
from wakeword_tui.store import Store
from wakeword_tui.verbs import Live, end_timings

if TYPE_CHECKING:
    from engine.trials import Param, StudyView, Trial


@dataclass(slots=True, kw_only=True)
class Searching(Live):
    """A study that runs; `run` and `store` are those of its present trial."""

    study: str
    home: Workspace
    last_trial: threading.Event = field(default_factory=threading.Event)
    """Set: the study ends with the present trial."""

    @property
    def name(self) -> str:
        """The study."""
        return self.study

    def take(self, record: Record) -> None:
        """Turn to the next trial with a store of its own, and what it did before a resume."""
        event = record.event
        if isinstance(event, TrialStarted) and event.run:
            entries, self.run = self.store.entries, Run(self.home.root / "runs" / event.run)
            self.store = Store()
            for earlier in read_events(self.run.events):
                if earlier.time_s < record.time_s:
                    self.store.apply(earlier)
            self.store.n, self.store.entries = 0, entries
        self.store.apply(record)


def start_search(jobs: Jobs, recipe: Recipe | None, study: str, trials: int) -> Searching:
    """Begin a study of a recipe, or go on with the one of that name."""
    last_trial = threading.Event()

    def verb(emit: Emit, control: Control) -> None:
        from engine.search import search

        def tell(event: Event) -> None:
            emit(event)
            if isinstance(event, TrialFinished) and last_trial.is_set():
                control.stop()

        end_timings(jobs)
        search(recipe, jobs.workspace, name=study, trials=trials, emit=tell, control=control)

    job = jobs.start("search", verb)
    return Searching(job, Store(), study=study, home=jobs.workspace, last_trial=last_trial)


def studies(workspace: Workspace) -> list[str]:
    """Names of the studies of a workspace, the one first that was written to last.

    Those in databases elsewhere come after all that can be read. Where there is none nobody waits
    for Optuna, which takes a second to import.
    """
    if not any(workspace.studies.glob("*.toml")):
        return []
    from engine.study import studies as names

    def written(name: str) -> tuple[bool, float]:
        recipe, database = (workspace.studies / f"{name}{end}" for end in (".toml", ".db"))
        here = database.exists()
        return here, max(path.stat().st_mtime for path in (recipe, database)[: 1 + here])

    return sorted(names(workspace), key=written, reverse=True)


def view_study(workspace: Workspace, name: str) -> "StudyView":
    """How a study stands in its database. Takes a while: call it in a thread."""
    from engine.study import view

    return view(workspace, name)


def fork_check(workspace: Workspace, name: str) -> Callable[[Mapping[str, str]], dict[str, str]]:
    """What tells what is wrong with texts for the keys of a study's space, by key."""
    recipe = study_recipe(workspace, name)
    space = space_of(recipe)

    def check(texts: Mapping[str, str]) -> dict[str, str]:
        problems = problems_of(recipe, space, fork_params(texts))
        return {key: problem for key, _, problem in (p.partition(": ") for p in problems)}

    return check


def fork_params(texts: Mapping[str, str]) -> dict[str, "Param"]:
    """The values that were typed; an empty line is left as the parent has it, or to chance."""
    return {key: parse(key, text) for key, text in texts.items() if text.strip()}


def fork_trial(workspace: Workspace, name: str, parent: "Trial", texts: Mapping[str, str]) -> None:
    """Have a study try a changed trial next. Raises RecipeError for values outside its space."""
    from engine.study import fork

    typed = fork_params(texts).items()
    changes = {key: value for key, value in typed if parent.params.get(key) != value}
    fork(workspace, name, parent.number, changes)


def full_recipe(workspace: Workspace, name: str, trial: "Trial") -> Recipe:
    """The recipe of a trial at full length, named after it."""
    from engine.space import full_recipe as full

    recipe = full(study_recipe(workspace, name), trial.params)
    return override(recipe, {"name": f"{name}-{trial.number}"})


def study_recipe(workspace: Workspace, name: str) -> Recipe:
    """The recipe that a study changes."""
    return load(workspace.studies / f"{name}.toml")
