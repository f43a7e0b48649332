"""Review answers "is this really a negative?"."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import Key, ScreenSuspend
from textual.widget import Widget
from textual.widgets import Input

from engine.errors import WakewordError
from engine.queue_store import Decision, QueueItem
from wakeword_tui import told
from wakeword_tui.clips import Shelf, save_clip, scp_line
from wakeword_tui.numbers import count
from wakeword_tui.pile import ORDERS, SHOWN, Pile, Written
from wakeword_tui.screens.dialogs import Ask, Choice
from wakeword_tui.screens.page import Page
from wakeword_tui.widgets.clip import BACK_S, ClipPanel
from wakeword_tui.widgets.panels import Lines
from wakeword_tui.widgets.queue import QueueList

HELD_S = 0.08
"""A key that decides and comes again within this time is being held down."""
REST_S = 0.15
"""Scores are asked for once the cursor has rested so long."""
TRIM_S = 0.05
AHEAD = 3
"""Items below the cursor whose sound is read ahead."""
GROW_S = 2.0
"""How often new finds are looked for."""
VERBS = {"confirmed": "confirm", "discarded": "discard"}


def key(keys: str, action: str, text: str, name: str, *, show: bool = False) -> Binding:
    """A binding of this screen."""
    return Binding(keys, action, text, show=show, id=f"review.{name}")


class ReviewScreen(Page):
    """The queue, and what the item under its cursor sounds and looks like."""

    TITLE = "Review"
    PANELS = "#queue, #clip"
    BINDINGS: ClassVar[list[BindingType]] = [
        key("space", "hear('toggle')", "Play/stop", "play", show=True),
        key("c", "decide('confirmed')", "Confirm", "confirm", show=True),
        key("d", "decide('discarded')", "Discard", "discard", show=True),
        key("w", "decide('wakeword')", "Wake word", "wakeword", show=True),
        key("i", "decide('ignored')", "Ignore for now", "ignore"),
        key("u,backspace", "undo", "Undo", "undo", show=True),
        key("v", "mark", "Mark", "mark"),
        key("V", "mark_all", "Mark all or none", "mark_all"),
        key("C", "decide_marked('confirmed')", "Confirm all marked", "confirm_marked"),
        key("D", "decide_marked('discarded')", "Discard all marked", "discard_marked"),
        key("r", "hear('restart')", "From the start", "restart"),
        key("R", "hear('slow')", "Half speed", "slow"),
        key("L", "hear('loop')", "Loop", "loop"),
        key("b", "hear('back')", f"Back {BACK_S:g} s", "rewind"),
        key("plus,equals_sign", "hear('louder')", "Louder", "louder"),
        key("minus", "hear('softer')", "Softer", "softer"),
        key("comma", f"trim({TRIM_S}, 0)", "Begin later", "later"),
        key("less_than_sign", f"trim(-{TRIM_S}, 0)", "Begin earlier", "earlier"),
        key("full_stop", f"trim(0, -{TRIM_S})", "End earlier", "shorter"),
        key("greater_than_sign", f"trim(0, {TRIM_S})", "End later", "longer"),
        key("f", "flag", "Flag", "flag"),
        key("n", "note", "Note", "note"),
        key("o", "order", "Sort", "order"),
        key("s", "show", "Show decided", "show"),
        key("slash", "filter", "Filter", "filter"),
    ]

    def body(self) -> Iterable[Widget]:
        """The queue on the left; what an item looks like, and the last decisions, on the right."""
        with Horizontal(id="review"):
            with Vertical(id="left"):
                yield QueueList(self._move, id="queue")
                yield Input(id="filter", placeholder="path or note", compact=True)
            with Vertical(id="right"):
                yield ClipPanel(self._move, self.desk.player, id="clip")
                yield Lines("last decisions", id="last")

    def on_mount(self) -> None:
        """Begin in the list."""
        self.shelf = Shelf(self.desk.workspace)
        self.pile: Pile | None = None
        self._broken: WakewordError | None = None
        self._pressed = ("", 0.0)
        self._grown_s = 0.0
        self._away = True
        self.query_one(QueueList).focus()

    def on_unmount(self) -> None:
        """Wait for what is being written."""
        self.shelf.close()
        if self.pile is not None:
            self.pile.close()
            self.pile.store.close()

    def on_screen_resume(self) -> None:
        """Lay the pile out anew on coming back from another screen; a dialog changes nothing."""
        if self._built and self._away:
            self._away = False
            self._open()

    @on(ScreenSuspend)
    def _leave(self) -> None:
        if self.house.current_mode != "review":
            self._away = True
            self.panel.player.stop()

    @property
    def panel(self) -> ClipPanel:
        """The item under the cursor."""
        return self.query_one(ClipPanel)

    def _open(self) -> None:
        """Open the queue, or lay it out anew, and show what is under the cursor."""
        with self._reading():
            self._grown_s = time.monotonic()
            if self.pile is None:
                self.pile = Pile(self.desk.queue)
                self._arrive()
            elif self.pile.stale:
                self.pile.sort()
                self._arrive()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """A queue that cannot be read is put away, and told once."""
        try:
            yield
        except WakewordError as error:
            self._broken, self.pile = error, None
            self.house.complain(error.message, error.hint)

    def status(self) -> list[Content]:
        """What the job does, then why nothing is heard."""
        job, *rest = super().status()
        trouble = self.panel.player.trouble
        silent = [Content.assemble((f"silent: {trouble}", "$warning"))] if trouble else []
        return [part for part in (job, *silent, *rest) if part]

    # Painting.

    def paint(self) -> None:
        """Show the list, what is new in it, and the last decisions."""
        if silence := self.panel.notice_silence():
            self.desk.note("warn", *silence)
        pile = self.pile
        if pile is None:
            self.set_class(True, "-empty")
            self.panel.show_nothing(told.broken(self._broken) if self._broken else told.EMPTY)
            return
        with self._reading():
            if time.monotonic() - self._grown_s > GROW_S:
                self._grown_s = time.monotonic()
                if pile.grow() and pile.at == 0:
                    self._arrive()
            self._paint_list(pile)

    def _paint_list(self, pile: Pile) -> None:
        self.query_one(QueueList).show(pile)
        last, now_s = self.query_one("#last", Lines), time.time()
        room = max(last.size.height, 0)
        last.show(*(told.decided_line(item, now_s) for item in pile.store.last_decisions(room)))
        self._paint_item(pile)

    def _item(self) -> QueueItem | None:
        """The item under the cursor."""
        with self._reading():
            if self.pile is not None and self.pile.current is not None:
                return self.pile.item(self.pile.current)
        return None

    def _paint_item(self, pile: Pile) -> None:
        item = self._item()
        self.set_class(item is None, "-empty")
        if item is None:
            self.panel.show_nothing(told.nothing(pile))
        else:
            self.panel.show(item, self.shelf.split(item, self.desk.recipe()))

    # Arriving at an item.

    def _move(self, step: int, pages: bool) -> None:
        rows = self.query_one(QueueList).rows if pages else 1
        if self.pile is not None and self.pile.go(self.pile.at + rows * step):
            self._arrive()

    def _arrive(self, *, play: bool = False) -> None:
        """Turn to the item under the cursor, and play it if asked to."""
        with self._reading():
            item = self._item()
            self.panel.arrive(item, self.shelf.look(item) if item else None, play=play)
            if self.pile is not None:
                self._paint_list(self.pile)
                if item is not None:
                    self._attend(self.pile, item, play=play)

    @work(exclusive=True, group="attend")
    async def _attend(self, pile: Pile, item: QueueItem, *, play: bool) -> None:
        """Read the clip, then those that come next; then ask what the detector made of it."""
        panel = self.panel
        with self._reading():
            clip = await self.shelf.fetch(item)
            if panel.is_attached and panel.clip is None:
                panel.put_on(item, clip, play=play)
                self._paint_item(pile)
            for ahead in pile.page(pile.at + 1, AHEAD):
                await self.shelf.fetch(ahead)
            run = self.desk.shown
            if not self.shelf.knows(item, run):
                await asyncio.sleep(REST_S)
            panel.show_scores(await self.shelf.hear(item, run))

    # Deciding.

    def on_key(self, event: Key) -> None:
        """Swallow a key that decides while it is held down, by the time when it was pressed."""
        active = self.active_bindings.get(event.key)
        if active is not None and active.binding.action.startswith("decide("):
            before, self._pressed = self._pressed, (event.key, event.time)
            if before[0] == event.key and event.time - before[1] < HELD_S:
                event.stop()

    def action_decide(self, decision: Decision) -> None:
        """Decide about the item under the cursor; the next one plays at once."""
        pile = self.pile
        if pile is None or pile.current is None:
            return
        self._when_written(pile, pile.current, pile.decide([pile.current], decision))
        place = pile.next()
        if place is None:
            self.panel.player.stop()
            self.notify("that was the last one here", timeout=3)
        else:
            pile.go(place)
            self._arrive(play=True)

    @work
    async def action_decide_marked(self, decision: Decision) -> None:
        """Decide about all that is marked, after a question."""
        pile = self.pile
        if pile is None or not pile.marked:
            self.notify("nothing is marked: v marks an item, V all of them", timeout=4)
            return
        question = f"{VERBS[decision]} {count(len(pile.marked))} marked items?"
        if await self.app.push_screen_wait(Choice(question, [("y", "yes"), ("n", "no")])) == "y":
            numbers = sorted(pile.marked)
            with self.house.complaining():
                written = pile.decide(numbers, decision)
                await pile.settle_or_reopen(written, numbers, marked=True)
                pile.sort()
                self._arrive()

    @work
    async def _when_written(
        self, pile: Pile, number: int, written: Written[None], *, trimmed: bool = False
    ) -> None:
        """Show what has become of an item once it is on the disk."""
        with self.house.complaining():
            await pile.settle_or_reopen(written, [number])
        item, clip = self._item(), self.panel.clip
        if trimmed and item is not None and clip is not None and item.id == number:
            self.panel.put_on(item, clip, play=self.panel.player.playing)
        self.repaint()

    async def action_undo(self) -> None:
        """Take the last step back, and go to where it was made; keys typed ahead wait for that."""
        pile = self.pile
        if pile is None:
            return
        with self.house.complaining():
            numbers = await pile.settle(pile.undo())
            if not numbers:
                self.notify("there is nothing to undo", timeout=2)
                return
            pile.reopen(numbers)
            pile.go_to(numbers[0])
            self._arrive()

    def action_flag(self) -> None:
        """Flag the item, or take the flag away."""
        item, pile = self._item(), self.pile
        if item is not None and pile is not None:
            self._when_written(pile, item.id, pile.flag(item.id))

    def action_note(self) -> None:
        """Write a note on the item."""
        item, pile = self._item(), self.pile
        if item is not None and pile is not None:
            self._note(item, pile)

    @work
    async def _note(self, item: QueueItem, pile: Pile) -> None:
        question = Ask(f"note on {told.place(item)}", item.note, empty=True)
        note = await self.app.push_screen_wait(question)
        if note is not None:
            write = partial(pile.store.annotate, item.id, note)
            self._when_written(pile, item.id, pile.change(write))

    def action_mark(self) -> None:
        """Mark the item and go on to the next."""
        if self.pile is not None:
            self.pile.mark()
            self.pile.go(self.pile.at + 1)
            self._arrive()

    def action_mark_all(self) -> None:
        """Mark everything that is listed and not decided, or nothing."""
        if self.pile is not None:
            self.pile.mark_all()
            with self._reading():
                self._paint_list(self.pile)

    # What is listed.

    def _list(self, **wanted: Any) -> None:
        if self.pile is not None:
            with self._reading():
                self.pile.show(**wanted)
            self._arrive()

    def action_order(self) -> None:
        """Sort by something else."""
        if self.pile is not None:
            self._list(order=ORDERS[(ORDERS.index(self.pile.order) + 1) % len(ORDERS)])

    def action_show(self) -> None:
        """List what has been decided in the one way or the other, or everything."""
        if self.pile is not None:
            self._list(shown=SHOWN[(SHOWN.index(self.pile.shown) + 1) % len(SHOWN)])

    def action_filter(self) -> None:
        """Type what a path or a note must hold."""
        self.query_one("#filter", Input).add_class("-open").focus()

    @on(Input.Changed, "#filter")
    def _filtered(self, event: Input.Changed) -> None:
        self._list(text=event.value)

    @on(Input.Submitted, "#filter")
    def _kept(self) -> None:
        self.query_one(QueueList).focus()

    def action_back(self) -> None:
        """Leave the filter, then the zoom."""
        line = self.query_one("#filter", Input)
        if line.has_class("-open"):
            line.value = ""
            line.remove_class("-open")
            self.query_one(QueueList).focus()
        else:
            super().action_back()

    def action_zoom(self) -> None:
        """Give the clip the whole screen, or give it back; the keys of the list go with it."""
        if self.maximized is not None and not self._small:
            self.minimize()
            self.query_one(QueueList).focus()
        elif not self._small:
            self.panel.focus()
            self.maximize(self.panel)

    # Hearing, trimming, fetching.

    def action_hear(self, what: str) -> None:
        """Play, stop, or change how it is played: a method of the panel."""
        getattr(self.panel, what)()
        self.panel.follow()

    def action_trim(self, start_s: float, end_s: float) -> None:
        """Move the edges of what counts."""
        item, clip, pile = self._item(), self.panel.clip, self.pile
        if item is None or clip is None or pile is None or clip.trouble:
            return
        trim = pile.trim(item.id, partial(clip.trimmed, start_s=start_s, end_s=end_s))
        self._when_written(pile, item.id, trim, trimmed=True)

    def action_copy(self) -> None:
        """Write the clip into the workspace, and copy what fetches it."""
        if (item := self._item()) is not None:
            self._copy(item)

    @work
    async def _copy(self, item: QueueItem) -> None:
        with self.house.complaining():
            clip = await self.shelf.fetch(item)
            line = scp_line(await asyncio.to_thread(save_clip, self.desk.workspace, item, clip))
            self.app.copy_to_clipboard(line)
            self.notify(f"copied: {line}", timeout=5, markup=False)
