"""Every screen in ASCII, of the same width."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.pilot import Pilot

from engine.runs import Workspace
from tests.tui.play import LARGE, play, screen, see
from wakeword_tui.app import WakewordApp
from wakeword_tui.config import Config
from wakeword_tui.letters import Letters, wants_ascii


def test_lines_corners_dots_blocks_and_signs_have_a_likeness() -> None:
    assert "─│╭┼╴━⣿⡀⠀█▀░✓✗●…é→".translate(Letters()) == "-|++--*. ##.vx*~e>"


@given(st.characters(exclude_categories=["Cs", "Cc", "Mn", "Me", "Cf"]))
@example("１")  # noqa: RUF001 -- two cells wide
@example("\u3000")
def test_a_likeness_is_ascii_and_as_wide(character: str) -> None:
    like = Letters()[ord(character)]
    assert like.isascii()
    assert cell_len(like) == cell_len(character)


@pytest.mark.parametrize("digit", "123456789")
def test_a_screen_in_ascii(workspace: Workspace, digit: str) -> None:
    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        app.open_run("001")
        await pilot.press(digit)
        await see(app, pilot, "wakeword")
        assert screen(app).isascii(), screen(app)

    play(workspace, story, LARGE, config=Config(ascii=True))


@pytest.mark.parametrize(
    ("locale", "plain"),
    [
        ({"LANG": "en_GB.UTF-8"}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, True),
        ({"LANG": "de_DE.ISO-8859-1", "LC_ALL": "C.utf8"}, False),
        ({"LANG": "C"}, False),
        ({}, False),
    ],
)
def test_a_locale_of_another_character_set_asks_for_ascii(
    locale: dict[str, str], plain: bool
) -> None:
    assert wants_ascii(locale) is plain
