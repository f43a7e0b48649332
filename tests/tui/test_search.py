"""Search: a made study on the screen, what its keys ask for, and a real one from end to end."""

import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from engine.errors import DataError
from engine.events import Emit, JobStarted, TrialFinished, TrialStarted
from engine.jobs import Control
from engine.recipe import Recipe
from engine.recipe_file import dump, override
from engine.runs import Workspace
from engine.study import BUSY_S, Study, create
from engine.study import view as study_view
from engine.trials import Trial
from tests.tiny import tiny_recipe
from tests.tui.play import LARGE, SMALL, play, same_as_file, screen, see, type_ahead, until
from tests.tui.scripted import stepped, validated, write_run
from tests.tui.studying import RECIPE, made_view, write_study
from wakeword_tui import trade
from wakeword_tui.app import WakewordApp
from wakeword_tui.draft import Draft
from wakeword_tui.searching import Searching, studies
from wakeword_tui.store import Store
from wakeword_tui.studies import begin_problems, begin_recipe
from wakeword_tui.widgets.trials import TrialTable

SCREENS = Path(__file__).parent / "screens"
TRIALS = 24


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a study whose last trial was broken off."""
    home = Workspace(tmp_path_factory.mktemp("studied"))
    write_study(home, made_view(TRIALS, running=True))
    return home.root


@pytest.fixture
def home(studied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMUX", "yes")
    yield Workspace(shutil.copytree(studied, tmp_path / "workspace"))


async def opened(app: WakewordApp, pilot: Pilot[int]) -> TrialTable:
    await pilot.press("3")
    await see(app, pilot, f"1 of {TRIALS + 1}")
    return app.screen.query_one(TrialTable)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_the_whole_screen(home: Workspace, size: tuple[int, int]) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await pilot.press("j", "j")
        await same_as_file(pilot, SCREENS / f"search-{size[0]}x{size[1]}.txt")

    play(home, story, size)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_an_empty_screen_says_what_to_press(workspace: Workspace, size: tuple[int, int]) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("3")
        await see(app, pilot, "No study yet.", "n      new study")
        await pilot.press("s")
        await see(app, pilot, "there is no study yet: n begins one")
        await pilot.press("f", "x", "l", "o", "v")

    play(workspace, story, size)


def test_a_tiny_screen_shows_one_panel_at_a_time(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await pilot.press("tab")
        await see(app, pilot, "trial 24")
        assert "study mel40" not in screen(app)

    play(home, story, (56, 15))


def test_v_shows_another_panel_and_o_sorts(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        table = await opened(app, pilot)
        await see(app, pilot, "pAUC against ms a hop")
        await pilot.press("v")
        await see(app, pilot, "027-mel40-t24  sampled")
        await pilot.press("v")
        await see(app, pilot, "hypervolume")
        await pilot.press("v")
        await see(app, pilot, "importance", "━━")
        await pilot.press("v", "o")
        await see(app, pilot, "pAUC against ms a hop", "by quality")
        view = app.desk.studies.view
        assert view is not None
        best = max(trial.pauc for trial in view.trials if trial.values)  # type: ignore[type-var]
        assert table.current is not None
        assert table.current.pauc == best

    play(home, story)


def test_enter_opens_the_run_of_a_trial_on_train(home: Workspace) -> None:
    run = write_run(home, epochs=1)
    run.path.rename(run.path.with_name("027-mel40-t24"))

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await pilot.press("enter")
        await see(app, pilot, "run 027-mel40-t24", "done  2 000/2 000 steps")

    play(home, story)


@pytest.mark.parametrize(
    ("keys", "told"), [("jfj", "fork trial 23"), (["j", "enter", "j"], "026-mel40-t23")]
)
def test_keys_that_are_typed_ahead_are_of_the_trial_under_the_cursor_then(
    home: Workspace, keys: Sequence[str], told: str
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        type_ahead(app, *keys)
        await see(app, pilot, told)

    play(home, story)


def test_a_fork_is_checked_at_each_key_and_is_tried_next(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await pilot.press("j", "f")
        await see(app, pilot, "fork trial 23", "0.25 to 2, log")
        await pilot.press("ctrl+u", "9", "enter")
        await see(app, pilot, "✗ input should be less than or equal to 4, not 9")
        await pilot.press("ctrl+u", "3")
        await see(app, pilot, "✗ 3 is outside")
        await pilot.press("ctrl+u", *"0.5", "enter")
        await see(app, pilot, "the fork of 23 is")

    play(home, story)
    with Study.opened(home, "mel40", None) as study:
        asked = study.study.get_trials(deepcopy=False)[-1]
    assert asked.system_attrs["fixed_params"]["model.width"] == 0.5
    assert asked.user_attrs == {"parent": 23, "operation": "by hand"}


def test_x_writes_the_study_into_a_folder(home: Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await pilot.press("x")
        await see(app, pilot, "export into the folder", "mel40-plots")
        await pilot.press("ctrl+u", *"file/below", "enter")
        await see(app, pilot, "cannot write")
        await pilot.press("x", "enter")
        await until(pilot, (tmp_path / "mel40-plots" / "mel40-hypervolume.svg").exists, 60)

    play(home, story)
    sheet = (tmp_path / "mel40-plots" / "mel40.csv").read_text().splitlines()
    assert len(sheet) == 1 + TRIALS + 1


def test_a_new_study_says_what_is_wrong_at_each_line(home: Workspace, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(dump(override(RECIPE, {"data.manifest": "/clips"})))

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await opened(app, pilot)
        await pilot.press("n")
        await see(app, pilot, "new study", "✗ there is no such file")
        await pilot.press("ctrl+u", *"my.toml", "down", "ctrl+u", "0", "down", "ctrl+u")
        await pilot.press(*"mel40", "enter")
        await see(app, pilot, "✗ a whole number above 0", "✗ there is one of that name")
        assert isinstance(app.focused, Input)
        assert app.focused.name == "trials"
        await pilot.press("escape")
        await see(app, pilot, "study mel40")

    play(home, story)


def test_what_is_wrong_with_a_new_study(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[search.space]\n"train.lr" = { low = 0.1, high = 0.01 }\n')
    texts = {"recipe": str(recipe), "trials": "5", "name": "a b"}
    assert begin_problems([], Draft(), texts) == {
        "recipe": "search.space.train.lr: low 0.1 is not below high 0.01",
        "name": "letters, digits, dots and dashes, at most 35",
    }


def test_the_recipe_of_a_new_study_may_be_any_text() -> None:
    texts = {"recipe": "x" * 300, "trials": "5", "name": "a"}
    assert begin_problems([], Draft(), texts) == {"recipe": "there is no such file"}


def test_a_new_study_takes_what_stands_in_setup(tmp_path: Path) -> None:
    recipe, data = tmp_path / "recipe.toml", tmp_path / "clips"
    recipe.write_text('[search.space]\n"train.lr" = { low = 0.001, high = 0.01 }\n')
    texts = {"recipe": str(recipe), "trials": "5", "name": "a"}
    assert "names no data" in begin_problems([], Draft(), texts)["recipe"]
    other = Draft(saved=override(Recipe(), {"data.manifest": str(data), "train.seed": 4}))
    assert begin_problems([], other, texts) == {}
    begun = begin_recipe(str(recipe), other)
    assert (begun.data.manifest, begun.train.seed) == (data, 0)
    edited = Draft.open(recipe)
    edited.set("train.seed", "5")
    assert begin_recipe(str(recipe), edited).train.seed == 5


def two_trials(emit: Emit, control: Control) -> None:
    """What a study of two trials tells; it waits in the second."""
    for number in range(2):
        run = f"00{number + 4}-mel40-t{number}"
        emit(TrialStarted("mel40", number, run, {"train.lr": 0.01}, 2))
        emit(JobStarted("train", run, "cpu, 1 threads", 2000))
        for step in range(10, 110, 10):
            emit(stepped(step))
        emit(validated(number + 1))
        if number == 0:
            emit(TrialFinished("mel40", 0, run, "complete", 0.9, 1.0, "", 3.0))
    while True:
        control.tick()


def search_scripted(app: WakewordApp) -> Searching:
    job = app.desk.jobs.start("search", two_trials)
    live = Searching(job, Store(), study="mel40", home=app.desk.workspace)
    app.desk.follow(live)
    return live


def test_train_follows_a_study_from_trial_to_trial(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        live = search_scripted(app)
        await pilot.press("2")
        await see(app, pilot, "run 005-mel40-t1", "● search #1")
        assert [event.epoch for event in live.store.validations] == [2]
        assert len(live.store.losses) == 10
        await pilot.press("9")
        await see(app, pilot, "trial 0 of mel40", "trial 0 complete", "trial 1 of mel40")

    play(home, story)


def test_a_running_trial_is_live_in_the_table_and_as_a_curve(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        search_scripted(app)
        await opened(app, pilot)
        await see(app, pilot, "● run   train 5 %", "trial 1: loss", "1 running")

    play(home, story, LARGE)


def test_s_stops_after_the_trial_and_again_at_once(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        live = search_scripted(app)
        await opened(app, pilot)
        await pilot.press("s")
        await see(app, pilot, "mel40 stops after this trial")
        assert live.last_trial.is_set()
        assert live.job.alive
        await pilot.press("s")
        await see(app, pilot, "mel40: stopped")

    play(home, story)


def test_quitting_asks_what_becomes_of_a_study(home: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        search_scripted(app)
        await opened(app, pilot)
        await pilot.press("p")
        await see(app, pilot, "‖ paused")
        await pilot.press("q")
        await see(app, pilot, "a job is running", "keep running without the window")
        await pilot.press("s")
        await until(pilot, lambda: not app.is_running)

    play(home, story)


def test_a_study_that_cannot_be_read_says_so(home: Workspace) -> None:
    (home.studies / "mel40.db").write_bytes(b"no database at all, not even a little" * 99)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("3")
        await see(app, pilot, "is damaged", "opens another study")

    play(home, story)


def test_neither_the_screen_nor_quitting_waits_for_a_locked_database(home: Workspace) -> None:
    locked = sqlite3.connect(home.studies / "mel40.db")
    locked.execute("BEGIN EXCLUSIVE")

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("3")
        await see(app, pilot, "reading …")
        await pilot.press("question_mark")
        await see(app, pilot, "List of studies")

    began = time.monotonic()
    play(home, story)
    locked.close()
    assert time.monotonic() - began < BUSY_S / 2


def test_another_process_in_the_workspace_need_not_run_the_study(home: Workspace) -> None:
    program = "import sys, time; from pathlib import Path; from engine.runs import Workspace\n"
    program += "with Workspace(Path(sys.argv[1])).lock(): print('held', flush=True); time.sleep(99)"
    command = [sys.executable, "-c", program, str(home.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()

        async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
            await opened(app, pilot)
            await see(app, pilot, f"process {other.pid} holds the workspace", "1 left")

        try:
            play(home, story, LARGE)
        finally:
            other.kill()


def test_a_study_that_is_kept_elsewhere_is_not_in_front(home: Workspace, tmp_path: Path) -> None:
    time.sleep(0.01)
    create(home, "far", RECIPE, 9, f"sqlite:///{tmp_path}/shared.db")
    assert studies(home) == ["mel40", "far"]
    with pytest.raises(DataError, match="'far' is kept in another database"):
        study_view(home, "far")


def test_what_is_asked_of_a_trial_is_asked_of_the_study_it_is_shown_of(home: Workspace) -> None:
    """Another study is read within a moment; until then its trials are not those in the table."""

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        table = await opened(app, pilot)
        view = app.desk.studies.view
        assert view is not None
        assert app.desk.studies.found is not None
        assert table.shown == (view, table.current)
        other = replace(view, name="other")
        app.desk.studies.found = replace(app.desk.studies.found, view=other)
        assert app.screen._trial() is None  # type: ignore[attr-defined]

    play(home, story)


def test_the_front_is_stairs_and_the_chosen_trial_stands_on_top() -> None:
    view = made_view(3)
    point = {0: (0.90, 2.0), 1: (0.95, 4.0), 2: (0.80, 3.0)}
    trials = tuple(replace(trial, values=point[trial.number]) for trial in view.trials)
    plot = trade.front_plot(replace(view, trials=trials, front=(0, 1)), 2)
    assert plot is not None
    trial, stairs, front, chosen = plot.series
    assert (trial.xs, trial.ys) == ([3.0], [0.80])
    assert (stairs.xs, stairs.ys) == ([2.0, 4.0, 4.0], [0.90, 0.90, 0.95])
    assert (front.xs, front.ys) == ([2.0, 4.0], [0.90, 0.95])
    assert (chosen.label, chosen.xs, chosen.ys) == ("2", [3.0], [0.80])
    assert (plot.x.label, plot.y.label) == ("ms a hop", "pAUC")


def test_a_failed_trial_shows_its_sentence_where_numbers_would_be() -> None:
    trial = Trial(number=7, state="failed", params={}, why="out of memory at a batch of 512")
    line = trade.trial_line(trial, made_view(3), 80).plain
    assert line == "    7  ✗ fail  out of memory at a batch of 512"


@pytest.mark.parametrize("order", trade.ORDERS)
def test_every_order_holds_every_trial_once(order: trade.Order) -> None:
    view = made_view(48, running=True)
    laid = trade.ordered(view, order)
    assert sorted(trial.number for trial in laid) == list(range(49))
    if order == "front":
        assert tuple(trial.number for trial in laid[: len(view.front)]) == view.front


def test_a_real_study_from_its_beginning_to_a_training_at_full_length(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New, seen live, stopped after a trial, forked, gone on with after a restart, trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMUX", "yes")
    space = {"model.width": {"low": 0.25, "high": 0.5}}
    changes = {"name": "beeps", "search.space": space, "search.latency": "macs"}
    recipe = tiny_recipe(tiny_data, changes | {"search.epochs": 1})
    (tmp_path / "beeps.toml").write_text(dump(recipe))
    home = Workspace(tmp_path / "workspace")

    async def begins(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("3", "n")
        await see(app, pilot, "new study")
        await pilot.press("ctrl+u", *"beeps.toml", "down", "ctrl+u", "2", "down", "ctrl+u")
        await pilot.press(*"beeps", "enter")
        await see(app, pilot, "● run")
        await pilot.press("s")
        await see(app, pilot, "beeps: stopped", within_s=200)
        await see(app, pilot, "study beeps 1/2: 1 done")
        await pilot.press("f")
        await see(app, pilot, "fork trial 0")
        await pilot.press("ctrl+u", *"0.4", "enter")
        await see(app, pilot, "the fork of 0 is")

    async def goes_on(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("3")
        await see(app, pilot, "study beeps 1/2")
        await pilot.press("s")
        await see(app, pilot, "beeps: done", within_s=200)
        await see(app, pilot, "by hand 0", "study beeps 2/2: 2 done")
        await pilot.press("g", "t")
        await see(app, pilot, "run 003-beeps-1", "● train")
        assert app.desk.draft.recipe.train.epochs == recipe.train.epochs
        assert app.desk.draft.recipe.model.width == 0.4

    play(home, begins)
    play(home, goes_on)
    found = study_view(home, "beeps")
    assert [(t.state, t.run, t.parent) for t in found.trials] == [
        ("complete", "001-beeps-t0", None),
        ("complete", "002-beeps-t1", 0),
    ]
