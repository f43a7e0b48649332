"""What a run takes from the queue: nothing it measures on in any fold, the same on a resume."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import Fuse, groups, hiss, ignore, padded, seconds, tiny_recipe, tone

from engine import audio
from engine.batches import MOST_OF_ONE_FIND, Batches
from engine.checkpoint import load
from engine.dataset import Pack, PackedClip, pack, read, select, split_of, splits_of
from engine.events import Event, QueueTaken, Warned
from engine.jobs import Control, Stopped
from engine.manifest import Clip
from engine.mine_run import import_triggers
from engine.mined import take, used, with_cuts
from engine.queue_store import Decision, Find, QueueStore, content_of
from engine.recent import MISSED, Moment, Recent, keep
from engine.recipe import Recipe
from engine.recipe_file import override
from engine.report import Report
from engine.runs import Run, Workspace
from engine.spans import mined_spans
from engine.train import train


def find(path: Path, group: str = "", time_s: float = 2.0, checkpoint: str = "c0ffee") -> Find:
    """A find of a window of 1.5 s, with half a second around it."""
    content = content_of(path)
    return Find(
        path=path,
        content=content,
        time_s=time_s,
        start_s=max(0.0, time_s - 2.0),
        end_s=time_s + 0.5,
        score=0.9,
        threshold=0.5,
        group=group or f"user:{content}",
        checkpoint=checkpoint,
        found_by="background" if checkpoint else "import",
    )


def decide(home: Workspace, finds: list[Find], decision: Decision = "confirmed") -> None:
    store = QueueStore(home.queue)
    known = set(store.ids(decision=None))
    store.add(finds)
    store.decide([n for n in store.ids(decision=None) if n not in known], decision)
    store.close()


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture(scope="module")
def packed(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    clips = read(tiny_recipe(tiny_data).data)
    return pack(clips, tmp_path_factory.mktemp("cache"), emit=ignore, control=Control())


@pytest.fixture
def radio(tmp_path: Path) -> Path:
    """20 s in which the pitch tells the time: 200 Hz and 100 Hz more each second."""
    parts = [tone(200 + 100 * second, 1.0) for second in range(20)]
    audio.write(tmp_path / "radio.wav", np.concatenate(parts))
    return tmp_path / "radio.wav"


def taken(
    home: Workspace, packed: Pack, recipe: Recipe, events: list[Event] | None = None
) -> tuple[Run, Pack]:
    told = events if events is not None else []
    run = home.create(recipe)
    take(run, home.queue, packed, recipe, emit=told.append, control=Control())
    return run, with_cuts(packed, run, recipe, emit=told.append, control=Control())


def test_decided_finds_are_cut_and_follow_the_pack(
    home: Workspace, packed: Pack, tiny_data: Path, radio: Path, tmp_path: Path
) -> None:
    """A stretch from 5 to 7.5 s; its window ends 2 s into the cut and begins 1.5 s before that."""
    word = tmp_path / "word.wav"
    up = np.concatenate([tone(530, 0.2), tone(1590, 0.2)])
    audio.write(word, padded(up))
    decide(home, [find(radio, time_s=7.0)])
    decide(home, [replace(find(word), start_s=0.0, end_s=0.8, time_s=0.7)], "wakeword")
    decide(home, [find(radio, time_s=12.0)], "discarded")
    recipe, events = tiny_recipe(tiny_data), list[Event]()
    run, joined = taken(home, packed, recipe, events)
    train = select(joined, recipe.data, "train")
    (cut,) = train.mined
    assert (cut.clip.start_s, cut.clip.end_s) == (0.5, 2.0)
    assert joined.cuts is not None
    past = cut.offset - len(packed.audio)
    samples = joined.cuts[past : past + cut.samples]
    assert len(samples) == seconds(2.5)
    hz = np.abs(np.fft.rfft(samples[: seconds(1.0)])).argmax()
    assert hz == 700
    assert used(joined, recipe.data) == (1, 1)
    assert events[-1] == QueueTaken(1, 1)
    words = select(packed, recipe.data, "train").positives
    assert len(train.positives) == len(words) + 1
    assert [p.name for p in sorted(run.mined.glob("*.flac"))] == ["000001.flac", "000002.flac"]


def test_what_a_person_kept_of_live_audio_trains_as_it_was_decided(
    home: Workspace, packed: Pack, tiny_data: Path
) -> None:
    """A miss 1.5 s into the last 3 s; its word, 0.4 s long, is found as in any clip."""
    recent, store = Recent(), QueueStore(home.queue)
    up = padded(np.concatenate([tone(530, 0.2), tone(1590, 0.2)]))
    recent.hear(np.concatenate([hiss(5.5, 1, 1e-4), up, hiss(0.7, 2, 1e-4)]))
    keep(recent.last(3.0), Moment(6.0, 0.2, 0.5, "c0ffee", MISSED), home, store)
    store.decide(store.ids(), "wakeword")
    recent.hold(3.0, 1.0, 3.5)
    keep(recent.around(3.0), Moment(3.0, 0.9, 0.5, "c0ffee"), home, store)
    store.decide(store.ids(), "confirmed")
    store.close()
    recipe = tiny_recipe(tiny_data)
    _, joined = taken(home, packed, recipe)
    assert used(joined, recipe.data) == (1, 1)
    train = select(joined, recipe.data, "train")
    (miss,) = [clip for clip in train.positives if clip.offset >= len(packed.audio)]
    assert (miss.clip.label, miss.doubt) == ("beep", "")
    assert (miss.start_s, miss.end_s) == (
        pytest.approx(1.7, abs=0.03),
        pytest.approx(2.1, abs=0.03),
    )
    (false,) = train.mined
    assert (false.clip.start_s, false.clip.end_s) == (0.5, 2.0)


def test_without_a_queue_or_a_share_nothing_is_taken(
    home: Workspace, packed: Pack, tiny_data: Path, radio: Path
) -> None:
    recipe = tiny_recipe(tiny_data)
    run, joined = taken(home, packed, recipe)
    assert (joined, run.mined.exists()) == (packed, False)
    assert not home.queue.exists()
    decide(home, [find(radio)])
    _, joined = taken(home, packed, override(recipe, {"data.hard_negatives": 0.0}))
    assert joined is packed


@pytest.mark.parametrize("fold", range(5))
def test_what_a_fold_measures_on_is_never_trained_on(
    home: Workspace, packed: Pack, tiny_data: Path, tmp_path: Path, fold: int
) -> None:
    """All clips are in the queue, as themselves and as copies under another name and format."""
    recipe = tiny_recipe(tiny_data, {"data.fold": fold})
    finds, home_of = [], dict[str, str]()
    homes = splits_of(packed.clips, fold)
    for number, (clip, split) in enumerate(zip(packed.clips, homes, strict=True)):
        copy = tmp_path / f"copy{number}.flac"
        audio.write(copy, audio.read(clip.clip.path))
        own = find(clip.clip.path, clip.clip.group, time_s=0.2)
        finds += [own, find(copy, time_s=0.2)]
        home_of |= {own.content: split, finds[-1].content: split}
    decide(home, finds)
    run, joined = taken(home, packed, recipe)
    store = QueueStore(home.queue)
    contents = {f"{i.id:06}.flac": i.find.content for i in store.decided("confirmed")}
    store.close()
    cuts = [c for c in joined.clips if c.offset >= len(packed.audio)]
    assert {home_of[contents[c.clip.path.name]] for c in cuts} == {"train"}
    assert len(cuts) == 2 * homes.count("train")
    for split in ("validation", "test"):
        now, before = (select(p, recipe.data, split) for p in (joined, packed))  # type: ignore[arg-type]
        assert now == before
    assert {split_of(c.clip, fold) for c in cuts} == {"train"}
    assert run.mined.exists()


def test_a_group_of_another_fold_is_left_out_though_no_clip_of_it_is_there(
    home: Workspace, packed: Pack, tiny_data: Path, radio: Path
) -> None:
    """Of ten names of groups, those that would train do."""
    groups = [f"stranger{number}" for number in range(10)]
    decide(home, [find(radio, group, 2.0 + n) for n, group in enumerate(groups)])
    recipe, events = tiny_recipe(tiny_data), list[Event]()
    _, joined = taken(home, packed, recipe, events)
    training = {g for g in groups if split_of(Clip(radio, "", g), 0) == "train"}
    assert 0 < len(training) < 10
    cuts = [c for c in joined.clips if c.offset >= len(packed.audio)]
    assert {c.clip.group for c in cuts} == training
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert warned.message.startswith(f"{10 - len(training)} finds of the queue are of what")


def test_recordings_that_are_gone_or_have_changed_are_warned_of(
    home: Workspace, packed: Pack, tiny_data: Path, radio: Path, tmp_path: Path
) -> None:
    gone, changed = tmp_path / "gone.wav", tmp_path / "changed.wav"
    for path in (gone, changed):
        shutil.copy(radio, path)
        audio.write(path, tone(300 + len(path.name), 5.0))
    decide(home, [find(gone), find(gone, time_s=4.0), find(changed), find(radio)])
    gone.unlink()
    audio.write(changed, tone(500, 5.0))
    events: list[Event] = []
    _, joined = taken(home, packed, tiny_recipe(tiny_data), events)
    warned = [event.message for event in events if isinstance(event, Warned)]
    assert warned == [
        f"2 finds of the queue are left out: {gone} is gone",
        f"1 finds of the queue are left out: {changed} has changed",
    ]
    assert used(joined, tiny_recipe(tiny_data).data) == (1, 0)


def spanned(start_s: float | None, end_s: float | None) -> tuple[int, int]:
    """Where windows of 1.5 s end in a cut of 4 s that begins at sample 1000."""
    clip = Clip(Path("a"), "hard_negative", "g", start_s=start_s, end_s=end_s)
    packed = PackedClip(clip, 1000, seconds(4.0), -6, -20, 0.0, 4.0, "", "")
    spans = mined_spans((packed,), seconds(1.5))
    return int(spans.low[0]) - 1000, int(spans.high[0]) - 1000


def test_windows_of_a_find_end_where_the_detector_fired() -> None:
    """Give or take 40 ms: 640 samples."""
    assert spanned(0.5, 2.0) == (seconds(2.0) - 640, seconds(2.0) + 640)


def test_windows_of_an_import_end_anywhere_in_it() -> None:
    assert spanned(None, None) == (seconds(1.5) - 640, seconds(4.0) + 640)


def batch_counts(home: Workspace, packed: Pack, recipe: Recipe, radio: Path, count: int) -> int:
    decide(home, [find(radio, time_s=2.0 + 0.9 * 1.2 * n) for n in range(count)])
    _, joined = taken(home, packed, recipe)
    train = select(joined, recipe.data, "train")
    batches = Batches(joined, train, recipe, torch.device("cpu"))
    return batches._mined(100)


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (4, 2), (15, 8)])
def test_a_few_finds_do_not_fill_their_share(
    home: Workspace, packed: Pack, tiny_data: Path, radio: Path, count: int, expected: int
) -> None:
    """Half a percent each: of 100 negatives 1, 2 and 7.5; from 20 finds on it is the share, 10."""
    assert MOST_OF_ONE_FIND == 0.005
    recipe = tiny_recipe(tiny_data)
    assert batch_counts(home, packed, recipe, radio, count) == expected


@pytest.fixture(scope="module")
def retrained(
    tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workspace, Run, Path, dict[str, Any]]]:
    """A run with finds, uninterrupted; the recording; and what its last checkpoint holds."""
    folder = tmp_path_factory.mktemp("retrained")
    radio, home = folder / "radio.wav", Workspace(folder / "workspace")
    audio.write(radio, np.concatenate([tone(200 + 100 * s, 1.0) for s in range(20)]))
    decide(home, [find(radio, time_s=2.0 + 3 * n) for n in range(5)])
    run = home.create(tiny_recipe(tiny_data))
    train(run.recipe(), run, home, emit=ignore, control=Control())
    yield home, run, radio, load(run.last).weights


def test_the_report_says_how_many_were_used(
    retrained: tuple[Workspace, Run, Path, dict[str, Any]],
) -> None:
    _, run, _, _ = retrained
    report = Report.from_json(run.report.read_text())
    assert (report.hard_negatives, report.mined_positives) == (5, 0)


def test_a_resume_trains_on_what_the_run_began_with(
    retrained: tuple[Workspace, Run, Path, dict[str, Any]], tiny_data: Path, tmp_path: Path
) -> None:
    """The queue has moved on, and the recording is gone."""
    _, _, radio, weights = retrained
    home = Workspace(tmp_path / "workspace")
    copy = tmp_path / "radio.wav"
    shutil.copy(radio, copy)
    decide(home, [find(copy, time_s=2.0 + 3 * n) for n in range(5)])
    run = home.create(tiny_recipe(tiny_data, {"train.checkpoint_every_s": 0.001}))
    with pytest.raises(Stopped):
        train(run.recipe(), run, home, emit=ignore, control=Fuse(70))
    assert run.last.exists()
    assert not run.report.exists()
    copy.unlink()
    home.queue.unlink()
    train(run.recipe(), run, home, emit=ignore, control=Control(), resume=True)
    ours = load(run.last).weights
    assert all((ours[name] == weights[name]).all() for name in weights)
    assert Report.from_json(run.report.read_text()).hard_negatives == 5


def test_a_run_without_finds_is_the_run_it_was(tiny_data: Path, tmp_path: Path) -> None:
    """A queue in which nothing is decided changes no number."""
    weights = []
    for name in ("with", "without"):
        home = Workspace(tmp_path / name)
        if name == "with":
            audio.write(tmp_path / "a.wav", tone(300, 5.0))
            decide(home, [find(tmp_path / "a.wav")], "pending")
        run = home.create(tiny_recipe(tiny_data, {"train.epochs": 1}))
        train(run.recipe(), run, home, emit=ignore, control=Control())
        weights.append(load(run.last).weights)
    assert all((weights[0][key] == weights[1][key]).all() for key in weights[0])


@pytest.mark.parametrize("fold", range(5))
def test_triggers_of_the_manifest_train_in_every_fold_once_they_are_imported(
    home: Workspace, tiny_data: Path, tmp_path: Path, fold: int
) -> None:
    """They stand in the manifest with groups of all folds, and nothing is measured on them."""
    rows = ["path,label,group"]
    for number, group in enumerate(groups("recorder", 1)):
        audio.write(tmp_path / f"{number}.wav", tone(300 + 50 * number, 2.0))
        rows.append(f"{number}.wav,false_trigger,{group}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    import_triggers(tmp_path, home, emit=ignore, control=Control())
    store = QueueStore(home.queue)
    store.decide(store.ids(), "confirmed")
    store.close()
    recipe = tiny_recipe(tiny_data, {"data.fold": fold, "data.sources": [str(tmp_path)]})
    both = pack(read(recipe.data), home.cache, emit=ignore, control=Control())
    _, joined = taken(home, both, recipe)
    assert used(joined, recipe.data) == (5, 0)
