import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.detector import Detection, Detector, detect, firings, smooth, vote_levels
from engine.recipe import DetectorSettings

PLAIN = DetectorSettings(smooth_hops=1, votes=1, of=1, hysteresis=0.1, refractory_s=0.0)


@st.composite
def settings(draw: st.DrawFn) -> DetectorSettings:
    of = draw(st.integers(1, 5))
    return DetectorSettings(
        smooth_hops=draw(st.integers(1, 4)),
        votes=draw(st.integers(1, of)),
        of=of,
        hysteresis=draw(st.sampled_from([0.0, 0.05, 0.3, 0.9])),
        refractory_s=draw(st.sampled_from([0.0, 0.1, 0.8, 2.0])),
    )


def stream(detector: Detector, scores: list[float], hop_s: float) -> list[Detection]:
    pushed = [detector.push(score, hop * hop_s) for hop, score in enumerate(scores)]
    return [detection for detection in pushed if detection]


def times(scores: list[float], rules: DetectorSettings, threshold: float = 0.5) -> list[float]:
    """Firing times at a hop of 1 s."""
    return [found.time_s for found in stream(Detector(rules, threshold, 1.0), scores, 1.0)]


@given(
    scores=st.lists(st.floats(0, 1), max_size=80),
    rules=settings(),
    threshold=st.floats(0, 1),
    hop_s=st.sampled_from([0.02, 0.08, 0.1]),
)
def test_a_whole_stream_equals_one_score_at_a_time(scores, rules, threshold, hop_s):
    levels = vote_levels(scores, rules)
    streamed = stream(Detector(rules, threshold, hop_s), scores, hop_s)
    assert detect(levels, threshold, rules, hop_s) == streamed


@given(scores=st.lists(st.floats(0, 1, width=32), max_size=40), rules=settings())
def test_vote_levels_are_the_levels_the_detector_sees(scores, rules):
    detector, seen = Detector(rules, 2.0, 0.08), []
    for score in scores:
        detector.push(score, 0.0)
        seen.append(detector.level)
    assert vote_levels(scores, rules).tolist() == seen


def test_smoothing_takes_what_there_is_at_the_start():
    # means of (0.2), (0.2, 0.4), (0.2, 0.4, 0.9), (0.4, 0.9, 0.2)
    assert smooth([0.2, 0.4, 0.9, 0.2], 3) == pytest.approx([0.2, 0.3, 0.5, 0.5])


def test_the_vote_level_is_the_second_largest_of_three():
    rules = PLAIN.model_copy(update={"votes": 2, "of": 3})
    # one score alone has no second: 0; then 2nd of (.9 .1), (.9 .1 .8), (.1 .8 .3), (.8 .3 .2)
    assert vote_levels([0.9, 0.1, 0.8, 0.3, 0.2], rules).tolist() == [0, 0.1, 0.8, 0.3, 0.3]


def test_a_single_vote_does_not_fire_two_of_three():
    rules = PLAIN.model_copy(update={"votes": 2, "of": 3})
    assert times([0.9, 0.1, 0.1, 0.9, 0.1, 0.1], rules) == []
    assert times([0.9, 0.1, 0.9, 0.1], rules) == [2.0]


def test_a_level_that_equals_the_threshold_fires():
    assert times([0.4, 0.5], PLAIN) == [1.0]


def test_a_score_that_is_no_number_does_not_fire():
    assert times([np.nan, np.nan, 0.9, 0.1], PLAIN) == [2.0]


def test_a_shallow_dip_does_not_rearm_and_a_deep_one_does():
    # the re-arm level is 0.5 - 0.1 = 0.4: a dip to 0.4 is not below it, 0.39 is
    assert times([0.9, 0.4, 0.9, 0.39, 0.9], PLAIN) == [0.0, 4.0]


def test_nothing_fires_within_the_refractory_time_but_at_its_end_it_may():
    rules = PLAIN.model_copy(update={"refractory_s": 3.0})
    # fires at 0; re-armed at 1; held back at 2; the refractory is over at 3
    assert times([0.9, 0.0, 0.9, 0.9, 0.9], rules) == [0.0, 3.0]


def test_a_refractory_of_two_seconds_is_25_hops_of_80_ms():
    rules = PLAIN.model_copy(update={"refractory_s": 2.0})
    levels = np.tile([0.9, 0.0, 0.0, 0.0, 0.0], 11)  # a burst every 5 hops
    assert firings(levels, 0.5, rules, 0.08).tolist() == [0, 25, 50]


def test_a_threshold_below_the_hysteresis_does_not_deafen_the_detector():
    # 0.04 - 0.1 would be negative; the re-arm level is 0.02 instead
    assert times([0.05, 0.01, 0.05], PLAIN, threshold=0.04) == [0.0, 2.0]


def test_reset_forgets_scores_arming_and_refractory():
    detector = Detector(PLAIN.model_copy(update={"refractory_s": 9.0}), 0.5, 1.0)
    assert detector.push(0.9, 0.0)
    detector.reset()
    assert detector.push(0.9, 1.0) == Detection(1.0, 0.9)


def test_an_empty_stream_has_no_detections():
    assert detect(vote_levels([], DetectorSettings()), 0.5, DetectorSettings(), 0.08) == []
