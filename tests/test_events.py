from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.events import TYPES, Event, Record, Stepped, Warned, from_line, to_line

VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(),
    int: st.integers(),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    float | None: st.none() | st.floats(allow_nan=False),
    int | None: st.none() | st.integers(),
    bool | None: st.none() | st.booleans(),
    dict[str, float | int | str | bool]: st.dictionaries(st.text(), st.text() | st.booleans()),
    list[float]: st.lists(st.floats(allow_nan=False)),
    dict[str, float] | None: st.none() | st.dictionaries(st.text(), st.floats(allow_nan=False)),
}


def any_event() -> st.SearchStrategy[Event]:
    kinds = st.sampled_from(sorted(TYPES.values(), key=str))
    return kinds.flatmap(
        lambda kind: st.builds(kind, **{f.name: VALUES[f.type] for f in fields(kind)})
    )


@given(st.builds(Record, st.integers(1), st.floats(0, 1e10), any_event()))
def test_an_event_survives_its_line(record: Record) -> None:
    line = to_line(record)
    assert "\n" not in line
    assert from_line(line) == record


def test_a_line_begins_with_number_time_and_type() -> None:
    line = to_line(Record(7, 1.5, Warned("hot", "wait")))
    head = '{"n": 7, "time_s": 1.5, "type": "Warned", '
    assert line == head + '"message": "hot", "hint": "wait"}'


@given(st.integers(0, 60))
def test_a_torn_line_is_no_event(cut: int) -> None:
    line = to_line(Record(7, 1.5, Warned("hot", "wait")))
    assert len(line) > 60
    assert from_line(line[:cut]) is None


@pytest.mark.parametrize(
    "line",
    ["", "\n", "null", "[]", "7", '"x"', '{"n": 1}', '{"n": 1, "time_s": 2, "type": "Later"}'],
)
def test_a_line_of_something_else_is_no_event(line: str) -> None:
    assert from_line(line) is None


def test_an_event_of_a_newer_version_is_passed_over() -> None:
    line = to_line(Record(1, 2.0, Warned("hot"))).replace('"hint"', '"colour"')
    assert from_line(line) is None


def test_a_loss_that_is_no_number_survives() -> None:
    record = Record(1, 2.0, Stepped(1, 0, float("nan"), 1e-3, 1.0, 1.0, 1.0, 1.0))
    again = from_line(to_line(record))
    assert again is not None
    assert isinstance(again.event, Stepped)
    assert again.event.loss != again.event.loss
