"""A widget drawn as a whole, again only when what it shows, its size or the theme changes."""

from textual.events import Resize
from textual.strip import Strip
from textual.widget import Widget


class Drawn(Widget):
    """Keeps the strips of its last drawing; `drawn` makes them, `forget` asks for others."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 -- as Widget
        super().__init__(id=id)
        self._strips: list[Strip] | None = None

    def drawn(self) -> list[Strip]:
        """Draw all rows in the present size and colours."""
        return []

    def forget(self) -> None:
        """Draw again."""
        self._strips = None
        self.refresh()

    def on_resize(self, event: Resize) -> None:
        """Draw again for the new size."""
        self.forget()

    def notify_style_update(self) -> None:
        """Draw again in the colours of a new theme."""
        super().notify_style_update()
        self.forget()

    def render_line(self, y: int) -> Strip:
        """One row of the drawing."""
        if self._strips is None:
            self._strips = self.drawn()
        if y < len(self._strips):
            return self._strips[y]
        return Strip.blank(self.size.width, self.rich_style)
