"""The client against real servers: ours, and sockets that do not do as they should."""

import contextlib
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judging import TOKEN, Served, Slow, a_checkpoint, served
from tiny import hiss

from engine.errors import JudgeError
from engine.judge import (
    TOKEN_VARIABLE,
    Asked,
    Decision,
    Judge,
    Verdict,
    _told,
    read_token,
)
from engine.local_judge import LocalJudge

VERDICT = {"accepted": True, "score": 0.9, "threshold": 0.5, "model": "m", "took_ms": 3}
Behaviour = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalJudge:
    return LocalJudge.of(a_checkpoint(tmp_path_factory.mktemp("judge")))


@pytest.fixture(scope="module")
def guarded(local: LocalJudge) -> Iterator[Served]:
    with served(local, TOKEN) as it:
        yield it


@contextmanager
def behaving(*behaviours: Behaviour) -> Iterator[str]:
    """A server that treats its n-th connection as the n-th behaviour, the rest as the last."""
    door, connections = socket.create_server(("127.0.0.1", 0)), list[socket.socket]()

    def work() -> None:
        with contextlib.suppress(OSError):
            for n in range(1000):
                connections.append(door.accept()[0])
                with contextlib.suppress(OSError):
                    behaviours[min(n, len(behaviours) - 1)](connections[-1])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        door.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in (door, *connections):
            connection.close()


def says(body: bytes, status: int = 200, *headers: str) -> Behaviour:
    """Hear a request to its end, answer, and close."""
    length = f"Content-Length: {len(body)}"
    lines = [f"HTTP/1.1 {status} X", length, "Connection: close", *headers, "", ""]

    def behave(connection: socket.socket) -> None:
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += connection.recv(65_536)
        head, _, rest = heard.partition(b"\r\n\r\n")
        left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) - len(rest)
        while left > 0:
            left -= len(connection.recv(65_536))
        connection.sendall("\r\n".join(lines).encode() + body)

    return behave


def cut(connection: socket.socket) -> None:
    """Close in the middle of the request."""
    connection.recv(100)
    connection.close()


def half_close(connection: socket.socket) -> None:
    """Hear, but say that nothing will be said."""
    connection.recv(100)
    connection.shutdown(socket.SHUT_WR)


def silent(connection: socket.socket) -> None:
    """Take the connection, and nothing else."""


def dribble(connection: socket.socket) -> None:
    """A byte every 50 ms of headers that never end: each is soon enough, and all are too late."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(100):
        connection.sendall(b"x")
        time.sleep(0.05)


def failure(url: str, token: str | None = None, timeout_s: float = 5.0) -> JudgeError:
    with Judge(url, token, timeout_s=timeout_s) as judge, pytest.raises(JudgeError) as caught:
        judge.verify(hiss(1, 0))
    return caught.value


def test_a_verdict_comes_over_the_wire_as_it_is_without(guarded: Served, local: LocalJudge) -> None:
    """16 bits of a wire move a score by less than 1e-3."""
    with Judge(guarded.url, TOKEN) as judge:
        for seed in range(3):
            found, wanted = judge.verify(hiss(3, seed, 0.2)), local.verify(hiss(3, seed, 0.2))
            assert found.score == pytest.approx(wanted.score, abs=1e-3)
            assert (found.threshold, found.model) == (0.7, "small")
            assert found.accepted == (found.score >= 0.7)


def test_health_says_how_much_to_send(guarded: Served, local: LocalJudge) -> None:
    with Judge(guarded.url) as judge:
        health = judge.health()
    assert (health.model, health.threshold, health.room) == ("small", 0.7, 8)
    assert health.sent_s == local.sent_s == local.window_s + 0.5


@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_missing_or_wrong_token_is_told_and_never_shown(
    guarded: Served, token: str | None
) -> None:
    before = len(guarded.answers)
    error = failure(guarded.url, token)
    assert "the token is missing or wrong" in error.message
    assert TOKEN_VARIABLE in error.hint
    assert len(guarded.answered(before + 1)) == before + 1, "a refusal is not asked again"


def test_the_token_is_in_no_text(guarded: Served) -> None:
    with Judge(guarded.url, TOKEN) as judge:
        assert TOKEN not in repr(judge) + str(vars(judge))
        assert TOKEN not in repr(Asked(judge.verify).decide(hiss(1, 0)))
    with pytest.raises(JudgeError) as caught:
        Judge(guarded.url, "two words")
    assert "two words" not in repr(caught.value) + str(caught.value)


@pytest.mark.parametrize(
    ("variable", "proxy"), [("ALL_PROXY", "socks5://:secret@near:1"), ("HTTPS_PROXY", "foo://bad")]
)
def test_a_proxy_that_cannot_be_used_is_said(
    variable: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(JudgeError, match="proxy of the environment") as caught:
        Judge("https://judge.example.org")
    assert "HTTPS_PROXY" in caught.value.hint
    assert "secret" not in str(caught.value)
    Judge("http://127.0.0.1:1").close()  # no proxy leads to this machine


def test_a_verdict_at_another_threshold() -> None:
    verdict = Verdict(accepted=True, score=0.9, threshold=0.5, model="m", took_ms=3.0)
    assert verdict.at(0.9) == Verdict(True, 0.9, 0.9, "m", 3.0)
    assert verdict.at(0.91) == Verdict(False, 0.9, 0.91, "m", 3.0)


def test_many_threads_may_ask_at_once(guarded: Served) -> None:
    verdicts: list[Verdict] = []
    with Judge(guarded.url, TOKEN, timeout_s=10) as judge:
        ask = lambda: verdicts.append(judge.verify(hiss(1, 0)))  # noqa: E731
        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({verdict.score for verdict in verdicts}) == 1
    assert len(verdicts) == 6


@pytest.mark.parametrize(("policy", "accepted"), [("accept", True), ("reject", False)])
def test_where_the_judge_is_dead_the_policy_decides_and_says_so(
    policy: str, accepted: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
    with Judge(url, timeout_s=2) as judge:
        asked = Asked(judge.verify, on_failure="accept" if accepted else "reject")
        decision = asked.decide(hiss(1, 0))
    assert (decision.accepted, decision.by_policy, decision.verdict) == (accepted, True, None)
    assert decision.line.startswith(f"{policy}ed unheard, as on_failure says: no judge at {url}")
    assert decision.waited_ms < 2000, "refused at once, it is given up before the deadline"


def test_a_verdict_decides_without_the_policy(guarded: Served) -> None:
    with Judge(guarded.url, TOKEN, timeout_s=10) as judge:
        decision = Asked(judge.verify, on_failure="accept").decide(hiss(1, 0))
    assert (decision.accepted, decision.by_policy, decision.failure) == (False, False, None)
    assert decision.line.startswith("rejected by small: 0.")
    assert decision.line.endswith("< 0.700")


@pytest.mark.parametrize("behaviour", [silent, dribble])
def test_one_deadline_holds_for_everything(behaviour: Behaviour) -> None:
    with behaving(behaviour) as url:
        began_s = time.monotonic()
        error = failure(url, timeout_s=0.4)
        assert 0.35 < time.monotonic() - began_s < 1.5
    assert error.message.endswith("gave no answer within 0.4 s")


def test_a_slow_judge_is_left_in_time(local: LocalJudge) -> None:
    slow = Slow(local.scorer, local.rules, local.threshold, local.model)
    with served(slow) as it:
        began_s = time.monotonic()
        assert "no answer within 0.3 s" in failure(it.url, timeout_s=0.3).message
        assert time.monotonic() - began_s < 1
        assert [told.status for told in it.answered(1)] == [499]


@pytest.mark.parametrize("behaviour", [cut, half_close])
def test_a_connection_that_breaks_is_tried_again(behaviour: Behaviour) -> None:
    good = says(json.dumps(VERDICT).encode())
    with behaving(behaviour, behaviour, good) as url, Judge(url, timeout_s=5) as judge:
        assert judge.verify(hiss(1, 0)) == Verdict(True, 0.9, 0.5, "m", 3.0)
    with behaving(behaviour, behaviour, behaviour, good) as url:
        assert failure(url).message.startswith(f"no judge at {url}")


def test_a_busy_judge_is_asked_again_when_it_says(local: LocalJudge) -> None:
    good, busy = says(json.dumps(VERDICT).encode()), says(b"{}", 503, "Retry-After: 1")
    with behaving(busy, good) as url, Judge(url, timeout_s=5) as judge:
        began_s = time.monotonic()
        assert judge.verify(hiss(1, 0)).accepted
        assert time.monotonic() - began_s >= 1.05


def test_a_busy_judge_is_not_waited_for_beyond_the_deadline() -> None:
    with behaving(says(b'{"error": "8 wait", "hint": "later"}', 503, "Retry-After: 9")) as url:
        began_s = time.monotonic()
        error = failure(url, timeout_s=3)
        assert time.monotonic() - began_s < 1.5
    assert error.message == f"the judge at {url} answered: 8 wait"


@pytest.mark.parametrize("status", [400, 404, 413, 422, 500, 504, 302])
def test_no_other_status_is_asked_again(status: int) -> None:
    good = says(json.dumps(VERDICT).encode())
    with behaving(says(b"<html>", status, "Location: /x"), good) as url:
        assert failure(url).message == f"the judge at {url} answered: HTTP status {status}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[" * 10_000,
        b"null",
        json.dumps(VERDICT | {"score": float("nan")}).encode(),
        json.dumps(VERDICT | {"score": True}).encode(),
        json.dumps(VERDICT | {"score": 7}).encode(),
        json.dumps(VERDICT | {"accepted": 1}).encode(),
        json.dumps(VERDICT | {"model": None}).encode(),
        json.dumps(VERDICT | {"took_ms": 10**400}).encode(),
        json.dumps(VERDICT).encode()[:-9],
        b" " * 100_000,
    ],
)
def test_nonsense_is_a_judge_error(body: bytes) -> None:
    with behaving(says(body)) as url:
        assert failure(url).hint


@given(st.binary(max_size=200))
def test_any_answer_is_a_verdict_or_an_error(body: bytes) -> None:
    with contextlib.suppress(JudgeError):
        _told(Verdict, body)


def test_what_a_judge_says_cannot_move_the_cursor() -> None:
    said = json.dumps({"error": "\x1b[2Jgone" + "x" * 999, "hint": "\r\n\x07ask"}).encode()
    with behaving(says(said, 422)) as url:
        error = failure(url)
    assert "\x1b" not in error.message
    assert (len(error.message) < 300, error.hint) == (True, "ask")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "no URL"),
        ("127.0.0.1:8765", "no URL"),
        ("ftp://judge", "no URL"),
        ("http://judge:99999", "no URL"),
        ("http://[::1", "no URL"),
        ("http://judge/?token=x", "no URL"),
        ("https://me:secret@judge", "has a password in it"),
    ],
)
def test_what_is_no_url_is_said_without_repeating_it(url: str, said: str) -> None:
    with pytest.raises(JudgeError, match=said) as caught:
        Judge(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["x" * 70, "a..b", "no.such.host.invalid", "ex\u00adample"])
def test_a_host_that_is_none_is_a_judge_error(host: str) -> None:
    assert failure(f"http://{host}:9").hint


def test_closing_lets_go_of_what_is_under_way() -> None:
    found: list[Decision] = []
    with behaving(silent) as url:
        judge = Judge(url, timeout_s=30)
        asking = threading.Thread(
            target=lambda: found.append(Asked(judge.verify).decide(hiss(1, 0)))
        )
        asking.start()
        time.sleep(0.2)
        judge.close()
        asking.join(5)
        judge.close()
        assert not Asked(judge.verify).decide(hiss(1, 0)).accepted
    assert [str(decision.failure) for decision in found] == [
        "the judge was let go before it answered"
    ]


def test_a_token_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, " from-outside ")
    assert read_token(None) == "from-outside"
    file = tmp_path / "token"
    file.write_text("of-a-file\n")
    file.chmod(0o600)
    assert read_token(file) == "of-a-file"


def test_a_token_file_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(JudgeError, match="No such file"):
        read_token(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(JudgeError, match="it is no text"):
        read_token(file)
    file.write_text("\n")
    file.chmod(0o600)
    with pytest.raises(JudgeError, match="there is no token"):
        read_token(file)
    file.write_text("open")
    file.chmod(0o604)
    with pytest.raises(JudgeError, match="everyone may read") as caught:
        read_token(file)
    assert "open" not in caught.value.message


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += f" -subj /CN=judge -addext subjectAltName=IP:127.0.0.1 -keyout {folder}/key.pem"
    try:
        done = subprocess.run(
            [*command.split(), "-out", str(folder / "cert.pem")], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no openssl here")
    assert done.returncode == 0, done.stderr
    return folder


def test_over_tls_only_the_right_authority_is_believed(authority: Path, guarded: Served) -> None:
    """A proxy that speaks TLS stands before the judge, as in docs/judge.md."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")

    def proxy(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inner:
            says(json.dumps(VERDICT).encode())(inner)

    with behaving(proxy) as url:
        url = url.replace("http:", "https:")
        with Judge(url, TOKEN, ca_file=authority / "cert.pem", timeout_s=10) as judge:
            assert judge.verify(hiss(1, 0)).accepted
        error = failure(url, TOKEN)
        assert "is not who it says" in error.message
        assert "ca_file" in error.hint
    with pytest.raises(JudgeError, match="cannot use"):
        Judge(url, ca_file=authority / "none.pem")
    with pytest.raises(JudgeError, match="cannot use"):
        Judge(url, ca_file=authority / "key.pem")


def test_audio_beyond_full_scale_is_clipped_on_the_way(guarded: Served) -> None:
    with Judge(guarded.url, TOKEN, timeout_s=10) as judge:
        loud = judge.verify(np.full(16_000, 9.0, np.float32))
        assert loud.score == judge.verify(np.ones(16_000, np.float32)).score
