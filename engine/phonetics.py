"""What sounds like a phrase and is not: its parts, and words and near misses close to it.

Phonemes are espeak-ng's mnemonics, stress marks included: "jarvis" is `dZ 'A@ v I s`. Comparisons
ignore stress and the digits and marks that tell one shade of a vowel from another.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise, product
from typing import Protocol

Phonemes = tuple[str, ...]
"""A word, or a phrase run together: one mnemonic each."""


class Transcribe(Protocol):
    """From a text, and if need be an accent, to its words' phonemes."""

    def __call__(self, text: str, accent: str = ...) -> tuple[Phonemes, ...]: ...  # noqa: D102


KINSHIP = ("pbtdkg?", "fvTDszSZh", "mnN", "lrwj")
"""Consonants made alike, by the mnemonic's first letter; tS and dZ count with the plosives."""
NEAR_MISSES = {
    "p": "t k", "b": "d g", "t": "p k", "d": "b g", "k": "p t", "g": "b d", "tS": "k s",
    "dZ": "g z", "f": "s S", "v": "z b", "s": "f S", "z": "v b", "S": "f k", "m": "n b",
    "n": "m l", "N": "m l", "l": "r n", "r": "l w", "w": "r l", "j": "l r", "h": "s f",
}  # fmt: skip
"""Another place of articulation: voicing alone (s for z) would still pass for the phrase."""


@dataclass(frozen=True, slots=True)
class Lookalike:
    """Something close to a phrase: what to call it, and the text or phonemes to speak."""

    label: str
    text: str
    phonemes: bool = False


def slug(text: str) -> str:
    """A text as a label and file name: "Hey, Jarvis!" is `hey-jarvis`."""
    return re.sub(r"[\W_]+", "-", text.casefold()).strip("-")


def plain(phonemes: Phonemes) -> Phonemes:
    """Phonemes without stress and shade, to compare them by."""
    return tuple(bare for phoneme in phonemes if (bare := re.sub(r"[^A-Za-z@:?03]", "", phoneme)))


def join(words: tuple[Phonemes, ...]) -> Phonemes:
    """Words run together."""
    return tuple(phoneme for word in words for phoneme in word)


def is_vowel(phoneme: str) -> bool:
    """Whether a phoneme makes a syllable."""
    return phoneme.lstrip("',%=|;")[:1] in set("aAeEiIoOuUV03@")


def difference(one: str, other: str) -> float:
    """How unlike two plain phonemes are: 0 the same, 0.5 akin, 1 anything else."""
    if one == other:
        return 0.0
    if is_vowel(one) and is_vowel(other):
        return 0.25 if one[0] == other[0] else 0.5
    return 0.5 if any(one[0] in kin and other[0] in kin for kin in KINSHIP) else 1.0


def distance(one: Phonemes, other: Phonemes) -> float:
    """Edit distance of two plain phoneme strings over the length of the longer, 0 to 1."""
    row = [float(column) for column in range(len(other) + 1)]
    for number, phoneme in enumerate(one, start=1):
        above, row = row, [float(number)]
        for column, rival in enumerate(other):
            swap = above[column] + difference(phoneme, rival)
            row.append(min(swap, above[column + 1] + 1.0, row[column] + 1.0))
    return row[-1] / max(len(one), len(other), 1)


def holds(whole: Phonemes, part: Phonemes) -> bool:
    """Whether `part` is heard within `whole`, both plain."""
    span = len(part)
    return any(whole[at : at + span] == part for at in range(len(whole) - span + 1))


def partials(phrase: str, transcribe: Transcribe) -> list[Lookalike]:
    """Every run of the phrase's words, then of its syllables, but the whole and lone sounds."""
    words = phrase.split()
    found: dict[Phonemes, Lookalike] = {plain(join(transcribe(phrase))): Lookalike("", "")}
    for part in _runs(len(words)):
        text = " ".join(words[part])
        found.setdefault(plain(join(transcribe(text))), Lookalike(f"partial-{slug(text)}", text))
    syllables = _syllables(join(transcribe(phrase)))
    for part in _runs(len(syllables)):
        cut = join(tuple(syllables[part]))
        if len(cut) == 1:
            continue
        label = f"partial-syllables-{part.start + 1}-to-{part.stop}"
        found.setdefault(plain(cut), Lookalike(label, spell((cut,)), phonemes=True))
    return list(found.values())[1:]


def confusables(
    said: tuple[str, ...],
    vocabulary: tuple[str, ...],
    transcribe: Transcribe,
    accents: tuple[str, ...],
    each: int,
) -> list[Lookalike]:
    """The nearest words, phrases with one word replaced, and near misses; about `each` of a kind.

    What sounds like the phrase in any of the accents, or holds it, is none of them; nor is what
    sounds like another spelling of it, of which `said` has the phrase first.
    """
    words, heard = said[0].casefold().split(), transcribe(said[0])
    same = {plain(join(transcribe(text, accent))) for text, accent in product(said, accents)}
    known = {word: plain(join(transcribe(word))) for word in vocabulary if word not in words}
    pools = [(known, each)]
    if len(words) > 1:
        share = -(-each // len(words))
        pools += [(_replaced(words, at, known, transcribe), share) for at in range(len(words))]
    target = plain(join(heard))
    texts = [text for pool, count in pools for text in _nearest(pool, target, same, count)]
    labelled = [Lookalike(f"confusable-{slug(text)}", text) for text in texts]
    missed = (miss for miss in _near_misses(heard) if plain(join(miss[1])) not in same)
    return labelled + [miss for miss, _ in islice(missed, each)]


def words_heard_in(
    phrase: str, vocabulary: tuple[str, ...], transcribe: Transcribe
) -> frozenset[str]:
    """The phrase's words, and of the vocabulary what sounds like one or holds the phrase."""
    words = {slug(word) for word in phrase.split()}
    sounds = {plain(join(transcribe(word))) for word in words}
    whole = plain(join(transcribe(phrase)))
    known = {word: plain(join(transcribe(word))) for word in vocabulary}
    alike = {word for word, sound in known.items() if sound in sounds or holds(sound, whole)}
    return frozenset(words | alike)


def spell(words: tuple[Phonemes, ...]) -> str:
    """Phonemes as espeak-ng reads them; `|` keeps neighbours such as t and S apart."""
    return "[[" + " ".join("|".join(word) for word in words) + "]]"


def _runs(count: int) -> Iterator[slice]:
    """The proper runs among `count` things, long before short."""
    for length in range(count - 1, 0, -1):
        for start in range(count - length + 1):
            yield slice(start, start + length)


def _syllables(phonemes: Phonemes) -> list[Phonemes]:
    """Cut before the last consonant in front of each vowel but the first."""
    vowels = [at for at, phoneme in enumerate(phonemes) if is_vowel(phoneme)]
    cuts = [at if is_vowel(phonemes[at - 1]) else at - 1 for at in vowels[1:]]
    edges = [0, *cuts, len(phonemes)]
    return [phonemes[start:stop] for start, stop in pairwise(edges)]


def _nearest(
    pool: dict[str, Phonemes], target: Phonemes, same: set[Phonemes], count: int
) -> list[str]:
    """The texts of a pool nearest to the target, but those that hold a sound in `same`."""
    apart = {
        text: distance(sound, target)
        for text, sound in pool.items()
        if not any(holds(sound, phrase) for phrase in same)
    }
    return sorted(apart, key=lambda text: (apart[text], text))[:count]


def _replaced(
    words: list[str], at: int, known: dict[str, Phonemes], transcribe: Transcribe
) -> dict[str, Phonemes]:
    """The phrase with the word at `at` replaced by each known word."""
    before, after = words[:at], words[at + 1 :]
    head, tail = (
        join(tuple(plain(join(transcribe(word))) for word in part)) for part in (before, after)
    )
    return {" ".join([*before, word, *after]): head + sound + tail for word, sound in known.items()}


def _near_misses(
    words: tuple[Phonemes, ...],
) -> Iterator[tuple[Lookalike, tuple[Phonemes, ...]]]:
    """The phrase with one phoneme replaced: first choices for every phoneme, then second ones."""
    for choice in range(2):
        for at, word in enumerate(words):
            for spot, phoneme in enumerate(word):
                rivals = _rivals(phoneme)
                if not rivals:
                    continue
                stress = phoneme[: len(phoneme) - len(phoneme.lstrip("',%=|;"))]
                missed = (*word[:spot], stress + rivals[choice], *word[spot + 1 :])
                label = f"confusable-miss-{at + 1}-{spot + 1}-{slug(rivals[choice])}"
                whole = (*words[:at], missed, *words[at + 1 :])
                yield Lookalike(label, spell(whole), True), whole


def _rivals(phoneme: str) -> list[str]:
    """Two phonemes to mishear this one as; none for a schwa, which any vowel can stand in for."""
    bare = "".join(plain((phoneme,)))
    if bare[:1] == "@" or bare == "3":
        return []
    if is_vowel(bare):
        return ["u:", "oU"] if bare[0] in "eEiIa" else ["i:", "eI"]
    return NEAR_MISSES.get(bare, "").split()
