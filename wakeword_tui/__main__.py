"""The `wakeword-tui` command: no arguments opens the app, a subcommand runs a verb without it.

Exit codes: 0 done, 1 something a person can mend (a sentence and a hint on stderr), 2 usage, 70 a
bug (with its traceback), 129/130/143 stopped after a checkpoint by SIGHUP, SIGINT or SIGTERM.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from io import TextIOWrapper
from types import ModuleType

from engine import __version__
from engine.errors import WakewordError
from wakeword_tui.commands import pipes
from wakeword_tui.commands.arguments import add_audio, add_workspace, workspace
from wakeword_tui.commands.output import note
from wakeword_tui.commands.signals import Interrupted

BUG = 70
STDERR = 2
EXAMPLES = """\
examples:
  wakeword-tui                                   open the app
  wakeword-tui demo                              see it work, with no data of your own
  wakeword-tui synth "hey jarvis" --out voices   make synthetic clips of a phrase
  wakeword-tui data check recordings             look a folder of recordings over
  wakeword-tui train my.toml --folds             train and test on five folds
  wakeword-tui train --resume 3                  go on where a run was stopped
  wakeword-tui search recipes/search.toml        find the trade-off of misses and latency
  wakeword-tui mine radio.mp3                    queue what a detector wrongly fires on
  wakeword-tui export 3                          a folder that detects by itself
  wakeword-tui judge 3                           verify over HTTP what a detector heard
  wakeword-tui listen 3                          say when run 3 fires on live audio
  wakeword-tui COMMAND --help                    more about one command

exit codes:
  0 done, 1 something you can mend, with a sentence and a hint, 2 usage, 70 a bug,
  129, 130, 143 stopped after a checkpoint by SIGHUP, ctrl+c or SIGTERM
"""


def families(argv: Sequence[str]) -> Iterable[ModuleType]:
    """The families of commands. A person waits for a pipe, so it loads nothing but itself."""
    if argv and argv[0] in pipes.NAMES:
        return (pipes,)
    from wakeword_tui.commands import (
        cascade,
        compare,
        data,
        demo,
        evaluate,
        export,
        judge,
        listen,
        machine,
        mine,
        recipes,
        record,
        runs,
        search,
        train,
    )

    lasting = (
        demo, data, record, train, search, evaluate, compare, cascade, mine, export, listen, judge
    )  # fmt: skip
    return *lasting, pipes, recipes, runs, machine


def parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Declare the command line, as much of it as `argv` needs."""
    root = argparse.ArgumentParser(
        prog="wakeword-tui",
        description="Train wake-word detectors you can trust, from a terminal.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"wakeword-tui {__version__}")
    root.set_defaults(run=open_app, usage_error=root.error)
    add_workspace(root, default=None)
    add_audio(root, default=None)
    verbs = root.add_subparsers(title="commands", metavar="COMMAND")
    for family in families(argv):
        family.add(verbs)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _prepare()
    argv = sys.argv[1:] if argv is None else argv
    args = parser(argv).parse_args(argv)
    try:
        code: int = args.run(args)
        return code
    except WakewordError as error:
        note(f"error: {error}")
        return 1
    except Interrupted as interrupted:
        note(f"stopped by {interrupted}")
        return 128 + interrupted.signum
    except KeyboardInterrupt:
        return 130
    except Exception:  # noqa: BLE001 -- the last stop of a bug: it is told with its traceback
        note(traceback.format_exc())
        note("this is a bug in wakeword-tui; the lines above are what a report needs")
        return BUG


def open_app(args: argparse.Namespace) -> int:
    """Open the app, which needs a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        args.usage_error("the app needs a terminal; in a script give a command, see --help")
    from wakeword_tui.app import run_app

    return run_app(workspace(args), audio=args.audio)


def _open_closed() -> None:
    """Have nobody behind a closed stdin, stdout or stderr, lest a file that is opened takes it."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(handle, True)  # programs that we start are as badly off
    os.close(handle)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _prepare() -> None:
    """Let threads wait without spinning (read when torch is imported), and print any character."""
    _open_closed()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
