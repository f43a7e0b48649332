"""Takes on the disk: every row, its split, and kills at any moment."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from spoken import ROOM, Blocks, a_take, said
from tiny import hiss

from engine import audio
from engine.dataset import pack, read, select
from engine.errors import DataError
from engine.jobs import Control
from engine.manifest import fold_of, read_manifest
from engine.recipe import Data
from engine.record import Keeper
from engine.sitting import Booth, Sitting
from engine.take import cut
from tests.tiny import ignore

KILLS = 20


def rows(folder: Path) -> list[str]:
    """The paths in the manifest, relative to it."""
    manifest = folder / "manifest.csv"
    clips = read_manifest(manifest) if manifest.exists() else []
    return [str(clip.path.relative_to(folder)) for clip in clips]


def test_a_kept_take_is_a_clip_of_its_speaker_and_its_word_is_where_it_was_said(
    tmp_path: Path,
) -> None:
    keeper = Keeper(tmp_path / "clips", "Anna B.")
    take = a_take()
    path = keeper.keep(take, "hey-nora")
    assert path == tmp_path / "clips/recorded/anna-b/hey-nora-0001.flac"
    assert np.allclose(audio.read(path), take.waveform, atol=1e-4)
    settings = Data(manifest=tmp_path / "clips", wakeword="hey-nora")
    packed = pack(read(settings), tmp_path / "cache", emit=ignore, control=Control())
    (clip,) = packed.clips
    assert (clip.clip.label, clip.clip.group, clip.doubt) == ("hey-nora", "Anna B.", "")
    assert (clip.start_s, clip.end_s) == pytest.approx((0.4, 1.0), abs=0.05)
    assert list(path.parent.glob(".*")) == []


def test_negatives_lie_beside_with_labels_of_their_own(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, "anna")
    names = [keeper.keep(a_take(n), label).name for n, label in enumerate(["nora", "dora", "nora"])]
    assert names == ["nora-0001.flac", "dora-0001.flac", "nora-0002.flac"]


def test_the_next_sitting_of_a_speaker_goes_on_counting(tmp_path: Path) -> None:
    first = Keeper(tmp_path, "anna")
    gone = first.keep(a_take(), "nora")
    first.keep(a_take(1), "nora").unlink()  # its row stays: the name is not free
    again = Keeper(tmp_path, "ANNA")
    assert (again.group, again.before["nora"]) == ("anna", 2)
    assert again.keep(a_take(2), "nora").name == "nora-0003.flac"
    assert gone.exists()


def test_a_manifest_of_other_columns_and_name_is_honoured(tmp_path: Path) -> None:
    manifest = tmp_path / "mine.csv"
    manifest.write_bytes(b"group,mood,label,path\r\nbo,glad,nora,a.wav\r\n")
    Keeper(manifest, "anna").keep(a_take(), "nora")
    assert manifest.read_bytes().decode().splitlines()[2] == (
        "anna,,nora,recorded/anna/nora-0001.flac"
    )
    assert not (tmp_path / "manifest.csv").exists()


# --- which split a speaker is in


def test_a_speaker_is_in_the_split_of_the_names_hash(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, "anna")
    home = fold_of("anna")
    told = [keeper.use_in((home - step) % 5) for step in range(5)]
    assert told == ["tests", "validates", "trains", "trains", "trains"]
    keeper.keep(a_take(), "nora")
    settings = Data(manifest=tmp_path, wakeword="nora", fold=home)
    packed = pack(read(settings), tmp_path / "cache", emit=ignore, control=Control())
    assert len(select(packed, settings, "test").positives) == 1


def test_train_has_a_speaker_only_ever_train(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, "anna", train=True)
    keeper.keep(a_take(), "nora")
    assert keeper.use_in(fold_of("anna")) == "only ever trains"
    settings = Data(manifest=tmp_path, wakeword="nora", fold=fold_of("anna"))
    packed = pack(read(settings), tmp_path / "cache", emit=ignore, control=Control())
    assert len(select(packed, settings, "train").positives) == 1


@pytest.mark.parametrize("train", [True, False])
def test_no_speaker_both_trains_and_follows_the_hash(tmp_path: Path, train: bool) -> None:
    Keeper(tmp_path, "anna", train=train).keep(a_take(), "nora")
    with pytest.raises(DataError, match="clips of anna are split otherwise"):
        Keeper(tmp_path, "anna", train=not train)
    Keeper(tmp_path, "bo", train=not train)


def test_train_needs_a_column_to_say_so(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,label,group\n")
    with pytest.raises(DataError, match="no column `split`"):
        Keeper(tmp_path, "anna", train=True)


# --- what is refused


def test_folders_without_a_manifest_are_not_hidden_by_one(tmp_path: Path) -> None:
    (tmp_path / "positive").mkdir()
    audio.write(tmp_path / "positive" / "a.wav", said((0.5, 0.1)))
    with pytest.raises(DataError, match="without a manifest"):
        Keeper(tmp_path, "anna")


def test_a_manifest_without_groups_or_with_a_torn_row_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,label\n")
    with pytest.raises(DataError, match="no column `group`"):
        Keeper(tmp_path, "anna")
    (tmp_path / "manifest.csv").write_text("path,label,group\na.flac,nora,bo\nb.fl")
    with pytest.raises(DataError, match="row 3 has no path or no label"):
        Keeper(tmp_path, "anna")


def test_a_full_disk_keeps_nothing_half(small_disk: Path) -> None:
    keeper, kept = Keeper(small_disk, "anna"), 0
    with pytest.raises(DataError, match="the disk is full"):
        for seed in range(20):
            keeper.keep(a_take(seed), "nora")
            kept += 1
    assert len(rows(small_disk)) == kept > 0
    assert len(list(small_disk.rglob("*.flac"))) == kept
    assert list((small_disk / "recorded/anna").glob(".*")) == []


def test_a_take_without_a_word_is_refused(tmp_path: Path) -> None:
    booth = Booth(Sitting("anna", "nora", "nora", tmp_path, negatives=0))
    booth.listen(Blocks([hiss(0.1, 1, ROOM), hiss(0.5, 3, ROOM)]))
    assert booth.recorder is not None
    booth.recorder.begin()
    booth.recorder.hear(0.0)
    booth.recorder.end()
    assert booth.stage == "heard"
    with pytest.raises(DataError, match="no word in it"):
        booth.keep()
    assert (booth.stage, booth.kept.total(), rows(tmp_path)) == ("heard", 0, [])


def test_what_is_asked_for_is_looked_over(tmp_path: Path) -> None:
    good = Sitting("anna", "hey nora", "hey-nora", tmp_path)
    assert good.wrong() == {}
    assert set(Sitting(" ", "", "?!", tmp_path, count=-1).wrong()) == {
        "speaker", "phrase", "label", "count"
    }  # fmt: skip
    assert "meaning of its own" in Sitting("a", "noise", "noise", tmp_path).wrong()["label"]


# --- kills


def a_note(folder: Path, name: str) -> Path:
    """What `keep` writes before a take."""
    place = folder / "recorded/anna"
    place.mkdir(parents=True, exist_ok=True)
    row = {"path": f"recorded/anna/{name}.flac", "label": "nora", "group": "anna"}
    note = place / f".{name}.manifest.csv.row"
    note.write_text(json.dumps(row))
    return note


def test_a_take_without_a_row_gets_it_and_a_row_without_a_take_does_not(tmp_path: Path) -> None:
    notes = [a_note(tmp_path, "nora-0001"), a_note(tmp_path, "nora-0002")]
    audio.write(tmp_path / "recorded/anna/nora-0001.flac", a_take().waveform)
    (tmp_path / "recorded/anna/.nora-0002.flac.k3_x9z2q").write_bytes(b"half")
    keeper = Keeper(tmp_path, "bo")
    assert keeper.finished == ("recorded/anna/nora-0001.flac",) == tuple(rows(tmp_path))
    assert not any(note.exists() for note in notes)
    assert list((tmp_path / "recorded/anna").glob(".*")) == []
    assert Keeper(tmp_path, "anna").finished == ()


def test_a_row_that_a_person_took_out_stays_out(tmp_path: Path) -> None:
    Keeper(tmp_path, "anna").keep(a_take(), "nora")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(manifest.read_text().splitlines()[0] + "\n")
    assert Keeper(tmp_path, "anna").finished == ()
    assert rows(tmp_path) == []


KEEPING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from spoken import a_take
from engine.record import Keeper
keeper = Keeper(Path(sys.argv[1]), "anna")
for path in keeper.finished:
    print("kept", path, flush=True)
for number in range(1000):
    path = keeper.keep(a_take(number), "nora").relative_to(sys.argv[1])
    print("kept", path, flush=True)
"""


def confirmed(folder: Path, after_s: float) -> list[str]:
    """What a sitting confirmed before it was killed."""
    tests = str(Path(__file__).parent)
    child = subprocess.Popen(
        [sys.executable, "-c", KEEPING, str(folder), tests], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(after_s)
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read()
    child.wait()
    child.stdout.close()
    return [line.split(" ", 1)[1] for line in (first + rest).splitlines() if line.endswith("flac")]


def test_twenty_kills_lose_no_take_that_was_confirmed_and_keep_none_twice(tmp_path: Path) -> None:
    """After each kill at most the take under way has a row that was not confirmed yet."""
    chance, told = random.Random(7), set[str]()
    for _ in range(KILLS):
        news = confirmed(tmp_path, chance.uniform(0.0, 0.15))
        there = rows(tmp_path)
        assert len(there) == len(set(there))
        told |= set(news)
        assert told <= set(there)
        under_way = set(there) - told
        assert len(under_way) <= 1
        told |= under_way  # a person sees it counted when the next sitting begins
    Keeper(tmp_path, "anna")
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.flac")}
    assert files == set(rows(tmp_path))
    assert len(files) >= KILLS
    assert [path for path in tmp_path.rglob(".*") if path.is_file()] == []
    assert all(len(audio.read(tmp_path / name)) > 16_000 for name in files)


def test_two_sittings_of_one_speaker_at_once_keep_all_takes(tmp_path: Path) -> None:
    code = KEEPING.replace("range(1000)", "range(15)")
    command = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [child.wait() for child in both] == [0, 0]
    assert len(set(rows(tmp_path))) == len(rows(tmp_path)) == 30


def test_a_phrase_with_a_pause_is_one_word_in_its_row(tmp_path: Path) -> None:
    take = cut(said((0.8, 0), (0.3, 0.1), (0.4, 0), (0.4, 0.1), (0.8, 0)))
    Keeper(tmp_path, "anna").keep(take, "hey-nora")
    (clip,) = read_manifest(tmp_path / "manifest.csv")
    assert clip.end_s is not None
    assert clip.start_s is not None
    assert clip.end_s - clip.start_s == pytest.approx(1.1, abs=0.05)
