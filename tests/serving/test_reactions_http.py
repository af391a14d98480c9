"""`POST /reactions`: acknowledged once on disk, labelled, and a STOP holds at once."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.testclient import TestClient

import hustings.serving.reactions.http
from hustings.features.minilm import PACKAGE
from hustings.features.post import PostIssues
from hustings.serving.bodies import RecommendRequest
from hustings.serving.endpoint import Endpoint
from hustings.serving.plan import held_out
from hustings.serving.reactions.http import Intake, ReactionSettings, routes
from hustings.serving.reactions.store import Events

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)
MESSAGES = (
    {"message_id": "m1", "issue": "pensions", "stance": None,
     "text": "Retired workers have earned a pension that keeps up with prices."},
    {"message_id": "m2", "issue": "border", "stance": "Close the border.",
     "text": "We must secure our border and stop illegal crossings."},
)  # fmt: skip


def event(event_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": event_id, "post_id": "p", "platform": "facebook", "kind": "like",
        "occurred_at": "2026-09-01T10:00:00Z", **fields,
    }  # fmt: skip


@pytest.fixture
def intake(tmp_path):
    declared = ReactionSettings(
        area=("26", "MI"), posts={"ours": "m2"}, messages=MESSAGES, issue_floor=0.5
    )
    made = Intake(Events.open(tmp_path / "events.db"), declared, b"key")
    yield made
    made.events.close()


@pytest.fixture
def client(intake):
    app = Starlette(routes=routes)
    app.state.intake = intake
    with TestClient(app) as client:
        yield client


def kept(intake: Intake) -> Any:
    return intake.events.since()[0].set_index("event_id")


# --- HTTP -----------------------------------------------------------------------------


def test_one_event_and_a_batch_are_answered_with_what_became_of_them(client, intake):
    answer = client.post("/reactions", json=event("a"))
    assert answer.status_code == 200
    assert answer.json() == {
        "accepted": 1, "duplicate": 0, "quarantined": 0, "faults": [], "n_faults": 0,
        "withdrawn": 0, "to_review": 0, "unknown_kinds": {},
    }  # fmt: skip
    batch = {"events": [event("a"), event("b"), event("c", count=0)]}
    told = client.post("/reactions", json=batch).json()
    assert (told["accepted"], told["duplicate"], told["quarantined"]) == (1, 1, 1)
    assert told["faults"][0]["path"] == "events[2].count"
    assert kept(intake).index.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"events": 3}', 422),
        (b'{"events": [], "more": 1}', 422),
        (b'{"events": [' + b"0," * 10_000 + b"0]}", 413),
    ],
)
def test_a_body_that_is_no_batch_is_refused(client, intake, body, status):
    answer = client.post("/reactions", content=body)
    assert answer.status_code == status
    assert answer.json()["faults"][0]["message"].startswith("expected")
    assert intake.events.quarantine().empty


def test_a_batch_of_which_nothing_is_taken_is_refused_and_still_quarantined(
    client, intake
):
    bad, good = event("a", count=0), event("b")
    answer = client.post("/reactions", json={"events": [bad]})
    told = answer.json()
    assert (answer.status_code, told["accepted"], told["quarantined"]) == (422, 0, 1)
    assert told["faults"][0]["path"] == "events[0].count"
    assert client.post("/reactions", json=3).status_code == 422
    for events in ([bad, good], [good], []):
        assert client.post("/reactions", json={"events": events}).status_code == 200
    # a STOP that is wrong in some field is still one
    stop = event("c", kind="stop", count=0, voter_id="V1", channel="sms")
    answer = client.post("/reactions", json=stop)
    assert (answer.status_code, answer.json()["withdrawn"]) == (200, 1)
    assert len(intake.events.quarantine()) == 3


def test_what_the_store_did_not_keep_is_not_acknowledged(client, intake, caplog):
    def fail(*_: object) -> None:
        raise sa.exc.OperationalError("INSERT", {"person": "joe"}, Exception("full"))

    sa.event.listen(intake.events.engine, "commit", fail)
    answer = client.post("/reactions", json=event("a", person="joe"))
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "joe" not in answer.text + caplog.text
    sa.event.remove(intake.events.engine, "commit", fail)
    assert client.post("/reactions", json=event("a")).json()["accepted"] == 1


def test_a_person_without_a_key_is_refused_for_now_and_nothing_is_taken(client, intake):
    intake.key = None
    batch = {"events": [event("a"), event("b", person="joe")]}
    answer = client.post("/reactions", json=batch)
    assert answer.status_code == 503
    assert "HUSTINGS_LINK_KEY" in answer.json()["faults"][0]["message"]
    assert kept(intake).empty


# --- labels ---------------------------------------------------------------------------


def test_a_message_and_a_post_that_is_one_bring_their_own_issue(intake):
    intake.receive(
        [
            event("a", message_id="m1"),
            event("b", post_id="ours"),
            event("c", message_id="m1", issue="jobs"),
            event("d"),
        ],
        received_at=NOW,
    )
    found = kept(intake)
    assert found["issue"].fillna("").tolist() == ["pensions", "border", "jobs", ""]
    assert found["message_id"].fillna("").tolist() == ["m1", "m2", "m1", ""]
    assert found["issue_confidence"].fillna(-1).tolist() == [1, 1, 1, -1]


def test_a_post_is_read_once_and_its_later_reactions_get_its_issue(intake, monkeypatch):
    read: list[str] = []

    def issue_of(texts: list[str], _topics: object, *, floor: float) -> PostIssues:
        read.extend(texts)
        sure = np.array([0.9 if "border" in text else 0.2 for text in texts])
        return PostIssues(["border" if s >= floor else None for s in sure], sure)

    monkeypatch.setattr(hustings.serving.reactions.http, "issue_of", issue_of)
    monkeypatch.setattr(
        hustings.serving.reactions.http.Topics, "of", lambda _messages: None
    )
    intake.receive(
        [event("a", post_text="the border"), event("b", post_text="the border"),
         event("c", post_id="q", post_text="my cat")],
        received_at=NOW,
    )  # fmt: skip
    # the label outlives the process that gave it
    other = Intake(intake.events, intake.declared, b"key")
    for one in (intake, other):
        one.receive([event(f"d{id(one)}"), event(f"e{id(one)}", post_id="q")],
                    received_at=NOW)  # fmt: skip
    assert sorted(read) == ["my cat", "the border"]
    found = kept(intake)
    on_border = found["post_id"] == "p"
    assert set(found["issue"][on_border]) == {"border"}
    assert found["issue"][~on_border].isna().all()
    assert set(found["issue_confidence"][~on_border]) == {0.2}


def test_reactions_are_kept_where_no_sentence_model_is_installed(intake, monkeypatch):
    def absent(_messages: object) -> None:
        raise ModuleNotFoundError("pip install the model")

    monkeypatch.setattr(hustings.serving.reactions.http.Topics, "of", absent)
    told = intake.receive([event("a", post_text="the border")], received_at=NOW)
    assert told.accepted == 1
    assert kept(intake)["issue"].isna().all()


def test_the_text_of_a_post_tells_its_issue(intake):
    pytest.importorskip(PACKAGE, reason="pip install 'hustings[text]'")
    intake.receive(
        [event("a", post_text="Illegal crossings at the southern border are rising."),
         event("b", post_id="q", post_text="Ten cakes to bake this weekend.")],
        received_at=NOW,
    )  # fmt: skip
    found = kept(intake)
    assert found["issue"].fillna("").tolist() == ["border", ""]
    assert found["issue_confidence"].between(0, 1).all()
    # what a post says is not kept
    assert "crossings" not in found.to_csv()


def test_a_reaction_from_elsewhere_is_known_by_its_place(intake):
    intake.receive(
        [event("a", place="26161"), event("b", place="MI"), event("c", place="48001"),
         event("d"), event("e", place="48001", in_area=True)],
        received_at=NOW,
    )  # fmt: skip
    assert kept(intake)["in_area"].tolist()[:3] == [True, True, False]
    assert kept(intake)["in_area"].isna().tolist() == [False] * 3 + [True, False]


# --- STOP -----------------------------------------------------------------------------


def test_recommend_refuses_a_channel_as_soon_as_its_stop_is_acknowledged(
    served, server
):
    rows, channels = _asked(served)
    body = {"voters": rows, "permitted_channels": channels}
    offers = server.post("/recommend", body).json()["voters"]
    sent = [v for v in offers if v["recommendation"]]
    told = {v["voter_id"]: v["recommendation"]["channel"] for v in sent}
    assert "phone" in told.values()
    batch = [
        event(f"stop-{voter}", kind="STOP", platform=channel, voter_id=voter)
        for voter, channel in told.items()
    ]
    receipt = server.post("/reactions", {"events": batch}).json()
    assert receipt["accepted"] == len(told)
    for voter in server.post("/recommend", body).json()["voters"]:
        channel = told.get(voter["voter_id"])
        if channel and voter["recommendation"]:
            assert voter["recommendation"]["channel"] != channel
    # a STOP by no channel of ours ends them all, and so does what may be one
    says = [{"kind": "unsubscribe"}, {"kind": "reply", "text": "we must stop this war"}]
    batch = [
        event(f"all-{v}", voter_id=v, **says[i % 2]) for i, v in enumerate(sorted(told))
    ]
    server.post("/reactions", {"events": batch})
    for voter in server.post("/recommend", body).json()["voters"]:
        if voter["voter_id"] in told:
            assert voter["recommendation"] is None
            assert "permission withdrawn" in voter["reason"]["text"]


def _asked(served) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Voters whom no other test knows, not held out."""
    rows = []
    for i, row in enumerate(served.rows[:60]):
        rows.append({**row, "voter_id": f"STOP{i}", "household_id": f"STOPH{i}"})
    unit = np.array([row["household_id"] for row in rows], dtype=object)
    plan = served.plan
    held = held_out(unit, salt=plan["salt"], share=plan["holdout_share"])
    rows = [row for row, out in zip(rows, held, strict=True) if not out]
    return rows, {row["voter_id"]: ["sms", "phone"] for row in rows}


def test_an_endpoint_that_cannot_ask_who_stopped_recommends_nothing(served):
    def broken(_voter_ids: object) -> Any:
        raise sa.exc.OperationalError("SELECT", {}, Exception("gone"))

    endpoint = Endpoint.load(served.folder)
    rows, channels = _asked(served)
    now = pd.Timestamp("2026-09-08 12:00")
    request = RecommendRequest(voters=rows[:3], permitted_channels=channels)
    assert endpoint.recommend(request, at=now)["voters"]
    with pytest.raises(sa.exc.OperationalError):
        replace(endpoint, refused=broken).recommend(request, at=now)


def test_reactions_need_the_key(server):
    with server.client(**{"X-API-Key": "wrong"}) as stranger:
        assert stranger.post("/reactions", json=event("x")).status_code == 401


# --- wishes to be left alone ----------------------------------------------------------


def answer_of(voter: int, **fields: Any) -> dict[str, Any]:
    asked = {"voter_id": f"V{voter}", "platform": "sms", "kind": "reply", **fields}
    return event(f"s{voter}", **asked)


STOPS: tuple[dict[str, Any], ...] = (
    {"text": "STOP"},
    {"text": "please stop texting me"},
    {"text": "Remove me from your list"},
    {"text": "NO MAS"},
    {"text": "ARRET"},
    {"kind": "inbound", "text": "STOP"},
    {"text": "STOP\nSent from my phone"},
    {"kind": "opted-out"},
    {"kind": "opt out"},
    {"kind": "Do Not Call"},
    {"kind": "stop all"},
    {"kind": "inbound", "OptOutType": "STOP", "text": "nope"},
    {"kind": "21610"},
    # malformed: the wish is read all the same
    {"kind": "inbound sms reply of the second kind", "text": "stop"},
    {"kind": "reply", "Body": "Stop please", "occurred_at": "yesterday"},
    {"kind": "status", "is_opted_out": True},
    {"kind": None, "disposition": "Opted out"},
)
MAY_BE_STOPS: tuple[dict[str, Any], ...] = (
    {"text": "stop Trump"},
    {"kind": "contact_result_7", "text": "what do you want?"},
    {"kind": "refused"},
    {"kind": "hostile"},
    {"text": "wrong number"},
    {"kind": "reply", "text": "Not interested", "count": "one"},
)


def test_a_wish_to_be_left_alone_binds_however_it_is_said(client, intake, caplog):
    certain = [answer_of(i, **fields) for i, fields in enumerate(STOPS)]
    told = client.post("/reactions", json={"events": certain}).json()
    assert (told["withdrawn"], told["to_review"]) == (len(STOPS), 0)
    refused = intake.events.refused([f"V{i}" for i in range(len(STOPS))])
    assert len(refused) == len(STOPS)
    assert all("sms" in channels for channels in refused.values())
    assert refused["V0"] == refused["V6"] == {"sms"}
    assert len(refused["V9"]) == 8  # do not call: by no channel
    # a certain wish is nobody's to read
    assert client.get("/reactions/review").json() == {"wishes": []}
    maybe = [answer_of(100 + i, **fields) for i, fields in enumerate(MAY_BE_STOPS)]
    told = client.post("/reactions", json={"events": maybe}).json()
    assert (told["withdrawn"], told["to_review"]) == (0, len(MAY_BE_STOPS))
    voters = [f"V{100 + i}" for i in range(len(MAY_BE_STOPS))]
    assert intake.events.refused(voters) == {voter: {"sms"} for voter in voters}
    wishes = client.get("/reactions/review").json()["wishes"]
    assert [wish["voter_id"] for wish in wishes] == voters
    assert wishes[0]["text"] == "stop Trump"
    assert wishes[0]["channels"] == ["sms"]
    # the words stand in no log, no receipt and no table of events
    assert "Trump" not in caplog.text + str(told) + kept(intake).to_csv()
    assert "interested" not in intake.events.quarantine().to_csv()


def test_a_person_answers_what_may_be_a_wish(client, intake):
    client.post("/reactions", json=answer_of(1, text="stop the war"))
    client.post("/reactions", json=answer_of(2, text="you must stop, really"))
    for event_id, answer in (("s1", "not"), ("s2", "withdraw")):
        body = {"event_id": event_id, "answer": answer, "by": "Ann"}
        assert client.post("/reactions/review", json=body).status_code == 200
    assert client.get("/reactions/review").json()["wishes"] == []
    assert intake.events.refused(["V1", "V2"]) == {"V2": {"sms"}}
    body = {"event_id": "s1", "answer": "withdraw", "by": "Ann"}
    assert client.post("/reactions/review", json=body).status_code == 404
    assert client.post("/reactions/review", json={"event_id": "s1"}).status_code == 422
    with intake.events.engine.connect() as connection:
        texts = connection.exec_driver_sql("SELECT text FROM wishes").scalars().all()
    assert set(texts) == {None}


def test_a_wish_that_names_nobody_is_put_before_a_person(client):
    nobody = [event("a", platform="sms", kind="reply", text="STOP"),
              event("b", kind="comment", text="stop Trump"),
              event("c", platform="email", kind="unsubscribe", count=70)]  # fmt: skip
    told = client.post("/reactions", json={"events": nobody}).json()
    # a comment of the public and a sum of a platform name nobody to leave alone
    assert (told["accepted"], told["to_review"]) == (3, 1)
    (wish,) = client.get("/reactions/review").json()["wishes"]
    assert (wish["event_id"], wish["text"]) == ("a", "STOP")


def test_a_kind_that_no_table_names_is_told(client, intake):
    kinds = {"events": [event("a", kind="poke"), event("b", kind="Anger")]}
    assert client.post("/reactions", json=kinds).json()["unknown_kinds"] == {"poke": 1}
    intake.declared = replace(intake.declared, kinds={"Poke": "bad"})
    told = client.post("/reactions", json=event("c", kind="poke")).json()
    assert told["unknown_kinds"] == {}
