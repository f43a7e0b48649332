from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.audio import Waveform
from engine.features import LogMel
from engine.models import STUDENTS, build
from engine.recipe import Recipe
from engine.recipe_file import override
from engine.scorer import BLOCK_SAMPLES, Scorer, Scores, blocks

# 1500 ms are 148 frames: 147 x 160 + 400 samples; a hop is 80 ms.
WINDOW, HOP = 23_920, 1280


def noise(samples: int, seed: int = 0) -> Waveform:
    generator = np.random.default_rng(seed)
    swell = np.sin(np.arange(samples) / 3000) ** 2
    return (0.3 * swell * generator.standard_normal(samples)).astype(np.float32)


@cache
def scorer(arch: str, hop_ms: int = 80, normalise: str = "cmvn") -> Scorer:
    """A student of a recipe that scores as a trained one might."""
    changes = {"model.arch": arch, "model.width": 0.25, "features.hop_ms": hop_ms}
    return lively(override(Recipe(), {**changes, "features.normalise": normalise}))


def lively(recipe: Recipe) -> Scorer:
    """A fresh student, whose BatchNorm has heard loud and soft windows; its logits deviate by 1."""
    torch.manual_seed(1)
    model, features = build(recipe).train(), LogMel(recipe.features)
    loudness = torch.tensor([0.001, 0.01, 0.1, 1.0])[:, None]
    samples = features.grid.window_samples
    waveform = torch.from_numpy(noise(samples * 4)).reshape(4, -1) * loudness
    features.fit(waveform)
    with torch.no_grad():
        for _ in range(30):
            model(features(waveform))
        logits = model.eval()(features(waveform))
        *_, weight, bias = model.parameters()
        weight.div_(logits.std())
        bias.sub_(logits.mean()).div_(logits.std())
    return Scorer(features, model)


def streamed(one: Scorer, waveform: Waveform, cuts: list[int]) -> Scores:
    one.reset()
    return np.concatenate([one.push(part) for part in np.split(waveform, sorted(cuts))])


STREAM = noise(50_000, 3) * np.linspace(0.01, 1, 50_000, dtype=np.float32)


@pytest.mark.parametrize("arch", STUDENTS)
@pytest.mark.parametrize(
    ("hop_ms", "normalise"), [(80, "cmvn"), (30, "cmvn"), (80, "pcen"), (80, "both")]
)
@settings(max_examples=20)
@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_streamed_scores_equal_whole_scores_for_any_blocks(
    arch: str, hop_ms: int, normalise: str, cuts: list[int]
) -> None:
    one = scorer(arch, hop_ms, normalise)
    whole = one.score(STREAM)
    assert np.ptp(whole) > 0.002
    assert np.abs(streamed(one, STREAM, cuts) - whole).max() <= 3e-5


@pytest.mark.parametrize("arch", STUDENTS)
@pytest.mark.parametrize("size", [1, 159, 160, 400, 1280, 23_920])
def test_blocks_of_one_size_give_the_whole_scores(arch: str, size: int) -> None:
    waveform = STREAM[: WINDOW + 3 * HOP] if size > 1 else STREAM[: WINDOW + 5]
    one = scorer(arch)
    cuts = list(range(size, len(waveform), size))
    assert streamed(one, waveform, cuts) == pytest.approx(one.score(waveform), abs=1e-5)


@pytest.mark.parametrize("arch", STUDENTS)
@pytest.mark.parametrize("normalise", ["cmvn", "pcen", "both"])
def test_a_score_is_that_of_its_window_alone(arch: str, normalise: str) -> None:
    """With PCEN the window is 1 s longer, and so much comes before the first score."""
    one = scorer(arch, 80, normalise)
    window = WINDOW + 16_000 * (normalise != "cmvn")
    windows = [STREAM[hop * HOP : hop * HOP + window] for hop in range(6)]
    alone = np.concatenate([one.score(window) for window in windows])
    assert len(alone) == 6
    assert one.score(STREAM)[:6] == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize(
    ("samples", "scores"),
    [(0, 0), (WINDOW - 1, 0), (WINDOW, 1), (WINDOW + HOP - 1, 1), (WINDOW + HOP, 2)],
)
def test_the_first_score_comes_after_one_window_and_then_one_a_hop(
    samples: int, scores: int
) -> None:
    one = scorer("tinyconv")
    assert (one.grid.window_samples, one.grid.hop_samples) == (WINDOW, HOP)
    assert len(one.score(STREAM[:samples])) == scores


def test_a_reset_scorer_remembers_nothing() -> None:
    one = scorer("tinyconv")
    fresh = one.score(STREAM[:30_000])
    one.push(noise(50_000, 9))
    one.reset()
    assert np.array_equal(one.push(STREAM[:30_000]), fresh)


def test_scores_lie_between_0_and_1() -> None:
    scores = scorer("mobilenetv3").score(np.concatenate([STREAM * 100, np.zeros_like(STREAM)]))
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()


@given(st.integers(0, 3 * BLOCK_SAMPLES))
def test_blocks_hold_every_sample_once(samples: int) -> None:
    parts = [len(part) for part in blocks(np.zeros(samples, dtype=np.float32))]
    assert sum(parts) == samples
    assert max(parts) <= BLOCK_SAMPLES
