"""Keys: the last line of a screen, the keys that do something there now."""

from textual.binding import ActiveBinding
from textual.content import Content
from textual.events import MouseDown
from textual.screen import Screen
from textual.style import Style
from textual.widget import Widget


class Keys(Widget):
    """The active keys and what they do, each to be clicked too.

    Textual's own footer makes a widget of each key anew with every change of screen. Such widgets
    refer to each other in circles, and stay until the collector comes by: with torch in memory
    once in many minutes.
    """

    ALLOW_SELECT = False

    def on_mount(self) -> None:
        """Follow what is active."""
        self.screen.bindings_updated_signal.subscribe(self, self._others)

    def _others(self, _: Screen[object]) -> None:
        self.refresh()

    def render(self) -> Content:
        """The keys in one line; one that does nothing now is dim."""
        shown = dict[str, ActiveBinding]()
        for active in self.screen.active_bindings.values():
            if active.binding.show:
                shown.setdefault(active.binding.action, active)
        return Content("  ").join(self._told(active) for active in shown.values())

    def _told(self, active: ActiveBinding) -> Content:
        binding, faint = active.binding, "" if active.enabled else " dim"
        told = Content.assemble(
            (self.app.get_key_display(binding), f"$footer-key-foreground bold{faint}"),
            (f" {binding.description}", f"$footer-description-foreground{faint}"),
        )
        return told.stylize(Style.from_meta({"key": binding.key})) if active.enabled else told

    def on_mouse_down(self, event: MouseDown) -> None:
        """Press the key that is under the mouse."""
        if key := event.style.meta.get("key"):
            self.app.simulate_key(key)
