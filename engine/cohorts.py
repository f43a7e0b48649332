"""Cohorts: a test clip as it was recorded, under noise, in a room, and with half of its word.

Everything is drawn by hash of the clip's samples, so that every detector hears the same; noise and
rooms are those of the clip's own split (evaluation.md 8).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from engine import acoustics
from engine.audio import SAMPLE_RATE, Waveform
from engine.dataset import PackedClip
from engine.report import CLEAN, HALVES, Measured

Sample = TypeVar("Sample", np.int16, np.float32)

SHORTEST_WORD = SAMPLE_RATE // 10
ROOM_S = 2.0
ANCHOR = round(3.3 * SAMPLE_RATE)
"""Samples before a clip that are whole: what a window of 1.5 s takes, the warm-up of PCEN too."""
PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Condition:
    """What is done to a clip, and whether the wake word is in it then.

    `snr_db` is against the mean power of the word from its start to its end, not of the clip with
    its silence; without it the clip is left as it is. `softer_db` is of all that is heard, the
    background around the clip too: another microphone, or one that is turned down.
    """

    cohort: str
    positive: bool = True
    snr_db: float | None = None
    room: bool = False
    halved: bool = False
    softer_db: float = 0.0

    @property
    def drawn_by(self) -> str:
        """What its background, noise and room are drawn by: where it is only softer, as clean."""
        return CLEAN if self.softer_db else self.cohort


CONDITIONS = (
    Condition(CLEAN),
    Condition("20 dB", snr_db=20.0),
    Condition("10 dB", snr_db=10.0),
    Condition("5 dB", snr_db=5.0),
    Condition("0 dB", snr_db=0.0),
    Condition("reverb", room=True),
    Condition("reverb + 5 dB", snr_db=5.0, room=True),
    Condition("20 dB softer", softer_db=20.0),
    Condition(HALVES, positive=False, snr_db=20.0, halved=True),
)

NOISY = tuple(c for c in CONDITIONS if c.positive and (c.room or c.snr_db is not None))


class Chance:
    """Numbers that follow from a clip's content and a purpose alone."""

    def __init__(self, content: str, purpose: str) -> None:
        self._content, self._purpose = content, purpose
        self._digest = hashlib.sha256(f"{content}:{purpose}".encode()).digest()

    def below(self, count: int, place: int = 0) -> int:
        """A whole number in [0, count); another `place` (0 to 7) is another draw."""
        return int.from_bytes(self._digest[4 * place : 4 * place + 4], "big") % max(count, 1)

    def draw(self, sources: Sequence[PackedClip]) -> PackedClip:
        """One of some recordings: another recording more takes its share, and moves no other."""
        return min(sources, key=self._rank)

    def _rank(self, source: PackedClip) -> int:
        return Chance(self._content + source.name, self._purpose).below(2**32)

    def again(self, number: int) -> "Chance":
        """What draws the same things anew; number 0 is itself."""
        return Chance(self._content, f"{self._purpose} {number}") if number else self

    def generator(self) -> np.random.Generator:
        """A generator for what needs many numbers."""
        return np.random.default_rng(list(self._digest))


def cut(
    source: npt.NDArray[Sample], before: int, after: int, chance: Chance
) -> npt.NDArray[Sample]:
    """Cut `(before + after,)` around a place of a recording; one that is too short is repeated.

    The place does not depend on `before`, and `ANCHOR` samples before it are whole.
    """
    room = len(source) - ANCHOR - after
    place = ANCHOR + chance.below(room, 1) if room > 0 else chance.below(len(source), 1)
    return np.take(source, np.arange(place - before, place + after), mode="wrap")


def made_noise(samples: int, chance: Chance) -> Waveform:
    """Make noise `(samples,)` where a split has none."""
    kind = acoustics.NOISES[chance.below(len(acoustics.NOISES), 2)]
    return acoustics.noise(kind, samples / SAMPLE_RATE, chance.generator())[:samples]


def power(sound: Waveform) -> float:
    """Mean power of `(N,)`."""
    return float(np.square(sound, dtype=np.float64).mean())


def add_noise(
    waveform: Waveform, noise: Waveform, level: float, snr_db: float, after: int
) -> Waveform:
    """Add noise to `(N,)`, the power of its last `after` samples `snr_db` below `level`.

    It may begin earlier than the waveform; a pause in it counts as 10 dB softer than it is from
    `ANCHOR` samples before on, and no more, lest what is heard before a word drown it.
    """
    loudness = max(power(noise[-after:]), PAUSE * power(noise[-after - ANCHOR :]), 1e-12)
    scale = np.sqrt(level / loudness / 10 ** (snr_db / 10))
    return np.asarray(waveform + np.float32(scale) * noise[-len(waveform) :], dtype=np.float32)


def in_room(clip: Waveform, response: Waveform) -> Waveform:
    """Hear `(N,)` in a room, its echo after it: `(N + R - 1,)`, direct sound in place.

    The response is scaled to unit energy, so that the level stays.
    """
    direct = acoustics.direct_sound(response)
    kept = response[direct : direct + round(ROOM_S * SAMPLE_RATE)].astype(np.float64)
    kept = kept / max(float(np.sqrt(np.square(kept).sum())), 1e-12)
    samples = len(clip) + len(kept) - 1
    points = 1 << (samples - 1).bit_length()
    heard = np.fft.irfft(np.fft.rfft(clip, points) * np.fft.rfft(kept, points), points)
    return np.asarray(heard[:samples], dtype=np.float32)


def half(clip: Waveform, start: int, stop: int, chance: Chance) -> Waveform:
    """Silence the beginning or the end of a word that lies in `[start, stop)` of `(N,)`."""
    kept, middle = clip.copy(), (start + stop) // 2
    if chance.below(2, 3):
        kept[middle:] = 0.0
    else:
        kept[:middle] = 0.0
    return kept


def word_in(clip: Waveform, start_s: float, end_s: float) -> tuple[int, int]:
    """Where the word lies, in samples; all of the clip where that is not known."""
    start, stop = round(start_s * SAMPLE_RATE), round(end_s * SAMPLE_RATE)
    start, stop = max(start, 0), min(stop, len(clip))
    return (start, stop) if stop - start >= SHORTEST_WORD else (0, len(clip))


def labelled(label: str) -> str:
    """The cohort of a negative clip by its label."""
    for cohort in ("partial", "confusable"):
        if label.startswith(f"{cohort}-"):
            return cohort
    return "other words"


def frr_noisy(result: Measured) -> float:
    """FRR over the clips in noise and rooms."""
    shares = [result.cohorts[condition.cohort] for condition in NOISY]
    return sum(share.wrong for share in shares) / max(sum(share.clips for share in shares), 1)
