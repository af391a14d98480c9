"""Limits, queue and keys: over HTTP on a real process; the queue before a slow app."""

import asyncio
import json
import os
import sqlite3
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from hustings.experiments.replay import to_endpoint
from hustings.serving import gate, keys
from hustings.serving.gate import Counts, FrontDoor, broken_limit
from tests.serving.conftest import KEY, key_of, line_of
from tests.sockets import peak_bytes

MOST_BYTES = 1.5 * 2**30


def as_holder(server, name: str) -> httpx.Client:
    client: httpx.Client = server.client(**{"X-API-Key": key_of(name)})
    return client


# --- limits ---------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    return b'{"voters": [{"voter_id": "a", "x": ' + b"[" * depth + b"]" * depth + b"}]}"


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/score", b" " * (32 * 2**20 + 1), "at most 33,554,432 bytes"),
        ("/score", b'{"voters": [' + b"[]," * 50_000 + b"[]]}", "objects and lists"),
        ("/score", b'{"messages": [' + b"1," * 2_000_001 + b"1]}", "values in a body"),
        ("/recommend", nested(200), "16 levels deep"),
        ("/sent", b" " * (2**20 + 1), "bytes"),
        ("/pause", b" " * (2**16 + 1), "bytes"),
        ("/resume", b'{"by": [' + b"1," * 200 + b"1]}", "values"),
        ("/reactions", b" " * (2**24 + 1), "bytes"),
        ("/reactions", b'{"events": [' + b"[]," * 50_000 + b"[]]}", "and lists"),
        ("/reactions/review", b" " * (2**16 + 1), "bytes"),
        ("/nope", b" " * (2**16 + 1), "bytes"),
    ],
)  # fmt: skip
def test_a_body_above_a_limit_is_refused_before_it_is_parsed(
    server, path, body, expected
):
    with server.client() as client:
        answer = client.post(path, content=body)
    assert answer.status_code == 413, answer.text
    told = answer.json()
    assert expected in told["faults"][0]["message"]
    assert told["request_id"] == answer.headers["X-Request-ID"]


def test_a_body_as_large_as_its_limits_is_let_in():
    limits = gate.LIMITS["/score"]
    assert broken_limit(b"[" * 3 + b"1," * 1_000 + b"]" * 3, limits) == ""
    assert broken_limit(b"[{" * 16, limits) != ""
    # brackets in a text are no levels
    assert broken_limit(b'{"text": "' + b"[{" * 100 + b'"}', limits) == ""
    assert broken_limit(b'{"text": "\\"' + b"[{" * 100 + b'"}', limits) == ""


def test_memory_stays_bounded_whatever_is_sent(server):
    """The largest bodies of all shapes, several at a time."""
    long_words = json.dumps(
        {"voters": [{"voter_id": "a"}], "messages": ["m" * 3] * 900_000}
    )
    wide = b'{"voters": [' + b",".join(
        b"{" + b",".join(b'"c%d": %d' % (k, k) for k in range(180)) + b"}"
        for _ in range(9_000)
    ) + b"]}"  # fmt: skip
    brackets = b'{"voters": [' + b"[]," * (9 * 2**20) + b"[]]}"
    text = b'{"voters": "' + b"x" * (30 * 2**20) + b'"}'
    bodies = [long_words.encode(), wide, brackets, text]

    def send(body: bytes) -> int:
        with server.client() as client:
            return client.post("/score", content=body).status_code

    with ThreadPoolExecutor(4) as pool:
        statuses = set(pool.map(send, bodies + bodies[:1]))
    assert statuses <= {413, 422, 503}
    assert peak_bytes(server.url) < MOST_BYTES
    assert server.get("/readyz").status_code == 200


# --- one shape of error ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404), ("GET", "/score", 405), ("POST", "/pause", 400),
        ("POST", "/score", 400), ("POST", "/reactions", 400),
        ("POST", "/reactions/review", 400),
    ],
)  # fmt: skip
def test_every_error_has_one_shape_with_the_requests_id(server, method, path, status):
    with server.client() as client:
        answer = client.request(
            method, path, content=b"{" if method == "POST" else None,
            headers={"X-Request-ID": "mine-7"},
        )  # fmt: skip
    told = answer.json()
    assert answer.status_code == status
    assert (told["request_id"], answer.headers["X-Request-ID"]) == ("mine-7",) * 2
    assert set(told) == {"request_id", "faults", "n_faults"}
    assert told["faults"][0]["message"]


def test_columns_that_nothing_reads_are_named(served, server):
    row = {**served.rows[0], "shoe_size": 43}
    answer = server.post("/score", {"voters": [row]}).json()
    assert answer["unknown_columns"] == ["shoe_size"]


def test_values_and_voters_that_nothing_is_known_of_are_said(served, server):
    row = {**served.rows[0], "party": "Z"}
    for route in ("/score", "/recommend"):
        answer = server.post(route, {"voters": [row, served.rows[1]]}).json()
        assert answer["unknown_values"] == {"party": ["Z"]}
    answer = server.post("/score", {"voters": served.rows[:50]}).json()
    assert answer["unknown_values"] == {}
    channels = {row["voter_id"]: ["sms"], "nobody asked about": ["sms"]}
    body = {"voters": [row], "permitted_channels": channels}
    assert server.post("/recommend", body).json()["n_channels_of_others"] == 1


def test_a_message_of_nobody_is_neither_paused_nor_resumed(served, server):
    body = {"message_id": "no-such", "by": "Ada", "reason": "a test"}
    for route in ("/pause", "/resume"):
        answer = server.post(route, body)
        assert answer.status_code == 404
        fault = answer.json()["faults"][0]
        assert (fault["path"], served.model.messages[0] in fault["message"]) == (
            "message_id", True,
        )  # fmt: skip


def test_a_replay_reads_the_receipt_of_a_batch_that_was_set_aside_whole(server):
    send = to_endpoint(server.url, KEY)
    receipt = send([{"event_id": "bad-1", "kind": "like"}])
    assert (receipt["accepted"], receipt["quarantined"]) == (0, 1)
    with pytest.raises(ConnectionError, match="got 401"):
        to_endpoint(server.url, "another")([{"event_id": "bad-1"}])


NUL = "a\x00b"


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/score", {"voters": [{"voter_id": NUL}]}),
        ("/score", {"voters": [{"voter_id": "a", "party": NUL}]}),
        ("/score", {"voters": [{"voter_id": "a"}], "messages": [NUL]}),
        ("/recommend", {"voters": [{"voter_id": NUL, "household_id": None}]}),
        ("/recommend", {"voters": [{"voter_id": "a"}], "request_id": NUL}),
        ("/recommend", {"voters": [{}], "permitted_channels": {NUL: []}}),
        ("/sent", {"decision_ids": [NUL]}),
        ("/pause", {"message_id": NUL, "by": "a", "reason": "b"}),
        ("/pause", {"message_id": "a", "by": NUL, "reason": "b"}),
        ("/resume", {"message_id": "a", "by": "b", "reason": NUL}),
        ("/reactions/review", {"event_id": NUL, "answer": "not", "by": "a"}),
        ("/reactions", {"event_id": NUL, "kind": "like", "platform": "x",
                        "post_id": "p", "occurred_at": "2026-09-01"}),
    ],
)  # fmt: skip
def test_a_text_that_postgresql_cannot_keep_is_refused_on_every_store(
    server, route, body
):
    answer = server.post(route, body)
    assert answer.status_code == 422, answer.text
    assert "NUL" in answer.json()["faults"][0]["message"]


# --- the queue ------------------------------------------------------------------------


class SlowApp:
    """Answers once it is told to."""

    def __init__(self, at_once: Collection[str] = ()) -> None:
        self.go, self.inside, self.most = asyncio.Event(), 0, 0
        self.at_once = at_once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and scope["path"] not in self.at_once:
            await receive()
            self.inside += 1
            self.most = max(self.most, self.inside)
            await self.go.wait()
            self.inside -= 1
        start = {"type": "http.response.start", "status": 200, "headers": []}
        await send(start)
        await send({"type": "http.response.body", "body": b"{}"})


def before(app: SlowApp, monkeypatch: pytest.MonkeyPatch) -> httpx.AsyncClient:
    monkeypatch.setenv("HUSTINGS_API_KEY", KEY)
    there = FrontDoor(app, Counts(), is_open={"/healthz"})
    transport = httpx.ASGITransport(app=there)
    headers = {"X-API-Key": KEY}
    return httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers)


async def ended(posts: list[asyncio.Task[httpx.Response]], n: int) -> None:
    """Wait until n of the requests are answered; the others wait for the app."""
    async with asyncio.timeout(30):
        while sum(post.done() for post in posts) < n:
            await asyncio.sleep(0.01)


def test_a_full_queue_says_when_to_come_again_and_health_answers(monkeypatch):
    async def crowd() -> tuple[list[httpx.Response], httpx.Response, int]:
        app = SlowApp()
        async with before(app, monkeypatch) as client:
            posts = [
                asyncio.create_task(client.post("/score", json={}))
                for _ in range(gate.QUEUE_REQUESTS + 5)
            ]
            await ended(posts, 5)
            health = await client.get("/healthz")
            app.go.set()
            return await asyncio.gather(*posts), health, app.most

    answers, health, most = asyncio.run(crowd())
    assert health.status_code == 200
    refused = [a for a in answers if a.status_code == 503]
    assert (len(refused), most) == (5, gate.AT_ONCE)
    assert {a.headers["Retry-After"] for a in refused} == {"1"}
    assert [a.status_code for a in answers].count(200) == gate.QUEUE_REQUESTS


def test_requests_that_wait_for_the_store_hold_up_none_that_does_not(monkeypatch):
    routes = sorted(gate.STORE_ROUTES)

    async def crowd() -> tuple[list[int], list[int]]:
        app = SlowApp(at_once={"/score", "/invocations"})
        async with before(app, monkeypatch) as client:
            waiting = [
                asyncio.create_task(client.post(routes[k % len(routes)], json={}))
                for k in range(gate.QUEUE_REQUESTS + 5)
            ]
            await ended(waiting, 5)
            assert app.inside == gate.AT_ONCE
            async with asyncio.timeout(30):
                scored = [
                    (await client.post(path, json={})).status_code
                    for path in ("/score", "/invocations")
                ]
            app.go.set()
            return scored, [a.status_code for a in await asyncio.gather(*waiting)]

    scored, waited = asyncio.run(crowd())
    assert scored == [200, 200]
    assert (waited.count(200), waited.count(503)) == (gate.QUEUE_REQUESTS, 5)


def test_large_bodies_take_turns_and_the_queues_bytes_are_bounded(monkeypatch):
    body = b'"' + b"x" * (20 * 2**20) + b'"'

    async def crowd() -> tuple[list[int], int]:
        app = SlowApp()
        async with before(app, monkeypatch) as client:
            posts = [
                asyncio.create_task(client.post("/score", content=body))
                for _ in range(6)
            ]
            await ended(posts, 2)
            app.go.set()
            return [a.status_code for a in await asyncio.gather(*posts)], app.most

    statuses, most = asyncio.run(crowd())
    assert most == 1
    assert sorted(statuses) == [200] * 4 + [503] * 2


def test_who_waits_too_long_for_a_turn_is_told_to_come_again(monkeypatch):
    monkeypatch.setattr(gate, "TURN_WITHIN_S", 0.05)

    async def crowd() -> list[int]:
        app = SlowApp()
        async with before(app, monkeypatch) as client:
            posts = [
                asyncio.create_task(client.post("/score", json={}))
                for _ in range(gate.AT_ONCE + 2)
            ]
            await ended(posts, 2)
            app.go.set()
            return [a.status_code for a in await asyncio.gather(*posts)]

    statuses = asyncio.run(crowd())
    assert sorted(statuses) == [200] * gate.AT_ONCE + [503] * 2


def test_a_store_that_another_holds_refuses_soon_and_nothing_is_handed_out(
    served, server
):
    """A STOP that cannot be asked for is no permission."""
    store = sqlite3.connect(served.folder.parent / "events.db", isolation_level=None)
    store.execute("BEGIN EXCLUSIVE")
    try:
        answer = server.post("/recommend", {"voters": served.rows[:1]})
        scored = server.post("/score", {"voters": served.rows[:1]})
    finally:
        store.execute("ROLLBACK")
        store.close()
    assert answer.status_code == 503
    assert "nothing is handed out" in answer.json()["faults"][0]["message"]
    assert answer.headers["Retry-After"]
    assert scored.status_code == 200
    assert server.post("/recommend", {"voters": served.rows[:1]}).status_code == 200


# --- keys -----------------------------------------------------------------------------


def test_a_key_opens_what_its_roles_say(served, server):
    row = {"voters": served.rows[:1]}
    with as_holder(server, "Ada") as ada, as_holder(server, "canvass app") as app:
        assert ada.get("/monitor").status_code in (200, 503)
        assert ada.get("/metrics").status_code == 200
        refused = ada.post("/score", json=row)
        assert (app.post("/score", json=row).status_code, refused.status_code) == (
            200, 403,
        )  # fmt: skip
        assert "POST /score" in refused.json()["faults"][0]["message"]
        assert app.get("/monitor").status_code == 403
        assert app.post("/pause", json={}).status_code == 403
        assert ada.post("/reactions", json={}).status_code == 403


def test_a_pause_is_in_the_name_of_the_key(served, server):
    message = served.model.messages[0]
    with as_holder(server, "Ben") as ben:
        asked = {"message_id": message, "by": "somebody else", "reason": "a test"}
        assert ben.post("/pause", json=asked).status_code == 200
        try:
            listed = ben.get("/monitor").json()["paused_unheard"]
            assert [(told["message_id"], told["by"]) for told in listed] == [
                (message, "Ben")
            ]
        finally:
            assert ben.post("/resume", json=asked).status_code == 200


def test_keys_are_rotated_without_a_restart_and_a_broken_file_takes_none(tmp_path):
    path = tmp_path / "keys.json"

    def write(*lines: dict[str, Any] | str) -> None:
        path.write_text(json.dumps({"keys": lines}))
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000 * len(lines) + 7))

    def names() -> set[str]:
        found = (there.of(key_of(n).encode()) for n in ("Ada", "Ben"))
        return {key.name for key in found if key is not None}

    write(line_of("Ada", "watch"))
    there = keys.Keys(KEY, path)
    assert names() == {"Ada"}
    write(line_of("Ada", "watch"), line_of("Ben", "pause"))
    assert names() == {"Ada", "Ben"}
    write(line_of("Ben", "pause"), {}, {})
    assert names() == {"Ada", "Ben"}
    write(line_of("Ben", "pause"), line_of("Cy", "pause"), line_of("Di", "score"))
    assert names() == {"Ben"}
    write(line_of("Ada", "king"))
    with pytest.raises(ValueError, match=r"keys.0.roles"):
        keys.Keys(KEY, path).of(b"")


def test_a_key_that_asks_too_often_and_an_address_of_wrong_keys_have_to_wait(
    tmp_path, monkeypatch
):
    path, now = tmp_path / "keys.json", [100.0]
    path.write_text(json.dumps({"keys": [line_of("Ada", "watch", per_second=2)]}))
    monkeypatch.setattr(keys.time, "monotonic", lambda: now[0])
    there = keys.Keys(KEY, path)
    ada = there.of(key_of("Ada").encode())
    assert ada is not None
    assert [there.is_too_often(ada) for _ in range(3)] == [False, False, True]
    now[0] += 0.5
    assert [there.is_too_often(ada) for _ in range(2)] == [False, True]
    failed = [there.failed("1.2.3.4") for _ in range(keys.MOST_FAILURES + 1)]
    assert failed == [False] * keys.MOST_FAILURES + [True]
    assert not there.failed("5.6.7.8")
    now[0] += keys.FAILURES_WITHIN_S + 1
    assert not there.failed("1.2.3.4")


def test_a_short_operators_key_serves_nothing(monkeypatch):
    monkeypatch.setenv("HUSTINGS_API_KEY", "a" * 21)
    with pytest.raises(ValueError, match="at least 22 letters"):
        keys.operator_key()


# --- counts ---------------------------------------------------------------------------


def test_the_counts_name_rows_refusals_model_and_bounded_routes(served, server):
    server.post("/score", {"voters": served.rows[:3]})
    server.get("/nope-1")
    server.get("/nope-2")
    text = server.get("/metrics").text
    assert 'hustings_rows_total{route="/score"}' in text
    assert 'hustings_refused_total{reason="size"}' in text
    assert 'hustings_model_info{name="hustings-sample",version="7"} 1.0' in text
    assert "hustings_model_age_seconds" in text
    assert "hustings_queue 0.0" in text
    assert 'route="other",status="404"' in text
    assert "nope" not in text
