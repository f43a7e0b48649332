"""Read, write and resample audio. A waveform is float32, mono, 16 kHz, shape `(N,)`.

A file that cannot be read is a DataError of that file: the caller lists it and goes on.
"""

import io
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import resample_poly

from engine.errors import DataError

SAMPLE_RATE = 16_000
BLOCK_S = 10
FILTER_REACH = 10  # half the filter of resample_poly, in samples of the lower rate
SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})
Waveform = npt.NDArray[np.float32]


def read(path: Path) -> Waveform:
    """Read a whole file of any rate and channel count as a waveform `(N,)`.

    Raises DataError where the file is missing, damaged, empty or not audio.
    """
    with _errors_of(path):
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if len(samples) == 0:
        raise DataError(f"{path}: holds no samples", "record it again or remove it")
    return resample(_mono(samples, path), rate)


def stretch(path: Path, start_s: float, end_s: float) -> Waveform:
    """Read what lies between two times of a file `(N,)`, or the part of it that is there.

    Raises DataError as `read` does, and where the file ends before `start_s`.
    """
    with _errors_of(path), soundfile.SoundFile(path) as file:
        rate, first = file.samplerate, max(0, round(start_s * file.samplerate))
        file.seek(min(first, file.frames))
        samples = file.read(round(end_s * rate) - first, dtype="float32", always_2d=True)
    if len(samples) == 0:
        raise DataError(f"{path}: ends before {start_s:.1f} s", "the file may have changed")
    return resample(_mono(samples, path), rate)


def blocks(path: Path) -> Iterator[Waveform]:
    """Read a file as `read` does, but in blocks of about 10 s `(N,)`: memory stays flat.

    Raises DataError where the file is missing, damaged or not audio.
    """
    with _errors_of(path), soundfile.SoundFile(path) as file:
        yield from _resampled(_mono_blocks(file, path), file.samplerate)


def _mono_blocks(file: soundfile.SoundFile, path: Path) -> Iterator[Waveform]:
    while len(samples := file.read(BLOCK_S * file.samplerate, dtype="float32", always_2d=True)):
        yield _mono(samples, path)


def _resampled(parts: Iterable[Waveform], rate: int) -> Iterator[Waveform]:
    """Resample a stream: each piece with as much around it as the filter reaches.

    Pieces are cut at multiples of `down`, where input and output samples fall together.
    """
    up, down = _ratio(rate)
    margin = down * math.ceil((FILTER_REACH * max(up, down) / up + 1) / down) if up != down else 0
    held, done = np.zeros(0, dtype=np.float32), 0
    for part in parts:
        held = np.concatenate([held, part])
        ready = done + max(0, len(held) - done - margin) // down * down
        yield resample(held[: ready + margin], rate)[done * up // down : ready * up // down]
        held, done = held[max(0, ready - margin) :], min(ready, margin)
    if len(held) > done:
        yield resample(held, rate)[done * up // down :]


def seconds(path: Path) -> float:
    """Length by the head of a file, which is not decoded; 0 where it cannot be read."""
    try:
        return float(soundfile.info(path).duration)
    except (OSError, RuntimeError, ValueError):
        return 0.0


def write(path: Path, waveform: Waveform) -> None:
    """Write a waveform `(N,)` as 16-bit audio in the format of the file's suffix."""
    subtype = "PCM_16" if path.suffix in {".wav", ".flac"} else None
    soundfile.write(path, waveform, SAMPLE_RATE, subtype=subtype)


def wav(waveform: Waveform) -> bytes:
    """A waveform `(N,)` as the bytes of a 16-bit WAV file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def resample(waveform: Waveform, rate: int, to: int = SAMPLE_RATE) -> Waveform:
    """Bring a waveform `(N,)` of `rate` Hz to 16 kHz, or `to` another, with a polyphase filter."""
    if rate == to:
        return waveform
    resampled = resample_poly(waveform, *_ratio(rate, to))
    return np.asarray(resampled, dtype=np.float32)


def _ratio(rate: int, to: int = SAMPLE_RATE) -> tuple[int, int]:
    """The smallest whole numbers `up` and `down` with rate * up / down = `to`."""
    common = math.gcd(rate, to)
    return to // common, rate // common


def to_int16(waveform: Waveform) -> npt.NDArray[np.int16]:
    """Quantise a waveform to 16 bits, as clips are packed; values outside [-1, 1] clip."""
    scaled: npt.NDArray[np.int16] = np.clip(np.rint(waveform * 32767), -32768, 32767).astype(
        np.int16
    )
    return scaled


def _mono(samples: npt.NDArray[np.float32], path: Path) -> Waveform:
    """Average the channels of `(N, C)`."""
    if not np.isfinite(samples).all():
        raise DataError(f"{path}: holds samples that are not numbers", "export it again")
    return samples.mean(axis=1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Turn what libsndfile refuses into a DataError of the file."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: {_reason(error)}", "convert it to WAV or remove it") from error


def _reason(error: Exception) -> str:
    """Keep libsndfile's own words, without its prefix that repeats the path."""
    return str(error).rsplit(": ", 1)[-1].strip() or type(error).__name__
