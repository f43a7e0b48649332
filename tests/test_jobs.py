import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.errors import BusyError, DataError
from engine.events import Emit, Event, JobFailed, JobFinished, PhaseChanged, Progressed, Record
from engine.jobs import Control, Job, Jobs, State, Stopped
from engine.runs import EventLog, Workspace, read_events

Verb = Callable[[Emit, Control], None]
LONG_S = 30.0


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    jobs = Jobs(Workspace(tmp_path))
    yield jobs
    assert jobs.stop_all(LONG_S)


class Steps:
    """A verb of endless steps; `passed` says that another one is through."""

    def __init__(self) -> None:
        self.count = 0
        self.passed = threading.Event()

    def __call__(self, emit: Emit, control: Control) -> None:
        while True:
            control.tick()
            self.count += 1
            self.passed.set()

    def wait(self) -> None:
        self.passed.clear()
        assert self.passed.wait(LONG_S)


def ended(job: Job) -> Job:
    job.thread.join(LONG_S)
    assert not job.alive
    return job


def until(condition: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(3000):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("it never came true")


def test_a_verb_that_returns_is_done(jobs: Jobs) -> None:
    job = ended(jobs.start("short", lambda emit, control: emit(PhaseChanged("a"))))
    assert job.state is State.DONE
    assert [type(r.event) for r in job.bus.drain()] == [PhaseChanged, JobFinished]


def test_a_paused_job_stands_still_until_it_is_resumed(jobs: Jobs) -> None:
    steps = Steps()
    job = jobs.start("steps", steps)
    steps.wait()
    job.control.pause()
    until(lambda: job.state is State.PAUSED)
    stood = steps.count
    steps.passed.clear()
    assert not steps.passed.wait(0.05)
    assert steps.count == stood
    job.control.resume()
    steps.wait()
    assert job.state is State.RUNNING


def test_a_pause_waits_for_the_next_step_boundary(jobs: Jobs) -> None:
    inside, go = threading.Event(), threading.Event()

    def verb(emit: Emit, control: Control) -> None:
        inside.set()
        go.wait(LONG_S)
        control.tick()

    job = jobs.start("one long step", verb)
    assert inside.wait(LONG_S)
    job.control.pause()
    assert job.state is State.PAUSING
    go.set()
    until(lambda: job.state is State.PAUSED)
    job.control.resume()
    assert ended(job).state is State.DONE


@pytest.mark.parametrize("paused", [False, True])
def test_a_job_stops_at_a_step_boundary_paused_or_not(jobs: Jobs, paused: bool) -> None:
    steps = Steps()
    job = jobs.start("steps", steps)
    steps.wait()
    if paused:
        job.control.pause()
        until(lambda: job.state is State.PAUSED)
    job.control.stop()
    assert ended(job).state is State.STOPPED
    assert job.bus.drain()[-1].event.outcome == "stopped"  # type: ignore[attr-defined]
    assert job.error is None


def test_a_job_that_is_told_to_stop_is_stopping_until_it_has(jobs: Jobs) -> None:
    inside, go = threading.Event(), threading.Event()

    def verb(emit: Emit, control: Control) -> None:
        inside.set()
        go.wait(LONG_S)
        control.tick()

    job = jobs.start("one long step", verb)
    assert inside.wait(LONG_S)
    job.control.stop()
    assert job.state is State.STOPPING
    go.set()
    assert ended(job).state is State.STOPPED


def test_stopped_passes_through_the_verb_so_that_it_can_save(jobs: Jobs) -> None:
    def verb(emit: Emit, control: Control) -> None:
        control.stop()
        try:
            control.tick()
        except Stopped:
            emit(PhaseChanged("saved"))
            raise

    job = ended(jobs.start("saver", verb))
    assert job.bus.drain()[0].event == PhaseChanged("saved")
    assert job.state is State.STOPPED


def test_a_bug_fails_the_job_and_keeps_its_traceback(jobs: Jobs) -> None:
    def verb(emit: Emit, control: Control) -> None:
        [][0]

    job = ended(jobs.start("buggy", verb))
    failed, finished = (record.event for record in job.bus.drain())
    assert isinstance(failed, JobFailed)
    assert failed.message == "IndexError: list index out of range"
    assert "in verb" in failed.traceback
    assert job.state is State.FAILED
    assert isinstance(finished, JobFinished)
    assert isinstance(job.error, IndexError)


def test_a_failed_job_keeps_its_traceback_and_nothing_that_it_held(jobs: Jobs) -> None:
    class Trainer:
        """Stands for what fills a GPU."""

    held: list[weakref.ref[Trainer]] = []

    def fail(emit: Emit, control: Control) -> None:
        trainer = Trainer()
        held.append(weakref.ref(trainer))
        raise RuntimeError(f"out of memory with {trainer}")

    job = ended(jobs.start("one", fail))
    gc.collect()
    assert held[0]() is None
    assert job.error is not None and job.error.__traceback__ is not None


def test_an_error_a_person_can_mend_has_a_hint_and_no_traceback(jobs: Jobs) -> None:
    def verb(emit: Emit, control: Control) -> None:
        raise DataError("no clips", "record some")

    job = ended(jobs.start("train", verb))
    assert job.bus.drain()[0].event == JobFailed("no clips", "record some", "")
    assert job.state is State.FAILED


def test_the_gpu_lane_holds_one_job(jobs: Jobs) -> None:
    job = jobs.start("steps", Steps())
    with pytest.raises(BusyError, match="steps is running"):
        jobs.start("other", Steps())
    job.control.stop()
    ended(job)
    assert ended(jobs.start("short", lambda emit, control: None)).state is State.DONE


def test_the_background_lane_runs_beside_it(jobs: Jobs) -> None:
    mine, listen, train = Steps(), Steps(), Steps()
    jobs.start("train", train)
    for name, steps in (("mine", mine), ("listen", listen)):
        jobs.start(name, steps, lane="background")
    for steps in (mine, listen, train):
        steps.wait()


def test_background_jobs_that_have_ended_are_forgotten(jobs: Jobs) -> None:
    """One after the other, all day, as the miner's and the listener's: no list of them grows."""
    for _ in range(5):
        last = ended(jobs.start("mine", lambda emit, control: None, lane="background"))
    assert jobs.background == [last]


def test_a_workspace_another_has_locked_is_busy_and_starts_nothing(jobs: Jobs) -> None:
    with Workspace(jobs.workspace.root).lock(), pytest.raises(BusyError, match="is training in"):
        jobs.start("steps", Steps())
    assert jobs.gpu is None


def test_the_lock_is_held_while_the_job_runs_and_given_back(jobs: Jobs) -> None:
    steps = Steps()
    job = jobs.start("steps", steps)
    steps.wait()
    with pytest.raises(BusyError):
        Workspace(jobs.workspace.root).lock()
    job.control.stop()
    ended(job)
    with Workspace(jobs.workspace.root).lock():
        pass


def test_how_a_job_ended_is_on_the_disk_before_the_lock_is_given_back(
    jobs: Jobs, tmp_path: Path
) -> None:
    held = list[bool]()

    class Watched(EventLog):
        def append(self, event: Event) -> Record:
            held.append(jobs.workspace.holder() is not None)
            return super().append(event)

    path = tmp_path / "events.jsonl"
    ended(jobs.start("train", lambda emit, _: emit(PhaseChanged("pack")), lambda: Watched(path)))
    assert held == [True, True]


def test_the_log_keeps_what_the_bus_may_drop(jobs: Jobs, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"

    def verb(emit: Emit, control: Control) -> None:
        emit(PhaseChanged("pack"))
        emit(Progressed("pack", 1, 2))
        emit(Progressed("pack", 2, 2))

    job = ended(jobs.start("train", verb, lambda: EventLog(path)))
    assert [record.n for record in job.bus.drain()] == [1, 3, 4]
    assert [record.n for record in read_events(path)] == [1, 2, 4]


def test_a_log_is_opened_while_nobody_else_can_write_to_it(jobs: Jobs, tmp_path: Path) -> None:
    opened = list[str]()

    def log() -> EventLog:
        with pytest.raises(BusyError):
            Workspace(jobs.workspace.root).lock()
        opened.append("under the lock")
        return EventLog(tmp_path / "events.jsonl")

    ended(jobs.start("train", lambda emit, control: None, log))
    with Workspace(jobs.workspace.root).lock(), pytest.raises(BusyError):
        jobs.start("train", Steps(), log)
    assert opened == ["under the lock"]


def test_a_log_that_cannot_be_opened_leaves_the_lane_free(jobs: Jobs, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        jobs.start("train", Steps(), lambda: EventLog(tmp_path / "nowhere" / "events.jsonl"))
    assert jobs.workspace.holder() is None
    assert ended(jobs.start("next", lambda emit, control: None)).state is State.DONE


def test_a_job_whose_log_cannot_be_written_fails_and_frees_its_lane(
    jobs: Jobs, small_disk: Path
) -> None:
    def verb(emit: Emit, control: Control) -> None:
        while True:
            control.tick()
            emit(PhaseChanged("x"))

    job = ended(jobs.start("train", verb, lambda: EventLog(small_disk / "events.jsonl")))
    assert job.state is State.FAILED
    failed, finished = (record.event for record in job.bus.drain()[-2:])
    assert isinstance(failed, JobFailed)
    assert "the disk is full" in failed.message
    assert isinstance(finished, JobFinished)
    assert ended(jobs.start("next", lambda emit, control: None)).state is State.DONE


def test_events_of_two_threads_have_numbers_of_their_own(jobs: Jobs) -> None:
    def verb(emit: Emit, control: Control) -> None:
        def many() -> None:
            for _ in range(500):
                emit(PhaseChanged("x"))

        helpers = [threading.Thread(target=many) for _ in range(2)]
        for helper in helpers:
            helper.start()
        for helper in helpers:
            helper.join()

    job = ended(jobs.start("two", verb))
    assert [record.n for record in job.bus.drain()] == list(range(1, 1002))


def test_a_checkpoint_request_is_taken_once() -> None:
    control = Control()
    control.checkpoint()
    assert [control.take_checkpoint_request() for _ in range(2)] == [True, False]


def test_a_background_job_rests_three_times_as_long_as_it_works_beside_an_exclusive_one(
    jobs: Jobs,
) -> None:
    """Steps of 20 ms then take 80 ms: in 1.2 s about 15 of them, where 60 would be."""
    count = 0

    def busy(emit: Emit, control: Control) -> None:
        nonlocal count
        while True:
            time.sleep(0.02)
            count += 1
            control.tick()

    steps = Steps()
    exclusive = jobs.start("train", steps)
    steps.wait()
    jobs.start("mine", busy, lane="background")
    time.sleep(1.2)
    beside = count
    exclusive.control.pause()
    while exclusive.state is not State.PAUSED:
        time.sleep(0.01)
    before = count
    time.sleep(1.2)
    assert 3 <= beside <= 20
    assert count - before > 1.5 * beside


def test_a_resting_job_stops_at_once(jobs: Jobs) -> None:
    def slow(emit: Emit, control: Control) -> None:
        time.sleep(1.0)
        control.tick()
        control.tick()

    steps = Steps()
    jobs.start("train", steps)
    steps.wait()
    job = jobs.start("mine", slow, lane="background")
    time.sleep(1.2)
    job.control.stop()
    job.thread.join(1.0)
    assert job.state is State.STOPPED


def test_who_leaves_lets_go_what_would_never_end(jobs: Jobs) -> None:
    """A microphone is heard until somebody stops it; a miner ends by itself."""

    def on_and_on(emit: Emit, control: Control) -> None:
        while True:
            control.tick()
            time.sleep(0.001)

    heard, mined = (jobs.start(name, on_and_on, lane="background") for name in ("listen", "mine"))
    heard.endless = True
    jobs.leave_alone()
    heard.thread.join(5.0)
    assert (heard.state, mined.alive) == (State.STOPPED, True)
    mined.control.stop()
