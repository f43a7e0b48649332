"""The place of a word, on waveforms whose word we put there."""

import numpy as np
import pytest

from engine.audio import SAMPLE_RATE, to_int16
from engine.words import Int16, inspect, locate

RNG = np.random.default_rng(0)


def clip(*parts: tuple[float, float], hiss: float = 0.0) -> Int16:
    """Stretches of (seconds, amplitude) of noise like voiced speech, over hiss, `(N,)`."""
    stretches = []
    for seconds, amplitude in parts:
        white = RNG.normal(size=round(seconds * SAMPLE_RATE) + 3)
        stretches.append(amplitude * np.convolve(white, np.ones(4) / 2, "valid"))
    wave = np.concatenate(stretches)
    return to_int16((wave + hiss * RNG.normal(size=len(wave))).astype(np.float32))


def near(start_s: float, end_s: float) -> object:
    """Two frames of 20 ms either way."""
    return pytest.approx((start_s, end_s), abs=0.041)


def test_the_longest_loud_stretch_is_the_word() -> None:
    assert locate(clip((0.5, 0), (0.3, 0.1), (0.4, 0), (0.5, 0.05), (0.3, 0))) == near(1.2, 1.7)


def test_gaps_under_150_ms_are_inside_a_word() -> None:
    assert locate(clip((0.5, 0), (0.3, 0.1), (0.12, 0), (0.2, 0.1), (0.5, 0))) == near(0.5, 1.12)
    assert locate(clip((0.5, 0), (0.3, 0.1), (0.2, 0), (0.2, 0.1), (0.5, 0))) == near(0.5, 0.8)


def test_a_click_is_no_word_and_hides_none() -> None:
    audio = clip((0.5, 0.0001), (0.5, 0.02), (0.5, 0.0001))
    audio[4000:4160] = RNG.integers(-32000, 32000, 160)
    assert locate(audio) == near(0.5, 1.0)


def test_a_soft_hiss_at_the_end_belongs_to_the_word() -> None:
    """The "s" of "jarvis": 26 dB below the vowel, but of high frequencies alone."""
    low = 0.2 * np.sin(2 * np.pi * 200 * np.arange(8000) / SAMPLE_RATE)
    high = 0.01 * np.sin(2 * np.pi * 6000 * np.arange(3200) / SAMPLE_RATE)
    wave = np.concatenate([np.zeros(8000), low, high, np.zeros(8000)])
    assert locate(to_int16(wave.astype(np.float32))) == near(0.5, 1.2)


def test_a_word_stands_out_of_noise() -> None:
    assert locate(clip((1.0, 0), (0.6, 0.2), (1.0, 0), hiss=0.03)) == near(1.0, 1.6)


def test_where_nothing_stands_out_there_is_no_word() -> None:
    assert locate(clip((3.0, 0.1))) is None
    assert locate(np.zeros(16000, np.int16)) is None
    assert locate(np.ones(100, np.int16)) is None


def test_a_short_clip_that_is_all_sound_is_the_word() -> None:
    assert locate(clip((0.6, 0.1))) == (0.0, 0.6)


@pytest.mark.parametrize(
    ("parts", "doubt"),
    [
        ([(0.5, 0), (0.6, 0.1), (0.5, 0)], ""),
        ([(0.5, 0), (0.6, 0.0002), (0.5, 0)], "silent"),
        ([(3.0, 0.1)], "no word found"),
        ([(0.6, 0.1), (0.8, 0)], "cut off"),
        ([(0.8, 0), (0.6, 0.1)], "cut off"),
        ([(0.5, 0), (2.0, 0.1), (0.9, 0)], "too long"),
        ([(0.5, 0), (0.1, 0.1), (0.5, 0)], "too short"),
        ([(0.5, 0), (0.6, 1.5), (0.5, 0)], "clipped"),
        ([(1.0, 0)], "silent, no word found"),
    ],
)
def test_doubts(parts: list[tuple[float, float]], doubt: str) -> None:
    assert inspect(clip(*parts), has_word=True).doubt == doubt


def test_a_given_place_is_cut_to_the_clip() -> None:
    audio = clip((1.0, 0.1))
    facts = inspect(audio, has_word=True, given=(0.2, 1.4))
    assert (facts.start_s, facts.end_s, facts.doubt) == (0.2, 1.0, "")
    assert inspect(audio, has_word=True, given=(2.0, 3.0)).doubt == "no word found"


def test_what_holds_no_word_is_whole() -> None:
    facts = inspect(clip((0.5, 0), (2.0, 0.1)), has_word=False)
    assert (facts.start_s, facts.end_s, facts.doubt) == (0.0, 2.5, "")


def test_levels_are_of_full_scale() -> None:
    """A square wave of half scale: 20 log10(0.5) = -6.02 dB, peak and RMS alike."""
    facts = inspect(np.tile(np.array([16384, -16384], np.int16), 8000), has_word=False)
    assert (facts.peak_db, facts.level_db) == pytest.approx((-6.02, -6.02), abs=0.01)
    assert inspect(np.zeros(16000, np.int16), has_word=False).peak_db == -120
