"""Train answers "is it learning, and is it good where it counts?"."""

import time
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget

from engine.events import Validated
from wakeword_tui.numbers import brief, count, duration, percent, rate, small, span
from wakeword_tui.screens.page import Page
from wakeword_tui.store import Store, weights
from wakeword_tui.widgets.chart import Chart
from wakeword_tui.widgets.menu import Menu
from wakeword_tui.widgets.panels import Facts, Lines, ProgressLine
from wakeword_tui.widgets.raster import Axis, Plot, Series

Line = Content | str | tuple[str, str]
EMPTY: tuple[Line, ...] = (
    ("No training yet.", "bold"),
    "",
    "s      train the recipe that stands in Setup",
    "1      look at the recipe first",
    "enter  open a run of the list",
    "?      all keys",
)
TWO_COLUMNS = 46
"""Cells that two columns of the teachers' panel take."""
UNFINISHED = "unfinished, r resumes"


class TrainScreen(Page):
    """Curves on the left, numbers and runs on the right, how far it is on top."""

    TITLE = "Train"
    PANELS = "#empty, #loss, #miss, #taught, #facts, #runs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start_stop", "Start/stop", id="train.start"),
        Binding("p", "pause", "Pause", id="train.pause"),
        Binding("c", "checkpoint", "Save", id="train.checkpoint"),
        Binding("r", "resume", "Resume", id="train.resume"),
        Binding("v", "view", "Curve", id="train.view"),
    ]

    def body(self) -> Iterable[Widget]:
        """The panels."""
        yield ProgressLine(id="progress")
        yield Horizontal(
            Vertical(
                Lines(id="empty"),
                Chart("loss", id="loss"),
                Chart("missed", id="miss"),
                Lines("parts of the loss, teachers", id="taught"),
            ),
            Vertical(Facts("run", id="facts"), Menu("runs, missed on test", id="runs"), id="side"),
        )

    def on_mount(self) -> None:
        """Begin in the list of runs."""
        self.query_one("#runs", Menu).focus()
        self._painted: tuple[int, int] | None = None

    def copyable(self) -> str:
        """The numbers."""
        texts = self.query_one("#facts", Facts).text, self.query_one("#taught", Lines).text
        return "\n\n".join(text for text in texts if text)

    def paint(self) -> None:
        """Show the store: progress, numbers and runs always, curves when there is a new point."""
        store = self.desk.store
        self.set_class(not store.losses, "-empty")
        live = self.desk.moving(store)
        self.query_one("#empty", Lines).show(*instead_of_curves(store, live=live))
        self.query_one("#progress", ProgressLine).show(*progress(store, live=live))
        taught = (store.step.taught if store.step else None) or {}
        self.set_class(bool(taught), "-taught")
        panel = self.query_one("#taught", Lines)
        panel.show(*taught_lines(taught, panel.size.width))
        facts = self.query_one("#facts", Facts)
        facts.border_title = f"run {self.desk.shown.name}" if self.desk.shown else "run"
        facts.show(list(rows(store, self.desk.epochs(), live=live)))
        runs = self.query_one("#runs", Menu)
        runs.show([run_line(row, runs.size.width) for row in self.desk.run_rows()])
        if self._painted != (id(store), store.n):
            self._painted = (id(store), store.n)
            self.query_one("#loss", Chart).show(loss_plot(store))
            miss = self.query_one("#miss", Chart)
            miss.border_title = miss_title(store)
            miss.show(miss_plot(store))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Grey out what needs a job, or needs that there is none."""
        if action in ("pause", "checkpoint"):
            return True if self.desk.training() else None
        if action == "resume":
            return None if self.desk.training() else True
        return True

    @on(Menu.OptionSelected, "#runs")
    def _open(self, event: Menu.OptionSelected) -> None:
        assert event.option_id is not None
        self.house.open_run(event.option_id)

    def action_start_stop(self) -> None:
        """Train the recipe of Setup, or stop the job after a checkpoint."""
        self.house.start_or_stop()

    def action_pause(self) -> None:
        """Hold the job, or let it go on."""
        job = self.desk.training()
        if job is not None:
            job.control.resume() if job.control.paused else job.control.pause()

    def action_checkpoint(self) -> None:
        """Save now."""
        job = self.desk.training()
        if job is not None:
            job.control.checkpoint()
            self.notify("a checkpoint at the next step", timeout=2)

    def action_resume(self) -> None:
        """Go on with the unfinished run under the cursor."""
        name = self.query_one("#runs", Menu).current
        if name is not None:
            self.house.resume_run(name)

    def action_view(self) -> None:
        """Show the other curve where there is room for one."""
        self.toggle_class("-miss")


def instead_of_curves(store: Store, *, live: bool) -> tuple[Line, ...]:
    """What to say while there is nothing to draw."""
    if store.failed is not None:
        failed = Content.assemble(("✗ ", "$error"), (store.failed.message, "bold"))
        return (failed, "", *store.failed.hint.splitlines(), "", "1  mend the recipe", "9  the log")
    if store.started is not None and not live:
        return ((store.outcome or UNFINISHED, "bold"), "", "It ended before the first steps.")
    if store.started is not None:
        return ((store.phase or "starting", "bold"), "", "The curves begin with the first steps.")
    return EMPTY


def run_line(row: tuple[str, str, str], width: int) -> tuple[str, Content]:
    """A run of the list: sign, name, and miss rate at the right edge."""
    name, sign, missed = row
    style = {"✓": "$success", "●": "$now", "‖": "$now"}.get(sign, "$dim")
    room = max(width - 10, 8)
    number = (f"{missed:>7}", "$dim")
    return name, Content.assemble((f"{sign} ", style), f"{name[:room]:<{room}} ", number)


def progress(store: Store, *, live: bool) -> tuple[int, int, str]:
    """How far the phase is, and what it says beside the bar."""
    if store.started is None:
        return 0, 0, ""
    done, total, unit = store.done()
    if store.outcome:
        done = total if store.outcome == "done" else done  # the last steps may not be in the file
        return done, total, f"{store.outcome}  {count(done)}/{count(total)} {unit}"
    if not live:
        return done, total, f"{UNFINISHED}  {count(done)}/{count(total)} {unit}"
    parts = [store.phase or "starting"]
    if total:
        parts.append(f"{count(done)}/{count(total)}" + ("" if unit == "steps" else f" {unit}"))
    eta_s = store.eta_s(time.time())
    if eta_s is not None:
        parts.append(f"ETA {duration(eta_s)}")
    if store.phase == "train" and store.step is not None:
        parts.append(f"{brief(store.step.clips_per_s)} clips/s")
    return done, total, "  ".join(parts)


def rows(store: Store, epochs: int, *, live: bool) -> Iterable[tuple[str, str]]:
    """The numbers of the side panel: the loop, the measure, the machine; at the end the test."""
    step, valid = store.step, store.validations[-1] if store.validations else None
    epoch = max(step.epoch if step else 0, valid.epoch if valid else 0)
    yield "epoch", f"{epoch}/{epochs}" if epochs else str(epoch)
    yield "loss", small(step.loss) if step else "-"
    yield "lr", f"{step.lr:.2g}" if step else "-"
    yield "SNR dB", f"{step.snr_db:.0f}" if step else "-"
    yield from _measured(valid, store.best)
    yield "", ""
    yield "memory", _memory(step.memory_mb) if step else "-"
    yield "device", store.started.device if store.started else "-"
    if store.reported is not None:
        yield f"missed on {store.reported.split}", percent(store.reported.frr)
    elif live:
        saved = duration(time.time() - store.checkpoint_s) if store.checkpoint_s else ""
        yield "checkpoint", f"{saved} ago" if saved else "-"


def taught_lines(taught: Mapping[str, float], width: int) -> Iterable[Line]:
    """The parts that sum to the loss; the temperature, the agreement and the teachers' shares.

    These stand beside the parts where there is room, else below them.
    """
    names = list(taught)
    at = names.index("temperature") if names else 0
    texts = [small(taught[name]) for name in names[: at + 1]]
    texts += [percent(taught[name]) for name in names[at + 1 :]]
    cells = [
        Content.assemble((f"{name:<13}", "$dim"), f"{text:>8}")
        for name, text in zip(names, texts, strict=True)
    ]
    if width < TWO_COLUMNS:
        yield from cells
        return
    for left, right in zip_longest(cells[:at], cells[at:], fillvalue=Content(" " * 21)):
        yield left + "    " + right


def _measured(valid: Validated | None, best: Validated | None) -> Iterable[tuple[str, str]]:
    if valid is None:
        yield "", ""
        nothing = ("missed", "-"), ("", ""), ("in noise", "-"), ("false/h", "-"), ("pAUC", "-")
        yield from (*nothing, ("best", "-"))
        return
    yield "validation", weights(valid)
    yield f"missed @{valid.target_fah:g}/h", percent(valid.frr)
    yield "", span(valid.frr_low, valid.frr_high)
    yield "in noise", "-" if valid.frr_noisy is None else percent(valid.frr_noisy)
    yield "false/h", rate(valid.fah)
    yield "pAUC", f"{valid.pauc:.3f}"
    yield "best", f"{percent(best.frr)}, {weights(best)}" if best else "-"


def _memory(megabytes: float) -> str:
    return f"{megabytes / 1024:.1f} GB" if megabytes >= 1024 else f"{megabytes:.0f} MB"


def loss_plot(store: Store) -> Plot | None:
    """Training loss on a log axis, and where the best weights so far were found."""
    if not store.losses:
        return None
    xs, ys = zip(*store.losses, strict=True)
    series = [Series("train", xs, ys)]
    if store.best is not None:
        at = max(0, bisect_right(xs, store.best.step) - 1)
        series.append(Series("best", [store.best.step], [ys[at]], mark="◆"))
    return Plot(series, _steps(store), Axis.around(ys, log=True))


def miss_title(store: Store) -> str:
    """What the second chart is about."""
    at = f" at {store.validations[-1].target_fah:g} false/h" if store.validations else ""
    return f"validation: missed %{at}, with 95 % interval"


def miss_plot(store: Store) -> Plot | None:
    """Miss rates, the clean one with its interval, and pAUC on the right axis, once an epoch.

    The left axis is logarithmic, and ends below at half a missed clip, where zero is drawn.
    """
    events = store.validations
    if not events:
        return None
    steps, floor = [event.step for event in events], 50 / max(event.clips for event in events)
    missed = Series(
        "missed %",
        steps,
        [max(event.frr * 100, floor) for event in events],
        mark="●",
        low=[max(event.frr_low * 100, floor) for event in events],
        high=[event.frr_high * 100 for event in events],
    )
    heard = [(event.step, event.frr_noisy) for event in events if event.frr_noisy is not None]
    noisy = Series(
        "in noise %", [s for s, _ in heard], [max(r * 100, floor) for _, r in heard], mark="▲"
    )
    pauc = Series("pAUC", steps, [event.pauc for event in events], mark="○", right=True)
    low = min(event.frr_low for event in events) * 70
    high = max([*(event.frr_high for event in events), *(r for _, r in heard)]) * 120
    y = Axis(max(floor, low), high, log=True)
    return Plot([pauc, *([noisy] if heard else []), missed], _steps(store), y, right=Axis(0.5, 1.0))


def _steps(store: Store) -> Axis:
    """From the start to now, so that the curve fills the chart."""
    last = [store.losses[-1][0] if store.losses else 0, *(v.step for v in store.validations[-1:])]
    return Axis(0.0, max(1.0, *last))
