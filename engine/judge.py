"""Judge: a larger model behind HTTP hears the window again. Its wire format, and the client.

    sentry fires ---- POST /v1/verify, 3 s of s16le at 16 kHz ----> judge
                 <--- {accepted, score, threshold, model, took_ms} ---

One deadline holds over all of it: looking up a name, connecting, sending, trying again, and a
server that answers a byte a second. So requests run in an event loop in a thread of their own.
"""

import asyncio
import concurrent.futures
import ipaddress
import json
import math
import os
import random
import ssl
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import SplitResult, urlsplit

from engine.audio import Waveform, to_int16
from engine.errors import JudgeError, WakewordError

OnFailure = Literal["accept", "reject"]

PCM, VERIFY, HEALTH = "audio/pcm", "/v1/verify", "/health"
TOKEN_VARIABLE = "WAKEWORD_JUDGE_TOKEN"
PRE_ROLL_S = 0.5
"""Audio before the judge's own window: it takes the best of all windows that end in there."""
SENT_S = 3.0
"""Audio up to where the sentry fired that is sent to a judge whose window is not known: a window of
1.5 s, a second in which PCEN warms up, and the pre-roll."""
AFTER_S = 0.5
"""How long to wait before sending: a loose sentry fires before the word is over."""
TIMEOUT_S = 2.0
RETRIES = 2
PAUSE_S = 0.1
"""Before the first retry, and twice as long before the next; half of it is left to chance."""
MOST_ANSWER_BYTES = 65_536
LET_GO = "the judge was let go before it answered"
NONSENSE = "see that the URL is that of `wakeword-tui judge`"
Answer = tuple[int, float, bytes]
"""A status, the seconds after which to ask again, and the body."""
Told = TypeVar("Told")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge makes of a window: whether its `score` reaches its `threshold`.

    `took_ms` is the judge's own time; what the way takes comes on top (`Decision.waited_ms`).
    """

    accepted: bool
    score: float
    threshold: float
    model: str
    took_ms: float

    def at(self, threshold: float) -> "Verdict":
        """What it had been at another threshold."""
        return replace(self, accepted=self.score >= threshold, threshold=threshold)


Verify = Callable[[Waveform], Verdict]
"""What a judge makes of the audio that it is sent `(N,)`, behind HTTP or not."""


@dataclass(frozen=True, slots=True)
class Health:
    """How a judge does: `waiting` of at most `room` requests are not scored yet."""

    model: str
    threshold: float
    window_s: float
    waiting: int
    room: int
    uptime_s: float

    @property
    def sent_s(self) -> float:
        """Seconds of audio, up to where the sentry fired, that this judge should hear."""
        return self.window_s + PRE_ROLL_S


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a detection stands: by the judge's verdict or, if it failed, by the policy."""

    accepted: bool
    verdict: Verdict | None
    failure: WakewordError | None
    waited_ms: float

    @property
    def by_policy(self) -> bool:
        """Whether no judge has spoken."""
        return self.verdict is None

    @property
    def line(self) -> str:
        """The decision in one line, and who made it."""
        what = "accepted" if self.accepted else "rejected"
        if self.verdict is None:
            return f"{what} unheard, as on_failure says: {self.failure and self.failure.message}"
        score, threshold = self.verdict.score, self.verdict.threshold
        sign = ">=" if self.accepted else "<"
        return f"{what} by {self.verdict.model}: {score:.3f} {sign} {threshold:.3f}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A judge, the seconds up to a detection that it is sent, and who decides where it fails."""

    verify: Verify
    sent_s: float = SENT_S
    on_failure: OnFailure = "reject"

    def decide(self, waveform: Waveform) -> Decision:
        """Have a waveform `(N,)` judged; where the judge fails, the policy decides, and says so."""
        began_s = time.monotonic()
        verdict, failure = None, None
        try:
            verdict = self.verify(waveform)
        except WakewordError as error:
            failure = error
        accepted = verdict.accepted if verdict else self.on_failure == "accept"
        return Decision(accepted, verdict, failure, 1000 * (time.monotonic() - began_s))


class Judge:
    """Asks a judge, from any thread; close it in the end.

    A request has `timeout_s` for everything. It is repeated, after a pause, where the connection
    failed or the judge was busy, and never otherwise. The token is in no text of this class.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        ca_file: Path | None = None,
    ) -> None:
        import httpx

        place = _place(url)
        self.url, self.timeout_s = url.rstrip("/"), timeout_s
        self._network = (httpx.NetworkError, httpx.RemoteProtocolError)
        headers = {"Accept-Encoding": "identity"} | authorised(token)
        trust = _trust(ca_file) if place.scheme == "https" else False
        near = _is_near(place.hostname or "")
        try:
            self._client = httpx.AsyncClient(
                timeout=None, headers=headers, verify=trust, trust_env=not near
            )
        except (ImportError, ValueError, httpx.InvalidURL):  # it may have a password: not quoted
            hint = "HTTPS_PROXY, HTTP_PROXY and ALL_PROXY take http://HOST:PORT; see NO_PROXY too"
            message = f"cannot ask {self.url} through the proxy of the environment"
            raise JudgeError(message, hint) from None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge", daemon=True)
        self._thread.start()
        self._open, self._changing = True, threading.Lock()

    def __repr__(self) -> str:
        return f"Judge({self.url!r})"

    def __enter__(self) -> "Judge":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def verify(self, waveform: Waveform) -> Verdict:
        """Have a waveform `(N,)` judged. Raises JudgeError."""
        samples = to_int16(waveform).astype("<i2").tobytes()
        verdict = _told(Verdict, self._within("POST", VERIFY, samples))
        if not 0 <= verdict.score <= 1:
            raise JudgeError(f"the judge at {self.url} gave a score of {verdict.score:g}", NONSENSE)
        return verdict

    def health(self) -> Health:
        """Ask how the judge does. Raises JudgeError."""
        return _told(Health, self._within("GET", HEALTH))

    def close(self) -> None:
        """Give up what is under way, and let the connections go."""
        with self._changing:
            if not self._open:
                return
            self._open = False
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    def _within(self, method: str, path: str, content: bytes | None = None) -> bytes:
        """Ask, and wait for an answer for as long as the timeout allows."""
        with self._changing:
            if not self._open:
                raise JudgeError(LET_GO)
            asked = asyncio.run_coroutine_threadsafe(self._timed(method, path, content), self._loop)
        try:
            return asked.result()
        except concurrent.futures.CancelledError:
            raise JudgeError(LET_GO) from None
        finally:
            asked.cancel()

    async def _timed(self, method: str, path: str, content: bytes | None) -> bytes:
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._answer(method, path, content)
        except TimeoutError:
            message = f"the judge at {self.url} gave no answer within {self.timeout_s:g} s"
            raise JudgeError(message, "see whether it runs, or give it a longer timeout") from None

    async def _answer(self, method: str, path: str, content: bytes | None) -> bytes:
        """Ask until there is an answer, or no use in asking again."""
        until_s = self._loop.time() + self.timeout_s
        for pause_s in [PAUSE_S * 2**tried for tried in range(RETRIES)] + [math.inf]:
            wait_s = random.uniform(pause_s / 2, pause_s) if pause_s < math.inf else pause_s
            try:
                status, retry_s, body = await self._once(method, path, content)
            except self._network as error:
                failure = self._unreachable(error)
            else:
                if status == 200:
                    return body
                failure = self._refusal(status, body)
                if status != 503:
                    break
                wait_s += retry_s
            if self._loop.time() + wait_s >= until_s:
                break
            await asyncio.sleep(wait_s)
        raise failure

    async def _once(self, method: str, path: str, content: bytes | None) -> Answer:
        """Ask once."""
        import httpx

        headers = {"Content-Type": PCM} if content is not None else {}
        body = bytearray()
        try:
            async with self._client.stream(
                method, self.url + path, content=content, headers=headers
            ) as response:
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > MOST_ANSWER_BYTES:
                        raise JudgeError(f"the judge at {self.url} does not stop talking", NONSENSE)
        except self._network:
            raise
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise JudgeError(f"cannot ask {self.url}: {error}", NONSENSE) from None
        return response.status_code, _seconds(response.headers.get("retry-after")), bytes(body)

    def _unreachable(self, error: Exception) -> JudgeError:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLError):
                message = f"the judge at {self.url} is not who it says: {cause.reason or cause}"
                return JudgeError(message, "give the certificate of its authority as ca_file")
            cause = cause.__cause__ or cause.__context__
        hint = "start it with `wakeword-tui judge`, and see that the URL is right"
        return JudgeError(f"no judge at {self.url}: {str(error) or type(error).__name__}", hint)

    def _refusal(self, status: int, body: bytes) -> JudgeError:
        """What the judge says against a request, in its own words if it has some."""
        try:
            told = json.loads(body)
            message, hint = _plain(told["error"]), _plain(told["hint"])
        except (ValueError, KeyError, TypeError, RecursionError):
            message, hint = f"HTTP status {status}", NONSENSE
        if status == 401:
            hint = f"set judge.token_file, or {TOKEN_VARIABLE}"
        return JudgeError(f"the judge at {self.url} answered: {message}", hint)


def read_token(file: Path | None) -> str | None:
    """The token in a file or, without one, in the environment; None if there is none.

    Raises JudgeError where the file cannot be used, or everyone on the machine may read it.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip() or None
    try:
        token, mode = file.read_text(encoding="utf-8").strip(), file.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        hint = "put the token there, alone, in a file of your own"
        raise JudgeError(f"cannot read the token in {file}: {reason}", hint) from None
    if os.name == "posix" and mode & stat.S_IROTH:
        raise JudgeError(f"everyone may read the token in {file}", f"chmod 600 {file}")
    if not token:
        raise JudgeError(f"there is no token in {file}", "put it there, alone")
    return token


def authorised(token: str | None) -> dict[str, str]:
    """The header that carries a token. Raises JudgeError, which does not quote it."""
    if token is None:
        return {}
    if not token or not all("!" <= letter <= "~" for letter in token):
        hint = "take one line of ASCII without spaces, say of `openssl rand -hex 32`"
        raise JudgeError("the token is none that a header can carry", hint)
    return {"Authorization": f"Bearer {token}"}


def _place(url: str) -> SplitResult:
    """The parts of a judge's URL. Raises JudgeError."""
    hint = "give its address, as http://127.0.0.1:8765 or https://judge.example.org"
    try:
        place = urlsplit(url)
        whole = place.scheme in ("http", "https") and place.hostname and place.port != 0
    except ValueError:
        whole = False
    if not whole or place.query or place.fragment:
        raise JudgeError("that is no URL of a judge", hint)
    if place.username is not None or place.password is not None:
        raise JudgeError("the URL of the judge has a password in it", "keep a token in a file")
    return place


def _is_near(host: str) -> bool:
    """Whether a host is this machine, to which no proxy leads."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    """Whom to believe: the authorities of the system, or that of a file. Raises JudgeError."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        hint = "give the certificate of the judge's authority, as PEM"
        raise JudgeError(f"cannot use {ca_file}: {error.strerror or error}", hint) from None


def _told(kind: type[Told], body: bytes) -> Told:
    """Read an answer: every field of its type. Raises JudgeError."""
    try:
        told = json.loads(body)
        known: Any = kind
        return kind(
            **{field.name: _checked(told[field.name], field.type) for field in fields(known)}
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        message = f"the judge's answer holds no {kind.__name__.lower()}"
        raise JudgeError(message, NONSENSE) from None


def _checked(value: object, kind: object) -> object:
    """A value of JSON as a field of a type has it; text fit for a terminal, numbers finite."""
    if kind is str and isinstance(value, str):
        return _plain(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError
        return float(value)
    if type(value) is not kind:
        raise TypeError
    return value


def _plain(text: str) -> str:
    """What another machine says, short and without what moves a terminal's cursor."""
    return "".join(letter for letter in text[:200] if letter.isprintable())


def _seconds(text: str | None) -> float:
    """A Retry-After in seconds; a date, or nonsense, is not waited for."""
    return float(text) if text and text.isascii() and text.isdigit() else 0.0
