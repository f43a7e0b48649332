"""WaveformStrip: how loud a clip is along time, what of it counts, and where the playhead is."""

from itertools import groupby
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from engine.audio import Waveform

BLOCKS = " ▁▂▃▄▅▆▇█"
BEGIN, END, PLAYHEAD = "▕", "▏", "┃"


def heights(waveform: Waveform, columns: int) -> NDArray[np.float64]:
    """The peak of each column `(W,)`, as a share of the clip's own peak, softened by a root."""
    if not columns or not len(waveform):
        return np.zeros(columns)
    starts = np.linspace(0, len(waveform), columns, endpoint=False).astype(int)
    peaks = np.maximum.reduceat(np.abs(waveform), starts).astype(np.float64)
    return np.sqrt(peaks / max(float(peaks.max()), 1e-9))


def bars(shares: NDArray[np.float64], rows: int) -> list[str]:
    """Bars that stand on the bottom, in eighths of a cell, the top row first."""
    eighths = np.maximum(np.rint(shares * rows * 8), 1).astype(int)
    lines = []
    for row in reversed(range(rows)):
        filled = np.clip(eighths - 8 * row, 0, 8)
        lines.append("".join(BLOCKS[n] for n in filled))
    return lines


class WaveformStrip(Widget):
    """A clip as bars; lines stand at its edges, what is outside is faint, what was played blue."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "waveform--outside", "waveform--edge", "waveform--played", "waveform--ahead",
        "waveform--now",
    }  # fmt: skip

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 -- as Widget
        super().__init__(id=id)
        self._waveform: Waveform = np.zeros(0, dtype=np.float32)
        self._edges = (0.0, 1.0)
        self._playhead: float | None = None
        self._lines: tuple[int, int, list[str]] = (0, 0, [])

    def show(self, waveform: Waveform | None, edges: tuple[float, float] = (0.0, 1.0)) -> None:
        """Show a clip `(N,)`, and which part of it counts, as shares of its length."""
        shown = np.zeros(0, dtype=np.float32) if waveform is None else waveform
        if shown is not self._waveform or edges != self._edges:
            self._waveform, self._edges, self._lines = shown, edges, (0, 0, [])
            self.refresh()

    def move(self, playhead: float | None) -> None:
        """Put the playhead at a share of the length, or take it away."""
        if self._column(playhead) != self._column(self._playhead):
            self.refresh()
        self._playhead = playhead

    def _column(self, share: float | None) -> int:
        return -1 if share is None else min(int(share * self.size.width), self.size.width - 1)

    def render_line(self, y: int) -> Strip:
        """One row of the bars."""
        width, height = self.size
        if self._lines[:2] != (width, height):
            self._lines = (width, height, bars(heights(self._waveform, width), height))
        if not len(self._waveform) or y >= height:
            return Strip.blank(width, self.rich_style)
        line, now = self._lines[2][y], self._column(self._playhead)
        first, last = (round(share * width) for share in self._edges)
        for column, mark in ((first - 1, BEGIN), (last, END), (now, PLAYHEAD)):
            if 0 <= column < width:
                line = line[:column] + mark + line[column + 1 :]
        segments, at = [], 0
        for name, cells in groupby(_role(n, first, last, now) for n in range(width)):
            end = at + len(list(cells))
            style = self.get_component_rich_style(f"waveform--{name}")
            segments.append(Segment(line[at:end], style))
            at = end
        return Strip(segments, width)


def _role(column: int, first: int, last: int, now: int) -> str:
    if column == now:
        return "now"
    if column in (first - 1, last):
        return "edge"
    if not first <= column < last:
        return "outside"
    return "played" if column < now else "ahead"
