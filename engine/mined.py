"""What a run takes from the queue: stretches cut out of recordings, kept in the run's own folder.

    queue   confirmed, wakeword --split_of--> those of its training split; nothing it measures on
    run     mined/manifest.csv  mined/000017.flac ...   cut once, when the run begins

A resume finds them as they were, though the queue has moved on and the recordings are gone.
"""

import csv
import hashlib
import io
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from engine import audio
from engine.dataset import (
    Pack,
    PackedClip,
    is_measured,
    pack,
    packed_already,
    read,
    select,
    split_of,
    splits_of,
)
from engine.errors import DataError
from engine.events import Emit, Progressed, QueueTaken, Warned
from engine.files import disk_error, write_atomic
from engine.jobs import Control
from engine.manifest import HARD_NEGATIVE, Clip, Split, clips_at
from engine.queue_store import QueueItem, QueueStore, content_of
from engine.recipe import Data, Recipe
from engine.runs import Run

COLUMNS = ("path", "label", "group", "take", "split", "start_s", "end_s")
SAME_LENGTH = 2


class HeldOut:
    """The recordings that a run measures on; what touches them is never trained on."""

    def __init__(self, clips: Sequence[PackedClip], settings: Data) -> None:
        self._fold = settings.fold
        self._paths, self._groups = dict[str, Split](), dict[str, Split]()
        self._trained = set[str]()
        self._contents: dict[int, dict[str, Split]] = {}
        self._copies: dict[Path, Split] = {}
        for clip, home in zip(clips, splits_of(clips, self._fold), strict=True):
            if home == "train":
                self._trained.add(_plain(clip.clip.path))
            if home == "train" or not is_measured(clip.clip):
                continue
            self._paths[_plain(clip.clip.path)] = home
            self._groups[clip.clip.group] = home
            self._contents.setdefault(clip.samples, {})[clip.content] = home

    def split_of(self, item: QueueItem) -> Split:
        """The split that measures an item's recording, or a copy of it, or its group; else train.

        Raises DataError where the recording cannot be read.
        """
        path, group = item.find.path, item.find.group
        if measured := self._paths.get(_plain(path)) or self._groups.get(group):
            return measured
        home = split_of(Clip(path, "", group), self._fold)
        if home != "train" and _plain(path) not in self._trained:
            return home
        if path not in self._copies:
            self._copies[path] = self._copied(path)
        return self._copies[path]

    def _copied(self, path: Path) -> Split:
        """The split of the recording that has the samples of this; decoded if one is as long."""
        samples = round(audio.seconds(path) * audio.SAMPLE_RATE)
        lengths = range(samples - SAME_LENGTH, samples + SAME_LENGTH + 1)
        as_long = [self._contents[length] for length in lengths if length in self._contents]
        if not as_long:
            return "train"
        content = hashlib.sha256(audio.to_int16(audio.read(path)).tobytes()).hexdigest()
        return next((homes[content] for homes in as_long if content in homes), "train")


def held_out(settings: Data, cache: Path) -> HeldOut:
    """What a run of these settings measures on; copies are known once its clips are packed.

    Raises DataError where there are no clips.
    """
    clips = read(settings)
    packed = packed_already(clips, cache)
    return HeldOut(packed.clips if packed else [_unpacked(clip) for clip in clips], settings)


def _unpacked(clip: Clip) -> PackedClip:
    """A clip that was not decoded: nothing is known of its audio."""
    return PackedClip(clip, 0, 0, peak_db=0, level_db=0, start_s=0, end_s=0, doubt="", content="")


def take(
    run: Run, queue: Path, packed: Pack, recipe: Recipe, *, emit: Emit, control: Control
) -> None:
    """Cut what a person has decided on into the run's folder, instead of what is there.

    Recordings that are gone or have changed are warned of. Raises DataError on a full disk.
    """
    shutil.rmtree(run.mined, ignore_errors=True)
    if recipe.data.hard_negatives == 0 or not queue.exists():
        return
    with closing(QueueStore(queue)) as store:
        items = list(store.decided("confirmed", "wakeword"))
    usable = list(_usable(items, HeldOut(packed.clips, recipe.data), emit, control))
    if not usable:
        return
    part = run.path / ".mined"
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        _write(usable, part, recipe, emit, control)
        part.rename(run.mined)
    except OSError as error:
        raise disk_error(part, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def with_cuts(packed: Pack, run: Run, recipe: Recipe, *, emit: Emit, control: Control) -> Pack:
    """The pack, followed by the cuts that the run took, and tell how many train."""
    manifest = run.mined / "manifest.csv"
    if not manifest.exists():
        return packed
    clips = clips_at(manifest, recipe.data.wakeword)
    cuts = pack(clips, run.mined / "pack", emit=emit, control=control)
    past = len(packed.audio)
    moved = tuple(replace(clip, offset=clip.offset + past) for clip in cuts.clips)
    joined = replace(packed, clips=(*packed.clips, *moved), cuts=cuts.audio)
    emit(QueueTaken(*used(joined, recipe.data)))
    return joined


def used(packed: Pack, settings: Data) -> tuple[int, int]:
    """How many hard negatives and wake words of the queue are trained on."""
    if packed.cuts is None:
        return 0, 0
    train, past = select(packed, settings, "train"), len(packed.audio)
    negatives = [clip for clip in train.mined if clip.offset >= past]
    return len(negatives), sum(clip.offset >= past for clip in train.positives)


def _plain(path: Path) -> str:
    return os.path.normpath(path.absolute())


def _usable(
    items: Sequence[QueueItem], measured: HeldOut, emit: Emit, control: Control
) -> Iterator[QueueItem]:
    """The items that may train, of recordings that are as they were; warn of the others."""
    lost, touching, known = Counter[str](), 0, dict[tuple[Path, str], str]()
    for item in items:
        control.tick()
        find = item.find
        key = find.path, find.content
        try:
            if key not in known:
                known[key] = _wrong(find.path, find.content, control)
            if known[key]:
                lost[known[key]] += 1
            elif measured.split_of(item) != "train":
                touching += 1
            else:
                yield item
        except DataError as error:
            known[key] = error.message
            lost[error.message] += 1
    for reason, count in lost.items():
        message = f"{count} finds of the queue are left out: {reason}"
        emit(Warned(message, "put the recording back where it was to train on them"))
    if touching:
        message = f"{touching} finds of the queue are of what this run measures on, and left out"
        emit(Warned(message, "in a fold that trains on their group they are trained on"))


def _wrong(path: Path, content: str, control: Control) -> str:
    """What is wrong with a recording, in words; empty if it is as it was."""
    if not path.exists():
        return f"{path} is gone"
    return "" if content_of(path, control.tick) == content else f"{path} has changed"


def _write(
    items: Sequence[QueueItem], folder: Path, recipe: Recipe, emit: Emit, control: Control
) -> None:
    """Cut the items into a folder, the manifest last; a stretch that cannot be read is warned of.

    The mark of a cut, `start_s` to `end_s`, is the window in which the detector fired.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for done, item in enumerate(items, 1):
        control.tick()
        emit(Progressed("cut", done, len(items), "finds"))
        name, find = f"{item.id:06}.flac", item.find
        try:
            waveform = audio.stretch(find.path, find.start_s, find.end_s)
        except DataError as error:
            emit(Warned(f"a find of the queue is left out: {error.message}", error.hint))
            continue
        audio.write(folder / name, waveform)
        word = item.decision == "wakeword"
        mark = ("", "") if word or not find.checkpoint else _mark(item, recipe)
        label = recipe.data.wakeword if word else HARD_NEGATIVE
        rows.writerow((name, label, find.group, name, "train", *mark))
    write_atomic(folder / "manifest.csv", text.getvalue().encode())


def _mark(item: QueueItem, recipe: Recipe) -> tuple[str, str]:
    """Where the window that fired lies in the cut, as far as the cut goes, in seconds."""
    find = item.find
    inside = find.start_s < find.time_s <= find.end_s
    end_s = (find.time_s if inside else find.end_s) - find.start_s
    start_s = max(0.0, end_s - recipe.features.window_ms / 1000)
    return f"{start_s:.3f}", f"{end_s:.3f}"
