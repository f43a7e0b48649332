"""Where windows of training may lie in the packed audio: around words, or anywhere in speech."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from engine.audio import SAMPLE_RATE
from engine.dataset import PackedClip

FIRED_WITHIN = SAMPLE_RATE // 25


@dataclass(frozen=True, slots=True)
class Spans:
    """Where clips lie in the packed audio and where a window may end, in samples, `(K,)` each.

    `word` is where a window must begin at the latest; without it, anywhere. `evenly` draws each
    clip as often as another, however long it is.
    """

    begin: Tensor
    end: Tensor
    low: Tensor
    high: Tensor
    word: Tensor | None = None
    evenly: bool = field(default=False, kw_only=True)

    def __len__(self) -> int:
        return len(self.begin)


def word_spans(clips: tuple[PackedClip, ...], shift: int, window: int) -> Spans:
    """Windows of words end 0 to `shift` samples after the word does, and hold its beginning."""
    ends = [clip.offset + round(clip.end_s * SAMPLE_RATE) for clip in clips]
    starts = [clip.offset + int(clip.start_s * SAMPLE_RATE) for clip in clips]
    highs = [min(e + shift, s + window) for e, s in zip(ends, starts, strict=True)]
    return replace(_spans(clips, ends, highs), word=torch.tensor(starts, dtype=torch.int64))


def partial_spans(clips: tuple[PackedClip, ...], shift: int) -> Spans:
    """Halves of the wake word, heard where all of it would be: negatives, lest a half is enough."""
    halves = []
    for clip in clips:
        if not clip.doubt:
            middle = clip.offset + round((clip.start_s + clip.end_s) / 2 * SAMPLE_RATE)
            stop = clip.offset + round(clip.end_s * SAMPLE_RATE)
            halves.append((clip.offset, middle, stop, stop + shift))
            halves.append((middle, clip.offset + clip.samples, stop, stop + shift))
    return Spans(*torch.tensor(halves, dtype=torch.int64).reshape(-1, 4).unbind(dim=1))


def free_spans(clips: tuple[PackedClip, ...], window: int) -> Spans:
    """Windows of speech and noise lie anywhere, also across the clip's beginning and end."""
    lows = [clip.offset + min(clip.samples, window // 5) for clip in clips]
    highs = [clip.offset + clip.samples + min(window // 4, clip.samples // 2) for clip in clips]
    return _spans(clips, lows, highs)


def mined_spans(clips: tuple[PackedClip, ...], window: int) -> Spans:
    """Windows of finds end where the detector fired; where that is not known, anywhere in them."""
    lows, highs = [], []
    for clip in clips:
        start_s, end_s = clip.clip.start_s or 0.0, clip.clip.end_s or clip.seconds
        start, end = round(start_s * SAMPLE_RATE), round(end_s * SAMPLE_RATE)
        lows.append(clip.offset + min(start + window, end) - FIRED_WITHIN)
        highs.append(clip.offset + end + FIRED_WITHIN)
    return replace(_spans(clips, lows, highs), evenly=True)


def _spans(clips: tuple[PackedClip, ...], lows: list[int], highs: list[int]) -> Spans:
    begin = torch.tensor([clip.offset for clip in clips], dtype=torch.int64)
    samples = torch.tensor([clip.samples for clip in clips], dtype=torch.int64)
    low = torch.tensor(lows, dtype=torch.int64)
    return Spans(begin, begin + samples, low, torch.tensor(highs, dtype=torch.int64).maximum(low))
