"""Chart rasters as text, the store's arithmetic, numbers."""

import numpy as np
import pytest

from engine.events import Progressed, Record, Stepped
from engine.runs import Workspace
from tests.tui.scripted import stepped
from wakeword_tui.numbers import brief, count, duration, hours, rate, small
from wakeword_tui.store import MOST_POINTS, Store
from wakeword_tui.widgets.raster import AXIS, EMPTY, GRID, Axis, Plot, Series, draw


def lines(plot: Plot, width: int, height: int) -> list[str]:
    return [line.rstrip() for line in draw(plot, width, height).lines()]


def test_a_rising_line_as_braille() -> None:
    plot = Plot([Series("", [0, 10], [0.0, 1.0])], Axis(0, 10), Axis(0.0, 1.0))
    assert lines(plot, 16, 6) == [
        "1┤┈┈┈┈┈┈┈┈┈┈⢀⡠⠔⠉",
        " │       ⣀⠤⠊⠁",
        " │   ⢀⡠⠒⠉",
        "0┤⣀⠔⠊⠁┈┈┈┈┈┈┈┈┈┈",
        " └┬────────────┬",
        "  0           10",
    ]


def test_axes_say_what_they_measure_and_a_tick_gives_way() -> None:
    x, y = Axis(0, 10, label="ms a hop"), Axis(0.0, 1.0, label="pAUC")
    assert lines(Plot([Series("", [10], [1.0], mark="●")], x, y), 20, 5) == [
        "1┤pAUC┈┈┈┈┈┈┈┈┈┈┈┈┈●",
        " │",
        "0┤┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈┈",
        " └┬─────────────────",
        "  0         ms a hop",
    ]


def test_a_series_may_have_the_colour_of_another_place() -> None:
    dots = Series("", [0], [0.0], mark="○", colour=3)
    line = Series("", [5, 10], [1.0, 1.0], colour=2)
    owners = draw(Plot([dots, line], Axis(0, 10), Axis(0.0, 1.0)), 16, 6).owners
    assert {2, 3} <= set(owners.ravel().tolist()) <= {2, 3, AXIS, EMPTY, GRID}


def test_a_mark_a_whisker_and_the_legend() -> None:
    series = Series("miss", [5], [0.5], mark="●", low=[0.0], high=[1.0])
    assert lines(Plot([series], Axis(0, 10), Axis(0.0, 1.0)), 24, 8) == [
        "1┤┈┈┈┈┈┈┈┈┈┈┈⡇┈┈┈ ● miss",
        " │           ⡇",
        " │           ●",
        " │           ⡇",
        " │           ⡇",
        "0┤┈┈┈┈┈┈┈┈┈┈┈⡇┈┈┈┈┈┈┈┈┈┈",
        " └┬────────────────────┬",
        "  0                   10",
    ]


@pytest.mark.parametrize(
    ("xs", "ys", "row", "column"),
    [
        ([10], [0.5], 0, 17),
        ([10], [1.0], 5, 17),
        ([10, 10], [0.0, 1.0], 5, 2),
        ([0, 10, 10], [0.0, 0.0, 1.0], 0, 17),
    ],
)
def test_the_legend_lies_in_the_corner_where_it_hides_the_fewest_marks(
    xs: list[int], ys: list[float], row: int, column: int
) -> None:
    """The top right, the bottom right, the bottom left; where all hold a mark it is the first."""
    rows = lines(Plot([Series("miss", xs, ys, mark="●")], Axis(0, 10), Axis(0.0, 1.0)), 24, 8)
    assert rows[row].index(" ● miss") == column


def test_a_log_axis_has_round_ticks_and_drops_what_it_cannot_show() -> None:
    axis = Axis(0.08, 2.5, log=True)
    assert axis.ticks(5) == [0.1, 0.2, 0.5, 1.0, 2.0]
    assert np.isnan(axis.place([0.0, -1.0])).all()
    assert axis.place([0.08, 2.5]).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [(0, 1, 3, [0, 0.5, 1]), (0, 2000, 5, [0, 500, 1000, 1500, 2000]), (3, 3, 4, [])],
)
def test_linear_ticks(low: float, high: float, most: int, ticks: list[float]) -> None:
    assert Axis(low, high).ticks(most) == pytest.approx(ticks)


def test_extremes_survive_however_many_points_there_are() -> None:
    ys = np.zeros(20_000)
    ys[9_999] = 1.0
    text = lines(Plot([Series("", np.arange(ys.size), ys)], Axis(0, ys.size), Axis(0, 1)), 40, 10)
    assert any(mark in text[0] for mark in "⡇⢸")


def test_the_series_with_most_dots_owns_the_cell() -> None:
    flat = Series("", [0, 10], [0.0, 0.0])
    plot = Plot([flat, Series("", [0, 10], [0.0, 0.0])], Axis(0, 10), Axis(0.0, 1.0))
    owners = draw(plot, 20, 6).owners
    assert set(owners[3, 3:].tolist()) <= {0, GRID}


@pytest.mark.parametrize("size", [(0, 0), (5, 2), (11, 3), (200, 60)])
def test_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    plot = Plot([Series("a", [1, 2], [1.0, 2.0])], Axis(0, 2), Axis(0.0, 2.0), Axis(0.0, 1.0))
    width, height = size
    assert draw(plot, width, height).characters.shape == (height, width)


def test_an_axis_around_nothing_or_one_value() -> None:
    assert Axis.around([]) == Axis(0.0, 1.0)
    assert Axis.around([float("nan")], log=True) == Axis(0.1, 1.0, log=True)
    one = Axis.around([5.0])
    assert one.low < 5.0 < one.high


def test_the_store_thins_its_curve_and_keeps_its_mean() -> None:
    store = Store()
    for n in range(1, MOST_POINTS + 2):
        store.apply(Record(n, 0.0, Stepped(n, 0, float(n % 2), 0, 0, 0, 0, 0)))
    assert len(store.losses) == MOST_POINTS // 2
    assert {y for _, y in store.losses} == {0.5}


def test_the_store_ignores_what_it_has_seen() -> None:
    store = Store()
    record = Record(1, 0.0, stepped(10))
    store.apply(record)
    store.apply(record)
    assert len(store.losses) == 1


def test_the_time_left_of_a_phase_comes_from_its_pace() -> None:
    store = Store()
    store.apply(Record(1, 100.0, Progressed("pack", 0, 100, "files")))
    assert store.eta_s(100.0) is None
    store.apply(Record(2, 110.0, Progressed("pack", 25, 100, "files")))
    assert store.eta_s(110.0) == 30.0  # 10 s for 25, so 30 s for the 75 left


def test_a_run_without_events_is_an_empty_store(tmp_path) -> None:
    from tests.tui.scripted import RECIPE

    assert Store.replay(Workspace(tmp_path).create(RECIPE)) == Store()


def test_numbers() -> None:
    assert count(12_340) == "12 340"
    assert [brief(v) for v in (950, 41_230, 2_104_000, 5e9)] == ["950", "41.2k", "2.1M", "5G"]
    assert [rate(v) for v in (0.361, 12.4, float("inf"))] == ["0.36", "12", "-"]
    assert [small(v) for v in (0.0612, 0.00041)] == ["0.0612", "4.1e-04"]
    assert [duration(s) for s in (42, 185, 7800)] == ["42s", "3m 05s", "2h 10m"]
    told = [hours(h) for h in (0.0, 0.004, 0.25, 5.54, 16.27, 412.4)]
    assert told == ["0.00 h", "0.004 h", "0.25 h", "5.54 h", "16.3 h", "412 h"]
