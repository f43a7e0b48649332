"""Lock: who holds a workspace, and what it trains, told to other processes, containers, machines.

    {"pid": 7, "run": "003-tinyconv", "host": "box", "boot": "6c2f...", "pids": "pid:[4026531836]"}

Who holds the file has it locked, which the kernel takes from a dead process, and writes this line
into it. A lock that was given back is empty.
"""

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

TRIES = 50
LONGEST_LINE = 4096
LARGEST_PID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lock; `run` is empty where it trains none.

    What its pid means is told by its host, the boot of that, and the namespace it counts pids in;
    what the system does not tell is empty.
    """

    pid: int
    run: str = ""
    host: str = ""
    boot: str = ""
    pids: str = ""

    def __str__(self) -> str:
        return f"process {self.pid}" if self.near else f"process {self.pid} of {self.host}"

    @property
    def near(self) -> bool:
        """Whether its pid is that process here too; an older version did not say where it is."""
        _, *where = _here()  # a running machine may be renamed: its boot stays
        told = [self.boot, self.pids]
        return not self.host or (told == where if all(told) else (self.host, *told) == _here())

    @property
    def ours(self) -> bool:
        """Whether it is this process."""
        return self.near and self.pid == os.getpid()


@cache
def _here() -> tuple[str, str, str]:
    """Our host, its boot, and the namespace of our pids."""
    boot = pids = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError):
        pids = str(Path("/proc/self/ns/pid").readlink())
    return os.uname().nodename, boot, pids


class Lock:
    """A file that one process holds at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def take(self, run: str) -> contextlib.AbstractContextManager[None]:
        """Hold it at once, for a run; the context gives it back.

        Raises BlockingIOError where another holds it, OSError where it cannot be written.
        """
        file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        try:
            self._seize(file)
            _write(file, run)
        except OSError:
            file.close()
            raise
        self._file = file
        return self._held(file)

    def trains(self, run: str) -> None:
        """Say which run is trained now, if it is we who hold it. Raises OSError."""
        if self._file is not None:
            _write(self._file, run)

    def holder(self) -> Holder | None:
        """Who holds it, None if nobody does; an empty one is not touched to find that out."""
        try:
            with self.path.open("rb") as file:
                told = _read(file.readline(LONGEST_LINE))
                if told is not None:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return told
        except OSError:
            return None
        return None

    def _seize(self, file: BinaryIO) -> None:
        """Lock the file, past those who only look whether it is locked."""
        for _ in range(TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if self.holder() is not None:
                break
            time.sleep(0.01)
        raise BlockingIOError

    @contextlib.contextmanager
    def _held(self, file: BinaryIO) -> Iterator[None]:
        try:
            yield
        finally:
            self._file = None
            with contextlib.suppress(OSError):  # a disk that has turned read-only
                file.truncate(0)
            file.close()


def _write(file: BinaryIO, run: str) -> None:
    """Put our line over the one before: whoever reads meanwhile finds one of them."""
    line = json.dumps(asdict(Holder(os.getpid(), run, *_here()))).encode() + b"\n"
    if os.pwrite(file.fileno(), line, 0) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    file.truncate(len(line))


def _read(line: bytes) -> Holder | None:
    """The holder that a line tells of, None of rubbish; an older version wrote its pid alone."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    table = told if isinstance(told, dict) else {"pid": told}
    pid, *words = (table.get(name, "") for name in Holder.__dataclass_fields__)
    if type(pid) is not int or not 0 < pid <= LARGEST_PID:
        return None
    return Holder(pid, *words) if all(isinstance(word, str) for word in words) else None
