"""A judge under load on loopback, as a process of its own beside its clients on the same cores.

Run with `pytest -m bench -s tests/bench/test_judge.py`. Requests come when they are due, whether or
not earlier ones were answered, and are timed from then. A TinyConv judge has 100 a second for a
minute, or `JUDGED_PER_S` for `JUDGED_SECONDS`, by the real client; a Conformer judge twice what it
can do, by a client that asks once.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from judging import TOKEN
from test_cli_judge import Process
from tiny import hiss

from engine.audio import to_int16
from engine.checkpoint import save
from engine.judge import PCM, VERIFY, Asked, Judge
from engine.recipe_file import load as load_recipe
from tests.test_checkpoint import made

ROOT = Path(__file__).parents[2]
PER_S = float(os.environ.get("JUDGED_PER_S", "100"))
LONG_S = float(os.environ.get("JUDGED_SECONDS", "60"))


def untrained(recipe: str, folder: Path) -> Path:
    path = folder / "judge.ckpt"
    save(path, made(load_recipe(ROOT / "recipes" / recipe)))
    return path


async def paced(
    count: int, per_s: float, ask: Callable[[], Awaitable[str]]
) -> dict[str, list[float]]:
    """Milliseconds from when each request was due to its answer, by what the answer was."""
    found: dict[str, list[float]] = {}
    began_s = time.perf_counter()

    async def one(due_s: float) -> None:
        answer = await ask()
        found.setdefault(answer, []).append(1000 * (time.perf_counter() - due_s))

    async with asyncio.TaskGroup() as group:
        for n in range(count):
            due_s = began_s + n / per_s
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            group.create_task(one(due_s))
    return found


def told(name: str, found: dict[str, list[float]]) -> None:
    """Say how many answers there were of each kind, and their p50, p95 and worst."""
    for answer, ms in sorted(found.items()):
        p50, p95, worst = np.percentile(ms, [50, 95, 100])
        line = (
            f"{name}: {len(ms)} {answer}, p50 {p50:.1f} ms, p95 {p95:.1f} ms, worst {worst:.0f} ms"
        )
        sys.stdout.write(f"\n{line}")


@pytest.mark.bench
def test_a_hundred_requests_a_second_for_a_minute(tmp_path: Path) -> None:
    heard = hiss(3, 0, 0.2)
    with (
        Process(untrained("tinyconv.toml", tmp_path)) as process,
        Judge(process.url, TOKEN, timeout_s=2) as judge,
        ThreadPoolExecutor(64) as threads,
    ):
        judge.verify(heard)

        def ask() -> str:
            decision = Asked(judge.verify).decide(heard)
            return "verdicts" if decision.failure is None else decision.failure.message

        async def run() -> dict[str, list[float]]:
            loop = asyncio.get_running_loop()
            count = round(PER_S * LONG_S)
            return await paced(count, PER_S, lambda: loop.run_in_executor(threads, ask))

        found = asyncio.run(run())
        memory_mb = process.memory_mb
    told(f"TinyConv, {PER_S:g} a second", found)
    sys.stdout.write(f"\nmemory {memory_mb:.0f} MB\n")
    assert found.keys() == {"verdicts"}


@pytest.mark.bench
def test_audio_of_ever_new_lengths_does_not_grow_its_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with (
        Process(untrained("tinyconv.toml", tmp_path)) as process,
        Judge(process.url, TOKEN, timeout_s=10) as judge,
    ):
        used_mb = []
        for _ in range(4):
            for seconds in rng.uniform(0.5, 10, 500):
                judge.verify(hiss(seconds, 0, 0.2))
            used_mb.append(process.memory_mb)
    sys.stdout.write(f"\nafter each 500 lengths {[round(mb) for mb in used_mb]} MB\n")
    assert used_mb[-1] < used_mb[0] + 10


@pytest.mark.bench
def test_beyond_its_capacity_a_teacher_answers_503(tmp_path: Path) -> None:
    """Each is of ten seconds, so that asking costs the client little beside what judging takes."""
    body = to_int16(hiss(10, 0, 0.2)).tobytes()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": PCM}

    async def run(url: str) -> tuple[float, float, dict[str, list[float]]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=30, limits=limits, headers=headers) as client:

            async def ask() -> str:
                return str((await client.post(url + VERIFY, content=body)).status_code)

            began_s = time.perf_counter()
            for _ in range(20):
                assert await ask() == "200"
            per_s = 20 / (time.perf_counter() - began_s)
            began_s = time.perf_counter()
            found = await paced(round(2 * per_s * LONG_S), 2 * per_s, ask)
            return per_s, len(found["200"]) / (time.perf_counter() - began_s), found

    with Process(untrained("teacher_conformer.toml", tmp_path)) as process:
        per_s, done_s, found = asyncio.run(run(process.url))
    told(f"Conformer, {2 * per_s:.1f} a second", found)
    sys.stdout.write(f"\none after the other {per_s:.1f} a second, under load {done_s:.1f}\n")
    assert found.keys() == {"200", "503"}
    assert done_s > 0.7 * per_s
