from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import Trained, ignore

from engine import audio
from engine.audio import SAMPLE_RATE, Waveform
from engine.cascade import (
    ONCE,
    Pair,
    Wish,
    cascade,
    choose,
    local,
    on_test,
    pooled,
    strictest,
)
from engine.checkpoint import load, save
from engine.dataset import pack, read, select
from engine.detector import Detection, Detector, detect, vote_levels
from engine.errors import DataError, JudgeError
from engine.evaluate import Scored, score_split
from engine.features import grid
from engine.finder import Finder
from engine.forwarding import Forwarding, end_of, windows
from engine.heard import Heard
from engine.jobs import Control
from engine.judge import Asked, OnFailure, Verdict, Verify
from engine.metrics import StreamScores
from engine.recipe import DetectorSettings
from engine.recipe_file import dump, override
from engine.report import ClipScore
from engine.scorer import Scorer
from engine.verify import verify

Make = Callable[[Verify], Forwarding]


def says(score: float) -> Verify:
    return lambda _: Verdict(True, score, 0.5, "says", 0.0)


def loudness(window: Waveform) -> Verdict:
    """A judge that anyone can check."""
    return Verdict(True, float(np.abs(window).mean()), 0.5, "loudness", 0.0)


@pytest.fixture(scope="module")
def heard(tiny_run: Trained) -> Heard:
    recipe = tiny_run.recipe
    packed = pack(read(recipe.data), tiny_run.home.cache, emit=ignore, control=Control())
    return Heard(packed, select(packed, recipe.data, "test"), recipe)


@pytest.fixture(scope="module")
def loose(tiny_run: Trained, heard: Heard) -> float:
    """A threshold that the stream is over half of the time, between two levels far apart."""
    (stream,) = score_split(Scorer.of(load(tiny_run.run.best)), heard).streams
    levels = np.sort(stream.levels)[stream.levels.size // 3 : -stream.levels.size // 3]
    widest = int(np.diff(levels).argmax())
    return float(levels[widest : widest + 2].mean())


@pytest.fixture(scope="module")
def forward(tiny_run: Trained, heard: Heard, loose: float) -> Make:
    """The test split of the tiny run, before a judge."""
    scorer = Scorer.of(load(tiny_run.run.best))

    def make(judge: Verify) -> Forwarding:
        made = Forwarding(scorer, judge, heard, sent_s=2.0)
        made.hear([loose], emit=ignore)
        return made

    return make


def running(
    tiny_run: Trained, heard: Heard, loose: float, judge: Verify
) -> Iterator[tuple[Detection, float]]:
    """A sentry that listens to the stream block by block, and asks the judge where it fires."""
    scorer = Scorer.of(load(tiny_run.run.best))
    detector = Detector(heard.recipe.detector, loose, scorer.grid.hop_s)
    recent, hops, waiting = np.zeros(0, dtype=np.float32), 0, deque[Detection]()
    for sound in (*heard.stream(), np.zeros(0, dtype=np.float32)):
        for block in np.array_split(sound, range(1000, len(sound), 1000)):
            recent = np.append(recent, block)
            for score in scorer.push(block):
                if fired := detector.push(float(score), end_of(hops, scorer.grid) / SAMPLE_RATE):
                    waiting.append(fired)
                hops += 1
            ended = len(sound) == 0
            while waiting and (ended or len(recent) >= (waiting[0].time_s + 0.5) * SAMPLE_RATE):
                end = round((waiting[0].time_s + 0.5) * SAMPLE_RATE)
                yield waiting.popleft(), judge(recent[max(end - 40_000, 0) : end]).score


def test_the_joint_alarms_are_those_of_a_sentry_and_a_judge_that_run(
    tiny_run: Trained, heard: Heard, forward: Make, loose: float
) -> None:
    asked = list(running(tiny_run, heard, loose, loudness))
    (stream,) = forward(loudness).joint(loose).streams
    hops = np.flatnonzero(stream.levels)
    assert len(asked) >= 3
    assert stream.levels[hops] == pytest.approx([score for _, score in asked])
    times = stream.first_time_s + hops * 0.08
    assert times == pytest.approx([fired.time_s for fired, _ in asked])


def test_a_judge_that_accepts_everything_leaves_the_sentry_as_it_is(
    tiny_run: Trained, forward: Make, loose: float
) -> None:
    split, checkpoint = forward(says(1.0)), load(tiny_run.run.best)
    found = on_test(split, Pair(loose, 0.5, 1.0), checkpoint)
    assert found.joint.false_alarms == found.loose.false_alarms == found.requests > 0
    assert found.joint.missed == found.loose.missed
    for cohort, share in found.joint.cohorts.items():
        assert share == found.loose.cohorts[cohort]


def test_a_judge_that_rejects_everything_misses_everything(
    tiny_run: Trained, forward: Make, loose: float
) -> None:
    split, checkpoint = forward(says(0.1)), load(tiny_run.run.best)
    found = on_test(split, Pair(loose, 0.5, 1.0), checkpoint)
    assert (found.joint.frr, found.joint.fah, found.passed) == (1.0, 0.0, ())
    assert (found.equal.frr, found.equal.fah) == (1.0, 0.0)
    assert found.requests > 0


def test_what_passes_is_told_by_recording_and_place(
    tiny_run: Trained, heard: Heard, forward: Make, loose: float
) -> None:
    """The stream is 8 s of speech, then 5 s of noise."""
    split, checkpoint = forward(says(0.9)), load(tiny_run.run.best)
    found = on_test(split, Pair(loose, 0.5, 1.0), checkpoint)
    begins = {str(clip.clip.path): at for clip, at in zip(
        (*heard.selection.speech, *heard.selection.noise), (0.0, 8.0), strict=True)}  # fmt: skip
    times = [begins[alarm.path] + alarm.at_s for alarm in found.passed]
    expected = [fired.time_s for fired, _ in running(tiny_run, heard, loose, says(0.9))]
    assert times == pytest.approx(expected)
    assert all(alarm.sentry >= loose and alarm.judge == 0.9 for alarm in found.passed)


def test_each_window_is_judged_once(forward: Make, loose: float) -> None:
    asked: list[int] = []

    def judge(window: Waveform) -> Verdict:
        asked.append(len(window))
        return loudness(window)

    split = forward(judge)
    before = len(asked)
    split.hear([loose], emit=ignore)
    assert before == len(asked) == len(split.took_ms) > 0
    assert max(asked) == 40_000


@given(
    ends=st.lists(st.integers(1, 210_000), max_size=8).map(sorted),
    cuts=st.lists(st.integers(0, 200_000), max_size=8).map(sorted),
)
def test_windows_do_not_depend_on_the_pieces(ends: list[int], cuts: list[int]) -> None:
    stream = np.arange(200_000, dtype=np.float32)
    found = list(windows(np.split(stream, cuts), ends, 32_000))
    assert len(found) == len(ends)
    for window, end in zip(found, ends, strict=True):
        assert np.array_equal(window, stream[max(end - 32_000, 0) : end])


class Told(Forwarding):
    """A split of which the scores are given."""

    def __init__(self, heard: Heard, by_threshold: dict[float, Scored]) -> None:
        self.heard, self._given, self.grid = heard, by_threshold, grid(heard.recipe.features)
        self.streams = next(iter(by_threshold.values())).streams

    def joint(self, threshold: float) -> Scored:
        return self._given[threshold]


def scores(words: list[float], stream: list[float]) -> Scored:
    """Words by their highest judged score, and two hours in which candidates have these."""
    levels = np.zeros(90_000)
    levels[1000 * np.arange(1, len(stream) + 1)] = stream
    clips = tuple(ClipScore(word, word, True, "me") for word in words)
    return Scored(clips, (StreamScores(levels, 7200.0, 1.5),))


def test_the_pair_with_fewest_misses_at_the_target_is_chosen(heard: Heard) -> None:
    """In two hours a target of 1 allows two alarms.

    The strict sentry keeps it without the judge, and misses the word it does not forward. The loose
    one forwards four candidates: the judge must say more than the third, 0.3, and misses nothing.
    The loosest has the third at 0.6, and two words are not above that.
    """
    split = Told(heard, {
        0.9: scores([0.9, 0.8, 0.0, 0.7], [0.5, 0.4]),
        0.5: scores([0.9, 0.8, 0.5, 0.7], [0.5, 0.4, 0.3, 0.1]),
        0.1: scores([0.9, 0.8, 0.5, 0.5], [0.7, 0.6, 0.6, 0.5, 0.4]),
    })  # fmt: skip
    pair = choose(split, [0.9, 0.5, 0.1], 1.0)
    assert pair == Pair(0.5, np.nextafter(0.3, 1), 1.0)


def test_of_pairs_that_miss_the_same_the_one_that_forwards_less_is_taken(heard: Heard) -> None:
    strict, loose = scores([0.9, 0.8], []), scores([0.9, 0.8], [0.1, 0.1])
    assert choose(Told(heard, {0.9: strict, 0.5: loose}), [0.9, 0.5], 1.0).sentry == 0.9


def test_the_sentry_alone_is_as_strict_as_equal_misses_allow() -> None:
    """Peaks 0.2, 0.4, 0.6: one miss allows 0.4, none 0.2, three anything."""
    clips = [ClipScore(peak, peak, True, "me") for peak in (0.6, 0.2, 0.4)]
    found = [strictest(clips, most, ONCE, 0.08) for most in (0, 1, 2, 3)]
    assert found == [0.2, 0.4, 0.6, np.inf]


def test_an_alarm_before_the_word_makes_the_sentry_looser() -> None:
    """At 0.4 it fires on the first hop and is still quiet at the word; at 0.3 it always is on."""
    rules = DetectorSettings(hysteresis=0.0)
    quiet = ClipScore(0.5, 0.5, True, "me", levels=np.array([0.45, 0.0, 0.5]), span=(2, 3))
    other = ClipScore(0.4, 0.4, True, "me")
    assert strictest([quiet, other], 0, rules, 0.08) == 0.0
    assert strictest([quiet, other], 1, rules, 0.08) == 0.5
    assert strictest([other], 0, rules, 0.08) == 0.4


def test_folds_are_pooled_by_their_counts(tiny_run: Trained, forward: Make, loose: float) -> None:
    part = on_test(forward(loudness), Pair(loose, 0.01, 1.0), load(tiny_run.run.best))
    both = pooled([part, part])
    assert both.joint.false_alarms == 2 * part.joint.false_alarms
    assert both.requests == 2 * part.requests
    assert both.sent == pytest.approx(part.sent)
    assert part.sent == pytest.approx(part.requests * 2.5 / 13.0)
    assert both.fewer.a == 2 * part.equal.false_alarms
    assert len(both.pairs) == 2


def test_the_same_model_twice_is_tested_from_end_to_end(tiny_run: Trained) -> None:
    """A judge with the sentry's own scores rejects nothing that fires at its threshold."""
    judge = local(tiny_run.run.best, tiny_run.run.best)
    (found,) = cascade(
        tiny_run.run.best,
        judge.verify,
        tiny_run.home,
        sent_s=judge.sent_s,
        wishes=[Wish(300.0)],
        emit=ignore,
        control=Control(),
    )
    assert found.loose.clips == found.joint.clips == found.alone.clips == 2
    assert found.joint.false_alarms <= found.loose.false_alarms == found.requests
    assert found.pairs[0].target_fah == 300.0


def test_a_judge_that_is_the_sentry_lets_through_what_the_sentry_fires_on(
    tiny_run: Trained, heard: Heard, forward: Make, loose: float
) -> None:
    """It hears the same windows, shifted by less than a hop: no score is a twentieth lower."""
    best = tiny_run.run.best
    split, checkpoint = forward(local(best, best).verify), load(best)
    own = checkpoint.threshold().threshold
    split.hear([own], emit=ignore)
    for level in (loose, own):
        found = on_test(split, Pair(level, 0.95 * level, 1.0), checkpoint)
        assert found.joint.missed == found.loose.missed
        assert found.joint.false_alarms == found.loose.false_alarms == found.requests
        assert found.requests > 0 or level == own
    assert found.joint.missed == 0
    certain = on_test(split, Pair(own, 1.0, 1.0), checkpoint)
    assert certain.joint.missed == certain.joint.clips > 0


def test_a_recording_is_verified_as_a_detector_hears_it(
    tiny_run: Trained, heard: Heard, loose: float, tmp_path: Path
) -> None:
    path, best = tmp_path / "a.wav", tiny_run.run.best
    audio.write(path, np.concatenate(list(heard.stream())))
    options = {"threshold": loose, "emit": ignore, "control": Control()}
    found = list(verify(path, best, Asked(loudness, 2.0), **options))
    sound = audio.read(path)
    levels = vote_levels(Finder.of(best).scorer.score(sound), heard.recipe.detector)
    expected = detect(levels, loose, heard.recipe.detector, 0.08, 1.495)
    assert len(found) >= 3
    assert [one.time_s for one in found] == pytest.approx([fired.time_s for fired in expected])
    for one in found:
        end = round((one.time_s + 0.5) * SAMPLE_RATE)
        assert one.verdict == loudness(sound[max(end - 40_000, 0) : end])


@pytest.mark.parametrize("on_failure", ["accept", "reject"])
def test_a_recording_is_verified_to_its_end_though_the_judge_fails(
    tiny_run: Trained, heard: Heard, loose: float, tmp_path: Path, on_failure: OnFailure
) -> None:
    """The second of its answers fails: that detection is decided by the policy, no other."""
    path, asked = tmp_path / "a.wav", list[int]()
    audio.write(path, np.concatenate(list(heard.stream())))

    def failing(window: Waveform) -> Verdict:
        asked.append(len(window))
        if len(asked) == 2:
            raise JudgeError("gone", "start it")
        return Verdict(False, 0.2, 0.5, "m", 3.0)

    found = list(
        verify(
            path,
            tiny_run.run.best,
            Asked(failing, 2.0, on_failure),
            threshold=loose,
            emit=ignore,
            control=Control(),
        )
    )
    assert len(found) == len(asked) >= 3
    assert [one.decision.by_policy for one in found[:3]] == [False, True, False]
    assert [one.decision.accepted for one in found[:3]] == [False, on_failure == "accept", False]
    assert (found[1].verdict, str(found[1].decision.failure)) == (None, "gone\n  hint: start it")


def test_a_judge_that_was_trained_on_the_test_is_refused(tiny_run: Trained, tmp_path: Path) -> None:
    """Fold 1 trains on what fold 0 tests."""
    checkpoint = load(tiny_run.run.best)
    other = override(checkpoint.settings(), {"data.fold": 1})
    save(tmp_path / "other.ckpt", replace(checkpoint, recipe=dump(other)))
    with pytest.raises(DataError, match="was trained on what"):
        local(tmp_path / "other.ckpt", tiny_run.run.best)
