"""What `doctor` finds in our own files: settings, databases, checkpoints, unfinished runs."""

import os
from pathlib import Path

import pytest
from judging import a_checkpoint, served

from engine.local_judge import LocalJudge
from engine.queue_store import QueueStore
from engine.recipe import Recipe
from engine.runs import Workspace
from wakeword_tui import checked
from wakeword_tui.config import Config, JudgeConfig, config_path, read_config


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    config_path().parent.mkdir()
    return config_path()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("theme = ", "Invalid value"),
        ("sound = 1", "no such key 'sound'"),
        ('[ui]\non_hangup = "stay"', 'ui.on_hangup is "checkpoint" or "continue"'),
        ('[keys]\n"train.pause" = "s"', "s is both"),
        ('[keys]\n"train.hold" = "P"', "there is no such binding"),
    ],
)
def test_a_fault_of_the_config_file_is_found(config: Path, text: str, found: str) -> None:
    config.write_text(text)
    check = checked.settings(read_config(config))
    assert check.state == "note"
    assert found in check.found
    assert check.fix == f"${{EDITOR:-vi}} {config}"


def test_a_good_config_file_and_none_are_good(config: Path) -> None:
    assert "not there" in checked.settings(Config()).found
    config.write_text('[keys]\n"train.pause" = "P"')
    assert checked.settings(read_config(config)).state == "good"


def test_a_judge_that_does_not_answer_is_found(tmp_path: Path) -> None:
    (check,) = checked.judge(Config(judge=JudgeConfig("http://127.0.0.1:9")))
    assert (check.state, "wakeword-tui judge" in check.fix) == ("note", True)
    (check,) = checked.judge(Config(judge=JudgeConfig("http://127.0.0.1:9", tmp_path / "none")))
    assert "none" in check.found
    with served(LocalJudge.of(a_checkpoint(tmp_path))) as server:
        (check,) = checked.judge(Config(judge=JudgeConfig(server.url)))
        assert check.state == "good"
    assert list(checked.judge(Config())) == []


def test_a_damaged_database_is_found_with_the_way_to_recover(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    QueueStore(home.queue).close()
    assert checked.databases(home).found == "queue.db"
    home.studies.mkdir()
    (home.studies / "made.db").write_bytes(b"spoiled" * 1000)
    check = checked.databases(home)
    assert check.broken
    assert "made.db is damaged" in check.found
    assert ".recover | sqlite3 mended.db" in check.fix
    assert sorted(path.name for path in tmp_path.iterdir()) == ["queue.db", "studies"]


def test_what_is_typed_to_mend_a_workspace_keeps_to_it(tmp_path: Path) -> None:
    """A space in its name makes no two folders of it, and another one is not meant."""
    home = Workspace(tmp_path / "my place")
    run = home.create(Recipe())
    run.last.touch()
    place, ours = f"'{home.root}", f"wakeword-tui --workspace '{home.root}'"
    assert (
        checked.unfinished(home).fix
        == f"{ours} train --resume 1, or rm -r {place}/runs/001-wakeword'"
    )
    assert checked.checkpoints(home).fix.endswith(
        f"{ours} train {place}/runs/001-wakeword/recipe.toml'"
    )
    home.queue.write_bytes(b"spoiled" * 1000)
    assert f"`sqlite3 {place}/queue.db' .recover |" in checked.databases(home).fix
    with home.lock():
        assert checked.lock(home).fix == f"{ours} runs stop"


def test_a_page_that_was_overwritten_in_the_queue_is_found(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    QueueStore(home.queue).close()
    data = bytearray(home.queue.read_bytes())
    data[4096:8192] = b"\xff" * 4096  # the second page: a table's root
    home.queue.write_bytes(data)
    assert checked.databases(home).broken


def test_a_damaged_checkpoint_is_found(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    run = home.create(Recipe())
    run.best.parent.mkdir(exist_ok=True)
    whole = a_checkpoint(tmp_path).read_bytes()
    run.best.write_bytes(whole)
    run.last.write_bytes(whole)
    assert checked.checkpoints(home).state == "good"
    run.last.write_bytes(whole[:-1])
    check = checked.checkpoints(home)
    assert f"{run.last} is damaged" in check.found
    assert (
        check.fix
        == f"best.ckpt still listens and exports; {home.command('train')} {run.path}/recipe.toml"
    )
    run.best.write_bytes(whole[:-1])
    assert checked.checkpoints(home).fix == run.resuming()
    run.best.unlink()
    run.best.mkdir()
    assert "Is a directory" in checked.checkpoints(home).found


def test_an_unfinished_run_is_found_unless_it_goes_on_or_is_a_trial(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    run = home.create(Recipe())
    assert (
        checked.unfinished(home).state == "good"
    )  # without a checkpoint there is nothing to resume
    run.last.parent.mkdir(exist_ok=True)
    run.last.touch()
    assert f"train --resume {run.number}" in checked.unfinished(home).fix
    with home.lock(run.name):
        run.events.touch()
        os.utime(run.events, (1, 1))  # the clock was set back meanwhile
        assert checked.unfinished(home).state == "good"
    with home.lock():
        assert "rm -r" not in checked.unfinished(home).fix  # an older version names no run
    run.path.rename(run.path.with_name("001-search-t3"))
    assert checked.unfinished(home).state == "good"
