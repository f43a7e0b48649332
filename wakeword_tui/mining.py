"""What is mined: recordings that wait, sessions, and the one job that mines. No widgets here."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import WakewordError
from engine.events import Mining
from engine.jobs import Job, Jobs, State
from engine.queue_store import QueueStore, Session
from engine.runs import Run
from wakeword_tui import verbs
from wakeword_tui.numbers import count
from wakeword_tui.store import Store
from wakeword_tui.verbs import Live

LOOK_EVERY_S = 1.0
SWITCH_S, QUICK_SWITCH_S = 0.005, 0.001
RowState = Literal["waiting", "running", "held", "done", "failed"]


@dataclass(frozen=True, slots=True)
class MineRow:
    """A recording of the list; `name` is what it is called there, `eta_s` None if it is unknown.

    `per_hour` counts the finds of an hour, once all of the recording was heard.
    """

    name: str
    path: Path
    state: RowState
    share: float
    found: int
    eta_s: float | None = None
    per_hour: float | None = None


class Miner:
    """Recordings to mine and those that were, read from the queue once a second."""

    def __init__(self, jobs: Jobs, queue: Callable[[], QueueStore]) -> None:
        self.jobs, self._queue = jobs, queue
        self.wanted: list[Path] = []
        self.chosen: str | None = None
        self.live: Live | None = None
        self.waiting = 0
        """How many finds a person has not decided on."""
        self.last = ""
        """How the last job ended, in words."""
        self._handed: set[Path] = set()
        """What of the list the job was given."""
        self._failed: set[Path] = set()
        self._trouble: WakewordError | None = None
        self._sessions: list[Session] = []
        self._looked_s = 0.0

    # What there is.

    @property
    def job(self) -> Job | None:
        """The job that mines, if there is one."""
        return self.live.job if self.live is not None and self.live.job.alive else None

    def now(self) -> Mining | None:
        """Where the job is."""
        return self.live.store.mining if self.live is not None and self.job else None

    def threshold(self) -> float | None:
        """The threshold of what is being mined."""
        now = self.now()
        level = (s.threshold for s in self._sessions if now is not None and s.id == now.session)
        return next(level, None)

    def detectors(self) -> list[Run]:
        """Runs that can mine, newest first."""
        return [run for run in self.jobs.workspace.runs()[::-1] if run.best.exists()]

    def detector(self) -> Run | None:
        """The run that mines: the one that was chosen, or the newest."""
        runs = self.detectors()
        chosen = (run for run in runs if run.name == self.chosen)
        return next(chosen, runs[0] if runs else None)

    def rows(self) -> list[MineRow]:
        """Recordings that wait, then sessions, the newest first."""
        self._look()
        known = {session.path for session in self._sessions if not session.done}
        waiting = [path for path in self.wanted if path not in known]
        rows = [
            MineRow(f"file:{path}", path, "failed" if path in self._failed else "waiting", 0.0, 0)
            for path in waiting
        ]
        return rows + [self._row(session) for session in reversed(self._sessions)]

    def _row(self, session: Session) -> MineRow:
        now, job = self.now(), self.job
        name, share = f"session:{session.id}", session.position_s / max(session.total_s, 1e-6)
        if now is None or job is None or now.session != session.id or session.done:
            state: RowState = "done" if session.done else "waiting"
            hourly = session.found * 3600 / max(session.total_s, 1e-6) if session.done else None
            return MineRow(
                name, session.path, state, min(share, 1.0), session.found, per_hour=hourly
            )
        held = job.state in (State.PAUSED, State.PAUSING)
        left_s = (now.total_s - now.position_s) / max(now.speed, 1e-6)
        share = now.position_s / max(now.total_s, 1e-6)
        state, eta_s = ("held", None) if held else ("running", left_s)
        return MineRow(name, session.path, state, share, now.found, eta_s)

    def _look(self) -> None:
        """Read the queue, if it is there and that was not just done. Raises WakewordError."""
        if time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            self._trouble = None
            if self.jobs.workspace.queue.exists():
                try:
                    store = self._queue()
                    self._sessions, self.waiting = store.sessions(), store.counts()["pending"]
                except WakewordError as error:
                    self._trouble = error
            self._looked_s = time.monotonic()
        if self._trouble is not None:
            raise self._trouble

    def look_again(self) -> None:
        """Read the queue at the next occasion."""
        self._looked_s = 0.0

    # What is asked for.

    def add(self, paths: Sequence[Path]) -> int:
        """Put recordings on the list; give how many were not on it."""
        new = [path for path in paths if path not in self.wanted]
        self.wanted += new
        self._failed -= set(paths)
        self._handed -= set(paths)
        return len(new)

    def remove(self, name: str) -> None:
        """Take a row off the list; finds stay. Raises WakewordError for what is being mined."""
        kind, _, rest = name.partition(":")
        if kind == "file":
            self.wanted = [path for path in self.wanted if str(path) != rest]
            return
        now = self.now()
        if now is not None and now.session == int(rest):
            raise WakewordError("that is being mined", "s stops it first")
        self._queue().remove_session(int(rest))
        self.look_again()

    def start(self) -> None:
        """Mine what waits and what was broken off. Raises WakewordError where that cannot be."""
        self.look_again()
        self.rows()
        sessions = [session.id for session in self._sessions if not session.done]
        detector, paths = self.detector(), list(self.wanted)
        if not sessions and not paths:
            raise WakewordError("there is nothing to mine", "a adds the recording under the cursor")
        if paths and detector is None:
            raise WakewordError("there is no detector to mine with", "train one first, on Train")
        best = detector.best if detector is not None else Path()
        self.live = verbs.mine_recordings(self.jobs, paths, best, sessions)
        self._handed, self._failed = set(paths), set()

    def start_run(self, run: Run) -> None:
        """Mine the training streams and other words of a run. Raises WakewordError."""
        if self.job is not None:
            raise WakewordError("something is being mined", "wait for it, or stop it on Mine")
        if not run.best.exists():
            raise WakewordError(f"{run.name} has no checkpoint", "choose another run")
        self.live, self._handed = verbs.mine_run(self.jobs, run), set()

    def drain(self) -> Iterator[str]:
        """Take in what the job did; once it has ended, give what to tell a person."""
        if self.live is None or self.live.ended:
            return
        self.live.ended, store = not self.live.drain(), self.live.store
        if self.live.ended:
            self.look_again()
            with contextlib.suppress(WakewordError):  # the screen tells of it
                self._look()
        self._strike(store)
        if not self.live.ended:
            return
        if store.outcome != State.STOPPED:
            self._failed = self._handed.intersection(self.wanted)
        self.last = summary(store)
        failed = store.failed
        yield f"{failed.message}\n{failed.hint}".rstrip() if failed else f"mine: {self.last}"

    def _strike(self, store: Store) -> None:
        """Take off the list what the job has mined, or begun: that is a session now."""
        begun = {Path(event.path) for event in store.mined}
        begun |= {session.path for session in self._sessions if not session.done}
        begun &= self._handed
        if begun.intersection(self.wanted):
            self.wanted = [path for path in self.wanted if path not in begun]
            self.look_again()


def take_turns(jobs: Jobs) -> None:
    """Have threads change often while a job runs, so that a key never waits long for the GIL."""
    busy = any(job is not None and job.alive for job in (jobs.gpu, *jobs.background))
    sys.setswitchinterval(QUICK_SWITCH_S if busy else SWITCH_S)


def summary(store: Store) -> str:
    """How a job ended, in a line."""
    if store.failed is not None:
        return f"failed: {store.failed.message}"
    found = sum(event.found for event in store.mined)
    warned = sum(entry.level == "warn" for entry in store.entries)
    told = f", {count(found)} found" if store.mined else ""
    return store.outcome + told + (f"; {count(warned)} warnings, 9 shows them" if warned else "")
