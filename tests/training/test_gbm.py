"""The lift model recovers what was planted, and invents nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hustings.training.learners.average_effects import CROSS_FOLDS, N_FOLDS
from hustings.training.learners.boosting import FoldBoosters, binned, boost
from hustings.training.learners.gbm import (
    GbmLift,
    calibrate,
    fit_gbm,
    prepare,
)

CONSTANT, NOTHING = "health_hospital", "schools_trades"
"""Messages of the simulated campaign without heterogeneity, and without effect."""
SMALL = {
    "n_trees": 15, "learning_rate": 0.2, "num_leaves": 4, "min_child_samples": 50,
    "lambda_l2": 1.0,
}  # fmt: skip


def lifts_of(fitted) -> np.ndarray:
    return fitted.model.predict(fitted.test.X, fitted.test.unit_id).lift


def test_predicted_lifts_follow_the_planted_ones(fitted) -> None:
    """The heterogeneous messages, on held-out trees; 0 would be a constant."""
    lift = lifts_of(fitted)
    found = {
        message: np.corrcoef(lift[:, m], fitted.truth[:, m])[0, 1]
        for m, message in enumerate(fitted.test.messages)
        if message not in (CONSTANT, NOTHING)
    }
    assert min(found.values()) > 0.15, found
    assert np.mean(list(found.values())) > 0.4, found


def test_the_error_is_below_that_of_the_average_effect(fitted) -> None:
    """Over all messages together, those without heterogeneity included."""
    average = fitted.model.nuisances.effects.shrunken
    of_model = ((lifts_of(fitted) - fitted.truth) ** 2).mean()
    of_constant = ((average - fitted.truth) ** 2).mean()
    assert of_model < 0.85 * of_constant


def test_little_spread_is_invented_for_a_message_that_has_none(fitted) -> None:
    spread = dict(zip(fitted.test.messages, lifts_of(fitted).std(axis=0), strict=True))
    assert spread[CONSTANT] < 0.8, spread
    assert spread[NOTHING] < 0.8, spread
    assert spread["safety_background_checks"] > 1.5, spread


def test_intervals_cover_the_true_lift_averaged_over_voters(fitted) -> None:
    lifts = fitted.model.predict(fitted.test.X, fitted.test.unit_id)
    covered = np.abs(lifts.lift - fitted.truth) < 1.96 * lifts.se
    assert 0.85 < covered.mean() < 0.995
    assert lifts.se.mean() < 2.5


def test_a_predicted_difference_between_voters_is_one_in_truth(fitted) -> None:
    """The slope of truth on prediction within messages: peers reach .03 to .30."""
    lift = lifts_of(fitted)
    predicted, true = lift - lift.mean(axis=0), fitted.truth - fitted.truth.mean(axis=0)
    slope = (predicted * true).sum() / (predicted**2).sum()
    assert 0.7 < slope < 1.3


def test_a_twin_without_heterogeneity_gets_hardly_any(null_fitted) -> None:
    lift = lifts_of(null_fitted)
    assert lift.std(axis=0).max() < 0.8
    constant = (null_fitted.model.nuisances.effects.shrunken - null_fitted.truth) ** 2
    error = ((lift - null_fitted.truth) ** 2).mean()
    assert error < constant.mean() + 0.25


def test_the_baseline_is_the_outcome_without_a_message(fitted) -> None:
    lifts = fitted.model.predict(fitted.test.X, fitted.test.unit_id)
    truth = fitted.sample.truth.set_index("voter_id").loc[fitted.test.voter_id]
    true = truth["baseline"].to_numpy(float)
    # the mean of controls is known within 15 points / sqrt(20,000 × .85)
    assert lifts.baseline.mean() == pytest.approx(true.mean(), abs=0.5)
    assert np.corrcoef(lifts.baseline, true)[0, 1] > 0.9


def steep(X: np.ndarray) -> np.ndarray:
    return np.column_stack([1.5 * X[:, 0], 1.0 + 0 * X[:, 0]])


@pytest.fixture(scope="module")
def small(planted: Callable) -> tuple:
    test, true = planted(np.random.default_rng(1), n_households=1_500, lift=steep)
    prepared = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
    return test, true, prepared, fit_gbm(prepared, SMALL, seed=1)


def test_a_voter_is_predicted_by_trees_that_never_saw_its_unit(small) -> None:
    """A household's outcome goes wild: others' trees change, its own do not."""
    test, _, prepared, model = small
    mine = test.unit == 7
    residual = np.where(mine, 1e6, prepared.residual)
    wild = fit_gbm(replace(prepared, residual=residual), SMALL, seed=1)
    fold = prepared.fold
    own = fold[mine][0]
    pairs = [
        (model.common, wild.common),
        *zip(model.message_trees, wild.message_trees, strict=True),
    ]
    moved = []
    for before, after in pairs:
        assert before is not None
        assert after is not None
        change = before.predict(test.X, fold) != after.predict(test.X, fold)
        assert not change[fold == own].any()
        moved.append(change[fold != own].mean())
    assert max(moved) > 0.2


def test_what_trees_learn_from_averages_to_nothing_in_every_arm(
    planted: Callable,
) -> None:
    """Large effects alike for all are taken off before heterogeneity is looked for."""
    test, _ = planted(
        np.random.default_rng(8), n_households=1_500,
        lift=lambda X: np.tile([6.0, 9.0], (len(X), 1)),
    )  # fmt: skip
    prepared = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
    for arm in range(3):
        assert abs(prepared.residual[test.arm == arm].mean()) < 0.4


def test_the_response_of_a_voter_never_saw_its_unit(small) -> None:
    test, _, prepared, _ = small
    mine = test.unit == 7
    wild = replace(test, Y=np.where(mine, 1e6, test.Y))
    again = prepare(wild, [], dict.fromkeys(test.messages, "issue"), seed=1)
    for part, n_folds in (("trees", N_FOLDS), ("ridges", CROSS_FOLDS)):
        fold = prepared.nuisances.folds(test.unit_id, n_folds)
        before, after = (
            getattr(p.nuisances.cross_fits.response, part).predict(test.X, fold)
            for p in (prepared, again)
        )
        own = fold == fold[mine][0]
        np.testing.assert_array_equal(before[own], after[own])
        assert (before[~own] != after[~own]).mean() > 0.5


def test_a_folder_without_a_model_is_an_error_that_names_what_lacks(
    small, tmp_path: Path
) -> None:
    small[3].save(tmp_path)
    for file in tmp_path.glob("common.*"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"expected common\.0\.lgb\.txt"):
        GbmLift.load(tmp_path)


def test_missing_values_and_unseen_levels_get_a_lift(fitted) -> None:
    encoding, features = fitted.encoding, fitted.training_set.features
    strange = features.head(20).assign(party="Whig", age=np.nan, urbanicity=None)
    lifts = fitted.model.predict(encoding.transform(strange), fitted.test.unit_id[:20])
    empty = fitted.model.predict(
        np.full((3, len(encoding.names)), np.nan, np.float32),
        np.array(["x", "y", "z"], dtype=object),
    )
    for found in (*lifts, *empty):
        assert np.isfinite(found).all()


def test_a_message_with_few_people_falls_back_to_what_messages_share(
    planted: Callable,
) -> None:
    rng = np.random.default_rng(3)
    test, _ = planted(
        rng, n_households=1_500, lift=lambda X: np.repeat(X[:, :1], 3, axis=1)
    )
    # of the last message only a hundred outcomes were observed
    few = np.cumsum(test.arm == 3) > 100
    test = replace(test, Y=np.where((test.arm == 3) & few, np.nan, test.Y))
    prepared = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
    model = fit_gbm(prepared, SMALL, seed=1)
    assert [trees is None for trees in model.message_trees] == [False, False, True]
    lifts = model.predict(test.X, test.unit_id)
    assert np.isfinite(lifts.lift).all()
    # who knows less of a message says so
    assert lifts.se[:, 2].min() > lifts.se[:, :2].min()


def test_pure_noise_leaves_next_to_no_spread(planted: Callable) -> None:
    """Effects of 0 and noise of 1: the error of an average effect is about 0.04."""
    spreads = []
    for seed in range(4):
        test, _ = planted(np.random.default_rng(seed), n_households=1_500)
        prepared = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
        model = fit_gbm(prepared, SMALL, seed=1)
        spreads.append(model.predict(test.X, test.unit_id).lift.std(axis=0).max())
    assert np.mean(spreads) < 0.06
    assert max(spreads) < 0.12


def test_calibration_believes_trees_as_far_as_fresh_scores_do() -> None:
    """Of D 0.6 is true in the first message and 0.4 in the second; of C nothing."""
    rng = np.random.default_rng(5)
    n = 100_000
    C, D = rng.normal(size=n), rng.normal(size=(n, 2))
    lift = 1.0 + D * [0.6, 0.4] + rng.normal(size=(n, 2))
    scores = np.column_stack([np.zeros(n), lift])
    found = calibrate(scores, C, D, np.arange(n))
    deviation, variance = found.heterogeneity(C, D)
    np.testing.assert_allclose(found.weight, [0, 0.5], atol=0.02)
    np.testing.assert_allclose(found.slope, [1.2, 0.8], atol=0.05)
    # what is not believed of trees is not known: 0.5 (1 − 0.5) of their variance
    np.testing.assert_allclose(found.unexplained, 0.25, atol=0.02)
    np.testing.assert_allclose(deviation, (D - D.mean(axis=0)) * [0.6, 0.4], atol=0.2)
    assert (variance >= found.unexplained).all()
    opposed = calibrate(-scores, C, D, np.arange(n))
    assert np.abs(opposed.heterogeneity(C, D)[0]).max() < 0.1


def test_one_binned_data_set_serves_any_rows_and_target() -> None:
    rng = np.random.default_rng(6)
    X = rng.normal(size=(400, 2)).astype(np.float32)
    data, ones = binned(X, []), np.ones(400)
    rows = X[:, 1] > 0
    for target in (3.0 * (X[:, 0] > 0), -2.0 * (X[:, 0] > 0)):
        trees = boost(data, rows, target, ones, {**SMALL, "lambda_l2": 0.0}, seed=1)
        found = trees.predict(X[rows])
        assert np.corrcoef(found, target[rows])[0, 1] > 0.99
    # what was not among the rows had no say
    wild = np.where(rows, 1.0, 1e9)
    assert boost(data, rows, wild, ones, SMALL, seed=1).predict(X).max() < 2


def test_every_fold_meets_its_own_booster() -> None:
    """Fold k holds the outcome k; its booster saw only the others."""
    rng = np.random.default_rng(7)
    X, fold = rng.normal(size=(4_000, 1)).astype(np.float32), np.arange(4_000) % N_FOLDS
    trees = FoldBoosters.fit(
        binned(X, []), np.ones(4_000, dtype=bool), fold.astype(float), np.ones(4_000),
        fold, {"n_trees": 1, "num_leaves": 2, "learning_rate": 1.0}, seed=1,
    )  # fmt: skip
    found = trees.predict(X, fold)
    for k in range(N_FOLDS):
        # the mean of 0..3 without k
        assert found[fold == k].mean() == pytest.approx((6 - k) / 3, abs=0.15)
        np.testing.assert_allclose(
            trees.predict(X[fold == k], fold[fold == k]), found[fold == k]
        )
