"""`data check` looks a data folder over, `data import` makes a manifest of recordings."""

from wakeword_tui.commands.arguments import Verbs


def add(verbs: Verbs) -> None:
    """Declare the commands."""
