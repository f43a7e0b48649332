"""Noise and rooms out of a random generator: something to train against before real recordings.

Noise is shaped in the frequency domain. A room is a shoebox: early reflections by image sources
(Allen and Berkley 1979), then noise that decays by 60 dB in RT60 seconds.
"""

from itertools import product

import numpy as np
import numpy.typing as npt

from engine.audio import SAMPLE_RATE, Waveform

Array = npt.NDArray[np.float64]
SPEED_OF_SOUND_M_S = 343.0
TAIL_AFTER_S = 0.03
NOISES = ("white", "pink", "brown", "babble", "hum", "clicks", "wind")


def noise(kind: str, seconds: float, rng: np.random.Generator) -> Waveform:
    """Make noise `(N,)` of a kind out of NOISES, peak between -12 and -1 dB of full scale."""
    samples = round(seconds * SAMPLE_RATE)
    if kind == "babble":
        sound = sum((_voice_like(samples, rng) for _ in range(6)), np.zeros(samples))
    elif kind == "hum":
        sound = _hum(samples, rng)
    elif kind == "clicks":
        sound = _clicks(samples, rng)
    elif kind == "wind":
        sound = coloured(samples, 1.5, rng) * _swell(samples, 0.5, rng)
    else:
        slope = {"white": 0.0, "pink": 1.0, "brown": 2.0}[kind] + rng.uniform(-0.2, 0.2)
        sound = coloured(samples, slope, rng)
    return _to_peak(sound, rng.uniform(-12.0, -1.0))


def room(rng: np.random.Generator) -> Waveform:
    """Make the impulse response `(N,)` of a small or middling room, RT60 0.15 to 0.8 s."""
    size = rng.uniform((2.5, 3.0, 2.3), (7.0, 9.0, 3.5))
    source, ear = rng.uniform(0.4, size - 0.4, (2, 3))
    rt60_s = rng.uniform(0.15, 0.8)
    response = np.zeros(round((rt60_s + 0.1) * SAMPLE_RATE))
    _add_reflections(response, size, source, ear, rt60_s)
    _add_tail(response, float(size.prod()), rt60_s, rng)
    onset = int(np.linalg.norm(source - ear) / SPEED_OF_SOUND_M_S * SAMPLE_RATE)
    return _to_peak(response[max(0, onset - 16) :], -1.0)


def coloured(samples: int, slope: float, rng: np.random.Generator) -> Array:
    """Gaussian noise `(samples,)` whose power falls as frequency ** -slope; deviation about 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hertz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    shape = np.maximum(hertz, 40.0) ** (-slope / 2)
    return _unit(np.fft.irfft(spectrum * shape, samples))


def _voice_like(samples: int, rng: np.random.Generator) -> Array:
    """Noise with the long-term spectrum and the syllable rate of one talker."""
    return coloured(samples, 1.2, rng) * _swell(samples, rng.uniform(3.0, 6.0), rng)


def _swell(samples: int, rate_hz: float, rng: np.random.Generator) -> Array:
    """A random loudness `(samples,)`, 0 to 1, that changes about `rate_hz` times a second."""
    turns = rng.random(max(2, round(samples / SAMPLE_RATE * 2 * rate_hz)))
    return np.interp(np.linspace(0, len(turns) - 1, samples), np.arange(len(turns)), turns)


def _hum(samples: int, rng: np.random.Generator) -> Array:
    """Mains or motor: a fundamental of 45 to 130 Hz, its harmonics, and some rumble."""
    time_s = np.arange(samples) / SAMPLE_RATE
    fundamental_hz = rng.uniform(45.0, 130.0)
    levels = rng.random(12) / np.arange(1, 13)
    sound = 0.3 * coloured(samples, 1.5, rng)
    for harmonic, level in enumerate(levels, start=1):
        sound += level * np.sin(2 * np.pi * harmonic * fundamental_hz * time_s)
    return sound


def _clicks(samples: int, rng: np.random.Generator) -> Array:
    """Keys and crockery: two to eight short ringing bursts a second over a faint floor."""
    sound = 0.01 * coloured(samples, 1.0, rng)
    ring_s = np.arange(1600) / SAMPLE_RATE
    for start in rng.integers(0, samples - 1600, round(samples / SAMPLE_RATE * rng.uniform(2, 8))):
        tone = np.sin(2 * np.pi * rng.uniform(300.0, 5000.0) * ring_s) + rng.standard_normal(1600)
        decay = np.exp(-ring_s / rng.uniform(0.002, 0.02))
        sound[start : start + 1600] += rng.uniform(0.1, 1.0) * tone * decay
    return sound


def _add_reflections(
    response: Array, size: Array, source: Array, ear: Array, rt60_s: float
) -> None:
    """Add the direct sound and the images of up to three reflections, each 1 / distance loud."""
    area = 2.0 * float(size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
    absorbed = 1.0 - np.exp(-0.161 * float(size.prod()) / (area * rt60_s))  # Eyring
    for cell in product((-1, 0, 1), repeat=3):
        for mirrored in product((0, 1), repeat=3):
            bounces = sum(abs(2 * step - flip) for step, flip in zip(cell, mirrored, strict=True))
            if bounces > 3:
                continue
            image = 2.0 * np.array(cell) * size + (1 - 2 * np.array(mirrored)) * source
            away_m = max(float(np.linalg.norm(image - ear)), 0.1)
            at = int(away_m / SPEED_OF_SOUND_M_S * SAMPLE_RATE)
            if at < len(response):
                response[at] += (1.0 - absorbed) ** (bounces / 2) / away_m


def _add_tail(response: Array, volume_m3: float, rt60_s: float, rng: np.random.Generator) -> None:
    """Add the late part, as loud against the direct sound as Sabine's diffuse field has it."""
    critical_m = 0.057 * np.sqrt(volume_m3 / rt60_s)
    time_s = np.arange(len(response)) / SAMPLE_RATE
    decay = 10.0 ** (-3.0 * time_s / rt60_s)
    tail = decay * rng.standard_normal(len(response)) / (critical_m * np.sqrt(np.sum(decay**2)))
    response += tail * np.clip(time_s / TAIL_AFTER_S, 0.0, 1.0)


def _unit(sound: Array) -> Array:
    return sound / max(float(sound.std()), 1e-12)


def _to_peak(sound: Array, peak_db: float) -> Waveform:
    loudest = max(float(np.abs(sound).max()), 1e-12)
    return np.asarray(sound * 10.0 ** (peak_db / 20.0) / loudest, dtype=np.float32)
