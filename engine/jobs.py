"""Background threads: one exclusive job on the `gpu` lane, others on the `background` lane.

Background jobs yield to the exclusive one: beside it they rest three times as long as they work.

A verb is called as `verb(..., emit=emit, control=control)`. It emits events and calls
`control.tick()` at every step boundary; that is the whole contract. This file knows no verb.
"""

import threading
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from enum import StrEnum
from typing import Literal

from engine.bus import EventBus
from engine.errors import BusyError, WakewordError
from engine.events import Emit, Event, JobFailed, JobFinished, Record
from engine.runs import EventLog, Run, Workspace

Lane = Literal["gpu", "background"]

YIELDED = 3.0
LONGEST_YIELD_S = 5.0


class Stopped(Exception):
    """Raised by `Control.tick` after `stop`; a verb writes its checkpoint on the way out."""


class Control:
    """What a person asks of a running verb; every method but `tick` returns at once.

    While `crowded` says that more important work is under way, `tick` takes most of the time off.
    """

    def __init__(self, crowded: Callable[[], bool] = lambda: False) -> None:
        self._crowded = crowded
        self._ticked_s = time.monotonic()
        self._running = threading.Event()
        self._running.set()
        self._stop = threading.Event()
        self._checkpoint = threading.Event()
        self.waiting = False

    def pause(self) -> None:
        """Hold the verb at its next step boundary."""
        self._running.clear()

    def resume(self) -> None:
        """Let a held verb go on."""
        self._running.set()

    def stop(self) -> None:
        """End the verb at its next step boundary, paused or not."""
        self._stop.set()
        self._running.set()

    def checkpoint(self) -> None:
        """Ask for a checkpoint at the next step boundary."""
        self._checkpoint.set()

    @property
    def paused(self) -> bool:
        """Whether a pause has been asked for."""
        return not self._running.is_set()

    @property
    def stopping(self) -> bool:
        """Whether a stop has been asked for."""
        return self._stop.is_set()

    def take_checkpoint_request(self) -> bool:
        """Whether a checkpoint was asked for since the last call."""
        asked = self._checkpoint.is_set()
        self._checkpoint.clear()
        return asked

    def tick(self) -> None:
        """A step boundary: wait here while paused, raise Stopped if asked to stop."""
        if not self._running.is_set():
            self.waiting = True
            self._running.wait()
            self.waiting = False
        elif self._crowded():
            self._stop.wait(min(YIELDED * (time.monotonic() - self._ticked_s), LONGEST_YIELD_S))
        self._ticked_s = time.monotonic()
        if self._stop.is_set():
            raise Stopped


class State(StrEnum):
    """Where a job is; only the job changes it."""

    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    DONE = "done"


class Job:
    """One verb in its own daemon thread; numbers its events, keeps them, and puts them on a bus."""

    def __init__(
        self,
        name: str,
        verb: Callable[[Emit, Control], None],
        log: EventLog | None = None,
        control: Control | None = None,
        held: AbstractContextManager[object] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.endless = False
        """Whether it goes on until somebody stops it."""
        self.control = control or Control()
        self.bus = EventBus()
        self.error: Exception | None = None
        self._verb = verb
        self._held = held or nullcontext()
        self._n = 0
        self._outcome: State | None = None
        self._emit_lock = threading.Lock()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def state(self) -> State:
        """Where the job is now."""
        if self._outcome is not None:
            return self._outcome
        if self.control.stopping:
            return State.STOPPING
        if self.control.paused:
            return State.PAUSED if self.control.waiting else State.PAUSING
        return State.RUNNING

    @property
    def alive(self) -> bool:
        """Whether the verb has not ended yet."""
        return self._outcome is None

    def emit(self, event: Event) -> None:
        """Number an event, log it, and put it on the bus; any thread."""
        with self._emit_lock:
            if self.log is not None:
                record = self.log.append(event)
            else:
                self._n += 1
                record = Record(self._n, time.time(), event)
            self.bus.put(record)

    def _run(self) -> None:
        outcome = State.FAILED
        try:
            with self._held:  # to the last event: who follows reads no further once it is free
                outcome = self._perform()
        finally:
            self._outcome = outcome

    def _perform(self) -> State:
        """Run the verb and tell how it ended."""
        began = time.monotonic()
        outcome = State.FAILED
        try:
            self._verb(self.emit, self.control)
            outcome = State.DONE
        except Stopped:
            outcome = State.STOPPED
        except WakewordError as error:
            self.error = error
            self._tell(JobFailed(error.message, error.hint))
        except Exception as error:  # noqa: BLE001 -- a bug must reach a person, with its traceback
            self.error = error
            self._tell(JobFailed(f"{type(error).__name__}: {error}", "", traceback.format_exc()))
        finally:
            _empty_frames(self.error)
            self._tell(JobFinished(self.name, outcome.value, time.monotonic() - began))
        return outcome

    def _tell(self, event: Event) -> None:
        """Emit how the job ended; the bus hears it even where the log cannot be written."""
        try:
            self.emit(event)
        except WakewordError:
            self.bus.put(Record(self.log.n if self.log else self._n, time.time(), event))


def _empty_frames(error: BaseException | None) -> None:
    """Let go of what the frames of an error hold: a trainer, and its memory on the GPU."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


class Jobs:
    """The jobs of this process. The gpu lane holds one, guarded by the workspace's lock file."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.gpu: Job | None = None
        self.background: list[Job] = []

    def start(
        self,
        name: str,
        verb: Callable[[Emit, Control], None],
        log: Callable[[], EventLog] | None = None,
        lane: Lane = "gpu",
    ) -> Job:
        """Start a verb in a thread; one of the gpu lane may keep its events in a run's log.

        Raises BusyError if the gpu lane is taken, here or not, and does not open the log then.
        """
        if lane == "background":
            job = Job(name, verb, control=Control(self._busy))
            self.background = [*(other for other in self.background if other.alive), job]
        else:
            job = self.gpu = self._exclusive(name, verb, log)
        job.thread.start()
        return job

    def _exclusive(
        self,
        name: str,
        verb: Callable[[Emit, Control], None],
        log: Callable[[], EventLog] | None,
    ) -> Job:
        """A job that holds the workspace, and its log, until it has ended."""
        if self.gpu is not None and self.gpu.alive:
            raise BusyError(f"{self.gpu.name} is running", "stop it first, or wait for it")
        with ExitStack() as held:
            held.enter_context(self.workspace.lock())
            # Opening may cut the file: whoever held the workspace until now was appending to it.
            opened = held.enter_context(closing(log())) if log else None
            if opened is not None:
                self.workspace.trains(Run(opened.path.parent))
            return Job(name, verb, opened, held=held.pop_all())

    def _busy(self) -> bool:
        """Whether a job holds the gpu lane of this process, and works."""
        return self.gpu is not None and self.gpu.state in (State.RUNNING, State.STOPPING)

    def working(self) -> bool:
        """Whether any job goes on by itself: alive, and not paused."""
        jobs = [job for job in [self.gpu, *self.background] if job is not None]
        return any(job.alive and not job.control.paused for job in jobs)

    def leave_alone(self) -> None:
        """Stop what would never end: nobody is there any more to stop it."""
        for job in self.background:
            if job.endless:
                job.control.stop()

    def stop_all(self, timeout_s: float) -> bool:
        """Ask every job to stop and wait; True if all have ended."""
        jobs = [job for job in [self.gpu, *self.background] if job is not None]
        for job in jobs:
            job.control.stop()
        deadline = time.monotonic() + timeout_s
        for job in jobs:
            job.thread.join(max(0.0, deadline - time.monotonic()))
        return not any(job.alive for job in jobs)
