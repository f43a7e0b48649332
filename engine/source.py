"""Source: where live audio comes from, whoever made it: 16 kHz, mono, in blocks.

    microphone, pipe, file --its own thread--> Ring --take--> whoever listens

A ring holds two seconds. What is not taken by then is dropped, the oldest first, and counted.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from engine.audio import SAMPLE_RATE, Recording, Waveform
from engine.errors import DataError

State = Literal["connecting", "open", "lost", "ended"]
RING_S = 2.0
BLOCK_S = 0.02


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """How a source does; `line` says in one line what is heard, or why nothing is.

    `hint` is what a person can do about it, a command where there is one. `dropped` counts the
    samples that came and were never taken.
    """

    state: State
    line: str
    hint: str = ""
    dropped: int = 0
    latency_ms: float | None = None


class Source(Protocol):
    """16 kHz mono audio as it comes. One that is lost looks for itself again; one may end."""

    def start(self) -> None:
        """Open it in a thread; returns at once."""

    def take(self, wait_s: float) -> Waveform:
        """Give what came since the last time, `(N,)`, after waiting for it; empty if nothing.

        A source that has ended gives nothing, at once, and says "ended" once all of it was taken.
        """

    @property
    def health(self) -> SourceHealth:
        """How it does now."""

    def close(self) -> None:
        """Give the device back; one that hangs is not waited for."""


class Ring:
    """What came and was not taken yet, `(N,)`, from one thread to another.

    Its memory is there from the start and its lock is held for a copy, so a callback of a sound
    card may put.
    """

    def __init__(self, rate: int = SAMPLE_RATE) -> None:
        self.dropped = 0
        self._held = np.zeros(round(RING_S * rate), dtype=np.float32)
        self._put = self._taken = 0  # samples since the beginning
        self._closed = False
        self._changed = threading.Condition()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come, and all that came was taken."""
        with self._changed:
            return self._closed and self._put == self._taken

    def put(self, block: Waveform) -> None:
        """Add a block `(N,)`; what there is no room for is dropped, the oldest first."""
        with self._changed:
            self._write(block)
            lost = self._put - self._taken - len(self._held)
            if lost > 0:
                self._taken += lost
                self.dropped += lost

    def put_all(self, block: Waveform) -> bool:
        """Add a block `(N,)` as room is made for it; False where the ring was closed meanwhile."""
        for part in np.split(block, range(len(self._held), len(block), len(self._held))):
            with self._changed:
                while not self._closed and self._room() < len(part):
                    self._changed.wait()
                if self._closed:
                    return False
                self._write(part)
        return True

    def take(self, wait_s: float) -> Waveform:
        """Take all there is, `(N,)`, once there is something or `wait_s` have passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._put > self._taken, wait_s)
            places = np.arange(self._taken, self._put) % len(self._held)
            self._taken = self._put
            self._changed.notify_all()
            return self._held[places]

    def close(self) -> None:
        """Say that nothing more will come; what is there can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _room(self) -> int:
        return len(self._held) - (self._put - self._taken)

    def _write(self, block: Waveform) -> None:
        """Copy the end of a block, as much as can be held."""
        kept = block[-len(self._held) :]
        at = (self._put + len(block) - len(kept)) % len(self._held)
        before_wrap = min(len(kept), len(self._held) - at)
        self._held[at : at + before_wrap] = kept[:before_wrap]
        self._held[: len(kept) - before_wrap] = kept[before_wrap:]
        self._put += len(block)
        self._changed.notify_all()


class FileSource:
    """A recording, heard in real time, or `fast`: then it waits until it is taken, and drops none.

    Raises DataError where the file cannot be opened or is empty; what is damaged in it is silent.
    One that goes away while it is heard ends there, and its line says so.
    """

    def __init__(self, path: Path, *, fast: bool = False) -> None:
        self._recording = Recording(path)
        if not self._recording.units:
            self._recording.close()
            raise DataError(f"{path}: holds no samples", "record it again")
        self._fast = fast
        self._ring = Ring()
        self._trouble: DataError | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._play, name="source", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def take(self, wait_s: float) -> Waveform:
        """Give what came since the last time, `(N,)`."""
        return self._ring.take(wait_s)

    @property
    def health(self) -> SourceHealth:
        """How far it is; "ended" once the last sample was taken."""
        if self._trouble is not None and self._ring.ended:
            error = self._trouble
            return SourceHealth("ended", error.message, error.hint, self._ring.dropped)
        pace = "as fast as it is taken" if self._fast else "in real time"
        line = f"{self._recording.path}, {self._recording.seconds:.1f} s, {pace}"
        state: State = "ended" if self._ring.ended else "open"
        return SourceHealth(state, line, dropped=self._ring.dropped, latency_ms=0.0)

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()
        self._ring.close()
        if self._thread.ident is None:  # else the thread does it, which may be reading
            self._recording.close()

    def _play(self) -> None:
        with contextlib.closing(self._recording), contextlib.closing(self._ring):
            try:
                self._put()
            except DataError as error:
                self._trouble = error

    def _put(self) -> None:
        for block in self._paced():
            if self._fast:
                self._ring.put_all(block)
            else:
                self._ring.put(block)
            if self._closing.is_set():
                break

    def _paced(self) -> Iterator[Waveform]:
        """The blocks of the file, each when its last sample has been said."""
        size, began_s, said = round(BLOCK_S * SAMPLE_RATE), time.monotonic(), 0
        for unit in self._recording.blocks():
            for start in range(0, len(unit), size):
                block = unit[start : start + size]
                said += len(block)
                if not self._fast:
                    self._closing.wait(began_s + said / SAMPLE_RATE - time.monotonic())
                yield block


class Silence:
    """No source: it has ended before it begins, and says why."""

    def __init__(self, line: str, hint: str = "") -> None:
        self.health = SourceHealth("ended", line, hint)

    def start(self) -> None:
        """Open nothing."""

    def take(self, wait_s: float) -> Waveform:
        """Give nothing."""
        return np.zeros(0, dtype=np.float32)

    def close(self) -> None:
        """Give nothing back."""
