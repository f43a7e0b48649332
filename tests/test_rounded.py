"""The float student and the INT8 ones in words."""

import json

from engine.flips import FLOAT, ROUNDED, TUNED, Flip, Int8, Side, Student
from engine.report import Report
from tests.tui.scripted import report
from wakeword_tui.commands.report import render
from wakeword_tui.rounded import briefly, measures, sentences

SIDE = Side(
    0.99, 0.05, 0.01, 0.12, missed=2, clips=40, fah=0.5, fah_low=0.0, fah_high=2.8,
    false_alarms=1, hours=2.0, difference=0.0,
)  # fmt: skip
LATENCY = {"p50": 0.1, "p95": 0.2}
FLIPS = (Flip("test", "", 3725.5, False), Flip("test", "ann/1.wav", 2.3, True))


def told() -> Int8:
    students = {
        FLOAT: Student(373.0, 60.0, LATENCY, SIDE, SIDE),
        ROUNDED: Student(132.0, 15.0, {}, SIDE, SIDE),
        TUNED: Student(132.0, 15.0, LATENCY, SIDE, SIDE, FLIPS),
    }
    return Int8(0.7, ("a.gate: Hardsigmoid", "b.gate: Hardsigmoid", "head: Linear"), students)


def test_what_is_told_comes_back_from_json() -> None:
    assert Int8.of(json.loads(json.dumps(told().to_plain()))) == told()


def test_each_student_has_a_line() -> None:
    lines = list(briefly(told()))
    assert lines[0] == (
        FLOAT, "373", "60.0", "0.20", "0.9900", "2/40", "1", "0.000", "0"
    )  # fmt: skip
    assert [line[3] for line in lines] == ["0.20", "-", "0.20"]
    assert [line[-1] for line in measures(told(), "test")] == ["0", "0", "2"]


def test_every_flip_is_told_with_its_time() -> None:
    """3725.5 s are an hour, two minutes and 5.5 seconds."""
    lines = list(sentences(told()))
    assert lines[:2] == [
        "int8: test stream at 1:02:05.50: INT8 alone fires",
        "int8: test word ann/1.wav: float alone fires",
    ]
    assert lines[3] == "not INT8: 2 Hardsigmoid, 1 Linear, and the front end"


def test_the_report_of_a_run_shows_them() -> None:
    plain = report() | {"int8": told().to_plain()}
    plain["test"]["det_fah"] = [1.0, 30.0]
    shown = render(Report.from_json(json.dumps(plain)))
    assert "on validation" in shown
    assert "at the float threshold 0.7000" in shown
