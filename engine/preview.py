"""What a training would take, before it begins: hours of audio, disk, and the time it needs.

It also tells where a training could not begin. Nothing is packed for it: clips that are not in the
cache are measured by the heads of their files, and a few real steps are timed on what is packed, or
on noise of the same shape.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from engine.audio import SAMPLE_RATE, seconds
from engine.cohorts import CONDITIONS
from engine.cost import FLOAT_BYTES, Cost, cost, exceeded
from engine.dataset import Pack, PackedClip, Selection, packed_already, read, require, select
from engine.device import describe, device_of, memory_errors, threads_of
from engine.errors import DataError, WakewordError
from engine.evaluate import SPEEDS, TAIL_S, Heard
from engine.events import Emit, PhaseChanged
from engine.features import LogMel
from engine.hard import HOURS_PER_EPOCH
from engine.jobs import Control
from engine.manifest import Clip, Split
from engine.onnx_graph import ConvLogMel
from engine.optimiser import averaged_of
from engine.pretrain import steps_to_learn
from engine.recipe import Recipe
from engine.recipe_file import override
from engine.runs import Workspace
from engine.scorer import Scorer
from engine.teachers import faults
from engine.trainer import Trainer

TIMING_S = 2.0
WARM_STEPS = 2
HEARD_S = 30
KINDS = {"positives": "wake word", "negatives": "other words", "speech": "speech",
         "noise": "noise", "rooms": "rooms"}  # fmt: skip
WORD = "word"
NOWHERE = Path()

Hours = dict[Split, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Audio:
    """The audio of a recipe: hours by split and kind, and its place on the disk once packed."""

    hours: Hours
    cache_mb: float
    cached: bool
    scored_s: float
    """Seconds of audio that the model hears in all validations, searches and the test."""
    lacks: str
    """Why no training can begin on it; empty if one can."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What timing a few real steps showed; `gpu_mb` is the memory it took, None on a CPU."""

    device: str
    on: Literal["packed audio", "synthetic audio"]
    clips_per_s: float
    scored_per_s: float
    """Seconds of audio that the model hears in a second, when it validates."""
    gpu_mb: float | None

    def training_s(self, recipe: Recipe, audio: Audio) -> float:
        """Seconds that all of a training will take."""
        train = recipe.train
        clips = recipe.epochs * train.steps_per_epoch * train.batch_size
        return clips / self.clips_per_s + audio.scored_s / self.scored_per_s


@dataclass(frozen=True, slots=True)
class Preview:
    """What trainings would take. `pace` and `training_s` are None if no time is known: see `why`.

    `audio` is that of the first of them, `run_mb` the disk of each, `training_s` the time of all.
    """

    cost: Cost
    run_mb: float
    exceeded: tuple[str, ...]
    audio: Audio
    runs: int
    pace: Pace | None = None
    training_s: float | None = None
    why: str = ""


def preview(
    recipes: Sequence[Recipe], workspace: Workspace, *, emit: Emit, control: Control
) -> Preview:
    """Count what a training would take, or several that differ in their fold alone.

    Steps are not timed where no training can begin, nor while another one trains. Raises DataError
    where there is no audio.
    """
    first = recipes[0]
    emit(PhaseChanged("count"))
    outline = _outline(first, workspace.cache, control)
    audios = [_measured(recipe, outline) for recipe in recipes]
    size = cost(first)
    over = tuple(exceeded(first.targets, size))
    bare = Preview(size, run_mb(first, size), over, audios[0], len(recipes))
    lacking = next((audio.lacks for audio in audios if audio.lacks), "")
    lacking = lacking or "; ".join(fault for each in recipes for fault in faults(each, workspace))
    if lacking:
        return replace(bare, why=lacking)
    holder = workspace.holder()
    if holder is not None:
        return replace(bare, why=f"no time was taken: {holder} is training")
    emit(PhaseChanged("timing"))
    pace = timing(first, workspace.cache, control=control)
    each_s = [pace.training_s(*pair) for pair in zip(recipes, audios, strict=True)]
    steps = steps_to_learn(first, workspace.cache, threads_of(first))
    words_s = steps * first.train.batch_size / pace.clips_per_s
    return replace(bare, pace=pace, training_s=sum(each_s) + words_s)


def run_mb(recipe: Recipe, size: Cost) -> float:
    """Disk for a run, in MiB: its weights several times, and the Fourier bank of model.onnx.

    last.ckpt holds weights, their average, two moments and the copies that are kept to be averaged;
    best.ckpt, model.onnx and student.onnx hold the weights once each. The bank is `(F, N)`: cosines
    and sines of 257 bins over a frame of 400 samples.
    """
    kept = max(_averaged(recipe))
    bank = ConvLogMel(LogMel(recipe.features)).bank.numel()
    return (7 + kept) * size.float_kb / 1024 + FLOAT_BYTES * bank / 2**20


# --- the audio


def look(recipe: Recipe, cache: Path, *, control: Control) -> Audio:
    """Measure a recipe's audio. Raises DataError where there is none."""
    return _measured(recipe, _outline(recipe, cache, control))


def _measured(recipe: Recipe, outline: Pack) -> Audio:
    splits = {split: select(outline, recipe.data, split) for split in get_args(Split)}
    return Audio(
        hours={split: _hours(selection) for split, selection in splits.items()},
        cache_mb=2 * sum(clip.samples for clip in outline.clips) / 1e6,
        cached=outline.folder != NOWHERE,
        scored_s=_scored_s(recipe, outline, splits),
        lacks=_lacks(recipe, outline),
    )


def _lacks(recipe: Recipe, outline: Pack) -> str:
    try:
        require(outline, recipe.data)
    except DataError as error:
        return f"{error.message}; {error.hint}"
    return ""


def _outline(recipe: Recipe, cache: Path, control: Control) -> Pack:
    """The pack of a recipe's clips if there is one, else what packing would give but the audio."""
    clips = read(recipe.data)
    packed = packed_already(clips, cache)
    if packed is not None:
        return packed
    found = []
    for clip in clips:
        control.tick()
        found.append(_as_packed(clip, 0, round(seconds(clip.path) * SAMPLE_RATE)))
    return Pack(np.zeros(0, dtype=np.int16), tuple(found), (), NOWHERE)


def _as_packed(clip: Clip, offset: int, samples: int) -> PackedClip:
    length_s = samples / SAMPLE_RATE
    return PackedClip(
        clip,
        offset,
        samples,
        peak_db=-6.0,
        level_db=-20.0,
        start_s=0.2 * length_s,
        end_s=0.8 * length_s,
        doubt="",
        content="",
    )


def _hours(selection: Selection) -> dict[str, float]:
    return {name: _seconds(getattr(selection, field)) / 3600 for field, name in KINDS.items()}


def _seconds(clips: Iterable[PackedClip]) -> float:
    return sum(clip.seconds for clip in clips)


def _averaged(recipe: Recipe) -> list[int]:
    """How many epochs are averaged, of the float student and of the INT8 one."""
    phases = [recipe.train.epochs, recipe.quantize.epochs if recipe.quantize.enabled else 0]
    return [averaged_of(recipe.train, epochs) for epochs in phases]


def _scored_s(recipe: Recipe, pack: Pack, splits: dict[Split, Selection]) -> float:
    """Each epoch hears the validation split and looks for hard negatives; the test is heard once.

    The mean of the best weights is validated too, and what is shipped once more, its streams at
    every speed. A wake word is heard once in every condition, and each clip after a lead of
    background, some of which follows it.
    """

    def whole(split: Split) -> float:
        chosen = splits[split]
        clips = [*chosen.positives * len(CONDITIONS), *chosen.negatives]
        around_s = Heard(pack, chosen, recipe).lead_s + TAIL_S
        return _seconds([*clips, *chosen.speech, *chosen.noise]) + around_s * len(clips)

    train, epochs = splits["train"], max(recipe.epochs, 1)
    negatives_s = _seconds([*train.negatives, *train.speech, *train.noise])
    searched_s = min(HOURS_PER_EPOCH * 3600, negatives_s) if recipe.train.hard_share else 0.0
    validations = epochs + sum(kept > 1 for kept in _averaged(recipe))
    shipped_s = 0.0
    if recipe.evaluate.split == "test":
        streams = (*splits["validation"].speech, *splits["validation"].noise)
        shipped_s = whole("validation") + _seconds(streams) * sum(1 / speed for speed in SPEEDS)
    heard_s = validations * whole("validation") + shipped_s
    return heard_s + (epochs - 1) * searched_s + whole(recipe.evaluate.split)


# --- the timing


def timing(recipe: Recipe, cache: Path, *, control: Control, lasts_s: float = TIMING_S) -> Pace:
    """Train for about `lasts_s` seconds and throw it away.

    torch.compile is left out: it takes minutes to begin. Raises DeviceError.
    """
    device, before = device_of(recipe), torch.get_num_threads()
    packed = _trainable(recipe, cache)
    settings = {"train.compile": False} | ({} if packed else {"data.wakeword": WORD})
    torch.set_num_threads(threads_of(recipe))
    described = describe(device)
    try:
        with memory_errors(recipe):
            trainer = Trainer(override(recipe, settings), packed or synthetic(), device)
            return Pace(
                device=described,
                on="packed audio" if packed else "synthetic audio",
                clips_per_s=recipe.train.batch_size * _steps_per_s(trainer, lasts_s, control),
                scored_per_s=_scored_per_s(trainer, control),
                gpu_mb=_gpu_mb(device),
            )
    finally:
        torch.set_num_threads(before)


def _trainable(recipe: Recipe, cache: Path) -> Pack | None:
    """The pack of a recipe if it is there and can be trained on."""
    try:
        packed = packed_already(read(recipe.data), cache)
    except WakewordError:
        return None
    train = select(packed, recipe.data, "train") if packed else None
    enough = train and train.positives and (train.negatives or train.speech or train.noise)
    return packed if enough else None


def _steps_per_s(trainer: Trainer, lasts_s: float, control: Control) -> float:
    """Steps a second; the first ones, in which memory is found, are not counted."""
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.device)
    for _ in range(WARM_STEPS):
        control.tick()
        trainer.step().item()
    began, steps, spent_s = time.perf_counter(), 0, 0.0
    while spent_s < lasts_s:
        control.tick()
        trainer.step().item()  # waits for the device
        steps += 1
        spent_s = time.perf_counter() - began
    return steps / spent_s


def _scored_per_s(trainer: Trainer, control: Control) -> float:
    """Seconds of audio that the averaged student hears in a second, clip by clip."""
    scorer = Scorer(trainer.features, trainer.averaged, trainer.device)
    noise = np.random.default_rng(0).standard_normal(5 * SAMPLE_RATE)
    clip = (0.01 * noise).astype(np.float32)
    scorer.score(clip)
    began = time.perf_counter()
    for _ in range(HEARD_S // 5):
        control.tick()
        scorer.score(clip)
    return HEARD_S / (time.perf_counter() - began)


def _gpu_mb(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_reserved(device) / 2**20


def synthetic() -> Pack:
    """Noise of the shape of a small collection: 80 clips, four streams of a minute, four rooms."""
    lengths = [(WORD, 1.0, 40), ("other", 1.0, 40), ("speech", 60.0, 2), ("noise", 60.0, 2),
               ("rir", 0.4, 4)]  # fmt: skip
    clips, offset = [], 0
    for label, length_s, count in lengths:
        for number in range(count):
            clip = Clip(Path(f"{label}{number}"), label, "", take=str(number), split="train")
            clips.append(_as_packed(clip, offset, round(length_s * SAMPLE_RATE)))
            offset += clips[-1].samples
    noise = np.random.default_rng(0).normal(0, 1000, offset)
    return Pack(noise.astype(np.int16), tuple(clips), (), Path("synthetic"))
