"""What a ring keeps and drops, and a recording as a source."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from tiny import tone

from engine import audio
from engine.audio import SAMPLE_RATE, Waveform
from engine.errors import DataError
from engine.microphone import open_source
from engine.source import RING_S, Ring, Source

HELD = round(RING_S * SAMPLE_RATE)


def ramp(first: int, last: int) -> Waveform:
    return np.arange(first, last, dtype=np.float32)


def all_of(source: Source, rest_s: float = 0.0, within_s: float = 60.0) -> Waveform:
    """Everything a source gives until it ends."""
    parts, deadline_s = [], time.monotonic() + within_s
    while source.health.state != "ended":
        assert time.monotonic() < deadline_s
        parts.append(source.take(0.5))
        time.sleep(rest_s)
    return np.concatenate(parts)


def is_open(path: Path) -> bool:
    """Whether this process has a file open."""
    links = Path("/proc/self/fd").iterdir()
    return any(link.is_symlink() and link.exists() and link.samefile(path) for link in links)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Five seconds of a tone: more than a ring holds."""
    audio.write(tmp_path / "tone.wav", tone(440, 5.0))
    return tmp_path / "tone.wav"


@given(st.lists(st.tuples(st.integers(0, HELD // 3), st.booleans()), max_size=20))
def test_a_ring_gives_what_was_put_in_whatever_the_blocks(puts: list[tuple[int, bool]]) -> None:
    """Taken after at most two thirds of what it holds, nothing is dropped."""
    ring, parts, put, waiting = Ring(), [ramp(0, 0)], 0, 0
    for size, take in puts:
        ring.put(ramp(put, put + size))
        put, waiting = put + size, waiting + 1
        if take or waiting == 2:
            parts.append(ring.take(0.0))
            waiting = 0
    parts.append(ring.take(0.0))
    assert ring.dropped == 0
    assert np.array_equal(np.concatenate(parts), ramp(0, put))


@pytest.mark.parametrize("sizes", [[HELD, 10], [HELD + 10], [10, HELD], [HELD // 2] * 2 + [10]])
def test_a_ring_that_is_full_drops_the_oldest_and_counts_it(sizes: list[int]) -> None:
    """HELD + 10 samples were put: the first ten are gone."""
    ring, put = Ring(), 0
    for size in sizes:
        ring.put(ramp(put, put + size))
        put += size
    assert np.array_equal(ring.take(0.0), ramp(10, HELD + 10))
    assert ring.dropped == 10


def test_a_closed_ring_gives_the_rest_and_then_nothing_at_once() -> None:
    ring = Ring()
    ring.put(ramp(0, 3))
    ring.close()
    assert not ring.ended
    assert len(ring.take(10.0)) == 3
    assert ring.ended
    began_s = time.monotonic()
    assert len(ring.take(10.0)) == 0
    assert time.monotonic() - began_s < 1.0


def test_an_empty_ring_waits_as_long_as_it_is_told() -> None:
    began_s = time.monotonic()
    assert len(Ring().take(0.1)) == 0
    assert 0.1 <= time.monotonic() - began_s < 1.0


def test_a_fast_recording_drops_nothing_however_slowly_it_is_taken(recording: Path) -> None:
    source = open_source(f"fast:{recording}")
    source.start()
    assert np.array_equal(all_of(source, rest_s=0.1), audio.read(recording))
    assert (source.health.state, source.health.dropped) == ("ended", 0)
    assert len(source.take(10.0)) == 0


def test_a_recording_in_real_time_takes_as_long_as_it_is(recording: Path) -> None:
    source = open_source(str(recording))
    began_s = time.monotonic()
    source.start()
    heard = all_of(source)
    assert 4.9 <= time.monotonic() - began_s < 6.0
    assert np.array_equal(heard, audio.read(recording))
    assert source.health.dropped == 0


def test_a_recording_in_real_time_that_nobody_takes_is_dropped_and_counted(recording: Path) -> None:
    """Five seconds came, the ring holds two."""
    source = open_source(str(recording))
    source.start()
    time.sleep(5.2)
    assert len(source.take(0.0)) == 2 * SAMPLE_RATE
    assert source.health.dropped == 3 * SAMPLE_RATE


@pytest.mark.parametrize("choice", ["{}", "fast:{}"])
def test_a_source_that_is_closed_ends(recording: Path, choice: str) -> None:
    source = open_source(choice.format(recording))
    source.start()
    source.take(1.0)
    source.close()
    while len(source.take(0.1)):
        pass
    assert source.health.state == "ended"


def test_a_recording_that_breaks_while_it_is_heard_ends_and_says_why(tmp_path: Path) -> None:
    """Of 62 s the second half minute can neither be read nor opened again."""
    path = tmp_path / "talk.wav"
    audio.write(path, tone(440, 62.0))
    source = open_source(f"fast:{path}")
    os.truncate(path, 40 * 2 * SAMPLE_RATE)
    path.unlink()
    source.start()
    assert len(all_of(source, within_s=20)) == 30 * SAMPLE_RATE
    assert source.health.line == f"{path}: System error."


def test_a_recording_that_was_never_begun_is_closed_too(recording: Path) -> None:
    source = open_source(str(recording))
    assert is_open(recording)
    source.close()
    assert (is_open(recording), source.health.state) == (False, "ended")


def test_no_source_has_ended_and_says_so() -> None:
    source = open_source("none")
    source.start()
    assert len(source.take(10.0)) == 0
    assert (source.health.state, source.health.line) == ("ended", "no sound was asked for")


def test_a_recording_without_samples_is_a_sentence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16_000)
    with pytest.raises(DataError, match="holds no samples"):
        open_source(f"fast:{tmp_path / 'a.wav'}")


def test_a_recording_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.wav: "):
        open_source(str(tmp_path / "none.wav"))
    with pytest.raises(DataError, match="there is no such recording"):
        open_source("a" * 300)
