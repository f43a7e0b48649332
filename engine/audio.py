"""Read, write and resample audio. A waveform is float32, mono, 16 kHz, shape `(N,)`.

A file that cannot be read is a DataError of that file: the caller lists it and goes on.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from engine.errors import DataError

SAMPLE_RATE = 16_000
LEAST_HZ, MOST_HZ = 1_000, 768_000
UNIT_S = 30
LEAST_S = 0.25
EXACT = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")
FILTER_REACH = 10  # half the filter of resample_poly, in samples of the lower rate
SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})
Waveform = npt.NDArray[np.float32]


def read(path: Path) -> Waveform:
    """Read a whole file of any rate and channel count as a waveform `(N,)`.

    Raises DataError where the file is missing, damaged, empty or not audio, or its name is no text.
    """
    with _errors_of(path):
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        _refuse_rate(rate)
    if len(samples) == 0:
        raise DataError(f"{path}: holds no samples", "record it again or remove it")
    return resample(_mono(samples, path), rate)


def stretch(path: Path, start_s: float, end_s: float) -> Waveform:
    """Read from `start_s` to `end_s` of a file as a waveform `(N,)`; the rest is not decoded.

    A second before it is, for the sake of decoders that remember. Raises DataError as `read` does,
    and where nothing lies there.
    """
    with _errors_of(path), soundfile.SoundFile(path) as file:
        rate = file.samplerate
        _refuse_rate(rate)
        first = max(0, int(start_s) - 1) * rate
        file.seek(min(first, file.frames))
        last = math.ceil((end_s + 1) * rate)
        samples = file.read(last - first, dtype="float32", always_2d=True)
    begin, end = (round((at_s - first / rate) * SAMPLE_RATE) for at_s in (start_s, end_s))
    found = resample(_mono(samples, path), rate)[max(0, begin) : end]
    if len(found) == 0:
        raise DataError(
            f"{path}: nothing from {start_s:g} to {end_s:g} s", "the file was cut short"
        )
    return found


class Recording:
    """A file of any length, read in units of 30 s: memory is flat, and damage costs what it covers.

        file   .....|margin|---------- unit ----------|margin|.....    as far as the filter reaches

    A unit is the same numbers whatever was read before. A lossy decoder remembers what it heard, so
    `approach` decodes all that comes before; other formats seek. `lost` are stretches in seconds
    that could not be read and are silent. What is beyond full scale is cut off there, as in a pack.
    Raises DataError where the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost: list[tuple[float, float]] = []
        self._file = self._opened()
        self._rate, self._frames = self._file.samplerate, self._file.frames
        self._exact = self._file.subtype.startswith(EXACT)
        self._unit = UNIT_S * self._rate
        self._margin = _margin(self._rate)
        self._held, self._next = np.zeros(0, dtype=np.float32), 0

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return float(self._frames / self._rate)

    @property
    def units(self) -> int:
        """How many units there are."""
        return math.ceil(self.seconds / UNIT_S)

    def blocks(self) -> Iterator[Waveform]:
        """All units, the first one first."""
        for unit in range(self.units):
            yield self.read(unit)

    def approach(self, unit: int) -> Iterator[float]:
        """Come to a unit, so that `read` need not decode what is before it; give seconds passed."""
        start = max(0, unit * self._unit - self._margin)
        if self._exact:
            return
        if self._next - len(self._held) > start:
            self._reopen()
            self._held, self._next = np.zeros(0, dtype=np.float32), 0
        while self._next < min(start, self._frames):
            passed = min(self._next + self._unit, start)
            self._forward(passed, passed)
            yield self._next / self._rate

    def read(self, unit: int) -> Waveform:
        """Read a unit, 30 s or what is left, `(N,)`; beyond the end there is nothing."""
        for _ in self.approach(unit):
            pass
        start, stop = unit * self._unit, min((unit + 1) * self._unit, self._frames)
        first, last = max(0, start - self._margin), min(stop + self._margin, self._frames)
        samples = self._salvaged(first, last) if self._exact else self._forward(first, last)
        up, down = _ratio(self._rate)
        skipped, count = (start - first) * up // down, -(-(stop - start) * up // down)
        return resample(samples, self._rate)[skipped : skipped + max(0, count)].clip(-1.0, 1.0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _opened(self) -> soundfile.SoundFile:
        with _errors_of(self.path):
            file = soundfile.SoundFile(self.path)
            _refuse_rate(file.samplerate)
            return file

    def _reopen(self) -> None:
        """Start afresh: after an error libsndfile reads nothing more of a file."""
        self._file.close()
        self._file = self._opened()

    def _salvaged(self, first: int, last: int) -> Waveform:
        """Read frames; of what is damaged, read the halves, and lose those of 0.25 s."""
        if last <= first:
            return np.zeros(0, dtype=np.float32)
        samples = self._at(first, last)
        if samples is not None:
            return samples
        self._reopen()
        if last - first <= LEAST_S * self._rate:
            self._lose(first, last)
            return np.zeros(last - first, dtype=np.float32)
        middle = (first + last) // 2
        return np.concatenate([self._salvaged(first, middle), self._salvaged(middle, last)])

    def _at(self, first: int, last: int) -> Waveform | None:
        """Read frames of a format that seeks exactly; None where not all can be read."""
        try:
            self._file.seek(first)
            samples = self._file.read(last - first, dtype="float32", always_2d=True)
        except (OSError, RuntimeError):
            return None
        whole = len(samples) == last - first and np.isfinite(samples).all()
        return _mono(samples, self.path) if whole else None

    def _forward(self, first: int, last: int) -> Waveform:
        """Decode on until `last`, and forget what lies before `first`.

        Always second by second: the last bit of an MP3's samples depends on how it is read.
        """
        parts = [self._held]
        while self._next < min(last, self._frames):
            try:
                samples = self._file.read(self._rate, dtype="float32", always_2d=True)
            except (OSError, RuntimeError):
                samples = np.zeros((0, 1), dtype=np.float32)
            if len(samples) == 0:
                self._lose(self._next, self._frames)
                self._frames = self._next
            samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
            parts.append(_mono(samples, self.path))
            self._next += len(samples)
        held = np.concatenate(parts)
        self._held = held[max(0, first - (self._next - len(held))) :]
        return self._held[: max(0, last - first)]

    def _lose(self, first: int, last: int) -> None:
        start_s, end_s = first / self._rate, last / self._rate
        if self.lost and start_s <= self.lost[-1][1]:
            before_s, until_s = self.lost.pop()
            start_s, end_s = min(start_s, before_s), max(end_s, until_s)
        self.lost.append((start_s, end_s))


def _margin(rate: int) -> int:
    """Frames around a piece that the filter reaches, in whole steps in which rates meet."""
    up, down = _ratio(rate)
    if up == down:
        return 0
    return down * math.ceil((FILTER_REACH * max(up, down) / up + 1) / down)


def seconds(path: Path) -> float:
    """Length by the head of a file, which is not decoded; 0 where it cannot be read."""
    try:
        return float(soundfile.info(path).duration)
    except (OSError, RuntimeError, ValueError):
        return 0.0


def write(path: Path, waveform: Waveform) -> None:
    """Write a waveform `(N,)` as 16-bit audio in the format of the file's suffix.

    Encoded in memory, so that a full disk is an OSError: libsndfile does not tell of it.
    """
    path.write_bytes(encoded(waveform, path.suffix[1:]))


def wav(waveform: Waveform) -> bytes:
    """A waveform `(N,)` as the bytes of a 16-bit WAV file."""
    return encoded(waveform, "wav")


def encoded(waveform: Waveform, kind: str) -> bytes:
    """A waveform `(N,)` as the bytes of a 16-bit file of a kind such as `flac`."""
    buffer = io.BytesIO()
    subtype = "PCM_16" if kind in {"wav", "flac"} else None
    soundfile.write(buffer, waveform, SAMPLE_RATE, format=kind, subtype=subtype)
    return buffer.getvalue()


def resample(waveform: Waveform, rate: int, to: int = SAMPLE_RATE) -> Waveform:
    """Bring a waveform `(N,)` of `rate` Hz to 16 kHz, or `to` another, with a polyphase filter.

    scipy.signal takes half a second to import: only what has another rate waits for it.
    """
    if rate == to:
        return waveform
    from scipy.signal import resample_poly

    resampled = resample_poly(waveform, *_ratio(rate, to))
    return np.asarray(resampled, dtype=np.float32)


class Resampler:
    """Brings audio of `rate` Hz to 16 kHz in blocks of any size: the same numbers as at once.

    held   |margin|---- whole steps in which rates meet ----|margin|    where the filter reaches
    """

    def __init__(self, rate: int) -> None:
        self.rate, self._margin = rate, _margin(rate)
        self._up, self._down = _ratio(rate)
        self._held = np.zeros(self._margin, dtype=np.float32)  # silence before the beginning
        resample(self._held, rate)  # scipy.signal is imported now, and not under the first block

    def push(self, block: Waveform) -> Waveform:
        """Give what can be told of the samples so far, `(M,)`; 20 ms of 44.1 kHz are held back."""
        if self._up == self._down:
            return block
        self._held = np.concatenate([self._held, block])
        steps = max(0, (len(self._held) - 2 * self._margin) // self._down)
        if steps == 0:
            return block[:0]
        used = self._held[: 2 * self._margin + steps * self._down]
        self._held = self._held[steps * self._down :]
        skipped = self._margin * self._up // self._down
        return resample(used, self.rate)[skipped : skipped + steps * self._up]


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


def _refuse_rate(rate: int) -> None:
    """Raise ValueError for a rate whose filter would fill the memory."""
    if not LEAST_HZ <= rate <= MOST_HZ:
        raise ValueError(f"has a sample rate of {rate} Hz")


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Turn what libsndfile refuses into a DataError of the file."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: no name in UTF-8", "rename the file") from error
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        raise DataError(f"{path}: {_reason(error)}", "convert it to WAV or remove it") from error


def _reason(error: Exception) -> str:
    """Keep libsndfile's own words, without its prefix that repeats the path."""
    return str(error).rsplit(": ", 1)[-1].strip() or type(error).__name__
