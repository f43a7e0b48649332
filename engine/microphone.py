"""Microphone: which source is heard, by the word for it, and the sound card's."""

from pathlib import Path

from engine.errors import DeviceError
from engine.source import FileSource, Silence, Source

FAST = "fast:"


def open_source(choice: str = "auto") -> Source:
    """Return the source that a choice names; `start` opens it.

    auto, microphone, microphone:NAME, pipe, none, the path of a recording (heard in real time), or
    fast:PATH (as fast as it is taken). Raises DeviceError, and DataError for a recording.
    """
    if choice == "none":
        return Silence("no sound was asked for")
    if choice in ("auto", "microphone", "pipe") or choice.startswith("microphone:"):
        raise DeviceError(f"{choice} cannot be heard yet")
    return FileSource(Path(choice.removeprefix(FAST)), fast=choice.startswith(FAST))
