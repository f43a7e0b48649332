"""Record answers "what do I say now, and was it any good?"."""

import asyncio
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import ScreenSuspend
from textual.widget import Widget

from engine.errors import WakewordError
from engine.microphone import open_source
from engine.phonetics import slug
from engine.sitting import Booth, Sitting
from engine.source import Source
from engine.take import Take
from wakeword_tui import prompted
from wakeword_tui.config import typed_path
from wakeword_tui.recording import after_line, finished_lines, measured, next_step, proposed
from wakeword_tui.screens.fields import Field, Fields, Texts
from wakeword_tui.screens.page import Page
from wakeword_tui.widgets.panels import Lines
from wakeword_tui.widgets.waveform import WaveformStrip

HEAR_S = 0.08
"""How often sound is taken in, and the playhead moved."""
CLOSED_WITHIN_S = 5.0


def key(keys: str, action: str, text: str, name: str) -> Binding:
    """A binding of this screen."""
    return Binding(keys, action, text, id=f"record.{name}")


class RecordScreen(Page):
    """A prompt, the level, and the last take; pushed over Live or any other screen."""

    TITLE = "Live"
    PANELS = "#prompt, #take"
    BINDINGS: ClassVar[list[BindingType]] = [
        key("enter", "go", "Record/keep", "go"),
        key("p", "play", "Play", "play"),
        key("r", "redo", "Redo", "redo"),
        key("k", "keep", "Keep", "keep"),
        key("s", "skip", "Skip", "skip"),
        key("w", "turn", "Negatives", "turn"),
        key("escape", "leave", "Back", "leave"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.booth: Booth | None = None
        self._source: Source | None = None
        self._closer: threading.Thread | None = None
        self._shown: Take | None = None
        self._kept = ""
        """What the take that is shown was kept as."""
        self._stage = ""
        self._busy = "who speaks?"

    def body(self) -> Iterable[Widget]:
        """What to say on top, what was heard below."""
        yield Lines("read aloud", id="prompt")
        yield Lines("level", id="level")
        with Vertical(id="take"):
            yield WaveformStrip(id="waveform")
            yield Lines(id="verdict")
        yield Lines("kept", id="kept")

    def on_mount(self) -> None:
        """Ask who speaks, and what."""
        self._data = self.desk.data()
        self.desk.player.start()
        self.set_interval(HEAR_S, self._hear)
        self._ask()

    def on_unmount(self) -> None:
        """Give the microphone back."""
        self._hush()

    def on_screen_resume(self) -> None:
        """Hear again on coming back from another screen."""
        if self._built and self.booth is not None and self._source is None:
            self._listen(self.booth)

    @on(ScreenSuspend)
    def _away(self) -> None:
        """Hear nothing behind another screen; a dialog changes nothing."""
        if self not in self.app.screen_stack:
            self._hush()

    def _hush(self) -> None:
        self.desk.player.stop()
        if self.booth is not None:
            self.booth.drop()
        source, self._source = self._source, None
        if source is not None:  # one that hangs takes its time
            self._closer = threading.Thread(target=source.close, daemon=True)
            self._closer.start()

    # Who speaks, and what is heard.

    @work
    async def _ask(self) -> None:
        """Ask until there is a booth, or leave."""
        sitting = proposed(self._data)
        refused: tuple[Texts, str] = ({}, "")

        def check(texts: Texts) -> dict[str, str]:
            return {"folder": refused[1]} if texts == refused[0] else wrong(texts)

        while self.booth is None:
            fields = Fields("record your own clips", asked(sitting), check)
            texts = await self.app.push_screen_wait(fields)
            if texts is None:
                self.dismiss()
                return
            sitting = answered(texts)
            self._busy = "looking for what sounds like it …"
            try:
                self.booth = await asyncio.to_thread(Booth, sitting)
            except WakewordError as error:
                refused = texts, f"{error.message}: {error.hint}"
        for line in finished_lines(self.booth):
            self.desk.note("info", line)
        self._listen(self.booth)

    @work(exclusive=True, group="sound")
    async def _listen(self, booth: Booth) -> None:
        """Hear what Live has chosen, and alone: two cannot hear one pipe."""
        await self._alone()
        if self not in self.app.screen_stack:
            return
        try:
            self._source = open_source(self.desk.listener.source)
        except WakewordError as error:
            self.house.complain(error.message, error.hint)
        else:
            self._source.start()
            booth.listen(self._source)
        self.repaint()

    async def _alone(self) -> None:
        """Stop Live, and wait until whoever heard before does no more."""
        if self._closer is not None:
            await asyncio.to_thread(self._closer.join, CLOSED_WITHIN_S)
        listening = self.desk.listener.job
        if listening is not None and self in self.app.screen_stack:
            listening.control.stop()
            self.notify("listening has stopped, to record")
            await asyncio.to_thread(listening.thread.join, CLOSED_WITHIN_S)

    def _hear(self) -> None:
        """Take in what was heard; paint more than the level only when something has changed."""
        booth = self.booth
        if booth is None or booth.recorder is None or self._source is None:
            return
        booth.recorder.hear(0.0)
        self._paint_level(booth)
        self._follow()
        if booth.take is not None and booth.take is not self._shown:
            self._shown, self._kept = booth.take, ""
        if booth.stage != self._stage:
            self.repaint()

    def _follow(self) -> None:
        """Move the playhead."""
        player, take = self.desk.player, self._shown
        at = player.position_s / take.seconds if take is not None and player.playing else None
        self.query_one(WaveformStrip).move(at)

    # What is shown.

    def copyable(self) -> str:
        """What to do next, as a command."""
        return next_step(self.booth) if self.booth is not None else ""

    def paint(self) -> None:
        """Show where the sitting is."""
        booth = self.booth
        if booth is None:
            self.query_one("#prompt", Lines).show((self._busy, "$dim"))
            return
        if booth.stage != self._stage:
            self._stage = booth.stage
            self.refresh_bindings()
        prompt = self.query_one("#prompt", Lines)
        prompt.border_title = prompted.title(booth)
        prompt.show(*prompted.prompt_lines(booth, self.size.width - 4))
        self._paint_level(booth)
        self._paint_take()
        self.query_one("#kept", Lines).show(*prompted.kept_lines(booth, self._data.fold))

    def _paint_level(self, booth: Booth) -> None:
        level = self.query_one("#level", Lines)
        if booth.recorder is not None:
            health = booth.recorder.source.health
            level.border_title = health.line
            there = health.state == "open"
            level.show(
                prompted.level_line(booth, self.size.width - 4)
                if there
                else prompted.waiting_line(health)
            )

    def _paint_take(self) -> None:
        take = self._shown
        panel = self.query_one("#take", Vertical)
        panel.border_title = f"last take  {measured(take)}" if take is not None else "last take"
        panel.border_subtitle = self._kept
        strip, said = self.query_one(WaveformStrip), self.query_one("#verdict", Lines)
        if take is None:
            strip.show(None)
            said.show(("nothing was said yet", "$dim"))
            return
        edges = take.facts.start_s / take.seconds, take.facts.end_s / take.seconds
        strip.show(take.waveform, edges)
        said.show(*prompted.verdict_lines(take))

    # Keys.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Grey what has nothing to act on."""
        stage = self._stage
        if action in ("redo", "keep"):
            return True if stage == "heard" else None
        if action == "play":
            return True if self._shown is not None and stage != "recording" else None
        if action in ("go", "skip", "turn"):
            return True if stage not in ("", "done") else None
        return True

    async def action_go(self) -> None:
        """Begin a take, end it, keep a good one, or say a bad one again: what comes next."""
        booth = self.booth
        if booth is None or booth.recorder is None:
            return
        match booth.stage:
            case "recording":
                booth.recorder.end()
            case "heard" if booth.take is not None and not booth.take.advice:
                await self.action_keep()
            case "ready" | "heard":
                self._begin(booth)
        self.repaint()

    def action_redo(self) -> None:
        """Say it again, from here on."""
        if self.booth is not None and self.booth.stage == "heard":
            self._begin(self.booth)
            self.repaint()

    def _begin(self, booth: Booth) -> None:
        assert booth.recorder is not None
        health = booth.recorder.source.health
        if health.state != "open":
            self.house.complain(health.line, health.hint)
            return
        self.desk.player.stop()
        booth.recorder.begin()

    async def action_keep(self) -> None:
        """Keep the take, whatever is doubtful about it, if there is a word in it."""
        booth = self.booth
        if booth is None or booth.take is None:
            return
        with self.house.complaining():
            path = await asyncio.to_thread(booth.keep)
            self._kept = f"kept as {path.name}"
        if booth.stage == "done":
            self.notify(after_line(booth), timeout=20, markup=False)
        self.repaint()

    def action_skip(self) -> None:
        """Leave the prompt out."""
        if self.booth is not None:
            self.booth.skip()
            self.repaint()

    def action_turn(self) -> None:
        """Read negatives alone, or all."""
        if self.booth is not None:
            self.booth.turn()
            self.repaint()

    def action_play(self) -> None:
        """Play the last take, or stop it."""
        player, booth = self.desk.player, self.booth
        if player.playing:
            player.stop()
        elif self._shown is not None and booth is not None and booth.stage != "recording":
            player.play(self._shown.waveform)

    def action_leave(self) -> None:
        """Leave the zoom, a take under way, or the screen."""
        booth = self.booth
        if self.maximized is not None and not self._small:
            self.minimize()
        elif booth is not None and booth.stage == "recording":
            booth.drop()
            self.repaint()
        else:
            if booth is not None and booth.kept:
                self.notify(after_line(booth), timeout=20, markup=False)
            self.dismiss()


def asked(sitting: Sitting) -> list[Field]:
    """The lines to fill in, beginning with what a sitting says."""
    place = str(sitting.place) if sitting.place != Path() else ""
    return [
        Field("speaker", sitting.speaker, "the group of the clips"),
        Field("phrase", sitting.phrase, "what is said"),
        Field("label", sitting.label, "the wake word; empty: the phrase"),
        Field("folder", place, "a data folder, or its manifest"),
        Field("wake words", str(sitting.count), "how often"),
        Field("negatives", str(sitting.negatives), "what sounds like it"),
        Field("only train", "yes" if sitting.train else "no", "yes: never measured on"),
    ]


def answered(texts: Texts) -> Sitting:
    """A sitting from what was typed; a number that is none is below 0."""
    said = {name: text.strip() for name, text in texts.items()}
    count, negatives = (
        int(said[name]) if said[name].isdecimal() else -1 for name in ("wake words", "negatives")
    )
    place = typed_path(said["folder"])
    label = said["label"] or slug(said["phrase"])
    train = said["only train"] == "yes"
    return Sitting(said["speaker"], said["phrase"], label, place, count, negatives, train)


def wrong(texts: Texts) -> dict[str, str]:
    """What is wrong with what was typed, by the name of its line."""
    lines = {"place": "folder", "count": "wake words"}
    found = {lines.get(name, name): said for name, said in answered(texts).wrong().items()}
    if texts["only train"].strip() not in ("yes", "no"):
        found["only train"] = "yes or no"
    return found
