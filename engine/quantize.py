"""A student made ready to run: norms and ReLUs folded into their convolutions, and INT8.

    float       conv -> norm -> ReLU                  as it is trained
    Fused       conv' (+ ReLU)                        as it runs: one module, the same numbers
    Quantised   [Q] -> conv'(Q weights) (+ ReLU) -> Q as it is fine-tuned; Q rounds to 256 steps
    Frozen      the same with constants               as it is exported: a QLinearConv

Weights have a step for each channel out, symmetric about 0; activations one step for all, with 0
among its multiples (Jacob et al. 2018). The last layer, which gives the logit, stays float: 256
steps would be too coarse for a threshold.
"""

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from engine.features import grid, planes
from engine.recipe import Recipe

Layer = nn.Conv1d | nn.Conv2d | nn.Linear
Norm = nn.BatchNorm1d | nn.BatchNorm2d
Place = tuple[nn.Module, str]
"""A module's parent and its name there."""
Joint = tuple[Place, Place | None, Place | None]
"""A layer with weights, and the norm and the ReLU that follow it directly."""

FOLLOW = 0.01
"""How far a range moves towards that of a batch."""
STEPS = 255
TINY = 1e-8
IDLE = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.ReLU)


def fuse(model: nn.Module) -> nn.Module:
    """Give a copy in eval mode whose convolutions do the work of their BatchNorm and ReLU too.

    The logits differ by rounding alone. Of a quantised model all becomes constants. A norm that
    does not follow a convolution, as BC-ResNet's sub-spectral one, stays (`float_parts`).
    """
    fused = copy.deepcopy(model).eval()
    for parent, name in [*_places(fused, Quantised)]:
        trained = parent.get_submodule(name)
        assert isinstance(trained, Quantised)
        setattr(parent, name, Frozen(trained))
    for layer, norm, relu in [*_joints(fused)]:
        if norm is not None or relu is not None:
            _join(layer, norm, relu, Fused(_conv(layer), _norm(norm), relu=relu is not None))
    return fused


def quantised(model: nn.Module, recipe: Recipe) -> nn.Module:
    """Turn a float student into one that is fine-tuned as INT8, in place; calibrate it next.

    Every layer with weights but the last rounds them and what it gives; what it takes, only where
    that is not a view of what another one has rounded.
    """
    lattice, first = grid(recipe.features), next(model.parameters())
    rows = planes(recipe.features) * recipe.features.mels
    joints = [*_joints(model)]
    order = _trace(model, joints, torch.zeros(1, rows, lattice.window_frames, device=first.device))
    places = {id(_layer(joint[0])): joint for joint in joints}
    joined: dict[int, Quantised] = {}
    for layer, source in order[:-1]:
        place, norm, relu = places[id(layer)]
        taken = None if source is None else joined[id(source)].exit
        joined[id(layer)] = Quantised(layer, _norm(norm), taken, relu=relu is not None)
        _join(place, norm, relu, joined[id(layer)])
    return model


def calibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the ranges of a quantised model to the mean of theirs over batches `(B, M, T)`."""
    ranges = [module for module in model.modules() if isinstance(module, Range)]
    for one in ranges:
        one.seen = []
    model.eval()
    with torch.no_grad():
        for frames in batches:
            model(frames)
    for one in ranges:
        assert one.seen
        lows, highs = zip(*one.seen, strict=True)
        one.low.copy_(torch.stack(lows).mean())
        one.high.copy_(torch.stack(highs).mean())
        one.seen = None


def freeze_norms(model: nn.Module) -> None:
    """Have a model in training leave the statistics of its norms as they are."""
    for module in model.modules():
        if isinstance(module, Norm):
            module.eval()


def float_parts(model: nn.Module) -> list[str]:
    """What of a quantised model is not INT8, as "name: kind"; sums and means have no name."""
    inside = {id(m) for q in model.modules() if isinstance(q, Quantised) for m in q.modules()}
    return [
        f"{name}: {type(module).__name__}"
        for name, module in model.named_modules(remove_duplicate=False)
        if id(module) not in inside and not [*module.children()] and not isinstance(module, IDLE)
    ]


class Fused(nn.Module):
    """A convolution that does its norm's work, and its ReLU's."""

    def __init__(self, conv: nn.Conv1d | nn.Conv2d, norm: Norm | None, *, relu: bool) -> None:
        super().__init__()
        self.conv = conv if norm is None else fuse_conv_bn_eval(conv, norm)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        y: Tensor = self.conv(x)
        return torch.relu(y) if self.relu else y


class Range(nn.Module):
    """Where activations lie, a moving average, and their rounding to 256 steps of it."""

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(0.0))
        self.seen: list[tuple[Tensor, Tensor]] | None = None

    def steps(self) -> tuple[Tensor, Tensor]:
        """The size of a step, and which step 0 is."""
        low, high = self.low.clamp(max=0), self.high.clamp(min=0)
        size = ((high - low) / STEPS).clamp(min=TINY)
        return size, (-low / size).round().clamp(0, STEPS).int()

    def forward(self, x: Tensor) -> Tensor:
        """Round; in training follow the batch's range, while calibrating only look at it."""
        if self.seen is not None:
            self.seen.append(x.aminmax())
            return x
        if self.training:
            low, high = x.detach().aminmax()
            self.low.lerp_(low, FOLLOW)
            self.high.lerp_(high, FOLLOW)
        return torch.fake_quantize_per_tensor_affine(x, *self.steps(), 0, STEPS)


class Rounding(nn.Module):
    """The rounding of a range as constants."""

    def __init__(self, trained: Range) -> None:
        super().__init__()
        size, zero = trained.steps()
        self.size, self.zero = float(size), int(zero)

    def forward(self, x: Tensor) -> Tensor:
        """Round."""
        return torch.fake_quantize_per_tensor_affine(x, self.size, self.zero, 0, STEPS)


class Quantised(nn.Module):
    """A layer with its norm and ReLU that rounds its weights, what it gives, and perhaps takes."""

    def __init__(self, layer: Layer, norm: Norm | None, taken: Range | None, *, relu: bool) -> None:
        """Make one; `taken` is the range that has rounded what the layer takes, if one has."""
        super().__init__()
        self.layer, self.norm, self.relu = layer, norm, relu
        device = layer.weight.device
        self.entry = Range().to(device) if taken is None else None
        self.exit = Range().to(device)
        self._taken = (taken or self.entry,)  # in a tuple it is no part of this module

    def forward(self, x: Tensor) -> Tensor:
        """Convolve as INT8 will. A norm in training uses the batch's statistics."""
        if self.entry is not None:
            x = self.entry(x)
        weight, bias, sizes = self.folded()
        weight = _rounded(weight, sizes)
        if self.norm is not None and self.norm.training:
            y = _apply(self.layer, x, weight, None)
            scale = self._scale(self.norm).reshape(-1, *[1] * (y.ndim - 2))
            y = self.norm(y / torch.where(scale.abs() < TINY, TINY, scale))
        else:
            y = _apply(self.layer, x, weight, bias)
        rounded: Tensor = self.exit(torch.relu(y) if self.relu else y)
        return rounded

    def folded(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """Weight, bias and sizes of the weight's steps `(C,)`, the norm's statistics folded in.

        The step of the bias, which is rounded, is that of what the layer takes times the weight's.
        """
        weight, bias, norm = self.layer.weight, self.layer.bias, self.norm
        if norm is not None:
            scale, mean = self._scale(norm), norm.running_mean
            assert mean is not None
            moved = -mean if bias is None else bias - mean
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            bias = norm.bias + moved * scale
        sizes = (weight.detach().flatten(1).abs().amax(dim=1) / 127).clamp(min=TINY)
        if bias is not None and (taken := self._taken[0]):
            step = taken.steps()[0] * sizes
            bias = bias + ((bias / step).round() * step - bias).detach()
        return weight, bias, sizes

    def _scale(self, norm: Norm) -> Tensor:
        """What the norm multiplies each channel by, `(C,)`."""
        assert norm.running_var is not None
        return norm.weight * torch.rsqrt(norm.running_var + norm.eps)


class Frozen(nn.Module):
    """What a quantised layer became: constants that an exporter writes as they are."""

    sizes: Tensor

    def __init__(self, trained: Quantised) -> None:
        super().__init__()
        weight, bias, sizes = trained.folded()
        self.layer = copy.deepcopy(trained.layer)
        self.layer.weight = nn.Parameter(weight.detach())
        self.layer.bias = None if bias is None else nn.Parameter(bias.detach())
        self.register_buffer("sizes", sizes)
        self.relu = trained.relu
        self.entry = None if trained.entry is None else Rounding(trained.entry)
        self.exit = Rounding(trained.exit)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        if self.entry is not None:
            x = self.entry(x)
        weight = _rounded(self.layer.weight, self.sizes)
        y = _apply(self.layer, x, weight, self.layer.bias)
        rounded: Tensor = self.exit(torch.relu(y) if self.relu else y)
        return rounded


def _rounded(weight: Tensor, sizes: Tensor) -> Tensor:
    zeros = torch.zeros_like(sizes, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, sizes, zeros, 0, -128, 127)


def _apply(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Do what a layer does with another weight and bias."""
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(x, weight, bias)
    convolved: Tensor = layer._conv_forward(x, weight, bias)
    return convolved


def _line(parent: nn.Module) -> Iterator[Place | None]:
    """Modules without children, in order; None parts those that need not follow one another.

    A module that stands in two places is told of twice.
    """
    follows = isinstance(parent, nn.Sequential)
    for name, child in parent._modules.items():
        if child is None or isinstance(child, Fused | Quantised | Frozen):
            yield None
        elif child._modules:
            yield from _line(child) if follows and isinstance(child, nn.Sequential) else (
                None, *_line(child), None,
            )  # fmt: skip
        else:
            yield parent, name
        if not follows:
            yield None


def _joints(model: nn.Module) -> Iterator[Joint]:
    """Where the layers with weights are, with what follows them."""
    line = [*_line(model), None, None]
    for at, place in enumerate(line):
        if place is None or not isinstance(_module(place), Layer):
            continue
        norm = line[at + 1] if isinstance(_module(line[at + 1]), Norm) else None
        after = line[at + 1] if norm is None else line[at + 2]
        yield place, norm, after if isinstance(_module(after), nn.ReLU) else None


def _join(layer: Place, norm: Place | None, relu: Place | None, joined: nn.Module) -> None:
    """Put one module where a layer is, and nothing where its norm and ReLU are."""
    setattr(*layer, joined)
    for place in (norm, relu):
        if place is not None:
            setattr(*place, nn.Identity())


def _module(place: Place | None) -> nn.Module | None:
    return None if place is None else place[0].get_submodule(place[1])


def _layer(place: Place) -> Layer:
    layer = _module(place)
    assert isinstance(layer, Layer)
    return layer


def _conv(place: Place) -> nn.Conv1d | nn.Conv2d:
    conv = _module(place)
    assert isinstance(conv, nn.Conv1d | nn.Conv2d)
    return conv


def _norm(place: Place | None) -> Norm | None:
    norm = _module(place)
    assert norm is None or isinstance(norm, Norm)
    return norm


def _places(parent: nn.Module, kind: type[nn.Module]) -> Iterator[Place]:
    """Where the modules of a kind are."""
    for name, child in parent.named_children():
        if isinstance(child, kind):
            yield parent, name
        else:
            yield from _places(child, kind)


def _trace(
    model: nn.Module, joints: list[Joint], frames: Tensor
) -> list[tuple[Layer, Layer | None]]:
    """The layers in the order they run in, each with the one that gave what it takes a view of."""
    order: list[tuple[Layer, Layer | None]] = []
    given: list[tuple[Layer, torch.UntypedStorage]] = []

    def before(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, Layer)
        taken = inputs[0].untyped_storage()._cdata
        sources = [one for one, storage in given if storage._cdata == taken]
        order.append((layer, sources[-1] if sources else None))

    def after(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        given.append((order[-1][0], output.untyped_storage()))

    hooks = [_layer(place).register_forward_pre_hook(before) for place, _, _ in joints]
    ends = {id(end): end for joint in joints if (end := _module(joint[2] or joint[1] or joint[0]))}
    hooks += [end.register_forward_hook(after) for end in ends.values()]
    model.eval()
    with torch.no_grad():
        model(frames)
    for hook in hooks:
        hook.remove()
    return order
