"""`record`: one's own clips, prompt after prompt, without the app."""

import argparse
import select
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import DataError, DeviceError
from wakeword_tui.commands.arguments import (
    Verbs,
    add_audio,
    add_settings,
    audio,
    command,
    recipe,
)
from wakeword_tui.commands.output import note, say, write
from wakeword_tui.commands.progress import libraries_hushed

if TYPE_CHECKING:
    from engine.prompts import Prompt
    from engine.sitting import Booth, Sitting
    from engine.sound import Player
    from engine.source import Source
    from engine.take import Recorder, Take

HEAR_S = 0.05
CELLS = 30
KEYS = "enter: record, s: skip, w: negatives alone or all, q: end"


def add(verbs: Verbs) -> None:
    """Declare the command."""
    record = command(
        verbs,
        "record",
        run_record,
        "record clips of the wake word, and of what sounds like it, into a data folder",
        "record my.toml --speaker anna          the recipe's wake word, into its data folder",
        'record --phrase "hey nora" --speaker anna --out clips --count 20',
        "record my.toml --speaker anna --train  never measured on",
    )
    record.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE",
        help="a recipe, which knows the wake word and the folder",
    )
    record.add_argument("--speaker", required=True, metavar="NAME", help="who speaks: the group")
    record.add_argument("--phrase", metavar="TEXT", help="what is said (the recipe's wake word)")
    record.add_argument(
        "--label", metavar="LABEL", help="its label (the recipe's wake word, else the phrase)"
    )
    record.add_argument(
        "--out", type=Path, metavar="DIR", help="a data folder or manifest (the recipe's)"
    )
    record.add_argument(
        "--count", type=int, default=30, metavar="N", help="how many wake words to ask for (30)"
    )
    record.add_argument(
        "--negatives", type=int, default=10, metavar="N", help="how many that sound alike (10)"
    )
    record.add_argument(
        "--train", action="store_true", help="the speaker only ever trains, whatever the fold"
    )
    add_audio(record, argparse.SUPPRESS, "--source")
    add_settings(record)


def run_record(args: argparse.Namespace) -> int:
    """Go through the prompts; say what was kept, and what comes next."""
    from engine.microphone import open_source
    from engine.sitting import Booth
    from engine.sound import Player
    from wakeword_tui import recording

    sitting, fold = _sitting(args)
    sound = audio(args)
    with libraries_hushed(), closing(open_source(sound)) as source:
        booth, player = Booth(sitting), Player(sound)
        for line in recording.finished_lines(booth):
            note(line)
        note(f"{recording.speaker_line(booth, fold)}; into {booth.keeper.manifest}")
        source.start()
        player.start()
        booth.listen(source)
        try:
            _wait(source)
            while booth.plan.now is not None and _one(booth, booth.plan.now, player):
                pass
        finally:
            player.close()
            note(recording.kept_line(booth))
            if booth.kept:
                note(recording.after_line(booth))
    return 0


def _sitting(args: argparse.Namespace) -> tuple["Sitting", int | None]:
    """What is asked for, and the test fold if there is a recipe."""
    from engine.phonetics import slug
    from engine.recipe import Data
    from wakeword_tui.recording import proposed

    data = recipe(args).data if args.recipe else Data()
    place: Path | None = args.out or data.manifest
    phrase = args.phrase or data.wakeword.replace("-", " ")
    if not phrase:
        args.usage_error("there is no phrase: give --phrase, or a recipe that says it")
    if place is None:
        args.usage_error("there is no data folder: give --out, or a recipe that says it")
    assert place is not None
    label = args.label or data.wakeword or slug(phrase)
    sitting = replace(
        proposed(data), speaker=args.speaker, phrase=phrase, label=label, place=place,
        count=args.count, negatives=args.negatives, train=args.train,
    )  # fmt: skip
    for name, said in sitting.wrong().items():
        args.usage_error(f"{name}: {said}")
    return sitting, data.fold if args.recipe else None


def _wait(source: "Source") -> None:
    """Wait until there is sound; say for what. Raises DeviceError where none will come."""
    said = ""
    while (health := source.health).state != "open":
        if health.state == "ended":
            raise DeviceError(health.line, health.hint)
        line = f"{health.line}\n  {health.hint}".rstrip()
        if line != said:
            note(line)
            said = line
        time.sleep(HEAR_S)
    note(f"hearing {source.health.line}")


def _one(booth: "Booth", prompt: "Prompt", player: "Player") -> bool:
    """Go through one prompt; False to end."""
    place, total = booth.plan.place
    kind = "" if prompt.wakeword else "not the wake word: "
    manner = f"   {prompt.manner}" if prompt.manner else ""
    note(f"\n{place} of {total}   {kind}“{prompt.text}”{manner}\n{KEYS}")
    match _answer():
        case "":
            return _take(booth, player)
        case "s":
            booth.skip()
        case "w":
            booth.turn()
        case "q" | None:
            return False
    return True


def _take(booth: "Booth", player: "Player") -> bool:
    """Record until something is decided; False to end."""
    from wakeword_tui.recording import measured, verdict

    assert booth.recorder is not None
    take = _recorded(booth.recorder)
    if take is None:
        raise DataError("nothing was heard", booth.recorder.source.health.line)
    good = not take.advice
    note(f"{measured(take)}: {verdict(take)}")
    doubtful = ", k: keep all the same" if take.usable else ""
    keys = "enter: keep, r: again" if good else f"enter: again{doubtful}"
    while True:
        note(f"{keys}, p: play, s: skip, q: end")
        match _answer():
            case "p":
                _play(player, booth)
            case ("" | "k") as key if good or (key == "k" and take.usable):
                say(f"kept {booth.keep()}")
                return True
            case "" | "r":
                return _take(booth, player)
            case "s":
                booth.skip()
                return True
            case "q" | None:
                return False


def _play(player: "Player", booth: "Booth") -> None:
    assert booth.take is not None
    player.play(booth.take.waveform)
    if player.trouble:
        note(player.trouble)


def _recorded(recorder: "Recorder") -> "Take | None":
    """Hear a take to its end: a silence after the word, or enter."""
    live = sys.stderr.isatty()
    recorder.begin()
    while recorder.recording:
        recorder.hear(HEAR_S)
        if live:
            write(sys.stderr, f"\r\x1b[K● {recorder.seconds:4.1f} s {_bar(recorder.level_db)}")
        if sys.stdin.isatty() and select.select([sys.stdin], [], [], 0)[0]:
            sys.stdin.readline()
            recorder.end()
    if live:
        write(sys.stderr, "\r\x1b[K")
    return recorder.take


def _bar(level_db: float) -> str:
    """A level from -60 to 0 dBFS."""
    return "#" * round(CELLS * max(0.0, 1 + level_db / 60))


def _answer() -> str | None:
    """What was typed before enter; None at the end of all input."""
    line = sys.stdin.readline()
    return line.strip().lower() if line else None
