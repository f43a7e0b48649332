"""What Review draws and how it keeps its pile, without the app around it."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.color import Color
from rich.style import Style

from engine.errors import DataError
from engine.queue_store import QueueItem, QueueStore
from tests.card import chirp
from tests.tiny import tone
from tests.tui.scripted import finds
from wakeword_tui.clips import Excerpt, scp_line
from wakeword_tui.pile import Pile
from wakeword_tui.told import clock, facts, title
from wakeword_tui.widgets.spectrogram import coloured, levels, shaded
from wakeword_tui.widgets.waveform import bars, heights


def test_a_high_tone_is_above_a_low_one() -> None:
    high, low = (levels(tone(hz, 1.0), 10, 20).mean(axis=1) for hz in (3000.0, 300.0))
    assert high.argmax() < low.argmax()
    assert min(high.max(), low.max()) > 0.9


def test_a_climbing_tone_climbs_from_left_to_right() -> None:
    loudest = levels(chirp(), 30, 24).argmax(axis=0)
    assert loudest[2] > loudest[15] > loudest[27]
    assert (np.diff(loudest) <= 1).all()


@pytest.mark.parametrize("samples", [1, 100, 511, 5000])
@pytest.mark.parametrize(("columns", "bands"), [(1, 1), (200, 4), (7, 90)])
def test_any_clip_fills_any_space(samples: int, columns: int, bands: int) -> None:
    found = levels(np.ones(samples, dtype=np.float32), columns, bands)
    assert found.shape == (bands, columns)
    assert np.isfinite(found).all()


def test_half_blocks_have_the_upper_band_in_front() -> None:
    """Bands 1 and 0, in two columns: white on black; equal cells are one segment."""
    black, white = Color.from_ansi(16), Color.from_ansi(231)
    (strip,) = coloured(np.array([[1.0, 1.0], [0.0, 0.0]]), [black, white])
    (segment,) = strip
    assert segment.text == "▀▀"
    assert segment.style == Style(color=white, bgcolor=black)


def test_without_colours_louder_is_darker() -> None:
    (strip,) = shaded(np.array([[0.0, 0.25, 0.5, 0.75, 1.0]]), Style())
    assert strip.text == " ░▒▓█"


def test_bars_stand_on_the_bottom() -> None:
    """Shares of two rows: 1 is 16 eighths, 0.75 is 12, 0.25 is 4; silence is a thin line."""
    assert bars(np.array([1.0, 0.75, 0.25, 0.0]), 2) == ["█▄  ", "██▄▁"]


def test_heights_are_roots_of_shares_of_the_peak() -> None:
    waveform = np.array([0.5, -0.5, 0.125, 0.0], dtype=np.float32)
    assert heights(waveform, 2).tolist() == [1.0, 0.5]


def test_clocks() -> None:
    times_s = (2.5, 59.96, 723.4, 3723.4)
    assert [clock(s) for s in times_s] == ["0:02.5", "1:00.0", "12:03.4", "1:02:03.4"]
    assert clock(723.4, tenths=False) == "12:03"


@pytest.mark.parametrize(
    ("connection", "line"),
    [
        ("10.0.0.1 5000 10.0.0.2 22", "scp me@10.0.0.2:/w/a.wav ."),
        ("fe80::1 5000 fe80::2 2222", "scp -P 2222 'me@[fe80::2]:/w/a.wav' ."),
    ],
)
def test_the_scp_line_goes_back_the_way_one_came(
    monkeypatch: pytest.MonkeyPatch, connection: str, line: str
) -> None:
    monkeypatch.setenv("LOGNAME", "me")
    assert scp_line(Path("/w/a.wav"), {"SSH_CONNECTION": connection}) == line


def test_a_user_without_a_name_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 3_999_999_999)
    connection = {"SSH_CONNECTION": "10.0.0.1 5000 10.0.0.2 22"}
    assert scp_line(Path("/w/a.wav"), connection) == "scp 10.0.0.2:/w/a.wav ."


def item_at(start_s: float, end_s: float) -> QueueItem:
    (find,) = finds(Path("a.wav"), 1)
    object.__setattr__(find, "start_s", start_s)
    object.__setattr__(find, "end_s", end_s)
    return QueueItem(1, find, "pending", None, "", False, 0.0)


def test_a_clip_is_cut_at_the_edges_of_its_item() -> None:
    """3 s that begin at 10.0 s of the recording, of which 10.5 to 12.5 s count."""
    clip, item = Excerpt(1, 10.0, tone(440, 3.0)), item_at(10.5, 12.5)
    assert len(clip.cut(item)) == 32_000
    assert clip.edges(item) == (0.5 / 3, 2.5 / 3)


def test_edges_stay_within_what_is_shown_and_apart() -> None:
    clip, item = Excerpt(1, 10.0, tone(440, 3.0)), item_at(10.5, 12.5)
    assert clip.trimmed(item, -1.0, 9.0) == (10.0, 13.0)
    assert clip.trimmed(item, 5.0, 0.0) == (12.4, 12.5)
    assert clip.trimmed(item, 0.0, -5.0) == (10.5, 10.6)


@pytest.fixture
def pile(tmp_path: Path) -> Iterator[Pile]:
    store = QueueStore(tmp_path / "queue.db")
    store.add(finds(Path("/a.wav"), 4))
    pile = Pile(store)
    yield pile
    pile.close()
    store.close()


def test_the_next_item_is_below_and_else_from_the_top(pile: Pile) -> None:
    async def story() -> None:
        pile.go(2)
        await pile.settle(pile.decide([3], "confirmed"))
        assert pile.next() == 3
        pile.go(3)
        await pile.settle(pile.decide([4], "discarded"))
        assert pile.next() == 0
        await pile.settle(pile.decide([1, 2], "ignored"))
        assert pile.next() is None
        assert [item.decision for item in pile.page(0, 9)] == [
            "ignored", "ignored", "confirmed", "discarded",
        ]  # fmt: skip

    asyncio.run(story())


def test_changes_reach_the_disk_in_the_order_of_the_keys(pile: Pile) -> None:
    """None is waited for before the next; an undo takes back the last of them."""

    async def story() -> None:
        written = [pile.decide([1], "confirmed"), pile.decide([1], "discarded")]
        undone = pile.undo()
        assert await pile.settle(undone) == [1]
        assert all(change.done() for change in written)
        assert pile.item(1).decision == "confirmed"

    asyncio.run(story())


def test_an_undo_of_what_could_not_be_written_leaves_the_step_before(pile: Pile) -> None:
    def fail() -> None:
        raise DataError("the queue is locked")

    async def story() -> None:
        await pile.settle(pile.decide([1], "confirmed"))
        failed, undone = pile.change(fail), pile.undo()
        with pytest.raises(DataError):
            await pile.settle(failed)
        assert await pile.settle(undone) == []
        assert pile.item(1).decision == "confirmed"
        assert await pile.settle(pile.undo()) == [1]

    asyncio.run(story())


def test_what_was_handed_over_is_written_before_the_pile_closes(tmp_path: Path) -> None:
    store = QueueStore(tmp_path / "queue.db")
    store.add(finds(Path("/a.wav"), 4))

    async def story() -> None:
        pile = Pile(store)
        pile.decide([2], "wakeword")
        pile.close()

    asyncio.run(story())
    assert store.item(2).decision == "wakeword"


def test_what_is_decided_alone_is_marked_no_more(pile: Pile) -> None:
    """Else a decision about all that is marked would overwrite it."""

    async def story() -> None:
        pile.mark_all()
        await pile.settle(pile.decide([2], "wakeword"))
        assert pile.marked == {1, 3, 4}

    asyncio.run(story())


def test_laying_out_anew_keeps_the_cursor_and_drops_what_is_decided(pile: Pile) -> None:
    async def story() -> None:
        pile.go_to(3)
        await pile.settle(pile.decide([1], "confirmed"))
        pile.sort()
        assert (pile.ids, pile.current) == ([2, 3, 4], 3)

    asyncio.run(story())


def test_the_title_counts_what_is_left(pile: Pile) -> None:
    """Of four two are decided on; one is undone, which was confirmed first and then discarded."""

    async def story() -> None:
        for number in (1, 2):
            await pile.settle(pile.decide([number], "confirmed"))
        await pile.settle(pile.decide([2], "discarded"))
        assert title(pile) == "2 pending by score"
        pile.reopen(await pile.settle(pile.undo()))
        assert title(pile) == "2 pending by score"
        pile.reopen(await pile.settle(pile.undo()))
        assert title(pile) == "3 pending by score"
        pile.show(shown="confirmed")
        await pile.settle(pile.decide([1], "wakeword"))
        assert title(pile) == "0 confirmed by score"
        pile.reopen(await pile.settle(pile.undo()))
        assert title(pile) == "1 confirmed by score"
        pile.show(shown=None)
        await pile.settle(pile.decide([1], "ignored"))
        assert title(pile) == "4 in all by score"

    asyncio.run(story())


def test_another_order_begins_at_the_top(pile: Pile) -> None:
    pile.go_to(3)
    pile.show(order="near_threshold")
    assert (pile.ids, pile.current) == ([4, 3, 2, 1], 4)


@pytest.mark.parametrize(
    ("group", "told"), [("anna", "anna"), (f"user:{'a' * 64}", "the recording itself")]
)
def test_a_group_is_told_and_a_hash_is_not(queue: QueueStore, group: str, told: str) -> None:
    """The hash of a recording of nobody's would push the flag off an 80x24 screen."""
    (item,) = queue.items(queue.ids()[:1])
    item = replace(item, flagged=True, find=replace(item.find, group=group))
    _, line = facts(item, None, "")
    assert str(line) == f"group {told}  ! flagged"
