"""The judge behind HTTP: verdicts one after the other, for whoever holds the token.

    event loop: head -> token, type, length -> body ---room---> one thread: read, score
                401 411 413 415                408   503 full   422, or the verdict
                                                     504 late

Nothing that a stranger sends is read before its length is known, kept beyond 1 MiB a request, or
waited for without end.
"""

import asyncio
import contextlib
import hmac
import ipaddress
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from engine.audio import SAMPLE_RATE
from engine.errors import JudgeError
from engine.events import Emit, JudgeOpened, RequestAnswered
from engine.jobs import Control
from engine.judge import HEALTH, VERIFY, Health, Verdict, authorised
from engine.judge_body import MOST_BYTES, RefusedError, refuse_type, waveform_of
from engine.local_judge import LocalJudge

MOST_READING = 32
"""Bodies that are read at the same time."""
MOST_CONNECTIONS, BACKLOG = 512, 128
HEAD_S, BODY_S, LINGER_S = 10.0, 5.0, 1.0
DEADLINE_S = 5.0
"""From the whole body to the verdict."""
RETRY_S = "1"
GONE = 499
"""Told where a client left before its answer; nothing is sent."""
NO_TOKEN = "give --token-file FILE, or set WAKEWORD_JUDGE_TOKEN"


@dataclass(slots=True)
class Case:
    """A body that waits for its verdict; `gone` once nobody waits with it."""

    body: bytes
    content_type: str
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, the seconds of audio that it is of, and how long the thread was at it."""

    verdict: Verdict
    seconds: float
    scored_ms: float


class Docket:
    """What waits to be judged, at most `room` cases, one after the other in one thread."""

    def __init__(self, judge: LocalJudge, room: int) -> None:
        self.judge, self.room, self.waiting = judge, room, 0
        self._thread = ThreadPoolExecutor(1, "judge")

    def put(self, case: Case) -> "asyncio.Future[Judged | None]":
        """Have a case judged. Raises RefusedError, 503, where there is no room."""
        if self.waiting >= self.room:
            message = f"{self.waiting} requests wait already"
            raise RefusedError(503, message, f"ask again in {RETRY_S} s")
        self.waiting += 1
        judged = asyncio.get_running_loop().run_in_executor(self._thread, self._hear, case)
        judged.add_done_callback(self._leave)
        return judged

    def _leave(self, judged: "asyncio.Future[Judged | None]") -> None:
        self.waiting -= 1
        if not judged.cancelled():
            judged.exception()  # of a case that nobody waits for any more

    def _hear(self, case: Case) -> Judged | None:
        if case.gone:
            return None
        began_s = time.perf_counter()
        waveform = waveform_of(case.body, case.content_type)
        verdict = self.judge.verify(waveform)
        scored_ms = 1000 * (time.perf_counter() - began_s)
        return Judged(verdict, len(waveform) / SAMPLE_RATE, scored_ms)

    def close(self) -> None:
        """Wait for the thread."""
        self._thread.shutdown()


class Court:
    """The application: who may ask, for what, and what came of it."""

    def __init__(self, docket: Docket, token: str | None, emit: Emit) -> None:
        self._docket, self._emit = docket, emit
        self._pass = authorised(token).get("Authorization", "").encode()
        self._began_s, self._reading = time.monotonic(), 0
        self._app = Starlette(
            routes=[
                Route(VERIFY, self._verify, methods=["POST"]),
                Route(HEALTH, self._health, methods=["GET"]),
            ],
            exception_handlers={HTTPException: _not_here},
        )
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and tell of it; never of its audio or its token."""
        began_s, status, told = time.perf_counter(), GONE, scope.setdefault("state", {})

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            took_ms = round(1000 * (time.perf_counter() - began_s), 2)
            client, path = (scope["client"] or ("",))[0], scope["path"][:100]
            method = scope["method"][:20]
            self._emit(RequestAnswered(client, method, path, status, took_ms, **told))

    async def _health(self, request: Request) -> Response:
        judge, docket = self._docket.judge, self._docket
        up_s = time.monotonic() - self._began_s
        health = Health(
            judge.model, judge.threshold, judge.window_s, docket.waiting, docket.room, up_s
        )
        return JSONResponse(asdict(health))

    async def _verify(self, request: Request) -> Response:
        body = None
        try:
            self._let_in(request)
            body = await self._body(request)
            verdict = await self._verdict(request, body)
        except RefusedError as refused:
            return _refusal(refused, unread=body is None)
        except ClientDisconnect:
            return Response(status_code=GONE)
        return JSONResponse(asdict(verdict))

    def _let_in(self, request: Request) -> None:
        """Raise RefusedError for what need not be read to be refused."""
        headers = request.headers
        given = headers.get("authorization", "").encode("latin-1")
        if self._pass and not hmac.compare_digest(given, self._pass):
            hint = "send the header Authorization: Bearer TOKEN"
            raise RefusedError(401, "the token is missing or wrong", hint)
        refuse_type(headers.get("content-type", ""))
        if headers.get("content-encoding", "identity") != "identity":
            raise RefusedError(415, "the body is compressed", "send it as it is")
        if "transfer-encoding" in headers or "content-length" not in headers:
            raise RefusedError(411, "the request does not tell its length", "send Content-Length")
        length = request.scope["state"]["body_bytes"] = int(headers["content-length"])
        if length > MOST_BYTES:
            message = f"the body has {length} bytes, at most {MOST_BYTES} are read"
            raise RefusedError(413, message, "send a few seconds at 16 kHz")

    async def _body(self, request: Request) -> bytes:
        if self._reading >= MOST_READING:
            raise RefusedError(503, "too many requests at once", f"ask again in {RETRY_S} s")
        body, self._reading = bytearray(), self._reading + 1
        try:
            async with asyncio.timeout(BODY_S):
                async for part in request.stream():
                    body += part
        except TimeoutError:
            message = f"the body was not there within {BODY_S:g} s"
            raise RefusedError(408, message, "see whether the network is slow") from None
        finally:
            self._reading -= 1
        return bytes(body)

    async def _verdict(self, request: Request, body: bytes) -> Verdict:
        """The verdict on a body, unless it takes too long or the client leaves."""
        began_s, case = time.perf_counter(), Case(body, request.headers["content-type"])
        asked, left = self._docket.put(case), asyncio.ensure_future(_left(request))
        both: set[asyncio.Future[Any]] = {asked, left}
        await asyncio.wait(both, timeout=DEADLINE_S, return_when="FIRST_COMPLETED")
        if not asked.done():
            case.gone = True
            if left.done():
                raise ClientDisconnect
            left.cancel()
            raise RefusedError(504, f"no verdict within {DEADLINE_S:g} s", "ask again later")
        left.cancel()
        judged = asked.result()
        assert judged is not None, "only a case that is gone has no verdict"
        verdict, took_ms = judged.verdict, 1000 * (time.perf_counter() - began_s)
        request.scope["state"].update(
            seconds=round(judged.seconds, 3),
            scored_ms=round(judged.scored_ms, 2),
            score=round(verdict.score, 6),
            accepted=verdict.accepted,
        )
        return replace(verdict, took_ms=round(took_ms, 2))


async def _left(request: Request) -> None:
    """Wait until the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refusal(refused: RefusedError, *, unread: bool = False) -> Response:
    headers = {}
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refused.status == 503:
        headers["Retry-After"] = RETRY_S
    if unread:
        headers["Connection"] = "close"
    said = {"error": refused.message, "hint": refused.hint}
    return (Parting if unread else JSONResponse)(said, refused.status, headers)


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hint = f"POST {VERIFY} or GET {HEALTH}"
    message = f"there is no {request.method[:20]} {request.scope['path'][:100]}"
    return _refusal(RefusedError(error.status_code, message, hint), unread=True)


class Parting(JSONResponse):
    """The last answer of a connection whose body is not read.

    What still comes is thrown away for a moment: a client that is cut off while it sends might
    never see the answer.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, wait a little, and close."""
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                left = MOST_BYTES
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body"):
                        break
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Door(H11Protocol):
    """A connection; it is closed if no whole head has come HEAD_S after one could begin."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        self._wait()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._wait()

    def _wait(self) -> None:
        self.loop.call_later(HEAD_S, self._lose_patience, self.cycle)

    def _lose_patience(self, before: object) -> None:
        if self.cycle is before and not self.transport.is_closing():
            self.transport.abort()


class _Server(uvicorn.Server):
    """Stops when its control says so; signals are the front door's."""

    def __init__(self, config: uvicorn.Config, docket: Docket, control: Control) -> None:
        super().__init__(config)
        self._docket, self._control = docket, control

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        return self._control.stopping or await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        while self._docket.waiting:  # what is scored for nobody any more
            await asyncio.sleep(0.02)


def bound(host: str, port: int, token: str | None) -> socket.socket:
    """A socket at a place, not listening yet; 0 is any free port.

    Raises JudgeError, also for a place that others can reach where there is no token.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        if token is None and not ipaddress.ip_address(address[0]).is_loopback:
            raise JudgeError(f"others can reach {host}, and there is no token", NO_TOKEN)
        # asyncio sends at once only where the protocol is named; else answers wait 40 ms
        door = socket.socket(family, kind, protocol)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(address)
        except OSError:
            door.close()
            raise
        return door
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        hint = "choose another --host or --port"
        raise JudgeError(f"cannot listen at {host}, port {port}: {reason}", hint) from None


def serve(
    judge: LocalJudge,
    door: socket.socket,
    token: str | None,
    room: int,
    *,
    emit: Emit,
    control: Control,
) -> None:
    """Judge whatever comes to a socket until the control stops it; then answer what has come."""
    judge.verify(np.zeros(round(judge.sent_s * SAMPLE_RATE), np.float32))  # the first is slow
    docket = Docket(judge, room)
    config = uvicorn.Config(
        Court(docket, token, emit),
        http=Door,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        h11_max_incomplete_event_size=16_384,
        # Longer than a client keeps it, 5 s in httpx: else one asks just as the other closes it.
        timeout_keep_alive=round(HEAD_S),
        timeout_graceful_shutdown=round(BODY_S + DEADLINE_S + LINGER_S + 1),
    )
    door.listen(BACKLOG)
    host, port = door.getsockname()[:2]
    place = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    emit(JudgeOpened(place, judge.model, judge.threshold))
    _Server(config, docket, control).run([door])
    docket.close()
