"""`hustings plans undo`: a further entry takes back a `sent` or a lock."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments import plans
from hustings.experiments.cli import BAD_INPUT, OK, app
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.plans.online import online_so_far
from hustings.experiments.plans.recorded_files import record_outside
from hustings.experiments.record import (
    decisions_so_far,
    designs_so_far,
    keep_answers,
)
from hustings.serving.decided import DecidedVoters
from hustings.serving.decisions import HandedOut, OnlineDecisions, microseconds
from hustings.serving.reactions.store import FILE, Events
from tests.experiments.drafts import whole
from tests.experiments.test_plan_steps import AT, KEYS, drafted, drawn, facts, locked

UNDO_CLOCK = "hustings.experiments.cli.plans"
BY = ("--by", "R. Approver", "--why", "marked by mistake", "--yes")


class Campaign:
    """A campaign with one plan of eight contacts and three held out."""

    def __init__(self, data: Path) -> None:
        self.data, self.home = data, data / "sample"
        drafted(self.home)
        self.said("plans", "approve", "--by", "R. Approver", "--yes")
        self.said("plans", "lock")

    def said(self, *words: str, code: int = OK) -> str:
        where = ("--campaign", "sample", "--data", str(self.data))
        done = CliRunner().invoke(app, [*words, *where])
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    @property
    def money(self) -> dict[str, float]:
        rows = plans.spent(self.home)
        sums = ["usd_committed", "usd_spent", "n_spent", "n_withheld"]
        return {name: round(float(rows[name].sum()), 2) for name in sums}

    @property
    def handed_over(self) -> set[str]:
        """Voters whose contact the endpoint takes for handed over."""
        decided = DecidedVoters(self.home).present(pd.Timestamp.now())
        ids = [f"v{i:02}" for i in range(12)]
        return {
            voter
            for voter, past in decided.of(ids).items()
            if any(one.handed_over for one in past)
        }


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path)


def test_a_sent_by_mistake_is_taken_back_and_may_be_marked_again(
    campaign: Campaign,
) -> None:
    before, head = campaign.money, open_ledger(campaign.home).head
    assert before == {
        "usd_committed": 3.36, "usd_spent": 0.0, "n_spent": 0, "n_withheld": 0
    }  # fmt: skip
    campaign.said("plans", "sent")
    assert campaign.money["usd_spent"] == 3.36
    assert len(campaign.handed_over) == 8
    said = campaign.said("plans", "undo", *BY)
    assert "sent 2026-09-01-mail" in said
    assert "Plan day1: locked" in said
    # as if it had never been, for whoever asks
    assert campaign.money == before
    assert campaign.handed_over == set()
    assert plans.contacts_sent(campaign.home).empty
    assert '"spent_usd": 0.0' in campaign.said("status", "--json")
    # and decided all the same: held out and contacted
    assert len(decisions_so_far(campaign.home)) == 12
    # entries are never rewritten: the ledger has all of it
    entries = [e.kind for e in open_ledger(campaign.home).of_nobody()]
    assert entries[-3:] == ["plan sent", "plan sent", "plan undone"]
    assert open_ledger(campaign.home).head.seq == head.seq + 3
    assert '"why": "marked by mistake"' in campaign.said("plans", "show")
    campaign.said("verify")
    # this time one channel alone
    assert "6 contacts" in campaign.said("plans", "sent", "--channel", "mail")
    assert campaign.money["usd_spent"] == 3.3
    assert len(campaign.handed_over) == 6
    campaign.said("verify")
    campaign.said("evidence", "--out", str(campaign.data / "bundle"))


def test_one_batch_may_be_taken_back_and_another_stays(campaign: Campaign) -> None:
    campaign.said("plans", "sent")
    campaign.said("plans", "undo", "--batch", "2026-09-01-sms", *BY)
    assert campaign.money["usd_spent"] == 3.3
    assert campaign.money["usd_committed"] == 3.36
    said = campaign.said(
        "plans", "undo", "--batch", "2026-09-01-sms", *BY, code=BAD_INPUT
    )
    assert "expected a batch that is marked as sent" in said
    campaign.said("plans", "undo", *BY)
    assert campaign.money["usd_spent"] == 0.0


def test_a_lock_is_taken_back_where_nothing_has_left(campaign: Campaign) -> None:
    assert "Plan day1: approved" in campaign.said("plans", "undo", *BY)
    assert campaign.money["usd_committed"] == 0.0
    assert decisions_so_far(campaign.home).empty
    assert designs_so_far(campaign.home).empty
    decided = DecidedVoters(campaign.home).present(pd.Timestamp.now())
    assert decided.of(["v00", "v11"]) == {}
    # another plan may decide the same voters now
    drafted(campaign.home, "day2")
    campaign.said("plans", "approve", "day2", "--by", "R. Approver", "--yes")
    campaign.said("plans", "lock", "day2")
    assert set(decisions_so_far(campaign.home)["plan_id"]) == {"day2"}
    said = campaign.said("plans", "lock", "day1", code=BAD_INPUT)
    assert "whom plan day2 has" in said
    campaign.said("verify")


def test_what_came_back_keeps_a_sent(campaign: Campaign, tmp_path: Path) -> None:
    campaign.said("plans", "sent")
    rows = pd.DataFrame(
        {
            "voter_id": ["v00"], "plan_id": "day1", "message_id": "trade",
            "channel": "mail", "contacted_at": pd.Timestamp("2026-09-02"),
            "result": "delivered", "delivered": True, "n_attempts": 1,
        }
    )  # fmt: skip
    at = pd.Timestamp("2026-09-03", tz="UTC")
    keep_answers(campaign.home, "day1", "ab" * 32, {"returned": rows}, {}, at=at)
    said = campaign.said("plans", "undo", *BY, code=BAD_INPUT)
    assert "results of 1 of its contacts came back on 2026-09-03" in said
    assert campaign.money["usd_spent"] == 3.36
    # the other batch may go back: nothing came of it
    campaign.said("plans", "undo", "--batch", "2026-09-01-sms", *BY)
    failed = tmp_path / "failed.csv"
    failed.write_text("voter_id,reason\nv01,moved\n")
    campaign.said("plans", "returned", "--failed", str(failed))
    said = campaign.said("plans", "undo", *BY, code=BAD_INPUT)
    assert "failures or invoices were booked since" in said


def hand_out(campaign: Campaign, now: pd.Timestamp) -> OnlineDecisions:
    """The endpoint offers voter v00 what the plan has decided."""
    decision = HandedOut(
        decision_id="d1", voter_id="v00", plan_id="day1", experiment_id="own",
        role="plan", message_id="trade", channel="mail", propensity=0.9,
        arm_propensity=0.9, predicted_lift=0.02, model_version="m/1", cost_usd=0.55,
        decided_at=microseconds(now),
        expires_at=microseconds(now + pd.Timedelta(hours=1)),
    )  # fmt: skip
    decisions = OnlineDecisions.in_store_of(Events.open(campaign.home / FILE))
    decisions.turn(lambda turn: turn.hand_out([decision], {}), now)
    return decisions


def test_what_has_left_keeps_a_lock(campaign: Campaign) -> None:
    # commands know the time to the second
    now = pd.Timestamp.now("UTC").floor("s")
    decisions = hand_out(campaign, now)
    said = campaign.said("plans", "undo", *BY, code=BAD_INPUT)
    assert "1 of its contacts are on offer online" in said
    decisions.report_sent(["d1"], now)
    said = campaign.said("plans", "undo", *BY, code=BAD_INPUT)
    assert "1 of its contacts were carried out online" in said
    assert len(online_so_far(campaign.home).of_plans) == 1
    # marked as sent, the rest goes back, and that contact does not
    campaign.said("plans", "sent")
    assert campaign.money["n_spent"] == 8
    campaign.said("plans", "undo", *BY)
    assert campaign.money["n_spent"] == 1
    assert campaign.handed_over == {"v00"}


def test_what_is_handed_out_while_a_person_confirms_keeps_a_lock(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes = pd.Timedelta(minutes=5)
    began = pd.Timestamp.now("UTC").floor("s")

    def confirmed(*_: object, **__: object) -> None:
        hand_out(campaign, began + minutes)

    monkeypatch.setattr("typer.confirm", confirmed)
    after = f"{UNDO_CLOCK}.utc_now"
    monkeypatch.setattr(after, lambda: began + 2 * minutes)
    said = campaign.said("plans", "undo", *BY[:-1], code=BAD_INPUT)
    assert "1 of its contacts are on offer online" in said


def test_money_that_another_plan_has_taken_since_is_not_committed_again(
    tmp_path: Path,
) -> None:
    locked(tmp_path, budget_usd=3.36)
    mail = plans.batches_of(tmp_path, "day1")["2026-09-01-mail"]
    withheld = pd.DataFrame({"voter_id": mail.iloc[:2], "reason": "withdrawn"})
    plans.send(
        tmp_path, "day1", "2026-09-01-mail", mail.iloc[2:], withheld=withheld, at=AT
    )
    plan, assigned = drawn(30)
    two = plan.iloc[:2]
    theirs = assigned[assigned["voter_id"].isin(two["voter_id"])]
    plans.draft(
        tmp_path, "day2", whole(two, theirs), facts(budget_usd=3.36), keys=KEYS, at=AT
    )
    plans.approve(tmp_path, "day2", by="R. Approver", at=AT)
    plans.lock(tmp_path, "day2", at=AT)
    taken_back = {"by": "R. Approver", "why": "x", "batch": "", "at": AT}
    with pytest.raises(plans.PlanStepError, match=r"at most 0\.00 USD.*got 1\.10"):
        plans.undo(tmp_path, "day1", objection=lambda _, __: "", **taken_back)
    plans.cancel(tmp_path, "day2", by="R. Approver", why="x", at=AT)
    plans.undo(tmp_path, "day1", objection=lambda _, __: "", **taken_back)
    assert plans.spent(tmp_path)["usd_committed"].sum() == pytest.approx(3.36)


def test_contacts_that_left_the_folder_keep_a_lock(campaign: Campaign) -> None:
    elsewhere = campaign.data / "vendor"
    elsewhere.mkdir()
    (elsewhere / "mail.csv").write_text("voter_id")
    record_outside(campaign.home, elsewhere, plan_id="day1", at=AT)
    said = campaign.said("plans", "undo", *BY, code=BAD_INPUT)
    assert "its contacts have left the campaign's folder (mail.csv)" in said


def test_lists_that_left_keep_a_lock_and_not_a_sent(campaign: Campaign) -> None:
    folder = campaign.home / "exports" / "day1" / "20260901T060000Z"
    folder.mkdir(parents=True)
    manifest = {"files": [], "at": "2026-09-01T06:00:00+00:00"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    plan = pd.read_parquet(campaign.home / "plans" / "day1" / "plan.parquet")
    status = plan[["voter_id", "channel", "send_on", "message_id"]]
    status.assign(code="").to_parquet(folder / "contacts.parquet")
    campaign.said("plans", "sent")
    campaign.said("plans", "undo", *BY)
    said = campaign.said("plans", "undo", *BY, code=BAD_INPUT)
    assert "its lists have left (exports/day1/20260901T060000Z)" in said


def test_nothing_is_taken_back_of_what_was_never_decided(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    campaign.said("plans", "undo", *BY)
    said = campaign.said("plans", "undo", *BY, code=BAD_INPUT)
    assert "expected it to be locked or sent or returned, got approved" in said
    why = ("--by", "R. Approver", "--why", " ", "--yes")
    campaign.said("plans", "lock")
    said = campaign.said("plans", "undo", *why, code=BAD_INPUT)
    assert "and the reason" in said
    done = CliRunner().invoke(
        app,
        ["plans", "undo", *BY[:-1], "--campaign", "sample", "--data", str(tmp_path)],
        input="n\n",
    )
    assert done.exit_code == 1
    assert plans.state(campaign.home, "day1") == "locked"
