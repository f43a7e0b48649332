"""Prompts: their order, their count, and what is read as a negative."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.phonetics import Lookalike
from engine.prompts import MANNERS, Plan, lookalikes

OTHERS = [Lookalike(f"confusable-{n}", f"text {n}") for n in range(3)]


def read(plan: Plan) -> list[str]:
    """Go through a plan to its end: labels in order."""
    labels = []
    while plan.now is not None:
        labels.append(plan.now.label)
        plan.go_on()
    return labels


def test_negatives_come_evenly_between_wake_words() -> None:
    # after one of six wake words more of them is done than of three negatives, and so on
    plan = Plan("hey nora", "nora", 6, OTHERS)
    kinds = ["n" if label == "nora" else "-" for label in read(plan)]
    assert "".join(kinds) == "n-nn-nn-n"


@given(count=st.integers(0, 40), others=st.integers(0, 20), turns=st.sets(st.integers(0, 59)))
def test_every_prompt_comes_once_whatever_is_turned_to(
    count: int, others: int, turns: set[int]
) -> None:
    negatives = [Lookalike(f"c{n}", "text") for n in range(others)]
    plan, seen = Plan("hey nora", "nora", count, negatives), []
    for step in range(count + others):
        if step in turns:
            plan.turn()
        assert plan.now is not None
        place, total = plan.place
        assert 1 <= place <= total
        seen.append(plan.now)
        plan.go_on()
    assert plan.now is None
    assert sum(prompt.wakeword for prompt in seen) == count
    assert len({prompt.label for prompt in seen if not prompt.wakeword}) == others


def test_turning_reads_negatives_until_they_are_done() -> None:
    plan = Plan("hey nora", "nora", 2, OTHERS)
    plan.turn()
    assert (plan.place, plan.negatives_only) == ((1, 3), True)
    assert read(plan) == ["confusable-0", "confusable-1", "confusable-2", "nora", "nora"]


def test_without_negatives_there_is_nothing_to_turn_to() -> None:
    plan = Plan("hey nora", "nora", 2, [])
    plan.turn()
    assert not plan.negatives_only
    assert plan.place == (1, 2)


def test_wake_words_are_said_in_all_manners_in_turn() -> None:
    plan, manners = Plan("hey nora", "nora", len(MANNERS) + 1, []), []
    while plan.now is not None:
        manners.append(plan.now.manner)
        plan.go_on()
    assert manners == [*MANNERS, MANNERS[0]]


def test_what_is_read_sounds_like_the_phrase_and_is_not() -> None:
    found = lookalikes("hey nora", 8)
    assert [other.text for other in found[:2]] == ["hey", "nora"]
    assert [other.label for other in found[:2]] == ["partial-hey", "partial-nora"]
    assert len(found) == len({other.label for other in found}) == 8
    assert all("nora" in o.text or "hey" in o.text or " " not in o.text for o in found)
    assert "hey nora" not in [other.text for other in found]
    assert not any(other.phonemes for other in found)


@pytest.mark.parametrize("phrase", ["jarvis", "hey nora", "bcd", "naïve öl", "7 up"])
def test_without_espeak_the_spelling_tells(phrase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.espeak.HELPER", Path("/nowhere/helper.py"))
    assert lookalikes(phrase, 4)


def test_none_are_looked_for_where_none_are_asked_for() -> None:
    assert lookalikes("hey nora", 0) == []
