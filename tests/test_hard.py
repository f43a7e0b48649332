from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import groups, hiss, ignore, tiny_recipe, tone
from torch import Tensor, nn

from engine import audio
from engine.dataset import Pack, Selection, pack, read, select
from engine.features import LogMel
from engine.hard import HardNegatives
from engine.jobs import Control
from engine.recipe import Recipe
from engine.scorer import Scorer


class Loudness(nn.Module):
    """A model that takes the loudest frame of a window for the wake word."""

    def forward(self, frames: Tensor) -> Tensor:
        return frames.mean(dim=1).amax(dim=1)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Streams of soft hiss; two of fold 2, which trains, have a tone at 3 s, one in fold 0 too."""
    folder = tmp_path_factory.mktemp("data")
    lines = ["path,label,group"]
    for index, group in enumerate(groups("talk", 1)):
        stream = hiss(8.0, index, 0.001)
        if index in (0, 2, 3):
            stream[48_000:52_800] += tone(1000, 0.3)
        audio.write(folder / f"{group}.wav", stream)
        lines.append(f"{group}.wav,speech,{group}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return tiny_recipe(folder)


@pytest.fixture(scope="module")
def packed(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return pack(read(recipe.data), tmp_path_factory.mktemp("c"), emit=ignore, control=Control())


@pytest.fixture(scope="module")
def trained_on(recipe: Recipe, packed: Pack) -> Selection:
    return select(packed, recipe.data, "train")


@pytest.fixture
def found(recipe: Recipe, packed: Pack, trained_on: Selection) -> HardNegatives:
    hard = HardNegatives(packed, trained_on, recipe)
    hard.search(Scorer(LogMel(recipe.features), Loudness()), 0)
    return hard


def test_nothing_is_hard_before_the_first_search(
    recipe: Recipe, packed: Pack, trained_on: Selection
) -> None:
    assert len(HardNegatives(packed, trained_on, recipe).spans()) == 0


def test_the_hardest_windows_are_those_the_model_scores_highest(
    found: HardNegatives, packed: Pack, trained_on: Selection
) -> None:
    """The two tones lie at 3.0 to 3.3 s; windows that hold one of them end by 3.3 + 1.495 s.

    That is three stretches of 0.5 s each, at the least.
    """
    tones = [clip for clip in trained_on.speech if clip.peak_db > -20]
    assert len(tones) == 2
    best = found.state()[0][:6]
    assert set(best[:, 0].tolist()) == {clip.offset for clip in tones}
    stop_s = (best[:, 2] - best[:, 0]) / 16_000
    assert 3.0 <= float(stop_s.min()) <= float(stop_s.max()) <= 4.8


def test_only_training_clips_are_searched(found: HardNegatives, trained_on: Selection) -> None:
    spans = found.spans()
    known = {(c.offset, c.offset + c.samples) for c in trained_on.speech}
    assert set(zip(spans.begin.tolist(), spans.end.tolist(), strict=True)) <= known
    assert len(spans) > 0


def test_windows_lie_about_where_they_were_found(found: HardNegatives) -> None:
    """40 ms either way are 640 samples."""
    spans, stops = found.spans(), torch.cat(found.state())[:, 2]
    assert torch.equal(spans.low, stops - 640)
    assert torch.equal(spans.high, stops + 640)


def test_the_same_epoch_finds_the_same(
    recipe: Recipe, packed: Pack, trained_on: Selection, found: HardNegatives
) -> None:
    again = HardNegatives(packed, trained_on, recipe)
    again.search(Scorer(LogMel(recipe.features), Loudness()), 0)
    assert torch.equal(torch.cat(again.state()), torch.cat(found.state()))


def test_three_epochs_are_remembered_and_restored(
    recipe: Recipe, packed: Pack, trained_on: Selection, found: HardNegatives
) -> None:
    scorer = Scorer(LogMel(recipe.features), Loudness())
    for epoch in range(1, 5):
        found.search(scorer, epoch)
    assert len(found.state()) == 3
    other = HardNegatives(packed, trained_on, recipe)
    other.restore(found.state())
    assert all(
        torch.equal(getattr(other.spans(), name), getattr(found.spans(), name))
        for name in ("begin", "end", "low", "high")
    )


def test_a_long_stream_is_searched_though_it_is_more_than_an_epoch_looks_at(
    tmp_path: Path,
) -> None:
    """46 minutes of tones that come and go; an epoch looks at 45."""
    stream = np.tile(np.concatenate([tone(1000, 1.0), hiss(11.0, 1)]), 46 * 5)
    audio.write(tmp_path / "long.flac", stream)
    (tmp_path / "manifest.csv").write_text("path,label,split\nlong.flac,speech,train\n")
    recipe = tiny_recipe(tmp_path)
    packed = pack(read(recipe.data), tmp_path / "cache", emit=ignore, control=Control())
    hard = HardNegatives(packed, select(packed, recipe.data, "train"), recipe)
    hard.search(Scorer(LogMel(recipe.features), Loudness()), 0)
    assert len(hard.spans()) > 0
