"""The whole way on one small campaign: raw files → tables → model → plan → truth.

The campaign (`story` in conftest.py) is simulated: 12,000 voters, four messages by
three channels, 40 % control, lifts that lie far enough apart for choosing by person to
pay. So the truth about every voter is known, and each stage can be held against it.
"""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

from hustings.features.tables import CONTROL
from tests.scores import by_message as long_scores

EXPERIMENT = "spring_test"


def told(story: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((story.run.folder / f"{name}.json").read_text())
    return found


def judged(story: Any) -> dict[str, Any]:
    found: dict[str, Any] = told(story, "evaluation")["experiments"][EXPERIMENT]
    return found


# --- raw files -> tables --------------------------------------------------------------


def test_every_row_that_came_in_was_accepted_or_quarantined(story: Any) -> None:
    for name, table in told(story, "ingest").items():
        raw = pd.read_parquet(story.folder / "raw" / f"{name}.parquet")
        kept = story.run.table(name)
        assert table["rows_in"] == len(raw)
        # people who may not be known leave no row, and are counted
        assert table["accepted"] == len(kept) + table.get("only_in_groups", 0)
        assert table["rows_in"] == table["accepted"] + table["quarantined"]


def test_the_two_wrong_rows_are_set_aside_each_with_its_reason(story: Any) -> None:
    aside = story.run.read("quarantine").set_index("table")
    assert sorted(set(aside.index)) == ["responses", "voters"]
    voter = aside.loc["voters"]
    assert (voter["column"], voter["value"]) == ("age", "4")
    assert voter["row"] == 12_001
    assert voter["reason"] == "younger than 16"
    assert "delivery" in aside.loc[["responses"], "reason"].iloc[0]
    assert "V9999999" not in set(story.run.table("voters")["voter_id"])


# --- tables -> training set -----------------------------------------------------------


def test_the_training_set_has_a_row_for_every_delivery(story: Any) -> None:
    rows, drawn = story.run.read("training_set"), story.run.table("deliveries")
    assert len(rows) == len(drawn) == len(story.truth)
    propensity = rows.set_index("voter_id")["propensity"]
    assert (propensity.reindex(drawn["voter_id"]) == drawn["propensity"].array).all()


def test_nothing_observed_after_the_first_delivery_is_a_feature(story: Any) -> None:
    first = story.run.table("deliveries")["sent_on"].min()
    features = story.run.read("features").columns
    elections = [c[len("voted_") :][:8] for c in features if c.startswith("voted_")]
    assert len(elections) == 8
    assert max(elections) < first.strftime("%Y%m%d")
    assert not {"support", "turnout", "value", "outcome"} & set(features)


# --- training set -> model ------------------------------------------------------------


def test_average_effects_are_recovered(story: Any) -> None:
    # arms of a message are drawn alike, so its effect is that of the mean channel
    by_mail = story.truth.filter(like="lift__").mean()
    mean_channel = np.mean(list(story.multiplier.values()))
    missed = []
    for row in judged(story)["messages"]:
        true = by_mail[f"lift__{row['message_id']}"] * mean_channel
        interval = row["effect"]
        width = interval["high"] - interval["low"]
        assert 1.0 < width < 5.0
        assert abs(interval["value"] - true) < 0.9 * width
        if not interval["low"] <= true <= interval["high"]:
            missed.append(row["message_id"])
    assert len(missed) <= 1


def test_channels_multiply_the_lift_as_planted(story: Any) -> None:
    mean_channel = np.mean(list(story.multiplier.values()))
    for row in judged(story)["channels"]:
        true = story.multiplier[row["channel"]] / mean_channel
        assert row["multiplier"]["value"] == pytest.approx(true, abs=0.6)


def test_predicted_lifts_follow_the_true_ones_from_voter_to_voter(story: Any) -> None:
    scores = long_scores(story.run.read("scores"))
    true = story.true_lift(scores.assign(channel="mail"))
    true *= np.mean(list(story.multiplier.values()))
    by_message = scores["message_id"].to_numpy()
    centred = [
        x - x.groupby(by_message).transform("mean") for x in (scores["lift"], true)
    ]
    assert np.corrcoef(*centred)[0, 1] > 0.5
    # believed as far as it goes: not twice what is there, nor half
    slope = (centred[0] * centred[1]).sum() / (centred[0] ** 2).sum()
    assert 0.5 < slope < 2.0


def test_a_response_is_the_baseline_and_the_lift(story: Any) -> None:
    scores = long_scores(story.run.read("scores"))
    assert np.allclose(scores["response"], scores["baseline"] + scores["lift"])
    baseline = scores.groupby("voter_id")["baseline"].first()
    true = story.truth["baseline"].reindex(baseline.index)
    assert np.corrcoef(baseline, true)[0, 1] > 0.8
    assert baseline.mean() == pytest.approx(true.mean(), abs=1.5)


def test_labels_shuffled_the_gain_is_nil(story: Any) -> None:
    gain = judged(story)["checks"]["permuted_gain"]
    # one shuffle: within 3.3 standard errors in 999 of 1,000
    se = (gain["high"] - gain["low"]) / (2 * 1.96)
    assert abs(gain["value"]) < 3.3 * se


def test_checks_raise_no_alarm_on_a_sound_experiment(story: Any) -> None:
    checks = judged(story)["checks"]
    assert checks["sample_ratio"]["ok"]
    assert checks["attrition"]["ok"]
    assert 0.05 < checks["attrition"]["missing_share"] < 0.3


# --- model -> verdict -----------------------------------------------------------------


def test_the_verdict_is_to_personalise(story: Any) -> None:
    found = judged(story)
    assert found["verdict"] == "personalise"
    assert found["champion"] == "personalised"
    assert all(d["low"] > 0 for d in found["differences"].values())
    assert told(story, "evaluation")["headline"]["verdict"] == "personalise"


def test_the_judged_gain_is_the_true_gain_of_the_plan(story: Any) -> None:
    # judged with everybody to be had; the plan leaves its holdout alone
    gain = judged(story)["policies"]["personalised"]["gain"]
    plan = story.run.read("plan").query("role == 'plan'")
    true = story.true_lift(plan).sum() / len(story.truth)
    kept = 1 - story.run.campaign.plan.holdout_share
    assert kept * gain["low"] * 0.85 < true < kept * gain["high"] * 1.15


# --- plan -> measured lift ------------------------------------------------------------


def best_untargeted(story: Any) -> float:
    """True gain per voter of the best mix of messages to random people.

    An all-knowing rival: it knows every average and needs no permission.
    """
    lift = story.truth.filter(like="lift__").mean().to_numpy()
    costs = story.run.table("costs").set_index("channel")["cost_usd"]
    gain = np.array([lift * story.multiplier[c] for c in costs.index]).ravel()
    cost = np.repeat(costs.to_numpy(), len(lift))
    spend = told(story, "evaluation")["spend_per_voter_usd"]
    found = linprog(
        -gain, A_ub=[np.ones(len(gain)), cost], b_ub=[1.0, spend], method="highs"
    )
    return -float(found.fun)


def test_the_plan_beats_the_best_mix_for_everyone_in_truth(story: Any) -> None:
    plan = story.run.read("plan")
    true = story.true_lift(plan).sum() / len(story.truth)
    held = 1 - story.run.campaign.plan.holdout_share
    assert true > 1.3 * held * best_untargeted(story)


def test_the_plan_delivers_about_what_it_promises(story: Any) -> None:
    plan = story.run.read("plan").query("role == 'plan'")
    assert story.true_lift(plan).sum() == pytest.approx(plan["lift"].sum(), rel=0.35)


def drawn_outcomes(story: Any, seed: int) -> pd.DataFrame:
    """What would be seen once the plan is carried out: baseline, lift and noise."""
    assigned: pd.DataFrame = story.run.read("assignments")
    rng = np.random.default_rng(seed)
    lift = pd.Series(0.0, index=assigned.index)
    sent = assigned["message_id"] != CONTROL
    lift[sent] = story.true_lift(assigned[sent])
    baseline = story.truth["baseline"].reindex(assigned["voter_id"]).to_numpy()
    noise = rng.normal(0, 16, len(assigned))
    return assigned.assign(outcome=baseline + lift + noise, true_lift=lift)


def test_the_next_experiment_measures_the_lift_of_the_plan(story: Any) -> None:
    # among those for whom the plan has a message: sent it, against held out
    seen = drawn_outcomes(story, seed=1)
    meant = seen[seen["intended_message_id"] != CONTROL]
    sent, held = (meant[meant["role"] == role] for role in ("plan", "holdout"))
    measured = sent["outcome"].mean() - held["outcome"].mean()
    # people of a household are alike: half as many count
    error = np.sqrt(
        2 * sent["outcome"].var() / len(sent) + 2 * held["outcome"].var() / len(held)
    )
    assert sent["true_lift"].mean() > 3 * error
    assert measured == pytest.approx(sent["true_lift"].mean(), abs=4 * error)


def test_dividing_by_the_stated_probability_gives_back_everybody(story: Any) -> None:
    assigned = story.run.read("assignments")
    left = assigned["message_id"] == CONTROL
    # of nothing at all, whatever the role that brought it
    weight = np.where(left, 1 / assigned["arm_propensity"], 0.0)
    spread = np.sqrt(2) * weight.std() / np.sqrt(len(weight))
    assert weight.mean() == pytest.approx(1.0, abs=5 * spread)


def test_the_money_is_spent_and_not_more(story: Any) -> None:
    plan, spend = story.run.read("plan"), told(story, "evaluation")
    budget = spend["spend_per_voter_usd"] * len(story.truth)
    assert 0.97 * budget < plan["cost_usd"].sum() <= budget + 1e-6


# --- plan -> report -------------------------------------------------------------------


def test_the_report_says_the_answer(story: Any) -> None:
    page = (story.run.folder / "report.html").read_text()
    said = told(story, "evaluation")["headline"]["sentence"]
    assert said.split(":")[0] in page
    gain = judged(story)["gain_from_personalising"]["value"]
    assert f"{gain:+.1f} points" in page
