"""`search`: a study of recipes, quality against latency; and what it found."""

import argparse
import csv
import io
from dataclasses import asdict
from pathlib import Path

from engine.errors import DataError
from engine.events import Emit
from engine.files import make_folder, write_atomic
from engine.jobs import Control
from engine.recipe import Recipe
from engine.recipe_file import dump
from engine.runs import Workspace
from engine.trials import StudyView, Trial
from wakeword_tui.commands.arguments import (
    STOPPED,
    Verbs,
    add_json,
    add_settings,
    command,
    recipe,
    workspace,
)
from wakeword_tui.commands.output import note, say, say_json, table
from wakeword_tui.commands.progress import perform
from wakeword_tui.commands.signals import Interrupted
from wakeword_tui.numbers import duration, percent

LOOKS = ("show", "list", "export", "recipe")


def add(verbs: Verbs) -> None:
    """Declare the command."""
    search = command(
        verbs,
        "search",
        run_search,
        "try many recipes and find the trade-off between misses and latency",
        "search recipes/search.toml --set data.manifest=clips/manifest.csv "
        "--set data.wakeword=jarvis",
        "search my.toml --trials 100 --name wide     a study of its own name",
        "search --resume wide                        go on where it was stopped or killed",
        "search my.toml --storage postgresql://...   several machines, one study",
        "search list                                 the studies of the workspace",
        "search show wide                            its trials, the best marked",
        "search recipe wide 17 > best.toml           a trial's recipe, for a whole training",
        "search export wide --out plots              CSV, and the Pareto front as PNG and SVG",
        codes=STOPPED,
    )
    search.add_argument(
        "what",
        nargs="?",
        metavar="RECIPE|show|list|recipe|export",
        help="a TOML file with a [search.space], or how to look at a study",
    )
    search.add_argument("study", nargs="?", metavar="NAME", help="the study that is looked at")
    search.add_argument(
        "trial",
        nargs="?",
        type=int,
        metavar="TRIAL",
        help="the number of the trial whose recipe is printed",
    )
    search.add_argument("--trials", type=int, metavar="N", help="trials in all (search.trials)")
    search.add_argument("--name", help="what the study is called (as the recipe)")
    search.add_argument("--resume", metavar="NAME", help="go on with the study of this name")
    search.add_argument(
        "--storage",
        metavar="URL",
        help="a database that several machines share (a file of the workspace)",
    )
    search.add_argument("--out", type=Path, metavar="DIR", help="folder that `export` writes into")
    add_settings(search)
    add_json(search)


def run_search(args: argparse.Namespace) -> int:
    """Do what the arguments ask for."""
    if wrong := _wrong(args):
        args.usage_error(wrong)
    home = workspace(args)
    looks = {"show": _show, "list": _list, "export": _export, "recipe": _recipe}
    if args.what in looks:
        return looks[args.what](home, args)
    return _search(home, args)


def _wrong(args: argparse.Namespace) -> str:
    """What does not go together; empty if everything does."""
    look = args.what in LOOKS
    if look and args.what != "list" and args.study is None:
        return f"search {args.what} wants the name of a study"
    if args.study is not None and not look:
        return f"{args.what} is no look at a study: give one of {', '.join(LOOKS)}"
    if (args.what == "recipe") != (args.trial is not None):
        return "search recipe wants a study and a trial"
    if (args.what == "export") != (args.out is not None):
        return "--out DIR goes with export"
    if args.json and args.what not in ("show", "list"):
        return "--json goes with show and list"
    if look:
        return "--resume goes with neither" if args.resume else ""
    if (args.what is None) == (args.resume is None):
        return "give a recipe, or --resume NAME"
    if args.resume and (args.settings or args.name):
        return "--resume goes on with the study's own recipe and name"
    if args.trials is not None and args.trials < 1:
        return "--trials takes 1 or more"
    return ""


def _search(home: Workspace, args: argparse.Namespace) -> int:
    """Begin a study, or go on with one, and print what is there in the end."""
    args.recipe = args.what
    chosen: Recipe | None = None if args.resume else recipe(args)
    name = args.resume or args.name or (chosen.name if chosen else "")

    def verb(emit: Emit, control: Control) -> None:
        from engine.search import search

        trials, storage = args.trials, args.storage
        search(chosen, home, name=name, trials=trials, storage=storage, emit=emit, control=control)

    try:
        perform(home, "search", verb)
    except Interrupted:
        shared = ("--storage", "URL") if args.storage else ()  # it may hold a password
        note(f"go on with: {home.command('search', '--resume', name, *shared)}")
        raise
    return _print(_view(home, name, args.storage))


def _view(home: Workspace, name: str, storage: str | None) -> StudyView:
    from engine.study import view

    return view(home, name, storage)


def _show(home: Workspace, args: argparse.Namespace) -> int:
    found = _view(home, args.study, args.storage)
    if args.json:
        say_json(asdict(found))
        return 0
    return _print(found)


def _print(found: StudyView) -> int:
    """Print the trials, those of the front marked, and what matters most."""
    done = sum(trial.state != "running" for trial in found.trials)
    unit = "MACs" if found.latency == "macs" else "ms"
    objectives = f"{'pAUC' if found.quality == 'pauc' else 'FRR'} against {unit}"
    say(f"{found.name}: {done} of {found.wanted} trials, {objectives}, {found.sampler}")
    header = ("trial", "state", "from", "pAUC", "FRR", "ms", "MACs", "kB", "time")
    say(table(header, (_row(trial, found) for trial in found.trials), left=3))
    for trial in found.trials:
        if trial.why:
            say(f"{trial.number}: {trial.why}")
    shares = sorted(found.importance.items(), key=lambda item: -item[1])
    if shares:
        say("what matters: " + ", ".join(f"{key} {percent(share)}" for key, share in shares))
    return 0


def _row(trial: Trial, found: StudyView) -> tuple[str, ...]:
    mark = "*" if trial.number in found.front else " "
    state = trial.state if trial.feasible else "too large"
    origin = "" if trial.parent is None else f"{trial.operation} of {trial.parent}"
    return (
        f"{mark}{trial.number:>4}",
        state,
        origin,
        "-" if trial.pauc is None else f"{trial.pauc:.4f}",
        "-" if trial.frr is None else percent(trial.frr),
        "-" if trial.latency_ms is None else f"{trial.latency_ms:.2f}",
        "-" if trial.macs is None else str(trial.macs),
        "-" if trial.int8_kb is None else f"{trial.int8_kb:.1f}",
        duration(trial.seconds),
    )


def _list(home: Workspace, args: argparse.Namespace) -> int:
    names = [path.stem for path in sorted(home.studies.glob("*.toml"))]
    if args.json:
        say_json(names)
    else:
        say(
            "\n".join(names) or f"no studies in {home.root}; begin with: wakeword-tui search RECIPE"
        )
    return 0


def _recipe(home: Workspace, args: argparse.Namespace) -> int:
    """Print the recipe of a trial as it would be trained at full length."""
    from engine.space import full_recipe
    from engine.study import recipe_of

    found = _view(home, args.study, args.storage)
    params = {trial.number: trial.params for trial in found.trials}
    if args.trial not in params:
        raise DataError(f"study {found.name!r} has no trial {args.trial}", "see `search show`")
    chosen = full_recipe(recipe_of(home, args.study, args.storage), params[args.trial])
    say(dump(chosen).rstrip())
    return 0


def _export(home: Workspace, args: argparse.Namespace) -> int:
    for path in export_study(_view(home, args.study, args.storage), args.out):
        say(str(path))
    return 0


def export_study(found: StudyView, folder: Path) -> list[Path]:
    """Write the trials as CSV, and the Pareto front and the hypervolume as PNG and SVG.

    Raises DataError where the disk refuses, or matplotlib is missing.
    """
    from wakeword_tui.plots import draw_study

    sheet = folder / f"{found.name}.csv"
    make_folder(folder)
    write_atomic(sheet, _csv(found).encode())
    return [sheet, *draw_study(found, folder)]


def _csv(found: StudyView) -> str:
    """A line for each trial: what is known of it, then a column for each key of the space."""
    text = io.StringIO()
    keys = list(found.space)
    known = [name for name in Trial.__dataclass_fields__ if name not in ("params", "values")]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*known, "front", *keys])
    for trial in found.trials:
        facts = asdict(trial)
        row = ["" if facts[name] is None else facts[name] for name in known]
        values = [trial.params.get(key, "") for key in keys]
        writer.writerow([*row, trial.number in found.front, *values])
    return text.getvalue()
