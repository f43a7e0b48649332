"""Live audio through the scorer and the detector: what is told of it, and when."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import Trained, hiss, padded, seconds, tone

from engine import audio
from engine.audio import SAMPLE_RATE, Waveform
from engine.checkpoint import load
from engine.detector import Detection, detect, vote_levels
from engine.errors import CheckpointError, DeviceError
from engine.events import (
    Event,
    JobStarted,
    Listened,
    Listening,
    WakewordHeard,
    WakewordJudged,
    Warned,
)
from engine.jobs import Control, Stopped
from engine.judge import Asked, OnFailure, Verdict
from engine.listen import ADVISED_S, _Beside, listen
from engine.microphone import open_source
from engine.recent import Recent
from engine.scorer import Scorer
from engine.source import Source, SourceHealth

THRESHOLD = 0.35


def word(number: int) -> Waveform:
    """A beep that rises, as the run knows it, and 1.3 s of hiss."""
    rising = [tone(500 + 10 * number, 0.2), tone(1500 + 20 * number, 0.2)]
    return np.concatenate([padded(np.concatenate(rising)), hiss(1.3, number)])


SOUND = np.concatenate([hiss(2.0, 1), *map(word, range(8))])


class Blocks:
    """A source of blocks that were cut beforehand; it ends after the last."""

    def __init__(self, blocks: Sequence[Waveform]) -> None:
        self._left = list(blocks)

    @property
    def health(self) -> SourceHealth:
        return SourceHealth("open" if self._left else "ended", "blocks")

    def start(self) -> None:
        pass

    def take(self, wait_s: float) -> Waveform:
        return self._left.pop(0) if self._left else SOUND[:0]

    def close(self) -> None:
        self._left.clear()


def of_sizes(sound: Waveform, sizes: Sequence[int]) -> Blocks:
    """A source that gives a sound in blocks of these sizes, over and over."""
    ends = np.cumsum(np.resize(sizes, len(sound) // min(sizes) + 1))
    return Blocks(np.split(sound, ends[ends < len(sound)]))


def told(
    trained: Trained, source: Source, *, control: Control | None = None, **options: object
) -> list[Event]:
    """Everything that listening with a run's best checkpoint tells."""
    events = list[Event]()
    asked: dict[str, object] = {"threshold": THRESHOLD} | options
    listen(
        source, trained.run.best, emit=events.append, control=control or Control(), **asked  # type: ignore[arg-type]
    )  # fmt: skip
    return events


def heard(events: list[Event]) -> list[tuple[float, float]]:
    return [(e.at_s, e.score) for e in events if isinstance(e, WakewordHeard)]


def whole(trained: Trained, sound: Waveform, threshold: float = THRESHOLD) -> list[Detection]:
    """The detections as the benchmark counts them: scores of the whole, then the detector."""
    checkpoint = load(trained.run.best)
    scorer, rules = Scorer.of(checkpoint), checkpoint.settings().detector
    levels, grid = vote_levels(scorer.score(sound), rules), scorer.grid
    return detect(levels, threshold, rules, grid.hop_s, grid.window_s)


def same(found: list[tuple[float, float]], expected: list[Detection]) -> None:
    assert [at_s for at_s, _ in found] == pytest.approx([fired.time_s for fired in expected])
    assert [score for _, score in found] == pytest.approx(
        [fired.score for fired in expected], abs=1e-4
    )


@settings(max_examples=15)
@given(sizes=st.lists(st.integers(40, 50_000), min_size=1, max_size=5))
def test_streamed_equals_whole_for_any_blocks(tiny_run: Trained, sizes: list[int]) -> None:
    expected = whole(tiny_run, SOUND)
    assert len(expected) > 2
    same(heard(told(tiny_run, of_sizes(SOUND, sizes))), expected)


def test_what_cannot_be_listened_with_gives_the_source_back(tmp_path: Path) -> None:
    audio.write(tmp_path / "talk.wav", SOUND)
    (tmp_path / "best.pt").write_bytes(b"no checkpoint")
    source = open_source(f"fast:{tmp_path / 'talk.wav'}")
    with pytest.raises(CheckpointError):
        listen(source, tmp_path / "best.pt", emit=list[Event]().append, control=Control())
    assert source.health.state == "ended"


def test_a_file_taken_fast_gives_what_the_benchmark_counts(
    tiny_run: Trained, tmp_path: Path
) -> None:
    path = tmp_path / "talk.wav"
    audio.write(path, SOUND)
    events = told(tiny_run, open_source(f"fast:{path}"))
    same(heard(events), whole(tiny_run, audio.read(path)))
    *_, last = events
    assert isinstance(last, Listened)
    assert (last.seconds, last.dropped) == (pytest.approx(len(SOUND) / SAMPLE_RATE), 0)
    assert last.detections == len(heard(events))


def test_scores_are_told_once_each_and_in_order(tiny_run: Trained) -> None:
    events = told(tiny_run, of_sizes(SOUND, [4000]))
    shown = [event for event in events if isinstance(event, Listening)]
    times_s = [time_s for event in shown for time_s in event.times_s]
    scores = [score for event in shown for score in event.scores]
    scorer = Scorer.of(load(tiny_run.run.best))
    expected = scorer.score(SOUND)
    assert scores == pytest.approx(expected.tolist(), abs=1e-4)
    assert np.diff(times_s) == pytest.approx(scorer.grid.hop_s)


def test_at_most_ten_events_a_second(tiny_run: Trained, tmp_path: Path) -> None:
    """Two seconds in real time: some 20 levels, and no sample dropped."""
    audio.write(tmp_path / "two.wav", SOUND[: seconds(2)])
    events = told(tiny_run, open_source(str(tmp_path / "two.wav")))
    shown = [event for event in events if isinstance(event, Listening)]
    assert 10 <= len(shown) <= 23
    assert shown[-1].dropped == 0
    assert 0 < events[-1].cpu < 1  # type: ignore[attr-defined]


def test_levels_are_told_in_decibels(tiny_run: Trained) -> None:
    """A sine of amplitude 0.5 peaks at -6.02 dBFS and has an RMS of -9.03."""
    events = told(tiny_run, Blocks([tone(500, 1.0)]))
    shown = next(event for event in events if isinstance(event, Listening))
    assert shown.peak_db == pytest.approx(-6.02, abs=0.01)
    assert shown.level_db == pytest.approx(-9.03, abs=0.01)
    assert shown.clipped == 0


@pytest.mark.parametrize(
    ("amplitude", "advice"), [(1e-3, "quiet:"), (0.0, "silence,"), (3.0, "clipping:"), (0.1, "")]
)
def test_advice_about_the_level(
    tiny_run: Trained, tmp_path: Path, amplitude: float, advice: str
) -> None:
    from engine.listen import SHOW_EVERY_S, _Level

    level = _Level()
    for _ in range(round(ADVISED_S / SHOW_EVERY_S)):
        level.add(np.clip(tone(500, SHOW_EVERY_S, amplitude), -1, 1))
        level.take()
    assert level.advice().startswith(advice)
    assert bool(level.advice()) == bool(advice)


def test_delay_counts_from_the_end_of_the_word(tiny_run: Trained) -> None:
    """A word with near silence behind it: it fires after the word has ended."""
    events = told(tiny_run, of_sizes(SOUND, [320]))
    fired = [event for event in events if isinstance(event, WakewordHeard)]
    assert all(0 <= event.delay_ms < 1000 for event in fired)
    after = [event for event in fired if event.after_ms is not None]
    assert after
    assert all(event.after_ms > event.delay_ms for event in after if event.after_ms is not None)


def test_a_detection_is_held_on_to_for_whoever_asks(tiny_run: Trained) -> None:
    recent = Recent()
    events = told(tiny_run, of_sizes(SOUND, [4000]), recent=recent)
    at_s, _ = heard(events)[0]
    cut = recent.around(at_s)
    begin = round(cut.begin_s * SAMPLE_RATE)
    assert cut.waveform.tolist() == SOUND[begin : begin + len(cut.waveform)].tolist()
    assert cut.begin_s < at_s - 2


def test_a_judge_never_holds_up_the_scoring(tiny_run: Trained) -> None:
    """Its answers are told after the last score, since it was not let go before."""
    free, asked = threading.Event(), list[int]()

    def verify(sound: Waveform) -> Verdict:
        asked.append(len(sound))
        free.wait(10)
        return Verdict(accepted=False, score=0.2, threshold=0.5, model="conformer", took_ms=3.0)

    class Freed(Control):
        @property
        def stopping(self) -> bool:
            if source.health.state == "ended":
                free.set()
            return False

    source = of_sizes(SOUND, [4000])
    events = told(tiny_run, source, judge=Asked(verify), control=Freed())
    judged = [event for event in events if isinstance(event, WakewordJudged)]
    assert [event.at_s for event in judged] == [at_s for at_s, _ in heard(events)]
    assert {(event.accepted, event.model, event.error) for event in judged} == {
        (False, "conformer", "")
    }
    first = events.index(judged[0])
    assert not any(isinstance(event, WakewordHeard) for event in events[first:])
    assert max(asked) == seconds(3.5)


def test_a_judge_that_fails_is_told_and_listening_goes_on(tiny_run: Trained) -> None:
    def verify(sound: Waveform) -> Verdict:
        raise DeviceError("the judge cannot be reached", "start it")

    events = told(tiny_run, of_sizes(SOUND, [4000]), judge=Asked(verify))
    errors = [event.error for event in events if isinstance(event, WakewordJudged)]
    assert errors == ["the judge cannot be reached"] * len(heard(events))


@pytest.mark.parametrize("on_failure", ["accept", "reject"])
def test_where_the_judge_fails_the_policy_decides(tiny_run: Trained, on_failure: OnFailure) -> None:
    """Of 17 that come at once 16 wait, the first of them being asked; the others are not asked."""
    free = threading.Event()

    def verify(sound: Waveform) -> Verdict:
        free.wait(10)
        raise DeviceError("gone", "start it")

    events, judge = list[Event](), Asked(verify, on_failure=on_failure)
    beside = _Beside(judge, events.append)
    for number in range(17):
        beside.ask(float(number), SOUND[:0])
    free.set()
    while beside.asked:
        beside.settle()
    judged = [event for event in events if isinstance(event, WakewordJudged)]
    full = "not asked: 16 others wait for the judge"
    assert [event.error for event in judged] == [full, *["gone"] * 16]
    assert {event.accepted for event in judged} == {on_failure == "accept"}

    told_live = told(tiny_run, of_sizes(SOUND, [4000]), judge=judge)
    live = [event for event in told_live if isinstance(event, WakewordJudged)]
    assert {(event.accepted, event.error) for event in live} == {(on_failure == "accept", "gone")}


def test_the_judge_hears_as_much_as_it_asks_for(tiny_run: Trained) -> None:
    """As when both are measured together: 2 s before the detection, and half a second after."""
    asked = list[int]()

    def verify(sound: Waveform) -> Verdict:
        asked.append(len(sound))
        return Verdict(accepted=True, score=0.9, threshold=0.5, model="conformer", took_ms=3.0)

    told(tiny_run, of_sizes(SOUND, [4000]), judge=Asked(verify, sent_s=2.0))
    assert max(asked) == seconds(2.5)


def test_a_bug_of_the_judge_ends_the_session(tiny_run: Trained) -> None:
    def verify(sound: Waveform) -> Verdict:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        told(tiny_run, of_sizes(SOUND, [4000]), judge=Asked(verify))


def test_stopped_it_tells_the_session_and_gives_the_source_back(tiny_run: Trained) -> None:
    source, events = of_sizes(SOUND, [4000]), list[Event]()
    with pytest.raises(Stopped):
        listen(source, tiny_run.run.best, emit=events.append, control=Stopping(at_s=2.0, of=source))
    assert isinstance(events[0], JobStarted)
    assert isinstance(events[-1], Listened)
    assert source.health.state == "ended"


class Stopping(Control):
    """Told to stop once a source has given some of its sound."""

    def __init__(self, at_s: float, of: Blocks) -> None:
        super().__init__()
        self._source, self._until = of, len(of._left) - round(at_s * SAMPLE_RATE / 4000)

    @property
    def stopping(self) -> bool:
        if len(self._source._left) <= self._until:
            self.stop()
        return super().stopping


def test_what_is_shorter_than_a_window_is_said_to_be_too_short(tiny_run: Trained) -> None:
    """A window is 1.495 s long: its last frame is cut short."""
    *_, warned, listened = told(tiny_run, Blocks([tone(500, 0.8)]))
    assert warned == Warned("too short to be scored: 0.80 s were heard, 1.50 s are needed")
    assert isinstance(listened, Listened)
    assert not any(isinstance(event, Warned) for event in told(tiny_run, Blocks([tone(500, 1.5)])))


def test_a_recording_that_breaks_off_is_warned_of(tiny_run: Trained, tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    audio.write(path, tone(440, 62.0))
    source = open_source(f"fast:{path}")
    os.truncate(path, 40 * 2 * SAMPLE_RATE)
    path.unlink()
    *_, warned, listened = told(tiny_run, source)
    assert isinstance(warned, Warned)
    assert warned.message == f"{path}: System error."
    assert warned.hint
    assert isinstance(listened, Listened)


def test_no_sound_at_all_says_why(tiny_run: Trained) -> None:
    with pytest.raises(DeviceError, match="no sound was asked for"):
        told(tiny_run, open_source("none"))
