"""Record: the takes of a speaker into a data folder, each with a row in its manifest.

    note --> audio --> row --> note removed        each on the disk before the next
         ^ killed: no take     ^ killed: `finish` adds the row, once

A take is of the speaker's group, and so in the split that a hash of the name says, like any clip;
`train` has all takes of a speaker only ever train, by the manifest's own column `split`.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine import audio
from engine.errors import DataError, WakewordError
from engine.files import alone, disk_error, write_atomic
from engine.manifest import (
    FOLDERS,
    FOLDS,
    Clip,
    append_rows,
    audio_files,
    columns_of,
    fold_of,
    read_manifest,
)
from engine.phonetics import slug
from engine.take import Take

HOME = "recorded"
NOTE = "row"
LEFT_OVER = re.compile(r"\.\.?.+\.(flac|row|csv)\.\w{8}")
"""A file that was being written when a kill came (`files.write_atomic`)."""


class Keeper:
    """Keeps the takes of one speaker; `finished` are those that a kill left without their row."""

    def __init__(self, place: Path, speaker: str, *, train: bool = False) -> None:
        """Open a data folder, or its manifest, or make a new one. Raises DataError."""
        self.manifest = manifest_at(place)
        self._home = self.manifest.parent / HOME
        self.finished = self._finish()
        clips = read_manifest(self.manifest) if self.manifest.exists() else []
        self.group = _group(clips, speaker.strip())
        self.split = "train" if train else ""
        self._check(clips)
        mine = [clip for clip in clips if clip.group == self.group]
        self.before = Counter(clip.label for clip in mine)
        self._taken = {clip.path.name for clip in clips if clip.path.parent == self._place}

    @property
    def _place(self) -> Path:
        return self._home / slug(self.group)

    def keep(self, take: Take, label: str) -> Path:
        """Write a take and its row; both are on the disk when this returns. Raises DataError."""
        with _writing(self._place), alone(self._place):
            path = self._place / f"{slug(label)}-{self._number(slug(label)):04d}.flac"
            row = self._row(path, take, label)
            note = self._place / f".{path.stem}.{self.manifest.name}.{NOTE}"
            try:
                write_atomic(note, json.dumps(row).encode())
                write_atomic(path, audio.encoded(take.waveform, "flac"))
                append_rows(self.manifest, [row])
            except WakewordError:
                path.unlink(missing_ok=True)
                note.unlink(missing_ok=True)
                raise
            note.unlink()
        self._taken.add(path.name)
        return path

    def use_in(self, fold: int) -> str:
        """What a recipe of a test fold does with this speaker, in words."""
        if self.split:
            return "only ever trains"
        return {fold: "tests", (fold + 1) % FOLDS: "validates"}.get(fold_of(self.group), "trains")

    def _row(self, path: Path, take: Take, label: str) -> dict[str, str]:
        return {
            "path": path.relative_to(self.manifest.parent).as_posix(),
            "label": label,
            "group": self.group,
            "split": self.split,
            "start_s": f"{take.facts.start_s:.3f}",
            "end_s": f"{take.facts.end_s:.3f}",
            "source": "recorded",
        }

    def _number(self, stem: str) -> int:
        """One more than any file of a label has, or had when its row was read."""
        names = self._taken | {path.name for path in self._place.glob("*.flac")}
        numbers = (re.fullmatch(rf"{stem}-(\d+)\.flac", name) for name in names)
        return max((int(number[1]) for number in numbers if number), default=0) + 1

    def _check(self, clips: list[Clip]) -> None:
        """Refuse what would hide recordings, or have one speaker both train and test."""
        if not slug(self.group):
            raise DataError("a speaker needs a name", "any name or number will do")
        if not self.manifest.exists():
            _refuse_folders(self.manifest.parent)
        if "split" not in columns_of(self.manifest) and self.split:
            hint = "add `split` to its first line, or let the hash of the name decide"
            raise DataError(f"{self.manifest} has no column `split`", hint)
        splits = {clip.split for clip in clips if clip.group == self.group} or {self.split}
        if splits != {self.split}:
            there = ", ".join(sorted(split or "by the hash of the name" for split in splits))
            hint = "record under another name, or as the others are"
            raise DataError(f"clips of {self.group} are split otherwise: {there}", hint)

    def _finish(self) -> tuple[str, ...]:
        """Add the rows of takes that were whole when a kill came; take away what was not."""
        added = []
        for place in sorted(path for path in self._home.glob("*") if path.is_dir()):
            with _writing(place), alone(place):
                for note in sorted(place.glob(f".*.{self.manifest.name}.{NOTE}")):
                    row = json.loads(note.read_text(encoding="utf-8"))
                    if self._lacks(row["path"]):
                        append_rows(self.manifest, [row])
                        added.append(row["path"])
                    note.unlink()
                _sweep(place)
        if self._home.exists():
            with _writing(self.manifest.parent), alone(self.manifest.parent):
                _sweep(self.manifest.parent)
        return tuple(added)

    def _lacks(self, path: str) -> bool:
        """Whether a file is whole and has no row."""
        there = read_manifest(self.manifest) if self.manifest.exists() else []
        file = self.manifest.parent / path
        return file.exists() and all(clip.path != file for clip in there)


def manifest_at(place: Path) -> Path:
    """The manifest of a data folder, or the one that is named."""
    return place if place.suffix == ".csv" else place / "manifest.csv"


def _group(clips: list[Clip], speaker: str) -> str:
    """A speaker as the manifest spells the name already: Anna and anna are one."""
    known = (clip.group for clip in clips if clip.group.casefold() == speaker.casefold())
    return next(known, speaker)


def _refuse_folders(folder: Path) -> None:
    """Raise DataError where folders named after their contents would be hidden by a manifest."""
    if any(audio_files(folder / name) for name in ("positive", *FOLDERS)):
        message = f"{folder} is a data folder without a manifest, which a new one would hide"
        raise DataError(message, "record into another folder and name both in data.sources")


def _sweep(folder: Path) -> None:
    """Take away what a kill left half written."""
    for path in folder.iterdir():
        if LEFT_OVER.fullmatch(path.name):
            path.unlink()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Have a folder, and turn what fails on the disk into a sentence."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise disk_error(folder, error) from error
