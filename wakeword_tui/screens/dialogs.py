"""Small questions in the middle of the screen: choose, type, pick, and the help."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen, Screen, ScreenResultType
from textual.widgets import Input, Static

from engine.files import is_file
from wakeword_tui.config import typed_path
from wakeword_tui.widgets.menu import Menu

CLOSE = Binding("escape", "dismiss(None)", "Cancel", id="dialog.cancel")


class Dialog(ModalScreen[ScreenResultType]):
    """A question over the screen, which takes one answer."""

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Go; a key that was pressed before the answer was seen to be taken means nothing."""
        return super().dismiss(result) if self.is_active else AwaitComplete()


class Choice(Dialog[str | None]):
    """One of a few answers, by its letter or with enter; None when nothing was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [CLOSE]

    def __init__(self, question: str, answers: Sequence[tuple[str, str]]) -> None:
        """`answers` are (letter, text); the letter is the result."""
        super().__init__()
        self._question = question
        self._answers = answers

    def compose(self) -> ComposeResult:
        """The question and the answers."""
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = self._question
            yield Menu(id="answers")

    def on_mount(self) -> None:
        """Lay the answers out."""
        self.query_one(Menu).show(
            [
                (letter, Content.assemble((f" {letter} ", "$primary"), f" {text}"))
                for letter, text in self._answers
            ]
        )

    def on_key(self, event: Key) -> None:
        """Take an answer by its letter, which means nothing to the screen behind."""
        if event.character in [known for known, _ in self._answers]:
            event.stop()
            self.dismiss(event.character)

    @on(Menu.OptionSelected)
    def _chosen(self, event: Menu.OptionSelected) -> None:
        self.dismiss(event.option_id)


class Ask(Dialog[str | None]):
    """A line of text; None when nothing was typed, unless that may be the answer."""

    BINDINGS: ClassVar[list[BindingType]] = [CLOSE]

    def __init__(self, question: str, text: str = "", *, empty: bool = False) -> None:
        super().__init__()
        self._question = question
        self._text = text
        self._nothing = "" if empty else None

    def compose(self) -> ComposeResult:
        """The question and the line."""
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = self._question
            dialog.border_subtitle = "enter  esc"
            yield Input(self._text, compact=True)

    @on(Input.Submitted)
    def _typed(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip() or self._nothing)


class Pick(Dialog[str | None]):
    """One of many names; None when nothing was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [CLOSE]

    def __init__(self, question: str, names: Sequence[str]) -> None:
        super().__init__()
        self._question = question
        self._names = names

    def compose(self) -> ComposeResult:
        """The names."""
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = self._question
            dialog.border_subtitle = "enter  esc"
            yield Menu(id="names")

    def on_mount(self) -> None:
        """Show every name."""
        self.query_one(Menu).show([(name, Content(name)) for name in self._names])

    @on(Menu.OptionSelected)
    def _chosen(self, event: Menu.OptionSelected) -> None:
        self.dismiss(event.option_id)


class PickFile(Dialog[Path | None]):
    """A recipe file: one of those lying about, or a path that is typed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        CLOSE,
        Binding("down", "app.focus_next", "List", show=False, id="dialog.list"),
    ]

    def __init__(self, question: str, paths: Sequence[Path]) -> None:
        super().__init__()
        self._question = question
        self._paths = [str(path) for path in paths]

    def compose(self) -> ComposeResult:
        """A line to type in, and the files below."""
        with Vertical(classes="dialog -tall") as dialog:
            dialog.border_title = self._question
            dialog.border_subtitle = "type to filter, or a path"
            yield Input(compact=True)
            yield Menu(id="paths")

    def on_mount(self) -> None:
        """Show every file."""
        self._filter("")

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._filter(event.value)

    def _filter(self, text: str) -> None:
        kept = [path for path in self._paths if text.lower() in path.lower()]
        self.query_one(Menu).show([(path, Content(path)) for path in kept])

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        typed = typed_path(event.value)
        chosen = str(typed) if is_file(typed) else self.query_one(Menu).current
        if chosen is not None:
            self.dismiss(Path(chosen))
        else:
            self.notify(f"there is no file {typed}", severity="warning", timeout=4, markup=False)

    @on(Menu.OptionSelected)
    def _chosen(self, event: Menu.OptionSelected) -> None:
        assert event.option_id is not None
        self.dismiss(Path(event.option_id))


class Help(Dialog[None]):
    """Every key that does something here, made from the bindings that are active."""

    BINDINGS: ClassVar[list[BindingType]] = [
        CLOSE,
        Binding("question_mark,q", "dismiss(None)", "Close", show=False, id="dialog.close"),
    ]

    def __init__(self, behind: Screen[object]) -> None:
        super().__init__()
        self._keys = active_keys(behind)

    def compose(self) -> ComposeResult:
        """Two columns: the keys of the screen behind, and those that work everywhere."""
        here = {name: keys for name, keys in self._keys.items() if name not in EVERYWHERE}
        everywhere = {name: keys for name, keys in self._keys.items() if name in EVERYWHERE}
        with VerticalScroll(classes="dialog -help") as dialog:
            dialog.border_title = "keys"
            dialog.border_subtitle = "esc closes"
            with Horizontal():
                yield Static(_key_lines(here))
                yield Static(_key_lines(everywhere))


EVERYWHERE = ("page", "app")


def _key_lines(groups: dict[str, list[tuple[str, str]]]) -> Content:
    lines = []
    for name, keys in groups.items():
        lines.append(Content.assemble((f"{'':>9}  {name}", "$now")))
        lines += [Content.assemble((f"{key:>9}  ", "$primary"), text) for key, text in keys]
        lines.append(Content(""))
    return Content("\n").join(lines[:-1])


def active_keys(screen: Screen[object]) -> dict[str, list[tuple[str, str]]]:
    """(keys, what they do) of the bindings active on a screen, by group."""
    groups: dict[str, dict[str, list[str]]] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        if binding.id and active.enabled and binding.description:
            group = groups.setdefault(binding.id.split(".")[0], {})
            group.setdefault(binding.description, []).append(screen.app.get_key_display(binding))
    return {
        name: [(" ".join(keys), text) for text, keys in group.items()]
        for name, group in groups.items()
    }
