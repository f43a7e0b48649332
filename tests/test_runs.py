import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from faults import fill, make_room
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import BusyError, DataError
from engine.events import Event, PhaseChanged, Progressed, Stepped, Warned
from engine.files import LOCK, alone, write_atomic
from engine.prune import GONE, prune
from engine.recipe import Recipe
from engine.recipe_file import dump, override
from engine.runs import EventLog, Run, Workspace, last_number, read_events

STEP = Stepped(1, 0, 0.5, 1e-3, 1.0, 1.0, 1.0, 1.0)
HOLD = """
import sys, time
from pathlib import Path
from engine.runs import Workspace
with Workspace(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


@pytest.fixture
def holder(home: Workspace) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the workspace's lock."""
    command = [sys.executable, "-c", HOLD, str(home.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def run_named(home: Workspace, name: str, *, finished: bool = False) -> Run:
    run = home.create(override(Recipe(), {"name": name}))
    if finished:
        run.report.write_text('{"test": {}}')
    return run


# --- writing


def test_a_written_file_replaces_the_old_one_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(small_disk: Path) -> None:
    path = small_disk / "last.ckpt"
    write_atomic(path, b"old")
    with pytest.raises(DataError, match="the disk is full") as caught:
        write_atomic(path, bytes(100_000))
    assert caught.value.hint == "free space, then resume"
    assert path.read_bytes() == b"old"
    assert list(small_disk.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot write .*: No such file or directory"):
        write_atomic(tmp_path / "gone" / "file", b"x")


# --- events


def test_the_log_numbers_all_events_and_keeps_the_durable_ones(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    for event in (
        PhaseChanged("a"),
        Progressed("a", 1, 2),
        Progressed("a", 2, 2),
        PhaseChanged("b"),
    ):
        log.append(event)
    log.close()
    assert [(r.n, r.event) for r in read_events(log.path)] == [
        (1, PhaseChanged("a")),
        (2, Progressed("a", 1, 2)),
        (4, PhaseChanged("b")),
    ]
    assert last_number(log.path) == 4


@pytest.mark.parametrize("passing", [STEP, Progressed("words", 1, 3000)])
def test_what_passes_is_kept_at_most_once_a_second(tmp_path: Path, passing: Event) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    for _ in range(50):
        log.append(passing)
    log.close()
    kept = list(read_events(log.path))
    assert log.n == 50
    assert all(b.time_s - a.time_s >= 1.0 for a, b in pairwise(kept))
    assert kept[0].n == 1


@given(events=st.integers(0, 12), keep=st.integers(0, 14), torn=st.integers(0, 30))
def test_opening_again_cuts_after_keep_and_numbers_on(
    tmp_path_factory: pytest.TempPathFactory, events: int, keep: int, torn: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    log = EventLog(path)
    for number in range(events):
        log.append(Warned(f"event {number}"))
    log.close()
    with path.open("a") as file:
        file.write('{"n": 99, "time_s": 1.0, "type": "PhaseChanged"'[:torn])
    again = EventLog(path, keep=keep)
    again.append(PhaseChanged("again"))
    again.close()
    kept = min(events, keep)
    assert [record.n for record in read_events(path)] == list(range(1, kept + 2))
    assert last_number(path) == kept + 1


def test_the_last_number_is_found_behind_a_long_file(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    for _ in range(300):
        log.append(Warned("x" * 1000))
    log.close()
    assert last_number(log.path) == 300
    assert last_number(tmp_path / "nothing") == 0


def test_a_full_disk_costs_the_log_the_event_that_did_not_fit_and_no_other(
    small_disk: Path,
) -> None:
    log = EventLog(small_disk / "events.jsonl")
    log.append(PhaseChanged("before"))
    fill(small_disk)
    with pytest.raises(DataError, match="the disk is full"):
        for _ in range(200):
            log.append(Warned("x" * 300))
    make_room(small_disk)
    log.append(PhaseChanged("after"))
    log.close()
    kept = [record.event for record in read_events(log.path)]
    assert kept[0] == PhaseChanged("before")
    assert kept[-1] == PhaseChanged("after")


# --- runs


def test_a_run_has_a_number_a_name_and_its_recipe(home: Workspace) -> None:
    recipe = override(Recipe(), {"name": "jarvis", "train.lr": 1e-3})
    first, second = home.create(recipe), home.create(recipe)
    assert [run.name for run in home.runs()] == ["001-jarvis", "002-jarvis"]
    assert (first.number, second.number) == (1, 2)
    assert first.recipe() == recipe
    assert not first.finished()
    assert first.report_json() is None


@pytest.mark.parametrize("written", [b"", b'{"test": {', b"{}", b"[1]", b"\xff"])
def test_a_report_that_cannot_be_read_is_none(home: Workspace, written: bytes) -> None:
    run = run_named(home, "jarvis")
    run.report.write_bytes(written)
    assert run.report_json() is None
    run.report.unlink()
    run.report.mkdir()
    assert run.report_json() is None


def test_events_that_cannot_be_read_are_a_sentence(home: Workspace) -> None:
    run = run_named(home, "jarvis")
    run.events.mkdir()
    with pytest.raises(DataError, match=r"cannot read .*events.jsonl: Is a directory"):
        list(read_events(run.events))


def test_a_run_is_found_by_number_name_and_path(home: Workspace, tmp_path: Path) -> None:
    run = run_named(home, "jarvis")
    elsewhere = run_named(Workspace(tmp_path / "other"), "far")
    for reference in ("1", "001-jarvis", "jarvis", str(run.path)):
        assert home.find(reference) == run
    assert home.find(str(elsewhere.path)) == elsewhere


def test_of_runs_with_the_same_name_the_newest_is_meant(home: Workspace) -> None:
    run_named(home, "jarvis")
    newest = run_named(home, "jarvis")
    assert home.find("jarvis") == newest


def test_a_run_that_is_not_there_is_told_with_those_that_are(home: Workspace) -> None:
    run_named(home, "jarvis")
    with pytest.raises(DataError, match="no run '7'") as caught:
        home.find("7")
    assert caught.value.hint == "runs here: 001-jarvis"


def test_a_home_of_nobody_is_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Workspace(Path("~nobody-here/x")).root == tmp_path / "~nobody-here" / "x"


def test_pruning_keeps_the_newest_finished_runs(home: Workspace) -> None:
    for name, finished in (("a", True), ("b", False), ("c", True), ("d", True), ("e", False)):
        run_named(home, name, finished=finished)
    gone = prune(home, keep=2)
    assert [run.name for run in gone] == ["001-a", "002-b", "005-e"]
    assert [run.name for run in home.runs()] == ["003-c", "004-d"]
    assert [run.name for run in prune(home, keep=0)] == ["003-c", "004-d"]


def test_pruning_spares_unfinished_runs_while_a_job_trains(home: Workspace) -> None:
    """The job may be resuming any of them."""
    for name, finished in (("resumed", False), ("old", True), ("new", True)):
        run_named(home, name, finished=finished)
    with home.lock():
        assert [run.name for run in prune(home, keep=1, unfinished=True)] == ["002-old"]
    assert [run.name for run in prune(home, keep=1)] == ["001-resumed"]


def test_pruning_spares_what_can_be_gone_on_with_unless_it_is_asked_for(home: Workspace) -> None:
    run_named(home, "begun").last.touch()
    run_named(home, "never")
    assert [run.name for run in prune(home, keep=0)] == ["002-never"]
    assert [run.name for run in prune(home, keep=0, unfinished=True)] == ["001-begun"]


def test_pruning_spares_what_a_run_that_can_be_gone_on_with_learns_from(home: Workspace) -> None:
    for name in ("teacher", "baseline", "neither"):
        run_named(home, name, finished=True)
    taught = {
        "name": "taught",
        "distill.teachers": [{"path": str(home.root / "runs" / "*-teacher")}],
        "distill.baseline": "baseline",
    }
    home.create(override(Recipe(), taught)).last.touch()
    assert [run.name for run in prune(home, keep=0)] == ["003-neither"]
    gone = [run.name for run in prune(home, keep=0, unfinished=True)]
    assert gone == ["001-teacher", "002-baseline", "004-taught"]


def test_pruning_spares_the_teachers_of_a_study_in_all_folds(home: Workspace) -> None:
    for name in ("teacher-f0", "teacher-f1", "neither"):
        run_named(home, name, finished=True)
    path = str(home.root / "runs" / "*-teacher-f{fold}")
    home.studies.mkdir()
    study = override(Recipe(), {"distill.teachers": [{"path": path}]})
    (home.studies / "hunt.toml").write_text(dump(study))
    (home.studies / "damaged.toml").write_text("[")
    assert [run.name for run in prune(home, keep=0)] == ["003-neither"]


def test_pruning_spares_the_teachers_of_the_folds_that_wait_while_one_is_trained(
    home: Workspace,
) -> None:
    for name in ("teacher-f0", "teacher-f1", "other-f0"):
        run_named(home, name, finished=True)
    path = str(home.root / "runs" / "*-teacher-f{fold}")
    home.create(override(Recipe(), {"distill.teachers": [{"path": path}]})).last.touch()
    assert [run.name for run in prune(home, keep=0)] == ["003-other-f0"]


def test_pruning_spares_what_a_fold_in_the_middle_of_a_path_stands_for(home: Workspace) -> None:
    teachers = [run_named(home, f"teacher{fold}", finished=True) for fold in range(2)]
    path = str(teachers[0].best).replace("001-teacher0", "00*-teacher{fold}")
    home.studies.mkdir()
    study = override(Recipe(), {"distill.teachers": [{"path": path}]})
    (home.studies / "hunt.toml").write_text(dump(study))
    for teacher in teachers:
        teacher.best.touch()
    assert prune(home, keep=0) == []


def test_a_run_whose_report_cannot_be_read_can_be_gone_on_with(home: Workspace) -> None:
    spoilt, good = (run_named(home, name, finished=True) for name in ("spoilt", "good"))
    spoilt.last.touch()
    spoilt.report.write_text("")
    assert (spoilt.finished(), good.finished()) == (False, True)
    assert prune(home, keep=1) == []


def test_what_a_killed_pruning_left_goes_with_the_next(home: Workspace) -> None:
    run = run_named(home, "half", finished=True)
    left = run.path.rename(run.path.with_name(f"{GONE}{run.name}"))
    assert (home.runs(), prune(home, keep=5)) == ([], [])
    assert not left.exists()


def test_a_run_that_finds_no_room_leaves_no_folder(small_disk: Path) -> None:
    home = Workspace(small_disk)
    (home.root / "runs").mkdir()
    fill(small_disk)
    with pytest.raises(DataError, match="the disk is full"):
        run_named(home, "late")
    assert home.runs() == []


def test_pruning_spares_what_a_training_that_packs_will_begin_with(home: Workspace) -> None:
    first, other = (run_named(home, name, finished=True) for name in ("first", "other"))
    for run in (first, other):
        run.best.touch()
    packing = home.create(override(Recipe(), {"train.init": str(first.best)}))
    with home.lock(packing.name):
        assert prune(home, keep=0) == [other]
    assert prune(home, keep=0) == [first, packing]


def test_pruning_spares_the_run_that_a_needed_file_is_of(home: Workspace) -> None:
    miner, other = (run_named(home, name, finished=True) for name in ("miner", "other"))
    assert prune(home, keep=0, needed=[miner.best]) == [other]


# --- the lock


def test_a_disk_that_locks_no_folder_has_a_file_in_it_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS, which locks only what is open to be written."""
    real = fcntl.flock

    def flock(handle: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with alone(tmp_path), (tmp_path / LOCK).open("r+b") as other, pytest.raises(BlockingIOError):
        real(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / LOCK).open("r+b") as other:
        real(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_held_workspace_is_busy_and_names_the_process(
    home: Workspace, holder: subprocess.Popen[str]
) -> None:
    assert str(home.holder()) == f"process {holder.pid}"
    with pytest.raises(BusyError, match=f"process {holder.pid} is training in"):
        home.lock()


def test_a_killed_process_gives_the_lock_back(
    home: Workspace, holder: subprocess.Popen[str]
) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert home.holder() is None
    with home.lock():
        assert (held := home.holder()) is not None
        assert held.ours
    assert home.holder() is None


def test_a_holder_is_asked_to_stop_with_sigterm(
    home: Workspace, holder: subprocess.Popen[str]
) -> None:
    assert str(home.stop_holder()) == f"process {holder.pid}"
    assert holder.wait() == -signal.SIGTERM
    assert home.stop_holder() is None


def test_a_workspace_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = Workspace(tmp_path / "file" / "home")
    with pytest.raises(DataError, match="cannot write"):
        home.create(Recipe())
    with pytest.raises(DataError, match="cannot write"):
        home.lock()


def test_a_process_elsewhere_is_not_signalled(
    home: Workspace, holder: subprocess.Popen[str]
) -> None:
    """Its pid, here or in our container, is that of something else."""
    lock = home.root / "lock"
    told = json.loads(lock.read_text())
    for place in ({"host": "other", "boot": ""}, {"boot": "later"}, {"pids": "pid:[7]"}):
        lock.write_text(json.dumps(told | place) + "\n")
        with pytest.raises(BusyError, match=f"process {holder.pid} of .* runs on another machine"):
            home.stop_holder()
    assert holder.poll() is None


def test_a_machine_that_was_renamed_meanwhile_is_the_same_one(
    home: Workspace, holder: subprocess.Popen[str]
) -> None:
    told = json.loads((home.root / "lock").read_text()) | {"host": "before"}
    (home.root / "lock").write_text(json.dumps(told))
    assert str(home.stop_holder()) == f"process {holder.pid}"
    assert holder.wait() == -signal.SIGTERM


def test_the_lock_of_an_older_version_is_a_bare_pid(
    home: Workspace, holder: subprocess.Popen[str]
) -> None:
    (home.root / "lock").write_text(str(holder.pid))
    assert (str(home.holder()), home.training()) == (f"process {holder.pid}", None)
    home.stop_holder()
    assert holder.wait() == -signal.SIGTERM


@pytest.mark.parametrize(
    "rubbish", ["-1", "0", "1e3", "true", "[7]", '{"pid": 7, "run": 3}', "9" * 20]
)
def test_rubbish_in_a_lock_that_is_held_is_signalled_to_nobody(
    home: Workspace, holder: subprocess.Popen[str], rubbish: str
) -> None:
    (home.root / "lock").write_text(rubbish)
    assert home.stop_holder() is None
    with pytest.raises(BusyError, match="another process is training"):
        home.lock()


def test_a_disk_that_turned_read_only_gives_the_lock_back_all_the_same(home: Workspace) -> None:
    """What cannot be cut off any more stays, and nobody holds it."""
    held = home.lock()
    with pytest.raises(DataError, match="what the verb said"), held:
        assert home._lock._file is not None
        unwritable = os.open(home.root / "lock", os.O_RDONLY)
        os.dup2(unwritable, home._lock._file.fileno())
        os.close(unwritable)
        raise DataError("what the verb said")
    assert (home.root / "lock").read_bytes()
    assert home.holder() is None
    with home.lock():
        pass


# --- commands


def test_a_command_says_which_workspace_it_is_for_unless_that_is_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WAKEWORD_HOME", raising=False)
    home = Workspace(tmp_path / "my place")
    told = f"wakeword-tui --workspace '{tmp_path}/my place' runs stop"
    assert home.command("runs", "stop") == told
    assert Workspace(Path("workspace")).command("runs", "stop") == "wakeword-tui runs stop"
    run = run_named(home, "jarvis")
    assert run.resuming() == f"wakeword-tui --workspace '{tmp_path}/my place' train --resume 1"
    monkeypatch.setenv("WAKEWORD_HOME", str(home.root))
    assert run.resuming() == "wakeword-tui train --resume 1"
