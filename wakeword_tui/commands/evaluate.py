"""`evaluate`: test a checkpoint again, on its own test split or on somebody else's data."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import CheckpointError
from engine.events import Emit
from engine.export_folder import export_at, read
from engine.files import write_atomic
from engine.jobs import Control
from engine.recipe import Data
from engine.runs import Run, Workspace
from wakeword_tui.commands.arguments import Verbs, add_json, command, workspace
from wakeword_tui.commands.output import note
from wakeword_tui.commands.progress import perform

if TYPE_CHECKING:
    from engine.metrics import OperatingPoint
    from engine.report import Report


def add(verbs: Verbs) -> None:
    """Declare the command."""
    parser = command(
        verbs,
        "evaluate",
        run_evaluate,
        "test a checkpoint at its frozen threshold",
        "evaluate 3                                test run 3 again; write its outcomes.npz",
        "evaluate 3 --data theirs/manifest.csv     on somebody else's clips and streams",
        "evaluate --pool 3 4 5 6 7                 five folds as one table",
        "evaluate 3 --plots plots                  DET curve, scores and training as PNG and SVG",
        "evaluate export --data theirs             an exported folder, where nothing was trained",
    )
    parser.add_argument("target", nargs="?", metavar="RUN|CHECKPOINT|EXPORT", help="what is tested")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="MANIFEST",
        help="other recordings: a manifest or data folder, all of it that the run has not heard",
    )
    parser.add_argument("--pool", nargs="+", metavar="RUN", help="finished runs to pool instead")
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help="draw curves as PNG and SVG into this folder"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report as JSON here")
    add_json(parser)


def run_evaluate(args: argparse.Namespace) -> int:
    """Test, print the report, and draw."""
    if (args.target is None) == (args.pool is None):
        args.usage_error("give a run or a checkpoint, or --pool RUN...")
    if args.pool and (args.data or args.plots or args.out):
        args.usage_error("--pool adds up reports that are there: no --data, --plots or --out")
    home = workspace(args)
    if args.pool:
        from wakeword_tui.commands.report import show_pooled

        return show_pooled([home.find(reference) for reference in args.pool], args.json)
    return _test(args, home)


def _test(args: argparse.Namespace, home: Workspace) -> int:
    from wakeword_tui.commands.report import measured_on, show

    folder = export_at(Path(args.target).absolute())
    if folder is not None:
        return _test_export(args, home, folder)
    checkpoint, run = find_checkpoint(home, args.target)
    data: Path | None = args.data and args.data.absolute()

    def verb(emit: Emit, control: Control) -> "Report":
        from engine.evaluate import evaluate

        own = run if data is None else None
        return evaluate(
            checkpoint,
            data,
            home,
            emit=emit,
            control=control,
            outcomes_path=own.outcomes if own else None,
            reported=reported_at(own) if own else None,
        )

    report = perform(home, "evaluate", verb)
    if run is not None and data is None:
        report = with_int8(report, run)
    tested = f"Test on {args.data}" if data else measured_on(report, again=True)
    show(report, _tested_on(checkpoint, data), args.json, tested)
    _leave(args, report, run if data is None else None)
    return 0


def _test_export(args: argparse.Namespace, home: Workspace, folder: Path) -> int:
    from wakeword_tui.commands.report import show

    if args.data is None:
        raise CheckpointError(
            "an export does not know the data it was made from", "name some with --data MANIFEST"
        )
    note(f"nobody sees whether any of {args.data} was trained on: an export does not tell")

    def verb(emit: Emit, control: Control) -> "Report":
        from engine.export import evaluate_export

        return evaluate_export(folder, args.data, home, emit=emit, control=control)

    report = perform(home, "evaluate", verb)
    data = Data(manifest=args.data.absolute(), wakeword=read(folder)["wake_word"])
    show(report, data, args.json, f"Export {args.target} on all of {args.data}")
    _leave(args, report, None)
    return 0


def _leave(args: argparse.Namespace, report: "Report", run: Run | None) -> None:
    """Write the report and the pictures that were asked for."""
    if args.out:
        write_atomic(args.out, report.to_json().encode())
    if args.plots:
        from wakeword_tui.plots import draw

        for path in draw(report, run, args.plots):
            note(f"drew {path}")


def with_int8(report: "Report", run: Run) -> "Report":
    """A report with the INT8 student of the run's own one, if that is of the same checkpoint."""
    own = run.report_json() or {}
    same = own.get("checkpoint_sha256") == report.checkpoint_sha256
    return replace(report, int8=own.get("int8", {})) if same else report


def reported_at(run: Run) -> "OperatingPoint | None":
    """The threshold of a run's report, which a person may have moved in its checkpoint since."""
    from engine.metrics import OperatingPoint

    report = run.report_json()
    return OperatingPoint(**report["operating_point"]) if report else None


def _tested_on(checkpoint: Path, data: Path | None) -> Data:
    from engine.checkpoint import load

    own = load(checkpoint).settings().data
    return own if data is None else Data(manifest=data, wakeword=own.wakeword)


def find_model(home: Workspace, reference: str) -> Path:
    """Return whatever scores: the export or graph that a path names, or the checkpoint of a run."""
    path = Path(reference).absolute()
    if path.suffix == ".onnx" or export_at(path) is not None:
        return path
    return find_checkpoint(home, reference)[0]


def find_checkpoint(home: Workspace, reference: str) -> tuple[Path, Run | None]:
    """Return the checkpoint file that a path or a run names, and the run if there is one."""
    if Path(reference).is_file():
        return Path(reference).absolute(), None
    run = home.find(reference)
    if not run.best.exists():
        raise CheckpointError(f"{run.name} has no best checkpoint yet", run.resuming())
    return run.best, run
