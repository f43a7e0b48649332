"""The terminal: kept clean while the app runs, given back after it, and survived when it is lost.

The only file that uses names which Textual keeps to itself (`_writer_thread`, `_driver`).
"""

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from io import TextIOWrapper
from pathlib import Path
from types import FrameType

from textual.app import App
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver

from engine.jobs import Jobs

SAVE_WITHIN_S = 60.0
RESTORE_WITHIN_S = 5.0
MOST_WAITING = 2
LOOK_EVERY_S = 0.2
EXIT_CODES = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}


class HangupDriver(LinuxDriver):
    """A driver whose terminal may go away: after `hang_up` nothing reads or writes it any more."""

    _gone = False

    @property
    def gone(self) -> bool:
        """Whether the terminal is lost."""
        return self._gone

    def hang_up(self) -> None:
        """Let go of a terminal that is lost; from a thread other than the app's."""
        self._gone = True
        self.exit_event.set()  # a hung-up terminal is always readable: reading it would spin
        if self._writer_thread is not None:
            with contextlib.suppress(queue.Empty):
                while True:  # frees the app's thread if it waits for room
                    self._writer_thread._queue.get_nowait()
        _point_nowhere(0, 1, 2)

    def waiting(self) -> int:
        """How many writes the terminal has not taken yet."""
        return self._writer_thread._queue.qsize() if self._writer_thread is not None else 0

    def write(self, data: str) -> None:
        """Write, unless there is nobody."""
        if not self._gone:
            super().write(data)

    def close(self) -> None:
        """Close, unless there is nothing to close."""
        if not self._gone:
            super().close()

    def disable_input(self) -> None:
        """Stop reading, unless that is done."""
        if not self._gone:
            super().disable_input()


def backed_up(app: App[int]) -> bool:
    """Whether the terminal is behind, or lost: a frame would wait, so skip it and keep the data."""
    driver: Driver | None = app._driver
    return isinstance(driver, HangupDriver) and (driver.gone or driver.waiting() > MOST_WAITING)


def shield_terminal(log: Path) -> None:
    """Point descriptors 1 and 2 at a file; Python's streams keep the terminal on private copies.

    CUDA, glibc and child processes write to 1 and 2, and would paint over the screen.
    """
    sys.__stdout__ = sys.stdout = _copy(1)  # type: ignore[misc]
    sys.__stderr__ = sys.stderr = _copy(2)  # type: ignore[misc]
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    logging.basicConfig(filename=log, level=logging.WARNING, force=True)
    logging.captureWarnings(True)


def _copy(descriptor: int) -> TextIOWrapper:
    """A stream to where a descriptor points; a file's name that is no text must not end it."""
    return open(os.dup(descriptor), "w", buffering=1, encoding="utf-8", errors="replace")  # noqa: PTH123


def let_go() -> None:
    """Drop what a lost terminal did not take: Python ends with 120 if it cannot write it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _point_nowhere(stream.fileno())


def _point_nowhere(*descriptors: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    os.close(null)


class Signals:
    """Ends the app in good order on SIGTERM and SIGINT, and after a lost terminal (SIGHUP).

    If it is to `go_on` after a lost terminal, it ends when its jobs have, or on SIGTERM.

    The handler only starts a thread: it may have interrupted the app's thread anywhere, also where
    that holds a lock. `signal.signal`, because a handler of the event loop never runs while the
    loop waits for a stalled terminal.
    """

    def __init__(self, app: App[int], jobs: Jobs, *, go_on: bool = False) -> None:
        self.app = app
        self.jobs = jobs
        self.go_on = go_on
        self._ending = self._lost = False
        for number in EXIT_CODES:
            signal.signal(number, self._heard)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and not self._lost:
            self._lost = True
            threading.Thread(target=self._lose, daemon=True).start()
        elif number != signal.SIGHUP and not self._ending:
            self._ending = True
            threading.Thread(target=self._end, args=(number,), daemon=True).start()

    def _lose(self) -> None:
        """Do without the terminal: to the end of the jobs, or to their next checkpoint."""
        driver: Driver | None = self.app._driver
        if isinstance(driver, HangupDriver):
            driver.hang_up()
        self.jobs.leave_alone()
        while self.go_on and self.jobs.working():
            time.sleep(LOOK_EVERY_S)
        if not self._ending:
            self._ending = True
            self._end(signal.SIGHUP)

    def _end(self, number: int) -> None:
        code = EXIT_CODES[signal.Signals(number)]
        self.jobs.stop_all(SAVE_WITHIN_S)
        if not self._lost:
            threading.Thread(target=self._restore, args=(code,), daemon=True).start()
            threading.Event().wait(RESTORE_WITHIN_S)
        os._exit(code)

    def _restore(self, code: int) -> None:
        """Leave the app as `q` does; it may hang if the terminal does not take the last bytes."""
        self.app.call_from_thread(self.app.exit, code, code)
