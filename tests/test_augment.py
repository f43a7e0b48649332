import math
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from engine.augment import (
    QUIET_SNR_DB,
    Tracts,
    active_power,
    add_background,
    draw_snr_db,
    ease_db,
    equalise,
    gain,
    mean_snr_db,
    mix,
    overdrive,
    spec_augment,
    telephone,
)
from engine.features import LogMel
from engine.recipe import Augment, Features

SECOND = 16_000
CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tone(hz: float, samples: int, amplitude: float = 1.0) -> Tensor:
    return amplitude * torch.sin(2 * math.pi * hz * torch.arange(samples) / SECOND)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed))


# --- noise


def test_active_power_is_that_of_the_loud_part_alone() -> None:
    """0.4 s of a tone of amplitude 0.2 has power 0.2^2 / 2 = 0.02, whatever silence is around."""
    word = torch.zeros(1, SECOND)
    word[0, 3200:9600] = tone(1000, 6400, 0.2)
    assert active_power(word).tolist() == pytest.approx([0.02], rel=1e-3)


def test_active_power_of_a_tone_is_its_mean_power() -> None:
    """Amplitude 0.5: 0.5^2 / 2 = 0.125."""
    assert active_power(tone(1000, SECOND, 0.5)[None]).tolist() == pytest.approx([0.125], rel=1e-3)


@given(st.floats(-20, 60), st.floats(0.01, 0.9), st.floats(0.001, 1.0))
def test_the_ratio_that_is_mixed_is_the_one_that_was_asked_for(
    snr_db: float, amplitude: float, level: float
) -> None:
    word = torch.zeros(1, SECOND, dtype=torch.float64)
    word[0, 4800:11200] = tone(800, 6400, amplitude)
    background = level * noise(1, SECOND).double()
    added = mix(word, background, torch.tensor([snr_db], dtype=torch.float64)) - word
    got = 10 * torch.log10((amplitude**2 / 2) / added.square().mean())
    assert float(got) == pytest.approx(snr_db, abs=0.05)


def test_each_clip_of_a_batch_gets_its_own_ratio() -> None:
    """Twice 6.02 dB more noise is four times its power."""
    word, background = tone(800, SECOND)[None].repeat(2, 1), noise(1, SECOND).repeat(2, 1)
    added = mix(word, background, torch.tensor([10.0, 10 - 6.0206])) - word
    power = added.square().mean(dim=1)
    assert float(power[1] / power[0]) == pytest.approx(4.0, rel=1e-3)


def test_a_silent_background_or_clip_stays_finite() -> None:
    silence = torch.zeros(2, SECOND)
    assert mix(silence, silence, torch.tensor([0.0, 20.0])).abs().max() == 0
    assert mix(silence, noise(2, SECOND), torch.tensor([0.0, 20.0])).isfinite().all()


@pytest.mark.parametrize(("share", "low", "high"), [(1.0, 3.0, 9.0), (0.0, *QUIET_SNR_DB)])
def test_ratios_are_drawn_from_the_range_or_hardly_audible(
    share: float, low: float, high: float
) -> None:
    settings = Augment(noise=share, snr_low_db=3.0, snr_high_db=9.0)
    drawn = draw_snr_db(settings, 2000, seeded())
    assert drawn.min() >= low
    assert drawn.max() <= high
    assert float(drawn.mean()) == pytest.approx((low + high) / 2, abs=1.0)


# --- several backgrounds, and louder ones as the epochs go by


def test_a_second_background_is_softer_by_what_was_drawn() -> None:
    """At 6.02 dB below, a background of any level has a quarter of the power of the first."""
    first, second = noise(2, SECOND), 0.003 * noise(1, SECOND, seed=9)
    both = first.clone()
    add_background(both, torch.tensor([1]), second, torch.tensor([6.0206]))
    assert torch.equal(both[0], first[0])
    added = both[1] - first[1]
    assert float(first[1].square().mean() / added.square().mean()) == pytest.approx(4, rel=1e-3)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0, 0, 0, 0, 0, 0, 0]),
        ("linear", [12, 10, 8, 6, 4, 2, 0]),
        ("cosine", [12, 11.196, 9, 6, 3, 0.804, 0]),
        ("stepped", [12, 12, 8, 8, 4, 4, 0]),
    ],
)
def test_the_background_is_as_loud_as_in_the_recipe_after_two_thirds_of_the_epochs(
    schedule: Literal["constant", "linear", "cosine", "stepped"], expected: list[float]
) -> None:
    """Of 9 epochs the first six are easier, by 12 dB at first: 12, 10, ... or 6 (1 + cos)."""
    settings = Augment(snr_schedule=schedule, snr_ease_db=12.0)
    easier = [ease_db(settings, epoch, 9) for epoch in range(9)]
    assert easier == pytest.approx([*expected, 0, 0], abs=1e-3)
    assert mean_snr_db(settings, 0, 9) == pytest.approx(12.5 + expected[0])
    assert ease_db(settings, 0, 1) == 0


# --- channel


def test_overdrive_cuts_the_peaks_alone() -> None:
    """12.04 dB below a peak of 0.8 is 0.2."""
    cut = overdrive(torch.tensor([[0.1, 0.8, -0.5]] * 2), torch.tensor([12.0412, 0.0]))
    assert cut[0].tolist() == pytest.approx([0.1, 0.2, -0.2], abs=1e-4)
    assert cut[1].tolist() == pytest.approx([0.1, 0.8, -0.5])


@pytest.mark.parametrize(
    ("hz", "share"), [(100, 0), (200, 0), (300, 1), (1000, 1), (3400, 1), (3500, 0), (5000, 0)]
)
def test_a_telephone_passes_300_to_3400_hz(hz: float, share: float) -> None:
    heard = telephone(tone(hz, SECOND)[None])[0, 2000:-2000]
    expected = share * tone(hz, SECOND)[2000:-2000]
    assert float((heard - expected).abs().max()) < 0.05


# --- gain and masks


def test_gain_is_in_decibels_and_clips_at_full_scale() -> None:
    """0.1 at +6.02 dB is 0.2; 0.9 at +6.02 dB would be 1.8."""
    louder = gain(torch.tensor([[0.1, 0.9, -0.9]]), torch.tensor([6.0206]))
    assert louder[0].tolist() == pytest.approx([0.2, 1.0, -1.0], abs=1e-4)


# How many masks and how long, as many as a recipe allows.
TIME_MASKS = st.sampled_from([(0, 300), (1, 300), (2, 150), (3, 100), (4, 75)])


@given(st.integers(0, 2**30), TIME_MASKS, st.integers(0, 2), st.integers(0, 10))
def test_masks_hide_no_more_than_they_may(
    seed: int, time: tuple[int, int], freq_masks: int, freq_mask_mels: int
) -> None:
    settings = Augment(
        time_masks=time[0],
        time_mask_ms=time[1],
        freq_masks=freq_masks,
        freq_mask_mels=freq_mask_mels,
    )
    hidden = spec_augment(torch.ones(3, 40, 98), settings, 10, seeded(seed)) == 0
    columns, rows = hidden.all(dim=1).sum(dim=1), hidden.all(dim=2).sum(dim=1)
    assert columns.max() <= time[0] * (time[1] // 10)
    assert rows.max() <= min(freq_masks * freq_mask_mels, 20)


@given(st.integers(0, 2**30), TIME_MASKS, st.integers(0, 108))
def test_a_quarter_of_any_short_word_stays_visible(
    seed: int, time: tuple[int, int], start: int
) -> None:
    """Of any 400 ms, 40 frames, at least 100 ms."""
    settings = Augment(time_masks=time[0], time_mask_ms=time[1], freq_masks=0)
    frames = spec_augment(torch.ones(8, 40, 148), settings, 10, seeded(seed))
    assert frames[:, 0, start : start + 40].sum(dim=1).min() >= 10


def test_both_pictures_of_a_frame_are_hidden_alike() -> None:
    hidden = spec_augment(torch.ones(16, 80, 98), Augment(), 10, seeded(), planes=2) == 0
    assert hidden.any()
    assert torch.equal(hidden[:, :40], hidden[:, 40:])


def test_clips_of_a_batch_are_hidden_differently() -> None:
    hidden = spec_augment(torch.ones(64, 40, 98), Augment(), 10, seeded()) == 0
    assert 0.02 < float(hidden.float().mean()) < 0.2
    assert len({tuple(clip.flatten().tolist()) for clip in hidden}) > 50


def test_the_same_generator_gives_the_same_numbers() -> None:
    frames = noise(4, 40, 98)
    once, again, other = (spec_augment(frames, Augment(), 10, seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_the_equaliser_gives_each_clip_one_gain_per_band_and_none_at_0_db() -> None:
    """In band 0 the cosines add up: 3 dB times sqrt(1 + 1/4 + 1/9), in natural logarithms."""
    frames, std = torch.zeros(500, 40, 7), torch.ones(40)
    heard = equalise(frames, std, Augment(equaliser_db=3.0), seeded())
    assert torch.equal(heard, heard[:, :, :1].expand_as(heard))
    expected = 3 * math.log(10) / 10 * math.sqrt(1 + 1 / 4 + 1 / 9)
    assert float(heard[:, 0, 0].std()) == pytest.approx(expected, rel=0.15)
    assert torch.equal(equalise(frames, std, Augment(equaliser_db=0.0), seeded()), frames)


@pytest.mark.parametrize(("share", "moved"), [(0.0, 0), (0.5, 4432), (1.0, 8892)])
def test_a_share_of_the_clips_is_heard_from_another_tract(share: float, moved: int) -> None:
    """One of nine tracts is as it was, so that of all clips eight ninths are moved."""
    settings = Features()
    features = LogMel(settings)
    filters = Tracts(features, settings, Augment(tract=share)).draw(400, seeded())
    changed = [not torch.allclose(own, features.filters, atol=1e-5) for own in filters]
    assert sum(changed) / 400 == pytest.approx(moved / 10_000, abs=0.05)
