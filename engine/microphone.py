"""Microphone: which source is heard, by the word for it, and the sound card's."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import portaudio
from engine.audio import SAMPLE_RATE, Resampler, Waveform
from engine.errors import DataError, DeviceError
from engine.files import is_file
from engine.pipe import PipeSource
from engine.source import BLOCK_S, FileSource, Ring, Silence, Source, SourceHealth, State

FAST, NAMED = "fast:", "microphone:"
LATENCY_S = 0.1
FIRST_S, SILENT_S = 3.0, 1.0
"""A stream that gives nothing for so long is dead; the first block may take 2 s."""
AGAIN_S = 3.0
LOOK_S = 0.1
OPENING = "opening the microphone"
GONE = "the microphone has gone; it is looked for again"


def open_source(choice: str = "auto") -> Source:
    """Return the source that a choice names; `start` opens it.

    auto, microphone, microphone:NAME, pipe, none, the path of a recording (heard in real time), or
    fast:PATH (as fast as it is taken). Raises DataError for a recording that cannot be opened.
    """
    match choice:
        case "auto":
            return Whichever()
        case "microphone":
            return MicrophoneSource()
        case "pipe":
            return PipeSource()
        case "none":
            return Silence("no sound was asked for")
    if choice.startswith(NAMED):
        return MicrophoneSource(choice.removeprefix(NAMED))
    path = Path(choice.removeprefix(FAST))
    if not is_file(path):
        words = "auto, microphone, microphone:NAME, pipe, none, or the path of a recording"
        raise DataError(f"{path}: there is no such recording", f"sound is one of {words}")
    return FileSource(path, fast=choice.startswith(FAST))


def input_name() -> str:
    """The device that would be heard. Raises DeviceError where there is none."""
    return portaudio.called(portaudio.device("input"))


class MicrophoneSource:
    """A microphone of the sound card, or of the server at `$PULSE_SERVER`, at any rate it has.

    Its thread opens it, watches over it, and looks for it again when it has gone.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._tape = Ring(), Resampler(SAMPLE_RATE)  # of one opening
        self._dropped = 0  # before that
        self._health = SourceHealth("connecting", OPENING)
        self._heard_s = 0.0
        self._ended, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep_open, name="microphone", daemon=True)

    def start(self) -> None:
        """Begin to look for it."""
        self._thread.start()

    def take(self, wait_s: float) -> Waveform:
        """Give what came since the last time, `(N,)`."""
        ring, resampler = self._tape
        return resampler.push(ring.take(wait_s))

    @property
    def health(self) -> SourceHealth:
        """How it does now."""
        health = self._health
        ended = self._closing.is_set()
        state: State = "ended" if ended else health.state
        line = "the microphone is closed" if ended else health.line
        return SourceHealth(state, line, health.hint, self._lost(), health.latency_ms)

    def close(self) -> None:
        """Give the device back; a server that hangs is not waited for."""
        self._closing.set()
        self._tape[0].close()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _lost(self) -> int:
        ring, resampler = self._tape
        return self._dropped + round(ring.dropped * SAMPLE_RATE / resampler.rate)

    def _keep_open(self) -> None:
        """Hear it until it is closed; listed anew from the second time on."""
        again = False
        while not self._closing.is_set():
            try:
                if again:
                    portaudio.look_again()
                self._hear(portaudio.device("input", self._name))
            except DeviceError as error:
                self._health = SourceHealth("lost", error.message, error.hint)
            again = True
            self._closing.wait(AGAIN_S)

    def _hear(self, device: dict[str, Any]) -> None:
        """Hear a device until it gives no more. Raises DeviceError where it cannot be opened."""
        stream = self._opened(device)
        try:
            self._watch(portaudio.called(device), 1000 * stream.latency_s)
        finally:
            stream.close()

    def _watch(self, name: str, latency_ms: float) -> None:
        """Wait until the stream dies or is to be closed; it is open once it gives something."""
        began_s = self._heard_s = time.monotonic()
        while not self._closing.wait(LOOK_S):
            silent_s = time.monotonic() - self._heard_s
            heard = self._heard_s > began_s
            if self._ended.is_set() or silent_s > (SILENT_S if heard else FIRST_S):
                self._health = SourceHealth("lost", GONE, f"is {name} still there?")
                return
            if heard:
                line = f"{name}, {self._tape[1].rate / 1000:g} kHz"
                self._health = SourceHealth("open", line, latency_ms=latency_ms)

    def _opened(self, device: dict[str, Any]) -> portaudio.Stream:
        """A stream at our rate, or the device's; mono, or with the channels it insists on."""
        rate, refused = round(device["default_samplerate"]), DeviceError("")
        for way in ((SAMPLE_RATE, 1), (rate, 1), (rate, int(device["max_input_channels"]))):
            try:
                return self._started(device, *way)
            except DeviceError as error:
                refused = error
        raise DeviceError(f"{device['name']}: {refused.message}", refused.hint)

    def _started(self, device: dict[str, Any], rate: int, channels: int) -> portaudio.Stream:
        self._dropped, self._tape = self._lost(), (Ring(rate), Resampler(rate))
        self._ended.clear()
        self._heard_s = time.monotonic()
        return portaudio.Stream(
            "input", device=device["index"], samplerate=rate, blocksize=round(BLOCK_S * rate),
            latency=LATENCY_S, channels=channels, dtype="float32", callback=self._put,
            finished_callback=self._ended.set,
        )  # fmt: skip

    def _put(self, block: npt.NDArray[np.float32], frames: int, times: Any, status: Any) -> None:
        """The stream's callback: keep the first channel of `(N, C)`, and count what was lost."""
        ring, _ = self._tape
        ring.put(block[:, 0])
        ring.dropped += frames * bool(status.input_overflow)
        self._heard_s = time.monotonic()


class Whichever:
    """The microphone if there is one when it starts, the pipe if not."""

    def __init__(self) -> None:
        self._source: Source | None = None
        self._closed = False
        self._choosing, self._chosen = threading.Lock(), threading.Event()

    def start(self) -> None:
        """Look in a thread: a sound server may be far away."""
        threading.Thread(target=self._choose, name="source", daemon=True).start()

    def take(self, wait_s: float) -> Waveform:
        """Give what came since the last time, `(N,)`."""
        self._chosen.wait(wait_s)
        return np.zeros(0, dtype=np.float32) if self._source is None else self._source.take(wait_s)

    @property
    def health(self) -> SourceHealth:
        """How what was chosen does."""
        if self._source is not None:
            return self._source.health
        state: State = "ended" if self._closed else "connecting"
        return SourceHealth(state, "looking for a microphone")

    def close(self) -> None:
        """Close what was chosen."""
        with self._choosing:
            self._closed = True
        if self._source is not None:
            self._source.close()

    def _choose(self) -> None:
        source = _there()
        with self._choosing:
            if not self._closed:
                source.start()
                self._source = source
        self._chosen.set()


def _there() -> Source:
    """What can be heard here."""
    try:
        input_name()
    except DeviceError:
        try:
            portaudio.look_again()
            input_name()
        except DeviceError as error:
            return PipeSource(f"{error.message}; ")
    return MicrophoneSource()
