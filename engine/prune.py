"""Which runs can go: what finished long ago, and what nobody can go on with."""

import contextlib
import re
import shutil
from collections.abc import Iterable, Iterator
from itertools import chain, takewhile
from pathlib import Path

from engine.errors import WakewordError
from engine.files import writing
from engine.recipe_file import load
from engine.runs import Run, Workspace, of_fold

GONE = ".gone-"
"""How the folder of a run begins while it is removed: a kill leaves nothing that looks like one."""


def prune(
    home: Workspace, keep: int, *, unfinished: bool = False, needed: Iterable[Path] = ()
) -> list[Run]:
    """Remove all but the newest `keep` finished runs, and what never came to a checkpoint.

    Those stay that hold a file of `needed`, or that a run to be gone on with, or a study, learns
    from, and with one of `--folds` those of the other folds. With `unfinished` also what could be
    gone on with. While a job holds the GPU, only finished runs: it may be training any other.
    Returns those that were removed.
    """
    for left in (home.root / "runs").glob(f"{GONE}*"):
        shutil.rmtree(left, ignore_errors=True)
    finished = [run for run in home.runs() if run.finished()]
    others = [run for run in home.runs() if not run.finished()]
    lost = [run for run in others if unfinished or not run.last.exists()]
    if home.holder() is not None:
        lost = []
    files = [run.path / "recipe.toml" for run in others if run not in lost]
    files += home.studies.glob("*.toml")
    wanted = [*needed, *chain(*(_begins_with(home, file) for file in files))]
    spared = {_series(run) for run in finished if any(map(run.holds, wanted))}
    old = finished[: max(0, len(finished) - keep)]
    old = [run for run in old if _series(run) not in spared]
    gone = sorted([*old, *lost], key=lambda run: run.number)
    for run in gone:
        with writing(run.path):
            shutil.rmtree(run.path.rename(run.path.with_name(f"{GONE}{run.name}")))
    return gone


def _series(run: Run) -> str:
    """What the runs of `--folds` have in common; of any other run its own name."""
    return re.sub(r"^\d+-(.*)-f\d$", r"\1", run.name)


def _begins_with(home: Workspace, file: Path) -> Iterator[Path]:
    """What a training by a recipe reads of other runs: init, teachers, and what they must beat.

    Of a path with {fold} or a * all that fit.
    """
    with contextlib.suppress(WakewordError):  # nobody goes on with a recipe that is damaged
        recipe = load(file)
        paths = [recipe.train.init, *(teacher.path for teacher in recipe.distill.teachers)]
        for path in (Path(str(path).replace("{fold}", "*")) for path in paths if path):
            yield from _fitting(path)
        if recipe.distill.baseline:
            yield home.find(of_fold(recipe.distill.baseline, recipe.data.fold)).path


def _fitting(path: Path) -> Iterator[Path]:
    """What fits a path with a * in any part of it; without one the path itself."""
    plain = list(takewhile(lambda part: "*" not in part, path.parts))
    rest = path.parts[len(plain) :]
    yield from Path(*plain).glob("/".join(rest)) if rest else [path]
