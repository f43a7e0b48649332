"""The app: screens over one store, one ticker, and the job they show.

Nothing here waits for the engine. A job's thread puts events on its bus; the ticker takes them five
times a second into a `Store`, and the screen in front paints from that.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.screen import Screen

from engine.errors import RecipeError, WakewordError
from engine.recipe import Recipe
from engine.runs import Run, Workspace
from wakeword_tui import collector, leaving, letters, verbs
from wakeword_tui.config import Config, clashes, config_path, log_path, read_config
from wakeword_tui.desk import Desk
from wakeword_tui.draft import Draft
from wakeword_tui.driver import HangupDriver, Signals, backed_up, let_go, shield_terminal
from wakeword_tui.mining import take_turns
from wakeword_tui.screens import maker
from wakeword_tui.screens.dialogs import Help
from wakeword_tui.screens.page import TABS, Page
from wakeword_tui.store import Level
from wakeword_tui.theme import ANSI, DARK, THEMES
from wakeword_tui.verbs import Live

TICK_S = 0.2
SAVE_WITHIN_S = 30.0
COMPLAINT_S = 15.0
KEEP_RUNNING = -1
"""What the app returns when its job is to go on without a window."""


class WakewordApp(App[int]):
    """The terminal app."""

    TITLE = "wakeword"
    CSS_PATH = Path(__file__).with_name("app.tcss")
    ENABLE_COMMAND_PALETTE = True
    MODES: ClassVar[dict[str, Any]] = {title.lower(): maker(title) for _, title in TABS}
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(digit, f"go('{title.lower()}')", title, show=False, id=f"app.{title.lower()}")
            for digit, title in TABS
        ),
        Binding("left_square_bracket", "step(-1)", "Screen before", show=False, id="app.before"),
        Binding("right_square_bracket", "step(1)", "Screen after", show=False, id="app.after"),
        Binding("T", "theme", "Theme", show=False, id="app.theme"),
        Binding("f8", "picture", "Screenshot", show=False, id="app.picture"),
        Binding("ctrl+l", "redraw", "Repaint", show=False, id="app.repaint"),
        Binding("ctrl+p", "command_palette", "Palette", show=False, id="app.palette"),
        Binding("question_mark", "help", "Help", key_display="?", id="app.help"),
        Binding("q", "leave", "Quit", id="app.quit"),
    ]

    def __init__(
        self,
        workspace: Workspace,
        recipe_path: Path | None = None,
        run: Run | None = None,
        start: tuple[Recipe, Run] | None = None,
        config: Config | None = None,
    ) -> None:
        super().__init__(driver_class=HangupDriver)
        self.animation_level = "none"
        self.config = config or Config()
        self.desk = Desk(workspace, self.config.audio or "auto", self.config.judge)
        self._letters = letters.filters(self.config.ascii)
        self.leaving = False
        self._opening = (recipe_path, run, start)
        self._look()
        self.set_keymap(self.config.keys)

    def _look(self) -> None:
        for theme in THEMES:
            self.register_theme(theme)
        known = self.config.theme in self.available_themes
        few_colours = self.console.color_system == "standard"
        self.theme = self.config.theme if known else (ANSI if few_colours else DARK).name

    def get_line_filters(self) -> Sequence[LineFilter]:
        """What every line that is drawn goes through."""
        return [*super().get_line_filters(), *self._letters]

    async def on_mount(self) -> None:
        """Open what was asked for, and begin to tick."""
        recipe_path, run, start = self._opening
        problems = [*self.config.problems]
        if self.config.keys:
            problems += clashes(self.config.keys, scopes())
        try:
            self.desk.draft = Draft.open(recipe_path) if recipe_path else Draft()
            if run is not None:
                self.desk.open(run)
        except WakewordError as error:
            problems.append(str(error))
        elsewhere = "" if run or start else self.desk.look_around()
        await self.switch_mode("train" if run or start or elsewhere else "setup")
        if elsewhere:
            self.tell(elsewhere)
        for problem in problems:
            self.complain(problem)
        if start is not None:
            self.begin(*start)
        self.set_interval(TICK_S, self._tick)
        self.set_interval(collector.EVERY_S, collector.Collector().collect)

    # What the screens ask for.

    def open_run(self, name: str) -> None:
        """Show a run on Train and Log."""
        with self.complaining():
            self.desk.open(self.desk.workspace.find(name))
        self._paint()

    def begin(self, recipe: Recipe, run: Run | None = None) -> None:
        """Start a training and show it."""
        with self.complaining():
            self.follow(verbs.start_training(self.desk.jobs, recipe, run))

    def start_or_stop(self) -> None:
        """Train the recipe in Setup, or stop the job after a checkpoint."""
        job = self.desk.training()
        if job is not None:
            job.control.stop()
            self.notify("stopping after a checkpoint", timeout=2)
        elif self.desk.draft.problems:
            self.complain("the recipe has problems", "\n".join(self.desk.draft.problems))
        elif not (self.desk.draft.recipe.data.manifest or self.desk.draft.recipe.data.sources):
            self.complain("there is no data yet", "name a manifest or a folder in data.manifest")
        else:
            self.begin(self.desk.draft.recipe)

    def resume_run(self, name: str) -> None:
        """Go on with an unfinished run; while one is being opened, another press does nothing."""
        if all(worker.group != "resume" for worker in self.workers):
            self._resume(name)

    @work(group="resume")
    async def _resume(self, name: str) -> None:
        self.desk.note("info", f"opening the checkpoint of {name}")
        with self.complaining():
            run = self.desk.workspace.find(name)
            if run.finished():
                raise WakewordError(f"{name} is finished", "start a new run with s")
            self.follow(await asyncio.to_thread(verbs.resume_training, self.desk.jobs, run))

    def follow(self, live: Live) -> None:
        """Show a job that has begun."""
        self.desk.follow(live)
        self.switch_mode("train")
        self.refresh_bindings()

    def check_data(self) -> None:
        """Look over the data of the recipe in Setup."""
        if self.desk.health is None:
            self.desk.health = verbs.check_data(self.desk.jobs, self.desk.draft.recipe.data)

    def tell(self, message: str) -> None:
        """Say what happened, now and in the log."""
        self.desk.note("info", message)
        self.notify(message, timeout=8, markup=False)

    def complain(self, message: str, hint: str = "") -> None:
        """Say what went wrong, now and in the log."""
        self.desk.note("error", message, hint)
        said = f"{message}\n{hint}".rstrip()
        self.notify(said, severity="error", timeout=COMPLAINT_S, markup=False)

    @contextlib.contextmanager
    def complaining(self) -> Iterator[None]:
        """Turn an error that a person can mend into a message."""
        try:
            yield
        except RecipeError as error:
            self.complain(str(error))
        except WakewordError as error:
            self.complain(error.message, error.hint)

    # The ticker.

    def _tick(self) -> None:
        take_turns(self.desk.jobs)
        if self.desk.live is not None and not self.desk.drain(self.desk.live):
            self._ended(self.desk.live)
        if told := self.desk.look_around():
            self.tell(told)
        if self.desk.health is not None and not self.desk.health.drain():
            self._looked_over(self.desk.health)
        desk = self.desk
        desk.look_beside()
        beside = (desk.miner, desk.exporter, desk.listener, desk.judging)
        for told in chain.from_iterable(one.drain() for one in beside):
            self.notify(told, timeout=8, markup=False)
        if not backed_up(self):
            self._paint()

    def _paint(self) -> None:
        """Repaint the page in front, behind a question too; while modes change it may be none."""
        pages = [screen for screen in self.screen_stack if isinstance(screen, Page)]
        if pages:
            pages[-1].repaint()

    def _ended(self, live: Live) -> None:
        """Tell once how a job ended."""
        self.desk.live = None
        self.refresh_bindings()
        name, failed = live.name, live.store.failed
        if self.leaving:
            self.exit(0)
        elif failed is not None:
            self.notify(
                f"{failed.message}\n{failed.hint}".rstrip(),
                title=f"{name} failed",
                severity="error",
                timeout=20,
                markup=False,
            )
        else:
            self.notify(f"{name}: {live.store.outcome}", timeout=5)

    def _looked_over(self, live: Live) -> None:
        """Tell once what looking over the data found."""
        self.desk.health = None
        if live.store.failed is not None:
            self.complain(live.store.failed.message, live.store.failed.hint)
        for settings, healthy in live.found:
            self.desk.healthy = (settings, healthy)
            level: Level = "warn" if healthy.warnings else "info"
            self.desk.note(level, "the data was looked over", healthy.render())

    # Keys.

    def action_go(self, mode: str) -> None:
        """Bring a screen to the front."""
        self.switch_mode(mode)

    def action_step(self, step: int) -> None:
        """Go to the screen beside this one."""
        names = list(self.MODES)
        self.switch_mode(names[(names.index(self.current_mode) + step) % len(names)])

    def action_theme(self) -> None:
        """Take the next theme."""
        names = [theme.name for theme in THEMES]
        at = names.index(self.theme) if self.theme in names else -1
        self.theme = names[(at + 1) % len(names)]

    def action_picture(self) -> None:
        """Save the screen as an SVG in the working directory."""
        name = f"wakeword-{time.strftime('%Y%m%d-%H%M%S')}.svg"
        try:
            self.notify(f"saved {self.save_screenshot(name)}", timeout=3)
        except OSError as error:
            self.complain(f"cannot write {name}: {error.strerror}")

    def action_record(self) -> None:
        """Record clips of one's own, over the screen in front."""
        from wakeword_tui.screens.record import RecordScreen

        if all(not isinstance(screen, RecordScreen) for screen in self.screen_stack):
            self.push_screen(RecordScreen())

    def action_redraw(self) -> None:
        """Send every cell again."""
        self.screen.refresh(layout=True)

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(Help(self.screen))

    async def action_quit(self) -> None:
        """Textual's own ctrl+q, with the same question."""
        self.action_leave()

    @work
    async def action_leave(self) -> None:
        """Quit; with a job, ask what becomes of it."""
        if not await self.edits_may_go():
            return
        if self.desk.training() is None:
            beside = leaving.beside(self.desk.jobs)
            if beside is None or await self.push_screen_wait(beside) == "s":
                self.exit(0)
            return
        answer = await self.push_screen_wait(leaving.training())
        job = self.desk.training()
        if answer in ("s", "k") and job is None:
            self.exit(0)  # it ended while the question was open
        elif answer == "s" and job is not None:
            self.leaving = True
            job.control.stop()
            self.notify("saving a checkpoint …", timeout=SAVE_WITHIN_S)
        elif answer == "k":
            self.exit(KEEP_RUNNING)

    async def edits_may_go(self) -> bool:
        """Whether what was typed in Setup may be lost; asked only if something was."""
        if not self.desk.draft.changed:
            return True
        return await self.push_screen_wait(leaving.edits()) == "d"

    def get_system_commands(self, screen: Screen[object]) -> Iterator[SystemCommand]:
        """Everything a key can do, and every run."""
        actions = {a.binding.id: a for a in screen.active_bindings.values() if a.enabled}
        for name, active in actions.items():
            group = (name or "").split(".")[0]
            if active.binding.description and group not in ("", "list"):
                yield SystemCommand(
                    active.binding.description,
                    f"{group}  {self.get_key_display(active.binding)}",
                    partial(self.call_later, self.run_action, active.binding.action, active.node),
                )
        yield SystemCommand("Record your own clips", "live  n", self.action_record)
        for run in self.desk.runs():
            yield SystemCommand(
                f"Open run {run.name}", "train", partial(self.open_in_train, run.name)
            )

    def open_in_train(self, name: str) -> None:
        """Show a run, and go there."""
        self.switch_mode("train")
        self.open_run(name)


def scopes() -> dict[str, list[Binding]]:
    """All bindings that are active together, by the screen they belong to."""
    from wakeword_tui.screens.record import RecordScreen
    from wakeword_tui.widgets.form import Form
    from wakeword_tui.widgets.menu import Menu

    shared = [*WakewordApp.BINDINGS, *Page.BINDINGS, *Menu.BINDINGS]
    found = {}
    for name, make in WakewordApp.MODES.items():
        own = [*make().BINDINGS, *(Form.BINDINGS if name == "setup" else [])]
        here = [binding for binding in (*shared, *own) if isinstance(binding, Binding)]
        # the lists of Bench leave enter to it
        found[name] = [b for b in here if name != "bench" or b.id != "list.open"]
    recording = [*WakewordApp.BINDINGS, *RecordScreen.BINDINGS]
    return found | {"record": [b for b in recording if isinstance(b, Binding)]}


def run_app(
    workspace: Workspace,
    recipe_path: Path | None = None,
    run: Run | None = None,
    start: tuple[Recipe, Run] | None = None,
    audio: str | None = None,
) -> int:
    """Open the app and return its exit code.

    It opens on Setup with a recipe file, on Train with an old `run` replayed, or on Train with a
    job begun for `start`, a recipe and the run directory that was made for it. A job that is kept
    running without the window is told line by line until it ends. `audio` is the word for its
    sound, where that of the config file is not to hold.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise WakewordError("the app needs a terminal", "`wakeword-tui train` works without one")
    config = read_config(config_path())
    config = replace(config, audio=audio or config.audio)
    return show(WakewordApp(workspace, recipe_path, run, start, config))


def show(app: WakewordApp) -> int:
    """Run an app on this terminal; whatever happens, its jobs have saved when this returns."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle torch threads must not spin
    shield_terminal(log_path())
    resource_tracker.ensure_running()  # cannot start any more once Textual has the terminal
    forkserver.ensure_running()
    Signals(app, app.desk.jobs, go_on=app.config.on_hangup == "continue")
    try:
        if app.run() == KEEP_RUNNING and app.desk.jobs.gpu is not None:
            from wakeword_tui.commands.progress import without_window

            return without_window(app.desk.jobs.gpu)
    finally:
        app.desk.jobs.stop_all(SAVE_WITHIN_S)
        let_go()
    crashed = app.return_code == 1  # what Textual returns after a bug
    return os.EX_SOFTWARE if crashed else app.return_code or 0
