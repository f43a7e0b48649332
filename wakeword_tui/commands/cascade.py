"""`cascade`: what a judge adds to a sentry, or what it says of a recording's detections."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import DataError
from engine.events import Emit
from engine.jobs import Control
from engine.runs import Workspace
from wakeword_tui.commands.arguments import Verbs, add_json, command, workspace
from wakeword_tui.commands.evaluate import find_checkpoint, find_model
from wakeword_tui.commands.output import note, say, say_json, table
from wakeword_tui.commands.progress import perform
from wakeword_tui.config import JudgeConfig, config_path, read_config

if TYPE_CHECKING:
    from engine.cascade import Tested
    from engine.verify import Verified

UNSEEN = "of a judge at a URL or an export nobody sees whether it was trained on the sentry's test"

ITSELF = "the judge is the sentry itself: it can only agree with itself"


def add(verbs: Verbs) -> None:
    """Declare the command."""
    parser = command(
        verbs,
        "cascade",
        run_cascade,
        "measure a sentry with a judge behind it, both thresholds chosen together",
        "cascade 3 --judge 8                        run 8 judges what run 3 would fire on",
        "cascade 3 --judge http://127.0.0.1:8765    a judge elsewhere, as config.toml may name too",
        "cascade 3 4 5 6 7 --judge 8 9 10 11 12     five folds as one table",
        "cascade 3 --judge 8 --target-fah 0.5 1     for other numbers of false alarms an hour",
        "cascade 3 --judge 8 --file radio.mp3       each detection of a recording, with a verdict",
        codes="1 where the judge failed and a policy decided",
    )
    sentry = "the sentry; for several folds one each"
    parser.add_argument("sentries", nargs="+", metavar="RUN|CHECKPOINT", help=sentry)
    parser.add_argument(
        "--judge",
        nargs="+",
        default=[],
        metavar="RUN|CHECKPOINT|URL",
        help="the judge; for several folds one of each (the URL of config.toml)",
    )
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a judge's token is in it")
    parser.add_argument(
        "--target-fah",
        nargs="+",
        type=float,
        default=[],
        metavar="FAH",
        help="false alarms an hour, a pair for each (that of the recipe)",
    )
    parser.add_argument(
        "--sentry-fah",
        type=float,
        metavar="FAH",
        help="false alarms an hour of the sentry before the judge (the best of 1 to 80)",
    )
    parser.add_argument("--file", type=Path, metavar="FILE", help="verify a recording instead")
    score = "with --file: the sentry fires from it, 0 to 1 (its own)"
    parser.add_argument("--threshold", type=float, metavar="SCORE", help=score)
    add_json(parser)


def run_cascade(args: argparse.Namespace) -> int:
    """Measure, or verify a recording, and print."""
    config = read_config(config_path()).judge
    judges: list[str] = args.judge or ([config.url] if config.url else [])
    if wrong := _wrong(args, judges):
        args.usage_error(wrong)
    if args.token_file is not None:
        config = replace(config, token_file=args.token_file)
    return (_verify if args.file else _measure)(args, judges, config)


def _wrong(args: argparse.Namespace, judges: Sequence[str]) -> str:
    """What does not go together; empty if everything does."""
    if not judges:
        return "give --judge, or name one in config.toml"
    if len(judges) != len(args.sentries):
        return "give as many judges as sentries, each of the same fold"
    if args.file and len(args.sentries) > 1:
        return "--file goes with one sentry"
    wishes = [*args.target_fah, *([] if args.sentry_fah is None else [args.sentry_fah])]
    if args.file and wishes:
        return "--target-fah and --sentry-fah go without --file"
    if args.threshold is not None and not (args.file and 0 < args.threshold < 1):
        return "--threshold goes with --file, and lies between 0 and 1"
    if args.sentry_fah is not None and not args.target_fah:
        return "--sentry-fah goes with --target-fah"
    if any(not 0 < fah < math.inf for fah in wishes):
        return "--target-fah and --sentry-fah are above 0"
    return ""


def _measure(args: argparse.Namespace, judges: list[str], config: JudgeConfig) -> int:
    home = workspace(args)
    sentries = [find_checkpoint(home, reference)[0] for reference in args.sentries]
    if not all(_tells_data(home, judge) for judge in judges):
        note(UNSEEN)
    _note_itself(home, sentries, judges)

    def verb(emit: Emit, control: Control) -> list["Tested"]:
        from engine.cascade import Wish, cascade, pooled
        from wakeword_tui.judging import judge_of, sent_s

        wishes = [Wish(target, args.sentry_fah) for target in args.target_fah]
        folds = []
        for sentry, name in zip(sentries, in_order(home, sentries, judges), strict=True):
            with judge_of(home, name, config, sentry) as judge:
                found = cascade(
                    sentry,
                    judge.verify,
                    home,
                    sent_s=sent_s(judge),
                    wishes=wishes,
                    emit=emit,
                    control=control,
                )
                folds.append(found)
        return [pooled(parts) for parts in zip(*folds, strict=True)]

    found = perform(home, "cascade", verb)
    title = f"{', '.join(args.sentries)} with {', '.join(judges)} as the judge"
    if args.json:
        from wakeword_tui.cascading import tables

        say_json([tables(one) for one in found])
    else:
        say(f"{title}: thresholds frozen on validation, tested on test")
        say("\n".join(map(render, found)))
    return 0


def _tells_data(home: Workspace, judge: str) -> bool:
    """Whether a judge says what it was trained on: exports hold no path of a machine."""
    from engine.scorer import checkpoint_of

    if "://" in judge:
        return False
    return checkpoint_of(find_model(home, judge)).settings().data.manifest is not None


def _note_itself(home: Workspace, sentries: Sequence[Path], judges: Sequence[str]) -> None:
    """Say so where a sentry judges itself. Raises WakewordError where a judge cannot be found."""
    files = {find_model(home, judge).resolve() for judge in judges if "://" not in judge}
    if files & {sentry.resolve() for sentry in sentries}:
        note(ITSELF)


def render(found: "Tested") -> str:
    """A table of the stages, and what it amounts to."""
    from wakeword_tui.cascading import HEADER, place, rows, sentences

    lines = ["", f"FAH <= {found.pairs[0].target_fah:g}", table(HEADER, rows(found), left=2), ""]
    passed = (f"passed: {place(alarm)}" for alarm in found.passed)
    return "\n".join([*lines, *sentences(found), *passed])


def _verify(args: argparse.Namespace, judges: list[str], config: JudgeConfig) -> int:
    home, path = workspace(args), args.file.absolute()
    sentry = find_model(home, args.sentries[0])
    _note_itself(home, [sentry], judges)

    def verb(emit: Emit, control: Control) -> list["Verified"]:
        from engine.judge import Asked
        from engine.verify import verify
        from wakeword_tui.judging import judge_of, sent_s

        with judge_of(home, judges[0], config, None) as judge:
            asked = Asked(judge.verify, sent_s(judge), config.on_failure)
            at = args.threshold
            return list(verify(path, sentry, asked, threshold=at, emit=emit, control=control))

    found = perform(home, "verify", verb, lane="background")
    from wakeword_tui.cascading import outcome

    if args.json:
        say_json([_plain(one) for one in found])
    else:
        header = ("time s", "sentry", "judge", "threshold", "", "ms")
        say("\n".join([*([table(header, map(_row, found))] if found else []), *outcome(found)]))
    return 1 if any(one.decision.by_policy for one in found) else 0


def _row(one: "Verified") -> tuple[str, ...]:
    verdict, said = one.verdict, "accepted" if one.decision.accepted else "rejected"
    when, score = f"{one.time_s:.2f}", f"{one.score:.3f}"
    if verdict is None:
        return when, score, "-", "-", f"{said} unheard", f"{one.decision.waited_ms:.0f}"
    judged = f"{verdict.score:.3f}", f"{verdict.threshold:.3f}"
    return when, score, *judged, said, f"{verdict.took_ms:.0f}"


def _plain(one: "Verified") -> dict[str, Any]:
    """A detection for a program to read; without a verdict the policy has decided."""
    verdict, failure = one.verdict, one.decision.failure
    return {
        "time_s": one.time_s,
        "score": one.score,
        "accepted": one.decision.accepted,
        "verdict": asdict(verdict) if verdict is not None else None,
        "error": failure.message if failure is not None else "",
    }


def in_order(home: Workspace, sentries: Sequence[Path], judges: Sequence[str]) -> list[str]:
    """The judges in the order of the sentries' folds. Raises DataError where folds differ."""
    if len(sentries) == 1:
        return list(judges)
    from engine.scorer import checkpoint_of

    def fold(path: Path) -> int:
        return checkpoint_of(path).settings().data.fold

    if not all(_tells_data(home, judge) for judge in judges):
        raise DataError("a judge at a URL or an export tells no fold", "give one sentry")
    by_fold = {fold(find_model(home, judge)): judge for judge in judges}
    wanted = [fold(sentry) for sentry in sentries]
    if sorted(by_fold) != sorted(wanted):
        message = f"the sentries are of folds {sorted(wanted)}, the judges of {sorted(by_fold)}"
        raise DataError(message, "give one sentry and one judge of each fold")
    return [by_fold[number] for number in wanted]
