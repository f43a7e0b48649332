"""What a training hears beside its steps, and how long all of it takes, by a clock that is told."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import ignore, tiny_recipe

from engine.dataset import pack, read
from engine.jobs import Control
from engine.remaining import HEARD_PER_LEARNED, Remaining, hearings
from engine.trainer import Trainer

ONCE_S, SEARCHED_S = 95.0, 43.8
"""Of a split with 20 clips of 4.1 s and 13 s of streams; of the training negatives."""
SPEEDS_S = 13 * (1 / 0.9 + 1 / 0.95 + 1 / 1.05 + 1 / 1.1)

pytestmark = pytest.mark.usefixtures("one_thread")

Make = Callable[[Mapping[str, Any]], Trainer]


@pytest.fixture
def make(tiny_data: Path, tmp_path: Path) -> Make:
    def trainer(changes: Mapping[str, Any]) -> Trainer:
        recipe = tiny_recipe(tiny_data, changes)
        packed = pack(read(recipe.data), tmp_path, emit=ignore, control=Control())
        return Trainer(recipe, packed, torch.device("cpu"))

    return trainer


class Clock:
    """A clock that stands still but where it is told to go on."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def steps(remaining: Remaining, clock: Clock, count: int, each_s: float) -> None:
    remaining.begin()
    for _ in range(count):
        clock.now_s += each_s
        remaining.step()


def test_what_is_heard_comes_after_the_steps_of_its_epoch(make: Make) -> None:
    """Two epochs of five steps, then as INT8 two more: validated as it is rounded, and compared."""
    trainer = make({"quantize.enabled": True})
    found = [
        (after, round(heard_s, 2)) for after, heard_s in hearings(trainer.recipe, trainer.packed)
    ]
    assert found == [
        (5, ONCE_S + SEARCHED_S),
        (10, ONCE_S),
        (10, round(ONCE_S + SPEEDS_S, 2)),
        (10, ONCE_S + SEARCHED_S),
        (15, ONCE_S + SEARCHED_S),
        (20, ONCE_S),
        (20, round(3 * 2 * ONCE_S, 2)),
        (20, ONCE_S),
    ]  # fmt: skip


def test_a_search_neither_averages_two_epochs_nor_settles_a_threshold(make: Make) -> None:
    trainer = make({"evaluate.split": "validation", "train.hard_share": 0.0})
    found = hearings(trainer.recipe, trainer.packed)
    assert [after for after, _ in found] == [5, 10, 10]
    assert [heard_s for _, heard_s in found] == pytest.approx([ONCE_S] * 3)


def test_the_time_left_counts_steps_validations_and_what_follows_them(make: Make) -> None:
    """Of 9 epochs the first is validated in 9.5 s: 10 s of audio in a second.

    At step 7 of 45, 0.5 s each, 38 are left: 19 s. Then eight validations, seven searches, the
    average, the threshold at five speeds, and the test.
    """
    trainer, clock = make({"train.epochs": 9, "train.average_best": 2}), Clock()
    remaining = Remaining(trainer, clock)
    steps(remaining, clock, 5, 9.0)
    with remaining.validating():
        clock.now_s += ONCE_S / 10
    steps(remaining, clock, 2, 0.5)
    heard_s = (8 + 1 + 1 + 1) * ONCE_S + 7 * SEARCHED_S + SPEEDS_S
    assert remaining.seconds(7) == pytest.approx(19.0 + heard_s / 10)


def test_until_a_validation_the_pace_of_the_steps_tells_that_of_hearing(make: Make) -> None:
    """Steps of 8 clips in 0.5 s: 16 windows a second are learned from, HEARD_PER_LEARNED times as
    many heard. TinyConv hears every second once, a Conformer every hop a window of 1.5 s."""
    for arch, windows_per_s in (("tinyconv", 1 / 1.495), ("conformer", 1 / 0.08)):
        trainer, clock = make({"model.arch": arch, "model.blocks": 1}), Clock()
        remaining = Remaining(trainer, clock)
        steps(remaining, clock, 4, 0.5)
        heard_s = 2 * ONCE_S + SEARCHED_S + ONCE_S + SPEEDS_S + ONCE_S
        heard_per_s = 16 * HEARD_PER_LEARNED / windows_per_s
        assert remaining.seconds(4) == pytest.approx(6 * 0.5 + heard_s / heard_per_s, rel=0.01)


def test_the_steps_of_the_fine_tuning_are_counted_from_the_first_on(make: Make) -> None:
    """Ten steps, and ten as INT8, with nothing heard in no time between them."""
    trainer, clock = make({"quantize.enabled": True}), Clock()
    remaining = Remaining(trainer, clock)
    with remaining.validating():
        pass
    steps(remaining, clock, 4, 2.0)
    assert remaining.seconds(4) == pytest.approx(16 * 2.0, rel=1e-3)
