"""What comes from outside, bent at random: it is read, or refused with a sentence, and no more."""

import io
import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine import audio
from engine.dataset import pack, read
from engine.errors import WakewordError
from engine.events import Record, from_line
from engine.health import check
from engine.jobs import Control
from engine.manifest import clips_at
from engine.recipe import Data
from engine.recipe_file import load, loads, override

BENT = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def refused_or(work: Callable[[], object]) -> None:
    """Run what may raise a WakewordError with a sentence, and nothing else."""
    try:
        work()
    except WakewordError as error:
        assert error.message


# --- recipes

TOML = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = st.sampled_from([
    "name", "data", "data.wakeword", "data.manifest", "data.sources", "features.mels", "model.arch",
    "model.width", "train.epochs", "train.lr", "train.init", "detector.votes", "search.space",
    "distill.teachers", "quantize.enabled", "augment.snr_db", "evaluate.target_fah", "x.y", "", ".",
])  # fmt: skip


@given(st.text())
@example("name = 1\nname = 2")
@example("[data]\nwakeword = '\\u0000'")
@example('"" = 3')
def test_any_text_is_a_recipe_or_is_refused(text: str) -> None:
    refused_or(lambda: loads(text, Path("/")))


@BENT
@given(content=st.binary(max_size=200))
def test_any_file_is_a_recipe_or_is_refused(folder: Path, content: bytes) -> None:
    file = folder / "fuzzed-recipe.toml"
    file.write_bytes(content)
    refused_or(lambda: load(file))


@given(KEYS, TOML)
def test_any_value_for_any_key_is_taken_or_refused(key: str, value: object) -> None:
    from engine.recipe import Recipe

    refused_or(lambda: override(Recipe(), {key: value}))


# --- manifests

CELLS = st.text(max_size=12) | st.sampled_from([
    "a.wav", "../a.wav", "/etc/passwd", "nan", "inf", "-1", "1e999", "0.1", "test", "hey", "\0", "",
])  # fmt: skip
ROWS = st.lists(st.lists(CELLS, max_size=7), max_size=5)


def as_csv(rows: list[list[str]]) -> str:
    head = "path,label,group,take,split,start_s,end_s"
    cells = [[cell.replace(",", " ") for cell in row] for row in rows]
    return "\n".join([head, *(",".join(row) for row in cells)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clips")
    audio.write(made / "a.wav", np.full(8000, 0.1, dtype=np.float32))
    return made


@BENT
@given(ROWS)
@example([["a.wav", "hey", "", "", "", "nan", "nan"]])
@example([["a.wav", "hey", "", "", "", "-1", "inf"]])
@example([["a.wav", "hey", "", "", "", "9", "2"]])
@example([["a\0.wav", "hey"]])
@example([["x" * 5000, "hey"]])
@example([["a.wav", "rir"], ["a.wav", "speech"], ["a.wav", "noise"]])
def test_any_manifest_is_packed_or_refused(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    manifest = folder / "manifest.csv"
    manifest.write_text(as_csv(rows), encoding="utf-8", errors="replace")
    settings = Data(manifest=manifest, wakeword="hey")
    cache = folder / "cache"

    def look_over() -> None:
        packed = pack(read(settings), cache, emit=lambda _: None, control=Control())
        check(packed, settings).render()

    refused_or(look_over)


@BENT
@given(st.binary(max_size=300))
def test_any_bytes_are_a_manifest_or_are_refused(folder: Path, content: bytes) -> None:
    manifest = folder / "bytes.csv"
    manifest.write_bytes(b"path,label\n" + content)
    refused_or(lambda: clips_at(manifest, "hey"))


# --- audio


def wav(rate: int, channels: int = 1, kind: int = 1, bits: int = 16, claims: int = 0) -> bytes:
    """A WAV file of half a second or so, whose head says what it is told to say."""
    body = struct.pack("<800h", *[round(9000 * math.sin(n / 9)) for n in range(800)])
    block = max(1, channels * bits // 8) & 0xFFFF
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * block & 0xFFFFFFFF, block, bits)
    size = claims or len(body)
    return b"".join([
        b"RIFF", struct.pack("<I", 36 + len(body)), b"WAVEfmt ", struct.pack("<I", 16), head,
        b"data", struct.pack("<I", size), body,
    ])  # fmt: skip


def hear(path: Path) -> None:
    """Read a file in every way there is; each refuses it on its own."""
    refused_or(lambda: audio.read(path))
    refused_or(lambda: audio.stretch(path, 0.01, 0.03))
    refused_or(lambda: audio.seconds(path))

    def unit_by_unit() -> None:
        recording = audio.Recording(path)
        try:
            for unit in range(min(recording.units, 2)):
                recording.read(unit)
        finally:
            recording.close()

    refused_or(unit_by_unit)


@BENT
@given(
    rate=st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 7, 8000, 44_100, 2**31 - 1]),
    channels=st.integers(0, 2**16 - 1) | st.integers(0, 3),
    kind=st.sampled_from([0, 1, 2, 3, 6, 7, 17, 0x55, 0xFFFE]) | st.integers(0, 2**16 - 1),
    bits=st.sampled_from([0, 1, 8, 12, 16, 24, 32, 64]),
    claims=st.just(0) | st.integers(1, 2**32 - 1),
)
@example(rate=1, channels=1, kind=1, bits=16, claims=0)
@example(rate=2**31 - 1, channels=1, kind=1, bits=16, claims=0)
@example(rate=16_000, channels=1, kind=1, bits=16, claims=2**32 - 1)
def test_any_head_of_a_wav_is_heard_or_refused(
    folder: Path, rate: int, channels: int, kind: int, bits: int, claims: int
) -> None:
    path = folder / "head.wav"
    path.write_bytes(wav(rate, channels, kind, bits, claims))
    hear(path)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
@BENT
@given(
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12),
    cut=st.floats(0, 1),
)
def test_bytes_changed_anywhere_are_heard_or_refused(
    folder: Path, kind: str, changes: list[tuple[float, int]], cut: float
) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(6000) / 20) / 2, 22_050, format=kind)
    content = bytearray(file.getvalue())
    for place, value in changes:
        content[min(len(content) - 1, int(place**3 * len(content)))] = value  # most in the head
    path = folder / f"changed.{kind}"
    path.write_bytes(content[: max(1, int(len(content) * cut))] if cut < 0.8 else content)
    hear(path)


# --- events


@given(st.text() | st.from_regex(r'\{"n": .{1,9}, "time_s": .{1,5}, "type": "PhaseChanged".{0,20}'))
@example('{"n": 1e999, "time_s": 1, "type": "PhaseChanged", "phase": "x"}')
@example("[" * 60_000)
def test_any_line_is_an_event_or_nothing(line: str) -> None:
    record = from_line(line)
    assert record is None or (isinstance(record, Record) and isinstance(record.n, int))
