"""MobileNetV3-Small (Howard et al. 2019) on log-mel frames as a one-channel picture.

Torchvision's model cannot be used beside a CPU torch; this is the paper's table with one width
dial. Squeeze-and-excitation and padding look at the whole window, so windows share no work.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from engine.features import pictures
from engine.recipe import Model

# kernel, expansion, out, squeeze-excite, hard-swish, stride: Table 2 of the paper.
ROWS = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)
STEM, LAST, HEAD = 16, 576, 128


def _conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    pad = kernel // 2
    conv = nn.Conv2d(channels, out, kernel, stride, pad, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out))


class SqueezeExcite(nn.Module):
    """Weighs the channels of `(B, C, H, W)` by what is in all of the picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(8, channels // 4)
        self.down = nn.Conv2d(channels, inner, 1)
        self.up = nn.Conv2d(inner, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel by a number in [0, 1]."""
        weights = self.up(torch.relu(self.down(x.mean(dim=(2, 3), keepdim=True))))
        scaled: Tensor = x * self.gate(weights)
        return scaled


class InvertedResidual(nn.Module):
    """Expand, convolve depthwise, squeeze and excite, project; a shortcut where shapes match."""

    def __init__(self, row: tuple[int, int, int, bool, bool, int], channels: int) -> None:
        super().__init__()
        kernel, wide, out, excite, swish, stride = row
        act: nn.Module = nn.Hardswish() if swish else nn.ReLU()
        layers: list[nn.Module] = [_conv(channels, wide, 1), act] if wide != channels else []
        layers += [_conv(wide, wide, kernel, stride, groups=wide), act]
        layers += [SqueezeExcite(wide)] if excite else []
        self.body = nn.Sequential(*layers, _conv(wide, out, 1))
        self.shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """Turn `(B, C, H, W)` into `(B, D, H', W')`."""
        y: Tensor = self.body(x)
        return x + y if self.shortcut else y


class MobileNetV3(nn.Module):
    """Features `(B, M, T)` of one window -> logit `(B,)`."""

    def __init__(self, settings: Model, mels: int, planes: int, window_frames: int) -> None:
        super().__init__()
        self.planes = planes
        width = settings.width
        stem = _scale(STEM, width)
        rows = [(k, _scale(e, width), _scale(o, width), s, h, d) for k, e, o, s, h, d in ROWS]
        self.stem = nn.Sequential(_conv(planes, stem, 3, 2), nn.Hardswish())
        sizes = [stem, *(row[2] for row in rows)]
        pairs = zip(rows, pairwise(sizes), strict=True)
        self.blocks = nn.ModuleList(InvertedResidual(row, before) for row, (before, _) in pairs)
        last = _scale(LAST, width)
        self.last = nn.Sequential(_conv(sizes[-1], last, 1), nn.Hardswish())
        self.head = nn.Sequential(
            nn.Linear(last, HEAD), nn.Hardswish(), nn.Dropout(settings.dropout), nn.Linear(HEAD, 1)
        )

    def embed(self, frames: Tensor) -> dict[str, Tensor]:
        """Give the stem's and every block's output with the mel axis averaged, `(B, D, T')`."""
        return {name: x.mean(dim=2) for name, x in self._layers(frames).items()}

    def _layers(self, frames: Tensor) -> dict[str, Tensor]:
        x = self.stem(pictures(frames, self.planes))
        layers = {"stem": x}
        for index, block in enumerate(self.blocks):
            x = layers[f"block{index}"] = block(x)
        return layers

    def forward(self, frames: Tensor) -> Tensor:
        """Score one window `(B, M, T)`."""
        x = self.stem(pictures(frames, self.planes))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.last(x).mean(dim=(2, 3)))
        return logits[:, 0]


def _scale(channels: int, width: float) -> int:
    """Channels at a width: a multiple of 8 that is no more than 10 % smaller, as in the paper."""
    scaled = max(8, int(channels * width + 4) // 8 * 8)
    return scaled + 8 if scaled < 0.9 * channels * width else scaled
