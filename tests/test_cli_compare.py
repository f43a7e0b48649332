import json
from pathlib import Path

import pytest

from engine.compare import compare
from engine.errors import DataError
from engine.recipe import Evaluate, Recipe
from engine.recipe_file import override
from engine.report import measure
from engine.runs import Run, Workspace
from tests.test_compare import POINT, RULES, negative, outcomes, words
from wakeword_tui.__main__ import main
from wakeword_tui.commands.compare import runs_of
from wakeword_tui.commands.report import render_measured
from wakeword_tui.paired import row, sentences

TABLE = """\
A  001-base
B  002-new

cohort      clips  A wrong %  B wrong %  B / A       95 %  only A/B  B has
clean         200   60  30.0   20  10.0   0.33  0.25-0.42      40/0  fewer
confusable      2    1  50.0    0   0.0   0.00  0.00-1.00       1/0      -

clean: B misses fewer words than A
false alarms: A 1 in 1.00 h, B 1 in 1.00 h, B / A 1.00 (0.01-78)
  no change is shown: that takes 20 alarms of A
words of all conditions at equal alarms, each side's thresholds moved:
  at 1: A 60, B 20 of 200 missed, B / A 0.33 (0.25-0.42), B fewer
202 of 202 clips paired; intervals draw whole groups
  or clips, where there are fewer than 10 groups: confusable
"""


def made(home: Workspace, name: str, marks: str, fired: bool = False) -> Run:
    """A run whose test missed the words marked `x`, and fired on one of two others or on none."""
    run = home.create(override(Recipe(), {"name": name}))
    others = negative(0.9 if fired else 0.1, "n0"), negative(0.1, "n1")
    outcomes(*words(marks, speakers=30), *others).write(run.outcomes)
    return run


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    """A baseline that misses 60 of 200, and a run that misses a third of them."""
    home = Workspace(tmp_path)
    made(home, "base", "x" * 60 + "." * 140, fired=True)
    made(home, "new", "x" * 20 + "." * 180)
    return home


def test_two_runs_are_compared_as_a_table(
    home: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "1", "new", "--workspace", str(home.root)]) == 0
    assert capsys.readouterr().out == TABLE


def test_a_comparison_as_json_is_strict(
    home: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "new", "1", "--json", "--workspace", str(home.root)]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (told["a"], told["b"]) == (["002-new"], ["001-base"])
    clean, confusable = told["cohorts"]
    assert (clean["a"]["wrong"], clean["b"]["wrong"], clean["verdict"]) == (20, 60, "more")
    assert confusable["ratio"] is None


def test_a_run_without_outcomes_exits_with_a_hint(
    home: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    home.find("1").outcomes.unlink()
    assert main(["compare", "1", "2", "--workspace", str(home.root)]) == 1
    assert "wakeword-tui evaluate RUN" in capsys.readouterr().err


def test_a_side_is_a_run_several_runs_or_the_newest_of_each_fold(tmp_path: Path) -> None:
    """Runs 6 and 7 were never tested: of a name they are passed over, by number they are meant."""
    home = Workspace(tmp_path)
    for name in ("tiny-f0", "tiny-f1", "tiny-f0", "big-f0", "big", "tiny-f1", "wide"):
        made(home, name, "x.")
    for number in ("6", "7"):
        home.find(number).outcomes.unlink()

    def numbers(text: str) -> list[int]:
        return [run.number for run in runs_of(home, text)]

    assert numbers("tiny") == [3, 2]
    assert numbers("1,2") == [1, 2]
    assert numbers("big") == [4]
    assert numbers("5") == [5]
    assert numbers("wide,6") == [7, 6]
    assert numbers("tiny-f1,4") == [2, 4]
    with pytest.raises(DataError, match="twice"):
        numbers("1,tiny-f1,2")
    with pytest.raises(DataError, match="no run 'huge'"):
        numbers("huge")


def test_what_is_the_same_on_both_sides_shows_nothing() -> None:
    told = [outcomes(*words("...."))]
    found = compare(told, told)
    assert row(found.cohorts[0])[4:] == ("1.00", "any", "0/0", "-")
    assert next(iter(sentences(found))) == "clean: no difference shown by 4 clips"


def test_different_targets_are_told() -> None:
    found = compare([outcomes(*words("."))], [outcomes(*words("."), target_fah=0.5)])
    assert any("FAH <= 0.5, 1: misses are traded" in line for line in sentences(found))


def test_a_report_tells_misses_and_what_fires_apart() -> None:
    clips = [*words("x..."), *words("xx..", "0 dB"), negative(0.9, "n0"), negative(0.1, "n1")]
    measured = measure(clips, [], POINT, RULES, 0.08, Evaluate())
    told = [" ".join(line.split()) for line in render_measured(measured, 1.0).splitlines()]
    first = told.index("cohort clips missed FRR 95 %")
    assert told[first + 1] == "clean 4 1 25.0 % 0.6 to 80.6 %"
    assert told[first + 2] == "0 dB 4 2 50.0 % 6.8 to 93.2 %"
    second = told.index("negatives clips fired rate 95 %")
    assert told[second + 1] == "confusable 2 1 50.0 % 1.3 to 98.7 %"
