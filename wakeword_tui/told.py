"""What Review tells of queue items, in words and as a plot."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from textual.content import Content

from engine.errors import WakewordError
from engine.manifest import Split
from engine.queue_store import Decision, FoundBy, Order, QueueItem
from engine.sound import Player
from wakeword_tui.clips import Excerpt, ScoreCurve
from wakeword_tui.numbers import count, duration
from wakeword_tui.pile import Pile
from wakeword_tui.widgets.raster import Axis, Plot, Series

Line = Content | str | tuple[str, str]
LONGEST_NAME = 30
"""Columns of a name beside which a time is to be seen."""
SIGNS: dict[Decision, tuple[str, str]] = {
    "pending": ("·", "$dim"),
    "confirmed": ("✓", "$success"),
    "discarded": ("✗", "$error"),
    "wakeword": ("w", "$violet"),
    "ignored": ("~", "$dim"),
}
WORDS: dict[Decision | None, str] = {
    "pending": "pending",
    "confirmed": "confirmed",
    "discarded": "discarded",
    "wakeword": "wake word",
    "ignored": "ignored",
    None: "in all",
}
ORDERS: dict[Order, str] = {
    "score": "score",
    "near_threshold": "nearness",
    "source": "recording",
    "time": "newest",
    "found": "finder",
}
FINDERS: dict[FoundBy, str] = {
    "benchmark": "benchmark",
    "background": "mining",
    "live": "listening",
    "import": "import",
}
EMPTY: tuple[Line, ...] = (
    ("Nothing to review yet.", "bold"),
    "",
    "False alarms get here in four ways:",
    "8  Bench: m mines the alarms of a run",
    "4  Mine: a adds a long recording",
    "6  Live: f says that one was false",
    "or, recorded elsewhere:",
    "   wakeword-tui mine --import DIR",
)


def title(pile: Pile) -> str:
    """How many items there are of what is shown, and in which order they lie."""
    text = f" with {pile.text!r}" if pile.text else ""
    return f"{count(pile.left)} {WORDS[pile.shown]}{text} by {ORDERS[pile.order]}"


def position(pile: Pile) -> str:
    """Where the cursor is, and how much is marked."""
    marked = f"  {count(len(pile.marked))} marked" if pile.marked else ""
    return f"{count(pile.at + 1)} of {count(len(pile.ids))}{marked}" if pile.ids else ""


def nothing(pile: Pile) -> Iterable[Line]:
    """What to do where nothing is shown."""
    if not pile.total:
        yield from EMPTY
        return
    yield (f"Nothing {WORDS[pile.shown]} here.", "bold")
    yield ""
    if pile.text:
        yield "esc  leaves the filter"
    yield "s  shows what has been decided"
    yield f"1  trains again, with {count(pile.counts['confirmed'])} confirmed items"


def broken(error: WakewordError) -> Iterable[Line]:
    """Why the queue cannot be shown."""
    yield Content.assemble(("✗ ", "$error"), error.message)
    yield ""
    yield error.hint


def place(item: QueueItem) -> str:
    """The recording, and where in it the detector fired."""
    return f"{fitted(item.find.path, LONGEST_NAME)} @ {clock(item.find.time_s)}"


def fitted(path: Path, width: int) -> str:
    """The name of a recording, cut in front: of many that begin alike the ends tell them apart."""
    if len(path.name) <= width:
        return path.name
    return path.stem if len(path.stem) <= width else f"…{path.stem[1 - width :]}"


def clock(seconds: float, *, tenths: bool = True) -> str:
    """A time in a recording: `2:03.4`, `1:02:03.4`."""
    whole, tenth = divmod(round(seconds * 10), 10)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
    return f"{text}.{tenth}" if tenths else text


def facts(item: QueueItem, split: Split | None, trouble: str) -> Iterable[Line]:
    """What is known of an item; `split` is where an open run would put it, if that is known."""
    find = item.find
    threshold = ("  threshold ", "$dim"), f"{find.threshold:.3f}"
    yield Content.assemble(
        ("score ", "$dim"),
        (f"{find.score:.3f}", "bold"),
        *(threshold if find.checkpoint else ()),
        ("  by ", "$dim"),
        FINDERS[find.found_by],
    )
    flagged = ("  ! flagged" if item.flagged else "", "$now")
    if split in ("validation", "test"):
        never = f"never trained on: of the {split} streams"
        yield Content.assemble(("! ", "$warning"), never, flagged)
    else:
        group = "the recording itself" if find.group.startswith("user:") else find.group
        yield Content.assemble(("group ", "$dim"), group, flagged)
    if trouble:
        yield Content.assemble(("✗ ", "$error"), trouble)
    elif item.note:
        yield Content.assemble(("note ", "$dim"), item.note)


def playing_line(player: Player, item: QueueItem) -> Content:
    """Where the playhead is, how it is played, and what was decided."""
    length_s = item.find.end_s - item.find.start_s
    sign, style = SIGNS[item.decision]
    return Content.assemble(
        ("▶ " if player.playing else "■ ", "$now" if player.playing else "$dim"),
        f"{player.position_s:.2f} / {length_s:.2f} s",
        (f"  {sign} {WORDS[item.decision]}", style),
        ("  slow" if player.speed < 1 else "", "$now"),
        ("  loop" if player.loop else "", "$now"),
        (f"  vol {player.volume * 100:.0f} %", "$dim"),
    )


def decided_line(item: QueueItem, now_s: float) -> Content:
    """One of the last decisions."""
    sign, style = SIGNS[item.decision]
    ago = duration(now_s - (item.decided_at or now_s))
    return Content.assemble(
        (f"{sign} ", style), f"{item.find.score:.3f}  ", place(item), (f"  {ago} ago", "$dim")
    )


def score_plot(clip: Excerpt, item: QueueItem, heard: ScoreCurve | str) -> Plot:
    """Scores along the clip, the threshold, and where the detector fired; or why there are none."""
    x, y = Axis(clip.begin_s, clip.begin_s + max(clip.length_s, 1e-3)), Axis(0.0, 1.0)
    if isinstance(heard, str):
        return Plot([Series(heard, [], [], mark="·")], x, y)
    shown = (heard.times_s >= x.low) & (heard.times_s <= x.high)
    scores = Series(heard.by, heard.times_s[shown], heard.scores[shown])
    level = Series(f"{heard.threshold:.3f}", [x.low, x.high], [heard.threshold] * 2)
    word = "fired" if item.find.score >= item.find.threshold else "highest"
    fired = Series(word, [item.find.time_s], [np.clip(item.find.score, 0, 1)], mark="◆")
    known = (scores, True), (level, heard.threshold > 0), (fired, bool(item.find.checkpoint))
    return Plot([series for series, shown in known if shown], x, y)
