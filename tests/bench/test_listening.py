"""What listening takes at real time with the exported student of recipes/tinyconv.toml.

Run with `pytest -m bench -s tests/bench/test_listening.py`; `LISTENED_MINUTES=30` for as long, else
five. Less than 15 % of one core, no sample dropped, and no memory gained once it has settled.
"""

import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from engine.events import Event, Listened, Listening, WakewordHeard
from engine.jobs import Control
from engine.listen import listen
from engine.microphone import open_source
from tests.bench.test_mining import export, write_long
from tests.bench.test_scoring import memory_mb

MINUTES = float(os.environ.get("LISTENED_MINUTES", "5"))
SETTLED_S = 30.0
EVERY_S = 10.0


def listened(best: Path, path: Path, minutes: float) -> tuple[Listened, float, list[float], float]:
    """The session, the share of a core of the process, the most memory it held, longest delay."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    events, memory, control = list[Event](), list[float](), Control()

    def keep(event: Event) -> None:
        if not isinstance(event, Listening):
            events.append(event)

    def look() -> None:
        time.sleep(SETTLED_S)
        while not control.stopping:
            memory.append(memory_mb())
            time.sleep(EVERY_S)

    threading.Thread(target=look, daemon=True).start()
    began_s, used_s = time.monotonic(), time.process_time()
    listen(open_source(str(path)), best, threshold=0.5, emit=keep, control=control)
    share = (time.process_time() - used_s) / (time.monotonic() - began_s)
    (session,) = [event for event in events if isinstance(event, Listened)]
    delays = [event.delay_ms for event in events if isinstance(event, WakewordHeard)]
    return session, share, memory, max(delays, default=0.0)


@pytest.mark.bench
def test_listening_costs_little_and_keeps_its_size(tmp_path: Path) -> None:
    best, path = export(tmp_path / "run"), tmp_path / "16k.wav"
    write_long(path, MINUTES / 60)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        session, share, memory, delay_ms = pool.submit(listened, best, path, MINUTES).result()
    sys.stdout.write(
        f"\n{session.seconds / 60:.1f} min: {100 * session.cpu:.1f} % of a core for the listening "
        f"thread, {100 * share:.1f} % for the process, {session.dropped} samples dropped; "
        f"at most {memory[0]:.0f} MB after {SETTLED_S:.0f} s, {memory[-1]:.0f} MB at the end; "
        f"{session.detections} detections, at most {delay_ms:.0f} ms after their sound\n"
    )
    assert session.seconds == pytest.approx(60 * MINUTES, abs=1.0)
    assert session.dropped == 0
    assert session.cpu < 0.15
    assert share < 0.15
    assert memory[-1] < memory[0] + 5
