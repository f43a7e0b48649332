"""Review's clip: how it is played, its edges, notes and flags, and its way to another machine."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from textual.events import Key
from textual.pilot import Pilot

from engine import audio
from engine.audio import SAMPLE_RATE
from engine.dataset import pack, read
from engine.jobs import Control
from engine.queue_store import QueueItem, QueueStore
from engine.recipe import Recipe
from engine.recipe_file import override
from engine.runs import Workspace
from tests.tiny import hiss, ignore
from tests.tui.play import gone, play, screen, see, until
from tests.tui.reviewing import SIZES, Size, decisions, opened, panel, press
from tests.tui.scripted import finds, recording
from wakeword_tui.app import WakewordApp
from wakeword_tui.clips import _held_out, split_in

pytestmark = pytest.mark.usefixtures("silent")


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
        assert player.position_s == pytest.approx(max(0.0, stopped_s - 0.5))
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


def test_keys_in_quick_succession_each_count(workspace: Workspace, queue: QueueStore) -> None:
    """Three times 50 ms, and a flag put on and taken away, before anything is on the disk."""

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        for key in ("comma", "comma", "comma", "f", "f"):
            app.post_message(Key(key, None))
        await see(app, pilot, "/ 1.85 s")

    play(workspace, story)
    assert round(queue.item(1).find.start_s, 6) == 0.65
    assert not queue.item(1).flagged


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
        await gone(app, pilot, "note a child")
        await press(pilot, "f", "f")

    play(workspace, story, size)
    assert (queue.item(1).note, queue.item(1).flagged) == ("", True)


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


def test_a_recipe_says_what_is_never_trained_on(workspace: Workspace, tmp_path: Path) -> None:
    """By the manifest's own split, whatever the hash of the group; a copy once it is packed.

    "anna" is of fold 1, which validates: a recording that the manifest trains on trains all the
    same.
    """
    tested, trained = recording(tmp_path / "a.wav"), tmp_path / "b.wav"
    audio.write(trained, hiss(30, 1))
    shutil.copy(tested, tmp_path / "copy.wav")
    rows = ["path,label,group,split", "a.wav,speech,jo,test", "b.wav,speech,anna,train"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    changes = {"data.manifest": tmp_path / "manifest.csv", "data.wakeword": "hey"}
    settings = override(Recipe(), changes).data
    (found,) = finds(tested, 1)

    def split(path: Path, group: str) -> str:
        find = replace(found, path=path, group=group)
        return split_in(workspace, settings, QueueItem(1, find, "pending", None, "", False, 0.0))

    assert split(tested, "jo") == split(tmp_path / "new.wav", "jo") == "test"
    assert split(trained, "anna") == "train"
    assert split(tmp_path / "copy.wav", "user:copy") == "train"
    pack(read(settings), workspace.cache, emit=ignore, control=Control())
    _held_out.cache_clear()
    assert split(tmp_path / "copy.wav", "user:copy") == "test"
    (tmp_path / "manifest.csv").unlink()
    _held_out.cache_clear()
    assert split(trained, "anna") == "validation"


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
        await see(app, pilot, "8 pending by", "@ 0:05.5")

    play(workspace, story, size)
    assert decisions(queue) == {2: "discarded"}
