"""Review at 100,000 items, in a real terminal: from a key to what it changes on the screen.

Run with `pytest -m bench -s tests/bench/test_review.py`.
"""

import sys
import time
from pathlib import Path
from statistics import median

import pytest

from engine.queue_store import QueueStore
from engine.runs import Workspace
from tests.bench.test_queue import ITEMS, made
from tests.tui.scripted import recording
from tests.tui.terminal import terminal
from wakeword_tui.numbers import count

LIMIT_S = 0.1
MOVES, FEW = 60, 40


def times_of(folder: Path, items: int) -> dict[str, list[float]]:
    """Seconds from a key to its text, by what the key does."""
    recording(folder / "a.wav")
    queue = QueueStore(Workspace(folder).queue)
    queue.add([made(n) for n in range(items)])
    queue.close()
    home = {"XDG_STATE_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "TMUX": "yes"}
    all_of, less = f"of {count(items)}", f"of {count(items - 1)}"
    with terminal([str(folder), "idle"], home, size=(120, 36)) as opened:
        opened.wait_for("manifest")
        time.sleep(1.0)
        times = {"open": [opened.time_to("5", f"{count(items)} pending")]}
        time.sleep(1.0)
        times["bottom"] = [opened.time_to("G", f"{count(items)} {all_of}")]
        times["top"] = [opened.time_to("g", f"1 {all_of}")]
        times["down"] = []
        for n in range(min(MOVES, items - 5)):
            time.sleep(0.1)
            times["down"].append(opened.time_to("j", f"{n + 2} {all_of}"))
        time.sleep(0.5)
        times["decide"] = [opened.time_to("c", all_of)]
        time.sleep(0.5)
        times["sort"] = [opened.time_to("o", "by nearness")]
        times["page"] = [opened.time_to("\x04", less)]
    return times


@pytest.mark.bench
def test_opening_and_moving_among_a_hundred_thousand(tmp_path: Path) -> None:
    """Opening takes the time of any screen, and little more than with forty items."""
    few, many = times_of(tmp_path / "few", FEW), times_of(tmp_path / "many", ITEMS)
    for name in many:
        shown = [1000 * f(times[name]) for times in (few, many) for f in (median, max)]
        sys.stdout.write(
            "\n{:<8} {:4.0f} (worst {:4.0f}) ms   {:4.0f} ({:4.0f})".format(name, *shown)
        )
    assert many["open"][0] - few["open"][0] < LIMIT_S
    assert all(median(many[name]) < LIMIT_S for name in ("bottom", "top", "down", "decide", "page"))
