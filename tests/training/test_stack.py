"""Parts are believed as far as held-out voters support them; the dispatcher."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hustings.training.learners.gbm import prepare
from hustings.training.learners.lift_model import variance_between
from hustings.training.learners.registry import fit_lift
from hustings.training.learners.stack import (
    LINEAR_FOLDS,
    StackLift,
    believe,
    linear_part,
)

SMALL = {
    "n_trees": 15, "learning_rate": 0.2, "num_leaves": 4, "min_child_samples": 50,
    "lambda_l2": 1.0,
}  # fmt: skip


def bent(X: np.ndarray) -> np.ndarray:
    return np.column_stack([1.5 * X[:, 0], 1.0 + 0 * X[:, 0]])


@pytest.fixture(scope="module")
def prepared(planted: Callable) -> tuple:
    test, true = planted(np.random.default_rng(1), n_households=2_500, lift=bent)
    return prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1), true


def test_weights_go_to_the_part_that_is_right_and_noise_gets_none() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(50_000, 2))
    noise = rng.normal(size=(50_000, 2))
    scored = truth + rng.normal(0, 2, (50_000, 2))
    scored -= scored.mean(axis=0)
    belief = believe(scored, [truth, noise], np.arange(50_000))
    np.testing.assert_allclose(belief.weight, [1, 0], atol=0.03)
    np.testing.assert_allclose(belief.slope, 1, atol=0.05)
    # twice the truth is believed by half
    doubled = believe(scored, [2 * truth], np.arange(50_000))
    np.testing.assert_allclose(doubled.combine([2 * truth])[0], truth, atol=0.15)
    against = believe(-scored, [truth], np.arange(50_000))
    deviation, variance = against.combine([truth])
    assert not deviation.any()
    # what is thrown away is in the interval
    assert (variance > 0).all()


def test_trees_are_dropped_where_the_linear_part_says_it_all(prepared: tuple) -> None:
    found = fit_lift(prepared[0], {"model": "stack", **SMALL}, seed=1)
    assert isinstance(found, StackLift)
    assert found.trees is None


def test_trees_are_kept_where_only_they_see_the_truth(planted: Callable) -> None:
    """A checkerboard finer than the knots of a product."""
    rng = np.random.default_rng(4)
    test, true = planted(
        rng, n_households=6_000, noise=0.5, family=0.0, n_features=2,
        lift=lambda X: np.repeat(
            2.0 * (np.floor(2.5 * X[:, :1]) % 2 == np.floor(2.5 * X[:, 1:2]) % 2), 2, 1
        ),
    )  # fmt: skip
    ready = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
    deep = {
        "n_trees": 60, "learning_rate": 0.3, "num_leaves": 16,
        "min_child_samples": 20, "lambda_l2": 1.0, "feature_fraction": 1.0,
    }  # fmt: skip
    found = fit_lift(ready, {"model": "stack", **deep}, seed=1)
    assert found.trees is not None
    lift = found.predict(test.X, test.unit_id).lift
    assert np.corrcoef(lift[:, 0], true[:, 0])[0, 1] > 0.4


def test_the_variance_between_voters_is_that_of_what_was_planted(
    prepared: tuple,
) -> None:
    ready, true = prepared
    fitted = fit_lift(ready, {"model": "linear"}, seed=1)
    found = variance_between(fitted, ready.test.X, ready.test.unit_id)
    np.testing.assert_allclose(found, true.var(axis=0), atol=0.25)


def test_a_message_that_a_block_was_not_offered_loses_nothing(
    planted: Callable,
) -> None:
    """Two blocks with one message each: half the voters say nothing of either."""
    test, true = planted(
        np.random.default_rng(5), n_households=4_000,
        lift=lambda X: np.repeat(1.5 * X[:, :1], 2, axis=1),
    )  # fmt: skip
    block = np.arange(len(test.Y)) // 2 % 2
    offered = np.column_stack([np.ones(len(block)), block == 0, block == 1])
    kept = offered[np.arange(len(block)), test.arm] > 0
    odds = test.propensities * offered
    split = replace(
        test, block=block, propensities=odds / odds.sum(axis=1, keepdims=True)
    ).take(kept)
    ready = prepare(split, [], dict.fromkeys(test.messages, "issue"), seed=1)
    lifts = fit_lift(ready, {"model": "linear"}, seed=1).predict(split.X, split.unit_id)
    told, truth = lifts.lift - lifts.lift.mean(axis=0), true[kept]
    slope = (told * truth).sum() / (told**2).sum()
    assert 0.85 < slope < 1.15
    assert (np.abs(lifts.lift - truth) < 1.96 * lifts.se).mean() > 0.8


@pytest.mark.parametrize("seed", range(3))
def test_with_a_dozen_clusters_a_unit_has_the_fold_that_it_has_among_many(
    planted: Callable, seed: int
) -> None:
    """Some of the eight folds are empty: they count all the same.

    Folds are counted, not read off the data: else a voter is routed by seven folds
    after a fit by eight, to one that saw the unit.
    """
    test, _ = planted(np.random.default_rng(seed), n_households=600, clusters=12)
    ready = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=seed)
    assert linear_part(ready, {}).n_folds == LINEAR_FOLDS
    new = fit_lift(ready, {"model": "gbm", **SMALL}, seed=seed)
    elsewhere = np.array([f"somewhere {i}" for i in range(200)], dtype=object)
    baseline = new.predict(test.X[:200], elsewhere).baseline
    assert np.abs(baseline - np.nanmean(test.Y)).max() < 6
