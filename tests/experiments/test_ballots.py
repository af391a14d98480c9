"""Who has voted: out of every plan and list, until a correction takes it back."""

import json
import shlex
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments import plans
from hustings.experiments.cli import BAD_INPUT, OK, app, common
from hustings.experiments.declaration import load_campaign
from hustings.experiments.handover.lists import facts_now
from hustings.experiments.plans.money import spend
from hustings.experiments.plans.online import online_so_far
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.offers import holdout_of
from hustings.experiments.stages.persons import on_file
from hustings.experiments.stages.reactions import open_intake, remember_former
from hustings.serving.decisions import HandedOut, OnlineDecisions, microseconds
from hustings.serving.eligible import recheck
from hustings.serving.reactions.broker import take
from tests.experiments.test_exporting import NOW, campaign_at, declared_as, drafted
from tests.serving.exports import read
from tests.story import Story

BALLOTS = """
[ballots]
first_day = 2026-09-01

[ballots.table]
path = "given when it is read"
source = "the county"
licence = "public record"
permitted_use = "campaigning"
most_quarantined = 0.4

[ballots.table.columns]
voter_id = "id"
dated = { column = "day", format = "%m/%d/%Y" }
method = "how"

[ballots.table.columns.status]
column = "code"

[ballots.table.columns.status.map]
R = "returned"
A = "accepted"
X = "rejected"
O = "sent"
E = "voted"
C = "cured"
Q = "requested"
Z = "cancelled"
"""
ON_ITS_DAY = pd.Timestamp("2026-09-08 12:00", tz="UTC")
"""On the day of the lists of p1."""
HEADER = "id,code,day,how\n"


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The tables of 400 voters; plan p1 mails 360 of them and holds out the others."""
    top = tmp_path_factory.mktemp("ballots")
    made = campaign_at(top)
    (top / "campaign.toml").write_text(declared_as(BALLOTS))
    ids = made.table("voters")["voter_id"].iloc[:360]
    drafted(made, pd.Series("mail", index=ids), ["p1", "p2"])
    return made


class Apart:
    """The campaign in a folder of its own, behind the command line."""

    def __init__(self, run: Run, top: Path) -> None:
        home = top / "data" / "sample"
        shutil.copytree(run.home, home)
        shutil.copy(run.home.parent / "campaign.toml", top / "campaign.toml")
        self.top, self.n_files = top, 0
        # all commands of one second
        self.at = NOW
        self.run = replace(run, home=home, folder=home / "r1")
        self.ids: list[str] = run.table("voters")["voter_id"].tolist()

    @property
    def where(self) -> tuple[str, ...]:
        return ("--campaign", str(self.top), "--data", str(self.top / "data"))

    def said(self, *words: str, code: int = OK) -> str:
        done = CliRunner().invoke(app, [*words, *self.where])
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    def file(self, *lines: str) -> str:
        self.n_files += 1
        path = self.top / f"ballots-{self.n_files}.csv"
        path.write_text(HEADER + "\n".join(lines) + "\n")
        return str(path)

    def read(self, *lines: str) -> str:
        return self.said("already-voted", self.file(*lines))

    def n_voted(self) -> int:
        stands = json.loads(self.said("status", "--json"))
        return int(stands["n_voted"])

    def refused(self) -> set[str]:
        """Voters whom the rules refuse now since they have voted."""
        contacts = plans_of(self.run.home)
        code = recheck(contacts, facts_now(self.run, NOW), pd.Timestamp("2026-10-21"))
        return set(contacts.loc[code == "already_voted", "voter_id"])


def plans_of(home: Path) -> pd.DataFrame:
    return pd.read_parquet(home / "plans" / "p1" / "plan.parquet")


@pytest.fixture
def apart(campaign: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apart:
    campaign_apart = Apart(campaign, tmp_path)
    monkeypatch.setattr(common, "utc_now", lambda: campaign_apart.at)
    return campaign_apart


def test_a_vote_counts_until_a_later_ballot_takes_it_back(apart: Apart) -> None:
    v = apart.ids
    said = apart.read(
        f"{v[0]},R,10/19/2026,mail", f"{v[1]},E,10/19/2026,early",
        f"{v[2]},O,10/01/2026,mail", f"{v[3]},C,10/19/2026,mail",
        f"{v[4]},X,10/19/2026,mail", f"{v[5]},A,10/19/2026,mail",
    )  # fmt: skip
    assert "6 rows in = 6 accepted + 0 set aside" in said
    assert "3 voters have voted" in said
    assert apart.refused() == {v[0], v[1], v[5]}
    # rejected the next day, and corrected on the same day: neither is a vote
    apart.read(f"{v[0]},X,10/20/2026,mail", f"{v[1]},Z,10/19/2026,early")
    assert apart.refused() == {v[5]}
    # cured is not accepted yet
    apart.read(f"{v[0]},C,10/21/2026,mail")
    assert apart.refused() == {v[5]}
    apart.read(f"{v[0]},A,10/22/2026,mail")
    assert apart.refused() == {v[0], v[5]}
    assert apart.n_voted() == 2


def test_repeats_change_nothing_in_whatever_order_they_come(apart: Apart) -> None:
    v = apart.ids
    early = apart.file(f"{v[0]},O,10/01/2026,mail", f"{v[1]},O,10/02/2026,mail")
    late = apart.file(f"{v[0]},R,10/19/2026,mail", f"{v[1]},O,10/02/2026,mail")
    apart.said("already-voted", late)
    assert "1 say something new and 1 what is known" in apart.said(
        "already-voted", early
    )
    assert apart.refused() == {v[0]}
    corrected = apart.file(f"{v[0]},X,10/19/2026,mail")
    apart.said("already-voted", corrected)
    said = apart.said("already-voted", late)
    assert "read before" in said
    assert "0 voters have voted" in said
    # the county's cumulative file has every ballot of a voter, in no order
    apart.read(
        f"{v[2]},A,10/19/2026,mail", f"{v[2]},X,10/12/2026,mail",
        f"{v[3]},A,10/19/2026,mail", f"{v[3]},Z,10/19/2026,mail",
    )  # fmt: skip
    assert apart.refused() == {v[2], v[3]}


def test_what_cannot_be_read_is_set_aside_and_said(apart: Apart) -> None:
    v = apart.ids
    said = apart.read(
        f"{v[0]},R,10/19/2026,mail", f"{v[1]},R,10/19/2026,mail",
        f"{v[2]},R,10/19/2026,mail", f"{v[3]},Q,03/01/2026,mail",
        "nobody,R,10/19/2026,mail", f"{v[4]},W,10/19/2026,mail",
        f"{v[5]},R,10/19/2099,mail", f"{v[6]},R,31/31/2026,mail",
        f"{v[7]},A,11/03/2024,mail",
    )  # fmt: skip
    assert "9 rows in = 4 accepted + 5 set aside" in said
    for reason in (
        "no voter of the file", "a day that has begun",
        "none before [ballots].first_day 2026-09-01",
    ):  # fmt: skip
        assert reason in said, said
    assert apart.refused() == {v[0], v[1], v[2]}
    (folder,) = (apart.run.home / "results" / "_ballots").iterdir()
    aside = pd.read_parquet(folder / "quarantine.parquet")
    assert aside["row"].nunique() == 5
    assert set(aside["column"]) == {"voter_id", "status", "dated"}
    # more than a wrong row here and there: nothing is stored
    bad = apart.file(*(f"{i},W,10/19/2026,mail" for i in v[10:14]))
    apart.said("already-voted", bad, code=BAD_INPUT)
    assert apart.n_voted() == 3


def test_a_campaign_that_declares_no_ballots_says_what_to_declare(
    apart: Apart,
) -> None:
    (apart.top / "campaign.toml").write_text(declared_as(""))
    file = apart.file("x,R,10/19/2026,mail")
    said = apart.said("already-voted", file, code=BAD_INPUT)
    assert "expected a section [ballots]" in said
    (apart.top / "campaign.toml").write_text(
        declared_as(BALLOTS.replace('dated = { column = "day"', "#"))
    )
    said = apart.said("already-voted", file, code=BAD_INPUT)
    assert "expected a column 'dated'" in said


# --- lists ----------------------------------------------------------------------------


def test_a_list_that_left_gets_a_file_of_who_is_to_be_taken_out(apart: Apart) -> None:
    v, apart.at = apart.ids, ON_ITS_DAY
    apart.said("export", "p1")
    said = apart.read(f"{v[0]},R,09/07/2026,mail", f"{v[1]},O,09/01/2026,mail")
    assert "plan p1: 1 contacts to take out of its lists" in said
    folder = sorted((apart.run.home / "exports" / "p1").iterdir())[-1]
    removed = read(folder / "removed-mail-2026-09-08.csv")
    assert removed["voter_id"].tolist() == [v[0]]
    assert set(removed["reason"]) == {"already_voted"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["refused"] == {"already_voted": 1}
    # the ledger holds its digest
    apart.said("verify")
    with (folder / "removed-mail-2026-09-08.csv").open("a") as file:
        file.write("\n")
    assert "altered" in apart.said("verify", code=BAD_INPUT)


def test_a_list_of_a_day_that_is_over_is_left_until_somebody_says_what_was_sent(
    apart: Apart,
) -> None:
    v, apart.at = apart.ids, ON_ITS_DAY
    apart.said("export", "p1")
    apart.read(f"{v[1]},R,09/07/2026,mail")
    apart.at = ON_ITS_DAY + pd.Timedelta(days=1)
    said = apart.read(f"{v[0]},R,09/09/2026,mail")
    command = f"plans sent p1 {' '.join(apart.where)}"
    left = "plan p1: 1 contacts of days that have passed were left"
    assert f"{left}: mark what was sent with `hustings {command}`" in said
    assert "to take out" not in said
    assert left in apart.said("export", "p1")
    sent = CliRunner().invoke(app, shlex.split(command))
    # who was taken out in time was not sent it
    assert "2026-09-08-mail: 359 contacts" in " ".join(sent.output.split())
    money = spend(plans.plans(apart.run.home), online_so_far(apart.run.home))
    assert money["usd_spent"].sum() == pytest.approx(359 * 0.6)


def test_a_list_that_has_not_left_goes_without_who_has_voted(apart: Apart) -> None:
    v = apart.ids
    apart.read(f"{v[0]},R,10/19/2026,mail", f"{v[1]},E,10/19/2026,early")
    said = apart.said("plans", "sent", "p1")
    assert "358 contacts; 2 withheld, who have voted already" in said
    money = spend(plans.plans(apart.run.home), online_so_far(apart.run.home))
    assert money["usd_spent"].sum() == pytest.approx(358 * 0.6)
    assert money["usd_committed"].sum() == pytest.approx(358 * 0.6)
    # a vote that is taken back later changes nothing of what was handed over
    apart.read(f"{v[0]},X,10/20/2026,mail")
    assert "marked as sent before" in apart.said("plans", "sent", "p1")


def test_who_votes_after_a_list_left_was_on_it(apart: Apart) -> None:
    v = apart.ids
    apart.said("export", "p1")
    ballots = [{"event_id": "1", "kind": "ballot", "voter_id": v[0],
                "status": "returned", "dated": "2026-10-19"}]  # fmt: skip
    over_http(apart, ballots)
    said = apart.said("plans", "sent", "p1")
    assert "1 of its list have voted since it left" in said
    assert "360 contacts" in said
    # without a file: only the lists follow, sent or not
    assert "plan p1: 1 contacts to take out" in apart.said("already-voted")
    assert "marked as sent before" in apart.said("plans", "sent", "p1")


def over_http(apart: Apart, events: list[dict[str, str]]) -> list[int]:
    """Hand events to the intake that the endpoint and the consumer share."""
    declared = load_campaign(apart.top)
    intake = open_intake(declared, apart.run.home)
    receipt = intake.receive(events, received_at=apart.at.to_pydatetime())
    intake.events.close()
    return [receipt.accepted, receipt.duplicate, receipt.quarantined]


def test_ballots_come_over_http_and_the_stream_too(apart: Apart) -> None:
    v = apart.ids
    one, other, third = v[:3]
    event = {"event_id": "1", "kind": "ballot", "voter_id": one, "status": "Returned",
             "dated": "2026-10-19", "method": "drop box"}  # fmt: skip
    wrong = [
        {**event, "event_id": "2", "status": "lost"},
        {**event, "event_id": "3", "dated": "2099-10-19"},
        {**event, "event_id": "4", "dated": "2024-11-03"},
        {**event, "event_id": "5", "dated": "soon"},
        {**event, "event_id": "6", "voter_id": ""},
    ]
    assert over_http(apart, [event, *wrong]) == [1, 0, 5]
    assert over_http(apart, [event]) == [0, 1, 0]
    # nobody has asked for anything: no wish waits for a person
    said = apart.said("reactions", "review")
    assert "0 open" in said
    assert apart.refused() == {one}
    # what a file says of the same day is known; what it says later counts
    assert "1 what is known" in apart.read(f"{one},R,10/19/2026,mail")
    apart.read(f"{one},X,10/20/2026,mail", f"{other},A,10/20/2026,mail")
    assert apart.refused() == {other}
    # a broker's stream brings them, too
    intake = open_intake(load_campaign(apart.top), apart.run.home)
    late = {**event, "event_id": "8", "voter_id": third}
    take(intake, [json.dumps(late).encode()])
    intake.events.close()
    assert apart.refused() == {other, third}
    # an event that is delivered twice does not undo what came between
    assert over_http(apart, [event]) == [0, 1, 0]
    again = {**event, "event_id": "7", "dated": "2026-10-20"}
    assert over_http(apart, [again, {**event, "voter_id": v[3]}]) == [1, 1, 0]
    assert apart.refused() == {one, other, third}


def test_a_campaign_without_ballots_takes_none_over_http(apart: Apart) -> None:
    (apart.top / "campaign.toml").write_text(declared_as(""))
    event = {"event_id": "1", "kind": "ballot", "voter_id": apart.ids[0],
             "status": "returned", "dated": "2026-10-19"}  # fmt: skip
    assert over_http(apart, [event]) == [0, 0, 1]


def test_an_open_offer_to_who_has_voted_ends(apart: Apart) -> None:
    now = pd.Timestamp.now("UTC")
    intake = open_intake(load_campaign(apart.top), apart.run.home)
    offers = [
        HandedOut(
            decision_id=voter, voter_id=voter, plan_id="", experiment_id="test",
            role="plan", message_id="m1", channel="mail", propensity=1.0,
            arm_propensity=1.0, predicted_lift=0.1, model_version="m/1", cost_usd=0.6,
            decided_at=microseconds(now),
            expires_at=microseconds(now + pd.Timedelta(hours=1)),
        )
        for voter in apart.ids[:3]
    ]  # fmt: skip
    decisions = OnlineDecisions.in_store_of(intake.events)
    decisions.turn(lambda turn: turn.hand_out(offers, {}), now)
    reserved = online_so_far(apart.run.home, now).reserved_usd
    assert reserved == pytest.approx(1.8)
    said = apart.read(f"{apart.ids[0]},R,10/19/2026,mail")
    assert "1 open offers to them have ended" in said
    later = now + pd.Timedelta(minutes=1)
    assert online_so_far(apart.run.home, later).reserved_usd == pytest.approx(1.2)
    intake.events.close()


# --- whom to chase --------------------------------------------------------------------


def test_a_chase_list_has_who_is_out_and_may_be_contacted(apart: Apart) -> None:
    v = apart.ids
    permissions = apart.run.table("permissions")
    by_sms = permissions[permissions["channel"] == "sms"]
    granted = by_sms.loc[by_sms["withdrawn_at"].isna(), "voter_id"]
    may = [i for i in granted if i in v[:300]][:3]
    none = next(i for i in v[:300] if i not in set(by_sms["voter_id"]))
    out = [f"{i},O,10/01/2026,mail" for i in (*may, none, *v[300:])]
    back = f"{may[0]},R,10/12/2026,mail"
    said = apart.said(
        "already-voted", apart.file(*out, back), "--chase", "sms", "--chase", "mail"
    )
    lists = {
        name: read(path)
        for name in ("sms", "mail")
        for path in apart.run.home.glob(f"exports/_chase/*/chase-{name}.csv")
    }
    assert f"chase-sms.csv: {len(lists['sms']):,} voters whose ballot is out" in said
    on_sms, on_mail = (set(rows["voter_id"]) for rows in lists.values())
    held = holdout_of(apart.run, apart.run.table("voters"))
    held_out = {i for i, is_held in zip(v, held, strict=True) if is_held}
    assert held_out & set(v[300:])
    assert not held_out & (on_sms | on_mail)
    assert on_sms == ({*may[1:]} | (set(granted) & set(v[300:]))) - held_out
    assert on_mail >= ({*may[1:], none} - held_out)
    assert may[0] not in on_sms | on_mail
    assert set(lists["mail"]["sent_on"]) == {"2026-10-01"}
    apart.said("verify")


def test_lists_outside_the_folder_are_named_and_nobody_on_them_is_withheld(
    apart: Apart,
) -> None:
    vendor = apart.top / "vendor"
    apart.said("export", "p1", "--out", str(vendor))
    listed = read(next(vendor.glob("p1/*/mail-*.csv")))["voter_id"]
    apart.said("already-voted")  # nobody on them has voted
    file = apart.file(f"{listed.iloc[0]},R,10/19/2026,mail")
    said = apart.said("already-voted", file, code=BAD_INPUT)
    assert "its contacts lie outside the campaign's folder" in said
    again = f"hustings export p1 {' '.join(apart.where)}"
    assert f"`{again}` with the same --out" in said
    assert "withheld" not in apart.said("plans", "sent", "p1")


def test_a_voter_of_no_file_is_told_from_one_of_an_earlier_or_the_last(
    story: Story,
) -> None:
    voter = str(story.run.table("voters")["voter_id"].iloc[0])
    assert on_file(story.run.home, pd.Series([voter, "nobody"])).tolist() == [
        True, False,
    ]  # fmt: skip


# --- what is kept of a person ---------------------------------------------------------


def test_a_person_is_shown_the_ballot_and_can_be_forgotten(apart: Apart) -> None:
    v = apart.ids
    store = ("--store", str(apart.top / "mlflow"))
    apart.read(f"{v[0]},R,10/19/2026,mail", f"{v[1]},R,10/19/2026,mail")
    shown = json.loads(
        CliRunner().invoke(app, ["show", v[0], "--json", *store, *apart.where]).stdout
    )
    tables = {row["table"]: row["rows"] for row in shown["held"]}
    assert [row["status"] for row in tables["ballots"]] == ["returned"]
    assert "events.db" in {Path(row["file"]).name for row in shown["held"]}
    apart.said("forget", v[0], "--yes", *store)
    assert apart.n_voted() == 1
    apart.said("verify")
    # nobody who was forgotten comes back by a county's file
    said = apart.read(f"{v[0]},A,10/20/2026,mail", f"{v[1]},A,10/20/2026,mail")
    assert "2 rows in = 1 accepted + 1 set aside" in said
    # nor over HTTP or the stream
    events = [
        {"event_id": f"b-{name}", "kind": "ballot", "voter_id": name,
         "status": "accepted", "dated": "2026-10-20"}
        for name in (v[0], v[2])
    ]  # fmt: skip
    assert over_http(apart, events) == [1, 0, 1]
    assert apart.n_voted() == 2
    bytes_of_files = (p.read_bytes() for p in apart.run.home.rglob("*") if p.is_file())
    assert not any(v[0].encode() in data for data in bytes_of_files)


def test_a_vote_under_a_former_id_counts_once(apart: Apart) -> None:
    v = apart.ids
    apart.read(f"{v[0]},R,10/19/2026,mail")
    remember_former(apart.run, {v[0]: v[1]})
    assert apart.n_voted() == 1
    apart.read(f"{v[1]},X,10/20/2026,mail")
    assert apart.n_voted() == 0


def test_a_ballot_that_went_out_of_the_store_is_seen(apart: Apart) -> None:
    v = apart.ids
    apart.read(f"{v[0]},R,10/19/2026,mail", f"{v[1]},R,10/19/2026,mail")
    with sqlite3.connect(apart.run.home / "events.db") as store:
        store.execute("DELETE FROM ballots WHERE voter_id = ?", [v[0]])
    said = apart.said("verify", code=BAD_INPUT)
    assert "ballots in the store of events, which lacks 1" in said
