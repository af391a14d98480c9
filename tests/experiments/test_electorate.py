"""A plan for voters who are not like those tested, through the command.

Of 6,000 invented voters a quarter are tested; what the others are like is planted.
"""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.cli import BAD_INPUT, OK
from tests.experiments.test_right_reason import (
    DECLARED,
    QUICK,
    Drawn,
    hustings,
    results_of,
)

N, N_TESTED = 6_000, 1_500
ARMS = {"control": 0.5, "jobs": 0.5}
Lift = Callable[[pd.DataFrame], Any]


def canvass(
    folder: Path, *, seed: int, lift: Lift, chance: Lift, policy: str = "best_mix"
) -> Path:
    """A campaign that tests some of its voters; only they have answered a survey.

    Args:
        folder: Of the campaign.
        seed: Draws voters, who is tested, and outcomes.
        lift: Of a voter's support, by what is known of the voter.
        chance: Relative chance to be tested.
        policy: That is planned.
    """
    campaign = Drawn(N, seed)
    voters, rng = campaign.frames["voters"], np.random.default_rng(seed)
    weight = np.broadcast_to(np.asarray(chance(voters), dtype=float), N)
    tested = rng.choice(N, N_TESTED, replace=False, p=weight / weight.sum())
    # the tested come first: experiments are drawn by rows
    order = np.concatenate([tested, np.setdiff1d(np.arange(N), tested)])
    campaign.frames["voters"] = voters = voters.iloc[order].reset_index(drop=True)
    campaign.add("test", slice(0, N_TESTED), ARMS)
    people = voters.merge(campaign.frames["deliveries"])
    sent = people["message_id"] != "control"
    campaign.frames["responses"]["value"] += (sent * lift(people)).to_numpy()
    voters["survey"] = rng.integers(0, 100, N).astype(float)
    voters.loc[N_TESTED:, "survey"] = np.nan
    plan = {**tomllib.loads(DECLARED)["plan"], "policy": policy, "budget_usd": 3_000.0}
    tables = tomllib.loads(DECLARED)["tables"]
    with_survey = tables | {
        "voters": tables["voters"] | {"extra": {"survey": "survey"}}
    }
    exclude = [] if policy == "personalised" else ["survey"]
    campaign.frames["voters"] = voters
    return campaign.write(
        folder, plan=plan, tables=with_survey, outcome={"scale": [-50.0, 150.0]},
        features={"exclude": exclude},
    )  # fmt: skip


def electorate(folder: Path) -> dict[str, Any]:
    evaluation = json.loads((results_of(folder) / "evaluation.json").read_text())
    return dict(evaluation["experiments"]["test"]["checks"]["electorate"])


@pytest.mark.usefixtures("one_thread")
def test_personal_lifts_by_a_survey_that_only_the_tested_answered_are_not_planned(
    tmp_path: Path,
) -> None:
    folder = canvass(
        tmp_path / "survey", seed=1, lift=lambda v: 8.0 + 0 * v["age"],
        chance=lambda _: 1.0, policy="personalised",
    )  # fmt: skip
    done = hustings(folder, "run", *QUICK)
    assert done.exit_code == BAD_INPUT, done.output
    said = " ".join(done.output.split())
    reason = "survey is missing for 75 % of the planned and for 0 % of the tested"
    assert reason in said
    assert "1,500 of 6,000 were in it" in said
    assert '[plan] policy = "best_mix"' in said
    assert not (results_of(folder) / "plan.parquet").exists()
    assert not electorate(folder)["ok"]
    # by the average the same model is planned, and the report says what is not known
    declared = (folder / "campaign.toml").read_text()
    declared = declared.replace('policy = "personalised"', 'policy = "best_mix"')
    (folder / "campaign.toml").write_text(declared)
    for command in ("plan", "report"):
        done = hustings(folder, command)
        assert done.exit_code == OK, done.output
    assert len(pd.read_parquet(results_of(folder) / "plan.parquet")) > 1_000
    page = (results_of(folder) / "report.html").read_text()
    assert "they are not like the tested: survey is missing for 75 %" in page


@pytest.mark.usefixtures("one_thread")
def test_where_the_tested_are_younger_lifts_are_carried_over_by_weights(
    tmp_path: Path,
) -> None:
    # a message that does more to the old, tried on the young
    def lift(voters: pd.DataFrame) -> Any:
        return 2.0 + 0.2 * (voters["age"] - 20)

    folder = canvass(
        tmp_path / "young", seed=2, lift=lift,
        chance=lambda v: np.exp(-(v["age"] - 20) / 30),
    )  # fmt: skip
    done = hustings(folder, "run", *QUICK)
    assert done.exit_code == OK, done.output
    check = electorate(folder)
    assert check["verdict"] == "reweighted"
    assert check["auc"] > 0.6
    assert check["effective_n"] < 0.9 * N_TESTED
    voters = pd.read_parquet(results_of(folder) / "tables" / "voters.parquet")
    of_planned, of_tested = (
        float(lift(rows).mean()) for rows in (voters, voters[voters["survey"].notna()])
    )
    (row,) = check["messages"]
    planned, tested = row["planned"], row["tested"]
    se = (planned["high"] - planned["low"]) / (2 * 1.96)
    assert abs(planned["value"] - of_planned) < 3 * se
    assert abs(tested["value"] - of_tested) < 3 * se
    # the truth differs by more than the weights leave open
    assert of_planned - of_tested > 2.0
    assert planned["value"] - tested["value"] > 1.0
    assert planned["high"] - planned["low"] > tested["high"] - tested["low"]
    page = (results_of(folder) / "report.html").read_text()
    assert "Weighted to stand for them, the tested are worth" in page
