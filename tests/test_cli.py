"""The command line: what it prints where, how it exits, and what it leaves unimported."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import numpy as np
import pytest
from faults import spoil
from test_queue_store import session
from tiny import tiny_recipe

from engine import audio
from engine.errors import DataError
from engine.events import (
    Emit,
    JobFinished,
    JobStarted,
    PhaseChanged,
    Progressed,
    Record,
    Stepped,
    Warned,
)
from engine.jobs import Control
from engine.metrics import OperatingPoint, StreamScores
from engine.queue_store import QueueStore
from engine.recipe import DetectorSettings, Evaluate, Recipe
from engine.recipe_file import dump, load, override
from engine.report import ClipScore, Measured, Report, measure
from engine.runs import EventLog, Run, Workspace, read_events
from wakeword_tui.__main__ import main, parser
from wakeword_tui.commands import demo, evaluate, output, progress, recipes, train
from wakeword_tui.commands.arguments import audio as audio_of
from wakeword_tui.commands.report import measured_on, render
from wakeword_tui.commands.signals import Interrupted
from wakeword_tui.config import config_path

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "numpy", "scipy", "matplotlib", "textual.app", "onnxruntime"}


def one_split(*, streams: bool = True) -> Measured:
    """50 wake words of which anna's 2 are missed, and 1 alarm in 2 h, unless without streams."""
    clips = [ClipScore(0.9, 0.9, True, "bert") for _ in range(48)]
    clips += [ClipScore(0.4, 0.4, True, "anna") for _ in range(2)]
    clips += [ClipScore(0.1, 0.1, False, "carl") for _ in range(50)]
    stream = StreamScores(np.array([0.0, 0.0, 0.8, 0.8, 0.0]), 7200.0)
    point = OperatingPoint(0.7, 1.0)
    return measure(clips, [stream] if streams else [], point, DetectorSettings(), 0.08, Evaluate())


def finished_run(home: Workspace, name: str, fold: int = 0, *, streams: bool = True) -> Run:
    """A run with the report that `one_split` gives."""
    recipe = override(Recipe(), {"name": name, "data.fold": fold, "data.wakeword": "jarvis"})
    run = home.create(recipe)
    report = Report(
        recipe_sha256="ab",
        fold=fold,
        parameters=20_480,
        macs=3_100_000,
        latency_ms={"p50": 0.8, "p95": 1.1},
        features_ms=0.3,
        checkpoint_sha256="cd",
        operating_point=OperatingPoint(0.7, 1.0),
        validation=one_split(),
        test=one_split(streams=streams),
    )
    run.report.write_text(report.to_json())
    return run


@pytest.mark.parametrize("words", ["--help", "demo --help", "runs prune --help", "recipe --help"])
def test_help_explains(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(words.split())
    assert "wakeword-tui" in capsys.readouterr().out


def test_workspace_is_taken_before_and_after_the_command(tmp_path: Path) -> None:
    for words in (["--workspace", "w", "runs"], ["runs", "--workspace", "w"]):
        assert parser().parse_args(words).workspace == "w"
    assert parser().parse_args(["runs"]).workspace is None


def test_workspace_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAKEWORD_HOME", str(tmp_path / "home"))
    assert main(["paths", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == str(tmp_path / "home" / "runs")


def test_the_command_line_chooses_the_sound_else_the_config_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert audio_of(parser().parse_args([])) == "auto"
    config_path().parent.mkdir()
    config_path().write_text('audio = "pipe"')
    assert audio_of(parser().parse_args([])) == "pipe"
    assert audio_of(parser().parse_args(["--audio", "microphone:usb"])) == "microphone:usb"


@pytest.mark.parametrize("words", ["listen 3", "record --speaker anna"])
@pytest.mark.parametrize("sound", ["--audio none", "--source none"])
def test_the_sound_is_chosen_before_a_command_or_after_it(words: str, sound: str) -> None:
    assert audio_of(parser().parse_args([*words.split(), *sound.split()])) == "none"
    before = ["--audio", "none", *words.split()]
    assert audio_of(parser().parse_args(before)) == "none"
    assert audio_of(parser().parse_args([*before, *sound.split()[:1], "pipe"])) == "pipe"


@pytest.mark.parametrize("words", ["paths", "runs", "recipe show", "--version"])
def test_light_commands_import_nothing_heavy(words: str, tmp_path: Path) -> None:
    code = (
        "import sys; from wakeword_tui.__main__ import main\n"
        f"try: main({words.split()!r})\n"
        "except SystemExit: pass\n"
        f"sys.exit(','.join({HEAVY!r} & sys.modules.keys()) or 0)"
    )
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stderr.strip() == ""
    assert done.returncode == 0


@pytest.mark.parametrize(
    "words",
    ["train", "train a.toml --resume 1", "train --resume 1 --folds", "evaluate", "nonsense", ""]
    + [f"evaluate --pool 1 2 --{option} x" for option in ("plots", "out", "data")],
)
def test_wrong_usage_exits_2(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words.split())
    assert "usage: wakeword-tui" in capsys.readouterr().err


def test_five_mistakes_are_named_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(
        '[train]\nlearning = 1\nlr = "fast"\nepochs = -1\n[model]\narch = "cnn"\n[fish]\nx = 1\n'
    )
    assert main(["recipe", "check", str(bad)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    for path in ("train.learning", "train.lr", "train.epochs", "model.arch", "fish"):
        assert f"  {path}: " in told.err
    assert "hint:" in told.err
    assert "Traceback" not in told.err


def test_an_unknown_run_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "7", "--workspace", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: no run '7'")


def test_a_bug_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("wakeword_tui.commands.recipes.schema", lambda: 1 // 0)
    assert main(["recipe", "schema"]) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_every_packaged_recipe_is_good() -> None:
    assert {load(path).name for path in (ROOT / "recipes").glob("*.toml")} >= {"demo", "tinyconv"}


def test_the_demo_trains_the_quick_start() -> None:
    quickstart = load(ROOT / "recipes" / "quickstart.toml")
    data = {"data.manifest": "/clips/hey-jarvis/manifest.csv", "data.wakeword": "hey-jarvis"}
    manifest = Path("/clips/hey-jarvis/manifest.csv")
    assert demo.demo_recipe(manifest) == override(quickstart, data)


def test_the_recipe_page_has_not_drifted() -> None:
    written = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    assert written == recipes.docs(), "run: wakeword-tui recipe docs > docs/recipe.md"


def test_show_prints_a_recipe_that_reads_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipe", "show", "--set", "train.lr=0.001"]) == 0
    (tmp_path / "shown.toml").write_text(capsys.readouterr().out)
    assert load(tmp_path / "shown.toml") == override(Recipe(), {"train.lr": 0.001})


def test_runs_are_listed_and_pruned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Workspace(tmp_path)
    finished_run(home, "first")
    home.create(Recipe())
    finished_run(home, "second")
    assert main(["runs", "--workspace", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["001-first", "finished", "4.0"]
    assert main(["runs", "prune", "--keep", "1", "--workspace", str(tmp_path)]) == 0
    assert [run.name for run in home.runs()] == ["003-second"]


def test_pruning_spares_what_a_mining_goes_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Workspace(tmp_path)
    miners = [finished_run(home, name) for name in ("broken-off", "through", "other")]
    store = QueueStore(home.queue)
    for number, miner in enumerate(miners[:2]):
        begun = store.begin_session(replace(session(), model=miner.best))
        store.commit_progress(begun.id, 30.0, [], before_s=0.0, done=bool(number))
    store.close()
    prune = ["runs", "prune", "--keep", "0", "--workspace", str(tmp_path)]
    assert main(prune) == 0
    assert home.runs() == [miners[0]]
    assert "1 beyond --keep stay" in capsys.readouterr().out
    spoil(home.queue)
    assert main(prune) == 1
    assert home.runs() == [miners[0]]
    assert "cannot tell which runs a mining goes on with" in capsys.readouterr().err


def test_a_report_that_cannot_be_read_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Workspace(tmp_path).create(Recipe())
    run.report.write_text("")
    assert main(["--workspace", str(tmp_path), "runs"]) == 0
    assert "unreadable" in capsys.readouterr().out
    assert main(["--workspace", str(tmp_path), "evaluate", "--pool", "1"]) == 1
    told = capsys.readouterr().err
    assert "has no report: it cannot be read" in told
    assert run.resuming() in told


def test_runs_list_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished_run(Workspace(tmp_path), "first")
    assert main(["--workspace", str(tmp_path), "runs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["test"]["missed"] == 2


def test_stop_says_when_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "stop", "--workspace", str(tmp_path)]) == 0
    assert "nothing is running" in capsys.readouterr().out


def test_pooling_adds_the_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2 of 50 and 2 of 50 are 4 of 100; 1 alarm in 2 h and 1 in 2 h are 2 in 4 h."""
    home = Workspace(tmp_path)
    for fold in range(2):
        finished_run(home, f"f{fold}", fold)
    assert main(["evaluate", "--pool", "1", "2", "--workspace", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "4 of 100 wake words" in told
    assert "2 in 4.00 h" in told
    assert "max_fpr 0.01" in told


def test_pooled_json_is_strict_without_streams(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_run(Workspace(tmp_path), "quiet", streams=False)
    assert main(["evaluate", "--pool", "1", "--json", "--workspace", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (told["missed"], told["fah_high"]) == (2, None)


def test_pooling_refuses_to_count_a_clip_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Workspace(tmp_path)
    for name in ("one", "two"):
        finished_run(home, name, fold=3)
    assert main(["evaluate", "--pool", "1", "2", "--workspace", str(tmp_path)]) == 1
    assert "two of the runs tested fold 3" in capsys.readouterr().err


def test_folds_that_a_manifest_makes_the_same_are_neither_trained_nor_pooled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rooms may be pinned to the test; what is counted there may not."""
    home = Workspace(tmp_path / "home")
    runs = [finished_run(home, f"f{fold}", fold) for fold in range(2)]
    pinned = tmp_path / "manifest.csv"
    rows = "".join(f"{p},{label},test\n" for p, label in (("a.wav", "beep"), ("b.wav", "rir")))
    pinned.write_text(f"path,label,split\n{rows}")
    for name in ("a.wav", "b.wav"):
        audio.write(tmp_path / name, np.zeros(16_000, np.float32))
    for run in runs:
        recipe = override(run.recipe(), {"data.manifest": str(pinned)})
        (run.path / "recipe.toml").write_text(dump(recipe))
    place = ["--workspace", str(home.root)]
    assert main(["evaluate", "--pool", "1", "2", *place]) == 1
    assert "each fold would test a.wav again" in capsys.readouterr().err
    chosen = ["--set", f"data.manifest={pinned}", "--set", "data.wakeword=beep"]
    assert main(["train", "recipes/tinyconv.toml", "--folds", *chosen, *place]) == 1
    assert "each fold would test a.wav again" in capsys.readouterr().err


def test_what_a_trial_shows_is_of_its_validation_and_proves_nothing(tmp_path: Path) -> None:
    run = finished_run(Workspace(tmp_path), "tried")
    report = Report.from_json(run.report.read_text())
    assert "proved" in render(report)
    trial = render(replace(report, split="validation"), measured_on(report, again=True))
    assert "proved" not in trial
    assert measured_on(replace(report, split="validation"), again=True).startswith("Validation of")


def test_what_was_judged_on_validation_is_not_pooled_with_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_run(Workspace(tmp_path), "tried")
    run.report.write_text(
        run.report.read_text().replace('"split": "test"', '"split": "validation"')
    )
    assert main(["evaluate", "--pool", "1", "--workspace", str(tmp_path)]) == 1
    assert "001-tried was judged on its validation split" in capsys.readouterr().err


def test_thresholds_for_different_targets_are_not_pooled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Workspace(tmp_path)
    strict, loose = (finished_run(home, f"f{fold}", fold) for fold in range(2))
    loose.report.write_text(
        strict.report.read_text().replace('"target_fah": 1.0', '"target_fah": 4.0')
    )
    assert main(["evaluate", "--pool", "1", "2", "--workspace", str(tmp_path)]) == 1
    assert "frozen for 1 to 4 FAH" in capsys.readouterr().err


def test_a_dry_run_says_what_a_training_takes_and_makes_nothing(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """10 and 10 words of 0.8 s, 66.5 s of streams and rooms: 82.5 s are 2.6 MB as int16.

    Words are learned in ten steps before the ten of the training, for each fold.
    """
    (tmp_path / "my.toml").write_text(
        f'[data]\nmanifest = "{tiny_data}"\nwakeword = "beep"\n'
        "[train]\nepochs = 2\nsteps_per_epoch = 5\nbatch_size = 4\nthreads = 1\n"
        'words_steps = 10\ndevice = "cpu"\n[targets]\nflash_kb = 10.0\n'
    )
    words = ["--workspace", str(tmp_path / "home"), "train", str(tmp_path / "my.toml"), "--dry-run"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "50,905 parameters" in told
    assert "3 MB of audio, to be packed" in told
    assert "clips/s of synthetic audio on cpu" in told
    assert "warning: the weights take 55 kB as INT8, over targets.flash_kb = 10" in told
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cost"]["parameters"] == 50_905
    assert found["audio"]["hours"]["train"]["speech"] == pytest.approx(24 / 3600)
    assert main([*words, "--folds", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"] == 5
    pace, clips = told["pace"], (10 + 2 * 5) * 4
    one_s = clips / pace["clips_per_s"] + told["audio"]["scored_s"] / pace["scored_per_s"]
    assert told["training_s"] == pytest.approx(5 * one_s)  # the folds are alike
    assert main([*words, "--set", "data.manifest=nowhere"]) == 1
    assert "nowhere does not exist" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_a_finished_run_is_not_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 alarm in 2 h: 4.74 h of stream prove 1/h at 95 %, so 2.74 h are still missing."""
    finished_run(Workspace(tmp_path), "done")
    assert main(["train", "--resume", "1", "--workspace", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert "finished already" in told.err
    assert "2 of 50 wake words" in told.out
    assert "2.74 h more" in told.out
    assert "anna" in told.out


def test_a_checkpoint_is_found_by_path_or_by_run(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    run = home.create(Recipe())
    run.best.write_bytes(b"")
    assert evaluate.find_checkpoint(home, str(run.best)) == (run.best, None)
    assert evaluate.find_checkpoint(home, "1") == (run.best, run)


def test_a_run_is_compared_at_the_threshold_of_its_report(tmp_path: Path) -> None:
    assert evaluate.reported_at(Workspace(tmp_path).create(Recipe())) is None
    run = finished_run(Workspace(tmp_path), "done")
    assert evaluate.reported_at(run) == OperatingPoint(0.7, 1.0)


def test_a_busy_workspace_gets_no_empty_run(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    with home.lock(), pytest.raises(Exception, match="is training"):
        train.trained(home, Recipe())
    assert home.runs() == []


def test_of_two_that_resume_a_run_at_once_the_second_leaves_its_events_alone(
    tiny_data: Path, tmp_path: Path
) -> None:
    """The second begins while the first still imports torch."""
    run = Workspace(tmp_path).create(tiny_recipe(tiny_data))
    words = ["train", "--resume", "1", "--workspace", str(tmp_path)]
    command = [sys.executable, "-m", "wakeword_tui", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        time.sleep(1.0)
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert sorted((first.returncode, second.returncode)) == [0, 1]
    events = [record.event for record in read_events(run.events)]
    assert [type(events[0]), type(events[-1])] == [JobStarted, JobFinished]


def test_a_refused_resume_leaves_the_events_of_the_holder_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Workspace(tmp_path)
    run = home.create(Recipe())
    log = EventLog(run.events)
    log.append(PhaseChanged("train"))
    before = run.events.stat().st_ino, run.events.read_bytes()
    with home.lock():
        assert main(["train", "--resume", "1", "--workspace", str(tmp_path)]) == 1
    log.close()
    assert "is training in" in capsys.readouterr().err
    assert (run.events.stat().st_ino, run.events.read_bytes()) == before


def test_perform_returns_what_the_verb_returns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def verb(emit: Emit, control: Control) -> int:
        emit(PhaseChanged("pack"))
        emit(Warned("two clips are silent", "remove them"))
        return 7

    assert progress.perform(Workspace(tmp_path), "count", verb) == 7
    told = capsys.readouterr()
    assert told.err == "pack ...\nwarning: two clips are silent\n  hint: remove them\n"
    assert told.out == ""


def test_perform_raises_what_the_verb_raises(tmp_path: Path) -> None:
    def verb(emit: Emit, control: Control) -> None:
        raise DataError("no clips", "record some")

    with pytest.raises(DataError, match="no clips"):
        progress.perform(Workspace(tmp_path), "fail", verb)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_at_the_next_step(tmp_path: Path, signum: signal.Signals) -> None:
    """The verb signals its own process, then ticks until the main thread has asked it to stop."""

    def verb(emit: Emit, control: Control) -> None:
        os.kill(os.getpid(), signum)
        while True:
            control.tick()

    before = signal.getsignal(signum)
    with pytest.raises(Interrupted) as stopped:
        progress.perform(Workspace(tmp_path), "wait", verb)
    assert stopped.value.signum == signum
    assert signal.getsignal(signum) is before


def test_a_stop_after_the_last_step_only_keeps_what_would_follow_from_beginning(
    tmp_path: Path,
) -> None:
    def verb(emit: Emit, control: Control) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 7

    assert progress.perform(Workspace(tmp_path), "last", verb) == 7
    with pytest.raises(Interrupted):
        progress.perform(Workspace(tmp_path), "first", verb, followed=True)


def test_a_stop_while_a_fold_is_exported_begins_no_other_and_says_how_to(
    tiny_data: Path, tmp_path: Path
) -> None:
    home, recipe = Workspace(tmp_path / "home"), tmp_path / "tiny.toml"
    recipe.write_bytes(dump(tiny_recipe(tiny_data)).encode())
    words = ["train", str(recipe), "--folds", "--set", "train.epochs=1"]
    command = [sys.executable, "-m", "wakeword_tui", *words, "--workspace", str(home.root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        assert "export ...\n" in iter(training.stderr.readline, "")
        training.terminate()
        told = training.stderr.read()
    assert training.returncode == 128 + signal.SIGTERM
    assert [run.name for run in home.runs()] == ["001-tiny-f0"]
    left = [line for line in told.splitlines() if line.startswith("then with: ")]
    assert len(left) == 4
    assert left[0].endswith("--set train.epochs=1 --set data.fold=1 --set name=tiny-f1")


def teller(*, live: bool) -> tuple[progress.Teller, io.StringIO, list[float]]:
    """A teller on a stream and a clock of our own."""
    stream, now = io.StringIO(), [0.0]
    return progress.Teller(stream, live, clock=lambda: now[0]), stream, now


def test_a_terminal_gets_a_bar_with_the_time_left() -> None:
    """25 of 100 files in 10 s leave 30 s."""
    subject, stream, now = teller(live=True)
    subject.tell([Record(1, 0.0, Progressed("pack", 0, 100, "files"))])
    now[0] = 10.0
    subject.tell([Record(2, 0.0, Progressed("pack", 25, 100, "files"))])
    assert stream.getvalue().endswith(
        "\r\x1b[Kpack     [######..................]  25% 25/100 files  30s left"
    )


def test_elsewhere_progress_is_a_line_now_and_then() -> None:
    subject, stream, now = teller(live=False)
    for second in range(60):
        now[0] = float(second)
        step = Stepped(second, 0, 0.5, 1e-3, 1200.0, 10.0, 0.0, 60.0 - second)
        subject.tell([Record(second, 0.0, step)])
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert "loss 0.5000" in lines[0]
    assert "\x1b" not in stream.getvalue()


def test_a_job_says_where_it_resumed() -> None:
    subject, stream, _ = teller(live=False)
    subject.tell([Record(1, 0.0, JobStarted("train", "001-x", "cpu", 100, 40))])
    assert stream.getvalue() == "train 001-x on cpu, 100 steps, resumed at step 40\n"


def test_a_reader_that_went_away_ends_nothing() -> None:
    code = "from wakeword_tui.commands.output import say\nfor _ in range(99999): say('x' * 99)"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def into(stdout: TextIO, *words: str) -> "subprocess.CompletedProcess[str]":
    """A command whose results go to a file."""
    command = [sys.executable, "-m", "wakeword_tui", *words]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.parametrize("words", ["paths", "runs --json", "recipe schema"])
def test_a_result_that_finds_no_room_is_an_error(words: str, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = into(full, *words.split(), "--workspace", str(tmp_path))
    assert done.returncode == 1
    first, hint = done.stderr.splitlines()
    assert first == "error: the result was not written: No space left on device"
    assert hint.startswith("  hint: free space")


def test_in_a_terminal_that_was_lost_a_result_is_no_error(tmp_path: Path) -> None:
    terminal, ours = os.openpty()
    with open(ours, "w") as lost:  # noqa: PTH123
        os.close(terminal)
        assert into(lost, "paths", "--workspace", str(tmp_path)).returncode == 0


def test_a_verb_whose_results_find_no_room_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(progress.Teller):
        def tell(self, records: list[Record]) -> None:
            if records:
                output.say("heard")

    ended = list[bool]()

    def verb(emit: Emit, control: Control) -> None:
        emit(PhaseChanged("listen"))
        try:
            while True:
                control.tick()
        finally:
            ended.append(True)

    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(DataError, match="not written"):
            progress.perform(Workspace(tmp_path), "listen", verb, tell=Full)
    assert ended == [True]


def test_table_aligns_names_left_and_numbers_right() -> None:
    assert output.table(("run", "FRR"), [("a", "4"), ("bcd", "12")]).splitlines() == [
        "run  FRR",
        "a      4",
        "bcd   12",
    ]


def test_phases_that_come_again_are_told_once() -> None:
    subject, stream, _ = teller(live=False)
    phases = ("train", "validate", "train", "validate", "test")
    subject.tell([Record(n, 0.0, PhaseChanged(phase)) for n, phase in enumerate(phases)])
    assert stream.getvalue().splitlines() == ["train ...", "validate ...", "test ..."]


def recordings(root: Path) -> Path:
    """Ten speakers who say jarvis once each, a stream each, and a text file named .wav."""
    time_s = np.arange(16_000) / 16_000
    word = np.where((time_s > 0.3) & (time_s < 0.8), np.sin(2 * np.pi * 440 * time_s), 0.0)
    for speaker in range(10):
        for folder in ("positive", "streams"):
            place = root / folder / f"speaker{speaker}"
            place.mkdir(parents=True)
            audio.write(place / "1.wav", (0.1 + 0.05 * speaker) * word.astype(np.float32))
    (root / "positive" / "speaker0" / "bad.wav").write_text("no audio")
    return root


def test_data_check_counts_and_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = recordings(tmp_path / "data")
    words = ["data", "check", str(place), "--wakeword", "jarvis", "--workspace", str(tmp_path)]
    code = main([*words, "--json"])
    health = json.loads(capsys.readouterr().out)
    assert health["labels"][0]["label"] == "jarvis"
    assert health["labels"][0]["clips"] == 10
    assert main(words) == code
    assert "bad.wav" in capsys.readouterr().out


def test_a_file_whose_name_is_no_text_is_told_by_data_check_and_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = recordings(tmp_path / "data")
    (place / "positive" / "speaker0" / "bad.wav").rename(
        place / "positive" / os.fsdecode(b"caf\xe9.wav")
    )
    home = ["--workspace", str(tmp_path)]
    assert main(["data", "check", str(place), *home]) == 0
    assert "caf?.wav: no name in UTF-8" in capsys.readouterr().out
    words = ["data", "import", str(place / "positive"), "--label", "jarvis", *home]
    assert main([*words, "--out", str(tmp_path / "clips")]) == 0
    assert "caf?.wav: no name in UTF-8" in capsys.readouterr().out


def test_data_import_makes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = recordings(tmp_path / "phone") / "positive"
    out = tmp_path / "clips"
    assert main(["data", "import", str(source), "--label", "jarvis", "--out", str(out)]) == 0
    assert "10 recordings added" in capsys.readouterr().out
    assert len((out / "manifest.csv").read_text().splitlines()) == 11


@pytest.mark.parametrize(
    ("words", "code"),
    [("runs >&-", 0), ("runs <&- >&- 2>&-", 0), ("paths >&-", 0), ("<&- >/dev/null", 2)],
)
def test_a_closed_stream_is_nobody_who_reads(tmp_path: Path, words: str, code: int) -> None:
    line = f"{shlex.quote(sys.executable)} -m wakeword_tui --workspace {tmp_path} {words}"
    told = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert told.returncode == code
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ("data.wakeword=nosuch", "no clips of the wake word 'nosuch'"),
        ("data.manifest=/no/such", "/no/such does not exist"),
        ("data.wakeword=", "data.wakeword is not set"),
    ],
)
def test_no_run_is_made_of_a_mistake_in_the_data(
    tiny_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changed: str,
    wrong: str,
) -> None:
    chosen = [f"data.manifest={tiny_data}", "data.wakeword=beep", changed]
    sets = [word for one in chosen for word in ("--set", one)]
    place = ["--workspace", str(tmp_path)]
    assert main([*place, "train", "recipes/tinyconv.toml", *sets]) == 1
    assert wrong in capsys.readouterr().err
    assert Workspace(tmp_path).runs() == []
