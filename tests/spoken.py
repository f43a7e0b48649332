"""Made words for tests: hiss as loud as a voice, over that of a quiet room; and sources."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tiny import hiss

from engine import audio
from engine.audio import SAMPLE_RATE, Waveform
from engine.source import SourceHealth, State
from engine.take import Take, cut

ROOM = 0.001


def said(*parts: tuple[float, float], seed: int = 0) -> Waveform:
    """Stretches of (seconds, amplitude), the room under all of them, `(N,)`."""
    stretches = [hiss(seconds, seed + n, amplitude) for n, (seconds, amplitude) in enumerate(parts)]
    whole = np.concatenate(stretches)
    return whole + hiss(len(whole) / SAMPLE_RATE, seed + 99, ROOM)[: len(whole)]


def a_take(seed: int = 0) -> Take:
    """A good take: 0.6 s of word with its margins."""
    return cut(said((0.8, 0), (0.6, 0.1), (1.0, 0), seed=seed))


def words_at(path: Path, starts_s: Sequence[float], seconds: float) -> Path:
    """A recording of the room in which words of 0.5 s begin at these times."""
    sound = hiss(seconds, 5, ROOM)
    for start_s in starts_s:
        first = round(start_s * SAMPLE_RATE)
        word = hiss(0.5, round(start_s * 10), 0.1)
        sound[first : first + len(word)] += word
    audio.write(path, sound)
    return path


class Blocks:
    """A source of blocks that are there already; then it is lost, or has ended."""

    def __init__(self, blocks: Sequence[Waveform], after: State = "ended") -> None:
        self.blocks, self.after, self.dropped = list(blocks), after, 0

    def start(self) -> None:
        """There is nothing to open."""

    def take(self, wait_s: float) -> Waveform:
        """The next block."""
        return self.blocks.pop(0) if self.blocks else np.zeros(0, dtype=np.float32)

    @property
    def health(self) -> SourceHealth:
        """Open as long as there are blocks."""
        state: State = "open" if self.blocks else self.after
        return SourceHealth(state, "blocks", dropped=self.dropped)

    def close(self) -> None:
        """There is nothing to give back."""
