"""Runs side by side: where two tests differ.

Two runs that heard the same clips are compared clip by clip, which shows a smaller difference than
two rates with an interval each. A is the baseline, B what is held against it. A side may be several
runs: folds, seeds, words.

Thresholds lie where validation froze them, and one side may miss less only because it fires more.
So the words are compared again where both sides give as many false alarms (`AtEqualAlarms`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.errors import DataError
from engine.metrics import Floats, Interval, bootstrap, mcnemar, rate_ratio
from engine.outcomes import Outcomes
from engine.report import LEAST_GROUPS, Share
from engine.runs import Run

Verdict = Literal["fewer", "more", "same"]
Key = tuple[str, str, bool]

SHARED = 0.9
"""Of the larger test, the share of clips that must be paired."""
LEAST_ALARMS = 20
"""From fewer alarms of the baseline no change is shown."""


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
    """False alarms of both sides on their streams, and the ratio B / A of the rates per hour.

    Of different streams it says as much as of the detectors, so that nothing is shown.
    """

    a: int
    hours_a: float
    b: int
    hours_b: float
    ratio: float
    low: float
    high: float
    same_streams: bool = True

    @property
    def enough(self) -> bool:
        """Whether the baseline has the alarms that it takes to show a change."""
        return self.a >= LEAST_ALARMS

    @property
    def verdict(self) -> Verdict:
        """Whether B has fewer false alarms an hour; "same" if no difference is shown."""
        shown = self.enough and self.same_streams
        return _verdict((self.low, self.high)) if shown else "same"


@dataclass(frozen=True, slots=True)
class AtEqualAlarms:
    """The words of all cohorts, with all thresholds of a side moved by one shift of their logits.

    It is the lowest shift that keeps the alarms: `alarms` on the hours of A, and as many an hour on
    those of B. The test's own streams choose it, so this ranks two sides and is no number of
    either; how much hangs on single alarms is not in the interval.
    """

    alarms: int
    words: Paired


@dataclass(frozen=True, slots=True)
class Comparison:
    """Cohorts in the order A heard them, the streams, and the words at equal alarms.

    The last is at the target, and at what A and B gave; empty where there is no stream or word, or
    where the sides heard different streams.
    `pairs` are the clips both sides heard, of `clips` that either did in those cohorts.
    `target_fah` are the targets of all runs: with more than one, misses are traded for alarms.
    """

    cohorts: tuple[Paired, ...]
    alarms: Alarms
    at_equal_alarms: tuple[AtEqualAlarms, ...]
    pairs: int
    clips: int
    target_fah: tuple[float, ...]


def compare_runs(a: Sequence[Run], b: Sequence[Run]) -> Comparison:
    """Hold the tests of runs against each other, as `compare` does.

    Raises DataError where only some of them were tested: trials of a search are judged on
    validation, which chose them.
    """
    if len({run.recipe().evaluate.split for run in (*a, *b)}) > 1:
        raise DataError(
            "some of the runs were tested, the others judged on validation alone",
            "compare trials of a search with trials, and tests with tests",
        )
    return compare(*([Outcomes.read(run.outcomes) for run in side] for side in (a, b)))


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
    alarms = _alarms(a, b, _seeds(both, rows_a))
    return Comparison(
        tuple(
            _paired(cohort, [k for k in both if k[1] == cohort], rows_a, rows_b) for cohort in named
        ),
        alarms,
        _at_equal_alarms(a, b, [key for key in both if key[2]], alarms),
        len(both),
        clips,
        tuple(sorted({run.point.target_fah for run in (*a, *b)})),
    )


def _seeds(keys: Sequence[Key], rows: "_Rows") -> int:
    """How often the same was trained: a word of one wake word is another clip to other runs."""
    words = [key for key in keys if key[2]]
    return max(len({rows.run[row] for row in rows.at[key]}) for key in words or keys)


class _Rows:
    """The outcomes of several runs: by name, cohort and kind of a clip, the rows it has."""

    def __init__(self, runs: Sequence[Outcomes]) -> None:
        self.wrong = np.concatenate([run.wrong for run in runs])
        self.group = np.concatenate([run.group for run in runs])
        self.run = [n for n, run in enumerate(runs) for _ in run.clip]
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
    """Count alarms over each side's hours, which every one of its seeds has heard.

    Seeds of the same hours are no more evidence than one: the interval is of their mean.
    """
    heard = [(sum(r.false_alarms for r in side), sum(r.hours for r in side)) for side in (a, b)]
    ratio, _ = rate_ratio(*heard[0], *heard[1])
    means = [(round(alarms / seeds), hours / seeds) for alarms, hours in heard]
    _, (low, high) = rate_ratio(*means[0], *means[1])
    sounds = [sorted(run.sound for run in side) for side in (a, b)]
    return Alarms(*means[0], *means[1], ratio, low, high, sounds[0] == sounds[1])


def _at_equal_alarms(
    a: Sequence[Outcomes], b: Sequence[Outcomes], words: Sequence[Key], alarms: Alarms
) -> tuple[AtEqualAlarms, ...]:
    heard = all(run.thresholds.size for run in (*a, *b))
    if not words or not heard or not alarms.same_streams:
        return ()
    target = min(run.point.target_fah for run in (*a, *b))
    of_b = alarms.b / alarms.hours_b * alarms.hours_a
    kept = {int(count + 1e-9) for count in (target * alarms.hours_a, alarms.a, of_b)}
    found = []
    for count in sorted(kept):
        rate = count / alarms.hours_a
        moved = (_Rows([_missed(run, _shift(side, rate)) for run in side]) for side in (a, b))
        found.append(AtEqualAlarms(count, _paired("all conditions", words, *moved)))
    return tuple(found)


def _shift(runs: Sequence[Outcomes], rate: float) -> float:
    """The lowest shift of all thresholds' logits that keeps so many false alarms an hour."""
    most = rate * sum(run.hours for run in runs) + 1e-6
    steps = [_logit(run.thresholds) - _logit(run.point.threshold) for run in runs]
    shifts = np.unique(np.concatenate(steps))[::-1]
    total = np.zeros(shifts.size)
    for run, falling in zip(runs, steps, strict=True):
        # Between two thresholds the alarms are those of the lower; below the last nobody counted.
        total += np.append(run.alarms, np.inf)[np.searchsorted(-falling, -shifts)]
    kept = int(np.searchsorted(total, most, side="right"))
    return float(shifts[kept - 1]) if kept else math.inf


def _missed(run: Outcomes, shift: float) -> Outcomes:
    """A run whose words are missed where they do not reach its shifted threshold."""
    return replace(run, wrong=_logit(run.peak) - _logit(run.point.threshold) < shift)


def _logit(level: ArrayLike) -> Floats:
    held = np.clip(level, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(held / (1 - held)))


def _ratio(over: int, under: int) -> float:
    if under == 0:
        return math.inf if over else 1.0
    return over / under


def _verdict(interval: Interval) -> Verdict:
    low, high = interval
    return "fewer" if high < 1 else "more" if low > 1 else "same"
