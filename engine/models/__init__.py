"""Models. A model takes features `(B, M, T)` and gives a logit `(B,)`; `embed` gives its layers.

One whose `takes` says "waveform" gets the samples `(B, N)` instead. `build` makes the model of a
recipe, a student or a teacher; everything about its size is derived from the recipe.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engine.errors import RecipeError
from engine.features import grid, planes
from engine.models.bcresnet import BCResNet
from engine.models.conformer import Conformer
from engine.models.mobilenetv3 import MobileNetV3
from engine.models.tinyconv import TinyConv
from engine.models.wav2vec2 import Wav2Vec2
from engine.recipe import Recipe

STUDENTS: dict[str, Callable[..., nn.Module]] = {
    "tinyconv": TinyConv,
    "mobilenetv3": MobileNetV3,
    "bcresnet": BCResNet,
}
TEACHERS: dict[str, Callable[..., nn.Module]] = {"conformer": Conformer, "wav2vec2": Wav2Vec2}
TOP = ("pool", "head")
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


def build(recipe: Recipe, config: str = "") -> nn.Module:
    """Make the model of a recipe, with fresh weights.

    `config` is what a checkpoint keeps of a model whose size the recipe does not tell.
    """
    features, settings = recipe.features, recipe.model
    if settings.arch == "wav2vec2":
        if features.normalise != "cmvn":
            message = f'wav2vec2 hears no features.normalise = "{features.normalise}"'
            raise RecipeError(message, hint='it hears samples: set "cmvn"')
        if recipe.quantize.enabled:
            raise RecipeError(
                "quantize.enabled: a wav2vec2 does not become INT8",
                hint="it teaches and is never shipped: leave quantize.enabled out",
            )
        return Wav2Vec2(settings, config)
    window = grid(features).window_frames
    made = STUDENTS | TEACHERS
    return made[settings.arch](settings, features.mels, planes(features), window)


def begin(model: nn.Module, recipe: Recipe) -> None:
    """Give fresh weights what was learned elsewhere, where the recipe names it."""
    if isinstance(model, Wav2Vec2):
        model.begin(recipe.model)


def config_of(model: nn.Module) -> str:
    """What a checkpoint keeps beside the recipe to build a model again; most need nothing."""
    return model.config if isinstance(model, Wav2Vec2) else ""


def hears_samples(model: nn.Module) -> bool:
    """Whether a model takes the waveform instead of features."""
    return getattr(model, "takes", "features") == "waveform"


def example(model: nn.Module, recipe: Recipe, batch: int) -> Tensor:
    """Silence of the shape that a model takes for a batch of windows."""
    lattice = grid(recipe.features)
    if hears_samples(model):
        return torch.zeros(batch, lattice.window_samples)
    rows = planes(recipe.features) * recipe.features.mels
    return torch.zeros(batch, rows, lattice.window_frames)


def slides(model: nn.Module, hop: int) -> bool:
    """Whether a model shares the work between windows that lie `hop` frames apart."""
    return isinstance(model, Sliding) and hop % model.stride == 0


def slide(model: nn.Module, frames: Tensor, window: int, hop: int) -> Tensor:
    """Score every window of a stream `(M, T)` or `(N,)`, hop by hop: logits `(H,)`.

    Windows share the work where the model can; else they are run one by one, with the same result.
    """
    if isinstance(model, Sliding) and slides(model, hop):
        count = (frames.shape[1] - window) // hop + 1
        return model.slide(frames[None])[0, :: hop // model.stride][:count]
    windows = frames.unfold(-1, window, hop).movedim(-2, 0)
    at_once = CACHED_WINDOWS if frames.device.type == "cpu" else len(windows)
    parts = [model(part) for part in torch.split(windows, at_once)]
    return torch.cat(parts)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of a model, the lowest first."""
    return list(model.get_submodule(getattr(model, "blocks_at", "blocks")).children())


def layer_rates(model: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """How fast each weight learns, against the top: `decay` times slower with each block below.

    Layer-wise rates as Howard and Ruder 2018 have them: what lies low is general, and stays.
    """
    blocks = blocks_of(model)
    rates = {
        weight: 1.0 if name.startswith(TOP) else decay ** len(blocks)
        for name, weight in model.named_parameters()
    }
    for below, block in enumerate(reversed(blocks)):
        rates |= dict.fromkeys(block.parameters(), decay**below)
    return rates


def checkpoint_blocks(model: nn.Module) -> None:
    """Recompute the activations of each block on the way back instead of keeping them.

    The second pass moves the running statistics of BatchNorm once more, so the momentum m becomes
    1 - sqrt(1 - m): two such moves towards the same batch are one move with m.
    """
    for block in blocks_of(model):
        for layer in block.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.momentum is not None:
                layer.momentum = 1 - (1 - layer.momentum) ** 0.5
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
