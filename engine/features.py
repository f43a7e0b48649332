"""Waveform (B, N) -> log-mel frames (B, M, T), the same numbers whole or streamed.

Frames are not padded: frame t covers samples `[t * step, t * step + frame)`, so a frame never
depends on where a block was cut.

    samples  |----------------------------------|
    frame 0  [=========]
    frame 1      [=========]
    frame 2          [=========]
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.audio import SAMPLE_RATE
from engine.recipe import Features

FFT_POINTS_MIN = 256
FLOOR = 1e-6
# On a CPU a few clips at a time stay in its cache: three times as fast as a batch of 128.
CACHED_CLIPS = 4


@dataclass(frozen=True, slots=True)
class Grid:
    """The time grid of a recipe, in samples and frames; everything else is derived from it."""

    frame_samples: int
    step_samples: int
    window_frames: int
    hop_frames: int

    @property
    def window_samples(self) -> int:
        """Samples under one window."""
        return (self.window_frames - 1) * self.step_samples + self.frame_samples

    @property
    def hop_samples(self) -> int:
        """Samples from one score to the next."""
        return self.hop_frames * self.step_samples

    @property
    def hop_s(self) -> float:
        """Seconds from one score to the next."""
        return self.hop_samples / SAMPLE_RATE

    @property
    def window_s(self) -> float:
        """Seconds under one window: the time of the first score."""
        return self.window_samples / SAMPLE_RATE


def grid(settings: Features) -> Grid:
    """Lay the time grid: 25 ms frames every 10 ms give a 1.5 s window 148 frames."""
    frame = settings.frame_ms * SAMPLE_RATE // 1000
    step = settings.step_ms * SAMPLE_RATE // 1000
    window = settings.window_ms * SAMPLE_RATE // 1000
    return Grid(frame, step, 1 + (window - frame) // step, settings.hop_ms // settings.step_ms)


def mel_filters(settings: Features, fft_points: int) -> Tensor:
    """Triangular filters on the HTK mel scale, `(F, M)`, as Davis and Mermelstein 1980."""

    def to_mel(hz: Tensor) -> Tensor:
        return 2595.0 * torch.log10(1.0 + hz / 700.0)

    edges = torch.tensor([settings.low_hz, settings.high_hz], dtype=torch.float64)
    low, high = to_mel(edges).tolist()
    mels = torch.linspace(low, high, settings.mels + 2, dtype=torch.float64)
    corners = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    bins = torch.linspace(0, SAMPLE_RATE / 2, fft_points // 2 + 1, dtype=torch.float64)
    rise = (bins[:, None] - corners[None, :-2]) / (corners[1:-1] - corners[:-2])
    fall = (corners[None, 2:] - bins[:, None]) / (corners[2:] - corners[1:-1])
    return torch.minimum(rise, fall).clamp(min=0).float()


class LogMel(nn.Module):
    """Log-mel frames, normalised by the mean and deviation `(M,)` of the training data (CMVN)."""

    window: Tensor
    filters: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, settings: Features) -> None:
        super().__init__()
        self.grid = grid(settings)
        self.fft_points = max(FFT_POINTS_MIN, 1 << (self.grid.frame_samples - 1).bit_length())
        self.register_buffer("window", torch.hann_window(self.grid.frame_samples, periodic=True))
        self.register_buffer("filters", mel_filters(settings, self.fft_points))
        self.register_buffer("mean", torch.zeros(settings.mels))
        self.register_buffer("std", torch.ones(settings.mels))

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(B, N)` into `(B, M, T)`, T = 1 + (N - frame) // step."""
        if waveform.device.type == "cpu" and len(waveform) > CACHED_CLIPS:
            return torch.cat([self(part) for part in torch.split(waveform, CACHED_CLIPS)])
        frames = waveform.unfold(-1, self.grid.frame_samples, self.grid.step_samples)
        spectrum = torch.fft.rfft(frames * self.window, n=self.fft_points)
        return self.normalise(self.log_mel(spectrum.real.square() + spectrum.imag.square()))

    def log_mel(self, power: Tensor) -> Tensor:
        """Turn a power spectrum `(B, T, F)` into log-mel `(B, M, T)`, not normalised."""
        return torch.log(power @ self.filters + FLOOR).transpose(-1, -2)

    def normalise(self, log_mel: Tensor) -> Tensor:
        """Apply the fixed mean and deviation."""
        return (log_mel - self.mean[:, None]) / self.std[:, None]

    def fit(self, waveforms: Tensor) -> None:
        """Take the mean and deviation from training audio `(B, N)`."""
        self.mean.zero_()
        self.std.fill_(1.0)
        frames = self(waveforms).transpose(0, 1).flatten(1)
        self.mean.copy_(frames.mean(dim=1))
        self.std.copy_(frames.std(dim=1).clamp(min=0.1))


def statistics(features: LogMel) -> dict[str, Tensor]:
    """The fitted numbers, as a checkpoint keeps them."""
    return {"mean": features.mean.detach().cpu(), "std": features.std.detach().cpu()}


def restore(settings: Features, stored: dict[str, Tensor]) -> LogMel:
    """Rebuild the front end of a checkpoint."""
    features = LogMel(settings)
    features.mean.copy_(stored["mean"])
    features.std.copy_(stored["std"])
    return features
