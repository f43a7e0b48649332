"""Which weights are kept, and what their mean is."""

from pathlib import Path

import pytest
import torch
from tiny import held_for_validation, ignore, tiny_recipe
from torch import Tensor

from engine.dataset import pack, read
from engine.jobs import Control
from engine.trainer import Trainer


@pytest.fixture
def trainer(tiny_data: Path, tmp_path: Path) -> Trainer:
    recipe = tiny_recipe(tiny_data, {"train.average_best": 2, "train.epochs": 9})
    packed = pack(read(recipe.data), tmp_path, emit=ignore, control=Control())
    return Trainer(recipe, packed, torch.device("cpu"))


def bias(trainer: Trainer) -> Tensor:
    return trainer.averaged.get_parameter("head.bias").data


def offer(trainer: Trainer, value: float, rank: tuple[int, float]) -> bool:
    bias(trainer).fill_(value)
    return trainer.keep(rank)


def test_the_fewest_misses_are_best_then_the_smaller_area_then_the_later(trainer: Trainer) -> None:
    ranks = [(7, 0.2), (5, 0.3), (5, 0.2), (6, 0.0), (5, 0.2)]
    assert [offer(trainer, 0.0, rank) for rank in ranks] == [True, True, True, False, True]


def test_the_mean_is_of_the_best_ones_kept(trainer: Trainer) -> None:
    """Of misses 9, 4 and 6 the two best are 4 and 6: the mean of 2 and 5 is 3.5."""
    for value, missed in ((1.0, 9), (2.0, 4), (5.0, 6)):
        offer(trainer, value, (missed, 0.0))
    assert trainer.mean_of_kept().get_parameter("head.bias").item() == 3.5


def test_what_is_kept_survives_a_checkpoint(trainer: Trainer) -> None:
    offer(trainer, 2.0, (4, 0.5))
    stored = trainer.checkpoint(0)
    trainer.kept.clear()
    trainer.restore(stored)
    assert [candidate.rank for candidate in trainer.kept] == [(4, 0.5)]
    assert trainer.kept[0].weights["head.bias"].item() == 2.0


def test_hard_negatives_that_belong_to_validation_by_now_are_not_restored(
    tiny_data: Path, tmp_path: Path
) -> None:
    """Two clips change places, in the same pack: its files are as they were."""

    def held(name: str) -> Trainer:
        manifest = held_for_validation(name, tiny_data, tmp_path / "manifest.csv")
        recipe = tiny_recipe(manifest)
        packed = pack(read(recipe.data), tmp_path, emit=ignore, control=Control())
        return Trainer(recipe, packed, torch.device("cpu"))

    first = held("speech-talk1.wav")
    stored = first.checkpoint(0)
    other = held("speech-talk6.wav")
    assert other.packed.folder == first.packed.folder
    assert first.restore(stored)
    assert not other.restore(stored)


def test_only_log_mel_rows_are_equalised(tiny_data: Path, tmp_path: Path) -> None:
    """PCEN undoes the gain of a band by itself; without masks its rows stay as they are."""
    changes = {"features.normalise": "both", "augment.time_masks": 0, "augment.freq_masks": 0}
    recipe = tiny_recipe(tiny_data, changes)
    packed = pack(read(recipe.data), tmp_path, emit=ignore, control=Control())
    both = Trainer(recipe, packed, torch.device("cpu"))
    frames = torch.zeros(2, 80, 148)
    heard = both._hide(frames, torch.Generator().manual_seed(0))
    assert heard[:, :40].abs().max() > 0
    assert torch.equal(heard[:, 40:], frames[:, 40:])


def test_the_fine_tuning_is_the_same_with_gradient_checkpointing(
    tiny_data: Path, tmp_path: Path, trainer: Trainer
) -> None:
    recipe = tiny_recipe(tiny_data, {"train.gradient_checkpointing": True, "train.epochs": 9})
    thrifty = Trainer(recipe, trainer.packed, torch.device("cpu"))
    weights = trainer.model.state_dict()
    for one in (trainer, thrifty):
        one.position.step = one.total_steps
        one.quantise(weights)
        one.step()
    ours, theirs = thrifty.model.state_dict(), trainer.model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
