import math

import pytest
import torch
import torchaudio

from engine.features import (
    PCEN,
    LogMel,
    grid,
    mel_filters,
    pictures,
    planes,
    restore,
    statistics,
    stretched,
)
from engine.recipe import Features

SETTINGS = Features()


def test_the_grid_of_the_default_recipe_is_148_frames_every_10_ms() -> None:
    """1.5 s is 24,000 samples; 1 + (24000 - 400) // 160 = 148 frames, which cover 23,920."""
    lattice = grid(SETTINGS)
    assert (lattice.frame_samples, lattice.step_samples) == (400, 160)
    assert lattice.window_frames == 148
    assert lattice.window_samples == 147 * 160 + 400 == 23_920
    assert lattice.hop_samples == 1280
    assert lattice.hop_s == pytest.approx(0.08)


def test_pcen_hears_1_s_before_the_window() -> None:
    """100 frames of 160 samples more; what the model sees, and the hop, are the same."""
    lattice = grid(Features(normalise="pcen"))
    assert lattice.warmup_frames == 100
    assert lattice.window_samples == 16_000 + 23_920
    assert (lattice.model_samples, lattice.window_frames) == (23_920, 148)
    assert LogMel(Features(normalise="pcen"))(torch.zeros(2, 39_920)).shape == (2, 40, 148)


def test_log_mel_equals_torchaudio_on_the_same_frames() -> None:
    waveform = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(1))
    spectrogram = torchaudio.transforms.MelSpectrogram(
        n_fft=400, win_length=400, hop_length=160, f_min=60.0, f_max=7600.0, n_mels=40,
        center=False, mel_scale="htk", norm=None,
    )  # fmt: skip
    ours = LogMel(SETTINGS)
    ours.fft_points = 400
    ours.filters = mel_filters(SETTINGS, 400)
    expected = torch.log(spectrogram(waveform) + 1e-6)
    assert torch.allclose(ours(waveform), expected, atol=1e-4)


def test_a_pure_tone_lands_in_the_mel_band_around_it() -> None:
    time_s = torch.arange(16_000) / 16_000
    frames = LogMel(SETTINGS)(torch.sin(2 * math.pi * 1000 * time_s)[None])
    band = int(frames[0].mean(dim=1).argmax())
    peak_hz = torch.linspace(0, 8000, 257)[mel_filters(SETTINGS, 512)[:, band].argmax()]
    assert abs(float(peak_hz) - 1000) < 60


@pytest.mark.parametrize("tract", [0.9, 1.1])
def test_a_formant_in_another_tract_is_heard_in_the_band_of_where_it_would_be(tract: float) -> None:
    """A band of 1 kHz lies at 0.9 or 1.1 kHz then, and hears there what it hears of 1 kHz else."""
    time_s = torch.arange(16_000) / 16_000
    features, moved = LogMel(SETTINGS), mel_filters(SETTINGS, 512, tract)
    plain = features(torch.sin(2 * math.pi * 1000 * time_s)[None])
    there = features(torch.sin(2 * math.pi * 1000 * tract * time_s)[None], moved[None])
    assert plain[0].mean(dim=1).argmax() == there[0].mean(dim=1).argmax()


@pytest.mark.parametrize("tract", [0.8, 1.0, 1.25])
def test_stretched_frequencies_rise_to_half_the_rate(tract: float) -> None:
    hz = torch.linspace(0, 8000, 801, dtype=torch.float64)
    moved = stretched(hz, tract)
    assert (moved.diff() > 0).all()
    assert (float(moved[0]), float(moved[-1])) == pytest.approx((0.0, 8000.0))
    assert float(moved[100]) == pytest.approx(1000 * tract)


def test_clips_may_have_filters_of_their_own() -> None:
    waveform = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(3)).expand(2, -1)
    features = LogMel(SETTINGS)
    other = mel_filters(SETTINGS, 512, 1.1)
    both = features(waveform, torch.stack([features.filters, other]))
    assert torch.equal(both[0], features(waveform)[0])
    assert torch.equal(both[1], features(waveform[1:], other[None])[0])


def test_fitted_features_of_the_training_audio_have_mean_0_and_deviation_1() -> None:
    waveform = 0.1 * torch.randn(8, 24_000, generator=torch.Generator().manual_seed(2))
    features = LogMel(SETTINGS)
    features.fit(waveform)
    frames = features(waveform).transpose(0, 1).flatten(1)
    assert frames.mean(dim=1).abs().max() < 1e-3
    assert (frames.std(dim=1) - 1).abs().max() < 1e-2


def test_statistics_survive_a_checkpoint() -> None:
    features = LogMel(SETTINGS)
    features.fit(torch.randn(4, 24_000, generator=torch.Generator().manual_seed(3)))
    again = restore(SETTINGS, statistics(features))
    x = torch.randn(1, 24_000, generator=torch.Generator().manual_seed(4))
    assert torch.equal(features(x), again(x))


def test_pcen_of_a_steady_energy_is_the_logarithm_of_2() -> None:
    """An energy of 1 is its own mean: log(1 + 1 / (1e-6 + 1)^0.98) = log 2."""
    steady = PCEN(Features(normalise="pcen"))(torch.ones(1, 40, 103))
    assert steady.shape == (1, 40, 3)
    assert torch.allclose(steady, torch.full((1, 40, 3), math.log(2)), atol=1e-5)


def test_pcen_depends_on_exactly_the_second_before() -> None:
    """Frame 0 is given after 100 frames of warm-up; a click at frame 50 is heard until 150."""
    energies = torch.ones(1, 40, 260)
    energies[:, :, 50] = 100.0
    frames = PCEN(Features(normalise="pcen"))(energies)[0, 0]
    changed = (frames - frames[-1]).abs() > 1e-4
    assert changed.nonzero()[:, 0].tolist() == list(range(51))


def test_pcen_weighs_the_last_frames_as_the_paper_does() -> None:
    """Each older frame counts 0.975 times as much, at steps of 20 ms 0.975 squared."""
    for step_ms, ratio in ((10, 0.975), (20, 0.975**2)):
        weights = PCEN(Features(normalise="pcen", step_ms=step_ms, hop_ms=80)).recent[0, 0]
        assert torch.allclose(weights[:-1] / weights[1:], torch.tensor(ratio), atol=1e-4)
        assert float(weights.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("gain_db", [-20.0, 20.0])
def test_another_level_moves_pcen_by_a_tenth_of_what_it_moves_log_mel(gain_db: float) -> None:
    waveform = 0.05 * torch.randn(1, 48_000, generator=torch.Generator().manual_seed(5))
    moved = []
    for normalise in ("cmvn", "pcen"):
        features = LogMel(Features(normalise=normalise))  # type: ignore[arg-type]
        features.fit(waveform)
        frames, other = features(waveform), features(waveform * 10 ** (gain_db / 20))
        moved.append(float((frames - other).abs().mean()))
    assert moved[1] < 0.1 * moved[0]


def test_both_is_log_mel_above_pcen_of_the_same_frames() -> None:
    """A second of warm-up less, log-mel of the last 148 frames, then PCEN of them."""
    waveform = 0.1 * torch.randn(2, 39_920, generator=torch.Generator().manual_seed(6))
    both = LogMel(Features(normalise="both"))(waveform)
    assert both.shape == (2, 80, 148)
    assert torch.allclose(both[:, :40], LogMel(Features())(waveform)[..., 100:], atol=1e-5)
    assert torch.allclose(both[:, 40:], LogMel(Features(normalise="pcen"))(waveform), atol=1e-5)
    assert torch.equal(pictures(both, planes(Features(normalise="both")))[:, 1], both[:, 40:])
