"""A run of another process: read along, never touched; and two apps on one workspace."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.events import CheckpointSaved, JobFinished, JobStarted, PhaseChanged, Progressed
from engine.lock import Holder
from engine.runs import EventLog, Run, Workspace, read_events
from tests.tui.play import play, screen, see
from tests.tui.scripted import RECIPE, stepped
from tests.tui.terminal import Terminal, terminal
from tests.waiting import until
from wakeword_tui.app import WakewordApp
from wakeword_tui.config import Config, read_config
from wakeword_tui.following import Followed, followed
from wakeword_tui.store import Store

HOLD = """
import sys, time
from pathlib import Path
from engine.runs import Run, Workspace
home = Workspace(Path(sys.argv[1]))
with home.lock():
    print("held", flush=True)
    run = Path(sys.argv[1], "runs", sys.stdin.readline().strip())
    home.trains(Run(run))
    time.sleep(99)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The usual workspace: what is told of it has no long path in it."""
    monkeypatch.setenv("WAKEWORD_HOME", str(tmp_path))
    return Workspace(tmp_path)


@pytest.fixture
def holder(home: Workspace) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the workspace, as one that trains does."""
    command = [sys.executable, "-c", HOLD, str(home.root)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def trains(holder: subprocess.Popen[str], run: Run) -> None:
    """Have it say which run it trains."""
    assert holder.stdin is not None
    print(run.name, file=holder.stdin, flush=True)


Begin = Callable[[int], tuple[Run, EventLog]]


@pytest.fixture
def begin(home: Workspace) -> Iterator[Begin]:
    """Makes a run of so many steps, and gives its log to be written on."""
    logs: list[EventLog] = []

    def make(steps: int) -> tuple[Run, EventLog]:
        run = home.create(RECIPE)
        logs.append(EventLog(run.events))
        logs[-1].append(JobStarted("train", run.name, "cpu", 2000))
        write(logs[-1], 1, steps)
        return run, logs[-1]

    yield make
    for log in logs:
        log.close()


def write(log: EventLog, first: int, last: int) -> None:
    for step in range(first, last + 1):
        log._kept_s.clear()  # keep each
        log.append(stepped(step))


def test_what_is_followed_is_what_a_replay_gives(home: Workspace, begin: Begin) -> None:
    run, log = begin(3)
    followed = Followed(Holder(1), run)
    for last in (3, 4, 9):
        write(log, last, last)
        followed.read()
        assert followed.store == Store.replay(run)


def test_who_reads_along_sees_how_far_a_phase_is(home: Workspace, begin: Begin) -> None:
    run, log = begin(3)
    followed = Followed(Holder(1), run)
    log.append(PhaseChanged("threshold"))
    log.append(Progressed("threshold", 60, 240, "minutes"))
    followed.read()
    assert followed.store.counted == "threshold"
    assert followed.store.done() == (60, 240, "minutes")


def test_a_file_that_cannot_be_read_any_more_leaves_what_was_read(begin: Begin) -> None:
    run, _ = begin(3)
    followed = Followed(Holder(1), run)
    followed.read()
    run.events.unlink()
    run.events.mkdir()
    followed.read()
    assert len(followed.store.losses) == 3


def test_half_a_line_waits_for_its_other_half(home: Workspace, begin: Begin) -> None:
    run, log = begin(2)
    whole = run.events.read_bytes()
    followed, cut = Followed(Holder(1), run), len(whole) - 7
    os.truncate(run.events, cut)
    followed.read()
    assert len(followed.store.losses) == 1
    log._write(whole[cut:])
    followed.read()
    assert followed.store == Store.replay(run)


def test_a_resume_that_cuts_the_file_is_read_anew(home: Workspace, begin: Begin) -> None:
    """Two of five steps stay, and another third follows."""
    run, log = begin(5)
    followed = Followed(Holder(1), run)
    followed.read()
    log.close()
    resumed = EventLog(run.events, keep=3)
    write(resumed, 7, 7)
    resumed.close()
    followed.read()
    assert [step for step, _ in followed.store.losses] == [1, 2, 7]


def test_the_run_that_is_trained_is_the_one_that_the_lock_names(
    home: Workspace, begin: Begin
) -> None:
    first, _ = begin(1)
    assert home.training() is None  # nobody trains
    with home.lock():
        assert home.training() is None
    with home.lock(first.name):
        os.utime(first.events, (1, 1))  # the clock was set back: written before it was locked
        assert home.training() == first
        second, _ = begin(1)
        home.trains(second)
        assert Workspace(home.root).training() == second
        second.report.write_text('{"test": {}}')
        assert home.training() is None
    home.trains(first)  # not held any more: nothing is written
    assert (home.root / "lock").read_bytes() == b""


def test_a_process_with_our_pid_in_another_container_is_followed(
    home: Workspace, begin: Begin
) -> None:
    run, _ = begin(1)
    with home.lock(run.name):
        assert followed(home, None) is None  # that is us
        told = json.loads((home.root / "lock").read_text()) | {"pids": "pid:[7]"}
        (home.root / "lock").write_text(json.dumps(told))
        assert followed(home, None) == Followed(Holder(**told), run)


def test_a_second_app_opens_on_what_is_trained_and_says_that_it_looks_on(
    home: Workspace, begin: Begin, holder: subprocess.Popen[str]
) -> None:
    run, log = begin(400)
    trains(holder, run)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await see(app, pilot, "this window only looks", "runs stop", "read-only", "400/2 000")
        assert app.current_mode == "train"
        write(log, 800, 800)
        await see(app, pilot, "train 40 %", "800/2 000")
        log.append(PhaseChanged("threshold"))
        log.append(Progressed("threshold", 60, 240, "minutes"))
        await see(app, pilot, "threshold 25 %", "read-only", "60/240 minutes")
        await pilot.press("s", "p", "c", "r")
        await see(app, pilot, f"process {holder.pid} is training in")
        log.append(CheckpointSaved(800, "last"))
        log.append(JobFinished("train", "stopped", 9.0))
        holder.kill()
        await see(app, pilot, f"{run.name}: stopped")
        assert app.desk.followed is None

    play(home, story)
    assert [event.number for event in home.runs()] == [1]  # the refused start left nothing


def test_a_training_that_begins_elsewhere_later_is_noticed(home: Workspace, begin: Begin) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        command = [sys.executable, "-c", HOLD, str(home.root)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            trains(process, begin(100)[0])
            await see(app, pilot, "read-only", "only looks")
            process.kill()
            await see(app, pilot, f"process {process.pid} is gone")

    play(home, story)


def test_the_run_in_front_that_is_gone_on_with_elsewhere_is_followed(
    home: Workspace, begin: Begin, holder: subprocess.Popen[str]
) -> None:
    run, log = begin(100)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await see(app, pilot, "unfinished, r resumes")
        trains(holder, run)
        await see(app, pilot, "read-only")
        write(log, 800, 800)
        await see(app, pilot, "train 40 %", "800/2 000")
        assert "unfinished" not in screen(app)

    play(home, story, run=run)


# --- a lost terminal, in a real one


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    return {
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "TMUX": "yes",
    }


@pytest.fixture
def going_on(tmp_path: Path, folders: dict[str, str]) -> dict[str, str]:
    """Folders with a config file that has the app go on when its terminal is lost."""
    config = tmp_path / "config" / "wakeword-tui" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[ui]\non_hangup = "continue"\n')
    return folders


@pytest.fixture
def training(tmp_path: Path, going_on: dict[str, str]) -> Iterator[Terminal]:
    """An app that trains, and is to go on when its terminal is lost."""
    with terminal([str(tmp_path)], going_on) as opened:
        opened.wait_for("5.12k")
        yield opened


def last_step(run: Run) -> int:
    steps = [r.event.step for r in read_events(run.events) if hasattr(r.event, "lr")]
    return max(steps, default=0)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_it_trains_on_without_a_terminal_and_the_next_app_follows_and_can_stop_it(
    training: Terminal, tmp_path: Path, folders: dict[str, str]
) -> None:
    home, pid = Workspace(tmp_path), training.process.pid
    training.hang_up()
    (run,) = home.runs()
    before = last_step(run)
    until(lambda: last_step(run) > before + 100)
    assert str(home.holder()) == f"process {pid}"
    with terminal([str(tmp_path), "idle"], folders, (120, 36)) as second:
        second.wait_for("read-only")
        shown = len(second.output)
        until(lambda: len(second.output) > shown + 500)  # it moves
        command = [sys.executable, "-m", "wakeword_tui", "--workspace", str(home.root)]
        stop = subprocess.run([*command, "runs", "stop"], capture_output=True, text=True)
        assert f"asked process {pid} to stop" in stop.stdout
        assert training.wait() == 143
        second.wait_for("stopped  ")
        second.press("q")
        assert second.wait() == 0
    assert CheckpointSaved(int((tmp_path / "saved").read_text()), "last") in [
        record.event for record in read_events(run.events)
    ]


def test_without_a_terminal_it_does_not_spin(tmp_path: Path, training: Terminal) -> None:
    training.hang_up()
    (run,) = Workspace(tmp_path).runs()
    before, used_s = last_step(run), cpu_s(training.process.pid)
    until(lambda: last_step(run) > before + 2000)
    os.kill(training.process.pid, signal.SIGHUP)  # a shell may send it too
    assert cpu_s(training.process.pid) - used_s < 3.0  # seconds of a script that mostly sleeps
    assert training.process.poll() is None


def test_without_a_terminal_it_trains_to_its_end(tmp_path: Path, going_on: dict[str, str]) -> None:
    with terminal([str(tmp_path), "short"], going_on) as opened:
        opened.wait_for("train")
        opened.hang_up()
        assert opened.wait(60) == 129
    (run,) = Workspace(tmp_path).runs()
    *_, finished = read_events(run.events)
    assert isinstance(finished.event, JobFinished)
    assert finished.event.outcome == "done"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_a_terminal_a_signal_still_saves(
    training: Terminal, tmp_path: Path, number: signal.Signals
) -> None:
    training.hang_up()
    until(lambda: (tmp_path / "lock").read_text())
    os.kill(training.process.pid, number)
    assert training.wait() == 128 + number
    assert (tmp_path / "saved").exists()


def test_an_idle_app_ends_with_its_terminal(tmp_path: Path, folders: dict[str, str]) -> None:
    with terminal([str(tmp_path), "idle"], folders) as opened:
        opened.wait_for("manifest")
        opened.hang_up()
        assert opened.wait() == 129


def test_the_policy_is_read_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[ui]\non_hangup = "continue"\n')
    assert read_config(path) == Config(on_hangup="continue")
    path.write_text('[ui]\non_hangup = "restart"\nasci = true\n')
    told = read_config(path)
    assert (told.on_hangup, len(told.problems)) == ("checkpoint", 2)
    assert "no such key 'ui.asci'" in told.problems[0]
    path.write_text("ui = 3\n")
    assert "[ui] must be a table" in read_config(path).problems[0]
