"""Record: prompts over a recording of words that is heard in real time, key by key."""

import threading
from pathlib import Path

import pytest
from spoken import words_at
from textual.pilot import Pilot
from textual.widgets import Input
from tiny import hiss

from engine import audio
from engine.manifest import Clip, read_manifest
from engine.recipe import Data
from engine.runs import Workspace
from engine.source import Silence, SourceHealth
from tests.tui.play import LARGE, SMALL, Story, gone, play, same_as_file, screen, see, until
from wakeword_tui.app import WakewordApp
from wakeword_tui.config import Config
from wakeword_tui.prompted import large, waiting_line
from wakeword_tui.recording import proposed
from wakeword_tui.screens.record import RecordScreen, answered, asked, wrong

SCREENS = Path(__file__).parent / "screens"
SIZES = pytest.mark.parametrize("size", [SMALL, LARGE])


@pytest.fixture
def words(tmp_path: Path) -> str:
    """Half a minute of a quiet room with a word every 2 s."""
    return str(words_at(tmp_path / "words.wav", [1.0 + 2 * n for n in range(30)], 62))


@pytest.fixture
def room(tmp_path: Path) -> str:
    """A quiet room in which nobody speaks."""
    audio.write(tmp_path / "room.wav", hiss(60, 3, 0.001))
    return str(tmp_path / "room.wav")


def recording(
    workspace: Workspace, sound: str, story: Story, size: tuple[int, int] = SMALL, others: str = "1"
) -> None:
    """Open Record over Setup as anna, for two wake words, and let a story happen."""

    async def begin(app: WakewordApp, pilot: Pilot[int]) -> None:
        app.desk.draft.set("data.wakeword", "hey-nora")
        app.desk.draft.set("data.manifest", "clips")
        await pilot.press("ctrl+p")
        await pilot.press(*"record your own", "enter")
        await see(app, pilot, "record your own clips", "who speaks?")
        await pilot.press(*"anna", "down", "down", "down", "down")
        await pilot.press("backspace", "backspace", "2", "down", "backspace", "backspace", others)
        await pilot.press("enter")
        await see(app, pilot, "h e y   n o r a", "wake word 1 of 2", "anna")
        await story(app, pilot)

    play(workspace, begin, size, config=Config(audio=sound))


def booth_of(app: WakewordApp) -> RecordScreen:
    found = next(s for s in app.screen_stack if isinstance(s, RecordScreen))
    assert isinstance(found, RecordScreen)
    return found


async def say(app: WakewordApp, pilot: Pilot[int], key: str = "enter") -> None:
    """Begin a take just after a word, so that the next one is whole, and wait until it is heard."""
    booth = booth_of(app).booth
    assert booth is not None
    recorder = booth.recorder
    assert recorder is not None
    await until(pilot, lambda: recorder.level_db > -35)
    await until(pilot, lambda: recorder.level_db < -40)
    await pilot.press(key)
    await see(app, pilot, "● recording")
    await until(pilot, lambda: booth.stage == "heard")
    await see(app, pilot, "✓ good", "enter  keep")


def kept(name: str = "clips") -> list[Clip]:
    return read_manifest(Path(name) / "manifest.csv")


@SIZES
def test_a_take_ends_by_itself_is_played_and_kept(
    workspace: Workspace, silent: None, words: str, size: tuple[int, int]
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await say(app, pilot)
        assert not Path("clips/manifest.csv").exists()
        await pilot.press("p")
        await see(app, pilot, "┃")
        await pilot.press("p")
        await gone(app, pilot, "┃")
        await pilot.press("enter")
        await see(
            app, pilot, "kept as hey-nora-0001.flac", "wake words 1, negatives 0", "negative 1"
        )
        (clip,) = kept()
        assert (clip.label, clip.group) == ("hey-nora", "anna")
        await say(app, pilot)
        await pilot.press("k")
        await see(app, pilot, "wake words 1, negatives 1", "wake word 2 of 2", "across the room")
        await say(app, pilot)
        await pilot.press("enter")
        await see(app, pilot, "✓ that was all", "wakeword-tui data check clips --wakeword hey-nora")
        await pilot.press("enter", "k", "r", "s", "w", "escape")
        await see(app, pilot, "recipe")

    recording(workspace, words, story, size)
    assert [clip.label for clip in kept()] == ["hey-nora", "partial-hey", "hey-nora"]
    assert all(clip.path.exists() for clip in kept())


@SIZES
def test_r_says_it_again_and_escape_gives_it_up(
    workspace: Workspace, silent: None, words: str, size: tuple[int, int]
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await say(app, pilot)
        first = booth_of(app)._shown
        await say(app, pilot, "r")
        assert booth_of(app)._shown is not first
        await pilot.press("r")
        await see(app, pilot, "● recording")
        await pilot.press("escape")
        await see(app, pilot, "enter  then say it", "wake word 1 of 2")
        await pilot.press("escape")
        await see(app, pilot, "recipe")

    recording(workspace, words, story, size)
    assert not Path("clips/manifest.csv").exists()


@SIZES
def test_s_leaves_a_prompt_out_and_w_turns_to_negatives(
    workspace: Workspace, silent: None, room: str, size: tuple[int, int]
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("w")
        await see(app, pilot, "negative 1 of 2, negatives alone", "not the wake word")
        await pilot.press("s")
        await see(app, pilot, "negative 2 of 2", "n o r a")
        await pilot.press("w")
        await see(app, pilot, "wake word 1 of 2")
        await pilot.press("s", "s", "s")
        await see(app, pilot, "✓ that was all", "wake words 0, negatives 0")

    recording(workspace, room, story, size, others="2")


@SIZES
def test_a_take_without_a_word_is_said_again_and_cannot_be_kept(
    workspace: Workspace, silent: None, room: str, size: tuple[int, int]
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("enter")
        await see(app, pilot, "● recording")
        await pilot.pause(0.5)
        await pilot.press("enter")
        await see(app, pilot, "✗ no word found", "enter  again")
        assert "keeps it all the same" not in screen(app)
        await pilot.press("k")
        await see(app, pilot, "there is no word in it")
        await pilot.press("enter")
        await see(app, pilot, "● recording")

    recording(workspace, room, story, size)
    assert not Path("clips/manifest.csv").exists()


def test_a_doubtful_take_is_kept_with_k(workspace: Workspace, silent: None, words: str) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        booth = booth_of(app).booth
        assert booth is not None
        recorder = booth.recorder
        assert recorder is not None
        await until(pilot, lambda: recorder.level_db < -40)
        await pilot.press("enter")
        await until(pilot, lambda: recorder.level_db > -35)
        await pilot.pause(0.25)
        await pilot.press("enter")  # in the middle of the word
        await see(app, pilot, "✗ cut off", "k keeps it all the same")
        await pilot.press("k")
        await see(app, pilot, "kept as hey-nora-0001.flac")

    recording(workspace, words, story)
    assert len(kept()) == 1


def test_nothing_is_heard_behind_another_screen(
    workspace: Workspace, silent: None, room: str
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        page = booth_of(app)
        await pilot.press("enter")
        await see(app, pilot, "● recording")
        await pilot.press("question_mark")
        await see(app, pilot, "keys", "Record/keep")
        await pilot.press("escape")
        await see(app, pilot, "● recording")
        await pilot.press("9")
        await until(pilot, lambda: page._source is None)
        await pilot.press("1")
        await see(app, pilot, "enter  then say it")
        await until(pilot, lambda: page._source is not None)

    recording(workspace, room, story)


def test_live_stops_where_record_hears_again(trained: Workspace, silent: None, room: str) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        page, listener = booth_of(app), app.desk.listener
        await pilot.press("6")
        await see(app, pilot, "s starts to listen")
        await pilot.press("s")
        await see(app, pilot, "listening for beep")
        await pilot.press("1")
        await see(app, pilot, "listening has stopped, to record", "enter  then say it")
        await until(pilot, lambda: page._source is not None)
        assert listener.job is None

    recording(trained, room, story)


def test_who_goes_away_before_it_begins_is_not_heard(
    workspace: Workspace, silent: None, room: str
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        page = booth_of(app)
        booth, page.booth = page.booth, None
        page._hush()
        await pilot.press("9")
        assert booth is not None
        page.booth = booth
        page._listen(booth)
        await pilot.pause(0.3)
        assert page._source is None
        await pilot.press("1")
        await until(pilot, lambda: page._source is not None)

    recording(workspace, room, story)


def test_what_live_has_chosen_is_recorded(workspace: Workspace, silent: None, room: str) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await see(app, pilot, "no sound was asked for")
        await pilot.press("6")
        app.desk.listener.source = room
        await pilot.press("1")
        await see(app, pilot, "room.wav")

    recording(workspace, "none", story)


class Stuck(Silence):
    """A source that cannot be closed until it may."""

    def __init__(self) -> None:
        super().__init__("stuck")
        self.may, self.closed = threading.Event(), False

    def close(self) -> None:
        self.may.wait(5.0)
        self.closed = True


def test_a_device_that_hangs_holds_nothing_up(workspace: Workspace, silent: None) -> None:
    """And the next one is opened only once it is closed: two cannot have one pipe."""

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        page, stuck = booth_of(app), Stuck()
        page._source = stuck
        await pilot.press("9")
        await see(app, pilot, "log")
        assert not stuck.closed
        await pilot.press("1")
        await pilot.pause(0.3)
        assert page._source is None
        stuck.may.set()
        await until(pilot, lambda: page._source is not None)

    recording(workspace, "none", story)


@SIZES
def test_without_sound_it_says_so_and_works_on(
    workspace: Workspace, silent: None, size: tuple[int, int]
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await see(app, pilot, "no sound was asked for", "⏎ Record/keep")
        await same_as_file(pilot, SCREENS / f"record-{size[0]}x{size[1]}.txt")
        await pilot.press("enter")
        await pilot.pause(0.3)
        assert "● recording" not in screen(app)
        await pilot.press("s")
        await see(app, pilot, "negative 1 of 1")

    recording(workspace, "none", story, size)


def test_a_folder_that_cannot_be_used_is_asked_for_again(
    workspace: Workspace, silent: None, room: str
) -> None:
    Path("clips").mkdir()
    Path("clips/manifest.csv").write_text("path,label\n")

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        app.desk.draft.set("data.wakeword", "nora")
        app.action_record()
        await see(app, pilot, "record your own clips", "who speaks?")
        await pilot.press(*"anna", "down", "down", "down", *"clips", "enter")
        await see(app, pilot, "no column `group`", "anna")
        await pilot.press("escape")
        await see(app, pilot, "recipe")

    play(workspace, story, config=Config(audio=room))


def test_a_take_that_was_cut_off_by_a_kill_is_told(
    workspace: Workspace, silent: None, room: str
) -> None:
    place = Path("clips/recorded/anna")
    place.mkdir(parents=True)
    audio.write(place / "nora-0001.flac", hiss(1, 3))
    row = '{"path": "recorded/anna/nora-0001.flac", "label": "nora", "group": "anna"}'
    (place / ".nora-0001.manifest.csv.row").write_text(row)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await see(app, pilot, "negatives 0, 1 before, 1 saved from a kill")

    recording(workspace, room, story)


@pytest.mark.parametrize("opened", [False, True])
def test_the_form_begins_with_the_wake_word_and_the_folder_of_a_run(
    trained: Workspace, silent: None, *, opened: bool
) -> None:
    """Of the run that is open, or else of the newest; its data folder is `data`."""

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        if opened:
            app.open_run("001-tiny")
        await pilot.press("6", "n")
        await see(app, pilot, "record your own clips", "who speaks?")
        *_, phrase, label, folder = (line.value for line in list(app.screen.query(Input))[:4])
        assert (phrase, label) == ("beep", "beep")
        assert Path(folder).is_absolute()

    play(trained, story)


def test_what_is_typed_is_looked_over() -> None:
    lines = asked(proposed(Data(wakeword="hey-nora", manifest=Path("clips"))))
    texts = {line.name: line.text for line in lines} | {"speaker": "anna"}
    assert wrong(texts) == {}
    assert (answered(texts).phrase, answered(texts).label) == ("hey nora", "hey-nora")
    odd = texts | {"wake words": "many", "negatives": "-1", "only train": "perhaps", "folder": " "}
    assert set(wrong(odd)) == {"wake words", "negatives", "only train", "folder"}
    own = answered(texts | {"label": "", "phrase": "Hey, Nora!", "only train": "yes"})
    assert (own.label, own.train) == ("hey-nora", True)


def test_a_prompt_is_as_large_as_there_is_room() -> None:
    assert large("hey nora", 15) == "h e y   n o r a"
    assert large("hey nora", 14) == "hey nora"


def test_what_can_be_done_about_no_sound_stands_where_the_level_would() -> None:
    health = SourceHealth("lost", "no microphone", "ssh box wakeword-tui mic-pipe")
    assert waiting_line(health) == ("ssh box wakeword-tui mic-pipe", "$warning")
    assert waiting_line(SourceHealth("connecting", "opening")) == ("…", "$warning")
