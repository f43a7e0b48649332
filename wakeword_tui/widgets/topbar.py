"""TopBar: the name, the screens, and what the job does, in one line."""

from collections.abc import Sequence

from textual.content import Content
from textual.widget import Widget


class TopBar(Widget):
    """One line on top of every screen. Names of screens shrink to digits when room is short."""

    def __init__(self, tabs: Sequence[tuple[str, str]], current: str) -> None:
        """`tabs` are the digit and title of each screen; `current` is the title of this one."""
        super().__init__()
        self._tabs = tabs
        self._current = current
        self._status = Content("")

    def show(self, status: Content) -> None:
        """Say what goes on, on the right."""
        if not status.is_same(self._status):
            self._status = status
            self.refresh()

    def render(self) -> Content:
        """The line."""
        room = self.size.width - self._status.cell_length - 2
        names = self._names(short=False)
        if names.cell_length > room:
            names = self._names(short=True)
        gap = " " * max(1, self.size.width - names.cell_length - self._status.cell_length - 1)
        return Content.assemble(names, gap, self._status, " ")

    def _names(self, *, short: bool) -> Content:
        parts: list[tuple[str, str]] = [(" wakeword ", "bold $primary")]
        for digit, title in self._tabs:
            here = title == self._current
            text = f" {digit} {title} " if here or not short else f" {digit} "
            parts.append((text, "bold $background on $primary" if here else "$dim"))
        return Content.assemble(*parts)
