"""Store: what the screens show of one job, made from its events and from nothing else.

Live events and the replay of an old `events.jsonl` go through the same `apply`, so a run that is
opened again looks as it did. No widgets here.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from functools import singledispatchmethod
from typing import Literal

from engine.events import (
    CheckpointSaved,
    Event,
    ExportWritten,
    JobFailed,
    JobFinished,
    JobStarted,
    Listened,
    Mined,
    Mining,
    PhaseChanged,
    Progressed,
    QueueTaken,
    Record,
    Reported,
    Stepped,
    TrialFinished,
    TrialStarted,
    Validated,
    WakewordHeard,
    Warned,
    WordsLearned,
)
from engine.runs import Run, read_events
from wakeword_tui.numbers import duration, hours, percent, rate, small, span

MOST_POINTS = 8192
MOST_ENTRIES = 2000
Level = Literal["info", "warn", "error"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the log; `detail` is a hint or a traceback below it."""

    time_s: float
    level: Level
    source: str
    text: str
    detail: str = ""

    def lines(self) -> list[str]:
        """The entry as text, the detail indented below."""
        clock = time.strftime("%H:%M:%S", time.localtime(self.time_s))
        head = f"{clock} {self.level:<5} {self.source:<7} {self.text}"
        return [head, *(f"    {line}" for line in self.detail.splitlines())]


@dataclass(slots=True)
class Store:
    """The state of one job as its events tell it."""

    n: int = 0
    started: JobStarted | None = None
    phase: str = ""
    progress: Progressed | None = None
    phase_began_s: float = 0.0
    step: Stepped | None = None
    losses: list[tuple[float, float]] = field(default_factory=list)
    """(step, training loss), at most MOST_POINTS of them, evenly thinned."""
    validations: list[Validated] = field(default_factory=list)
    best: Validated | None = None
    checkpoint_s: float = 0.0
    reported: Reported | None = None
    trial: TrialStarted | None = None
    """The trial of a study that this is."""
    mining: Mining | None = None
    mined: list[Mined] = field(default_factory=list)
    exported: ExportWritten | None = None
    failed: JobFailed | None = None
    outcome: str = ""
    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=MOST_ENTRIES))
    _now_s: float = 0.0

    @classmethod
    def replay(cls, run: Run) -> "Store":
        """The store of a run as it stands in its event file."""
        store = cls()
        for record in read_events(run.events):
            store.apply(record)
        return store

    @property
    def total_steps(self) -> int:
        """Steps of the whole training, 0 if it has none."""
        return self.started.total_steps if self.started else 0

    @property
    def counted(self) -> str:
        """The phase that tells by itself how far it is; empty where that is the training."""
        told = self.progress is not None and self.progress.phase == self.phase != "train"
        return self.phase if told else ""

    def done(self) -> tuple[int, int, str]:
        """How far the present phase, or else the training, is: done, total (0: unknown), unit."""
        if self.counted and self.progress is not None:
            return self.progress.done, self.progress.total, self.progress.unit
        return (self.step.step if self.step else 0), self.total_steps, "steps"

    @property
    def share(self) -> str:
        """The same as a share, ` 40 %`; empty where the total is unknown."""
        done, total, _ = self.done()
        return f" {done * 100 // total} %" if total else ""

    def eta_s(self, now_s: float) -> float | None:
        """Seconds that takes still, None while nobody can tell."""
        done, total, unit = self.done()
        if unit == "steps":
            training = self.phase in ("train", "validate")
            return self.step.eta_s if self.step is not None and training else None
        if not done or not total:
            return None
        return (now_s - self.phase_began_s) / done * (total - done)

    def apply(self, record: Record) -> None:
        """Take in an event; one that was seen before changes nothing."""
        if record.n > self.n:
            self.n, self._now_s = record.n, record.time_s
            self._take(record.event)

    def _note(self, level: Level, source: str, text: str, detail: str = "") -> None:
        self.entries.append(Entry(self._now_s, level, source, text, detail))

    @singledispatchmethod
    def _take(self, event: Event) -> None:
        """An event that no screen shows."""

    @_take.register
    def _(self, event: JobStarted) -> None:
        self.started, self.outcome, self.failed = event, "", None
        self.phase_began_s = self._now_s
        resumed = f", resumed at step {event.resumed_step}" if event.resumed_step else ""
        self._note("info", event.job, f"{event.run} on {event.device}{resumed}")

    @_take.register
    def _(self, event: PhaseChanged) -> None:
        self.phase, self.phase_began_s = event.phase, self._now_s
        self._note("info", "phase", event.phase)

    @_take.register
    def _(self, event: Progressed) -> None:
        if self.progress is None or self.progress.phase != event.phase:
            self.phase_began_s = self._now_s
        self.progress, self.phase = event, event.phase

    @_take.register
    def _(self, event: Stepped) -> None:
        self.step, self.phase = event, "train"
        self.losses.append((event.step, event.loss))
        if len(self.losses) > MOST_POINTS:
            self.losses = _thinned(self.losses)

    @_take.register
    def _(self, event: Validated) -> None:
        self.validations.append(event)
        self.best = event if event.best else self.best
        missed = f"missed {percent(event.frr)} ({span(event.frr_low, event.frr_high)})"
        noisy = "" if event.frr_noisy is None else f", in noise {percent(event.frr_noisy)}"
        text = f"{weights(event)} {missed}{noisy}"
        self._note("info", "valid", text + ("  best" if event.best else ""))

    @_take.register
    def _(self, event: WordsLearned) -> None:
        text = f"{event.words} told apart, {percent(event.accuracy)} right for unheard voices"
        self._note("info", "words", text)

    @_take.register
    def _(self, event: CheckpointSaved) -> None:
        self.checkpoint_s = self._now_s
        self._note("info", "ckpt", f"{event.name} at step {event.step}")

    @_take.register
    def _(self, event: Reported) -> None:
        self.reported = event
        missed = (
            f"{event.split}: missed {percent(event.frr)} ({span(event.frr_low, event.frr_high)})"
        )
        alarms = f"{rate(event.fah)} false/h ({rate(event.fah_low)} to {rate(event.fah_high)})"
        self._note("info", "report", f"{missed}, {alarms}, threshold {small(event.threshold)}")

    @_take.register
    def _(self, event: TrialStarted) -> None:
        self.trial = event
        forked = f", {event.operation} of {event.parent}" if event.parent is not None else ""
        self._note("info", "search", f"trial {event.number} of {event.study}{forked}: {event.run}")

    @_take.register
    def _(self, event: TrialFinished) -> None:
        level: Level = "warn" if event.state == "failed" else "info"
        self._note(level, "search", f"trial {event.number} {event.state}", event.why)

    @_take.register
    def _(self, event: Mining) -> None:
        self.mining = event

    @_take.register
    def _(self, event: Mined) -> None:
        self.mined.append(event)
        self._note("info", "mine", f"{event.path}: {hours(event.hours)}, {event.found} found")

    @_take.register
    def _(self, event: WakewordHeard) -> None:
        self._note("info", "live", f"heard at {duration(event.at_s)}, score {event.score:.3f}")

    @_take.register
    def _(self, event: Listened) -> None:
        dropped = f", {event.dropped} samples dropped" if event.dropped else ""
        self._note("info", "live", f"{event.detections} in {duration(event.seconds)}{dropped}")

    @_take.register
    def _(self, event: ExportWritten) -> None:
        self.exported = event
        self._note("info", "export", f"{event.run} as {event.kind}: {event.folder}")

    @_take.register
    def _(self, event: QueueTaken) -> None:
        taken = f"{event.hard_negatives} hard negatives and {event.wakewords} wake words"
        self._note("info", "queue", f"{taken} of the queue are trained on")

    @_take.register
    def _(self, event: Warned) -> None:
        self._note("warn", self._source(), event.message, event.hint)

    @_take.register
    def _(self, event: JobFailed) -> None:
        self.failed = event
        detail = "\n".join(part for part in (event.hint, event.traceback) if part)
        self._note("error", self._source(), event.message, detail)

    @_take.register
    def _(self, event: JobFinished) -> None:
        self.outcome, self.phase = event.outcome, ""
        self._note("info", event.job, f"{event.outcome} after {duration(event.seconds)}")

    def _source(self) -> str:
        return self.started.job if self.started else "job"


def weights(event: Validated) -> str:
    """Which weights were measured: those of an epoch, the mean of several, or what is shipped."""
    if event.hearings > 1:
        return "shipped"
    return f"mean of {event.averaged}" if event.averaged else f"epoch {event.epoch}"


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Half as many points. A loss is a mean since the one before, and a mean of two is one too."""
    pairs = zip(points[::2], points[1::2], strict=False)
    return [(x2, (y1 + y2) / 2) for (_, y1), (x2, y2) in pairs]
