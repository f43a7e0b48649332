"""Noise and rooms out of a random generator: something to train against before real recordings.

Noise is shaped in the frequency domain. A room is a shoebox: early reflections by image sources
(Allen and Berkley 1979), then noise that decays by 60 dB in RT60 seconds, in low frequencies more
slowly and in high ones faster. Each wall absorbs another share.
"""

import numpy as np
import numpy.typing as npt

from engine.audio import SAMPLE_RATE, Waveform

Array = npt.NDArray[np.float64]
SPEED_OF_SOUND_M_S = 343.0
# Single reflections up to here; then they are so dense that noise stands for them.
MIXING_S = 0.04
# Centres of the three bands of a room, in Hz, and how much longer each rings than the middle one.
BANDS_HZ = (250.0, 1000.0, 4000.0)
RINGING = ((1.0, 1.4), (1.0, 1.0), (0.6, 0.95))
NEAREST_M, FURTHEST_M, FROM_WALL_M = 0.3, 5.0, 0.3
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


def room(rng: np.random.Generator, rt60_low_s: float = 0.15, rt60_high_s: float = 0.8) -> Waveform:
    """Make the impulse response `(N,)` of a room, from its direct sound on; peak -1 dB.

    RT60 is drawn from the range and holds at 1 kHz; so are size, places and walls.
    """
    rt60_s = rng.uniform(rt60_low_s, rt60_high_s)
    size = rng.uniform((2.5, 3.0, 2.3), (7.0, 9.0, 3.5))
    source, ear = _places(size, rng)
    decays_s = rt60_s * np.array([rng.uniform(*ringing) for ringing in RINGING])
    late = _tail(round((1.2 * rt60_s + MIXING_S) * SAMPLE_RATE), float(size.prod()), decays_s, rng)
    bands = late + _reflections(late.shape, size, source, ear, _losses(size, decays_s, rng))
    onset = round(float(np.linalg.norm(source - ear)) / SPEED_OF_SOUND_M_S * SAMPLE_RATE)
    return _to_peak(_together(bands)[onset:], -1.0)


def direct_sound(response: npt.NDArray[np.floating]) -> int:
    """Where a room's response `(N,)` begins: the first sample half as loud as the loudest one."""
    loud = np.abs(response)
    return int(np.argmax(loud >= 0.5 * loud.max()))


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


def _places(size: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """A talker and an ear within a room, 0.3 to 5 m apart, near distances as likely as far ones."""
    end, ear = rng.uniform(FROM_WALL_M, size - FROM_WALL_M, (2, 3))
    there_m = max(float(np.linalg.norm(end - ear)), 1e-3)
    away_m = np.exp(rng.uniform(np.log(NEAREST_M), np.log(FURTHEST_M)))
    return ear + (end - ear) * min(away_m / there_m, 1.0), ear


def _losses(size: Array, decays_s: Array, rng: np.random.Generator) -> Array:
    """What a reflection takes from the logarithm of the energy, `(bands, 3 axes, 2 walls)`.

    Eyring 1930 over all walls together; each wall takes 0.5 to 1.5 of the mean before that is met.
    """
    walls = np.repeat((size.prod() / size)[:, None], 2, axis=1)
    uneven = rng.uniform(0.5, 1.5, (3, 2))
    uneven *= walls.sum() / (walls * uneven).sum()
    mean = 24.0 * np.log(10.0) / SPEED_OF_SOUND_M_S * size.prod() / (walls.sum() * decays_s)
    return np.asarray(mean[:, None, None] * uneven)


def _reflections(
    shape: tuple[int, ...], size: Array, source: Array, ear: Array, losses: Array
) -> Array:
    """The direct sound and all images within MIXING_S, each 1 / distance loud, `(bands, N)`."""
    reach_m = SPEED_OF_SOUND_M_S * min(MIXING_S, (shape[1] - 1) / SAMPLE_RATE)
    axes = []
    for axis in range(3):
        most = int(reach_m / (2.0 * size[axis])) + 1
        cell, mirrored = np.meshgrid(np.arange(-most, most + 1), [0, 1], indexing="ij")
        image = 2.0 * cell * size[axis] + (1 - 2 * mirrored) * source[axis] - ear[axis]
        near, far = np.abs(cell - mirrored), np.abs(cell)
        taken = losses[:, axis, 0, None] * near.ravel() + losses[:, axis, 1, None] * far.ravel()
        axes.append((image.ravel() ** 2, taken))
    (x, along), (y, across), (z, up) = axes
    away_m = np.sqrt(x[:, None, None] + y[:, None] + z)
    heard = np.nonzero(away_m <= reach_m)
    taken = along[:, heard[0]] + across[:, heard[1]] + up[:, heard[2]]
    loud = np.exp(-0.5 * taken) / np.maximum(away_m[heard], NEAREST_M / 3)
    at = np.round(away_m[heard] / SPEED_OF_SOUND_M_S * SAMPLE_RATE).astype(np.int64)
    return np.stack([np.bincount(at, weights=band, minlength=shape[1]) for band in loud])


def _tail(samples: int, volume_m3: float, decays_s: Array, rng: np.random.Generator) -> Array:
    """Noise `(bands, samples)` from MIXING_S on, as loud as the images that it stands for.

    A shell of t to t + dt seconds holds `4 pi c^3 t^2 dt / V` images of energy `1 / (c t)^2` each.
    """
    time_s = np.arange(samples) / SAMPLE_RATE
    energy = 4.0 * np.pi * SPEED_OF_SOUND_M_S / (volume_m3 * SAMPLE_RATE)
    loud = np.sqrt(energy) * 10.0 ** (-3.0 * time_s / decays_s[:, None])
    return np.asarray(loud * rng.standard_normal(samples) * (time_s > MIXING_S))


def _together(bands: Array) -> Array:
    """Add up the bands `(bands, N)`, each heard around its centre; crossfades span two octaves."""
    points = 1 << bands.shape[1].bit_length()
    hertz = np.fft.rfftfreq(points, 1 / SAMPLE_RATE)
    octave, centres = np.log2(np.maximum(hertz, 1.0)), np.log2(BANDS_HZ)
    shares = np.stack([np.interp(octave, centres, row) for row in np.eye(len(BANDS_HZ))])
    spectrum = (np.fft.rfft(bands, points) * shares).sum(axis=0)
    return np.fft.irfft(spectrum)[: bands.shape[1]]


def _unit(sound: Array) -> Array:
    return sound / max(float(sound.std()), 1e-12)


def _to_peak(sound: Array, peak_db: float) -> Waveform:
    loudest = max(float(np.abs(sound).max()), 1e-12)
    return np.asarray(sound * 10.0 ** (peak_db / 20.0) / loudest, dtype=np.float32)
