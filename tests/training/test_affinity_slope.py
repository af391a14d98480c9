"""Fondness points to lift only as far as randomised scores say so."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hustings.features.training_set import with_affinity_columns
from hustings.training.learners.affinity_slope import PRIOR_SHARE, fit_affinity_slope
from hustings.training.learners.linear import LinearFit, fit_linear

N, FOLDS, NOISE = 6_000, 4, 4.0
FOND_OF = (2, 2, 3)
"""Columns 2 and 3 hold affinities; the first two messages share an issue."""


def drawn(
    rng: np.random.Generator, slope: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, centred lifts of three messages with noise of SD `NOISE`, and folds."""
    X = rng.normal(size=(N, 4)).astype(np.float32)
    X[rng.random(N) < 0.1, 3] = np.nan
    own = np.nan_to_num(X[:, FOND_OF] - np.nanmean(X[:, FOND_OF], axis=0))
    lift = slope * own + NOISE * rng.normal(size=(N, 3))
    return X, lift - lift.mean(axis=0), rng.integers(FOLDS, size=N)


def fitted(X: np.ndarray, lift: np.ndarray, fold: np.ndarray) -> LinearFit:
    return fit_linear(
        X, lift, NOISE**2 * np.eye(3), fold, ["a", "a", "b"],
        [], affinity_columns=FOND_OF, outcome_sd=NOISE,
    )  # fmt: skip


def test_a_planted_slope_is_found_by_every_fold() -> None:
    X, lift, fold = drawn(np.random.default_rng(1), slope=0.5)
    found = fit_affinity_slope(
        X, lift, NOISE**2 * np.eye(3), fold, FOLDS, FOND_OF, NOISE
    )
    assert found.slope == pytest.approx(np.full(FOLDS + 1, 0.5), abs=0.1)
    se = NOISE / np.sqrt(2.9 * N)
    assert found.variance[-1] ** 0.5 == pytest.approx(se, rel=0.1)


def test_where_fondness_does_not_point_to_lift_next_to_nothing_is_added() -> None:
    noise = NOISE**2 * np.eye(3)
    found = []
    for seed in range(20):
        X, lift, fold = drawn(np.random.default_rng(seed), slope=0.0)
        found.append(
            fit_affinity_slope(X, lift, noise, fold, FOLDS, FOND_OF, NOISE).slope[-1]
        )
    se = NOISE / np.sqrt(2.9 * N)
    assert 0 < np.mean(found) < 1.2 * se
    X, lift, fold = drawn(np.random.default_rng(1), slope=-0.5)
    against = fit_affinity_slope(X, lift, noise, fold, FOLDS, FOND_OF, NOISE).slope
    assert (against < 0.2 * se).all()


def test_before_any_data_fondness_points_the_way_and_says_little() -> None:
    X, lift, fold = drawn(np.random.default_rng(7), slope=0.0)
    few = slice(0, 4)
    found = fit_affinity_slope(
        X[few], 0 * lift[few], 1e9 * np.eye(3), fold[few], FOLDS, FOND_OF, NOISE
    )
    own = np.nan_to_num(X[few][:, FOND_OF] - found.centre)
    scale = PRIOR_SHARE * NOISE / np.sqrt((own**2).mean())
    assert found.slope[-1] == pytest.approx(scale * np.sqrt(2 / np.pi), rel=1e-3)
    assert found.variance[-1] == pytest.approx(scale**2 * (1 - 2 / np.pi), rel=1e-3)


def test_a_fold_is_predicted_by_a_slope_that_never_saw_it() -> None:
    X, lift, fold = drawn(np.random.default_rng(2), slope=0.5)
    noise = NOISE**2 * np.eye(3)
    first = fit_affinity_slope(X, lift, noise, fold, FOLDS, FOND_OF, NOISE)
    wild = np.where(fold[:, None] == 0, 100 * lift, lift)
    again = fit_affinity_slope(X, wild, noise, fold, FOLDS, FOND_OF, NOISE)
    assert again.slope[0] == pytest.approx(first.slope[0])
    assert abs(again.slope[-1]) > 2 * abs(first.slope[-1])


def test_lift_follows_fondness_and_its_column_is_no_other_feature() -> None:
    X, lift, fold = drawn(np.random.default_rng(3), slope=1.0)
    model = fitted(X, lift, fold)
    predicted = model.deviation(X, fold)
    own = np.nan_to_num(X[:, FOND_OF] - np.nanmean(X[:, FOND_OF], axis=0))
    assert np.corrcoef(predicted.ravel(), own.ravel())[0, 1] > 0.95
    assert not {2, 3} & {f for term in model.basis.terms for f in term}
    unknown = X.copy()
    unknown[:, 2:] = np.nan
    assert np.abs(model.deviation(unknown, fold)).max() < 0.5
    variance = model.moments(X, fold)[1]
    assert (variance >= model.moments(unknown, fold)[1] - 1e-9).all()
    # what is not known of the slope is part of it
    settled = replace(model, affinity_slope=None).moments(X, fold)[1]
    doubt = model.affinity_slope.doubt(X, fold)
    assert doubt.max() > 0
    np.testing.assert_allclose(variance, settled + doubt)


def test_the_model_predicts_the_same_after_it_was_written_and_read() -> None:
    X, lift, fold = drawn(np.random.default_rng(4), slope=1.0)
    model = fitted(X, lift, fold)
    again = LinearFit.from_json(json.loads(json.dumps(model.to_json())))
    np.testing.assert_allclose(again.deviation(X, fold), model.deviation(X, fold))
    np.testing.assert_allclose(again.moments(X, None)[1], model.moments(X, None)[1])


def test_a_slope_takes_off_what_features_would_otherwise_have_to_learn() -> None:
    rng = np.random.default_rng(5)
    X, lift, fold = drawn(rng, slope=1.0)
    # a feature that moves all messages alike is still found beside it
    lift = lift + 1.5 * (X[:, :1] > 0)
    model = fitted(X, lift - lift.mean(axis=0), fold)
    assert (0,) in model.basis.terms
    gap = model.deviation(X[X[:, 0] > 1], None) - model.affinity_slope.deviation(
        X[X[:, 0] > 1], None
    )
    assert gap.mean() == pytest.approx(0.75, abs=0.25)


def test_each_message_reads_the_column_of_its_own_issue(planted) -> None:
    test, _ = planted(np.random.default_rng(6), n_households=50)
    messages = test.messages
    issue_of = {m: f"issue {k % 2}" for k, m in enumerate(messages)}
    names = ["age", "affinity__issue 1"]
    found = with_affinity_columns(test, names, issue_of)
    assert found.affinity_columns == tuple(
        1 if k % 2 else -1 for k in range(len(messages))
    )
    assert with_affinity_columns(test, ["age"], issue_of).affinity_columns is None
    assert (
        found.by_message().take(np.arange(5)).affinity_columns == found.affinity_columns
    )
