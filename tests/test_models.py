import pytest
import torch

from engine.cost import cost
from engine.models import STUDENTS, build, checkpoint_blocks, slide
from engine.recipe import Recipe
from engine.recipe_file import override

WINDOW, HOP = 148, 8


def frames(seed: int, batch: int = 2, length: int = WINDOW) -> torch.Tensor:
    return torch.randn(batch, 40, length, generator=torch.Generator().manual_seed(seed))


def student(arch: str) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build(override(Recipe(), {"model.arch": arch, "model.width": 0.5}))
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
def test_width_dials_the_parameters(arch: str) -> None:
    half = cost(override(Recipe(), {"model.arch": arch, "model.width": 0.5}))
    full = cost(override(Recipe(), {"model.arch": arch}))
    assert half.parameters < 0.5 * full.parameters
    assert half.macs < full.macs


def test_mobilenetv3_small_is_as_large_as_the_paper_makes_it() -> None:
    """1.00 M parameters at width 1 with a head of 128 (stack measurements of the same table)."""
    assert cost(override(Recipe(), {"model.arch": "mobilenetv3"})).parameters == pytest.approx(
        1.0e6, rel=0.05
    )


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
