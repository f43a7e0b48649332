"""Recipe: everything that decides a run, in one TOML file read strictly.

A field's help is the docstring under it; the form, `docs/recipe.md` and the JSON schema read it
there. A field that nothing reads fails a test.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from engine.recipe_distill import Distill
from engine.section import Section, Share

MOST_HIDDEN_MS = 300


class Data(Section):
    """What is trained on and measured on."""

    manifest: Path | None = None
    """A manifest.csv, or a folder with positive/ negative/ streams/ noise/ rir/."""
    sources: tuple[Path, ...] = ()
    """Further manifests or folders mixed with the first, and split as it is."""
    train_sources: tuple[Path, ...] = ()
    """Manifests or folders that only train: synthetic voices beside real recordings."""
    words: Path | None = None
    """Many labelled words, which `train.words_steps` are spent on; none: synthetic voices say some.
    Never measured on."""
    wakeword: str = ""
    """The label of the wake word; clips with other words become negatives."""
    fold: Annotated[int, Field(ge=0, le=4)] = 0
    """The fold that is the test set; the next one validates, the other three train."""
    hard_negatives: Share = 0.1
    """Share of a batch's negatives that a person confirmed in the queue, each at most half a
    percent. 0 takes nothing from the queue, wake words neither."""


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
    normalise: Literal["cmvn", "pcen", "both"] = "cmvn"
    """cmvn: log-mel less its mean in training, over its deviation. pcen: each band against its own
    last second (Wang et al. 2017), which a steady noise or another level hardly changes. both: the
    student sees the two, one above the other."""

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
    """The student, the small network that is shipped; or a teacher, a large one it learns from."""

    arch: Literal["tinyconv", "mobilenetv3", "bcresnet", "conformer", "wav2vec2"] = "tinyconv"
    """tinyconv is smallest and fastest; mobilenetv3 (Small) is larger; bcresnet has the fewest
    parameters for its accuracy, and is slow to train. conformer and wav2vec2 are teachers;
    the latter hears samples, which `augment.tract`, `equaliser_db` and the masks do not change."""
    width: Annotated[float, Field(ge=0.25, le=4)] = 1.0
    """Multiplies the channels of every layer."""
    depthwise: bool = True
    """TinyConv with depthwise separable convolutions: at least 70 % fewer parameters."""
    dropout: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    """Share of the last layer's features that are zeroed while training."""
    blocks: Annotated[int, Field(ge=1, le=48)] = 4
    """Blocks of a teacher that starts from fresh weights."""
    pretrained: str = ""
    """wav2vec2: name on the Hugging Face hub, or a folder, whose path begins with / . or ~; empty
    for a small one with fresh weights."""
    local_files_only: bool = False
    """Take pretrained weights from this machine alone, and never ask the network."""
    trained_blocks: Annotated[int, Field(ge=0, le=48)] | None = None
    """wav2vec2: top blocks that are trained, while those below and the convolutions stay as they
    are; without a number all is trained."""


class Augment(Section):
    """What is done to clips while training, on the device; a share is the part of a batch."""

    speed: Share = 0.5
    """Share of clips played slower or faster."""
    speed_range: Annotated[float, Field(ge=0, le=0.3)] = 0.25
    """Largest change of speed, as a fraction."""
    tempo: Share = 0.0
    """Share of clips spoken slower or faster, while their pitch stays; `speed` has the others."""
    tempo_range: Annotated[float, Field(ge=0, le=0.5)] = 0.35
    """Largest change of tempo, as a fraction."""
    pitch: Share = 0.0
    """Share of clips whose pitch is moved while their tempo stays."""
    pitch_semitones: Annotated[float, Field(ge=0, le=4)] = 2.0
    """Largest change of pitch, in semitones."""
    tract: Share = 0.0
    """Share of clips heard from another vocal tract: the formants move, the pitch stays."""
    tract_range: Annotated[float, Field(ge=0, le=0.4)] = 0.15
    """Largest change of a vocal tract's length, as a fraction."""
    room: Share = 0.5
    """Share of clips heard in a room."""
    room_simulated: Share = 0.5
    """Of those, the share in simulated rooms; all of them where the training split has none."""
    rt60_low_s: Annotated[float, Field(ge=0.05, le=2)] = 0.15
    """Driest simulated room: seconds in which its sound falls by 60 dB."""
    rt60_high_s: Annotated[float, Field(ge=0.05, le=2)] = 0.8
    """Most reverberant simulated room, in seconds."""
    far: Share = 0.0
    """Share of clips heard from afar: softer, and duller towards high frequencies."""
    noise: Share = 0.7
    """Share of clips with background noise of the training split mixed in."""
    noises: Annotated[int, Field(ge=1, le=4)] = 1
    """Most backgrounds heard at once."""
    snr_low_db: Annotated[float, Field(ge=-20, le=60)] = 0.0
    """Loudest background, as signal-to-noise ratio in dB."""
    snr_high_db: Annotated[float, Field(ge=-20, le=60)] = 25.0
    """Softest background, as signal-to-noise ratio in dB."""
    snr_schedule: Literal["constant", "linear", "cosine", "stepped"] = "constant"
    """How the background rises from easy to hard over the epochs; stepped takes four steps."""
    snr_ease_db: Annotated[float, Field(ge=0, le=40)] = 10.0
    """How much softer the background is in the first epoch, in dB, unless it is constant."""
    telephone: Share = 0.0
    """Share of clips heard over a telephone: 300 to 3400 Hz of an 8 kHz line."""
    clipping: Share = 0.0
    """Share of clips overdriven until their peaks are cut off."""
    gain_db: Annotated[float, Field(ge=0, le=40)] = 12.0
    """Clips are made up to this much louder, in dB; what leaves full scale clips."""
    softer_db: Annotated[float, Field(ge=0, le=60)] = 30.0
    """Clips are made up to this much softer, in dB: microphones differ, and so does distance."""
    equaliser_db: Annotated[float, Field(ge=0, le=20)] = 3.0
    """Deviation of a random equaliser, smooth over the mel bands, in dB: other microphones."""
    shift_ms: Annotated[int, Field(ge=0, le=1000)] = 400
    """A positive window ends up to this long after the end of its word, in ms."""
    time_masks: Annotated[int, Field(ge=0, le=4)] = 1
    """SpecAugment: stretches of time hidden in a window; all of them hide 300 ms at most."""
    time_mask_ms: Annotated[int, Field(ge=0, le=300)] = 150
    """SpecAugment: longest hidden stretch, in ms."""
    freq_masks: Annotated[int, Field(ge=0, le=4)] = 1
    """SpecAugment: groups of mel bands hidden in a window, half of the bands at most."""
    freq_mask_mels: Annotated[int, Field(ge=0, le=30)] = 6
    """SpecAugment: most mel bands hidden in a group; half of the bands always stay visible."""

    @model_validator(mode="after")
    def _ranges_have_ends(self) -> "Augment":
        for low, high in (("snr_low_db", "snr_high_db"), ("rt60_low_s", "rt60_high_s")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low} {getattr(self, low)} is above {high} {getattr(self, high)}"
                )
        return self

    @model_validator(mode="after")
    def _a_word_is_never_hidden(self) -> "Augment":
        hidden_ms = self.time_masks * self.time_mask_ms
        if hidden_ms > MOST_HIDDEN_MS:
            raise ValueError(
                f"time_masks x time_mask_ms hide {hidden_ms} ms, which can be all of a short word; "
                f"keep them within {MOST_HIDDEN_MS} ms"
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
    ranking: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Weight of a ranking loss: wake words above the hardest negatives of the batch."""
    ranking_negatives: Annotated[int, Field(ge=1, le=1024)] = 8
    """Negatives of a batch, the highest ones, that its wake words are ranked against."""
    hard_weight: Annotated[float, Field(ge=1, le=100)] = 1.0
    """How much more the tenth of a batch with the highest losses weighs."""


class Train(Section):
    """The loop."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Seeds everything random in the run."""
    epochs: Annotated[int, Field(ge=0, le=10000)] = 20
    """Epochs; each ends with a validation. 0 takes train.init as it is, to quantise it alone."""
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
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """How much slower each block learns than the one above it; for pretrained teachers."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    """AdamW's weight decay."""
    clip_norm: Annotated[float, Field(gt=0, le=1000)] = 5.0
    """Gradients are scaled down to this norm."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Decay of the moving average of weights that is validated and shipped; 0 switches it off."""
    average_best: Annotated[int, Field(ge=1, le=20)] = 5
    """Best epochs whose weights are averaged at the end, of all epochs a third at most; shipped if
    no worse than the least of them."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes the GPU if there is one."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """CPU threads of torch; 0 chooses. An exact resume needs the same number."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic on a GPU; auto takes bfloat16 where the GPU has it. The CPU uses float32."""
    compile: bool = False
    """Compile the student with torch.compile: minutes at the start, faster steps on a GPU."""
    gradient_checkpointing: bool = False
    """Recompute activations on the way back to save memory, at a fifth more time."""
    words_steps: Annotated[int, Field(ge=0, le=1000000)] = 0
    """Steps in which the student first learns to tell many words apart, whoever says them; done
    once for a kind of student and a fold, and kept in the cache. 0, or an `init`, goes without."""
    init: Path | None = None
    """A checkpoint whose weights the training starts from."""
    checkpoint_every_s: Annotated[float, Field(gt=0, le=86400)] = 60.0
    """A checkpoint is written at least this often, in seconds, and at the end of each epoch."""


class Quantize(Section):
    """The student once more as INT8: rounded to 256 steps, and fine-tuned to make up for it."""

    enabled: bool = False
    """Follow the training by calibration and fine-tuning as INT8; both students are reported."""
    calibration_batches: Annotated[int, Field(ge=1, le=10000)] = 16
    """Batches that set the ranges of the activations first."""
    positive_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of a calibration batch that holds the wake word: about what a device hears of it."""
    epochs: Annotated[int, Field(ge=0, le=1000)] = 2
    """Epochs of fine-tuning, of train.steps_per_epoch; 0 rounds and calibrates only."""
    lr: Annotated[float, Field(gt=0, le=1)] = 3e-4
    """Highest learning rate of the fine-tuning."""
    freeze_norm_epochs: Annotated[int, Field(ge=0, le=1000)] = 1
    """Epochs of fine-tuning after which the statistics of norms stay as they are."""


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
    hang on one of them; fewer than 10 take the lowest threshold that kept the target."""
    max_fpr: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """pAUC looks at false-positive rates up to here."""
    det_fah: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 30.0)
    """Range of false alarms per hour over which the DET area is taken."""
    latency_runs: Annotated[int, Field(ge=20, le=100000)] = 200
    """Hops timed on the exported model, after a warm-up."""
    split: Literal["test", "validation"] = "test"
    """What the report is of. A search takes validation, so that its many trials, of which the best
    is chosen, leave the test split closed; nothing is shipped, and the threshold is that of the
    best epoch."""


class Targets(Section):
    """What the student's device has room for; a report warns where that is exceeded."""

    flash_kb: Annotated[float, Field(gt=0)] | None = None
    """Most kilobytes of weights as INT8."""
    ram_kb: Annotated[float, Field(gt=0)] | None = None
    """Most kilobytes of activations as INT8, with the frames of a window."""
    latency_ms: Annotated[float, Field(gt=0)] | None = None
    """Longest time of one hop on one CPU thread of this machine (p95), in ms."""


Value = bool | int | float | str


class Range(Section):
    """What a key may be in a search: from `low` to `high`, or one of `choices`."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: Annotated[tuple[Value, ...], Field(strict=False)] = ()
    when: dict[str, Value] = Field(default={})


def _flat(tables: Any, path: str = "") -> Any:
    """Name ranges by dotted key: TOML reads `train.lr = ...` as a table in a table."""
    if not isinstance(tables, dict):
        return tables
    flat = dict[str, Any]()
    for key, value in tables.items():
        inner = isinstance(value, dict) and value and not value.keys() & Range.model_fields.keys()
        flat |= _flat(value, f"{path}{key}.") if inner else {f"{path}{key}": value}
    return flat


class Search(Section):
    """What a study tries, and how it is led."""

    space: Annotated[dict[str, Range], BeforeValidator(_flat)] = Field(default={})
    """Keys that are tried: `"train.lr" = { low = 1e-3, high = 1e-2, log = true }`, or with choices;
    `when = { "loss.kind" = "focal" }` tries a key only where an earlier one has that value."""
    sampler: Literal["tpe", "nsga2"] = "tpe"
    """tpe learns from every trial (Bergstra et al. 2011); nsga2 breeds generations of them."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seeds what is tried."""
    trials: Annotated[int, Field(ge=1, le=100000)] = 60
    """Trials of a study."""
    quality: Literal["pauc", "frr"] = "pauc"
    """First objective, on validation: pAUC of the clean words, or FRR at the FAH target over the
    words clean, in noise and in rooms."""
    latency: Literal["measured", "macs"] = "measured"
    """Second objective: median time of a hop of the exported model on one CPU thread, or the
    multiply-accumulates of a window, which are the same everywhere."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs of a trial; else train.epochs, which the chosen one is trained for."""
    steps_per_epoch: Annotated[int, Field(ge=1)] | None = None
    """Steps in an epoch of a trial; else train.steps_per_epoch."""
    fork_every: Annotated[int, Field(ge=0)] = 5
    """Every so many trials one is a fork: of the Pareto front, changed a little, from its weights;
    0 never."""
    stop_after: Annotated[int, Field(ge=0)] = 10
    """Once so many complete trials take no more arithmetic, a trial that is worse at the same epoch
    than their median, from the second on, is stopped; 0 never."""


class Recipe(Section):
    """A whole recipe."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,40}$")] = "wakeword"
    """Name of the run: letters, digits, dot, dash, underscore."""
    data: Data = Data()
    features: Features = Features()
    model: Model = Model()
    augment: Augment = Augment()
    loss: Loss = Loss()
    distill: Distill = Distill()
    train: Train = Train()
    quantize: Quantize = Quantize()
    detector: DetectorSettings = DetectorSettings()
    evaluate: Evaluate = Evaluate()
    targets: Targets = Targets()
    search: Search = Search()

    @property
    def epochs(self) -> int:
        """Epochs of the whole run, those of the fine-tuning as INT8 among them."""
        return self.train.epochs + (self.quantize.epochs if self.quantize.enabled else 0)
