"""What training minimises: one number per clip, their weighted mean, and a ranking beside it."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from engine.recipe import Loss


def clip_losses(logits: Tensor, labels: Tensor, settings: Loss) -> Tensor:
    """Weighted cross-entropy, or focal loss (Lin et al. 2017), for logits and labels `(B,)`."""
    smooth = settings.label_smoothing
    targets = labels * (1 - 2 * smooth) + smooth
    losses = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if settings.kind == "focal":
        certainty = torch.exp(-binary_cross_entropy_with_logits(logits, labels, reduction="none"))
        doubt = (1 - certainty).clamp(min=1e-6)  # at 0 a power below 1 has no finite slope
        losses = losses * doubt**settings.focal_gamma
    return torch.where(labels > 0.5, settings.positive_weight * losses, losses)


def hard_weights(losses: Tensor, hard_weight: float) -> Tensor:
    """Weights `(B,)` of mean 1: the tenth with the highest losses weighs `hard_weight` the rest.

    A soft form of online hard example mining (Shrivastava et al. 2016), which drops the rest. The
    choice is a constant to the gradient; of a batch below ten, one clip is hard.
    """
    hardest = losses.detach().topk(-(-len(losses) // 10)).indices
    weights = torch.ones_like(losses).index_fill(0, hardest, hard_weight)
    return weights / weights.mean()


def ranking_loss(logits: Tensor, labels: Tensor, negatives: int) -> Tensor:
    """How far wake words stay below the hardest negatives of a batch, a scalar; 0 without either.

    The logistic loss of every pair (RankNet, Burges et al. 2005), taken over the highest negatives
    alone, which is what pAUC looks at (Narasimhan and Agarwal 2013): the mean of
    softplus(negative - positive).
    """
    positive = labels > 0.5
    others = logits.masked_fill(positive, -torch.inf)
    hardest = others.topk(min(negatives, len(logits))).values
    pairs = positive[:, None] & (hardest > -torch.inf)
    losses = softplus(hardest - logits[:, None])  # (B, negatives); masked, so that no size waits
    return torch.where(pairs, losses, 0.0).sum() / pairs.sum().clamp(min=1)


def loss(logits: Tensor, labels: Tensor, settings: Loss) -> Tensor:
    """The loss of a batch, a scalar: the mean over its clips, and the ranking where asked for."""
    logits = logits.float()
    losses = clip_losses(logits, labels, settings)
    if settings.hard_weight > 1:
        losses = losses * hard_weights(losses, settings.hard_weight)
    if settings.ranking == 0:
        return losses.mean()
    ranking = ranking_loss(logits, labels, settings.ranking_negatives)
    return losses.mean() + settings.ranking * ranking
