"""INT8 of a student that was trained in float: its ranges, from audio of the training split."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from engine.audio import SAMPLE_RATE, Waveform
from engine.checkpoint import Checkpoint
from engine.cohorts import CONDITIONS
from engine.errors import DataError
from engine.heard import Heard
from engine.jobs import Control
from engine.quantize import calibrate, quantised

BATCHES, WORDS, OTHERS = 32, 8, 16
AFTER_S = 0.2


def round_off(checkpoint: Checkpoint, train: Heard, *, control: Control) -> Checkpoint:
    """Quantise a float checkpoint as it stands; the same for the same data."""
    model = quantised(checkpoint.model(), checkpoint.settings())
    calibrate(model, _batches(checkpoint, train, control))
    return replace(checkpoint, weights=model.state_dict(), quantised=True, ema=None, trainer=None)


def _batches(checkpoint: Checkpoint, train: Heard, control: Control) -> Iterator[Tensor]:
    """Frames `(B, M, T)` of windows: a third with the word, in every condition, and the others."""
    front, generator = checkpoint.features(), np.random.default_rng(0)
    samples = front.grid.window_samples
    words = _words(train, samples, generator)
    others = _others(train, samples, generator)
    for _ in range(BATCHES):
        control.tick()
        windows = [next(words) for _ in range(WORDS)] + [next(others) for _ in range(OTHERS)]
        with torch.no_grad():
            yield front(torch.from_numpy(np.stack(windows)))


def _words(train: Heard, samples: int, generator: np.random.Generator) -> Iterator[Waveform]:
    """Windows that end with a word of the split, clean, in noise, in rooms, softer, in turn."""
    clips = train.selection.positives
    conditions = [condition for condition in CONDITIONS if condition.positive]
    if not clips:
        raise DataError("no wake words to see the ranges of activations on", "see data.manifest")
    while True:
        for condition in conditions:
            clip = clips[generator.integers(len(clips))]
            stop = round((train.lead_s + clip.end_s + AFTER_S) * SAMPLE_RATE)
            yield train.clip(clip, condition)[stop - samples : stop]


def _others(train: Heard, samples: int, generator: np.random.Generator) -> Iterator[Waveform]:
    """Windows of speech, noise and other words of the split, each padded where it is shorter."""
    chosen = train.selection
    clips = [*chosen.speech, *chosen.noise, *chosen.negatives] or [*chosen.positives]
    while True:
        sound = train.waveform(clips[generator.integers(len(clips))])
        sound = np.pad(sound, (max(0, samples - len(sound)), 0))
        start = int(generator.integers(len(sound) - samples + 1))
        yield sound[start : start + samples]
