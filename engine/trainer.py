"""Trainer: the student, its moving average and optimiser, and one step of training.

Everything random in a step is drawn from (seed, epoch, step), and the learning rate is a function
of the step, so a checkpoint needs no random state: it holds weights, moving average, optimiser,
position, and where in the audio the model was fooled.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.ahead import Ahead
from engine.augment import Tracts, equalise, spec_augment
from engine.batches import Batches, step_generator
from engine.checkpoint import (
    Checkpoint,
    heard_elsewhere,
    is_recipe_of,
    load_weights,
    provenance_of,
)
from engine.dataset import Pack, select
from engine.device import laid_out
from engine.distill import Distiller
from engine.errors import CheckpointError, RecipeError
from engine.events import Emit
from engine.features import LogMel, planes, statistics
from engine.hard import HardNegatives
from engine.heard import Heard
from engine.jobs import Control
from engine.lessons import Lessons, fingerprint, lessons_of, source
from engine.losses import loss
from engine.metrics import OperatingPoint
from engine.models import (
    begin,
    build,
    checkpoint_blocks,
    config_of,
    hears_samples,
)
from engine.optimiser import Following, autocast, averaged_of, optimiser
from engine.quantize import calibrate, freeze_norms, quantised
from engine.recipe import Recipe
from engine.recipe_file import dump, override
from engine.teachers import Lesson

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
        config: str | None = None,
    ) -> None:
        """Make everything new but the weights and statistics to `start` from, if any.

        A trainer that waits for `restore` is told the `config` of the checkpoint, which may be "".
        """
        if recipe.train.epochs == 0 and recipe.train.init is None:
            raise RecipeError(
                "train.epochs = 0 trains nothing", hint="name a checkpoint in train.init"
            )
        self.recipe, self.device, self.packed = recipe, device, packed
        self.train_set = select(packed, recipe.data, "train")
        # A pack keeps its name when clips change places between the splits.
        self.data_key = f"{packed.folder.name} {fingerprint(self.train_set)}"
        self.validation = Heard(packed, select(packed, recipe.data, "validation"), recipe)
        torch.manual_seed(recipe.train.seed)
        self.model = laid_out(build(recipe, config or ""), device)
        self.batches = Batches(packed, self.train_set, recipe, device)
        # On a CPU half of the threads make batches, which takes as long as learning from them.
        self.threads = torch.get_num_threads()
        makers = self.threads // 2 if device.type == "cpu" else 0
        torch.set_num_threads(self.threads - makers)
        self.ahead = Ahead(source(self.batches, packed, self.train_set), makers)
        self.features = LogMel(recipe.features).to(device)
        self.features.fit(self.batches.plain(STATISTICS_WINDOWS))
        self.tracts = Tracts(self.features, recipe.features, recipe.augment)
        if config is None:
            begin(self.model, recipe)
        if start is not None:
            self._start_from(start)
        self.distiller: Distiller | None = None
        self.lessons: Lessons | None = None
        # Small gradients vanish in float16: the loss is scaled up, and they down again.
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.train.precision == "float16")
        self.hard = HardNegatives(packed, self.train_set, recipe)
        self.position = Position(validated=0 if recipe.train.epochs else UNHEARD)
        self.quantising = False
        self.provenance = provenance_of(self.train_set)
        if start is not None:
            self.provenance["start"] = start.provenance.get("sources", "")
        self._begin()

    def _begin(self) -> None:
        """Follow the student from here on: its moving average, its optimiser, its best weights."""
        self.averaged = copy.deepcopy(self.model).eval()
        self._following = Following(self.averaged, self.model)
        if self.recipe.distill.teachers:
            self.distiller = self._listening(self.distiller)
        self.optimiser = optimiser(self.model, self.distiller, self.recipe, self.device)
        self.kept: list[Candidate] = []
        # A block that is run again would count its ranges again, and round otherwise.
        if self.recipe.train.gradient_checkpointing and not self.quantising:
            checkpoint_blocks(self.model)
        if self.recipe.train.compile:
            torch._dynamo.config.suppress_errors = True  # no compiler: the student runs as it is
            self.model.compile()

    def _listening(self, before: Distiller | None) -> Distiller:
        """What has the student listen to its teachers; it goes on from one `before`."""
        distiller = Distiller(self.recipe, self.model, self.device)
        if before is not None:
            distiller.restore(before.kept())
        return distiller

    def quantise(self, weights: dict[str, Tensor] | None = None) -> None:
        """Go on with the student as INT8: from float `weights`, calibrated, or before `restore`."""
        model = build(self.recipe)
        if weights is not None:
            load_weights(model, weights)
        self.model = laid_out(quantised(model, self.recipe), self.device)
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
        if heard_elsewhere(checkpoint.settings(), self.recipe):
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
        frames, labels, clear = self.draw()
        # What is rounded to 256 steps has no bits to lose: the fine-tuning uses float32.
        precision = "float32" if self.quantising else self.recipe.train.precision
        with autocast(self.device, precision):
            logits = self.model(frames)
        value = loss(logits, labels, self.recipe.loss)
        if self.distiller is not None:
            part = self.position.step / self.total_steps
            value = self.distiller(value, logits, labels, self._lessons(clear), part)
        self.descend(value)
        return value.detach()

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Give frames `(B, M, T)` of this step, labels `(B,)`, and what teachers hear `(B, N)`."""
        train, step = self.recipe.train, self.position.step
        torch.manual_seed(int(step_generator(train.seed, 0, step).initial_seed()))
        # The next epoch draws other hard negatives: none of its batches can be made before.
        stop = (self.epoch + 1) * train.steps_per_epoch
        waveform, labels, clear = self.ahead.take(step, stop)
        self.model.train()
        if self.quantising and self._norms_are_frozen():
            freeze_norms(self.model)
        with torch.no_grad():
            return self._frames(waveform), labels, clear

    def descend(self, value: Tensor) -> None:
        """Step down the slope of a loss, and on to the next step."""
        recipe, position = self.recipe, self.position
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate() * group.get("rate", 1.0)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(value).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.model.parameters(), recipe.train.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        steps = position.step - self.first_step  # at the start the average follows closely
        self._following.move(min(recipe.train.ema_decay, (1 + steps) / (10 + steps)))
        position.step += 1

    def _norms_are_frozen(self) -> bool:
        done = self.position.step - self.first_step
        return done >= self.recipe.quantize.freeze_norm_epochs * self.recipe.train.steps_per_epoch

    def prepare(self, cache: Path, *, emit: Emit, control: Control) -> None:
        """Have the teachers hear the batches that come again, where the recipe has such."""
        if self.distiller is None or not self.recipe.distill.views:
            return
        heard = self.batches, self.packed, self.train_set
        self.lessons = lessons_of(cache, *heard, self.distiller)
        self.lessons.fill(self.recipe.distill.cache_mb, emit=emit, control=control)

    def _lessons(self, waveform: Tensor) -> tuple[Lesson, ...]:
        """What the teachers say of the waveforms of this step, or said of them before."""
        assert self.distiller is not None
        if self.lessons is None:
            return self.distiller.ask(waveform)
        return self.lessons.at(self.position.step % self.lessons.count, self.device)

    def _frames(self, waveform: Tensor) -> Tensor:
        """Turn the waveforms of a step `(B, N)` into what the student sees of them `(B, M, T)`."""
        if hears_samples(self.model):
            return waveform
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

    def keep(self, rank: tuple[int, float]) -> bool:
        """Keep the averaged weights if they are among the best; say whether they are the best.

        Of weights that rank alike the later ones are better.
        """
        weights = _copied(self.averaged)
        ranked = [Candidate(rank, weights), *self.kept]
        ranked.sort(key=lambda candidate: candidate.rank)
        epochs = self.recipe.quantize.epochs if self.quantising else self.recipe.train.epochs
        self.kept = ranked[: averaged_of(self.recipe.train, epochs)]
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
            "pack": self.data_key,
            "threads": self.threads,
            "scaler": self.scaler.state_dict(),
        }
        if self.distiller is not None:
            trainer["distiller"] = self.distiller.kept()
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
            config=config_of(self.model),
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
            config=config_of(model),
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
        if self.distiller is not None:
            self.distiller.restore(state["distiller"])
        self.position = Position(**state["position"])
        self.provenance = {**checkpoint.provenance, **self.provenance}
        self.kept = [Candidate((missed, area), w) for missed, area, w in state["kept"]]
        same = state["pack"] in (self.data_key, self.packed.folder.name)  # of an older version
        self.hard.restore(state["hard"] if same else [])
        self.batches.hard = self.hard.spans()
        self.ahead.forget()
        return same


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
