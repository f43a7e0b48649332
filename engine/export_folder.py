"""The folder of an export: a manifest that knows every file, and is believed only if all is whole.

The manifest holds the SHA-256 of every other file of the folder, and its own over all the rest of
it: a changed byte anywhere is noticed before anything is run.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from engine.errors import CheckpointError
from engine.files import write_atomic

Kind = Literal["onnx", "onnx-int8"]
VERSION = 1
MANIFEST = "manifest.json"
STUDENT, WINDOW, HOP = "student.onnx", "model.onnx", "stream.onnx"
MAKER = "wakeword-tui"
AGAIN = "copy the whole export again, or export the run again"
Told = dict[str, Any]


def seal(folder: Path, told: Told) -> Told:
    """Write the manifest of a folder, with the hash of every file in it, and give it."""
    paths = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": digest(path)} for path in paths}
    whole = {"version": VERSION, **told, "files": files}
    whole["sha256"] = _own_digest(whole)
    text = json.dumps(whole, indent=1, allow_nan=False) + "\n"
    write_atomic(folder / MANIFEST, text.encode())
    return whole


def export_at(path: Path) -> Path | None:
    """The export that a path names, whole or by a file of it; None where it names none."""
    inside = path.suffix == ".onnx" or path.name == MANIFEST
    folder = path if path.is_dir() else path.parent if inside else None
    if folder is None or not (folder / MANIFEST).is_file():
        return None
    return None if path.suffix == ".onnx" and _is_foreign(folder / MANIFEST) else folder


def _is_foreign(path: Path) -> bool:
    """Whether a file of a manifest's name is of another program."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return not isinstance(told, dict) or not str(told.get("made_by")).startswith(MAKER)


def is_export(folder: Path) -> bool:
    """Whether a folder is an export and nothing else, of any version, whole or not.

    Such a one may be replaced: it holds no file that its manifest does not know.
    """
    try:
        told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        ours = str(told["made_by"]).startswith(MAKER) and "version" in told
        known = {MANIFEST, *told["files"]}
        return ours and all(path.name in known for path in folder.iterdir())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read(folder: Path) -> Told:
    """Read the manifest of an export whose files are all as they were written.

    Raises CheckpointError where anything is changed, missing, outside of the folder, of another
    model, or of a newer version.
    """
    told = _parsed(folder / MANIFEST)
    changed = [name for name in told["files"] if not _is_whole(folder, name, told["files"][name])]
    graphs = {name for name in told["files"] if name.endswith(".onnx")}
    if graphs and graphs <= set(changed):
        raise another_model(folder)
    if changed:
        raise CheckpointError(f"{folder / changed[0]} was changed: its hash does not hold", AGAIN)
    return told


def another_model(folder: Path) -> CheckpointError:
    """What is raised where a manifest and the graphs beside it do not belong together."""
    return CheckpointError(
        f"{folder / MANIFEST} is of another model than the files beside it", AGAIN
    )


def _parsed(path: Path) -> Told:
    """The manifest of a version that is known, with its own hash checked."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        version = told["version"]
        if version > VERSION:
            message = f"{path} is of version {version}, this engine reads {VERSION}"
            raise CheckpointError(message, "update wakeword-tui, or export the run again with it")
        whole = told["sha256"] == _own_digest(told)
        used = [told[part]["file"] for part in ("features", "stream", "golden") if part in told]
        hashes = {name: str(file["sha256"]) for name, file in told["files"].items()}
        names = [str(name) for name in (*hashes, *used)]
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}", AGAIN) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no manifest of an export", AGAIN) from error
    for name in names:
        _refuse_outside(path.parent, name)
    if not whole:
        raise CheckpointError(f"{path} was changed: its hash does not hold", AGAIN)
    return dict(told)


def _refuse_outside(folder: Path, name: str) -> None:
    """Raise CheckpointError for a name that is not that of a file in the folder itself."""
    plain = Path(name).name == name and name not in ("", ".", "..") and "\\" not in name
    if not plain or (folder / name).resolve().parent != folder.resolve():
        message = f"{folder / MANIFEST} names {name!r}, which is no file of its folder"
        raise CheckpointError(message, "do not use an export from a source you do not trust")


def _is_whole(folder: Path, name: str, known: Told) -> bool:
    try:
        return bool(digest(folder / name) == known["sha256"])
    except OSError as error:
        message = f"cannot read {folder / name}: {error.strerror}"
        raise CheckpointError(message, AGAIN) from error


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_digest(told: Told) -> str:
    """The SHA-256 of a manifest without its own."""
    rest = {key: value for key, value in told.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
