"""The app in a real pty: given back clean after any end, and no drag on the job."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.events import CheckpointSaved, Event, Stepped
from engine.runs import Workspace, read_events
from tests.tui.terminal import Terminal, terminal
from tests.waiting import until

LEFT_ALTERNATE_SCREEN = b"\x1b[?1049l"
CURSOR_SHOWN = b"\x1b[?25h"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "TMUX": "yes",
    }


@pytest.fixture
def training(tmp_path: Path, home: dict[str, str]) -> Iterator[Terminal]:
    with terminal([str(tmp_path), "noisy"], home) as opened:
        opened.wait_for("5.12k")
        yield opened


def restored(opened: Terminal) -> bool:
    out = opened.output
    return (
        LEFT_ALTERNATE_SCREEN in out
        and CURSOR_SHOWN in out
        and (opened.attributes() == opened.before)
    )


def events(folder: Path) -> list[Event]:
    return [record.event for record in read_events(folder / "runs" / "001-alexa" / "events.jsonl")]


def steps(folder: Path) -> int:
    return max((event.step for event in events(folder) if isinstance(event, Stepped)), default=0)


def test_quitting_gives_the_terminal_back(tmp_path: Path, home: dict[str, str]) -> None:
    with terminal([str(tmp_path), "idle"], home) as opened:
        opened.wait_for("manifest")
        opened.press("q")
        assert opened.wait() == 0
        until(lambda: restored(opened))


def test_a_crash_saves_and_gives_the_terminal_back(training: Terminal, tmp_path: Path) -> None:
    training.press("T")
    assert training.wait() == 70
    until(lambda: restored(training))
    training.wait_for("the screen has a bug")
    assert (tmp_path / "saved").exists()


def test_stop_and_quit_saves_a_checkpoint(training: Terminal, tmp_path: Path) -> None:
    training.press("q")
    training.wait_for("keep running")
    training.press("s")
    assert training.wait() == 0
    assert restored(training)
    assert (tmp_path / "saved").exists()


def test_a_job_kept_running_is_told_in_lines(tmp_path: Path, home: dict[str, str]) -> None:
    with terminal([str(tmp_path), "short"], home) as opened:
        opened.wait_for("5.12k")
        opened.press("q")
        opened.wait_for("keep running")
        opened.press("k")
        assert opened.wait() == 0
        shown = opened.output.split(LEFT_ALTERNATE_SCREEN)[-1]
        assert b"epoch" in shown
    assert steps(tmp_path) > 0


def test_a_lost_terminal_saves_and_ends_with_129(training: Terminal, tmp_path: Path) -> None:
    training.hang_up()
    assert training.wait() == 129
    saved = int((tmp_path / "saved").read_text())
    assert CheckpointSaved(saved, "last") in events(tmp_path)


def test_what_a_lost_terminal_did_not_take_changes_no_exit_code() -> None:
    code = "import sys; from wakeword_tui.driver import let_go; print(1); let_go(); sys.exit(130)"
    read, write = os.pipe()
    os.close(read)
    assert subprocess.run([sys.executable, "-E", "-c", code], stdout=write).returncode == 130
    os.close(write)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_gives_the_terminal_back(
    training: Terminal, tmp_path: Path, number: int, code: int
) -> None:
    os.kill(training.process.pid, number)
    assert training.wait() == code
    until(lambda: restored(training))
    assert (tmp_path / "saved").exists()


def test_noise_of_c_and_of_children_is_not_on_the_screen(
    training: Terminal, home: dict[str, str]
) -> None:
    log = Path(home["XDG_STATE_HOME"]) / "wakeword-tui" / "terminal.log"
    until(lambda: log.read_text().count("NOISE") == 3)
    assert b"NOISE" not in training.output


def test_a_name_that_is_no_text_is_shown_and_the_screen_goes_on(training: Terminal) -> None:
    training.press("9")
    training.wait_for("caf?.wav")
    training.press("q")
    training.wait_for("keep running")


def test_e_opens_the_recipe_in_the_editor_and_reads_it_again(
    tmp_path: Path, home: dict[str, str]
) -> None:
    editor, recipe = tmp_path / "editor", tmp_path / "mine.toml"
    editor.write_text(
        "#!/bin/sh\nkill -INT $PPID\necho EDITOR-ON-THE-TERMINAL\necho 'name = \"edited\"' > $1\n"
    )  # ctrl+c reaches the app too
    editor.chmod(0o755)
    recipe.write_text('name = "before"\n')
    arguments = [str(tmp_path), "idle", f"recipe={recipe}"]
    with terminal(arguments, home | {"VISUAL": str(editor)}) as opened:
        opened.wait_for("mine.toml")
        opened.press("e")
        opened.wait_for("EDITOR-ON-THE-TERMINAL")
        opened.press("\t")
        opened.press("k")
        opened.wait_for("edited")
        opened.press("q")
        assert opened.wait() == 0


def test_an_editor_that_is_not_there_is_a_message(tmp_path: Path, home: dict[str, str]) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('name = "before"\n')
    arguments = [str(tmp_path), "idle", f"recipe={recipe}"]
    with terminal(arguments, home | {"VISUAL": "no-such-editor"}) as opened:
        opened.wait_for("mine.toml")
        opened.press("e")
        opened.wait_for("cannot run no-such-editor")
        opened.press("q")
        assert opened.wait() == 0


def test_a_storm_of_sizes_leaves_the_app_and_the_job_alone(
    training: Terminal, tmp_path: Path
) -> None:
    chance, before = random.Random(3), steps(tmp_path)
    for _ in range(150):
        training.resize(chance.randint(1, 220), chance.randint(1, 70))
        time.sleep(0.01)
    training.resize(100, 30)
    until(lambda: steps(tmp_path) > before + 100)
    training.press("9")
    training.wait_for("log of run")
    training.press("q")
    training.wait_for("keep running")
    training.press("s")
    assert training.wait() == 0
    assert restored(training)


LOOKS = {
    "plain": {},
    "16 colours": {"TEXTUAL_COLOR_SYSTEM": "standard", "TERM": "xterm"},
    "256 colours": {"TEXTUAL_COLOR_SYSTEM": "256", "TERM": "tmux-256color"},
    "no colours": {"NO_COLOR": "1"},
}


@pytest.mark.parametrize(
    ("size", "look"),
    [
        ((40, 12), "plain"),
        ((40, 12), "no colours"),
        ((80, 24), "16 colours"),
        ((80, 24), "256 colours"),
        ((200, 60), "plain"),
        ((200, 60), "no colours"),
    ],
)
def test_every_screen_opens_at_any_size_and_in_any_colours(
    tmp_path: Path, home: dict[str, str], size: tuple[int, int], look: str
) -> None:
    with terminal([str(tmp_path)], home | LOOKS[look], size) as opened:
        opened.wait_for("train")
        for digit in "123456789":
            opened.press(digit)
            time.sleep(0.3)
        opened.wait_for("log of run", 60)
        opened.press("q")
        opened.wait_for("keep running" if size[0] > 40 else "running")
        opened.press("s")
        assert opened.wait() == 0
        until(lambda: restored(opened))


def test_a_terminal_that_stops_reading_does_not_slow_the_job(
    training: Terminal, tmp_path: Path
) -> None:
    training.reading.clear()
    training.press("\x0c" * 40)  # ctrl+l: frames enough to fill every buffer
    time.sleep(1.0)
    assert str(Workspace(tmp_path).holder()) == f"process {training.process.pid}"
    before = steps(tmp_path)
    time.sleep(2.5)
    assert steps(tmp_path) - before >= 0.5 * 2.5 / 0.005 * 10 / 2
    training.hang_up()
    assert training.wait() == 129
    assert (tmp_path / "saved").exists()
