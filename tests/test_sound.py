"""What is put on, what is heard on a virtual sound card, and what happens when there is none."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from card import Card, best_correlation, chirp
from hypothesis import given
from hypothesis import strategies as st
from tiny import tone
from waiting import until

from engine.audio import SAMPLE_RATE
from engine.errors import DeviceError
from engine.sound import Deck, Player, output_name

RAMP = (np.arange(8) / 8).astype(np.float32)


def taken(deck: Deck, count: int) -> list[float]:
    out = np.full(count, 9.0, dtype=np.float32)
    deck.take(out)
    return [round(8 * float(value), 3) for value in out]


def test_a_deck_hands_out_a_clip_and_then_silence() -> None:
    deck = Deck(RAMP, 0.0, 1.0, loop=False, rate=SAMPLE_RATE)
    assert taken(deck, 5) == [0, 1, 2, 3, 4]
    assert deck.position_s == 5 / SAMPLE_RATE
    assert taken(deck, 5) == [5, 6, 7, 0, 0]
    assert deck.ended


def test_a_deck_that_loops_begins_again() -> None:
    deck = Deck(RAMP[:3], 1 / SAMPLE_RATE, 1.0, loop=True, rate=SAMPLE_RATE)
    assert taken(deck, 7) == [1, 2, 0, 1, 2, 0, 1]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 40), st.booleans())
def test_what_a_deck_hands_out_does_not_depend_on_the_blocks(
    blocks: list[int], length: int, loop: bool
) -> None:
    clip = np.arange(1, length + 1, dtype=np.float32)
    deck = Deck(clip, 0.0, 1.0, loop=loop, rate=SAMPLE_RATE)
    out = np.concatenate([np.empty(size, dtype=np.float32) for size in blocks])
    for part in np.split(out, np.cumsum(blocks)[:-1]):
        deck.take(part)
    place = np.arange(len(out))
    expected = clip[place % length] if loop else np.where(place < length, place + 1, 0)
    assert np.array_equal(out, expected)


def test_a_deck_that_stands_is_silent() -> None:
    deck = Deck(RAMP, 0.0, 1.0, loop=False, rate=SAMPLE_RATE)
    deck.moving = False
    assert taken(deck, 2) == [0, 0]
    assert deck.position_s == 0


def test_an_empty_clip_ends_at_once() -> None:
    assert taken(Deck(RAMP[:0], 0.0, 1.0, loop=True, rate=SAMPLE_RATE), 2) == [0, 0]


@pytest.mark.parametrize(("speed", "rate"), [(0.5, 16_000), (1.0, 48_000), (0.5, 44_100)])
def test_speed_and_rate_change_how_many_samples_a_second_takes(speed: float, rate: int) -> None:
    deck = Deck(tone(440, 1.0), 0.25, speed, loop=False, rate=rate)
    deck.skip(round(0.5 * rate))  # half a second of listening
    assert abs(deck.position_s - (0.25 + 0.5 * speed)) < 1e-4


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Player]:
    """A player on a machine without PortAudio."""
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    player = Player()
    player.start()
    until(lambda: player.trouble == "PortAudio is not installed")
    yield player
    player.close()


def test_without_portaudio_the_playhead_moves_with_the_clock(silent: Player) -> None:
    began = time.monotonic()
    silent.play(tone(440, 0.3))
    assert silent.playing
    time.sleep(0.1)
    position_s = silent.position_s
    assert 0.1 <= position_s <= time.monotonic() - began
    until(lambda: not silent.playing)
    assert silent.position_s == 0.3


def test_stop_seek_and_half_speed_without_sound(silent: Player) -> None:
    silent.play(tone(440, 5.0), at_s=1.0)
    silent.stop()
    stopped_s = silent.position_s
    time.sleep(0.05)
    assert silent.position_s == stopped_s >= 1.0
    silent.seek(2.0)
    assert (silent.position_s, silent.playing) == (2.0, False)
    silent.turn(speed=0.5)
    silent.play(tone(440, 5.0))
    began = time.monotonic()
    time.sleep(0.2)
    assert 0.09 < silent.position_s <= (time.monotonic() - began) / 2 + 0.02


def test_a_loop_goes_on(silent: Player) -> None:
    silent.turn(loop=True)
    silent.play(tone(440, 0.05))
    time.sleep(0.2)
    assert silent.playing


def test_the_library_without_a_device_is_silent_too(tmp_path: Path) -> None:
    """In a fresh process: PortAudio lists the devices once."""
    code = """if True:
        import time
        from engine.sound import Player
        player = Player()
        player.start()
        while player.trouble.startswith("opening"):
            time.sleep(0.01)
        print(player.trouble)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={"PULSE_SERVER": f"unix:{tmp_path}/none", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("there is no sound device", "PortAudio is not installed")


BROKEN = """class PortAudioError(Exception):
    pass

def _exit_handler(): pass
def _terminate(): raise PortAudioError("not begun")
def _initialize(): raise PortAudioError("no host [PaErrorCode -9999]")
def query_devices(kind): return {"name": "card", "default_samplerate": 44100.0}

class OutputStream:
    left_open = 0
    def __init__(self, **options): OutputStream.left_open += 1
    def start(self): raise PortAudioError("busy")
    def close(self): OutputStream.left_open -= 1
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a PortAudio that refuses whatever it is asked, but not to be imported."""
    monkeypatch.setitem(sys.modules, "sounddevice", None)  # what is there comes back afterwards
    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("atexit.unregister", lambda _: None)
    (tmp_path / "sounddevice.py").write_text(BROKEN)
    return tmp_path / "sounddevice.py"


def test_a_portaudio_that_cannot_begin_is_a_sentence(broken: Path) -> None:
    broken.write_text(BROKEN + "\n_initialize()\n")
    with pytest.raises(DeviceError, match=r"PortAudio cannot begin: no host\n"):
        output_name()


def test_a_stream_that_does_not_start_is_closed_and_looked_for_again(broken: Path) -> None:
    player = Player()
    player._open()
    assert player.trouble == "card: busy"
    assert sys.modules["sounddevice"].OutputStream.left_open == 0
    player._open()
    assert player.trouble == "PortAudio cannot begin: no host"


def test_a_clip_put_on_while_a_stream_of_another_rate_takes_over_stays(silent: Player) -> None:
    """The other clip, five minutes, takes a while to resample."""
    clip = tone(440, 0.5)
    silent.load(tone(220, 300.0))
    opener = threading.Thread(target=silent._take_over, args=(None, 44_100))
    opener.start()
    time.sleep(0.02)
    silent.load(clip)
    opener.join()
    assert silent._deck is not None
    assert silent._deck.clip is clip
    assert silent._rate == 44_100


@pytest.fixture
def player(card: Card) -> Iterator[Player]:
    """A player that is heard."""
    player = Player()
    player.start()
    until(lambda: player.trouble == "")
    yield player
    player.close()


def heard(card: Card, player: Player) -> float:
    """Play the chirp; how like it was what the loudspeaker played."""
    player.play(chirp())
    until(lambda: not player.playing)
    time.sleep(0.3)
    return best_correlation(card.waveform(), chirp())


def test_what_is_heard_is_the_clip(card: Card, player: Player) -> None:
    time.sleep(2.0)  # a null sink swallows the first seconds at once
    assert heard(card, player) >= 0.95


def test_the_volume_is_heard(card: Card, player: Player) -> None:
    time.sleep(2.0)
    player.volume = 0.1
    heard(card, player)
    assert 0.04 < np.abs(card.waveform()).max() < 0.06


@pytest.mark.parametrize("end", [Card.die, Card.hang])
def test_a_server_that_dies_or_hangs_leaves_a_silent_player(
    card: Card, player: Player, end: Callable[[Card], None]
) -> None:
    player.play(tone(440, 30.0))
    time.sleep(2.0)
    end(card)
    until(lambda: player.watch() or player.trouble == "the sound server has gone")
    before_s = player.position_s
    time.sleep(0.1)
    assert player.playing
    assert player.position_s > before_s


def test_a_server_that_comes_back_is_heard_again(
    card: Card, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    card.die()
    until(lambda: player.watch() or player.trouble != "")
    card.begin()
    monkeypatch.setattr("engine.sound.AGAIN_S", 0.0)
    until(lambda: player.play(tone(440, 1.0)) or player.trouble == "")
    time.sleep(2.0)
    card.heard = b""
    assert heard(card, player) >= 0.95
