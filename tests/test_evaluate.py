import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import Trained, ignore, other_takes, tiny_recipe

from engine.checkpoint import load, save
from engine.cohorts import CONDITIONS, Condition
from engine.dataset import Pack, pack, read, select
from engine.errors import DataError
from engine.evaluate import evaluate, operating_point, other_hearings, score_split, unheard
from engine.events import Event, Warned
from engine.features import LogMel
from engine.heard import Heard
from engine.jobs import Control
from engine.metrics import StreamScores
from engine.models import build
from engine.recipe import Data
from engine.recipe_file import dump, override
from engine.report import ClipScore, Report
from engine.scorer import Scorer


@pytest.fixture(scope="module")
def packed(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    clips = read(tiny_recipe(tiny_data).data)
    return pack(clips, tmp_path_factory.mktemp("cache"), emit=ignore, control=Control())


def heard(packed: Pack, data: Path, window_ms: int) -> Heard:
    recipe = tiny_recipe(data, {"features.window_ms": window_ms})
    return Heard(packed, select(packed, recipe.data, "test"), recipe)


def test_a_clip_is_heard_between_backgrounds_of_its_split(packed: Pack, tiny_data: Path) -> None:
    """2.3 s of noise, the clip, and 1 s of noise; no digital silence anywhere."""
    test = heard(packed, tiny_data, 1500)
    clip = test.selection.positives[0]
    audio = test.clip(clip)
    assert len(audio) == 36_800 + clip.samples + 16_000
    assert np.array_equal(audio[36_800 : 36_800 + clip.samples], test.waveform(clip))
    noise = np.concatenate([test.waveform(c) for c in test.selection.noise])
    assert any(np.array_equal(audio[:36_800], noise[at : at + 36_800]) for at in range(43_201))


@pytest.mark.parametrize("window_ms", [1500, 2500, 4000])
def test_a_window_of_any_length_hears_every_word(
    packed: Pack, tiny_data: Path, window_ms: int
) -> None:
    """A fresh student scores about 1/2; a word that no window ends upon would score 0."""
    test = heard(packed, tiny_data, window_ms)
    torch.manual_seed(0)
    scorer = Scorer(LogMel(test.recipe.features), build(test.recipe))
    scored = score_split(scorer, test)
    assert len([clip for clip in scored.clips if clip.positive and clip.cohort == "clean"]) == 2
    assert all(clip.peak > 0.2 for clip in scored.clips)


def test_a_stream_is_the_speech_then_the_noise(packed: Pack, tiny_data: Path) -> None:
    """8 s and 5 s: 13 s of stream, one score every 80 ms after the first window."""
    test = heard(packed, tiny_data, 1500)
    torch.manual_seed(0)
    scored = score_split(Scorer(LogMel(test.recipe.features), build(test.recipe)), test)
    (stream,) = scored.streams
    assert stream.seconds == 13.0
    assert len(stream.levels) == (13 * 16_000 - 23_920) // 1280 + 1


def test_a_clip_is_heard_in_every_condition_of_its_split(packed: Pack, tiny_data: Path) -> None:
    """A word under 0 dB of noise is louder than the clean one; none of them lasts longer."""
    test = heard(packed, tiny_data, 1500)
    clip = test.selection.positives[0]
    sounds = {c.cohort: test.clip(clip, c) for c in CONDITIONS}
    assert {len(sound) for sound in sounds.values()} == {36_800 + clip.samples + 16_000}
    powers = {cohort: float(np.square(sound).mean()) for cohort, sound in sounds.items()}
    assert powers["0 dB"] > powers["5 dB"] > powers["10 dB"] > powers["20 dB"]
    assert not np.array_equal(sounds["reverb"], sounds["clean"])
    assert sounds["20 dB softer"] == pytest.approx(0.1 * sounds["clean"], abs=1e-7)


@pytest.mark.parametrize("cohort", [c.cohort for c in CONDITIONS])
def test_detectors_of_any_window_hear_the_same_from_the_clip_on(
    packed: Pack, tiny_data: Path, cohort: str
) -> None:
    """One hears 0.2 s more of the same background before it: 1.7 and 0.8 s for 2.3 s."""
    condition = next(c for c in CONDITIONS if c.cohort == cohort)
    short, long = (heard(packed, tiny_data, window_ms) for window_ms in (1500, 1700))
    clip = short.selection.positives[0]
    heard_short, heard_long = short.clip(clip, condition), long.clip(clip, condition)
    more = len(heard_long) - len(heard_short)
    assert more == pytest.approx(0.2 * 16_000, abs=400)
    assert np.array_equal(heard_short, heard_long[more:])


def test_each_word_is_scored_once_in_each_cohort(packed: Pack, tiny_data: Path) -> None:
    test = heard(packed, tiny_data, 1500)
    torch.manual_seed(0)
    scored = score_split(Scorer(LogMel(test.recipe.features), build(test.recipe)), test)
    words = [clip.cohort for clip in scored.clips if clip.positive]
    assert sorted(words) == sorted(2 * [c.cohort for c in CONDITIONS if c.positive])
    assert {clip.cohort for clip in scored.clips} >= {"half words", "other words"}


def test_the_snr_is_that_of_the_word_and_not_of_its_clip(packed: Pack, tiny_data: Path) -> None:
    """What 5 dB adds has a power 5 dB under that of the word, measured where the word is."""
    test = heard(packed, tiny_data, 1500)
    clip = test.selection.positives[0]
    sound = test.waveform(clip)
    word = sound[round(clip.start_s * 16_000) : round(clip.end_s * 16_000)]
    under = test.clip(clip, Condition("5 dB", snr_db=5.0))
    under[36_800 : 36_800 + len(sound)] -= sound
    snr_db = 10 * np.log10(np.square(word).mean() / np.square(under[36_800:]).mean())
    assert snr_db == pytest.approx(5.0, abs=0.05)
    assert len(word) < 0.8 * len(sound)


def test_a_stream_lasts_longer_the_slower_it_is_played(packed: Pack, tiny_data: Path) -> None:
    """13 s at 0.9, 0.95, 1.05 and 1.1 of their speed."""
    test = heard(packed, tiny_data, 1500)
    torch.manual_seed(0)
    scorer = Scorer(LogMel(test.recipe.features), build(test.recipe))
    lengths = [stream.seconds for stream in other_hearings(scorer, test)]
    assert lengths == pytest.approx([14.44, 13.68, 12.38, 11.82], abs=0.01)
    counts = [(round(16_000 * s) - 23_920) // 1280 + 1 for s in lengths]
    assert [len(stream.levels) for stream in other_hearings(scorer, test)] == counts


@pytest.mark.parametrize(
    ("others", "threshold"), [([], 0.6), ([[0.9, 0.1]], 0.6), ([[0.9, 0.8]], 0.7)]
)
def test_the_threshold_keeps_the_target_in_all_hearings(
    tiny_data: Path, others: list[list[float]], threshold: float
) -> None:
    """An hour with peaks of 0.7 and 0.6 may have one alarm; a second with 0.9 and 0.8 has two more.

    With 0.9 and 0.1, the two alarms of two hours are 0.9 and 0.7; with 0.9 and 0.8 those two.
    """
    recipe = tiny_recipe(tiny_data, {"evaluate.tail_peaks": 0, "detector.hysteresis": 0.0})

    heard = [hour([0.7, 0.6]), *(hour(peaks) for peaks in others)]
    found = operating_point(heard, [], recipe, hearings=len(heard))
    assert found.threshold == pytest.approx(threshold, abs=1e-4)


def hour(peaks: list[float]) -> StreamScores:
    levels = np.zeros(45_000, dtype=np.float32)
    levels[1000 : 1000 * len(peaks) + 1 : 1000] = peaks
    return StreamScores(levels, 3600.0)


@pytest.mark.parametrize(
    ("words", "threshold"),
    [
        ([0.1] + 39 * [0.8], 0.8),
        ([0.1] + 2 * [0.75] + 37 * [0.8], 0.8),
        ([0.1] + 3 * [0.75] + 36 * [0.8], 0.75),
        (40 * [0.9], 0.873),
    ],
)
def test_the_tail_costs_no_more_than_a_twentieth_of_the_words(
    tiny_data: Path, words: list[float], threshold: float
) -> None:
    """Twenty peaks with logits of 0.05 to 1 above one of 0 keep the target from 0.721 on.

    Their tail: 0.525 (1 + 1 / sqrt 20) ln 20 = 1.92, a score of 0.873. Of 40 words one is missed
    anyway and two more may be, so that it goes no further than the fourth.
    """
    recipe = tiny_recipe(tiny_data, {"evaluate.tail_peaks": 20, "detector.hysteresis": 0.0})
    logits = np.linspace(0.0, 1.0, 21)
    heard = [hour([float(p) for p in 1 / (1 + np.exp(-logits))])]
    clips = [ClipScore(word, word, True, "a") for word in words]
    assert operating_point(heard, clips, recipe).threshold == pytest.approx(threshold, abs=1e-3)


# --- on somebody else's data


def measured_on(data: Path, trained: Trained, checkpoint: Path) -> tuple[Report, list[str]]:
    """The report of a checkpoint on some data, and what was warned of."""
    told, home = list[Event](), trained.home
    report = evaluate(checkpoint, data, home, emit=told.append, control=Control())
    return report, [event.message for event in told if isinstance(event, Warned)]


@pytest.mark.parametrize("copied", [False, True])
def test_of_its_own_data_a_run_is_measured_on_its_test_split_alone(
    tiny_run: Trained, tiny_data: Path, tmp_path: Path, copied: bool
) -> None:
    """Of 20 words and 15 others a fifth is tested, however the folder is called."""
    data = Path(shutil.copytree(tiny_data, tmp_path / "copy")) if copied else tiny_data
    report, warned = measured_on(data, tiny_run, tiny_run.run.best)
    assert report.test == Report.from_json(tiny_run.run.report.read_text()).test
    assert warned == [f"28 of 35 clips of {data} are left out"]


def test_data_that_a_run_has_heard_all_of_is_refused(
    tiny_run: Trained, tiny_data: Path, tmp_path: Path
) -> None:
    own = pack(read(tiny_run.recipe.data), tiny_run.home.cache, emit=ignore, control=Control())
    trained = select(own, tiny_run.recipe.data, "train").positives
    rows = [f"{clip.clip.path},beep" for clip in trained]
    (tmp_path / "trained.csv").write_text("\n".join(["path,label", *rows]))
    with pytest.raises(DataError, match="was trained on, or had a say in the threshold"):
        measured_on(tmp_path / "trained.csv", tiny_run, tiny_run.run.best)


def test_of_other_data_a_run_is_measured_on_all(
    tiny_run: Trained, tiny_data: Path, tmp_path: Path
) -> None:
    """Where the run's own data is gone, it is said that nobody sees whether it is other data."""
    theirs = other_takes(tiny_data, tmp_path / "theirs")
    report, warned = measured_on(theirs, tiny_run, tiny_run.run.best)
    assert (report.test.clips, warned) == (10, [])
    best = load(tiny_run.run.best)
    recipe = dump(override(best.settings(), {"data.manifest": "/gone"}))
    save(tmp_path / "moved.ckpt", replace(best, recipe=recipe))
    report, (warning,) = measured_on(theirs, tiny_run, tmp_path / "moved.ckpt")
    assert report.test.clips == 10
    assert warning.startswith(f"nobody sees whether any of {theirs} was trained on: /gone")


def test_new_takes_of_voices_that_were_trained_on_are_left_out_where_files_are_shared(
    tiny_data: Path, tmp_path: Path
) -> None:
    """Elsewhere somebody else may have the same name."""
    folder = Path(shutil.copytree(tiny_data, tmp_path / "clips"))
    other_takes(tiny_data, folder / "again")
    header, *rows = (folder / "manifest.csv").read_text().splitlines()
    new = [f"again/{row}" for row in rows]
    (folder / "new.csv").write_text("\n".join([header, *new]))
    (folder / "both.csv").write_text("\n".join([header, *new, rows[0]]))
    own, others, both = (
        pack(read(Data(manifest=place)), tmp_path / "cache", emit=ignore, control=Control())
        for place in (folder, folder / "new.csv", folder / "both.csv")
    )
    test = {clip.clip.group for clip in select(own, Data(), "test").negatives}
    assert unheard(others, own, 0).clips == others.clips
    assert {c.clip.group for c in unheard(both, own, 0).clips if "voice" in c.clip.group} == test


def test_what_is_left_out_of_a_test_because_it_cannot_be_read_is_told(
    tiny_run: Trained, tiny_data: Path, tmp_path: Path
) -> None:
    theirs = other_takes(tiny_data, tmp_path / "theirs")
    spoilt = sorted(theirs.glob("*.wav"))[0]
    spoilt.write_bytes(b"no audio")
    events = list[Event]()
    evaluate(tiny_run.run.best, theirs, tiny_run.home, emit=events.append, control=Control())
    told = [event.message for event in events if isinstance(event, Warned)]
    assert any(message.startswith(f"skipped {spoilt}: ") for message in told)
