"""Opens the app on a scripted training: `launcher.py WORKSPACE [idle|torch] [short] [noisy]`."""

import ctypes
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.events import Emit, JobStarted
from engine.jobs import Control
from engine.recipe import Recipe
from engine.runs import EventLog, Run, Workspace
from tests.tui.scripted import RECIPE, stepped, training, validated
from wakeword_tui.app import WakewordApp, show
from wakeword_tui.config import config_path, read_config
from wakeword_tui.store import Store
from wakeword_tui.verbs import Live

PACE_S = 0.005


class Scripted(WakewordApp):
    """The app, with a training that is a script."""

    def begin(self, recipe: Recipe, run: Run | None = None) -> None:
        assert run is not None
        verb = busy_training if "torch" in sys.argv else script(self.desk.workspace)
        job = self.desk.jobs.start("train", verb, lambda: EventLog(run.events))
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


def busy_training(emit: Emit, control: Control) -> None:
    """Steps of a small network on made-up windows, with the Python between them of a real loop."""
    import torch

    torch.set_num_threads(1)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 5, 2), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 5, 2, groups=32),
        torch.nn.Conv2d(32, 64, 1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(1),
    )  # fmt: skip
    windows, labels = torch.randn(32, 1, 40, 150), torch.rand(32, 1).round()
    model(windows)
    optimiser = torch.optim.AdamW(model.parameters())
    emit(JobStarted("train", "run", "cpu", 10**6))
    for step in range(10**6):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(windows), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        sum(n * n for n in range(20_000))  # about 1 ms of plain Python
        emit(replace(stepped(step), loss=float(loss), eta_s=0.0))
        if step % 100 == 50:
            emit(validated(step // 100 + 1))
        control.tick()


class Saved(list[int]):
    """Where a stopped script says that it was stopped in good order."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, step: int) -> None:
        self.path.write_text(str(step))


if __name__ == "__main__":
    workspace = Workspace(Path(sys.argv[1]))
    start = None if "idle" in sys.argv else (RECIPE, workspace.create(RECIPE))
    recipes = [Path(word.removeprefix("recipe=")) for word in sys.argv if "recipe=" in word]
    config = read_config(config_path())
    sys.exit(show(Scripted(workspace, *recipes, start=start, config=config)))
