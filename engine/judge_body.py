"""What a judge is sent: the bytes of a stranger become a waveform, or a sentence why not.

Read here, not by a decoder: libsndfile knows 25 formats, in some of which a megabyte is a day.
What is read takes no more memory than what came, whatever a header claims.

    audio/pcm   s16le, 16 kHz, mono, nothing around it
    audio/wav   "RIFF" size "WAVE", then chunks: name, size, content | "fmt " | ... | "data"
"""

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from engine.audio import SAMPLE_RATE, Waveform, resample
from engine.errors import WakewordError
from engine.judge import PCM

MOST_BYTES = 2**20
"""Of a body; ten seconds of 16-bit mono have 320 kB at 16 kHz, 882 kB at 44.1 kHz."""
MOST_S = 10.0
WAVS = frozenset({"audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"})
RATES = frozenset(
    {8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000}
)
MOST_CHANNELS = 8
INTEGERS, FLOATS, EXTENSIBLE = 1, 3, 0xFFFE
READ = frozenset({*((INTEGERS, bits) for bits in (8, 16, 24, 32)), (FLOATS, 32)})
STREAMED = 0xFFFF_FFFF
"""The size of a chunk whose writer could not go back to say it."""
SEND = f"send {PCM} (s16le, 16 kHz, mono) or audio/wav"
Floats = npt.NDArray[np.float32]


class RefusedError(WakewordError):
    """A request that gets no verdict: an HTTP status, a sentence and a hint."""

    def __init__(self, status: int, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.status = status


def refuse_type(content_type: str) -> None:
    """Raise RefusedError, 415, for what is neither WAV nor PCM, or is PCM of another rate."""
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if kind not in {PCM, *WAVS}:
        raise RefusedError(415, f"the body is {kind[:80] or 'of no type'}", SEND)
    told = dict(part.partition("=")[::2] for part in parameters)
    if kind == PCM and (told.get("rate", "16000"), told.get("channels", "1")) != ("16000", "1"):
        raise RefusedError(415, "the PCM is not 16 kHz mono", "resample it, or send a WAV")


def waveform_of(body: bytes, content_type: str) -> Waveform:
    """Read a body as a waveform `(N,)`. Raises RefusedError: 413, 415 or 422."""
    refuse_type(content_type)
    if content_type.split(";")[0].strip().lower() == PCM:
        samples, rate = _pcm(body), SAMPLE_RATE
    else:
        samples, rate = _wav(body)
    if len(samples) == 0:
        raise RefusedError(422, "there is no audio in the body", SEND)
    if len(samples) > MOST_S * rate:
        message = f"{len(samples) / rate:.1f} s of audio, at most {MOST_S:g} s are heard"
        raise RefusedError(413, message, "send what the detector fired on, and half a second more")
    if not np.isfinite(samples).all():
        raise RefusedError(422, "the audio holds samples that are not numbers", "write it again")
    return resample(np.clip(samples, -1, 1).mean(axis=1, dtype=np.float32), rate)


def _pcm(body: bytes) -> Floats:
    if len(body) % 2:
        raise RefusedError(422, f"{len(body)} bytes are no whole samples of 2 bytes", SEND)
    return _integers(body, 2)[:, None]


def _wav(body: bytes) -> tuple[Floats, int]:
    """The samples `(N, C)` and the rate of a WAV."""
    if body[:4] != b"RIFF" or body[8:12] != b"WAVE":
        raise RefusedError(422, "the body is no WAV", SEND)
    form = None
    for name, content, whole in _chunks(body):
        if name == b"fmt " and len(content) >= 16:
            form = content
        elif name == b"data" and form is not None:
            if not whole:
                raise RefusedError(422, "the WAV ends before its header says", "send all of it")
            return _samples(form, content)
    raise RefusedError(422, "the WAV has no format, or no data after it", "write it again")


def _chunks(body: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Name, content and whether that is all of it, of each chunk; each starts at an even byte."""
    at, view = 12, memoryview(body)
    while at + 8 <= len(body):
        name, size = struct.unpack_from("<4sI", body, at)
        content = view[at + 8 : at + 8 + size]
        yield name, content, len(content) == size or size == STREAMED
        at += 8 + size + size % 2


def _samples(form: memoryview, data: memoryview) -> tuple[Floats, int]:
    """The samples `(N, C)` of a data chunk, as the format chunk says they lie, and the rate."""
    code, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", form)
    if code == EXTENSIBLE and len(form) >= 26:
        (code,) = struct.unpack_from("<H", form, 24)
    if (code, bits) not in READ or not 1 <= channels <= MOST_CHANNELS:
        message = f"a WAV of format {code}, {bits} bits and {channels} channels is not read"
        raise RefusedError(415, message, "write it as 16-bit PCM, mono")
    if rate not in RATES:
        raise RefusedError(415, f"a rate of {rate} Hz is not read", "resample it to 16000 Hz")
    if block != channels * bits // 8:
        raise RefusedError(422, "the WAV's format chunk contradicts itself", "write it again")
    whole = bytes(data[: len(data) // block * block])
    flat = np.frombuffer(whole, "<f4") if code == FLOATS else _integers(whole, bits // 8)
    return flat.reshape(-1, channels), rate


def _integers(data: bytes, width: int) -> Floats:
    """Integers of `width` bytes, as the upper bytes of 32 bits; those of one have no sign."""
    raw = np.frombuffer(data, np.uint8).reshape(-1, width)
    wide = np.zeros((len(raw), 4), np.uint8)
    wide[:, 4 - width :] = raw ^ 128 if width == 1 else raw
    return wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
