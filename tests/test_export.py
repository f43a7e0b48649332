"""An export: it detects by itself what the app detects, and nothing about it is taken on trust."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import soundfile
from tiny import Trained, hiss, ignore, other_takes, padded, seconds, tone

from engine import audio, export_folder
from engine.agree import Agreement
from engine.audio import Waveform
from engine.checkpoint import load, save
from engine.detector import Detector, vote_levels
from engine.errors import CheckpointError, DataError
from engine.evaluate import evaluate
from engine.events import Event, ExportWritten, Warned
from engine.export import _move, _wrong, evaluate_export, export, most_flips
from engine.flips import Flip
from engine.jobs import Control
from engine.recipe import DetectorSettings
from engine.recipe_file import dump, override
from engine.report import Report
from engine.runs import Run, Workspace
from engine.scorer import Exported, ExportedHops, Scorer, scorer_of
from wakeword_tui.__main__ import main

GRAPHS = ("model.onnx", "student.onnx", "stream.onnx")
Heard = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def told(tiny_run: Trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An export of the tiny run, and what the command printed."""
    folder, printed = tmp_path_factory.mktemp("export") / "beep", io.StringIO()
    words = ["--workspace", str(tiny_run.home.root), "export", "1", "--out", str(folder)]
    with contextlib.redirect_stdout(printed):
        assert main(words) == 0
    return folder, printed.getvalue()


@pytest.fixture(scope="module")
def exported(told: tuple[Path, str]) -> Path:
    return told[0]


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """A copy of the export that may be spoilt."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


@pytest.fixture(scope="module")
def ten_minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hiss with a beep that rises every 23 s, in 16 bits."""
    sound = hiss(600, 3, 0.02)
    for number in range(25):
        low, high = 500.0 + 13 * number, 1500.0 + 11 * number
        word = padded(np.concatenate([tone(low, 0.2), tone(high, 0.2)]))
        at = seconds(5.21 + 23 * number)
        sound[at : at + len(word)] += word
    path = tmp_path_factory.mktemp("long") / "ten.wav"
    audio.write(path, sound)
    return path


def in_app(scorer: Scorer, rules: DetectorSettings, threshold: float, sound: Waveform) -> Heard:
    """Times and levels `(D, 2)` of what the app detects."""
    lattice, heard = scorer.grid, list[tuple[float, float]]()
    detector = Detector(rules, threshold, lattice.hop_s)
    for hop, score in enumerate(scorer.score(sound)):
        found = detector.push(float(score), lattice.window_s + hop * lattice.hop_s)
        heard += [(found.time_s, found.score)] if found else []
    return np.array(heard)


def by_example(folder: Path, source: str, piped: bytes = b"", size: int = 1 << 20) -> Heard:
    """Times and levels `(D, 2)` that example.py prints; what is piped goes in pieces of a size."""
    call = [sys.executable, str(folder / "example.py"), source]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdin is not None
        for at in range(0, len(piped), size):
            child.stdin.write(piped[at : at + size])
        printed, _ = child.communicate()
    assert child.returncode == 0
    lines = [line.split() for line in printed.decode().splitlines()]
    return np.array([(float(line[0]), float(line[-1])) for line in lines])


def eager(folder: Path, scorer: Scorer, sound: Waveform) -> float:
    """Move the threshold of an export to where it fires often in a sound; give it."""
    threshold, told = float(np.quantile(scorer.score(sound), 0.97)), export_folder.read(folder)
    rearm = {"threshold": threshold, "rearm_below": threshold}  # no hysteresis, as the tiny run has
    export_folder.seal(folder, told | {"detector": told["detector"] | rearm})
    return threshold


def pcm(path: Path) -> bytes:
    return bytes(soundfile.read(path, dtype="int16")[0].tobytes())


def test_the_example_hears_in_ten_minutes_what_the_app_hears(
    tiny_run: Trained, copied: Path, ten_minutes: Path
) -> None:
    scorer, sound = Scorer.of(load(tiny_run.run.best)), audio.read(ten_minutes)
    rules, threshold = tiny_run.recipe.detector, eager(copied, scorer, sound)
    heard = in_app(scorer, rules, threshold, sound)
    assert len(heard) > 10
    same = pytest.approx(heard, abs=0.006)  # times are printed to 10 ms; a hop is 80 ms
    assert in_app(scorer_of(copied), rules, threshold, sound) == same
    assert by_example(copied, str(ten_minutes)) == same
    assert by_example(copied, "-", pcm(ten_minutes)) == same


def test_the_example_smooths_and_votes_as_the_app_does(
    tiny_run: Trained, copied: Path, ten_minutes: Path
) -> None:
    scorer, sound = Scorer.of(load(tiny_run.run.best)), audio.read(ten_minutes)
    levels = vote_levels(scorer.score(sound), DetectorSettings(smooth_hops=3, votes=2, of=4))
    threshold, dip = float(np.quantile(levels, 0.95)), float(levels.std() / 4)
    rules = DetectorSettings(smooth_hops=3, votes=2, of=4, hysteresis=dip, refractory_s=0.7)
    told = export_folder.read(copied)
    known = {"threshold": threshold, **rules.model_dump(), "refractory_hops": 9}  # 0.7 s / 80 ms
    known["rearm_below"] = max(threshold - dip, threshold / 2)
    export_folder.seal(copied, told | {"detector": known})
    heard = in_app(scorer, rules, threshold, sound)
    assert len(heard) > 10
    assert by_example(copied, str(ten_minutes)) == pytest.approx(heard, abs=0.006)


@pytest.mark.parametrize("size", [333, 2560, 100_001])
def test_the_example_takes_pieces_of_any_size(tiny_run: Trained, copied: Path, size: int) -> None:
    """The last hop is half there, and a byte too many comes at the end."""
    sound = hiss(6, 1, 0.02)
    sound[seconds(3) : seconds(3.8)] += padded(np.concatenate([tone(500, 0.2), tone(1500, 0.2)]))
    eager(copied, Scorer.of(load(tiny_run.run.best)), sound)
    whole = audio.to_int16(sound).tobytes() + b"x"
    heard = by_example(copied, "-", whole, size)
    assert np.array_equal(heard, by_example(copied, "-", whole))
    assert len(heard)


def test_the_example_is_short_and_asks_for_another_rate(exported: Path, tmp_path: Path) -> None:
    assert len((exported / "example.py").read_text().splitlines()) <= 40
    soundfile.write(tmp_path / "a.wav", hiss(1, 0), 8000)
    said = []
    for words in ([str(tmp_path / "a.wav")], [str(tmp_path / "b.wav")], []):
        call = [sys.executable, str(exported / "example.py"), *words]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        said.append((done.returncode, done.stderr.strip().removeprefix(f"{tmp_path}/")))
    absent = (1, "give a WAV file that is there, or -")
    assert said == [(1, "a.wav is not of 16000 Hz"), absent, absent]


def test_every_graph_gives_the_golden_scores(exported: Path) -> None:
    golden, told = np.load(exported / "golden.npz"), export_folder.read(exported)
    near = pytest.approx(golden["scores"], abs=told["golden"]["tolerance"])
    for hearing in (Exported(exported / "model.onnx"), ExportedHops(exported / "stream.onnx")):
        assert hearing.push(golden["waveform"]) == near
    student = onnxruntime.InferenceSession(exported / "student.onnx")
    (logits,) = student.run(None, {"frames": golden["frames"][None]})
    assert 1 / (1 + np.exp(-logits)) == near
    assert len(logits) == 13
    assert np.ptp(golden["logits"]) > 0.01


def test_the_manifest_tells_what_a_listener_needs(tiny_run: Trained, exported: Path) -> None:
    told, report = export_folder.read(exported), tiny_run.run.report_json()
    assert report is not None
    point, test = report["operating_point"], report["test"]
    assert told["wake_word"] == "beep"
    assert told["detector"]["threshold"] == point["threshold"]
    assert told["audio"]["window_samples"] == 23_920  # 147 frames further, 160 x 147 + 400
    assert told["stream"]["silence_samples"] == 400  # 23,920 + 400 = 19 x 1,280
    assert told["stream"]["first_hop"] == 19
    assert {name: told["expected"][name] for name in ("fah", "frr", "hours", "clips")} == {
        name: test[name] for name in ("fah", "frr", "hours", "clips")
    }
    assert {"sources", "licences"} <= set(told["provenance"])
    for graph in GRAPHS:
        assert told["compared"][graph]["largest_difference"] < 1e-3
        assert told["compared"][graph]["flips"] == []
        assert told["compared"][graph]["windows"] > 200


def test_an_export_tells_no_path_of_the_machine(tiny_run: Trained, exported: Path) -> None:
    text = (exported / "manifest.json").read_text()
    assert str(tiny_run.home.root) not in text
    assert str(tiny_run.recipe.data.manifest) not in text


def test_the_command_says_what_was_found(told: tuple[Path, str]) -> None:
    folder, printed = told
    assert "001-tiny as onnx, " in printed
    assert "no decision differs from the checkpoint" in printed
    assert f"python3 {folder}/example.py recording.wav" in printed


def reseal(folder: Path, change: dict[str, Any]) -> None:
    """Change a manifest and give it the hash that fits, as no accident would."""
    told = json.loads((folder / "manifest.json").read_text()) | change
    told["sha256"] = export_folder._own_digest(told)
    (folder / "manifest.json").write_text(json.dumps(told))


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [*GRAPHS, "example.py", "frontend.npz", "golden.npz"])
def test_a_changed_byte_is_noticed_whatever_file_it_is_in(copied: Path, name: str) -> None:
    flip_a_byte(copied / name)
    for path in (copied, copied / "manifest.json", copied / "student.onnx"):
        with pytest.raises(CheckpointError, match=f"{name} was changed") as refused:
            scorer_of(path)
    assert "export the run again" in refused.value.hint


def test_a_changed_manifest_is_noticed(copied: Path) -> None:
    text = (copied / "manifest.json").read_text()
    (copied / "manifest.json").write_text(text.replace('"votes": 1', '"votes": 2'))
    with pytest.raises(CheckpointError, match=r"manifest\.json was changed"):
        scorer_of(copied)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": 2}, "is of version 2, this engine reads 1"),
        ({"version": "x"}, "is no manifest of an export"),
        ({"files": ["student.onnx"]}, "is no manifest of an export"),
        ({"files": {"student.onnx": {}}}, "is no manifest of an export"),
        ({"files": {"../beep/student.onnx": {"sha256": ""}}}, "names '../beep/student.onnx'"),
        ({"files": {"/etc/passwd": {"sha256": ""}}}, "names '/etc/passwd'"),
        ({"files": {"..": {"sha256": ""}}}, r"names '\.\.'"),
        ({"stream": {"file": "../stream.onnx"}}, r"names '\.\./stream\.onnx'"),
        ({"files": {}}, "none of the files that the manifest beside it lists"),
        ({"files": {"gone.bin": {"sha256": ""}}}, r"cannot read .*gone\.bin"),
        ({"model": {"identity": "another"}}, "of another model than the files beside it"),
    ],
)
def test_a_manifest_that_cannot_be_believed_is_refused(
    copied: Path, change: dict[str, Any], match: str
) -> None:
    reseal(copied, change)
    with pytest.raises(CheckpointError, match=match) as refused:
        scorer_of(copied)
    assert refused.value.hint


def test_a_graph_beside_the_manifest_of_another_program_is_no_export(copied: Path) -> None:
    (copied / "manifest.json").write_text('{"name": "a page"}')
    assert len(scorer_of(copied / "student.onnx").score(hiss(2, 0)))
    with pytest.raises(CheckpointError, match="no manifest of an export"):
        scorer_of(copied)


def test_a_name_that_is_a_link_to_elsewhere_is_refused(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("secret")
    (copied / "notes.txt").symlink_to(tmp_path / "elsewhere")
    export_folder.seal(copied, {})
    with pytest.raises(CheckpointError, match=r"names 'notes\.txt'"):
        export_folder.read(copied)


def run_with(tiny_run: Trained, root: Path, changes: dict[str, Any]) -> tuple[Run, Workspace]:
    """A copy of the run in another workspace, with another recipe in its best checkpoint."""
    shutil.copytree(tiny_run.home.cache, root / "cache")
    shutil.copytree(tiny_run.run.path, root / "runs" / tiny_run.run.name)
    home = Workspace(root)
    run = home.find("1")
    checkpoint = load(run.best)
    recipe = override(checkpoint.settings(), changes)
    save(run.best, replace(checkpoint, recipe=dump(recipe)))
    return run, home


def test_targets_that_are_exceeded_are_warned_of_and_the_older_export_makes_room(
    tiny_run: Trained, exported: Path, tmp_path: Path
) -> None:
    run, home = run_with(tiny_run, tmp_path / "home", {"targets.flash_kb": 0.5})
    out = Path(shutil.copytree(exported, tmp_path / "out"))
    events = list[Event]()
    export(run, "onnx", out, home, emit=events.append, control=Control())
    over = export_folder.read(out)["targets_exceeded"]
    assert "over targets.flash_kb = 0.5" in over[0]
    assert [event.message for event in events if isinstance(event, Warned)] == over
    assert sum(isinstance(event, ExportWritten) for event in events) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out"]
    shutil.copy(exported / "manifest.json", out)
    with pytest.raises(CheckpointError, match="of another model than the files beside it"):
        scorer_of(out)


def test_graphs_that_do_otherwise_are_kept_aside(
    tiny_run: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.export.EXPORT_TOLERANCE", -1.0)
    with pytest.raises(CheckpointError, match="away from the checkpoint") as refused:
        export(
            tiny_run.run, "onnx", tmp_path / "out", tiny_run.home, emit=ignore, control=Control()
        )
    assert str(tmp_path / "out.rejected") in refused.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["out.rejected"]
    assert export_folder.read(tmp_path / "out.rejected")["kind"] == "onnx"


def test_an_older_export_outlives_one_that_is_rejected_and_one_that_cannot_be_moved(
    tiny_run: Trained, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is of another model, and kept aside; the second is not there to be moved."""
    before = export_folder.read(copied)
    monkeypatch.setattr("engine.export.EXPORT_TOLERANCE", -1.0)
    with pytest.raises(CheckpointError, match="away from the checkpoint"):
        export(tiny_run.run, "onnx", copied, tiny_run.home, emit=ignore, control=Control())
    made = copied.parent / "made"
    made.mkdir()
    monkeypatch.setattr(Path, "chmod", lambda made, _: made.rmdir())
    with pytest.raises(DataError):
        _move(made, copied)
    assert export_folder.read(copied) == before
    assert sorted(path.name for path in copied.parent.iterdir()) == ["copy", "copy.rejected"]


def test_an_export_that_a_kill_caught_between_two_names_is_put_back(
    tiny_run: Trained, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = export_folder.read(copied)
    copied.rename(copied.with_name(".copy.being-replaced"))
    monkeypatch.setattr("engine.export.EXPORT_TOLERANCE", -1.0)
    with pytest.raises(CheckpointError, match="away from the checkpoint"):
        export(tiny_run.run, "onnx", copied, tiny_run.home, emit=ignore, control=Control())
    assert export_folder.read(copied) == before
    assert sorted(path.name for path in copied.parent.iterdir()) == ["copy", "copy.rejected"]


def agreement(flips: int, difference: float = 0.2) -> Agreement:
    flip = Flip("validation", "", 1.0, lost=False)
    return Agreement(1000, 0.5, 300, 200, difference, (flip,) * flips)


def test_int8_may_decide_otherwise_on_a_fiftieth_of_the_words_and_float_never() -> None:
    assert [most_flips("onnx-int8", words) for words in (10, 149, 200)] == [2, 2, 4]
    assert _wrong({"student.onnx": agreement(4)}, "onnx-int8") == ""
    assert "otherwise than the checkpoint 5 times" in _wrong({"a": agreement(5)}, "onnx-int8")
    assert _wrong({"a": agreement(0, 9e-4)}, "onnx") == ""
    assert "0.0011 away" in _wrong({"a": agreement(0, 1.1e-3)}, "onnx")
    assert "1 times" in _wrong({"a": agreement(1, 9e-4)}, "onnx")


def test_an_export_measures_as_its_checkpoint_does(
    tiny_run: Trained, exported: Path, tmp_path: Path
) -> None:
    assert tiny_run.recipe.data.manifest is not None
    theirs = other_takes(tiny_run.recipe.data.manifest, tmp_path / "theirs")
    home, quiet = Workspace(tmp_path), Control()
    report = evaluate_export(exported, theirs, home, emit=ignore, control=quiet)
    same = evaluate(tiny_run.run.best, theirs, home, emit=ignore, control=quiet)
    assert report.test.clips == 10
    assert (report.test.missed, report.test.clips) == (same.test.missed, same.test.clips)
    assert report.test.false_alarms == same.test.false_alarms
    assert report.test.pauc == pytest.approx(same.test.pauc, abs=1e-6)
    assert report.checkpoint_sha256 == same.checkpoint_sha256


def test_the_command_line_measures_an_export_on_named_data_only(
    tiny_run: Trained, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--workspace", str(tmp_path), "evaluate", str(exported)]
    assert main(words) == 1
    assert "name some with --data" in capsys.readouterr().err
    assert main([*words, "--data", str(tiny_run.recipe.data.manifest), "--json"]) == 0
    out, err = capsys.readouterr()
    assert Report.from_json(out).test.clips > 2
    assert "nobody sees whether any of" in err


OURS = {"made_by": "wakeword-tui 0.1", "version": 9, "files": {}}


def letters(folder: Path, told: dict[str, Any]) -> None:
    """A folder with a letter, and a manifest beside it."""
    folder.mkdir()
    (folder / "a.txt").write_text("dear")
    (folder / "manifest.json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda run, out: run.report.unlink(), "has no report: it is not finished"),
        (lambda run, out: (out / "letters").mkdir(parents=True), "is there, and is no export"),
        (lambda run, out: letters(out, {"files": {}}), "is there, and is no export"),
        (lambda run, out: letters(out, OURS), "is there, and is no export"),
        (lambda run, out: letters(out, {**OURS, "files": ["a.txt"]}), "has no report"),
        (lambda run, out: letters(Path(f"{out}.rejected"), {}), "rejected is there, and is no"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_any_work(
    tiny_run: Trained, tmp_path: Path, spoil: Callable[[Run, Path], None], match: str
) -> None:
    run = Run(Path(shutil.copytree(tiny_run.run.path, tmp_path / "001-tiny")))
    spoil(run, tmp_path / "out")
    if "report" in match:
        run.report.unlink(missing_ok=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=match):
        export(run, "onnx", tmp_path / "out", tiny_run.home, emit=ignore, control=Control())
    assert sorted(tmp_path.rglob("*")) == before
