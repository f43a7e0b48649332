"""Speed and pitch: resampling by ratios of small integers, and time-stretching by WSOLA.

Played faster, a window is shorter and higher. Stretched first by as much as it will be shortened,
it keeps its tempo and its pitch alone moves.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, pad
from torchaudio.transforms import Resample

from engine.audio import SAMPLE_RATE
from engine.recipe import Augment

Ratio = tuple[int, int]

# Small integers keep the resampling kernels short; speech at 9:8 is an eighth faster or higher.
SPEEDS: tuple[Ratio, ...] = (
    (4, 5), (5, 6), (7, 8), (10, 11), (19, 20), (20, 19), (11, 10), (8, 7), (6, 5), (5, 4),
)  # fmt: skip
PITCHES: tuple[Ratio, ...] = (
    (4, 5), (5, 6), (7, 8), (8, 9), (11, 12), (17, 18), (35, 36),
    (36, 35), (18, 17), (12, 11), (9, 8), (8, 7), (6, 5), (5, 4),
)  # fmt: skip
# 9:8 is 2.04 semitones, and counts as two.
SEMITONE_SLACK = 0.05
# The search for the best joint looks at every fourth sample, which is enough below 2 kHz.
COARSE = 4
HOP = SAMPLE_RATE * 16 // 1000
SEARCH = SAMPLE_RATE // 160  # half a period of the lowest voices
NOISE_FLOOR = 1e-6


def speeds(settings: Augment) -> list[Ratio]:
    """The bank of speeds within the recipe's range, as (numerator, denominator)."""
    return [(a, b) for a, b in SPEEDS if abs(a / b - 1) <= settings.speed_range + 1e-9]


def pitches(settings: Augment) -> list[Ratio]:
    """The bank of pitches within the recipe's range."""
    most = settings.pitch_semitones + SEMITONE_SLACK
    return [(a, b) for a, b in PITCHES if settings.pitch_semitones and abs(semitones(a, b)) <= most]


def semitones(numerator: int, denominator: int) -> float:
    """A ratio of frequencies on the scale of a piano."""
    return 12 * math.log2(numerator / denominator)


class Speed:
    """Plays windows faster or slower by a ratio of the bank; pitch and tempo move together."""

    def __init__(self, bank: list[Ratio]) -> None:
        self.bank = bank
        self._resample = {(a, b): Resample(a, b) for a, b in self.bank}

    def source_samples(self, ratio: Ratio, samples: int) -> int:
        """How many source samples make `samples` at this speed."""
        return -(-samples * ratio[0] // ratio[1])

    def __call__(self, waveform: Tensor, ratio: Ratio, samples: int) -> Tensor:
        """Turn `(B, source_samples)` into `(B, samples)`."""
        resample = self._resample[ratio].to(waveform.device)
        played: Tensor = resample(waveform)
        return played[:, :samples]


class Pitch:
    """Moves the pitch of windows by a ratio of the bank; what is at a time stays there."""

    def __init__(self, bank: list[Ratio]) -> None:
        self.bank = bank
        self._speed = Speed(bank)

    def __call__(self, waveform: Tensor, chosen: Tensor) -> Tensor:
        """Turn `(B, N)` into as much, each at the place `chosen` `(B,)` (CPU) of the bank."""
        samples = waveform.shape[1]
        ratios = torch.tensor([a / b for a, b in self.bank])[chosen]
        longest = max(self._speed.source_samples(ratio, samples) for ratio in self.bank)
        slow = stretch(waveform, ratios, longest)
        moved = torch.empty_like(waveform)
        for index in sorted(set(chosen.tolist())):
            rows = (chosen == index).nonzero()[:, 0].to(waveform.device)
            source = self._speed.source_samples(self.bank[index], samples)
            moved[rows] = self._speed(slow[rows, :source], self.bank[index], samples)
        return moved


def stretch(waveform: Tensor, factors: Tensor, samples: int) -> Tensor:
    """Play `(B, N)` slower by `factors` `(B,)` (CPU) at the same pitch: `(B, samples)`.

    WSOLA (Verhelst and Roelands 1993): frames of two hops, overlapping by one, are each taken from
    where they best go on from the frame before, within 6 ms of where they are due. All clips are
    searched at once, whatever their factors.
    """
    count = -(-samples // HOP) + 1
    due = torch.arange(count) * HOP / factors[:, None].double()
    last = waveform.shape[1] - waveform.shape[1] % COARSE
    due = (due.round().long() // COARSE * COARSE).clamp(max=last).to(waveform.device)
    behind = 2 * HOP + 2 * SEARCH
    padded = pad(waveform, (HOP + SEARCH, behind + -(waveform.shape[1] + behind) % COARSE))
    start = _search(padded, due)
    frames = padded.unfold(1, 2 * HOP, 1)[torch.arange(len(start))[:, None], start]
    frames = frames * torch.hann_window(2 * HOP, device=waveform.device)
    slow = frames[:, :-1, HOP:] + frames[:, 1:, :HOP]
    return slow.flatten(1)[:, :samples]


def _search(padded: Tensor, due: Tensor) -> Tensor:
    """Where the frames `(B, K)` begin in `(B, P)`, each up to 2 SEARCH after it is `due`.

    The best joint is found among every fourth place, and between them by a parabola.
    """
    rows = torch.arange(len(padded), device=padded.device)[:, None]
    coarse = avg_pool1d(padded[:, None], COARSE)[:, 0]
    hop, places = HOP // COARSE, 2 * SEARCH // COARSE + 1
    energy = avg_pool1d(coarse.square()[:, None], hop, stride=1)[:, 0]
    loudness = (energy + NOISE_FLOOR).rsqrt().unfold(1, places, 1)[rows, due // COARSE]
    regions = coarse.unfold(1, places + hop - 1, 1)[rows, due // COARSE]
    joints = coarse.unfold(1, hop, 1)
    aside = NOISE_FLOOR * (torch.arange(places, device=padded.device) - places // 2).abs()
    three = torch.arange(-1, 2, device=padded.device)
    start = due + SEARCH
    for k in range(1, due.shape[1]):
        goes_on = start[:, k - 1] + HOP
        wanted = joints[rows[:, 0], goes_on // COARSE]
        found = (regions[:, k].unfold(1, hop, 1) * wanted[:, None]).sum(dim=2)
        score = found * loudness[:, k] - aside
        best = score[:, 1:-1].argmax(dim=1) + 1
        around = score.gather(1, best[:, None] + three)
        bend = around[:, 0] - 2 * around[:, 1] + around[:, 2]
        between = 0.5 * (around[:, 0] - around[:, 2]) / bend.clamp(max=-1e-12)
        fine = (COARSE * (best + between.clamp(-0.5, 0.5))).round().long()
        start[:, k] = due[:, k] + fine + goes_on % COARSE
    return start
