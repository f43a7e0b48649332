"""A newcomer's first afternoon: a shell in tmux, the README, and keys; nothing else.

The short form, on made beeps, runs with the other tests. The long one is on recordings, from the
demo to its end, with recipes/tinyconv.toml:

    NEWCOMER_MANIFEST=$DATA/manifest.csv pytest -s tests/tui/test_newcomer.py

`NEWCOMER_WAKEWORD` names the word (jarvis); `NEWCOMER_SCREENS` a folder that keeps the screens.
"""

import os
import re
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tiny import SETTINGS

from engine import audio
from engine.audio import SAMPLE_RATE
from engine.manifest import clips_at
from engine.recipe import Recipe
from engine.recipe_file import dump, override
from tests.tiny import hiss
from tests.tui.terminal import Tmux, needs_tmux, tmux
from tests.tui.test_loop import LEARNS, glide
from tests.waiting import until

ROOT = Path(__file__).parents[2]
MANIFEST = os.environ.get("NEWCOMER_MANIFEST")
WAKEWORD = os.environ.get("NEWCOMER_WAKEWORD", "jarvis")
SCREENS = os.environ.get("NEWCOMER_SCREENS")
PROMPT = "newcomer$"
PATIENCE_S = 3600.0 if MANIFEST else 180.0
TAPES = 4
FOLDERS = {"beep": "phone", "boop": "others", "speech": "talk", "noise": "kitchen", "rir": "rooms"}


@dataclass
class Newcomer:
    """Somebody at the keys, who looks at the screen and keeps what it shows."""

    window: Tmux
    screens: Path
    kept: list[str] = field(default_factory=list)

    def press(self, *keys: str) -> None:
        """A key after the other, as fast as a person."""
        for key in keys:
            self.window.press(key)
            time.sleep(0.1)

    def see(self, *texts: str) -> None:
        for text in texts:
            self.window.see(text, PATIENCE_S)

    def keep(self, name: str) -> None:
        """Keep the screen, in the order of the afternoon."""
        self.kept.append(name)
        path = self.screens / f"{len(self.kept):02d}-{name}.txt"
        path.write_text(self.window.screen(), encoding="utf-8")

    def run(self, command: str, text: str) -> None:
        """Type a command into the shell, and see what it says."""
        self.window.type(command)
        self.see(text)

    def leave(self) -> None:
        """Quit the app, and be in the shell again."""
        self.press("q")
        self.see_shell()

    def see_shell(self) -> None:
        """Wait for the prompt; what is typed before it is lost with the app."""
        screen = self.window.screen
        until(lambda: screen().rstrip().endswith(PROMPT), PATIENCE_S, screen)

    # The afternoon.

    def demo(self, *, to_its_end: bool) -> None:
        self.window.type("wakeword-tui demo")
        self.see("missed @")
        if to_its_end:
            self.see("done  800/800")
            self.keep("demo")
            self.leave()
            self.see("Test of fold 0, opened once")
            return
        self.keep("demo")
        self.press("q")
        self.see("keep running without the window")
        self.press("s")
        self.see_shell()

    def bring_recordings(self) -> None:
        for label, folder in FOLDERS.items():
            self.window.type("clear")
            self.run(f"wakeword-tui data import {folder} --label {label} --out clips", "added, 0")
            self.see_shell()
        self.run("wakeword-tui data check clips --wakeword beep", "validation")
        self.keep("recordings")

    def set_up(self, recipe: str, manifest: str, wakeword: str) -> None:
        self.window.type("wakeword-tui")
        self.see("still to be set")
        self.press("o")
        self.see("open a recipe")
        self.window.type(recipe)
        self.see(f"─ {recipe}.toml")
        self.fill(manifest)
        self.press(*"jjjj")
        self.fill(wakeword)
        self.see("the recipe is sound")
        self.press("h")
        self.see(" words of ")
        self.press("C-s")
        self.see("saved ")
        self.keep("setup")

    def fill(self, text: str) -> None:
        """Type into the field under the cursor."""
        self.press("Enter")
        self.see("Leave as it was")
        self.window.type(text)
        screen = self.window.screen
        until(lambda: "Leave as it was" not in screen(), PATIENCE_S, screen)

    def train(self) -> None:
        self.press("s")
        self.see("loss")
        self.see("done  ")
        self.keep("train")

    def choose(self) -> None:
        """One more false wake a day may be."""
        self.press("8")
        self.see("how many false wakes a day?", "threshold")
        self.press("Right", "Enter")
        self.see("now wakes at")
        self.keep("bench")

    def mine(self, folder: str) -> None:
        """Mine a folder, or what the run was trained on."""
        if folder:
            self.press("4", "o")
            self.see("folder")
            self.press("C-u")
            self.window.type(folder)
            self.see(*(f"radio-{number}.wav" for number in range(TAPES)))
            self.press(*"ja" * TAPES)
            self.see(f"1 of {TAPES}")
            self.press("s")
        else:
            self.press("m")
        self.see("mine: done")
        self.keep("mine")

    def review(self) -> None:
        """Confirm one, discard one, take that back, and say that it was the word."""
        self.press("5")
        self.see("pending by")
        found = re.search(r"(\d+) pending", self.window.screen())
        assert found, self.window.screen()
        for key, at in zip("cduw", (2, 3, 2, 3), strict=True):
            self.press(key)
            self.see(f"{at} of {found[1]}")
        self.keep("review")

    def export(self) -> None:
        self.press("8")
        self.see("how many false wakes a day?")
        self.press("e")
        self.see("ONNX, float32")
        self.press("o")
        self.see("into the folder")
        self.press("Enter")
        self.see(" as onnx, ")
        self.keep("export")
        self.leave()
        self.run("ls workspace/runs/002*/export/onnx", "manifest.json")
        self.run("wakeword-tui runs", "002-")
        self.keep("runs")


def recordings(folder: Path, data: Path) -> None:
    """What a newcomer has: clips by what is said and by who says it, and tapes that fool it."""
    for clip in clips_at(data / "manifest.csv", ""):
        place = folder / FOLDERS[clip.label] / clip.group
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip.path, place / clip.path.name)
    (folder / "radio").mkdir()
    for number in range(TAPES):
        sound, word = hiss(30.0, number), glide(500 + 5 * number)
        sound[15 * SAMPLE_RATE :][: len(word)] += word
        audio.write(folder / "radio" / f"radio-{number}.wav", sound)
    settings = {name: value for name, value in SETTINGS.items() if not name.startswith("data.")}
    recipe = override(Recipe(), {**settings, **LEARNS, "name": "quick"})
    (folder / "recipes" / "quick.toml").write_text(dump(recipe))


def spoken(folder: Path, data: Path) -> None:
    """What the demo would have voices speak: the beeps again."""
    place = folder / "workspace" / "demo-data" / "hey-jarvis"
    shutil.copytree(data, place)
    manifest = place / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",beep,", ",hey-jarvis,"))


@needs_tmux
def test_the_readme_and_keys_are_enough(
    tiny_data: Path, tmp_path: Path, home: dict[str, str]
) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "recipes", clone / "recipes")
    if not MANIFEST:
        recordings(clone, tiny_data)
        spoken(clone, tiny_data)
    screens = Path(SCREENS) if SCREENS else tmp_path / "screens"
    screens.mkdir(parents=True, exist_ok=True)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = home | {"PATH": path, "PS1": f"{PROMPT} "}
    with tmux(tmp_path, ["sh", "-c", f"cd {clone} && exec sh"], shell, (120, 36)) as window:
        newcomer = Newcomer(window, screens)
        newcomer.demo(to_its_end=bool(MANIFEST))
        if MANIFEST:
            newcomer.set_up("tinyconv", MANIFEST, WAKEWORD)
        else:
            newcomer.bring_recordings()
            newcomer.set_up("quick", "clips/manifest.csv", "beep")
        newcomer.train()
        newcomer.choose()
        newcomer.mine("" if MANIFEST else "radio")
        newcomer.review()
        newcomer.export()
