"""A comparison in words: a line for each cohort, and what it all amounts to."""

import math
from collections.abc import Iterable

from engine.compare import LEAST_ALARMS, Alarms, AtEqualAlarms, Comparison, Paired
from engine.report import LEAST_GROUPS, Share
from wakeword_tui.numbers import hours

HEADER = ("cohort", "clips", "A wrong %", "B wrong %", "B / A", "95 %", "only A/B", "B has")


def row(paired: Paired) -> tuple[str, ...]:
    """The cells of a cohort; "-" at the end where the clips show no difference."""
    return (
        paired.cohort,
        str(paired.a.clips),
        _wrong(paired.a),
        _wrong(paired.b),
        _number(paired.ratio),
        _interval(paired.low, paired.high),
        f"{paired.only_a}/{paired.only_b}",
        "-" if paired.verdict == "same" else paired.verdict,
    )


def sentences(comparison: Comparison) -> Iterable[str]:
    """What the clips and the streams show, and what to beware of."""
    first = comparison.cohorts[0]
    does = "misses {} words" if first.positive else "fires on {} clips"
    if first.verdict == "same":
        yield f"{first.cohort}: no difference shown by {first.a.clips} clips"
    else:
        yield f"{first.cohort}: B {does.format(first.verdict)} than A"
    yield from alarm_lines(comparison.alarms)
    yield from _equal_lines(comparison.at_equal_alarms)
    if len(comparison.target_fah) > 1:
        targets = ", ".join(f"{target:g}" for target in comparison.target_fah)
        yield f"thresholds were frozen for FAH <= {targets}: misses are traded for alarms"
    small = [paired.cohort for paired in comparison.cohorts if paired.groups < LEAST_GROUPS]
    yield f"{comparison.pairs} of {comparison.clips} clips paired; intervals draw whole groups"
    if small:
        yield f"  or clips, where there are fewer than {LEAST_GROUPS} groups: {', '.join(small)}"


def alarm_lines(alarms: Alarms) -> Iterable[str]:
    """Both counts, the ratio of the rates, and whether it shows a difference."""
    if not (alarms.hours_a and alarms.hours_b):
        yield "false alarms: not measured, there is no stream"
        return
    yield (
        f"false alarms: A {alarms.a} in {hours(alarms.hours_a)}, B {alarms.b} in "
        f"{hours(alarms.hours_b)}, B / A {_number(alarms.ratio)} "
        f"({_interval(alarms.low, alarms.high)})"
    )
    if not alarms.same_streams:
        yield "  no change is shown: the streams of A and B are not the same"
    elif not alarms.enough:
        yield f"  no change is shown: that takes {LEAST_ALARMS} alarms of A"
    else:
        yield "  no difference" if alarms.verdict == "same" else f"  B has {alarms.verdict}"


def _equal_lines(found: Iterable[AtEqualAlarms]) -> Iterable[str]:
    """A line for each number of alarms that both sides are brought to."""
    for n, level in enumerate(found):
        if n == 0:
            yield "words of all conditions at equal alarms, each side's thresholds moved:"
        words = level.words
        verdict = "" if words.verdict == "same" else f", B {words.verdict}"
        yield (
            f"  at {level.alarms}: A {words.a.wrong}, B {words.b.wrong} of {words.a.clips} missed, "
            f"B / A {_number(words.ratio)} ({_interval(words.low, words.high)}){verdict}"
        )


def _wrong(share: Share) -> str:
    return f"{share.wrong} {share.rate * 100:5.1f}"


def _interval(low: float, high: float) -> str:
    return "any" if low == 0 and high == math.inf else f"{_number(low)}-{_number(high)}"


def _number(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
