import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from textual.pilot import Pilot

from engine.flips import TUNED, Flip, Int8
from engine.report import NEGATIVES
from engine.runs import Workspace
from tests.test_compare import negative, outcomes, words
from tests.test_rounded import told
from tests.tui.play import LARGE, SMALL, gone, play, same_as_file, screen, see, type_ahead, until
from tests.tui.scripted import CLIPS, WRONG, report, write_run
from wakeword_tui.answered import verdicts
from wakeword_tui.app import WakewordApp
from wakeword_tui.operating import PER_DAY, answer, steps_with
from wakeword_tui.screens.bench import det_plot
from wakeword_tui.widgets.chart import Chart
from wakeword_tui.widgets.menu import Menu

SCREENS = Path(__file__).parent / "screens"


def small_report(validation_hours: float = 24.0) -> dict:
    """Four thresholds; validation alarms 0, 1, 2, 9 and test alarms 0, 1, 4, 20."""
    split = {"clips": 100, "hours": validation_hours}
    validation = [[0.9, 0, 40], [0.8, 1, 20], [0.7, 2, 10], [0.6, 9, 5]]
    test = [[0.9, 0, 42], [0.8, 1, 22], [0.7, 4, 12], [0.6, 20, 6]]
    return {
        "operating_point": {
            "threshold": 0.8,
            "target_fah": 1 / 24,
        },  # one a day, as the sweep has it
        "validation": split | {"sweep": validation},
        "test": split | {"sweep": test, "hours": 10.0, "false_alarms": 1, "missed": 22},
    }


def test_the_threshold_is_the_lowest_that_keeps_the_wish_on_validation() -> None:
    given = answer(small_report(), per_day=2)  # 2 in 24 h
    assert given.tested.threshold == 0.7
    assert (given.tested.false_alarms, given.tested.missed) == (4, 12)
    assert given.tested.fah == 0.4
    assert given.showable
    assert given.kept


def test_the_wish_of_the_recipe_and_stricter_ones_get_no_lower_threshold_than_was_shipped() -> None:
    """The tail asked for 0.85 where the sweep has 0.8; two a day is another wish: 0.7."""
    tables = small_report()
    tables["operating_point"]["threshold"] = 0.85
    tables["test"] |= {"false_alarms": 0, "missed": 30}
    given = [answer(tables, per_day).tested for per_day in (0.25, 1, 2)]
    assert [tested.threshold for tested in given] == [0.9, 0.85, 0.7]
    assert [(tested.false_alarms, tested.missed) for tested in given] == [(0, 42), (0, 30), (4, 12)]


def test_the_wish_of_the_recipe_gets_what_was_shipped_where_the_sweep_asks_for_more() -> None:
    """Five speeds allowed 0.75 where one asks for 0.8; what is stricter goes by the sweep."""
    tables = small_report()
    tables["operating_point"]["threshold"] = 0.75
    tables["test"] |= {"false_alarms": 3, "missed": 15}
    given = [answer(tables, per_day).tested for per_day in (0.25, 1, 2)]
    assert [tested.threshold for tested in given] == [0.9, 0.75, 0.7]
    assert (given[1].false_alarms, given[1].missed) == (3, 15)


def test_what_is_of_validation_proves_nothing() -> None:
    tried = answer(small_report() | {"split": "validation"}, per_day=240)
    first, *_ = verdicts(tried)
    assert "proves nothing" in str(first)


def test_what_the_hours_prove() -> None:
    tested = answer(small_report(), per_day=0.25).tested  # threshold 0.9, no alarm in 10 h
    assert tested.false_alarms == 0
    assert math.isclose(tested.proved_fah, -math.log(0.05) / 10)
    assert math.isclose(tested.hours_missing(0.25 / 24), -math.log(0.05) * 96 - 10)


def test_too_few_hours_on_validation_cannot_show_the_wish() -> None:
    assert not answer(small_report(validation_hours=1.0), per_day=12).showable


def test_a_wish_that_no_threshold_keeps() -> None:
    tables = small_report()
    tables["validation"]["sweep"] = [[0.9, 3, 40]]
    assert not answer(tables, per_day=2).kept


def test_the_wish_of_the_recipe_is_one_of_the_steps() -> None:
    assert steps_with(72.0) == (*PER_DAY[:10], 72.0, *PER_DAY[10:])
    assert steps_with(24.0) == PER_DAY
    assert len(steps_with(1 / 24 * 1.0000000001 * 24)) == len(PER_DAY)


def test_the_wish_of_the_recipe_comes_first_and_can_be_chosen_back(workspace: Workspace) -> None:
    run = workspace.find("1")
    shipped = {"operating_point": {"threshold": 0.123, "target_fah": 3.0}}
    run.report.write_text(json.dumps(report() | shipped))

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8")
        await see(app, pilot, " 72 ", "threshold 0.123", "for ≤ 3.00 /h")
        await pilot.press("left")
        await gone(app, pilot, "threshold 0.123")
        await pilot.press("right")
        await see(app, pilot, "threshold 0.123")

    play(workspace, story)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_the_whole_screen(workspace: Workspace, size: tuple[int, int]) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8")
        await see(app, pilot, "threshold 0.7", "proved:", "reverb + 5 dB")
        await same_as_file(pilot, SCREENS / f"bench-{size[0]}x{size[1]}.txt")

    play(workspace, story, size)


def test_left_and_right_change_the_wish(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8")
        await see(app, pilot, "for ≤ 1.00 /h")
        await pilot.press("left", "left")
        await see(app, pilot, "for ≤ 0.33 /h")
        await pilot.press("right")
        await see(app, pilot, "for ≤ 0.50 /h")

    play(workspace, story)


def set_to(workspace: Workspace, threshold: float) -> Path:
    """Give run 001 a checkpoint that is set so, for three false wakes a day."""
    from engine.checkpoint import Checkpoint, save

    best = workspace.find("1").best
    point, validation = {"threshold": threshold, "target_fah": 0.125}, report()["validation"]
    save(best, Checkpoint("", {}, {}, point, {}, 1, validation=json.dumps(validation)))
    return best


def test_enter_stores_the_threshold_in_the_checkpoint(workspace: Workspace) -> None:
    from engine.checkpoint import load

    best = set_to(workspace, 0.5)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8")
        await see(app, pilot, "threshold 0.740")
        await pilot.press("enter")
        await see(app, pilot, "001-alexa now wakes at 0.740")

    play(workspace, story)
    assert load(best).operating_point == {"threshold": 0.74, "target_fah": 1.0}


def test_enter_sets_from_every_panel(workspace: Workspace) -> None:
    set_to(workspace, 0.5)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8")
        await see(app, pilot, "threshold 0.740", "⏎ Set")
        for key, threshold in (("left", "0.830"), ("right", "0.740")):  # from #det, then #groups
            await pilot.press("tab", key, "enter")
            await see(app, pilot, f"now wakes at {threshold}")

    play(workspace, story)


def test_keys_that_are_typed_ahead_set_what_was_under_the_cursor_then(workspace: Workspace) -> None:
    set_to(workspace, 0.5)
    other = write_run(workspace)
    shipped = {"operating_point": {"threshold": 0.123, "target_fah": 3.0}}
    other.report.write_text(json.dumps(report() | shipped))

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8")
        await see(app, pilot, "threshold 0.123")
        type_ahead(app, "j", "left", "enter", "k", "right")
        await see(app, pilot, "001-alexa now wakes at 0.830", "for ≤ 5.00 /h")

    play(workspace, story)


def test_the_threshold_that_a_run_is_set_to_is_told_beside_the_one_that_is_shown(
    workspace: Workspace,
) -> None:
    set_to(workspace, 0.5)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8")
        await see(app, pilot, "the run is set to 0.500, for ≤ 0.12 /h", "threshold 0.740")
        await pilot.press("enter")
        await see(app, pilot, "the run is set to this threshold")
        await pilot.press("left")
        await see(app, pilot, "the run is set to 0.740, for ≤ 1.00 /h", "for ≤ 0.50 /h")
        await pilot.press("9")
        await see(app, pilot, "001-alexa now wakes at 0.740")

    play(workspace, story)


def test_an_empty_screen_says_what_to_do(tmp_path: Path) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8")
        await see(app, pilot, "No run has a report yet.")
        await pilot.press("left")

    play(Workspace(tmp_path), story)


@pytest.mark.parametrize("hours", [0.0, 0.01])
def test_half_a_minute_of_streams_can_be_drawn(hours: float) -> None:
    tables = small_report()
    tables["test"] |= {"hours": hours, "det": [[100.0, 0.2], [400.0, 0.1]]}
    assert (det_plot(tables["test"], answer(tables, per_day=1)) is None) == (hours == 0)
    tables["test"]["det"] = [[400.0, 0.1]]
    assert det_plot(tables["test"], answer(tables, per_day=1)) is None


@pytest.mark.parametrize(("size", "keys"), [(SMALL, ["8", "z"]), ((40, 10), ["8"])])
def test_a_panel_alone_on_the_screen_is_as_wide_as_it(
    workspace: Workspace, size: tuple[int, int], keys: list[str]
) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press(*keys)
        await see(app, pilot, "001-alexa")
        menu = app.screen.query_one("#reports", Menu)
        await until(pilot, lambda: menu.outer_size.width == size[0], 5)

    play(workspace, story, size)


def test_no_alarm_is_drawn_at_the_left_edge_and_said() -> None:
    tables = small_report()
    tables["test"] |= {"hours": 0.25, "det": [[0.0, 0.42], [4.0, 0.22], [16.0, 0.12]]}
    plot = det_plot(tables["test"], answer(tables, per_day=0.25))
    assert plot is not None
    curve, here, wish = plot.series
    assert here.label == "this: no alarm"
    firsts = [np.ravel(series.xs)[0] for series in (curve, here, wish)]
    assert firsts == [plot.x.low, plot.x.low, 0.25 / 24]


def test_a_new_report_moves_neither_the_cursor_nor_the_wish(workspace: Workspace) -> None:
    write_run(workspace)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8", "j", "left")
        await see(app, pilot, "for ≤ 0.50 /h")
        app.desk.shown = write_run(workspace)
        await see(app, pilot, "004-alexa", "for ≤ 0.50 /h")
        assert app.screen.query_one("#reports", Menu).current == "001-alexa"

    play(workspace, story)


def test_a_report_that_cannot_be_read_is_no_report(workspace: Workspace) -> None:
    write_run(workspace).report.write_text("")

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("2")
        await see(app, pilot, "003-alexa")
        await pilot.press("8")
        await see(app, pilot, "001-alexa", "threshold")
        assert "003-alexa" not in screen(app)

    play(workspace, story)


def test_a_report_without_a_sweep_leaves_nothing_of_another(workspace: Workspace) -> None:
    tables = report()
    tables["test"]["sweep"] = []
    write_run(workspace).report.write_text(json.dumps(tables))

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8", "j")
        await see(app, pilot, "for ≤ 1.00 /h", "reverb + 5 dB")
        await pilot.press("k")
        await see(app, pilot, "no false alarms to weigh")
        assert app.screen.query_one("#groups", Menu).text == ""
        assert app.screen.query_one("#det", Chart)._plot is None

    play(workspace, story)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_exceeded_targets_are_seen(workspace: Workspace, size: tuple[int, int]) -> None:
    tables = report()
    tables["warnings"] = ["the weights take 113 kB", "a window takes 40 kB", "a hop takes 2.00 ms"]
    write_run(workspace).report.write_text(json.dumps(tables))

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8")
        await see(app, pilot, *(f"! {warning}" for warning in tables["warnings"]), "p95 1.12 ms")

    play(workspace, story, size)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_run_says_who_taught_it_and_how_each_did_beside_the_twin(
    workspace: Workspace, size: tuple[int, int]
) -> None:
    frr = {"kind": "conformer", "sha256": "ab", "measure": "frr", "teacher": 0.123,
           "baseline": 0.201, "better": True}  # fmt: skip
    pauc = frr | {"kind": "wav2vec2", "measure": "pauc", "teacher": 0.95, "better": False}
    write_run(workspace).report.write_text(json.dumps(report() | {"teachers": [frr, pauc]}))
    alone = pauc | {"baseline": None}
    write_run(workspace).report.write_text(json.dumps(report() | {"teachers": [alone]}))

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8")
        await see(app, pilot, "! taught by wav2vec2: held against no run")
        await pilot.press("j")
        await see(app, pilot, "✓ taught by conformer: 12.3 % missed, twin 20.1 %")
        await see(app, pilot, "! taught by wav2vec2: pAUC 0.9500, twin 0.2010", "p95 1.12 ms")
        await pilot.press("j")
        await gone(app, pilot, "taught")

    play(workspace, story, size)


def test_e_exports_the_run_and_says_how_it_ended(workspace: Workspace, tmp_path: Path) -> None:
    """The run of the script has no checkpoint, which is what it ends with."""

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8", "e")
        await see(app, pilot, "001-alexa as", "ONNX, float32", "ONNX, INT8 weights")
        await pilot.press("o")
        await see(app, pilot, "into the folder", "export/onnx")
        await pilot.press("enter")
        await see(app, pilot, "has no report")
        assert app.desk.exporter.live is None

    workspace.find("1").best.unlink(missing_ok=True)
    play(workspace, story)


def test_escape_exports_nothing(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8", "e")
        await see(app, pilot, "ONNX, float32")
        await pilot.press("o")
        await see(app, pilot, "into the folder")
        await pilot.press("escape")
        await see(app, pilot, "threshold 0.7")
        assert app.desk.exporter.live is None

    play(workspace, story)


def compared(workspace: Workspace) -> None:
    """Runs 001 and 003 with outcomes: 003 misses a third of what 001 misses in the reverb.

    Elsewhere they miss as many, of which each has four to itself.
    """
    write_run(workspace)
    for name, missed, moved in (("1", 60, 0), ("3", 20, 4)):
        clips = [
            clip
            for cohort, wrong in (WRONG | {"reverb": missed}).items()
            if cohort not in NEGATIVES
            for clip in words(
                "." * moved + "x" * wrong + "." * (CLIPS - wrong - moved), cohort, speakers=30
            )
        ]
        clips += [negative(0.9 if n < 9 else 0.1, f"n{n}", "confusable") for n in range(900)]
        outcomes(*clips).write(workspace.find(name).outcomes)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_c_compares_with_another_run_in_place(workspace: Workspace, size: tuple[int, int]) -> None:
    compared(workspace)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8", "c")
        await see(app, pilot, "003-alexa against", "enter  esc")
        await pilot.press("enter")
        await see(app, pilot, "A 001-alexa   B 003-alexa", "clean: no difference shown by 329")
        await same_as_file(pilot, SCREENS / f"compare-{size[0]}x{size[1]}.txt")
        await pilot.press("right", "y")
        await see(app, pilot, "lines copied")
        assert app.clipboard.startswith("clean: no difference shown")
        await pilot.press("escape")
        await see(app, pilot, "missed % against false wakes", "for ≤ 1.00 /h", "→ More")
        await pilot.press("j")
        assert app.screen.query_one("#reports", Menu).current == "001-alexa"

    play(workspace, story, size)


def test_another_run_under_the_cursor_ends_the_comparison(workspace: Workspace) -> None:
    compared(workspace)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8", "c")
        await see(app, pilot, "003-alexa against")
        await pilot.press("enter")
        await see(app, pilot, "3532 of 3532 clips paired")
        await pilot.press("shift+tab", "j")
        await see(app, pilot, "missed % against false wakes")

    play(workspace, story, LARGE)


def test_one_panel_at_a_time_can_be_a_comparison(workspace: Workspace) -> None:
    compared(workspace)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8", "c")
        await see(app, pilot, "003-alexa against")
        await pilot.press("enter")
        await see(app, pilot, "3532 of 3532 clips paired")
        await pilot.press("tab")
        await see(app, pilot, "001-alexa  ")
        await pilot.press("shift+tab")
        await see(app, pilot, "3532 of 3532 clips paired")
        await pilot.press("escape")
        await see(app, pilot, "001-alexa  ")

    play(workspace, story, (50, 12))


def test_a_run_without_outcomes_cannot_be_compared(workspace: Workspace) -> None:
    write_run(workspace)

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8", "c")
        await see(app, pilot, "003-alexa against")
        await pilot.press("enter")
        await see(app, pilot, "001-alexa does not say what became")

    play(workspace, story)


def test_one_run_alone_has_nothing_to_be_compared_with(workspace: Workspace) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8", "c")
        await see(app, pilot, "a comparison takes two runs")

    play(workspace, story)


def test_a_run_with_an_int8_student_shows_it_beside_the_float_one(workspace: Workspace) -> None:
    run = workspace.find("1")
    run.report.write_text(json.dumps(run.report_json() | {"int8": told().to_plain()}))

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8")
        await see(app, pilot, "float and INT8, test", "int8 rounded", "int8: test stream at 1:02")

    play(workspace, story, LARGE)


def many_flips() -> Int8:
    flips = tuple(Flip("test", f"ann/{n}.wav", 2.3, True) for n in range(40))
    students = told().students
    return replace(told(), students=students | {TUNED: replace(students[TUNED], flips=flips)})


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_v_looks_through_the_int8_student_to_its_end(
    workspace: Workspace, size: tuple[int, int]
) -> None:
    run = workspace.find("1")
    run.report.write_text(json.dumps(run.report_json() | {"int8": many_flips().to_plain()}))

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        await pilot.press("8")
        await see(app, pilot, "v INT8", "reverb")
        await pilot.press("v", "G")
        await see(app, pilot, "not INT8: ")
        await pilot.press("v")
        await see(app, pilot, "reverb")

    play(workspace, story, size)
