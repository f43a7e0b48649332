"""Models. A model takes features `(B, M, T)` and gives a logit `(B,)`; `embed` gives its layers.

`build` makes the student of a recipe; everything about its size is derived from the recipe.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engine.features import grid, planes
from engine.models.bcresnet import BCResNet
from engine.models.mobilenetv3 import MobileNetV3
from engine.models.tinyconv import TinyConv
from engine.recipe import Recipe

STUDENTS: dict[str, Callable[..., nn.Module]] = {
    "tinyconv": TinyConv,
    "mobilenetv3": MobileNetV3,
    "bcresnet": BCResNet,
}
# On a CPU a few windows at a time stay in its cache: half the time of 256 for BC-ResNet.
CACHED_WINDOWS = 32


@runtime_checkable
class Sliding(Protocol):
    """A student in which nothing is padded in time: along a stream its windows share all work."""

    stride: int

    def slide(self, frames: Tensor) -> Tensor:
        """Score each window of `(B, M, T)` that starts a multiple of `stride` frames in."""


@runtime_checkable
class Staged(Sliding, Protocol):
    """A sliding student that can go on from what its stages heard before, hop by hop."""

    def stages(self) -> list[tuple[Callable[[Tensor], Tensor], int, int]]:
        """What frames go through in turn, each with its kernel and stride over time."""


def build(recipe: Recipe) -> nn.Module:
    """Make the student of a recipe, with fresh weights."""
    features = recipe.features
    window = grid(features).window_frames
    return STUDENTS[recipe.model.arch](recipe.model, features.mels, planes(features), window)


def slides(model: nn.Module, hop: int) -> bool:
    """Whether a model shares the work between windows that lie `hop` frames apart."""
    return isinstance(model, Sliding) and hop % model.stride == 0


def slide(model: nn.Module, frames: Tensor, window: int, hop: int) -> Tensor:
    """Score every window of a stream `(M, T)`, hop by hop: logits `(H,)`.

    Windows share the work where the model can; else they are run one by one, with the same result.
    """
    if isinstance(model, Sliding) and slides(model, hop):
        count = (frames.shape[1] - window) // hop + 1
        return model.slide(frames[None])[0, :: hop // model.stride][:count]
    windows = frames.unfold(1, window, hop).permute(1, 0, 2)
    at_once = CACHED_WINDOWS if frames.device.type == "cpu" else len(windows)
    parts = [model(part) for part in torch.split(windows, at_once)]
    return torch.cat(parts)


def checkpoint_blocks(model: nn.Module) -> None:
    """Recompute the activations of each block on the way back instead of keeping them.

    The second pass moves the running statistics of BatchNorm once more, so the momentum m becomes
    1 - sqrt(1 - m): two such moves towards the same batch are one move with m.
    """
    for block in model.get_submodule("blocks").children():
        for layer in block.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.momentum is not None:
                layer.momentum = 1 - (1 - layer.momentum) ** 0.5
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
