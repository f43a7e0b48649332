"""What an export tells: how to hear with it, what to expect of it, and how to see that it works."""

import io
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import engine
from engine.audio import SAMPLE_RATE, Waveform
from engine.checkpoint import Checkpoint, identity
from engine.detector import rearm_level, refractory_hops
from engine.errors import DataError
from engine.export_folder import HOP, MAKER, STUDENT, WINDOW, Told
from engine.features import FLOOR, PCEN, PCEN_ALPHA, LogAndPCEN, LogMel
from engine.files import write_atomic
from engine.metrics import OperatingPoint
from engine.models import slides
from engine.report import Report
from engine.scorer import Scorer, first_hop, silence_samples

EXAMPLE, FRONT_END, GOLDEN = "example.py", "frontend.npz", "golden.npz"
GOLDEN_HOPS = 12
MEASURES = (
    "fah", "fah_low", "false_alarms", "hours", "frr", "frr_low", "frr_high", "missed", "clips",
)  # fmt: skip
TOLERANCES = {"onnx": 1e-3, "onnx-int8": 0.1}
"""How far a golden score may be off elsewhere; processors round INT8 sums in several ways."""
STEPS = {
    "mel": "energies = abs(rfft(frame * window, fft_points)) ** 2 @ filters, a frame every step",
    "log": "log(energies + floor)",
    "pcen": "log(1 + energies * (floor + level) ** -pcen_alpha), where level is the sum of "
    "`recent` times the energies of the warm-up and the frame itself, oldest first",
    "both": "the rows of log, and below them those of pcen",
    "normalise": "(rows - mean) / std",
}
VERIFY = (
    "every file has the SHA-256 that `files` gives: sha256sum",
    f"{GOLDEN} holds a waveform (N), its frames (M, T), and the logits and scores (H) of its "
    f"windows: {STUDENT} gives the logits for the frames, {WINDOW} and {HOP} the scores for the "
    "waveform, to within golden.tolerance",
    "`wakeword-tui evaluate FOLDER --data MANIFEST` measures it on recordings of your own",
)


def hearing(checkpoint: Checkpoint) -> Told:
    """How to hear with an export: audio, front end, hop by hop, detector."""
    recipe, point = checkpoint.settings(), checkpoint.threshold()
    lattice, rules = checkpoint.features().grid, recipe.detector
    return {
        "audio": {
            "sample_rate": SAMPLE_RATE,
            "window_samples": lattice.window_samples,
            "window_s": lattice.window_s,
            "hop_samples": lattice.hop_samples,
            "hop_s": lattice.hop_s,
        },
        "features": _features(checkpoint),
        "stream": {
            "file": HOP,
            "silence_samples": silence_samples(lattice),
            "first_hop": first_hop(lattice),
            "shares_work": slides(checkpoint.model(), lattice.hop_frames),
            "how": "what it gives to keep goes back in with the next hop; zeros before the first",
        },
        "detector": {
            "threshold": point.threshold,
            **rules.model_dump(),
            "rearm_below": rearm_level(point.threshold, rules),
            "refractory_hops": refractory_hops(rules, lattice.hop_s),
        },
    }


def _features(checkpoint: Checkpoint) -> Told:
    """All that a front end outside of the graph needs beside the arrays of its file."""
    front = checkpoint.features()
    lattice, settings = front.grid, checkpoint.settings().features
    return {
        **settings.model_dump(),
        "file": FRONT_END,
        "rows": len(front.mean),
        "frame_samples": lattice.frame_samples,
        "step_samples": lattice.step_samples,
        "fft_points": front.fft_points,
        "window_frames": lattice.window_frames,
        "hop_frames": lattice.hop_frames,
        "warmup_frames": lattice.warmup_frames,
        "floor": FLOOR,
        "pcen_alpha": PCEN_ALPHA,
        "how": STEPS,
    }


def graphs(checkpoint: Checkpoint) -> Told:
    """What each graph takes and gives."""
    lattice, rows = checkpoint.features().grid, len(checkpoint.statistics["mean"])
    window = {
        "takes": f"waveform (B, {lattice.window_samples}): windows of audio in [-1, 1]",
        "gives": "score (B)",
    }
    hop = {
        "takes": f"hop (1, {lattice.hop_samples}), and what the hop before gave to keep",
        "gives": "score (1) of the window that ends with the hop, and what to keep",
    }
    student = {
        "takes": f"frames (B, {rows}, {lattice.window_frames}): windows of mel frames",
        "gives": "logits (B)",
    }
    if slides(checkpoint.model(), lattice.hop_frames):
        student = {
            "takes": f"frames (1, {rows}, T) of a stream",
            "gives": f"logits (H), a window of {lattice.window_frames} frames every "
            f"{lattice.hop_frames}",
        }
    return {WINDOW: window, STUDENT: student, HOP: hop}


def about(checkpoint: Checkpoint, tables: Told) -> Told:
    """What was learnt, from what, and what it does on the test split, by the tables of a report."""
    point, recipe = checkpoint.threshold(), checkpoint.settings()
    report = Report.from_json(json.dumps(tables))
    int8 = tables.get("int8") if checkpoint.quantised else None
    return {
        "made_by": f"{MAKER} {engine.__version__}",
        "wake_word": recipe.data.wakeword,
        "model": {
            "arch": recipe.model.arch,
            "parameters": report.parameters,
            "macs": report.macs,
            "identity": identity(checkpoint),
        },
        "expected": _expected(report, point, int8),
        "provenance": checkpoint.provenance,
    }


def _expected(report: Report, point: OperatingPoint, int8: Told | None) -> Told | None:
    """Misses and false alarms on the test split; None at a threshold that was not measured.

    Of the student that was fine-tuned as INT8 where a report tells of it, else of the float one.
    """
    told, student = asdict(report.test), "the float student"
    if point.threshold != report.operating_point.threshold:
        try:
            told = asdict(report.test.at(point.threshold))
        except DataError:
            return None
    elif int8:
        told, student = int8["students"]["int8"]["test"], "the INT8 student"
    high = told["fah_high"]
    return {
        "measured_on": f"the {report.split} split of fold {report.fold}, with {student}",
        "target_fah": point.target_fah,
        **{name: told[name] for name in MEASURES},
        "fah_high": high if high is not None and math.isfinite(high) else None,
    }


def write_front_end(front: LogMel, path: Path) -> None:
    """Write the arrays of the front end: window `(N,)`, filters `(F, M)`, mean and std `(R,)`."""
    arrays = {name: getattr(front, name) for name in ("window", "filters", "mean", "std")}
    pcen = front.compress.pcen if isinstance(front.compress, LogAndPCEN) else front.compress
    if isinstance(pcen, PCEN):
        arrays["recent"] = pcen.recent[0, 0]
    _write_arrays(path, {name: value.numpy() for name, value in arrays.items()})


def write_golden(student: Scorer, path: Path) -> None:
    """Write a waveform and what the graphs beside it make of it, as this machine computes it."""
    lattice = student.grid
    waveform = golden_waveform(lattice.window_samples + GOLDEN_HOPS * lattice.hop_samples)
    with torch.inference_mode():
        frames = student.features(torch.from_numpy(waveform)[None])[0]
    scores = student.score(waveform).astype(np.float64)
    arrays = {
        "waveform": waveform,
        "frames": frames.numpy(),
        "logits": np.log(scores / (1 - scores)),
        "scores": scores,
    }
    _write_arrays(path, arrays)


def golden_waveform(samples: int) -> Waveform:
    """Audio that is nobody's: rising tones in a hiss that swells, `(N,)`."""
    time_s = np.arange(samples) / SAMPLE_RATE
    hiss = np.random.default_rng(0).standard_normal(samples)
    tones = np.sin(2 * np.pi * (200 + 400 * (time_s % 0.7)) * time_s)
    loud = 0.05 + 0.3 * np.sin(2 * np.pi * time_s / 1.7) ** 2
    return (loud * (0.6 * tones + 0.1 * hiss)).astype(np.float32)


def _write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomic(path, buffer.getvalue())
