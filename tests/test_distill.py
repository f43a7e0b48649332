"""A student and its teachers: what is lost, whom to trust, and that all of it resumes exactly."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from annotated_types import Ge, Le
from hypothesis import given
from hypothesis import strategies as st
from taught import lesson_plan, public_model, teach
from test_train import assert_equal_runs, go, same, tensors
from tiny import Fuse, held_for_validation, ignore, tiny_recipe

import engine
from engine.checkpoint import load
from engine.dataset import pack, read
from engine.distill import apart, divergence, doubt, in_step, ordering, shares, temperature
from engine.errors import RecipeError
from engine.events import PhaseChanged, Stepped, Warned
from engine.jobs import Control, Stopped
from engine.lessons import PLAIN, PREFIX, Lessons, make_room
from engine.models import build
from engine.recipe import Augment
from engine.recipe_distill import Distill
from engine.report import Report
from engine.runs import Run, Workspace
from engine.teachers import Lesson
from engine.trainer import Trainer
from wakeword_tui.commands.report import render

COLD = torch.tensor(1.0)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def plan(tiny_data: Path, home: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Any:
    public = public_model(tmp_path_factory.mktemp("public"))
    conformer = teach(tiny_data, home.root, "conformer")
    wav2vec2 = teach(tiny_data, home.root, "wav2vec2", {"model.pretrained": str(public)})
    return lesson_plan(conformer, wav2vec2)


def logit(score: float) -> float:
    return math.log(score / (1 - score))


# --- how far apart, and whom to trust


def test_divergence_is_zero_where_both_agree_and_by_hand_where_not() -> None:
    """0.8 against 0.5: 0.8 ln 1.6 + 0.2 ln 0.4 = 0.3760 - 0.1833 = 0.1927."""
    teacher = torch.tensor([logit(0.8)])
    assert divergence(teacher, teacher, COLD).item() == pytest.approx(0, abs=1e-6)
    assert divergence(torch.zeros(1), teacher, COLD).item() == pytest.approx(0.1927, abs=1e-4)


@given(st.floats(0.5, 20), st.floats(-8, 8), st.floats(-8, 8))
def test_its_slope_is_the_temperature_times_the_difference_of_scores(
    degree: float, ours: float, theirs: float
) -> None:
    student = torch.tensor([ours], requires_grad=True, dtype=torch.float64)
    teacher, at = torch.tensor([theirs], dtype=torch.float64), torch.tensor(degree).double()
    divergence(student, teacher, at).sum().backward()
    assert student.grad is not None
    slope = degree * (torch.sigmoid(student / degree) - torch.sigmoid(teacher / degree))
    assert student.grad.item() == pytest.approx(slope.item(), abs=1e-6)


def test_the_surer_teacher_counts_more_in_a_clip() -> None:
    """Scores 0.9 and 0.6 have 0.469 and 0.971 bits, so 0.531 and 0.029 of trust: 0.948 of it.

    With a floor of 0.1 that is 0.1 + 0.8 x 0.948 = 0.859, and 0.141 for the other.
    """
    said = torch.tensor([[logit(0.9)], [logit(0.6)]])
    assert doubt(said)[:, 0].tolist() == pytest.approx([0.469, 0.971], abs=1e-3)
    trust = shares(said, torch.tensor([0.5, 0.5]), 0.1)
    assert trust[:, 0].tolist() == pytest.approx([0.859, 0.141], abs=1e-3)


def test_without_confidence_the_weights_of_the_recipe_decide() -> None:
    trust = shares(torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([0.75, 0.25]), None)
    assert trust.tolist() == [[0.75, 0.75], [0.25, 0.25]]


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=5))
def test_no_teacher_is_ever_silenced_and_shares_are_whole(said: list[tuple[float, float]]) -> None:
    trust = shares(torch.tensor(said).T, torch.tensor([0.5, 0.5]), 0.1)
    assert (trust >= 0.1 - 1e-6).all()
    assert torch.allclose(trust.sum(dim=0), torch.ones(len(said)), atol=1e-5)


def test_one_teacher_has_all_the_trust() -> None:
    assert shares(torch.zeros(1, 3), torch.ones(1), 0.1).tolist() == [[1.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [5.0, 5.0, 5.0]),
        ("linear", [5.0, 4.0, 1.0]),
        ("cosine", [5.0, 1 + 4 * 0.853553, 1.0]),
        ("agreement", [2.0, 2.0, 2.0]),
    ],
)
def test_the_temperature_follows_its_schedule(schedule: Any, expected: list[float]) -> None:
    """From 5 to 1 at the beginning, after a quarter and at the end; of an agreement of 0.75."""
    settings = Distill(temperature=5.0, temperature_end=1.0, schedule=schedule)
    found = [temperature(settings, part, torch.tensor(0.75)).item() for part in (0, 0.25, 1)]
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_order_is_taken_over_the_hardest_negatives_alone() -> None:
    """One word at 1; of negatives at 0 and 2 the latter is hardest: our margin is -1, theirs 1.

    Scores of the order 0.269 and 0.731: 0.731 ln(0.731 / 0.269) + 0.269 ln(0.269 / 0.731) = 0.462.
    """
    student, teacher = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([1.0, 50.0, 0.0])
    labels = torch.tensor([1.0, 0.0, 0.0])
    assert ordering(student, teacher, labels, COLD, 1).item() == pytest.approx(0.462, abs=1e-3)
    assert ordering(student, teacher, torch.zeros(3), COLD, 1).item() == 0.0


def test_maps_of_other_rates_are_brought_in_step() -> None:
    """Six frames become three means of two; three become six, the ends held."""
    six = torch.tensor([[[0.0, 2.0, 4.0, 6.0, 8.0, 10.0]]])
    assert in_step(six, 3)[0, 0].tolist() == [1.0, 5.0, 9.0]
    three = torch.tensor([[[0.0, 1.0, 2.0]]])
    assert in_step(three, 6)[0, 0].tolist() == [0.0, 0.25, 0.75, 1.25, 1.75, 2.0]


@pytest.mark.parametrize("kind", ["mse", "cosine", "relation"])
def test_equal_maps_are_not_apart_and_others_are(kind: str) -> None:
    one, other = torch.randn(2, 4, 8, 10, generator=torch.Generator().manual_seed(0))
    assert apart(one, one, kind) == pytest.approx([0] * 4, abs=1e-6)
    assert (apart(one, other, kind) > 0.05).all()


def test_relations_compare_maps_of_other_widths() -> None:
    """Twice the channels that say the same change nothing in how alike clips are."""
    maps = torch.randn(4, 8, 10, generator=torch.Generator().manual_seed(0))
    assert apart(
        maps, maps.repeat(1, 2, 1)[..., ::2].repeat_interleave(2, 2), "relation"
    ).shape == (4,)
    assert apart(maps, maps.repeat(1, 2, 1), "relation") == pytest.approx([0] * 4, abs=1e-6)


# --- a run with both


@pytest.fixture(scope="module")
def taught(tiny_data: Path, home: Workspace, plan: dict[str, Any]) -> tuple[Run, list[Any]]:
    """A run with both teachers that nothing interrupted, and its events."""
    run = home.create(tiny_recipe(tiny_data, {**plan, "train.checkpoint_every_s": 0.01}))
    return run, go(run, home, Control())


def test_a_student_of_both_teachers_ends_with_a_report_that_names_them(taught: Any) -> None:
    run, events = taught
    report = Report.from_json(run.report.read_text())
    assert [(one["kind"], one["better"]) for one in report.teachers] == [
        ("conformer", False),
        ("wav2vec2", False),
    ]
    digest = report.teachers[0]["sha256"][:8]
    assert f"taught by      conformer {digest}: held against no run\n" in render(report)
    told = [event.message for event in events if isinstance(event, Warned)]
    assert told == [
        f"the {kind} teacher was held against no run" for kind in ("conformer", "wav2vec2")
    ]


def test_its_steps_tell_the_parts_of_the_loss_the_temperature_and_whom_it_trusts(
    taught: Any,
) -> None:
    step = next(event for event in taught[1] if isinstance(event, Stepped))
    parts = ["labels", "logits", "features", "ranking"]
    assert list(step.taught) == [*parts, "temperature", "agreement", "conformer", "wav2vec2"]
    assert step.taught["conformer"] + step.taught["wav2vec2"] == pytest.approx(1)
    assert sum(step.taught[part] for part in parts) == pytest.approx(step.loss, rel=1e-4)


@pytest.mark.parametrize("at", [3, 7, 30])
def test_a_distilled_run_stopped_and_resumed_equals_the_uninterrupted_one(
    tiny_data: Path, home: Workspace, plan: dict[str, Any], taught: Any, at: int
) -> None:
    run = home.create(tiny_recipe(tiny_data, {**plan, "train.checkpoint_every_s": 0.01}))
    go(run, home, Fuse(at))
    go(run, home, Control(), until="test")
    assert_equal_runs(run, taught[0])


def test_projectors_are_kept_for_a_resume_and_not_shipped(taught: Any) -> None:
    last, best = load(taught[0].last), load(taught[0].best)
    assert last.trainer is not None
    assert "projectors.2.weight" in last.trainer["distiller"]["state"]
    assert best.trainer is None
    assert best.weights.keys() == build(best.settings()).state_dict().keys()


def outline(path: Path) -> list[Any]:
    """A graph without its numbers: its operations, and the shapes of its weights."""
    graph = onnx.load(path).graph
    weights = [(w.name, tuple(w.dims)) for w in graph.initializer]
    return [(n.op_type, list(n.input), list(n.output)) for n in graph.node] + weights


def test_a_distilled_student_is_exported_as_any_other(
    tiny_data: Path, home: Workspace, taught: Any
) -> None:
    run = home.create(tiny_recipe(tiny_data))
    go(run, home, Control())
    for name in ("model.onnx", "student.onnx"):
        assert outline(taught[0].export / name) == outline(run.export / name)
    ours, theirs = (Report.from_json(r.report.read_text()) for r in (taught[0], run))
    assert (ours.parameters, ours.macs) == (theirs.parameters, theirs.macs)
    told = onnx.load(taught[0].export / "model.onnx").metadata_props
    assert not any(str(home.root) in prop.value for prop in told)


def trainer_of(
    data: Path, home: Workspace, changes: dict[str, Any], device: str = "cpu"
) -> Trainer:
    recipe = tiny_recipe(data, changes)
    packed = pack(read(recipe.data), home.cache, emit=ignore, control=Control())
    return Trainer(recipe, packed, torch.device(device))


def test_teachers_begin_a_student_with_the_weights_of_its_twin(
    tiny_data: Path, home: Workspace, plan: dict[str, Any]
) -> None:
    alone, taught = trainer_of(tiny_data, home, {}), trainer_of(tiny_data, home, plan)
    assert same(tensors(alone.model.state_dict()), tensors(taught.model.state_dict()))


def test_teachers_are_frozen_and_no_part_of_what_is_trained(
    tiny_data: Path, home: Workspace, plan: dict[str, Any]
) -> None:
    trainer = trainer_of(tiny_data, home, plan)
    assert trainer.distiller is not None
    models = [teacher.model for teacher in trainer.distiller.teachers]
    before = [tensors(model.state_dict()) for model in models]
    before = [{name: value.clone() for name, value in state.items()} for state in before]
    trainer.step()
    assert not any(m.training for model in models for m in model.modules())
    assert not any(weight.requires_grad for model in models for weight in model.parameters())
    assert all(same(tensors(m.state_dict()), b) for m, b in zip(models, before, strict=True))
    assert all(
        p.grad is not None and p.grad.any() for p in trainer.distiller.projectors.parameters()
    )


# --- what teachers said before

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
AGAIN = {"distill.views": 1, "train.hard_share": 0.0, "train.steps_per_epoch": 3}


def test_a_plain_clip_is_as_it_was_recorded() -> None:
    """Whatever share of clips is changed before they are frames, it is none of the plain ones."""
    parts = {n for n, f in Augment.model_fields.items() if f.metadata == [Ge(ge=0), Le(le=1)]}
    assert {"speed", "tempo"} <= parts
    assert {f"augment.{n}" for n in parts - {"tract", "room_simulated"}} <= {*PLAIN}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=ON_GPU)])
def test_kept_lessons_give_the_loss_that_teachers_on_line_give(
    tiny_data: Path, home: Workspace, plan: dict[str, Any], device: str
) -> None:
    """An epoch of plain clips, one of a view, the plain one again; students that stand still."""
    changes = {**plan, **AGAIN, "train.epochs": 3, "train.lr": 1e-12}
    kept, live = (trainer_of(tiny_data, home, changes, device) for _ in range(2))
    kept.prepare(home.cache, emit=ignore, control=Control())
    losses = [(kept.step().item(), live.step().item()) for _ in range(9)]
    assert [ours for ours, _ in losses] == pytest.approx([theirs for _, theirs in losses], abs=1e-3)


def test_lessons_are_of_the_clips_that_train_and_of_the_engine_that_augments_them(
    tiny_data: Path,
    home: Workspace,
    plan: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two clips change places between training and validation, and are packed as they were."""
    kept = list[Path]()

    def fill(held: str) -> None:
        manifest = held_for_validation(held, tiny_data, tmp_path / "manifest.csv")
        trainer = trainer_of(manifest, home, {**plan, **AGAIN, "train.steps_per_epoch": 1})
        trainer.prepare(home.cache, emit=ignore, control=Control())
        assert trainer.lessons is not None
        kept.append(trainer.lessons.folder)

    fill("speech-talk1.wav")
    fill("speech-talk6.wav")
    fill("speech-talk1.wav")
    monkeypatch.setattr(engine, "__version__", "0")
    fill("speech-talk1.wav")
    assert kept[0] == kept[2]
    assert len(set(kept)) == 3


def test_filling_goes_on_where_it_was_stopped_and_is_done_once(tmp_path: Path) -> None:
    """Stopped before the fifth of six batches; then the first is asked again for its shape."""
    asked = list[int]()

    def ask(number: int) -> tuple[Lesson, ...]:
        asked.append(number)
        return (Lesson(torch.full((2,), float(number)), (torch.full((2, 3, 4), 0.5),)),)

    def lessons() -> Lessons:
        return Lessons(tmp_path, "key", 6, ask)

    with pytest.raises(Stopped):
        lessons().fill(1.0, emit=ignore, control=Fuse(4))
    kept = lessons()
    kept.fill(1.0, emit=ignore, control=Control())
    assert asked == [0, 1, 2, 3, 0, 4, 5]
    (fifth,) = kept.at(4, torch.device("cpu"))
    assert fifth.logits.tolist() == [4.0, 4.0]
    assert fifth.maps[0].shape == (2, 3, 4)


def test_the_lessons_used_longest_ago_make_room(tmp_path: Path) -> None:
    """Three of 1 kB each and room for 2 kB: the oldest goes, and the kept one is not counted."""
    for age, name in enumerate(("keep", "new", "old", "oldest")):
        folder = tmp_path / f"{PREFIX}{name}"
        folder.mkdir()
        (folder / "0.logits").write_bytes(bytes(1000))
        os.utime(folder, (1000 - age, 1000 - age))
    make_room(tmp_path, 0.002, tmp_path / f"{PREFIX}keep")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{PREFIX}{name}" for name in ("keep", "new", "old")
    }


def lesson(number: int) -> tuple[Lesson, ...]:
    return (Lesson(torch.full((2,), number + 1.0), (torch.full((2, 3, 4), number + 1.0),)),)


def filled(cache: Path, ask: Callable[[int], tuple[Lesson, ...]] = lesson) -> Lessons:
    """The lessons of six batches: fewer than are said to be through before the last one is."""
    lessons = Lessons(cache, "key", 6, ask)
    lessons.fill(1.0, emit=ignore, control=Control())
    return lessons


def said(lessons: Lessons) -> list[float]:
    """What the teacher says first of each batch."""
    cpu = torch.device("cpu")
    return [lessons.at(number, cpu)[0].logits[0].item() for number in range(6)]


@pytest.mark.parametrize("size", [None, 7])
@pytest.mark.parametrize("name", ["0.logits", "0.map0"])
def test_lessons_of_which_a_file_is_gone_or_cut_short_are_asked_anew(
    tmp_path: Path, name: str, size: int | None
) -> None:
    """Nothing says meanwhile that they are there: a kill would leave them full of zeros."""
    folder, trusted = filled(tmp_path).folder, list[bool]()
    (folder / name).unlink() if size is None else os.truncate(folder / name, size)

    def ask(number: int) -> tuple[Lesson, ...]:
        trusted.append((folder / "said.json").exists())
        return lesson(number)

    assert said(filled(tmp_path, ask)) == [1, 2, 3, 4, 5, 6]
    assert trusted[1:] == [False] * 5


KILLED = """
import os, signal, sys
from pathlib import Path
from engine.lessons import make_room

def die(event, args):
    if event == "os.remove":
        removed.append(args)
        if len(removed) == 2:  # which is still there
            os.kill(os.getpid(), signal.SIGKILL)

removed = []
sys.addaudithook(die)
make_room(Path(sys.argv[1]), 0.0, Path())
"""


def test_lessons_whose_removal_was_killed_are_asked_anew(tmp_path: Path) -> None:
    folder = filled(tmp_path).folder
    for number in range(1, 99):  # of other teachers: files are removed in any order
        (folder / f"{number}.logits").touch()
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(folder.iterdir())) == 100
    assert not (folder / "said.json").exists()
    assert said(filled(tmp_path)) == [1, 2, 3, 4, 5, 6]


def test_lessons_that_are_too_large_are_refused_before_anything_is_written(
    tiny_data: Path, home: Workspace, plan: dict[str, Any], tmp_path: Path
) -> None:
    trainer = trainer_of(tiny_data, home, {**plan, **AGAIN, "distill.cache_mb": 0.01})
    with pytest.raises(RecipeError, match=r"over distill\.cache_mb = 0\.01"):
        trainer.prepare(tmp_path, emit=ignore, control=Control())
    assert not list(tmp_path.iterdir())


def test_a_run_on_kept_lessons_resumes_exactly(
    tiny_data: Path, home: Workspace, plan: dict[str, Any]
) -> None:
    changes = {**plan, **AGAIN, "train.checkpoint_every_s": 0.01}
    whole, run = (home.create(tiny_recipe(tiny_data, changes)) for _ in range(2))
    assert PhaseChanged("teachers") in go(whole, home, Control(), until="test")
    go(run, home, Fuse(9))
    go(run, home, Control(), until="test")
    assert_equal_runs(run, whole)


def test_the_report_says_how_a_teacher_did_against_the_baseline(
    tiny_data: Path, home: Workspace, plan: dict[str, Any]
) -> None:
    twin = home.create(tiny_recipe(tiny_data, {"name": "twin"}))
    go(twin, home, Control())
    run = home.create(tiny_recipe(tiny_data, {**plan, "distill.baseline": "twin"}))
    go(run, home, Control(), until="train")
    (first, *_) = json.loads(load(run.last).provenance["teachers"])
    assert first["measure"] == "pauc"
    assert first["better"] == (first["teacher"] > first["baseline"])


def test_a_student_goes_on_learning_from_its_teachers_as_int8(
    tiny_data: Path, home: Workspace, plan: dict[str, Any]
) -> None:
    """Stopped where the fine-tuning begins, it ends with the weights of a run that was not."""
    fine_tuned = {**plan, "train.epochs": 1, "quantize.enabled": True, "quantize.epochs": 1}
    runs = [home.create(tiny_recipe(tiny_data, fine_tuned)) for _ in range(2)]
    events = go(runs[0], home, Control())
    go(runs[1], home, Control(), until="calibrate")
    assert not runs[1].int8.exists()
    go(runs[1], home, Control())
    whole, resumed = (load(run.int8) for run in runs)
    assert whole.quantised
    assert all(torch.equal(whole.weights[name], resumed.weights[name]) for name in whole.weights)
    taught = [event.taught for event in events if isinstance(event, Stepped) and event.step > 5]
    assert taught
    assert all(told and told["features"] > 0 for told in taught)
