import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import Trained

from engine.queue_store import QueueStore
from engine.runs import Workspace
from tests.tui.scripted import queue_at, workspace_at


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with a finished run, 001, and an unfinished one, 002."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMUX", "yes")
    return workspace_at(tmp_path)


@pytest.fixture
def trained(tmp_path: Path, tiny_run: Trained, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with a run that can listen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMUX", "yes")
    workspace = Workspace(tmp_path / "workspace")
    shutil.copytree(tiny_run.run.path, workspace.root / "runs" / "001-tiny")
    return workspace


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Folders of its own, and no sound: what a machine without a card has."""
    folders = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path / "log")}
    return folders | {"PULSE_SERVER": f"unix:{tmp_path}/none"}


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No PortAudio."""
    monkeypatch.setitem(sys.modules, "sounddevice", None)


@pytest.fixture
def queue(workspace: Workspace, tmp_path: Path) -> Iterator[QueueStore]:
    """Nine finds, all pending: number 1 has the best score, number 9 the least."""
    store = queue_at(workspace, tmp_path)
    yield store
    store.close()
