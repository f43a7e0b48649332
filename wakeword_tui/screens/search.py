"""Search answers "which trade-off do I take?"."""

import asyncio
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.events import Resize
from textual.widget import Widget

from engine.recipe import Recipe
from engine.trials import StudyView, Trial
from wakeword_tui import searching, trade
from wakeword_tui.commands.search import export_study
from wakeword_tui.config import typed_path
from wakeword_tui.draft import Draft
from wakeword_tui.screens.dialogs import Ask, Pick
from wakeword_tui.screens.fields import Field, Fields
from wakeword_tui.screens.page import Page
from wakeword_tui.screens.train import loss_plot
from wakeword_tui.searching import Searching
from wakeword_tui.store import Store
from wakeword_tui.studies import begin_problems, begin_recipe, trials_problems
from wakeword_tui.widgets.chart import Chart
from wakeword_tui.widgets.panels import Lines
from wakeword_tui.widgets.trials import TrialTable

WIDE, TALL = 100, 30
"""Columns and rows from which every panel is shown."""
MORE = 20
"""Further trials that are offered once all are done."""
RECIPE = Path("recipes") / "search.toml"
VIEWS = ("front", "trial", "volume", "importance", "live")
"""The panels beside the table; where room is short one of them is shown at a time."""


class SearchScreen(Page):
    """Trials on the left, what they trade on the right."""

    TITLE = "Search"
    PANELS = "#empty, #trials, #front, #trial, #volume, #importance, #live"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New", id="search.new"),
        Binding("s", "start_stop", "Start/stop", id="search.start"),
        Binding("p", "pause", "Pause", id="search.pause"),
        Binding("f", "fork", "Fork", id="search.fork"),
        Binding("t", "train", "Train", id="search.train"),
        Binding("x", "export", "Export", id="search.export"),
        Binding("v", "view", "View", id="search.view"),
        Binding("o", "order", "Sort", show=False, id="search.order"),
        Binding("l", "study", "List of studies", show=False, id="search.study"),
        Binding("r", "resume", "Resume", show=False, id="search.resume"),
    ]

    _view, _was_live = VIEWS[0], False

    def body(self) -> Iterable[Widget]:
        """The panels."""
        yield Lines("search", id="empty")
        with Container(id="study"):
            with Vertical(id="left"):
                yield TrialTable(id="trials")
                yield Lines("trial", id="trial")
            with Vertical(id="right"):
                yield Chart("front", id="front")
                with Horizontal(id="lower"):
                    yield Chart("hypervolume, %", id="volume")
                    yield Lines("importance, %", id="importance")
                yield Chart("running trial", id="live")

    def on_mount(self) -> None:
        """Begin in the table."""
        self._order = trade.ORDERS[0]
        self._laid: tuple[StudyView | None, str] = (None, "")
        self._trials: list[Trial] = []
        self._drawn: tuple[StudyView | None, int | None] = (None, None)
        self._live: tuple[Store | None, int] = (None, 0)
        self._arrange()
        self.query_one(TrialTable).focus()

    def copyable(self) -> str:
        """The trials as lines."""
        return self.query_one(TrialTable).text

    # Painting.

    def paint(self) -> None:
        """Have the study read if it may have changed, and show what was read last."""
        studies, searching = self.desk.studies, self._searching
        store = searching.store if searching else None
        if studies.due((store.trial, store.outcome) if store else None):
            studies.look()
        view = studies.view
        self.set_class(not (view and view.trials), "-empty")
        if self._was_live != (searching is not None):
            self._was_live = searching is not None
            self._arrange()
        if view is not None and view.trials:
            self._paint_trials(view, store)
            self._paint_study(view)
        else:
            told = trade.instead(studies.found, busy=searching is not None)
            self.query_one("#empty", Lines).show(*told)
        if store is not None:
            self._paint_live(store)

    @property
    def _searching(self) -> Searching | None:
        """The study that runs, if it is the one in front."""
        searching = self.desk.searching()
        return searching if searching and searching.study == self.desk.studies.name else None

    def _paint_trials(self, view: StudyView, store: Store | None) -> None:
        if self._laid[0] is not view or self._laid[1] != self._order:
            self._laid = view, self._order
            self._trials = trade.ordered(view, self._order)
        now = trade.now_line(store) if store else None
        table = self.query_one(TrialTable)
        table.border_title = trade.title(view, self._order, now)
        table.show(view, self._trials, now, self._held())

    def _held(self) -> str:
        """That another process works in the workspace: on the study or on something else."""
        holder = self.desk.workspace.holder()
        other = holder is not None and not holder.ours
        return f"{holder} holds the workspace" if other else ""

    def _paint_study(self, view: StudyView) -> None:
        """Draw the plots, if the study or the chosen trial is another one."""
        trial = self.query_one(TrialTable).current
        chosen = trial.number if trial else None
        if self._drawn[0] is not view:
            self.query_one("#volume", Chart).show(trade.volume_plot(view))
        if self._drawn[0] is not view or self._drawn[1] != chosen:
            front = self.query_one("#front", Chart)
            front.border_title = trade.front_title(view)
            front.show(trade.front_plot(view, chosen))
        self._drawn = view, chosen
        importance = self.query_one("#importance", Lines)
        importance.show(*trade.importance_lines(view, importance.size.width))
        if trial is not None:
            facts = self.query_one("#trial", Lines)
            facts.border_title = trade.trial_title(trial, view)
            facts.show(*trade.trial_lines(trial, view, facts.size.width))

    def _paint_live(self, store: Store) -> None:
        if self._live[0] is not store or self._live[1] != store.n:
            self._live = store, store.n
            chart = self.query_one("#live", Chart)
            chart.border_title = f"trial {store.trial.number}: loss" if store.trial else "loss"
            chart.show(loss_plot(store))

    @on(TrialTable.Moved)
    def _moved(self) -> None:
        if self.desk.studies.view is not None:
            self._paint_study(self.desk.studies.view)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Grey out what needs a job, or a trial."""
        if action == "pause":
            return True if self.desk.training() else None
        return True

    # What is shown.

    def action_view(self) -> None:
        """Show another panel where there is room for one."""
        shown = [name for name in VIEWS if name != "live" or self._searching]
        at = shown.index(self._view) if self._view in shown else -1
        self._view = shown[(at + 1) % len(shown)]
        self._arrange()

    def on_resize(self, event: Resize) -> None:
        """Show as many panels as there is room for."""
        super().on_resize(event)
        self._arrange()

    def _arrange(self) -> None:
        """Show every panel where there is room, else the table and one of the others."""
        width, height = self.app.size
        every = self._small or (width >= WIDE and height >= TALL)
        live = self._searching is not None
        view = self._view if live or self._view != "live" else VIEWS[0]
        for name in VIEWS:
            self.query_one(f"#{name}").display = (live or name != "live") and (
                every or name == view
            )
        self.query_one("#lower").display = every or view in ("volume", "importance")
        self.query_one("#right").display = every or view != "trial"

    def action_order(self) -> None:
        """Sort by something else."""
        orders = trade.ORDERS
        self._order = orders[(orders.index(self._order) + 1) % len(orders)]
        self.paint()

    @work(exclusive=True, group="choose")
    async def action_study(self) -> None:
        """Bring another study to the front."""
        found = self.desk.studies.found
        if found is None or not found.names:
            self.notify("there is no study yet: n begins one", timeout=4)
            return
        chosen = await self.app.push_screen_wait(Pick("studies, newest first", found.names))
        if chosen is not None:
            self.desk.studies.choose(chosen)
            self.paint()

    # Jobs.

    def action_start_stop(self) -> None:
        """End the study after the present trial, or at once when asked again; or go on with it."""
        searching = self.desk.searching()
        if searching is None:
            self.action_resume()
        elif searching.last_trial.is_set():
            searching.job.control.stop()
            self.notify(f"{searching.study} stops after a checkpoint", timeout=2)
        else:
            searching.last_trial.set()
            self.notify(f"{searching.study} stops after this trial; s again: now", timeout=4)

    def action_pause(self) -> None:
        """Hold the job, or let it go on."""
        job = self.desk.training()
        if job is not None:
            job.control.resume() if job.control.paused else job.control.pause()

    @work(exclusive=True, group="begin")
    async def action_resume(self) -> None:
        """Go on with the study in front; where all its trials are done, with more of them."""
        view = self.desk.studies.view
        if view is None:
            self.notify("there is no study yet: n begins one", timeout=4)
            return
        trials = view.wanted
        if trade.finished(view) >= trials:
            field = Field("trials", str(trials + MORE), "in all")
            question = f"{view.name} has all of its {trials} trials"
            texts = await self.app.push_screen_wait(Fields(question, [field], trials_problems))
            if texts is None:
                return
            trials = int(texts["trials"])
        self._begin(None, view.name, trials)

    @work(exclusive=True, group="begin")
    async def action_new(self) -> None:
        """Begin a study of a recipe."""
        found, draft = self.desk.studies.found, self.desk.draft
        path = draft.path if draft.path and draft.recipe.search.space else RECIPE
        recipe = draft.recipe if path == draft.path else Recipe()
        fields = [
            Field("recipe", str(path), "with a [search.space]"),
            Field("trials", str(recipe.search.trials)),
            Field("name", recipe.name),
        ]
        check = partial(begin_problems, found.names if found else (), draft)
        texts = await self.app.push_screen_wait(Fields("new study", fields, check))
        if texts is not None:
            with self.house.complaining():
                recipe = begin_recipe(texts["recipe"], draft)
                self._begin(recipe, texts["name"], int(texts["trials"]))

    def _begin(self, recipe: Recipe | None, name: str, trials: int) -> None:
        with self.house.complaining():
            self.desk.follow(searching.start_search(self.desk.jobs, recipe, name, trials))
            self.desk.studies.choose(name)
            self.house.refresh_bindings()

    # The trial under the cursor.

    def _trial(self) -> tuple[StudyView, Trial] | None:
        """The study and the trial under the cursor; says so where there is none."""
        view, shown = self.desk.studies.view, self.query_one(TrialTable).shown
        if view is not None and shown is not None and shown[0].name == view.name:
            return shown
        self.notify("there is no trial here yet", timeout=3)
        return None

    @on(TrialTable.Opened)
    def _open(self, event: TrialTable.Opened) -> None:
        if event.trial.run:
            self.house.open_in_train(event.trial.run)
        else:
            self.notify("this trial has no run", timeout=3)

    def action_fork(self) -> None:
        """Try the trial again with edited values."""
        if (found := self._trial()) is not None:
            self._fork(*found)

    @work(exclusive=True, group="fork")
    async def _fork(self, view: StudyView, trial: Trial) -> None:
        with self.house.complaining():
            check = await asyncio.to_thread(searching.fork_check, self.desk.workspace, view.name)
            space = view.space.items()
            fields = [Field(key, trade.exact(trial, key), words) for key, words in space]
            question = f"fork trial {trial.number}"
            texts = await self.app.push_screen_wait(Fields(question, fields, check))
            if texts is None:
                return
            fork = partial(searching.fork_trial, self.desk.workspace, view.name, trial)
            await asyncio.to_thread(fork, texts)
            then = "" if self._searching else ": s goes on with the study"
            self.notify(f"the fork of {trial.number} is the next trial{then}", timeout=4)
            self.desk.studies.look_again()

    def action_train(self) -> None:
        """Put the trial's recipe into Setup, at full length, and train it."""
        if (found := self._trial()) is not None:
            self._train(*found)

    @work(exclusive=True, group="train")
    async def _train(self, view: StudyView, trial: Trial) -> None:
        if self.desk.training() is not None:
            self.notify("a job is running: s stops it first", timeout=4)
            return
        if not await self.house.edits_may_go():
            return
        with self.house.complaining():
            recipe = await asyncio.to_thread(
                searching.full_recipe, self.desk.workspace, view.name, trial
            )
            self.desk.draft = Draft(saved=recipe)
            self.house.begin(recipe)

    @work(exclusive=True, group="export")
    async def action_export(self) -> None:
        """Write the study as a table and its front as pictures."""
        view = self.desk.studies.view
        if view is None or not view.trials:
            self.notify("there is nothing to export yet", timeout=3)
            return
        folder = await self.app.push_screen_wait(
            Ask("export into the folder", f"{view.name}-plots")
        )
        if folder is None:
            return
        with self.house.complaining():
            written = await asyncio.to_thread(export_study, view, typed_path(folder))
            names = ", ".join(path.name for path in written)
            self.notify(f"wrote {names}", timeout=8, markup=False)
