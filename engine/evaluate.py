"""The benchmark: scores of a split, and its report."""

import hashlib
import json
import math
import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from engine.audio import SAMPLE_RATE, Waveform
from engine.checkpoint import Checkpoint, load, sha256
from engine.cohorts import Condition
from engine.cost import cost, exceeded, features_ms, latency_ms
from engine.dataset import Pack, PackedClip, everything, pack, read, select, splits_of
from engine.detector import smooth, vote_levels
from engine.errors import CheckpointError, DataError
from engine.events import Emit, PhaseChanged, Warned
from engine.features import grid
from engine.heard import SPEEDS, Heard, Passed, Progress, each_hearing, untold
from engine.jobs import Control
from engine.metrics import (
    GRACE_S,
    MOST,
    OperatingPoint,
    StreamScores,
    choose_operating_point,
    hops_within,
    peak_within,
    tail_threshold,
)
from engine.onnx_graph import write_onnx, write_student
from engine.outcomes import Outcomes
from engine.recipe import Data, Recipe
from engine.report import ClipScore, Measured, Report, measure
from engine.runs import Workspace
from engine.scorer import Exported, Scorer, Scores, Whole, Window, blocks, scorer_of

CUT_S = 3.0
TAIL_COST = 0.05
EXPORT_TOLERANCE = 1e-3
INT8_TOLERANCE = 0.05
"""Of INT8 scores: a sum that falls between two steps may round either way."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What the metrics need of a split."""

    clips: tuple[ClipScore, ...]
    streams: tuple[StreamScores, ...]


def score_split(scorer: Scorer, heard: Heard, passed: Passed = untold) -> Scored:
    """Score every clip and stream of a split, resetting the scorer between them.

    The streams take as long as the clips, and are heard beside them in another thread.
    """
    with ThreadPoolExecutor(1, "streams", torch.set_num_threads, (1,)) as beside:
        streams = beside.submit(_score_stream, scorer.another(), heard, passed)
        clips = _score_clips(scorer, heard, passed)
        scores = streams.result()
    cuts = _cut_scores(scores, heard, scorer)
    clips += [ClipScore(score, score, False, "speech") for score in cuts]
    return Scored(tuple(clips), _streams(scores, heard, scorer))


def other_hearings(
    scorer: Scorer, heard: Heard, passed: Passed = untold
) -> tuple[StreamScores, ...]:
    """Score the stream of a split played slower and faster: as other people might have said it."""
    found: list[StreamScores] = []
    for speed in SPEEDS:
        scores = _score_stream(scorer, heard, passed, speed)
        found += [replace(s, seconds=s.seconds / speed) for s in _streams(scores, heard, scorer)]
    return tuple(found)


def _score_clips(scorer: Scorer, heard: Heard, passed: Passed) -> list[ClipScore]:
    """Score the wake words in every condition and the other words, with a step boundary at each."""
    clips = []
    for clip, condition in each_hearing(heard.selection):
        clips.append(_score_clip(scorer, heard, clip, condition))
        passed(heard.clip_s(clip))
    return clips


def _score_stream(scorer: Scorer, heard: Heard, passed: Passed, speed: float = 1.0) -> Scores:
    """Score the stream of a split, `(H,)`, with a step boundary at each of its clips."""
    scorer.reset()
    parts = [np.zeros(0, dtype=np.float32)]
    for waveform in heard.stream(speed):
        parts += [scorer.push(block) for block in blocks(waveform)]
        passed(len(waveform) / SAMPLE_RATE)
    return np.concatenate(parts)


def _score_clip(scorer: Scorer, heard: Heard, clip: PackedClip, condition: Condition) -> ClipScore:
    settings, positive = heard.recipe.detector, condition.positive
    scores = scorer.score(heard.clip(clip, condition))
    hop_s, first_s = scorer.grid.hop_s, scorer.grid.window_s
    lead_s = heard.lead_s
    end_s = lead_s + clip.seconds
    score = peak_within(smooth(scores, settings.smooth_hops), first_s, hop_s, lead_s, end_s)
    span = (clip.start_s, clip.end_s) if positive else (0.0, clip.seconds)
    levels = vote_levels(scores, settings)
    start_s, end_s = lead_s + span[0], lead_s + span[1]
    peak = peak_within(levels, first_s, hop_s, start_s, end_s)
    hops = hops_within(len(levels), first_s, hop_s, start_s, end_s)
    return ClipScore(
        score,
        peak,
        positive,
        clip.clip.group,
        condition.cohort,
        clip=clip.name,
        levels=levels,
        span=hops,
    )


def _cut_scores(scores: Scores, heard: Heard, scorer: Scorer) -> list[float]:
    """Highest smoothed score of each 3 s cut of the speech, with which the stream begins."""
    hops, hop_s = round(CUT_S / scorer.grid.hop_s), scorer.grid.hop_s
    speech_s = sum(clip.seconds for clip in heard.selection.speech)
    spoken = max(0, int((speech_s - scorer.grid.window_s) / hop_s))
    smoothed = smooth(scores[:spoken], heard.recipe.detector.smooth_hops)
    whole = smoothed[: len(smoothed) // hops * hops].reshape(-1, hops)
    return [float(score) for score in whole.max(axis=1)] if whole.size else []


def _streams(scores: Scores, heard: Heard, scorer: Scorer) -> tuple[StreamScores, ...]:
    clips = [*heard.selection.speech, *heard.selection.noise]
    seconds = sum(clip.samples for clip in clips) / SAMPLE_RATE
    levels = vote_levels(scores, heard.recipe.detector)
    names = " ".join(sorted(clip.name for clip in clips))
    sound = hashlib.sha256(names.encode()).hexdigest()
    return (StreamScores(levels, seconds, scorer.grid.window_s, sound),) if seconds else ()


def operating_point(
    streams: Sequence[StreamScores],
    clips: Sequence[ClipScore],
    recipe: Recipe,
    hearings: int = 1,
) -> OperatingPoint:
    """The lowest threshold that keeps the target, or that of the tail of the peaks if higher.

    The tail is a guess beyond the highest peak, and of a model that is sure of everything it can
    lie beyond every word: it may cost `TAIL_COST` of the words of all conditions and no more.
    """
    hop_s, rules, settings = grid(recipe.features).hop_s, recipe.detector, recipe.evaluate
    target, peaks = settings.target_fah, hearings * settings.tail_peaks
    point = choose_operating_point(streams, target, rules, hop_s)
    tail = tail_threshold(streams, target, rules, hop_s, peaks)
    words = sorted(clip.peak for clip in clips if clip.positive)
    missed = bisect_left(words, point.threshold) + math.floor(TAIL_COST * len(words))
    most = min([MOST, tail, *words[missed : missed + 1]])
    return replace(point, threshold=max(point.threshold, most))


def measured(
    scored: Scored, checkpoint: Checkpoint, thresholds: list[float] | None = None
) -> Measured:
    """Measure a split at the checkpoint's frozen threshold; sweep over validation's thresholds."""
    recipe = checkpoint.settings()
    return measure(
        scored.clips,
        scored.streams,
        checkpoint.threshold(),
        recipe.detector,
        grid(recipe.features).hop_s,
        recipe.evaluate,
        thresholds,
    )


def export_and_compare(checkpoint: Checkpoint, path: Path, heard: Heard) -> Window:
    """Write the ONNX files, run them on audio of the split and compare; raise if they differ.

    `path` is the whole detector; the student alone is written beside it as student.onnx. A teacher
    that hears samples is not shipped, and not exported.
    """
    if checkpoint.settings().model.arch == "wav2vec2":
        return Whole(checkpoint)
    student = path.with_name("student.onnx")
    write_onnx(checkpoint, path)
    write_student(checkpoint, student)
    exported, streaming, scorer = Exported(path), scorer_of(student), Scorer.of(checkpoint)
    most = INT8_TOLERANCE if checkpoint.quantised else EXPORT_TOLERANCE
    for audio in _excerpts(heard, scorer.grid.window_samples):
        expected, got = scorer.score(audio), streaming.score(audio)
        whole = exported.score(audio[: scorer.grid.window_samples])
        _compare(float(expected[0]), whole, most, path)
        worst = int(np.abs(got - expected).argmax())
        _compare(float(expected[worst]), float(got[worst]), most, student)
    return exported


def _compare(expected: float, got: float, most: float, path: Path) -> None:
    if abs(expected - got) > most:
        path.rename(path.with_suffix(".rejected"))
        message = f"the exported model scores {got:.4f} where the checkpoint scores {expected:.4f}"
        raise CheckpointError(message, f"{path.with_suffix('.rejected')} is kept to look at")


def _excerpts(heard: Heard, samples: int, count: int = 24) -> Iterator[Waveform]:
    """A window around the word of some clips of the split, and what follows it."""
    for clip in heard.selection.positives[:count]:
        audio = heard.clip(clip)
        stop = round((heard.lead_s + clip.end_s + GRACE_S / 2) * SAMPLE_RATE)
        yield audio[max(0, stop - samples) :]


def make_report(
    checkpoint_path: Path,
    test: Heard,
    onnx_path: Path,
    *,
    emit: Emit,
    control: Control,
    reported: OperatingPoint | None = None,
) -> tuple[Report, Outcomes]:
    """Open the test set, once, at the frozen threshold; report, and tell what each clip became.

    What it became is told at the threshold of the report that it will lie beside, if `reported`.
    """
    checkpoint = load(checkpoint_path)
    passed = Progress("test", test.seconds, emit, control)
    scored = score_split(Scorer.of(checkpoint), test, passed)
    emit(PhaseChanged("export"))
    exported = export_and_compare(checkpoint, onnx_path, test)
    report = report_of(checkpoint, sha256(checkpoint_path), scored, exported)
    return report, _outcomes(checkpoint, scored, reported or checkpoint.threshold())


def report_of(checkpoint: Checkpoint, digest: str, scored: Scored, exported: Window) -> Report:
    """The report of scores at a checkpoint's frozen threshold; `digest` is its file's."""
    recipe = checkpoint.settings()
    size, validation = cost(recipe, checkpoint.config), checkpoint.validated()
    latency = latency_ms(exported, checkpoint)
    return Report(
        recipe_sha256=hashlib.sha256(checkpoint.recipe.encode()).hexdigest(),
        fold=recipe.data.fold,
        parameters=size.parameters,
        macs=size.macs,
        latency_ms=latency,
        features_ms=features_ms(checkpoint),
        checkpoint_sha256=digest,
        operating_point=checkpoint.threshold(),
        split=recipe.evaluate.split,
        validation=validation,
        test=measured(scored, checkpoint, [row[0] for row in validation.sweep]),
        warnings=exceeded(recipe.targets, size, latency["p95"]),
        teachers=json.loads(checkpoint.provenance.get("teachers", "[]")),
    )


def _outcomes(checkpoint: Checkpoint, scored: Scored, point: OperatingPoint) -> Outcomes:
    """What became of each clip at an operating point."""
    recipe = checkpoint.settings()
    hop_s = grid(recipe.features).hop_s
    return Outcomes.of(scored.clips, point, recipe.detector, hop_s, scored.streams)


def evaluate(
    checkpoint_path: Path,
    data: Path | None,
    workspace: Workspace,
    *,
    emit: Emit,
    control: Control,
    outcomes_path: Path | None = None,
    reported: OperatingPoint | None = None,
) -> Report:
    """Measure a checkpoint at its frozen threshold and return its report.

    Without `data`, on the test split of its own recipe; with it, on somebody else's clips and
    streams, all that its recipe did not hear. What became of each clip is written to
    `outcomes_path`, at the threshold of the report that lies there, if it is `reported`: a person
    may have moved the checkpoint's since. Raises DataError where there is nothing to measure on.
    """
    checkpoint = load(checkpoint_path)
    recipe = checkpoint.settings()
    settings = recipe.data
    if data is not None:
        settings = Data(manifest=data.absolute(), wakeword=recipe.data.wakeword)
    emit(PhaseChanged("pack"))
    packed = pack(read(settings), workspace.cache, emit=emit, control=control)
    tell_unreadable(packed, emit)
    if data is None:
        chosen = select(packed, settings, recipe.evaluate.split)
    else:
        new = _new_of(packed, data, recipe, workspace, emit=emit, control=control)
        chosen = everything(new, settings)
    heard = Heard(packed, chosen, recipe)
    with tempfile.TemporaryDirectory() as folder:
        onnx_path = Path(folder) / "model.onnx"
        report, outcomes = make_report(
            checkpoint_path, heard, onnx_path, emit=emit, control=control, reported=reported
        )
    if outcomes_path is not None:
        outcomes.write(outcomes_path)
    return report if data is None else replace(report, split="test")


def tell_unreadable(packed: Pack, emit: Emit) -> None:
    """Warn of each file that was left out."""
    for path, reason in packed.unreadable:
        why = reason.removeprefix(f"{path}: ")
        emit(Warned(f"skipped {path}: {why}", "`wakeword-tui data check` lists what is wrong"))


def _new_of(
    theirs: Pack, data: Path, recipe: Recipe, workspace: Workspace, *, emit: Emit, control: Control
) -> Pack:
    """What of somebody's data is new to a recipe, as far as the recipe's own can be read."""
    try:
        own = pack(read(recipe.data), workspace.cache, emit=emit, control=control)
    except DataError as error:
        message = f"nobody sees whether any of {data} was trained on: {error.message}"
        emit(Warned(message, "put the data of the run back where it was, to have that looked at"))
        return theirs
    new = unheard(theirs, own, recipe.data.fold)
    known = len(theirs.clips) - len(new.clips)
    if not new.clips:
        message = f"all of {data} was trained on, or had a say in the threshold"
        raise DataError(message, "name other recordings, or none for the run's own test split")
    if known:
        message = f"{known} of {len(theirs.clips)} clips of {data} are left out"
        emit(Warned(message, "they were trained on, or had a say in the threshold"))
    return new


def unheard(theirs: Pack, own: Pack, fold: int) -> Pack:
    """Somebody's clips without what a fold of `own` trains or validates on, under any name.

    Where both list some of the same files, groups of one name are one group.
    """
    homes = list(zip(own.clips, splits_of(own.clips, fold), strict=True))
    contents = {clip.content for clip, home in homes if home != "test"}
    groups = set[str]()
    if {clip.clip.path for clip in own.clips} & {clip.clip.path for clip in theirs.clips}:
        tested = {clip.clip.group for clip, home in homes if home == "test"}
        groups = {clip.clip.group for clip, _ in homes} - tested
    new = (c for c in theirs.clips if c.content not in contents and c.clip.group not in groups)
    return replace(theirs, clips=tuple(new))
