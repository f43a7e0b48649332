"""`doctor` looks the machine over, `paths` says where things are kept."""

import argparse
from dataclasses import asdict

from wakeword_tui.commands.arguments import Verbs, add_json, command, workspace
from wakeword_tui.commands.output import say, say_json, table
from wakeword_tui.commands.progress import libraries_hushed


def add(verbs: Verbs) -> None:
    """Declare the commands."""
    doctor = command(
        verbs,
        "doctor",
        look_over,
        "look this machine and the workspace over, with a fix for each fault",
        "doctor",
        "doctor --workspace /data/wake --json",
        codes="1 where something that training needs is broken",
    )
    add_json(doctor)
    paths = command(verbs, "paths", say_paths, "say where runs, caches and logs are", "paths")
    add_json(paths)


def look_over(args: argparse.Namespace) -> int:
    """Print each check; 1 if something that is needed is broken."""
    from wakeword_tui.doctor import examine

    with libraries_hushed():
        checks = list(examine(workspace(args)))
    if args.json:
        say_json([asdict(check) for check in checks])
    else:
        for check in checks:
            say(str(check))
    return int(any(check.broken for check in checks))


def say_paths(args: argparse.Namespace) -> int:
    """Print the folders that are read and written."""
    from wakeword_tui.config import config_path, log_path

    home = workspace(args)
    places = {
        "workspace": home.root,
        "runs": home.root / "runs",
        "cache": home.cache,
        "config": config_path(),
        "log": log_path(),
    }
    if args.json:
        say_json({name: str(path) for name, path in places.items()})
    else:
        say(table(("what", "where"), [(name, str(path)) for name, path in places.items()], left=2))
    return 0
