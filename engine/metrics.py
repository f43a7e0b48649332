"""The numbers of evaluation.md: pAUC, EER, FAH, FRR, the DET curve, the operating point, intervals.

Clips give FRR, pAUC and EER; streams give false alarms per hour (FAH), counted as events of the
detector. Both are computed from vote levels (detector.py), so that one pass of the model serves
every threshold. Where there is nothing to count, a rate is 0 with an interval that says "anything",
and pAUC and EER are those of chance.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, betaincinv, gammaincinv

from engine.detector import Detection, detect, firings, refractory_hops
from engine.errors import DataError
from engine.recipe import DetectorSettings

Floats = NDArray[np.float64]
Interval = tuple[float, float]

GRACE_S = 0.5
"""A detection this long after the end of the word still counts as a hit."""
MOST = 1 - 1e-6
"""The highest threshold: above it float32 scores say nothing."""
TAIL_LEAST, TAIL_HOURS = 10, 0.5
"""Peaks, and hours they are of, that a tail needs at least: from less it is drawn too far."""
HELD_S = 10.0
"""A detector that stays on counts as an alarm every 10 s: hysteresis turns an endless one into a
single event, and a useless threshold would look like a perfect one."""


@dataclass(frozen=True, slots=True)
class StreamScores:
    """The vote levels (H,) of a stream without a wake word, and its length."""

    levels: Floats
    seconds: float
    first_time_s: float = 0.0
    """The end of the first window."""
    sound: str = ""
    """What tells its sound from any other."""


def hops_within(
    hops: int, first_time_s: float, hop_s: float, start_s: float, end_s: float
) -> tuple[int, int]:
    """The hops whose windows end in [start, end + 0.5 s]: the first one, and one past the last."""
    first = math.ceil((start_s - first_time_s) / hop_s - 1e-6)
    last = math.floor((end_s + GRACE_S - first_time_s) / hop_s + 1e-6)
    return min(max(first, 0), hops), min(max(last + 1, 0), hops)


def peak_within(
    levels: Floats, first_time_s: float, hop_s: float, start_s: float, end_s: float
) -> float:
    """Highest of the vote levels (H,) in [start, end + 0.5 s]; 0 if no window ends there."""
    first, stop = hops_within(levels.size, first_time_s, hop_s, start_s, end_s)
    return float(levels[first:stop].max(initial=0.0))


# Intervals: two-sided 95 %, and what an evaluation has proved, one-sided 95 %.


def poisson_interval(events: int, hours: float) -> Interval:
    """Exact interval (Garwood 1936) of a rate per hour; 0 to infinity when there are no hours."""
    if hours <= 0:
        return 0.0, math.inf
    low = float(gammaincinv(events, 0.025)) if events else 0.0
    return low / hours, float(gammaincinv(events + 1, 0.975)) / hours


def binomial_interval(events: int, trials: int) -> Interval:
    """Exact interval (Clopper and Pearson 1934) of a share; 0 to 1 when there are no trials."""
    low = float(betaincinv(events, trials - events + 1, 0.025)) if events else 0.0
    high = float(betaincinv(events + 1, trials - events, 0.975)) if events < trials else 1.0
    return low, high


def proved_fah(alarms: int, hours: float) -> float:
    """The FAH that `alarms` in `hours` prove not to be exceeded, at 95 %."""
    return float(gammaincinv(alarms + 1, 0.95)) / hours if hours > 0 else math.inf


def hours_to_prove(target_fah: float, alarms: int) -> float:
    """Hours of stream that prove the target at 95 % if they hold no more than `alarms`."""
    return float(gammaincinv(alarms + 1, 0.95)) / target_fah


def bootstrap(over: ArrayLike, under: ArrayLike, draws: int = 2000, seed: int = 0) -> Interval:
    """Interval of sum(over) / sum(under) over groups (G,) drawn with replacement; 0 / 0 is 1."""
    counts = np.stack([np.asarray(over), np.asarray(under)], axis=1)
    size = len(counts)
    times_drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), draws)
    above, below = (times_drawn @ counts).T
    nothing = np.where(above > 0, np.inf, 1.0)
    ratios = np.divide(above, below, out=nothing, where=below > 0)
    low, high = np.quantile(ratios, [0.025, 0.975], method="nearest")  # infinity has no mean
    return float(low), float(high)


def mcnemar(one: int, other: int) -> float:
    """Two-sided exact p of McNemar's test (1947): how surely two runs differ on the same clips.

    `one` and `other` count the clips that only the one or only the other got wrong.
    """
    return min(1.0, 2 * float(bdtr(min(one, other), one + other, 0.5)))


def rate_ratio(a: int, hours_a: float, b: int, hours_b: float) -> tuple[float, Interval]:
    """Rate of `b` events over that of `a`, with its exact interval.

    Of all the events, those of `b` are binomial (Przyborowski and Wilenski 1940). Without events
    or hours anything may be true.
    """
    if hours_a <= 0 or hours_b <= 0 or a + b == 0:
        return 1.0, (0.0, math.inf)
    low, high = (
        share / (1 - share) * hours_a / hours_b if share < 1 else math.inf
        for share in binomial_interval(b, a + b)
    )
    return b / a * hours_a / hours_b if a else math.inf, (low, high)


# Clips: how well the scores rank positives (P,) above negatives (N,).


def pauc(positive: ArrayLike, negative: ArrayLike, max_fpr: float) -> float:
    """Partial area under the ROC up to `max_fpr`, standardised by McClish (1989).

    0.5 is chance and 1 is perfect, as `sklearn.metrics.roc_auc_score(max_fpr=...)` has it.
    """
    curve = _roc(positive, negative)
    if curve is None:
        return 0.5
    fpr, tpr = curve
    stop = int(np.searchsorted(fpr, max_fpr, side="right"))
    end = np.interp(max_fpr, fpr[stop - 1 : stop + 1], tpr[stop - 1 : stop + 1])
    area = np.trapezoid(np.append(tpr[:stop], end), np.append(fpr[:stop], max_fpr))
    chance = 0.5 * max_fpr**2
    return float(0.5 * (1 + (area - chance) / (max_fpr - chance)))


def eer(positive: ArrayLike, negative: ArrayLike) -> float:
    """Equal error rate: where the share of missed positives meets that of accepted negatives."""
    curve = _roc(positive, negative)
    if curve is None:
        return 0.5
    fpr, tpr = curve
    excess = fpr - (1 - tpr)  # rises from -1 to 1
    after = int(np.searchsorted(excess, 0.0))
    return float(np.interp(0.0, excess[after - 1 : after + 1], fpr[after - 1 : after + 1]))


def _roc(positive: ArrayLike, negative: ArrayLike) -> tuple[Floats, Floats] | None:
    """False and true positive rate at every distinct score, highest first; None without both."""
    sizes = np.size(positive), np.size(negative)
    if 0 in sizes:
        return None
    scores = np.concatenate([np.ravel(positive), np.ravel(negative)])
    order = np.argsort(-scores)
    is_positive = np.repeat([1, 0], sizes)[order]
    end_of_tie = np.append(np.diff(scores[order]) != 0, True)
    tpr = np.cumsum(is_positive)[end_of_tie] / sizes[0]
    fpr = np.cumsum(1 - is_positive)[end_of_tie] / sizes[1]
    return np.append(0.0, fpr), np.append(0.0, tpr)


# Streams: false alarms, the operating point, the DET curve.


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The threshold that validation chose, and the FAH that it was chosen for."""

    threshold: float
    target_fah: float


@dataclass(frozen=True, slots=True)
class DetCurve:
    """FAH and FRR over falling thresholds, all (K,).

    `fah` is the highest met at the threshold or above it: alarms that melt into one as the
    threshold falls are no improvement.
    """

    thresholds: Floats
    fah: Floats
    frr: Floats

    def frr_at(self, fah: ArrayLike) -> Floats:
        """FRR at the lowest threshold that keeps each FAH; 1 where none does. (X,) -> (X,)."""
        kept = np.searchsorted(self.fah, np.asarray(fah) * (1 + 1e-9), side="right")
        return np.append(1.0, self.frr)[kept]

    def area(self, low: float, high: float) -> float:
        """Mean FRR over FAH log-spaced from `low` to `high`: the threshold-free summary."""
        return float(self.frr_at(np.geomspace(low, high, 200)).mean())

    def points(self, hours: float) -> list[list[float]]:
        """[FAH, FRR] for drawing, from the lowest FAH that the hours can show (one alarm)."""
        shown = np.unique(np.append(1 / hours, self.fah[self.fah > 1 / hours]))
        return [[float(x), float(y)] for x, y in zip(shown, self.frr_at(shown), strict=True)]


def hours_of(streams: Iterable[StreamScores]) -> float:
    """The length of all the streams together."""
    return sum(stream.seconds for stream in streams) / 3600


def count_alarms(
    streams: Sequence[StreamScores], threshold: float, settings: DetectorSettings, hop_s: float
) -> list[list[Detection]]:
    """The false alarms of each stream, as the streaming detector would give them."""
    return [
        detect(stream.levels, threshold, settings, hop_s, stream.first_time_s) for stream in streams
    ]


def false_alarms(
    streams: Sequence[StreamScores],
    thresholds: Sequence[float],
    settings: DetectorSettings,
    hop_s: float,
) -> list[int]:
    """The false alarms of all streams at each threshold, by the rule of `HELD_S`; 0 without any."""
    if not thresholds or not any(stream.levels.size for stream in streams):
        return [0] * len(thresholds)
    joined = _Joined.of(streams, settings, hop_s).thinned(min(thresholds))
    return [joined.alarms(threshold) for threshold in thresholds]


def choose_operating_point(
    streams: Sequence[StreamScores], target_fah: float, settings: DetectorSettings, hop_s: float
) -> OperatingPoint:
    """The lowest threshold that keeps the target FAH, as does every threshold above it.

    Exact: alarms change only where the threshold passes a level or a level's re-arm point, and
    each such place is tried from the top down. Among equals it is the smallest float above the
    highest level that must not fire, then held in [1e-6, 1 - 1e-6]: a model whose false alarms
    score above that cannot keep its target. `HELD_S` counts for a detector that stays on.
    """
    allowed = math.floor(target_fah * hours_of(streams) + 1e-9)
    joined = _Joined.of(streams, settings, hop_s)
    most_hops_on = math.floor(allowed * HELD_S / hop_s + 1e-9)
    floor = joined.highest(most_hops_on + 1)
    thin = joined.thinned(floor)
    rearm = np.minimum(thin.levels + settings.hysteresis, 2 * thin.levels)
    steps = np.unique(np.concatenate([[0.0], thin.levels, rearm]))
    threshold = math.inf
    for step in _just_above(steps[steps >= floor])[::-1]:
        if thin.alarms(step) > allowed:
            break
        threshold = float(step)
    return OperatingPoint(min(max(threshold, 1e-6), MOST), target_fah)


def tail_threshold(
    streams: Sequence[StreamScores],
    target_fah: float,
    settings: DetectorSettings,
    hop_s: float,
    peaks: int,
) -> float:
    """Where an exponential tail through the highest `peaks` expects the target FAH; 0 without it.

    The lowest threshold that keeps one alarm an hour on an hour of streams hangs on one peak, and
    is exceeded elsewhere half of the time. So the excess of the highest peaks, a refractory time
    apart, is fitted in logits (peaks over threshold, Pickands 1975), and its mean taken a standard
    error larger, 1 / sqrt(peaks) of it, lest a short tail is one by luck. Not where there are fewer
    than `TAIL_LEAST` peaks or less than `TAIL_HOURS`, or where the target allows more than `peaks`
    anyway.
    """
    joined, hours = _Joined.of(streams, settings, hop_s), hours_of(streams)
    highest = joined.peaks_apart(peaks + 1, max(1, refractory_hops(settings, hop_s)))
    count = len(highest) - 1
    if count < TAIL_LEAST or hours < TAIL_HOURS or target_fah * hours > count:
        return 0.0
    logits = np.log(highest / (1 - highest))
    spread = float(np.mean(logits[:count]) - logits[count]) * (1 + 1 / math.sqrt(count))
    logit = float(logits[count]) + spread * math.log(count / (target_fah * hours))
    return 1 / (1 + math.exp(-logit))


def det_curve(
    clip_peaks: ArrayLike, streams: Sequence[StreamScores], settings: DetectorSettings, hop_s: float
) -> DetCurve:
    """The DET curve of positive clips (P,) and streams, at up to about 400 thresholds.

    They lie just above the peaks of the streams: above each of the 64 highest, then log-spaced.
    """
    joined, hours = _Joined.of(streams, settings, hop_s), hours_of(streams)
    peaks = joined.peaks()
    lowest = min(peaks.size, 64 + int(1000 * hours))
    ranks = np.concatenate([np.arange(min(64, lowest)), np.geomspace(1, lowest, 400) - 1])
    thresholds = _just_above(peaks[np.unique(ranks.astype(np.int64))])
    thin = joined.thinned(float(thresholds[-1]))
    alarms = np.maximum.accumulate([thin.alarms(threshold) for threshold in thresholds])
    clips = np.sort(np.ravel(clip_peaks))
    frr = np.searchsorted(clips, thresholds) / max(clips.size, 1)
    return DetCurve(thresholds, alarms / hours, frr)


def _just_above(levels: Floats) -> Floats:
    return np.nextafter(levels, np.inf)


@dataclass(frozen=True, slots=True)
class _Joined:
    """Vote levels (H,) of all streams as one, and their hop numbers (H,).

    The streams stand apart by a silence that re-arms the detector and outlasts its refractory.
    """

    levels: Floats
    at: NDArray[np.int64]
    settings: DetectorSettings
    hop_s: float

    @classmethod
    def of(
        cls, streams: Sequence[StreamScores], settings: DetectorSettings, hop_s: float
    ) -> "_Joined":
        if hours_of(streams) <= 0 or not any(stream.levels.size for stream in streams):
            raise DataError(
                "there is no stream to count false alarms on",
                "add long recordings without the wake word",
            )
        silence = np.full(max(1, refractory_hops(settings, hop_s)), -np.inf)
        parts = [part for stream in streams for part in (silence, stream.levels)]
        levels = np.concatenate([*parts, silence])
        return cls(levels, np.arange(levels.size), settings, hop_s)

    def peaks(self) -> Floats:
        """The distinct local maxima, highest first."""
        before, here, after = self.levels[:-2], self.levels[1:-1], self.levels[2:]
        return np.unique(here[(here > before) & (here >= after)])[::-1]

    def peaks_apart(self, most: int, hops: int) -> Floats:
        """The highest peaks, each `hops` from the next, highest first; in (0, 1)."""
        levels, found = self.levels.copy(), list[float]()
        while len(found) < most:
            top = int(levels.argmax())
            if levels[top] <= 0.0:
                break
            found.append(min(max(float(levels[top]), 1e-9), 1 - 1e-9))
            levels[max(0, top - hops) : top + hops + 1] = 0.0
        return np.array(found)

    def highest(self, rank: int) -> float:
        """The level of that rank, 1 for the highest; 0 if there are not so many."""
        if rank > self.levels.size:
            return 0.0
        return max(0.0, float(np.partition(self.levels, -rank)[-rank]))

    def thinned(self, floor: float) -> "_Joined":
        """Only what thresholds from `floor` up can see.

        That is the levels from there up and, of every gap between them, the lowest level, which
        decides whether the detector was re-armed.
        """
        hits = np.flatnonzero(self.levels >= floor)
        if hits.size == 0:
            return self
        lowest = np.minimum.reduceat(self.levels, hits)  # from each hit to before the next
        gap = lowest < self.levels[hits]
        at = np.concatenate([hits, hits[gap] + 1])
        order = np.argsort(at)
        levels = np.concatenate([self.levels[hits], lowest[gap]])
        return _Joined(levels[order], at[order], self.settings, self.hop_s)

    def alarms(self, threshold: float) -> int:
        """False alarms at a threshold, or what `HELD_S` makes of the time spent above it."""
        fired = firings(self.levels, threshold, self.settings, self.hop_s, self.at).size
        on_s = np.count_nonzero(self.levels >= threshold) * self.hop_s
        return max(fired, math.ceil(on_s / HELD_S - 1e-9))


def middle_and_worst(took_ms: Iterable[float]) -> tuple[float, float]:
    """The times `(N,)` that half, and one in twenty, of them are not under; 0 without any."""
    p50, p95 = np.quantile([*took_ms] or [0.0], [0.5, 0.95], method="higher")
    return float(p50), float(p95)
