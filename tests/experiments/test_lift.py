"""Measured lift of a planted campaign, and the alarms that keep it honest."""

import json
import re
import sys
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments import plans
from hustings.experiments.cli import FAILED, MISSING, OK, app
from hustings.experiments.lift import (
    LiftSettings,
    MeasuredLift,
    measured_lift,
    sentences,
)
from hustings.experiments.lift.summary import summary_of, table
from hustings.experiments.record import decisions_so_far, holdout_shares, keep_answers
from hustings.features.tables import ASSIGNMENTS, RESPONSES, TableError, check

START = pd.Timestamp("2026-10-01")
N_DAYS, H, EPSILON = 5, 0.25, 0.2
MESSAGES = ("jobs", "trade")
LIFT = {"jobs": 4.0, "trade": 1.0}
"""For the young; the old gain 2 more by trade."""


@dataclass(frozen=True)
class Campaign:
    """A campaign of five days whose truth is known."""

    assignments: dict[str, pd.DataFrame]
    designs: dict[str, pd.DataFrame]
    responses: pd.DataFrame
    voters: pd.DataFrame
    terms: LiftSettings
    features: pd.DataFrame
    contacts: pd.DataFrame
    voted: pd.Series

    @property
    def decisions(self) -> pd.DataFrame:
        """As the record has them: every plan's assignments, and the day of each."""
        return pd.concat(
            [
                a.assign(plan_id=day, decided_on=pd.Timestamp(day),
                         block=day + " " + a["block"],
                         voted_before=a["voter_id"].map(self.voted))
                for day, a in self.assignments.items()
            ],
            ignore_index=True,
        )  # fmt: skip

    def measured(self, **changed: object) -> MeasuredLift:
        terms = replace(self.terms, **changed)
        designs = [d.assign(block=day + " " + d["block"])
                   for day, d in self.designs.items()]  # fmt: skip
        return measured_lift(
            self.decisions, pd.concat(designs, ignore_index=True), self.responses,
            self.contacts, self.voters, terms, features=self.features,
        )  # fmt: skip


EXPLORED = np.array([1 / 3, 1 / 3, 1 / 3])
"""Chances of nothing, jobs and trade when exploring."""


def chances(z: int, survival: float, odds: np.ndarray, epsilon: float) -> np.ndarray:
    """Of nothing, jobs and trade for a voter in the pool."""
    free = (1 - H) * survival
    total = free * epsilon * odds
    if z >= 0:
        total[0] += H
        total[1 + z] += free * (1 - epsilon)
    return total


def designs_of(
    survival: float, odds: np.ndarray = EXPLORED, epsilon: float = EPSILON
) -> pd.DataFrame:
    """Blocks of a day: jobs, trade or nothing intended."""
    rows = []
    for z in (-1, 0, 1):
        total = chances(z, survival, odds, epsilon)
        for message, channel, p in zip(
            ("control", *MESSAGES), ("none", "mail", "mail"), total / total.sum(),
            strict=True,
        ):  # fmt: skip
            rows.append(("own", f"b{z}", message, channel, p))
    names = ["experiment_id", "block", "message_id", "channel", "probability"]
    return pd.DataFrame(rows, columns=names)


def campaign(
    seed: int, n: int = 12_000, *, scale: float = 1.0, reach: float = 1.0,
    thompson: bool = False, voted: float = 0.0,
) -> Campaign:  # fmt: skip
    """Holdout by household, a plan by age, explorers over messages and nothing.

    A share `voted` has voted before the first day, and is moved by nothing.

    With `thompson`, exploring odds of a day are far from even and lean to what did well
    on the days before.
    """
    rng = np.random.default_rng(seed)
    ids = np.array([f"V{i:06d}" for i in range(n)], dtype=object)
    home = np.arange(n) // 2
    old = np.repeat(rng.random(n // 2) < 0.5, 2)
    held = np.repeat(rng.random(n // 2) < H, 2)
    base = 10.0 * rng.standard_normal(n)
    # the plan of a voter, if it is his day: jobs for the young, trade for the old
    z_all = np.where(rng.random(n) < 0.5, np.where(old, 1, 0), -1)
    has_voted = np.random.default_rng([seed, 1]).random(n) < voted
    in_pool, arm, when = np.ones(n, dtype=bool), np.full(n, -1), np.full(n, -1)
    reachable = rng.random(n) < reach
    noise = 4.0 * np.repeat(rng.standard_normal(n // 2), 2)
    noise = noise + 8.0 * rng.standard_normal(n)
    jobs, trade = LIFT["jobs"], np.where(old, 3.0, LIFT["trade"])
    assignments, designs, survival = {}, {}, 1.0
    odds = EXPLORED
    Y = np.zeros(n)
    for t in range(N_DAYS):
        z = np.where(rng.random(n) < 0.4, z_all, -1)
        lot = (rng.random(n) < EPSILON) & ~held
        drawn = rng.choice([-1, 0, 1], size=n, p=odds)
        got = np.where(held, -1, np.where(lot, drawn, z))
        free = (1 - H) * survival
        contacted = (1 - EPSILON) * (z >= 0) + EPSILON * (1 - odds[0])
        role = np.where(held, "holdout", np.where(lot, "explore", "plan"))
        propensity = np.select(
            [held, lot], [H, free * EPSILON * odds[1 + got]], free * (1 - EPSILON)
        )
        sent = free * ((1 - EPSILON) * (got == z) + EPSILON * odds[1 + got])
        rows = np.flatnonzero(in_pool & ((z >= 0) | lot))
        names = np.array([*MESSAGES, "control"], dtype=object)
        channels = np.array(["mail", "mail", "none"], dtype=object)
        day = str((START + pd.Timedelta(days=t)).date())
        truth = np.where(z == 0, jobs, np.where(z == 1, trade, 0.0))
        made = pd.DataFrame(
            {
                "voter_id": ids, "experiment_id": "own",
                "block": np.char.add("b", z.astype(str)).astype(object), "role": role,
                "message_id": names[got], "channel": channels[got],
                "propensity": propensity,
                "arm_propensity": np.where(got < 0, 1 - free * contacted, sent),
                "pool_probability": survival,
                "intended_message_id": names[z], "intended_channel": channels[z],
                "predicted_lift": truth, "model_version": "m/1",
            }
        ).iloc[rows]  # fmt: skip
        assignments[day] = made.reset_index(drop=True)
        designs[day] = designs_of(survival, odds)
        arm[rows], when[rows] = got[rows], t
        lift = np.where(arm == 0, jobs, trade)
        effect = scale * np.where((arm >= 0) & reachable & ~has_voted, lift, 0.0)
        Y[rows] = (50 + base + effect + noise)[rows]
        in_pool[rows] = False
        survival *= 1 - EPSILON
        if thompson:
            so_far = ~in_pool
            means = [Y[so_far & (arm == k)].mean() for k in (-1, 0, 1)]
            odds = np.full(3, 0.05)
            odds[int(np.argmax(means))] = 0.9
    answered = when >= 0
    responses = pd.DataFrame(
        {
            "voter_id": ids, "experiment_id": "own",
            "plan_id": [str((START + pd.Timedelta(days=max(int(t), 0))).date())
                        for t in when],
            "outcome": "support", "value": Y,
            "observed_at": START + pd.to_timedelta(when + 2, unit="D"),
        }
    )[answered]  # fmt: skip
    voters = pd.DataFrame(
        {
            "voter_id": ids,
            "household_id": [f"H{h}" for h in home],
            "segment": np.where(old, "65+", "18-64"),
        }
    )
    terms = LiftSettings(
        holdout=dict.fromkeys(assignments, H),
        as_of=START + pd.Timedelta(days=30),
        outcome="support", absent="missing", horizon_days=N_DAYS, lag_days=2,
    )  # fmt: skip
    features = pd.DataFrame({"base": base, "old": old.astype(float)}, index=ids)
    contacts = pd.DataFrame(
        {
            "voter_id": ids, "plan_id": responses["plan_id"].reindex(range(n)),
            "channel": "mail", "delivered": reachable,
        }
    )[arm >= 0]  # fmt: skip
    return Campaign(
        assignments, designs, responses.reset_index(drop=True), voters, terms,
        features, contacts.reset_index(drop=True), pd.Series(has_voted, index=ids),
    )  # fmt: skip


@pytest.fixture(scope="module")
def planted() -> Campaign:
    made = campaign(1)
    days = {day: check(ASSIGNMENTS, a) for day, a in made.assignments.items()}
    return replace(made, assignments=days, responses=check(RESPONSES, made.responses))


@pytest.fixture(scope="module")
def found(planted: Campaign) -> MeasuredLift:
    return planted.measured()


def test_the_planted_lifts_are_found_as_delivered_by_message_and_segment(
    found: MeasuredLift,
) -> None:
    rows = table(found).query("estimand == 'delivered'")
    told = rows.set_index(["message_id", "segment"])
    # the young were sent jobs, the old trade
    for key, truth in ((("jobs", ""), 4.0), (("trade", ""), 3.0),
                       (("jobs", "18-64"), 4.0), (("trade", "65+"), 3.0)):  # fmt: skip
        row = told.loc[key]
        assert row["always_low"] < truth < row["always_high"]
        assert abs(row["lift"] - truth) < 3 * row["se"]
    assert ("jobs", "65+") not in told.index
    assert found.overall is not None
    assert found.overall.anytime_valid.low > 0
    assert found.overall.claimed


def test_exploring_tells_what_everybody_would_gain_and_not_only_the_chosen(
    found: MeasuredLift,
) -> None:
    told = table(found).query("estimand == 'population'").set_index("message_id")
    # young and old alike: jobs 4, trade (1 + 3) / 2
    for message, truth in (("jobs", 4.0), ("trade", 2.0)):
        row = told.loc[message]
        assert abs(row["lift"] - truth) < 3 * row["se"]
    assert told.loc["trade", "channel"] == "mail"


@pytest.mark.parametrize("thompson", [False, True])
def test_over_many_campaigns_the_intervals_cover_and_do_not_lean(
    thompson: bool,
) -> None:
    z: list[float] = []
    for seed in range(35):
        told = table(campaign(100 + seed, 3_000, thompson=thompson).measured())
        rows = told.set_index(["estimand", "message_id", "segment"])
        truths = {
            ("delivered", "jobs", ""): 4.0,
            ("delivered", "trade", ""): 3.0,
            ("population", "jobs", ""): 4.0,
            ("population", "trade", ""): 2.0,
        }
        z += [(rows.loc[k, "lift"] - v) / rows.loc[k, "se"] for k, v in truths.items()]
    scores = np.array(z)
    assert abs(scores.mean()) < 0.25
    assert 0.9 <= (np.abs(scores) < 1.96).mean() <= 0.99


def test_a_campaign_that_does_nothing_is_claimed_in_few_of_many() -> None:
    claimed = 0
    for seed in range(20):
        found = campaign(200 + seed, 2_000, scale=0.0).measured()
        claimed += any(row.claimed for row in found.rows)
    assert claimed <= 3


def test_a_draw_that_is_not_the_declared_one_raises_the_alarm(
    planted: Campaign,
) -> None:
    rng = np.random.default_rng(2)
    lost = {
        # a fifth of the holdout's shadows never reached the log
        day: a[(a["role"] != "holdout") | (rng.random(len(a)) < 0.8)]
        for day, a in planted.assignments.items()
    }
    found = replace(planted, assignments=lost).measured()
    assert found.ratio.alarm
    assert not found.trusted
    assert sentences(found, per_point=1.0)[0].startswith("STOP")
    assert not planted.measured().ratio.alarm


def test_the_alarm_is_silent_over_sound_campaigns() -> None:
    alarms = [campaign(300 + s, 1_500).measured().ratio.alarm for s in range(8)]
    assert sum(alarms) <= 1


def test_terms_that_contradict_the_propensities_are_refused(planted: Campaign) -> None:
    wrong = dict.fromkeys(planted.terms.holdout, 0.1)
    with pytest.raises(TableError, match="expected propensity"):
        planted.measured(holdout=wrong)
    with pytest.raises(TableError, match="expected the plan's terms"):
        planted.measured(holdout={})
    first = next(iter(planted.designs))
    others = {**planted.designs, first: designs_of(0.5)}
    with pytest.raises(TableError, match="expected arm_propensity"):
        replace(planted, designs=others).measured()
    del others[first]
    with pytest.raises(TableError, match="expected a design of block"):
        replace(planted, designs=others).measured()


def test_not_due_is_not_missing_and_is_told_apart(planted: Campaign) -> None:
    early = planted.measured(as_of=START + pd.Timedelta(days=3))
    assert 0 < early.n_due < early.n_decided
    # decided on the first two days and due two days later
    first = pd.concat(planted.assignments[d] for d in sorted(planted.assignments)[:2])
    assert early.n_due == len(first)
    assert early.information == pytest.approx(2 / 5)
    assert "not due yet" in " ".join(sentences(early, per_point=1.0))
    assert early.attrition_p == 1.0
    final = planted.measured()
    assert early.overall is not None
    assert final.overall is not None
    assert final.overall.anytime_valid.se < early.overall.anytime_valid.se


def test_what_was_gained_counts_every_voter_once(planted: Campaign) -> None:
    """A large first day that brings little weighs as many voters as it has."""
    first, *later = sorted(planted.assignments)
    few = {
        day: rows[rows["voter_id"].str[1:].astype(int) % 20 < 2]
        for day, rows in planted.assignments.items()
        if day in later
    }
    campaign_then = replace(
        planted, assignments={first: planted.assignments[first], **few}
    )
    effect = {first: -2.0} | dict.fromkeys(later, 6.0)
    rows = campaign_then.decisions.set_index("voter_id")
    sent = rows["message_id"] != "control"
    added = (rows["plan_id"].map(effect) * sent).reindex(planted.responses["voter_id"])
    value = planted.responses["value"] + added.fillna(0.0).to_numpy()
    found = replace(
        campaign_then, responses=planted.responses.assign(value=value)
    ).measured()
    planned = rows[rows["role"] == "plan"]
    truth = (planned["predicted_lift"] + planned["plan_id"].map(effect)).sum()
    assert found.gained is not None
    assert found.overall is not None
    assert found.gained.low < truth < found.gained.high
    assert abs(found.gained.value - truth) < 0.25 * abs(truth)
    # the lift itself weighs days by their noise, and says what was predicted so too
    by_voter = found.gained.value / len(planned)
    assert found.overall.fixed_sample.value > by_voter + 0.5
    assert found.overall.predicted == pytest.approx(2.7, abs=1.0)


def test_plans_without_answers_yet_make_no_interval_narrower(planted: Campaign) -> None:
    """Two days wait for answers, a few of which have come: the others say the same."""
    days = sorted(planted.assignments)
    waiting = planted.responses["plan_id"].isin(days[3:]).to_numpy()
    early = waiting & (np.arange(len(waiting)) % 30 == 0)
    before = replace(
        planted, assignments={day: planted.assignments[day] for day in days[:3]}
    ).measured(lag_days=0)
    for answered in (~waiting, ~waiting | early):
        after = replace(planted, responses=planted.responses[answered])
        found = after.measured(lag_days=0)
        assert found.n_decided > before.n_decided
        assert found.overall is not None
        assert before.overall is not None
        assert found.overall.fixed_sample == pytest.approx(before.overall.fixed_sample)
        assert found.overall.anytime_valid == pytest.approx(
            before.overall.anytime_valid
        )
        assert found.overall.predicted == pytest.approx(before.overall.predicted)


def test_answers_that_are_half_in_cover_as_often_as_they_say() -> None:
    covered, ratio = [], []
    for seed in range(12):
        made = campaign(100 + seed, n=4_000)
        rng = np.random.default_rng(seed)
        last = made.responses["plan_id"] == max(made.assignments)
        kept = ~last | (rng.random(len(last)) < 0.3)
        found = replace(made, responses=made.responses[kept]).measured()
        assert found.overall is not None
        truth = found.overall.predicted
        once = found.overall.fixed_sample
        covered.append(once.low < truth < once.high)
        ratio.append((once.value - truth) / ((once.high - once.low) / 3.92))
    assert sum(covered) >= 9
    assert 0.5 < np.std(ratio) < 1.6


def test_a_silence_that_means_no_counts_as_zero_only_once_it_is_due() -> None:
    c = campaign(3, 2_000)
    yes = c.responses[c.responses["value"] > 55].assign(value=1.0)
    c = replace(c, responses=yes)
    found = c.measured(absent="zero")
    assert found.n_in == found.n_due == found.n_decided
    early = c.measured(absent="zero", as_of=START + pd.Timedelta(days=3))
    assert early.n_in == early.n_due < early.n_decided


def test_outcomes_missing_more_among_the_held_out_raise_the_alarm() -> None:
    c = campaign(4, 4_000)
    rng = np.random.default_rng(5)
    held = pd.concat(c.assignments.values()).query("role == 'holdout'")["voter_id"]
    gone = c.responses["voter_id"].isin(held) & (rng.random(len(c.responses)) < 0.3)
    found = replace(c, responses=c.responses[~gone]).measured()
    assert found.attrition_p < 0.001
    assert not found.trusted
    alike = c.responses[rng.random(len(c.responses)) > 0.3]
    assert replace(c, responses=alike).measured().trusted


def test_answers_given_before_the_decision_are_no_outcomes() -> None:
    c = campaign(6, 1_000)
    before = c.responses.assign(observed_at=START - pd.Timedelta(days=1))
    assert replace(c, responses=before).measured().n_in == 0


def _predicting(c: Campaign, factor: float) -> MeasuredLift:
    days = {
        day: a.assign(predicted_lift=factor * a["predicted_lift"])
        for day, a in c.assignments.items()
    }
    return replace(c, assignments=days).measured()


def test_a_champion_that_promises_too_much_drifts_and_a_sound_one_does_not(
    planted: Campaign,
) -> None:
    sound, boasting = _predicting(planted, 1.0), _predicting(planted, 2.0)
    assert sound.calibration is not None
    assert boasting.calibration is not None
    assert not sound.calibration.drifted
    assert boasting.calibration.drifted
    assert boasting.calibration.less.high < 0
    assert "train anew" in " ".join(sentences(boasting, per_point=1.0))
    assert boasting.overall is not None
    assert boasting.overall.predicted == pytest.approx(7.0, abs=0.3)


def test_a_second_decision_of_a_voter_is_left_out_by_the_rule() -> None:
    c = campaign(7, 2_000)
    first, *_, last = sorted(c.assignments)
    again = c.assignments[first].head(50).copy()
    again["pool_probability"] = 1.0
    again["block"] = "a" + again["block"]
    rows = pd.concat([c.assignments[last], again], ignore_index=True)
    fresh = designs_of(1.0)
    fresh["block"] = "a" + fresh["block"]
    designs = pd.concat([c.designs[last], fresh], ignore_index=True)
    found = replace(
        c, assignments={**c.assignments, last: rows},
        designs={**c.designs, last: designs},
    ).measured()  # fmt: skip
    assert found.n_repeats == 50
    assert found.n_decided == c.measured().n_decided


def test_those_reached_gain_more_than_those_assigned() -> None:
    c = campaign(8, 8_000, reach=0.5)
    found = c.measured()
    assert found.reached is not None
    assert found.reached.contacted.low < 0.5 < found.reached.contacted.high
    truth = 3.5  # jobs 4 to the young, trade 3 to the old
    assert found.reached.reached.low < truth < found.reached.reached.high
    assert found.reached.assigned.value < 0.7 * truth
    assert "were reached" in " ".join(sentences(found, per_point=1.0))


def test_what_is_written_names_nobody_and_holds_no_infinity(
    found: MeasuredLift,
) -> None:
    told = summary_of(found, per_point=1.0).to_json()
    text = str(told)
    assert "V0" not in text
    assert "inf" not in text.replace("information", "")
    assert told["rows"]
    assert told["multiplicity"].startswith("Claims: e-BH")


def test_what_a_second_contact_adds_is_told_from_the_first() -> None:
    # two days on which all have a plan; a third of explorers' lots is nothing
    rng, n, epsilon = np.random.default_rng(9), 30_000, 0.5
    ids = np.array([f"V{i:06d}" for i in range(n)], dtype=object)
    held, days, sent = rng.random(n) < H, {}, []
    for day in ("2026-10-01", "2026-10-02"):
        lot = (rng.random(n) < epsilon) & ~held
        contact = ~held & (~lot | (rng.random(n) < 2 / 3))
        q = np.where(contact, 2 / 3, 1 / 3)
        free = 1 - H
        days[day] = pd.DataFrame(
            {
                "voter_id": ids,
                "role": np.where(held, "holdout", np.where(lot, "explore", "plan")),
                "message_id": np.where(contact, "jobs", "control"),
                "channel": np.where(contact, "mail", "none"),
                "propensity": np.select(
                    [held, lot], [H, free * epsilon * q], free * (1 - epsilon)
                ),
                "arm_propensity": np.where(
                    contact, free * (1 - epsilon / 3), 1 - free * (1 - epsilon / 3)
                ),
                "intended_message_id": "jobs", "intended_channel": "mail",
                "pool_probability": 1.0, "experiment_id": "own", "block": f"{day} b",
                "predicted_lift": 4.0, "model_version": "m/1", "plan_id": day,
                "decided_on": pd.Timestamp(day),
            }
        )  # fmt: skip
        sent.append(contact)
    effect = 4.0 * sent[0] + 3.0 * sent[1] - 2.0 * (sent[0] & sent[1])
    responses = pd.DataFrame(
        {
            "voter_id": ids, "experiment_id": "own", "plan_id": "2026-10-02",
            "outcome": "support", "value": effect + 5.0 * rng.standard_normal(n),
            "observed_at": pd.Timestamp("2026-10-09"),
        }
    )  # fmt: skip
    terms = LiftSettings(
        holdout=dict.fromkeys(days, H),
        as_of=pd.Timestamp("2026-10-10"), outcome="support", absent="missing",
        horizon_days=2, repeats="carry_over",
    )  # fmt: skip
    contacted = (1 - H) * (1 - epsilon / 3)
    designs = pd.DataFrame(
        [
            ("own", f"{day} b", message, channel, p)
            for day in days
            for message, channel, p in (
                ("control", "none", 1 - contacted), ("jobs", "mail", contacted)
            )
        ],
        columns=["experiment_id", "block", "message_id", "channel", "probability"],
    )  # fmt: skip
    found = measured_lift(
        pd.concat(days.values(), ignore_index=True).assign(voted_before=False),
        designs, responses,
        pd.DataFrame({c: [] for c in ("voter_id", "plan_id", "channel", "delivered")}),
        pd.DataFrame({"voter_id": ids}), terms, features=pd.DataFrame(index=ids),
    )  # fmt: skip
    assert found.repeats is not None
    for interval, truth in zip(found.repeats, (4.0, 3.0, 5.0, 1.0, -2.0), strict=True):
        assert abs(interval.value - truth) < 3.5 * interval.se


# --- from files ---

DECLARED = """
[campaign]
name = "autumn"
title = "A campaign of five days"
question = "Do letters gain support?"
rule_set = "us_default"
as_of = 2026-09-30
seed = 7

[outcome]
name = "support"
label = "support, 0 to 100"
kind = "continuous"
measures = "support"
higher_is_better = true
absent = "missing"
unit_per_point = 1.0

[plan]
budget_usd = 5000.0
start_on = 2026-10-01
days = 5
holdout_share = 0.25
explore_share = 0.2

[lift]
lag_days = 2

[features]
columns = ["sex"]
segment = ["sex"]
""" + "".join(
    f"""
[tables.{name}]
path = "{name}.csv"
source = "simulated"
licence = "none"
permitted_use = "any"
{"observed_on = 2026-09-01" if name == "voters" else ""}
"""
    for name in ("voters", "messages", "designs", "deliveries", "responses", "costs")
)


def contacts_of(assigned: pd.DataFrame, day: str) -> pd.DataFrame:
    """PLAN of a day's assignments."""
    sent = assigned[assigned["message_id"] != "control"]
    columns = ["voter_id", "message_id", "channel", "propensity", "role"]
    more = {"send_on": pd.Timestamp(day), "cost_usd": 0.5, "lift": 1.0}
    return sent[columns].assign(**more).reset_index(drop=True)


@pytest.fixture(scope="module")
def home(planted: Campaign, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return campaign_folder(planted, tmp_path_factory.mktemp("autumn"))


def campaign_folder(planted: Campaign, top: Path, declared: str = DECLARED) -> Path:
    """A campaign's folder with a finished run, five plans, and what was answered."""
    (top / "campaign.toml").write_text(declared)
    folder = top / "data" / "autumn"
    tables = folder / "one" / "tables"
    tables.mkdir(parents=True)
    (folder / "latest").write_text("one")
    sex = np.where(planted.voters["segment"] == "65+", "F", "M")
    voters = planted.voters.drop(columns="segment").assign(sex=sex)
    voters.to_parquet(tables / "voters.parquet")
    costs = {"message_id": ["*"], "channel": ["mail"], "cost_usd": [0.5]}
    pd.DataFrame(costs).to_parquet(tables / "costs.parquet")
    pd.DataFrame({"message_id": list(MESSAGES)}).to_parquet(tables / "messages.parquet")
    drawn = pd.concat(planted.assignments.values()).query("role == 'explore'")
    answers = planted.responses[["voter_id", "value"]]
    test = drawn.merge(answers, on="voter_id").merge(voters, on="voter_id")
    test = test.assign(propensity=1 / 3, outcome=test["value"])
    test.to_parquet(folder / "one" / "training_set.parquet")
    for day, assigned in planted.assignments.items():
        name, at = f"day-{day}", pd.Timestamp(day, tz="UTC")
        facts = plans.PlanFacts("m/1", "us_default", terms={"holdout_share": H})
        drafted = {
            "plan": contacts_of(assigned, day), "assignments": assigned,
            "designs": planted.designs[day],
        }  # fmt: skip
        plans.draft(folder, name, drafted, facts, keys={}, at=at)
        plans.approve(folder, name, by="Ada Pell", at=at)
        plans.lock(folder, name, at=at)
        answers = planted.responses[planted.responses["plan_id"] == day]
        tables_read = {"responses": answers.assign(plan_id=name)}
        keep_answers(folder, name, f"{day:0>64}", tables_read, {}, at=at)
    return top


def test_the_lift_among_those_who_had_not_voted_is_the_planted_one(
    tmp_path: Path,
) -> None:
    """Half had voted before the draw and are moved by nothing; many vote because of it.

    A cut by who has voted when the lift is looked at would leave among those sent only
    those whom nothing moved.
    """
    made = campaign(3, voted=0.5)
    home = campaign_folder(made, tmp_path, DECLARED + BALLOTS)
    early = made.voted.index[made.voted]
    sent = set(made.contacts["voter_id"]) - set(early)
    answers = made.responses.set_index("voter_id")["value"]
    moved = [v for v in sorted(sent) if answers[v] > answers.median()]
    # one goes back: a ballot that was rejected before the draw is no vote
    lines = [
        "voter_id,status,dated", *(f"{v},returned,2026-09-20" for v in early),
        f"{moved[0]},returned,2026-09-20", f"{moved[0]},rejected,2026-09-25",
        *(f"{v},returned,2026-10-12" for v in moved),
    ]  # fmt: skip
    (tmp_path / "ballots.csv").write_text("\n".join(lines))
    code, said = _said(home, "already-voted", str(tmp_path / "ballots.csv"))
    assert code == OK, said
    code, said = _said(home, "lift", "--as-of", "2099-01-01", "--json")
    told = json.loads(said)
    rows = {(r["estimand"], r["message_id"], r["segment"]): r for r in told["rows"]}
    decided = made.decisions.drop_duplicates("voter_id")
    assert told["n_voted_before"] == decided["voted_before"].sum()
    for message, segment, lift in (("jobs", "", 4.0), ("trade", "", 3.0)):
        among, over_all = (
            rows[estimand, message, segment] for estimand in ("not_voted", "delivered")
        )
        assert abs(among["lift"] - lift) < 3 * among["se"]
        assert abs(over_all["lift"] - lift / 2) < 3 * over_all["se"]
        # held out and sent alike
        planned = decided[
            (decided["intended_message_id"] == message) & ~decided["voted_before"]
        ]
        n_sent = (planned["message_id"] == message).sum()
        n_compared = (planned["message_id"] == "control").sum()
        assert (among["n_sent"], among["n_compared"]) == (n_sent, n_compared)
    among, over_all = (
        rows[estimand, "", ""] for estimand in ("not_voted", "delivered")
    )
    assert among["once_low"] > over_all["lift"]
    assert "had voted when they were assigned" in " ".join(told["sentences"])
    # an earlier look knew of no ballot: as it was shown then
    early_look = json.loads(_said(home, "lift", "--as-of", "2026-11-01", "--json")[1])
    assert early_look["n_voted_before"] == 0
    assert "not_voted" not in {row["estimand"] for row in early_look["rows"]}
    assert rows["delivered", "", ""] in early_look["rows"]


def test_who_had_voted_is_cut_by_the_day_of_the_draw_and_no_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contacts go three and five days after the draw; ballots come in between.

    By the day of a contact some of those sent late would have voted, and none of those
    held out.
    """
    at_once = contacts_of

    def later(assigned: pd.DataFrame, day: str) -> pd.DataFrame:
        sent = at_once(assigned, day)
        days = pd.to_timedelta(3 + 2 * (np.arange(len(sent)) % 2), unit="D")
        return sent.assign(send_on=sent["send_on"] + days)

    monkeypatch.setattr(sys.modules[__name__], "contacts_of", later)
    made = campaign(4, 1_500, voted=0.3)
    home = campaign_folder(made, tmp_path, DECLARED + BALLOTS)
    early = made.voted.index[made.voted]
    lines = [
        "voter_id,status,dated", *(f"{v},returned,2026-09-20" for v in early),
        *(f"{v},returned,2026-10-06" for v in made.voted.index[~made.voted]),
    ]  # fmt: skip
    (tmp_path / "ballots.csv").write_text("\n".join(lines))
    assert _said(home, "already-voted", str(tmp_path / "ballots.csv"))[0] == OK
    told = json.loads(_said(home, "lift", "--as-of", "2099-01-01", "--json")[1])
    decided = made.decisions.drop_duplicates("voter_id")
    assert told["n_voted_before"] == decided["voted_before"].sum() > 0
    assert told["n_decided"] == len(decided)


BALLOTS = """
[ballots]
first_day = 2026-09-01
[ballots.table]
source = "the county"
licence = "public record"
permitted_use = "any"
"""


def _said(home: Path, *arguments: str) -> tuple[int, str]:
    command, *rest = arguments
    done = CliRunner().invoke(
        app, [command, "--campaign", str(home), "--data", str(home / "data"), *rest]
    )
    return done.exit_code, done.output


def test_lift_of_a_campaigns_files_is_that_of_its_tables(
    home: Path, found: MeasuredLift
) -> None:
    code, said = _said(home, "lift", "--as-of", "2026-11-01")
    assert code == OK, said
    assert "The plan brought" in said
    told = json.loads((home / "data" / "autumn" / "lift.json").read_text())
    rows = {(r["estimand"], r["message_id"], r["segment"]): r for r in told["rows"]}
    by_sex = rows["delivered", "trade", "F"]
    assert by_sex["always_low"] < 3.0 < by_sex["always_high"]
    assert found.overall is not None
    # other features, other folds: the same lift within its error
    whole = rows["delivered", "", ""]
    assert abs(whole["lift"] - found.overall.fixed_sample.value) < 2 * whole["se"]
    assert not list((home / "data" / "autumn").glob("*.partial"))


def test_a_broken_draw_ends_with_a_code_of_its_own(
    planted: Campaign, tmp_path: Path
) -> None:
    """Of those held out a third are in none of the plans."""

    def without_some(rows: pd.DataFrame) -> pd.DataFrame:
        held = rows["role"] == "holdout"
        return rows[~held | (np.arange(len(rows)) % 3 > 0)]

    fewer = {day: without_some(rows) for day, rows in planted.assignments.items()}
    home = campaign_folder(replace(planted, assignments=fewer), tmp_path)
    code, said = _said(home, "lift", "--as-of", "2026-11-01")
    assert code == FAILED, said
    assert "STOP" in said


def test_what_came_in_later_is_not_known_at_an_earlier_look(home: Path) -> None:
    _said(home, "lift", "--as-of", "2026-11-01", "--json")
    early = _said(home, "lift", "--as-of", "2026-10-02", "--json")[1]
    told = json.loads(early)
    assert told["n_decided"] > 0
    assert told["n_in"] == 0
    # a look back does not take the place of the later one
    (on_record,) = (home / "data").rglob("lift.json")
    assert json.loads(on_record.read_text())["as_of"] == "2026-11-01"
    said = _said(home, "lift", "--as-of", "2026-10-02")[1]
    assert "holds the later look of 2026-11-01" in " ".join(said.split())


def test_plans_that_wait_for_answers_leave_the_others_rows_as_they_are(
    home: Path, tmp_path: Path
) -> None:
    """Answers come two days after a plan: of five plans two wait on the fifth day."""
    at_once = DECLARED.replace("lag_days = 2", "lag_days = 0")
    assert at_once != DECLARED
    (tmp_path / "campaign.toml").write_text(at_once)
    where = ["--data", str(home / "data"), "--as-of", "2026-10-05", "--json"]
    waiting, due = (
        json.loads(
            CliRunner().invoke(app, ["lift", "--campaign", str(c), *where]).output
        )
        for c in (tmp_path, home)
    )
    assert waiting["n_due"] > due["n_due"]
    assert waiting["n_in"] == due["n_in"] > 0
    assert waiting["rows"] == due["rows"]
    assert waiting["n_waiting"] == waiting["n_due"] - due["n_due"]
    assert "wait for more" in " ".join(waiting["sentences"])


def test_a_draft_is_no_plan_that_went_out(planted: Campaign, tmp_path: Path) -> None:
    day, assigned = next(iter(planted.assignments.items()))
    at = pd.Timestamp(day, tz="UTC")
    facts = plans.PlanFacts("m/1", "us_default", terms={"holdout_share": H})
    drafted = {
        "plan": contacts_of(assigned, day), "assignments": assigned,
        "designs": planted.designs[day],
    }  # fmt: skip
    plans.draft(tmp_path, "one", drafted, facts, keys={}, at=at)
    assert decisions_so_far(tmp_path).empty
    plans.approve(tmp_path, "one", by="Ada Pell", at=at)
    plans.lock(tmp_path, "one", at=at)
    assert len(decisions_so_far(tmp_path)) == len(assigned)
    assert holdout_shares(tmp_path) == {"one": H}


def test_a_campaign_without_plans_is_told_what_makes_one(
    home: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "autumn"
    (empty / "one").mkdir(parents=True)
    (empty / "latest").write_text("one")
    done = CliRunner().invoke(
        app, ["lift", "--campaign", str(home), "--data", str(tmp_path)]
    )
    assert done.exit_code == MISSING
    said = " ".join(done.output.split())
    where = f"--campaign {home} --data {tmp_path}"
    assert f"--approve-by NAME {where}` makes one" in said


def _require_page_of_power(page: str, told: Any) -> None:
    """The page's table is what the command says, one row marked, with one picture."""
    body = page.split("<main>")[1]
    rows = [
        [unescape(re.sub(r"<[^>]+>", " ", cell)).split()
         for cell in re.findall(r"<t[hd].*?</t[hd]>", line)]
        for line in re.findall(r"<tr><th scope=\"row\">.*?</tr>", body)
    ][: len(told["holdouts"])]  # fmt: skip
    advice = told["recommended_holdout"]["share"]
    for cells, row in zip(rows, told["holdouts"], strict=True):
        share = row["holdout_share"]
        assert cells[0][:2] == [f"{100 * share:g}", "%"]
        assert ("recommended" in cells[0]) == (share == advice)
        assert [cells[1][0], cells[2][0]] == [
            f"{row['once']:.2f}",
            f"{row['daily']:.2f}",
        ]
        assert cells[5] == [f"{row['n_compared']:,}"]
    assert H in [row["holdout_share"] for row in told["holdouts"]]
    # drawn for a desk and for a phone
    assert body.count(f">recommended {100 * advice:g} %</text>") == 2
    assert f"Hold out {100 * advice:g} % of the audience" in body


def test_power_reads_noise_and_lifts_from_the_campaigns_own_test(home: Path) -> None:
    page = home / "power.html"
    code, said = _said(home, "power", "--json", "--out", str(page))
    assert code == OK
    told = json.loads(said)
    _require_page_of_power(page.read_text(), told)
    # jobs 4, trade 2 over all, as far as 2,000 explorers can tell
    assert told["facts"]["message_lifts"] == pytest.approx([4, 2], abs=2.5)
    assert told["facts"]["n_contacts"] == 9_000
    # base 10, household 4, own 8
    assert told["facts"]["noise"]["sd"] == pytest.approx(180**0.5, abs=1.0)
    seen = [row["once"] for row in told["holdouts"]]
    assert seen == sorted(seen, reverse=True)
    assert _said(home, "power", "--holdout", "1.5")[0] != OK
