"""BentoML endpoint: HTTP over a campaign's bundle, and nothing else.

`POST /score` and `POST /recommend` take voters in the campaign's own columns, `POST
/invocations` as a server of MLflow does, `POST /sent` what was carried out; `GET
/model` says which version answers. A key is required on everything but health. Rows
are never logged.
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
# threads that spin while they wait starve each other where cores are few
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import bentoml
import pandas as pd
import sqlalchemy as sa
from bentoml.exceptions import BentoMLException
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import hustings
from hustings.serving.bodies import (
    InvocationRequest,
    RecommendRequest,
    ScoreRequest,
    SentRequest,
    parsed,
)
from hustings.serving.description import PAGE, PAGE_POLICY, Description
from hustings.serving.endpoint import Endpoint
from hustings.serving.gate import (
    CLIENT_SCHEMA,
    DOCS,
    DOCS_JSON,
    READY,
    Counts,
    FrontDoor,
)
from hustings.serving.keys import KEY_VARIABLE, Keys
from hustings.serving.monitor import http as monitor_http
from hustings.serving.monitor.http import MonitorFollower
from hustings.serving.private_control import close_control_ports
from hustings.serving.reactions import http as reactions_http
from hustings.serving.responses import answered, not_now

Json = dict[str, Any]

BUNDLE_VARIABLE = "HUSTINGS_BUNDLE"
ROOT = Path(hustings.__file__).parents[1]
HEALTH = frozenset({"/healthz", "/livez", "/readyz", "/ping"})
OPEN = HEALTH | {monitor_http.PAGE}
"""What answers without a key: the page carries no data and asks for it."""
COUNTS = Counts()
READY_WITHIN_S = 2.0
_READINESS = ThreadPoolExecutor(1, "readiness")
"""Whoever asks for it without a key holds up one thread at most, and no request."""
LOOPBACK = "127.0.0.1"
"""Where the endpoint listens unless another address is given."""


def utc_now() -> pd.Timestamp:
    """The time of a request, UTC without a zone: the one clock of the endpoint."""
    return pd.Timestamp(time.time(), unit="s").floor("us")


_Answer = Callable[[Endpoint, bytes], Json]


NO_STORE = "the store of the campaign does not answer"


def _handler(route: str, answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
    """An answer computed outside the event loop, so that health answers meanwhile."""

    def respond(endpoint: Endpoint, body: bytes) -> Response:
        def computed() -> Response:
            given = answer(endpoint, body)
            voters = given.get("voters") or given.get("predictions") or ()
            COUNTS.rows.labels(route).inc(len(voters))
            return Response(to_json(given), media_type="application/json")

        return answered(
            computed,
            without_store=f"{NO_STORE}: whoever has asked to be left alone is not "
            "known, and nothing is handed out",
        )

    async def handle(request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(respond, request.app.state.endpoint, body)

    return handle


def _score(endpoint: Endpoint, body: bytes) -> Json:
    return endpoint.score(parsed(ScoreRequest, body))


def _invoke(endpoint: Endpoint, body: bytes) -> Json:
    return endpoint.invoke(parsed(InvocationRequest, body))


def _recommend(endpoint: Endpoint, body: bytes) -> Json:
    return endpoint.recommend(parsed(RecommendRequest, body), at=utc_now())


def _sent(endpoint: Endpoint, body: bytes) -> Json:
    return endpoint.report_sent(parsed(SentRequest, body), at=utc_now())


async def _ping(_request: Request) -> Response:
    """Health, where a client of MLflow asks for it."""
    return Response("\n", media_type="text/plain")


async def _describe(request: Request) -> Response:
    endpoint: Endpoint = request.app.state.endpoint
    return JSONResponse(endpoint.describe())


async def _openapi(request: Request) -> Response:
    description: Description = request.app.state.description
    # its examples are looked for when it is asked for the first time
    return JSONResponse(await run_in_threadpool(lambda: description.openapi))


async def _client_schema(request: Request) -> Response:
    description: Description = request.app.state.description
    return JSONResponse(description.client_schema)


async def _docs(_request: Request) -> Response:
    headers = {"Content-Security-Policy": PAGE_POLICY, "Referrer-Policy": "no-referrer"}
    return Response(PAGE, media_type="text/html", headers=headers)


async def _metrics(request: Request) -> Response:
    trained_at = request.app.state.endpoint.describe()["trained_at"]
    if trained_at is not None:
        age = pd.Timestamp.now("UTC") - pd.Timestamp(trained_at).tz_convert("UTC")
        COUNTS.model_age.set(age.total_seconds())
    text = generate_latest(COUNTS.registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def _ready(request: Request) -> Response:
    """Whether a recommendation would be answered now; 503 says why not."""
    state = request.app.state
    if state.watch.stalled:
        return not_now(monitor_http.STALLED)
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(_READINESS, state.endpoint.decisions.is_there)
    except (TimeoutError, sa.exc.SQLAlchemyError):
        return not_now(NO_STORE)
    return Response("\n", media_type="text/plain")


routes = Starlette(
    routes=[
        Route("/score", _handler("/score", _score), methods=["POST"]),
        Route("/invocations", _handler("/invocations", _invoke), methods=["POST"]),
        Route("/ping", _ping, methods=["GET"]),
        Route("/recommend", _handler("/recommend", _recommend), methods=["POST"]),
        Route("/sent", _handler("/sent", _sent), methods=["POST"]),
        Route(DOCS, _docs, methods=["GET"]),
        Route(DOCS_JSON, _openapi, methods=["GET"]),
        Route(CLIENT_SCHEMA, _client_schema, methods=["GET"]),
        Route("/model", _describe, methods=["GET"]),
        Route("/metrics", _metrics, methods=["GET"]),
        Route(READY, _ready, methods=["GET"]),
        *reactions_http.routes,
        *monitor_http.routes,
    ]
)


def bundle_folder() -> Path:
    """The bundle to serve: the one named in the environment, else the Bento's own."""
    return Path(os.environ.get(BUNDLE_VARIABLE) or ROOT / "bundle")


def open_bundle(bundle: Path) -> MonitorFollower:
    """Let the routes answer from a bundle from now on; its monitor.

    Args:
        bundle: Folder that `hustings plan` writes.

    Raises:
        AlteredError: If a file of it is not what was written, naming it.
        FileNotFoundError: If it is not whole.
        ValueError: If its plan offers what its model does not know.
    """
    endpoint = Endpoint.load(bundle)
    intake = reactions_http.Intake.of_bundle(bundle, endpoint.never.forgotten)
    watch = monitor_http.started(intake.events, bundle, endpoint.plan)
    routes.state.intake, routes.state.watch = intake, watch
    routes.state.endpoint = endpoint
    routes.state.description = Description(endpoint)
    COUNTS.model.clear()
    COUNTS.model.labels(endpoint.version["name"], endpoint.version["version"]).set(1)
    return watch


class _Hustings:
    """Lift of every message, and the best one at the current plan's price."""

    @staticmethod
    def check() -> None:
        """Refuse to start without a key or a bundle, before any worker does.

        BentoML runs this in the process that starts the workers, however it is asked
        to serve: as `hustings serve`, or a Bento by `bentoml serve`.
        """
        close_control_ports()
        try:
            Keys.of_environment()
            Endpoint.load(bundle_folder())
        except (FileNotFoundError, ValueError) as failure:
            # BentoML tells its own errors without a traceback
            raise BentoMLException(str(failure)) from None

    def __init__(self) -> None:
        open_bundle(bundle_folder())
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
    # the endpoint's own counts: BentoML's have a label for every path that is asked
    metrics={"enabled": False},
    envs=[{"name": KEY_VARIABLE}],
)(_Hustings)
Hustings.mount_asgi_app(routes)
Hustings.add_asgi_middleware(FrontDoor, counts=COUNTS, is_open=OPEN)


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
    Keys.of_environment()
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
