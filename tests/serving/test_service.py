"""The endpoint: over HTTP on a real process; in process where a plan is altered."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from mlflow.deployments import PredictionsResponse
from mlflow.utils.proto_json_utils import dump_input_data

from hustings.features.atomic import write_json
from hustings.features.ingest import TableSource
from hustings.features.persons.keys import KeysError, Never
from hustings.features.training_set import household
from hustings.serving.bodies import RecommendRequest, RequestError
from hustings.serving.contact_lists import NeverContacted
from hustings.serving.endpoint import Endpoint
from hustings.serving.plan import held_out
from hustings.serving.recommend import AudiencePrices, CampaignLimits
from hustings.serving.service import (
    routes,
    serve_bundle,
)
from hustings.serving.voter_rows import VoterReader
from hustings.training.registry.campaign_model import CampaignModel
from hustings.training.registry.pyfunc import CampaignPyfunc
from tests.serving.conftest import OF_VOTERS
from tests.sockets import are_private, listening_of

ROOT = Path(__file__).parents[2]
FIGURES = ["lift", "lift_low", "lift_high", "response", "baseline"]
KEY = "a-key-of-the-tests-of-22-letters"
CONSENTED = ["sms", "phone"]
AT = pd.Timestamp("2026-09-08 12:00")


def settings_of(served):
    return served.plan["audiences"]["all"]["settings"]


def told_scores(answer: dict[str, Any]) -> dict[tuple[str, str], list[float]]:
    return {
        (voter["voter_id"], score["message_id"]): [score[name] for name in FIGURES]
        for voter in answer["voters"]
        for score in voter["scores"]
    }


def offline_scores(model: CampaignModel, voters: pd.DataFrame) -> dict[Any, Any]:
    scores = model.score(voters)
    keys = zip(scores["voter_id"], scores["message_id"], strict=True)
    return dict(zip(keys, scores[FIGURES].to_numpy().tolist(), strict=True))


# --- scores ---------------------------------------------------------------------------


def test_scores_over_http_are_those_offline_to_the_last_bit(served, server):
    answer = server.post("/score", {"voters": served.rows[:400]})
    assert answer.status_code == 200, answer.text
    expected = offline_scores(
        CampaignModel.load(served.folder / "model"), served.voters
    )
    told = told_scores(answer.json())
    assert told == {key: expected[key] for key in told}
    assert len(told) == 400 * len(served.model.messages)
    # so many different lifts that another voter's would be noticed
    assert len({figures[0] for figures in told.values()}) > 400


def test_a_voter_alone_scores_as_in_company(served, server):
    together = told_scores(
        server.post("/score", {"voters": served.rows[400:450]}).json()
    )
    for row in served.rows[400:405]:
        alone = told_scores(server.post("/score", {"voters": [row]}).json())
        assert alone == {key: together[key] for key in alone}


def test_voters_come_back_in_their_order_with_the_messages_asked_for(served, server):
    rows, message = served.rows[9::-1], served.model.messages[1]
    answer = server.post("/score", {"voters": rows, "messages": [message]}).json()
    assert [v["voter_id"] for v in answer["voters"]] == [r["voter_id"] for r in rows]
    asked = [[s["message_id"] for s in v["scores"]] for v in answer["voters"]]
    assert asked == [[message]] * 10
    assert answer["model"] == {"name": "hustings-sample", "version": "7"}


def test_columns_that_no_row_has_count_as_unknown_and_are_told(served, server):
    known = {name: served.rows[0][name] for name in ("voter_id", "age", "sex")}
    unknown = {**dict.fromkeys(served.rows[0]), **known}
    told, explicit = (
        server.post("/score", {"voters": [row]}).json() for row in (known, unknown)
    )
    assert told["voters"] == explicit["voters"]
    assert "income_usd" in told["missing_columns"]
    assert "age" not in told["missing_columns"]
    assert explicit["missing_columns"] == []


def split_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}


def columns_of(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("dataframe_split", split_of), ("dataframe_records", list),
        ("inputs", list), ("inputs", columns_of), ("instances", list),
    ],
)  # fmt: skip
def test_mlflows_protocol_gives_the_scores_of_the_other_route(
    served, server, name, form
):
    rows = served.rows[:60]
    answer = server.post("/invocations", {name: form(rows)})
    assert answer.status_code == 200, answer.text
    wide = pd.DataFrame(answer.json()["predictions"])
    told = told_scores(server.post("/score", {"voters": rows}).json())
    given = {
        (voter, message): [wide.loc[i, f"{figure}__{message}"] for figure in FIGURES]
        for i, voter in enumerate(wide["voter_id"])
        for message in served.model.messages
    }
    assert given == told
    signature = CampaignPyfunc()
    signature.model = CampaignModel.load(served.folder / "model")
    predicted = signature.predict(None, pd.DataFrame(rows))
    assert list(wide) == list(predicted)
    assert wide.to_numpy().tolist() == predicted.to_numpy().tolist()


def test_a_client_of_mlflow_reads_the_answer(served, server):
    frame = pd.DataFrame(served.rows[:5])
    body = dump_input_data(frame)
    with server.client() as client:
        assert client.get("/ping", headers={"Authorization": ""}).status_code == 200
        answer = client.post("/invocations", content=body)
    predictions = PredictionsResponse.from_json(answer.text).get_predictions()
    assert predictions["voter_id"].tolist() == frame["voter_id"].tolist()
    assert answer.json()["unknown_columns"] == []


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        ({}, "", "exactly one of"),
        ({"inputs": [{}], "instances": [{}]}, "", "got inputs, instances"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}},
         "dataframe_split.columns", "each column once"),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [1]]}},
         "dataframe_split.data[1]", "expected 2 values, one for each column, got 1"),
        ({"inputs": {"voter_id": ["a"], "age": [1, 2]}}, "inputs", "one length"),
        ({"instances": [{"voter_id": "a", "age": "x"}]}, "instances[0].age", "number"),
        ({"dataframe_split": {"columns": ["voter_id", "age"], "data": [["a", "x"]]}},
         "dataframe_split.data[0].age", "expected a number"),
        ({"inputs": {"voter_id": ["a", "b"], "age": [61, "x"]}}, "inputs.age[1]",
         "expected a number"),
        ({"instances": [{"voter_id": "a"}], "params": {"x": 1}}, "params", "at most 0"),
        ({"instances": None}, "instances", "valid array"),
        ({"inputs": [3]}, "inputs[0]", "an object"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_voters_is_refused_with_its_path(
    server, body, path, expected
):
    answer = server.post("/invocations", body)
    assert answer.status_code == 422
    fault = answer.json()["faults"][0]
    assert fault["path"] == path
    assert expected in fault["message"]


# --- what is refused ------------------------------------------------------------------


def altered(served, **changes: Any) -> list[dict[str, Any]]:
    return [served.rows[0], {**served.rows[1], **changes}]


@pytest.mark.parametrize(
    ("changes", "path", "expected"),
    [
        ({"age": "x"}, "voters[1].age", "expected a number, got 'x'"),
        ({"age": 400}, "voters[1].age", "expected an age of at most 115"),
        ({"sex": "Q"}, "voters[1].sex", "expected one of F, M, U, got 'Q'"),
        ({"income_usd": [1]}, "voters[1].income_usd", "expected a text, a number"),
        ({"registered_on": "soon"}, "voters[1].registered_on", "expected a date"),
        (
            {"voted_20221108_general": 7},
            "voters[1].voted_20221108_general",
            "1 (voted)",
        ),
        ({"voter_id": None}, "voters[1].voter_id", "expected a value, got none"),
        ({"county_fips": "12"}, "voters[1].county_fips", "expected five digits"),
    ],
)
def test_a_bad_value_is_refused_with_its_path(served, server, changes, path, expected):
    for address in ("/score", "/recommend"):
        answer = server.post(address, {"voters": altered(served, **changes)})
        assert answer.status_code == 422
        faults = {fault["path"]: fault["message"] for fault in answer.json()["faults"]}
        assert list(faults) == [path]
        assert expected in faults[path]


def test_a_voter_without_an_id_is_refused(served, server):
    row = {k: v for k, v in served.rows[0].items() if k != "voter_id"}
    answer = server.post("/score", {"voters": [row]})
    assert (answer.status_code, answer.json()["faults"][0]["path"]) == (
        422,
        "voters[0].voter_id",
    )


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        (b"{", 400, ""),
        (b'{"voters": [{"voter_id": "\\ud800"}]}', 400, ""),
        (b"[]", 422, ""),
        (b"{}", 422, "voters"),
        (b'{"voters": []}', 422, "voters"),
        (b'{"voters": "all"}', 422, "voters"),
        (b'{"voters": [3]}', 422, "voters[0]"),
        (b'{"voters": [{"voter_id": "a"}], "message": "m"}', 422, "message"),
        (b'{"voters": [{"voter_id": "a"}], "messages": []}', 422, "messages"),
        (b'{"voters": [{"voter_id": "a"}], "messages": ["m"]}', 422, "messages[0]"),
        (
            b'{"voters": [{"voter_id": "a"}, {"voter_id": "a"}]}',
            422,
            "voters[0].voter_id",
        ),
        (b'{"voters": [' + b",".join([b"{}"] * 10_001) + b"]}", 422, "voters"),
        (b" " * (32 * 2**20 + 1), 413, ""),
    ],
)
def test_a_bad_body_is_refused_with_the_path_of_its_fault(server, body, status, path):
    with server.client() as client:
        answer = client.post("/score", content=body)
    assert answer.status_code == status
    assert answer.json()["faults"][0]["path"] == path
    assert "Traceback" not in answer.text


def test_what_identifies_is_never_repeated_in_an_error_or_a_log(served, server):
    secret = "only-hers-73"
    bad = [
        {**served.rows[0], "birth_year": secret, "voter_id": secret},
        {**served.rows[1], "voter_id": secret, "postcode": secret, "age": "x"},
    ]
    by_voter = {secret: ["pigeon"]}
    answers = [
        server.post("/score", {"voters": bad}),
        server.post("/recommend", {"voters": bad}),
        server.post("/recommend", {"voters": bad[:1], "permitted_channels": by_voter}),
    ]
    assert [a.status_code for a in answers] == [422, 422, 422]
    assert "birth_year" in answers[0].text
    assert secret not in "".join(a.text for a in answers)
    server.post("/score", {"voters": [{**served.rows[0], "voter_id": secret}]})
    log = server.log.read_text()
    assert "path=/score" in log
    assert secret not in log


@pytest.mark.parametrize("value", [61, 61.0, "61", "61.0", " 61 "])
@pytest.mark.parametrize("beside", [None, 30, 30.5, "30", True, 2**60])
def test_a_value_reads_the_same_whatever_stands_beside_it(served, value, beside):
    reader = VoterReader.of(served.model.reader.mapping)
    row = {**served.rows[0], "income_usd": value, "precinct": value}
    other = {**served.rows[1], "income_usd": beside, "precinct": beside}
    alone, together = (
        read.voters.frame(list(read.voters.columns))
        for read in (reader.read([row]), reader.read([row, other]))
    )
    pd.testing.assert_frame_equal(alone, together.iloc[:1])
    assert alone["income_usd"].tolist() == [61.0]


def test_faults_are_told_in_the_campaigns_own_columns():
    mapping = TableSource.model_validate(
        {
            "path": "file.csv",
            "source": "s",
            "licence": "l",
            "permitted_use": "u",
            "where": {"column": "WAVE", "equals": 1},
            "columns": {
                "voter_id": {"row_number": "V"},
                "sex": {"column": "GENDER_F", "map": {"1": "F", "0": "M"}},
                "county_fips": {"column": "CTY", "digits": 5},
                "state": {"value": "MI"},
            },
            "history": {"2004-11-02 general": "VG_04"},
            "extra": {"income": "MED_HH_INC"},
            "types": {"income": "number"},
        }
    )
    reader = VoterReader.of(mapping)
    good = {"voter_id": 8, "GENDER_F": 1, "CTY": 26, "VG_04": 1, "MED_HH_INC": "51"}
    voters, missing, unknown = reader.read([good | {"COLOUR": "red"}])
    assert (missing, unknown) == ([], ["COLOUR"])
    assert [values.tolist() for values in voters.columns.values()] == [
        ["8"],
        ["F"],
        ["00026"],
        ["MI"],
        [1.0],
        [51.0],
    ]
    bad = {**good, "GENDER_F": 2, "VG_04": 3, "MED_HH_INC": "much"}
    with pytest.raises(RequestError) as told:
        reader.read([good | {"voter_id": 9}, bad])
    assert {f.path for f in told.value.faults} == {
        "voters[1].GENDER_F",
        "voters[1].VG_04",
        "voters[1].MED_HH_INC",
    }


# --- recommendations ------------------------------------------------------------------


def by_voter(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {voter["voter_id"]: voter for voter in answer["voters"]}


def one_of_each_household(served) -> list[int]:
    first = ~household(served.voters).duplicated()
    return [int(i) for i in np.flatnonzero(first)[:300]]


def asked(served, at: list[int], channels: list[str] | None = None) -> dict[str, Any]:
    rows = [served.rows[i] for i in at]
    given = CONSENTED if channels is None else channels
    permitted = {row["voter_id"]: given for row in rows}
    return {"voters": rows, "permitted_channels": permitted}


def holdout(served, plan: dict[str, Any] | None = None) -> np.ndarray:
    plan = plan or served.plan
    unit = household(served.voters).to_numpy(dtype=object)
    return held_out(unit, salt=plan["salt"], share=plan["holdout_share"])


def endpoint(served, **changes: Any) -> Endpoint:
    """The endpoint under an altered plan; `terms` alters its only audience."""
    plan = json.loads(json.dumps(served.plan))
    terms = changes.pop("terms", {})
    plan["audiences"]["all"].update(terms)
    plan.update(changes)
    return replace(
        Endpoint.load(served.folder),
        plan=plan,
        audiences={n: AudiencePrices.of(a) for n, a in plan["audiences"].items()},
        limits=CampaignLimits.of(plan["limits"]),
    )


def advice(where: Endpoint, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = where.recommend(RecommendRequest(**body), at=AT)
    found: list[dict[str, Any]] = answer["voters"]
    return found


def codes(told: list[dict[str, Any]]) -> set[str | None]:
    return {v["reason"]["code"] if v["reason"] else None for v in told}


def test_a_voter_gets_the_option_worth_most_after_its_price(served, server):
    at = one_of_each_household(served)
    answer = server.post("/recommend", asked(served, at))
    assert answer.status_code == 200, answer.text
    told, held = by_voter(answer.json()), holdout(served)
    terms = served.plan["audiences"]["all"]
    ((name, model),) = served.model.lifts.items()
    lift = model.nuisances.option_values(
        served.model.predict(served.voters)[name].lift, served.model.arms[name]
    )
    n_sent = 0
    for i in at:
        if held[i]:
            continue
        left = [lift[i, a] - arm["price"] for a, arm in enumerate(terms["arms"])]
        best = int(np.argmax(left))
        found = told[served.rows[i]["voter_id"]]["recommendation"]
        if left[best] <= 0:
            assert found is None
        else:
            arm = terms["arms"][best]
            assert (found["message_id"], found["channel"]) == (
                arm["message_id"],
                arm["channel"],
            )
            assert found["lift"] == lift[i, best]
            n_sent += 1
    # both answers occur, or the rule was not tried
    assert 0 < n_sent < len(at) - held[at].sum()


def test_nobody_in_the_holdout_is_ever_recommended_anything(served, server):
    held = np.flatnonzero(holdout(served))
    at = [int(i) for i in held[:300]]
    elsewhere = endpoint(served, holdout_share=1e-9)
    would_get = [v for v in advice(elsewhere, asked(served, at)) if v["recommendation"]]
    # they would be sent something if they were not held out
    assert len(would_get) > 50
    told = server.post("/recommend", asked(served, at)).json()["voters"]
    assert len(told) == len(at)
    assert codes(told) == {"holdout"}
    assert all(v["recommendation"] is None for v in told)


def test_who_was_held_out_before_a_move_is_recommended_nothing_after_it(
    served, tmp_path
):
    """Also from one request to the next: `forget` adds to the file of a bundle."""
    at = [int(i) for i in np.flatnonzero(~holdout(served))[:300]]
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(served.plan))
    where = replace(endpoint(served), never=NeverContacted(file, OF_VOTERS.key))
    would_get = [v for v in advice(where, asked(served, at)) if v["recommendation"]]
    assert len(would_get) > 50
    moved = [v["voter_id"] for v in would_get[:40]]
    held_out = {**served.plan, "never": Never.of(b"k", moved).to_json()}
    write_json(file, held_out)
    told = advice(where, asked(served, at))
    refused = {v["voter_id"] for v in told if v["reason"] and codes([v]) == {"holdout"}}
    assert refused == set(moved)


def test_the_holdout_is_the_plans_own_by_household_or_by_voter(served):
    at = list(range(600))
    rows = [served.rows[i] for i in at]
    for unit, ids in (
        (True, household(served.voters)),
        (False, served.voters["voter_id"]),
    ):
        settings = settings_of(served) | {"by_household": unit}
        where = endpoint(served, terms={"settings": settings})
        told = advice(where, {"voters": rows})
        found = [bool(v["reason"]) and v["reason"]["code"] == "holdout" for v in told]
        expected = held_out(
            ids.to_numpy(dtype=object)[at],
            salt=served.plan["salt"],
            share=served.plan["holdout_share"],
        )
        assert found == expected.tolist()


def test_leaving_out_the_household_is_no_way_round_the_holdout(served, server):
    row = {k: v for k, v in served.rows[0].items() if k != "household_id"}
    answer = server.post("/recommend", {"voters": [row]})
    assert answer.status_code == 422
    assert answer.json()["faults"][0]["path"] == "voters[0].household_id"


def test_a_research_replay_hands_out_no_contact(served):
    body = asked(served, one_of_each_household(served))
    assert any(v["recommendation"] for v in advice(endpoint(served), body))
    told = advice(endpoint(served, rule_set="research_replay"), body)
    assert [v["recommendation"] for v in told] == [None] * len(told)
    assert {v["reason"]["text"] for v in told} == {"research replay never exports"}


def test_without_a_permission_told_nobody_is_texted_called_or_emailed(served):
    at = one_of_each_household(served)
    dear_mail = [
        arm | {"price": 1e6} if arm["channel"] == "mail" else arm
        for arm in served.plan["audiences"]["all"]["arms"]
    ]
    where = endpoint(served, terms={"arms": dear_mail}, holdout_share=1e-9)
    silent = advice(where, {"voters": asked(served, at)["voters"]})
    assert all(v["recommendation"] is None for v in silent)
    assert "no_permission" in codes(silent)
    text = next(
        v["reason"]["text"] for v in silent if v["reason"]["code"] == "no_permission"
    )
    assert "no permission on record" in text
    sent = [v["recommendation"] for v in advice(where, asked(served, at, ["sms"]))]
    assert {found["channel"] for found in sent if found} == {"sms"}


def test_a_refused_channel_stays_closed_whatever_else_is_permitted(served):
    at = one_of_each_household(served)
    body = asked(served, at)
    everything = ["mail", "sms", "phone"]
    body["withdrawn_channels"] = {row["voter_id"]: everything for row in body["voters"]}
    told = advice(endpoint(served, holdout_share=1e-9), body)
    assert all(v["recommendation"] is None for v in told)
    assert any("permission withdrawn" in v["reason"]["text"] for v in told)


def test_each_hurdle_gives_its_own_reason(served):
    body, arms = asked(served, one_of_each_household(served)), served.plan["audiences"]
    arms = arms["all"]["arms"]

    def under(**terms: Any) -> list[dict[str, Any]]:
        return advice(endpoint(served, terms=terms, holdout_share=1e-9), body)

    free = [arm | {"price": 0.0} for arm in arms]
    rules = json.loads(json.dumps(served.plan["rules"]))
    for message in rules["messages"]:
        message["discloses"] = "others"
    told = advice(
        endpoint(served, terms={"arms": free}, rules=rules, holdout_share=1e-9), body
    )
    assert codes(told) <= {"barred", "no_lift"}
    reasons = {v["reason"]["code"]: v["reason"]["text"] for v in told}
    assert "discloses the record of others" in reasons["barred"]
    assert codes(under(arms=[arm | {"price": 1e6} for arm in arms])) <= {
        "not_worth_cost",
        "no_lift",
    }
    # what lifts nothing is worth nothing, at any price
    assert codes(
        under(
            arms=free, settings=settings_of(served) | {"worth": {"spring_test": -1.0}}
        )
    ) <= {"no_lift", None}
    assert codes(
        under(arms=free, settings=settings_of(served) | {"worth": {"spring_test": 0.0}})
    ) == {"no_lift"}


def test_a_voter_of_a_guarded_group_is_offered_no_message_that_harms_it(served):
    body = asked(served, one_of_each_household(served))
    messages = {arm["message_id"] for arm in served.plan["audiences"]["all"]["arms"]}
    closed = [
        {"message_id": m, "where": {"age": "65 and over"}, "guardrail": "complaints",
         "reason": "raises complaints among voters of age 65 and over"}
        for m in messages
    ]  # fmt: skip
    settings = settings_of(served) | {"segment": ["age"]}
    free = [arm | {"price": 0.0} for arm in served.plan["audiences"]["all"]["arms"]]

    def offered_to(**changed: Any) -> dict[str, str | None]:
        terms = {"arms": free, "settings": settings | changed}
        told = advice(endpoint(served, terms=terms, holdout_share=1e-9), body)
        return {
            v["voter_id"]: None if v["recommendation"] else v["reason"]["code"]
            for v in told
        }

    before, after = offered_to(), offered_to(closed=closed)
    age = {row["voter_id"]: row["age"] for row in body["voters"]}
    old = {voter for voter in before if age[voter] is not None and age[voter] >= 65}
    spared = {v for v in before if before[v] is None and after[v] == "guardrail"}
    assert spared == {v for v in old if before[v] is None}
    assert len(spared) > 5
    assert {v: code for v, code in before.items() if v not in old} == {
        v: code for v, code in after.items() if v not in old
    }


def test_an_experiments_worth_multiplies_its_lifts(served):
    body = asked(served, one_of_each_household(served))
    plain, dear = (
        advice(
            endpoint(
                served,
                terms={"settings": settings_of(served) | {"worth": worth}},
                holdout_share=1e-9,
            ),
            body,
        )
        for worth in ({}, {"spring_test": 3.0})
    )
    sent = [
        sum(v["recommendation"] is not None for v in told) for told in (plain, dear)
    ]
    assert sent[0] < sent[1]
    found = next(v["recommendation"] for v in dear if v["recommendation"])
    assert found["value"] == 3.0 * found["lift"]


def test_an_option_worth_just_its_price_is_told_to_be_at_the_margin(served):
    body = {"voters": asked(served, one_of_each_household(served))["voters"]}
    told = advice(endpoint(served, holdout_share=1e-9), body)
    at, best = next(
        (i, v["recommendation"]) for i, v in enumerate(told) if v["recommendation"]
    )
    assert (best["channel"], best["at_margin"]) == ("mail", False)

    def priced_at(share: float) -> dict[str, Any]:
        arms = [
            arm | {"price": best["value"] * share if is_best else 1e6}
            for arm in served.plan["audiences"]["all"]["arms"]
            for is_best in [
                (arm["message_id"], arm["channel"])
                == (best["message_id"], best["channel"])
            ]
        ]
        where = endpoint(served, holdout_share=1e-9, terms={"arms": arms})
        (found,) = advice(where, {"voters": [body["voters"][at]]})
        return found

    assert priced_at(1.0)["recommendation"]["at_margin"]
    assert priced_at(1 + 1e-9)["recommendation"]["at_margin"]
    assert not priced_at(0.9)["recommendation"]["at_margin"]
    assert priced_at(1.1)["reason"]["code"] == "not_worth_cost"


def test_a_household_that_comes_together_gets_one_message(served):
    shared = household(served.voters).duplicated(keep=False).to_numpy()
    at = [int(i) for i in np.flatnonzero(shared)]
    told = advice(endpoint(served), asked(served, at))
    homes = household(served.voters).to_numpy()[at]
    options: dict[str, set[Any]] = {}
    for home, voter in zip(homes, told, strict=True):
        found = voter["recommendation"]
        option = found and (found["message_id"], found["channel"])
        options.setdefault(home, set()).add(option)
    assert all(len(found) == 1 for found in options.values())
    assert {None} != set.union(*options.values())


def test_one_of_several_plans_has_to_be_named(served):
    everyone = served.plan["audiences"]["all"]
    where = endpoint(served, audiences=dict.fromkeys(("north", "south"), everyone))
    body = {"voters": served.rows[:1]}
    for wrong in ({}, {"audience": "west"}):
        with pytest.raises(RequestError) as told:
            advice(where, body | wrong)
        assert told.value.faults[0].path == "audience"
        assert "north, south" in told.value.faults[0].message
    assert len(advice(where, body | {"audience": "south"})) == 1


def test_a_plan_that_offers_what_the_model_does_not_know_is_refused(served, tmp_path):
    for name in ("model", "version.json", "contact_lists.parquet"):
        (tmp_path / name).symlink_to(served.folder / name)
    plan = json.loads(json.dumps(served.plan))
    plan["audiences"]["all"]["arms"].pop()
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(ValueError, match=r"plan\.json.*'all'"):
        Endpoint.load(tmp_path)


def test_a_bundle_holds_digests_of_voters_and_never_their_key(served, monkeypatch):
    files = [path for path in served.folder.rglob("*") if path.is_file()]
    key = OF_VOTERS.key
    assert not [p for p in files if key in p.read_bytes()]
    assert not [p for p in files if key.hex().encode() in p.read_bytes()]
    for value in ("", "no key", "00" * 32):
        monkeypatch.setenv("HUSTINGS_VOTER_KEY", value)
        with pytest.raises(KeysError, match="hustings keys voters"):
            Endpoint.load(served.folder)


# --- which version, health, metrics, key ----------------------------------------------


def test_the_endpoint_tells_the_exact_version_it_serves(server, served):
    told = server.get("/model").json()
    assert {name: told[name] for name in ("name", "version", "alias", "verdict")} == {
        "name": "hustings-sample",
        "version": "7",
        "alias": "champion",
        "verdict": "personalise",
    }
    assert told["data_hash"] == "d" * 64
    assert told["trained_at"] == "2026-09-01T00:00:00Z"
    assert told["messages"] == served.model.messages
    assert set(told["voter_columns"]) == set(served.rows[0])


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "*/*"},
        {"Authorization": "Bearer another-key"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic a-key-of-the-tests-of-22-letters"},
        {"Authorization": "Bearer a-key-of-the-tests-of-22-letter"},
        {"X-API-Key": "another-key"},
        {"X-API-Key": ""},
    ],
)
def test_only_health_and_the_empty_page_answer_without_the_key(server, headers):
    kept = (
        "/model",
        "/metrics",
        "/docs.json",
        "/schema.json",
        "/nope",
        "/monitor",
    )
    with server.client(**headers) as client:
        for path in (*kept, "/monitor/stream"):
            assert client.get(path).status_code == 401, path
        for path in (
            "/score",
            "/recommend",
            "/sent",
            "/pause",
            "/resume",
            "/reactions",
        ):
            assert client.post(path, json={"voters": []}).status_code == 401, path
        for path in ("/healthz", "/livez", "/readyz"):
            assert client.get(path).status_code == 200, path


def test_the_key_is_taken_from_either_header(server):
    key = KEY
    for headers in ({"Authorization": f"bearer {key}"}, {"X-API-Key": key}):
        with server.client(**headers) as client:
            assert client.get("/model").status_code == 200


def test_requests_are_counted_in_the_metrics(served, server):
    def count() -> float:
        lines = server.get("/metrics").text.splitlines()
        counted = [
            line
            for line in lines
            if line.startswith('hustings_requests_total{route="/score",status="200"}')
        ]
        return sum(float(line.rsplit(" ", 1)[1]) for line in counted)

    before = count()
    server.post("/score", {"voters": served.rows[:1]})
    assert count() == before + 1


def test_other_requests_are_answered_while_one_is_scored(monkeypatch):
    """A score that ends only once another request was answered."""
    answered = threading.Event()

    class Slow:
        def score(self, _request: object) -> dict[str, bool]:
            return {"other_was_answered": answered.wait(timeout=10)}

        def describe(self) -> dict[str, str]:
            return {}

    monkeypatch.setattr(routes.state, "endpoint", Slow(), raising=False)

    async def both() -> httpx.Response:
        transport = httpx.ASGITransport(app=routes)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as to:
            slow = asyncio.create_task(to.post("/score", json={"voters": [{}]}))
            await asyncio.sleep(0.1)
            await to.get("/model")
            answered.set()
            return await slow

    assert asyncio.run(both()).json() == {"other_was_answered": True}


def start(bundle: Path, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "bentoml", "serve", "hustings.serving.service:Hustings",
        "--working-dir", str(ROOT), "--port", "0",
    ]  # fmt: skip
    there = {
        **os.environ, "BENTOML_HOME": str(home), "HUSTINGS_BUNDLE": str(bundle), **env,
    }  # fmt: skip
    return subprocess.run(
        command, env=there, capture_output=True, text=True, check=False, timeout=60
    )


def test_no_server_starts_without_a_key(served, tmp_path, monkeypatch):
    monkeypatch.delenv("HUSTINGS_API_KEY", raising=False)
    done = start(served.folder, tmp_path, HUSTINGS_API_KEY=" ")
    assert done.returncode != 0
    assert "HUSTINGS_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(ValueError, match="HUSTINGS_API_KEY"):
        serve_bundle(served.folder)


def test_no_server_starts_without_a_bundle(tmp_path, monkeypatch):
    done = start(tmp_path / "none", tmp_path, HUSTINGS_API_KEY=KEY)
    assert done.returncode != 0
    assert "expected a serving bundle" in done.stderr
    monkeypatch.setenv("HUSTINGS_API_KEY", KEY)
    with pytest.raises(FileNotFoundError, match="hustings run"):
        serve_bundle(tmp_path / "none")


def test_a_server_listens_to_its_port_of_loopback_and_to_nothing_of_others(server):
    """Not to ports that control it: who connects there would run commands as it."""
    there = listening_of(server.url)
    port = int(server.url.rpartition(":")[2])
    assert (there.tcp, there.udp) == ({("127.0.0.1", port)}, set())
    # the control sockets of its worker
    assert {file.name for file in there.files} == {"control", "events"}
    assert are_private(there.files)


def test_it_is_loopback_that_is_bound_unless_told_otherwise(
    served, monkeypatch
) -> None:
    monkeypatch.setenv("HUSTINGS_API_KEY", KEY)
    lines: list[list[str]] = []

    def become(_path: str, command: list[str], _env: dict[str, str]) -> None:
        lines.append(command)

    monkeypatch.setattr(os, "execve", become)
    call: Callable[..., object] = serve_bundle
    call(served.folder)
    call(served.folder, host="localhost")
    call(served.folder, host="0.0.0.0", port=80)
    told = [(c[c.index("--host") + 1], c[c.index("--port") + 1]) for c in lines]
    assert told == [("127.0.0.1", "3000"), ("127.0.0.1", "3000"), ("0.0.0.0", "80")]


# --- pauses and the page --------------------------------------------------------------


def test_the_page_is_served_at_the_root_without_a_key_and_the_monitor_only_with_it(
    server,
):
    with server.client(**{"X-API-Key": "wrong"}) as client:
        page, monitor = client.get("/"), client.get("/monitor")
    assert (page.status_code, monitor.status_code) == (200, 401)
    assert '<table id="messages">' in page.text
    told = server.get("/monitor").json()
    assert (told["campaign"], told["alarms"]) == ("sample", [])


def test_a_paused_message_is_refused_over_http_at_once_and_offered_again_after(
    served, server
):
    rows = served.rows[:200]
    body = {
        "voters": rows,
        "permitted_channels": {row["voter_id"]: CONSENTED for row in rows},
    }

    def offered() -> set[str]:
        told = server.post("/recommend", body).json()["voters"]
        found = [voter["recommendation"] for voter in told]
        return {offer["message_id"] for offer in found if offer}

    message = sorted(offered())[0]
    asked = {"message_id": message, "by": "Ada", "reason": "angry replies"}
    assert server.post("/pause", asked).json()["paused"]
    try:
        assert message not in offered()
        listed = server.get("/monitor").json()["paused_unheard"]
        assert [told["message_id"] for told in listed] == [message]
    finally:
        assert server.post("/resume", asked).json()["resumed"]
    assert message in offered()
