"""The export of a run: a folder that detects without this program, and proof that it does the same.

Graphs, front end, example and golden vectors are written beside where they will be; the graphs are
run over the validation split and held against the checkpoint. Only then the folder takes its
place, or, where it decides otherwise too often, is kept aside as `NAME.rejected`.
"""

import json
import math
import shutil
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path

from engine.agree import Agreement, agree
from engine.checkpoint import Checkpoint, load, sha256
from engine.cost import cost, exceeded, latency_ms
from engine.dataset import everything, pack, read, select
from engine.errors import CheckpointError, DataError
from engine.evaluate import EXPORT_TOLERANCE, measured, report_of, score_split, tell_unreadable
from engine.events import Emit, ExportWritten, PhaseChanged, Warned
from engine.export_folder import HOP, STUDENT, WINDOW, Kind, Told, is_export, seal
from engine.export_folder import read as read_export
from engine.export_manifest import (
    EXAMPLE,
    FRONT_END,
    GOLDEN,
    TOLERANCES,
    VERIFY,
    about,
    graphs,
    hearing,
    write_front_end,
    write_golden,
)
from engine.files import building, disk_error, make_folder, write_atomic, writing
from engine.heard import Heard, Progress
from engine.jobs import Control
from engine.manifest import Split
from engine.onnx_graph import write_hop, write_onnx, write_student
from engine.recipe import Data
from engine.report import Report
from engine.round_off import round_off
from engine.runs import Run, Workspace
from engine.scorer import Exported, ExportedHops, Scorer, checkpoint_of, scorer_of

WINDOWS_MOST_S = 360.0
"""Of the streams, what the window graph hears: it makes each frame anew for every window."""
FLIPS_LEAST, FLIPS_SHARE = 2, 0.02
"""Decisions of an INT8 graph that may differ: so many, or this share of the wake words if more."""


def export(
    run: Run, kind: Kind, out: Path | None, workspace: Workspace, *, emit: Emit, control: Control
) -> ExportWritten:
    """Export the best checkpoint of a finished run into `out`, or `export/KIND` of the run.

    Raises CheckpointError where the graphs do not do as the checkpoint does, and DataError where
    the validation data to see that on is gone, or where another folder is in the way.
    """
    folder = (out or run.export / kind).absolute()
    rejected = folder.with_name(f"{folder.name}.rejected")
    for place in (folder, rejected):
        _put_back(place)
        _refuse_in_the_way(place)
    tables, checkpoint = _report(run), load(run.best)
    make_folder(folder.parent)
    heard = _heard(checkpoint, workspace, emit, control)
    with writing(folder), building(folder.parent) as made:
        emit(PhaseChanged("export"))
        shipped = _shipped(run, checkpoint, kind, heard["train"], control)
        _write_files(shipped, kind, made, control)
        emit(PhaseChanged("compare"))
        found = _compared(checkpoint, made, heard["validation"], emit, control)
        known = {"kind": kind, "run": {"name": run.name, "checkpoint_sha256": sha256(run.best)}}
        known["validation"] = _validation(shipped, made, heard["validation"], control)
        known |= about(shipped, tables) | hearing(shipped) | _proof(shipped, kind, made, found)
        told = seal(made, known)
        if wrong := _wrong(found, kind):
            _move(made, rejected)
            raise CheckpointError(wrong, f"it is kept to look at in {rejected}")
        _move(made, folder)
    return _tell(run, kind, folder, told, found[STUDENT], emit)


def _report(run: Run) -> Told:
    tables = run.report_json()
    if tables is None or not run.best.exists():
        raise DataError(f"{run.name} has no report: it is not finished", run.resuming())
    return tables


def _heard(
    checkpoint: Checkpoint, workspace: Workspace, emit: Emit, control: Control
) -> dict[Split, Heard]:
    """The splits that an export may hear: the test stays closed."""
    recipe = checkpoint.settings()
    emit(PhaseChanged("pack"))
    packed = pack(read(recipe.data), workspace.cache, emit=emit, control=control)
    splits: tuple[Split, ...] = ("train", "validation")
    return {split: Heard(packed, select(packed, recipe.data, split), recipe) for split in splits}


def _shipped(
    run: Run, checkpoint: Checkpoint, kind: Kind, train: Heard, control: Control
) -> Checkpoint:
    """The checkpoint whose graphs are written: in float, fine-tuned as INT8, or rounded off.

    All keep the threshold of the float one, for which the report tells what it does.
    """
    if kind == "onnx":
        return checkpoint
    if run.int8.exists():
        return replace(load(run.int8), operating_point=checkpoint.operating_point)
    return round_off(checkpoint, train, control=control)


def _validation(shipped: Checkpoint, made: Path, heard: Heard, control: Control) -> Told:
    """How what is shipped does on validation; INT8 has the threshold of the float one."""
    if not shipped.quantised:
        return dict(json.loads(shipped.validation))
    scored = score_split(scorer_of(made / STUDENT), heard, lambda _: control.tick())
    return dict(json.loads(measured(scored, shipped).to_json()))


def _write_files(checkpoint: Checkpoint, kind: Kind, folder: Path, control: Control) -> None:
    """Write everything but the manifest."""
    for write, name in ((write_onnx, WINDOW), (write_student, STUDENT), (write_hop, HOP)):
        control.tick()
        write(checkpoint, folder / name)
    write_front_end(checkpoint.features(), folder / FRONT_END)
    write_golden(scorer_of(folder / STUDENT), folder / GOLDEN)
    example = files("engine").joinpath("example.py.txt").read_bytes()
    write_atomic(folder / EXAMPLE, example)


def _compared(
    checkpoint: Checkpoint, folder: Path, heard: Heard, emit: Emit, control: Control
) -> dict[str, Agreement]:
    """Run every graph in onnxruntime over the validation split, beside the checkpoint."""
    return agree(
        Scorer.of(checkpoint),
        {
            STUDENT: (scorer_of(folder / STUDENT), math.inf),
            HOP: (ExportedHops(folder / HOP), math.inf),
            WINDOW: (Exported(folder / WINDOW), WINDOWS_MOST_S),
        },
        heard,
        checkpoint.threshold().threshold,
        emit=emit,
        control=control,
    )


def _proof(checkpoint: Checkpoint, kind: Kind, folder: Path, found: dict[str, Agreement]) -> Told:
    """What was found out about the files: how far they agree, how fast and how large they are."""
    recipe, latency = checkpoint.settings(), latency_ms(Exported(folder / WINDOW), checkpoint)
    return {
        "graphs": graphs(checkpoint),
        "compared": {
            "with": "the float checkpoint, over the validation split: its streams, and its wake "
            "words and other words as they were recorded",
            **{name: asdict(agreement) for name, agreement in found.items()},
        },
        "latency_ms": latency,
        "targets_exceeded": exceeded(recipe.targets, cost(recipe), latency["p95"]),
        "golden": {"file": GOLDEN, "tolerance": TOLERANCES[kind]},
        "verify": VERIFY,
    }


def _wrong(found: dict[str, Agreement], kind: Kind) -> str:
    """Why the graphs cannot stand for the checkpoint; empty if they can."""
    for name, agreement in found.items():
        difference, flips = agreement.largest_difference, len(agreement.flips)
        if kind == "onnx" and difference > EXPORT_TOLERANCE:
            return f"{name} scores up to {difference:.4f} away from the checkpoint"
        if flips > most_flips(kind, agreement.words):
            return f"{name} decides otherwise than the checkpoint {flips} times on validation"
    return ""


def most_flips(kind: Kind, words: int) -> int:
    """Decisions that may differ on a validation split with so many wake words."""
    return 0 if kind == "onnx" else max(FLIPS_LEAST, math.floor(FLIPS_SHARE * words))


def _tell(
    run: Run, kind: Kind, folder: Path, told: Told, student: Agreement, emit: Emit
) -> ExportWritten:
    for sentence in told["targets_exceeded"]:
        emit(Warned(sentence, "try a smaller model.width, or another model.arch"))
    done = ExportWritten(
        run=run.name,
        kind=kind,
        folder=str(folder),
        kilobytes=sum(file["bytes"] for file in told["files"].values()) / 1024,
        windows=student.windows,
        largest_difference=student.largest_difference,
        flips=len(student.flips),
    )
    emit(done)
    return done


# --- folders that appear whole


def _refuse_in_the_way(folder: Path) -> None:
    """Raise DataError for a folder that is not an export, or holds more than one."""
    there = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if there and not is_export(folder):
        raise DataError(f"{folder} is there, and is no export", "name a new folder with --out")


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.being-replaced")


def _put_back(folder: Path) -> None:
    """Undo what a kill left between the two steps of `_move`."""
    with writing(folder):
        if _old(folder).exists() and not folder.exists():
            _old(folder).rename(folder)
        shutil.rmtree(_old(folder), ignore_errors=True)


def _move(made: Path, folder: Path) -> None:
    """Put a folder that is whole where it belongs; an older one is gone only once it is there."""
    old = _old(folder)
    try:
        made.chmod(0o755)
        if folder.exists():
            folder.rename(old)
        try:
            made.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    except OSError as error:
        raise disk_error(folder, error) from error
    shutil.rmtree(old, ignore_errors=True)


# --- an export measured


def evaluate_export(
    folder: Path, data: Path, workspace: Workspace, *, emit: Emit, control: Control
) -> Report:
    """Measure an export at its frozen threshold on somebody's clips and streams, whole."""
    told, scorer = read_export(folder), scorer_of(folder)
    checkpoint = checkpoint_of(folder)
    recipe = checkpoint.settings()
    settings = Data(manifest=data.absolute(), wakeword=recipe.data.wakeword)
    emit(PhaseChanged("pack"))
    packed = pack(read(settings), workspace.cache, emit=emit, control=control)
    tell_unreadable(packed, emit)
    heard = Heard(packed, everything(packed, settings), recipe)
    scored = score_split(scorer, heard, Progress("test", heard.seconds, emit, control))
    checkpoint = replace(checkpoint, validation=json.dumps(told["validation"]))
    digest = told["run"]["checkpoint_sha256"]
    report = report_of(checkpoint, digest, scored, Exported(folder / WINDOW))
    return replace(report, split="test")  # whatever split a trial of a search was judged on
