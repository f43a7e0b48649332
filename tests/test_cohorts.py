from pathlib import Path

import numpy as np
import pytest

from engine import acoustics
from engine.cohorts import (
    CONDITIONS,
    Chance,
    add_noise,
    cut,
    half,
    in_room,
    labelled,
    made_noise,
    power,
    word_in,
)
from engine.dataset import PackedClip
from engine.manifest import Clip

RATE = 16_000


def source(name: str) -> PackedClip:
    return PackedClip(Clip(Path(name), "noise", name), 0, RATE, -1.0, -20.0, 0.0, 1.0, "", name)


def tone(seconds: float, amplitude: float = 0.5) -> np.ndarray:
    at = np.arange(round(seconds * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * 400 * at)).astype(np.float32)


@pytest.mark.parametrize("snr_db", [20.0, 5.0, 0.0])
def test_noise_is_mixed_at_the_snr(snr_db: float) -> None:
    word, noise = tone(1.0), np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    added = add_noise(word, noise, power(word), snr_db, len(word)) - word
    got_db = 10 * np.log10(0.125 / np.square(added).mean())
    assert got_db == pytest.approx(snr_db, abs=0.01)


def test_a_pause_in_a_noise_is_not_made_as_loud_as_a_word() -> None:
    """Hiss, then nothing: 3 dB over their mean, 10 over the pause, so 8 over the word."""
    word, noise = tone(1.0), np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    noise[RATE:] *= 1e-4
    heard = add_noise(np.pad(word, (RATE, 0)), noise, power(word), 5.0, RATE)
    lead_db = 10 * np.log10(power(heard[:RATE]) / power(word))
    assert lead_db == pytest.approx(-5 + 10 + 3, abs=0.1)


def test_a_room_keeps_the_time_of_the_word_and_rings_after_it() -> None:
    """Direct sound 100 samples in, an echo of half its height 50 ms later, in unit energy."""
    response = np.zeros(1000, dtype=np.float32)
    response[100], response[900] = 1.0, 0.5
    click = np.zeros(400, dtype=np.float32)
    click[10] = 1.0
    heard = in_room(click, response)
    direct = 1 / np.sqrt(1.25)
    assert heard[10] == pytest.approx(direct, abs=1e-6)
    assert heard[810] == pytest.approx(direct / 2, abs=1e-6)
    assert len(heard) == 400 + 900 - 1


def test_half_a_word_keeps_one_half() -> None:
    clip = np.ones(100, dtype=np.float32)
    kept = {half(clip, 20, 60, Chance(content, "half words")).sum() for content in "abcdef"}
    assert kept == {40.0, 60.0}  # up to sample 40, or from there on


def test_chance_depends_on_the_content_and_the_purpose_alone() -> None:
    assert Chance("a", "5 dB").below(1000) == Chance("a", "5 dB").below(1000)
    drawn = {Chance(c, p).below(10**9) for c in "abc" for p in ("5 dB", "reverb")}
    assert len(drawn) == 6


def test_a_short_recording_is_repeated() -> None:
    two = cut(np.arange(2, dtype=np.float32), 3, 4, Chance("a", "b"))
    assert two.tolist() in ([0, 1] * 3 + [0], [1, 0] * 3 + [1])


@pytest.mark.parametrize("samples", [RATE, 10 * RATE])
def test_what_is_heard_before_a_clip_moves_nothing_that_is_heard_with_it(samples: int) -> None:
    source, chance = np.arange(samples, dtype=np.float32), Chance("a", "5 dB")
    short, long = (cut(source, before, 400, chance) for before in (100, 3000))
    assert short.tolist() == long[2900:].tolist()


def test_a_short_recording_is_heard_from_anywhere() -> None:
    places = {int(cut(np.arange(RATE) * 1.0, 0, 400, Chance(f"{n}", "5 dB"))[0]) for n in range(50)}
    assert len(places) > 45


def test_one_more_recording_takes_its_share_and_moves_no_other() -> None:
    """Of 200 clips and 4 recordings, a fifth takes some 40; the others stay where they were."""
    sources = [source(f"noise {n}") for n in range(5)]
    clips = [Chance(f"clip {n}", "5 dB") for n in range(200)]
    before = [chance.draw(sources[:4]).name for chance in clips]
    after = [chance.draw(sources[::-1]).name for chance in clips]
    moved = [new for old, new in zip(before, after, strict=True) if new != old]
    assert set(moved) == {"noise 4"}
    assert 20 < len(moved) < 60


def test_noise_is_made_where_there_is_none() -> None:
    made = made_noise(2 * RATE, Chance("a", "0 dB"))
    assert made.shape == (2 * RATE,)
    assert float(np.abs(made).max()) > 0.1


def test_a_word_that_was_not_found_is_all_of_the_clip() -> None:
    clip = np.zeros(RATE, dtype=np.float32)
    assert word_in(clip, 0.25, 0.75) == (4_000, 12_000)
    assert word_in(clip, 0.5, 0.5) == (0, 16_000)


def test_negatives_are_told_apart_by_their_label() -> None:
    labels = ["partial-hey", "confusable-harvest", "computer"]
    assert [labelled(label) for label in labels] == ["partial", "confusable", "other words"]


def test_only_the_halved_words_are_negatives() -> None:
    assert [c.cohort for c in CONDITIONS if not c.positive] == ["half words"]


def test_the_direct_sound_is_the_first_loud_one() -> None:
    """An echo may be louder: at half the height of the loudest one the sound has begun."""
    response = np.zeros(100, dtype=np.float32)
    response[[5, 20, 60]] = 0.1, 0.6, -1.0
    assert acoustics.direct_sound(response) == 20
