import threading
import time

import pytest
import torch

from engine.ahead import Ahead


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_things_come_as_they_are_asked_for_whoever_makes_them(workers: int) -> None:
    ahead = Ahead(lambda number: number * number, workers)
    assert [ahead.take(number, 5) for number in range(5)] == [0, 1, 4, 9, 16]


def test_the_next_ones_are_begun_while_one_is_used_and_none_beyond_the_stop() -> None:
    begun: set[int] = set()
    ahead = Ahead(begun.add, 2)
    ahead.take(4, 6)
    while len(begun) < 2:
        time.sleep(0.001)
    assert begun == {4, 5}  # 6 is the stop


def test_each_is_made_once_even_where_they_are_taken_in_order() -> None:
    made: list[int] = []
    ahead = Ahead(made.append, 1)
    for number in range(6):
        ahead.take(number, 6)
    assert made == [0, 1, 2, 3, 4, 5]


def test_what_was_made_ahead_is_made_anew_once_forgotten() -> None:
    source, ready = ["old"], threading.Event()

    def make(number: int) -> str:
        made = f"{source[0]} {number}"
        if number == 1:
            ready.set()
        return made

    ahead = Ahead(make, 1)
    ahead.take(0, 2)
    ready.wait()
    source[0] = "new"
    ahead.forget()
    assert ahead.take(1, 2) == "new 1"


def test_a_step_back_makes_what_is_asked_for() -> None:
    ahead = Ahead(str, 1)
    assert [ahead.take(number, 9) for number in (5, 6, 2, 3)] == ["5", "6", "2", "3"]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_making_raises_is_raised_where_it_is_taken(workers: int) -> None:
    def make(number: int) -> int:
        raise MemoryError(f"batch {number}")

    with pytest.raises(MemoryError, match="batch 3"):
        Ahead(make, workers).take(3, 4)


def test_makers_have_one_core_each() -> None:
    assert Ahead(lambda _: torch.get_num_threads(), 1).take(0, 1) == 1
