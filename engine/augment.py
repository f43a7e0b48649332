"""What is done to clips while training, batched on the device, drawn from generators of the step.

The order is speed or tempo, pitch, room and distance, noise, overdrive, telephone, gain, then
another vocal tract in the mel filters, and the equaliser and SpecAugment on the frames. Everything
random comes from a CPU generator, so that the same seed gives the same numbers on every device.
"""

import math

import torch
from torch import Tensor

from engine.audio import SAMPLE_RATE
from engine.device import sent
from engine.features import LogMel, mel_filters, pictures
from engine.recipe import Augment, Features
from engine.rooms import fft_points

LEVEL_FRAME = SAMPLE_RATE // 10
QUIET_SNR_DB = (30.0, 80.0)
# Second and further backgrounds are up to this much softer than the first.
SPREAD_DB = 10.0
# From this part of the epochs on the background is as loud as the recipe says.
HARD_FROM = 2 / 3
MOST_CLIPPED_DB = 12.0
LINE_HZ = (300.0, 3400.0)
LINE_EDGE_HZ = 100.0
TRACTS = 9


def active_power(waveform: Tensor) -> Tensor:
    """Mean power `(B,)` of the 100 ms stretches within 10 dB of the loudest one of `(B, N)`.

    The level of speech in a window, whatever silence surrounds it (in the spirit of ITU-T P.56).
    """
    frames = waveform.unfold(1, LEVEL_FRAME, LEVEL_FRAME)
    power: Tensor = torch.linalg.vecdot(frames, frames) / LEVEL_FRAME
    active = power >= 0.1 * power.amax(dim=1, keepdim=True)
    return (power * active).sum(dim=1) / active.sum(dim=1).clamp(min=1)


def mix(waveform: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """Add noise `(B, N)` under `(B, N)` at `snr_db` `(B,)` against the active level."""
    wanted = active_power(waveform) / 10 ** (snr_db / 10)
    found = noise.square().mean(dim=1).clamp(min=1e-10)
    return waveform + noise * (wanted / found).sqrt()[:, None]


def ease_db(settings: Augment, epoch: int, epochs: int) -> float:
    """How much softer than in the recipe the background of an epoch is.

    All of `snr_ease_db` in the first epoch, nothing from two thirds of the epochs on.
    """
    hard = int(HARD_FROM * epochs)
    part = epoch / hard if epoch < hard else 1.0
    left = {
        "constant": 0.0,
        "linear": 1.0 - part,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * part)),
        "stepped": 1.0 - math.floor(3.0 * part + 1e-9) / 3.0,
    }
    return settings.snr_ease_db * left[settings.snr_schedule]


def draw_snr_db(
    settings: Augment, count: int, generator: torch.Generator, easier_db: float = 0.0
) -> Tensor:
    """Draw an SNR `(count,)`: the recipe's range, or hardly audible where noise is off."""
    spread = torch.rand(count, generator=generator)
    loud = settings.snr_low_db + spread * (settings.snr_high_db - settings.snr_low_db) + easier_db
    soft = QUIET_SNR_DB[0] + spread * (QUIET_SNR_DB[1] - QUIET_SNR_DB[0])
    return torch.where(torch.rand(count, generator=generator) < settings.noise, loud, soft)


def mean_snr_db(settings: Augment, epoch: int, epochs: int) -> float:
    """The SNR in the middle of the range that is drawn from in an epoch."""
    middle = 0.5 * (settings.snr_low_db + settings.snr_high_db)
    return middle + ease_db(settings, epoch, epochs)


def add_background(noise: Tensor, rows: Tensor, extra: Tensor, softer_db: Tensor) -> None:
    """Add to the rows `(R,)` of `(B, N)`, in place, `extra` `(R, N)`, `softer_db` `(R,)` below."""
    level = noise[rows].square().mean(dim=1).clamp(min=1e-10)
    found = extra.square().mean(dim=1).clamp(min=1e-10)
    noise[rows] += extra * ((level / found).sqrt() * 10 ** (-softer_db / 20))[:, None]


def overdrive(waveform: Tensor, cut_db: Tensor) -> Tensor:
    """Cut the peaks of `(B, N)` off `cut_db` `(B,)` below the highest one."""
    limit = waveform.abs().amax(dim=1, keepdim=True) * 10 ** (-cut_db / 20)[:, None]
    return waveform.clamp(-limit, limit)


def telephone(waveform: Tensor) -> Tensor:
    """Hear `(B, N)` over a line: 300 to 3400 Hz pass, with edges of 100 Hz; no delay."""
    samples = waveform.shape[1]
    points = fft_points(samples + SAMPLE_RATE // 50)
    hertz = torch.linspace(0, SAMPLE_RATE / 2, points // 2 + 1, device=waveform.device)
    low, high = LINE_HZ
    passed = torch.minimum(hertz - low, high - hertz) / LINE_EDGE_HZ + 1
    line: Tensor = torch.fft.irfft(torch.fft.rfft(waveform, n=points) * passed.clamp(0, 1))
    return line[:, :samples]


def gain(waveform: Tensor, gain_db: Tensor) -> Tensor:
    """Change the level of `(B, N)` by `gain_db` `(B,)`; what leaves [-1, 1] clips."""
    return (waveform * 10 ** (gain_db / 20)[:, None]).clamp(-1.0, 1.0)


class Tracts:
    """Other vocal tracts: the mel filters of nine lengths, from shorter to longer."""

    def __init__(self, features: LogMel, settings: Features, augment: Augment) -> None:
        reach = math.log1p(augment.tract_range)
        tracts = torch.linspace(-reach, reach, TRACTS).exp().tolist()
        bank = [mel_filters(settings, features.fft_points, tract) for tract in tracts]
        self.bank = torch.stack(bank).to(features.filters.device)
        self.share = augment.tract

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the filters of each clip, `(B, F, M)`."""
        chosen = torch.randint(TRACTS, (count,), generator=generator)
        same = torch.rand(count, generator=generator) >= self.share
        return self.bank[sent(chosen.masked_fill(same, TRACTS // 2), self.bank.device)]


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
    return frames + (sent(offset, frames.device) / std)[:, :, None]


def spec_augment(
    frames: Tensor, settings: Augment, step_ms: int, generator: torch.Generator, planes: int = 1
) -> Tensor:
    """Hide stretches of time and groups of mel bands of `(B, M, T)`, as Park et al. 2019.

    Hidden cells take the value 0, the mean of normalised frames.
    """
    longest = settings.time_mask_ms // step_ms
    shown = pictures(frames, planes)
    first = shown[:, 0]
    hidden = _stripes(first, 2, settings.time_masks, longest, generator)
    most = first.shape[1] // max(2 * settings.freq_masks, 1)  # half of the bands stay visible
    widest = min(settings.freq_mask_mels, most)
    hidden = hidden | _stripes(first, 1, settings.freq_masks, widest, generator)
    return shown.masked_fill(hidden[:, None], 0.0).flatten(1, 2)


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
    return sent(hidden, frames.device)
