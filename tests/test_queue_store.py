import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import DataError
from engine.queue_file import MIGRATIONS
from engine.queue_store import Find, Order, QueueStore, Session

HOUR = Path("/recordings/hour.wav")


def find(time_s: float = 10.0, score: float = 0.8, path: Path = HOUR, content: str = "a") -> Find:
    return Find(
        path=path,
        content=content,
        time_s=time_s,
        start_s=time_s - 1.5,
        end_s=time_s + 0.5,
        score=score,
        threshold=0.5,
        group=f"user:{content}",
        checkpoint="c0ffee",
        found_by="background",
    )


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[QueueStore]:
    store = QueueStore(tmp_path / "queue.db")
    yield store
    store.close()


def test_a_find_comes_back_as_it_was_handed_in(queue: QueueStore) -> None:
    assert queue.add([find()]) == 1
    (number,) = queue.ids()
    item = queue.item(number)
    assert (item.find, item.decision, item.decided_at) == (find(), "pending", None)
    assert (item.note, item.flagged) == ("", False)


def test_the_same_place_is_one_item_and_the_higher_score_wins(queue: QueueStore) -> None:
    """0.99 s away is the same place, 1 s away is another one; a lower score changes nothing."""
    queue.add([find(10.0, 0.6)])
    assert queue.add([find(10.99, 0.9), find(9.5, 0.7)]) == 0
    assert queue.add([find(11.0, 0.5)]) == 1
    assert [(i.find.time_s, i.find.score) for i in queue.items(queue.ids())] == [
        (10.0, 0.9),
        (11.0, 0.5),
    ]


def test_a_recording_is_known_by_its_content_not_its_name(queue: QueueStore) -> None:
    queue.add([find()])
    assert queue.add([find(path=Path("/elsewhere/copy.wav"))]) == 0
    assert queue.add([find(content="b")]) == 1


def test_what_was_decided_is_not_asked_again(queue: QueueStore) -> None:
    queue.add([find()])
    queue.decide(queue.ids(), "discarded")
    queue.add([find(score=0.99)])
    assert queue.ids() == []
    assert queue.counts()["discarded"] == 1


def test_undo_takes_back_one_step_after_another_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    first = QueueStore(path)
    first.add([find(10.0), find(20.0, 0.7), find(30.0, 0.6)])
    a, b, c = first.ids()
    first.decide([a, b], "confirmed")
    first.trim(c, 29.0, 30.2)
    first.annotate(c, "a radio")
    first.flag(c, True)
    first.close()

    second = QueueStore(path)
    flagged = second.item(c)
    assert (flagged.note, flagged.flagged, flagged.find.start_s) == ("a radio", True, 29.0)
    assert [second.undo() for _ in range(4)] == [[c], [c], [c], [a, b]]
    assert second.undo() == []
    assert second.counts()["pending"] == 3
    restored = second.item(c)
    assert (restored.note, restored.flagged, restored.find) == ("", False, find(30.0, 0.6))
    second.close()


def test_undo_goes_back_to_the_decision_before(queue: QueueStore) -> None:
    queue.add([find()])
    (number,) = queue.ids()
    queue.decide([number], "ignored")
    before = queue.item(number)
    queue.decide([number], "wakeword")
    queue.undo()
    assert queue.item(number) == before


def test_deciding_it_is_pending_takes_it_off_the_last_decisions(queue: QueueStore) -> None:
    queue.add([find(10.0), find(20.0)])
    first, second = queue.ids()
    queue.decide([first], "confirmed")
    queue.decide([second], "discarded")
    assert [item.id for item in queue.last_decisions(5)] == [second, first]
    queue.decide([second], "pending")
    assert [item.id for item in queue.last_decisions(5)] == [first]


@given(st.lists(st.sampled_from(["confirmed", "discarded", "wakeword", "ignored", "trim", "note"])))
def test_undoing_everything_gives_the_queue_of_before(steps: list[str]) -> None:
    queue = QueueStore(Path(":memory:"))
    queue.add([find(10.0), find(20.0)])
    before = queue.items(queue.ids(decision=None))
    for n, step in enumerate(steps):
        number = 1 + n % 2
        if step == "trim":
            queue.trim(number, n, n + 1.0)
        elif step == "note":
            queue.annotate(number, str(n))
        else:
            queue.decide([number], step)  # type: ignore[arg-type]
    for _ in steps:
        queue.undo()
    assert queue.items(queue.ids(decision=None)) == before
    queue.close()


def test_items_come_in_the_order_asked_for(queue: QueueStore) -> None:
    """Scores 0.9 0.55 0.7 against a threshold of 0.5: distances 0.4 0.05 0.2."""
    other = Path("/recordings/another.wav")
    queue.add([find(30.0, 0.9), find(20.0, 0.55), find(5.0, 0.7, other, "b")])
    assert queue.ids(order="score") == [1, 3, 2]
    assert queue.ids(order="source") == [3, 2, 1]
    assert queue.ids(order="near_threshold") == [2, 3, 1]
    assert queue.ids(order="time") == [3, 2, 1]
    assert queue.ids(order="found") == [1, 3, 2]


@pytest.mark.parametrize("order", get_args(Order))
def test_an_order_is_read_from_its_index_in_one_row(queue: QueueStore, order: Order) -> None:
    """Between two rows other threads may run, and sorting a long queue takes as long as reading."""
    queue.add([find(10), find(20)])
    asked: list[str] = []
    queue._file._connection().set_trace_callback(asked.append)
    assert sorted(queue.ids(order=order)) == [1, 2]
    query = asked[0]
    assert len(queue._file.read(query)) == 1
    plan = queue._file.read(f"EXPLAIN QUERY PLAN {query}")
    assert not any("TEMP B-TREE" in step for *_, step in plan)


def test_a_filter_looks_at_paths_and_notes(queue: QueueStore) -> None:
    queue.add([find(), find(path=Path("/tv/News_50%.mp3"), content="b")])
    queue.annotate(1, "the neighbour's Radio")
    assert queue.ids(text="news_50%") == [2]
    assert queue.ids(text="radio") == [1]
    assert queue.ids(text="nothing") == []


def test_items_keep_the_order_asked_for_and_leave_out_strangers(queue: QueueStore) -> None:
    queue.add([find(10.0), find(20.0), find(30.0)])
    assert [item.id for item in queue.items([3, 9, 1])] == [3, 1]
    with pytest.raises(DataError, match="no item 9"):
        queue.item(9)


def test_decided_items_are_read_while_the_queue_changes(queue: QueueStore) -> None:
    queue.add([find(10.0 * n) for n in range(1200)])
    queue.decide(queue.ids(), "confirmed")
    seen = []
    for item in queue.decided("confirmed", "wakeword"):
        seen.append(item.id)
        if item.id == 1:
            queue.decide([1200], "discarded")
    assert seen == list(range(1, 1201))


def session(path: Path = HOUR) -> Session:
    return Session(0, path, "a", 1, 2, Path("m"), "c0ffee", 0.4, 0.0, 60.0, "", 0, False, 3.0, 3.0)


def test_a_session_moves_with_its_finds(queue: QueueStore) -> None:
    begun = queue.begin_session(session())
    assert (
        queue.commit_progress(begun.id, 30.0, [find(10.0), find(10.4)], before_s=0.0, state="s")
        == 1
    )
    queue.commit_progress(begun.id, 60.0, [], before_s=30.0, done=True)
    (now,) = queue.sessions()
    assert (now.position_s, now.found, now.state, now.done) == (60.0, 1, "", True)
    assert (now.path, now.model) == (HOUR, Path("m"))


def test_neither_position_nor_finds_are_kept_when_the_disk_refuses(queue: QueueStore) -> None:
    begun = queue.begin_session(session())
    bad = find(20.0, score=None)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="cannot use"):
        queue.commit_progress(begun.id, 30.0, [find(10.0), bad], before_s=0.0)
    assert queue.session(begun.id).position_s == 0.0
    assert queue.ids() == []


def test_of_two_that_mine_a_session_the_slower_is_told_and_changes_nothing(
    queue: QueueStore,
) -> None:
    begun = queue.begin_session(session())
    queue.commit_progress(begun.id, 60.0, [find(10.0)], before_s=0.0, done=True)
    for before_s, to_s in ((0.0, 30.0), (60.0, 60.0)):
        with pytest.raises(DataError, match=f"mining session {begun.id} is gone, or goes on else"):
            queue.commit_progress(begun.id, to_s, [find(20.0)], before_s=before_s)
    (now,) = queue.sessions()
    assert (now.position_s, now.done, now.found) == (60.0, True, 1)
    assert len(queue.ids()) == 1


def test_every_thread_may_decide(queue: QueueStore) -> None:
    queue.add([find(10.0 * n) for n in range(40)])
    numbers = queue.ids()

    def decide(mine: list[int]) -> None:
        for number in mine:
            queue.decide([number], "confirmed")

    threads = [threading.Thread(target=decide, args=(numbers[k::4],)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue.counts()["confirmed"] == 40
    assert len([queue.undo() for _ in range(40)]) == 40
    assert queue.counts()["pending"] == 40


DECIDE = """
import sys
from pathlib import Path
from engine.queue_store import QueueStore
queue = QueueStore(Path(sys.argv[1]))
for number in queue.ids():
    queue.decide([number], "confirmed")
    print(number, flush=True)
"""


def test_a_kill_in_the_middle_of_decisions_loses_none(tmp_path: Path) -> None:
    path, rng, told = tmp_path / "queue.db", random.Random(7), set[int]()
    queue = QueueStore(path)
    queue.add([find(10.0 * n) for n in range(20_000)])
    queue.close()
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", DECIDE, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        told.add(int(child.stdout.readline()))
        time.sleep(rng.uniform(0.0, 0.1))
        child.kill()
        told |= {int(line) for line in child.stdout if line.endswith("\n")}
        child.wait()
        child.stdout.close()
        queue = QueueStore(path)
        decided = {item.id for item in queue.decided("confirmed")}
        queue.close()
        assert told <= decided
        assert len(decided - told) <= 1  # on the disk, but killed before it could tell
        told = decided


def test_a_file_that_is_no_database_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    path.write_bytes(b"not a database at all" * 400)
    with pytest.raises(DataError, match=r"damaged.*\n.*\.recover.*move it away"):
        QueueStore(path)
    assert path.read_bytes().startswith(b"not a database")


def test_a_page_that_rots_later_is_told_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    queue = QueueStore(path)
    queue.add([find(10.0 * n) for n in range(2000)])
    queue.close()
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * (path.stat().st_size - 3 * 4096))
    rotten = QueueStore(path)
    with pytest.raises(DataError, match="damaged"):
        list(rotten.decided("pending"))
    rotten.close()


def test_a_file_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    old = sqlite3.connect(path)
    old.executescript(f"{MIGRATIONS[0]}; PRAGMA user_version = 1;")
    old.execute(
        "INSERT INTO items (path, content, time_s, start_s, end_s, score, threshold, source_group,"
        " checkpoint, found_by, found_at)"
        " VALUES ('x', 'a', 9, 8, 9.5, 0.9, 0.5, 'g', '', 'live', 1)"
    )
    old.commit()
    old.close()
    queue = QueueStore(path)
    assert queue.item(1).find.time_s == 9.0
    assert queue.sessions() == []
    queue.close()
    new = sqlite3.connect(path)
    assert new.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    new.close()


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(DataError, match="newer"):
        QueueStore(path)


def test_a_full_disk_leaves_the_queue_as_it_was(small_disk: Path) -> None:
    path = small_disk / "queue.db"
    with pytest.raises(DataError, match="cannot use"):
        QueueStore(path).add([find(10.0 * n) for n in range(5000)])
