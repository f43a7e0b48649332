from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import SETTINGS, groups, hiss, ignore, seconds, tiny_recipe, tone
from torch import Tensor

from engine import audio
from engine.batches import Batches, step_generator
from engine.dataset import Pack, pack, read, require, select
from engine.errors import DataError
from engine.jobs import Control
from engine.recipe import Recipe
from engine.recipe_file import override

CPU = torch.device("cpu")
# Nothing added and nothing changed, but backgrounds 30 dB down at the least.
BARE = {
    "augment.speed": 0.0,
    "augment.room": 0.0,
    "augment.noise": 0.0,
    "augment.gain_db": 0.0,
    "augment.softer_db": 0.0,
}


@pytest.fixture(scope="module")
def packed(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    recipe = tiny_recipe(tiny_data)
    return pack(read(recipe.data), tmp_path_factory.mktemp("cache"), emit=ignore, control=Control())


def drawn_from(
    packed: Pack, data: Path, changes: Mapping[str, Any] | None = None
) -> tuple[Batches, Recipe]:
    recipe = tiny_recipe(data, {"train.batch_size": 40, **(changes or {})})
    return Batches(packed, select(packed, recipe.data, "train"), recipe, CPU), recipe


def small_pack(
    folder: Path, rows: list[tuple[str, str, np.ndarray[Any, np.dtype[np.float32]]]]
) -> tuple[Pack, Recipe]:
    """Pack clips given as (label, place of the word, samples), all of them for training."""
    lines = ["path,label,group,split,start_s,end_s"]
    for number, (label, place, waveform) in enumerate(rows):
        audio.write(folder / f"{number}.wav", waveform)
        lines.append(f"{number}.wav,{label},g{number},train,{place or ','}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    recipe = override(Recipe(), {**SETTINGS, "data.manifest": str(folder / "manifest.csv")})
    return pack(read(recipe.data), folder / "cache", emit=ignore, control=Control()), recipe


# --- the same, and not the same


@given(seed=st.integers(0, 1000), epoch=st.integers(0, 50), step=st.integers(0, 5000))
@settings(max_examples=10)
def test_seed_epoch_and_step_make_the_batch(
    packed: Pack, tiny_data: Path, seed: int, epoch: int, step: int
) -> None:
    changes = {"train.seed": seed, "train.batch_size": 8}
    (one, _), (other, _) = (drawn_from(packed, tiny_data, changes) for _ in range(2))
    other.draw(epoch, step + 1)
    waveform, labels = one.draw(epoch, step)
    again, labels_again = other.draw(epoch, step)
    assert torch.equal(waveform, again)
    assert torch.equal(labels, labels_again)


@pytest.mark.parametrize(("epoch", "step", "seed"), [(0, 1, 0), (1, 0, 0), (0, 0, 1)])
def test_another_step_epoch_or_seed_makes_another_batch(
    packed: Pack, tiny_data: Path, epoch: int, step: int, seed: int
) -> None:
    batches, _ = drawn_from(packed, tiny_data)
    others, _ = drawn_from(packed, tiny_data, {"train.seed": seed})
    assert not torch.equal(batches.draw(0, 0)[0], others.draw(epoch, step)[0])


def test_generators_of_two_purposes_differ() -> None:
    one, other = (step_generator(0, 1, 2, purpose) for purpose in ("batch", "masks"))
    assert not torch.equal(torch.rand(9, generator=one), torch.rand(9, generator=other))


# --- what is in a batch


@pytest.mark.parametrize(("share", "positives"), [(0.3, 12), (0.5, 20), (0.001, 1)])
def test_labels_count_as_the_recipe_says(
    packed: Pack, tiny_data: Path, share: float, positives: int
) -> None:
    """0.3 x 40 = 12; there is always one."""
    batches, _ = drawn_from(packed, tiny_data, {"train.positive_share": share})
    waveform, labels = batches.draw(0, 0)
    assert waveform.shape == (40, batches.grid.window_samples)
    assert labels.tolist() == [1.0] * positives + [0.0] * (40 - positives)


def test_waveforms_are_finite_and_within_full_scale(packed: Pack, tiny_data: Path) -> None:
    batches, _ = drawn_from(packed, tiny_data, {"augment.gain_db": 40.0})
    for step in range(5):
        waveform, _ = batches.draw(0, step)
        assert waveform.isfinite().all()
        assert waveform.abs().max() <= 1.0


@pytest.mark.parametrize("batch_size", [2, 3, 4, 7])
def test_a_batch_may_be_as_small_as_the_recipe_allows(
    packed: Pack, tiny_data: Path, batch_size: int
) -> None:
    batches, _ = drawn_from(packed, tiny_data, {"train.batch_size": batch_size})
    for step in range(20):
        assert batches.draw(0, step)[0].shape[0] == batch_size


@pytest.mark.parametrize("kinds", [["boop"], ["speech"], ["noise"], ["boop", "noise"]])
@pytest.mark.parametrize("batch_size", [2, 4, 32])
def test_negatives_are_drawn_from_what_there_is(
    tmp_path: Path, kinds: list[str], batch_size: int
) -> None:
    others = [(kind, "0.1,0.6" if kind == "boop" else "", hiss(3.0, 2)) for kind in kinds]
    rows = [("beep", "0,0.5", hiss(0.5, 1)), *others]
    packed, recipe = small_pack(tmp_path, rows)
    recipe = override(recipe, {"train.batch_size": batch_size})
    batches = Batches(packed, select(packed, recipe.data, "train"), recipe, CPU)
    assert all(len(batches.draw(0, step)[0]) == batch_size for step in range(10))
    assert batches.plain(6).isfinite().all()


def test_training_needs_some_negatives(tmp_path: Path) -> None:
    """Streams to measure on are there; nothing but wake words is left to train on."""
    lines = ["path,label,split,start_s,end_s"]
    for seed, split in enumerate(("train", "validation", "test")):
        audio.write(tmp_path / f"{split}.wav", hiss(0.5, seed))
        lines.append(f"{split}.wav,beep,{split},0,0.5")
    for split in ("validation", "test"):
        audio.write(tmp_path / f"{split}-speech.wav", hiss(2.0, 2))
        lines.append(f"{split}-speech.wav,speech,{split},,")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    recipe = tiny_recipe(tmp_path)
    packed = pack(read(recipe.data), tmp_path / "cache", emit=ignore, control=Control())
    with pytest.raises(DataError, match="the train split has no negatives"):
        require(packed, recipe.data)


def clicks(waveform: Tensor) -> list[tuple[int, int]]:
    """First and last sample of each window at which it is more than half as loud as at most."""
    loud = waveform.abs() > 0.5 * waveform.abs().amax(dim=1, keepdim=True)
    return [(int(at[0]), int(at[-1])) for row in loud for at in [row.nonzero()[:, 0]]]


@pytest.mark.parametrize("word_s", [0.2, 0.6, 0.9, 1.1])
@pytest.mark.parametrize("speed", [0.0, 1.0])
def test_a_positive_window_always_holds_the_whole_word(
    tmp_path: Path, word_s: float, speed: float
) -> None:
    """The word begins and ends with a click; they are `word_s` / speed apart in every window."""
    word = np.zeros(seconds(word_s), dtype=np.float32)
    word[0] = word[-1] = 0.9
    rows = [("beep", f"0.4,{0.4 + word_s}", np.pad(word, (seconds(0.4), seconds(0.2))))]
    packed, recipe = small_pack(tmp_path, [*rows, ("speech", "", hiss(4.0, 3, 0.01))])
    recipe = override(recipe, {**BARE, "augment.speed": speed, "train.batch_size": 60})
    batches = Batches(packed, select(packed, recipe.data, "train"), recipe, CPU)
    waveform, labels = batches.draw(0, 0)
    ratios = [a / b for a, b in batches.speed.bank] if speed else [1.0]
    lengths = [seconds(word_s) / ratio for ratio in ratios]
    found = clicks(waveform[labels == 1])
    assert len(found) == 18
    for first, last in found:
        assert min(abs(last - first - length) for length in lengths) < 4


@pytest.mark.parametrize("shift_ms", [0, 100, 300])
def test_a_positive_window_ends_up_to_the_shift_after_the_word(
    tmp_path: Path, shift_ms: int
) -> None:
    word = np.zeros(seconds(0.5), dtype=np.float32)
    word[0] = word[-1] = 0.9
    rows = [("beep", "0.4,0.9", np.pad(word, (seconds(0.4), seconds(0.5))))]
    packed, recipe = small_pack(tmp_path, [*rows, ("speech", "", hiss(4.0, 3, 0.01))])
    changes = {**BARE, "augment.shift_ms": shift_ms, "train.batch_size": 200}
    recipe = override(recipe, changes)
    batches = Batches(packed, select(packed, recipe.data, "train"), recipe, CPU)
    waveform, labels = batches.draw(0, 0)
    after = [batches.grid.window_samples - 1 - last for _, last in clicks(waveform[labels == 1])]
    assert min(after) >= 0
    assert max(after) <= shift_ms * 16
    assert max(after) - min(after) >= 0.8 * shift_ms * 16


def test_the_warm_up_of_pcen_makes_room_for_no_more_of_a_word(tmp_path: Path) -> None:
    """The word starts 1.4 s before its window ends at the earliest: the model sees 1.495 s."""
    word = np.zeros(seconds(1.4), dtype=np.float32)
    word[0] = word[-1] = 0.9
    rows = [("beep", "0.4,1.8", np.pad(word, (seconds(0.4), seconds(0.5))))]
    packed, recipe = small_pack(tmp_path, [*rows, ("speech", "", hiss(4.0, 3, 0.01))])
    recipe = override(recipe, {**BARE, "features.normalise": "pcen", "train.batch_size": 100})
    batches = Batches(packed, select(packed, recipe.data, "train"), recipe, CPU)
    waveform, labels = batches.draw(0, 0)
    assert waveform.shape == (100, batches.grid.window_samples)
    for first, _ in clicks(waveform[labels == 1]):
        assert first >= batches.grid.warmup_frames * 160


def test_no_audio_of_validation_or_test_is_ever_drawn(tmp_path: Path) -> None:
    """Training clips are steady; all others alternate in sign, so their trace would show.

    A window times (1, -1, 1, ...) keeps the alternating part and averages out the steady one.
    """
    lines, split = ["path,label,group"], {}
    for label, length_s in (("beep", 0.6), ("boop", 0.6), ("speech", 4), ("noise", 4)):
        for index, group in enumerate(groups(label, 1)):
            split[group] = "train" if index >= 2 else "other"  # fold 0 tests, fold 1 validates
            steady = np.full(seconds(length_s), 0.2, dtype=np.float32)
            wave = steady if index >= 2 else steady * np.resize([1.0, -1.0], len(steady))
            audio.write(tmp_path / f"{group}.wav", wave.astype(np.float32))
            lines.append(f"{group}.wav,{label},{group}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    recipe = tiny_recipe(tmp_path, {**BARE, "augment.noise": 1.0, "train.batch_size": 200})
    packed = pack(read(recipe.data), tmp_path / "cache", emit=ignore, control=Control())
    batches = Batches(packed, select(packed, recipe.data, "train"), recipe, CPU)
    sign = torch.ones(batches.grid.window_samples)
    sign[1::2] = -1
    drawn = torch.cat([batches.draw(0, step)[0] for step in range(3)] + [batches.plain(50)])
    assert (drawn * sign).mean(dim=1).abs().max() < 1e-3
    assert drawn.abs().mean(dim=1).min() > 0.01


def test_a_window_that_reaches_beyond_its_clip_holds_nothing_of_the_next(tmp_path: Path) -> None:
    """A soft clip between two loud ones: the loud ones would be seen at its edges."""
    loud, soft = np.full(8000, 0.9, dtype=np.float32), np.full(8000, 0.01, dtype=np.float32)
    rows = [("boop", "0,0.5", loud), ("beep", "0,0.5", soft), ("boop", "0,0.5", loud)]
    packed, recipe = small_pack(tmp_path, rows)
    recipe = override(recipe, {**BARE, "train.batch_size": 50})
    batches = Batches(packed, select(packed, recipe.data, "train"), recipe, CPU)
    waveform, labels = batches.draw(0, 0)
    assert waveform[labels == 1].abs().max() < 0.1


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({**BARE, "augment.speed": 1.0}, True),
        ({**BARE, "augment.room": 1.0}, True),
        ({**BARE, "augment.noise": 1.0}, True),
        ({**BARE, "augment.pitch": 1.0}, True),
        ({**BARE, "augment.far": 1.0}, True),
        ({**BARE, "augment.telephone": 1.0}, True),
        ({**BARE, "augment.clipping": 1.0}, True),
        ({**BARE, "augment.gain_db": 12.0}, True),
        ({**BARE, "augment.softer_db": 30.0}, True),
        (BARE, False),
    ],
)
def test_each_augmentation_changes_the_batch(
    packed: Pack, tiny_data: Path, changes: dict[str, float], differs: bool
) -> None:
    plain, _ = drawn_from(packed, tiny_data, BARE)
    other, _ = drawn_from(packed, tiny_data, changes)
    assert torch.equal(plain.draw(0, 0)[0], other.draw(0, 0)[0]) is not differs


@pytest.mark.parametrize(
    ("louder_db", "softer_db", "middle_db", "widest_db"),
    [(0.0, 30.0, -15.0, 15.0), (6.0, 20.0, -7.0, 13.0), (6.0, 6.0, 0.0, 6.0)],
)
def test_levels_are_drawn_from_all_of_the_range(
    packed: Pack,
    tiny_data: Path,
    louder_db: float,
    softer_db: float,
    middle_db: float,
    widest_db: float,
) -> None:
    """Against the same batch at its own level; uniform in dB, so the middle of it is the mean."""
    changes = {**BARE, "train.batch_size": 400, "augment.gain_db": louder_db}
    plain, _ = drawn_from(packed, tiny_data, {**BARE, "train.batch_size": 400})
    other, _ = drawn_from(packed, tiny_data, {**changes, "augment.softer_db": softer_db})
    levels = [batches.draw(0, 0)[0].square().mean(dim=1) for batches in (plain, other)]
    change_db = 10 * torch.log10(levels[1] / levels[0])
    assert float(change_db.mean()) == pytest.approx(middle_db, abs=1.5)
    assert float((change_db - middle_db).abs().max()) == pytest.approx(widest_db, abs=0.5)


def test_a_range_too_narrow_for_any_speed_leaves_the_speed(packed: Pack, tiny_data: Path) -> None:
    """The first of the bank is 5 % away."""
    as_it_is, _ = drawn_from(packed, tiny_data, {"augment.speed": 0.0})
    narrow, _ = drawn_from(packed, tiny_data, {"augment.speed_range": 0.03})
    assert torch.equal(narrow.draw(0, 0)[0], as_it_is.draw(0, 0)[0])


def test_hard_windows_take_their_share_of_the_negatives(packed: Pack, tiny_data: Path) -> None:
    """0.3 of 28 negatives are 8; drawn from one place they are all alike but for the noise."""
    batches, recipe = drawn_from(packed, tiny_data, {**BARE, "train.hard_share": 0.3})
    speech = select(packed, recipe.data, "train").speech[0]
    stop = torch.tensor([speech.offset + 40_000])
    begin, end = torch.tensor([speech.offset]), torch.tensor([speech.offset + speech.samples])
    batches.hard = type(batches.hard)(begin, end, stop, stop)
    waveform, _ = batches.draw(0, 0)
    expected = torch.from_numpy(packed.audio[int(stop) - 23_920 : int(stop)].astype(np.float32))
    alike = torch.cosine_similarity(waveform, expected[None], dim=1)
    assert int((alike > 0.99).sum()) == 8


# --- noise that is really mixed


def tonal_pack(folder: Path) -> tuple[Pack, Recipe]:
    """A word at 1 kHz, noises at 3 kHz and 5 kHz: what is mixed can be told apart again."""
    word = np.pad(tone(1000, 1.0, 0.3), (seconds(0.5), seconds(0.5)))
    noises = [("noise", "", tone(hz, 6.0, 0.1)) for hz in (3000, 5000)]
    return small_pack(folder, [("beep", "0.5,1.5", word), *noises])


def power_at(waveform: Tensor, hz: float) -> Tensor:
    """Power `(B,)` of a window within 200 Hz of a frequency."""
    spectrum = torch.fft.rfft(waveform).abs().square()
    hertz = torch.fft.rfftfreq(waveform.shape[1], 1 / 16_000)
    return spectrum[:, (hertz - hz).abs() < 200].sum(dim=1)


@pytest.mark.parametrize(
    ("epoch", "low", "high"), [(0, 14, 20), (2, 9, 15), (4, 4, 10), (5, 4, 10)]
)
@pytest.mark.parametrize("noises", [1, 3])
def test_the_ratio_of_each_epoch_is_the_one_that_is_mixed(
    tmp_path: Path, epoch: int, low: float, high: float, noises: int
) -> None:
    """4 to 10 dB, in the first of six epochs 10 dB easier, and none from the fifth on.

    The word fills 1 s of 1.495 s: over the window its power is lower by that share.
    """
    packed, recipe = tonal_pack(tmp_path)
    changes = {**BARE, "augment.noise": 1.0, "augment.noises": noises, "augment.shift_ms": 0}
    schedule = {"augment.snr_low_db": 4.0, "augment.snr_high_db": 10.0, "train.epochs": 6}
    linear = {"augment.snr_schedule": "linear", "train.batch_size": 128}
    recipe = override(recipe, {**changes, **schedule, **linear})
    batches = Batches(packed, select(packed, recipe.data, "train"), recipe, CPU)
    waveform, labels = batches.draw(epoch, 0)
    waveform = waveform[labels == 1]
    word, background = power_at(waveform, 1000), power_at(waveform, 3000) + power_at(waveform, 5000)
    ratio_db = 10 * torch.log10(word / background * batches.grid.window_s)
    assert ratio_db.min() > low - 0.5
    assert ratio_db.max() < high + 0.5
    assert ratio_db.max() - ratio_db.min() > 3


def test_up_to_so_many_backgrounds_are_heard_at_once(tmp_path: Path) -> None:
    """Of one or two, drawn from two noises: both are heard in half of a half."""
    packed, recipe = tonal_pack(tmp_path)
    loud = {**BARE, "augment.noise": 1.0, "train.batch_size": 400, "augment.snr_high_db": 5.0}
    both = []
    for noises in (1, 2):
        recipe = override(recipe, {**loud, "augment.noises": noises})
        batches = Batches(packed, select(packed, recipe.data, "train"), recipe, CPU)
        waveform, labels = batches.draw(0, 0)
        one, other = (power_at(waveform[labels == 1], hz) for hz in (3000, 5000))
        both.append(
            float((torch.minimum(one, other) > 0.01 * torch.maximum(one, other)).float().mean())
        )
    assert both[0] == 0
    assert both[1] == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("word_s", [0.3, 0.8])
def test_at_another_tempo_a_window_still_ends_after_its_word(tmp_path: Path, word_s: float) -> None:
    """A tone of 500 Hz lasts 1/1.35 to 1.35 of its time in the windows, and none is cut off."""
    word = tone(500.0, word_s)
    rows = [("beep", f"0.6,{0.6 + word_s}", np.pad(word, (seconds(0.6), seconds(0.6))))]
    packed, recipe = small_pack(tmp_path, [*rows, ("speech", "", hiss(4.0, 3, 0.01))])
    changes = {**BARE, "augment.tempo": 1.0, "augment.shift_ms": 100, "train.batch_size": 200}
    batches = Batches(packed, select(packed, recipe.data, "train"), override(recipe, changes), CPU)
    waveform, labels = batches.draw(0, 0)
    windows = waveform[labels == 1]
    lengths = [(last - first) / seconds(word_s) for first, last in clicks(windows)]
    assert 0.7 < min(lengths) < 0.8 and 1.25 < max(lengths) < 1.4
    ends = [windows.shape[1] - last for _, last in clicks(windows)]
    assert min(ends) > 0 and max(ends) < seconds(0.1 * 1.35 + 0.05)
    hertz = torch.fft.rfft(windows * torch.hann_window(windows.shape[1])).abs().argmax(dim=1)
    assert (hertz * 16_000 / windows.shape[1] - 500).abs().max() < 10


# --- long words


def test_a_word_longer_than_the_slowest_window_keeps_its_beginning(tmp_path: Path) -> None:
    """1.4 s do not fit into the 1.2 s that make a window at speed 4/5: it is not slowed so far."""
    word = np.zeros(seconds(1.4), dtype=np.float32)
    word[0] = word[-1] = 0.9
    rows = [("beep", "0.2,1.6", np.pad(word, seconds(0.2))), ("speech", "", hiss(4.0, 3, 0.01))]
    packed, recipe = small_pack(tmp_path, rows)
    recipe = override(recipe, {**BARE, "augment.speed": 1.0, "train.batch_size": 100})
    batches = Batches(packed, select(packed, recipe.data, "train"), recipe, CPU)
    waveform, labels = batches.draw(0, 0)
    lengths = {last - first for first, last in clicks(waveform[labels == 1])}
    assert min(lengths) < 20_000
    assert max(lengths) > 22_000


def test_teachers_may_hear_the_clips_before_rooms_and_noise(packed: Pack, tiny_data: Path) -> None:
    """Nothing of what the student hears changes; twice the noise changes nothing of the other."""
    loud = {"augment.noise": 1.0, "augment.snr_low_db": 0.0, "augment.snr_high_db": 0.0}
    same, _ = drawn_from(packed, tiny_data, loud)
    clean, _ = drawn_from(packed, tiny_data, {**loud, "distill.hears": "clean"})
    louder = {"augment.snr_low_db": -6.0, "augment.snr_high_db": -6.0, "distill.hears": "clean"}
    worse, _ = drawn_from(packed, tiny_data, {**loud, **louder})
    heard, _, other = clean.draw_for_both(0, 0)
    assert torch.equal(heard, same.draw(0, 0)[0])
    assert torch.equal(same.draw_for_both(0, 0)[2], heard)
    assert not torch.equal(worse.draw(0, 0)[0], heard)
    assert torch.equal(worse.draw_for_both(0, 0)[2], other)
