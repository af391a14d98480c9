"""What others bring into a run: a partner's lifts, priors; and votes to the plan."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.report import figures
from experiments.run import Run, run_stage
from experiments.spec import Campaign, CampaignError, feature_columns
from features.ingest import TableSource
from features.partner import lift_column, with_partner_scores
from features.tables import PARTNER_SCORES, PRIORS, check
from serving.load import load_version
from training.register import Version, open_store

ACME = "acme"


def told(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


def copied(story: Any, home: Path, **outcome: Any) -> Run:
    """A copy of the finished run with a store of its own."""
    shutil.copytree(story.run.folder, home / "again")
    shipped = story.run.campaign
    changed = shipped.outcome.model_copy(update=outcome)
    campaign: Campaign = shipped.model_copy(update={"outcome": changed})
    campaign._file = shipped.file
    run: Run = replace(
        story.run, home=home, folder=home / "again", run_id="again",
        store=home / "mlflow", campaign=campaign, n_trials=1,
    )  # fmt: skip
    said = told(run.folder, "run")
    run.write_json("run", {k: v for k, v in said.items() if k != "mlflow_run_id"})
    return run


def oracle(story: Any) -> pd.DataFrame:
    """True lifts of every other voter by the mix of channels."""
    voters = story.run.table("voters")["voter_id"].iloc[::2]
    lifts = story.truth.loc[voters].filter(like="lift__")
    lifts.columns = lifts.columns.str.removeprefix("lift__")
    mix = float(np.mean(list(story.multiplier.values())))
    long = lifts.mul(mix).rename_axis("voter_id").reset_index()
    rows = long.melt("voter_id", var_name="message_id", value_name="lift").assign(
        provider=ACME, observed_on=pd.Timestamp(2026, 3, 1)
    )
    return check(PARTNER_SCORES, rows)


@pytest.fixture(scope="module")
def helped(story: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The story judged again with a partner's lifts and a vendor's figure."""
    run = copied(story, tmp_path_factory.mktemp("helped"))
    scores = oracle(story)
    run.write("tables/partner_scores", scores)
    run.write("tables/voters", with_partner_scores(run.table("voters"), scores))
    first = run.table("messages")["message_id"][0]
    prior = {
        "message_id": [first], "source": "vendor", "kind": "topline", "effect": 2.0,
        "se": 0.5, "transport": 0.5, "transport_sd": 0.2, "n": 800.0,
    }  # fmt: skip
    run.write("tables/priors", check(PRIORS, pd.DataFrame(prior)))
    run_stage(run, "evaluate")
    return run


def test_a_partner_is_judged_beside_the_others_and_its_slope_told(helped: Run) -> None:
    evaluation = told(helped.folder, "evaluation")
    (found,) = evaluation["experiments"].values()
    row = found["policies"]["partner:acme"]
    budget = helped.campaign.plan.spend_per_voter_usd
    assert budget is not None
    assert row["spend_per_voter_usd"] <= budget + 1e-9
    slope = found["partners"]["partner:acme"]["slope"]
    assert slope["low"] < 1 < slope["high"]
    names = figures(evaluation, {}, helped.table("messages"))
    policies = next(c for n, c in names.items() if n.endswith("/policies"))
    assert "Partner: acme" in policies.to_json()


def test_a_prior_is_told_beside_the_data_with_their_conflict(helped: Run) -> None:
    (found,) = told(helped.folder, "evaluation")["experiments"].values()
    (row,) = found["priors"]
    assert row["prior"]["value"] == pytest.approx(1.0)
    assert np.isfinite(row["conflict_z"])


def test_a_partner_that_wins_is_registered_and_scores_whom_it_knows(
    helped: Run, story: Any
) -> None:
    evaluation = told(helped.folder, "evaluation")
    ((name, found),) = evaluation["experiments"].items()
    found["champion"] = "partner:acme"
    helped.write_json("evaluation", evaluation)
    for stage in ("promote", "score"):
        run_stage(helped, stage)
    open_store(None, helped.store)
    promoted = told(helped.folder, "promoted")
    version = Version(
        promoted["name"], promoted["version"], promoted["run_id"], promoted["tags"]
    )
    model = load_version(version)
    assert model.champions == {name: "partner:acme"}
    scores = helped.read("scores").set_index(["voter_id", "message_id"])["lift"]
    delivered = oracle(story).set_index(["voter_id", "message_id"])["lift"]
    np.testing.assert_allclose(scores.loc[delivered.index], delivered)
    # whom the partner does not know: one average effect a message
    rest = scores.drop(delivered.index)
    assert rest.groupby("message_id", observed=True).nunique().max() == 1


def test_a_partners_lifts_are_features_only_where_the_licence_names_them(
    helped: Run,
) -> None:
    columns = list(helped.table("voters").columns)
    message = helped.table("messages")["message_id"][0]
    named = lift_column(ACME, message)
    assert named in columns

    def campaign(pattern: str, permitted_use: str) -> Campaign:
        source = TableSource(
            path="x.csv", source="acme", licence="bought", permitted_use=permitted_use
        )
        shipped = helped.campaign
        made = shipped.model_copy(
            update={
                "features": shipped.features.model_copy(update={"columns": [pattern]}),
                "tables": {**shipped.tables, "partner_scores": source},
            }
        )
        made._file = shipped.file
        return made

    assert named not in feature_columns(campaign("*", "comparison"), columns)
    with pytest.raises(CampaignError, match=r"names 'features', got none"):
        feature_columns(campaign(named, "comparison"), columns)
    allowed = feature_columns(campaign("partner*", "comparison and features"), columns)
    assert named in allowed
    assert not [c for c in allowed if c.startswith("partner_width")]


def test_a_campaign_that_counts_votes_runs_to_a_plan_in_votes(
    story: Any, tmp_path: Path
) -> None:
    run = copied(story, tmp_path, value="votes")
    for stage in ("train", "evaluate", "promote", "score", "plan"):
        run_stage(run, stage)
    evaluation = told(run.folder, "evaluation")
    assert evaluation["outcome"]["label"].startswith("votes (")
    assert evaluation["outcome"]["unit_per_point"] == 0.01
    assert "of 'votes (" in evaluation["headline"]["sentence"]
    (found,) = evaluation["experiments"].values()
    assert found["policies"]["best_mix"]["gain"]["value"] > 0
    # support moves by points in a hundred, and half of the people vote
    plan = run.read("plan")
    assert 0 < plan["lift"].mean() < 0.1
    scores = run.read("scores")
    chances = run.read("chances")
    expected = (chances["turnout"] * chances["support"]).mean()
    assert scores["baseline"].mean() == pytest.approx(expected, abs=0.02)
