"""What this program never does: unpickle, run a shell, leave its folder, tell a secret."""

import ast
import hashlib
import io
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sqlalchemy.exc import OperationalError
from tiny import ignore, run_tiny

import engine
from engine import audio
from engine.checkpoint import HASH_BYTES, load
from engine.dataset import pack, read
from engine.errors import CheckpointError, DataError, WakewordError
from engine.health import import_folder
from engine.jobs import Control
from engine.outcomes import Outcomes
from engine.recipe import Data, Recipe
from engine.recipe_file import override
from engine.study_file import reached

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "engine").rglob("*.py"), *(ROOT / "wakeword_tui").rglob("*.py")])
UNPICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
ERROR = "UnpicklingError"  # an error may be caught


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call, by its dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and [a.name for a in node.names] != [ERROR]:
            yield (node.module or "").split(".")[0]


def keyword(call: ast.Call, name: str) -> object:
    given = {one.arg: one.value for one in call.keywords}
    return ast.literal_eval(given[name]) if name in given else None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_neither_unpickles_nor_runs_a_shell(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not UNPICKLES & {*imports(tree)}
    for name, call in calls(tree):
        assert name not in ("eval", "exec", "os.system", "os.popen", "subprocess.getoutput"), name
        assert not name.endswith((".extractall", "unpack_archive")), name
        if name.startswith("subprocess."):
            assert not keyword(call, "shell"), f"{path}: a shell"
            assert not isinstance(call.args[0], ast.Constant | ast.JoinedStr), f"{path}: a string"
        if name == "torch.load":
            assert keyword(call, "weights_only") is True
        if name == "np.load":
            assert keyword(call, "allow_pickle") is False


class Bomb:
    """What a pickle that is trusted would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("exploded"),))  # type: ignore[return-value]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_checkpoint_with_code_in_it_is_refused_and_does_not_run(here: Path) -> None:
    """Its hash is right: whoever writes the file writes the hash."""
    file = io.BytesIO()
    torch.save({"version": 2, "recipe": Bomb()}, file)
    data = file.getvalue()
    path = here / "best.ckpt"
    path.write_bytes(hashlib.sha256(data).hexdigest().encode() + data)
    with pytest.raises(CheckpointError, match="something else") as caught:
        load(path)
    assert caught.value.hint
    assert not (here / "exploded").exists()
    assert HASH_BYTES == 64


@pytest.mark.parametrize("content", [b"", b"not a zip", pickle.dumps([1, 2]), pickle.dumps({})])
def test_a_checkpoint_that_holds_something_else_is_refused(here: Path, content: bytes) -> None:
    path = here / "best.ckpt"
    path.write_bytes(hashlib.sha256(content).hexdigest().encode() + content)
    with pytest.raises(CheckpointError):
        load(path)


def test_packed_audio_with_code_in_it_is_made_anew(here: Path, tiny_data: Path) -> None:
    settings = Data(manifest=tiny_data / "manifest.csv", wakeword="beep")
    packed = pack(read(settings), here / "cache", emit=ignore, control=Control())
    np.save(packed.folder / "audio.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    again = pack(read(settings), here / "cache", emit=ignore, control=Control())
    assert again.audio.dtype == np.int16
    assert not (here / "exploded").exists()


def test_outcomes_with_code_in_them_are_refused(here: Path) -> None:
    path = here / "outcomes.npz"
    np.savez(path, version=np.array([Bomb()], dtype=object))
    with pytest.raises(DataError):
        Outcomes.read(path)
    assert not (here / "exploded").exists()


@pytest.mark.parametrize("label", ["../up", "/etc", "a/b", "..", ".", "", "a\\b", " x", ".hidden"])
def test_an_import_stays_in_its_folder(here: Path, label: str) -> None:
    audio.write(here / "a.wav", np.full(8000, 0.1, dtype=np.float32))
    with pytest.raises(DataError, match="cannot be a label"):
        import_folder(here / "a.wav", here / "out", label, emit=ignore, control=Control())
    assert [path.name for path in here.iterdir()] == ["a.wav"]


def test_names_of_recordings_and_their_folders_stay_names(here: Path) -> None:
    """A folder named like a path of CSV, and a recording with a line end in its name."""
    odd = here / "from" / 'a,"b'
    odd.mkdir(parents=True)
    audio.write(odd / "x\n..,y.wav", np.full(8000, 0.1, dtype=np.float32))
    import_folder(here / "from", here / "out", "hey", emit=ignore, control=Control())
    (clip,) = read(Data(manifest=here / "out" / "manifest.csv", wakeword="hey"))
    assert clip.path.parent == here / "out" / "hey"
    assert clip.path.exists()
    assert clip.group == 'a,"b'


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "/x", "", "a b", "-x", "x\n"])
def test_a_name_of_a_run_is_no_path(name: str) -> None:
    with pytest.raises(WakewordError):
        override(Recipe(), {"name": name})


def test_a_password_of_a_database_is_not_told() -> None:
    with pytest.raises(DataError) as caught, reached("mysql://me:secret@box/studies"):
        raise OperationalError("select", {}, Exception("no route to host"))
    assert "secret" not in str(caught.value)
    assert "box/studies" in str(caught.value)


def test_nothing_of_the_environment_is_written_into_a_run(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run leaves tells of no user and no key: it is sent around."""
    values = {"USER": "somebody-unlikely", "SOME_TOKEN": "s3cr3t-value"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    trained = run_tiny(tiny_data, tmp_path / "workspace", {})
    told = f"{trained.run.report.read_text()}{trained.events}{load(trained.run.best)}"
    assert engine.__version__ in told
    assert not [value for value in values.values() if value in told]
