"""TopBar: the name, the screens, and what the job does, in one line."""

from collections.abc import Sequence

from textual.content import Content
from textual.widget import Widget


class TopBar(Widget):
    """One line on top of every screen.

    When room is short, names of screens shrink to digits, and then parts of the status go, the
    last ones first.
    """

    def __init__(self, tabs: Sequence[tuple[str, str]], current: str) -> None:
        """`tabs` are the digit and title of each screen; `current` is the title of this one."""
        super().__init__()
        self._tabs = tabs
        self._current = current
        self._status: tuple[Content, ...] = ()

    def show(self, *status: Content) -> None:
        """Say what goes on, on the right, the most important part first."""
        if status != self._status:
            self._status = status
            self.refresh()

    def render(self) -> Content:
        """The line."""
        status = Content("  ").join(self._status)
        names = self._names(short=False)
        if names.cell_length + status.cell_length + 2 > self.size.width:
            names = self._names(short=True)
            status = self._fitting(self.size.width - names.cell_length - 2)
        gap = " " * max(1, self.size.width - names.cell_length - status.cell_length - 1)
        return Content.assemble(names, gap, status, " ")

    def _fitting(self, room: int) -> Content:
        """As many parts of the status as there is room for, the first one in any case."""
        parts = self._status
        while len(parts) > 1 and sum(part.cell_length + 2 for part in parts) - 2 > room:
            parts = parts[:-1]
        return Content("  ").join(parts)

    def _names(self, *, short: bool) -> Content:
        parts: list[tuple[str, str]] = [(" wakeword ", "bold $primary")]
        for digit, title in self._tabs:
            here = title == self._current
            text = f" {digit} {title} " if here or not short else f" {digit} "
            parts.append((text, "bold $background on $primary" if here else "$dim"))
        return Content.assemble(*parts)
