"""Review in real terminals: fifty items by real keys in tmux, and decisions that survive a kill."""

import itertools
import random
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.queue_store import Decision, QueueStore
from engine.runs import Workspace
from tests.tui.scripted import finds, recording
from tests.tui.terminal import APART_S, LAUNCHER, needs_tmux, terminal, tmux
from tests.waiting import until

KEYS: dict[str, Decision] = {"c": "confirmed", "d": "discarded", "w": "wakeword", "i": "ignored"}
ITEMS = 50


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[QueueStore]:
    """Fifty finds, number 1 with the best score; no two scores are alike."""
    path = recording(tmp_path / "a.wav")
    (find,) = finds(path, 1)
    store = QueueStore(Workspace(tmp_path).queue)
    store.add(
        [
            replace(find, content=f"copy {n}", score=0.95 - n / 200, time_s=2.5 + n % 9 * 3)
            for n in range(ITEMS)
        ]
    )
    yield store
    store.close()


def decisions(queue: QueueStore) -> list[Decision]:
    """In the order of the list, best score first."""
    return [item.decision for item in queue.items(queue.ids(decision=None))]


@needs_tmux
def test_fifty_items_are_decided_by_keys_and_undone_again(
    tmp_path: Path, home: dict[str, str], queue: QueueStore
) -> None:
    pressed = list(itertools.islice(itertools.cycle(KEYS), ITEMS))
    with tmux(tmp_path, [*LAUNCHER, str(tmp_path), "idle"], home) as window:
        window.see("manifest")
        window.press("5")
        window.see("50 pending by score")
        for key in pressed:
            window.press(key)
            time.sleep(APART_S)
        window.see("that was the last one here")
        until(lambda: decisions(queue) == [KEYS[key] for key in pressed])
        for _ in pressed:
            window.press("BSpace")
        until(lambda: decisions(queue) == ["pending"] * ITEMS, else_say=window.screen)
        window.see("1 of 50")
        window.press("u")
        window.see("there is nothing to undo")
        window.press("q")


def shown(output: bytes) -> int:
    """How many decisions the screen has shown as made: signs before a score."""
    text = re.sub(rb"\x1b\[[^A-Za-z]*[A-Za-z]", b"", output).decode(errors="replace")
    return len(set(re.findall(r"[✓✗w~] (0\.\d{3}) ", text)))


def decide_until_killed(
    folder: Path, home: dict[str, str], keys: list[str], killed_after_s: float
) -> tuple[int, int]:
    """Press keys until the process is killed; how many were pressed, and how many it has shown."""
    with terminal([str(folder), "idle"], home | {"TMUX": "yes"}) as opened:
        opened.wait_for("manifest")
        opened.press("5")
        opened.wait_for("pending by score")
        time.sleep(0.3)
        deadline, count = time.monotonic() + killed_after_s, 0
        while count < len(keys) and time.monotonic() < deadline:
            opened.press(keys[count])
            count += 1
            time.sleep(min(APART_S, max(0.0, deadline - time.monotonic())))
        opened.process.kill()
        opened.process.wait()
        time.sleep(0.1)
        return count, shown(opened.output)


def killed(folder: Path, home: dict[str, str], queue: QueueStore, kills: int) -> None:
    """Kill the app again and again while keys decide; nothing that was shown may be missing."""
    chance, keys = random.Random(kills), list(itertools.islice(itertools.cycle(KEYS), ITEMS))
    done = 0
    for _ in range(kills):
        pressed, seen = decide_until_killed(folder, home, keys[done:], chance.uniform(0.0, 0.8))
        found = decisions(queue)
        count = sum(decision != "pending" for decision in found)
        assert done + seen <= count <= done + pressed
        expected = [KEYS[key] for key in keys[:count]] + ["pending"] * (ITEMS - count)
        assert found == expected
        done = count
    assert done > 0


def test_a_kill_loses_no_decision(tmp_path: Path, home: dict[str, str], queue: QueueStore) -> None:
    killed(tmp_path, home, queue, 3)


@pytest.mark.bench
def test_twenty_kills_lose_no_decision(
    tmp_path: Path, home: dict[str, str], queue: QueueStore
) -> None:
    killed(tmp_path, home, queue, 20)
