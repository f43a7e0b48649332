"""Runs side by side: what became of each clip of a test, and where two tests differ.

Two runs that heard the same clips are compared clip by clip, which shows a smaller difference than
two rates with an interval each. A is the baseline, B what is held against it. A side may be several
runs: folds, seeds, words.
"""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import DataError
from engine.files import write_atomic
from engine.metrics import Interval, OperatingPoint, bootstrap, mcnemar, rate_ratio
from engine.recipe import DetectorSettings
from engine.report import ClipScore, Measured, Share

Verdict = Literal["fewer", "more", "same"]
Key = tuple[str, str, bool]

COLUMNS = {"clip": "U", "group": "U", "cohort": "U", "positive": "b", "wrong": "b", "score": "f"}
SCALARS = ("version", "threshold", "target_fah", "false_alarms", "hours")
VERSION = 1
"""Of how clips are heard: another number says that runs before and after cannot be compared."""
DAMAGE = (
    OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""What reading a damaged archive may raise."""
SHARED = 0.9
"""Of the larger test, the share of clips that must be paired."""
LEAST_ALARMS = 20
"""From fewer alarms of the baseline no change is shown."""
LEAST_GROUPS = 10
"""Fewer groups are not drawn from: clips are, one by one."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Every clip of a test `(N,)`, and the false alarms on its streams, at a frozen threshold.

    Wrong is a miss of a wake word, and a detection on any other clip. `score` is the highest
    smoothed score. A clip is known in other runs by its name; "" has none and is never paired.
    """

    clip: NDArray[np.str_]
    group: NDArray[np.str_]
    cohort: NDArray[np.str_]
    positive: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    score: NDArray[np.float32]
    point: OperatingPoint
    false_alarms: int
    hours: float

    @classmethod
    def of(
        cls,
        clips: Sequence[ClipScore],
        test: Measured,
        point: OperatingPoint,
        settings: DetectorSettings,
        hop_s: float,
    ) -> "Outcomes":
        """What clips become at the operating point that `test` was measured at."""
        wrong = [c.fires(point.threshold, settings, hop_s) != c.positive for c in clips]
        return cls(
            clip=np.array([c.clip for c in clips], dtype=np.str_),
            group=np.array([c.group for c in clips], dtype=np.str_),
            cohort=np.array([c.cohort for c in clips], dtype=np.str_),
            positive=np.array([c.positive for c in clips], dtype=np.bool_),
            wrong=np.array(wrong, dtype=np.bool_),
            score=np.array([c.score for c in clips], dtype=np.float32),
            point=point,
            false_alarms=test.false_alarms,
            hours=test.hours,
        )

    def write(self, path: Path) -> None:
        """Write `outcomes.npz`."""
        point = self.point
        numbers = (VERSION, point.threshold, point.target_fah, self.false_alarms, self.hours)
        arrays: dict[str, Any] = dict(zip(SCALARS, map(np.array, numbers), strict=True))
        file = io.BytesIO()
        np.savez_compressed(file, **arrays, **{name: getattr(self, name) for name in COLUMNS})
        write_atomic(path, file.getvalue())

    @classmethod
    def read(cls, path: Path) -> "Outcomes":
        """Read what `write` wrote. Raises DataError."""
        hint = "test the run again: wakeword-tui evaluate RUN"
        if not path.exists():
            raise DataError(f"{path.parent.name} does not say what became of each clip", hint)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                columns = {name: arrays[name] for name in COLUMNS}
                version, *numbers = (float(arrays[name]) for name in SCALARS)
        except DAMAGE as problem:
            raise DataError(f"{path} cannot be read: {problem}", hint) from problem
        shapes = {column.shape for column in columns.values()}
        kinds = {name: column.dtype.kind for name, column in columns.items()}
        if kinds != COLUMNS or shapes != {columns["clip"].shape[:1]}:
            raise DataError(f"{path} holds something else than the outcomes of clips", hint)
        if version != VERSION:
            raise DataError(f"{path} was made when clips were heard otherwise", hint)
        threshold, target_fah, alarms, hours = numbers
        point = OperatingPoint(threshold, target_fah)
        return cls(**columns, point=point, false_alarms=int(alarms), hours=hours)


@dataclass(frozen=True, slots=True)
class Paired:
    """A cohort that both sides heard: the clips each got wrong, and the ratio B / A of the rates.

    The interval of the ratio comes from drawing whole groups, or clips where there are fewer than
    `LEAST_GROUPS` of them; `p` is McNemar's.
    """

    cohort: str
    positive: bool
    a: Share
    b: Share
    groups: int
    ratio: float
    low: float
    high: float
    only_a: int
    only_b: int
    p: float

    @property
    def verdict(self) -> Verdict:
        """Whether B gets fewer clips wrong; "same" if the clips show no difference.

        p must agree: with a handful of clips wrong the drawn interval collapses onto the ratio.
        """
        return _verdict((self.low, self.high)) if self.p < 0.05 else "same"


@dataclass(frozen=True, slots=True)
class Alarms:
    """False alarms of both sides on their streams, and the ratio B / A of the rates per hour."""

    a: int
    hours_a: float
    b: int
    hours_b: float
    ratio: float
    low: float
    high: float

    @property
    def enough(self) -> bool:
        """Whether the baseline has the alarms that it takes to show a change."""
        return self.a >= LEAST_ALARMS

    @property
    def verdict(self) -> Verdict:
        """Whether B has fewer false alarms an hour; "same" if no difference is shown."""
        return _verdict((self.low, self.high)) if self.enough else "same"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Cohorts in the order A heard them, and the streams.

    `pairs` are the clips both sides heard, of `clips` that either did in those cohorts.
    `target_fah` are the targets of all runs: with more than one, misses are traded for alarms.
    """

    cohorts: tuple[Paired, ...]
    alarms: Alarms
    pairs: int
    clips: int
    target_fah: tuple[float, ...]


def compare(a: Sequence[Outcomes], b: Sequence[Outcomes]) -> Comparison:
    """Hold the runs of B against those of A on the clips that both heard.

    Several runs are as one. A clip that several seeds heard is one clip still, wrong as often as
    they got it wrong, and their hours are the same hours. Raises DataError when the two sides heard
    different clips.
    """
    rows_a, rows_b = _Rows(a), _Rows(b)
    both = [key for key, at in rows_a.at.items() if len(at) == len(rows_b.at.get(key, ()))]
    cohorts = {key[1] for key in both}
    clips = max(sum(key[1] in cohorts for key in rows.at) for rows in (rows_a, rows_b))
    if len(both) < SHARED * clips or not both:
        raise DataError(
            f"{len(both)} of {clips or len(rows_a.at)} clips were heard by both sides",
            "compare runs of the same data and folds, as many on each side",
        )
    named = dict.fromkeys(key[1] for key in both)
    return Comparison(
        tuple(
            _paired(cohort, [k for k in both if k[1] == cohort], rows_a, rows_b) for cohort in named
        ),
        _alarms(a, b, _seeds(both, rows_a)),
        len(both),
        clips,
        tuple(sorted({run.point.target_fah for run in (*a, *b)})),
    )


def _seeds(keys: Sequence[Key], rows: "_Rows") -> int:
    """How often the same was trained: a word of one wake word is another clip to other runs."""
    words = [key for key in keys if key[2]]
    return max(len(rows.at[key]) for key in words or keys)


class _Rows:
    """The outcomes of several runs: by name, cohort and kind of a clip, the rows it has."""

    def __init__(self, runs: Sequence[Outcomes]) -> None:
        self.wrong = np.concatenate([run.wrong for run in runs])
        self.group = np.concatenate([run.group for run in runs])
        columns = [np.concatenate([getattr(run, name) for run in runs]).tolist()
                   for name in ("clip", "cohort", "positive")]  # fmt: skip
        self.at: dict[Key, list[int]] = {}
        for row, clip in enumerate(zip(*columns, strict=True)):
            if clip[0]:
                self.at.setdefault(clip, []).append(row)

    def times_wrong(self, keys: Sequence[Key]) -> NDArray[np.int64]:
        """How often each clip was wrong, `(K,)`."""
        return np.array([self.wrong[self.at[key]].sum() for key in keys], dtype=np.int64)


def _paired(cohort: str, keys: Sequence[Key], a: _Rows, b: _Rows) -> Paired:
    """A cohort is judged by its wake words, or by its other clips where it has none."""
    words = [key for key in keys if key[2]]
    chosen = words or keys
    wrong_a, wrong_b = a.times_wrong(chosen), b.times_wrong(chosen)
    heard = sum(len(a.at[key]) for key in chosen)
    names = a.group[[a.at[key][0] for key in chosen]]
    groups = np.unique(names, return_inverse=True)[1]
    count = int(groups.max()) + 1
    units = groups if count >= LEAST_GROUPS else np.arange(len(chosen))
    low, high = 0.0, math.inf
    if wrong_a.any() or wrong_b.any():
        low, high = bootstrap(np.bincount(units, wrong_b), np.bincount(units, wrong_a))
    share_a, share_b = (Share.of(int(wrong.sum()), heard) for wrong in (wrong_a, wrong_b))
    only_a, only_b = int((wrong_a > wrong_b).sum()), int((wrong_b > wrong_a).sum())
    return Paired(
        cohort=cohort,
        positive=bool(words),
        a=share_a,
        b=share_b,
        groups=count,
        ratio=_ratio(share_b.wrong, share_a.wrong),
        low=low,
        high=high,
        only_a=only_a,
        only_b=only_b,
        p=mcnemar(only_a, only_b),
    )


def _alarms(a: Sequence[Outcomes], b: Sequence[Outcomes], seeds: int) -> Alarms:
    """Count alarms over each side's hours, which every one of its seeds has heard."""
    counts = [
        (round(sum(run.false_alarms for run in side) / seeds), sum(r.hours for r in side) / seeds)
        for side in (a, b)
    ]
    ratio, (low, high) = rate_ratio(*counts[0], *counts[1])
    return Alarms(*counts[0], *counts[1], ratio, low, high)


def _ratio(over: int, under: int) -> float:
    if under == 0:
        return math.inf if over else 1.0
    return over / under


def _verdict(interval: Interval) -> Verdict:
    low, high = interval
    return "fewer" if high < 1 else "more" if low > 1 else "same"
