"""Record answers "what do I say now, and was it any good?"."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import ScreenSuspend
from textual.widget import Widget

from engine.errors import WakewordError
from engine.microphone import open_source
from engine.phonetics import slug
from engine.prompts import Prompt
from engine.sitting import Booth, Sitting
from engine.source import Source, SourceHealth
from engine.take import Take
from wakeword_tui.recording import (
    finished_lines,
    kept_line,
    measured,
    next_step,
    proposed,
    shown,
    speaker_line,
    verdict,
)
from wakeword_tui.screens.fields import Field, Fields, Texts
from wakeword_tui.screens.page import Page
from wakeword_tui.widgets.panels import Lines
from wakeword_tui.widgets.waveform import WaveformStrip

HEAR_S = 0.08
"""How often sound is taken in, and the playhead moved."""
FLOOR_DB = -60.0
Line = Content | str | tuple[str, str]


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
        self.booth: Booth | None = None
        self._source: Source | None = None
        self._shown: Take | None = None
        self._kept = ""
        """What the take that is shown was kept as."""
        self._stage = ""
        self._busy = "who speaks?"
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
        if source is not None:
            source.close()

    # Who speaks, and what is heard.

    @work
    async def _ask(self) -> None:
        """Ask until there is a booth, or leave."""
        sitting = proposed(self.desk.draft.recipe.data)
        while self.booth is None:
            fields = Fields("record your own clips", asked(sitting), wrong)
            texts = await self.app.push_screen_wait(fields)
            if texts is None:
                self.dismiss()
                return
            sitting = answered(texts)
            self._busy = "looking for what sounds like it …"
            with self.house.complaining():
                self.booth = await asyncio.to_thread(Booth, sitting)
        for line in finished_lines(self.booth):
            self.notify(line, timeout=8, markup=False)
        self._listen(self.booth)

    def _listen(self, booth: Booth) -> None:
        try:
            self._source = open_source(self.desk.audio)
        except WakewordError as error:
            self._busy = error.message
            self.house.complain(error.message, error.hint)
        else:
            self._source.start()
            booth.listen(self._source)
        self.repaint()

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
        prompt.border_title = title(booth)
        prompt.show(*prompt_lines(booth, self.size.width - 4))
        self._paint_level(booth)
        self._paint_take()
        self.query_one("#kept", Lines).show(*kept_lines(booth, self.desk.draft.recipe.data.fold))

    def _paint_level(self, booth: Booth) -> None:
        level = self.query_one("#level", Lines)
        if booth.recorder is not None:
            health = booth.recorder.source.health
            level.border_title = health.line
            there = health.state == "open"
            level.show(level_line(booth, self.size.width - 4) if there else waiting_line(health))

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
        said.show(*verdict_lines(take))

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
        """Keep the take, whatever is doubtful about it."""
        booth = self.booth
        if booth is None or booth.take is None:
            return
        if not booth.take.usable:
            self.house.complain("there is no word in it", "r records it again, s leaves it out")
            return
        with self.house.complaining():
            path = await asyncio.to_thread(booth.keep)
            self._kept = f"kept as {path.name}"
        if booth.stage == "done":
            self.notify(f"next: {next_step(booth)}", timeout=20, markup=False)
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
                self.notify(f"next: {next_step(booth)}", timeout=20, markup=False)
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
    place = Path(said["folder"]).expanduser()
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


def title(booth: Booth) -> str:
    """Which prompt this is."""
    prompt, (place, total) = booth.plan.now, booth.plan.place
    if prompt is None:
        return "done"
    alone = ", negatives alone" if booth.plan.negatives_only else ""
    return f"{'wake word' if prompt.wakeword else 'negative'} {place} of {total}{alone}"


def prompt_lines(booth: Booth, width: int) -> list[Line]:
    """What to say, how, and what the next key is."""
    prompt = booth.plan.now
    if prompt is None:
        return [
            ("✓ that was all", "bold $success"),
            "",
            next_step(booth),
            ("y  copy this   esc  leave", "$dim"),
        ]
    style = "bold $primary" if prompt.wakeword else "bold $violet"
    return [(large(prompt.text, width), style), manner(prompt), "", *state_lines(booth)]


def manner(prompt: Prompt) -> Line:
    """How to say it."""
    return prompt.manner if prompt.wakeword else ("not the wake word: read it as it stands", "$dim")


def large(text: str, width: int) -> str:
    """A text with space between its letters, where there is room."""
    spaced = " ".join(text)
    return spaced if len(spaced) <= width else text


def state_lines(booth: Booth) -> list[Line]:
    """What happens, and what enter does."""
    take = booth.take
    if booth.stage == "recording" and booth.recorder is not None:
        return [
            (f"● recording {booth.recorder.seconds:.1f} s", "$now"),
            ("it ends by itself", "$dim"),
        ]
    if take is None:
        return [("enter  then say it", "$dim"), ""]
    if take.advice:
        keep = "  k keeps it all the same" if take.usable else ""
        return [(f"✗ {take.advice[0]}", "$error"), (f"enter  again{keep}", "$dim")]
    return [("✓ good", "$success"), ("enter  keep   r  again   p  play", "$dim")]


def level_line(booth: Booth, width: int) -> Line:
    """The peak of the last moment, from -60 dBFS to full scale."""
    assert booth.recorder is not None
    level_db, clipped = booth.recorder.level_db, booth.recorder.clipped
    number = " clipped" if clipped else f"{max(level_db, FLOOR_DB):4.0f} dB"
    room = width - len(number) - 1
    full = round(room * min(1.0, max(0.0, 1 - level_db / FLOOR_DB)))
    colour = "$error" if clipped else "$primary"
    return Content.assemble(("━" * full, colour), ("━" * (room - full), "$grid"), f" {number}")


def waiting_line(health: SourceHealth) -> Line:
    """What to do where there is no sound."""
    return health.hint or f"{health.state} …", "$warning"


def verdict_lines(take: Take) -> list[Line]:
    """What is wrong with a take, a line each."""
    return [(f"✗ {said}", "$error") for said in take.advice] or [(f"✓ {verdict(take)}", "$success")]


def kept_lines(booth: Booth, fold: int) -> list[Line]:
    """What was kept, where, and what becomes of it."""
    return [kept_line(booth), (shown(booth.keeper.manifest), "$dim"), speaker_line(booth, fold)]
