"""The OpenAPI document tells the truth, and clients of others read it."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import bentoml
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from hustings.serving.service import HEALTH, routes
from tests.described import Described, altered
from tests.serving.conftest import KEY

INSIDE = {"/ready": "/readyz", "/client_schema.json": "/schema.json"}
"""Routes behind those that a client asks for."""


@pytest.fixture(scope="module")
def described(server) -> Iterator[Described]:
    description = Described(server.get("/docs.json").json())
    yield description
    # another test may send what an example has paused
    server.post("/resume", next(iter(description.examples("/resume").values())))


def test_every_route_is_described_and_nothing_else(described):
    there = {
        (method, INSIDE.get(route.path, route.path))
        for route in routes.routes
        for method in route.methods - {"HEAD"}
    } | {("GET", path) for path in HEALTH}
    assert there == {
        (method.upper(), path)
        for path, methods in described.document["paths"].items()
        for method in methods
    }


def test_every_example_is_answered_as_described(server, described):
    bodies = {path: described.examples(path) for path in described.posts()}
    told = server.post("/score", next(iter(bodies["/score"].values()))).json()
    assert told["unknown_columns"] == told["missing_columns"] == []
    assert told["unknown_values"] == {}
    for path, examples in bodies.items():
        assert examples
        for name, body in examples.items():
            answer = server.post(path, body)
            assert described.admits(path, json.dumps(body).encode()), (path, name)
            assert described.flaw(answer, "POST", path) == "", (path, name)
            # the ids in these two are those of answers that others got
            is_of_others = path in ("/sent", "/reactions/review")
            assert (answer.status_code == 200) != is_of_others, answer.text


def test_ids_of_earlier_answers_are_taken_where_the_description_says_so(
    served, server, described
):
    rows = served.rows[:300]
    told = server.post("/recommend", {"voters": rows}).json()["voters"]
    given = [v["recommendation"] for v in told if v["recommendation"]]
    sent = server.post("/sent", {"decision_ids": [given[0]["decision_id"]]})
    assert (sent.status_code, described.flaw(sent, "POST", "/sent")) == (200, "")
    reply = {
        "event_id": "w-1", "message_id": "m", "platform": "sms", "kind": "reply",
        "occurred_at": "2026-09-01", "voter_id": "V1", "text": "wrong number",
    }  # fmt: skip
    assert server.post("/reactions", reply).json()["to_review"] == 1
    body = {**next(iter(described.examples("/reactions/review").values()))}
    body["event_id"] = "w-1"
    listed = server.get("/reactions/review")
    assert described.flaw(listed, "GET", "/reactions/review") == ""
    assert "w-1" in {wish["event_id"] for wish in listed.json()["wishes"]}
    answer = server.post("/reactions/review", body)
    assert answer.status_code == 200
    assert described.flaw(answer, "POST", "/reactions/review") == ""


def test_what_is_got_is_as_described(server, described):
    with server.client() as client:
        for path, methods in described.document["paths"].items():
            if "get" in methods and path != "/monitor/stream":
                answer = client.get(path)
                assert answer.status_code == 200, path
                assert described.flaw(answer, "GET", path) == "", path
        with client.stream("GET", "/monitor/stream") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")


def test_limits_and_roles_are_those_of_the_gate(described):
    score = described.operation("POST", "/score")
    assert score["x-limits"]["bytes"] == 32 * 2**20
    assert "role `score`" in score["description"]
    assert "33,554,432 bytes" in score["description"]
    voters = described.document["components"]["schemas"]["ScoreRequest"]["properties"]
    assert voters["voters"]["maxItems"] == 10_000
    assert described.operation("GET", "/healthz")["security"] == []


def test_channels_of_an_id_that_none_can_be_are_not_admitted(described):
    example = next(iter(described.examples("/recommend").values()))
    for voter_id, channels, is_admitted in (
        ("V1", ["sms"], True), ("V1", {}, False), ("V\0", {}, False),
    ):  # fmt: skip
        body = {**example, "permitted_channels": {voter_id: channels}}
        text = json.dumps(body).encode()
        assert described.admits("/recommend", text) == is_admitted, (voter_id, channels)


def test_bentomls_own_client_calls_the_running_service(served, server):
    rows = served.rows[:3]
    with bentoml.SyncHTTPClient(server.url, token=KEY) as client:
        scored = client.score(voters=[{**rows[0], "shoe_size": 43}, *rows[1:]])
        offered = client.recommend(
            voters=rows, permitted_channels={rows[0]["voter_id"]: ["sms"]}
        )
        wide = client.invocations(dataframe_records=rows)
        # it leaves that to the collector
        client._temp_dir.cleanup()
    told = server.post("/score", {"voters": rows}).json()
    assert scored["unknown_columns"] == ["shoe_size"]
    assert scored["voters"] == told["voters"]
    assert [v["voter_id"] for v in offered["voters"]] == [r["voter_id"] for r in rows]
    assert [v["voter_id"] for v in wide["predictions"]] == [r["voter_id"] for r in rows]


def basic(key: str) -> dict[str, str]:
    given = base64.b64encode(f"anybody:{key}".encode()).decode()
    return {"Authorization": f"Basic {given}"}


def test_the_page_of_the_description_answers_behind_the_key(server):
    files = ("/docs", "/docs.json", "/static_content/swagger-ui-bundle.js")
    for headers, status in (
        ({"X-API-Key": KEY}, 200), (basic(KEY), 200), (basic("another"), 401),
        ({"Accept": "*/*"}, 401), ({"Authorization": "Basic !"}, 401),
    ):  # fmt: skip
        with server.client(**headers) as client:
            for path in files:
                answer = client.get(path)
                assert answer.status_code == status, (headers, path)
                if status == 401:
                    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    page = server.get("/docs")
    assert "//" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_a_browsers_password_opens_nothing_that_does_something(served, server):
    """Other sites' pages could send it along without being asked."""
    body = {"voters": served.rows[:1]}
    with server.client(**basic(KEY)) as client:
        for path in ("/score", "/recommend", "/pause", "/sent", "/docs"):
            assert client.post(path, json=body).status_code == 401, path
        for path in ("/model", "/monitor", "/reactions/review"):
            answer = client.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["WWW-Authenticate"] == "Bearer"


# --- the description and the endpoint admit the same ----------------------------------


@pytest.mark.parametrize(
    "path",
    ["/score", "/invocations", "/recommend", "/sent", "/pause", "/reactions",
     "/reactions/review"],
)  # fmt: skip
def test_what_the_description_admits_has_the_shape_and_what_it_refuses_is_refused(
    server, described, path
):
    examples = list(described.examples(path).values())
    bodies = st.sampled_from(examples).flatmap(altered)
    n_admitted = [0, 0]

    with server.client() as client:

        @seed(1)
        @settings(
            max_examples=50, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(body=bodies)
        def hold(body: Any) -> None:
            content = json.dumps(body).encode()
            answer = client.post(path, content=content)
            n_admitted[described.admits(path, content)] += 1
            assert described.flaw_of_post(path, content, answer) == "", body

        hold()
    # both kinds were tried
    assert min(n_admitted) > 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"voters": [{"voter_id": "a", "age": NaN}]}',
        b'{"voters": [{"voter_id": "a", "age": Infinity}]}',
        b'\xef\xbb\xbf{"voters": [{"voter_id": "a"}]}',
        b'{"voters": [{"voter_id": "\xff"}]}',
    ],
)
def test_what_is_no_json_is_refused(server, body):
    with server.client() as client:
        for path in ("/score", "/recommend"):
            answer = client.post(path, content=body)
            assert answer.status_code == 400, answer.text
