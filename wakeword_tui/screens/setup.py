"""Setup answers "what will be trained, on what?"."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import get_current_worker

from engine.jobs import Control
from engine.recipe_file import field_at
from wakeword_tui import verbs
from wakeword_tui.amount import Amount, Line, amount_lines, counted, pace_line, runs_lines
from wakeword_tui.config import typed_path
from wakeword_tui.draft import TEACHERS, Draft, choices, limits, show
from wakeword_tui.screens.dialogs import Ask, Choice, PickFile
from wakeword_tui.screens.page import Page
from wakeword_tui.widgets.form import Form
from wakeword_tui.widgets.menu import Menu
from wakeword_tui.widgets.panels import Lines

COST_AFTER_S = 0.6
"""A student is built to be counted only when typing has rested this long."""
FIRST_COST_AFTER_S = 2.0
"""The first time that imports torch, beside which everything takes twice as long. By then a person
who has opened the app to go elsewhere has gone."""


class SetupScreen(Page):
    """Sections, the fields of one, what the field means, and what the whole amounts to."""

    TITLE = "Setup"
    PANELS = "#sections, #form, #help, #check"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "Start", id="setup.start"),
        Binding("ctrl+s", "save", "Save", id="setup.save"),
        Binding("o", "open", "Open", id="setup.open"),
        Binding("e", "edit", "$EDITOR", id="setup.edit"),
        Binding("h", "health", "Check", id="setup.health"),
        Binding("t", "timing", "Time", id="setup.timing"),
    ]

    def body(self) -> Iterable[Widget]:
        """The panels."""
        yield Menu("recipe", id="sections")
        yield Form(self._offers, id="form")
        yield Lines("help", id="help")
        yield Lines("check", id="check")

    def on_mount(self) -> None:
        """Begin in the fields of the data."""
        self._amount = Amount()
        self._looking = Control()
        self._rest: Timer | None = None
        self._runs = self.desk.runs()
        self.query_one("#sections", Menu).show(self._section_lines())
        self.query_one("#sections", Menu).go_to("data")
        self.show_section()
        self.query_one(Form).menu.focus()

    def on_screen_resume(self) -> None:
        """Look for runs, and count what was not counted while another screen was in front."""
        if self._built:
            self._runs = self.desk.runs()
            self._cost_soon()

    def copyable(self) -> str:
        """The recipe as TOML."""
        from engine.recipe_file import dump

        return dump(self.desk.draft.recipe)

    def paint(self) -> None:
        """Show the state of the draft around the form."""
        draft = self.desk.draft
        if self.query_one(Form).draft is not draft:  # Search put it there
            self.show_section()
            self._cost_soon()
        sections_menu = self.query_one("#sections", Menu)
        name = draft.path.name if draft.path else "unsaved"
        sections_menu.border_title = f"{name} *" if draft.changed else name
        sections_menu.show(self._section_lines())
        self._take_timing()
        self.query_one("#check", Lines).show(*self._check_lines())

    def show_section(self) -> None:
        """Show the section under the cursor in the form."""
        section = self.query_one("#sections", Menu).current or "data"
        self.query_one(Form).show(self.desk.draft, section)
        self._show_help()

    def _section_lines(self) -> list[tuple[str, Content]]:
        draft = self.desk.draft
        lines = []
        for section, paths in draft.sections().items():
            wrong = any(draft.problem(path) for path in paths)
            edited = any(path in draft.texts for path in paths)
            sign = ("✗", "$error") if wrong else ("*", "$now") if edited else (" ", "")
            lines.append((section, Content.assemble(sign, f" {section}")))
        return lines

    def _check_lines(self) -> list[Line]:
        """Problems and warnings first: where room is short, the last lines are not seen."""
        draft, amount, data = self.desk.draft, self._amount, self.desk.draft.recipe.data
        warnings = self.desk.health_warnings()  # what lacks is among them
        lines: list[Line] = []
        if draft.unreadable and draft.path is not None:
            text = f"{draft.path.name} cannot be read: e mends it"
            lines.append(Content.assemble(("✗ ", "$error"), text))
        if draft.problems:
            lines += [Content.assemble(("✗ ", "$error"), text) for text in draft.problems]
        elif unset := [f"data.{key}" for key in ("manifest", "wakeword") if not getattr(data, key)]:
            lines.append(Content.assemble(("· ", "$dim"), f"still to be set: {', '.join(unset)}"))
            lines += runs_lines(self._runs) if draft.path is None else ()
        elif not amount.refused:
            lines.append(Content.assemble(("✓ ", "$success"), "the recipe is sound"))
        elif amount.lacks and not warnings:
            lines.append(Content.assemble(("✗ ", "$error"), amount.lacks))
        lines += [Content.assemble(("✗ ", "$error"), text) for text in amount.faults]
        lines += [Content.assemble(("! ", "$warning"), text) for text in amount.exceeded]
        health = self.desk.health_lines(short=not self.has_class("-tall"))
        return [*lines, *warnings, *amount_lines(amount), self._time_line(), *health]

    def _time_line(self) -> Line:
        """How long a training would take, as far as timing a few steps of this recipe has shown."""
        if self.desk.timing is not None:
            return Content.assemble(("· ", "$now"), "timing a few steps …")
        recipe, pace = self.desk.timed or (None, None)
        if recipe is None or pace is None or recipe != self.desk.draft.recipe:
            return ("t times a few steps", "$dim")
        return pace_line(pace, recipe, self._amount)

    def _take_timing(self) -> None:
        """Tell once what timing found."""
        timing = self.desk.timing
        if timing is None or timing.drain():
            return
        self.desk.timing = None
        if timing.store.failed is not None:
            self.house.complain(timing.store.failed.message, timing.store.failed.hint)
        for found in timing.paces:
            self.desk.timed = found

    def _show_help(self) -> None:
        path = self.query_one(Form).path
        info = field_at(path) if path else None
        if path is None or info is None:
            return
        options = ", ".join(choices(path))
        self.query_one("#help", Lines).show(
            Content.assemble((path, "bold"), (f"   {options or limits(path)}", "$dim")),
            info.description or "",
            Content.assemble(("default ", "$dim"), show(info.default) or "none"),
        )

    @on(Menu.OptionHighlighted, "#sections")
    def _section_moved(self) -> None:
        self.show_section()

    @on(Menu.OptionSelected, "#sections")
    def _into_section(self) -> None:
        self.query_one(Form).menu.focus()

    @on(Form.Moved)
    def _field_moved(self) -> None:
        self._show_help()

    def _offers(self, path: str) -> tuple[str, ...]:
        """Runs of the workspace that can teach, as paths."""
        is_path = path.startswith(f"{TEACHERS}[") and path.endswith("].path")
        return tuple(self.desk.teachers()) if is_path else ()

    @on(Form.Changed)
    def _field_changed(self) -> None:
        self._take_kind()
        self.paint()
        self._cost_soon()

    def _take_kind(self) -> None:
        """A run that was just named says itself what kind of teacher it is."""
        form, draft = self.query_one(Form), self.desk.draft
        path = form.path
        if path is not None and self._offers(path):
            kind = self.desk.teachers().get(draft.text(path))
            if kind is not None:
                draft.set(f"{path.removesuffix('path')}kind", kind)
                self.show_section()

    def _cost_soon(self) -> None:
        if self._rest is not None:
            self._rest.stop()
        after_s = COST_AFTER_S if "torch" in sys.modules else FIRST_COST_AFTER_S
        self._rest = self.set_timer(after_s, self._count_if_in_front)

    def _count_if_in_front(self) -> None:
        if self.house.current_mode == "setup":
            self._count_cost()

    @work(thread=True, exclusive=True, group="cost")
    def _count_cost(self) -> None:
        """Count what the recipe amounts to.

        Once a newer count has begun, what this one finds is of a recipe that is no more.
        """
        recipe, worker = self.desk.draft.recipe, get_current_worker()
        self._looking.stop()
        self._looking = Control()
        for amount in counted(self.desk.jobs, recipe, self._amount, self._looking):
            if worker.is_cancelled:
                return
            self._amount = amount

    def on_unmount(self) -> None:
        """Look no further."""
        self._looking.stop()

    def action_start(self) -> None:
        """Train this recipe."""
        self.house.start_or_stop()

    def action_timing(self) -> None:
        """Time a few steps in the background, unless a training needs the machine."""
        if self.desk.workspace.holder() is not None:
            self.notify("a training runs: timing beside it would tell nothing", timeout=3)
        elif self.desk.draft.problems:
            self.house.complain("the recipe has problems", "\n".join(self.desk.draft.problems))
        elif self.desk.timing is None:
            self.desk.timing = verbs.try_steps(self.desk.jobs, self.desk.draft.recipe)

    def action_health(self) -> None:
        """Look over the data in the background."""
        self.house.check_data()

    @work
    async def action_save(self) -> None:
        """Write the recipe, asking where if it has no file yet, or one that must not be lost."""
        draft = self.desk.draft
        path = draft.path
        if path is None or draft.unreadable:
            path = await self._ask_path()
        elif draft.overtaken():
            path = await self._replacing(path, f"{path.name} was changed since it was read")
        if path is not None:
            self._save(path)

    async def _ask_path(self) -> Path | None:
        """Ask where to save; a file that is there is replaced only after another question."""
        question = Ask("save as", f"{self.desk.draft.recipe.name}.toml")
        typed = await self.app.push_screen_wait(question)
        if not typed or not os.path.exists(path := typed_path(typed)):  # noqa: PTH110 -- any text
            return typed_path(typed) if typed else None
        return await self._replacing(path, f"{path} exists")

    async def _replacing(self, path: Path, why: str) -> Path | None:
        """Ask whether a file may be replaced; None if not."""
        question = Choice(why, [("o", "overwrite it"), ("c", "cancel")])
        return path if await self.app.push_screen_wait(question) == "o" else None

    def _save(self, path: Path) -> bool:
        with self.house.complaining():
            self.desk.draft.save(path)
            self.notify(f"saved {path}", timeout=2)
            self.show_section()
            return True
        return False

    @work
    async def action_open(self) -> None:
        """Read another recipe."""
        found = sorted({*Path.cwd().glob("*.toml"), *Path.cwd().glob("recipes/*.toml")})
        shown = [path.relative_to(Path.cwd()) for path in found if path.name != "pyproject.toml"]
        path = await self.app.push_screen_wait(PickFile("open a recipe", shown))
        if path is not None and await self.house.edits_may_go():
            self._take(partial(Draft.open, path))

    def _take(self, read: Callable[[], Draft]) -> None:
        """Show another draft, or say why it cannot be read."""
        with self.house.complaining():
            self.desk.draft = read()
        self.show_section()
        self._cost_soon()

    def action_edit(self) -> None:
        """Open the file in $EDITOR and read it again; training goes on meanwhile.

        What is typed here is saved first, unless the file was changed by somebody else: then it is
        put on top of what the file says after the editor.
        """
        draft = self.desk.draft
        path = draft.path
        if path is None:
            self.notify("save the recipe first (ctrl+s)", severity="warning")
        elif draft.unreadable or draft.overtaken() or not draft.changed or self._save(path):
            with self.app.suspend():
                problem = _edit(path)
            if problem:  # told only now: an error would leave the app without its terminal
                self.house.complain(problem, "set $EDITOR")
            else:
                self._take(draft.again)


def _edit(path: Path) -> str:
    """Run the editor on the real terminal; what kept it from running, if anything did.

    Descriptors 1 and 2 lead to the log. ctrl+c is the editor's, not the app's.
    """
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    before = signal.signal(signal.SIGINT, _not_ours)
    try:
        words = [*shlex.split(command), str(path)]
        subprocess.run(words, stdout=sys.__stdout__, stderr=sys.__stderr__, check=False)
    except (OSError, ValueError) as error:
        return f"cannot run {command}: {error}"
    finally:
        signal.signal(signal.SIGINT, before)
    return ""


def _not_ours(number: int, frame: FrameType | None) -> None:
    """Do nothing; unlike SIG_IGN it is not handed on to the editor."""
