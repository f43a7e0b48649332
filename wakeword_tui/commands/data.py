"""`data check` looks a data folder over, `data import` makes one of recordings."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from engine.events import Emit
from engine.jobs import Control
from engine.recipe import Data
from engine.runs import Workspace
from wakeword_tui.commands.arguments import Verbs, add_json, command, family, workspace
from wakeword_tui.commands.output import say
from wakeword_tui.commands.progress import perform

if TYPE_CHECKING:
    from engine.dataset import Pack
    from engine.health import Imported

MOST_NAMED = 10


def add(verbs: Verbs) -> None:
    """Declare the commands."""
    verbs = family(
        verbs,
        "data",
        "look recordings over, or import them",
        "check|import",
        "data import phone/jarvis --label jarvis --out clips",
        "data check clips --wakeword jarvis",
    )
    check = command(
        verbs,
        "check",
        run_check,
        "count what is in a data folder and say what is wrong with it",
        "data check recordings --wakeword jarvis",
        "data check clips/manifest.csv --wakeword jarvis --fold 2 --json",
        codes="1 where a detector could not be trained on it",
    )
    check.add_argument("place", type=Path, metavar="MANIFEST|FOLDER", help="what is looked over")
    check.add_argument(
        "--wakeword", default="", metavar="LABEL", help="the wake word (else only counted)"
    )
    check.add_argument("--fold", type=int, default=0, choices=range(5), help="the test fold (0)")
    add_json(check)
    importing = command(
        verbs,
        "import",
        run_import,
        "convert recordings to 16 kHz FLAC in a data folder and add them to its manifest",
        "data import phone/jarvis --label jarvis --out clips",
        "data import radio --label speech --out clips      streams",
    )
    importing.add_argument("source", type=Path, metavar="SOURCE", help="a folder, or one file")
    importing.add_argument(
        "--label", required=True, help="the word that is said; or speech, noise, rir"
    )
    importing.add_argument("--out", type=Path, required=True, metavar="DIR", help="a data folder")


def run_check(args: argparse.Namespace) -> int:
    """Print the health of the data; an error says why it could not be trained on."""
    from engine.dataset import require
    from engine.health import check

    settings = Data(manifest=args.place.absolute(), wakeword=args.wakeword, fold=args.fold)
    packed = _packed(workspace(args), settings)
    health = check(packed, settings)
    if args.json:
        say(health.to_json())
    else:
        say(health.render())
        _name("cannot be read", health.unreadable)
        _name("doubtful", health.doubtful)
    if args.wakeword:
        require(packed, settings)
    return 0


def _packed(home: Workspace, settings: Data) -> "Pack":
    def verb(emit: Emit, control: Control) -> "Pack":
        from engine.dataset import pack, read

        return pack(read(settings), home.cache, emit=emit, control=control)

    return perform(home, "check", verb, lane="background")


def _name(title: str, files: tuple[tuple[str, str], ...]) -> None:
    """Name the first files of a kind and what is wrong with each."""
    if files:
        say(f"\n{title}:")
    for path, reason in files[:MOST_NAMED]:
        say(f"  {path}: {reason.removeprefix(f'{path}: ')}")
    if len(files) > MOST_NAMED:
        say(f"  and {len(files) - MOST_NAMED} more; --json names them all")


def run_import(args: argparse.Namespace) -> int:
    """Import recordings and say how many there are."""

    def verb(emit: Emit, control: Control) -> "Imported":
        from engine.health import import_folder

        return import_folder(args.source, args.out, args.label, emit=emit, control=control)

    say(str(perform(workspace(args), "import", verb, lane="background")))
    return 0
