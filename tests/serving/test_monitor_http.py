"""The monitor over HTTP and in a browser, on a real store that planted events fill."""

import asyncio
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
import uvicorn
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from hustings.serving.monitor import http as monitor_http
from hustings.serving.monitor.alerts import Alerts
from hustings.serving.monitor.http import (
    MonitoredCampaign,
    MonitorFollower,
    page,
    stream,
)
from hustings.serving.monitor.pauses import Pauses
from hustings.serving.monitor.stream import MonitorRules
from hustings.serving.reactions.payload import read_events
from hustings.serving.reactions.store import Events

KEY = "a-key-of-the-tests-of-22-letters"
START = pd.Timestamp("2026-09-01", tz="UTC")
NOON = START + pd.Timedelta(hours=12)
SECRET = "only-hers-73"
CHROMIUM = shutil.which("chromium")
SENT = {
    "bridge": [
        {"from": "2026-08-30", "n": 60, "by_segment": {"young": 60}, "by_county": {}},
        {"from": "2026-09-01", "n": 80, "by_segment": {"young": 80}, "by_county": {}},
        {"from": "2026-09-02", "n": 100, "by_segment": {"young": 100}, "by_county": {}},
    ]
}


PRESSING = """<script>
sessionStorage.setItem("hustings-key", "a-key");
fetch("/").then((page) => page.text()).then((text) => {
  document.open(); document.write(text); document.close();
  const press = setInterval(() => {
    const button = document.querySelector(".alarm button");
    if (!button) return;
    clearInterval(press);
    button.click();
    document.getElementById("by").value = "Ada";
    document.getElementById("why").value = "angry replies";
    document.getElementById("sure-yes").click();
  }, 100);
});
</script>"""
"""The page as it is served, and a person who presses its first button."""


def put(
    events: Events, hours: range, n: int, bad: float, message: str = "bridge"
) -> None:
    """Reactions of different people, `bad` of each hundred of them angry."""
    payloads = [
        {
            "event_id": f"{message}-{hour}-{i}",
            "message_id": message,
            "platform": "facebook",
            "kind": "angry" if i % 100 < 100 * bad else "like",
            "occurred_at": (START + pd.Timedelta(hours=hour + i / n)).isoformat(),
            "person": f"{SECRET}-{message}-{hour}-{i}",
        }
        for hour in hours
        for i in range(n)
    ]
    batch = read_events(
        payloads, received_at=datetime(2026, 9, 1, 23, tzinfo=UTC), key=b"key"
    )
    assert events.append(batch).accepted == len(payloads)


def campaign(**fields: Any) -> MonitoredCampaign:
    known: dict[str, Any] = {
        "name": "spread",
        "issue_of": {"bridge": "roads", "clinic": "health"},
        "sent": SENT,
        "lifts": {"bridge": {"lift": 1.2, "low": 0.4, "high": 2.0}},
        "rules": MonitorRules(hours=6),
    }
    return MonitoredCampaign(**{**known, **fields})


@pytest.fixture
def events(tmp_path: Path) -> Iterator[Events]:
    store = Events.open(tmp_path / "events.db")
    yield store
    store.close()


def watched(events: Events, **fields: Any) -> MonitorFollower:
    found = MonitorFollower(events, campaign(**fields), now=lambda: NOON)
    settle(found)
    return found


def settle(found: MonitorFollower) -> None:
    while not found._caught_up or found.step():
        found.step()


def told(found: MonitorFollower) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(found.look.text)
    return shown


def backlash(events: Events) -> None:
    put(events, range(8), 100, 0.1)
    put(events, range(8, 10), 100, 0.6)


# --- a watch ------------------------------------------------------------------------


def test_an_alarm_says_who_was_sent_it_and_that_the_test_says_otherwise(events):
    backlash(events)
    (alarm,) = told(watched(events))["alarms"]
    assert (alarm["message_id"], alarm["kind"]) == ("bridge", "backlash")
    # by noon of the first; what is sent on the second is still to come
    assert alarm["sent"]["n"] == 80
    assert "+1.2 (+0.4 to +2)" in alarm["contradicts_lift"]


def test_nothing_that_names_a_person_is_shown(events):
    backlash(events)
    text = watched(events).look.text
    frame, _ = events.since()
    assert SECRET not in text
    assert not any(person in text for person in frame["person"])


def test_a_look_is_new_only_where_something_is(events):
    backlash(events)
    put(events, range(10, 11), 100, 0.6)
    found = watched(events)
    version = found.look.version
    assert not found.step()
    put(events, range(11, 12), 5, 0.0)
    assert not found.step()
    assert found.look.version == version
    put(events, range(12, 13), 40, 0.0)
    assert found.step()
    assert found.look.version == version + 1


def test_an_alarm_pauses_by_rule_only_where_that_is_declared(events):
    backlash(events)
    put(events, range(8), 100, 0.1, "post-9")
    put(events, range(8, 10), 100, 0.6, "post-9")
    assert watched(events).pauses.paused() == {}
    again = Events.open(events.engine.url.database)
    fresh = Pauses.in_store_of(again)
    with fresh.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM monitor_alarms")
    found = watched(again, pause_on="backlash")
    assert len(told(found)["alarms"]) == 2
    # a post of others is nothing that the campaign could send
    assert set(found.pauses.paused()) == {"bridge"}
    assert found.pauses.paused()["bridge"].by == "rule"
    reasons = {m["message_id"]: m["paused"] for m in told(found)["messages"]}
    assert reasons["bridge"]["reason"] == "backlash"


def segments_then_whole(events: Events, watch: MonitorFollower) -> None:
    """A backlash of few parents, then of everybody; looked at again and again."""
    start = [("parents", 80, 8)] + [(n, 200, 10) for n in ("young", "middle", "old")]
    rows = sorted(
        (hour + i / n, segment, i % 5 < (3 if hour >= turns else 0), f"{hour}-{i}")
        for segment, n, turns in start
        for hour in range(12)
        for i in range(n)
    )
    payloads = [
        {
            "event_id": f"{segment}-{name}",
            "message_id": "bridge",
            "platform": "facebook",
            "kind": "angry" if bad else "like",
            "occurred_at": (START + pd.Timedelta(hours=at)).isoformat(),
            "segment": segment,
            "person": f"{segment}-{name}",
        }
        for at, segment, bad, name in rows
    ]
    for first in range(0, len(payloads), 800):
        received = datetime(2026, 9, 1, 23, tzinfo=UTC)
        some = payloads[first : first + 800]
        events.append(read_events(some, received_at=received, key=b"key"))
        settle(watch)


def test_an_alarm_that_turns_to_the_whole_message_pauses_it(events):
    found = watched(events, pause_on="backlash")
    seen: list[bool] = []
    act = found._act

    def noted() -> None:
        seen.extend(alarm.of_whole_message for alarm in found._raised)
        act()

    found._act = noted  # type: ignore[method-assign]
    segments_then_whole(events, found)
    assert seen == [False, True]
    assert set(found.pauses.paused()) == {"bridge"}
    assert found.resume("bridge", "Ada", "it was a brigade")
    restarted = watched(Events.open(events.engine.url.database), pause_on="backlash")
    assert told(restarted)["alarms"][0]["whole"]
    assert restarted.pauses.paused() == {}


@pytest.mark.parametrize("failing", ["pause", "remember"])
def test_a_store_that_fails_in_between_loses_no_pause_and_no_alert(
    events, monkeypatch, failing
):
    told_of: list[dict[str, Any]] = []
    sent = threading.Event()
    monkeypatch.setattr(
        Alerts, "send", lambda _self, alarm: (told_of.append(alarm), sent.set())
    )
    backlash(events)
    declared = {"webhook": "http://127.0.0.1:1/hook"}
    found = MonitorFollower(
        events, campaign(alerts=declared, pause_on="backlash"), now=lambda: NOON
    )
    once = iter([OperationalError("", {}, Exception())])
    real = getattr(Pauses, failing)

    def fails_once(*args: Any, **fields: Any) -> Any:
        for failure in once:
            raise failure
        return real(*args, **fields)

    monkeypatch.setattr(Pauses, failing, fails_once)
    with pytest.raises(OperationalError):
        found.step()
    assert not told_of
    settle(found)
    assert set(found.pauses.paused()) == {"bridge"}
    assert sent.wait(5)
    assert [alarm["paused"] for alarm in told_of] == [True]


def test_whatever_fails_is_tried_again_and_told_by_its_type_alone(
    events, monkeypatch, caplog
):
    found = MonitorFollower(events, campaign(), now=lambda: NOON)
    looks = iter([KeyError(SECRET), ZeroDivisionError(SECRET)])

    def step() -> bool:
        for failure in looks:
            raise failure
        found.stop()
        return False

    monkeypatch.setattr(found, "step", step)
    monkeypatch.setattr(monitor_http, "POLL_S", 0.001)
    found.follow()
    assert "KeyError" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert SECRET not in caplog.text


def test_an_old_look_is_not_told_as_the_present_one(events, monkeypatch):
    backlash(events)
    app = Starlette(routes=monitor_http.routes)
    app.state.watch = watched(events)
    client = TestClient(app)
    assert client.get("/monitor").status_code == 200
    monkeypatch.setattr(monitor_http, "STALLED_S", -1.0)
    for path in ("/monitor", "/monitor/stream"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "no look" in answer.text


def test_who_resumes_a_message_is_not_overruled_by_the_same_alarm(events):
    backlash(events)
    found = watched(events, pause_on="backlash")
    assert found.resume("bridge", "Ada", "it was a brigade")
    put(events, range(10, 11), 100, 0.6)
    settle(found)
    assert found.pauses.paused() == {}
    restarted = watched(Events.open(events.engine.url.database), pause_on="backlash")
    assert told(restarted)["alarms"]
    assert restarted.pauses.paused() == {}


def test_an_alarm_is_alerted_once_with_what_is_shown_and_not_again_after_a_restart(
    events, monkeypatch
):
    told_of: list[dict[str, Any]] = []
    sent = threading.Event()

    def send(_self: Alerts, alarm: dict[str, Any]) -> list[str]:
        told_of.append(alarm)
        sent.set()
        return []

    monkeypatch.setattr(Alerts, "send", send)
    backlash(events)
    declared = {"webhook": "http://127.0.0.1:1/hook"}
    found = watched(events, alerts=declared, pause_on="backlash")
    assert sent.wait(5)
    (alarm,) = told_of
    assert alarm == {**told(found)["alarms"][0], "paused": True}
    put(events, range(10, 11), 100, 0.6)
    settle(found)
    watched(Events.open(events.engine.url.database), alerts=declared)
    time.sleep(0.2)
    assert len(told_of) == 1


def test_a_restart_shows_what_was_shown(events):
    backlash(events)
    first = watched(events)
    put(events, range(10, 11), 33, 0.3)
    settle(first)
    again = watched(Events.open(events.engine.url.database))
    assert told(again)["messages"] == told(first)["messages"]


def test_before_the_first_look_nothing_is_told(events):
    app = Starlette(routes=monitor_http.routes)
    app.state.watch = MonitorFollower(events, campaign(), now=lambda: NOON)
    answer = TestClient(app).get("/monitor")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"


def test_a_pause_of_a_message_that_nobody_reacted_to_is_shown(events):
    found = watched(events)
    found.pause("clinic", "Ada", "wrong number")
    assert [p["message_id"] for p in told(found)["paused_unheard"]] == ["clinic"]


def test_a_bundle_without_a_monitors_part_is_watched_with_the_defaults():
    known = MonitoredCampaign.of("spread", {"audiences": {}})
    assert known.rules == MonitorRules()
    assert known.pause_on == "never"
    declared = MonitoredCampaign.of("spread", {"reactions": {"kinds": {"Haha": "bad"}}})
    assert declared.rules.valence["haha"] == "bad"
    assert declared.rules.valence["like"] == "good"


# --- over HTTP ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Events]]:
    """A watch behind the key, on loopback, that follows its store."""
    from hustings.serving.gate import Counts, FrontDoor
    from hustings.serving.service import OPEN

    events = Events.open(tmp_path_factory.mktemp("live") / "events.db")
    backlash(events)
    put(events, range(10), 60, 0.2, "clinic")
    found = watched(events)
    found.start()

    async def with_key(_request: Any) -> HTMLResponse:
        script = f"sessionStorage.setItem('hustings-key','{KEY}');location.replace('/')"
        return HTMLResponse(f"<script>{script}</script>")

    inner = Starlette(routes=monitor_http.routes)
    inner.state.watch = found
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUSTINGS_API_KEY", KEY)
        kept = FrontDoor(inner, Counts(), is_open=OPEN)

    async def pressing(_request: Any) -> HTMLResponse:
        return HTMLResponse(PRESSING.replace("a-key", KEY))

    opened = Starlette(
        routes=[Route("/with-key", with_key), Route("/pressing", pressing)]
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        is_open = scope["path"] in ("/with-key", "/pressing")
        await (opened if is_open else kept)(scope, receive, send)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(
            app, port=port, log_level="warning", lifespan="off",
            timeout_graceful_shutdown=1,
        )
    )  # fmt: skip
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}", events
    found.stop()
    server.should_exit = True
    thread.join(timeout=10)


HEADERS = {"X-API-Key": KEY}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/monitor"), ("GET", "/monitor/stream"), ("POST", "/pause"),
        ("POST", "/resume"),
    ],
)  # fmt: skip
def test_nothing_is_told_or_done_without_the_key(live, method, path):
    url, _ = live
    body = {"message_id": "clinic", "by": "Eve", "reason": "why not"}
    json_body = body if method == "POST" else None
    for headers in ({}, {"X-API-Key": "another"}):
        answer = httpx.request(method, url + path, json=json_body, headers=headers)
        assert answer.status_code == 401
        assert "clinic" not in answer.text
    assert told_over_http(url)["paused_unheard"] == []


def told_over_http(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(url + "/monitor", headers=HEADERS).json()
    return found


def test_the_page_is_open_carries_no_data_and_fetches_from_nowhere_else(live):
    url, _ = live
    answer = httpx.get(url + "/")
    assert answer.status_code == 200
    assert "bridge" not in answer.text
    assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page()[0] == answer.text


def test_a_pause_over_http_is_shown_at_once_and_says_who(live):
    url, _ = live
    body = {"message_id": "clinic", "by": "Ada", "reason": "wrong number"}
    answer = httpx.post(url + "/pause", json=body, headers=HEADERS)
    assert answer.json() == {"message_id": "clinic", "paused": True}
    (row,) = (m for m in told_over_http(url)["messages"] if m["message_id"] == "clinic")
    assert (row["paused"]["by"], row["paused"]["reason"]) == ("Ada", "wrong number")
    answer = httpx.post(url + "/resume", json=body, headers=HEADERS)
    assert answer.json() == {"message_id": "clinic", "resumed": True}
    assert all(m["paused"] is None for m in told_over_http(url)["messages"])


@pytest.mark.parametrize("lacking", ["message_id", "by", "reason"])
def test_a_pause_without_a_name_or_a_reason_is_refused(live, lacking):
    url, _ = live
    body = {"message_id": "clinic", "by": "Ada", "reason": "wrong number"}
    body[lacking] = " "
    answer = httpx.post(url + "/pause", json=body, headers=HEADERS)
    assert answer.status_code == 422
    assert [fault["path"] for fault in answer.json()["faults"]] == [lacking]


@pytest.mark.parametrize(
    ("path", "accept"), [("/monitor", "text/event-stream"), ("/monitor/stream", "*/*")]
)
def test_new_reactions_reach_a_stream_within_two_seconds(live, path, accept):
    url, events = live
    headers = {**HEADERS, "Accept": accept}
    message = "late" + path.replace("/", "-")
    with httpx.stream("GET", url + path, headers=headers, timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        first = next(line for line in lines if line.startswith("data: "))
        assert message not in first
        put(events, range(11, 12), 40, 0.0, message)
        began = time.monotonic()
        news = next(line for line in lines if line.startswith("data: "))
        assert message in news
        assert time.monotonic() - began < 2.0


def test_a_stream_ends_when_nobody_listens(events):
    found = watched(events)

    async def listen() -> list[str]:
        looks = iter([False, False, True])

        async def is_gone() -> bool:
            return next(looks)

        return [part async for part in stream(found, is_gone)]

    parts = asyncio.run(listen())
    assert parts[0].startswith("retry:")
    assert parts[1].startswith(f"id: {found.look.version}\nevent: monitor\ndata: {{")
    assert len(parts) == 2


# --- in a browser ---------------------------------------------------------------------

Browse = Callable[..., str]


@pytest.fixture(scope="module")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Browse:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")

    def visit(url: str, *options: str) -> str:
        home = tmp_path_factory.mktemp("browser")
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
            f"--user-data-dir={home}", "--virtual-time-budget=5000",
            # nothing but this machine answers
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            *options, url,
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True
        )
        assert "CONSOLE" not in done.stderr.upper(), done.stderr
        return done.stdout

    return visit


def test_the_button_pauses_the_message_for_whoever_says_who_they_are(live, browse):
    url, events = live
    browse(url + "/pressing", "--dump-dom")
    paused = Pauses.in_store_of(events).paused()
    assert {name: (p.by, p.reason) for name, p in paused.items()} == {
        "bridge": ("Ada", "angry replies")
    }
    body = {"message_id": "bridge", "by": "Ada", "reason": "enough"}
    assert httpx.post(url + "/resume", json=body, headers=HEADERS).json()["resumed"]


def test_the_page_asks_for_the_key_and_shows_nothing(live, browse):
    text = browse(live[0] + "/", "--dump-dom")
    assert "bridge" not in text
    assert '<form id="ask" class="card">' in text
    assert 'id="watch" hidden' in text


def test_the_page_shows_alarms_first_then_messages_with_their_sparklines(live, browse):
    text = browse(live[0] + "/with-key", "--dump-dom")
    assert '<form id="ask" class="card" hidden' in text
    alarm, table = text.index('<article class="alarm'), text.index('<tr class="row')
    assert alarm < table
    assert "The randomised test says otherwise" in text
    assert "Sent so far to 80 voters." in text
    assert text.count('<rect class="bad"') > 3
    assert ">Pause</button>" in text
    assert SECRET not in text


@pytest.mark.parametrize("size", ["1400,1200", "500,1600"])
def test_the_page_can_be_looked_at_wide_and_narrow(live, browse, tmp_path, size):
    picture = tmp_path / "page.png"
    browse(live[0] + "/with-key", f"--window-size={size}", f"--screenshot={picture}")
    # an empty page of this size takes a tenth of it
    assert picture.stat().st_size > 40_000
