"""Checkpoint -> ONNX graphs: the detector with its front end inside, and the student alone.

In the first the spectrum is a convolution with a cosine and a sine bank: the most portable form,
and the fastest one in onnxruntime. Both files tell recipe, statistics and threshold in their
metadata.
"""

import logging
import math
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from engine.checkpoint import Checkpoint, describe
from engine.features import Grid, LogMel, grid
from engine.models import slide, slides
from engine.quantize import fuse
from engine.runs import write_atomic

OPSET = 18
MOST_WINDOWS = 4096
MOST_FRAMES = 1 << 24


class ConvLogMel(nn.Module):
    """LogMel with the Fourier transform as a convolution; the same numbers to 1e-5."""

    bank: Tensor

    def __init__(self, features: LogMel) -> None:
        super().__init__()
        self.features = features
        samples = torch.arange(len(features.window), dtype=torch.float64)
        bins = torch.arange(features.fft_points // 2 + 1, dtype=torch.float64)
        angle = 2 * math.pi * bins[:, None] * samples / features.fft_points
        bank = torch.cat([angle.cos(), angle.sin()]) * features.window.double()
        self.register_buffer("bank", bank.float()[:, None])

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(B, N)` into `(B, M, T)`."""
        step = self.features.grid.step_samples
        real, imaginary = nn.functional.conv1d(waveform[:, None], self.bank, stride=step).chunk(
            2, 1
        )
        power = real * real + imaginary * imaginary
        return self.features.normalise(self.features.filters.T @ power)


class Window(nn.Module):
    """One window of audio `(B, N)` -> score `(B,)`."""

    def __init__(self, features: LogMel, model: nn.Module) -> None:
        super().__init__()
        self.front = ConvLogMel(features)
        self.model = model

    def forward(self, waveform: Tensor) -> Tensor:
        """Score windows."""
        return torch.sigmoid(self.model(self.front(waveform)))


class Stream(nn.Module):
    """Frames of a stream `(1, M, T)` -> logits `(H,)` of its windows, which share all work."""

    def __init__(self, model: nn.Module, grid: Grid) -> None:
        super().__init__()
        self.model, self.grid = model, grid

    def forward(self, frames: Tensor) -> Tensor:
        """Score the windows, one a hop."""
        return slide(self.model, frames[0], self.grid.window_frames, self.grid.hop_frames)


def write_onnx(checkpoint: Checkpoint, path: Path) -> None:
    """Write the whole detector: a window of audio `(B, N)` -> score `(B,)`."""
    window = Window(checkpoint.features(), fuse(checkpoint.model()))
    example = torch.zeros(2, window.front.features.grid.window_samples)
    batch = torch.export.Dim("batch", min=1, max=MOST_WINDOWS)
    _write(window, example, ("waveform", "score"), {0: batch}, checkpoint, path)


def write_student(checkpoint: Checkpoint, path: Path) -> None:
    """Write the student alone, for features made once a frame.

    Frames `(1, M, T)` of a stream -> logits `(H,)` where windows share their work; frames
    `(B, M, T)` of windows -> logits `(B,)` where they do not.
    """
    model, lattice = fuse(checkpoint.model()), grid(checkpoint.settings().features)
    mels, names = len(checkpoint.statistics["mean"]), ("frames", "logits")
    if slides(model, lattice.hop_frames):
        frames = torch.export.Dim("frames", min=lattice.window_frames, max=MOST_FRAMES)
        example = torch.zeros(1, mels, lattice.window_frames + 4 * lattice.hop_frames)
        _write(Stream(model, lattice), example, names, {2: frames}, checkpoint, path)
    else:
        batch = torch.export.Dim("batch", min=1, max=MOST_WINDOWS)
        example = torch.zeros(2, mels, lattice.window_frames)
        _write(model, example, names, {0: batch}, checkpoint, path)


def _write(
    model: nn.Module,
    example: Tensor,
    names: tuple[str, str],
    dynamic: dict[int, torch.export.Dim],
    checkpoint: Checkpoint,
    path: Path,
) -> None:
    """Write a graph of one input and one output that describes itself, without any traces."""
    # It logs that torchvision is absent; redirecting the streams would silence other threads too.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model.eval(),
            (example,),
            input_names=names[:1],
            output_names=names[1:],
            dynamic_shapes=(dynamic,),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise AssertionError("torch.onnx.export gave no program")
    graph = _stripped(program.model_proto)
    onnx.helper.set_model_props(graph, describe(checkpoint))
    write_atomic(path, graph.SerializeToString())


def _stripped(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the stack traces that the exporter leaves at every node."""
    for node in graph.graph.node:
        node.ClearField("metadata_props")
        node.doc_string = ""
    graph.graph.ClearField("value_info")
    onnx.checker.check_model(graph)
    return graph
