"""A scripted training: a verb that writes real events through a real job, and its runs."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engine import audio
from engine.events import (
    CheckpointSaved,
    Emit,
    JobFinished,
    JobStarted,
    PhaseChanged,
    Progressed,
    Reported,
    Stepped,
    Validated,
    Warned,
)
from engine.jobs import Control, Stopped
from engine.metrics import binomial_interval, poisson_interval
from engine.queue_store import Find, QueueStore
from engine.recipe import Recipe
from engine.recipe_file import override
from engine.runs import EventLog, Run, Workspace
from tests.card import chirp
from tests.tiny import hiss, seconds

HOURS, CLIPS = 5.54, 329
WRONG = {
    "clean": 12, "20 dB": 13, "10 dB": 21, "5 dB": 38, "0 dB": 71, "reverb": 39,
    "reverb + 5 dB": 86, "20 dB softer": 15, "other words": 2, "partial": 9, "confusable": 14,
}  # fmt: skip
NO_TEXT = "caf\udce9.wav"
"""A name of the file system that a terminal cannot be sent as it is."""
RECIPE = override(Recipe(), {"name": "alexa", "data.wakeword": "alexa"})


def loss_at(step: int) -> float:
    """A loss that falls, with a ripple that repeats: no test depends on chance."""
    return 0.68 * math.exp(-step / 420) + 0.05 + 0.02 * math.sin(step) * math.exp(-step / 900)


def stepped(step: int, total: int = 2000) -> Stepped:
    return Stepped(step, step // 100, loss_at(step), 3e-3 * (1 - step / total), 5120.0,
                   25.0 - step / 100, 812.0, (total - step) * 0.05)  # fmt: skip


def validated(epoch: int) -> Validated:
    missed = round(CLIPS * (0.02 + 0.6 * math.exp(-epoch / 3)))
    low, high = binomial_interval(missed, CLIPS)
    return Validated(
        step=epoch * 100, epoch=epoch, pauc=0.99 - 0.4 * math.exp(-epoch / 4), eer=0.03,
        frr=missed / CLIPS, frr_low=low, frr_high=high, clips=CLIPS, fah=0.9, hours=HOURS,
        target_fah=1.0, threshold=0.734, det_area=0.1, best=True,
        frr_noisy=min(1.0, 3 * missed / CLIPS),
    )  # fmt: skip


def training(
    steps: int = 2000, every: int = 10, pause_s: float = 0.0, saved: list[int] | None = None
) -> Callable[[Emit, Control], None]:
    """A verb that trains nothing, says everything, and ends as a training does."""

    def verb(emit: Emit, control: Control) -> None:
        emit(JobStarted("train", "001-alexa", "cpu, 2 threads", 2000))
        emit(PhaseChanged("pack"))
        emit(Progressed("pack", 900, 1200, "files"))
        emit(Warned(f"skipped noise/{NO_TEXT}: no name in UTF-8", "rename the file"))
        step = 0
        try:
            while step < steps:
                step += every
                emit(stepped(step))
                if step % 100 == 0:
                    emit(validated(step // 100))
                    emit(CheckpointSaved(step, "best"))
                if control.take_checkpoint_request():
                    emit(CheckpointSaved(step, "last"))
                time.sleep(pause_s)
                control.tick()
        except Stopped:
            emit(CheckpointSaved(step, "last"))
            if saved is not None:
                saved.append(step)
            raise
        emit(Reported("001-alexa", 0.036, 0.019, 0.063, 0.36, 0.04, 1.3, 0.734))

    return verb


def write_run(workspace: Workspace, *, finished: bool = True, epochs: int = 20) -> Run:
    """A run as a training of `epochs` leaves it."""
    run = workspace.create(RECIPE)
    log = EventLog(run.events)
    log.append(JobStarted("train", run.name, "cpu, 2 threads", 2000))
    for step in range(10, epochs * 100 + 1, 10):
        log._kept_s.clear()
        log.append(stepped(step))
        if step % 100 == 0:
            log.append(validated(step // 100))
            log.append(CheckpointSaved(step, "best"))
    log.append(JobFinished("train", "done" if finished else "stopped", 312.0))
    log.close()
    if finished:
        run.report.write_text(json.dumps(report()))
    return run


def report() -> dict[str, Any]:
    """A report with a sweep of falling thresholds, alarms rising and misses falling."""
    sweep = [
        [1 - 0.01 * k, round(0.02 * k**1.7), max(4, round(CLIPS * math.exp(-k / 12)))]
        for k in range(1, 100)
    ]
    test = [[threshold, round(alarms * 1.2), missed] for threshold, alarms, missed in sweep]
    return {
        "schema": 1, "recipe_sha256": "", "fold": 0, "parameters": 41_230, "macs": 2_104_000,
        "latency_ms": {"p50": 0.83, "p95": 1.12}, "features_ms": 0.2, "checkpoint_sha256": "",
        "operating_point": {"threshold": 0.74, "target_fah": 1.0},
        "validation": measured(sweep), "test": measured(test),
    }  # fmt: skip


def measured(sweep: list[list[float]]) -> dict[str, Any]:
    alarms, missed = 2, 12
    fah_low, fah_high = poisson_interval(alarms, HOURS)
    frr_low, frr_high = binomial_interval(missed, CLIPS)
    det = sorted({a / HOURS: m / CLIPS for _, a, m in sweep if a}.items())
    return {
        "pauc": 0.974, "max_fpr": 0.01, "eer": 0.02, "fah": alarms / HOURS, "fah_low": fah_low,
        "fah_high": fah_high, "false_alarms": alarms, "hours": HOURS, "frr": missed / CLIPS,
        "frr_low": frr_low, "frr_high": frr_high, "frr_group_low": frr_low,
        "frr_group_high": frr_high, "det_area": 0.1, "det_fah": [],
        "clips": CLIPS, "missed": missed,
        "det": [list(point) for point in det], "sweep": sweep,
        "cohorts": {name: share(wrong, CLIPS) for name, wrong in WRONG.items()},
        "groups": {f"speaker_{n:02d}": share(n % 5, 16) for n in range(1, 21)},
    }  # fmt: skip


def share(wrong: int, clips: int) -> dict[str, Any]:
    low, high = binomial_interval(wrong, clips)
    return {"clips": clips, "wrong": wrong, "rate": wrong / clips, "low": low, "high": high}


def workspace_at(path: Path) -> Workspace:
    """A workspace with a finished and an unfinished run."""
    workspace = Workspace(path / "workspace")
    write_run(workspace)
    write_run(workspace, finished=False, epochs=7)
    return workspace


SWEEP_S = 2.0


def recording(path: Path) -> Path:
    """Half a minute of hiss with a sweep every 3 s, each higher than the one before."""
    sound = hiss(30.0, 7, 0.003)
    for n in range(9):
        at = seconds(3 * n + 0.5)
        sweep = chirp(SWEEP_S, 200 + 200 * n, 3000 + 200 * n)
        sound[at : at + len(sweep)] += 0.4 * np.hanning(len(sweep)).astype(np.float32) * sweep
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, sound)
    return path


def finds(path: Path, count: int = 9, group: str = "talk") -> list[Find]:
    """Where a detector fired in a recording: at the end of each sweep, surer each time."""
    return [
        Find(path, "recording", 3 * n + 2.5, 3 * n + 0.5, 3 * n + 2.5, 0.9 - 0.02 * n, 0.734,
             group, "", "background")
        for n in range(count)
    ]  # fmt: skip


def queue_at(workspace: Workspace, folder: Path) -> QueueStore:
    """A queue of nine finds in a recording, all pending."""
    store = QueueStore(workspace.queue)
    store.add(finds(recording(folder / "crowd_0431.wav")))
    return store
