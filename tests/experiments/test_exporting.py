"""A campaign's plan leaves by its declaration, and what comes back counts at once."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments import plans
from hustings.experiments.cli import BAD_INPUT, MISSING, OK, app
from hustings.experiments.declaration import EXPERIMENTS, CampaignError, parse_campaign
from hustings.experiments.handover.answers import read_back, read_outcomes
from hustings.experiments.handover.lists import (
    StatedPlan,
    batches,
    export,
    export_system,
    facts_now,
    stated,
)
from hustings.experiments.plans.ledger import Ledger
from hustings.experiments.plans.recorded_files import outside
from hustings.experiments.record import (
    ReadBeforeError,
    closed_channels,
    contacts_so_far,
    received,
    responses_so_far,
)
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.reachable import export_settings
from hustings.features.simulated.campaign import simulate
from hustings.features.tables import TableError
from hustings.serving.export import ExportError
from hustings.serving.export.warehouse import contact_rows, removing, write_by_ibis
from hustings.serving.plan import held_out
from tests.checkout import environment
from tests.experiments.drafts import whole
from tests.serving.exports import read

NOW = pd.Timestamp.now("UTC").floor("s")
DRAFTED = pd.Timestamp("2026-09-07", tz="UTC")
AT = pd.Timestamp("2026-09-09 12:00", tz="UTC")
SECRET = "Elm Street"
TELEPHONES = ["6505551212", "(650) 555-1213", "6505551214.0", "N/A", "none",
              "0000000000", "555-1212", "unknown", "6.505551215E9", None,
              "6.5E9", "9999999999", "011 44 7911 123456"]  # fmt: skip
DECLARED = """
[export.contacts]
path = "contacts.csv"
source = "the campaign's own file"
licence = "own"
permitted_use = "contact"

[export.audience]
platform = "google"
fields = ["email", "first_name", "last_name", "country", "postcode"]

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
most_quarantined = 1.0

[export.results.table.columns]
voter_id = "id"
contacted_at = "day"
channel = "channel"
result = "result"
question = "question"
answer = "answer"

[export.results.answers.Q1]
outcome = "support"
values = { yes = 100.0, no = 0.0 }

[answers.survey]
path = "given when it is read"
source = "a survey"
licence = "own"
permitted_use = "any"
most_quarantined = 1.0

[answers.survey.columns]
voter_id = "id"
outcome = { value = "support" }
value = { column = "said", map = { Y = 100.0, N = 0.0 } }
observed_at = { value = 2026-09-10 }
plan_id = "plan"
"""
HEADER = "id,day,channel,result,question,answer\n"


def declared_as(text: str) -> str:
    """The shipped sample, as a campaign of its own that exports."""
    shipped = (EXPERIMENTS / "sample" / "campaign.toml").read_text()
    start, end = shipped.index("[simulate]"), shipped.index("[outcome]")
    return shipped[:start] + shipped[end : shipped.index("# What comes back")] + text


def campaign_at(home: Path) -> Run:
    """The tables of 400 voters, before anything is planned."""
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
    details = pd.DataFrame(
        {
            "voter_id": ids, "address": f"1 {SECRET}", "email": ids + "@mail.example",
            "first_name": "Avelda", "last_name": "Quillmark", "country": "USA",
            "postcode": "27006-1234",
            "phone": ids.map(dict(zip(sms_voters(made), TELEPHONES, strict=True))),
        }
    )  # fmt: skip
    details.to_csv(home / "contacts.csv", index=False)
    lift = pd.DataFrame({"voter_id": ids, "lift__m1": np.arange(len(ids), dtype=float)})
    made.write("scores", lift.assign(lift_se__m1=1.0, response__m1=0.5))
    return made


def sms_voters(made: Run) -> list[str]:
    """Voters who may be sent an SMS, one for each of `TELEPHONES`."""
    permissions = made.table("permissions").query("channel == 'sms'")
    may = permissions.loc[permissions["withdrawn_at"].isna(), "voter_id"]
    ids = made.table("voters")["voter_id"].iloc[:360]
    return ids[ids.isin(may)].iloc[: len(TELEPHONES)].tolist()


def drafted(made: Run, channel_of: pd.Series, names: Sequence[str]) -> None:
    """Draft plans of the voters of `channel_of` (index), the last forty held out."""
    message = made.table("messages")["message_id"].iloc[0]
    plan = pd.DataFrame(
        {
            "voter_id": channel_of.index, "message_id": message,
            "channel": channel_of.to_numpy(),
            "send_on": pd.Timestamp("2026-09-08"), "cost_usd": 0.6,
            "lift": 0.1, "propensity": 0.8, "role": "plan",
        }
    )  # fmt: skip
    ids = made.table("voters")["voter_id"].iloc[360:]
    held = pd.DataFrame({"voter_id": ids, "role": "holdout"})
    held = held.assign(message_id="control", channel="none", propensity=0.1)
    same = ["voter_id", "role", "message_id", "channel", "propensity"]
    assigned = pd.concat([plan[same], held]).assign(
        intended_message_id=message, intended_channel="mail"
    )
    facts = plans.PlanFacts("m/1", "us_default", terms={"holdout_share": 0.1})
    complete = whole(plan, assigned)
    for name in names:
        plans.draft(made.home, name, complete, facts, keys={}, at=DRAFTED)
    plans.approve(made.home, names[0], by="Ada Pell", at=DRAFTED)
    plans.lock(made.home, names[0], at=DRAFTED)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The tables of 400 voters, of whom the last forty are held out by plan p1."""
    made = campaign_at(tmp_path_factory.mktemp("home"))
    ids = made.table("voters")["voter_id"].iloc[:360]
    drafted(made, pd.Series("mail", index=ids), ["p1", "p2"])
    return made


@pytest.fixture
def apart(run: Run, tmp_path: Path) -> Run:
    """The same campaign in a folder of its own."""
    home = tmp_path / "data" / "sample"
    shutil.copytree(run.home, home)
    return replace(run, home=home, folder=home / "r1")


def file_of(folder: Path, *lines: str, name: str = "back.csv") -> Path:
    """A file of contact results."""
    path = folder / name
    path.write_text(HEADER + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def locked(run: Run) -> StatedPlan:
    """The plan, locked."""
    return stated(run.home, "p1", "locked")


def test_a_plan_leaves_with_the_addresses_that_are_declared(
    run: Run, locked: StatedPlan, tmp_path: Path
) -> None:
    found = export(run, locked, at=AT, out=tmp_path)
    assert found.folder == tmp_path / "p1" / "20260909T120000Z"
    text = (found.folder / "mail-2026-09-08.csv").read_text()
    assert text.count(SECRET) == 360
    assert SECRET not in (found.folder / "manifest.json").read_text()


def test_who_reports_say_wants_no_contact_is_taken_out_and_stays_out(
    apart: Run, locked: StatedPlan, tmp_path: Path
) -> None:
    first = export(apart, locked, at=AT)
    assert first.n_removed == 0
    who = locked.plan["voter_id"].iloc[:2].tolist()
    file = file_of(
        tmp_path,
        f"{who[0]},2026-09-08,mail,do_not_contact,,",
        f"{who[1]},2026-09-08,mail,moved,,",
        "nobody,2026-09-08,mail,delivered,,",
    )
    back = read_back(apart, "p1", file, at=AT)
    assert back.report["rows_in"] == 3
    assert back.report["set_aside"] == 1
    again = export(apart, locked, at=AT + pd.Timedelta(hours=1))
    assert again.n_removed == 2
    assert again.folder is not None
    removed = (again.folder / "removed-mail-2026-09-08.csv").read_text()
    assert all(voter in removed for voter in who)
    with pytest.raises(ReadBeforeError, match="was read before"):
        read_back(apart, "p1", file, at=AT)


def test_what_a_file_said_is_known_from_then_on_and_not_before(
    apart: Run, locked: StatedPlan, tmp_path: Path
) -> None:
    sent, held = (
        locked.plan["voter_id"].iloc[0],
        locked.assignments["voter_id"].iloc[-1],
    )
    file = file_of(
        tmp_path,
        f"{sent},2026-09-08,mail,delivered,Q1,yes",
        f"{held},2026-09-09,phone,,Q1,no",
    )
    read_back(apart, "p1", file, at=AT)
    before = AT - pd.Timedelta(hours=1)
    assert responses_so_far(apart.home, before).empty
    assert contacts_so_far(apart.home, before).empty
    answers = responses_so_far(apart.home, AT).set_index("voter_id")
    assert answers["value"].to_dict() == {sent: 100.0, held: 0.0}
    assert set(answers["plan_id"]) == {"p1"}
    assert set(answers["experiment_id"]) == {"test"}
    reached = contacts_so_far(apart.home, AT)
    assert reached[["voter_id", "plan_id", "delivered"]].to_numpy().tolist() == [
        [sent, "p1", True]
    ]


def test_a_draft_has_no_results(apart: Run, tmp_path: Path) -> None:
    file = file_of(tmp_path, "V1,2026-09-08,mail,delivered,,")
    with pytest.raises(ExportError, match="got one that is draft"):
        read_back(apart, "p2", file, at=AT)


def test_outcomes_from_elsewhere_belong_to_every_assignment_decided_before(
    apart: Run, locked: StatedPlan, tmp_path: Path
) -> None:
    ids = locked.assignments["voter_id"]
    file = tmp_path / "survey.csv"
    lines = [
        f"{ids.iloc[0]},Y,", f"{ids.iloc[-1]},N,", f"{ids.iloc[1]},Y,p1",
        f"{ids.iloc[2]},Y,p9", f"{ids.iloc[3]},maybe,", "nobody,Y,",
    ]  # fmt: skip
    file.write_text("id,said,plan\n" + "\n".join(lines) + "\n")
    at = pd.Timestamp("2026-09-11", tz="UTC")
    read = read_outcomes(apart, file, source_name="survey", at=at)
    assert read.report == {
        "rows_in": 6, "accepted": 3, "set_aside": 3, "answers": 3
    }  # fmt: skip
    answers = responses_so_far(apart.home, at).set_index("voter_id")["value"]
    assert answers.to_dict() == {
        ids.iloc[0]: 100.0, ids.iloc[-1]: 0.0, ids.iloc[1]: 100.0
    }  # fmt: skip
    with pytest.raises(ReadBeforeError):
        read_outcomes(apart, file, source_name="", at=at)


def test_of_two_processes_that_read_one_file_one_wins_and_one_is_told(
    apart: Run, locked: StatedPlan, tmp_path: Path
) -> None:
    voter = locked.plan["voter_id"].iloc[0]
    file = file_of(tmp_path, f"{voter},2026-09-08,mail,delivered,Q1,yes")
    command = [
        sys.executable, "-m", "hustings.experiments.cli", "results", str(file),
        "--plan", "p1", "--campaign", str(apart.campaign.file),
        "--data", str(apart.home.parent),
    ]  # fmt: skip
    env = environment()
    started = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
        )
        for _ in range(2)
    ]
    said = [process.communicate()[0].decode() for process in started]
    codes = sorted(process.returncode for process in started)
    assert codes == [OK, BAD_INPUT], said
    # refused while the first is at work, or because it was read by then
    assert any("was read before" in text or "at work" in text for text in said)
    assert any("1 rows in = 1 accepted + 0 set aside" in text for text in said)
    assert len(received(apart.home)) == 1


def test_a_file_of_which_too_much_is_lost_stops_before_anything_is_stored(
    apart: Run, locked: StatedPlan, tmp_path: Path
) -> None:
    (tmp_path / "strict.toml").write_text(
        declared_as(DECLARED).replace("most_quarantined = 1.0\n", "")
    )

    def command(name: str, *words: str) -> tuple[int, str]:
        where = ["--campaign", tmp_path / "strict.toml", "--data", tmp_path / "data"]
        answer = CliRunner().invoke(
            app, [name, *words, *map(str, where)], env={"MLFLOW_TRACKING_URI": None}
        )
        return answer.exit_code, " ".join(answer.output.split())

    voters = locked.plan["voter_id"].iloc[:60]
    good = [f"{voter},2026-09-08,mail,delivered,," for voter in voters]
    asks = [f"stranger{k},2026-09-08,mail,do_not_contact,," for k in range(2)]
    file = file_of(tmp_path, *good[:30], *good[:10], *asks)
    code, said = command("results", str(file), "--plan", "p1")
    assert code == BAD_INPUT, said
    for sentence in (
        "2 of 42 rows", "(besides 10 that are expected) would be set aside",
        "more than the 2% that it may lose: 2 × voter_id: no voter of the file",
        "(row 41)",
        "mend [export.results.table]", "allow it by most_quarantined = 0.05",
        "Nothing is stored, and 2 of its rows ask for no contact: act on them by hand",
    ):  # fmt: skip
        assert sentence in said, said
    survey = tmp_path / "survey.csv"
    lines = [f"{v},Y," for v in voters] + [f"{v},maybe," for v in voters[:3]]
    survey.write_text("\n".join(["id,said,plan", *lines]) + "\n")
    code, said = command("responses", str(survey))
    assert code == BAD_INPUT, said
    assert "3 of 63 rows" in said
    assert "mend [answers.<name>]" in said
    assert "(row 61: aaaaa)" in said
    survey.write_text("id,said,plan\n" + "\n".join(f"x{k},Y," for k in range(9)))
    code, said = command("responses", str(survey))
    assert code == BAD_INPUT, said
    assert not received(apart.home)
    # few are lost, and the attempts of the day before come again: said, and stored
    file = file_of(tmp_path, *good, *good[:20], asks[0])
    code, said = command("results", str(file), "--plan", "p1")
    assert code == OK, said
    for sentence in (
        "back.csv: 81 rows in = 60 accepted + 21 set aside",
        "the same attempt or answer again; the first is kept: 20 (such as row 61)",
        "no voter of the file: 1 (such as row 81)",
        "1 rows that ask for no contact could not be read",
    ):
        assert sentence in said, said
    file = file_of(tmp_path, *good, *good[:19])
    code, said = command("results", str(file), "--plan", "p1")
    assert code == OK, said
    assert "read in an earlier file of this plan; that one is kept: 60" in said


def test_what_was_cut_off_before_the_ledger_knew_counts_for_nothing(
    apart: Run, locked: StatedPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voter = locked.plan["voter_id"].iloc[0]
    file = file_of(tmp_path, f"{voter},2026-09-08,mail,do_not_contact,Q1,yes")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(Ledger, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            read_back(apart, "p1", file, at=AT)
    assert responses_so_far(apart.home, AT).empty
    assert closed_channels(apart.home).empty
    read_back(apart, "p1", file, at=AT)
    assert len(responses_so_far(apart.home, AT)) == 1
    assert len(closed_channels(apart.home)) == 1


def test_a_voter_who_left_the_file_is_refused(
    run: Run, locked: StatedPlan, tmp_path: Path
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
    run: Run, locked: StatedPlan, tmp_path: Path
) -> None:
    folder = export_system(run, locked, tmp_path, at=AT)
    told = json.loads((folder / "manifest.json").read_text())
    held = set(locked.assignments["voter_id"].iloc[360:]) | held_by_the_campaign(run)
    assert told["refused"] == {"held_out": len(held)}
    universe = (folder / "universe-jobs.csv").read_text().split()[1:]
    assert len(universe) > 100
    assert not set(universe) & held


def held_by_the_campaign(run: Run) -> set[str]:
    """Voters whom the campaign's salt holds out, whatever any plan says."""
    ids = run.table("voters")["voter_id"].to_numpy(dtype=object)
    held = held_out(ids, salt="sample-20261103", share=0.1)
    return {str(voter) for voter in ids[held]}


def test_scores_beside_a_days_plan_leave_without_the_whole_holdout(
    run: Run, locked: StatedPlan, tmp_path: Path
) -> None:
    """A day's plan holds decided rows alone, and hardly anybody of the holdout."""
    held = held_by_the_campaign(run)
    decided = locked.assignments["role"] == "plan"
    decided &= ~locked.assignments["voter_id"].isin(held)
    rows = locked.assignments[decided]
    plan = locked.plan[locked.plan["voter_id"].isin(rows["voter_id"])]
    day = replace(locked, assignments=rows.head(50), plan=plan.head(50))
    folder = export_system(run, day, tmp_path, at=AT)
    with ZipFile(folder / "scores.zip") as archive:
        (name,) = archive.namelist()
        written = archive.read(name).decode().splitlines()[1:]
    ids = {line.split(",")[0] for line in written}
    assert len(held) > 20
    assert not ids & held
    assert len(ids) == 400 - len(held)


@pytest.mark.parametrize("channel", ["mail", "sms", "phone", "email", "social"])
def test_where_places_alone_may_choose_nobody_is_handed_over(
    run: Run, locked: StatedPlan, tmp_path: Path, channel: str
) -> None:
    text = declared_as(DECLARED).replace('"us_default"', '"places_only"')
    places = replace(run, campaign=parse_campaign(text, file=run.campaign.file))

    def by(name: str) -> StatedPlan:
        plan = locked.plan.assign(channel=name)
        sent = locked.assignments["channel"] != "none"
        assigned = locked.assignments.assign(
            channel=locked.assignments["channel"].mask(sent, name)
        )
        return replace(locked, plan=plan, assignments=assigned)

    with pytest.raises(ExportError, match=f"take place lists, got {channel}"):
        export(places, by(channel), at=AT, out=tmp_path)
    with pytest.raises(ExportError, match="take place lists"):
        export_system(places, locked, tmp_path, at=AT)
    assert not list(tmp_path.rglob("*.csv"))
    # a channel that takes places is given cells, and nobody's id
    folder = export(places, by("web"), at=AT, out=tmp_path).folder
    assert folder is not None
    for path in folder.glob("*.csv"):
        assert "V0" not in path.read_text(), path.name


def test_a_replay_campaign_exports_nothing(
    run: Run, locked: StatedPlan, tmp_path: Path
) -> None:
    text = declared_as(DECLARED).replace('"us_default"', '"research_replay"')
    replay = replace(run, campaign=parse_campaign(text, file=run.campaign.file))
    with pytest.raises(ExportError, match="never exports"):
        export(replay, locked, at=AT, out=tmp_path)
    with pytest.raises(ExportError, match="never exports"):
        export_system(replay, locked, tmp_path, at=AT)
    assert not list(tmp_path.iterdir())


def test_hours_and_platforms_are_those_of_the_rules(run: Run) -> None:
    terms = export_settings(run.campaign)
    assert (terms.channel("sms").starts, terms.channel("sms").until) == (8, 21)
    assert terms.channel("web").keys == ("place", "age_band", "sex")
    assert terms.channel("social").hashed_lists
    less = DECLARED + "\n[export.channels.web]\nmin_audience = 20\n"
    declared = parse_campaign(declared_as(less))
    assert export_settings(declared).channel("web").min_audience == 1_000


def test_a_fault_of_the_addresses_names_their_key_and_nobody(
    run: Run, locked: StatedPlan, tmp_path: Path
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
        ('[export.audience]\ncalling_code = "999"\n', "a country's calling code"),
        ('[export.audience]\nplatform = "x"\n', "x matches by fields out of email"),
        ('[export.audience]\nplatform = "snapchat"\n', "matches by one field"),
        (
            '[export.audience]\nplatform = "meta"\nphone_plus = true\n',
            "expected no phone_plus",
        ),
        ('[export.audience]\nfields = ["shoe"]\n', "expected fields out of"),
    ],
)
def test_a_wrong_declaration_is_refused(wrong: str, expected: str) -> None:
    with pytest.raises(CampaignError, match=expected):
        parse_campaign(declared_as(wrong))


def test_facts_leave_out_nobody_who_is_on_file(run: Run) -> None:
    facts = facts_now(run, AT.tz_localize(None) if AT.tzinfo else AT)
    assert facts.known_voters is not None
    assert len(facts.known_voters) == 400


def test_lists_and_audiences_leave_as_channels_take_them(tmp_path: Path) -> None:
    """Telephones that are none, and Google's country and zip, which it wants plain."""
    made = campaign_at(tmp_path)
    by_sms = sms_voters(made)
    ids = made.table("voters")["voter_id"].iloc[:360]
    others = ids[~ids.isin(by_sms)].iloc[:120]
    channel = pd.concat(
        [pd.Series("sms", index=by_sms), pd.Series("social", index=others)]
    )
    drafted(made, channel, ["few"])
    done = CliRunner().invoke(
        app,
        ["export", "few", "--campaign", str(tmp_path / "campaign.toml"),
         "--data", str(tmp_path), "--out", str(tmp_path / "out")],
        env={"MLFLOW_TRACKING_URI": None},
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "133 planned, 125 exported" in done.output
    assert "refused, no_address: 8 (no address for the channel)" in done.output
    assert "of them by sms with a value that is no address: 7" in done.output
    assert "5551212" not in done.output
    (sms,) = (tmp_path / "out").glob("few/*/sms-*.csv")
    assert sorted(read(sms)["phone"]) == [
        "+16505551212", "+16505551213", "+16505551214", "+16505551215",
        "+447911123456",
    ]  # fmt: skip
    (audience,) = sms.parent.glob("audience-social-*.csv")
    google = read(audience)
    assert list(google) == ["Email", "First Name", "Last Name", "Country", "Zip"]
    assert set(google["Country"]) == {"us"}
    assert set(google["Zip"]) == {"27006"}
    assert set(google["First Name"]) == {hashlib.sha256(b"avelda").hexdigest()}
    assert google["Email"].str.fullmatch(r"[0-9a-f]{64}").all()


def test_from_the_command_line(run: Run, tmp_path: Path) -> None:
    where = ["--campaign", str(run.campaign.file), "--data", str(run.home.parent)]
    to = [*where, "--out", str(tmp_path), "--format", "parquet"]
    refused = CliRunner().invoke(app, ["export", "p2", *to])
    assert refused.exit_code == 2
    assert "got one that is draft" in refused.output
    result = CliRunner().invoke(app, ["export", "p1", *to])
    assert result.exit_code == 0, result.output
    assert "360 planned, 360 exported" in result.output
    assert SECRET not in result.output
    file = file_of(tmp_path, "nobody,2026-09-08,mail,delivered,,")
    read = CliRunner().invoke(app, ["results", str(file), "--plan", "p1", *where])
    assert read.exit_code == BAD_INPUT, read.output
    said = " ".join(read.output.split())
    assert "expected rows, got none out of 1" in said
    assert "1 × voter_id: no voter of the file (row 1)" in said


# --- to a database --------------------------------------------------------------------


def test_contacts_go_to_a_table_of_postgresql_and_are_replaced_there(
    apart: Run, postgres: str
) -> None:
    import psycopg

    with psycopg.connect(postgres) as session:
        session.execute("CREATE SCHEMA field")
    export_to = ["export", "p1", "--campaign", str(apart.campaign.file), "--data",
                 str(apart.home.parent), "--to", postgres, "--table"]  # fmt: skip
    for _ in range(2):
        result = CliRunner().invoke(app, [*export_to, "field.contacts"])
        assert result.exit_code == 0, result.output
        assert "360 contacts of the plan" in " ".join(result.output.split())
        with psycopg.connect(postgres, client_encoding="utf8") as session:
            rows = session.execute("SELECT * FROM field.contacts").fetchall()
        planned = stated(apart.home, "p1", "locked").plan
        wanted = zip(
            planned["voter_id"], planned["channel"], planned["message_id"],
            planned["send_on"].dt.date, strict=True,
        )  # fmt: skip
        assert sorted(rows) == sorted(("p1", *row) for row in wanted)
    *_, out, again = outside(apart.home)
    assert out["files"] == again["files"] == [f"{postgres} field.contacts"]
    absent = CliRunner().invoke(app, [*export_to, "no_schema.contacts"])
    assert absent.exit_code == MISSING
    assert "no_schema" in absent.output


@pytest.mark.parametrize(
    ("address", "why"),
    [("ftp://files", "expected an address that begins with postgresql://"),
     ("postgresql://me:secret@host/db", "PGPASSWORD")],
)  # fmt: skip
def test_no_list_leaves_where_the_database_is_none(
    apart: Run, address: str, why: str
) -> None:
    result = CliRunner().invoke(
        app, ["export", "p1", "--campaign", str(apart.campaign.file), "--data",
              str(apart.home.parent), "--to", address],
    )  # fmt: skip
    assert result.exit_code == BAD_INPUT
    assert why in " ".join(result.output.split())
    assert not list((apart.home / "exports").glob("p1/*/manifest.json"))


# ibis calls duckdb by its earlier names
@pytest.mark.filterwarnings("ignore:fetch_arrow:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:fetch_record_batch:DeprecationWarning")
def test_contacts_go_through_ibis_to_a_warehouse() -> None:
    # no warehouse can be had here: another engine of ibis takes the rows
    import ibis

    backend = ibis.duckdb.connect()
    status = pd.DataFrame({
        "voter_id": ["v1", "v2"], "channel": "mail", "message_id": "m1",
        "send_on": pd.Timestamp("2026-09-08"), "code": ["", "do_not_contact"],
    })  # fmt: skip
    for plan_id in ("p1", "p'2", "p1"):
        rows = contact_rows(plan_id, status)
        write_by_ibis(backend, rows, plan_id, "contacts", "duckdb")
    there = backend.table("contacts").to_pandas()
    assert sorted(there["plan_id"]) == ["p'2", "p1"]
    assert set(there["voter_id"]) == {"v1"}
    write_by_ibis(backend, rows.head(0), "p1", "contacts", "duckdb")
    assert backend.table("contacts").to_pandas()["plan_id"].tolist() == ["p'2"]


@pytest.mark.parametrize("dialect", ["bigquery", "snowflake", "redshift"])
def test_a_plan_is_taken_out_in_the_words_of_the_warehouse(dialect: str) -> None:
    written = removing("field.contacts", "p1", dialect)
    assert written == "DELETE FROM field.contacts WHERE plan_id = 'p1'"
    assert "\\'" in removing("t", "p'2", dialect)
