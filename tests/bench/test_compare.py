"""How often a comparison claims a difference, between models that are alike and that are not.

Run with `pytest -m bench -s tests/bench/test_compare.py`. Speakers differ in how much they say, how
hard they are for everybody, and how hard for each model; clips differ in how hard they are.
"""

import sys
from collections import Counter

import numpy as np
import pytest

from engine.compare import compare
from engine.metrics import OperatingPoint
from engine.outcomes import Outcomes

REPEATS = 300


def simulated(
    rng: np.random.Generator, speaker: np.ndarray, hardness: np.ndarray, easier: float
) -> Outcomes:
    """Clips that a model misses with the odds of their hardness times `easier`."""
    own = rng.normal(0, 0.5, speaker.max() + 1)[speaker]
    missed = rng.random(speaker.size) < 1 / (1 + np.exp(-hardness - own - np.log(easier)))
    return Outcomes(
        clip=np.arange(speaker.size).astype(np.str_),
        group=speaker.astype(np.str_),
        cohort=np.full(speaker.size, "clean"),
        positive=np.ones(speaker.size, dtype=np.bool_),
        wrong=missed,
        score=np.zeros(speaker.size, dtype=np.float32),
        peak=np.zeros(speaker.size),
        thresholds=np.empty(0),
        alarms=np.empty(0, dtype=np.int64),
        point=OperatingPoint(0.5, 1.0),
        false_alarms=3,
        hours=4.6,
        sound="",
    )


@pytest.mark.bench
@pytest.mark.parametrize(
    ("clips", "speakers", "frr", "easier"),
    [(300, 29, 0.03, 1.0), (300, 12, 0.1, 1.0), (1300, 60, 0.2, 1.0), (1300, 60, 0.2, 0.6)],
)
def test_how_often_a_difference_is_claimed(
    clips: int, speakers: int, frr: float, easier: float
) -> None:
    rng, said, alone = np.random.default_rng(1), Counter[str](), 0
    for _ in range(REPEATS):
        speaker = rng.choice(speakers, clips, p=rng.dirichlet(np.ones(speakers)))
        hardness = np.log(frr / (1 - frr)) + rng.normal(0, 1.5, clips)
        hardness += rng.normal(0, 0.7, speakers)[speaker]
        a, b = (simulated(rng, speaker, hardness, factor) for factor in (1.0, easier))
        paired = compare([a], [b]).cohorts[0]
        said[paired.verdict] += 1
        alone += not paired.low <= 1 <= paired.high
    shares = {verdict: f"{said[verdict] / REPEATS:.1%}" for verdict in ("fewer", "more", "same")}
    told = f"{clips} {speakers} {frr} {easier} {shares} interval alone {alone / REPEATS:.1%}"
    sys.stdout.write(f"\n{told}\n")
    assert said["same"] > 0.9 * REPEATS if easier == 1 else said["fewer"] > 0.8 * REPEATS
