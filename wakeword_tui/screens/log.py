"""Log answers "what happened?"."""

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input

from wakeword_tui.screens.page import Page
from wakeword_tui.store import Entry
from wakeword_tui.widgets.menu import Menu

STYLES = {"info": "$dim", "warn": "$warning", "error": "$error"}
SIGNS = {"info": "·", "warn": "!", "error": "✗"}


class LogScreen(Page):
    """Events of the run in front and notes of the app, oldest first."""

    TITLE = "Log"
    PANELS = "#lines"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/", id="log.filter"),
    ]

    def body(self) -> Iterable[Widget]:
        """The lines and the filter."""
        yield Menu("log", id="lines")
        yield Input(id="filter", placeholder="filter", compact=True)

    def on_mount(self) -> None:
        """Begin in the lines."""
        self.query_one("#lines").focus()

    def copyable(self) -> str:
        """Every line that is shown."""
        return "\n".join(line for entry in self._wanted() for line in entry.lines())

    def paint(self) -> None:
        """Show the entries; a cursor on the last one stays on the last one."""
        lines = self.query_one("#lines", Menu)
        lines.border_title = f"log of run {self.desk.shown.name}" if self.desk.shown else "log"
        following = lines.highlighted in (None, lines.option_count - 1)
        before = lines.option_count
        lines.show([(str(n), styled(entry)) for n, entry in enumerate(self._wanted())])
        if following and lines.option_count != before:
            lines.action_last()

    def _wanted(self) -> list[Entry]:
        text = self.query_one("#filter", Input).value.lower()
        return [e for e in self.desk.entries() if text in "\n".join(e.lines()).lower()]

    def action_filter(self) -> None:
        """Type what lines must hold."""
        self.query_one("#filter", Input).add_class("-open").focus()

    def action_back(self) -> None:
        """Show every line again."""
        line = self.query_one("#filter", Input)
        line.value = ""
        line.remove_class("-open")
        self.query_one("#lines").focus()
        super().action_back()

    @on(Input.Changed, "#filter")
    def _filtered(self) -> None:
        self.paint()

    @on(Input.Submitted, "#filter")
    def _kept(self) -> None:
        self.query_one("#lines").focus()


def styled(entry: Entry) -> Content:
    """An entry in colours, its detail dim."""
    head, *detail = entry.lines()
    clock, rest = head[:8], head[15:]
    style = STYLES[entry.level]
    return Content("\n").join(
        [
            Content.assemble((clock, "$dim"), (f" {SIGNS[entry.level]} ", style), rest),
            *(Content.assemble((line, "$dim")) for line in detail),
        ]
    )
