"""Teachers as models, how they are trained, and what keeps one from teaching."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from taught import QUICK, TEACHERS, public_model, teach
from test_train import assert_equal_runs, go
from tiny import Fuse, hiss, ignore, run_tiny, tiny_recipe
from torch import nn

from engine.checkpoint import load, save
from engine.errors import CheckpointError, RecipeError
from engine.features import LogMel
from engine.jobs import Control
from engine.models import begin, blocks_of, build, checkpoint_blocks, example, layer_rates, slide
from engine.optimiser import optimiser
from engine.preview import hindrances, preview, timing
from engine.recipe import Recipe
from engine.recipe_file import dump, loads, override
from engine.recipe_file import load as load_recipe
from engine.report import Report
from engine.runs import Run, Workspace
from engine.scorer import Scorer
from engine.teachers import TWIN, Taps, faults, qualify

RECIPES = Path(__file__).parents[1] / "recipes"
KINDS = tuple(TEACHERS)
ALIGNED = {"distill__features": 1.0}
SMALL: dict[str, Any] = {"model.width": 0.25, "model.blocks": 3, "model.dropout": 0.0}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return public_model(tmp_path_factory.mktemp("public"))


@pytest.fixture(scope="module")
def conformer(tiny_data: Path, home: Workspace) -> Path:
    return teach(tiny_data, home.root, "conformer")


def recipe_of(kind: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    return override(Recipe(), {**SMALL, "model.arch": kind, **(changes or {})})


def heard(model: nn.Module, recipe: Recipe, batch: int = 2) -> torch.Tensor:
    shape = example(model, recipe, batch).shape
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# --- the models


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_gives_one_logit_per_window_and_its_blocks(kind: str) -> None:
    recipe = recipe_of(kind)
    model = build(recipe).eval()
    x = heard(model, recipe, 3)
    taps = Taps(model, (1, 3))
    assert model(x).shape == (3,)
    maps, layers = taps.take(), model.embed(x)  # type: ignore[operator]
    assert all(torch.equal(maps[n], layers[f"block{n - 1}"]) for n in (1, 3))
    assert layers["block2"].shape == (3, 32, 36 if kind == "conformer" else 74)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight_with_and_without_checkpointing(kind: str) -> None:
    recipe = recipe_of(kind)
    torch.manual_seed(0)
    plain, frugal = build(recipe), build(recipe)
    frugal.load_state_dict(plain.state_dict())
    checkpoint_blocks(frugal)
    for model in (plain, frugal):
        model(heard(model, recipe)).square().sum().backward()
    for name, weight in plain.named_parameters():
        other = frugal.get_parameter(name).grad
        assert weight.grad is not None and weight.grad.any(), name
        assert other is not None and torch.equal(weight.grad, other), name


def test_no_block_of_a_teacher_has_a_batchnorm() -> None:
    """Under gradient checkpointing it would see each batch twice."""
    models = [build(recipe_of(kind)) for kind in KINDS]
    norms = nn.modules.batchnorm._BatchNorm
    assert not any(isinstance(m, norms) for model in models for m in model.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_scored_as_its_windows_are(kind: str) -> None:
    recipe = recipe_of(kind)
    model = build(recipe).eval()
    one = heard(model, recipe, 1)[0]
    stream = torch.cat([one, one, one], dim=-1)
    window, hop = one.shape[-1], one.shape[-1] // 3
    with torch.inference_mode():
        windows = torch.stack([stream[..., i : i + window] for i in range(0, 2 * window, hop)])
        got = slide(model, stream, window, hop)
        assert torch.allclose(got[: len(windows)], model(windows), atol=1e-4)


@pytest.mark.parametrize("sizes", [[1, 40_000], [7, 30_000, 3, 9_990], [800] * 50])
def test_samples_are_scored_alike_in_blocks_of_any_size(sizes: list[int]) -> None:
    """2.5 s, of which 1.5 s are a window, give a score each 80 ms: 1 + 1 s / 80 ms = 13."""
    recipe = recipe_of("wav2vec2", {"model.blocks": 1})
    scorer = Scorer(LogMel(recipe.features), build(recipe))
    audio = hiss(2.5, 0)
    whole = scorer.score(audio)
    scorer.reset()
    parts = np.split(audio, np.cumsum(sizes)[:-1])
    got = np.concatenate([scorer.push(part) for part in parts])
    assert len(whole) == 13
    assert np.allclose(got, whole, atol=1e-5)


def test_a_wav2vec2_hears_the_shape_of_a_window_and_neither_level_nor_offset() -> None:
    recipe = recipe_of("wav2vec2")
    model = build(recipe).eval()
    x = heard(model, recipe)
    assert torch.allclose(model(0.1 * x + 0.3), model(x), atol=1e-3)


def test_pretrained_weights_are_those_of_the_folder(public: Path) -> None:
    from transformers import Wav2Vec2Model

    recipe = recipe_of("wav2vec2", {"model.pretrained": str(public)})
    model = build(recipe)
    begin(model, recipe)
    theirs = Wav2Vec2Model.from_pretrained(public, local_files_only=True).state_dict()
    ours = model.get_submodule("encoder").state_dict()
    assert theirs.keys() - ours.keys() == {"masked_spec_embed"}  # nothing is masked here
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert len(blocks_of(model)) == 3


def test_only_the_top_blocks_and_the_head_are_trained(public: Path) -> None:
    changes = {"model.pretrained": str(public), "model.trained_blocks": 1}
    model = build(recipe_of("wav2vec2", changes))
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    tops = ("encoder.encoder.layers.2.", "pool.", "head.")
    assert trained
    assert all(name.startswith(tops) for name in trained)


def test_each_block_learns_slower_than_the_one_above() -> None:
    """Of three blocks with 0.5: 1, 0.5 and 0.25, what is below them 0.125, the head 1."""
    recipe = recipe_of("conformer", {"train.layer_decay": 0.5})
    model = build(recipe)
    rates = layer_rates(model, 0.5)
    found = {name.split(".weight")[0]: rates[w] for name, w in model.named_parameters()}
    assert (found["stem.join"], found["head"], found["pool"]) == (0.125, 1.0, 1.0)
    assert [found[f"blocks.{n}.norm"] for n in range(3)] == [0.25, 0.5, 1.0]
    groups = optimiser(model, None, recipe, torch.device("cpu")).param_groups
    assert sorted({group["rate"] for group in groups}) == [0.125, 0.25, 0.5, 1.0]


def test_a_public_model_that_is_not_here_is_a_sentence_with_what_to_do() -> None:
    with pytest.raises(CheckpointError, match="there is no Wav2Vec2 at /no/such") as caught:
        build(recipe_of("wav2vec2", {"model.pretrained": "/no/such/folder"}))
    assert "model.safetensors" in caught.value.hint


def test_where_nothing_may_be_fetched_a_public_model_is_not_fetched_yet() -> None:
    name = {"model.pretrained": "facebook/no-such-model", "model.local_files_only": True}
    with pytest.raises(
        CheckpointError, match="facebook/no-such-model is not fetched yet"
    ) as caught:
        build(recipe_of("wav2vec2", name))
    assert "hf download facebook/no-such-model" in caught.value.hint


FETCH = """
from engine.errors import CheckpointError
from engine.models import build
from engine.recipe import Recipe
from engine.recipe_file import override

name = {"model.arch": "wav2vec2", "model.pretrained": "facebook/wav2vec2-base"}
try:
    build(override(Recipe(), name))
except CheckpointError as error:
    print(error.message)
"""


def fetched(endpoint: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Have another process, which reads the address when it begins, fetch a model from a hub."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache)}
    command = [sys.executable, "-c", FETCH]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


class Broken(BaseHTTPRequestHandler):
    """A hub that answers, and always that it cannot."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        self.send_error(503)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_a_hub_out_of_reach_is_asked_once_and_told_in_a_sentence(tmp_path: Path) -> None:
    sentence = "there is no Wav2Vec2 at facebook/wav2vec2-base, and none could be fetched"
    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        broken = fetched(address, tmp_path)
        server.shutdown()
    gone = fetched(address, tmp_path)
    assert [one.stdout for one in (broken, gone)] == [f"model.pretrained: {sentence}\n"] * 2
    assert [one.stderr for one in (broken, gone)] == ["", ""]
    assert Broken.asked == ["/facebook/wav2vec2-base/resolve/main/config.json"]


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_public_weights_without_safetensors_are_read_as_weights_alone(
    public: Path, tmp_path: Path
) -> None:
    from transformers import Wav2Vec2Model

    folder = tmp_path / "older"
    folder.mkdir()
    shutil.copy(public / "config.json", folder)
    theirs = Wav2Vec2Model.from_pretrained(public, local_files_only=True).state_dict()
    recipe = recipe_of("wav2vec2", {"model.pretrained": str(folder)})
    torch.save(theirs, folder / "pytorch_model.bin")
    begin(model := build(recipe), recipe)
    name, weight = next(iter(model.get_submodule("encoder").state_dict().items()))
    assert torch.equal(weight, theirs[name])
    torch.save(theirs | {"more": Touches(tmp_path / "run")}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="there is no Wav2Vec2 at"):
        begin(build(recipe), recipe)
    assert not (tmp_path / "run").exists()


def test_a_wav2vec2_that_is_to_become_int8_is_a_recipe_error_before_it_is_trained() -> None:
    with pytest.raises(RecipeError, match="does not become INT8"):
        build(recipe_of("wav2vec2", {"quantize.enabled": True}))


def test_more_trained_blocks_than_there_are_is_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match="5 of 3 blocks"):
        build(recipe_of("wav2vec2", {"model.trained_blocks": 5}))


def test_wav2vec2_takes_no_pcen() -> None:
    with pytest.raises(RecipeError, match=r'no features\.normalise = "both"'):
        build(recipe_of("wav2vec2", {"features.normalise": "both"}))


# --- trained here


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_is_trained_measured_and_resumed_as_a_student_is(
    tiny_data: Path, home: Workspace, public: Path, kind: str
) -> None:
    changes = {**TEACHERS[kind], **QUICK, "train.checkpoint_every_s": 0.01}
    changes |= {"model.pretrained": str(public)} if kind == "wav2vec2" else {}
    whole, run = (home.create(tiny_recipe(tiny_data, changes)) for _ in range(2))
    go(whole, home, Control())
    go(run, home, Fuse(2))
    go(run, home, Control(), until="test")
    assert_equal_runs(run, whole)
    report = Report.from_json(whole.report.read_text())
    assert report.test.clips == 2
    assert (whole.export / "model.onnx").exists() == (kind == "conformer")


def test_a_teachers_checkpoint_needs_nothing_but_itself(
    tiny_data: Path, tmp_path: Path, home: Workspace
) -> None:
    """The folder that its weights came from is gone, and its size stands in no recipe."""
    folder = public_model(tmp_path / "public")
    path = teach(tiny_data, home.root, "wav2vec2", {"model.pretrained": str(folder)})
    for file in folder.iterdir():
        file.unlink()
    checkpoint = load(path)
    assert len(blocks_of(checkpoint.model())) == 3
    assert checkpoint.threshold().target_fah == 1.0
    assert checkpoint.provenance["sample_rate_hz"] == "16000"


# --- what keeps one from teaching


def wanting(data: Path, taught: Path, **changes: Any) -> Recipe:
    """A recipe with a Conformer; `a__b` is `a.b` of the recipe, other names are of the teacher."""
    teacher = {"kind": "conformer", "path": str(taught)}
    settings = {key.replace("__", "."): value for key, value in changes.items()}
    own = {key: settings.pop(key) for key in list(settings) if "." not in key}
    return tiny_recipe(data, {"distill.teachers": [teacher | own], **settings})


def test_a_good_teacher_has_no_fault(tiny_data: Path, home: Workspace, conformer: Path) -> None:
    recipe = wanting(tiny_data, conformer, align_layers=[1, 2], distill__features=1.0)
    assert faults(recipe, home) == ()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"path": "/no/such.ckpt"}, "path: cannot read /no/such.ckpt"),
        ({"kind": "wav2vec2"}, "kind: wav2vec2, but the checkpoint is a conformer"),
        ({"align_layers": [1]}, "align_layers: distill.features is 0"),
        ({"align_layers": [1, 14], **ALIGNED}, "align_layers[1]: layer 14 of 2"),
        (
            {"align_layers": [1, 2], "student_layers": [5, 6], **ALIGNED},
            "student_layers[1]: layer 6 of 5",
        ),
        (
            {"align_layers": [1, 2], "student_layers": [1], **ALIGNED},
            "student_layers: 1 layers for 2 align_layers",
        ),
        ({"data__wakeword": "boop"}, 'path: it listens for "beep", the recipe for "boop"'),
        ({"data__fold": 2}, "path: it was trained on voices that this fold tests on"),
        (
            {"features__window_ms": 1200},
            "path: it hears 1.50 s for a score, the recipe gives 1.20",
        ),
    ],
)
def test_every_fault_of_a_teacher_is_named(
    tiny_data: Path, home: Workspace, conformer: Path, changes: dict[str, Any], fault: str
) -> None:
    recipe = wanting(tiny_data, conformer, **changes)
    (found,) = faults(recipe, home)
    assert found.startswith(f"distill.teachers[0].{fault}")


def test_a_run_teaches_once_it_is_finished(
    tiny_data: Path, home: Workspace, conformer: Path, tmp_path: Path
) -> None:
    run = Run(conformer.parents[1])
    assert faults(wanting(tiny_data, run.path), home) == ()
    copied = Run(shutil.copytree(run.path, tmp_path / run.name))
    copied.report.unlink()
    (found,) = faults(wanting(tiny_data, copied.path), home)
    assert found == f"distill.teachers[0].path: {run.name} is not finished"


def test_a_damaged_teacher_is_named_before_the_first_step(
    tiny_data: Path, home: Workspace, conformer: Path, tmp_path: Path
) -> None:
    raw = bytearray(conformer.read_bytes())
    raw[-100] ^= 1
    (tmp_path / "bad.ckpt").write_bytes(raw)
    run = home.create(wanting(tiny_data, tmp_path / "bad.ckpt"))
    with pytest.raises(RecipeError, match=r"teachers\[0\]\.path: .* its hash does not hold"):
        go(run, home, Control())
    assert not run.last.exists()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"distill__features": 1.0}, "distill.features: no teacher has align_layers"),
        ({"distill__views": 2}, "distill.views: hard negatives change the batches"),
        (
            {"distill__views": 2, "train__hard_share": 0.0, "augment__snr_schedule": "linear"},
            "distill.views: the views that are repeated are as hard as the last epoch",
        ),
        ({"distill__baseline": "nobody"}, "distill.baseline: no run 'nobody'"),
    ],
)
def test_faults_of_the_whole_are_named(
    tiny_data: Path, home: Workspace, conformer: Path, changes: dict[str, Any], fault: str
) -> None:
    (found,) = faults(wanting(tiny_data, conformer, **changes), home)
    assert found.startswith(fault)


def measured_as(source: Path, to: Path, **told: Any) -> None:
    """Copy a checkpoint as if it had done otherwise on validation."""
    checkpoint = load(source)
    validation = replace(checkpoint.validated(), **told).to_json()
    save(to, replace(checkpoint, validation=validation))


def twin(data: Path, root: Path, best: Path, changes: Mapping[str, Any] | None = None) -> Run:
    """A run called twin as far as a baseline is looked at; of its numbers those of `best`."""
    run = Workspace(root).create(tiny_recipe(data, {"name": "twin", **(changes or {})}))
    shutil.copy(best, run.best)
    run.report.write_text('{"test": {}}')
    return run


def test_a_baseline_that_is_not_finished_is_named(
    tiny_data: Path, conformer: Path, tmp_path: Path
) -> None:
    twin(tiny_data, tmp_path, conformer).report.unlink()
    (found,) = faults(wanting(tiny_data, conformer, distill__baseline="twin"), Workspace(tmp_path))
    assert found == "distill.baseline: 001-twin is not finished"


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({"data.train_sources": ["/more"]}, "data.train_sources"),
        ({"data.fold": 1, "model.width": 0.5}, "data.fold"),
        ({"features.hop_ms": 40}, "features.hop_ms"),
        ({"model.width": 0.5}, "model.width"),
        ({"train.epochs": 1, "augment.noise": 0.1}, ""),
    ],
)
def test_a_baseline_is_the_twin_of_the_student_however_it_was_trained(
    tiny_data: Path, conformer: Path, tmp_path: Path, changes: dict[str, Any], other: str
) -> None:
    twin(tiny_data, tmp_path, conformer, changes)
    recipe = wanting(tiny_data, conformer, distill__baseline="twin")
    fault = f"distill.baseline: 001-twin is no twin: it has another {other}"
    assert faults(recipe, Workspace(tmp_path)) == ((fault,) if other else ())


def test_the_recipes_of_the_student_and_of_its_twin_are_alike() -> None:
    taught, alone = (load_recipe(RECIPES / f"{name}.toml") for name in ("distill", "tinyconv"))
    assert all(getattr(taught, section) == getattr(alone, section) for section in TWIN)


def test_a_teacher_that_was_held_against_no_run_stops_the_training(
    tiny_data: Path, home: Workspace, conformer: Path
) -> None:
    with pytest.raises(RecipeError, match="held against no run") as caught:
        qualify(wanting(tiny_data, conformer), home)
    assert "distill.baseline" in caught.value.hint


def test_a_teacher_no_better_than_the_twin_stops_the_training(
    tiny_data: Path, tmp_path: Path, conformer: Path
) -> None:
    """Held against itself it is as good, and no better."""
    home = Workspace(tmp_path)
    run_tiny(tiny_data, tmp_path, {**TEACHERS["conformer"], **QUICK, "name": "twin"})
    recipe = wanting(tiny_data, conformer, distill__baseline="twin")
    with pytest.raises(RecipeError, match="is not better than the baseline: pauc"):
        qualify(recipe, home)
    allowed = override(recipe, {"distill.allow_unqualified": True})
    (held,) = qualify(allowed, home)
    assert (held.better, held.teacher) == (False, held.baseline)


def test_misses_are_held_against_each_other_at_the_target_of_the_recipe(
    tiny_data: Path, conformer: Path, tmp_path: Path
) -> None:
    """At 1 FAH a tenth and a fifth are missed, whatever is at the thresholds that were stored."""
    wise = {"det": [[0.05, 0.4], [1.0, 0.1]], "frr": 0.9}
    measured_as(conformer, tmp_path / "wise.ckpt", **wise, hours=20.0)
    run, home = twin(tiny_data, tmp_path, conformer), Workspace(tmp_path)
    measured_as(conformer, run.best, det=[[1.0, 0.2], [1.05, 0.0]], frr=0.0, hours=20.0)
    recipe = wanting(tiny_data, tmp_path / "wise.ckpt", distill__baseline="twin")
    (held,) = qualify(recipe, home)
    assert (held.measure, held.teacher, held.baseline, held.better) == ("frr", 0.1, 0.2, True)


def test_where_one_side_has_too_few_hours_ranks_are_compared_over_equal_rates(
    tiny_data: Path, conformer: Path, tmp_path: Path
) -> None:
    measured_as(conformer, tmp_path / "wise.ckpt", pauc=0.9, hours=20.0)
    run, home = twin(tiny_data, tmp_path, conformer), Workspace(tmp_path)
    measured_as(conformer, run.best, pauc=0.8, hours=9.9)
    recipe = wanting(tiny_data, tmp_path / "wise.ckpt", distill__baseline="twin")
    (held,) = qualify(recipe, home)
    assert (held.measure, held.teacher, held.baseline, held.better) == ("pauc", 0.9, 0.8, True)
    measured_as(conformer, run.best, pauc=0.8, hours=9.9, max_fpr=0.1)
    with pytest.raises(RecipeError, match=r"pAUC is up to false-positive rates of 0\.01 and 0\.1"):
        qualify(recipe, home)


def test_one_recipe_names_the_teachers_of_all_folds_and_a_run_keeps_those_that_it_found(
    tmp_path: Path,
) -> None:
    """1000 is newer than 999, and what is newer still comes too late."""
    home, runs = Workspace(tmp_path / "home"), tmp_path / "home" / "runs"
    for name in ("998-wise-f0", "999-wise-f1", "1000-wise-f1"):
        (runs / name).mkdir(parents=True)
    text = '[[distill.teachers]]\nkind = "conformer"\npath = "home/runs/*-wise-f{fold}"'
    run = home.create(override(loads(text, tmp_path), {"data.fold": 1}))
    (runs / "1002-wise-f1").mkdir()
    (wanted,) = run.recipe().distill.teachers
    assert wanted.path == runs / "1000-wise-f1"


def test_a_recipe_that_names_its_twin_can_be_begun_as_the_preview_says(
    tiny_data: Path, conformer: Path, tmp_path: Path
) -> None:
    run, home = twin(tiny_data, tmp_path, conformer), Workspace(tmp_path)
    measured_as(conformer, run.best, pauc=0.1)
    assert hindrances(wanting(tiny_data, conformer, distill__baseline="twin"), home) == ()


def test_a_teacher_of_other_rates_may_be_allowed_unqualified(
    tiny_data: Path, conformer: Path, tmp_path: Path
) -> None:
    run, home = twin(tiny_data, tmp_path, conformer), Workspace(tmp_path)
    measured_as(conformer, run.best, max_fpr=0.1)
    settings = {"distill__baseline": "twin", "distill__allow_unqualified": True}
    (held,) = qualify(wanting(tiny_data, conformer, **settings), home)
    assert (held.baseline, held.better) == (None, False)


@pytest.mark.parametrize("changes", [{}, {"data.fold": 3}, {"data.sources": ["/more"]}])
def test_a_teacher_that_was_validated_on_other_clips_is_not_compared(
    tiny_data: Path, conformer: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Another folder, another fold of it, or more than the student's: its numbers are of those."""
    run, home, best = twin(tiny_data, tmp_path, conformer), Workspace(tmp_path), load(conformer)
    measured_as(conformer, run.best, pauc=0.1)
    elsewhere = {} if "data.sources" in changes else {"data.manifest": "/elsewhere"}
    made = dump(override(best.settings(), elsewhere | changes))
    save(tmp_path / "other.ckpt", replace(best, recipe=made))
    recipe = wanting(tiny_data, tmp_path / "other.ckpt", distill__baseline="twin")
    assert faults(recipe, home) == ()
    with pytest.raises(RecipeError, match="was validated on other data, or another fold"):
        qualify(recipe, home)
    (held,) = qualify(override(recipe, {"distill.allow_unqualified": True}), home)
    assert (held.baseline, held.better) == (None, False)


def test_a_preview_tells_what_would_stop_the_training(
    tiny_data: Path, home: Workspace, conformer: Path
) -> None:
    recipe = wanting(tiny_data, conformer)
    (why,) = hindrances(recipe, home)
    assert why.startswith("the conformer teacher was held against no run; name a run without")
    (fault,) = hindrances(override(recipe, {"data.wakeword": "boop"}), home)
    assert fault.startswith("distill.teachers[0].path: it listens for")
    assert hindrances(override(recipe, {"distill.allow_unqualified": True}), home) == ()
    found = preview([recipe, recipe], home, emit=ignore, control=Control())
    assert (found.training_s, found.why) == (None, why)


def test_student_and_teachers_are_timed_apart_and_lessons_weighed(
    tiny_data: Path, home: Workspace, conformer: Path
) -> None:
    """Of 8 clips a logit and a map of 48 channels by 36 frames, two bytes each, in 15 batches."""
    settings = {"distill__allow_unqualified": True, "align_layers": [1], "distill__features": 1.0}
    online = wanting(tiny_data, conformer, **settings)
    pace = timing(online, home.cache, control=Control(), lasts_s=0.01)
    assert pace.asked_per_s > 0
    assert pace.lessons_mb == 0
    kept = override(online, {"distill.views": 2, "train.hard_share": 0.0})
    pace = timing(kept, home.cache, control=Control(), lasts_s=0.01)
    assert pace.lessons_mb == pytest.approx(15 * 8 * 2 * (1 + 48 * 36) / 1e6)
    assert not [*home.cache.glob("lessons-*")]


def test_paths_of_teachers_are_relative_to_the_recipe(tmp_path: Path) -> None:
    text = """
[model]
pretrained = "./public"
[distill]
baseline = "twin"
[[distill.teachers]]
path = "one.ckpt"
[[distill.teachers]]
kind = "wav2vec2"
path = "two.ckpt"
"""
    recipe = loads(text, tmp_path)
    found = [one.path for one in recipe.distill.teachers]
    assert found == [tmp_path / "one.ckpt", tmp_path / "two.ckpt"]
    assert recipe.model.pretrained == str(tmp_path / "public")
    assert recipe.distill.baseline == "twin"
