"""`recipe check|show|schema|docs`: look at a recipe without training."""

import argparse
import json
from pathlib import Path
from typing import Any

from engine.recipe import Recipe
from engine.recipe_file import dump, override, schema, to_tables
from wakeword_tui.commands.arguments import (
    Verbs,
    add_json,
    add_settings,
    command,
    family,
    recipe,
    settings,
    workspace,
)
from wakeword_tui.commands.output import say, say_json

INTRODUCTION = """\
# Recipe

A recipe is a TOML file; every key has a default, and an unknown key is an error. Paths are
relative to the file; those of `--set` to the working directory.

This page is made from the types: `wakeword-tui recipe docs > docs/recipe.md`.
"""

HEADER = ("| key | default | allowed | |", "|---|---|---|---|")
LIMITS = {
    "exclusiveMinimum": "above",
    "minimum": "from",
    "exclusiveMaximum": "below",
    "maximum": "to",
}


def add(verbs: Verbs) -> None:
    """Declare the commands."""
    verbs = family(
        verbs,
        "recipe",
        "check a recipe, show it, or print its schema",
        "check|show|schema|docs",
        "recipe show recipes/tinyconv.toml --set train.lr=0.001 > my.toml",
        "recipe check my.toml",
    )
    checks = command(
        verbs,
        "check",
        check,
        "name every mistake in a recipe",
        "recipe check my.toml",
        "recipe check my.toml --set train.lr=0.001",
        codes="1 where it has mistakes, which stderr names with their paths",
    )
    checks.add_argument("recipe", metavar="RECIPE", help="a TOML file")
    add_settings(checks)
    shows = command(
        verbs,
        "show",
        show,
        "print a recipe with every key, or that of a run",
        "recipe show > my.toml",
        "recipe show 3 --set train.lr=0.001",
    )
    shows.add_argument(
        "recipe", nargs="?", metavar="RECIPE|RUN", help="a file or a run (else the defaults)"
    )
    add_settings(shows)
    add_json(shows)
    command(verbs, "schema", print_schema, "print the JSON schema", "recipe schema > recipe.json")
    command(verbs, "docs", print_docs, "print docs/recipe.md", "recipe docs > docs/recipe.md")


def check(args: argparse.Namespace) -> int:
    """Read a recipe; the error that it raises lists every problem."""
    found = recipe(args)
    say(f"{args.recipe} is a good recipe: {found.name}, {found.model.arch}")
    return 0


def show(args: argparse.Namespace) -> int:
    """Print every key of a recipe."""
    shown = _named(args)
    if args.json:
        say_json(to_tables(shown))
    else:
        say(dump(shown).rstrip())
    return 0


def _named(args: argparse.Namespace) -> Recipe:
    """The recipe of a file or a run, or the defaults, with the settings on top."""
    if args.recipe is None:
        return override(Recipe(), settings(args))
    if Path(args.recipe).is_file():
        return recipe(args)
    return override(workspace(args).find(args.recipe).recipe(), settings(args))


def print_schema(args: argparse.Namespace) -> int:
    """Print the JSON schema, for an editor that completes and checks."""
    say_json(schema())
    return 0


def print_docs(args: argparse.Namespace) -> int:
    """Print the page of all keys."""
    say(docs().rstrip())
    return 0


def docs() -> str:
    """Render docs/recipe.md from the schema, which has every help, default and limit."""
    whole = schema()
    lines, own = [INTRODUCTION], []
    for name, facts in whole["properties"].items():
        if "$ref" not in facts:
            own.append(_row(name, facts))
            continue
        section = whole["$defs"][facts["$ref"].rpartition("/")[2]]
        lines += _section(f"## {name}", section)
        for key, inner in section["properties"].items():
            table = inner.get("items", {}).get("$ref")
            if table:
                lines += _section(f"### [[{name}.{key}]]", whole["$defs"][table.rpartition("/")[2]])
    return "\n".join([lines[0], *HEADER, *own, *lines[1:]]) + "\n"


def _section(title: str, section: dict[str, Any]) -> list[str]:
    """The keys of a table."""
    rows = [_row(key, inner) for key, inner in section["properties"].items()]
    return [f"\n{title}\n", section["description"], "", *HEADER, *rows]


def _row(key: str, facts: dict[str, Any]) -> str:
    default = "" if facts["default"] is None else f"`{json.dumps(facts['default'])}`"
    help_ = " ".join(facts["description"].split())
    return f"| `{key}` | {default} | {_allowed(facts)} | {help_} |"


def _allowed(facts: dict[str, Any]) -> str:
    """The choices or the limits of a key."""
    if "enum" in facts:
        return ", ".join(f"`{choice}`" for choice in facts["enum"])
    limits = [(word, facts[limit]) for limit, word in LIMITS.items() if limit in facts]
    return " ".join(f"{word} {value:g}" for word, value in limits)
