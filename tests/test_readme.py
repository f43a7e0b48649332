"""What the documents say is so: commands parse, links lead somewhere, CI runs the README."""

import re
import shlex
from pathlib import Path

import pytest

from engine import __version__
from wakeword_tui.__main__ import parser
from wakeword_tui.screens.page import TABS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DEMO = "python3 -m venv .venv && .venv/bin/pip install -e '.[demo]' && .venv/bin/wakeword-tui demo"
TESTS = "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/pytest"


def shell_blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """The lines of the shell blocks that call us, continued lines joined."""
    lines = "\n".join(shell_blocks(text)).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("wakeword-tui")]


def test_the_readme_leads_with_two_commands() -> None:
    assert [block.strip() for block in shell_blocks(README)[:2]] == [DEMO, TESTS]


def test_ci_runs_the_readmes_own_words() -> None:
    assert TESTS in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_shown_parses(page: Path) -> None:
    for line in commands(page.read_text(encoding="utf-8")):
        words = shlex.split(line.split(" > ")[0], comments=True)
        parser().parse_args(words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_every_command_is_in_the_guide_and_in_the_readme() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    verbs = next(a for a in parser()._actions if a.choices).choices
    assert verbs is not None
    assert not [verb for verb in verbs if f"wakeword-tui {verb}" not in guide]
    assert not [verb for verb in verbs if not re.search(rf"^\|.*`{verb}\b.*\|", README, re.M)]


def test_every_picture_is_shown_somewhere_and_is_small() -> None:
    """A picture that a page shows is there: see `test_every_link_leads_to_a_file`."""
    shown = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    }
    pictures = {path.resolve() for path in (ROOT / "docs").glob("*.png")}
    assert pictures == shown
    assert not [path.name for path in pictures if path.stat().st_size > 80_000]


def test_the_guide_shows_every_screen() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    screens = [title.lower() for _, title in TABS]
    assert not [name for name in [*screens, "record"] if f"]({name}.png)" not in guide]


def test_every_heading_that_the_guide_points_to_is_there() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    heads = re.findall(r"^##+ (.*)$", guide, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
    assert set(re.findall(r"\]\(#([^)]+)\)", guide)) <= anchors


def test_the_changelog_knows_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")


def test_every_test_that_a_page_names_is_there() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests/)?[\w/]+\.py)::(\w+)", page)
    assert len(named) > 20
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"
