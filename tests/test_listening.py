"""A session as the desk knows it: its events come in while a thread keeps some of it."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.events import Listening, Record
from engine.jobs import Jobs
from engine.recent import Recent
from engine.runs import Workspace
from wakeword_tui.listening import MOST_SCORES, Hearing
from wakeword_tui.store import Store


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def scored(number: int) -> Record:
    """What is told of ten windows."""
    times_s = [number + place / 10 for place in range(10)]
    heard = Listening(number, times_s, [0.5] * 10, -40.0, -30.0, 0, 0.1, 0, "open", "a source")
    return Record(number, time.time(), heard)


def test_a_miss_is_placed_while_scores_come_in(hasty: None, tmp_path: Path) -> None:
    job = Jobs(Workspace(tmp_path)).start("listen", lambda emit, control: None, lane="background")
    hearing = Hearing(job, Store(), model="tiny", recent=Recent())
    over = threading.Event()

    def come_in() -> None:
        number = 0
        while not over.is_set():
            hearing.take(scored(number := number + 1))

    thread = threading.Thread(target=come_in)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while len(hearing.curve) < MOST_SCORES:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert {hearing.highest(0.0)[1] for _ in range(200)} == {0.5}
    finally:
        over.set()
        thread.join()
