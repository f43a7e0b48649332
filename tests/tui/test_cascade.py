"""Cascade: what a judge adds, with real small models and a real server."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from judging import TOKEN, served
from textual.pilot import Pilot
from textual.widgets import Input
from tiny import Trained, hiss

from engine import audio
from engine.judge import Health
from engine.local_judge import LocalJudge
from engine.runs import Workspace
from tests.tui.judged import a_cascade
from tests.tui.play import LARGE, SMALL, play, same_as_file, screen, see
from wakeword_tui.app import WakewordApp
from wakeword_tui.config import Config, JudgeConfig
from wakeword_tui.judging import Judging, latency

SCREENS = Path(__file__).parent / "screens"
SIZES = pytest.mark.parametrize("size", [SMALL, LARGE])


@pytest.fixture
def home(tmp_path: Path, tiny_run: Trained, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with two runs, the second of which may judge, and a recording beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMUX", "yes")
    home = Workspace(tmp_path / "workspace")
    for name in ("001-tiny", "002-judge"):
        shutil.copytree(tiny_run.run.path, home.root / "runs" / name)
    shutil.copytree(tiny_run.home.cache, home.cache)
    swell = np.abs(np.sin(np.arange(20 * 16_000) / 8000)).astype(np.float32)
    audio.write(tmp_path / "radio.wav", swell * hiss(20, 7))
    return home


async def name_judge(app: WakewordApp, pilot: Pilot[int], judge: str, token: str = "") -> None:
    await pilot.press("e")
    await see(app, pilot, "the judge", "a URL, or a run")
    for line, text in zip(app.screen.query(Input), (judge, token), strict=False):
        line.value = text
    await pilot.press("enter")
    await pilot.pause()


@SIZES
def test_the_whole_screen(home: Workspace, size: tuple[int, int]) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        judging = app.desk.judging
        judging.tested, judging.pair = a_cascade(), "001-tinyconv-f0, then http://127.0.0.1:8765"
        judging.took_ms.extend(judging.tested.took_ms)
        judging.health = Health("teacher-conformer-f0", 0.98, 2.495, 0, 8, 100.0)
        await pilot.press("7")
        await see(app, pilot, "and judge", "false wakes", "kitchen-02.ogg", "Quit")
        judging.health = Health("teacher-conformer-f0", 0.98, 2.495, 0, 8, 100.0)
        await pilot.pause(0.4)
        same_as_file(screen(app), SCREENS / f"cascade-{size[0]}x{size[1]}.txt")

    config = Config(judge=JudgeConfig(url="none://judge", token_file=Path("/x/judge.token")))
    play(home, story, size, config=config)


@SIZES
def test_an_empty_screen_says_what_to_press(home: Workspace, size: tuple[int, int]) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("7")
        await see(app, pilot, "No judge has been measured yet.", "none: e names one")
        await pilot.press("s")
        await see(app, pilot, "there is no judge yet")

    play(home, story, size)


@SIZES
def test_a_run_is_measured_with_another_behind_it(home: Workspace, size: tuple[int, int]) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("7")
        await name_judge(app, pilot, "002-judge")
        await see(app, pilot, "a run of this workspace")
        await pilot.press("d")
        await see(app, pilot, "the sentry")
        await pilot.press("end", "enter", "s")
        await see(app, pilot, "001-tiny, then 002-judge", "alone, same misses", within_s=300)
        await see(app, pilot, "at equal misses", "p50", "sentry alone")
        await pilot.press("y")
        await see(app, pilot, "lines copied")
        assert "and judge" in app.clipboard

    play(home, story, size)


def test_a_measurement_is_stopped(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("7")
        await name_judge(app, pilot, "002-judge")
        await app.run_action("start_stop", app.screen)
        assert app.desk.judging.status() != ""
        await app.run_action("start_stop", app.screen)  # before it is through
        await see(app, pilot, "cascade: stopped", within_s=60)
        assert app.desk.judging.tested is None

    play(home, story)


@SIZES
def test_a_recording_is_verified_by_a_judge_behind_http(
    home: Workspace, size: tuple[int, int], tiny_run: Trained, tmp_path: Path
) -> None:
    """The judge's word is shown beside each detection; its token nowhere."""
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("7")
        await name_judge(app, pilot, server.url, str(tmp_path / "token"))
        await see(app, pilot, "✓ tiny", "0 of 8 waiting", "token", within_s=30)
        await pilot.press("o")
        await see(app, pilot, "verify a recording", "radio.wav")
        await pilot.press("down", "enter")
        await see(app, pilot, "radio.wav: sentry, judge", within_s=60)
        await see(app, pilot, "accepted", within_s=120)
        await see(app, pilot, "ms", "p50")
        assert len(app.desk.judging.verified) > 0
        assert TOKEN not in screen(app)

    with served(LocalJudge.of(tiny_run.run.best), TOKEN) as server:
        play(home, story, size)
    assert any(answer.status == 200 for answer in server.answers)


@SIZES
def test_what_is_heard_live_is_verified(home: Workspace, size: tuple[int, int]) -> None:
    """The source is a recording, taken as fast as it can be heard."""

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("7", "v")
        await see(app, pilot, "there is no judge yet")
        await name_judge(app, pilot, "002-judge")
        await pilot.press("v")
        await see(app, pilot, "heard live: sentry, judge", within_s=120)
        hearing = app.desk.listener.hearing
        assert hearing is not None
        assert hearing.fired
        assert all(fired.judged is not None and fired.judged.score > 0 for fired in hearing.fired)

    play(home, story, size, config=Config(audio=f"fast:{home.root.parent / 'radio.wav'}"))


def test_a_judge_that_refuses_or_is_gone_is_said_in_a_line(
    home: Workspace, tiny_run: Trained
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("7")
        await name_judge(app, pilot, server.url)
        await see(app, pilot, "✓ tiny", within_s=30)  # its health is no secret
        await pilot.press("o")
        await see(app, pilot, "verify a recording")
        await pilot.press("down", "enter")
        await see(app, pilot, "set judge.token_file", within_s=60)
        await name_judge(app, pilot, "http://127.0.0.1:9")
        await see(app, pilot, "✗ no judge at", within_s=30)
        await pilot.press("o")
        await see(app, pilot, "verify a recording")
        await pilot.press("down", "enter")
        await see(app, pilot, "start it with `wakeword-tui judge`", within_s=60)

    with served(LocalJudge.of(tiny_run.run.best), TOKEN) as server:
        play(home, story, LARGE)


def test_what_cannot_judge_is_said_before_it_is_taken(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("7", "e")
        await see(app, pilot, "a URL, or a run")
        name, token, timeout = app.screen.query(Input)
        name.value, token.value, timeout.value = "nobody", "/nowhere", "0"
        await see(app, pilot, "neither a URL nor a run", "no such file", "above 0")
        await pilot.press("enter", "escape")
        assert app.desk.judging.name == ""

    play(home, story)


def test_latency_is_the_middle_and_the_worst_of_twenty() -> None:
    """1 to 100 ms: half are under 51, one in twenty is over 95."""
    assert latency(range(1, 101)) == "p50 51 ms  p95 96 ms  of 100"
    assert latency([]) == "-"


def test_another_judge_begins_anew(home: Workspace) -> None:
    """Whatever was known of one says nothing of another."""
    from engine.jobs import Jobs

    judging = Judging(Jobs(home), JudgeConfig(url="http://127.0.0.1:9"))
    judging.look()
    judging.took_ms.append(5.0)
    assert judging.health is not None
    judging.set("002-judge", "", 2.0)
    assert (judging.name, judging.health, list(judging.took_ms)) == ("002-judge", None, [])
