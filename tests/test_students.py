"""What every student keeps to, whatever its architecture."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from engine.cost import cost
from engine.errors import RecipeError
from engine.features import grid
from engine.models import STUDENTS, build, checkpoint_blocks, slide
from engine.quantize import fuse
from engine.recipe import Recipe
from engine.recipe_file import override

WINDOW = 148
# Most parameters at width 1 and 40 mels.
BUDGET = {"tinyconv": 60_000, "mobilenetv3": 1_000_000, "bcresnet": 9_000}


def frames(seed: int, batch: int = 2, length: int = WINDOW) -> torch.Tensor:
    return torch.randn(batch, 40, length, generator=torch.Generator().manual_seed(seed))


def student(arch: str, changes: Mapping[str, Any] | None = None) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build(override(Recipe(), {"model.arch": arch, "model.width": 0.5, **(changes or {})}))
    model.train()(frames(1, 16))  # batch statistics that are not those of a fresh BatchNorm
    return model.eval()


@pytest.mark.parametrize("arch", STUDENTS)
def test_a_student_gives_one_logit_per_window_and_its_layers(arch: str) -> None:
    model = student(arch)
    assert model(frames(2, 3)).shape == (3,)
    layers = model.embed(frames(2, 3))  # type: ignore[operator]
    assert all(layer.shape[0] == 3 and layer.ndim == 3 for layer in layers.values())


@pytest.mark.parametrize("arch", STUDENTS)
@pytest.mark.parametrize("hop", [8, 4])
def test_sliding_along_a_stream_equals_scoring_its_windows(arch: str, hop: int) -> None:
    model, stream = student(arch), frames(3, 1, 400)[0]
    with torch.inference_mode():
        windows = torch.stack([stream[:, i : i + WINDOW] for i in range(0, 400 - WINDOW + 1, hop)])
        assert torch.allclose(slide(model, stream, WINDOW, hop), model(windows), atol=1e-5)


def test_depthwise_tinyconv_has_at_least_70_percent_fewer_parameters() -> None:
    dense = cost(override(Recipe(), {"model.depthwise": False})).parameters
    depthwise = cost(override(Recipe(), {"model.depthwise": True})).parameters
    assert depthwise <= 0.3 * dense


@pytest.mark.parametrize("arch", STUDENTS)
def test_gradients_reach_every_parameter(arch: str) -> None:
    model = student(arch).train()
    model(frames(4, 8)).square().sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@pytest.mark.parametrize("arch", STUDENTS)
@pytest.mark.parametrize("depthwise", [True, False])
def test_a_fused_student_gives_the_same_logits_and_leaves_the_first_alone(
    arch: str, depthwise: bool
) -> None:
    model = student(arch, {"model.depthwise": depthwise})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fused = fuse(model)
    with torch.inference_mode():
        assert torch.allclose(fused(frames(6, 4)), model(frames(6, 4)), atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    left = [m for m in fused.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    sub_spectral = 12 if arch == "bcresnet" else 0
    assert len(left) == sub_spectral


@pytest.mark.parametrize("arch", STUDENTS)
def test_a_student_keeps_its_budget_and_width_dials_it(arch: str) -> None:
    half = cost(override(Recipe(), {"model.arch": arch, "model.width": 0.5}))
    full = cost(override(Recipe(), {"model.arch": arch}))
    assert full.parameters < BUDGET[arch]
    assert half.parameters < 0.5 * full.parameters
    assert half.macs < full.macs


@pytest.mark.parametrize("arch", STUDENTS)
@pytest.mark.parametrize(("mels", "window_ms"), [(8, 1105), (13, 990), (64, 2000), (128, 700)])
def test_a_student_fits_any_mels_and_window(arch: str, mels: int, window_ms: int) -> None:
    changes = {"model.arch": arch, "features.mels": mels, "features.window_ms": window_ms}
    recipe = override(Recipe(), {**changes, "model.width": 0.25})
    if arch == "tinyconv" and window_ms < 1105:  # 109 frames are what its layers eat
        with pytest.raises(RecipeError, match="sees nothing"):
            build(recipe)
    else:
        x = torch.zeros(2, mels, grid(recipe.features).window_frames)
        assert build(recipe)(x).shape == (2,)


def test_students_are_as_large_as_their_papers_make_them() -> None:
    """MobileNetV3-Small with a head of 128: 1.00 M; BC-ResNet-1 with one logit: 8.9 k."""
    sizes = {arch: cost(override(Recipe(), {"model.arch": arch})).parameters for arch in STUDENTS}
    assert sizes["mobilenetv3"] == pytest.approx(1.0e6, rel=0.05)
    assert sizes["bcresnet"] == pytest.approx(8.9e3, rel=0.01)


@pytest.mark.parametrize("arch", STUDENTS)
def test_gradient_checkpointing_changes_neither_gradients_nor_statistics(arch: str) -> None:
    recipe = override(Recipe(), {"model.arch": arch, "model.width": 0.5, "model.dropout": 0.0})
    torch.manual_seed(0)
    plain = build(recipe).train()
    frugal = build(recipe).train()
    frugal.load_state_dict(plain.state_dict())
    checkpoint_blocks(frugal)
    for model in (plain, frugal):
        model(frames(5, 8)).square().sum().backward()
    pairs = zip(plain.parameters(), frugal.parameters(), strict=True)
    assert all(torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-4) for a, b in pairs)  # type: ignore[arg-type]
    for name, value in plain.named_buffers():
        if "running" in name:
            assert torch.allclose(value, frugal.get_buffer(name), rtol=1e-3, atol=1e-5), name
