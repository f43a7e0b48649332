"""Spectrogram: what a sound looks like, two bands in each cell, low ones at the bottom."""

from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from engine.audio import SAMPLE_RATE, Waveform
from wakeword_tui.widgets.drawn import Drawn

FRAME, STEP = 512, 160
"""Samples that a column hears, 32 ms, and from one to the next, 10 ms."""
LOWEST_HZ = 60.0
RANGE_DB = 65.0
FULL = (
    (0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122),
    (229, 80, 100), (251, 135, 97), (254, 194, 135), (252, 253, 191),
)  # fmt: skip
"""Corners of the magma colours; 24 steps along them are shown."""
FEW = (16, 52, 88, 124, 160, 166, 172, 178, 184, 190, 228)
"""Where there are 256 colours: those among them that look alike everywhere."""
SHADES = " ░▒▓█"
Levels = NDArray[np.float64]


def levels(waveform: Waveform, columns: int, bands: int) -> Levels:
    """How loud each band is `(bands, columns)`, highest band first, from 0 to 1 of a range in dB.

    Bands are as wide as the ear hears them (mel), and time fills the columns.
    """
    power = _power(waveform)
    edges = np.linspace(0, len(power), columns + 1).astype(int)
    starts = np.minimum(edges[:-1], len(power) - 1)
    in_time = np.maximum.reduceat(power, starts, axis=0)
    mel = np.linspace(_mel(LOWEST_HZ), _mel(SAMPLE_RATE / 2), bands + 1)
    bins = 700 * (10 ** (mel / 2595) - 1) * FRAME / SAMPLE_RATE
    summed = np.concatenate([np.zeros((columns, 1)), np.cumsum(in_time, axis=1)], axis=1)
    ends = np.array([np.interp(bins, np.arange(summed.shape[1]), row) for row in summed])
    loud_db = 10 * np.log10(np.maximum(np.diff(ends, axis=1) / np.diff(bins), 1e-10))
    top = float(loud_db.max())
    floor = max(float(np.percentile(loud_db, 20)), top - RANGE_DB)
    scaled: Levels = np.clip((loud_db - floor) / max(top - floor, 1.0), 0.0, 1.0)
    return scaled.T[::-1]


def _power(waveform: Waveform) -> NDArray[np.float64]:
    """Power of each frame and frequency `(T, F)`."""
    padded = np.pad(waveform, (FRAME // 2, FRAME // 2 + STEP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::STEP]
    power: NDArray[np.float64] = np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=1)) ** 2
    return power


def _mel(hz: float) -> float:
    return float(2595 * np.log10(1 + hz / 700))


class Spectrogram(Drawn):
    """A clip's spectrogram, drawn again only when the clip, the size or the colours change."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 -- as Widget
        super().__init__(id=id)
        self._waveform: Waveform | None = None

    def show(self, waveform: Waveform | None) -> None:
        """Show a clip `(N,)`, or nothing."""
        if waveform is not self._waveform:
            self._waveform = waveform
            self.forget()

    def drawn(self) -> list[Strip]:
        """Draw the clip."""
        width, height = self.size
        if self._waveform is None or not len(self._waveform) or not width or not height:
            return []
        system = self.app.console.color_system
        if self.app.no_color or system not in ("truecolor", "256"):
            return shaded(levels(self._waveform, width, height), self.rich_style)
        ramp = _smooth() if system == "truecolor" else [Color.from_ansi(n) for n in FEW]
        return coloured(levels(self._waveform, width, 2 * height), ramp)


def _smooth(steps: int = 24) -> list[Color]:
    at = np.linspace(0, len(FULL) - 1, steps)
    channels = [np.interp(at, range(len(FULL)), corner) for corner in zip(*FULL, strict=True)]
    return [Color.from_rgb(*map(round, rgb)) for rgb in zip(*channels, strict=True)]


def coloured(values: Levels, ramp: list[Color]) -> list[Strip]:
    """Half blocks: the upper band is the colour of the character, the lower of what is behind."""
    steps = np.rint(values * (len(ramp) - 1)).astype(int)
    styles: dict[tuple[int, int], Style] = {}
    strips = []
    for upper, lower in zip(steps[::2], steps[1::2], strict=True):
        segments = []
        for pair, cells in groupby(zip(upper.tolist(), lower.tolist(), strict=True)):
            if pair not in styles:
                styles[pair] = Style(color=ramp[pair[0]], bgcolor=ramp[pair[1]])
            segments.append(Segment("▀" * len(list(cells)), styles[pair]))
        strips.append(Strip(segments, len(upper)))
    return strips


def shaded(values: Levels, style: Style) -> list[Strip]:
    """Without colours: one band in a cell, the darker the louder."""
    steps = np.rint(values * (len(SHADES) - 1)).astype(int)
    return [Strip([Segment("".join(SHADES[n] for n in row), style)], len(row)) for row in steps]
