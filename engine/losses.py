"""What training minimises: one number per clip, then the mean."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

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


def loss(logits: Tensor, labels: Tensor, settings: Loss) -> Tensor:
    """The mean loss of a batch, a scalar."""
    return clip_losses(logits.float(), labels, settings).mean()
