"""The monitor over HTTP: the staff's live view, and pausing of messages.

`GET /monitor` returns the present view as JSON, or as server-sent events to a client
that accepts them (`/monitor/stream` always); `POST /pause` and `POST /resume` need a
name and a reason; `/` is the page, which carries no data itself and asks for the key.
"""

import asyncio
import base64
import hashlib
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from hustings.features.reaction import VALENCE
from hustings.serving.bodies import PauseRequest, parsed, refuse
from hustings.serving.keys import acting
from hustings.serving.monitor.alerts import Alerts
from hustings.serving.monitor.pauses import RULE, Pauses
from hustings.serving.monitor.snapshot import snapshot
from hustings.serving.monitor.stream import BACKLASH, Alarm, Monitor, MonitorRules
from hustings.serving.reactions.store import Events
from hustings.serving.responses import answered, not_now

Json = dict[str, Any]
Clock = Callable[[], pd.Timestamp]

POLL_S = 0.25
"""Between two looks at the store."""
LOOK_S = 0.1
"""Between two looks of a stream at what is shown."""
ALIVE_S = 15.0
"""A stream that has nothing to say says so this often."""
LONGEST_STREAM_S = 600.0
"""Then the page asks anew: no connection is for ever."""
AT_ONCE = 5_000
"""Events that are read at once."""
RETRY_MS = 2_000
STALLED_S = 60.0
"""An older look is never served as the present one."""
STALLED = f"no look at the reactions for {STALLED_S:.0f} s: see the log of the service"
NOT_KEPT = "the store did not keep it: send it again"
PAUSED_BY_RULE = "paused by rule"
"""Kind under which an alarm that paused is stored, so that a person's resume stands."""
log = logging.getLogger("hustings.monitor")


def utc_now() -> pd.Timestamp:
    """The time at which a message is paused or resumed."""
    return pd.Timestamp(time.time(), unit="s", tz="UTC").floor("s")


@dataclass(frozen=True)
class MonitorLook:
    """One look, as JSON, and its number: a new one only where something changed."""

    version: int
    text: str


@dataclass(frozen=True)
class MonitoredCampaign:
    """Facts of the campaign that the monitor reads from the serving bundle.

    Attributes:
        name: The campaign's.
        issue_of: Its messages.
        sent: Message → voters who have been sent it, by day: `from`, `n`, `by_segment`
            and `by_county`, in the order of days, as far as it may be shown.
        lifts: Message → `lift`, `low`, `high` of the latest randomised evaluation.
        pause_on: Which alarms pause a message by rule.
        alerts: `[monitor.alerts]`.
        rules: How reactions are counted and judged.
        planned: As `sent`, for contacts that were handed over to nobody yet.
        of_rules: Messages that the plan has rules for.
    """

    name: str
    issue_of: Mapping[str, str] = field(default_factory=dict)
    sent: Mapping[str, list[Json]] = field(default_factory=dict)
    lifts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    pause_on: Literal["never", "backlash"] = "never"
    alerts: Mapping[str, Any] | None = None
    rules: MonitorRules = field(default_factory=MonitorRules)
    planned: Mapping[str, list[Json]] = field(default_factory=dict)
    of_rules: frozenset[str] = frozenset()

    @property
    def messages(self) -> frozenset[str]:
        """Messages of the campaign."""
        return self.of_rules.union(self.issue_of)

    @classmethod
    def of(cls, name: str, plan: Mapping[str, Any]) -> "MonitoredCampaign":
        """Read plan.json of a bundle, with defaults where it has no monitor's part."""
        settings = plan.get("monitor", {})
        kinds = plan.get("reactions", {}).get("kinds", {})
        valence = {**VALENCE, **{kind.lower(): v for kind, v in kinds.items()}}
        messages = plan.get("rules", {}).get("messages", ())
        return cls(
            name,
            settings.get("issue_of", {}),
            settings.get("sent", {}),
            settings.get("lifts", {}),
            settings.get("pause_on", "never"),
            settings.get("alerts"),
            MonitorRules(**settings.get("rules", {}), valence=valence),
            settings.get("planned", {}),
            frozenset(message["message_id"] for message in messages),
        )

    def planned_in_all(self) -> dict[str, Json]:
        """Message → voters planned to be sent it who have not been yet."""
        return {message: days[-1] for message, days in self.planned.items() if days}

    def sent_by(self, day: pd.Timestamp) -> dict[str, Json]:
        """Message → voters who have been sent it by a day."""
        date = f"{day:%Y-%m-%d}"
        latest = {}
        for message, days in self.sent.items():
            past = [entry for entry in days if entry["from"] <= date]
            if past:
                latest[message] = past[-1]
        return latest


class MonitorFollower:
    """Follows the store and keeps the present look.

    Args:
        events: The store.
        campaign: What the bundle says of the campaign.
        now: The time.
    """

    def __init__(
        self, events: Events, campaign: MonitoredCampaign, *, now: Clock
    ) -> None:
        self.events = events
        self.pauses = Pauses.in_store_of(events)
        self.campaign = campaign
        self.monitor = Monitor(campaign.rules, campaign.issue_of)
        self.alerts = Alerts.declared(campaign.name, campaign.alerts)
        self.now = now
        self.cursor = 0
        self.look = MonitorLook(0, "{}")
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._raised: list[Alarm] = []  # still to be acted on
        self._news: list[Alarm] = []  # alerts still to be sent
        self._stepped_at = time.monotonic()
        self._caught_up = False
        self._behind = True

    def step(self) -> bool:
        """Take in new events and update the view; whether the view changed."""
        changed = self._step()
        self._stepped_at = time.monotonic()
        return changed

    def _step(self) -> bool:
        with self._lock:
            frame, cursor = self.events.since(self.cursor, AT_ONCE)
            self.monitor.add(frame)
            self.cursor = cursor
            self._behind = len(frame) == AT_ONCE
            if self._behind and not self._caught_up:
                return False  # what came before the start is counted, then judged
            if len(frame) or not self._caught_up:
                self._raised += self.monitor.judge()
            self._caught_up = True
            self._act()
            changed = self._look()
            news, self._news = self._news, []
        self._tell(news)
        return changed

    def _act(self) -> None:
        """Pause by rule, then remember; what the store refuses is tried again."""
        while self._raised:
            alarm = self._raised[0]
            if self._is_to_pause(alarm) and not self._was(alarm, PAUSED_BY_RULE):
                name, at = alarm.message_id, self.now()
                self.pauses.pause(name, by=RULE, reason="backlash", at=at)
                self.pauses.remember(name, PAUSED_BY_RULE, alarm.raised)
            if not self._was(alarm, alarm.kind):
                self.pauses.remember(alarm.message_id, alarm.kind, alarm.raised)
                self._news.append(alarm)
            self._raised.pop(0)

    def _was(self, alarm: Alarm, what: str) -> bool:
        return self.pauses.was_alerted(
            alarm.message_id, what, alarm.raised, within=self.campaign.rules.hours
        )

    def _is_to_pause(self, alarm: Alarm) -> bool:
        declared = self.campaign.pause_on == BACKLASH and alarm.kind == BACKLASH
        return (
            declared
            and alarm.of_whole_message
            and alarm.message_id in self.campaign.issue_of
        )

    @property
    def stalled(self) -> bool:
        """Whether the view may be old: no update was completed for a while."""
        return time.monotonic() - self._stepped_at > STALLED_S

    def _look(self) -> bool:
        look = snapshot(
            self.monitor,
            paused={
                name: {"at": p.paused_at.isoformat(), "by": p.by, "reason": p.reason}
                for name, p in self.pauses.paused().items()
            },
            sent=self.campaign.sent_by(self.now()),
            planned=self.campaign.planned_in_all(),
            lifts=self.campaign.lifts,
        )
        wishes = {"open_wishes": self.events.n_open_wishes()}
        text = json.dumps(
            {"campaign": self.campaign.name, **wishes, **look}, allow_nan=False
        )
        if text == self.look.text:
            return False
        self.look = MonitorLook(self.look.version + 1, text)
        return True

    def _tell(self, news: list[Alarm]) -> None:
        """Send alerts of new alarms in a thread: a slow server delays no look."""
        if not news or (self.alerts.webhook is None and self.alerts.mail is None):
            return
        look = json.loads(self.look.text)
        paused = self.pauses.paused()
        keys = {(alarm.message_id, alarm.kind) for alarm in news}
        alarms = [
            {**alarm, "paused": alarm["message_id"] in paused}
            for alarm in look["alarms"]
            if (alarm["message_id"], alarm["kind"]) in keys
        ]

        def send() -> None:
            for alarm in alarms:
                self.alerts.send(alarm)

        threading.Thread(target=send, name="alerts", daemon=True).start()

    def follow(self) -> None:
        """Step until `stop`; what fails is tried again, and no look is shown as new."""
        while not self._stop.is_set():
            try:
                self.step()
            # a thread that ended would show its last look for ever
            except Exception as failure:  # noqa: BLE001
                # a failure's text may hold the rows
                log.warning("a look at the reactions: %s", type(failure).__name__)
                self._stop.wait(10 * POLL_S)
            if not self._behind:
                self._stop.wait(POLL_S)

    def start(self) -> None:
        """Follow in a thread of its own."""
        threading.Thread(target=self.follow, name="monitor", daemon=True).start()

    def stop(self) -> None:
        """End `follow`."""
        self._stop.set()

    # --- pauses ---

    def knows(self, message_id: str) -> bool:
        """Whether a message is the campaign's, or is paused."""
        return message_id in self.campaign.messages or (
            message_id in self.pauses.paused()
        )

    def pause(self, message_id: str, by: str, reason: str) -> bool:
        """Pause a message for a person, shown at once."""
        changed = self.pauses.pause(message_id, by=by, reason=reason, at=self.now())
        self._look_again()
        return changed

    def resume(self, message_id: str, by: str, reason: str) -> bool:
        """End a pause for a person, shown at once."""
        changed = self.pauses.resume(message_id, by=by, reason=reason, at=self.now())
        self._look_again()
        return changed

    def _look_again(self) -> None:
        with self._lock:
            if self._caught_up:
                self._look()


def started(events: Events, bundle: Path, plan: Mapping[str, Any]) -> MonitorFollower:
    """A watch of a bundle's campaign that follows its store in a thread.

    Args:
        events: The store.
        bundle: The folder that is served.
        plan: Its plan.json.
    """
    version = json.loads((bundle / "version.json").read_text())
    name = str(version["name"]).removeprefix("hustings-")
    watch = MonitorFollower(events, MonitoredCampaign.of(name, plan), now=utc_now)
    watch.start()
    return watch


# --- HTTP -----------------------------------------------------------------------------


def _watch(request: Request) -> MonitorFollower:
    watch: MonitorFollower = request.app.state.watch
    return watch


async def _monitor(request: Request) -> Response:
    if "text/event-stream" in request.headers.get("accept", ""):
        return await _stream(request)
    watch = _watch(request)
    if watch.stalled:
        return not_now(STALLED)
    if not watch.look.version:
        return not_now("the reactions are still being counted")
    return _data(Response(watch.look.text, media_type="application/json"))


async def _stream(request: Request) -> Response:
    watch = _watch(request)
    if watch.stalled:
        return not_now(STALLED)
    events = stream(watch, request.is_disconnected)
    return _data(StreamingResponse(events, media_type="text/event-stream"))


async def stream(
    watch: MonitorFollower, is_gone: Callable[[], Any]
) -> AsyncIterator[str]:
    """Every new look, as server-sent events.

    Args:
        watch: What is looked at.
        is_gone: Awaited; whether nobody listens any more.
    """
    yield f"retry: {RETRY_MS}\n\n"
    # 0 is before the first look
    seen, began, spoke = 0, time.monotonic(), time.monotonic()
    while time.monotonic() - began < LONGEST_STREAM_S and not await is_gone():
        if watch.stalled:
            return
        look = watch.look
        if look.version != seen:
            seen, spoke = look.version, time.monotonic()
            yield f"id: {seen}\nevent: monitor\ndata: {look.text}\n\n"
        elif time.monotonic() - spoke > ALIVE_S:
            spoke = time.monotonic()
            yield ": nothing new\n\n"
        await asyncio.sleep(LOOK_S)


async def _pause(request: Request) -> Response:
    return await _change(request, _watch(request).pause, "paused")


async def _resume(request: Request) -> Response:
    return await _change(request, _watch(request).resume, "resumed")


async def _change(
    request: Request, change: Callable[[str, str, str], bool], result_key: str
) -> Response:
    body, watch = await request.body(), _watch(request)

    def changed() -> Response:
        asked_for = parsed(PauseRequest, body)
        name = asked_for.message_id
        if not watch.knows(name):
            # a pause of a name that nobody sends would leave the real one going out
            refuse(
                "message_id",
                f"expected one of {', '.join(sorted(watch.campaign.messages))}, got "
                f"{name!r}",
                status=404,
            )
        by = acting(request.scope, asked_for.by)
        has_changed = change(name, by, asked_for.reason)
        return JSONResponse({"message_id": name, result_key: has_changed})

    return await run_in_threadpool(answered, changed, without_store=NOT_KEPT)


def _data(response: Response) -> Response:
    # proxies neither keep nor hold back what is shown
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


async def _page(_request: Request) -> Response:
    text, policy = page()
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
    return Response(text, media_type="text/html", headers=headers)


@cache
def page() -> tuple[str, str]:
    """The page with its style and script inside, and the policy that allows only them.

    Nothing is fetched but from where the page itself came.
    """
    folder = files("hustings.serving.monitor") / "page"
    style, script = (
        (folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    text = (folder / "page.html").read_text(encoding="utf-8")
    text = text.replace("/* page.css */", style).replace("/* page.js */", script)
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; "
        f"form-action 'none'; frame-ancestors 'none'; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'"
    )
    return text, policy


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


PAGE = "/"
"""Path that needs no key, since it carries no data."""
routes = [
    Route(PAGE, _page, methods=["GET"]),
    Route("/monitor", _monitor, methods=["GET"]),
    Route("/monitor/stream", _stream, methods=["GET"]),
    Route("/pause", _pause, methods=["POST"]),
    Route("/resume", _resume, methods=["POST"]),
]
