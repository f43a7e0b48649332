import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from engine.detector import Detector, vote_levels
from engine.errors import DataError
from engine.metrics import (
    DetCurve,
    StreamScores,
    binomial_interval,
    bootstrap,
    choose_operating_point,
    count_alarms,
    det_curve,
    eer,
    hours_to_prove,
    mcnemar,
    pauc,
    peak_within,
    poisson_interval,
    proved_fah,
    rate_ratio,
    tail_threshold,
)
from engine.recipe import DetectorSettings

HOP_S = 0.08
PLAIN = DetectorSettings(smooth_hops=1, votes=1, of=1, hysteresis=0.1, refractory_s=0.4)
# few distinct values, so that ties and equal levels are common
LEVELS = arrays(np.float64, st.integers(1, 60), elements=st.integers(0, 20).map(lambda n: n / 20))


def hour_of(*levels: float) -> StreamScores:
    """One hour that is silent after the given levels."""
    return StreamScores(np.concatenate([levels, np.zeros(100)]), seconds=3600)


def alarms_one_by_one(streams, threshold, settings):
    """The slow twin: every level through a fresh streaming detector; held alarms count again."""
    fired = held = 0
    for stream in streams:
        detector = Detector(settings, threshold, HOP_S)
        fired += sum(detector.push(level, 0.0) is not None for level in stream.levels)
        held += sum(level >= threshold for level in stream.levels)
    return max(fired, int(np.ceil(held * HOP_S / 10 - 1e-9)))


@pytest.mark.parametrize(
    ("events", "hours", "low", "high"),
    # chi2 quantiles: (0.2422, 14.449) / 2 / 24; 7.378 / 2 / 1 for none
    [(2, 24, 0.010, 0.301), (0, 1, 0.0, 3.689)],
)
def test_poisson_interval_is_garwoods(events, hours, low, high):
    assert poisson_interval(events, hours) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize(
    ("missed", "clips", "low", "high"),
    # none of 12: 1 - 0.025 ** (1 / 12) = 0.265; of nothing: anything
    [(12, 329, 0.019, 0.063), (0, 12, 0.0, 0.265), (12, 12, 0.735, 1.0), (0, 0, 0.0, 1.0)],
)
def test_binomial_interval_is_clopper_and_pearsons(missed, clips, low, high):
    assert binomial_interval(missed, clips) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize(
    ("target", "hours"),
    [(0.1, [30.0, 47.4, 63.0, 105.1]), (0.5, [6.0, 9.5, 12.6, 21.0]), (1.0, [3.0, 4.7, 6.3, 10.5])],
)
def test_hours_to_prove_are_those_of_the_table(target, hours):
    assert [round(hours_to_prove(target, alarms), 1) for alarms in (0, 1, 2, 5)] == hours


def test_the_hours_that_prove_a_target_prove_it():
    assert proved_fah(2, hours_to_prove(0.5, 2)) == pytest.approx(0.5)
    assert proved_fah(0, 0.0) == np.inf


def test_the_group_bootstrap_of_one_bad_speaker_is_wider_than_clips_allow():
    # speaker a misses all 20 clips, b to j none: 10 % of 200, but it hangs on one person.
    # a is drawn Binomial(10, 1/10) times: 0 times with p = 0.35, more than 3 times with p = 0.013
    missed, clips = [20] + 9 * [0], 10 * [20]
    assert bootstrap(missed, clips, draws=4000, seed=1) == pytest.approx((0.0, 0.3))
    assert binomial_interval(20, 200)[1] < 0.16


def test_a_drawn_ratio_may_be_infinite_and_nothing_over_nothing_is_one():
    # of two groups, (1, 0) and (0, 0): drawn (1, 0) at least once 3 in 4 times, else 0 / 0
    assert bootstrap([1, 0], [0, 0]) == (1.0, math.inf)


def test_mcnemar_is_a_coin_tossed_for_every_clip_that_only_one_run_missed():
    # P(X <= 1 of 6) = 7 / 64, twice
    assert mcnemar(1, 5) == mcnemar(5, 1) == pytest.approx(14 / 64)
    assert mcnemar(3, 3) == mcnemar(0, 0) == 1.0


def test_the_ratio_of_two_rates():
    # 20 in 10 h against 10 in 10 h; of 30 events 10 are b's: 17.3 to 52.8 % (Clopper-Pearson)
    ratio, (low, high) = rate_ratio(20, 10.0, 10, 10.0)
    assert ratio == 0.5
    assert (low, high) == pytest.approx((0.173 / 0.827, 0.528 / 0.472), rel=0.01)
    assert rate_ratio(20, 10.0, 10, 5.0)[0] == 1.0
    assert rate_ratio(0, 1.0, 3, 1.0)[0] == rate_ratio(0, 1.0, 3, 1.0)[1][1] == math.inf
    assert rate_ratio(3, 1.0, 0, 1.0)[0] == rate_ratio(3, 1.0, 0, 1.0)[1][0] == 0.0
    assert rate_ratio(0, 1.0, 0, 1.0) == rate_ratio(2, 0.0, 1, 0.0) == (1.0, (0.0, math.inf))


@given(
    positive=arrays(np.float64, st.integers(1, 30), elements=st.integers(0, 9).map(float)),
    negative=arrays(np.float64, st.integers(1, 60), elements=st.integers(0, 9).map(float)),
    max_fpr=st.sampled_from([0.01, 0.1, 0.5, 1.0]),
)
def test_pauc_is_that_of_sklearn_ties_included(positive, negative, max_fpr):
    truth = np.repeat([1, 0], [positive.size, negative.size])
    oracle = roc_auc_score(truth, np.concatenate([positive, negative]), max_fpr=max_fpr)
    assert pauc(positive, negative, max_fpr) == pytest.approx(oracle, abs=1e-9)


def test_pauc_and_eer_of_nothing_are_those_of_chance():
    assert pauc([], [0.1], 0.01) == pauc([0.1], [], 0.01) == eer([], []) == 0.5


def test_eer_is_where_misses_meet_false_accepts():
    # at threshold 0.5: 1 of 4 positives (0.3) missed, 1 of 4 negatives (0.6) accepted
    assert eer([0.3, 0.7, 0.8, 0.9], [0.1, 0.2, 0.4, 0.6]) == pytest.approx(0.25)
    assert eer([0.9], [0.1]) == 0.0
    assert eer([0.1], [0.9]) == 1.0


def test_two_bursts_are_two_alarms_not_fifty():
    burst = StreamScores(np.repeat([0.0, 0.9, 0.0, 0.9, 0.0], [50, 30, 50, 20, 50]), 16.0, 1.5)
    (found,) = count_alarms([burst], 0.5, DetectorSettings(smooth_hops=1, votes=1, of=1), HOP_S)
    # hops 50 and 130, after a first window that ends at 1.5 s
    assert [alarm.time_s for alarm in found] == pytest.approx([5.5, 11.9])


def test_each_stream_starts_afresh():
    always_on = StreamScores(np.full(10, 0.9), 0.8)
    assert [len(found) for found in count_alarms([always_on] * 3, 0.5, PLAIN, HOP_S)] == [1, 1, 1]


def test_the_peak_is_looked_for_from_the_start_to_half_a_second_after_the_end():
    levels = np.array([0.9, 0.1, 0.2, 0.3, 0.8])  # windows end at 1.0, 1.5, 2.0, 2.5, 3.0 s
    assert peak_within(levels, 1.0, 0.5, start_s=1.5, end_s=2.0) == 0.3
    assert peak_within(levels, 1.0, 0.5, start_s=8.0, end_s=9.0) == 0.0


def test_the_operating_point_is_just_above_the_first_peak_too_many():
    # one hour, target 2: 0.9 and 0.7 may fire, 0.6 must not
    stream = hour_of(0.9, 0, 0, 0, 0, 0, 0.7, 0, 0, 0, 0, 0, 0.6, 0, 0, 0, 0, 0, 0.5)
    point = choose_operating_point([stream], 2.0, PLAIN, HOP_S)
    assert point.threshold == np.nextafter(0.6, 1)
    assert len(count_alarms([stream], point.threshold, PLAIN, HOP_S)[0]) == 2


def test_a_target_below_one_alarm_allows_none():
    assert choose_operating_point([hour_of(0.3)], 0.9, PLAIN, HOP_S).threshold > 0.3
    assert choose_operating_point([hour_of(1.0)], 0.9, PLAIN, HOP_S).threshold == 1 - 1e-6


def test_alarms_that_melt_into_one_do_not_lower_the_threshold():
    # a ripple from 0.9 to 0.5 every 6 hops: 3 alarms down to a threshold of 0.6, where 0.5 no
    # longer re-arms; from there on it is a single alarm, and yet 3 are too many for the target
    ripple = [0.9, 0.5, 0.5, 0.5, 0.5, 0.5] * 3
    assert len(count_alarms([hour_of(*ripple)], 0.55, PLAIN, HOP_S)[0]) == 1
    point = choose_operating_point([hour_of(*ripple)], 2.0, PLAIN, HOP_S)
    assert point.threshold == np.nextafter(0.9, 1)


def test_a_detector_that_never_lets_go_is_no_bargain():
    # 30 s between 0.48 and 0.5 never re-arms, so it is one alarm; held, it counts as three
    stuck = hour_of(*np.tile([0.5, 0.48], 188))
    assert len(count_alarms([stuck], 0.4, PLAIN, HOP_S)[0]) == 1
    point = choose_operating_point([stuck], 2.0, PLAIN, HOP_S)
    assert point.threshold == np.nextafter(0.48, 1)  # 188 hops on: 15.04 s, two alarms


@given(
    levels=st.lists(LEVELS, min_size=1, max_size=3),
    target=st.integers(0, 6),
    hysteresis=st.sampled_from([0.0, 0.125, 0.5]),
)
def test_the_operating_point_is_that_of_a_search_over_every_threshold(levels, target, hysteresis):
    rules = PLAIN.model_copy(update={"hysteresis": hysteresis})
    streams = [StreamScores(level, 3600 / len(levels)) for level in levels]
    chosen = choose_operating_point(streams, target + 0.5, rules, HOP_S).threshold
    grid = np.arange(1, 801) / 800 + 1e-9  # levels are n / 20, re-arm points n / 40
    above, below = grid[grid > chosen], grid[grid < chosen][-1:]
    assert all(alarms_one_by_one(streams, threshold, rules) <= target for threshold in above)
    too_many = [alarms_one_by_one(streams, threshold, rules) > target for threshold in below]
    assert chosen >= 1 - 1e-6 or all(too_many)


@given(levels=st.lists(LEVELS, min_size=1, max_size=3))
def test_the_det_curve_counts_as_the_slow_twin_does(levels):
    streams = [StreamScores(level, 1800.0) for level in levels]
    curve = det_curve([0.2, 0.6, 0.6, 1.0], streams, PLAIN, HOP_S)
    slow = [alarms_one_by_one(streams, threshold, PLAIN) for threshold in curve.thresholds]
    assert curve.fah.tolist() == (np.maximum.accumulate(slow) / (len(levels) / 2)).tolist()
    assert (np.diff(curve.thresholds) < 0).all()
    assert (np.diff(curve.frr) <= 0).all()


def test_the_det_curve_of_three_alarms_in_an_hour():
    # above 0.9 none fires; above 0.7 one does, above 0.6 two: clips at 0.8 and 0.65 are then heard
    gap = [0.0] * 5
    curve = det_curve([0.8, 0.65], [hour_of(0.9, *gap, 0.7, *gap, 0.6)], PLAIN, HOP_S)
    assert curve.fah.tolist()[:3] == [0, 1, 2]
    assert curve.frr.tolist()[:3] == [1, 0.5, 0]
    assert curve.points(hours=1.0)[:2] == [[1, 0.5], [2, 0]]


def test_frr_between_two_points_is_that_of_the_stricter_one():
    curve = DetCurve(np.array([0.9, 0.7, 0.6]), np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.2, 0]))
    assert curve.frr_at([0.5, 1.0, 1.9, 2.0, 9.0]).tolist() == [1, 0.5, 0.5, 0.2, 0]
    # log-spaced from 1 to 4, half lies in [1, 2) and half in [2, 4)
    assert curve.area(1, 4) == pytest.approx((0.5 + 0.2) / 2, abs=0.005)


def test_a_curve_starts_at_the_lowest_fah_that_the_hours_can_show():
    perfect = det_curve([0.9], [hour_of(0.1)] * 4, PLAIN, HOP_S)
    assert perfect.points(hours=4.0)[0] == [0.25, 0.0]


def test_without_a_stream_there_is_no_operating_point():
    with pytest.raises(DataError, match="no stream"):
        choose_operating_point([], 1.0, PLAIN, HOP_S)
    with pytest.raises(DataError, match="no stream"):
        det_curve([0.5], [StreamScores(vote_levels([], PLAIN), 0.5)], PLAIN, HOP_S)


def test_the_tail_expects_the_target_where_the_peaks_fall_off_exponentially() -> None:
    """31 peaks in 1 h, with logits 1 + ln(31 / rank): the mean excess of 30 over the last is 0.945.

    With its standard error that is 0.945 (1 + 1 / sqrt 30) = 1.118. So the tail falls by a factor e
    each 1.118, from 30 an hour at logit 1 to one an hour at 1 + 1.118 ln 30 = 4.80.
    """
    logits = 1 + np.log(31 / np.arange(1, 32))
    levels = np.zeros(31 * 40)
    levels[::40] = 1 / (1 + np.exp(-logits))
    stream = StreamScores(levels, 3600.0)
    rules = DetectorSettings(smooth_hops=1, votes=1, of=1, refractory_s=2.0)
    threshold = tail_threshold([stream], 1.0, rules, 0.08, 30)
    assert np.log(threshold / (1 - threshold)) == pytest.approx(4.80, abs=0.01)
    assert tail_threshold([stream], 1.0, rules, 0.08, 0) == 0.0
    assert tail_threshold([stream], 40.0, rules, 0.08, 30) == 0.0
    assert tail_threshold([StreamScores(levels, 900.0)], 1.0, rules, 0.08, 30) == 0.0
