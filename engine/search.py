"""Search: a study of recipes, quality against latency, one ordinary run after the other.

A trial is trained shorter than the recipe asks for, and judged on validation alone: the test split
stays closed until the chosen recipe is trained at full length.
"""

import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import torch

from engine.checkpoint import Checkpoint, load, save
from engine.cohorts import NOISY, frr_noisy
from engine.cost import Cost, cost
from engine.device import device_of
from engine.errors import CheckpointError, DeviceError, RecipeError, WakewordError
from engine.events import (
    Emit,
    Event,
    JobFailed,
    JobFinished,
    TrialFinished,
    TrialStarted,
    Validated,
    Warned,
)
from engine.files import make_folder
from engine.jobs import Control, Stopped
from engine.models import build
from engine.recipe import Recipe
from engine.recipe_file import dump, override
from engine.report import Report
from engine.runs import EventLog, Run, Workspace, read_events, settled
from engine.space import trial_recipe
from engine.study import Asked, Outcome, Study, want
from engine.study_file import create
from engine.teachers import checkpoint_of
from engine.train import resume_log, train
from engine.trials import Quality, TrialState, minimised

WORDS_HEARD = 1 + len(NOISY)
MOST_CUTS = 3
ROUNDED_MS = 2
"""Times closer than 10 us are the same: the MACs decide between them."""


def search(
    recipe: Recipe | None,
    workspace: Workspace,
    *,
    name: str,
    trials: int | None = None,
    storage: str | None = None,
    emit: Emit,
    control: Control,
) -> None:
    """Try recipes until as many trials are there as wanted; without a recipe, go on with a study.

    Raises Stopped, after a checkpoint of the trial under way, when told to stop.
    """
    if recipe is not None:
        create(workspace, name, recipe, trials or recipe.search.trials, storage)
    elif trials is not None:
        want(workspace, name, trials, storage)
    with Study.opened(workspace, name, storage) as study:
        device_of(study.recipe)
        for asked in study.left(workspace):
            _Attempt(study, asked, workspace, emit, control).go()
        control.tick()
        while (next_ := study.ask()) is not None:
            _Attempt(study, next_, workspace, emit, control).go()
            control.tick()


def _require_others(recipe: Recipe) -> None:
    """Raise CheckpointError where a teacher or `train.init` of a study is gone."""
    fold, named = recipe.data.fold, [one for one in recipe.distill.teachers if one.path is not None]
    first = [recipe.train.init] if recipe.train.init is not None else []
    for path in (*first, *(checkpoint_of(one, fold) for one in named)):
        if not path.exists():
            message = f"{path}, which each trial begins with, is not there"
            raise CheckpointError(message, "put it back and go on with `search --resume`")


class _Attempt:
    """One trial: a run of its own, from its beginning or from its last checkpoint, and its end."""

    def __init__(
        self, study: Study, asked: Asked, workspace: Workspace, emit: Emit, control: Control
    ) -> None:
        self.study, self.asked, self.workspace = study, asked, workspace
        self.outer, self.control = emit, _Watched(control)
        self.search = study.recipe.search
        self.size: Cost | None = None
        self.epochs = 0
        self.curve: list[float] = []
        self.last: Validated | None = None
        self.why = ""
        self.began_s = time.monotonic()

    def go(self) -> None:
        """Train and judge. Raises Stopped where the whole search is stopped.

        Raises CheckpointError where what all trials begin with is gone: no trial is to blame.
        """
        _require_others(self.study.recipe)
        with self.study.beating(self.asked):
            try:
                run = self._run()
            except (RecipeError, CheckpointError, DeviceError) as error:
                self._end("failed", "", self.outer, self._known(None, _sentence(error)))
                return
            with closing(resume_log(run)) as log:
                self._train(run, log)

    def _run(self) -> Run:
        """The trial's run, new or as it was left."""
        asked, name = self.asked, f"{self.study.name}-t{self.asked.number}"
        found = self.workspace.root / "runs" / asked.run
        if asked.run and (found / "recipe.toml").exists():
            asked.keep("cuts", asked.cuts + 1)
            if asked.cuts >= MOST_CUTS:
                raise DeviceError(f"the process was ended {asked.cuts + 1} times while it ran")
            self.size = cost(Run(found).recipe())
            return Run(found)
        recipe = trial_recipe(self.study.recipe, asked.params, name)
        self.size = _buildable(recipe)
        recipe = settled(self._warm(recipe))
        run = self._made(recipe) or self.workspace.create(recipe)
        asked.keep("run", run.name)
        return run

    def _made(self, recipe: Recipe) -> Run | None:
        """The run that was made just before a kill, and not begun."""
        runs = [run for run in self.workspace.runs() if not run.last.exists()]
        whole = (run for run in runs if (run.path / "recipe.toml").exists())
        named = (run for run in whole if run.name.split("-", 1)[1] == recipe.name)
        return next((run for run in named if run.recipe() == recipe), None)

    def _warm(self, recipe: Recipe) -> Recipe:
        """A fork begins with the weights of its parent, as far as they fit."""
        asked = self.asked
        if not asked.forked:
            return recipe
        run = next(trial.run for trial in self.study.shown() if trial.number == asked.parent)
        best = Run(self.workspace.root / "runs" / run).best
        if not run or not best.exists():
            parent = f"trial {asked.number} begins afresh: its parent's run was removed"
            self.outer(Warned(parent, "keep the runs of a study until it is through"))
            return recipe
        if (fitting := _fitting(load(best), recipe)) is None:
            return recipe
        folder = self.workspace.studies / self.study.name
        make_folder(folder)
        init = folder / f"t{asked.number}.ckpt"
        save(init, fitting)
        return override(recipe, {"train.init": str(init)})

    def _train(self, run: Run, log: EventLog) -> None:
        """Train the run to its end, or until it is found hopeless."""

        def emit(event: Event) -> None:
            log.append(event)
            self.outer(event)
            self._hear(event)

        self.workspace.trains(run)
        recipe = run.recipe()
        self.epochs = recipe.train.epochs
        for record in read_events(run.events):
            self._hear(record.event)
        asked, outcome = self.asked, "failed"
        wanted, params = self.study.wanted, dict(asked.params)
        started = TrialStarted(self.study.name, asked.number, run.name, params, wanted)
        emit(replace(started, parent=asked.parent, operation=asked.operation))
        try:
            if not run.finished():
                resume = run.last.exists()
                home, control = self.workspace, self.control
                train(recipe, run, home, emit=emit, control=control, resume=resume)
            outcome = "done"
            self._complete(run, emit)
        except Stopped:
            outcome = "stopped"
            if not self.why:
                asked.keep("cuts", asked.cuts)
                raise
            self._end("stopped", run.name, emit, self._known(self.last, self.why))
        except (RecipeError, CheckpointError, DeviceError) as error:
            log.append(JobFailed(error.message, error.hint))
            self._end("failed", run.name, emit, self._known(self.last, _sentence(error)))
        except WakewordError:  # the whole search ends, and the trial is not to blame
            asked.keep("cuts", asked.cuts)
            raise
        finally:
            log.append(JobFinished("train", outcome, time.monotonic() - self.began_s))

    def _hear(self, event: Event) -> None:
        """Follow the validations; stop the trial once it is hopeless, unless it is at its end."""
        if not isinstance(event, Validated):
            return
        self.last = event
        if event.averaged:
            return
        quality = self.search.quality
        self.curve.append(minimised((_quality(event, quality), 0), quality)[0])
        assert self.size is not None
        peers = self.study.curves(self.size.macs, forks=self.asked.forked)
        why = hopeless(self.curve, peers, self.search.stop_after)
        if why and event.epoch < self.epochs:
            self.why = why
            self.control.stop()

    def _complete(self, run: Run, emit: Emit) -> None:
        """Tell what the report says: the last validation need not be of what is shipped."""
        report = Report.from_json(run.report.read_text(encoding="utf-8"))
        shipped, last = report.validation, self.last
        assert last is not None
        best = replace(last, pauc=shipped.pauc, fah=shipped.fah, frr=shipped.frr)
        best = replace(best, frr_noisy=frr_noisy(shipped))
        p50 = report.latency_ms["p50"]
        macs = self.search.latency == "macs"
        latency = float(report.macs) if macs else round(p50, ROUNDED_MS)
        outcome = replace(self._known(best), latency_ms=p50, feasible=not report.warnings)
        values = _quality(best, self.search.quality), latency
        self._end("complete", run.name, emit, replace(outcome, values=values))

    def _known(self, event: Validated | None, why: str = "") -> Outcome:
        """What is known of the trial, its last or best validation among it."""
        seconds = time.monotonic() - self.began_s
        outcome = Outcome(why=why, seconds=seconds, curve=tuple(self.curve))
        if self.size is not None:
            outcome = replace(outcome, macs=self.size.macs, int8_kb=self.size.int8_kb)
        if event is not None:
            outcome = replace(outcome, frr=_missed(event), pauc=event.pauc, fah=event.fah)
        return outcome

    def _end(self, state: TrialState, run: str, emit: Emit, outcome: Outcome) -> None:
        """Write what came of the trial, and tell."""
        self.study.tell(self.asked, state, outcome)
        quality, latency = outcome.values or (None, None)
        why, seconds = outcome.why, outcome.seconds
        emit(
            TrialFinished(
                self.study.name, self.asked.number, run, state, quality, latency, why, seconds
            )
        )


class _Watched(Control):
    """The control of a search for one of its trials, which can be stopped alone."""

    def __init__(self, outer: Control) -> None:
        super().__init__()
        self.outer = outer

    def tick(self) -> None:
        """A step boundary of the search and of the trial."""
        self.outer.tick()
        super().tick()

    def take_checkpoint_request(self) -> bool:
        """Whether a checkpoint was asked for since the last call."""
        return self.outer.take_checkpoint_request()


def _sentence(error: WakewordError) -> str:
    """An error in one line."""
    return "; ".join(line.strip() for line in error.message.splitlines())


def _buildable(recipe: Recipe) -> Cost:
    """What a recipe's student takes. Raises RecipeError where it cannot be built."""
    try:
        return cost(recipe)
    except (RuntimeError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise RecipeError(f"the architecture is impossible: {why}") from error


def _fitting(parent: Checkpoint, recipe: Recipe) -> Checkpoint | None:
    """A parent's weights in the student of another recipe, fresh ones where the shapes differ.

    None where nothing is worth it: the student sees other features, or no kernel fits.
    """
    if parent.settings().features != recipe.features:
        return None
    torch.manual_seed(recipe.train.seed)
    weights = build(recipe).state_dict()
    fits = {
        name: value
        for name, value in parent.weights.items()
        if name in weights and value.shape == weights[name].shape
    }
    if not any(value.ndim > 1 for value in fits.values()):
        return None
    return replace(
        parent, recipe=dump(recipe), weights=weights | fits, operating_point=None, validation=""
    )


def _missed(event: Validated) -> float:
    """FRR over the words clean, in noise and in rooms; all are missed above the FAH target."""
    if event.fah > event.target_fah:
        return 1.0
    noisy = event.frr if event.frr_noisy is None else event.frr_noisy
    return (event.frr + (WORDS_HEARD - 1) * noisy) / WORDS_HEARD


def _quality(event: Validated, quality: Quality) -> float:
    return event.pauc if quality == "pauc" else _missed(event)


def hopeless(curve: Sequence[float], peers: Sequence[Sequence[float]], least: int) -> str:
    """Why a trial is not worth its time, "" while it is; curves hold a value an epoch, low is good.

    From the second epoch on the best so far must keep up with the median of the peers, once there
    are enough: complete trials that take no more arithmetic, which it would have to beat; for one
    that is no fork, no forks, which begin with what their parents learnt.
    """
    epoch = len(curve)
    if not least or len(peers) < least or epoch < 2:
        return ""
    best, median = min(curve), statistics.median(min(peer[:epoch]) for peer in peers)
    if best <= median:
        return ""
    against = f"the median of {len(peers)} trials that take no more arithmetic"
    return f"hopeless after {epoch} epochs: {best:.4f}, where {median:.4f} is {against}"
