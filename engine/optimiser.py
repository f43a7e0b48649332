"""What moves the weights, and in which arithmetic."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from engine.models import layer_rates
from engine.recipe import Recipe


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
