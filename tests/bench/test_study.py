"""What a search is worth, and what a long study costs. Run with `pytest -m bench -s`."""

import statistics
import sys
import time
from pathlib import Path

import pytest
from studying import NAME, go_on
from test_search import facts, killed, searching
from test_study import assert_killed_equals_whole, begun

from bench.analytic import by_chance, by_study
from engine.jobs import Control
from engine.runs import Workspace
from engine.search import search
from engine.study import Study, view

SEEDS = range(20)
TRIALS = 60


def said(text: str) -> None:
    sys.stdout.write(text + "\n")


@pytest.mark.bench
def test_a_study_covers_more_of_a_known_front_than_chance() -> None:
    """Hypervolume on made values over the space of recipes/search.toml, 20 seeds."""
    chance = [by_chance(seed, TRIALS) for seed in SEEDS]
    said(f"\n{'random':<8}            {statistics.mean(chance):.4f}")
    for sampler in ("tpe", "nsga2"):
        for every in (0, 5):
            covered = [by_study(seed, TRIALS, sampler, every) for seed in SEEDS]
            mean, error = statistics.mean(covered), statistics.stdev(covered) / len(SEEDS) ** 0.5
            better = sum(a > b for a, b in zip(covered, chance, strict=True))
            forks = f"fork every {every}" if every else "no forks"
            said(f"{sampler:<8}{forks:<12}{mean:.4f} +- {error:.4f}  better in {better} of 20")
            if sampler == "tpe":
                assert mean > statistics.mean(chance)


@pytest.mark.bench
@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_forty_trials_killed_ten_times(tmp_path: Path, sampler: str) -> None:
    assert_killed_equals_whole(tmp_path, sampler, kills=10)


@pytest.mark.bench
def test_forty_trainings_killed_ten_times(tiny_data: Path, tmp_path: Path) -> None:
    """The same with real students, each killed anywhere in its training."""
    recipe = searching(tiny_data, {"search.trials": 40, "search.fork_every": 5})
    whole, cut = Workspace(tmp_path / "whole"), Workspace(tmp_path / "cut")
    search(recipe, whole, name="hunt", emit=lambda _: None, control=Control())
    killed(cut, recipe, kills=10, seed=1)
    assert facts(cut) == facts(whole)
    assert len(cut.runs()) == 40


@pytest.mark.bench
def test_a_study_of_five_hundred_trials_opens_in_a_second(tmp_path: Path) -> None:
    """Twenty trials and 24 copies of each; processor time, whoever else works on the machine."""
    home = begun(Workspace(tmp_path), 20)
    go_on(home)
    with Study.opened(home, NAME, None) as study:
        study.study.add_trials(study.trials() * 24)
    times = []
    for _ in range(3):
        began = time.process_time()
        found = view(home, NAME)
        times.append(time.process_time() - began)
    said(f"\n{len(found.trials)} trials: {min(times):.2f} s")
    assert len(found.trials) == 500
    assert min(times) < 1.0
