"""Every command says in its --help what it does, what each argument is, and how it is typed."""

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from wakeword_tui.__main__ import parser

ROOT = Path(__file__).parents[1]


def commands(of: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of all its commands."""
    yield of
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from commands(command)


@pytest.mark.parametrize("command", list(commands(parser())), ids=lambda command: command.prog)
def test_every_command_explains_itself(command: argparse.ArgumentParser) -> None:
    assert command.description
    assert command.description.endswith(".")
    assert not [a.dest for a in command._actions if not a.help and not a.choices]
    assert examples(command)
    for example in examples(command):
        words = shlex.split(re.split(" [<>] ", example)[0])
        assert words[0] == "wakeword-tui"
        if "COMMAND" not in words:
            parser().parse_args(words[1:])


@pytest.mark.parametrize("command", list(commands(parser())), ids=lambda command: command.prog)
def test_every_argument_is_read_somewhere(command: argparse.ArgumentParser) -> None:
    read = {
        node.attr
        for path in (ROOT / "wakeword_tui").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "args"
    }
    given = {action.dest for action in command._actions} - {"help", "version", argparse.SUPPRESS}
    assert given <= read


def examples(command: argparse.ArgumentParser) -> list[str]:
    """What the --help shows to type, without what it says beside it."""
    lines = (command.epilog or "").partition("\n\n")[0].splitlines()[1:]
    return [re.split("  +", line.strip())[0] for line in lines]


@pytest.mark.parametrize("name", ["train", "search", "mine", "doctor", "recipe check", "export"])
def test_exit_codes_are_told_where_they_matter(name: str) -> None:
    (found,) = [c for c in commands(parser()) if c.prog == f"wakeword-tui {name}"]
    assert "exit codes: " in found.format_help()
