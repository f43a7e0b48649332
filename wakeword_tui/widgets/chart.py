"""Chart: a plot on the screen, redrawn only when its data or its size change."""

from itertools import groupby
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from wakeword_tui.widgets.drawn import Drawn
from wakeword_tui.widgets.raster import AXIS, EMPTY, GRID, Picture, Plot, draw, draw_bare


class Chart(Drawn, can_focus=True):
    """Curves in braille with axes and a legend; colours are the component classes `chart--N`."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "chart--axis",
        "chart--grid",
        "chart--0",
        "chart--1",
        "chart--2",
        "chart--3",
    }

    def __init__(self, title: str, *, bare: bool = False, id: str | None = None) -> None:  # noqa: A002 -- as Widget
        """`bare` leaves the axes out, so that time lies as in the widgets above and below."""
        super().__init__(id=id)
        self.border_title = title
        self.can_focus = not bare
        self._draw = draw_bare if bare else draw
        self.picture = Picture.blank(0, 0)
        self._plot: Plot | None = None

    def show(self, plot: Plot | None) -> None:
        """Show a plot, or nothing."""
        self._plot = plot
        self.forget()

    def drawn(self) -> list[Strip]:
        """Draw the plot."""
        width, height = self.size
        blank = Picture.blank(width, height)
        self.picture = self._draw(self._plot, width, height) if self._plot is not None else blank
        rows = zip(self.picture.characters, self.picture.owners, strict=True)
        styles = self._styles()
        return [_strip("".join(row), owners.tolist(), styles) for row, owners in rows]

    def _styles(self) -> dict[int, Style]:
        named = {AXIS: "chart--axis", GRID: "chart--grid"} | {n: f"chart--{n}" for n in range(4)}
        styles = {owner: self.get_component_rich_style(name) for owner, name in named.items()}
        return styles | {EMPTY: self.rich_style}


def _strip(text: str, owners: list[int], styles: dict[int, Style]) -> Strip:
    """A row as segments, one for each stretch with the same owner."""
    segments, start = [], 0
    for owner, run in groupby(owners):
        end = start + len(list(run))
        segments.append(Segment(text[start:end], styles.get(owner)))
        start = end
    return Strip(segments, len(text))
