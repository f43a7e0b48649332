"""The cascade in words: a line for each stage, and what it all amounts to. No widgets here."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from engine.cohorts import frr_noisy
from engine.compare import LEAST_ALARMS
from engine.report import Measured
from wakeword_tui.numbers import hours, percent, rate, span

if TYPE_CHECKING:
    from engine.cascade import Passed, Tested
    from engine.verify import Verified

LEAST = 1e-6
HEADER = ("stage", "threshold", "false/h", "95 %", "missed", "95 %", "in noise")
BRIEF = ("stage", "at", *HEADER[2:])


def rows(found: "Tested") -> Iterable[tuple[str, ...]]:
    """The cells of each stage, then of the sentry alone where it misses as many words."""
    sentry = _range([pair.sentry for pair in found.pairs])
    judge = _range([pair.judge for pair in found.pairs])
    yield "sentry alone", "its own", *_cells(found.alone)
    yield "sentry", sentry, *_cells(found.loose)
    yield "and judge", judge, *_cells(found.joint)
    yield "alone, same misses", "", *_cells(found.equal)


def briefly(found: "Tested") -> Iterable[tuple[str, ...]]:
    """The same cells, narrower."""
    for name, *cells in rows(found):
        yield name.removeprefix("alone, "), *(cell.replace(" to ", "-") for cell in cells)


def _cells(measured: Measured) -> tuple[str, ...]:
    alarms = f"{rate(measured.fah_low)} to {rate(measured.fah_high)}"
    missed = percent(measured.frr), span(measured.frr_low, measured.frr_high)
    return rate(measured.fah), alarms, *missed, percent(frr_noisy(measured))


def _range(thresholds: Sequence[float]) -> str:
    """One threshold, or those of several folds; the lowest there is lets anything pass."""
    if max(thresholds) <= LEAST:
        return "any"
    low, high = f"{min(thresholds):.4f}", f"{max(thresholds):.4f}"
    return low if low == high else f"{low} to {high}"


def sentences(found: "Tested") -> Iterable[str]:
    """What is sent, how long an answer takes, and what the judge is good for."""
    often = f"{found.an_hour:.1f} requests of {found.sent_s:.1f} s an hour"
    yield f"forwarded: {found.sent * 100:.2f} % of the audio, {often}"
    if found.took_ms:
        latency = found.latency_ms
        yield f"judge: p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms a request"
    fewer = found.fewer
    both = f"both {fewer.b} false alarms in {hours(fewer.hours_a)}"
    ratio = f"{fewer.ratio:.2f} ({fewer.low:.2f}-{fewer.high:.2f})"
    yield f"at equal misses: alone {fewer.a}, {both}, {ratio}"
    if not fewer.enough:
        yield f"  no change is shown: that takes {LEAST_ALARMS} alarms of the sentry alone"
    else:
        said = {"fewer": "the judge spares", "more": "the judge adds", "same": "no difference in"}
        yield f"  {said[fewer.verdict]} false alarms"


def place(passed: "Passed") -> str:
    """Where a false alarm is that the judge let through, and both scores."""
    scores = f"sentry {passed.sentry:.3f}  judge {passed.judge:.3f}"
    return f"{passed.path} {clock(passed.at_s)}  {scores}"


def clock(seconds: float) -> str:
    """A place in a recording: `3:11.4`."""
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{minutes:.0f}:{rest:04.1f}"


def outcome(found: "Sequence[Verified]") -> Iterable[str]:
    """How many detections a judge let stand, and what became of those that it failed."""
    accepted = sum(one.verdict.accepted for one in found if one.verdict is not None)
    yield f"{len(found)} detections, {accepted} accepted by the judge"
    failed = [one.decision for one in found if one.decision.failure is not None]
    if failed and failed[0].failure is not None:
        yield f"{len(failed)} {failed[0].line}"
        yield failed[0].failure.hint


def tables(found: "Tested") -> dict[str, Any]:
    """All of it as plain tables, for a program to read."""
    measured = {
        name: json.loads(getattr(found, name).to_json())
        for name in ("alone", "loose", "joint", "equal")
    }
    fewer = asdict(found.fewer) | {"verdict": found.fewer.verdict}
    return {
        "pairs": [asdict(pair) for pair in found.pairs],
        **measured,
        "requests": found.requests,
        "requests_an_hour": found.an_hour,
        "sent_s": found.sent_s,
        "share_forwarded": found.sent,
        "latency_ms": found.latency_ms,
        "fewer": {name: None if value == math.inf else value for name, value in fewer.items()},
        "passed": [asdict(alarm) for alarm in found.passed],
    }
