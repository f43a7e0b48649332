import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RecipeError
from engine.recipe import Recipe
from engine.recipe_file import dump, field_at, fields, load, loads, override, parse_setting, schema

HOME = Path("/data")


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        loads(text, HOME)
    return caught.value.problems


def test_a_recipe_with_five_mistakes_names_all_five() -> None:
    found = problems("""
        nam = "x"
        [model]
        arch = "transformer"
        width = "wide"
        [train]
        lr = 7
        bach_size = 3
    """)
    assert len(found) == 5
    assert {line.split(":")[0] for line in found} == {
        "nam", "model.arch", "model.width", "train.lr", "train.bach_size",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("[train]\nbach_size = 3", "train.batch_size"),
        ("[trian]\nlr = 0.1", "train"),
        ("[augment]\nsnr_low = 3", "augment.snr_low_db"),
        ("nam = 'x'", "name"),
    ],
)
def test_an_unknown_key_gets_the_nearest_spelling(text: str, nearest: str) -> None:
    (problem,) = problems(text)
    assert problem.endswith(f": no such key; did you mean {nearest}?")


@pytest.mark.parametrize("value", ["true", "'3'", "3.5", "[3]", "-1", "inf", "2020-01-01"])
def test_a_seed_is_a_whole_number_and_nothing_else(value: str) -> None:
    assert problems(f"[train]\nseed = {value}")[0].startswith("train.seed: ")


def test_a_name_that_cannot_be_one_gets_a_sentence_and_no_pattern() -> None:
    with pytest.raises(RecipeError) as raised:
        override(Recipe(), {"name": "my first run ü"})
    assert "name: at most 41 letters, digits" in str(raised.value)
    assert "^[A-Z" not in str(raised.value)
    assert json.dumps(schema()).count('"pattern"') == 1  # another would want words of its own


def test_fields_that_contradict_each_other_are_refused() -> None:
    assert "votes 4 is above of 3" in problems("[detector]\nvotes = 4\nof = 3")[0]
    assert "not a multiple of step_ms" in problems("[features]\nhop_ms = 85")[0]
    assert "above snr_high_db" in problems("[augment]\nsnr_low_db = 9.0\nsnr_high_db = 8.0")[0]


def test_frames_leave_no_gap_between_them() -> None:
    """A 10 ms frame every 20 ms would hear half of the samples."""
    assert "above frame_ms" in problems("[features]\nframe_ms = 10\nstep_ms = 20")[0]


def test_a_file_that_is_not_toml_says_where() -> None:
    with pytest.raises(RecipeError, match=r"is not TOML.*line 2"):
        loads("name = 'x'\nlr = fast\n", HOME)


def test_a_missing_file_is_a_recipe_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read recipe .*nothing.toml"):
        load(tmp_path / "nothing.toml")


def test_override_changes_one_value_and_leaves_the_recipe_alone() -> None:
    recipe = Recipe()
    changed = override(recipe, {"train.lr": 3e-4, "name": "fork"})
    assert (changed.train.lr, changed.name) == (3e-4, "fork")
    assert recipe == Recipe()
    assert override(changed, {"train.lr": recipe.train.lr, "name": recipe.name}) == recipe


def test_override_with_none_unsets() -> None:
    recipe = override(Recipe(), {"train.init": "/x.ckpt"})
    assert recipe.train.init == Path("/x.ckpt")
    assert override(recipe, {"train.init": None}).train.init is None


@pytest.mark.parametrize("path", ["train.lrr", "trian.lr", "train.lr.x", "name.x", "x", "train"])
def test_override_refuses_what_is_no_setting(path: str) -> None:
    with pytest.raises(RecipeError, match="1 problem"):
        override(Recipe(), {path: 0.1})


def test_paths_in_a_file_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "recipes" / "mine.toml"
    file.parent.mkdir()
    file.write_text("[data]\nmanifest = '../clips'\nsources = ['more', '/far/away']")
    data = load(file).data
    assert data.manifest == tmp_path / "clips"
    assert data.sources == (tmp_path / "recipes" / "more", Path("/far/away"))


def test_a_home_of_nobody_is_a_folder_of_that_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[data]\nmanifest = '~nobody-of-that-name/clips'\nsources = ['~/more']")
    data = load(file).data
    assert data.manifest == tmp_path / "~nobody-of-that-name" / "clips"
    assert data.sources == ((Path.home() / "more").resolve(),)


def test_paths_on_the_command_line_are_relative_to_the_working_directory(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("name = 'mine'")
    settings = dict([parse_setting("data.manifest=clips/manifest.csv", Path("/work"))])
    assert load(file, settings).data.manifest == Path("/work/clips/manifest.csv")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train.lr=3e-4", "train.lr", 3e-4),
        ("train.compile=true", "train.compile", True),
        ("data.wakeword=jarvis", "data.wakeword", "jarvis"),
        ("data.wakeword=7", "data.wakeword", "7"),
        ("data.wakeword='hey jarvis'", "data.wakeword", "hey jarvis"),
        ("data.sources=['a']", "data.sources", ["/work/a"]),
        ("train.init=", "train.init", None),
    ],
)
def test_a_setting_is_read_as_toml_or_else_as_text(text: str, key: str, value: Any) -> None:
    assert parse_setting(text, Path("/work")) == (key, value)


def test_a_setting_without_an_equals_sign_says_what_to_write() -> None:
    with pytest.raises(RecipeError, match=r"has no '='[\s\S]*--set train.lr=0.001"):
        parse_setting("train.lr", HOME)


TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=8)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
        "data.wakeword": TEXT,
        "data.manifest": TEXT.map("/m".__add__),
        "data.sources": st.lists(TEXT.map("/s".__add__), max_size=3),
        "data.fold": st.integers(0, 4),
        "model.arch": st.sampled_from(["tinyconv", "mobilenetv3"]),
        "model.depthwise": st.booleans(),
        "augment.snr_low_db": st.floats(-20, 25),
        "train.lr": st.floats(1e-12, 1),
        "train.seed": st.integers(0, 2**62),
        "evaluate.det_fah": st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=2),
    },
)


@given(CHANGES)
def test_a_recipe_survives_toml(changes: dict[str, Any]) -> None:
    recipe = override(Recipe(), changes)
    assert loads(dump(recipe), HOME) == recipe


def test_every_field_has_a_sentence_of_help() -> None:
    helps = {path: field.description or "" for path, field in fields()}
    assert [path for path, text in helps.items() if not text.endswith(".")] == []


def test_a_field_is_found_by_its_dotted_path() -> None:
    lr, nothing = field_at("train.lr"), field_at("train.nothing")
    assert lr is not None
    assert lr.default == 3e-3
    assert nothing is None


def test_a_table_of_a_list_is_set_by_its_number() -> None:
    """The next one is made; one beyond that leads nowhere."""
    key, value = parse_setting("distill.teachers[0].path=a", Path("/work"))
    recipe = override(Recipe(), {key: value, "distill.teachers[1].kind": "wav2vec2"})
    found = [(one.kind, one.path) for one in recipe.distill.teachers]
    assert found == [("conformer", Path("/work/a")), ("wav2vec2", None)]
    assert override(recipe, {"distill.teachers[1].weight": 2}).distill.teachers[1].weight == 2.0
    with pytest.raises(RecipeError, match=r"teachers\[1\]: no such key; did you mean"):
        override(Recipe(), {"distill.teachers[1].kind": "wav2vec2"})


def test_a_field_of_a_table_in_a_list_is_found() -> None:
    weight = field_at("distill.teachers[1].weight")
    assert weight is not None
    assert weight.default == 1.0
    nowhere = "distill.teachers[1].lr", "distill[0].teachers", "data.sources[0].x", "name[0].x"
    assert [field_at(path) for path in nowhere] == [None] * 4


def test_the_schema_lists_every_field_with_its_help() -> None:
    tables = json.loads(json.dumps(schema()))
    listed = {key for key, part in tables["properties"].items() if "$ref" not in part}
    for section, part in tables["properties"].items():
        if "$ref" in part:
            inner = tables["$defs"][part["$ref"].rsplit("/", 1)[1]]["properties"]
            assert all(field.get("description") for field in inner.values())
            listed |= {f"{section}.{key}" for key in inner}
    assert listed == {path for path, _ in fields()}


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[1].glob("recipes/*.toml")))
def test_a_shipped_recipe_is_valid(path: Path) -> None:
    assert load(path).name == tomllib.loads(path.read_text())["name"]
