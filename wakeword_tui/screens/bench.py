"""Bench answers "can I ship it?"."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widget import Widget

from engine.compare import Comparison
from engine.export_folder import Kind
from engine.flips import Int8
from engine.metrics import OperatingPoint
from engine.runs import Run
from wakeword_tui import rounded, verbs
from wakeword_tui.answered import answer_lines, cost_lines, set_line, slider, taught_lines
from wakeword_tui.commands.output import table
from wakeword_tui.config import typed_path
from wakeword_tui.numbers import percent
from wakeword_tui.operating import PER_DAY, Answer, answer, steps_with
from wakeword_tui.paired import HEADER, row, sentences
from wakeword_tui.screens.dialogs import Ask, Choice, Pick
from wakeword_tui.screens.page import Page
from wakeword_tui.widgets.chart import Chart
from wakeword_tui.widgets.menu import Menu
from wakeword_tui.widgets.panels import Lines
from wakeword_tui.widgets.raster import Axis, Plot, Series

EMPTY = (
    ("No run has a report yet.", "bold"),
    "",
    "A report is written at the end of a training:",
    "2  go to Train, and start one there with s",
)
NO_SWEEP = (
    ("This report has no false alarms to weigh.", "bold"),
    "",
    "It was measured without streams, or by an older version.",
)
KINDS: dict[str, Kind] = {"o": "onnx", "8": "onnx-int8"}
EXPORTS = (
    ("o", "ONNX, float32"),
    ("8", "ONNX, INT8 weights"),
)
VERDICT_STYLES = {"fewer": "$success", "more": "$error", "same": ""}
NUMBERS_WIDTH, LONGEST_NAME, SHORTEST_BAR = 27, 20, 6
"""Columns of a share's numbers and the scroll bar; of a name, at most; of a bar, at least."""
UPPER = 11
"""Rows of the upper panels without warnings and teachers, as in app.tcss."""
REST_S = 0.15
"""What a run is set to is read once the cursor has rested so long."""
DET = "missed % against false wakes per hour"
MOST_FAH = 60.0
"""The curve ends here, or well beyond the wish: nobody ships one false wake a minute."""


class BenchScreen(Page):
    """Runs with a report; one wish, its threshold, and what that threshold does."""

    TITLE = "Bench"
    PANELS = "#reports, #question, #det, #groups, #int8, #paired"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "wish(-1)", "Fewer", key_display="←", id="bench.fewer"),
        Binding("right", "wish(1)", "More", key_display="→", id="bench.more"),
        Binding("enter", "set", "Set", key_display="⏎", id="bench.set"),
        Binding("c", "compare", "Compare", id="bench.compare"),
        Binding("m", "mine", "Mine", id="bench.mine"),
        Binding("e", "export", "Export", id="bench.export"),
        Binding("v", "int8", "INT8", id="bench.int8"),
    ]

    def body(self) -> Iterable[Widget]:
        """The panels."""
        yield Horizontal(
            Menu("runs", opens=False, id="reports"),
            Lines("how many false wakes a day?", id="question"),
            id="upper",
        )
        yield Horizontal(
            Chart(f"{DET}, test", id="det"),
            Menu("groups", opens=False, id="groups"),
            id="lower",
        )
        yield Menu("float and INT8, test", opens=False, id="int8")
        yield Menu(opens=False, id="paired")

    def on_mount(self) -> None:
        """Begin in the list of runs."""
        self._runs: dict[str, Run] = {}
        self._seen: Mapping[str, Any] | None = None
        self._report: Mapping[str, Any] | None = None
        self._steps: tuple[float, ...] = PER_DAY
        self._step = 0
        self._held = ""
        self._asked = ("", 0)
        self._point: OperatingPoint | None = None
        self.query_one("#question").border_subtitle = "← → change it, enter sets it"
        self.query_one("#reports", Menu).focus()

    def copyable(self) -> str:
        """The question and the answer, or the comparison."""
        if self.has_class("-compared"):
            return self.query_one("#paired", Menu).text
        return self.query_one("#question", Lines).text

    def paint(self) -> None:
        """Look for new reports."""
        reported = [run for run in self.desk.runs() if self.desk.report(run) is not None]
        self._runs = {run.name: run for run in reported}
        menu = self.query_one("#reports", Menu)
        first = menu.current is None
        menu.show([_report_line(run, self.desk.report(run), menu.size.width) for run in reported])
        if first and reported:
            menu.go_to(self.desk.shown.name if self.desk.shown else None)
        self._show_run()
        self._show_groups()
        if not self._runs:
            self.query_one("#question", Lines).show(*EMPTY)

    @on(Menu.OptionHighlighted, "#reports")
    def _show_run(self) -> None:
        run = self._current()
        if run is not None and run.name != self._held:
            self._leave_comparison()
        if run is not None:
            self._look_up(run)
        report = self.desk.report(run) if run else None
        if report is None or report is self._seen:  # a new run in the list changes no wish
            return
        self._seen = report
        self._report = report if report["test"].get("sweep") else None
        told = report.get("int8")
        self.set_class(bool(told), "-int8")
        self.refresh_bindings()
        int8 = self.query_one("#int8", Menu)
        int8.show(list(int8_lines(Int8.of(told))) if told else [])
        int8.go_to(None)
        if self._report is None:
            self._show_nothing()
        else:
            own = self._report["operating_point"]["target_fah"] * 24
            self._steps = steps_with(own)
            self._step = self._steps.index(own)
            self._show_answer()

    def _look_up(self, run: Run) -> None:
        """Have what the run is set to read, if it is another run, or was set anew."""
        asked = run.name, run.best.stat().st_mtime_ns if run.best.exists() else 0
        if asked != self._asked:
            self._asked, self._point = asked, None
            self._read_point(run)

    @work(exclusive=True, group="point")
    async def _read_point(self, run: Run) -> None:
        """Read what the run is set to; torch is imported in the thread."""
        await asyncio.sleep(REST_S)
        self._point = await asyncio.to_thread(verbs.operating_point, run)
        if self._report is not None:
            self._show_answer()

    def _show_nothing(self) -> None:
        self.query_one("#question", Lines).show(*NO_SWEEP)
        self.query_one("#det", Chart).show(None)
        groups = self.query_one("#groups", Menu)
        groups.border_title = "groups"
        groups.show([])

    def _show_groups(self) -> None:
        if self._report is not None:
            groups, point = self.query_one("#groups", Menu), self._report["operating_point"]
            groups.border_title = f"wrong % at {point['threshold']:.3f}, as reported"
            groups.show(list(share_lines(self._report["test"], groups.size.width)))

    def _current(self) -> Run | None:
        name = self.query_one("#reports", Menu).current
        return self._runs.get(name) if name else None

    def _show_answer(self) -> None:
        assert self._report is not None
        given = answer(self._report, self._steps[self._step])
        lines = [*slider(self._steps, self._step), set_line(given, self._point)]
        lines += answer_lines(given)
        lines += [*cost_lines(self._report), *taught_lines(self._report)]
        more = len(self._report.get("warnings", ())) + len(self._report.get("teachers", ()))
        self.query_one("#upper").styles.height = UPPER + more
        self.query_one("#question", Lines).show(*lines)
        det, split = self.query_one("#det", Chart), self._report.get("split", "test")
        det.border_title = f"{DET}, {split}"  # of a search's trial the test is closed
        det.show(det_plot(self._report["test"], given, split))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """In a comparison there is nothing to wish for; not every run has a student as INT8."""
        if action == "int8" and not self.has_class("-int8"):
            return False
        return not (action in ("wish", "set", "int8") and self.has_class("-compared"))

    def _here(self) -> Run | None:
        """The run under the cursor; where keys are typed ahead it has yet to be shown."""
        self._show_run()
        return self._current()

    def action_wish(self, step: int) -> None:
        """Wish for another number of false wakes a day."""
        if self._here() is not None and self._report is not None:
            self._step = min(max(self._step + step, 0), len(self._steps) - 1)
            self._show_answer()

    def action_set(self) -> None:
        """Set the run under the cursor to the threshold that is shown."""
        run = self._here()
        if run is not None and self._report is not None:
            self._set(run, answer(self._report, self._steps[self._step]))

    @work
    async def _set(self, run: Run, given: Answer) -> None:
        """Store the threshold in the checkpoint; torch is imported in the thread."""
        threshold = given.tested.threshold
        self.notify(f"setting {run.name} to {threshold:.3f} …", timeout=2)
        with self.house.complaining():
            await asyncio.to_thread(verbs.set_operating_point, run, threshold, given.target_fah)
            self.house.tell(f"{run.name} now wakes at {threshold:.3f}")

    def action_int8(self) -> None:
        """Look through the student as INT8, and back; where room is short, for curve and groups."""
        self.toggle_class("-view")
        panel = self.query_one("#int8" if self.has_class("-view") else "#reports", Menu)
        panel.focus()
        if self._small:
            self.maximized = panel

    def action_mine(self) -> None:
        """Queue what the run under the cursor wrongly fires on in its own training data."""
        run = self._current()
        if run is None:
            self.notify("there is no run to mine with", timeout=4)
            return
        with self.house.complaining():
            self.desk.miner.start_run(run)
            self.house.action_go("mine")

    def action_export(self) -> None:
        """Write the run under the cursor as a folder that detects by itself."""
        run = self._current()
        if run is None or self.desk.exporter.live is not None:
            self.notify("there is no run to export" if run is None else "an export runs", timeout=4)
        else:
            self._export(run)

    @work(exclusive=True, group="export")
    async def _export(self, run: Run) -> None:
        kind = await self.app.push_screen_wait(Choice(f"{run.name} as", EXPORTS))
        if kind is None:
            return
        name = KINDS[kind]
        place = await self.app.push_screen_wait(Ask("into the folder", str(run.export / name)))
        if place is not None:
            self.desk.exporter.start(run, name, typed_path(place))
            self.notify(f"exporting {run.name}, then running it on validation …", timeout=4)

    def action_compare(self) -> None:
        """Hold the run under the cursor against another one, the baseline."""
        run = self._here()
        others = [name for name in self._runs if run is not None and name != run.name]
        if run is None or not others:
            self.notify("a comparison takes two runs with a report", timeout=4)
        else:
            self._compare(run, others)

    @work(exclusive=True, group="compare")
    async def _compare(self, run: Run, others: list[str]) -> None:
        chosen = await self.app.push_screen_wait(Pick(f"{run.name} against", others))
        if chosen is not None:
            with self.house.complaining():
                found = await asyncio.to_thread(verbs.compare, self._runs[chosen], run)
                self._show_comparison(chosen, run.name, found)

    def _show_comparison(self, a: str, b: str, found: Comparison) -> None:
        self._held = b
        paired = self.query_one("#paired", Menu)
        paired.border_title = f"A {a}   B {b}   esc leaves"
        paired.show(list(paired_lines(found)))
        paired.go_to(None)
        self.add_class("-compared")
        self.refresh_bindings()
        paired.focus()
        if self._small:
            self.maximized = paired

    def _leave_comparison(self) -> None:
        if self.has_class("-compared"):
            self.remove_class("-compared")
            self.refresh_bindings()
            self.query_one("#reports", Menu).focus()
            if self._small:
                self._show_panel(0)

    def action_back(self) -> None:
        """Leave the zoom, then the comparison."""
        if self.maximized is not None and not self._small:
            super().action_back()
        else:
            self._leave_comparison()


def _report_line(run: Run, report: Mapping[str, Any] | None, width: int) -> tuple[str, Content]:
    missed = percent(report["test"]["frr"]) if report else "-"
    room = max(width - 8, 8)
    return run.name, Content.assemble(f"{run.name[:room]:<{room}} ", (f"{missed:>7}", "$dim"))


def int8_lines(told: Int8) -> Iterable[tuple[str, Content]]:
    """The float student and the INT8 ones, a line each, and where they differ."""
    head, *lines = table(rounded.BRIEF, rounded.briefly(told)).splitlines()
    yield "header", Content.styled(head, "$now")
    yield from ((f"student:{number}", Content(line)) for number, line in enumerate(lines))
    for number, sentence in enumerate(rounded.sentences(told)):
        yield f"sentence:{number}", Content.styled(sentence, "$dim")


def share_lines(test: Mapping[str, Any], width: int) -> Iterable[tuple[str, Content]]:
    """Cohorts with bars where there is room, then groups with the worst first.

    Each is what went wrong in %, as a count, and its interval: misses, or what fires on negatives.
    """
    groups = sorted(test["groups"].items(), key=lambda item: -item[1]["rate"])
    cohorts = list(test["cohorts"].items())
    longest = max((len(name) for name, _ in (*cohorts, *groups)), default=0)
    room = max(8, min(longest, LONGEST_NAME, width - NUMBERS_WIDTH))
    most = max((share["high"] for _, share in cohorts), default=1.0)
    for name, share in cohorts:
        bar = _bar(share, most, width - room - NUMBERS_WIDTH - 1)
        yield f"cohort:{name}", _share_line(name, share, room) + bar
    for name, share in groups:
        yield f"group:{name}", _share_line(name, share, room)


def _share_line(name: str, share: Mapping[str, Any], room: int) -> Content:
    count = f"{share['wrong']}/{share['clips']}"
    interval = f"{share['low'] * 100:.1f}-{share['high'] * 100:.1f}"
    rate = f"{share['rate'] * 100:6.1f}", "$error" if share["rate"] > 0.1 else ""
    return Content.assemble(
        f"{name[:room]:<{room}}", rate, f"{count:>9}", (f"{interval:>11}", "$dim")
    )


def _bar(share: Mapping[str, Any], most: float, width: int) -> Content:
    """The rate as a bar, on to the upper end of its interval as a thin line."""
    if width < SHORTEST_BAR:
        return Content("")
    full, end = (round(share[key] / most * width) for key in ("rate", "high"))
    return Content.assemble(" ", ("━" * full, "$primary"), ("─" * (end - full), "$dim"))


def paired_lines(found: Comparison) -> Iterable[tuple[str, Content]]:
    """What a comparison shows, then a line for each cohort."""
    for number, sentence in enumerate(sentences(found)):
        yield f"sentence:{number}", Content.styled(sentence, "" if number == 0 else "$dim")
    head, *lines = table(HEADER, map(row, found.cohorts)).splitlines()
    yield "header", Content.styled(f"\n{head}", "$now")
    for paired, line in zip(found.cohorts, lines, strict=True):
        yield f"cohort:{paired.cohort}", Content.styled(line, VERDICT_STYLES[paired.verdict])


def det_plot(test: Mapping[str, Any], given: Answer, split: str = "test") -> Plot | None:
    """The DET curve of the split, the wish as an upright line, and where the threshold lands.

    No alarm at all is drawn at the left edge: on a logarithmic axis no rate stands for it.
    """
    if not test["det"] or not given.tested.hours:
        return None
    tested, target = given.tested, given.target_fah
    most = max(MOST_FAH, 4 * target, tested.fah, 1 / tested.hours)
    points = [point for point in test["det"] if point[0] <= most]
    if not points:
        return None
    fah, frr = zip(*points, strict=True)
    missed = tested.frr * 100
    x = Axis.around([*fah, target, tested.fah], log=True)
    y = Axis.around([*(value * 100 for value in frr), missed, 5.0], low=0.0)
    curve = Series(split, [rate or x.low for rate in fah], [value * 100 for value in frr])
    name = "this threshold" if tested.false_alarms else "this: no alarm"
    now = Series(name, [tested.fah or x.low], [missed], mark="◆")
    wish = Series("wish", [target, target], [y.low, y.high])
    return Plot([curve, now, wish], x, y)
