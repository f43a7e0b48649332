"""Hard negatives of a run in progress: where its own training streams score highest.

After each epoch a random part of the training negatives is scored as a stream would be, and the
highest peaks, at most one per half second, become windows that the next epochs draw from. The
clips are those of the training split alone.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.audio import SAMPLE_RATE
from engine.batches import step_generator
from engine.dataset import Pack, PackedClip, Selection
from engine.recipe import Recipe
from engine.scorer import Scorer, Scores
from engine.spans import Spans

Hops = npt.NDArray[np.int64]

HOURS_PER_EPOCH = 0.75
PEAKS_PER_EPOCH = 400
EPOCHS_KEPT = 3
PIECE_S = 300.0
APART_S = 0.5
JITTER_S = 0.04


class HardNegatives:
    """The peaks found in the last epochs, as windows in the packed audio."""

    def __init__(self, packed: Pack, selection: Selection, recipe: Recipe) -> None:
        self._audio = packed.audio
        clips = [*selection.negatives, *selection.speech, *selection.noise]
        self._clips = [piece for clip in clips for piece in _pieces(clip)]
        self._seed = recipe.train.seed
        self._found: list[Tensor] = []

    def search(self, scorer: Scorer, epoch: int) -> None:
        """Score a part of the training negatives, drawn for this epoch, and keep its peaks."""
        clips = self._part(epoch)
        if not clips:
            return
        parts = [self._audio[c.offset : c.offset + c.samples] for c in clips]
        waveform = np.concatenate(parts).astype(np.float32) / np.float32(32768)
        scores = scorer.score(waveform)
        hops = _peaks(scores, max(1, round(APART_S / scorer.grid.hop_s)))
        stops = hops * scorer.grid.hop_samples + scorer.grid.window_samples
        self._found = [*self._found[1 - EPOCHS_KEPT :], _locate(stops, clips)]

    def _part(self, epoch: int) -> list[PackedClip]:
        generator = step_generator(self._seed, epoch, 0, "hard")
        order = torch.randperm(len(self._clips), generator=generator).tolist()
        budget = int(HOURS_PER_EPOCH * 3600 * SAMPLE_RATE)
        drawn = [self._clips[index] for index in order]
        totals = accumulate(clip.samples for clip in drawn)
        return [clip for clip, total in zip(drawn, totals, strict=True) if total <= budget]

    def spans(self) -> Spans:
        """The windows to draw from."""
        if not self._found:
            return Spans(*(torch.zeros(0, dtype=torch.int64) for _ in range(4)))
        begin, end, stop = torch.cat(self._found).unbind(dim=1)
        jitter = int(JITTER_S * SAMPLE_RATE)
        return Spans(begin, end, stop - jitter, stop + jitter)

    def state(self) -> list[Tensor]:
        """What a checkpoint keeps."""
        return list(self._found)

    def restore(self, state: Any) -> None:
        """Go back to a checkpoint's state."""
        self._found = list(state)


def _pieces(clip: PackedClip) -> Iterator[PackedClip]:
    """Cut a long stream, so that an epoch's part can hold some of it."""
    longest = int(PIECE_S * SAMPLE_RATE)
    for start in range(0, clip.samples, longest):
        samples = min(longest, clip.samples - start)
        yield replace(clip, offset=clip.offset + start, samples=samples)


def _peaks(scores: Scores, apart: int) -> Hops:
    """Hops of the highest scores of each stretch of `apart` hops, the best of them all."""
    whole = scores[: len(scores) // apart * apart].reshape(-1, apart)
    if not whole.size:
        return np.zeros(0, dtype=np.int64)
    hops = whole.argmax(axis=1) + apart * np.arange(len(whole))
    best = np.argsort(-scores[hops], kind="stable")[:PEAKS_PER_EPOCH]
    chosen: Hops = hops[best]
    return chosen


def _locate(stops: Hops, clips: list[PackedClip]) -> Tensor:
    """Turn sample positions in the joined clips into (begin, end, stop) in the pack, `(K, 3)`."""
    ends = np.cumsum([clip.samples for clip in clips])
    rows = np.minimum(np.searchsorted(ends, stops), len(clips) - 1)
    found = []
    for stop, row in zip(stops.tolist(), rows.tolist(), strict=True):
        clip = clips[row]
        position = clip.offset + clip.samples - (int(ends[row]) - stop)
        found.append((clip.offset, clip.offset + clip.samples, position))
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 3)
