"""Desk: the state that all screens share, without a widget in it."""

import contextlib
import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from textual.content import Content

from engine.errors import WakewordError
from engine.jobs import Job, Jobs, State
from engine.recipe import Data, Recipe
from engine.recipe_distill import Teacher
from engine.runs import Run, Workspace
from wakeword_tui.config import JudgeConfig
from wakeword_tui.draft import Draft
from wakeword_tui.exporting import Exporter
from wakeword_tui.following import Followed, followed
from wakeword_tui.judging import Judging
from wakeword_tui.listening import Listener
from wakeword_tui.meter import Meter
from wakeword_tui.mining import Miner
from wakeword_tui.numbers import brief, duration, hours, percent
from wakeword_tui.searching import Searching
from wakeword_tui.store import Entry, Level, Store
from wakeword_tui.studies import Studies
from wakeword_tui.verbs import Live

if TYPE_CHECKING:
    from engine.health import Health, SplitHealth
    from engine.preview import Pace
    from engine.queue_store import QueueStore
    from engine.sound import Player

KINDS = get_args(Teacher.model_fields["kind"].annotation)
"""The architectures that teach."""


LOOK_EVERY_S = 1.0
MOST_STORES = 50
"""Background jobs whose log is held on to, the newest."""


class Desk:
    """The workspace, the jobs, the recipe in the form, and the run in front.

    `audio` is the word for the sound, as `engine.microphone.open_source` takes it; on Live another
    may be chosen for what is heard, there and on Record.
    """

    def __init__(
        self, workspace: Workspace, audio: str = "auto", judge: JudgeConfig | None = None
    ) -> None:
        self.workspace = workspace
        self._audio = audio
        self.jobs = Jobs(workspace)
        self.draft = Draft()
        self.store = Store()
        self.shown: Run | None = None
        self.live: Live | None = None
        self.followed: Followed | None = None
        self._looked_s = 0.0
        self.health: Live | None = None
        self.healthy: tuple[Data, Health] | None = None
        self.timing: Live | None = None
        self.timed: tuple[Recipe, Pace] | None = None
        self.miner = Miner(self.jobs, lambda: self.queue)
        self.listener = Listener(self.jobs, lambda: self.queue, audio)
        self.studies = Studies(workspace)
        self.exporter = Exporter(self.jobs)
        self.judging = Judging(self.jobs, judge or JudgeConfig())
        self.meter = Meter()
        self.notes: list[Entry] = []
        self._beside_stores: deque[Store] = deque(maxlen=MOST_STORES)
        """Of what was done in the background, also once it is over."""
        self._reports: dict[Path, tuple[int, dict[str, Any] | None]] = {}
        self._recipes: dict[Path, Recipe | None] = {}
        self._queue: QueueStore | None = None
        self._player: Player | None = None

    def open(self, run: Run) -> None:
        """Put a run in front: the live one as it goes on, another one from its event file.

        Raises DataError where that cannot be read.
        """
        going = [one for one in (self.live, self.followed) if one is not None and one.run == run]
        self.store = going[0].store if going else Store.replay(run)
        self.shown = run

    def follow(self, live: Live) -> None:
        """Put a job that has begun in front."""
        self.live, self.store, self.shown = live, live.store, live.run

    def drain(self, live: Live) -> bool:
        """Take in what the job did; whoever looks at a study's trial goes on to the next with it.

        False once it has ended.
        """
        looked_at = self.store is live.store
        alive = live.drain()
        if looked_at:
            self.follow(live)
        return alive

    def look_around(self) -> str:
        """Follow what another process trains in the workspace; a sentence where one comes or goes.

        Looks for one once a second, and reads on each time.
        """
        before, now = self.followed, time.monotonic()
        if now - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now
            self.followed = followed(self.workspace, before)
        self._read_on(before)
        if self.followed is None:
            return before.ended() if before is not None else ""
        return self.followed.sentence() if before is None else ""

    def _read_on(self, before: Followed | None) -> None:
        """Read what is followed, and keep it in front if it, or what it follows on, is there."""
        one = self.followed or before
        if one is None:
            return
        followed_on = before is not None and self.store is before.store
        one.read()
        if followed_on or self.shown in (None, one.run):
            self.store, self.shown = one.store, one.run

    def moving(self, store: Store) -> bool:
        """Whether a store is that of a job that goes on, here or in another process."""
        return any(one is not None and one.store is store for one in (self.live, self.followed))

    def searching(self) -> Searching | None:
        """The study that runs, if there is one."""
        return self.live if isinstance(self.live, Searching) and self.live.job.alive else None

    def note(self, level: Level, text: str, detail: str = "") -> None:
        """Write a line of the app's own to the log."""
        self.notes.append(Entry(time.time(), level, "app", text, detail))

    def runs(self) -> list[Run]:
        """All runs of the workspace, newest first."""
        return self.workspace.runs()[::-1]

    def report(self, run: Run) -> dict[str, Any] | None:
        """The report of a run, read again only when its file is another."""
        stamp = run.report.stat().st_mtime_ns if run.finished() else 0
        known = self._reports.get(run.path)
        if known is None or known[0] != stamp:
            known = self._reports[run.path] = (stamp, run.report_json())
        return known[1]

    def run_rows(self) -> list[tuple[str, str, str]]:
        """(name, sign, miss rate on test) of every run."""
        rows = []
        for run in self.runs():
            live = self.training() if self.live and self.live.run == run else None
            report = self.report(run)
            tested = report is not None and report.get("split", "test") == "test"
            missed = percent(report["test"]["frr"]) if report and tested else "-"
            state = live.state if live else None
            if self.followed is not None and self.followed.run == run:
                state = State.RUNNING
            sign = sign_of(state, finished=report is not None)
            rows.append((run.name, sign, missed))
        return rows

    def recipe(self) -> Recipe | None:
        """The recipe of the run in front, None without one or if it cannot be read."""
        return self._recipe_of(self.shown) if self.shown is not None else None

    def _recipe_of(self, run: Run) -> Recipe | None:
        if run.path not in self._recipes:
            self._recipes[run.path] = None
            with contextlib.suppress(WakewordError):
                self._recipes[run.path] = run.recipe()
        return self._recipes[run.path]

    def teachers(self) -> dict[str, str]:
        """Folder and kind of each finished run that can teach, newest first."""
        recipes = {run.path: self._recipe_of(run) for run in self.runs() if run.finished()}
        archs = {str(path): recipe.model.arch for path, recipe in recipes.items() if recipe}
        return {path: arch for path, arch in archs.items() if arch in KINDS}

    def data(self) -> Data:
        """The data that a person works on: Setup's, or else that of the run in front, or newest."""
        runs = self.runs()[:1] if self.shown is None else [self.shown]
        recipes = (self.draft.recipe, *map(self._recipe_of, runs))
        known = (recipe.data for recipe in recipes if recipe is not None)
        return next((data for data in known if data.wakeword), self.draft.recipe.data)

    def epochs(self) -> int:
        """Epochs of the run in front, 0 if its recipe cannot be read."""
        recipe = self.recipe()
        return recipe.epochs if recipe else 0

    @property
    def queue(self) -> "QueueStore":
        """The queue of the workspace, opened when it is first asked for. Raises DataError."""
        if self._queue is None:
            from engine.queue_store import QueueStore

            self._queue = QueueStore(self.workspace.queue)
        return self._queue

    @property
    def player(self) -> "Player":
        """What plays clips, for all screens: one holds the sound card."""
        if self._player is None:
            from engine.sound import Player

            self._player = Player(self._audio)
        return self._player

    def entries(self) -> list[Entry]:
        """The log of the run in front and the notes of the app, oldest first."""
        others = [entry for store in self._beside_stores for entry in store.entries]
        return sorted([*self.store.entries, *others, *self.notes], key=lambda entry: entry.time_s)

    def look_beside(self) -> None:
        """Hold on to what background jobs tell: each of them is let go once the next begins."""
        lives = self.miner.live, self.exporter.live, self.listener.hearing, self.judging.asking
        for live in lives:
            if live is not None and all(store is not live.store for store in self._beside_stores):
                self._beside_stores.append(live.store)

    def training(self) -> Job | None:
        """The job that holds the GPU, if there is one."""
        return self.live.job if self.live is not None and self.live.job.alive else None

    def status(self) -> list[Content]:
        """The right end of the top bar, in parts of falling importance."""
        job = self.training()
        if job is None or self.live is None:
            warning = Content.assemble((lost_without_tmux(), "$warning"))
            return [*self._elsewhere(), *self._beside(), warning]
        store = self.live.store
        running = job.state is State.RUNNING
        word = (store.counted or job.name) if running else job.state.value
        if store.trial is not None:
            word += f" #{store.trial.number}"
        sign = (f"{sign_of(job.state, finished=False)} ", "$now")
        parts = [Content.assemble(sign, f"{word}{store.share}")]
        eta_s = store.eta_s(time.time())
        if eta_s is not None:
            parts.append(Content(duration(eta_s)))
        if store.started is not None:
            on_gpu = not store.started.device.startswith("cpu")
            parts.append(Content(self.meter.text(on_gpu=on_gpu)))
        if store.phase == "train" and store.step is not None:
            parts.append(Content(f"{brief(store.step.clips_per_s)}/s"))  # clips
        return [part for part in (*parts, *self._beside()) if part]

    def _elsewhere(self) -> list[Content]:
        """What another process trains, as parts of the top bar."""
        if self.followed is None:
            return []
        store = self.followed.store
        train = Content.assemble(("● ", "$now"), f"{store.counted or 'train'}{store.share}")
        return [train, Content("read-only")]

    def _beside(self) -> list[Content]:
        """What is done in the background, in parts of the top bar."""
        beside = (self.exporter.status(), self.judging.status(), self.listener.status())
        parts = [Content.assemble(("● ", "$now"), text) for text in beside if text]
        return [*parts, *self._mining()]

    def _mining(self) -> list[Content]:
        """What the miner does, as a part of the top bar."""
        job, now = self.miner.job, self.miner.now()
        if job is None:
            return []
        share = f" {now.position_s / max(now.total_s, 1e-6):.0%}".replace("%", " %") if now else ""
        word = "mine" if job.state is State.RUNNING else job.state.value
        sign = (f"{sign_of(job.state, finished=False)} ", "$now")
        return [Content.assemble(sign, f"{word}{share}")]

    def health_warnings(self) -> list[Content]:
        """What is wrong with the data of the draft, as far as it was looked over."""
        found = self._found_health()
        warnings = found.warnings if found is not None else ()
        return [Content.assemble(("! ", "$warning"), warning) for warning in warnings]

    def _found_health(self) -> "Health | None":
        looked, found = self.healthy or (None, None)
        return found if looked == self.draft.recipe.data and self.health is None else None

    def health_lines(self, *, short: bool) -> list[Content]:
        """How far looking over the data is, or its splits; in `short` all in one line."""
        if self.health is not None:
            done, total, unit = self.health.store.done()
            progress = f"looking over the data  {done}/{total} {unit}" if total else "reading …"
            return [Content.assemble(("· ", "$now"), progress)]
        healthy = self._found_health()
        if healthy is None:
            return [Content.assemble(("h looks over the data", "$dim"))]
        if short:
            counts = "  ".join(f"{split.split} {split.positives}" for split in healthy.splits)
            return [Content.assemble(("words ", "$dim"), counts)]
        return [split_line(split) for split in healthy.splits]


def split_line(split: "SplitHealth") -> Content:
    """What a split has, in a line."""
    words = f"{split.positives} words of {split.groups} groups"
    rest = f"{split.negatives} others, {hours(split.stream_hours)}"
    return Content.assemble((f"{split.split:<11}", "$dim"), f"{words}, {rest}")


def sign_of(state: State | None, *, finished: bool) -> str:
    """One character for where a run is."""
    if state is not None:
        return "‖" if state in (State.PAUSED, State.PAUSING) else "●"
    return "✓" if finished else "·"


def lost_without_tmux() -> str:
    """A warning for those who would lose the window with the connection."""
    remote, kept = "SSH_CONNECTION" in os.environ, {"TMUX", "STY"} & os.environ.keys()
    return "not in tmux: a lost connection ends the app" if remote and not kept else ""
