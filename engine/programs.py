"""Voices beside espeak-ng's: any program that reads a text aloud into a file.

A voice is a command line with places to fill in; it is split as a shell splits it, and no shell
runs it:

    flite -voice slt --setf duration_stretch={stretch} -t {text} -o {wav}
    piper -m libritts.onnx --speaker {0-903} --length-scale {stretch} -f {wav}

`{text}` is what is said, which is on the program's standard input too, `{wav}` the file that it
writes, `{stretch}` how much slower than usual it speaks; a range such as `{0-903}` is a voice for
each of its numbers. Each clip is played a little faster or slower after that, as if by a smaller or
a larger speaker.
"""

import os
import re
import shlex
import subprocess
import tempfile
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path

from engine import audio
from engine.audio import SAMPLE_RATE, Waveform
from engine.errors import DataError
from engine.espeak import Line, Voice
from engine.manifest import FOLDS, fold_of
from engine.phonetics import slug

RANGE = re.compile(r"\{(\d+)-(\d+)\}")
LEAST_VOICES = 3
SIZE = 1.2
"""The largest change of a speaker's size, as a factor of all frequencies."""
USUAL_WPM = 170
STEP_HZ = 160
"""Rates are whole multiples of it, so that the filter that resamples them stays short."""
LONGEST_S = 300.0


class Programs:
    """Voices that programs speak with; as many lines at once as there are cores.

    Raises DataError for a command without its places, fewer than three voices, and a program that
    is not there, fails, or writes no audio.
    """

    licence = "synthetic, as the voice allows"

    def __init__(self, commands: Sequence[str]) -> None:
        each = [one for command in commands for one in _each(command)]
        if len(each) < LEAST_VOICES:
            raise DataError(
                f"{len(each)} voices: one each must train, validate and test",
                "name more with --voice, or a range of speakers such as {0-99}",
            )
        names = _names([Path(command[0]).stem for command in each])
        self._commands = dict(zip(names, each, strict=True))
        self.voices = [Voice("", name) for name in names]
        self.source = ", ".join(sorted({command[0] for command in each})) + " (synthetic)"

    def speak(self, lines: Iterable[Line]) -> Generator[Waveform]:
        """Speak lines in order, a few ahead of the caller; waveforms `(N,)`."""
        workers = os.cpu_count() or 1
        under_way: deque[Future[Waveform]] = deque()
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
            try:
                for number, line in enumerate(lines):
                    wav = Path(folder, f"{number}.wav")
                    under_way.append(pool.submit(self._say, line, wav))
                    if len(under_way) > 2 * workers:
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _say(self, line: Line, wav: Path) -> Waveform:
        places = {
            "text": line.speak,
            "wav": str(wav),
            "stretch": f"{USUAL_WPM / line.rate_wpm:.2f}",
        }
        command = self._commands[line.voice.variant]
        _run([_filled(word, places) for word in command], line.speak)
        if not wav.exists():
            raise DataError(f"{command[0]} wrote no {{wav}}", "try the command in a shell")
        waveform = audio.read(wav)
        wav.unlink()
        return _sized(waveform, line.pitch)


def _each(command: str) -> list[list[str]]:
    """The words of a command, once for each number of its range."""
    try:
        words = shlex.split(command)
    except ValueError as problem:
        raise DataError(f"{command}: {problem}", "quote it as in a shell") from None
    if not any("{wav}" in word for word in words[1:]):
        raise DataError(
            f"{command or 'an empty command'} does not say where {{wav}} goes",
            "write: flite -voice slt -t {text} -o {wav}",
        )
    found = RANGE.search(command)
    if found is None:
        return [words]
    first, last = (int(end) for end in found.groups())
    return [
        [word.replace(found[0], str(number)) for word in words] for number in range(first, last + 1)
    ]


def _names(stems: Sequence[str]) -> list[str]:
    """A name for each voice, numbered so that voices fill the folds in turn."""
    names = dict[str, None]()
    for at, stem in enumerate(stems):
        numbered = (f"{slug(stem) or 'voice'}-{number}" for number in count())
        names[next(name for name in numbered if name not in names and _fold(name, at))] = None
    return list(names)


def _fold(name: str, at: int) -> bool:
    return fold_of(Voice("", name).group) == at % FOLDS


def _filled(word: str, places: dict[str, str]) -> str:
    """A word of a command with its places filled in; what was filled in is not looked at again."""
    return re.sub(r"\{(text|wav|stretch)\}", lambda place: places[place[1]], word)


def _run(command: list[str], text: str) -> None:
    try:
        done = subprocess.run(
            command,
            input=text.encode(),
            capture_output=True,
            timeout=LONGEST_S,
            check=False,
        )
    except FileNotFoundError:
        raise DataError(
            f"there is no program {command[0]}", "install it, or name its path"
        ) from None
    except PermissionError:
        raise DataError(f"{command[0]} may not be run", "chmod +x it") from None
    except subprocess.TimeoutExpired:
        raise DataError(
            f"{command[0]} was not done in {LONGEST_S:.0f} s", "try the command in a shell"
        ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if said else f"exit code {done.returncode}"
        raise DataError(f"{command[0]}: {reason}", "try the command in a shell")


def _sized(waveform: Waveform, pitch: int) -> Waveform:
    """A waveform `(N,)` from a speaker whose size goes with `pitch` (0 to 99, 50 is as it was)."""
    factor = SIZE ** ((pitch - 50) / 50)
    return audio.resample(waveform, round(SAMPLE_RATE * factor / STEP_HZ) * STEP_HZ)
