"""Real terminals for tests: a program in a pty, its output as bytes, keys, size, signals; tmux."""

import contextlib
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S, until

LAUNCHER = (sys.executable, str(Path(__file__).with_name("launcher.py")))
COMMAND = (sys.executable, "-m", "wakeword_tui")
APART_S = 0.09
"""Keys come a little slower than a key that is held down repeats."""

SIZE_NAMES = "COLUMNS", "LINES"
"""pytest has readline set them to the size of its own terminal, and they go before the real one."""

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here")


class Terminal:
    """A program that has a pty as its terminal; a thread reads it while `reading` is set."""

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        size: tuple[int, int] = (80, 24),
        program: Sequence[str] = LAUNCHER,
    ) -> None:
        self.master, slave = pty.openpty()
        columns, rows = size
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.output = b""
        self.reading = threading.Event()
        self.reading.set()
        self.process = subprocess.Popen(
            [*program, *arguments],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env=inherited() | {"TERM": "xterm-256color"} | environment,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.slave = slave
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                self.reading.wait()
                self.output += os.read(self.master, 65536)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def attributes(self) -> list[object]:
        return termios.tcgetattr(self.slave)

    def hang_up(self) -> None:
        """Close the terminal, as a lost connection does."""
        os.close(self.slave)
        os.close(self.master)

    def wait_for(self, text: str, within_s: float = PATIENCE_S) -> None:
        until(lambda: text.encode() in self.output, within_s, self.tail)

    def time_to(self, key: str, text: str, within_s: float = PATIENCE_S) -> float:
        """Seconds from a key to a text in what is written after it."""
        mark, began = len(self.output), time.perf_counter()
        self.press(key)
        while text.encode() not in self.output[mark:]:
            assert time.perf_counter() - began < within_s, self.tail()
            time.sleep(0.0005)
        return time.perf_counter() - began

    def tail(self) -> str:
        """The last words of the output, without its escape sequences."""
        return re.sub(rb"\x1b\[[^A-Za-z]*[A-Za-z]|[^ -~]", b" ", self.output)[-1500:].decode()

    def wait(self, within_s: float = PATIENCE_S) -> int:
        return self.process.wait(within_s)


def inherited() -> dict[str, str]:
    """The environment, without the size of another terminal."""
    return {name: value for name, value in os.environ.items() if name not in SIZE_NAMES}


@contextlib.contextmanager
def terminal(
    arguments: list[str],
    environment: dict[str, str],
    size: tuple[int, int] = (80, 24),
    program: Sequence[str] = LAUNCHER,
) -> Iterator[Terminal]:
    opened = Terminal(arguments, environment, size, program)
    try:
        yield opened
    finally:
        opened.process.kill()
        opened.process.wait()
        opened.reading.set()
        for descriptor in (opened.master, opened.slave):
            with contextlib.suppress(OSError):
                os.close(descriptor)


class Tmux:
    """A tmux server of the test's own, with one window, which closes when its program ends."""

    def __init__(
        self,
        folder: Path,
        command: list[str],
        environment: dict[str, str],
        size: tuple[int, int] = (80, 24),
    ) -> None:
        self._call = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]
        words = [f"{name}={value}" for name, value in environment.items()]
        columns, rows = map(str, size)
        unset = [word for name in SIZE_NAMES for word in ("-u", name)]
        self.run("new-session", "-d", "-x", columns, "-y", rows, "env", *unset, *words, *command)

    def run(self, *words: str, check: bool = True) -> str:
        done = subprocess.run([*self._call, *words], capture_output=True, text=True, check=check)
        return done.stdout

    def press(self, *keys: str) -> None:
        self.run("send-keys", *keys)

    def type(self, text: str) -> None:
        """Type a line, and enter."""
        self.run("send-keys", "-l", text)
        self.press("Enter")

    def see(self, text: str, within_s: float = PATIENCE_S) -> None:
        until(lambda: text in self.screen(), within_s, self.screen)

    def screen(self) -> str:
        """What the window shows; nothing once it is closed."""
        return self.run("capture-pane", "-p", check=False)


@contextlib.contextmanager
def tmux(
    folder: Path,
    command: list[str],
    environment: dict[str, str],
    size: tuple[int, int] = (80, 24),
) -> Iterator[Tmux]:
    opened = Tmux(folder, command, environment, size)
    try:
        yield opened
    finally:
        opened.run("kill-server", check=False)
