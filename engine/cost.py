"""What a student takes: parameters, arithmetic, memory and time; and the targets it exceeds.

Sizes are those of the weights as INT8 files hold them: matrices and kernels a byte a weight, while
a bias, and the scale and bias that a norm folds into, take four bytes a channel (Jacob et al.
2018). Kilobytes are of 1024 bytes.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.checkpoint import Checkpoint
from engine.detector import Detector
from engine.features import grid
from engine.models import build, example
from engine.recipe import Recipe, Targets
from engine.recipe_file import override
from engine.scorer import Window

FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """What a student takes to store and to run.

    `macs` are multiply-accumulates of one window; a second of audio has a window each hop. RAM is
    the frames of a window and the activations that are needed at once beside them.
    """

    parameters: int
    macs: int
    macs_per_s: float
    int8_kb: float
    float_kb: float
    ram_int8_kb: float
    ram_float_kb: float


def cost(recipe: Recipe, config: str = "") -> Cost:
    """Count what a recipe's model takes; `config` as `build` has it.

    Its weights are zeros: fresh ones would be drawn from torch's one generator, which a training
    in another thread draws from.
    """
    with torch.device("meta"):
        model = build(recipe, config).eval()
    model.to_empty(device="cpu")
    for value in [*model.parameters(), *model.buffers()]:
        value.data.zero_()
    silence = example(model, recipe, 1)
    macs, values = _macs(model, silence), _most_values(model, silence)
    weights = list(model.parameters())
    parameters = sum(w.numel() for w in weights)
    int8 = sum(w.numel() * (1 if w.ndim > 1 else FLOAT_BYTES) for w in weights)
    return Cost(
        parameters=parameters,
        macs=macs,
        macs_per_s=macs / grid(recipe.features).hop_s,
        int8_kb=int8 / 1024,
        float_kb=parameters * FLOAT_BYTES / 1024,
        ram_int8_kb=values / 1024,
        ram_float_kb=values * FLOAT_BYTES / 1024,
    )


def locally(recipe: Recipe) -> Recipe:
    """The recipe with public weights looked for on this machine alone: counting fetches nothing."""
    return override(recipe, {"model.local_files_only": True})


def _macs(model: nn.Module, frames: Tensor) -> int:
    """Multiply-accumulates of the convolutions and linear layers for one window `(1, M, T)`."""
    total = 0

    def count(layer: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, Tensor)
        total += out[0].numel() * weight[0].numel()

    layers = [m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.inference_mode():
        model(frames)
    for hook in hooks:
        hook.remove()
    return total


class _Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down the tensors that each operation of this thread takes and gives."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[list[Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, given))
        self.calls.append([leaf for leaf in leaves if isinstance(leaf, Tensor)])
        return given


def _most_values(model: nn.Module, frames: Tensor) -> int:
    """Most values that one window `(1, M, T)` needs at once, its own frames among them.

    A value is needed from the operation that gives it to the last one that takes it. Operations
    without a kernel or matrix (norms, activations, sums) work in place and need nothing more.
    """
    with torch.no_grad(), _Calls() as traced:
        model(frames)
    weights = {_place(w): w.ndim for w in [*model.parameters(), *model.buffers()]}
    spans: dict[int, tuple[int, int, int]] = {}
    layers = []
    for at, tensors in enumerate(traced.calls):
        for tensor in tensors:
            if (place := _place(tensor)) not in weights:
                first, _, values = spans.get(place, (at, at, 0))
                spans[place] = (first, at, max(values, tensor.numel()))
        if any(weights.get(_place(tensor), 0) > 1 for tensor in tensors):
            layers.append(at)
    spans[_place(frames)] = (0, len(traced.calls), frames.numel())
    return max(sum(n for first, last, n in spans.values() if first <= at <= last) for at in layers)


def _place(tensor: Tensor) -> int:
    """Where a tensor's values are; a view is at the place of what it looks at."""
    return tensor.untyped_storage().data_ptr()


def exceeded(targets: Targets, size: Cost | None = None, p95_ms: float | None = None) -> list[str]:
    """The targets that a student exceeds, a sentence each, of what is known of it."""
    found = []
    if size and targets.flash_kb is not None and size.int8_kb > targets.flash_kb:
        taken = f"the weights take {size.int8_kb:.0f} kB as INT8"
        found.append(f"{taken}, over targets.flash_kb = {targets.flash_kb:g}")
    if size and targets.ram_kb is not None and size.ram_int8_kb > targets.ram_kb:
        taken = f"a window takes {size.ram_int8_kb:.0f} kB of RAM as INT8"
        found.append(f"{taken}, over targets.ram_kb = {targets.ram_kb:g}")
    if p95_ms and targets.latency_ms is not None and p95_ms > targets.latency_ms:
        taken = f"a hop takes {p95_ms:.2f} ms (p95)"
        found.append(f"{taken}, over targets.latency_ms = {targets.latency_ms:g}")
    return found


def latency_ms(exported: Window, checkpoint: Checkpoint) -> dict[str, float]:
    """Time one hop through features, model and detector on one CPU thread: p50 and p95 in ms."""
    recipe = checkpoint.settings()
    lattice = grid(recipe.features)
    detector = Detector(recipe.detector, checkpoint.threshold().threshold, lattice.hop_s)
    noise = np.random.default_rng(0).standard_normal(lattice.window_samples)
    window = (0.01 * noise).astype(np.float32)
    times = []
    for run in range(20 + recipe.evaluate.latency_runs):
        began = time.perf_counter()
        detector.push(exported.score(window), run * lattice.hop_s)
        times.append(1000 * (time.perf_counter() - began))
    p50, p95 = np.quantile(times[20:], [0.5, 0.95])
    return {"p50": float(p50), "p95": float(p95)}


def features_ms(checkpoint: Checkpoint) -> float:
    """Median time in ms of the front end alone, one window, on one CPU thread."""
    features = checkpoint.features()
    window = torch.zeros(1, features.grid.window_samples)
    times, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        for _ in range(60):
            began = time.perf_counter()
            features(window)
            times.append(1000 * (time.perf_counter() - began))
    torch.set_num_threads(threads)
    return float(np.median(times[10:]))
