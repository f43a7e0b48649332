"""`record` on the command line: what it asks, keeps and says, by pipe and in a terminal."""

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from spoken import words_at
from tiny import hiss

from engine import audio
from engine.manifest import read_manifest
from wakeword_tui.__main__ import main

RECORD = [sys.executable, "-m", "wakeword_tui", "record", "--speaker", "anna"]


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A word every 2.5 s."""
    return words_at(tmp_path / "words.wav", [1.5 + 2.5 * n for n in range(8)], 22)


def record(folder: Path, sound: Path, keys: str, *more: str) -> "subprocess.CompletedProcess[str]":
    words = [*RECORD, "--phrase", "hey nora", "--out", str(folder / "clips")]
    return subprocess.run(
        [*words, "--source", str(sound), *more], input=keys, capture_output=True, text=True,
        check=False, cwd=folder, env=os.environ | {"PULSE_SERVER": f"unix:{folder}/none"},
    )  # fmt: skip


def test_prompt_after_prompt_is_recorded_and_kept(tmp_path: Path, words: Path) -> None:
    keys = ["", "", "", "p", "", "", "r", "k"]  # the last one is said twice
    done = record(tmp_path, words, "\n".join(keys) + "\n", "--count", "2", "--negatives", "1")
    assert done.returncode == 0, done.stderr
    names = ["hey-nora-0001.flac", "partial-hey-0001.flac", "hey-nora-0002.flac"]
    assert [line.rsplit("/")[-1] for line in done.stdout.splitlines()] == names
    clips = read_manifest(tmp_path / "clips/manifest.csv")
    assert [clip.path.name for clip in clips] == names
    assert {clip.group for clip in clips} == {"anna"}
    assert "2 of 2   “hey nora”   now from across the room" in done.stderr
    assert "1 of 1   not the wake word: “hey”" in done.stderr
    assert "0.50 s, -20 dBFS: good" in done.stderr
    assert "kept: wake words 2, negatives 1" in done.stderr
    assert "next: wakeword-tui data check clips --wakeword hey-nora" in done.stderr


def test_the_end_of_input_ends_a_sitting_and_keeps_nothing_unasked(
    tmp_path: Path, words: Path
) -> None:
    done = record(tmp_path, words, "s\nw\n\n")
    assert done.returncode == 0, done.stderr
    assert (done.stdout, "wake words 0, negatives 0" in done.stderr) == ("", True)
    assert "not the wake word" in done.stderr
    assert not (tmp_path / "clips/manifest.csv").exists()


def test_a_take_without_a_word_cannot_be_kept(tmp_path: Path) -> None:
    audio.write(tmp_path / "room.wav", hiss(20, 3, 0.001))
    done = record(tmp_path, tmp_path / "room.wav", "\nk\ns\nq\n", "--negatives", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "no word found" in done.stderr
    assert "k: keep" not in done.stderr
    assert "2 of 30" in done.stderr
    assert not (tmp_path / "clips/manifest.csv").exists()


def test_the_recipe_says_what_and_where(tmp_path: Path, words: Path) -> None:
    (tmp_path / "my.toml").write_text('[data]\nmanifest = "mine"\nwakeword = "Nora"\n')
    done = subprocess.run(
        [*RECORD, "my.toml", "--source", str(words), "--negatives", "0", "--train"],
        input="\n\nq\n", capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (clip,) = read_manifest(tmp_path / "mine/manifest.csv")
    assert (clip.label, clip.split, clip.path.name) == ("Nora", "train", "nora-0001.flac")
    assert "anna only ever trains" in done.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--out", "x"], "no phrase"),
        (["--phrase", "nora"], "no data folder"),
        (["--phrase", "noise", "--out", "x"], "meaning of its own"),
        (["--phrase", "nora", "--out", "x", "--count", "-1"], "0 or more"),
    ],
)
def test_what_is_missing_is_named(
    more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["record", "--speaker", "anna", *more])
    assert said in capsys.readouterr().err


def test_where_no_sound_will_come_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--phrase", "nora", "--out", str(tmp_path / "clips"), "--source", "none"]
    assert main(["record", "--speaker", "anna", "--negatives", "0", *words]) == 1
    assert "error: no sound was asked for" in capsys.readouterr().err


def test_in_a_terminal_enter_ends_a_take(tmp_path: Path) -> None:
    audio.write(tmp_path / "room.wav", hiss(20, 3, 0.001))
    ours, theirs = pty.openpty()
    words = [*RECORD, "--phrase", "nora", "--out", "clips", "--negatives", "0"]
    child = subprocess.Popen(
        [*words, "--source", "room.wav"], stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path,
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path)},
    )  # fmt: skip
    os.close(theirs)
    told = ""

    def see(text: str) -> None:
        nonlocal told
        deadline = time.monotonic() + 30
        while text not in told:
            assert time.monotonic() < deadline, told
            told += os.read(ours, 4096).decode()

    see("q: end")
    os.write(ours, b"\n")
    see("● ")
    time.sleep(0.5)
    os.write(ours, b"\n")
    see("no word found")
    os.write(ours, b"q\n")
    see("kept: wake words 0")
    assert child.wait() == 0
    os.close(ours)
