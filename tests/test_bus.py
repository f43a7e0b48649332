import threading

from hypothesis import given
from hypothesis import strategies as st

from engine.bus import EventBus
from engine.events import Progressed, Record, Warned


def durable(n: int) -> Record:
    return Record(n, 0.0, Warned(str(n)))


def fleeting(n: int) -> Record:
    return Record(n, 0.0, Progressed("pack", n, 100))


def fill(bus: EventBus, numbers: range) -> None:
    for n in numbers:
        bus.put(durable(n))


def test_what_is_put_is_drained_once_in_order() -> None:
    bus = EventBus()
    for n in (1, 2, 3):
        bus.put(durable(n))
    assert [record.n for record in bus.drain()] == [1, 2, 3]
    assert bus.drain() == []


def test_of_events_that_are_not_durable_only_the_newest_is_kept() -> None:
    bus = EventBus()
    for n in range(1, 1000):
        bus.put(fleeting(n))
    bus.put(durable(1000))
    assert [record.n for record in bus.drain()] == [999, 1000]
    assert bus.dropped == 0


def test_a_full_bus_drops_the_oldest_and_counts_them() -> None:
    """Ten into four: six are dropped, 7 to 10 are left."""
    bus = EventBus(capacity=4)
    for n in range(1, 11):
        bus.put(durable(n))
    assert [record.n for record in bus.drain()] == [7, 8, 9, 10]
    assert bus.dropped == 6


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 8))
def test_the_bus_is_bounded_whatever_comes(kinds: list[bool], capacity: int) -> None:
    bus = EventBus(capacity)
    for n, kind in enumerate(kinds):
        bus.put(durable(n) if kind else fleeting(n))
    drained = bus.drain()
    assert len(drained) <= capacity + 1
    assert bus.dropped == max(0, sum(kinds) - capacity)
    assert [r.n for r in drained] == sorted(r.n for r in drained)


def test_putting_never_waits_for_a_reader_that_does_not_read() -> None:
    bus = EventBus(capacity=10)
    writer = threading.Thread(target=fill, args=(bus, range(20_000)))
    writer.start()
    writer.join(timeout=30)
    assert not writer.is_alive()
    assert len(bus.drain()) == 10


def test_a_reader_beside_two_writers_sees_every_event_once() -> None:
    bus, seen = EventBus(capacity=10_000), list[int]()
    halves = range(2000), range(2000, 4000)
    threads = [threading.Thread(target=fill, args=(bus, numbers)) for numbers in halves]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen += [record.n for record in bus.drain()]
    seen += [record.n for record in bus.drain()]
    assert sorted(seen) == list(range(4000))
