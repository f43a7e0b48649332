"""A student as INT8 beside the float one: what it takes, how it does, and what it decides anew.

Both are heard as onnxruntime runs them, at the threshold that was frozen for the float student.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from engine.detector import Detection
from engine.metrics import GRACE_S
from engine.report import Measured

FLOAT, ROUNDED, TUNED = "float", "int8 rounded", "int8"
"""The student as it was trained, rounded and calibrated alone, and fine-tuned as INT8."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A decision of one student alone, at a time of a split's stream or on one of its words."""

    split: str
    clip: str
    """The wake word, or "" on the stream."""
    time_s: float
    lost: bool
    """Whether it is the float student that fires, and not the INT8 one."""


def unmatched(
    split: str, clip: str, mine: Sequence[Detection], theirs: Sequence[Detection]
) -> Iterator[Flip]:
    """Detections of one student without one of the other within half a second, mine as lost."""
    for found, others, lost in ((mine, theirs, True), (theirs, mine, False)):
        for one in found:
            if all(abs(one.time_s - other.time_s) > GRACE_S for other in others):
                yield Flip(split, clip, one.time_s, lost)


@dataclass(frozen=True, slots=True)
class Side:
    """A split measured at the frozen threshold of the float student, and held against that one."""

    pauc: float
    frr: float
    frr_low: float
    frr_high: float
    missed: int
    clips: int
    fah: float
    fah_low: float
    fah_high: float | None
    """None where there is no stream, and so no bound."""
    false_alarms: int
    hours: float
    difference: float
    """The largest difference of two vote levels, of every hop of the split."""

    @classmethod
    def of(cls, measured: Measured, difference: float) -> "Side":
        """What is told of a measurement."""
        values = {name: getattr(measured, name) for name in cls.__slots__ if name != "difference"}
        values["fah_high"] = measured.fah_high if math.isfinite(measured.fah_high) else None
        return cls(**values, difference=difference)


@dataclass(frozen=True, slots=True)
class Student:
    """One of the students: what it takes, and how it does on validation and test."""

    file_kb: float
    ram_kb: float
    latency_ms: dict[str, float]
    """p50 and p95 of a hop; of the one that was only rounded it is that of the other."""
    validation: Side
    test: Side
    flips: tuple[Flip, ...] = ()


@dataclass(frozen=True, slots=True)
class Int8:
    """The `int8` of report.json."""

    threshold: float
    """The frozen one of the float student, at which all are compared, and INT8 is shipped."""
    float_parts: tuple[str, ...]
    """Layers of the INT8 student that are not INT8."""
    students: dict[str, Student]

    def to_plain(self) -> dict[str, Any]:
        """What JSON holds of it."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Int8":
        """Read what `to_plain` gave."""
        return cls(
            plain["threshold"],
            tuple(plain["float_parts"]),
            {name: _student(student) for name, student in plain["students"].items()},
        )


def _student(plain: Mapping[str, Any]) -> Student:
    read = {split: Side(**plain[split]) for split in ("validation", "test")}
    return Student(**{**plain, **read, "flips": tuple(Flip(**flip) for flip in plain["flips"])})
