"""Curves become characters: braille dots, marks, axes and grid, as arrays a test can read.

```
   0.5┤┈┈⠉⢻⣆┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈      a cell holds 2 x 4 dots and has one owner: the series with
      │    ⠙⢷⣄      ◆             most dots there, whose colour it takes; marks stand on top
   0.2┤┈┈┈┈┈┈┈⠙⠓⠶⠤⠤◆┈┈┈┈┈┈┈┈
      └┬────────┬────────┬──
       0       500       1k
```
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wakeword_tui.numbers import brief

Floats = NDArray[np.float64]
AXIS, GRID, EMPTY = -1, -2, -3
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values laid along an edge, linear or logarithmic."""

    low: float
    high: float
    log: bool = False
    label: str = ""
    """What is measured, with its unit; drawn where the axis ends."""

    @classmethod
    def around(
        cls,
        values: ArrayLike,
        *,
        log: bool = False,
        low: float | None = None,
        pad: float = 0.05,
        label: str = "",
    ) -> "Axis":
        """The axis that shows all `values` with a little room; `low` pins the lower end."""
        known = np.asarray(values, dtype=np.float64)
        known = known[np.isfinite(known) & (known > 0 if log else True)]
        if known.size == 0:
            return cls(0.1 if log else 0.0, 1.0, log, label)
        bottom, top = float(known.min()), float(known.max())
        if log:
            room = max(top / bottom, 1.2) ** pad
            return cls(bottom / room, top * room, log, label)
        bottom = bottom if low is None else low
        room = (top - bottom or abs(top) or 1.0) * pad
        return cls(bottom - room if low is None else low, top + room, log, label)

    def place(self, values: ArrayLike) -> Floats:
        """Where values fall between the ends, 0 to 1; not a number where they cannot."""
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = np.log(values) if self.log else np.asarray(values, dtype=np.float64)
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        placed = (scaled - low) / (high - low or 1.0)
        return np.where(np.isfinite(placed), np.clip(placed, 0.0, 1.0), np.nan)

    def ticks(self, most: int) -> list[float]:
        """Up to `most` round values between the ends."""
        return _log_ticks(self, most) if self.log else _linear_ticks(self.low, self.high, most)


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    if most < 1 or high <= low:
        return []
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power * size for size in (1, 2, 2.5, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [k * step for k in range(first, last + 1)]
    return []


def _log_ticks(axis: Axis, most: int) -> list[float]:
    decades = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
    for sizes in ((1, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [size * 10.0**power for power in decades for size in sizes]
        ticks = [tick for tick in ticks if axis.low <= tick <= axis.high]
        if len(ticks) <= most:
            break
    if len(ticks) > most:
        return ticks[:: math.ceil(len(ticks) / max(most, 1))]
    return ticks if len(ticks) > 1 else _linear_ticks(axis.low, axis.high, most)


@dataclass(frozen=True, slots=True)
class Series:
    """A curve, or, with a `mark`, single points; `low` and `high` draw a whisker at each."""

    label: str
    xs: ArrayLike
    ys: ArrayLike
    mark: str = ""
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    right: bool = False
    """Whether the values belong to the axis on the right."""
    colour: int | None = None
    """The colour of another place in the list."""


@dataclass(frozen=True, slots=True)
class Plot:
    """What a chart shows. Series keep their place in the list as their colour."""

    series: Sequence[Series]
    x: Axis
    y: Axis
    right: Axis | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """Characters (H, W) and the owner of each: a series number, AXIS, GRID or EMPTY."""

    characters: NDArray[np.str_]
    owners: NDArray[np.int8]

    @classmethod
    def blank(cls, width: int, height: int) -> "Picture":
        """Nothing yet."""
        return cls(np.full((height, width), " "), np.full((height, width), EMPTY, dtype=np.int8))

    def write(self, row: int, column: int, text: str, owner: int) -> None:
        """Put text on a row; what does not fit is cut off."""
        height, width = self.characters.shape
        if 0 <= row < height:
            start, end = max(column, 0), min(column + len(text), width)
            if start < end:
                self.characters[row, start:end] = list(text[start - column : end - column])
                self.owners[row, start:end] = owner

    def lines(self) -> list[str]:
        """The characters as text."""
        return ["".join(row) for row in self.characters]


def draw(plot: Plot, width: int, height: int) -> Picture:
    """Draw a plot into `width` x `height` cells; too small a space stays blank."""
    picture = Picture.blank(width, height)
    rows = height - 2
    y_ticks = _labels(plot.y.ticks(max(2, rows // 3)))
    right_ticks = _labels(plot.right.ticks(max(2, rows // 4))) if plot.right else []
    left = max((len(label) for _, label in y_ticks), default=0) + 1
    margin = max((len(label) for _, label in right_ticks), default=0) + bool(right_ticks)
    columns = width - left - margin
    if rows < 2 or columns < 8:
        return picture
    _draw_frame(picture, plot, y_ticks, left, columns, rows)
    for row in range(rows if right_ticks else 0):
        picture.write(row, left + columns, "│", AXIS)
    for value, label in right_ticks:
        assert plot.right is not None
        picture.write(_row(plot.right, value, rows), left + columns, f"├{label}", AXIS)
    inside = Picture(
        picture.characters[:rows, left : left + columns],
        picture.owners[:rows, left : left + columns],
    )
    inside.write(0, 0, plot.y.label, AXIS)
    _draw_curves(inside, plot)
    _draw_marks(inside, plot)
    _draw_legend(inside, plot)
    return picture


def draw_bare(plot: Plot, width: int, height: int) -> Picture:
    """Draw a plot without axes: its x axis is as wide as the picture."""
    picture = Picture.blank(width, height)
    if width and height:
        _draw_curves(picture, plot)
        _draw_marks(picture, plot)
        _draw_legend(picture, plot)
    return picture


def _labels(values: Sequence[float]) -> list[tuple[float, str]]:
    return [(value, brief(round(value, 12))) for value in values]


def _row(axis: Axis, value: float, rows: int) -> int:
    """The row of cells a value is on, 0 on top."""
    return int((rows * 4 - 1 - round(float(axis.place(value)) * (rows * 4 - 1))) // 4)


def _draw_frame(
    picture: Picture,
    plot: Plot,
    y_ticks: list[tuple[float, str]],
    left: int,
    columns: int,
    rows: int,
) -> None:
    for row in range(rows):
        picture.write(row, left - 1, "│", AXIS)
    for value, label in y_ticks:
        row = _row(plot.y, value, rows)
        picture.write(row, 0, f"{label:>{left - 1}}┤", AXIS)
        picture.write(row, left, "┈" * columns, GRID)
    picture.write(rows, left - 1, "└" + "─" * columns, AXIS)
    end = left + columns - len(plot.x.label)
    picture.write(rows + 1, end, plot.x.label, AXIS)
    end -= bool(plot.x.label)
    free = 0
    for value, label in _labels(plot.x.ticks(max(2, columns // 10))):
        column = left + round(float(plot.x.place(value)) * (columns - 1))
        start = min(max(column - len(label) // 2, left - 1), left + columns - len(label))
        if start >= free and start + len(label) <= end:
            picture.write(rows, column, "┬", AXIS)
            picture.write(rows + 1, start, label, AXIS)
            free = start + len(label) + 1


def _draw_curves(picture: Picture, plot: Plot) -> None:
    """Draw every line and whisker; each cell goes to the series with most dots in it."""
    rows, columns = picture.characters.shape
    dots = np.zeros((len(plot.series), rows * 4, columns * 2), dtype=bool)
    for layer, series in zip(dots, plot.series, strict=True):
        x, y = _dots_of(plot, series, series.ys, layer.shape)
        if not series.mark:
            _draw_line(layer, x, y)
        elif series.low is not None and series.high is not None:
            _draw_whiskers(layer, plot, series)
    cells = dots.reshape(len(plot.series), rows, 4, columns, 2)
    bits = (cells.any(axis=0) * _BITS[:, None, :]).sum(axis=(1, 3))
    if bits.any():
        drawn = bits > 0
        picture.characters[drawn] = [chr(0x2800 + int(bit)) for bit in bits[drawn]]
        owners = np.array([_owner(plot, number) for number in range(len(plot.series))])
        picture.owners[drawn] = owners[cells.sum(axis=(2, 4)).argmax(axis=0)[drawn]]


def _owner(plot: Plot, number: int) -> int:
    """The colour of a series."""
    colour = plot.series[number].colour
    return number if colour is None else colour


def _dots_of(
    plot: Plot, series: Series, values: ArrayLike, shape: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Dot columns and dot rows (0 on top) of the points that can be shown."""
    axis = plot.right if series.right and plot.right else plot.y
    x, y = plot.x.place(series.xs), axis.place(values)
    known = np.isfinite(x) & np.isfinite(y)
    height, width = shape
    columns = np.rint(x[known] * (width - 1)).astype(np.int64)
    return columns, height - 1 - np.rint(y[known] * (height - 1)).astype(np.int64)


def _draw_line(layer: NDArray[np.bool_], x: NDArray[np.int64], y: NDArray[np.int64]) -> None:
    """Join points, keeping the extremes of every dot column: the work is bounded by the screen."""
    if x.size == 0:
        return
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    columns, first = np.unique(x, return_index=True)
    last = np.append(first[1:], x.size) - 1
    every = np.arange(columns[0], columns[-1] + 1)
    ends = np.repeat(columns, 2).astype(np.float64) + np.tile([-0.25, 0.25], columns.size)
    between = np.rint(np.interp(every, ends, np.stack([y[first], y[last]], axis=1).ravel()))
    top, bottom = between.copy(), between.copy()
    at = columns - columns[0]
    top[at], bottom[at] = np.minimum.reduceat(y, first), np.maximum.reduceat(y, first)
    _close_gaps(top, bottom)
    row = np.arange(layer.shape[0])[:, None]
    layer[:, every] |= (row >= top) & (row <= bottom)


def _close_gaps(top: Floats, bottom: Floats) -> None:
    """Stretch each column to touch the one before it."""
    falls, rises = top[1:] > bottom[:-1] + 1, bottom[1:] < top[:-1] - 1
    above, below = bottom[:-1] + 1, top[:-1] - 1
    top[1:][falls] = above[falls]
    bottom[1:][rises] = below[rises]


def _draw_whiskers(layer: NDArray[np.bool_], plot: Plot, series: Series) -> None:
    assert series.low is not None
    assert series.high is not None
    x, bottom = _dots_of(plot, series, series.low, layer.shape)
    _, top = _dots_of(plot, series, series.high, layer.shape)
    for column, low, high in zip(x, bottom, top, strict=True):
        layer[high : low + 1, column] = True


def _draw_marks(picture: Picture, plot: Plot) -> None:
    rows, columns = picture.characters.shape
    for number, series in enumerate(plot.series):
        if series.mark:
            x, y = _dots_of(plot, series, series.ys, (rows * 4, columns * 2))
            picture.characters[y // 4, x // 2] = series.mark
            picture.owners[y // 4, x // 2] = _owner(plot, number)


def _draw_legend(picture: Picture, plot: Plot) -> None:
    """Write the legend into the corner where it hides the fewest marks, the top right if it may."""
    named = [(number, series) for number, series in enumerate(plot.series) if series.label]
    texts = [f" {series.mark or '━'} {series.label}" for _, series in named]
    rows, columns = picture.characters.shape
    while texts and sum(map(len, texts)) > columns:
        texts.pop(0)
        named.pop(0)
    width = sum(map(len, texts))
    right = columns - width
    hidden = _marked(plot, rows, columns)
    row, column = min(
        ((0, right), (rows - 1, right), (rows - 1, 0)),
        key=lambda at: hidden[at[0], at[1] : at[1] + width].sum(),
    )
    for (number, _), text in zip(named, texts, strict=True):
        picture.write(row, column, text, _owner(plot, number))
        column += len(text)


def _marked(plot: Plot, rows: int, columns: int) -> NDArray[np.bool_]:
    """Which cells (H, W) hold a mark."""
    cells = np.zeros((rows, columns), dtype=bool)
    for series in plot.series:
        if series.mark:
            x, y = _dots_of(plot, series, series.ys, (rows * 4, columns * 2))
            cells[y // 4, x // 2] = True
    return cells
