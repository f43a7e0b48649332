"""Checkpoint -> ONNX graph: waveform `(B, N)` -> score `(B,)`, front end inside.

The spectrum is a convolution with a cosine and a sine bank: the most portable form, and the
fastest one in onnxruntime.
"""

import logging
import math
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from engine.checkpoint import Checkpoint
from engine.features import LogMel
from engine.quantize import fuse
from engine.runs import write_atomic

OPSET = 18


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


def write_onnx(checkpoint: Checkpoint, path: Path) -> None:
    """Write the checkpoint's detector as an ONNX file, without the exporter's traces."""
    window = Window(checkpoint.features(), fuse(checkpoint.model())).eval()
    example = torch.zeros(2, window.front.features.grid.window_samples)
    batch = torch.export.Dim("batch", min=1, max=4096)
    # It logs that torchvision is absent; redirecting the streams would silence other threads too.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            window,
            (example,),
            input_names=["waveform"],
            output_names=["score"],
            dynamic_shapes=({0: batch},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise AssertionError("torch.onnx.export gave no program")
    graph = _stripped(program.model_proto)
    write_atomic(path, graph.SerializeToString())


def _stripped(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the stack traces that the exporter leaves at every node."""
    for node in graph.graph.node:
        node.ClearField("metadata_props")
        node.doc_string = ""
    graph.graph.ClearField("value_info")
    onnx.checker.check_model(graph)
    return graph
