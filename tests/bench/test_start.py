"""From the command to the first frame, and from a digit to its screen, in a real terminal.

Run with `pytest -m bench -s tests/bench/test_start.py`. The limits are those of the project, on a
machine that does nothing else: 0.9 s to the first frame of Setup, half of the starts below it, and
250 ms to a screen, 19 of 20 below it. Seconds of CPU are said too: they hold on a busy one.
"""

import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from engine.runs import Workspace
from tests.tui.scripted import queue_at, write_run
from tests.tui.terminal import COMMAND, Terminal, terminal

STARTS, ROUNDS, RUNS = 10, 12, 12
START_S, SWITCH_MS = 0.9, 250.0
SIZE = (120, 36)
SCREENS = {
    "2": "missed @", "3": "No study yet", "4": "to decide on", "5": "pending by",
    "6": "s starts to listen", "7": "none: e names one", "8": "more without an alarm",
    "9": "log of run", "1": "still to be set",
}  # fmt: skip
"""What each screen alone says, once it is painted."""


@contextmanager
def opened(folder: Path) -> Iterator[Terminal]:
    """The command in a terminal; what Python compiles is kept, as an installation keeps it."""
    home = {"XDG_STATE_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "TMUX": "yes"}
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    words = ["--workspace", str(folder / "home")]
    with terminal(words, home | compiled, SIZE, COMMAND) as made:
        yield made


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_frame(folder: Path) -> tuple[float, float]:
    """Seconds from the command to the fields of Setup, on the clock and of CPU."""
    began_s = time.perf_counter()
    with opened(folder) as made:
        made.time_to("", "manifest", within_s=60)
        return time.perf_counter() - began_s, cpu_s(made.process.pid)


@pytest.mark.bench
def test_from_the_command_to_the_first_frame(tmp_path: Path) -> None:
    first_frame(tmp_path)  # compiles
    clock, cpu = zip(*(first_frame(tmp_path) for _ in range(STARTS)), strict=True)
    sys.stdout.write(
        f"\nfirst frame: p50 {median(clock):.2f} s, worst {max(clock):.2f} s; "
        f"p50 {median(cpu):.2f} s of CPU\n"
    )
    assert median(clock) <= START_S


@pytest.mark.bench
def test_from_a_digit_to_its_screen(tmp_path: Path) -> None:
    """The first time a screen is made, its modules are imported; then it is only painted."""
    workspace, chance = Workspace(tmp_path / "home"), random.Random(0)
    for _ in range(RUNS):
        write_run(workspace, epochs=1)
    queue_at(workspace, tmp_path).close()
    first_frame(tmp_path)
    firsts, later = dict[str, float](), dict[str, list[float]]({key: [] for key in SCREENS})
    with opened(tmp_path) as made:
        made.wait_for("parameters", within_s=60)  # the student was counted: torch is imported
        made.time_to("2", "012-alexa")
        made.time_to("\r", "missed @")
        made.time_to("1", "still to be set")
        for number in range(ROUNDS + 1):
            for key, text in SCREENS.items():
                time.sleep(chance.uniform(0.3, 0.7))
                taken_ms = 1000 * made.time_to(key, text)
                firsts.setdefault(key, taken_ms) if number == 0 else later[key].append(taken_ms)
    told(firsts, later)
    everything = [ms for taken in later.values() for ms in taken]
    assert np.percentile(everything, 95) <= SWITCH_MS
    assert max(firsts.values()) <= 2 * SWITCH_MS


def told(firsts: dict[str, float], later: dict[str, list[float]]) -> None:
    """A line for each screen, and one for all."""
    for key in sorted(SCREENS):
        p50, p95 = np.percentile(later[key], [50, 95])
        sys.stdout.write(f"\n{key}: first {firsts[key]:4.0f} ms, p50 {p50:4.0f}, p95 {p95:4.0f}")
    p50, p95 = np.percentile([ms for taken in later.values() for ms in taken], [50, 95])
    sys.stdout.write(f"\nswitch: p50 {p50:.0f} ms, p95 {p95:.0f} ms\n")
