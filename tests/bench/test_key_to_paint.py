"""How long from a key to its effect on the screen while a network trains in the same process.

Run with `pytest -m bench -s tests/bench`. The limits are those of the project: 15 ms in the middle,
60 ms for 19 of 20.
"""

import random
import statistics
import sys
import time
from pathlib import Path

import pytest

from engine.runs import Workspace
from tests.tui.scripted import write_run
from tests.tui.terminal import terminal

KEYS = 120
RUNS = 12


@pytest.mark.bench
def test_key_to_paint_while_training(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for _ in range(RUNS):
        write_run(workspace, epochs=1)
    home = {"XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "TMUX": "yes"}
    chance = random.Random(0)
    with terminal([str(tmp_path), "torch"], home, size=(120, 36)) as opened:
        opened.wait_for("missed @1/h", within_s=60)
        opened.press("g")
        time.sleep(1.0)
        taken_ms = []
        for n in range(KEYS):
            time.sleep(chance.uniform(0.06, 0.16))
            down = n // (RUNS - 1) % 2 == 0
            here = n % (RUNS - 1) + 2 if down else RUNS - 1 - n % (RUNS - 1)
            taken_ms.append(opened.time_to("j" if down else "k", f"{here} of") * 1000)
    taken_ms.sort()
    p50, p95 = statistics.median(taken_ms), taken_ms[int(0.95 * KEYS)]
    sys.stdout.write(f"key to paint: p50 {p50:.1f} ms, p95 {p95:.1f} ms\n")
    assert p50 <= 15
    assert p95 <= 60
