"""How many clips a second one core augments, what each operation takes, and a peer beside it.

Run with `pytest -m bench -s tests/bench/test_augment.py`. One thread, the time that the processor
spent on it, the best of several rounds: whatever else the machine does makes a round slower.
"""

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine import audio
from engine.augment import equalise, gain, mix, overdrive, spec_augment, telephone
from engine.batches import Batches, step_generator
from engine.dataset import Pack, PackedClip, Selection
from engine.features import LogMel
from engine.manifest import Clip
from engine.pitch import Pitch, Speed, pitches, speeds, stretch
from engine.recipe import Recipe
from engine.recipe_file import override

CPU = torch.device("cpu")
BATCH = 128
ROUNDS = 12
FULL = {
    "train.batch_size": BATCH,
    "augment.speed": 0.5,
    "augment.pitch": 0.3,
    "augment.room": 0.5,
    "augment.noise": 0.7,
    "augment.noises": 2,
}
LEAN = {"augment.pitch": 0.0, "augment.noises": 1}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def synthetic() -> tuple[Pack, Selection]:
    """Ten minutes of packed noise: 200 words, streams, backgrounds, 40 measured rooms."""
    plan = [("word", 200, 1.2), ("other", 100, 1.2), ("speech", 20, 12), ("noise", 10, 12)]
    rng, parts, clips, offset = np.random.default_rng(0), [], list[PackedClip](), 0
    for label, count, seconds in [*plan, ("rir", 40, 0.6)]:
        for number in range(count):
            sound = rng.standard_normal(round(16_000 * seconds)) * 3000
            if label == "rir":
                sound *= 10 ** (-3 * np.arange(len(sound)) / rng.uniform(2000, 9000))
            clip = Clip(Path(f"{label}{number}"), label, f"g{number}")
            clips.append(PackedClip(clip, offset, len(sound), -6, -20, 0.2, 0.9, "", ""))
            parts.append(sound.astype(np.int16))
            offset += len(sound)
    kinds = [tuple(c for c in clips if c.clip.label == label) for label, *_ in plan]
    rooms = tuple(c for c in clips if c.clip.label == "rir")
    return Pack(np.concatenate(parts), tuple(clips), (), Path()), Selection(*kinds, rooms)


def best_s(work: Callable[[], object]) -> float:
    """The shortest of several rounds, in seconds of processor time."""
    work()
    taken = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken)


def chain(changes: dict[str, Any]) -> tuple[Batches, Callable[[], Tensor]]:
    """A batch from packed audio to masked frames, as a training step has it."""
    recipe = override(Recipe(), {**FULL, **changes})
    batches = Batches(*synthetic(), recipe, CPU)
    features = LogMel(recipe.features)
    features.fit(batches.plain(64))

    def work() -> Tensor:
        masks = step_generator(0, 0, 1, "masks")
        frames = features(batches.draw(0, 1)[0])
        frames = equalise(frames, features.std, recipe.augment, masks)
        return spec_augment(frames, recipe.augment, recipe.features.step_ms, masks)

    return batches, work


def show(name: str, clips: int, seconds: float) -> None:
    rate = clips / seconds
    sys.stdout.write(f"{name:<44} {rate:9,.0f} clips/s {1e3 * seconds:8.2f} ms for {clips}\n")


@pytest.mark.bench
def test_the_chain_keeps_its_pace() -> None:
    """Targets: 750 clips/s with everything, 1,000 without pitch and the second noise."""
    sys.stdout.write("\n")
    rates = []
    for name, changes in (("everything", {}), ("without pitch and second noise", LEAN)):
        batches, work = chain(changes)
        taken = best_s(work)
        show(f"{name}, with features and masks", BATCH, taken)
        show(f"{name}, waveforms alone", BATCH, best_s(lambda drawn=batches: drawn.draw(0, 1)))
        rates.append(BATCH / taken)
    assert rates[0] > 375
    assert rates[1] > 500


def operations() -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Each operation with the number of clips it is done to in a batch of 128."""
    batches, _ = chain({"augment.room": 1.0, "augment.far": 1.0})
    generator, augment = torch.Generator().manual_seed(0), batches.recipe.augment
    window, count = batches.grid.window_samples, BATCH
    waveform = 0.1 * torch.randn(count, window)
    noise, zero = waveform.flip(0), torch.zeros(count)
    picked = batches._choose(generator)[0]
    begin, end, stop, _ = picked
    speed, pitch = Speed(speeds(augment)), Pitch(pitches(augment))
    features, masks = LogMel(batches.recipe.features), step_generator(0, 0, 0)
    frames = features(waveform)
    source = {ratio: torch.randn(6, speed.source_samples(ratio, window)) for ratio in speed.bank}
    yield "gather", count, lambda: batches._gather(begin, end, stop - window, window)
    yield "speed, 10 ratios", 60, lambda: [speed(source[r], r, window) for r in speed.bank]
    chosen = torch.arange(38) % len(pitch.bank)
    slower = torch.linspace(0.75, 1.35, 51)
    yield "tempo", 51, lambda: stretch(waveform[:51], slower, window)
    yield "pitch", 38, lambda: pitch(waveform[:38], chosen)
    places = batches.rooms.draw(augment, 64, generator)
    near = replace(places, corner_hz=torch.full((64,), torch.inf))
    yield "rooms", 64, lambda: batches.rooms.hear(waveform[:64].clone(), near)
    yield "rooms, all of them far", 64, lambda: batches.rooms.hear(waveform[:64].clone(), places)
    rows = torch.arange(16)
    one, two = (draw(16, generator) for draw in (batches._background, batches._backgrounds))
    yield "background, one", 16, lambda: one(rows)
    yield "background, up to two", 16, lambda: two(rows)
    yield "mix", count, lambda: mix(waveform, noise, zero)
    yield "overdrive", count, lambda: overdrive(waveform, zero + 6)
    yield "telephone", count, lambda: telephone(waveform)
    yield "gain", count, lambda: gain(waveform, zero)
    yield "log-mel", count, lambda: features(waveform)
    yield "equaliser", count, lambda: equalise(frames, features.std, augment, masks)
    yield "masks", count, lambda: spec_augment(frames, augment, 10, masks)


@pytest.mark.bench
def test_where_the_time_goes() -> None:
    sys.stdout.write("\n")
    for name, clips, work in operations():
        show(name, clips, best_s(work))


def theirs(peer: Any, change: Any, folder: Path) -> Callable[[np.ndarray[Any, Any]], object]:
    """The same operations of audiomentations, each done to every clip."""
    steps = peer.Compose(
        [
            change,
            peer.ApplyImpulseResponse(folder / "rooms", p=1.0),
            peer.AddBackgroundNoise(folder / "noise", 0.0, 25.0, p=1.0),
            peer.Gain(-12.0, 12.0, p=1.0),
            peer.Shift(-0.2, 0.2, p=1.0),
        ]
    )
    return lambda waveform: steps(waveform, sample_rate=16_000)


@pytest.mark.bench
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["speed", "pitch"])
def test_it_is_several_times_as_fast_as_audiomentations(tmp_path: Path, kind: str) -> None:
    """Speed or pitch, a room, background noise, gain and shift on every clip; target 5 times."""
    try:
        peer: Any = importlib.import_module("audiomentations")
    except ImportError:
        pytest.skip("audiomentations is not installed: pip install --target FOLDER, and PYTHONPATH")
    pack, selection = synthetic()
    for name, clips in (("noise", selection.noise), ("rooms", selection.rooms)):
        (tmp_path / name).mkdir()
        for clip in clips:
            sound = pack.audio[clip.offset : clip.offset + clip.samples].astype(np.float32)
            audio.write(tmp_path / name / f"{clip.clip.path.name}.wav", sound / np.float32(32768))
    shares = {"augment.speed": float(kind == "speed"), "augment.pitch": float(kind == "pitch")}
    batches, _ = chain({**LEAN, **shares, "augment.room": 1.0, "augment.noise": 1.0})
    waveforms = list(batches.plain(16).numpy())
    stretch, pitch = peer.TimeStretch(0.8, 1.25, p=1.0), peer.PitchShift(-2.0, 2.0, p=1.0)
    one = theirs(peer, stretch if kind == "speed" else pitch, tmp_path)
    ours_s = best_s(lambda: batches.draw(0, 1)) / BATCH
    theirs_s = best_s(lambda: [one(waveform) for waveform in waveforms]) / len(waveforms)
    sys.stdout.write("\n")
    show(f"ours: {kind}, room, noise, gain, shift", 1, ours_s)
    show(f"audiomentations {peer.__version__}: the same", 1, theirs_s)
    sys.stdout.write(f"{theirs_s / ours_s:.1f} times\n")
    assert theirs_s > 2.5 * ours_s
