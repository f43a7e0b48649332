"""A real virtual microphone: what is said into it, a server that dies, hangs and comes back."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from card import Card, best_correlation, chirp
from tiny import tone
from waiting import until

from engine import portaudio
from engine.audio import SAMPLE_RATE, Waveform
from engine.microphone import open_source
from engine.sound import Player
from engine.source import Source, SourceHealth


def reaches(source: Source, state: str) -> SourceHealth:
    """Wait for a state, taking what comes meanwhile."""
    until(lambda: len(source.take(0.02)) * 0 or source.health.state == state)
    return source.health


class Ear:
    """Takes what a source gives, in a thread."""

    def __init__(self, source: Source) -> None:
        self.parts: list[Waveform] = []
        self._source, self._done = source, threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._done.is_set():
            self.parts.append(self._source.take(0.1))

    def heard(self) -> Waveform:
        self._done.set()
        self._thread.join()
        return np.concatenate(self.parts)


@pytest.fixture
def source(card: Card) -> Iterator[Source]:
    """An open microphone."""
    source = open_source("microphone")
    source.start()
    reaches(source, "open")
    yield source
    source.close()


def said(card: Card, source: Source) -> float:
    """Say the chirp; how like it is what the source gives."""
    ear = Ear(source)
    card.say(chirp())
    time.sleep(1.0)
    return best_correlation(ear.heard(), chirp())


def test_what_is_said_is_heard(card: Card, source: Source) -> None:
    assert said(card, source) >= 0.95
    health = source.health
    assert (health.state, health.dropped) == ("open", 0)
    assert health.line.endswith("16 kHz")
    assert health.latency_ms is not None
    assert 0 < health.latency_ms < 500


def test_a_microphone_behind_a_tcp_server_is_heard(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PULSE_SERVER says, when a laptop's sound server is forwarded through SSH."""
    monkeypatch.setenv("PULSE_SERVER", card.tcp)
    source = open_source("auto")
    source.start()
    reaches(source, "open")
    assert card.tcp in source.health.line
    assert said(card, source) >= 0.95
    source.close()


@pytest.mark.parametrize("played", [False, True], ids=["alone", "beside a player"])
def test_a_server_that_dies_is_told_and_heard_again_when_it_is_back(
    card: Card, source: Source, played: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    player = Player()
    if played:  # its dead stream stays open until somebody watches
        player.start()
        until(lambda: player.trouble == "")
    card.die()
    assert "gone" in reaches(source, "lost").line
    card.begin()
    reaches(source, "open")
    assert said(card, source) >= 0.95
    assert "Traceback" not in capfd.readouterr().err
    player.close()


def test_a_server_that_hangs_is_told_and_not_waited_for(card: Card, source: Source) -> None:
    card.hang()
    reaches(source, "lost")
    card.go_on()
    reaches(source, "open")
    card.hang()
    began_s = time.monotonic()
    source.close()
    assert time.monotonic() - began_s < 2.0
    assert source.health.state == "ended"
    card.go_on()


def test_looking_for_devices_ends_no_stream(card: Card, source: Source) -> None:
    player = Player()
    player.start()
    until(lambda: player.trouble == "")
    portaudio.look_again()
    assert said(card, source) >= 0.95
    player.play(chirp())
    until(lambda: not player.playing)
    time.sleep(0.5)
    assert best_correlation(card.waveform(), chirp()) >= 0.95
    player.close()


def test_a_microphone_goes_by_a_part_of_its_name(card: Card) -> None:
    source = open_source("microphone:PULS")
    source.start()
    assert reaches(source, "open").line.startswith("pulse at unix:")
    source.close()


def test_a_microphone_that_is_not_there_is_told_with_those_that_are(card: Card) -> None:
    source = open_source("microphone:studio")
    source.start()
    health = reaches(source, "lost")
    assert health.line == "there is no input device 'studio'"
    assert health.hint == "there are: pulse, default"
    source.close()


def test_without_portaudio_a_microphone_is_told_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    source = open_source("microphone")
    source.start()
    health = reaches(source, "lost")
    assert health.line == "PortAudio is not installed"
    assert "libportaudio2" in health.hint
    source.close()


def test_without_a_device_the_pipe_is_waited_for(tmp_path: Path) -> None:
    """In a fresh process: PortAudio lists the devices once."""
    code = """if True:
        import time
        from engine.microphone import open_source
        source = open_source()
        source.start()
        while source.health.line == "looking for a microphone":
            time.sleep(0.01)
        print(source.health.line, source.health.hint, sep="\\n")
        source.close()
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={"PULSE_SERVER": f"unix:{tmp_path}/none", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    line, hint = done.stdout.splitlines()
    no_microphone = f"there is no microphone at PULSE_SERVER=unix:{tmp_path}/none"
    assert line == f"{no_microphone}; waiting for mic-pipe"
    assert hint.startswith("on the laptop: arecord -q -f S16_LE -r 16000 -c 1 -t raw | ssh ")
    assert hint.endswith("wakeword-tui mic-pipe")


STEREO = """import threading, time
import numpy as np

class PortAudioError(Exception): pass
def _exit_handler(): pass
DEVICE = {"name": "card", "index": 0, "default_samplerate": 48000.0, "max_input_channels": 2}
def query_devices(kind): return DEVICE

class InputStream:
    latency = 0.02
    def __init__(self, callback, samplerate, channels, blocksize, **options):
        if (samplerate, channels) != (48000, 2): raise PortAudioError("Invalid sample rate [-9]")
        self.callback, self.size = callback, blocksize
    def start(self): threading.Thread(target=self.run, daemon=True).start()
    def run(self):
        status = type("Status", (), {"input_overflow": False})
        for n in range(50):
            t = np.arange(n * self.size, (n + 1) * self.size) / 48000
            left = (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
            self.callback(np.stack([left, 0 * left], axis=1), self.size, None, status)
            time.sleep(0.01)
        time.sleep(60)
    def abort(self): pass
    def close(self): pass
"""


def use(folder: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """Have a library of that text in place of sounddevice."""
    monkeypatch.setitem(sys.modules, "sounddevice", None)  # what is there comes back afterwards
    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr("atexit.unregister", lambda _: None)
    (folder / "sounddevice.py").write_text(library)


def test_a_card_that_insists_on_its_rate_and_two_channels_is_heard_at_16_khz(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second of a tone, in 50 blocks of 20 ms; the filter holds back some."""
    use(tmp_path, monkeypatch, STEREO)
    source = open_source("microphone")
    ear = Ear(source)
    source.start()
    until(lambda: source.health.line == "card, 48 kHz")
    time.sleep(1.0)
    heard = ear.heard()
    source.close()
    assert 0.98 * SAMPLE_RATE < len(heard) <= SAMPLE_RATE
    assert np.abs(heard - tone(440, 1.0)[: len(heard)])[100:].max() < 0.01


def test_a_card_that_refuses_is_told_by_name_with_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(tmp_path, monkeypatch, STEREO.replace("(48000, 2)", "(8000, 8)"))
    source = open_source("microphone")
    source.start()
    health = reaches(source, "lost")
    assert health.line == "card: Invalid sample rate"
    assert health.hint.startswith("with --audio pipe, on the laptop: arecord ")
    source.close()
