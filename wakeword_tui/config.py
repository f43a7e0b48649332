"""Where the app keeps its own things, what a person has set, and the keys.

`$XDG_CONFIG_HOME/wakeword-tui/config.toml` may hold

    theme = "wakeword-light"
    audio = "pipe"
    [keys]
    "train.pause" = "P"
    [ui]
    on_hangup = "continue"      # a lost terminal: train on; "checkpoint" (default) saves and ends
    ascii = true                # draw in ASCII alone; by default as the locale has it
    [judge]
    url = "https://judge.example.org"
    token_file = "judge.token"
    ca_file = "authority.pem"
    timeout_s = 2.0
    on_failure = "reject"

Paths are relative to the file's folder.
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from textual.binding import Binding

    from engine.judge import Judge, OnFailure

APP = "wakeword-tui"
KNOWN = {"theme", "audio", "keys", "judge", "ui"}
FILES = ("token_file", "ca_file")
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
class JudgeConfig:
    """Which judge is asked, and what happens where it fails; without a `url` none is."""

    url: str = ""
    token_file: Path | None = None
    ca_file: Path | None = None
    timeout_s: float = 2.0
    on_failure: "OnFailure" = "reject"

    def open(self) -> "Judge":
        """The judge's client, with the token of the file or the environment. Raises JudgeError."""
        from engine.judge import Judge, read_token

        token = read_token(self.token_file)
        return Judge(self.url, token, timeout_s=self.timeout_s, ca_file=self.ca_file)


@dataclass(frozen=True, slots=True)
class Config:
    """What the config file says; `problems` is what could not be used."""

    theme: str = ""
    audio: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    judge: JudgeConfig = JudgeConfig()
    on_hangup: OnHangup = "checkpoint"
    ascii: bool | None = None
    """Whether to draw in ASCII alone; None as the locale has it."""
    problems: tuple[str, ...] = ()


def typed_path(text: str) -> Path:
    """A path that a person types, with `~` for a home; of somebody who has none it stays as it is.

    While it is typed it may be any text: `Path.expanduser` would raise.
    """
    return Path(os.path.expanduser(text.strip()))  # noqa: PTH111 -- raises nothing


def read_config(path: Path) -> Config:
    """Read the config file; a missing one is empty, a wrong one says so and is left out."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return Config(problems=(f"{path}: {error}",))
    problems = [f"{path}: no such key {key!r}" for key in tables.keys() - KNOWN]
    words = {key: tables.get(key, "") for key in ("theme", "audio")}
    keys = tables.get("keys", {})
    for key in [key for key, word in words.items() if not isinstance(word, str)]:
        words[key] = ""
        problems.append(f"{path}: {key} must be a name")
    if not (isinstance(keys, dict) and all(isinstance(key, str) for key in keys.values())):
        keys = {}
        problems.append(f"{path}: [keys] must map names of bindings to keys")
    judge = _judge(tables.get("judge", {}), path, problems)
    on_hangup, plain, wrong = _ui(tables.get("ui", {}))
    problems += [f"{path}: {why}" for why in wrong]
    return Config(
        **words, keys=keys, judge=judge, on_hangup=on_hangup, ascii=plain, problems=tuple(problems)
    )


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


def _judge(table: Any, path: Path, problems: list[str]) -> JudgeConfig:
    """The table of the judge; a value that is wrong is left out, and said."""
    if not isinstance(table, dict):
        problems.append(f"{path}: judge must be a table")
        return JudgeConfig()
    readers = {"url": _text, "timeout_s": _seconds, "on_failure": _policy}
    readers |= {name: lambda value: path.parent / _text(value) for name in FILES}
    found: dict[str, Any] = {}
    for key, value in table.items():
        try:
            found[key] = readers[key](value)
        except KeyError:
            problems.append(f"{path}: no such key 'judge.{key}'")
        except ValueError as error:
            problems.append(f"{path}: judge.{key} must be {error}")
    return JudgeConfig(**found)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 60:
        raise ValueError("seconds, above 0 and at most 60")
    return float(value)


def _policy(value: object) -> "OnFailure":
    if value == "accept":
        return "accept"
    if value == "reject":
        return "reject"
    raise ValueError("'accept' or 'reject'")


def clashes(keys: Mapping[str, str], scopes: "Mapping[str, Iterable[Binding]]") -> list[str]:
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
