"""Review: what is on the screen, what its keys decide, and what is in the queue afterwards."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from textual.events import Key
from textual.pilot import Pilot

from engine.queue_store import QueueStore
from engine.runs import Workspace
from tests.tui.play import play, same_as_file, see, type_ahead, until
from tests.tui.reviewing import SIZES, Size, cursor, decisions, opened, panel, press
from wakeword_tui.app import WakewordApp
from wakeword_tui.widgets.queue import QueueList

SCREENS = Path(__file__).parent / "screens"
pytestmark = pytest.mark.usefixtures("silent")


@SIZES
def test_the_whole_screen(workspace: Workspace, queue: QueueStore, size: Size) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await press(pilot, "c", "d", "w", "i", "f", "v")
        await see(app, pilot, "no run to score", "6 of 9  1 marked")
        await same_as_file(pilot, SCREENS / f"review-{size[0]}x{size[1]}.txt", timeless)

    play(workspace, story, size)


def timeless(text: str) -> str:
    return re.sub(r"\d+s ago", "1s ago", re.sub(r"[▶■] \d\.\d+", "■ 0.00", text))


@SIZES
def test_an_empty_queue_says_what_to_press(workspace: Workspace, size: Size) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("5")
        await see(app, pilot, "Nothing to review yet.", "mine --import DIR")
        await press(pilot, *"cdwiuvVCDrRLbf,.<>+-nosjkgG", "space", "y", "backspace")

    play(workspace, story, size)


@SIZES
def test_each_decision_is_in_the_queue_and_the_next_item_plays(
    workspace: Workspace, queue: QueueStore, size: Size
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        for number, key in enumerate("cdwi", start=1):
            await press(pilot, key)
            assert cursor(app) == number + 1
            assert panel(app).player.playing
        await see(app, pilot, "✓ 0.900", "✗ 0.880", "w 0.860", "~ 0.840")

    play(workspace, story, size)
    assert decisions(queue) == {1: "confirmed", 2: "discarded", 3: "wakeword", 4: "ignored"}


@SIZES
@pytest.mark.parametrize("key", ["u", "backspace"])
def test_undo_goes_back_without_end(
    workspace: Workspace, queue: QueueStore, size: Size, key: str
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await press(pilot, "c", "d", "f", "i")
        for number in (3, 3, 2, 1):  # the decision on 3, its flag, and two decisions
            await press(pilot, key)
            await until(pilot, lambda number=number: cursor(app) == number)
        await press(pilot, key)
        await see(app, pilot, "there is nothing to undo")
        await press(pilot, "d")
        assert cursor(app) == 2

    play(workspace, story, size)
    assert decisions(queue) == {1: "discarded"}


def test_undo_takes_back_what_was_decided_before_a_restart(
    workspace: Workspace, queue: QueueStore
) -> None:
    queue.decide([4], "confirmed")

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await press(pilot, "u")
        await until(pilot, lambda: cursor(app) == 4)

    play(workspace, story)
    assert decisions(queue) == {}


def test_a_key_that_is_held_down_decides_once(workspace: Workspace, queue: QueueStore) -> None:
    """Repeats come every 30 ms; another key right after it decides, and so does a later press."""

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        for repeat, key in enumerate("cccccd"):
            event = Key(key, key)
            event.time += 0.03 * repeat
            app.post_message(event)
        await until(pilot, lambda: cursor(app) == 3)
        await pilot.pause(0.3)
        await press(pilot, "d")
        await until(pilot, lambda: cursor(app) == 4)

    play(workspace, story)
    assert decisions(queue) == {1: "confirmed", 2: "discarded", 3: "discarded"}


@pytest.mark.parametrize(
    ("keys", "decided"),
    [
        ("jjc", {3: "confirmed"}),
        ("vjc", {3: "confirmed"}),
        ("Gkdw", {8: "discarded", 9: "wakeword"}),
        ("cduw", {1: "confirmed", 2: "wakeword"}),
    ],
)
def test_keys_that_are_typed_ahead_decide_where_those_before_them_moved(
    workspace: Workspace, queue: QueueStore, keys: str, decided: dict[int, str]
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        type_ahead(app, *keys)
        await until(pilot, lambda: decisions(queue) == decided)
        assert panel(app).player.playing

    play(workspace, story)


@SIZES
def test_moving_decides_nothing_and_plays_nothing(
    workspace: Workspace, queue: QueueStore, size: Size
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        places = {"j": 2, "down": 3, "k": 2, "up": 1, "G": 9, "g": 1, "end": 9, "home": 1,
                  "ctrl+d": 9, "ctrl+u": 1}  # fmt: skip
        for key, place in places.items():
            await press(pilot, key)
            assert cursor(app) == place, key
            assert not panel(app).player.playing
        await see(app, pilot, "1 of 9")

    play(workspace, story, size)
    assert decisions(queue) == {}


def test_a_damaged_queue_is_a_message(workspace: Workspace) -> None:
    workspace.root.mkdir(exist_ok=True)
    workspace.queue.write_bytes(b"no database" * 1000)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("5")
        await see(app, pilot, "is damaged: file is not a database", ".recover")
        await press(pilot, *"cduvCj", "space")

    play(workspace, story)


def test_a_queue_that_breaks_while_a_clip_is_read_is_a_message(
    workspace: Workspace, queue: QueueStore
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        review = await opened(app, pilot)
        assert review.pile is not None
        review._arrive()
        review.pile._items.clear()
        with closing(sqlite3.connect(workspace.queue)) as other:
            other.execute("DROP TABLE items")
        await see(app, pilot, "is damaged: no such table: items")
        await press(pilot, *"cdfn,uvVCj", "space")

    play(workspace, story)


def test_a_small_terminal_shows_one_panel(workspace: Workspace, queue: QueueStore) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("5")
        await see(app, pilot, "9 pending by score")
        await press(pilot, "tab")
        await see(app, pilot, "vol 100 %")
        await press(pilot, "c")
        assert cursor(app) == 2

    play(workspace, story, (50, 14))


def test_another_screen_stops_the_sound_and_a_dialog_does_not(
    workspace: Workspace, queue: QueueStore
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        player = panel(app).player
        await press(pilot, "c", "n")
        await see(app, pilot, "note on")
        assert player.playing
        await press(pilot, "escape")
        await see(app, pilot, "8 pending", "✓ 0.900")
        await press(pilot, "1")
        assert not player.playing
        await press(pilot, "5")
        await see(app, pilot, "8 pending")
        assert app.screen.query_one(QueueList).text.count("crowd") == 8

    play(workspace, story)
