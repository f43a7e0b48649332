"""The data: which clips there are, which split they are in, and all of them packed in one array.

    read      manifests and folders           -> clips
    pack      clips                           -> one int16 array and an index, cached
    select    a pack and the fold of a recipe -> the clips of a split

A clip is in the split of its *group* (speaker, session, file, room), by a hash of the group's name,
so adding files never moves old ones; `take` marks copies of one recording, which stay together.
"""

import hashlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import BinaryIO, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from engine.audio import SAMPLE_RATE, to_int16
from engine.audio import read as read_audio
from engine.errors import DataError
from engine.events import Emit, Progressed
from engine.files import building, disk_error
from engine.jobs import Control
from engine.manifest import FOLDS, UNMEASURED, WORDLESS, Clip, Split, clips_at, fold_of
from engine.recipe import Data
from engine.words import SILENCE_DB, UNUSABLE, inspect

Kind = Literal["positive", "negative", "speech", "noise", "rir", "false_trigger", "hard_negative"]
Int16 = npt.NDArray[np.int16]

SHOWN_LABELS = 12
VERSION = 1  # of what `pack` computes: another number packs everything anew
PROGRESS_EVERY_S = 0.2
MOST_UNREADABLE, MOST_UNREADABLE_SHARE = 20, 0.05
TRAINABLE_DB = -60.0


@dataclass(frozen=True, slots=True)
class PackedClip:
    """A clip in the packed audio: `samples` from `offset`; `level_db` is the RMS of its loud part.

    `doubt` says why the clip or the place of its word is doubtful; `content` is the SHA-256 of
    the samples.
    """

    clip: Clip
    offset: int
    samples: int
    peak_db: float
    level_db: float
    start_s: float
    end_s: float
    doubt: str
    content: str

    @property
    def name(self) -> str:
        """What the clip is called wherever its files lie: its content, and where its word is."""
        start = "" if self.clip.start_s is None else f"@{self.clip.start_s}"
        return self.content[:16] + start

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.samples / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Pack:
    """All clips as one int16 array `(total samples,)` on the disk, 16 kHz, 32767 at full scale.

    `cuts` are further samples, of stretches that a run cut out of recordings: their clips count
    from the end of `audio` on.
    """

    audio: Int16
    clips: tuple[PackedClip, ...]
    unreadable: tuple[tuple[Path, str], ...]
    folder: Path
    cuts: Int16 | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """The clips of a split by what they are used for, each sorted by path."""

    positives: tuple[PackedClip, ...]
    negatives: tuple[PackedClip, ...]
    speech: tuple[PackedClip, ...]
    noise: tuple[PackedClip, ...]
    rooms: tuple[PackedClip, ...]
    mined: tuple[PackedClip, ...] = ()


# --- which clips there are


def read(settings: Data) -> list[Clip]:
    """List the clips of `data.manifest` and `data.sources`, sorted by path.

    Those of `data.train_sources` alone are all of the training split, whatever their manifest says.
    Raises DataError where there are none, or where a manifest cannot be understood.
    """
    places = [p for p in (settings.manifest, *settings.sources) if p is not None]
    if not places:
        raise DataError("no data: data.manifest is not set", "name a manifest.csv or a folder")
    clips: dict[tuple[str, float | None], Clip] = {}
    for place in places:
        for clip in clips_at(place.absolute(), settings.wakeword):
            clips.setdefault((str(clip.path), clip.start_s), clip)
    for place in settings.train_sources:
        for clip in clips_at(place.absolute(), settings.wakeword):
            clips.setdefault((str(clip.path), clip.start_s), replace(clip, split="train"))
    return [clips[key] for key in sorted(clips, key=lambda key: (key[0], key[1] or 0.0))]


# --- which split they are in


def kind_of(clip: Clip, wakeword: str) -> Kind:
    """What a clip is good for: any word but the wake word is a negative."""
    if clip.label == wakeword:
        return "positive"
    return cast(Kind, clip.label) if clip.label in WORDLESS else "negative"


def split_of(clip: Clip, fold: int) -> Split:
    """The split of a clip: `fold` tests, the next fold validates, the other three train.

    A manifest's own `split` wins; recordings of this machine (`user:`) only ever train.
    """
    if clip.split:
        return cast(Split, clip.split)
    if clip.group.startswith("user:"):
        return "train"
    distance = (fold_of(clip.group) - fold) % FOLDS
    return "test" if distance == 0 else "validation" if distance == 1 else "train"


def splits_of(clips: Iterable[PackedClip], fold: int) -> list[Split]:
    """The split of each clip; all copies of a take are where the first of them by path is."""
    homes: dict[tuple[str, str], Split] = {}
    for packed in clips:
        key = (packed.clip.label, packed.clip.take)
        homes.setdefault(key, split_of(packed.clip, fold))
    return [homes[packed.clip.label, packed.clip.take] for packed in clips]


def is_measured(clip: Clip) -> bool:
    """Whether a clip counts where its split measures: triggers and finds only ever train."""
    return clip.label not in UNMEASURED


def select(pack: Pack, settings: Data, split: Split) -> Selection:
    """Choose the clips of a split.

    Validation and test keep one wake word of a take. Training leaves out what is also measured, by
    whatever name, and wake words that are too soft (below -60 dBFS) or not found; measuring keeps
    them, all but digital silence.
    """
    homes = splits_of(pack.clips, settings.fold)
    clips = [clip for clip, home in zip(pack.clips, homes, strict=True) if home == split]
    if split != "train":
        return _select(_one_per_take(clips), settings.wakeword)
    pairs = zip(pack.clips, homes, strict=True)
    measured = {c.content for c, home in pairs if home != split and is_measured(c.clip)}
    kept = (c for c in clips if _trainable(c) and not (c.content and c.content in measured))
    return _select(kept, settings.wakeword)


def everything(pack: Pack, settings: Data) -> Selection:
    """Choose all clips as a test set, of data that nothing was trained on."""
    return _select(_one_per_take(pack.clips), settings.wakeword)


def _trainable(packed: PackedClip) -> bool:
    wordless = packed.clip.label in WORDLESS
    return wordless or (packed.peak_db >= TRAINABLE_DB and UNUSABLE not in packed.doubt)


def _one_per_take(clips: Iterable[PackedClip]) -> list[PackedClip]:
    first: dict[tuple[str, str], PackedClip] = {}
    for packed in clips:
        first.setdefault((packed.clip.label, packed.clip.take), packed)
    return list(first.values())


def _select(clips: Iterable[PackedClip], wakeword: str) -> Selection:
    kinds: dict[Kind, list[PackedClip]] = {kind: [] for kind in get_args(Kind)}
    for packed in clips:
        if packed.peak_db > SILENCE_DB:
            kinds[kind_of(packed.clip, wakeword)].append(packed)
    names: tuple[Kind, ...] = ("positive", "negative", "speech", "noise", "rir", "hard_negative")
    return Selection(*(tuple(kinds[name]) for name in names))


def require_word(clips: Iterable[Clip], settings: Data) -> None:
    """Raise DataError where none of the clips is of the wake word; nothing need be packed."""
    labels, word = sorted({clip.label for clip in clips} - WORDLESS), settings.wakeword
    if word in labels:
        return
    message = f"no clips of the wake word {word!r}" if word else "data.wakeword is not set"
    more = f" and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
    raise DataError(message, f"the words here: {', '.join(labels[-SHOWN_LABELS:]) or 'none'}{more}")


def require(pack: Pack, settings: Data) -> None:
    """Raise DataError where the clips are not enough to train, validate and test on."""
    require_word((packed.clip for packed in pack.clips), settings)
    if not (missing := _missing(pack, settings)):
        return
    groups = {c.clip.group for c in pack.clips if c.clip.label == settings.wakeword}
    if len(groups) == 1 and "wake word" in missing:
        message = f"all {settings.wakeword} clips are of one group, {groups.pop()}"
        raise DataError(message, "record other speakers, or set the column `split` of the manifest")
    others = (settings.model_copy(update={"fold": fold}) for fold in range(FOLDS))
    folds = [str(other.fold) for other in others if not _missing(pack, other)]
    hint = f"data.fold {', '.join(folds)} would do; or add " if folds else "add "
    raise DataError(missing, hint + "clips of other groups, or set the column `split`")


def _missing(pack: Pack, settings: Data) -> str:
    """What a split lacks, in words; empty if nothing."""
    for split in get_args(Split):
        selection = select(pack, settings, split)
        if not selection.positives:
            return f"the {split} split has no clips of the wake word {settings.wakeword}"
        if split != "train" and not (selection.speech or selection.noise):
            return f"the {split} split has no streams: no speech and no noise"
    train = select(pack, settings, "train")
    if not (train.negatives or train.speech or train.noise):
        return "the train split has no negatives: no other words, speech or noise"
    return ""


# --- packed


def pack(clips: list[Clip], cache: Path, *, emit: Emit, control: Control) -> Pack:
    """Decode all clips once into `cache/<key>/{audio.npy,index.json}`, or open what is there.

    The folder appears whole or not at all. A file that cannot be read is listed, left out and tried
    again the next time; more than 20 of them and more than 5 % raise DataError, and so does a full
    disk.
    """
    folder = cache / _key(clips)
    found = _current(folder, clips)
    if found is None:
        _build(clips, folder, emit, control)
        found = _open(folder, clips)
    if found is None:
        raise DataError(f"{folder} is damaged though just written", "check the disk")
    emit(Progressed("pack", len(clips), len(clips), "files"))
    return found


def packed_already(clips: list[Clip], cache: Path) -> Pack | None:
    """The pack of these clips if it is in the cache and lacks nothing that can be read now."""
    return _current(cache / _key(clips), clips)


def _key(clips: list[Clip]) -> str:
    digest = hashlib.sha256(str(VERSION).encode())
    for clip in clips:
        try:
            stat = clip.path.stat()
            state = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:
            state = "missing"
        line = f"{clip.path}|{state}|{clip.label}|{clip.start_s} {clip.end_s}\n"
        digest.update(line.encode(errors="surrogateescape"))  # of a name that is not UTF-8
    return digest.hexdigest()


def _current(folder: Path, clips: list[Clip]) -> Pack | None:
    """Open a pack, unless a file that it lacks can be read now, say by other permissions."""
    found = _open(folder, clips)
    return None if found and any(_reads(path) for path, _ in found.unreadable) else found


def _reads(path: Path) -> bool:
    try:
        read_audio(path)
    except DataError:
        return False
    return True


def _open(folder: Path, clips: list[Clip]) -> Pack | None:
    """Map a pack into memory; None where there is none, or it is damaged."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        audio: Int16 = np.load(folder / "audio.npy", mmap_mode="c", allow_pickle=False)
        if audio.shape != (index["samples"],):
            return None
        packed = tuple(PackedClip(clips[row.pop("n")], **row) for row in index["clips"])
        unreadable = tuple((clips[n].path, reason) for n, reason in index["unreadable"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Pack(audio, packed, unreadable, folder)


def _build(clips: list[Clip], folder: Path, emit: Emit, control: Control) -> None:
    try:
        with building(folder.parent) as part:
            _write(clips, part, emit, control)
            if _current(folder, clips) is None:  # else another process was faster: it may be in use
                shutil.rmtree(folder, ignore_errors=True)
                part.rename(folder)
    except OSError as error:
        raise disk_error(folder, error) from error


def _write(clips: list[Clip], part: Path, emit: Emit, control: Control) -> None:
    rows, unreadable, samples, due_s = [], list[tuple[int, str]](), 0, 0.0
    with (part / "audio.npy").open("wb") as file, closing(_decoded(clips)) as decoded:
        _header(file, 0)
        for n, result in enumerate(decoded):
            control.tick()
            if isinstance(result, DataError):
                unreadable.append((n, result.message))
                _stop_if_too_many(unreadable, len(clips))
            else:
                packed, audio = result
                file.write(audio.tobytes())
                rows.append({"n": n, **_facts(replace(packed, offset=samples))})
                samples += len(audio)
            if time.monotonic() >= due_s:
                due_s = time.monotonic() + PROGRESS_EVERY_S
                emit(Progressed("pack", n + 1, len(clips), "files"))
        file.seek(0)
        _header(file, samples)
    index = {"samples": samples, "clips": rows, "unreadable": unreadable}
    (part / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _header(file: BinaryIO, samples: int) -> None:
    """Write the head of an .npy file; numpy leaves room in it for the array to grow."""
    head = {"descr": "<i2", "fortran_order": False, "shape": (samples,)}
    np.lib.format.write_array_header_1_0(file, head)


def _facts(packed: PackedClip) -> dict[str, object]:
    """The fields of a packed clip that are computed from its audio."""
    return {f.name: getattr(packed, f.name) for f in fields(packed) if f.name != "clip"}


def _stop_if_too_many(unreadable: list[tuple[int, str]], total: int) -> None:
    if len(unreadable) > max(MOST_UNREADABLE, MOST_UNREADABLE_SHARE * total):
        first = "\n".join(f"  {reason}" for _, reason in unreadable[:10])
        message = f"too many of the {total} files cannot be read; the first are\n{first}"
        raise DataError(message, "convert them to WAV, or take them out of the manifest")


Decoded = tuple[PackedClip, Int16] | DataError


def _decoded(clips: list[Clip]) -> Generator[Decoded]:
    """Decode in threads, in order, with only a few files in memory; libsndfile frees the GIL."""
    workers = os.cpu_count() or 1
    waiting: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for clip in clips:
            waiting.append(pool.submit(_decode, clip))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _decode(clip: Clip) -> Decoded:
    try:
        audio = to_int16(read_audio(clip.path))
    except DataError as error:
        return error
    given = None if clip.start_s is None or clip.end_s is None else (clip.start_s, clip.end_s)
    facts = inspect(audio, has_word=clip.label not in WORDLESS, given=given)
    content = hashlib.sha256(audio.tobytes()).hexdigest()
    packed = PackedClip(
        clip,
        offset=0,
        samples=len(audio),
        peak_db=facts.peak_db,
        level_db=facts.level_db,
        start_s=facts.start_s,
        end_s=facts.end_s,
        doubt=facts.doubt,
        content=content,
    )
    return packed, audio
