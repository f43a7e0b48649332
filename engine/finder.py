"""What finds: a checkpoint's scorer, its detector, and a threshold below the operating point.

level      ...##...          the peak, not where the detector fires, is the place of a find:
          #######            another checkpoint fires sooner or later, but peaks there too
fires    ^   ^ peak
"""

import contextlib
import json
import math
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from engine.audio import SAMPLE_RATE
from engine.checkpoint import Checkpoint, load, sha256
from engine.detector import Detection, Detector
from engine.errors import CheckpointError
from engine.export_folder import export_at, read
from engine.recipe import DetectorSettings, Recipe
from engine.scorer import Scorer, opened, scorer_of

MINED_FAH = 20.0
LOWER_LOGITS = 1.0
PEAK_S = 0.8
ROUND_S = 0.5
ALIKE = 1e-3


@dataclass(frozen=True, slots=True)
class Finder:
    """A checkpoint's scorer and the rules of its detector.

    `checkpoint` is its identity, `point` the threshold of its operating point, `lower` the one to
    mine at.
    """

    path: Path
    checkpoint: str
    scorer: Scorer
    recipe: Recipe
    point: float
    lower: float

    @classmethod
    def of(cls, path: Path) -> "Finder":
        """The finder of a checkpoint or of an export. Raises CheckpointError."""
        if path.is_dir() or path.suffix == ".onnx":
            return cls._of_export(path)
        checkpoint = load(path)
        return cls(
            path.absolute(),
            checkpoint.origin or sha256(path),
            _fastest(path, checkpoint),
            checkpoint.settings(),
            checkpoint.threshold().threshold,
            lower_threshold(checkpoint),
        )

    @classmethod
    def _of_export(cls, path: Path) -> "Finder":
        """An export is known by the checkpoint that it was made of, if it tells."""
        (scorer, checkpoint), folder = opened(path), export_at(path)
        return cls(
            path.absolute(),
            read(folder)["run"]["checkpoint_sha256"] if folder else "",
            scorer,
            checkpoint.settings(),
            checkpoint.threshold().threshold,
            lower_threshold(checkpoint),
        )

    @property
    def rules(self) -> DetectorSettings:
        """How scores become detections."""
        return self.recipe.detector

    def too_short(self, seconds: float) -> str:
        """What to say of sound that is shorter than a window: none of it was scored."""
        window_s = self.scorer.grid.window_s
        return f"too short to be scored: {seconds:.2f} s were heard, {window_s:.2f} s are needed"

    def place(self, fired: Detection, seconds: float) -> tuple[float, float]:
        """The stretch of a recording of `seconds` to hear and to train on."""
        start_s = fired.time_s - self.scorer.grid.window_s - ROUND_S
        return max(0.0, start_s), min(seconds, fired.time_s + ROUND_S)


def lower_threshold(checkpoint: Checkpoint) -> float:
    """A threshold below the operating point, at which validation had 20 false alarms an hour.

    Looked for from above: far below, a detector that is always on fires once.
    """
    point = checkpoint.threshold().threshold
    logit = math.log(point / (1 - point)) if 0 < point < 1 else 0.0
    thresholds = [1 / (1 + math.exp(LOWER_LOGITS - logit))]
    if checkpoint.validation:
        measured = checkpoint.validated()
        most = MINED_FAH * measured.hours
        rows = sorted(measured.sweep, reverse=True)
        thresholds += [row[0] for row in takewhile(lambda row: row[1] <= most, rows)]
    return min(thresholds)


def _fastest(path: Path, checkpoint: Checkpoint) -> Scorer:
    """The exported student beside a run's checkpoint, if it scores as the checkpoint does.

    It is the float one, and an INT8 one is as sure as that one of what is far from the word.
    """
    own = Scorer.of(checkpoint)
    student = path.absolute().parent.parent / "export" / "student.onnx"
    if checkpoint.quantised or not student.exists():
        return own
    with contextlib.suppress(CheckpointError):
        exported = scorer_of(student)
        if exported.grid == own.grid and _alike(exported, own):
            return exported
    return own


def _alike(one: Scorer, other: Scorer) -> bool:
    seconds = one.grid.window_s + 5
    hiss = np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE)) * 0.1
    waveform = hiss.astype(np.float32)
    return bool(np.abs(one.score(waveform) - other.score(waveform)).max() < ALIKE)


class Peaks:
    """Scores become detections at the highest level within 0.8 s of where the detector fires."""

    def __init__(self, rules: DetectorSettings, threshold: float, hop_s: float) -> None:
        self._detector = Detector(rules, threshold, hop_s)
        self._fired_s = 0.0
        self._open: Detection | None = None

    def push(self, score: float, time_s: float) -> Detection | None:
        """Take the score of the window that ends at `time_s`; give a peak that is over."""
        fired, over = self._detector.push(score, time_s), None
        if self._open is not None and (fired or time_s - self._fired_s > PEAK_S + 1e-6):
            over, self._open = self._open, None
        if fired:
            self._open, self._fired_s = fired, time_s
        elif self._open is not None and self._detector.level > self._open.score:
            self._open = Detection(time_s, self._detector.level)
        return over

    def finish(self) -> Detection | None:
        """The peak that the recording ends in, if it does."""
        over, self._open = self._open, None
        return over

    def state(self) -> str:
        """What it remembers, as JSON."""
        peak = None if self._open is None else [self._open.time_s, self._open.score]
        state = {"detector": self._detector.state(), "fired_s": self._fired_s, "open": peak}
        return json.dumps(state)

    def restore(self, state: str) -> None:
        """Go on from a state."""
        known: dict[str, Any] = json.loads(state)
        self._detector.restore(known["detector"])
        self._fired_s = known["fired_s"]
        self._open = None if known["open"] is None else Detection(*known["open"])
