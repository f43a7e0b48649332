"""Scores become detections: smoothing, N of M, hysteresis and a refractory time.

```
score     one per hop, the sigmoid of the model's logit
smoothed  trailing mean of the last `smooth_hops` scores
level     N-th largest of the last M smoothed scores: N of M vote exactly where level >= threshold

level                    ####          ####
threshold  - - - - - - - ####- - ## - -####- - - - -
re-arm     - - - - - - -#####- -####- -####- - - - -  threshold - hysteresis
           #####################################################
                         ^ fires  |    ^ fires again: a level below re-arm came in between,
                                  |      and the refractory is over
                                  | does not fire: still in the refractory
```

`Detector` takes one score at a time; `detect` does a whole stream. Both give the same detections.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.recipe import DetectorSettings

_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Detection:
    """The wake word was heard: `time_s` is the end of the window that fired, `score` its level."""

    time_s: float
    score: float


def refractory_hops(settings: DetectorSettings, hop_s: float) -> int:
    """The fewest hops from one detection to the next."""
    return math.ceil(settings.refractory_s / hop_s - 1e-9)


def rearm_level(threshold: float, settings: DetectorSettings) -> float:
    """The level below which the detector may fire again.

    Never under half the threshold: a threshold smaller than the hysteresis would otherwise ask for
    a level below zero, and the detector would fire once and be deaf for ever.
    """
    return max(threshold - settings.hysteresis, threshold / 2)


class Detector:
    """Detections from scores that arrive one hop at a time.

    `level` is the vote level of the latest hop, for meters.
    """

    def __init__(self, settings: DetectorSettings, threshold: float, hop_s: float) -> None:
        self.settings = settings
        self.threshold = threshold
        self._rearm_level = rearm_level(threshold, settings)
        self._refractory_hops = refractory_hops(settings, hop_s)
        self.reset()

    def reset(self) -> None:
        """Forget everything heard so far."""
        self.level = 0.0
        self._scores: deque[float] = deque(maxlen=self.settings.smooth_hops)
        self._smoothed = deque([0.0] * self.settings.of, maxlen=self.settings.of)
        self._armed = True
        self._hops_to_wait = 0

    def state(self) -> dict[str, Any]:
        """What it remembers, fit for JSON."""
        return {
            "scores": list(self._scores),
            "smoothed": list(self._smoothed),
            "armed": self._armed,
            "wait": self._hops_to_wait,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the detector whose `state` this was."""
        self.reset()
        self._scores.extend(state["scores"])
        self._smoothed.extend(state["smoothed"])
        self._armed, self._hops_to_wait = state["armed"], state["wait"]

    def push(self, score: float, time_s: float) -> Detection | None:
        """Take the score of the window that ends at `time_s`; return a detection if it fires."""
        self._scores.append(float(score))
        self._smoothed.append(_mean(self._scores))
        self.level = sorted(self._smoothed)[-self.settings.votes]
        self._armed |= self.level < self._rearm_level
        self._hops_to_wait -= 1
        fires = self.level >= self.threshold  # what is no number does not
        if not fires or not self._armed or self._hops_to_wait > 0:
            return None
        self._armed = False
        self._hops_to_wait = self._refractory_hops
        return Detection(time_s, self.level)


def smooth(scores: ArrayLike, hops: int) -> NDArray[np.float64]:
    """Trailing mean of the last `hops` scores, fewer at the start; (H,) -> (H,)."""
    score = np.asarray(scores, dtype=np.float64)
    total = np.zeros_like(score)
    for lag in reversed(range(min(hops, score.size))):  # oldest first, as `Detector` adds them
        total[lag:] += score[: score.size - lag]
    return total / np.minimum(np.arange(1, score.size + 1), hops)


def vote_levels(scores: ArrayLike, settings: DetectorSettings) -> NDArray[np.float64]:
    """N-th largest of the last M smoothed scores, 0 while there are fewer than N; (H,) -> (H,)."""
    smoothed = smooth(scores, settings.smooth_hops)
    if settings.of == 1 or smoothed.size == 0:
        return smoothed
    padded = np.concatenate([np.zeros(settings.of - 1), smoothed])
    windows = np.lib.stride_tricks.sliding_window_view(padded, settings.of)
    rank = settings.of - settings.votes
    return np.partition(windows, rank, axis=1)[:, rank]


def firings(
    levels: NDArray[np.float64],
    threshold: float,
    settings: DetectorSettings,
    hop_s: float,
    at: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """The hops of a stream at which the detector fires.

    `levels` (H,) are vote levels; `at` (H,) their hop numbers, ascending, if hops that cannot
    matter were left out. For every hit the next possible hit is found at once, then the chain is
    walked; this is fast enough to be called for hundreds of thresholds.
    """
    at = np.arange(levels.size) if at is None else at
    hits = at[levels >= threshold]
    lows = np.append(at[levels < rearm_level(threshold, settings)], _NEVER)
    rearmed = lows[np.searchsorted(lows, hits)]
    free = np.maximum(rearmed, hits + refractory_hops(settings, hop_s))
    following = np.searchsorted(hits, free).tolist()
    fired, hit = [], 0
    while hit < hits.size:
        fired.append(hit)
        hit = following[hit]
    return hits[fired]


def detect(
    levels: NDArray[np.float64],
    threshold: float,
    settings: DetectorSettings,
    hop_s: float,
    first_time_s: float = 0.0,
) -> list[Detection]:
    """All detections of a stream with vote levels (H,), whose first window ends at `first_time_s`.

    Equal to pushing its scores into a fresh `Detector` one by one.
    """
    return [
        Detection(first_time_s + int(hop) * hop_s, float(levels[hop]))
        for hop in firings(levels, threshold, settings, hop_s)
    ]


def _mean(values: deque[float]) -> float:
    """Plain left-to-right mean: from Python 3.12 on, `sum` compensates and numpy does not."""
    total = 0.0
    for value in values:
        total += value
    return total / len(values)
