"""Prompts: what a person reads aloud, the phrase in many manners and what sounds like it."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest

from engine.errors import DataError
from engine.espeak import ACCENTS, Espeak
from engine.phonetics import Lookalike, Phonemes, Transcribe, confusables, partials
from engine.sentences import VOCABULARY

MANNERS = (
    "as you would say it",
    "now from across the room",
    "quickly",
    "quietly, close to the microphone",
    "as a question",
    "turned away from the microphone",
    "slowly",
    "louder, as over a noise",
    "from two steps away",
    "tired, almost mumbling",
    "annoyed, for the third time",
    "while you walk",
    "cheerfully",
    "from the next room, the door open",
    "higher than your usual voice",
    "lower than your usual voice",
)
PARTS = 2
"""Most prompts that are parts of the phrase, which has few words."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to read, the label its take gets, and a manner of saying it."""

    text: str
    label: str
    wakeword: bool
    manner: str = ""


class Plan:
    """The prompts of a session, a negative after every few wake words; kinds are told by a bool."""

    def __init__(self, phrase: str, label: str, count: int, others: Sequence[Lookalike]) -> None:
        manners = [MANNERS[number % len(MANNERS)] for number in range(count)]
        self._left = {
            True: deque(Prompt(phrase, label, True, manner) for manner in manners),
            False: deque(Prompt(other.text, other.label, False) for other in others),
        }
        self._total = {kind: len(prompts) for kind, prompts in self._left.items()}
        self.negatives_only = False

    @property
    def now(self) -> Prompt | None:
        """What is to be read now; None once all has been."""
        prompts = self._left[self._kind]
        return prompts[0] if prompts else None

    @property
    def place(self) -> tuple[int, int]:
        """Which prompt of its kind this is, from 1, and how many there are."""
        kind = self._kind
        return min(self._done(kind) + 1, self._total[kind]), self._total[kind]

    def go_on(self) -> None:
        """Leave a prompt behind, read or not."""
        prompts = self._left[self._kind]
        if prompts:
            prompts.popleft()

    def turn(self) -> None:
        """Go over to negatives alone, or back; without negatives nothing changes."""
        self.negatives_only = not self.negatives_only and bool(self._left[False])

    @property
    def _kind(self) -> bool:
        """Whether a wake word comes now: the kind of which the smaller share is done."""
        if not self._left[False]:
            return True
        if self.negatives_only or not self._left[True]:
            return False
        return self._done(True) * self._total[False] <= self._done(False) * self._total[True]

    def _done(self, kind: bool) -> int:
        return self._total[kind] - len(self._left[kind])


def lookalikes(phrase: str, count: int) -> list[Lookalike]:
    """What sounds like a phrase and can be read: some parts of it, then whole phrases and words.

    Without espeak-ng they are found by their spelling.
    """
    if not count:
        return []
    try:
        with Espeak(0) as espeak:
            return _readable(phrase, count, espeak.transcribe)
    except DataError:
        return _readable(phrase, count, _spelled)


def _readable(phrase: str, count: int, transcribe: Transcribe) -> list[Lookalike]:
    parts = [part for part in partials(phrase, transcribe) if not part.phonemes]
    near = confusables((phrase,), VOCABULARY, transcribe, ACCENTS, count)
    read = [other for other in near if not other.phonemes]
    long = [other for other in read if " " in other.text]
    short = [other for other in read if " " not in other.text]
    mixed = (other for pair in zip_longest(long, short) for other in pair if other is not None)
    return list(islice(chain(parts[:PARTS], mixed), count))


def _spelled(text: str, accent: str = "") -> tuple[Phonemes, ...]:
    """Letters in place of phonemes."""
    return tuple(tuple(word) for word in text.casefold().split())
