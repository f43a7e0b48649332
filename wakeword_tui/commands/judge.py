"""`judge`: a checkpoint or an export that says of others' audio whether it is the wake word."""

import argparse
import json
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from engine.events import Event, JudgeOpened
from engine.jobs import Control
from wakeword_tui.commands.arguments import Verbs, command, workspace
from wakeword_tui.commands.evaluate import find_model
from wakeword_tui.commands.output import note, write
from wakeword_tui.commands.signals import collected

PORT, ROOM = 8765, 8


def add(verbs: Verbs) -> None:
    """Declare the command."""
    parser = command(
        verbs,
        "judge",
        run_judge,
        "answer over HTTP whether audio is the wake word",
        "judge 3                                     run 3 judges what this machine sends it",
        "judge teacher.ckpt --port 9000              a teacher, at another port",
        "judge export --threshold 0.8 > asked.jsonl  an export at a threshold of its own",
        "judge 3 --host 0.0.0.0 --token-file token   for other machines, who know the token",
    )
    parser.add_argument("target", metavar="RUN|CHECKPOINT|EXPORT", help="who judges")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    parser.add_argument("--port", type=int, default=PORT, help=f"port, 0 for any ({PORT})")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the token that who asks must send (else $WAKEWORD_JUDGE_TOKEN)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="score, 0 to 1, from which it accepts (that of its operating point)",
    )
    parser.add_argument(
        "--room", type=int, default=ROOM, help=f"requests that may wait; more get 503 ({ROOM})"
    )


def run_judge(args: argparse.Namespace) -> int:
    """Judge until a signal comes; then answer what is under way."""
    if wrong := _wrong(args):
        args.usage_error(wrong)
    # Audio of every length has kernels of its own: oneDNN, imported below, keeps these and no more.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    from engine.judge import read_token

    token, path = read_token(args.token_file), find_model(workspace(args), args.target)
    from engine.judge_server import bound, serve
    from engine.local_judge import LocalJudge

    control = Control()
    with bound(args.host, args.port, token) as door:
        judge = LocalJudge.of(path, args.threshold)
        with collected(control.stop):
            serve(judge, door, token, args.room, emit=tell, control=control)
    return 0


def tell(event: Event) -> None:
    """Say where it listens on stderr, and a line of JSON a request on stdout."""
    if isinstance(event, JudgeOpened):
        note(
            f"{event.model} judges at {event.url}, threshold {event.threshold:.4f}; ctrl+c ends it"
        )
        return
    told = {name: value for name, value in asdict(event).items() if value is not None}
    line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds")} | told)
    write(sys.stdout, line + "\n")  # a full disk under its log is no reason to judge no more


def _wrong(args: argparse.Namespace) -> str:
    """What is wrong with the numbers."""
    if not 0 <= args.port <= 65_535:
        return "--port lies between 0 and 65535"
    if args.room < 1:
        return "--room is 1 or more"
    if args.threshold is not None and not 0 < args.threshold < 1:
        return "--threshold lies between 0 and 1"
    return ""
