"""`cascade` with real small models, and with the real judge behind HTTP."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judging import TOKEN, served
from tiny import Trained, hiss

from engine import audio
from engine.checkpoint import load, save
from engine.detector import vote_levels
from engine.errors import DataError
from engine.local_judge import LocalJudge
from engine.recipe_file import dump, override
from engine.runs import Workspace
from engine.scorer import scorer_of
from tests.tui.judged import a_cascade
from wakeword_tui.__main__ import main
from wakeword_tui.cascading import clock, tables
from wakeword_tui.commands.cascade import ITSELF, UNSEEN, render
from wakeword_tui.commands.evaluate import find_model


@pytest.fixture(scope="module")
def home(tiny_run: Trained, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A sentry, a judge of the same fold and one of another, and a recording that has it fire."""
    home = Workspace(tmp_path_factory.mktemp("cascade"))
    for name in ("001-tiny", "002-judge", "003-other"):
        shutil.copytree(tiny_run.run.path, home.root / "runs" / name)
    shutil.copytree(tiny_run.home.cache, home.cache)
    other, checkpoint = home.find("3").best, load(tiny_run.run.best)
    recipe = dump(override(checkpoint.settings(), {"data.fold": 1}))
    save(other, replace(checkpoint, recipe=recipe))
    swell = np.abs(np.sin(np.arange(20 * 16_000) / 8000)).astype(np.float32)
    audio.write(home.root / "radio.wav", swell * hiss(20, 7))
    sentry, detector = home.find("1").best, checkpoint.settings().detector
    levels = vote_levels(scorer_of(sentry).score(swell * hiss(20, 7)), detector)
    point = {"threshold": float(np.median(levels)), "target_fah": 1.0}
    save(sentry, replace(checkpoint, operating_point=point))
    return home


@pytest.fixture(autouse=True)
def no_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_pair_is_measured_for_each_wish(
    home: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    wishes = ["--target-fah", "300", "600", "--sentry-fah", "600"]
    where = ["--workspace", str(home.root), "--json"]
    assert main(["cascade", "1", "--judge", "2", *wishes, *where]) == 0
    first, second = told(capsys)
    assert [one["pairs"][0]["target_fah"] for one in (first, second)] == [300, 600]
    assert first["pairs"][0]["sentry"] == second["pairs"][0]["sentry"]
    assert first["joint"]["false_alarms"] <= first["loose"]["false_alarms"] == first["requests"]
    assert set(first["latency_ms"]) == {"p50", "p95"}


def test_of_a_judge_at_a_url_or_an_export_it_is_said_what_nobody_sees(
    home: Workspace, tiny_run: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--target-fah", "600", "--workspace", str(home.root)]
    exported = str(home.find("3").path / "export" / "student.onnx")
    with served(LocalJudge.of(tiny_run.run.best)) as server:
        for judge in (server.url, exported):
            assert main(["cascade", "1", "--judge", judge, *where]) == 0
            assert UNSEEN in capsys.readouterr().err
    assert main(["cascade", "1", "2", "--judge", exported, "2", *where]) == 1
    assert "tells no fold" in capsys.readouterr().err
    assert main(["cascade", "1", "--judge", "2", *where]) == 0
    assert UNSEEN not in capsys.readouterr().err


def test_a_recording_shorter_than_a_window_is_said_to_be_too_short(
    home: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio.write(tmp_path / "word.wav", hiss(0.5, 0))
    file = ["--file", str(tmp_path / "word.wav"), "--workspace", str(home.root)]
    assert main(["cascade", "1", "--judge", "2", *file]) == 0
    out, err = capsys.readouterr()
    assert "too short to be scored: 0.50 s were heard, 1.50 s are needed" in err
    assert out.startswith("0 detections")


def test_of_a_run_that_judges_itself_it_is_said(
    home: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ["--file", str(home.root / "radio.wav"), "--workspace", str(home.root)]
    for judge in ("1", str(home.find("1").best), "2"):
        assert main(["cascade", "1", "--judge", judge, *file]) == 0
        assert (ITSELF in capsys.readouterr().err) == (judge != "2")


def test_a_model_is_a_run_a_checkpoint_or_a_graph(home: Workspace) -> None:
    run = home.find("2")
    graph = run.path / "export" / "student.onnx"
    assert find_model(home, "2") == find_model(home, str(run.best)) == run.best
    assert find_model(home, str(graph)) == graph
    with pytest.raises(DataError, match="nobody"):
        find_model(home, "nobody")


def test_a_judge_of_another_fold_is_refused(
    home: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cascade", "1", "--judge", "3", "--workspace", str(home.root)]) == 1
    assert "was trained on what" in capsys.readouterr().err


def test_folds_are_paired_whatever_their_order(
    home: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run 3 is of fold 1, the others of fold 0."""
    where = ["--workspace", str(home.root)]
    assert main(["cascade", "1", "2", "--judge", "3", "2", *where]) == 1
    assert "give one sentry and one judge of each fold" in capsys.readouterr().err


def test_a_recording_is_verified_over_http(
    home: Workspace, tiny_run: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    file = ["--file", str(home.root / "radio.wav"), "--workspace", str(home.root)]
    with served(LocalJudge.of(tiny_run.run.best), TOKEN) as server:
        judge = ["--judge", server.url, "--token-file", str(token)]
        assert main(["cascade", "1", *judge, *file]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["time", "s", "sentry", "judge", "threshold", "ms"]
    assert lines[-1].endswith("accepted by the judge")
    assert len(lines) - 2 == len(server.answers) - 1 > 0


def test_a_recording_is_verified_to_its_end_though_the_judge_refuses(
    home: Workspace, tiny_run: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody named the token: the policy decides, and says so, and the code is 1."""
    (tmp_path / "wakeword-tui").mkdir()
    config = tmp_path / "wakeword-tui" / "config.toml"
    file = ["--file", str(home.root / "radio.wav"), "--workspace", str(home.root)]
    with served(LocalJudge.of(tiny_run.run.best), TOKEN) as server:
        asked = ["cascade", "1", "--judge", server.url, *file]
        assert main(asked) == 1
        _, first, *lines = capsys.readouterr().out.splitlines()
        config.write_text('[judge]\non_failure = "accept"\n')
        assert main([*asked, "--json"]) == 1
    assert "-  rejected unheard" in first
    assert "0 accepted by the judge" in lines[-3]
    assert "rejected unheard, as on_failure says: the judge at" in lines[-2]
    assert lines[-1] == "set judge.token_file, or WAKEWORD_JUDGE_TOKEN"
    found = told(capsys)
    assert {(one["accepted"], one["verdict"]) for one in found} == {(True, None)}
    assert found[0]["error"].startswith("the judge at")


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["1"], "give --judge, or name one in config.toml"),
        (["1", "2", "--judge", "3"], "as many judges as sentries"),
        (["1", "--judge", "2", "--threshold", "0.5"], "--threshold goes with --file"),
        (["1", "--judge", "2", "--target-fah", "0"], "above 0"),
        (["1", "--judge", "2", "--sentry-fah", "20"], "goes with --target-fah"),
        (["1", "--judge", "2", "--file", "x", "--target-fah", "1"], "go without --file"),
    ],
)
def test_what_does_not_go_together_is_said(
    arguments: list[str], wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["cascade", *arguments])
    assert ended.value.code == 2
    assert wrong in capsys.readouterr().err


def test_the_table_has_a_line_for_each_stage() -> None:
    found = a_cascade()
    lines = render(found).splitlines()
    assert lines[1] == "FAH <= 1"
    names = [line[:18].strip() for line in lines[3:7]]
    assert names == ["sentry alone", "sentry", "and judge", "alone, same misses"]
    assert "forwarded: 3.62 % of the audio, 37.3 requests of 3.5 s an hour" in lines
    assert lines[-1].endswith("kitchen-02.ogg 0:12.0  sentry 0.655  judge 0.968")


def test_the_tables_are_strict_json() -> None:
    json.dumps(tables(a_cascade()), allow_nan=False)


def test_a_place_is_in_minutes_and_seconds() -> None:
    assert [clock(seconds) for seconds in (0.0, 59.96, 191.4)] == ["0:00.0", "1:00.0", "3:11.4"]
