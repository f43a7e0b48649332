from pathlib import Path

import pytest
import torch
from tiny import ignore, tiny_recipe

from engine.dataset import pack, read
from engine.errors import DataError
from engine.jobs import Control, Stopped
from engine.preview import Audio, Pace, look, preview, timing
from engine.recipe import Recipe
from engine.recipe_file import override
from engine.runs import Workspace

PACE = Pace("cpu", "packed audio", clips_per_s=100.0, scored_per_s=1000.0, gpu_mb=None)


def test_hours_come_from_the_heads_of_files_and_then_from_the_pack(
    tiny_data: Path, tmp_path: Path
) -> None:
    """Three of five folds train: 6 words of 0.8 s, 3 streams of 8 s, noises of 5 s, rooms of 0.3 s.

    In all 10 + 10 words, 40 s of speech, 25 s of noise and 1.5 s of rooms: 82.5 s of 32,000 bytes.
    """
    recipe = tiny_recipe(tiny_data)
    before = look(recipe, tmp_path, control=Control())
    train_s = {kind: round(3600 * hours, 6) for kind, hours in before.hours["train"].items()}
    assert train_s == {
        "wake word": 4.8, "other words": 4.8, "speech": 24.0, "noise": 15.0, "rooms": 0.9
    }  # fmt: skip
    assert before.cache_mb == pytest.approx(2.64)
    assert not before.cached
    pack(read(recipe.data), tmp_path, emit=ignore, control=Control())
    after = look(recipe, tmp_path, control=Control())
    assert after.cached
    assert (after.hours, after.scored_s) == (before.hours, before.scored_s)


def test_every_epoch_scores_the_validation_split_and_the_search(
    tiny_data: Path, tmp_path: Path
) -> None:
    """A split: 4 words of 0.8 s after 2.3 s and before 1 s, and 13 s of stream: 29.4 s.

    The search hears the training negatives, 43.8 s, after the first of two epochs; then the test.
    """
    audio = look(tiny_recipe(tiny_data), tmp_path, control=Control())
    assert audio.scored_s == pytest.approx(2 * 29.4 + 43.8 + 29.4)


def test_the_time_of_a_training_is_that_of_its_steps_and_of_what_it_scores() -> None:
    """2 epochs of 5 steps of 8 clips at 100 a second; 500 s of audio at 1000 a second."""
    changes = {"train.epochs": 2, "train.steps_per_epoch": 5, "train.batch_size": 8}
    audio = Audio({}, 0.0, cached=True, scored_s=500.0)
    assert PACE.training_s(override(Recipe(), changes), audio) == pytest.approx(0.8 + 0.5)


def test_timing_takes_packed_audio_if_there_is_some(tiny_data: Path, tmp_path: Path) -> None:
    recipe, threads = tiny_recipe(tiny_data), torch.get_num_threads()
    assert timing(recipe, tmp_path, control=Control(), lasts_s=0.01).on == "synthetic audio"
    pack(read(recipe.data), tmp_path, emit=ignore, control=Control())
    pace = timing(recipe, tmp_path, control=Control(), lasts_s=0.01)
    assert (pace.on, pace.gpu_mb) == ("packed audio", None)
    assert pace.clips_per_s > 0
    assert torch.get_num_threads() == threads


def test_timing_stops_at_a_step(tiny_data: Path, tmp_path: Path) -> None:
    control = Control()
    control.stop()
    with pytest.raises(Stopped):
        timing(tiny_recipe(tiny_data), tmp_path, control=control)


def test_without_data_the_model_is_counted_all_the_same(tmp_path: Path) -> None:
    recipe = override(Recipe(), {"train.batch_size": 2, "train.threads": 1, "model.width": 0.25})
    with pytest.raises(DataError):
        look(recipe, tmp_path, control=Control())
    found = preview(recipe, Workspace(tmp_path / "home"), emit=ignore, control=Control())
    assert found.cost.parameters > 0
    assert (found.audio, found.training_s) == (None, None)
    assert found.pace is not None
    assert "data.manifest is not set" in found.why
    assert not (tmp_path / "home").exists()


def test_beside_a_training_no_time_is_taken(tiny_data: Path, tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    with home.lock():
        found = preview(tiny_recipe(tiny_data), home, emit=ignore, control=Control())
    assert found.pace is None
    assert "is training" in found.why
