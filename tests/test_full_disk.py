"""A full disk under what a person asks for: a sentence, and with room it goes through."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import mounted
from studying import NAME, finish, made_recipe
from test_faults import filled
from test_plots import report
from tiny import Trained, ignore

from engine import audio
from engine.export import export
from engine.health import import_folder
from engine.jobs import Control
from engine.runs import Workspace
from engine.study import Study, view
from engine.study_file import create
from engine.synth import Amounts, synth
from tests.tiny import hiss
from wakeword_tui.commands.search import export_study
from wakeword_tui.plots import draw

Writes = Callable[[Path], object]


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    home = Workspace(tmp_path)
    create(home, NAME, made_recipe(), 4)
    with Study.opened(home, NAME, None) as opened:
        while (asked := opened.ask()) is not None:
            finish(opened, asked)
    return home


def whole_again(disk: Path, writes: Writes, *, inside: str = "out") -> None:
    """What a full disk refused in a sentence is written once there is room."""
    out = disk / inside
    filled(disk, lambda: writes(out))
    assert not [path for path in out.rglob(".*") if path.is_file()]
    writes(out)
    assert [path for path in out.rglob("*") if path.is_file()]


def test_no_room_for_pictures(disk: Path) -> None:
    whole_again(disk, lambda out: draw(report(), None, out))


def test_no_room_for_the_table_of_a_study(disk: Path, study: Workspace) -> None:
    found = view(study, NAME, None)
    whole_again(disk, lambda out: export_study(found, out))


def test_no_room_for_imported_recordings(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "anna").mkdir(parents=True)
    audio.write(tmp_path / "mine" / "anna" / "one.wav", hiss(1.0, 7))
    control = Control()
    whole_again(
        disk,
        lambda out: import_folder(tmp_path / "mine", out, "word", emit=ignore, control=control),
    )


def test_no_room_for_voices() -> None:
    few = Amounts(voices=10, takes=1, confusables=4, partials=2, speech_minutes=0.3, rooms=1)
    with mounted("96m") as disk:
        whole_again(
            disk,
            lambda out: synth(("hello you",), out, amounts=few, emit=ignore, control=Control()),
        )


def test_no_room_for_an_export(disk: Path, tiny_run: Trained) -> None:
    run, home = tiny_run.run, tiny_run.home
    whole_again(disk, lambda out: export(run, "onnx", out, home, emit=ignore, control=Control()))
