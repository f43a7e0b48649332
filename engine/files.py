"""Files: written whole or not at all, and what a disk that refuses says.

name -> .name.x1y2 -> fsync -> rename        either the old file or the new one, never half
.part-x1y2/built -> rename                   a folder likewise; `.part-x1y2/lock` is held meanwhile
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.errors import DataError, WakewordError

HASH_BYTES = 64
PART = ".part-"
LOCK = ".lock"
"""The file in a folder that is locked where the folder itself cannot be."""


def sealed(data: bytes) -> bytes:
    """Data behind its own SHA-256."""
    return hashlib.sha256(data).hexdigest().encode() + data


def unsealed(raw: bytes) -> bytes | None:
    """What was sealed; None where its hash does not hold."""
    digest, data = raw[:HASH_BYTES], raw[HASH_BYTES:]
    return data if hashlib.sha256(data).hexdigest().encode() == digest else None


def is_file(path: Path) -> bool:
    """Whether a file is there; of any text that a person may type, where `Path.is_file` raises."""
    return os.path.isfile(path)  # noqa: PTH113


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file whole or not at all, and have it on the disk when this returns.

    Whoever could read the old one can read the new one; of a new file that is its owner. A full
    disk leaves the old file as it was and raises DataError.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise disk_error(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            if path.exists():
                os.fchmod(handle, stat.S_IMODE(path.stat().st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise disk_error(path, error) from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def remove_torn(*folders: Path) -> None:
    """Remove what killed writers left in folders in which nobody else writes now."""
    for left in chain(*(folder.glob(".*") for folder in folders)):
        if left.is_file():
            left.unlink(missing_ok=True)


def disk_error(path: Path, error: OSError) -> WakewordError:
    """Turn a failed write into a sentence."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(f"the disk is full: {path} was not written", "free space, then resume")
    return DataError(f"cannot write {path}: {error.strerror}", "check the folder's permissions")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what fails on the disk into a sentence."""
    try:
        yield
    except OSError as error:
        raise disk_error(path, error) from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises DataError."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes; some network disks know no locks, and hold none."""
    with contextlib.ExitStack() as held:
        if not _lock(folder, os.O_RDONLY, held):
            _lock(folder / LOCK, os.O_RDWR | os.O_CREAT, held)
        yield


def _lock(path: Path, how: int, held: contextlib.ExitStack) -> bool:
    """Wait for a lock; False where the disk locks only what is open to be written, as NFS does."""
    handle = os.open(path, how, 0o666)
    held.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        return error.errno != errno.EBADF
    return True


@contextlib.contextmanager
def building(parent: Path) -> Iterator[Path]:
    """An empty folder to build in and to rename into `parent`; what is not renamed is removed.

    What killed builders left is removed before. Who lives is told by a lock, which the
    kernel takes from a dead process: a pid means nothing to another machine or container.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with alone(parent):
            _remove_dead(parent)
            made = TemporaryDirectory(dir=parent, prefix=PART, ignore_cleanup_errors=True)
            part = Path(stack.enter_context(made))
            lock = stack.enter_context((part / "lock").open("wb"))
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
        built = part / "built"
        built.mkdir(0o700)
        yield built


def _remove_dead(parent: Path) -> None:
    for part in parent.glob(f"{PART}*"):
        if not _held(part / "lock"):
            shutil.rmtree(part, ignore_errors=True)


def _held(lock: Path) -> bool:
    """Whether a process holds a file; where the disk knows no locks, it may."""
    try:
        with lock.open("r+b") as file:  # NFS locks nothing that is only open to be read
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
