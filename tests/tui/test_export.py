"""`e` on Bench with a real run: the folder it leaves, and what is said of it."""

import shutil
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine import export_folder
from engine.runs import Workspace
from tests.tiny import Trained
from tests.tui.play import LARGE, play, see
from wakeword_tui.app import WakewordApp


def test_a_run_is_exported_from_bench(
    tiny_run: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMUX", "yes")
    home = Workspace(Path(shutil.copytree(tiny_run.home.root, tmp_path / "home")))

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8", "e")
        await see(app, pilot, "001-tiny as")
        await pilot.press("o")
        await see(app, pilot, "into the folder")
        await pilot.press("enter")
        await see(app, pilot, "● export")
        await see(app, pilot, "no decision differs", within_s=300)

    play(home, story, LARGE)
    assert export_folder.read(home.find("1").export / "onnx")["wake_word"] == "beep"
