"""QueueList: the pile as a list. Only the rows on the screen are read and drawn."""

from collections.abc import Callable
from typing import ClassVar, TypeAlias

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget

from engine.queue_store import QueueItem
from wakeword_tui.pile import Pile
from wakeword_tui.told import SIGNS, clock, fitted, position, title
from wakeword_tui.widgets.menu import Menu

WIDE = 36
"""Columns from which lengths are shown."""
FARTHEST = 10**9
Move: TypeAlias = Callable[[int, bool], None]
"""Go down by rows, or, if so told, by screenfuls; up where the number is negative."""
CURSOR = "$block-cursor-foreground on $block-cursor-background"


class Mover(Widget, can_focus=True):
    """What has the keys of a list, and moves at once.

    A message would arrive after the next key, where keys are typed ahead: that would act on a row
    that was left.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        binding
        for binding in Menu.BINDINGS
        if isinstance(binding, Binding) and binding.id != "list.open"
    ]

    def __init__(self, move: Move, *, id: str | None = None) -> None:  # noqa: A002 -- as Widget
        super().__init__(id=id)
        self._move = move

    def action_cursor_down(self) -> None:
        """One row down."""
        self._move(1, False)

    def action_cursor_up(self) -> None:
        """One row up."""
        self._move(-1, False)

    def action_page_down(self) -> None:
        """As many rows down as are shown."""
        self._move(1, True)

    def action_page_up(self) -> None:
        """As many rows up as are shown."""
        self._move(-1, True)

    def action_first(self) -> None:
        """To the top."""
        self._move(-FARTHEST, False)

    def action_last(self) -> None:
        """To the bottom."""
        self._move(FARTHEST, False)


class QueueList(Mover):
    """A window on a pile that follows its cursor."""

    def __init__(self, move: Move, *, id: str | None = None) -> None:  # noqa: A002 -- as Widget
        super().__init__(move, id=id)
        self._first = 0
        self._content = Content("")

    @property
    def rows(self) -> int:
        """Rows for items, below the header."""
        return max(self.size.height - 1, 1)

    @property
    def text(self) -> str:
        """The rows that are shown."""
        return self._content.plain

    def show(self, pile: Pile | None) -> None:
        """Show a pile as it is now. Raises DataError where it cannot be read."""
        lines = []
        if pile is not None and pile.ids:
            lowest = max(len(pile.ids) - self.rows, 0)
            self._first = min(max(self._first, pile.at - self.rows + 1, 0), pile.at, lowest)
            rows = pile.page(self._first, self.rows)
            lines = [self._header(), *(self._line(item, pile) for item in rows)]
            self.border_title, self.border_subtitle = title(pile), position(pile)
        else:
            self.border_title, self.border_subtitle = "queue", ""
        content = Content("\n").join(lines)
        if not content.is_same(self._content):
            self._content = content
            self.refresh()

    def render(self) -> Content:
        """The header and the rows."""
        return self._content

    def _line(self, item: QueueItem, pile: Pile) -> Content:
        sign, style = SIGNS[item.decision]
        find = item.find
        length = f"{find.end_s - find.start_s:4.1f}s " if self.size.width >= WIDE else ""
        about = ("!" if item.flagged else "") + ("n" if item.note else "")
        head = Content.assemble(
            ("*" if item.id in pile.marked else " ", "$now"),
            (f"{sign} ", style),
            f"{find.score:.3f} {length}{clock(find.time_s, tenths=False):>7} ",
            (f"{about} " if about else "", "$now"),
        )
        name = fitted(find.path, max(self.size.width - head.cell_length, 2))
        line = (head + name).truncate(self.size.width, ellipsis=True, pad=True)
        return line.stylize_before(CURSOR) if item.id == pile.current else line

    def _header(self) -> Content:
        length = "  len " if self.size.width >= WIDE else ""
        return Content.styled(f"   score {length}     at recording", "$dim")
