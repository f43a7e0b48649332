"""A sitting: one speaker reads prompt after prompt, and what is good is kept."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import DataError
from engine.manifest import WORDLESS
from engine.phonetics import slug
from engine.prompts import Plan, lookalikes
from engine.record import Keeper
from engine.source import Source
from engine.take import Recorder, Take

Stage = Literal["ready", "recording", "heard", "done"]


@dataclass(frozen=True, slots=True)
class Sitting:
    """Who reads what, how often, beside how much that sounds like it, and where that is kept."""

    speaker: str
    phrase: str
    label: str
    place: Path
    count: int = 30
    negatives: int = 10
    train: bool = False

    def wrong(self) -> dict[str, str]:
        """What cannot be, by the name of the field."""
        found = {}
        if not slug(self.speaker):
            found["speaker"] = "who speaks? any name or number will do"
        if not slug(self.phrase):
            found["phrase"] = "what is to be said?"
        if not slug(self.label):
            found["label"] = "what is the wake word called in the manifest?"
        elif self.label.replace("-", "_") in WORDLESS:
            found["label"] = f"{self.label} is a label with a meaning of its own: add a word"
        if not slug(str(self.place)):
            found["place"] = "where are the clips to be kept?"
        for name, number in (("count", self.count), ("negatives", self.negatives)):
            if number < 0:
                found[name] = "0 or more"
        return found


class Booth:
    """A sitting under way: its plan, what is heard, what was kept.

    ready --begin--> recording --end, or a silence--> heard --keep, skip--> ready, the next prompt
    """

    def __init__(self, sitting: Sitting) -> None:
        """Open the folder, and look for what sounds like the phrase. Raises DataError."""
        self.sitting = sitting
        self.keeper = Keeper(sitting.place, sitting.speaker, train=sitting.train)
        others = lookalikes(sitting.phrase, sitting.negatives)
        self.plan = Plan(sitting.phrase, sitting.label, sitting.count, others)
        self.kept = Counter[bool]()
        """Wake words (True) and negatives (False) that this sitting has kept."""
        self.recorder: Recorder | None = None

    def listen(self, source: Source) -> None:
        """Hear a source from here on."""
        self.recorder = Recorder(source)

    @property
    def take(self) -> Take | None:
        """What was said last and is not decided on."""
        return self.recorder.take if self.recorder is not None else None

    @property
    def stage(self) -> Stage:
        """Where it is."""
        if self.plan.now is None:
            return "done"
        if self.recorder is not None and self.recorder.recording:
            return "recording"
        return "heard" if self.take is not None else "ready"

    def keep(self) -> Path:
        """Keep the take, on the disk, and go on to the next prompt.

        Raises DataError, for a take without a word too: no check of the data would find it.
        """
        prompt, take = self.plan.now, self.take
        assert prompt is not None
        assert take is not None
        if not take.usable:
            raise DataError("there is no word in it", "r records it again, s leaves it out")
        path = self.keeper.keep(take, prompt.label)
        self.kept[prompt.wakeword] += 1
        self.skip()
        return path

    def skip(self) -> None:
        """Leave the prompt behind, and its take."""
        self.drop()
        self.plan.go_on()

    def turn(self) -> None:
        """Go over to negatives alone, or back."""
        self.drop()
        self.plan.turn()

    def drop(self) -> None:
        """Forget the take."""
        if self.recorder is not None:
            self.recorder.cancel()
