"""Teachers so small that training them takes seconds, and recipes that learn from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny import run_tiny

TEACHERS: dict[str, dict[str, Any]] = {
    "conformer": {
        "name": "conformer",
        "model.arch": "conformer",
        "model.blocks": 2,
        "model.width": 0.33,
        "features.normalise": "cmvn",
    },
    "wav2vec2": {"name": "wav2vec2", "model.arch": "wav2vec2", "model.trained_blocks": 2},
}
QUICK: dict[str, Any] = {"train.epochs": 1, "train.steps_per_epoch": 4, "features.hop_ms": 100}


def public_model(folder: Path) -> Path:
    """A tiny Wav2Vec2 as transformers itself saves one."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    config = Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        conv_dim=[16] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    Wav2Vec2Model(config).save_pretrained(folder)
    return folder


def teach(data: Path, root: Path, kind: str, changes: Mapping[str, Any] | None = None) -> Path:
    """Train a tiny teacher and give its checkpoint."""
    return run_tiny(data, root, {**TEACHERS[kind], **QUICK, **(changes or {})}).run.best


def lesson_plan(conformer: Path, wav2vec2: Path) -> dict[str, Any]:
    """Both teachers, and layers of other widths, rates and numbers: 48 and 32 channels to 16."""
    teachers = [
        {"kind": "conformer", "path": str(conformer), "align_layers": [1, 2]},
        {
            "kind": "wav2vec2",
            "path": str(wav2vec2),
            "weight": 2.0,
            "align_layers": [3],
            "student_layers": [2],
        },
    ]
    return {
        "distill.teachers": teachers,
        "distill.allow_unqualified": True,
        "distill.features": 1.0,
        "distill.confidence": True,
        "distill.ranking": 1.0,
    }
