"""What Search tells of a study: its trials in words, its trade-off as plots."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from textual.content import Content

from engine.trials import StudyView, Trial, TrialState
from wakeword_tui.draft import show
from wakeword_tui.numbers import brief, duration, percent, rate, small
from wakeword_tui.store import Store
from wakeword_tui.studies import Found
from wakeword_tui.widgets.raster import AXIS, Axis, Plot, Series

Line = Content | str | tuple[str, str]
Order = Literal["newest", "quality", "speed", "front"]
ORDERS: tuple[Order, ...] = get_args(Order)
STATES: dict[TrialState, tuple[str, str]] = {
    "running": ("● run", "$now"),
    "complete": ("✓ done", "$success"),
    "stopped": ("~ early", "$dim"),
    "failed": ("✗ fail", "$error"),
}
LEFT = ("· left", "$dim")
"""A trial that was broken off; it is the next."""
COUNTED: dict[TrialState, str] = {
    "complete": "done",
    "running": "running",
    "stopped": "early",
    "failed": "failed",
}
QUALITY = {"pauc": "pAUC", "frr": "missed %"}
LATENCY = {"measured": "ms a hop", "macs": "MACs a window"}
LOG_FROM = 8.0
"""Latencies that differ by more than this factor are laid out on a logarithmic axis."""
OUTLIERS = 25.0
"""Percent of the worst trials that are drawn at the edge, so that the others have room."""
FRONT, CHOSEN, OTHERS = 0, 1, AXIS
"""Colours: blue is the front, orange where one is, grey the rest."""
ORIGIN_WIDTH, SETTINGS_FROM = 13, 70
"""Columns of where a trial comes from; columns of the table from which settings are shown."""
EMPTY: tuple[Line, ...] = (
    ("No study yet.", "bold"),
    "",
    "A study trains many short trials and shows which of them trade",
    "quality against latency best:",
    "n      new study, from a recipe with a [search.space]",
    "1      look at the recipe first",
    "?      all keys",
)
NO_TRIALS: tuple[Line, ...] = (
    ("No trial yet.", "bold"),
    "",
    "s      go on with this study",
    "l      open another one",
    "n      begin a new one",
)


def instead(found: Found | None, *, busy: bool) -> list[Line]:
    """What to say while there are no trials to show."""
    if found is None:
        return [("reading …", "$dim")]
    if found.trouble is not None:
        head = Content.assemble(("✗ ", "$error"), (found.trouble.message, "bold"))
        return [head, "", *found.trouble.hint.splitlines(), "", "l  opens another study"]
    if busy:
        return [("The first trial begins …", "bold"), "", "2      shows it live"]
    return [*(NO_TRIALS if found.names else EMPTY)]


def title(view: StudyView, order: Order, now: str | None) -> str:
    """The name of a study, how far it is, what its trials came to, and how they are sorted."""
    states = Counter(trial.state for trial in view.trials)
    words = COUNTED | ({} if now else {"running": "left"})
    counts = [f"{states[state]} {word}" for state, word in words.items() if states[state]]
    by = "" if order == "newest" else f", by {order}"
    return f"study {view.name} {len(view.trials)}/{view.wanted}: {' '.join(counts)}{by}"


def finished(view: StudyView) -> int:
    """How many trials have ended."""
    return sum(trial.state != "running" for trial in view.trials)


def now_line(store: Store) -> str:
    """How far the running trial is."""
    if store.step is None:
        return store.phase or "starting"
    missed = f", missed {percent(store.validations[-1].frr)}" if store.validations else ""
    return f"{store.phase}{store.share}, loss {small(store.step.loss)}{missed}"


def ordered(view: StudyView, order: Order) -> list[Trial]:
    """The trials in an order; those without values come last, newest first."""
    newest = list(reversed(view.trials))
    if order == "front":
        places = {number: place for place, number in enumerate(view.front)}
        return sorted(newest, key=lambda trial: places.get(trial.number, len(places)))
    sign = -1 if view.quality == "pauc" and order == "quality" else 1
    axis = {"quality": 0, "speed": 1}.get(order)
    if axis is None:
        return newest
    far = float("inf")
    return sorted(newest, key=lambda trial: sign * trial.values[axis] if trial.values else far)


# The table.


def header(view: StudyView, width: int) -> Content:
    """What the columns are."""
    latency = "ms" if view.latency == "measured" else "MACs"
    names = f"    #  state     pAUC  miss%{latency:>7}     kB  {'from':<{ORIGIN_WIDTH}}"
    return Content.styled(names + ("what was tried" if width >= SETTINGS_FROM else ""), "$dim")


def trial_line(
    trial: Trial, view: StudyView, width: int, now: str | None = None, held: str = ""
) -> Content:
    """A trial: on the front or not, state, numbers, where it comes from, what was tried.

    `now` is how far a trial is that has not ended, None where nobody runs it. Where nothing was
    measured, why takes the place of the numbers.
    """
    left = trial.state == "running" and now is None
    state, style = LEFT if left else STATES[trial.state]
    head = Content.assemble(
        ("◆" if trial.number in view.front else " ", "$primary"),
        f"{trial.number:>4}  ",
        (f"{state:<8}", style),
    )
    told = (now or held or "s goes on with it") if trial.state == "running" else trial.why
    if told and trial.pauc is None and trial.frr is None:
        return head + Content(told)
    return head + Content.assemble(
        (_numbers(trial, view), "" if trial.feasible else "$warning"),
        (f"  {origin(trial):<{ORIGIN_WIDTH}}", "$dim"),
        (told or settings(trial)) if width >= SETTINGS_FROM else "",
    )


def _numbers(trial: Trial, view: StudyView) -> str:
    pauc = "-" if trial.pauc is None else f"{trial.pauc:.4f}"
    missed = "-" if trial.frr is None else f"{trial.frr * 100:.1f}"
    size = "-" if trial.int8_kb is None else f"{trial.int8_kb:.0f}"
    return f"{pauc:>6} {missed:>6}{_latency(trial, view):>7}{size:>7}"


def _latency(trial: Trial, view: StudyView) -> str:
    if view.latency == "measured":
        return "-" if trial.latency_ms is None else milliseconds(trial.latency_ms)
    return "-" if trial.macs is None else brief(trial.macs)


def milliseconds(value: float) -> str:
    """A latency: `0.083`, `1.24`, `12.4`."""
    return f"{value:.3f}" if value < 1 else f"{value:.3g}"


def origin(trial: Trial) -> str:
    """Where a trial comes from: `swap 12`, or nothing if the sampler proposed it."""
    return trial.operation if trial.parent is None else f"{trial.operation} {trial.parent}"


def settings(trial: Trial) -> str:
    """What was tried, keys without their section: `lr=0.002 width=0.5`."""
    return " ".join(f"{key.split('.')[-1]}={value_text(trial, key)}" for key in trial.params)


def value_text(trial: Trial, key: str) -> str:
    """A value of a trial in four digits or so."""
    value = trial.params[key]
    return f"{value:.4g}" if isinstance(value, float) else show(value)


def exact(trial: Trial, key: str) -> str:
    """A value of a trial as it would be typed; nothing for a key that it did not have."""
    return show(trial.params[key]) if key in trial.params else ""


# One trial.


def trial_lines(trial: Trial, view: StudyView, width: int) -> Iterable[Line]:
    """All there is to say about a trial."""
    if trial.why:
        state, style = STATES[trial.state]
        yield Content.assemble((f"{state.split()[0]} ", style), trial.why)
    if not trial.feasible:
        yield Content.assemble(("! ", "$warning"), "exceeds a target of the recipe")
    for measures in (_quality(trial), _cost(trial)):
        if line := "   ".join(measures):
            yield line
    yield ("  ".join(_history(trial, view)), "$dim")
    yield ""
    yield from _setting_lines(trial, width)


def _setting_lines(trial: Trial, width: int) -> Iterable[Line]:
    """What was tried, in as many columns as there is room for."""
    name = max((len(key) for key in trial.params), default=0) + 1
    cells = [
        Content.assemble((f"{key:<{name}}", "$dim"), f"{value_text(trial, key):<14}")
        for key in trial.params
    ]
    columns = max(1, width // (name + 14))
    for at in range(0, len(cells), columns):
        yield Content("").join(cells[at : at + columns])


def _quality(trial: Trial) -> Iterable[str]:
    if trial.pauc is not None:
        yield f"pAUC {trial.pauc:.4f}"
    if trial.frr is not None:
        yield f"missed {percent(trial.frr)}"
    if trial.fah is not None:
        yield f"{rate(trial.fah)} false/h"


def _cost(trial: Trial) -> Iterable[str]:
    if trial.latency_ms is not None:
        yield f"{milliseconds(trial.latency_ms)} ms a hop"
    if trial.macs is not None:
        yield f"{brief(trial.macs)} MACs a window"
    if trial.int8_kb is not None:
        yield f"INT8 {trial.int8_kb:.0f} kB"


def _history(trial: Trial, view: StudyView) -> Iterable[str]:
    yield trial.run or "no run yet"
    yield f"from trial {trial.parent}, {trial.operation}" if trial.parent is not None else "sampled"
    children = [str(other.number) for other in view.trials if other.parent == trial.number]
    if children:
        yield f"forked to {', '.join(children[:6])}" + (" …" if len(children) > 6 else "")
    if trial.seconds:
        yield f"took {duration(trial.seconds)}"


def trial_title(trial: Trial, view: StudyView) -> str:
    """The number of a trial, and whether it is a good trade."""
    return f"trial {trial.number}" + (", on the front" if trial.number in view.front else "")


# The study as plots.


def front_title(view: StudyView) -> str:
    """What the trade-off is between."""
    return f"{QUALITY[view.quality]} against {LATENCY[view.latency]}"


def front_plot(view: StudyView, chosen: int | None) -> Plot | None:
    """Every measured trial, the Pareto front as stairs, and the chosen one on top."""
    points = {trial.number: _point(trial, view) for trial in view.trials if trial.values}
    if not points:
        return None
    best = [points[number] for number in view.front if number in points]
    fits = {trial.number for trial in view.trials if trial.feasible}
    rest = [number for number in points if number not in view.front]
    groups = (
        Series("trial", *_axes(points[n] for n in rest if n in fits), "○", colour=OTHERS),
        Series("over a target", *_axes(points[n] for n in rest if n not in fits), "+",
               colour=OTHERS),
        Series("", *_stairs(best), colour=FRONT),
        Series("front", *_axes(best), "◆", colour=FRONT),
        Series(f"{chosen}", *_axes([points[chosen]] if chosen in points else []), "●",
               colour=CHOSEN),
    )  # fmt: skip
    shown = [group for group in groups if np.size(group.xs)]
    return Plot(shown, *_ranges(list(points.values()), best, view))


def _point(trial: Trial, view: StudyView) -> tuple[float, float]:
    assert trial.values is not None
    quality, latency = trial.values
    return latency, quality if view.quality == "pauc" else quality * 100


def _axes(points: Iterable[tuple[float, float]]) -> tuple[list[float], list[float]]:
    xs, ys = zip(*points, strict=True) if (points := list(points)) else ((), ())
    return list(xs), list(ys)


def _stairs(best: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """The edge of what is reached: from each point to the next slower one, then up or down."""
    corners = []
    for (x, y), (next_x, next_y) in pairwise(best):
        corners += [(x, y), (next_x, y), (next_x, next_y)]
    return _axes(corners)


def _ranges(
    points: Sequence[tuple[float, float]], best: Sequence[tuple[float, float]], view: StudyView
) -> tuple[Axis, Axis]:
    """The axes; the worst trials are drawn at the edge where they would squeeze the others."""
    xs, ys = _axes(points)
    log = min(xs) > 0 and max(xs) / min(xs) > LOG_FROM
    edge = np.percentile(ys, OUTLIERS if view.quality == "pauc" else 100 - OUTLIERS)
    kept = [y for y in ys if (y >= edge) == (view.quality == "pauc")] + [y for _, y in best]
    x = Axis.around(xs, log=log, label=LATENCY[view.latency])
    return x, Axis.around([*kept, float(edge)], label=QUALITY[view.quality])


def volume_plot(view: StudyView) -> Plot | None:
    """The hypervolume after each finished trial."""
    if not view.hypervolume:
        return None
    count = len(view.hypervolume)
    x = Axis(1.0, max(2.0, count), label="trials")
    shares = [100 * share for share in view.hypervolume]
    y = Axis(0.0, max(5.0, max(shares) * 1.05))
    return Plot([Series("", range(1, count + 1), shares)], x, y)


def importance_lines(view: StudyView, width: int) -> Iterable[Line]:
    """A bar for each key, the most important first."""
    if not view.importance:
        yield ("after some trials", "$dim")
        return
    most = max(view.importance.values()) or 1.0
    names = {key: key.split(".")[-1] for key in view.importance}
    room = max(map(len, names.values()))
    for key, share in sorted(view.importance.items(), key=lambda item: -item[1]):
        full = round(max(width - room - 6, 0) * share / most)
        yield Content.assemble(
            f"{names[key]:<{room}} ", f"{share * 100:>3.0f} ", ("━" * full, "$primary")
        )
