"""`wakeword-tui search`, in this process."""

import csv
import json
from pathlib import Path

import pytest
from studying import NAME, go_on, made_recipe

from engine.recipe_file import loads
from engine.runs import Workspace
from engine.study_file import create
from wakeword_tui.__main__ import main


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a study of twelve trials; do not write into it."""
    home = Workspace(tmp_path_factory.mktemp("made"))
    create(home, NAME, made_recipe({"train.epochs": 9, "search.epochs": 2}), 12)
    go_on(home)
    return home


def search(home: Workspace, *words: str) -> int:
    return main(["search", *words, "--workspace", str(home.root)])


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["show"],
        ["recipe", "made"],
        ["show", "made", "3"],
        ["export", "made"],
        ["my.toml", "made"],
        ["my.toml", "--resume", "made"],
        ["my.toml", "--json"],
        ["my.toml", "--out", "plots"],
        ["my.toml", "--trials", "0"],
        ["--resume", "made", "--name", "other"],
        ["--resume", "made", "--set", "train.lr=0.1"],
        ["show", "made", "--resume", "made"],
    ],
)
def test_what_does_not_go_together_is_a_usage_error(
    words: list[str], made: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        search(made, *words)
    assert "usage: wakeword-tui search" in capsys.readouterr().err


def test_show_prints_a_line_for_each_trial_and_marks_the_front(
    made: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(made, "show", NAME, "--json") == 0
    front = json.loads(capsys.readouterr().out)["front"]
    assert search(made, "show", NAME) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == "made: 12 of 12 trials, FRR against MACs, tpe"
    assert [int(row[1:5]) for row in rows if row.startswith("*")] == sorted(front)
    assert rows[-1].startswith("what matters: ")


def test_list_names_the_studies(made: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(made, "list") == 0
    assert capsys.readouterr().out == "made\n"


def test_recipe_prints_a_trial_at_full_length(
    made: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(made, "recipe", NAME, "3") == 0
    chosen = loads(capsys.readouterr().out, Path("/"))
    assert (chosen.train.epochs, chosen.evaluate.split) == (9, "test")
    assert search(made, "recipe", NAME, "99") == 1


def test_export_writes_a_sheet_and_the_plots(
    made: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(made, "export", NAME, "--out", str(tmp_path)) == 0
    written = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert written == [
        "made.csv",
        "made-front.png",
        "made-front.svg",
        "made-hypervolume.png",
        "made-hypervolume.svg",
    ]
    with (tmp_path / "made.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == list(range(12))
    assert {row["state"] for row in rows} == {"complete"}
    assert 1e-4 <= float(rows[0]["train.lr"]) <= 1e-1


def test_a_bad_space_is_named_before_anything_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "bad.toml"
    recipe.write_text('[search.space]\n"train.lr" = { low = 1.0, high = 0.1 }\n')
    assert search(Workspace(tmp_path / "home"), str(recipe)) == 1
    assert "search.space.train.lr: low 1 is not below high 0.1" in capsys.readouterr().err
    assert not (tmp_path / "home" / "studies").exists()
