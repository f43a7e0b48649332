import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studying import SPACE, made_recipe

from engine.errors import RecipeError
from engine.recipe_file import dump, loads, override
from engine.space import (
    Params,
    clamp,
    full_recipe,
    mutate,
    problems_of,
    space_of,
    suggest,
    trial_recipe,
)

RECIPE_FOLDER = Path()
RECIPE = made_recipe()
MADE = space_of(RECIPE)
SEEDS = st.integers(0, 10_000)
VALUES = st.one_of(st.floats(-1e3, 1e3), st.integers(-1000, 1000), st.sampled_from(["focal", "x"]))


def drawn(seed: int) -> Params:
    rng = random.Random(seed)
    return suggest(MADE, lambda dimension: dimension.draw(rng))


def inside(params: Params) -> bool:
    """Whether it is a point of the space, with every key that belongs there and no other."""
    there = [dimension.key for dimension in MADE if dimension.there(params)]
    return list(params) == there and problems_of(RECIPE, MADE, params) == []


def problems(space: dict[str, Any]) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        space_of(override(RECIPE, {"search.space": space}))
    return [problem.removeprefix("search.space.") for problem in caught.value.problems]


def test_every_problem_of_every_key_is_named() -> None:
    space = {
        "train.lrr": {"low": 0.1, "high": 0.2},
        "train.lr": {"low": 0.0, "high": 2.0, "log": True},
        "model.arch": {"choices": ["tinyconv", "resnet"]},
        "model.width": {"low": 2.0, "high": 1.0},
        "train.epochs": {"low": 1},
        "model.depthwise": {"low": 0, "high": 1},
        "data.fold": {"choices": [0, 1]},
        "loss.focal_gamma": {"low": 1.0, "high": 2.0, "when": {"loss.kind": "focal"}},
    }
    assert problems(space) == [
        "train.lrr: train.lrr: no such key; did you mean train.lr?",
        "train.lr: a log range begins above 0, not at 0",
        "train.lr: input should be greater than 0, not 0.0",
        "train.lr: input should be less than or equal to 1, not 2.0",
        "model.arch: input should be 'tinyconv', 'mobilenetv3', 'bcresnet', 'conformer' or "
        "'wav2vec2', not 'resnet'",
        "model.width: low 2 is not below high 1",
        "train.epochs: give low and high, or choices",
        "model.depthwise: is not a number; give choices",
        "model.depthwise: input should be a valid boolean, not 0",
        "model.depthwise: input should be a valid boolean, not 1",
        "data.fold: a search leaves this as it is",
        "loss.focal_gamma: hangs on loss.kind, which is no earlier key of the space",
    ]


def test_a_key_hangs_on_a_choice_of_an_earlier_one() -> None:
    space = {
        "loss.kind": {"choices": ["cross_entropy"]},
        "loss.focal_gamma": {"low": 1.0, "high": 2.0, "when": {"loss.kind": "focal"}},
    }
    assert problems(space) == ["loss.focal_gamma: hangs on loss.kind = focal, which it never is"]


def test_an_empty_space_is_a_problem() -> None:
    assert "empty" in problems({})[0]


def test_a_range_is_read_with_and_without_quotes_and_written_back() -> None:
    quoted = '[search.space]\n"train.lr" = { low = 0.001, high = 0.1, log = true }'
    plain = "[search.space]\ntrain.lr = { low = 0.001, high = 0.1, log = true }"
    recipes = [loads(text, RECIPE_FOLDER) for text in (quoted, plain)]
    assert recipes[0] == recipes[1] == loads(dump(recipes[0]), RECIPE_FOLDER)
    assert space_of(recipes[0])[0].words() == "0.001 to 0.1, log"


def test_a_conditional_key_is_there_only_with_its_condition() -> None:
    keys = [dimension.key for dimension in MADE]
    assert keys == list(SPACE)
    assert "loss.focal_gamma" in suggest(MADE, lambda d: "focal" if d.kind == "choice" else 1.0)
    plain = suggest(MADE, lambda d: "cross_entropy" if d.kind == "choice" else 1.0)
    assert "loss.focal_gamma" not in plain


@given(st.dictionaries(st.sampled_from([*SPACE, "train.seed"]), VALUES), SEEDS)
def test_clamping_gives_a_point_of_the_space(params: Params, seed: int) -> None:
    assert inside(clamp(MADE, params, random.Random(seed)))


@given(SEEDS)
def test_clamping_a_point_of_the_space_changes_nothing(seed: int) -> None:
    assert clamp(MADE, drawn(seed), random.Random(seed)) == drawn(seed)


@given(SEEDS, st.integers(1, 4))
def test_a_fork_is_a_point_of_the_space_and_the_same_for_the_same_seed(
    seed: int, parents: int
) -> None:
    given_ = [drawn(seed + n) for n in range(parents)]
    fork = mutate(MADE, given_, random.Random(seed))
    assert inside(fork.params)
    assert fork == mutate(MADE, given_, random.Random(seed))


def forks(operation: str) -> list[tuple[Params, Params, Params]]:
    """(parent, other, child) of the first forks of two parents by an operation."""
    pair = [drawn(1), drawn(2)]
    made = [mutate(MADE, pair, random.Random(seed)) for seed in range(60)]
    return [
        (pair[f.parent], pair[1 - f.parent], f.params) for f in made if f.operation == operation
    ]


def test_perturbing_moves_numbers_by_a_factor_or_a_fifth_of_their_range() -> None:
    for parent, _, child in forks("perturb"):
        factor = float(child["train.lr"]) / float(parent["train.lr"])
        assert round(factor, 6) in (0.8, 1.25)
        moved = abs(float(child["model.width"]) - float(parent["model.width"]))
        assert moved <= 0.2 * 1.75 + 1e-9
        assert child["loss.kind"] == parent["loss.kind"]


def test_resampling_changes_one_key_and_what_hangs_on_it() -> None:
    for parent, _, child in forks("resample"):
        both = parent.keys() & child.keys()
        assert sum(parent[key] != child[key] for key in both) == 1


@given(SEEDS)
def test_a_fork_is_none_of_its_parents(seed: int) -> None:
    parents = [drawn(seed), drawn(seed + 1)]
    assert mutate(MADE, parents, random.Random(seed)).params not in parents


def test_the_only_point_of_a_space_is_forked_into_itself() -> None:
    space = space_of(override(RECIPE, {"search.space": {"model.width": {"choices": [0.5]}}}))
    assert mutate(space, [{"model.width": 0.5}], random.Random(0)).params == {"model.width": 0.5}


def test_a_swap_takes_each_key_from_one_of_two_parents() -> None:
    swaps = forks("swap")
    assert swaps
    for parent, other, child in swaps:
        common = parent.keys() & other.keys() & child.keys()
        assert all(child[key] in (parent[key], other[key]) for key in common)


def test_what_a_person_enters_is_checked_against_the_space() -> None:
    entered: Params = {"train.lr": 0.5, "loss.kind": "hinge", "model.width": 9.0, "train.seed": 3}
    assert problems_of(RECIPE, MADE, entered) == [
        "train.lr: 0.5 is outside 0.0001 to 0.1, log",
        "loss.kind: hinge is none of cross_entropy | focal",
        "model.width: input should be less than or equal to 4, not 9.0",
        "train.seed: not in the search space",
    ]


def test_a_trial_is_short_and_leaves_the_test_closed_and_the_chosen_one_is_whole() -> None:
    changes = {"search.epochs": 3, "search.steps_per_epoch": 7, "train.epochs": 30}
    changes |= {"quantize.enabled": True}
    recipe = override(RECIPE, changes)
    trial = trial_recipe(recipe, {"model.width": 0.5}, "made-t1")
    whole = full_recipe(recipe, {"model.width": 0.5})
    assert (trial.train.epochs, trial.train.steps_per_epoch) == (3, 7)
    assert (trial.evaluate.split, trial.name, trial.model.width) == ("validation", "made-t1", 0.5)
    assert (trial.quantize.enabled, whole.quantize.enabled) == (False, True)
    assert (whole.train.epochs, whole.evaluate.split, whole.model.width) == (30, "test", 0.5)
