"""The answer of Bench in lines: the wish, what its threshold does, what that proves and costs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from textual.content import Content

from engine.metrics import OperatingPoint
from wakeword_tui.numbers import brief, hours, percent, rate, span
from wakeword_tui.operating import Answer
from wakeword_tui.taught import beside_the_twin

Line = Content | str | tuple[str, str]


def slider(steps: Sequence[float], step: int) -> Iterable[Line]:
    """The steps around the wish, the wish marked."""
    first = min(max(step - 4, 0), len(steps) - 9)
    parts: list[tuple[str, str]] = [("◂", "$dim" if step else "$grid")]
    for number in range(first, first + 9):
        text = f" {steps[number]:.3g} "
        parts.append((text, "bold $background on $now" if number == step else "$dim"))
    parts.append(("▸", "$dim" if step < len(steps) - 1 else "$grid"))
    yield Content.assemble(*parts)


def set_line(given: Answer, point: OperatingPoint | None) -> Line:
    """What the run is set to, which need not be what is shown; nothing while that is not known."""
    if point is None:
        return ""
    if math.isclose(point.threshold, given.tested.threshold):
        return Content.assemble(("● ", "$now"), "the run is set to this threshold")
    wish = f"for ≤ {rate(point.target_fah)} /h"
    return Content.assemble(("● ", "$now"), f"the run is set to {point.threshold:.3f}, {wish}")


def answer_lines(given: Answer) -> Iterable[Line]:
    """The threshold, and what it does on test."""
    tested, target = given.tested, given.target_fah
    yield Content.assemble(
        ("threshold ", "$dim"),
        (f"{tested.threshold:.3f}", "bold"),
        (f"   for ≤ {rate(target)} /h on validation", "$dim"),
    )
    yield _measure("missed", percent(tested.frr), f"{tested.missed} of {tested.clips}",
                   span(*tested.frr_span))  # fmt: skip
    low, high = tested.fah_span
    yield _measure(
        "false wakes",
        f"{rate(tested.fah)} /h",
        f"{tested.false_alarms} in {hours(tested.hours)}",
        f"{rate(low)} to {rate(high)} /h",
    )
    yield from verdicts(given)


def _measure(name: str, value: str, of: str, interval: str) -> Content:
    return Content.assemble(
        (f"{name:<12}", "$dim"), (f"{value:>8}", "bold"), f"  {of:<13}", (interval, "$dim")
    )


def verdicts(given: Answer) -> Iterable[Line]:
    """What the hours prove, and what they cannot."""
    tested, target = given.tested, given.target_fah
    missing = tested.hours_missing(target)
    if not given.proves:
        yield Content.assemble(("· ", "$now"), "of the validation that chose it: proves nothing")
    elif missing == 0:
        yield Content.assemble(("✓ ", "$success"), f"proved: at most {rate(target)} /h, at 95 %")
    else:
        yield Content.assemble(("· ", "$now"), f"proved: ≤ {rate(tested.proved_fah)} /h at 95 %")
        yield f"  {rate(target)} /h needs {hours(missing)} more without an alarm"
    if not given.kept:
        yield Content.assemble(("✗ ", "$error"), "no threshold kept that on validation")
    elif not given.showable:
        yield Content.assemble(("✗ ", "$error"), "validation has too few hours to show so few")


def cost_lines(report: Mapping[str, Any]) -> Iterable[Line]:
    """The targets that the model exceeds, and what it costs."""
    for warning in report.get("warnings", ()):
        yield Content.assemble(("! ", "$error"), warning)
    latency = report["latency_ms"]
    size = f"{brief(report['parameters'])} parameters  {brief(report['macs'])} MACs"
    yield (f"{size}  p50 {latency['p50']:.2f}  p95 {latency['p95']:.2f} ms", "$dim")


def taught_lines(report: Mapping[str, Any]) -> Iterable[Line]:
    """Each teacher beside the student's twin, as both did on validation before it taught."""
    for teacher in report.get("teachers", ()):
        sign = ("✓ ", "$success") if teacher["better"] else ("! ", "$warning")
        yield Content.assemble(sign, f"taught by {teacher['kind']}: {beside_the_twin(teacher)}")
