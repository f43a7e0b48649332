"""The verification queue, and how far each recording has been mined, in one file.

    find --add--> pending --decide--> confirmed   a negative of the next run
                     ^                wakeword    a wake word after all
                     |                discarded   of no use
                     `-----undo-----  ignored     left for now

An item is a place in a recording, known by the recording's content and the time, so that it is one
item however often it is found. It keeps the group of its recording and never a split: whether it
may train is settled when a run begins. What is written is on the disk when a method returns.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from engine.errors import DataError
from engine.queue_file import QueueFile, Sql

Decision = Literal["pending", "confirmed", "discarded", "wakeword", "ignored"]
FoundBy = Literal["benchmark", "background", "live", "import"]
Order = Literal["score", "source", "time", "found", "near_threshold"]

APART_S = 1.0
READ_AT_ONCE = 500
HASHED_AT_ONCE = 2**23

_ORDERS: dict[Order, str] = {
    "score": "score DESC, id",
    "source": "path, time_s, id",
    "time": "found_at DESC, id DESC",
    "found": "found_by, score DESC, id",
    "near_threshold": "abs(score - threshold), id",
}
_FIND = (
    "path, content, time_s, start_s, end_s, score, threshold, source_group, checkpoint, found_by"
)
_ITEM = f"{_FIND}, decision, decided_at, note, flagged, found_at, id"


@dataclass(frozen=True, slots=True)
class Find:
    """A place where a detector fired, as a finder hands it in.

    `time_s` is the end of the window that fired; `start_s` to `end_s` is the stretch to hear and to
    train on; all of them within the recording at `path`, whose SHA-256 is `content`. `threshold` is
    of the detector that fired, `checkpoint` its identity, empty for an import.
    """

    path: Path
    content: str
    time_s: float
    start_s: float
    end_s: float
    score: float
    threshold: float
    group: str
    checkpoint: str
    found_by: FoundBy


@dataclass(frozen=True, slots=True)
class QueueItem:
    """A find, with what became of it; times of day are seconds since 1970."""

    id: int
    find: Find
    decision: Decision
    decided_at: float | None
    note: str
    flagged: bool
    found_at: float


@dataclass(frozen=True, slots=True)
class Session:
    """A recording that is being mined with a model at a threshold, and how far it has come.

    `state` is what the detector remembers at `position_s`; `size`, `mtime_ns` and `content` tell
    whether the file is still the same; `found` counts its finds that were new.
    """

    id: int
    path: Path
    content: str
    size: int
    mtime_ns: int
    model: Path
    checkpoint: str
    threshold: float
    position_s: float
    total_s: float
    state: str
    found: int
    done: bool
    began_at: float
    seen_at: float


def content_of(path: Path, tick: Callable[[], None] = lambda: None) -> str:
    """SHA-256 of a recording's file; `tick` is called between its parts.

    Raises DataError where the file cannot be read, or its name is no text.
    """
    digest = hashlib.sha256()
    try:
        str(path).encode()  # the queue keeps it
        with path.open("rb") as file:
            while part := file.read(HASHED_AT_ONCE):
                digest.update(part)
                tick()
    except UnicodeEncodeError as error:
        raise DataError(f"{str(path)!a} is no name in UTF-8", "rename the file") from error
    except OSError as error:
        hint = "give the path of a recording that can be read"
        raise DataError(f"cannot read {path}: {error.strerror}", hint) from error
    return digest.hexdigest()


class QueueStore:
    """The queue of a workspace; any thread, each with a connection of its own.

    Every method raises DataError where the file is damaged or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._file = QueueFile(path)

    def add(self, finds: Sequence[Find], note: str = "") -> int:
        """Add finds in one transaction, and give how many are new; those get the note.

        Within a second of an item of the same recording a find is that item, whatever has been
        decided about it; the higher score stays.
        """
        with self._file.writing() as sql:
            return self._add(sql, finds, note)

    def decide(self, ids: Sequence[int], decision: Decision) -> None:
        """Decide about items, as one step that can be undone."""
        decided_at = None if decision == "pending" else time.time()
        self._change(ids, "decision = ?, decided_at = ?", (decision, decided_at))

    def trim(self, item_id: int, start_s: float, end_s: float) -> None:
        """Move the edges of an item's stretch, within the recording."""
        self._change([item_id], "start_s = ?, end_s = ?", (start_s, end_s))

    def annotate(self, item_id: int, note: str) -> None:
        """Write a note on an item; an empty one removes it."""
        self._change([item_id], "note = ?", (note,))

    def flag(self, item_id: int, flagged: bool) -> None:
        """Flag an item, or take the flag away."""
        self._change([item_id], "flagged = ?", (flagged,))

    def undo(self) -> list[int]:
        """Take the last step back, whichever process made it; give its items, or none."""
        with self._file.writing() as sql:
            steps = "SELECT * FROM undo WHERE step = (SELECT max(step) FROM undo) ORDER BY rowid"
            before = sql.execute(steps).fetchall()
            for step, item, *was in before:
                sql.execute(
                    "UPDATE items SET decision = ?, decided_at = ?, start_s = ?, end_s = ?,"
                    " note = ?, flagged = ? WHERE id = ?",
                    (*was, item),
                )
                sql.execute("DELETE FROM undo WHERE step = ?", (step,))
            return [item for _, item, *_ in before]

    def ids(
        self,
        *,
        decision: Decision | None = "pending",
        order: Order = "score",
        text: str = "",
    ) -> list[int]:
        """The items of a decision, or all, whose path or note holds `text`, in an order.

        Best score first, by recording and time in it, newest first, by finder, or nearest to the
        threshold first.
        """
        where, values = ["1"], list[str]()
        if decision is not None:
            where, values = ["+decision = ?"], [decision]  # +: walk the index of the order
        if text:
            where.append("instr(lower(path || char(10) || note), ?)")
            values.append(text.lower())
        query = f"SELECT id FROM items WHERE {' AND '.join(where)} ORDER BY {_ORDERS[order]}"
        # As one row: between any two sqlite3 lets other threads run.
        ((ids,),) = self._file.read(f"SELECT json_group_array(id) FROM ({query})", values)
        return list(json.loads(ids))

    def item(self, item_id: int) -> QueueItem:
        """One item. Raises DataError where there is none of that number."""
        found = self.items([item_id])
        if not found:
            raise DataError(f"the queue has no item {item_id}")
        return found[0]

    def items(self, ids: Sequence[int]) -> list[QueueItem]:
        """Some items, in the order asked for; numbers that are not there are left out."""
        query = f"SELECT {_ITEM} FROM items WHERE id IN (SELECT value FROM json_each(?))"
        found = {row[-1]: _item(row) for row in self._file.read(query, [json.dumps(list(ids))])}
        return [found[number] for number in ids if number in found]

    def last_decisions(self, count: int) -> list[QueueItem]:
        """The items decided last, newest first."""
        query = (
            f"SELECT {_ITEM} FROM items WHERE decided_at IS NOT NULL"
            " ORDER BY decided_at DESC, id DESC LIMIT ?"
        )
        return [_item(row) for row in self._file.read(query, [count])]

    def counts(self) -> dict[Decision, int]:
        """How many items there are of each decision."""
        counted = dict(self._file.read("SELECT decision, count(*) FROM items GROUP BY decision"))
        return {decision: counted.get(decision, 0) for decision in get_args(Decision)}

    def decided(self, *decisions: Decision) -> Iterator[QueueItem]:
        """The items of some decisions, oldest first; the queue may change meanwhile."""
        wanted = "decision IN (SELECT value FROM json_each(?))"
        query = f"SELECT id FROM items WHERE {wanted} ORDER BY id"
        ids = [row[0] for row in self._file.read(query, [json.dumps(decisions)])]
        for start in range(0, len(ids), READ_AT_ONCE):
            yield from self.items(ids[start : start + READ_AT_ONCE])

    def begin_session(self, began: Session) -> Session:
        """Keep a new session; give it with its number."""
        values = [str(v) if isinstance(v, Path) else v for v in _values(began)[1:]]
        names = ", ".join(f.name for f in fields(Session)[1:])
        marks = ", ".join("?" * len(values))
        with self._file.writing() as sql:
            query = f"INSERT INTO sessions ({names}) VALUES ({marks})"
            number = sql.execute(query, values).lastrowid
        return self.session(number or 0)

    def sessions(self) -> list[Session]:
        """All sessions, oldest first."""
        return [_session(row) for row in self._file.read("SELECT * FROM sessions ORDER BY id")]

    def session(self, session_id: int) -> Session:
        """One session. Raises DataError where there is none of that number."""
        rows = self._file.read("SELECT * FROM sessions WHERE id = ?", [session_id])
        if not rows:
            raise DataError(f"there is no mining session {session_id}", "`mine --list` shows them")
        return _session(rows[0])

    def remove_session(self, session_id: int) -> None:
        """Forget a session; its finds stay."""
        with self._file.writing() as sql:
            sql.execute("DELETE FROM sessions WHERE id = ?", (session_id,))

    def commit_progress(
        self,
        session_id: int,
        position_s: float,
        finds: Sequence[Find],
        *,
        before_s: float,
        state: str = "",
        done: bool = False,
    ) -> int:
        """Move a session on and add what was found on the way, both or neither; give the new.

        Raises DataError where it no longer is at `before_s`: somebody else has moved it.
        """
        with self._file.writing() as sql:
            new = self._add(sql, finds)
            moved = sql.execute(
                "UPDATE sessions SET position_s = ?, state = ?, done = ?, found = found + ?,"
                " seen_at = ? WHERE id = ? AND position_s = ? AND NOT done",
                (position_s, state, done, new, time.time(), session_id, before_s),
            )
            if not moved.rowcount:
                message = f"mining session {session_id} is gone, or goes on elsewhere"
                raise DataError(message, "`mine --list` shows how far it is")
            return new

    def close(self) -> None:
        """Close the connections of all threads."""
        self._file.close()

    def _change(self, ids: Sequence[int], assignment: str, values: tuple[Any, ...]) -> None:
        """Change items as one step, of which the state before is kept."""
        with self._file.writing() as sql:
            (step,) = sql.execute("SELECT coalesce(max(step), 0) + 1 FROM undo").fetchone()
            sql.executemany(
                "INSERT INTO undo SELECT ?, id, decision, decided_at, start_s, end_s, note, flagged"
                " FROM items WHERE id = ?",
                [(step, number) for number in ids],
            )
            sql.executemany(
                f"UPDATE items SET {assignment} WHERE id = ?", [(*values, number) for number in ids]
            )

    def _add(self, sql: Sql, finds: Sequence[Find], note: str = "") -> int:
        new = 0
        for find in finds:
            near = sql.execute(
                "SELECT id FROM items WHERE content = ? AND time_s > ? AND time_s < ?"
                " ORDER BY abs(time_s - ?) LIMIT 1",
                (find.content, find.time_s - APART_S, find.time_s + APART_S, find.time_s),
            ).fetchone()
            if near is None:
                marks = ", ".join("?" * (len(fields(Find)) + 2))
                query = f"INSERT INTO items ({_FIND}, note, found_at) VALUES ({marks})"
                sql.execute(query, (str(find.path), *_values(find)[1:], note, time.time()))
                new += 1
            else:
                sql.execute(
                    "UPDATE items SET score = ?, threshold = ?, checkpoint = ?"
                    " WHERE id = ? AND score < ?",
                    (find.score, find.threshold, find.checkpoint, near[0], find.score),
                )
        return new


def _values(value: Find | Session) -> list[Any]:
    return [getattr(value, f.name) for f in fields(value)]


def _item(row: Any) -> QueueItem:
    path, *find = row[: len(fields(Find))]
    decision, decided_at, note, flagged, found_at, number = row[len(fields(Find)) :]
    found = Find(Path(path), *find)
    return QueueItem(number, found, decision, decided_at, note, bool(flagged), found_at)


def _session(row: Any) -> Session:
    values = dict(zip((f.name for f in fields(Session)), row, strict=True))
    places = {name: Path(values[name]) for name in ("path", "model")}
    return Session(**values | places | {"done": bool(values["done"])})
