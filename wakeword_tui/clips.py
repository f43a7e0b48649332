"""Clips: what a queue item sounds like, and what a detector made of it. Read off the event loop."""

import asyncio
import os
import shlex
import socket
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from getpass import getuser
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine import audio
from engine.audio import SAMPLE_RATE, Waveform
from engine.dataset import split_of
from engine.errors import DataError, WakewordError
from engine.files import disk_error, write_atomic
from engine.manifest import Clip, Split
from engine.mined import held_out
from engine.queue_store import QueueItem
from engine.recipe import Data, Recipe
from engine.runs import Run, Workspace
from wakeword_tui import verbs

MARGIN_S = 0.5
"""What is shown before and after the stretch that counts."""
SHORTEST_S = 0.1
KEPT = 24
MOST_HEARD = 1000


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The sound of an item with a margin on both sides, or why it cannot be heard."""

    number: int
    begin_s: float
    """Where in the recording the waveform begins."""
    waveform: Waveform = field(repr=False)
    trouble: str = ""

    @property
    def length_s(self) -> float:
        """How long it is, with its margins."""
        return len(self.waveform) / SAMPLE_RATE

    def cut(self, item: QueueItem) -> Waveform:
        """The stretch of the item `(N,)`, without the margins."""
        start, end = (
            round((at_s - self.begin_s) * SAMPLE_RATE)
            for at_s in (item.find.start_s, item.find.end_s)
        )
        return self.waveform[max(start, 0) : max(end, 0)]

    def share(self, time_s: float) -> float:
        """Where a time of the recording is in the waveform, 0 to 1."""
        return min(max((time_s - self.begin_s) / max(self.length_s, 1e-9), 0.0), 1.0)

    def edges(self, item: QueueItem) -> tuple[float, float]:
        """Where the stretch of an item begins and ends in the waveform, 0 to 1."""
        return self.share(item.find.start_s), self.share(item.find.end_s)

    def trimmed(self, item: QueueItem, start_s: float, end_s: float) -> tuple[float, float]:
        """The edges of an item moved by so many seconds, within what is shown."""
        first, last = self.begin_s, self.begin_s + self.length_s
        start = min(max(item.find.start_s + start_s, first), item.find.end_s - SHORTEST_S)
        end = max(min(item.find.end_s + end_s, last), start + SHORTEST_S)
        return start, end


@dataclass(frozen=True, slots=True)
class ScoreCurve:
    """What a detector made of a clip: a score at each time of the recording, in seconds."""

    by: str
    """The run whose checkpoint it is."""
    times_s: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float32]
    threshold: float


def read_clip(item: QueueItem) -> Excerpt:
    """Read what an item sounds like; a file that cannot be read is its trouble."""
    find = item.find
    begin_s = max(0.0, find.start_s - MARGIN_S)
    try:
        waveform = audio.stretch(find.path, begin_s, find.end_s + MARGIN_S)
    except WakewordError as error:
        reason = error.message.removeprefix(f"{find.path}: ")
        reason = reason if find.path.exists() else f"not there any more: {find.path}"
        return Excerpt(item.id, begin_s, np.zeros(0, dtype=np.float32), reason)
    return Excerpt(item.id, begin_s, waveform)


Asked: TypeAlias = tuple[int, Run | None, int]
"""An item, a run, and when the run's best checkpoint was written."""


def _asked(item: QueueItem, run: Run | None) -> Asked:
    try:
        return item.id, run, run.best.stat().st_mtime_ns if run else 0
    except OSError:
        return item.id, run, 0


class Shelf:
    """Clips that were read and heard. Two threads: one reads, the other has the detectors."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._clips: OrderedDict[int, Excerpt] = OrderedDict()
        self._heard: dict[Asked, ScoreCurve | str] = {}
        self._splits: dict[tuple[int, Data], Future[Split]] = {}
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="clips")
        self._critic = ThreadPoolExecutor(1, thread_name_prefix="critic")

    def close(self) -> None:
        """Begin nothing any more."""
        for executor in (self._reader, self._critic):
            executor.shutdown(wait=False, cancel_futures=True)

    def look(self, item: QueueItem) -> Excerpt | None:
        """The clip of an item if it is here."""
        return self._clips.get(item.id)

    async def fetch(self, item: QueueItem) -> Excerpt:
        """The clip of an item, read if it is not here."""
        if item.id not in self._clips:
            loop = asyncio.get_running_loop()
            self._clips[item.id] = await loop.run_in_executor(self._reader, read_clip, item)
            while len(self._clips) > KEPT:
                self._clips.popitem(last=False)
        return self._clips[item.id]

    def split(self, item: QueueItem, recipe: Recipe | None) -> Split | None:
        """Where a run of a recipe would put an item; None without one, or until that is known."""
        if recipe is None:
            return None
        asked = item.id, recipe.data
        if asked not in self._splits:
            if len(self._splits) > MOST_HEARD:
                self._splits.clear()
            self._splits[asked] = self._critic.submit(split_in, self._workspace, recipe.data, item)
        known = self._splits[asked]
        return known.result() if known.done() else None

    def knows(self, item: QueueItem, run: Run | None) -> bool:
        """Whether the scores of an item are here."""
        return _asked(item, run) in self._heard

    async def hear(self, item: QueueItem, run: Run | None) -> ScoreCurve | str:
        """How the checkpoint that fired, or an open run, scores a clip; or why none does."""
        asked = _asked(item, run)
        if asked not in self._heard:
            if len(self._heard) > MOST_HEARD:
                self._heard.clear()
            clip, loop = await self.fetch(item), asyncio.get_running_loop()
            self._heard[asked] = await loop.run_in_executor(
                self._critic, scored, self._workspace, item, clip, run
            )
        return self._heard[asked]


def scored(
    workspace: Workspace, item: QueueItem, clip: Excerpt, run: Run | None
) -> ScoreCurve | str:
    """Score a clip; torch is imported on the way."""
    if clip.trouble:
        return ""
    try:
        return verbs.hear(workspace, item, clip, run)
    except WakewordError as error:
        return error.message


def split_in(workspace: Workspace, settings: Data, item: QueueItem) -> Split:
    """The split that an item is of in a run of these settings: if it measures, never trained on.

    Where the data cannot be read any more the group alone tells.
    """
    try:
        return _held_out(settings, workspace.cache).split_of(item)
    except DataError:
        return split_of(Clip(item.find.path, "", item.find.group), settings.fold)


_held_out = lru_cache(maxsize=2)(held_out)


def save_clip(workspace: Workspace, item: QueueItem, clip: Excerpt) -> Path:
    """Write what is heard of an item as a WAV into the workspace. Raises DataError."""
    if clip.trouble:
        raise DataError(clip.trouble)
    path = workspace.root / "clips" / f"{item.id:06}-{item.find.path.stem}.wav"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(path, error) from error
    write_atomic(path, audio.wav(clip.cut(item)))
    return path.resolve()


def scp_line(path: Path, environment: Mapping[str, str] = os.environ) -> str:
    """What fetches a file when it is typed on the machine that one sits at."""
    user, port = _user(), ""
    host = socket.gethostname()
    connection = environment.get("SSH_CONNECTION", "").split()
    if len(connection) == 4:
        host = f"[{connection[2]}]" if ":" in connection[2] else connection[2]
        port = "" if connection[3] == "22" else f"-P {connection[3]} "
    return f"scp {port}{shlex.quote(f'{user}{host}:{path}')} ."


def _user() -> str:
    """Who one is here, with an @; nothing where the user has no name, as in some containers."""
    try:
        return f"{getuser()}@"
    except (KeyError, OSError):
        return ""
