"""INT8 without training: the ranges come from the training split, and the graphs still detect."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_agree import heard_of
from test_quantize import CONVOLUTIONS, optimised
from tiny import Trained, hiss, ignore

from engine import export_folder
from engine.checkpoint import Checkpoint, load, save
from engine.export import _shipped, export
from engine.export_manifest import MEASURES, about
from engine.jobs import Control
from engine.onnx_graph import write_hop
from engine.round_off import round_off
from engine.runs import Run
from engine.scorer import ExportedHops, Scorer, scorer_of


@pytest.fixture(scope="module")
def rounded(tiny_run: Trained) -> Checkpoint:
    train = heard_of(tiny_run, "train")
    return round_off(load(tiny_run.run.best), train, control=Control())


def test_the_same_data_give_the_same_int8(tiny_run: Trained, rounded: Checkpoint) -> None:
    again = round_off(load(tiny_run.run.best), heard_of(tiny_run, "train"), control=Control())
    assert again.quantised
    assert all(torch.equal(again.weights[name], value) for name, value in rounded.weights.items())


def test_it_scores_nearly_as_the_float_student_does(tiny_run: Trained, rounded: Checkpoint) -> None:
    sound = hiss(12, 1, 0.05)
    near = pytest.approx(Scorer.of(load(tiny_run.run.best)).score(sound), abs=0.1)
    assert Scorer.of(rounded).score(sound) == near


def test_hop_by_hop_it_scores_as_the_whole_stream(rounded: Checkpoint, tmp_path: Path) -> None:
    """A sum that falls between two steps may round either way."""
    sound = hiss(8, 2, 0.05)
    write_hop(rounded, tmp_path / "stream.onnx")
    scores = ExportedHops(tmp_path / "stream.onnx").push(sound)
    assert scores == pytest.approx(Scorer.of(rounded).score(sound), abs=0.06)


def test_hop_by_hop_every_convolution_but_the_last_runs_in_integers(
    rounded: Checkpoint, tmp_path: Path
) -> None:
    """Those of the front end and of the logit stay float."""
    write_hop(rounded, tmp_path / "stream.onnx")
    kinds = Counter(node.op_type for node in optimised(tmp_path / "stream.onnx").graph.node)
    assert kinds["QLinearConv"] == CONVOLUTIONS["tinyconv"]
    assert kinds["Conv"] + kinds["FusedConv"] == 2


def test_a_float_run_is_exported_as_int8(
    tiny_run: Trained, rounded: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its few words lie close to the threshold: how many may flip is not what is tested here."""
    monkeypatch.setattr("engine.export.FLIPS_LEAST", 1000)
    out = tmp_path / "int8"
    done = export(tiny_run.run, "onnx-int8", out, tiny_run.home, emit=ignore, control=Control())
    told, golden = export_folder.read(out), np.load(out / "golden.npz")
    assert (told["kind"], done.kind) == ("onnx-int8", "onnx-int8")
    assert 0 < told["compared"]["student.onnx"]["largest_difference"] < 0.2
    assert told["detector"]["threshold"] == load(tiny_run.run.best).threshold().threshold
    near = pytest.approx(golden["scores"], abs=told["golden"]["tolerance"])
    assert scorer_of(out).score(golden["waveform"]) == near
    assert ExportedHops(out / "stream.onnx").push(golden["waveform"]) == near


def test_a_student_that_was_fine_tuned_as_int8_is_taken_at_the_threshold_of_the_run(
    tiny_run: Trained, rounded: Checkpoint, tmp_path: Path
) -> None:
    run, train, quiet = Run(tmp_path), heard_of(tiny_run, "train"), Control()
    run.int8.parent.mkdir()
    save(run.int8, replace(rounded, operating_point={"threshold": 0.9, "target_fah": 1.0}))
    best = load(tiny_run.run.best)
    shipped = _shipped(run, best, "onnx-int8", train, quiet)
    assert shipped.quantised
    assert shipped.operating_point == best.operating_point
    assert _shipped(run, best, "onnx", train, quiet) is best


def test_what_to_expect_of_int8_is_what_its_own_test_showed(
    tiny_run: Trained, rounded: Checkpoint
) -> None:
    tables = tiny_run.run.report_json()
    assert tables is not None
    side = dict.fromkeys(MEASURES, 0.25) | {"fah_high": None}
    tables["int8"] = {"students": {"int8": {"test": side}}}
    expected = [about(one, tables)["expected"] for one in (rounded, load(tiny_run.run.best))]
    assert expected[0]["frr"] == 0.25
    assert expected[1]["frr"] == tables["test"]["frr"]
    moved = replace(rounded, operating_point={"threshold": 0.123, "target_fah": 1.0})
    assert about(moved, tables)["expected"] is None
