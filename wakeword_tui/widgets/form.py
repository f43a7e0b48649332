"""Form: one section of the recipe, a line for each field, edited in place.

Moving and editing are two things: letters stay keys until `enter` opens a field.
"""

import re
from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.events import Resize
from textual.message import Message
from textual.widgets import Input

from wakeword_tui.draft import MOST_TEACHERS, TEACHERS, Draft, choices, limits, name
from wakeword_tui.widgets.menu import Menu

NAME_CELLS = 19
VALUE_CELLS = 22
LONG = ("path", "paths", "text", "table")


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
        Binding("a", "add", "Add", id="form.add"),
        Binding("x", "remove", "Remove", id="form.remove"),
    ]

    ALLOW_MAXIMIZE = True  # as a whole: the editor opens over the lines

    class Changed(Message):
        """A field has another text."""

    class Moved(Message):
        """Another field is under the cursor."""

    def __init__(
        self,
        offers: Callable[[str], tuple[str, ...]],
        *,
        id: str | None = None,  # noqa: A002 -- as Widget
    ) -> None:
        """`offers` gives texts to go through for a field that may have any other, too."""
        super().__init__(id=id)
        self.draft = Draft()
        self._offers = offers
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

    def show(self, draft: Draft, section: str) -> None:
        """Show a section of a draft."""
        self.draft, self.border_title = draft, section
        self._show_lines()
        self.refresh_bindings()

    def on_resize(self, event: Resize) -> None:
        """Give long values the new room, and keep the field under the cursor in sight."""
        self._show_lines()
        self.menu.scroll_to_highlight()
        self.call_after_refresh(self._place_editor)

    def _show_lines(self) -> None:
        paths = self.draft.sections().get(str(self.border_title), [])
        self.menu.show([(path, self._line(path)) for path in paths])

    def _options(self, path: str) -> tuple[str, ...]:
        """What left and right go through."""
        return choices(path) or self._offers(path)

    def _hint(self, path: str, text: str) -> str:
        """Which of the options it is, or what the field accepts; a long text needs no limits."""
        if options := self._options(path):
            place = str(options.index(text) + 1) if text in options else "one"
            return f"◂ {place} of {len(options)} ▸"
        accepted = limits(path)
        return "" if text and accepted in LONG else accepted

    def _line(self, path: str) -> Content:
        draft, text = self.draft, self.draft.text(path)
        wrong = draft.problem(path)
        sign = "✗ " if wrong else "* " if path in draft.texts else "  "
        hint, room = self._hint(path, text), VALUE_CELLS
        if text and limits(path) in LONG:
            room = max(room, self.menu.size.width - NAME_CELLS - 4 - len(hint))
        shown = text if len(text) <= room else f"…{text[1 - room :]}"
        return Content.assemble(
            (sign, "$error" if wrong else "$now"),
            f"{name(path):<{NAME_CELLS}}",
            (f"{shown:<{room}} ", "$error" if wrong else "bold"),
            (hint, "$dim"),
        )

    def _repaint(self) -> None:
        self._show_lines()
        self.refresh_bindings()
        self.post_message(self.Changed())

    def action_choose(self, step: int) -> None:
        """Go on to another of the few values a field can have."""
        path = self.path
        if path is None or not (options := self._options(path)):
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

    @property
    def _teacher(self) -> int | None:
        """The number of the teacher under the cursor."""
        found = re.match(rf"{TEACHERS}\[(\d+)\]", self.path or "")
        return int(found[1]) if found else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Teachers are added where they stand, and removed where the cursor is."""
        if action == "add":
            here = (self.path or "").startswith(TEACHERS)
            return here and (self.draft.teachers < MOST_TEACHERS or None)
        return action != "remove" or self._teacher is not None

    def action_add(self) -> None:
        """Add a teacher, and go to it."""
        self.draft.add_teacher()
        self._repaint()
        self.menu.go_to(f"{TEACHERS}[{self.draft.teachers - 1}].kind")

    def action_remove(self) -> None:
        """Remove the teacher under the cursor."""
        if self._teacher is not None:
            self.draft.remove_teacher(self._teacher)
            self._repaint()

    @on(Menu.OptionSelected, "#fields")
    def _open(self, event: Menu.OptionSelected) -> None:
        event.stop()
        path = event.option_id
        assert path is not None
        if path == TEACHERS:
            self.action_add()
            return
        if choices(path):
            self.action_choose(1)
            return
        self._before = self.draft.text(path)
        editor = self.editor
        with editor.prevent(Input.Changed):
            editor.value = self._before
        self._place_editor()
        editor.add_class("-open")
        editor.focus()

    def _place_editor(self) -> None:
        """Lay the open line over the field under the cursor."""
        row = (self.menu.highlighted or 0) - int(self.menu.scroll_offset.y)
        self.editor.styles.offset = (NAME_CELLS + 2, row)

    @on(Menu.OptionHighlighted, "#fields")
    def _moved(self, event: Menu.OptionHighlighted) -> None:
        event.stop()
        self.refresh_bindings()
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
