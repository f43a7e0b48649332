"""How numbers look on a screen: short, aligned, with a thin hand on digits."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.preview import Pace


def count(value: int) -> str:
    """A whole number in groups of three: `12 340`."""
    return f"{value:,}".replace(",", " ")


def brief(value: float) -> str:
    """A number in four characters or so: `950`, `41.2k`, `3.1M`."""
    for unit in ("", "k", "M"):
        if abs(value) < 1000:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}G"


def paced(pace: "Pace") -> str:
    """How many clips a student learns from, and its teachers hear, in a second."""
    teachers = f", teachers {brief(pace.asked_per_s)}/s" if pace.asked_per_s else ""
    return f"{brief(pace.clips_per_s)} clips/s of {pace.on}{teachers}"


def percent(share: float) -> str:
    """A share as a percentage with one decimal: `2.1 %`."""
    return f"{share * 100:.1f} %"


def span(low: float, high: float) -> str:
    """An interval of shares, in percent: `1.9 to 6.3 %`."""
    return f"{low * 100:.1f} to {high * 100:.1f} %"


def rate(per_hour: float) -> str:
    """False alarms per hour, with as many digits as mean something; `-` for no hours at all."""
    if not math.isfinite(per_hour):
        return "-"
    return f"{per_hour:.2f}" if per_hour < 10 else f"{per_hour:.0f}"


def hours(value: float) -> str:
    """A length in hours, with as many digits as mean something: `0.25 h`, `16.3 h`, `412 h`."""
    if 0 < value < 0.1:
        return f"{value:.1g} h"
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} h"


def small(value: float) -> str:
    """A loss or a learning rate: `0.0612`, `4.1e-04`."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"


def duration(seconds: float) -> str:
    """A length of time in its two largest units: `42s`, `3m 05s`, `2h 10m`."""
    if not math.isfinite(seconds):
        return "-"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
