"""What the families of commands share: how a command is declared, and its usual arguments."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a pipe has no use for them, and half a second to load them
    from engine.recipe import Recipe
    from engine.runs import Workspace

Verbs = Any  # argparse keeps the type of `add_subparsers()` to itself
Command = Callable[[argparse.Namespace], int]
STOPPED = "129, 130, 143 stopped by SIGHUP, ctrl+c or SIGTERM: --resume goes on"
"""The exit codes of what can be gone on with."""


def command(
    verbs: Verbs, name: str, run: Command, summary: str, *examples: str, codes: str = ""
) -> argparse.ArgumentParser:
    """Declare a command: `run` does it and returns the exit code.

    Examples end its --help, and the exit codes that are not those of every command.
    """
    parser = _parser(verbs, name, summary, examples, codes)
    parser.set_defaults(run=run, usage_error=parser.error)
    return parser


def family(verbs: Verbs, name: str, summary: str, members: str, *examples: str) -> Verbs:
    """Declare a command that is nothing without one of its members; they are added to it."""
    parser = _parser(verbs, name, summary, examples)
    return parser.add_subparsers(required=True, metavar=members)


def _parser(
    verbs: Verbs, name: str, summary: str, examples: Sequence[str], codes: str = ""
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        description=summary[:1].upper() + summary[1:] + ".",
        epilog="\n".join(
            ["examples:", *(f"  wakeword-tui {line}" for line in examples)]
            + ([f"\nexit codes: {codes}"] if codes else [])
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_workspace(parser, default=argparse.SUPPRESS)
    return parser


def add_workspace(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Take --workspace; a subcommand suppresses its default, or it would undo the global one."""
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        default=default,
        help="folder of runs and caches (else $WAKEWORD_HOME, else ./workspace)",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Take --set, once for each setting."""
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one key of the recipe, say train.lr=0.001; may be repeated",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Take --json."""
    parser.add_argument("--json", action="store_true", help="write JSON for a program to read")


def add_audio(parser: argparse.ArgumentParser, default: str | None, *others: str) -> None:
    """Take --audio, by other names too; a subcommand suppresses its default, as of --workspace."""
    parser.add_argument(
        "--audio",
        *others,
        metavar="SOUND",
        default=default,
        help="where sound comes from: auto, microphone, microphone:NAME, pipe, none, a recording, "
        "or fast:RECORDING (else `audio` of the config file, else auto)",
    )


def audio(args: argparse.Namespace) -> str:
    """Return the word for the sound that is heard."""
    from wakeword_tui.config import config_path, read_config

    return args.audio or read_config(config_path()).audio or "auto"


def workspace(args: argparse.Namespace) -> "Workspace":
    """Return the workspace that the command works in."""
    from engine.runs import Workspace, default_root

    return Workspace(Path(args.workspace) if args.workspace else default_root())


def recipe(args: argparse.Namespace) -> "Recipe":
    """Read the recipe file of the command, with its settings on top."""
    from engine.recipe_file import load

    return load(Path(args.recipe), settings(args))


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return what --set gave, by dotted path."""
    from engine.recipe_file import parse_setting

    return dict(parse_setting(text, Path.cwd()) for text in args.settings)
