"""A real server at any free port, asked with raw bytes: whatever comes, it answers and goes on."""

import functools
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from judging import SECOND, TOKEN, Served, Slow, a_checkpoint, pcm, request, served, status

from engine import judge_server
from engine.errors import JudgeError
from engine.events import RequestAnswered
from engine.judge_body import MOST_BYTES
from engine.judge_server import bound
from engine.local_judge import LocalJudge

KIND = "Content-Type: audio/pcm"


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> LocalJudge:
    return LocalJudge.of(a_checkpoint(tmp_path_factory.mktemp("judge")))


@pytest.fixture(scope="module")
def slow(judge: LocalJudge) -> Slow:
    return Slow(judge.scorer, judge.rules, judge.threshold, judge.model)


@pytest.fixture(scope="module")
def guarded(judge: LocalJudge) -> Iterator[Served]:
    """A judge that asks for the token."""
    with served(judge, TOKEN) as it:
        yield it


def ask(it: Served, data: bytes) -> int:
    """The status of the answer to some bytes."""
    with it.connect() as connection:
        connection.sendall(data)
        return status(connection)


def answer(connection: socket.socket) -> tuple[dict[str, str], dict[str, object]]:
    """Headers and JSON of the next answer."""
    file = connection.makefile("rb")
    file.readline()
    lines = iter(lambda: file.readline().decode().strip(), "")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return headers, json.loads(file.read(int(headers["content-length"])))


def test_a_verdict_is_that_of_the_judge_without_a_wire(guarded: Served, judge: LocalJudge) -> None:
    with guarded.connect() as connection:
        connection.sendall(pcm(token=TOKEN))
        _, told = answer(connection)
    assert told.keys() == {"accepted", "score", "threshold", "model", "took_ms"}
    from engine.judge_body import waveform_of

    assert told["score"] == judge.score(waveform_of(SECOND, "audio/pcm"))
    assert (told["threshold"], told["model"], told["accepted"]) == (0.7, "small", False)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (pcm(token=TOKEN), 200),
        (pcm(), 401),
        (pcm(token=TOKEN[:-1]), 401),
        (pcm(token=TOKEN + "0"), 401),
        (request(KIND, "Content-Length: 2", "Authorization: Basic c2VzYW1l", body=b"ab"), 401),
        (request(KIND, token=TOKEN), 411),
        (request(KIND, "Transfer-Encoding: chunked", token=TOKEN, body=b"0\r\n\r\n"), 411),
        (request("Content-Length: 2", token=TOKEN, body=b"ab"), 415),
        (request("Content-Type: text/plain", "Content-Length: 2", token=TOKEN, body=b"ab"), 415),
        (
            request(KIND, "Content-Encoding: gzip", "Content-Length: 2", token=TOKEN, body=b"ab"),
            415,
        ),
        (pcm(b"abc", TOKEN), 422),
        (pcm(b"", TOKEN), 422),
        (pcm(bytes(320_002), TOKEN), 413),
        (request(KIND, f"Content-Length: {MOST_BYTES + 1}", token=TOKEN), 413),
        (b"GET /v1/verify HTTP/1.1\r\nHost: judge\r\n\r\n", 405),
        (b"GET /secrets HTTP/1.1\r\nHost: judge\r\n\r\n", 404),
        (b"GET /health HTTP/1.1\r\nHost: judge\r\n\r\n", 200),
        (b"\x16\x03\x01\x02\x00 no HTTP at all\r\n\r\n", 400),
        (b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: judge\r\n\r\n", 400),
        (b"GET /%ff%0a HTTP/1.1\r\nHost: [\r\n\r\n", 404),
        (b"GET /health/ HTTP/1.1\r\nHost: judge\r\n\r\n", 404),
        (b"GET /health HTTP/1.1\r\nHost: judge\r\nX: " + bytes(20_000) + b"\r\n\r\n", 400),
    ],
)
def test_every_request_has_its_status(guarded: Served, data: bytes, wanted: int) -> None:
    assert ask(guarded, data) == wanted


def test_a_head_without_end_is_given_up_at_16_kilobytes(guarded: Served) -> None:
    with guarded.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: judge\r\nX: " + b"x" * 16_384)
        assert status(connection) == 400


def test_a_refusal_is_a_sentence_and_a_hint(guarded: Served) -> None:
    with guarded.connect() as connection:
        connection.sendall(pcm())
        headers, told = answer(connection)
    assert told == {
        "error": "the token is missing or wrong",
        "hint": "send the header Authorization: Bearer TOKEN",
    }
    assert (headers["www-authenticate"], headers["connection"]) == ("bearer", "close")


def test_health_tells_how_it_does_and_nothing_secret(guarded: Served, judge: LocalJudge) -> None:
    with guarded.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: judge\r\n\r\n")
        _, told = answer(connection)
    assert 0 < float(str(told.pop("uptime_s"))) < 600
    assert told == {
        "model": "small",
        "threshold": 0.7,
        "window_s": judge.window_s,
        "waiting": 0,
        "room": 8,
    }


def test_eleven_megabytes_are_refused_before_they_are_there(guarded: Served) -> None:
    """The answer comes after the head; of a client that goes on, not all is taken."""
    head = request(KIND, "Content-Length: 11000000", token=TOKEN)
    with guarded.connect() as connection:
        connection.sendall(head)
        assert status(connection) == 413
    with guarded.connect() as connection:
        connection.sendall(head)
        sent = 0
        with pytest.raises(OSError):
            while sent < 11_000_000:
                sent += connection.send(bytes(65_536))
        assert sent < 11_000_000


def test_a_connection_is_kept_for_the_next_request(guarded: Served) -> None:
    with guarded.connect() as connection:
        for body in (SECOND, b"abc", SECOND[:3200]):
            connection.sendall(pcm(body, TOKEN))
            _, told = answer(connection)
            assert ("score" in told) == (len(body) % 2 == 0)


def test_the_access_log_knows_neither_token_nor_audio(judge: LocalJudge) -> None:
    with served(judge, TOKEN) as it:
        assert ask(it, pcm(token=TOKEN)) == 200
        assert ask(it, pcm(token="wrong")) == 401
        good, bad = it.answered(2)
    assert (good.client, good.method, good.path) == ("127.0.0.1", "POST", "/v1/verify")
    assert (good.status, good.body_bytes, good.seconds) == (200, 32_000, 1.0)
    assert 0 < good.scored_ms <= good.took_ms
    assert (bad.status, bad.score, bad.accepted) == (401, None, None)
    assert TOKEN not in repr(it.events)


def test_a_client_gives_up_an_idle_connection_before_the_judge_does(guarded: Served) -> None:
    """httpx keeps one for 5 s: were it closed by then, a request might be on its way into it."""
    with httpx.Client(base_url=guarded.url, limits=httpx.Limits(keepalive_expiry=None)) as client:
        ask = functools.partial(client.get, "/health")
        first = ask().extensions["network_stream"].get_extra_info("client_addr")
        time.sleep(5.5)
        assert ask().extensions["network_stream"].get_extra_info("client_addr") == first


def test_where_the_room_is_full_it_says_when_to_ask_again(slow: Slow) -> None:
    """One request of a second is judged and one waits; the third finds no room."""
    with served(slow, room=2) as it, it.connect() as one, it.connect() as two:
        one.sendall(pcm())
        two.sendall(pcm())
        time.sleep(0.3)
        with it.connect() as three:
            three.sendall(pcm())
            headers, told = answer(three)
            assert (headers["retry-after"], told["error"]) == ("1", "2 requests wait already")
            assert "connection" not in headers
            assert ask(it, b"GET /health HTTP/1.1\r\nHost: judge\r\n\r\n") == 200
        assert (status(one), status(two)) == (200, 200)


def test_what_takes_too_long_is_answered_504(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_server, "DEADLINE_S", 0.2)
    with served(slow) as it:
        assert ask(it, pcm()) == 504


def test_nobody_is_judged_who_has_left(slow: Slow) -> None:
    """Three leave before their turn: the fourth waits for the first alone, a second and a half."""
    with served(slow, room=5) as it, it.connect() as first:
        first.sendall(pcm())
        time.sleep(0.2)
        for _ in range(3):
            with it.connect() as leaving:
                leaving.sendall(pcm(SECOND * 3))
                time.sleep(0.05)
        began_s = time.monotonic()
        assert ask(it, pcm(SECOND[:16_000])) == 200
        assert time.monotonic() - began_s < 3
        statuses = [told.status for told in it.answered(5)]
    assert sorted(statuses) == [200, 200, 499, 499, 499]


def test_a_body_that_dribbles_is_given_up(
    judge: LocalJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_server, "BODY_S", 0.3)
    with served(judge) as it, it.connect() as connection:
        connection.sendall(request(KIND, "Content-Length: 1000"))
        for _ in range(5):
            connection.sendall(b"x")
            time.sleep(0.05)
        assert status(connection) == 408
        assert ask(it, pcm()) == 200


def test_a_head_that_dribbles_is_given_up(
    judge: LocalJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a request that was whole."""
    monkeypatch.setattr(judge_server, "HEAD_S", 0.5)
    with served(judge) as it, it.connect() as silent, it.connect() as second:
        second.sendall(pcm())
        _, told = answer(second)
        assert "score" in told
        second.sendall(b"POST /v1/ver")
        assert (silent.recv(1), second.recv(1)) == (b"", b"")
        assert ask(it, pcm()) == 200


def test_more_bodies_than_can_be_read_at_once_are_sent_away(
    judge: LocalJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_server, "MOST_READING", 1)
    with served(judge) as it, it.connect() as reading:
        reading.sendall(request(KIND, "Content-Length: 1000"))
        time.sleep(0.2)
        assert ask(it, pcm()) == 503


def test_more_connections_than_it_takes_are_cut(
    judge: LocalJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_server, "MOST_CONNECTIONS", 1)
    with served(judge) as it, it.connect() as first:
        first.sendall(pcm())
        assert status(first) == 200
        with it.connect() as second:
            assert second.recv(1) == b""


def test_a_half_closed_connection_is_one_that_has_left(guarded: Served) -> None:
    before = len(guarded.answers)
    for half in (pcm(token=TOKEN)[:-1000], pcm(SECOND * 9, TOKEN)):
        with guarded.connect() as connection:
            connection.sendall(half)
            connection.shutdown(socket.SHUT_WR)
            assert status(connection) in (0, 200)
    assert [told.status for told in guarded.answered(before + 2)][before] == 499
    assert ask(guarded, pcm(token=TOKEN)) == 200


def test_a_client_that_resets_does_no_harm(guarded: Served) -> None:
    for _ in range(5):
        connection = guarded.connect()
        connection.sendall(pcm(token=TOKEN)[:-1000])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert ask(guarded, pcm(token=TOKEN)) == 200


def test_stopping_answers_what_is_under_way(slow: Slow) -> None:
    with served(slow) as it, it.connect() as connection:
        connection.sendall(pcm())
        time.sleep(0.3)
        ended = threading.Timer(0, it.control.stop)
        ended.start()
        assert status(connection) == 200
        with pytest.raises(ConnectionRefusedError):
            for _ in range(50):
                it.connect().close()
                time.sleep(0.02)
    assert [told.status for told in it.answers if isinstance(told, RequestAnswered)][:1] == [200]


def test_stopping_waits_for_what_is_judged_for_nobody(
    slow: Slow, caplog: pytest.LogCaptureFixture
) -> None:
    with served(slow) as it:
        with it.connect() as leaving:
            leaving.sendall(pcm())
            time.sleep(0.2)
        assert [told.status for told in it.answered(1)] == [499]
    assert caplog.text == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_others_are_not_let_in_without_a_token(host: str) -> None:
    with pytest.raises(JudgeError, match="there is no token") as caught:
        bound(host, 0, None)
    assert "--token-file" in caught.value.hint
    if host == "0.0.0.0":
        bound(host, 0, TOKEN).close()


def test_a_place_that_is_taken_or_nowhere_is_a_sentence() -> None:
    with bound("127.0.0.1", 0, None) as door:
        door.listen()
        with pytest.raises(JudgeError, match=r"cannot listen at 127\.0\.0\.1, port \d+: Address"):
            bound("127.0.0.1", door.getsockname()[1], None)
    for host in ("no.such.host.invalid", "x" * 70):
        with pytest.raises(JudgeError, match="cannot listen at"):
            bound(host, 0, TOKEN)


def test_a_token_that_no_header_carries_is_refused(judge: LocalJudge, tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="the token is none") as caught:
        judge_server.Court(judge_server.Docket(judge, 1), "se same", print)
    assert "se same" not in str(caught.value)
