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
from engine.files import make_folder, write_atomic
from engine.queue_store import Find, QueueStore
from engine.runs import Workspace

RING_S = 12.0
MOST_CUTS = 50
MARGIN_S = 1.0
"""What is kept before and after the stretch that counts, to trim into and to hear from."""
MISSED_S = 3.0
MISSED = "missed, live"
"""The note by which a person finds, on Review, what the detector should have heard."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Samples `(N,)` that begin at `begin_s` of a session; `start_s` to `end_s` counts of them."""

    waveform: Waveform
    begin_s: float
    start_s: float
    end_s: float


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
            over = [wanted for wanted in self._wanted if wanted[2] + MARGIN_S <= self.heard_s]
            self._wanted = self._wanted[len(over) :]
            for time_s, start_s, end_s in over:
                self._cuts[time_s] = self._cut(start_s, end_s)
            while len(self._cuts) > MOST_CUTS:
                self._cuts.popitem(last=False)

    def hold(self, time_s: float, start_s: float, end_s: float) -> None:
        """Hold on to what counts of a detection at `time_s`, once all around it was heard."""
        with self._lock:
            self._wanted.append((time_s, start_s, end_s))

    def around(self, time_s: float) -> Cut:
        """What is held of a detection, as far as it was heard. Raises DataError."""
        with self._lock:
            for held_s, start_s, end_s in self._wanted:
                if held_s == time_s:
                    return self._cut(start_s, end_s)
            if time_s not in self._cuts:
                message = f"its sound is gone: only the last {MOST_CUTS} detections have theirs"
                raise DataError(message, "mine finds it again, if there is a recording")
            return self._cuts[time_s]

    def last(self, seconds: float) -> Cut:
        """The last seconds, as far as they were heard, and what was before them."""
        with self._lock:
            return self._cut(self.heard_s - seconds, self.heard_s)

    def between(self, start_s: float, end_s: float) -> Waveform:
        """What the ring still holds of a stretch `(N,)`."""
        with self._lock:
            return self._samples(*self._places(start_s, end_s))

    def _cut(self, start_s: float, end_s: float) -> Cut:
        first, last = self._places(start_s - MARGIN_S, end_s + MARGIN_S)
        begin_s, over_s = first / SAMPLE_RATE, last / SAMPLE_RATE
        counts = min(max(start_s, begin_s), over_s), min(end_s, over_s)
        return Cut(self._samples(first, last), begin_s, *counts)

    def _places(self, start_s: float, end_s: float) -> tuple[int, int]:
        oldest = max(0, self._heard - len(self._ring))
        first = min(max(round(start_s * SAMPLE_RATE), oldest), self._heard)
        return first, max(min(round(end_s * SAMPLE_RATE), self._heard), first)

    def _samples(self, first: int, last: int) -> Waveform:
        return self._ring[np.arange(first, last) % len(self._ring)]


@dataclass(frozen=True, slots=True)
class Moment:
    """What a person says of a cut: a false alarm at `time_s` of the session, or a miss.

    `score` is what the detector gave it; a miss has the highest one, and a note that says so.
    `threshold` and `checkpoint` are of the detector that listened.
    """

    time_s: float
    score: float
    threshold: float
    checkpoint: str
    note: str = ""


def keep(cut: Cut, moment: Moment, workspace: Workspace, store: QueueStore) -> Find:
    """Write a cut into the workspace, and then offer it on Review. Raises DataError.

    The file is on the disk before the item is: there is no item without its sound, and without an
    item no file, unless a kill comes between them.
    """
    if not len(cut.waveform):
        raise DataError("nothing was heard yet", "s begins to listen")
    sound = audio.wav(cut.waveform)
    content = hashlib.sha256(sound).hexdigest()
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{content[:8]}.wav"
    path = workspace.root.absolute() / "live" / name
    make_folder(path.parent)
    write_atomic(path, sound)
    find = Find(
        path=path,
        content=content,
        time_s=moment.time_s - cut.begin_s,
        start_s=cut.start_s - cut.begin_s,
        end_s=cut.end_s - cut.begin_s,
        score=moment.score,
        threshold=moment.threshold,
        group=f"user:{content}",
        checkpoint=moment.checkpoint,
        found_by="live",
    )
    try:
        store.add([find], note=moment.note)
    except DataError:
        path.unlink(missing_ok=True)
        raise
    return find
