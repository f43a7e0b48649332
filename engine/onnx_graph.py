"""Checkpoint -> ONNX graphs: a window of audio, the student alone, and one hop after another.

In those with the front end inside the spectrum is a convolution with a cosine and a sine bank: the
most portable form, and the fastest one in onnxruntime. All tell recipe, statistics and threshold in
their metadata.

Of a quantised checkpoint all are INT8 graphs: QuantizeLinear and DequantizeLinear around every
layer that a runtime can run in integers, with weights stored as int8; the front end stays float.
"""

import logging
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from engine.checkpoint import Checkpoint, describe
from engine.features import Grid, LogMel, grid
from engine.files import write_atomic
from engine.models import Staged, slide, slides
from engine.quantize import Frozen, fuse

OPSET = 18
MOST_WINDOWS = 4096
MOST_FRAMES = 1 << 24
MOVES = ("Reshape", "Slice", "Squeeze", "Unsqueeze")
"""Operators that give values of their first input as they are."""

# torch has no shape rule for its rounding, without which a model of any batch is not exported.
_SHAPES = torch.library.Library("aten", "IMPL", "Meta")  # type: ignore[no-untyped-call]
_SHAPES.impl(  # type: ignore[no-untyped-call]
    "fake_quantize_per_tensor_affine_cachemask",
    lambda x, *_: (torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)),
)


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
        return self.features.normalise(self.energies(waveform))

    def energies(self, waveform: Tensor) -> Tensor:
        """Turn `(B, N)` into the energies of the mel bands `(B, M, W + T)`."""
        step = self.features.grid.step_samples
        real, imaginary = nn.functional.conv1d(waveform[:, None], self.bank, stride=step).chunk(
            2, 1
        )
        energies: Tensor = self.features.filters.T @ (real * real + imaginary * imaginary)
        return energies


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


class Hop(nn.Module):
    """One hop of audio `(1, N)` and what was kept -> score `(1,)`, and what to keep.

    samples    the part of a frame that began before the hop
    energies   the warm-up of the next frames, where there is one
    stage      of each convolution over time what its next output needs; or
    frames     of a student without stages, the window less a hop

    All of it is zeros at first; once a whole window has passed, none of them is left.
    """

    def __init__(self, features: LogMel, model: nn.Module) -> None:
        super().__init__()
        self.front, self.model, self.grid = ConvLogMel(features), model, features.grid
        shares_work = slides(model, self.grid.hop_frames)
        self.stages = model.stages() if isinstance(model, Staged) and shares_work else []
        self.again = nn.ModuleList(self._roundings())

    @torch.no_grad()
    def _roundings(self) -> list[nn.Module]:
        """What rounded the input of each stage, if anything did.

        Joined with what was kept it is rounded again, to itself, so that a runtime sees integers.
        """
        found, given = list[nn.Module](), list[tuple[Tensor, nn.Module]]()
        frozen = [module for module in self.model.modules() if isinstance(module, Frozen)]
        hooks = [f.register_forward_hook(lambda f, _, y: given.append((y, f.exit))) for f in frozen]
        x = torch.zeros(1, len(self.front.features.mean), self.grid.window_frames)
        for stage, _, _ in self.stages:
            exits = [rounding for y, rounding in given if y.data_ptr() == x.data_ptr()]
            found.append(exits[0] if exits else nn.Identity())
            x = stage(x)
        for hook in hooks:
            hook.remove()
        return found

    def start(self) -> dict[str, Tensor]:
        """What is kept before the first hop, by name."""
        lattice, features = self.grid, self.front.features
        kept = {"samples": torch.zeros(1, lattice.frame_samples - lattice.step_samples)}
        if lattice.warmup_frames:
            mels = features.filters.shape[1]
            kept["energies"] = torch.zeros(1, mels, lattice.warmup_frames)
        x = torch.zeros(1, len(features.mean), lattice.window_frames)
        if not self.stages:
            kept["frames"] = x[..., lattice.hop_frames :]
        for number, (stage, kernel, stride) in enumerate(self.stages):
            unused = (x.shape[-1] - kernel) % stride  # at the window's end: the next hop's
            kept[f"stage{number}"] = x.new_zeros(*x.shape[:-1], kernel - stride + unused)
            x = stage(x)
        return kept

    def forward(self, hop: Tensor, *kept: Tensor) -> tuple[Tensor, ...]:
        """Score the window that ends with the hop."""
        keep, old = list[Tensor](), iter(kept)

        def joined(new: Tensor) -> Tensor:
            before = next(old)
            whole = torch.cat([before, new], dim=-1)
            keep.append(whole[..., whole.shape[-1] - before.shape[-1] :])
            return whole

        energies = self.front.energies(joined(hop))
        energies = joined(energies) if self.grid.warmup_frames else energies
        x = self.front.features.normalise(energies)
        for (stage, _, _), again in zip(self.stages, self.again, strict=True):
            x = stage(again(joined(x)))
        logit = x[:, 0, -1] if self.stages else self.model(joined(x))
        return torch.sigmoid(logit), *keep


def write_onnx(checkpoint: Checkpoint, path: Path) -> None:
    """Write the whole detector: a window of audio `(B, N)` -> score `(B,)`."""
    window = Window(checkpoint.features(), fuse(checkpoint.model()))
    example = torch.zeros(2, window.front.features.grid.window_samples)
    batch = torch.export.Dim("batch", min=1, max=MOST_WINDOWS)
    names = ("waveform",), ("score",)
    _write(window, (example,), names, ({0: batch},), checkpoint, path)


def write_student(checkpoint: Checkpoint, path: Path) -> None:
    """Write the student alone, for features made once a frame.

    Frames `(1, M, T)` of a stream -> logits `(H,)` where windows share their work; frames
    `(B, M, T)` of windows -> logits `(B,)` where they do not.
    """
    model, lattice = fuse(checkpoint.model()), grid(checkpoint.settings().features)
    mels, names = len(checkpoint.statistics["mean"]), (("frames",), ("logits",))
    if slides(model, lattice.hop_frames):
        frames = torch.export.Dim("frames", min=lattice.window_frames, max=MOST_FRAMES)
        example = torch.zeros(1, mels, lattice.window_frames + 4 * lattice.hop_frames)
        _write(Stream(model, lattice), (example,), names, ({2: frames},), checkpoint, path)
    else:
        batch = torch.export.Dim("batch", min=1, max=MOST_WINDOWS)
        example = torch.zeros(2, mels, lattice.window_frames)
        _write(model, (example,), names, ({0: batch},), checkpoint, path)


def write_hop(checkpoint: Checkpoint, path: Path) -> None:
    """Write the detector hop by hop: a hop `(1, N)` and what is kept -> score `(1,)`, and that."""
    model = Hop(checkpoint.features(), fuse(checkpoint.model()))
    start = model.start()
    names = ("hop", *start), ("score", *(f"{name}_kept" for name in start))
    hop = torch.zeros(1, model.grid.hop_samples)
    _write(model, (hop, *start.values()), names, None, checkpoint, path)


def _write(
    model: nn.Module,
    examples: tuple[Tensor, ...],
    names: tuple[tuple[str, ...], tuple[str, ...]],
    dynamic: tuple[dict[int, torch.export.Dim], ...] | None,
    checkpoint: Checkpoint,
    path: Path,
) -> None:
    """Write a graph that describes itself, without any traces."""
    # It logs that torchvision is absent; redirecting the streams would silence other threads too.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model.eval(),
            examples,
            input_names=names[0],
            output_names=names[1],
            dynamic_shapes=dynamic,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise AssertionError("torch.onnx.export gave no program")
    graph = _stripped(program.model_proto)
    onnx.helper.set_model_props(graph, describe(checkpoint))
    write_atomic(path, graph.SerializeToString())


def _stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the stack traces that the exporter leaves at every node; round what is constant."""
    graph = model.graph
    for node in graph.node:
        node.ClearField("metadata_props")
        node.doc_string = ""
    graph.ClearField("value_info")
    _round_constants(graph)
    onnx.checker.check_model(model)
    return model


def _round_constants(graph: onnx.GraphProto) -> None:
    """Store rounded weights as int8, and the biases beside them as int32.

    The step of a bias is that of the layer's input times that of its weight (Jacob et al. 2018).
    """
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in constants:
            weight, sizes = constants[node.input[0]], constants[node.input[1]]
            integers = np.rint(weight * (1 / sizes).reshape(-1, *[1] * (weight.ndim - 1)))
            _store(graph, node.output[0], integers.clip(-128, 127).astype(np.int8))
            continue
        if node.op_type in ("Conv", "Gemm") and (steps := _bias_sizes(node, constants, makers)):
            nodes.append(_round_bias(graph, node, constants[node.input[2]], steps[0]))
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [constant for constant in graph.initializer if constant.name in used]
    for field, left in ((graph.node, nodes), (graph.initializer, kept)):
        copies = [type(one).FromString(one.SerializeToString()) for one in left]
        del field[:]
        field.extend(copies)


def _bias_sizes(
    node: onnx.NodeProto,
    constants: dict[str, np.ndarray[Any, Any]],
    makers: dict[str, onnx.NodeProto],
) -> list[np.ndarray[Any, Any]]:
    """The steps `(C,)` of a layer's bias; nothing where input or weight is not rounded."""
    if len(node.input) < 3 or node.input[2] not in constants:
        return []
    sizes = []
    for name in node.input[:2]:
        maker = makers.get(name)
        while maker is not None and maker.op_type in MOVES:
            maker = makers.get(maker.input[0])
        if maker is None or maker.op_type != "DequantizeLinear":
            return []
        sizes.append(constants[maker.input[1]])
    return [sizes[0] * sizes[1]]


def _round_bias(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    bias: np.ndarray[Any, Any],
    sizes: np.ndarray[Any, Any],
) -> onnx.NodeProto:
    """Give a layer its bias from int32; the node that does so goes before it."""
    name = node.input[2]
    node.input[2] = f"{name}_rounded"
    _store(graph, f"{name}_int32", np.rint(bias / sizes).astype(np.int32))
    _store(graph, f"{name}_sizes", sizes.astype(np.float32))
    taken = [f"{name}_int32", f"{name}_sizes"]
    return onnx.helper.make_node("DequantizeLinear", taken, [node.input[2]], axis=0)


def _store(graph: onnx.GraphProto, name: str, values: np.ndarray[Any, Any]) -> None:
    graph.initializer.append(numpy_helper.from_array(values, name))
