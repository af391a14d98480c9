"""What is paused is refused at once, by everything that could send it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from hustings.features.training_set import Arm
from hustings.serving.eligible import barred, eligibility
from hustings.serving.monitor.pauses import MAX_WORDS, PAUSES, Pauses

AT = pd.Timestamp("2026-09-01 12:00", tz="UTC")
HOUR = pd.Timedelta(hours=1)


@pytest.fixture
def pauses(tmp_path: Path) -> Iterator[Pauses]:
    found = Pauses.open(tmp_path / "events.db")
    yield found
    found.close()


def test_a_pause_holds_until_it_is_lifted_and_both_are_kept(pauses, tmp_path):
    assert pauses.pause("bridge", by="Ada", reason="angry replies", at=AT)
    assert not pauses.pause("bridge", by="Bob", reason="me too", at=AT + HOUR)
    other = Pauses.open(tmp_path / "events.db")
    assert other.paused()["bridge"].by == "Ada"
    assert other.refusals() == {
        "bridge": "is paused since 2026-09-01 12:00 UTC by Ada: angry replies"
    }
    assert other.resume("bridge", by="Bob", reason="it was a brigade", at=AT + HOUR)
    assert not other.resume("bridge", by="Bob", reason="again", at=AT + HOUR)
    assert pauses.paused() == {}
    rows = pauses.history()
    assert rows["by"].tolist() == ["Ada", "Bob"]
    assert rows["lifted_at"].isna().tolist() == [True, False]
    assert rows["paused_at"].tolist() == [AT, AT]
    assert pauses.pause("bridge", by="Ada", reason="again", at=AT + 2 * HOUR)
    assert len(pauses.history()) == 3
    other.close()


@pytest.mark.parametrize("by", ["", "  ", "x" * (MAX_WORDS + 1)])
def test_nobody_pauses_without_a_name(pauses, by):
    with pytest.raises(ValueError, match="expected who pauses it"):
        pauses.pause("bridge", by=by, reason="why", at=AT)
    with pytest.raises(ValueError, match="expected why"):
        pauses.pause("bridge", by="Ada", reason=by, at=AT)
    assert pauses.paused() == {}


def test_an_alarm_that_was_told_of_is_remembered_for_its_hours(pauses):
    assert not pauses.was_alerted("bridge", "backlash", 100, within=24)
    for _ in range(2):
        pauses.remember("bridge", "backlash", 100)
    assert pauses.was_alerted("bridge", "backlash", 110, within=24)
    assert not pauses.was_alerted("bridge", "new_accounts", 110, within=24)
    assert not pauses.was_alerted("bridge", "backlash", 150, within=24)


def test_the_same_holds_in_postgresql(postgres):
    pauses = Pauses.open(postgres)
    assert pauses.pause("bridge", by="Ada", reason="angry", at=AT)
    other = Pauses.open(postgres)
    assert set(other.paused()) == {"bridge"}
    other.close()
    assert pauses.resume("bridge", by="Ada", reason="calm", at=AT + HOUR)
    assert pauses.paused() == {}
    for _ in range(2):
        pauses.remember("bridge", "backlash", 1)
    assert pauses.was_alerted("bridge", "backlash", 1, within=2)
    with pauses.engine.connect() as connection:
        n = connection.execute(sa.select(sa.func.count()).select_from(PAUSES)).scalar()
    assert n == 2
    pauses.close()


# --- refused ----------------------------------------------------------------------


def messages(**fields: Any) -> pd.DataFrame:
    sound = {
        "message_id": "bridge", "sponsor": "Friends", "disclaimer": "Paid by Friends",
        "discloses": "none",
    }  # fmt: skip
    return pd.DataFrame([{**sound, **fields}])


@pytest.mark.parametrize("rule_set", ["us_default", "research_replay"])
def test_a_paused_message_is_eligible_for_nobody_and_the_reason_is_told(rule_set):
    paused = {"bridge": "is paused since 2026-09-01 by Ada: angry"}
    found = eligibility(
        pd.Series(["ann", "bob"], dtype="str"), [Arm("bridge", "mail")], messages(),
        None, rule_set=rule_set, as_of=pd.Timestamp("2026-09-01"), paused=paused,
    )  # fmt: skip
    assert not found.allowed.any()
    assert found.reason_counts() == [
        {"reason": f"message bridge: {paused['bridge']}", "n_voters": 2}
    ]
    assert barred(messages(), rule_set=rule_set) == {}


def test_recommend_offers_nothing_that_is_paused_and_says_so(served, pauses):
    """Every message is paused but one: it alone is left; then none is."""
    from dataclasses import replace

    from hustings.serving.bodies import RecommendRequest
    from hustings.serving.endpoint import Endpoint

    loaded = Endpoint.load(served.folder)
    endpoint = replace(loaded, paused=pauses.refusals)
    rows = served.rows[:400]
    asked = RecommendRequest(
        voters=rows,
        permitted_channels={row["voter_id"]: ["sms", "phone"] for row in rows},
    )

    def offered() -> set[str]:
        told = endpoint.recommend(asked, at=AT.tz_localize(None))["voters"]
        found = [voter["recommendation"] for voter in told]
        return {offer["message_id"] for offer in found if offer}

    before = offered()
    assert len(before) >= 2
    kept, *others = sorted(before)
    for message in served.model.messages:
        if message != kept:
            pauses.pause(message, by="Ada", reason="angry", at=AT)
    assert offered() == {kept}
    pauses.pause(kept, by="Ada", reason="angry", at=AT)
    told = endpoint.recommend(asked, at=AT.tz_localize(None))["voters"]
    assert [voter["recommendation"] for voter in told] == [None] * len(rows)
    reasons = {voter["reason"]["code"]: voter["reason"]["text"] for voter in told}
    assert "is paused since 2026-09-01 12:00 UTC by Ada: angry" in reasons["barred"]
    pauses.resume(others[0], by="Ada", reason="calm", at=AT)
    assert offered() == {others[0]}
