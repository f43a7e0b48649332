"""Draft: the recipe in the Setup form, changed field by field, right or wrong."""

import contextlib
import json
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import annotated_types as at

from engine.errors import RecipeError
from engine.files import write_atomic
from engine.recipe import Recipe
from engine.recipe_distill import Teacher
from engine.recipe_file import dump, field_at, fields, load, override, parse_setting, to_tables
from engine.section import Section

TEACHERS = "distill.teachers"
"""Its text is how many there are; each has a form of its own, `distill.teachers[0].path`."""
MOST_TEACHERS = 2


@dataclass(slots=True)
class Draft:
    """A recipe, the file it came from, and the texts that were typed over its fields."""

    path: Path | None = None
    saved: Recipe = field(default_factory=Recipe)
    texts: dict[str, str] = field(default_factory=dict)
    held: bytes | None = None
    """What the file held when it was read or saved."""
    recipe: Recipe = field(init=False)
    """The recipe with every change in it, or the last one that was sound."""
    problems: tuple[str, ...] = field(init=False, default=())
    unreadable: bool = field(init=False, default=False)
    """Whether the file was edited and cannot be read: nothing may be written over it unasked."""

    def __post_init__(self) -> None:
        self.recipe = self.saved
        self._check()

    @classmethod
    def open(cls, path: Path) -> "Draft":
        """Read a recipe file. Raises RecipeError."""
        held = _held(path)
        return cls(path, load(path), held=held)

    def again(self) -> "Draft":
        """Read the file again; what was typed since the last save stays. Raises RecipeError."""
        assert self.path is not None
        self.unreadable = True
        draft = Draft.open(self.path)
        for path, text in sorted(self.texts.items()):  # how many teachers, then what they are
            draft.set(path, text)
        return draft

    def overtaken(self) -> bool:
        """Whether somebody else has changed the file since it was read or saved."""
        return self.path is not None and _held(self.path) not in (None, self.held)

    @property
    def changed(self) -> bool:
        """Whether there is something to save."""
        return bool(self.texts)

    def text(self, path: str) -> str:
        """What a field shows."""
        return self.texts[path] if path in self.texts else show(value_at(self.saved, path))

    @property
    def teachers(self) -> int:
        """How many teachers there are."""
        return int(self.text(TEACHERS) or 0)

    def add_teacher(self) -> None:
        """Put one more at the end, as the defaults have it."""
        number = self.teachers
        if number < MOST_TEACHERS:
            self.set(TEACHERS, str(number + 1))
            for key, text in _fresh().items():
                self.set(f"{TEACHERS}[{number}].{key}", text)

    def remove_teacher(self, number: int) -> None:
        """Take one out; those after it move up."""
        for after in range(number + 1, self.teachers):
            for key in Teacher.model_fields:
                text = self.text(f"{TEACHERS}[{after}].{key}")
                self.set(f"{TEACHERS}[{after - 1}].{key}", text)
        self.set(TEACHERS, str(self.teachers - 1 or ""))

    def sections(self) -> dict[str, list[str]]:
        """The dotted paths of all fields by section; a field without one is in `recipe`."""
        by_section: dict[str, list[str]] = {}
        for path, _ in fields():
            section = by_section.setdefault(path.split(".")[0] if "." in path else "recipe", [])
            section.append(path)
            if path == TEACHERS:
                section += [f"{path}[{n}].{key}" for n in range(self.teachers) for key in _fresh()]
        return by_section

    def set(self, path: str, text: str) -> None:
        """Type over a field; `problems` says what is wrong with it then."""
        self.texts.pop(path, None)
        if text.strip() != self.text(path):
            self.texts[path] = text.strip()
        self._check()

    def reset(self, path: str) -> None:
        """Put a field back to what the file says, or, if it is that already, to its default."""
        if self.texts.pop(path, None) is None:
            self.set(path, show(value_at(Recipe(), path)))
        self._check()

    def problem(self, path: str) -> str:
        """What is wrong with one field, without its name; empty if nothing is."""
        said = re.compile(rf"{re.escape(path)}(?:\[\d+\])?: (.*)", re.DOTALL)
        return next((found[1] for p in self.problems if (found := said.match(p))), "")

    def save(self, path: Path) -> None:
        """Write the recipe. Raises RecipeError while it has problems."""
        if self.problems:
            raise RecipeError("the recipe was not saved", self.problems, "mend it first")
        self.held = dump(self.recipe).encode()
        write_atomic(path, self.held)
        self.path, self.saved = path, self.recipe
        self.texts.clear()
        self.unreadable = False

    def _check(self) -> None:
        shown = {path for paths in self.sections().values() for path in paths}
        self.texts = {path: text for path, text in self.texts.items() if path in shown}
        tables = [*to_tables(self.saved)["distill"]["teachers"], {}, {}]
        changes: dict[str, Any] = {TEACHERS: tables[: self.teachers]}  # then what they are
        try:
            changes |= {path: parse(path, text) for path, text in self.texts.items()
                        if path != TEACHERS}  # fmt: skip
            self.recipe, self.problems = override(self.saved, changes), ()
        except RecipeError as error:
            self.problems = error.problems


def _held(path: Path) -> bytes | None:
    """What a file holds; None where there is none to be read."""
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return None


def value_at(recipe: Recipe, path: str) -> Any:
    """The value of a field by its dotted path; in a teacher that is not there its default."""
    value: Any = recipe
    for name in re.findall(r"\w+", path):
        if isinstance(value, tuple):
            value = value[int(name)] if int(name) < len(value) else Teacher()
        else:
            value = getattr(value, name)
    return value


def _fresh() -> dict[str, str]:
    """The texts of a teacher that was just added."""
    return {key: show(value) for key, value in Teacher()}


def show(value: Any) -> str:
    """A value as a person types it."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value).removesuffix(".0")
        case (Section(), *_):
            return str(len(value))
        case tuple():
            return ", ".join(show(item) for item in value)
        case dict():
            tables = {key: table.model_dump(exclude_defaults=True) for key, table in value.items()}
            text = json.dumps(tables, separators=(", ", " = ")) if tables else ""
            return re.sub(r'"(\w+)" =', r"\1 =", text)
    return str(value)


def parse(path: str, text: str) -> Any:
    """A field's value from what was typed; lists are separated by commas, a table is TOML."""
    if typing.get_origin(annotation(path)) is dict:
        text = text or "{}"
    elif typing.get_origin(annotation(path)) is tuple:
        items = [item.strip() for item in text.split(",") if item.strip()]
        text = f"[{', '.join(map(_toml_item, items))}]"
    return parse_setting(f"{path}={text}", Path.cwd())[1]


def _toml_item(text: str) -> str:
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return repr(number(text))
    return "'" + text.replace("'", "") + "'"


def annotation(path: str) -> Any:
    """The type of a field."""
    info = field_at(path)
    return info.annotation if info is not None else None


def choices(path: str) -> tuple[str, ...]:
    """The values a field can only have, if they are few."""
    kind = annotation(path)
    if kind is bool:
        return ("true", "false")
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def name(path: str) -> str:
    """What a field is called in the form: its key, after the number of its teacher."""
    _, numbered, key = path.partition("[")
    return f"[{key.replace('].', '] ')}" if numbered else path.split(".")[-1]


def limits(path: str) -> str:
    """What a field accepts, in a few words: `0 to 0.9`, `above 0`, `path`."""
    if path == TEACHERS:
        return f"at most {MOST_TEACHERS}"
    info, kind = field_at(path), _plain(annotation(path))
    bounds = info.metadata if info is not None and kind in ("whole number", "number") else []
    least, above = _bound(bounds, at.Ge, "ge"), _bound(bounds, at.Gt, "gt")
    most, below = _bound(bounds, at.Le, "le"), _bound(bounds, at.Lt, "lt")
    if least and most:
        return f"{least} to {most}"
    words = {"at least": least, "above": above, "at most": most, "below": below}
    return ", ".join(f"{word} {value}" for word, value in words.items() if value) or kind


def _bound(bounds: list[Any], kind: type, name: str) -> str:
    values = [getattr(bound, name) for bound in bounds if isinstance(bound, kind)]
    return show(values[-1]) if values and values[-1] is not None else ""


def _plain(kind: Any) -> str:
    """A type in plain words."""
    if typing.get_origin(kind) is Literal:
        return ""
    if typing.get_origin(kind) is dict:
        return "table"
    if typing.get_origin(kind) is tuple:
        return "paths" if typing.get_args(kind)[0] is Path else "numbers"
    if typing.get_origin(kind) is types.UnionType:
        kind = typing.get_args(kind)[0]
    return {bool: "", Path: "path", str: "text", int: "whole number"}.get(kind, "number")
