"""A judge without a wire hears as a detector does that listens to the end of the audio."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judging import a_checkpoint
from taught import public_model, teach
from test_checkpoint import made
from tiny import Trained, hiss

from engine.checkpoint import load, save
from engine.detector import Detector
from engine.errors import CheckpointError
from engine.features import Grid
from engine.local_judge import LocalJudge, led_in
from engine.recipe import DetectorSettings, Recipe
from engine.recipe_file import override
from engine.scorer import Scorer

GRID = Grid(frame_samples=400, step_samples=160, window_frames=10, hop_frames=2)
"""Windows of 9 * 160 + 400 = 1840 samples every 320."""


@pytest.mark.parametrize(
    ("samples", "votes", "silence"),
    [
        (1840, (1, 1, 1), 0),
        (1839, (1, 1, 1), 1),
        (1841, (1, 1, 1), 319),  # two windows end at 1840 and 2160 = 319 + 1841
        (0, (1, 1, 1), 1840),
        (1840, (1, 2, 3), 640),  # three windows for two votes of three
        (1840, (2, 2, 3), 960),  # and one more where two scores are averaged
        (2800, (2, 2, 3), 0),
    ],
)
def test_silence_leads_in_so_far_that_all_can_vote_and_a_window_ends_with_the_audio(
    samples: int, votes: tuple[int, int, int], silence: int
) -> None:
    smooth, n, m = votes
    rules = DetectorSettings(smooth_hops=smooth, votes=n, of=m)
    heard = led_in(np.ones(samples, np.float32), GRID, rules)
    assert len(heard) - samples == silence
    assert heard[:silence].sum() == 0
    assert heard.sum() == samples


@given(st.integers(0, 9000), st.integers(1, 4), st.integers(1, 4))
def test_a_window_always_ends_with_the_audio(samples: int, smooth: int, of: int) -> None:
    rules = DetectorSettings(smooth_hops=smooth, votes=1, of=of)
    heard = led_in(np.ones(samples, np.float32), GRID, rules)
    windows, rest = divmod(len(heard) - GRID.window_samples, GRID.hop_samples)
    assert rest == 0
    assert windows + 1 >= smooth + of - 1


def test_its_score_is_the_highest_level_of_a_detector(tmp_path: Path) -> None:
    """The threshold of an operating point is one of vote levels, so that is what it is held to."""
    checkpoint, heard = load(a_checkpoint(tmp_path)), hiss(3, 1, 0.2)
    rules = DetectorSettings(smooth_hops=2, votes=2, of=3)
    judge = LocalJudge(Scorer.of(checkpoint), rules, 0.5, "small")
    detector, levels = Detector(rules, 0.5, 0.1), []
    for score in Scorer.of(checkpoint).score(led_in(heard, judge.scorer.grid, rules)):
        detector.push(score, 0.0)
        levels.append(detector.level)
    assert judge.score(heard) == pytest.approx(max(levels), abs=1e-12)


def test_a_verdict_holds_the_score_against_the_threshold(tmp_path: Path) -> None:
    path = a_checkpoint(tmp_path)
    score = LocalJudge.of(path).score(hiss(2, 1))
    for threshold, accepted in ((score, True), (np.nextafter(score, 1), False)):
        verdict = LocalJudge.of(path, threshold).verify(hiss(2, 1))
        assert (verdict.accepted, verdict.score) == (accepted, score)
        assert (verdict.threshold, verdict.model) == (threshold, "small")


def test_a_run_and_its_graph_give_the_same_verdicts(tiny_run: Trained) -> None:
    best = LocalJudge.of(tiny_run.run.best)
    graph = LocalJudge.of(tiny_run.run.path / "export" / "student.onnx")
    assert (graph.threshold, graph.model) == (best.threshold, best.model)
    assert best.threshold == load(tiny_run.run.best).threshold().threshold
    assert best.sent_s == pytest.approx(best.window_s + 0.5)
    for seed in range(3):
        assert graph.score(hiss(2, seed)) == pytest.approx(best.score(hiss(2, seed)), abs=1e-3)


def test_a_checkpoint_without_an_operating_point_needs_a_threshold(tmp_path: Path) -> None:
    save(tmp_path / "young.ckpt", made(operating_point=None))
    with pytest.raises(CheckpointError, match="no operating point"):
        LocalJudge.of(tmp_path / "young.ckpt")
    assert LocalJudge.of(tmp_path / "young.ckpt", 0.3).threshold == 0.3


@pytest.mark.parametrize("arch", ["tinyconv", "mobilenetv3", "bcresnet", "conformer"])
def test_every_architecture_can_judge(arch: str, tmp_path: Path) -> None:
    small = {"name": arch, "model.arch": arch, "model.width": 0.33}
    save(tmp_path / "judge.ckpt", made(override(Recipe(), small)))
    verdict = LocalJudge.of(tmp_path / "judge.ckpt", 0.5).verify(hiss(2, 0))
    assert (0 < verdict.score < 1, verdict.model) == (True, arch)


def test_a_teacher_that_hears_samples_can_judge(
    tiny_data: Path, tmp_path: Path, one_thread: None
) -> None:
    changes = {"model.pretrained": str(public_model(tmp_path / "public"))}
    judge = LocalJudge.of(teach(tiny_data, tmp_path, "wav2vec2", changes))
    for seconds in (0.5, judge.sent_s):
        assert 0 < judge.verify(hiss(seconds, 0)).score < 1
