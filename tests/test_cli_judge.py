"""`wakeword-tui judge` as a process: killed, stopped, and sent a thousand bodies of a stranger."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import httpx
import pytest
from judging import TOKEN, a_checkpoint
from test_readme import shell_blocks
from tiny import Trained, hiss

from engine import audio
from engine.checkpoint import save
from engine.judge import PCM, TOKEN_VARIABLE, VERIFY, Asked, Decision, Judge, OnFailure
from engine.local_judge import LocalJudge
from engine.recipe_file import load as load_recipe
from engine.recipe_file import override
from tests.test_checkpoint import made
from tests.test_judge_body import head
from wakeword_tui.__main__ import main

ROOT = Path(__file__).parents[1]


class Process:
    """A judge in a process of its own, its address, and its access log in a file."""

    def __init__(self, *words: str | Path, token: str = TOKEN) -> None:
        command = [sys.executable, "-m", "wakeword_tui", "judge", *map(str, words), "--port", "0"]
        environment = os.environ | {TOKEN_VARIABLE: token}
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- closed at the end
        self.child = subprocess.Popen(
            command, stdout=self.log, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.child.stderr is not None
        self.said = self.child.stderr.readline()
        self.url = re.findall(r"http://[\d.:]+", self.said)[0]

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.communicate()
        self.log.close()

    def end(self, number: signal.Signals) -> tuple[int, list[dict[str, object]], str]:
        """Exit code, access log and what else was said, after a signal."""
        self.child.send_signal(number)
        _, said = self.child.communicate(timeout=60)
        self.log.seek(0)
        return self.child.returncode, [json.loads(line) for line in self.log], said

    def post(self, client: httpx.Client, kind: str, body: bytes) -> httpx.Response:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
        return client.post(self.url + VERIFY, content=body, headers=headers)

    @property
    def memory_mb(self) -> float:
        page = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", page)[0]) / 1024


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_checkpoint(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained Conformer, which takes a third of a second and more for ten seconds of audio."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.ckpt"
    recipe = load_recipe(ROOT / "recipes" / "teacher_conformer.toml")
    save(path, made(override(recipe, {"model.width": 1.0, "model.blocks": 4})))
    return path


@pytest.fixture(scope="module")
def stranger(checkpoint: Path) -> Iterator[Process]:
    """A small judge, which strangers try."""
    with Process(checkpoint) as process:
        yield process


def ask(
    judge: Judge, seconds: float, on_failure: OnFailure = "reject"
) -> tuple[threading.Thread, list[Decision]]:
    """Ask in a thread; come back once the judge is at it."""
    found: list[Decision] = []
    asked = Asked(judge.verify, on_failure=on_failure)
    thread = threading.Thread(target=lambda: found.append(asked.decide(hiss(seconds, 0))))
    thread.start()
    while thread.is_alive() and judge.health().waiting == 0:
        time.sleep(0.002)
    return thread, found


def test_a_judge_killed_at_work_leaves_the_decision_to_the_policy(teacher: Path) -> None:
    """Within the timeout: the connection breaks, is tried again twice, and refused."""
    with (
        Process(teacher) as process,
        Judge(process.url, TOKEN, timeout_s=10) as judge,
    ):
        asking = [ask(judge, 10, on_failure) for on_failure in get_args(OnFailure)]
        process.child.kill()
        for thread, _ in asking:
            thread.join()
    (one,), (other,) = (found for _, found in asking)
    assert (one.accepted, one.by_policy) == (True, True)
    assert (other.accepted, other.by_policy) == (False, True)
    assert max(one.waited_ms, other.waited_ms) < 10_000


def test_a_judge_that_is_stopped_answers_first_and_ends_well(teacher: Path) -> None:
    with Process(teacher) as process, Judge(process.url, TOKEN, timeout_s=30) as judge:
        assert "teacher-conformer judges at" in process.said
        asking, found = ask(judge, 10)
        code, log, said = process.end(signal.SIGTERM)
        asking.join()
    assert (code, said) == (0, "")
    assert found[0].verdict is not None, found[0].line
    assert [line["status"] for line in log if line["path"] == VERIFY] == [200]
    assert TOKEN not in str(log)


def bodies(count: int) -> Iterator[tuple[str, bytes]]:
    """Bodies of a stranger: any bytes, WAVs with damage, and lengths that nobody has."""
    chance = random.Random(0)
    for n in range(count):
        content = chance.randbytes(chance.choice([0, 1, 44, 999, 32_000, 96_000]))
        if n % 4 == 0:
            yield PCM, content
        elif n % 4 == 1:
            yield "audio/wav", content
        elif n % 4 == 2:
            yield "audio/wav", head(chance.choice([2**32 - 1, 2**31, 3600 * 32_000])) + content
        else:
            damaged = bytearray(head(len(content)) + content)
            damaged[chance.randrange(44)] = chance.randrange(256)
            yield "audio/wav", bytes(damaged)


def test_a_thousand_bodies_of_a_stranger_are_never_a_500_and_take_no_memory(
    stranger: Process,
) -> None:
    statuses, memory_mb = set[int](), list[float]()
    with httpx.Client(timeout=30) as client:
        for n, (kind, body) in enumerate(bodies(1_200)):
            statuses.add(stranger.post(client, kind, body).status_code)
            if n in (200, 1_199):
                memory_mb.append(stranger.memory_mb)
    assert statuses == {200, 415, 422}
    assert memory_mb[1] - memory_mb[0] < 8


def test_a_wav_bomb_and_eleven_megabytes_are_refused(stranger: Process) -> None:
    bomb = head(4 * 3600 * 32_000) + bytes(32_000)
    before_mb = stranger.memory_mb
    with httpx.Client(timeout=30) as client:
        for kind, body, status in (("audio/wav", bomb, 422), (PCM, bytes(11_000_000), 413)):
            answer = stranger.post(client, kind, body)
            assert answer.status_code == status
            assert answer.json().keys() == {"error", "hint"}
    assert stranger.memory_mb - before_mb < 8


def test_garbage_on_the_socket_does_no_harm(stranger: Process) -> None:
    chance, place = random.Random(1), ("127.0.0.1", int(stranger.url.rpartition(":")[2]))
    for _ in range(50):
        with socket.create_connection(place) as connection:
            connection.sendall(chance.randbytes(chance.randrange(1, 3000)))
    with Judge(stranger.url, TOKEN, timeout_s=10) as judge:
        assert judge.verify(hiss(1, 0)).model == "small"


def test_an_export_judges_as_its_run_does(tiny_run: Trained, tmp_path: Path) -> None:
    """The clip is sent as a WAV, as curl would."""
    audio.write(tmp_path / "clip.wav", hiss(2, 5, 0.2))
    wanted = LocalJudge.of(tiny_run.run.best).score(audio.read(tmp_path / "clip.wav"))
    student = tiny_run.run.path / "export" / "student.onnx"
    with Process(student, "--threshold", "0.5") as process, httpx.Client(timeout=30) as client:
        told = process.post(client, "audio/wav", (tmp_path / "clip.wav").read_bytes()).json()
        assert process.end(signal.SIGINT)[0] == 0
    assert (told["model"], told["threshold"]) == ("tiny", 0.5)
    assert told["score"] == pytest.approx(wanted, abs=1e-3)


def test_what_the_page_types_works(stranger: Process, tmp_path: Path) -> None:
    """The lines of docs/judge.md from the header to health, in a folder with a token and a clip."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    clip = hiss(2, 0)
    audio.write(tmp_path / "clip.wav", clip)
    (tmp_path / "clip.pcm").write_bytes(audio.to_int16(clip).tobytes())
    (tmp_path / "judge.token").write_text(TOKEN + "\n")
    page = (ROOT / "docs" / "judge.md").read_text(encoding="utf-8")
    lines = next(block for block in shell_blocks(page) if "curl" in block)
    script = lines.replace("http://127.0.0.1:8765", stranger.url).replace(
        "/verify", "/verify; echo"
    )
    done = subprocess.run(
        ["sh", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    wav, pcm, health = map(json.loads, done.stdout.splitlines())
    assert wav.keys() == {"accepted", "score", "threshold", "model", "took_ms"}
    assert wav["score"] == pytest.approx(pcm["score"], abs=1e-6)
    assert health["model"] == "small"


def test_what_cannot_be_is_said_before_anything_is_loaded(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert main(["judge", str(checkpoint), "--host", "0.0.0.0", "--port", "0"]) == 1
    assert "others can reach 0.0.0.0, and there is no token" in capsys.readouterr().err
    assert main(["judge", str(checkpoint), "--token-file", str(tmp_path / "none")]) == 1
    assert "cannot read the token" in capsys.readouterr().err
    assert main(["judge", "9", "--workspace", str(tmp_path)]) == 1
    assert "no run '9'" in capsys.readouterr().err
    for words in (["--port", "-1"], ["--port", "65536"], ["--room", "0"], ["--threshold", "1"]):
        with pytest.raises(SystemExit, match="2"):
            main(["judge", str(checkpoint), *words])
        assert "usage: wakeword-tui judge" in capsys.readouterr().err
