"""The policy that is judged is the one that is planned, under the plan's limits."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.declaration import CampaignError, load_campaign
from hustings.experiments.report.plan import plan_section
from hustings.experiments.run import run_stage
from hustings.experiments.stages.context import Run
from hustings.training.policy_value.policies import Policy
from hustings.training.registry.register import earlier_attempts, open_store
from tests.experiments.test_run import declared

N_VOTERS = 6_000
CALLS = 0.02
"""Calls per voter that the phones allow over all days: money would buy many more."""


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small simulated campaign whose phones reach two voters in a hundred."""
    home = tmp_path_factory.mktemp("judged")
    small = {"n_voters": N_VOTERS, "n_messages": 3, "seed": 4}
    campaign = declared(load_campaign("sample"), simulate=small)
    run = Run(
        campaign, home / "runs", home / "runs" / "one", "one", home / "mlflow",
        n_trials=1, model="linear", at=pd.Timestamp("2026-06-01", tz="UTC"),
    )  # fmt: skip
    for stage in ("ingest", "features"):
        run_stage(run, stage)
    costs = run.table("costs")
    per_day = CALLS * N_VOTERS / campaign.plan.days
    is_phone = costs["channel"] == "phone"
    costs["capacity_per_day"] = costs["capacity_per_day"].astype(float)
    costs.loc[is_phone, "capacity_per_day"] = per_day
    # the phone is worth its price: without its limit everybody would be called
    costs.loc[is_phone, "cost_usd"] = costs.loc[~is_phone, "cost_usd"].min() * 1.05
    run.write("tables/costs", costs)
    return run


@pytest.fixture(scope="module")
def judged(
    ingested: Run,
    one_thread: None,  # noqa: ARG001 - for its effect
) -> Run:
    """The same, trained, judged and registered."""
    folder = ingested.home / "judged"
    shutil.copytree(ingested.folder, folder)
    run = replace(ingested, folder=folder, run_id="judged")
    for stage in ("train", "evaluate", "promote"):
        run_stage(run, stage)
    return run


@pytest.fixture
def planned(judged: Run, tmp_path: Path) -> Callable[[str], Run]:
    """The campaign planned by a policy."""

    def by(policy: str) -> Run:
        folder = tmp_path / policy
        shutil.copytree(judged.folder, folder)
        campaign = declared(judged.campaign, plan={"policy": policy})
        run = replace(judged, campaign=campaign, folder=folder, run_id=policy)
        run_stage(run, "plan")
        return run

    return by


@pytest.mark.parametrize("policy", ["single_best", "personalised"])
def test_shares_and_spend_agree_where_the_phones_are_the_limit(
    planned: Callable[[str], Run], policy: str
) -> None:
    run = planned(policy)
    (one,) = run.record().plan.judged
    assert one.policy == policy
    by_channel: dict[str, list[float]] = {}
    for arm in one.arms:
        sums = by_channel.setdefault(arm.channel, [0.0, 0.0])
        sums[0] += arm.judged
        sums[1] += arm.planned
    # by mail and by text a message is worth the same for its money, nearly: halves
    # differ in which they choose, and a text costs half
    for channels, within in ((["phone"], 0.03), (["mail", "sms"], 0.08)):
        as_judged, as_planned = np.sum([by_channel[c] for c in channels], axis=0)
        assert as_judged == pytest.approx(as_planned, abs=within), channels
    # exploring voters are called too
    assert by_channel["phone"][0] <= CALLS + 1e-3
    assert by_channel["phone"][0] > 0.8 * CALLS
    assert by_channel["phone"][1] <= CALLS
    assert one.judged_usd == pytest.approx(one.planned_usd, rel=0.1)
    assert one.agrees or "contacts per 100 voters as judged" in one.why
    (result,) = run.read_json("evaluation")["experiments"].values()
    assert result["policies"][policy]["limited"]
    assert one.gain.as_dict() == result["policies"][policy]["gain"]
    page = plan_section(
        run.campaign, N_VOTERS, run.read("plan"), run.read("assignments"),
        run.table("messages"), run.record().plan, {},
    )  # fmt: skip
    assert "whose gain was judged under the limits of this plan" in page


def test_the_single_best_is_one_message_by_every_channel_that_pays(
    planned: Callable[[str], Run],
) -> None:
    run = planned("single_best")
    sent = run.read("plan").query("role == 'plan'")
    stored = run.read_json("plan")["audiences"]["all"]["policy"]
    assert set(sent["message_id"]) == set(stored["messages"])
    assert len(set(sent["channel"])) > 1
    # the object that the registered model keeps is the one that was applied
    (policies,) = run.read_json("policies").values()
    assert Policy.from_json(stored) == Policy.from_json(policies["single_best"])


@pytest.mark.slow
def test_each_policy_can_be_planned_by_name_and_an_unknown_one_is_refused(
    planned: Callable[[str], Run],
) -> None:
    for name in ("nobody", "segment_best", "group_platform", "one_covariate"):
        run = planned(name)
        assert run.read_json("plan")["audiences"]["all"]["policy"]["name"] == name
        by_plan = run.read("plan").query("role == 'plan'")
        assert (len(by_plan) == 0) == (name == "nobody")
    with pytest.raises(CampaignError, match=r"\[plan\].policy: .*expected one of"):
        planned("a_new_one")


def test_where_nothing_may_be_sent_nothing_is_learnt_and_no_attempt_is_counted(
    ingested: Run, tmp_path: Path
) -> None:
    """Voters who gave no consent, under a regulation that asks for it."""
    folder = tmp_path / "forbidden"
    shutil.copytree(ingested.folder, folder)
    campaign = declared(ingested.campaign, campaign={"rule_set": "eu_2024_900"})
    run = replace(
        ingested, campaign=campaign, folder=folder, run_id="forbidden",
        store=tmp_path / "mlflow",
    )  # fmt: skip
    nobody_agreed = run.optional_table("permissions")
    if nobody_agreed is not None:
        run.write("tables/permissions", nobody_agreed.iloc[:0])
    run_stage(run, "train")
    assert not (folder / "candidates").exists()
    run_stage(run, "evaluate")
    evaluation = run.read_json("evaluation")
    (result,) = evaluation["experiments"].values()
    assert evaluation["headline"]["verdict"] == "nothing_may_be_sent"
    assert result["champion"] == "nobody"
    assert result["gate"]["forbidden_by"]
    assert "rule set eu_2024_900" in evaluation["headline"]["sentence"]
    open_store(None, run.store)
    assert earlier_attempts(campaign.campaign.name, data_hash="other data") == 0
    with pytest.raises(CampaignError, match="Nothing may be sent, because"):
        run_stage(run, "promote")
