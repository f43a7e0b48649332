import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from test_checkpoint import made

from engine.checkpoint import Checkpoint
from engine.features import LogMel, grid
from engine.models import STUDENTS
from engine.onnx_graph import ConvLogMel, write_onnx
from engine.recipe import Features, Recipe
from engine.recipe_file import override
from engine.scorer import Exported, Scorer


@pytest.fixture(scope="module", params=[*((a, "cmvn") for a in STUDENTS), ("tinyconv", "pcen")])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Checkpoint, Path]:
    arch, normalise = request.param
    changes = {"model.width": 0.25, "model.arch": arch, "features.normalise": normalise}
    recipe = override(Recipe(), changes)
    checkpoint, path = made(recipe), tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(checkpoint, path)
    return checkpoint, path


def test_the_exported_model_scores_as_the_checkpoint_does(
    exported: tuple[Checkpoint, Path],
) -> None:
    checkpoint, path = exported
    scorer, model, generator = Scorer.of(checkpoint), Exported(path), np.random.default_rng(0)
    for level in (0.0, 1e-4, 0.01, 0.3, 1.0):
        noise = level * generator.standard_normal(scorer.grid.window_samples)
        window = noise.astype(np.float32)
        assert model.score(window) == pytest.approx(float(scorer.score(window)[0]), abs=1e-4)


def test_the_file_keeps_no_trace_of_the_machine_it_was_made_on(
    exported: tuple[Checkpoint, Path],
) -> None:
    content = exported[1].read_bytes()
    assert (
        re.search(rb"\.py\b|/work/|/home/|/root/|site-packages|File \"|stack_trace", content)
        is None
    )


def test_the_graph_takes_any_batch_of_windows(exported: tuple[Checkpoint, Path]) -> None:
    graph = onnx.load(exported[1]).graph
    (waveform,), (score,) = graph.input, graph.output
    assert (waveform.name, score.name) == ("waveform", "score")
    batch, samples = waveform.type.tensor_type.shape.dim
    assert batch.dim_param == "batch"
    assert samples.dim_value == grid(exported[0].settings().features).window_samples


def test_exporting_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_onnx(made(), tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("normalise", ["cmvn", "pcen"])
def test_the_front_end_as_a_convolution_gives_the_same_frames(normalise: Any) -> None:
    features = LogMel(Features(normalise=normalise))
    waveform = 0.1 * torch.randn(2, 40_000, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(ConvLogMel(features)(waveform), features(waveform), atol=1e-3)
