"""Source: where live audio comes from, whoever made it: 16 kHz, mono, in blocks.

    microphone, pipe, file --its own thread--> ring --take--> whoever listens
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from engine.audio import Waveform

State = Literal["connecting", "open", "lost", "ended"]


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """How a source does; `line` says in one line what is heard, or why nothing is.

    `dropped` counts the samples that came and were never taken.
    """

    state: State
    line: str
    dropped: int = 0
    latency_ms: float | None = None


class Source(Protocol):
    """16 kHz mono audio as it comes. One that is lost looks for itself again; one may end."""

    def start(self) -> None:
        """Open it in a thread; returns at once."""

    def take(self, wait_s: float) -> Waveform:
        """Give what came since the last time, `(N,)`, after waiting for it; empty if nothing."""

    @property
    def health(self) -> SourceHealth:
        """How it does now."""

    def close(self) -> None:
        """Give the device back; one that hangs is not waited for."""
