"""How many clips a second TinyConv trains on, end to end, and where the time of a step goes.

Run with `pytest -m bench -s tests/bench/test_training.py`. The limit is that of the project: 700
clips a second on two cores; where there is a GPU, that and its memory. Packed audio is noise, so
that no data is needed.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.device import describe, device_of, memory_mb, threads_of
from engine.preview import WORD, synthetic
from engine.recipe_file import load
from engine.trainer import Trainer

RECIPE = Path(__file__).parents[2] / "recipes" / "tinyconv.toml"
LEAST_CLIPS_PER_S = 700
STEPS = 40


def mean_ms(work: Callable[[], object], times: int = STEPS) -> float:
    """Mean of several times, after one."""
    taken_ms(work, 1)
    return taken_ms(work, times) / times


def taken_ms(work: Callable[[], object], times: int) -> float:
    """What so many times take; a GPU is waited for at their end, as a training does."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - began)


@pytest.mark.bench
@pytest.mark.parametrize("tempo", [0.0, 0.4])
@pytest.mark.parametrize("threads", [0, 1])
def test_clips_per_second_of_real_steps(threads: int, tempo: float) -> None:
    keys = {"data.wakeword": WORD, "train.threads": threads, "augment.tempo": tempo}
    recipe = load(RECIPE, keys)
    torch.set_num_threads(threads_of(recipe))
    trainer = Trainer(recipe, synthetic(), torch.device("cpu"))
    step_ms = mean_ms(lambda: trainer.step().item())
    clips_per_s = 1000 * recipe.train.batch_size / step_ms
    sys.stdout.write(
        f"\n{clips_per_s:.0f} clips/s, {trainer.threads} threads, tempo {tempo}: {step_ms:.1f} ms\n"
    )
    if trainer.threads == 1:
        tell_parts(trainer, step_ms)
    assert clips_per_s >= LEAST_CLIPS_PER_S


@pytest.mark.bench
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("tempo", [0.0, 0.4])
@pytest.mark.parametrize("clips", [128, 512])
def test_clips_per_second_on_a_gpu(clips: int, tempo: float) -> None:
    keys = {"data.wakeword": WORD, "train.batch_size": clips, "augment.tempo": tempo}
    recipe = load(RECIPE, keys)
    device = device_of(recipe)
    trainer = Trainer(recipe, synthetic(), device)
    torch.cuda.reset_peak_memory_stats(device)
    step_ms = mean_ms(trainer.step)
    used_mb = torch.cuda.max_memory_allocated(device) / 2**20
    clips_per_s = 1000 * clips / step_ms
    sys.stdout.write(
        f"\n{describe(device)}, batch {clips}, tempo {tempo}: {clips_per_s:.0f} clips/s, "
        f"{step_ms:.1f} ms, {used_mb:.0f} MB, {memory_mb(device):.0f} MB reserved\n"
    )
    tell_parts(trainer, step_ms)
    assert clips_per_s >= LEAST_CLIPS_PER_S


def tell_parts(trainer: Trainer, step_ms: float) -> None:
    """Where the time of a step goes; with more threads its parts lie beside each other."""
    waveform, _ = trainer.batches.draw(0, 0)

    @torch.no_grad()
    def frames() -> None:
        trainer._frames(waveform)

    parts = {
        "draw": mean_ms(lambda: trainer.batches.draw(0, 1)),
        "frames": mean_ms(frames),
        "optimiser and average": mean_ms(trainer.optimiser.step)
        + mean_ms(lambda: trainer._following.move(0.999)),
    }
    parts["forward and backward"] = step_ms - sum(parts.values())
    shares = ", ".join(f"{name} {ms / step_ms:.0%}" for name, ms in parts.items())
    sys.stdout.write(f"{shares}\n")
