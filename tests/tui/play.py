"""Plays a story on the app without a terminal, and reads the screen as text."""

import asyncio
import difflib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from engine.runs import EventLog, Workspace
from tests.tui.scripted import RECIPE, training
from wakeword_tui.app import WakewordApp
from wakeword_tui.store import Store
from wakeword_tui.verbs import Live

SMALL, LARGE = (80, 24), (120, 36)
Story = Callable[[WakewordApp, "Pilot[int]"], Awaitable[None]]


def play(
    workspace: Workspace, story: Story, size: tuple[int, int] = SMALL, **options: Any
) -> WakewordApp:
    """Open the app, let the story happen, stop every job."""
    app = WakewordApp(workspace, **options)

    async def open_and_play() -> None:
        async with app.run_test(size=size, notifications=True) as pilot:
            await pilot.pause()
            await story(app, pilot)
        app.desk.jobs.stop_all(10)
        if app.desk.live is not None:
            app.desk.live.drain()

    asyncio.run(open_and_play())
    return app


def screen(app: WakewordApp) -> str:
    """What is on the screen."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


async def see(app: WakewordApp, pilot: "Pilot[int]", *texts: str, within_s: float = 10.0) -> None:
    """Wait until all texts are on the screen."""
    for _ in range(int(within_s / 0.05)):
        if all(text in screen(app) for text in texts):
            return
        await pilot.pause(0.05)
    missing = [text for text in texts if text not in screen(app)]
    raise AssertionError(f"{missing} not in\n{screen(app)}")


def start(app: WakewordApp, **script: Any) -> Live:
    """Begin a scripted training in a new run."""
    run = app.desk.workspace.create(RECIPE)
    log = EventLog(run.events)
    live = Live(app.desk.jobs.start("train", training(**script), log), Store(), run, log)
    app.follow(live)
    return live


def same_as_file(text: str, path: Path) -> None:
    """Compare with a stored screen; a missing one is stored, to be looked at and committed."""
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    stored = path.read_text(encoding="utf-8").splitlines()
    assert text.splitlines() == stored, "\n".join(difflib.unified_diff(stored, text.splitlines()))
