"""Cascade: a sentry that hears everything and a judge that hears again what it would fire on.

Both thresholds are chosen together on validation, frozen, and tested. Whether the judge is good for
anything is asked at equal misses: how many false alarms has the sentry alone where it misses no
more words than both together?
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.audio import SAMPLE_RATE
from engine.checkpoint import Checkpoint, heard_elsewhere, load
from engine.compare import Alarms
from engine.dataset import pack, read, select
from engine.errors import DataError
from engine.evaluate import Scored
from engine.events import Emit, PhaseChanged
from engine.features import grid
from engine.forwarding import Forwarding, end_of
from engine.heard import SPEEDS, Heard, Progress
from engine.jobs import Control
from engine.judge import Verify
from engine.local_judge import LocalJudge
from engine.manifest import Split
from engine.metrics import (
    OperatingPoint,
    choose_operating_point,
    middle_and_worst,
    rate_ratio,
)
from engine.recipe import DetectorSettings, Recipe
from engine.report import ClipScore, Measured, measure, pool
from engine.runs import Workspace
from engine.scorer import Scorer, opened

SENTRY_FAH = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
"""False alarms per hour of validation for which thresholds of the sentry are tried."""
ONCE = DetectorSettings(hysteresis=0.0, refractory_s=0.0)
"""The rules for what the judge accepts: the sentry's have been kept by what was forwarded."""


@dataclass(frozen=True, slots=True)
class Wish:
    """False alarms per hour of both together, and of the sentry before the judge, if that is set.

    Otherwise the sentry's threshold is chosen too.
    """

    target_fah: float
    sentry_fah: float | None = None

    def tried(self) -> set[float]:
        """The false alarms per hour that the sentry's thresholds are for."""
        if self.sentry_fah is not None:
            return {self.sentry_fah}
        return {self.target_fah, *(fah for fah in SENTRY_FAH if fah > self.target_fah)}


@dataclass(frozen=True, slots=True)
class Pair:
    """A threshold of each stage, chosen together on validation for a FAH target."""

    sentry: float
    judge: float
    target_fah: float


@dataclass(frozen=True, slots=True)
class Passed:
    """A false alarm that the judge let through: where in which recording, and both scores."""

    path: str
    at_s: float
    sentry: float
    judge: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """Pairs that were frozen on validation, on the test splits of their folds.

    `alone` is the sentry at its own frozen threshold, `loose` at that of the pair, and `equal` at
    the strictest with which it alone misses no more words than `joint`, both together, in all
    conditions: that is chosen on test, as equal misses must be. `requests` are the windows of the
    streams.
    """

    pairs: tuple[Pair, ...]
    alone: Measured
    loose: Measured
    joint: Measured
    equal: Measured
    requests: int
    sent_s: float
    took_ms: tuple[float, ...]
    passed: tuple[Passed, ...]

    @property
    def sent(self) -> float:
        """Share of the streams that is forwarded, of `sent_s` a time."""
        return self.an_hour * self.sent_s / 3600

    @property
    def an_hour(self) -> float:
        """Requests an hour of streams."""
        return self.requests / self.joint.hours if self.joint.hours else 0.0

    @property
    def latency_ms(self) -> dict[str, float]:
        """How long an answer took, the way there and back with it; in the middle, and at worst."""
        return dict(zip(("p50", "p95"), middle_and_worst(self.took_ms), strict=True))

    @property
    def fewer(self) -> Alarms:
        """False alarms of both together against those of the sentry alone at equal misses."""
        a, b, hours = self.equal.false_alarms, self.joint.false_alarms, self.joint.hours
        ratio, (low, high) = rate_ratio(a, hours, b, hours)
        return Alarms(a, hours, b, hours, ratio, low, high)


def choose(split: Forwarding, thresholds: Iterable[float], target_fah: float) -> Pair:
    """The pair that misses fewest words, in all conditions, of those that keep the target.

    The judge's threshold is the lowest with which both together keep it over all hearings. No tail
    is drawn as for a sentry (`tail_threshold`): of what is forwarded the judge is sure either way,
    and a line through its scores leads anywhere. Of equals the pair that forwards least is taken.
    """
    tried, hop_s = [], split.grid.hop_s
    for threshold in thresholds:
        joint = split.joint(threshold)
        point = choose_operating_point(joint.streams, target_fah, ONCE, hop_s)
        missed = missed_words(joint.clips, point.threshold)
        tried.append((missed, -threshold, point.threshold))
    _, sentry, judge = min(tried)
    return Pair(-sentry, judge, target_fah)


def missed_words(joint: Iterable[ClipScore], threshold: float) -> int:
    """How many words both together miss in all conditions at a threshold of the judge."""
    return sum(clip.positive and clip.peak < threshold for clip in joint)


def sentry_thresholds(split: Forwarding, wishes: Iterable[float]) -> list[float]:
    """The sentry's lowest thresholds that keep these false alarms an hour, the strictest first."""
    rules, hop_s = split.rules, split.grid.hop_s
    points = [choose_operating_point(split.streams, fah, rules, hop_s) for fah in wishes]
    return sorted({point.threshold for point in points}, reverse=True)


def strictest(
    clips: Sequence[ClipScore], most: int, rules: DetectorSettings, hop_s: float
) -> float:
    """The highest threshold with which a sentry alone misses at most so many words."""
    words = [clip for clip in clips if clip.positive]
    peaks = sorted(clip.peak for clip in words)
    for threshold in peaks[most::-1] if most < len(words) else [math.inf]:
        if sum(not clip.fires(threshold, rules, hop_s) for clip in words) <= most:
            return threshold
    return 0.0


def cascade(
    sentry: Path,
    verify: Verify,
    workspace: Workspace,
    *,
    sent_s: float,
    wishes: Sequence[Wish] = (),
    emit: Emit,
    control: Control,
) -> list[Tested]:
    """Choose pairs on the validation split of a sentry's recipe, and test them on its test split.

    A pair for each of the wishes, or for the target of the recipe.
    """
    checkpoint = load(sentry)
    recipe, scorer = checkpoint.settings(), Scorer.of(checkpoint)
    wishes = wishes or [Wish(recipe.evaluate.target_fah)]
    emit(PhaseChanged("pack"))
    packed = pack(read(recipe.data), workspace.cache, emit=emit, control=control)

    def forwarding(split: Split, speeds: Sequence[float] = ()) -> Forwarding:
        heard = Heard(packed, select(packed, recipe.data, split), recipe)
        seconds = heard.seconds + (heard.other_speeds_s if speeds else 0.0)
        passed = Progress(split, seconds, emit, control)
        return Forwarding(scorer, verify, heard, sent_s=sent_s, speeds=speeds, passed=passed)

    validation = forwarding("validation", SPEEDS)
    thresholds = sentry_thresholds(validation, {fah for wish in wishes for fah in wish.tried()})
    validation.hear(thresholds, emit=emit, control=control)
    pairs = [
        choose(validation, sentry_thresholds(validation, wish.tried()), wish.target_fah)
        for wish in wishes
    ]
    test = forwarding("test")
    test.hear([pair.sentry for pair in pairs], emit=emit, control=control)
    return [on_test(test, pair, checkpoint) for pair in pairs]


def on_test(test: Forwarding, pair: Pair, checkpoint: Checkpoint) -> Tested:
    """What a pair does on a split whose windows at its sentry's threshold have been judged."""
    recipe, target = test.heard.recipe, pair.target_fah
    joint = test.joint(pair.sentry)
    both = _measured(joint, recipe.model_copy(update={"detector": ONCE}), pair.judge, target)
    missed = missed_words(joint.clips, pair.judge)
    equal = strictest(test.scored.clips, missed, test.rules, test.grid.hop_s)
    return Tested(
        pairs=(pair,),
        alone=_measured(test.scored, recipe, checkpoint.threshold().threshold, target),
        loose=_measured(test.scored, recipe, pair.sentry, target),
        joint=both,
        equal=_measured(test.scored, recipe, equal, target),
        requests=sum(int(np.count_nonzero(s.levels)) for s in joint.streams),
        sent_s=test.sent_s,
        took_ms=tuple(test.took_ms),
        passed=tuple(_passed(test, joint, pair)),
    )


def _measured(scored: Scored, recipe: Recipe, threshold: float, target_fah: float) -> Measured:
    point, hop_s = OperatingPoint(threshold, target_fah), grid(recipe.features).hop_s
    rules, settings = recipe.detector, recipe.evaluate
    return measure(scored.clips, scored.streams, point, rules, hop_s, settings)


def _passed(test: Forwarding, joint: Scored, pair: Pair) -> Iterator[Passed]:
    """The false alarms of both together, in the recordings that the stream is made of."""
    clips = (*test.heard.selection.speech, *test.heard.selection.noise)
    begins = np.cumsum([0, *(clip.samples for clip in clips)])
    for alone, both in zip(test.scored.streams, joint.streams, strict=True):
        for hop in np.flatnonzero(both.levels >= pair.judge).tolist():
            end = end_of(hop, test.grid)
            index = int(np.searchsorted(begins, end)) - 1
            path, at_s = str(clips[index].clip.path), (end - begins[index]) / SAMPLE_RATE
            yield Passed(path, float(at_s), float(alone.levels[hop]), float(both.levels[hop]))


def pooled(parts: Sequence[Tested]) -> Tested:
    """The tests of several folds as one, each with the pair of its own validation."""
    if len(parts) == 1:
        return parts[0]  # it has a curve, which several have not
    return Tested(
        pairs=tuple(pair for part in parts for pair in part.pairs),
        alone=pool([part.alone for part in parts]),
        loose=pool([part.loose for part in parts]),
        joint=pool([part.joint for part in parts]),
        equal=pool([part.equal for part in parts]),
        requests=sum(part.requests for part in parts),
        sent_s=max(part.sent_s for part in parts),
        took_ms=tuple(ms for part in parts for ms in part.took_ms),
        passed=tuple(alarm for part in parts for alarm in part.passed),
    )


# --- a judge


def local(path: Path, sentry: Path) -> LocalJudge:
    """A checkpoint as the judge of a sentry. Raises DataError where it knows the test split."""
    scorer, checkpoint = opened(path)
    if heard_elsewhere(checkpoint.settings(), load(sentry).settings()):
        message = f"{path} was trained on what {sentry} is tested on"
        raise DataError(message, "judge with a run of the same fold")
    return LocalJudge.made(scorer, checkpoint)
