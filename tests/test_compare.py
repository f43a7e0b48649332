import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.compare import compare
from engine.errors import DataError
from engine.metrics import OperatingPoint, StreamScores
from engine.outcomes import Outcomes
from engine.recipe import DetectorSettings
from engine.report import ClipScore, Share
from wakeword_tui.paired import alarm_lines

POINT = OperatingPoint(0.5, 1.0)
RULES = DetectorSettings()
HOUR = StreamScores(np.repeat([0.0, 0.9, 0.0, 0.3, 0.0, 0.2, 0.0], 40), 3600.0)


def outcomes(*clips: ClipScore, target_fah: float = 1.0, hours: int = 1) -> Outcomes:
    point = OperatingPoint(0.5, target_fah)
    return Outcomes.of(clips, point, RULES, 0.08, [HOUR] * hours)


def words(marks: str, cohort: str = "clean", *, speakers: int = 20) -> list[ClipScore]:
    """Wake words `w0`, `w1` and on: `x` is missed, any other character is heard."""
    return [
        ClipScore(peak, peak, True, f"speaker{n % speakers}", cohort, f"w{n}")
        for n, peak in enumerate(0.1 if mark == "x" else 0.9 for mark in marks)
    ]


def negative(peak: float, clip: str, cohort: str = "confusable") -> ClipScore:
    return ClipScore(peak, peak, False, "bob", cohort, clip)


def equal(one: Outcomes, other: Outcomes) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in one.__slots__)


def test_a_missed_word_is_wrong_and_so_is_a_negative_that_fires() -> None:
    told = outcomes(*words("x."), negative(0.9, "n0"), negative(0.1, "n1"))
    assert told.wrong.tolist() == [True, False, True, False]
    assert told.score.tolist() == pytest.approx([0.1, 0.9, 0.9, 0.1])
    assert (told.false_alarms, told.hours, told.point) == (1, 1.0, POINT)


@pytest.mark.parametrize("clips", [[], [*words("x."), negative(0.9, "ñ/ö.wav")]])
def test_outcomes_survive_the_disk(tmp_path: Path, clips: list[ClipScore]) -> None:
    told = outcomes(*clips)
    told.write(tmp_path / "outcomes.npz")
    assert equal(Outcomes.read(tmp_path / "outcomes.npz"), told)


def test_a_run_without_outcomes_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="wakeword-tui evaluate") as raised:
        Outcomes.read(tmp_path / "001-alexa" / "outcomes.npz")
    assert "001-alexa does not say what became of each clip" in raised.value.message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_outcomes_are_refused_or_read_as_they_were(
    tmp_path: Path, at: int, value: int, cut: bool
) -> None:
    path, told = tmp_path / "outcomes.npz", outcomes(*words("x.x"))
    told.write(path)
    data = bytearray(path.read_bytes())
    at %= len(data)
    data[at] = value
    path.write_bytes(data[:at] if cut else data)
    try:
        assert equal(Outcomes.read(path), told)
    except DataError as error:
        assert "wakeword-tui evaluate" in error.hint


def test_other_arrays_are_not_outcomes(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.npz"
    outcomes(*words("x.")).write(path)
    with np.load(path) as arrays:
        found = dict(arrays)
    for change in ({"wrong": np.array([True])}, {"score": np.array(["a", "b"])}):
        np.savez(path, **(found | change))
        with pytest.raises(DataError, match="something else"):
            Outcomes.read(path)
    del found["cohort"]
    np.savez(path, **found)
    with pytest.raises(DataError, match="cannot be read"):
        Outcomes.read(path)


def test_outcomes_of_an_earlier_kind_say_so(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.npz"
    outcomes(*words("x.")).write(path)
    with np.load(path) as arrays:
        found = {name: arrays[name] for name in arrays if name not in ("peak", "alarms")}
    np.savez(path, **(found | {"version": np.array(1)}))
    with pytest.raises(DataError, match="heard otherwise") as raised:
        Outcomes.read(path)
    assert "wakeword-tui evaluate" in raised.value.hint


def test_clips_are_paired_by_name_and_cohort_in_any_order() -> None:
    # A misses w0 and w1, B misses w1 and w2: 2 of 4 each, one clip of each side its own
    a = outcomes(*words("xx.."), *words("....", "reverb"))
    b = outcomes(*words("xxxx", "reverb"), *words(".xx.")[::-1])
    clean, reverb = compare([a], [b]).cohorts
    assert (clean.cohort, clean.a, clean.b) == ("clean", Share.of(2, 4), Share.of(2, 4))
    assert (clean.only_a, clean.only_b, clean.ratio, clean.p) == (1, 1, 1.0, 1.0)
    assert (reverb.a.wrong, reverb.b.wrong, reverb.ratio) == (0, 4, math.inf)
    assert reverb.p == pytest.approx(2 / 2**4)


def test_fewer_misses_of_many_are_shown() -> None:
    # 60 against 20 of 200, B missing nothing that A heard: 1/3
    a = outcomes(*words("x" * 60 + "." * 140, speakers=30))
    b = outcomes(*words("x" * 20 + "." * 180, speakers=30))
    (clean,) = compare([a], [b]).cohorts
    assert clean.ratio == pytest.approx(1 / 3)
    assert clean.low < 1 / 3 < clean.high < 1
    assert (clean.groups, clean.verdict) == (30, "fewer")
    (back,) = compare([b], [a]).cohorts
    assert (back.ratio, back.verdict) == (pytest.approx(3), "more")


def test_a_handful_of_clips_shows_nothing_though_every_draw_agrees() -> None:
    # 4 against 0: the ratio is 0 in every draw with one of them, but a coin gives 4 of 4 too often
    a, b = outcomes(*words("xxxx" + "." * 96)), outcomes(*words("." * 100))
    (clean,) = compare([a], [b]).cohorts
    assert (clean.ratio, clean.high, clean.p) == (0.0, 0.0, 2 / 2**4)
    assert clean.verdict == "same"


def test_where_nothing_is_wrong_anything_may_be_true() -> None:
    (clean,) = compare([outcomes(*words("...."))], [outcomes(*words("...."))]).cohorts
    assert (clean.ratio, clean.low, clean.high, clean.verdict) == (1.0, 0.0, math.inf, "same")


def test_whole_speakers_are_drawn() -> None:
    # all of A's misses are one speaker's: drawn without him, both sides miss as many
    marks = "".join("x" if n % 20 == 0 else "." for n in range(400))
    a, b = outcomes(*words(marks)), outcomes(*words("x" + "." * 399))
    (clean,) = compare([a], [b]).cohorts
    assert (clean.a.wrong, clean.b.wrong, clean.high) == (20, 1, 1.0)
    assert clean.verdict == "same"


def test_a_cohort_of_negatives_counts_those_that_fire() -> None:
    a = outcomes(*words(".."), negative(0.9, "n0"), negative(0.9, "n1"))
    b = outcomes(*words(".."), negative(0.9, "n0"), negative(0.1, "n1"))
    confusable = compare([a], [b]).cohorts[1]
    assert not confusable.positive
    assert (confusable.a, confusable.b) == (Share.of(2, 2), Share.of(1, 2))


def test_clean_words_are_not_mixed_with_clean_negatives_and_nameless_clips_are_left_out() -> None:
    clips = [*words("x."), negative(0.9, "n0", "clean"), negative(0.9, "", "clean")]
    found = compare([outcomes(*clips)], [outcomes(*clips)])
    assert (found.pairs, found.clips) == (3, 3)
    assert found.cohorts[0].a == Share.of(1, 2)


def test_folds_are_pooled() -> None:
    fold0, fold1 = words("xx"), [*words("....")[2:]]
    a = [outcomes(*fold0), outcomes(*fold1)]
    assert compare(a, a[::-1]).cohorts[0].a == Share.of(2, 4)


def test_seeds_are_no_more_clips_and_no_more_hours() -> None:
    """Of two clips A gets one wrong twice, B each of them once: one clip is better, one worse."""
    seeds_a = [outcomes(*words("x."), hours=4)] * 2
    seeds_b = [outcomes(*words(mark), hours=4) for mark in (".x", "x.")]
    both = compare(seeds_a, seeds_b)
    found = both.cohorts[0]
    assert (found.a, found.only_a, found.only_b) == (Share.of(2, 4), 1, 1)
    assert both.alarms.hours_a == 4.0
    thrice = compare([outcomes(*words("xxxxxx."))] * 3, [outcomes(*words("......x"))] * 3)
    assert (
        thrice.cohorts[0].p
        == compare([outcomes(*words("xxxxxx."))], [outcomes(*words("......x"))]).cohorts[0].p
    )


def test_alarms_of_seeds_are_held_against_each_other_before_they_are_rounded() -> None:
    """4 and 5 alarms of three seeds: about 1 and 2 of one, and 1.25 times as many."""
    sides = [
        [replace(outcomes(*words("x.")), false_alarms=n) for n in alarms]
        for alarms in ((1, 1, 2), (1, 2, 2))
    ]
    found = compare(*sides).alarms
    assert (found.a, found.b, found.ratio) == (1, 2, 1.25)


def test_a_copy_of_a_clip_in_one_test_is_no_second_seed() -> None:
    twice = outcomes(*words("x."), *words("x."), hours=4)
    found = compare([twice], [twice])
    assert (found.alarms.a, found.alarms.hours_a) == (4, 4.0)


def test_two_wake_words_over_the_same_streams_are_twice_the_hours() -> None:
    """Both hear another word; what is the wake word of one is none of the other's."""
    first, other = words("x."), negative(0.9, "other")
    second = [replace(clip, clip=f"second {clip.clip}") for clip in first]
    runs = [outcomes(*spoken, other, hours=4) for spoken in (first, second)]
    both = compare(runs, runs)
    assert (both.alarms.hours_a, both.cohorts[0].a) == (8.0, Share.of(2, 4))


def test_a_clip_in_ten_may_be_missing_but_no_more() -> None:
    ten = words(".........x")
    assert compare([outcomes(*ten)], [outcomes(*ten[:9])]).cohorts[0].a == Share.of(0, 9)
    with pytest.raises(DataError, match="8 of 10 clips were heard by both sides"):
        compare([outcomes(*ten)], [outcomes(*ten[:8])])
    with pytest.raises(DataError, match="0 of 10 clips"):
        compare([outcomes(*ten)], [outcomes(*words("..", "reverb"))])


def test_a_cohort_that_only_one_side_heard_is_left_out() -> None:
    found = compare([outcomes(*words(".."))], [outcomes(*words(".."), *words("xx", "reverb"))])
    assert [paired.cohort for paired in found.cohorts] == ["clean"]


def test_alarms_are_compared_from_twenty_of_the_baseline_on() -> None:
    few = compare([outcomes(*words("."))], [outcomes(*words("."), hours=40)]).alarms
    assert (few.a, few.b, few.hours_b, few.ratio) == (1, 40, 40.0, 1.0)
    assert not few.enough
    many = compare([outcomes(*words("."), hours=20)], [outcomes(*words("."), hours=20)]).alarms
    assert (many.a, many.enough, many.verdict) == (20, True, "same")


def test_runs_made_for_different_targets_are_told_apart() -> None:
    found = compare([outcomes(*words("."))], [outcomes(*words("."), target_fah=0.5)])
    assert found.target_fah == (0.5, 1.0)


def hour(*peaks: float) -> StreamScores:
    """An hour with these peaks, 100 hops apart."""
    return StreamScores(np.repeat([level for p in peaks for level in (0.0, p, 0.0)], 40), 3600.0)


def at(peaks: list[float], stream: StreamScores, *, threshold: float = 0.5) -> Outcomes:
    """Words `w0`, `w1` and on with these peaks, each of a speaker of its own."""
    clips = [
        ClipScore(peak, peak, True, f"speaker{n}", "clean", f"w{n}") for n, peak in enumerate(peaks)
    ]
    point = OperatingPoint(threshold, 1.0)
    return Outcomes.of(clips, point, RULES, 0.08, [stream])


def test_sides_are_compared_where_they_give_as_many_alarms() -> None:
    """A has no alarm at 0.5 and misses two; at one alarm, just above 0.2, it misses none.

    B has two alarms at 0.5 and misses none; at one, just above 0.6, it misses two.
    """
    a = at([0.9, 0.8, 0.4, 0.3], hour(0.45, 0.2, 0.1))
    b = at([0.9, 0.8, 0.6, 0.55], hour(0.8, 0.6, 0.1))
    found = compare([a], [b])
    assert (found.alarms.a, found.alarms.b) == (0, 2)
    told = [(e.alarms, e.words.a.wrong, e.words.b.wrong) for e in found.at_equal_alarms]
    assert told == [(0, 2, 3), (1, 0, 2), (2, 0, 0)]


def test_the_thresholds_of_a_side_move_together_on_the_scale_of_logits() -> None:
    """Two folds of B at 0.5 and 0.9 give an alarm each; odds times 4 silence both, 0.8 and 0.973.

    Of the words at 0.7 and 0.95 neither is left then, of those at 0.85 and 0.98 both.
    """
    folds = [
        at([0.7, 0.85], hour(0.8), threshold=0.5),
        replace(at([0.95, 0.98], hour(0.92), threshold=0.9), clip=np.array(["v0", "v1"])),
    ]
    quiet = [at([0.9, 0.9], hour(0.1)), replace(at([0.9, 0.9], hour(0.1)), clip=folds[1].clip)]
    none, two = compare(quiet, folds).at_equal_alarms
    assert (none.alarms, none.words.a.wrong, none.words.b.wrong) == (0, 0, 2)
    assert (two.alarms, two.words.b.wrong) == (2, 0)


def test_without_streams_nothing_is_said_of_equal_alarms() -> None:
    silent = replace(outcomes(*words("x.")), thresholds=np.empty(0), alarms=np.empty(0, int))
    assert compare([silent], [outcomes(*words(".x"))]).at_equal_alarms == ()


def test_a_run_misses_its_own_words_at_its_own_alarms() -> None:
    """Ten minutes above 0.5 are 60 alarms, of which hysteresis makes one."""
    on = StreamScores(np.repeat([0.6, 0.0], [7500, 37_500]), 3600.0)
    run = at([0.9, 0.55, 0.3], on)
    told = [
        (e.alarms, e.words.a.wrong, e.words.b.wrong) for e in compare([run], [run]).at_equal_alarms
    ]
    assert run.false_alarms == 60
    assert told == [(1, 2, 2), (60, 1, 1)]


def test_of_different_streams_no_change_is_shown() -> None:
    busy, quiet = (hour(*[0.9] * 40, *[0.1] * 40), hour(*[0.1] * 80))
    a, b = at([0.9], replace(busy, sound="radio")), at([0.9], replace(quiet, sound="library"))
    found = compare([a], [b])
    assert (found.alarms.verdict, found.at_equal_alarms) == ("same", ())
    assert "the streams of A and B are not the same" in " ".join(alarm_lines(found.alarms))
    same = compare([a], [at([0.9], replace(quiet, sound="radio"))])
    assert (same.alarms.verdict, len(same.at_equal_alarms)) == ("fewer", 3)
