"""Who listens: detector, source, the session under way, and what is kept of it. No widgets here."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from engine.errors import DataError, WakewordError
from engine.events import (
    Listened,
    Listening,
    ListeningBegan,
    Record,
    WakewordHeard,
    WakewordJudged,
    Warned,
)
from engine.export_folder import MANIFEST, Kind
from engine.jobs import Job, Jobs, State
from wakeword_tui import verbs
from wakeword_tui.numbers import count, duration, rate
from wakeword_tui.verbs import Live

if TYPE_CHECKING:
    from engine.queue_store import QueueStore
    from engine.recent import Cut, Recent
    from wakeword_tui.judging import Opened

SHOWN_S = 30.0
MOST_FIRED = 200
MOST_SCORES = 4000
MOST_LEVELS = 20


@dataclass(slots=True)
class Fired:
    """A detection in front of a person, at a time of day; `kept` once it is in the queue."""

    clock_s: float
    heard: WakewordHeard
    judged: WakewordJudged | None = None
    kept: bool = False

    @property
    def name(self) -> str:
        """What it is called in a list."""
        return f"{self.heard.at_s:.3f}"


@dataclass(slots=True, kw_only=True)
class Hearing(Live):
    """A session: what was heard in it, as its events tell."""

    model: str
    recent: "Recent"
    began: ListeningBegan | None = None
    now: Listening | None = None
    over: Listened | None = None
    warned: Warned | None = None
    curve: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MOST_SCORES))
    """(time, score) of the last windows."""
    peaks_db: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_LEVELS))
    """Peaks of the last two seconds."""
    fired: deque[Fired] = field(default_factory=lambda: deque(maxlen=MOST_FIRED))
    """The newest first."""
    detections: int = 0
    missed_s: float | None = None
    """Up to where a miss was kept."""

    def take(self, record: Record) -> None:
        """Take in one event."""
        self.store.apply(record)
        match record.event:
            case ListeningBegan():
                self.began = record.event
            case Listening() as now:
                self.now = now
                self.curve.extend(zip(now.times_s, now.scores, strict=True))
                self.peaks_db.append(now.peak_db)
            case WakewordHeard() as heard:
                self.detections += 1
                self.fired.appendleft(Fired(record.time_s, heard))
            case WakewordJudged() as judged:
                for fired in self.fired:
                    if fired.heard.at_s == judged.at_s:
                        fired.judged = judged
            case Listened():
                self.over = record.event
            case Warned():
                self.warned = record.event

    def highest(self, since_s: float) -> tuple[float, float] | None:
        """The time and the score of the highest window since a time; None where none was scored.

        From any thread: scores may come in meanwhile.
        """
        known = [point for point in tuple(self.curve) if point[0] > since_s]
        return max(known, key=lambda point: point[1], default=None)


class Listener:
    """The session of this app, and how the next one will be."""

    def __init__(self, jobs: Jobs, queue: Callable[[], "QueueStore"], audio: str) -> None:
        self.jobs, self._queue = jobs, queue
        self.source = audio
        self.chosen: str | None = None
        self.hearing: Hearing | None = None

    @property
    def job(self) -> Job | None:
        """The job that listens, if there is one."""
        hearing = self.hearing
        return hearing.job if hearing is not None and hearing.job.alive else None

    def status(self) -> str:
        """What it does, for the top bar; empty while nobody listens."""
        if self.job is None:
            return ""
        return "live" if self.job.state is State.RUNNING else self.job.state.value

    def models(self) -> dict[str, Path]:
        """What can listen, by name: the runs, newest first, each with its exports."""
        found = {}
        for run in self.jobs.workspace.runs()[::-1]:
            if run.best.exists():
                found[run.name] = run.best
                exports = {kind: run.export / kind for kind in get_args(Kind)}
                found |= {f"{run.name} {kind}": at for kind, at in exports.items() if is_there(at)}
        return found

    def model(self) -> tuple[str, Path] | None:
        """What listens next: what was chosen, or the newest run."""
        models = self.models()
        name = self.chosen if self.chosen in models else next(iter(models), None)
        return (name, models[name]) if name is not None else None

    def start(self, judge: "Opened | None" = None, threshold: float | None = None) -> None:
        """Begin a session, with a judge or without. Raises WakewordError where nothing can listen.

        The `threshold` is else that of the model's operating point.
        """
        model = self.model()
        if model is None:
            raise WakewordError("there is no detector to listen with", "train one first, on Train")
        if self.hearing is not None:
            self.hearing.drain()  # its last words, for the log
        name, path = model
        self.hearing = verbs.listen_live(self.jobs, self.source, name, path, judge, threshold)

    def drain(self) -> Iterator[str]:
        """Take in what was heard; once the session is over, give what to tell a person."""
        hearing = self.hearing
        if hearing is None or hearing.ended:
            return
        hearing.ended = not hearing.drain()
        if hearing.ended:
            wrong = hearing.store.failed or hearing.warned
            told = f"{wrong.message}\n{wrong.hint}".rstrip() if wrong else ""
            yield told or f"listened: {summary(hearing)}"

    # What a person keeps. It is written to the disk: call these in a thread.

    def keep_alarm(self, fired: Fired) -> None:
        """Queue a detection as a false alarm, with the audio around it. Raises WakewordError."""
        hearing = self._heard()
        if fired.kept:
            raise DataError("that is queued already", "5 shows it")
        fired.kept = True
        try:
            self._keep(hearing, hearing.recent.around(fired.heard.at_s), fired.heard)
        except WakewordError:
            fired.kept = False
            raise

    def keep_miss(self) -> None:
        """Queue the last three seconds as a miss, once, if any window of them was scored.

        Raises WakewordError.
        """
        from engine.recent import MISSED, MISSED_S

        hearing = self._heard()
        now_s, before_s = hearing.recent.heard_s, hearing.missed_s
        highest = hearing.highest(now_s - MISSED_S)
        if highest is None:
            why = hearing.warned.message if hearing.warned else "nothing was scored yet"
            raise DataError(why, "what was never scored was not missed")
        if before_s is not None and now_s - before_s < MISSED_S:
            raise DataError("the last 3 s are queued already", "5 shows them")
        hearing.missed_s = now_s
        try:
            missed = WakewordHeard(*highest, 0.0)
            self._keep(hearing, hearing.recent.last(MISSED_S), missed, MISSED)
        except WakewordError:
            hearing.missed_s = before_s
            raise

    def _heard(self) -> Hearing:
        """The session that has heard something. Raises DataError."""
        hearing = self.hearing
        if hearing is not None and hearing.began is not None and hearing.recent.heard_s:
            return hearing
        now = hearing.now if hearing is not None else None
        waits = (now.hint if now is not None else "") or "wait until it listens"
        raise DataError("nothing was heard yet", waits if self.job else "s begins to listen")

    def _keep(self, hearing: Hearing, cut: "Cut", heard: WakewordHeard, note: str = "") -> None:
        from engine.recent import Moment, keep

        assert hearing.began is not None
        began = hearing.began
        moment = Moment(heard.at_s, heard.score, began.threshold, began.checkpoint, note)
        keep(cut, moment, self.jobs.workspace, self._queue())


def is_there(export: Path) -> bool:
    """Whether a folder is an export, by its manifest."""
    return (export / MANIFEST).is_file()


def summary(hearing: Hearing) -> str:
    """What came of a session so far, in a line."""
    seconds = hearing.now.at_s if hearing.now is not None else 0.0
    hourly = rate(hearing.detections * 3600 / seconds if seconds else float("nan"))
    word = "detection" if hearing.detections == 1 else "detections"
    return f"{count(hearing.detections)} {word} in {duration(seconds)}, {hourly} an hour"
