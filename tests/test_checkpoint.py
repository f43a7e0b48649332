import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.checkpoint import (
    HASH_BYTES,
    VERSION,
    Checkpoint,
    heard_elsewhere,
    is_recipe_of,
    load,
    load_weights,
    save,
    set_operating_point,
    sha256,
)
from engine.errors import CheckpointError, DataError
from engine.features import LogMel, statistics
from engine.metrics import OperatingPoint, StreamScores
from engine.models import build
from engine.recipe import DetectorSettings, Evaluate, Recipe
from engine.recipe_file import dump, override
from engine.report import ClipScore, measure

SMALL = override(Recipe(), {"model.width": 0.25, "name": "small"})


def made(recipe: Recipe = SMALL, **changes: Any) -> Checkpoint:
    torch.manual_seed(0)
    model, features = build(recipe), LogMel(recipe.features)
    features.fit(0.1 * torch.randn(4, 24_000))
    checkpoint = Checkpoint(
        recipe=dump(recipe),
        statistics=statistics(features),
        weights=model.state_dict(),
        operating_point={"threshold": 0.7, "target_fah": 1.0},
        provenance={"engine": "0"},
        event_number=7,
    )
    return replace(checkpoint, **changes)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "best.ckpt"
    save(path, made())
    return path


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    model = build(SMALL)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    trainer = {"optimiser": optimiser.state_dict(), "position": {"step": 3}, "hard": []}
    original = made(trainer=trainer, ema=model.state_dict(), validation="{}")
    save(tmp_path / "last.ckpt", original)
    again = load(tmp_path / "last.ckpt")
    for name in ("weights", "ema", "statistics"):
        ours, theirs = getattr(original, name), getattr(again, name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    for name in ("recipe", "operating_point", "provenance", "event_number", "trainer"):
        assert getattr(original, name) == getattr(again, name)


def test_a_checkpoint_describes_itself(stored: Path) -> None:
    """Recipe, model, front end and threshold come from the file alone."""
    checkpoint, original = load(stored), made()
    assert checkpoint.settings() == SMALL
    assert checkpoint.threshold().threshold == 0.7
    waveform = torch.randn(2, 24_000, generator=torch.Generator().manual_seed(1))
    frames = checkpoint.features()(waveform)
    assert torch.equal(frames, original.features()(waveform))
    with torch.inference_mode():
        window = frames[..., :148]
        assert torch.equal(checkpoint.model()(window), original.model()(window))


def test_its_hash_stands_at_its_head_and_the_rest_loads_with_weights_only(stored: Path) -> None:
    raw = stored.read_bytes()
    assert sha256(stored) == raw[:HASH_BYTES].decode()
    content = torch.load(io.BytesIO(raw[HASH_BYTES:]), weights_only=True)
    assert content["version"] == VERSION


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_one_damaged_byte_anywhere_is_refused(stored: Path, place: float, flip: int) -> None:
    raw = bytearray(stored.read_bytes())
    raw[int(place * len(raw))] ^= flip
    damaged = stored.with_name("damaged.ckpt")
    damaged.write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"damaged\.ckpt is damaged"):
        load(damaged)


@pytest.mark.parametrize("at", [0, HASH_BYTES - 1, HASH_BYTES, -1])
def test_the_first_and_last_bytes_of_hash_and_data_are_guarded_too(stored: Path, at: int) -> None:
    raw = bytearray(stored.read_bytes())
    raw[at] ^= 0x20  # turns a letter of the hash into its capital
    damaged = stored.with_name("damaged.ckpt")
    damaged.write_bytes(raw)
    with pytest.raises(CheckpointError, match="damaged"):
        load(damaged)


@given(st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused(stored: Path, share: float) -> None:
    raw = stored.read_bytes()
    cut = stored.with_name("cut.ckpt")
    cut.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(CheckpointError):
        load(cut)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file") as caught:
        load(tmp_path / "none.ckpt")
    assert "train first" in caught.value.hint


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt", made(version=99))
    with pytest.raises(CheckpointError, match="of version 99, this engine reads 2"):
        load(tmp_path / "a.ckpt")


def test_weights_of_another_architecture_are_refused_and_named() -> None:
    other = build(override(SMALL, {"model.arch": "mobilenetv3"}))
    with pytest.raises(CheckpointError, match=r"weights are of another model: .*stem"):
        load_weights(other, made().weights)


def test_weights_of_another_width_are_refused() -> None:
    with pytest.raises(CheckpointError, match="another model"):
        load_weights(build(override(SMALL, {"model.width": 0.5})), made().weights)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"train.lr": 0.1, "name": "fork"}, True),
        ({"model.width": 0.5}, False),
        ({"features.mels": 32}, False),
    ],
)
def test_a_checkpoint_fits_a_recipe_of_the_same_features_and_model(
    changes: dict[str, Any], same: bool
) -> None:
    assert is_recipe_of(made(), override(SMALL, changes)) is same


@pytest.mark.parametrize("key", ["data.manifest", "data.sources", "data.train_sources"])
def test_data_is_the_same_however_its_place_is_spelt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Of another fold, or trained on whole: as a folder, its manifest, a link, a relative path."""
    clips, other = tmp_path / "clips", tmp_path / "other"
    clips.mkdir()
    (clips / "manifest.csv").touch()
    (tmp_path / "link").symlink_to(clips)
    monkeypatch.chdir(tmp_path)

    def of(key: str, place: Path, fold: int) -> Recipe:
        named = str(place) if key == "data.manifest" else [str(place)]
        return override(SMALL, {key: named, "data.fold": fold})

    for place in (clips, clips / "manifest.csv", tmp_path / "link", Path("clips")):
        assert heard_elsewhere(of(key, clips, 0), of("data.manifest", place, 1))
        assert heard_elsewhere(of(key, place, 0), of("data.sources", clips, 1))
        assert not heard_elsewhere(of(key, place, 0), of("data.manifest", other, 1))
    whole = key == "data.train_sources"
    assert heard_elsewhere(of(key, clips, 0), of("data.manifest", Path("clips"), 0)) == whole


def test_there_is_no_threshold_before_the_first_validation() -> None:
    with pytest.raises(CheckpointError, match="no operating point"):
        made(operating_point=None).threshold()
    with pytest.raises(CheckpointError, match="not measured"):
        made().validated()


def test_another_operating_point_brings_its_own_validation_and_changes_nothing_else(
    tmp_path: Path,
) -> None:
    """Thresholds of a sweep, [threshold, alarms, missed], over 1 h: at 0.9 no alarm, 1 missed."""
    words = [ClipScore(score, score, True, "ann") for score in (0.95, 0.8)]
    stream = StreamScores(np.array([0.0, 0.85, 0.0]), 3600.0)
    rules, point = DetectorSettings(), OperatingPoint(0.5, 1.0)
    measured = measure(words, [stream], point, rules, 0.08, Evaluate(), thresholds=[0.9, 0.5])
    path = tmp_path / "best.ckpt"
    save(path, replace(made(), validation=measured.to_json()))
    written = sha256(path)
    set_operating_point(path, 0.5, 0.5)
    set_operating_point(path, 0.9, 0.5)
    again = load(path)
    assert again.origin == written != sha256(path)
    assert again.operating_point == {"threshold": 0.9, "target_fah": 0.5}
    assert (again.validated().false_alarms, again.validated().missed) == (0, 1)
    assert all(torch.equal(value, again.weights[key]) for key, value in made().weights.items())


def test_a_full_disk_leaves_the_old_checkpoint(small_disk: Path) -> None:
    path = small_disk / "last.ckpt"
    save(path, Checkpoint("", {}, {}, None, {}, 1))
    before = path.read_bytes()
    with pytest.raises(DataError, match="the disk is full"):
        save(path, made(override(SMALL, {"model.width": 1.0})))
    assert path.read_bytes() == before
    assert load(path).event_number == 1
