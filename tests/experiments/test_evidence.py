"""The evidence of a plan: complete, checkable by itself, and the plan replayed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments import plans
from hustings.experiments.cli import FAILED, OK, app
from hustings.experiments.declaration import load_campaign
from hustings.experiments.handover.evidence import (
    EXTRACT,
    MANIFEST,
    RECIPIENTS,
    check_bundle,
    recipients,
    replay,
    write_evidence,
)
from hustings.experiments.plans.designs import Belief
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.plans.planner_inputs import (
    designed_again,
    inputs_of,
    planned_again,
    tables_of,
)
from hustings.experiments.stages.persons import known_persons, voter_keys
from hustings.features.training_set import Arm
from hustings.serving.plan import PlanSettings

AT = pd.Timestamp("2026-09-01T06:00:00Z")
N, PLAN = 300, "day1"


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign with one plan, sent and come back, as the planner makes it."""
    home = tmp_path_factory.mktemp("evidence") / "sample"
    ids = np.array([f"V{i:05}" for i in range(N)], dtype=object)
    known = known_persons(home)
    voters = tmp_path_factory.mktemp("file") / "voters.parquet"
    pd.DataFrame({"voter_id": ids, "household_id": ids}).to_parquet(voters)
    known.remember(voters, {}, observed_on=f"{AT:%Y-%m-%d}")
    rng = np.random.default_rng(3)
    arms = [Arm("trade", "mail"), Arm("tax", "sms")]
    inputs = inputs_of(
        ids, ids, rng.normal(0.01, 0.02, (N, 2)), rng.random((N, 2)) < 0.9, arms,
        np.array([0.5, 0.03]),
        PlanSettings(
            salt="s", holdout_share=0.1, explore_share=0.1, budget_usd=40.0,
            start_on=pd.Timestamp("2026-09-02"), days=3, capacity={"mail": 20.0},
            capacity_per_day=None,
        ),
        [7, N],
        Belief(("spring", "spring"), "hustings-sample/3"),
    )  # fmt: skip
    plan = planned_again(inputs)
    facts = plans.PlanFacts(
        "hustings-sample/3", "us_default", {"audiences": {"all": inputs.terms}},
        {"budget": 0.1}, run_id="r1",
    )  # fmt: skip
    _run_of(home / "r1")
    plans.draft(
        home,
        PLAN,
        tables_of([(plan.contacts, designed_again(inputs, plan))]),
        facts,
        keys=voter_keys(home, pd.Series(ids)),
        at=AT,
        further_tables={"inputs-all": inputs.frames()},
    )
    plans.approve(home, PLAN, by="R. Approver", at=AT)
    plans.lock(home, PLAN, at=AT)
    batch, sent = next(iter(plans.batches_of(home, PLAN).items()))
    plans.send(home, PLAN, batch, sent, at=AT)
    first = sent.iloc[:1].to_frame().assign(reason="moved")
    bills = pd.DataFrame(columns=["invoice", "channel", "send_on", "amount_usd"])
    plans.returned(home, PLAN, failed=first, invoices=bills, at=AT)
    return home


def _run_of(run: Path) -> None:
    (run / "tables").mkdir(parents=True)
    messages = pd.DataFrame(
        {"message_id": ["trade", "tax"], "issue": ["trade", "tax"],
         "text": ["Trade feeds us.", "Fair taxes."], "sponsor": ["Ann's Friends", None],
         "disclaimer": ["Paid for by Ann's Friends", None], "discloses": "none"}
    )  # fmt: skip
    messages.to_parquet(run / "tables" / "messages.parquet")
    told = {
        "promoted": {"name": "x", "tags": {"verdict": "V", "data_hash": "d1"}},
        "evaluation": {"headline": {"verdict": "V"}},
        "dictionary": {
            "entries": [
                {"name": "age", "special_category": "no"},
                {"name": "religion", "special_category": "declared"},
            ]
        },
    }
    for name, value in told.items():
        (run / f"{name}.json").write_text(json.dumps(value))


@pytest.fixture
def home(once: Path, tmp_path: Path) -> Path:
    """The campaign, to be spoilt."""
    shutil.copytree(once, tmp_path / "sample")
    return tmp_path / "sample"


def written(home: Path, *, by_id: bool = False) -> Path:
    out = home.parent / "bundle"
    campaign = load_campaign("sample")
    return write_evidence(campaign, home, PLAN, out, by_id=by_id, at=AT)


def told(out: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / f"{name}.json").read_text())
    return found


# --- what the bundle says -------------------------------------------------------------


def test_every_assignment_is_told_with_its_reason_and_what_came_of_it(
    home: Path,
) -> None:
    rows = recipients(home, plans.record_of(home, PLAN), by_id=True)
    assigned = pd.read_parquet(home / "plans" / PLAN / "assignments.parquet")
    assert rows["person"].tolist() == assigned["voter_id"].tolist()
    assert rows["propensity"].tolist() == assigned["propensity"].tolist()
    assert rows["why"].notna().all()
    (batch,) = plans.record_of(home, PLAN).of(plans.SENT)
    assert (rows["batch"] == batch.key).sum() == sum(
        row["n"] for row in batch.body["amounts"]
    )
    assert rows["failed"].value_counts()["moved"] == 1


def test_a_pseudonym_leads_to_the_entry_and_names_nobody(home: Path) -> None:
    out = written(home)
    rows = pd.read_parquet(home / "plans" / PLAN / "assignments.parquet")
    names = (out / RECIPIENTS).read_text().splitlines()[1].split(",")[0]
    lines = [json.loads(line) for line in (out / EXTRACT).read_text().splitlines()]
    (entry,) = [line for line in lines if line.get("subject") == names]
    assert json.loads(entry["body"])[3] == rows["propensity"].iloc[0]
    for path in out.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert not [v for v in rows["voter_id"] if v in text], path.name


def test_sponsor_notice_sources_and_model_are_told(home: Path) -> None:
    out = written(home)
    notices = json.dumps(told(out, "notices"))
    for words in ("Ann's Friends", "Trade feeds us.", "2026-09-02", "none stated",
                  "and be forgotten"):  # fmt: skip
        assert words in notices
    sources = load_campaign("sample").tables
    assert set(told(out, "sources")["tables"]) == set(sources)  # type: ignore[call-overload]
    card = told(out, "model_card")
    assert (card["verdict"], card["training_data_sha256"]) == ("V", "d1")
    assert card["columns"] == {
        "special category: no": ["age"], "special category: declared": ["religion"],
    }  # fmt: skip
    assert told(out, "plan")["approved_by"] == ["R. Approver"]
    assert list((out / "rules").iterdir())


def test_what_a_run_that_is_gone_knew_is_said_to_be_gone(home: Path) -> None:
    shutil.rmtree(home / "r1")
    card = told(written(home), "model_card")
    assert "not kept" in str(card["verdict"])


# --- what it proves -------------------------------------------------------------------


def test_a_bundle_can_be_checked_by_itself(home: Path) -> None:
    out = written(home)
    assert check_bundle(out) == []
    said = CliRunner().invoke(app, ["evidence", "--check", str(out)])
    assert said.exit_code == OK
    assert "Nothing was altered" in said.output
    lines = (out / EXTRACT).read_text().splitlines()
    # altered, and the manifest made to fit
    k = next(i for i, line in enumerate(lines) if "explore" in line and i > 1)
    spoilt = [*lines]
    spoilt[k] = lines[k].replace("explore", "plan", 1)
    (out / EXTRACT).write_text("\n".join(spoilt) + "\n")
    faults = check_bundle(out)
    seq = json.loads(lines[k])["seq"]
    assert f"{EXTRACT}: entry {seq} was altered" in faults
    assert f"{EXTRACT}: expected the file of the manifest" in faults
    # a regulator has the bundle and the command, and no campaign
    said = CliRunner().invoke(app, ["evidence", "--check", str(out)])
    assert said.exit_code == FAILED
    assert f"entry {seq} was altered" in said.output


def test_an_extract_that_was_cut_is_found(home: Path) -> None:
    out = written(home)
    lines = (out / EXTRACT).read_text().splitlines()
    (out / EXTRACT).write_text("\n".join(lines[:-1]) + "\n")
    assert any("its end is not the one" in fault for fault in check_bundle(out))


def test_no_evidence_is_written_of_altered_files(home: Path) -> None:
    path = home / "plans" / PLAN / "plan.parquet"
    frame = pd.read_parquet(path)
    frame.loc[0, "message_id"] = "tax"
    frame.to_parquet(path)
    with pytest.raises(ValueError, match="no evidence was written"):
        written(home)
    assert not (home.parent / "bundle").exists()


def test_the_ledger_says_that_evidence_was_written(home: Path) -> None:
    out = written(home)
    (entry,) = open_ledger(home).of_nobody("evidence")
    manifest = json.loads((out / MANIFEST).read_text())
    assert entry.seq == manifest["ledger_end"]["seq"] + 1
    with pytest.raises(FileExistsError):
        written(home)


# --- computed again -------------------------------------------------------------------


def test_a_plan_replays_byte_for_byte(home: Path) -> None:
    found = replay(home, PLAN)
    assert found.same
    assert [line.partition(":")[0] for line in found.lines] == [
        "plan.parquet", "assignments.parquet", "designs.parquet",
    ]  # fmt: skip


def test_another_input_gives_another_plan_and_is_told(home: Path) -> None:
    path = home / "plans" / PLAN / "inputs-all.parquet"
    frame = pd.read_parquet(path)
    frame["lift:0"] = -frame["lift:0"]
    frame.to_parquet(path)
    found = replay(home, PLAN)
    assert not found.same
    assert found.lines[0].startswith("plan.parquet: differs: ")


def test_who_was_forgotten_is_missing_from_the_replay_and_it_says_so(
    home: Path,
) -> None:
    plans.forgetting(home, batch="b1", at=AT)
    for path in (home / "plans" / PLAN).rglob("*.parquet"):
        frame = pd.read_parquet(path)
        if "voter_id" in frame:  # designs are of nobody
            frame[frame["voter_id"] != "V00003"].to_parquet(path)
    plans.forgotten(home, batch="b1", at=AT)
    found = replay(home, PLAN)
    assert not found.same
    assert "1 requests to be forgotten" in found.lines[0]
    assert check_bundle(written(home)) == []
