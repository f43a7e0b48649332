"""What a study has tried and what came of it: plain values, the Pareto front, the hypervolume.

A study's two objectives are the quality of a student, on validation, and what a hop of it takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Param = float | int | str | bool
TrialState = Literal["running", "complete", "stopped", "failed"]
Quality = Literal["pauc", "frr"]
Latency = Literal["measured", "macs"]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One recipe that was tried; `stopped` is early, as hopeless, by our own rule."""

    number: int
    state: TrialState
    params: dict[str, Param]
    """What was tried, by dotted recipe key."""
    values: Point | None = None
    """Quality and latency as measured, in their own units; None unless complete."""
    frr: float | None = None
    pauc: float | None = None
    fah: float | None = None
    latency_ms: float | None = None
    macs: int | None = None
    int8_kb: float | None = None
    feasible: bool = True
    """Whether the recipe's targets hold, as far as they are known."""
    run: str = ""
    """Name of its run directory, "" before it has one."""
    parent: int | None = None
    """The trial that it was forked from, or that it tries again."""
    operation: str = ""
    """perturb, resample, swap, by hand, retry; "" where the sampler proposed it."""
    why: str = ""
    """What stopped or failed it, a sentence."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyView:
    """A study as it stands in its database; `engine.study.view` reads it."""

    name: str
    recipe: str
    """The recipe that its trials change."""
    sampler: str
    seed: int
    wanted: int
    """Trials asked for."""
    quality: Quality
    latency: Latency
    space: dict[str, str]
    """Recipe key -> its range in words."""
    trials: tuple[Trial, ...] = ()
    front: tuple[int, ...] = ()
    """Numbers of the feasible trials that no other one dominates."""
    hypervolume: tuple[float, ...] = ()
    """After each finished trial, as a share of the rectangle that the worst point spans."""
    importance: dict[str, float]
    """Recipe key -> its share in the quality; empty while there are too few trials."""


def minimised(values: Point, quality: Quality) -> Point:
    """Values with both axes the lower the better: pAUC becomes what it lacks to 1."""
    return (1.0 - values[0] if quality == "pauc" else values[0]), values[1]


def dominates(one: Point, other: Point) -> bool:
    """Whether a point is no worse on both axes, the lower the better, and not the same."""
    return one[0] <= other[0] and one[1] <= other[1] and one != other


def front(points: Sequence[Point]) -> list[int]:
    """Places of the points that none dominates, both axes the lower the better."""
    return [at for at, point in enumerate(points) if not any(dominates(p, point) for p in points)]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """The area that points dominate, up to a reference; both axes the lower the better.

    A point beyond the reference adds nothing.

        y ^        . . . . reference
          |   a . . . . |      the area right of and above the stairs
          |     b . . . |      that the front makes
          |         c . |
          +-------------> x
    """
    area, lowest = 0.0, reference[1]
    for x, y in sorted(point for point in points if point[0] <= reference[0]):
        if y < lowest:
            area += (reference[0] - x) * (lowest - y)
            lowest = y
    return area


def growth(trials: Sequence[Trial], quality: Quality) -> tuple[float, ...]:
    """Hypervolume after each finished trial, as a share of what the worst complete one spans."""
    found = {t.number: minimised(t.values, quality) for t in trials if t.values and t.feasible}
    if not found:
        return tuple(0.0 for trial in trials if trial.state != "running")
    reference = max(p[0] for p in found.values()), max(p[1] for p in found.values())
    whole = reference[0] * reference[1] or 1.0
    shares, so_far = list[float](), list[Point]()
    for trial in trials:
        if trial.state == "running":
            continue
        if trial.number in found:
            point = found[trial.number]
            so_far = [p for p in so_far if not dominates(point, p)] + [point]
        shares.append(hypervolume(so_far, reference) / whole)
    return tuple(shares)


def front_of(trials: Sequence[Trial], quality: Quality) -> tuple[int, ...]:
    """Numbers of the feasible complete trials that none dominates, fastest first.

    Of trials with the same values the one with the fewest MACs counts.
    """
    lightest = dict[Point, Trial]()
    for trial in sorted(trials, key=lambda trial: trial.macs or 0):
        if trial.values and trial.feasible:
            lightest.setdefault(minimised(trial.values, quality), trial)
    points = list(lightest)
    best = sorted((points[at][1], at) for at in front(points))
    return tuple(lightest[points[at]].number for _, at in best)
