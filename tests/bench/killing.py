"""Work in children that are killed at random: `killing.py VERB WORKSPACE KILLS SEED [MORE...]`.

Prints one line of JSON: how many were killed, and seconds from each start to the first work done.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import engine.mine
from engine.events import Event, Mining, Stepped, TrialFinished, Validated
from engine.jobs import Control
from engine.queue_store import QueueStore
from engine.runs import Workspace
from engine.search import search
from engine.train import resume_log, train

WORK = Stepped, Validated, Mining, TrialFinished
Say = Callable[[bytes], None]
EVENTS = {"train": 12, "search": 80, "mine": 6, "review": 40}
"""At most so many happenings are let pass before a kill."""


def teller(say: Say) -> Callable[[Event], None]:
    return lambda event: say(b"w" if isinstance(event, WORK) else b".")


def go_on_training(home: Workspace, say: Say) -> None:
    (run,) = home.runs()
    log, tell = resume_log(run), teller(say)

    def emit(event: Event) -> None:
        log.append(event)
        tell(event)

    train(run.recipe(), run, home, emit=emit, control=Control(), resume=True)


def go_on_searching(home: Workspace, say: Say) -> None:
    search(None, home, name="hunt", emit=teller(say), control=Control())


def go_on_mining(home: Workspace, say: Say) -> None:
    engine.mine.COMMIT_EVERY_S = engine.mine.SHOW_EVERY_S = 0.0
    recording, best, level = sys.argv[5:]
    engine.mine.mine(
        [Path(recording)],
        Path(best),
        home,
        threshold=float(level),
        emit=teller(say),
        control=Control(),
    )


def go_on_deciding(home: Workspace, say: Say) -> None:
    """Decide what is pending, and tell of each decision once it is made."""
    queue = QueueStore(home.queue)
    with (home.root / "told").open("ab", buffering=0) as told:
        for number in queue.ids(decision="pending"):
            queue.decide([number], "confirmed")
            told.write(f"{number}\n".encode())
            say(b"w")
            time.sleep(0.002)  # a person takes longer


VERBS = {
    "train": go_on_training,
    "search": go_on_searching,
    "mine": go_on_mining,
    "review": go_on_deciding,
}


def child(work: Callable[[Say], None]) -> tuple[int, int]:
    """Work in a fork; its pid, and where it says what it does."""
    heard, ready = os.pipe()
    pid = os.fork()
    if pid:
        os.close(ready)
        return pid, heard
    os.close(heard)
    try:
        work(lambda word: os.write(ready, word) and None)
        os._exit(0)
    finally:  # nothing of the parent's may run here
        traceback.print_exc()
        os._exit(1)


def listen(heard: int, most: int | None) -> float | None:
    """Hear so many happenings, or all; seconds to the first that was work."""
    began, first = time.perf_counter(), None
    while most is None or most > 0:
        word = os.read(heard, 1)
        if not word:
            break
        if word == b"w" and first is None:
            first = time.perf_counter() - began
        most = most - 1 if most is not None else None
    return first


def main() -> None:
    verb, home = sys.argv[1], Workspace(Path(sys.argv[2]))
    kills, rng = int(sys.argv[3]), random.Random(int(sys.argv[4]))
    killed, firsts = 0, list[float]()
    while True:
        pid, heard = child(lambda say: VERBS[verb](home, say))
        last = killed == kills
        first = listen(heard, None if last else rng.randrange(EVENTS[verb]))
        if not last:
            time.sleep(rng.uniform(0, 0.03))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(heard)
        if first is not None and killed:
            firsts.append(first)
        if not os.WIFSIGNALED(status):
            break
        killed += 1
    sys.stdout.write(json.dumps({"killed": killed, "firsts_s": firsts, "status": status}) + "\n")


if __name__ == "__main__":
    main()
