"""Listening: live audio through the one scorer and the one detector, and what comes of it.

    source --take--> recent (the last 12 s)            level, scores    Listening, 10 a second
                     scorer --> detector --fires-->    detection        WakewordHeard
                                           `--------> judge, beside     WakewordJudged

Audio does not wait, so this does not yield to a training, as other background jobs do.
"""

import contextlib
import math
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from engine.audio import SAMPLE_RATE, Waveform, to_int16
from engine.detector import Detection, Detector
from engine.errors import DeviceError
from engine.events import (
    Emit,
    JobStarted,
    Listened,
    Listening,
    ListeningBegan,
    WakewordHeard,
    WakewordJudged,
    Warned,
)
from engine.finder import Finder
from engine.jobs import Control
from engine.judge import AFTER_S, Asked, Decision
from engine.recent import Recent
from engine.source import Source
from engine.words import FRAME_S, locate

TAKE_S = 0.1
SHOW_EVERY_S = 0.1
PIECE_SAMPLES = SAMPLE_RATE
CPU_EVERY_S = 2.0
ADVISED_S = 5.0
SILENCE_DB = -120.0
QUIET_DB = -40.0
FULL_SCALE = 0.999
CLIPPED = 3
MOST_ASKED = 16


def listen(
    source: Source,
    model_path: Path,
    *,
    threshold: float | None = None,
    judge: Asked | None = None,
    recent: Recent | None = None,
    emit: Emit,
    control: Control,
) -> None:
    """Listen with a checkpoint or an export until the source ends, or until told to stop.

    `threshold` is else that of its operating point. `recent` holds what was heard last, for others
    to keep some of it. The `judge` is asked about each detection, with the audio up to `AFTER_S`
    later, in a thread beside. Raises CheckpointError, and DeviceError where the source ends before
    anything was heard.
    """
    with contextlib.closing(source):
        finder = Finder.of(model_path)
        level = finder.point if threshold is None else threshold
        emit(JobStarted("listen", model_path.name, f"threshold {level:.3f}"))
        emit(ListeningBegan(finder.recipe.data.wakeword, finder.checkpoint, level))
        listener = _Listener(source, finder, level, recent or Recent(), judge, emit, control)
        source.start()
        with contextlib.closing(listener):
            listener.go()


class _Listener:
    """A session."""

    def __init__(
        self,
        source: Source,
        finder: Finder,
        threshold: float,
        recent: Recent,
        judge: Asked | None,
        emit: Emit,
        control: Control,
    ) -> None:
        self.source, self.finder, self.recent = source, finder, recent
        self.emit, self.control = emit, control
        finder.scorer.reset()  # it was tried out when it was made
        self.detector = Detector(finder.rules, threshold, finder.scorer.grid.hop_s)
        self.judge = _Beside(judge, emit) if judge is not None else None
        self.unasked = deque[float]()
        self.level, self.cpu = _Level(), _Cpu()
        self.hops = self.detections = 0
        self.times_s, self.scores = list[float](), list[float]()
        self.taken_s = self.before_s = time.monotonic()
        self.end_s = self.shown_s = 0.0

    def go(self) -> None:
        """Hear block after block."""
        while True:
            ended = self.source.health.state == "ended"
            block = self.source.take(TAKE_S)
            self.before_s, self.taken_s = self.taken_s, time.monotonic()
            self.end_s = self.recent.heard_s + len(block) / SAMPLE_RATE
            for at in range(0, len(block), PIECE_SAMPLES):
                self._hear(block[at : at + PIECE_SAMPLES])
                self._ask(self.recent.heard_s - AFTER_S)
                self._step()
            if ended and not len(block):
                break
            self._step()
        if not self.recent.heard_s:
            health = self.source.health
            raise DeviceError(health.line, health.hint)
        self._ask(math.inf)
        while self.judge is not None and self.judge.asked:
            time.sleep(TAKE_S)
            self._step()

    def close(self) -> None:
        """Tell what is left to tell."""
        self._show()
        if self.judge is not None:
            self.judge.close()
        self._warn()
        dropped = self.source.health.dropped
        self.emit(Listened(self.recent.heard_s, self.detections, dropped, self.cpu.mean))

    def _warn(self) -> None:
        """Say so where the source ended before its time, or before a window could be scored."""
        health, heard_s = self.source.health, self.recent.heard_s
        if health.state == "ended" and health.hint:
            self.emit(Warned(health.line, health.hint))
        if heard_s and not self.hops:
            self.emit(Warned(self.finder.too_short(heard_s)))

    def _step(self) -> None:
        """A step boundary; nothing here waits for anything but a person who pauses."""
        if self.judge is not None:
            self.judge.settle()
        if time.monotonic() - self.shown_s >= SHOW_EVERY_S:
            self._show()
        if self.control.stopping or self.control.paused:
            self.control.tick()

    def _hear(self, piece: Waveform) -> None:
        """Take in a second or less of audio `(N,)`, and everything that it completes."""
        grid = self.finder.scorer.grid
        self.recent.hear(piece)
        self.level.add(piece)
        for score in self.finder.scorer.push(piece).tolist():
            time_s = grid.window_s + self.hops * grid.hop_s
            self.hops += 1
            self.times_s.append(time_s)
            self.scores.append(score)
            if fired := self.detector.push(score, time_s):
                self._fire(fired)

    def _fire(self, fired: Detection) -> None:
        """Tell of a detection, hold on to its sound, and have the judge asked."""
        self.detections += 1
        self.recent.hold(fired.time_s, *self.finder.place(fired, math.inf))
        word_s = self._since_word(fired)
        waited_s = min(self.end_s - fired.time_s, self.taken_s - self.before_s)
        delay_ms = 1000 * (time.monotonic() - self.taken_s + max(waited_s, 0.0))
        after_ms = None if word_s is None else 1000 * word_s + delay_ms
        self.emit(WakewordHeard(fired.time_s, fired.score, delay_ms, after_ms))
        self.unasked.append(fired.time_s)

    def _ask(self, until_s: float) -> None:
        """Ask the judge about detections up to a time: the word may go on after it was heard."""
        while self.judge is not None and self.unasked and self.unasked[0] <= until_s:
            time_s = self.unasked.popleft()
            begin_s, end_s = time_s - self.judge.sent_s, time_s + AFTER_S
            self.judge.ask(time_s, self.recent.between(begin_s, end_s))

    def _since_word(self, fired: Detection) -> float | None:
        """Seconds of the window after its word; None where none stands out, or it goes on."""
        window_s = self.finder.recipe.features.window_ms / 1000
        window = self.recent.between(fired.time_s - window_s, fired.time_s)
        word = locate(to_int16(window))
        after_s = len(window) / SAMPLE_RATE - word[1] if word is not None else 0.0
        return after_s if after_s > FRAME_S else None

    def _show(self) -> None:
        self.shown_s, health = time.monotonic(), self.source.health
        times_s, scores = self.times_s, self.scores
        self.times_s, self.scores = [], []
        level_db, peak_db, clipped = self.level.take()
        self.emit(
            Listening(
                at_s=self.recent.heard_s,
                times_s=times_s,
                scores=scores,
                level_db=level_db,
                peak_db=peak_db,
                clipped=clipped,
                cpu=self.cpu.now(),
                dropped=health.dropped,
                state=health.state,
                line=health.line,
                hint=health.hint,
                latency_ms=health.latency_ms,
                advice=self.level.advice() if health.state == "open" else "",
            )
        )


class _Level:
    """How loud it is since the last time, and what to do about how it was for five seconds."""

    def __init__(self) -> None:
        self._power, self._peak, self._clipped, self._samples = 0.0, 0.0, 0, 0
        self._known = deque[tuple[float, int]](maxlen=round(ADVISED_S / SHOW_EVERY_S))

    def add(self, piece: Waveform) -> None:
        """Take in samples `(N,)`."""
        loud = np.abs(piece)
        self._power += float(np.dot(piece, piece))
        self._peak = max(self._peak, float(loud.max(initial=0.0)))
        self._clipped += int(np.count_nonzero(loud >= FULL_SCALE))
        self._samples += len(piece)

    def take(self) -> tuple[float, float, int]:
        """RMS and peak in dBFS, and samples at full scale, since the last time."""
        level_db = _db(math.sqrt(self._power / max(self._samples, 1)))
        peak_db, clipped = _db(self._peak), self._clipped
        if self._samples:
            self._known.append((peak_db, clipped))
        self._power, self._peak, self._clipped, self._samples = 0.0, 0.0, 0, 0
        return level_db, peak_db, clipped

    def advice(self) -> str:
        """What to do about the level; empty while nothing is wrong, or too little was heard."""
        if sum(clipped for _, clipped in self._known) >= CLIPPED:
            return "clipping: turn the microphone down, or step back"
        if len(self._known) < (self._known.maxlen or 0):
            return ""
        loudest_db = max(peak_db for peak_db, _ in self._known)
        if loudest_db <= SILENCE_DB:
            return "silence, not even noise: is the microphone muted?"
        return (
            "quiet: if you are speaking, turn it up or come closer" if loudest_db < QUIET_DB else ""
        )


def _db(amplitude: float) -> float:
    return 20 * math.log10(amplitude) if amplitude > 1e-6 else SILENCE_DB


class _Cpu:
    """The share of one core that this thread has; made anew in the thread that is measured."""

    def __init__(self) -> None:
        self._began = self._then = time.monotonic(), time.thread_time()
        self._share = 0.0

    def now(self) -> float:
        """The share over the last two seconds."""
        passed_s, used_s = self._since(self._then)
        if passed_s >= CPU_EVERY_S:
            self._share = used_s / passed_s
            self._then = time.monotonic(), time.thread_time()
        return self._share

    @property
    def mean(self) -> float:
        """The share since the beginning."""
        passed_s, used_s = self._since(self._began)
        return used_s / max(passed_s, 1e-6)

    @staticmethod
    def _since(then: tuple[float, float]) -> tuple[float, float]:
        return time.monotonic() - then[0], time.thread_time() - then[1]


class _Beside:
    """Asks the judge in a thread of its own, one detection after the other."""

    def __init__(self, judge: Asked, emit: Emit) -> None:
        self.sent_s, self._judge, self._emit = judge.sent_s, judge, emit
        self._thread = ThreadPoolExecutor(1, "judge")
        self.asked = deque[tuple[float, Future[Decision]]]()

    def ask(self, time_s: float, sound: Waveform) -> None:
        """Have it hear a detection, unless it is too far behind."""
        if len(self.asked) < MOST_ASKED:
            answer = self._thread.submit(self._judge.decide, sound)
            self.asked.append((time_s, answer))
        else:
            accepted = self._judge.on_failure == "accept"
            error = f"not asked: {MOST_ASKED} others wait for the judge"
            self._emit(WakewordJudged(time_s, accepted, error=error))

    def settle(self) -> None:
        """Tell what it has answered."""
        while self.asked and self.asked[0][1].done():
            time_s, answer = self.asked.popleft()
            self._emit(judged(time_s, answer.result()))

    def close(self) -> None:
        """Wait for nothing: what was not answered by now is not told."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def judged(time_s: float, decision: Decision) -> WakewordJudged:
    """What there is to tell of a detection."""
    said = decision.verdict
    if said is None:
        error = decision.failure.message if decision.failure is not None else ""
        return WakewordJudged(time_s, decision.accepted, error=error)
    return WakewordJudged(
        time_s, said.accepted, said.score, said.threshold, said.model, said.took_ms
    )
