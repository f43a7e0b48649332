"""What a job tells the world: one frozen dataclass per happening, written as JSON lines.

`Record` is an event with its number and time. A run's `events.jsonl` keeps all durable events;
the others (`Progressed`) are for the screens, and of them it keeps one a second at most.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a job."""

    durable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class JobStarted(Event):
    """A verb begins, on a device, for a run."""

    job: str
    run: str
    device: str
    total_steps: int = 0
    resumed_step: int = 0


@dataclass(frozen=True, slots=True)
class PhaseChanged(Event):
    """The job goes on to its next part, as pack, words, train, validate, calibrate or test."""

    phase: str


@dataclass(frozen=True, slots=True)
class Progressed(Event):
    """`done` of `total` units of the phase are through; `unit` names them."""

    durable: ClassVar[bool] = False
    phase: str
    done: int
    total: int
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Stepped(Event):
    """The state of training after a step (loss: mean since the last of these events).

    `eta_s` is to the report: steps, validations and all that follows them.
    """

    step: int
    epoch: int
    loss: float
    lr: float
    clips_per_s: float
    snr_db: float
    memory_mb: float
    eta_s: float
    taught: dict[str, float] | None = None
    """With teachers, by name: parts of the loss, temperature, agreement, share of each teacher."""


@dataclass(frozen=True, slots=True)
class Validated(Event):
    """A measurement on the validation split, at the threshold that meets the FAH target there."""

    step: int
    epoch: int
    pauc: float
    eer: float
    frr: float
    frr_low: float
    frr_high: float
    clips: int
    fah: float
    hours: float
    target_fah: float
    threshold: float
    det_area: float
    best: bool
    frr_noisy: float | None = None
    """FRR over the same words in the noise and the rooms of the split; absent in older runs."""
    averaged: int = 0
    """How many epochs the weights are the mean of; 0 for the epoch's own."""
    hearings: int = 1
    """At how many speeds the streams were heard for the threshold; more for what is shipped."""


@dataclass(frozen=True, slots=True)
class WordsLearned(Event):
    """The student tells `words` words apart, right in `accuracy` of 1 for voices it never heard."""

    words: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class CheckpointSaved(Event):
    """A checkpoint is on the disk, whole."""

    step: int
    name: str


@dataclass(frozen=True, slots=True)
class Reported(Event):
    """The report of a run is written: the test set, opened once, at the frozen threshold."""

    run: str
    frr: float
    frr_low: float
    frr_high: float
    fah: float
    fah_low: float
    fah_high: float
    threshold: float
    split: str = "test"
    """What it was measured on; trials of a search leave the test shut."""


@dataclass(frozen=True, slots=True)
class TrialStarted(Event):
    """A study tries a recipe: `params` are what it changes, by dotted key; `trials` are wanted."""

    study: str
    number: int
    run: str
    params: dict[str, float | int | str | bool]
    trials: int
    parent: int | None = None
    operation: str = ""


@dataclass(frozen=True, slots=True)
class TrialFinished(Event):
    """A trial is complete, stopped early or failed; `why` says the latter two in a sentence."""

    study: str
    number: int
    run: str
    state: str
    quality: float | None
    latency: float | None
    why: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Mining(Event):
    """How far a recording has been mined; `speed` is in times real time, since the job began."""

    durable: ClassVar[bool] = False
    session: int
    path: str
    position_s: float
    total_s: float
    found: int
    speed: float


@dataclass(frozen=True, slots=True)
class Mined(Event):
    """A recording, or a split of a run, has been mined to its end; `found` are new in the queue."""

    path: str
    hours: float
    found: int


@dataclass(frozen=True, slots=True)
class ListeningBegan(Event):
    """A detector begins to listen: its wake word, the identity of its checkpoint, its threshold."""

    wakeword: str
    checkpoint: str
    threshold: float


@dataclass(frozen=True, slots=True)
class Listening(Event):
    """What was heard since the last of these, at most ten a second; each one counts.

    Times are seconds of audio since the session began. `times_s` and `scores` belong to each other;
    `level_db` is the RMS, `peak_db` the peak in dBFS, `cpu` the share of one core that the
    listening takes, `dropped` how many samples came and were never heard; `state`, `line` and
    `hint` are the source's, `advice` is what to do about the level.
    """

    at_s: float
    times_s: list[float]
    scores: list[float]
    level_db: float
    peak_db: float
    clipped: int
    cpu: float
    dropped: int
    state: str
    line: str
    hint: str = ""
    latency_ms: float | None = None
    advice: str = ""


@dataclass(frozen=True, slots=True)
class WakewordHeard(Event):
    """A detector fired on live audio: `at_s` is the end of the window that fired.

    `delay_ms` has passed since the last sample of the window came from the source, or more than
    that: samples that came together count as if they had come right after those before. `after_ms`
    has passed since the end of the word, None where no word stands out of the window or it goes on.
    """

    at_s: float
    score: float
    delay_ms: float
    after_ms: float | None = None


@dataclass(frozen=True, slots=True)
class WakewordJudged(Event):
    """What the judge says of the detection at `at_s`; where it cannot, `error` says why."""

    at_s: float
    accepted: bool = False
    score: float = 0.0
    threshold: float = 0.0
    model: str = ""
    took_ms: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Listened(Event):
    """A session of listening is over: seconds of audio, and what came of them."""

    seconds: float
    detections: int
    dropped: int
    cpu: float


@dataclass(frozen=True, slots=True)
class QueueTaken(Event):
    """What a run took from the queue to train on."""

    hard_negatives: int
    wakewords: int


@dataclass(frozen=True, slots=True)
class ExportWritten(Event):
    """An export is on the disk, was run over the validation split, and did as the checkpoint.

    `flips` are decisions of the student in it that differ, of `windows` that were scored.
    """

    run: str
    kind: str
    folder: str
    kilobytes: float
    windows: int
    largest_difference: float
    flips: int


@dataclass(frozen=True, slots=True)
class JudgeOpened(Event):
    """A judge waits for requests."""

    url: str
    model: str
    threshold: float


@dataclass(frozen=True, slots=True)
class RequestAnswered(Event):
    """A judge has answered a request with a status, 499 where the client had left.

    `took_ms` is from its head to its answer, `scored_ms` of that the judge at work; what there is
    no verdict on has no score. Neither audio nor token are told.
    """

    client: str
    method: str
    path: str
    status: int
    took_ms: float
    body_bytes: int = 0
    seconds: float = 0.0
    scored_ms: float = 0.0
    score: float | None = None
    accepted: bool | None = None


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something a person should know, and what to do about it."""

    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class JobFailed(Event):
    """The job ended with an error; a bug carries its traceback."""

    message: str
    hint: str = ""
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class JobFinished(Event):
    """The job ended: `done`, or `stopped` after a checkpoint."""

    job: str
    outcome: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Record:
    """An event with its number `n` in the job's stream and the wall-clock time it happened."""

    n: int
    time_s: float
    event: Event


Emit = Callable[[Event], None]
TYPES: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}


def to_line(record: Record) -> str:
    """Render a record as one JSON line, `{"n", "time_s", "type", ...}`, without the line end."""
    head = {"n": record.n, "time_s": record.time_s, "type": type(record.event).__name__}
    return json.dumps(head | asdict(record.event))


def from_line(line: str) -> Record | None:
    """Read a line of `to_line`; None for a torn line or an event this version does not know."""
    try:
        fields: dict[str, Any] = json.loads(line)
        n, time_s, kind = int(fields.pop("n")), float(fields.pop("time_s")), fields.pop("type")
        return Record(n, time_s, TYPES[kind](**fields))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
