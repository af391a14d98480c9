"""What is offered and sent online counts as every other contact of the campaign.

A small campaign by its doors: the endpoint's own application hands out and is told what
was sent, commands plan, measure and read answers. Its clock is the test's.
"""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from hustings.experiments.cli import app, common
from hustings.experiments.record import (
    contacts_so_far,
    decisions_so_far,
    drawn_so_far,
    responses_so_far,
)
from hustings.features.checksums import write_checksums
from hustings.features.tables import CONTROL
from hustings.serving import service
from hustings.serving.endpoint import Endpoint
from hustings.serving.service import routes
from tests.experiments.test_day_whole_way import FIRST, HEADER, bring
from tests.once import once

N_VOTERS, BUDGET_USD, DAYS = 3_000, 0.45 * 3_000, 10
ONLINE = f"online-{FIRST:%Y-%m-%d}"
HOUR = pd.Timedelta(hours=1)
Json = dict[str, Any]


@dataclass
class Served:
    """A campaign that is spoken to by commands and over HTTP, at its own time."""

    folder: Path
    runs: Path
    clock: SimpleNamespace

    @property
    def home(self) -> Path:
        return self.runs / "five"

    def at(self, moment: pd.Timestamp) -> None:
        self.clock.now = moment.timestamp()

    def said(self, *words: str) -> str:
        where = ["--campaign", str(self.folder), "--data", str(self.runs)]
        # mlflow leaves the store of an earlier test in the environment
        nowhere = {"MLFLOW_TRACKING_URI": None}
        result = CliRunner().invoke(app, [*words, *where], env=nowhere)
        assert result.exit_code == 0, f"{words}: {result.output}"
        return " ".join(result.output.split())

    def day(self, date: pd.Timestamp, *words: str) -> str:
        """The plan of a day, made at six in the morning and locked."""
        return self.said(
            "day", "--date", f"{date:%Y-%m-%d}", "--approve-by", "Ada Pell",
            "--store", str(self.folder.parent / "mlflow"), *words,
        )  # fmt: skip

    def of_day(self, date: pd.Timestamp, name: str) -> Any:
        folder = self.home / "plans" / f"day-{date:%Y-%m-%d}"
        if name == "budget_usd":
            facts = json.loads((folder / "terms.json").read_text())["terms"]
            return facts["audiences"]["pool"]["terms"]["budget_usd"]
        return pd.read_parquet(folder / f"{name}.parquet")

    def post(self, path: str, body: Json) -> Json:
        routes.state.endpoint = Endpoint.load(self.home / "serving")
        answer = TestClient(routes).post(path, json=body)
        assert answer.status_code == 200, answer.text
        told: Json = answer.json()
        return told

    def ask(self, rows: list[Json]) -> dict[str, Json]:
        """What each voter of the file's rows is offered, by voter_id."""
        told = self.post("/recommend", {"voters": rows})["voters"]
        return {voter["voter_id"]: voter for voter in told}

    def offers(self, rows: list[Json]) -> dict[str, Json]:
        told = self.ask(rows)
        return {
            v: a["recommendation"] for v, a in told.items() if a["recommendation"]
        }  # fmt: skip

    def send(self, offers: dict[str, Json]) -> float:
        """Report offers as sent; their cost."""
        ids = [offer["decision_id"] for offer in offers.values()]
        assert self.post("/sent", {"decision_ids": ids})["recorded"] == len(ids)
        return float(sum(offer["cost_usd"] for offer in offers.values()))

    def rows(self, voter_ids: Any = None) -> list[Json]:
        """Rows of the voter file, as a client sends them."""
        raw = pd.read_parquet(self.folder / "raw" / "voters.parquet")
        if voter_ids is not None:
            raw = raw[raw["voter_id"].isin(voter_ids)]
        rows: list[Json] = json.loads(raw.to_json(orient="records", date_format="iso"))
        return rows


def make(home: Path) -> None:
    """The campaign with its run: a model, a bundle and no plan that binds."""
    bring(home / "campaign", N_VOTERS)
    served = Served(home / "campaign", home / "runs", SimpleNamespace(now=0.0))
    with played(served):
        served.at(FIRST - 12 * HOUR)
        store = str(home / "mlflow")
        served.said("run", "--model", "linear", "--trials", "1", "--store", store)


def played(served: Served) -> Any:
    """The clock of the campaign is that of commands and of the endpoint."""
    patch = pytest.MonkeyPatch()
    now = SimpleNamespace(time=lambda: served.clock.now, monotonic=time.monotonic)
    patch.setattr(common, "time", now)
    patch.setattr(service, "time", now)
    return _Undone(patch)


class _Undone:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


@pytest.fixture
def served(tmp_path: Path, one_thread: None) -> Iterator[Served]:  # noqa: ARG001
    """The campaign on the morning of its first day, for one test alone."""
    made = once("online", make)
    shutil.copytree(made / "runs", tmp_path / "runs")
    copy = Served(made / "campaign", tmp_path / "runs", SimpleNamespace(now=0.0))
    with played(copy):
        copy.at(FIRST + 5 * HOUR)
        yield copy


def halves(offers: dict[str, Json]) -> tuple[dict[str, Json], dict[str, Json]]:
    names = sorted(offers)
    middle = len(names) // 2
    return ({v: offers[v] for v in names[:middle]},
            {v: offers[v] for v in names[middle:]})  # fmt: skip


def test_a_contact_online_binds_the_days_and_its_money_is_gone_for_good(
    served: Served,
) -> None:
    offers = served.offers(served.rows()[:600])
    sent, opened = halves(offers)
    assert len(sent) > 50
    sent_usd = served.send(sent)
    reserved_usd = sum(offer["cost_usd"] for offer in opened.values())
    # a plan of the morning leaves out who was sent something, and who may be yet
    served.at(FIRST + 5.5 * HOUR)
    told = served.day(FIRST)
    assert f"{len(sent):,} contacts were sent online for ${sent_usd:,.2f}" in told
    assert f"{len(opened):,} offers are open there, with ${reserved_usd:,.2f}" in told
    decided = set(served.of_day(FIRST, "assignments")["voter_id"])
    assert len(decided) > 100
    assert not decided & set(offers)
    expected = (BUDGET_USD - sent_usd - reserved_usd) / DAYS
    assert served.of_day(FIRST, "budget_usd") == pytest.approx(expected, abs=0.005)
    spent = served.said("plans", "spend")
    assert ONLINE in spent
    assert "online-reserved" in spent
    # offers that ended give back their money and their voters
    second = FIRST + pd.Timedelta(days=2)
    served.at(second + 6 * HOUR)
    told = served.day(second)
    assert "offers are open" not in told
    planned_usd = served.of_day(FIRST, "plan")["cost_usd"].sum()
    expected = (BUDGET_USD - sent_usd - planned_usd) / (DAYS - 2)
    assert served.of_day(second, "budget_usd") == pytest.approx(expected, abs=0.005)
    decided = set(served.of_day(second, "assignments")["voter_id"])
    assert decided & set(opened)
    assert not decided & set(sent)
    # three days after the first contact the second is allowed, as after a plan's
    third = FIRST + pd.Timedelta(days=3)
    served.at(third + 6 * HOUR)
    served.day(third)
    assert set(served.of_day(third, "assignments")["voter_id"]) & set(sent)
    assert "online-reserved" not in served.said("plans", "spend")


def test_answers_of_what_was_sent_online_are_answers_of_the_campaign(
    served: Served, tmp_path: Path
) -> None:
    sent, unsent = halves(served.offers(served.rows()[:300]))
    sent_usd = served.send(sent)
    served.at(FIRST + 12 * HOUR)
    voters = sorted(sent)
    delivered = [f"{v},{sent[v]['channel']},{FIRST:%Y-%m-%d} 10:00:00,delivered,,"
                 for v in voters]  # fmt: skip
    answer = [f"{v},phone,{FIRST:%Y-%m-%d} 11:00:00,,Q1,60" for v in voters[:20]]
    file = tmp_path / "contacts.csv"
    file.write_text(HEADER + "\n".join(delivered + answer) + "\n")
    told = served.said("results", str(file), "--plan", ONLINE)
    n = len(delivered + answer)
    assert f"{n} rows in = {n} accepted + 0 set aside" in told
    assert f"contacts told: {len(sent)}" in told
    reached = contacts_so_far(served.home, FIRST + 12 * HOUR)
    assert set(reached["voter_id"]) == set(sent)
    # of no channel: of those who were sent something, of one who was not, of nobody
    served.at(pd.Timestamp("2026-09-21"))
    stranger = next(iter(unsent))
    file.write_text(
        "voter_id,support\n"
        + "".join(f"{v},55\n" for v in [*voters, stranger, "nobody"])
    )
    told = served.said("responses", str(file))
    assert f"{n_of(voters, 2)} rows in = {len(voters)} accepted + 2 set aside" in told
    rows = responses_so_far(served.home, pd.Timestamp("2026-09-21"))
    assert set(rows["plan_id"]) == {ONLINE}
    assert len(rows) == len(voters) + 20
    decided = decisions_so_far(served.home)
    assert set(decided["voter_id"]) == set(sent)
    assert drawn_so_far(served.home).empty
    # no plan: nothing to measure, and it says what was sent
    where = ["--campaign", str(served.folder), "--data", str(served.runs)]
    refused = CliRunner().invoke(app, ["lift", *where])
    assert refused.exit_code == common.MISSING
    said = " ".join(refused.output.split())
    assert f"Sent online: {len(sent)} contacts to {len(sent)} voters" in said
    assert f"${sent_usd:,.2f}" in said


def n_of(voters: list[str], more: int) -> int:
    return len(voters) + more


def test_who_was_offered_something_online_does_not_bias_what_days_measure(
    served: Served, tmp_path: Path
) -> None:
    # some come by first, held out or not
    served.at(FIRST - 11 * HOUR)
    rows = served.rows()[:380]
    offers = served.offers(rows)
    served.send(offers)
    served.at(FIRST + 7 * HOUR)
    served.day(FIRST)
    assigned = served.of_day(FIRST, "assignments")
    came_by = assigned["voter_id"].isin([row["voter_id"] for row in rows])
    # of these, the held out alone were left for the plan, by no chance
    assert came_by.sum() > 5
    assert set(assigned.loc[came_by, "role"]) == {"holdout"}
    drawn = drawn_so_far(served.home)
    assert set(drawn["voter_id"]) == set(assigned.loc[~came_by, "voter_id"])
    n_aside = len(assigned) - len(drawn)
    served.at(FIRST + 30 * HOUR)
    told = json.loads(_json(served.said("lift", "--json")))
    assert not told["sample_ratio"]["alarm"]
    assert told["n_decided"] == len(drawn)
    assert told["sent_online"]["n_contacts"] == len(offers)
    assert told["sent_online"]["n_set_aside"] == n_aside
    said = " ".join(told["sentences"])
    assert "no chance drawn: counted, not measured" in said
    assert f"{n_aside:,} decisions of plans are left aside" in said
    page = tmp_path / "week.html"
    served.said("week", "--date", f"{FIRST:%Y-%m-%d}", "--out", str(page))
    assert f"Sent online: {len(offers):,} contacts" in page.read_text()


def _json(output: str) -> str:
    return output[output.index("{") : output.rindex("}") + 1]


def test_what_a_plan_decided_and_was_carried_out_online_is_in_no_list(
    served: Served,
) -> None:
    plan = f"day-{FIRST:%Y-%m-%d}"
    served.day(FIRST)
    contacts = served.of_day(FIRST, "plan")
    by_mail = contacts.loc[contacts["channel"] == "mail", "voter_id"]
    offers = served.offers(served.rows(by_mail.head(5)))
    assert {offer["plan_id"] for offer in offers.values()} == {plan}
    served.send(offers)
    told = served.said("export", plan)
    assert "refused, sent_online: 5" in told
    told = served.said("plans", "sent", plan)
    assert "5 contacts had been carried out online" in told
    assert served.said("plans", "sent", plan)
    from hustings.experiments.plans import spent

    money = spent(served.home)
    assert money["usd_spent"].sum() == pytest.approx(contacts["cost_usd"].sum())
    assert money["usd_withheld"].sum() == 0
    assert money["n_spent"].sum() == len(contacts)
    assert not money["plan_id"].str.startswith("online-").any()


def test_what_was_sent_online_after_the_draft_is_kept_from_the_plans_lists(
    served: Served,
) -> None:
    plan, date = f"day-{FIRST:%Y-%m-%d}", f"{FIRST:%Y-%m-%d}"
    store = ["--store", str(served.folder.parent / "mlflow")]
    served.said("day", "--date", date, *store)
    contacts = served.of_day(FIRST, "plan").query("channel == 'mail'")
    offers = served.offers(served.rows(contacts["voter_id"]))
    assert {offer["plan_id"] for offer in offers.values()} == {None}
    some, rest = halves(offers)
    served.send(some)
    served.at(FIRST + 7 * HOUR)
    served.said("plans", "approve", plan, "--by", "Ada Pell", "--yes")
    served.said("plans", "lock", plan)
    told = served.said("export", plan)
    assert f"refused, contacted_online: {len(some)}" in told
    # and the endpoint does not send them the plan's contact either
    again = served.ask(served.rows(offers))
    assert {again[v]["reason"]["code"] for v in some} == {"already_decided"}
    assert {again[v]["recommendation"]["plan_id"] for v in rest} == {plan}
    # as the money of who is withheld is free again
    served.said("plans", "sent", plan)
    gone = contacts["voter_id"].isin(some)
    from hustings.experiments.plans import spent

    of_plan = spent(served.home).query("plan_id == @plan")
    assert of_plan["usd_withheld"].sum() == pytest.approx(
        contacts.loc[gone, "cost_usd"].sum()
    )


def test_who_is_forgotten_leaves_the_money_and_nothing_else(served: Served) -> None:
    offers = served.offers(served.rows()[:200])
    sent_usd = served.send(offers)
    voter = next(iter(offers))
    shown = served.said("show", voter)
    assert "online_decisions" in shown
    assert f"plan {ONLINE}, state sent" in shown
    told = served.said("forget", voter, "--yes")
    assert f"plan {ONLINE}, sent: {offers[voter]['message_id']} by" in told
    assert voter not in set(decisions_so_far(served.home)["voter_id"])
    assert "online_decisions" not in served.said("show", voter)
    listed = served.said("plans", "list")
    assert f"{ONLINE} sent {len(offers)} contacts {sent_usd:,.2f} USD" in listed
    served.said("verify")
    # asked about again, of the forgotten nothing is kept
    assert served.ask(served.rows([voter]))[voter]["recommendation"] is None
    assert "online_decisions" not in served.said("show", voter)


def test_a_person_of_merged_ids_is_one_for_the_endpoint_and_the_next_day(
    served: Served,
) -> None:
    served.at(FIRST + 6 * HOUR)
    served.day(FIRST)
    run = served.home / (served.home / "latest").read_text().strip()
    voters = pd.read_parquet(run / "tables" / "voters.parquet")
    identity = pd.read_parquet(served.home / "identity.parquet")
    decided = set(served.of_day(FIRST, "assignments")["voter_id"])
    left = voters.loc[~voters["voter_id"].isin(decided), "voter_id"]
    # nobody of them is held out or without permission
    other, present = sorted(served.offers(served.rows(left.head(60))))[:2]
    former = [min(served.of_day(FIRST, "plan")["voter_id"]), other]
    # two persons, one of them decided, were given the id of a third
    merged = identity[identity["voter_id"].isin(former)].assign(
        voter_id=present, reason="merged", former_id=lambda rows: rows["first_voter_id"]
    )
    pd.concat([identity, merged]).to_parquet(served.home / "identity.parquet")
    voters[~voters["voter_id"].isin(former)].to_parquet(
        run / "tables" / "voters.parquet"
    )
    write_checksums(run)
    answer = served.ask(served.rows([present]))[present]
    by_plan = answer["recommendation"] or answer["reason"]
    assert by_plan["plan_id"] == f"day-{FIRST:%Y-%m-%d}"
    served.at(FIRST + 30 * HOUR)
    served.day(FIRST + 24 * HOUR)
    again = set(served.of_day(FIRST + 24 * HOUR, "assignments")["voter_id"])
    assert again
    assert present not in again


def test_a_plan_of_all_leaves_out_who_was_reached_online(served: Served) -> None:
    sent, opened = halves(served.offers(served.rows()[:400]))
    sent_usd = served.send(sent)
    reserved_usd = sum(offer["cost_usd"] for offer in opened.values())
    told = served.said("plan", "--store", str(served.folder.parent / "mlflow"))
    assert f"Online: {len(sent)} contacts were sent for {sent_usd:,.2f} USD" in told
    folder = served.home / (served.home / "latest").read_text().strip()
    assigned = pd.read_parquet(folder / "assignments.parquet")
    assert len(assigned) == N_VOTERS - len(sent) - len(opened)
    assert not set(assigned["voter_id"]) & (set(sent) | set(opened))
    plan = pd.read_parquet(folder / "plan.parquet")
    left_usd = BUDGET_USD - sent_usd - reserved_usd
    assert 0.9 * left_usd < plan["cost_usd"].sum() <= left_usd + 0.005
    # it may be locked, with all of the money that it leaves
    served.said("plans", "approve", "--by", "Ada Pell", "--yes")
    served.said("plans", "lock")
    assert (plan["message_id"] != CONTROL).all()
