"""Fifty kills across train, search, mine and review. Run with `pytest -m bench -s`."""

import json
import sqlite3
import statistics
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from test_mine import busy, queued, scores
from test_queue_store import find
from test_search import facts, searched, searching
from test_train import assert_equal_runs, go, validations
from tiny import Trained, ignore, tiny_recipe

from engine import audio
from engine.events import Stepped
from engine.jobs import Control
from engine.mine import mine
from engine.queue_store import QueueStore
from engine.runs import Run, Workspace, read_events
from engine.study_file import create

PROGRAM = Path(__file__).with_name("killing.py")
TRIALS = 24
KILLS = {"train": 15, "search": 10, "mine": 15, "review": 10}


@dataclass(frozen=True, slots=True)
class Told:
    killed: int
    lost: int
    repeated: int
    firsts_s: list[float]


def killed(verb: str, home: Workspace, *more: str) -> tuple[int, list[float]]:
    """Work on in children that are killed; how many were, and how soon each worked again."""
    words = [verb, str(home.root), str(KILLS[verb]), "7", *more]
    done = subprocess.run([sys.executable, str(PROGRAM), *words], capture_output=True, text=True)
    assert (done.stderr, done.returncode) == ("", 0)
    told = json.loads(done.stdout)
    assert told["status"] == 0
    return told["killed"], told["firsts_s"]


def say(verb: str, told: Told) -> None:
    """A row of docs/reliability.md."""
    half = statistics.median(told.firsts_s)
    numbers = f"{told.killed} killed, {told.lost} lost, {told.repeated} repeated"
    sys.stdout.write(f"\n{verb}: {numbers}, {half:.2f} s (at most {max(told.firsts_s):.2f})\n")
    assert told.killed >= 0.8 * KILLS[verb]
    assert (told.lost, told.repeated) == (0, 0)


def repeats(run: Run) -> int:
    """Steps of a curve that come again, or out of order."""
    steps = [r.event.step for r in read_events(run.events) if isinstance(r.event, Stepped)]
    return sum(a >= b for a, b in pairwise(steps))


@pytest.mark.bench
@pytest.mark.usefixtures("one_thread")
def test_a_training(tiny_data: Path, tmp_path: Path) -> None:
    changes = {"train.checkpoint_every_s": 0.01, "train.epochs": 12, "train.steps_per_epoch": 20}
    homes = Workspace(tmp_path / "whole"), Workspace(tmp_path / "killed")
    whole, run = (home.create(tiny_recipe(tiny_data, changes)) for home in homes)
    go(whole, homes[0], Control())
    count, firsts_s = killed("train", homes[1])
    assert_equal_runs(run, whole)
    lost = len(validations(whole)) - len(validations(run))
    say("train", Told(count, lost, repeats(run), firsts_s))


@pytest.mark.bench
@pytest.mark.usefixtures("one_thread")
def test_a_search(tiny_data: Path, tmp_path: Path) -> None:
    """Of so many trials none is killed so often that it counts as one that ends the process."""
    whole, home = Workspace(tmp_path / "whole"), Workspace(tmp_path / "killed")
    recipe = searching(tiny_data, {"search.trials": TRIALS})
    searched(whole, recipe)
    create(home, "hunt", recipe, TRIALS)
    count, firsts_s = killed("search", home)
    expected, found = facts(whole), facts(home)
    lost = sum(fact not in found for fact in expected)
    say("search", Told(count, lost, len(home.runs()) - len(expected), firsts_s))
    assert found == expected


@pytest.mark.bench
def test_mining(tiny_run: Trained, tmp_path: Path) -> None:
    path, best, whole = tmp_path / "a.wav", tiny_run.run.best, Workspace(tmp_path / "whole")
    audio.write(path, np.concatenate([busy(seed) for seed in range(8)]))
    level = float(np.quantile(scores(best, path), 0.95))
    mine([path], best, whole, threshold=level, emit=ignore, control=Control())
    home, expected = Workspace(tmp_path / "killed"), queued(whole)
    count, firsts_s = killed("mine", home, str(path), str(best), str(level))
    found = queued(home)
    lost, places = sum(one not in found for one in expected), {one.time_s for one in found}
    say("mine", Told(count, lost, len(found) - len(places), firsts_s))
    assert found == expected


@pytest.mark.bench
def test_a_review(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    queue = QueueStore(home.queue)
    queue.add([find(10.0 * n) for n in range(500)])
    queue.close()
    count, firsts_s = killed("review", home)
    told = [int(line) for line in (home.root / "told").read_text().split()]
    with sqlite3.connect(home.queue) as sql:
        made = [item for (item,) in sql.execute("SELECT item FROM undo ORDER BY step")]
    sql.close()
    say("review", Told(count, len({*told} - {*made}), len(made) - len({*made}), firsts_s))
    assert sorted(made) == list(range(1, 501))
