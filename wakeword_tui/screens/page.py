"""Page: what the screens have in common."""

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.css.query import NoMatches
from textual.events import Resize
from textual.screen import Screen
from textual.widget import Widget

from wakeword_tui.widgets.keys import Keys
from wakeword_tui.widgets.topbar import TopBar

if TYPE_CHECKING:
    from wakeword_tui.app import WakewordApp
    from wakeword_tui.desk import Desk

TABS = (
    ("1", "Setup"),
    ("2", "Train"),
    ("3", "Search"),
    ("4", "Mine"),
    ("5", "Review"),
    ("6", "Live"),
    ("7", "Cascade"),
    ("8", "Bench"),
    ("9", "Log"),
)
"""Digits of screens that are built; the others keep theirs for later."""


SMALL = (60, 16)
"""Below this many columns or rows one panel is shown at a time."""


class Page(Screen[None]):
    """A screen: a top bar, a body, a footer. It is painted from the app's state, never pushed to.

    `paint` shows everything and is cheap where nothing changed; the app calls it five times a
    second for the screen in front, and it runs when a screen comes to the front.
    """

    TITLE = ""
    PANELS = "Menu"
    """Selects the panels that `tab` goes through where only one is shown at a time."""
    ALLOW_IN_MAXIMIZED_VIEW = "TopBar, ProgressLine, Keys"
    _built = False
    _small = False
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (16, "-short"), (30, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "Copy", show=False, id="page.copy"),
        Binding("z", "zoom", "Zoom panel", show=False, id="page.zoom"),
        Binding("escape", "back", "Back", show=False, id="page.back"),
        Binding("tab", "panel(1)", "Next panel", show=False, id="page.next"),
        Binding("shift+tab", "panel(-1)", "Panel before", show=False, id="page.before"),
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
        yield Keys()

    def body(self) -> Iterable[Widget]:
        """The panels between the bars."""
        return ()

    def paint(self) -> None:
        """Show the present state."""

    def copyable(self) -> str:
        """What `y` copies."""
        return ""

    def status(self) -> list[Content]:
        """The right end of the top bar, in parts of falling importance."""
        return self.desk.status()

    def repaint(self) -> None:
        """Paint the top bar and the body, once they are there."""
        if self._built:
            with contextlib.suppress(NoMatches):  # it is being taken down
                self.query_one(TopBar).show(*self.status())
                self.paint()

    def on_mount(self) -> None:
        """Paint for the first time; Textual calls this after a screen's own `on_mount`."""
        self._built = True
        self.repaint()

    def on_screen_resume(self) -> None:
        """Paint on coming to the front."""
        self.repaint()

    def on_resize(self, event: Resize) -> None:
        """Show one panel at a time where there is no room for more."""
        small = event.size.width < SMALL[0] or event.size.height < SMALL[1]
        if small != self._small:
            self._small = small
            self._show_panel(0) if small else self.minimize()

    def action_panel(self, step: int) -> None:
        """Go to the next panel, or to the one before."""
        if self._small:
            self._show_panel(step)
        elif step > 0:
            self.focus_next()
        else:
            self.focus_previous()

    def _show_panel(self, step: int) -> None:
        """Give the whole screen to a panel beside the one that is shown or has the focus."""
        panels = [panel for panel in self.query(self.PANELS) if panel.display]
        around = self.focused.ancestors_with_self if self.focused is not None else []
        here = [panel for panel in panels if panel is self.maximized or panel in around]
        panel = panels[(panels.index(here[0]) + step) % len(panels)] if here else panels[0]
        inside = [panel, *panel.query("*")]
        self.set_focus(next((widget for widget in inside if widget.focusable), None))
        self.maximized = panel

    def action_copy(self) -> None:
        """Copy what this screen is about."""
        if text := self.copyable():
            self.app.copy_to_clipboard(text)
            self.app.notify(f"{len(text.splitlines())} lines copied", timeout=2)

    def action_zoom(self) -> None:
        """Give the panel in focus the whole screen, or give it back."""
        if self._small:
            return
        if self.maximized is not None:
            self.minimize()
        elif self.focused is not None:
            self.maximize(self.focused)

    def action_back(self) -> None:
        """Leave the zoom."""
        if self.maximized is not None and not self._small:
            self.minimize()
