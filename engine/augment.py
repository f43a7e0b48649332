"""What is done to clips while training, batched on the device, drawn from generators of the step.

The order is speed, room, noise, gain, and SpecAugment on the frames. Everything random comes from
a CPU generator, so that the same seed gives the same numbers on every device.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchaudio.transforms import Resample

from engine.audio import SAMPLE_RATE
from engine.recipe import Augment

# Ratios of small integers keep the resampling kernels short; speech at 9/8 is 12.5 % faster.
SPEEDS: tuple[tuple[int, int], ...] = (
    (4, 5), (5, 6), (7, 8), (10, 11), (19, 20), (20, 19), (11, 10), (8, 7), (6, 5), (5, 4),
)  # fmt: skip
ROOM_SAMPLES = SAMPLE_RATE // 2
LEVEL_FRAME = SAMPLE_RATE // 10
QUIET_SNR_DB = (30.0, 80.0)


def speeds(settings: Augment) -> list[tuple[int, int]]:
    """The bank of speeds within the recipe's range, as (numerator, denominator)."""
    return [(a, b) for a, b in SPEEDS if abs(a / b - 1) <= settings.speed_range + 1e-9]


class Speed:
    """Plays windows faster or slower by a ratio of the bank; pitch and tempo move together."""

    def __init__(self, settings: Augment) -> None:
        self.bank = speeds(settings)
        self._resample = {(a, b): Resample(a, b) for a, b in self.bank}

    def source_samples(self, ratio: tuple[int, int], samples: int) -> int:
        """How many source samples make `samples` at this speed."""
        return -(-samples * ratio[0] // ratio[1])

    def __call__(self, waveform: Tensor, ratio: tuple[int, int], samples: int) -> Tensor:
        """Turn `(B, source_samples)` into `(B, samples)`."""
        resample = self._resample[ratio].to(waveform.device)
        played: Tensor = resample(waveform)
        return played[:, :samples]


@dataclass(frozen=True, slots=True)
class Rooms:
    """Impulse responses as spectra `(R, F)`, computed once for a window of `samples`."""

    spectra: Tensor
    points: int


def prepare_rooms(responses: list[Tensor], samples: int, device: torch.device) -> Rooms | None:
    """Align each response's direct sound to time 0, scale it to unit energy, transform it.

    So a room neither shifts the end of a word nor changes its level. None without rooms.
    """
    if not responses:
        return None
    points = 1 << (samples + ROOM_SAMPLES - 1).bit_length()
    bank = torch.zeros(len(responses), ROOM_SAMPLES)
    for row, response in zip(bank, responses, strict=True):
        direct = int(response.abs().argmax())
        cut = response[direct : direct + ROOM_SAMPLES]
        row[: len(cut)] = cut / cut.square().sum().sqrt().clamp(min=1e-6)
    return Rooms(torch.fft.rfft(bank.to(device), n=points), points)


def apply_rooms(waveform: Tensor, rooms: Rooms, chosen: Tensor) -> Tensor:
    """Hear `(B, N)` in the rooms `chosen` `(B,)`."""
    spectrum = torch.fft.rfft(waveform, n=rooms.points) * rooms.spectra[chosen]
    heard: Tensor = torch.fft.irfft(spectrum, n=rooms.points)
    return heard[:, : waveform.shape[1]]


def active_power(waveform: Tensor) -> Tensor:
    """Mean power `(B,)` of the 100 ms stretches within 10 dB of the loudest one of `(B, N)`.

    The level of speech in a window, whatever silence surrounds it (in the spirit of ITU-T P.56).
    """
    power = waveform.unfold(1, LEVEL_FRAME, LEVEL_FRAME).square().mean(dim=2)
    active = power >= 0.1 * power.amax(dim=1, keepdim=True)
    return (power * active).sum(dim=1) / active.sum(dim=1).clamp(min=1)


def mix(waveform: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """Add noise `(B, N)` under `(B, N)` at `snr_db` `(B,)` against the active level."""
    wanted = active_power(waveform) / 10 ** (snr_db / 10)
    found = noise.square().mean(dim=1).clamp(min=1e-10)
    return waveform + noise * (wanted / found).sqrt()[:, None]


def draw_snr_db(settings: Augment, count: int, generator: torch.Generator) -> Tensor:
    """Draw an SNR for each clip: the recipe's range, or hardly audible where noise is off."""
    spread = torch.rand(count, generator=generator)
    loud = settings.snr_low_db + spread * (settings.snr_high_db - settings.snr_low_db)
    soft = QUIET_SNR_DB[0] + spread * (QUIET_SNR_DB[1] - QUIET_SNR_DB[0])
    return torch.where(torch.rand(count, generator=generator) < settings.noise, loud, soft)


def mean_snr_db(settings: Augment) -> float:
    """The SNR in the middle of the range that is drawn from."""
    return 0.5 * (settings.snr_low_db + settings.snr_high_db)


def gain(waveform: Tensor, gain_db: Tensor) -> Tensor:
    """Change the level of `(B, N)` by `gain_db` `(B,)`; what leaves [-1, 1] clips."""
    return (waveform * 10 ** (gain_db / 20)[:, None]).clamp(-1.0, 1.0)


def equalise(frames: Tensor, std: Tensor, settings: Augment, generator: torch.Generator) -> Tensor:
    """Hear `(B, M, T)` through other microphones: each clip gets a gain that is smooth over mels.

    The gain is a sum of the first three cosines across the bands, the slower the stronger. Frames
    are log-mel divided by `std` `(M,)`, so a gain is an offset.
    """
    mels = frames.shape[1]
    order = torch.arange(1, 4)
    shapes = torch.cos(math.pi * order[:, None] * (torch.arange(mels) + 0.5) / mels)
    strength = torch.randn(len(frames), 3, generator=generator) * settings.equaliser_db / order
    offset = (strength @ shapes) * (math.log(10) / 10)
    return frames + (offset.to(frames.device) / std)[:, :, None]


def spec_augment(
    frames: Tensor, settings: Augment, step_ms: int, generator: torch.Generator
) -> Tensor:
    """Hide stretches of time and groups of mel bands of `(B, M, T)`, as Park et al. 2019.

    Hidden cells take the value 0, the mean of normalised frames.
    """
    longest = settings.time_mask_ms // step_ms
    hidden = _stripes(frames, 2, settings.time_masks, longest, generator)
    hidden = hidden | _stripes(frames, 1, settings.freq_masks, settings.freq_mask_mels, generator)
    return frames.masked_fill(hidden, 0.0)


def _stripes(
    frames: Tensor, dim: int, count: int, widest: int, generator: torch.Generator
) -> Tensor:
    """A mask of `count` stripes across `dim`, each 0 to `widest` cells wide, per clip."""
    shape = [frames.shape[0], 1, 1]
    shape[dim] = size = frames.shape[dim]
    hidden = torch.zeros(shape, dtype=torch.bool)
    cells = torch.arange(size).reshape([1] * dim + [-1] + [1] * (2 - dim))
    for _ in range(count):
        width = torch.rand(shape[0], 1, 1, generator=generator) * (widest + 1)
        start = torch.rand(shape[0], 1, 1, generator=generator) * (size - width.floor())
        hidden = hidden | ((cells >= start.floor()) & (cells < start.floor() + width.floor()))
    return hidden.to(frames.device)
