"""Review's list: marks, sorting, filtering, and what is laid at its end."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.queue_store import QueueStore
from engine.runs import Workspace
from tests.tui.play import play, see
from tests.tui.reviewing import SIZES, Size, decisions, opened, press
from tests.tui.scripted import finds, recording
from wakeword_tui.app import WakewordApp
from wakeword_tui.told import fitted

pytestmark = pytest.mark.usefixtures("silent")


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
def test_recordings_that_begin_alike_are_told_apart(
    workspace: Workspace, queue: QueueStore, tmp_path: Path, size: Size
) -> None:
    for n in (1, 2):
        path = recording(tmp_path / f"1089-134691-kitchen-with-radio-00{n}.wav")
        queue.add([replace(find, content=str(n)) for find in finds(path, 1)])

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await see(app, pilot, "dio-001", "dio-002")

    play(workspace, story, size)


def test_a_name_is_cut_in_front() -> None:
    path = Path("1089-134691-0007.flac")
    assert [fitted(path, width) for width in (21, 20, 16, 9)] == [
        path.name, path.stem, path.stem, "…691-0007"
    ]  # fmt: skip


def test_what_was_decided_alone_stays_so_when_all_that_is_marked_is_decided(
    workspace: Workspace, queue: QueueStore
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await press(pilot, "V", "w", "C")
        await see(app, pilot, "confirm 8 marked items?")
        await press(pilot, "y")
        await see(app, pilot, "Nothing pending here")

    play(workspace, story)
    others = dict.fromkeys(range(2, 10), "confirmed")
    assert decisions(queue) == {1: "wakeword"} | others


def test_marked_items_stay_marked_where_the_decision_cannot_be_written(
    workspace: Workspace, queue: QueueStore
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        review = await opened(app, pilot)
        await press(pilot, "v", "v")
        with closing(sqlite3.connect(workspace.queue)) as other:
            other.execute(
                "CREATE TRIGGER t BEFORE UPDATE ON items BEGIN SELECT RAISE(ABORT, 'full'); END"
            )
        await press(pilot, "C", "y")
        await see(app, pilot, "queue.db: full")
        assert review.pile is not None
        assert review.pile.marked == {1, 2}
        review.pile.go(8)
        assert review.pile.next() == 0

    play(workspace, story)
    assert decisions(queue) == {}


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


def test_new_finds_are_laid_at_the_end(
    workspace: Workspace, queue: QueueStore, tmp_path: Path
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        path = recording(tmp_path / "second.wav")
        queue.add([replace(find, content="second") for find in finds(path, 2)])
        await see(app, pilot, "11 pending", "1 of 11")

    play(workspace, story)
