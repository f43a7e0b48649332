import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataError
from engine.events import Stepped, Validated
from engine.metrics import OperatingPoint, StreamScores
from engine.outcomes import Outcomes
from engine.recipe import DetectorSettings, Evaluate, Recipe
from engine.report import ClipScore, Measured, Report, measure
from engine.runs import EventLog, Run, Workspace
from wakeword_tui.plots import draw, scores

POINT = OperatingPoint(0.5, 1.0)


CLIPS = [ClipScore(0.9, 0.9, True, "ann"), ClipScore(0.1, 0.1, False, "bob")]


def measured() -> Measured:
    stream = StreamScores(np.repeat([0.0, 0.6, 0.0], 10), 3600.0)
    return measure(CLIPS, [stream], POINT, DetectorSettings(), 0.08, Evaluate())


def report() -> Report:
    return Report(
        recipe_sha256="ab",
        fold=0,
        parameters=20_000,
        macs=1_000_000,
        latency_ms={"p50": 1.0, "p95": 2.0},
        features_ms=0.3,
        checkpoint_sha256="cd",
        operating_point=POINT,
        validation=measured(),
        test=measured(),
    )


def trained(home: Path) -> Run:
    """A run of two epochs, with the scores of its test split."""
    run = Workspace(home).create(Recipe())
    log = EventLog(run.events)
    for epoch in (1, 2):
        log.append(Stepped(100 * epoch, epoch, 0.5 / epoch, 1e-3, 900.0, 10.0, 0.0, 5.0))
        log.append(
            Validated(
                step=100 * epoch,
                epoch=epoch,
                pauc=0.9,
                eer=0.1,
                frr=0.2 / epoch,
                frr_low=0.0,
                frr_high=0.4,
                clips=10,
                fah=1.0,
                hours=1.0,
                target_fah=1.0,
                threshold=0.5,
                det_area=0.1,
                best=True,
            )
        )
    log.close()
    Outcomes.of(CLIPS, POINT, DetectorSettings(), 0.08).write(run.outcomes)
    return run


def test_a_run_is_drawn_as_png_and_svg(tmp_path: Path) -> None:
    files = draw(report(), trained(tmp_path), tmp_path / "plots")
    assert {path.name for path in files} == {
        f"{name}.{kind}" for name in ("det", "scores", "training") for kind in ("png", "svg")
    }
    for path in files:
        start = path.read_bytes()[:200]
        assert start.startswith(b"\x89PNG") if path.suffix == ".png" else b"<?xml" in start


def test_a_checkpoint_without_its_run_has_its_det_curve(tmp_path: Path) -> None:
    assert [path.name for path in draw(report(), None, tmp_path)] == ["det.png", "det.svg"]


def test_without_matplotlib_there_is_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(DataError, match=r"wakeword-tui\[plots\]"):
        draw(report(), None, tmp_path)


def test_scores_are_of_clean_words_and_of_all_whole_negatives(tmp_path: Path) -> None:
    """Counted are ann's clean word, and the negatives of two cohorts; noise and halves are not."""
    cohorts = [(True, "clean"), (True, "0 dB"), (False, "other words"), (False, "speech"),
               (False, "half words")]  # fmt: skip
    clips = [ClipScore(0.5, 0.5, positive, "ann", cohort) for positive, cohort in cohorts]
    run = Workspace(tmp_path).create(Recipe())
    Outcomes.of(clips, POINT, DetectorSettings(), 0.08).write(run.outcomes)
    drawn = scores(run, 0.5).axes[0].containers
    others, words = (sum(bar.get_height() for bar in bars) for bars in drawn)
    assert (words, others) == (1, 2)
