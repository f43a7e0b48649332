"""Recording in words: what was heard of a take, where it went, and what to do next."""

import shlex
from pathlib import Path

from engine.recipe import Data
from engine.sitting import Booth, Sitting
from engine.take import Take

GOOD = "good"


def proposed(data: Data) -> Sitting:
    """The sitting that data suggests: its wake word, into its folder."""
    label = data.wakeword
    return Sitting("", label.replace("-", " "), label, data.manifest or Path())


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
    before, finished = sum(booth.keeper.before.values()), len(booth.keeper.finished)
    earlier = f", {before} before" if before else ""
    earlier += f", {finished} saved from a kill" if finished else ""
    return f"kept: wake words {booth.kept[True]}, negatives {booth.kept[False]}{earlier}"


def finished_lines(booth: Booth) -> list[str]:
    """What a kill had left undone, and was done now."""
    return [f"kept when it was cut off: {path}" for path in booth.keeper.finished]


def next_step(booth: Booth) -> str:
    """What looks the takes over, as a command."""
    label = booth.sitting.label
    return shlex.join(["wakeword-tui", "data", "check", _place(booth), "--wakeword", label])


def after_line(booth: Booth) -> str:
    """What to do after a sitting, in words."""
    return f"next: {next_step(booth)}; then train with data.manifest={_place(booth)}"


def _place(booth: Booth) -> str:
    """The data folder, or the manifest of another name."""
    manifest = booth.keeper.manifest
    return shown(manifest.parent if manifest.name == "manifest.csv" else manifest)


def shown(path: Path) -> str:
    """A path as short as it can be typed from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
