"""TinyConv: a small picture of the frames first, then one-dimensional convolutions over time.

The stem looks for patterns across a few mel bands wherever they lie, which noise in other bands
does not touch; its maps become the channels of what follows. Nothing is padded in time, so a
window's logit does not depend on what surrounds it, and along a stream windows share all their work
(`slide`). `depthwise` turns each convolution over time into a depthwise and a pointwise one (Howard
et al. 2017; "V2" here), with over 70 % fewer parameters. Temporal shape after Choi et al. 2019
(TC-ResNet); the last depthwise convolution spans the window and learns where in it the word lies.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from engine.errors import RecipeError
from engine.features import pictures
from engine.recipe import Model

# (channels, kernel, stride) of the stem and the blocks; the strides multiply to `STRIDE` frames.
STEM = (64, 5, 2)
STEM_MAPS, STEM_BANDS, STEM_BAND_STRIDE = 8, 5, 2
BLOCKS = ((64, 5, 2), (64, 5, 1), (96, 5, 2), (96, 5, 1), (128, 5, 1))
STRIDE = 8


def _conv_bn_relu(
    channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    conv = nn.Conv1d(channels, out, kernel, stride=stride, groups=groups, bias=False)
    return [conv, nn.BatchNorm1d(out), nn.ReLU()]


class Stem(nn.Module):
    """Features `(B, M, T) -> (B, C, T')`: maps of a few bands and frames, then all bands joined."""

    def __init__(self, mels: int, planes: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.planes, pad = planes, STEM_BANDS // 2
        size, strides = (STEM_BANDS, kernel), (STEM_BAND_STRIDE, stride)
        conv = nn.Conv2d(planes, STEM_MAPS, size, strides, padding=(pad, 0), bias=False)
        self.maps = nn.Sequential(conv, nn.BatchNorm2d(STEM_MAPS), nn.ReLU())
        rows = (mels + 2 * pad - STEM_BANDS) // STEM_BAND_STRIDE + 1
        self.join = nn.Sequential(*_conv_bn_relu(STEM_MAPS * rows, channels, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """Convolve the frames as a picture, and make its maps and rows channels."""
        maps = self.maps(pictures(frames, self.planes))
        joined: Tensor = self.join(maps.flatten(1, 2))
        return joined


class Block(nn.Module):
    """One convolution `(B, C, T) -> (B, D, T')`, with a shortcut where the shape allows one."""

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int, *, depthwise: bool
    ) -> None:
        super().__init__()
        self.trim = (kernel - 1) // 2 if stride == 1 and channels == out else 0
        if depthwise:
            spatial = _conv_bn_relu(channels, channels, kernel, stride, groups=channels)
            self.body = nn.Sequential(*spatial, *_conv_bn_relu(channels, out, 1))
        else:
            self.body = nn.Sequential(*_conv_bn_relu(channels, out, kernel, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; the shortcut is trimmed to what is left of the time axis."""
        y: Tensor = self.body(x)
        return y + x[..., self.trim : x.shape[-1] - self.trim] if self.trim else y


class TinyConv(nn.Module):
    """Features `(B, M, T)` of one window -> logit `(B,)`."""

    stride = STRIDE

    def __init__(self, settings: Model, mels: int, planes: int, window_frames: int) -> None:
        super().__init__()
        channels, kernel, stride = STEM
        channels = _scale(channels, settings.width)
        self.stem = Stem(mels, planes, channels, kernel, stride)
        length = (window_frames - kernel) // stride + 1
        blocks, self.spans = [], [(kernel, stride)]
        for out, kernel, stride in BLOCKS:
            wide = _scale(out, settings.width)
            blocks.append(Block(channels, wide, kernel, stride, depthwise=settings.depthwise))
            channels, length = wide, (length - kernel) // stride + 1
            self.spans.append((kernel, stride))
        if length < 1:
            message = f"tinyconv sees nothing in a window of {window_frames} frames"
            raise RecipeError(message, hint="make features.window_ms longer")
        self.blocks = nn.ModuleList(blocks)
        self.pool = nn.Conv1d(channels, channels, length, groups=channels)
        nn.init.constant_(self.pool.weight, 1.0 / length)
        self.drop = nn.Dropout(settings.dropout)
        self.head = nn.Conv1d(channels, 1, 1)
        self.spans.append((length, 1))

    def embed(self, frames: Tensor) -> dict[str, Tensor]:
        """Give the stem's and every block's output, `(B, D, T')`."""
        layers = {"stem": self.stem(frames)}
        x = layers["stem"]
        for index, block in enumerate(self.blocks):
            x = layers[f"block{index}"] = block(x)
        return layers

    def slide(self, frames: Tensor) -> Tensor:
        """Score every window of `(B, M, T)` that starts a multiple of `stride` frames in."""
        x = frames
        for stage, _, _ in self.stages():
            x = stage(x)
        return x[:, 0]

    def stages(self) -> list[tuple[Callable[[Tensor], Tensor], int, int]]:
        """What frames go through in turn, each with its kernel and stride over time."""
        layers = (self.stem, *self.blocks, self._vote)
        return [(layer, *span) for layer, span in zip(layers, self.spans, strict=True)]

    def _vote(self, x: Tensor) -> Tensor:
        """Weigh the window's channels `(B, C, T)` into logits `(B, 1, T')`."""
        logits: Tensor = self.head(self.drop(torch.relu(self.pool(x))))
        return logits

    def forward(self, frames: Tensor) -> Tensor:
        """Score one window `(B, M, T)`."""
        return self.slide(frames)[:, 0]


def _scale(channels: int, width: float) -> int:
    """Channels at a width, a multiple of 8."""
    return max(8, round(channels * width / 8) * 8)
