"""The one place that writes to stdout and stderr."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO


def say(text: str) -> None:
    """Write a result to stdout."""
    write(sys.stdout, text + "\n")


def say_json(value: Any) -> None:
    """Write a result to stdout for a program to read."""
    say(json.dumps(value, indent=2, default=str))


def note(text: str) -> None:
    """Write to stderr what a person should know on the way."""
    write(sys.stderr, text + "\n")


def write(stream: TextIO, text: str) -> None:
    """Write at once; once nobody reads any more, write to nowhere.

    A closed pipe or a lost terminal must not end a training.
    """
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Lay rows out in columns: the first `left` to the left, numbers to the right."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(line, widths, left) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    padded = [
        cell.ljust(width) if column < left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()
