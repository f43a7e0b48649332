"""Recent: the last seconds of live audio, in memory, and what of them a person keeps.

    |----------------- ring, 12 s -----------------| now
         |---- cut ----|    one around each of the last 50 detections, in memory too
    keep                    live/<name>.wav, whole, and only then its item in the queue

What is not kept is never on a disk.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from engine import audio
from engine.audio import SAMPLE_RATE, Waveform
from engine.errors import DataError
from engine.queue_store import Find, QueueStore
from engine.runs import Workspace, disk_error, write_atomic

RING_S = 12.0
MOST_CUTS = 50
MARGIN_S = 1.0
"""What is kept before and after the stretch that counts, to trim into and to hear from."""
MISSED_S = 3.0
MISSED = "missed, live"
"""The note by which a person finds, on Review, what the detector should have heard."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Samples `(N,)` that begin at `begin_s` of a session."""

    waveform: Waveform
    begin_s: float


class Recent:
    """What was heard last, and around the last detections; any thread, times since it began."""

    def __init__(self) -> None:
        self._ring = np.zeros(round(RING_S * SAMPLE_RATE), dtype=np.float32)
        self._heard = 0
        self._wanted: list[tuple[float, float, float]] = []
        self._cuts: OrderedDict[float, Cut] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def heard_s(self) -> float:
        """How much was heard, in seconds."""
        return self._heard / SAMPLE_RATE

    def hear(self, block: Waveform) -> None:
        """Take in samples `(N,)`, no more than the ring holds."""
        with self._lock:
            places = np.arange(self._heard, self._heard + len(block)) % len(self._ring)
            self._ring[places] = block
            self._heard += len(block)
            over = [wanted for wanted in self._wanted if wanted[2] <= self.heard_s]
            self._wanted = self._wanted[len(over) :]
            for time_s, start_s, end_s in over:
                self._cuts[time_s] = self._cut(start_s, end_s)
            while len(self._cuts) > MOST_CUTS:
                self._cuts.popitem(last=False)

    def hold(self, time_s: float, start_s: float, end_s: float) -> None:
        """Hold on to the stretch of a detection at `time_s`, once all of it was heard."""
        with self._lock:
            self._wanted.append((time_s, start_s, end_s))

    def around(self, time_s: float) -> Cut:
        """What is held of a detection, as far as it was heard. Raises DataError."""
        with self._lock:
            for held_s, start_s, end_s in self._wanted:
                if held_s == time_s:
                    return self._cut(start_s, end_s)
            if time_s not in self._cuts:
                message = "its sound is gone: that of the last 50 detections is held on to"
                raise DataError(message, "mine the recording, if there is one")
            return self._cuts[time_s]

    def last(self, seconds: float) -> Cut:
        """The last seconds, as far as they were heard."""
        return self.between(self.heard_s - seconds, self.heard_s)

    def between(self, start_s: float, end_s: float) -> Cut:
        """What the ring still holds of a stretch."""
        with self._lock:
            return self._cut(start_s, end_s)

    def _cut(self, start_s: float, end_s: float) -> Cut:
        oldest = max(0, self._heard - len(self._ring))
        start = min(max(round(start_s * SAMPLE_RATE), oldest), self._heard)
        end = max(min(round(end_s * SAMPLE_RATE), self._heard), start)
        return Cut(self._ring[np.arange(start, end) % len(self._ring)], start / SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class Moment:
    """A place in a session that a person asks to keep: `start_s` to `end_s` is what counts of it.

    `threshold` and `checkpoint` are of the detector that listened; a miss has the highest score.
    """

    time_s: float
    start_s: float
    end_s: float
    score: float
    threshold: float
    checkpoint: str
    note: str = ""


def keep(cut: Cut, moment: Moment, workspace: Workspace, store: QueueStore) -> Find:
    """Write a cut into the workspace, and then offer it on Review. Raises DataError.

    The file is on the disk before the item is: there is never one without the other's sound.
    """
    if not len(cut.waveform):
        raise DataError("nothing was heard yet", "s begins to listen")
    sound, length_s = audio.wav(cut.waveform), len(cut.waveform) / SAMPLE_RATE
    content = hashlib.sha256(sound).hexdigest()
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{content[:8]}.wav"
    path = workspace.root.absolute() / "live" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(path, error) from error
    write_atomic(path, sound)
    time_s, start_s, end_s = (
        min(max(at_s - cut.begin_s, 0.0), length_s)
        for at_s in (moment.time_s, moment.start_s, moment.end_s)
    )
    find = Find(
        path=path,
        content=content,
        time_s=time_s,
        start_s=start_s,
        end_s=end_s,
        score=moment.score,
        threshold=moment.threshold,
        group=f"user:{content}",
        checkpoint=moment.checkpoint,
        found_by="live",
    )
    store.add([find], note=moment.note)
    return find
