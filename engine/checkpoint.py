"""One self-describing file: a SHA-256, then a dict that `torch.load(weights_only=True)` reads.

Neither torch nor safetensors notices a flipped bit, so the hash stands before the data and is
checked before anything is unpacked. Files are replaced whole (`write_atomic`).
"""

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

import engine
from engine.audio import SAMPLE_RATE
from engine.dataset import Selection
from engine.errors import CheckpointError, RecipeError
from engine.features import LogMel, restore
from engine.files import HASH_BYTES, is_file, sealed, unsealed, write_atomic
from engine.metrics import OperatingPoint
from engine.models import build
from engine.quantize import quantised
from engine.recipe import Data, Recipe
from engine.recipe_distill import Distill
from engine.recipe_file import dump, loads
from engine.report import Measured

VERSION = 2
ZIP = b"PK\x03\x04"
UNREADABLE = (
    UnpicklingError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError,
)  # fmt: skip
"""What torch raises of a file that holds more, or other, than numbers."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a detector is: recipe, numbers, threshold, and where they came from."""

    recipe: str
    """The recipe as TOML."""
    statistics: dict[str, Tensor]
    """Mean and deviation `(M,)` of the training features."""
    weights: dict[str, Tensor]
    """The model's state; in `best` the averaged one that was measured."""
    operating_point: dict[str, float] | None
    """`threshold` and `target_fah`, frozen on validation."""
    provenance: dict[str, str]
    """Versions of the engine and torch, sources and licences of the data."""
    event_number: int
    """Number of the last event before this checkpoint; a resume cuts the log here."""
    ema: dict[str, Tensor] | None = None
    """Moving average of the weights."""
    trainer: dict[str, Any] | None = None
    """Optimiser, position, hard negatives, thread count; absent in `best`."""
    validation: str = ""
    """The measurement that chose it, as JSON; in `best` only."""
    config: str = ""
    """What its architecture is made of, as JSON, where the recipe does not tell (`config_of`)."""
    origin: str = ""
    """The file's hash as the training wrote it, once another threshold has been stored."""
    quantised: bool = False
    """Whether the weights are those of a quantised student, with the ranges of its activations."""
    version: int = VERSION

    def settings(self) -> Recipe:
        """The recipe it was made with."""
        return loads(self.recipe, Path("/"), name="the checkpoint's recipe")

    def model(self) -> nn.Module:
        """The model with its weights, ready to score; no random numbers are drawn for it.

        A training in another thread has torch's generator to itself.
        """
        with torch.device("meta"):
            model = build(self.settings(), self.config)
            if self.quantised:
                model = quantised(model, self.settings())
        load_weights(model, self.weights, assign=True)
        return model.eval()

    def features(self) -> LogMel:
        """The front end with its statistics."""
        return restore(self.settings().features, self.statistics)

    def validated(self) -> Measured:
        """How it measured on its validation split. Raises CheckpointError in `last`."""
        if not self.validation:
            raise CheckpointError("the checkpoint was not measured", "use the run's best.ckpt")
        return Measured.from_json(self.validation)

    def threshold(self) -> OperatingPoint:
        """The frozen operating point. Raises CheckpointError before the first validation."""
        if self.operating_point is None:
            raise CheckpointError(
                "the checkpoint has no operating point", "train until the first validation ends"
            )
        return OperatingPoint(**self.operating_point)


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all. A full disk leaves the old file, as a DataError."""
    buffer = io.BytesIO()
    torch.save(
        {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}, buffer
    )
    write_atomic(path, sealed(buffer.getvalue()))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and check its hash. Raises CheckpointError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        hint = "train first, or give the path of a .ckpt file"
        raise CheckpointError(f"cannot read {path}: {error.strerror}", hint) from error
    data = unsealed(raw)
    if data is None:
        hint = "use another copy; last.ckpt and best.ckpt are written apart"
        raise CheckpointError(f"{path} is damaged: its hash does not hold", hint)
    content = _opened(data, path)
    if content.get("version") != VERSION:
        message = f"{path} is of version {content.get('version')}, this engine reads {VERSION}"
        raise CheckpointError(message, "train again, or use the wakeword-tui that made it")
    try:
        return Checkpoint(**content)
    except TypeError as error:
        raise _no_checkpoint(path) from error


def _opened(data: bytes, path: Path) -> dict[str, Any]:
    """The dict in a file whose hash holds: whoever wrote the file wrote that too."""
    if not data.startswith(ZIP):
        raise _no_checkpoint(path)
    try:
        content = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except UNREADABLE as error:
        raise _no_checkpoint(path) from error
    if not isinstance(content, dict):
        raise _no_checkpoint(path)
    return content


def _no_checkpoint(path: Path) -> CheckpointError:
    hint = "use a .ckpt file that wakeword-tui wrote; do not trust where this one is from"
    return CheckpointError(f"{path} holds something else than a checkpoint", hint)


def describe(checkpoint: Checkpoint) -> dict[str, str]:
    """What an exported file tells of its checkpoint: all but weights, and no path of a machine."""
    recipe = checkpoint.settings()
    data, train = Data(wakeword=recipe.data.wakeword), {"init": None}
    shipped = recipe.model_copy(
        update={
            "data": data,
            "train": recipe.train.model_copy(update=train),
            "distill": Distill(),
        }
    )
    numbers = {name: value.tolist() for name, value in checkpoint.statistics.items()}
    return {
        "version": json.dumps(VERSION),
        "recipe": dump(shipped),
        "statistics": json.dumps(numbers),
        "operating_point": json.dumps(checkpoint.operating_point),
        "provenance": json.dumps(checkpoint.provenance),
        "identity": identity(checkpoint),
    }


def identity(checkpoint: Checkpoint) -> str:
    """The SHA-256 of what was learnt, the same in every file that is exported from it."""
    digest = hashlib.sha256()
    for numbers in (checkpoint.weights, checkpoint.statistics):
        for name in sorted(numbers):
            digest.update(name.encode())
            digest.update(numbers[name].detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def described(told: dict[str, str]) -> Checkpoint:
    """Read what `describe` wrote: a checkpoint without weights. Raises CheckpointError."""
    try:
        told_of = ("version", "statistics", "operating_point", "provenance")
        read = {name: json.loads(told[name]) for name in told_of}
        if read["version"] != VERSION:
            raise ValueError("another version")
        numbers = {name: torch.tensor(value) for name, value in read["statistics"].items()}
        return Checkpoint(
            told["recipe"], numbers, {}, read["operating_point"], read["provenance"], 0
        )
    except (KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(
            "the exported file does not tell its recipe, or is of another version",
            "export it with this wakeword-tui",
        ) from error


def sha256(path: Path) -> str:
    """The hash of a checkpoint file's content, as it stands at its head."""
    with path.open("rb") as file:
        return file.read(HASH_BYTES).decode()


def load_weights(model: nn.Module, weights: dict[str, Tensor], *, assign: bool = False) -> None:
    """Put weights into a model of the same shape, or make them its own with `assign`.

    Raises CheckpointError naming what differs.
    """
    try:
        model.load_state_dict(weights, assign=assign)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2]
        message = f"the weights are of another model: {' '.join(first).strip()}"
        raise CheckpointError(message, "use the recipe they were trained with") from error


def set_operating_point(path: Path, threshold: float, target_fah: float) -> None:
    """Store another operating point, chosen by a person on the validation sweep.

    The checkpoint keeps its identity: what it has found, and what it mines, is still its own.
    """
    checkpoint = load(path)
    origin = checkpoint.origin or sha256(path)
    point = {"threshold": threshold, "target_fah": target_fah}
    if checkpoint.validation:
        moved = checkpoint.validated().at(threshold)
        checkpoint = replace(checkpoint, validation=moved.to_json())
    save(path, replace(checkpoint, operating_point=point, origin=origin))


def is_recipe_of(checkpoint: Checkpoint, recipe: Recipe) -> bool:
    """Whether a checkpoint's features and model are those of a recipe."""
    try:
        made = checkpoint.settings()
    except RecipeError:
        return False
    dropout = {"dropout": recipe.model.dropout}
    same_model = made.model.model_copy(update=dropout) == recipe.model
    return made.features == recipe.features and same_model


def heard_elsewhere(made: Recipe, now: Recipe) -> bool:
    """Whether a recipe tests on data of which another one trained other folds, or all."""
    tested = places_of(now.data)
    trained_whole = bool(tested & _lists(made.data.train_sources))
    shared = bool(tested & places_of(made.data))
    return trained_whole or (made.data.fold != now.data.fold and shared)


def places_of(data: Data) -> set[Path]:
    """Where the clips that a recipe splits are listed, the same however it spells the paths."""
    return _lists(place for place in (data.manifest, *data.sources) if place is not None)


def _lists(places: Iterable[Path]) -> set[Path]:
    """A folder is as good as the manifest in it."""
    within = ((place, place / "manifest.csv") for place in places)
    return {(listed if is_file(listed) else place).resolve() for place, listed in within}


def provenance_of(selection: Selection) -> dict[str, str]:
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
        "sample_rate_hz": str(SAMPLE_RATE),
        "sources": "; ".join(sorted({clip.source for clip in clips if clip.source})),
        "licences": "; ".join(sorted({clip.licence for clip in clips if clip.licence})),
    }
