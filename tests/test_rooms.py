"""Rooms: what a bank holds, what it does to a window, and how a simulated room rings."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve
from torch import Tensor

from engine.acoustics import room
from engine.recipe import Augment
from engine.rooms import (
    LENGTHS,
    OPEN_AIR,
    Places,
    Rooms,
    cut_tail,
    distance,
    fft_points,
    from_direct,
    simulated,
    unit_energy,
)

SECOND = 16_000
MEASURED = Augment(room=1.0, room_simulated=0.0)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def near(*rooms: int) -> Places:
    """Clips in rooms of the bank, near by."""
    return Places(torch.tensor(rooms), torch.full((len(rooms),), math.inf), torch.zeros(len(rooms)))


def decaying(samples: int, seed: int = 2) -> Tensor:
    """A direct sound and a tail of noise that falls by 60 dB."""
    response = noise(samples, seed=seed) * 0.1 * 10 ** (-3 * torch.arange(samples) / samples)
    response[0] = 1.0
    return response


# --- the bank


@pytest.mark.parametrize("samples", [300, 4000, 7000, 15_000])
def test_a_room_is_a_convolution(samples: int) -> None:
    response = unit_energy(decaying(samples))
    waveform = noise(2, 23_920)
    rooms = Rooms([response], MEASURED, 23_920, seed=0)
    heard = rooms.hear(waveform.clone(), near(1, OPEN_AIR))
    expected = fftconvolve(waveform[0].numpy(), response.numpy())[:23_920]
    assert np.abs(heard[0].numpy() - expected).max() < 0.01 * np.abs(expected).max()
    assert torch.equal(heard[1], waveform[1])


def test_each_clip_is_heard_in_its_own_room() -> None:
    """Two echoes at half the level: 1 and 0.5, over sqrt(1.25); one of them 0.5 s late."""
    early, late = torch.zeros(500), torch.zeros(9000)
    early[0] = late[0] = 1.0
    early[100] = late[8000] = 0.5
    rooms = Rooms([early, late], MEASURED, SECOND, seed=0)
    click = torch.zeros(3, SECOND)
    click[:, 0] = 1.0
    heard = rooms.hear(click, near(2, 1, 2))
    assert heard[0, [0, 100, 8000]].tolist() == pytest.approx([0.8944, 0, 0.4472], abs=1e-4)
    assert heard[1, [0, 100, 8000]].tolist() == pytest.approx([0.8944, 0.4472, 0], abs=1e-4)
    assert torch.equal(heard[2], heard[0])


def test_the_end_of_a_window_does_not_ring_into_its_beginning() -> None:
    late = torch.zeros(SECOND)
    late[0], late[-1] = 1.0, 0.9
    click = torch.zeros(1, SECOND)
    click[0, -1] = 1.0
    heard = Rooms([late], MEASURED, SECOND, seed=0).hear(click, near(1))
    assert heard[0, :-1].abs().max() < 1e-4


def test_a_measured_response_begins_with_its_direct_sound_and_has_unit_energy() -> None:
    """3 and 4 after 700 silent samples: 0.6 and 0.8."""
    response = torch.zeros(3000)
    response[700], response[900] = 3.0, 4.0
    aligned = from_direct(response)
    assert aligned[[0, 200]].tolist() == pytest.approx([0.6, 0.8])
    assert len(aligned) == 2300


@pytest.mark.parametrize(("samples", "length"), [(100, 4000), (5000, 8000), (20_000, 16_000)])
def test_a_tail_is_kept_up_to_a_second(samples: int, length: int) -> None:
    flat = unit_energy(torch.ones(samples))
    kept = cut_tail(flat)
    assert len(kept) == length
    assert torch.equal(kept[:samples], flat[:length])


def test_what_is_40_db_down_is_cut_off() -> None:
    response = torch.zeros(12_000)
    response[0], response[-1] = 1.0, 0.009
    assert len(cut_tail(response)) == LENGTHS[0]
    response[-1] = 0.011
    assert len(cut_tail(response)) == LENGTHS[2]


@pytest.mark.parametrize(
    ("least", "points"), [(27_919, 28_800), (31_919, 32_000), (39_919, 40_000), (1, 32)]
)
def test_ffts_have_small_factors(least: int, points: int) -> None:
    """28,800 is 2^7 3^2 5^2; 28,125 is smaller, but odd."""
    assert fft_points(least) == points


# --- what is drawn


def test_rooms_are_drawn_as_the_recipe_says() -> None:
    settings = Augment(room=0.6, room_simulated=0.25, far=0.1)
    rooms = Rooms([decaying(500), decaying(600)], settings, SECOND, seed=0)
    places = rooms.draw(settings, 4000, torch.Generator().manual_seed(3))
    inside, made = places.room != OPEN_AIR, places.room > 2
    assert float(inside.float().mean()) == pytest.approx(0.6, abs=0.03)
    assert float(made[inside].float().mean()) == pytest.approx(0.25, abs=0.03)
    assert float(places.corner_hz.isfinite().float().mean()) == pytest.approx(0.1, abs=0.02)
    assert int(places.room.max()) <= 2 + rooms.simulated
    assert len(places.room.unique()) > 100


@pytest.mark.parametrize(("share", "measured"), [(0.0, 1), (1.0, 1), (0.0, 0)])
def test_without_measured_rooms_all_are_simulated(share: float, measured: int) -> None:
    settings = Augment(room=1.0, room_simulated=share)
    rooms = Rooms([decaying(500)] * measured, settings, SECOND, seed=0)
    drawn = rooms.draw(settings, 200, torch.Generator().manual_seed(1)).room
    assert bool((drawn > measured).all()) == (share == 1 or not measured)
    assert drawn.min() > 0


def test_without_a_share_nothing_is_simulated_and_nothing_changes() -> None:
    settings = Augment(room=0.0)
    rooms = Rooms([decaying(500)], settings, SECOND, seed=0)
    assert (rooms.measured, rooms.simulated) == (0, 0)
    waveform = noise(4, SECOND)
    places = rooms.draw(settings, 4, torch.Generator().manual_seed(1))
    assert torch.equal(rooms.hear(waveform.clone(), places), waveform)


# --- distance


def test_what_is_far_is_softer_and_duller() -> None:
    """6.02 dB halve it; at its corner a first-order low-pass takes another 3.01 dB."""
    response = distance(torch.tensor([2000.0]), torch.tensor([6.0206]), SECOND).abs()[0]
    assert response[[0, 2000]].tolist() == pytest.approx([0.5, 0.5 / math.sqrt(2)], rel=1e-3)
    assert float(response[8000]) == pytest.approx(0.5 / math.sqrt(17), rel=1e-3)


def test_a_far_clip_in_the_open_air_is_filtered_without_delay() -> None:
    rooms = Rooms([], Augment(room=0.0), SECOND, seed=0)
    click = torch.zeros(2, SECOND)
    click[:, 5000] = 1.0
    places = Places(
        torch.tensor([0, 0]), torch.tensor([1500.0, math.inf]), torch.tensor([6.0206, 0.0])
    )
    heard = rooms.hear(click.clone(), places)
    assert torch.equal(heard[1], click[1])
    assert abs(int(heard[0].abs().argmax()) - 5000) <= 1
    assert float(heard[0].sum()) == pytest.approx(0.5, rel=1e-3)


# --- simulated rooms


def rt60_s(response: np.ndarray[tuple[int], np.dtype[np.float32]]) -> float:
    """RT60 in the octave at 1 kHz, from the fall by 5 to 25 dB (Schroeder 1965, ISO 3382 T20)."""
    spectrum = np.fft.rfft(response, 1 << 17)
    hertz = np.fft.rfftfreq(1 << 17, 1 / SECOND)
    spectrum[(hertz < 707) | (hertz > 1414)] = 0
    energy = np.fft.irfft(spectrum)[: len(response)] ** 2
    left_db = 10 * np.log10(np.cumsum(energy[::-1])[::-1] / energy.sum())
    first, last = np.argmax(left_db < -5), np.argmax(left_db < -25)
    slope = np.polyfit(np.arange(first, last) / SECOND, left_db[first:last], 1)[0]
    return float(-60 / slope)


@pytest.mark.parametrize("asked_s", [0.3, 0.5, 0.8, 1.2])
def test_a_simulated_room_rings_as_long_as_it_was_asked_to(asked_s: float) -> None:
    found_s = [rt60_s(room(np.random.default_rng(seed), asked_s, asked_s)) for seed in range(20)]
    assert np.median(found_s) == pytest.approx(asked_s, rel=0.1)
    assert np.percentile(found_s, [10, 90]) == pytest.approx([asked_s] * 2, rel=0.2)


def test_simulated_rooms_begin_with_their_direct_sound_and_have_unit_energy() -> None:
    made = simulated(Augment(), seed=1)
    assert all(response[0] > 0.02 for response in made)
    assert all(float(r.square().sum()) == pytest.approx(1, rel=1e-3) for r in made)


def test_simulated_rooms_are_near_and_far_and_a_seed_makes_the_same_ones() -> None:
    """The direct sound has from less than a tenth to most of the energy."""
    made, again, others = (simulated(Augment(), seed) for seed in (1, 1, 2))
    assert all(torch.equal(one, other) for one, other in zip(made, again, strict=True))
    assert not torch.equal(made[0][:4000], others[0][:4000])
    direct = sorted(float(response[:40].square().sum()) for response in made)
    assert direct[len(direct) // 10] < 0.2
    assert direct[-len(direct) // 10] > 0.6
