"""Worked by hand: at logit 0 the score is 1/2, and -ln(1/2) = ln 2 = 0.6931."""

import math

import pytest
import torch

from engine.losses import clip_losses, hard_weights, loss, ranking_loss
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


def test_the_hardest_tenth_weighs_more_and_all_weigh_one_on_average() -> None:
    """Of 20 clips 2 are hard at weight 11: 40 in all, so 5.5 and 0.5 of a mean of 2."""
    losses = torch.arange(20.0)
    assert hard_weights(losses, 11.0).tolist() == [0.5] * 18 + [5.5] * 2


def test_one_clip_of_a_small_batch_is_hard() -> None:
    """Losses ln 2 and 3 ln 2 weigh 1/2 and 3/2: (0.5 + 4.5) / 2 = 2.5 ln 2."""
    settings = Loss(positive_weight=3.0, hard_weight=3.0)
    assert float(loss(torch.zeros(2), BOTH, settings)) == pytest.approx(2.5 * LN2)


def test_the_choice_of_hard_clips_has_no_gradient() -> None:
    """A weight times the slope of each clip, which is score - label = 1/2 and -1/2, over 2."""
    logits = torch.tensor([1e-3, 0.0], requires_grad=True)
    loss(logits, BOTH, Loss(hard_weight=3.0)).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx([1.5 * 0.5 / 2, 0.5 * -0.5 / 2], abs=1e-3)


def test_ranking_takes_the_highest_negatives() -> None:
    """Positive at 0, negatives at 0, ln 3 and -9: ln(1 + 3) and ln(1 + 1), or the first alone."""
    logits = torch.tensor([0.0, 0.0, math.log(3), -9.0])
    labels = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert float(ranking_loss(logits, labels, 1)) == pytest.approx(2 * LN2)
    assert float(ranking_loss(logits, labels, 2)) == pytest.approx(1.5 * LN2)
    assert float(ranking_loss(logits, labels, 3)) < float(ranking_loss(logits, labels, 2))
    assert ranking_loss(logits, labels, 9) == ranking_loss(logits, labels, 3)


def test_ranking_is_the_mean_over_pairs() -> None:
    """Positives at 0 and ln 3 against a negative at 0: ln 2 and ln(4/3)."""
    logits, labels = torch.tensor([0.0, math.log(3), 0.0]), torch.tensor([1.0, 1.0, 0.0])
    assert float(ranking_loss(logits, labels, 8)) == pytest.approx((LN2 + math.log(4 / 3)) / 2)


def test_ranking_adds_to_the_loss_with_its_weight() -> None:
    """ln 2 a clip, and half of ln 2 for the one pair."""
    assert float(loss(torch.zeros(2), BOTH, Loss(ranking=0.5))) == pytest.approx(1.5 * LN2)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_batch_without_positives_or_without_negatives_has_nothing_to_rank(label: float) -> None:
    logits = torch.zeros(4, requires_grad=True)
    value = loss(logits, torch.full((4,), label), Loss(ranking=2.0))
    value.backward()  # type: ignore[no-untyped-call]
    assert float(value.detach()) == pytest.approx(LN2)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


EXTREMES = [
    Loss(),
    *(Loss(kind="focal", focal_gamma=gamma) for gamma in (0.0, 0.5, 1.0, 2.0)),
    Loss(ranking=100.0, hard_weight=100.0),
]


@pytest.mark.parametrize("settings", EXTREMES, ids=str)
def test_extreme_logits_have_finite_losses_and_gradients(settings: Loss) -> None:
    logits = torch.tensor([-1e4, 1e4, -1e4, 1e4, 20.0], requires_grad=True)
    loss(logits, torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0]), settings).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
