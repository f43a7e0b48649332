import asyncio
import time
from pathlib import Path
from threading import Event

import pytest
from textual.events import AppBlur, AppFocus
from textual.pilot import Pilot

from engine.cost import Cost
from engine.errors import RecipeError
from engine.events import Emit
from engine.jobs import Control, Jobs, State
from engine.recipe import Range, Recipe
from engine.recipe_file import load, override
from engine.runs import Workspace
from tests.tui.play import LARGE, SMALL, gone, play, screen, see, until
from wakeword_tui import verbs
from wakeword_tui.amount import Amount, counted
from wakeword_tui.app import WakewordApp
from wakeword_tui.draft import Draft, limits
from wakeword_tui.screens.setup import FIRST_COST_AFTER_S, SetupScreen
from wakeword_tui.widgets.form import Editor


async def go_to(pilot: Pilot[int], section: str, downs: int) -> None:
    """Put the cursor on a field: sections on the left, then down in the form."""
    app = pilot.app
    app.screen.query_one("#sections").focus()
    app.screen.query_one("#sections").go_to(section)
    await pilot.press("enter", *["j"] * downs)
    await pilot.pause()


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_sections_fields_help_and_cost(workspace: Workspace, size: tuple[int, int]) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await see(app, pilot, "1 Setup", "manifest", "evaluate", "· still to be set: data.manifest")
        await see(app, pilot, "data.manifest", "A manifest.csv, or a folder")
        await see(app, pilot, "k parameters", "MACs")

    play(workspace, story, size)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_new_recipe_is_told_of_the_runs_there_are(
    workspace: Workspace, tmp_path: Path, size: tuple[int, int]
) -> None:
    told = "2 runs here, 1 finished: key 2 lists them, enter opens one"

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await see(app, pilot, "still to be set", told)
        await pilot.press("2", "enter")
        await see(app, pilot, "run 002-alexa")

    async def nothing(app: WakewordApp, pilot: Pilot[int]) -> None:
        await see(app, pilot, "still to be set")
        assert "lists them" not in screen(app)

    play(workspace, story, size)
    play(Workspace(tmp_path / "empty"), nothing, size)


def test_a_value_out_of_range_is_a_problem_while_it_is_typed(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "model", 3)
        await pilot.press("enter", "end", *["backspace"] * 3, *"1.4")
        await see(app, pilot, "✗ model", "✗ model.dropout: ", "less than or equal to 0.9")
        await pilot.press("enter", "s")
        await see(app, pilot, "the recipe has problems")
        assert app.desk.training() is None

    play(workspace, story)


def test_escape_leaves_a_field_as_it_was(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "data", 4)
        await pilot.press("enter", *"alexa")
        assert app.desk.draft.recipe.data.wakeword == "alexa"
        await pilot.press("escape")
        assert app.desk.draft.recipe.data.wakeword == ""
        await pilot.press("1")  # a key again, not a letter
        assert app.desk.draft.recipe.data.wakeword == ""

    play(workspace, story)


def test_a_choice_goes_on_with_enter_and_arrows(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "model", 0)
        await see(app, pilot, "◂ 1 of 5 ▸")
        await pilot.press("right")
        assert app.desk.draft.recipe.model.arch == "mobilenetv3"
        await pilot.press(*["enter"] * 4)
        assert app.desk.draft.recipe.model.arch == "tinyconv"
        await pilot.press("down", "down", "left")
        assert app.desk.draft.recipe.model.depthwise is False

    play(workspace, story)


def test_r_goes_back_to_the_file_then_to_the_default(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[model]\nwidth = 2.0\n")
    draft = Draft.open(path)
    draft.set("model.width", "3")
    draft.reset("model.width")
    assert draft.recipe.model.width == 2.0
    draft.reset("model.width")
    assert draft.recipe.model.width == 1.0


def test_ctrl_s_asks_for_a_name_and_saves(workspace: Workspace, tmp_path: Path) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "data", 4)
        await pilot.press("enter", *"alexa", "enter", "ctrl+s")
        await see(app, pilot, "save as", "wakeword.toml")
        await pilot.press("enter")
        await see(app, pilot, "saved wakeword.toml")
        assert not app.desk.draft.changed

    play(workspace, story)
    assert load(tmp_path / "wakeword.toml").data.wakeword == "alexa"


def test_o_opens_a_recipe_that_lies_about(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "wide.toml").write_text("[model]\nwidth = 2.0\n")
    (tmp_path / "other.toml").write_text("")

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("o")
        await see(app, pilot, "open a recipe", "other.toml", "recipes/wide.toml")
        await pilot.press(*"wide", "enter")
        await see(app, pilot, "wide.toml")
        assert app.desk.draft.recipe.model.width == 2.0

    play(workspace, story)


def test_o_says_that_there_is_no_such_file(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("o", *"nowhere.toml", "enter")
        await see(app, pilot, "there is no file nowhere.toml", "open a recipe")

    play(workspace, story)


def test_a_recipe_that_cannot_be_read_is_a_message(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("[model]\nwidht = 2.0\n")

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await see(app, pilot, "model.widht: no such key")

    play(workspace, story, recipe_path=path)


def test_h_without_data_says_what_is_missing(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("h")
        await see(app, pilot, "no data: data.manifest is not set")

    play(workspace, story)


def test_s_without_data_begins_nothing(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("s")
        await see(app, pilot, "there is no data yet")
        assert len(workspace.runs()) == 2

    play(workspace, story)


def test_s_trains_with_the_real_engine_and_a_failure_is_told(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        app.desk.draft.set("data.manifest", "nowhere")
        await pilot.press("s")
        await see(app, pilot, "does not exist", "1  mend the recipe")
        await pilot.press("9")
        await see(app, pilot, "✗ train", "failed after")

    play(workspace, story)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_what_is_wrong_is_seen_before_what_is_well(
    workspace: Workspace, tiny_data: Path, size: tuple[int, int]
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        settings = {"data.manifest": tiny_data, "data.wakeword": "bep", "targets.flash_kb": 10,
                    "targets.ram_kb": 10}  # fmt: skip
        for path, value in settings.items():
            app.desk.draft.set(path, str(value))
        app.screen._cost_soon()
        wrong = "✗ no clips of the wake word 'bep'"
        await see(app, pilot, wrong, "targets.flash_kb = 10", "over targets.ram_kb")
        app.desk.draft.set("data.wakeword", "beep")
        app.screen._cost_soon()
        await pilot.press("h")
        await see(app, pilot, "the test has 2 wake words", "of streams: 1 false alarm",
                  "over targets.ram_kb")  # fmt: skip
        assert wrong not in screen(app)
        await (see if size == LARGE else gone)(app, pilot, "6 words of 6 groups")

    play(workspace, story, size)


def test_t_times_a_few_steps(workspace: Workspace, tiny_data: Path) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        settings = {"data.manifest": tiny_data, "data.wakeword": "beep", "train.batch_size": 8,
                    "train.threads": 1, "targets.flash_kb": 10}  # fmt: skip
        for path, value in settings.items():
            app.desk.draft.set(path, str(value))
        app.screen._cost_soon()
        await see(app, pilot, "over targets.flash_kb = 10", "3 MB to pack")
        await pilot.press("t")
        await see(app, pilot, "clips/s of synthetic audio")

    play(workspace, story, LARGE)


def test_what_is_heard_is_counted_again_when_what_it_hangs_on_changes(
    workspace: Workspace, tiny_data: Path
) -> None:
    """The words that are learned first, too; a loss changes nothing that is heard."""
    data = {"data.manifest": str(tiny_data), "data.wakeword": "beep", "train.epochs": 6}
    settings = [
        {},
        {"loss.kind": "focal"},
        {"quantize.enabled": True},
        {"quantize.epochs": 4},
        {"train.average_best": 1},
        {"evaluate.split": "validation"},
        {"train.words_steps": 9},
    ]
    jobs, recipe, amount = Jobs(workspace), override(Recipe(), data), Amount()
    found = []
    for changes in settings:
        recipe = override(recipe, changes)
        *_, amount = counted(jobs, recipe, amount, Control())
        found.append((round(amount.audio.scored_s, 2), amount.audio.words_steps))
    assert found[0] == found[1]
    assert len(set(found)) == len(settings) - 1


def test_a_public_model_is_looked_for_on_this_machine_alone(workspace: Workspace) -> None:
    """Typing a name would ask the network for each half of it."""
    settings = {"model.arch": "wav2vec2", "model.pretrained": "facebook/wav2"}
    *_, amount = counted(Jobs(workspace), override(Recipe(), settings), Amount(), Control())
    assert amount.problem == "model.pretrained: facebook/wav2 is not fetched yet"


def test_an_older_count_does_not_replace_a_newer_one(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, counted, free, ended = verbs.cost, Event(), Event(), Event()

    def slow(recipe: Recipe) -> tuple[Cost, list[str]]:
        if recipe.model.width == 2.0:
            counted.set()
            free.wait(30)
            ended.set()
        return count(recipe)

    monkeypatch.setattr(verbs, "cost", slow)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await see(app, pilot, "k parameters")
        app.desk.draft.set("model.width", "2")
        app.screen._count_cost()
        await asyncio.to_thread(counted.wait, 30)
        app.desk.draft.set("model.width", "3")
        app.screen._count_cost()
        await see(app, pilot, "367k parameters")
        free.set()
        await asyncio.to_thread(ended.wait, 30)
        await pilot.pause(0.5)
        assert app.screen._amount.recipe.model.width == 3.0

    play(workspace, story)


def test_nothing_is_counted_beside_another_screen(workspace: Workspace) -> None:
    """The first count imports torch, beside which everything takes twice as long."""

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await see(app, pilot, "k parameters")
        setup = app.screen
        assert isinstance(setup, SetupScreen)
        await pilot.press("5")
        counted = setup._amount
        app.desk.draft.set("model.width", "3")
        setup._cost_soon()
        await pilot.pause(FIRST_COST_AFTER_S)
        assert setup._amount is counted
        await pilot.press("1")
        await see(app, pilot, "367k parameters")

    play(workspace, story)


def test_an_overlong_path_ends_nothing(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        app.desk.draft.set("data.manifest", "x" * 300)
        app.screen._cost_soon()
        await see(app, pilot, "k parameters")
        await pilot.press("h")
        await see(app, pilot, "File name too long")

    play(workspace, story)


def test_a_home_of_nobody_may_be_typed(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "data", 0)
        await pilot.press("enter", *"~a")
        manifest = app.desk.draft.recipe.data.manifest
        assert manifest is not None
        assert manifest.name == "~a"
        await see(app, pilot, "~a")

    play(workspace, story)


def test_an_overlong_name_cannot_be_saved_as(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+s", "ctrl+u", *"x" * 300, "enter")
        await see(app, pilot, "File name too long")

    play(workspace, story)


def test_t_beside_a_training_says_so(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        with workspace.lock():
            await pilot.press("t")
            await see(app, pilot, "a training runs")
        assert app.desk.timing is None

    play(workspace, story)


def test_a_training_waits_until_timing_has_stopped(workspace: Workspace) -> None:
    def timing(emit: Emit, control: Control) -> None:
        while True:
            time.sleep(0.001)
            control.tick()

    jobs = Jobs(workspace)
    job = jobs.start(verbs.TIMING, timing, lane="background")
    verbs.end_timings(jobs)
    assert job.state is State.STOPPED


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("model.dropout", "0 to 0.9"),
        ("train.lr", "above 0, at most 1"),
        ("train.seed", "at least 0"),
        ("data.manifest", "path"),
        ("data.sources", "paths"),
        ("name", "text"),
        ("search.space", "table"),
    ],
)
def test_limits_in_words(path: str, words: str) -> None:
    assert limits(path) == words


def test_lists_are_typed_with_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draft = Draft()
    draft.set("data.sources", "/a, b's")
    draft.set("evaluate.det_fah", "0.5, 10")
    assert draft.problems == ()
    assert draft.recipe.data.sources == (Path("/a"), tmp_path / "bs")
    assert draft.recipe.evaluate.det_fah == (0.5, 10.0)
    draft.set("data.sources", "")
    assert draft.recipe.data.sources == ()


def test_a_search_space_is_typed_as_toml() -> None:
    draft = Draft()
    draft.set("search.space", '{"train.lr" = {low = 0.001, high = 0.01, log = true}}')
    assert draft.problems == ()
    assert draft.recipe.search.space["train.lr"] == Range(low=0.001, high=0.01, log=True)
    text = Draft(saved=draft.recipe).text("search.space")
    assert text == '{"train.lr" = {low = 0.001, high = 0.01, log = true}}'
    draft.set("search.space", "")
    assert draft.recipe.search.space == {}
    draft.set("search.space", "{")
    assert draft.problem("search.space") == "input should be an object, not '{'"


def test_nothing_is_lost_on_the_way_to_another_section(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "data", 4)
        await pilot.press("enter", *"alexa", "enter")
        await go_to(pilot, "train", 0)
        await go_to(pilot, "data", 4)
        await see(app, pilot, "alexa")

    play(workspace, story)


def test_an_open_line_stays_open_while_the_window_is_behind_another(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "data", 4)
        await pilot.press("enter", *"ale")
        app.post_message(AppBlur())
        await pilot.pause()
        app.post_message(AppFocus())
        await pilot.pause()
        assert app.screen.query_one(Editor).has_class("-open")
        await pilot.press(*"xa")
        assert app.desk.draft.recipe.data.wakeword == "alexa"
        await pilot.press("tab")
        await pilot.pause()
        assert not app.screen.query_one(Editor).has_class("-open")

    play(workspace, story)


def test_save_as_asks_before_it_replaces_a_file(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "wakeword.toml"
    path.write_text("# mine\n")

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+s", "enter")
        await see(app, pilot, "wakeword.toml exists")
        await pilot.press("c")
        await pilot.pause()
        assert path.read_text() == "# mine\n"
        await pilot.press("ctrl+s", "enter")
        await see(app, pilot, "wakeword.toml exists")
        await pilot.press("o")
        await see(app, pilot, "saved wakeword.toml")

    play(workspace, story)


def test_what_was_changed_on_disk_meanwhile_is_not_saved_over_unasked(
    workspace: Workspace, tmp_path: Path
) -> None:
    path, theirs = tmp_path / "mine.toml", "[model]\nwidth = 3.0\n"
    path.write_text("[model]\nwidth = 2.0\n")

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        app.desk.draft.set("data.wakeword", "alexa")
        path.write_text(theirs)
        await pilot.press("ctrl+s")
        await see(app, pilot, "mine.toml was changed since it was read")
        await pilot.press("c")
        await gone(app, pilot, "was changed")
        assert path.read_text() == theirs
        await pilot.press("ctrl+s")
        await see(app, pilot, "mine.toml was changed since it was read")
        await pilot.press("o")
        await until(pilot, lambda: not app.desk.draft.changed)
        app.desk.draft.set("data.wakeword", "jarvis")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: not app.desk.draft.changed)

    play(workspace, story, recipe_path=path)
    assert load(path).data.wakeword == "jarvis"


def test_what_is_typed_comes_on_top_of_what_was_changed_on_disk_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[model]\nwidth = 2.0\n")
    draft = Draft.open(path)
    draft.set("data.wakeword", "alexa")
    path.write_text("[model]\nwidth = 3.0\n")
    assert draft.overtaken()
    again = draft.again()
    assert (again.recipe.model.width, again.recipe.data.wakeword) == (3.0, "alexa")
    assert not again.overtaken()


def test_o_asks_before_edits_are_lost(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('name = "other"\n')

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        app.desk.draft.set("data.wakeword", "alexa")
        await pilot.press("o", *"other", "enter")
        await see(app, pilot, "the recipe has unsaved edits")
        await pilot.press("c")
        assert app.desk.draft.changed
        await pilot.press("o", *"other", "enter")
        await see(app, pilot, "the recipe has unsaved edits")
        await pilot.press("d")
        await see(app, pilot, "other.toml")
        assert app.desk.draft.recipe.name == "other"

    play(workspace, story)


def test_a_file_with_a_typo_is_not_saved_over(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[model]\nwidth = 2.0\n")

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        draft = app.desk.draft
        path.write_text("[model]\nwidht = 3.0\n")
        with pytest.raises(RecipeError):
            draft.again()
        await see(app, pilot, "mine.toml cannot be read: e mends it")
        await pilot.press("ctrl+s")
        await see(app, pilot, "save as")
        await pilot.press("escape")
        draft.set("data.wakeword", "alexa")
        path.write_text("[model]\nwidth = 3.0\n")
        again = draft.again()
        assert (again.recipe.model.width, again.recipe.data.wakeword) == (3.0, "alexa")
        assert not again.unreadable

    play(workspace, story, recipe_path=path)
    assert "3.0" in path.read_text()
