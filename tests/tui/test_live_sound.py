"""Live with a real virtual microphone: a word is said, heard, called false, and is on Review."""

import asyncio

from test_listen import SOUND, word
from textual.pilot import Pilot
from tiny import seconds

from engine import audio
from engine.queue_store import QueueStore
from engine.runs import Workspace
from tests.card import Card, best_correlation
from tests.tui.play import LARGE, play, see, until
from wakeword_tui.app import WakewordApp
from wakeword_tui.config import Config


def test_a_word_said_into_the_microphone_gets_to_review(card: Card, trained: Workspace) -> None:
    """Silence may fire too, at the start; 2 s of hiss arm the detector again for the word."""

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("6", "s")
        await see(app, pilot, "listening for beep", "16 kHz")
        hearing = app.desk.listener.hearing
        assert hearing is not None
        await pilot.pause(1.0)
        before = hearing.detections
        await asyncio.to_thread(card.say, SOUND[: seconds(4.5)])
        await until(pilot, lambda: hearing.detections > before)
        newest = hearing.fired[0].heard.at_s
        await until(pilot, lambda: hearing.recent.heard_s > newest + 2)
        await pilot.press("g", "f")
        await see(app, pilot, "1 false", "queued")
        assert hearing.now is not None
        assert hearing.now.dropped == 0
        await pilot.press("s", "5")
        await see(app, pilot, "by listening", "fired")

    play(trained, story, LARGE, config=Config(audio="microphone"))
    store = QueueStore(trained.queue)
    (item,) = store.items(store.ids())
    store.close()
    kept, beep = audio.read(item.find.path), word(0)[seconds(0.2) : seconds(0.6)]
    assert best_correlation(kept, beep) > 0.95


def test_a_server_that_dies_is_told_and_listening_goes_on_with_the_next(
    card: Card, trained: Workspace
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("6", "s")
        await see(app, pilot, "listening for beep")
        await asyncio.to_thread(card.die)
        await see(app, pilot, "✗ lost")
        await asyncio.to_thread(card.begin)
        await see(app, pilot, "listening for beep")
        assert app.desk.listener.job is not None

    play(trained, story, LARGE, config=Config(audio="microphone"))
