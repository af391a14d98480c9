"""A campaign's later voter files: read, scored and planned by the registered model."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import BAD_INPUT, MISSING, OK, app
from hustings.features.simulated.campaign import simulate, write_sample

N_VOTERS = 600
WEEK = "2026-09-05"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Campaign:
    """A campaign's folder, and where its runs lie.

    Attributes:
        folder: Of campaign.toml and raw/.
        home: Of runs and registry.
    """

    folder: Path
    home: Path

    def hustings(self, command: str, *options: str, code: int = OK) -> str:
        """What a command says."""
        arguments = [
            command, "--campaign", str(self.folder), *options,
            "--data", str(self.home / "runs"),
        ]  # fmt: skip
        if command != "plans":
            arguments += ["--store", str(self.home / "mlflow")]
        result = CliRunner().invoke(app, arguments, env={"MLFLOW_TRACKING_URI": None})
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    @property
    def runs(self) -> Path:
        """Folder of the campaign's runs."""
        return self.home / "runs" / "spread"

    @property
    def latest(self) -> Path:
        """Folder of the latest run."""
        return self.runs / (self.runs / "latest").read_text()

    def table(self, name: str) -> pd.DataFrame:
        """A table of the latest run."""
        return pd.read_parquet(self.latest / f"{name}.parquet")

    def facts(self) -> dict:
        """What the latest run notes of itself."""
        return json.loads((self.latest / "run.json").read_text())

    def declare(self, old: str, new: str) -> None:
        """Change the declaration."""
        path = self.folder / "campaign.toml"
        assert path.read_text().count(old) == 1
        path.write_text(path.read_text().replace(old, new))


def brought(folder: Path) -> None:
    """A campaign folder with its raw files, of a campaign that never ran."""
    write_sample(simulate(n_voters=N_VOTERS, seed=7, n_messages=3), folder / "raw")
    shipped = (ROOT / "experiments" / "sample" / "campaign.toml").read_text()
    start, end = shipped.index("[simulate]"), shipped.index("[outcome]")
    declared = (shipped[:start] + shipped[end:]).replace('"raw:', '"raw/')
    (folder / "campaign.toml").write_text(
        declared.replace('name = "sample"', 'name = "spread"')
    )


def next_file(campaign: Campaign) -> dict[str, set[str]]:
    """A file of 5 September: 10 % new, 5 % gone, one merged id, some who moved."""
    rng = np.random.default_rng(1)
    raw = campaign.folder / "raw"
    voters = pd.read_parquet(raw / "voters.parquet")
    ids = voters["voter_id"].to_numpy()
    merged, into = ids[10], ids[40]
    others = np.setdiff1d(ids, [merged, into])
    gone = set(rng.choice(others, len(ids) // 20, replace=False))
    stay = voters[~voters["voter_id"].isin({*gone, merged})]
    moved = rng.choice(np.setdiff1d(others, list(gone)), 100, replace=False)
    stay = stay.assign(
        age=stay["age"] + 1,
        household_id=stay["household_id"].mask(
            stay["voter_id"].isin(moved), "H" + stay["voter_id"]
        ),
        voted_20260802_primary=1.0,
    )
    new = voters.sample(len(ids) // 10, random_state=2)
    new = new.assign(
        voter_id=[f"N{k:07d}" for k in range(len(new))],
        household_id=[f"HN{k:07d}" for k in range(len(new))],
        birth_year=new["birth_year"] - 1, voted_20260802_primary=0.0,
    )  # fmt: skip
    pd.concat([stay, new], ignore_index=True).to_parquet(raw / "week.parquet")
    messages = pd.read_parquet(raw / "messages.parquet")
    never_sent = messages.tail(1).assign(message_id="never_sent", text="Never sent.")
    pd.concat([messages, never_sent], ignore_index=True).to_parquet(
        raw / "messages.parquet"
    )
    both = voters.loc[voters["voter_id"].isin([merged, into]), "household_id"]
    mates = voters.loc[voters["household_id"].isin(both), "voter_id"]
    merges = pd.DataFrame({"voter_id": [merged], "merged_into": [into]})
    merges.to_parquet(raw / "merges.parquet")
    campaign.declare('path = "raw/voters.parquet"', 'path = "raw/week.parquet"')
    campaign.declare("observed_on = 2026-03-15", f"observed_on = {WEEK}")
    campaign.declare(
        '"2024-11-05 general"',
        '"2026-08-02 primary" = "voted_20260802_primary"\n"2024-11-05 general"',
    )
    with (campaign.folder / "campaign.toml").open("a") as file:
        file.write(
            '\n[tables.merges]\npath = "raw/merges.parquet"\nsource = "simulated"\n'
            'licence = "Apache-2.0"\npermitted_use = "any"\n'
        )
    return {"gone": gone, "new": set(new["voter_id"]), "merged": {merged, into},
            "mates": set(mates)}  # fmt: skip


@pytest.fixture(scope="module")
def first(story: Any, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """A campaign whose model is trained, registered, and planned by once."""
    home = tmp_path_factory.mktemp("weekly")
    shutil.copytree(story.folder, home / "campaign")
    shutil.copytree(story.run.home, home / "runs" / "spread")
    shutil.copytree(story.run.store, home / "mlflow")
    return Campaign(home / "campaign", home)


@pytest.fixture(scope="module")
def week(first: Campaign) -> tuple[Campaign, dict[str, set[str]], dict[str, object]]:
    """The same campaign after another voter file was ingested, scored and planned."""
    before = {
        "run": first.latest,
        "held": set(first.table("assignments").query("role == 'holdout'")["voter_id"]),
        "features": first.table("features"),
        "training": first.table("training_set"),
    }
    changes = next_file(first)
    before["told"] = first.hustings("ingest")
    before["scored"] = first.hustings("score")
    before["planned"] = first.hustings("plan")
    return first, changes, before


def test_a_new_voter_file_is_scored_and_planned_without_training(week) -> None:
    campaign, changes, before = week
    assert campaign.latest != before["run"]
    assert not (campaign.latest / "candidates").exists()
    scores, voters = campaign.table("scores"), campaign.table("tables/voters")
    assert set(scores["voter_id"].astype(str)) == set(voters["voter_id"])
    assert changes["new"] <= set(voters["voter_id"])
    assert not changes["gone"] & set(voters["voter_id"])
    assert scores.notna().all(axis=None)
    assert "spread version 1" in before["scored"]
    planned = campaign.table("assignments")
    assert set(planned["voter_id"]) == set(voters["voter_id"])
    assert changes["new"] & set(planned.query("role == 'plan'")["voter_id"])


def test_what_changed_between_voter_files_is_counted_and_said(week) -> None:
    _, changes, before = week
    assert f"{len(changes['new']):,} new" in before["told"]
    assert f"{len(changes['gone']):,} gone" in before["told"]
    assert "1 merged" in before["told"]


def test_the_holdout_follows_persons_into_a_new_voter_file(week) -> None:
    campaign, changes, before = week
    held = set(campaign.table("assignments").query("role == 'holdout'")["voter_id"])
    merged, into = sorted(changes["merged"])
    still = (before["held"] - changes["gone"] - {merged, into}) & set(
        campaign.table("tables/voters")["voter_id"]
    )
    assert still <= held
    former = held - before["held"] - changes["new"]
    assert former <= {merged, into}


def test_a_day_runs_on_the_new_voter_file(week) -> None:
    campaign, changes, _ = week
    campaign.hustings("day", "--date", "2026-09-08")
    rows = pd.read_parquet(campaign.runs / "plans/day-2026-09-08/assignments.parquet")
    assert not changes["gone"] & set(rows["voter_id"])
    assert changes["new"] & set(rows["voter_id"])


def test_what_a_delivery_teaches_is_what_was_known_before_it(week) -> None:
    campaign, changes, before = week
    campaign.hustings("features")
    rows, features = campaign.table("training_set"), campaign.table("features")
    key = ["voter_id", "experiment_id", "plan_id"]
    absent = {*changes["gone"], *changes["mates"]}
    present = ~before["training"]["voter_id"].isin(absent)
    old = before["training"][present][key].merge(
        rows[key].assign(row=range(len(rows))), on=key, how="left"
    )
    assert old["row"].notna().all()
    # a year older, moved and with one more election, the voters teach what they were
    assert "voted_20260802_primary" not in features
    # affinities are of cells of the present file, and hints, never lifts
    of_voter = [c for c in features if not c.startswith("affinity__")]
    pd.testing.assert_frame_equal(
        features.loc[old["row"].astype(int), of_voter].reset_index(drop=True),
        before["features"].loc[present, of_voter].reset_index(drop=True),
        check_dtype=False,
    )
    left_out = campaign.facts()["features_left_out"]
    assert left_out["held at or after the first delivery"] == ["voted_20260802_primary"]


def test_households_that_were_drawn_as_one_stay_so_when_someone_moves(week) -> None:
    """A hundred have moved; only the two merged persons' households had two arms."""
    campaign, changes, _ = week
    aside = campaign.table("quarantine").query("table == 'deliveries'")
    split = aside["reason"].str.contains("split between arms").sum()
    assert split <= len(changes["mates"])


def test_a_message_that_was_never_sent_is_counted_with_the_reason(week) -> None:
    """The champion of this campaign does not read texts."""
    campaign, _, before = week
    said = "1 message has never been sent: 0 scored by what they say"
    assert said in before["scored"]
    assert said in before["planned"]
    assert "Not scored: never_sent: the champion does not read" in before["scored"]
    assert "lift__never_sent" not in campaign.table("scores")


def test_a_needed_lift_is_planned_for_the_least_money(week) -> None:
    campaign, _, _ = week
    most = campaign.table("plan")
    wanted = round(0.6 * most["lift"].sum(), 1)
    path = campaign.folder / "campaign.toml"
    declared = path.read_text()
    campaign.declare(
        "holdout_share = 0.1",
        f'holdout_share = 0.1\ngoal = "least_cost"\nneeded_lift = {wanted}',
    )
    assert "expected no section [loop]" in campaign.hustings("plan", code=BAD_INPUT)
    start, end = declared.index("[loop]"), declared.index("[features]")
    path.write_text(path.read_text().replace(declared[start:end], ""))
    try:
        campaign.hustings("plan")
        least = campaign.table("plan")
        assert least["lift"].sum() >= wanted
        assert least["cost_usd"].sum() < 0.8 * most["cost_usd"].sum()
        campaign.declare(f"needed_lift = {wanted}", f"needed_lift = {10 * wanted}")
        assert "no more than" in campaign.hustings("plan", code=BAD_INPUT)
    finally:
        path.write_text(declared)


def test_the_report_checks_the_sample_ratios_of_every_week(first: Campaign) -> None:
    page = (first.runs / "first" / "report.html").read_text()
    assert "Sample ratios by week" in page
    assert "the tests keep their sample ratios" in page


def test_a_version_by_number_scores_and_one_that_is_not_there_is_refused(week) -> None:
    campaign, _, _ = week
    assert "version 1" in campaign.hustings("score", "--version", "1")
    said = campaign.hustings("plan", "--version", "7", code=MISSING)
    assert "expected a registered version, 1, got '7'" in said


def test_a_campaign_without_a_champion_says_what_makes_one(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path / "campaign", tmp_path)
    brought(campaign.folder)
    campaign.hustings("ingest")
    said = campaign.hustings("score", code=MISSING)
    assert "`hustings run --campaign" in said
    assert f"--store {tmp_path}" in said.partition("` trains and registers one")[0]


def test_a_first_voter_file_from_after_the_deliveries_is_refused(
    tmp_path: Path,
) -> None:
    campaign = Campaign(tmp_path / "campaign", tmp_path)
    brought(campaign.folder)
    campaign.declare("observed_on = 2026-03-15", f"observed_on = {WEEK}")
    said = campaign.hustings("ingest", code=BAD_INPUT)
    assert "expected observed_on before the first delivery" in said
