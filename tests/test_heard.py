"""How far a phase has heard what it hears."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import ignore, tiny_recipe

from engine import heard
from engine.audio import SAMPLE_RATE
from engine.cohorts import CONDITIONS
from engine.dataset import pack, read, select
from engine.evaluate import other_hearings, score_split
from engine.events import Event, PhaseChanged, Progressed
from engine.features import LogMel
from engine.heard import Heard, Progress
from engine.jobs import Control, Stopped
from engine.models import build
from engine.scorer import Scorer

SPLIT_S = 95.0
"""20 clips of 4.1 s amid their background, and 13 s of streams."""


@pytest.fixture
def split(tiny_data: Path, tmp_path: Path) -> Heard:
    recipe = tiny_recipe(tiny_data)
    packed = pack(read(recipe.data), tmp_path, emit=ignore, control=Control())
    return Heard(packed, select(packed, recipe.data, "test"), recipe)


@pytest.fixture
def scorer(split: Heard) -> Scorer:
    torch.manual_seed(0)
    return Scorer(LogMel(split.recipe.features), build(split.recipe))


def test_all_that_is_heard_is_counted_once(split: Heard, scorer: Scorer) -> None:
    """13 s at 0.9, 0.95, 1.05 and 1.1 of their speed last 52.3 s."""
    passed: list[float] = []
    score_split(scorer, split, passed.append)
    assert sum(passed) == pytest.approx(split.seconds) == pytest.approx(SPLIT_S, abs=0.1)
    passed.clear()
    other_hearings(scorer, split, passed.append)
    assert sum(passed) == pytest.approx(split.other_speeds_s, abs=0.01)
    assert split.other_speeds_s == pytest.approx(52.3, abs=0.1)


def test_no_word_of_a_noisy_condition_is_heard_in_silence(split: Heard) -> None:
    """Of each recording of the background the first four fifths are digital silence."""
    audio = split.packed.audio.copy()
    for clip in (*split.selection.speech, *split.selection.noise):
        audio[clip.offset : clip.offset + clip.samples * 4 // 5] = 0
    gated = Heard(replace(split.packed, audio=audio), split.selection, split.recipe)
    noisy = next(condition for condition in CONDITIONS if condition.snr_db == 0.0)
    for clip in split.selection.positives:
        start = round(gated.lead_s * SAMPLE_RATE)
        around = gated.clip(clip, noisy)
        assert around[:start].any()
        assert (around[start : start + clip.samples] != gated.waveform(clip)).any()
        assert gated.clip(clip)[:start].any()


def test_a_phase_tells_in_minutes_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 0.75, 1.8, 2.5 and 3 of three minutes; a half is rounded to the even one."""
    monkeypatch.setattr(heard, "TELL_EVERY_S", 0.0)
    events: list[Event] = []
    passed = Progress("test", 180.0, events.append, Control())
    for seconds in (45.0, 63.0, 42.0, 30.0):
        passed(seconds)
    assert events == [
        PhaseChanged("test"),
        *[Progressed("test", minutes, 3, "minutes") for minutes in (1, 2, 2, 3)],
    ]


def test_a_stop_is_heeded_at_the_next_clip(split: Heard, scorer: Scorer) -> None:
    control = Control()
    passed = Progress("test", split.seconds, ignore, control)
    control.stop()
    with pytest.raises(Stopped):
        score_split(scorer, split, passed)
