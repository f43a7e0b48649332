"""A report as plain text: first what a person would ask, each rate with its interval."""

from collections.abc import Iterator, Sequence

from engine import dataset
from engine.errors import DataError
from engine.flips import Int8
from engine.metrics import hours_to_prove, proved_fah
from engine.recipe import Data
from engine.report import LEAST_GROUPS, NEGATIVES, Measured, Report, Share, pool
from engine.runs import Run
from wakeword_tui import rounded
from wakeword_tui.commands.output import say, table
from wakeword_tui.numbers import hours, percent, rate, span
from wakeword_tui.taught import beside_the_twin

WORST_GROUPS = 5
SYNTHETIC = (
    "These voices are synthetic: they are for a start, not for a claim. What the"
    "\nnumbers say of real people, only recordings of real people can show."
)


def render(report: Report, tested: str = "") -> str:
    """Render a report; `tested` says on what, if it was not the run's own fold."""
    point, tested = report.operating_point, tested or measured_on(report)
    blocks = [
        f"{tested}; threshold {point.threshold:.4f} frozen on "
        f"validation for FAH <= {point.target_fah:g}",
        render_measured(report.test, point.target_fah, proves=report.split == "test"),
        f"{_label('on validation')}FAH {rate(report.validation.fah)}  "
        f"FRR {percent(report.validation.frr)}  pAUC {report.validation.pauc:.4f}",
        _model(report),
        *_taught(report),
        *([_taken(report)] if report.hard_negatives or report.mined_positives else []),
        *(f"{_label('over target')}{sentence}" for sentence in report.warnings),
        *([_int8(Int8.of(report.int8))] if report.int8 else []),
    ]
    return "\n".join(blocks)


def measured_on(report: Report, *, again: bool = False) -> str:
    """Say on what a run's own report was measured."""
    if report.split == "validation":
        return f"Validation of fold {report.fold} again, for a search; its test is closed"
    return f"Test of fold {report.fold}, {'taken again' if again else 'opened once'}"


def render_measured(measured: Measured, target_fah: float, *, proves: bool = True) -> str:
    """Render one split: false alarms, misses, ranking, cohorts, and the worst groups.

    Hours that had a say in the threshold prove nothing.
    """
    blocks = [_alarms(measured)]
    if measured.hours and proves:
        blocks.append(f"{_label('')}{_proof(measured, target_fah)}")
    blocks += [_misses(measured), _ranking(measured)]
    if len(measured.cohorts) > 1:
        blocks += _cohorts(measured.cohorts)
    if worst := _worst(measured.groups):
        blocks.append(_shares("worst group", ("clips", "missed", "FRR"), worst))
    return "\n".join(blocks)


def _cohorts(cohorts: dict[str, Share]) -> Iterator[str]:
    """Wake words under each condition, then negatives: there what fires is wrong."""
    words = {name: share for name, share in cohorts.items() if name not in NEGATIVES}
    others = {name: share for name, share in cohorts.items() if name in NEGATIVES}
    yield _shares("cohort", ("clips", "missed", "FRR"), words)
    if others:
        yield _shares("negatives", ("clips", "fired", "rate"), others)


def _alarms(measured: Measured) -> str:
    count, heard_h = measured.false_alarms, measured.hours
    if not heard_h:
        return f"{_label('false alarms')}not measured: there is no stream"
    interval = f"{rate(measured.fah_low)} to {rate(measured.fah_high)}"
    told = f"{rate(measured.fah)} per hour ({interval})  {count} in {hours(heard_h)} (FAH)"
    return f"{_label('false alarms')}{told}"


def _proof(measured: Measured, target_fah: float) -> str:
    count, heard_h = measured.false_alarms, measured.hours
    missing_h = hours_to_prove(target_fah, count) - heard_h
    proof = f"proved <= {rate(proved_fah(count, heard_h))}/h at 95 %"
    if missing_h > 0:
        proof += f"; {hours(missing_h)} more without an alarm would prove {target_fah:g}/h"
    return proof


def _misses(measured: Measured) -> str:
    by_group, groups = "", len(measured.groups)
    if measured.by_group is not None:
        by_group = f"; by group {span(*measured.by_group)}"
    elif 0 < groups < LEAST_GROUPS:
        by_group = f"; of {groups} group{'s' * (groups > 1)}, too few to draw from"
    return (
        f"{_label('missed')}{percent(measured.frr)} ({span(measured.frr_low, measured.frr_high)})  "
        f"{measured.missed} of {measured.clips} wake words (FRR){by_group}"
    )


def _ranking(measured: Measured) -> str:
    return (
        f"{_label('ranking')}pAUC {measured.pauc:.4f} (max_fpr {measured.max_fpr:g})  "
        f"EER {percent(measured.eer)}  DET area {percent(measured.det_area)} "
        f"(FAH {measured.det_fah[0]:g} to {measured.det_fah[1]:g})"
    )


def _model(report: Report) -> str:
    latency = report.latency_ms
    return (
        f"{_label('model')}{report.parameters:,} parameters  {report.macs / 1e6:.2f} M MACs  "
        f"latency p50 {latency['p50']:.2f} ms, p95 {latency['p95']:.2f} ms a hop on one CPU thread"
    )


def _taught(report: Report) -> Iterator[str]:
    """Each teacher beside the student's twin, as both did on validation before it taught."""
    for teacher in report.teachers:
        where = "" if teacher["baseline"] is None else ", on validation"
        by = f"{teacher['kind']} {teacher['sha256'][:8]}"
        yield f"{_label('taught by')}{by}: {beside_the_twin(teacher)}{where}"


def _taken(report: Report) -> str:
    return (
        f"{_label('from the queue')}{report.hard_negatives} hard negatives and "
        f"{report.mined_positives} wake words were trained on"
    )


def _int8(told: Int8) -> str:
    """Float against INT8: what each student takes, how it does, and what differs."""
    tables = [table(rounded.COSTS, rounded.costs(told))]
    for split in ("validation", "test"):
        header = (f"on {split}", *rounded.SPLIT)
        tables.append(table(header, rounded.measures(told, split)))
    return "\n" + "\n\n".join([*tables, "\n".join(rounded.sentences(told))])


def _worst(groups: dict[str, Share]) -> dict[str, Share]:
    """The groups with the most misses; by rate a group of one clip would always be worst."""
    wrong = {name: share for name, share in groups.items() if share.wrong}
    ranked = sorted(wrong.items(), key=lambda item: (-item[1].wrong, -item[1].rate, item[0]))
    return dict(ranked[:WORST_GROUPS])


def _shares(title: str, counts: tuple[str, str, str], shares: dict[str, Share]) -> str:
    rows = [
        (name, str(share.clips), str(share.wrong), percent(share.rate), span(share.low, share.high))
        for name, share in shares.items()
    ]
    return "\n" + table((title, *counts, "95 %"), rows) + "\n"


def _label(text: str) -> str:
    return f"{text:<15}"


def read(run: Run) -> Report:
    """Read the report of a finished run. Raises DataError."""
    if not run.finished():
        why = "it cannot be read" if run.report.exists() else "it is not finished"
        raise DataError(f"{run.name} has no report: {why}", run.resuming())
    return Report.from_json(run.report.read_text(encoding="utf-8"))


def show(report: Report, data: Data, as_json: bool, tested: str = "") -> None:
    """Print a report; say so if the wake words it counts are of synthetic voices."""
    say(report.to_json() if as_json else render(report, tested))
    if not as_json and synthetic(data):
        say(f"\n{SYNTHETIC}")


def synthetic(data: Data) -> bool:
    """Whether a wake word in the data was spoken by a program; False once the data has gone."""
    try:
        clips = dataset.read(data)
    except DataError:
        return False
    return any("synthetic" in clip.source for clip in clips if clip.label == data.wakeword)


def show_pooled(runs: Sequence[Run], as_json: bool) -> int:
    """Print what the tests of several folds give together."""
    _refuse_repeats(runs)
    reports = [read(run) for run in runs]
    for run, report in zip(runs, reports, strict=True):
        if report.split != "test":
            message = f"{run.name} was judged on its {report.split} split, not tested"
            raise DataError(message, 'pool runs of evaluate.split = "test"')
    target_fah, *others = sorted({report.operating_point.target_fah for report in reports})
    if others:
        message = f"the runs' thresholds were frozen for {target_fah:g} to {others[-1]:g} FAH"
        raise DataError(message, "pool runs of the same evaluate.target_fah")
    pooled = pool([report.test for report in reports])
    if as_json:
        say(pooled.to_json())
        return 0
    say(f"Pooled tests of {', '.join(run.name for run in runs)}, each at its own frozen threshold")
    say(render_measured(pooled, target_fah))
    return 0


def refuse_pinned(data: Data) -> None:
    """Raise DataError where a manifest says what is tested, so that each fold tests the same."""
    pinned = [
        clip.path
        for clip in dataset.read(data)
        if clip.split == "test" and clip.label != "rir" and dataset.is_measured(clip)
    ]
    if pinned:
        more = f" and {len(pinned) - 1} more" if len(pinned) > 1 else ""
        message = f"each fold would test {pinned[0].name}{more} again"
        hint = "leave out --folds, or empty the column `split` of the manifest"
        raise DataError(message, hint)


def _refuse_repeats(runs: Sequence[Run]) -> None:
    """Raise DataError if a clip would be counted twice: pooled intervals would be too narrow."""
    tested = [(run.recipe().data.wakeword, run.recipe().data.fold) for run in runs]
    twice = next((test for test in tested if tested.count(test) > 1), None)
    if twice is not None:
        message = f"two of the runs tested fold {twice[1]} of {twice[0]!r}"
        raise DataError(message, "pool runs of different folds or wake words")
    words = [word for word, _ in tested]
    for word in {word for word in words if words.count(word) > 1}:
        data = runs[words.index(word)].recipe().data
        if data.manifest is not None and data.manifest.exists():  # else nobody can tell any more
            refuse_pinned(data)
