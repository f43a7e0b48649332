from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from engine.cost import Cost, _most_values, cost, exceeded
from engine.recipe import Recipe, Targets
from engine.recipe_file import override

SIZE = Cost(1000, 5000, 62_500.0, int8_kb=20, float_kb=80, ram_int8_kb=10, ram_float_kb=40)


def point(channels: int, out: int) -> nn.Conv1d:
    return nn.Conv1d(channels, out, 1)


def test_tinyconv_is_counted_by_hand() -> None:
    """1,937 of its 50,905 parameters are vectors, of 4 bytes; a hop every 80 ms is 12.5 a second.

    Matrices: the stem's 8 maps of 5x5 (200) and their joining, 8 maps of 20 bands to 64 channels
    (10,240); depthwise kernels of 5 and pointwise matrices, 64 to 64 twice (4,416 each), 64 to 96
    (6,464), 96 to 96 (9,696), 96 to 128 (12,768); 128 means over 5 frames (640), a head of 128.
    Vectors: scale and bias of norms over 8 + 64 + (64 + 64) + (64 + 64) + (64 + 96) + (96 + 96) +
    (96 + 128) channels, a bias of 128 and one of 1. RAM: the frames (40, 148) and, where the maps
    are joined, its input (8, 20, 72) and its output (64, 72).
    """
    size = cost(Recipe())
    assert size.parameters == 50_905
    assert size.int8_kb * 1024 == 48_968 + 4 * 1937
    assert size.macs_per_s == size.macs * 12.5
    assert size.ram_int8_kb * 1024 == 40 * 148 + 8 * 20 * 72 + 64 * 72
    assert size.ram_float_kb == 4 * size.ram_int8_kb


def test_a_layer_needs_its_input_its_output_and_the_frames() -> None:
    """Frames 4x10; the second layer takes 8x10 and gives 2x10: 40 + 80 + 20. ReLU is in place."""
    model = nn.Sequential(point(4, 8), nn.ReLU(), point(8, 2))
    assert _most_values(model, torch.zeros(1, 4, 10)) == 140


def test_a_shortcut_is_kept_until_it_is_added() -> None:
    """At the second layer of the block: frames 40, shortcut 80, input 80, output 80."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.one, self.two = point(4, 8), point(8, 8), point(8, 8)

        def forward(self, frames: Tensor) -> Tensor:
            x = self.stem(frames)
            return torch.relu(x + self.two(torch.relu(self.one(x))))

    assert _most_values(Block(), torch.zeros(1, 4, 10)) == 280


@pytest.mark.parametrize("arch", ["tinyconv", "mobilenetv3"])
def test_ram_holds_more_than_the_frames(arch: str) -> None:
    assert cost(override(Recipe(), {"model.arch": arch})).ram_int8_kb * 1024 > 40 * 148


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (Targets(), []),
        (Targets(flash_kb=20.0, ram_kb=10.0, latency_ms=2.0), []),
        (Targets(flash_kb=19.0), ["the weights take 20 kB as INT8, over targets.flash_kb = 19"]),
        (Targets(ram_kb=9.5), ["a window takes 10 kB of RAM as INT8, over targets.ram_kb = 9.5"]),
        (Targets(latency_ms=1.5), ["a hop takes 2.00 ms (p95), over targets.latency_ms = 1.5"]),
    ],
)
def test_a_target_that_is_exceeded_is_a_sentence(targets: Targets, words: Sequence[str]) -> None:
    assert exceeded(targets, SIZE, 2.0) == words


def test_what_is_not_known_exceeds_nothing() -> None:
    assert exceeded(Targets(flash_kb=1.0, ram_kb=1.0, latency_ms=1.0)) == []
