import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from test_audio import write_noise
from tiny import Fuse, Trained, hiss, ignore, run_tiny, tone
from waiting import PATIENCE_S, until

from engine import audio
from engine.audio import Waveform
from engine.checkpoint import load, set_operating_point
from engine.detector import Detection
from engine.errors import CheckpointError, DataError
from engine.events import Event, Mined, Mining, Progressed, Warned
from engine.finder import Finder, Peaks
from engine.jobs import Control, Stopped
from engine.mine import mine, resume
from engine.queue_store import Find, QueueStore, content_of
from engine.runs import Run, Workspace

MINUTES = 4


def busy(seed: int = 0) -> Waveform:
    """Four minutes in which tones come and go."""
    rng = np.random.default_rng(seed)
    waveform = hiss(60 * MINUTES, seed, 0.02)
    for start in rng.integers(0, len(waveform) - 16_000, 120):
        sound = tone(float(rng.uniform(300, 2000)), 0.4, float(rng.uniform(0.1, 0.6)))
        waveform[start : start + len(sound)] += sound
    return np.clip(waveform, -1, 1)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "long.wav"
    audio.write(path, busy())
    return path


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@cache
def scores(run: Path, path: Path) -> np.ndarray:
    return Finder.of(run).scorer.score(audio.read(path))


@pytest.fixture(scope="module")
def level(tiny_run: Trained, recording: Path) -> float:
    """A threshold that a twentieth of the recording's scores reach."""
    return float(np.quantile(scores(tiny_run.run.best, recording), 0.95))


def queued(home: Workspace) -> list[Find]:
    store = QueueStore(home.queue)
    found = [item.find for item in store.items(store.ids(order="source"))]
    store.close()
    return found


@pytest.fixture(scope="module")
def uninterrupted(
    tiny_run: Trained, recording: Path, level: float, tmp_path_factory: pytest.TempPathFactory
) -> list[Find]:
    home = Workspace(tmp_path_factory.mktemp("uninterrupted"))
    best = tiny_run.run.best
    mine([recording], best, home, threshold=level, emit=ignore, control=Control())
    return queued(home)


def test_what_is_found_is_where_the_detector_fires_on_the_whole_recording(
    tiny_run: Trained, recording: Path, level: float, uninterrupted: list[Find]
) -> None:
    finder = Finder.of(tiny_run.run.best)
    peaks, grid = Peaks(finder.rules, level, finder.scorer.grid.hop_s), finder.scorer.grid
    expected = [
        peaks.push(float(score), grid.window_s + hop * grid.hop_s)
        for hop, score in enumerate(scores(tiny_run.run.best, recording))
    ]
    places = [d for d in [*expected, peaks.finish()] if d]
    assert len(places) > 10
    found = [Detection(find.time_s, find.score) for find in uninterrupted]
    assert [d.time_s for d in found] == [d.time_s for d in places]
    assert [d.score for d in found] == pytest.approx([d.score for d in places], abs=1e-4)


def test_a_find_tells_where_it_is_and_what_found_it(
    tiny_run: Trained, recording: Path, level: float, uninterrupted: list[Find]
) -> None:
    """A window of 1.495 s, and half a second around it."""
    find = next(find for find in uninterrupted if 10 < find.time_s < 200)
    content = content_of(recording)
    assert (find.path, find.content, find.group) == (recording, content, f"user:{content}")
    assert find.start_s == pytest.approx(find.time_s - 1.495 - 0.5)
    assert find.end_s == pytest.approx(find.time_s + 0.5)
    assert (find.threshold, find.found_by) == (level, "background")
    assert len(find.checkpoint) == 64


@pytest.mark.parametrize("at", [0, 1, 3, 5, 8, 9])
def test_a_stop_at_any_step_loses_and_repeats_nothing(
    tiny_run: Trained, recording: Path, level: float, home: Workspace, at: int,
    uninterrupted: list[Find],
) -> None:  # fmt: skip
    best = tiny_run.run.best
    try:
        mine([recording], best, home, threshold=level, emit=ignore, control=Fuse(at))
    except Stopped:
        mine([recording], best, home, threshold=level, emit=ignore, control=Control())
    assert queued(home) == uninterrupted


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3"])
def test_any_format_goes_on_exactly(
    tiny_run: Trained, level: float, home: Workspace, tmp_path: Path, name: str
) -> None:
    path, best, whole = tmp_path / name, tiny_run.run.best, Workspace(tmp_path / "whole")
    write_noise(path, 22_050, 100.0)
    low = float(np.quantile(scores(best, path), 0.8))
    mine([path], best, whole, threshold=low, emit=ignore, control=Control())
    with pytest.raises(Stopped):
        mine([path], best, home, threshold=low, emit=ignore, control=Fuse(3))
    resume([], home, emit=ignore, control=Control())
    assert queued(home) == queued(whole) != []


MINE_AND_DIE = """
import os, random, signal, sys, time
from pathlib import Path
import engine.mine
from engine.events import Mining
from engine.jobs import Control
from engine.runs import Run, Workspace

engine.mine.COMMIT_EVERY_S = engine.mine.SHOW_EVERY_S = 0.0
recording, best, root, level, kills = sys.argv[1:]
rng = random.Random(4)

def go_on(ready):
    def emit(event):
        if isinstance(event, Mining):
            os.write(ready, b".")
    home = Workspace(Path(root))
    engine.mine.mine(
        [Path(recording)], Path(best), home, threshold=float(level), emit=emit, control=Control()
    )

killed = 0
while True:
    heard, ready = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(heard)
        go_on(ready)
        os._exit(0)
    os.close(ready)
    if killed < int(kills):
        if killed % 4:
            os.read(heard, 1)
            time.sleep(rng.uniform(0.0, 0.01))
        else:
            time.sleep(rng.uniform(0.0, 0.15))
        os.kill(child, signal.SIGKILL)
        killed += 1
    _, status = os.waitpid(child, 0)
    os.close(heard)
    if status == 0:
        break
print(killed)
"""


def test_killed_at_any_moment_it_finds_the_same(
    tiny_run: Trained, level: float, home: Workspace, tmp_path: Path
) -> None:
    """Half an hour is 64 units: of them a kill leaves a few."""
    best, path, whole = tiny_run.run.best, tmp_path / "long.wav", Workspace(tmp_path / "whole")
    audio.write(path, np.concatenate([busy(seed) for seed in range(8)]))
    mine([path], best, whole, threshold=level, emit=ignore, control=Control())
    uninterrupted = queued(whole)
    command = [sys.executable, "-c", MINE_AND_DIE, str(path), str(best), str(home.root), str(level)]
    done = subprocess.run([*command, "20"], capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert int(done.stdout) >= 15
    assert queued(home) == uninterrupted
    store = QueueStore(home.queue)
    (session,) = store.sessions()
    store.close()
    assert (session.found, session.done) == (len(uninterrupted), True)


def test_a_pause_has_everything_on_the_disk(
    tiny_run: Trained, recording: Path, level: float, home: Workspace
) -> None:
    control, seen = Control(), threading.Event()

    def emit(event: Event) -> None:
        if isinstance(event, Mining) and not seen.is_set():  # a slow machine tells of more than one
            control.pause()
            seen.set()

    best = tiny_run.run.best
    work = threading.Thread(
        target=lambda: mine([recording], best, home, threshold=level, emit=emit, control=control)
    )
    work.start()
    assert seen.wait(PATIENCE_S)
    until(lambda: control.waiting)
    store = QueueStore(home.queue)
    (session,) = store.sessions()
    assert session.position_s >= 30
    assert all(find.time_s <= session.position_s for find in queued(home))
    control.resume()
    work.join()
    assert store.sessions()[0].done
    store.close()


def broken_off(recording: Path, run: Trained, home: Workspace, level: float) -> None:
    with pytest.raises(Stopped):
        mine([recording], run.run.best, home, threshold=level, emit=ignore, control=Fuse(4))


def test_a_changed_file_is_not_gone_on_with(
    tiny_run: Trained, level: float, home: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    audio.write(path, busy(1))
    broken_off(path, tiny_run, home, level)
    before = queued(home)
    audio.write(path, busy(2))
    with pytest.raises(DataError, match="has changed since session 1") as caught:
        resume([1], home, emit=ignore, control=Control())
    assert "begins anew" in caught.value.hint
    assert queued(home) == before


def test_a_touched_file_is_gone_on_with(
    tiny_run: Trained, recording: Path, level: float, home: Workspace, tmp_path: Path,
    uninterrupted: list[Find],
) -> None:  # fmt: skip
    path = tmp_path / "a.wav"
    shutil.copy(recording, path)
    broken_off(path, tiny_run, home, level)
    os.utime(path, (1, 1))
    resume([], home, emit=ignore, control=Control())
    assert [replace(find, path=recording) for find in queued(home)] == uninterrupted


def test_a_file_that_changes_meanwhile_is_left_at_once(
    tiny_run: Trained, level: float, home: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    audio.write(path, busy(1))

    def emit(event: Event) -> None:
        if isinstance(event, Mining):
            audio.write(path, busy(2))

    with pytest.raises(DataError, match="has changed"):
        mine([path], tiny_run.run.best, home, threshold=level, emit=emit, control=Control())
    assert queued(home) == []


def test_a_file_that_is_gone_is_told_and_the_others_are_mined(
    tiny_run: Trained, recording: Path, level: float, home: Workspace, tmp_path: Path
) -> None:
    events: list[Event] = []
    paths, best = [tmp_path / "gone.wav", recording], tiny_run.run.best
    new = mine(paths, best, home, threshold=level, emit=events.append, control=Control())
    assert new == len(queued(home)) > 0
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert "gone.wav: No such file" in warned.message
    (mined,) = [event for event in events if isinstance(event, Mined)]
    assert (mined.found, mined.hours) == (new, MINUTES / 60)


def test_where_no_recording_can_be_mined_each_is_told_once(
    tiny_run: Trained, home: Workspace, tmp_path: Path
) -> None:
    events, best = list[Event](), tiny_run.run.best
    paths = [tmp_path / "gone.wav", tmp_path / "lost.wav"]
    with pytest.raises(DataError, match="none of 2 recordings could be mined"):
        mine(paths, best, home, emit=events.append, control=Control())
    warned = [event.message for event in events if isinstance(event, Warned)]
    assert [message.rsplit("/")[-1] for message in warned] == [
        "gone.wav: No such file or directory", "lost.wav: No such file or directory",
    ]  # fmt: skip


def test_a_file_whose_name_is_no_text_is_told_and_the_others_are_mined(
    tiny_run: Trained, recording: Path, level: float, home: Workspace, tmp_path: Path
) -> None:
    odd, events = tmp_path / os.fsdecode(b"caf\xe9.wav"), list[Event]()
    audio.write(odd, hiss(2.0, 1))
    paths, best = [odd, recording], tiny_run.run.best
    assert mine(paths, best, home, threshold=level, emit=events.append, control=Control()) > 0
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert "caf\\udce9.wav' is no name in UTF-8" in warned.message


def test_a_file_that_vanishes_before_a_resume_is_told(
    tiny_run: Trained, level: float, home: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    audio.write(path, busy(1))
    broken_off(path, tiny_run, home, level)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.wav is gone") as caught:
        resume([], home, emit=ignore, control=Control())
    assert caught.value.hint == "put it back, then mine --resume 1"


def test_a_damaged_stretch_is_skipped_and_told(
    tiny_run: Trained, level: float, home: Workspace, tmp_path: Path
) -> None:
    path, events = tmp_path / "a.flac", list[Event]()
    audio.write(path, busy(1))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 9000] = bytes(9000)
    path.write_bytes(content)
    best = tiny_run.run.best
    mine([path], best, home, threshold=level, emit=events.append, control=Control())
    warned = [event.message for event in events if isinstance(event, Warned)]
    assert len(warned) == 1
    assert "cannot be read, skipped" in warned[0]
    assert any(find.time_s > 60 * MINUTES - 30 for find in queued(home))


def test_what_was_mined_is_not_mined_twice(
    tiny_run: Trained, recording: Path, level: float, home: Workspace
) -> None:
    best, events = tiny_run.run.best, list[Event]()
    first = mine([recording], best, home, threshold=level, emit=ignore, control=Control())
    again = mine([recording], best, home, threshold=level, emit=events.append, control=Control())
    assert (first > 0, again) == (True, 0)
    assert any(isinstance(e, Warned) and "was mined already" in e.message for e in events)


def test_the_same_places_found_at_another_threshold_are_the_same_items(
    tiny_run: Trained, recording: Path, level: float, home: Workspace
) -> None:
    best = tiny_run.run.best
    mine([recording], best, home, threshold=level, emit=ignore, control=Control())
    before = queued(home)
    higher = sorted(find.score for find in before)[-3]
    assert mine([recording], best, home, threshold=higher, emit=ignore, control=Control()) == 0
    assert [replace(f, threshold=level) for f in queued(home)] == before


def test_another_checkpoint_does_not_go_on_with_a_session(
    tiny_run: Trained, recording: Path, level: float, home: Workspace
) -> None:
    broken_off(recording, tiny_run, home, level)
    store = QueueStore(home.queue)
    begun = store.sessions()[0]
    store.begin_session(replace(begun, checkpoint="another"))
    store.close()
    with pytest.raises(CheckpointError, match="another checkpoint than session 2"):
        resume([2], home, emit=ignore, control=Control())


def test_another_operating_point_goes_on_with_a_session(
    tiny_run: Trained, recording: Path, level: float, home: Workspace, tmp_path: Path,
    uninterrupted: list[Find],
) -> None:  # fmt: skip
    shutil.copytree(tiny_run.run.path, tmp_path / "run")
    run = replace(tiny_run, run=Run(tmp_path / "run"))
    broken_off(recording, run, home, level)
    highest = load(run.run.best).validated().sweep[-1][0]
    set_operating_point(run.run.best, highest, 0.5)
    resume([], home, emit=ignore, control=Control())
    assert queued(home) == uninterrupted


def test_a_lossy_file_is_decoded_again_on_the_way_to_its_place(
    tiny_run: Trained, level: float, home: Workspace, tmp_path: Path
) -> None:
    write_noise(tmp_path / "a.mp3", 16_000, 130.0)
    events: list[Event] = []
    broken_off(tmp_path / "a.mp3", tiny_run, home, level)
    resume([], home, emit=events.append, control=Control())
    rewound = [event.done for event in events if isinstance(event, Progressed)]
    assert rewound
    assert rewound == sorted(rewound)


def test_a_recording_shorter_than_a_window_is_mined_and_holds_nothing(
    tiny_run: Trained, home: Workspace, tmp_path: Path
) -> None:
    audio.write(tmp_path / "short.wav", hiss(0.5, 1))
    best, path = tiny_run.run.best, tmp_path / "short.wav"
    assert mine([path], best, home, emit=ignore, control=Control()) == 0


def test_a_training_beside_the_miner_is_the_training_it_was(
    tiny_run: Trained, tiny_data: Path, recording: Path, level: float, tmp_path: Path
) -> None:
    ended, best = threading.Event(), tiny_run.run.best

    def mine_on() -> None:
        for number in range(1000):
            if ended.is_set():
                return
            home = Workspace(tmp_path / f"queue{number}")
            mine([recording], best, home, threshold=level, emit=ignore, control=Control())

    miner = threading.Thread(target=mine_on)
    miner.start()
    changes = {"detector.hysteresis": 0.0, "train.steps_per_epoch": 20}
    beside = run_tiny(tiny_data, tmp_path / "workspace", changes)
    ended.set()
    miner.join()
    ours, theirs = (load(run.run.last).weights for run in (beside, tiny_run))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
