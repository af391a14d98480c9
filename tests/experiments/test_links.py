"""Ingest with links and providers: what is written, and what never is."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import app
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
    source = TableSource.model_validate(
        {"path": str(file), "columns": columns, "most_quarantined": 1.0} | TERMS
    )
    found = read_identities(source, Folders(tmp_path, tmp_path))
    assert found.frame["voter_id"].tolist() == ["v1"]
    assert (found.report["rows_in"], found.report["quarantined"]) == (4, 3)
    assert "Ray" not in json.dumps(found.report)


# --- by command, from files as campaigns have them ------------------------------------

SAID = 'source = "s"\nlicence = "l"\npermitted_use = "p"\n'
FILES = f"""
[campaign]
name = "people"
title = "t"
question = "q"
rule_set = "us_default"
as_of = 2026-03-01
seed = 1

[outcome]
name = "support"
label = "support"
kind = "continuous"
measures = "support"
higher_is_better = true
absent = "missing"
unit_per_point = 1.0

[plan]
budget_usd = 300.0
start_on = 2026-03-02
days = 3
capacity_per_day = 100000
holdout_share = 0.1

[features]
columns = ["*"]
segment = []

[link]
bases = ["consent"]

[link.voters]
path = "people.csv"
{SAID}
[link.voters.columns]
voter_id = "id"
first_name = "first"
last_name = "last"
email = "mail"
birth_date = {{ column = "born", format = "%m/%d/%y" }}

[export.contacts]
path = "people.csv"
{SAID}
[export.contacts.columns]
voter_id = "id"
phone = "phone"
address = "street"

[tables.voters]
path = "people.csv"
observed_on = 2026-01-01
{SAID}
[tables.voters.columns]
voter_id = "id"
age = "age"

[tables.messages]
{SAID}
rows = [{{ message_id = "a", issue = "jobs", text = "t", sponsor = "S", disclaimer = "Paid for by S", discloses = "none" }}]

[tables.designs]
{SAID}
rows = [
    {{ experiment_id = "e", message_id = "control", channel = "none", probability = 0.5 }},
    {{ experiment_id = "e", message_id = "a", channel = "mail", probability = 0.5 }},
]

[tables.deliveries]
path = "test.csv"
{SAID}
[tables.deliveries.columns]
voter_id = "id"
experiment_id = {{ value = "e" }}
message_id = "message"
channel = "channel"
sent_on = {{ value = 2026-02-01 }}
randomised_by = {{ value = "person" }}

[tables.responses]
path = "test.csv"
{SAID}
[tables.responses.columns]
voter_id = "id"
experiment_id = {{ value = "e" }}
outcome = {{ value = "support" }}
value = "value"
observed_at = {{ value = 2026-02-15 }}

[tables.costs]
{SAID}
rows = [
    {{ message_id = "*", channel = "mail", cost_usd = 0.5 }},
    {{ message_id = "*", channel = "sms", cost_usd = 0.1 }},
    {{ message_id = "*", channel = "survey", cost_usd = 0.1 }},
]

[tables.reactions]
path = "reactions.csv"
{SAID}
"""  # noqa: E501 - rows of a table
N_PEOPLE, N_REACTORS = 400, 60


def people_of_files(folder: Path) -> list[str]:
    """Write a campaign; the voters who reacted, in the order of r0, r1 ...

    Ages are 18 to 90, years have two digits, every tenth voter is called Null or Na.
    Reactors give a name and a year of birth, and every fifth a hash alone.
    """
    rng = np.random.default_rng(4)
    number = np.arange(N_PEOPLE)
    parts = ["bar", "tov", "lem", "kes", "zel", "dor", "fen", "yar", "oss", "mir"]
    last = ["".join(rng.choice(parts, 3)).capitalize() for _ in number]
    year, month, day = 2026 - rng.integers(19, 91, N_PEOPLE), number % 12, number % 28
    people = pd.DataFrame(
        {
            "id": [f"V{i}" for i in number], "age": 2026 - year,
            "first": ["".join(rng.choice(parts, 2)).capitalize() for _ in number],
            "last": np.where(number % 10 == 0, "Null", last),
            "mail": [f"Person{i}@mail.example" for i in number],
            "born": [f"{m + 1:02}/{d + 1:02}/{y % 100:02}"
                     for y, m, d in zip(year, month, day, strict=True)],
            "street": [f"{i + 1} Elm Street" for i in number],
            "phone": [f"(650) 555-{i:04}" for i in number],
        }
    )  # fmt: skip
    people.loc[number % 20 == 0, "last"] = "Na"
    people.loc[:39, "phone"] = ["N/A", "0000000000", "6.5E9", "555-1212"] * 10
    people.loc[40:44, "phone"] = ""
    people.loc[:1, "born"] = "##/##/##"
    people.loc[:4, "street"] = "N/A"
    people.to_csv(folder / "people.csv", index=False)
    test = people[["id"]].assign(
        message=np.where(number % 2, "a", "control"),
        channel=np.where(number % 2, "mail", "none"),
        value=rng.normal(50, 10, N_PEOPLE),
    )  # fmt: skip
    test.to_csv(folder / "test.csv", index=False)
    picked = np.concatenate([np.arange(10, 310, 10), np.arange(311, 400, 3)])
    reactors = people.iloc[picked[:N_REACTORS]].reset_index(drop=True)
    by_hash = np.arange(len(reactors)) % 5 == 0
    mails = reactors["mail"].str.lower()
    reactions = pd.DataFrame(
        {
            "reaction_id": [f"e{i}" for i in range(len(reactors))], "message_id": "a",
            "platform": "web", "kind": "like", "reacted_at": "2026-01-10",
            "person": [f"r{i}" for i in range(len(reactors))], "basis": "consent",
            "name": (reactors["first"] + " " + reactors["last"]).mask(by_hash),
            "birth_year": pd.Series(year[picked[:N_REACTORS]]).mask(by_hash),
            "email_sha256": [
                hashlib.sha256(mail.encode()).hexdigest() if hash_ else None
                for mail, hash_ in zip(mails, by_hash, strict=True)
            ],
        }
    )  # fmt: skip
    reactions.to_csv(folder / "reactions.csv", index=False)
    (folder / "campaign.toml").write_text(FILES)
    return [str(voter) for voter in reactors["id"]]


def test_people_are_found_and_can_be_reached_as_files_have_them(tmp_path: Path) -> None:
    """Two-digit years and years, e-mails and hashes, Na and Null, no numbers."""
    truth = people_of_files(tmp_path)
    done = CliRunner().invoke(
        app,
        ["ingest", "--campaign", str(tmp_path / "campaign.toml"),
         "--data", str(tmp_path / "data")],
        env={"MLFLOW_TRACKING_URI": None},
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    folder = Path(done.output.strip().splitlines()[-1])
    links = pd.read_parquet(folder / "links.parquet").set_index("reaction_person")
    found = links["voter_id"].reindex([f"r{i}" for i in range(len(truth))])
    right = found.to_numpy() == np.array(truth)
    assert right.sum() >= len(truth) - 3
    assert (found.notna().to_numpy() & ~right).sum() == 0
    assert (links["linked_by"] == "key").sum() == len(truth) // 5
    assert "voters, values that are none: birth_date: 2" in done.output
    mail, sms = "mail: 395 of 400 voters can be", "sms: 355 of 400 voters can be"
    assert f"{mail} reached; 5 have a value that is no address" in done.output
    assert f"{sms} reached; 40 have a value that is no address" in done.output
    assert "Elm" not in done.output
    addresses = pd.read_parquet(folder / "tables" / "addresses.parquet")
    assert addresses["channel"].value_counts().to_dict() == {
        "survey": 400, "mail": 395, "sms": 355,
    }  # fmt: skip
    assert "V41" not in set(addresses.loc[addresses["channel"] == "sms", "voter_id"])
