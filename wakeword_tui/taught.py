"""Teachers in words: how each did on validation, beside the student's twin without teachers."""

from collections.abc import Mapping
from typing import Any

from wakeword_tui.numbers import percent


def beside_the_twin(teacher: Mapping[str, Any]) -> str:
    """What a report says of a teacher: `1.2 % missed, twin 1.8 %`."""
    own, twin = teacher["teacher"], teacher["baseline"]
    if twin is None:
        return "held against no run"
    if teacher["measure"] == "frr":
        return f"{percent(own)} missed, twin {percent(twin)}"
    return f"pAUC {own:.4f}, twin {twin:.4f}"
