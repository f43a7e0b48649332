"""Plays a story on the app without a terminal, and reads the screen as text."""

import asyncio
import difflib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.app import App
from textual.events import Key
from textual.pilot import Pilot

from engine.runs import EventLog, Workspace
from tests.tui.scripted import RECIPE, training
from tests.waiting import PATIENCE_S
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
            app.workers.cancel_all()  # as at every exit, before the screens are taken down
        app.desk.jobs.stop_all(10)
        if app.desk.live is not None:
            app.desk.live.drain()

    asyncio.run(open_and_play())
    return app


def screen(app: "App[Any]") -> str:
    """What is on the screen."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


async def until(
    pilot: "Pilot[int]",
    what: Callable[[], object],
    within_s: float = PATIENCE_S,
    else_say: Callable[[], str] = lambda: "",
) -> None:
    """Wait until something is so."""
    deadline_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline_s, f"{else_say()}\n{screen(pilot.app)}"
        await pilot.pause(0.02)


async def see(
    app: WakewordApp, pilot: "Pilot[int]", *texts: str, within_s: float = PATIENCE_S
) -> None:
    """Wait until all texts are on the screen."""

    def missing() -> list[str]:
        return [text for text in texts if text not in screen(app)]

    await until(pilot, lambda: not missing(), within_s, lambda: f"{missing()} not in")


async def gone(app: WakewordApp, pilot: "Pilot[int]", *texts: str) -> None:
    """Wait until none of the texts is on the screen."""

    def left() -> list[str]:
        return [text for text in texts if text in screen(app)]

    await until(pilot, lambda: not left(), else_say=lambda: f"{left()} still in")


def type_ahead(app: WakewordApp, *keys: str) -> None:
    """Send keys in one burst, as a slow link does: none waits for what the one before did."""
    for key in keys:
        app.post_message(Key(key, key if len(key) == 1 else None))


def start(app: WakewordApp, **script: Any) -> Live:
    """Begin a scripted training in a new run."""
    run = app.desk.workspace.create(RECIPE)
    job = app.desk.jobs.start("train", training(**script), lambda: EventLog(run.events))
    live = Live(job, Store(), run)
    app.follow(live)
    return live


async def same_as_file(
    pilot: "Pilot[int]", path: Path, shown: Callable[[str], str] = lambda text: text
) -> None:
    """Wait until a stored screen is shown; a missing one is stored, to be looked at and committed.

    `shown` is what is compared of the screen.
    """

    def lines() -> list[str]:
        return shown(screen(pilot.app)).splitlines()

    if not path.exists():
        await pilot.pause(0.5)
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines()) + "\n", encoding="utf-8")
    stored = path.read_text(encoding="utf-8").splitlines()
    await until(
        pilot,
        lambda: lines() == stored,
        else_say=lambda: "\n".join(difflib.unified_diff(stored, lines())),
    )
