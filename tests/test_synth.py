"""`engine.synth` with the real espeak-ng, on as little as shows what matters."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine import audio
from engine.acoustics import room
from engine.errors import DataError
from engine.espeak import ACCENTS, Espeak, Voice
from engine.events import Event, Progressed
from engine.jobs import Control, Stopped
from engine.phonetics import confusables, distance, join, partials, plain, words_heard_in
from engine.sentences import VOCABULARY, Talker
from engine.synth import Amounts, _plan_clips, fold_of, synth

FEW = Amounts(voices=15, takes=2, confusables=30, partials=6, speech_minutes=3.5, rooms=1)
Rows = list[dict[str, str]]


def rows_of(folder: Path) -> Rows:
    with (folder / "manifest.csv").open() as file:
        return list(csv.DictReader(file))


def labelled(rows: Rows, label: str) -> Rows:
    return [row for row in rows if row["label"] == label]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "jarvis"
    synth(("hey jarvis",), out, amounts=FEW, seed=3, emit=lambda event: None, control=Control())
    return out


@pytest.fixture(scope="module")
def rows(folder: Path) -> Rows:
    return rows_of(folder)


@pytest.fixture(scope="module")
def espeak() -> Iterator[Espeak]:
    with Espeak(seed=0) as espeak:
        yield espeak


def test_every_clip_of_the_phrase_sounds_different(folder: Path, rows: Rows) -> None:
    positives = labelled(rows, "hey-jarvis")
    sounds = {(folder / row["path"]).read_bytes() for row in positives}
    assert len(sounds) == len(positives) == 30


def test_the_word_lies_where_the_manifest_says(folder: Path, rows: Rows) -> None:
    for row in labelled(rows, "hey-jarvis"):
        waveform = audio.read(folder / row["path"])
        start, end = (round(float(row[at]) * audio.SAMPLE_RATE) for at in ("start_s", "end_s"))
        assert 0 < start < end < len(waveform)
        assert np.abs(waveform[start:end]).max() > 0.1
        assert np.abs(waveform[:start]).max() < 0.04  # the loudest hiss, seven deviations
        assert np.abs(waveform[end:]).max() < 0.04


@pytest.mark.parametrize("label", ["hey-jarvis", "speech", "noise", "rir"])
def test_each_fold_has_some_of_everything(rows: Rows, label: str) -> None:
    assert {fold_of(row["group"]) for row in labelled(rows, label)} == {0, 1, 2, 3, 4}


def test_negatives_tell_their_cohort_by_their_label(rows: Rows) -> None:
    labels = [row["label"] for row in rows if row["path"].startswith("negative/")]
    assert sum(label.startswith("confusable-") for label in labels) == 30
    assert sum(label.startswith("partial-") for label in labels) == 6


def test_streams_are_20_to_60_seconds_long_and_add_up(folder: Path, rows: Rows) -> None:
    seconds = [float(row["seconds"]) for row in labelled(rows, "speech")]
    assert all(20 <= length <= 60 for length in seconds)
    assert 3.4 <= sum(seconds) / 60 <= 3.9  # the last stream is at least 20 s long
    first = labelled(rows, "speech")[0]
    assert len(audio.read(folder / first["path"])) / audio.SAMPLE_RATE == pytest.approx(
        float(first["seconds"]), abs=1e-4
    )


def test_speech_never_holds_a_word_of_the_phrase(espeak: Espeak) -> None:
    banned = words_heard_in("the right computer", VOCABULARY, espeak.transcribe)
    said = set(Talker(banned, np.random.default_rng(0)).text(words=5000).lower().split())
    assert not said & {"the", "right", "computer"}
    assert len(said) > 500


def test_what_sounds_like_a_word_of_the_phrase_is_banned_too(espeak: Espeak) -> None:
    assert "hear" in words_heard_in("here", VOCABULARY, espeak.transcribe)
    assert "neighbour" not in words_heard_in("here", VOCABULARY, espeak.transcribe)


def test_confusables_are_near_and_never_the_phrase(espeak: Espeak) -> None:
    def away(text: str) -> float:
        heard = plain(join(espeak.transcribe(text)))
        return distance(heard, plain(join(espeak.transcribe("hey jarvis"))))

    words = ("hay", "a", *VOCABULARY)
    chosen = confusables(("hey jarvis",), words, espeak.transcribe, ACCENTS, 10)
    texts = [lookalike.text for lookalike in chosen if not lookalike.phonemes]
    assert {"hey travis", "travis"} <= set(texts)
    assert not {"hey jarvis", "hay jarvis", "a jarvis"} & set(texts)  # one accent drops its h
    assert max(map(away, texts)) < np.mean([away(word) for word in VOCABULARY])


def test_what_another_spelling_sounds_like_is_no_confusable(espeak: Espeak) -> None:
    """A near miss and a word of the vocabulary are the phrase where people say it so."""

    def texts(*said: str) -> set[str]:
        near = confusables(said, ("travis",), espeak.transcribe, ACCENTS, 99)
        return {lookalike.text for lookalike in near}

    assert {"travis", "[[g|'A@|v|I|s]]"} <= texts("jarvis")
    assert not {"travis", "[[g|'A@|v|I|s]]"} & texts("jarvis", "travis", "garvis")


def test_every_voice_reads_one_spelling_after_the_other() -> None:
    """Two voices, two spellings: each says both, and no spelling is one voice's own."""
    rng, some = np.random.default_rng(0), Amounts(voices=4, takes=2, confusables=0, partials=0)
    voices = [Voice("en-us", "max"), Voice("en-gb", "linda")]
    planned = list(_plan_clips(("computer", "com pewter"), some, voices, [], [], rng))
    assert {clip.label for clip in planned} == {"computer"}
    said = [(clip.line.voice.variant, clip.line.speak == "computer") for clip in planned]
    assert said[:4] == [("max", True), ("linda", False), ("max", False), ("linda", True)]
    assert said[4:] == [("max", False), ("linda", True), ("max", True), ("linda", False)]


def test_near_misses_change_one_phoneme_and_keep_the_stress(espeak: Espeak) -> None:
    chosen = confusables(("hey jarvis",), (), espeak.transcribe, ACCENTS, 99)
    assert "[[h|'eI g|'A@|v|I|s]]" in {lookalike.text for lookalike in chosen}


def test_partials_are_words_and_syllables(espeak: Espeak) -> None:
    labels = {lookalike.label for lookalike in partials("hey jarvis", espeak.transcribe)}
    assert {"partial-hey", "partial-jarvis", "partial-syllables-1-to-2"} <= labels
    assert all(lookalike.phonemes for lookalike in partials("computer", espeak.transcribe))


def test_distance_of_phonemes_by_hand() -> None:
    assert distance(("k", "a", "t"), ("k", "a", "t")) == 0
    assert distance(("k", "a", "t"), ("p", "a", "t")) == pytest.approx(0.5 / 3)  # both plosives
    assert distance(("k", "a", "t"), ("m", "a")) == pytest.approx(2 / 3)  # unlike, and one gone


def test_a_room_begins_with_the_direct_sound_and_dies_away() -> None:
    response = room(np.random.default_rng(1))
    assert np.argmax(np.abs(response)) < 200
    tenth = len(response) // 10
    assert np.square(response[:tenth]).sum() > 100 * np.square(response[-tenth:]).sum()


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = (tmp_path / name for name in ("one", "other"))
    few = Amounts(voices=100, takes=1, confusables=5, partials=5, speech_minutes=0.4, rooms=1)
    for out in (one, other):
        synth(("alexa",), out, amounts=few, seed=7, emit=lambda event: None, control=Control())
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) > 100
    assert all((one / file).read_bytes() == (other / file).read_bytes() for file in files)


def test_a_stopped_synth_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    control, seen = Control(), []

    def stop_soon(event: Event) -> None:
        seen.append(event)
        control.stop()

    with pytest.raises(Stopped):
        synth(("alexa",), tmp_path / "out", amounts=FEW, emit=stop_soon, control=control)
    assert isinstance(seen[0], Progressed) and seen[0].done == 50 < seen[0].total
    assert list(tmp_path.iterdir()) == []


def test_a_folder_beside_it_is_left_alone_whatever_its_name(tmp_path: Path) -> None:
    mine = tmp_path / "clips.partial" / "mine.wav"
    mine.parent.mkdir()
    mine.touch()
    few = Amounts(voices=100, takes=1, confusables=5, partials=5, speech_minutes=0.4, rooms=1)
    out = tmp_path / "clips"
    synth(("alexa",), out, amounts=few, emit=lambda event: None, control=Control())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "clips.partial"]
    assert mine.exists()


def test_a_folder_in_use_is_left_alone(folder: Path) -> None:
    with pytest.raises(DataError, match="already there"):
        synth(("alexa",), folder, emit=lambda event: None, control=Control())


@pytest.mark.parametrize("phrase", ["", "?!", "noise", "false trigger"])
def test_a_phrase_must_make_a_label_of_its_own(tmp_path: Path, phrase: str) -> None:
    with pytest.raises(DataError):
        synth((phrase,), tmp_path / "out", emit=lambda event: None, control=Control())


def test_without_espeak_a_hint_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "espeakng_loader.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DataError, match="not here") as caught:
        synth(("alexa",), tmp_path / "out", emit=lambda event: None, control=Control())
    assert "wakeword-tui[demo]" in caught.value.hint
