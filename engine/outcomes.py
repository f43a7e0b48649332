"""What became of each clip of a test, and what its streams alarm at: a run's `outcomes.npz`."""

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import DataError
from engine.files import write_atomic
from engine.metrics import (
    Floats,
    OperatingPoint,
    StreamScores,
    det_curve,
    false_alarms,
    hours_of,
)
from engine.recipe import DetectorSettings
from engine.report import ClipScore

COLUMNS = {
    "clip": "U", "group": "U", "cohort": "U", "positive": "b", "wrong": "b", "score": "f",
    "peak": "f",
}  # fmt: skip
CURVE = {"thresholds": "f", "alarms": "i"}
SCALARS = ("version", "threshold", "target_fah", "false_alarms", "hours")
VERSION = 4
"""Of how clips are heard: another number says that runs before and after cannot be compared."""
DAMAGE = (
    OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""What reading a damaged archive may raise."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Every clip of a test `(N,)`, and the false alarms on its streams, at a frozen threshold.

    Wrong is a miss of a wake word, and a detection on any other clip. `score` is the highest
    smoothed score, `peak` the highest vote level where a detection counts. A clip is known in other
    runs by its name; "" has none and is never paired. `alarms` (K,) are those of the streams at
    falling `thresholds` (K,), its own among them, the most from there up; both are empty where
    there is no stream.
    `sound` tells the streams from any others.
    """

    clip: NDArray[np.str_]
    group: NDArray[np.str_]
    cohort: NDArray[np.str_]
    positive: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    score: NDArray[np.float32]
    peak: Floats
    thresholds: Floats
    alarms: NDArray[np.int64]
    point: OperatingPoint
    false_alarms: int
    hours: float
    sound: str

    @classmethod
    def of(
        cls,
        clips: Sequence[ClipScore],
        point: OperatingPoint,
        settings: DetectorSettings,
        hop_s: float,
        streams: Sequence[StreamScores] = (),
    ) -> "Outcomes":
        """What clips and streams become at the operating point."""
        thresholds, alarms = np.empty(0), np.empty(0, dtype=np.int64)
        (found,) = false_alarms(streams, [point.threshold], settings, hop_s)
        if any(stream.levels.size for stream in streams):
            curve = det_curve([], streams, settings, hop_s)
            thresholds = curve.thresholds
            alarms = np.rint(curve.fah * hours_of(streams)).astype(np.int64)
            at = int(np.searchsorted(-thresholds, -point.threshold))
            thresholds = np.insert(thresholds, at, point.threshold)
            alarms = np.maximum.accumulate(np.insert(alarms, at, found))
        wrong = [c.fires(point.threshold, settings, hop_s) != c.positive for c in clips]
        return cls(
            clip=np.array([c.clip for c in clips], dtype=np.str_),
            group=np.array([c.group for c in clips], dtype=np.str_),
            cohort=np.array([c.cohort for c in clips], dtype=np.str_),
            positive=np.array([c.positive for c in clips], dtype=np.bool_),
            wrong=np.array(wrong, dtype=np.bool_),
            score=np.array([c.score for c in clips], dtype=np.float32),
            peak=np.array([c.peak for c in clips], dtype=np.float64),
            thresholds=thresholds,
            alarms=alarms,
            point=point,
            false_alarms=found,
            hours=hours_of(streams),
            sound=" ".join(sorted(stream.sound for stream in streams)),
        )

    def write(self, path: Path) -> None:
        """Write `outcomes.npz`."""
        point = self.point
        numbers = (VERSION, point.threshold, point.target_fah, self.false_alarms, self.hours)
        arrays: dict[str, Any] = dict(zip(SCALARS, map(np.array, numbers), strict=True))
        arrays["sound"] = np.array(self.sound)
        file = io.BytesIO()
        arrays |= {name: getattr(self, name) for name in COLUMNS | CURVE}
        np.savez_compressed(file, **arrays)
        write_atomic(path, file.getvalue())

    @classmethod
    def read(cls, path: Path) -> "Outcomes":
        """Read what `write` wrote. Raises DataError."""
        hint = "test the run again: wakeword-tui evaluate RUN"
        if not path.exists():
            raise DataError(f"{path.parent.name} does not say what became of each clip", hint)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                if arrays["version"] != VERSION:
                    raise DataError(f"{path} was made when clips were heard otherwise", hint)
                columns, curve = ({n: arrays[n] for n in names} for names in (COLUMNS, CURVE))
                _, threshold, target_fah, alarms, hours = (float(arrays[n]) for n in SCALARS)
                sound = str(arrays["sound"])
        except DAMAGE as problem:
            raise DataError(f"{path} cannot be read: {problem}", hint) from problem
        kinds = {name: array.dtype.kind for name, array in (columns | curve).items()}
        if kinds != COLUMNS | CURVE or not (_as_long(columns) and _as_long(curve)):
            raise DataError(f"{path} holds something else than the outcomes of clips", hint)
        point = OperatingPoint(threshold, target_fah)
        return cls(
            **columns, **curve, point=point, false_alarms=int(alarms), hours=hours, sound=sound
        )


def _as_long(arrays: dict[str, NDArray[Any]]) -> bool:
    """Whether all arrays are rows of one length."""
    shapes = {array.shape for array in arrays.values()}
    return len(shapes) == 1 and len(shapes.pop()) == 1
