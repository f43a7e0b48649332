"""Speak a phrase, what sounds like it, and running speech; add noise and rooms: a data folder.

Synthetic voices are for a start, not for a claim: they show the whole bench at work before the
first recording. espeak-ng is robotic and its voices are few, so a detector trained on it alone
misses many more real speakers than one trained on real clips.

The folder is a data folder like any other (`manifest.csv`, labels, groups), and appears whole or
not at all. A positive is the phrase between two stretches of quiet:

    |  quiet  | h e y   j a r v i s |  quiet  |
    0      start_s               end_s     seconds
"""

import csv
import io
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain, count, cycle, islice, product, zip_longest
from pathlib import Path

import numpy as np

from engine import audio
from engine.acoustics import NOISES, noise, room
from engine.audio import SAMPLE_RATE, Waveform
from engine.errors import DataError
from engine.espeak import ACCENTS, Espeak, Line, Voice
from engine.events import Emit, Progressed
from engine.files import building, write_atomic, writing
from engine.jobs import Control
from engine.manifest import FOLDS, WORDLESS, fold_of
from engine.phonetics import Lookalike, confusables, partials, slug, words_heard_in
from engine.programs import Programs
from engine.sentences import VOCABULARY, Talker

CONFUSABLES_OF_A_KIND = 20
STREAM_S = (20.0, 58.0)
QUIET_S = (0.2, 0.6)
QUIET_DB = (-110.0, -45.0)
"""Devices hiss or are silent to the last bit: no floor may tell the voices from people."""
LEVEL_DB = (-18.0, -1.0)
AUDIBLE_DB = -40.0
NOISE_S = 20.0


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much to make: clips, minutes, and in each fold the noises of each kind and the rooms."""

    voices: int = 800
    takes: int = 2
    confusables: int = 1500
    partials: int = 500
    speech_minutes: float = 60.0
    noises: int = 1
    rooms: int = 10


DEFAULT = Amounts()
WORDS = Amounts(takes=24, speech_minutes=30.0)
LETTERS = 4


@dataclass(frozen=True, slots=True)
class Synthesised:
    """What was made, and where; as a string, a sentence that says what it is good for."""

    folder: Path
    label: str
    positives: int
    negatives: int
    speakers: int
    speech_minutes: float
    noises: int
    rooms: int

    def __str__(self) -> str:
        return (
            f"{self.folder}: {self.positives} clips of {self.label} by {self.speakers} speakers, "
            f"{self.negatives} words and parts like it, {self.speech_minutes:.0f} min of speech, "
            f"{self.noises} noises, {self.rooms} rooms. "
            "Synthetic voices are for a start, not for a claim: record real people next."
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One file in the manifest; a clip also says where its word is."""

    path: str
    label: str
    group: str
    take: str = ""
    split: str = ""
    start_s: float | None = None
    end_s: float | None = None
    seconds: float = 0.0
    source: str = "wakeword-tui (synthetic)"
    licence: str = "synthetic, free to use"


@dataclass(frozen=True, slots=True)
class Planned:
    """A clip, or a stream cut to `seconds`, that is about to be spoken."""

    folder: str
    label: str
    line: Line
    seconds: float | None = None


Plan = Callable[[Espeak, np.random.Generator], Iterator[Planned]]


def synth(
    said: tuple[str, ...],
    out: Path,
    *,
    amounts: Amounts = DEFAULT,
    seed: int = 0,
    programs: Programs | None = None,
    emit: Emit,
    control: Control,
) -> Synthesised:
    """Make a data folder for a phrase at `out`; the same seed gives the same bytes.

    `said` is the phrase, then other spellings of it, as other people say it. Programs speak it all
    if there are any; espeak-ng still says what sounds like what. Raises DataError for a phrase
    without a word, a folder in use, a missing espeak-ng, or a program that does not speak.
    """
    check(said, out)

    def plan(espeak: Espeak, rng: np.random.Generator) -> Iterator[Planned]:
        voices = programs.voices if programs else cast(espeak.variants, rng)
        heard_in = (words_heard_in(text, VOCABULARY, espeak.transcribe) for text in said)
        banned = frozenset[str]().union(*heard_in)
        near, parts = _lookalikes(said, banned, espeak, texts_only=programs is not None)
        yield from _plan_clips(said, amounts, voices, near, parts, rng)
        talker = Talker(banned, rng)
        voices = programs.voices if programs else cast(espeak.variants, rng)
        yield from _plan_streams(talker, amounts.speech_minutes, voices, rng)

    rows = _grow(out, plan, amounts, seed, programs, emit=emit, control=control)
    return _summary(out, slug(said[0]), rows)


def speak_words(
    out: Path, *, amounts: Amounts = WORDS, seed: int = 0, emit: Emit, control: Control
) -> None:
    """Make a data folder of many words, each `takes` times by voices at random.

    Raises DataError for a folder in use, or a missing espeak-ng.
    """

    def plan(espeak: Espeak, rng: np.random.Generator) -> Iterator[Planned]:
        voices = cast(espeak.variants, rng)
        for word, _ in product(_words(), range(amounts.takes)):
            voice = voices[rng.integers(len(voices))]
            yield Planned("words", word, _line(voice, word, rng))
        talker = Talker(frozenset(), rng)
        voices = cast(espeak.variants, rng)
        yield from _plan_streams(talker, amounts.speech_minutes, voices, rng)

    _grow(out, plan, amounts, seed, None, emit=emit, control=control)


def _grow(
    out: Path,
    plan: Plan,
    amounts: Amounts,
    seed: int,
    programs: Programs | None,
    *,
    emit: Emit,
    control: Control,
) -> list[Row]:
    """Make a data folder whole or not at all."""
    rows: list[Row] = []
    with writing(out), building(out.parent) as growing:
        with closing(_make(plan, growing, amounts, seed, programs)) as made:
            for row, total in made:
                control.tick()
                rows.append(row)
                if len(rows) % 50 == 0 or len(rows) == total:
                    emit(Progressed("synthesise", len(rows), total, "files"))
        write_atomic(growing / "manifest.csv", _manifest(rows))
        growing.chmod(0o755)
        growing.rename(out)
    return rows


def check(said: tuple[str, ...], out: Path) -> None:
    """Raise DataError unless the phrase can be a label and the folder is free."""
    phrase = said[0]
    if not all(map(slug, said)):
        raise DataError("the phrase has no word in it", "try: wakeword-tui synth 'hey jarvis'")
    if slug(phrase).replace("-", "_") in WORDLESS:
        raise DataError(f"{phrase!r} is a label with a meaning of its own", "add a word to it")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is already there", "remove it or name another folder")


def cast(variants: Iterable[str], rng: np.random.Generator) -> list[Voice]:
    """Every accent with every variant, shuffled so that any first few spread over the folds."""
    voices = [Voice(accent, variant) for accent, variant in product(ACCENTS, variants)]
    shuffled = [voices[at] for at in rng.permutation(len(voices))]
    by_fold = [[v for v in shuffled if fold_of(v.group) == fold] for fold in range(FOLDS)]
    return [voice for layer in zip_longest(*by_fold) for voice in layer if voice is not None]


def _make(
    plan: Plan, folder: Path, amounts: Amounts, seed: int, programs: Programs | None
) -> Generator[tuple[Row, int], None, None]:
    """Write every file; give its row and the number of files there will be."""
    rng = np.random.default_rng(seed)
    noises = [(kind, name) for kind in NOISES for name in _names(f"noise:{kind}", amounts.noises)]
    rooms = list(_names("rir:room", amounts.rooms))
    with Espeak(seed) as espeak:
        lines = list(plan(espeak, rng))
        total = len(lines) + len(noises) + len(rooms)
        speaker = programs or espeak
        with closing(speaker.speak(planned.line for planned in lines)) as spoken:
            for number, (planned, waveform) in enumerate(zip(lines, spoken, strict=True)):
                row = _keep_speech(folder, number, planned, waveform, rng)
                yield replace(row, source=speaker.source, licence=speaker.licence), total
    for kind, group in noises:
        yield _keep_sound(folder, group, noise(kind, NOISE_S, rng)), total
    for group in rooms:
        yield _keep_sound(folder, group, room(rng)), total


def _lookalikes(
    said: tuple[str, ...], banned: frozenset[str], espeak: Espeak, *, texts_only: bool
) -> tuple[list[Lookalike], list[Lookalike]]:
    """What sounds like the phrase, and parts of it, or other words where no part is a text."""
    near = confusables(said, VOCABULARY, espeak.transcribe, ACCENTS, CONFUSABLES_OF_A_KIND)
    parts = partials(said[0], espeak.transcribe)
    if not texts_only:
        return near, parts
    near, parts = ([one for one in kind if not one.phonemes] for kind in (near, parts))
    return near, parts or [Lookalike(word, word) for word in _words(banned)]


def _words(banned: frozenset[str] = frozenset()) -> list[str]:
    """The vocabulary's words that are long enough to be a clip."""
    return [w for w in VOCABULARY if len(w) >= LETTERS and w not in WORDLESS | banned]


def _plan_clips(
    said: tuple[str, ...],
    amounts: Amounts,
    voices: Sequence[Voice],
    near: Iterable[Lookalike],
    parts: Iterable[Lookalike],
    rng: np.random.Generator,
) -> Iterator[Planned]:
    """The phrase by every voice in turn, then what sounds like it by voices at random.

    Each voice reads another spelling than the one before it, and in its own next take another.
    """
    for take in range(amounts.takes):
        for number, voice in enumerate(islice(cycle(voices), amounts.voices)):
            text = said[(number + number // len(voices) + take) % len(said)]
            yield Planned("positive", slug(said[0]), _line(voice, text, rng))
    lookalikes = islice(cycle(near), amounts.confusables), islice(cycle(parts), amounts.partials)
    for lookalike in chain(*lookalikes):
        voice = voices[int(rng.integers(len(voices)))]
        line = _line(voice, lookalike.text, rng, phonemes=lookalike.phonemes)
        yield Planned("negative", lookalike.label, line)


def _plan_streams(
    talker: Talker, minutes: float, voices: Sequence[Voice], rng: np.random.Generator
) -> Iterator[Planned]:
    """Running speech by voices in turn."""
    turns = cycle(voices)
    missing_s = 60.0 * minutes
    while missing_s > 0:
        seconds = rng.uniform(*STREAM_S) if missing_s > STREAM_S[1] else max(missing_s, STREAM_S[0])
        line = _line(next(turns), "", rng)
        # Fast voices outrun their nominal rate; what is too long is cut.
        text = talker.text(words=round(1.6 * seconds * line.rate_wpm / 60))
        yield Planned("streams", "speech", replace(line, speak=text), seconds)
        missing_s -= seconds


def _line(voice: Voice, text: str, rng: np.random.Generator, *, phonemes: bool = False) -> Line:
    """A text in a manner of speaking drawn at random, within what people do."""
    rate_wpm, pitch, spread = (int(n) for n in rng.integers((130, 15, 20), (211, 86, 81)))
    return Line(voice, text, phonemes, rate_wpm, pitch, spread)


def _names(stem: str, per_fold: int) -> Iterator[str]:
    """Number groups upwards, passing over those of a full fold, until every fold has its share."""
    wanted = dict.fromkeys(range(FOLDS), per_fold)
    for number in count():
        if not any(wanted.values()):
            return
        group = f"{stem}-{number:02d}"
        if wanted[fold_of(group)]:
            wanted[fold_of(group)] -= 1
            yield group


def _keep_speech(
    folder: Path, number: int, planned: Planned, spoken: Waveform, rng: np.random.Generator
) -> Row:
    """Write a clip or a stream among its voice's files."""
    voice = planned.line.voice
    path = Path(planned.folder, slug(voice.variant), f"{planned.label}-{number:05d}.flac")
    row = Row(path.as_posix(), planned.label, voice.group, take=path.stem)
    speech = _audible(spoken) * _gain(rng.uniform(*LEVEL_DB))
    if planned.seconds is None:
        before, after = (int(n) for n in rng.uniform(*QUIET_S, 2) * SAMPLE_RATE)
        start_s, end_s = before / SAMPLE_RATE, (before + len(speech)) / SAMPLE_RATE
        row = replace(row, start_s=start_s, end_s=end_s)
        waveform = np.pad(speech, (before, after))
    else:
        waveform = speech[: round(planned.seconds * SAMPLE_RATE)]
    hiss = _gain(rng.uniform(*QUIET_DB))
    waveform = waveform + rng.standard_normal(len(waveform), dtype=np.float32) * hiss
    _write(folder / path, waveform)
    return replace(row, seconds=len(waveform) / SAMPLE_RATE)


def _keep_sound(folder: Path, group: str, waveform: Waveform) -> Row:
    """Write a noise or a room."""
    label, name = group.split(":")
    path = Path(label, f"{name}.flac")
    _write(folder / path, waveform)
    seconds = len(waveform) / SAMPLE_RATE
    return Row(path.as_posix(), label, group, take=name, seconds=seconds)


def _write(path: Path, waveform: Waveform) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, waveform)


def _audible(spoken: Waveform) -> Waveform:
    """Speech `(N,)` without the silence around it (10 ms frames), peak at full scale."""
    frame = SAMPLE_RATE // 100
    frames = np.pad(spoken, (0, -len(spoken) % frame)).reshape(-1, frame)
    loudness = np.sqrt(np.mean(frames**2, axis=1))
    audible = np.flatnonzero(loudness > loudness.max(initial=0.0) * _gain(AUDIBLE_DB))
    if len(audible) == 0:
        raise DataError("a voice said nothing", "write the phrase in plain words")
    speech = spoken[audible[0] * frame : (audible[-1] + 1) * frame]
    return np.asarray(speech / np.abs(speech).max(), dtype=np.float32)


def _gain(level_db: float) -> np.float32:
    return np.float32(10.0 ** (level_db / 20.0))


def _manifest(rows: list[Row]) -> bytes:
    """The rows as CSV; seconds to a tenth of a millisecond, nothing for what is not known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.name for column in fields(Row))
    for row in rows:
        cells = asdict(row).values()
        writer.writerow(f"{cell:.4f}" if isinstance(cell, float) else cell for cell in cells)
    return text.getvalue().encode()


def _summary(folder: Path, label: str, rows: list[Row]) -> Synthesised:
    positives = [row for row in rows if row.label == label]
    return Synthesised(
        folder=folder,
        label=label,
        positives=len(positives),
        negatives=sum(row.start_s is not None and row.label != label for row in rows),
        speakers=len({row.group for row in positives}),
        speech_minutes=sum(row.seconds for row in rows if row.label == "speech") / 60,
        noises=sum(row.label == "noise" for row in rows),
        rooms=sum(row.label == "rir" for row in rows),
    )
