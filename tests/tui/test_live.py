"""Live: a real detector hears a real recording, and what a person keeps of it gets to Review."""

import shutil
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from test_listen import SOUND, word
from textual.pilot import Pilot
from tiny import Trained

from engine import audio, laptop
from engine.checkpoint import load
from engine.events import WakewordHeard, WakewordJudged
from engine.judge import Asked, Verdict
from engine.queue_store import QueueItem, QueueStore
from engine.recent import MISSED
from engine.runs import Run, Workspace
from tests.tui.play import LARGE, SMALL, play, same_as_file, screen, see, until
from wakeword_tui.app import WakewordApp
from wakeword_tui.config import Config
from wakeword_tui.listening import Fired, Hearing
from wakeword_tui.screens.live import fired_line, level_line, verdict
from wakeword_tui.widgets.menu import Menu
from wakeword_tui.widgets.topbar import TopBar

SCREENS = Path(__file__).parent / "screens"
SIZES = pytest.mark.parametrize("size", [SMALL, LARGE])
Size = tuple[int, int]


@pytest.fixture
def talk(tmp_path: Path) -> Config:
    """A word after 2 s, then the others: some twenty seconds of sound."""
    audio.write(tmp_path / "talk.wav", SOUND)
    return Config(audio=str(tmp_path / "talk.wav"))


@pytest.fixture
def queue(trained: Workspace) -> Iterator[QueueStore]:
    store = QueueStore(trained.queue)
    yield store
    store.close()


def told_threshold(workspace: Workspace) -> str:
    """How the screens name the threshold of the only run."""
    return f"threshold {load(workspace.find('1').best).threshold().threshold:.3f}"


async def heard(app: WakewordApp, pilot: "Pilot[int]", times: int = 1) -> Hearing:
    """Begin to listen, and wait until it has fired so often."""
    await pilot.press("6")
    await see(app, pilot, "s starts to listen")
    await pilot.press("s")
    await see(app, pilot, "listening for beep")
    hearing = app.desk.listener.hearing
    assert hearing is not None
    await until(pilot, lambda: len(fired_rows(app)) >= times)
    return hearing


async def whole_session(app: WakewordApp, pilot: "Pilot[int]") -> None:
    """Listen to a recording to its end, which may come before anybody looks."""
    listener, before = app.desk.listener, app.desk.listener.hearing
    await pilot.press("s")
    await until(pilot, lambda: listener.hearing is not before and listener.job is None)


def fired_rows(app: WakewordApp) -> list[str]:
    return app.screen.query_one("#fired", Menu).text.splitlines()


async def kept(queue: QueueStore, pilot: "Pilot[int]") -> QueueItem:
    """Wait until an item is in the queue, and give it."""
    await until(pilot, lambda: queue.ids())
    (item,) = queue.items(queue.ids())
    return item


@SIZES
def test_an_empty_screen_says_what_to_press(trained: Workspace, size: Size) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("6")
        await see(app, pilot, "Nobody listens.", "s  start to listen", "6 Live", "q Quit")
        await same_as_file(pilot, SCREENS / f"live-empty-{size[0]}x{size[1]}.txt")

    play(trained, story, size)


def test_without_a_detector_it_says_to_train_one(tmp_path: Path, trained: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("6")
        await see(app, pilot, "There is no detector yet.", "2  go to Train")
        await pilot.press("s")
        await see(app, pilot, "there is no detector to listen with")
        await pilot.press("d")
        await see(app, pilot, "no run has a checkpoint yet")

    play(Workspace(tmp_path / "nothing"), story)


@SIZES
def test_s_listens_and_stops(trained: Workspace, talk: Config, size: Size) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await heard(app, pilot)
        await see(
            app, pilot, "rms ", "peak ", told_threshold(trained), "◆ fired", "● live", "nothing"
        )
        await see(app, pilot, "sound, last 10 s")
        await pilot.press("s")
        await see(app, pilot, "listened: ", " in ", "s starts to listen")
        assert "● live" not in screen(app)
        await pilot.press("9")
        await see(app, pilot, "heard at")

    play(trained, story, size, config=talk)


def test_it_goes_on_behind_another_screen_and_ends_with_the_recording(
    trained: Workspace, tmp_path: Path
) -> None:
    audio.write(tmp_path / "short.wav", SOUND[: 16000 * 5])

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        hearing = await heard(app, pilot)
        await pilot.press("1")
        await until(pilot, lambda: hearing.ended, within_s=20)
        assert hearing.over is not None
        assert (hearing.over.seconds, hearing.over.dropped) == (5.0, 0)

    play(trained, story, config=Config(audio=str(tmp_path / "short.wav")))


@SIZES
def test_f_takes_a_false_alarm_to_review_with_its_sound(
    trained: Workspace, talk: Config, queue: QueueStore, size: Size
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await heard(app, pilot, times=2)  # the first is held on to, and not followed any more
        await pilot.press("G", "f")
        await see(app, pilot, "1 false", "false alarm queued")
        await pilot.press("G", "f")
        await see(app, pilot, "queued already")
        item = await kept(queue, pilot)
        assert (item.find.found_by, item.decision, item.note) == ("live", "pending", "")
        await pilot.press("s", "5")
        await see(app, pilot, "by listening", told_threshold(trained), "◆ fired", "vol 100 %")

    play(trained, story, size, config=talk)
    (item,) = queue.items(queue.ids())
    find = item.find
    assert find.group == f"user:{find.content}"
    assert find.threshold < find.score
    assert find.start_s < find.time_s < find.end_s
    sound = audio.stretch(find.path, find.start_s, find.end_s)
    beep = word(0)[: 16000 * 8 // 10]
    assert np.abs(np.correlate(sound, beep, "valid")).max() > 0.9 * np.dot(beep, beep)


@SIZES
def test_m_takes_the_last_three_seconds_to_review_as_a_miss(
    trained: Workspace, talk: Config, queue: QueueStore, size: Size
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        hearing = await heard(app, pilot)
        await until(pilot, lambda: hearing.recent.heard_s > 4)
        await pilot.press("m")
        await see(app, pilot, "the last 3 s queued")
        hearing.missed_s = hearing.recent.heard_s  # a second press, at once
        await pilot.press("m")
        await see(app, pilot, "queued already")
        await pilot.press("s", "5")
        await see(app, pilot, "by listening", f"note {MISSED}", "vol 100 %")
        await pilot.press("w")
        await until(pilot, lambda: queue.counts()["wakeword"])

    play(trained, story, size, config=talk)
    (item,) = queue.decided("wakeword")
    assert (item.find.found_by, item.note) == ("live", MISSED)
    assert item.find.end_s - item.find.start_s == pytest.approx(3.0)


def test_nothing_is_kept_that_was_not_asked_for(trained: Workspace, talk: Config) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await heard(app, pilot)
        await pilot.press("s")
        await see(app, pilot, "listened:")

    play(trained, story, config=talk)
    assert sorted(path.name for path in trained.root.iterdir()) == ["runs"]


@SIZES
def test_a_recording_shorter_than_a_window_is_said_to_be_too_short_and_was_not_missed(
    trained: Workspace, tmp_path: Path, queue: QueueStore, size: Size
) -> None:
    audio.write(tmp_path / "word.wav", SOUND[: 16000 * 8 // 10])
    short = "too short to be scored: 0.80 s were heard, 1.50 s are needed"

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("6", "s")
        await see(app, pilot, f"! {short}")
        await pilot.press("m")
        await see(app, pilot, "what was never scored was not missed")
        assert not queue.ids()
        await pilot.press("9")
        await see(app, pilot, "! listen  too short to be scored")

    play(trained, story, size, config=Config(audio=str(tmp_path / "word.wav")))


@SIZES
def test_while_mic_pipe_is_waited_for_its_command_is_told_whole_and_copied(
    trained: Workspace, size: Size
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("6", "s")
        await see(app, pilot, "waiting for mic-pipe", "y copies the command")
        panel = app.screen.query_one("#input").region
        lines = screen(app).splitlines()[panel.y + 1 : panel.bottom - 1]
        told = "".join(line.strip("│") for line in lines).replace(" ", "")
        assert laptop.command("mic").replace(" ", "") in told  # long paths break anywhere
        await pilot.press("y")
        assert app.clipboard == laptop.command("mic")
        await pilot.press("m")
        await see(app, pilot, "▌ nothing was heard yet", "▌ on the laptop: arecord")

    play(trained, story, size, config=Config(audio="pipe"))


def test_before_anything_is_heard_there_is_nothing_to_keep(trained: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("6", "f")
        await see(app, pilot, "nothing has fired yet")
        await pilot.press("m")
        await see(app, pilot, "nothing was heard yet")

    play(trained, story)


def test_the_log_keeps_every_session(trained: Workspace, tmp_path: Path) -> None:
    audio.write(tmp_path / "word.wav", SOUND[:8000])

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("6")
        await see(app, pilot, "Nobody listens.")
        for _ in range(2):
            await whole_session(app, pilot)
        await pilot.press("9")
        await until(pilot, lambda: screen(app).count("listen  done after") == 2)

    play(trained, story, LARGE, config=Config(audio=str(tmp_path / "word.wav")))


def test_the_top_bar_goes_on_behind_a_question(trained: Workspace, tmp_path: Path) -> None:
    audio.write(tmp_path / "long.wav", np.tile(SOUND, 8))

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        hearing = await heard(app, pilot, times=0)
        await pilot.press("o")
        await see(app, pilot, "what is heard")
        bar = app.screen_stack[0].query_one(TopBar)
        await until(pilot, lambda: "● live" in bar.render().plain)
        hearing.job.control.pause()
        await until(pilot, lambda: "● paus" in bar.render().plain)
        hearing.job.control.stop()
        await until(pilot, lambda: "●" not in bar.render().plain)

    play(trained, story, config=Config(audio=str(tmp_path / "long.wav")))


@SIZES
def test_o_chooses_the_sound(trained: Workspace, talk: Config, size: Size) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("6")
        await see(app, pilot, "Nobody listens.")
        await pilot.press("o")
        await see(app, pilot, "what is heard", "auto, microphone,", "none, or a recording")
        await pilot.press(*["backspace"] * 4, *"nome", "enter")
        await see(app, pilot, "✗ nome: there is no such recording")
        await pilot.press("backspace", "backspace", *"ne", "enter")
        await see(app, pilot, "input  none")
        await pilot.press("s")
        await see(app, pilot, "✗ no sound was asked for")

    play(trained, story, size)


def test_d_chooses_the_detector_and_takes_hold_at_the_next_start(
    trained: Workspace, talk: Config, tiny_run: Trained
) -> None:
    shutil.copytree(tiny_run.run.path, trained.root / "runs" / "002-other")

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        assert (await heard(app, pilot)).model == "002-other"
        await pilot.press("d")
        await see(app, pilot, "listen with")
        await pilot.press("j", "enter")
        await see(app, pilot, "from the next start on")
        await pilot.press("s")
        await see(app, pilot, "listened:")
        await pilot.press("s")
        await see(app, pilot, "listening for beep")
        assert app.desk.listener.hearing is not None
        assert app.desk.listener.hearing.model == "001-tiny"

    play(trained, story, config=talk)


def test_the_cursor_follows_the_newest_until_it_is_moved(trained: Workspace, talk: Config) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await heard(app, pilot, times=2)
        menu = app.screen.query_one("#fired", Menu)
        assert menu.highlighted == 0
        await pilot.press("j")
        below, before = menu.current, len(fired_rows(app))
        await until(pilot, lambda: len(fired_rows(app)) > before, within_s=20)
        assert menu.current == below
        assert menu.highlighted
        await pilot.press("g")
        before = len(fired_rows(app))
        await until(pilot, lambda: len(fired_rows(app)) > before, within_s=20)
        assert menu.highlighted == 0

    play(trained, story, config=talk)


class Counted(Workspace):
    """A workspace that counts how often its runs are listed."""

    looked = 0

    def runs(self) -> list[Run]:
        """All runs."""
        self.looked += 1
        return super().runs()


def test_runs_are_not_listed_at_every_paint(trained: Workspace) -> None:
    """It is painted five times a second."""
    counted = Counted(trained.root)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("6")
        await see(app, pilot, "Nobody listens.", "001-tiny")
        before = counted.looked
        await pilot.pause(2.0)
        assert counted.looked - before <= 3

    play(counted, story)


def test_n_opens_the_recording(trained: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("6", "n")
        await see(app, pilot, "record your own clips")
        await pilot.press("escape")
        await see(app, pilot, "Nobody listens.")

    play(trained, story)


@pytest.mark.parametrize("size", [(59, 20), (50, 14), (40, 10)])
def test_where_there_is_no_room_one_panel_is_shown(
    trained: Workspace, talk: Config, size: Size
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("6", "s")
        await until(pilot, lambda: not app.screen.has_class("-empty"))
        shown = set()
        for _ in range(6):
            await pilot.press("tab")
            await pilot.pause()
            shown.add(app.screen.maximized.id if app.screen.maximized else "")
        assert {"input", "scores", "fired", "session"} <= shown

    play(trained, story, size, config=talk)


def test_a_judge_is_heard(trained: Workspace, talk: Config) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        said = Verdict(accepted=False, score=0.12, threshold=0.5, model="conformer", took_ms=3.0)
        await pilot.press("6")
        app.desk.listener.start(lambda: nullcontext(Asked(lambda sound: said)))
        await see(app, pilot, "0.12")

    play(trained, story, LARGE, config=talk)


def test_a_lost_source_says_what_to_do(trained: Workspace, silent: None, tmp_path: Path) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("6", "s")
        await see(app, pilot, "PortAudio is not installed", "apt-get install")

    play(trained, story, LARGE, config=Config(audio="microphone"))


# What is shown, without the app.


def test_the_level_stands_as_a_bar_with_the_peak_in_it() -> None:
    """35 cells: 12 and 13 for the numbers, 10 for the bar; -30 dB is half of it, -6 dB 90 %."""
    assert level_line(-30.0, -6.0, 35).plain == "rms  -30 dB █████━━━▌━ peak   -6 dB"


def test_a_verdict_is_the_persons_then_the_judges() -> None:
    fired = Fired(0.0, WakewordHeard(2.0, 0.9, 30.0))
    assert verdict(fired) == (("·", "$dim"), "")
    fired.judged = WakewordJudged(2.0, accepted=True, score=0.97)
    assert verdict(fired) == (("✓", "$success"), "0.97")
    fired.judged = WakewordJudged(2.0, error="gone")
    assert verdict(fired) == (("!", "$warning"), "✗ unheard")
    fired.judged = WakewordJudged(2.0, accepted=True, error="gone")
    assert verdict(fired) == (("!", "$warning"), "✓ unheard")
    fired.kept = True
    assert verdict(fired) == (("✗", "$error"), "false")


def test_a_delay_says_what_it_counts_from() -> None:
    clock = time.strftime("%H:%M:%S", time.localtime(0))
    line = fired_line(Fired(0.0, WakewordHeard(2.0, 0.9, 30.0, 512.0)), 42)
    assert line.plain == f"· {clock} 0.900   512 ms after word "
    line = fired_line(Fired(0.0, WakewordHeard(2.0, 0.9, 30.0)), 42)
    assert line.plain == f"· {clock} 0.900    30 ms after sound "
    line = fired_line(Fired(0.0, WakewordHeard(2.0, 0.9, 30.0)), 24)
    assert line.plain == f"· {clock} 0.900 "
