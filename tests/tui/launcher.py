"""Opens the app on a scripted training: `launcher.py WORKSPACE [noisy] [crash] [idle] [slow]`."""

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.events import Emit
from engine.jobs import Control
from engine.recipe import Recipe
from engine.runs import EventLog, Run, Workspace
from tests.tui.scripted import RECIPE, training
from wakeword_tui.app import WakewordApp, show
from wakeword_tui.store import Store
from wakeword_tui.verbs import Live

PACE_S = 0.005


class Scripted(WakewordApp):
    """The app, with a training that is a script."""

    def begin(self, recipe: Recipe, run: Run | None = None) -> None:
        assert run is not None
        job = self.desk.jobs.start("train", script(self.desk.workspace), EventLog(run.events))
        self.follow(Live(job, Store(), run))

    def action_theme(self) -> None:
        raise RuntimeError("the screen has a bug")


def script(workspace: Workspace) -> Callable[[Emit, Control], None]:
    saved = Saved(workspace.root / "saved")
    steps = 600 if "short" in sys.argv else 10**9

    def verb(emit: Emit, control: Control) -> None:
        if "noisy" in sys.argv:
            ctypes.CDLL(None).puts(b"NOISE-OF-C")
            ctypes.CDLL(None).fflush(None)
            os.system("echo NOISE-OF-A-CHILD; echo NOISE-OF-A-CHILD >&2")
        training(steps, pause_s=PACE_S, saved=saved)(emit, control)

    return verb


class Saved(list[int]):
    """Where a stopped script says that it was stopped in good order."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, step: int) -> None:
        self.path.write_text(str(step))


if __name__ == "__main__":
    workspace = Workspace(Path(sys.argv[1]))
    start = None if "idle" in sys.argv else (RECIPE, workspace.create(RECIPE))
    sys.exit(show(Scripted(workspace, start=start)))
