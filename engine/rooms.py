"""Rooms and distance: the spectrum of a window times spectra that were computed once.

A bank holds the open air, the measured impulse responses and the simulated ones. Each is cut to
the shortest of three lengths that keeps it, since a dry room needs a shorter FFT.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from engine import acoustics
from engine.audio import SAMPLE_RATE
from engine.device import sent
from engine.recipe import Augment

LENGTHS = (SAMPLE_RATE // 4, SAMPLE_RATE // 2, SAMPLE_RATE)
# What may be cut off a tail, as a share of the energy: 40 dB below all of it.
LOST = 1e-4
SIMULATED = 128
MOST_MEASURED = 512
OPEN_AIR = 0
CACHED_ROWS = 16
ODD = (1, 3, 5, 9, 15, 25, 27, 45, 75, 81, 125, 135, 225, 375, 625)
FAR_HZ = (1500.0, 6000.0)
FAR_DB = (3.0, 15.0)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the clips of a batch are heard, all `(B,)`, on the CPU.

    `room` is a row of the bank. What is far is `drop_db` softer and loses what is above
    `corner_hz`; what is near has 0 and infinity.
    """

    room: Tensor
    corner_hz: Tensor
    drop_db: Tensor


class Rooms:
    """The bank of a run, for windows of `samples`."""

    def __init__(
        self, measured: Sequence[Tensor], settings: Augment, samples: int, seed: int
    ) -> None:
        real = [from_direct(response) for response in measured] if settings.room > 0 else []
        wanted = settings.room > 0 and (settings.room_simulated > 0 or not real)
        made = simulated(settings, seed) if wanted else []
        responses = [cut_tail(response) for response in (torch.ones(1), *real, *made)]
        self.measured, self.simulated = len(real), len(made)
        self._length = torch.tensor([len(response) for response in responses])
        self._row = torch.zeros(len(responses), dtype=torch.int64)
        self._points = {length: fft_points(samples + length - 1) for length in LENGTHS}
        self._spectra: dict[int, Tensor] = {}
        for length, points in self._points.items():
            here = [n for n, response in enumerate(responses) if len(response) == length]
            self._row[here] = torch.arange(len(here))
            if here:
                bank = torch.stack([responses[n] for n in here])
                self._spectra[length] = torch.fft.rfft(bank, n=points)

    def to(self, device: torch.device) -> "Rooms":
        """Keep the spectra on a device."""
        self._spectra = {length: bank.to(device) for length, bank in self._spectra.items()}
        return self

    def draw(self, settings: Augment, count: int, generator: torch.Generator) -> Places:
        """Draw for each clip whether it is in a room and in which one, and whether it is far."""
        inside, made, which, far, corner, drop = torch.rand(6, count, generator=generator)
        share = settings.room_simulated if self.measured else 1.0
        ours = 1 + self.measured + (which * self.simulated).long()
        room = torch.where(made < share, ours, 1 + (which * self.measured).long())
        low, high = FAR_HZ
        return Places(
            torch.where(inside < settings.room, room, OPEN_AIR),
            torch.where(far < settings.far, low * (high / low) ** corner, math.inf),
            torch.where(far < settings.far, FAR_DB[0] + drop * (FAR_DB[1] - FAR_DB[0]), 0.0),
        )

    def hear(self, waveform: Tensor, places: Places) -> Tensor:
        """Change `(B, N)`, in place, to what is heard there; a word neither moves nor lengthens."""
        home, samples = waveform.device, waveform.shape[1]
        moved = (places.room != OPEN_AIR) | places.corner_hz.isfinite()
        for length, bank in self._spectra.items():
            points = self._points[length]
            here = (moved & (self._length[places.room] == length)).nonzero()[:, 0]
            for rows in parts(here, home):
                there = sent(rows, home)
                spectrum = torch.fft.rfft(waveform[there], n=points)
                spectrum *= bank[sent(self._row[places.room[rows]], home)]
                far = places.corner_hz[rows].isfinite().nonzero()[:, 0]
                if len(far):
                    away = distance(places.corner_hz[rows[far]], places.drop_db[rows[far]], points)
                    spectrum[sent(far, home)] *= sent(away, home)
                waveform[there] = torch.fft.irfft(spectrum, n=points)[:, :samples]
        return waveform


def parts(rows: Tensor, device: torch.device) -> tuple[Tensor, ...]:
    """Split rows of a batch so that what is worked on stays in a CPU's cache; a GPU takes all.

    A batch of 128 at once would also have its memory mapped anew for each operation.
    """
    if len(rows) == 0:
        return ()
    return torch.split(rows, CACHED_ROWS if device.type == "cpu" else len(rows))


def simulated(settings: Augment, seed: int) -> list[Tensor]:
    """Make the simulated rooms of a run, unit energy each; a seed always makes the same ones."""
    rng = np.random.default_rng(seed)
    made = [
        acoustics.room(rng, settings.rt60_low_s, settings.rt60_high_s) for _ in range(SIMULATED)
    ]
    return [unit_energy(torch.from_numpy(response)) for response in made]


def from_direct(response: Tensor) -> Tensor:
    """Let a measured response `(N,)` begin with its direct sound and have unit energy.

    So a room neither shifts the end of a word nor changes its level.
    """
    return unit_energy(response[acoustics.direct_sound(response.numpy()) :])


def unit_energy(response: Tensor) -> Tensor:
    """Scale a response `(N,)`."""
    return response / response.square().sum().sqrt().clamp(min=1e-6)


def cut_tail(response: Tensor) -> Tensor:
    """Cut or pad a response `(N,)` of unit energy to the shortest of LENGTHS that keeps it."""
    kept = response.square().cumsum(0)
    enough = (n for n in LENGTHS if n >= len(response) or kept[n - 1] >= kept[-1] - LOST)
    length = next(enough, LENGTHS[-1])
    return torch.nn.functional.pad(response[:length], (0, max(0, length - len(response))))


def fft_points(least: int) -> int:
    """The smallest 32 times 2^a 3^b 5^c from `least` on: such FFTs are fast, odd ones are not."""
    smooth = (odd * (1 << a) for a, odd in product(range(5, 25), ODD))
    return min(n for n in smooth if n >= least)


def distance(corner_hz: Tensor, drop_db: Tensor, points: int) -> Tensor:
    """The spectra `(B, F)` of first-order low-passes that are softer by `drop_db` `(B,)`."""
    hertz = torch.linspace(0, SAMPLE_RATE / 2, points // 2 + 1)
    response: Tensor = 10 ** (-drop_db[:, None] / 20) / (1 + 1j * hertz / corner_hz[:, None])
    return response
