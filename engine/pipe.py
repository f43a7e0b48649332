"""Pipe: the app's ends of the two sockets, a microphone and a loudspeaker that are elsewhere.

    wakeword-tui mic-pipe --> mic.sock --Door--> PipeSource --take--> whoever listens
    Player --Loudspeaker--> speaker.sock --> wakeword-tui speaker-pipe

One peer at a time. Another mic-pipe is told so, unless the first has fallen silent; another
speaker-pipe is connected, and hears nothing until the first has gone.
"""

import contextlib
import fcntl
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from engine import audio, laptop
from engine.audio import SAMPLE_RATE, Waveform
from engine.errors import DeviceError
from engine.source import BLOCK_S, Ring, SourceHealth

SILENT_S, STALLED_S = 1.0, 3.0
AGAIN_S = 3.0
SURE_S = 3.0
"""What comes in so long tells whether its rate is ours."""
LOOK_S = 0.1
HELD_BYTES = 4096  # in the socket: what has been played and is still on its way is heard late


class Door:
    """A socket at which peers come in, ours as long as we hold its lock. Raises DeviceError."""

    def __init__(self, way: laptop.Way) -> None:
        self.path = laptop.socket_path(way)
        with contextlib.ExitStack() as held, self._errors():
            held.callback(os.close, _locked(self.path.with_suffix(".lock"), way))
            self.path.unlink(missing_ok=True)  # left behind by one who was killed
            self.socket = held.enter_context(socket.socket(socket.AF_UNIX))
            self.socket.bind(str(self.path))
            self.path.chmod(0o600)
            self.socket.listen()
            self._held = held.pop_all()

    def accept(self) -> socket.socket:
        """Let in a peer that is there. Raises DeviceError."""
        with self._errors():
            return self.socket.accept()[0]

    def close(self) -> None:
        """Let another app have it."""
        with self._held, contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DeviceError(f"{self.path}: {error.strerror or error}") from error


def _locked(path: Path, way: laptop.Way) -> int:
    """A descriptor that holds a lock until it is closed, or its process ends."""
    try:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DeviceError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        hint = "close that one, or choose another sound with --audio"
        raise DeviceError(f"another wakeword-tui has the {way} pipe", hint) from error
    return held


class Samples:
    """Bytes as they come to waveforms `(N,)`; half a sample waits for its other half."""

    def __init__(self) -> None:
        self._half = b""

    def push(self, data: bytes) -> Waveform:
        """Give the samples that are whole."""
        whole, self._half = laptop.halved(self._half + data)
        return np.frombuffer(whole, dtype="<i2").astype(np.float32) * np.float32(1 / 32768)


class PipeSource:
    """What `mic-pipe` sends: raw PCM through a socket. When it goes, the next one is waited for.

    `why` begins its line while none has come yet.
    """

    def __init__(self, why: str = "") -> None:
        self._why = why
        self._ring = Ring()
        self._samples = Samples()
        self._peer: socket.socket | None = None
        self._heard_s = self._began_s = 0.0
        self._count = 0
        self._met = False
        self._trouble: DeviceError | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_open, name="pipe", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def take(self, wait_s: float) -> Waveform:
        """Give what came since the last time, `(N,)`."""
        return self._ring.take(wait_s)

    @property
    def health(self) -> SourceHealth:
        """Whether it is fed; if not, what to type on the laptop."""
        dropped = self._ring.dropped
        if self._closing.is_set():
            return SourceHealth("ended", "the pipe is closed", dropped=dropped)
        if self._peer is None:
            return self._alone()
        if time.monotonic() - self._heard_s > SILENT_S:
            hint = "look at the program that feeds it on the laptop"
            return SourceHealth("lost", "mic-pipe is there and sends nothing", hint, dropped)
        return self._fed()

    def close(self) -> None:
        """Hang up."""
        self._closing.set()
        self._ring.close()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _alone(self) -> SourceHealth:
        """Without a peer: what to type on the laptop, or why none can come in."""
        if self._trouble is not None:
            error = self._trouble
            return SourceHealth("lost", error.message, error.hint, self._ring.dropped)
        hint, line = f"on the laptop: {laptop.command('mic')}", f"{self._why}waiting for mic-pipe"
        if not self._met:
            return SourceHealth("connecting", line, hint, self._ring.dropped)
        line = "mic-pipe has gone; it is waited for"
        return SourceHealth("lost", line, hint, self._ring.dropped)

    def _fed(self) -> SourceHealth:
        """With a peer: what it sends, unless there are too many samples, or too few, for 16 kHz."""
        line, hint, dropped = "the laptop's microphone through mic-pipe", "", self._ring.dropped
        passed_s = self._heard_s - self._began_s
        pace = self._count / SAMPLE_RATE / max(passed_s, 1e-6)
        if passed_s > SURE_S and not 0.8 < pace < 1.25:
            line = f"mic-pipe sends {pace:.1f} times the samples of 16 kHz mono"
            hint = f"on the laptop: {laptop.command('mic')}"
        return SourceHealth("open", line, hint, dropped)

    def _keep_open(self) -> None:
        while not self._closing.is_set():
            try:
                with contextlib.closing(Door("mic")) as door:
                    self._trouble = None
                    self._serve(door)
            except DeviceError as error:
                self._trouble = error
            self._closing.wait(AGAIN_S)

    def _serve(self, door: Door) -> None:
        """Let peers in and take in what they send, until it is closed. Raises DeviceError."""
        try:
            while not self._closing.is_set():
                there = [door.socket] if self._peer is None else [door.socket, self._peer]
                ready, _, _ = select.select(there, [], [], LOOK_S)
                if self._peer in ready:
                    self._hear(self._peer)
                if door.socket in ready:
                    self._meet(door.accept())
        finally:
            self._drop("")

    def _hear(self, peer: socket.socket) -> None:
        data = laptop.received(peer)
        if data:
            self._count_in(block := self._samples.push(data))
            self._ring.put(block)
        else:
            self._drop("")

    def _count_in(self, block: Waveform) -> None:
        """Keep the pace, since it began or was silent."""
        now_s = time.monotonic()
        if self._count == 0 or now_s - self._heard_s > SILENT_S:
            self._began_s, self._count = now_s, 0
        self._heard_s = now_s
        self._count += len(block)

    def _meet(self, peer: socket.socket) -> None:
        """Take a peer in place of none, or of one that has fallen silent."""
        if self._peer is not None and time.monotonic() - self._heard_s < SILENT_S:
            hang_up(peer, "another mic-pipe feeds the app already")
            return
        self._drop("another mic-pipe feeds the app now")
        self._samples, self._count = Samples(), 0
        self._heard_s = time.monotonic()
        self._peer, self._met = peer, True

    def _drop(self, why: str) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            hang_up(peer, why)


def hang_up(peer: socket.socket, why: str) -> None:
    """Close a connection, and say why where that is not plain."""
    with peer, contextlib.suppress(OSError):
        peer.send(why.encode(), socket.MSG_DONTWAIT)


class Loudspeaker:
    """The way to a `speaker-pipe` as a stream: asks for 20 ms at a time, as a sound card does."""

    def __init__(self, peer: socket.socket, asked: Callable[[Waveform], None]) -> None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, HELD_BYTES)
        peer.settimeout(STALLED_S)
        self._peer, self._asked = peer, asked

    def run(self) -> None:
        """Play until the peer goes or this end is closed."""
        out = np.zeros((round(BLOCK_S * SAMPLE_RATE), 1), dtype=np.float32)
        began_s, blocks = time.monotonic(), 0
        with self._peer, contextlib.suppress(OSError):
            while True:
                self._asked(out)
                self._peer.sendall(audio.to_int16(out[:, 0]).astype("<i2").tobytes())
                blocks += 1
                ahead_s = began_s + blocks * BLOCK_S - time.monotonic()
                if ahead_s < -SILENT_S:  # it was suspended: do not catch up
                    began_s -= ahead_s
                time.sleep(max(0.0, ahead_s))

    def close(self) -> None:
        """End it, even while it waits for a peer that reads nothing."""
        with contextlib.suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)
