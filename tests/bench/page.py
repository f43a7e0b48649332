"""docs/benchmarks.md in one command: what the page says to type is typed, in its order.

    python -m tests.bench.page numbers                 what needs no recordings: some three hours
    python -m tests.bench.page numbers --data $DATA    all of it: about a day on two cores
    python -m tests.bench.page numbers --data $DATA --only 'INT8|rooms'

From the root of a checkout with the `dev` packages. What each block says is kept in `numbers`,
numbered as on the page; the runs lie in its `workspace`. A block that fails is told, and the next
one begins.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from wakeword_tui.commands.output import say

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
PARTS = re.compile(r"^##+ (?P<head>[^\n]*)$|^```sh\n(?P<typed>.*?)^```$", re.MULTILINE | re.DOTALL)
MADE = re.compile(r"\bpytest -m bench\b|\bwakeword-tui demo\b")
"""What a block calls that makes its own audio."""


@dataclass(frozen=True, slots=True)
class Block:
    """What a page says to type below a heading. `number` counts from 1."""

    number: int
    head: str
    typed: str

    @property
    def file(self) -> str:
        slug = re.sub(r"[^a-z0-9]+", "-", self.head.lower()).strip("-")
        return f"{self.number:02d}-{slug}.txt"


def blocks(page: str) -> list[Block]:
    """Every shell block of a page with the heading that it stands below."""
    head, found = "", []
    for part in PARTS.finditer(page):
        if part["typed"] is None:
            head = part["head"]
        else:
            found.append(Block(len(found) + 1, head, part["typed"]))
    return found


def run(block: Block, out: Path, data: Path | None) -> int:
    """Type a block into a shell, and keep what it says; return how it ended."""
    own = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DATA": str(data or "")}
    home = {"WAKEWORD_HOME": str(out / "workspace")}
    with (out / block.file).open("wb") as kept:
        kept.write(f"# {block.head}\n{block.typed}\n".encode())
        kept.flush()
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.typed],
            cwd=ROOT,
            env=os.environ | own | home,
            stdin=subprocess.DEVNULL,
            stdout=kept,
            stderr=subprocess.STDOUT,
        ).returncode


def main(words: list[str] | None = None, page: Path = PAGE) -> int:
    """Run what was asked for; 1 if a block failed."""
    parser = argparse.ArgumentParser(description="Run docs/benchmarks.md.")
    parser.add_argument("out", type=Path, help="a folder for what is printed, and for the runs")
    parser.add_argument("--data", type=Path, help="recordings; without, only what needs none")
    parser.add_argument("--only", default="", help="a pattern that the heading holds")
    args = parser.parse_args(words)
    out, failed = args.out.resolve(), 0
    out.mkdir(parents=True, exist_ok=True)
    for block in blocks(page.read_text(encoding="utf-8")):
        if not re.search(args.only, block.head):
            continue
        if args.data is None and not MADE.search(block.typed):
            say(f"needs recordings   {block.file}")
            continue
        began = time.monotonic()
        ended = run(block, out, args.data and args.data.resolve())
        failed += ended != 0
        said = "done  " if ended == 0 else f"exit {ended}"
        say(f"{said} {time.monotonic() - began:8.0f} s  {block.file}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
