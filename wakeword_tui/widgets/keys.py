"""Keys: the footer, which forgets keys that are no longer shown."""

from textual.app import ComposeResult
from textual.widgets import Footer


class Keys(Footer):
    """The keys of a screen; they are made anew whenever others are active.

    Textual binds each to the footer and lets go of those that are gone only when what is bound
    changes, which here is never: a fifth of a megabyte stayed behind with every change of screen.
    """

    def compose(self) -> ComposeResult:
        """The keys that are active now."""
        self.mutate_reactive(Footer.compact)
        yield from super().compose()
