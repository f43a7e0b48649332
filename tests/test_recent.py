"""What is still known of live audio, and how a moment of it gets to Review."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import hiss

from engine import audio
from engine.audio import SAMPLE_RATE, Waveform
from engine.errors import DataError
from engine.queue_store import QueueStore
from engine.recent import MISSED, MOST_CUTS, RING_S, Moment, Recent, keep
from engine.runs import Workspace

RING = round(RING_S * SAMPLE_RATE)


def ramp(first_s: float, last_s: float) -> Waveform:
    """Samples that are their own place."""
    return np.arange(round(first_s * SAMPLE_RATE), round(last_s * SAMPLE_RATE), dtype=np.float32)


def heard(seconds: float) -> Recent:
    """A memory that has heard a ramp, a second at a time."""
    recent = Recent()
    for second in range(round(seconds)):
        recent.hear(ramp(second, second + 1))
    return recent


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QueueStore]:
    made = QueueStore(tmp_path / "workspace" / "queue.db")
    yield made
    made.close()


@given(st.lists(st.integers(0, RING // 3), max_size=12), st.integers(0, RING), st.integers(0, RING))
def test_a_stretch_is_what_was_heard_there(blocks: list[int], start: int, length: int) -> None:
    recent, at = Recent(), 0
    for size in blocks:
        recent.hear(np.arange(at, at + size, dtype=np.float32))
        at += size
    known = range(max(start, at - RING), min(start + length, at))
    stretch = recent.between(start / SAMPLE_RATE, (start + length) / SAMPLE_RATE)
    assert stretch.tolist() == list(known)


def test_the_last_seconds_are_as_long_as_they_were_heard() -> None:
    cut = heard(2).last(3.0)
    assert (cut.begin_s, cut.start_s, cut.end_s, len(cut.waveform)) == (0, 0, 2, 2 * SAMPLE_RATE)


def test_the_last_seconds_have_a_second_before_them() -> None:
    cut = heard(20).last(3.0)
    assert (cut.begin_s, cut.start_s, cut.end_s) == (16, 17, 20)
    assert cut.waveform.tolist() == ramp(16, 20).tolist()


def test_around_a_detection_is_held_on_to_when_the_ring_has_moved_on() -> None:
    recent = heard(5)
    recent.hold(5.0, 2.0, 6.0)
    assert recent.around(5.0).waveform.tolist() == ramp(1, 5).tolist()  # the rest is not heard yet
    for second in range(5, 40):
        recent.hear(ramp(second, second + 1))
    cut = recent.around(5.0)
    assert (cut.begin_s, cut.start_s, cut.end_s) == (1, 2, 6)
    assert cut.waveform.tolist() == ramp(1, 7).tolist()


def test_the_oldest_detection_is_forgotten_first() -> None:
    recent = heard(1)
    for number in range(MOST_CUTS + 1):
        recent.hold(float(number), 0.0, 0.5)
    recent.hear(ramp(1, 2))
    with pytest.raises(DataError, match="its sound is gone"):
        recent.around(0.0)
    assert len(recent.around(1.0).waveform) == 1.5 * SAMPLE_RATE


def test_a_kept_moment_is_a_file_and_then_an_item(store: QueueStore, tmp_path: Path) -> None:
    """5 s are heard; it fired at 4 s, 1.5 to 4.5 s count, and 0.5 to 5 s are in the file."""
    recent = Recent()
    recent.hear(hiss(5.0, 1))
    recent.hold(4.0, 1.5, 4.5)
    moment = Moment(4.0, score=0.9, threshold=0.5, checkpoint="abc")
    keep(recent.around(4.0), moment, Workspace(tmp_path / "workspace"), store)
    (item,) = store.items(store.ids())
    find = item.find
    assert (find.time_s, find.start_s, find.end_s) == (3.5, 1.0, 4.0)
    assert (find.found_by, find.checkpoint, item.decision, item.note) == (
        "live", "abc", "pending", "",
    )  # fmt: skip
    assert find.content == hashlib.sha256(find.path.read_bytes()).hexdigest()
    assert find.group == f"user:{find.content}"
    assert find.path.parent == tmp_path / "workspace" / "live"
    np.testing.assert_allclose(audio.read(find.path), hiss(5.0, 1)[SAMPLE_RATE // 2 :], atol=1e-4)


def test_a_miss_says_so_in_its_note(store: QueueStore, tmp_path: Path) -> None:
    recent = Recent()
    recent.hear(hiss(2.0, 1))
    moment = Moment(2.0, score=0.1, threshold=0.5, checkpoint="", note=MISSED)
    keep(recent.last(3.0), moment, Workspace(tmp_path / "workspace"), store)
    assert store.ids(text="missed") == [1]


def test_a_full_disk_leaves_no_item(small_disk: Path, store: QueueStore) -> None:
    recent = Recent()
    recent.hear(hiss(5.0, 1))  # 160 kB, the disk has 64
    moment = Moment(4.0, score=0.9, threshold=0.5, checkpoint="")
    with pytest.raises(DataError, match="full"):
        keep(recent.last(5.0), moment, Workspace(small_disk), store)
    assert store.ids() == []
    assert list((small_disk / "live").iterdir()) == []


def test_a_queue_that_cannot_be_written_leaves_no_file(store: QueueStore, tmp_path: Path) -> None:
    store.close()
    (tmp_path / "workspace" / "queue.db").write_bytes(b"not a database at all" * 400)
    recent = Recent()
    recent.hear(hiss(2.0, 1))
    moment = Moment(2.0, score=0.9, threshold=0.5, checkpoint="")
    with pytest.raises(DataError, match="damaged"):
        keep(recent.last(2.0), moment, Workspace(tmp_path / "workspace"), store)
    assert list((tmp_path / "workspace" / "live").iterdir()) == []


def test_nothing_heard_is_nothing_to_keep(store: QueueStore, tmp_path: Path) -> None:
    moment = Moment(0.0, score=0.0, threshold=0.5, checkpoint="")
    with pytest.raises(DataError, match="nothing was heard"):
        keep(Recent().last(3.0), moment, Workspace(tmp_path / "workspace"), store)
