"""Following: a run that another process trains, read along from its event file. Writes nothing."""

import os
from dataclasses import dataclass, field

from engine.events import from_line
from engine.lock import Holder
from engine.runs import Run, Workspace
from wakeword_tui.store import Store


@dataclass(slots=True)
class Followed:
    """A run of another process; its `store` grows as the event file does."""

    holder: Holder
    run: Run
    store: Store = field(default_factory=Store)
    _inode: int = 0
    _read_bytes: int = 0

    def read(self) -> None:
        """Take in what was written since the last call.

        A file that was replaced or cut, as a resume does, is read anew into another store.
        """
        try:
            file = self.run.events.open("rb")
        except OSError:  # it was pruned, or is another account's
            return
        with file:
            inode = os.fstat(file.fileno()).st_ino
            if inode != self._inode or file.seek(0, os.SEEK_END) < self._read_bytes:
                self.store, self._inode, self._read_bytes = Store(), inode, 0
            file.seek(self._read_bytes)
            whole, line_end, _ = file.read().rpartition(b"\n")  # the last line may grow still
        self._read_bytes += len(whole) + len(line_end)
        for line in whole.decode(errors="replace").split("\n"):
            if (record := from_line(line)) is not None:
                self.store.apply(record)

    def sentence(self) -> str:
        """That there is such a process, and how to end it."""
        command = Workspace(self.run.path.parent.parent).command("runs", "stop")
        return (
            f"{self.holder} trains {self.run.name} here: this window only looks on; "
            f"`{command}` ends it after a checkpoint"
        )

    def ended(self) -> str:
        """How it ended, as far as it told."""
        return f"{self.run.name}: {self.store.outcome or f'{self.holder} is gone'}"


def followed(workspace: Workspace, known: Followed | None) -> Followed | None:
    """What another process that holds a workspace trains now; a search goes from run to run."""
    holder = workspace.holder()
    if holder is None or holder.ours:
        return None
    run = workspace.training()
    if run is None or (known is not None and known.run == run):
        return known
    return Followed(holder, run)
