"""Recipe: everything that decides a run, in one TOML file read strictly.

`load` reads a file, `override` is the only way to change a recipe (the form, `--set`, a fork), and
`dump` writes it back. A field's help is the docstring under it; the form, `docs/recipe.md` and the
JSON schema read it there. A field that nothing reads fails a test.
"""

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from engine.errors import RecipeError

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A frozen table of a recipe: unknown keys and wrong types are refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class Data(Section):
    """What is trained on and measured on."""

    manifest: Path | None = None
    """A manifest.csv, or a folder with positive/ negative/ streams/ noise/ rir/."""
    sources: tuple[Path, ...] = ()
    """Further manifests or folders mixed with the first, synthetic voices beside real ones, say."""
    wakeword: str = ""
    """The label of the wake word; clips with other words become negatives."""
    fold: Annotated[int, Field(ge=0, le=4)] = 0
    """The fold that is the test set; the next one validates, the other three train."""


class Features(Section):
    """How a waveform becomes log-mel frames."""

    mels: Annotated[int, Field(ge=8, le=128)] = 40
    """Mel bands of a frame."""
    frame_ms: Annotated[int, Field(ge=10, le=64)] = 25
    """Length of the stretch under one frame, in ms."""
    step_ms: Annotated[int, Field(ge=5, le=20)] = 10
    """Time from one frame to the next, in ms."""
    low_hz: Annotated[float, Field(ge=0, le=1000)] = 60.0
    """Lower edge of the lowest mel band, in Hz."""
    high_hz: Annotated[float, Field(ge=2000, le=8000)] = 7600.0
    """Upper edge of the highest mel band, in Hz."""
    window_ms: Annotated[int, Field(ge=500, le=4000)] = 1500
    """What the model hears for one score, in ms; longer than the longest wake word."""
    hop_ms: Annotated[int, Field(ge=20, le=100)] = 80
    """Time from one score to the next, in ms; a multiple of step_ms."""

    @model_validator(mode="after")
    def _hop_is_whole_steps(self) -> "Features":
        if self.hop_ms % self.step_ms:
            raise ValueError(f"hop_ms {self.hop_ms} is not a multiple of step_ms {self.step_ms}")
        return self

    @model_validator(mode="after")
    def _frames_leave_no_gap(self) -> "Features":
        if self.step_ms > self.frame_ms:
            raise ValueError(f"step_ms {self.step_ms} is above frame_ms {self.frame_ms}")
        return self


class Model(Section):
    """The student: the small network that is shipped."""

    arch: Literal["tinyconv", "mobilenetv3"] = "tinyconv"
    """tinyconv is smallest and fastest; mobilenetv3 (Small) is larger."""
    width: Annotated[float, Field(ge=0.25, le=4)] = 1.0
    """Multiplies the channels of every layer."""
    depthwise: bool = True
    """TinyConv with depthwise separable convolutions: at least 70 % fewer parameters."""
    dropout: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    """Share of the last layer's features that are zeroed while training."""


class Augment(Section):
    """What is done to clips while training, on the device; a share is the part of a batch."""

    speed: Share = 0.5
    """Share of clips played slower or faster."""
    speed_range: Annotated[float, Field(ge=0, le=0.3)] = 0.25
    """Largest change of speed, as a fraction."""
    room: Share = 0.5
    """Share of clips heard in a room (an impulse response of the training split)."""
    noise: Share = 0.7
    """Share of clips with background noise of the training split mixed in."""
    snr_low_db: Annotated[float, Field(ge=-20, le=60)] = 0.0
    """Loudest background, as signal-to-noise ratio in dB."""
    snr_high_db: Annotated[float, Field(ge=-20, le=60)] = 25.0
    """Softest background, as signal-to-noise ratio in dB."""
    gain_db: Annotated[float, Field(ge=0, le=40)] = 12.0
    """Level is changed by up to this much either way, in dB."""
    equaliser_db: Annotated[float, Field(ge=0, le=20)] = 3.0
    """Deviation of a random equaliser, smooth over the mel bands, in dB: other microphones."""
    shift_ms: Annotated[int, Field(ge=0, le=1000)] = 400
    """A positive window ends up to this long after the end of its word, in ms."""
    time_masks: Annotated[int, Field(ge=0, le=4)] = 1
    """SpecAugment: stretches of time hidden in a window."""
    time_mask_ms: Annotated[int, Field(ge=0, le=300)] = 150
    """SpecAugment: longest hidden stretch, in ms."""
    freq_masks: Annotated[int, Field(ge=0, le=4)] = 1
    """SpecAugment: groups of mel bands hidden in a window."""
    freq_mask_mels: Annotated[int, Field(ge=0, le=30)] = 6
    """SpecAugment: most mel bands hidden in a group."""

    @model_validator(mode="after")
    def _snr_is_a_range(self) -> "Augment":
        if self.snr_low_db > self.snr_high_db:
            raise ValueError(
                f"snr_low_db {self.snr_low_db} is above snr_high_db {self.snr_high_db}"
            )
        return self


class Loss(Section):
    """What training minimises."""

    kind: Literal["cross_entropy", "focal"] = "cross_entropy"
    """cross_entropy, or focal (Lin et al. 2017), which turns from easy clips to hard ones."""
    positive_weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    """How much more a wake word weighs than a negative."""
    focal_gamma: Annotated[float, Field(ge=0, le=5)] = 2.0
    """Focal loss: how strongly easy clips are played down."""
    label_smoothing: Annotated[float, Field(ge=0, le=0.3)] = 0.0
    """Targets are moved this far from 0 and 1."""


class Train(Section):
    """The loop."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Seeds everything random in the run."""
    epochs: Annotated[int, Field(ge=1, le=10000)] = 20
    """Epochs; each ends with a validation."""
    steps_per_epoch: Annotated[int, Field(ge=1, le=100000)] = 100
    """Optimiser steps in an epoch."""
    batch_size: Annotated[int, Field(ge=2, le=65536)] = 128
    """Windows in a step."""
    positive_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of a batch that holds the wake word."""
    hard_share: Share = 0.3
    """Share of a batch's negatives drawn from the highest scores on training streams."""
    partial_share: Share = 0.05
    """Share of the other negatives that are halves of the wake word, lest half of it is enough."""
    lr: Annotated[float, Field(gt=0, le=1)] = 3e-3
    """Highest learning rate."""
    warmup: Share = 0.05
    """Share of all steps in which the learning rate rises; then it falls as a cosine."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    """AdamW's weight decay."""
    clip_norm: Annotated[float, Field(gt=0, le=1000)] = 5.0
    """Gradients are scaled down to this norm."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Decay of the moving average of weights that is validated and shipped; 0 switches it off."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes the GPU if there is one."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """CPU threads of torch; 0 chooses. An exact resume needs the same number."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic on a GPU; auto takes bfloat16 where the GPU has it. The CPU uses float32."""
    compile: bool = False
    """Compile the student with torch.compile: minutes at the start, faster steps on a GPU."""
    gradient_checkpointing: bool = False
    """Recompute activations on the way back to save memory, at a fifth more time."""
    init: Path | None = None
    """A checkpoint whose weights the training starts from."""
    checkpoint_every_s: Annotated[float, Field(gt=0, le=86400)] = 60.0
    """A checkpoint is written at least this often, in seconds, and at the end of each epoch."""


class DetectorSettings(Section):
    """How scores become detections."""

    smooth_hops: Annotated[int, Field(ge=1, le=50)] = 1
    """Scores are averaged over this many hops."""
    votes: Annotated[int, Field(ge=1, le=50)] = 1
    """N of "N of M": votes needed among the last M hops."""
    of: Annotated[int, Field(ge=1, le=50)] = 1
    """M of "N of M": hops that are looked back on."""
    hysteresis: Annotated[float, Field(ge=0, le=1)] = 0.05
    """How far the score must fall below the threshold before another detection, in score."""
    refractory_s: Annotated[float, Field(ge=0, le=60)] = 2.0
    """Time after a detection in which there is no other, in seconds."""

    @model_validator(mode="after")
    def _n_of_m(self) -> "DetectorSettings":
        if self.votes > self.of:
            raise ValueError(f"votes {self.votes} is above of {self.of}")
        return self


class Evaluate(Section):
    """How the detector is measured."""

    target_fah: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """False alarms per hour that are accepted; the threshold is chosen for it on validation."""
    tail_peaks: Annotated[int, Field(ge=0, le=1000)] = 30
    """Highest peaks of the streams through which the tail is drawn, for a threshold that does not
    hang on one of them; 0 takes the lowest threshold that kept the target."""
    max_fpr: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """pAUC looks at false-positive rates up to here."""
    det_fah: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 30.0)
    """Range of false alarms per hour over which the DET area is taken."""
    latency_runs: Annotated[int, Field(ge=20, le=100000)] = 200
    """Hops timed on the exported model, after a warm-up."""


class Recipe(Section):
    """A whole recipe."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,40}$")] = "wakeword"
    """Name of the run: letters, digits, dot, dash, underscore."""
    data: Data = Data()
    features: Features = Features()
    model: Model = Model()
    augment: Augment = Augment()
    loss: Loss = Loss()
    train: Train = Train()
    detector: DetectorSettings = DetectorSettings()
    evaluate: Evaluate = Evaluate()


PATHS = frozenset({"data.manifest", "data.sources", "train.init"})


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe file, with `overrides` by dotted path on top.

    Paths inside the file are relative to it; they come out absolute. Raises RecipeError with every
    problem at once.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read recipe {path}: {error}", hint="give a TOML file") from error
    return loads(text, path.parent, overrides, name=str(path))


def loads(
    text: str, folder: Path, overrides: Mapping[str, Any] | None = None, name: str = "recipe"
) -> Recipe:
    """Read a recipe from TOML text whose paths are relative to `folder`."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{name} is not TOML: {error}", hint="see docs/recipe.md") from error
    tables = _absolute(tables, folder)
    for key, value in (overrides or {}).items():
        _put(tables, key, value)
    return _validate(tables, name)


def override(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with values changed by dotted path, `{"train.lr": 3e-4}`."""
    tables = to_tables(recipe)
    for key, value in changes.items():
        _put(tables, key, value)
    return _validate(tables, "the changed recipe")


def parse_setting(text: str, folder: Path) -> tuple[str, Any]:
    """Read one `key=value` of the command line; the value is TOML, or else a plain string.

    Paths are relative to `folder`, the working directory.
    """
    key, sign, raw = text.partition("=")
    if not sign:
        raise RecipeError(f"--set {text!r} has no '='", hint="write --set train.lr=0.001")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw
    key = key.strip()
    if key in PATHS:
        value = _resolve(value, folder)
    elif isinstance(field_at(key), FieldInfo) and field_at(key).annotation is str:  # type: ignore[union-attr]
        value = raw.strip("\"'")
    return key, value


def to_tables(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as nested plain tables, without the keys that are not set."""
    return recipe.model_dump(mode="json", exclude_none=True)


def dump(recipe: Recipe) -> str:
    """Render the recipe as TOML that `loads` reads back to the same recipe."""
    return tomli_w.dumps(to_tables(recipe))


def schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe file."""
    return Recipe.model_json_schema()


def fields() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting as its dotted path and field, in the order of the file."""
    for name, field in Recipe.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from ((f"{name}.{key}", inner) for key, inner in kind.model_fields.items())
        else:
            yield name, field


def field_at(path: str) -> FieldInfo | None:
    """Return the field at a dotted path, None where there is none."""
    return dict(fields()).get(path)


def _put(tables: dict[str, Any], path: str, value: Any) -> None:
    """Set a value by dotted path; None unsets it. A path that leads nowhere fails validation."""
    *parents, key = path.split(".")
    for parent in parents:
        if not isinstance(tables.get(parent), dict):
            tables[parent] = {}
        tables = tables[parent]
    tables[key] = value


def _resolve(value: Any, folder: Path) -> Any:
    if isinstance(value, str):
        return str((folder / Path(value).expanduser()).resolve()) if value else None
    if isinstance(value, list):
        return [_resolve(item, folder) for item in value]
    return value


def _absolute(tables: dict[str, Any], folder: Path) -> dict[str, Any]:
    for path in PATHS:
        section, key = path.split(".")
        table = tables.get(section)
        if isinstance(table, dict) and key in table:
            tables[section] = table | {key: _resolve(table[key], folder)}
    return tables


def _validate(tables: dict[str, Any], name: str) -> Recipe:
    """Validate as JSON: strict mode then takes a list for a tuple and text for a path."""
    try:
        return Recipe.model_validate_json(json.dumps(tables, default=str))
    except ValidationError as error:
        problems = tuple(_problem(detail) for detail in error.errors())
        count = f"{len(problems)} problem" + "s" * (len(problems) > 1)
        hint = "`wakeword-tui recipe schema` and docs/recipe.md list every key"
        raise RecipeError(f"{name} has {count}", problems, hint) from error


def _problem(detail: Any) -> str:
    """Say one fault with its dotted path, and the nearest spelling of an unknown key."""
    where = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = [path for path, _ in fields()] + list(Recipe.model_fields)
        near = difflib.get_close_matches(where, known, n=1, cutoff=0.5)
        return f"{where}: no such key" + (f"; did you mean {near[0]}?" if near else "")
    message = str(detail["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    value = detail["input"]
    shown = f", not {value!r}" if isinstance(value, bool | int | float | str) else ""
    return f"{where}: {message}{shown}" if where else message
