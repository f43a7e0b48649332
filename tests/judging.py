"""A small judge, untrained but real, behind a real server; and raw requests to it."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from test_checkpoint import made

from engine.audio import SAMPLE_RATE, Waveform
from engine.checkpoint import save
from engine.events import Event, JudgeOpened, RequestAnswered
from engine.jobs import Control
from engine.judge_server import bound, serve
from engine.local_judge import LocalJudge

TOKEN = "sesame-0123456789"
SECOND = bytes(2 * SAMPLE_RATE)


def a_checkpoint(folder: Path) -> Path:
    path = folder / "judge.ckpt"
    save(path, made())
    return path


class Slow(LocalJudge):
    """A judge that takes as long as what it hears."""

    def score(self, waveform: Waveform) -> float:
        time.sleep(len(waveform) / SAMPLE_RATE)
        return super().score(waveform)


@dataclass
class Served:
    """A server that is up, and what it told."""

    events: list[Event] = field(default_factory=list)
    control: Control = field(default_factory=Control)

    @property
    def url(self) -> str:
        return next(event.url for event in self.events if isinstance(event, JudgeOpened))

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def answers(self) -> list[RequestAnswered]:
        return [event for event in self.events if isinstance(event, RequestAnswered)]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def answered(self, count: int) -> list[RequestAnswered]:
        """The answers, once there are so many."""
        until_s = time.monotonic() + 10
        while len(self.answers) < count and time.monotonic() < until_s:
            time.sleep(0.01)
        return self.answers


@contextmanager
def served(judge: LocalJudge, token: str | None = None, room: int = 8) -> Iterator[Served]:
    """Serve a judge at any free port, in a thread; end it as SIGTERM would."""
    it, door = Served(), bound("127.0.0.1", 0, token)
    work = {"emit": it.events.append, "control": it.control}
    thread = threading.Thread(target=serve, args=(judge, door, token, room), kwargs=work)
    thread.start()
    while thread.is_alive() and not it.events:
        time.sleep(0.01)
    try:
        yield it
    finally:
        it.control.stop()
        thread.join()


def request(*headers: str, token: str | None = None, body: bytes = b"") -> bytes:
    """The bytes of a request to verify."""
    lines = ["POST /v1/verify HTTP/1.1", "Host: judge", *headers]
    lines += [f"Authorization: Bearer {token}"] if token else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def pcm(body: bytes = SECOND, token: str | None = None) -> bytes:
    """The bytes of a whole request with PCM."""
    kind, length = "Content-Type: audio/pcm", f"Content-Length: {len(body)}"
    return request(kind, length, token=token, body=body)


def status(connection: socket.socket) -> int:
    """The status of the next answer of a connection, 0 if it was closed without one."""
    head = b""
    while b"\r\n" not in head:
        part = connection.recv(1)
        if not part:
            return 0
        head += part
    return int(head.split()[1])
