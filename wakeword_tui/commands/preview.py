"""`train --dry-run`: what a training would take, told before anything is written."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from engine.events import Emit
from engine.jobs import Control
from engine.recipe import Recipe
from engine.runs import Workspace
from wakeword_tui.commands.output import say, say_json, table
from wakeword_tui.commands.progress import perform
from wakeword_tui.numbers import brief, duration, paced

if TYPE_CHECKING:
    from engine.preview import Audio, Preview


def dry_run(home: Workspace, recipes: Sequence[Recipe], as_json: bool) -> int:
    """Print what training a recipe, or the folds of one, would take."""

    def verb(emit: Emit, control: Control) -> "Preview":
        from engine.preview import preview

        return preview(recipes, home, emit=emit, control=control)

    found = perform(home, "preview", verb, lane="background")
    if as_json:
        say_json(asdict(found))
    else:
        say("\n".join(render(found)))
    return 0


def render(found: "Preview") -> Iterable[str]:
    """The lines of a preview."""
    cost, audio = found.cost, found.audio
    counts = f"{cost.parameters:,} parameters  {brief(cost.macs)} MACs a window"
    yield f"{'model':<9}{counts}, {brief(cost.macs_per_s)} a second of audio"
    yield f"{'size':<9}INT8 {cost.int8_kb:.0f} kB, float32 {cost.float_kb:.0f} kB"
    ram = f"INT8 {cost.ram_int8_kb:.0f} kB, float32 {cost.ram_float_kb:.0f} kB"
    yield f"{'RAM':<9}{ram}: the frames of a window and the most activations at once"
    yield f"\n{hours_table(audio)}\n"
    packed = "packed already" if audio.cached else "to be packed"
    disk = f"{audio.cache_mb:.0f} MB of audio, {packed}; {found.run_mb:.1f} MB a run"
    if found.pace is not None and found.pace.lessons_mb:
        disk += f", {found.pace.lessons_mb:.0f} MB of lessons"
    yield f"{'disk':<9}{disk}"
    yield f"{'time':<9}{time_line(found)}"
    yield from (f"warning: {sentence}" for sentence in found.exceeded)


def hours_table(audio: "Audio") -> str:
    """Hours by split and kind."""
    kinds = list(next(iter(audio.hours.values())))
    rows = [
        (split, *(f"{hours[kind]:.2f}" for kind in kinds)) for split, hours in audio.hours.items()
    ]
    return table(("hours", *kinds), rows)


def time_line(found: "Preview") -> str:
    """How long it would take, and how that was found out."""
    pace = found.pace
    if pace is None or found.training_s is None:
        return f"not known: {found.why}"
    memory = f", {pace.gpu_mb:.0f} MB of GPU memory" if pace.gpu_mb else ""
    timed = f"{paced(pace)} on {pace.device}{memory}"
    runs = f" for {found.runs} runs" if found.runs > 1 else ""
    return f"about {duration(found.training_s)}{runs}: {timed}"
