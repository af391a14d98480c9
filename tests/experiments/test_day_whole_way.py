"""Days from plan to proof on one campaign's files: locked, exported, sent, measured."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.experiments import plans
from hustings.experiments.declaration import LoopSection
from hustings.experiments.handover.evidence import replay
from hustings.experiments.handover.lists import EXPORTS, batches, export, stated
from hustings.experiments.lift.files import measure
from hustings.experiments.loop.run_day import day_folder, run_day
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.report import write_week
from hustings.experiments.week_facts import week_facts
from hustings.features.tables import CONTROL

FIRST = pd.Timestamp("2026-09-08")
AT = pd.Timestamp("2026-09-08 06:00", tz="UTC")
N_DAYS = 4


@pytest.fixture(scope="module")
def run(story: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Four locked days of the story's campaign, and answers to them by the truth."""
    home = tmp_path_factory.mktemp("way") / "spread"
    shutil.copytree(story.run.home, home)
    loop = LoopSection(channels=["mail", "sms"], wave_voters=0, explore_share=0.1)
    # half of the people held out: four days of few voters have to show a lift
    plan = story.run.campaign.plan.model_copy(update={"holdout_share": 0.5})
    campaign = story.run.campaign.model_copy(update={"loop": loop, "plan": plan})
    made = replace(
        story.run, campaign=campaign, home=home, folder=home / story.run.run_id
    )
    for k in range(N_DAYS):
        on = pd.Timedelta(days=k)
        run_day(made, date=FIRST + on, at=AT + on, approve_by="Ada Pell")
    return made


def plan_of(run: Any, k: int = 0) -> Path:
    return day_folder(run.home, FIRST + pd.Timedelta(days=k))


def answers(run: Any, story: Any, rng: np.random.Generator) -> pd.DataFrame:
    """Support of everybody decided: the baseline, the true lift of what came, noise."""
    rows = [pd.read_parquet(plan_of(run, k) / "assignments.parquet")
            for k in range(N_DAYS)]  # fmt: skip
    made = pd.concat(rows, ignore_index=True)
    truth = story.truth.loc[made["voter_id"]]
    value = truth["baseline"].to_numpy(float)
    for message in set(made["message_id"]) - {CONTROL}:
        mine = (made["message_id"] == message).to_numpy()
        times = made["channel"].map(story.multiplier).fillna(0.0).to_numpy()
        value = value + mine * times * truth[f"lift__{message}"].to_numpy(float)
    value = value + rng.normal(scale=4.0, size=len(value))
    return pd.DataFrame(
        {
            "voter_id": made["voter_id"], "experiment_id": "loop",
            "outcome": "support", "value": value,
            "observed_at": pd.Timestamp("2026-09-14"),
        }
    )  # fmt: skip


def of_all(told: dict[str, Any]) -> dict[str, Any]:
    """The row of all that was delivered."""
    rows = [r for r in told["rows"] if r["estimand"] == "delivered"]
    found: dict[str, Any] = next(
        r for r in rows if not r["message_id"] and not r["segment"]
    )
    return found


def test_what_is_planned_is_exported_or_refused_and_the_held_out_are_in_no_list(
    run: Any,
) -> None:
    plan_id = plan_of(run).name
    found = stated(run.home, plan_id, plans.state(run.home, plan_id))
    made = export(run, found, at=AT)
    assert made.folder is not None
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["planned"] == len(found.plan) > 0
    refused = sum(manifest["refused"].values())
    assert manifest["planned"] == manifest["exported"] + refused
    held = found.assignments.query("role == 'holdout'")["voter_id"]
    lists = "".join(p.read_text() for p in made.folder.rglob("*.csv") if p.is_file())
    listed = {line.split(",")[0].strip('"') for line in lists.splitlines()}
    assert set(found.plan["voter_id"]) <= listed
    assert not set(held) & listed


def test_what_is_handed_over_is_spent_once(run: Any) -> None:
    plan_id = plan_of(run).name
    for _ in range(2):
        for batch, voters in plans.batches_of(run.home, plan_id).items():
            told = batches(run.home / EXPORTS / plan_id)[batch]
            assert len(told.list_sha256) == 64
            handed = voters[~voters.isin(told.withheld["voter_id"])]
            plans.send(
                run.home, plan_id, batch, handed, at=AT,
                withheld=told.withheld, list_sha256=told.list_sha256,
            )  # fmt: skip
    money = plans.spent(run.home).query("plan_id == @plan_id")
    planned = pd.read_parquet(plan_of(run) / "plan.parquet")["cost_usd"].sum()
    assert money["usd_spent"].sum() == pytest.approx(planned)
    assert plans.state(run.home, plan_id) == plans.SENT


def test_every_day_is_computed_again_from_what_was_kept(run: Any) -> None:
    for k in range(N_DAYS):
        assert replay(run.home, plan_of(run, k).name).same
    assert open_ledger(run.home).verify().fault == ""


def test_the_lift_that_is_measured_is_the_true_one_of_what_was_delivered(
    run: Any, story: Any
) -> None:
    rng = np.random.default_rng(4)
    responses = answers(run, story, rng)
    found, told = measure(run, pd.Timestamp("2026-10-01"), responses=responses)
    plans = [pd.read_parquet(plan_of(run, k) / "assignments.parquet")
             for k in range(N_DAYS)]  # fmt: skip
    meant = pd.concat(plans).query(
        "intended_message_id != 'control' and role != 'explore'"
    )
    times = meant["intended_channel"].map(story.multiplier).to_numpy()
    lift = story.truth.loc[meant["voter_id"]].filter(like="lift__")
    column = lift.columns.get_indexer(pd.Index("lift__" + meant["intended_message_id"]))
    truth = float((times * lift.to_numpy()[np.arange(len(lift)), column]).mean())
    whole = of_all(told)
    assert whole["always_low"] < truth < whole["always_high"]
    assert whole["always_low"] > 0
    assert not found.ratio.alarm
    # the same people under shuffled answers: nothing is left
    shuffled = responses.assign(value=rng.permutation(responses["value"].to_numpy()))
    _, nil = measure(run, pd.Timestamp("2026-10-01"), responses=shuffled)
    none = of_all(nil)
    assert none["always_low"] < 0 < none["always_high"]


def test_the_week_has_its_money_and_its_lift(run: Any) -> None:
    money = plans.spent(run.home).rename(columns={"usd_spent": "spent_usd"})
    facts = week_facts(
        run.home, run.campaign, last_on=FIRST + pd.Timedelta(days=N_DAYS - 1),
        spend=money, states={n: p.state for n, p in plans.plans(run.home).items()},
    )  # fmt: skip
    assert len(facts.spend) >= N_DAYS
    assert facts.spend[0]["spent_usd"] > 0
    assert {row["message_id"] for row in facts.lift} > {"all"}
    assert facts.outcomes is not None
    assert facts.outcomes["came_in"] > 0
    page = run.home / "week.html"
    write_week(page, facts)
    assert "Measured against predicted" in page.read_text()
