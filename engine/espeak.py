"""The near end of `espeak_helper`: voices, lines to say, and the pipe to the process that speaks.

A voice is an accent, such as `en-US`, and a variant, such as `f3`. The variant is the vocal tract
and so the speaker: it is the group, and a test voice is unheard in every accent.
"""

import contextlib
import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from engine import audio
from engine.audio import Waveform
from engine.errors import DataError
from engine.phonetics import Phonemes, slug

ACCENTS = (
    "en", "en-US", "en-GB-scotland", "en-GB-x-gbcwmd", "en-Shaw", "en-GB-x-rp", "en-US-nyc",
    "en-029", "en-GB-x-gbclan",
)  # fmt: skip
AHEAD = 8  # requests under way; few enough to fit in a pipe, so that writing one never blocks
HELPER = Path(__file__).with_name("espeak_helper.py")
HINT = "pip install 'wakeword-tui[demo]'"


@dataclass(frozen=True, slots=True)
class Voice:
    """An accent spoken by a variant."""

    accent: str
    variant: str

    @property
    def group(self) -> str:
        """Who it is, whatever the accent."""
        return f"voice:{slug(self.variant)}"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing to say, and how; `rate_wpm` 80 to 450, `pitch` and its `spread` 0 to 99."""

    voice: Voice
    speak: str
    phonemes: bool
    rate_wpm: int
    pitch: int
    spread: int


class Espeak:
    """The helper process as a context manager.

    Raises DataError where the helper cannot start or dies.
    """

    licence = "synthetic, free to use"

    def __init__(self, seed: int) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by `close`
        # -P: or this folder would come first on the helper's path.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(HELPER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
        )
        try:
            self._ask({"seed": seed})
            facts = json.loads(self._answer())
        except BaseException:
            self.close()
            raise
        self.rate_hz: int = facts["rate_hz"]
        self.source = f"espeak-ng {facts['version'].removesuffix('.0')} (synthetic)"
        self.variants: list[str] = facts["variants"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the helper; what it was saying is lost."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._complaints):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # a request it never read
                    pipe.close()

    def transcribe(self, text: str, accent: str = ACCENTS[0]) -> tuple[Phonemes, ...]:
        """Give the phonemes of each word of a text."""
        self._ask({"transcribe": text, "voice": accent})
        words = self._answer().decode().split()
        return tuple(tuple(word.strip("_").split("_")) for word in words)

    def speak(self, lines: Iterable[Line]) -> Generator[Waveform]:
        """Speak lines in order, a few ahead of the caller; waveforms `(N,)`."""
        under_way = 0
        for line in lines:
            self._ask(asdict(line) | {"voice": f"{line.voice.accent}+{line.voice.variant}"})
            under_way += 1
            if under_way == AHEAD:
                yield self._waveform()
                under_way -= 1
        for _ in range(under_way):
            yield self._waveform()

    def _waveform(self) -> Waveform:
        sound = np.frombuffer(self._answer(), dtype="<i2")
        return audio.resample(sound.astype(np.float32) / 32768.0, self.rate_hz)

    def _ask(self, request: dict[str, object]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def _answer(self) -> bytes:
        (length,) = struct.unpack("<I", self._read(4))
        return self._read(length)

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        if len(data) < count:
            raise self._died()
        return data

    def _died(self) -> DataError:
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace").strip().splitlines()
        return DataError(f"espeak-ng cannot speak: {said[-1] if said else 'it crashed'}", HINT)
