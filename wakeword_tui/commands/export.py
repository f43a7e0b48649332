"""`export`: a folder that detects without this program, compared with the checkpoint first."""

import argparse
from pathlib import Path
from typing import get_args

from engine.events import Emit, ExportWritten
from engine.export_folder import MANIFEST, Kind
from engine.jobs import Control
from wakeword_tui.commands.arguments import Verbs, add_json, command, workspace
from wakeword_tui.commands.output import say
from wakeword_tui.commands.progress import perform
from wakeword_tui.exporting import sentences


def add(verbs: Verbs) -> None:
    """Declare the command."""
    parser = command(
        verbs,
        "export",
        run_export,
        "write a run as a folder that detects by itself, and prove it",
        "export 3 --to onnx                  into export/onnx of run 3",
        "export 3 --to onnx-int8 --out wake  INT8 weights, into the folder wake",
        "export 3 --to onnx --json           print its manifest",
        codes="1 where it differs too much from the checkpoint: it is kept aside as DIR.rejected",
    )
    parser.add_argument("target", metavar="RUN", help="number, name or path of a finished run")
    parser.add_argument(
        "--to", choices=get_args(Kind), default="onnx", help="float weights, or INT8 (onnx)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder (export/KIND of the run)")
    add_json(parser)


def run_export(args: argparse.Namespace) -> int:
    """Export a run and say what was found on the way."""
    home = workspace(args)
    run = home.find(args.target)

    def verb(emit: Emit, control: Control) -> ExportWritten:
        from engine.export import export

        return export(run, args.to, args.out, home, emit=emit, control=control)

    done = perform(home, "export", verb, lane="background")
    if args.json:
        say((Path(done.folder) / MANIFEST).read_text(encoding="utf-8").rstrip())
        return 0
    for sentence in sentences(done):
        say(sentence)
    say(f"try it: python3 {done.folder}/example.py recording.wav")
    return 0
