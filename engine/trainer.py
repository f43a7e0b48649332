"""Trainer: the student, its moving average and optimiser, and one step of training.

Everything random in a step is drawn from (seed, epoch, step), and the learning rate is a function
of the step, so a checkpoint needs no random state: it holds weights, moving average, optimiser,
position, and where in the audio the model was fooled.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

import engine
from engine.ahead import Ahead
from engine.augment import Tracts, equalise, spec_augment
from engine.batches import Batches, step_generator
from engine.checkpoint import Checkpoint, is_recipe_of, load_weights
from engine.dataset import Pack, Selection, select
from engine.errors import CheckpointError, RecipeError
from engine.evaluate import Heard
from engine.features import LogMel, planes, statistics
from engine.hard import HardNegatives
from engine.losses import loss
from engine.metrics import OperatingPoint
from engine.models import build, checkpoint_blocks
from engine.quantize import calibrate, freeze_norms, quantised
from engine.recipe import Recipe
from engine.recipe_file import dump, override

STATISTICS_WINDOWS = 512
UNHEARD = -1
"""Where a position was validated if what it starts from is to be measured first."""


@dataclass(slots=True)
class Position:
    """Where training is; all of it goes into the checkpoint."""

    step: int = 0
    validated: int = 0
    lr_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """Weights and how they did on validation: `rank` is (misses of all cohorts, DET area)."""

    rank: tuple[int, float]
    weights: dict[str, Tensor]


class Trainer:
    """The things a step works on: student, moving average, optimiser, batches, position."""

    def __init__(
        self,
        recipe: Recipe,
        packed: Pack,
        device: torch.device,
        *,
        start: Checkpoint | None = None,
    ) -> None:
        """Make everything new but the weights and statistics to `start` from, if any."""
        if recipe.train.epochs == 0 and recipe.train.init is None:
            raise RecipeError(
                "train.epochs = 0 trains nothing", hint="name a checkpoint in train.init"
            )
        self.recipe, self.device, self.pack_key = recipe, device, packed.folder.name
        self.train_set = select(packed, recipe.data, "train")
        self.validation = Heard(packed, select(packed, recipe.data, "validation"), recipe)
        torch.manual_seed(recipe.train.seed)
        self.model = _laid_out(build(recipe), device)
        self.batches = Batches(packed, self.train_set, recipe, device)
        # On a CPU half of the threads make batches, which takes as long as learning from them.
        self.threads = torch.get_num_threads()
        makers = self.threads // 2 if device.type == "cpu" else 0
        torch.set_num_threads(self.threads - makers)
        # Not a method of this trainer: it would hold itself, and its memory, after the run.
        draw, steps = self.batches.draw, recipe.train.steps_per_epoch
        self.ahead = Ahead(lambda step: draw(step // steps, step), makers)
        self.features = LogMel(recipe.features).to(device)
        self.features.fit(self.batches.plain(STATISTICS_WINDOWS))
        self.tracts = Tracts(self.features, recipe.features, recipe.augment)
        if start is not None:
            self._start_from(start)
        # Small gradients vanish in float16: the loss is scaled up, and they down again.
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.train.precision == "float16")
        self.hard = HardNegatives(packed, self.train_set, recipe)
        self.position = Position(validated=0 if recipe.train.epochs else UNHEARD)
        self.quantising = False
        self.provenance = _provenance(self.train_set)
        if start is not None:
            self.provenance["start"] = start.provenance.get("sources", "")
        self._begin()

    def _begin(self) -> None:
        """Follow the student from here on: its moving average, its optimiser, its best weights."""
        self.averaged = copy.deepcopy(self.model).eval()
        self._pairs = _pairs(self.averaged, self.model)
        self.optimiser = _optimiser(self.model, self.recipe, self.device)
        self.kept: list[Candidate] = []
        if self.recipe.train.gradient_checkpointing:
            checkpoint_blocks(self.model)
        if self.recipe.train.compile:
            torch._dynamo.config.suppress_errors = True  # no compiler: the student runs as it is
            self.model.compile()

    def quantise(self, weights: dict[str, Tensor] | None = None) -> None:
        """Go on with the student as INT8: from float `weights`, calibrated, or before `restore`."""
        model = build(self.recipe)
        if weights is not None:
            load_weights(model, weights)
        self.model = _laid_out(quantised(model, self.recipe), self.device)
        self.quantising = True
        if weights is not None:
            calibrate(self.model, self._mix())
            self.position.validated = UNHEARD
        self._begin()

    def _mix(self) -> Iterator[Tensor]:
        """Frames `(B, M, T)` of batches with as much of the wake word as a device hears."""
        settings, batches = self.recipe.quantize, copy.copy(self.batches)
        share = {"train.positive_share": settings.positive_share}
        batches.recipe = override(self.recipe, share)
        for number in range(settings.calibration_batches):
            waveform, _ = batches.draw(self.recipe.train.epochs, self.first_step + number)
            yield self.features(waveform)

    def _start_from(self, checkpoint: Checkpoint) -> None:
        if checkpoint.quantised:
            raise CheckpointError(
                f"{self.recipe.train.init} is INT8 already", "start from the best.ckpt beside it"
            )
        if not is_recipe_of(checkpoint, self.recipe):
            raise CheckpointError(
                f"{self.recipe.train.init} has other features or another model than the recipe",
                "use its recipe's [features] and [model], or drop train.init",
            )
        if _heard_elsewhere(checkpoint.settings(), self.recipe):
            raise CheckpointError(
                f"{self.recipe.train.init} was trained on voices that this fold tests on",
                "start from a checkpoint of the same data.fold, or of other data",
            )
        load_weights(self.model, checkpoint.weights)
        self.features.mean.copy_(checkpoint.statistics["mean"])
        self.features.std.copy_(checkpoint.statistics["std"])

    @property
    def total_steps(self) -> int:
        """Where the float training ends, or, in the fine-tuning, the whole run."""
        more = self.recipe.quantize.epochs if self.quantising else 0
        return (self.recipe.train.epochs + more) * self.recipe.train.steps_per_epoch

    @property
    def first_step(self) -> int:
        """Where the fine-tuning begins, or the float training."""
        train = self.recipe.train
        return train.epochs * train.steps_per_epoch if self.quantising else 0

    @property
    def epoch(self) -> int:
        """The epoch of the next step, from 0."""
        return self.position.step // self.recipe.train.steps_per_epoch

    def epoch_ended(self) -> bool:
        """Whether an epoch is through and not validated yet; a run may be stopped in between."""
        step = self.position.step
        return step % self.recipe.train.steps_per_epoch == 0 and step > self.position.validated

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine down to zero (Loshchilov and Hutter 2017)."""
        train, first = self.recipe.train, self.first_step
        step, steps = self.position.step - first, self.total_steps - first
        warm = max(1, round(train.warmup * steps))
        if step < warm:
            factor = (step + 1) / warm
        else:
            factor = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
        highest = self.recipe.quantize.lr if self.quantising else train.lr
        return highest * self.position.lr_scale * factor

    def step(self) -> Tensor:
        """One optimiser step; gives the loss, a scalar that stays on the device."""
        frames, labels = self.draw()
        # What is rounded to 256 steps has no bits to lose: the fine-tuning uses float32.
        precision = "float32" if self.quantising else self.recipe.train.precision
        with autocast(self.device, precision):
            logits = self.model(frames)
        value = loss(logits, labels, self.recipe.loss)
        self.descend(value)
        return value.detach()

    def draw(self) -> tuple[Tensor, Tensor]:
        """Give what the student sees in this step `(B, M, T)`, and the labels `(B,)`."""
        train, step = self.recipe.train, self.position.step
        torch.manual_seed(int(step_generator(train.seed, 0, step).initial_seed()))
        # The next epoch draws other hard negatives: none of its batches can be made before.
        waveform, labels = self.ahead.take(step, (self.epoch + 1) * train.steps_per_epoch)
        self.model.train()
        if self.quantising and self._norms_are_frozen():
            freeze_norms(self.model)
        with torch.no_grad():
            return self._frames(waveform), labels

    def descend(self, value: Tensor) -> None:
        """Step down the slope of a loss, and on to the next step."""
        recipe, position = self.recipe, self.position
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(value).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.model.parameters(), recipe.train.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self._average()
        position.step += 1

    def _norms_are_frozen(self) -> bool:
        done = self.position.step - self.first_step
        return done >= self.recipe.quantize.freeze_norm_epochs * self.recipe.train.steps_per_epoch

    def _frames(self, waveform: Tensor) -> Tensor:
        """Turn the waveforms of a step `(B, N)` into what the student sees of them `(B, M, T)`."""
        seed, step = self.recipe.train.seed, self.position.step
        filters = None
        if self.recipe.augment.tract > 0:
            tracts = step_generator(seed, self.epoch, step, "tracts")
            filters = self.tracts.draw(len(waveform), tracts)
        return self._hide(
            self.features(waveform, filters), step_generator(seed, self.epoch, step, "masks")
        )

    def _hide(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """Equalise the log-mel rows of `(B, M, T)`, since PCEN undoes that by itself, and mask."""
        augment, features = self.recipe.augment, self.recipe.features
        if features.normalise != "pcen":
            log, rest = frames[:, : features.mels], frames[:, features.mels :]
            log = equalise(log, self.features.std[: features.mels], augment, generator)
            frames = torch.cat([log, rest], dim=1)
        return spec_augment(frames, augment, features.step_ms, generator, planes(features))

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights; at the start they follow closely."""
        steps = self.position.step - self.first_step
        decay = min(self.recipe.train.ema_decay, (1 + steps) / (10 + steps))
        averages, weights, counts = self._pairs
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for ours, theirs in counts:
            ours.copy_(theirs)

    def keep(self, rank: tuple[int, float]) -> bool:
        """Keep the averaged weights if they are among the best; say whether they are the best.

        Of weights that rank alike the later ones are better.
        """
        weights = _copied(self.averaged)
        ranked = [Candidate(rank, weights), *self.kept]
        ranked.sort(key=lambda candidate: candidate.rank)
        self.kept = ranked[: self.recipe.train.average_best]
        return self.kept[0].weights is weights

    def mean_of_kept(self) -> nn.Module:
        """A student with the mean of the best weights (Izmailov et al. 2018)."""
        model, mean = copy.deepcopy(self.averaged), dict(self.kept[0].weights)
        for name, value in mean.items():
            if value.is_floating_point():
                mean[name] = torch.stack([kept.weights[name] for kept in self.kept]).mean(dim=0)
        load_weights(model, mean)
        return model

    def checkpoint(self, event_number: int) -> Checkpoint:
        """Everything a resume needs."""
        trainer = {
            "optimiser": self.optimiser.state_dict(),
            "position": asdict(self.position),
            "hard": self.hard.state(),
            "kept": [(*kept.rank, kept.weights) for kept in self.kept],
            "pack": self.pack_key,
            "threads": self.threads,
            "scaler": self.scaler.state_dict(),
        }
        return Checkpoint(
            recipe=dump(self.recipe),
            statistics=statistics(self.features),
            weights=self.model.state_dict(),
            ema=self.averaged.state_dict(),
            operating_point=None,
            provenance=self.provenance,
            event_number=event_number,
            trainer=trainer,
            quantised=self.quantising,
        )

    def shipped(self, model: nn.Module, point: OperatingPoint) -> Checkpoint:
        """A student's weights with a threshold: what is measured, and shipped if it is best."""
        return Checkpoint(
            recipe=dump(self.recipe),
            statistics=statistics(self.features),
            weights=_copied(model),
            operating_point=asdict(point),
            provenance=self.provenance,
            event_number=0,
            quantised=self.quantising,
        )

    def restore(self, checkpoint: Checkpoint) -> bool:
        """Go back to a checkpoint, exactly; False if the data changed and hard negatives are lost.

        They are places in the packed audio: in another pack something else would lie there.
        """
        state: dict[str, Any] = checkpoint.trainer or {}
        if checkpoint.quantised and not self.quantising:
            self.quantise()
        load_weights(self.model, checkpoint.weights)
        load_weights(self.averaged, checkpoint.ema or checkpoint.weights)
        self.features.mean.copy_(checkpoint.statistics["mean"])
        self.features.std.copy_(checkpoint.statistics["std"])
        self.optimiser.load_state_dict(state["optimiser"])
        if scaler := state.get("scaler"):
            self.scaler.load_state_dict(scaler)
        self.position = Position(**state["position"])
        self.provenance = {**checkpoint.provenance, **self.provenance}
        self.kept = [Candidate((missed, area), w) for missed, area, w in state["kept"]]
        same = bool(state["pack"] == self.pack_key)
        self.hard.restore(state["hard"] if same else [])
        self.batches.hard = self.hard.spans()
        self.ahead.forget()
        return same


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _laid_out(model: nn.Module, device: torch.device) -> nn.Module:
    """Put a model on its device; on a GPU pictures lie channels last, for its tensor cores."""
    if device.type == "cuda":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)


Counted = list[tuple[Tensor, Tensor]]


def _pairs(ours: nn.Module, theirs: nn.Module) -> tuple[list[Tensor], list[Tensor], Counted]:
    """Weights to average, what they follow, and the counters of norms, which are copied."""
    pairs = [*zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)]
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    counts = [pair for pair in pairs if not pair[0].is_floating_point()]
    return [pair[0] for pair in floats], [pair[1] for pair in floats], counts


def _optimiser(model: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); norms and biases are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    free = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
    train, fused = recipe.train, device.type == "cuda" or None
    return torch.optim.AdamW(groups, lr=train.lr, weight_decay=train.weight_decay, fused=fused)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """bfloat16 on a GPU that has it, unless the recipe says otherwise; the CPU uses float32."""
    if device.type != "cuda" or precision == "float32":
        return nullcontext()
    if precision == "auto" and not torch.cuda.is_bf16_supported():
        return nullcontext()
    dtype = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast("cuda", dtype=dtype)


def _heard_elsewhere(made: Recipe, now: Recipe) -> bool:
    """Whether a recipe tests on data of which another one trained other folds, or all."""
    places = [{r.data.manifest, *r.data.sources} - {None} for r in (made, now)]
    trained_whole = bool(places[1] & set(made.data.train_sources))
    return trained_whole or (made.data.fold != now.data.fold and bool(places[0] & places[1]))


def _provenance(selection: Selection) -> dict[str, str]:
    """Where the training audio came from, and under which licences."""
    clips = [
        clip.clip
        for part in (
            selection.positives,
            selection.negatives,
            selection.speech,
            selection.noise,
            selection.rooms,
        )
        for clip in part
    ]
    return {
        "engine": engine.__version__,
        "torch": str(torch.__version__),
        "sources": "; ".join(sorted({clip.source for clip in clips if clip.source})),
        "licences": "; ".join(sorted({clip.licence for clip in clips if clip.licence})),
    }
