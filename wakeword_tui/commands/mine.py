"""`mine`: where a detector wrongly fires, into the queue for a person to decide on."""

import argparse
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import DataError
from engine.events import Emit
from engine.jobs import Control
from engine.queue_store import QueueStore, Session
from engine.runs import Workspace
from wakeword_tui.commands.arguments import STOPPED, Verbs, add_json, command, workspace
from wakeword_tui.commands.evaluate import find_checkpoint
from wakeword_tui.commands.output import note, say, say_json, table
from wakeword_tui.commands.progress import perform
from wakeword_tui.commands.signals import Interrupted
from wakeword_tui.numbers import percent

if TYPE_CHECKING:
    from engine.manifest import Split

SPLITS = ("train", "validation", "test")


def add(verbs: Verbs) -> None:
    """Declare the command."""
    mine = command(
        verbs,
        "mine",
        run_mine,
        "queue what a detector wrongly fires on",
        "mine radio.mp3 tv.flac          recordings without the wake word, with the newest run",
        "mine radio.mp3 --run 3          with run 3",
        "mine --run 3                    the training clips and streams of run 3",
        "mine --run 3 --split test       its test split, to check labels: it never trains",
        "mine --import caught            recordings that woke some engine, a folder or a manifest",
        "mine --resume                   go on with all that was stopped; --list shows them",
        codes=STOPPED,
    )
    mine.add_argument("files", nargs="*", type=Path, metavar="FILE", help="a long recording")
    mine.add_argument(
        "--run", dest="detector", metavar="RUN|CHECKPOINT", help="the detector (the newest)"
    )
    mine.add_argument("--split", choices=SPLITS, help="what of the run's own data is heard (train)")
    mine.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="score, 0 to 1, from which it counts (where 20 alarms an hour are expected)",
    )
    mine.add_argument(
        "--import",
        dest="source",
        type=Path,
        metavar="DIR",
        help="queue recordings of up to 60 s as they are",
    )
    mine.add_argument(
        "--resume",
        nargs="?",
        type=int,
        const=0,
        metavar="SESSION",
        help="go on with a session by its number (with all)",
    )
    mine.add_argument("--list", action="store_true", help="show the sessions")
    add_json(mine)


def run_mine(args: argparse.Namespace) -> int:
    """Do what the arguments ask for."""
    if wrong := _wrong(args):
        args.usage_error(wrong)
    home = workspace(args)
    if args.list:
        return show_sessions(home, args.json)
    if args.files:
        return _files(home, args)
    if args.source is not None:
        return _import(home, args)
    if args.resume is not None:
        return _resume(home, [args.resume] if args.resume else [])
    return _split(home, args)


def _wrong(args: argparse.Namespace) -> str:
    """What does not go together; empty if everything does."""
    resumed = args.resume is not None
    ways = [bool(args.files), args.source is not None, resumed, args.list]
    if sum(ways) > 1 or not (any(ways) or args.detector):
        return "give files, or one of --run RUN, --import DIR, --resume, --list"
    if args.split and any(ways):
        return "--split goes with --run alone"
    if args.threshold is not None and any(ways[1:]):
        return "--threshold goes with files, or with --run alone"
    if args.threshold is not None and not 0 < args.threshold < 1:
        return "--threshold lies between 0 and 1"
    if args.detector and (resumed or args.list):
        return "--run goes with files, with --import, or alone"
    if args.json and not args.list:
        return "--json goes with --list"
    return ""


def show_sessions(home: Workspace, as_json: bool) -> int:
    """List the sessions, oldest first."""
    with closing(QueueStore(home.queue)) as store:
        sessions = store.sessions()
    if as_json:
        say_json([asdict(session) | {"state": ""} for session in sessions])
    elif not sessions:
        say(f"nothing was mined yet; begin with: {home.command('mine', 'FILE')}")
    else:
        header = ("recording", "session", "mined", "hours", "found", "threshold")
        say(table(header, map(_row, sessions)))
    return 0


def _row(session: Session) -> tuple[str, ...]:
    share = 1.0 if session.done else session.position_s / max(session.total_s, 1e-6)
    numbers = percent(share), f"{session.total_s / 3600:.2f}", str(session.found)
    return str(session.path), str(session.id), *numbers, f"{session.threshold:.3f}"


def _files(home: Workspace, args: argparse.Namespace) -> int:
    checkpoint = _checkpoint(home, args.detector)
    paths = [path.absolute() for path in args.files]

    def verb(emit: Emit, control: Control) -> int:
        from engine.mine import mine

        return mine(paths, checkpoint, home, threshold=args.threshold, emit=emit, control=control)

    return _tell(home, verb)


def _resume(home: Workspace, sessions: list[int]) -> int:
    def verb(emit: Emit, control: Control) -> int:
        from engine.mine import resume

        return resume(sessions, home, emit=emit, control=control)

    return _tell(home, verb)


def _split(home: Workspace, args: argparse.Namespace) -> int:
    checkpoint = _checkpoint(home, args.detector)
    split: Split = "train" if args.split is None else args.split

    def verb(emit: Emit, control: Control) -> int:
        from engine.mine_run import mine_split

        level = args.threshold
        return mine_split(checkpoint, split, home, threshold=level, emit=emit, control=control)

    code = _tell(home, verb, resumable=False)
    if split != "train":
        note(f"what the {split} split gave may be listened to, and is never trained on")
    return code


def _import(home: Workspace, args: argparse.Namespace) -> int:
    checkpoint = _checkpoint(home, args.detector) if args.detector else None

    def verb(emit: Emit, control: Control) -> int:
        from engine.mine_run import import_triggers

        return import_triggers(
            args.source, home, checkpoint_path=checkpoint, emit=emit, control=control
        )

    return _tell(home, verb, resumable=False)


def _checkpoint(home: Workspace, reference: str | None) -> Path:
    """The checkpoint that is named, or that of the newest run that has one."""
    if reference is not None:
        return find_checkpoint(home, reference)[0]
    return newest_checkpoint(home)


def newest_checkpoint(home: Workspace) -> Path:
    """The checkpoint of the newest run that has one; says which. Raises DataError."""
    trained = [run for run in home.runs() if run.best.exists()]
    if not trained:
        raise DataError(f"no detector in {home.root}", "train one, or name it")
    note(f"with {trained[-1].name}")
    return trained[-1].best


def _tell(home: Workspace, verb: Callable[[Emit, Control], int], *, resumable: bool = True) -> int:
    """Run the verb and say what the queue holds now."""
    try:
        new = perform(home, "mine", verb, lane="background")
    except Interrupted:
        if resumable:
            note(f"go on with: {home.command('mine', '--resume')}")
        raise
    with closing(QueueStore(home.queue)) as store:
        waiting: dict[Any, int] = dict(store.counts())
    say(f"{new} new in the queue, {waiting['pending']} to decide on")
    return 0
