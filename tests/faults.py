"""Faults for tests: a disk that is full, or read-only; a database whose pages are spoiled."""

import subprocess
from pathlib import Path

BALLAST = "ballast"
PAGE_BYTES = 4096


def fill(disk: Path) -> None:
    """Leave no byte free, without a word from our own code."""
    with (disk / BALLAST).open("wb", buffering=0) as file:
        for size in (65_536, 512):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue


def make_room(disk: Path) -> None:
    (disk / BALLAST).unlink()


def read_only(disk: Path, *, on: bool = True) -> None:
    subprocess.run(["mount", "-o", f"remount,{'ro' if on else 'rw'}", str(disk)], check=True)


def spoil(database: Path) -> None:
    """Overwrite every page but the first, which is read when a database is opened."""
    size = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(PAGE_BYTES)
        file.write(b"\xff" * (size - PAGE_BYTES))
