"""A STOP that came in by the endpoint or a broker binds ingest and plan."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from hustings.experiments.cli import app
from hustings.experiments.declaration import (
    CampaignError,
    load_campaign,
    parse_campaign,
)
from hustings.experiments.privacy.forget import sweep
from hustings.experiments.privacy.personal_data import DataSubject
from hustings.experiments.stages.audience import eligible_voters
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.persons import known_persons
from hustings.experiments.stages.reactions import (
    permissions_now,
    reactions_config,
    remember_former,
    store_of,
    with_withdrawals,
)
from hustings.experiments.stages.tables import stage_ingest
from hustings.features.persons.keys import VOTER
from hustings.features.training_set import Arm
from hustings.serving.reactions.http import STORE_VARIABLE, ReactionSettings
from hustings.serving.reactions.payload import read_events
from hustings.serving.reactions.store import Events

NOW = pd.Timestamp.now("UTC").floor("s")

AS_OF = pd.Timestamp("2026-09-01")
GIVEN = pd.DataFrame(
    {
        "voter_id": ["A", "B", "C", "D"],
        "channel": ["sms", "sms", "sms", "email"],
        "basis": ["consent"] * 4,
        "granted_at": pd.to_datetime(["2026-01-01", "2026-08-30", None, "2026-01-01"]),
        "withdrawn_at": pd.to_datetime([None, None, "2026-02-01", None]),
    }
).astype({"granted_at": "datetime64[us]", "withdrawn_at": "datetime64[us]"})


def stops(*rows: tuple[str, str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["voter_id", "channel", "withdrawn_at"])
    frame["withdrawn_at"] = frame["withdrawn_at"].astype("datetime64[us]")
    none = pd.Series(pd.NaT, index=frame.index).astype("datetime64[us]")
    return frame.assign(basis="reply", granted_at=none)[list(GIVEN.columns)]


def withdrawn(permissions: pd.DataFrame) -> dict[tuple[str, str], str]:
    told = permissions.dropna(subset="withdrawn_at")
    days = told["withdrawn_at"].dt.strftime("%Y-%m-%d")
    keys = zip(told["voter_id"], told["channel"], strict=True)
    return dict(zip(keys, days, strict=True))


def test_a_stop_becomes_a_withdrawal_and_the_first_one_counts():
    found = with_withdrawals(
        GIVEN,
        stops(("A", "sms", "2026-05-05"), ("C", "sms", "2026-05-05"),
              ("E", "mail", "2026-05-05"), ("D", "sms", "2026-05-05")),
        AS_OF,
    )  # fmt: skip
    assert withdrawn(found) == {
        ("A", "sms"): "2026-05-05", ("C", "sms"): "2026-02-01",
        ("D", "sms"): "2026-05-05", ("E", "mail"): "2026-05-05",
    }  # fmt: skip
    row = found.set_index(["voter_id", "channel"]).loc[("A", "sms")]
    assert row["basis"] == "consent"
    assert row["granted_at"] == pd.Timestamp("2026-01-01")
    assert not found.duplicated(["voter_id", "channel"]).any()
    assert len(found) == 6


def test_a_permission_granted_anew_after_the_stop_holds():
    found = with_withdrawals(GIVEN, stops(("B", "sms", "2026-05-05")), AS_OF)
    assert ("B", "sms") not in withdrawn(found)
    assert len(found) == 4


def test_a_stop_after_the_as_of_date_binds_its_plan_all_the_same():
    found = with_withdrawals(None, stops(("A", "sms", "2026-11-01")), AS_OF)
    assert withdrawn(found) == {("A", "sms"): "2026-09-01"}


NOW = pd.Timestamp("2026-11-02")


@pytest.fixture
def run(tmp_path):
    campaign = load_campaign("sample")
    campaign.simulate = campaign.simulate.model_copy(update={"n_voters": 1_500})
    home = tmp_path / "sample"
    return Run(campaign, home, home / "first", "first", tmp_path / "mlflow", at=NOW)


def test_ingest_and_plan_refuse_whoever_sent_a_stop(run):
    stage_ingest(run)
    arms = (Arm("m", "sms"), Arm("m", "mail"))
    voters = run.table("voters")["voter_id"]
    before = eligible_voters(run, voters, arms, frozenset(), at=NOW).allowed
    who = int(before.all(axis=1).argmax())
    assert before[who].all()
    events = Events.open(run.home / "events.db")
    stop = {
        "event_id": "s", "post_id": "p", "platform": "sms", "kind": "STOP",
        "occurred_at": "2026-11-01T00:00:00Z", "voter_id": voters[who],
    }  # fmt: skip
    maybe = {**stop, "event_id": "t", "kind": "reply", "text": "stop Trump"}
    maybe["voter_id"] = voters[int(before.all(axis=1).nonzero()[0][1])]
    at = datetime(2026, 11, 1, 1, tzinfo=UTC)
    events.append(read_events([stop, maybe], received_at=at, key=None))
    events.close()
    # a plan of the tables that were ingested before sees it ...
    after = eligible_voters(run, voters, arms, frozenset(), at=NOW)
    assert after.allowed[who].tolist() == [False, True]
    # what may be a wish binds as a STOP does until a person has read it
    assert (after.allowed != before).sum() == 2
    assert after.no_channel["sms"]["permission withdrawn"][who]
    # ... and so does one of the tables that are ingested anew
    again = replace(run, folder=run.home / "second", run_id="second")
    stage_ingest(again)
    later = eligible_voters(again, voters, arms, frozenset(), at=NOW)
    assert later.allowed[who].tolist() == [False, True]
    # taking reactions in changes nothing of what a model learns from
    assert run.read_json("run")["data_hash"] == again.read_json("run")["data_hash"]


def test_a_stop_under_a_former_id_is_the_present_voters(tmp_path: Path):
    run = Run(
        load_campaign("sample"), tmp_path, tmp_path / "r", "r", tmp_path / "m", at=NOW
    )
    remember_former(run, {"V8": "V0"})
    events = Events.open(store_of(run.campaign, run.home))
    stop = {
        "event_id": "e1", "message_id": "m", "platform": "x", "kind": "stop",
        "voter_id": "V8", "channel": "sms", "occurred_at": "2026-08-01T12:00:00Z",
    }  # fmt: skip
    events.append(
        read_events([stop], received_at=datetime(2026, 8, 2, tzinfo=UTC), key=None)
    )
    assert events.refused(["V0", "V1"]) == {"V0": {"sms"}}
    events.close()
    assert withdrawn(permissions_now(run, None, NOW))[("V0", "sms")] == "2026-08-01"


def test_the_endpoint_is_told_what_the_campaign_declares(run):
    stage_ingest(run)
    told = ReactionSettings.of(reactions_config(run))
    messages = run.table("messages")
    assert [m["message_id"] for m in told.messages] == messages["message_id"].tolist()
    assert told.keep_text is False
    assert told.store is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('store = "mysql://host/name"', "postgresql://host/name"),
        ('store = "postgresql://joe:secret@host/name"', "no password"),
        ('store = "postgresql://host/name?password=secret"', "no password"),
        ('kinds = {haha = "funny"}', "'good', 'bad' or 'neutral'"),
        ("issue_floor = 2", "less than or equal to 1"),
    ],
)
def test_a_wrong_declaration_of_reactions_is_refused(line, expected):
    text = load_campaign("sample").file.read_text() + f"\n[reactions]\n{line}\n"
    with pytest.raises(CampaignError, match=expected):
        parse_campaign(text)


def test_a_person_reads_what_may_be_a_wish_by_command(tmp_path: Path):
    home = tmp_path / "sample"
    events = Events.open(home / "events.db")
    told = [
        {"event_id": f"e{i}", "message_id": "m", "platform": "sms", "kind": "reply",
         "voter_id": f"V{i}", "text": text, "occurred_at": "2026-08-01T12:00:00Z"}
        for i, text in enumerate(("stop Trump", "not interested", "STOP"))
    ]  # fmt: skip
    at = datetime(2026, 8, 2, tzinfo=UTC)
    events.append(read_events(told, received_at=at, key=None))

    def review(*arguments: str) -> Result:
        given = ["reactions", "review", "--campaign", "sample", "--data", str(tmp_path)]
        nowhere = {"MLFLOW_TRACKING_URI": None, STORE_VARIABLE: None}
        return CliRunner().invoke(app, [*given, *arguments], env=nowhere)

    listed = review()
    assert listed.exit_code == 0, listed.output
    assert listed.output.startswith("2 open")
    assert "e0  2026-08-01 12:00  V0  sms  reply: stop Trump" in listed.output
    assert review("--event", "e0", "--not", "--by", "Ann").exit_code == 0
    assert review("--event", "e1", "--withdraw").exit_code == 0
    assert events.refused(["V0", "V1", "V2"]) == {"V1": {"sms"}, "V2": {"sms"}}
    assert review().output.startswith("0 open")
    for wrong in (("--event", "e0", "--not"), ("--event", "e1"), ("--withdraw",)):
        assert review(*wrong).exit_code == 2
    events.close()


def test_a_wish_and_its_text_are_erased_with_the_person(tmp_path: Path):
    store = tmp_path / "events.db"
    events = Events.open(store)
    told = {
        "event_id": "e", "message_id": "m", "platform": "sms", "kind": "reply",
        "voter_id": "V-1234567", "text": "stop Elm Street", "occurred_at": "2026-08-01",
    }  # fmt: skip
    at = datetime(2026, 8, 2, tzinfo=UTC)
    events.append(read_events([told], received_at=at, key=None))
    events.close()
    ids = frozenset({"V-1234567"})
    subject = DataSubject(ids, frozenset(), {VOTER: ids}, ids)
    matcher = subject.row_matcher(known_persons(tmp_path).keys)
    assert sweep(tmp_path, matcher, subject.words)["events.db wishes"] == 1
    assert b"Elm Street" not in store.read_bytes()
