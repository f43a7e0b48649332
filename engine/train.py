"""The training verb: packs, trains, validates each epoch, tests once; resumes exactly."""

import math
import time
from dataclasses import asdict, replace

import torch
from torch import nn

from engine.augment import mean_snr_db
from engine.checkpoint import Checkpoint, load, save
from engine.cohorts import CONDITIONS, frr_noisy
from engine.cost import cost, exceeded
from engine.dataset import Pack, pack, read, require, select
from engine.device import describe, device_of, memory_errors, memory_mb, threads_of
from engine.errors import RecipeError
from engine.evaluate import (
    Scored,
    make_report,
    measured,
    operating_point,
    other_hearings,
    score_split,
    tell_unreadable,
)
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
from engine.files import make_folder, remove_torn, write_atomic
from engine.heard import Heard, Progress
from engine.int8 import compare_int8
from engine.jobs import Control, Stopped
from engine.mined import take, used, with_cuts
from engine.pretrain import learned
from engine.quantize import fuse
from engine.recipe import Recipe, Targets
from engine.remaining import Remaining
from engine.report import Measured, Report
from engine.runs import EventLog, Run, Workspace, last_number
from engine.scorer import Scorer
from engine.teachers import examined
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
    total = recipe.epochs * recipe.train.steps_per_epoch
    emit(JobStarted("train", run.name, describe(device), total, begun))
    if recipe.targets != Targets():
        _warn(exceeded(recipe.targets, cost(recipe)), emit)
    teachers = "" if stored else examined(recipe, workspace, emit)
    packed = _packed(recipe, run, workspace, stored is None, emit, control)
    with memory_errors(recipe):
        start = None if stored or recipe.train.init is None else load(recipe.train.init)
        if not stored and start is None:
            start = learned(recipe, packed, device, workspace, emit=emit, control=control)
        config = stored.config if stored else None
        trainer = Trainer(recipe, packed, device, start=start, config=config)
        if stored is not None and not trainer.restore(stored):
            message = "the data changed since the checkpoint: the hard negatives are found anew"
            emit(Warned(message, "start a new run for one that can be repeated"))
        if teachers:
            trainer.provenance["teachers"] = teachers
        trainer.prepare(workspace.cache, emit=emit, control=control)
        _Loop(trainer, run, emit, control).go()
        validation, test = (
            Heard(packed, select(packed, recipe.data, split), recipe)
            for split in ("validation", recipe.evaluate.split)
        )
        finds = used(packed, recipe.data)
        _test(run, validation, test, finds, emit=emit, control=control)


def _packed(
    recipe: Recipe, run: Run, workspace: Workspace, fresh: bool, emit: Emit, control: Control
) -> Pack:
    """All clips, with what a fresh run takes from the queue, or what it took then."""
    emit(PhaseChanged("pack"))
    packed = pack(read(recipe.data), workspace.cache, emit=emit, control=control)
    tell_unreadable(packed, emit)
    require(packed, recipe.data)
    if fresh:
        take(run, workspace.queue, packed, recipe, emit=emit, control=control)
    return with_cuts(packed, run, recipe, emit=emit, control=control)


class _Loop:
    """Steps, validations and checkpoints of one run, until its last step."""

    def __init__(self, trainer: Trainer, run: Run, emit: Emit, control: Control) -> None:
        self.trainer, self.run, self.emit, self.control = trainer, run, emit, control
        self.losses: list[torch.Tensor] = []
        self.saved_s = self.shown_s = time.monotonic()
        self.remaining = Remaining(trainer)

    def go(self) -> None:
        """Train to the end. On Stopped a checkpoint is written first."""
        trainer = self.trainer
        if not self.run.last.exists():
            self.save()
        try:
            self._train()
            if trainer.recipe.quantize.enabled and not trainer.quantising:
                self.emit(PhaseChanged("calibrate"))
                trainer.quantise(load(self.run.best).weights)
                self.save()
                self._train()
        except Stopped:
            if self._goes_on() and self._finite():
                self.save()
            raise

    def _goes_on(self) -> bool:
        """Whether steps or a validation are left; what follows them begins at the last save."""
        trainer = self.trainer
        return trainer.epoch_ended() or trainer.position.step < trainer.total_steps

    def _train(self) -> None:
        """Train, float or as INT8, and validate each epoch; average the best."""
        trainer = self.trainer
        self.emit(PhaseChanged("train"))
        while self._goes_on():
            self.control.tick()
            if trainer.epoch_ended():
                self._after_epoch()
            else:
                self.losses.append(trainer.step())
                self._after_step()
        self._try_average()
        # A search ships nothing, and INT8 the float student's threshold.
        if trainer.recipe.evaluate.split == "test" and not trainer.quantising:
            self._settle()

    def _ship(self, shipped: Checkpoint, result: Measured) -> None:
        """Write the best weights so far, of the float student or the INT8 one."""
        run, trainer = self.run, self.trainer
        measured = replace(shipped, validation=result.to_json())
        save(run.int8 if trainer.quantising else run.best, measured)
        if trainer.quantising and trainer.position.step == trainer.first_step:
            save(run.rounded, measured)

    def _after_step(self) -> None:
        """Show and save now and then, but nothing that has not been found finite."""
        trainer, now = self.trainer, time.monotonic()
        self.remaining.step()
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
        mean = float(torch.stack(self.losses).mean()) if self.losses else math.nan
        position = trainer.position
        heard = max(position.step - 1, 0) // train.steps_per_epoch  # the epoch of the last step
        self.emit(
            Stepped(
                step=position.step,
                epoch=trainer.epoch,
                loss=mean,
                lr=trainer.learning_rate(),
                clips_per_s=self.remaining.steps_per_s() * train.batch_size,
                snr_db=mean_snr_db(trainer.recipe.augment, heard, train.epochs),
                memory_mb=memory_mb(trainer.device),
                eta_s=self.remaining.seconds(position.step),
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
        with self.remaining.validating():
            scored = score_split(scorer, trainer.validation, lambda _: self.control.tick())
        self._validate(scored)
        if trainer.position.step < trainer.total_steps and trainer.recipe.train.hard_share > 0:
            trainer.hard.search(scorer, trainer.epoch)
            trainer.batches.hard = trainer.hard.spans()
        trainer.position.validated = trainer.position.step
        self.save()
        self.emit(PhaseChanged("train"))
        self.remaining.begin()

    def _scorer(self, model: nn.Module) -> Scorer:
        """A scorer as it will be used: a threshold may lie a rounding above the highest peak."""
        return Scorer(self.trainer.features, fuse(model), self.trainer.device)

    def _validate(self, scored: Scored) -> None:
        """Choose the operating point; keep the weights if they are the best there."""
        shipped, result = self._measure(self.trainer.averaged, scored)
        best = self.trainer.keep(_rank(result, self.trainer.recipe))
        if best:
            self._ship(shipped, result)
        self.emit(_validated(self.trainer, result, shipped.threshold().threshold, best=best))

    def _measure(self, model: nn.Module, scored: Scored) -> tuple[Checkpoint, Measured]:
        """A student with the threshold that its scores choose, and its result there.

        As INT8 it has that of the float student, which is settled, and with which it is shipped.
        """
        trainer = self.trainer
        point = operating_point(scored.streams, scored.clips, trainer.recipe)
        if trainer.quantising:
            point = load(self.run.best).threshold()
        shipped = trainer.shipped(model, point)
        return shipped, measured(scored, shipped)

    def _progress(self, phase: str, seconds: float) -> Progress:
        return Progress(phase, seconds, self.emit, self.control)

    def _settle(self) -> None:
        """Choose the shipped student's threshold on more hours: the streams at other speeds too.

        The epochs need no more than to be told apart. What is shipped hangs on the highest of some
        thirty peaks, and the same people slower and faster have five times as many.
        """
        trainer, run = self.trainer, self.run
        split, best = trainer.validation, load(run.best)
        passed = self._progress("threshold", split.seconds + split.other_speeds_s)
        scorer = Scorer.of(best, trainer.device)
        scored = score_split(scorer, split, passed)
        others = other_hearings(scorer, split, passed)
        heard = (*scored.streams, *others)
        point = operating_point(heard, scored.clips, trainer.recipe, 1 + len(others))
        shipped = replace(best, operating_point=asdict(point))
        result = measured(scored, shipped)
        self._ship(shipped, result)
        event = _validated(trainer, result, shipped.threshold().threshold, best=True)
        self.emit(replace(event, hearings=1 + len(others)))

    def _try_average(self) -> None:
        """Ship the mean of the best epochs' weights unless it does worse than all of them.

        The best of many epochs was lucky on validation; their mean owes less to it.
        """
        trainer = self.trainer
        count = len(trainer.kept)
        if count < 2:
            return
        passed = self._progress("average", trainer.validation.seconds)
        mean = trainer.mean_of_kept()
        scored = score_split(self._scorer(mean), trainer.validation, passed)
        shipped, result = self._measure(mean, scored)
        best = _rank(result, trainer.recipe) <= trainer.kept[-1].rank
        if best:
            self._ship(shipped, result)
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


def _validated(trainer: Trainer, result: Measured, threshold: float, *, best: bool) -> Validated:
    told = ("pauc", "eer", "frr", "frr_low", "frr_high", "clips", "fah", "hours", "det_area")
    return Validated(
        **{name: getattr(result, name) for name in told},
        step=trainer.position.step,
        epoch=trainer.epoch,
        target_fah=trainer.recipe.evaluate.target_fah,
        threshold=threshold,
        frr_noisy=frr_noisy(result),
        best=best,
    )


def _test(
    run: Run,
    validation: Heard,
    test: Heard,
    finds: tuple[int, int],
    *,
    emit: Emit,
    control: Control,
) -> None:
    """Measure the best checkpoints on the test set and write the report last.

    `finds` are the hard negatives and wake words that came from the queue.
    """
    make_folder(run.export)
    report, outcomes = make_report(
        run.best, test, run.export / "model.onnx", emit=emit, control=control
    )
    outcomes.write(run.outcomes)
    report = replace(report, hard_negatives=finds[0], mined_positives=finds[1])
    if run.recipe().quantize.enabled:
        held = compare_int8(run, validation, test, run.export, emit=emit, control=control)
        report = replace(report, int8=held.to_plain())
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
        split=report.split,
    )


def resume_log(run: Run) -> EventLog:
    """Open a run's event file cut back to its last checkpoint: what came later happens again.

    What a kill left half written goes. A finished run is whole.
    """
    if run.finished():
        return EventLog(run.events)
    remove_torn(run.path, run.last.parent)
    return EventLog(run.events, keep=load(run.last).event_number if run.last.exists() else 0)
