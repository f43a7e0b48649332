"""Collector: what refers to itself in circles is let go every half minute.

Each change of screen leaves about 1,300 objects in circles behind: Textual's styles. Python looks
at everything only once a quarter as much again has come; with torch in memory that is 40 MB later.
"""

import gc
import sys

EVERY_S = 30.0


class Collector:
    """Collects circles; what has been imported is looked at once more and then left alone."""

    def __init__(self) -> None:
        self._imported = 0

    def collect(self) -> None:
        """Let go of circles: 3 to 5 ms, and 60 ms once after an import like torch's."""
        gc.collect()
        if len(sys.modules) != self._imported:
            self._imported = len(sys.modules)
            gc.freeze()
