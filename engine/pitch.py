"""Speed and pitch: resampling by ratios of small integers, and time-stretching by WSOLA.

Played faster, a window is shorter and higher. Stretched first by as much as it will be shortened,
it keeps its tempo and its pitch alone moves.
"""

import math
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view as windows
from torch import Tensor
from torch.nn.functional import pad
from torchaudio.transforms import Resample

from engine.audio import SAMPLE_RATE
from engine.device import sent
from engine.recipe import Augment

Ratio = tuple[int, int]
Array = TypeVar("Array", Tensor, npt.NDArray[np.float32])

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
AT_ONCE = 64  # clips searched at once on a GPU: some 0.4 GB for windows of 2.5 s
NOISE_FLOOR = 1e-6
TINY = 1e-12


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
        samples, moved = waveform.shape[1], torch.empty_like(waveform)
        factors = torch.tensor([a / b for a, b in self.bank])[chosen]
        longest = max(self._speed.source_samples(ratio, samples) for ratio in self.bank)
        slow = stretch(waveform, factors, longest)
        for index in sorted(set(chosen.tolist())):
            rows = sent((chosen == index).nonzero()[:, 0], waveform.device)
            source = self._speed.source_samples(self.bank[index], samples)
            moved[rows] = self._speed(slow[rows, :source], self.bank[index], samples)
        return moved


def stretch(waveform: Tensor, factors: Tensor, samples: int) -> Tensor:
    """Play `(B, N)` slower by `factors` `(B,)` (CPU) at the same pitch: `(B, samples)`.

    WSOLA (Verhelst and Roelands 1993): frames of two hops, overlapping by one, are each taken from
    where they best go on from the frame before, within 6 ms of where they are due. All clips are
    searched at once, whatever their factors.
    """
    return _join(*_search(waveform, factors, samples))[:, :samples]


def _join(padded: Tensor, start: Tensor) -> Tensor:
    """Overlap and add the frames that begin at `start` `(B, K)` of `(B, P)`: `(B, (K - 1) HOP)`."""
    rows = torch.arange(len(start), device=padded.device)[:, None]
    frames = padded.unfold(1, 2 * HOP, 1)[rows, start]
    frames = frames * torch.hann_window(2 * HOP, device=padded.device)
    return (frames[:, :-1, HOP:] + frames[:, 1:, :HOP]).flatten(1)


def _search(waveform: Tensor, factors: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Pad `(B, N)` and find where in it the frames `(B, K)` of a stretch to `samples` begin."""
    count = -(-samples // HOP) + 1
    due = torch.arange(count) * HOP / factors[:, None].double()
    last = waveform.shape[1] - waveform.shape[1] % COARSE
    due = sent((due.round().long() // COARSE * COARSE).clamp(max=last), waveform.device)
    behind = 2 * HOP + 2 * SEARCH
    behind += -(waveform.shape[1] + HOP + SEARCH + behind) % COARSE
    padded = pad(waveform, (HOP + SEARCH, behind))
    if not padded.is_cuda:
        return padded, _joints_in_turn(padded, due)
    pairs = zip(torch.split(padded, AT_ONCE), torch.split(due, AT_ONCE), strict=True)
    return padded, torch.cat([_joints_at_once(*rows) for rows in pairs])


def _joints_in_turn(padded: Tensor, due: Tensor) -> Tensor:
    """Where the frames `(B, K)` begin in `(B, P)`, each up to 2 SEARCH + 1 after it is `due`.

    The best joint has the highest correlation; it is found among every fourth place, and between
    them by a parabola. In numpy, whose small steps take less than half of torch's time.
    """
    hop, rows = HOP // COARSE, np.arange(len(padded))
    coarse, regions, loudness = (tensor.numpy() for tensor in _around(padded, due))
    follow, places = windows(coarse, hop, axis=1), windows(regions, hop, axis=2)
    wanted, off = due.numpy(), _off_middle(loudness.shape[2]).numpy()
    start = wanted + SEARCH
    for k in range(1, start.shape[1]):
        goes_on = start[:, k - 1] + HOP
        found = np.einsum("bjn,bn->bj", places[:, k], follow[rows, goes_on // COARSE])
        score = found * loudness[:, k] - off
        best = score[:, 1:-1].argmax(axis=1)
        aside = _summit(score[rows, best], score[rows, best + 1], score[rows, best + 2])
        fine = np.rint(COARSE * aside).astype(np.int64)
        start[:, k] = wanted[:, k] + COARSE * (1 + best) + fine + goes_on % COARSE
    return torch.from_numpy(start)


def _joints_at_once(padded: Tensor, due: Tensor) -> Tensor:
    """The same as one matrix product and a few look-ups, for a GPU, which waits for small steps.

    From each place where a frame may begin the best place of the next one is found. Those maps,
    each `(B, K - 1, S)` over the samples after `due`, are then put one after the other in steps of
    1, 2, 4 ... frames (Hillis and Steele 1986).
    """
    hop, home = HOP // COARSE, padded.device
    coarse, regions, loudness = _around(padded, due)
    rows = torch.arange(len(padded), device=home)[:, None]
    follow = coarse.unfold(1, regions.shape[2], 1)[rows, (due[:, :-1] + HOP) // COARSE]
    found = follow.unfold(2, hop, 1) @ regions[:, 1:].unfold(2, hop, 1).transpose(2, 3)
    score = found * loudness[:, 1:, None] - sent(_off_middle(loudness.shape[2]), home)
    best = score[..., 1:-1].argmax(dim=-1, keepdim=True)
    fine = COARSE * _summit(*(score.gather(-1, best + n) for n in range(3)))
    to = (COARSE * (1 + best) + fine.round().long())[..., 0]
    states = torch.arange(COARSE * to.shape[2], device=home)
    after = to[:, :, states // COARSE] + states % COARSE
    step = 1
    while step < after.shape[1]:
        after = torch.cat([after[:, :step], after[:, step:].gather(2, after[:, :-step])], dim=1)
        step *= 2
    return due + pad(after[:, :, SEARCH], (1, 0), value=SEARCH)


def _around(padded: Tensor, due: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The means of four samples of `(B, P)`, `(B, P / 4)`; those around each frame, `(B, K, R)`.

    Last, for the places `(B, K, J)` there, one over the level of what would be joined.
    """
    hop, places = HOP // COARSE, 2 * SEARCH // COARSE + 1
    fourth = torch.full((COARSE,), 1 / COARSE, device=padded.device)
    coarse = padded.view(len(padded), -1, COARSE) @ fourth
    energy = pad(coarse.double().square().cumsum(dim=1), (1, 0))
    energy = ((energy[:, hop:] - energy[:, :-hop]) / hop).float()
    at = torch.arange(len(padded), device=padded.device)[:, None], due // COARSE
    loudness = (energy + NOISE_FLOOR).rsqrt().unfold(1, places, 1)[at]
    return coarse, coarse.unfold(1, places + hop - 1, 1)[at], loudness


def _off_middle(places: int) -> Tensor:
    """What places `(J,)` lose the farther they are from the middle: of equal ones it is best."""
    return NOISE_FLOOR * (torch.arange(places) - places // 2).abs()


def _summit(left: Array, middle: Array, right: Array) -> Array:
    """Where the parabola through three values one apart has its top, seen from the middle one."""
    return (0.5 * (left - right) / (left - 2 * middle + right - TINY)).clip(-0.5, 0.5)
