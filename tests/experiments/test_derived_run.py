"""Columns that a campaign derives are features, and its dictionary tells of them."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import app
from hustings.experiments.declaration import EXPERIMENTS, derivation, load_campaign
from hustings.experiments.run import run_stage
from hustings.experiments.stages.context import Run, point_to
from hustings.features.dictionary import ColumnEntry, read_entries, undescribed
from hustings.features.simulated.campaign import simulate, write_sample
from hustings.features.tables import is_derived

NOW = pd.Timestamp.now("UTC").floor("s")

DERIVED = 'derived = ["history", "household", "neighbours"]'
AS_OF = pd.Timestamp("2026-04-06")


def declared(folder: Path, derived: str = DERIVED) -> Path:
    """The sample's declaration on raw files of our own, with columns derived."""
    shipped = (EXPERIMENTS / "sample" / "campaign.toml").read_text()
    start, end = shipped.index("[simulate]"), shipped.index("[outcome]")
    text = (shipped[:start] + shipped[end:]).replace('"raw:', '"raw/')
    text = text.replace("[features]\n", f"[features]\n{derived}\n")
    (folder / "campaign.toml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Ingest and features of 900 voters."""
    home = tmp_path_factory.mktemp("derived")
    write_sample(simulate(n_voters=900, seed=4, n_messages=3), home / "raw")
    campaign = load_campaign(declared(home))
    runs = home / "runs" / "sample"
    made = Run(campaign, runs, runs / "first", "first", home / "mlflow", at=NOW)
    for stage in ("ingest", "features"):
        run_stage(made, stage)
    point_to(runs, "first")
    return made


def dictionary(run: Run) -> list[ColumnEntry]:
    return read_entries(run.read_json("dictionary")["entries"])


def test_what_a_campaign_derives_are_features_of_its_voters(run) -> None:
    features = run.read("features")
    for name in ("history__share", "household__n_others", "precinct__party_D"):
        assert name in features
        assert features[name].notna().any()
    rows = run.read("training_set")
    by_voter = run.table("voters").set_index("voter_id")["county__turnout"]
    assert features["county__turnout"].tolist() == by_voter[rows["voter_id"]].tolist()


def test_every_feature_of_a_run_is_described_in_its_dictionary(run) -> None:
    found = dictionary(run)
    told = {entry.name for entry in found if entry.is_feature}
    assert told == set(run.read("features").columns)
    assert undescribed(found) == []
    for entry in found:
        assert entry.source
        assert entry.licence
        assert entry.permitted_use
        assert entry.as_of


def test_every_column_of_every_table_of_a_run_is_in_its_dictionary(run) -> None:
    found = {(entry.table, entry.name) for entry in dictionary(run)}
    for path in (run.folder / "tables").glob("*.parquet"):
        columns = pd.read_parquet(path).columns
        assert {(path.stem, name) for name in columns} <= found


def test_the_dictionary_tells_a_special_category_and_what_is_no_feature(run) -> None:
    entry = next(e for e in dictionary(run) if e.name == "church_member")
    assert entry.special_category == "declared"
    assert not entry.is_feature
    plain = next(e for e in dictionary(run) if e.name == "consumer_score")
    assert (plain.special_category, plain.is_feature) == ("no", True)


def test_the_dictionary_is_written_for_people_and_for_programs(run) -> None:
    def told(written: str) -> str:
        asked = ["dictionary", "--campaign", str(run.campaign.folder),
                 "--format", written,
                 "--data", str(run.home.parent)]  # fmt: skip
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert read_entries(json.loads(told("json"))) == dictionary(run)
    rows = list(csv.DictReader(told("csv").splitlines()))
    assert len(rows) == len(dictionary(run))
    assert "| household__n_others | Other members of the household. |" in told(
        "markdown"
    )
    refused = CliRunner().invoke(
        app, ["dictionary", "--campaign", str(run.campaign.folder), "--format", "pdf"]
    )
    assert refused.exit_code == 2


def test_a_run_that_derives_nothing_any_more_keeps_no_derived_column(
    run, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(run.folder, tmp_path / "again")
    plain = load_campaign(declared(tmp_path, derived="derived = []"))
    again = replace(run, campaign=plain, folder=tmp_path / "again")
    run_stage(again, "features")
    assert not any(map(is_derived, again.read("features").columns))
    assert not any(map(is_derived, again.table("voters").columns))


def test_an_excluded_or_special_column_is_part_of_no_derived_one(run) -> None:
    columns = list(run.table("voters").columns)
    features = run.campaign.features
    declared = features.model_copy(
        update={"exclude": ["voted_2024*"], "special_categories": ["party"]}
    )
    campaign = run.campaign.model_copy(update={"features": declared})
    campaign._file = run.campaign.file
    usable = set(derivation(campaign, columns, as_of=AS_OF).columns)
    assert "party" not in usable
    assert not any(name.startswith("voted_2024") for name in usable)
    assert {"household_id", "precinct", "voted_20221108_general"} <= usable
    with_basis = declared.model_copy(update={"legal_basis_special": "consent"})
    lawful = campaign.model_copy(update={"features": with_basis})
    assert "party" in derivation(lawful, columns, as_of=AS_OF).columns
