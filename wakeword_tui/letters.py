"""What is drawn, in ASCII: for terminals and fonts that have no other characters."""

import os
import unicodedata
from collections.abc import Mapping

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

BRAILLE = 0x2800
DOTS = " ..:::***"
"""What stands for a cell with so many of its eight dots."""
LIKE = dict(
    zip("✓✗·●○◆▲▶‖…→←↑↓×±≤≥−–“”‘’•", "vx.*o+^>=~><^vx~<>--\"\"''*", strict=True)  # noqa: RUF001
)
CHARSETS = ("LC_ALL", "LC_CTYPE", "LANG")


def wants_ascii(environment: Mapping[str, str]) -> bool:
    """Whether the locale names a character set, and another one than UTF-8."""
    named = next((environment[name] for name in CHARSETS if environment.get(name)), "")
    charset = named.partition(".")[2].lower()
    return bool(charset) and not charset.startswith("utf")


def filters(plain: bool | None) -> tuple[LineFilter, ...]:
    """What to draw through: ASCII if that is wished for, or if the locale wants it."""
    return (Ascii(),) if plain or (plain is None and wants_ascii(os.environ)) else ()


class Letters(dict[int, str]):
    """ASCII for characters, of the same width; found out once for each."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _like(chr(code))
        return found


class Ascii(LineFilter):
    """Draws every line in ASCII."""

    def __init__(self) -> None:
        super().__init__()
        self._letters = Letters()

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments with other characters, of the same width."""
        return [
            Segment(text.translate(self._letters), style, control)
            for text, style, control in segments
        ]


def _like(character: str) -> str:
    """The ASCII that looks most like a character."""
    if character.isascii():
        return character
    if BRAILLE <= ord(character) < BRAILLE + 256:
        return DOTS[(ord(character) - BRAILLE).bit_count()]
    name = unicodedata.name(character, "")
    if name.startswith("BOX DRAWINGS"):
        return _line(name)
    if "BLOCK" in name or "SHADE" in name:
        return "." if name.startswith("LIGHT") else "#"
    plain = LIKE.get(character) or unicodedata.normalize("NFKD", character)[:1]
    return plain.ljust(cell_len(character)) if plain.isascii() else "?" * cell_len(character)


def _line(name: str) -> str:
    """A part of a frame by its name: `BOX DRAWINGS LIGHT DOWN AND RIGHT` is a corner."""
    if " AND " in name:
        return "+"
    return "|" if name.endswith(("VERTICAL", "UP", "DOWN")) else "-"
