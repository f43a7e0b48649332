"""A search of real, tiny students: killed, stopped, forked, failed."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import Fuse, Trained, tiny_recipe

from engine.checkpoint import load, save
from engine.dataset import fold_of
from engine.errors import BusyError, CheckpointError, DataError
from engine.events import (
    Event,
    JobFailed,
    Reported,
    TrialFinished,
    TrialStarted,
    Validated,
    Warned,
)
from engine.jobs import Control, Jobs, Stopped
from engine.outcomes import Outcomes
from engine.prune import prune
from engine.recipe import Recipe
from engine.recipe_file import dump, override
from engine.report import Report
from engine.runs import Run, Workspace, read_events
from engine.search import hopeless, search
from engine.space import trial_recipe
from engine.study import Study, view
from engine.study_file import create
from engine.trials import StudyView, Trial

SPACE = {
    "train.lr": {"low": 1e-3, "high": 1e-1, "log": True},
    "model.width": {"choices": [0.25, 0.5]},
}
SEED_OF_HIGH_THEN_LOW = 9
CLI = [sys.executable, "-m", "wakeword_tui"]


def searching(data: Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A tiny recipe with a search of two trials, the second a fork."""
    settings = {
        "name": "hunt",
        "search.space": SPACE,
        "search.trials": 2,
        "search.latency": "macs",
        "search.quality": "frr",
        "search.fork_every": 2,
        "train.hard_share": 0.0,
    }
    return tiny_recipe(data, {**settings, **(changes or {})})


def searched(home: Workspace, recipe: Recipe | None, control: Control | None = None) -> list[Event]:
    """Search to the end; the events."""
    events = list[Event]()
    control = control or Control()
    search(recipe, home, name="hunt", emit=events.append, control=control)
    return events


def run_of(home: Workspace, trial: Trial) -> Run:
    return Run(home.root / "runs" / trial.run)


def found(home: Workspace) -> StudyView:
    return view(home, "hunt")


def facts(home: Workspace) -> list[object]:
    """All that a trial is but its times."""
    trials = found(home).trials
    return [(t.params, t.state, t.values, t.parent, t.operation, t.fah, t.why) for t in trials]


@pytest.fixture(scope="module")
def hunt(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a finished search; do not write into it."""
    home = Workspace(tmp_path_factory.mktemp("hunt"))
    searched(home, searching(tiny_data))
    return home


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def test_every_trial_is_an_ordinary_run(hunt: Workspace) -> None:
    trials = found(hunt).trials
    assert [trial.state for trial in trials] == ["complete"] * 2
    assert [trial.run for trial in trials] == ["001-hunt-t0", "002-hunt-t1"]
    for trial in trials:
        run = run_of(hunt, trial)
        report = Report.from_json(run.report.read_text())
        assert trial.values == (trial.frr, report.macs)
        assert trial.pauc == report.validation.pauc
        assert run.last.exists()
        told = [r.event for r in read_events(run.events) if isinstance(r.event, Reported)]
        assert [event.split for event in told] == ["validation"]
        assert (run.export / "model.onnx").exists()


def test_a_trial_never_opens_the_test_split(hunt: Workspace) -> None:
    """Its report is of the validation split, and every clip in it is of the validation fold."""
    run = run_of(hunt, found(hunt).trials[0])
    report = Report.from_json(run.report.read_text())
    assert (report.split, report.test) == ("validation", report.validation)
    outcomes = Outcomes.read(run.outcomes)
    groups = {str(group) for group in np.unique(outcomes.group)} - {"speech"}
    assert {fold_of(group) for group in groups} == {(run.recipe().data.fold + 1) % 5}


def test_a_trial_is_validated_once_an_epoch_and_its_threshold_is_not_settled(
    hunt: Workspace,
) -> None:
    run = run_of(hunt, found(hunt).trials[0])
    events = [r.event for r in read_events(run.events) if isinstance(r.event, Validated)]
    assert [event.epoch for event in events] == list(range(1, run.recipe().train.epochs + 1))
    assert {event.hearings for event in events} == {1}


def test_the_events_of_a_trial_say_what_it_is(hunt: Workspace) -> None:
    trial = found(hunt).trials[1]
    events = [record.event for record in read_events(run_of(hunt, trial).events)]
    (started,) = [event for event in events if isinstance(event, TrialStarted)]
    (finished,) = [event for event in events if isinstance(event, TrialFinished)]
    assert (started.number, started.params, started.parent) == (1, trial.params, 0)
    assert (finished.quality, finished.latency) == trial.values


def test_a_fork_starts_from_the_weights_of_its_parent_that_fit(hunt: Workspace) -> None:
    trials = found(hunt).trials
    child = trials[1]
    assert child.parent == 0
    init = run_of(hunt, child).recipe().train.init
    assert init is not None
    ours, theirs = load(init).weights, load(run_of(hunt, trials[0]).best).weights
    fit = [name for name in ours if ours[name].shape == theirs[name].shape]
    assert fit
    assert all(ours[name].equal(theirs[name]) for name in fit)


def test_a_fork_whose_parent_was_removed_begins_afresh_and_says_so(
    home: Workspace, tiny_data: Path
) -> None:
    searched(home, searching(tiny_data, {"search.trials": 1}))
    prune(home, keep=0)
    events = list[Event]()
    search(None, home, name="hunt", trials=2, emit=events.append, control=Control())
    assert run_of(home, found(home).trials[1]).recipe().train.init is None
    told = [event.message for event in events if isinstance(event, Warned)]
    assert "trial 1 begins afresh: its parent's run was removed" in told


def test_a_trial_whose_report_cannot_be_read_is_gone_on_with(
    home: Workspace, tiny_data: Path
) -> None:
    with pytest.raises(Stopped):
        searched(home, searching(tiny_data, {"search.trials": 1}), Fuse(40))
    home.runs()[0].report.write_text("")
    searched(home, None)
    assert [trial.state for trial in found(home).trials] == ["complete"]


def test_a_search_that_is_killed_ends_like_one_that_is_not(
    hunt: Workspace, home: Workspace, tiny_data: Path
) -> None:
    killed(home, searching(tiny_data), kills=2, seed=5)
    assert facts(home) == facts(hunt)
    assert len(home.runs()) == 2


def killed(home: Workspace, recipe: Recipe, kills: int, seed: int) -> None:
    """Search as a process that is killed so many times at random, then let it end."""
    rng, path = random.Random(seed), home.root.with_name("hunt.toml")
    path.write_text(dump(recipe))
    begin = [*CLI, "--workspace", str(home.root), "search", str(path)]
    again = [*CLI, "--workspace", str(home.root), "search", "--resume", "hunt"]
    environment = os.environ | {"XDG_STATE_HOME": str(home.root.with_name("state"))}
    for _ in range(kills):
        command = again if (home.studies / "hunt.toml").exists() else begin
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        _wait_for_more(home, process, rng.randrange(1, 12))
        time.sleep(rng.uniform(0, 1))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    command = again if (home.studies / "hunt.toml").exists() else begin
    subprocess.run(command, env=environment, check=True, capture_output=True)


def _wait_for_more(home: Workspace, process: subprocess.Popen[bytes], more: int) -> None:
    """Wait until the search has written so many more events, or has ended."""
    target = _events(home) + more
    while process.poll() is None and _events(home) < target:
        time.sleep(0.02)


def _events(home: Workspace) -> int:
    return sum(len(list(read_events(run.events))) for run in home.runs())


def test_a_run_that_was_made_just_before_a_kill_is_taken(home: Workspace, tiny_data: Path) -> None:
    """One of the same name and another recipe is somebody else's; without any it was never made."""
    torn = home.root / "runs" / "001-hunt-t0"
    torn.mkdir(parents=True)
    recipe = searching(tiny_data, {"search.trials": 1})
    create(home, "hunt", recipe, 1)
    with Study.opened(home, "hunt", None) as study:
        asked = study.ask()
        assert asked is not None
    other = home.create(override(recipe, {"name": "hunt-t0", "search": {}}))
    made = home.create(trial_recipe(recipe, asked.params, "hunt-t0"))
    with pytest.raises(Stopped):
        searched(home, None, Fuse(40))
    assert [run.name for run in home.runs()] == [torn.name, other.name, made.name]
    assert found(home).trials[0].run == made.name


def test_a_search_that_is_stopped_goes_on(
    hunt: Workspace, home: Workspace, tiny_data: Path
) -> None:
    with pytest.raises(Stopped):
        searched(home, searching(tiny_data, {"search.trials": 1}), Fuse(40))
    (cut,) = found(home).trials
    assert cut.state == "running"
    searched(home, None)
    assert facts(home) == facts(hunt)[:1]


def test_a_trial_that_is_cut_off_after_its_report_is_what_its_report_says(
    home: Workspace, tiny_data: Path
) -> None:
    """What came after the last checkpoint, here the mean of two epochs, stays in its file."""
    space = {"train.average_best": {"choices": [2]}}
    epochs = {"train.epochs": 6, "train.steps_per_epoch": 1}
    recipe = searching(tiny_data, {"search.space": space, "search.trials": 1, **epochs})

    def cut(event: Event) -> None:
        if isinstance(event, Reported):
            raise Stopped

    with pytest.raises(Stopped):
        search(recipe, home, name="hunt", emit=cut, control=Control())
    run = home.runs()[0]
    before = [r.event for r in read_events(run.events) if isinstance(r.event, Validated)]
    searched(home, None)
    after = [r.event for r in read_events(run.events) if isinstance(r.event, Validated)]
    assert before[-1].averaged == 2
    assert after == before
    (trial,) = found(home).trials
    shipped = Report.from_json(run.report.read_text()).validation
    assert (trial.pauc, trial.fah) == (shipped.pauc, shipped.fah)


def test_a_search_holds_the_gpu_lane(home: Workspace, tiny_data: Path) -> None:
    with home.lock(), pytest.raises(BusyError):
        Jobs(home).start("search", lambda emit, control: None)


def test_the_lock_names_the_run_of_the_trial_that_is_trained(
    home: Workspace, tiny_data: Path
) -> None:
    control, named = Control(), list[Run | None]()

    def emit(event: Event) -> None:
        if isinstance(event, TrialStarted):
            named.append(Workspace(home.root).training())
            control.stop()

    with home.lock(), pytest.raises(Stopped):
        search(searching(tiny_data), home, name="hunt", emit=emit, control=control)
    assert named == home.runs() == [run_of(home, found(home).trials[0])]


@contextmanager
def little_memory() -> Iterator[None]:
    """Allow 1 GB more than now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 2**30, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("train.batch_size", 65_536, "out of memory with train.batch_size = 65536"),
        ("features.window_ms", 500, "tinyconv sees nothing in a window of 48 frames"),
        ("augment.rt60_low_s", 1.0, "rt60_low_s 1.0 is above rt60_high_s 0.8"),
    ],
)
def test_what_fails_says_why_and_the_search_goes_on(
    home: Workspace, tiny_data: Path, key: str, value: float, why: str
) -> None:
    recipe = searching(tiny_data, {"search.space": {key: {"choices": [value]}}})
    with little_memory():
        events = searched(home, recipe)
    trials = found(home).trials
    assert [trial.state for trial in trials] == ["failed"] * 2
    assert all(why in trial.why for trial in trials)
    told = [event.why for event in events if isinstance(event, TrialFinished)]
    assert told == [trial.why for trial in trials]


def test_a_trial_that_diverges_has_failed(
    hunt: Workspace, home: Workspace, tiny_data: Path, tmp_path: Path
) -> None:
    best = run_of(hunt, found(hunt).trials[0]).best
    broken = load(best).weights | {"head.bias": torch.full((1,), 3e38)}
    save(tmp_path / "init.ckpt", replace(load(best), weights=broken))
    width = load(best).settings().model.width
    changes = {
        "search.space": {"model.width": {"choices": [width]}},
        "search.trials": 1,
        "train.init": str(tmp_path / "init.ckpt"),
    }
    searched(home, searching(tiny_data, changes))
    (trial,) = found(home).trials
    assert trial.state == "failed"
    assert trial.why.startswith("the loss is not a finite number")
    log = [record.event for record in read_events(run_of(home, trial).events)]
    assert any(isinstance(event, JobFailed) for event in log)


def test_a_search_without_data_fails_at_once_and_can_be_mended(
    home: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(DataError):
        searched(home, searching(tmp_path / "nowhere"))


def test_what_always_ends_its_process_is_given_up(home: Workspace, tiny_data: Path) -> None:
    with pytest.raises(Stopped):
        searched(home, searching(tiny_data, {"search.trials": 1}), Fuse(40))
    with Study.opened(home, "hunt", None) as study:
        (left,) = study.left(home)
        left.keep("cuts", 3)
    searched(home, None)
    (given_up,) = found(home).trials
    assert (given_up.state, given_up.why) == (
        "failed",
        "the process was ended 4 times while it ran",
    )


def test_a_disk_that_is_gone_is_not_held_against_the_trial(
    home: Workspace, tiny_data: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(tiny_data, tmp_path / "data")
    with pytest.raises(Stopped):
        searched(home, searching(data, {"search.trials": 1}), Fuse(40))
    data.rename(tmp_path / "unmounted")
    for _ in range(5):
        with pytest.raises(DataError):
            searched(home, None)
    (tmp_path / "unmounted").rename(data)
    searched(home, None)
    assert [trial.state for trial in found(home).trials] == ["complete"]


def test_what_all_trials_begin_with_and_is_gone_is_not_held_against_them(
    home: Workspace, tiny_data: Path, tiny_run: Trained, tmp_path: Path
) -> None:
    init = shutil.copy(tiny_run.run.best, tmp_path / "init.ckpt")
    changes = {"search.trials": 1, "train.init": str(init)}
    init.rename(tmp_path / "elsewhere.ckpt")
    with pytest.raises(CheckpointError, match="which each trial begins with, is not there"):
        searched(home, searching(tiny_data, changes))
    (tmp_path / "elsewhere.ckpt").rename(init)
    searched(home, None)
    assert [trial.state for trial in found(home).trials] == ["complete"]


def test_hopeless_is_worse_than_the_median_of_what_is_not_larger() -> None:
    """After two epochs the best so far of the peers are 0.2, 0.3 and 0.4."""
    peers = [(0.9, 0.2, 0.0), (0.3, 0.5, 0.0), (0.8, 0.4, 0.0)]
    assert hopeless([0.9, 0.31], peers, least=3).startswith("hopeless after 2 epochs: 0.3100")
    assert hopeless([0.9, 0.3], peers, least=3) == ""
    assert hopeless([0.3, 0.9], peers, least=3) == ""


def test_hopeless_needs_two_epochs_and_enough_peers() -> None:
    peers = [(0.1, 0.1)] * 3
    assert hopeless([0.9], peers, least=3) == ""
    assert hopeless([0.9, 0.9], peers, least=4) == ""
    assert hopeless([0.9, 0.9], peers, least=0) == ""


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_no_trial_is_hopeless_against_itself(curve: list[float]) -> None:
    assert hopeless(curve, [curve] * 5, least=1) == ""


def test_a_hopeless_trial_is_stopped_and_said_to_be(home: Workspace, tiny_data: Path) -> None:
    """A rate of 1e-6 learns nothing in 60 steps; with this seed it is tried second."""
    changes = {
        "search.space": {"train.lr": {"choices": [3e-2, 1e-6]}},
        "search.stop_after": 1,
        "search.fork_every": 0,
        "search.seed": SEED_OF_HIGH_THEN_LOW,
        "search.quality": "pauc",
        "train.epochs": 4,
        "train.steps_per_epoch": 20,
    }
    searched(home, searching(tiny_data, changes))
    best, last = found(home).trials
    assert (best.params, best.state) == ({"train.lr": 3e-2}, "complete")
    assert (last.params, last.state, last.values) == ({"train.lr": 1e-6}, "stopped", None)
    assert last.why.startswith("hopeless after")
    events = [record.event for record in read_events(run_of(home, last).events)]
    assert len([event for event in events if isinstance(event, Validated)]) < 4
