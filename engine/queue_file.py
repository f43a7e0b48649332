"""The queue's SQLite file: its tables, a connection for each thread, transactions, and its errors.

It is written ahead (WAL), so that readers and a writer, of any process, do not wait for each other,
and a commit is on the disk when it returns.
"""

import contextlib
import shlex
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.errors import DataError

BUSY_S = 10.0
Sql = sqlite3.Connection

MIGRATIONS = (
    """
    CREATE TABLE items (
        id INTEGER PRIMARY KEY,
        path TEXT NOT NULL, content TEXT NOT NULL,
        time_s REAL NOT NULL, start_s REAL NOT NULL, end_s REAL NOT NULL,
        score REAL NOT NULL, threshold REAL NOT NULL,
        source_group TEXT NOT NULL, checkpoint TEXT NOT NULL, found_by TEXT NOT NULL,
        decision TEXT NOT NULL DEFAULT 'pending', decided_at REAL,
        note TEXT NOT NULL DEFAULT '', flagged INTEGER NOT NULL DEFAULT 0, found_at REAL NOT NULL);
    CREATE INDEX place ON items (content, time_s);
    CREATE INDEX by_score ON items (score DESC, id, decision);
    CREATE INDEX by_source ON items (path, time_s, id, decision);
    CREATE INDEX by_time ON items (found_at DESC, id DESC, decision);
    CREATE INDEX by_finder ON items (found_by, score DESC, id, decision);
    CREATE INDEX by_distance ON items (abs(score - threshold), id, decision);
    CREATE INDEX decided ON items (decided_at);
    CREATE INDEX decisions ON items (decision);
    CREATE TABLE undo (
        step INTEGER NOT NULL, item INTEGER NOT NULL,
        decision TEXT NOT NULL, decided_at REAL, start_s REAL NOT NULL, end_s REAL NOT NULL,
        note TEXT NOT NULL, flagged INTEGER NOT NULL);
    CREATE INDEX steps ON undo (step)
    """,
    """
    CREATE TABLE sessions (
        id INTEGER PRIMARY KEY,
        path TEXT NOT NULL, content TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        model TEXT NOT NULL, checkpoint TEXT NOT NULL, threshold REAL NOT NULL,
        position_s REAL NOT NULL DEFAULT 0, total_s REAL NOT NULL, state TEXT NOT NULL DEFAULT '',
        found INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0, began_at REAL NOT NULL,
        seen_at REAL NOT NULL)
    """,
)
"""What makes a file of version n one of version n + 1; the first makes it out of nothing."""


class QueueFile:
    """The file, brought to this version when it is opened.

    Everything raises DataError where the file is damaged, newer, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._own = threading.local()
        self._all: list[Sql] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make {path.parent}: {error.strerror}") from error
        with self._errors():
            self._migrate(self._connection())

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query."""
        with self._errors():
            return self._connection().execute(query, values).fetchall()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Sql]:
        """All of what is written inside, or nothing; on the disk afterwards."""
        with self._errors(), _transaction(self._connection()) as sql:
            yield sql

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in self._all:
            connection.close()
        self._all.clear()
        self._own = threading.local()

    def _connection(self) -> Sql:
        """Open one for this thread if it has none."""
        sql: Sql | None = getattr(self._own, "sql", None)
        if sql is None:
            sql = sqlite3.connect(
                self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._all.append(sql)
            sql.execute("PRAGMA journal_mode = WAL")
            sql.execute("PRAGMA synchronous = FULL")
            self._own.sql = sql
        return sql

    def _migrate(self, sql: Sql) -> None:
        """Bring an older file to this version, whole or not at all."""
        sql.execute("SELECT count(*) FROM sqlite_master")
        if _version(sql) == len(MIGRATIONS):
            return
        with _transaction(sql):
            version = _version(sql)
            if version > len(MIGRATIONS):
                hint = "open it with the newer wakeword-tui, or move it away to begin anew"
                raise DataError(f"{self.path} was written by a newer wakeword-tui", hint)
            for script in MIGRATIONS[version:]:
                for statement in script.split(";"):
                    sql.execute(statement)
            sql.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        """Turn what SQLite refuses into a sentence."""
        return _sentences(self.path)


def look_through(path: Path) -> None:
    """Read any SQLite file from end to end. Raises DataError where it is damaged."""
    place = (
        f"{path.absolute().as_uri()}?mode=rw"  # a reader alone would leave its -shm and -wal behind
    )
    with _sentences(path), contextlib.closing(sqlite3.connect(place, uri=True)) as sql:
        (told,) = sql.execute("PRAGMA quick_check(1)").fetchone()
        if told != "ok":
            raise _damaged(path, told)


@contextlib.contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Turn what SQLite refuses into a sentence."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorname", "")
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "no such" in str(error):
            raise _damaged(path, str(error)) from error
        hint = "free space, check the folder's permissions, or wait for the other process"
        raise DataError(f"cannot use {path}: {error}", hint) from error


def _damaged(path: Path, why: str) -> DataError:
    recover = f"sqlite3 {shlex.quote(str(path))} .recover | sqlite3 mended.db"
    hint = (
        f"save what is readable with `{recover}`"
        " and put that in its place, or move it away to begin anew"
    )
    return DataError(f"{path} is damaged: {why}", hint)


@contextlib.contextmanager
def _transaction(sql: Sql) -> Iterator[Sql]:
    """Commit what is written inside, or take it back; nobody else writes meanwhile."""
    sql.execute("BEGIN IMMEDIATE")
    try:
        yield sql
        sql.execute("COMMIT")
    except BaseException:
        if sql.in_transaction:  # a full disk may have taken it back already
            sql.execute("ROLLBACK")
        raise


def _version(sql: Sql) -> int:
    return int(sql.execute("PRAGMA user_version").fetchone()[0])
