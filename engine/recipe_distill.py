"""The part of a recipe that says who teaches the student, and how."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from engine.section import Section

Weight = Annotated[float, Field(ge=0, le=100)]
Block = Annotated[int, Field(ge=1, le=48)]
Degree = Annotated[float, Field(ge=0.5, le=20)]


class Teacher(Section):
    """One teacher: a checkpoint that `train` made of a conformer or a wav2vec2."""

    kind: Literal["conformer", "wav2vec2"] = "conformer"
    """Its architecture, which its checkpoint must have."""
    path: Path | None = None
    """Its checkpoint, or the folder of its finished run. {fold} stands for data.fold, and of what
    fits a * the newest run is meant; a run's recipe has those that it found."""
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    """How much it counts beside the other teacher."""
    align_layers: tuple[Block, ...] = ()
    """Its blocks, counted from 1, that layers of the student are drawn to."""
    student_layers: tuple[Block, ...] = ()
    """Blocks of the student, counted from 1, one for each of align_layers; without any, those at
    the same part of its depth."""


class Distill(Section):
    """What the student learns from teachers, beside the labels. Without a teacher, nothing."""

    teachers: Annotated[tuple[Teacher, ...], Field(max_length=2)] = ()
    """The teachers, at most two, as tables [[distill.teachers]]."""
    baseline: str = ""
    """Finished RUN of the same data, features and model without teachers, which each teacher must
    beat on validation; a folder begins with / . or ~, and {fold} stands for data.fold."""
    allow_unqualified: bool = False
    """Learn from a teacher that does not beat the baseline, or was not held against one."""
    logits: Weight = 1.0
    """Weight of the teachers' logits (Hinton et al. 2015), beside 1 for the labels."""
    temperature: Degree = 2.0
    """Logits are divided by this: the higher, the more what a teacher is unsure of counts."""
    temperature_end: Degree = 1.0
    """Temperature at the end, or where student and teachers agree; unused while it is constant."""
    schedule: Literal["constant", "linear", "cosine", "agreement"] = "constant"
    """How the temperature goes to temperature_end: over the steps, or as the scores of student and
    teachers come to agree."""
    confidence: bool = False
    """Trust the surer teacher more, clip by clip, by the entropy of its score."""
    confidence_floor: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Least share of a teacher in a clip, so that neither is ever silenced."""
    features: Weight = 0.0
    """Weight of the alignment of the student's layers to those of align_layers."""
    alignment: Literal["mse", "cosine", "relation"] = "cosine"
    """mse and cosine bring projected maps together, frame by frame; relation the likeness of the
    clips of a batch (Tung and Mori 2019)."""
    ranking: Weight = 0.0
    """Weight of the teachers' order of wake words above the hardest negatives of a batch."""
    ranking_negatives: Annotated[int, Field(ge=1, le=1024)] = 8
    """Negatives of a batch, those that the student scores highest, that the order is taken over."""
    hears: Literal["same", "clean"] = "same"
    """What teachers hear of a clip: the same as the student, or it before rooms and noise."""
    views: Annotated[int, Field(ge=0, le=1000)] = 0
    """0: teachers hear every batch. Else the epochs repeat one of plain clips and so many augmented
    ones, and what the teachers say of these is kept on the disk; train.hard_share must be 0."""
    cache_mb: Annotated[float, Field(gt=0)] = 4096.0
    """Most disk for what teachers said, in MB; what was used longest ago is removed first."""
