"""Chances of voters left alone: level from controls, shape from everybody."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from hustings.features.tables import SMALLEST_CELL
from hustings.features.training_set import (
    MessageTest,
    build_training_set,
    message_tests,
)
from hustings.features.voter import Encoding
from hustings.training.learners.response import (
    _curve,
    area_spread,
    by_area,
    fit_response,
    fractional_logit,
    without_messages,
)
from hustings.training.policy_value.reliability import reliability

BASE = -0.5


def chance(X: np.ndarray) -> np.ndarray:
    return expit(BASE + X[:, 0] + 0.7 * np.abs(X[:, 1]) - 0.5 * (X[:, 2] > 0))


@pytest.fixture(scope="module")
def votes(planted: Callable) -> tuple[MessageTest, np.ndarray]:
    """Binary outcomes with a known chance; every message adds 10 points."""
    rng = np.random.default_rng(4)
    test, _ = planted(rng, n_households=6_000, control=0.4)
    truth = chance(test.X.astype(float))
    lifted = np.clip(truth + 0.1 * (test.arm > 0), 0, 1)
    return replace(test, Y=(rng.random(len(truth)) < lifted).astype(float)), truth


def test_a_logit_on_two_groups_is_their_log_odds() -> None:
    """1 of 4 and 3 of 4: intercept −log 3, slope 2 log 3."""
    Z = np.column_stack([np.ones(8), np.repeat([0.0, 1.0], 4)])
    y = np.array([1, 0, 0, 0, 1, 1, 1, 0], dtype=float)
    b = fractional_logit(Z, y, np.ones(8))
    np.testing.assert_allclose(b, [-np.log(3), 2 * np.log(3)], atol=1e-6)


def test_predictions_are_of_voters_left_alone_and_calibrated(votes) -> None:
    test, truth = votes
    found = fit_response(test, [], seed=1).predict(test.X, test.unit_id)
    assert np.mean(found - truth) == pytest.approx(0.0, abs=0.012)
    slope = np.polyfit(found, truth, 1)[0]
    assert 0.9 < slope < 1.1
    assert np.corrcoef(found, truth)[0, 1] > 0.93
    # 60 % were lifted by ten points: a model of all outcomes would lie six points off
    assert abs(test.Y.mean() - truth.mean()) > 0.04


def test_reliability_of_held_out_controls_is_that_of_the_truth(votes) -> None:
    test, _ = votes
    found = fit_response(test, [], seed=1).predict(test.X, test.unit_id)
    left = test.arm == 0
    told = reliability(found[left], test.Y[left], test.cluster[left])
    assert told.slope.low < 1 < told.slope.high
    assert told.level.low < 0 < told.level.high
    assert told.ece < 2.0 * told.ece_by_chance
    assert told.brier < 0.97 * told.brier_base
    assert told.log_loss < told.log_loss_base
    assert sum(g.n for g in told.groups) == left.sum()


def test_no_voter_is_predicted_by_a_fit_that_saw_its_unit(planted: Callable) -> None:
    """Outcomes of pure noise, shared by the household that X names: nothing is known.

    A fit that saw a voter's unit would follow its noise.
    """
    rng = np.random.default_rng(6)
    test, _ = planted(rng, n_households=2_000)
    noise = (rng.random(2_000) < 0.5).astype(float)[test.household]
    X = np.column_stack([test.X[:, :2], test.household]).astype(np.float32)
    noisy = replace(test, X=X, Y=noise)
    found = fit_response(noisy, [], seed=1).predict(X, test.unit_id)
    assert np.corrcoef(found, noise)[0, 1] < 3 / np.sqrt(2_000)


@pytest.mark.parametrize("bend", [0.0, 0.06])
def test_a_bend_is_followed_as_far_as_it_is_there(bend: float) -> None:
    rng = np.random.default_rng(7)
    p = rng.uniform(0.05, 0.95, 40_000)
    truth = p + bend * np.sin(2 * np.pi * p)
    y = (rng.random(len(p)) < truth).astype(float)
    curve = _curve(p, y, np.ones(len(p)))
    assert (np.diff(curve, axis=0) >= 0).all()
    found = np.interp(p, *curve.T)
    error = np.sqrt(np.mean((found - truth) ** 2))
    assert error < 0.012
    assert bend == 0 or error < 0.3 * np.sqrt(np.mean((p - truth) ** 2))


def test_few_controls_leave_the_line_as_it_is() -> None:
    p = np.linspace(0.1, 0.9, 500)
    curve = _curve(p, 1 - p, np.ones(500))
    np.testing.assert_array_equal(curve, [[0, 0], [1, 1]])


def test_an_experiment_without_observed_controls_is_refused(votes) -> None:
    test, _ = votes
    none = replace(test, Y=np.where(test.arm == 0, np.nan, test.Y))
    with pytest.raises(ValueError, match="expected observed outcomes of people who"):
        fit_response(none, [], seed=1)


def test_arms_are_brought_to_the_level_of_control_by_weighted_means(votes) -> None:
    test, _ = votes
    target = without_messages(test)
    weight = 1 / test.propensities[np.arange(len(test.arm)), test.arm]
    means = [
        np.average(target[test.arm == a], weights=weight[test.arm == a])
        for a in range(3)
    ]
    np.testing.assert_allclose(means, means[0])


def test_missing_values_and_unseen_levels_get_a_prediction(votes) -> None:
    test, truth = votes
    X = test.X.copy()
    X[::7, 0] = np.nan
    X[:, 3] = np.arange(len(X)) % 3
    model = fit_response(replace(test, X=X), [3], seed=1)
    unseen = X[:50].copy()
    unseen[:, 3] = 17.0
    found = model.predict(unseen, test.unit_id[:50])
    assert ((found > 0) & (found < 1)).all()
    assert np.corrcoef(found, truth[:50])[0, 1] > 0.8


@pytest.mark.parametrize(
    ("outcome", "column", "scale"),
    [("support", "baseline", 100.0), ("turnout", "turnout_baseline", 1.0)],
)
def test_turnout_and_support_of_the_simulated_campaign_are_calibrated_to_their_truth(
    fitted, outcome: str, column: str, scale: float
) -> None:
    voters = fitted.sample.tables["voters"]
    history = [c for c in voters if c.startswith("voted_")]
    made = build_training_set(
        fitted.sample.tables,
        ["age", "sex", "party", "urbanicity", "college", *history],
        outcome=outcome, absent="missing",
    )  # fmt: skip
    encoding = Encoding.fit(made.features)
    (test,) = message_tests(made, encoding).values()
    test = replace(test, Y=test.Y / scale)
    found = fit_response(test, encoding.categorical, seed=1).predict(
        test.X, test.unit_id
    )
    truth = fitted.sample.truth.set_index("voter_id")[column].loc[test.voter_id]
    slope, level = np.polyfit(found, truth.to_numpy(float) / scale, 1)
    assert 0.95 < slope < 1.05
    assert abs(level + slope * found.mean() - found.mean()) < 0.01


# --- areas ----------------------------------------------------------------------------


def test_the_spread_of_areas_is_found_and_their_intervals_hold_what_happens() -> None:
    rng = np.random.default_rng(2)
    area = np.repeat(np.arange(400), 60)
    predicted = rng.uniform(0.2, 0.8, len(area))
    moved = np.clip(predicted + 0.05 * rng.normal(size=400)[area], 0, 1)
    outcome = (rng.random(len(area)) < moved).astype(float)
    names = np.array([f"P{a}" for a in area], dtype=object)
    spread = area_spread(predicted, outcome, names)
    assert spread.area == pytest.approx(0.05, abs=0.01)
    table = by_area(predicted, names, spread).set_index("area")
    happened = pd.Series(outcome).groupby(names).mean().loc[table.index]
    inside = happened.between(table["low"], table["high"]).mean()
    assert inside == pytest.approx(0.95, abs=0.03)


def test_areas_of_one_mean_are_found_to_have_no_spread() -> None:
    outcome = np.tile([0.0, 1.0], 500)
    names = np.repeat([f"P{a}" for a in range(100)], 10).astype(object)
    assert area_spread(np.full(1_000, 0.5), outcome, names).area == 0


def test_a_small_area_is_not_shown_and_nobody_without_one_counts() -> None:
    area = np.array(["a"] * SMALLEST_CELL + ["b"] * (SMALLEST_CELL - 1) + [None] * 30)
    predicted = np.linspace(0.1, 0.9, len(area))
    table = by_area(predicted, area, area_spread(predicted, predicted, area))
    assert table["area"].tolist() == ["a"]
    assert table["n"].tolist() == [SMALLEST_CELL]
    assert table["mean"][0] == pytest.approx(predicted[:SMALLEST_CELL].mean())
