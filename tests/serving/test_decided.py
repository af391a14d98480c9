"""What a campaign's folder says at the next request, however little of it changed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.features.atomic import whole_folder, write_json, write_parquet
from hustings.serving.decided import BINDING, DecidedVoters

LATER = pd.Timestamp("2100-01-01")
"""Long after any file was written: nothing is looked at again that did not change."""
EARLIER = pd.Timestamp("2000-01-01")
"""Before: every request looks at all."""
ROWS = pd.DataFrame(
    {
        "voter_id": ["v2", "v1", "v3", "v9"],
        "experiment_id": "mail",
        "block": ["b", "b", "b", "undecided"],
        "role": ["plan", "explore", "holdout", "plan"],
        "message_id": ["m1", "control", "control", "m1"],
        "channel": ["sms", "none", "none", "sms"],
        "propensity": [0.75, 0.125, 0.2, 1.0],
        "arm_propensity": [0.8, 0.1, 0.2, 1.0],
        "predicted_lift": [0.01, -0.02, np.nan, 0.0],
        "model_version": "h/7",
    }
)


def plan_of(home: Path, name: str, day: str, **terms: Any) -> dict[str, Any]:
    """Write a plan's folder, and give its line of `binding.json`."""
    with whole_folder(home / "plans" / name) as folder:
        write_parquet(folder / "assignments.parquet", ROWS)
        sent = pd.DataFrame({"voter_id": ["v2"], "send_on": [pd.Timestamp(day)]})
        write_parquet(folder / "plan.parquet", sent)
        write_parquet(folder / "list.parquet", sent[["voter_id"]])
    return {
        "plan_id": name, "sent": [], "day": day, "window_days": None,
        "only_sent": False, **terms,
    }  # fmt: skip


def bind(home: Path, *plans: dict[str, Any]) -> None:
    write_json(home / BINDING, {"plans": plans, "committed": []})


def closed(home: Path, plan: str, file: str, *voters: str) -> None:
    """Results that say that voters are reached by SMS no more."""
    with whole_folder(home / "results" / plan / file) as folder:
        since = [pd.Timestamp("2026-11-05")] * len(voters)
        write_parquet(
            folder / "withdrawn.parquet",
            pd.DataFrame({"voter_id": voters, "channel": "sms", "since": since}),
        )


def test_decisions_are_those_of_the_plans_that_bind_in_the_order_of_days(tmp_path):
    first = plan_of(tmp_path, "one", "2026-11-01", window_days=7)
    second = plan_of(
        tmp_path, "two", "2026-11-03", sent=["list.parquet"], only_sent=True
    )
    plan_of(tmp_path, "a draft", "2026-11-02")
    bind(tmp_path, second, first)
    record = DecidedVoters(tmp_path).present(LATER)
    past = record.of(["v1", "v2", "v3", "v9", "v0"])
    assert {v: [d.plan_id for d in ds] for v, ds in past.items()} == {
        "v1": ["one"], "v2": ["one", "two"], "v3": ["one"],
    }  # fmt: skip
    one, two = past["v2"]
    assert one._asdict() == {
        "plan_id": "one", "experiment_id": "mail", "role": "plan", "message_id": "m1",
        "channel": "sms", "propensity": 0.75, "arm_propensity": 0.8,
        "predicted_lift": 0.01, "model_version": "h/7",
        "decided_on": pd.Timestamp("2026-11-01"), "handed_over": False,
        "window_days": 7,
    }  # fmt: skip
    assert (two.decided_on, two.handed_over) == (pd.Timestamp("2026-11-03"), True)
    assert two.window_days is None
    assert np.isnan(past["v3"][0].predicted_lift)


def test_a_refusal_goes_with_the_person_under_every_id(tmp_path: Path) -> None:
    names = {
        "voter_id": ["old", "new", "other"], "former_id": [None, "old", None],
        "person": ["p1", "p1", "p2"],
    }  # fmt: skip
    write_parquet(tmp_path / "identity.parquet", pd.DataFrame(names))
    bind(tmp_path)
    closed(tmp_path, "one", "a", "old")
    record = DecidedVoters(tmp_path).present(LATER)
    assert record.closed(["old", "new", "other"], LATER) == {"sms": {"old", "new"}}


def test_persons_who_were_merged_into_one_id_are_one_with_all_that_was_decided(
    tmp_path: Path,
) -> None:
    # v7 was on file when v1 and v2 became the same person
    names = {
        "voter_id": ["v1", "v2", "v7", "v7", "v7"], "person": ["p", "q", "r", "p", "q"],
        "former_id": [None, None, None, "v1", "v2"],
    }  # fmt: skip
    write_parquet(tmp_path / "identity.parquet", pd.DataFrame(names))
    bind(tmp_path, plan_of(tmp_path, "one", "2026-11-01"))
    closed(tmp_path, "one", "a", "v2")
    record = DecidedVoters(tmp_path).present(LATER)
    for voter in ("v1", "v2", "v7"):
        assert {d.role for d in record.of([voter])[voter]} == {"explore", "plan"}
    assert record.closed(["v7"], LATER) == {"sms": {"v7"}}
    assert set(record.also_known_as(["v7"])) == {"v1", "v2"}


@pytest.mark.parametrize("at", [EARLIER, LATER])
def test_whatever_changes_is_known_to_the_next_request(tmp_path, at, monkeypatch):
    one = plan_of(tmp_path, "one", "2026-11-01")
    decided = DecidedVoters(tmp_path)
    assert decided.present(at).of(["v2"]) == {}
    bind(tmp_path, one)
    assert [*decided.present(at).of(["v2"])] == ["v2"]
    bind(tmp_path, one, plan_of(tmp_path, "two", "2026-11-02"))
    assert len(decided.present(at).of(["v2"])["v2"]) == 2

    def not_reached() -> list[str]:
        return sorted(decided.present(at).closed(["v1", "v2", "v3"], LATER)["sms"])

    closed(tmp_path, "one", "a", "v2")
    assert not_reached() == ["v2"]
    closed(tmp_path, "one", "b", "v3")
    assert not_reached() == ["v2", "v3"]
    closed(tmp_path, "two", "a", "v1")
    assert not_reached() == ["v1", "v2", "v3"]
    # as `hustings forget` does
    path = tmp_path / "results" / "one" / "a" / "withdrawn.parquet"
    write_parquet(path, pd.read_parquet(path).iloc[:0])
    assert not_reached() == ["v1", "v3"]
    forgotten = tmp_path / "plans" / "one" / "assignments.parquet"
    write_parquet(forgotten, ROWS[ROWS["voter_id"] != "v2"])
    assert len(decided.present(at).of(["v2"])["v2"]) == 1
    identity = {"voter_id": ["n2"], "former_id": ["v2"], "person": ["p"]}
    write_parquet(tmp_path / "identity.parquet", pd.DataFrame(identity))
    assert decided.present(at).also_known_as(["n2"]) == {"v2": "n2"}
    # and what has not changed is not read again
    before = decided.present(at)
    monkeypatch.setattr(json, "loads", None)
    after = decided.present(at)
    assert after.planned is before.planned
    assert (after is before) == (at == LATER)
