"""Search with a study of 500 finished trials: opening it, and drawing all of it again.

Run with `pytest -m bench -s tests/bench/test_search.py`. The limits are of processor time: what a
person waits for where nothing else runs.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
from textual.pilot import Pilot

from engine.runs import Workspace
from tests.tui.play import LARGE, play, screen, see
from tests.tui.studying import made_view, write_study
from wakeword_tui.app import WakewordApp

TRIALS, REPEATS = 500, 20
OPEN_S, REDRAW_S = 1.0, 0.05


@pytest.mark.bench
def test_five_hundred_trials_open_and_redraw_at_once(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    write_study(home, made_view(TRIALS))
    taken: dict[str, list[float]] = {"open": [], "redraw": [], "move": []}

    async def story(app: WakewordApp, pilot: Pilot[int]) -> None:
        began = time.process_time()
        await pilot.press("3")
        await see(app, pilot, f"1 of {TRIALS}", within_s=60)
        taken["open"].append(time.process_time() - began)
        await pilot.pause(0.5)
        studies = app.desk.studies
        for _ in range(REPEATS):
            assert studies.found is not None
            assert studies.view is not None
            studies.found = replace(studies.found, view=replace(studies.view))
            began = time.process_time()
            app.screen.repaint()  # type: ignore[attr-defined]
            screen(app)
            taken["redraw"].append(time.process_time() - began)
            began = time.process_time()
            await pilot.press("j")
            screen(app)
            taken["move"].append(time.process_time() - began)

    play(home, story, LARGE)
    told = "  ".join(f"{name} {1000 * median(each):.0f} ms" for name, each in taken.items())
    sys.stdout.write(f"\n{TRIALS} trials: {told}\n")
    assert taken["open"][0] < OPEN_S
    assert median(taken["redraw"]) < REDRAW_S
    assert median(taken["move"]) < REDRAW_S
