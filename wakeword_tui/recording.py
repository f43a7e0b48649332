"""Recording in words: what was heard of a take, where it went, and what to do next."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from engine.phonetics import slug
from engine.recipe import Data
from engine.sitting import Booth, Sitting
from engine.take import Take

GOOD = "good"


def proposed(data: Data) -> Sitting:
    """The sitting that a recipe suggests: its wake word, into its data folder."""
    label = data.wakeword
    return Sitting("", label.replace("-", " "), label, data.manifest or Path())


def read_sitting(texts: Mapping[str, str]) -> tuple[Sitting | None, dict[str, str]]:
    """A sitting from what was typed, and what is wrong with it by name."""
    phrase, folder = texts["phrase"].strip(), texts["folder"].strip()
    numbers = {name: texts[name].strip() for name in ("wake words", "negatives")}
    wrong = {n: "a number, 0 or more" for n, text in numbers.items() if not text.isdecimal()}
    if texts["only train"].strip() not in ("yes", "no"):
        wrong["only train"] = "yes or no"
    if not folder:
        wrong["folder"] = "where are the clips to be kept?"
    count, negatives = (int(text) if text.isdecimal() else 0 for text in numbers.values())
    sitting = Sitting(
        texts["speaker"].strip(), phrase, texts["label"].strip() or slug(phrase),
        Path(folder).expanduser(), count, negatives, texts["only train"].strip() == "yes",
    )  # fmt: skip
    wrong = sitting.wrong() | wrong
    return (None if wrong else sitting), wrong


def measured(take: Take) -> str:
    """How long and how loud what was said is."""
    word_s = take.facts.end_s - take.facts.start_s
    return f"{word_s:.2f} s, {take.facts.level_db:.0f} dBFS"


def verdict(take: Take) -> str:
    """What is wrong with a take, or that nothing is."""
    return "; ".join(take.advice) or GOOD


def speaker_line(booth: Booth, fold: int | None) -> str:
    """What becomes of the speaker: in a recipe of this test fold, or in any."""
    keeper = booth.keeper
    if keeper.split:
        return f"{keeper.group} only ever trains"
    if fold is not None:
        use = keeper.use_in(fold)
        rest = "" if use == "trains" else ", and never trains"
        return f"{keeper.group} {use} in fold {fold}{rest}, by the hash of the name"
    tested = next(fold for fold in range(5) if keeper.use_in(fold) == "tests")
    return f"{keeper.group} is tested on in fold {tested}, by the hash of the name"


def kept_line(booth: Booth) -> str:
    """How much was kept, now and before."""
    before = sum(booth.keeper.before.values())
    earlier = f", {before} before" if before else ""
    return f"{booth.kept[True]} wake words and {booth.kept[False]} negatives kept{earlier}"


def finished_lines(booth: Booth) -> list[str]:
    """What a kill had left undone, and was done now."""
    return [f"kept when it was cut off: {path}" for path in booth.keeper.finished]


def next_step(booth: Booth) -> str:
    """What to do after a sitting."""
    folder, label = booth.keeper.manifest.parent, booth.sitting.label
    manifest = booth.keeper.manifest
    place = folder if manifest.name == "manifest.csv" else manifest
    return f"wakeword-tui data check {shlex.quote(str(place))} --wakeword {shlex.quote(label)}"
