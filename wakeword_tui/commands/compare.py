"""`compare`: two runs, or two sets of runs, on the clips that both heard."""

import argparse
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from engine.errors import DataError
from engine.runs import Run, Workspace
from wakeword_tui.commands.arguments import Verbs, add_json, command, workspace
from wakeword_tui.commands.output import say, say_json, table
from wakeword_tui.commands.train import FOLDS

if TYPE_CHECKING:
    from engine.compare import Alarms, Comparison, Paired


def add(verbs: Verbs) -> None:
    """Declare the command."""
    parser = command(
        verbs,
        "compare",
        run_compare,
        "compare two runs, clip by clip, on the test that both took",
        "compare 3 7                       is run 7 better than run 3?",
        "compare baseline tinyconv         the five folds that train --folds made of each",
        "compare 1,2,3,4,5 6,7,8,9,10      the same, or several seeds, one by one",
        "compare 3 7 --json                for a program to read",
    )
    help_ = "number, name or path; several with commas between; or the name of five folds"
    parser.add_argument("a", metavar="BASELINE", help=f"run or runs A: {help_}")
    parser.add_argument("b", metavar="RUN", help="run or runs B, which are held against it")
    add_json(parser)


def run_compare(args: argparse.Namespace) -> int:
    """Compare and print."""
    from engine.compare import compare_runs

    home = workspace(args)
    sides = runs_of(home, args.a), runs_of(home, args.b)
    found = compare_runs(*sides)
    names = [[run.name for run in side] for side in sides]
    if args.json:
        say_json(dict(zip("ab", names, strict=True)) | _tables(found))
        return 0
    for letter, named in zip("AB", names, strict=True):
        say(f"{letter}  {', '.join(named)}")
    say(render(found))
    return 0


def render(found: "Comparison") -> str:
    """Render a comparison: a line for each cohort, and what it amounts to."""
    from wakeword_tui.paired import HEADER, row, sentences

    return "\n".join(["", table(HEADER, map(row, found.cohorts)), "", *sentences(found)])


def runs_of(home: Workspace, text: str) -> list[Run]:
    """Find the runs of a side. Raises DataError for one that is not there, or there twice."""
    runs = [run for reference in text.split(",") for run in _named(home, reference)]
    if len(set(runs)) < len(runs):
        raise DataError(f"{text} names a run twice", "its clips would be counted twice")
    return runs


def _named(home: Workspace, reference: str) -> list[Run]:
    """The newest run of each fold of that name, or of the name itself, that has been tested."""
    newest = {run.name.split("-", 1)[1]: run for run in home.runs() if run.outcomes.exists()}
    folds = [f"{reference}-f{fold}" for fold in FOLDS]
    found = [newest[name] for name in folds if name in newest]
    return found or [newest.get(reference) or home.find(reference)]


def _tables(found: "Comparison") -> dict[str, Any]:
    """A comparison as plain tables; what is infinite becomes null."""
    levels = [{"alarms": e.alarms, "words": _table(e.words)} for e in found.at_equal_alarms]
    tables = {"cohorts": [_table(paired) for paired in found.cohorts], "at_equal_alarms": levels}
    return asdict(found) | tables | {"alarms": _table(found.alarms)}


def _table(part: "Paired | Alarms") -> dict[str, Any]:
    finite = {name: None if v == math.inf else v for name, v in asdict(part).items()}
    return finite | {"verdict": part.verdict}
