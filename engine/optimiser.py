"""What moves the weights, and in which arithmetic."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from engine.models import layer_rates
from engine.recipe import Recipe, Train


def averaged_of(train: Train, epochs: int) -> int:
    """How many of so many epochs are averaged in the end: the first ones have learnt too little."""
    return max(1, min(train.average_best, epochs // 3))


def optimiser(
    model: nn.Module, beside: nn.Module | None, recipe: Recipe, device: torch.device
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); norms and biases are not decayed, frozen weights not in.

    Weights that learn at another rate are groups of their own. What is learned `beside` the model
    comes last.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {(True, 1.0): [], (False, 1.0): []}
    for weight, rate in layer_rates(model, recipe.train.layer_decay).items():
        if weight.requires_grad:
            groups.setdefault((weight.ndim > 1, rate), []).append(weight)
    train, fused = recipe.train, device.type == "cuda" or None
    settings: list[dict[str, Any]] = [
        {"params": weights, "rate": rate} | ({} if decayed else {"weight_decay": 0.0})
        for (decayed, rate), weights in groups.items()
        if weights
    ]
    if beside is not None and (weights := list(beside.parameters())):
        settings.append({"params": weights, "rate": 1.0})
    return torch.optim.AdamW(settings, lr=train.lr, weight_decay=train.weight_decay, fused=fused)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """bfloat16 on a GPU that has it, unless the recipe says otherwise; the CPU uses float32."""
    if device.type != "cuda" or precision == "float32":
        return nullcontext()
    if precision == "auto" and not torch.cuda.is_bf16_supported():
        return nullcontext()
    dtype = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast("cuda", dtype=dtype)


class Following:
    """Weights that follow a model's, smoothed (Polyak and Juditsky 1992), one pass for all."""

    def __init__(self, ours: nn.Module, theirs: nn.Module) -> None:
        pairs = [*zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)]
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._averages = [pair[0] for pair in floats]
        self._weights = [pair[1] for pair in floats]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def move(self, decay: float) -> None:
        """Go on: `decay` of what they were stays. The counters of norms are copied."""
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
        for ours, theirs in self._counts:
            ours.copy_(theirs)
