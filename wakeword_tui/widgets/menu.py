"""Menu: a list that is moved through with letters or arrows, and says where one is in it."""

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option


class Menu(OptionList, inherit_bindings=False):
    """A list of lines with stable names; a refresh keeps the cursor on the same name.

    One that does not open its lines leaves enter to the screen. Bindings are not inherited: those
    of a scrolling list would take left and right from screens.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Open", show=False, id="list.open"),
        Binding("down,j", "cursor_down", "Down", show=False, id="list.down"),
        Binding("up,k", "cursor_up", "Up", show=False, id="list.up"),
        Binding("home,g", "first", "Top", show=False, id="list.top"),
        Binding("end,G", "last", "Bottom", show=False, id="list.bottom"),
        Binding("pagedown,ctrl+d", "page_down", "Page down", show=False, id="list.page_down"),
        Binding("pageup,ctrl+u", "page_up", "Page up", show=False, id="list.page_up"),
    ]

    def __init__(self, title: str = "", *, opens: bool = True, id: str | None = None) -> None:  # noqa: A002 -- as Widget
        super().__init__(id=id, compact=False)
        self._opens = opens
        self.border_title = title
        self._shown: list[tuple[str, Content]] = []

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether enter is for this list."""
        return action != "select" or self._opens

    @property
    def current(self) -> str | None:
        """The name under the cursor."""
        option = self.highlighted_option
        return option.id if option is not None else None

    @property
    def text(self) -> str:
        """The lines, for the clipboard."""
        return "\n".join(prompt.plain for _, prompt in self._shown)

    def show(self, lines: Sequence[tuple[str, Content]]) -> None:
        """Show (name, line) pairs, changing as little as possible."""
        shown, known = list(lines), len(self._shown)
        if [name for name, _ in shown[:known]] != [name for name, _ in self._shown]:
            current, self._shown = self.current, shown
            self.set_options([Option(prompt, id=name) for name, prompt in shown])
            self.go_to(current)
            return
        for index, ((_, old), (_, new)) in enumerate(zip(self._shown, shown, strict=False)):
            if not new.is_same(old):
                self.replace_option_prompt_at_index(index, new)
        if len(shown) > known:
            self._shown = shown
            self.add_options([Option(prompt, id=name) for name, prompt in shown[known:]])
            self.go_to(self.current)
        self._shown = shown

    def go_to(self, name: str | None) -> None:
        """Put the cursor on a name, or on the first line if it is not there."""
        names = [known for known, _ in self._shown]
        if names:
            self.highlighted = names.index(name) if name in names else 0
        self._tell_position()

    def watch_highlighted(self, highlighted: int | None) -> None:
        """Follow the cursor."""
        super().watch_highlighted(highlighted)
        self._tell_position()

    def _tell_position(self) -> None:
        position = "" if self.highlighted is None else f"{self.highlighted + 1} of"
        self.border_subtitle = f"{position} {self.option_count}" if self.option_count else ""
