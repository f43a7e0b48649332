"""`mic-pipe` and `speaker-pipe`: the laptop's microphone and loudspeaker, over a second SSH."""

import argparse
import sys

from engine import laptop
from wakeword_tui.commands.arguments import Verbs, command
from wakeword_tui.commands.output import note

NAMES = ("mic-pipe", "speaker-pipe")


def add(verbs: Verbs) -> None:
    """Declare the commands."""
    raw = "raw samples: 16 kHz, mono, signed 16 bits, little endian"
    command(
        verbs,
        "mic-pipe",
        feed,
        f"give what stdin says to the app that listens on this machine; {raw}",
        "mic-pipe < speech.raw",
    )
    command(
        verbs,
        "speaker-pipe",
        fetch,
        f"write to stdout what the app on this machine plays; {raw}",
        "speaker-pipe > heard.raw",
    )


def feed(args: argparse.Namespace) -> int:
    """Copy stdin to the app."""
    if sys.stdin.isatty():
        args.usage_error(f"stdin must be sound; on the laptop: {laptop.command('mic')}")
    laptop.feed(sys.stdin.fileno(), note)
    return 0


def fetch(args: argparse.Namespace) -> int:
    """Copy what the app plays to stdout."""
    if sys.stdout.isatty():
        args.usage_error(f"stdout must be a player; on the laptop: {laptop.command('speaker')}")
    laptop.fetch(sys.stdout.fileno(), note)
    return 0
