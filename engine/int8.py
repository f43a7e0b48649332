"""Float against INT8: the students as onnxruntime runs them, measured, and what differs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.checkpoint import Checkpoint, load
from engine.cost import cost, latency_ms
from engine.detector import firings
from engine.evaluate import Scored, measured, score_split
from engine.events import Emit
from engine.features import grid
from engine.flips import FLOAT, ROUNDED, TUNED, Flip, Int8, Side, Student, unmatched
from engine.heard import Heard, Progress
from engine.jobs import Control
from engine.metrics import count_alarms
from engine.onnx_graph import write_onnx, write_student
from engine.quantize import float_parts
from engine.recipe import Recipe
from engine.report import CLEAN, ClipScore
from engine.runs import Run
from engine.scorer import Exported, scorer_of

COMPARED = 3
"""Students that are compared: float, rounded, fine-tuned."""


def compare_int8(
    run: Run, validation: Heard, test: Heard, folder: Path, *, emit: Emit, control: Control
) -> Int8:
    """Hold a run's INT8 student, and the one that was only rounded, against the float one.

    Their graphs are written into `folder`, where those of the float student are already.
    """
    heard, reference = {"validation": validation, "test": test}, dict[str, Scored]()
    each_s = sum(split.seconds for split in heard.values())
    passed = Progress("compare", COMPARED * each_s, emit, control)
    tuned, point = load(run.int8), load(run.best).threshold()
    frozen = {"threshold": point.threshold, "target_fah": point.target_fah}
    students: dict[str, Student] = {}
    for name, path in ((FLOAT, run.best), (ROUNDED, run.rounded), (TUNED, run.int8)):
        checkpoint = replace(load(path), operating_point=frozen)
        suffix = "" if name == FLOAT else f"-{path.stem}"
        whole, alone = folder / f"model{suffix}.onnx", folder / f"student{suffix}.onnx"
        if name == TUNED:
            write_onnx(checkpoint, whole)
        if name != FLOAT:
            write_student(checkpoint, alone)
        scorer = scorer_of(alone)
        scored = {split: score_split(scorer, audio, passed) for split, audio in heard.items()}
        reference = reference or scored
        students[name] = Student(
            file_kb=alone.stat().st_size / 1024,
            ram_kb=_ram_kb(checkpoint),
            latency_ms=latency_ms(Exported(whole), checkpoint) if whole.exists() else {},
            validation=_side(reference["validation"], scored["validation"], checkpoint),
            test=_side(reference["test"], scored["test"], checkpoint),
            flips=tuple(
                flip
                for split in heard
                for flip in flips(split, reference[split], scored[split], checkpoint)
            ),
        )
    parts = tuple(float_parts(tuned.model()))
    return Int8(point.threshold, parts, students)


def _ram_kb(checkpoint: Checkpoint) -> float:
    size = cost(checkpoint.settings())
    return size.ram_int8_kb if checkpoint.quantised else size.ram_float_kb


def _side(reference: Scored, scored: Scored, checkpoint: Checkpoint) -> Side:
    pairs = [(a.levels, b.levels) for a, b in zip(reference.streams, scored.streams, strict=True)]
    for a, b in zip(reference.clips, scored.clips, strict=True):
        if a.levels is not None and b.levels is not None:
            pairs.append((a.levels, b.levels))
    largest = max((float(np.abs(a - b).max()) for a, b in pairs if len(a)), default=0.0)
    return Side.of(measured(scored, checkpoint), largest)


def flips(split: str, a: Scored, b: Scored, checkpoint: Checkpoint) -> Iterator[Flip]:
    """Detections on the streams without one of the other student within half a second.

    And the wake words, as they were recorded, that one student alone hears.
    """
    recipe, threshold = checkpoint.settings(), checkpoint.threshold().threshold
    rules, hop_s = recipe.detector, grid(recipe.features).hop_s
    alarms = [count_alarms(scored.streams, threshold, rules, hop_s) for scored in (a, b)]
    for mine, theirs in zip(*alarms, strict=True):
        yield from unmatched(split, "", mine, theirs)
    for x, y in zip(a.clips, b.clips, strict=True):
        if x.positive and x.cohort == CLEAN:
            lost = x.fires(threshold, rules, hop_s)
            if lost != y.fires(threshold, rules, hop_s):
                heard_s = _heard_s(x if lost else y, threshold, recipe)
                yield Flip(split, x.clip, heard_s, lost)


def _heard_s(word: ClipScore, threshold: float, recipe: Recipe) -> float:
    """When a word that is heard is heard, with its background from 0: the end of a window."""
    lattice, (first, stop) = grid(recipe.features), word.span
    if word.levels is not None:
        hops = firings(word.levels, threshold, recipe.detector, lattice.hop_s)
        first = int(hops[(hops >= first) & (hops < stop)][0])
    return lattice.window_s + first * lattice.hop_s
