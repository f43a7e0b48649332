"""What the machine may do to us: a sentence each time, what was whole stays whole, work goes on."""

import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import fill, make_room, read_only, spoil
from studying import NAME, finish, made_recipe, tried
from test_mine import busy, queued, scores
from test_queue_store import find, session
from test_train import assert_equal_runs, go
from tiny import Trained, ignore, tiny_recipe

from engine import audio
from engine.checkpoint import load, save
from engine.dataset import pack, read
from engine.errors import DataError, WakewordError
from engine.events import Event, PhaseChanged, Stepped
from engine.jobs import Control, Jobs, State
from engine.mine import mine, resume
from engine.queue_store import QueueStore
from engine.runs import EventLog, Run, Workspace, read_events
from engine.study import Study
from engine.study_file import create
from engine.train import resume_log, train
from wakeword_tui import checked
from wakeword_tui.__main__ import main

pytestmark = pytest.mark.usefixtures("one_thread")
FULL = "the disk is full|database or disk is full"


# --- a full disk


def filled(folder: Path, what: Callable[[], Any]) -> None:
    """Fill the disk; what writes on it ends in a sentence and a hint. Then make room again."""
    fill(folder)
    try:
        with pytest.raises(WakewordError, match=FULL) as caught:
            what()
        assert caught.value.hint
    finally:
        make_room(folder)


def test_no_room_for_a_checkpoint(disk: Path, tiny_run: Trained) -> None:
    path, best = disk / "last.ckpt", load(tiny_run.run.best)
    save(path, best)
    newer = replace(best, event_number=best.event_number + 1)
    filled(disk, lambda: save(path, newer))
    assert load(path).event_number == best.event_number
    save(path, newer)
    assert load(path).event_number == newer.event_number


def test_no_room_for_an_event(small_disk: Path) -> None:
    log = EventLog(small_disk / "events.jsonl")
    log.append(PhaseChanged("before"))
    filled(small_disk, lambda: [log.append(PhaseChanged("lost" * 100)) for _ in range(99)])
    log.append(PhaseChanged("after"))
    log.close()
    kept = [record.event for record in read_events(log.path)]
    assert (kept[0], kept[-1]) == (PhaseChanged("before"), PhaseChanged("after"))


def test_a_log_that_cannot_even_be_cut_back_fails_the_job_and_ends_it(tmp_path: Path) -> None:
    """A disk that turns read-only under us: of /dev/full nothing can be cut off either."""
    log = EventLog(tmp_path / "events.jsonl")
    log.close()
    log._file = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
    verb = lambda emit, _: emit(PhaseChanged("x"))  # noqa: E731
    job = Jobs(Workspace(tmp_path)).start("train", verb, lambda: log)
    job.thread.join(10)
    assert (job.alive, job.state) == (False, State.FAILED)
    assert isinstance(job.error, DataError)


def test_no_room_for_the_queue(disk: Path) -> None:
    queue = QueueStore(disk / "queue.db")
    queue.add([find(10.0 * n) for n in range(100)])
    filled(disk, lambda: queue.add([find(9.0 * n, content="b") for n in range(20_000)]))
    filled(disk, lambda: [queue.decide(queue.ids(), "confirmed") for _ in range(50)])
    assert len(queue.ids()) == 100
    queue.decide(queue.ids(), "discarded")
    assert queue.add([find(9.0 * n, content="c") for n in range(100)]) == 100
    queue.close()


def test_no_room_for_how_far_a_recording_is_mined(disk: Path) -> None:
    queue = QueueStore(disk / "queue.db")
    begun = queue.begin_session(session())
    finds = [find(9.0 * n) for n in range(20_000)]
    filled(disk, lambda: queue.commit_progress(begun.id, 30.0, finds, before_s=0.0))
    assert (queue.session(begun.id).position_s, queue.ids()) == (0.0, [])
    assert queue.commit_progress(begun.id, 30.0, finds[:3], before_s=0.0) == 3
    queue.close()


def test_no_room_for_a_study(disk: Path) -> None:
    home = Workspace(disk)
    filled(disk, lambda: create(home, NAME, made_recipe(), 40))
    create(home, "other", made_recipe(), 40)

    def try_on() -> None:
        with Study.opened(home, "other", None) as study:
            while (asked := study.ask()) is not None:
                finish(study, asked)

    filled(disk, try_on)
    try_on()
    with Study.opened(home, "other", None) as study:
        complete = [trial for trial in study.shown() if trial.state == "complete"]
    assert len(complete) >= 39  # one may have been asked for when the disk was full


def test_no_room_for_packed_clips(disk: Path, tiny_data: Path) -> None:
    clips, cache = read(tiny_recipe(tiny_data).data), disk / "cache"
    filled(disk, lambda: pack(clips, cache, emit=ignore, control=Control()))
    assert not list(cache.glob("*")) or not list(cache.iterdir())
    assert pack(clips, cache, emit=ignore, control=Control()).clips


LESSONS = """
import sys
from pathlib import Path
import torch
from engine.errors import WakewordError
from engine.jobs import Control
from engine.lessons import Lessons
from engine.teachers import Lesson

def ask(number):
    return (Lesson(torch.zeros(64), (torch.ones(64, 8, 40),)),)

try:
    Lessons(Path(sys.argv[1]), "key", 100, ask).fill(99, emit=lambda _: None, control=Control())
except WakewordError as error:
    print(error)
"""


def test_no_room_for_what_teachers_said(small_disk: Path) -> None:
    """In a process of its own: a mapped file without room ends it with SIGBUS."""
    command = [sys.executable, "-c", LESSONS, str(small_disk)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "the disk is full" in done.stdout


@pytest.fixture(scope="module")
def whole(tiny_data: Path, home: Workspace) -> Run:
    """A run that nothing interrupted."""
    run = home.create(tiny_recipe(tiny_data, {"train.checkpoint_every_s": 0.01}))
    go(run, home, Control())
    return run


@pytest.mark.parametrize("phase", ["pack", "train", "validate", "test"])
def test_a_training_whose_disk_fills_up_goes_on_when_there_is_room(
    disk: Path, whole: Run, phase: str
) -> None:
    recipe, home = whole.recipe(), Workspace(disk)
    run = home.create(recipe)
    log = resume_log(run)

    def emit(event: Event) -> None:
        log.append(event)
        if event == PhaseChanged(phase):
            fill(disk)

    with pytest.raises(WakewordError, match=FULL) as caught:
        train(recipe, run, home, emit=emit, control=Control(), resume=True)
    assert caught.value.hint
    log.close()
    make_room(disk)
    go(run, home, Control())
    assert_equal_runs(run, whole)


def test_the_cure_for_a_full_disk_leaves_the_run_that_is_to_be_gone_on_with(
    disk: Path, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `doctor` prints it, typed in another folder; a name with a space splits into two words."""
    home, other = Workspace(disk / "my place"), Workspace(tmp_path / "workspace")
    run, never, bystander = (w.create(whole.recipe()) for w in (home, home, other))
    (disk / "my").mkdir()
    go(run, home, Control(), until="validate")
    monkeypatch.chdir(tmp_path)
    prune, _, remove = checked.disk(home).fix.partition(", or ")
    assert main(shlex.split(prune)[1:]) == 0
    subprocess.run(remove, shell=True, check=True)
    assert (run.path.exists(), never.path.exists(), home.cache.exists()) == (True, False, False)
    assert (bystander.path.exists(), (disk / "my").exists()) == (True, True)
    resume, _, _ = checked.unfinished(home).fix.partition(", or ")
    assert main(shlex.split(resume)[1:]) == 0
    assert_equal_runs(run, whole)


# --- a disk that cannot be written


def test_a_read_only_workspace_can_be_looked_at_and_says_that_it_cannot_be_written(
    disk: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    home, manifest = Workspace(disk), ["--set", f"data.manifest={tiny_data}"]
    run = home.create(tiny_recipe(tiny_data))
    (disk / "lock").touch()
    read_only(disk)
    (tmp_path / "r.toml").write_text('name = "x"\n')

    def told(*words: str) -> tuple[int, str]:
        code = main(["--workspace", str(disk), *words])
        heard = capsys.readouterr()
        return code, heard.out + heard.err

    code, text = told("runs")
    assert (code, run.name in text) == (0, True)
    word = ("--set", "data.wakeword=beep")
    writers = [
        ("train", str(tmp_path / "r.toml"), *manifest, *word),
        ("runs", "prune", "--keep", "0"),
        ("search", str(tmp_path / "r.toml"), *manifest, *word),
        ("mine", str(next(tiny_data.glob("*.wav"))), "--threshold", "0.5"),
    ]
    try:
        for words in writers:
            code, text = told(*words)
            assert (code, "hint:" in text, "Traceback" in text) == (1, True, False), text
    finally:
        read_only(disk, on=False)


# --- the clock


def test_a_clock_that_is_set_back_costs_no_points_of_the_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps, 1.1 s apart, and an hour back before the second."""
    wall_s, log = [5000.0], EventLog(tmp_path / "events.jsonl")
    monkeypatch.setattr(time, "time", lambda: wall_s[0])
    steady_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: steady_s[0])
    for step, jump_s in ((1, 0.0), (2, -3600.0), (3, 7200.0)):
        wall_s[0] += jump_s + 1.1
        steady_s[0] += 1.1
        log.append(Stepped(step, 0, 0.5, 1e-3, 1.0, 1.0, 1.0, 1.0))
    log.close()
    records = list(read_events(log.path))
    assert [record.event.step for record in records if isinstance(record.event, Stepped)] == [
        1,
        2,
        3,
    ]
    assert [record.n for record in records] == [1, 2, 3]


def test_decisions_are_undone_in_their_order_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = QueueStore(tmp_path / "queue.db")
    queue.add([find(10.0 * n) for n in range(3)])
    first, second, _ = queue.ids()
    now_s = iter([9000.0, 10.0, 20.0, 30.0])
    monkeypatch.setattr(time, "time", lambda: next(now_s))
    queue.decide([first], "confirmed")
    queue.decide([second], "confirmed")
    queue.undo()
    assert [queue.item(n).decision for n in (first, second)] == ["confirmed", "pending"]
    queue.close()


# --- spoiled databases


def test_a_spoiled_study_is_refused_with_a_way_to_recover(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    create(home, NAME, made_recipe(), 40)
    path = home.studies / f"{NAME}.db"
    whole = path.read_bytes()
    for damage in (lambda: spoil(path), lambda: path.write_bytes(b"not a database" * 999)):
        damage()
        before = path.read_bytes()
        with pytest.raises(DataError, match="is damaged") as caught:
            tried(home)
        assert ".recover" in caught.value.hint
        assert path.read_bytes() == before
        path.write_bytes(whole)
    assert tried(home) == ()


# --- a recording that goes away


def test_a_recording_deleted_under_the_miner_keeps_what_was_found_before(
    tiny_run: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is deleted once a minute is mined, and put back."""
    monkeypatch.setattr("engine.mine.COMMIT_EVERY_S", 0.0)
    path, away, best = tmp_path / "a.wav", tmp_path / "away.wav", tiny_run.run.best
    home, whole = Workspace(tmp_path / "a"), Workspace(tmp_path / "b")
    audio.write(path, busy())
    low = float(np.quantile(scores(best, path), 0.9))
    mine([path], best, whole, threshold=low, emit=ignore, control=Control())

    class Thief(Control):
        ticks = 0

        def tick(self) -> None:
            self.ticks += 1
            if self.ticks == 4:
                path.rename(away)

    with pytest.raises(DataError, match=r"a\.wav is gone") as caught:
        mine([path], best, home, threshold=low, emit=ignore, control=Thief())
    assert "put it back" in caught.value.hint
    before = queued(home)
    away.rename(path)
    resume([], home, emit=ignore, control=Control())
    assert len(before) < len(queued(home))
    assert queued(home) == queued(whole)


# --- the rest


def test_a_lock_full_of_rubbish_is_no_holder(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    (tmp_path / "lock").write_bytes(b"\xff rubbish")
    assert home.holder() is None
    assert home.stop_holder() is None
    with home.lock():
        assert home.holder() is not None


def test_looking_whether_a_workspace_is_held_keeps_nobody_from_holding_it(tmp_path: Path) -> None:
    """The lock of a killed process still has its pid: looking then takes it for a moment."""
    home, over = Workspace(tmp_path), threading.Event()
    (tmp_path / "lock").write_text("999999")

    def look() -> None:
        while not over.is_set():
            Workspace(tmp_path).holder()

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(300):
            with home.lock():
                pass
            (tmp_path / "lock").write_text("999999")
    finally:
        over.set()
        for looker in lookers:
            looker.join()


def test_an_event_file_with_rubbish_in_it_is_read_around(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.append(PhaseChanged("a"))
    log.close()
    good = path.read_text()
    head = json.dumps({"n": "x", "time_s": 1.0, "type": "PhaseChanged", "phase": "b"})
    path.write_text("\x00\xff\n[]\n3\n" + head + "\n" + good)
    assert [record.event for record in read_events(path)] == [PhaseChanged("a")]
    EventLog(path, keep=5).close()


def test_a_home_without_room_for_a_log_does_not_keep_the_app_from_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wakeword_tui.config import log_path

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file" / "state"))
    assert log_path() == Path("/dev/null")
