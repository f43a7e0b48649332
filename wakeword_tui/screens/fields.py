"""Fields: a few lines to fill in at once, each with its limits, and what is wrong below it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from wakeword_tui.screens.dialogs import CLOSE, Dialog

Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Field:
    """A line: its name, what stands in it at first, and what it accepts, in words."""

    name: str
    text: str
    hint: str = ""


class Fields(Dialog[dict[str, str] | None]):
    """Lines of text by their names; None when it was left. Enter takes them once all are right."""

    BINDINGS: ClassVar[list[BindingType]] = [
        CLOSE,
        Binding("down", "app.focus_next", "Next line", show=False, id="dialog.next"),
        Binding("up", "app.focus_previous", "Line before", show=False, id="dialog.before"),
    ]

    def __init__(
        self, question: str, fields: Sequence[Field], check: Callable[[Texts], Mapping[str, str]]
    ) -> None:
        """`check` gives what is wrong, by name."""
        super().__init__()
        self._question, self._fields, self._check = question, fields, check

    def compose(self) -> ComposeResult:
        """The lines, and what is said about each."""
        with VerticalScroll(classes="dialog -fields", can_focus=False) as dialog:
            dialog.border_title = self._question
            dialog.border_subtitle = "↑ ↓ line  enter  esc"
            for field in self._fields:
                with Horizontal():
                    yield Static(Content(field.name), classes="name")
                    yield Input(field.text, compact=True, name=field.name, select_on_focus=False)
                    yield Static(Content(field.hint), classes="hint")
                yield Static(classes="problem")

    def on_mount(self) -> None:
        """Say what is wrong from the start."""
        longest = max(len(field.name) for field in self._fields)
        for name in self.query(".name"):
            name.styles.width = longest + 2
        self._say()

    @property
    def _texts(self) -> dict[str, str]:
        return {field.name: line.value for field, line in self._lines()}

    def _lines(self) -> list[tuple[Field, Input]]:
        return list(zip(self._fields, self.query(Input), strict=True))

    @on(Input.Changed)
    def _say(self) -> Mapping[str, str]:
        wrong = self._check(self._texts)
        for field, said in zip(self._fields, self.query(".problem").results(Static), strict=True):
            problem = wrong.get(field.name, "")
            said.update(Content(f"✗ {problem}"))
            said.display = bool(problem)
        return wrong

    @on(Input.Submitted)
    def _take(self) -> None:
        """Give the texts, or go to the first line that is wrong."""
        wrong = self._say()
        for field, line in self._lines():
            if field.name in wrong:
                line.focus()
                return
        self.dismiss({name: text.strip() for name, text in self._texts.items()})
