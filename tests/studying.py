"""A study of made numbers, so that hundreds of trials take seconds; also a program to be killed.

python tests/studying.py WORKSPACE SAMPLER [STORAGE]     go on with a study to its end
"""

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.recipe import Recipe
from engine.recipe_file import override
from engine.runs import Workspace
from engine.study import Asked, Outcome, Study
from engine.study_file import create, studies
from engine.trials import Param, Trial

NAME = "made"
SPACE = {
    "train.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "model.width": {"low": 0.25, "high": 2.0},
    "train.batch_size": {"low": 8, "high": 64},
    "loss.kind": {"choices": ["cross_entropy", "focal"]},
    "loss.focal_gamma": {"low": 0.5, "high": 4.0, "when": {"loss.kind": "focal"}},
}


def made_recipe(changes: Mapping[str, Any] | None = None) -> Recipe:
    search = {
        "search.space": SPACE,
        "search.quality": "frr",
        "search.latency": "macs",
        "search.trials": 40,
    }
    return override(Recipe(), {**search, **(changes or {})})


def made_values(params: Mapping[str, Param]) -> tuple[float, float]:
    """Misses that fall with the width and rise off the best learning rate, and its MACs."""
    lr, width = float(params["train.lr"]), float(params["model.width"])
    off = abs(math.log10(lr) + 2) + 0.1 * (params["loss.kind"] == "focal")
    return 0.1 / width + 0.2 * off, float(round(1e6 * width**2))


def finish(study: Study, asked: Asked) -> None:
    """Give a trial its values."""
    values = made_values(asked.params)
    curve = (values[0] * 2, values[0])
    study.tell(asked, "complete", Outcome(values=values, macs=int(values[1]), curve=curve))


def go_on(workspace: Workspace, storage: str | None = None, slow_s: float = 0.0) -> None:
    """Take a study to its end: first what was left, then what is proposed."""
    with Study.opened(workspace, NAME, storage) as study:
        for asked in study.left(workspace):
            finish(study, asked)
        while (asked_ := study.ask()) is not None:
            asked_.keep("run", f"of {workspace.root.name}")
            time.sleep(slow_s)
            finish(study, asked_)
            if slow_s:
                sys.stdout.write(f"{asked_.number}\n")
                sys.stdout.flush()


def tried(workspace: Workspace, storage: str | None = None) -> tuple[Trial, ...]:
    """What a study has tried."""
    with Study.opened(workspace, NAME, storage) as study:
        return study.shown()


def main() -> None:
    home, sampler = Workspace(Path(sys.argv[1])), sys.argv[2]
    storage = sys.argv[3] if len(sys.argv) > 3 else None
    if NAME not in studies(home):
        create(home, NAME, made_recipe({"search.sampler": sampler}), 40, storage)
    go_on(home, storage, slow_s=0.02)


if __name__ == "__main__":
    main()
