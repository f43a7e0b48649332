"""Where the app keeps its own things, and the keys a person has changed.

`$XDG_CONFIG_HOME/wakeword-tui/config.toml` may hold

    theme = "wakeword-light"
    [keys]
    "train.pause" = "P"
    [ui]
    on_hangup = "continue"      # a lost terminal: train on; "checkpoint" (default) saves and ends
    ascii = true                # draw in ASCII alone; by default as the locale has it
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from textual.binding import Binding

APP = "wakeword-tui"
OnHangup = Literal["checkpoint", "continue"]


def config_path() -> Path:
    """The file a person writes."""
    return _home("XDG_CONFIG_HOME", ".config") / APP / "config.toml"


def log_path() -> Path:
    """Where everything goes that would else be printed over the screen."""
    folder = _home("XDG_STATE_HOME", ".local/state") / APP
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "terminal.log").touch()
    except OSError:  # a home that cannot be written keeps nobody from working
        return Path(os.devnull)
    return folder / "terminal.log"


def _home(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / default)


@dataclass(frozen=True, slots=True)
class Config:
    """What the config file says; `problems` is what could not be used."""

    theme: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    on_hangup: OnHangup = "checkpoint"
    ascii: bool | None = None
    """Whether to draw in ASCII alone; None as the locale has it."""
    problems: tuple[str, ...] = ()


def read_config(path: Path) -> Config:
    """Read the config file; a missing one is empty, a wrong one says so and is left out."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return Config(problems=(f"{path}: {error}",))
    problems = [f"{path}: no such key {key!r}" for key in tables.keys() - {"theme", "keys", "ui"}]
    theme, keys = tables.get("theme", ""), tables.get("keys", {})
    if not isinstance(theme, str):
        theme = ""
        problems.append(f"{path}: theme must be a name")
    if not (isinstance(keys, dict) and all(isinstance(key, str) for key in keys.values())):
        keys = {}
        problems.append(f"{path}: [keys] must map names of bindings to keys")
    on_hangup, plain, wrong = _ui(tables.get("ui", {}))
    problems += [f"{path}: {why}" for why in wrong]
    return Config(theme, keys, on_hangup, plain, tuple(problems))


def _ui(ui: object) -> tuple[OnHangup, bool | None, list[str]]:
    """What `[ui]` says of a lost terminal and of letters, and what is wrong with that table."""
    if not isinstance(ui, dict):
        return "checkpoint", None, ["[ui] must be a table"]
    problems = [f"no such key {f'ui.{key}'!r}" for key in ui.keys() - {"on_hangup", "ascii"}]
    on_hangup, plain = ui.get("on_hangup", "checkpoint"), ui.get("ascii")
    if on_hangup not in get_args(OnHangup):
        on_hangup = "checkpoint"
        problems.append('ui.on_hangup is "checkpoint" or "continue"')
    if plain not in (None, True, False):
        plain = None
        problems.append("ui.ascii is true or false")
    return on_hangup, plain, problems


def clashes(keys: Mapping[str, str], scopes: Mapping[str, Iterable[Binding]]) -> list[str]:
    """What is wrong with changed keys: unknown names, and two bindings of a scope on one key.

    A scope is all the bindings that are active together, by its name.
    """
    known = {binding.id for bindings in scopes.values() for binding in bindings}
    found = [f"[keys] {name}: there is no such binding" for name in keys if name not in known]
    for scope, bindings in scopes.items():
        taken: dict[str, str] = {}
        for binding in bindings:
            name = binding.id or binding.action
            for key in keys.get(name, binding.key).split(","):
                other = taken.setdefault(key.strip(), name)
                if other != name and {other, name} & keys.keys():
                    found.append(f"[keys] {key.strip()} is both {other} and {name} in {scope}")
    return list(dict.fromkeys(found))
