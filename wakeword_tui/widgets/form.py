"""Form: one section of the recipe, a line for each field, edited in place.

Moving and editing are two things: letters stay keys until `enter` opens a field.
"""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.events import Resize
from textual.message import Message
from textual.widgets import Input

from wakeword_tui.draft import Draft, choices, limits
from wakeword_tui.widgets.menu import Menu

NAME_CELLS = 19
VALUE_CELLS = 22


class Editor(Input):
    """The one line that is open while a field is typed over."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Leave as it was", id="form.cancel"),
    ]

    class Cancelled(Message):
        """The field stays as it was."""

    def action_cancel(self) -> None:
        """Close without a change."""
        self.post_message(self.Cancelled())


class Form(Container):
    """The fields of a section. `Changed` says that a field has another text now."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "choose(-1)", "Previous", show=False, id="form.previous"),
        Binding("right", "choose(1)", "Next", show=False, id="form.next"),
        Binding("r", "reset", "Reset", id="form.reset"),
    ]

    ALLOW_MAXIMIZE = True  # as a whole: the editor opens over the lines

    class Changed(Message):
        """A field has another text."""

    class Moved(Message):
        """Another field is under the cursor."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 -- as Widget
        super().__init__(id=id)
        self.draft = Draft()
        self.paths: list[str] = []
        self._before = ""

    def compose(self) -> ComposeResult:
        """The lines, and the editor that opens over one of them."""
        yield Menu(id="fields")
        yield Editor(id="editor", compact=True)

    @property
    def menu(self) -> Menu:
        """The lines."""
        return self.query_one("#fields", Menu)

    @property
    def editor(self) -> Editor:
        """The open line."""
        return self.query_one("#editor", Editor)

    @property
    def path(self) -> str | None:
        """The dotted path of the field under the cursor."""
        return self.menu.current

    def show(self, draft: Draft, section: str, paths: list[str]) -> None:
        """Show a section of a draft."""
        self.draft, self.paths, self.border_title = draft, paths, section
        self._show_lines()

    def on_resize(self, event: Resize) -> None:
        """Give long values the new room."""
        self._show_lines()

    def _show_lines(self) -> None:
        self.menu.show([(path, self._line(path)) for path in self.paths])

    def _line(self, path: str) -> Content:
        draft, text, options = self.draft, self.draft.text(path), choices(path)
        wrong = draft.problem(path)
        sign = "✗ " if wrong else "* " if path in draft.texts else "  "
        place = f"◂ {options.index(text) + 1} of {len(options)} ▸" if text in options else ""
        hint = place or limits(path)
        room = VALUE_CELLS
        if text and hint in (
            "path",
            "paths",
            "text",
            "table",
        ):  # these may be long, and need no limits
            room, hint = max(room, self.menu.size.width - NAME_CELLS - 3), ""
        shown = text if len(text) <= room else f"…{text[1 - room :]}"
        return Content.assemble(
            (sign, "$error" if wrong else "$now"),
            f"{path.split('.')[-1]:<{NAME_CELLS}}",
            (f"{shown:<{room}} ", "$error" if wrong else "bold"),
            (hint, "$dim"),
        )

    def _repaint(self) -> None:
        self._show_lines()
        self.post_message(self.Changed())

    def action_choose(self, step: int) -> None:
        """Go on to another of the few values a field can have."""
        path = self.path
        if path is None or not (options := choices(path)):
            return
        text = self.draft.text(path)
        at = options.index(text) + step if text in options else 0
        self.draft.set(path, options[at % len(options)])
        self._repaint()

    def action_reset(self) -> None:
        """Put the field back: to what the file says, then to its default."""
        if self.path is not None:
            self.draft.reset(self.path)
            self._repaint()

    @on(Menu.OptionSelected, "#fields")
    def _open(self, event: Menu.OptionSelected) -> None:
        event.stop()
        path = event.option_id
        assert path is not None
        if choices(path):
            self.action_choose(1)
            return
        self._before = self.draft.text(path)
        editor, row = self.editor, event.option_index - int(self.menu.scroll_offset.y)
        with editor.prevent(Input.Changed):
            editor.value = self._before
        editor.styles.offset = (NAME_CELLS + 2, row)
        editor.add_class("-open")
        editor.focus()

    @on(Menu.OptionHighlighted, "#fields")
    def _moved(self, event: Menu.OptionHighlighted) -> None:
        event.stop()
        self.post_message(self.Moved())

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._put(event.value)

    @on(Input.Submitted)
    def _keep(self, event: Input.Submitted) -> None:
        event.stop()
        self._put(event.value)
        self._close()

    @on(Editor.Cancelled)
    def _leave(self, event: Editor.Cancelled) -> None:
        event.stop()
        self._put(self._before)
        self._close()

    @on(Editor.Blurred)
    def _blurred(self, event: Editor.Blurred) -> None:
        event.stop()
        if self.app.app_focus and not self.editor.has_focus:  # else the window lost the focus
            self.editor.remove_class("-open")

    def _put(self, text: str) -> None:
        if self.path is not None and text != self.draft.text(self.path):
            self.draft.set(self.path, text)
            self._repaint()

    def _close(self) -> None:
        self.editor.remove_class("-open")
        self.menu.focus()
