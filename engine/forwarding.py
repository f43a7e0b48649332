"""Forwarding: what a sentry would fire on, cut out and heard by a judge.

    sentry      fires ^                 ^             at a loose threshold of its own
    forwarded   [ ------ 3.5 s )  [ ------ 3.5 s )    up to 0.5 s later: the word may go on
    judge               0.2               0.9         accepted from the judge's threshold up

The sentry's detector goes on whatever the judge says: a candidate that is rejected has its
refractory time all the same, as it has live, where the answer comes later. So what is forwarded
depends on the sentry's threshold alone, and what the judge scored serves each of its thresholds:
with the judge's scores in place of the sentry's, both together are measured as one detector is.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from engine.audio import SAMPLE_RATE, Waveform
from engine.detector import firings
from engine.evaluate import Scored, other_hearings, score_split
from engine.events import Emit, Progressed
from engine.features import Grid
from engine.heard import Heard, Passed, each_hearing, untold
from engine.jobs import Control
from engine.judge import AFTER_S, Verify
from engine.metrics import Floats
from engine.report import ClipScore
from engine.scorer import Scorer

Place = tuple[int, int]
"""A clip, or a stream counted down from -1, and a hop of it."""


class Forwarding:
    """A split as a sentry hears it, and the judge's scores of what it forwards.

    The judge is asked once about each window, whichever thresholds forward it; of its verdict the
    score counts alone.
    """

    def __init__(
        self,
        sentry: Scorer,
        verify: Verify,
        heard: Heard,
        *,
        sent_s: float,
        speeds: Sequence[float] = (),
        passed: Passed = untold,
    ) -> None:
        """`sent_s` are forwarded, and `AFTER_S`; `speeds`: of the streams beside their own."""
        self.grid, self.verify, self.heard = sentry.grid, verify, heard
        self.sent_s = sent_s + AFTER_S
        self.rules = heard.recipe.detector
        self.scored = score_split(sentry, heard, passed)
        self.work = each_hearing(heard.selection)
        others = other_hearings(sentry, heard, passed) if speeds else ()
        self.streams = (*self.scored.streams, *others)
        self.speeds = (1.0, *speeds)
        self.took_ms: list[float] = []
        self._known: dict[Place, float] = {}

    def hear(
        self, thresholds: Iterable[float], *, emit: Emit, control: Control | None = None
    ) -> None:
        """Have the judge hear whatever these thresholds of the sentry forward."""
        wanted = list(thresholds)
        new: dict[int, list[int]] = {}
        for place in sorted({p for t in wanted for p in self._places(t)} - self._known.keys()):
            new.setdefault(place[0], []).append(place[1])
        done, total = 0, sum(map(len, new.values()))
        for source, hops in new.items():
            for hop, window in zip(hops, self._windows(source, hops), strict=True):
                if control is not None:
                    control.tick()
                self._known[source, hop] = self._ask(window)
                done += 1
                emit(Progressed("judge", done, total, "windows"))

    def _ask(self, window: Waveform) -> float:
        began = time.perf_counter()
        score = self.verify(window).score
        self.took_ms.append((time.perf_counter() - began) * 1000)
        return score

    def _places(self, threshold: float) -> Iterator[Place]:
        """Whatever is forwarded at a threshold of the sentry."""
        for number, clip in enumerate(self._clips()):
            for hop in self._fired(clip.levels, threshold):
                if clip.span[0] <= hop < clip.span[1]:
                    yield number, hop
        for number, stream in enumerate(self.streams):
            for hop in self._fired(stream.levels, threshold):
                yield -1 - number, hop

    def _clips(self) -> tuple[ClipScore, ...]:
        """The clips whose sound is there to be forwarded: not the cuts of the streams."""
        return self.scored.clips[: len(self.work)]

    def _fired(self, levels: Floats | None, threshold: float) -> list[int]:
        assert levels is not None
        return [int(hop) for hop in firings(levels, threshold, self.rules, self.grid.hop_s)]

    def _windows(self, source: int, hops: Sequence[int]) -> Iterator[Waveform]:
        """The windows of a clip or stream that end with these hops, ascending."""
        if source >= 0:
            pieces: Iterable[Waveform] = [self.heard.clip(*self.work[source])]
        else:
            pieces = self.heard.stream(self.speeds[-1 - source])
        after, samples = round(AFTER_S * SAMPLE_RATE), round(self.sent_s * SAMPLE_RATE)
        return windows(pieces, [end_of(hop, self.grid) + after for hop in hops], samples)

    def joint(self, threshold: float) -> Scored:
        """The split as both together score it at a threshold of the sentry that was heard.

        A clip has the judge's highest score of what is forwarded in its span, 0 without; a stream
        has the judge's score at each hop at which the sentry fires, and 0 at all others.
        """
        best, levels = [0.0] * len(self.work), [np.zeros(s.levels.size) for s in self.streams]
        for source, hop in self._places(threshold):
            score = self._known[source, hop]
            if source >= 0:
                best[source] = max(best[source], score)
            else:
                levels[-1 - source][hop] = score
        clips = tuple(
            replace(clip, score=score, peak=score, levels=None)
            for clip, score in zip(self._clips(), best, strict=True)
        )
        streams = zip(self.streams, levels, strict=True)
        return Scored(clips, tuple(replace(s, levels=level) for s, level in streams))


def end_of(hop: int, grid: Grid) -> int:
    """The sample that the window of a hop ends before."""
    return grid.window_samples + hop * grid.hop_samples


def windows(pieces: Iterable[Waveform], ends: Sequence[int], samples: int) -> Iterator[Waveform]:
    """Cut so many samples before each of the ends, ascending, out of a stream in pieces.

    Outside of the stream there is nothing: the first and last windows may be shorter.
    """
    kept, begin, waiting = np.zeros(0, dtype=np.float32), 0, deque(ends)

    def cut(end: int) -> Waveform:
        return kept[max(end - samples - begin, 0) : max(end - begin, 0)]

    for piece in pieces:
        kept = np.concatenate([kept, piece])
        while waiting and waiting[0] <= begin + len(kept):
            yield cut(waiting.popleft())
        if not waiting:
            return
        begin += max(len(kept) - samples, 0)
        kept = kept[-samples:]
    yield from map(cut, waiting)
