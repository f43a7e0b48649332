"""`train`: one run, five folds, or the rest of a run that was stopped."""

import argparse
from collections.abc import Callable
from itertools import chain

from engine.events import Emit
from engine.jobs import Control
from engine.recipe import Recipe
from engine.recipe_file import override
from engine.runs import EventLog, Run, Workspace
from wakeword_tui.commands.arguments import (
    STOPPED,
    Verbs,
    add_json,
    add_settings,
    command,
    recipe,
    workspace,
)
from wakeword_tui.commands.output import note, say
from wakeword_tui.commands.preview import dry_run
from wakeword_tui.commands.progress import perform
from wakeword_tui.commands.signals import Interrupted

FOLDS = range(5)


def add(verbs: Verbs) -> None:
    """Declare the command."""
    train = command(
        verbs,
        "train",
        run_train,
        "train a detector, test it, and export it",
        "train recipes/tinyconv.toml --set data.manifest=clips/manifest.csv "
        "--set data.wakeword=jarvis",
        "train my.toml --folds     five runs, each tested on voices it never heard",
        "train --resume 3          go on from the last checkpoint, bit for bit",
        "train my.toml --dry-run   size, memory, hours of audio and time, without training",
        codes=STOPPED,
    )
    train.add_argument("recipe", nargs="?", metavar="RECIPE", help="a TOML file: docs/recipe.md")
    train.add_argument(
        "--resume", metavar="RUN", help="go on with a stopped run: its number, name or path"
    )
    train.add_argument("--folds", action="store_true", help="train all five folds and pool them")
    train.add_argument(
        "--dry-run", action="store_true", help="say what it would take, and train nothing"
    )
    add_settings(train)
    add_json(train)


def run_train(args: argparse.Namespace) -> int:
    """Train what the arguments ask for and print the report."""
    if args.resume and (args.recipe or args.settings or args.folds):
        args.usage_error("--resume goes on with the run's own recipe; give nothing beside it")
    if not args.resume and args.recipe is None:
        args.usage_error("give a recipe, or --resume RUN")
    if args.dry_run and args.recipe is None:
        args.usage_error("--dry-run wants a recipe")
    home = workspace(args)
    if args.dry_run:
        chosen = recipe(args)
        return dry_run(home, folds_of(chosen) if args.folds else [chosen], args.json)
    if args.resume:
        return finish(resumed(home, home.find(args.resume)), args.json)
    if args.folds:
        return _folds(home, args)
    return finish(trained(home, recipe(args)), args.json)


def new_run(home: Workspace, chosen: Recipe) -> Run:
    """Make the directory of a run, unless the workspace is busy: then BusyError comes first.

    Raises DataError where it is plain that there is nothing to train on: no run is made of a typo.
    """
    from engine.dataset import read, require_word

    with home.lock():
        require_word(read(chosen.data), chosen.data)
        return home.create(chosen)


def trained(home: Workspace, chosen: Recipe, *, followed: bool = False) -> Run:
    """Train a recipe in a new run, perhaps `followed` by another one."""
    run = new_run(home, chosen)
    _train(home, run, lambda: EventLog(run.events), resume=False, followed=followed)
    return run


def resumed(home: Workspace, run: Run) -> Run:
    """Train the rest of a run; a finished one is left as it is."""
    if run.finished():
        note(f"{run.name} is finished already")
        return run
    _train(home, run, lambda: _cut_back(run), resume=True)
    return run


def _cut_back(run: Run) -> EventLog:
    from engine.train import resume_log

    return resume_log(run)


def _train(
    home: Workspace,
    run: Run,
    log: Callable[[], EventLog],
    *,
    resume: bool,
    followed: bool = False,
) -> None:
    def verb(emit: Emit, control: Control) -> None:
        from engine.train import train

        train(run.recipe(), run, home, emit=emit, control=control, resume=resume)

    try:
        perform(home, "train", verb, log, followed=followed)
    except Interrupted:
        if not run.finished():
            note(f"go on with: {run.resuming()}")
        raise


def folds_of(chosen: Recipe) -> list[Recipe]:
    """The recipe once for each fold, named after it."""
    return [
        override(chosen, {"data.fold": fold, "name": f"{chosen.name}-f{fold}"}) for fold in FOLDS
    ]


def _folds(home: Workspace, args: argparse.Namespace) -> int:
    """Train the five folds one after the other and print what they give together."""
    from wakeword_tui.commands.report import refuse_pinned, show_pooled

    chosen = recipe(args)
    refuse_pinned(chosen.data)
    runs, folds = [], folds_of(chosen)
    for each in folds:
        note(f"fold {each.data.fold} of {len(FOLDS)}")
        try:
            runs.append(trained(home, each, followed=each is not folds[-1]))
        except Interrupted:
            for left in folds[len(runs) + 1 :]:
                note(f"then with: {_alone(home, args, left)}")
            raise
    return show_pooled(runs, args.json)


def _alone(home: Workspace, args: argparse.Namespace, fold: Recipe) -> str:
    """What to type to train one fold of a recipe as --folds would."""
    own = f"data.fold={fold.data.fold}", f"name={fold.name}"
    settings = chain.from_iterable(("--set", text) for text in (*args.settings, *own))
    return home.command("train", args.recipe, *settings)


def finish(run: Run, as_json: bool) -> int:
    """Print the report of a run and where its files are."""
    from wakeword_tui.commands.report import read, show

    show(read(run), run.recipe().data, as_json)
    if not as_json:
        say(f"\n{run.name}: {run.path}")
    return 0
