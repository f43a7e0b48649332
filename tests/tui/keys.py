"""Writes docs/keys.md from the bindings: python -m tests.tui.keys > docs/keys.md."""

import sys

from textual.binding import Binding
from textual.keys import format_key

from wakeword_tui.app import scopes

HEAD = """# Keys

`?` shows those that work where you are. Each has a name, by which `[keys]` of the config file
gives it another key (`wakeword-tui paths` says where): `app.log = "L"`, or several: `"L,9"`.
"""


def page() -> str:
    """Every key of the app: those of all screens, then what each screen has of its own."""
    found = scopes()
    shared = [b for b in found["setup"] if all(b in bindings for bindings in found.values())]
    lists = [b for b in found["setup"] if b not in shared and b in found["log"]]
    parts = [table("Everywhere", shared), table("On every screen but Record", lists)]
    for name, bindings in found.items():
        own = [b for b in bindings if b not in shared and (b not in lists or name == "record")]
        parts += [table(name.capitalize(), own)]
    return "\n".join([HEAD, *(part for part in parts if part)])


def table(title: str, bindings: list[Binding]) -> str:
    """Keys, what they do, and their names."""
    rows = [f"| {_keys(b)} | {b.description} | `{b.id}` |" for b in bindings]
    return "\n".join([f"## {title}", "", "| key | does | name |", "|---|---|---|", *rows, ""])


def _keys(binding: Binding) -> str:
    return ", ".join(f"`{format_key(key)}`" for key in binding.key.split(","))


if __name__ == "__main__":
    sys.stdout.write(page())
