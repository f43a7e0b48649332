"""The one export that this app makes, and exports in words. No widgets here."""

from collections.abc import Iterator
from pathlib import Path

from engine.events import ExportWritten
from engine.export_folder import Kind
from engine.jobs import Jobs
from engine.runs import Run
from wakeword_tui import verbs
from wakeword_tui.numbers import count, small
from wakeword_tui.verbs import Live


class Exporter:
    """Starts an export, says how far it is and how it ended."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.live: Live | None = None

    def start(self, run: Run, kind: Kind, out: Path | None) -> None:
        """Export a run; while one is exported, nothing happens."""
        if self.live is None:
            self.live = verbs.export_run(self.jobs, run, kind, out)

    def status(self) -> str:
        """How far it is, for the top bar; empty while nothing is exported."""
        return f"export{self.live.store.share}" if self.live is not None else ""

    def drain(self) -> Iterator[str]:
        """Tell once how it ended."""
        if self.live is None or self.live.drain():
            return
        store, self.live = self.live.store, None
        if store.failed is not None:
            yield f"{store.failed.message}\n{store.failed.hint}".rstrip()
        elif store.exported is not None:
            yield "\n".join(sentences(store.exported))
        else:
            yield f"export: {store.outcome}"


def sentences(done: ExportWritten) -> list[str]:
    """What was written, and what running it has shown."""
    flips = "no decision differs" if done.flips == 0 else f"{done.flips} decisions differ"
    return [
        f"{done.run} as {done.kind}, {done.kilobytes:.0f} kB: {done.folder}",
        f"run on {count(done.windows)} windows of validation: {flips} from the checkpoint, "
        f"scores by {small(done.largest_difference)} at most",
    ]
