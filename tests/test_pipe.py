"""Sound through sockets, with the real commands at their other ends."""

import contextlib
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from card import Card, best_correlation, chirp
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tone
from waiting import until

from engine import laptop
from engine.audio import Waveform, to_int16
from engine.errors import DeviceError
from engine.microphone import open_source
from engine.pipe import Door, PipeSource, Samples
from engine.sound import Player

ANOTHER = "another wakeword-tui has the mic pipe"
CLIP = to_int16(chirp()).tobytes()


def pipe(way: str, **options: object) -> "subprocess.Popen[bytes]":
    """A real `mic-pipe` or `speaker-pipe`."""
    return subprocess.Popen(
        [sys.executable, "-m", "wakeword_tui", f"{way}-pipe"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # type: ignore[call-overload, no-any-return]  # fmt: skip


def send(process: "subprocess.Popen[bytes]", data: bytes, size: int = 640) -> None:
    """Write in blocks, eight times as fast as a microphone does."""
    assert process.stdin is not None
    for start in range(0, len(data), size):
        process.stdin.write(data[start : start + size])
        process.stdin.flush()
        time.sleep(size / 32000 / 8)


def taken(source: PipeSource, samples: int) -> Waveform:
    """Take until there are so many."""
    parts = [source.take(0.0)]
    until(lambda: parts.append(source.take(0.1)) or sum(map(len, parts)) >= samples)
    return np.concatenate(parts)


def has_ended(process: "subprocess.Popen[bytes]", data: bytes) -> bool:
    """Whether it has, although it was given something."""
    with contextlib.suppress(BrokenPipeError):
        send(process, data)
    return process.poll() is not None


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    """The exit code, and what was written to stderr."""
    with process:
        assert process.stdin is not None
        assert process.stderr is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        told = process.stderr.read().decode()
    return process.returncode, told


@pytest.fixture
def source(runtime: Path) -> Iterator[PipeSource]:
    """A source that listens."""
    source = open_source("pipe")
    assert isinstance(source, PipeSource)
    source.start()
    until((runtime / "wakeword" / "mic.sock").exists)
    time.sleep(0.1)
    yield source
    source.close()


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_any_bytes_in_any_blocks_are_the_same_samples(data: bytes, cuts: list[int]) -> None:
    """Half a sample waits for its other half; at the end it is lost."""
    samples, places = Samples(), [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [samples.push(data[start:end]) for start, end in pairwise(places)]
    whole = np.frombuffer(data[: len(data) // 2 * 2], dtype="<i2") / 32768
    assert np.array_equal(np.concatenate(parts), whole)


@settings(max_examples=10)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_what_a_pipe_delivers_does_not_depend_on_the_blocks(sizes: list[int], seed: int) -> None:
    """Any bytes; at most 1.5 s, which a ring holds."""
    data = np.random.default_rng(seed).bytes(min(sum(sizes), 48_000) // 2 * 2)
    source = PipeSource()
    source.start()
    until(lambda: laptop.socket_path("mic").exists())
    with socket.socket(socket.AF_UNIX) as peer:
        until(lambda: peer.connect_ex(str(laptop.socket_path("mic"))) == 0)
        for start, end in pairwise([0, *np.cumsum(sizes)]):
            peer.sendall(data[start:end])
        heard = taken(source, len(data) // 2)
    source.close()
    assert np.array_equal(heard, np.frombuffer(data, dtype="<i2").astype(np.float32) / 32768)


def test_what_is_fed_is_heard(source: PipeSource) -> None:
    assert source.health.state == "connecting"
    feeder = pipe("mic")
    send(feeder, CLIP)
    heard = taken(source, len(CLIP) // 2)
    assert np.array_equal(to_int16(heard * np.float32(32768 / 32767)), np.frombuffer(CLIP, "<i2"))
    assert (source.health.state, source.health.dropped) == ("open", 0)
    assert ended(feeder) == (0, "the app listens\n")


def test_half_a_sample_waits_for_the_next_block(source: PipeSource) -> None:
    feeder = pipe("mic")
    send(feeder, b"\x00", 1)
    send(feeder, b"\x40\x00", 2)
    send(feeder, b"\xc0", 1)
    assert taken(source, 2).tolist() == [0.5, -0.5]
    feeder.kill()
    ended(feeder)


def test_a_peer_that_goes_is_told_and_the_next_one_is_heard(source: PipeSource) -> None:
    feeder = pipe("mic")
    send(feeder, CLIP)
    taken(source, len(CLIP) // 2)
    feeder.kill()
    until(lambda: source.health.state == "lost")
    assert source.health.line == "mic-pipe has gone; it is waited for"
    assert source.health.hint.startswith("on the laptop: arecord ")
    ended(feeder)
    another = pipe("mic")
    send(another, CLIP)
    assert len(taken(source, len(CLIP) // 2)) == len(CLIP) // 2
    ended(another)


def test_a_peer_that_falls_silent_is_told_and_another_takes_its_place(source: PipeSource) -> None:
    silent = pipe("mic")
    send(silent, CLIP[:640])
    until(lambda: source.health.line == "mic-pipe is there and sends nothing")
    another = pipe("mic")
    send(another, CLIP)
    assert len(taken(source, 320 + len(CLIP) // 2)) == 320 + len(CLIP) // 2
    ended(another)
    with contextlib.suppress(BrokenPipeError):  # the first block tells it, and it may end at once
        send(silent, CLIP[:1280])
    assert ended(silent) == (1, "the app listens\nerror: another mic-pipe feeds the app now\n")


def test_another_rate_than_16_khz_is_told(source: PipeSource) -> None:
    """Eight times as fast as a microphone gives them."""
    feeder = pipe("mic")
    until(lambda: send(feeder, CLIP[:640]) or "times" in source.health.line)
    assert source.health.line.endswith("times the samples of 16 kHz mono")
    assert "arecord" in source.health.hint
    ended(feeder)


def test_a_second_peer_is_told_that_there_is_one(source: PipeSource) -> None:
    feeder = pipe("mic")
    until(lambda: send(feeder, CLIP[:640]) or source.health.state == "open")
    second = pipe("mic")
    until(lambda: send(feeder, CLIP[:640]) or has_ended(second, CLIP[:640]))
    code, told = ended(second)
    assert (code, told.splitlines()[-1]) == (1, "error: another mic-pipe feeds the app already")
    ended(feeder)


def test_mic_pipe_waits_for_the_app_and_then_feeds_it(runtime: Path) -> None:
    feeder = pipe("mic")
    assert feeder.stderr is not None
    send(feeder, CLIP[:641])
    assert feeder.stderr.readline().decode().startswith("no app is here yet: start the app")
    source = PipeSource()
    source.start()
    until((runtime / "wakeword" / "mic.sock").exists)
    time.sleep(1.1)
    send(feeder, CLIP[641:])
    heard = taken(source, len(CLIP) // 2 - 320)
    assert np.abs(heard - np.frombuffer(CLIP, "<i2")[320:] / 32768).max() < 1e-6
    source.close()
    send(feeder, CLIP[:1280])
    told = ended(feeder)
    assert told == (0, "the app listens\nthe app has stopped listening; waiting for it\n")


def test_mic_pipe_ends_quietly_on_a_signal(source: PipeSource) -> None:
    feeder = pipe("mic")
    send(feeder, CLIP[:640])
    until(lambda: send(feeder, CLIP[:640]) or source.health.state == "open")
    feeder.send_signal(signal.SIGTERM)
    assert ended(feeder) == (-signal.SIGTERM, "the app listens\n")


def test_the_sockets_are_nobody_elses(source: PipeSource, runtime: Path) -> None:
    folder = runtime / "wakeword"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "mic.sock").stat().st_mode) == 0o600
    folder.chmod(0o750)
    with pytest.raises(DeviceError, match="others can get at"):
        laptop.socket_path("mic")


def test_a_session_that_is_not_told_of_the_runtime_folder_finds_a_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    user = os.getuid()
    assert laptop._folder() in (
        Path(f"/run/user/{user}/wakeword"), Path(f"/tmp/wakeword-{user}"),
    )  # fmt: skip


def test_the_socket_of_another_app_is_refused_in_a_sentence(
    source: PipeSource, runtime: Path
) -> None:
    second = PipeSource()
    second.start()
    until(lambda: second.health.state == "lost")
    assert second.health.line == ANOTHER
    assert "--audio" in second.health.hint
    second.close()
    assert (runtime / "wakeword" / "mic.sock").exists()


def test_a_socket_that_was_left_behind_is_replaced(runtime: Path) -> None:
    code = "from engine.pipe import Door; import os; Door('mic'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (runtime / "wakeword" / "mic.sock").exists()
    assert laptop.connect("mic") is None
    Door("mic").close()
    assert not (runtime / "wakeword" / "mic.sock").exists()


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """This process may open nothing more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_socket_that_cannot_be_put_there_is_told_until_it_can(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.pipe.AGAIN_S", 0.1)
    folder = laptop.socket_path("mic")
    folder.mkdir()
    source = PipeSource()
    source.start()
    until(lambda: source.health.state == "lost")
    assert source.health.line == f"{folder}: Is a directory"
    folder.rmdir()
    until(lambda: source.health.state == "connecting")
    source.close()


def test_a_peer_that_cannot_be_let_in_is_told_and_the_next_one_is_heard(
    source: PipeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.pipe.AGAIN_S", 0.1)
    with socket.socket(socket.AF_UNIX) as peer, no_descriptors():
        peer.connect(str(laptop.socket_path("mic")))
        until(lambda: "Too many open files" in source.health.line, within_s=5)
    feeder = pipe("mic")
    until(lambda: send(feeder, CLIP[:640]) or source.health.state == "open")
    ended(feeder)


@pytest.fixture
def player(runtime: Path) -> Iterator[Player]:
    """A player that plays into a pipe."""
    player = Player("pipe")
    player.start()
    until(lambda: player.trouble == "waiting for speaker-pipe")
    yield player
    player.close()


def played(player: Player, reader: "subprocess.Popen[bytes]") -> float:
    """Play the chirp; how like it is what comes out at the laptop."""
    until(lambda: player.trouble == "")
    player.play(chirp())
    until(lambda: not player.playing)
    time.sleep(0.5)
    reader.terminate()
    assert reader.stdout is not None
    heard = reader.stdout.read()
    return best_correlation(np.frombuffer(heard[: len(heard) // 2 * 2], "<i2") / 32768, chirp())


def test_what_is_played_comes_out_at_the_laptop(player: Player) -> None:
    for _ in range(2):
        reader = pipe("speaker")
        assert played(player, reader) >= 0.95
        ended(reader)
        until(lambda: player.trouble == "waiting for speaker-pipe")


def test_a_speaker_pipe_that_cannot_be_let_in_is_told_and_the_next_one_hears(
    player: Player,
) -> None:
    with socket.socket(socket.AF_UNIX) as peer, no_descriptors():
        peer.connect(str(laptop.socket_path("speaker")))
        until(lambda: "Too many open files" in player.trouble, within_s=5)
    player.start()
    reader = pipe("speaker")
    assert played(player, reader) >= 0.95
    ended(reader)


def test_speaker_pipe_ends_when_nobody_reads(player: Player) -> None:
    reader = pipe("speaker")
    until(lambda: player.trouble == "")
    assert reader.stdout is not None
    reader.stdout.close()
    assert ended(reader) == (0, "the app will be heard\n")
    until(lambda: player.trouble == "waiting for speaker-pipe")


def test_speaker_pipe_waits_for_the_app(runtime: Path) -> None:
    reader = pipe("speaker")
    assert reader.stderr is not None
    assert reader.stderr.readline().decode().startswith("no app is here yet")
    player = Player("pipe")
    player.start()
    until(lambda: player.trouble == "")
    player.close()
    assert reader.stderr.readline() == b"the app will be heard\n"
    assert reader.stderr.readline() == b"the app has stopped listening; waiting for it\n"
    reader.terminate()
    ended(reader)


def test_a_speaker_pipe_is_heard_in_place_of_the_card_until_it_goes(card: Card) -> None:
    player = Player()
    player.start()
    until(lambda: player.trouble == "")
    time.sleep(2.0)  # a null sink swallows the first seconds at once
    reader = pipe("speaker")
    until(lambda: player._rate == 16_000 and type(player._stream).__name__ == "Loudspeaker")
    assert played(player, reader) >= 0.95
    assert np.abs(card.waveform()).max() < 0.01
    ended(reader)
    until(lambda: player.trouble == "speaker-pipe has gone")
    player._tried_s = 0.0
    until(lambda: player.play(tone(440, 1.0)) or player.trouble == "")
    until(lambda: np.abs(card.waveform()).max() > 0.4)
    player.close()


def test_pipes_load_next_to_nothing() -> None:
    code = "import sys, wakeword_tui.__main__ as door; door.main(['mic-pipe']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    loaded = set(done.stdout.decode().split())
    assert not loaded & {"torch", "numpy", "pydantic", "textual", "sounddevice", "engine.audio"}


@pytest.mark.bench
def test_mic_pipe_starts_at_once() -> None:
    """By the processor: a busy machine is no fault of ours."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(10):
        assert ended(pipe("mic"))[0] == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    sys.stdout.write(f"\nmic-pipe: {100 * taken_s:.0f} ms of the processor\n")
    assert taken_s / 10 < 0.15
