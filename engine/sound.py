"""Sound: a clip to the ear, or a playhead that moves all the same where nothing can be heard.

One output stream stays open and plays silence between clips: over a slow link opening takes
seconds, and stopping a stream waits until all of it is heard. A clip is put on as a `Deck`. Another
place, speed or clip puts on another deck, so the callback never waits for a lock.

    play, seek, turn                          every 20 ms
    ----------------> player._deck = Deck(...) ----------> deck.take(out) -> volume -> sound card
"""

import atexit
import contextlib
import sys
import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import audio
from engine.audio import SAMPLE_RATE, Waveform
from engine.errors import DeviceError

BLOCK_S, LATENCY_S = 0.02, 0.08
STALLED_S = 3.0
"""A stream that asks for nothing for so long is dead; some take 2 s to begin."""
AGAIN_S = 5.0
LOUDEST = 2.0
OPENING = "opening the sound device"


class Deck:
    """A clip `(N,)` at one speed, and how far it has been played."""

    def __init__(self, clip: Waveform, at_s: float, speed: float, *, loop: bool, rate: int) -> None:
        self._samples = audio.resample(clip, round(SAMPLE_RATE * speed), to=rate)
        self.clip, self.speed, self.loop = clip, speed, loop
        self.length_s = len(clip) / SAMPLE_RATE
        self._per_s = rate / speed  # samples of the deck in a second of the clip
        self._next = min(max(0, round(at_s * self._per_s)), len(self._samples))
        self.moving = True

    @property
    def position_s(self) -> float:
        """How far it is, in seconds of the clip."""
        return min(self._next / self._per_s, self.length_s)

    @property
    def ended(self) -> bool:
        """Whether nothing is left to play."""
        return self._next >= len(self._samples)

    def take(self, out: Waveform) -> None:
        """Fill `out` `(N,)` with what comes next, and with silence after the end."""
        filled = 0
        while self.moving and filled < len(out) and not self.ended:
            part = self._samples[self._next : self._next + len(out) - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            self.skip(len(part))
        out[filled:] = 0.0

    def skip(self, samples: int) -> None:
        """Go on by a number of samples, around where it loops."""
        self._next = min(self._next + samples, len(self._samples))
        if self.loop and self.ended:
            self._next = 0


class Player:
    """Plays one clip at a time, and returns at once whatever it is asked.

    `trouble` is a line that says why nothing is heard, empty when it is; the playhead then moves
    with the clock. `watch` notices a sound server that has gone; the next `play` looks for another.
    """

    def __init__(self) -> None:
        self.trouble = OPENING
        self.volume = 1.0
        self._speed, self._loop = 1.0, False
        self._deck: Deck | None = None
        self._rate = SAMPLE_RATE
        self._stream: Any = None
        self._opener: threading.Thread | None = None
        self._tried_s = self._asked_s = self._moved_s = 0.0
        self._ended = threading.Event()
        self._changing = threading.Lock()  # of decks, by whoever plays and by the opener

    def start(self) -> None:
        """Open the sound device in a thread, unless one is at it."""
        if self._opener is None or not self._opener.is_alive():
            self._opener = threading.Thread(target=self._open, name="sound", daemon=True)
            self._opener.start()

    def load(self, clip: Waveform) -> None:
        """Put a clip `(N,)` on without playing it."""
        self._settle()
        self._put_on(clip, 0.0, moving=False)

    def play(self, clip: Waveform, at_s: float = 0.0) -> None:
        """Play a clip `(N,)` from a place in it; what was playing is cut off."""
        self._settle()
        self._put_on(clip, at_s)
        if self._stream is None and time.monotonic() - self._tried_s > AGAIN_S:
            self.start()

    def resume(self) -> None:
        """Go on where it stands; from the beginning where it has ended."""
        deck = self._deck
        if deck is not None:
            self.play(deck.clip, 0.0 if deck.ended else self.position_s)

    def stop(self) -> None:
        """Stop where it is."""
        with self._changing:
            if self._deck is not None:
                self._settle()
                self._deck.moving = False

    def seek(self, at_s: float) -> None:
        """Go to another place of the clip, playing or not."""
        self._settle()
        if self._deck is not None:
            self._put_on(self._deck.clip, at_s, moving=self._deck.moving)

    def turn(self, *, speed: float | None = None, loop: bool | None = None) -> None:
        """Play at another speed, as a tape would, or over and over; from here on."""
        self._speed = self._speed if speed is None else speed
        self._loop = self._loop if loop is None else loop
        self.seek(self.position_s)

    @property
    def speed(self) -> float:
        """1 is as it was recorded."""
        return self._speed

    @property
    def loop(self) -> bool:
        """Whether the end is followed by the beginning."""
        return self._loop

    @property
    def playing(self) -> bool:
        """Whether the playhead moves."""
        self._settle()
        return self._deck is not None and self._deck.moving and not self._deck.ended

    @property
    def position_s(self) -> float:
        """Where the playhead is in the clip."""
        self._settle()
        return self._deck.position_s if self._deck is not None else 0.0

    def watch(self) -> None:
        """Go on in silence where the sound server has died or hangs; call this now and then."""
        quiet_s = time.monotonic() - self._asked_s
        if self._stream is not None and (self._ended.is_set() or quiet_s > STALLED_S):
            dead, self._stream = self._stream, None
            self.trouble = "the sound server has gone"
            self._opener = threading.Thread(target=_close, args=(dead,), daemon=True)
            self._opener.start()
            self._moved_s = time.monotonic()

    def close(self) -> None:
        """Give the sound device back; a server that hangs is not waited for."""
        stream, self._stream = self._stream, None
        if stream is not None:
            closer = threading.Thread(target=_close, args=(stream,), daemon=True)
            closer.start()
            closer.join(1.0)

    def _put_on(self, clip: Waveform, at_s: float, *, moving: bool = True) -> None:
        with self._changing:
            self._deck = self._made(clip, at_s, moving=moving)

    def _made(self, clip: Waveform, at_s: float, *, moving: bool) -> Deck:
        deck = Deck(clip, at_s, self._speed, loop=self._loop, rate=self._rate)
        deck.moving = moving
        return deck

    def _settle(self) -> None:
        """Where nothing is heard, move the playhead by the time that has passed."""
        now_s = time.monotonic()
        if self._stream is None and self._deck is not None and self._deck.moving:
            self._deck.skip(round((now_s - self._moved_s) * self._rate))
        self._moved_s = now_s

    def _open(self) -> None:
        """Open the stream; where that cannot be, `trouble` says why."""
        self._tried_s = time.monotonic()
        try:
            sounddevice = _sounddevice()
            if self.trouble != OPENING:  # devices are listed once, when it begins
                _list_again(sounddevice)
            self._begin(sounddevice, _output(sounddevice))
        except DeviceError as error:
            self.trouble = error.message

    def _begin(self, sounddevice: Any, device: dict[str, Any]) -> None:
        """Start a stream at our own rate, or at the device's."""
        for rate in (SAMPLE_RATE, round(device["default_samplerate"])):
            try:
                stream = self._started(sounddevice, rate)
            except sounddevice.PortAudioError as error:
                self.trouble = f"{device['name']}: {str(error).partition(' [')[0]}"
            else:
                self._take_over(stream, rate)
                return

    def _started(self, sounddevice: Any, rate: int) -> Any:
        """A stream that asks for samples; none is left open where it cannot start."""
        self._ended.clear()
        stream = sounddevice.OutputStream(
            samplerate=rate, blocksize=round(BLOCK_S * rate), latency=LATENCY_S, channels=1,
            dtype="float32", callback=self._asked, finished_callback=self._ended.set,
        )  # fmt: skip
        self._asked_s = time.monotonic()
        try:
            stream.start()
        except sounddevice.PortAudioError:
            stream.close()
            raise
        return stream

    def _take_over(self, stream: Any, rate: int) -> None:
        """Let the stream move the playhead from here on."""
        with self._changing:
            self._settle()
            another, self._rate = rate != self._rate, rate
            self._stream, self.trouble = stream, ""
            if another and self._deck is not None:
                self._deck = self._made(self._deck.clip, self.position_s, moving=self._deck.moving)

    def _asked(self, out: npt.NDArray[np.float32], frames: int, times: Any, status: Any) -> None:
        """The stream's callback: fill `out` `(N, 1)`."""
        self._asked_s = time.monotonic()
        deck = self._deck
        if deck is None or self._stream is None:
            out.fill(0.0)
        else:
            deck.take(out[:, 0])
            np.clip(out * self.volume, -1.0, 1.0, out=out)


def output_name() -> str:
    """The device that would be heard. Raises DeviceError where there is none."""
    return str(_output(_sounddevice())["name"])


def _output(sounddevice: Any) -> dict[str, Any]:
    try:
        device: dict[str, Any] = sounddevice.query_devices(kind="output")
    except (sounddevice.PortAudioError, ValueError) as error:
        hint = "clips can still be seen and fetched; docs/troubleshooting.md has ways to hear them"
        raise DeviceError("there is no sound device", hint) from error
    return device


def _sounddevice() -> Any:
    """The library; it looks for PortAudio when it is imported. Raises DeviceError."""
    try:
        import sounddevice
    except (OSError, ImportError) as error:
        hint = "apt-get install -y libportaudio2 libasound2-plugins, or brew install portaudio"
        raise DeviceError("PortAudio is not installed", hint) from error
    except _raised_by_portaudio() as error:
        raise _cannot_begin(error) from error
    atexit.unregister(sounddevice._exit_handler)  # it would wait for a server that hangs
    return sounddevice


def _raised_by_portaudio() -> type[BaseException]:
    """The error being handled, if it is PortAudio's: a failed import leaves no name to catch."""
    kind = sys.exc_info()[0]
    return kind if kind is not None and kind.__name__ == "PortAudioError" else ImportError


def _list_again(sounddevice: Any) -> None:
    """Begin PortAudio anew: it lists devices once. Raises DeviceError."""
    try:
        with contextlib.suppress(sounddevice.PortAudioError):  # where it did not begin before
            sounddevice._terminate()
        sounddevice._initialize()
    except sounddevice.PortAudioError as error:
        raise _cannot_begin(error) from error


def _cannot_begin(error: BaseException) -> DeviceError:
    hint = "clips can still be seen and fetched; docs/troubleshooting.md has ways to hear them"
    return DeviceError(f"PortAudio cannot begin: {str(error).partition(' [')[0]}", hint)


def _close(stream: Any) -> None:
    """Close a stream without playing what it still holds; blocks as long as the server hangs."""
    stream.abort()
    stream.close()
