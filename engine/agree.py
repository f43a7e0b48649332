"""Whether exported graphs do as a reference does: every window of validation, what fires there."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from engine.audio import SAMPLE_RATE, Waveform
from engine.dataset import PackedClip
from engine.detector import Detection, detect, vote_levels
from engine.events import Emit, Progressed
from engine.features import Grid
from engine.flips import Flip, unmatched
from engine.heard import Heard
from engine.jobs import Control
from engine.scorer import Scores, blocks


class Hearing(Protocol):
    """What hears audio in blocks: a Scorer, or an exported graph."""

    grid: Grid

    def reset(self) -> None:
        """Forget the audio heard so far."""

    def push(self, block: Waveform) -> Scores:
        """Hear a block `(N,)`; give the scores `(K,)` of the windows that it completes."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a graph is from the reference, over the windows that both heard."""

    windows: int
    stream_hours: float
    clips: int
    words: int
    largest_difference: float
    flips: tuple[Flip, ...]


@dataclass(frozen=True, slots=True)
class _Item:
    """Audio that is heard from silence: the stream of a split, "", or one of its clips."""

    name: str
    word: bool
    seconds: float
    audio: Callable[[], Iterable[Waveform]]


Pair = tuple[_Item, Scores, Scores]
Fires = Callable[[Scores, float], list[Detection]]
ROUNDING = 1e-5
"""What two graphs of the same weights may differ by. A threshold that was chosen on validation lies
one step above a peak of it: a decision that hangs on less than this is no other decision."""


def agree(
    reference: Hearing,
    others: Mapping[str, tuple[Hearing, float]],
    heard: Heard,
    threshold: float,
    *,
    emit: Emit,
    control: Control,
) -> dict[str, Agreement]:
    """Hold graphs against a reference on the streams and clips of validation, by name.

    Each comes with the most seconds of the stream that it hears, since not all are fast.
    """
    items, rules = _items(heard), heard.recipe.detector
    hearing = {"": (reference, math.inf), **others}
    total_s = sum(min(item.seconds, _most(item, s)) for item in items for _, s in hearing.values())
    ears, pairs = _Ears(total_s, emit, control), dict[str, list[Pair]]((n, []) for n in others)
    for item in items:
        wanted = ears.hear(reference, item, math.inf)
        for name, (other, most_s) in others.items():
            got = ears.hear(other, item, _most(item, most_s))
            pairs[name].append((item, wanted[: len(got)], got))

    def fires(scores: Scores, shift: float) -> list[Detection]:
        hop_s, first_s = reference.grid.hop_s, reference.grid.window_s
        return detect(vote_levels(scores, rules), threshold + shift, rules, hop_s, first_s)

    return {name: _agreement(those, reference.grid.hop_s, fires) for name, those in pairs.items()}


def _most(item: _Item, most_s: float) -> float:
    return math.inf if item.name else most_s


def _items(heard: Heard) -> list[_Item]:
    """The stream of a split, its wake words as they were recorded, and its other words."""
    chosen = heard.selection
    seconds = sum(clip.seconds for clip in (*chosen.speech, *chosen.noise))
    items = [_Item("", False, seconds, heard.stream)]
    for clips, word in ((chosen.positives, True), (chosen.negatives, False)):
        for clip in clips:
            whole_s = heard.clip_s(clip)
            items.append(_Item(clip.name, word, whole_s, partial(_alone, heard, clip)))
    return items


def _alone(heard: Heard, clip: PackedClip) -> list[Waveform]:
    return [heard.clip(clip)]


class _Ears:
    """Hears items with scorers, and tells how far it is."""

    def __init__(self, total_s: float, emit: Emit, control: Control) -> None:
        self.total_s, self.emit, self.control = total_s, emit, control
        self.done_s = 0.0

    def hear(self, scorer: Hearing, item: _Item, most_s: float) -> Scores:
        """Score an item, or the first `most_s` of it, with a step boundary at each block."""
        scorer.reset()
        parts, left = [np.zeros(0, dtype=np.float32)], most_s * SAMPLE_RATE
        for block in (block for waveform in item.audio() for block in blocks(waveform)):
            self.control.tick()
            parts.append(scorer.push(block))
            left -= len(block)
            self.done_s += len(block) / SAMPLE_RATE
            done, total = round(self.done_s / 60), round(self.total_s / 60)
            self.emit(Progressed("compare", min(done, total), total, "minutes"))
            if left <= 0:
                break
        return np.concatenate(parts)


def _agreement(pairs: Sequence[Pair], hop_s: float, fires: Fires) -> Agreement:
    flips = [flip for item, a, b in pairs for flip in _flips(item, a, b, fires)]
    return Agreement(
        windows=sum(len(got) for _, _, got in pairs),
        stream_hours=len(pairs[0][2]) * hop_s / 3600,
        clips=len(pairs) - 1,
        words=sum(item.word for item, _, _ in pairs),
        largest_difference=max(
            (float(np.abs(a - b).max()) for _, a, b in pairs if len(b)), default=0.0
        ),
        flips=tuple(flips),
    )


def _flips(item: _Item, a: Scores, b: Scores, fires: Fires) -> Sequence[Flip]:
    """What only one of two fires on, at whichever threshold within rounding they are most alike."""
    wanted = fires(a, 0.0)
    found = (
        [*unmatched("validation", item.name, wanted, fires(b, shift))]
        for shift in (0.0, ROUNDING, -ROUNDING)
    )
    return min(found, key=len)
