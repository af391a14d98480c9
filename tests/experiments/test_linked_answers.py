"""Answers of people without an id: linked, and corrected by the chance of each link."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import BAD_INPUT, OK, app, common
from hustings.experiments.declaration import load_campaign
from hustings.experiments.record import responses_so_far
from hustings.experiments.stages.loop_tables import recorded_rows
from hustings.features.simulated.campaign import simulate
from hustings.features.tables import RESPONSES, check
from hustings.features.training_set import linked_outcome
from hustings.training.estimators.metrics import Interval
from tests.experiments.test_lift import DECLARED, Campaign, campaign, campaign_folder

LINKED = """
[link]
bases = ["consent"]

[link.voters]
path = "identities.parquet"
source = "simulated"
licence = "none"
permitted_use = "matching alone"

[answers.survey]
source = "a survey"
licence = "none"
permitted_use = "any"

[answers.survey.columns]
first_name = "first"
last_name = "last"
birth_year = "born"
postcode = "zip"
basis = "basis"
outcome = { column = "what", map = { support = "support", turnout = "turnout" } }
value = "said"
observed_at = "day"
"""
NOW = pd.Timestamp("2026-11-01", tz="UTC")
N, N_SURVEY, STRANGERS, NO_BASIS = 1_500, 600, 60, 40
SENTINEL = "Quarkwright"


def hustings(home: Path, *words: str, code: int = OK) -> str:
    """What a command says."""
    given = [*words, "--campaign", str(home), "--data", str(home / "data")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "utc_now", lambda: NOW)
        done = CliRunner().invoke(app, given, env={"MLFLOW_TRACKING_URI": None})
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def no_answers(of: Campaign) -> Campaign:
    return replace(of, responses=of.responses.iloc[:0])


@pytest.fixture(scope="module")
def drawn() -> Campaign:
    return campaign(2, N)


@pytest.fixture(scope="module")
def surveyed(drawn: Campaign, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five plans, who the voters are, and a survey by name, year and postcode."""
    home = tmp_path_factory.mktemp("surveyed")
    campaign_folder(no_answers(drawn), home, DECLARED + LINKED)
    rng = np.random.default_rng(4)
    people = simulate(n_voters=N, seed=3, n_messages=2).identities
    people = people.assign(voter_id=drawn.voters["voter_id"])
    # those who answer, and one with a name that is nobody else's
    asked = drawn.responses.sample(N_SURVEY, random_state=1)
    one = people["voter_id"] == asked["voter_id"].iloc[0]
    people.loc[one, "last_name"] = SENTINEL
    people.to_parquet(home / "identities.parquet")
    rows = asked[["voter_id", "value"]].merge(people, on="voter_id")
    moved = rng.random(N_SURVEY) < 0.2
    other = rows["postcode"].sample(frac=1.0, random_state=2).to_numpy()
    rows["postcode"] = rows["postcode"].where(~moved, other)
    misread = rng.random(N_SURVEY) < 0.15
    rows["birth_year"] = rows["birth_year"].astype(int) + misread
    # people who are not in the file, under the names of those who are
    strangers = rows.sample(STRANGERS, random_state=5).assign(
        voter_id="", value=lambda s: s["value"] + 0.125,
        birth_year=lambda s: s["birth_year"] - 30,
        first_name=lambda s: s["first_name"].to_numpy()[::-1], postcode="00000",
    )  # fmt: skip
    rows = pd.concat([rows, strangers], ignore_index=True)
    rows["basis"] = np.where(np.arange(len(rows)) < NO_BASIS, "overheard", "consent")
    rows.loc[rows["last_name"] == SENTINEL, "basis"] = "consent"
    rows["what"] = np.where(np.arange(len(rows)) < NO_BASIS + 10, "turnout", "support")
    rows.loc[rows["last_name"] == SENTINEL, "what"] = "support"
    rows["day"] = "2026-10-20"
    rows.to_parquet(home / "truth.parquet")
    names = {
        "first_name": "first", "last_name": "last", "birth_year": "born",
        "postcode": "zip", "value": "said",
    }  # fmt: skip
    columns = [*names.values(), "basis", "what", "day"]
    rows.rename(columns=names)[columns].to_csv(home / "survey.csv", index=False)
    return home


@pytest.fixture(scope="module")
def read(surveyed: Path) -> tuple[Path, str]:
    """The same after the command, and what it said."""
    return surveyed, hustings(surveyed, "responses", str(surveyed / "survey.csv"))


def kept(home: Path) -> pd.DataFrame:
    return responses_so_far(home / "data" / "autumn", NOW)


def test_every_row_is_linked_with_a_probability_or_set_aside_with_a_reason(
    read: tuple[Path, str],
) -> None:
    home, said = read
    rows_in, accepted, aside = map(
        int, re.findall(r"(\d+) rows in = (\d+) accepted \+ (\d+) set aside", said)[0]
    )
    assert rows_in == N_SURVEY + STRANGERS == accepted + aside
    no_basis = re.search(r"no basis on record that \[link\] declares.*?: (\d+)", said)
    assert no_basis is not None
    assert NO_BASIS - 1 <= int(no_basis[1]) <= NO_BASIS
    assert "linked to no voter at the declared threshold" in said
    assert "expected the campaign's outcome of linked people: " in said
    responses = kept(home)
    assert 400 < accepted < N_SURVEY
    assert responses["voter_id"].nunique() == accepted
    p = responses["link_probability"]
    assert p.between(0.5, 1.0).all()
    assert p.nunique() > 5
    # a link is right about as often as it says
    truth = pd.read_parquet(home / "truth.parquet")
    owner = (
        responses["value"]
        .round(6)
        .map(dict(zip(truth["value"].round(6), truth["voter_id"], strict=True)))
    )
    right = owner == responses["voter_id"]
    assert "expected wrong links: " in said
    assert right.mean() == pytest.approx(p.mean(), abs=0.03)
    again = hustings(home, "responses", str(home / "survey.csv"), code=BAD_INPUT)
    assert "was read before" in again


def test_who_people_are_is_written_nowhere(read: tuple[Path, str]) -> None:
    home, _ = read
    (folder,) = (home / "data" / "autumn" / "results" / "_answers").iterdir()
    for path in folder.glob("*.parquet"):
        columns = set(pd.read_parquet(path).columns)
        assert not columns & {"first_name", "last_name", "birth_year", "postcode"}
    for path in (home / "data").rglob("*"):
        if path.is_file():
            assert SENTINEL.encode() not in path.read_bytes(), path


def test_lift_reads_linked_answers_through_the_commands_alone(
    read: tuple[Path, str],
) -> None:
    home, _ = read
    told = json.loads(hustings(home, "lift", "--json"))
    assert told["n_in"] == kept(home)["voter_id"].nunique()


# --- the correction -------------------------------------------------------------------

P = 0.6


def with_wrong_links(of: Campaign, seed: int = 3) -> Campaign:
    """Two answers of five are another person's of the same block, as their p says."""
    rng = np.random.default_rng(seed)
    decided = of.decisions[["voter_id", "plan_id", "block"]]
    rows = of.responses.merge(decided, on=["voter_id", "plan_id"])
    value = rows["value"].to_numpy().copy()
    for at in rows.groupby("block").indices.values():
        wrong = at[rng.random(len(at)) > P]
        value[wrong] = rng.choice(value[at], len(wrong))
    rows = rows.assign(value=value, link_probability=P, link_probability_se=0.0)
    return replace(of, responses=check(RESPONSES, rows.drop(columns="block")))


def of_jobs(of: Campaign) -> Interval:
    rows = {(r.estimand, r.message_id, r.segment): r for r in of.measured().rows}
    return rows["delivered", "jobs", ""].fixed_sample


def without_p(of: Campaign) -> Campaign:
    links = ["link_probability", "link_probability_se"]
    return replace(of, responses=of.responses.drop(columns=links))


def test_wrong_links_make_lifts_too_small_unless_they_are_corrected() -> None:
    """Of four points, two links of five being wrong leave two and a half."""
    linked = [with_wrong_links(campaign(seed)) for seed in range(5)]
    corrected = [of_jobs(of) for of in linked]
    raw = [of_jobs(without_p(of)) for of in linked]
    mean = np.mean([i.value for i in corrected])
    se = np.sqrt(np.mean([i.se**2 for i in corrected]) / len(linked))
    assert mean == pytest.approx(4.0, abs=2.5 * se)
    assert np.mean([i.value for i in raw]) == pytest.approx(P * mean, rel=0.03)
    assert np.mean([i.value for i in raw]) < 3.0


def test_a_doubt_about_p_widens_every_interval_and_moves_no_lift() -> None:
    linked = with_wrong_links(campaign(1))
    doubtful = replace(
        linked, responses=linked.responses.assign(link_probability_se=0.1 * P)
    )
    sure, unsure = linked.measured(), doubtful.measured()
    assert len(sure.rows) == len(unsure.rows) > 5
    for one, other in zip(sure.rows, unsure.rows, strict=True):
        pairs = [(one.fixed_sample, other.fixed_sample),
                 (one.anytime_valid, other.anytime_valid)]  # fmt: skip
        for before, after in pairs:
            assert after.value == before.value
            half = np.hypot(before.high - before.value, 1.96 * 0.1 * before.value)
            assert after.high - after.value == pytest.approx(half, rel=1e-4)
        assert one.claimed == other.claimed
    assert sure.gained is not None
    assert unsure.gained is not None
    assert unsure.gained.low < sure.gained.low


def test_the_command_corrects_what_the_record_says(tmp_path: Path) -> None:
    linked = with_wrong_links(campaign(1))

    def lift(name: str, of: Campaign) -> float:
        home = tmp_path / name
        home.mkdir()
        campaign_folder(of, home)
        told = json.loads(hustings(home, "lift", "--json"))
        rows = {(r["estimand"], r["message_id"], r["segment"]): r for r in told["rows"]}
        return float(rows["delivered", "", ""]["lift"])

    corrected, raw = lift("corrected", linked), lift("raw", without_p(linked))
    assert raw == pytest.approx(P * corrected, rel=0.05)


def test_training_reads_the_recorded_probabilities_beside_answers_under_an_id(
    read: tuple[Path, str],
) -> None:
    home, _ = read
    of_file = pd.DataFrame(
        {name: [] for name in RESPONSES.columns if "link" not in name}
    )
    rows = recorded_rows(home / "data" / "autumn", "responses", of_file, at=NOW)
    assert (rows["link_probability"] == kept(home)["link_probability"]).all()
    block = pd.DataFrame(
        {"experiment_id": "e", "block": "b", "y": [10.0, 20.0, 30.0, np.nan]}
    )
    found = linked_outcome(block, pd.Series([0.5, np.nan, 1.0, 0.5]))
    # the mean of the other answers is 25: (10 - .5 × 25) / .5
    np.testing.assert_allclose(found, [-5.0, 20.0, 30.0, np.nan])


def test_a_survey_by_name_reaches_the_training_set_by_commands_alone(
    story: Any, tmp_path: Path
) -> None:
    """plan → lock → responses → ingest → features, on the campaign that ran once."""
    shutil.copytree(story.folder, tmp_path / "campaign")
    shutil.copytree(story.run.home, tmp_path / "runs" / "spread")
    shutil.copytree(story.run.store, tmp_path / "mlflow")
    path = tmp_path / "campaign" / "campaign.toml"
    answers = LINKED[LINKED.index("[answers.survey]") :]
    shipped = path.read_text().split("# What comes back")[0]
    path.write_text(shipped + answers)
    runs = tmp_path / "runs" / "spread"

    def said(*words: str) -> str:
        given = [*words, "--campaign", str(path), "--data", str(tmp_path / "runs")]
        if words[0] in {"plan", "ingest", "features"}:
            given += ["--store", str(tmp_path / "mlflow")]
        done = CliRunner().invoke(app, given, env={"MLFLOW_TRACKING_URI": None})
        assert done.exit_code == OK, done.output
        return " ".join(done.output.split())

    said("plan")
    plan_id = json.loads((runs / "first" / "run.json").read_text())["plan_id"]
    said("plans", "approve", plan_id, "--by", "R. Approver", "--yes")
    said("plans", "lock", plan_id)
    decided = pd.read_parquet(runs / "plans" / plan_id / "assignments.parquet")
    decided = decided[decided["block"] != "undecided"].sample(400, random_state=1)
    people = pd.read_parquet(tmp_path / "campaign" / "raw" / "identities.parquet")
    rows = decided[["voter_id"]].merge(people, on="voter_id")
    rng = np.random.default_rng(6)
    rows["postcode"] = rows["postcode"].where(rng.random(len(rows)) < 0.8, "")
    rows = rows.assign(
        said=50 + rng.normal(0, 10, len(rows)).round(3), day="2026-09-25",
        basis="consent", what="support",
    )  # fmt: skip
    names = {"first_name": "first", "last_name": "last", "birth_year": "born"}
    rows.rename(columns={**names, "postcode": "zip"})[
        [*names.values(), "zip", "basis", "what", "said", "day"]
    ].to_csv(tmp_path / "survey.csv", index=False)
    said("responses", str(tmp_path / "survey.csv"))
    said("ingest")
    said("features")
    latest = runs / (runs / "latest").read_text()
    trained = pd.read_parquet(latest / "training_set.parquet")
    trained = trained[trained["plan_id"] == plan_id].dropna(subset="outcome")
    linked = responses_so_far(runs, pd.Timestamp.now("UTC")).set_index("voter_id")
    assert len(trained) == len(linked) > 200
    linked = linked.loc[trained["voter_id"]].set_axis(trained.index)
    p, y = linked["link_probability"], linked["value"]
    assert (p < 0.999).sum() > 20
    block = y.groupby([trained["experiment_id"], trained["block"]])
    n = block.transform("size")
    others = ((block.transform("sum") - y) / (n - 1))[n > 1]
    assert len(others) > 200
    expected = ((y - (1 - p) * others) / p)[n > 1]
    np.testing.assert_allclose(trained.loc[n > 1, "outcome"], expected)


# --- refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('[link]\nbases = ["consent"]\n', "", "or a section [link]"),
        ('absent = "missing"', 'absent = "zero"', 'need [outcome].absent = "missing"'),
        ('basis = "basis"\n', "", "expected a column 'basis'"),
    ],
)
def test_what_may_not_be_linked_is_refused(
    surveyed: Path, tmp_path: Path, old: str, new: str, fault: str
) -> None:
    text = (surveyed / "campaign.toml").read_text()
    assert text.count(old) == 1
    text = text.replace(old, new)
    if not new and "[link]" in old:
        start, end = text.index("[link.voters]"), text.index("[answers.survey]")
        text = text[:start] + text[end:]
    (tmp_path / "campaign.toml").write_text(text)
    load_campaign(tmp_path)
    words = ["responses", str(surveyed / "survey.csv"), "--campaign", str(tmp_path)]
    done = CliRunner().invoke(
        app, [*words, "--data", str(surveyed / "data")],
        env={"MLFLOW_TRACKING_URI": None},
    )  # fmt: skip
    assert done.exit_code == BAD_INPUT, done.output
    assert fault in " ".join(done.output.split())
