"""docs/benchmarks.md in one command: each block is typed, and what it says is kept."""

import subprocess
from pathlib import Path

import pytest

from tests.bench.page import PAGE, Block, blocks, main

TEXT = """# Numbers
## A first
```sh
wakeword-tui --version > /dev/null  # not: wakeword-tui demo
echo "seven $((3 + 4))"
```
```console
not for us
```
### Its part: b
```sh
pytest -m bench --no-such-option
```
## Of recordings
```sh
ls $DATA
```
## Last
```sh
echo $WAKEWORD_HOME # wakeword-tui demo
```
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(TEXT)
    return path


def test_a_block_stands_below_the_nearest_heading() -> None:
    assert [block.head for block in blocks(TEXT)] == [
        "A first",
        "Its part: b",
        "Of recordings",
        "Last",
    ]
    assert Block(3, "Its part: b", "").file == "03-its-part-b.txt"


def test_every_shell_block_of_the_page_is_found_with_what_it_types() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(blocks(text)) == text.count("\n```sh\n") > 15
    assert "".join(block.typed for block in blocks(text)).count("```") == 0


@pytest.mark.parametrize("block", blocks(PAGE.read_text("utf-8")), ids=lambda block: block.file)
def test_a_shell_can_read_every_block(block: Block) -> None:
    done = subprocess.run(
        ["bash", "-n", "-c", block.typed], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_block_that_fails_is_told_and_the_others_are_typed(
    page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "numbers"
    assert main([str(out)], page) == 1
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(words[0], words[-1][:2]) for words in told] == [
        ("done", "01"), ("exit", "02"), ("needs", "03"), ("done", "04"),
    ]  # fmt: skip
    assert "seven 7" in (out / "01-a-first.txt").read_text()
    assert "no-such-option" in (out / "02-its-part-b.txt").read_text()
    assert str(out / "workspace") in (out / "04-last.txt").read_text()


def test_recordings_and_a_pattern_choose_what_is_typed(page: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "some.wav").touch()
    out = tmp_path / "numbers"
    assert main([str(out), "--data", str(tmp_path / "data"), "--only", "recordings"], page) == 0
    assert [path.name for path in out.iterdir()] == ["03-of-recordings.txt"]
    assert "some.wav" in (out / "03-of-recordings.txt").read_text()
