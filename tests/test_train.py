"""Training on tones and hiss: it ends, it resumes exactly, and it fails with a sentence."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Fuse, Trained, ignore, tiny_recipe, tone
from torch import Tensor

from engine import audio
from engine.checkpoint import Checkpoint, load, save
from engine.device import threads_of
from engine.errors import CheckpointError, DeviceError, RecipeError
from engine.events import (
    CheckpointSaved,
    Event,
    JobStarted,
    PhaseChanged,
    Reported,
    Stepped,
    Validated,
    Warned,
)
from engine.jobs import Control, Stopped
from engine.models import build
from engine.recipe import Recipe
from engine.recipe_file import override
from engine.report import Report
from engine.runs import EventLog, Run, Workspace, read_events
from engine.train import resume_log, train

EAGER = {"train.checkpoint_every_s": 0.01}  # nearly every step is a place to resume from

# Resumes a run in children that are killed so many seconds after their first step, then to its end.
RESUME_AND_DIE = """
import os, signal, sys, time
from pathlib import Path
from engine.events import PhaseChanged
from engine.jobs import Control
from engine.runs import Run, Workspace
from engine.train import resume_log, train

home, run = Workspace(Path(sys.argv[1])), Run(Path(sys.argv[2]))
ready, steady = os.pipe()

def go_on():
    def emit(event):
        log.append(event)
        if event == PhaseChanged("train"):
            os.write(steady, b".")
    log = resume_log(run)
    train(run.recipe(), run, home, emit=emit, control=Control(), resume=True)
    log.close()

for wait_s in map(float, sys.argv[3:]):
    child = os.fork()
    if child == 0:
        go_on()
        os._exit(0)
    os.read(ready, 1)
    time.sleep(wait_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
go_on()
"""


pytestmark = pytest.mark.usefixtures("one_thread")


def go(run: Run, home: Workspace, control: Control, *, until: str = "") -> list[Event]:
    """Train a run, or the rest of it, with its log; `until` a phase begins. Gives its events."""
    log, events = resume_log(run), list[Event]()

    def emit(event: Event) -> None:
        log.append(event)
        events.append(event)
        if event == PhaseChanged(until):
            control.stop()

    try:
        train(run.recipe(), run, home, emit=emit, control=control, resume=True)
    except Stopped:
        pass
    finally:
        log.close()
    return events


def trained(
    data: Path, home: Workspace, changes: Mapping[str, Any] | None = None, until: str = "test"
) -> Trained:
    recipe = tiny_recipe(data, changes)
    run = home.create(recipe)
    return Trained(recipe, run, home, go(run, home, Control(), until=until))


@pytest.fixture(scope="module")
def whole(tiny_data: Path, home: Workspace) -> Trained:
    """A run that nothing interrupted, with its report."""
    return trained(tiny_data, home, EAGER, until="")


def tensors(value: Any, path: str = "") -> dict[str, Any]:
    """Every tensor and number below a value, by its path."""
    if isinstance(value, Mapping):
        pairs = [(f"{path}/{key}", inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        pairs = [(f"{path}/{index}", inner) for index, inner in enumerate(value)]
    else:
        return {path: value}
    return {name: leaf for key, inner in pairs for name, leaf in tensors(inner, key).items()}


def state(checkpoint: Checkpoint) -> dict[str, Any]:
    """All that a checkpoint holds but the number of its last event, which depends on the clock."""
    return tensors({name: getattr(checkpoint, name) for name in (
        "recipe", "statistics", "weights", "operating_point", "provenance", "ema", "trainer",
        "validation",
    )})  # fmt: skip


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two states are equal bit for bit."""
    return one.keys() == other.keys() and all(
        torch.equal(value, other[key]) if isinstance(value, Tensor) else value == other[key]
        for key, value in one.items()
    )


def assert_equal_runs(run: Run, expected: Run) -> None:
    for ours, theirs in ((run.last, expected.last), (run.best, expected.best)):
        assert same(state(load(ours)), state(load(theirs)))
    assert validations(run) == validations(expected)
    steps = [r.event.step for r in read_events(run.events) if isinstance(r.event, Stepped)]
    assert all(a < b for a, b in pairwise(steps)), "a curve repeats"


def validations(run: Run) -> list[Validated]:
    return [r.event for r in read_events(run.events) if isinstance(r.event, Validated)]


# --- a run


def test_a_run_ends_with_its_report_and_its_best_checkpoint(whole: Trained) -> None:
    run = whole.run
    report = Report.from_json(run.report.read_text())
    assert report.test.clips == report.validation.clips == 2
    assert load(run.best).threshold() == report.operating_point
    assert (run.export / "model.onnx").exists()
    assert isinstance(whole.events[-1], Reported)
    assert run.finished()


def test_a_run_validates_each_epoch_and_tests_once(whole: Trained) -> None:
    phases = [event.phase for event in whole.events if isinstance(event, PhaseChanged)]
    each = ["validate", "train"]
    last = ["threshold", "test", "export"]
    assert phases == ["pack", "train", *each, *each, *last]
    found = [(v.step, v.averaged, v.hearings) for v in whole.events if isinstance(v, Validated)]
    assert found == [(5, 0, 1), (10, 0, 1), (10, 0, 5)]


def test_the_best_third_of_the_epochs_is_averaged(tiny_data: Path, home: Workspace) -> None:
    """The first epochs have learnt too little to be among them."""
    changes = {"train.epochs": 6, "train.steps_per_epoch": 1}
    events = trained(tiny_data, home, changes).events
    assert [v.averaged for v in events if isinstance(v, Validated)] == [0, 0, 0, 0, 0, 0, 2, 0]


def test_the_steps_tell_the_signal_to_noise_ratio_of_their_epoch(
    tiny_data: Path, home: Workspace
) -> None:
    """0 to 25 dB are 12.5 dB in the middle; the first of two epochs is 10 dB easier."""
    events = trained(tiny_data, home, {"augment.snr_schedule": "linear"}).events
    told = {event.step: event.snr_db for event in events if isinstance(event, Stepped)}
    assert (told[5], told[10]) == (22.5, 12.5)


def test_a_second_run_of_the_same_recipe_is_the_same(
    tiny_data: Path, home: Workspace, whole: Trained
) -> None:
    assert_equal_runs(trained(tiny_data, home, EAGER).run, whole.run)


def test_another_seed_gives_another_model(tiny_data: Path, home: Workspace, whole: Trained) -> None:
    other = trained(tiny_data, home, {**EAGER, "train.seed": 1}).run
    assert not same(tensors(load(other.last).weights), tensors(load(whole.run.last).weights))


def test_best_holds_no_trainer_and_last_holds_all_of_it(whole: Trained) -> None:
    last, best = load(whole.run.last), load(whole.run.best)
    assert best.trainer is None
    assert best.ema is None
    assert last.trainer is not None
    assert last.trainer["position"]["step"] == 10


def test_a_checkpoint_is_written_when_a_person_asks(tiny_data: Path, home: Workspace) -> None:
    run, control, saved = home.create(tiny_recipe(tiny_data)), Control(), list[int]()

    def emit(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            saved.append(event.step)
        if event == PhaseChanged("train"):
            control.checkpoint()
        if event == PhaseChanged("test"):
            control.stop()

    with pytest.raises(Stopped):
        train(run.recipe(), run, home, emit=emit, control=control)
    assert saved == [0, 1, 5, 6, 10]


# --- exact resume


@pytest.mark.parametrize("at", [0, 1, 5, 6, 16, 24, 28, 33, 48, 56, 64])
def test_a_run_stopped_at_any_boundary_and_resumed_equals_the_uninterrupted_one(
    tiny_data: Path, home: Workspace, whole: Trained, at: int
) -> None:
    """Twice 5 steps and a validation of 18 clips and their stream, then that of the mean."""
    run = home.create(tiny_recipe(tiny_data, EAGER))
    go(run, home, Fuse(at))
    resumed = go(run, home, Control(), until="test")
    assert isinstance(resumed[0], JobStarted)
    assert_equal_runs(run, whole.run)


def test_what_a_kill_left_half_written_goes_when_the_run_is_gone_on_with(
    tiny_data: Path, home: Workspace
) -> None:
    run = home.create(tiny_recipe(tiny_data, EAGER))
    torn = [run.path / ".events.jsonl.x1y2", run.last.parent / ".last.ckpt.x1y2"]
    for path in torn:
        path.write_bytes(b"half a check")
    resume_log(run).close()
    assert not any(path.exists() for path in torn)


@pytest.mark.parametrize("more", [0, 1])
def test_a_run_stopped_while_its_threshold_settles_equals_the_uninterrupted_one(
    tiny_data: Path, home: Workspace, whole: Trained, more: int
) -> None:
    """At the first boundary of that phase, or at the next."""
    run, control = home.create(tiny_recipe(tiny_data, EAGER)), Fuse(-1)
    log = resume_log(run)

    def emit(event: Event) -> None:
        log.append(event)
        if event == PhaseChanged("threshold"):
            control.left = more

    with pytest.raises(Stopped):
        train(run.recipe(), run, home, emit=emit, control=control)
    log.close()
    go(run, home, Control(), until="test")
    assert_equal_runs(run, whole.run)


def test_a_run_stopped_again_and_again_equals_the_uninterrupted_one(
    tiny_data: Path, home: Workspace, whole: Trained
) -> None:
    run = home.create(tiny_recipe(tiny_data, EAGER))
    for _ in range(4):
        go(run, home, Fuse(5))
    go(run, home, Control(), until="test")
    assert_equal_runs(run, whole.run)


def test_a_run_killed_at_any_moment_and_resumed_equals_the_uninterrupted_one(
    tiny_data: Path, home: Workspace, whole: Trained
) -> None:
    run = home.create(tiny_recipe(tiny_data, EAGER))
    waits = ["0.02", "0.3", "0.1", "0.4", "0.2"]
    command = [sys.executable, "-W", "ignore", "-c", RESUME_AND_DIE, str(home.root), str(run.path)]
    done = subprocess.run([*command, *waits], capture_output=True, check=False, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert_equal_runs(run, whole.run)
    ours, theirs = (Report.from_json(r.report.read_text()) for r in (run, whole.run))
    assert (ours.test, ours.validation) == (theirs.test, theirs.validation)


def test_a_report_that_cannot_be_read_is_made_again_from_the_last_checkpoint(
    home: Workspace, whole: Trained
) -> None:
    run = Run(home.root / "runs" / "900-spoiled")
    shutil.copytree(whole.run.path, run.path)
    run.report.write_text("")
    go(run, home, Control())
    assert_equal_runs(run, whole.run)
    (ours, theirs) = (Report.from_json(one.report.read_text()) for one in (run, whole.run))
    assert (ours.test, ours.operating_point) == (theirs.test, theirs.operating_point)


def test_a_run_that_never_got_to_a_checkpoint_starts_anew(
    tiny_data: Path, home: Workspace, whole: Trained
) -> None:
    run = home.create(tiny_recipe(tiny_data, EAGER))
    log = EventLog(run.events)
    log.append(PhaseChanged("pack"))
    log.close()
    go(run, home, Control(), until="test")
    assert_equal_runs(run, whole.run)


# --- what can go wrong


def poisoned(whole: Trained, path: Path, name: str, value: float) -> Path:
    """The best checkpoint with one of its tensors full of a value."""
    best = load(whole.run.best)
    weights = {**best.weights, name: torch.full_like(best.weights[name], value)}
    save(path, replace(best, weights=weights))
    return path


@pytest.mark.parametrize(
    ("name", "value"), [("head.bias", 3e38), ("stem.maps.0.weight", float("nan"))]
)
def test_a_loss_that_is_not_finite_lowers_the_rate_once_and_then_stops(
    tiny_data: Path, home: Workspace, whole: Trained, tmp_path: Path, name: str, value: float
) -> None:
    init = poisoned(whole, tmp_path / "init.ckpt", name, value)
    run = home.create(tiny_recipe(tiny_data, {**EAGER, "train.init": str(init)}))
    events = list[Event]()
    with pytest.raises(RecipeError, match="at the lowered learning rate too") as caught:
        train(run.recipe(), run, home, emit=events.append, control=Control())
    assert "try train.lr = 0.0003" in caught.value.hint
    (warning,) = [event for event in events if isinstance(event, Warned)]
    assert "back to step 0" in warning.message
    assert "now 30% of" in warning.hint
    kept = load(run.last).trainer
    assert kept is not None
    assert (kept["position"]["step"], kept["position"]["lr_scale"]) == (0, 0.3)


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_stop_does_not_save_what_is_not_finite(
    tiny_data: Path, home: Workspace, whole: Trained, tmp_path: Path, at: int
) -> None:
    """On a slow machine the loss is looked at, and found wanting twice, before the stop."""
    init = poisoned(whole, tmp_path / "init.ckpt", "head.bias", 3e38)
    run = home.create(tiny_recipe(tiny_data, {"train.init": str(init)}))
    with pytest.raises((Stopped, RecipeError)):
        train(run.recipe(), run, home, emit=ignore, control=Fuse(at))
    kept = load(run.last).trainer
    assert kept is not None
    assert kept["position"]["step"] == 0


def test_no_memory_is_a_device_error_that_names_a_batch_size(
    tiny_data: Path, home: Workspace
) -> None:
    """65,536 windows of 23,920 samples of 4 bytes are 6 GB; 1 GB more than now is allowed."""
    run = home.create(tiny_recipe(tiny_data, {"train.batch_size": 65_536}))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 2**30, before[1]))
    try:
        with pytest.raises(DeviceError, match=r"train\.batch_size = 65536") as caught:
            train(run.recipe(), run, home, emit=ignore, control=Control())
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert caught.value.hint == "try --set train.batch_size=32768"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_a_device_error(tiny_data: Path, home: Workspace) -> None:
    recipe = tiny_recipe(tiny_data, {"train.device": "cuda"})
    with pytest.raises(DeviceError, match="no GPU"):
        train(recipe, home.create(recipe), home, emit=ignore, control=Control())


def test_files_that_cannot_be_read_are_told_and_left_out(
    tiny_data: Path, home: Workspace, tmp_path: Path
) -> None:
    audio.write(tmp_path / "short.wav", tone(440, 1.0))
    (tmp_path / "short.wav").write_bytes((tmp_path / "short.wav").read_bytes()[:30])
    (tmp_path / "text.wav").write_text("not audio")
    audio.write(tmp_path / "empty.wav", tone(440, 0.0))
    names = ["empty.wav", "short.wav", "text.wav"]
    rows = [f"{name},boop,odd{number}" for number, name in enumerate(names)]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,label,group", *rows]))
    odd = trained(tiny_data, home, {"data.sources": [str(tmp_path)]})
    told = [event.message for event in odd.events if isinstance(event, Warned)]
    assert len(told) == 3
    assert all(name in message for name, message in zip(names, told, strict=True))
    assert odd.run.best.exists()


# --- options


@pytest.mark.parametrize("arch", ["tinyconv", "mobilenetv3"])
def test_gradient_checkpointing_trains_and_resumes_exactly(
    tiny_data: Path, home: Workspace, arch: str
) -> None:
    changes = {"train.gradient_checkpointing": True, "model.arch": arch, "train.batch_size": 4}
    expected = trained(tiny_data, home, changes).run
    run = home.create(tiny_recipe(tiny_data, changes))
    go(run, home, Fuse(7))
    go(run, home, Control(), until="test")
    assert_equal_runs(run, expected)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says which cores those are")
def test_threads_are_chosen_by_the_cores_the_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    assert threads_of(Recipe()) == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert threads_of(Recipe()) == 1
        assert threads_of(override(Recipe(), {"train.threads": 3})) == 3
    finally:
        os.sched_setaffinity(0, allowed)


def test_init_starts_from_the_weights_of_a_checkpoint(
    tiny_data: Path, home: Workspace, whole: Trained
) -> None:
    changes = {"train.init": str(whole.run.best), "train.lr": 1e-12, "train.seed": 9}
    started, given = load(trained(tiny_data, home, changes).run.last), load(whole.run.best)
    assert same(tensors(started.statistics), tensors(given.statistics))
    names = {name for name, _ in build(started.settings()).named_parameters()}
    for name in names:
        assert torch.allclose(started.weights[name], given.weights[name], atol=1e-6)


@pytest.mark.parametrize(
    "changes", [{"model.arch": "mobilenetv3"}, {"model.width": 0.5}, {"features.mels": 32}]
)
def test_init_of_another_model_is_refused(
    tiny_data: Path, home: Workspace, whole: Trained, changes: dict[str, Any]
) -> None:
    recipe = tiny_recipe(tiny_data, {**changes, "train.init": str(whole.run.best)})
    with pytest.raises(CheckpointError, match="other features or another model"):
        train(recipe, home.create(recipe), home, emit=ignore, control=Control())


def test_init_from_another_fold_of_the_same_data_is_refused(
    tiny_data: Path, home: Workspace, whole: Trained
) -> None:
    recipe = tiny_recipe(tiny_data, {"data.fold": 3, "train.init": str(whole.run.best)})
    with pytest.raises(CheckpointError, match="voices that this fold tests on"):
        train(recipe, home.create(recipe), home, emit=ignore, control=Control())


def test_init_that_trained_on_what_is_tested_now_is_refused(
    tiny_data: Path, home: Workspace, tmp_path: Path
) -> None:
    voices = shutil.copytree(tiny_data, tmp_path / "voices")
    first = trained(tiny_data, home, {"data.train_sources": [str(voices)]})
    changes = {"train.init": str(first.run.best), "data.sources": [str(voices)]}
    with pytest.raises(CheckpointError, match="this fold tests on"):
        trained(tiny_data, home, changes)


def test_a_resume_on_changed_data_finds_its_hard_negatives_anew(
    tiny_data: Path, home: Workspace, tmp_path: Path
) -> None:
    """They are places in the packed audio, and another pack holds something else there."""
    copied = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    run = home.create(tiny_recipe(copied, EAGER))
    go(run, home, Control(), until="validate")
    os.utime(next(copied.glob("*.wav")), (1, 1))
    told = [event for event in go(run, home, Control(), until="test") if isinstance(event, Warned)]
    assert "the data changed" in told[-1].message


def test_a_window_too_short_for_the_student_is_a_recipe_error(
    tiny_data: Path, home: Workspace
) -> None:
    recipe = tiny_recipe(tiny_data, {"features.window_ms": 500})
    with pytest.raises(RecipeError, match="sees nothing in a window of 48 frames"):
        train(recipe, home.create(recipe), home, emit=ignore, control=Control())


def test_float16_on_a_cpu_trains_as_float32_does_and_resumes_exactly(
    tiny_data: Path, home: Workspace
) -> None:
    """A loss scaled by a power of two gives the same numbers; the count of steps is kept."""
    plain = trained(tiny_data, home)
    changes = {"train.precision": "float16"}
    scaled = trained(tiny_data, home, changes)
    assert same(tensors(load(plain.run.last).weights), tensors(load(scaled.run.last).weights))
    run = home.create(tiny_recipe(tiny_data, changes))
    go(run, home, Fuse(7))
    go(run, home, Control(), until="test")
    assert_equal_runs(run, scaled.run)
    kept = load(run.last).trainer
    assert kept is not None
    assert kept["scaler"]["_growth_tracker"] == 10


def test_targets_that_are_exceeded_are_told_and_reported(tiny_data: Path, home: Workspace) -> None:
    changes = {"targets.flash_kb": 1.0, "targets.ram_kb": 1000.0, "targets.latency_ms": 0.0001}
    run = trained(tiny_data, home, {**changes, "train.epochs": 1}, until="")
    told = [event.message for event in run.events if isinstance(event, Warned)]
    assert [message.rpartition("over ")[2] for message in told] == [
        "targets.flash_kb = 1",
        "targets.latency_ms = 0.0001",
    ]
    assert Report.from_json(run.run.report.read_text()).warnings == told


@pytest.mark.parametrize("focal", [True, False])
def test_every_switch_of_the_recipe_trains(tiny_data: Path, home: Workspace, focal: bool) -> None:
    """All kinds of augmentation, both losses, both kinds of TinyConv, with and without."""
    changes = {
        "loss.kind": "focal" if focal else "cross_entropy",
        "model.depthwise": focal,
        "augment.speed": float(focal),
        "augment.room": float(focal),
        "augment.noise": float(focal),
        "augment.tract": float(focal),
        "train.hard_share": float(focal),
    }
    run = trained(tiny_data, home, changes).run
    assert json.loads(load(run.best).validation)["clips"] == 2
