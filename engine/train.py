"""The training verb: packs, trains, validates each epoch, tests once; resumes exactly."""

import json
import math
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

import torch
from torch import nn

from engine.augment import mean_snr_db
from engine.checkpoint import Checkpoint, load, save
from engine.cohorts import CONDITIONS
from engine.cost import cost, exceeded
from engine.dataset import pack, read, require, select
from engine.errors import DeviceError, RecipeError
from engine.evaluate import Heard, Scored, make_report, measured, score_split
from engine.events import (
    CheckpointSaved,
    Emit,
    JobStarted,
    PhaseChanged,
    Reported,
    Stepped,
    Validated,
    Warned,
)
from engine.features import grid
from engine.jobs import Control, Stopped
from engine.metrics import MOST, choose_operating_point, tail_threshold
from engine.mined import take, used, with_cuts
from engine.pretrain import learned
from engine.quantize import fuse
from engine.recipe import Recipe, Targets
from engine.report import CLEAN, Measured, Report
from engine.runs import EventLog, Run, Workspace, last_number, write_atomic
from engine.scorer import Scorer
from engine.teachers import qualify
from engine.teachers import require as require_teachers
from engine.trainer import Trainer

CHECK_EVERY_STEPS = 10
LOWERED = 0.3
SHOW_EVERY_S = 0.1


def train(
    recipe: Recipe,
    run: Run,
    workspace: Workspace,
    *,
    emit: Emit,
    control: Control,
    resume: bool = False,
) -> None:
    """Train the recipe's student in `run` and write its report.

    With `resume`, go on from the run's last checkpoint and end as if never interrupted. Raises
    Stopped, after a checkpoint, when told to stop.
    """
    device = device_of(recipe)
    stored = load(run.last) if resume and run.last.exists() else None
    state = (stored.trainer if stored else None) or {"threads": 0, "position": {"step": 0}}
    # Sums over other numbers of threads round differently: a resume keeps what it began with.
    torch.set_num_threads(state["threads"] or threads_of(recipe))
    begun = state["position"]["step"]
    total = recipe.train.epochs * recipe.train.steps_per_epoch
    emit(JobStarted("train", run.name, describe(device), total, begun))
    if recipe.targets != Targets():
        _warn(exceeded(recipe.targets, cost(recipe)), emit)
    teachers = "" if stored else _teachers(recipe, workspace, emit)
    emit(PhaseChanged("pack"))
    packed = pack(read(recipe.data), workspace.cache, emit=emit, control=control)
    for path, reason in packed.unreadable:
        why = reason.removeprefix(f"{path}: ")
        emit(Warned(f"skipped {path}: {why}", "`wakeword-tui data check` lists what is wrong"))
    require(packed, recipe.data)
    if stored is None:
        take(run, workspace.queue, packed, recipe, emit=emit, control=control)
    packed = with_cuts(packed, run, recipe, emit=emit, control=control)
    with memory_errors(recipe):
        start = None if stored else _start(recipe, device, workspace, emit, control)
        config = stored.config if stored else None
        trainer = Trainer(recipe, packed, device, start=start, config=config)
        if stored is not None and not trainer.restore(stored):
            message = "the data changed since the checkpoint: the hard negatives are found anew"
            emit(Warned(message, "start a new run for one that can be repeated"))
        if teachers:
            trainer.provenance["teachers"] = teachers
        trainer.prepare(workspace.cache, emit=emit, control=control)
        _Loop(trainer, run, emit, control).go()
    test = Heard(packed, select(packed, recipe.data, "test"), recipe)
    _test(run, test, used(packed, recipe.data), emit=emit, control=control)


def _teachers(recipe: Recipe, workspace: Workspace, emit: Emit) -> str:
    """Check the teachers; tell of them, as JSON, what is kept with the student."""
    if not recipe.distill.teachers:
        return ""
    require_teachers(recipe, workspace)
    held = qualify(recipe, workspace)
    for one in held:
        if not one.better:
            emit(Warned(str(one), "distill.allow_unqualified is set, so it teaches all the same"))
    return json.dumps([asdict(one) for one in held])


def _start(
    recipe: Recipe, device: torch.device, workspace: Workspace, emit: Emit, control: Control
) -> Checkpoint | None:
    """What a new training starts from: a checkpoint, or what was learned from words."""
    if recipe.train.init is not None:
        return load(recipe.train.init)
    return learned(recipe, device, workspace, emit=emit, control=control)


class _Loop:
    """Steps, validations and checkpoints of one run, until its last step."""

    def __init__(self, trainer: Trainer, run: Run, emit: Emit, control: Control) -> None:
        self.trainer, self.run, self.emit, self.control = trainer, run, emit, control
        self.losses: list[torch.Tensor] = []
        self.saved_s = self.shown_s = self.counted_s = time.monotonic()
        self.counted_steps = 0

    def go(self) -> None:
        """Train to the end. On Stopped a checkpoint is written first."""
        trainer = self.trainer
        if not self.run.last.exists():
            self.save()
        self.emit(PhaseChanged("train"))
        try:
            while trainer.epoch_ended() or trainer.position.step < trainer.total_steps:
                self.control.tick()
                if trainer.epoch_ended():
                    self._after_epoch()
                else:
                    self.losses.append(trainer.step())
                    self._after_step()
            self._try_average()
        except Stopped:
            if self._finite():
                self.save()
            raise

    def _after_step(self) -> None:
        """Show and save now and then, but nothing that has not been found finite."""
        trainer, now = self.trainer, time.monotonic()
        self.counted_steps += 1
        shown = now - self.shown_s >= SHOW_EVERY_S
        saved = now - self.saved_s >= trainer.recipe.train.checkpoint_every_s
        saved |= self.control.take_checkpoint_request()
        checked = trainer.position.step % CHECK_EVERY_STEPS == 0 or trainer.epoch_ended()
        if (shown or saved or checked) and not self._finite():
            self._go_back()
            return
        if shown:
            self._show(now)
        if saved:
            self.save()

    def _finite(self) -> bool:
        return not self.losses or bool(torch.stack(self.losses).isfinite().all())

    def _go_back(self) -> None:
        """Restore the last good state and lower the rate, once; the second time, stop."""
        trainer = self.trainer
        if trainer.position.lr_scale < 1.0:
            raise RecipeError(
                "the loss is not a finite number, at the lowered learning rate too",
                hint=f"try train.lr = {trainer.recipe.train.lr * LOWERED / 3:.1g}",
            )
        step = trainer.position.step
        trainer.restore(load(self.run.last))
        trainer.position.lr_scale = LOWERED
        self.losses.clear()
        self.save()
        message = f"the loss was not finite at step {step}; back to step {trainer.position.step}"
        self.emit(Warned(message, f"the learning rate is now {LOWERED:.0%} of the recipe's"))

    def _show(self, now: float) -> None:
        trainer, train = self.trainer, self.trainer.recipe.train
        pace = self.counted_steps / max(now - self.counted_s, 1e-6)
        mean = float(torch.stack(self.losses).mean()) if self.losses else math.nan
        position = trainer.position
        heard = max(position.step - 1, 0) // train.steps_per_epoch  # the epoch of the last step
        self.emit(
            Stepped(
                step=position.step,
                epoch=trainer.epoch,
                loss=mean,
                lr=trainer.learning_rate(),
                clips_per_s=pace * train.batch_size,
                snr_db=mean_snr_db(trainer.recipe.augment, heard, train.epochs),
                memory_mb=_memory_mb(trainer.device),
                eta_s=(trainer.total_steps - position.step) / max(pace, 1e-6),
                taught=trainer.distiller.told() if trainer.distiller else None,
            )
        )
        self.losses.clear()
        self.shown_s = now

    def _after_epoch(self) -> None:
        """Validate the averaged weights, keep the best, look for hard negatives, checkpoint."""
        if self.losses:
            self._show(time.monotonic())
        self.emit(PhaseChanged("validate"))
        trainer = self.trainer
        scorer = self._scorer(trainer.averaged)
        self._validate(score_split(scorer, trainer.validation, self.control))
        if trainer.position.step < trainer.total_steps and trainer.recipe.train.hard_share > 0:
            trainer.hard.search(scorer, trainer.epoch)
            trainer.batches.hard = trainer.hard.spans()
        trainer.position.validated = trainer.position.step
        self.save()
        self.emit(PhaseChanged("train"))
        self.counted_s, self.counted_steps = time.monotonic(), 0

    def _scorer(self, model: nn.Module) -> Scorer:
        """A scorer as it will be used: a threshold may lie a rounding above the highest peak."""
        return Scorer(self.trainer.features, fuse(model), self.trainer.device)

    def _validate(self, scored: Scored) -> None:
        """Choose the operating point; keep the weights if they are the best there."""
        shipped, result = self._measure(self.trainer.averaged, scored)
        best = self.trainer.keep(_rank(result, self.trainer.recipe))
        if best:
            save(self.run.best, replace(shipped, validation=result.to_json()))
        self.emit(_validated(self.trainer, result, shipped.threshold().threshold, best=best))

    def _measure(self, model: nn.Module, scored: Scored) -> tuple[Checkpoint, Measured]:
        """A student with the threshold that its scores choose, and its result there."""
        recipe = self.trainer.recipe
        hop_s, rules = grid(recipe.features).hop_s, recipe.detector
        target = recipe.evaluate.target_fah
        point = choose_operating_point(scored.streams, target, rules, hop_s)
        tail = tail_threshold(scored.streams, target, rules, hop_s, recipe.evaluate.tail_peaks)
        point = replace(point, threshold=max(point.threshold, min(tail, MOST)))
        shipped = self.trainer.shipped(model, point)
        return shipped, measured(scored, shipped)

    def _try_average(self) -> None:
        """Ship the mean of the best epochs' weights unless it does worse than all of them.

        The best of many epochs was lucky on validation; their mean owes less to it.
        """
        trainer = self.trainer
        count = len(trainer.kept)
        if count < 2:
            return
        self.emit(PhaseChanged("average"))
        mean = trainer.mean_of_kept()
        scored = score_split(self._scorer(mean), trainer.validation, self.control)
        shipped, result = self._measure(mean, scored)
        best = _rank(result, trainer.recipe) <= trainer.kept[-1].rank
        if best:
            save(self.run.best, replace(shipped, validation=result.to_json()))
        event = _validated(trainer, result, shipped.threshold().threshold, best=best)
        self.emit(replace(event, averaged=count))

    def save(self) -> None:
        """Write `last`, from which a resume goes on."""
        save(self.run.last, self.trainer.checkpoint(last_number(self.run.events)))
        self.saved_s = time.monotonic()
        self.emit(CheckpointSaved(self.trainer.position.step, "last"))


def _rank(result: Measured, recipe: Recipe) -> tuple[int, float]:
    """How good weights are, the less the better: misses of all cohorts, then the DET area.

    The words under noise and in rooms are several times as many as the clean ones, and what tells
    epochs apart is seldom the clean ones. Where the target FAH is not kept, all count as missed.
    """
    heard = [result.cohorts[condition.cohort] for condition in CONDITIONS if condition.positive]
    kept = result.fah <= recipe.evaluate.target_fah
    return sum(share.wrong if kept else share.clips for share in heard), result.det_area


def _frr_noisy(result: Measured) -> float:
    """FRR over the clips in noise and rooms."""
    names = [c.cohort for c in CONDITIONS if c.positive and c.cohort != CLEAN]
    shares = [result.cohorts[name] for name in names]
    return sum(share.wrong for share in shares) / max(sum(share.clips for share in shares), 1)


def _validated(trainer: Trainer, result: Measured, threshold: float, *, best: bool) -> Validated:
    return Validated(
        step=trainer.position.step,
        epoch=trainer.epoch,
        pauc=result.pauc,
        eer=result.eer,
        frr=result.frr,
        frr_low=result.frr_low,
        frr_high=result.frr_high,
        clips=result.clips,
        fah=result.fah,
        hours=result.hours,
        target_fah=trainer.recipe.evaluate.target_fah,
        threshold=threshold,
        det_area=result.det_area,
        frr_noisy=_frr_noisy(result),
        best=best,
    )


def _test(run: Run, test: Heard, finds: tuple[int, int], *, emit: Emit, control: Control) -> None:
    """Measure the best checkpoint on the test set and write the report last.

    `finds` are the hard negatives and wake words that came from the queue.
    """
    run.export.mkdir(exist_ok=True)
    report, outcomes = make_report(
        run.best, test, run.export / "model.onnx", emit=emit, control=control
    )
    outcomes.write(run.outcomes)
    report = replace(report, hard_negatives=finds[0], mined_positives=finds[1])
    write_atomic(run.report, report.to_json().encode())
    _warn(exceeded(run.recipe().targets, p95_ms=report.latency_ms["p95"]), emit)
    emit(reported(run.name, report))


def _warn(exceeded_targets: list[str], emit: Emit) -> None:
    for sentence in exceeded_targets:
        emit(Warned(sentence, "try a smaller model.width, or another model.arch"))


def reported(name: str, report: Report) -> Reported:
    """The headline of a report as an event."""
    test = report.test
    return Reported(
        run=name,
        frr=test.frr,
        frr_low=test.frr_low,
        frr_high=test.frr_high,
        fah=test.fah,
        fah_low=test.fah_low,
        fah_high=test.fah_high,
        threshold=report.operating_point.threshold,
    )


def resume_log(run: Run) -> EventLog:
    """Open a run's event file cut back to its last checkpoint: what came later happens again."""
    keep = load(run.last).event_number if run.last.exists() else 0
    return EventLog(run.events, keep=keep)


def device_of(recipe: Recipe) -> torch.device:
    """The device a recipe trains on. Raises DeviceError where it asks for a GPU in vain."""
    wanted = recipe.train.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "there is no GPU that torch can use", 'set train.device = "cpu", or see doctor'
        )
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def threads_of(recipe: Recipe) -> int:
    """CPU threads that a recipe trains with: as it says, or one for each core it may run on."""
    pinned = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 0
    return recipe.train.threads or pinned or os.cpu_count() or 1


def describe(device: torch.device) -> str:
    """Name a device for a person."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


def _memory_mb(device: torch.device) -> float:
    """Memory in use: of the GPU, or the largest this process has had."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


@contextmanager
def memory_errors(recipe: Recipe) -> Iterator[None]:
    """Turn running out of memory into a sentence that names a batch size."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if type(error) is RuntimeError and "can't allocate memory" not in str(error):
            raise
        raise DeviceError(
            f"out of memory with train.batch_size = {recipe.train.batch_size}",
            f"try --set train.batch_size={max(2, recipe.train.batch_size // 2)}",
        ) from error
