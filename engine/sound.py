"""Sound: a clip to the ear, or a playhead that moves all the same where nothing can be heard.

One output stream stays open and plays silence between clips: over a slow link opening takes
seconds, and stopping a stream waits until all of it is heard. A clip is put on as a `Deck`. Another
place, speed or clip puts on another deck, so the callback never waits for a lock.

    play, seek, turn                          every 20 ms
    ----------------> player._deck = Deck(...) ----------> deck.take(out) -> volume -> sound card

A `speaker-pipe` that connects is a stream too, and is heard in place of the sound card.
"""

import contextlib
import select
import socket
import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import audio, laptop, portaudio
from engine.audio import SAMPLE_RATE, Waveform
from engine.errors import DeviceError
from engine.pipe import LOOK_S, Door, Loudspeaker
from engine.source import BLOCK_S

LATENCY_S = 0.08
STALLED_S = 3.0
"""A stream that asks for nothing for so long is dead; some take 2 s to begin."""
AGAIN_S = 5.0
LOUDEST = 2.0
OPENING = "opening the sound device"
NOT_ASKED = "no sound was asked for"


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

    `choice` is the word for the sound: with "pipe" the sound card stays closed, with "none" all.
    `trouble` is a line that says why nothing is heard, empty when it is, and `hint` what to do; the
    playhead then moves with the clock. `watch` notices a sound server that has gone; the next
    `play` looks for another.
    """

    def __init__(self, choice: str = "auto") -> None:
        self.trouble = NOT_ASKED if choice == "none" else OPENING
        self.hint = ""
        self.volume = 1.0
        self._choice = choice
        self._speed, self._loop = 1.0, False
        self._deck: Deck | None = None
        self._rate = SAMPLE_RATE
        self._stream: portaudio.Stream | Loudspeaker | None = None
        self._opener: threading.Thread | None = None
        self._porter: threading.Thread | None = None
        self._tried_s = self._asked_s = self._moved_s = 0.0
        self._ended, self._closing = threading.Event(), threading.Event()
        self._changing = threading.Lock()  # of decks, by whoever plays and by the opener

    def start(self) -> None:
        """Open the sound device in a thread, unless one is at it, and let a speaker-pipe in."""
        if self._choice not in ("pipe", "none") and not _alive(self._opener):
            self._opener = threading.Thread(target=self._open, name="sound", daemon=True)
            self._opener.start()
        if self._choice != "none" and not _alive(self._porter):
            self._closing.clear()
            self._porter = threading.Thread(target=self._listen, name="speaker", daemon=True)
            self._porter.start()

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
        dead = self._ended.is_set() or quiet_s > STALLED_S
        if dead and isinstance(self._stream, portaudio.Stream):
            self._opener = self._let_go("the sound server has gone")

    def close(self) -> None:
        """Give the sound device back; a server that hangs is not waited for."""
        self._closing.set()
        for thread in (self._let_go(self.trouble), self._porter):
            if thread is not None:
                thread.join(1.0)

    def _let_go(self, trouble: str) -> threading.Thread | None:
        """Close the stream in a thread, and let the clock move the playhead."""
        stream, self._stream = self._stream, None
        if stream is None:
            return None
        self.trouble, self._moved_s = trouble, time.monotonic()
        closer = threading.Thread(target=stream.close, daemon=True)
        closer.start()
        return closer

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
            if self.trouble != OPENING:  # devices are listed once, when it begins
                portaudio.look_again()
            self._begin(portaudio.device("output"))
        except DeviceError as error:
            self._complain(error)

    def _begin(self, device: dict[str, Any]) -> None:
        """Start a stream at our own rate, or at the device's."""
        for rate in (SAMPLE_RATE, round(device["default_samplerate"])):
            try:
                stream = self._started(rate)
            except DeviceError as error:
                self._complain(DeviceError(f"{device['name']}: {error.message}", error.hint))
            else:
                self._take_over(stream, rate)
                return

    def _complain(self, error: DeviceError) -> None:
        """Say why nothing is heard, unless something is, meanwhile."""
        if self._stream is None:
            self.trouble, self.hint = error.message, error.hint

    def _started(self, rate: int) -> portaudio.Stream:
        """A stream that asks for samples."""
        self._ended.clear()
        self._asked_s = time.monotonic()
        return portaudio.Stream(
            "output", samplerate=rate, blocksize=round(BLOCK_S * rate), latency=LATENCY_S,
            channels=1, dtype="float32", callback=self._asked, finished_callback=self._ended.set,
        )  # fmt: skip

    def _listen(self) -> None:
        """Let in one speaker-pipe after the other, as long as that can be."""
        try:
            with contextlib.closing(Door("speaker")) as door:
                self._let_in(door)
        except DeviceError as error:
            if self._choice == "pipe":
                self._complain(error)

    def _let_in(self, door: Door) -> None:
        """Play into whatever comes to a door, until it is closed. Raises DeviceError."""
        hint = f"on the laptop: {laptop.command('speaker')}"
        waiting = DeviceError("waiting for speaker-pipe", hint)
        while not self._closing.is_set():
            if self._choice == "pipe" and self._stream is None:
                self._complain(waiting)
            if select.select([door.socket], [], [], LOOK_S)[0]:
                self._play_into(door.accept())

    def _play_into(self, peer: socket.socket) -> None:
        """Be heard through a speaker-pipe until it goes, and not through the sound card."""
        closer = self._let_go("connecting to speaker-pipe")
        if closer is not None:
            closer.join(1.0)
        loudspeaker = Loudspeaker(peer, self._fill)
        self._take_over(loudspeaker, SAMPLE_RATE)
        loudspeaker.run()
        if self._stream is loudspeaker:
            self._let_go("speaker-pipe has gone")

    def _take_over(self, stream: portaudio.Stream | Loudspeaker, rate: int) -> None:
        """Let the stream move the playhead from here on."""
        with self._changing:
            if isinstance(self._stream, Loudspeaker):  # it came while a sound card was opened
                threading.Thread(target=stream.close, daemon=True).start()
                return
            self._settle()
            another, self._rate = rate != self._rate, rate
            self._stream, self.trouble = stream, ""
            if another and self._deck is not None:
                self._deck = self._made(self._deck.clip, self.position_s, moving=self._deck.moving)

    def _asked(self, out: npt.NDArray[np.float32], frames: int, times: Any, status: Any) -> None:
        """The callback of a sound card."""
        self._asked_s = time.monotonic()
        self._fill(out)

    def _fill(self, out: npt.NDArray[np.float32]) -> None:
        """Fill `out` `(N, 1)` with what comes next."""
        deck = self._deck
        if deck is None or self._stream is None:
            out.fill(0.0)
        else:
            deck.take(out[:, 0])
            np.clip(out * self.volume, -1.0, 1.0, out=out)


def _alive(thread: threading.Thread | None) -> bool:
    return thread is not None and thread.is_alive()


def output_name() -> str:
    """The device that would be heard. Raises DeviceError where there is none."""
    return portaudio.called(portaudio.device("output"))
