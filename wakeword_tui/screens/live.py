"""Live answers "does it work with my voice, here?"."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

import numpy as np
from textual import work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget

from engine import laptop
from engine.audio import SAMPLE_RATE, Waveform
from engine.errors import WakewordError
from engine.microphone import open_source
from wakeword_tui.listening import SHOWN_S, Fired, Hearing, Listener
from wakeword_tui.numbers import count, duration, percent, rate
from wakeword_tui.screens.dialogs import Pick
from wakeword_tui.screens.fields import Field, Fields, Texts
from wakeword_tui.screens.page import Page
from wakeword_tui.widgets.chart import Chart
from wakeword_tui.widgets.menu import Menu
from wakeword_tui.widgets.panels import Facts, Lines
from wakeword_tui.widgets.raster import Axis, Plot, Series
from wakeword_tui.widgets.spectrogram import Spectrogram

Line = Content | str | tuple[str, str]
FLOOR_DB = -60.0
STRIP_S = 10.0
STRIP_EVERY_S = 0.5
LOOK_EVERY_S = 1.0
SOUND, SOUNDS = "sound", "auto, microphone, microphone:NAME, pipe, none, or a recording"
EMPTY: tuple[Line, ...] = (
    ("Nobody listens.", "bold"),
    "",
    "s  start to listen, and say it",
    "o  choose the sound",
    "d  choose the detector",
    "f  it was no wake word: to Review",
    "m  it missed me: the last 3 s, to Review",
    "n  record clips of your own",
    "",
    ("Nothing else is kept.", "$dim"),
)
UNTRAINED: tuple[Line, ...] = (
    ("There is no detector yet.", "bold"),
    "",
    "Listening takes one that was trained:",
    "2  go to Train, and start one there with s",
)


class LiveScreen(Page):
    """The level on top, scores and the sound on the left, detections on the right."""

    TITLE = "Live"
    PANELS = "#input, #empty, #scores, #strip, #fired, #session"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start_stop", "Start/stop", id="live.start"),
        Binding("f", "keep_alarm", "False", id="live.false"),
        Binding("m", "keep_miss", "Missed", id="live.missed"),
        Binding("n", "app.record", "Record", id="live.record"),
        Binding("o", "sound", "Sound", id="live.sound"),
        Binding("d", "detector", "Detector", id="live.detector"),
    ]

    def body(self) -> Iterable[Widget]:
        """The panels."""
        yield Lines("input", id="input")
        with Horizontal(id="live"):
            with Vertical(id="left"):
                yield Lines("live", id="empty")
                yield Chart("score", id="scores")
                yield Spectrogram(id="strip")
            with Vertical(id="right"):
                yield Menu("fired", id="fired")
                yield Facts("session", id="session")

    def on_mount(self) -> None:
        """Begin in the list."""
        self._stripped_s, self._looked_s = 0.0, float("-inf")
        self._model = ""
        self.query_one("#strip").border_title = f"sound, last {STRIP_S:.0f} s"
        self.query_one("#fired", Menu).focus()

    @property
    def _listener(self) -> Listener:
        return self.desk.listener

    def copyable(self) -> str:
        """What to type on the laptop, while that is waited for; else the detections."""
        hearing, command = self._listener.hearing, laptop.command("mic")
        now = hearing.now if hearing is not None and self._listener.job is not None else None
        waits = now is not None and command in now.hint
        return command if waits else self.query_one("#fired", Menu).text

    # Painting.

    def paint(self) -> None:
        """Show the session, as far as it is."""
        listener, hearing = self._listener, self._listener.hearing
        self.set_class(hearing is None or hearing.now is None, "-empty")
        source = self.query_one("#input", Lines)
        source.border_title = f"input  {source_title(listener)}"
        source.show(*input_lines(listener, source.size.width))
        if hearing is None or hearing.now is None:
            starting = hearing is not None and listener.job is not None
            lines: tuple[Line, ...] = EMPTY if self._next() else UNTRAINED
            self.query_one("#empty", Lines).show(*(("starting …",) if starting else lines))
        else:
            self._paint_scores(hearing)
            self._paint_strip(hearing)
        self._paint_fired(hearing)
        self.query_one("#session", Facts).show(session_rows(hearing, self._next()))

    def _next(self) -> str:
        """What listens next, by name, or nothing; the runs are listed once a second."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_EVERY_S:
            model = self._listener.model()
            self._looked_s, self._model = now_s, model[0] if model is not None else ""
        return self._model

    def _paint_scores(self, hearing: Hearing) -> None:
        chart = self.query_one("#scores", Chart)
        level = f"  threshold {hearing.began.threshold:.3f}" if hearing.began else ""
        chart.border_title = f"score, last {SHOWN_S:.0f} s{level}"
        chart.show(score_plot(hearing))

    def _paint_strip(self, hearing: Hearing) -> None:
        """Show the sound anew twice a second: it would be much to send at every tick."""
        strip, now_s = self.query_one("#strip", Spectrogram), time.monotonic()
        if strip.display and now_s - self._stripped_s >= STRIP_EVERY_S:
            self._stripped_s = now_s
            strip.show(strip_sound(hearing, strip.size.width))

    def _paint_fired(self, hearing: Hearing | None) -> None:
        """Show the detections, the newest on top; a cursor that is there stays there."""
        fired = list(hearing.fired) if hearing is not None else []
        menu = self.query_one("#fired", Menu)
        on_top = not menu.highlighted
        menu.border_title = fired_title(fired, hearing.detections if hearing is not None else 0)
        menu.show([(one.name, fired_line(one, menu.size.width)) for one in fired])
        if on_top and fired:
            menu.go_to(fired[0].name)

    # Keys.

    def action_start_stop(self) -> None:
        """Listen, or stop."""
        job = self._listener.job
        if job is not None:
            job.control.stop()
            return
        with self.house.complaining():
            self._listener.start()
            self.paint()

    def action_keep_alarm(self) -> None:
        """The detection under the cursor was false: offer it on Review."""
        hearing, name = self._listener.hearing, self.query_one("#fired", Menu).current
        fired = (one for one in hearing.fired if one.name == name) if hearing is not None else ()
        one = next(iter(fired), None)
        if one is None:
            self.notify("nothing has fired yet", timeout=3)
        else:
            self._keep(lambda: self._listener.keep_alarm(one), "false alarm")

    def action_keep_miss(self) -> None:
        """It should have fired: offer the last three seconds on Review."""
        self._keep(self._listener.keep_miss, "the last 3 s")

    @work
    async def _keep(self, keep: Callable[[], None], what: str) -> None:
        """Write in a thread, and say so once it is on the disk."""
        with self.house.complaining():
            await asyncio.to_thread(keep)
            self.desk.miner.look_again()
            self.notify(f"{what} queued; 5 shows it", timeout=4)
        self.paint()

    @work(exclusive=True, group="sound")
    async def action_sound(self) -> None:
        """Choose what is heard."""
        field = Field(SOUND, self._listener.source, SOUNDS)
        typed = await self.app.push_screen_wait(Fields("what is heard", [field], wrong_sound))
        if typed is not None:
            self._listener.source = typed[SOUND]
            self._from_the_next_on()

    @work(exclusive=True, group="detector")
    async def action_detector(self) -> None:
        """Choose what listens."""
        names = list(self._listener.models())
        if not names:
            self.notify("no run has a checkpoint yet", timeout=4)
            return
        chosen = await self.app.push_screen_wait(Pick("listen with", names))
        if chosen is not None:
            self._listener.chosen = chosen
            self._from_the_next_on()

    def _from_the_next_on(self) -> None:
        if self._listener.job is not None:
            self.notify("from the next start on: s stops", timeout=4)
        self._looked_s = float("-inf")
        self.paint()


def wrong_sound(texts: Texts) -> Mapping[str, str]:
    """Why what was typed cannot be heard; nothing is opened for good."""
    typed = texts[SOUND].strip()
    try:
        open_source(typed).close()
    except WakewordError as error:
        return {SOUND: error.message if typed else "what is to be heard?"}
    return {}


def source_title(listener: Listener) -> str:
    """What is heard, or would be."""
    now = listener.hearing.now if listener.hearing is not None else None
    return now.line if now is not None and listener.job is not None else listener.source


def input_lines(listener: Listener, width: int) -> Iterable[Line]:
    """How loud it is, and what is wrong; where nobody listens, how it ended."""
    hearing = listener.hearing
    now = hearing.now if hearing is not None else None
    if hearing is None or now is None or listener.job is None:
        failed = hearing.store.failed if hearing is not None else None
        warned = hearing.warned if hearing is not None else None
        yield ("s starts to listen", "$dim")
        if failed is not None and listener.job is None:
            yield Content.assemble(("✗ ", "$error"), failed.message, ("  ", ""), failed.hint)
        elif warned is not None:
            yield Content.assemble(("! ", "$warning"), warned.message)
        return
    yield level_line(now.level_db, max(hearing.peaks_db), width)
    if now.state in ("connecting", "lost"):
        sign = "✗ " if now.state == "lost" else "· "
        key = "y copies the command  " if laptop.command("mic") in now.hint else ""
        yield Content.assemble((f"{sign}{now.state}  ", "$warning"), (key, "$dim"), now.hint)
    elif now.advice:
        yield Content.assemble(("! ", "$warning"), now.advice)
    else:
        word = hearing.began.wakeword if hearing.began is not None else ""
        yield Content.assemble((f"listening for {word}", "$dim"))


def level_line(level_db: float, peak_db: float, width: int) -> Content:
    """The level as a bar from -60 dBFS up, with the peak of the last two seconds in it."""
    left, right = f"rms {_db(level_db)} dB ", f" peak {_db(peak_db)} dB"
    room = max(4, width - len(left) - len(right))
    full, peak = (round(room * share(level)) for level in (level_db, peak_db))
    after = max(peak - full - 1, 0)
    mark = "▌" if peak > full else ""
    rest = room - full - after - len(mark)
    return Content.assemble(
        (left, "$dim"),
        ("█" * full, "$primary"),
        ("━" * after, "$grid"),
        (mark, "$now"),
        ("━" * rest, "$grid"),
        (right, "$dim"),
    )


def share(level_db: float) -> float:
    """Where a level is between the floor and full scale, 0 to 1."""
    return min(max(1 - level_db / FLOOR_DB, 0.0), 1.0)


def _db(level_db: float) -> str:
    return f"{max(level_db, -99.0):4.0f}"


def score_plot(hearing: Hearing) -> Plot:
    """Scores of the last half minute, the threshold, and what fired."""
    now_s = hearing.recent.heard_s
    points = np.array([p for p in hearing.curve if p[0] > now_s - SHOWN_S]).reshape(-1, 2)
    fired = [one.heard for one in hearing.fired if one.heard.at_s > now_s - SHOWN_S]
    x = Axis(-SHOWN_S, 0.0, label="s")
    series = [Series("score", points[:, 0] - now_s, points[:, 1])]
    if hearing.began is not None:
        series.append(Series("threshold", [x.low, x.high], [hearing.began.threshold] * 2))
    marks = [heard.at_s - now_s for heard in fired], [heard.score for heard in fired]
    series.append(Series("fired", *marks, mark="◆", colour=3))
    return Plot(series, x, Axis(0.0, 1.0))


def strip_sound(hearing: Hearing, columns: int) -> Waveform:
    """The last ten seconds, up to where a column is whole: so columns move and do not flicker."""
    column_s = STRIP_S / max(columns, 1)
    end_s = math.floor(hearing.recent.heard_s / column_s) * column_s
    sound = hearing.recent.between(end_s - STRIP_S, end_s)
    return np.pad(sound, (max(round(STRIP_S * SAMPLE_RATE) - len(sound), 0), 0))


def fired_title(fired: Iterable[Fired], detections: int) -> str:
    """How many there were, and how many of those still shown a person calls false."""
    false = sum(one.kept for one in fired)
    return f"fired  {count(detections)}" + (f"  {count(false)} false" if false else "")


def fired_line(one: Fired, width: int) -> Content:
    """A detection: what is known of it, when it was, its score; its delay where there is room."""
    (sign, style), word = verdict(one)
    clock = time.strftime("%H:%M:%S", time.localtime(one.clock_s))
    known, heard = f"{clock} {one.heard.score:.3f}", one.heard
    late = f"  {heard.delay_ms:4.0f} ms after sound"
    if heard.after_ms is not None:
        late = f"  {heard.after_ms:4.0f} ms after word"
    late = late if len(f"{sign} {known}{late} {word}") <= width else ""
    return Content.assemble((f"{sign} ", style), known, (late, "$dim"), (f" {word}", style))


def verdict(one: Fired) -> tuple[tuple[str, str], str]:
    """A sign, its colour and a word: of the person, else of the judge, or the policy for it."""
    judged = one.judged
    if one.kept:
        return ("✗", "$error"), "false"
    if judged is None:
        return ("·", "$dim"), ""
    if judged.error:
        return ("!", "$warning"), f"{'✓' if judged.accepted else '✗'} unheard"
    sign = ("✓", "$success") if judged.accepted else ("✗", "$error")
    return sign, f"{judged.score:.2f}"


def session_rows(hearing: Hearing | None, model: str) -> list[tuple[str, str]]:
    """With what, how long, what came of it, and at what cost; before that, with what it will be."""
    now = hearing.now if hearing is not None else None
    if hearing is None or now is None:
        return [("with", model or "none")]
    cpu = hearing.over.cpu if hearing.over is not None else now.cpu
    heard = [one.heard for one in hearing.fired]
    latency = f"{now.latency_ms:.0f} ms" if now.latency_ms else "-"
    return [
        ("with", hearing.model),
        ("listened", duration(now.at_s)),
        ("an hour", rate(hearing.detections * 3600 / now.at_s) if now.at_s else "-"),
        ("dropped", f"{now.dropped / SAMPLE_RATE:.1f} s" if now.dropped else "nothing"),
        ("cpu", percent(cpu)),
        ("device", latency),
        ("after the word", _median(one.after_ms for one in heard)),
        ("after the sound", _median(one.delay_ms for one in heard)),
    ]


def _median(delays_ms: Iterable[float | None]) -> str:
    """The delay in the middle of those that are known."""
    late = sorted(ms for ms in delays_ms if ms is not None)
    return f"{late[len(late) // 2]:.0f} ms" if late else "-"
