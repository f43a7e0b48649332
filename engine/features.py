"""Waveform (B, N) -> mel frames (B, M, T), the same numbers whole or streamed.

Frames are not padded: frame t covers samples `[t * step, t * step + frame)`, so a frame never
depends on where a block was cut. With PCEN a frame also depends on the second before it, and
the first frame comes after this warm-up.

    samples  |----------------------------------|
    frame 0  [=========]
    frame 1      [=========]
    frame 2          [=========]
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.audio import SAMPLE_RATE
from engine.recipe import Features

FFT_POINTS_MIN = 256
FORMANTS_HZ = 4800.0  # the highest that matter
FLOOR = 1e-6  # about the energy of one step of 16-bit audio
# On a CPU so many frames at a time stay in its cache: three times as fast as all at once.
CACHED_FRAMES = 256

# PCEN as Wang et al. 2017 ("Trainable frontend for robust and far-field keyword spotting") fix it,
# with the logarithm that its root tends to as the exponent goes to 0.
PCEN_SMOOTH = 0.025
PCEN_ALPHA = 0.98
PCEN_STEP_MS = 10  # of which PCEN_SMOOTH is the share that a frame takes
PCEN_WARMUP_MS = 1000


@dataclass(frozen=True, slots=True)
class Grid:
    """The time grid of a recipe, in samples and frames; everything else is derived from it."""

    frame_samples: int
    step_samples: int
    window_frames: int
    hop_frames: int
    warmup_frames: int = 0
    """Frames that the front end hears before the first that it gives."""

    @property
    def model_samples(self) -> int:
        """Samples under the frames that the model sees."""
        return (self.window_frames - 1) * self.step_samples + self.frame_samples

    @property
    def window_samples(self) -> int:
        """Samples that one score needs: the warm-up, then what the model sees."""
        return self.warmup_frames * self.step_samples + self.model_samples

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
        """Seconds that one score needs: the time of the first."""
        return self.window_samples / SAMPLE_RATE


def grid(settings: Features) -> Grid:
    """Lay the time grid: 25 ms frames every 10 ms give a 1.5 s window 148 frames."""
    warmup = 0 if settings.normalise == "cmvn" else PCEN_WARMUP_MS // settings.step_ms
    frame = settings.frame_ms * SAMPLE_RATE // 1000
    step = settings.step_ms * SAMPLE_RATE // 1000
    window = settings.window_ms * SAMPLE_RATE // 1000
    return Grid(
        frame, step, 1 + (window - frame) // step, settings.hop_ms // settings.step_ms, warmup
    )


def mel_filters(settings: Features, fft_points: int, tract: float = 1.0) -> Tensor:
    """Triangular filters on the HTK mel scale, `(F, M)`, as Davis and Mermelstein 1980.

    Their corners are `tract` times as high, as `stretched` has it.
    """

    def to_mel(hz: Tensor) -> Tensor:
        return 2595.0 * torch.log10(1.0 + hz / 700.0)

    edges = torch.tensor([settings.low_hz, settings.high_hz], dtype=torch.float64)
    low, high = to_mel(edges).tolist()
    mels = torch.linspace(low, high, settings.mels + 2, dtype=torch.float64)
    corners = stretched(700.0 * (10.0 ** (mels / 2595.0) - 1.0), tract)
    bins = torch.linspace(0, SAMPLE_RATE / 2, fft_points // 2 + 1, dtype=torch.float64)
    rise = (bins[:, None] - corners[None, :-2]) / (corners[1:-1] - corners[:-2])
    fall = (corners[None, 2:] - bins[:, None]) / (corners[2:] - corners[1:-1])
    return torch.minimum(rise, fall).clamp(min=0).float()


def stretched(hz: Tensor, tract: float) -> Tensor:
    """Frequencies times `tract`; above the formants less and less, so that half the rate stays.

    Vocal tract length perturbation (Jaitly and Hinton 2013): a voice whose tract is `tract` times
    shorter has its formants there.
    """
    half = SAMPLE_RATE / 2
    top = FORMANTS_HZ * min(tract, 1.0)
    rest = (half - top) / (half - top / tract)
    return torch.where(hz <= top / tract, hz * tract, half - rest * (half - hz))


def planes(settings: Features) -> int:
    """How many pictures of the mel bands the rows of a frame hold, one below the other."""
    return 2 if settings.normalise == "both" else 1


def pictures(frames: Tensor, planes: int) -> Tensor:
    """Lay the pictures of frames `(B, P M, T)` side by side, `(B, P, M, T)`."""
    count, rows, length = frames.shape
    return frames.reshape(count, planes, rows // planes, length)


class Log(nn.Module):
    """The logarithm of energies `(B, M, T)`."""

    def forward(self, energies: Tensor) -> Tensor:
        """Compress each cell by itself."""
        return torch.log(energies + FLOOR)


class PCEN(nn.Module):
    """Per-channel energy normalisation (Wang et al. 2017): each band against its own last second.

    The paper's smoother, an exponential average, never forgets; here it is cut off after the
    warm-up, so that a frame depends on that alone, streamed or whole, and there is no state.
    """

    recent: Tensor

    def __init__(self, settings: Features) -> None:
        super().__init__()
        ages = torch.arange(grid(settings).warmup_frames, -1, -1, dtype=torch.float64)
        weights = (1 - PCEN_SMOOTH) ** (ages * settings.step_ms / PCEN_STEP_MS)
        weights = (weights / weights.sum()).float()
        self.register_buffer("recent", weights.repeat(settings.mels, 1, 1))

    def forward(self, energies: Tensor) -> Tensor:
        """Turn `(B, M, W + T)` into `(B, M, T)`."""
        bands, _, taps = self.recent.shape
        level = nn.functional.conv1d(energies, self.recent, groups=bands)
        steady = energies[..., taps - 1 :] * (FLOOR + level) ** -PCEN_ALPHA
        return torch.log1p(steady)


class LogAndPCEN(nn.Module):
    """Logarithm of energies `(B, M, W + T)` and their PCEN as rows of the same frames."""

    def __init__(self, settings: Features) -> None:
        super().__init__()
        self.log, self.pcen = Log(), PCEN(settings)

    def forward(self, energies: Tensor) -> Tensor:
        """Turn `(B, M, W + T)` into `(B, 2 M, T)`."""
        steady = self.pcen(energies)
        return torch.cat([self.log(energies[..., -steady.shape[-1] :]), steady], dim=-2)


COMPRESS: dict[str, Callable[[Features], nn.Module]] = {
    "cmvn": lambda _: Log(),
    "pcen": PCEN,
    "both": LogAndPCEN,
}


class LogMel(nn.Module):
    """Log-mel or PCEN frames, less the mean `(M,)` of the training data, over its deviation."""

    window: Tensor
    filters: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, settings: Features) -> None:
        super().__init__()
        self.grid = grid(settings)
        self.compress = COMPRESS[settings.normalise](settings)
        self.fft_points = max(FFT_POINTS_MIN, 1 << (self.grid.frame_samples - 1).bit_length())
        self.register_buffer("window", torch.hann_window(self.grid.frame_samples, periodic=True))
        self.register_buffer("filters", mel_filters(settings, self.fft_points))
        self.register_buffer("mean", torch.zeros(planes(settings) * settings.mels))
        self.register_buffer("std", torch.ones(planes(settings) * settings.mels))

    def forward(self, waveform: Tensor, filters: Tensor | None = None) -> Tensor:
        """Turn `(B, N)` into `(B, M, T)`, T = 1 + (N - frame) // step - warm-up."""
        return self.normalise(self.energies(waveform, filters))

    def energies(self, waveform: Tensor, filters: Tensor | None = None) -> Tensor:
        """Turn `(B, N)` into the energies of the mel bands `(B, M, W + T)`, warm-up first.

        Each clip may have `filters` of its own, `(B, F, M)`.
        """
        frames = waveform.unfold(-1, self.grid.frame_samples, self.grid.step_samples)
        own = self.filters.expand(len(frames), -1, -1) if filters is None else filters
        if waveform.device.type != "cpu":
            return self._mel(frames, own).transpose(-1, -2)
        parts = [
            self._mel(part, filters_of_clip)
            for clip, filters_of_clip in zip(frames, own, strict=True)
            for part in clip.split(CACHED_FRAMES)
        ]
        return torch.cat(parts).reshape(*frames.shape[:2], -1).transpose(-1, -2)

    def _mel(self, frames: Tensor, filters: Tensor) -> Tensor:
        """Energies `(..., T, M)` of frames `(..., T, frame)`."""
        spectrum = torch.fft.rfft(frames * self.window, n=self.fft_points)
        power: Tensor = spectrum.real.square() + spectrum.imag.square()
        return power @ filters

    def normalise(self, energies: Tensor) -> Tensor:
        """Compress `(B, M, W + T)` into `(B, M, T)` and apply the fixed mean and deviation."""
        frames: Tensor = self.compress(energies)
        return (frames - self.mean[:, None]) / self.std[:, None]

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
