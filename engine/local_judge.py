"""A judge without a wire: any checkpoint or export gives its Verdict of a piece of audio.

It hears as the evaluation does, a detector that listens to the end of the audio:

    audio                 |-------------------- 2 s --------------------|
    silence, if short  ~~~|                                             |
    windows            [===========================]                    |
                             ...        [===============================]
    score              the highest vote level of all windows; the threshold is one of vote levels
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.audio import Waveform
from engine.checkpoint import Checkpoint
from engine.detector import vote_levels
from engine.features import Grid
from engine.judge import PRE_ROLL_S, Verdict
from engine.recipe import DetectorSettings
from engine.scorer import Scorer, opened


@dataclass(frozen=True, slots=True)
class LocalJudge:
    """A scorer, its detector's rules and a threshold; for one thread at a time."""

    scorer: Scorer
    rules: DetectorSettings
    threshold: float
    model: str

    @classmethod
    def of(cls, path: Path, threshold: float | None = None) -> "LocalJudge":
        """The judge in a checkpoint, an export, or a student.onnx, at a threshold or its own.

        Raises CheckpointError.
        """
        return cls.made(*opened(path), threshold)

    @classmethod
    def made(
        cls, scorer: Scorer, checkpoint: Checkpoint, threshold: float | None = None
    ) -> "LocalJudge":
        """The judge of a scorer and the checkpoint that it is of."""
        recipe = checkpoint.settings()
        if threshold is None:
            threshold = checkpoint.threshold().threshold
        return cls(scorer, recipe.detector, threshold, recipe.name)

    @property
    def window_s(self) -> float:
        """Seconds under one score."""
        return self.scorer.grid.window_s

    @property
    def sent_s(self) -> float:
        """Seconds of audio, up to where the sentry fired, that it should hear."""
        return self.window_s + PRE_ROLL_S

    def score(self, waveform: Waveform) -> float:
        """The highest vote level over a waveform `(N,)`, the last window ending where it ends."""
        scores = self.scorer.score(led_in(waveform, self.scorer.grid, self.rules))
        return float(vote_levels(scores, self.rules).max())

    def verify(self, waveform: Waveform) -> Verdict:
        """Judge a waveform `(N,)`."""
        began_s = time.perf_counter()
        score = self.score(waveform)
        took_ms = 1000 * (time.perf_counter() - began_s)
        return Verdict(score >= self.threshold, score, self.threshold, self.model, took_ms)


def led_in(waveform: Waveform, grid: Grid, rules: DetectorSettings) -> Waveform:
    """A waveform `(N,)` after so much silence that its detector can vote, and hops end with it."""
    hops = rules.smooth_hops + rules.of - 2
    least = grid.window_samples + hops * grid.hop_samples
    short = least - len(waveform)
    silence = short if short > 0 else -(len(waveform) - least) % grid.hop_samples
    return np.pad(waveform, (silence, 0))
