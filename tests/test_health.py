"""The health report counts what is wrong; an import makes a data folder of any recordings."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine import audio
from engine.dataset import fold_of, pack, read, select
from engine.errors import DataError
from engine.events import Event
from engine.health import Health, Imported, check, import_folder
from engine.jobs import Control, Stopped
from engine.recipe import Data

PEOPLE = [next(f"p{n}" for n in range(99) if fold_of(f"p{n}") == fold) for fold in range(5)]


def word(path: Path, gain: float = 0.3, hz: float = 440.0, seconds: float = 0.5) -> Path:
    """A tone between two stretches of half a second of silence."""
    tone = gain * np.sin(2 * np.pi * hz * np.arange(round(seconds * 16000)) / 16000)
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, np.pad(tone, 8000).astype(np.float32))
    return path


def look(folder: Path, cache: Path, wakeword: str = "hey") -> Health:
    settings = Data(manifest=folder, wakeword=wakeword)
    return check(pack(read(settings), cache, emit=[].append, control=Control()), settings)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A word, another word and a stream by one person of each fold."""
    for n, person in enumerate(PEOPLE):
        word(tmp_path / "data/positive" / person / "1.wav", hz=300 + 50 * n)
        word(tmp_path / "data/negative" / person / "1.wav", hz=1300 + 50 * n)
        word(tmp_path / "data/streams" / person / "1.wav", hz=2300 + 50 * n, seconds=8.0)
    return tmp_path / "data"


def test_labels_and_splits_are_counted(data: Path, tmp_path: Path) -> None:
    health = look(data, tmp_path / "cache")
    wake = health.labels[0]
    assert (wake.label, wake.clips, wake.takes, wake.groups, wake.doubtful) == ("hey", 5, 5, 5, 0)
    assert wake.hours == pytest.approx(5 * 1.5 / 3600)
    assert [row.label for row in health.labels] == ["hey", "negative", "speech"]
    counts = [(row.split, row.positives, row.groups, row.negatives) for row in health.splits]
    assert counts == [("train", 3, 3, 3), ("validation", 1, 1, 1), ("test", 1, 1, 1)]
    assert health.splits[0].stream_hours == pytest.approx(3 * 9 / 3600)


def test_bad_clips_are_counted_by_what_is_wrong(data: Path, tmp_path: Path) -> None:
    more = data / "positive" / "more"
    word(more / "silent.wav", gain=0.001)
    word(more / "clipped.wav", gain=3.0)
    word(more / "short.wav", seconds=0.08)
    word(more / "long.wav", seconds=2.0)
    (more / "copy.wav").write_bytes((data / "positive" / PEOPLE[0] / "1.wav").read_bytes())
    (more / "text.wav").write_text("no audio")
    wake = look(data, tmp_path / "cache").labels[0]
    assert (wake.silent, wake.clipped, wake.too_short, wake.too_long) == (1, 1, 1, 1)
    assert (wake.copies, wake.unreadable, wake.doubtful, wake.clips) == (1, 1, 4, 10)


def test_a_label_of_unreadable_files_alone_has_its_row(data: Path, tmp_path: Path) -> None:
    (data / "noise").mkdir()
    (data / "noise" / "text.wav").write_text("no audio")
    health = look(data, tmp_path / "cache")
    noise = next(row for row in health.labels if row.label == "noise")
    assert (noise.clips, noise.unreadable) == (0, 1)
    assert health.unreadable[0][0].endswith("noise/text.wav")


def test_a_small_test_says_what_it_cannot_show(data: Path, tmp_path: Path) -> None:
    """One clip and no miss: 1 - 0.025 = 97.5 % is the Clopper-Pearson bound."""
    warnings = "\n".join(look(data, tmp_path / "cache").warnings)
    assert "with none missed, 98 % missed is still possible" in warnings
    assert "0.00 h of streams" in warnings
    assert "no noise to train with" in warnings
    assert "no rooms to train with" in warnings


def test_what_training_would_refuse_is_the_first_warning(data: Path, tmp_path: Path) -> None:
    health = look(data, tmp_path / "cache", wakeword="")
    assert health.warnings[0] == "data.wakeword is not set: the words here: negative, positive"


def test_copies_across_splits_and_words_are_told(data: Path, tmp_path: Path) -> None:
    first = (data / "positive" / PEOPLE[0] / "1.wav").read_bytes()
    (data / "positive" / PEOPLE[2] / "copy.wav").write_bytes(first)
    (data / "negative" / PEOPLE[0] / "copy.wav").write_bytes(first)
    warnings = look(data, tmp_path / "cache").warnings
    assert "1 recordings are in several splits: give their copies the same take" in warnings
    assert "1 recordings are both wake word and not: correct their labels" in warnings


def test_the_report_fits_80_columns_and_is_json(data: Path, tmp_path: Path) -> None:
    health = look(data, tmp_path / "cache")
    tables = health.render().split("\n\n")[:2]
    widths = {len(line) for line in tables[0].splitlines()}
    assert widths == {80}
    assert str(health) == health.render()
    assert json.loads(health.to_json())["labels"][0]["label"] == "hey"


# --- import


def bring(source: Path, out: Path, label: str = "hey") -> Imported:
    return import_folder(source, out, label, emit=[].append, control=Control())


def test_any_format_becomes_16_khz_flac_with_a_manifest(tmp_path: Path) -> None:
    source, rate = tmp_path / "in", 44100
    word(source / "anna" / "1.wav")
    sine = np.sin(2 * np.pi * 440 * np.arange(rate) / rate) / 3
    soundfile.write(source / "anna" / "2.mp3", np.stack([sine, sine], axis=1), rate)
    assert bring(source, tmp_path / "out").added == 2
    clips = read(Data(manifest=tmp_path / "out"))
    assert {(c.label, c.group) for c in clips} == {("hey", "anna")}
    assert {soundfile.info(c.path).samplerate for c in clips} == {16000}
    assert {soundfile.info(c.path).format for c in clips} == {"FLAC"}
    np.testing.assert_array_equal(
        audio.to_int16(audio.read(clips[0].path)), audio.to_int16(audio.read(source / "anna/1.wav"))
    )


def test_names_that_differ_in_a_number_are_one_group(tmp_path: Path) -> None:
    """A name that is a number alone says nothing: then the folder is the speaker."""
    for n, name in enumerate(["ben_01", "ben (2)", "cleo", "17", "18"]):
        word(tmp_path / "dora" / f"{name}.wav", hz=300 + 50 * n)
    bring(tmp_path / "dora", tmp_path / "out")
    groups = sorted(c.group for c in read(Data(manifest=tmp_path / "out")))
    assert groups == ["ben", "ben", "cleo", "dora", "dora"]


def test_importing_again_adds_nothing(tmp_path: Path) -> None:
    word(tmp_path / "in" / "a.wav")
    bring(tmp_path / "in", tmp_path / "out")
    before = (tmp_path / "out/manifest.csv").read_bytes()
    word(tmp_path / "in" / "same under another name.wav")
    again = bring(tmp_path / "in", tmp_path / "out")
    assert (again.added, again.known) == (0, 2)
    assert (tmp_path / "out/manifest.csv").read_bytes() == before


def test_a_second_label_joins_the_manifest_and_its_columns(tmp_path: Path) -> None:
    out = tmp_path / "out"
    word(out / "old.wav", hz=900)
    (out / "manifest.csv").write_text("label,path,group,mood\nhey,old.wav,ann,glad")  # no line end
    bring(word(tmp_path / "one.wav"), out, "computer")
    lines = (out / "manifest.csv").read_text().splitlines()
    assert lines[:2] == ["label,path,group,mood", "hey,old.wav,ann,glad"]
    assert lines[2].startswith("computer,computer/one-")
    assert [c.label for c in read(Data(manifest=out))] == ["computer", "hey"]


def test_a_manifest_without_groups_takes_no_speaker(tmp_path: Path) -> None:
    out = tmp_path / "out"
    word(out / "old.wav")
    (out / "manifest.csv").write_text("path,label\nold.wav,hey\n")
    with pytest.raises(DataError, match="no column `group`"):
        bring(word(tmp_path / "one.wav", hz=900), out)


def test_an_import_does_not_hide_the_folders_that_are_there(tmp_path: Path) -> None:
    word(tmp_path / "out/positive/ann/1.wav")
    with pytest.raises(DataError, match="without a manifest"):
        bring(word(tmp_path / "one.wav", hz=900), tmp_path / "out")


def test_unreadable_recordings_are_listed(tmp_path: Path) -> None:
    word(tmp_path / "in" / "a.wav")
    (tmp_path / "in" / "text.wav").write_text("no audio")
    done = bring(tmp_path / "in", tmp_path / "out")
    assert (done.added, [path.name for path, _ in done.unreadable]) == (1, ["text.wav"])
    assert "text.wav" in str(done)


@pytest.mark.parametrize("label", ["", "../up", "a/b", ".hidden"])
def test_a_label_is_a_folder_name(tmp_path: Path, label: str) -> None:
    with pytest.raises(DataError, match="cannot be a label"):
        bring(word(tmp_path / "a.wav"), tmp_path / "out", label)


def test_nothing_to_import_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no audio in"):
        bring(tmp_path, tmp_path / "out")


def test_a_stopped_import_goes_on_where_it_was(tmp_path: Path) -> None:
    for n in range(3):
        word(tmp_path / "in" / f"{n}.wav", hz=300 + 50 * n)
    control = Control()
    with pytest.raises(Stopped):
        import_folder(
            tmp_path / "in", tmp_path / "out", "hey", emit=lambda _: control.stop(), control=control
        )
    assert bring(tmp_path / "in", tmp_path / "out").added == 3
    assert len(read(Data(manifest=tmp_path / "out"))) == 3


@pytest.mark.parametrize("label", ["noise", "hey"])
def test_an_import_that_was_killed_is_made_anew(tmp_path: Path, label: str) -> None:
    """The files were there already and their rows were not: no folder of somebody else's."""
    for n in range(3):
        word(tmp_path / "in" / f"{n}.wav", hz=300 + 50 * n)
    died = RuntimeError("as a kill would")

    def die(_: Event) -> None:
        raise died

    with pytest.raises(RuntimeError, match="as a kill would"):
        import_folder(tmp_path / "in", tmp_path / "out", label, emit=die, control=Control())
    assert any((tmp_path / "out").rglob("*.flac"))
    assert bring(tmp_path / "in", tmp_path / "out", label).added == 3


def test_what_was_imported_can_be_selected(tmp_path: Path) -> None:
    for n, person in enumerate(PEOPLE):
        word(tmp_path / "in" / person / "1.wav", hz=300 + 50 * n)
    bring(tmp_path / "in", tmp_path / "out")
    settings = Data(manifest=tmp_path / "out", wakeword="hey")
    packed = pack(read(settings), tmp_path / "cache", emit=[].append, control=Control())
    assert len(select(packed, settings, "train").positives) == 3
