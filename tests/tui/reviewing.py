"""Opens Review in a story, presses its keys, and reads what is in its queue."""

import pytest
from textual.pilot import Pilot

from engine.queue_store import Decision, QueueItem, QueueStore
from tests.tui.play import LARGE, SMALL, see, until
from wakeword_tui.app import WakewordApp
from wakeword_tui.screens.review import ReviewScreen
from wakeword_tui.widgets.clip import ClipPanel

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE])
Size = tuple[int, int]


async def opened(app: WakewordApp, pilot: "Pilot[int]") -> ReviewScreen:
    await pilot.press("5")
    await see(app, pilot, "@ 0:02.5", "vol 100 %")
    assert isinstance(app.screen, ReviewScreen)
    await until(pilot, lambda: panel(app).clip is not None)
    return app.screen


async def press(pilot: "Pilot[int]", *keys: str) -> None:
    """Press keys as fast as a person can."""
    for key in keys:
        await pilot.press(key)
        await pilot.pause(0.09)


def panel(app: WakewordApp) -> ClipPanel:
    return app.screen.query_one(ClipPanel)


def cursor(app: WakewordApp) -> int | None:
    assert isinstance(app.screen, ReviewScreen)
    assert app.screen.pile is not None
    return app.screen.pile.current


def decisions(queue: QueueStore) -> dict[int, Decision]:
    return {item.id: item.decision for item in items(queue) if item.decision != "pending"}


def items(queue: QueueStore) -> list[QueueItem]:
    return queue.items(queue.ids(decision=None))
