"""The config file: what is wrong is said and left out."""

from pathlib import Path

import pytest

from engine.errors import JudgeError
from wakeword_tui.config import JudgeConfig, read_config, typed_path

JUDGE = """\
[judge]
url = "http://127.0.0.1:8765"
token_file = "judge.token"
timeout_s = 1.5
on_failure = "accept"
"""


def test_the_judge_is_read_with_files_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(JUDGE)
    config = read_config(tmp_path / "config.toml")
    assert config.problems == ()
    token = tmp_path / "judge.token"
    assert config.judge == JudgeConfig("http://127.0.0.1:8765", token, None, 1.5, "accept")


def test_every_fault_of_the_judge_is_named_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[judge]\nurl = 3\ntimeout_s = 0\non_failure = "hope"\ntoken = "x"\n')
    config = read_config(path)
    assert config.judge == JudgeConfig()
    assert config.problems == (
        f"{path}: judge.url must be a text",
        f"{path}: judge.timeout_s must be seconds, above 0 and at most 60",
        f"{path}: judge.on_failure must be 'accept' or 'reject'",
        f"{path}: no such key 'judge.token'",
    )
    path.write_text("judge = 3\n")
    assert read_config(path).problems == (f"{path}: judge must be a table",)


def test_a_judge_opens_with_the_token_of_its_file(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("sesame-0123456789\n")
    token.chmod(0o600)
    with JudgeConfig("http://127.0.0.1:1", token).open() as judge:
        assert judge.url == "http://127.0.0.1:1"
    token.chmod(0o644)
    with pytest.raises(JudgeError, match="everyone may read") as caught:
        JudgeConfig("http://127.0.0.1:1", token).open()
    assert caught.value.hint == f"chmod 600 {token}"


def test_whatever_is_typed_is_a_path() -> None:
    assert typed_path(" ~/clips ") == Path.home() / "clips"
    assert typed_path("~nobody-of-that-name/clips") == Path("~nobody-of-that-name/clips")
