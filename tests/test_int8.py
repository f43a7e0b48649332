"""Runs that end as INT8: in one go, resumed, alone from a float run; and what a report tells."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from test_checkpoint import made
from test_train import go, same, state, tensors, trained, validations
from tiny import Fuse, Trained, ignore, tiny_recipe

from engine.checkpoint import load
from engine.errors import CheckpointError, RecipeError
from engine.evaluate import Scored, evaluate
from engine.events import PhaseChanged, Stepped, Validated
from engine.export import export
from engine.export_folder import read
from engine.finder import Finder
from engine.flips import FLOAT, ROUNDED, TUNED, Flip, Int8
from engine.int8 import flips
from engine.jobs import Control
from engine.metrics import StreamScores
from engine.report import ClipScore, Measured, Report
from engine.runs import Workspace, read_events
from engine.scorer import ExportedStream
from engine.train import train
from wakeword_tui.commands.evaluate import with_int8

QUANTISED = {"train.epochs": 1, "quantize.enabled": True, "train.checkpoint_every_s": 0.01}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tuned(tiny_data: Path, home: Workspace) -> Trained:
    """An epoch of float training and two of fine-tuning, five steps each, with the report."""
    return trained(tiny_data, home, QUANTISED, until="")


def test_a_run_goes_on_as_int8_where_its_float_training_ends(tuned: Trained) -> None:
    phases = [event.phase for event in tuned.events if isinstance(event, PhaseChanged)]
    each = ["validate", "train"]
    assert phases == [
        *("pack", "train", *each, "threshold", "calibrate", "train", *each, *each, *each),
        *("test", "export", "compare"),
    ]
    found = [(v.step, v.averaged, v.hearings) for v in tuned.events if isinstance(v, Validated)]
    assert found == [(5, 0, 1), (5, 0, 5), (5, 0, 1), (10, 0, 1), (15, 0, 1)]


def test_the_fine_tuning_has_a_rate_of_its_own_that_falls_to_nothing(tuned: Trained) -> None:
    rates = {e.step: e.lr for e in tuned.events if isinstance(e, Stepped) and e.step > 5}
    assert max(rates.values()) <= 3e-4
    assert rates[15] < 1e-4


def test_three_checkpoints_are_kept_of_which_two_are_int8(tuned: Trained) -> None:
    run = tuned.run
    assert [load(p).quantised for p in (run.best, run.rounded, run.int8)] == [False, True, True]
    rounded, tuned_weights = load(run.rounded).weights, load(run.int8).weights
    assert rounded.keys() == tuned_weights.keys() != load(run.best).weights.keys()


def test_the_report_holds_the_students_against_each_other(tuned: Trained) -> None:
    report = Report.from_json(tuned.run.report.read_text())
    told = Int8.of(report.int8)
    assert told.to_plain() == report.int8 | {
        "float_parts": ("head: Conv1d",),
        "students": told.to_plain()["students"],
    }
    assert list(told.students) == [FLOAT, ROUNDED, TUNED]
    assert told.threshold == report.operating_point.threshold
    for path in (tuned.run.rounded, tuned.run.int8):
        assert load(path).threshold() == report.operating_point
    first, *others = told.students.values()
    assert (first.test.difference, first.flips) == (0.0, ())
    assert first.test.missed == report.test.missed
    assert first.test.false_alarms == report.test.false_alarms
    for other in others:
        assert 0 < other.test.difference < 0.5
        assert other.file_kb < first.file_kb
        assert other.ram_kb == first.ram_kb / 4


@pytest.mark.parametrize("at", [29, 53, 55, 65, 77, 115, 135])
def test_a_run_stopped_in_its_fine_tuning_equals_the_uninterrupted_one(
    tiny_data: Path, home: Workspace, tuned: Trained, at: int
) -> None:
    run = home.create(tiny_recipe(tiny_data, QUANTISED))
    go(run, home, Fuse(at))
    assert not run.int8.exists() or load(run.last).quantised
    go(run, home, Control(), until="test")
    for ours, theirs in ((run.last, tuned.run.last), (run.int8, tuned.run.int8)):
        assert same(state(load(ours)), state(load(theirs)))
    assert validations(run) == validations(tuned.run)
    steps = [r.event.step for r in read_events(run.events) if isinstance(r.event, Stepped)]
    assert all(a < b for a, b in pairwise(steps))


def test_a_finished_float_run_is_quantised_alone(
    tiny_data: Path, home: Workspace, tuned: Trained
) -> None:
    """Its weights and its threshold are those of the run that it starts from."""
    changes = {**QUANTISED, "train.epochs": 0, "train.init": str(tuned.run.best)}
    run = trained(tiny_data, home, {**changes, "quantize.epochs": 1}, until="").run
    start, best = load(tuned.run.best), load(run.best)
    assert same(tensors(best.weights), tensors(start.weights))
    assert best.threshold() == start.threshold()
    assert [v.step for v in validations(run)] == [0, 0, 0, 5]
    assert Report.from_json(run.report.read_text()).operating_point == start.threshold()


def test_no_epochs_want_a_checkpoint_to_start_from(tiny_data: Path, home: Workspace) -> None:
    run = home.create(tiny_recipe(tiny_data, {"train.epochs": 0}))
    with pytest.raises(RecipeError, match="trains nothing"):
        train(run.recipe(), run, home, emit=ignore, control=Control())


def test_an_int8_student_is_not_quantised_again(
    tiny_data: Path, home: Workspace, tuned: Trained
) -> None:
    run = home.create(tiny_recipe(tiny_data, {"train.init": str(tuned.run.int8)}))
    with pytest.raises(CheckpointError, match="INT8 already"):
        train(run.recipe(), run, home, emit=ignore, control=Control())


def test_flips_are_detections_of_one_student_alone() -> None:
    """At 0.7, hops of 80 ms from 1.5 s: the first has hops 10 and 60, the other 14, 60 and 100.

    10 and 14 are 0.32 s apart and one detection; 100 is 1.5 + 8 = 9.5 s. One word is lost: in hop
    10 of a window of 1.495 s, at 2.295 s.
    """
    streams = []
    for hits in ((10, 60), (14, 60, 100)):
        levels = np.zeros(200)
        levels[list(hits)] = 0.9
        streams.append((StreamScores(levels, 16.0, 1.5),))
    heard = np.array([0.1] * 10 + [0.8, 0.9])
    word = ClipScore(0.8, 0.8, True, "ann", clip="ann/1.wav", levels=heard, span=(4, 12))
    missed = replace(word, peak=0.6, levels=0.7 * heard)
    sides = [Scored((word, word), streams[0]), Scored((word, missed), streams[1])]
    found = list(flips("test", *sides, made()))
    assert found == [
        Flip("test", "", pytest.approx(9.5), False),
        Flip("test", "ann/1.wav", pytest.approx(2.295), True),
    ]


def test_an_int8_checkpoint_is_evaluated_like_any(tuned: Trained) -> None:
    report = evaluate(tuned.run.int8, None, tuned.home, emit=ignore, control=Control())
    told = Int8.of(json.loads(tuned.run.report.read_text())["int8"])
    assert report.operating_point.threshold == told.threshold


def test_an_int8_checkpoint_finds_with_its_own_weights_and_not_with_the_float_ones(
    tuned: Trained,
) -> None:
    """On hiss, which neither takes for the word, the two may score as good as alike."""
    finders = [Finder.of(path) for path in (tuned.run.best, tuned.run.int8, tuned.run.rounded)]
    exported = [isinstance(finder.scorer.model, ExportedStream) for finder in finders]
    assert exported == [True, False, False]


def test_an_int8_export_tells_how_the_int8_student_did_on_validation(
    tuned: Trained, tmp_path: Path
) -> None:
    export(tuned.run, "onnx-int8", tmp_path / "e", tuned.home, emit=ignore, control=Control())
    told = Measured.from_json(json.dumps(read(tmp_path / "e")["validation"]))
    own, theirs = (load(path).validated() for path in (tuned.run.int8, tuned.run.best))
    assert told.det_area == pytest.approx(own.det_area, abs=1e-3)
    assert told.det_area != pytest.approx(theirs.det_area, abs=1e-3)


def test_testing_again_keeps_the_int8_student_of_the_same_checkpoint(tuned: Trained) -> None:
    own = Report.from_json(tuned.run.report.read_text())
    assert with_int8(replace(own, int8={}), tuned.run) == own
    assert with_int8(replace(own, int8={}, checkpoint_sha256="moved"), tuned.run).int8 == {}
