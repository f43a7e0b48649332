"""EventBus: how events reach the screens without ever holding up the engine."""

import threading
from collections import deque

from engine.events import Record


class EventBus:
    """A bounded mailbox between one job and one reader.

    `put` never blocks and never grows the bus without bound: of events that are not durable only
    the newest of each type is kept, and when the rest overflow the oldest go and are counted in
    `dropped` (they are in `events.jsonl` all the same).
    """

    def __init__(self, capacity: int = 4096) -> None:
        self.dropped = 0
        self._lock = threading.Lock()
        self._ordered: deque[Record] = deque(maxlen=capacity)
        self._newest: dict[type, Record] = {}

    def put(self, record: Record) -> None:
        """Hand over a record; any thread."""
        with self._lock:
            if not record.event.durable:
                self._newest[type(record.event)] = record
                return
            self.dropped += len(self._ordered) == self._ordered.maxlen
            self._ordered.append(record)

    def drain(self) -> list[Record]:
        """Take everything that came since the last call, oldest first."""
        with self._lock:
            records = [*self._ordered, *self._newest.values()]
            self._ordered.clear()
            self._newest.clear()
        return sorted(records, key=lambda record: record.n)
