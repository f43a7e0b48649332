"""Speed moves pitch and tempo together; pitch moves alone, and a stretch moves tempo alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.pitch import (
    Pitch,
    Speed,
    _joints_at_once,
    _joints_in_turn,
    pitches,
    semitones,
    speeds,
    stretch,
)
from engine.recipe import Augment

SECOND = 16_000
WINDOW = 23_920
BANK = pitches(Augment(pitch_semitones=4.0))


def tone(hz: float, samples: int, amplitude: float = 1.0) -> Tensor:
    return amplitude * torch.sin(2 * math.pi * hz * torch.arange(samples) / SECOND)


def voice(hz: float, samples: int) -> Tensor:
    """A harmonic tone, its partials falling by 6 dB an octave."""
    return sum((tone(n * hz, samples, 0.3 / n) for n in range(1, 9)), torch.zeros(samples))


def burst(start: int, length: int) -> Tensor:
    """A second and a half of silence with a voice in it."""
    window = torch.zeros(WINDOW)
    window[start : start + length] = voice(150, length)
    return window


def fundamental_hz(waveform: Tensor) -> float:
    """The strongest partial of `(N,)`, to a tenth of a Hz."""
    spectrum = torch.fft.rfft(waveform * torch.hann_window(len(waveform)), n=160_000).abs()
    return float(spectrum.argmax()) / 10


# --- speed


@pytest.mark.parametrize("ratio", speeds(Augment(speed_range=0.3)))
def test_speed_moves_the_pitch_of_a_tone_by_the_ratio(ratio: tuple[int, int]) -> None:
    """1000 Hz at 9/8 sounds at 1125 Hz; a second of it is made of 9/8 s."""
    speed = Speed(speeds(Augment(speed_range=0.3)))
    source = tone(1000, speed.source_samples(ratio, SECOND))[None]
    played = speed(source, ratio, SECOND)
    assert played.shape == (1, SECOND)
    peak_hz = int(torch.fft.rfft(played[0]).abs().argmax())
    assert peak_hz == pytest.approx(1000 * ratio[0] / ratio[1], abs=1)


@pytest.mark.parametrize("ratio", speeds(Augment(speed_range=0.3)))
def test_speed_keeps_the_end_of_a_window_at_its_end(ratio: tuple[int, int]) -> None:
    """A click 0.2 s before the end is heard 0.2 s / speed before it."""
    speed = Speed(speeds(Augment(speed_range=0.3)))
    samples = speed.source_samples(ratio, SECOND)
    source = torch.zeros(1, samples)
    source[0, samples - 3200] = 1.0
    at = int(speed(source, ratio, SECOND)[0].argmax())
    assert SECOND - at == pytest.approx(3200 * ratio[1] / ratio[0], abs=2)


@pytest.mark.parametrize("within", [0.0, 0.06, 0.15, 0.3])
def test_the_recipe_limits_the_speeds(within: float) -> None:
    bank = speeds(Augment(speed_range=within))
    assert all(abs(a / b - 1) <= within + 1e-9 for a, b in bank)
    assert bool(bank) == (within > 0)


# --- pitch


@pytest.mark.parametrize("hz", [90, 120, 180, 260, 440])
@pytest.mark.parametrize("kind", [tone, voice])
def test_the_pitch_moves_by_the_ratio(hz: float, kind: type[tone]) -> None:
    """200 Hz at 9:8 sounds at 225 Hz."""
    waveform = kind(hz, WINDOW).repeat(len(BANK), 1)
    moved = Pitch(BANK)(waveform, torch.arange(len(BANK)))
    assert moved.shape == waveform.shape
    for (a, b), row in zip(BANK, moved, strict=True):
        assert fundamental_hz(row[1000:-1000]) == pytest.approx(hz * a / b, rel=0.005)
        assert float(row[1000:-1000].std() / waveform[0].std()) == pytest.approx(1, abs=0.1)


def test_a_word_stays_where_it_is_and_as_long_as_it_is() -> None:
    """0.4 s from 0.75 s on, whatever the ratio: both ends within 15 ms."""
    moved = Pitch(BANK)(burst(12_000, 6_400).repeat(len(BANK), 1), torch.arange(len(BANK)))
    for row in moved:
        loud = (row.abs() > 0.1).nonzero()[:, 0]
        assert int(loud[0]) == pytest.approx(12_000, abs=240)
        assert int(loud[-1]) == pytest.approx(18_400, abs=240)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_a_stretch_moves_times_and_not_pitch(factor: float) -> None:
    slow = stretch(burst(8000, 8000)[None], torch.tensor([factor]), 24_000)[0]
    loud = (slow.abs() > 0.1).nonzero()[:, 0]
    assert int(loud[0]) == pytest.approx(8000 * factor, abs=240)
    assert int(loud[-1]) == pytest.approx(16_000 * factor, abs=240)
    assert fundamental_hz(slow) == pytest.approx(150, rel=0.005)


def test_a_stretch_by_one_changes_nothing() -> None:
    waveform = burst(8000, 8000)
    kept = stretch(waveform[None], torch.tensor([1.0]), WINDOW)[0]
    assert torch.allclose(kept, waveform, atol=1e-3)


def test_clips_of_a_batch_do_not_see_each_other() -> None:
    waveform = torch.stack([voice(hz, WINDOW) for hz in (110, 150, 190)])
    chosen = torch.tensor([3, 0, 7])
    together = Pitch(BANK)(waveform, chosen)
    alone = torch.cat([Pitch(BANK)(waveform[n : n + 1], chosen[n : n + 1]) for n in range(3)])
    assert torch.allclose(together, alone, atol=1e-4)


def test_silence_stays_silent() -> None:
    assert Pitch(BANK)(torch.zeros(2, WINDOW), torch.tensor([0, 5])).abs().max() == 0


@pytest.mark.parametrize(("most", "count"), [(0.0, 0), (0.5, 2), (1.0, 4), (2.0, 8), (4.0, 14)])
def test_the_recipe_limits_the_pitches(most: float, count: int) -> None:
    """A tone is 18:17 or 12:11 away; 9:8, 2.04 semitones, counts as two."""
    bank = pitches(Augment(pitch_semitones=most))
    assert len(bank) == count
    assert all(abs(semitones(*ratio)) <= most + 0.05 for ratio in bank)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), clips=st.integers(1, 6), slower=st.floats(0.6, 1.6))
def test_joints_found_at_once_are_those_found_in_turn(seed: int, clips: int, slower: float) -> None:
    """Whole numbers, so that sums are exact in any order, and a silence in the first clip.

    A frame is due at most at 3200 of 4000 samples, and begins up to 201 later.
    """
    heard = torch.stack([voice(90 + 40 * n, 4000) for n in range(clips)]) * 60
    heard += 5 * torch.randn(clips, 4000, generator=torch.Generator().manual_seed(seed))
    heard = heard.round()
    heard[0, 1000:3000] = 0.0
    due = (torch.arange(12) * 256 / slower).long() // 4 * 4
    due = due.clamp(max=4000 - 800).expand(clips, -1)
    in_turn = _joints_in_turn(heard, due)
    assert torch.equal(_joints_at_once(heard, due), in_turn)
    assert bool((in_turn >= due).all() and (in_turn <= due + 201).all())
