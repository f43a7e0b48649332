"""BC-ResNet (Kim et al. 2021, "Broadcasted residual learning for efficient keyword spotting").

Each block convolves over the mel bands in two dimensions, then over time in one, on the mean of the
bands, and adds the result back to every band. Time is padded, so windows share no work.
"""

import torch
from torch import Tensor, nn

from engine.features import pictures
from engine.recipe import Model

# (channels, blocks, stride over mels, dilation over time) of a stage: Table 1 of the paper.
STAGES = ((8, 2, 1, 1), (12, 2, 2, 2), (16, 4, 2, 4), (20, 4, 1, 8))
STEM, LAST = 16, 32
SUB_BANDS = 5


class SubSpectralNorm(nn.Module):
    """BatchNorm of each group of neighbouring bands of `(B, C, F, T)` (Chang et al. 2021).

    There are as many groups as divide the bands, up to the paper's 5.
    """

    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.groups = max(n for n in range(1, SUB_BANDS + 1) if bands % n == 0)
        self.norm = nn.BatchNorm2d(channels * self.groups)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of each group by itself."""
        batch, channels, bands, length = x.shape
        grouped = x.reshape(batch, channels * self.groups, bands // self.groups, length)
        normal: Tensor = self.norm(grouped)
        return normal.reshape(batch, channels, bands, length)


class Block(nn.Module):
    """One broadcasted residual block `(B, C, F, T) -> (B, D, F', T)`.

    A block that changes the channels starts with a pointwise convolution and has no shortcut.
    """

    def __init__(
        self, channels: int, out: int, bands: int, stride: int, dilation: int, dropout: float
    ) -> None:
        super().__init__()
        self.shortcut = channels == out and stride == 1
        enter = [*_conv(channels, out, (1, 1)), nn.ReLU()] if channels != out else []
        over_mels = nn.Conv2d(
            out, out, (3, 1), stride=(stride, 1), padding=(1, 0), groups=out, bias=False
        )
        self.mels = nn.Sequential(*enter, over_mels, SubSpectralNorm(out, bands))
        over_time = nn.Conv2d(
            out, out, (1, 3), padding=(0, dilation), dilation=(1, dilation), groups=out, bias=False
        )
        self.time = nn.Sequential(
            over_time, nn.BatchNorm2d(out), nn.SiLU(), nn.Conv2d(out, out, 1, bias=False),
            nn.Dropout2d(dropout),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Convolve over mels, and over time on their mean, which is added to every band."""
        over_mels: Tensor = self.mels(x)
        y = over_mels + self.time(over_mels.mean(dim=2, keepdim=True))
        return torch.relu(x + y if self.shortcut else y)


class BCResNet(nn.Module):
    """Features `(B, M, T)` of one window -> logit `(B,)`; width is the paper's tau."""

    def __init__(self, settings: Model, mels: int, planes: int, window_frames: int) -> None:
        super().__init__()
        self.planes = planes
        width = settings.width
        stem, last = _scale(STEM, width), _scale(LAST, width)
        self.stem = nn.Sequential(*_conv(planes, stem, (5, 5), (2, 1)), nn.ReLU())
        bands, channels, blocks = (mels + 1) // 2, stem, []
        for wide, count, stride, dilation in STAGES:
            bands, out = (bands + stride - 1) // stride, _scale(wide, width)
            for step in (stride, *[1] * (count - 1)):
                blocks.append(Block(channels, out, bands, step, dilation, settings.dropout))
                channels = out
        self.blocks = nn.ModuleList(blocks)
        all_bands = nn.Conv2d(
            channels, channels, (bands, 5), padding=(0, 2), groups=channels, bias=False
        )
        self.last = nn.Sequential(all_bands, *_conv(channels, last, (1, 1)), nn.ReLU())
        self.head = nn.Linear(last, 1)

    def embed(self, frames: Tensor) -> dict[str, Tensor]:
        """Give the stem's and every block's output with the mel axis averaged, `(B, D, T)`."""
        x = self.stem(pictures(frames, self.planes))
        layers = {"stem": x.mean(dim=2)}
        for index, block in enumerate(self.blocks):
            x = block(x)
            layers[f"block{index}"] = x.mean(dim=2)
        return layers

    def forward(self, frames: Tensor) -> Tensor:
        """Score one window `(B, M, T)`."""
        x = self.stem(pictures(frames, self.planes))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.last(x).mean(dim=(2, 3)))
        return logits[:, 0]


def _conv(
    channels: int, out: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)
) -> list[nn.Module]:
    pad = (kernel[0] // 2, kernel[1] // 2)
    return [nn.Conv2d(channels, out, kernel, stride, pad, bias=False), nn.BatchNorm2d(out)]


def _scale(channels: int, width: float) -> int:
    """Channels at a width."""
    return max(2, round(channels * width))
