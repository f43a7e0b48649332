"""Before a training: look the data over, and make a data folder of recordings.

`check` counts what there is, by label and by split, and says in sentences what is wrong with it.
`import_folder` brings recordings of any format into a folder with a manifest.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import get_args

from engine import audio
from engine.dataset import Pack, PackedClip, kind_of, read, require, select, splits_of
from engine.errors import DataError
from engine.events import Emit, Progressed
from engine.files import make_folder, writing
from engine.jobs import Control
from engine.manifest import FOLDERS, Split, append_rows, audio_files, read_manifest
from engine.recipe import Data
from engine.words import CLIPPED, LONG, SHORT, SILENT

FEW_CLIPS = 50
FEW_HOURS = 3.0  # without one false alarm they prove 1 per hour at 95 %
FINGERPRINT_FLAC = 16 + len(".flac")


@dataclass(frozen=True, slots=True)
class LabelHealth:
    """The clips of one label; `copies` are clips whose samples are those of an earlier clip."""

    label: str
    clips: int
    takes: int
    hours: float
    groups: int
    silent: int
    clipped: int
    too_short: int
    too_long: int
    copies: int
    unreadable: int
    doubtful: int


@dataclass(frozen=True, slots=True)
class SplitHealth:
    """What a split has to train or to measure on; `groups` are those of its wake words."""

    split: Split
    positives: int
    groups: int
    negatives: int
    stream_hours: float
    rooms: int


@dataclass(frozen=True, slots=True)
class Health:
    """What `check` found; `doubtful` and `unreadable` name files and what is wrong with each."""

    labels: tuple[LabelHealth, ...]
    splits: tuple[SplitHealth, ...]
    warnings: tuple[str, ...]
    doubtful: tuple[tuple[str, str], ...]
    unreadable: tuple[tuple[str, str], ...]

    def render(self) -> str:
        """Two tables and the warnings, 80 columns wide but for long paths."""
        blocks = [_label_table(self.labels), _split_table(self.splits)]
        if self.warnings:
            blocks.append("\n".join(f"! {warning}" for warning in self.warnings))
        return "\n\n".join(blocks)

    def __str__(self) -> str:
        return self.render()

    def to_json(self) -> str:
        """Everything, doubtful and unreadable files one by one."""
        return json.dumps(asdict(self), indent=1)


def check(pack: Pack, settings: Data) -> Health:
    """Look over the packed clips of a recipe's `data` section."""
    splits = tuple(_split(pack, settings, split) for split in get_args(Split))
    doubts = [(str(p.clip.path), p.doubt) for p in pack.clips if p.doubt]
    unreadable = [(str(path), reason) for path, reason in pack.unreadable]
    labels = tuple(_labels(pack, settings))
    warnings = tuple(_warnings(pack, settings, labels, splits))
    return Health(labels, splits, warnings, tuple(doubts), tuple(unreadable))


def _labels(pack: Pack, settings: Data) -> Iterator[LabelHealth]:
    """One row a label, the wake word first."""
    lost_paths = {path for path, _ in pack.unreadable}
    lost = Counter(c.label for c in read(settings) if c.path in lost_paths) if lost_paths else {}
    by_label: dict[str, list[PackedClip]] = {label: [] for label in lost}
    for packed in pack.clips:
        by_label.setdefault(packed.clip.label, []).append(packed)
    for label in sorted(by_label, key=lambda label: (label != settings.wakeword, label)):
        yield _label(label, by_label[label], lost.get(label, 0))


def _label(label: str, clips: list[PackedClip], unreadable: int) -> LabelHealth:
    doubts = Counter(doubt for packed in clips for doubt in packed.doubt.split(", "))
    return LabelHealth(
        label=label,
        clips=len(clips),
        takes=len({packed.clip.take for packed in clips}),
        hours=_hours(clips),
        groups=len({packed.clip.group for packed in clips}),
        silent=doubts[SILENT],
        clipped=doubts[CLIPPED],
        too_short=doubts[SHORT],
        too_long=doubts[LONG],
        copies=len(clips) - len({packed.content for packed in clips}),
        unreadable=unreadable,
        doubtful=sum(bool(packed.doubt) for packed in clips),
    )


def _split(pack: Pack, settings: Data, split: Split) -> SplitHealth:
    selection = select(pack, settings, split)
    return SplitHealth(
        split=split,
        positives=len(selection.positives),
        groups=len({packed.clip.group for packed in selection.positives}),
        negatives=len(selection.negatives),
        stream_hours=_hours([*selection.speech, *selection.noise]),
        rooms=len(selection.rooms),
    )


def _hours(clips: list[PackedClip]) -> float:
    return sum(packed.seconds for packed in clips) / 3600


def _warnings(
    pack: Pack, settings: Data, labels: tuple[LabelHealth, ...], splits: tuple[SplitHealth, ...]
) -> Iterator[str]:
    """Everything a person should know, each with what to do about it."""
    try:
        require(pack, settings)
    except DataError as error:
        yield f"{error.message}: {error.hint}"
    if pack.unreadable:
        _, reason = pack.unreadable[0]
        yield f"{len(pack.unreadable)} files cannot be read and are left out; first {reason}"
    yield from (w for row in labels if row.label == settings.wakeword for w in _of_words(row))
    yield from _of_copies(pack, settings)
    yield from _of_measuring(splits[-1])
    train = select(pack, settings, "train")
    if not train.noise:
        yield "no noise to train with: add recordings of the rooms it will work in"
    if not train.rooms:
        yield "no rooms to train with: add impulse responses, label rir"


def _of_words(row: LabelHealth) -> Iterator[str]:
    if row.silent:
        yield f"{row.silent} {row.label} clips are below -50 dBFS: record them again, louder"
    if row.clipped:
        yield f"{row.clipped} {row.label} clips are clipped: record with less gain"
    if row.too_long:
        yield f"{row.too_long} {row.label} clips have a word over 1.5 s: cut them, or give end_s"
    if row.doubtful > row.clips / 10:
        yield f"{row.doubtful} of {row.clips} {row.label} clips are doubtful: listen to some"


def _of_copies(pack: Pack, settings: Data) -> Iterator[str]:
    """Copies in several splits, or under several words, make a measurement worthless."""
    homes: dict[str, set[str]] = {}
    kinds: dict[str, set[str]] = {}
    splits = splits_of(pack.clips, settings.fold)
    for packed, split in zip(pack.clips, splits, strict=True):
        homes.setdefault(packed.content, set()).add(split)
        kinds.setdefault(packed.content, set()).add(kind_of(packed.clip, settings.wakeword))
    leaks = sum(len(found) > 1 for found in homes.values())
    if leaks:
        yield f"{leaks} recordings are in several splits: give their copies the same take"
    mixed = sum({"positive", "negative"} <= found for found in kinds.values())
    if mixed:
        yield f"{mixed} recordings are both wake word and not: correct their labels"


def _of_measuring(test: SplitHealth) -> Iterator[str]:
    """How little a small test can show (Clopper-Pearson and Garwood, 95 %, for no event)."""
    if 0 < test.positives < FEW_CLIPS:
        allowed = 100 * (1 - 0.025 ** (1 / test.positives))
        yield (
            f"the test has {test.positives} wake words: with none missed, {allowed:.0f} % missed "
            "is still possible; pool the folds"
        )
    if 0 < test.stream_hours < FEW_HOURS:
        yield (
            f"the test has {test.stream_hours:.2f} h of streams: 1 false alarm per hour takes 3 h "
            "to show; pool the folds"
        )


LABEL_HEADS = "clips takes hours groups quiet clipped short long copies bad doubt"
SPLIT_HEADS = "wake-words groups other-words stream-hours rooms"


def _label_table(rows: tuple[LabelHealth, ...]) -> str:
    return _table("label", LABEL_HEADS.split(), [astuple(row) for row in rows])


def _split_table(rows: tuple[SplitHealth, ...]) -> str:
    return _table("split", SPLIT_HEADS.split(), [astuple(row) for row in rows])


def _table(first: str, heads: list[str], rows: list[tuple[object, ...]]) -> str:
    """Names to the left, numbers to the right, each column as wide as its head."""
    widths = [len(head) for head in heads]
    name_width = 80 - sum(widths) - len(widths) if first == "label" else 12
    lines = []
    for name, *cells in [(first, *heads), *rows]:
        texts = [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells]
        numbers = " ".join(f"{text:>{w}}" for text, w in zip(texts, widths, strict=True))
        lines.append(f"{str(name)[:name_width]:<{name_width}} {numbers}")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: files added, files there already, and files that cannot be read."""

    manifest: Path
    added: int
    known: int
    unreadable: tuple[tuple[Path, str], ...]

    def __str__(self) -> str:
        lines = [f"{self.manifest}: {self.added} recordings added, {self.known} there already"]
        lines += [f"  left out: {reason}" for _, reason in self.unreadable]
        return "\n".join(lines)


def import_folder(source: Path, out: Path, label: str, *, emit: Emit, control: Control) -> Imported:
    """Convert recordings, a folder or one file, to 16 kHz FLAC in `out/<label>/`.

    Their rows go into `out/manifest.csv`. A sub-folder is a group; beside sub-folders, files whose
    names differ in a last number only are one. A recording that is there already, by its samples,
    is not added again. Raises DataError where there is nothing to import.
    """
    files = _to_import(source, label)
    manifest = out / "manifest.csv"
    if not manifest.exists() and any(audio_files(out / name) for name in ("positive", *FOLDERS)):
        message = f"{out} is a data folder without a manifest, which a new one would hide"
        raise DataError(message, "import into another folder and name both in data.sources")
    there = read_manifest(manifest) if manifest.exists() else []
    known = {clip.path.name[-FINGERPRINT_FLAC:] for clip in there}
    rows: list[dict[str, str]] = []
    unreadable: list[tuple[Path, str]] = []
    for done, path in enumerate(files, 1):
        control.tick()
        try:
            waveform = audio.read(path)
        except DataError as error:
            unreadable.append((path, error.message))
        else:
            name = f"{path.stem}-{_fingerprint(waveform)}.flac"
            if name[-FINGERPRINT_FLAC:] not in known:
                known.add(name[-FINGERPRINT_FLAC:])
                if not manifest.exists():  # files without one look like a folder of somebody else's
                    make_folder(out)
                    append_rows(manifest, [])
                _write(out / label / name, waveform)
                rows.append(_row(path, source, label, name))
        emit(Progressed("import", done, len(files), "files"))
    if rows:
        append_rows(manifest, rows)
    return Imported(
        manifest, len(rows), len(files) - len(rows) - len(unreadable), tuple(unreadable)
    )


def _to_import(source: Path, label: str) -> list[Path]:
    if not re.fullmatch(r"[^/\\\s.][^/\\]*", label):
        raise DataError(f"{label!r} cannot be a label", "use letters, digits, dash, underscore")
    files = [source] if source.is_file() else audio_files(source)
    if not files:
        raise DataError(f"no audio in {source}", "WAV, FLAC, OGG, Opus and MP3 can be read")
    return files


def _fingerprint(waveform: audio.Waveform) -> str:
    return hashlib.sha256(audio.to_int16(waveform).tobytes()).hexdigest()[:16]


def _row(path: Path, source: Path, label: str, name: str) -> dict[str, str]:
    group = _group(path, source)
    return {"path": f"{label}/{name}", "label": label, "group": group, "source": path.name}


def _group(path: Path, source: Path) -> str:
    inside = path.relative_to(source) if source.is_dir() else Path(path.name)
    if len(inside.parts) > 1:
        return inside.parts[0]
    return re.sub(r"[-_. (]*\d+\)?$", "", path.stem) or source.name


def _write(path: Path, waveform: audio.Waveform) -> None:
    make_folder(path.parent)
    with writing(path):
        try:
            audio.write(path, waveform)
        except OSError:
            path.unlink(missing_ok=True)
            raise
