"""What an export tells is enough to hear with: the front end in numpy, the arrays, the states."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_checkpoint import made
from test_report import measured, report, word

from engine.checkpoint import Checkpoint, identity
from engine.export_manifest import _expected, golden_waveform, hearing, write_front_end
from engine.metrics import OperatingPoint
from engine.recipe import Recipe
from engine.recipe_file import override

PAGE = Path(__file__).parents[1] / "docs" / "export.md"


def checkpoint(normalise: str, **changes: Any) -> Checkpoint:
    small = {"model.width": 0.25, "features.normalise": normalise}
    return made(override(Recipe(), small | changes))


@pytest.mark.parametrize("normalise", ["pcen", "both"])
def test_the_front_end_of_the_page_gives_the_same_frames(normalise: str, tmp_path: Path) -> None:
    one = checkpoint(normalise)
    front = one.features()
    write_front_end(front, tmp_path / "front.npz")
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    audio = golden_waveform(front.grid.window_samples + 3000)
    names: dict[str, Any] = {"np": np, "audio": audio, "f": hearing(one)["features"]}
    exec(code, names | {"a": dict(np.load(tmp_path / "front.npz"))}, names)
    expected = front(torch.from_numpy(audio)[None])[0].numpy()
    assert names["mel"] == pytest.approx(expected, abs=1e-3)


def test_log_mel_alone_needs_no_warm_up(tmp_path: Path) -> None:
    one = checkpoint("cmvn")
    write_front_end(one.features(), tmp_path / "front.npz")
    assert sorted(np.load(tmp_path / "front.npz")) == ["filters", "mean", "std", "window"]
    assert hearing(one)["features"]["warmup_frames"] == 0


def test_a_hop_that_is_no_multiple_of_the_stride_shares_no_work() -> None:
    """8 frames of 10 ms are a stride of tinyconv, 3 are not."""
    shares = [
        hearing(checkpoint("cmvn", **{"features.hop_ms": hop_ms}))["stream"]["shares_work"]
        for hop_ms in (80, 30)
    ]
    assert shares == [True, False]


def test_the_first_window_ends_where_a_hop_does() -> None:
    """A window of 1 s warm-up and 148 frames: 16,000 + 23,920 samples; a hop has 1,280."""
    told = hearing(checkpoint("both"))
    assert told["audio"]["window_samples"] == 39_920
    assert told["stream"]["silence_samples"] == 32 * 1280 - 39_920
    assert told["stream"]["first_hop"] == 32


def test_what_was_learnt_has_one_identity() -> None:
    one, other = checkpoint("cmvn"), checkpoint("cmvn")
    assert identity(one) == identity(other)
    other.weights["head.bias"] += 1e-6
    assert identity(one) != identity(other)


def test_what_is_expected_is_told_for_the_wish_that_moved_the_threshold() -> None:
    tested = report(measured(word(0.9), word(0.4)))
    point = OperatingPoint(tested.test.sweep[0][0], 10.0)
    told = _expected(tested, point, None)
    assert told is not None
    assert (told["target_fah"], told["missed"]) == (10.0, tested.test.sweep[0][2])
