"""Five days of a campaign by commands alone, its answers drawn from a planted truth.

run → for five days: day, export, plans sent, results → lift; then train anew. Voters
may be contacted twice, some answers come a day late, some voters answer again.
"""

import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments import plans
from hustings.experiments.cli import app, common
from hustings.experiments.declaration import EXPERIMENTS
from hustings.experiments.record import decisions_so_far, responses_so_far
from hustings.features.simulated.campaign import simulate, write_sample
from hustings.features.tables import CONTROL

N_VOTERS, N_DAYS = 4_000, 5
FIRST = pd.Timestamp("2026-09-08")
GAIN = 3.0
"""Points by which every message gains more than the simulated sample's, by mail."""
REACHED, LATE, AGAIN, NOISE = 0.7, 0.2, 0.1, 4.0
UNUSED = {"simulate", "link", "link.voters", "report", "plan", "loop"}
UNUSED |= {"export.results.table", "answers.survey"}
UNUSED |= {f"tables.{t}" for t in ("reactions", "reaction_counts")}
DECLARED = """
[plan]
spend_per_voter_usd = 0.45
start_on = 2026-09-08
days = 10
capacity_per_day = 20_000
holdout_share = 0.3
explore_share = 0.05

[loop]
channels = ["mail", "sms"]
wave_voters = 0
explore_share = 0.1
window_days = 3
contacts_per_voter = 2
repeats = "each"

[export.results.table]
path = "given when it is read"
source = "the field"
licence = "own"
permitted_use = "any"

[export.results.answers.Q1]
outcome = "support"
values = { VALUES }

[guardrails.regard]
outcome = "support"
direction = "fall"
margin = 2.0
absent = "missing"

[answers.survey]
path = "given when it is read"
source = "a survey"
licence = "own"
permitted_use = "any"

[answers.survey.columns]
voter_id = "voter_id"
outcome = { value = "support" }
value = "support"
observed_at = { value = 2026-09-20 }
"""


def declaration() -> str:
    """The shipped sample as a campaign of its own, planned day by day."""
    shipped = (EXPERIMENTS / "sample" / "campaign.toml").read_text()
    parts = re.split(r"\n(?=\[)", shipped)
    names = [re.match(r"\[([^\]]+)\]", part) for part in parts]
    chosen = [
        part
        for part, name in zip(parts, names, strict=True)
        if name is None or name[1] not in UNUSED
    ]
    text = "\n".join(chosen).replace('"raw:', '"raw/')
    text = text.replace('name = "sample"', 'name = "five"')
    # what is answered is drawn around a baseline
    text = text.replace("[outcome]\n", "[outcome]\nscale = [-100, 200]\n")
    text = re.sub(r'\n\s*"reacted__\*",[^\n]*', "", text)
    values = ", ".join(f'"{v}" = {v}.0' for v in range(-100, 201))
    return text + DECLARED.replace("VALUES", values)


@dataclass
class Field:
    """Those who deliver, and voters who answer by the planted truth.

    Attributes:
        truth: By voter_id: baseline, and lift__<message> by mail.
        multiplier: Of the lift, by channel.
        effect: Of the contact behind each voter's last answer, in points.
    """

    truth: pd.DataFrame
    multiplier: dict[str, float]
    rng: np.random.Generator
    effect: dict[str, float] = field(default_factory=dict)

    def reports(
        self, assignments: pd.DataFrame, day: pd.Timestamp
    ) -> tuple[list[str], list[str]]:
        """Rows of the day's file, and of the file that comes a day later."""
        now, later = [], []
        for row in assignments.itertuples():
            reached = row.channel != "none" and self.rng.random() < REACHED
            effect = 0.0
            if reached:
                lift = self.truth.loc[row.voter_id, f"lift__{row.message_id}"]
                effect = float(lift * self.multiplier[row.channel])
            if row.channel != "none":
                end = "delivered" if reached else "failed"
                when = f"{day:%Y-%m-%d} 18:00:00"
                now.append(f"{row.voter_id},{row.channel},{when},{end},,")
            is_late = self.rng.random() < LATE
            answered_on = day + pd.Timedelta(days=int(is_late))
            (later if is_late else now).append(
                self._answer(row.voter_id, effect, answered_on)
            )
            if self.rng.random() < AGAIN:
                twice_on = answered_on + pd.Timedelta(hours=12)
                later.append(self._answer(row.voter_id, effect, twice_on))
            self.effect[row.voter_id] = effect
        return now, later

    def _answer(self, voter: str, effect: float, on: pd.Timestamp) -> str:
        value = self.truth.loc[voter, "baseline"] + effect
        value = round(value + NOISE * self.rng.standard_normal())
        return f"{voter},phone,{on + pd.Timedelta(hours=10)},,Q1,{value}"


@dataclass
class Campaign:
    """A campaign that is only spoken to by commands."""

    folder: Path
    runs: Path
    clock: SimpleNamespace
    people: Field
    lifts: list[dict[str, object]] = field(default_factory=list)
    following: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.runs / "five"

    def said(self, *command: str) -> str:
        """What a command says; it has to end well."""
        where = ["--campaign", str(self.folder), "--data", str(self.runs)]
        # mlflow leaves the store of an earlier test in the environment
        nowhere = {"MLFLOW_TRACKING_URI": None}
        result = CliRunner().invoke(app, [*command, *where], env=nowhere)
        assert result.exit_code == 0, f"{command}: {result.output}"
        following = re.findall(r"^Next: (.*)$", result.output, re.M)
        if following:
            (only,) = following
            assert result.output.splitlines()[-1] == f"Next: {only}"
            self.following.setdefault(" ".join(command[:2]), only)
        return result.output

    def at(self, moment: pd.Timestamp) -> None:
        """Set the clock that commands read."""
        self.clock.now = moment.timestamp()

    def of_all(self, *options: str) -> dict[str, float]:
        """The lift of all that was delivered."""
        told = json.loads(self.said("lift", *options, "--json"))
        self.lifts.append(told)
        return next(
            r for r in told["rows"]
            if r["estimand"] == "delivered" and not r["message_id"] + r["segment"]
        )  # fmt: skip


def bring(folder: Path, n_voters: int) -> tuple[pd.DataFrame, dict[str, float]]:
    """The campaign's files, and the truth: by voter, and the lift's part by channel."""
    sample = simulate(n_voters=n_voters, seed=6, n_messages=3)
    multiplier = sample.channels.set_index("channel")["multiplier"].astype(float)
    truth = sample.truth.set_index("voter_id").astype(float)
    truth[truth.filter(like="lift__").columns] += GAIN
    answers, drawn = sample.tables["responses"], sample.tables["deliveries"]
    channel = drawn.set_index("voter_id")["channel"].reindex(answers["voter_id"])
    gain = GAIN * channel.map(multiplier).fillna(0.0).to_numpy()
    answers["value"] += np.where(answers["outcome"] == "support", gain, 0.0)
    write_sample(sample, folder / "raw")
    (folder / "campaign.toml").write_text(declaration())
    return truth, multiplier.to_dict()


HEADER = "voter_id,channel,contacted_at,result,question,answer\n"


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """The campaign after five days, late answers included."""
    top = tmp_path_factory.mktemp("five")
    truth, multiplier = bring(top / "campaign", N_VOTERS)
    clock = SimpleNamespace(now=0.0)
    rng = np.random.default_rng(11)
    made = Campaign(
        top / "campaign", top / "runs", clock, Field(truth, multiplier, rng)
    )
    with pytest.MonkeyPatch.context() as patch:
        now = SimpleNamespace(time=lambda: clock.now, monotonic=time.monotonic)
        patch.setattr(common, "time", now)
        _five_days(made, top)
        yield made


def _five_days(made: Campaign, top: Path) -> None:
    store = ["--store", str(top / "mlflow")]
    made.at(FIRST - pd.Timedelta(hours=12))
    made.said("run", "--model", "linear", "--trials", "1", *store)
    late: list[str] = []
    for k in range(N_DAYS + 1):
        day = FIRST + pd.Timedelta(days=k)
        yesterday = f"day-{day - pd.Timedelta(days=1):%Y-%m-%d}"
        if k < N_DAYS:
            made.at(day + pd.Timedelta(hours=6))
            plan, date = f"day-{day:%Y-%m-%d}", f"{day:%Y-%m-%d}"
            by = ["--date", date, "--approve-by", "Ada Pell"]
            made.said("day", *by, *store)
            made.said("export", plan)
            made.said("plans", "sent", plan)
        made.at(day + pd.Timedelta(hours=23, minutes=59))
        if late:
            _read(made, top, yesterday, late, f"late-{k}.csv")
        if k < N_DAYS:
            rows = pd.read_parquet(made.home / "plans" / plan / "assignments.parquet")
            now, late = made.people.reports(rows, day)
            if k == 0:
                now += _wishes(rows, day)
            _read(made, top, plan, now, f"day-{k}.csv")
            made.of_all()


def _wishes(rows: pd.DataFrame, day: pd.Timestamp) -> list[str]:
    """Ten voters who were contacted want no more of it."""
    sent = rows[rows["channel"] != "none"].head(10)
    return [
        f"{row.voter_id},{row.channel},{day:%Y-%m-%d} 19:00:00,do_not_contact,,"
        for row in sent.itertuples()
    ]


def _read(made: Campaign, top: Path, plan: str, rows: list[str], name: str) -> None:
    file = top / name
    file.write_text(HEADER + "\n".join(rows) + "\n")
    said = made.said("results", str(file), "--plan", plan)
    assert f"{len(rows):,} rows in = {len(rows):,} accepted + 0 set aside" in said


@pytest.fixture
def copied(campaign: Campaign, tmp_path: Path) -> Campaign:
    """The campaign as it stands, to be changed by one test."""
    shutil.copytree(campaign.runs, tmp_path / "runs")
    return Campaign(campaign.folder, tmp_path / "runs", campaign.clock, campaign.people)


def test_every_command_says_what_comes_next(campaign: Campaign) -> None:
    first = f"day-{FIRST:%Y-%m-%d}"
    where = f"--campaign {campaign.folder} --data {campaign.runs}"
    following = campaign.following
    assert following["run --model"].startswith(
        f"hustings day --date {FIRST:%Y-%m-%d} {where}"
    )
    assert following["day --date"].startswith(f"hustings export {first} {where} (")
    assert following[f"export {first}"] == (
        f"hustings plans sent {first} {where} "
        "(exported, 2 of 2 batches to be marked as sent)"
    )
    assert following["plans sent"].startswith(
        f"hustings results FILE --plan {first} {where}"
    )
    results = next(v for k, v in following.items() if k.startswith("results"))
    assert results.startswith(f"hustings lift {where}")
    campaign.said("lift")
    assert following["lift"].startswith("hustings day --date 2026-09-13")


def test_status_has_the_figures_of_the_other_commands(campaign: Campaign) -> None:
    stands = json.loads(campaign.said("status", "--json"))
    money = plans.spent(campaign.home)
    assert stands["spent_usd"] == pytest.approx(money["usd_spent"].sum())
    assert stands["committed_usd"] == pytest.approx(money["usd_committed"].sum())
    assert stands["left_usd"] == pytest.approx(
        stands["budget_usd"] - stands["committed_usd"]
    )
    assert (stands["last_day"], stands["next_day"]) == ("2026-09-12", "2026-09-13")
    week = {f["plan_id"] for f in stands["due"]}
    assert not {plan for plan in week if plan.startswith("day-")}
    decided = decisions_so_far(campaign.home)
    held = decided.loc[decided["role"] == "holdout", "voter_id"].nunique()
    assert stands["n_held_out"] >= held > 0
    # a day before, its answers and its last plan were not there
    before = json.loads(campaign.said("status", "--as-of", "2026-09-09", "--json"))
    assert before["last_day"] == "2026-09-09"
    assert 0 < before["spent_usd"] < stands["spent_usd"]
    assert f"Money:   {stands['spent_usd']:,.2f} USD spent" in campaign.said("status")


def test_answers_are_in_from_the_first_day_on_and_grow(campaign: Campaign) -> None:
    n_in = [int(str(told["n_in"])) for told in campaign.lifts[:N_DAYS]]
    assert n_in[0] > 300
    assert all(a < b for a, b in pairwise(n_in))


def test_the_interval_of_the_measured_lift_holds_the_true_one(
    campaign: Campaign,
) -> None:
    row = campaign.of_all()
    decided = decisions_so_far(campaign.home)
    assert decided.duplicated("voter_id").any()
    first = decided.drop_duplicates("voter_id")
    first = first[first["intended_message_id"] != CONTROL]
    sent = first["message_id"] == first["intended_message_id"]
    nothing = first["message_id"] == CONTROL
    # of a first contact, with all that followed
    effect = first["voter_id"].map(campaign.people.effect)
    truth = effect[sent].mean() - effect[nothing].mean()
    assert truth > 0.5
    assert row["always_low"] < truth < row["always_high"]
    assert row["always_low"] > 0
    told = campaign.lifts[-1]
    assert told["trusted"]


def test_the_lift_of_the_reached_is_that_of_all_by_the_share_reached(
    campaign: Campaign,
) -> None:
    campaign.of_all()
    told = campaign.lifts[-1]
    reached = told["reached"]
    assert isinstance(reached, dict)
    share, lift = reached["contacted"], reached["reached"]
    assert share["low"] < REACHED < share["high"]
    assert lift["value"] == pytest.approx(
        reached["assigned"]["value"] / share["value"]
    )  # fmt: skip


def test_answers_that_are_shuffled_leave_no_lift(
    copied: Campaign, tmp_path: Path
) -> None:
    copied.at(pd.Timestamp("2026-09-21"))
    answers = responses_so_far(copied.home, pd.Timestamp("2026-09-21"))
    last = answers.sort_values("observed_at").drop_duplicates("voter_id", keep="last")
    shuffled = np.random.default_rng(3).permutation(last["value"].to_numpy())
    rows = [f"{v},{x:.0f}" for v, x in zip(last["voter_id"], shuffled, strict=True)]
    file = tmp_path / "survey.csv"
    file.write_text("voter_id,support\n" + "\n".join(rows) + "\nnobody,50\n")
    said = copied.said("responses", str(file))
    assert f"{len(rows) + 1:,} rows in = {len(rows):,} accepted + 1 set aside" in said
    row = copied.of_all()
    assert row["always_low"] < 0 < row["always_high"]


def test_who_asked_for_no_contact_gets_none_on_later_days(campaign: Campaign) -> None:
    folders = sorted((campaign.home / "plans").glob("day-*"))
    first = pd.read_parquet(folders[0] / "assignments.parquet")
    asked = first.loc[first["channel"] != "none", "voter_id"].head(10)
    again = set()
    for plan in folders[1:]:
        contacts = pd.read_parquet(plan / "plan.parquet")["voter_id"]
        assert not set(asked) & set(contacts)
        again |= set(contacts) & set(first["voter_id"])
    assert again


def test_what_is_handed_over_is_spent_once_and_every_day_can_be_computed_again(
    campaign: Campaign,
) -> None:
    plan = f"day-{FIRST:%Y-%m-%d}"
    spent = plans.spent(campaign.home).query("plan_id == @plan")["usd_spent"].sum()
    contacts = pd.read_parquet(campaign.home / "plans" / plan / "plan.parquet")
    assert spent == pytest.approx(contacts["cost_usd"].sum())
    campaign.said("plans", "sent", plan)
    again = plans.spent(campaign.home).query("plan_id == @plan")["usd_spent"].sum()
    assert again == spent
    campaign.said("evidence", plan, "--replay")
    campaign.said("verify")


def test_the_week_has_its_money_and_its_lift(
    campaign: Campaign, tmp_path: Path
) -> None:
    campaign.of_all()
    campaign.said("week", "--date", "2026-09-12", "--out", str(tmp_path / "w.html"))
    page = (tmp_path / "w.html").read_text()
    assert "Measured against predicted" in page


def test_no_held_out_voter_is_in_any_file_that_left(campaign: Campaign) -> None:
    decided = decisions_so_far(campaign.home)
    held = set(decided.loc[decided["role"] == "holdout", "voter_id"])
    assert held
    files = [p for p in (campaign.home / "exports").rglob("*.*") if p.is_file()]
    text = "".join(
        pd.read_parquet(path).to_csv()
        if path.suffix == ".parquet"
        else path.read_text()
        for path in files
    )
    listed = set(re.findall(r"V\d{7}", text))
    assert listed
    assert not held & listed


def test_nothing_of_the_campaigns_own_days_is_set_aside_and_training_uses_it(
    copied: Campaign, tmp_path: Path
) -> None:
    before = copied.home / (copied.home / "latest").read_text().strip()
    copied.at(FIRST + pd.Timedelta(days=N_DAYS + 2))
    copied.said("ingest")
    ingested = copied.home / (copied.home / "latest").read_text().strip()
    report = json.loads((ingested / "ingest.json").read_text())
    decided = decisions_so_far(copied.home)
    answers = responses_so_far(copied.home, FIRST + pd.Timedelta(days=N_DAYS + 2))
    raw = pd.read_parquet(copied.folder / "raw" / "responses.parquet")
    for name in ("designs", "deliveries", "responses"):
        assert report[name]["quarantined"] == 0, report[name]
    assert report["responses"]["rows_in"] == len(raw) + len(answers)
    deliveries = pd.read_parquet(ingested / "tables" / "deliveries.parquet")
    assert set(decided["plan_id"]) < set(deliveries["plan_id"])
    # the run that is the latest now has no scores, and lift needs none
    copied.of_all()
    store = ["--store", str(tmp_path / "mlflow")]
    copied.said("run", "--model", "linear", "--trials", "1", *store)
    after = copied.home / (copied.home / "latest").read_text().strip()
    # what is believed of the messages is another than before the five days, whoever
    # the gate keeps as champion
    old, new = (
        json.loads((r / "evaluation.json").read_text()) for r in (before, after)
    )
    effects = [
        [row["shrunken"]["value"] for row in result["messages"]]
        for judged in (old, new)
        for result in judged["experiments"].values()
    ]
    assert not np.allclose(*effects)
    _looked_at_with_the_days(before, after)
    hashes = [json.loads((r / "run.json").read_text())["data_hash"]
              for r in (before, after)]  # fmt: skip
    assert hashes[0] != hashes[1]


def _looked_at_with_the_days(before: Path, after: Path) -> None:
    """A guardrail holds at every look: days add people, and its intervals widen."""
    n, reach = [], []
    for run in (before, after):
        (guardrail,) = (
            g for g in json.loads((run / "guardrails.json").read_text())["guardrails"]
            if g["name"] == "regard"
        )  # fmt: skip
        rows = guardrail["messages"]
        assert len(rows) == 3
        n.append(rows[0]["n"])
        reach += [
            max(
                (row["effect"]["value"] - row["low"])
                / (row["effect"]["high"] - row["effect"]["value"])
                for row in rows
            )
        ]
    assert n[1] > n[0]
    assert reach[1] > 1.2 * reach[0]


def test_a_contacted_voter_who_is_forgotten_is_in_no_answer_any_more(
    copied: Campaign,
) -> None:
    decided = decisions_so_far(copied.home)
    voter = decided.loc[decided["message_id"] != CONTROL, "voter_id"].iloc[0]
    copied.said("forget", voter, "--yes")
    assert voter not in set(decisions_so_far(copied.home)["voter_id"])
    late = pd.Timestamp("2026-12-01")
    assert voter not in set(responses_so_far(copied.home, late)["voter_id"])
    copied.of_all()
