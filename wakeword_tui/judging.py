"""The judge in front of a person: which it is, how it does, what it is asked. No widgets here."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import JudgeError, WakewordError
from engine.events import Emit
from engine.jobs import Control, Jobs, State
from engine.runs import Run, Workspace
from wakeword_tui.commands.evaluate import find_model
from wakeword_tui.config import JudgeConfig, typed_path
from wakeword_tui.store import Store
from wakeword_tui.verbs import Live

if TYPE_CHECKING:
    from engine.audio import Waveform
    from engine.cascade import Pair, Tested
    from engine.judge import Asked, Health, Judge, Verdict
    from engine.local_judge import LocalJudge
    from engine.verify import Verified
    from wakeword_tui.listening import Hearing

MOST_TIMES = 500
"""Answers from which the latency is taken, the newest."""
LOOK_S = 4.0
"""How long to wait for a judge to say how it does: less than until it is asked the next time."""
Opened = Callable[[], AbstractContextManager["Asked"]]
MEASURE, VERIFY = "cascade", "verify"


@dataclass(slots=True)
class Asking(Live):
    """A job that asks the judge, about which models, and what it has found so far."""

    pair: str = ""
    tested: list["Tested"] = field(default_factory=list)
    verified: list["Verified"] = field(default_factory=list)


class Judging:
    """The judge of the config, or a run in its place; one job at a time that asks it."""

    def __init__(self, jobs: Jobs, config: JudgeConfig) -> None:
        self.jobs, self.config = jobs, config
        self.run = ""
        """The run that judges in place of the URL."""
        self.health: Health | WakewordError | None = None
        self.asking: Asking | None = None
        self.tested: Tested | None = None
        self.pair = ""
        """Which models `tested` is of."""
        self.verified: list[Verified] = []
        self.file: Path | None = None
        self.live: Hearing | None = None
        """The session that is shown, in place of what was measured or verified."""
        self.at: Pair | None = None
        """The thresholds at which it was verified; None for each model's own."""
        self.took_ms = deque[float](maxlen=MOST_TIMES)
        self._looking = threading.Lock()

    @property
    def name(self) -> str:
        """The judge: a run, or the URL; empty without one."""
        return self.run or self.config.url

    def set(self, judge: str, token_file: str, timeout_s: float) -> None:
        """Take another judge, a URL or a run, or none."""
        file = typed_path(token_file).absolute() if token_file else None
        remote = "://" in judge
        self.run = "" if remote else judge
        url = judge if remote else ""
        self.config = replace(self.config, url=url, token_file=file, timeout_s=timeout_s)
        self.health = None
        self.took_ms = deque(maxlen=MOST_TIMES)

    def look(self) -> None:
        """Ask a judge at a URL how it does, unless that is under way; call it in a thread."""
        if not self.config.url or not self._looking.acquire(blocking=False):
            return
        asked = self.config
        found: Health | WakewordError
        try:
            with replace(asked, timeout_s=min(asked.timeout_s, LOOK_S)).open() as judge:
                found = judge.health()
        except JudgeError as error:
            found = error
        finally:
            self._looking.release()
        if asked == self.config:
            self.health = found

    def chosen(self, run: Run) -> "Pair | None":
        """The thresholds that were chosen together for this sentry and this judge, if they were."""
        tested = self.tested if self.pair == self._together(run) else None
        return tested.pairs[0] if tested is not None else None

    def listens(self, run: Run) -> tuple["Opened", float | None]:
        """What opens the judge for what a run fires on live, and the threshold of the run."""
        pair = self.chosen(run)
        opened = self._opens(pair=pair, live=True)
        self.at = pair
        return opened, pair.sentry if pair is not None else None

    def _together(self, run: Run) -> str:
        return f"{run.name}, then {self.name}"

    def _opens(
        self, sentry: Path | None = None, *, pair: "Pair | None" = None, live: bool = False
    ) -> "Opened":
        """What opens the judge that is named now, and keeps how long its answers take.

        It judges at the threshold of a pair, or at its own. `live`, it need not answer yet.
        """
        if not self.name:
            raise WakewordError("there is no judge yet", "e names one: a URL, or a run")
        home, name, config, took_ms = self.jobs.workspace, self.name, self.config, self.took_ms

        @contextmanager
        def opened() -> "Iterator[Asked]":
            from engine.judge import SENT_S, Asked, Health

            with judge_of(home, name, config, sentry) as judge:

                def verify(waveform: "Waveform") -> "Verdict":
                    began_s = time.perf_counter()
                    verdict = judge.verify(waveform)
                    took_ms.append(1000 * (time.perf_counter() - began_s))
                    return verdict if pair is None else verdict.at(pair.judge)

                # Live nobody waits for a judge to say what it hears: `look` has asked it.
                known = self.health.sent_s if isinstance(self.health, Health) else SENT_S
                seconds = known if live and config.url else sent_s(judge)
                yield Asked(verify, seconds, config.on_failure)

        return opened

    def measure(self, run: Run) -> None:
        """Measure a run with the judge behind it, in the background."""
        found: list[Tested] = []
        opened, home = self._opens(run.best), self.jobs.workspace

        def verb(emit: Emit, control: Control) -> None:
            from engine.cascade import cascade

            with opened() as judge:
                ask, sent = judge.verify, judge.sent_s
                tested = cascade(run.best, ask, home, sent_s=sent, emit=emit, control=control)
                found.extend(tested)

        asking = self._begin(MEASURE, verb)
        asking.pair, asking.tested = self._together(run), found

    def verify_file(self, run: Run, path: Path) -> None:
        """Have the judge hear what a run fires on in a recording, in the background."""
        found: list[Verified] = []
        pair = self.chosen(run)
        opened, at = self._opens(pair=pair), pair.sentry if pair is not None else None

        def verb(emit: Emit, control: Control) -> None:
            from engine.verify import verify

            with opened() as judge:
                told = verify(path, run.best, judge, threshold=at, emit=emit, control=control)
                for one in told:
                    found.append(one)

        self._begin(VERIFY, verb).verified = found
        self.verified, self.file, self.at = found, path, pair

    def _begin(self, name: str, verb: Callable[[Emit, Control], None]) -> Asking:
        if self.asking is not None:
            raise WakewordError("the judge is being asked", "wait for it, or stop it with s")
        self.live = None
        self.asking = Asking(self.jobs.start(name, verb, lane="background"), Store())
        return self.asking

    def stop(self) -> None:
        """Stop what asks the judge."""
        if self.asking is not None:
            self.asking.job.control.stop()

    def status(self) -> str:
        """How far it is, for the top bar; empty while the judge is not asked."""
        if self.asking is None:
            return ""
        word = self.asking.job.name
        if self.asking.job.state is not State.RUNNING:
            word = self.asking.job.state.value
        return f"{word}{self.asking.store.share}"

    def drain(self) -> Iterator[str]:
        """Tell once how it ended."""
        if self.asking is None or self.asking.drain():
            return
        from wakeword_tui.cascading import outcome  # needs scipy: the first frame does not wait

        ended, self.asking = self.asking, None
        store = ended.store
        if ended.tested:
            self.tested, self.pair, self.file = ended.tested[0], ended.pair, None
        if store.failed is not None:
            yield f"{store.failed.message}\n{store.failed.hint}".rstrip()
        elif ended.job.name == VERIFY:
            warned = [entry.text for entry in store.entries if entry.level == "warn"]
            yield "\n".join([*warned, *outcome(ended.verified)])
        else:
            yield f"{ended.job.name}: {store.outcome}"


def latency(took_ms: Iterable[float]) -> str:
    """How long answers took, in the middle and at worst."""
    from engine.metrics import middle_and_worst

    times = list(took_ms)
    if not times:
        return "-"
    p50, p95 = middle_and_worst(times)
    return f"p50 {p50:.0f}, p95 {p95:.0f} ms  last {len(times)}"


@contextmanager
def judge_of(
    home: Workspace, name: str, config: JudgeConfig, sentry: Path | None
) -> "Iterator[Judge | LocalJudge]":
    """Open the judge at a URL, or a checkpoint that has not heard what the sentry is tested on."""
    if "://" in name:
        with replace(config, url=name).open() as judge:
            yield judge
        return
    from engine.cascade import local
    from engine.local_judge import LocalJudge

    path = find_model(home, name)
    yield LocalJudge.of(path) if sentry is None else local(path, sentry)


def sent_s(judge: "Judge | LocalJudge") -> float:
    """Seconds of audio that a judge should hear, up to where the sentry fired."""
    from engine.judge import Judge

    return judge.health().sent_s if isinstance(judge, Judge) else judge.sent_s
