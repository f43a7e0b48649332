import math

import pytest
import torch
import torchaudio

from engine.features import LogMel, grid, mel_filters, restore, statistics
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
