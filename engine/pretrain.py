"""Before it hears its wake word, a student learns to tell many words apart, whoever says them.

A few recordings of one word teach a student more about their speakers than about the word. What
hundreds of words by a hundred voices teach it, to listen past voice and noise, holds for any wake
word, so it is learned once for a kind of student and a training split, and kept in the cache. The
voices may be synthetic (Lin et al. 2020), what they speak in is not: noise, rooms and other speech
are those that the recipe trains on. None of it is ever measured on.

    frames (B, M, T) -> [ the student's layers ] -> [ its head ]          is it the wake word?
                                                '-> [ a head of words ]   which one? thrown away
"""

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from engine.batches import Batches
from engine.checkpoint import Checkpoint, load, save
from engine.dataset import Pack, PackedClip, kind_of, pack, packed_already, read, select, splits_of
from engine.errors import DataError, RecipeError
from engine.events import Emit, PhaseChanged, Progressed, Warned, WordsLearned
from engine.files import make_folder
from engine.jobs import Control, Stopped
from engine.optimiser import autocast
from engine.recipe import Data, Recipe, Train
from engine.recipe_file import dump, override
from engine.runs import Workspace
from engine.synth import speak_words
from engine.trainer import Trainer

WORD = "word"
NAME, SPOKEN = "words.ckpt", "words"
SMOOTHING = 0.05
ROUNDS = 8
SHOW_EVERY_S = 0.5
# Hundreds of words are harder to tell apart than one from the rest: what hides them is softer, and
# they differ less in level.
EASIER: dict[str, Any] = {
    "augment.room": 0.4,
    "augment.noise": 0.7,
    "augment.snr_low_db": 0.0,
    "augment.snr_high_db": 30.0,
    "augment.softer_db": 12.0,
    "augment.shift_ms": 200,
    "train.positive_share": 0.85,
    "train.hard_share": 0.0,
    "train.partial_share": 0.0,
    "train.epochs": 1,
}


def learned(
    recipe: Recipe,
    own: Pack,
    device: torch.device,
    workspace: Workspace,
    *,
    emit: Emit,
    control: Control,
) -> Checkpoint | None:
    """Give the student of a recipe as it comes out of its words, from the cache if it is there.

    `own` are the clips of the recipe; what is not a word in its training split is heard as well.

    None where the recipe asks for no words, or where nobody can say them. What is stopped or killed
    goes on from its last checkpoint. Raises DataError for words that cannot be learned from.
    """
    if not recipe.train.words_steps or recipe.train.init is not None:
        return None
    folder = recipe.data.words or _spoken(workspace, emit, control)
    if folder is None:
        return None
    clips = read(Data(manifest=folder))
    measured = {clip.path for clip in clips} & {clip.path for clip in read(recipe.data)}
    if measured:
        message = f"data.words holds {min(measured)}, which is measured on"
        raise DataError(message, "name other recordings, or leave it out")
    packed = _among(pack(clips, workspace.cache, emit=emit, control=control), own, recipe.data)
    lesson = _lesson_of(recipe)
    threads = torch.get_num_threads()
    kept = workspace.cache / _key(lesson, packed, threads)
    if not (kept / NAME).exists():
        emit(PhaseChanged("words"))
        try:
            _Lesson(lesson, packed, device, emit, control).go(kept)
        finally:
            torch.set_num_threads(threads)
    return load(kept / NAME)


def steps_to_learn(recipe: Recipe, cache: Path, threads: int) -> int:
    """How many steps of words a training would begin with; none that the cache holds."""
    steps = 0 if recipe.train.init is not None else recipe.train.words_steps
    folder = recipe.data.words or cache / SPOKEN
    if not steps or not folder.exists():
        return steps
    words = packed_already(read(Data(manifest=folder)), cache)
    own = packed_already(read(recipe.data), cache)
    if words is None or own is None:
        return steps
    key = _key(_lesson_of(recipe), _among(words, own, recipe.data), threads)
    return 0 if (cache / key / NAME).exists() else steps


def _spoken(workspace: Workspace, emit: Emit, control: Control) -> Path | None:
    """The words that synthetic voices say, said now if they are not in the cache."""
    folder = workspace.cache / SPOKEN
    if not folder.exists():
        emit(PhaseChanged("speak"))
        try:
            speak_words(folder, emit=emit, control=control)
        except DataError as error:
            emit(Warned(f"no words to learn first: {error}", error.hint))
            return None
    return folder


def _lesson_of(recipe: Recipe) -> Recipe:
    """The recipe by which the words are learned: nothing in it hangs on how a word is trained."""
    plain = Recipe(
        name="words",
        data=Data(wakeword=WORD),
        features=recipe.features,
        model=recipe.model,
        train=Train(batch_size=recipe.train.batch_size, precision=recipe.train.precision),
    )
    return override(plain, {"train.steps_per_epoch": recipe.train.words_steps} | EASIER)


def _among(words: Pack, own: Pack, data: Data) -> Pack:
    """The words among the noise, rooms and speech of a training split, for what it has of them.

    What the words bring of their own is then left to validation. None of what they teach is a copy
    of a clip that the recipe measures on, or of a group of one.
    """
    chosen = select(own, data, "train")
    heard = [*chosen.speech, *chosen.noise, *chosen.rooms]
    known = {packed.clip.label for packed in heard}
    clips = [_trains(packed) for packed in heard]
    homes = zip(own.clips, splits_of(own.clips, data.fold), strict=True)
    measured = [packed for packed, home in homes if home != "train"]
    contents, groups = {c.content for c in measured}, {c.clip.group for c in measured}
    for packed, home in zip(words.clips, splits_of(words.clips, Data().fold), strict=True):
        clip = packed.clip
        ours = clip.label in known or packed.content in contents or clip.group in groups
        if home != "train" or not ours:
            clips.append(replace(packed, offset=packed.offset + len(own.audio)))
    folder = words.folder / hashlib.sha256("".join(map(_as_heard, clips)).encode()).hexdigest()
    return Pack(own.audio, tuple(clips), (), folder, cuts=words.audio)


def _as_heard(packed: PackedClip) -> str:
    """All of a clip that the words hang on: not where it lies."""
    clip = packed.clip
    return (
        f"{packed.content} {packed.start_s} {packed.end_s} {clip.label} {clip.group} {clip.split}\n"
    )


def _trains(packed: PackedClip) -> PackedClip:
    clip = packed.clip
    return replace(packed, clip=replace(clip, split="train", take=f"own {clip.take}"))


def _key(lesson: Recipe, packed: Pack, threads: int) -> str:
    text = f"{dump(lesson)}\n{packed.folder.name}\n{threads} threads"
    return hashlib.sha256(text.encode()).hexdigest()


class _Lesson:
    """A trainer whose loss asks which word was said, of all that the training voices say."""

    def __init__(
        self, lesson: Recipe, packed: Pack, device: torch.device, emit: Emit, control: Control
    ) -> None:
        self.emit, self.control = emit, control
        words = {c.offset: c.clip.label for c in packed.clips if _is_word(c)}
        self.packed = _as_one_word(packed)
        clips = select(self.packed, lesson.data, "train").positives
        self.names = sorted({words[clip.offset] for clip in clips})
        if len(self.names) < 2:
            hint = "give many, by voices that are not measured on, or leave it out"
            raise DataError("data.words has fewer than two words to learn from", hint)
        self.trainer = trainer = Trainer(lesson, self.packed, device)
        self.words = words
        trainer.batches.words_of = self._numbers(clips)
        self.reached = torch.zeros(0)
        trainer.model.get_submodule("head").register_forward_pre_hook(self._catch)
        self.head = self._head()
        trainer.optimiser.add_param_group({"params": [*self.head.parameters()]})

    def go(self, folder: Path) -> None:
        """Learn from where `folder` was left, and leave `words.ckpt` in it."""
        trainer, last = self.trainer, folder / "last.ckpt"
        make_folder(folder)
        if last.exists():
            self._restore(load(last))
        shown_s = saved_s = time.monotonic()
        try:
            while trainer.position.step < trainer.total_steps:
                self.control.tick()
                loss = self._step()
                now = time.monotonic()
                if now - shown_s >= SHOW_EVERY_S:
                    shown_s = now
                    _check(loss)
                    self._show()
                if now - saved_s >= trainer.recipe.train.checkpoint_every_s:
                    saved_s = now
                    save(last, self._checkpoint())
        except Stopped:
            save(last, self._checkpoint())
            raise
        self._show()
        self.emit(WordsLearned(len(self.names), self._accuracy()))
        weights = {name: value.cpu() for name, value in trainer.averaged.state_dict().items()}
        made = replace(trainer.checkpoint(0), weights=weights, ema=None, trainer=None)
        save(folder / NAME, made)
        last.unlink(missing_ok=True)

    def _step(self) -> Tensor:
        frames, words, _ = self.trainer.draw()
        with autocast(self.trainer.device, self.trainer.recipe.train.precision):
            told = self._tell(frames)
        value = cross_entropy(told.float(), words.long(), label_smoothing=SMOOTHING)
        self.trainer.descend(value)
        return value.detach()

    def _tell(self, frames: Tensor) -> Tensor:
        """How likely each word is, `(B, 1 + words)`; the first stands for none of them."""
        self.trainer.model(frames)
        told: Tensor = self.head(self.reached.flatten(1))
        return told

    def _catch(self, _: nn.Module, reached: tuple[Tensor]) -> None:
        self.reached = reached[0]

    def _head(self) -> nn.Module:
        """A head of words for what reaches the student's own."""
        trainer = self.trainer
        trainer.model.eval()
        with torch.no_grad():
            trainer.model(trainer.features(trainer.batches.plain(2)))
        wide = self.reached.flatten(1).shape[1]
        return nn.Linear(wide, 1 + len(self.names)).to(trainer.device)

    @torch.no_grad()
    def _accuracy(self) -> float:
        """How often the word is told, of voices, noises and rooms that were not learned from."""
        trainer, chosen = self.trainer, self.trainer.validation.selection
        batches = Batches(self.packed, chosen, trainer.recipe, trainer.device)
        batches.words_of = self._numbers(chosen.positives)
        trainer.model.eval()
        right = count = 0
        for number in range(ROUNDS):
            waveform, words = batches.draw(0, number)
            told = self._tell(trainer.features(waveform)).argmax(dim=1)
            asked = words > 0
            right += int((told == words)[asked].sum())
            count += int(asked.sum())
        return right / max(count, 1)

    def _numbers(self, clips: tuple[PackedClip, ...]) -> Tensor:
        numbers = {name: number for number, name in enumerate(self.names, start=1)}
        return torch.tensor([float(numbers.get(self.words[c.offset], 0)) for c in clips])

    def _show(self) -> None:
        trainer = self.trainer
        self.emit(Progressed("words", trainer.position.step, trainer.total_steps, "steps"))

    def _checkpoint(self) -> Checkpoint:
        made = self.trainer.checkpoint(0)
        return replace(made, trainer={**(made.trainer or {}), "words": self.head.state_dict()})

    def _restore(self, stored: Checkpoint) -> None:
        self.trainer.restore(stored)
        self.head.load_state_dict((stored.trainer or {})["words"])


def _is_word(packed: PackedClip) -> bool:
    return kind_of(packed.clip, "") == "negative"


def _as_one_word(packed: Pack) -> Pack:
    """The clips with every word labelled alike, as a trainer knows one word."""
    clips = (
        replace(clip, clip=replace(clip.clip, label=WORD)) if _is_word(clip) else clip
        for clip in packed.clips
    )
    return replace(packed, clips=tuple(clips))


def _check(loss: Tensor) -> None:
    if not bool(loss.isfinite()):
        message = "the loss is not a finite number while words are learned"
        raise RecipeError(message, hint="lower train.lr, or set train.words_steps = 0")
