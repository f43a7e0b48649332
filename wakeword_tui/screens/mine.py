"""Mine answers "what does it wrongly wake on?"."""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget

from engine.audio import SUFFIXES
from engine.errors import WakewordError
from wakeword_tui.config import typed_path
from wakeword_tui.mining import Miner, MineRow
from wakeword_tui.numbers import brief, count, duration, rate
from wakeword_tui.screens.dialogs import Ask, Pick
from wakeword_tui.screens.page import Page
from wakeword_tui.widgets.menu import Menu
from wakeword_tui.widgets.panels import Lines

Line = Content | str | tuple[str, str]
SIGNS = {"waiting": "·", "running": "●", "held": "‖", "done": "✓", "failed": "✗"}
STYLES = {"waiting": "$dim", "running": "$now", "held": "$now", "done": "$success",
          "failed": "$error"}  # fmt: skip
UP = ".."
NUMBERS_WIDTH = 23
EMPTY: tuple[Line, ...] = (
    ("Nothing is mined yet.", "bold"),
    "",
    "a      add the recording under the cursor, or all of a folder",
    "s      start: what fires goes into the queue",
    "enter  open a folder; o names another one",
    "8 m    mine the training streams of a run",
)
UNTRAINED: tuple[Line, ...] = (
    ("There is no detector yet.", "bold"),
    "",
    "Mining finds what a trained detector wrongly wakes on:",
    "2  go to Train, and start one there with s",
)


class MineScreen(Page):
    """Recordings of a folder on the left, those that are mined on the right, and the miner."""

    TITLE = "Mine"
    PANELS = "#files, #jobs, #empty, #miner"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "add", "Add", id="mine.add"),
        Binding("x", "remove", "Remove", id="mine.remove"),
        Binding("s", "start_stop", "Start/stop", id="mine.start"),
        Binding("p", "pause", "Pause", id="mine.pause"),
        Binding("o", "folder", "Folder", id="mine.folder"),
        Binding("d", "detector", "Detector", id="mine.detector"),
        Binding("backspace", "up", "Folder above", show=False, id="mine.up"),
    ]

    def body(self) -> Iterable[Widget]:
        """The panels."""
        yield Horizontal(
            Menu("files", id="files"),
            Vertical(
                Lines("jobs", id="empty"),
                Menu("jobs", id="jobs"),
                Lines("miner", id="miner"),
            ),
        )

    def on_mount(self) -> None:
        """Begin in the working directory."""
        self._folder = Path.cwd()
        self._told = ""
        self._open(self._folder)
        self.query_one("#files", Menu).focus()

    def on_screen_resume(self) -> None:
        """Look into the folder anew: recordings come and go."""
        if self._built:
            self._open(self._folder)

    @property
    def _miner(self) -> Miner:
        return self.desk.miner

    def copyable(self) -> str:
        """The recordings and how far they are."""
        return self.query_one("#jobs", Menu).text

    def paint(self) -> None:
        """Show rows and miner; a queue that cannot be read is told once."""
        try:
            rows = self._miner.rows()
        except WakewordError as error:
            if self._told != error.message:
                self._told = error.message
                self.house.complain(error.message, error.hint)
            rows = []
        self.set_class(not rows, "-empty")
        self.query_one("#empty", Lines).show(*(EMPTY if self._miner.detectors() else UNTRAINED))
        jobs = self.query_one("#jobs", Menu)
        jobs.border_title = "recording, done, found, time left or per hour"
        jobs.show([row_line(row, jobs.size.width) for row in rows])
        training = self.desk.training() is not None
        self.query_one("#miner", Lines).show(*miner_lines(self._miner, training=training))

    # The folder.

    def _open(self, folder: Path) -> None:
        folder = folder.absolute()
        try:
            lines = [entry_line(path, folder) for path in entries(folder)]
        except OSError as error:
            self.house.complain(f"cannot look into {folder}: {error.strerror}")
            return
        files = self.query_one("#files", Menu)
        files.border_title = f"{folder.name}/"
        files.show(lines)
        if folder != self._folder:
            self._folder = folder
            files.go_to(None)

    @on(Menu.OptionSelected, "#files")
    def _entered(self, event: Menu.OptionSelected) -> None:
        path = Path(event.option_id or UP)
        if path.is_dir():
            self._open(path)
        else:
            self._add(path)

    def action_up(self) -> None:
        """Look into the folder above."""
        self._open(self._folder.parent)

    @work(exclusive=True, group="folder")
    async def action_folder(self) -> None:
        """Look into a folder that is typed."""
        typed = await self.app.push_screen_wait(Ask("folder", str(self._folder)))
        if typed is not None:
            self._open(typed_path(typed))

    # The jobs.

    def action_add(self) -> None:
        """Put the recording under the cursor on the list, or all of the folder there."""
        name = self.query_one("#files", Menu).current
        if name is None or Path(name) == self._folder.parent:
            self.notify("move to a recording or a folder first", timeout=3)
            return
        self._add(Path(name))

    @work(group="add")
    async def _add(self, path: Path) -> None:
        """Look a folder through in a thread: it may be a whole disk."""
        try:
            found = await asyncio.to_thread(recordings, path) if path.is_dir() else [path]
        except OSError as error:
            self.house.complain(f"cannot look into {path}: {error.strerror}")
            return
        new = self._miner.add(found)
        self.notify(f"{count(new)} added" if found else "no recordings in it", timeout=2)
        self.paint()

    def action_remove(self) -> None:
        """Take the row under the cursor off the list; its finds stay."""
        name = self.query_one("#jobs", Menu).current
        if name is not None:
            with self.house.complaining():
                self._miner.remove(name)
                self.paint()

    def action_start_stop(self) -> None:
        """Mine what waits, or stop; nothing is lost, and the next start goes on."""
        job = self._miner.job
        if job is not None:
            job.control.stop()
            self.notify("stopping; the next start goes on", timeout=2)
            return
        with self.house.complaining():
            self._miner.start()

    def action_pause(self) -> None:
        """Hold the job, or let it go on."""
        job = self._miner.job
        if job is not None:
            job.control.resume() if job.control.paused else job.control.pause()

    @work(exclusive=True, group="detector")
    async def action_detector(self) -> None:
        """Choose the run that mines."""
        names = [run.name for run in self._miner.detectors()]
        if not names:
            self.notify("no run has a checkpoint yet", timeout=4)
            return
        chosen = await self.app.push_screen_wait(Pick("mine with", names))
        if chosen is not None:
            self._miner.chosen = chosen
            self.paint()


def is_recording(path: Path) -> bool:
    """Whether a file is audio by its name, and not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def entries(folder: Path) -> list[Path]:
    """The folder above, the folders in it, then its recordings; hidden ones are left out."""
    inside = sorted(folder.iterdir())
    folders = [path for path in inside if path.is_dir() and not path.name.startswith(".")]
    files = [path for path in inside if is_recording(path) and path.is_file()]
    return [folder.parent, *folders, *files]


def recordings(folder: Path) -> list[Path]:
    """The recordings of a folder and those below it."""
    return sorted(path for path in folder.rglob("*") if is_recording(path) and path.is_file())


def entry_line(path: Path, folder: Path) -> tuple[str, Content]:
    """A line of the browser; a file with its size."""
    if path == folder.parent:
        return str(path), Content.assemble((f"{UP}/", "$dim"))
    if path.is_dir():
        return str(path), Content.assemble((f"{path.name}/", "$primary"))
    return str(path), Content.assemble(path.name, (f"  {brief(path.stat().st_size)}B", "$dim"))


def row_line(row: MineRow, width: int) -> tuple[str, Content]:
    """A recording of the list: sign, name, a bar where there is room, and its numbers."""
    bar = 16 if width >= 70 else 6
    room = max(6, width - NUMBERS_WIDTH - bar - 4)
    name = row.path.name if len(row.path.name) <= room else f"…{row.path.name[1 - room :]}"
    full = round(bar * row.share)
    left = duration(row.eta_s) if row.eta_s is not None else ""
    left = f"{rate(row.per_hour)}/h" if row.per_hour is not None else left
    return row.name, Content.assemble(
        (f"{SIGNS[row.state]} ", STYLES[row.state]),
        f"{name:<{room}} ",
        ("━" * full, "$primary"),
        ("━" * (bar - full), "$grid"),
        f"{row.share:>5.0%}{row.found:>7}",
        (f"{left:>9}", "$dim"),
    )


def miner_lines(miner: Miner, *, training: bool) -> Sequence[Line]:
    """With what, how fast, and what has come of it."""
    detector, now = miner.detector(), miner.now()
    store = miner.live.store if miner.live is not None and miner.job is not None else None
    at = detector.name if detector is not None else "none: train one first"
    if now is not None and (level := miner.threshold()) is not None:
        at += f" at {level:.3f}"
    lines = [Content.assemble(("detector  ", "$dim"), at, ("   d chooses", "$dim"))]
    if now is not None:
        pace = f"{count(round(now.speed))}x real time, {now.speed / 3600:.2f} h/s"
        rest = ("   training goes first", "$dim") if training else ""
        lines.append(Content.assemble(("speed     ", "$dim"), pace, rest))
    elif store is not None:
        done, total, unit = store.done()
        far = f"{count(done)}/{count(total)} {unit}" if total else ""
        lines.append(Content.assemble(("now       ", "$dim"), f"{store.phase or 'starting'} {far}"))
    else:
        lines.append(Content.assemble(("last      ", "$dim"), miner.last or "-"))
    waiting = f"{count(miner.waiting)} to decide on"
    lines.append(Content.assemble(("queue     ", "$dim"), waiting))
    return lines
