"""What a training would take, before it begins: hours of audio, disk, and the time it needs.

It also tells where a training could not begin. Nothing is packed for it: clips that are not in the
cache are measured by the heads of their files, and a few real steps are timed on what is packed, or
on noise of the same shape.
"""

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from engine.audio import SAMPLE_RATE, seconds
from engine.cost import FLOAT_BYTES, Cost, cost, exceeded, locally
from engine.dataset import Pack, PackedClip, Selection, packed_already, read, require, select
from engine.device import describe, device_of, memory_errors, threads_of
from engine.errors import DataError, RecipeError, WakewordError
from engine.events import Emit, PhaseChanged
from engine.features import LogMel
from engine.heard import length_s
from engine.jobs import Control
from engine.lessons import Lessons, repeated, source
from engine.manifest import Clip, Split
from engine.onnx_graph import ConvLogMel
from engine.optimiser import averaged_of
from engine.pretrain import steps_to_learn
from engine.recipe import Recipe
from engine.recipe_file import override
from engine.remaining import hearings
from engine.runs import Workspace
from engine.scorer import Scorer
from engine.teachers import Lesson, faults, qualify
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
    words_steps: int = 0
    """Steps in which many words are learned first; none where the cache holds what they teach."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What timing a few real steps showed; `gpu_mb` is the memory it took, None on a CPU."""

    device: str
    on: Literal["packed audio", "synthetic audio"]
    clips_per_s: float
    """Clips that the student learns from in a second, with what teachers say of them at hand."""
    scored_per_s: float
    """Seconds of audio that the model hears in a second, when it validates."""
    gpu_mb: float | None
    asked_per_s: float | None = None
    """Clips that the teachers hear in a second; None without any."""
    lessons_mb: float = 0.0
    """Disk for what they say, where that is kept."""

    def training_s(self, recipe: Recipe, audio: Audio) -> float:
        """Seconds that all of a training will take: words, teachers, steps, all that is scored."""
        steps, batch = recipe.epochs * recipe.train.steps_per_epoch, recipe.train.batch_size
        asked = repeated(recipe.distill, recipe.train) if recipe.distill.views else steps
        learned_s = (audio.words_steps + steps) * batch / self.clips_per_s
        asked_s = asked * batch / self.asked_per_s if self.asked_per_s else 0.0
        return learned_s + asked_s + audio.scored_s / self.scored_per_s


@dataclass(frozen=True, slots=True)
class Preview:
    """What trainings would take. `pace` and `training_s` are None if no time is known: see `why`.

    `audio` and `pace` are those of the first of them, `run_mb` the disk of each, `training_s` the
    time of all.
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
    audios = [_measured(recipe, outline, workspace.cache) for recipe in recipes]
    size = cost(locally(first))
    over = tuple(exceeded(first.targets, size))
    bare = Preview(size, run_mb(first, size), over, audios[0], len(recipes))
    lacking = next((audio.lacks for audio in audios if audio.lacks), "")
    hindered = [why for recipe in recipes for why in hindrances(recipe, workspace)]
    lacking = lacking or "; ".join(dict.fromkeys(hindered))
    if lacking:
        return replace(bare, why=lacking)
    holder = workspace.holder()
    if holder is not None:
        return replace(bare, why=f"no time was taken: {holder} is training")
    emit(PhaseChanged("timing"))
    pace = timing(first, workspace.cache, control=control)
    each_s = [pace.training_s(*pair) for pair in zip(recipes, audios, strict=True)]
    return replace(bare, pace=pace, training_s=sum(each_s))


def hindrances(recipe: Recipe, workspace: Workspace) -> tuple[str, ...]:
    """Why a training would refuse a recipe's teachers: their faults, or how they did.

    Nothing is fetched or heard for it: how they did was measured when they were trained.
    """
    found = faults(locally(recipe), workspace)
    try:
        if not found:
            qualify(recipe, workspace)
    except RecipeError as error:
        return ("; ".join((*error.problems, error.hint)),)
    except WakewordError as error:
        return (error.message,)
    return found


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
    return _measured(recipe, _outline(recipe, cache, control), cache)


def _measured(recipe: Recipe, outline: Pack, cache: Path) -> Audio:
    splits = {split: select(outline, recipe.data, split) for split in get_args(Split)}
    lacks, steps = _lacks(recipe, outline), recipe.train.words_steps
    try:
        steps = steps_to_learn(recipe, cache, threads_of(recipe))
    except DataError as error:
        lacks = lacks or f"data.words: {error.message}; {error.hint}"
    return Audio(
        hours={split: _hours(selection) for split, selection in splits.items()},
        cache_mb=2 * sum(clip.samples for clip in outline.clips) / 1e6,
        cached=outline.folder != NOWHERE,
        scored_s=sum(heard_s for _, heard_s in hearings(recipe, outline)),
        lacks=lacks,
        words_steps=steps,
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
    return {name: length_s(getattr(selection, field)) / 3600 for field, name in KINDS.items()}


def _averaged(recipe: Recipe) -> list[int]:
    """How many epochs are averaged, of the float student and of the INT8 one."""
    phases = [recipe.train.epochs, recipe.quantize.epochs if recipe.quantize.enabled else 0]
    return [averaged_of(recipe.train, epochs) for epochs in phases]


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
        with memory_errors(recipe), tempfile.TemporaryDirectory() as folder:
            made = override(locally(recipe), settings)
            trainer = Trainer(made, packed or synthetic(), device)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            asked_per_s, lessons_mb = _asked(trainer, Path(folder), lasts_s, control)
            steps_per_s = _per_s(lambda: trainer.step().item(), lasts_s, control)
            return Pace(
                device=described,
                on="packed audio" if packed else "synthetic audio",
                clips_per_s=recipe.train.batch_size * steps_per_s,
                scored_per_s=_scored_per_s(trainer, control),
                gpu_mb=_gpu_mb(device),
                asked_per_s=asked_per_s,
                lessons_mb=lessons_mb,
            )
    finally:
        torch.set_num_threads(before)


def _asked(
    trainer: Trainer, folder: Path, lasts_s: float, control: Control
) -> tuple[float | None, float]:
    """Clips that the teachers hear in a second, and MB of what they say, where that is kept.

    The trainer has what they say of one batch at hand from here on, in `folder`. Where they are
    asked beforehand, their batches are made for them alone, and that counts as well.
    """
    distiller, distill, train = trainer.distiller, trainer.recipe.distill, trainer.recipe.train
    if distiller is None:
        return None, 0.0
    count = repeated(distill, train)
    draw = source(trainer.batches, trainer.packed, trainer.train_set)
    waveform = draw(0)[2]

    def ask() -> tuple[Lesson, ...]:
        return distiller.ask(draw(count - 1)[2] if distill.views else waveform)

    per_s = _per_s(lambda: ask()[0].logits.sum().item(), lasts_s, control)
    said = sum(2 * value.numel() for one in ask() for value in (one.logits, *one.maps))
    trainer.lessons = Lessons(folder, "timing", 1, lambda _: distiller.ask(waveform))
    trainer.lessons.fill(math.inf, emit=lambda _: None, control=control)
    return train.batch_size * per_s, count * said / 1e6 if distill.views else 0.0


def _trainable(recipe: Recipe, cache: Path) -> Pack | None:
    """The pack of a recipe if it is there and can be trained on."""
    try:
        packed = packed_already(read(recipe.data), cache)
    except WakewordError:
        return None
    train = select(packed, recipe.data, "train") if packed else None
    enough = train and train.positives and (train.negatives or train.speech or train.noise)
    return packed if enough else None


def _per_s(act: Callable[[], object], lasts_s: float, control: Control) -> float:
    """How often a second; `act` waits for the device. The first ones find memory: not counted."""
    for _ in range(WARM_STEPS):
        control.tick()
        act()
    began, times, spent_s = time.perf_counter(), 0, 0.0
    while spent_s < lasts_s:
        control.tick()
        act()
        times += 1
        spent_s = time.perf_counter() - began
    return times / spent_s


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
    for label, long_s, count in lengths:
        for number in range(count):
            clip = Clip(Path(f"{label}{number}"), label, "", take=str(number), split="train")
            clips.append(_as_packed(clip, offset, round(long_s * SAMPLE_RATE)))
            offset += clips[-1].samples
    noise = np.random.default_rng(0).normal(0, 1000, offset)
    return Pack(noise.astype(np.int16), tuple(clips), (), Path("synthetic"))
