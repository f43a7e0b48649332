"""The screens, one file each; each answers one question at a glance.

A screen is imported when it is first shown: charts and clips need numpy, Bench scipy.
"""

import gc
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wakeword_tui.screens.page import Page


def maker(title: str) -> Callable[[], "Page"]:
    """How to make a screen.

    What has been imported by then stays, and the collector need not look at it again: at 400,000
    objects it takes a quarter of a second, every few seconds of typing.
    """

    def make() -> "Page":
        module = import_module(f"wakeword_tui.screens.{title.lower()}")
        gc.freeze()
        made: Page = getattr(module, f"{title}Screen")()
        return made

    return make
