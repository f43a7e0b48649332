"""Verify: the detections of a recording, each heard again by a judge."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.audio import SAMPLE_RATE, Recording, Waveform, seconds
from engine.detector import firings, vote_levels
from engine.events import Emit, JobStarted, Progressed, Warned
from engine.finder import Finder
from engine.forwarding import end_of, windows
from engine.jobs import Control
from engine.judge import AFTER_S, Asked, Decision, Verdict


@dataclass(frozen=True, slots=True)
class Verified:
    """A detection, at the end of the window that fired, with its level, and whether it stands."""

    time_s: float
    score: float
    decision: Decision

    @property
    def verdict(self) -> Verdict | None:
        """The judge's, if it has spoken."""
        return self.decision.verdict


def verify(
    path: Path,
    sentry: Path,
    judge: Asked,
    *,
    threshold: float | None = None,
    emit: Emit,
    control: Control,
) -> Iterator[Verified]:
    """Find what a sentry fires on in a recording, and have it judged, one after the other.

    The `threshold` is else that of the sentry's operating point. Where the judge fails its policy
    decides about the detection, and the next is judged. The recording is read twice, so that
    memory is flat. Raises DataError, CheckpointError.
    """
    finder = Finder.of(sentry)
    at, grid = finder.point if threshold is None else threshold, finder.scorer.grid
    emit(JobStarted("verify", path.name, f"threshold {at:.3f}"))
    finder.scorer.reset()  # it was tried out when it was made
    scores = [finder.scorer.push(block) for block in _blocks(path, emit, control)]
    levels = vote_levels(np.concatenate([*scores, np.zeros(0)]), finder.rules)
    if not len(levels):
        emit(Warned(finder.too_short(seconds(path))))
    hops = [int(hop) for hop in firings(levels, at, finder.rules, grid.hop_s)]
    after, samples = round(AFTER_S * SAMPLE_RATE), round((judge.sent_s + AFTER_S) * SAMPLE_RATE)
    ends = [end_of(hop, grid) + after for hop in hops]
    heard = windows(_blocks(path, emit, control), ends, samples)
    for hop, window in zip(hops, heard, strict=True):
        time_s = end_of(hop, grid) / SAMPLE_RATE
        yield Verified(time_s, float(levels[hop]), judge.decide(window))


def _blocks(path: Path, emit: Emit, control: Control) -> Iterator[Waveform]:
    """A recording in pieces, with a step boundary at each."""
    with closing(Recording(path)) as recording:
        passed_s = 0.0
        for block in recording.blocks():
            control.tick()
            yield block
            passed_s += len(block) / SAMPLE_RATE
            emit(Progressed("verify", round(passed_s), round(recording.seconds), "s"))
