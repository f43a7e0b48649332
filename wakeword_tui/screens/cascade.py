"""Cascade answers "what does the judge add?"."""

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from textual import work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget

from engine.audio import SUFFIXES
from engine.errors import WakewordError
from engine.files import is_file
from engine.judge import Health
from wakeword_tui.cascading import BRIEF, HEADER, briefly, clock, rows, sentences
from wakeword_tui.commands.output import table
from wakeword_tui.config import typed_path
from wakeword_tui.judging import Judging, latency
from wakeword_tui.screens.dialogs import Pick, PickFile
from wakeword_tui.screens.fields import Field, Fields, Texts
from wakeword_tui.screens.page import Page
from wakeword_tui.told import fitted
from wakeword_tui.widgets.chart import Chart
from wakeword_tui.widgets.menu import Menu
from wakeword_tui.widgets.panels import Lines
from wakeword_tui.widgets.raster import Axis, Plot, Series

if TYPE_CHECKING:
    from engine.cascade import Pair, Passed, Tested
    from engine.runs import Run
    from engine.verify import Verified
    from wakeword_tui.listening import Fired, Hearing

Line = Content | str | tuple[str, str]
LOOK_EVERY_S, LIST_EVERY_S = 5.0, 1.0
MOST_FAH = 100.0
BAR = 20
LONGEST_NAME = 15
NAME, TOKEN, TIMEOUT = "judge", "token file", "timeout, s"
EMPTY: tuple[Line, ...] = (
    ("No judge has been measured yet.", "bold"),
    "",
    "e  names a judge: a URL, or a run of this workspace",
    "s  measures it behind a sentry, on the test split",
    "o  has it hear what the sentry fires on in a recording",
    "v  has it hear what the sentry fires on live",
    "d  chooses the sentry: the newest run, unless you do",
)


class CascadeScreen(Page):
    """The stages and what each lets through, the judge, and what it said."""

    TITLE = "Cascade"
    PANELS = "#stages, #det, #judge, #funnel, #heard"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start_stop", "Start/stop", id="cascade.start"),
        Binding("v", "verify", "Verify", id="cascade.verify"),
        Binding("o", "file", "File", id="cascade.file"),
        Binding("e", "judge", "Judge", id="cascade.judge"),
        Binding("d", "detector", "Sentry", id="cascade.detector"),
    ]

    def body(self) -> Iterable[Widget]:
        """The panels."""
        yield Lines("stages", id="stages")
        yield Horizontal(
            Chart("missed % against false wakes per hour, test", id="det"),
            Vertical(
                Lines("judge", id="judge"),
                Lines("test streams, log scale", id="funnel"),
                Menu(id="heard"),
                id="side",
            ),
        )

    def on_mount(self) -> None:
        """Begin in the list, and look after the judge."""
        self._drawn: Tested | None = None
        self._named, self._listed_s = "", float("-inf")
        self.query_one("#heard", Menu).focus()
        self.set_interval(LOOK_EVERY_S, self._look)
        self._look()

    @property
    def _judging(self) -> Judging:
        return self.desk.judging

    def copyable(self) -> str:
        """The stages, and what was heard."""
        stages = self.query_one("#stages", Lines).text
        return f"{stages}\n\n{self.query_one('#heard', Menu).text}".rstrip()

    def paint(self) -> None:
        """Show stages, judge, and what was heard."""
        judging, wide = self._judging, self.size.width >= 100
        stages = self.query_one("#stages", Lines)
        tested = judging.tested
        stages.border_title = judging.pair if tested else "stages"
        stages.show(*(stage_lines(tested, wide=wide) if tested else EMPTY))
        itself = bool(judging.run) and judging.run == self._sentry_name()
        self.query_one("#judge", Lines).show(*judge_lines(judging, itself=itself))
        self.query_one("#funnel", Lines).show(*(funnel_lines(tested) if tested else ()))
        heard = self.query_one("#heard", Menu)
        heard.border_title, lines = heard_lines(judging)
        heard.show(lines)
        if tested is not self._drawn:
            self._drawn = tested
            self.query_one("#det", Chart).show(det_plot(tested) if tested else None)

    @work(exclusive=True, group="look")
    async def _look(self) -> None:
        """Ask the judge how it does, while somebody looks."""
        if self.is_current:
            await asyncio.to_thread(self._judging.look)

    # The judge.

    @work(exclusive=True, group="judge")
    async def action_judge(self) -> None:
        """Name another judge; its token is named by a file and never shown."""
        judging = self._judging
        config = judging.config
        fields = (
            Field(NAME, judging.name, "a URL, or a run"),
            Field(TOKEN, str(config.token_file or ""), "a file of yours"),
            Field(TIMEOUT, f"{config.timeout_s:g}", "above 0, 60 at most"),
        )
        typed = await self.app.push_screen_wait(Fields("the judge", fields, self._wrong))
        if typed is not None:
            judging.set(typed[NAME], typed[TOKEN], float(typed[TIMEOUT]))
            self.paint()
            self._look()

    def _wrong(self, texts: Texts) -> Mapping[str, str]:
        """What is wrong with the fields of a judge, by name."""
        found = {}
        name, file = texts[NAME].strip(), texts[TOKEN].strip()
        if name and "://" not in name and name not in [run.name for run in self._runs()]:
            found[NAME] = "neither a URL nor a run with a checkpoint"
        if file and not is_file(typed_path(file)):
            found[TOKEN] = "there is no such file"
        try:
            timed = 0 < float(texts[TIMEOUT]) <= 60
        except ValueError:
            timed = False
        return found if timed else found | {TIMEOUT: "seconds, above 0 and at most 60"}

    # The sentry.

    def _runs(self) -> Sequence["Run"]:
        return self.desk.miner.detectors()

    def _sentry(self) -> "Run":
        """The run that hears everything. Raises WakewordError where there is none."""
        run = self.desk.miner.detector()
        if run is None:
            raise WakewordError("there is no detector yet", "2  go to Train, and start one there")
        return run

    def _sentry_name(self) -> str:
        """What that run is called, if there is one; the runs are listed once a second."""
        now_s = time.monotonic()
        if now_s - self._listed_s >= LIST_EVERY_S:
            run = self.desk.miner.detector()
            self._listed_s, self._named = now_s, run.name if run is not None else ""
        return self._named

    @work(exclusive=True, group="detector")
    async def action_detector(self) -> None:
        """Choose the run that hears everything, here and where it is mined with."""
        names = [run.name for run in self._runs()]
        if not names:
            self.notify("no run has a checkpoint yet", timeout=4)
            return
        chosen = await self.app.push_screen_wait(Pick("the sentry", names))
        if chosen is not None:
            self.desk.miner.chosen, self._listed_s = chosen, float("-inf")
            self.paint()

    # What is asked of the judge.

    def action_start_stop(self) -> None:
        """Measure both together, or stop whatever asks the judge."""
        if self._judging.asking is not None:
            self._judging.stop()
            self.notify("stopping", timeout=2)
            return
        with self.house.complaining():
            self._judging.measure(self._sentry())

    def action_verify(self) -> None:
        """Have the judge hear what the sentry fires on live, or stop listening."""
        listener = self.desk.listener
        if listener.job is not None:
            listener.job.control.stop()
            self.notify("stopping to listen", timeout=2)
            return
        with self.house.complaining():
            run = self._sentry()
            listener.chosen, (judge, threshold) = run.name, self._judging.listens(run)
            listener.start(judge, threshold)
            self._judging.live = listener.hearing
            self.paint()

    @work(exclusive=True, group="file")
    async def action_file(self) -> None:
        """Have the judge hear what the sentry fires on in a recording."""
        near = await asyncio.to_thread(recordings_near)
        path = await self.app.push_screen_wait(PickFile("verify a recording", near))
        if path is not None:
            with self.house.complaining():
                self._judging.verify_file(self._sentry(), path.absolute())


def recordings_near() -> list[Path]:
    """The recordings of the working directory, by their names."""
    files = (path for path in Path.cwd().iterdir() if path.is_file())
    return sorted(Path(path.name) for path in files if path.suffix.lower() in SUFFIXES)


def stage_lines(found: "Tested", *, wide: bool) -> Iterable[Line]:
    """The stages, what the judge adds, and what it takes."""
    header, cells = (HEADER, rows(found)) if wide else (BRIEF, briefly(found))
    head, *stages = table(header, cells, left=2).splitlines()
    yield head, "$now"
    yield from stages
    for sentence in sentences(found):
        yield sentence, "$dim"


def judge_lines(judging: Judging, *, itself: bool) -> Iterable[Line]:
    """Which judge, how it does, and how long its answers take."""
    if not judging.name:
        yield "none: e names one", "$dim"
        return
    yield judging.name
    if itself:
        yield "! the sentry itself:", "$warning"
        yield "  it can only agree with itself", "$warning"
    else:
        yield _health_line(judging)
    if not judging.run:
        file = judging.config.token_file
        yield Content.assemble(("token  ", "$dim"), file.name if file else "none named")
    yield Content.assemble(("answers ", "$dim"), latency(judging.took_ms))


def _health_line(judging: Judging) -> Line:
    health = judging.health
    if judging.run:
        return "a run of this workspace", "$dim"
    if health is None:
        return "asking how it does …", "$dim"
    if isinstance(health, Health):
        waiting = f"{health.waiting} of {health.room} waiting"
        return Content.assemble(("✓ ", "$success"), f"{health.model}, {waiting}")
    return Content.assemble(("✗ ", "$error"), health.message)


def funnel_lines(found: "Tested") -> Iterable[Line]:
    """How much of the streams each stage hears, as bars on a log scale down to a millionth."""
    seconds = 3600 * found.joint.hours
    accepted = found.joint.false_alarms * found.sent_s / seconds if seconds else 0.0
    for name, share in (("heard", 1.0), ("forwarded", found.sent), ("accepted", accepted)):
        full = round(BAR * max(0.0, 1 + math.log10(max(share, 1e-9)) / 6))
        yield Content.assemble(
            (f"{name:<10}", "$dim"), ("━" * full, "$primary"), ("━" * (BAR - full), "$grid"),
            f"{share * 100:>8.3g} %",
        )  # fmt: skip


def heard_lines(judging: Judging) -> tuple[str, list[tuple[str, Content]]]:
    """The title and lines of what is heard live, of a recording, or of what the judge let pass."""
    if judging.live is not None:
        return live_lines(judging.live, judging.at)
    if judging.file is not None:
        lines = [verdict_line(one, number) for number, one in enumerate(judging.verified)]
        return (
            f"{fitted(judging.file, LONGEST_NAME)}: sentry, judge {thresholds(judging.at)}",
            lines,
        )
    passed = judging.tested.passed if judging.tested else ()
    return "false wakes: sentry, judge", [passed_line(alarm, n) for n, alarm in enumerate(passed)]


def passed_line(alarm: "Passed", number: int) -> tuple[str, Content]:
    """A false alarm that both let through: where, and both scores."""
    name = fitted(Path(alarm.path), LONGEST_NAME)
    scores = f"{alarm.sentry:.3f}  {alarm.judge:.3f}"
    return str(number), Content.assemble(f"{name:<{LONGEST_NAME}}{clock(alarm.at_s):>7}  ", scores)


def thresholds(at: "Pair | None") -> str:
    """At which thresholds the sentry fires and the judge accepts."""
    return f"at pair {at.sentry:.3f}, {at.judge:.3f}" if at is not None else "at own"


def live_lines(hearing: "Hearing", at: "Pair | None") -> tuple[str, list[tuple[str, Content]]]:
    """What the sentry fired on live, the newest first, and what the judge said of it."""
    line = hearing.now.line if hearing.now is not None else "connecting …"
    title = line if hearing.job.alive else "heard live: sentry, judge"
    return f"{title} {thresholds(at)}", [live_line(fired) for fired in hearing.fired]


def live_line(fired: "Fired") -> tuple[str, Content]:
    """A live detection: when, the sentry's level, the judge's score and verdict if it has one."""
    judged, score = fired.judged, f" {clock(fired.heard.at_s):>7}  {fired.heard.score:.3f}"
    if judged is None:
        return fired.name, Content.assemble(("· ", "$now"), score[1:], ("  asked …", "$dim"))
    if judged.error:
        why = f"  {unheard(accepted=judged.accepted)}: {judged.error}"
        return fired.name, Content.assemble(("!", "$warning"), score, (why, "$dim"))
    sign = ("✓", "$success") if judged.accepted else ("✗", "$error")
    took = (f"  {judged.took_ms:.0f} ms", "$dim")
    return fired.name, Content.assemble(sign, f"{score}  {judged.score:.3f}", took)


def verdict_line(one: "Verified", number: int) -> tuple[str, Content]:
    """A detection: when, the sentry's level, the judge's score, and the verdict with its sign."""
    verdict, heard = one.verdict, f" {clock(one.time_s):>7}  {one.score:.3f}"
    if verdict is None:
        failure = one.decision.failure
        why = f"  {unheard(accepted=one.decision.accepted)}: {failure and failure.message}"
        return str(number), Content.assemble(("!", "$warning"), heard, (why, "$dim"))
    sign = ("✓", "$success") if verdict.accepted else ("✗", "$error")
    scores = f"{heard}  {verdict.score:.3f}"
    return str(number), Content.assemble(sign, scores, (f"  {verdict.took_ms:.0f} ms", "$dim"))


def unheard(*, accepted: bool) -> str:
    """What became of a detection that the judge failed."""
    return f"{'accepted' if accepted else 'rejected'} unheard"


def det_plot(found: "Tested") -> Plot | None:
    """The sentry alone and both together, and where the chosen pair lands."""
    curves = []
    for name, measured in (("alone", found.alone), ("both", found.joint)):
        points = [point for point in measured.det if point[0] <= MOST_FAH]
        if points:
            fah, frr = zip(*points, strict=True)
            curves.append(Series(name, fah, [value * 100 for value in frr]))
    if not curves or not found.joint.hours:
        return None
    here = max(found.joint.fah, 1 / found.joint.hours), found.joint.frr * 100
    x = Axis.around([*(v for c in curves for v in np.asarray(c.xs)), here[0]], log=True)
    y = Axis.around([*(v for c in curves for v in np.asarray(c.ys)), here[1], 5.0], low=0.0)
    return Plot([*curves, Series("pair", [here[0]], [here[1]], mark="◆", colour=3)], x, y)
