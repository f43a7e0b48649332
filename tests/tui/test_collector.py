"""Circles are let go, whatever has been imported."""

import gc
import sys
import weakref
from types import ModuleType

from wakeword_tui.collector import Collector

ANOTHER = "tests.tui.another"


class Circle:
    def __init__(self) -> None:
        self.self = self


def test_circles_are_let_go_and_imports_left_alone() -> None:
    collector, before = Collector(), gc.get_freeze_count()
    try:
        circle = weakref.ref(Circle())
        collector.collect()
        assert circle() is None
        imported = gc.get_freeze_count()
        assert imported > before
        stays = [Circle() for _ in range(1000)]
        collector.collect()
        assert gc.get_freeze_count() <= imported  # nothing was imported since
        assert len(stays) == 1000
        sys.modules[ANOTHER] = ModuleType(ANOTHER)
        collector.collect()
        assert gc.get_freeze_count() > imported
    finally:
        sys.modules.pop(ANOTHER, None)
        gc.unfreeze()
