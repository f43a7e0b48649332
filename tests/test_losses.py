"""Worked by hand: at logit 0 the score is 1/2, and -ln(1/2) = ln 2 = 0.6931."""

import math

import pytest
import torch

from engine.losses import clip_losses, loss
from engine.recipe import Loss

LN2 = math.log(2)
BOTH = torch.tensor([0.0, 1.0])


def test_cross_entropy_of_an_undecided_model_is_ln_2() -> None:
    assert clip_losses(torch.zeros(2), BOTH, Loss()).tolist() == pytest.approx([LN2, LN2])


def test_cross_entropy_of_a_surer_model() -> None:
    """Score 3/4 at logit ln 3: -ln(3/4) for a positive, -ln(1/4) for a negative."""
    logits = torch.full((2,), math.log(3))
    expected = [-math.log(1 / 4), -math.log(3 / 4)]
    assert clip_losses(logits, BOTH, Loss()).tolist() == pytest.approx(expected)


def test_focal_loss_of_an_undecided_model_is_a_quarter_of_ln_2() -> None:
    """(1 - 1/2)^2 = 1/4."""
    settings = Loss(kind="focal", focal_gamma=2.0)
    expected = [0.25 * LN2, 0.25 * LN2]
    assert clip_losses(torch.zeros(2), BOTH, settings).tolist() == pytest.approx(expected)


def test_focal_loss_plays_down_easy_clips() -> None:
    """At score 3/4: (1/4)^2 of a positive's loss, (3/4)^2 of a negative's."""
    logits = torch.full((2,), math.log(3))
    settings = Loss(kind="focal", focal_gamma=2.0)
    expected = [9 / 16 * math.log(4), 1 / 16 * math.log(4 / 3)]
    assert clip_losses(logits, BOTH, settings).tolist() == pytest.approx(expected)


def test_focal_loss_with_gamma_0_is_cross_entropy() -> None:
    logits = torch.tensor([-3.0, 2.0])
    focal = clip_losses(logits, BOTH, Loss(kind="focal", focal_gamma=0.0))
    assert torch.allclose(focal, clip_losses(logits, BOTH, Loss()))


def test_a_positive_weighs_what_the_recipe_says() -> None:
    settings = Loss(positive_weight=3.0)
    assert clip_losses(torch.zeros(2), BOTH, settings).tolist() == pytest.approx([LN2, 3 * LN2])


def test_smoothing_moves_the_targets() -> None:
    """0.1 from 1: 0.9 x -ln(3/4) + 0.1 x -ln(1/4) = 0.2589 + 0.1386 at score 3/4."""
    settings = Loss(label_smoothing=0.1)
    got = clip_losses(torch.tensor([math.log(3)]), torch.ones(1), settings)
    assert float(got) == pytest.approx(0.2589 + 0.1386, abs=1e-4)


def test_the_loss_of_a_batch_is_the_mean() -> None:
    """(ln 2 + 3 ln 2) / 2."""
    assert float(loss(torch.zeros(2), BOTH, Loss(positive_weight=3.0))) == pytest.approx(2 * LN2)


@pytest.mark.parametrize("gamma", [None, 0.0, 0.5, 1.0, 2.0])
def test_extreme_logits_have_finite_losses_and_gradients(gamma: float | None) -> None:
    settings = Loss() if gamma is None else Loss(kind="focal", focal_gamma=gamma)
    logits = torch.tensor([-1e4, 1e4, -1e4, 1e4, 20.0], requires_grad=True)
    loss(logits, torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0]), settings).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
