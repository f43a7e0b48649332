"""Conformer: attention for what is far apart in a window, convolution for what is near.

The blocks are those of Gulati et al. 2020 ("Conformer: Convolution-augmented Transformer for Speech
Recognition"), with two changes. The norm inside the convolution is a LayerNorm, since a BatchNorm
would see each batch twice under gradient checkpointing. A window always has the same length, so
that a learned bias for each distance and head stands in for Transformer-XL's sinusoids.

    x -> + half FF -> + attention -> + convolution -> + half FF -> norm
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import glu, scaled_dot_product_attention, silu

from engine.errors import RecipeError
from engine.features import pictures
from engine.recipe import Model

CHANNELS = 144  # the paper's Conformer (S) at width 1
MAPS = 16
HEADS = 4
KERNEL = 15
STRIDE = 4


class Stem(nn.Module):
    """Frames `(B, M, T)` as a picture, a quarter as long: `(B, T', D)`; nothing is padded."""

    def __init__(self, mels: int, planes: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.planes = planes
        first, second = nn.Conv2d(planes, MAPS, 3, 2), nn.Conv2d(MAPS, MAPS, 3, 2)
        self.maps = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
        self.join = nn.Linear(MAPS * _shortened(mels), channels)
        self.drop = nn.Dropout(dropout)

    def forward(self, frames: Tensor) -> Tensor:
        """Convolve twice and join the rows."""
        maps = self.maps(pictures(frames, self.planes))
        joined: Tensor = self.drop(self.join(maps.flatten(1, 2).transpose(1, 2)))
        return joined


class FeedForward(nn.Module):
    """Each frame by itself, `(B, T, D)`."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, 4 * channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(4 * channels, channels),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Give what half of is added."""
        y: Tensor = self.layers(x)
        return y


class Attention(nn.Module):
    """Each frame looks at all others, `(B, T, D)`; `far` is a bias for each head and distance."""

    pairs: Tensor

    def __init__(self, channels: int, length: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.parts = nn.Linear(channels, 3 * channels)
        self.join = nn.Linear(channels, channels)
        self.drop = nn.Dropout(dropout)
        self.far = nn.Parameter(torch.zeros(HEADS, 2 * length - 1))
        places = torch.arange(length)
        self.register_buffer("pairs", places[:, None] - places + length - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the frames."""
        batch, length, channels = x.shape
        parts = self.parts(self.norm(x)).reshape(batch, length, 3, HEADS, channels // HEADS)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, T, D / heads)
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=self.far[:, self.pairs])
        joined: Tensor = self.drop(self.join(mixed.transpose(1, 2).flatten(2)))
        return joined


class Convolution(nn.Module):
    """Each frame and its neighbours, channel by channel, `(B, T, D)`."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.wide = nn.Linear(channels, 2 * channels)
        self.depthwise = nn.Conv1d(channels, channels, KERNEL, padding=KERNEL // 2, groups=channels)
        self.inner = nn.LayerNorm(channels)
        self.join = nn.Linear(channels, channels)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Gate, convolve over time, join the channels."""
        gated = glu(self.wide(self.norm(x)), dim=-1)
        near = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        joined: Tensor = self.drop(self.join(silu(self.inner(near))))
        return joined


class Block(nn.Module):
    """A Conformer block, `(B, T, D)`."""

    def __init__(self, channels: int, length: int, dropout: float) -> None:
        super().__init__()
        self.before, self.after = FeedForward(channels, dropout), FeedForward(channels, dropout)
        self.attention = Attention(channels, length, dropout)
        self.convolution = Convolution(channels, dropout)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Add the four parts one after the other."""
        x = x + 0.5 * self.before(x)
        x = x + self.attention(x)
        x = x + self.convolution(x)
        y: Tensor = self.norm(x + 0.5 * self.after(x))
        return y


class Conformer(nn.Module):
    """Features `(B, M, T)` of one window -> logit `(B,)`; attention says which frames count."""

    def __init__(self, settings: Model, mels: int, planes: int, window_frames: int) -> None:
        super().__init__()
        channels = max(1, round(CHANNELS * settings.width / 16)) * 16
        length = _shortened(window_frames)
        if length < 1 or _shortened(mels) < 1:
            message = f"conformer sees nothing in {mels} mels and {window_frames} frames"
            raise RecipeError(message, hint="make features.window_ms longer")
        self.stem = Stem(mels, planes, channels, settings.dropout)
        self.blocks = nn.ModuleList(
            Block(channels, length, settings.dropout) for _ in range(settings.blocks)
        )
        self.pool, self.head = nn.Linear(channels, 1), nn.Linear(channels, 1)

    def embed(self, frames: Tensor) -> dict[str, Tensor]:
        """Give the stem's and every block's output, `(B, D, T')`."""
        x = self.stem(frames)
        layers = {"stem": x.transpose(1, 2)}
        for index, block in enumerate(self.blocks):
            x = block(x)
            layers[f"block{index}"] = x.transpose(1, 2)
        return layers

    def forward(self, frames: Tensor) -> Tensor:
        """Score one window `(B, M, T)`."""
        x = self.stem(frames)
        for block in self.blocks:
            x = block(x)
        return pooled(x, self.pool, self.head)


def pooled(x: Tensor, pool: nn.Module, head: nn.Module) -> Tensor:
    """Weigh the frames of `(B, T, D)`, `pool` says how much, and give the logit `(B,)` of them."""
    weights = torch.softmax(pool(x), dim=1)  # (B, T, 1)
    logits: Tensor = head((weights * x).sum(dim=1))
    return logits[:, 0]


def _shortened(length: int) -> int:
    """What two convolutions of kernel 3 and stride 2 leave of a length."""
    return ((length - 3) // 2 + 1 - 3) // 2 + 1
