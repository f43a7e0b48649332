"""The shape of the house: who may import whom, one importer each, short functions, small files."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine
from engine.recipe_file import fields

ROOT = Path(__file__).parents[1]

# A file imports only files that stand earlier; a new file is one new word here.
PLAIN = [
    "errors", "section", "recipe_distill", "recipe", "recipe_file", "events", "files", "bus",
    "lock", "runs", "prune", "jobs", "audio", "source", "laptop", "portaudio", "pipe", "sound",
    "microphone", "judge", "judge_body", "manifest", "acoustics", "phonetics", "sentences",
    "espeak_helper", "espeak", "programs", "synth", "words", "prompts", "take", "record", "sitting",
    "queue_file", "queue_store", "recent", "dataset", "mined", "health", "detector", "metrics",
    "report", "flips", "cohorts", "outcomes", "compare", "export_folder", "trials", "space",
    "study_file", "study",
]  # fmt: skip
TORCH = [
    "device", "features", "rooms", "pitch", "augment", "spans", "batches", "ahead", "models",
    "quantize", "losses", "optimiser", "checkpoint", "teachers", "distill", "lessons", "onnx_graph",
]  # fmt: skip
VERBS = [
    "scorer",
    "local_judge",
    "hard",
    "cost",
    "heard",
    "evaluate",
    "int8",
    "trainer",
    "remaining",
    "pretrain",
    "train",
    "agree",
    "round_off",
    "export_manifest",
    "export",
    "preview",
    "search",
    "finder",
    "forwarding",
    "cascade",
    "verify",
    "mine",
    "mine_run",
    "listen",
    "judge_server",
]
ORDER = [*PLAIN, *TORCH, *VERBS]

ONLY_IMPORTER = {
    "pydantic": "engine/section.py engine/recipe_distill.py engine/recipe.py engine/recipe_file.py",
    "tomli_w": "engine/recipe_file.py",
    "soundfile": "engine/audio.py",
    "sounddevice": "engine/portaudio.py",
    "scipy.signal": "engine/audio.py",
    "scipy.special": "engine/metrics.py",
    "espeakng_loader": "engine/espeak_helper.py",
    "torchaudio.transforms": "engine/pitch.py",
    "onnx": "engine/onnx_graph.py",
    "onnxscript": "engine/onnx_graph.py",
    "onnxruntime": "engine/scorer.py",
    "matplotlib": "wakeword_tui/plots.py",
    "optuna": "engine/study.py engine/study_file.py",
    "sqlalchemy": "engine/study_file.py",
    "pynvml": "wakeword_tui/meter.py",
    "sqlite3": "engine/queue_file.py",
    "transformers": "engine/models/wav2vec2.py",
    "httpx": "engine/judge.py",
    "starlette": "engine/judge_server.py",
    "uvicorn": "engine/judge_server.py",
}
CATCHES_EVERYTHING = {"engine/jobs.py", "wakeword_tui/app.py", "wakeword_tui/__main__.py"}


def sources(package: str) -> Iterator[Path]:
    return (ROOT / package).rglob("*.py")


FILES = sorted([*sources("engine"), *sources("wakeword_tui")])
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in FILES}


def imports(tree: ast.Module) -> set[str]:
    """Every module that a file imports anywhere, `from a import b` as `a.b`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def of(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def engine_module(name: str) -> str:
    """`engine/models/tinyconv.py` and `engine.models.build` are both of `models`."""
    return name.removesuffix(".py").replace("/", ".").split(".")[1]


def test_the_imported_engine_is_ours() -> None:
    assert Path(engine.__file__).parent == ROOT / "engine"


def test_every_engine_file_has_its_place() -> None:
    there = {engine_module(name) for name in TREES if name.startswith("engine/")}
    assert there - {"__init__"} == set(ORDER)
    assert len(ORDER) == len(set(ORDER))


def test_the_map_of_the_package_shows_the_same_order() -> None:
    words = (engine.__doc__ or "").partition("plain")[2].split()
    assert [word for word in words if word in ORDER] == ORDER


def test_the_architecture_page_tells_them_in_order() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE) == ORDER


def test_the_architecture_page_names_every_file_of_the_app() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    own = [path.name for path in (ROOT / "wakeword_tui").glob("[a-z]*.py")]
    folders = [f"{path.parent.name}/" for path in (ROOT / "wakeword_tui").glob("*/__init__.py")]
    assert not [name for name in [*own, *folders] if f"`{name}`" not in page]


@pytest.mark.parametrize("name", [name for name in TREES if name.startswith("engine/")])
def test_engine_files_import_only_earlier_ones(name: str) -> None:
    here = engine_module(name)
    allowed = ORDER if here == "__init__" else ORDER[: ORDER.index(here) + 1]
    ours = {engine_module(found) for found in imports(TREES[name]) if found.startswith("engine.")}
    late = ours - set(allowed) - {"__version__"}
    assert not late, f"{name} imports {late}, which come later"


def test_engine_files_import_no_screen() -> None:
    for name in (name for name in TREES if name.startswith("engine/")):
        found = imports(TREES[name])
        assert not any(of(f, "wakeword_tui") or of(f, "textual") for f in found), name


def test_plain_files_never_import_torch() -> None:
    for name in (f"engine/{module}.py" for module in PLAIN):
        found = imports(TREES[name])
        assert not any(of(f, "torch") or of(f, "torchaudio") for f in found), name


def test_plain_modules_load_without_torch_or_textual() -> None:
    """What the tree of imports promises, seen in a fresh interpreter."""
    modules = ", ".join(f"engine.{name}" for name in PLAIN if name != "espeak_helper")
    code = f"import sys, {modules}; sys.exit({{'torch', 'textual'}} & sys.modules.keys() or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("package", ONLY_IMPORTER)
def test_third_parties_have_one_importer(package: str) -> None:
    importers = {name for name, tree in TREES.items() if any(of(f, package) for f in imports(tree))}
    assert importers <= set(ONLY_IMPORTER[package].split())


def test_every_recipe_field_is_read() -> None:
    read = {
        node.attr
        for name, tree in TREES.items()
        if name not in ("engine/recipe.py", "engine/recipe_distill.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    unread = [path for path, _ in fields() if path.rpartition(".")[2] not in read]
    assert not unread, f"nothing reads {unread}"


def test_functions_are_short() -> None:
    long = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (node.end_lineno or 0) - node.lineno >= 50
    ]
    assert not long


def test_files_are_small() -> None:
    assert not [path for path in FILES if len(path.read_text().splitlines()) > 400]


def test_only_the_front_doors_and_the_job_catch_everything() -> None:
    catching = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        if node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception")
    }
    assert catching <= CATCHES_EVERYTHING
