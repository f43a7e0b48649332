from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engine.trials import Point, Trial, dominates, front, front_of, growth, hypervolume

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


def complete(number: int, frr: float, macs: float, *, feasible: bool = True) -> Trial:
    values = frr, macs
    return Trial(number=number, state="complete", params={}, values=values, feasible=feasible)


def test_the_hypervolume_by_hand() -> None:
    """Up to (4, 4): (1, 3) has 3 x 1, (2, 1) adds 2 x 2, (3, 2) nothing, (5, 0) lies beyond."""
    assert hypervolume([(1, 3)], (4, 4)) == 3
    assert hypervolume([(3, 2), (1, 3), (5, 0), (2, 1)], (4, 4)) == 3 + 4
    assert hypervolume([], (4, 4)) == 0
    assert hypervolume([(4, 4)], (4, 4)) == 0


@given(POINTS)
def test_the_hypervolume_counts_the_squares_that_are_dominated(points: list[Point]) -> None:
    """On whole numbers it is how many unit squares below (5, 5) have a point at or before them."""
    squares = [(x, y) for x in range(5) for y in range(5)]
    counted = sum(any(px <= x and py <= y for px, py in points) for x, y in squares)
    assert hypervolume(points, (5, 5)) == counted


@given(POINTS)
def test_the_front_is_what_nothing_dominates(points: list[Point]) -> None:
    best = [points[at] for at in front(points)]
    assert not any(dominates(one, other) for one in best for other in best)
    assert all(point in best or any(dominates(b, point) for b in best) for point in points)


def test_the_front_leaves_out_what_is_too_large_and_takes_the_lighter_of_equals() -> None:
    lighter = Trial(number=3, state="complete", params={}, values=(0.2, 5.0), macs=10)
    heavier = Trial(number=2, state="complete", params={}, values=(0.2, 5.0), macs=20)
    trials = [complete(0, 0.1, 9), complete(1, 0.0, 1, feasible=False), heavier, lighter]
    assert front_of(trials, "frr") == (3, 0)


def test_of_pauc_more_is_better() -> None:
    assert front_of([complete(0, 0.9, 5), complete(1, 0.8, 5)], "pauc") == (0,)


def test_growth_never_falls_and_skips_what_still_runs() -> None:
    """The worst of each axis spans 0.4 x 8 = 3.2; (0.2, 8) and (0.4, 2) have 0, then 0 more; the
    last, (0.1, 2), has 0.3 x 6."""
    running = Trial(number=2, state="running", params={})
    failed = Trial(number=3, state="failed", params={})
    trials = [complete(0, 0.2, 8), complete(1, 0.4, 2), running, failed, complete(4, 0.1, 2)]
    grown = growth(trials, "frr")
    assert [round(3.2 * share, 9) for share in grown] == [0, 0, 0, 1.8]
    assert all(before <= after for before, after in pairwise(grown))
