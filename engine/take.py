"""A take: what one person says once, from a key to the silence after it, cut to its margins.

heard    click.........|#### ###|..............     the take ends by itself once it is quiet
take             [.....|#### ###|.....]             as long as the margins on both sides
                 0   start_s  end_s
"""

from dataclasses import dataclass, replace

import numpy as np

from engine.audio import SAMPLE_RATE, Waveform, to_int16
from engine.source import Source
from engine.words import (
    CLIPPED,
    EDGE,
    LONG,
    SHORT,
    SHORTEST_S,
    SILENCE_DB,
    SILENT,
    SILENT_DB,
    UNUSABLE,
    Facts,
    Int16,
    Span,
    inspect,
    loudest,
)

CLICK_S = 0.1
"""The sound of the key that begins a take."""
GAP_FRAMES = 25
"""Half a second, less than what ends a take: the words of a phrase may be so far apart."""
PAUSE_S = 0.9
MARGIN_S = 0.4
LONGEST_TAKE_S = 8.0
LOOK_EVERY_S = 0.1
FALL_DB_PER_S = 40.0
"""How fast the level falls, so that it can be read."""

AUDIBLE = 10 ** (SILENT_DB / 20)
"""What is quieter ends no take: in a quiet room any rustle stands out."""

LOST = "sound was lost"
ADVICE = {
    SILENT: "too quiet: come closer, or turn the microphone up",
    UNUSABLE: "no word found: nothing stands out of the noise",
    EDGE: "cut off: leave a moment of silence before the word and after it",
    LONG: "longer than 1.5 s: say it in one go",
    SHORT: "too short for a word",
    CLIPPED: "clipped: turn the microphone down, or step back",
    LOST: "sound was lost on the way: the connection or the machine is busy",
}


@dataclass(frozen=True, slots=True)
class Take:
    """A take `(N,)` cut to its margins; the places of `facts` count from its beginning."""

    waveform: Waveform
    facts: Facts

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.waveform) / SAMPLE_RATE

    @property
    def advice(self) -> tuple[str, ...]:
        """What is wrong with it, and what to do about that; empty for a good one."""
        return tuple(ADVICE[doubt] for doubt in self.facts.doubt.split(", ") if doubt)

    @property
    def usable(self) -> bool:
        """Whether there is a word in it."""
        return UNUSABLE not in self.facts.doubt


def cut(heard: Waveform, *, lost: bool = False) -> Take:
    """Make a take of what was heard `(N,)`."""
    facts = inspect(to_int16(heard), has_word=True, find=phrase)
    first = max(0, round((facts.start_s - MARGIN_S) * SAMPLE_RATE))
    last = round((facts.end_s + MARGIN_S) * SAMPLE_RATE)
    doubt = ", ".join(part for part in (facts.doubt, LOST if lost else "") if part)
    begin_s = first / SAMPLE_RATE
    moved = replace(
        facts, start_s=facts.start_s - begin_s, end_s=facts.end_s - begin_s, doubt=doubt
    )
    return Take(heard[first:last], moved)


def phrase(audio: Int16) -> Span | None:
    """Where the phrase of a take is; None if nothing stands out."""
    return loudest(audio, GAP_FRAMES)


class Recorder:
    """Hears a source all the time, for the level, and makes a take between `begin` and its end."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.take: Take | None = None
        self.recording = False
        self.level_db, self.clipped = SILENCE_DB, False
        self._heard: list[Waveform] = []
        self._dropped = 0

    @property
    def seconds(self) -> float:
        """How much of a take has been heard so far."""
        return self._heard_samples / SAMPLE_RATE

    @property
    def _heard_samples(self) -> int:
        return sum(map(len, self._heard))

    def begin(self) -> None:
        """Begin a take; the one before it is forgotten."""
        self.source.take(0.0)
        self.take, self.recording = None, True
        self._heard = []
        self._dropped = self.source.health.dropped

    def end(self) -> None:
        """End the take; of nothing heard there is none."""
        if not self.recording:
            return
        health = self.source.health
        lost = health.dropped > self._dropped or health.state == "lost"
        heard, self._heard = self._joined(), []
        self.recording = False
        self.take = cut(heard, lost=lost) if len(heard) else None

    def cancel(self) -> None:
        """Forget the take, done or not."""
        self.take, self.recording, self._heard = None, False, []

    def hear(self, wait_s: float) -> None:
        """Take in what comes within a time; a take ends when nothing more will or need come."""
        block = self.source.take(wait_s)
        self._measure(block, wait_s)
        if not len(block) and self.source.health.state in ("lost", "ended"):
            self.end()
        size = round(LOOK_EVERY_S * SAMPLE_RATE)
        while self.recording and len(block):
            due = size - self._heard_samples % size
            self._heard.append(block[:due])
            block = block[due:]
            if self._heard_samples % size == 0 and self._over():
                self.end()

    def _joined(self) -> Waveform:
        """What was heard of the take, without the click of the key."""
        heard = np.concatenate(self._heard) if self._heard else np.zeros(0, dtype=np.float32)
        return heard[round(CLICK_S * SAMPLE_RATE) :]

    def _over(self) -> bool:
        """Whether a word was said and then nothing for a while, or it is taking too long."""
        if self.seconds >= LONGEST_TAKE_S:
            return True
        heard = self._joined()
        start_s, end_s = phrase(to_int16(heard)) or (0.0, 0.0)
        peak = np.abs(heard[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]).max(
            initial=0
        )
        said = end_s - start_s >= SHORTEST_S and peak >= AUDIBLE
        return bool(said and end_s <= self.seconds - CLICK_S - PAUSE_S)

    def _measure(self, block: Waveform, wait_s: float) -> None:
        peak = float(np.abs(block).max(initial=0.0))
        peak_db = 20 * np.log10(peak) if peak > 0 else SILENCE_DB
        fallen_db = self.level_db - FALL_DB_PER_S * max(len(block) / SAMPLE_RATE, wait_s)
        self.level_db = max(float(peak_db), fallen_db, SILENCE_DB)
        self.clipped = peak >= 0.99
