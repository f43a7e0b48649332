"""Review: every key, what is on the screen, and what is in the queue afterwards."""

import sys
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.runs import Workspace
from tests.tui.play import LARGE, SMALL, play, same_as_file, screen, see
from tests.tui.scripted import queue_at
from wakeword_tui.app import WakewordApp

SCREENS = Path(__file__).parent / "screens"


@pytest.fixture(autouse=True)
def _without_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_the_whole_screen(workspace: Workspace, tmp_path: Path, size: tuple[int, int]) -> None:
    queue_at(workspace, tmp_path)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("5")
        await see(app, pilot, "crowd_0431.wav @ 0:02.5", "PortAudio is not")
        await pilot.pause(0.8)
        sys.stdout.write(screen(app) + "\n")

    play(workspace, story, size)
