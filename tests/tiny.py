"""A data folder, a recipe and a run so small that training takes a second."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine import audio
from engine.audio import SAMPLE_RATE, Waveform
from engine.dataset import fold_of
from engine.events import Event
from engine.jobs import Control
from engine.recipe import Recipe
from engine.recipe_file import override
from engine.runs import Run, Workspace

SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "data.wakeword": "beep",
    "model.width": 0.25,
    "augment.softer_db": 12.0,  # ten steps learn no wider range of levels
    "train.batch_size": 8,
    "train.epochs": 2,
    "train.steps_per_epoch": 5,
    "train.threads": 1,
    "train.device": "cpu",
    "evaluate.latency_runs": 20,
}


def seconds(count: float) -> int:
    return round(count * SAMPLE_RATE)


def tone(hz: float, length_s: float, amplitude: float = 0.5) -> Waveform:
    phase = 2 * np.pi * hz * np.arange(seconds(length_s)) / SAMPLE_RATE
    return (amplitude * np.sin(phase)).astype(np.float32)


def hiss(length_s: float, seed: int, amplitude: float = 0.05) -> Waveform:
    noise = np.random.default_rng(seed).standard_normal(seconds(length_s))
    return (amplitude * noise).astype(np.float32)


def padded(word: Waveform) -> Waveform:
    """A word after 0.2 s and before 0.2 s of near silence."""
    return np.pad(word, seconds(0.2)) + hiss(len(word) / SAMPLE_RATE + 0.4, 0, 1e-4)


def groups(stem: str, per_fold: int) -> list[str]:
    """Names of groups, as many in each fold."""
    names = [f"{stem}{number}" for number in range(200)]
    return [n for f in range(5) for n in [n for n in names if fold_of(n) == f][:per_fold]]


def make_data(folder: Path) -> Path:
    """Beeps that rise (the wake word) and fall, hiss that comes and goes, noise, rooms."""
    rows = ["path,label,group"]

    def keep(name: str, label: str, group: str, waveform: Waveform) -> None:
        audio.write(folder / name, waveform)
        rows.append(f"{name},{label},{group}")

    folder.mkdir(parents=True)
    for index, group in enumerate(groups("voice", 2)):
        low, high = 500.0 + 10 * index, 1500.0 + 20 * index
        up = np.concatenate([tone(low, 0.2), tone(high, 0.2)])
        keep(f"up-{group}.wav", "beep", group, padded(up))
        keep(f"down-{group}.wav", "boop", group, padded(up[::-1]))
    for index, group in enumerate(groups("talk", 1)):
        swell = np.abs(tone(1.3, 8, 1.0)) * hiss(8, 50 + index)
        keep(f"speech-{group}.wav", "speech", group, swell)
        keep(f"noise-{group}.wav", "noise", group, hiss(5, 70 + index))
        decay = np.exp(-np.arange(seconds(0.3)) / seconds(0.04)).astype(np.float32)
        room = decay * hiss(0.3, 90 + index, 0.2)
        room[20] = 1.0
        keep(f"room-{group}.wav", "rir", group, room)
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def other_takes(data: Path, folder: Path) -> Path:
    """The clips of `make_data` recorded once more: nothing that was trained on."""
    shutil.copytree(data, folder)
    for path in folder.glob("*.wav"):
        audio.write(path, np.float32(0.9) * audio.read(path))
    return folder


def held_for_validation(name: str, data: Path, manifest: Path) -> Path:
    """Write the manifest of `make_data` elsewhere, with one of its clips held for validation."""
    header, *rows = (data / "manifest.csv").read_text().splitlines()
    held = [f"{data}/{row},{'validation' if row.startswith(name) else ''}" for row in rows]
    manifest.write_text("\n".join([f"{header},split", *held]) + "\n")
    return manifest


def tiny_recipe(data: Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    return override(Recipe(), {**SETTINGS, "data.manifest": str(data), **(changes or {})})


class Fuse(Control):
    """A control that is told to stop at its k-th step boundary, counted from 0."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def tick(self) -> None:
        if self.left == 0:
            self.stop()
        self.left -= 1
        super().tick()


@dataclass(frozen=True, slots=True)
class Trained:
    """A run, its recipe and workspace, and the events that it emitted."""

    recipe: Recipe
    run: Run
    home: Workspace
    events: list[Event]


def run_tiny(data: Path, root: Path, changes: Mapping[str, Any] | None = None) -> Trained:
    """Train a tiny run to its end."""
    from engine.train import train

    recipe, home, events = tiny_recipe(data, changes), Workspace(root), list[Event]()
    run = home.create(recipe)
    train(recipe, run, home, emit=events.append, control=Control())
    return Trained(recipe, run, home, events)


def ignore(_: Event) -> None:
    """An `emit` that nobody listens to."""
