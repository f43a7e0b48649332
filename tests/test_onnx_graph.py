import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from test_checkpoint import made
from test_scorer import lively, noise

from engine.checkpoint import Checkpoint, described
from engine.errors import CheckpointError
from engine.features import LogMel, grid, statistics
from engine.models import STUDENTS
from engine.onnx_graph import ConvLogMel, write_hop, write_onnx, write_student
from engine.recipe import Data, Features, Recipe
from engine.recipe_file import override
from engine.scorer import Exported, ExportedHops, Scorer, scorer_of


def heard(recipe: Recipe) -> Checkpoint:
    """A checkpoint of a student whose scores go up and down with what it hears."""
    scorer = lively(recipe)
    learnt = {"weights": scorer.model.state_dict(), "statistics": statistics(scorer.features)}
    return made(recipe, **learnt)


STREAM = noise(80_000, 3) * np.linspace(0.001, 1, 80_000, dtype=np.float32)


@pytest.fixture(
    scope="module",
    params=[
        *((a, "cmvn") for a in STUDENTS),
        ("tinyconv", "pcen"),
        *((a, "both") for a in STUDENTS),
    ],
)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Checkpoint, Path]:
    arch, normalise = request.param
    changes = {"model.width": 0.25, "model.arch": arch, "features.normalise": normalise}
    secret = {"data.manifest": "/home/ann/clips.csv", "train.init": "/home/ann/best.ckpt"}
    recipe = override(Recipe(), {**changes, **secret, "data.wakeword": "jarvis"})
    checkpoint, path = heard(recipe), tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(checkpoint, path)
    write_student(checkpoint, path.with_name("student.onnx"))
    write_hop(checkpoint, path.with_name("stream.onnx"))
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


def test_the_exported_student_streams_as_the_checkpoint_does(
    exported: tuple[Checkpoint, Path],
) -> None:
    """A stream in blocks of any size, from the exported file alone."""
    checkpoint, path = exported
    scorer = scorer_of(path.with_name("student.onnx"))
    scores = np.concatenate([scorer.push(part) for part in np.split(STREAM, [7, 30_000, 61_111])])
    expected = Scorer.of(checkpoint).score(STREAM)
    assert scores == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected) > 0.1


def test_hop_by_hop_the_scores_are_those_of_the_whole_stream(
    exported: tuple[Checkpoint, Path],
) -> None:
    """In blocks of any size, with what each hop gave to keep."""
    checkpoint, path = exported
    expected = Scorer.of(checkpoint).score(STREAM)
    hops = ExportedHops(path.with_name("stream.onnx"))
    for cuts in ([], [7, 30_000, 61_111], [*range(333, 80_000, 333)]):
        hops.reset()
        scores = np.concatenate([hops.push(part) for part in np.split(STREAM, cuts)])
        assert scores == pytest.approx(expected, abs=1e-4)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize(
    "changes",
    [
        {"hop_ms": 30},
        {"frame_ms": 10},
        {"window_ms": 1237, "normalise": "pcen"},
        {"step_ms": 20, "window_ms": 3000},
        {"step_ms": 5, "hop_ms": 80},
    ],
)
def test_hop_by_hop_on_any_grid(changes: dict[str, Any], tmp_path: Path) -> None:
    """Hops that share no work or give two steps, frames apart, windows that end between hops."""
    keys = {f"features.{key}": value for key, value in changes.items()}
    checkpoint = heard(override(Recipe(), {"model.width": 0.25, **keys}))
    write_hop(checkpoint, tmp_path / "stream.onnx")
    stream = noise(60_000, 3) * np.linspace(0.001, 1, 60_000, dtype=np.float32)
    expected = Scorer.of(checkpoint).score(stream)
    assert ExportedHops(tmp_path / "stream.onnx").push(stream) == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize("name", ["model.onnx", "student.onnx", "stream.onnx"])
def test_an_exported_file_tells_its_recipe_and_threshold_but_no_path(
    exported: tuple[Checkpoint, Path], name: str
) -> None:
    checkpoint, path = exported
    props = onnx.load(path.with_name(name)).metadata_props
    told = described({prop.key: prop.value for prop in props})
    recipe = checkpoint.settings()
    assert told.threshold() == checkpoint.threshold()
    assert torch.equal(told.statistics["mean"], checkpoint.statistics["mean"])
    assert (told.settings().model, told.settings().features) == (recipe.model, recipe.features)
    assert told.settings().data == Data(wakeword="jarvis")


def test_students_that_share_work_take_a_stream_of_any_length(tmp_path: Path) -> None:
    """With a hop of 80 ms; 30 ms are no multiple of the student's 8 frames: windows one by one."""
    shapes = []
    for hop_ms in (80, 30):
        recipe = override(Recipe(), {"model.width": 0.25, "features.hop_ms": hop_ms})
        write_student(made(recipe), tmp_path / "student.onnx")
        (frames,) = onnx.load(tmp_path / "student.onnx").graph.input
        sizes = frames.type.tensor_type.shape.dim
        shapes.append([size.dim_param or size.dim_value for size in sizes])
    assert shapes == [[1, 40, "frames"], ["batch", 40, 148]]


def test_a_file_that_is_no_exported_student_is_refused(
    exported: tuple[Checkpoint, Path], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="takes single windows"):
        scorer_of(exported[1])
    graph = onnx.load(exported[1].with_name("student.onnx"))
    graph.ClearField("metadata_props")
    onnx.save(graph, tmp_path / "bare.onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(CheckpointError, match="does not tell its recipe"):
        scorer_of(tmp_path / "bare.onnx")
    for name in ("text.onnx", "none.onnx"):
        with pytest.raises(CheckpointError, match=f"cannot open .*{name}"):
            scorer_of(tmp_path / name)


@pytest.mark.parametrize("name", ["model.onnx", "student.onnx", "stream.onnx"])
def test_the_file_keeps_no_trace_of_the_machine_it_was_made_on(
    exported: tuple[Checkpoint, Path], name: str
) -> None:
    content = exported[1].with_name(name).read_bytes()
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
