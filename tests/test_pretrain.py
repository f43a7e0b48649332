"""Words learned before the wake word: once for a kind of student, exactly, never measured on."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Fuse, ignore, run_tiny, tiny_recipe

from engine.checkpoint import Checkpoint, load
from engine.dataset import pack, read, select
from engine.errors import DataError
from engine.events import Event, PhaseChanged, Warned, WordsLearned
from engine.jobs import Control, Stopped
from engine.manifest import Split, fold_of
from engine.pretrain import _among, learned, steps_to_learn
from engine.recipe import Data, Recipe
from engine.runs import Workspace

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def words(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two words, `beep` and `boop`, in files of their own."""
    return Path(shutil.copytree(tiny_data, tmp_path_factory.mktemp("words") / "words"))


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def asking(data: Path, words: Path, steps: int = 6, **changes: Any) -> Recipe:
    asked = {"data.words": str(words), "train.words_steps": steps}
    return tiny_recipe(data, asked | {name.replace("__", "."): v for name, v in changes.items()})


def learn(recipe: Recipe, home: Workspace, told: list[Event] | None = None) -> Checkpoint:
    found = begun(recipe, home, Control(), told)
    assert found is not None
    return found


def begun(
    recipe: Recipe, home: Workspace, control: Control, told: list[Event] | None = None
) -> Checkpoint | None:
    own = pack(read(recipe.data), home.cache, emit=ignore, control=Control())
    emit = ignore if told is None else told.append
    return learned(recipe, own, CPU, home, emit=emit, control=control)


def phases(told: list[Event]) -> list[str]:
    return [event.phase for event in told if isinstance(event, PhaseChanged)]


def same(one: Checkpoint, other: Checkpoint) -> bool:
    return all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_words_are_told_apart_for_voices_never_heard(
    tiny_data: Path, words: Path, home: Workspace
) -> None:
    """Between two words and none of them, chance is right half of the time at best."""
    told: list[Event] = []
    learn(asking(tiny_data, words, 150, train__batch_size=32), home, told)
    result = next(event for event in told if isinstance(event, WordsLearned))
    assert result.words == 2
    assert result.accuracy > 0.7


def test_the_cache_serves_every_wake_word_of_a_training_split(
    tiny_data: Path, words: Path, home: Workspace
) -> None:
    first, told = learn(asking(tiny_data, words), home), list[Event]()
    beside = {
        "train__epochs": 9,
        "train__lr": 0.1,
        "augment__pitch": 0.5,
        "detector__votes": 2,
        "detector__of": 2,
    }
    other = asking(tiny_data, words, data__wakeword="boop", **beside)
    second = learn(other, home, told)
    assert phases(told) == []
    assert same(first, second)
    learn(asking(tiny_data, words, data__fold=3), home, told)
    assert phases(told) == ["words"]


def test_words_that_were_learned_serve_wherever_they_and_the_clips_are_moved(
    tiny_data: Path, words: Path, home: Workspace, tmp_path: Path
) -> None:
    first, told = learn(asking(tiny_data, words), home), list[Event]()
    moved = [
        Path(shutil.copytree(f, tmp_path / name)) for f, name in ((tiny_data, "a"), (words, "b"))
    ]
    assert same(first, learn(asking(*moved), home, told))
    assert "words" not in phases(told)


def test_a_preview_counts_the_steps_that_are_still_to_be_learned(
    tiny_data: Path, words: Path, home: Workspace
) -> None:
    recipe = asking(tiny_data, words)
    assert steps_to_learn(recipe, home.cache, 1) == 6
    learn(recipe, home)
    assert steps_to_learn(recipe, home.cache, 1) == 0
    assert steps_to_learn(tiny_recipe(tiny_data), home.cache, 1) == 0


def test_words_are_learned_among_what_the_recipe_trains_on(
    tiny_data: Path, words: Path, home: Workspace
) -> None:
    """Of the words' own noise and speech only what validates the lesson is left."""
    own, other = (
        pack(read(Data(manifest=folder)), home.cache, emit=ignore, control=Control())
        for folder in (tiny_data, words)
    )
    mixed, data = _among(other, own, tiny_recipe(tiny_data).data), Data(wakeword="beep")
    chosen, trained = select(mixed, data, "train"), select(own, data, "train")
    assert {clip.offset for clip in chosen.speech} == {clip.offset for clip in trained.speech}
    assert {clip.offset for clip in chosen.noise} == {clip.offset for clip in trained.noise}
    assert all(clip.offset >= len(own.audio) for clip in chosen.positives)
    assert all(clip.offset >= len(own.audio) for clip in select(mixed, data, "validation").noise)


@pytest.mark.parametrize("renamed", [False, True])
def test_no_word_is_learned_from_voices_that_are_measured(
    tiny_data: Path, words: Path, home: Workspace, tmp_path: Path, renamed: bool
) -> None:
    """Nor from their recordings, if the words call the voices otherwise."""
    copied = Path(shutil.copytree(words, tmp_path / "words"))
    rows = (copied / "manifest.csv").read_text()
    (copied / "manifest.csv").write_text(rows.replace(",voice", ",speaker") if renamed else rows)
    own, other = (
        pack(read(Data(manifest=folder)), home.cache, emit=ignore, control=Control())
        for folder in (tiny_data, copied)
    )
    data = tiny_recipe(tiny_data, {"data.fold": 2}).data
    chosen = select(_among(other, own, data), Data(), "train").negatives
    splits: tuple[Split, ...] = ("validation", "test")
    measured = [clip for split in splits for clip in select(own, data, split).positives]
    assert chosen
    assert not {clip.content for clip in chosen} & {clip.content for clip in measured}
    assert not {clip.clip.group for clip in chosen} & {clip.clip.group for clip in measured}


def test_another_kind_of_student_learns_its_own(
    tiny_data: Path, words: Path, home: Workspace
) -> None:
    told: list[Event] = []
    learn(asking(tiny_data, words), home)
    learn(asking(tiny_data, words, model__width=0.5), home, told)
    assert phases(told) == ["words"]


@pytest.mark.parametrize("arch", ["mobilenetv3", "bcresnet"])
def test_other_students_learn_words_too(
    tiny_data: Path, words: Path, home: Workspace, arch: str
) -> None:
    start = learn(asking(tiny_data, words, 2, model__arch=arch), home)
    assert start.operating_point is None
    assert start.settings().data.manifest is None


def test_what_was_stopped_goes_on_exactly(tiny_data: Path, words: Path, tmp_path: Path) -> None:
    recipe, home = asking(tiny_data, words), Workspace(tmp_path / "stopped")
    whole = learn(recipe, Workspace(tmp_path / "whole"))
    pack(read(Data(manifest=words)), home.cache, emit=ignore, control=Control())
    with pytest.raises(Stopped):
        begun(recipe, home, Fuse(4))
    (last,) = home.cache.glob("*/last.ckpt")
    assert (load(last).trainer or {})["position"]["step"] == 4
    assert same(whole, learn(recipe, home))
    assert not last.exists()


def test_a_run_starts_from_its_words_and_tells_their_source(
    tiny_data: Path, words: Path, tmp_path: Path
) -> None:
    manifest = words / "manifest.csv"
    rows = manifest.read_text().splitlines()
    sourced = [f"{rows[0]},source", *(f"{row},somebody" for row in rows[1:])]
    named = Path(shutil.copytree(words, tmp_path / "named"))
    (named / "manifest.csv").write_text("\n".join(sourced) + "\n")
    still = {"train.lr": 1e-12, "train.ema_decay": 0.0, "augment.speed": 0.0}
    asked = {"data.words": str(named), "train.words_steps": 4} | still
    run = run_tiny(tiny_data, tmp_path / "workspace", asked).run
    best = load(run.best)
    (kept,) = (tmp_path / "workspace" / "cache").glob("*/words.ckpt")
    assert torch.allclose(best.weights["head.weight"], load(kept).weights["head.weight"], atol=1e-6)
    assert best.provenance["start"] == "somebody"


def test_words_that_are_measured_are_refused(tiny_data: Path, home: Workspace) -> None:
    with pytest.raises(DataError, match="which is measured on"):
        begun(asking(tiny_data, tiny_data), home, Control())


def test_one_word_is_too_few_and_so_are_those_of_measured_voices(
    tiny_data: Path, words: Path, tmp_path: Path
) -> None:
    lonely = Path(shutil.copytree(words, tmp_path / "lonely"))
    header, *rows = (lonely / "manifest.csv").read_text().splitlines()
    measured = [row for row in rows if fold_of(row.split(",")[2]) != 4]
    for kept in ([row.replace(",boop,", ",beep,") for row in rows], measured):
        (lonely / "manifest.csv").write_text("\n".join([header, *kept]))
        home = Workspace(tmp_path / "workspace")
        with pytest.raises(DataError, match="fewer than two words"):
            begun(asking(tiny_data, lonely, data__fold=2), home, Control())


def test_without_a_voice_the_training_begins_from_nothing(
    tiny_data: Path, home: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.espeak.HELPER", Path("/nowhere/helper.py"))
    told: list[Event] = []
    recipe = tiny_recipe(tiny_data, {"train.words_steps": 5})
    assert begun(recipe, home, Control(), told) is None
    assert any(isinstance(event, Warned) and "pip install" in event.hint for event in told)
