"""The miner: where a detector fires on long recordings without its word, into the queue.

    recording  |-- unit --|-- unit --|-- unit --|      30 s each, scored with what its first
                       [==|== score ==]                windows need of the unit before
    queue file      position and finds ^               in one transaction

A unit's scores do not depend on where mining began, and what the detector remembers is kept with
the position: mining that is stopped or killed anywhere goes on as if it never was.
"""

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from engine.audio import SAMPLE_RATE, UNIT_S, Recording, Waveform
from engine.detector import Detection
from engine.errors import CheckpointError, DataError
from engine.events import Emit, JobStarted, Mined, Mining, PhaseChanged, Progressed, Warned
from engine.finder import Finder, Peaks
from engine.jobs import Control, Stopped
from engine.queue_store import Find, QueueStore, Session, content_of
from engine.runs import Workspace
from engine.scorer import Scorer

COMMIT_EVERY_S = 2.0
SHOW_EVERY_S = 0.2
NICE = 10
UNIT_SAMPLES = UNIT_S * SAMPLE_RATE


def mine(
    paths: Sequence[Path],
    checkpoint_path: Path,
    workspace: Workspace,
    *,
    threshold: float | None = None,
    emit: Emit,
    control: Control,
) -> int:
    """Mine recordings with a checkpoint, and give how many finds are new in the queue.

    A recording whose mining was broken off goes on where it was; one that cannot be mined is warned
    of, and the others are mined. Raises DataError where none could be.
    """
    finder = Finder.of(checkpoint_path)
    with closing(QueueStore(workspace.queue)) as store:
        miner = _Miner(workspace, store, {finder.path: finder}, emit, control)
        level = finder.lower if threshold is None else threshold
        return miner.all([partial(miner.session, path, finder, level) for path in paths])


def resume(sessions: Sequence[int], workspace: Workspace, *, emit: Emit, control: Control) -> int:
    """Go on with sessions that were broken off, all of them if none is named, as `mine` does."""
    with closing(QueueStore(workspace.queue)) as store:
        miner = _Miner(workspace, store, {}, emit, control)
        chosen = sessions or [s.id for s in store.sessions() if not s.done]
        if not chosen:
            hint = f"{workspace.command('mine', 'FILE')} begins one"
            raise DataError("no mining was broken off", hint)
        return miner.all([partial(store.session, number) for number in chosen])


class _Miner:
    """Mines sessions one after another."""

    def __init__(
        self,
        workspace: Workspace,
        store: QueueStore,
        finders: dict[Path, Finder],
        emit: Emit,
        control: Control,
    ) -> None:
        self.workspace, self.store, self.finders = workspace, store, finders
        self.emit, self.control = emit, control
        self._accepted: dict[int, tuple[int, int]] = {}
        _step_back()

    def all(self, wanted: Sequence[Callable[[], Session]]) -> int:
        """Mine what can be, warn of the rest; raise if nothing could."""
        found, failed = 0, list[DataError | CheckpointError]()
        for session in wanted:
            try:
                found += self.one(session())
            except (DataError, CheckpointError) as error:
                failed.append(error)
                if len(wanted) > 1:
                    self.emit(Warned(error.message, error.hint))
        if failed and len(failed) == len(wanted):
            none = DataError(f"none of {len(failed)} recordings could be mined", "see the warnings")
            raise failed[0] if len(failed) == 1 else none
        return found

    def session(self, path: Path, finder: Finder, threshold: float) -> Session:
        """The session of a recording, known by its content; a new one if there is none."""
        path = path.absolute()
        self.emit(PhaseChanged("look"))
        content = content_of(path, self.control.tick)
        for known in self.store.sessions():
            same = (known.content, known.checkpoint, known.threshold)
            if same == (content, finder.checkpoint, threshold) and known.path == path:
                return known
        stat, now = path.stat(), time.time()
        recording = Recording(path)
        recording.close()
        return self.store.begin_session(
            Session(
                id=0,
                path=path,
                content=content,
                size=stat.st_size,
                mtime_ns=stat.st_mtime_ns,
                model=finder.path,
                checkpoint=finder.checkpoint,
                threshold=threshold,
                position_s=0.0,
                total_s=recording.seconds,
                state="",
                found=0,
                done=False,
                began_at=now,
                seen_at=now,
            )
        )

    def one(self, session: Session) -> int:
        """Mine a session to its end; give how many finds are new."""
        if session.done:
            message = f"{session.path} was mined already: session {session.id}"
            self.emit(Warned(message, "another checkpoint or --threshold mines it again"))
            self.emit(Mined(str(session.path), session.total_s / 3600, 0))
            return 0
        finder = self._finder(session)
        self._check(session)
        self.emit(JobStarted("mine", session.path.name, f"threshold {session.threshold:.3f}"))
        work = _Mining(
            session, finder, self.store, self._check, emit=self.emit, control=self.control
        )
        new = work.go()
        self.emit(Mined(str(session.path), session.total_s / 3600, session.found + new))
        return new

    def _finder(self, session: Session) -> Finder:
        if session.model not in self.finders:
            self.finders[session.model] = Finder.of(session.model)
        finder = self.finders[session.model]
        if finder.checkpoint != session.checkpoint:
            message = f"{session.model} is another checkpoint than session {session.id} began with"
            raise CheckpointError(message, self._anew(session))
        return finder

    def _check(self, session: Session) -> None:
        """Raise DataError where the file is gone, or no longer the one whose position is known."""
        try:
            stat = session.path.stat()
        except OSError as error:
            message = f"{session.path} is gone: {error.strerror}"
            raise DataError(message, f"put it back, then mine --resume {session.id}") from error
        state = (stat.st_size, stat.st_mtime_ns)
        if state == self._accepted.get(session.id, (session.size, session.mtime_ns)):
            return
        if content_of(session.path, self.control.tick) != session.content:
            message = f"{session.path} has changed since session {session.id} began"
            raise DataError(message, self._anew(session))
        self._accepted[session.id] = state

    def _anew(self, session: Session) -> str:
        return f"{self.workspace.command('mine', str(session.path))} begins anew"


class _Mining:
    """One session at work; `check` raises where the recording is no longer what it was."""

    def __init__(
        self,
        session: Session,
        finder: Finder,
        store: QueueStore,
        check: Callable[[Session], None],
        *,
        emit: Emit,
        control: Control,
    ) -> None:
        self.session, self.finder, self.store, self.check = session, finder, store, check
        self.emit, self.control = emit, control
        self.recording = Recording(session.path)
        self.peaks = Peaks(finder.rules, session.threshold, finder.scorer.grid.hop_s)
        if session.state:
            self.peaks.restore(session.state)
        self.position_s = self.kept_at_s = session.position_s
        self.new = 0
        self.waiting: list[Find] = []
        self.began_s = self.kept_s = time.monotonic()
        self.shown_s = 0.0

    def go(self) -> int:
        """Mine from the session's position to the end of the recording."""
        first = round(self.position_s / UNIT_S)
        try:
            tail = self._tail(first)
            for unit in range(first, self.recording.units):
                self._step()
                block = self.recording.read(unit)
                self._hear(unit, np.concatenate([tail, block]))
                tail = block[max(0, len(block) - _context(unit + 1, self.finder.scorer)) :]
            self._take(self.peaks.finish())
            self.position_s = self.session.total_s
            self._keep(done=True)
        except Stopped:
            self._keep()
            raise
        finally:
            self._tell_lost()
            self.recording.close()
        return self.new

    def _tail(self, unit: int) -> Waveform:
        """What the first windows of a unit need of the one before, decoded again."""
        if unit == 0:
            return np.zeros(0, dtype=np.float32)
        for passed_s in self.recording.approach(unit - 1):
            self.control.tick()
            self.emit(Progressed("rewind", round(passed_s), round(self.position_s), "s"))
        block = self.recording.read(unit - 1)
        return block[len(block) - _context(unit, self.finder.scorer) :]

    def _hear(self, unit: int, waveform: Waveform) -> None:
        """Score the windows that end in a unit; `waveform` is all that they cover."""
        grid = self.finder.scorer.grid
        scores = self.finder.scorer.score(waveform).tolist()
        for hop, score in enumerate(scores, _first_hop(unit, self.finder.scorer)):
            self._take(self.peaks.push(score, grid.window_s + hop * grid.hop_s))
        self.position_s = (unit + 1.0) * UNIT_S
        self._show()
        self._tell_lost(self.position_s)

    def _take(self, fired: Detection | None) -> None:
        if fired is None:
            return
        session = self.session
        start_s, end_s = self.finder.place(fired, session.total_s)
        self.waiting.append(
            Find(
                path=session.path,
                content=session.content,
                time_s=fired.time_s,
                start_s=start_s,
                end_s=end_s,
                score=fired.score,
                threshold=session.threshold,
                group=f"user:{session.content}",
                checkpoint=session.checkpoint,
                found_by="background",
            )
        )

    def _step(self) -> None:
        """A step boundary: keep position and finds every 2 s, and before a pause."""
        now, paused = time.monotonic(), self.control.paused
        if paused or now - self.kept_s >= COMMIT_EVERY_S:
            self._keep()
        self.control.tick()
        if paused:
            self.began_s += time.monotonic() - now  # a pause does not count as slowness

    def _keep(self, *, done: bool = False) -> None:
        self.check(self.session)
        self.new += self.store.commit_progress(
            self.session.id,
            self.position_s,
            self.waiting,
            before_s=self.kept_at_s,
            state=self.peaks.state(),
            done=done,
        )
        self.waiting, self.kept_s, self.kept_at_s = [], time.monotonic(), self.position_s

    def _show(self) -> None:
        now = time.monotonic()
        if now - self.shown_s < SHOW_EVERY_S:
            return
        self.shown_s, session = now, self.session
        passed_s = self.position_s - session.position_s
        self.emit(
            Mining(
                session=session.id,
                path=str(session.path),
                position_s=min(self.position_s, session.total_s),
                total_s=session.total_s,
                found=session.found + self.new,
                speed=passed_s / max(now - self.began_s, 1e-6),
            )
        )

    def _tell_lost(self, until_s: float = math.inf) -> None:
        """Say which stretches could not be read, once they are over."""
        over = [stretch for stretch in self.recording.lost if stretch[1] < until_s]
        self.recording.lost = self.recording.lost[len(over) :]
        for start_s, end_s in over:
            message = f"{self.session.path}: {start_s:.2f} to {end_s:.2f} s cannot be read, skipped"
            self.emit(Warned(message, "the rest is mined; convert the file to hear that part too"))


def _first_hop(unit: int, scorer: Scorer) -> int:
    """The first hop whose window ends after the beginning of a unit."""
    begin, grid = unit * UNIT_SAMPLES, scorer.grid
    if begin < grid.window_samples:
        return 0
    return (begin - grid.window_samples) // grid.hop_samples + 1


def _context(unit: int, scorer: Scorer) -> int:
    """Samples before a unit that its first window covers."""
    return unit * UNIT_SAMPLES - _first_hop(unit, scorer) * scorer.grid.hop_samples


def _step_back() -> None:
    """Let everything else of the machine go first; only on Linux has a thread its own priority."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
