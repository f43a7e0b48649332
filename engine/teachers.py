"""Teachers: checkpoints that a student listens to.

What they must be is checked before the first step (`faults`), and each must beat the student's twin
without teachers (`qualify`).
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.audio import SAMPLE_RATE
from engine.checkpoint import Checkpoint, heard_elsewhere, load, places_of, sha256
from engine.errors import CheckpointError, DataError, RecipeError, WakewordError
from engine.events import Emit, Warned
from engine.features import grid
from engine.models import TEACHERS, blocks_of, build, hears_samples
from engine.optimiser import autocast
from engine.recipe import Recipe
from engine.recipe_distill import Teacher as Wanted
from engine.recipe_file import fields
from engine.report import Measured
from engine.runs import Run, Workspace, located, of_fold

ENOUGH_ALARMS = 10
TWIN = ("data", "features", "model")
"""The sections that a student's twin shares with it. It may be trained otherwise, and better: views
leave a student no hard negatives."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a teacher says of a batch: logits `(B,)` and the maps of chosen blocks `(B, D, T')`."""

    logits: Tensor
    maps: tuple[Tensor, ...] = ()


class Taps:
    """The maps `(B, D, T')` of chosen blocks of a model, counted from 1, whenever it runs."""

    def __init__(self, model: nn.Module, numbers: tuple[int, ...]) -> None:
        self._maps: dict[int, Tensor] = {}
        blocks, last = blocks_of(model), isinstance(model, tuple(_classes()))
        for number in sorted(set(numbers)):
            blocks[number - 1].register_forward_hook(partial(self._keep, number, last))

    def _keep(self, number: int, channels_last: bool, _: nn.Module, __: Any, out: Any) -> None:
        found: Tensor = out[0] if isinstance(out, tuple) else out
        if found.ndim == 4:
            found = found.mean(dim=2)
        self._maps[number] = found.transpose(1, 2) if channels_last else found

    def take(self) -> dict[int, Tensor]:
        """Give the maps of the last run, and let go of them."""
        maps, self._maps = self._maps, {}
        return maps


class Teacher:
    """A frozen checkpoint that hears the student's batches: no dropout, no gradients."""

    def __init__(self, wanted: Wanted, recipe: Recipe, device: torch.device) -> None:
        path = checkpoint_of(wanted, recipe.data.fold)
        checkpoint = load(path)
        self.wanted, self.sha256 = wanted, checkpoint.origin or sha256(path)
        self.features = checkpoint.features().to(device).eval()
        self.model = checkpoint.model().to(device).eval().requires_grad_(False)
        self._layers = wanted.align_layers if recipe.distill.features else ()
        self._taps = Taps(self.model, self._layers)
        self._arithmetic = device, recipe.train.precision

    @torch.no_grad()
    def __call__(self, waveform: Tensor) -> Lesson:
        """Hear the end of windows `(B, N)`, as much of it as it takes for a score.

        Frames are float32, as a student's are, whatever the network computes in.
        """
        heard = waveform[:, -self.features.grid.window_samples :]
        frames = heard if hears_samples(self.model) else self.features(heard)
        with autocast(*self._arithmetic):
            logits = self.model(frames)
        maps = self._taps.take()
        return Lesson(logits.float(), tuple(maps[n].float() for n in self._layers))


def _classes() -> Iterator[type[nn.Module]]:
    """The architectures whose blocks give `(B, T', D)`."""
    return (kind for kind in TEACHERS.values() if isinstance(kind, type))


def checkpoint_of(wanted: Wanted, fold: int) -> Path:
    """The checkpoint that a recipe means. Raises CheckpointError for none, or an unfinished run."""
    if wanted.path is None:
        raise CheckpointError("no checkpoint is named", f"train recipes/teacher_{wanted.kind}.toml")
    path = located(wanted.path, fold)
    if not path.is_dir():
        return path
    if not Run(path).finished():
        is_run = path.name.partition("-")[0].isdigit()
        hint = f"go on with it: `{Run(path).resuming()}`" if is_run else "name a run's folder"
        raise CheckpointError(f"{path.name} is not finished", hint)
    return Run(path).best


# --- what is wrong with them


def require(recipe: Recipe, workspace: Workspace) -> None:
    """Raise RecipeError with everything that keeps a recipe's teachers from teaching."""
    problems = faults(recipe, workspace)
    if problems:
        count = f"{len(problems)} problem" + "s" * (len(problems) > 1)
        raise RecipeError(f"the teachers have {count}", problems, "see docs/distillation.md")


def faults(recipe: Recipe, workspace: Workspace) -> tuple[str, ...]:
    """Everything wrong with a recipe's teachers, each with its dotted path."""
    distill = recipe.distill
    if not distill.teachers:
        return ()
    found = [
        f"distill.teachers[{number}].{fault}"
        for number, wanted in enumerate(distill.teachers)
        for fault in _faults_of(wanted, recipe)
    ]
    if distill.features and not any(wanted.align_layers for wanted in distill.teachers):
        found.append("distill.features: no teacher has align_layers")
    if distill.views and recipe.train.hard_share:
        why = "hard negatives change the batches that the views repeat"
        found.append(f"distill.views: {why}: set train.hard_share = 0")
    if distill.views and recipe.augment.snr_schedule != "constant":
        why = "the views that are repeated are as hard as the last epoch"
        found.append(f'distill.views: {why}: set augment.snr_schedule = "constant"')
    found += _faults_of_baseline(recipe, workspace)
    return tuple(found)


def _faults_of(wanted: Wanted, recipe: Recipe) -> Iterator[str]:
    try:
        checkpoint = load(checkpoint_of(wanted, recipe.data.fold))
        made = checkpoint.settings()
    except WakewordError as error:
        yield f"path: {error.message}"
        return
    if made.model.arch != wanted.kind:
        yield f"kind: {wanted.kind}, but the checkpoint is a {made.model.arch}"
        return
    if not checkpoint.validation:
        yield "path: the checkpoint was not measured; use the run's best.ckpt"
    yield from (f"path: {fault}" for fault in _misfits(made, checkpoint, recipe))
    yield from _faults_of_layers(wanted, checkpoint, recipe)


def _misfits(made: Recipe, checkpoint: Checkpoint, recipe: Recipe) -> Iterator[str]:
    """Why a teacher cannot hear what this student hears."""
    if made.data.wakeword != recipe.data.wakeword:
        yield f'it listens for "{made.data.wakeword}", the recipe for "{recipe.data.wakeword}"'
    rate = checkpoint.provenance.get("sample_rate_hz", str(SAMPLE_RATE))
    if rate != str(SAMPLE_RATE):
        yield f"it hears {rate} samples a second, the recipe {SAMPLE_RATE}"
    heard, given = grid(made.features).window_s, grid(recipe.features).window_s
    if heard > given:
        yield f"it hears {heard:.2f} s for a score, the recipe gives {given:.2f}"
    if heard_elsewhere(made, recipe):
        yield "it was trained on voices that this fold tests on"


def _faults_of_layers(wanted: Wanted, checkpoint: Checkpoint, recipe: Recipe) -> Iterator[str]:
    if wanted.align_layers and not recipe.distill.features:
        yield "align_layers: distill.features is 0"
    with torch.device("meta"):
        student = len(blocks_of(build(recipe)))
    lists = {
        "align_layers": (wanted.align_layers, len(blocks_of(checkpoint.model()))),
        "student_layers": (wanted.student_layers, student),
    }
    for name, (layers, count) in lists.items():
        for place, layer in enumerate(layers):
            if layer > count:
                yield f"{name}[{place}]: layer {layer} of {count}"
    if wanted.student_layers and len(wanted.student_layers) != len(wanted.align_layers):
        given = f"{len(wanted.student_layers)} layers"
        yield f"student_layers: {given} for {len(wanted.align_layers)} align_layers"


def _faults_of_baseline(recipe: Recipe, workspace: Workspace) -> Iterator[str]:
    try:
        run = baseline(recipe, workspace)
        if run is None:
            return
        load(run.best).validated()
    except WakewordError as error:
        yield f"distill.baseline: {error.message}"
        return
    made = run.recipe()
    if made.distill.teachers:
        yield f"distill.baseline: {run.name} had teachers itself"
    settings = (path for path, _ in fields() if path.partition(".")[0] in TWIN)
    for path in (path for path in settings if path != "model.local_files_only"):
        if attrgetter(path)(made) != attrgetter(path)(recipe):
            yield f"distill.baseline: {run.name} is no twin: it has another {path}"
            break


def baseline(recipe: Recipe, workspace: Workspace) -> Run | None:
    """The run without teachers that a recipe names. Raises DataError for none, or an unfinished."""
    if not recipe.distill.baseline:
        return None
    run = workspace.find(of_fold(recipe.distill.baseline, recipe.data.fold))
    if not run.finished():
        raise DataError(f"{run.name} is not finished", f"go on with it: `{run.resuming()}`")
    return run


# --- whether they are worth listening to


@dataclass(frozen=True, slots=True)
class Qualification:
    """How a teacher did on validation, against the student's twin without teachers."""

    kind: str
    sha256: str
    measure: str
    """frr at the FAH target, or pauc where the hours of either allow too few alarms to tell."""
    teacher: float
    baseline: float | None
    better: bool

    def __str__(self) -> str:
        """Tell it in a sentence."""
        if self.baseline is None:
            return f"the {self.kind} teacher was held against no run"
        is_better = "is better" if self.better else "is not better"
        told = f"{self.measure} {self.teacher:.4f} against {self.baseline:.4f} on validation"
        return f"the {self.kind} teacher {is_better} than the baseline: {told}"


def qualify(recipe: Recipe, workspace: Workspace) -> tuple[Qualification, ...]:
    """Hold each teacher against the baseline. Raises RecipeError where one does not qualify."""
    held = tuple(_held(wanted, recipe, workspace) for wanted in recipe.distill.teachers)
    failed = tuple(str(one) for one in held if not one.better)
    if failed and not recipe.distill.allow_unqualified:
        hint = "train it longer or larger, or set distill.allow_unqualified = true"
        if not recipe.distill.baseline:
            hint = "name a run without teachers: distill.baseline, or set allow_unqualified = true"
        raise RecipeError("a teacher must qualify before it teaches", failed, hint)
    return held


def _held(wanted: Wanted, recipe: Recipe, workspace: Workspace) -> Qualification:
    path = checkpoint_of(wanted, recipe.data.fold)
    checkpoint, run = load(path), baseline(recipe, workspace)
    digest, sides = checkpoint.origin or sha256(path), [checkpoint.validated()]
    if run is None:
        measure, (own,) = _compared(sides, recipe.evaluate.target_fah)
        return Qualification(wanted.kind, digest, measure, own, None, better=False)
    sides.append(load(run.best).validated())
    try:
        _require_same_validation(checkpoint.settings(), recipe)
        measure, (own, other) = _compared(sides, recipe.evaluate.target_fah)
    except RecipeError:
        if not recipe.distill.allow_unqualified:
            raise
        measure, own = "pauc", sides[0].pauc
        return Qualification(wanted.kind, digest, measure, own, None, better=False)
    better = own < other if measure == "frr" else own > other
    return Qualification(wanted.kind, digest, measure, own, other, better)


def _require_same_validation(made: Recipe, recipe: Recipe) -> None:
    """Raise RecipeError where a teacher was validated on other clips than the twin is."""
    if (places_of(made.data), made.data.fold) != (places_of(recipe.data), recipe.data.fold):
        raise RecipeError(
            "a teacher and the baseline cannot be compared",
            (f"the {made.model.arch} teacher was validated on other data, or another fold of it",),
            "train it on the recipe's data.fold, data.manifest and data.sources, or set "
            "distill.allow_unqualified = true",
        )


def _compared(sides: list[Measured], target_fah: float) -> tuple[str, list[float]]:
    """What can tell them apart, and how each did. Raises RecipeError where nothing can."""
    if all(target_fah * side.hours >= ENOUGH_ALARMS for side in sides):
        return "frr", [side.frr_at(target_fah) for side in sides]
    if len(rates := {side.max_fpr for side in sides}) > 1:
        told = " and ".join(f"{rate:g}" for rate in sorted(rates))
        raise RecipeError(
            "a teacher and the baseline cannot be compared",
            (f"their pAUC is up to false-positive rates of {told}",),
            "train both with the same evaluate.max_fpr",
        )
    return "pauc", [side.pauc for side in sides]


def examined(recipe: Recipe, workspace: Workspace, emit: Emit) -> str:
    """Check the teachers; tell of them, as JSON, what is kept with the student."""
    if not recipe.distill.teachers:
        return ""
    require(recipe, workspace)
    held = qualify(recipe, workspace)
    for one in held:
        if not one.better:
            emit(Warned(str(one), "distill.allow_unqualified is set, so it teaches all the same"))
    return json.dumps([asdict(one) for one in held])
