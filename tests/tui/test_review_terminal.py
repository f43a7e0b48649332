"""Review in real terminals: fifty items by real keys in tmux, and decisions that survive a kill."""

import itertools
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.queue_store import Decision, QueueStore
from engine.runs import Workspace
from tests.tui.scripted import finds, recording
from tests.tui.terminal import LAUNCHER, terminal, until

KEYS: dict[str, Decision] = {"c": "confirmed", "d": "discarded", "w": "wakeword", "i": "ignored"}
ITEMS, APART_S = 50, 0.09
"""Keys come a little slower than a key that is held down repeats."""


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


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """No sound: what a machine without a card has."""
    folders = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path / "log")}
    return folders | {"PULSE_SERVER": f"unix:{tmp_path}/none"}


def decisions(queue: QueueStore) -> list[Decision]:
    """In the order of the list, best score first."""
    return [item.decision for item in queue.items(queue.ids(decision=None))]


class Tmux:
    """A tmux server of the test's own, with one window."""

    def __init__(self, folder: Path, command: list[str], environment: dict[str, str]) -> None:
        self._call = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]
        words = [f"{name}={value}" for name, value in environment.items()]
        self.run("new-session", "-d", "-x", "80", "-y", "24", "env", *words, *command)

    def run(self, *words: str) -> str:
        done = subprocess.run([*self._call, *words], capture_output=True, text=True, check=True)
        return done.stdout

    def press(self, key: str) -> None:
        self.run("send-keys", key)

    def see(self, text: str, within_s: float = 20.0) -> None:
        until(lambda: text in self.screen(), within_s, self.screen)

    def screen(self) -> str:
        return self.run("capture-pane", "-p")


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here")
def test_fifty_items_are_decided_by_keys_and_undone_again(
    tmp_path: Path, home: dict[str, str], queue: QueueStore
) -> None:
    pressed = list(itertools.islice(itertools.cycle(KEYS), ITEMS))
    tmux = Tmux(tmp_path, [sys.executable, str(LAUNCHER), str(tmp_path), "idle"], home)
    try:
        tmux.see("manifest")
        tmux.press("5")
        tmux.see("50 pending by score")
        for key in pressed:
            tmux.press(key)
            time.sleep(APART_S)
        tmux.see("that was the last one here")
        until(lambda: decisions(queue) == [KEYS[key] for key in pressed])
        for _ in pressed:
            tmux.press("BSpace")
        until(lambda: decisions(queue) == ["pending"] * ITEMS, else_say=tmux.screen)
        tmux.see("1 of 50")
        tmux.press("u")
        tmux.see("there is nothing to undo")
        tmux.press("q")
    finally:
        subprocess.run([*tmux._call, "kill-server"], capture_output=True, check=False)


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
