"""Distillation: what a student learns from one or two teachers beside the labels.

For a batch the loss is that of the labels, plus, each with its weight,

    logits     T^2 KL(teacher || student) of the scores at temperature T (Hinton et al. 2015)
    features   how far the student's maps, through projectors, are from the teachers'
    ranking    the teachers' margins of wake words over the hardest negatives

Teachers are weighed clip by clip. Projectors and the running agreement belong to the trainer's
checkpoint, and to nothing that is shipped.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate, logsigmoid, normalize

from engine.errors import CheckpointError
from engine.features import grid
from engine.models import blocks_of, example
from engine.recipe import Recipe
from engine.recipe_distill import Distill
from engine.teachers import Lesson, Taps, Teacher

SLOWLY = 0.05
"""Part by which the running agreement follows that of a batch."""


def temperature(settings: Distill, part: float, agreement: Tensor) -> Tensor:
    """The temperature when `part` of all steps is done, a scalar, as is the agreement, 0 to 1."""
    left = {
        "constant": torch.ones_like(agreement),
        "linear": torch.ones_like(agreement) * (1.0 - part),
        "cosine": torch.ones_like(agreement) * 0.5 * (1.0 + math.cos(math.pi * part)),
        "agreement": 1.0 - agreement,
    }
    end = settings.temperature_end
    return end + (settings.temperature - end) * left[settings.schedule]


def doubt(logits: Tensor) -> Tensor:
    """Entropy of scores as a part of the largest there is, ln 2: 0 is sure, 1 a coin."""
    scores = torch.sigmoid(logits)
    nats = -scores * logsigmoid(logits) - (1 - scores) * logsigmoid(-logits)
    return nats / math.log(2)


def shares(logits: Tensor, weights: Tensor, floor: float | None) -> Tensor:
    """How much each of K teachers counts in each clip, `(K, B)` with columns that sum to 1.

    Without a floor as their `weights` `(K,)` say. With one, by how sure each is of the clip, too,
    and never less than the floor.
    """
    trust = weights[:, None].expand_as(logits)
    if floor is not None:
        trust = trust * (1 - doubt(logits)).clamp(min=1e-6)
    of_all = trust / trust.sum(dim=0)
    least = floor or 0.0
    return least + (1 - len(weights) * least) * of_all


def divergence(student: Tensor, teacher: Tensor, temperature: Tensor) -> Tensor:
    """T^2 KL(teacher || student) of two-way logits at a temperature, elementwise, at least 0.

    The gradient towards the student's logit is T (student's score - teacher's): with the square of
    T it does not vanish as T rises.
    """
    s, t = student / temperature, teacher / temperature
    score = torch.sigmoid(t)
    kl = score * (logsigmoid(t) - logsigmoid(s)) + (1 - score) * (logsigmoid(-t) - logsigmoid(-s))
    return temperature.square() * kl


def ordering(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: Tensor, negatives: int
) -> Tensor:
    """How far the student's margins of wake words over its hardest negatives are from a teacher's.

    The divergence of every pair's order (RankNet, Burges et al. 2005) over the negatives that the
    student scores highest, where false alarms come from; a scalar, 0 without either kind.
    """
    positive = labels > 0.5
    others = student.detach().masked_fill(positive, -torch.inf)
    hardest = others.topk(min(negatives, len(student)))
    pairs = positive[:, None] & (hardest.values > -torch.inf)
    margins = [logits[:, None] - logits[hardest.indices] for logits in (student, teacher)]
    apart = divergence(margins[0], margins[1], temperature)
    return torch.where(pairs, apart, 0.0).sum() / pairs.sum().clamp(min=1)


def in_step(teacher: Tensor, frames: int) -> Tensor:
    """Bring a teacher's map `(B, D, T)` to the student's time axis, `(B, D, frames)`.

    Both maps span the window, whatever their frame rates. Towards fewer frames each takes the mean
    of those under it, towards more they are interpolated.

        teacher, 20 ms   |--0--|--1--|--2--|--3--|--4--|--5--|
        student, 40 ms   |-----0-----|-----1-----|-----2-----|     0 = mean of 0 and 1

    A student that pads nothing, as TinyConv, sees less of the window's ends; its first frame is
    taken for the window's beginning all the same, and the projector learns the rest.
    """
    if frames <= teacher.shape[-1]:
        return interpolate(teacher, frames, mode="area")
    return interpolate(teacher, frames, mode="linear")


def apart(student: Tensor, teacher: Tensor, kind: str) -> Tensor:
    """How far a student's map `(B, D, T)` is from a teacher's `(B, E, T')`, clip by clip, `(B,)`.

    mse, over the power of the teacher's map, and cosine need D = E; relation does not: it compares
    how alike the clips of the batch are to one another.
    """
    if kind == "relation":
        likeness = [_likeness(maps.mean(dim=2)) for maps in (student, teacher)]
        return (likeness[0] - likeness[1]).square().mean(dim=1)
    teacher = in_step(teacher, student.shape[-1])
    if kind == "cosine":
        return 1 - cosine_similarity(student, teacher, dim=1).mean(dim=1)
    power = teacher.square().mean(dim=(1, 2)).clamp(min=1e-6)
    return (student - teacher).square().mean(dim=(1, 2)) / power


def _likeness(clips: Tensor) -> Tensor:
    """Cosines between the clips `(B, D)` of a batch, about its mean, `(B, B)`."""
    about = normalize(clips - clips.mean(dim=0), dim=1)
    return about @ about.T


class Distiller(nn.Module):
    """Adds to the loss of the labels what the teachers say; the teachers are no part of its state.

    The student runs once: hooks at its blocks keep the maps that are aligned.
    """

    agreement: Tensor
    weights: Tensor

    def __init__(self, recipe: Recipe, student: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.settings = recipe.distill
        wanted = recipe.distill.teachers
        # Not modules of this one: their weights stay out of its state and out of its optimiser.
        self.teachers = tuple(Teacher(one, recipe, device) for one in wanted)
        self.pairs = tuple(
            _pairs(teacher, student) if self._aligns else () for teacher in self.teachers
        )
        self.taps = Taps(student, tuple(n for pairs in self.pairs for n, _ in pairs))
        self.projectors = nn.ModuleList(self._projectors(recipe, student, device)).to(device)
        weights = torch.tensor([one.weight for one in wanted], device=device)
        self.register_buffer("weights", weights / weights.sum(), persistent=False)
        self.register_buffer("agreement", torch.zeros((), device=device))
        self._told: list[dict[str, Tensor]] = []

    @property
    def _aligns(self) -> bool:
        return self.settings.features > 0

    def _projectors(
        self, recipe: Recipe, student: nn.Module, device: torch.device
    ) -> list[nn.Module]:
        """One for each pair of layers: up from the student's channels to the teacher's.

        The other way round projectors of zeros would fit any student.
        """
        if not self._aligns or self.settings.alignment == "relation":
            return []
        with torch.no_grad():
            student.eval()(example(student, recipe, 2).to(device))
        maps, silence = self.taps.take(), torch.zeros(1, grid(recipe.features).window_samples)
        sizes = [
            (maps[number].shape[1], lesson.shape[1])
            for teacher, pairs in zip(self.teachers, self.pairs, strict=True)
            for (number, _), lesson in zip(pairs, teacher(silence.to(device)).maps, strict=True)
        ]
        return [nn.Conv1d(ours, theirs, 1) for ours, theirs in sizes]

    def ask(self, waveform: Tensor) -> tuple[Lesson, ...]:
        """What the teachers say of windows `(B, N)`."""
        return tuple(teacher(waveform) for teacher in self.teachers)

    def forward(
        self,
        labelled: Tensor,
        logits: Tensor,
        labels: Tensor,
        lessons: tuple[Lesson, ...],
        part: float,
    ) -> Tensor:
        """The whole loss: `labelled`, that of the labels, and the teachers' parts.

        `logits` `(B,)` are the student's, `part` is how much of the training is done.
        """
        settings, logits = self.settings, logits.float()
        said = torch.stack([lesson.logits for lesson in lessons])  # (K, B)
        degree = temperature(settings, part, self.agreement.clone())
        floor = settings.confidence_floor if settings.confidence else None
        trust = shares(said / degree, self.weights, floor)
        joint = (trust * said).sum(dim=0)
        parts = {"labels": labelled}
        if settings.logits:
            each = divergence(logits, said, degree)
            parts["logits"] = settings.logits * (trust * each).sum(dim=0).mean()
        if self._aligns:
            parts["features"] = settings.features * self._misaligned(lessons, trust)
        if settings.ranking:
            order = ordering(logits, joint, labels, degree, settings.ranking_negatives)
            parts["ranking"] = settings.ranking * order
        self._tell(parts, degree, trust, logits.detach(), joint)
        return torch.stack(list(parts.values())).sum()

    def _misaligned(self, lessons: tuple[Lesson, ...], trust: Tensor) -> Tensor:
        """Mean over the aligned layers and the clips, each teacher with its share."""
        ours, projectors, kind = self.taps.take(), iter(self.projectors), self.settings.alignment
        found = []
        for lesson, pairs, share in zip(lessons, self.pairs, trust, strict=True):
            for (number, _), theirs in zip(pairs, lesson.maps, strict=True):
                projector = next(projectors, nn.Identity())
                mapped = projector(ours[number].float())
                found.append((share * apart(mapped, theirs, kind)).mean())
        return torch.stack(found).mean()

    @torch.no_grad()
    def _tell(
        self, parts: dict[str, Tensor], degree: Tensor, trust: Tensor, logits: Tensor, joint: Tensor
    ) -> None:
        """Follow the agreement of student and teachers, and keep what a screen shows."""
        now = 1 - (torch.sigmoid(logits) - torch.sigmoid(joint)).abs().mean()
        self.agreement.lerp_(now, SLOWLY)
        told = {name: value.detach() for name, value in parts.items()}
        told |= {"temperature": degree, "agreement": now}
        kinds = [teacher.wanted.kind for teacher in self.teachers]
        alike = len(set(kinds)) < len(kinds)
        names = [f"{kind} {n}" if alike else kind for n, kind in enumerate(kinds, start=1)]
        self._told.append(told | dict(zip(names, trust.mean(dim=1), strict=True)))

    def told(self) -> dict[str, float]:
        """Means since the last call: parts of the loss, temperature, agreement, shares."""
        if not self._told:
            return {}
        told, self._told = self._told, []
        return {name: float(torch.stack([one[name] for one in told]).mean()) for name in told[0]}

    def kept(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"state": self.state_dict(), "teachers": self.names()}

    def names(self) -> list[str]:
        """The hashes of the teachers' files."""
        return [teacher.sha256 for teacher in self.teachers]

    def restore(self, kept: dict[str, Any]) -> None:
        """Go back to a checkpoint's state. Raises CheckpointError if the teachers changed."""
        if kept["teachers"] != self.names():
            raise CheckpointError(
                "a teacher's checkpoint changed since the run began",
                "put the old one back, or start a new run",
            )
        self.load_state_dict(kept["state"])
        self._told.clear()


def _pairs(teacher: Teacher, student: nn.Module) -> tuple[tuple[int, int], ...]:
    """Which layer of the student goes with which of the teacher's, each counted from 1.

    Those at the same part of the depth, unless the recipe says.
    """
    theirs, deep = teacher.wanted.align_layers, len(blocks_of(teacher.model))
    count = len(blocks_of(student))
    ours = teacher.wanted.student_layers or tuple(
        max(1, round(number * count / deep)) for number in theirs
    )
    return tuple(zip(ours, theirs, strict=True))
