"""A take: when it ends by itself, what is cut away, what is wrong with it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spoken import Blocks, said
from tiny import hiss, tone

from engine.audio import SAMPLE_RATE, Waveform
from engine.take import ADVICE, LONGEST_TAKE_S, LOST, Recorder, Take, cut
from engine.words import CLIPPED, EDGE, LONG, SHORT, SILENT, UNUSABLE

NEAR_S = 0.041  # two frames of 20 ms


def taken(sound: Waveform, sizes: list[int]) -> Recorder:
    """A recorder that heard a sound in blocks of these sizes, the last one repeated."""
    blocks, at = [np.zeros(0, dtype=np.float32)], 0
    while at < len(sound):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        blocks.append(sound[at : at + size])
        at += size
    recorder = Recorder(Blocks(blocks))
    recorder.begin()
    while recorder.recording:
        recorder.hear(0.0)
    return recorder


@pytest.fixture
def phrase() -> Waveform:
    """Two words 0.3 s apart, from 1.0 to 2.1 s, and 2 s of silence: it is over at 3.0 s."""
    return said((1.0, 0), (0.3, 0.1), (0.3, 0), (0.5, 0.08), (2.0, 0))


def test_a_take_ends_by_itself_after_the_phrase_and_a_pause(phrase: Waveform) -> None:
    recorder = taken(phrase, [320])
    assert recorder.seconds == 0.0
    take = recorder.take
    assert take is not None
    # 0.4 s on either side of 1.1 s
    assert take.seconds == pytest.approx(1.9, abs=2 * NEAR_S)
    assert (take.facts.start_s, take.facts.end_s) == pytest.approx((0.4, 1.5), abs=NEAR_S)
    assert take.advice == ()


@settings(max_examples=15)
@given(sizes=st.lists(st.integers(1, 40_000), min_size=1, max_size=8))
def test_a_take_is_the_same_in_blocks_of_any_size(sizes: list[int]) -> None:
    sound = said((1.0, 0), (0.3, 0.1), (0.3, 0), (0.5, 0.08), (2.0, 0))
    sizes[-1] = max(sizes[-1], 100)
    one, other = taken(sound, [160]).take, taken(sound, sizes).take
    assert one is not None
    assert other is not None
    assert np.array_equal(one.waveform, other.waveform)
    assert one.facts == other.facts


def test_the_click_of_the_key_is_no_part_of_a_take() -> None:
    sound = said((0.5, 0), (0.5, 0.1), (1.5, 0))
    sound[:800] = 0.9  # 50 ms
    take = taken(sound, [320]).take
    assert take is not None
    assert np.abs(take.waveform).max() < 0.6
    assert take.facts.start_s == pytest.approx(0.4, abs=NEAR_S)


def test_a_take_with_no_word_ends_after_8_s() -> None:
    recorder = taken(hiss(10.0, 3, 0.001), [320])
    assert recorder.take is not None
    assert recorder.take.advice == (ADVICE[UNUSABLE],)
    assert not recorder.take.usable
    assert recorder.take.seconds == pytest.approx(LONGEST_TAKE_S - 0.1)


def test_a_rustle_in_a_quiet_room_ends_no_take() -> None:
    """The rustle peaks below -50 dBFS; the word after it ends the take, and is what is kept."""
    rustle = 0.02 * said((0.5, 0), (0.3, 0.02), (1.2, 0))
    word = said((0.0, 0), (0.6, 0.1))
    recorder = taken(np.concatenate([rustle, word, 0.02 * said((2.0, 0), seed=9)]), [320])
    assert recorder.take is not None
    assert recorder.take.facts.doubt == ""
    assert recorder.take.facts.end_s - recorder.take.facts.start_s == pytest.approx(0.6, abs=0.1)


def test_a_take_that_is_stopped_at_once_has_no_word() -> None:
    assert not cut(hiss(0.4, 3, 0.001)).usable


@pytest.mark.parametrize(
    ("sound", "doubt"),
    [
        (said((0.5, 0), (0.5, 0.1), (0.5, 0)), ""),
        (0.02 * said((0.5, 0), (0.5, 0.02), (0.5, 0)), SILENT),
        (said((0.5, 0), (0.5, 0.1)), EDGE),
        (said((0.5, 0.1), (0.8, 0)), EDGE),
        (said((0.5, 0), (1.8, 0.1), (0.5, 0)), LONG),
        (said((0.5, 0), (0.1, 0.1), (0.5, 0)), SHORT),
        (said((0.5, 0), (0.5, 1.0), (0.5, 0)), CLIPPED),
    ],
)
def test_what_is_wrong_is_said_with_advice(sound: Waveform, doubt: str) -> None:
    take = cut(np.clip(sound, -1.0, 1.0))
    assert take.facts.doubt == doubt
    assert take.advice == ((ADVICE[doubt],) if doubt else ())


def test_sound_that_is_lost_in_a_take_is_told() -> None:
    source = Blocks([said((0.5, 0), (0.5, 0.1), (0.5, 0))], after="lost")
    recorder = Recorder(source)
    source.blocks.insert(0, np.zeros(0, dtype=np.float32))
    recorder.begin()
    recorder.hear(0.0)
    assert recorder.recording
    recorder.hear(0.0)
    assert recorder.take is not None
    assert recorder.take.facts.doubt == LOST


def test_of_nothing_heard_there_is_no_take() -> None:
    recorder = Recorder(Blocks([]))
    recorder.begin()
    recorder.hear(0.0)
    assert (recorder.recording, recorder.take) == (False, None)


def test_a_take_that_is_given_up_is_forgotten() -> None:
    recorder = taken(said((0.5, 0), (0.5, 0.1), (1.5, 0)), [320])
    recorder.cancel()
    assert (recorder.recording, recorder.take) == (False, None)


def test_the_level_is_the_peak_and_falls_40_db_a_second() -> None:
    half = tone(400, 0.1)  # peak 0.5 is -6 dBFS
    quiet = np.zeros(SAMPLE_RATE // 10, dtype=np.float32)
    recorder = Recorder(Blocks([half, quiet, np.ones(160, dtype=np.float32)]))
    levels = []
    for _ in range(3):
        recorder.hear(0.0)
        levels.append(recorder.level_db)
    assert levels == pytest.approx([-6.02, -10.02, 0.0], abs=0.02)
    assert recorder.clipped


def test_every_kind_of_doubt_has_its_advice() -> None:
    take = Take(np.zeros(1, dtype=np.float32), cut(hiss(2.0, 1)).facts)
    assert all(advice in ADVICE.values() for advice in take.advice)
