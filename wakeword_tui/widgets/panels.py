"""Panels of text that change while one looks: facts, lines, progress.

Each keeps what it showed last and repaints only when that changes.
"""

from collections.abc import Sequence

from textual.content import Content
from textual.widget import Widget


class Lines(Widget):
    """Lines of styled text that are cut, never wrapped."""

    def __init__(self, title: str = "", *, id: str | None = None) -> None:  # noqa: A002 -- as Widget
        super().__init__(id=id)
        self.border_title = title
        self._content = Content("")

    @property
    def text(self) -> str:
        """What the panel says, for the clipboard."""
        return self._content.plain

    def show(self, *lines: Content | str | tuple[str, str]) -> None:
        """Show lines: plain, assembled, or (text, style)."""
        parts = [Content.assemble(line) for line in lines]
        content = Content("\n").join(parts)
        if not content.is_same(self._content):
            self._content = content
            self.refresh(layout=self.styles.auto_dimensions)

    def render(self) -> Content:
        """The lines."""
        return self._content


class Facts(Widget):
    """Names on the left, values on the right; a row without a name is a gap or goes on."""

    def __init__(self, title: str = "", *, id: str | None = None) -> None:  # noqa: A002 -- as Widget
        super().__init__(id=id)
        self.border_title = title
        self._rows: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """What the panel says, for the clipboard."""
        return "\n".join(f"{name:<12} {value}".rstrip() for name, value in self._rows)

    def show(self, rows: Sequence[tuple[str, str]]) -> None:
        """Show these rows."""
        if tuple(rows) != self._rows:
            self._rows = tuple(rows)
            self.refresh()

    def render(self) -> Content:
        """The rows, as wide as the panel."""
        return Content("\n").join(_fact(name, value, self.size.width) for name, value in self._rows)


def _fact(name: str, value: str, width: int) -> Content:
    room = max(1, width - len(name) - len(value))
    return Content.assemble((name, "$dim"), " " * room, value)


class ProgressLine(Widget):
    """One line: a bar as wide as there is room, and what it means."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 -- as Widget
        super().__init__(id=id)
        self._done = (0, 0)
        self._text = ""

    def show(self, done: int, total: int, text: str) -> None:
        """Show `done` of `total`, no bar while the total is unknown, and a text beside it."""
        if (self._done, self._text) != ((done, total), text):
            self._done, self._text = (done, total), text
            self.refresh()

    def render(self) -> Content:
        """The line."""
        done, total = self._done
        text = f"  {self._text}" if self._text else ""
        width = max(0, self.size.width - len(text))
        full = round(width * min(done / total, 1.0)) if total else 0
        return Content.assemble(("━" * full, "$primary"), ("━" * (width - full), "$grid"), text)
