"""Waits for what comes about in its own time, however busy the machine."""

import time
from collections.abc import Callable

PATIENCE_S = 60.0
"""Nothing that comes about takes this long; a test that passes waits no longer than it must."""


def until(
    what: Callable[[], object],
    within_s: float = PATIENCE_S,
    else_say: Callable[[], object] = lambda: "",
) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, else_say()
        time.sleep(0.01)
