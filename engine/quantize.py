"""A student made ready to run: each BatchNorm folded into the convolution before it."""

import copy

from torch import nn
from torch.nn.utils import fuse_conv_bn_eval


def fuse(model: nn.Module) -> nn.Module:
    """Give a copy in eval mode whose convolutions do the work of their BatchNorm too.

    The logits differ by rounding alone. A BatchNorm that does not follow a convolution in an
    `nn.Sequential`, as BC-ResNet's sub-spectral norm, stays.
    """
    fused = copy.deepcopy(model).eval()
    for layers in fused.modules():
        if isinstance(layers, nn.Sequential):
            _fuse_neighbours(layers)
    return fused


def _fuse_neighbours(layers: nn.Sequential) -> None:
    for index in range(len(layers) - 1):
        conv, norm = layers[index], layers[index + 1]
        if isinstance(conv, nn.Conv1d | nn.Conv2d) and isinstance(
            norm, nn.BatchNorm1d | nn.BatchNorm2d
        ):
            layers[index] = fuse_conv_bn_eval(conv, norm)
            layers[index + 1] = nn.Identity()
