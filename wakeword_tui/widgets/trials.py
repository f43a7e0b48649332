"""TrialTable: the trials of a study. Only the rows on the screen are drawn."""

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click, Resize
from textual.message import Message

from engine.trials import StudyView, Trial
from wakeword_tui import trade
from wakeword_tui.widgets.queue import CURSOR, Mover


class TrialTable(Mover):
    """A header and a window of rows around the cursor, which stays on its trial."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open run", show=False, id="search.open"),
    ]

    class Moved(Message):
        """Another trial is under the cursor."""

    class Opened(Message):
        """The trial that was under the cursor is to be opened."""

        def __init__(self, trial: Trial) -> None:
            super().__init__()
            self.trial = trial

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 -- as Widget
        super().__init__(self._step, id=id)
        self.border_title = "study"
        self._view: StudyView | None = None
        self._trials: Sequence[Trial] = ()
        self._now: str | None = None
        self._held = ""
        self._at = self._first = 0
        self._content = Content("")

    @property
    def current(self) -> Trial | None:
        """The trial under the cursor."""
        return self._trials[self._at] if self._trials else None

    @property
    def shown(self) -> tuple[StudyView, Trial] | None:
        """The trial under the cursor, and the study that it is of; None where there is none."""
        return (self._view, self.current) if self._view and self.current else None

    @property
    def rows(self) -> int:
        """Rows for trials, below the header."""
        return max(self.size.height - 1, 1)

    @property
    def text(self) -> str:
        """Every trial as a line, for the clipboard."""
        if self._view is None:
            return ""
        lines = [trade.trial_line(trial, self._view, trade.SETTINGS_FROM) for trial in self._trials]
        return "\n".join(line.plain for line in lines)

    def show(
        self, view: StudyView, trials: Sequence[Trial], now: str | None, held: str = ""
    ) -> None:
        """Show trials in this order; `now` is how far the running one is, None where none runs.

        `held` is what keeps one that was left from being gone on with.
        The cursor stays on its trial, and on top if it was there.
        """
        number = self.current.number if self.current and self._at else None
        self._view, self._trials, self._now, self._held = view, trials, now, held
        places = (place for place, trial in enumerate(trials) if trial.number == number)
        self._at = next(places, 0)
        self._lay_out()

    def go_to(self, number: int) -> None:
        """Put the cursor on a trial, if it is there."""
        places = (place for place, trial in enumerate(self._trials) if trial.number == number)
        self._go(next(places, self._at))

    def _go(self, place: int) -> None:
        place = min(max(place, 0), max(len(self._trials) - 1, 0))
        if place != self._at:
            self._at = place
            self._lay_out()
            self.post_message(self.Moved())

    def _lay_out(self) -> None:
        lines = []
        if self._view is not None and self._trials:
            lowest = max(len(self._trials) - self.rows, 0)
            self._first = min(max(self._first, self._at - self.rows + 1, 0), self._at, lowest)
            shown = self._trials[self._first : self._first + self.rows]
            lines = [self._cut(trade.header(self._view, self.size.width))]
            lines += [self._line(trial, self._view) for trial in shown]
        self.border_subtitle = f"{self._at + 1} of {len(self._trials)}" if self._trials else ""
        content = Content("\n").join(lines)
        if not content.is_same(self._content):
            self._content = content
            self.refresh()

    def _line(self, trial: Trial, view: StudyView) -> Content:
        line = self._cut(trade.trial_line(trial, view, self.size.width, self._now, self._held))
        return line.stylize_before(CURSOR) if trial is self.current else line

    def _cut(self, line: Content) -> Content:
        return line.truncate(self.size.width, ellipsis=True, pad=True)

    def render(self) -> Content:
        """The header and the rows."""
        return self._content

    def on_resize(self, event: Resize) -> None:
        """Give lines the new room."""
        self._lay_out()

    def _step(self, step: int, pages: bool) -> None:
        self._go(self._at + step * (self.rows if pages else 1))

    def on_click(self, event: Click) -> None:
        """Go to the row under the mouse."""
        offset = event.get_content_offset(self)
        if offset is not None and offset.y:
            self._go(self._first + offset.y - 1)

    def action_open(self) -> None:
        """Ask for the run of the trial."""
        if self.current is not None:
            self.post_message(self.Opened(self.current))
