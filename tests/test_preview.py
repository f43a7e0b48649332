from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import ignore, tiny_recipe

from engine.cost import Cost
from engine.dataset import pack, read
from engine.errors import CheckpointError, DataError
from engine.jobs import Control, Stopped
from engine.preview import Audio, Pace, look, preview, run_mb, timing
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
    """Words last 0.8 s after 2.3 s and before 1 s: 4.1 s.

    A split has 2 wake words, each heard in 9 conditions, 2 others, and 13 s of stream: 95.0 s. The
    search hears the training negatives, 43.8 s, after the first of two epochs. Both epochs are
    validated, and what is shipped once more, its 13 s of stream at 0.9, 0.95, 1.05 and 1.1 of their
    speed too: 52.33 s; then comes the test. Of six epochs the mean of the best two is heard too.
    """
    audio = look(tiny_recipe(tiny_data), tmp_path, control=Control())
    assert audio.scored_s == pytest.approx(3 * 95.0 + 52.33 + 43.8 + 95.0, abs=0.01)
    longer = tiny_recipe(tiny_data, {"train.epochs": 6})
    assert look(longer, tmp_path, control=Control()).scored_s == pytest.approx(
        8 * 95.0 + 52.33 + 5 * 43.8 + 95.0, abs=0.01
    )


def test_the_time_of_a_training_is_that_of_its_steps_and_of_what_it_scores() -> None:
    """2 epochs of 5 steps of 8 clips at 100 a second; 500 s of audio at 1000 a second."""
    changes = {"train.epochs": 2, "train.steps_per_epoch": 5, "train.batch_size": 8}
    audio = Audio({}, 0.0, cached=True, scored_s=500.0, lacks="")
    assert PACE.training_s(override(Recipe(), changes), audio) == pytest.approx(0.8 + 0.5)


def test_words_are_learned_at_the_pace_of_the_student() -> None:
    """50 steps of 8 clips at 100 a second, before the 10 of the training."""
    changes = {"train.epochs": 2, "train.steps_per_epoch": 5, "train.batch_size": 8}
    audio = Audio({}, 0.0, cached=True, scored_s=0.0, lacks="", words_steps=50)
    assert PACE.training_s(override(Recipe(), changes), audio) == pytest.approx(4.0 + 0.8)


def test_teachers_are_asked_in_every_step_or_once_about_what_is_kept() -> None:
    """20 steps of 8 clips at 100 a second; of the teachers at 10. One view and the plain clips are
    ten batches."""
    changes = {"train.epochs": 4, "train.steps_per_epoch": 5, "train.batch_size": 8}
    audio = Audio({}, 0.0, cached=True, scored_s=0.0, lacks="")
    recipe, pace = override(Recipe(), changes), replace(PACE, asked_per_s=10.0)
    assert pace.training_s(recipe, audio) == pytest.approx(1.6 + 16.0)
    kept = override(recipe, {"distill.views": 1})
    assert pace.training_s(kept, audio) == pytest.approx(1.6 + 8.0)


def test_words_that_are_still_to_be_learned_are_looked_for(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_data, {"train.words_steps": 6})
    assert look(recipe, tmp_path, control=Control()).words_steps == 6
    assert look(tiny_recipe(tiny_data), tmp_path, control=Control()).words_steps == 0


def test_nothing_is_fetched_for_a_preview(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_data, {"model.arch": "wav2vec2", "model.pretrained": "no/such"})
    with pytest.raises(CheckpointError, match="no/such is not fetched yet"):
        preview([recipe], Workspace(tmp_path), emit=ignore, control=Control())


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


def test_a_run_takes_its_weights_several_times_and_a_fourier_bank() -> None:
    """1 MiB of weights: 4 and 5 kept ones in last.ckpt, and 3 files; a bank of 2 x 257 x 400.

    Of two epochs the best one is kept.
    """
    size = Cost(1, 1, 1.0, int8_kb=256, float_kb=1024, ram_int8_kb=1, ram_float_kb=4)
    assert run_mb(Recipe(), size) == pytest.approx(12 + 4 * 514 * 400 / 2**20)
    short = override(Recipe(), {"train.epochs": 2})
    assert run_mb(short, size) == pytest.approx(8 + 4 * 514 * 400 / 2**20)


def test_no_time_is_given_where_no_training_can_begin(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_data, {"data.wakeword": "bep"})
    found = preview([recipe], Workspace(tmp_path / "home"), emit=ignore, control=Control())
    assert found.cost.parameters > 0
    assert (found.pace, found.training_s) == (None, None)
    assert found.why == "no clips of the wake word 'bep'; the words here: beep, boop"
    assert found.audio.lacks == found.why
    assert not (tmp_path / "home").exists()


def test_a_missing_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.manifest is not set"):
        preview([Recipe()], Workspace(tmp_path), emit=ignore, control=Control())


def test_beside_a_training_no_time_is_taken(tiny_data: Path, tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    with home.lock():
        found = preview([tiny_recipe(tiny_data)], home, emit=ignore, control=Control())
    assert found.pace is None
    assert "is training" in found.why
