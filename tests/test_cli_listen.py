"""The command `listen`: detections on stdout, the rest on stderr, and a summary at the end."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_listen import SOUND, THRESHOLD, whole
from tiny import Trained

from engine import audio
from engine.events import Listening, Record, WakewordJudged
from wakeword_tui.__main__ import main
from wakeword_tui.commands.listen import Hearer, said

COMMAND = [sys.executable, "-m", "wakeword_tui", "listen"]


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """A recording with eight words."""
    audio.write(tmp_path / "talk.wav", SOUND)
    return tmp_path / "talk.wav"


def asked(trained: Trained, source: str) -> list[str]:
    home = ["--workspace", str(trained.home.root)]
    return [*home, "--source", source, "--threshold", str(THRESHOLD)]


def test_a_line_a_detection_and_a_summary_beside(
    tiny_run: Trained, talk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["listen", "1", *asked(tiny_run, f"fast:{talk}")]) == 0
    out, err = capsys.readouterr()
    found = [float(at_s) for at_s in re.findall(r"at (\d+\.\d+) s  score 0\.\d{3}", out)]
    expected = [fired.time_s for fired in whole(tiny_run, audio.read(talk))]
    assert found == pytest.approx(expected, abs=0.01)
    assert len(out.splitlines()) == len(expected)
    hourly = round(len(expected) * 3600 / (len(SOUND) / 16000))
    assert f"{len(expected)} detections in 19s, {hourly} an hour; 0 samples dropped" in err
    assert "in real time" not in err


def test_json_is_a_line_each_and_the_session_last(
    tiny_run: Trained, talk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["listen", *asked(tiny_run, f"fast:{talk}"), "--json"]) == 0
    *heard, session = map(json.loads, capsys.readouterr().out.splitlines())
    assert {line["type"] for line in heard} == {"WakewordHeard"}
    assert (session["type"], session["detections"]) == ("Listened", len(heard))


def test_an_export_listens_as_its_checkpoint_does(
    tiny_run: Trained, talk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = str(tiny_run.run.path / "export" / "student.onnx")
    outs = []
    for model in ("1", student):
        assert main(["listen", model, *asked(tiny_run, f"fast:{talk}")]) == 0
        outs.append(re.findall(r"at \S+ s  score \S+", capsys.readouterr().out))
    assert outs[0] == outs[1]


def test_ctrl_c_ends_with_the_summary(tiny_run: Trained, talk: Path) -> None:
    """In a terminal a meter is shown; the first detection of the file comes in its third second."""
    shown, terminal = pty.openpty()
    command, told = [*COMMAND, *asked(tiny_run, str(talk))], b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal) as listening:
        os.close(terminal)
        assert listening.stdout is not None
        assert b"score 0." in listening.stdout.readline()
        listening.send_signal(signal.SIGINT)
        while not told.endswith(b"SIGINT\r\n"):
            told += os.read(shown, 4096)
    os.close(shown)
    assert listening.returncode == 130
    assert b"in real time" in told
    assert re.search(rb"\[#+\.*\] peak +-?\d+ dB  score 0\.\d{3}  cpu \d+\.\d %", told)
    assert re.search(rb"1 detection in \ds, \d+ an hour; 0 samples dropped", told)


def test_a_recording_shorter_than_a_window_is_said_to_be_too_short(
    tiny_run: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio.write(tmp_path / "word.wav", SOUND[:8000])
    assert main(["listen", "1", *asked(tiny_run, f"fast:{tmp_path / 'word.wav'}")]) == 0
    assert "too short to be scored: 0.50 s were heard, 1.50 s" in capsys.readouterr().err


def test_silence_says_why(tiny_run: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["listen", *asked(tiny_run, "none")]) == 1
    assert "no sound was asked for" in capsys.readouterr().err


def test_what_the_judge_failed_is_said_with_what_the_policy_made_of_it() -> None:
    judged = WakewordJudged(2.5, accepted=True, error="no judge at http://127.0.0.1:9")
    line = said(Record(1, 0.0, judged))
    assert line.endswith(
        "at 2.50 s  accepted unheard, as on_failure says: no judge at http://127.0.0.1:9"
    )


def test_an_end_is_told_by_what_follows_it_alone() -> None:
    """A summary, or the warning that a recording broke off."""
    shown = io.StringIO()
    hearer = Hearer(shown, live=False)
    for number, (state, line, hint) in enumerate(
        [("open", "talk.wav", ""), ("ended", "talk.wav", ""), ("ended", "talk.wav: gone", "put it")]
    ):
        heard = Listening(1.0, [], [], -40.0, -30.0, 0, 0.1, 0, state, line, hint)
        hearer.tell([Record(number, 0.0, heard)])
    assert shown.getvalue() == "open: talk.wav\n"


@pytest.mark.parametrize("threshold", ["0", "1", "7"])
def test_a_threshold_lies_between_0_and_1(threshold: str) -> None:
    with pytest.raises(SystemExit):
        main(["listen", "--threshold", threshold])
