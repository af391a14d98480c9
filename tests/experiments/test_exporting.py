"""A campaign's plan leaves by its declaration, and what comes back counts at once."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments import plans
from hustings.experiments.cli import app
from hustings.experiments.declaration import EXPERIMENTS, CampaignError, parse_campaign
from hustings.experiments.handover.lists import (
    Stated,
    batches,
    export,
    export_system,
    facts_now,
    read_back,
    stated,
    terms_of,
)
from hustings.experiments.stages.context import Run
from hustings.features.simulated.campaign import simulate
from hustings.features.tables import TableError
from hustings.serving.export import ExportError

NOW = pd.Timestamp.now("UTC").floor("s")

AT = pd.Timestamp("2026-09-09 12:00", tz="UTC")
SECRET = "Elm Street"
DECLARED = """
[export.contacts]
path = "contacts.csv"
source = "the campaign's own file"
licence = "own"
permitted_use = "contact"

[export.van]
id_column = "VoterFileID"
max_slots = 5
universes = [{ name = "jobs", slot = "Jobs", at_least = 50 }]

[[export.van.slots]]
name = "Jobs"
column = "lift__m1"
scale = "rank"
mean = 50
tolerance = 2

[export.results.table]
path = "given when it is read"
source = "the field"
licence = "own"
permitted_use = "any"

[export.results.table.columns]
voter_id = "id"
contacted_at = "day"
channel = "channel"
result = "result"
"""


def declared_as(text: str) -> str:
    """The shipped sample, as a campaign of its own that exports."""
    shipped = (EXPERIMENTS / "sample" / "campaign.toml").read_text()
    start, end = shipped.index("[simulate]"), shipped.index("[outcome]")
    return shipped[:start] + shipped[end:] + text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The tables of 400 voters, of whom the last forty are held out by plan p1."""
    home = tmp_path_factory.mktemp("home")
    campaign = parse_campaign(declared_as(DECLARED), file=home / "campaign.toml")
    (home / "campaign.toml").write_text(declared_as(DECLARED))
    made = Run(
        campaign, home / "sample", home / "sample" / "r1", "r1", home / "mlflow", at=NOW
    )
    sample = simulate(n_voters=400, seed=5, n_messages=3)
    for name in ("voters", "messages", "permissions"):
        made.write(f"tables/{name}", sample.tables[name])
    made.write_json("turnout", {"lowers": []})
    (made.home / "latest").write_text("r1")
    ids = sample.tables["voters"]["voter_id"]
    details = pd.DataFrame({"voter_id": ids, "address": f"1 {SECRET}"})
    details.to_csv(home / "contacts.csv", index=False)
    lift = pd.DataFrame({"voter_id": ids, "message_id": "m1", "lift": range(len(ids))})
    made.write("scores", lift.assign(response=0.5))
    messages = sample.tables["messages"]["message_id"]
    plan = pd.DataFrame(
        {
            "voter_id": ids[:360], "message_id": messages[0],
            "channel": "mail", "send_on": pd.Timestamp("2026-09-08"), "cost_usd": 0.6,
            "lift": 0.1, "propensity": 0.8, "role": "plan",
        }
    )  # fmt: skip
    held = pd.DataFrame({"voter_id": ids[360:], "role": "holdout"})
    held = held.assign(message_id="control", channel="none", propensity=0.1)
    same = ["voter_id", "role", "message_id", "channel", "propensity"]
    assigned = pd.concat([plan[same], held]).assign(
        intended_message_id="m", intended_channel="mail"
    )
    folder = made.home / "plans" / "p1"
    folder.mkdir(parents=True)
    plan.to_parquet(folder / "plan.parquet")
    assigned.to_parquet(folder / "assignments.parquet")
    return made


@pytest.fixture
def locked(run: Run) -> Stated:
    """The plan, locked."""
    return stated(run.home, "p1", "locked")


def test_a_plan_leaves_with_the_addresses_that_are_declared(
    run: Run, locked: Stated, tmp_path: Path
) -> None:
    found = export(run, locked, at=AT, out=tmp_path)
    assert found.folder == tmp_path / "p1" / "20260909T120000Z"
    text = (found.folder / "mail-2026-09-08.csv").read_text()
    assert text.count(SECRET) == 360
    assert SECRET not in (found.folder / "manifest.json").read_text()


def test_who_reports_say_wants_no_contact_is_taken_out_and_stays_out(
    run: Run, locked: Stated, tmp_path: Path
) -> None:
    home = replace(run, home=tmp_path / "home")
    first = export(home, locked, at=AT)
    assert first.n_removed == 0
    who = locked.plan["voter_id"].iloc[:2].tolist()
    file = tmp_path / "back.csv"
    file.write_text(
        "id,day,channel,result\n"
        f"{who[0]},2026-09-08,mail,do_not_contact\n"
        f"{who[1]},2026-09-08,mail,moved\n"
        f"nobody,2026-09-08,mail,delivered\n"
    )
    back = read_back(home, locked, file, at=AT)
    assert back.report["rows_in"] == 3
    assert back.report["quarantined"] == 1
    again = export(home, locked, at=AT + pd.Timedelta(hours=1))
    assert again.n_removed == 2
    assert again.folder is not None
    removed = (again.folder / "removed-mail-2026-09-08.csv").read_text()
    assert all(voter in removed for voter in who)
    with pytest.raises(ExportError, match="was read before"):
        read_back(home, locked, file, at=AT)


def test_a_voter_who_left_the_file_is_refused(
    run: Run, locked: Stated, tmp_path: Path
) -> None:
    plan = locked.plan.copy()
    plan.loc[0, "voter_id"] = "V9999999"
    assigned = locked.assignments.copy()
    assigned.iloc[0, 0] = "V9999999"
    stranger = replace(locked, plan=plan, assignments=assigned)
    found = export(run, stranger, at=AT, out=tmp_path)
    refused = found.reconciliation.set_index("code")["n"].to_dict()
    assert refused == {"": 359, "unknown_person": 1}
    assert found.folder is not None
    ((name, batch),) = batches(found.folder.parent).items()
    assert name == "2026-09-08-mail"
    assert batch.withheld.to_numpy().tolist() == [["V9999999", "unknown_person"]]
    written = (found.folder / "mail-2026-09-08.csv").read_bytes()
    assert batch.list_sha256 == hashlib.sha256(written).hexdigest()


def test_scores_leave_without_the_holdout_and_universes_have_contacts(
    run: Run, locked: Stated, tmp_path: Path
) -> None:
    folder = export_system(run, locked, tmp_path, at=AT)
    told = json.loads((folder / "manifest.json").read_text())
    assert told["refused"] == {"held_out": 40}
    universe = (folder / "universe-jobs.csv").read_text().split()[1:]
    assert len(universe) == 182  # of 360, those whose rank rounds to 50 or more
    assert not set(universe) & set(locked.assignments["voter_id"].iloc[360:])


def test_a_replay_campaign_exports_nothing(
    run: Run, locked: Stated, tmp_path: Path
) -> None:
    text = declared_as(DECLARED).replace('"us_default"', '"research_replay"')
    replay = replace(run, campaign=parse_campaign(text, file=run.campaign.file))
    with pytest.raises(ExportError, match="never exports"):
        export(replay, locked, at=AT, out=tmp_path)
    with pytest.raises(ExportError, match="never exports"):
        export_system(replay, locked, tmp_path, at=AT)
    assert not list(tmp_path.iterdir())


def test_hours_and_platforms_are_those_of_the_rules(run: Run) -> None:
    terms = terms_of(run.campaign)
    assert (terms.channel("sms").starts, terms.channel("sms").until) == (8, 21)
    assert terms.channel("web").keys == ("place", "age_band", "sex")
    assert terms.channel("social").hashed_lists
    less = DECLARED + "\n[export.channels.web]\nmin_audience = 20\n"
    declared = parse_campaign(declared_as(less))
    assert terms_of(declared).channel("web").min_audience == 1_000


def test_a_fault_of_the_addresses_names_their_key_and_nobody(
    run: Run, locked: Stated, tmp_path: Path
) -> None:
    text = declared_as(DECLARED.replace('path = "contacts.csv"', 'path = "none.csv"'))
    lost = replace(run, campaign=parse_campaign(text, file=run.campaign.file))
    with pytest.raises(TableError, match=r"none\.csv"):
        export(lost, locked, at=AT, out=tmp_path)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ("[export.channels.fax]\nmin_audience = 20\n", "expected channels out of"),
        ("[export.channels.web]\nmin_audience = 19\n", "greater than or equal to 20"),
        ('[export.audience]\nfields = ["city"]\n', "expected email or phone"),
        ('[export.audience]\nfields = ["shoe"]\n', "expected fields out of"),
    ],
)
def test_a_wrong_declaration_is_refused(wrong: str, expected: str) -> None:
    with pytest.raises(CampaignError, match=expected):
        parse_campaign(declared_as(wrong))


def test_facts_leave_out_nobody_who_is_on_file(run: Run) -> None:
    facts = facts_now(run, AT.tz_localize(None) if AT.tzinfo else AT)
    assert facts.known is not None
    assert len(facts.known) == 400


def test_from_the_command_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = {"p1": "draft"}
    monkeypatch.setattr(plans, "state", lambda _home, plan: state[plan])
    where = ["--campaign", str(run.campaign.file), "--data", str(run.home.parent)]
    asked = ["export", "p1", *where, "--out", str(tmp_path), "--format", "parquet"]
    refused = CliRunner().invoke(app, asked)
    assert refused.exit_code == 2
    assert "got one that is draft" in refused.output
    state["p1"] = "locked"
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "360 planned, 360 exported" in done.output
    assert SECRET not in done.output
    file = tmp_path / "back.csv"
    file.write_text("id,day,channel,result\nnobody,2026-09-08,mail,delivered\n")
    none = CliRunner().invoke(app, ["results", str(file), "--plan", "p1", *where])
    assert none.exit_code == 0, none.output
    assert "quarantined" in none.output
