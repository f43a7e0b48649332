"""Read, write and resample audio. A waveform is float32, mono, 16 kHz, shape `(N,)`.

A file that cannot be read is a DataError of that file: the caller lists it and goes on.
"""

from math import gcd
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import resample_poly

from engine.errors import DataError

SAMPLE_RATE = 16_000
SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})
Waveform = npt.NDArray[np.float32]


def read(path: Path) -> Waveform:
    """Read a whole file of any rate and channel count as a waveform `(N,)`.

    Raises DataError where the file is missing, damaged, empty or not audio.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: {_reason(error)}", "convert it to WAV or remove it") from error
    if len(samples) == 0:
        raise DataError(f"{path}: holds no samples", "record it again or remove it")
    if not np.isfinite(samples).all():
        raise DataError(f"{path}: holds samples that are not numbers", "export it again")
    return resample(samples.mean(axis=1, dtype=np.float32), rate)


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


def resample(waveform: Waveform, rate: int) -> Waveform:
    """Bring a waveform `(N,)` of `rate` Hz to 16 kHz with a polyphase filter."""
    if rate == SAMPLE_RATE:
        return waveform
    common = gcd(rate, SAMPLE_RATE)
    resampled = resample_poly(waveform, SAMPLE_RATE // common, rate // common)
    return np.asarray(resampled, dtype=np.float32)


def to_int16(waveform: Waveform) -> npt.NDArray[np.int16]:
    """Quantise a waveform to 16 bits, as clips are packed; values outside [-1, 1] clip."""
    scaled: npt.NDArray[np.int16] = np.clip(np.rint(waveform * 32767), -32768, 32767).astype(
        np.int16
    )
    return scaled


def _reason(error: Exception) -> str:
    """Keep libsndfile's own words, without its prefix that repeats the path."""
    return str(error).rsplit(": ", 1)[-1].strip() or type(error).__name__
