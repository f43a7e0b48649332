"""Pile: the queue as it lies before a person: its order, what is marked, where one is in it.

Without a widget in it. What is written goes through one thread, so that nothing on the screen waits
for a disk and no change overtakes another; an item looks decided once that is on the disk.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any, TypeAlias, TypeVar, get_args

from engine.errors import DataError
from engine.queue_store import Decision, Order, QueueItem, QueueStore

SHOWN: tuple[Decision | None, ...] = (*get_args(Decision), None)
ORDERS: tuple[Order, ...] = ("score", "near_threshold", "source", "time", "found")
KEPT = 4000
T = TypeVar("T")
Written: TypeAlias = asyncio.Future[tuple[T, dict[Decision, int]]]
"""A change on its way to the disk, and what the counts are then."""


class Pile:
    """Items in an order, with a cursor among them.

    What is decided stays where it lies until the pile is sorted again, so that one sees what one
    has done; new finds are laid at the end.
    """

    def __init__(self, store: QueueStore) -> None:
        self.store = store
        self.shown: Decision | None = "pending"
        self.order: Order = "score"
        self.text = ""
        self.ids: list[int] = []
        self.at = 0
        self.marked: set[int] = set()
        self.counts: dict[Decision, int] = {}
        self._known: dict[int, int] | None = None
        self._items: dict[int, QueueItem] = {}
        self._done: dict[int, Decision] = {}
        self._unwritten = 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="queue")
        self.sort()

    def close(self) -> None:
        """Wait for what is being written."""
        self._writer.shutdown()

    def show(self, **wanted: Any) -> None:
        """Show items that are `shown` (a decision), in another `order`, or that hold a `text`.

        The cursor goes to the top.
        """
        for name, value in wanted.items():
            setattr(self, name, value)
        self.sort(stay=False)

    @property
    def total(self) -> int:
        """How many items there are, whatever is shown of them."""
        return sum(self.counts.values())

    @property
    def left(self) -> int:
        """How many of the items here are what is shown; others were decided on meanwhile."""
        if self.shown is None:
            return len(self.ids)
        return len(self.ids) - sum(decision != self.shown for decision in self._done.values())

    @property
    def current(self) -> int | None:
        """The item under the cursor."""
        return self.ids[self.at] if self.ids else None

    @property
    def stale(self) -> bool:
        """Whether the pile would lie otherwise if it were laid out anew."""
        return bool(self._done) or self.counts != self.store.counts()

    def sort(self, *, stay: bool = True) -> None:
        """Lay the pile out anew; the cursor stays on its item if asked to, and if that is there."""
        current = self.current if stay else None
        self._items.clear()
        self._done.clear()
        self.ids = self.store.ids(decision=self.shown, order=self.order, text=self.text)
        self._known = None
        self.at = self.ids.index(current) if current in self.ids else 0
        self.marked &= set(self.ids) if self.marked else set()
        self.counts = self.store.counts()

    @property
    def _places(self) -> dict[int, int]:
        """The row of each item, made when it is first needed."""
        if self._known is None:
            self._known = {number: place for place, number in enumerate(self.ids)}
        return self._known

    def grow(self) -> bool:
        """Lay new finds at the end; whether there were any."""
        counts = self.store.counts()
        if sum(counts.values()) == self.total:
            return False
        self.counts = counts
        found = self.store.ids(decision=self.shown, order=self.order, text=self.text)
        new = [number for number in found if number not in self._places]
        self._lay(new)
        return bool(new)

    def _lay(self, numbers: Sequence[int]) -> None:
        places = self._places
        for number in numbers:
            places[number] = len(self.ids)
            self.ids.append(number)

    def item(self, number: int) -> QueueItem:
        """One item, read when it is first looked at."""
        if number not in self._items:
            self._read([number])
        return self._items[number]

    def page(self, first: int, rows: int) -> list[QueueItem]:
        """The items of some rows."""
        numbers = self.ids[first : first + rows]
        unread = [number for number in numbers if number not in self._items]
        if unread:
            self._read(unread)
        return [self._items[number] for number in numbers if number in self._items]

    def _read(self, numbers: Sequence[int]) -> None:
        if len(self._items) > KEPT:
            self._items.clear()
        self._items |= {item.id: item for item in self.store.items(numbers)}

    def go(self, place: int) -> bool:
        """Move to a row, or as near as there is one; whether that is another."""
        before = self.at
        self.at = min(max(place, 0), max(len(self.ids) - 1, 0))
        return self.at != before

    def go_to(self, number: int) -> None:
        """Move to an item; one that does not lie here is laid at the end."""
        if number not in self._places:
            self._lay([number])
        self.at = self._places[number]

    def next(self) -> int | None:
        """The row of the item to decide on after this one: below, else from the top.

        Where decided items are looked through it is simply the next row.
        """
        below, above = range(self.at + 1, len(self.ids)), range(self.at)
        if self.shown != "pending":
            return below.start if below else None
        return next((n for n in chain(below, above) if self.ids[n] not in self._done), None)

    def mark(self) -> None:
        """Mark the item under the cursor, or take its mark away."""
        if self.current is not None:
            self.marked ^= {self.current}

    def mark_all(self) -> None:
        """Mark everything that is not decided here, or, where all of that is marked, nothing."""
        everything = {number for number in self.ids if number not in self._done}
        self.marked = set() if self.marked == everything else everything

    def decide(self, numbers: Sequence[int], decision: Decision) -> Written[None]:
        """Decide about items in one step; their marks are taken away."""
        self._done |= dict.fromkeys(numbers, decision)
        self.marked.difference_update(numbers)
        return self.change(partial(self.store.decide, numbers, decision))

    def flag(self, number: int) -> Written[None]:
        """Flag an item, or take the flag away, as it is once what came before is written."""

        def flag() -> None:
            self.store.flag(number, not self.store.item(number).flagged)

        return self.change(flag)

    def trim(self, number: int, edges: Callable[[QueueItem], tuple[float, float]]) -> Written[None]:
        """Move the edges of an item, as it is once what came before is written."""

        def trim() -> None:
            item = self.store.item(number)
            moved = edges(item)
            if moved != (item.find.start_s, item.find.end_s):
                self.store.trim(number, *moved)

        return self.change(trim)

    def undo(self) -> Written[list[int]]:
        """Take the last step back, of whatever kind; its items come out, or none.

        None of a step that could not be written: what it would take back is the one before.
        """
        return self.change(self._take_back)

    def _take_back(self) -> list[int]:
        if not self._unwritten:
            return self.store.undo()
        self._unwritten -= 1
        return []

    def change(self, change: Callable[[], T]) -> Written[T]:
        """Hand a change to the writing thread, now: none that comes after can overtake it."""

        def change_and_count() -> tuple[T, dict[Decision, int]]:
            try:
                result = change()
            except DataError:
                self._unwritten += change != self._take_back
                raise
            if change != self._take_back:
                self._unwritten = 0
            return result, self.store.counts()

        return asyncio.wrap_future(self._writer.submit(change_and_count))

    async def settle(self, written: Written[T]) -> T:
        """Wait until a change is on the disk. Raises DataError where it could not be written."""
        try:
            result, self.counts = await asyncio.shield(written)
        finally:
            self._items.clear()
        return result

    async def settle_or_reopen(
        self, written: Written[None], numbers: Sequence[int], *, marked: bool = False
    ) -> None:
        """Settle; where that fails, offer the items again, `marked` if they were."""
        try:
            await self.settle(written)
        except DataError:
            self.marked.update(numbers if marked else ())
            self.reopen(numbers)
            raise

    def reopen(self, numbers: Sequence[int]) -> None:
        """Offer items again that are pending after all; lay out anew those that lay here before."""
        for item in self.store.items(numbers):
            if item.decision == "pending":
                self._done.pop(item.id, None)
            elif item.id in self._done:
                self._done[item.id] = item.decision
        if not self._places.keys() >= set(numbers):
            self.sort()
