"""The scores under a clip are those of the stream that it was found in."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from textual.pilot import Pilot

from engine import audio
from engine.checkpoint import Checkpoint, save, set_operating_point, sha256
from engine.errors import WakewordError
from engine.queue_store import QueueItem, QueueStore
from engine.recipe import Recipe
from engine.recipe_file import dump, override
from engine.runs import Run, Workspace
from engine.scorer import scorer_of
from tests.test_scorer import scorer
from tests.tui.play import LARGE, play, see
from tests.tui.scripted import finds, recording
from wakeword_tui import verbs
from wakeword_tui.app import WakewordApp
from wakeword_tui.clips import Shelf, read_clip


@pytest.fixture(params=["cmvn", "pcen"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """A run with a checkpoint whose logits differ from window to window."""
    settings = {"model.width": 0.25, "features.normalise": request.param, "name": "raw"}
    recipe = override(Recipe(), settings)
    made = Workspace(tmp_path / "workspace").create(recipe)
    fresh = scorer("tinyconv", normalise=request.param)
    weights = fresh.model.state_dict()
    statistics = {"mean": fresh.features.mean, "std": fresh.features.std}
    point = {"threshold": 0.4, "target_fah": 1.0}
    save(made.best, Checkpoint(dump(recipe), statistics, weights, point, {}, 0))
    return made


def item_of(run: Run, workspace: Workspace, path: Path) -> QueueItem:
    """The fifth find in a recording, by the run's checkpoint."""
    store = QueueStore(workspace.queue)
    store.add([replace(find, checkpoint=sha256(run.best)) for find in finds(path)])
    item = store.item(5)
    store.close()
    return item


def test_scores_of_a_clip_are_those_of_its_stream(run: Run, tmp_path: Path) -> None:
    workspace, path = Workspace(tmp_path / "workspace"), recording(tmp_path / "a.wav")
    item = item_of(run, workspace, path)
    heard = verbs.hear(workspace, item, read_clip(item), None)
    whole = scorer_of(run.best)
    stream = whole.score(audio.read(path))
    times_s = whole.grid.window_s + whole.grid.hop_s * np.arange(len(stream))
    first = int(np.abs(times_s - heard.times_s[0]).argmin())
    here = slice(first, first + len(heard.scores))
    assert heard.by == run.name
    assert np.allclose(times_s[here], heard.times_s)
    assert np.allclose(stream[here], heard.scores, atol=1e-5)
    assert np.ptp(heard.scores) > 0.01
    assert heard.times_s[0] <= item.find.start_s
    assert heard.times_s[-1] >= item.find.end_s


def test_the_beginning_of_a_recording_is_scored_after_silence(run: Run, tmp_path: Path) -> None:
    """Half a second, shorter than a window: six or seven hops of 80 ms end within it."""
    workspace, path = Workspace(tmp_path / "workspace"), recording(tmp_path / "a.wav")
    item = item_of(run, workspace, path)
    audio.write(tmp_path / "short.wav", audio.read(path)[16_000:24_000])
    short = replace(item.find, path=tmp_path / "short.wav", start_s=0.0, end_s=0.5)
    item = replace(item, find=short)
    heard = verbs.hear(workspace, item, read_clip(item), None)
    assert ((heard.times_s > 0) & (heard.times_s <= 0.5)).sum() in (6, 7)


def test_finds_keep_their_scores_when_the_threshold_is_moved(run: Run, tmp_path: Path) -> None:
    workspace, path = Workspace(tmp_path / "workspace"), recording(tmp_path / "a.wav")
    item = item_of(run, workspace, path)
    before = verbs.hear(workspace, item, read_clip(item), None)
    workspace.create(run.recipe()).best.write_bytes(b"damaged")
    set_operating_point(run.best, 0.5, 1.0)
    after = verbs.hear(workspace, item, read_clip(item), None)
    assert (after.by, after.threshold) == (run.name, item.find.threshold)
    assert np.array_equal(after.scores, before.scores)


def test_an_open_run_scores_what_no_run_here_has_found(run: Run, tmp_path: Path) -> None:
    workspace, path = Workspace(tmp_path / "workspace"), recording(tmp_path / "a.wav")
    item = item_of(run, workspace, path)
    item = replace(item, find=replace(item.find, checkpoint="of another workspace"))
    heard = verbs.hear(workspace, item, read_clip(item), run)
    assert (heard.by, heard.threshold) == (run.name, 0.4)
    with pytest.raises(WakewordError, match="no run to score this"):
        verbs.hear(workspace, item, read_clip(item), None)


def test_an_open_run_that_is_written_anew_scores_anew(run: Run, tmp_path: Path) -> None:
    workspace, path = Workspace(tmp_path / "workspace"), recording(tmp_path / "a.wav")
    item = item_of(run, workspace, path)
    item, shelf = replace(item, find=replace(item.find, checkpoint="")), Shelf(workspace)

    def threshold() -> float:
        heard = asyncio.run(shelf.hear(item, run))
        assert not isinstance(heard, str)
        return heard.threshold

    assert threshold() == 0.4
    set_operating_point(run.best, 0.5, 1.0)
    assert threshold() == 0.5
    shelf.close()


def test_a_checkpoint_that_cannot_be_read_is_a_sentence(run: Run, tmp_path: Path) -> None:
    workspace, path = Workspace(tmp_path / "workspace"), recording(tmp_path / "a.wav")
    item = item_of(run, workspace, path)
    run.best.unlink()
    run.best.mkdir()
    with pytest.raises(WakewordError, match="no run to score this: Is a directory"):
        verbs.hear(workspace, item, read_clip(item), None)


def test_they_are_on_the_screen(run: Run, tmp_path: Path) -> None:
    workspace, path = Workspace(tmp_path / "workspace"), recording(tmp_path / "a.wav")
    item_of(run, workspace, path)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("5")
        await see(app, pilot, "━ 001-raw ━ 0.734 ◆ fired")

    play(workspace, story, LARGE)
