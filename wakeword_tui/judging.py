"""The judge in front of a person: which it is, how it does, what it is asked. No widgets here."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import JudgeError, WakewordError
from engine.events import Emit
from engine.export_folder import export_at
from engine.jobs import Control, Jobs, State
from engine.runs import Run, Workspace
from wakeword_tui.commands.evaluate import find_checkpoint
from wakeword_tui.config import JudgeConfig
from wakeword_tui.store import Store
from wakeword_tui.verbs import Live

if TYPE_CHECKING:
    from engine.audio import Waveform
    from engine.cascade import Tested
    from engine.judge import Health, Judge, Verdict
    from engine.local_judge import LocalJudge
    from engine.verify import Verified

MOST_TIMES = 500
"""Answers from which the latency is taken, the newest."""
Verify = Callable[["Waveform"], "Verdict"]
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
        self.live = False
        """Whether what is heard live is shown, in place of what was measured or verified."""
        self.took_ms = deque[float](maxlen=MOST_TIMES)
        self._opened = ExitStack()

    @property
    def name(self) -> str:
        """The judge: a run, or the URL; empty without one."""
        return self.run or self.config.url

    def set(self, judge: str, token_file: str, timeout_s: float) -> None:
        """Take another judge, a URL or a run, or none."""
        file = Path(token_file).expanduser().absolute() if token_file else None
        remote = "://" in judge
        self.run = "" if remote else judge
        url = judge if remote else ""
        self.config = replace(self.config, url=url, token_file=file, timeout_s=timeout_s)
        self.health = None
        self.took_ms.clear()

    def look(self) -> None:
        """Ask a judge at a URL how it does; call it in a thread."""
        if not self.config.url or self.run:
            return
        asked = self.config
        found: Health | WakewordError
        try:
            with asked.open() as judge:
                found = judge.health()
        except JudgeError as error:
            found = error
        if asked == self.config:
            self.health = found

    def timed(self, judge: "Judge | LocalJudge") -> Verify:
        """Ask the judge, and keep how long the answer took."""

        def verify(waveform: "Waveform") -> "Verdict":
            began_s = time.perf_counter()
            verdict = judge.verify(waveform)
            self.took_ms.append(1000 * (time.perf_counter() - began_s))
            return verdict

        return verify

    def listens(self) -> Verify:
        """What asks the judge about live detections; it is opened with the first of them."""
        self._named()
        self._opened.close()
        asked: list[Verify] = []

        def verify(waveform: "Waveform") -> "Verdict":
            if not asked:
                judge = judge_of(self.jobs.workspace, self.name, self.config, None)
                asked.append(self.timed(self._opened.enter_context(judge)))
            return asked[0](waveform)

        self.live = True
        return verify

    def _named(self) -> None:
        if not self.name:
            raise WakewordError("there is no judge yet", "e names one: a URL, or a run")

    def measure(self, run: Run) -> None:
        """Measure a run with the judge behind it, in the background."""
        found: list[Tested] = []

        def verb(emit: Emit, control: Control) -> None:
            from engine.cascade import cascade

            with judge_of(self.jobs.workspace, self.name, self.config, run.best) as judge:
                found.extend(
                    cascade(
                        run.best,
                        self.timed(judge),
                        self.jobs.workspace,
                        sent_s=sent_s(judge),
                        emit=emit,
                        control=control,
                    )
                )

        asking = self._begin(MEASURE, verb)
        asking.pair, asking.tested = f"{run.name}, then {self.name}", found

    def verify_file(self, run: Run, path: Path) -> None:
        """Have the judge hear what a run fires on in a recording, in the background."""
        found: list[Verified] = []

        def verb(emit: Emit, control: Control) -> None:
            from engine.verify import verify

            with judge_of(self.jobs.workspace, self.name, self.config, None) as judge:
                ask, sent = self.timed(judge), sent_s(judge)
                verdicts = verify(path, run.best, ask, sent_s=sent, emit=emit, control=control)
                for one in verdicts:
                    found.append(one)

        self._begin(VERIFY, verb).verified = found
        self.verified, self.file = found, path

    def _begin(self, name: str, verb: Callable[[Emit, Control], None]) -> Asking:
        if self.asking is not None:
            raise WakewordError("the judge is being asked", "wait for it, or stop it with s")
        self._named()
        self.live = False
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
        done, total, _ = self.asking.store.done()
        word = self.asking.job.name
        if self.asking.job.state is not State.RUNNING:
            word = self.asking.job.state.value
        return f"{word} {done * 100 // total} %" if total else word

    def drain(self) -> Iterator[str]:
        """Tell once how it ended."""
        if self.asking is None or self.asking.drain():
            return
        ended, self.asking = self.asking, None
        store = ended.store
        if ended.tested:
            self.tested, self.pair, self.file = ended.tested[0], ended.pair, None
        if store.failed is not None:
            yield f"{store.failed.message}\n{store.failed.hint}".rstrip()
        elif ended.job.name == VERIFY:
            accepted = sum(one.verdict.accepted for one in ended.verified)
            yield f"{len(ended.verified)} detections, {accepted} accepted by the judge"
        else:
            yield f"{ended.job.name}: {store.outcome}"


def latency(took_ms: Iterable[float]) -> str:
    """How long answers took, in the middle and at worst."""
    times = sorted(took_ms)
    if not times:
        return "-"
    p50, p95 = (times[min(int(share * len(times)), len(times) - 1)] for share in (0.5, 0.95))
    return f"p50 {p50:.0f} ms  p95 {p95:.0f} ms  of {len(times)}"


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

    export = export_at(Path(name).absolute())
    path = export or find_checkpoint(home, name)[0]
    yield LocalJudge.of(path) if sentry is None else local(path, sentry)


def sent_s(judge: "Judge | LocalJudge") -> float:
    """Seconds of audio that a judge should hear, up to where the sentry fired."""
    from engine.judge import Judge

    return judge.health().sent_s if isinstance(judge, Judge) else judge.sent_s
