"""Votes: worked by hand, and never gained by keeping anybody from voting."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hustings.training.estimators.metrics import Interval
from hustings.training.estimators.votes import (
    as_votes,
    believed,
    turnout_lifts,
    votes_gained,
)
from hustings.training.learners.average_effects import fit_nuisances
from hustings.training.learners.boosting import binned

chance = st.floats(0, 1)
lift = st.floats(-1, 1)


def one(support: float, p: float, turnout: float, margin: float) -> float:
    found = votes_gained(
        np.array([[support]]), np.array([p]), np.array([turnout]), np.array([margin])
    )
    return float(found[0, 0])


def test_votes_worked_by_hand() -> None:
    """.02 × .5 + .04 × .6 = .034."""
    assert one(0.02, 0.5, 0.04, 0.6) == pytest.approx(0.034)
    # among opponents turnout brings nothing
    assert one(0.02, 0.5, 0.04, -0.6) == pytest.approx(0.01)
    assert one(-0.02, 0.5, 0.0, 0.6) == pytest.approx(-0.01)


@given(support=lift, p=chance, fall=st.floats(-1, 0), margin=lift)
def test_a_fall_in_turnout_is_never_worth_anything(
    support: float, p: float, fall: float, margin: float
) -> None:
    assert one(support, p, fall, margin) == one(support, p, 0.0, margin)


@given(support=lift, p=chance, low=lift, high=lift, margin=lift)
def test_lower_turnout_never_raises_a_value(
    support: float, p: float, low: float, high: float, margin: float
) -> None:
    low, high = sorted((low, high))
    assert one(support, p, low, margin) <= one(support, p, high, margin)


def test_an_unknown_effect_on_turnout_counts_for_nothing() -> None:
    assert one(0.02, 0.5, np.nan, 0.6) == pytest.approx(0.01)


@pytest.mark.parametrize(("p", "margin"), [(1.2, 0.0), (np.nan, 0.0), (0.5, 30.0)])
def test_what_is_no_chance_or_margin_is_refused(p: float, margin: float) -> None:
    with pytest.raises(ValueError, match=r"expected (chances|margins)"):
        one(0.02, p, 0.0, margin)


def test_noise_around_zero_is_hardly_believed() -> None:
    """The larger of noise and 0 is worth .4 se on average; believed, a third of it."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=20_000)
    kept = np.array([believed(Interval.of(v, se=1.0)) for v in noise])
    assert np.maximum(noise, 0).mean() == pytest.approx(0.40, abs=0.02)
    assert np.maximum(kept, 0).mean() < 0.5 * np.maximum(noise, 0).mean()
    assert believed(Interval.of(10.0, se=1.0)) == pytest.approx(9.9)


def test_a_message_without_a_measured_turnout_effect_stays_unknown() -> None:
    found = turnout_lifts({"a": Interval.of(0.02, se=0.01)}, ("a", "b"))
    assert found[0] == pytest.approx(0.015)
    assert np.isnan(found[1])


def test_the_lift_of_the_converted_test_is_the_votes_gained(planted: Callable) -> None:
    """Effects of the test of votes against the formula on the planted lifts."""
    rng = np.random.default_rng(2)
    test, truth = planted(
        rng, n_households=8_000, noise=2.0, baseline=lambda X: 50 + 5 * X[:, 0],
        lift=lambda X: np.column_stack([4 + 4 * (X[:, 1] > 0), 2 - 2 * X[:, 1]]),
    )  # fmt: skip
    p_votes = 1 / (1 + np.exp(-test.X[:, 1].astype(float)))
    margin = np.tanh(test.X[:, 0].astype(float))
    turnout = np.array([0.03, np.nan])
    votes = as_votes(test, p_votes, turnout, margin, support_scale=100.0)
    planned = votes_gained(truth / 100, p_votes, turnout, margin).mean(axis=0)
    nuisances = fit_nuisances(
        votes, binned(votes.X, []), dict.fromkeys(test.messages, "i"), seed=1
    )
    for interval, expected in zip(
        nuisances.effects.intervals(shrunken=False), planned, strict=True
    ):
        assert interval.low < expected < interval.high
        assert interval.se < 0.1 * abs(expected)


def test_missing_support_stays_missing(planted: Callable) -> None:
    test, _ = planted(np.random.default_rng(3), n_households=50)
    holed = replace(test, Y=np.where(np.arange(len(test.Y)) % 3 == 0, np.nan, test.Y))
    half = np.full(len(test.Y), 0.5)
    votes = as_votes(holed, half, np.full(2, 0.1), half, support_scale=1.0)
    np.testing.assert_array_equal(votes.observed, holed.observed)
