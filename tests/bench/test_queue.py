"""The queue at 100,000 items. Run with `pytest -m bench -s tests/bench/test_queue.py`."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from engine.queue_store import Find, Order, QueueStore

ITEMS = 100_000
LIMIT_S = 0.1


def made(n: int) -> Find:
    path = Path(f"/recordings/{n % 500:03}.wav")
    score = 0.4 + 0.6 * (n * 7919 % ITEMS) / ITEMS
    return Find(path, path.name, 3.0 * n, 3.0 * n, 3.0 * n + 2, score, 0.5, "g", "c", "background")


def took(work: Callable[[], object]) -> float:
    """The best of three, in seconds."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


@pytest.mark.bench
def test_a_hundred_thousand_items_open_and_move_at_once(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    queue = QueueStore(path)
    began = time.perf_counter()
    queue.add([made(n) for n in range(ITEMS)])
    sys.stdout.write(f"\nadd {ITEMS}: {time.perf_counter() - began:.1f} s\n")
    queue.decide(queue.ids()[: ITEMS // 2], "confirmed")
    queue.close()

    def opened() -> list[int]:
        store = QueueStore(path)
        ids = store.ids()
        store.items(ids[:50])
        store.counts()
        store.close()
        return ids

    queue = QueueStore(path)
    ids = queue.ids()
    works: dict[str, Callable[[], object]] = {"open": opened}
    for order in get_args(Order):
        works |= {order: lambda order=order: queue.ids(decision=None, order=order)}  # type: ignore[misc]
    works |= {
        "filter": lambda: queue.ids(text="042"),
        "screenful": lambda: queue.items(ids[20_000:20_050]),
        "decide": lambda: queue.decide([ids[3]], "confirmed"),
        "undo": queue.undo,
        "last": lambda: queue.last_decisions(10),
        "counts": queue.counts,
    }
    times = {name: took(work) for name, work in works.items()}
    queue.close()
    sys.stdout.write(" ".join(f"{name} {1000 * s:.1f} ms" for name, s in times.items()) + "\n")
    assert max(times.values()) < LIMIT_S
