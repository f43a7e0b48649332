"""What the recipe on Setup amounts to: counted in a thread, told in the box below the form."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from textual.content import Content

from engine.errors import WakewordError
from engine.jobs import Control, Jobs, Stopped
from engine.recipe import Recipe
from engine.runs import Run
from wakeword_tui import verbs
from wakeword_tui.numbers import brief, count, duration, hours, paced

if TYPE_CHECKING:
    from engine.cost import Cost
    from engine.preview import Audio, Pace

Line = Content | str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Amount:
    """What the recipe was found to amount to, and what of the recipe that was found for."""

    recipe: Recipe | None = None
    cost: "Cost | None" = None
    exceeded: tuple[str, ...] = ()
    problem: str = ""
    faults: tuple[str, ...] = ()
    """Why a training would refuse the teachers."""
    audio: "Audio | None" = None
    of: tuple[object, ...] = ()

    @property
    def lacks(self) -> str:
        """Why no training can begin on the audio; empty if one can, as far as it was measured."""
        return self.audio.lacks if self.audio is not None else ""

    @property
    def refused(self) -> bool:
        """Whether a training would end before its first step."""
        return bool(self.lacks or self.faults)


def counted(jobs: Jobs, recipe: Recipe, known: Amount, control: Control) -> Iterator[Amount]:
    """Count the student, its teachers and the audio, each told as it is found.

    Student and audio only if they are others than those that are `known`; the teachers always:
    they are files, which a training writes. torch is first imported here.
    """
    if known.recipe is None or _student(recipe) != _student(known.recipe):
        known = replace(known, recipe=recipe, cost=None, problem="", exceeded=())
        try:
            cost, exceeded = verbs.cost(recipe)
            known = replace(known, cost=cost, exceeded=tuple(exceeded))
        except WakewordError as error:
            known = replace(known, problem=error.message)
        yield known
    known = replace(known, faults=_faults(jobs, recipe))
    yield known
    if known.of != _heard(recipe):
        yield replace(known, audio=_look(jobs, recipe, control), of=_heard(recipe))


def _student(recipe: Recipe) -> tuple[object, ...]:
    return recipe.features, recipe.model, recipe.targets, recipe.quantize.enabled


def _heard(recipe: Recipe) -> tuple[object, ...]:
    """What the hours that are heard hang on, and the words that are learned first."""
    parts = recipe.data, recipe.features, recipe.model, recipe.train, recipe.quantize
    return (*parts, recipe.evaluate.split)


def _faults(jobs: Jobs, recipe: Recipe) -> tuple[str, ...]:
    try:
        return verbs.faults(jobs, recipe) if recipe.distill.teachers else ()
    except WakewordError:  # the student cannot be built, which is told as its problem
        return ()


def _look(jobs: Jobs, recipe: Recipe, control: Control) -> "Audio | None":
    """Measure the audio; None without any, or once another recipe is looked at."""
    if not (recipe.data.manifest or recipe.data.sources):
        return None
    try:
        return verbs.look(jobs, recipe, control)
    except (WakewordError, Stopped):  # what lacks is told above, and by `h`
        return None


def amount_lines(amount: Amount) -> Iterable[Line]:
    """What the student and the audio amount to."""
    cost, audio = amount.cost, amount.audio
    if cost is None:
        yield amount.problem or ("counting the model …", "$dim")
    else:
        macs = f"{brief(cost.macs)} MACs, {brief(cost.macs_per_s)} a second"
        yield f"{brief(cost.parameters)} parameters  {macs}"
        size = f"int8 {cost.int8_kb:.0f} kB + {cost.ram_int8_kb:.0f} RAM"
        yield f"{size}   float {cost.float_kb:.0f} kB + {cost.ram_float_kb:.0f} RAM"
    if audio is not None:
        spans = [f"{split} {hours(sum(kinds.values()))}" for split, kinds in audio.hours.items()]
        packed = "packed" if audio.cached else "to pack"
        yield f"{'  '.join(spans)}  {audio.cache_mb:.0f} MB {packed}"


def pace_line(pace: "Pace", recipe: Recipe, amount: Amount) -> str:
    """How long a training takes, as far as timing a few steps of the recipe has shown."""
    whole = ""
    if amount.audio is not None and not amount.refused:
        whole = f"about {duration(pace.training_s(recipe, amount.audio))}: "
    memory = f", {pace.gpu_mb:.0f} MB of GPU" if pace.gpu_mb else ""
    lessons = f", {pace.lessons_mb:.0f} MB of lessons" if pace.lessons_mb else ""
    return f"{whole}{paced(pace)}{memory}{lessons}"


def runs_lines(runs: Sequence[Run]) -> Iterable[Line]:
    """What there is already, and the key that leads to it; nothing before the first run."""
    if runs:
        finished = sum(run.finished() for run in runs)
        there = f"{count(len(runs))} run{'s' if len(runs) > 1 else ''} here, {finished} finished"
        yield Content.assemble(("· ", "$now"), f"{there}: key 2 lists them, enter opens one")
