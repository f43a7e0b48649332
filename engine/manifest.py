"""Where clips come from: a `manifest.csv`, or folders named after what is in them.

A manifest has the columns `path,label,group[,take,split,start_s,end_s,source,licence]` in any
order; paths are relative to it. Without one, `positive/ negative/ streams/ noise/ rir/` hold audio,
with one sub-folder per speaker where known.
"""

import csv
import hashlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from engine.audio import SUFFIXES
from engine.errors import DataError
from engine.files import alone, disk_error, write_atomic

Split = Literal["train", "validation", "test"]

HARD_NEGATIVE = "hard_negative"
WORDLESS: frozenset[str] = frozenset({"speech", "noise", "rir", "false_trigger", HARD_NEGATIVE})
UNMEASURED: frozenset[str] = frozenset({"false_trigger", HARD_NEGATIVE})
FOLDS = 5
COLUMNS = ("path", "label", "group", "take", "split", "start_s", "end_s", "source")
FOLDERS = {"negative": "negative", "streams": "speech", "noise": "noise", "rir": "rir"}


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording and what a manifest says of it; `start_s` to `end_s` is where its word is.

    `take` names the recording that this is a copy of, unique among manifests; `group` its
    speaker, session, file or room.
    """

    path: Path
    label: str
    group: str
    take: str = ""
    split: str = ""
    start_s: float | None = None
    end_s: float | None = None
    source: str = ""
    licence: str = ""


def fold_of(group: str) -> int:
    """The fold of a group, 0 to 4: its name alone decides, even one that is not UTF-8."""
    name = group.encode(errors="surrogateescape")
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % FOLDS


def clips_at(place: Path, wakeword: str) -> list[Clip]:
    """List the clips of a manifest or a folder; `positive/` takes the wake word as its label.

    Raises DataError where there are none, or where a manifest cannot be read or understood.
    """
    try:
        clips = _listed(place, wakeword)
    except OSError as error:
        hint = "check data.manifest, data.sources and the permissions of their folders"
        raise DataError(f"cannot read {place}: {error.strerror}", hint) from error
    if not clips:
        hint = "put audio into positive/ negative/ streams/ noise/ rir/, or write a manifest.csv"
        raise DataError(f"no clips in {place}", hint)
    return clips


def _listed(place: Path, wakeword: str) -> list[Clip]:
    manifest = place / "manifest.csv" if place.is_dir() else place
    if manifest.exists():
        return read_manifest(manifest)
    if place.is_dir():
        return list(_read_folders(place, wakeword))
    raise DataError(f"{place} does not exist", "check data.manifest and data.sources")


def read_manifest(path: Path) -> list[Clip]:
    """List the rows of a manifest. Raises DataError where it cannot be read or understood."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = {"path", "label"} - set(rows.fieldnames or ())
            if missing:
                hint = "its first line names the columns: path,label,group"
                raise DataError(f"{path} has no column {', '.join(sorted(missing))}", hint)
            return [_clip(row, path, number) for number, row in enumerate(rows, 2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}", "save it as CSV in UTF-8") from error


def _clip(row: dict[str, str | None], manifest: Path, number: int) -> Clip:
    """One row; a column that is not there is as good as an empty one."""
    cells = {key: (row.get(key) or "").strip() for key in (f.name for f in fields(Clip))}
    where = f"{manifest}, row {number}"
    if not cells["path"] or not cells["label"] or "\0" in cells["path"]:
        raise DataError(f"{where} has no path or no label", "fill both in, or remove the row")
    if cells["split"] not in ("", *get_args(Split)):
        raise DataError(f"{where}: split {cells['split']!r}", "write train, validation or test")
    path = manifest.parent / cells["path"]
    take = cells["take"] or cells["path"] + (f"@{cells['start_s']}" if cells["start_s"] else "")
    return Clip(
        path=path,
        label=cells["label"],
        group=cells["group"] or cells["path"],
        take=str(manifest.parent / take),
        split=cells["split"],
        start_s=_seconds(cells["start_s"], where),
        end_s=_seconds(cells["end_s"], where),
        source=cells["source"],
        licence=cells["licence"],
    )


def _seconds(cell: str, where: str) -> float | None:
    if not cell:
        return None
    try:
        seconds = float(cell)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(f"{where}: {cell!r} is not a time", "write seconds: 0.35")
    return seconds


def _read_folders(root: Path, wakeword: str) -> Iterator[Clip]:
    """`positive/anna/1.wav` is a clip of the speaker anna; without `anna/` it is its own group."""
    for folder, label in {"positive": wakeword or "positive", **FOLDERS}.items():
        for path in audio_files(root / folder):
            inside = path.relative_to(root / folder)
            group = inside.parts[0] if len(inside.parts) > 1 else f"{folder}/{inside}"
            yield Clip(path, label, group, take=str(path))


def audio_files(place: Path) -> list[Path]:
    """The audio files of a folder and those below, sorted; hidden ones are left out."""
    found = (p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    return sorted(path for path in found if path.is_file())


def append_rows(manifest: Path, rows: list[dict[str, str]]) -> None:
    """Add rows to a manifest, which is replaced whole or not at all; no two processes at once.

    What it holds stays as it is, byte for byte; new rows keep to its columns and line ends.
    Raises DataError where it has no column `group`, or ends in the middle of a row.
    """
    try:
        with alone(manifest.parent):
            old = manifest.read_bytes() if manifest.exists() else b""
            write_atomic(manifest, old + _addition(manifest, old, rows))
    except OSError as error:
        raise disk_error(manifest, error) from error


def _addition(manifest: Path, old: bytes, rows: list[dict[str, str]]) -> bytes:
    """What is added to the bytes of a manifest."""
    text = _text(manifest, old)
    there = _cells(text)
    columns = _checked(manifest, there[0]) if there else list(COLUMNS)
    end = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
    whole = text.endswith(("\n", "\r")) or not text
    added = io.StringIO()
    writer = csv.DictWriter(added, columns, extrasaction="ignore", lineterminator=end)
    if not there:
        writer.writeheader()
    writer.writerows(rows)
    addition = ("" if whole else end) + added.getvalue()
    _refuse_torn(manifest, there, whole, text + addition, len(rows))
    return addition.encode()


def _text(manifest: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {manifest}: {error}", "save it as CSV in UTF-8") from error


def _cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def columns_of(manifest: Path) -> list[str]:
    """The columns that new rows of a manifest can have. Raises DataError without a `group`."""
    if not manifest.exists():
        return list(COLUMNS)
    return _checked(manifest, _cells(_text(manifest, manifest.read_bytes()))[0])


def _checked(manifest: Path, columns: list[str]) -> list[str]:
    if "group" not in columns:
        message = f"{manifest} has no column `group`, in which new recordings name their speaker"
        raise DataError(message, "add the column, or import into another folder")
    return columns


def _refuse_torn(
    manifest: Path, there: list[list[str]], whole: bool, after: str, added: int
) -> None:
    """Raise DataError where the last row was torn: inside quotes it would swallow what follows.

    Else it has no line end, and fewer cells than the row before it.
    """
    short = not whole and len(there) > 1 and len(there[-1]) < len(there[-2])
    if short or len(_cells(after)) < len(there) + added:
        hint = "complete its last row or take it out, and end the file with a new line"
        raise DataError(f"{manifest} ends in the middle of row {len(there)}", hint)
