"""`engine.programs` with a real program: a tone whose pitch tells the voice and length the text."""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.audio import SAMPLE_RATE
from engine.errors import DataError
from engine.espeak import Line
from engine.jobs import Control
from engine.manifest import fold_of
from engine.programs import Programs
from engine.synth import Amounts, synth

PROGRAM = """
import sys, wave, struct, math
hz, stretch, path, text = float(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:]
assert sys.stdin.read() == text
with wave.open(path, "wb") as file:
    file.setparams((1, 2, 22050, 0, "NONE", ""))
    count = int(22050 * 0.05 * len(text) * stretch)
    tone = (int(9000 * math.sin(2 * math.pi * hz * n / 22050)) for n in range(count))
    file.writeframes(struct.pack(f"<{count}h", *tone))
"""


@pytest.fixture
def command(tmp_path: Path) -> str:
    """Four voices of 400 to 403 Hz."""
    program = tmp_path / "a tone.py"
    program.write_text(PROGRAM)
    return f"{sys.executable} '{program}' {{400-403}} {{stretch}} {{wav}} {{text}}"


def said(programs: Programs, *lines: Line) -> list[np.ndarray]:
    return list(programs.speak(lines))


def pitch_hz(waveform: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 16 * SAMPLE_RATE))
    return float(spectrum.argmax()) / 16


def test_a_range_is_a_voice_each_and_lines_come_in_order(command: str) -> None:
    programs = Programs([command])
    lines = [Line(voice, "12345678", False, 170, 50, 50) for voice in programs.voices] * 5
    waveforms = said(programs, *lines)
    assert [round(pitch_hz(waveform)) for waveform in waveforms] == [400, 401, 402, 403] * 5
    assert [len(waveform) for waveform in waveforms] == [6400] * 20  # 8 * 0.05 s


def test_slower_lines_are_longer_and_smaller_speakers_higher(command: str) -> None:
    programs = Programs([command])
    line = Line(programs.voices[0], "12345678", False, 170, 50, 50)
    slow, small, large = said(
        programs,
        replace(line, rate_wpm=136),  # stretched by 170 / 136 = 1.25
        replace(line, pitch=85),  # 1.2 to the power of 0.7 is 1.136
        replace(line, pitch=15),
    )
    assert (len(slow), round(pitch_hz(slow))) == (8000, 400)
    assert pitch_hz(small) == pytest.approx(400 * 1.136, rel=0.01)
    assert pitch_hz(large) == pytest.approx(400 / 1.136, rel=0.01)


def test_a_text_is_never_a_place_nor_an_option_of_the_shell(command: str, tmp_path: Path) -> None:
    programs = Programs([command])
    text = f"{{wav}} $(touch {tmp_path}/touched) '; rm"
    (waveform,) = said(programs, Line(programs.voices[0], text, False, 170, 50, 50))
    assert len(waveform) == len(text) * 0.05 * SAMPLE_RATE
    assert not (tmp_path / "touched").exists()


def test_voices_fill_the_folds_in_turn(command: str) -> None:
    programs = Programs([command, command])
    assert len({voice.group for voice in programs.voices}) == 8
    assert [fold_of(voice.group) for voice in programs.voices] == [0, 1, 2, 3, 4, 0, 1, 2]


def test_programs_speak_a_whole_data_folder(command: str, tmp_path: Path) -> None:
    few = Amounts(voices=8, takes=1, confusables=5, partials=5, speech_minutes=0.5, rooms=1)
    programs, out = Programs([command]), tmp_path / "computer"
    said = ("computer", "com pewter")
    made = synth(
        said, out, amounts=few, programs=programs, emit=lambda event: None, control=Control()
    )
    with (out / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    words = [row for row in rows if row["label"] == "computer"]
    assert [row["group"] for row in words] == [voice.group for voice in programs.voices] * 2
    assert (made.positives, made.speakers) == (8, 4)
    others = [row for row in rows if row["start_s"] and row["label"] != "computer"]
    assert len(others) == 10
    assert not any("miss" in row["label"] or "syllables" in row["label"] for row in others)
    assert {row["licence"] for row in words} == {"synthetic, as the voice allows"}
    assert {Path(row["source"]).name for row in words} == {
        f"{Path(sys.executable).name} (synthetic)"
    }


@pytest.mark.parametrize(
    ("commands", "told"),
    [
        (["say {text}"] * 3, "does not say where"),
        (["say -o {wav}"] * 2, "2 voices"),
        (["say 'it -o {wav}"], "No closing quotation"),
    ],
)
def test_commands_that_cannot_speak_are_refused(commands: list[str], told: str) -> None:
    with pytest.raises(DataError, match=told):
        Programs(commands)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("no-such-program-{0-2} {wav}", "no program no-such-program-0"),
        ("sh -c 'echo out of voice {0-2} >&2; exit 3' {wav}", "sh: out of voice 0"),
        ("sh -c 'exit {3-5}' {wav}", "sh: exit code 3"),
        ("sh -c 'true {0-2}' {wav}", "sh wrote no"),
        ("sh -c 'echo {0-2} > $0' {wav}", "wav"),
    ],
)
def test_a_program_that_does_not_speak_is_named(command: str, told: str) -> None:
    programs = Programs([command])
    with pytest.raises(DataError, match=told):
        said(programs, Line(programs.voices[0], "hello", False, 170, 50, 50))
