"""Clips are read, packed once, and chosen by group; every file is a real one."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from engine import audio
from engine.dataset import (
    Clip,
    Pack,
    PackedClip,
    everything,
    fold_of,
    kind_of,
    pack,
    packed_already,
    read,
    require,
    select,
    split_of,
)
from engine.errors import DataError
from engine.events import Event, Progressed
from engine.jobs import Control, Stopped
from engine.recipe import Data

RATE = audio.SAMPLE_RATE
# Names of groups by fold, found by hashing p0, p1, ...
PEOPLE = [next(f"p{n}" for n in range(99) if fold_of(f"p{n}") == fold) for fold in range(5)]
REAL = Path(os.environ.get("WAKEWORD_DATA", Path(__file__).parents[1] / "../shared/data"))


def tone(seconds: float, hz: float = 440.0, gain: float = 0.3) -> audio.Waveform:
    phase = 2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE
    return (gain * np.sin(phase)).astype(np.float32)


def write(path: Path, waveform: audio.Waveform) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, waveform)
    return path


def word(path: Path, hz: float = 440.0) -> Path:
    """0.5 s of tone between two stretches of silence."""
    quiet = np.zeros(RATE // 2, dtype=np.float32)
    return write(path, np.concatenate([quiet, tone(0.5, hz), quiet]))


def manifest(folder: Path, header: str, *rows: str) -> Data:
    (folder / "manifest.csv").write_text("\n".join([header, *rows]) + "\n")
    return Data(manifest=folder, wakeword="hey")


def packed(settings: Data, cache: Path, emitted: list[Event] | None = None) -> Pack:
    emit = [].append if emitted is None else emitted.append
    return pack(read(settings), cache, emit=emit, control=Control())


@pytest.fixture
def people(tmp_path: Path) -> Data:
    """A word and a stream by one person of each fold."""
    for n, person in enumerate(PEOPLE):
        word(tmp_path / "data" / "positive" / person / "1.wav", 300 + 50 * n)
        write(tmp_path / "data" / "streams" / person / "1.wav", tone(2.0, 200 + 10 * n))
    return Data(manifest=tmp_path / "data", wakeword="hey")


def in_memory(*clips: Clip, peak_db: float = -6.0, doubt: str = "") -> Pack:
    """A pack without audio, to choose from."""
    facts = {"peak_db": peak_db, "level_db": -20.0, "start_s": 0.5, "end_s": 1.0}
    rows = [PackedClip(c, 0, RATE, **facts, doubt=doubt, content=str(c.path)) for c in clips]
    return Pack(np.zeros(0, np.int16), tuple(rows), (), Path())


def clip(name: str, label: str = "hey", group: str = "", take: str = "", split: str = "") -> Clip:
    return Clip(Path(name), label, group or name, take or name, split)


HEY = Data(wakeword="hey")


# --- which clips there are


def test_a_manifest_may_order_its_columns_freely_and_have_others(tmp_path: Path) -> None:
    row = "hey,extra,anna,b.wav,0.25,0.75,t1,test,home,CC0"
    head = "label,mood,group,path,start_s,end_s,take,split,source,licence"
    [found] = read(manifest(tmp_path, head, row))
    place = (found.path, found.label, found.group, found.take)
    assert place == (tmp_path / "b.wav", "hey", "anna", str(tmp_path / "t1"))
    assert (found.split, found.start_s, found.end_s) == ("test", 0.25, 0.75)
    assert (found.source, found.licence) == ("home", "CC0")


def test_what_a_manifest_leaves_out_comes_from_the_path(tmp_path: Path) -> None:
    second, first = read(manifest(tmp_path, "path,label", "x/b.wav,hey", "x/a.wav,hey"))[::-1]
    assert first.path.name == "a.wav"
    assert (second.group, second.take) == ("x/b.wav", str(tmp_path / "x/b.wav"))


def test_folders_name_labels_and_speakers(tmp_path: Path) -> None:
    files = ["positive/anna/1.wav", "positive/2.wav", "negative/anna/3.wav", "streams/4.wav",
             "noise/5.wav", "rir/hall/6.wav"]  # fmt: skip
    for file in [*files, "positive/._1.wav", "positive/notes.txt", "other/7.wav"]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    found = {(c.path.name, c.label, c.group) for c in read(Data(manifest=tmp_path, wakeword="hey"))}
    assert found == {
        ("1.wav", "hey", "anna"),
        ("2.wav", "hey", "positive/2.wav"),
        ("3.wav", "negative", "anna"),
        ("4.wav", "speech", "streams/4.wav"),
        ("5.wav", "noise", "noise/5.wav"),
        ("6.wav", "rir", "hall"),
    }


def test_sources_are_mixed_in_and_a_clip_named_twice_counts_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "positive").mkdir(parents=True)
        (tmp_path / name / "positive" / "1.wav").touch()
    first, second = tmp_path / "a", tmp_path / "b"
    assert len(read(Data(manifest=first, sources=(second, first)))) == 2


def test_clips_of_train_sources_train_in_every_fold_and_the_others_stay(people: Data) -> None:
    """Also one that its own manifest would test; what is in both places stays where it was."""
    voices = Path(str(people.manifest)).parent / "voices"
    word(voices / "1.wav", 500)
    (voices / "manifest.csv").write_text("path,label,group,split\n1.wav,hey,robot,test\n")
    mixed = people.model_copy(update={"train_sources": (voices, people.manifest)})
    before, after = ({c.path: c for c in read(data)} for data in (people, mixed))
    assert after.keys() - before.keys() == {voices / "1.wav"}
    for fold in range(5):
        assert split_of(after[voices / "1.wav"], fold) == "train"
        assert all(split_of(after[path], fold) == split_of(before[path], fold) for path in before)


def test_a_copy_of_what_is_measured_is_not_trained_on_by_another_name(
    people: Data, tmp_path: Path
) -> None:
    """A train source that is another name of the same folder."""
    again = tmp_path / "again"
    again.symlink_to(Path(str(people.manifest)))
    data = people.model_copy(update={"train_sources": (again,)})
    pack = packed(data, tmp_path / "cache")
    test = {clip.content for clip in select(pack, data, "test").positives}
    assert test
    assert not test & {clip.content for clip in select(pack, data, "train").positives}


def test_the_same_clips_share_a_pack_however_they_are_used(people: Data, tmp_path: Path) -> None:
    voices = tmp_path / "voices"
    word(voices / "positive" / "robot" / "1.wav", 500)
    used = [people.model_copy(update={name: (voices,)}) for name in ("sources", "train_sources")]
    one, other = (packed(data, tmp_path / "cache") for data in used)
    assert one.folder == other.folder
    robots = [clip for clip in other.clips if clip.clip.group == "robot"]
    assert robots[0].clip.split == "train"
    assert any(clip.clip.group == "robot" for clip in select(other, used[1], "train").positives)


@pytest.mark.parametrize(
    ("header", "rows", "says"),
    [
        ("path,group", ["a.wav,anna"], "no column label"),
        ("path,label", [], "no clips in"),
        ("path,label,split", ["a.wav,hey,dev"], "row 2: split 'dev'"),
        ("path,label,start_s", ["a.wav,hey,early"], "row 2: 'early' is not a time"),
        ("path,label", ["a.wav,hey", ",hey"], "row 3 has no path"),
    ],
)
def test_a_bad_manifest_says_what_is_wrong(
    tmp_path: Path, header: str, rows: Sequence[str], says: str
) -> None:
    with pytest.raises(DataError, match=says) as raised:
        read(manifest(tmp_path, header, *rows))
    assert raised.value.hint


def test_nothing_there_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.manifest is not set"):
        read(Data())
    with pytest.raises(DataError, match=r"cannot read .*: File name too long"):
        read(Data(manifest=tmp_path / ("x" * 300)))
    with pytest.raises(DataError, match="does not exist"):
        read(Data(manifest=tmp_path / "gone"))
    with pytest.raises(DataError, match="no clips in"):
        read(Data(manifest=tmp_path))


def test_every_word_but_the_wake_word_is_a_negative() -> None:
    labels = ["hey", "computer", "speech", "noise", "rir", "false_trigger"]
    kinds = [kind_of(clip("a", label), "hey") for label in labels]
    assert kinds == ["positive", "negative", "speech", "noise", "rir", "false_trigger"]


# --- which split they are in


def test_the_fold_is_the_hash_of_the_group() -> None:
    """16 leaves 1 when divided by 5, so a hex number leaves what the sum of its digits leaves.

    sha256("hello") begins 2cf24dba5fb0a30e: the digits sum to 127, which leaves 2.
    sha256("anna") begins 55579b557896d0ce: 121, which leaves 1.
    """
    assert (fold_of("hello"), fold_of("anna")) == (2, 1)


@pytest.mark.parametrize(
    ("fold", "split"), [(2, "test"), (1, "validation"), (0, "train"), (4, "train"), (3, "train")]
)
def test_a_fold_tests_and_the_next_validates(fold: int, split: str) -> None:
    assert split_of(clip("a", group="hello"), fold) == split  # fold 2


def test_a_split_of_the_manifest_wins() -> None:
    assert split_of(clip("a", group="hello", split="validation"), 2) == "validation"


def test_recordings_of_this_machine_only_train() -> None:
    assert {split_of(clip("a", group=f"user:{n}"), 0) for n in range(50)} == {"train"}


@given(st.lists(st.text(min_size=1), unique=True), st.lists(st.text(min_size=1)), st.integers(0, 4))
def test_adding_files_never_moves_old_ones(old: list[str], new: list[str], fold: int) -> None:
    def tests(names: list[str]) -> set[str]:
        clips = [clip(name) for name in sorted(set(names))]
        selection = select(in_memory(*clips), Data(wakeword="hey", fold=fold), "test")
        return {c.clip.group for c in selection.positives}

    assert tests(old) == tests(old + new) & set(old)


def test_a_take_is_where_its_first_clip_by_path_is() -> None:
    clips = clip("1", group=PEOPLE[0], take="t"), clip("2", group=PEOPLE[3], take="t")
    assert len(select(in_memory(*clips), HEY, "test").positives) == 1
    assert not select(in_memory(*clips), HEY, "train").positives


def test_a_take_counts_once_where_it_is_measured_and_trains_whole() -> None:
    clips = [clip(name, group="user:x", take="t") for name in ("1", "2")]
    assert len(select(in_memory(*clips), HEY, "train").positives) == 2
    assert [c.clip.path.name for c in everything(in_memory(*clips), HEY).positives] == ["1"]


def test_false_triggers_are_never_chosen() -> None:
    selection = everything(in_memory(clip("1", "false_trigger"), clip("2", "noise")), HEY)
    assert len(selection.noise) == 1
    assert not (selection.positives or selection.negatives or selection.speech or selection.rooms)


@pytest.mark.parametrize(
    ("peak_db", "doubt", "trains", "tests"),
    [
        (-6.0, "clipped", 1, 1),
        (-61.0, "silent", 0, 1),
        (-6.0, "no word found", 0, 1),
        (-120.0, "silent, no word found", 0, 0),
    ],
)
def test_useless_wake_words_do_not_train_but_count(
    peak_db: float, doubt: str, trains: int, tests: int
) -> None:
    clips = clip("1", split="train"), clip("2", split="test")
    chosen = in_memory(*clips, peak_db=peak_db, doubt=doubt)
    assert len(select(chosen, HEY, "train").positives) == trains
    assert len(select(chosen, HEY, "test").positives) == tests


# --- enough to train on


def test_a_person_in_every_fold_is_enough(people: Data, tmp_path: Path) -> None:
    require(packed(people, tmp_path / "cache"), people)


@pytest.mark.parametrize(
    ("wakeword", "says"), [("", "is not set"), ("ho", "no clips of the wake word 'ho'")]
)
def test_a_missing_wake_word_names_the_words_there(wakeword: str, says: str) -> None:
    clips = in_memory(clip("1"), clip("2", "computer"), clip("3", "speech"))
    with pytest.raises(DataError, match=says) as raised:
        require(clips, Data(wakeword=wakeword))
    assert raised.value.hint == "the words here: computer, hey"


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(DataError, match="of one group, anna"):
        require(in_memory(clip("1", group="anna"), clip("2", group="anna")), HEY)


def test_a_split_without_wake_words_says_which_and_what_would_do() -> None:
    """People of folds 0, 2 and 3: only fold 2 has a next one with a person, and one left over."""
    words = [clip(f"{fold}", group=PEOPLE[fold]) for fold in (0, 2, 3)]
    streams = [clip(f"s{fold}", "speech", group=PEOPLE[fold]) for fold in range(5)]
    with pytest.raises(DataError, match="the validation split has no clips") as raised:
        require(in_memory(*words, *streams), HEY)
    assert raised.value.hint.startswith("data.fold 2 would do")


def test_a_measuring_split_needs_streams() -> None:
    clips = [clip(f"{fold}", group=PEOPLE[fold]) for fold in range(5)]
    with pytest.raises(DataError, match="the validation split has no streams"):
        require(in_memory(*clips), HEY)


# --- packed


def test_clips_lie_one_after_another_with_what_they_are(people: Data, tmp_path: Path) -> None:
    result = packed(people, tmp_path / "cache")
    positive, stream = result.clips[0], result.clips[-1]
    assert (positive.offset, positive.samples, positive.seconds) == (0, 24000, 1.5)
    assert stream.offset + stream.samples == len(result.audio) == 5 * (24000 + 32000)
    assert (positive.start_s, positive.end_s) == pytest.approx((0.5, 1.0), abs=0.05)
    assert (stream.start_s, stream.end_s) == (0.0, 2.0)
    assert positive.peak_db == pytest.approx(-10.46, abs=0.01)  # 20 log10(0.3)
    assert positive.level_db == pytest.approx(-13.47, abs=0.1)  # 3.01 dB below: a sine
    audio_there = result.audio[: positive.samples]
    np.testing.assert_array_equal(audio_there, audio.to_int16(audio.read(positive.clip.path)))


def test_a_given_place_of_the_word_is_kept(tmp_path: Path) -> None:
    word(tmp_path / "a.wav")
    settings = manifest(tmp_path, "path,label,start_s,end_s", "a.wav,hey,0.1,0.4")
    [found] = packed(settings, tmp_path / "cache").clips
    assert (found.start_s, found.end_s) == (0.1, 0.4)


def test_any_rate_channel_count_and_format(tmp_path: Path) -> None:
    seconds, rate = 1.0, 44100
    sine = np.sin(2 * np.pi * 440 * np.arange(rate) / rate) / 3
    soundfile.write(tmp_path / "a.wav", np.stack([sine, sine], axis=1), rate)
    soundfile.write(tmp_path / "b.mp3", sine, rate)
    settings = manifest(tmp_path, "path,label", "a.wav,hey", "b.mp3,hey")
    wav, mp3 = packed(settings, tmp_path / "cache").clips
    assert wav.samples == RATE
    assert mp3.seconds == pytest.approx(seconds, abs=0.1)  # MP3 pads its ends
    assert mp3.level_db == pytest.approx(wav.level_db, abs=0.3)


def test_a_second_pack_opens_the_first_and_decodes_nothing(people: Data, tmp_path: Path) -> None:
    clips, events = read(people), list[Event]()
    first = pack(clips, tmp_path / "cache", emit=events.append, control=Control())
    stopped = Control()
    stopped.stop()  # would stop any decoding
    second = pack(clips, tmp_path / "cache", emit=events.append, control=stopped)
    assert second.clips == first.clips
    np.testing.assert_array_equal(second.audio, first.audio)
    assert isinstance(second.audio, np.memmap)
    assert events[-1] == Progressed("pack", 10, 10, "files")


def test_the_cache_keeps_samples_and_the_manifest_says_the_rest(
    people: Data, tmp_path: Path
) -> None:
    clips = read(people)
    first = pack(clips, tmp_path / "cache", emit=[].append, control=Control())
    regrouped = [replace(c, group="other") for c in clips]
    second = pack(regrouped, tmp_path / "cache", emit=[].append, control=Control())
    assert second.folder == first.folder
    assert {c.clip.group for c in second.clips} == {"other"}


def test_a_changed_file_is_packed_anew(people: Data, tmp_path: Path) -> None:
    first = packed(people, tmp_path / "cache")
    word(first.clips[0].clip.path, hz=1000)
    os.utime(first.clips[0].clip.path, ns=(1, 1))
    second = packed(people, tmp_path / "cache")
    assert second.folder != first.folder
    assert second.clips[0].content != first.clips[0].content


@pytest.mark.parametrize(
    "damage", ["cut the audio", "cut the index", "lose the audio", "other audio"]
)
def test_a_damaged_pack_is_built_again(people: Data, tmp_path: Path, damage: str) -> None:
    first = packed(people, tmp_path / "cache")
    clips = first.clips
    path = first.folder / ("index.json" if "index" in damage else "audio.npy")
    if "lose" in damage:
        path.unlink()
    elif "other" in damage:
        np.save(path, np.zeros(9, np.int16))
    else:
        path.write_bytes(path.read_bytes()[:-10])
    second = packed(people, tmp_path / "cache")
    assert second.clips == clips
    assert len(second.audio) == 5 * (24000 + 32000)


def test_a_pack_that_another_process_finished_first_is_kept(people: Data, tmp_path: Path) -> None:
    inodes = list[int]()

    def emit(event: Event) -> None:
        if not inodes:
            other = packed(people, tmp_path / "cache")
            inodes.append((other.folder / "audio.npy").stat().st_ino)

    mine = pack(read(people), tmp_path / "cache", emit=emit, control=Control())
    assert [(mine.folder / "audio.npy").stat().st_ino] == inodes
    assert list((tmp_path / "cache").iterdir()) == [mine.folder]


def test_a_stopped_pack_leaves_nothing(people: Data, tmp_path: Path) -> None:
    control = Control()
    with pytest.raises(Stopped):
        pack(read(people), tmp_path / "cache", emit=lambda _: control.stop(), control=control)
    assert list((tmp_path / "cache").iterdir()) == []


BUILDER = """
import sys
from pathlib import Path
from engine.dataset import pack, read
from engine.jobs import Control
from engine.recipe import Data

def wait(event):
    print("building", flush=True)
    sys.stdin.readline()

data = Data(manifest=Path(sys.argv[1]), wakeword="hey")
pack(read(data), Path(sys.argv[2]), emit=wait, control=Control())
"""


@contextmanager
def builder(data: Data, cache: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, in the middle of packing until it is told to go on."""
    command = [sys.executable, "-c", BUILDER, str(data.manifest), str(cache)]
    pipe, home = subprocess.PIPE, Path(__file__).parents[1]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=home) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        yield process


def test_what_another_process_is_building_is_let_be(people: Data, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with builder(people, cache) as other:
        [part] = cache.iterdir()
        whole = packed(people, cache)
        assert (part / "built" / "audio.npy").exists()
        other.communicate("go on")
    assert other.returncode == 0
    assert list(cache.iterdir()) == [whole.folder]


def test_a_killed_pack_leaves_nothing_that_looks_whole(people: Data, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with builder(people, cache) as other:
        other.kill()
    assert [path.name[:6] for path in cache.iterdir()] == [".part-"]
    whole = packed(people, cache)
    assert len(whole.clips) == 10
    assert list(cache.iterdir()) == [whole.folder]


def test_unreadable_files_are_listed_and_left_out(tmp_path: Path) -> None:
    whole = word(tmp_path / "a.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[:30])
    (tmp_path / "text.wav").write_text("this is no audio")
    write(tmp_path / "empty.wav", np.zeros(0, np.float32))
    names = ["a.wav", "cut.wav", "empty.wav", "gone.wav", "text.wav"]
    settings = manifest(tmp_path, "path,label", *(f"{name},hey" for name in names))
    for _ in range(2):  # decoded, then from the cache
        result = packed(settings, tmp_path / "cache")
        assert [c.clip.path.name for c in result.clips] == ["a.wav"]
        assert [path.name for path, _ in result.unreadable] == names[1:]
        assert all(path.name in reason for path, reason in result.unreadable)


def test_a_file_whose_name_is_no_text_is_listed_and_left_out(people: Data, tmp_path: Path) -> None:
    """And so is one in a folder of such a name, which would be its group."""
    positive = tmp_path / "data" / "positive"
    odd = [positive / os.fsdecode(name) for name in (b"caf\xe9.wav", b"caf\xe9/1.wav")]
    for path in odd:
        path.parent.mkdir(exist_ok=True)
        shutil.copy(positive / PEOPLE[0] / "1.wav", path)
    for _ in range(2):  # packed, then from the cache
        result = packed(people, tmp_path / "cache")
        assert len(result.clips) == 10
        assert dict(result.unreadable) == {path: f"{path}: no name in UTF-8" for path in odd}
    assert {split_of(clip, 0) for clip in read(people)} == {"train", "validation", "test"}


def test_a_file_that_can_be_read_again_is_taken_in(people: Data, tmp_path: Path) -> None:
    """It comes back with its size and its time, as from a backup, or under other permissions."""
    cache, path = tmp_path / "cache", tmp_path / "data" / "noise" / "1.wav"
    whole = write(path, tone(1.0)).read_bytes()
    clips, then, stopped = read(people), path.stat().st_mtime_ns, Control()
    path.write_bytes(bytes(len(whole)))
    os.utime(path, ns=(then, then))
    first = pack(clips, cache, emit=[].append, control=Control())
    assert [lost for lost, _ in first.unreadable] == [path]
    stopped.stop()  # would stop any packing
    assert pack(clips, cache, emit=[].append, control=stopped).unreadable == first.unreadable
    path.write_bytes(whole)
    os.utime(path, ns=(then, then))
    assert packed_already(clips, cache) is None
    again = pack(clips, cache, emit=[].append, control=Control())
    assert (len(again.clips), again.unreadable, again.folder) == (11, (), first.folder)


@pytest.mark.parametrize(
    ("bad", "good", "stops"), [(20, 0, False), (21, 398, True), (21, 399, False)]
)
def test_too_many_unreadable_files_stop_the_run(
    tmp_path: Path, bad: int, good: int, stops: bool
) -> None:
    """More than 20 and more than 5 %: 21 of 420 are just 5 %."""
    write(tmp_path / "good.wav", tone(0.05))
    rows = [f"bad{n}.wav,hey," for n in range(bad)] + [f"good.wav,hey,{n}" for n in range(good)]
    settings = manifest(tmp_path, "path,label,start_s", *rows)
    if not stops:
        assert len(packed(settings, tmp_path / "cache").unreadable) == bad
        return
    with pytest.raises(DataError, match=r"bad0\.wav") as raised:
        packed(settings, tmp_path / "cache")
    assert raised.value.message.count("\n") == 10
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_a_data_error(people: Data, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot write"):
        packed(people, tmp_path / "cache")


def test_the_index_is_plain_json(people: Data, tmp_path: Path) -> None:
    folder = packed(people, tmp_path / "cache").folder
    index = json.loads((folder / "index.json").read_text())
    assert index["samples"] == 5 * (24000 + 32000)
    assert [row["n"] for row in index["clips"]] == list(range(10))


@pytest.mark.skipif(not (REAL / "odd").is_dir(), reason=f"no real recordings in {REAL}")
def test_valid_files_that_libsndfile_refuses_are_listed(tmp_path: Path) -> None:
    for path in (REAL / "odd").glob("*.flac"):
        shutil.copy(path, tmp_path)
    word(tmp_path / "whole.flac")
    rows = [f"{path.name},hey" for path in tmp_path.glob("*.flac")]
    result = packed(manifest(tmp_path, "path,label", *rows), tmp_path / "cache")
    assert (len(result.clips), len(result.unreadable)) == (1, 2)
