"""Leaving: what is asked before the app ends."""

from engine.jobs import Jobs
from wakeword_tui.screens.dialogs import Choice

MINE = "mine"
"""The job that is gone on with where it was."""


def edits() -> Choice:
    """About what was typed in Setup."""
    return Choice("the recipe has unsaved edits", [("d", "discard them"), ("c", "cancel")])


def training() -> Choice:
    """About the job that holds the GPU."""
    answers = [
        ("s", "stop, save a checkpoint, and quit"),
        ("k", "keep running without the window"),
        ("c", "cancel"),
    ]
    return Choice("a job is running", answers)


def beside(jobs: Jobs) -> Choice | None:
    """About what is done in the background and would come to its end; None where nothing is."""
    names = [job.name for job in jobs.background if job.alive and not job.endless]
    if not names:
        return None
    fate = "it begins anew next time"
    if names == [MINE]:
        fate = "the recording goes on next time"
    elif MINE in names:
        fate = "all but mining begins anew"
    stop = "s", f"stop and quit; {fate}"
    return Choice(f"under way: {', '.join(names)}", [stop, ("c", "cancel")])
