import os
import time
from dataclasses import replace

import pytest
from textual.pilot import Pilot

from engine.bus import EventBus
from engine.errors import BusyError
from engine.events import (
    CheckpointSaved,
    Emit,
    JobStarted,
    PhaseChanged,
    Progressed,
    Record,
    Reported,
)
from engine.jobs import Control, Jobs
from engine.runs import EventLog, Workspace, read_events
from tests.tui.play import LARGE, SMALL, gone, play, screen, see, start
from tests.tui.scripted import RECIPE, stepped, training, validated, write_run
from wakeword_tui import verbs
from wakeword_tui.app import WakewordApp
from wakeword_tui.screens.train import rows
from wakeword_tui.store import Store
from wakeword_tui.verbs import Live
from wakeword_tui.widgets.chart import Chart


def test_an_empty_screen_says_what_to_press(tmp_path) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("2")
        await see(app, pilot, "No training yet.", "s      train the recipe")

    play(Workspace(tmp_path), story)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_running_job_is_shown_live(workspace: Workspace, size: tuple[int, int]) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        start(app, pause_s=0.005)
        await see(app, pilot, "● train", "run 003-alexa", "━ train ◆ best", "missed @1/h", "ETA")
        await see(app, pilot, "checkpoint", "003-alexa  ")
        await (see if size == LARGE else gone)(app, pilot, "○ pAUC ▲ in noise % ● missed %")

    play(workspace, story, size)


TAUGHT = {
    "labels": 0.2134, "logits": 0.1125, "features": 0.0312, "ranking": 0.0004,
    "temperature": 1.82, "agreement": 0.914, "conformer": 0.62, "wav2vec2": 0.38,
}  # fmt: skip


@pytest.mark.parametrize("rows", [16, 20, 24, 29])
def test_the_list_of_runs_has_rows_where_it_has_the_focus(workspace: Workspace, rows: int) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("2")
        await see(app, pilot, "· 002-alexa")
        await pilot.press("j")
        await see(app, pilot, "✓ 001-alexa")

    play(workspace, story, (80, rows))


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_the_parts_of_a_taught_loss_are_seen_beside_everything_else(
    workspace: Workspace, size: tuple[int, int]
) -> None:
    run = write_run(workspace, finished=False)
    log = EventLog(run.events)
    log.append(replace(stepped(2010), taught=TAUGHT))
    log.close()

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        app.desk.open(run)
        await pilot.press("2")
        await see(app, pilot, "━ train ◆ best", "missed @1/h", "pAUC", "device", "best")
        shown = [" ".join(line.split()) for line in screen(app).splitlines()]
        rows = ("labels 0.2134 temperature 1.8200", "logits 0.1125 agreement 91.4 %",
                "features 0.0312 conformer 62.0 %", "ranking 4.0e-04 wav2vec2 38.0 %")  # fmt: skip
        assert [row for row in rows if not any(row in line for line in shown)] == []
        app.desk.open(workspace.find("1"))
        await gone(app, pilot, "temperature")

    play(workspace, story, size)


def test_the_machine_is_told_in_80_columns(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wakeword_tui.meter.EVERY_S", 0.1)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        start(app, pause_s=0.05)
        await see(app, pilot, "● train", "cpu ", "5.12k clips/s")

    play(workspace, story)


def test_the_top_bar_names_the_phase_whose_share_it_tells(workspace: Workspace) -> None:
    """A quarter of the test is no quarter of the training, which is over."""

    def ending(emit: Emit, control: Control) -> None:
        emit(JobStarted("train", "003-alexa", "cpu", 2000))
        emit(stepped(2000))
        emit(PhaseChanged("test"))
        emit(Progressed("test", 20, 80, "minutes"))
        while True:
            control.tick()
            time.sleep(0.01)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        run = app.desk.workspace.create(RECIPE)
        job = app.desk.jobs.start("train", ending, lambda: EventLog(run.events))
        live = Live(job, Store(), run)
        app.follow(live)
        await see(app, pilot, "● test 25 %", "test  20/80 minutes")
        live.job.control.stop()

    play(workspace, story)


def test_opening_an_old_run_replays_it(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("2")
        await pilot.press("j", "enter")
        await see(app, pilot, "run 001-alexa", "done  2 000/2 000 steps", "2.1 %, epoch 20")
        assert "checkpoint" not in screen(app)
        await pilot.press("k", "enter")
        await see(app, pilot, "run 002-alexa", "stopped  700/2 000 steps")

    play(workspace, story)


def test_every_miss_rate_says_of_what_it_is() -> None:
    """The best epoch, the mean of several, what is shipped, and at last the test."""
    store, told = Store(), []
    measured = validated(20)
    events = (
        measured,
        replace(measured, averaged=5),
        replace(measured, hearings=5),
        Reported("001-alexa", 0.036, 0.019, 0.063, 0.36, 0.04, 1.3, 0.734),
    )
    for n, event in enumerate(events, start=1):
        store.apply(Record(n, 0.0, event))
        told.append(dict(rows(store, 20, live=True)))
    assert [facts["validation"] for facts in told] == ["epoch 20", "mean of 5", *["shipped"] * 2]
    assert [facts["best"].split(", ")[1] for facts in told] == [
        "epoch 20", "mean of 5", *["shipped"] * 2
    ]  # fmt: skip
    assert told[-1]["missed on test"] == "3.6 %"


def test_the_age_of_a_checkpoint_is_told_while_it_trains() -> None:
    store = Store()
    store.apply(Record(1, time.time() - 120, CheckpointSaved(10, "last")))
    assert dict(rows(store, 20, live=True))["checkpoint"] == "2m 00s ago"
    assert "checkpoint" not in dict(rows(store, 20, live=False))


def test_an_old_run_can_be_looked_at_while_another_trains(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        start(app, pause_s=0.05)
        await see(app, pilot, "run 003-alexa")
        await pilot.press("j", "enter")
        await see(app, pilot, "run 002-alexa", "700/2 000", "● train")
        await pilot.press("k", "enter")
        await see(app, pilot, "run 003-alexa", "ETA")

    play(workspace, story)


def test_replay_is_what_was_seen_live(workspace: Workspace, monkeypatch) -> None:
    monkeypatch.setattr("engine.runs.PASSING_EVERY_S", 0.0)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        live = start(app, steps=700)
        await see(app, pilot, "done  2 000/2 000 steps", "best")
        assert live.store.outcome == "done"
        assert Store.replay(live.run) == live.store

    play(workspace, story)


def test_p_holds_the_job_and_lets_it_go_on(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        start(app, pause_s=0.005)
        await see(app, pilot, "● train")
        await pilot.press("p")
        await see(app, pilot, "‖ paused")
        await pilot.press("p")
        await see(app, pilot, "● train")

    play(workspace, story)


def test_c_saves_a_checkpoint_and_s_stops_after_one(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        live = start(app, pause_s=0.005)
        await see(app, pilot, "● train")
        await pilot.press("c")
        await see(app, pilot, "a checkpoint at the next step")
        await pilot.press("s")
        await see(app, pilot, "stopped  ")
        saved = [r.event for r in read_events(live.run.events)]
        assert sum(isinstance(e, CheckpointSaved) and e.name == "last" for e in saved) == 2

    play(workspace, story)


def test_v_shows_the_other_curve_where_only_one_fits(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("2", "j", "enter")
        await see(app, pilot, "◆ best")
        await pilot.press("v")
        await see(app, pilot, "○ pAUC ▲ in noise % ● missed %")
        assert "◆ best" not in screen(app)

    play(workspace, story)


def test_z_gives_a_chart_the_whole_screen_and_takes_it_back(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("2", "j", "enter")
        await see(app, pilot, "◆ best")
        app.screen.query_one("#loss", Chart).focus()
        await pilot.press("z")
        await gone(app, pilot, "runs")
        await pilot.press("escape")
        await see(app, pilot, "runs", "◆ best")

    play(workspace, story)


def test_resuming_a_finished_run_says_why_not(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("2", "j", "r")
        await see(app, pilot, "001-alexa is finished")

    play(workspace, story)


def test_a_workspace_that_another_process_holds_says_so(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        app.desk.draft.set("data.manifest", "clips")
        with workspace.lock():
            await pilot.press("2", "s")
            await see(app, pilot, f"process {os.getpid()} is training")
        assert [run.number for run in workspace.runs()] == [1, 2]

    play(workspace, story)


def test_a_bug_in_the_job_is_told_and_its_traceback_is_in_the_log(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        start(app, steps="many")
        await see(app, pilot, "TypeError")
        await pilot.press("9")
        await see(app, pilot, "✗", "Traceback (most recent call last)")

    play(workspace, story)


def test_a_run_that_was_killed_has_no_time_left(workspace: Workspace) -> None:
    run = workspace.create(RECIPE)
    log = EventLog(run.events)
    for event in (JobStarted("train", run.name, "cpu", 2000), stepped(300)):
        log.append(event)
    log.close()

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await see(app, pilot, "unfinished, r resumes  300/2 000 steps")
        assert "ETA" not in screen(app)

    play(workspace, story, run=run)


def test_what_the_bus_dropped_is_read_from_the_file(workspace: Workspace) -> None:
    run, jobs = workspace.create(RECIPE), Jobs(workspace)
    job = jobs.start("train", training(steps=0), lambda: EventLog(run.events))
    live = Live(job, Store(), run)
    live.job.thread.join()
    live.drain()
    live.job.bus = EventBus(capacity=2)
    log = live.job.log = EventLog(run.events)
    for epoch in range(1, 6):
        live.job.emit(validated(epoch))
    log.close()
    live.drain()
    assert [event.epoch for event in live.store.validations] == [1, 2, 3, 4, 5]


def test_a_second_r_does_nothing_while_the_first_opens(workspace: Workspace, monkeypatch) -> None:
    calls = []

    def slow(jobs: Jobs, run: object) -> Live:
        calls.append(run)
        time.sleep(0.3)
        raise BusyError("told once")

    monkeypatch.setattr(verbs, "resume_training", slow)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("2", "r", "r")
        await see(app, pilot, "told once")
        assert len(calls) == 1
        await pilot.press("r")
        await pilot.pause(0.1)
        assert len(calls) == 2

    play(workspace, story)


def test_a_resume_leaves_the_events_of_a_live_run_alone(workspace: Workspace) -> None:
    run = workspace.find("2")
    before = run.events.read_bytes()
    with workspace.lock(), pytest.raises(BusyError):
        verbs.resume_training(Jobs(workspace), run)
    assert run.events.read_bytes() == before


def test_what_teachers_add_stands_in_two_columns_or_below_one_another() -> None:
    from wakeword_tui.screens.train import taught_lines  # the app imports a screen when it opens it

    def shown(told: dict[str, float], width: int) -> list[str]:
        return [" ".join(line.plain.split()) for line in taught_lines(told, width)]

    told = {"labels": 0.4, "temperature": 2.0, "agreement": 0.9, "conformer": 1.0}
    assert shown(told, 46) == ["labels 0.4000 temperature 2.0000", "agreement 90.0 %",
                               "conformer 100.0 %"]  # fmt: skip
    assert shown(told, 45) == ["labels 0.4000", "temperature 2.0000", "agreement 90.0 %",
                               "conformer 100.0 %"]  # fmt: skip
    assert shown({}, 80) == []
