"""The half of `doctor` that looks at our own files: what is set, and what the workspace keeps.

Every check is a function that returns one `Check`; none changes anything.
"""

import fcntl
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import DataError, JudgeError
from engine.files import unsealed
from engine.runs import Run, Workspace
from wakeword_tui.config import Config, clashes, config_path, read_config

FREE_GB = 2.0
SIGNS = {"good": "✓", "broken": "✗", "note": "·"}
TRIAL = re.compile(r"-t\d+$")
"""How the name of a run ends that is a study's: the study goes on with it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: `broken` if training needs it, `note` if it can be lived with."""

    name: str
    state: Literal["good", "broken", "note"]
    found: str
    fix: str = ""

    @property
    def broken(self) -> bool:
        """Whether training must wait until this is mended."""
        return self.state == "broken"

    def __str__(self) -> str:
        line = f"{SIGNS[self.state]} {self.name:<12} {self.found}"
        return f"{line}\n  {'':<12} fix: {self.fix}" if self.fix else line


def belongings(workspace: Workspace) -> Iterator[Check]:
    """Yield the checks of the config file and of the workspace."""
    found = read_config(config_path())
    yield settings(found)
    yield from judge(found)
    yield disk(workspace)
    yield lock(workspace)
    yield databases(workspace)
    yield checkpoints(workspace)
    yield unfinished(workspace)


def settings(found: Config) -> Check:
    """What of the config file cannot be used."""
    path = config_path()
    problems = [*found.problems]
    if found.keys:
        from wakeword_tui.app import scopes

        problems += clashes(found.keys, scopes())
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        return Check(
            "config", "note", f"{problems[0]}{more}", f"${{EDITOR:-vi}} {shlex.quote(str(path))}"
        )
    return Check("config", "good", f"{path}{'' if path.exists() else ', not there: defaults'}")


def judge(found: Config) -> Iterator[Check]:
    """Whether the judge that the config file names answers; nothing where it names none."""
    if not found.judge.url:
        return
    try:
        with found.judge.open() as asked:
            yield Check("judge", "good", f"{asked.health().model} at {found.judge.url}")
    except JudgeError as error:
        yield Check("judge", "note", error.message, error.hint)


def disk(workspace: Workspace) -> Check:
    """Whether the workspace can be written and locked, and has room."""
    folder = _existing(workspace.root)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free_gb = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        fix = "choose another with --workspace or $WAKEWORD_HOME"
        return Check("workspace", "broken", f"{workspace.root}: {error.strerror}", fix)
    found = f"{workspace.root}, {free_gb:.1f} GB free"
    if free_gb < FREE_GB:
        fix = workspace.command("runs", "prune")
        fix += "" if workspace.holder() else f", or {_removing(workspace.cache)}"
        return Check("workspace", "note", found, fix)
    return Check("workspace", "good", found)


def _removing(folder: Path) -> str:
    return shlex.join(["rm", "-r", str(folder)])


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def lock(workspace: Workspace) -> Check:
    """Whether a training holds the workspace; the lock of a process that died holds nothing."""
    holder = workspace.holder()
    if holder is None:
        return Check("lock", "good", "free")
    return Check("lock", "note", f"{holder} is training", workspace.command("runs", "stop"))


def databases(workspace: Workspace) -> Check:
    """Whether the queue and the studies can be read from end to end."""
    from engine.queue_file import look_through

    paths = [workspace.queue, *sorted(workspace.studies.glob("*.db"))]
    there = [path for path in paths if path.exists()]
    for path in there:
        try:
            look_through(path)
        except DataError as error:
            return Check("databases", "broken", error.message, error.hint)
    return Check("databases", "good", ", ".join(path.name for path in there) or "none yet")


def checkpoints(workspace: Workspace) -> Check:
    """Whether the checkpoints are as they were written."""
    runs = workspace.runs()
    there = [(run, path) for run in runs for path in (run.best, run.last) if path.exists()]
    for run, path in there:
        try:
            damaged = unsealed(path.read_bytes()) is None
        except OSError as error:
            fix = shlex.join(["ls", "-l", str(path)])
            return Check("checkpoints", "note", f"{path}: {error.strerror}", fix)
        if damaged:
            fix = _mending(workspace, run, path)
            return Check("checkpoints", "note", f"{path} is damaged", fix)
    return Check("checkpoints", "good", f"{len(there)}, all whole" if there else "none yet")


def _mending(workspace: Workspace, run: Run, damaged: Path) -> str:
    """What is left of a run one of whose checkpoints is damaged: neither stands for the other."""
    if damaged == run.best and not run.finished():
        return run.resuming()
    anew = workspace.command("train", str(run.path / "recipe.toml"))
    return anew if damaged == run.best else f"best.ckpt still listens and exports; {anew}"


def unfinished(workspace: Workspace) -> Check:
    """Runs that wait to be gone on with, as after a lost connection.

    While the workspace is held none is offered to be removed: the holder may train any of them.
    """
    holder, going = workspace.holder(), workspace.training()
    left = [run for run in workspace.runs() if run != going and _waits(run)]
    if left:
        names = ", ".join(run.name for run in left[-3:])
        fix = left[-1].resuming()
        fix += "" if holder else f", or {_removing(left[-1].path)}"
        return Check("runs", "note", f"unfinished: {names}", fix)
    return Check("runs", "good", f"{len(workspace.runs())}, none waits to be gone on with")


def _waits(run: Run) -> bool:
    return run.last.exists() and not run.finished() and not TRIAL.search(run.name)
