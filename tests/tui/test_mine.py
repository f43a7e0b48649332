"""Mine: a folder, recordings that are mined by a real detector, and what becomes of them."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from textual.pilot import Pilot
from tiny import Trained, hiss

from engine import audio
from engine.errors import WakewordError
from engine.jobs import Jobs
from engine.queue_store import QueueStore, Session
from engine.runs import Workspace
from tests.tui.play import (
    LARGE,
    SMALL,
    gone,
    play,
    same_as_file,
    screen,
    see,
    start,
    type_ahead,
    until,
)
from wakeword_tui.app import WakewordApp
from wakeword_tui.mining import QUICK_SWITCH_S, Miner, MineRow, take_turns
from wakeword_tui.screens.mine import row_line

SCREENS = Path(__file__).parent / "screens"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with recordings, a folder of them, and what is none."""
    place = tmp_path / "recordings"
    (place / "podcasts").mkdir(parents=True)
    (place / ".hidden").mkdir()
    for name, seconds in (("radio.wav", 95), ("tv.flac", 40), ("podcasts/one.wav", 35)):
        audio.write(place / name, hiss(seconds, len(name)))
    (place / "notes.txt").write_text("no recording")
    monkeypatch.chdir(place)
    monkeypatch.setenv("TMUX", "yes")
    return place


@pytest.fixture
def home(tmp_path: Path, folder: Path, tiny_run: Trained) -> Workspace:
    """A workspace with a run that can mine."""
    workspace = Workspace(tmp_path / "workspace")
    shutil.copytree(tiny_run.run.path, workspace.root / "runs" / "001-tiny")
    return workspace


def session(name: str, position_s: float, total_s: float, found: int) -> Session:
    done, path = position_s == total_s, Path("/recordings") / name
    model, zero = Path("/best.ckpt"), 0.0
    return Session(
        0, path, "a", 1, 2, model, "c", 0.4, position_s, total_s, "", found, done, zero, zero
    )


@pytest.fixture
def mined(home: Workspace) -> Iterator[Workspace]:
    """A workspace with three sessions: done, broken off, and hardly begun."""
    store = QueueStore(home.queue)
    for begun in (
        session("librispeech.flac", 7200.0, 7200.0, 392),
        session("a-rather-long-name-of-a-recording-of-the-radio.mp3", 2196.0, 3600.0, 812),
        session("tv_2024.opus", 30.0, 36000.0, 0),
    ):
        store.begin_session(begun)
    store.close()
    yield home


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_the_whole_screen(mined: Workspace, size: tuple[int, int]) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("4")
        await see(app, pilot, "librispeech.flac", "100%", "812", "podcasts/", "001-tiny")
        await same_as_file(pilot, SCREENS / f"mine-{size[0]}x{size[1]}.txt")

    play(mined, story, size)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_an_empty_screen_says_what_to_press(home: Workspace, size: tuple[int, int]) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("4")
        await see(app, pilot, "Nothing is mined yet.", "add the recording", "radio.wav", "tv.flac")
        assert "notes.txt" not in screen(app)
        assert ".hidden" not in screen(app)
        await same_as_file(pilot, SCREENS / f"mine-empty-{size[0]}x{size[1]}.txt")

    play(home, story, size)


def test_without_a_detector_it_says_to_train_one(tmp_path: Path, folder: Path) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("4")
        await see(app, pilot, "There is no detector yet.", "2  go to Train")
        await pilot.press("j", "j", "a", "s")
        await see(app, pilot, "there is no detector to mine with")

    play(Workspace(tmp_path / "workspace"), story)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_adds_and_s_mines_it_to_the_end(home: Workspace, size: tuple[int, int]) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("4")
        await see(app, pilot, "radio.wav")
        await pilot.press("j", "j", "a")
        await see(app, pilot, "1 added", "· radio.wav", "0%")
        await pilot.press("s")
        await see(app, pilot, "✓ radio.wav", "100%", "done, ")

    play(home, story, size)
    store = QueueStore(home.queue)
    (only,) = store.sessions()
    store.close()
    assert (only.path.name, only.done) == ("radio.wav", True)


def test_keys_that_are_typed_ahead_add_what_was_under_the_cursor_then(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("4")
        await see(app, pilot, "radio.wav")
        type_ahead(app, "j", "j", "enter", "k", "a", "G", "a", "k")
        await see(app, pilot, "· radio.wav", "· one.wav", "· tv.flac")

    play(home, story, LARGE)


def test_a_folder_is_added_whole_and_x_takes_rows_off(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("4", "a")
        await see(app, pilot, "move to a recording")
        await pilot.press("j", "a", "j", "a")
        await see(app, pilot, "· one.wav", "· radio.wav")
        await pilot.press("tab", "x")
        await gone(app, pilot, "· one.wav")
        await pilot.press("x")
        await see(app, pilot, "Nothing is mined yet.")
        await pilot.press("s")
        await see(app, pilot, "there is nothing to mine")

    play(home, story, LARGE)


def test_x_forgets_a_session_and_keeps_its_finds(mined: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("4")
        await see(app, pilot, "tv_2024.opus")
        await pilot.press("tab", "x")
        await gone(app, pilot, "tv_2024.opus")

    play(mined, story)
    store = QueueStore(mined.queue)
    assert "tv_2024.opus" not in [s.path.name for s in store.sessions()]
    assert len(store.sessions()) == 2
    store.close()


def test_folders_are_walked_through(home: Workspace, folder: Path) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("4", "j", "enter")
        await see(app, pilot, "one.wav")
        await pilot.press("backspace")
        await see(app, pilot, "radio.wav")
        await pilot.press("o")
        await see(app, pilot, "folder")
        await pilot.press("ctrl+u", *str(folder / "podcasts"), "enter")
        await see(app, pilot, "one.wav")
        await pilot.press("o", "ctrl+u", *"/nowhere", "enter")
        await see(app, pilot, "cannot look into /nowhere")
        await pilot.press("j", "enter")
        await see(app, pilot, "· one.wav")

    play(home, story)


def test_what_has_come_into_the_folder_is_seen_and_the_cursor_stays(
    home: Workspace, folder: Path
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("4", "j", "j")
        await see(app, pilot, "3 of 4")
        await pilot.press("1")
        shutil.copy(folder / "tv.flac", folder / "new.flac")
        await pilot.press("4")
        await see(app, pilot, "new.flac", "4 of 5")
        await pilot.press("a")
        await see(app, pilot, "· radio.wav")

    play(home, story)


def test_the_home_of_nobody_is_told(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("4", "o", "ctrl+u", *"~nosuch", "enter")
        await see(app, pilot, "cannot look into", "~nosuch: No such file")

    play(home, story)


def test_a_folder_that_cannot_be_looked_through_is_told(home: Workspace, folder: Path) -> None:
    """Names of more than 4,096 bytes in all are refused by the system."""
    place = os.open(folder / "podcasts", os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=place)
        deeper = os.open("d" * 250, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = deeper
    os.close(place)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("4", "j", "a")
        await see(app, pilot, "cannot look into")

    play(home, story, LARGE)


def ended(jobs: Jobs, miner: Miner) -> None:
    """Wait for the job and take in what it did."""
    jobs.background[-1].thread.join()
    list(miner.drain())


def test_what_was_added_beside_a_job_waits_for_the_next(home: Workspace, folder: Path) -> None:
    jobs = Jobs(home)
    miner = Miner(jobs, partial(QueueStore, home.queue))
    miner.add([folder / "gone.wav", folder / "tv.flac"])
    miner.start()
    miner.add([folder / "radio.wav"])
    ended(jobs, miner)
    rows = [(row.path.name, row.state) for row in miner.rows()]
    assert rows == [("gone.wav", "failed"), ("radio.wav", "waiting"), ("tv.flac", "done")]
    miner.start_run(home.runs()[0])
    ended(jobs, miner)
    assert [row.state for row in miner.rows()] == ["waiting", "waiting", "done"]


def test_what_a_failed_job_did_not_take_has_failed(home: Workspace, folder: Path) -> None:
    home.runs()[0].best.write_bytes(b"damaged")
    jobs = Jobs(home)
    miner = Miner(jobs, partial(QueueStore, home.queue))
    miner.add([folder / "tv.flac"])
    miner.start()
    ended(jobs, miner)
    assert miner.last.startswith("failed: ")
    assert [row.state for row in miner.rows()] == ["failed"]


def test_what_is_done_leaves_the_list_whatever_becomes_of_the_rest(
    home: Workspace, folder: Path
) -> None:
    """The job is stopped as soon as the first of two recordings is mined."""
    audio.write(folder / "long.wav", np.tile(hiss(60, 7), 30))
    jobs = Jobs(home)
    miner = Miner(jobs, partial(QueueStore, home.queue))
    miner.add([folder / "tv.flac", folder / "long.wav", folder / "gone.wav"])
    miner.start()
    while miner.live is not None and not miner.live.store.mined:
        list(miner.drain())
        time.sleep(0.01)
    jobs.background[-1].control.stop()
    ended(jobs, miner)
    assert folder / "tv.flac" not in miner.wanted
    assert folder / "gone.wav" in miner.wanted
    assert "failed" not in [row.state for row in miner.rows()]
    miner.start()
    ended(jobs, miner)
    assert [row.path.name for row in miner.rows()] == ["gone.wav", "long.wav", "tv.flac"]
    assert "was mined already" not in str(miner.live.store.entries)  # type: ignore[union-attr]


def test_threads_take_quick_turns_as_long_as_any_job_runs(home: Workspace) -> None:
    before, jobs, go_on = sys.getswitchinterval(), Jobs(home), threading.Event()
    jobs.start("train", lambda emit, control: None)
    jobs.start("mine", lambda emit, control: go_on.wait() and None, lane="background")
    jobs.gpu.thread.join()  # type: ignore[union-attr]
    take_turns(jobs)
    assert sys.getswitchinterval() == pytest.approx(QUICK_SWITCH_S)
    go_on.set()
    jobs.background[0].thread.join()
    take_turns(jobs)
    assert sys.getswitchinterval() == pytest.approx(before)


def test_a_queue_that_cannot_be_read_is_looked_at_once_a_second(home: Workspace) -> None:
    looked: list[Path] = []

    def queue() -> QueueStore:
        looked.append(home.queue)
        return QueueStore(home.queue)

    home.queue.write_bytes(b"no database at all" * 500)
    miner = Miner(Jobs(home), queue)
    for _ in range(3):
        with pytest.raises(WakewordError, match="is damaged"):
            miner.rows()
    assert len(looked) == 1


def test_p_holds_it_and_s_stops_it_and_it_goes_on(home: Workspace, folder: Path) -> None:
    """A recording of half an hour, paused at once, stopped, and mined to its end."""
    audio.write(folder / "long.wav", np.tile(hiss(60, 7), 30))

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("4", "j", "j", "a")
        app.simulate_key("s")  # the pilot waits for an idle processor after each key
        app.simulate_key("p")
        miner = app.desk.miner
        await until(pilot, lambda: miner.job is not None and miner.job.control.waiting)
        await see(app, pilot, "‖ paused")
        await pilot.press("s")
        await until(pilot, lambda: miner.job is None)
        await see(app, pilot, "last      ")
        if "✓ long.wav" not in screen(app):
            await pilot.press("s")
        await see(app, pilot, "✓ long.wav")

    play(home, story)


def test_d_chooses_the_detector(home: Workspace, tiny_run: Trained) -> None:
    shutil.copytree(tiny_run.run.path, home.root / "runs" / "002-other")

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("4")
        await see(app, pilot, "002-other")
        await pilot.press("d")
        await see(app, pilot, "mine with")
        await pilot.press("j", "enter")
        await see(app, pilot, "detector  001-tiny")

    play(home, story)


def test_y_copies_the_rows(mined: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("4")
        await see(app, pilot, "librispeech.flac")
        await pilot.press("y")
        assert "librispeech.flac" in app.clipboard

    play(mined, story)


def test_m_on_bench_mines_the_training_data_of_a_run(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8")
        await see(app, pilot, "001-tiny", "threshold")
        await pilot.press("m")
        assert app.current_mode == "mine"
        await see(app, pilot, "last      done", "to decide on")

    play(home, story)
    store = QueueStore(home.queue)
    assert store.counts()["pending"] > 0
    assert {i.find.found_by for i in store.items(store.ids())} == {"benchmark"}
    store.close()


def test_m_on_bench_says_why_not(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8")
        await see(app, pilot, "001-alexa")
        await pilot.press("m")
        await see(app, pilot, "001-alexa has no checkpoint")

    play(workspace, story)


def test_it_mines_beside_a_training(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        start(app, steps=10**9, pause_s=0.01)
        await pilot.press("4", "j", "j", "j", "a", "s")
        await see(app, pilot, "✓ tv.flac", "● train")
        app.desk.live.job.control.stop()  # type: ignore[union-attr]

    play(home, story, LARGE)


def test_a_damaged_queue_is_told_once(home: Workspace) -> None:
    home.queue.write_bytes(b"no database at all" * 500)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("4")
        await see(app, pilot, "is damaged")
        await pilot.pause(1.5)
        assert sum("is damaged" in entry.text for entry in app.desk.notes) == 1

    play(home, story)


@pytest.mark.parametrize("width", [40, 52, 90])
def test_a_row_fits_its_panel(width: int) -> None:
    row = MineRow("session:1", Path("/x" * 80), "running", 0.614, 12_345, 12_345.0)
    _, line = row_line(row, width)
    assert line.cell_length <= width
    assert line.plain.endswith("61%  12345   3h 25m")


def test_a_row_of_what_was_heard_tells_its_finds_per_hour(workspace: Workspace) -> None:
    """392 finds in 8 h are 49 an hour."""
    store = QueueStore(workspace.queue)
    store.begin_session(session("a.wav", 28_800.0, 28_800.0, 392))
    (row,) = Miner(Jobs(workspace), lambda: store).rows()
    assert row_line(row, 52)[1].plain.endswith("100%    392     49/h")
    store.close()
