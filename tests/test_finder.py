import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import Trained

from engine.checkpoint import load, save
from engine.detector import Detection
from engine.finder import Finder, Peaks, _fastest, lower_threshold
from engine.recipe import DetectorSettings
from engine.scorer import ExportedStudent

RULES = DetectorSettings(hysteresis=0.1, refractory_s=2.0)


def peaks(scores: list[float], rules: DetectorSettings = RULES) -> list[Detection]:
    """Peaks of one score every 0.4 s, with a threshold of 0.5."""
    finder = Peaks(rules, 0.5, 0.4)
    found = [finder.push(score, 0.4 * hop) for hop, score in enumerate(scores)]
    return [peak for peak in [*found, finder.finish()] if peak]


def test_the_highest_level_within_0_8_s_of_a_firing_is_its_place() -> None:
    """Fires at 0.4 s; 1.2 s is within 0.8 s of that, 1.6 s is not."""
    assert peaks([0.1, 0.6, 0.7, 0.9, 0.95]) == [Detection(pytest.approx(1.2), 0.9)]


def test_a_recording_may_end_in_a_peak() -> None:
    assert peaks([0.1, 0.6, 0.8]) == [Detection(0.8, 0.8)]


def test_a_new_firing_ends_the_peak_before() -> None:
    rules = RULES.model_copy(update={"refractory_s": 0.0})
    assert peaks([0.6, 0.1, 0.7, 0.2], rules) == [Detection(0.0, 0.6), Detection(0.8, 0.7)]


@given(scores=st.lists(st.floats(0, 1), max_size=60), cut=st.integers(0, 60))
def test_peaks_go_on_from_a_state(scores: list[float], cut: int) -> None:
    rules = DetectorSettings(smooth_hops=2, votes=2, of=3, refractory_s=1.0)
    finder, found = Peaks(rules, 0.5, 0.4), list[Detection | None]()
    for hop, score in enumerate(scores):
        if hop == cut:
            state = finder.state()
            finder = Peaks(rules, 0.5, 0.4)
            finder.restore(state)
        found.append(finder.push(score, 0.4 * hop))
    found.append(finder.finish())
    assert [peak for peak in found if peak] == peaks(scores, rules)


def test_one_mines_at_twenty_false_alarms_an_hour(tiny_run: Trained) -> None:
    """Ten alarms in half an hour of validation. Far below it is always on, and fires once."""
    checkpoint = load(tiny_run.run.best)
    measured = checkpoint.validated()
    sweep = [[0.9, 1, 3], [0.6, 10, 2], [0.4, 11, 1], [0.1, 1, 0]]
    told = json.loads(measured.to_json()) | {"sweep": sweep, "hours": 0.5}
    point = {"threshold": 0.9, "target_fah": 1.0}
    checkpoint = replace(checkpoint, validation=json.dumps(told), operating_point=point)
    assert lower_threshold(checkpoint) == 0.6


def test_a_checkpoint_may_lie_in_the_root(tiny_run: Trained) -> None:
    assert _fastest(Path("/best.ckpt"), load(tiny_run.run.best)).grid.window_s > 0


def test_the_threshold_to_mine_at_is_below_the_operating_point(tiny_run: Trained) -> None:
    """0.9 is a logit of log 9; one less is 9 / e to 1, or 0.768."""
    checkpoint = load(tiny_run.run.best)
    told = json.loads(checkpoint.validated().to_json()) | {"sweep": []}
    point = {"threshold": 0.9, "target_fah": 1.0}
    checkpoint = replace(checkpoint, validation=json.dumps(told), operating_point=point)
    assert lower_threshold(checkpoint) == pytest.approx(0.768, abs=1e-3)


def test_the_exported_student_scores_where_it_is_that_of_the_checkpoint(
    tiny_run: Trained, tmp_path: Path
) -> None:
    assert isinstance(Finder.of(tiny_run.run.best).scorer.model, ExportedStudent)
    checkpoint = load(tiny_run.run.best)
    weights = {name: value * 1.5 for name, value in checkpoint.weights.items()}
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "export").symlink_to(tiny_run.run.export)
    save(tmp_path / "checkpoints" / "best.ckpt", replace(checkpoint, weights=weights))
    other = Finder.of(tmp_path / "checkpoints" / "best.ckpt")
    assert not isinstance(other.scorer.model, ExportedStudent)


def test_a_finder_draws_no_random_numbers(tiny_run: Trained) -> None:
    """A training beside it would draw others."""
    before = torch.random.get_rng_state()
    Finder.of(tiny_run.run.best)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_checkpoint_in_the_root_has_no_export_beside_it(tiny_run: Trained) -> None:
    scorer = _fastest(Path("/best.ckpt"), load(tiny_run.run.best))
    assert not isinstance(scorer.model, ExportedStudent)
