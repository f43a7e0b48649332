"""How fast ten hours of audio are scored by the exported student of recipes/tinyconv.toml.

Run with `pytest -m bench -s tests/bench/test_scoring.py`. On one core: at least 1,000 times real
time, and at most 300 MB of memory more than the imports take.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from engine import audio
from engine.audio import SAMPLE_RATE
from engine.onnx_graph import write_student
from engine.recipe_file import load as load_recipe
from engine.scorer import scorer_of
from tests.test_checkpoint import made

HOURS = 10
ROOT = Path(__file__).parents[2]


def write_long(path: Path) -> None:
    """Ten hours that repeat two minutes of noise, which swells as speech does."""
    samples = 120 * SAMPLE_RATE
    swell = np.sin(np.arange(samples) * np.pi * 4 / SAMPLE_RATE) ** 2
    noise = 0.1 * swell * np.random.default_rng(0).standard_normal(samples)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
        for _ in range(HOURS * 30):
            file.write(noise)


class Clock:
    """Adds up the time that is spent in parts of the work."""

    def __init__(self) -> None:
        self.spent_s: dict[str, float] = {}

    def timed(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Give `work` with a clock that runs while it does."""

        def run(*args: Any) -> Any:
            began = time.perf_counter()
            done = work(*args)
            self.spent_s[part] = self.spent_s.get(part, 0.0) + time.perf_counter() - began
            return done

        return run


def memory_mb() -> float:
    """The most that this process has held; ru_maxrss would begin with what its parent held."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) / 1024


@dataclass(frozen=True, slots=True)
class Taken:
    """What scoring a file took, and how many scores came of it."""

    scores: int
    wall_s: float
    cpu_s: float
    grown_mb: float
    parts_s: dict[str, float]


def export(path: Path) -> None:
    write_student(made(load_recipe(ROOT / "recipes" / "tinyconv.toml")), path)


def score(student: Path, long: Path) -> Taken:
    torch.set_num_threads(1)
    before_mb, clock = memory_mb(), Clock()
    scorer = scorer_of(student)
    front: Any = scorer.features
    front.energies = clock.timed("energies", front.energies)
    front.normalise = clock.timed("normalise", front.normalise)
    scorer.model.forward = clock.timed("student", scorer.model.forward)
    blocks = audio.Recording(long).blocks()
    following = clock.timed("reading", lambda: next(blocks, None))
    began, cpu_began, scores = time.perf_counter(), time.process_time(), 0
    while (block := following()) is not None:
        scores += len(scorer.push(block))
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    return Taken(scores, wall_s, cpu_s, memory_mb() - before_mb, clock.spent_s)


def alone(work: Callable[..., Any], *args: Any) -> Any:
    """Run in a fresh process, whose greatest memory is that of the work."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args).result()


@pytest.mark.bench
def test_ten_hours_are_scored_in_36_s_and_flat_memory(tmp_path: Path) -> None:
    student, long = tmp_path / "student.onnx", tmp_path / "long.wav"
    alone(export, student)
    write_long(long)
    taken: Taken = alone(score, student, long)
    times = HOURS * 3600 / taken.wall_s
    parts = ", ".join(f"{part} {spent:.2f} s" for part, spent in taken.parts_s.items())
    sys.stdout.write(
        f"{HOURS} h in {taken.wall_s:.1f} s, {taken.cpu_s:.1f} s of CPU: {times:,.0f} times "
        f"real time, {taken.grown_mb:.0f} MB more\n{parts}\n"
    )
    assert taken.scores == (HOURS * 3600 * SAMPLE_RATE - 39_920) // 1280 + 1
    assert times >= 1000
    assert taken.grown_mb < 300
