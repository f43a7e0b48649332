"""The space of a search: recipe keys and their ranges, and how one point in it leads to others.

A range is checked as the key itself would be. A key that hangs on another one (`when`) is there
only where that one has the value; everything here keeps to that.
"""

import random
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import RecipeError
from engine.recipe import Range, Recipe
from engine.recipe_file import field_at, override
from engine.trials import Param

NEVER = ("search", "data", "evaluate", "quantize", "targets", "name")
"""What a search may not change: it would measure something else."""
FACTORS = (0.8, 1.25)
NUDGE = 0.2
DRAWS = 100

Params = dict[str, Param]
Operation = Literal["perturb", "resample", "swap"]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One key of the space: a range of numbers, or choices."""

    key: str
    kind: Literal["float", "int", "choice"]
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Param, ...] = ()
    when: tuple[tuple[str, Param], ...] = ()

    def there(self, params: Mapping[str, Param]) -> bool:
        """Whether the key has a value beside these."""
        return all(key in params and params[key] == value for key, value in self.when)

    def words(self) -> str:
        """The range as a person reads it."""
        if self.kind == "choice":
            said = " | ".join(_said(choice) for choice in self.choices)
        else:
            said = f"{self.low:g} to {self.high:g}" + (", log" if self.log else "")
        hangs = " and ".join(f"{key} = {_said(value)}" for key, value in self.when)
        return f"{said}, when {hangs}" if hangs else said

    def has(self, value: Param) -> bool:
        """Whether a value is of the right kind: one of the choices, or any number."""
        if self.kind == "choice":
            return value in self.choices
        return isinstance(value, int | float) and not isinstance(value, bool)

    def fit(self, value: Param) -> Param:
        """A number moved into the range; a choice stays as it is."""
        if self.kind == "choice" or isinstance(value, str):
            return value
        within = min(max(float(value), self.low), self.high)
        return round(within) if self.kind == "int" else within

    def draw(self, rng: random.Random) -> Param:
        """A value at random, evenly over the range or its logarithm."""
        if self.kind == "choice":
            return rng.choice(self.choices)
        if self.log:
            return self.fit(self.low * (self.high / self.low) ** rng.random())
        if self.kind == "int":
            return rng.randint(int(self.low), int(self.high))
        return rng.uniform(self.low, self.high)

    def nudged(self, value: Param, rng: random.Random) -> Param:
        """A number a little off: by a factor on a log range, else by a fifth of the range."""
        if self.kind == "choice" or isinstance(value, str):
            return value
        if self.log:
            moved = value * rng.choice(FACTORS)
        else:
            moved = value + rng.choice((-NUDGE, NUDGE)) * (self.high - self.low)
        if self.kind == "int" and round(moved) == value:
            moved = value + (1 if moved > value else -1)
        return self.fit(moved)


def _said(value: Param) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


Space = tuple[Dimension, ...]


def space_of(recipe: Recipe) -> Space:
    """The space of a recipe. Raises RecipeError that names every problem of every key."""
    problems, space = list[str](), list[Dimension]()
    for key, range_ in recipe.search.space.items():
        found = _problems(recipe, key, range_, {d.key: d for d in space})
        problems += [f"search.space.{key}: {problem}" for problem in found]
        if not found:
            space.append(_dimension(key, range_))
    if not recipe.search.space:
        problems.append('search.space: empty; try "train.lr" = { low = 1e-3, high = 1e-2 }')
    if problems:
        count = f"{len(problems)} problem" + "s" * (len(problems) > 1)
        hint = "docs/recipe.md lists every key and what it allows"
        raise RecipeError(f"the search space has {count}", tuple(problems), hint)
    return tuple(space)


def _dimension(key: str, range_: Range) -> Dimension:
    when = tuple(range_.when.items())
    if range_.choices:
        return Dimension(key, "choice", choices=range_.choices, when=when)
    assert range_.low is not None
    assert range_.high is not None
    kind: Literal["int", "float"] = "int" if _type(key) is int else "float"
    return Dimension(key, kind, range_.low, range_.high, range_.log, when=when)


def _type(key: str) -> Any:
    """The type of a recipe key, without its None."""
    field = field_at(key)
    kind = field.annotation if field is not None else None
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    return typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind


def _problems(
    recipe: Recipe, key: str, range_: Range, earlier: Mapping[str, Dimension]
) -> list[str]:
    """What is wrong with one key of the space."""
    if key.split(".")[0] in NEVER:
        return ["a search leaves this as it is"]
    found = _shape(key, range_) + [
        problem
        for other, value in range_.when.items()
        for problem in _hanging(other, value, earlier)
    ]
    ends = [end for end in (range_.low, range_.high) if end is not None]
    for value in dict.fromkeys([*ends, *range_.choices]):
        found += _refused(recipe, key, value)
    return list(dict.fromkeys(found))


def _shape(key: str, range_: Range) -> list[str]:
    """Whether it is one whole range of a kind that the key can have."""
    ends = range_.low is not None, range_.high is not None
    if range_.choices:
        return ["give low and high, or choices"] if any(ends) or range_.log else []
    if range_.low is None or range_.high is None:
        return ["give low and high, or choices"]
    found = []
    if _type(key) not in (int, float, None):
        found.append("is not a number; give choices")
    if range_.low >= range_.high:
        found.append(f"low {range_.low:g} is not below high {range_.high:g}")
    if range_.log and range_.low <= 0:
        found.append(f"a log range begins above 0, not at {range_.low:g}")
    return found


def _hanging(other: str, value: Param, earlier: Mapping[str, Dimension]) -> list[str]:
    if other not in earlier:
        return [f"hangs on {other}, which is no earlier key of the space"]
    dimension = earlier[other]
    if dimension.kind != "choice" or value not in dimension.choices:
        return [f"hangs on {other} = {_said(value)}, which it never is"]
    return []


def _refused(recipe: Recipe, key: str, value: Param) -> list[str]:
    """What the recipe says of a value, for this key alone: the others are tried with it."""
    try:
        override(recipe, {key: value})
    except RecipeError as error:
        if field_at(key) is None:
            return list(error.problems)
        return [p.removeprefix(f"{key}: ") for p in error.problems if p.startswith(f"{key}: ")]
    return []


def suggest(space: Space, draw: Callable[[Dimension], Param]) -> Params:
    """A point, key by key in the order of the space; `draw` gives the value of one key."""
    params: Params = {}
    for dimension in space:
        if dimension.there(params):
            params[dimension.key] = draw(dimension)
    return params


def clamp(space: Space, params: Mapping[str, Param], rng: random.Random) -> Params:
    """The nearest point of the space: numbers moved in, foreign keys dropped, missing ones drawn.

    A value of another kind, or none of the choices, is drawn anew.
    """

    def value(dimension: Dimension) -> Param:
        given = params.get(dimension.key)
        if given is None or not dimension.has(given):
            return dimension.draw(rng)
        return dimension.fit(given)

    return suggest(space, value)


@dataclass(frozen=True, slots=True)
class Fork:
    """A changed copy of a parent, the place of which among those given is told."""

    parent: int
    operation: Operation
    params: Params


def mutate(space: Space, parents: Sequence[Params], rng: random.Random) -> Fork:
    """One of the parents with every number nudged, a key drawn anew, or half of another's keys.

    Drawn again while it is one of the parents; not for ever, as the space may be a point.
    """
    at = rng.randrange(len(parents))
    for _ in range(DRAWS):
        operation, changed = _changed(space, parents[at], parents, rng)
        fork = Fork(at, operation, clamp(space, changed, rng))
        if fork.params not in parents:
            break
    return fork


def _changed(
    space: Space, parent: Params, parents: Sequence[Params], rng: random.Random
) -> tuple[Operation, Params]:
    """A parent's keys after an operation; what is not there is to be drawn."""
    others = [other for other in parents if other != parent]
    ways: tuple[Operation, ...] = ("perturb", "resample", "swap")
    operation = rng.choice(ways if others else ways[:2])
    keys = [dimension.key for dimension in space if dimension.key in parent]
    changed = dict(parent)
    if operation == "perturb":
        changed |= {d.key: d.nudged(parent[d.key], rng) for d in space if d.key in parent}
    elif operation == "swap":
        changed |= {key: value for key, value in rng.choice(others).items() if rng.random() < 0.5}
    if operation == "resample" or changed == parent:
        operation = "resample"
        changed.pop(rng.choice(keys))
    return operation, changed


def problems_of(recipe: Recipe, space: Space, params: Mapping[str, Param]) -> list[str]:
    """What keeps values given by hand from being a point of the space, a sentence each."""
    known = {dimension.key: dimension for dimension in space}
    found = []
    for key, value in params.items():
        if key not in known:
            found.append(f"{key}: not in the search space")
        elif not known[key].has(value):
            found.append(f"{key}: {_said(value)} is none of {known[key].words()}")
        elif refused := _refused(recipe, key, value):
            found += [f"{key}: {problem}" for problem in refused]
        elif known[key].fit(value) != value:
            found.append(f"{key}: {_said(value)} is outside {known[key].words()}")
    return found


def full_recipe(recipe: Recipe, params: Mapping[str, Param]) -> Recipe:
    """A study's recipe with a trial's values, to be trained at full length and tested."""
    return override(recipe, {**params, "search": {}})


def trial_recipe(recipe: Recipe, params: Mapping[str, Param], name: str) -> Recipe:
    """The recipe of a trial: shorter where the search says so, and reported on validation.

    Its few epochs are not averaged, as the first of them have learnt next to nothing; and it is not
    made INT8, of which neither objective would tell.
    """
    search, train = recipe.search, recipe.train
    changes: dict[str, Any] = {
        "train.epochs": search.epochs or train.epochs,
        "train.steps_per_epoch": search.steps_per_epoch or train.steps_per_epoch,
        "train.average_best": 1,
        "quantize.enabled": False,
        "evaluate.split": "validation",
        "name": name,
        "search": {},
    }
    return override(recipe, {**changes, **params})
