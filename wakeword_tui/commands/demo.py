"""`demo` and `synth`: a start without recordings, from synthetic voices."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.events import Emit
from engine.jobs import Control
from engine.recipe import Recipe
from engine.recipe_file import override
from engine.runs import Workspace
from wakeword_tui.commands.arguments import Verbs, command, workspace
from wakeword_tui.commands.output import note, say
from wakeword_tui.commands.progress import perform
from wakeword_tui.commands.train import finish, new_run, trained

if TYPE_CHECKING:
    from engine.programs import Programs
    from engine.synth import Amounts, Synthesised

PHRASE = "hey jarvis"
QUICKSTART = {
    "name": "demo",
    "train.epochs": 10,
    "train.steps_per_epoch": 80,
    "train.batch_size": 64,
}
"""What recipes/quickstart.toml says; it is here too because a wheel holds no recipes."""


def add(verbs: Verbs) -> None:
    """Declare the commands."""
    demo = command(
        verbs,
        "demo",
        run_demo,
        "make synthetic clips of a phrase, train on them and show the report, in minutes",
        "demo",
        'demo "okay computer" --no-app',
    )
    demo.add_argument(
        "phrase", nargs="?", default=PHRASE, help=f"the wake word, one to three words ({PHRASE})"
    )
    demo.add_argument(
        "--no-app", action="store_true", help="print lines instead of opening the app"
    )
    _add_synth(verbs)


def _add_synth(verbs: Verbs) -> None:
    synth = command(
        verbs,
        "synth",
        run_synth,
        "make a data folder of a phrase with synthetic voices, noise and rooms",
        'synth "hey jarvis" --out voices',
        'synth "hey jarvis" --out voices --voices 400 --minutes 30',
        "synth jarvis --out voices --voice 'piper -m en.onnx --speaker {0-903} -f {wav}'",
        "synth computer --out voices --say 'com pewter' --say compewtah",
    )
    synth.add_argument("phrase", metavar="PHRASE", help="what is said")
    synth.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="a folder that is not there yet"
    )
    synth.add_argument(
        "--voices",
        type=int,
        default=800,
        metavar="N",
        help="clips of the phrase, each in another voice (800)",
    )
    synth.add_argument(
        "--minutes",
        type=float,
        default=60.0,
        metavar="M",
        help="running speech without the phrase, in minutes (60)",
    )
    _add_voices(synth)
    synth.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seeds what is drawn: the same, the same clips (0)",
    )


def _add_voices(synth: argparse.ArgumentParser) -> None:
    """Declare who speaks, and how people say the phrase."""
    synth.add_argument(
        "--voice",
        action="append",
        default=[],
        metavar="COMMAND",
        help="a program that reads {text}, or its input, aloud into the file {wav}, instead of "
        "espeak-ng; {stretch} is how much slower than usual, {0-99} a hundred voices; repeat it",
    )
    synth.add_argument(
        "--say",
        action="append",
        default=[],
        metavar="TEXT",
        help="the phrase spelled as other people say it, which voices read in turn with PHRASE; "
        "repeat it",
    )


def run_synth(args: argparse.Namespace) -> int:
    """Make a data folder and say what is in it."""
    from engine.programs import Programs
    from engine.synth import Amounts

    amounts = Amounts(voices=args.voices, speech_minutes=args.minutes)
    programs = Programs(args.voice) if args.voice else None
    said = (args.phrase, *args.say)
    say(str(spoken(workspace(args), said, args.out, amounts, args.seed, programs)))
    return 0


def spoken(
    home: Workspace,
    said: tuple[str, ...],
    out: Path,
    amounts: "Amounts",
    seed: int = 0,
    programs: "Programs | None" = None,
    followed: bool = False,
) -> "Synthesised":
    """Make a data folder as a job, perhaps `followed` by another one."""

    def verb(emit: Emit, control: Control) -> "Synthesised":
        from engine.synth import synth

        return synth(
            said,
            out,
            amounts=amounts,
            seed=seed,
            programs=programs,
            emit=emit,
            control=control,
        )

    return perform(home, "synth", verb, lane="background", followed=followed)


def run_demo(args: argparse.Namespace) -> int:
    """Make the data if it is not there, train, and show the report: in the app where it can be."""
    home = workspace(args)
    recipe = demo_recipe(demo_data(home, args.phrase))
    if sys.stdin.isatty() and sys.stdout.isatty() and not args.no_app:
        from wakeword_tui.app import run_app

        run = new_run(home, recipe)
        code = run_app(home, start=(recipe, run))
        return finish(run, as_json=False) if run.finished() else code
    return finish(trained(home, recipe), as_json=False)


def demo_data(home: Workspace, phrase: str) -> Path:
    """The data folder of a phrase in the workspace, spoken now if it is not there."""
    from engine.phonetics import slug
    from engine.synth import Amounts

    folder = home.root / "demo-data" / slug(phrase)
    if not (folder / "manifest.csv").exists():
        small = Amounts(voices=400, takes=1, confusables=600, partials=250)
        note(f"speaking {phrase!r} with synthetic voices")
        note(str(spoken(home, (phrase,), folder, small, followed=True)))
    return folder / "manifest.csv"


def demo_recipe(manifest: Path) -> Recipe:
    """The quick start on a data folder."""
    label = manifest.parent.name
    return override(Recipe(), QUICKSTART | {"data.manifest": str(manifest), "data.wakeword": label})
