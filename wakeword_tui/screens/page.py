"""Page: what the screens have in common."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer

from wakeword_tui.widgets.topbar import TopBar

if TYPE_CHECKING:
    from wakeword_tui.app import WakewordApp
    from wakeword_tui.desk import Desk

TABS = (("1", "Setup"), ("2", "Train"), ("8", "Bench"), ("9", "Log"))
"""Digits of screens that are built; the others keep theirs for later."""


class Page(Screen[None]):
    """A screen: a top bar, a body, a footer. It is painted from the app's state, never pushed to.

    `paint` shows everything and is cheap where nothing changed; the app calls it five times a
    second for the screen in front, and it runs when a screen comes to the front.
    """

    TITLE = ""
    _built = False
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (16, "-short"), (30, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "Copy", show=False, id="page.copy"),
        Binding("z", "zoom", "Zoom panel", show=False, id="page.zoom"),
        Binding("escape", "back", "Back", show=False, id="page.back"),
    ]

    @property
    def house(self) -> "WakewordApp":
        """The app, by its own type."""
        return cast("WakewordApp", self.app)

    @property
    def desk(self) -> "Desk":
        """The state that screens show."""
        return self.house.desk

    def compose(self) -> ComposeResult:
        """The bar, the body, and the keys."""
        yield TopBar(TABS, self.TITLE)
        yield from self.body()
        yield Footer(compact=True, show_command_palette=False)

    def body(self) -> Iterable[Widget]:
        """The panels between the bars."""
        return ()

    def paint(self) -> None:
        """Show the present state."""

    def copyable(self) -> str:
        """What `y` copies."""
        return ""

    def repaint(self) -> None:
        """Paint the top bar and the body, once they are there."""
        if self._built:
            self.query_one(TopBar).show(self.desk.status())
            self.paint()

    def on_mount(self) -> None:
        """Paint for the first time; Textual calls this after a screen's own `on_mount`."""
        self._built = True
        self.repaint()

    def on_screen_resume(self) -> None:
        """Paint on coming to the front."""
        self.repaint()

    def action_copy(self) -> None:
        """Copy what this screen is about."""
        if text := self.copyable():
            self.app.copy_to_clipboard(text)
            self.app.notify(f"{len(text.splitlines())} lines copied", timeout=2)

    def action_zoom(self) -> None:
        """Give the panel in focus the whole screen, or give it back."""
        if self.maximized is not None:
            self.minimize()
        elif self.focused is not None:
            self.maximize(self.focused)

    def action_back(self) -> None:
        """Leave the zoom."""
        if self.maximized is not None:
            self.minimize()
