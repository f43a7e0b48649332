import json
import math
from dataclasses import replace

import numpy as np
import pytest

from engine.errors import DataError
from engine.metrics import (
    MOST,
    OperatingPoint,
    StreamScores,
    binomial_interval,
    poisson_interval,
)
from engine.recipe import DetectorSettings, Evaluate
from engine.report import ClipScore, Measured, Report, Share, measure, pool
from wakeword_tui.commands.report import render_measured

RULES = DetectorSettings(smooth_hops=1, votes=1, of=1, hysteresis=0.1, refractory_s=0.4)
POINT = OperatingPoint(0.5, 1.0)
STREAM = StreamScores(np.repeat([0.0, 0.9, 0.0, 0.6, 0.0], 10), seconds=7200)


def word(peak: float, group: str = "ann", cohort: str = "clean") -> ClipScore:
    return ClipScore(peak, peak, True, group, cohort)


def other(peak: float, cohort: str = "clean") -> ClipScore:
    return ClipScore(peak, peak, False, "bob", cohort)


def measured(*clips: ClipScore, streams: tuple[StreamScores, ...] = (STREAM,)) -> Measured:
    return measure(clips, streams, POINT, RULES, 0.08, Evaluate())


def report(test: Measured) -> Report:
    return Report(
        recipe_sha256="ab",
        fold=0,
        parameters=20_000,
        macs=1_000_000,
        latency_ms={"p50": 1.0, "p95": 2.0},
        features_ms=0.3,
        checkpoint_sha256="cd",
        operating_point=POINT,
        validation=measured(word(0.9), other(0.1)),
        test=test,
    )


def test_headline_numbers_are_of_the_clean_cohort():
    # 1 of 3 clean words missed; 2 alarms in 2 h; the noisy miss counts only as noise
    result = measured(
        word(0.9), word(0.4), word(0.5, "eve"), other(0.1), word(0.2, cohort="noise 5 dB")
    )
    assert (result.clips, result.missed, result.frr) == (3, 1, pytest.approx(1 / 3))
    assert (result.false_alarms, result.hours, result.fah) == (2, 2.0, 1.0)
    assert (result.fah_low, result.fah_high) == poisson_interval(2, 2.0)
    assert (result.frr_low, result.frr_high) == binomial_interval(1, 3)
    assert (result.pauc, result.eer) == (1.0, 0.0)
    assert result.cohorts["noise 5 dB"] == Share.of(1, 1)
    assert result.groups == {"ann": Share.of(1, 2), "eve": Share.of(0, 1)}


def test_a_cohort_of_negatives_counts_those_that_fire():
    result = measured(other(0.9, "confusable"), other(0.2, "confusable"))
    assert result.cohorts["confusable"] == Share.of(1, 2)


def test_without_wake_words_no_miss_rate_is_made_of_what_fires():
    """Cuts of speech rank the words, and are no cohort."""
    told = measured(other(0.9, "other words"), other(0.9), other(0.1))
    assert (told.clips, list(told.cohorts)) == (0, ["other words"])


def test_misses_at_a_target_do_not_depend_on_the_threshold_that_is_stored():
    whole = measured(word(0.95), word(0.7), word(0.3))
    stored = replace(whole, det=[[0.5, 0.6], [1.0, 0.3], [4.0, 0.1]])
    moved = stored.at(stored.sweep[0][0])
    assert stored.frr != moved.frr
    for one in (stored, moved):
        assert [one.frr_at(fah) for fah in (0.4, 0.5, 2.0, 9.0)] == [1.0, 0.6, 0.3, 0.1]


def test_the_sweep_holds_the_frozen_threshold_and_none_that_no_score_reaches():
    """Just above the peaks 1.0, which is held down to the most, 0.6 and 0.0; and the frozen 0.5."""
    sure = StreamScores(np.repeat([0.0, 1.0, 0.0, 0.6, 0.0], 10), seconds=7200)
    sweep = measured(word(1.0), word(0.4), streams=(sure,)).sweep
    assert [row[0] for row in sweep] == [MOST, math.nextafter(0.6, 1), 0.5, 5e-324]
    assert [row[1:] for row in sweep[:3]] == [[1, 1], [1, 1], [2, 1]]


def test_a_detector_that_stays_on_alarms_every_ten_seconds_wherever_alarms_are_counted():
    """100 s at 0.8, of which hysteresis makes one event."""
    on = StreamScores(np.repeat([0.8, 0.0], [1250, 100]), 3600.0)
    told = measured(word(0.9), streams=(on,))
    assert (told.false_alarms, told.fah) == (10, 10.0)
    assert [alarms for threshold, alarms, _ in told.sweep if threshold == POINT.threshold] == [10]


def test_ten_groups_are_enough_to_draw_from():
    ten = [word(0.1 if name == "a" else 0.9, name) for name in "abcdefghij" for _ in range(20)]
    result = measured(*ten)
    # 10 % missed, all by one speaker: the interval by group is wider than that by clip
    assert result.frr_group_high > result.frr_high
    few = measured(*[clip for clip in ten if clip.group < "e"])
    assert (few.frr_group_low, few.frr_group_high) == (few.frr_low, few.frr_high)
    assert result.by_group is not None
    assert few.by_group is None
    assert "by group" in render_measured(result, 1.0)
    assert "of 4 groups, too few to draw from" in render_measured(few, 1.0)


def test_nothing_to_measure_says_that_anything_may_be_true():
    result = measured(streams=())
    assert (result.frr, result.frr_low, result.frr_high) == (0.0, 0.0, 1.0)
    assert (result.fah, result.fah_low, result.fah_high) == (0.0, 0.0, math.inf)
    assert (result.pauc, result.eer, result.det) == (0.5, 0.5, [])


def test_pooling_adds_counts_and_computes_intervals_afresh():
    # 1 of 2 and 0 of 1 missed; 2 alarms in 2 h, twice
    one, two = measured(word(0.9), word(0.1), other(0.2)), measured(word(0.9, "eve"), other(0.2))
    both = pool([one, two])
    assert (both.missed, both.clips, both.false_alarms, both.hours) == (1, 3, 4, 4.0)
    assert (both.frr_low, both.frr_high) == binomial_interval(1, 3)
    assert (both.fah_low, both.fah_high) == poisson_interval(4, 4.0)
    assert both.pauc == pytest.approx((2 * one.pauc + two.pauc) / 3)
    assert both.groups == {"ann": Share.of(1, 2), "eve": Share.of(0, 1)}
    assert both.cohorts == {"clean": Share.of(1, 3)}
    assert both.det == []


def test_what_was_measured_differently_is_not_pooled():
    loose = measure([word(0.9)], [STREAM], POINT, RULES, 0.08, Evaluate(max_fpr=0.1))
    with pytest.raises(DataError, match="max_fpr"):
        pool([measured(word(0.9)), loose])
    with pytest.raises(DataError):
        pool([])


def test_a_report_survives_json():
    for test in (measured(word(np.float64(0.9)), other(0.1)), measured(streams=())):
        written = report(test)
        assert Report.from_json(written.to_json()) == written


def test_a_report_is_strict_json_with_the_keys_of_the_contract():
    data = json.loads(report(measured(streams=())).to_json())
    assert data["schema"] == 1
    assert data["operating_point"] == {"threshold": 0.5, "target_fah": 1.0}
    assert data["test"]["fah_high"] is None
    assert {"pauc", "max_fpr", "eer", "det", "cohorts", "groups"} <= data["test"].keys()


def test_keys_of_later_versions_are_ignored_and_missing_ones_are_named():
    data = json.loads(report(measured()).to_json())
    data["test"]["new"] = 1
    assert Report.from_json(json.dumps(data)).test.clips == 0
    del data["test"]["missed"]
    with pytest.raises(DataError, match="Measured lacks missed"):
        Report.from_json(json.dumps(data))


def test_a_report_from_before_the_targets_exceeds_none():
    data = json.loads(report(measured()).to_json())
    del data["warnings"]
    assert Report.from_json(json.dumps(data)).warnings == []


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"test": 1}'])
def test_a_damaged_report_is_a_data_error(text):
    with pytest.raises(DataError, match="cannot be read"):
        Report.from_json(text)


def test_a_word_that_follows_a_false_alarm_is_missed_if_the_detector_is_still_refractory() -> None:
    """Alarm at hop 10, word at hops 20 to 24: 0.8 s apart, and the refractory time is 2 s."""
    levels = np.zeros(60)
    levels[[10, 22]] = 0.9
    clip = ClipScore(0.9, 0.9, True, "ann", levels=levels, span=(20, 25))
    rules = DetectorSettings(smooth_hops=1, votes=1, of=1, hysteresis=0.05, refractory_s=2.0)
    assert not clip.fires(0.5, rules, 0.08)
    levels[10] = 0.0
    assert clip.fires(0.5, rules, 0.08)
