"""The app: pages of a campaign's day, and the scoring service's routes beside them.

Every request looks at the record as it is when the request comes in. A step is signed
by the name of the person's key. Nothing of a voter goes into a path or a log: ids come
in forms, and errors that were not foreseen are logged by their kind alone.
"""

import asyncio
import hashlib
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pandas as pd
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from hustings.experiments import plans as plan_steps
from hustings.experiments.lift.files import lift_measured
from hustings.experiments.plans import PlanStepError, listed_plans, offered
from hustings.experiments.plans.record import plan_of_name
from hustings.experiments.present_pages import (
    NOT_MEASURED,
    lift_facts,
    message_titles,
    power_facts,
    week_of,
)
from hustings.experiments.privacy.forget import (
    before_erasure,
    erasure_text,
    forget,
    handed_out_text,
)
from hustings.experiments.privacy.personal_data import CampaignStores
from hustings.experiments.privacy.show import held, held_text
from hustings.experiments.report.lift_page import lift_body
from hustings.experiments.report.power_page import power_body
from hustings.experiments.report.week import week_body
from hustings.experiments.stages.context import Run, latest
from hustings.experiments.status import CampaignAddress, status_of
from hustings.experiments.web.page_facts import (
    DiffFacts,
    diff_facts,
    monitor_page,
    page_file,
    pages_on_file,
    plan_page,
)
from hustings.experiments.web.pages import (
    go_to,
    rendered,
    stylesheet,
    written_page,
)
from hustings.experiments.web.scoring import Scoring
from hustings.experiments.web.sessions import LONGEST, Sessions, SignedIn
from hustings.experiments.week_facts import last_planned_on
from hustings.features.ingest import DataMissing
from hustings.features.lock import LockedError
from hustings.serving.gate import BODY_WITHIN_S, WORDS_LIMITS
from hustings.serving.keys import OPERATOR
from hustings.serving.monitor.http import MonitorFollower

_log = logging.getLogger("hustings.web")

SESSION_COOKIE, FORM_COOKIE = "hustings_session", "hustings_form"
STAFF = ("watch", "approve", "pause")
"""Roles that look at the pages of the day; each opens its own forms besides."""
PRIVACY = ("privacy",)
SIGN_IN, TODAY, REQUESTS = "/login", "/today", "/requests"
NEEDS: Mapping[str, tuple[str, ...]] = {
    TODAY: STAFF,
    "/plans": STAFF,
    "/week": STAFF,
    "/lift": STAFF,
    "/power": STAFF,
    "/reports": STAFF,
    "/messages": STAFF,
    REQUESTS: PRIVACY,
}
"""Pages that have a link, and the roles of which one opens each."""
MOST_FIELDS = 20
UNREADABLE = "the campaign cannot be read: the log of the server says why"
_UNFORESEEN = (
    "something failed that was not foreseen; nothing is known to have been changed, "
    "and the log of the server names the kind of failure"
)


class RefusedError(Exception):
    """A request that is refused; the message says what was expected.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


Alone = Callable[[Path, str, pd.Timestamp], AbstractContextManager[None]]
"""Lets a command be alone with a campaign: its folder, the command's name, the time."""


@dataclass(frozen=True)
class Visit:
    """A request of a person who is signed in.

    Attributes:
        run: Declares the campaign, its folder, and when the request came in.
        visitor: The person.
        path: Variable parts of the path.
        fields: Fields of the form, or of the query.
    """

    run: Run
    visitor: SignedIn
    path: Mapping[str, str]
    fields: Mapping[str, str]

    def person(self) -> str:
        """Name of the person who takes a step.

        Raises:
            RefusedError: If the key is the operator's, which is nobody's own.
        """
        name = self.visitor.key.name
        if name == OPERATOR:
            raise RefusedError(
                403,
                "expected a key of your own, which HUSTINGS_KEYS lists under your "
                "name, got the operator's: it may look at everything and sign nothing",
            )
        return name

    def text(self, name: str, what: str) -> str:
        """A field of the form that may not be empty.

        Raises:
            RefusedError: If it is.
        """
        value = self.fields.get(name, "").strip()
        if not value:
            raise RefusedError(422, f"expected {what}, got nothing")
        return value


PageOf = Callable[[Visit], Response]


@dataclass
class StaffSite:
    """The staff's web app of one campaign.

    Attributes:
        address: How commands are told which campaign is meant.
        open_run: Declares the campaign and its folder anew, at the present time.
        alone: See `Alone`.
        sessions: Of persons.
        scoring: The scoring service's routes.
        app: All of it, as an ASGI application.
    """

    address: CampaignAddress
    open_run: Callable[[], Run]
    alone: Alone
    sessions: Sessions
    scoring: Scoring
    app: Starlette = field(init=False)

    def __post_init__(self) -> None:
        def page(path: str, method: str, roles: tuple[str, ...], of: PageOf) -> Route:
            return Route(path, self._handler(of, path, roles), methods=[method])

        self.app = Starlette(
            routes=[
                Route("/", self._home, methods=["GET"]),
                Route("/style.css", self._style, methods=["GET"]),
                Route(SIGN_IN, self._sign_in_page, methods=["GET"]),
                Route(SIGN_IN, self._sign_in, methods=["POST"]),
                Route("/logout", self._sign_out, methods=["POST"]),
                page(TODAY, "GET", STAFF, self._today),
                page("/plans", "GET", STAFF, self._plans),
                page("/plans/{plan_id}", "GET", STAFF, self._plan),
                page("/plans/{plan_id}/approve", "POST", ("approve",), self._approve),
                page("/plans/{plan_id}/reject", "POST", ("approve",), self._reject),
                page("/plans/{plan_id}/lock", "POST", ("approve",), self._lock),
                page("/week", "GET", STAFF, self._week),
                page("/lift", "GET", STAFF, self._lift),
                page("/power", "GET", STAFF, self._power),
                page("/reports", "GET", STAFF, self._reports),
                page("/reports/{name}", "GET", STAFF, self._report),
                page("/messages", "GET", STAFF, self._messages),
                page("/messages/pause", "POST", ("pause",), self._pause),
                page("/messages/resume", "POST", ("pause",), self._resume),
                page(REQUESTS, "GET", PRIVACY, self._requests),
                page("/requests/show", "POST", PRIVACY, self._show),
                page("/requests/sure", "POST", PRIVACY, self._sure),
                page("/requests/forget", "POST", PRIVACY, self._forget),
                Mount("/", app=self.scoring),
            ]
        )

    # --- in and out ---

    async def _home(self, _request: Request) -> Response:
        return go_to(TODAY)

    async def _style(self, _request: Request) -> Response:
        return stylesheet()

    async def _sign_in_page(self, request: Request) -> Response:
        return self._key_form(request, "", status=200)

    def _key_form(self, request: Request, fault: str, *, status: int) -> Response:
        """The page that asks for the key, its form's token tied to a cookie."""
        token = secrets.token_urlsafe(32)
        response = rendered(
            "login.html", {"fault": fault}, campaign="", here=SIGN_IN, visitor=None,
            opens=frozenset(), form_token=self.sessions.form_token(token),
            status=status,
        )  # fmt: skip
        _set_cookie(response, request, FORM_COOKIE, self.sessions.signed(token))
        return response

    async def _sign_in(self, request: Request) -> Response:
        try:
            fields = await _form(request)
        except RefusedError as refusal:
            return self._key_form(request, str(refusal), status=refusal.status)
        token = self.sessions.unsigned(request.cookies.get(FORM_COOKIE, ""))
        if not token or not _is_same(fields, self.sessions.form_token(token)):
            return self._key_form(
                request,
                "expected the form of this page: enter the key again",
                status=403,
            )
        given = fields.get("key", "").strip().encode()
        key = self.sessions.keys.of(given)
        if key is None:
            address = request.client.host if request.client else "unknown"
            if self.sessions.keys.failed(address):
                return self._key_form(
                    request, "expected fewer tries: wait a minute", status=429
                )
            return self._key_form(request, "expected a known key", status=401)
        if not key.has(*STAFF, *PRIVACY):
            roles = ", ".join((*STAFF, *PRIVACY))
            return self._key_form(
                request, f"expected a key with one of the roles {roles}", status=403
            )
        run = await self._opened()
        if run is None:
            return self._key_form(request, UNREADABLE, status=503)
        self.sessions.sign_out(request.cookies.get(SESSION_COOKIE, ""))
        cookie = self.sessions.sign_in(given, run.at)
        response = go_to(TODAY if key.has(*STAFF) else REQUESTS)
        _set_cookie(response, request, SESSION_COOKIE, cookie)
        response.delete_cookie(FORM_COOKIE)
        return response

    async def _sign_out(self, request: Request) -> Response:
        cookie = request.cookies.get(SESSION_COOKIE, "")
        token = self.sessions.unsigned(cookie)
        try:
            fields = await _form(request)
        except RefusedError as refusal:
            return self._key_form(request, str(refusal), status=refusal.status)
        if not token or not _is_same(fields, self.sessions.form_token(token)):
            return self._key_form(
                request, "expected the form of your session", status=403
            )
        self.sessions.sign_out(cookie)
        response = go_to(SIGN_IN)
        response.delete_cookie(SESSION_COOKIE)
        return response

    def _signed_out(self, request: Request) -> Response:
        """What somebody gets whose session has ended, or who never had one."""
        if request.method != "POST":
            return go_to(SIGN_IN)
        return self._key_form(
            request, "your session has ended; nothing was done", status=401
        )

    # --- what every page passes ---

    async def _opened(self) -> Run | None:
        """The campaign as it is declared now; None where it cannot be read."""
        try:
            return await run_in_threadpool(self.open_run)
        except (OSError, ValueError) as failure:
            # nobody has shown a key yet: what is wrong stays in the log
            _log.error("the campaign cannot be read: %s", failure)
            return None

    def _handler(
        self, of: PageOf, path: str, roles: tuple[str, ...]
    ) -> Callable[[Request], Awaitable[Response]]:
        here = "/" + path.split("/")[1]

        async def handle(request: Request) -> Response:
            cookie = request.cookies.get(SESSION_COOKIE, "")
            if not self.sessions.is_open(cookie):
                return self._signed_out(request)
            run = await self._opened()
            if run is None:
                return self._key_form(request, UNREADABLE, status=503)
            visitor = self.sessions.of(cookie, run.at)
            if visitor is None:
                return self._signed_out(request)
            try:
                fields = dict(request.query_params)
                if self.sessions.keys.is_too_often(visitor.key):
                    raise RefusedError(429, "expected fewer requests: wait a second")
                if not visitor.key.has(*roles):
                    raise RefusedError(403, _expected_role(visitor, roles))
                if request.method == "POST":
                    fields = await _form(request)
                    if not _is_same(fields, visitor.form_token):
                        raise RefusedError(
                            403, "expected the form of your session; nothing was done"
                        )
                visit = Visit(run, visitor, request.path_params, fields)
                return await run_in_threadpool(of, visit)
            except Exception as failure:  # noqa: BLE001 - its text may hold rows
                status, message = _refusal(failure)
                return self._page(
                    Visit(run, visitor, {}, {}), "refused.html",
                    {"status": status, "message": message, "back": here}, here,
                    status=status,
                )  # fmt: skip

        return handle

    def _page(
        self,
        visit: Visit,
        template: str,
        page: Any,
        here: str,
        *,
        status: int = 200,
    ) -> Response:
        opens = (p for p, roles in NEEDS.items() if visit.visitor.key.has(*roles))
        return rendered(
            template, page, campaign=visit.run.campaign.campaign.title, here=here,
            visitor=visit.visitor, opens=frozenset(opens),
            form_token=visit.visitor.form_token, status=status,
        )  # fmt: skip

    # --- pages ---

    def _today(self, visit: Visit) -> Response:
        status = status_of(visit.run, visit.run.at, address=self.address)
        return self._page(visit, "today.html", status, TODAY)

    def _plans(self, visit: Visit) -> Response:
        listed = listed_plans(visit.run.home, visit.run.at)
        return self._page(visit, "plans.html", listed, "/plans")

    def _plan(self, visit: Visit) -> Response:
        against = visit.fields.get("against", "").strip()
        try:
            page = plan_page(visit.run, visit.path["plan_id"], against)
        except PlanStepError as unknown:
            raise RefusedError(404, str(unknown)) from None
        # what is approved is the change against what was approved last
        may = page.may if not against and visit.visitor.key.has("approve") else ()
        facts = {
            "plan": page, "seen": _digest(page.changes), "may": may,
            "is_default": not against,
        }  # fmt: skip
        return self._page(visit, "plan.html", facts, "/plans")

    def _approve(self, visit: Visit) -> Response:
        plan_id, by = visit.path["plan_id"], visit.person()
        home, at = visit.run.home, visit.run.at
        if visit.fields.get("read") != "yes":
            raise RefusedError(
                422, "expected you to say that you have read the changes"
            )
        with self.alone(home, "web: plans approve", at):
            plan_of_name(offered(home), plan_id)
            if visit.fields.get("seen") != _digest(diff_facts(home, plan_id, "")):
                raise RefusedError(
                    409,
                    f"plan {plan_id}: expected the changes that you have read, got "
                    "others: another plan was decided meanwhile; read them again",
                )
            plan_steps.approve(home, plan_id, by=by, at=at)
        return go_to(f"/plans/{plan_id}")

    def _reject(self, visit: Visit) -> Response:
        plan_id, by = visit.path["plan_id"], visit.person()
        why = visit.text("why", "the reason, for the ledger")
        with self.alone(visit.run.home, "web: plans reject", visit.run.at):
            plan_of_name(offered(visit.run.home), plan_id)
            plan_steps.reject(visit.run.home, plan_id, by=by, why=why, at=visit.run.at)
        return go_to(f"/plans/{plan_id}")

    def _lock(self, visit: Visit) -> Response:
        plan_id, by = visit.path["plan_id"], visit.person()
        with self.alone(visit.run.home, "web: plans lock", visit.run.at):
            plan_of_name(offered(visit.run.home), plan_id)
            plan_steps.lock(visit.run.home, plan_id, at=visit.run.at, by=by)
        return go_to(f"/plans/{plan_id}")

    def _week(self, visit: Visit) -> Response:
        day = visit.fields.get("last", "").strip()
        last_on = _day(day) if day else last_planned_on(visit.run.home)
        lift = lift_measured(visit.run.home)
        facts = week_of(visit.run, last_on, NOT_MEASURED if lift is None else lift)
        page = {
            "last_on": f"{last_on:%Y-%m-%d}", "body": week_body(facts),
            "lift_as_of": "" if lift is None else lift.as_of,
        }  # fmt: skip
        return self._page(visit, "week.html", page, "/week")

    def _lift(self, visit: Visit) -> Response:
        lift = lift_measured(visit.run.home)
        body = None if lift is None else lift_body(lift_facts(visit.run, lift))
        return self._page(visit, "lift.html", {"body": body}, "/lift")

    def _power(self, visit: Visit) -> Response:
        name = latest(visit.run.home)
        if name is None:
            raise FileNotFoundError("expected a run; `hustings run` makes one")
        run = replace(visit.run, run_id=name, folder=visit.run.home / name)
        body = power_body(power_facts(run))
        return self._page(visit, "power.html", {"body": body}, "/power")

    def _reports(self, visit: Visit) -> Response:
        return self._page(visit, "reports.html", pages_on_file(visit.run), "/reports")

    def _report(self, visit: Visit) -> Response:
        return written_page(page_file(visit.run, visit.path["name"]))

    # --- the monitor ---

    def _messages(self, visit: Visit) -> Response:
        self.scoring.refresh()
        watch = self.scoring.watch
        if watch is None:
            raise RefusedError(503, self.scoring.fault)
        page = monitor_page(
            watch.look.text, is_stalled=watch.stalled,
            message_ids=watch.campaign.messages, texts=self.scoring.texts(),
            titles=message_titles(visit.run),
            search=visit.fields.get("search", "").strip(),
        )  # fmt: skip
        facts = {"monitor": page, "fault": self.scoring.fault}
        return self._page(visit, "messages.html", facts, "/messages")

    def _pause(self, visit: Visit) -> Response:
        watch, name, why = self._of_message(visit)
        watch.pause(name, visit.person(), why)
        return go_to("/messages")

    def _resume(self, visit: Visit) -> Response:
        watch, name, why = self._of_message(visit)
        watch.resume(name, visit.person(), why)
        return go_to("/messages")

    def _of_message(self, visit: Visit) -> tuple[MonitorFollower, str, str]:
        watch = self.scoring.watch
        if watch is None:
            raise RefusedError(503, self.scoring.fault)
        name = visit.text("message_id", "a message")
        if not watch.knows(name):
            raise RefusedError(404, f"expected a message of the campaign, got {name!r}")
        return watch, name, visit.text("why", "the reason")

    # --- requests of voters ---

    def _stores(self, visit: Visit) -> CampaignStores:
        run = visit.run
        return CampaignStores(run.campaign, run.home, run.store, run.mlflow_uri)

    def _requests(self, visit: Visit) -> Response:
        return self._page(visit, "requests.html", {}, REQUESTS)

    def _show(self, visit: Visit) -> Response:
        voter = visit.text("voter", "an id")
        answer = held(self._stores(visit), voter)
        facts = {"voter": voter, "text": held_text(answer)}
        return self._page(visit, "held.html", facts, REQUESTS)

    def _sure(self, visit: Visit) -> Response:
        voter = visit.text("voter", "an id")
        report = before_erasure(self._stores(visit), voter)
        facts = {"voter": voter, "text": "\n".join(handed_out_text(report))}
        return self._page(visit, "sure.html", facts, REQUESTS)

    def _forget(self, visit: Visit) -> Response:
        visit.person()  # the operator's key is nobody's own
        voter = visit.text("voter", "an id")
        if visit.fields.get("sure") != "yes":
            raise RefusedError(
                422, "expected you to say that it cannot be undone; nothing was done"
            )
        stores = self._stores(visit)
        stores.require()
        with self.alone(visit.run.home, "web: forget", visit.run.at):
            batch = secrets.token_hex(8)
            report = forget(stores, voter, at=visit.run.at, batch=batch)
        facts = {"text": erasure_text(report), "is_left": bool(report.left)}
        return self._page(visit, "forgotten.html", facts, REQUESTS)


def _day(text: str) -> pd.Timestamp:
    """A day as an address names it.

    Raises:
        RefusedError: If it is not written as 2026-09-08.
    """
    try:
        return pd.Timestamp(date.fromisoformat(text))
    except ValueError:
        raise RefusedError(
            422, f"expected a day as 2026-09-08, got {text[:20]!r}"
        ) from None


def _digest(changes: DiffFacts) -> str:
    """What tells the changes that a person has read from later ones."""
    return hashlib.sha256(json.dumps(changes.to_json()).encode()).hexdigest()


def _expected_role(visitor: SignedIn, roles: tuple[str, ...]) -> str:
    got = ", ".join(sorted(visitor.key.roles))
    return (
        f"expected a key with the role {' or '.join(roles)}, got one with {got}; "
        "nothing was done"
    )


def _refusal(failure: Exception) -> tuple[int, str]:
    """Status and words of what a page refused; the log gets no rows."""
    if isinstance(failure, RefusedError):
        return failure.status, str(failure)
    if isinstance(failure, LockedError | PlanStepError):
        return 409, str(failure)
    if isinstance(failure, FileNotFoundError):
        return 404, str(failure)
    if isinstance(failure, DataMissing):
        return 503, str(failure)
    if isinstance(failure, ValueError):
        return 422, str(failure)
    _log.error("a page failed: %s", type(failure).__name__)
    if isinstance(failure, sa.exc.SQLAlchemyError):
        return 503, "the store of the campaign does not answer; nothing was done"
    return 500, _UNFORESEEN


async def _form(request: Request) -> dict[str, str]:
    """Fields of a form, read within the limits of a few words.

    Raises:
        RefusedError: If it is too long or too slow, or no form of this site's.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none"):
        raise RefusedError(403, "expected a form of this site; nothing was done")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for part in request.stream():
                body += part
                if len(body) > WORDS_LIMITS.n_bytes:
                    raise RefusedError(
                        413, f"expected at most {WORDS_LIMITS.n_bytes:,} bytes"
                    )
    except (TimeoutError, ClientDisconnect):
        raise RefusedError(
            408, f"expected the form within {BODY_WITHIN_S:g} s"
        ) from None
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise RefusedError(400, "expected the fields of a form") from None
    return dict(pairs)


def _is_same(fields: Mapping[str, str], token: str) -> bool:
    given = fields.get("form_token", "")
    return secrets.compare_digest(given.encode(), token.encode())


def _set_cookie(response: Response, request: Request, name: str, value: str) -> None:
    """A cookie that no script reads and no other site's request carries."""
    response.set_cookie(
        name, value, max_age=int(LONGEST.total_seconds()), httponly=True,
        samesite="strict", secure=request.url.scheme == "https",
    )  # fmt: skip
