"""The app that soaks: `soaking.py WORKSPACE DATA SOUND JUDGE SECONDS`, in a terminal.

It trains on DATA, mines the tapes of `WORKSPACE/radio` over and over, and listens to SOUND, where
the judge at a URL is asked about what fires. Once that has settled it counts how late its own loop
wakes from sleeps of 10 ms. `WORKSPACE/told.json` says that, and how listening went.
"""

import asyncio
import json
import sys
import time
from itertools import count
from pathlib import Path

from engine.recipe_file import load, override
from engine.runs import Workspace
from wakeword_tui.app import WakewordApp, show
from wakeword_tui.config import Config, JudgeConfig

RECIPE = Path(__file__).parents[2] / "recipes" / "tinyconv.toml"
DETECTOR = "001-tiny"
STEP_S, MOST_MS = 0.01, 5000
SETTLED_S = 120.0
TRAINED = {
    "data.wakeword": "beep",
    "train.epochs": 10_000,
    "train.steps_per_epoch": 60,
    "train.threads": 1,
    "train.device": "cpu",
}


class Soaked(WakewordApp):
    """The app, which begins everything at once and feels how late its loop is."""

    def __init__(self, home: Workspace, data: str, seconds: float, config: Config) -> None:
        super().__init__(home, config=config)
        self._data, self._seconds = data, seconds
        self._rounds, self._failed = count(1), list[str]()
        self._late = [0] * (MOST_MS + 1)
        """How often it woke so many milliseconds late."""

    def on_mount(self) -> None:
        """Begin once the first screen is there."""
        self.set_timer(1.0, self._begin)
        self.set_timer(self._seconds, self._end)
        self.run_worker(self._feel())

    async def _feel(self) -> None:
        await asyncio.sleep(settled(self._seconds))
        while True:
            due_s = time.perf_counter() + STEP_S
            await asyncio.sleep(STEP_S)
            late_ms = round(1000 * (time.perf_counter() - due_s))
            self._late[min(late_ms, MOST_MS)] += 1

    def _begin(self) -> None:
        self.begin(override(load(RECIPE), {**TRAINED, "data.manifest": self._data}))
        desk = self.desk
        desk.listener.chosen = desk.miner.chosen = DETECTOR
        desk.listener.start(*desk.judging.listens(desk.workspace.find(DETECTOR)))
        desk.judging.live = desk.listener.hearing
        self.set_interval(1.0, self._mine_on)

    def _mine_on(self) -> None:
        """Mine all tapes again, by other names: what was mined under one is done."""
        miner = self.desk.miner
        if miner.live is not None and not miner.live.ended:
            return
        if miner.live is not None and miner.live.store.failed is not None:
            self._failed.append(miner.live.store.failed.message)
        radio, number = self.desk.workspace.root / "radio", next(self._rounds)
        for tape in sorted(radio.glob("tape*.wav")):
            link = radio / f"{number:03d}-{tape.name}"
            link.symlink_to(tape)
            miner.add([link])
        miner.start()

    def _end(self) -> None:
        """Say what was felt and heard, and leave: the jobs stop on the way out."""
        live, hearing = self.desk.live, self.desk.listener.hearing
        assert live is not None, "the training ended"
        assert hearing is not None
        assert hearing.now is not None
        failed = [one.store.failed.message for one in (live, hearing) if one.store.failed]
        told = {
            "late_ms": self._late,
            "seconds": hearing.now.at_s,
            "dropped": hearing.now.dropped,
            "detections": hearing.detections,
            "failed": [*self._failed, *failed],
        }
        (self.desk.workspace.root / "told.json").write_text(json.dumps(told))
        self.exit(0)


def settled(seconds: float) -> float:
    """When a soak of so many seconds has come to rest: imports, caches, the first validation."""
    return min(seconds / 3, SETTLED_S)


if __name__ == "__main__":
    home, data, sound, judge, seconds = sys.argv[1:]
    config = Config(audio=sound, judge=JudgeConfig(url=judge))
    sys.exit(show(Soaked(Workspace(Path(home)), data, float(seconds), config)))
