"""A study in its database: what to try next, and what came of it.

The random numbers of a proposal come from the seed and how many trials were begun before it, so a
study holds no random state: what is in the database decides what is tried next, however often the
process was killed in between.
"""

import random
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.importance import get_param_importances
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial
from optuna.trial import Trial as Asking
from optuna.trial import TrialState as Fate

from engine.errors import DataError, RecipeError
from engine.recipe import Recipe
from engine.recipe_file import loads
from engine.runs import Workspace
from engine.space import Dimension, Params, clamp, mutate, problems_of, space_of, suggest
from engine.study_file import BEAT_S, REFUSED, load, quiet, reached, storage_of, unknown, url_of
from engine.study_file import BUSY_S as BUSY_S  # what is asked of a study is found here
from engine.study_file import create as create
from engine.study_file import studies as studies
from engine.trials import (
    Param,
    Point,
    Quality,
    StudyView,
    Trial,
    TrialState,
    front_of,
    growth,
    minimised,
)

POPULATION = 10
LEAST_FOR_IMPORTANCE = 8
FATES: dict[TrialState, Fate] = {
    "running": Fate.RUNNING,
    "complete": Fate.COMPLETE,
    "stopped": Fate.PRUNED,
    "failed": Fate.FAIL,
}
STATES = {fate: state for state, fate in FATES.items()}
STATES |= {Fate.WAITING: "running"}  # read just as another process took it: its state comes first
LOST = "its process was lost"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trial; kept as it is in the database."""

    values: Point | None = None
    frr: float | None = None
    pauc: float | None = None
    fah: float | None = None
    latency_ms: float | None = None
    macs: int | None = None
    int8_kb: float | None = None
    feasible: bool = True
    why: str = ""
    seconds: float = 0.0
    curve: tuple[float, ...] = ()
    """The quality after each epoch, the less the better."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial that is to be run."""

    asking: Asking
    params: Params
    parent: int | None
    operation: str
    run: str
    cuts: int
    """How often a kill has cut it off."""

    @property
    def number(self) -> int:
        """Its number in the study."""
        return self.asking.number

    @property
    def forked(self) -> bool:
        """Whether it begins with what a parent has learnt."""
        return _forked(self.parent, self.operation)

    def keep(self, key: str, value: Any) -> None:
        """Write a fact of a trial that runs; not where another process has declared it lost."""
        with suppress(UpdateFinishedTrialError):
            self.asking.set_user_attr(key, value)


class Study:
    """A study, open: proposes trials and takes what came of them."""

    def __init__(self, study: optuna.Study, storage: RDBStorage, url: str, *, shared: bool) -> None:
        self.study, self.storage, self.url, self.shared = study, storage, url, shared
        self.name = study.study_name
        self.recipe = loads(study.user_attrs["recipe"], Path("/"), name="the study's recipe")
        self.space = space_of(self.recipe)

    @classmethod
    @contextmanager
    def opened(cls, workspace: Workspace, name: str, storage: str | None) -> "Iterator[Study]":
        """Open a study that is there. Raises DataError where it is not."""
        url = url_of(workspace, name, storage)
        if storage is None and not (workspace.studies / f"{name}.db").exists():
            raise unknown(workspace, name)
        with reached(url):
            kept = storage_of(url)
            try:
                study = cls(load(kept, workspace, name), kept, url, shared=storage is not None)
                study.find_data(workspace.studies / f"{name}.toml")
                yield study
            finally:
                kept.remove_session()
                kept.engine.dispose()

    def find_data(self, file: Path) -> None:
        """Take the data from where this workspace has it, if it has joined the study."""
        if file.exists():
            own = loads(file.read_text(encoding="utf-8"), Path("/"))
            self.recipe = self.recipe.model_copy(update={"data": own.data})

    @property
    def wanted(self) -> int:
        """Trials asked for, as of now."""
        return int(self.study.user_attrs["wanted"])

    def trials(self) -> list[FrozenTrial]:
        """The trials that have begun, oldest first; one is left out that was never whole."""
        found = self.study.get_trials(deepcopy=False)
        return [trial for trial in found if trial.user_attrs.get("begun")]

    def shown(self) -> tuple[Trial, ...]:
        """The trials as plain values."""
        return tuple(_trial(trial) for trial in self.trials())

    def curves(self, macs: int, *, forks: bool) -> list[tuple[float, ...]]:
        """The curves of the complete trials that take no more arithmetic, with those of `forks`."""
        complete = [t.user_attrs for t in self.trials() if t.state == Fate.COMPLETE]
        outcomes = [
            attrs["outcome"]
            for attrs in complete
            if forks or not _forked(attrs.get("parent"), attrs.get("operation", ""))
        ]
        return [tuple(each["curve"]) for each in outcomes if each["macs"] <= macs]

    def left(self, workspace: Workspace) -> list[Asked]:
        """The trials of this workspace that were stopped or killed while they ran.

        One that a kill caught before it was whole is closed; the next proposal equals it.
        """
        found = []
        for trial in self.study.get_trials(deepcopy=False, states=(Fate.RUNNING,)):
            run = trial.user_attrs.get("run")
            if not trial.user_attrs.get("begun"):
                if not self.shared:
                    self._void(trial)
            elif not self.shared or (run and (workspace.root / "runs" / run).exists()):
                found.append(self._asked(Asking(self.study, trial._trial_id)))
        return found

    def _void(self, trial: FrozenTrial) -> None:
        """Close a trial that is not whole, once what a person asked for waits again."""
        attrs = dict(trial.user_attrs)
        if attrs.get("operation") in ("by hand", "retry"):
            asked = trial.system_attrs["fixed_params"]
            waits = self.study.get_trials(deepcopy=False, states=(Fate.WAITING,))
            if all(other.system_attrs.get("fixed_params") != asked for other in waits):
                self.study.enqueue_trial(asked, user_attrs=attrs)
        self.study.tell(trial.number, state=Fate.FAIL)

    def ask(self) -> Asked | None:
        """Propose the next trial; None once there are as many as wanted."""
        with quiet():
            if self.shared:
                fail_stale_trials(self.study)
            begun = len(self.trials()) - len(self._retried())
            if begun >= self.wanted:
                return None
            # Processes that ask together must not try the same.
            seed = None if self.shared else f"{self.recipe.search.seed}/{begun}"
            rng = random.Random(seed)
            self.study.sampler = _sampler(self.recipe, rng)
            self._fork(begun, rng)
            with suppress(UpdateFinishedTrialError):
                return self._propose()
        return self.ask()  # two processes took the same waiting trial, and the other has ended it

    def _propose(self) -> Asked | None:
        """A new trial, or one that waits; None if the last that was wanted is another's."""
        asking = self.study.ask()
        if self.shared:
            self.storage.record_heartbeat(asking._trial_id)
        suggest(self.space, partial(_drawn, asking))
        if self._beyond(asking.number):
            self.study.tell(asking.number, state=Fate.FAIL)
            return None
        asking.set_user_attr("begun", True)
        return self._asked(asking)

    def _retried(self) -> set[int]:
        """The lost trials that are tried once more: each counts once."""
        trials = [trial.user_attrs for trial in self.study.get_trials(deepcopy=False)]
        return {attrs["parent"] for attrs in trials if attrs.get("operation") == "retry"}

    def _asked(self, asking: Asking) -> Asked:
        attrs = asking.user_attrs
        parent, operation = attrs.get("parent"), attrs.get("operation", "")
        run, cuts = attrs.get("run", ""), attrs.get("cuts", 0)
        return Asked(asking, dict(asking.params), parent, operation, run, cuts)

    def _beyond(self, number: int) -> bool:
        """Whether another process asked for the last trial that was wanted, just before."""
        earlier = self.study.get_trials(deepcopy=False)[:number]
        retried = self._retried()
        return sum(self._counts(t) for t in earlier if t.number not in retried) >= self.wanted

    def _counts(self, trial: FrozenTrial) -> bool:
        return bool(trial.user_attrs.get("begun")) or trial.state == Fate.RUNNING

    def _fork(self, begun: int, rng: random.Random) -> None:
        """Have a changed member of the front tried next, if it is time and nothing waits."""
        every, trials = self.recipe.search.fork_every, self.shown()
        numbers = front_of(trials, self.recipe.search.quality)
        waits = self.study.get_trials(deepcopy=False, states=(Fate.WAITING,))
        if not every or (begun + 1) % every or not numbers or waits:
            return
        params = {trial.number: trial.params for trial in trials}
        fork = mutate(self.space, [params[number] for number in numbers], rng)
        attrs = {"parent": numbers[fork.parent], "operation": fork.operation}
        self.study.enqueue_trial(self.free(fork.params, rng), user_attrs=attrs)

    def free(self, params: Params, rng: random.Random, wanted: Iterable[str] = ()) -> Params:
        """Leave a key to NSGA-II, which takes only what it helped to propose for a parent.

        Not one that a person `wanted`, unless that is all of them.
        """
        if self.recipe.search.sampler != "nsga2":
            return params
        free = rng.choice(sorted(params.keys() - set(wanted)) or sorted(params))
        return {key: value for key, value in params.items() if key != free}

    def tell(self, asked: Asked, state: TrialState, outcome: Outcome) -> None:
        """Write what came of a trial, unless another process took it for lost and ended it."""
        with quiet(), suppress(UpdateFinishedTrialError):
            asked.keep("outcome", asdict(outcome))
            if outcome.values:
                asked.asking.set_constraint("targets", 0.0 if outcome.feasible else 1.0)
            fate = FATES[state]
            self.study.tell(asked.number, outcome.values, state=fate, skip_if_finished=True)

    @contextmanager
    def beating(self, asked: Asked) -> Iterator[None]:
        """Say every now and then that a trial is being worked on."""
        ended = threading.Event()
        place = self.storage.get_study_id_from_name(self.name)
        trial = self.storage.get_trial_id_from_study_id_trial_number(place, asked.number)

        def beat() -> None:
            while not ended.wait(BEAT_S):
                with suppress(*REFUSED):  # the next beat may be heard
                    self.storage.record_heartbeat(trial)

        self.storage.record_heartbeat(trial)
        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _forked(parent: int | None, operation: str) -> bool:
    """Whether a trial is a fork; one that is only tried again begins like any other."""
    return parent is not None and operation != "retry"


def _sampler(recipe: Recipe, rng: random.Random) -> BaseSampler:
    seed = rng.getrandbits(32)
    if recipe.search.sampler == "nsga2":
        return NSGAIISampler(population_size=POPULATION, seed=seed)
    return TPESampler(seed=seed)


def _drawn(asking: Asking, dimension: Dimension) -> Param:
    if dimension.kind == "choice":
        return cast("Param", asking.suggest_categorical(dimension.key, dimension.choices))
    low, high, log = dimension.low, dimension.high, dimension.log
    if dimension.kind == "int":
        return asking.suggest_int(dimension.key, int(low), int(high), log=log)
    return asking.suggest_float(dimension.key, low, high, log=log)


def _trial(trial: FrozenTrial) -> Trial:
    attrs, state = trial.user_attrs, STATES[trial.state]
    known: dict[str, Any] = dict(attrs.get("outcome") or {})
    for inner in ("curve", "values"):
        known.pop(inner, None)
    if state == "failed":
        known.setdefault("why", LOST)
    values = (trial.values[0], trial.values[1]) if state == "complete" else None
    return Trial(
        number=trial.number,
        state=state,
        params=dict(trial.params),
        values=values,
        run=attrs.get("run", ""),
        parent=attrs.get("parent"),
        operation=attrs.get("operation", ""),
        **known,
    )


def want(workspace: Workspace, name: str, trials: int, storage: str | None = None) -> None:
    """Ask for another number of trials; a search under way ends after the trial that reaches it."""
    with Study.opened(workspace, name, storage) as study:
        study.study.set_user_attr("wanted", trials)


def view(workspace: Workspace, name: str, storage: str | None = None) -> StudyView:
    """A study as it stands; reads the database, so not for the event loop."""
    with Study.opened(workspace, name, storage) as study:
        search, trials = study.recipe.search, study.shown()
        return StudyView(
            name=name,
            recipe=study.recipe.name,
            sampler=search.sampler,
            seed=search.seed,
            wanted=study.wanted,
            quality=search.quality,
            latency=search.latency,
            space={dimension.key: dimension.words() for dimension in study.space},
            trials=trials,
            front=front_of(trials, search.quality),
            hypervolume=growth(trials, search.quality),
            importance=_importance(study.study, trials, search.quality),
        )


def _importance(
    study: optuna.Study, trials: tuple[Trial, ...], quality: Quality
) -> dict[str, float]:
    """How much each key has to do with a good quality, as a share (PED-ANOVA, low is good)."""
    qualities = {trial.values[0] for trial in trials if trial.values}
    complete = sum(trial.values is not None for trial in trials)
    if complete < LEAST_FOR_IMPORTANCE or len(qualities) < 2:
        return {}
    with quiet():
        return get_param_importances(
            study, target=lambda trial: minimised((trial.values[0], trial.values[1]), quality)[0]
        )


def recipe_of(workspace: Workspace, name: str, storage: str | None = None) -> Recipe:
    """The recipe that a study's trials change."""
    with Study.opened(workspace, name, storage) as study:
        return study.recipe


def fork(
    workspace: Workspace,
    name: str,
    parent: int,
    changes: Mapping[str, Param],
    storage: str | None = None,
) -> None:
    """Have a trial tried again, changed by hand, before anything else.

    Raises RecipeError where a value is outside of the space.
    """
    with Study.opened(workspace, name, storage) as study, quiet():
        trials = {trial.number: trial for trial in study.shown()}
        if parent not in trials:
            raise DataError(f"study {name!r} has no trial {parent}", "see `search show`")
        if found := problems_of(study.recipe, study.space, changes):
            raise RecipeError("the fork is outside of the space", tuple(found))
        rng = random.Random(f"{parent} {sorted(changes.items())}")
        params = clamp(study.space, {**trials[parent].params, **changes}, rng)
        attrs = {"parent": parent, "operation": "by hand"}
        study.study.enqueue_trial(study.free(params, rng, changes), user_attrs=attrs)
