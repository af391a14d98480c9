"""What stands before every route: limits, a queue, one shape of error, and its counts.

A request is measured before anything of it is parsed: its bytes, how deep it goes, how
many values and brackets it has, for a parser takes a hundred bytes for each of them.
So many requests wait as declared, the others are told when to come again; health is
answered beside them. Whatever is refused says so in one shape, with the request's id.
"""

import asyncio
import json
import re
import secrets
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, NoReturn

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hustings.serving.keys import KEY_NAME, Keys

MEBIBYTE = 2**20
MAX_DEPTH = 16
"""How deep a body may go; no route needs more than six."""
QUEUE_REQUESTS, QUEUE_BYTES = 64, 96 * MEBIBYTE
"""So many requests are read, wait or are answered at a time, of so many bytes: those
that need the store, and beside them as many that do not."""
BODY_WITHIN_S, TURN_WITHIN_S = 30.0, 10.0
"""A body has to be there, and a request to get its turn, within so long."""
QUEUE_AGAIN_S = 1
READY, CLIENT_SCHEMA = "/ready", "/client_schema.json"
"""Whether a recommendation would be answered now; the routes for BentoML's client."""
_ROUTE_INSIDE = {"/readyz": READY, "/schema.json": CLIENT_SCHEMA}
"""BentoML's own say only that the process has started, and that there is a mount."""
DOCS, DOCS_JSON = "/docs", "/docs.json"
_DOCS_FILES = "/static_content/"
"""What the page of the description loads. A browser sends the key to these, and to no
route that does anything, as the password that it asks for."""
MOST_DRAINED = 128 * MEBIBYTE
LARGE_BODY = MEBIBYTE
"""Of larger bodies one is answered at a time, so that memory has a bound."""
AT_ONCE = 8
"""So many requests are computed at a time: one waits for the disk, another computes."""
ANY_ROUTE = "other"
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class BodyLimits(NamedTuple):
    """Limits of the body of one route.

    Attributes:
        n_bytes: Bytes.
        brackets: Objects and lists, in all.
        values: Values, in all.
    """

    n_bytes: int
    brackets: int
    values: int


_VOTERS = BodyLimits(32 * MEBIBYTE, 50_000, 2_000_000)
WORDS_LIMITS = BodyLimits(64 * 2**10, 16, 100)
LIMITS: Mapping[str, BodyLimits] = {
    "/score": _VOTERS,
    "/invocations": _VOTERS,
    "/recommend": _VOTERS,
    "/sent": BodyLimits(MEBIBYTE, 16, 20_000),
    "/reactions": BodyLimits(16 * MEBIBYTE, 50_000, 1_000_000),
    "/reactions/review": WORDS_LIMITS,
    "/pause": WORDS_LIMITS,
    "/resume": WORDS_LIMITS,
}
"""By route; any other route takes what a few words need."""
STORE_ROUTES = frozenset(
    {"/recommend", "/sent", "/reactions", "/reactions/review", "/pause", "/resume"}
)
"""Routes that ask the store of the campaign: where it does not answer, they wait and
are refused in a queue of their own, and the model answers beside them."""
ROUTES = frozenset(
    {*LIMITS, "/model", "/monitor", "/monitor/stream", "/metrics", "/healthz", "/livez",
     "/readyz", "/ping", "/", DOCS, DOCS_JSON, "/schema.json"}
)  # fmt: skip
"""Names of routes that counts are kept by; any other is `ANY_ROUTE`."""


def broken_limit(body: bytes | bytearray, limits: BodyLimits) -> str:
    """Which limit a body breaks before it is parsed, in words; '' for none.

    Brackets and commas inside texts count, too: the scan is of bytes, and no row of a
    voter file holds thousands of them.
    """
    brackets = body.count(b"{") + body.count(b"[")
    if brackets > limits.brackets:
        return f"expected at most {limits.brackets:,} objects and lists in a body"
    if brackets + body.count(b",") > limits.values:
        return f"expected at most {limits.values:,} values in a body"
    if brackets > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        bare = _STRING.sub(b"", body)
        if _depth(bare) > MAX_DEPTH:
            return f"expected a body at most {MAX_DEPTH} levels deep"
    return ""


def _depth(body: bytes | bytearray) -> int:
    signs = np.frombuffer(body, dtype=np.uint8)
    # only brackets: of { } and [ ] the two of a kind differ by 0x20
    brackets = signs[(signs & 0xDF == 0x5B) | (signs & 0xDF == 0x5D)]
    steps = np.where(brackets & 0xDF == 0x5B, 1, -1)
    return int(np.cumsum(steps).max(initial=0))


class _RefusedError(Exception):
    """A request that the gate does not let in.

    Attributes:
        status: HTTP status.
        reason: One of few words, for the counts.
        message: What was expected.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


class Counts:
    """Counts of the endpoint, for `GET /metrics`."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "hustings_requests", "Requests.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "hustings_request_seconds",
            "Time of a request, its time in the queue included.",
            ["route"],
            registry=registry,
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
        )
        self.rows = Counter(
            "hustings_rows", "Voters answered about.", ["route"], registry=registry
        )
        self.refused = Counter(
            "hustings_refused", "Requests refused.", ["reason"], registry=registry
        )
        self.queue = Gauge("hustings_queue", "Requests inside.", registry=registry)
        self.queue_bytes = Gauge(
            "hustings_queue_bytes", "Bytes of their bodies.", registry=registry
        )
        self.model = Gauge(
            "hustings_model_info", "The version that answers.", ["name", "version"],
            registry=registry,
        )  # fmt: skip
        self.model_age = Gauge(
            "hustings_model_age_seconds", "Since it was trained.", registry=registry
        )


class Turns:
    """Turns of the requests inside the gate.

    Attributes:
        n: Requests inside.
        n_bytes: Bytes of their bodies.
    """

    def __init__(self) -> None:
        self.n = self.n_bytes = 0
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._large = asyncio.Lock()

    def enter(self) -> None:
        """Let a request in."""
        if self.n >= QUEUE_REQUESTS:
            raise _RefusedError(503, "queue", "expected a shorter queue: come again")
        self.n += 1

    def hold(self, n_bytes: int) -> None:
        """Let more bytes of a request in."""
        if self.n_bytes + n_bytes > QUEUE_BYTES:
            raise _RefusedError(503, "queue", "expected a shorter queue: come again")
        self.n_bytes += n_bytes

    @asynccontextmanager
    async def turn(self, n_bytes: int) -> AsyncIterator[None]:
        """Wait for a turn; of large bodies one has it at a time."""
        is_large = n_bytes > LARGE_BODY
        try:
            async with asyncio.timeout(TURN_WITHIN_S):
                if is_large:
                    await self._large.acquire()
                try:
                    await self._turn.acquire()
                except BaseException:
                    if is_large:
                        self._large.release()
                    raise
        except TimeoutError:
            message = "expected a shorter queue: come again"
            raise _RefusedError(503, "queue", message) from None
        try:
            yield
        finally:
            self._turn.release()
            if is_large:
                self._large.release()


class FrontDoor:
    """Middleware: what every request passes on its way in and out.

    Args:
        app: What is behind it.
        counts: Where it counts.
        is_open: Paths that need no key.
    """

    def __init__(self, app: ASGIApp, counts: Counts, is_open: Collection[str]) -> None:
        self.app, self.counts, self.is_open = app, counts, is_open
        self.keys = Keys.of_environment()
        self.turns_with_store, self.turns_without = Turns(), Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        route = scope["path"] if scope["path"] in ROUTES else ANY_ROUTE
        inside = _ROUTE_INSIDE.get(route)
        if inside is not None:
            scope = {**scope, "path": inside, "raw_path": inside.encode()}
        answer = _Answer(send, _request_id(scope))
        started = time.perf_counter()
        try:
            self._admit(scope)
            is_read = scope["method"] in ("GET", "HEAD")
            if is_read and scope["path"] not in STORE_ROUTES:
                await self.app(scope, receive, answer.send)
            else:
                await self._with_body(scope, receive, answer)
        except _RefusedError as refusal:
            self.counts.refused.labels(refusal.reason).inc()
            await answer.refuse(refusal, asks_browser=_is_for_browser(scope))
        finally:
            self.counts.requests.labels(route, str(answer.status)).inc()
            if route != "/monitor/stream":
                took = time.perf_counter() - started
                self.counts.seconds.labels(route).observe(took)

    def _admit(self, scope: Scope) -> None:
        """Ask for the key and its role before anything is read."""
        if scope["path"] in self.is_open or scope["path"] == READY:
            return
        key = self.keys.of(_given_key(scope))
        if key is None:
            address = (scope.get("client") or ("unknown",))[0]
            if _given_key(scope) and self.keys.failed(address):
                raise _RefusedError(429, "wrong_key", "expected a known key")
            raise _RefusedError(
                401, "no_key",
                "expected the API key as 'Authorization: Bearer <key>' or "
                "'X-API-Key: <key>'",
            )  # fmt: skip
        if self.keys.is_too_often(key):
            message = f"expected at most {key.per_second:g} requests a second"
            raise _RefusedError(429, "rate", message)
        if not key.may(scope["method"], scope["path"]):
            message = f"expected a key that may {scope['method']} {scope['path']}"
            raise _RefusedError(403, "role", message)
        scope[KEY_NAME] = key.name

    async def _with_body(
        self, scope: Scope, receive: Receive, answer: "_Answer"
    ) -> None:
        needs_store = scope["path"] in STORE_ROUTES
        turns = self.turns_with_store if needs_store else self.turns_without
        turns.enter()
        self._count_queue()
        held = 0
        try:
            limits = LIMITS.get(scope["path"], WORDS_LIMITS)
            declared = _declared_bytes(scope)
            if declared is not None and declared > limits.n_bytes:
                await _drained(receive)
                _too_long(limits)
            body = bytearray()
            async with asyncio.timeout(BODY_WITHIN_S):
                async for part in _parts(receive):
                    turns.hold(len(part))
                    held += len(part)
                    body += part
                    if len(body) > limits.n_bytes:
                        _too_long(limits)
            self._count_queue()
            broken = broken_limit(body, limits)
            if broken:
                raise _RefusedError(413, "size", broken)
            async with turns.turn(len(body)):
                complete = bytes(body)
                body.clear()
                await self.app(scope, _once(complete, receive), answer.send)
        except TimeoutError:
            message = f"expected the body within {BODY_WITHIN_S:g} s"
            raise _RefusedError(408, "slow", message) from None
        finally:
            turns.n -= 1
            turns.n_bytes -= held
            self._count_queue()

    def _count_queue(self) -> None:
        queues = (self.turns_with_store, self.turns_without)
        self.counts.queue.set(sum(turns.n for turns in queues))
        self.counts.queue_bytes.set(sum(turns.n_bytes for turns in queues))


def _too_long(limits: BodyLimits) -> NoReturn:
    raise _RefusedError(413, "size", f"expected at most {limits.n_bytes:,} bytes")


async def _drained(receive: Receive) -> None:
    """Let a sender finish, so that it reads the answer; nothing is kept."""
    n_bytes = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(BODY_WITHIN_S):
            async for part in _parts(receive):
                n_bytes += len(part)
                if n_bytes > MOST_DRAINED:
                    return


def _declared_bytes(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None


async def _parts(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _RefusedError(400, "gone", "expected the whole body")
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


def _once(body: bytes, receive: Receive) -> Receive:
    """A body that was read before; what comes after it is the connection's."""
    left = [body]

    async def read() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return read


def _given_key(scope: Scope) -> bytes:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
    given = bearer.strip() if scheme.lower() == b"bearer" else b""
    if scheme.lower() == b"basic" and _is_for_browser(scope):
        with suppress(ValueError):
            given = b64decode(bearer, validate=True).partition(b":")[2]
    return given or headers.get(b"x-api-key", b"")


def _is_for_browser(scope: Scope) -> bool:
    path: str = scope["path"]
    is_docs = path in (DOCS, DOCS_JSON) or path.startswith(_DOCS_FILES)
    return is_docs and scope["method"] in ("GET", "HEAD")


def _request_id(scope: Scope) -> str:
    """The sender's own id where it is a plain word, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(text):
                return str(text)
    return secrets.token_hex(8)


class _Answer:
    """The answer on its way out: every error gets the one shape."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._request_id = send, request_id
        self._start: Message | None = None
        self._body = bytearray()
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [
                *message["headers"],
                (b"x-request-id", self._request_id.encode()),
            ]
            message = {**message, "headers": headers}
            if self.status < 400:
                await self._send(message)
            else:
                self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_error(self._start, bytes(self._body))

    async def refuse(self, refusal: _RefusedError, *, asks_browser: bool) -> None:
        """Answer with one fault of the whole request."""
        again: list[tuple[bytes, bytes]] = []
        status = refusal.status
        if status in (429, 503):
            again = [(b"retry-after", str(QUEUE_AGAIN_S).encode())]
        if status == 401:
            scheme = b'Basic realm="the key as password"' if asks_browser else b"Bearer"
            again = [(b"www-authenticate", scheme)]
        start = {"type": "http.response.start", "status": status, "headers": again}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": _fault(refusal.message)})

    async def _send_error(self, start: Message, body: bytes) -> None:
        content = _shaped(body, start["status"], self._request_id)
        headers = [
            (name, value)
            for name, value in start["headers"]
            if name.lower() not in (b"content-length", b"content-type")
        ]
        headers += [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
        ]
        await self._send({**start, "headers": headers})
        await self._send({"type": "http.response.body", "body": content})


def _fault(message: str) -> bytes:
    return json.dumps(
        {"faults": [{"path": "", "message": message}], "n_faults": 1}
    ).encode()


def _shaped(body: bytes, status: int, request_id: str) -> bytes:
    """An error in the one shape: `faults`, how many, and the request's id."""
    shape: Any = None
    with suppress(ValueError):
        shape = json.loads(body)
    if not isinstance(shape, dict) or "faults" not in shape:
        # what Starlette and BentoML say themselves is short, and theirs alone
        text = body.decode(errors="replace").strip() if status < 500 else ""
        shape = json.loads(_fault(text[:200] or f"expected another request: {status}"))
    return json.dumps({"request_id": request_id, **shape}).encode()
