"""`listen`: a detector on live audio, one line for each time that it fires."""

import argparse
import time
from pathlib import Path

from engine.events import (
    Emit,
    Event,
    Listened,
    Listening,
    Record,
    WakewordHeard,
    WakewordJudged,
    to_line,
)
from engine.jobs import Control
from engine.runs import Workspace
from wakeword_tui.commands.arguments import (
    Verbs,
    add_audio,
    add_json,
    audio,
    command,
    workspace,
)
from wakeword_tui.commands.evaluate import find_model
from wakeword_tui.commands.mine import newest_checkpoint
from wakeword_tui.commands.output import say
from wakeword_tui.commands.progress import Teller, perform
from wakeword_tui.numbers import count, duration, percent, rate

METER_CELLS = 20
FLOOR_DB = -60.0


def add(verbs: Verbs) -> None:
    """Declare the command."""
    parser = command(
        verbs,
        "listen",
        run_listen,
        "say when a detector fires on live audio",
        "listen                             the newest run, with the microphone of this machine",
        "listen 3 --source pipe             run 3, with the laptop's: see mic-pipe",
        "listen export --threshold 0.9      an export, stricter",
        "listen 3 --source fast:talk.wav    a recording, as fast as it goes",
    )
    parser.add_argument(
        "target", nargs="?", metavar="RUN|CHECKPOINT|EXPORT", help="what listens (the newest run)"
    )
    add_audio(parser, argparse.SUPPRESS, "--source")
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="score, 0 to 1, from which it fires (that of its operating point)",
    )
    add_json(parser)


def run_listen(args: argparse.Namespace) -> int:
    """Listen until the source ends or ctrl+c."""
    if args.threshold is not None and not 0 < args.threshold < 1:
        args.usage_error("--threshold lies between 0 and 1")
    home = workspace(args)
    model, source = _model(home, args.target), audio(args)

    def verb(emit: Emit, control: Control) -> None:
        from engine.listen import listen
        from engine.microphone import open_source

        listen(open_source(source), model, threshold=args.threshold, emit=emit, control=control)

    perform(home, "listen", verb, lane="background", tell=ForPrograms if args.json else Hearer)
    return 0


def _model(home: Workspace, target: str | None) -> Path:
    """What listens: a checkpoint, an export, or the newest run."""
    return newest_checkpoint(home) if target is None else find_model(home, target)


class Hearer(Teller):
    """Tells of detections on stdout, and of everything else on stderr; a meter in a terminal."""

    _source = ""

    def tell(self, records: list[Record]) -> None:
        """Tell what came since the last call."""
        for record in records:
            self._say(record)
            super().tell([record])

    def _say(self, record: Record) -> None:
        """Say what is asked for; how the session went is told beside."""
        if isinstance(record.event, WakewordHeard | WakewordJudged):
            self.wipe()
            say(said(record))
        elif isinstance(record.event, Listened):
            self.line(session(record.event))

    def _told(self, event: Event) -> str:
        """What is heard, and how it does, whenever that changes."""
        if not isinstance(event, Listening):
            return super()._told(event)
        hint = f"; {event.hint}" if event.hint and event.state != "open" else ""
        source = f"{event.state}: {event.line}{hint}"
        if event.state == "ended" or source == self._source:
            return ""
        self._source = source
        return source

    def _state(self, event: Event) -> str:
        if isinstance(event, Listening):
            return meter(event) if self.live else ""
        return super()._state(event)


class ForPrograms(Hearer):
    """Says detections, verdicts and the session as JSON lines, as a run's events are kept."""

    def _say(self, record: Record) -> None:
        if isinstance(record.event, WakewordHeard | WakewordJudged | Listened):
            self.wipe()
            say(to_line(record))


def said(record: Record) -> str:
    """A detection or a verdict, in a line."""
    clock, event = time.strftime("%H:%M:%S", time.localtime(record.time_s)), record.event
    if isinstance(event, WakewordHeard):
        late = f"{event.delay_ms:.0f} ms after the sound"
        if event.after_ms is not None:
            late = f"{event.after_ms:.0f} ms after the word"
        return f"{clock}  at {event.at_s:.2f} s  score {event.score:.3f}  {late}"
    assert isinstance(event, WakewordJudged)
    word = "accepted" if event.accepted else "rejected"
    if event.error:
        why = f"unheard, as on_failure says: {event.error}"
        return f"{clock}  at {event.at_s:.2f} s  {word} {why}"
    numbers = f"{event.score:.3f} of {event.threshold:.3f}, {event.took_ms:.0f} ms"
    return f"{clock}  at {event.at_s:.2f} s  {word} by {event.model}  {numbers}"


def session(event: Listened) -> str:
    """What came of it all, in a line."""
    hourly = rate(event.detections * 3600 / event.seconds) if event.seconds else "-"
    word = "detection" if event.detections == 1 else "detections"
    return (
        f"{count(event.detections)} {word} in {duration(event.seconds)}, {hourly} an hour; "
        f"{count(event.dropped)} samples dropped, {percent(event.cpu)} of a core"
    )


def meter(event: Listening) -> str:
    """Level, score and cost at this moment, in a line of ASCII."""
    cells = round(METER_CELLS * min(max(1 - event.level_db / FLOOR_DB, 0.0), 1.0))
    bar = f"[{'#' * cells}{'.' * (METER_CELLS - cells)}]"
    score = f"score {max(event.scores):.3f}" if event.scores else "score     -"
    told = f"{bar} peak {max(event.peak_db, -99):4.0f} dB  {score}  cpu {percent(event.cpu)}"
    return f"{told}  {event.advice}".rstrip()
