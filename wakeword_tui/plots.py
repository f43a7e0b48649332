"""Curves as files, PNG and SVG: the DET curve, score histograms, the training, and a study.

The only importer of matplotlib (extra `plots`), and only once something is drawn. Figures are made
without pyplot: no window, no global state.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import DataError
from engine.events import Stepped, Validated
from engine.files import make_folder, writing
from engine.outcomes import Outcomes
from engine.report import CLEAN, HALVES, Report
from engine.runs import Run, read_events
from engine.trials import StudyView, Trial
from wakeword_tui.numbers import hours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")
SIZE_INCHES = (6.4, 4.2)


def draw(report: Report, run: Run | None, folder: Path) -> list[Path]:
    """Draw what there is of a report and its run into a folder; return the files."""
    figures = [("det", det(report))]
    if run is not None:
        figures += [("training", training(run))]
    if run is not None and run.outcomes.exists():
        figures += [("scores", scores(run, report.operating_point.threshold))]
    return _saved(figures, folder)


def det(report: Report) -> "Figure":
    """FAH on a log axis against FRR, test over validation, the operating point marked."""
    figure, axes = _figure("False alarms per hour", "Missed wake words (FRR), %")
    for name, split in {"validation": report.validation, report.split: report.test}.items():
        if split.det:
            fah, frr = np.asarray(split.det).T
            axes.step(fah, 100 * frr, where="post", label=name)
    test = report.test
    least = 1 / test.hours if test.hours else 1.0
    axes.plot(max(test.fah, least), 100 * test.frr, "o", color="black", label="frozen threshold")
    axes.set_xscale("log")
    axes.set_title(f"DET curve, {test.clips} wake words, {hours(test.hours)} of streams")
    axes.legend()
    return figure


def scores(run: Run, threshold: float) -> "Figure":
    """How the split scores: clean wake words against every negative that is a whole one."""
    figure, axes = _figure("Clip score", "Clips")
    outcomes, bins = Outcomes.read(run.outcomes), np.linspace(0, 1, 51).tolist()
    words = outcomes.positive & (outcomes.cohort == CLEAN)
    others = ~outcomes.positive & (outcomes.cohort != HALVES)
    for chosen, label in ((others, "other"), (words, "wake word")):
        axes.hist(outcomes.score[chosen], bins=bins, alpha=0.6, label=label, log=True)
    axes.axvline(threshold, color="black", linestyle="--", label="threshold")
    axes.set_title(f"Clip scores of the {run.recipe().evaluate.split} split, {run.name}")
    axes.legend()
    return figure


def training(run: Run) -> "Figure":
    """The loss of training, and FRR at the FAH target on validation."""
    events = [record.event for record in read_events(run.events)]
    steps = [event for event in events if isinstance(event, Stepped)]
    checks = [event for event in events if isinstance(event, Validated)]
    figure, axes = _figure("Step", "Loss")
    axes.plot([e.step for e in steps], [e.loss for e in steps], label="loss")
    axes.set_yscale("log")
    axes.set_title(f"Training of {run.name}")
    right = axes.twinx()
    right.plot([e.step for e in checks], [100 * e.frr for e in checks], "o-", color="tab:orange")
    right.set_ylabel("FRR at the FAH target on validation, %", color="tab:orange")
    right.set_ylim(0, 100)
    return figure


def draw_study(found: StudyView, folder: Path) -> list[Path]:
    """Draw the Pareto front of a study, and its hypervolume over the trials."""
    figures = [("front", pareto(found)), ("hypervolume", grown(found))]
    return _saved([(f"{found.name}-{name}", figure) for name, figure in figures], folder)


def pareto(found: StudyView) -> "Figure":
    """Every complete trial by latency and quality, forks apart, and the stairs of the front."""
    measured = found.latency == "measured"
    x = "Time of a hop on one CPU thread, ms" if measured else "MACs of a window, millions"
    frr = "FRR on validation, noise and rooms too, %"
    figure, axes = _figure(x, "pAUC on validation" if found.quality == "pauc" else frr)
    complete = [trial for trial in found.trials if trial.values and trial.feasible]
    for forked, label, mark in ((False, "proposed", "o"), (True, "forked", "^")):
        points = [_place(t, found) for t in complete if (t.parent is not None) == forked]
        if points:
            axes.plot(*zip(*points, strict=True), mark, alpha=0.6, label=label)
    best = [_place(trial, found) for trial in found.trials if trial.number in found.front]
    if best:
        axes.step(*zip(*sorted(best), strict=True), where="post", color="black", label="front")
    for trial in (trial for trial in found.trials if trial.number in found.front):
        axes.annotate(str(trial.number), _place(trial, found), fontsize=8)
    axes.set_title(f"{found.name}: {len(complete)} complete of {len(found.trials)} trials")
    axes.legend()
    return figure


def _place(trial: Trial, found: StudyView) -> tuple[float, float]:
    quality, latency = trial.values or (0.0, 0.0)
    latency = latency if found.latency == "measured" else latency / 1e6
    return latency, quality if found.quality == "pauc" else 100 * quality


def grown(found: StudyView) -> "Figure":
    """The hypervolume after each finished trial."""
    figure, axes = _figure("Finished trials", "Hypervolume, share")
    axes.step(range(1, len(found.hypervolume) + 1), found.hypervolume, where="post")
    axes.set_title(f"{found.name}: hypervolume")
    return figure


def _figure(x: str, y: str) -> "tuple[Figure, Axes]":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DataError("plots need matplotlib", "pip install 'wakeword-tui[plots]'") from error
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes


def _saved(figures: Sequence[tuple[str, "Figure"]], folder: Path) -> list[Path]:
    """Write each figure in each format; return the files. Raises DataError."""
    make_folder(folder)
    paths = []
    with writing(folder):
        for name, figure in figures:
            for kind in FORMATS:
                paths.append(folder / f"{name}.{kind}")
                figure.savefig(paths[-1], dpi=150)
    return paths
