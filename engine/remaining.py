"""How much of a training remains: what it hears beside its steps, and how long all of that takes.

    steps, validation, search | steps, validation, search | ... | average, threshold | test

As INT8 it goes on with a validation of what was only rounded, then with epochs of the same kind; in
the end three students hear validation and test to be compared.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.dataset import Pack, Selection, select
from engine.features import grid
from engine.hard import HOURS_PER_EPOCH
from engine.heard import Heard, length_s
from engine.int8 import COMPARED
from engine.models import slides
from engine.optimiser import averaged_of
from engine.recipe import Recipe
from engine.trainer import Trainer

HEARD_PER_LEARNED = 4.0
"""Windows that are heard while one is learned from: from 2 to 8, by student and machine."""

Hearings = tuple[tuple[int, float], ...]


def hearings(recipe: Recipe, packed: Pack) -> Hearings:
    """Seconds of audio that a training hears beside its steps, each with the step it comes after.

    An epoch hears the validation split, and all but the last of a phase search for hard negatives.
    The mean of the best weights is validated too, and what is shipped once more, its streams at
    every speed.
    """
    train, validation, tested = (
        select(packed, recipe.data, split)
        for split in ("train", "validation", recipe.evaluate.split)
    )
    heard, at_last = (Heard(packed, split, recipe) for split in (validation, tested))
    once_s, test_s = heard.seconds, at_last.seconds
    first, more = recipe.train.epochs, recipe.quantize.epochs
    found = [*_phase(recipe, first, range(min(first, 1), first + 1), once_s, train)]
    if recipe.evaluate.split == "test":
        found.append((first, once_s + heard.other_speeds_s))
    if recipe.quantize.enabled:
        found += _phase(recipe, more, range(first, first + more + 1), once_s, train)
        found.append((recipe.epochs, COMPARED * (once_s + test_s)))
    found.append((recipe.epochs, test_s))
    return tuple((epoch * recipe.train.steps_per_epoch, heard_s) for epoch, heard_s in found)


def _phase(
    recipe: Recipe, epochs: int, validated: range, once_s: float, train: Selection
) -> Iterator[tuple[int, float]]:
    """The validations of the float student or the INT8 one, each with the epochs before it."""
    negatives_s = length_s([*train.negatives, *train.speech, *train.noise])
    searched_s = min(HOURS_PER_EPOCH * 3600, negatives_s) if recipe.train.hard_share else 0.0
    last = validated[-1]
    for epoch in validated:
        yield epoch, once_s + (searched_s if epoch < last else 0.0)
    if averaged_of(recipe.train, epochs) > 1:
        yield last, once_s


class Remaining:
    """Tells how long a training still takes, from what its steps and validations took so far.

    Counted are all steps, those as INT8 too, and all `hearings`, at the pace of the validations;
    before the first one at a pace guessed from that of the steps. The export is not.
    """

    def __init__(self, trainer: Trainer, clock: Callable[[], float] = time.monotonic) -> None:
        self._recipe, self._clock = trainer.recipe, clock
        self._hearings = hearings(trainer.recipe, trainer.packed)
        self._once_s = trainer.validation.seconds
        lattice = grid(trainer.recipe.features)
        shared = slides(trainer.model, lattice.hop_frames)
        self._window_every_s = lattice.window_s if shared else lattice.hop_s
        self._validations, self._validating_s = 0, 0.0
        self.begin()

    def begin(self) -> None:
        """Count steps anew: something else was done since the last one."""
        self._began_s, self._steps = self._clock(), 0

    def step(self) -> None:
        """Count a step."""
        self._steps += 1

    @contextmanager
    def validating(self) -> Iterator[None]:
        """Count a validation, from here to the end of the block."""
        began_s = self._clock()
        yield
        self._validations += 1
        self._validating_s += self._clock() - began_s

    def steps_per_s(self) -> float:
        """The pace of the steps since they `begin`."""
        return max(self._steps, 1e-6) / max(self._clock() - self._began_s, 1e-6)

    def seconds(self, step: int) -> float:
        """How long it takes from a step to the report."""
        train, pace = self._recipe.train, self.steps_per_s()
        left = self._recipe.epochs * train.steps_per_epoch - step
        heard_s = sum(heard_s for after, heard_s in self._hearings if after >= step)
        heard_per_s = pace * train.batch_size * HEARD_PER_LEARNED * self._window_every_s
        if self._validations:
            heard_per_s = self._validations * self._once_s / max(self._validating_s, 1e-6)
        return left / pace + heard_s / max(heard_per_s, 1e-6)
