"""The student as INT8 beside the float one, in words: a line for each, and every flip."""

from collections.abc import Iterable

from engine.flips import Flip, Int8, Side, Student
from wakeword_tui.numbers import percent, rate, span

COSTS = ("student", "file kB", "RAM kB", "p50 ms", "p95 ms")
SPLIT = ("pAUC", "missed", "FRR", "95 %", "alarms", "FAH", "95 %", "score +-", "flips")
BRIEF = ("student", "kB", "RAM kB", "p95 ms", "pAUC", "missed", "alarms", "score +-", "flips")


def costs(told: Int8) -> Iterable[tuple[str, ...]]:
    """What each student takes."""
    for name, student in told.students.items():
        yield name, *_sizes(student), *(_latency(student, part) for part in ("p50", "p95"))


def measures(told: Int8, split: str) -> Iterable[tuple[str, ...]]:
    """How each student does on a split, with intervals."""
    for name, student in told.students.items():
        side = _side(student, split)
        high = "-" if side.fah_high is None else rate(side.fah_high)
        yield (
            name, f"{side.pauc:.4f}", _missed(side), percent(side.frr),
            span(side.frr_low, side.frr_high), str(side.false_alarms), rate(side.fah),
            f"{rate(side.fah_low)} to {high}", f"{side.difference:.3f}", _flips(student, split),
        )  # fmt: skip


def briefly(told: Int8) -> Iterable[tuple[str, ...]]:
    """A line for each student: what it takes, and how it does on test."""
    for name, student in told.students.items():
        side = student.test
        yield (
            name, *_sizes(student), _latency(student, "p95"), f"{side.pauc:.4f}",
            _missed(side), str(side.false_alarms), f"{side.difference:.3f}",
            _flips(student, "test"),
        )  # fmt: skip


def sentences(told: Int8) -> Iterable[str]:
    """Which decisions differ and when, at which threshold, and what is not INT8."""
    for name, student in told.students.items():
        for flip in student.flips:
            yield f"{name}: {_flip(flip)}"
    yield f"at the float threshold {told.threshold:.4f}, with which INT8 is shipped too"
    kinds = dict.fromkeys(part.rpartition(": ")[2] for part in told.float_parts)
    counts = (sum(p.endswith(f": {kind}") for p in told.float_parts) for kind in kinds)
    parts = ", ".join(f"{count} {kind}" for kind, count in zip(kinds, counts, strict=True))
    yield f"not INT8: {parts}, and the front end"


def _flip(flip: Flip) -> str:
    where = f"word {flip.clip}" if flip.clip else f"stream at {_clock(flip.time_s)}"
    return f"{flip.split} {where}: {'float' if flip.lost else 'INT8'} alone fires"


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(time_s, 60)
    return f"{int(minutes) // 60}:{int(minutes) % 60:02d}:{seconds:05.2f}"


def _sizes(student: Student) -> tuple[str, str]:
    return f"{student.file_kb:.0f}", f"{student.ram_kb:.1f}"


def _latency(student: Student, part: str) -> str:
    return f"{student.latency_ms[part]:.2f}" if student.latency_ms else "-"


def _side(student: Student, split: str) -> Side:
    return student.test if split == "test" else student.validation


def _missed(side: Side) -> str:
    return f"{side.missed}/{side.clips}"


def _flips(student: Student, split: str) -> str:
    return str(sum(flip.split == split for flip in student.flips))
