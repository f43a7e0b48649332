"""`runs` lists what is in the workspace, `runs prune` makes room, `runs stop` ends the training."""

import argparse
import shlex
from contextlib import closing
from pathlib import Path
from typing import Any

from engine.errors import DataError
from engine.prune import prune
from engine.queue_store import QueueStore
from engine.runs import Run, Workspace
from wakeword_tui.commands.arguments import Verbs, add_json, command, workspace
from wakeword_tui.commands.output import say, say_json, table
from wakeword_tui.numbers import percent, rate


def add(verbs: Verbs) -> None:
    """Declare the commands."""
    runs = command(
        verbs,
        "runs",
        list_runs,
        "list the runs, prune them, stop one",
        "runs",
        "runs prune --keep 5",
        "runs stop",
    )
    add_json(runs)
    verbs = runs.add_subparsers(metavar="list|prune|stop")
    listed = command(verbs, "list", list_runs, "list the runs, oldest first", "runs list --json")
    add_json(listed)
    pruning = command(
        verbs,
        "prune",
        prune_runs,
        "remove all but the newest finished runs",
        "runs prune --keep 5",
        "runs prune --unfinished     also what `train --resume` could go on with",
    )
    pruning.add_argument("--keep", type=int, default=10, metavar="N", help="how many stay (10)")
    pruning.add_argument(
        "--unfinished", action="store_true", help="also remove runs that could be gone on with"
    )
    command(
        verbs, "stop", stop_run, "ask the running training to stop after a checkpoint", "runs stop"
    )


def list_runs(args: argparse.Namespace) -> int:
    """List the runs with what their tests gave."""
    home = workspace(args)
    runs = home.runs()
    if args.json:
        say_json([_facts(run) for run in runs])
    elif not runs:
        say(f"no runs in {home.root}; make one with: {home.command('demo')}")
    else:
        say(table(("run", "state", "FRR", "FAH", "pAUC", "hours"), map(_row, runs)))
    return 0


def _facts(run: Run) -> dict[str, Any]:
    report = run.report_json()
    return {
        "run": run.name,
        "path": str(run.path),
        "finished": run.finished(),
        "resumable": run.last.exists(),
        "test": report["test"] if report else None,
    }


def _row(run: Run) -> tuple[str, ...]:
    report = run.report_json()
    if report is None and run.report.exists():
        return run.name, "unreadable", *"----"
    if report is None:
        return run.name, "resumable" if run.last.exists() else "unfinished", *"----"
    test = report["test"]
    numbers = percent(test["frr"]), rate(test["fah"]), f"{test['pauc']:.4f}"
    return run.name, "finished", *numbers, f"{test['hours']:.2f}"


def prune_runs(args: argparse.Namespace) -> int:
    """Remove runs and say which."""
    if args.keep < 0:
        args.usage_error("--keep takes 0 or more")
    home = workspace(args)
    gone = prune(home, args.keep, unfinished=args.unfinished, needed=_mines_on(home))
    for run in gone:
        say(f"removed {run.path}")
    waiting = sum(not run.finished() for run in home.runs())
    say(f"{len(gone)} removed, {len(home.runs())} left, {waiting} of them unfinished")
    needed = len(home.runs()) - waiting - args.keep
    if needed > 0:
        say(f"{needed} beyond --keep stay: a study, or what can be gone on with, needs them")
    return 0


def _mines_on(home: Workspace) -> list[Path]:
    """The checkpoints that minings which were broken off, or are under way, go on with."""
    if not home.queue.exists():
        return []
    try:
        with closing(QueueStore(home.queue)) as store:
            return [session.model for session in store.sessions() if not session.done]
    except DataError as error:
        message = f"cannot tell which runs a mining goes on with: {error.message}"
        hint = f"{error.hint}; `rm -r {shlex.quote(str(home.cache))}` makes room, and is made again"
        raise DataError(message, hint) from error


def stop_run(args: argparse.Namespace) -> int:
    """Stop the process that trains in this workspace."""
    asked = workspace(args).stop_holder()
    say("nothing is running" if asked is None else f"asked {asked} to stop after a checkpoint")
    return 0
