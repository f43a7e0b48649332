"""A virtual sound card: a PulseAudio server of the test's own, its loudspeaker and microphone."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.audio import SAMPLE_RATE, Waveform, to_int16

MODULES = """.fail
load-module module-native-protocol-unix auth-anonymous=1 socket={folder}/native
load-module module-native-protocol-tcp auth-anonymous=1 listen=127.0.0.1 port={port}
load-module module-null-sink sink_name=speaker rate=16000 channels=1 format=s16le
load-module module-null-sink sink_name=mouth rate=16000 channels=1 format=s16le
load-module module-remap-source source_name=microphone master=mouth.monitor
set-default-sink speaker
set-default-source microphone
"""
SERVER = [
    "pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no",
    "--disable-shm=yes", "--realtime=no", "--high-priority=no", "--log-target=stderr", "-F",
]  # fmt: skip
FEEDER = "pacat -d mouth --rate=16000 --channels=1 --format=s16le"
SILENCE = np.zeros(8000, dtype=np.float32)
RECORDER = "parec -d speaker.monitor --rate=16000 --channels=1 --format=s16le --latency-msec=20"


class Card:
    """A sound card that can be listened to and spoken to, and whose server can die or hang."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:{folder}/native"
        self._home = {"HOME": str(folder), "PULSE_STATE_PATH": str(folder)}
        self._home |= {"PULSE_RUNTIME_PATH": str(folder)}
        self._folder = folder
        self.heard = b""
        port = free_port()
        self.tcp = f"tcp:127.0.0.1:{port}"
        (folder / "default.pa").write_text(MODULES.format(folder=folder, port=port))
        self.begin()

    def begin(self) -> None:
        """Start the server, and listen."""
        with (self._folder / "log").open("ab") as log:
            self.server = subprocess.Popen(
                [*SERVER, str(self._folder / "default.pa")],
                env=os.environ | self._home, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 10
        while not (self._folder / "native").exists():
            assert self.server.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self._recorder = subprocess.Popen(
            RECORDER.split(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=os.environ | self._home | {"PULSE_SERVER": self.address},
        )  # fmt: skip
        threading.Thread(target=self._listen, args=(self._recorder,), daemon=True).start()

    def _listen(self, recorder: "subprocess.Popen[bytes]") -> None:
        assert recorder.stdout is not None
        with recorder.stdout as pipe:
            while block := os.read(pipe.fileno(), 640):
                self.heard += block

    def waveform(self) -> Waveform:
        """Everything that was heard so far `(N,)`."""
        whole = self.heard[: len(self.heard) // 2 * 2]
        return np.frombuffer(whole, dtype=np.int16).astype(np.float32) / 32768

    def say(self, clip: Waveform) -> None:
        """Speak a clip `(N,)` into the microphone, to its end, with half a second around it."""
        samples = to_int16(np.concatenate([SILENCE, clip, SILENCE]))
        subprocess.run(
            FEEDER.split(), input=samples.tobytes(), check=True, timeout=60,
            env=os.environ | self._home | {"PULSE_SERVER": self.address},
        )  # fmt: skip

    def hang(self) -> None:
        """Let the server stop answering."""
        self.server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a server that hangs answer again."""
        self.server.send_signal(signal.SIGCONT)

    def die(self) -> None:
        """End the server and the listener."""
        for process in (self._recorder, self.server):
            process.kill()
            process.wait()
        (self._folder / "native").unlink(missing_ok=True)


def free_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


def best_correlation(heard: Waveform, clip: Waveform) -> float:
    """The correlation of a clip `(N,)` with the stretch of `(M,)` that is most like it."""
    size = len(heard) + len(clip)
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(clip, size))
    products = np.fft.irfft(spectrum, size)[: len(heard) - len(clip) + 1]
    powers = np.concatenate([[0.0], np.cumsum(heard.astype(np.float64) ** 2)])
    power = powers[len(clip) :] - powers[: -len(clip)]
    return float(np.max(products / np.sqrt(np.maximum(power, 1e-9) * np.sum(clip**2))))


def chirp(length_s: float = 1.5, low_hz: float = 200.0, high_hz: float = 3000.0) -> Waveform:
    """A tone that climbs: no two places of it are alike."""
    t = np.arange(round(length_s * SAMPLE_RATE)) / SAMPLE_RATE
    turns = low_hz * t + (high_hz - low_hz) / (2 * length_s) * t**2
    return (0.5 * np.sin(2 * np.pi * turns)).astype(np.float32)


@contextlib.contextmanager
def sound_card(folder: Path) -> Iterator[Card]:
    """Have a card while the context lasts; skips where there is no PulseAudio."""
    if shutil.which("pulseaudio") is None or shutil.which("parec") is None:
        pytest.skip("there is no pulseaudio here")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    card = Card(folder)
    try:
        yield card
    finally:
        card.die()
