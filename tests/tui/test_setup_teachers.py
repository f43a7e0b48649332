import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taught import teach
from textual.pilot import Pilot

from engine.errors import RecipeError
from engine.recipe import Recipe
from engine.recipe_distill import Teacher
from engine.recipe_file import load, override
from engine.runs import Workspace
from tests.tui.play import LARGE, SMALL, play, screen, see
from tests.tui.scripted import RECIPE
from wakeword_tui.app import WakewordApp
from wakeword_tui.draft import MOST_TEACHERS, TEACHERS, Draft, limits, name
from wakeword_tui.widgets.form import Form

A, B = "distill.teachers[0]", "distill.teachers[1]"
TWO = override(Recipe(), {TEACHERS: [{"path": "/a"}, {"kind": "wav2vec2", "path": "/b"}]})


async def open_distill(app: WakewordApp, pilot: Pilot[int]) -> None:
    """Put the cursor on the first line of the section."""
    app.screen.query_one("#sections").focus()
    app.screen.query_one("#sections").go_to("distill")
    await pilot.press("enter", "home")
    await see(app, pilot, "teachers", "at most 2")


def finished(workspace: Workspace, arch: str, done: bool = True) -> Path:
    """A run as far as a list of runs can tell."""
    run = workspace.create(override(RECIPE, {"name": arch, "model.arch": arch}))
    if done:
        run.report.write_text('{"test": {}}')
    return run.path


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_teachers_are_added_and_removed_by_key(workspace: Workspace, size: tuple[int, int]) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await open_distill(app, pilot)
        assert "x Remove" not in screen(app)
        await pilot.press("a")
        await see(app, pilot, "[0] kind", "[0] student_layers", "x Remove")
        assert app.screen.query_one(Form).path == f"{A}.kind"
        await pilot.press("right", "home", "enter")
        await see(app, pilot, "[1] kind")
        await pilot.press("a")
        kinds = [one.kind for one in app.desk.draft.recipe.distill.teachers]
        assert kinds == ["wav2vec2", "conformer"]
        app.screen.query_one(Form).menu.go_to(f"{A}.weight")
        await pilot.press("x")
        assert app.desk.draft.recipe.distill.teachers == (Teacher(),)
        assert "[1] kind" not in screen(app)

    play(workspace, story, size)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_path_is_chosen_from_the_runs_that_can_teach(
    workspace: Workspace, size: tuple[int, int]
) -> None:
    conformer, wav2vec2 = (finished(workspace, arch) for arch in ("conformer", "wav2vec2"))
    finished(workspace, "conformer", done=False)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await open_distill(app, pilot)
        await pilot.press("a", "j")
        await see(app, pilot, "◂ one of 2 ▸")
        await pilot.press("right")
        await see(app, pilot, "004-wav2vec2", "◂ 1 of 2 ▸")
        chosen = app.desk.draft.recipe.distill.teachers
        assert [(one.kind, one.path) for one in chosen] == [("wav2vec2", wav2vec2)]
        await pilot.press("right")
        (teacher,) = app.desk.draft.recipe.distill.teachers
        assert (teacher.kind, teacher.path) == ("conformer", conformer)

    play(workspace, story, size)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_faults_of_teachers_are_told_while_they_are_typed(
    workspace: Workspace, size: tuple[int, int]
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await open_distill(app, pilot)
        await pilot.press("a", "a", "j", "enter", *"/no/such.ckpt")
        await see(app, pilot, "✗ distill.teachers[0].path: no checkpoint")
        await see(app, pilot, "✗ distill.teachers[1].path: cannot read")
        await pilot.press("enter", "j", "enter", "backspace", "0")
        await see(app, pilot, "✗ distill", "✗ [1] weight", "✗ distill.teachers[1].weight: ")

    play(workspace, story, size)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_teacher_is_looked_for_again_when_one_comes_back(
    workspace: Workspace, tiny_data: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    """Missing, the recipe is not sound; trained meanwhile, it is held against no run."""
    taught = teach(tiny_data, tmp_path / "other", "conformer")
    path, sound = tmp_path / "best.ckpt", "✓ the recipe is sound"
    settings = {"data.manifest": str(tiny_data), "data.wakeword": "beep",
                TEACHERS: [{"path": str(path)}]}  # fmt: skip

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        app.desk.draft = Draft(saved=override(Recipe(), settings))
        await see(app, pilot, "✗ distill.teachers[0].path: cannot read")
        assert sound not in screen(app)
        await pilot.press("2")
        shutil.copy(taught, path)
        await pilot.press("1")
        await see(app, pilot, "✗ the conformer teacher was held against no run")
        assert sound not in screen(app)
        app.desk.draft.set("distill.allow_unqualified", "true")
        app.screen._cost_soon()
        await see(app, pilot, sound)
        await pilot.press("2")
        path.unlink()
        await pilot.press("1")
        await see(app, pilot, "✗ distill.teachers[0].path: cannot read")
        assert sound not in screen(app)

    play(workspace, story, size)


def test_a_teacher_is_removed_and_the_other_moves_up(tmp_path: Path) -> None:
    draft = Draft(saved=TWO)
    draft.set(f"{B}.weight", "3")
    draft.remove_teacher(0)
    (left,) = draft.recipe.distill.teachers
    assert (left.kind, left.path, left.weight) == ("wav2vec2", Path("/b"), 3.0)
    draft.save(tmp_path / "one.toml")
    assert load(tmp_path / "one.toml") == draft.recipe


def test_one_that_is_added_where_another_was_has_nothing_of_it() -> None:
    draft = Draft(saved=TWO)
    draft.remove_teacher(1)
    draft.add_teacher()
    assert draft.recipe.distill.teachers == (TWO.distill.teachers[0], Teacher())
    draft.add_teacher()
    assert draft.teachers == 2


def test_r_takes_back_what_was_added_and_removed() -> None:
    draft = Draft(saved=override(Recipe(), {TEACHERS: [{"path": "/a"}]}))
    draft.add_teacher()
    draft.set(f"{B}.path", "/b")
    draft.reset(TEACHERS)
    assert draft.recipe == draft.saved
    assert not draft.changed
    draft.set(f"{A}.weight", "2")
    draft.reset(f"{A}.weight")
    draft.reset(f"{A}.path")
    assert draft.recipe.distill.teachers == (Teacher(),)


def test_what_was_typed_stays_when_the_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("")
    draft = Draft.open(path)
    draft.add_teacher()
    draft.set(f"{A}.path", "/a")
    draft.set(f"{A}.align_layers", "1, 3")
    draft.add_teacher()
    path.write_text("[model]\nwidth = 2.0\n")
    again = draft.again()
    assert again.recipe.model.width == 2.0
    assert again.recipe.distill.teachers == (
        Teacher(path=Path("/a"), align_layers=(1, 3)),
        Teacher(),
    )


def test_a_fault_inside_a_list_is_that_of_its_field() -> None:
    draft = Draft(saved=TWO)
    draft.set(f"{B}.align_layers", "1, 99")
    assert draft.problems[0].startswith(f"{B}.align_layers[1]: ")
    assert draft.problem(f"{B}.align_layers").endswith("not 99")
    assert draft.problem(TEACHERS) == draft.problem(f"{A}.align_layers") == ""


def test_names_and_limits() -> None:
    assert name("train.lr") == "lr"
    assert name(f"{B}.student_layers") == "[1] student_layers"
    assert limits(TEACHERS) == "at most 2"
    with pytest.raises(RecipeError, match="1 problem"):
        override(Recipe(), {TEACHERS: [{}] * (MOST_TEACHERS + 1)})
    assert limits(f"{A}.weight") == "above 0, at most 100"
    assert limits(f"{A}.path") == "path"


Action = st.one_of(
    st.just("add"),
    st.tuples(st.just("remove"), st.integers(0, 1)),
    st.tuples(st.integers(0, 1), st.sampled_from(["/a", "/b", ""])),
)


@given(st.lists(Action, max_size=12), st.booleans())
def test_the_form_shows_what_a_list_of_teachers_would_be(
    tmp_path_factory: pytest.TempPathFactory, actions: list, begun: bool
) -> None:
    """Whatever was added, removed and typed, in whatever order, and through the file."""
    draft = Draft(saved=TWO if begun else Recipe())
    known = [None if one.path is None else str(one.path) for one in draft.saved.distill.teachers]
    for action in actions:
        match action:
            case "add":
                draft.add_teacher()
                known = [*known, None][:2]
            case ("remove", number) if number < len(known):
                draft.remove_teacher(number)
                known.pop(number)
            case (int(number), text) if number < len(known):
                draft.set(f"{TEACHERS}[{number}].path", text)
                known[number] = text or None
    paths = [one.path for one in draft.recipe.distill.teachers]
    assert paths == [None if path is None else Path(path) for path in known]
    file = tmp_path_factory.mktemp("drafts") / "r.toml"
    recipe = draft.recipe
    draft.save(file)
    assert load(file) == recipe == draft.recipe
