"""Scorer: audio in blocks of any size -> one score per hop. Everything that scores uses it.

samples   |--------------- window ---------------|
score 0   [======================================]
score 1        [======================================]      one hop later
time of a score: the end of its window
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
)
from torch import Tensor, nn

from engine.audio import SAMPLE_RATE, Waveform
from engine.checkpoint import Checkpoint, described, load
from engine.errors import CheckpointError
from engine.export_folder import STUDENT, another_model, export_at, read
from engine.features import Grid, LogMel
from engine.models import hears_samples, slide
from engine.quantize import fuse

BLOCK_SAMPLES = 10 * SAMPLE_RATE
AT_ONCE = 16
Scores = npt.NDArray[np.float32]


class Scorer:
    """Streams audio through the front end and a model; reset it between clips."""

    def __init__(
        self, features: LogMel, model: nn.Module, device: torch.device | None = None
    ) -> None:
        self.grid = features.grid
        self.device = device or torch.device("cpu")
        self.features = features.to(self.device).eval()
        self.model = model.to(self.device).eval()
        self.reset()

    @classmethod
    def of(cls, checkpoint: Checkpoint, device: torch.device | None = None) -> "Scorer":
        """The scorer of a checkpoint."""
        return cls(checkpoint.features(), fuse(checkpoint.model()), device)

    def another(self) -> "Scorer":
        """A scorer of the same model that has heard nothing, for another thread."""
        return Scorer(self.features, self.model, self.device)

    def reset(self) -> None:
        """Forget the audio heard so far."""
        mels, rows = self.features.filters.shape[1], len(self.features.mean)
        self._samples = torch.zeros(0, device=self.device)
        self._energies = torch.zeros(mels, 0, device=self.device)
        self._frames = torch.zeros(rows, 0, device=self.device)

    @torch.inference_mode()
    def push(self, block: Waveform) -> Scores:
        """Hear a block `(N,)`; give the scores `(K,)` of the windows that it completes."""
        new = torch.from_numpy(np.ascontiguousarray(block)).to(self.device)
        self._samples = torch.cat([self._samples, new])
        grid = self.grid
        if hears_samples(self.model):
            scores, self._samples = self._take_scores(
                self._samples, grid.window_samples, grid.hop_samples
            )
            return scores
        self._take_energies()
        self._take_frames()
        scores, self._frames = self._take_scores(self._frames, grid.window_frames, grid.hop_frames)
        return scores

    def _take_energies(self) -> None:
        """Turn the samples that fill whole frames into energies; keep the rest."""
        grid = self.grid
        count = (len(self._samples) - grid.frame_samples) // grid.step_samples + 1
        if count < 1:
            return
        used = (count - 1) * grid.step_samples + grid.frame_samples
        energies = self.features.energies(self._samples[None, :used])[0]
        self._energies = torch.cat([self._energies, energies], dim=1)
        self._samples = self._samples[count * grid.step_samples :]

    def _take_frames(self) -> None:
        """Turn the energies that have their warm-up into frames; keep the warm-up of the next."""
        count = self._energies.shape[1] - self.grid.warmup_frames
        if count < 1:
            return
        frames = self.features.normalise(self._energies[None])[0]
        self._frames = torch.cat([self._frames, frames], dim=1)
        self._energies = self._energies[:, count:]

    def _take_scores(self, heard: Tensor, window: int, hop: int) -> tuple[Scores, Tensor]:
        """Score the windows that are whole, and keep what later windows need."""
        count = (heard.shape[-1] - window) // hop + 1
        if count < 1:
            return np.zeros(0, dtype=np.float32), heard
        logits = slide(self.model, heard[..., : (count - 1) * hop + window], window, hop)
        scores: Scores = torch.sigmoid(logits.float()).cpu().numpy()
        return scores, heard[..., count * hop :]

    def score(self, waveform: Waveform) -> Scores:
        """Score a whole waveform `(N,)` from silence, `(H,)`."""
        self.reset()
        return np.concatenate([self.push(block) for block in blocks(waveform)])


def blocks(waveform: Waveform) -> Iterator[Waveform]:
    """Cut a waveform into blocks that keep memory flat."""
    for start in range(0, max(len(waveform), 1), BLOCK_SAMPLES):
        yield waveform[start : start + BLOCK_SAMPLES]


def scorer_of(path: Path) -> Scorer:
    """The scorer of a checkpoint, an export, or a student.onnx. Raises CheckpointError."""
    return opened(path)[0]


def opened(path: Path) -> tuple[Scorer, Checkpoint]:
    """The scorer of a checkpoint, an export, or a student.onnx, and what that tells, in one read.

    Of an export it tells all but the weights. Raises CheckpointError.
    """
    folder = export_at(path)
    if folder is not None and path.suffix != ".onnx":
        read(folder)
        path = folder / STUDENT
    if path.suffix != ".onnx":
        checkpoint = load(path)
        return Scorer.of(checkpoint), checkpoint
    session, checkpoint = _graph(path)
    frames = session.get_inputs()[0]
    if frames.name != "frames":
        raise CheckpointError(f"{path} takes single windows", "give the student.onnx beside it")
    features = checkpoint.features()
    shares_work = frames.shape[0] == 1
    hop = features.grid.hop_frames
    model = ExportedStream(session, hop) if shares_work else ExportedStudent(session)
    return Scorer(features, model), checkpoint


class ExportedStudent(nn.Module):
    """An exported student, frames `(B, M, T)` of windows -> logits `(B,)`."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        super().__init__()
        self._session = session

    def forward(self, frames: Tensor) -> Tensor:
        """Run the graph."""
        (logits,) = self._session.run(None, {"frames": frames.contiguous().numpy()})
        return torch.from_numpy(logits)


class ExportedStream(ExportedStudent):
    """An exported student that scores a stream `(1, M, T)` hop by hop."""

    def __init__(self, session: onnxruntime.InferenceSession, hop: int) -> None:
        super().__init__(session)
        self.stride = hop

    def slide(self, frames: Tensor) -> Tensor:
        """Score every window, `(1, H)`."""
        logits: Tensor = self(frames)
        return logits[None]


class Window(Protocol):
    """Whatever scores one window `(N,)` of audio."""

    def score(self, window: Waveform) -> float:
        """Score it."""


class Whole:
    """A checkpoint that is not exported, as it is, a window `(N,)` at a time."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._scorer = Scorer.of(checkpoint)

    def score(self, window: Waveform) -> float:
        """Score one window."""
        return float(self._scorer.score(window)[0])


class Exported:
    """An exported window graph, waveform `(1, N)` -> score, on one thread of onnxruntime."""

    def __init__(self, path: Path) -> None:
        self._session, checkpoint = _graph(path)
        self.grid = checkpoint.features().grid
        self.reset()

    def reset(self) -> None:
        """Forget the audio heard so far."""
        self._samples = np.zeros(0, dtype=np.float32)

    def score(self, window: Waveform) -> float:
        """Score one window `(N,)`."""
        (score,) = self._session.run(None, {"waveform": window[None]})
        return float(score[0])

    def push(self, block: Waveform) -> Scores:
        """Hear a block `(N,)`; give the scores `(K,)` of the windows that it completes."""
        window, hop = self.grid.window_samples, self.grid.hop_samples
        self._samples = np.concatenate([self._samples, block])
        count = (len(self._samples) - window) // hop + 1
        if count < 1:
            return np.zeros(0, dtype=np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(self._samples, window)[::hop]
        parts = [self._run(windows[at : at + AT_ONCE]) for at in range(0, count, AT_ONCE)]
        self._samples = self._samples[count * hop :]
        return np.concatenate(parts)

    def _run(self, windows: Waveform) -> Scores:
        (scores,) = self._session.run(None, {"waveform": np.ascontiguousarray(windows)})
        return np.asarray(scores, dtype=np.float32)


class ExportedHops:
    """An exported hop graph, which gets back what it gave to keep, on one thread."""

    def __init__(self, path: Path) -> None:
        self._session, checkpoint = _graph(path)
        self.grid = checkpoint.features().grid
        self._hop, *self._kept = self._session.get_inputs()
        self.reset()

    def reset(self) -> None:
        """Forget the audio heard so far; silence before it ends where a hop does."""
        self._samples = np.zeros(silence_samples(self.grid), dtype=np.float32)
        self._state = [np.zeros(kept.shape, dtype=np.float32) for kept in self._kept]
        self._hops = 0

    def push(self, block: Waveform) -> Scores:
        """Hear a block `(N,)`; give the scores `(K,)` of the windows that it completes."""
        samples = np.concatenate([self._samples, block])
        hop, found = self.grid.hop_samples, list[float]()
        whole = len(samples) // hop * hop
        for at in range(0, whole, hop):
            given = [samples[None, at : at + hop], *self._state]
            names = [put.name for put in (self._hop, *self._kept)]
            score, *self._state = self._session.run(None, dict(zip(names, given, strict=True)))
            self._hops += 1
            if self._hops >= first_hop(self.grid):
                found.append(score[0])
        self._samples = samples[whole:]
        return np.array(found, dtype=np.float32)


def silence_samples(grid: Grid) -> int:
    """Samples of silence before a stream with which its first window ends where a hop does."""
    return -grid.window_samples % grid.hop_samples


def first_hop(grid: Grid) -> int:
    """The hop, counted from 1, that completes the first window."""
    return -(-grid.window_samples // grid.hop_samples)


def _graph(path: Path) -> tuple[onnxruntime.InferenceSession, Checkpoint]:
    """Open a graph, and read what it tells of its checkpoint.

    In an export every file must be as its manifest says, and the graph the one that it tells of.
    """
    folder = export_at(path)
    told = read(folder) if folder is not None else None
    if told and path.name not in told["files"]:
        message = f"{path} is none of the files that the manifest beside it lists"
        raise CheckpointError(message, "move it to a folder of its own, if you trust it")
    session = _session(path)
    metadata = session.get_modelmeta().custom_metadata_map
    if folder and told and metadata.get("identity") != told["model"]["identity"]:
        raise another_model(folder)
    return session, described(metadata)


def checkpoint_of(path: Path) -> Checkpoint:
    """What a checkpoint, an export or a graph of one tells; of an export all but the weights.

    Raises CheckpointError.
    """
    folder = export_at(path)
    if folder is not None and path.suffix != ".onnx":
        path = folder / STUDENT
    return _graph(path)[1] if path.suffix == ".onnx" else load(path)


def _session(path: Path) -> onnxruntime.InferenceSession:
    """Open an ONNX file on one thread. Raises CheckpointError where it is none."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except (NoSuchFile, InvalidProtobuf, Fail, InvalidGraph) as error:
        raise CheckpointError(f"cannot open {path}: {error}", "export it again") from error
