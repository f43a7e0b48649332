"""What a run amounts to: one split measured at a frozen threshold, folds pooled, report.json."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from engine.detector import firings
from engine.errors import DataError
from engine.metrics import (
    MOST,
    Floats,
    Interval,
    OperatingPoint,
    StreamScores,
    binomial_interval,
    bootstrap,
    det_curve,
    eer,
    false_alarms,
    hours_of,
    pauc,
    poisson_interval,
)
from engine.recipe import DetectorSettings, Evaluate

SCHEMA = 1
CLEAN = "clean"
"""The cohort of the clips as they were recorded; the headline numbers are of it alone."""
HALVES = "half words"
"""The cohort of test words with one half silenced: negatives, but in no ranking."""
NEGATIVES = ("other words", "partial", "confusable", HALVES)
"""Cohorts without a wake word: what is wrong there has fired."""
LEAST_GROUPS = 10
"""Fewer groups are not drawn from: an interval of clips, one by one, has to do."""


@dataclass(frozen=True, slots=True)
class ClipScore:
    """What a clip leaves behind. All of it was heard with a detector that started afresh."""

    score: float
    """Highest smoothed score over the clip."""
    peak: float
    """Highest vote level in the word's span (`peak_within`), or over the whole negative clip."""
    positive: bool
    group: str
    cohort: str = CLEAN
    clip: str = ""
    """What the clip is called in every run, so that runs can be compared; "" if it has no name."""
    levels: Floats | None = None
    """Vote levels (H,) from before the clip to its end; without them the peak decides alone."""
    span: tuple[int, int] = (0, 0)
    """First hop of the word's span, and the first one after it."""

    def fires(self, threshold: float, settings: DetectorSettings, hop_s: float) -> bool:
        """Whether the detector fires in the span; a false alarm just before may keep it quiet."""
        if self.levels is None or self.peak < threshold:
            return bool(self.peak >= threshold)
        hops = firings(self.levels, threshold, settings, hop_s)
        return bool(((hops >= self.span[0]) & (hops < self.span[1])).any())


@dataclass(frozen=True, slots=True)
class Share:
    """How many clips went wrong, with the Clopper-Pearson interval of the rate.

    Wrong is a miss for wake words, and a detection where the clips are negatives.
    """

    clips: int
    wrong: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, wrong: int, clips: int) -> "Share":
        """The share of a count."""
        return cls(clips, wrong, wrong / max(clips, 1), *binomial_interval(wrong, clips))


@dataclass(frozen=True, slots=True)
class Measured:
    """A frozen threshold on one split: the `validation` and `test` of report.json.

    `frr_low, frr_high` are Clopper-Pearson; `frr_group_low, frr_group_high` come from drawing whole
    groups, and repeat the former where there are fewer than ten or all clips fare alike.
    `cohorts` and `groups` are shares by name, in the order they were heard in. `sweep` is
    [threshold, false alarms, missed] over thresholds chosen on validation, the same in both splits,
    so that another target can be chosen later without looking at the test set; the frozen one is
    among them.
    """

    pauc: float
    max_fpr: float
    eer: float
    fah: float
    fah_low: float
    fah_high: float
    false_alarms: int
    hours: float
    frr: float
    frr_low: float
    frr_high: float
    frr_group_low: float
    frr_group_high: float
    clips: int
    missed: int
    det: list[list[float]]
    det_area: float
    det_fah: list[float]
    sweep: list[list[float]]
    cohorts: dict[str, Share]
    groups: dict[str, Share]

    @property
    def by_group(self) -> Interval | None:
        """The interval of the FRR from drawing whole groups; None where there are too few."""
        drawn = _drawable(self.groups, self.missed, self.clips)
        return (self.frr_group_low, self.frr_group_high) if drawn else None

    def at(self, threshold: float) -> "Measured":
        """The same split at another threshold of its sweep; by group it is not known there."""
        row = next((row for row in self.sweep if row[0] == threshold), None)
        if row is None:
            raise DataError(f"{threshold} is not among the thresholds measured", "choose on Bench")
        alarms, words = int(row[1]), Share.of(int(row[2]), self.clips)
        low, high = poisson_interval(alarms, self.hours)
        return replace(
            self,
            fah=alarms / self.hours if self.hours else 0.0,
            fah_low=low,
            fah_high=high,
            false_alarms=alarms,
            frr=words.rate,
            frr_low=words.low,
            frr_high=words.high,
            frr_group_low=words.low,
            frr_group_high=words.high,
            missed=words.wrong,
            cohorts={},
            groups={},
        )

    def frr_at(self, target_fah: float) -> float:
        """FRR at a FAH on the DET curve, whatever threshold is stored; 1 below all it shows."""
        kept = [frr for fah, frr in self.det if fah <= target_fah * (1 + 1e-9)]
        return kept[-1] if kept else 1.0

    def to_json(self) -> str:
        """Strict JSON; the infinite upper FAH of a split without streams becomes null."""
        return json.dumps(_plain(asdict(self)), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Measured":
        """Read what `to_json` wrote."""
        return _measured(json.loads(text))


@dataclass(frozen=True, slots=True)
class _Ranking:
    pauc: float
    max_fpr: float
    eer: float
    det: list[list[float]]
    det_area: float
    det_fah: list[float]
    sweep: list[list[float]]


def measure(
    clips: Sequence[ClipScore],
    streams: Sequence[StreamScores],
    point: OperatingPoint,
    settings: DetectorSettings,
    hop_s: float,
    rules: Evaluate,
    thresholds: Sequence[float] | None = None,
) -> Measured:
    """Everything about one split at a threshold that was chosen elsewhere.

    The headline numbers, the curve and the groups are of the words in the `CLEAN` cohort, which all
    negatives but `HALVES` are ranked against. A cohort is judged by its positives, or by its
    negatives where it has no positive. The sweep runs over `thresholds`, or over those of the
    split's own DET curve, none above `MOST`, and `point`'s.
    """
    words = [clip for clip in clips if clip.positive and clip.cohort == CLEAN]
    others = [clip.score for clip in clips if not clip.positive and clip.cohort != HALVES]
    scores = [clip.score for clip in words], others
    peaks, hours = [clip.peak for clip in words], hours_of(streams)
    heard = any(stream.levels.size for stream in streams)
    curve = det_curve(peaks, streams, settings, hop_s) if heard else None
    own = {point.threshold, *np.minimum(curve.thresholds, MOST).tolist()} if curve else set()
    swept = sorted(own, reverse=True) if thresholds is None else thresholds
    ranking = _Ranking(
        pauc=pauc(*scores, rules.max_fpr),
        max_fpr=rules.max_fpr,
        eer=eer(*scores),
        det=curve.points(hours) if curve else [],
        det_area=curve.area(*rules.det_fah) if curve else 1.0,
        det_fah=list(rules.det_fah),
        sweep=_sweep(swept, words, streams, settings, hop_s),
    )
    fired = {id(clip): clip.fires(point.threshold, settings, hop_s) for clip in clips}
    return _assemble(
        ranking,
        false_alarms(streams, [point.threshold], settings, hop_s)[0],
        hours,
        _share(words, fired),
        _shares([(c.cohort, c) for c in clips if c.positive or c.cohort != CLEAN], fired),
        _shares([(clip.group, clip) for clip in words], fired),
    )


def _sweep(
    thresholds: Sequence[float],
    words: Sequence[ClipScore],
    streams: Sequence[StreamScores],
    settings: DetectorSettings,
    hop_s: float,
) -> list[list[float]]:
    """A row for each threshold: itself, false alarms, misses."""
    alarms = false_alarms(streams, thresholds, settings, hop_s)
    missed = [sum(not clip.fires(t, settings, hop_s) for clip in words) for t in thresholds]
    return [list(row) for row in zip(thresholds, alarms, missed, strict=True)]


def pool(parts: Sequence[Measured]) -> Measured:
    """The out-of-fold tests as one: counts are added and every interval is computed afresh.

    pAUC, EER and DET area are means weighted by clips, since scores of different models share no
    scale. For the same reason there is no pooled DET curve or sweep: both are empty.
    """
    if len({part.max_fpr for part in parts}) != 1:
        raise DataError("reports can be pooled only if there are some, all with the same max_fpr")
    weights = [max(part.clips, 1e-9) for part in parts]
    values = [(part.pauc, part.eer, part.det_area) for part in parts]
    mean_pauc, mean_eer, area = np.average(values, axis=0, weights=weights).tolist()
    return _assemble(
        _Ranking(
            mean_pauc,
            parts[0].max_fpr,
            mean_eer,
            det=[],
            det_area=area,
            det_fah=parts[0].det_fah,
            sweep=[],
        ),
        sum(part.false_alarms for part in parts),
        sum(part.hours for part in parts),
        Share.of(sum(part.missed for part in parts), sum(part.clips for part in parts)),
        _added(part.cohorts for part in parts),
        _added(part.groups for part in parts),
    )


def _assemble(
    ranking: _Ranking,
    alarms: int,
    hours: float,
    words: Share,
    cohorts: dict[str, Share],
    groups: dict[str, Share],
) -> Measured:
    fah_low, fah_high = poisson_interval(alarms, hours)
    group_low, group_high = words.low, words.high
    if _drawable(groups, words.wrong, words.clips):
        counts = np.array([(group.wrong, group.clips) for group in groups.values()])
        group_low, group_high = bootstrap(counts[:, 0], counts[:, 1])
    return Measured(
        **asdict(ranking),
        fah=alarms / hours if hours else 0.0,
        fah_low=fah_low,
        fah_high=fah_high,
        false_alarms=alarms,
        hours=hours,
        frr=words.rate,
        frr_low=words.low,
        frr_high=words.high,
        frr_group_low=group_low,
        frr_group_high=group_high,
        clips=words.clips,
        missed=words.wrong,
        cohorts=cohorts,
        groups=groups,
    )


def _drawable(groups: dict[str, Share], missed: int, clips: int) -> bool:
    """Whether groups are enough to draw from; from no misses a draw says (0, 0)."""
    return len(groups) >= LEAST_GROUPS and 0 < missed < clips


def _share(clips: Sequence[ClipScore], fired: Mapping[int, bool]) -> Share:
    """Of the positives the missed, or, where there are none, of the negatives those that fire."""
    positives = [clip for clip in clips if clip.positive]
    count = sum(fired[id(clip)] for clip in positives or clips)
    wrong = len(positives) - count if positives else count
    return Share.of(wrong, len(positives or clips))


def _shares(named: Sequence[tuple[str, ClipScore]], fired: Mapping[int, bool]) -> dict[str, Share]:
    by_name: dict[str, list[ClipScore]] = {}
    for name, clip in named:
        by_name.setdefault(name, []).append(clip)
    return {name: _share(those, fired) for name, those in by_name.items()}


def _added(parts: Iterable[dict[str, Share]]) -> dict[str, Share]:
    """Shares of the same name, counted together, in the order they first appear in."""
    counts: dict[str, tuple[int, int]] = {}
    for name, share in (item for part in parts for item in part.items()):
        wrong, clips = counts.get(name, (0, 0))
        counts[name] = wrong + share.wrong, clips + share.clips
    return {name: Share.of(*count) for name, count in counts.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """report.json: what a run amounts to. Times are of one hop on one CPU thread, in ms."""

    schema: int = SCHEMA
    recipe_sha256: str
    fold: int
    parameters: int
    macs: int
    latency_ms: dict[str, float]
    features_ms: float
    checkpoint_sha256: str
    operating_point: OperatingPoint
    validation: Measured
    test: Measured
    """Of the split that the recipe asked for."""
    split: str = field(default_factory=lambda: "test")
    """test; validation for the trial of a search, which leaves the test split closed."""
    warnings: list[str] = field(default_factory=list)
    """Targets that the student exceeds, a sentence each."""
    hard_negatives: int = field(default_factory=int)
    """Finds of the queue that were trained on as negatives."""
    mined_positives: int = field(default_factory=int)
    """Finds of the queue that turned out to be wake words, and were trained on as such."""
    int8: dict[str, Any] = field(default_factory=dict)
    """The student as INT8 against the float one (`flips.Int8`); empty where there is none."""
    teachers: list[dict[str, Any]] = field(default_factory=list)
    """Teachers of the student: kind, sha256, and how each did against the baseline."""

    def to_json(self) -> str:
        """Strict JSON; the infinite upper FAH of a split without streams becomes null."""
        data = asdict(self)
        data |= {split: _plain(data[split]) for split in ("validation", "test")}
        return json.dumps(data, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Read what `to_json` wrote. Keys of later versions are ignored, missing ones are not."""
        try:
            values = _pick(cls, json.loads(text))
            values["operating_point"] = OperatingPoint(
                **_pick(OperatingPoint, values["operating_point"])
            )
            values["validation"] = _measured(values["validation"])
            values["test"] = _measured(values["test"])
        except (ValueError, TypeError, KeyError, AttributeError) as problem:
            raise DataError(f"the report cannot be read: {problem}") from problem
        return cls(**values)


def _plain(split: dict[str, Any]) -> dict[str, Any]:
    return split | {"fah_high": split["fah_high"] if split["hours"] else None}


def _measured(data: dict[str, Any]) -> Measured:
    values = _pick(Measured, data)
    values["fah_high"] = math.inf if values["fah_high"] is None else values["fah_high"]
    for key in ("cohorts", "groups"):
        values[key] = {name: Share(**_pick(Share, share)) for name, share in values[key].items()}
    return Measured(**values)


def _pick(kind: type, data: dict[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass from `data`; KeyError names the ones that are not there.

    Those with a factory came later than the first reports, and may be missing.
    """
    later = {f.name for f in fields(kind) if f.default_factory is not MISSING}
    names = [f.name for f in fields(kind) if f.name in data or f.name not in later]
    missing = [name for name in names if name not in data]
    if missing:
        raise KeyError(f"{kind.__name__} lacks {', '.join(missing)}")
    return {name: data[name] for name in names}
