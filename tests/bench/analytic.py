"""A front that is known: made misses and MACs for the space of recipes/search.toml."""

import math
import random
from collections.abc import Mapping
from pathlib import Path

import optuna
from optuna.storages import InMemoryStorage

from engine.recipe import Recipe
from engine.recipe_file import dump, load, override
from engine.space import space_of, suggest
from engine.study import Outcome, Study
from engine.trials import Param, Point, front, hypervolume

RECIPE = load(Path(__file__).parents[2] / "recipes" / "search.toml")
SPACE = space_of(RECIPE)
DIMENSIONS = {dimension.key: dimension for dimension in SPACE}
REFERENCE = (0.6, 12e6)
BEST = {
    "train.lr": math.log(5e-3),
    "train.weight_decay": math.log(2e-2),
    "train.positive_share": 0.35,
    "train.hard_share": 0.25,
    "augment.snr_low_db": -3.0,
    "augment.pitch": 0.35,
    "augment.tract": 0.6,
}
"""Where each key is best; logarithms for those on a log range."""
WEIGHT = 0.25
"""Misses that a key costs at a whole range from where it is best."""


def analytic(params: Mapping[str, Param]) -> Point:
    """Misses and MACs: a larger student misses less, and a wrong setting costs the square."""
    width, mels = float(params["model.width"]), float(params["features.mels"])
    window, depthwise = float(params["features.window_ms"]), bool(params["model.depthwise"])
    macs = 1.2e6 * width**2 * (1 if depthwise else 2.5) * mels / 40 * window / 1500
    capacity = width * (1 if depthwise else 1.2) * (mels / 40) ** 0.3
    missed = 0.02 + 0.12 / capacity + 0.02 * abs(window - 1500) / 300
    for key, best in BEST.items():
        dimension, value = DIMENSIONS[key], float(params[key])
        low, high = dimension.low, dimension.high
        if dimension.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        missed += WEIGHT * ((value - best) / (high - low)) ** 2
    if params["loss.kind"] == "focal":
        missed += 0.3 * ((float(params["loss.focal_gamma"]) - 1.5) / 2.5) ** 2 - 0.01
    return missed, macs


def covered(points: list[Point]) -> float:
    """Hypervolume as a share of the whole rectangle."""
    best = [points[at] for at in front(points)]
    return hypervolume(best, REFERENCE) / (REFERENCE[0] * REFERENCE[1])


def by_chance(seed: int, trials: int) -> float:
    """What random search covers."""
    rng = random.Random(seed)
    drawn = [suggest(SPACE, lambda dimension: dimension.draw(rng)) for _ in range(trials)]
    return covered([analytic(params) for params in drawn])


def by_study(seed: int, trials: int, sampler: str, fork_every: int) -> float:
    """What a study covers, with its database in memory."""
    changes = {"sampler": sampler, "fork_every": fork_every, "seed": seed}
    recipe = override(RECIPE, {f"search.{key}": value for key, value in changes.items()})
    study = _in_memory(recipe, trials)
    points = list[Point]()
    while (asked := study.ask()) is not None:
        points.append(analytic(asked.params))
        study.tell(asked, "complete", Outcome(values=points[-1], macs=int(points[-1][1])))
    return covered(points)


def _in_memory(recipe: Recipe, trials: int) -> Study:
    storage = InMemoryStorage()
    study = optuna.create_study(storage=storage, directions=["minimize", "minimize"])
    study.set_user_attr("recipe", dump(recipe))
    study.set_user_attr("wanted", trials)
    return Study(study, storage, "memory", shared=False)  # type: ignore[arg-type]
