"""The loop: train, mine half an hour, decide by real keys in the real app in tmux, train again."""

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import chirp

from engine import audio
from engine.audio import SAMPLE_RATE, Waveform
from engine.queue_store import Decision, Find, QueueStore
from engine.recipe_file import dump
from engine.runs import Run, Workspace
from engine.scorer import scorer_of
from tests.tiny import hiss, seconds, tiny_recipe, tone
from tests.tui.terminal import APART_S, needs_tmux, tmux
from tests.waiting import until

LEARNS = {
    "train.steps_per_epoch": 40,
    "train.batch_size": 32,
    "train.lr": 0.01,
    "train.seed": 1,
    "train.ema_decay": 0.8,
    "train.average_best": 1,
    "train.hard_share": 0.0,
    "train.partial_share": 0.0,
    "augment.speed": 0.0,
    "augment.room": 0.0,
    "augment.snr_low_db": 5.0,
    "augment.equaliser_db": 0.0,
    "augment.time_masks": 0,
    "augment.freq_masks": 0,
}
"""80 steps that tell beeps that rise from what falls and what hisses; a glide passes for a beep."""
PLACES, EVERY_S, WORD = 9, 180, 8
"""Nine sounds in half an hour, 3 minutes apart; the eighth is the wake word."""
THRESHOLD = 0.4
"""Hiss scores below 0.1, glides above 0.7."""
PATIENCE_S = 120.0


def glide(low_hz: float) -> Waveform:
    """0.4 s that rise without a step by 1000 Hz."""
    time_s = np.arange(seconds(0.4)) / SAMPLE_RATE
    rising: Waveform = (0.5 * chirp(time_s, low_hz, 0.4, low_hz + 1000)).astype(np.float32)
    return rising


def half_an_hour(path: Path) -> Path:
    """A glide every 3 minutes, but at 24 minutes the wake word."""
    waveform = hiss(1800, 5)
    for place in range(1, PLACES + 1):
        word = np.concatenate([tone(530, 0.2), tone(1590, 0.2)])
        sound, at = word if place == WORD else glide(500 + 5 * place), seconds(EVERY_S * place)
        waveform[at : at + len(sound)] += sound
    audio.write(path, waveform)
    return path


def run_command(home: Workspace, environment: dict[str, str], *words: str) -> str:
    command = [sys.executable, "-m", "wakeword_tui", "--workspace", str(home.root), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def queued(home: Workspace) -> list[tuple[Find, Decision]]:
    """What the queue holds, in the order of the recording."""
    with closing(QueueStore(home.queue)) as store:
        items = store.items(store.ids(decision=None, order="source"))
    return [(item.find, item.decision) for item in items]


def decide_in_the_app(home: Workspace, environment: dict[str, str], folder: Path) -> None:
    """Confirm six; discard the seventh, undo, confirm it; the word; confirm the ninth, undo."""
    command = [sys.executable, "-m", "wakeword_tui", "--workspace", str(home.root)]
    with tmux(folder, command, environment) as window:
        window.see("manifest", PATIENCE_S)
        window.press("5")
        window.see("9 pending by score", PATIENCE_S)
        window.press("o")
        window.see("by nearness", PATIENCE_S)
        window.press("o")
        window.see("9 pending by recording", PATIENCE_S)
        window.see("1 of 9", PATIENCE_S)
        shown = [*(f"{n} of 9" for n in (2, 3, 4, 5, 6, 7, 8, 7, 8, 9)), "the last one here"]
        for key, text in zip("ccccccducwc", shown, strict=True):
            window.press(key)
            window.see(text, PATIENCE_S)
            time.sleep(APART_S)
        window.press("u")
        until(lambda: queued(home)[-1][1] == "pending", PATIENCE_S, window.screen)
        window.press("q")
        until(lambda: not window.screen(), PATIENCE_S, window.screen)


def heard(run: Run, finds: list[Find]) -> float:
    """The highest score of each find's stretch, on average."""
    scorer = scorer_of(run.best)
    stretches = [audio.stretch(find.path, find.start_s, find.end_s) for find in finds]
    return float(np.mean([scorer.score(stretch).max() for stretch in stretches]))


@needs_tmux
def test_what_is_mined_and_confirmed_no_longer_fools_the_next_run(
    tiny_data: Path, tmp_path: Path, home: dict[str, str]
) -> None:
    """Of nine finds seven are confirmed, one is the word, one stays open; recipe and seed stay."""
    workspace, recipe = Workspace(tmp_path / "workspace"), tmp_path / "my.toml"
    recipe.write_text(dump(tiny_recipe(tiny_data, LEARNS)))
    radio = half_an_hour(tmp_path / "radio.wav")
    run_command(workspace, home, "train", str(recipe))
    told = run_command(workspace, home, "mine", str(radio), "--threshold", str(THRESHOLD))
    assert "9 new in the queue, 9 to decide on" in told
    places = [find.time_s / EVERY_S for find, _ in queued(workspace)]
    assert places == pytest.approx(range(1, PLACES + 1), abs=2 / EVERY_S)

    decide_in_the_app(workspace, home, tmp_path)
    decisions = [decision for _, decision in queued(workspace)]
    assert decisions == ["confirmed"] * 7 + ["wakeword", "pending"]

    run_command(workspace, home, "train", str(recipe), "--set", "name=mined")
    before, after = workspace.runs()
    report = json.loads(after.report.read_text())
    assert (report["hard_negatives"], report["mined_positives"]) == (7, 1)
    finds = [find for find, _ in queued(workspace)]
    glides, word = finds[:7], finds[WORD - 1 : WORD]
    assert heard(before, glides) > 0.6
    assert heard(after, glides) < 0.3
    assert heard(after, word) > 0.4
