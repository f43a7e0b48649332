"""Review: every key, what is on the screen, and what is in the queue afterwards."""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from textual.events import Key
from textual.pilot import Pilot

from engine import audio
from engine.audio import SAMPLE_RATE
from engine.queue_store import Decision, QueueItem, QueueStore
from engine.runs import Workspace
from tests.tui.play import LARGE, SMALL, play, same_as_file, screen, see
from tests.tui.scripted import finds, queue_at, recording
from wakeword_tui.app import WakewordApp
from wakeword_tui.screens.review import ReviewScreen
from wakeword_tui.widgets.clip import ClipPanel
from wakeword_tui.widgets.queue import QueueList

SCREENS = Path(__file__).parent / "screens"
SIZES = pytest.mark.parametrize("size", [SMALL, LARGE])
Size = tuple[int, int]


@pytest.fixture(autouse=True)
def _without_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)


@pytest.fixture
def queue(workspace: Workspace, tmp_path: Path) -> Iterator[QueueStore]:
    """Nine finds, all pending: number 1 has the best score, number 9 the least."""
    store = queue_at(workspace, tmp_path)
    yield store
    store.close()


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


async def until(pilot: "Pilot[int]", what: Callable[[], object], within_s: float = 10.0) -> None:
    for _ in range(int(within_s / 0.02)):
        if what():
            return
        await pilot.pause(0.02)
    raise AssertionError(screen(pilot.app))


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


@SIZES
def test_the_whole_screen(workspace: Workspace, queue: QueueStore, size: Size) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await press(pilot, "c", "d", "w", "i", "f", "v")
        await see(app, pilot, "no run to score", "6 of 9  1 marked")
        shown = re.sub(r"\d+s ago", "1s ago", re.sub(r"[▶■] \d\.\d+", "■ 0.00", screen(app)))
        same_as_file(shown, SCREENS / f"review-{size[0]}x{size[1]}.txt")

    play(workspace, story, size)


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


@SIZES
def test_space_plays_and_stops_and_the_other_keys_change_how(
    workspace: Workspace, queue: QueueStore, size: Size
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        player = panel(app).player
        await press(pilot, "space")
        await see(app, pilot, "▶")
        await press(pilot, "R", "L")
        await see(app, pilot, "slow  loop")
        await press(pilot, "space")
        stopped_s = player.position_s
        assert not player.playing
        assert 0.1 < stopped_s < 2.0
        await press(pilot, "b")
        assert player.position_s == max(0.0, stopped_s - 0.5)
        await press(pilot, "R", "L", "r")
        assert (player.speed, player.loop, player.playing) == (1.0, False, True)
        assert player.position_s < 0.5

    play(workspace, story, size)


@SIZES
def test_volume(workspace: Workspace, queue: QueueStore, size: Size) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await press(pilot, "minus", "minus")
        await see(app, pilot, "vol 80 %")
        await press(pilot, "plus", "equals_sign", "plus")
        await see(app, pilot, "vol 110 %")

    play(workspace, story, size)


@SIZES
def test_the_edges_can_be_moved(workspace: Workspace, queue: QueueStore, size: Size) -> None:
    """The stretch of item 1 is 0.5 to 2.5 s, of which each key moves 50 ms."""

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await press(pilot, "comma", "comma", "comma", "less_than_sign", "full_stop")
        await press(pilot, "greater_than_sign", "full_stop")
        await see(app, pilot, "/ 1.85 s")
        await press(pilot, "u", "u", "u", "u")
        await see(app, pilot, "/ 1.85 s")

    play(workspace, story, size)
    find = queue.item(1).find
    assert (round(find.start_s, 6), round(find.end_s, 6)) == (0.65, 2.5)


@SIZES
def test_notes_and_flags(workspace: Workspace, queue: QueueStore, size: Size) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await press(pilot, "f", "n")
        await see(app, pilot, "note on crowd_0431.wav")
        await pilot.press(*"a child", "enter")
        await see(app, pilot, "note a child", "! flagged", "!n")
        await press(pilot, "j", "n", "escape", "k", "n")
        await pilot.press(*["backspace"] * 7, "enter")
        await until(pilot, lambda: "note a child" not in screen(app))
        await press(pilot, "f", "f")

    play(workspace, story, size)
    assert (queue.item(1).note, queue.item(1).flagged) == ("", True)


@SIZES
def test_marked_items_are_decided_together_after_a_question(
    workspace: Workspace, queue: QueueStore, size: Size
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await press(pilot, "C")
        await see(app, pilot, "nothing is marked")
        await press(pilot, "v", "j", "v", "C")
        await see(app, pilot, "confirm 2 marked items?")
        await press(pilot, "n")
        assert decisions(queue) == {}
        await press(pilot, "C", "y")
        await see(app, pilot, "7 pending")
        await press(pilot, "V", "V", "V", "k", "v", "D")
        await see(app, pilot, "discard 6 marked items?")
        await press(pilot, "y")
        await see(app, pilot, "1 pending")
        await press(pilot, "u")
        await see(app, pilot, "of 7")

    play(workspace, story, size)
    assert decisions(queue) == {1: "confirmed", 3: "confirmed"}


@SIZES
def test_sorting_and_what_is_listed(workspace: Workspace, queue: QueueStore, size: Size) -> None:
    queue.decide([2], "confirmed")

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        for order in ("nearness", "recording", "newest", "finder", "score"):
            await press(pilot, "o")
            await see(app, pilot, f"8 pending by {order}")
        listed = "1 confirmed", "0 discarded", "0 wake word", "0 ignored", "9 in all", "8 pending"
        for title in listed:
            await press(pilot, "s")
            await see(app, pilot, title if title[0] != "0" else f"Nothing {title[2:]} here")

    play(workspace, story, size)


@SIZES
def test_the_filter_finds_paths_and_notes(
    workspace: Workspace, queue: QueueStore, size: Size
) -> None:
    queue.annotate(5, "a Child")

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await press(pilot, "slash")
        await pilot.press(*"child")
        await see(app, pilot, "1 pending with 'child'")
        await press(pilot, "enter", "c")
        await see(app, pilot, "that was the last one here")
        await press(pilot, "escape")
        await see(app, pilot, "8 pending by")

    play(workspace, story, size)
    assert decisions(queue) == {5: "confirmed"}


@SIZES
def test_y_copies_what_fetches_the_clip(
    workspace: Workspace, queue: QueueStore, size: Size, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 5000 10.0.0.2 2222")

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await press(pilot, "y")
        await until(pilot, lambda: app.clipboard)
        assert re.fullmatch(r"scp -P 2222 \w+@10\.0\.0\.2:/\S+-crowd_0431\.wav \.", app.clipboard)

    play(workspace, story, size)
    (path,) = (workspace.root / "clips").iterdir()
    assert len(audio.read(path)) == 2 * SAMPLE_RATE


def test_a_recording_that_has_gone_says_so_and_can_be_decided(
    workspace: Workspace, queue: QueueStore, tmp_path: Path
) -> None:
    (tmp_path / "crowd_0431.wav").unlink()

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("5")
        await see(app, pilot, "✗ not there any more")
        await press(pilot, "space", "r", "comma", "y", "d")
        await see(app, pilot, "✗ 0.900")

    play(workspace, story)
    assert decisions(queue) == {1: "discarded"}


def test_alarms_of_a_test_stream_are_marked_never_trained_on(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Groups are split by their hash: "talk" tests in one of the five folds."""
    from engine.manifest import fold_of

    group = next(f"talk{n}" for n in range(99) if fold_of(f"talk{n}") == 0)
    store = QueueStore(workspace.queue)
    store.add(finds(recording(tmp_path / "crowd_0431.wav"), 1, group))
    store.close()

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        assert "never trained on" not in screen(app)
        app.open_run("1")
        await see(app, pilot, "! never trained on: of the test streams")

    play(workspace, story)


def test_new_finds_are_laid_at_the_end(
    workspace: Workspace, queue: QueueStore, tmp_path: Path
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        path = recording(tmp_path / "second.wav")
        queue.add([replace(find, content="second") for find in finds(path, 2)])
        await see(app, pilot, "11 pending", "1 of 11")

    play(workspace, story)


def test_a_damaged_queue_is_a_message(workspace: Workspace) -> None:
    workspace.root.mkdir(exist_ok=True)
    workspace.queue.write_bytes(b"no database" * 1000)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("5")
        await see(app, pilot, "is damaged: file is not a database", ".recover")
        await press(pilot, *"cduvCj", "space")

    play(workspace, story)


@SIZES
def test_the_clip_can_have_the_whole_screen(
    workspace: Workspace, queue: QueueStore, size: Size
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await press(pilot, "z", "j", "d")
        await see(app, pilot, "@ 0:08.5")
        assert "pending by" not in screen(app)
        await press(pilot, "escape", "k")
        await see(app, pilot, "9 pending by", "@ 0:05.5")

    play(workspace, story, size)
    assert decisions(queue) == {2: "discarded"}


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
        await see(app, pilot, "9 pending", "✓ 0.900")
        await press(pilot, "1")
        assert not player.playing
        await press(pilot, "5")
        await see(app, pilot, "8 pending")
        assert app.screen.query_one(QueueList).text.count("crowd") == 8

    play(workspace, story)
