"""Everything at once in the real app: it trains, mines, listens and has a judge asked.

Run with `pytest -m bench -s tests/bench/test_soak.py`, `SOAKED_MINUTES=20` (the default) for as
long. The app is in a terminal, where somebody goes from screen to screen all the time; the judge is
a process of its own. Once both have settled their memory is flat, no block of audio is dropped, and
no file stays open and no thread stays behind that did not before. How late the app's loop wakes is
said: its p99 is to be below 100 ms on two cores that do nothing else.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judging import TOKEN
from test_cli_judge import Process
from test_listen import SOUND
from tiny import Trained, hiss

from engine import audio
from engine.audio import SAMPLE_RATE
from engine.events import Stepped
from engine.queue_store import QueueStore
from engine.runs import Workspace, read_events
from tests.bench.soaking import DETECTOR, settled
from tests.tui.terminal import Terminal, terminal

MINUTES = float(os.environ.get("SOAKED_MINUTES", "20"))
PROGRAM = (sys.executable, str(Path(__file__).with_name("soaking.py")))
EVERY_S = 5.0
TAPES, TAPE_S = 6, 1800
GROWN_MB, SETTLES_MINUTES = 25.0, 5.0
COURSE = 12
"""Of how many moments the size is told."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a process takes at a moment; megabytes in RAM, all of it and its share of it."""

    at_s: float
    rss_mb: float
    pss_mb: float
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> "Size":
        process = Path(f"/proc/{pid}")
        rollup = (process / "smaps_rollup").read_text()
        kb = {name: int(value) for name, value in re.findall(r"^(Rss|Pss): +(\d+)", rollup, re.M)}
        open_files, threads = (len([*(process / name).iterdir()]) for name in ("fd", "task"))
        return cls(time.monotonic(), kb["Rss"] / 1024, kb["Pss"] / 1024, open_files, threads)


@dataclass(frozen=True, slots=True)
class Grown:
    """How a size went on: its median in the first and the last third, and its rise an hour."""

    first: float
    last: float
    rise: float
    course: list[float]

    @classmethod
    def of(cls, values: list[float], hours: list[float]) -> "Grown":
        third, some = max(len(values) // 3, 1), max(len(values) // COURSE, 1)
        ends = float(np.median(values[:third])), float(np.median(values[-third:]))
        return cls(*ends, float(np.polyfit(hours, values, 1)[0]), values[::some])


def workspace(folder: Path, run: Trained) -> Workspace:
    """A detector, and half hours of sound in which it fires now and then."""
    home = Workspace(folder / "home")
    shutil.copytree(run.run.path, home.root / "runs" / DETECTOR)
    (home.root / "radio").mkdir()
    for number in range(TAPES):
        sound = np.resize(hiss(60.0, number), TAPE_S * SAMPLE_RATE)
        for at_s in range(60, TAPE_S - 60, 300):
            sound[at_s * SAMPLE_RATE :][: len(SOUND)] += SOUND
        audio.write(home.root / "radio" / f"tape{number}.wav", sound)
    return home


def roam(opened: Terminal, judge: int, seconds: float) -> tuple[list[Size], list[Size]]:
    """Go from screen to screen until the app ends; what it and the judge take meanwhile."""
    chance, sizes, began_s = random.Random(0), (list[Size](), list[Size]()), time.monotonic()
    while opened.process.poll() is None:
        assert time.monotonic() - began_s < seconds + 120, opened.tail()
        time.sleep(chance.uniform(0.3, 1.2))
        opened.press(chance.choice("123456789jk"))
        if time.monotonic() - began_s > settled(seconds) + EVERY_S * len(sizes[0]):
            with contextlib.suppress(OSError):  # it may have ended by now
                for pid, known in zip((opened.process.pid, judge), sizes, strict=True):
                    known.append(Size.of(pid))
    return sizes


def growth(sizes: list[Size]) -> dict[str, Grown]:
    """How each size of a process went on."""
    hours = [size.at_s / 3600 for size in sizes]
    names = "rss_mb", "pss_mb", "files", "threads"
    return {name: Grown.of([getattr(size, name) for size in sizes], hours) for name in names}


def lateness(late_ms: list[int]) -> tuple[int, int, int]:
    """p50, p99 and the most of a histogram, in ms."""
    total = np.cumsum(late_ms)
    p50, p99 = (int(np.searchsorted(total, share * total[-1])) for share in (0.5, 0.99))
    return p50, p99, int(np.flatnonzero(late_ms)[-1])


def done(home: Workspace) -> tuple[int, float, int]:
    """Steps trained, hours mined, finds in the queue."""
    run = home.runs()[-1]
    steps = [r.event.step for r in read_events(run.events) if isinstance(r.event, Stepped)]
    with closing(QueueStore(home.queue)) as queue:
        hours = sum(session.position_s for session in queue.sessions()) / 3600
        return max(steps, default=0), hours, len(queue.ids(decision=None))


def say(
    told: dict[str, Any],
    answers: list[object],
    work: tuple[int, float, int],
    *grown: dict[str, Grown],
) -> None:
    """What was done, how late the loop was, and what grew."""
    steps, hours, finds = work
    p50, p99, most = lateness(told["late_ms"])
    verdicts, fired = answers.count(200), told["detections"]
    lines = [
        f"\n{told['seconds'] / 60:.1f} min heard, {told['dropped']} samples dropped",
        f"{fired} detections, {verdicts} verdicts, {len(answers) - verdicts} other answers",
        f"{steps} steps trained, {hours:.1f} h mined, {finds} finds",
        f"loop late by p50 {p50} ms, p99 {p99} ms, at most {most} ms",
    ]
    for name, sizes in zip(("app", "judge"), grown, strict=True):
        for what, one in sizes.items():
            course = " ".join(f"{value:.0f}" for value in one.course)
            rise = f"{one.rise:+.0f} an hour"
            lines.append(
                f"{name:<6} {what:<8} {one.first:6.0f} {one.last:6.0f} {rise:>16}   {course}"
            )
    sys.stdout.write("\n".join(lines) + "\n")


@pytest.mark.bench
def test_everything_at_once(tiny_run: Trained, tiny_data: Path, tmp_path: Path) -> None:
    home, seconds = workspace(tmp_path, tiny_run), 60 * MINUTES
    audio.write(tmp_path / "talk.wav", np.resize(SOUND, round((seconds + 60) * SAMPLE_RATE)))
    environment = {
        "XDG_STATE_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "WAKEWORD_JUDGE_TOKEN": TOKEN,
        "TMUX": "yes",
    }
    with Process(tiny_run.run.best) as judge:
        words = [
            str(home.root),
            str(tiny_data),
            str(tmp_path / "talk.wav"),
            judge.url,
            f"{seconds}",
        ]
        with terminal(words, environment, (120, 36), PROGRAM) as opened:
            sizes = roam(opened, judge.child.pid, seconds)
            assert opened.wait() == 0, opened.tail()
        asked = judge.end(signal.SIGTERM)[1]
        answers = [answer["status"] for answer in asked if answer["method"] == "POST"]
    told = json.loads((home.root / "told.json").read_text())
    say(told, answers, done(home), *map(growth, sizes))
    assert not told["failed"]
    assert told["dropped"] == 0
    assert answers.count(200) > 0.9 * told["detections"] > 0
    for grown in map(growth, sizes) if MINUTES >= SETTLES_MINUTES else ():
        assert grown["pss_mb"].last - grown["pss_mb"].first < GROWN_MB
        assert grown["files"].last <= grown["files"].first
        assert grown["threads"].last <= grown["threads"].first
