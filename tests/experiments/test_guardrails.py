"""Guardrails through the command: what harms turnout or any declared outcome.

Small campaigns of invented people with planted harms.
"""

import json
import shutil
import tomllib
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import tomli_w

from hustings.experiments.cli import BAD_INPUT, OK
from tests.experiments.test_right_reason import QUICK, Drawn, hustings, results_of

N = 24_000
PLAN = {
    "budget_usd": 0.5 * N, "start_on": date(2026, 3, 2), "days": 3,
    "holdout_share": 0.1, "explore_share": 0.05, "policy": "best_mix",
}  # fmt: skip
OUTCOME = {"scale": [0.0, 130.0], "turnout": "voted"}
COMPLAINTS = {
    "outcome": "complaint", "direction": "rise", "margin": 0.02, "absent": "zero",
}  # fmt: skip


class Sent(NamedTuple):
    """A drawn campaign and its people.

    Attributes:
        campaign: Its tables.
        people: One row a voter, with what each was sent.
    """

    campaign: Drawn
    people: pd.DataFrame

    def answered(self, outcome: str, value: Any, who: Any = True) -> None:
        """Add an outcome of some of the people to the responses."""
        rows = self.people[["voter_id", "experiment"]].assign(
            outcome=outcome, value=value
        )
        frames = [self.campaign.frames["responses"], rows[rows["value"].notna() & who]]
        self.campaign.frames["responses"] = pd.concat(frames, ignore_index=True)

    def chance(self, p: Any, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return (rng.random(len(self.people)) < p).astype(float)


def drawn(n: int, seed: int, arms: dict[str, float]) -> Sent:
    """A campaign all of whose messages lift support; jobs lifts it most."""
    campaign = Drawn(n, seed)
    campaign.add("test", slice(0, n), arms)
    people = campaign.frames["voters"].merge(campaign.frames["deliveries"])
    lift = people["message_id"].map({"control": 0.0, "jobs": 8.0}).fillna(6.0)
    campaign.frames["responses"]["value"] += lift.to_numpy()
    return Sent(campaign, people)


# --- a harm to a fifth of the voters --------------------------------------------------


class Judged(NamedTuple):
    """A run of the planted campaign.

    Attributes:
        campaign: Folder of the campaign, its runs inside.
        folder: Of the run.
        people: One row a voter.
        guardrails: As in `evaluation.json`, by name.
    """

    campaign: Path
    folder: Path
    people: pd.DataFrame
    guardrails: dict[str, Any]


@pytest.fixture(scope="module")
def harm(
    tmp_path_factory: pytest.TempPathFactory,
    one_thread: None,  # noqa: ARG001 - for its effect
) -> Judged:
    """Message jobs keeps the young at home, taxes annoys everybody, roads is harmless.

    jobs lowers the turnout of those under 35, a fifth of the voters, by 7 points and
    raises that of all others by 1, so that it lowers nobody's on average.
    """
    arms = {"control": 0.4, "jobs": 0.3, "taxes": 0.15, "roads": 0.15}
    sent = drawn(N, 3, arms)
    people = sent.people
    is_jobs, is_taxes = (people["message_id"] == m for m in ("jobs", "taxes"))
    young = people["age"] < 35
    moved = np.where(young, -0.07, 0.015) * is_jobs
    sent.answered("voted", sent.chance(0.3 + 0.3 * people["g2024"] + moved, 1))
    complained = sent.chance(0.01 + 0.04 * is_taxes, 2)
    # whoever does not complain sends no answer
    sent.answered("complaint", complained, complained == 1)
    folder = sent.campaign.write(
        tmp_path_factory.mktemp("guardrails") / "harm", plan=PLAN, outcome=OUTCOME,
        guardrails={"complaints": COMPLAINTS},
    )  # fmt: skip
    done = hustings(folder, "run", *QUICK)
    assert done.exit_code == OK, done.output
    run = results_of(folder)
    evaluation = json.loads((run / "evaluation.json").read_text())
    (result,) = evaluation["experiments"].values()
    return Judged(folder, run, people, {g["name"]: g for g in result["guardrails"]})


def test_no_young_voter_is_sent_what_keeps_the_young_at_home(harm: Judged) -> None:
    groups = [row["where"] for row in harm.guardrails["turnout"]["harmed_groups"]]
    assert {"age": "under 35"} in groups
    assert all(where.get("age") == "under 35" for where in groups)
    plan = pd.read_parquet(harm.folder / "plan.parquet")
    age = harm.people.set_index("voter_id")["age"].reindex(plan["voter_id"])
    jobs = (plan["message_id"] == "jobs").to_numpy()
    assert not (jobs & (age < 35).to_numpy()).any()
    # the group is spared the message, and not every message; nobody else is spared it
    assert jobs.sum() > 100
    assert (age[~jobs] < 35).sum() > 100


def test_what_annoys_everybody_is_sent_to_nobody_and_the_reason_is_said(
    harm: Judged,
) -> None:
    plan = pd.read_parquet(harm.folder / "plan.parquet")
    assert set(plan["message_id"]) == {"jobs", "roads"}
    rows = json.loads((harm.folder / "run.json").read_text())["plan"]["not_eligible"]
    refused = {row["reason"]: row["n_voters"] for row in rows}
    assert refused["message taxes: raises complaints"] == N
    n_young = int((harm.people["age"] < 35).sum())
    young = "message jobs: lowers turnout among voters of age under 35"
    assert refused[young] == n_young


def test_a_closed_group_does_not_lapse_with_its_column(
    harm: Judged, tmp_path: Path
) -> None:
    """Segments by another column: nobody would be known to be under 35."""
    copied = shutil.copytree(harm.campaign.parent, tmp_path / "all") / "harm"
    declared = tomllib.loads((copied / "campaign.toml").read_text())
    declared["features"] = declared.get("features", {}) | {"segment": ["sex"]}
    (copied / "campaign.toml").write_text(tomli_w.dumps(declared))
    done = hustings(copied, "plan")
    assert done.exit_code == BAD_INPUT
    said = " ".join(done.output.split())
    assert "expected 'age' among the columns, got sex; message jobs" in said


def test_every_message_is_judged_against_the_margin(harm: Judged) -> None:
    status = {
        row["message_id"]: row["status"]
        for row in harm.guardrails["complaints"]["messages"]
    }
    assert status == {
        "jobs": "within_margin", "taxes": "harms", "roads": "within_margin",
    }  # fmt: skip
    for row in harm.guardrails["complaints"]["messages"]:
        assert (row["high"] < 0.02) == (row["status"] == "within_margin")
    of_turnout = {r["message_id"]: r for r in harm.guardrails["turnout"]["messages"]}
    # three tests share half of the level of one of two guardrails
    assert harm.guardrails["turnout"]["alpha"] == pytest.approx(0.025)
    jobs = of_turnout["jobs"]
    assert jobs["status"] != "harms"
    assert jobs["low"] < jobs["effect"]["low"] < jobs["effect"]["value"]


def test_the_report_shows_guardrails_with_groups_and_margins(harm: Judged) -> None:
    page = (harm.folder / "report.html").read_text()
    assert "Guardrails" in page
    assert "complaints: a rise harms, by 2.00 per 100 voters or more" in page
    assert "age under 35" in page
    assert "shown not to harm by more than the margin" in page
    assert "harms: sent to none of them" in page


# --- unproven, unanswered, refused ----------------------------------------------------


@pytest.mark.usefixtures("one_thread")
def test_a_message_waits_until_it_is_shown_harmless_where_that_is_declared(
    tmp_path: Path,
) -> None:
    sent = drawn(1_200, 1, {"control": 0.5, "jobs": 0.5})
    sent.answered("voted", sent.chance(0.5, 1))
    guardrail = {
        "outcome": "voted", "direction": "fall", "margin": 0.001, "absent": "missing",
        "bars_unproven": True,
    }  # fmt: skip
    folder = sent.campaign.write(
        tmp_path / "waits", outcome=OUTCOME, guardrails={"attendance": guardrail}
    )
    done = hustings(folder, "run", *QUICK)
    assert done.exit_code == BAD_INPUT
    said = " ".join(done.output.split())
    reason = "message jobs: is not shown to leave attendance within its margin"
    assert f"Nothing may be sent, because {reason} (1,200 voters)" in said


@pytest.mark.usefixtures("one_thread")
def test_a_guardrail_without_answers_says_so_and_closes_nothing(
    tmp_path: Path,
) -> None:
    sent = drawn(1_200, 1, {"control": 0.5, "jobs": 0.5})
    folder = sent.campaign.write(tmp_path / "later", guardrails={
        "complaints": COMPLAINTS | {"bars_unproven": True},
    })  # fmt: skip
    done = hustings(folder, "run", *QUICK)
    assert done.exit_code == OK, done.output
    run = results_of(folder)
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert [note for note in evaluation["notes"] if "Guardrail" in note] == [
        "Guardrail complaints: no answers on 'complaint' yet that compare a message "
        "with none; nothing is judged by it."
    ]
    assert json.loads((run / "guardrails.json").read_text())["closed"] == []


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"outcome": "voted", "direction": "rise"}, "keeping people from voting"),
        ({"outcome": "support", "direction": "rise"}, "is what it is after"),
        ({"margin": 0.0}, "greater than 0"),
    ],
)
def test_a_guardrail_against_voting_or_against_the_goal_is_refused(
    changed: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    sent = drawn(40, 1, {"control": 0.5, "jobs": 0.5})
    folder = sent.campaign.write(
        tmp_path / "refused", outcome=OUTCOME, guardrails={"g": COMPLAINTS | changed}
    )
    done = hustings(folder, "ingest")
    assert done.exit_code == BAD_INPUT
    assert reason in " ".join(done.output.split())
