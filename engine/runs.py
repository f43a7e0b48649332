"""The workspace and its run directories: what is kept, and how it gets to the disk whole.

workspace/
  lock                    the process whose job holds the GPU, and the run it trains
  runs/001-name/          recipe.toml events.jsonl report.json outcomes.npz checkpoints/ export/
                          mined/
  studies/                name.toml, name.db: what a search has tried
  cache/<sha256>/         packed clips
  queue.db                finds to decide on (queue_store)
  live/                   what a person kept of live audio
"""

import contextlib
import errno
import json
import math
import os
import re
import shlex
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from engine.errors import BusyError, DataError, WakewordError
from engine.events import Event, Record, Stepped, from_line, to_line
from engine.files import alone, disk_error, make_folder, write_atomic, writing
from engine.lock import Holder, Lock
from engine.recipe import Recipe
from engine.recipe_file import dump, load, override

PASSING_EVERY_S = 1.0
LONGEST_LINE = 65_536


class EventLog:
    """Appends events to `events.jsonl`; numbers all of them.

    Opening with `keep` cuts the file after that number: a resume goes back to its checkpoint, and
    what came after it will happen again. Of `Stepped`, and of each kind that is not durable, one a
    second is kept at most, for those who read along.
    """

    def __init__(self, path: Path, keep: int | None = None) -> None:
        self.path = path
        self._kept_s: dict[type[Event], float] = {}
        records = [r for r in read_events(path) if keep is None or r.n <= keep]
        self.n = records[-1].n if records else 0
        write_atomic(path, b"".join(to_line(r).encode() + b"\n" for r in records))
        self._file: BinaryIO = path.open("ab", buffering=0)

    def append(self, event: Event) -> Record:
        """Number an event and write it, unless another of its kind was just written."""
        self.n += 1
        record = Record(self.n, time.time(), event)
        if self._kept(event):
            self._write(to_line(record).encode() + b"\n")
        return record

    def _write(self, line: bytes) -> None:
        """Write a line whole or not at all: the rest of a torn one would spoil the next."""
        end = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):  # a disk that has turned read-only
                self._file.truncate(end)
            raise disk_error(self.path, error) from error

    def _kept(self, event: Event) -> bool:
        if event.durable and not isinstance(event, Stepped):
            return True
        kind, now = type(event), time.monotonic()  # the wall clock may be set back by hours
        if now - self._kept_s.get(kind, -math.inf) < PASSING_EVERY_S:
            return False
        self._kept_s[kind] = now
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_events(path: Path) -> Iterator[Record]:
    """Yield the records of an `events.jsonl`, line by line; a torn last line is left out.

    Raises DataError.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                record = from_line(line)
                if record is not None:
                    yield record
    except FileNotFoundError:
        return
    except OSError as error:
        hint = "check its permissions"
        raise DataError(f"cannot read {path}: {error.strerror}", hint) from error


def last_number(path: Path) -> int:
    """Number of the last event that is on the disk, 0 before the first."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LONGEST_LINE))
        lines = file.read().decode(errors="replace").splitlines()
    numbers = [record.n for record in map(from_line, lines) if record is not None]
    return numbers[-1] if numbers else 0


@dataclass(frozen=True, slots=True)
class Run:
    """One training and its directory."""

    path: Path

    @property
    def number(self) -> int:
        """Number of the run in its workspace."""
        return int(self.path.name.split("-", 1)[0])

    @property
    def name(self) -> str:
        """Folder name, `001-name`."""
        return self.path.name

    @property
    def events(self) -> Path:
        """The event file."""
        return self.path / "events.jsonl"

    @property
    def last(self) -> Path:
        """The checkpoint a resume starts from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def int8(self) -> Path:
        """The best checkpoint of the student as INT8."""
        return self.path / "checkpoints" / "int8.ckpt"

    @property
    def rounded(self) -> Path:
        """The student as INT8 before it was fine-tuned."""
        return self.path / "checkpoints" / "rounded.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint that is shipped."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.json"

    @property
    def outcomes(self) -> Path:
        """What became of each clip of the test."""
        return self.path / "outcomes.npz"

    @property
    def export(self) -> Path:
        """The folder of exported models."""
        return self.path / "export"

    @property
    def mined(self) -> Path:
        """The folder of what was taken from the queue when the run began."""
        return self.path / "mined"

    def recipe(self) -> Recipe:
        """The recipe as it was at the start."""
        return load(self.path / "recipe.toml")

    def report_json(self) -> dict[str, Any] | None:
        """The report as plain tables; None while there is none, or none that can be read."""
        try:
            tables = json.loads(self.report.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return tables if isinstance(tables, dict) and "test" in tables else None

    def finished(self) -> bool:
        """Whether the run has its report, and one that can be read: else it is tested again."""
        try:
            found = self.report.stat()
        except OSError:
            return False
        return _readable(self, found.st_mtime_ns, found.st_size)

    def holds(self, path: Path) -> bool:
        """Whether a path is the run's folder, or in it."""
        return path.resolve().is_relative_to(self.path.resolve())

    def resuming(self) -> str:
        """What to type to go on with it."""
        return Workspace(self.path.parent.parent).command("train", "--resume", str(self.number))


@lru_cache(maxsize=4096)
def _readable(run: Run, _changed_ns: int, _size: int) -> bool:
    """Whether a report can be read, looked at once: screens ask for each run again and again."""
    return run.report_json() is not None


def default_root() -> Path:
    """Where the workspace is unless --workspace says otherwise."""
    return Path(os.environ.get("WAKEWORD_HOME") or "workspace")


def of_fold(text: str, fold: int) -> str:
    """A path or a name in a recipe for all folds, for one of them."""
    return text.replace("{fold}", str(fold))


def located(path: Path, fold: int) -> Path:
    """What a teacher's path means by now: of this fold, and of all that fit a * the newest run."""
    path = Path(of_fold(str(path), fold))
    return max(path.parent.glob(path.name), key=_age, default=path) if "*" in path.name else path


def _age(path: Path) -> tuple[int, str]:
    """By the number of a run: 1000- is newer than 999-."""
    return int(re.split(r"\D", path.name, maxsplit=1)[0] or 0), path.name


def settled(recipe: Recipe) -> Recipe:
    """The recipe with the teachers that its paths mean by now: a resume wants the same ones."""
    teachers, fold = enumerate(recipe.distill.teachers), recipe.data.fold
    paths = {
        f"distill.teachers[{number}].path": str(located(wanted.path, fold))
        for number, wanted in teachers
        if wanted.path is not None
    }
    return override(recipe, paths) if paths else recipe


class Workspace:
    """The folder all runs live in; made when first written to."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.expanduser(root)).absolute()  # noqa: PTH111 -- also ~nobody
        self._lock = Lock(self.root / "lock")

    @property
    def cache(self) -> Path:
        """Folder of packed clips."""
        return self.root / "cache"

    @property
    def studies(self) -> Path:
        """Folder of studies."""
        return self.root / "studies"

    @property
    def queue(self) -> Path:
        """File of the queue."""
        return self.root / "queue.db"

    def command(self, *words: str) -> str:
        """What to type to have our command work in this workspace."""
        usual = Workspace(default_root()).root == self.root
        place = () if usual else ("--workspace", str(self.root))
        return shlex.join(["wakeword-tui", *place, *words])

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        folders = (p for p in (self.root / "runs").glob("[0-9]*-*") if p.is_dir())
        runs = (Run(path) for path in folders if re.match(r"\d+-", path.name))
        return sorted(runs, key=lambda run: run.number)

    def create(self, recipe: Recipe) -> Run:
        """Make the next run directory with its recipe; of two processes each gets a number.

        It keeps the recipe `settled`.
        """
        folder = self.root / "runs"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with alone(folder):
                number = max((run.number for run in self.runs()), default=0) + 1
                run = Run(folder / f"{number:03d}-{recipe.name}")
                run.path.mkdir()
        try:
            make_folder(run.last.parent)
            write_atomic(run.path / "recipe.toml", dump(settled(recipe)).encode())
        except WakewordError:
            shutil.rmtree(run.path, ignore_errors=True)
            raise
        return run

    def find(self, reference: str) -> Run:
        """Find a run by number, name (the newest of that name) or path. Raises DataError."""
        for run in reversed(self.runs()):
            if reference in (str(run.number), run.name, run.name.split("-", 1)[1]):
                return run
        path = Path(reference)
        if (path / "recipe.toml").exists() and re.match(r"\d+-", path.resolve().name):
            return Run(path.resolve())
        known = ", ".join(run.name for run in self.runs()[-5:]) or "none yet"
        raise DataError(f"no run {reference!r} in {self.root}", f"runs here: {known}")

    def lock(self, run: str = "") -> contextlib.AbstractContextManager[None]:
        """Take the GPU for this process at once, to train a run; the context gives it back.

        Raises BusyError.
        """
        with writing(self._lock.path):
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                return self._lock.take(run)
            except BlockingIOError as error:
                who = self.holder() or "another process"
                hint = f"wait for it, or `{self.command('runs', 'stop')}`"
                raise BusyError(f"{who} is training in {self.root}", hint) from error

    def trains(self, run: Run) -> None:
        """Say in the lock, if it is ours, which run is trained now: a search goes on to another."""
        with writing(self._lock.path):
            self._lock.trains(run.name)

    def holder(self) -> Holder | None:
        """The process whose job holds the GPU, None if it is free."""
        return self._lock.holder()

    def training(self) -> Run | None:
        """The unfinished run that the holder of the GPU trains."""
        holder = self.holder()
        named = (run for run in self.runs() if holder is not None and run.name == holder.run)
        return next((run for run in named if not run.finished()), None)

    def stop_holder(self) -> Holder | None:
        """Ask the process that holds the GPU to stop after a checkpoint; return it.

        Raises BusyError where it cannot be asked from here.
        """
        holder = self.holder()
        if holder is None:
            return None
        if not holder.near:
            message = f"{holder} runs on another machine, or in another container"
            raise BusyError(message, "type `wakeword-tui runs stop` there")
        try:
            os.kill(holder.pid, signal.SIGTERM)
        except ProcessLookupError:
            return None
        except PermissionError as error:
            raise BusyError(f"{holder} is another user's", "ask them to stop it") from error
        return holder
