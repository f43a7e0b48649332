"""Two scorers of one detector, held against each other."""

import math

import numpy as np
import pytest
import torch
from tiny import Trained, ignore

from engine.agree import agree
from engine.checkpoint import load
from engine.dataset import pack, read, select
from engine.detector import vote_levels
from engine.events import Event, Progressed
from engine.heard import Heard
from engine.jobs import Control
from engine.manifest import Split
from engine.scorer import Scorer, blocks


def heard_of(trained: Trained, split: Split) -> Heard:
    """A split of a tiny run as it is measured."""
    recipe = trained.recipe
    packed = pack(read(recipe.data), trained.home.cache, emit=ignore, control=Control())
    return Heard(packed, select(packed, recipe.data, split), recipe)


@pytest.fixture(scope="module")
def heard(tiny_run: Trained) -> Heard:
    return heard_of(tiny_run, "validation")


def moved(scorer: Scorer, logits: float) -> Scorer:
    """The same scorer with every logit moved."""
    other = scorer.another()
    bias = other.model.get_submodule("head").bias
    with torch.no_grad():
        bias.add_(logits)
    return other


def test_a_scorer_agrees_with_itself(tiny_run: Trained, heard: Heard) -> None:
    checkpoint, events = load(tiny_run.run.best), list[Event]()
    one, again = Scorer.of(checkpoint), Scorer.of(checkpoint)
    found = agree(
        one, {"same": (again, math.inf)}, heard, 0.5, emit=events.append, control=Control()
    )["same"]
    assert (found.flips, found.largest_difference) == ((), 0.0)
    assert (found.words, found.clips) == (2, 4)  # two voices of a fold, a beep and a boop each
    last = events[-1]
    assert isinstance(last, Progressed)
    assert last.done == last.total


def test_what_only_one_fires_on_is_named_with_its_time(tiny_run: Trained, heard: Heard) -> None:
    """Ten logits higher everything fires, from the first window on."""
    checkpoint = load(tiny_run.run.best)
    one, other = Scorer.of(checkpoint), moved(Scorer.of(checkpoint), 10.0)
    found = agree(one, {"other": (other, math.inf)}, heard, 0.9, emit=ignore, control=Control())[
        "other"
    ]
    assert found.largest_difference > 0.3
    assert not any(flip.lost for flip in found.flips)
    first = next(flip for flip in found.flips if flip.clip == "")
    assert first.time_s == pytest.approx(one.grid.window_s)
    assert len({flip.clip for flip in found.flips}) == 5  # the stream and four clips


def test_a_decision_that_hangs_on_the_last_digit_is_no_other_decision(
    tiny_run: Trained, heard: Heard
) -> None:
    """Bench puts thresholds one step above a peak of validation; a graph rounds by more."""
    checkpoint, rules = load(tiny_run.run.best), heard.recipe.detector
    one = Scorer.of(checkpoint)
    scores = np.concatenate(
        [one.push(block) for sound in heard.stream() for block in blocks(sound)]
    )
    above = float(np.nextafter(vote_levels(scores, rules).max(), np.inf))
    moves = {"up": 1e-5, "far": 1e-2}
    others = {name: (moved(Scorer.of(checkpoint), by), math.inf) for name, by in moves.items()}
    found = agree(one, others, heard, above, emit=ignore, control=Control())
    assert 0 < found["up"].largest_difference < 1e-5
    assert found["up"].flips == ()
    assert found["far"].flips


def test_of_the_stream_a_slow_graph_hears_a_part(tiny_run: Trained, heard: Heard) -> None:
    checkpoint = load(tiny_run.run.best)
    one, other = Scorer.of(checkpoint), Scorer.of(checkpoint)
    found = agree(
        one, {"a": (other, math.inf), "b": (other, 1.0)}, heard, 0.5, emit=ignore, control=Control()
    )
    assert found["b"].stream_hours < found["a"].stream_hours
    assert found["b"].clips == found["a"].clips
    assert found["b"].largest_difference == 0.0
