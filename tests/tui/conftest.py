from pathlib import Path

import pytest

from engine.runs import Workspace
from tests.tui.scripted import workspace_at


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with a finished run, 001, and an unfinished one, 002."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMUX", "yes")
    return workspace_at(tmp_path)
