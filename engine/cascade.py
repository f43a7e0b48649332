"""Cascade: a sentry hears everything, and a judge hears again what it would fire on.

    sentry      fires ^                ^              at a loose threshold of its own
    forwarded  [ 2 s  )         [ 2 s  )              what ends there, heard by the judge once
    judge          0.2              0.9               accepted from the judge's threshold up

The sentry's detector goes on whatever the judge says: a candidate that is rejected has its
refractory time all the same, as it has live, where the answer comes later. So what is forwarded
depends on the sentry's threshold alone, and what the judge scored serves each of its thresholds:
with the judge's scores in place of the sentry's, both together are measured as one detector is.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.audio import SAMPLE_RATE, Waveform
from engine.checkpoint import Checkpoint, heard_elsewhere, load
from engine.compare import Alarms
from engine.dataset import pack, read, select
from engine.detector import firings
from engine.errors import DataError
from engine.evaluate import (
    SPEEDS,
    Heard,
    Scored,
    each_hearing,
    operating_point,
    other_hearings,
    score_split,
)
from engine.events import Emit, PhaseChanged, Progressed
from engine.features import Grid, grid
from engine.jobs import Control
from engine.manifest import Split
from engine.metrics import Floats, OperatingPoint, choose_operating_point, rate_ratio
from engine.recipe import DetectorSettings, Recipe
from engine.report import CLEAN, ClipScore, Measured, measure, pool
from engine.runs import Workspace
from engine.scorer import Scorer

PRE_ROLL_S = 2.0
SENTRY_FAH = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
"""False alarms per hour of validation for which thresholds of the sentry are tried."""
ONCE = DetectorSettings(hysteresis=0.0, refractory_s=0.0)
"""The rules for what the judge accepts: the sentry's have been kept by what was forwarded."""

Ear = Callable[[Waveform], float]
"""The judge's score of a window that was forwarded `(N,)`. May raise JudgeError."""
Place = tuple[int, int]
"""A clip, or a stream counted down from -1, and a hop of it."""


class Forwarding:
    """A split as a sentry hears it, and the judge's scores of what it forwards.

    The judge is asked once about each window, whichever thresholds forward it.
    """

    def __init__(
        self,
        sentry: Scorer,
        judge: Ear,
        heard: Heard,
        *,
        speeds: Sequence[float] = (),
        control: Control | None = None,
    ) -> None:
        """`speeds` are those at which the streams are heard beside their own."""
        self.grid, self.judge, self.heard = sentry.grid, judge, heard
        self.rules = heard.recipe.detector
        self.scored = score_split(sentry, heard, control)
        self.work = each_hearing(heard.selection)
        others = other_hearings(sentry, heard, control) if speeds else ()
        self.streams = (*self.scored.streams, *others)
        self.speeds = (1.0, *speeds)
        self.took_ms: list[float] = []
        self._known: dict[Place, float] = {}

    def hear(
        self, thresholds: Iterable[float], *, emit: Emit, control: Control | None = None
    ) -> None:
        """Have the judge hear whatever these thresholds of the sentry forward."""
        wanted = list(thresholds)
        new: dict[int, list[int]] = {}
        for place in sorted({p for t in wanted for p in self._places(t)} - self._known.keys()):
            new.setdefault(place[0], []).append(place[1])
        done, total = 0, sum(map(len, new.values()))
        for source, hops in new.items():
            for hop, window in zip(hops, self._windows(source, hops), strict=True):
                if control is not None:
                    control.tick()
                self._known[source, hop] = self._ask(window)
                done += 1
                emit(Progressed("judge", done, total, "windows"))

    def _ask(self, window: Waveform) -> float:
        began = time.perf_counter()
        score = self.judge(window)
        self.took_ms.append((time.perf_counter() - began) * 1000)
        return score

    def _places(self, threshold: float) -> Iterator[Place]:
        """Whatever is forwarded at a threshold of the sentry."""
        for number, clip in enumerate(self._clips()):
            for hop in self._fired(clip.levels, threshold):
                if clip.span[0] <= hop < clip.span[1]:
                    yield number, hop
        for number, stream in enumerate(self.streams):
            for hop in self._fired(stream.levels, threshold):
                yield -1 - number, hop

    def _clips(self) -> tuple[ClipScore, ...]:
        """The clips whose sound is there to be forwarded: not the cuts of the streams."""
        return self.scored.clips[: len(self.work)]

    def _fired(self, levels: Floats | None, threshold: float) -> list[int]:
        assert levels is not None
        return [int(hop) for hop in firings(levels, threshold, self.rules, self.grid.hop_s)]

    def _windows(self, source: int, hops: Sequence[int]) -> Iterator[Waveform]:
        """The windows of a clip or stream that end with these hops, ascending."""
        if source >= 0:
            pieces: Iterable[Waveform] = [self.heard.clip(*self.work[source])]
        else:
            pieces = self.heard.stream(self.speeds[-1 - source])
        return windows(pieces, [end_of(hop, self.grid) for hop in hops])

    def joint(self, threshold: float) -> Scored:
        """The split as both together score it at a threshold of the sentry that was heard.

        A clip has the judge's highest score of what is forwarded in its span, 0 without; a stream
        has the judge's score at each hop at which the sentry fires, and 0 at all others.
        """
        best, levels = [0.0] * len(self.work), [np.zeros(s.levels.size) for s in self.streams]
        for source, hop in self._places(threshold):
            score = self._known[source, hop]
            if source >= 0:
                best[source] = max(best[source], score)
            else:
                levels[-1 - source][hop] = score
        clips = tuple(
            replace(clip, score=score, peak=score, levels=None)
            for clip, score in zip(self._clips(), best, strict=True)
        )
        streams = zip(self.streams, levels, strict=True)
        return Scored(clips, tuple(replace(s, levels=level) for s, level in streams))


def end_of(hop: int, grid: Grid) -> int:
    """The sample that the window of a hop ends before."""
    return grid.window_samples + hop * grid.hop_samples


def windows(pieces: Iterable[Waveform], ends: Sequence[int]) -> Iterator[Waveform]:
    """Cut the 2 s before each of the ends, ascending, out of a stream that comes in pieces.

    Before its beginning there is nothing: the first windows may be shorter.
    """
    samples, kept, begin = round(PRE_ROLL_S * SAMPLE_RATE), np.zeros(0, dtype=np.float32), 0
    waiting = iter(ends)
    end = next(waiting, None)
    for piece in pieces:
        kept = np.concatenate([kept, piece])
        while end is not None and end <= begin + len(kept):
            yield kept[max(end - samples - begin, 0) : end - begin]
            end = next(waiting, None)
        if end is None:
            return
        begin += max(len(kept) - samples, 0)
        kept = kept[-samples:]


# --- which pair, and what it does


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
    the strictest with which it alone misses no more words than `joint`, both together: the latter
    is chosen on test, as equal misses must be. `requests` are the windows of the streams.
    """

    pairs: tuple[Pair, ...]
    alone: Measured
    loose: Measured
    joint: Measured
    equal: Measured
    requests: int
    took_ms: tuple[float, ...]
    passed: tuple[Passed, ...]

    @property
    def sent(self) -> float:
        """Share of the streams that is forwarded."""
        return self.requests * PRE_ROLL_S / (3600 * self.joint.hours) if self.joint.hours else 0.0

    @property
    def an_hour(self) -> float:
        """Requests an hour of streams."""
        return self.requests / self.joint.hours if self.joint.hours else 0.0

    @property
    def fewer(self) -> Alarms:
        """False alarms of both together against those of the sentry alone at equal misses."""
        a, b, hours = self.equal.false_alarms, self.joint.false_alarms, self.joint.hours
        ratio, (low, high) = rate_ratio(a, hours, b, hours)
        return Alarms(a, hours, b, hours, ratio, low, high)


def choose(split: Forwarding, thresholds: Iterable[float], target_fah: float) -> Pair:
    """The pair that misses fewest words, in all conditions, of those that keep the target.

    At each threshold of the sentry the judge's is the one that a detector with these scores would
    get. Of equals the pair that forwards least is taken.
    """
    recipe = judged(split.heard.recipe, target_fah)
    tried = []
    for threshold in thresholds:
        joint = split.joint(threshold)
        point = operating_point(joint.streams, recipe, hearings=len(split.streams))
        missed = sum(clip.positive and clip.peak < point.threshold for clip in joint.clips)
        tried.append((missed, -threshold, point.threshold))
    _, sentry, judge = min(tried)
    return Pair(-sentry, judge, target_fah)


def judged(recipe: Recipe, target_fah: float) -> Recipe:
    """The rules for both together: those of the detector were kept by what was forwarded."""
    wish = recipe.evaluate.model_copy(update={"target_fah": target_fah})
    return recipe.model_copy(update={"detector": ONCE, "evaluate": wish})


def sentry_thresholds(split: Forwarding, target_fah: float) -> list[float]:
    """The thresholds of the sentry that are tried, the strictest first."""
    wishes = sorted({target_fah, *(fah for fah in SENTRY_FAH if fah > target_fah)})
    rules, hop_s = split.rules, split.grid.hop_s
    points = [choose_operating_point(split.streams, fah, rules, hop_s) for fah in wishes]
    return sorted({point.threshold for point in points}, reverse=True)


def strictest(
    clips: Sequence[ClipScore], most: int, rules: DetectorSettings, hop_s: float
) -> float:
    """The highest threshold with which a sentry alone misses at most so many of its clean words."""
    words = [clip for clip in clips if clip.positive and clip.cohort == CLEAN]
    peaks = sorted(clip.peak for clip in words)
    for threshold in peaks[most::-1] if most < len(words) else [math.inf]:
        if sum(not clip.fires(threshold, rules, hop_s) for clip in words) <= most:
            return threshold
    return 0.0


def cascade(
    sentry: Path,
    judge: Ear,
    workspace: Workspace,
    *,
    target_fah: float | None = None,
    emit: Emit,
    control: Control,
) -> Tested:
    """Choose a pair on the validation split of a sentry's recipe, and test it on its test split."""
    checkpoint = load(sentry)
    recipe, scorer = checkpoint.settings(), Scorer.of(checkpoint)
    target = recipe.evaluate.target_fah if target_fah is None else target_fah
    emit(PhaseChanged("pack"))
    packed = pack(read(recipe.data), workspace.cache, emit=emit, control=control)

    def heard(split: Split, speeds: Sequence[float] = ()) -> Forwarding:
        emit(PhaseChanged(split))
        selection = select(packed, recipe.data, split)
        sound = Heard(packed, selection, recipe)
        return Forwarding(scorer, judge, sound, speeds=speeds, control=control)

    validation = heard("validation", SPEEDS)
    thresholds = sentry_thresholds(validation, target)
    validation.hear(thresholds, emit=emit, control=control)
    pair = choose(validation, thresholds, target)
    test = heard("test")
    test.hear([pair.sentry], emit=emit, control=control)
    return on_test(test, pair, checkpoint)


def on_test(test: Forwarding, pair: Pair, checkpoint: Checkpoint) -> Tested:
    """What a pair does on a split whose windows at its sentry's threshold have been judged."""
    recipe, target = test.heard.recipe, pair.target_fah
    joint = test.joint(pair.sentry)
    both = _measured(joint, judged(recipe, target), pair.judge, target)
    equal = strictest(test.scored.clips, both.missed, test.rules, test.grid.hop_s)
    return Tested(
        pairs=(pair,),
        alone=_measured(test.scored, recipe, checkpoint.threshold().threshold, target),
        loose=_measured(test.scored, recipe, pair.sentry, target),
        joint=both,
        equal=_measured(test.scored, recipe, equal, target),
        requests=sum(int(np.count_nonzero(s.levels)) for s in joint.streams),
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
    return Tested(
        pairs=tuple(pair for part in parts for pair in part.pairs),
        alone=pool([part.alone for part in parts]),
        loose=pool([part.loose for part in parts]),
        joint=pool([part.joint for part in parts]),
        equal=pool([part.equal for part in parts]),
        requests=sum(part.requests for part in parts),
        took_ms=tuple(ms for part in parts for ms in part.took_ms),
        passed=tuple(alarm for part in parts for alarm in part.passed),
    )


# --- a judge


def ear(scorer: Scorer) -> Ear:
    """A judge that is here: the highest score of a window, silence before one that is too short."""

    def judge(window: Waveform) -> float:
        short = max(scorer.grid.window_samples - len(window), 0)
        return float(scorer.score(np.pad(window, (short, 0))).max())

    return judge


def local(path: Path, sentry: Path) -> Ear:
    """A checkpoint as the judge of a sentry. Raises DataError where it knows the test split."""
    checkpoint = load(path)
    if heard_elsewhere(checkpoint.settings(), load(sentry).settings()):
        message = f"{path} was trained on what {sentry} is tested on"
        raise DataError(message, "judge with a run of the same fold")
    return ear(Scorer.of(checkpoint))
