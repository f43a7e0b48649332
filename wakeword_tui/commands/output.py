"""The one place that writes to stdout and stderr."""

import errno
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from engine.errors import DataError

NOBODY_READS = (errno.EPIPE, errno.ECONNRESET, errno.EIO, errno.ENXIO, errno.EBADF)
"""What a closed pipe or socket says, a lost terminal, and what is not open for writing."""


def say(text: str) -> None:
    """Write a result to stdout. Raises DataError where a reader would miss it: on a full disk."""
    error = write(sys.stdout, text + "\n")
    if error is not None and error.errno not in NOBODY_READS:
        message = f"the result was not written: {error.strerror}"
        raise DataError(message, "free space where it goes, or send it elsewhere") from error


def say_json(value: Any) -> None:
    """Write a result to stdout for a program to read."""
    say(json.dumps(value, indent=2, default=str))


def note(text: str) -> None:
    """Write to stderr what a person should know on the way."""
    write(sys.stderr, text + "\n")


def write(stream: TextIO, text: str) -> OSError | None:
    """Write at once; where that fails, write to nowhere from now on, and return why.

    A closed pipe or a lost terminal must not end a training.
    """
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return error
    return None


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
