"""The work that screens ask of the engine. torch is imported here, and only inside a thread."""

import gc
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import CheckpointError, WakewordError
from engine.events import Emit, Record, Warned
from engine.jobs import Control, Job, Jobs
from engine.recipe import Data, Recipe
from engine.runs import EventLog, Run, Workspace, read_events
from wakeword_tui.store import Store

if TYPE_CHECKING:
    from engine.compare import Comparison
    from engine.cost import Cost
    from engine.export_folder import Kind
    from engine.health import Health
    from engine.metrics import OperatingPoint
    from engine.preview import Audio, Pace
    from engine.queue_store import QueueItem
    from engine.scorer import Scorer
    from wakeword_tui.clips import Excerpt, ScoreCurve
    from wakeword_tui.judging import Opened
    from wakeword_tui.listening import Hearing


@dataclass(slots=True)
class Live:
    """A job of this process and the store its events go to."""

    job: Job
    store: Store
    run: Run | None = None
    found: list[tuple[Data, "Health"]] = field(default_factory=list)
    """What looking over the data found, once it has."""
    paces: list[tuple[Recipe, "Pace"]] = field(default_factory=list)
    """What timing a few steps found, once it has."""
    dropped: int = 0
    """How many events the bus had dropped when they were last read from the event file."""
    ended: bool = False
    """Whether it was told that the job ended."""

    @property
    def name(self) -> str:
        """What the job is called in front of a person."""
        return self.run.name if self.run else self.job.name

    def drain(self) -> bool:
        """Take in what happened; False once the job has ended and told everything."""
        alive = self.job.alive
        records, log = self.job.bus.drain(), self.job.log
        if log is not None and self.job.bus.dropped > self.dropped:
            self.dropped = self.job.bus.dropped
            records = sorted([*read_events(log.path), *records], key=lambda r: r.n)
        for record in records:
            self.take(record)
        return alive

    def take(self, record: Record) -> None:
        """Take in one event."""
        self.store.apply(record)


def start_training(jobs: Jobs, recipe: Recipe, run: Run | None = None) -> Live:
    """Train a recipe in the next run directory, or in one that was made for it."""
    made = run or jobs.workspace.create(recipe)
    try:
        job = _begin(jobs, made, lambda: EventLog(made.events), resume=False)
    except WakewordError:
        if run is None:
            shutil.rmtree(made.path)
        raise
    return _seen(job, made)


def resume_training(jobs: Jobs, run: Run) -> Live:
    """Go on with an unfinished run. Blocks for seconds: call it in a thread."""
    from engine.train import resume_log

    return _seen(_begin(jobs, run, lambda: resume_log(run), resume=True), run)


def _begin(jobs: Jobs, run: Run, log: Callable[[], EventLog], *, resume: bool) -> Job:
    return jobs.start("train", _training(jobs, run.recipe(), run, resume=resume), log)


def _seen(job: Job, run: Run) -> Live:
    return Live(job, Store.replay(run), run)


def _training(
    jobs: Jobs, recipe: Recipe, run: Run, *, resume: bool
) -> Callable[[Emit, Control], None]:
    def verb(emit: Emit, control: Control) -> None:
        from engine.train import train

        end_timings(jobs)
        train(recipe, run, jobs.workspace, emit=emit, control=control, resume=resume)

    return verb


def check_data(jobs: Jobs, settings: Data) -> Live:
    """Look over the clips of a recipe in the background; it puts a `Health` in `found`."""
    found: list[tuple[Data, Health]] = []

    def verb(emit: Emit, control: Control) -> None:
        from engine.dataset import pack, read
        from engine.health import check

        packed = pack(read(settings), jobs.workspace.cache, emit=emit, control=control)
        found.append((settings, check(packed, settings)))

    return Live(jobs.start("check", verb, lane="background"), Store(), found=found)


def cost(recipe: Recipe) -> tuple["Cost", list[str]]:
    """What a recipe's student takes, and the targets that it exceeds."""
    from engine.cost import cost as count
    from engine.cost import exceeded, locally

    counted = count(locally(recipe))
    return counted, exceeded(recipe.targets, counted)


def look(jobs: Jobs, recipe: Recipe, control: Control) -> "Audio":
    """Measure the audio of a recipe by the heads of its files, in a thread of the caller's."""
    from engine.preview import look as measure

    return measure(recipe, jobs.workspace.cache, control=control)


def faults(jobs: Jobs, recipe: Recipe) -> tuple[str, ...]:
    """Why a training would refuse a recipe's teachers; their checkpoints are read for it."""
    from engine.preview import hindrances

    return hindrances(recipe, jobs.workspace)


TIMING = "timing"


def try_steps(jobs: Jobs, recipe: Recipe) -> Live:
    """Time a few steps of a recipe in the background; it puts a `Pace` in `paces`."""
    paces: list[tuple[Recipe, Pace]] = []

    def verb(emit: Emit, control: Control) -> None:
        from engine.preview import timing

        paces.append((recipe, timing(recipe, jobs.workspace.cache, control=control)))

    return Live(jobs.start(TIMING, verb, lane="background"), Store(), paces=paces)


def end_timings(jobs: Jobs) -> None:
    """Wait until no steps are timed: a training must have torch's random numbers to itself."""
    for job in jobs.background:
        if job.name == TIMING:
            job.control.stop()
            job.thread.join()


def mine_recordings(
    jobs: Jobs, paths: Sequence[Path], checkpoint: Path, sessions: Sequence[int]
) -> Live:
    """Go on with sessions and mine recordings, in the background."""
    home = jobs.workspace

    def verb(emit: Emit, control: Control) -> None:
        from engine.mine import mine, resume

        try:
            if sessions:
                resume(sessions, home, emit=emit, control=control)
        except WakewordError as error:
            if not paths:
                raise
            emit(Warned(error.message, error.hint))
        if paths:
            mine(paths, checkpoint, home, emit=emit, control=control)

    return Live(jobs.start("mine", verb, lane="background"), Store())


def mine_run(jobs: Jobs, run: Run) -> Live:
    """Mine the training streams and other words of a run, in the background."""

    def verb(emit: Emit, control: Control) -> None:
        from engine.mine_run import mine_split

        mine_split(run.best, "train", jobs.workspace, emit=emit, control=control)

    return Live(jobs.start("mine", verb, lane="background"), Store())


def listen_live(
    jobs: Jobs,
    source: str,
    name: str,
    model: Path,
    judge: "Opened | None" = None,
    threshold: float | None = None,
) -> "Hearing":
    """Listen to a source with a model, at a threshold or its own, in the background."""
    from engine.recent import Recent
    from wakeword_tui.listening import Hearing

    recent = Recent()

    def verb(emit: Emit, control: Control) -> None:
        from engine.listen import listen
        from engine.microphone import open_source

        with judge() if judge is not None else nullcontext() as asked:
            listen(
                open_source(source),
                model,
                threshold=threshold,
                judge=asked,
                recent=recent,
                emit=emit,
                control=control,
            )

    job = jobs.start("listen", verb, lane="background")
    job.endless = True
    return Hearing(job, Store(), model=name, recent=recent)


def export_run(jobs: Jobs, run: Run, kind: "Kind", out: Path | None) -> Live:
    """Export a run in the background, and hold the export against its checkpoint."""

    def verb(emit: Emit, control: Control) -> None:
        from engine.export import export

        export(run, kind, out, jobs.workspace, emit=emit, control=control)

    return Live(jobs.start("export", verb, lane="background"), Store())


def compare(a: Run, b: Run) -> "Comparison":
    """Hold run B against run A, the baseline, on the clips that both heard."""
    from engine.compare import compare_runs

    return compare_runs([a], [b])


def set_operating_point(run: Run, threshold: float, target_fah: float) -> None:
    """Store the threshold that a person chose in the checkpoint that ships."""
    from engine.checkpoint import set_operating_point as store

    store(run.best, threshold, target_fah)


def operating_point(run: Run) -> "OperatingPoint | None":
    """What the checkpoint that ships is set to; None where it cannot be read."""
    from engine.checkpoint import load

    try:
        return load(run.best).threshold()
    except WakewordError:
        return None


def hear(workspace: Workspace, item: "QueueItem", clip: "Excerpt", run: Run | None) -> "ScoreCurve":
    """Score a clip by the checkpoint that fired, or else by a run that is open.

    Each score is the one that the detector gave in the recording: it hears what lies before the
    clip too. One thread at a time. Raises WakewordError where there is neither, or no recording.
    """
    import numpy as np

    from engine import audio
    from wakeword_tui.clips import ScoreCurve

    try:
        name, path, fired = _checkpoint(workspace, item.find.checkpoint, run)
        scorer, threshold = _scorer(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise WakewordError(f"no run to score this: {error.strerror}") from error
    hop, window = scorer.grid.hop_samples, scorer.grid.window_samples
    before = max(0, round(clip.begin_s * audio.SAMPLE_RATE) - window) // hop * hop
    begin_s, end_s = before / audio.SAMPLE_RATE, clip.begin_s + clip.length_s
    sound = audio.stretch(item.find.path, begin_s, end_s)
    if before == 0:  # the beginning of a recording is heard after silence
        silence = -(-window // hop) * hop
        sound, begin_s = np.pad(sound, (silence, 0)), begin_s - silence / audio.SAMPLE_RATE
    scores = scorer.score(sound)
    hops_s = scorer.grid.hop_s * np.arange(len(scores), dtype=np.float64)
    times_s = begin_s + scorer.grid.window_s + hops_s
    return ScoreCurve(name, times_s, scores, item.find.threshold if fired else threshold)


def _checkpoint(workspace: Workspace, fired: str, run: Run | None) -> tuple[str, Path, bool]:
    """The name of a run, its checkpoint, and whether that is the one that fired."""
    runs = workspace.runs() if fired else []
    files = {path: r for r in runs for path in (r.best, r.last) if path.exists()}
    if files:
        from engine.checkpoint import sha256

        as_written = (path for path in files if sha256(path) == fired)
        moved = (path for path, r in files.items() if path == r.best and _origin(path) == fired)
        if path := next(chain(as_written, moved), None):
            return files[path].name, path, True
    if run is None or not run.best.exists():
        raise WakewordError("no run to score this: enter on 2 opens one")
    return run.name, run.best, False


def _origin(path: Path) -> str:
    """What a checkpoint was before its threshold was moved; nothing where that cannot be read."""
    try:
        return _origin_at(path, path.stat().st_mtime_ns)
    except (OSError, CheckpointError):
        return ""


@lru_cache(maxsize=1000)
def _origin_at(path: Path, stamp: int) -> str:
    from engine.checkpoint import load

    return load(path).origin


@lru_cache(maxsize=2)
def _scorer(path: Path, stamp: int) -> tuple["Scorer", float]:
    """The scorer and the threshold of a checkpoint file as it was written at `stamp`."""
    first = "torch" not in sys.modules
    from engine.checkpoint import load
    from engine.scorer import Scorer

    if first:
        gc.freeze()  # as when a screen is made: torch is as large as all of them
    checkpoint = load(path)
    point = checkpoint.operating_point
    return Scorer.of(checkpoint), point["threshold"] if point else 0.0
