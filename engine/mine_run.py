"""Mining without a long recording: a run's own clips and streams, and triggers caught elsewhere.

False alarms of the training split teach the next run. Those of validation and test may be queued
too, so that a person can check the labels: their groups see to it that they never train.
"""

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import accumulate, chain
from pathlib import Path

import numpy as np

from engine import audio
from engine.dataset import PackedClip, pack, read, select
from engine.detector import Detection, vote_levels
from engine.errors import DataError
from engine.events import Emit, JobStarted, Mined, PhaseChanged, Progressed, Warned
from engine.finder import Finder, Peaks
from engine.heard import Heard
from engine.jobs import Control
from engine.manifest import Split, audio_files, clips_at
from engine.metrics import hops_within
from engine.queue_store import Find, QueueStore, content_of
from engine.runs import Workspace
from engine.scorer import blocks

ADD_EVERY_S = 2.0
AFTER_S = 0.4
LONGEST_S = 60.0
"""A recording that is imported is one item, and is heard and shown as one."""
FALSE_TRIGGER = "false_trigger"
Place = tuple[PackedClip, Detection]


def mine_split(
    checkpoint_path: Path,
    split: Split,
    workspace: Workspace,
    *,
    threshold: float | None = None,
    emit: Emit,
    control: Control,
) -> int:
    """Queue the false alarms on a split of a checkpoint's own data; give how many are new.

    The training split is heard at the lower threshold, the others at the operating point, where
    the streams give the alarms that their report counts. Raises CheckpointError and DataError.
    """
    emit(JobStarted("mine", checkpoint_path.absolute().parent.parent.name, f"{split} split"))
    finder = Finder.of(checkpoint_path)
    emit(PhaseChanged("pack"))
    settings = finder.recipe.data
    packed = pack(read(settings), workspace.cache, emit=emit, control=control)
    heard = Heard(packed, select(packed, settings, split), finder.recipe)
    default = finder.lower if split == "train" else finder.point
    level = default if threshold is None else threshold
    emit(PhaseChanged("mine"))
    found = _Found(workspace.queue, finder, level)
    with closing(found):
        for place in _places(heard, finder, level, emit, control):
            found.add(*place)
    selection = heard.selection
    clips = [*selection.speech, *selection.noise, *selection.negatives]
    hours = sum(clip.seconds for clip in clips) / 3600
    emit(Mined(f"the {split} split", hours, found.new))
    return found.new


def _places(
    heard: Heard, finder: Finder, level: float, emit: Emit, control: Control
) -> Iterator[Place]:
    """Where the detector fires on the streams, then on the other words."""
    streams, words = (*heard.selection.speech, *heard.selection.noise), heard.selection.negatives
    total = len(streams) + len(words)
    steps = chain(_on_streams(heard, streams, finder, level), _on_words(heard, finder, level))
    for done, places in enumerate(steps, 1):
        control.tick()
        emit(Progressed("mine", min(done, total), total, "clips"))
        yield from places


def _on_streams(
    heard: Heard, clips: Sequence[PackedClip], finder: Finder, level: float
) -> Iterator[list[Place]]:
    """Hear the streams as the benchmark does, one after another, and say in which clip it fires."""
    scorer, grid = finder.scorer, finder.scorer.grid
    peaks, hop = Peaks(finder.rules, level, grid.hop_s), 0
    ends = list(accumulate(clip.seconds for clip in clips))
    scorer.reset()
    for clip in clips:
        fired = []
        for block in blocks(heard.waveform(clip)):
            for score in scorer.push(block).tolist():
                fired.append(peaks.push(score, grid.window_s + hop * grid.hop_s))
                hop += 1
        yield [_in_its_clip(peak, clips, ends) for peak in fired if peak]
    if last := peaks.finish():
        yield [_in_its_clip(last, clips, ends)]


def _in_its_clip(peak: Detection, clips: Sequence[PackedClip], ends: list[float]) -> Place:
    """The clip in which a window of the joined streams ends, and when."""
    row = min(bisect_left(ends, peak.time_s), len(clips) - 1)
    start_s = ends[row] - clips[row].seconds
    return clips[row], Detection(peak.time_s - start_s, peak.score)


def _on_words(heard: Heard, finder: Finder, level: float) -> Iterator[list[Place]]:
    """Hear each other word as the benchmark does; one of them fires once at most."""
    grid = finder.scorer.grid
    for clip in heard.selection.negatives:
        levels = vote_levels(finder.scorer.score(heard.clip(clip)), finder.rules)
        span = (heard.lead_s, heard.lead_s + clip.seconds)
        first, after = hops_within(len(levels), grid.window_s, grid.hop_s, *span)
        if first >= after or (peak := float(levels[first:after].max())) < level:
            yield []
            continue
        hop = first + int(levels[first:after].argmax())
        time_s = grid.window_s + hop * grid.hop_s - heard.lead_s
        yield [(clip, Detection(min(time_s, clip.seconds), peak))]


class _Adder:
    """Finds on their way into the queue, every two seconds and at the end."""

    def __init__(self, path: Path) -> None:
        self.store, self.new = QueueStore(path), 0
        self._waiting: list[Find] = []
        self._kept_s = time.monotonic()

    def put(self, find: Find) -> None:
        """Take a find."""
        self._waiting.append(find)
        if time.monotonic() - self._kept_s >= ADD_EVERY_S:
            self._keep()

    def close(self) -> None:
        """Put what is left into the queue."""
        try:
            self._keep()
        finally:
            self.store.close()

    def _keep(self) -> None:
        self.new += self.store.add(self._waiting)
        self._waiting, self._kept_s = [], time.monotonic()


class _Found(_Adder):
    """The finds of a detector on clips of a pack."""

    def __init__(self, path: Path, finder: Finder, threshold: float) -> None:
        super().__init__(path)
        self.finder, self.threshold = finder, threshold
        self._contents: dict[Path, str] = {}

    def add(self, clip: PackedClip, fired: Detection) -> None:
        """Take a place in a clip of the pack."""
        path = clip.clip.path
        if path not in self._contents:
            self._contents[path] = content_of(path)
        start_s, end_s = self.finder.place(fired, clip.seconds)
        self.put(
            Find(
                path=path,
                content=self._contents[path],
                time_s=fired.time_s,
                start_s=start_s,
                end_s=end_s,
                score=fired.score,
                threshold=self.threshold,
                group=clip.clip.group,
                checkpoint=self.finder.checkpoint,
                found_by="benchmark",
            )
        )


def import_triggers(
    source: Path,
    workspace: Workspace,
    *,
    checkpoint_path: Path | None = None,
    emit: Emit,
    control: Control,
) -> int:
    """Queue recordings that woke some engine: a file, a folder, or a manifest's `false_trigger`.

    With a checkpoint its highest score is theirs. Gives how many are new; a file that cannot be
    read or lasts more than a minute is warned of. Raises DataError where there is none.
    """
    emit(JobStarted("import", source.name, "queue"))
    finder = Finder.of(checkpoint_path) if checkpoint_path is not None else None
    paths, seconds = _triggers(source.absolute()), 0.0
    with closing(_Adder(workspace.queue)) as adder:
        for done, path in enumerate(paths, 1):
            control.tick()
            try:
                find = _imported(path, finder, workspace)
            except DataError as error:
                emit(Warned(f"skipped {error.message}", error.hint))
            else:
                adder.put(find)
                seconds += find.end_s
            emit(Progressed("import", done, len(paths), "files"))
    emit(Mined(str(source), seconds / 3600, adder.new))
    return adder.new


def _triggers(source: Path) -> list[Path]:
    """The files to import."""
    if source.is_dir() and not (source / "manifest.csv").exists():
        paths = audio_files(source)
    elif source.is_dir() or source.suffix == ".csv":
        rows = [clip for clip in clips_at(source, "") if clip.label == FALSE_TRIGGER]
        paths = sorted({clip.path for clip in rows})
    else:
        paths = [source]
    if not paths:
        hint = "name a folder of recordings, or a manifest with the label false_trigger"
        raise DataError(f"no recordings to import in {source}", hint)
    return paths


def _imported(path: Path, finder: Finder | None, workspace: Workspace) -> Find:
    """A recording as one find, all of it; where it scores highest if something can score it.

    It is heard between silences, since it may be shorter than a window.
    """
    if (length_s := audio.seconds(path)) > LONGEST_S:
        message = f"{path} lasts {length_s:.1f} s, an import {LONGEST_S:g} s at most"
        raise DataError(message, workspace.command("mine", str(path)))
    content, waveform = content_of(path), audio.read(path)
    end_s = len(waveform) / audio.SAMPLE_RATE
    time_s, score, threshold = end_s, 0.0, 0.0
    if finder is not None:
        threshold, grid = finder.point, finder.scorer.grid
        around = (grid.window_samples, round(AFTER_S * audio.SAMPLE_RATE))
        levels = vote_levels(finder.scorer.score(np.pad(waveform, around)), finder.rules)
        score = float(levels.max())
        time_s = min(int(levels.argmax()) * grid.hop_s, end_s)
    return Find(
        path=path,
        content=content,
        time_s=time_s,
        start_s=0.0,
        end_s=end_s,
        score=score,
        threshold=threshold,
        group=f"user:{content}",
        checkpoint="",
        found_by="import",
    )
