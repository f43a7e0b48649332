"""How fast long recordings are mined on one core, decoding included, and in how much memory.

Run with `pytest -m bench -s tests/bench/test_mining.py`. At least 500 times real time on WAV and
FLAC, 150 on Opus, and at most 300 MB of memory more than the imports take.
"""

import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny import ignore

from engine.checkpoint import save
from engine.jobs import Control
from engine.mine import mine
from engine.onnx_graph import write_student
from engine.recipe_file import load as load_recipe
from engine.runs import Workspace
from tests.bench.test_scoring import memory_mb
from tests.test_checkpoint import made

ROOT = Path(__file__).parents[2]
FORMATS: dict[str, tuple[int, int, float, dict[str, Any]]] = {
    "16k.wav": (16_000, 1, 500, {}),
    "44k1.wav": (44_100, 2, 500, {}),
    "16k.flac": (16_000, 1, 500, {}),
    "44k1.flac": (44_100, 2, 500, {}),
    "48k.opus": (48_000, 1, 150, {"format": "OGG", "subtype": "OPUS"}),
    "48k-2.opus": (48_000, 2, 150, {"format": "OGG", "subtype": "OPUS"}),
    "44k1.mp3": (44_100, 2, 150, {}),
}


def write_long(path: Path, hours: float) -> None:
    """Hours that repeat a minute of noise, which swells as speech does."""
    rate, channels, _, how = FORMATS[path.name]
    rng, swell = np.random.default_rng(0), np.sin(np.arange(rate) * np.pi * 4 / rate) ** 2
    minute = [0.1 * swell[:, None] * rng.standard_normal((rate, channels)) for _ in range(60)]
    with soundfile.SoundFile(path, "w", rate, channels, **how) as file:
        for second in range(round(hours * 3600)):
            file.write(minute[second % 60])


def export(folder: Path) -> Path:
    """A run's folder with the student of recipes/tinyconv.toml, untrained."""
    checkpoint = made(load_recipe(ROOT / "recipes" / "tinyconv.toml"))
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "export").mkdir()
    save(folder / "checkpoints" / "best.ckpt", checkpoint)
    write_student(checkpoint, folder / "export" / "student.onnx")
    return folder / "checkpoints" / "best.ckpt"


def mined(best: Path, path: Path, home: Path) -> tuple[float, float, float]:
    """Seconds on the clock, seconds of CPU, and megabytes that a fresh process took on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    before_mb, began_s, cpu_s = memory_mb(), time.perf_counter(), time.process_time()
    mine([path], best, Workspace(home), threshold=0.9, emit=ignore, control=Control())
    cpu_s = time.process_time() - cpu_s
    return time.perf_counter() - began_s, cpu_s, memory_mb() - before_mb


@pytest.mark.bench
@pytest.mark.parametrize("name", FORMATS)
def test_a_core_mines_hundreds_of_hours_an_hour(tmp_path: Path, name: str) -> None:
    best, hours = export(tmp_path / "run"), 1.0
    write_long(tmp_path / name, hours)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        taken = pool.submit(mined, best, tmp_path / name, tmp_path / "home").result()
    clock_s, cpu_s, grown_mb = taken
    times = hours * 3600 / cpu_s
    sys.stdout.write(
        f"\n{name}: {times:,.0f} times real time by the CPU's time, {hours * 3600 / clock_s:,.0f} "
        f"by the clock, {grown_mb:.0f} MB more\n"
    )
    assert times >= FORMATS[name][2]
    assert grown_mb < 300


@pytest.mark.bench
def test_ten_hours_take_no_more_memory_than_one(tmp_path: Path) -> None:
    best, grown = export(tmp_path / "run"), list[float]()
    for hours in (1.0, 10.0):
        write_long(tmp_path / "16k.wav", hours)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            home = tmp_path / f"home{hours}"
            grown.append(pool.submit(mined, best, tmp_path / "16k.wav", home).result()[2])
    sys.stdout.write(f"\n1 h: {grown[0]:.0f} MB more, 10 h: {grown[1]:.0f} MB more\n")
    assert grown[1] < grown[0] + 30
