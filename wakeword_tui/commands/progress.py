"""Runs a verb as a job and tells on stderr how it goes: a bar in a terminal, else plain lines."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

from engine.events import (
    Emit,
    Event,
    JobStarted,
    Mined,
    Mining,
    PhaseChanged,
    Progressed,
    QueueTaken,
    Record,
    Stepped,
    TrialFinished,
    TrialStarted,
    Validated,
    Warned,
    WordsLearned,
)
from engine.jobs import Control, Job, Jobs, Lane
from engine.runs import EventLog, Workspace
from wakeword_tui.commands.output import write
from wakeword_tui.commands.signals import Interrupted, collected
from wakeword_tui.numbers import brief, duration, hours, percent, span
from wakeword_tui.store import weights

Result = TypeVar("Result")
DRAIN_EVERY_S = 0.2
PLAIN_EVERY_S = 15.0
BAR_CELLS = 24


def perform(
    workspace: Workspace,
    name: str,
    verb: Callable[[Emit, Control], Result],
    log: Callable[[], EventLog] | None = None,
    lane: Lane = "gpu",
    tell: "type[Teller] | None" = None,
    followed: bool = False,
) -> Result:
    """Run a verb in a thread of its own, `tell` how it goes, and return what it returns.

    Raises what the verb raised, Interrupted after SIGINT, SIGTERM or SIGHUP, and BusyError. A stop
    that comes after its last step changes nothing, unless it is `followed` by another verb.
    """
    results: list[Result] = []
    with collected() as received, libraries_hushed():
        job = Jobs(workspace).start(
            name, lambda emit, control: results.append(verb(emit, control)), log, lane
        )
        try:
            _watch(job, received, (tell or Teller)(sys.stderr, live=sys.stderr.isatty()))
        finally:  # where what it found cannot be written it has not ended yet
            job.control.stop()
            job.thread.join()
    if job.error is not None:
        raise job.error
    if not results or (received and followed):
        raise Interrupted(received[0])
    return results[0]


def _watch(job: Job, received: list[int], teller: "Teller") -> None:
    """Tell what a job does until it has ended; stop it once a signal came."""
    while job.thread.is_alive():
        teller.tell(job.bus.drain())
        if received and not job.control.stopping:
            teller.line("stopping at the next step; ctrl+c again ends at once")
            job.control.stop()
        job.thread.join(DRAIN_EVERY_S)
    teller.tell(job.bus.drain())
    teller.wipe()


def without_window(job: Job) -> int:
    """Tell a job's progress in plain lines; the terminal may be closed meanwhile.

    Returns the exit code.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with collected(job.control.stop) as received:
        _watch(job, [], Teller(sys.stderr, live=True))
    if job.error is not None:
        raise job.error
    return 128 + received[0] if received else 0


@contextmanager
def libraries_hushed() -> Iterator[None]:
    """Send to the log what libraries print on descriptor 2; our own stderr stays what it is.

    mpg123 tells there of every damaged byte of an MP3, ALSA of every card that it does not find.
    Where there can be no log, they are not hushed.
    """
    log = _opened_log() if sys.stderr is not None and sys.stderr is sys.__stderr__ else None
    if log is None:
        yield
        return
    ours, kept = sys.stderr, os.dup(2)
    os.dup2(log, 2)
    os.close(log)
    sys.stderr = open(kept, "w", buffering=1, errors="replace")  # noqa: SIM115, PTH123
    try:
        yield
    finally:
        os.dup2(kept, 2)
        sys.stderr.close()
        sys.stderr = ours


def _opened_log() -> int | None:
    """A descriptor of the log, if our stderr is descriptor 2 and the log can be written."""
    from wakeword_tui.config import log_path

    if sys.stderr.fileno() != 2:
        return None
    try:
        return os.open(log_path(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        return None


class Teller:
    """Tells the events of one job. Live, the last line is a bar that is painted over."""

    def __init__(
        self, stream: TextIO, live: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stream = stream
        self.live = live
        self.clock = clock
        self._total_steps = 0
        self._phase = ""
        self._phases = set[str]()
        self._phase_began_s = self._told_s = clock()

    def tell(self, records: list[Record]) -> None:
        """Tell what came since the last call: each line once, and the newest state."""
        state = ""
        for record in records:
            if line := self._told(record.event):
                self.line(line)
                state = ""
            state = self._state(record.event) or state
        if state:
            self._show(state)

    def line(self, text: str) -> None:
        """Write a line that stays."""
        self.wipe()
        write(self.stream, text + "\n")

    def wipe(self) -> None:
        """Take the bar away."""
        if self.live:
            write(self.stream, "\r\x1b[K")

    def _show(self, state: str) -> None:
        if self.live:
            columns = shutil.get_terminal_size().columns
            write(self.stream, f"\r\x1b[K{state[: columns - 1]}")  # a wrapped bar cannot be wiped
        elif self.clock() - self._told_s >= PLAIN_EVERY_S:
            self._told_s = self.clock()
            write(self.stream, state + "\n")

    def _told(self, event: Event) -> str:
        """A line for the event; a phase gets one the first time, and none beside a bar."""
        if isinstance(event, PhaseChanged):
            if self.live or event.phase in self._phases:
                return ""
            self._phases.add(event.phase)
        return told(event)

    def _state(self, event: Event) -> str:
        match event:
            case PhaseChanged() if self.live:
                return told(event)
            case JobStarted():
                self._total_steps = event.total_steps
            case Progressed(total=total) if total:
                return self._progressed(event)
            case Stepped():
                return self._stepped(event)
            case Mining():
                return self._mining(event)
        return ""

    def _progressed(self, event: Progressed) -> str:
        if event.phase != self._phase:
            self._phase, self._phase_began_s = event.phase, self.clock()
        spent_s = self.clock() - self._phase_began_s
        count = f"{event.done}/{event.total} {event.unit}".rstrip()
        state = f"{event.phase:<9}{bar(event.done, event.total)} {count}"
        if spent_s == 0 or event.done == 0:
            return state
        return f"{state}  {left(spent_s / event.done * (event.total - event.done))}"

    def _mining(self, event: Mining) -> str:
        share = f"{event.position_s / 3600:.2f}/{event.total_s / 3600:.2f} h"
        done = bar(round(event.position_s), max(round(event.total_s), 1))
        rest_s = (event.total_s - event.position_s) / max(event.speed, 1e-6)
        numbers = f"{event.speed:.0f}x  {event.found} found  {left(rest_s)}"
        return f"{'mine':<9}{done} {share}  {numbers}"

    def _stepped(self, event: Stepped) -> str:
        share = bar(event.step, max(self._total_steps, 1))
        numbers = f"loss {event.loss:.4f}  {brief(event.clips_per_s)} clips/s"
        count = f"{event.step}/{self._total_steps}"
        return f"{'train':<9}{share} {count}  {numbers}  {left(event.eta_s)}"


def told(event: Event) -> str:
    """Say the events that are worth a line of their own."""
    match event:
        case JobStarted():
            steps = f", {event.total_steps} steps" if event.total_steps else ""
            resumed = f", resumed at step {event.resumed_step}" if event.resumed_step else ""
            return f"{event.job} {event.run} on {event.device}{steps}{resumed}"
        case PhaseChanged():
            return f"{event.phase} ..."
        case Validated():
            return validated(event)
        case WordsLearned():
            right = percent(event.accuracy)
            return f"{event.words} words told apart, {right} right for voices it never heard"
        case QueueTaken():
            return f"from the queue: {event.hard_negatives} negatives, {event.wakewords} wake words"
        case Mined():
            return f"{event.path}: {hours(event.hours)} mined, {event.found} found"
        case TrialStarted():
            return started(event)
        case TrialFinished():
            return finished(event)
        case Warned():
            return f"warning: {event.message}" + (f"\n  hint: {event.hint}" if event.hint else "")
    return ""


def started(event: TrialStarted) -> str:
    """Say what a trial tries."""
    tried = "  ".join(f"{key}={_short(value)}" for key, value in event.params.items())
    forked = "" if event.parent is None else f", {event.operation} of {event.parent}"
    return f"trial {event.number} of {event.trials}{forked}: {tried}"


def _short(value: float | int | str | bool) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def finished(event: TrialFinished) -> str:
    """Say what came of a trial."""
    if event.quality is None or event.latency is None:
        return f"trial {event.number} {event.state}: {event.why}"
    values = f"quality {event.quality:.4f}, latency {event.latency:g}"
    return f"trial {event.number} {event.state}: {values}, {duration(event.seconds)}"


def validated(event: Validated) -> str:
    """Say a validation in one line."""
    noisy = "" if event.frr_noisy is None else f", in noise and rooms {percent(event.frr_noisy)},"
    missed = f"FRR {percent(event.frr)} ({span(event.frr_low, event.frr_high)}){noisy}"
    return (
        f"{weights(event):<9}  {missed} at FAH <= {event.target_fah:g} on {hours(event.hours)}"
        + ("  * best" if event.best else "")
    )


def bar(done: int, total: int) -> str:
    """Draw a share as a bar of ASCII, with its percentage."""
    share = min(done / total, 1.0)
    cells = round(share * BAR_CELLS)
    return f"[{'#' * cells}{'.' * (BAR_CELLS - cells)}] {share:4.0%}"


def left(seconds: float) -> str:
    """Say how long it will take still."""
    return f"{duration(seconds)} left"
