"""The whole story in seconds: a phrase is spoken, trained on, measured, and heard in a clip."""

import shutil

import numpy as np
import pytest
import torch
from tiny import Trained, ignore

from engine import audio
from engine.audio import SAMPLE_RATE, Waveform
from engine.checkpoint import load, set_operating_point
from engine.dataset import read, split_of
from engine.detector import Detection, Detector
from engine.evaluate import evaluate
from engine.events import Event, Validated
from engine.features import grid
from engine.jobs import Control
from engine.manifest import Clip
from engine.outcomes import Outcomes
from engine.recipe import Recipe
from engine.recipe_file import override
from engine.report import CLEAN, Report
from engine.runs import Workspace
from engine.scorer import Scorer
from engine.synth import Amounts, synth
from engine.train import train

LITTLE = Amounts(
    voices=60, takes=1, confusables=40, partials=20, speech_minutes=4.0, noises=1, rooms=1
)
SETTINGS = {
    "data.wakeword": "hey-jarvis",
    "model.width": 0.5,
    "train.epochs": 4,
    "train.steps_per_epoch": 40,
    "train.batch_size": 32,
    "train.threads": 1,
    "train.device": "cpu",
    "evaluate.target_fah": 30.0,
    "evaluate.latency_runs": 20,
}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("story")
    made = synth(("hey jarvis",), folder / "data", amounts=LITTLE, emit=ignore, control=Control())
    recipe = override(Recipe(), {**SETTINGS, "data.manifest": str(made.folder / "manifest.csv")})
    home, events, threads = Workspace(folder / "home"), list[Event](), torch.get_num_threads()
    run = home.create(recipe)
    train(recipe, run, home, emit=events.append, control=Control())
    torch.set_num_threads(threads)
    return Trained(recipe, run, home, events)


def clips_of_test(story: Trained, label: str) -> list[Clip]:
    """The clips of a label in the test split."""
    clips = read(story.recipe.data)
    return [c for c in clips if c.label == label and split_of(c, 0) == "test"]


def detections(story: Trained, waveform: Waveform) -> list[Detection]:
    """What the best checkpoint hears in a waveform, fed in blocks of 0.1 s as from a microphone."""
    checkpoint = load(story.run.best)
    scorer, lattice = Scorer.of(checkpoint), grid(story.recipe.features)
    threshold = checkpoint.threshold().threshold
    detector = Detector(story.recipe.detector, threshold, lattice.hop_s)
    heard, time_s = list[Detection](), lattice.window_s
    for block in np.array_split(waveform, len(waveform) // 1600):
        for score in scorer.push(block):
            detection = detector.push(float(score), time_s)
            heard += [detection] if detection else []
            time_s += lattice.hop_s
    return heard


def test_the_detector_learns(story: Trained) -> None:
    checks = [event for event in story.events if isinstance(event, Validated)]
    eers = [event.eer for event in checks if not event.averaged and event.hearings == 1]
    assert len(eers) == 4
    assert min(eers) < 0.3


def test_the_best_checkpoint_measured_again_is_as_its_report_says(story: Trained) -> None:
    report = Report.from_json(story.run.report.read_text())
    again = evaluate(story.run.best, None, story.home, emit=ignore, control=Control())
    assert again.test == report.test
    assert again.operating_point == report.operating_point
    assert again.checkpoint_sha256 == report.checkpoint_sha256
    assert report.test.clips == len(clips_of_test(story, "hey-jarvis"))


def test_its_outcomes_are_kept_and_are_what_its_report_counts(story: Trained) -> None:
    report = Report.from_json(story.run.report.read_text())
    outcomes = Outcomes.read(story.run.outcomes)
    assert outcomes.point == report.operating_point
    assert (
        outcomes.wrong[outcomes.positive & (outcomes.cohort == CLEAN)].sum() == report.test.missed
    )
    again = story.run.path / "again.npz"
    evaluate(story.run.best, None, story.home, emit=ignore, control=Control(), outcomes_path=again)
    assert np.array_equal(Outcomes.read(again).wrong, outcomes.wrong)


def test_a_threshold_that_was_moved_can_be_moved_back_to_what_was_shipped(story: Trained) -> None:
    shipped, moved = load(story.run.best), story.run.path / "moved.ckpt"
    shutil.copy(story.run.best, moved)
    point, validation = shipped.threshold(), shipped.validated()
    set_operating_point(moved, validation.sweep[-1][0], 10.0)
    set_operating_point(moved, point.threshold, point.target_fah)
    again = load(moved).validated()
    assert load(moved).threshold() == point
    counts = (validation.false_alarms, validation.missed)
    assert (again.false_alarms, again.missed) == counts


def test_outcomes_are_told_at_the_threshold_of_the_report_beside_them(story: Trained) -> None:
    """The checkpoint's threshold is moved to the lowest of its sweep."""
    kept, moved = Outcomes.read(story.run.outcomes), story.run.path / "moved.ckpt"
    shutil.copy(story.run.best, moved)
    set_operating_point(moved, load(moved).validated().sweep[-1][0], 1.0)
    again = story.run.path / "again.npz"
    tested = evaluate(
        moved,
        None,
        story.home,
        emit=ignore,
        control=Control(),
        outcomes_path=again,
        reported=kept.point,
    )
    assert tested.operating_point != kept.point
    told = Outcomes.read(again)
    assert (told.point, told.false_alarms) == (kept.point, kept.false_alarms)
    assert np.array_equal(told.wrong, kept.wrong)


def test_a_wake_word_of_an_unseen_voice_is_heard_once_and_when_it_was_said(
    story: Trained,
) -> None:
    """Each test clip after 2 s and before 1 s of a soft hiss; most of them are heard."""
    hits, clips = 0, clips_of_test(story, "hey-jarvis")
    hiss = np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE).astype(np.float32) * 1e-3
    for clip in clips:
        word = audio.read(clip.path)
        stretch = np.concatenate([hiss[: 2 * SAMPLE_RATE], word, hiss[2 * SAMPLE_RATE :]])
        assert clip.start_s is not None
        assert clip.end_s is not None
        within = (2 + clip.start_s, 2 + clip.end_s + 0.5)
        hits += [within[0] <= d.time_s <= within[1] for d in detections(story, stretch)] == [True]
    assert hits >= len(clips) / 3
