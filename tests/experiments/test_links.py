"""Ingest with links and providers: what is written, and what never is."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hustings.experiments.declaration import load_campaign
from hustings.experiments.report.linked import linked_section
from hustings.experiments.run import run_stage
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.reactions import open_intake
from hustings.features.ingest import Folders, TableSource, read_identities
from hustings.features.persons.provider import remove_provider
from hustings.features.tables import LINKS, REACTION_GROUPS, TableError, check

NOW = pd.Timestamp.now("UTC").floor("s")

N = 6_000
KEY = "a secret of sixteen bytes or more"
TERMS = {"source": "s", "licence": "l", "permitted_use": "features"}


def provider_of(raw: Path) -> dict[str, Any]:
    """A provider who knows half of the voters, by their ids."""
    voters = pd.read_parquet(raw / "voters.parquet").head(N // 2)
    file = raw.parent / "acme.parquet"
    voters[["voter_id", "income_usd"]].to_parquet(file)
    table = {
        "path": str(file), "observed_on": "2026-01-05",
        "columns": {"voter_id": "voter_id"}, "extra": {"income_usd": "income_usd"},
    }  # fmt: skip
    return {"join": "voter_id", "table": table | TERMS}


def run_of(home: Path, run_id: str, **changes: Any) -> Run:
    declared = load_campaign("sample")
    small = declared.simulate.model_copy(update={"n_voters": N})
    campaign = declared.model_copy(update={"simulate": small})
    if changes:
        dumped = (
            campaign.model_dump(mode="json", by_alias=True, exclude_unset=True)
            | changes
        )
        campaign = type(campaign).model_validate(dumped)
    return Run(campaign, home, home / run_id, run_id, home / "mlflow", at=NOW)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The sample with its links, and as a campaign that declares none."""
    home = tmp_path_factory.mktemp("links") / "sample"
    linked = run_of(home, "linked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hustings.features.persons.link.score.MIN_U_PAIRS", 100_000)
        patch.setenv("HUSTINGS_LINK_KEY", KEY)
        run_stage(linked, "ingest")
    refused = run_of(home, "refused", link=None)
    run_stage(refused, "ingest")
    return {"linked": linked, "refused": refused}


def test_links_are_written_with_what_they_are_expected_to_miss(runs: dict) -> None:
    run = runs["linked"]
    links, told = check(LINKS, run.read("links")), run.read_json("links")
    assert len(links) == told["n_by_key"] + told["n_by_fields"] > 100
    assert 0 < told["expected_false"] < 0.1 * len(links)
    assert told["identities"]["accepted"] == N
    voters = run.table("voters")
    assert {c for c in voters if c.startswith("reacted__")} == {
        "reacted__jobs", "reacted__health_care", "reacted__schools",
        "reacted__public_safety",
    }  # fmt: skip
    events = run.table("reactions").dropna(subset=["person"])
    first = run.table("deliveries")["sent_on"].min()
    early = events[(events["reacted_at"] < first) & (events["kind"] != "angry")]
    probability = links.set_index("reaction_person")["probability"]
    expected = early["person"].map(probability).sum()
    total = voters.filter(like="reacted__").to_numpy().sum()
    assert total == pytest.approx(expected)
    assert total > 100


def test_a_stop_of_a_linked_person_ends_the_voters_permission(
    runs: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs["linked"]
    first = run.read("links").iloc[0]
    raw = pd.read_parquet(run.home / "raw" / "reactions.parquet")
    account = raw[raw["person"] == first["reaction_person"]].iloc[0]
    stop = {
        "event_id": "e1", "platform": account["platform"], "kind": "stop",
        "message_id": account["message_id"],
        "person": account["person"], "channel": "sms",
        "occurred_at": "2026-08-01T12:00:00Z",
    }  # fmt: skip
    monkeypatch.setenv("HUSTINGS_LINK_KEY", KEY)
    intake = open_intake(run.campaign, run.home)
    receipt = intake.receive([stop], received_at=datetime(2026, 8, 1, 13, tzinfo=UTC))
    assert receipt.accepted == 1, receipt.faults
    ended = intake.events.withdrawals()
    intake.events.close()
    assert ended["voter_id"].tolist() == [first["voter_id"]]
    assert ended["channel"].tolist() == ["sms"]


def test_nobody_is_linked_and_nobody_named_without_a_declaration(runs: dict) -> None:
    run = runs["refused"]
    assert not (run.folder / "links.parquet").exists()
    # all of the sample's reactors have a pseudonym and none may be known
    assert run.table("reactions").empty
    groups = check(REACTION_GROUPS, run.read("reaction_groups"))
    assert (groups["n_people"] >= 20).all()


def test_only_linked_people_have_a_pseudonym_and_they_have_a_basis(runs: dict) -> None:
    run = runs["linked"]
    kept = run.table("reactions").dropna(subset=["person"])
    assert set(kept["person"]) == set(run.read("links")["reaction_person"])
    raw = pd.read_parquet(run.home / "raw" / "reactions.parquet")
    basis = raw.dropna(subset=["basis"]).drop_duplicates("person")["person"]
    assert set(kept["person"]) <= set(basis)
    told = run.read_json("ingest")["reactions"]
    assert told["accepted"] == len(run.table("reactions")) + told["only_in_groups"]
    assert run.read_json("run")["rows"]["reactions"] == len(run.table("reactions"))
    with_basis = raw["person"].isin(basis)
    assert len(run.table("reactions")) == with_basis.sum() < len(raw)


def test_no_name_address_or_unlinked_pseudonym_is_in_any_file_of_a_run(
    runs: dict,
) -> None:
    """A search of every value of every table, and of every other file as bytes."""
    raw = runs["linked"].home / "raw"
    people = pd.read_parquet(raw / "identities.parquet")
    reactions = pd.read_parquet(raw / "reactions.parquet")
    linked = set(runs["linked"].read("links")["reaction_person"])
    secrets = set(people["email_sha256"].dropna()) | set(reactions["name"])
    secrets |= set(reactions["person"]) - linked
    names = set(people["last_name"])
    for run in runs.values():
        for path in (p for p in run.folder.rglob("*") if p.is_file()):
            if path.suffix == ".parquet":
                frame = pd.read_parquet(path).select_dtypes("str")
                values = {v for c in frame for v in frame[c].dropna().unique()}
                assert not values & secrets, path.name
                assert not values & names, path.name
            else:
                text = path.read_text()
                assert not any(secret in text for secret in list(secrets)[:500])


def test_a_providers_columns_come_are_told_of_and_go(runs: dict) -> None:
    home = runs["refused"].home
    provider = {"acme": provider_of(home / "raw")}
    first = run_of(home, "bought", link=None, providers=provider)
    run_stage(first, "ingest")
    column = "provider__acme__income_usd"
    assert first.table("voters")[column].notna().mean() == pytest.approx(0.5, abs=0.03)
    (told,) = first.read_json("providers")["columns"]
    assert told["agreement"][0]["with"] == "income_usd"
    assert told["agreement"][0]["value"] == pytest.approx(1.0)
    page = linked_section({"providers": {"columns": [told]}})
    assert column in page
    remove_provider(home, "acme")
    for path in (p for p in first.folder.rglob("*") if p.is_file()):
        assert b"acme" not in path.read_bytes(), path.name
    later = replace(first, folder=home / "later", run_id="later")
    run_stage(later, "ingest")
    assert column not in later.table("voters")
    assert not (later.folder / "providers.json").exists()


def test_columns_observed_after_the_first_delivery_are_refused(runs: dict) -> None:
    home = runs["refused"].home
    late = provider_of(home / "raw")
    late["table"]["observed_on"] = "2026-04-06"
    run = run_of(home, "late", link=None, providers={"late": late})
    with pytest.raises(TableError, match="observed_on before the first delivery"):
        run_stage(run, "ingest")


def test_the_report_tells_of_links_in_counts_and_of_no_few_people(runs: dict) -> None:
    told = runs["linked"].read_json("links")
    page = linked_section({"links": told})
    assert "Who reacted, found in the voter file" in page
    assert "Links that are wrong, as expected" in page
    few = linked_section({"links": told | {"n_reactors": 12, "n_by_key": 3}})
    assert "Too few people" in few
    assert "12" not in few
    assert linked_section({}) == ""


def test_few_people_are_not_worked_out_from_the_counts_of_the_report() -> None:
    told = {
        "n_reactors": 500, "n_by_key": 7, "n_by_fields": 413, "expected_false": 30.0,
        "expected_missed": 35.0, "threshold": 0.5, "rules": [["last_name"]],
        "bad_reactors": {}, "filled": {}, "check": None,
    }  # fmt: skip
    page = linked_section({"links": told})
    assert "420" in page
    assert "413" not in page
    assert "exact key</th>" not in page
    nearly = linked_section({"links": told | {"n_by_key": 80, "n_by_fields": 411}})
    assert "nearly all of them" in nearly
    assert "491" not in nearly
    assert "411" not in nearly


def test_identities_without_an_id_or_with_two_rows_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "identities.csv"
    file.write_text("id,last\nv1,Lee\nv2,Kim\nv2,Kim\n,Ray\n")
    columns = {"voter_id": "id", "last_name": "last"}
    source = TableSource.model_validate({"path": str(file), "columns": columns} | TERMS)
    found = read_identities(source, Folders(tmp_path, tmp_path))
    assert found.frame["voter_id"].tolist() == ["v1"]
    assert (found.report["rows_in"], found.report["quarantined"]) == (4, 3)
    assert "Ray" not in json.dumps(found.report)
