"""Cascade: what a judge adds, with real small models and a real server."""

import shutil
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judging import TOKEN, served
from textual.pilot import Pilot
from textual.widgets import Input
from tiny import Trained, hiss

from engine import audio
from engine.cascade import Pair
from engine.checkpoint import load
from engine.jobs import Jobs
from engine.judge import Health, OnFailure
from engine.local_judge import LocalJudge
from engine.runs import Workspace
from tests.tui.judged import a_cascade
from tests.tui.play import LARGE, SMALL, play, same_as_file, screen, see, until
from wakeword_tui.app import WakewordApp
from wakeword_tui.config import Config, JudgeConfig
from wakeword_tui.judging import Judging, latency
from wakeword_tui.listening import Hearing
from wakeword_tui.widgets.menu import Menu

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
        await same_as_file(pilot, SCREENS / f"cascade-{size[0]}x{size[1]}.txt")

    config = Config(judge=JudgeConfig(url="none://judge", token_file=Path("/x/judge.token")))
    play(home, story, size, config=config)


@SIZES
def test_an_empty_screen_says_what_to_press(home: Workspace, size: tuple[int, int]) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("7")
        await see(app, pilot, "No judge has been measured yet.", "none: e names one")
        await see(app, pilot, "v  has it hear", "d  chooses the sentry")
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
        await see(app, pilot, "001-tiny, then 002-judge", "same misses", within_s=300)
        await see(app, pilot, "at equal misses", "p50", "sentry alone")
        await pilot.press("y")
        await see(app, pilot, "lines copied")
        assert "and judge" in app.clipboard

    play(home, story, size)


@SIZES
def test_a_run_that_judges_itself_is_told(home: Workspace, size: tuple[int, int]) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("7")
        await name_judge(app, pilot, "002-judge")
        await see(app, pilot, "! the sentry itself:", "it can only agree with itself")
        await pilot.press("d")
        await see(app, pilot, "the sentry")
        await pilot.press("end", "enter")
        await see(app, pilot, "a run of this workspace")

    play(home, story, size)


def test_a_measurement_is_stopped(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("7")
        await name_judge(app, pilot, "002-judge")
        await app.run_action("start_stop", app.screen)
        assert app.desk.judging.status() != ""
        await app.run_action("start_stop", app.screen)  # before it is through
        await see(app, pilot, "cascade: stopped")
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
        await see(app, pilot, "✓ tiny", "0 of 8 waiting", "token")
        await pilot.press("o")
        await see(app, pilot, "verify a recording", "radio.wav")
        await pilot.press("down", "enter")
        await see(app, pilot, "radio.wav: sentry, judge")
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
        await see(app, pilot, "✓ tiny")  # its health is no secret
        await pilot.press("o")
        await see(app, pilot, "verify a recording")
        await pilot.press("down", "enter")
        await see(app, pilot, "set judge.token_file")
        await name_judge(app, pilot, "http://127.0.0.1:9")
        await see(app, pilot, "✗ no judge at")
        await pilot.press("o")
        await see(app, pilot, "verify a recording")
        await pilot.press("down", "enter")
        await see(app, pilot, "start it with `wakeword-tui judge`")

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
    assert latency(range(1, 101)) == "p50 51, p95 96 ms  last 100"
    assert latency([]) == "-"


def test_another_judge_begins_anew(home: Workspace) -> None:
    """Whatever was known of one says nothing of another."""
    judging = Judging(Jobs(home), JudgeConfig(url="http://127.0.0.1:9"))
    judging.look()
    judging.took_ms.append(5.0)
    assert judging.health is not None
    judging.set("002-judge", "", 2.0)
    assert (judging.name, judging.health, list(judging.took_ms)) == ("002-judge", None, [])


def test_what_was_begun_with_one_judge_goes_on_with_it(home: Workspace, tiny_run: Trained) -> None:
    """The judge is opened, and asked, after another was named; its times are not the other's."""
    judging, heard = Judging(Jobs(home), JudgeConfig()), hiss(2, 0)
    run = home.find("1")
    judging.set("002-judge", "", 2.0)
    first, _ = judging.listens(run)
    with served(LocalJudge.of(tiny_run.run.best, 0.123)) as server:
        judging.set(server.url, "", 2.0)
        second, _ = judging.listens(run)
        with first() as one, second() as other:
            assert one.verify(heard).threshold == load(tiny_run.run.best).threshold().threshold
            assert not judging.took_ms
            assert other.verify(heard).threshold == 0.123
            assert len(judging.took_ms) == 1


def test_live_listens_without_a_judge_after_it_was_verified_with_one(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        listener = app.desk.listener
        await pilot.press("7")
        await name_judge(app, pilot, "002-judge")
        await pilot.press("v")
        await see(app, pilot, "heard live: sentry, judge", within_s=120)
        assert listener.hearing is not None
        assert all(fired.judged is not None for fired in listener.hearing.fired)
        before = listener.hearing
        await pilot.press("6", "s")
        await until(pilot, lambda: over(listener.hearing, before))
        assert listener.hearing.fired
        assert all(fired.judged is None for fired in listener.hearing.fired)
        await pilot.press("7")
        await pilot.pause(0.5)
        await see(app, pilot, "heard live: sentry, judge")
        heard = app.screen.query_one("#heard", Menu).text
        assert heard
        assert "asked …" not in heard, "nobody asks about what Live hears alone"

    play(home, story, config=Config(audio=f"fast:{home.root.parent / 'radio.wav'}"))


def over(hearing: Hearing | None, before: Hearing) -> bool:
    """Whether another session than the one before is through."""
    return hearing is not None and hearing is not before and hearing.ended


def test_one_look_at_a_time_is_under_way_and_soon_given_up(home: Workspace) -> None:
    """A judge that says nothing: seven looks ask once, and the eighth is the next one."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        judging = Judging(Jobs(home), JudgeConfig(url=url, timeout_s=60))
        looking = threading.Thread(target=judging.look)
        began_s = time.monotonic()
        looking.start()
        time.sleep(0.5)
        for _ in range(6):
            judging.look()
        assert time.monotonic() - began_s < 2
        assert judging.health is None
        looking.join(10)
        assert 3 < time.monotonic() - began_s < 8
        assert "no answer within 4 s" in str(judging.health)


@pytest.mark.parametrize("on_failure", ["accept", "reject"])
def test_where_the_judge_fails_live_the_policy_is_shown(
    home: Workspace, on_failure: OnFailure
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("7", "v")
        await see(app, pilot, "heard live: sentry, judge", within_s=120)
        await see(app, pilot, f"{on_failure}ed unheard: no judge at")
        hearing = app.desk.listener.hearing
        assert hearing is not None
        judged = [fired.judged for fired in hearing.fired if fired.judged is not None]
        assert {one.accepted for one in judged} == {on_failure == "accept"}
        await pilot.press("6")
        await see(app, pilot, f"{'✓' if on_failure == 'accept' else '✗'} unheard")

    judge = JudgeConfig(url="http://127.0.0.1:9", on_failure=on_failure)
    audio = f"fast:{home.root.parent / 'radio.wav'}"
    play(home, story, LARGE, config=Config(audio=audio, judge=judge))


def test_a_recording_is_verified_to_its_end_by_a_judge_that_refuses(
    home: Workspace, tiny_run: Trained
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("7", "o")
        await see(app, pilot, "verify a recording")
        await pilot.press("down", "enter")
        await see(app, pilot, "0 accepted by the judge", "set judge.token_file")
        await see(app, pilot, "accepted unheard: the judge at")
        found = app.desk.judging.verified
        assert len(found) > 1
        assert all(one.decision.accepted and one.verdict is None for one in found)

    with served(LocalJudge.of(tiny_run.run.best), TOKEN) as server:
        judge = JudgeConfig(url=server.url, on_failure="accept")
        play(home, story, LARGE, config=Config(judge=judge))


@SIZES
def test_what_was_chosen_together_holds_where_both_verify(
    home: Workspace, size: tuple[int, int]
) -> None:
    """A pair of this sentry and this judge; with another judge each has its own threshold."""
    pair = Pair(0.25, 0.875, 1.0)
    which = "at pair 0.250, 0.875" if size == LARGE else "at pair"

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        judging = app.desk.judging
        await pilot.press("7")
        await name_judge(app, pilot, "002-judge")
        judging.tested = replace(a_cascade(), pairs=(pair,))
        judging.pair = "001-tiny, then 002-judge"
        await pilot.press("d")
        await see(app, pilot, "the sentry")
        await pilot.press("end", "enter", "o")
        await see(app, pilot, "verify a recording")
        await pilot.press("down", "enter")
        await see(app, pilot, f"radio.wav: sentry, judge {which}")
        await until(pilot, lambda: judging.asking is None)
        assert {one.verdict.threshold for one in judging.verified if one.verdict} == {0.875}
        assert all(one.score >= 0.25 for one in judging.verified)
        await pilot.press("v")
        await see(app, pilot, f"heard live: sentry, judge {which}", within_s=120)
        hearing = app.desk.listener.hearing
        assert hearing is not None
        assert hearing.began is not None
        assert hearing.began.threshold == 0.25
        assert {one.judged.threshold for one in hearing.fired if one.judged} == {0.875}
        judging.pair = "001-tiny, then another"
        await pilot.press("v")
        await see(app, pilot, "heard live: sentry, judge at own", within_s=120)

    play(home, story, size, config=Config(audio=f"fast:{home.root.parent / 'radio.wav'}"))
