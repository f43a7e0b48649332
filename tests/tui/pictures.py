"""Takes the pictures of the guide from the running app.

python tests/tui/pictures.py FOLDER [NAME...]        all of them, or those that are named

In FOLDER an afternoon happens, for real and with nobody's recordings: voices of espeak-ng say "hey
jarvis", a detector is trained on them, a miner and a judge work on it, and a virtual sound card is
spoken to. Only the numbers of the study are made. What is in FOLDER already is used again. Each
screen is Textual's own screenshot, drawn by Chromium as `docs/NAME.png`. Wants the extra dev,
PulseAudio, Chromium and Fira Code, and half an hour of two cores.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from PIL import Image, ImageColor
from textual.pilot import Pilot
from textual.widgets import Input

from engine import audio
from engine.audio import SAMPLE_RATE, Waveform
from engine.events import Emit, JobStarted, TrialStarted
from engine.jobs import Control
from engine.queue_store import QueueStore
from engine.recipe import Recipe
from engine.recipe_file import dump, override
from engine.runs import Workspace
from tests.card import Card, sound_card
from tests.tui.play import LARGE, Story, play, see, until
from tests.tui.reviewing import panel, press
from tests.tui.scripted import stepped, validated
from tests.tui.studying import made_view, run_name, write_study
from wakeword_tui.__main__ import main as wakeword
from wakeword_tui.app import WakewordApp
from wakeword_tui.commands.demo import QUICKSTART, demo_data
from wakeword_tui.config import Config
from wakeword_tui.screens.record import RecordScreen
from wakeword_tui.searching import Searching
from wakeword_tui.store import Store
from wakeword_tui.theme import DARK

ROOT = Path(__file__).parents[2]
WORD = "hey-jarvis"
VOICES = Path("workspace/demo-data") / WORD
OTHERS = Path("others")
COLOURS = 48
TRIALS = 48
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def home() -> Workspace:
    """The workspace of the afternoon, in the working directory."""
    return Workspace(Path("workspace"))


def made() -> Workspace:
    """Another one, for a study of made numbers."""
    return Workspace(Path("made"))


def recipe(name: str, **changes: Any) -> Recipe:
    """The quick start on the voices of the demo, in larger batches."""
    manifest = VOICES.absolute() / "manifest.csv"
    data = {"data.manifest": str(manifest), "data.wakeword": WORD}
    return override(Recipe(), QUICKSTART | data | {"name": name, "train.batch_size": 96, **changes})


def sentry() -> Recipe:
    """The detector of the afternoon."""
    return recipe("hey-jarvis", **{"train.epochs": 12, "train.steps_per_epoch": 50})


def judge() -> Recipe:
    """A larger one, which has the last word."""
    return recipe("judge", **{"model.width": 1.4, "train.seed": 3, "train.steps_per_epoch": 60})


# What the afternoon begins with.


def prepare() -> None:
    """Let the voices speak, what is to be mined too, and write the recipe."""
    demo_data(home(), WORD.replace("-", " "))
    if not OTHERS.exists():
        words = ["synth", "hey travis", "--out", str(OTHERS), "--voices", "60", "--minutes", "30"]
        assert wakeword([*words, "--seed", "7"]) == 0
    Path("my.toml").write_text(dump(sentry()))
    if not Path("recordings").exists():
        for name, seconds in (("radio-monday", 660), ("radio-tuesday", 540), ("tv/news", 420)):
            path = Path("recordings") / f"{name}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            audio.write(path, broadcast(len(name), seconds))


def clips(folder: Path, kind: str, chance: np.random.Generator) -> Iterator[Waveform]:
    """Clips of a data folder in a random order, without end."""
    paths = sorted((folder / kind).rglob("*.*"))
    while True:
        yield audio.read(paths[chance.integers(len(paths))])


def broadcast(seed: int, seconds: float) -> Waveform:
    """Talk, in which somebody says something like the wake word now and then `(N,)`."""
    chance = np.random.default_rng(seed)
    talk, words = clips(OTHERS, "streams", chance), clips(OTHERS, "positive", chance)
    likes = clips(OTHERS, "negative", chance)
    parts: list[Waveform] = []
    while sum(map(len, parts)) < seconds * SAMPLE_RATE:
        parts += [next(talk)[: 30 * SAMPLE_RATE], next(likes), next(words), next(likes)]
    return np.concatenate(parts)[: round(seconds * SAMPLE_RATE)]


def spoken(kinds: str, gap_s: float, seed: int) -> Waveform:
    """Wake words ("w") and what sounds like them ("o"), in a quiet room `(N,)`."""
    chance = np.random.default_rng(seed)
    source = {"w": clips(VOICES, "positive", chance), "o": clips(VOICES, "negative", chance)}
    pause = np.zeros(round(gap_s * SAMPLE_RATE), dtype=np.float32)
    whole = np.concatenate([part for kind in kinds for part in (pause, next(source[kind]))])
    room = 0.001 * chance.standard_normal(len(whole)).astype(np.float32)
    return np.clip(0.7 * whole + room, -1, 1)


# The screens.


@dataclass
class Camera:
    """Takes pictures of an app, and speaks into its microphone."""

    card: Card

    async def take(self, app: WakewordApp, name: str) -> None:
        """Keep the screen as `docs/NAME.png`."""
        app.clear_notifications()
        await asyncio.sleep(0.3)
        svg = app.export_screenshot()
        Path(f"{name}.svg").write_text(svg, "utf-8")
        drawn(svg, ROOT / "docs" / f"{name}.png")

    @contextmanager
    def speaking(self, sound: Waveform) -> Iterator[None]:
        """Say something meanwhile."""
        thread = threading.Thread(target=self.card.say, args=(sound,), daemon=True)
        thread.start()
        yield


def drawn(svg: str, path: Path) -> None:
    """An SVG as a PNG with few colours."""
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    width, height = (
        float(number) for number in svg.split('viewBox="0 0 ', 1)[1].split('"')[0].split()
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "screen.html").write_text(f"<style>body {{margin: 0}}</style>{svg}", "utf-8")
        size = f"{round(width)},{round(height)}"
        subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--default-background-color=00000000", f"--window-size={size}",
             f"--screenshot={place / 'screen.png'}", str(place / "screen.html")],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        with Image.open(place / "screen.png") as picture:
            reduced(picture.convert("RGB"), svg).save(path, optimize=True)
    sys.stdout.write(f"{path.name}  {path.stat().st_size / 1000:.0f} kB\n")


def reduced(picture: Image.Image, svg: str) -> Image.Image:
    """A picture in few colours: those that the screen names, and the shades of its letters."""
    named = {ImageColor.getrgb(name)[:3] for name in re.findall("#[0-9a-f]{6}", svg)}
    found = picture.getcolors(picture.width * picture.height)
    often = [colour for _, colour in sorted(found, reverse=True)]
    palette = [*(c for c in often if c in named), *(c for c in often if c not in named)][:COLOURS]
    frame = Image.new("P", (1, 1))
    frame.putpalette([level for colour in palette for level in colour])
    return picture.quantize(palette=frame, dither=Image.Dither.NONE)


Scene = Callable[[Camera, WakewordApp, "Pilot[int]"], Any]


async def when(what: Callable[[], object], within_s: float = 3600.0) -> None:
    """Wait for the work of a thread, and leave it the processor meanwhile."""
    ends_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < ends_s, "it never came about"
        await asyncio.sleep(0.5)


async def setup(camera: Camera, app: WakewordApp, pilot: Pilot[int]) -> None:
    """The recipe, its help, what it costs and what is wrong with its data."""
    await see(app, pilot, "parameters")
    await pilot.press("h")
    await see(app, pilot, "words of")
    await pilot.press("t")
    await see(app, pilot, "clips/s", within_s=120)
    await press(pilot, "tab", *"jjj")
    await pilot.pause(1.0)
    await camera.take(app, "setup")


async def train(camera: Camera, app: WakewordApp, pilot: Pilot[int]) -> None:
    """A training that goes on, shortly before its end; it is waited for."""
    app.begin(sentry())
    store, last = app.desk.store, sentry().epochs * sentry().train.steps_per_epoch - 40
    await when(lambda: store.step is not None and store.step.step > last)
    await camera.take(app, "train")
    await when(lambda: app.desk.live is None)


async def search(camera: Camera, app: WakewordApp, pilot: Pilot[int]) -> None:
    """A study of made numbers: one of so many trials that are worth it takes a night."""
    job = app.desk.jobs.start("search", a_trial)
    app.follow(Searching(job, Store(), study="mel40", home=app.desk.workspace))
    await pilot.press("3")
    await see(app, pilot, f"1 of {TRIALS + 1}")
    await press(pilot, *"jjjjjj")
    await asyncio.sleep(2.0)
    await camera.take(app, "search")


def a_trial(emit: Emit, control: Control) -> None:
    """What the last trial tells up to its middle."""
    emit(TrialStarted("mel40", TRIALS, run_name(TRIALS), {"train.lr": 0.004}, 60))
    emit(JobStarted("train", run_name(TRIALS), "cpu, 2 threads", 2000))
    for step in range(10, 910, 10):
        emit(stepped(step))
        if step % 100 == 0:
            emit(validated(step // 100))
    while True:
        control.tick()
        time.sleep(0.1)


async def record(camera: Camera, app: WakewordApp, pilot: Pilot[int]) -> None:
    """A good take, after two that are kept."""
    app.desk.draft.set("data.wakeword", WORD)
    app.desk.draft.set("data.manifest", "clips")
    app.action_record()
    await see(app, pilot, "who speaks?")
    await pilot.press(*"anna", "enter")
    await see(app, pilot, "h e y   j a r v i s")
    booth = next(s for s in app.screen_stack if isinstance(s, RecordScreen)).booth
    assert booth is not None
    await asyncio.sleep(2.0)  # until the microphone is open
    for n in range(3):
        await pilot.press("enter")
        await see(app, pilot, "● recording")
        with camera.speaking(spoken("w", 0.3, 0)):
            await until(pilot, lambda: booth.stage == "heard", 20)
        if n < 2:
            await press(pilot, "k")
    await see(app, pilot, "enter  keep")
    await camera.take(app, "record")


async def mine(camera: Camera, app: WakewordApp, pilot: Pilot[int]) -> None:
    """Two recordings are heard, a third one half."""
    await pilot.press("4", "o", "ctrl+u", *"recordings", "enter")
    await see(app, pilot, "radio-monday")
    await press(pilot, *"jajajas")
    await when(lambda: halfway(app))
    await camera.take(app, "mine")
    await when(lambda: app.desk.miner.job is None)


def halfway(app: WakewordApp) -> bool:
    rows = app.desk.miner.rows()
    return len(rows) == 3 and sum(row.share for row in rows) > 2.3


async def review(camera: Camera, app: WakewordApp, pilot: Pilot[int]) -> None:
    """Some were decided on; the next one plays."""
    await pilot.press("5")
    await see(app, pilot, "vol 100 %")
    await press(pilot, *"ccdcwcfc")
    await until(pilot, lambda: panel(app).clip is not None)
    await see(app, pilot, "fired")
    await pilot.press("r")
    await asyncio.sleep(0.8)
    await camera.take(app, "review")


async def live(camera: Camera, app: WakewordApp, pilot: Pilot[int]) -> None:
    """A voice says the wake word and what sounds like it."""
    await pilot.press("6", "s")
    await see(app, pilot, "listening for")
    with camera.speaking(spoken("wowowwoow", 1.6, 4)):
        await pilot.pause(18.0)
        await pilot.press("j", "f")
        await pilot.pause(1.5)
    await camera.take(app, "live")
    await pilot.press("s")


async def cascade(camera: Camera, app: WakewordApp, pilot: Pilot[int]) -> None:
    """What a larger student adds as a judge."""
    await pilot.press("7", "e")
    await see(app, pilot, "a URL, or a run")
    app.screen.query(Input).first().value = home().find("judge").name
    await pilot.press("enter", "d")
    await see(app, pilot, "the sentry")
    await pilot.press("end", "enter", "s")
    await see(app, pilot, "alone, same misses", within_s=300)
    await pilot.pause(0.5)
    await camera.take(app, "cascade")


async def bench(camera: Camera, app: WakewordApp, pilot: Pilot[int]) -> None:
    """The trade between misses and false wakes."""
    await pilot.press("8")
    await see(app, pilot, "threshold", "confusable")
    await pilot.press("end")
    await pilot.pause(1.0)
    await camera.take(app, "bench")


async def log(camera: Camera, app: WakewordApp, pilot: Pilot[int]) -> None:
    """What became of the first run."""
    app.open_run(home().find("1").name)
    await pilot.press("9")
    await see(app, pilot, "log of run")
    await pilot.pause(0.5)
    await camera.take(app, "log")


SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (train, setup, record, mine, review, live, bench, log, search, cascade)
}


def ready(name: str) -> None:
    """What a scene stands on."""
    if name != "train" and not home().runs():
        wakeword(["train", "my.toml"])
    if name == "cascade" and not any("judge" in run.name for run in home().runs()):
        Path("judge.toml").write_text(dump(judge()))
        wakeword(["train", "judge.toml"])
    if name == "record":
        shutil.rmtree("clips", ignore_errors=True)
    if name == "search":
        shutil.rmtree(made().root, ignore_errors=True)
        write_study(made(), made_view(TRIALS, running=True))
    if name == "mine":
        home().queue.unlink(missing_ok=True)
    if name == "review":
        store = QueueStore(home().queue)
        while store.undo():
            pass
        store.close()


def main() -> None:
    """Take the pictures that are named, or all."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    os.environ |= {"TMUX": "yes", "XDG_CONFIG_HOME": str(folder / "config")}
    os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    prepare()
    with tempfile.TemporaryDirectory(prefix="card-") as place, sound_card(Path(place)) as card:
        os.environ["PULSE_SERVER"] = card.tcp
        for name in sys.argv[2:] or SCENES:
            ready(name)
            story: Story = partial(SCENES[name], Camera(card))
            options = {
                "recipe_path": Path("my.toml"),
                "config": Config(theme=DARK.name, audio="microphone"),
            }
            play(made() if name == "search" else home(), story, LARGE, **options)


if __name__ == "__main__":
    main()
