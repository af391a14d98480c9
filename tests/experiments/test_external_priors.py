"""What others bring into a run: a partner's lifts, priors; and votes to the plan."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.declaration import Campaign, CampaignError, feature_columns
from hustings.experiments.report import figures, write_report
from hustings.experiments.run import run_stage
from hustings.experiments.stages import external_priors, models
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.external_priors import write_known_effects
from hustings.features.ingest import TableSource
from hustings.features.partner import lift_column, with_partner_scores
from hustings.features.tables import PANEL, PARTNER_SCORES, PRIORS, TableError, check
from hustings.serving.load import load_version
from hustings.training.registry.register import Version, open_store
from tests.scores import by_message

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


def by_age(age: pd.Series) -> pd.Series:
    """What the panel's message does: 1 at 30, 10 at 75."""
    return 1 + (age - 30) / 5


def panel_of(run: Run, story: Any) -> pd.DataFrame:
    """Respondents drawn from the voters, the young three times as often."""
    voters = story.run.table("voters").dropna(subset="age")
    chance = np.where(voters["age"] < 45, 3.0, 1.0)
    drawn = voters.sample(
        6_000, weights=chance, replace=True, random_state=4
    ).reset_index(drop=True)
    second = run.table("messages")["message_id"][1]
    rng = np.random.default_rng(4)
    sent = rng.random(len(drawn)) < 0.5
    lift = by_age(drawn["age"]).to_numpy() * sent
    return pd.DataFrame(
        {
            "source": "pretest",
            "respondent_id": [f"R{i}" for i in range(len(drawn))],
            "message_id": np.where(sent, second, "control"),
            "value": 50 + lift + 5 * rng.normal(size=len(drawn)),
            "transport": 0.8,
            "transport_sd": 0.3,
            "age": drawn["age"],
        }
    )


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
    run.write("tables/panel", check(PANEL, panel_of(run, story)))
    write_known_effects(run, models._materials(run).reader)
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
    names = figures(evaluation, None, helped.table("messages"))
    policies = next(c for n, c in names.items() if n.endswith("/policies"))
    assert "Partner: acme" in policies.to_json()


def test_a_prior_is_told_beside_the_data_with_their_conflict(helped: Run) -> None:
    (found,) = told(helped.folder, "evaluation")["experiments"].values()
    first, second = helped.table("messages")["message_id"][:2]
    rows = {row["message_id"]: row for row in found["priors"]}
    assert set(rows) == {first, second}
    assert rows[first]["prior"]["value"] == pytest.approx(1.0)
    assert all(abs(row["conflict_z"]) < 10 for row in rows.values())


def test_a_panel_of_the_young_is_reweighted_to_the_voters(
    helped: Run, story: Any
) -> None:
    """Its message does most for the old: half its plain effect would be too little."""
    second = helped.table("messages")["message_id"][1]
    row = helped.read("priors").query("source == 'pretest'").iloc[0]
    assert (row["message_id"], row["kind"], row["transport"]) == (second, "panel", 0.8)
    panel = panel_of(helped, story)
    sent = panel["message_id"] == second
    plain = panel.loc[sent, "value"].mean() - panel.loc[~sent, "value"].mean()
    truth = by_age(story.run.table("voters")["age"].fillna(50)).mean()
    assert plain < truth - 1
    assert row["effect"] == pytest.approx(truth, abs=3 * row["se"])
    assert row["se"] < 0.5
    (found,) = told(helped.folder, "evaluation")["experiments"].values()
    overlap = found["panel_overlap"]["pretest"]
    assert overlap["effective_n"] < 0.8 * overlap["n"]
    assert 0 <= overlap["outside_share"] < 0.2
    assert overlap["worst_gap"] < 0.1


def test_a_panel_that_shares_no_column_is_refused(helped: Run) -> None:
    rows = helped.table("panel").drop(columns="age")
    reader = models._materials(helped).reader
    with pytest.raises(TableError, match="expected a column that is a feature"):
        external_priors._pretest(helped, reader, rows)


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
    scores = by_message(helped.read("scores"))
    scores = scores.set_index(["voter_id", "message_id"])["lift"]
    delivered = oracle(story).set_index(["voter_id", "message_id"])["lift"]
    np.testing.assert_allclose(scores.loc[delivered.index], delivered, rtol=1e-6)
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


@pytest.mark.slow
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
    scores = by_message(run.read("scores"))
    chances = run.read("chances")
    expected = (chances["turnout"] * chances["support"]).mean()
    assert scores["baseline"].mean() == pytest.approx(expected, abs=0.02)


def test_the_report_shows_the_partner_and_what_was_known_from_elsewhere(
    helped: Run, tmp_path: Path
) -> None:
    evaluation = told(helped.folder, "evaluation")
    page = tmp_path / "report.html"
    write_report(
        page,
        campaign=helped.campaign, sources=[],
        evaluation=evaluation, plan=helped.read("plan"),
        assignments=helped.read("assignments"), quarantine=helped.read("quarantine"),
        messages=helped.table("messages"), record=helped.record(), model_version="m/1",
    )  # fmt: skip
    words = page.read_text()
    for part in (
        "Partner: acme", "Lifts that partners delivered",
        "What was known from elsewhere", "Panel pretest: 6,000 ",
    ):  # fmt: skip
        assert part in words
