"""Every student through fusing, rounding, freezing and an INT8 graph that onnxruntime runs."""

import copy
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from test_checkpoint import made
from test_scorer import noise, scorer
from torch import Tensor, nn

from engine.checkpoint import Checkpoint, load, save
from engine.models import STUDENTS
from engine.onnx_graph import write_onnx, write_student
from engine.quantize import (
    Quantised,
    Range,
    calibrate,
    float_parts,
    freeze_norms,
    fuse,
    quantised,
)
from engine.recipe import Recipe
from engine.recipe_file import override
from engine.scorer import Exported, Scorer, scorer_of

# Convolutions of each student but TinyConv's last one, which gives the logit.
CONVOLUTIONS = {"tinyconv": 13, "mobilenetv3": 52, "bcresnet": 43}
STREAM = noise(80_000, 3) * np.linspace(0.01, 1, 80_000, dtype=np.float32)


@cache
def calibrated(arch: str) -> Checkpoint:
    """A student that is rounded as it stands, with the ranges of its own windows."""
    recipe = override(Recipe(), {"model.arch": arch, "model.width": 0.25})
    float_scorer = scorer(arch)
    model = quantised(fresh(arch), recipe)
    frames = float_scorer.features(torch.from_numpy(STREAM)[None])
    calibrate(model, frames[0].unfold(1, 148, 8).permute(1, 0, 2).split(16))
    statistics = {"mean": float_scorer.features.mean, "std": float_scorer.features.std}
    return made(recipe, weights=model.state_dict(), statistics=statistics, quantised=True)


def fresh(arch: str) -> nn.Module:
    """A float student whose norms have heard something."""
    recipe = override(Recipe(), {"model.arch": arch, "model.width": 0.25})
    return replace(made(recipe), weights=scorer(arch).model.state_dict()).model()


def windows(arch: str) -> Tensor:
    frames = scorer(arch).features(torch.from_numpy(STREAM)[None])
    return frames[0].unfold(1, 148, 8).permute(1, 0, 2)


@pytest.mark.parametrize("arch", STUDENTS)
def test_rounded_logits_stay_near_those_of_the_float_student(arch: str) -> None:
    """The logits deviate by about 1; 256 steps a layer cost them a tenth or so."""
    with torch.no_grad():
        expected, got = scorer(arch).model(windows(arch)), calibrated(arch).model()(windows(arch))
    assert 0 < (got - expected).abs().mean() < 0.15


@pytest.mark.parametrize("arch", STUDENTS)
def test_a_frozen_student_gives_exactly_what_the_rounded_one_gave(arch: str) -> None:
    model = calibrated(arch).model()
    with torch.no_grad():
        assert torch.equal(fuse(model)(windows(arch)), model(windows(arch)))


@pytest.mark.parametrize("arch", STUDENTS)
@pytest.mark.parametrize("name", ["model.onnx", "student.onnx"])
def test_onnxruntime_runs_every_convolution_in_integers(
    arch: str, name: str, tmp_path: Path
) -> None:
    """The front end of the whole detector is one more convolution, which stays float."""
    write = write_onnx if name == "model.onnx" else write_student
    write(calibrated(arch), tmp_path / name)
    kinds = Counter(node.op_type for node in optimised(tmp_path / name).graph.node)
    assert kinds["QLinearConv"] == CONVOLUTIONS[arch]
    floats = kinds["Conv"] + kinds["FusedConv"]
    assert floats == (arch == "tinyconv") + (name == "model.onnx")


def optimised(path: Path) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".optimised"))
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


@pytest.mark.parametrize("arch", STUDENTS)
def test_the_int8_graphs_score_as_the_frozen_student_does(arch: str, tmp_path: Path) -> None:
    """A sum that falls between two steps may round either way: a step or two of a score."""
    checkpoint, path = calibrated(arch), tmp_path / "model.onnx"
    write_onnx(checkpoint, path)
    write_student(checkpoint, tmp_path / "student.onnx")
    expected = Scorer.of(checkpoint).score(STREAM)
    streamed, whole = scorer_of(tmp_path / "student.onnx").score(STREAM), Exported(path)
    assert np.ptp(expected) > 0.1
    assert np.abs(streamed - expected).mean() < 0.01
    assert streamed == pytest.approx(expected, abs=0.06)
    for hop in (0, 20, 40):
        start = hop * 1280
        assert whole.score(STREAM[start : start + 23_920]) == pytest.approx(expected[hop], abs=0.06)


@pytest.mark.parametrize("arch", STUDENTS)
def test_weights_are_stored_as_int8_and_the_file_is_smaller(arch: str, tmp_path: Path) -> None:
    write_student(calibrated(arch), tmp_path / "int8.onnx")
    kinds = {c.data_type for c in onnx.load(tmp_path / "int8.onnx").graph.initializer if c.dims}
    graph = onnx.load(tmp_path / "int8.onnx").graph
    large = [c for c in graph.initializer if np.prod(c.dims) > 256]
    assert {onnx.TensorProto.INT8, onnx.TensorProto.INT32} <= kinds
    assert all(c.data_type != onnx.TensorProto.FLOAT for c in large)
    assert {c.name for c in graph.initializer} <= {n for node in graph.node for n in node.input}


def test_a_quantised_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    save(tmp_path / "int8.ckpt", calibrated("tinyconv"))
    again = load(tmp_path / "int8.ckpt")
    assert again.quantised
    for name, value in again.model().state_dict().items():
        assert torch.equal(value, calibrated("tinyconv").weights[name])


def test_what_stays_float_is_listed() -> None:
    assert float_parts(calibrated("tinyconv").model()) == ["head: Conv1d"]
    mobile = float_parts(calibrated("mobilenetv3").model())
    assert "blocks.0.body.2.gate: Hardsigmoid" in mobile
    assert mobile[0] == "stem.1: Hardswish"
    assert mobile[-1] == "head.3: Linear"
    assert "blocks.0.mels.4.norm: BatchNorm2d" in float_parts(calibrated("bcresnet").model())


def test_a_range_has_256_steps_of_which_one_is_zero() -> None:
    """From -1 to 4.1 a step is 5.1 / 255 = 0.02, and zero is step 50: 0.03 rounds to 0.04."""
    one = Range().eval()
    one.low.fill_(-1.0)
    one.high.fill_(4.1)
    size, zero = one.steps()
    assert (round(float(size), 6), int(zero)) == (0.02, 50)
    rounded = one(torch.tensor([0.0, 0.031, -3.0, 9.0]))
    assert rounded.tolist() == pytest.approx([0.0, 0.04, -1.0, 4.1])


def test_a_range_in_training_follows_its_batches() -> None:
    """A hundredth of the way from 0 to -1 and 3."""
    one = Range().train()
    one(torch.tensor([-1.0, 3.0]))
    assert (float(one.low), float(one.high)) == pytest.approx((-0.01, 0.03))


def test_calibration_takes_the_mean_of_the_ranges_of_batches() -> None:
    """Batches up to 2 and 4: the first layer takes 0 to 3."""
    model = quantised(fresh("tinyconv"), override(Recipe(), {"model.width": 0.25}))
    calibrate(model, [torch.full((2, 40, 148), 2.0), torch.full((1, 40, 148), 4.0)])
    entry = model.get_submodule("stem.maps.0.entry")
    assert isinstance(entry, Range)
    assert (float(entry.low), float(entry.high)) == (3.0, 3.0)


@pytest.mark.parametrize("arch", STUDENTS)
def test_gradients_reach_every_weight_with_norms_live_and_frozen(arch: str) -> None:
    model, frames = copy.deepcopy(calibrated(arch).model()).train(), windows(arch)[:8]
    for freeze in (False, True):
        if freeze:
            freeze_norms(model)
        before = {name: b.clone() for name, b in model.named_buffers() if "running_mean" in name}
        model.zero_grad()
        model(frames).square().sum().backward()
        grads = [p.grad for layer in model.modules() if isinstance(layer, Quantised)
                 for p in layer.parameters()]  # fmt: skip
        assert all(grad is not None and grad.isfinite().all() for grad in grads)
        moved = [not torch.equal(model.get_buffer(name), old) for name, old in before.items()]
        assert any(moved) != freeze


def test_a_live_norm_gives_what_its_layer_and_the_batch_give() -> None:
    """But for the rounding of weights: the norm divides by the deviation of the batch."""
    torch.manual_seed(0)
    conv, norm = nn.Conv1d(3, 4, 1, bias=False), nn.BatchNorm1d(4)
    x = torch.randn(64, 3, 5)
    layer = Quantised(conv, norm, None, relu=False).train()
    layer.entry, layer.exit = None, nn.Identity()  # type: ignore[assignment]
    expected = nn.BatchNorm1d(4)(conv(x))
    assert layer(x).detach() == pytest.approx(expected.detach(), abs=0.05)
