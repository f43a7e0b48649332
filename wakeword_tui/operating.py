"""From "how many false wakes a day?" to a threshold, out of a report alone.

Validation chooses: the lowest threshold whose false alarms stay within the wish; for the recipe's
own wish the one that was shipped, for which more was heard, and for stricter ones no lower one.
Test tells: what that threshold does on audio that chose nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.metrics import binomial_interval, hours_to_prove, poisson_interval, proved_fah

PER_DAY = (0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 24.0, 48.0, 120.0, 240.0)
"""The steps of the question, in false wakes per day, beside the recipe's own."""

Tables = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tested:
    """What one threshold does on the test split, with intervals of 95 %."""

    threshold: float
    false_alarms: int
    hours: float
    missed: int
    clips: int

    @property
    def fah(self) -> float:
        """False alarms per hour."""
        return self.false_alarms / self.hours if self.hours else 0.0

    @property
    def fah_span(self) -> tuple[float, float]:
        """Garwood's interval of `fah`."""
        return poisson_interval(self.false_alarms, self.hours)

    @property
    def frr(self) -> float:
        """Share of wake words that were missed."""
        return self.missed / self.clips if self.clips else 0.0

    @property
    def frr_span(self) -> tuple[float, float]:
        """Clopper and Pearson's interval of `frr`."""
        return binomial_interval(self.missed, self.clips)

    @property
    def proved_fah(self) -> float:
        """The rate that is not exceeded, at 95 %."""
        return proved_fah(self.false_alarms, self.hours)

    def hours_missing(self, target_fah: float) -> float:
        """Hours without another alarm that would prove the target; 0 once it is proved."""
        return max(0.0, hours_to_prove(target_fah, self.false_alarms) - self.hours)


@dataclass(frozen=True, slots=True)
class Answer:
    """The threshold for a wish, and how it does."""

    target_fah: float
    tested: Tested
    showable: bool
    """Whether the validation hours are enough to show one alarm at the target."""
    kept: bool
    """Whether any threshold kept the target on validation."""
    proves: bool
    """Whether `tested` is of a test: a trial of a search shows the validation that chose it."""


def answer(report: Tables, per_day: float) -> Answer:
    """Choose the threshold on validation for a wish, and look it up on test."""
    target = per_day / 24
    validation, test = report["validation"], report["test"]
    hours = float(validation["hours"])
    sweep: Sequence[Sequence[float]] = validation["sweep"]
    kept = 0
    while kept < len(sweep) and sweep[kept][1] <= target * hours + 1e-9:
        kept += 1
    chosen = max(kept - 1, 0)
    threshold, alarms, missed = test["sweep"][chosen]
    shipped = report["operating_point"]
    own = math.isclose(target, shipped["target_fah"])
    if own or (target < shipped["target_fah"] and shipped["threshold"] > threshold):
        threshold, alarms, missed = shipped["threshold"], test["false_alarms"], test["missed"]
    tested = Tested(
        float(threshold), int(alarms), float(test["hours"]), int(missed), int(test["clips"])
    )
    proves = report.get("split", "test") == "test"
    return Answer(target, tested, target * hours >= 1, kept > 0, proves)


def steps_with(own: float) -> tuple[float, ...]:
    """The steps of a report whose recipe wishes for `own` false wakes per day."""
    others = (step for step in PER_DAY if not math.isclose(step, own))
    return tuple(sorted([own, *others]))
