"""ClipPanel: one queue item seen and heard: facts, spectrogram, waveform, scores, player."""

from collections.abc import Iterable

import numpy as np
from textual.containers import Vertical
from textual.widget import Widget

from engine.manifest import Split
from engine.queue_store import QueueItem
from engine.sound import LOUDEST, Player
from wakeword_tui import told
from wakeword_tui.clips import Excerpt, ScoreCurve
from wakeword_tui.widgets.chart import Chart
from wakeword_tui.widgets.panels import Lines
from wakeword_tui.widgets.queue import Move, Mover
from wakeword_tui.widgets.spectrogram import Spectrogram
from wakeword_tui.widgets.waveform import WaveformStrip

FOLLOW_S = 0.08
"""How often the playhead is moved."""
BACK_S, LOUDER = 0.5, 0.1
SILENCE = np.zeros(0, dtype=np.float32)


class ClipPanel(Mover, Vertical):
    """Shows an item, as far as it has been read, and plays it; time runs alike in all its parts."""

    def __init__(self, move: Move, player: Player, *, id: str | None = None) -> None:  # noqa: A002 -- as Widget
        super().__init__(move, id=id)
        self.player = player
        self._silent = ""
        self.clip: Excerpt | None = None
        self._item: QueueItem | None = None

    def compose(self) -> Iterable[Widget]:
        """From the facts down to the line of the player."""
        yield Lines(id="facts")
        yield Spectrogram(id="spectrogram")
        yield WaveformStrip(id="waveform")
        yield Chart("", bare=True, id="scores")
        yield Lines(id="playing")

    def on_mount(self) -> None:
        """Open the sound device, and let the playhead follow it."""
        self.player.start()
        self.set_interval(FOLLOW_S, self.follow)

    def on_unmount(self) -> None:
        """Give the sound device back."""
        self.player.close()

    def arrive(self, item: QueueItem | None, clip: Excerpt | None, *, play: bool) -> None:
        """Turn to an item; its clip may still have to be read."""
        self._item, self.clip = item, None
        self.query_one("#scores", Chart).show(None)
        if item is not None and clip is not None:
            self.put_on(item, clip, play=play)
        else:
            self.player.load(SILENCE)

    def put_on(self, item: QueueItem, clip: Excerpt, *, play: bool) -> None:
        """Take a clip, or the same one between other edges."""
        self.clip = clip
        (self.player.play if play else self.player.load)(clip.cut(item))

    def show(self, item: QueueItem, split: Split | None) -> None:
        """Show the item; `split` is where the run in front would put it, if that is known."""
        self._item, clip = item, self.clip
        self.border_title = told.place(item)
        trouble = clip.trouble if clip is not None else ""
        self.query_one("#facts", Lines).show(*told.facts(item, split, trouble))
        sound, edges = (clip.waveform, clip.edges(item)) if clip is not None else (None, (0.0, 1.0))
        self.query_one(Spectrogram).show(sound)
        self.query_one(WaveformStrip).show(sound, edges)
        self.follow()

    def show_nothing(self, lines: Iterable[told.Line]) -> None:
        """Say what to do where there is no item."""
        self.border_title = ""
        self.query_one("#facts", Lines).show(*lines)

    def show_scores(self, heard: ScoreCurve | str) -> None:
        """Show what a detector made of the clip, or why none did; not once the screen is gone."""
        if self.is_attached and self._item is not None and self.clip is not None:
            self.query_one("#scores", Chart).show(told.score_plot(self.clip, self._item, heard))

    def notice_silence(self) -> tuple[str, str] | None:
        """Notice when nothing is heard any more; why, and what to do about it, once."""
        self.player.watch()
        before, self._silent = self._silent, self.player.trouble
        told = before == self._silent or not self.player.hint
        return None if told or not self._silent else (f"silent: {self._silent}", self.player.hint)

    def follow(self) -> None:
        """Move the playhead."""
        item, clip = self._item, self.clip
        if item is None or not self.screen.is_current:
            return
        self.query_one("#playing", Lines).show(told.playing_line(self.player, item))
        at_s = item.find.start_s + self.player.position_s
        known = clip is not None and clip.length_s > 0
        self.query_one(WaveformStrip).move(clip.share(at_s) if clip and known else None)

    # What the keys of the screen ask for.

    def toggle(self) -> None:
        """Play on, or stop."""
        if self.player.playing:
            self.player.stop()
        else:
            self.player.resume()

    def restart(self) -> None:
        """Play from the start."""
        self.player.seek(0.0)
        self.player.resume()

    def slow(self) -> None:
        """Play at half the speed, or as it was recorded."""
        self.player.turn(speed=0.5 if self.player.speed == 1.0 else 1.0)

    def loop(self) -> None:
        """Play over and over, or once."""
        self.player.turn(loop=not self.player.loop)

    def back(self) -> None:
        """Go back a little."""
        self.player.seek(self.player.position_s - BACK_S)

    def louder(self) -> None:
        """Play louder."""
        self._volume(LOUDER)

    def softer(self) -> None:
        """Play softer."""
        self._volume(-LOUDER)

    def _volume(self, step: float) -> None:
        self.player.volume = min(max(round(self.player.volume + step, 1), 0.0), LOUDEST)
