"""Review on a virtual sound card: what is heard, and a server that dies under a clip."""

import asyncio
import sys
import time
from pathlib import Path

import pytest
from textual.events import Key
from textual.pilot import Pilot

from engine import audio
from engine.runs import Workspace
from tests.card import Card, best_correlation
from tests.tui.play import play, screen, see, until
from tests.tui.scripted import SWEEP_S, queue_at
from wakeword_tui.app import WakewordApp
from wakeword_tui.config import Config
from wakeword_tui.widgets.clip import ClipPanel

TAKES = 20
SOON_S = 0.05


async def audible(app: WakewordApp, pilot: "Pilot[int]") -> ClipPanel:
    """Open Review with the sound on; a null sink swallows its first seconds at once."""
    await pilot.press("5")
    await see(app, pilot, "@ 0:02.5")
    panel = app.screen.query_one(ClipPanel)
    await until(pilot, lambda: panel.player.trouble == "" and "silent" not in screen(app))
    await pilot.pause(2.5)
    return panel


def test_items_are_heard_one_after_the_other(
    workspace: Workspace, tmp_path: Path, card: Card
) -> None:
    queue_at(workspace, tmp_path).close()

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await audible(app, pilot)
        await pilot.press("space")
        await pilot.pause(SWEEP_S + 0.5)
        await pilot.press("c")
        await pilot.pause(SWEEP_S + 0.5)

    play(workspace, story)
    for start_s in (0.5, 3.5):
        clip = audio.stretch(tmp_path / "crowd_0431.wav", start_s, start_s + SWEEP_S)
        assert best_correlation(card.waveform(), clip) >= 0.95


def test_a_server_that_dies_under_a_clip_leaves_the_screen_working(
    workspace: Workspace, tmp_path: Path, card: Card
) -> None:
    store = queue_at(workspace, tmp_path)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        panel = await audible(app, pilot)
        await pilot.press("space")
        await pilot.pause(0.5)
        card.die()
        await see(app, pilot, "silent: the sound server has gone")
        await pilot.press("c", "d", "r")
        before_s = panel.player.position_s
        await pilot.pause(0.2)
        assert panel.player.position_s > before_s
        await see(app, pilot, "✓ 0.900", "✗ 0.880")

    play(workspace, story)
    assert [item.decision for item in store.items([1, 2])] == ["confirmed", "discarded"]
    store.close()


def test_without_sound_the_log_says_what_to_type_on_the_laptop(
    workspace: Workspace, tmp_path: Path
) -> None:
    queue_at(workspace, tmp_path).close()

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("5")
        await see(app, pilot, "silent: waiting for speaker-pipe")
        await pilot.press("9")
        await see(app, pilot, "on the laptop: ssh ", "speaker-pipe | aplay")

    play(workspace, story, config=Config(audio="pipe"), size=(240, 36))


@pytest.mark.bench
def test_a_decision_while_a_clip_plays_takes_effect_at_once(
    workspace: Workspace, tmp_path: Path, card: Card
) -> None:
    """From the key to the first sample of the next clip that the sound server is given."""
    store, taken_s = queue_at(workspace, tmp_path), list[float]()

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        panel = await audible(app, pilot)
        for _ in range(TAKES):
            await pilot.press("space")
            await pilot.pause(0.3)
            before, began_s = panel.player._deck, time.perf_counter()
            app.post_message(Key("c", "c"))
            while panel.player._deck is before or panel.player.position_s == 0.0:
                assert time.perf_counter() - began_s < 1.0
                await asyncio.sleep(0.0005)
            taken_s.append(time.perf_counter() - began_s)
            await pilot.press("u")
            await pilot.pause(0.3)

    play(workspace, story)
    store.close()
    sys.stdout.write(f"\nkey to sound: {sorted(round(1000 * s) for s in taken_s)} ms\n")
    assert sorted(taken_s)[int(0.95 * TAKES) - 1] < SOON_S
