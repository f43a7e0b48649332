"""Studies made without training anything: what they look like, not what they are."""

import math
import random
from dataclasses import asdict

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, create_trial

from engine.recipe import Recipe
from engine.recipe_file import override
from engine.runs import Workspace
from engine.space import Dimension
from engine.study import FATES, Outcome, Study, create
from engine.trials import StudyView, Trial, front_of, growth

SPACE = {
    "model.width": "0.25 to 2, log",
    "train.lr": "0.0003 to 0.02, log",
    "loss.kind": "cross_entropy | focal",
    "loss.gamma": "0.5 to 4, when loss.kind = focal",
    "augment.room": "0 to 1",
}


def run_name(number: int) -> str:
    return f"{number + 3:03d}-mel40-t{number}"


def made_trial(number: int, chance: random.Random) -> Trial:
    """Wider students are slower and better, and the learning rate has its best place."""
    width, lr = 0.25 * 8 ** chance.random(), 3e-4 * 60 ** chance.random()
    params = {"model.width": width, "train.lr": lr, "loss.kind": "cross_entropy",
              "augment.room": chance.random()}  # fmt: skip
    lack = 0.02 + 0.08 / width**0.7 * (1 + math.log(lr / 3e-3) ** 2 / 3) * chance.uniform(0.8, 1.3)
    pauc, latency = 1 - min(lack, 0.45), 0.04 + 0.11 * width**1.6 * chance.uniform(0.95, 1.1)
    parent = number - chance.randint(1, 9) if number % 5 == 4 and number > 10 else None
    return Trial(
        number=number, state="complete", params=params, values=(pauc, latency), frr=lack * 1.5,
        pauc=pauc, fah=0.42, latency_ms=latency, macs=round(2.5e6 * width**2),
        int8_kb=26 + 80 * width**1.7, feasible=latency < 0.3, run=run_name(number),
        parent=parent, operation=chance.choice(["perturb", "resample", "swap"]) if parent else "",
        seconds=41 + 20 * chance.random(),
    )  # fmt: skip


def made_view(trials: int = 48, *, running: bool = False) -> StudyView:
    """A study of so many finished trials; some failed, some were stopped early."""
    chance = random.Random(5)
    tried = [made_trial(number, chance) for number in range(trials)]
    for number, why in (
        (11, "out of memory at a batch of 512"),
        (23, "the loss is not a number any more, at step 40"),
    ):
        if number < trials:
            tried[number] = Trial(number=number, state="failed", params=tried[number].params,
                                  run=tried[number].run, why=why)  # fmt: skip
    for number in range(13, trials, 9):
        early = tried[number]
        tried[number] = Trial(
            number=number, state="stopped", params=early.params, frr=early.frr, pauc=early.pauc,
            macs=early.macs, int8_kb=early.int8_kb, run=early.run, seconds=17.0,
            why="worse than the median of 10 trials at epoch 3",
        )  # fmt: skip
    if running:
        tried.append(Trial(number=trials, state="running", params=tried[0].params,
                           run=run_name(trials)))  # fmt: skip
    return StudyView(
        name="mel40", recipe="recipes/search.toml", sampler="tpe", seed=0, wanted=60,
        quality="pauc", latency="measured", space=SPACE, trials=tuple(tried),
        front=front_of(tried, "pauc"), hypervolume=growth(tried, "pauc"),
        importance={"model.width": 0.52, "train.lr": 0.31, "augment.room": 0.12, "loss.kind": 0.05},
    )  # fmt: skip


RECIPE = override(
    Recipe(),
    {
        "name": "mel40",
        "search.space": {
            "model.width": {"low": 0.25, "high": 2, "log": True},
            "train.lr": {"low": 3e-4, "high": 2e-2, "log": True},
            "loss.kind": {"choices": ["cross_entropy", "focal"]},
            "augment.room": {"low": 0.0, "high": 1.0},
        },
    },
)


def write_study(workspace: Workspace, view: StudyView) -> None:
    """Keep a made study in a database, as a search would have left it."""
    create(workspace, view.name, RECIPE, view.wanted)
    with Study.opened(workspace, view.name, None) as study:
        kept = {dimension.key: distribution(dimension) for dimension in study.space}
        study.study.add_trials([_frozen(trial, kept) for trial in view.trials])


def distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.kind == "choice":
        return CategoricalDistribution(dimension.choices)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _frozen(trial: Trial, kept: dict[str, BaseDistribution]) -> FrozenTrial:
    outcome = Outcome(
        trial.values, trial.frr, trial.pauc, trial.fah, trial.latency_ms, trial.macs, trial.int8_kb,
        trial.feasible, trial.why, trial.seconds,
    )  # fmt: skip
    known = {"run": trial.run, "parent": trial.parent, "operation": trial.operation}
    ended = {} if trial.state == "running" else {"outcome": asdict(outcome)}
    return create_trial(
        state=FATES[trial.state], values=trial.values, params=trial.params, distributions=kept,
        user_attrs={"begun": True} | known | ended,
    )  # fmt: skip
