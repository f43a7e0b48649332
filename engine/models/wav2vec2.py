"""Wav2Vec2 (Baevski et al. 2020) from transformers with a pooling head: it hears samples.

Its weights are those of a hub name or a local folder, or fresh ones in a small configuration. What
it is made of stands as JSON in the checkpoint (`config`), so that nothing is fetched to use one.
Whatever it would draw from another random generator than torch's is switched off.
"""

import json
import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import CheckpointError, RecipeError
from engine.models.conformer import pooled
from engine.recipe import Model

HIDDEN = 128
CONVOLUTION = 64
HEADS = 4
STEADY = {"apply_spec_augment": False, "layerdrop": 0.0, "mask_time_prob": 0.0}


class Wav2Vec2(nn.Module):
    """Waveform `(B, N)` of one window -> logit `(B,)`."""

    takes = "waveform"
    blocks_at = "encoder.encoder.layers"

    def __init__(self, settings: Model, config: str = "") -> None:
        """Make the network of a `config`, or of what the settings say; the weights are fresh."""
        super().__init__()
        from transformers import Wav2Vec2Config, Wav2Vec2Model

        _quiet()
        if config:
            made = Wav2Vec2Config.from_dict(json.loads(config))
        elif settings.pretrained:
            made = _found(Wav2Vec2Config, settings)
        else:
            made = Wav2Vec2Config(**_small(settings))
        for name, value in STEADY.items():
            setattr(made, name, value)
        self.config = json.dumps(made.to_diff_dict())
        self.encoder = Wav2Vec2Model(made)
        self.drop = nn.Dropout(settings.dropout)
        self.pool, self.head = nn.Linear(made.hidden_size, 1), nn.Linear(made.hidden_size, 1)
        self._freeze(settings)

    def _freeze(self, settings: Model) -> None:
        """Leave all but the top blocks as they are, where the settings name a number of blocks."""
        if settings.trained_blocks is None:
            return
        blocks = list(self.encoder.encoder.layers)
        if settings.trained_blocks > len(blocks):
            raise RecipeError(
                f"model.trained_blocks: {settings.trained_blocks} of {len(blocks)} blocks",
                hint=f"give 0 to {len(blocks)}",
            )
        self.encoder.requires_grad_(False)
        self.encoder.feature_extractor._requires_grad = False  # else its input gets a gradient
        for block in blocks[len(blocks) - settings.trained_blocks :]:
            block.requires_grad_(True)

    def begin(self, settings: Model) -> None:
        """Take the pretrained weights, where the settings name some. Raises CheckpointError."""
        if settings.pretrained:
            from transformers import Wav2Vec2Model

            found, told = _found(Wav2Vec2Model, settings, output_loading_info=True)
            weights = self.encoder.state_dict()
            absent = sorted(weights.keys() & set(told["missing_keys"]))
            if absent:
                message = f"model.pretrained: {settings.pretrained} lacks {absent[0]}"
                raise CheckpointError(message, "use a whole Wav2Vec2 model")
            theirs = found.state_dict()
            self.encoder.load_state_dict({name: theirs[name] for name in weights})

    def _frames(self, waveform: Tensor) -> Tensor:
        """Hear windows at zero mean and unit variance, as the public models were trained."""
        deviation, mean = torch.std_mean(waveform, dim=1, correction=0, keepdim=True)
        heard: Tensor = self.encoder((waveform - mean) / (deviation + 1e-5)).last_hidden_state
        return heard

    def embed(self, waveform: Tensor) -> dict[str, Tensor]:
        """Give every block's output, `(B, D, T')`, a frame each 20 ms."""
        layers: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            return lambda _, __, out: layers.update({name: _first(out).transpose(1, 2)})

        blocks = self.encoder.encoder.layers
        hooks = [b.register_forward_hook(keep(f"block{i}")) for i, b in enumerate(blocks)]
        try:
            self._frames(waveform)
        finally:
            for hook in hooks:
                hook.remove()
        return layers

    def forward(self, waveform: Tensor) -> Tensor:
        """Score one window `(B, N)`."""
        return pooled(self.drop(self._frames(waveform)), self.pool, self.head)


def _first(out: Any) -> Tensor:
    """The output of a block; some versions give a tuple that begins with it."""
    first: Tensor = out[0] if isinstance(out, tuple) else out
    return first


def _small(settings: Model) -> dict[str, Any]:
    """A configuration that learns from a few hours: the public one has 94 M weights."""
    hidden = max(1, round(HIDDEN * settings.width / 32)) * 32
    narrow = max(1, round(CONVOLUTION * settings.width / 16)) * 16
    return {
        "hidden_size": hidden,
        "num_hidden_layers": settings.blocks,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * hidden,
        "conv_dim": [narrow] * 7,
        "num_conv_pos_embeddings": 32,
        "num_conv_pos_embedding_groups": 16,
        "hidden_dropout": settings.dropout,
        "attention_dropout": settings.dropout,
        "activation_dropout": settings.dropout,
        "feat_proj_dropout": 0.0,
    }


def _found(kind: Any, settings: Model, **options: Any) -> Any:
    """Read a configuration or a model, from this machine if it is there, else from the hub.

    The hub is asked once whether it has it: transformers would try again for a minute. Raises
    CheckpointError.
    """
    from huggingface_hub import file_exists
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    name, folder = settings.pretrained, Path(settings.pretrained).is_absolute()
    try:
        return kind.from_pretrained(name, local_files_only=True, **options)
    except (OSError, ValueError, UnpicklingError) as error:
        if folder or settings.local_files_only:
            raise _absent(settings, folder=folder) from error
    try:
        if file_exists(name, "config.json"):
            return kind.from_pretrained(name, **options)
    except (OSError, ValueError, UnpicklingError, HTTPError) as error:
        raise _absent(settings, folder=True) from error
    raise _absent(settings, folder=True)


def _absent(settings: Model, *, folder: bool) -> CheckpointError:
    name = settings.pretrained
    if not folder:
        return CheckpointError(
            f"model.pretrained: {name} is not fetched yet",
            f"`hf download {name}` fetches it, and a training does without model.local_files_only",
        )
    return CheckpointError(
        f"model.pretrained: there is no Wav2Vec2 at {name}, and none could be fetched",
        "give a folder with config.json and model.safetensors (`hf download NAME "
        "--local-dir FOLDER` where there is a network), or leave it empty to start fresh",
    )


def _quiet() -> None:
    """Both libraries tell how they go on, on stderr, where a screen is painted."""
    from huggingface_hub.utils import logging as of_hub
    from transformers.utils import logging

    # Else transformers has the hub convert what is no safetensors yet, in a thread of its own.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "true")
    of_hub.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
