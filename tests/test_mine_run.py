from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny import Fuse, Trained, hiss, ignore, tone

from engine import audio
from engine.checkpoint import load
from engine.dataset import read, split_of
from engine.errors import DataError
from engine.events import Event, Mined, Warned
from engine.finder import Finder
from engine.jobs import Control, Stopped
from engine.manifest import Split
from engine.mine_run import import_triggers, mine_split
from engine.queue_store import Find, QueueStore, content_of
from engine.report import Report
from engine.runs import Workspace


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def queued(home: Workspace) -> list[Find]:
    store = QueueStore(home.queue)
    found = [item.find for item in store.items(store.ids(order="source"))]
    store.close()
    return found


def labels(run: Trained, finds: Sequence[Find]) -> list[str]:
    by_path = {clip.path: clip.label for clip in read(run.recipe.data)}
    return [by_path[find.path] for find in finds]


def test_the_training_split_gives_its_false_alarms_and_hard_words(
    tiny_run: Trained, home: Workspace
) -> None:
    new = mine_split(tiny_run.run.best, "train", home, emit=ignore, control=Control())
    found = queued(home)
    assert new == len(found) > 0
    by_path = {clip.path: clip for clip in read(tiny_run.recipe.data)}
    assert {split_of(by_path[find.path], 0) for find in found} == {"train"}
    assert "beep" not in labels(tiny_run, found)
    finder = Finder.of(tiny_run.run.best)
    assert {find.threshold for find in found} == {finder.lower}
    for find in found:
        length_s = audio.seconds(find.path)
        assert 0 <= find.start_s < find.time_s <= find.end_s <= length_s + 1e-6
        assert find.group == by_path[find.path].group
        assert (find.content, find.found_by) == (content_of(find.path), "benchmark")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_measured_split_gives_the_alarms_that_its_report_counts(
    tiny_run: Trained, home: Workspace, split: Split
) -> None:
    """Alarms within a second of one another are one item: the report may count a few more."""
    mine_split(tiny_run.run.best, split, home, emit=ignore, control=Control())
    report = Report.from_json(tiny_run.run.report.read_text())
    counted = (report.test if split == "test" else report.validation).false_alarms
    found = queued(home)
    streams = [label for label in labels(tiny_run, found) if label in ("speech", "noise")]
    assert len(streams) == counted
    assert {find.threshold for find in found} <= {load(tiny_run.run.best).threshold().threshold}


def test_a_place_in_a_stream_is_where_it_lies_in_its_own_file(
    tiny_run: Trained, home: Workspace
) -> None:
    """The file alone, from a window before the place on, has the same score there."""
    mine_split(tiny_run.run.best, "train", home, emit=ignore, control=Control())
    finder = Finder.of(tiny_run.run.best)
    whole = finder.scorer.grid.window_samples
    checked = 0
    for find in queued(home):
        stop = round(find.time_s * 16_000)
        if find.path.name.startswith(("speech", "noise")) and stop >= whole:
            window = audio.read(find.path)[stop - whole : stop]
            assert finder.scorer.score(window)[0] == pytest.approx(find.score, abs=1e-3)
            checked += 1
    assert checked > 0


def test_mining_a_run_again_adds_nothing(tiny_run: Trained, home: Workspace) -> None:
    mine_split(tiny_run.run.best, "train", home, emit=ignore, control=Control())
    assert mine_split(tiny_run.run.best, "train", home, emit=ignore, control=Control()) == 0


def test_a_folder_of_recordings_is_queued_whole(home: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "caught"
    folder.mkdir()
    audio.write(folder / "a.wav", tone(400, 2.5))
    audio.write(folder / "b.flac", hiss(1.0, 1))
    (folder / "broken.wav").write_bytes(b"no audio")
    events: list[Event] = []
    assert import_triggers(folder, home, emit=events.append, control=Control()) == 2
    first, second = queued(home)
    content = content_of(folder / "a.wav")
    assert (first.group, first.content) == (f"user:{content}", content)
    assert (first.start_s, first.end_s, first.time_s) == (0.0, 2.5, 2.5)
    assert (first.checkpoint, first.found_by, second.end_s) == ("", "import", 1.0)
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert "broken.wav" in warned.message
    assert events[-1] == Mined(str(folder), 3.5 / 3600, 2)


def test_only_the_false_triggers_of_a_manifest_are_queued(home: Workspace, tmp_path: Path) -> None:
    for name in ("a", "b"):
        audio.write(tmp_path / f"{name}.wav", hiss(1.0, ord(name)))
    rows = "path,label,group\na.wav,false_trigger,g\nb.wav,speech,g\n"
    (tmp_path / "manifest.csv").write_text(rows)
    assert import_triggers(tmp_path, home, emit=ignore, control=Control()) == 1
    assert [find.path.name for find in queued(home)] == ["a.wav"]


def test_an_import_may_be_scored(tiny_run: Trained, home: Workspace, tmp_path: Path) -> None:
    """A recording of 0.8 s is shorter than a window; silence of one goes before it."""
    path, best = tmp_path / "a.wav", tiny_run.run.best
    audio.write(path, np.concatenate([hiss(0.2, 1), tone(700, 0.4), hiss(0.2, 2)]))
    import_triggers(path, home, checkpoint_path=best, emit=ignore, control=Control())
    (find,) = queued(home)
    heard = np.pad(audio.read(path), (23_920, 6_400))
    scores = Finder.of(best).scorer.score(heard)
    assert find.score == pytest.approx(float(scores.max()))
    assert find.time_s == pytest.approx(min(0.08 * int(scores.argmax()), 0.8))


def test_a_stopped_import_keeps_what_it_has(home: Workspace, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        audio.write(tmp_path / f"{name}.wav", hiss(1.0, ord(name)))
    with pytest.raises(Stopped):
        import_triggers(tmp_path, home, emit=ignore, control=Fuse(2))
    assert [find.path.name for find in queued(home)] == ["a.wav", "b.wav"]


def test_more_than_a_minute_is_mined_and_not_imported(home: Workspace, tmp_path: Path) -> None:
    events: list[Event] = []
    audio.write(tmp_path / "a.wav", hiss(60.0, 1))
    audio.write(tmp_path / "b.wav", hiss(60.1, 2))
    assert import_triggers(tmp_path, home, emit=events.append, control=Control()) == 1
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert "b.wav lasts 60.1 s, an import 60 s at most" in warned.message
    assert warned.hint == home.command("mine", str(tmp_path / "b.wav"))


def test_an_empty_folder_is_told(home: Workspace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no recordings to import"):
        import_triggers(tmp_path, home, emit=ignore, control=Control())
