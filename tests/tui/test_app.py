"""Keys that work everywhere, the palette, the help, the config, and what is not imported."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest
from textual.binding import Binding
from textual.events import Key
from textual.pilot import Pilot
from textual.widget import Widget

from engine.runs import Workspace
from tests.tui import keys
from tests.tui.play import LARGE, gone, play, screen, see, start, until
from tests.tui.scripted import training
from wakeword_tui.app import WakewordApp, scopes
from wakeword_tui.config import Config, clashes, read_config
from wakeword_tui.screens import dialogs
from wakeword_tui.screens.page import TABS
from wakeword_tui.widgets.form import Editor
from wakeword_tui.widgets.keys import Keys

ROOT = Path(__file__).parents[2]


def test_importing_the_app_imports_no_torch_and_no_scipy() -> None:
    code = (
        "import sys, wakeword_tui.app; sys.exit({'torch', 'scipy', 'numpy'} & {*sys.modules} or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_study_nobody_waits_for_optuna(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from engine.runs import Workspace; "
        "from wakeword_tui.searching import studies; "
        f"print(studies(Workspace(Path({str(tmp_path)!r}))), 'optuna' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[] False\n", "")


def test_opening_review_waits_for_no_scipy() -> None:
    review = "wakeword_tui.screens.review"
    code = f"import sys, {review}; sys.exit({{'torch', 'scipy'}} & {{*sys.modules}} or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_ticker_outlives_a_moment_without_a_screen(workspace: Workspace) -> None:
    """When a mode is first shown there is none until it is mounted."""

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        stack = app._screen_stacks[app.current_mode]
        kept = stack.copy()
        stack.clear()
        app._paint()
        stack.extend(kept)

    play(workspace, story)


def test_digits_and_brackets_change_screens(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        modes = [title.lower() for _, title in TABS]
        for digit, mode in [*zip("123456789", modes, strict=True), ("1", "setup")]:
            await pilot.press(digit)
            assert app.current_mode == mode
        await pilot.press("left_square_bracket")
        assert app.current_mode == "log"
        await pilot.press("right_square_bracket")
        assert app.current_mode == "setup"

    play(workspace, story)


def test_help_shows_the_keys_of_this_screen(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("2", "question_mark")
        await see(app, pilot, "keys", "Start/stop", "Resume", "Screenshot", "Quit")
        assert "False wakes" not in screen(app)
        await pilot.press("escape")
        await gone(app, pilot, "Screenshot")

    play(workspace, story, LARGE)


def test_the_palette_has_every_key_and_every_run(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+p")
        await pilot.pause(0.3)
        await pilot.press(*"open run 001")
        await see(app, pilot, "Open run 001-alexa")
        await pilot.press("down", "enter")
        await see(app, pilot, "run 001-alexa", "2 000/2 000")

    play(workspace, story)


def test_t_takes_the_next_theme(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        seen = {app.theme}
        for _ in range(2):
            await pilot.press("T")
            seen.add(app.theme)
        assert seen == {"wakeword-dark", "wakeword-light", "wakeword-ansi"}

    play(workspace, story)


def test_f8_saves_a_picture(workspace: Workspace, tmp_path: Path) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("f8")
        await pilot.pause()

    play(workspace, story)
    assert "<svg" in next(tmp_path.glob("wakeword-*.svg")).read_text()


def test_a_picture_that_cannot_be_saved_is_a_message(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(app: WakewordApp, name: str) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(WakewordApp, "save_screenshot", full)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("f8")
        await see(app, pilot, "cannot write", "on device")

    play(workspace, story)


def test_y_copies_what_the_screen_is_about(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("y")
        assert "[train]" in app.clipboard
        await pilot.press("8", "y")
        assert "threshold" in app.clipboard
        await pilot.press("2", "j", "enter", "y")
        await see(app, pilot, "001-alexa")
        assert "2.1 %" in app.clipboard

    play(workspace, story)


def test_q_quits_at_once_without_a_job(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("q")
        await pilot.pause()

    assert play(workspace, story).return_code == 0


def test_q_with_a_job_that_ends_while_the_question_is_open(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        live = start(app, pause_s=0.005)
        await see(app, pilot, "● train")
        await pilot.press("q")
        await see(app, pilot, "a job is running")
        live.job.control.stop()
        live.job.thread.join()
        await pilot.pause(0.3)
        assert app.desk.live is None
        await pilot.press("s")
        await pilot.pause()

    assert play(workspace, story).return_code == 0


def test_q_with_unsaved_edits_asks(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        app.desk.draft.set("data.wakeword", "alexa")
        await pilot.press("q")
        await see(app, pilot, "the recipe has unsaved edits")
        await pilot.press("c", "q")
        await see(app, pilot, "the recipe has unsaved edits")
        await pilot.press("d")
        await pilot.pause()

    assert play(workspace, story).return_code == 0


def test_q_with_a_job_asks_and_can_be_taken_back(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        start(app, steps=10**9, pause_s=0.005)
        await see(app, pilot, "● train")
        await pilot.press("q")
        await see(app, pilot, "a job is running", "keep running without the window")
        await pilot.press("c")
        await gone(app, pilot, "a job is running")
        assert app.desk.training() is not None

    play(workspace, story)


@pytest.mark.parametrize(
    ("names", "fate"),
    [
        (["mine"], "the recording goes on next time"),
        (["export"], "it begins anew"),
        (["export", "mine"], "all but mining begins anew"),
    ],
)
def test_q_asks_before_it_ends_what_is_done_in_the_background(
    workspace: Workspace, names: list[str], fate: str
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        for name in names:
            app.desk.jobs.start(name, training(steps=10**9, pause_s=0.01), lane="background")
        await pilot.press("q")
        await see(app, pilot, f"under way: {', '.join(names)}", fate)
        await pilot.press("c")
        await gone(app, pilot, "under way")
        assert app.return_code is None
        await pilot.press("q")
        await see(app, pilot, "under way")
        await pilot.press("s")
        await pilot.pause()

    assert play(workspace, story).return_code == 0


def test_what_would_never_end_is_left_without_a_question(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        listening = training(steps=10**9, pause_s=0.01)
        app.desk.jobs.start("listen", listening, lane="background").endless = True
        await pilot.press("q")
        await pilot.pause()

    assert play(workspace, story).return_code == 0


def test_the_log_follows_and_filters(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        start(app, steps=300)
        await pilot.press("9")
        await see(app, pilot, "! ", "skipped noise/caf", "done after")
        await pilot.press("slash", *"epoch 2")
        await gone(app, pilot, "skipped")
        await see(app, pilot, "epoch 2 missed")
        assert screen(app).splitlines()[-2].lstrip().startswith("epoch 2")
        await pilot.press("enter", "escape")
        await see(app, pilot, "skipped noise/caf")

    play(workspace, story)


def test_every_binding_has_a_name_of_its_own() -> None:
    own = [dialogs.Choice, dialogs.Ask, dialogs.PickFile, dialogs.Help, Editor]
    bindings = [binding for scope in scopes().values() for binding in scope]
    bindings += [b for kind in own for b in kind.BINDINGS if isinstance(b, Binding)]
    assert all(binding.id for binding in bindings)
    actions: dict[str | None, set[str]] = {}
    for binding in bindings:
        actions.setdefault(binding.id, set()).add(binding.action)
    assert all(len(found) == 1 for found in actions.values())


def test_the_page_of_keys_is_that_of_the_bindings() -> None:
    assert (ROOT / "docs" / "keys.md").read_text(encoding="utf-8") == keys.page()


def test_the_shipped_keys_do_not_clash() -> None:
    for name, bindings in scopes().items():
        keys = [key for binding in bindings for key in binding.key.split(",")]
        assert len(keys) == len(set(keys)), name


def test_a_key_can_be_changed(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("L")
        assert app.current_mode == "log"

    play(workspace, story, config=Config(keys={"app.log": "L"}))


def test_clashes_are_told_at_the_start(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("9")
        await see(app, pilot, "[keys] p is both")

    play(workspace, story, config=Config(keys={"app.log": "p"}))


def test_clashes_name_both_and_unknown_names() -> None:
    bindings = [Binding("a", "one", id="x.one"), Binding("b", "two", id="x.two")]
    assert clashes({"x.one": "b", "x.six": "c"}, {"x": bindings}) == [
        "[keys] x.six: there is no such binding",
        "[keys] b is both x.one and x.two in x",
    ]
    assert clashes({"x.one": "b", "x.two": "a"}, {"x": bindings}) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("theme = 3", "theme must be a name"),
        ("audio = true", "audio must be a name"),
        ("[keys]\nq = 3", "[keys] must map"),
        ("colour = 'red'", "no such key 'colour'"),
        ("theme = ", "Invalid value"),
    ],
)
def test_a_wrong_config_is_told_and_left_out(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    config = read_config(path)
    assert problem in config.problems[0]
    assert (config.theme, config.audio, config.keys) == ("", "", {})


def test_an_app_can_open_on_an_old_run(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await see(app, pilot, "run 001-alexa", "2 000/2 000")

    play(workspace, story, run=workspace.find("1"))


def test_events_that_cannot_be_read_are_told(workspace: Workspace) -> None:
    run = workspace.find("1")
    run.events.unlink()
    run.events.mkdir()

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await see(app, pilot, "No training yet.")
        await pilot.press("j", "enter")
        await until(pilot, lambda: len(app.desk.notes) == 2)
        assert all("events.jsonl: Is a directory" in note.text for note in app.desk.notes)

    play(workspace, story, run=run)


def test_of_two_answers_at_once_the_first_holds(workspace: Workspace) -> None:
    """Where the app is behind, a dialog gets the next key too, and there may be a dialog below."""

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        answers: list[str | None] = []
        for question in ("below", "above"):
            choice = dialogs.Choice(question, [("y", "yes"), ("n", "no")])
            app.push_screen(choice, answers.append)
        await see(app, pilot, "above")
        for key in "yn":
            choice.post_message(Key(key, key))
        await pilot.pause()
        await see(app, pilot, "below")
        assert answers == ["y"]

    play(workspace, story)


def test_a_change_of_screen_leaves_no_widget_behind(workspace: Workspace) -> None:
    """Nor any for the collector, which with torch in memory comes by once in many minutes."""

    def kept() -> int:
        return sum(isinstance(each, Widget) for each in gc.get_objects())

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press(*"12345678912")
        gc.collect()
        gc.disable()
        before = kept()
        await pilot.press(*"12345678912")
        assert kept() == before

    try:
        play(workspace, story)
    finally:
        gc.enable()


def test_a_key_of_the_last_line_can_be_clicked(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await see(app, pilot, "? Help")
        line = app.screen.query_one(Keys)
        at = screen(app).splitlines()[line.region.y].index("Help")
        await pilot.click(offset=(at, line.region.y))
        await see(app, pilot, "Previous", "esc closes")

    play(workspace, story)
