"""What teachers said of batches that come again, kept on the disk as float16.

    cache/lessons-<key>/
      said.json           how many batches of each file are through
      0.logits            (S, B) of teacher 0, S batches
      0.map0              (S, B, D, T') of the first of its aligned blocks

The key is the hash of the teachers, of the clips that train and of all that decides the batches.
The files have their full length from the start and are mapped, so that a killed filling goes on.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import engine
from engine.batches import Batches
from engine.dataset import Pack, Selection
from engine.distill import Distiller
from engine.errors import RecipeError
from engine.events import Emit, PhaseChanged, Progressed
from engine.files import write_atomic, writing
from engine.jobs import Control
from engine.recipe import Recipe, Train
from engine.recipe_distill import Distill
from engine.recipe_file import override, to_tables
from engine.teachers import Lesson

# Clips as they were recorded, but for where the window lies.
PLAIN = {
    f"augment.{name}": 0.0
    for name in (
        *("speed", "tempo", "pitch", "room", "far", "noise", "clipping", "telephone"),
        *("gain_db", "softer_db"),
    )
}

PREFIX, SAID = "lessons-", "said.json"
SAVED_EVERY = 20
Half = npt.NDArray[np.float16]


def repeated(distill: Distill, train: Train) -> int:
    """How many batches come again and again: an epoch of plain clips, and those of the views."""
    return (distill.views + 1) * train.steps_per_epoch


def source(
    batches: Batches, packed: Pack, selection: Selection
) -> Callable[[int], tuple[Tensor, Tensor, Tensor]]:
    """Draws the batch of a step, for student and teachers: one that comes again with `views`.

    The views are as hard as the recipe's last epochs.
    """
    recipe, draw = batches.recipe, batches.draw_for_both
    steps, late = recipe.train.steps_per_epoch, recipe.train.epochs
    if not recipe.distill.views:
        return lambda step: draw(step // steps, step)
    plain = Batches(packed, selection, override(recipe, PLAIN), batches.device).draw_for_both
    count = repeated(recipe.distill, recipe.train)

    def again(step: int) -> tuple[Tensor, Tensor, Tensor]:
        view, place = divmod(step % count, steps)
        return draw(late + view, (late + view) * steps + place) if view else plain(0, place)

    return again


class Lessons:
    """The lessons of `count` numbered batches; `ask` makes them, `at` reads them back."""

    def __init__(
        self, cache: Path, key: str, count: int, ask: Callable[[int], tuple[Lesson, ...]]
    ) -> None:
        self.folder, self.count, self._ask = cache / f"{PREFIX}{key}", count, ask
        self._files: list[list[Half]] = []

    def fill(self, most_mb: float, *, emit: Emit, control: Control) -> None:
        """Ask the teachers about every batch that they have not been asked about.

        Raises RecipeError, before anything is written, if it would take more than `most_mb`.
        """
        emit(PhaseChanged("teachers"))
        first = self._ask(0)
        size_mb = self.count * sum(tensor.numel() * 2 for tensor in _flat(first)) / 1e6
        if size_mb > most_mb:
            message = f"what the teachers say takes {size_mb:.0f} MB"
            raise RecipeError(
                f"{message}, over distill.cache_mb = {most_mb:g}",
                hint="fewer distill.views, align_layers or train.steps_per_epoch",
            )
        make_room(self.folder.parent, most_mb - size_mb, self.folder)
        with writing(self.folder):
            self._open(first)
        done = self._done()
        try:
            for number in range(done, self.count):
                control.tick()
                self._write(number, self._ask(number) if number else first)
                done = number + 1
                if done % SAVED_EVERY == 0:
                    self._save(done)
                emit(Progressed("teachers", done, self.count, "batches"))
        finally:
            self._save(done)

    def at(self, number: int, device: torch.device) -> tuple[Lesson, ...]:
        """The lessons of a batch."""
        read = [
            [torch.from_numpy(np.array(file[number])).to(device).float() for file in files]
            for files in self._files
        ]
        return tuple(Lesson(logits, tuple(maps)) for logits, *maps in read)

    def _done(self) -> int:
        try:
            done = json.loads((self.folder / SAID).read_text())
            return int(done["batches"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _open(self, first: tuple[Lesson, ...]) -> None:
        """Map the files, of the shapes that the first batch has."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, lesson in enumerate(first):
            names = ["logits", *(f"map{n}" for n in range(len(lesson.maps)))]
            files: list[Half] = []
            for name, tensor in zip(names, (lesson.logits, *lesson.maps), strict=True):
                path, size = self.folder / f"{number}.{name}", 2 * self.count * tensor.numel()
                if not path.exists() or path.stat().st_size < size:
                    (self.folder / SAID).unlink(missing_ok=True)  # of batches that are not in it
                _take_room(path, size)
                files.append(np.memmap(path, np.float16, "r+", shape=(self.count, *tensor.shape)))
            self._files.append(files)

    def _write(self, number: int, lessons: tuple[Lesson, ...]) -> None:
        for files, lesson in zip(self._files, lessons, strict=True):
            for file, tensor in zip(files, (lesson.logits, *lesson.maps), strict=True):
                file[number] = tensor.half().cpu().numpy()

    def _save(self, done: int) -> None:
        """Have the batches so far on the disk before it is said that they are."""
        for file in (file for files in self._files for file in files):
            assert isinstance(file, np.memmap)
            file.flush()
        write_atomic(self.folder / SAID, json.dumps({"batches": done}).encode())


def _take_room(path: Path, size: int) -> None:
    """Have a file's bytes on the disk before it is mapped: later a full disk kills the process."""
    # Not opened to append: some disks cannot do it then.
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        os.posix_fallocate(handle, 0, size)
    finally:
        os.close(handle)


def _flat(lessons: tuple[Lesson, ...]) -> list[Tensor]:
    return [tensor for lesson in lessons for tensor in (lesson.logits, *lesson.maps)]


def lessons_of(
    cache: Path, batches: Batches, packed: Pack, selection: Selection, distiller: Distiller
) -> Lessons:
    """What the teachers say of the batches that come again, as far as they have been asked."""
    recipe, draw = batches.recipe, source(batches, packed, selection)
    key = key_of(recipe, distiller.names(), fingerprint(selection), batches.device)
    count = repeated(recipe.distill, recipe.train)
    return Lessons(cache, key, count, lambda number: distiller.ask(draw(number)[2]))


def fingerprint(selection: Selection) -> str:
    """The hash of a split's clips as batches draw them: what they hold, in order, and where."""
    digest = hashlib.sha256()
    for kind in fields(selection):
        digest.update(kind.name.encode())
        for clip in getattr(selection, kind.name):
            lies = clip.offset, clip.start_s, clip.end_s, clip.clip.start_s, clip.clip.end_s
            digest.update(f"{clip.content} {lies} {clip.doubt}".encode())
    return digest.hexdigest()


def key_of(recipe: Recipe, teachers: list[str], clips: str, device: torch.device) -> str:
    """The hash of all that lessons depend on.

    `teachers` are the hashes of their files, `clips` that of the split that trains. Of the recipe
    it is all that decides the batches, and how they are computed.
    """
    tables = to_tables(recipe)
    train = tables["train"]
    batches = ("seed", "epochs", "steps_per_epoch", "batch_size", "positive_share", "partial_share")
    parts = {
        "engine": engine.__version__,
        "data": tables["data"],
        "features": tables["features"],
        "augment": tables["augment"],
        "train": {name: train[name] for name in batches},
        "layers": [list(one.align_layers) for one in recipe.distill.teachers],
        "views": [recipe.distill.views, recipe.distill.hears],
        "teachers": teachers,
        "clips": clips,
        "arithmetic": [device.type, train["precision"]],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def make_room(cache: Path, most_mb: float, keep: Path) -> None:
    """Remove the lessons used longest ago until the others take no more than `most_mb`.

    Of each first what says that it is there, so that nobody believes what a kill leaves.
    """
    others = [path for path in cache.glob(f"{PREFIX}*") if path != keep]
    others.sort(key=lambda path: path.stat().st_mtime)
    sizes = [sum(file.stat().st_size for file in path.iterdir()) / 1e6 for path in others]
    while others and sum(sizes) > most_mb:
        (others[0] / SAID).unlink(missing_ok=True)
        shutil.rmtree(others.pop(0))
        sizes.pop(0)
