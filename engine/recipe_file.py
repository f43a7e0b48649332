"""Recipe files: `load` reads one, `override` changes a recipe, `dump` writes it back.

`override` is the only way to change a recipe: for the form, `--set`, a search, a fork.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard, get_args

import tomli_w
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from engine.errors import RecipeError
from engine.recipe import Recipe
from engine.section import Section

PATHS = frozenset({
    "data.manifest", "data.sources", "data.train_sources", "data.words", "train.init",
    "distill.teachers.path",
})  # fmt: skip
NUMBER = re.compile(r"\[\d+\]")
NAMES_OR_PATHS = frozenset({"model.pretrained", "distill.baseline"})

PATTERN = "at most 41 letters, digits, dots, dashes and underscores, a letter or digit first"
"""What the pattern of a recipe's name says, in words; no other key has one."""


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe file, with `overrides` by dotted path on top.

    Paths inside the file are relative to it; they come out absolute. Raises RecipeError with every
    problem at once.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read recipe {path}: {error}", hint="give a TOML file") from error
    return loads(text, path.parent, overrides, name=str(path))


def loads(
    text: str, folder: Path, overrides: Mapping[str, Any] | None = None, name: str = "recipe"
) -> Recipe:
    """Read a recipe from TOML text whose paths are relative to `folder`."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{name} is not TOML: {error}", hint="see docs/recipe.md") from error
    tables = _absolute(tables, folder)
    for key, value in (overrides or {}).items():
        _put(tables, key, value)
    return _validate(tables, name)


def override(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with values changed by dotted path, `{"train.lr": 3e-4}`."""
    tables = to_tables(recipe)
    for key, value in changes.items():
        _put(tables, key, value)
    return _validate(tables, "the changed recipe")


def parse_setting(text: str, folder: Path) -> tuple[str, Any]:
    """Read one `key=value` of the command line; the value is TOML, or else a plain string.

    Paths are relative to `folder`, the working directory.
    """
    key, sign, raw = text.partition("=")
    if not sign:
        raise RecipeError(f"--set {text!r} has no '='", hint="write --set train.lr=0.001")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw
    key = key.strip()
    place = NUMBER.sub("", key)
    placed = _placed(place, value, folder)
    if placed != value or place in PATHS:
        value = placed
    elif isinstance(field_at(key), FieldInfo) and field_at(key).annotation is str:  # type: ignore[union-attr]
        value = raw.strip("\"'")
    return key, value


def to_tables(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as nested plain tables, without the keys that are not set."""
    return recipe.model_dump(mode="json", exclude_none=True)


def dump(recipe: Recipe) -> str:
    """Render the recipe as TOML that `loads` reads back to the same recipe."""
    return tomli_w.dumps(to_tables(recipe))


def schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe file."""
    return Recipe.model_json_schema()


def fields() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting as its dotted path and field, in the order of the file."""
    for name, field in Recipe.model_fields.items():
        kind = field.annotation
        if _is_section(kind):
            yield from ((f"{name}.{key}", inner) for key, inner in kind.model_fields.items())
        else:
            yield name, field


def field_at(path: str) -> FieldInfo | None:
    """Return the field at a dotted path, None where there is none.

    That of a table in a list has the table's number: `distill.teachers[0].path`.
    """
    name, numbered, key = path.partition("].")
    field = dict(fields()).get(name.partition("[")[0] if numbered else path)
    if field is None or not numbered:
        return field
    (kind, *_) = get_args(field.annotation) or (None,)
    return kind.model_fields.get(key) if _is_section(kind) else None


def _is_section(kind: Any) -> TypeGuard[type[Section]]:
    return isinstance(kind, type) and issubclass(kind, Section)


def _put(tables: dict[str, Any], path: str, value: Any) -> None:
    """Set a value by dotted path; None unsets it. A path that leads nowhere fails validation."""
    *parents, key = path.split(".")
    for parent in parents:
        tables = _table(tables, parent)
    tables[key] = value


def _table(tables: dict[str, Any], name: str) -> dict[str, Any]:
    """The table `name`, or that of a list, `name[0]`; the next one of a list is made."""
    found = tables.get(name)
    numbered = re.fullmatch(r"(\w+)\[(\d+)\]", name)
    if numbered and isinstance(listed := tables.setdefault(numbered[1], []), list):
        number = int(numbered[2])
        if number == len(listed):
            listed.append({})
        found = listed[number] if number < len(listed) else None
    if not isinstance(found, dict):
        found = tables[name] = {}
    return found


def _resolve(value: Any, folder: Path) -> Any:
    if isinstance(value, str):  # any text: `Path.expanduser` would raise for ~nobody
        return str((folder / os.path.expanduser(value)).resolve()) if value else None  # noqa: PTH111
    if isinstance(value, list):
        return [_resolve(item, folder) for item in value]
    return value


def _absolute(tables: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {name: _placed(name, value, folder) for name, value in tables.items()}


def _placed(path: str, value: Any, folder: Path) -> Any:
    """Make the paths in a value absolute; `path` is its dotted place, without numbers of a list."""
    if path in PATHS:
        return _resolve(value, folder)
    if path in NAMES_OR_PATHS and isinstance(value, str) and value.startswith(("/", ".", "~")):
        return _resolve(value, folder)
    if isinstance(value, dict):
        return {key: _placed(f"{path}.{key}", inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_placed(path, item, folder) for item in value]
    return value


def _validate(tables: dict[str, Any], name: str) -> Recipe:
    """Validate as JSON: strict mode then takes a list for a tuple and text for a path."""
    try:
        return Recipe.model_validate_json(json.dumps(tables, default=str))
    except ValidationError as error:
        problems = tuple(_problem(detail) for detail in error.errors())
        count = f"{len(problems)} problem" + "s" * (len(problems) > 1)
        hint = "`wakeword-tui recipe schema` and docs/recipe.md list every key"
        raise RecipeError(f"{name} has {count}", problems, hint) from error


def _problem(detail: Any) -> str:
    """Say one fault with its dotted path, and the nearest spelling of an unknown key."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
    where = "".join(parts).removeprefix(".")
    if detail["type"] == "extra_forbidden":
        known = [path for path, _ in fields()] + list(Recipe.model_fields)
        near = difflib.get_close_matches(where, known, n=1, cutoff=0.5)
        return f"{where}: no such key" + (f"; did you mean {near[0]}?" if near else "")
    message = str(detail["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if detail["type"] == "string_pattern_mismatch":
        message = PATTERN
    value = detail["input"]
    shown = f", not {value!r}" if isinstance(value, bool | int | float | str) else ""
    return f"{where}: {message}{shown}" if where else message
