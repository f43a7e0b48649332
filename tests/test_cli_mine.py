"""`wakeword-tui mine`, in this process and as a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_audio import write_noise
from tiny import Trained, hiss

from engine import audio
from engine.queue_store import QueueStore
from engine.runs import Workspace
from wakeword_tui.__main__ import main


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Workspace(tmp_path / "workspace")


def mine(home: Workspace, *words: str) -> int:
    return main(["mine", *words, "--workspace", str(home.root)])


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a.wav", "--list"],
        ["--import", "x", "--resume"],
        ["a.wav", "--split", "test", "--run", "1"],
        ["--split", "test"],
        ["a.wav", "--threshold", "1.5"],
        ["--resume", "--threshold", "0.5"],
        ["--import", "x", "--threshold", "0.5"],
        ["--list", "--threshold", "0.5"],
        ["--resume", "--run", "1"],
        ["--list", "--run", "1"],
        ["a.wav", "--json"],
        ["--resume", "--json"],
    ],
)
def test_what_does_not_go_together_is_a_usage_error(
    words: list[str], home: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        mine(home, *words)
    assert "usage: wakeword-tui mine" in capsys.readouterr().err


def test_recordings_are_mined_listed_and_counted(
    tiny_run: Trained, home: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio.write(tmp_path / "long.wav", hiss(40, 3))
    words = [str(tmp_path / "long.wav"), "--run", str(tiny_run.run.path), "--threshold", "0.01"]
    assert mine(home, *words) == 0
    told = capsys.readouterr()
    assert "1 new in the queue, 1 to decide on" in told.out
    assert "long.wav: 0.01 h mined, 1 found" in told.err
    assert mine(home, "--list", "--json") == 0
    (session,) = json.loads(capsys.readouterr().out)
    assert (session["done"], session["found"], session["threshold"]) == (True, 1, 0.01)
    assert mine(home, "--list") == 0
    assert "100.0 %" in capsys.readouterr().out


def test_without_a_detector_it_says_how_to_get_one(
    home: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio.write(tmp_path / "long.wav", hiss(2, 3))
    assert mine(home, str(tmp_path / "long.wav")) == 1
    assert "no detector in" in capsys.readouterr().err
    assert mine(home, "--list") == 0
    assert "nothing was mined yet" in capsys.readouterr().out
    assert mine(home, "--resume") == 1
    assert "no mining was broken off" in capsys.readouterr().err


def test_a_split_to_check_labels_says_that_it_never_trains(
    tiny_run: Trained, home: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mine(home, "--run", str(tiny_run.run.path), "--split", "test") == 0
    assert "never trained on" in capsys.readouterr().err
    assert mine(home, "--import", str(tiny_run.recipe.data.manifest), "--run", "x") == 1


def test_a_folder_is_imported(
    home: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "caught").mkdir()
    audio.write(tmp_path / "caught" / "a.wav", hiss(2, 3))
    assert mine(home, "--import", str(tmp_path / "caught")) == 0
    assert "1 new in the queue, 1 to decide on" in capsys.readouterr().out


def test_without_a_place_for_the_log_everything_works(home: Workspace, tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", hiss(1, 3))
    command = [sys.executable, "-m", "wakeword_tui", "mine", "--import", str(tmp_path / "a.wav")]
    command += ["--workspace", str(home.root)]
    nowhere = os.environ | {"XDG_STATE_HOME": "/proc/nope"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=nowhere)
    assert (done.returncode, "1 new in the queue" in done.stdout) == (0, True), done.stderr


def test_what_decoders_print_stays_off_the_command_line(
    tiny_run: Trained, home: Workspace, tmp_path: Path
) -> None:
    """mpg123 complains on descriptor 2 about the damage in the middle of an MP3."""
    path = tmp_path / "bad.mp3"
    write_noise(path, 16_000, 60.0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
    path.write_bytes(content)
    command = [sys.executable, "-m", "wakeword_tui", "mine", str(path)]
    command += ["--run", str(tiny_run.run.path), "--workspace", str(home.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cannot be read, skipped" in done.stderr
    assert "mpg123" not in done.stderr + done.stdout
    assert "MPEG" not in done.stderr + done.stdout
    log = Path(os.environ["XDG_STATE_HOME"]) / "wakeword-tui" / "terminal.log"
    assert "MPEG" in log.read_text(errors="replace")
    store = QueueStore(home.queue)
    assert store.sessions()[0].done
    store.close()
