"""Laptop: the way of sound to and from a box that has no sound card, on a second SSH connection.

    laptop$ arecord ... | ssh box wakeword-tui mic-pipe         stdin --> mic.sock --> the app
    laptop$ ssh box wakeword-tui speaker-pipe | aplay ...       the app --> speaker.sock --> stdout

What flows is 16 kHz, mono, signed 16 bits, little endian, without a head. A person waits while a
pipe starts, so nothing but the standard library is imported here.
"""

import contextlib
import os
import select
import shlex
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from engine.errors import DeviceError

Way = Literal["mic", "speaker"]
Tell = Callable[[str], None]
RAW = "-f S16_LE -r 16000 -c 1 -t raw"
AGAIN_S = 1.0
MOST = 4096  # bytes at once: an eighth of a second
START = "start the app, or `wakeword-tui listen`, with --audio pipe"


def command(way: Way) -> str:
    """What to type on a Linux laptop; docs/audio-over-ssh.md has it for others."""
    there = f"ssh {_address()} {_program()} {way}-pipe"
    soon = "-B 200000"  # what it holds ready, in microseconds: heard that much later
    return f"arecord -q {RAW} | {there}" if way == "mic" else f"{there} | aplay -q {soon} {RAW}"


def _address() -> str:
    """Us as the laptop calls us, as far as this connection tells."""
    connection = os.environ.get("SSH_CONNECTION", "").split()
    host, port = connection[2:4] if len(connection) == 4 else (socket.gethostname(), "22")
    user = os.environ.get("USER") or os.environ.get("LOGNAME")
    address = f"{user}@{host}" if user else host
    return address if port == "22" else f"-p {port} {address}"


def _program() -> str:
    """Our command, where a shell that has read no profile finds it."""
    program = Path(sys.executable).with_name("wakeword-tui")
    return str(program) if program.exists() else f"{sys.executable} -m wakeword_tui"


def socket_path(way: Way) -> Path:
    """Where the app listens, in a folder that is nobody else's. Raises DeviceError."""
    folder = _folder()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise DeviceError(f"{folder} cannot be made: {error.strerror}") from error
    return look_at_folder() / f"{way}.sock"


def look_at_folder() -> Path:
    """The folder of the sockets, there or not. Raises DeviceError where others can get at it."""
    folder = _folder()
    with contextlib.suppress(FileNotFoundError):
        facts = folder.lstat()
        ours = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()
        if not ours or facts.st_mode & 0o077:
            mended = shlex.join(["chmod", "700", str(folder)])
            raise DeviceError(f"others can get at {folder}", f"remove it, or `{mended}`")
    return folder


def _folder() -> Path:
    """In the user's runtime folder: a session may have it and not be told of it."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if os.access(runtime, os.W_OK | os.X_OK):
        return Path(runtime) / "wakeword"
    return Path("/tmp") / f"wakeword-{os.getuid()}"


def connect(way: Way) -> socket.socket | None:
    """Reach the app; None where none listens. Raises DeviceError."""
    peer = socket.socket(socket.AF_UNIX)
    try:
        peer.connect(str(socket_path(way)))
    except OSError:  # not there, or left behind by an app that was killed
        peer.close()
        return None
    return peer


class Line:
    """The near end of a pipe: reaches the app, and reaches it again once it is back."""

    def __init__(self, way: Way, tell: Tell) -> None:
        self.peer: socket.socket | None = None
        self._way, self._tell = way, tell
        self._tried_s = float("-inf")
        self._told = ""

    def reach(self) -> socket.socket | None:
        """The app, if it listens; it is asked once a second. Raises DeviceError."""
        if self.peer is None and time.monotonic() - self._tried_s > AGAIN_S:
            self._tried_s = time.monotonic()
            self.peer = connect(self._way)
            listens = "the app listens" if self._way == "mic" else "the app will be heard"
            self._say(listens if self.peer else f"no app is here yet: {START}")
        return self.peer

    def drop(self) -> None:
        """Hang up on an app that has gone. Raises DeviceError where it said why it hung up."""
        peer, self.peer = self.peer, None
        if peer is not None:
            with peer, contextlib.suppress(OSError):
                if said := peer.recv(MOST, socket.MSG_DONTWAIT):
                    raise DeviceError(said.decode(errors="replace"))
            self._say("the app has stopped listening; waiting for it")

    def _say(self, text: str) -> None:
        """Tell something once."""
        if text != self._told:
            self._told = text
            self._tell(text)


def feed(source: int, tell: Tell) -> None:
    """Copy samples from a descriptor to the app until they end; those that no app takes are lost.

    Whole samples are sent or lost, whatever is read. Raises DeviceError.
    """
    line, half = Line("mic", tell), b""
    while data := os.read(source, MOST):
        whole, half = halved(half + data)
        if peer := line.reach():
            try:
                peer.sendall(whole)
            except OSError:
                line.drop()


def halved(data: bytes) -> tuple[bytes, bytes]:
    """Cut bytes into whole samples and what begins the next one."""
    whole = len(data) // 2 * 2
    return data[:whole], data[whole:]


def fetch(sink: int, tell: Tell) -> None:
    """Copy what the app plays to a descriptor until nobody reads there. Raises DeviceError."""
    line = Line("speaker", tell)
    while True:
        waiting = select.poll()
        waiting.register(sink, 0)  # for its end alone
        if peer := line.reach():
            waiting.register(peer, select.POLLIN)
        ready = dict(waiting.poll(1000 * AGAIN_S))
        if sink in ready:
            return
        if peer and peer.fileno() in ready:
            data = received(peer)
            if not data:
                line.drop()
            elif not _written(sink, data):
                return


def received(peer: socket.socket) -> bytes:
    """What came; nothing where the other end has gone."""
    try:
        return peer.recv(MOST)
    except OSError:
        return b""


def _written(sink: int, data: bytes) -> bool:
    """Write all of it; False where nobody reads any more."""
    try:
        while data:
            data = data[os.write(sink, data) :]
    except OSError:
        return False
    return True
