"""The life of a plan: every step once, in its order, all of it in the ledger."""

import json
import random
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from hustings.experiments import plans
from hustings.experiments.plans import PlanStepError, steps
from hustings.experiments.plans.ledger import LEDGER, Ledger, open_ledger
from hustings.features.persons.identity import nobody
from hustings.features.tables import CONTROL, NO_CHANNEL
from tests.experiments.drafts import whole

AT = pd.Timestamp("2026-09-01T06:00:00Z")
DAY = pd.Timestamp("2026-09-01")
N = 12
KEYS = {f"v{i:02}": bytes([i + 1]) * 32 for i in range(200)}


def drawn(start: int = 0, day: pd.Timestamp = DAY) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A day of twelve: six planned (4 mail, 2 sms), three explore (one nothing), three
    shadows of the holdout."""
    ids = [f"v{i:02}" for i in range(start, start + N)]
    roles = ["plan"] * 6 + ["explore"] * 3 + ["holdout"] * 3
    intended = ["trade"] * 4 + ["tax"] * 2 + ["trade"] * 6
    sent = intended[:8] + [CONTROL] * 4
    by = {"trade": "mail", "tax": "sms", CONTROL: NO_CHANNEL}
    assigned = pd.DataFrame(
        {
            "voter_id": ids, "role": roles, "message_id": sent,
            "channel": [by[m] for m in sent],
            "propensity": [0.9 * 0.95] * 6 + [0.9 * 0.05 / 3] * 3 + [0.1] * 3,
            "intended_message_id": intended,
            "intended_channel": [by[m] for m in intended],
        }
    )  # fmt: skip
    mine = assigned[assigned["channel"] != NO_CHANNEL]
    plan = mine[["voter_id", "message_id", "channel", "propensity", "role"]].assign(
        send_on=day.as_unit("us"), lift=0.02,
        cost_usd=mine["channel"].map({"mail": 0.55, "sms": 0.03}),
    )  # fmt: skip
    return plan.reset_index(drop=True), assigned


def facts(**changed: object) -> plans.PlanFacts:
    told = {"model": "hustings-x/3", "rule_set": "us_default", "terms": {"seed": 7},
            "prices": {"budget": 0.01}, "budget_usd": 100.0}  # fmt: skip
    return plans.PlanFacts(**{**told, **changed})  # type: ignore[arg-type]


def drafted(
    home: Path, plan_id: str = "day1", start: int = 0, **changed: object
) -> None:
    plan, assigned = drawn(start)
    plans.draft(
        home, plan_id, whole(plan, assigned), facts(**changed), keys=KEYS, at=AT
    )


def locked(
    home: Path, plan_id: str = "day1", start: int = 0, **changed: object
) -> None:
    drafted(home, plan_id, start, **changed)
    plans.approve(home, plan_id, by="R. Approver", at=AT)
    plans.lock(home, plan_id, at=AT)


def test_every_assignment_is_in_the_ledger_with_its_exact_propensity(
    tmp_path: Path,
) -> None:
    drafted(tmp_path)
    _, assigned = drawn()
    for row in assigned.itertuples():
        (entry,) = open_ledger(tmp_path).of_person([KEYS[row.voter_id]])
        told = dict(zip(plans.COLUMNS, json.loads(entry.body), strict=True))
        assert told["propensity"] == row.propensity
        assert (told["role"], told["message_id"]) == (row.role, row.message_id)
        assert told["intended_message_id"] == row.intended_message_id


# --- the order of steps ---------------------------------------------------------------


def test_a_step_out_of_order_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    drafted(tmp_path)
    with pytest.raises(
        plans.PlanStepError, match="to be locked, expected it to be approved"
    ):
        plans.lock(tmp_path, "day1", at=AT)
    with pytest.raises(plans.PlanStepError, match="expected it to be locked or sent"):
        plans.send(tmp_path, "day1", "mail", pd.Series(["v00"]), at=AT)
    with pytest.raises(plans.PlanStepError, match="expected the name of who approves"):
        plans.approve(tmp_path, "day1", by=" ", at=AT)
    plans.reject(tmp_path, "day1", by="R. Approver", why="too dear", at=AT)
    with pytest.raises(
        plans.PlanStepError, match="expected it to be draft, got rejected"
    ):
        plans.approve(tmp_path, "day1", by="R. Approver", at=AT)
    assert plans.state(tmp_path, "day1") == plans.REJECTED


def test_every_step_taken_again_does_nothing(tmp_path: Path) -> None:
    def all_steps() -> None:
        locked(tmp_path)
        plans.send(tmp_path, "day1", "mail", pd.Series(["v00", "v01"]), at=AT)
        plans.returned(tmp_path, "day1", failed=failed("v00"), invoices=paid(), at=AT)

    all_steps()
    head, spent = open_ledger(tmp_path).head, plans.spent(tmp_path)
    all_steps()
    assert open_ledger(tmp_path).head == head
    pd.testing.assert_frame_equal(plans.spent(tmp_path), spent)


def failed(*voters: str) -> pd.DataFrame:
    return pd.DataFrame({"voter_id": voters, "reason": "moved"})


def paid(usd: float = 1.20, invoice: str = "i1", day: object = DAY) -> pd.DataFrame:
    row = {"invoice": invoice, "channel": "mail", "send_on": day, "amount_usd": usd}
    return pd.DataFrame([row]).astype({"send_on": "datetime64[us]"})


def test_another_plan_of_the_same_name_is_refused(tmp_path: Path) -> None:
    drafted(tmp_path)
    with pytest.raises(plans.PlanStepError, match="got another of this name"):
        drafted(tmp_path, "day1", start=20)
    with pytest.raises(plans.PlanStepError, match="letters, digits"):
        drafted(tmp_path, "../day1")


def test_the_same_contacts_by_another_model_are_another_plan() -> None:
    tables = drawn()
    name = plans.content_digest(facts().to_json(), *tables)
    assert plans.content_digest(facts().to_json(), *tables) == name
    other = facts(model="hustings-x/4").to_json()
    assert plans.content_digest(other, *tables) != name
    assert plans.content_digest(facts().to_json(), *drawn(1)) != name


def test_a_plan_that_was_altered_is_not_approved(tmp_path: Path) -> None:
    drafted(tmp_path)
    plan, _ = drawn()
    plan.loc[0, "cost_usd"] = 0.01
    plan.to_parquet(tmp_path / "plans" / "day1" / "plan.parquet")
    with pytest.raises(plans.PlanStepError, match=r"day1/plan\.parquet.*altered"):
        plans.approve(tmp_path, "day1", by="R. Approver", at=AT)


def test_contacts_that_are_no_assignments_are_refused(tmp_path: Path) -> None:
    plan, assigned = drawn()
    for spoilt in (
        plan.assign(propensity=0.5),
        plan.iloc[1:],
        plan.assign(role="plan"),
    ):
        with pytest.raises(
            plans.PlanStepError, match="every contact among the assignments"
        ):
            plans.draft(
                tmp_path, "day1", whole(spoilt, assigned), facts(), keys=KEYS, at=AT
            )
    assert plans.plans(tmp_path) == {}


def test_who_decided_by_an_old_end_of_the_ledger_decides_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine with the same ledger is not kept out by this one's lock."""
    drafted(tmp_path)
    plans.approve(tmp_path, "day1", by="R. Approver", at=AT)
    real, calls = steps.known_plans, []

    def meanwhile(ledger: Ledger) -> dict[str, plans.PlanRecord]:
        found = real(ledger)
        if not calls:
            calls.append(1)
            body = {"plan": "day1", "key": "", "by": "Another", "why": "cancelled"}
            ledger.append("plan rejected", body, at=AT)
        return found

    monkeypatch.setattr(steps, "known_plans", meanwhile)
    with pytest.raises(plans.PlanStepError, match="got rejected"):
        plans.lock(tmp_path, "day1", at=AT)


# --- what a person reads --------------------------------------------------------------


def test_a_diff_counts_what_was_added_removed_and_changed(tmp_path: Path) -> None:
    locked(tmp_path)
    plan, assigned = drawn()
    # v00 gets nothing now, v01 another message and channel, v20 is new
    for frame in (plan, assigned):
        at = frame["voter_id"] == "v01"
        frame.loc[at, ["message_id", "channel"]] = ["tax", "sms"]
    plan.loc[plan["voter_id"] == "v01", "cost_usd"] = 0.03
    new = plan[plan["voter_id"] == "v02"].assign(voter_id="v20")
    also = assigned[assigned["voter_id"] == "v02"].assign(voter_id="v20")
    plan = pd.concat([plan[plan["voter_id"] != "v00"], new], ignore_index=True)
    gone = assigned["voter_id"] == "v00"
    assigned.loc[gone, ["message_id", "channel"]] = [CONTROL, NO_CHANNEL]
    assigned = pd.concat([assigned, also], ignore_index=True)
    counties = pd.DataFrame({"voter_id": ["v20"], "county_fips": ["19001"]})
    plans.draft(
        tmp_path, "other", whole(plan, assigned), facts(), keys=KEYS, at=AT,
        further_tables={"counties": counties},
    )  # fmt: skip
    found = plans.diff(tmp_path, plans.plans(tmp_path), "other")
    assert found.against == "day1"
    n = {"before": 8, "now": 8, "added": 1, "removed": 1, "changed": 1}
    assert found.n == n
    assert found.usd == pytest.approx((6 * 0.55 + 2 * 0.03, 5 * 0.55 + 3 * 0.03))
    by_message = found.by["message_id"].set_index("value")
    assert by_message.loc["trade"].to_dict() == {
        "before": 6, "now": 5, "added": 1, "removed": 1, "changed": 0,
    }  # fmt: skip
    assert by_message.loc["tax", "changed"] == 1
    county = found.by["county"].set_index("value")
    assert county.loc["19001", "added"] == 1
    assert set(found.reasons["reason"]) == {"another message", "decided by plan day1"}
    text = plans.diff_text(found)
    assert "8 contacts (before 8): 0 added, 0 removed, 0 changed" in text
    assert "19001" not in text
    assert "another message" not in text
    plans.approve(tmp_path, "other", by="R. Approver", at=AT)
    (step,) = plans.record_of(tmp_path, "other").of(plans.APPROVED)
    assert step.body["by"] == "R. Approver"
    assert step.body["diff"]["removed"] == 0


def test_a_diff_tells_no_small_group_by_subtraction(tmp_path: Path) -> None:
    """Plans of one size, with 0, 1, 7 or 15 contacts in a county, look alike."""
    texts, ids = set(), [f"w{i:03}" for i in range(100)]
    for few in (0, 1, 7, 15):
        assigned = pd.DataFrame(
            {
                "voter_id": ids, "role": "plan", "message_id": "trade",
                "channel": "mail", "propensity": 0.9, "intended_message_id": "trade",
                "intended_channel": "mail",
            }
        )  # fmt: skip
        columns = ["voter_id", "message_id", "channel", "propensity", "role"]
        plan = assigned[columns].assign(
            send_on=pd.Timestamp("2026-09-01").as_unit("us"), cost_usd=0.5, lift=0.01
        )
        county = ["19001"] * few + ["19003"] * (100 - few)
        home = tmp_path / str(few)
        plans.draft(
            home, "one", whole(plan, assigned), facts(), keys={}, at=AT,
            further_tables={
                "counties": pd.DataFrame({"voter_id": ids, "county_fips": county})
            },
        )  # fmt: skip
        texts.add(plans.diff_text(plans.diff(home, plans.plans(home), "one")))
    # of 85 and of 100 in the large county, one is rounded down otherwise
    assert len(texts) == 2
    assert all("19001" not in text for text in texts)
    assert all("100 contacts" in text for text in texts)


# --- nobody twice, no money twice -----------------------------------------------------


def contacts(
    days: dict[str, str], nothing: tuple[str, ...] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Letters to voters on days of September, and voters whom the plan left in the
    pool."""
    ids = [*days, *nothing]
    sent = pd.Series([voter in days for voter in ids])
    assigned = pd.DataFrame(
        {
            "voter_id": ids, "role": "plan",
            "message_id": sent.map({True: "trade", False: CONTROL}),
            "channel": sent.map({True: "mail", False: NO_CHANNEL}),
            "propensity": 0.5,
        }
    )  # fmt: skip
    assigned["intended_message_id"] = assigned["message_id"]
    assigned["intended_channel"] = assigned["channel"]
    mine = assigned[sent]
    plan = mine[["voter_id", "message_id", "channel", "propensity", "role"]].assign(
        send_on=[pd.Timestamp(f"2026-09-{d}").as_unit("us") for d in days.values()],
        lift=0.02, cost_usd=0.5,
    )  # fmt: skip
    return plan.reset_index(drop=True), assigned


def locks(
    home: Path, name: str, made: tuple[pd.DataFrame, pd.DataFrame], **changed: object
) -> None:
    plans.draft(home, name, whole(*made), facts(**changed), keys=KEYS, at=AT)
    plans.approve(home, name, by="R. Approver", at=AT)
    plans.lock(home, name, at=AT)


def test_the_window_is_from_a_voter_s_own_contact_not_from_the_plan_s_first_day(
    tmp_path: Path,
) -> None:
    locks(tmp_path, "a", contacts({"v00": "01", "v01": "10"}), window_days=7)
    with pytest.raises(PlanStepError, match="within 7 days, got 1 whom plan a has"):
        locks(tmp_path, "b", contacts({"v01": "08"}), window_days=7)
    locks(tmp_path, "c", contacts({"v00": "08"}), window_days=7)
    locks(tmp_path, "d", contacts({"v01": "17"}), window_days=7)


def test_who_was_left_in_the_pool_may_be_decided_by_the_next_plan(
    tmp_path: Path,
) -> None:
    locks(tmp_path, "a", contacts({"v00": "01"}, nothing=("v01", "v02")))
    assert plans.decided_so_far(tmp_path)["voter_id"].tolist() == ["v00"]
    locks(tmp_path, "b", contacts({"v01": "02"}))


def test_a_person_is_not_decided_again_under_a_new_id(tmp_path: Path) -> None:
    identity = pd.DataFrame(
        {
            "voter_id": ["v00", "v01"], "person": "p", "since": DAY,
            "reason": ["first seen", "renamed"], "former_id": [None, "v00"],
            "first_voter_id": "v00", "first_household_id": "h",
        }
    ).astype(nobody().dtypes.to_dict())  # fmt: skip
    # the new file has the new id alone, or both
    for name, rows in (("new", identity.iloc[1:]), ("both", identity)):
        home = tmp_path / name
        locks(home, "a", contacts({"v00": "01"}))
        rows.to_parquet(home / "identity.parquet")
        with pytest.raises(PlanStepError, match="got 1 whom plan a has"):
            locks(home, "b", contacts({"v01": "02"}))


def test_a_person_of_merged_ids_is_decided_once_under_each_of_them(
    tmp_path: Path,
) -> None:
    # v02 was on file when v00 and v01 became the same person
    identity = pd.DataFrame(
        {
            "voter_id": ["v00", "v01", "v02", "v02", "v02"],
            "person": ["p", "q", "r", "p", "q"], "since": DAY,
            "reason": ["first seen"] * 3 + ["merged"] * 2,
            "former_id": [None, None, None, "v00", "v01"],
            "first_voter_id": ["v00", "v01", "v02", "v00", "v01"],
            "first_household_id": "h",
        }
    ).astype(nobody().dtypes.to_dict())  # fmt: skip
    for first, then in (("v00", "v02"), ("v01", "v02"), ("v00", "v01")):
        home = tmp_path / f"{first}{then}"
        locks(home, "a", contacts({first: "01"}))
        identity.to_parquet(home / "identity.parquet")
        with pytest.raises(PlanStepError, match="got 1 whom plan a has"):
            locks(home, "b", contacts({then: "02"}))


def test_no_voter_is_decided_by_two_plans_within_the_window(tmp_path: Path) -> None:
    locked(tmp_path, "day1")
    with pytest.raises(plans.PlanStepError, match="got 2 whom plan day1 has"):
        locked(tmp_path, "day2", start=N - 2)
    # the same voters again once the window is over
    plan, assigned = drawn(0, DAY + pd.Timedelta(days=30))
    for window, fits in ((31, False), (30, True)):
        name = f"window{window}"
        plans.draft(
            tmp_path,
            name,
            whole(plan, assigned),
            facts(window_days=window),
            keys=KEYS,
            at=AT,
        )
        plans.approve(tmp_path, name, by="R. Approver", at=AT)
        if fits:
            plans.lock(tmp_path, name, at=AT)
        else:
            with pytest.raises(plans.PlanStepError, match="within 31 days"):
                plans.lock(tmp_path, name, at=AT)


def test_locked_plans_never_take_more_than_the_campaigns_money(tmp_path: Path) -> None:
    usd = 6 * 0.55 + 2 * 0.03
    locked(tmp_path, "day1", budget_usd=1.5 * usd)
    with pytest.raises(plans.PlanStepError, match=r"expected at most 1\.68 USD"):
        locked(tmp_path, "day2", start=20, budget_usd=1.5 * usd)
    # money of what was never sent comes back
    plans.send(tmp_path, "day1", "sms", pd.Series(["v04"]), at=AT)
    plans.cancel(tmp_path, "day1", by="R. Approver", why="strike", at=AT)
    plans.lock(tmp_path, "day2", at=AT)
    assert plans.decided_so_far(tmp_path)["voter_id"].tolist()[0] == "v04"


def test_a_contact_is_handed_over_once(tmp_path: Path) -> None:
    locked(tmp_path)
    plans.send(tmp_path, "day1", "mail", pd.Series(["v00", "v01"]), at=AT)
    for batch, voters, fault in (
        ("mail", ["v00", "v02"], "expected the same again"),
        ("mail2", ["v01", "v02"], "got 1 that were"),
        ("mail3", ["v09"], "got 1 of 1 that are not"),
        ("mail4", ["v02", "v02"], "each once"),
    ):
        with pytest.raises(plans.PlanStepError, match=fault):
            plans.send(tmp_path, "day1", batch, pd.Series(voters), at=AT)
    assert plans.spent(tmp_path)["usd_spent"].sum() == pytest.approx(2 * 0.55)
    assert plans.plan_faults(tmp_path) == []


def test_what_is_withheld_is_told_by_reason_and_its_money_is_free(
    tmp_path: Path,
) -> None:
    locked(tmp_path, budget_usd=3.36)
    mail = plans.batches_of(tmp_path, "day1")["2026-09-01-mail"]
    withheld = pd.DataFrame({"voter_id": mail.iloc[:2], "reason": "withdrawn"})
    both = {"withheld": withheld, "list_sha256": "ab12", "at": AT}
    with pytest.raises(plans.PlanStepError, match="got 2 that are both"):
        plans.send(tmp_path, "day1", "2026-09-01-mail", mail, **both)
    record = plans.send(tmp_path, "day1", "2026-09-01-mail", mail.iloc[2:], **both)
    (step,) = record.of(plans.SENT)
    assert step.body["refused"] == {"withdrawn": 2}
    assert step.body["list_sha256"] == "ab12"
    row = plans.spent(tmp_path).set_index("channel").loc["mail"]
    assert row["n_planned"] == row["n_spent"] + row["n_withheld"] == 6
    assert row["usd_committed"] == pytest.approx(4 * 0.55)
    # two letters' money is there for another plan, three letters' is not
    plan, assigned = drawn(30)
    for n, fits in ((3, False), (2, True)):
        some, name = plan.iloc[:n], f"more{n}"
        mine = assigned[assigned["voter_id"].isin(some["voter_id"])]
        plans.draft(
            tmp_path, name, whole(some, mine), facts(budget_usd=3.36), keys=KEYS, at=AT
        )
        plans.approve(tmp_path, name, by="R. Approver", at=AT)
        if fits:
            plans.lock(tmp_path, name, at=AT)
        else:
            with pytest.raises(plans.PlanStepError, match=r"at most 1\.10 USD"):
                plans.lock(tmp_path, name, at=AT)


def test_set_up_fees_are_money_too(tmp_path: Path) -> None:
    with pytest.raises(plans.PlanStepError, match=r"at most 5\.00 USD.*got 8\.36"):
        locked(tmp_path, "dear", budget_usd=5.0, setup_usd=5.0)
    locked(tmp_path, "day1", budget_usd=9.0, setup_usd=5.0)
    fee = plans.spent(tmp_path).query("channel == 'set-up' and plan_id == 'day1'")
    assert fee[["usd_planned", "usd_committed", "usd_spent"]].to_numpy().tolist() == [
        [5.0, 5.0, 0.0]
    ]
    plans.send(tmp_path, "day1", "sms", pd.Series(["v04"]), at=AT)
    assert plans.spent(tmp_path)["usd_spent"].sum() == pytest.approx(5.03)
    plans.cancel(tmp_path, "day1", by="R. Approver", why="strike", at=AT)
    rows = plans.spent(tmp_path).query("plan_id == 'day1'")
    assert rows["usd_committed"].sum() == pytest.approx(5.03)


def test_failures_and_invoices_are_booked_once(tmp_path: Path) -> None:
    locked(tmp_path)
    plans.send(tmp_path, "day1", "mail", pd.Series(["v00", "v01"]), at=AT)
    plans.returned(tmp_path, "day1", failed=failed("v00"), invoices=paid(), at=AT)
    for voters, invoice, fault in (
        (("v02",), paid(1, "i2"), "were not sent"),
        (("v00",), paid(1, "i2"), "failed before"),
        ((), paid(2, "i1"), "one that is booked"),
        ((), paid(-1, "i3"), "0 or more"),
        ((), paid(1, "i3").assign(channel="door"), "the plan's channels mail, sms"),
    ):
        with pytest.raises(plans.PlanStepError, match=fault):
            plans.returned(
                tmp_path, "day1", failed=failed(*voters), invoices=invoice, at=AT
            )
    rows = plans.spent(tmp_path).set_index("channel")
    mail = rows.loc["mail"]
    assert (mail["n_planned"], mail["n_spent"], mail["n_failed"]) == (6, 2, 1)
    assert mail["usd_difference"] == pytest.approx(1.20 - 2 * 0.55)
    assert rows["n_planned"].sum() == 8


# --- whoever is forgotten -------------------------------------------------------------


def without(home: Path, voter: str) -> None:
    """What forgetting does to the files."""
    for path in (home / "plans" / "day1").rglob("*.parquet"):
        frame = pd.read_parquet(path)
        if "voter_id" in frame:  # designs are of nobody
            frame[frame["voter_id"] != voter].to_parquet(path)


def test_forgetting_changes_files_and_the_ledger_says_so(tmp_path: Path) -> None:
    locked(tmp_path)
    plans.forgetting(tmp_path, batch="b1", at=AT)
    without(tmp_path, "v00")
    assert len(plans.plan_faults(tmp_path)) == 2
    # cut off and taken up again
    plans.forgetting(tmp_path, batch="b1", at=AT)
    assert plans.forgotten(tmp_path, batch="b1", at=AT) == ["day1"]
    assert plans.forgotten(tmp_path, batch="b1", at=AT) == []
    assert plans.plan_faults(tmp_path) == []
    assert plans.n_forgotten(plans.record_of(tmp_path, "day1")) == 1
    voters = plans.batches_of(tmp_path, "day1")["2026-09-01-mail"]
    assert "v00" not in set(voters)
    plans.send(tmp_path, "day1", "2026-09-01-mail", voters, at=AT)


def test_a_file_that_was_altered_stays_so_whoever_is_forgotten(tmp_path: Path) -> None:
    locked(tmp_path)
    without(tmp_path, "v05")
    plans.forgetting(tmp_path, batch="b1", at=AT)
    without(tmp_path, "v00")
    plans.forgotten(tmp_path, batch="b1", at=AT)
    assert len(plans.plan_faults(tmp_path)) == 2


# --- one byte -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_a_byte_flipped_in_a_plans_file_names_the_file(
    seed: int, tmp_path: Path
) -> None:
    locked(tmp_path)
    plans.send(tmp_path, "day1", "mail", pd.Series(["v00", "v01"]), at=AT)
    rng = random.Random(seed)
    folder = tmp_path / "plans" / "day1"
    path = rng.choice(sorted(p for p in folder.rglob("*") if p.is_file()))
    flipped(path, rng)
    (fault,) = plans.plan_faults(tmp_path)
    assert fault.startswith(f"plans/day1/{path.relative_to(folder)}: ")


def flipped(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))


FIELDS = ("at", "kind", "subject", "body", "digest")


@pytest.mark.parametrize("seed", range(12))
def test_a_byte_flipped_in_the_ledger_names_the_entry(
    seed: int, tmp_path: Path
) -> None:
    locked(tmp_path)
    ledger, rng = open_ledger(tmp_path), random.Random(seed)
    entry = rng.choice(ledger.store.after(0, 100))
    field = rng.choice([f for f in FIELDS if getattr(entry, f)])
    value = getattr(entry, field)
    data = bytearray(value if isinstance(value, bytes) else value.encode())
    # the lowest bit: a text stays a text
    data[rng.randrange(len(data))] ^= 1
    spoilt = bytes(data) if isinstance(value, bytes) else data.decode()
    store = sqlite3.connect(tmp_path / LEDGER)
    store.execute("DROP TRIGGER ledger_no_update")
    with store:
        store.execute(
            f"UPDATE ledger SET {field} = ? WHERE seq = ?", (spoilt, entry.seq)
        )
    store.close()
    found = ledger.verify()
    assert found.fault.startswith(f"entry {entry.seq} (")
    assert found.n_entries == entry.seq - 1


def test_a_plan_that_the_ledger_does_not_know_is_named(tmp_path: Path) -> None:
    locked(tmp_path)
    shutil.copytree(tmp_path / "plans" / "day1", tmp_path / "plans" / "forged")
    (tmp_path / "plans" / "day1" / "added.txt").write_text("x")
    faults = plans.plan_faults(tmp_path)
    assert [fault.partition(":")[0] for fault in faults] == [
        "plans/day1/added.txt", "plans/forged",
    ]  # fmt: skip
