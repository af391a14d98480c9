"""BentoML endpoint: HTTP over a campaign's bundle, and nothing else.

`POST /score` and `POST /recommend` take voters in the campaign's own columns, `POST
/sent` what was carried out of it; `GET /model` says which version answers. A key is
required on everything but health. Rows are never logged.
"""

import gc
import hmac
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
# threads that spin while they wait starve each other where cores are few
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import bentoml
import pandas as pd
from bentoml.exceptions import BentoMLException
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import hustings
from hustings.serving.endpoint import Endpoint
from hustings.serving.monitor import http as monitor_http
from hustings.serving.reactions import http as reactions_http
from hustings.serving.voter_rows import (
    RecommendRequest,
    RequestError,
    RequestFault,
    ScoreRequest,
    SentRequest,
    parsed,
    refuse,
)

Json = dict[str, Any]

KEY_VARIABLE = "HUSTINGS_API_KEY"
BUNDLE_VARIABLE = "HUSTINGS_BUNDLE"
ROOT = Path(hustings.__file__).parents[1]
HEALTH = frozenset({"/healthz", "/livez", "/readyz"})
OPEN = HEALTH | {monitor_http.PAGE}
"""What answers without a key: the page carries no data and asks for it."""
MAX_BYTES = 64 * 2**20
MAX_FAULTS_LISTED = 100
LOOPBACK = "127.0.0.1"
"""Where the endpoint listens unless another address is given."""


class ApiKey:
    """Middleware: without the key nothing but health answers.

    Args:
        app: What is kept behind the key.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.key = api_key().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        is_open = scope["type"] == "lifespan" or (
            scope["type"] == "http" and scope["path"] in OPEN
        )
        if is_open or self._carries_key(scope):
            await self.app(scope, receive, send)
            return
        refused = _error_response(
            401,
            [
                RequestFault(
                    path="",
                    message="expected the API key as 'Authorization: Bearer <key>' or "
                    "'X-API-Key: <key>'",
                )
            ],
        )
        refused.headers["WWW-Authenticate"] = "Bearer"
        await refused(scope, receive, send)

    def _carries_key(self, scope: Scope) -> bool:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        given = bearer.strip() if scheme.lower() == b"bearer" else b""
        given = given or headers.get(b"x-api-key", b"")
        return hmac.compare_digest(given, self.key)


def api_key() -> str:
    """The key that requests must carry.

    Raises:
        ValueError: If there is none: nothing is served without one.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise ValueError(
            f"expected an API key in the environment's {KEY_VARIABLE}, got none; "
            'make one: python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return key


def _error_response(status: int, faults: Sequence[RequestFault]) -> Response:
    shown_faults = [fault.model_dump() for fault in faults[:MAX_FAULTS_LISTED]]
    return JSONResponse({"faults": shown_faults, "n_faults": len(faults)}, status)


async def _body(request: Request) -> bytes:
    """The body, as long as it is not too long."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            refuse("", f"expected at most {MAX_BYTES:,} bytes", status=413)
    return bytes(body)


def utc_now() -> pd.Timestamp:
    """The time of a request, UTC without a zone: the one clock of the endpoint."""
    return pd.Timestamp(time.time(), unit="s").floor("us")


_Answer = Callable[[Endpoint, bytes], Json]


def _handler(answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
    """An answer computed outside the event loop, so that health answers meanwhile."""

    def respond(endpoint: Endpoint, body: bytes) -> Response:
        try:
            text = to_json(answer(endpoint, body))
        except RequestError as bad:
            return _error_response(bad.status, bad.faults)
        return Response(text, media_type="application/json")

    async def handle(request: Request) -> Response:
        try:
            body = await _body(request)
        except RequestError as bad:
            return _error_response(bad.status, bad.faults)
        return await run_in_threadpool(respond, request.app.state.endpoint, body)

    return handle


def _score(endpoint: Endpoint, body: bytes) -> Json:
    return endpoint.score(parsed(ScoreRequest, body))


def _recommend(endpoint: Endpoint, body: bytes) -> Json:
    return endpoint.recommend(parsed(RecommendRequest, body), at=utc_now())


def _sent(endpoint: Endpoint, body: bytes) -> Json:
    return endpoint.report_sent(parsed(SentRequest, body), at=utc_now())


async def _describe(request: Request) -> Response:
    endpoint: Endpoint = request.app.state.endpoint
    return JSONResponse(endpoint.describe())


routes = Starlette(
    routes=[
        Route("/score", _handler(_score), methods=["POST"]),
        Route("/recommend", _handler(_recommend), methods=["POST"]),
        Route("/sent", _handler(_sent), methods=["POST"]),
        Route("/model", _describe, methods=["GET"]),
        *reactions_http.routes,
        *monitor_http.routes,
    ]
)


def bundle_folder() -> Path:
    """The bundle to serve: the one named in the environment, else the Bento's own."""
    return Path(os.environ.get(BUNDLE_VARIABLE) or ROOT / "bundle")


class _Hustings:
    """Lift of every message, and the best one at the current plan's price."""

    @staticmethod
    def check() -> None:
        """Refuse to start without a key or a bundle, before any worker does."""
        try:
            api_key()
            Endpoint.load(bundle_folder())
        except (FileNotFoundError, ValueError) as failure:
            # BentoML tells its own errors without a traceback
            raise BentoMLException(str(failure)) from None

    def __init__(self) -> None:
        bundle = bundle_folder()
        endpoint = Endpoint.load(bundle)
        intake = reactions_http.Intake.of_bundle(bundle)
        watch = monitor_http.started(intake.events, bundle, endpoint.plan)
        routes.state.intake, routes.state.watch = intake, watch
        routes.state.endpoint = endpoint
        # the model stays for good: the collector need not walk it in every pass
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)


bentoml.on_deployment(_Hustings.check)
Hustings: bentoml.Service[_Hustings] = bentoml.service(
    name="hustings",
    workers=1,
    traffic={"timeout": 120},
    http={"host": LOOPBACK},
    envs=[{"name": KEY_VARIABLE}],
)(_Hustings)
Hustings.mount_asgi_app(routes)
Hustings.add_asgi_middleware(ApiKey)


def serve_bundle(bundle: Path, *, host: str = LOOPBACK, port: int = 3000) -> NoReturn:
    """Become the server of a bundle, until it is stopped.

    Args:
        bundle: Folder that `hustings plan` writes.
        host: Address to bind to; other machines reach anything but loopback.
        port: Port.

    Raises:
        ValueError: If there is no API key in the environment.
        FileNotFoundError: If there is no bundle.
    """
    api_key()
    if not (bundle / "version.json").exists():
        raise FileNotFoundError(
            f"{bundle}: expected a serving bundle, found none; `hustings run` makes one"
        )
    address = LOOPBACK if host == "localhost" else host
    command = [
        sys.executable, "-m", "bentoml", "serve", f"{__name__}:Hustings",
        "--working-dir", str(ROOT), "--host", address, "--port", str(port),
        # whoever watches the monitor does not keep it from stopping
        "--timeout-graceful-shutdown", "5",
    ]  # fmt: skip
    there = {**os.environ, BUNDLE_VARIABLE: str(bundle.resolve())}
    os.execve(sys.executable, command, there)
