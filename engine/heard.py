"""The audio of a split, cut the way it is measured, and how far a phase has heard it.

A wake-word clip is heard after 2.3 s of real background of its own split, and 1 s of it follows:

    |~~~ background 2.3 s ~~~|---- clip [ word ] ----|~~ 1 s ~~|
                                        [ start, end + 0.5 s ]     where a detection is a hit
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import numpy as np

from engine import acoustics
from engine.audio import SAMPLE_RATE, Waveform, resample
from engine.cohorts import (
    ANCHOR,
    CONDITIONS,
    Chance,
    Condition,
    add_noise,
    cut,
    half,
    in_room,
    labelled,
    made_noise,
    power,
    word_in,
)
from engine.dataset import Int16, Pack, PackedClip, Selection
from engine.events import Emit, PhaseChanged, Progressed
from engine.features import grid
from engine.jobs import Control
from engine.recipe import Recipe

LEAD_S = 2.3
VOTES_S = 0.8
TAIL_S = 1.0
MADE = 16 * SAMPLE_RATE
LEAST = round(LEAD_S * SAMPLE_RATE)
"""Samples before a clip that are heard whatever the window is."""
SILENCE, TRIES = 1e-9, 32
SPEEDS = (0.9, 0.95, 1.05, 1.1)
TELL_EVERY_S = 0.2

Passed = Callable[[float], None]
"""Told of each clip, once it is heard, how many seconds of audio that was; a step boundary."""


def untold(_seconds: float) -> None:
    """Nobody asks how far it is."""


class Progress:
    """How much of what a phase hears is through; clips and streams are heard in two threads."""

    def __init__(self, phase: str, seconds: float, emit: Emit, control: Control) -> None:
        emit(PhaseChanged(phase))
        self._phase, self._emit, self._control = phase, emit, control
        self._passed_s, self._total = 0.0, max(round(seconds / 60), 1)
        self._due_s = 0.0
        self._lock = threading.Lock()

    def __call__(self, seconds: float) -> None:
        """Count what was heard, and tell of it now and then. Raises Stopped."""
        self._control.tick()
        with self._lock:
            self._passed_s += seconds
            now = time.monotonic()
            if now >= self._due_s:
                self._due_s = now + TELL_EVERY_S
                done = min(round(self._passed_s / 60), self._total)
                self._emit(Progressed(self._phase, done, self._total, "minutes"))


class Heard:
    """The audio of a split, cut the way it is measured."""

    def __init__(self, packed: Pack, selection: Selection, recipe: Recipe) -> None:
        self.packed, self.selection, self.recipe = packed, selection, recipe
        # By the time of the word, windows have long been whole and have voted.
        self.lead_s = max(LEAD_S, grid(recipe.features).window_s + VOTES_S)

    @property
    def seconds(self) -> float:
        """Seconds of it all: a wake word in every condition, each clip amid background."""
        return self.stream_s + sum(self.clip_s(c) for c, _ in each_hearing(self.selection))

    def clip_s(self, clip: PackedClip) -> float:
        """Seconds of a clip amid its background."""
        return self.lead_s + clip.seconds + TAIL_S

    @property
    def stream_s(self) -> float:
        """Seconds of the stream."""
        return length_s([*self.selection.speech, *self.selection.noise])

    @property
    def other_speeds_s(self) -> float:
        """Seconds of the stream played slower and faster."""
        return self.stream_s * sum(1 / speed for speed in SPEEDS)

    def stream(self, speed: float = 1.0) -> Iterator[Waveform]:
        """The split's speech, then its noise, as one stream, a clip `(N,)` at a time."""
        for clip in (*self.selection.speech, *self.selection.noise):
            yield resample(self.waveform(clip), round(SAMPLE_RATE * speed))

    def clip(self, clip: PackedClip, condition: Condition = CONDITIONS[0]) -> Waveform:
        """A clip between its backgrounds, or in a condition's noise and room, `(N,)`."""
        before, after = round(self.lead_s * SAMPLE_RATE), round(TAIL_S * SAMPLE_RATE)
        sound, chance = self.waveform(clip), Chance(clip.content, condition.drawn_by)
        word = word_in(sound, clip.start_s, clip.end_s)
        if condition.room:
            sound = in_room(sound, self._room(chance))
        level = power(sound[slice(*word)])
        if condition.halved:
            sound = half(sound, *word, chance)
        heard = np.zeros(before + clip.samples + after, dtype=np.float32)
        sound = sound[: len(heard) - before]
        heard[before : before + len(sound)] = sound
        if condition.snr_db is not None:
            noise = self._noise(max(before, ANCHOR), clip.samples + after, chance)
            return add_noise(heard, noise, level, condition.snr_db, clip.samples + after)
        background = self._background(before, after, chance)
        heard[:before] += background[:before]
        heard[-after:] += background[before:]
        heard *= np.float32(10 ** (-condition.softer_db / 20))
        return heard

    def waveform(self, clip: PackedClip) -> Waveform:
        """The samples of a packed clip `(N,)`."""
        return _floats(self._packed(clip))

    def _packed(self, clip: PackedClip) -> Int16:
        return self.packed.audio[clip.offset : clip.offset + clip.samples]

    def _background(self, before: int, after: int, chance: Chance) -> Waveform:
        """Background at its own level, before and after a clip."""
        noise, speech = self.selection.noise, self.selection.speech
        long = ([c for c in clips if c.samples > ANCHOR + after] for clips in (noise, speech))
        for sources in chain(long, (noise, speech)):
            found = self._sounding(sources, before, after, chance)
            if found is not None:
                return found
        return np.zeros(before + after, dtype=np.float32)

    def _noise(self, before: int, after: int, chance: Chance) -> Waveform:
        """Noise that a clip is heard in."""
        found = self._sounding(self.selection.noise, before, after, chance)
        return cut(made_noise(MADE, chance), before, after, chance) if found is None else found

    def _sounding(
        self, sources: Sequence[PackedClip], before: int, after: int, chance: Chance
    ) -> Waveform | None:
        """A stretch of one of some recordings, another where it is silent; None where all are.

        Recorders gate, and files are padded: a word in silence would count as one in noise.
        """
        for number in range(TRIES if sources else 0):
            again = chance.again(number)
            found = _floats(cut(self._packed(again.draw(sources)), before, after, again))
            if min(power(found[before - LEAST : before]), power(found[before:])) > SILENCE:
                return found
        return None

    def _room(self, chance: Chance) -> Waveform:
        """The room that a clip is heard in."""
        if not self.selection.rooms:
            return acoustics.room(chance.generator())
        return self.waveform(chance.draw(self.selection.rooms))


def _floats(audio: Int16) -> Waveform:
    return audio.astype(np.float32) / np.float32(32768)


def length_s(clips: Iterable[PackedClip]) -> float:
    """Seconds of clips."""
    return sum(clip.seconds for clip in clips)


def each_hearing(selection: Selection) -> list[tuple[PackedClip, Condition]]:
    """The clips of a split, each with what is done to it, in the order they are scored in."""
    words = [(clip, condition) for condition in CONDITIONS for clip in selection.positives]
    others = [(c, Condition(labelled(c.clip.label), positive=False)) for c in selection.negatives]
    return words + others
