"""Where the word of a clip is, and what makes a clip doubtful.

clip    ...........|###  #######  sss|.......   loud frames, gaps under 150 ms joined
        0          start_s           end_s      the longest stretch is the word
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.audio import SAMPLE_RATE

Int16 = npt.NDArray[np.int16]
Float = npt.NDArray[np.float32]
Span = tuple[float, float]
"""Where something begins and ends, in seconds."""

FRAME_SAMPLES = 320
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE
DROP_DB = 20.0
FLOOR_PERCENTILE, FLOOR_MARGIN_DB, CONTRAST_DB = 10, 6.0, 3.0
GAP_FRAMES = 8  # a gap of 7 frames, 140 ms, is still inside a word
SMOOTH_FRAMES = 5
LONGEST_S, SHORTEST_S = 1.5, 0.15

SILENCE_DB = -120.0
SILENT_DB = -50.0
FULL_SCALE = 32440  # 0.99
CLIPPED_SHARE = 0.0004  # 10 samples of a clip of 1.5 s

SILENT = "silent"
UNUSABLE = "no word found"
EDGE = "cut off"
LONG = "too long"
SHORT = "too short"
CLIPPED = "clipped"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the samples of a clip say. `level_db` is the RMS of its loud frames, dBFS.

    `doubt` lists what is doubtful, joined by commas; empty if nothing is.
    """

    peak_db: float
    level_db: float
    start_s: float
    end_s: float
    doubt: str


def locate(audio: Int16) -> Span | None:
    """Find the word of a clip `(N,)`: its start and end in seconds, None if nothing stands out.

    It is the longest stretch of loud frames, gaps under 150 ms joined. A clip no longer than a
    word, in which nothing stands out, is the word.
    """
    found = loudest(audio)
    seconds = len(audio) / SAMPLE_RATE
    short = FRAME_S <= seconds <= LONGEST_S and bool(audio.any())
    return (0.0, seconds) if found is None and short else found


def inspect(
    audio: Int16,
    *,
    has_word: bool,
    given: Span | None = None,
    find: Callable[[Int16], Span | None] = locate,
) -> Facts:
    """Measure a clip `(N,)` and `find` its word, unless its place is `given`."""
    seconds = len(audio) / SAMPLE_RATE
    peak_db = _peak_db(audio)
    doubts = [SILENT] if peak_db < SILENT_DB else []
    start_s, end_s = 0.0, seconds
    if has_word:
        found = _within(given, seconds) if given else find(audio)
        start_s, end_s = found or (start_s, end_s)
        doubts += _doubts(found, seconds, given is not None)
    if np.mean((audio >= FULL_SCALE) | (audio <= -FULL_SCALE)) >= CLIPPED_SHARE:
        doubts.append(CLIPPED)
    span = audio[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]
    return Facts(peak_db, _level_db(span), start_s, end_s, ", ".join(doubts))


def loudest(audio: Int16, gap_frames: int = GAP_FRAMES) -> Span | None:
    """Find the longest stretch of loud frames, closer ones than `gap_frames` joined.

    A 20 ms frame is loud within 20 dB of the loudest one and at least 6 dB above the floor (the
    tenth percentile), either as it is or with the high frequencies raised, else the "s" of
    "jarvis" is lost. A running median of five frames takes out clicks.
    """
    if len(audio) < FRAME_SAMPLES or not audio.any():
        return None
    samples = audio.astype(np.float32) / np.float32(32767)
    above = np.maximum(_above(samples), _above(np.diff(samples, prepend=samples[:1])))
    if above.max() < CONTRAST_DB:
        return None
    stretches = _stretches(above >= 0, gap_frames)
    start, end = max(stretches, key=lambda stretch: stretch[1] - stretch[0])
    return start * FRAME_S, end * FRAME_S


def _above(samples: Float) -> Float:
    """How far each frame is above the level that counts as loud, in dB `(T,)`."""
    level_db = _running_median(_frames_db(samples))
    floor_db = np.percentile(level_db, FLOOR_PERCENTILE) + FLOOR_MARGIN_DB
    above: Float = level_db - max(level_db.max() - DROP_DB, floor_db)
    return above


def _frames_db(samples: Float) -> Float:
    """Level of each whole 20 ms frame, in dBFS `(T,)`."""
    frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    power: Float = np.einsum("tn,tn->t", frames, frames) / FRAME_SAMPLES
    level_db: Float = 10 * np.log10(power + np.float32(1e-12))
    return level_db


def _running_median(values: Float) -> Float:
    padded = np.pad(values, SMOOTH_FRAMES // 2, mode="edge")
    median: Float = np.median(np.lib.stride_tricks.sliding_window_view(padded, SMOOTH_FRAMES), 1)
    return median


def _stretches(loud: npt.NDArray[np.bool_], gap_frames: int) -> list[tuple[int, int]]:
    """First and one past the last frame of each stretch, close ones joined."""
    edges = np.flatnonzero(np.diff(np.pad(loud, 1).astype(np.int8)))
    joined: list[tuple[int, int]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if joined and start - joined[-1][1] < gap_frames:
            start = joined.pop()[0]
        joined.append((start, end))
    return joined


def _within(span: Span, seconds: float) -> Span | None:
    """Cut a given place to the clip; None if nothing is left of it."""
    start_s, end_s = max(0.0, span[0]), min(seconds, span[1])
    return (start_s, end_s) if start_s < end_s else None


def _doubts(found: Span | None, seconds: float, given: bool) -> list[str]:
    if found is None:
        return [UNUSABLE]
    start_s, end_s = found
    at_edge = start_s <= 0 or end_s > seconds - FRAME_S
    tests = {
        EDGE: at_edge and not given,
        LONG: end_s - start_s > LONGEST_S,
        SHORT: end_s - start_s < SHORTEST_S,
    }
    return [doubt for doubt, true in tests.items() if true]


def _peak_db(audio: Int16) -> float:
    peak = max(int(audio.max(initial=0)), -int(audio.min(initial=0)))
    return float(20 * np.log10(peak / 32767)) if peak else SILENCE_DB


def _level_db(audio: Int16) -> float:
    """RMS of the frames within 20 dB of the loudest, in dBFS."""
    if len(audio) < FRAME_SAMPLES or not audio.any():
        return SILENCE_DB
    level_db = _frames_db(audio.astype(np.float32) / np.float32(32767))
    loud = level_db[level_db >= level_db.max() - DROP_DB]
    return float(10 * np.log10(np.mean(10 ** (loud / 10))))
