"""The baselines: everyone alike, or two sides of the best single question."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hustings.training.learners.baselines import (
    CellLift,
    CovariateSplit,
    one_covariate,
    untargeted,
)
from hustings.training.learners.gbm import Prepared, prepare


def stepped(X: np.ndarray) -> np.ndarray:
    """Message 0 moves those with feature 2 above 0, message 1 the others."""
    high = X[:, 2] > 0
    return np.column_stack([2.0 * high, 2.0 * ~high])


def prepared_on(planted: Callable, lift: Callable, **settings: object) -> Prepared:
    test, _ = planted(
        np.random.default_rng(1), n_households=1_500, lift=lift, **settings
    )
    categorical = [test.X.shape[1] - 1] if settings.get("categorical") else []
    return prepare(test, categorical, dict.fromkeys(test.messages, "issue"), seed=1)


def best_split(prepared: Prepared, **changed: object) -> CellLift:
    test = prepared.test
    asked = {
        "categorical": [], "arms": test.arms,
        "allowed": np.ones((len(test.Y), len(test.arms)), dtype=bool),
        "cost": np.ones(len(test.arms)), "spend": 1.0, **changed,
    }  # fmt: skip
    return one_covariate(prepared, **asked)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def prepared(planted: Callable) -> Prepared:
    return prepared_on(planted, stepped)


def test_the_planted_split_is_found_with_its_effects(prepared: Prepared) -> None:
    found = best_split(prepared)
    assert found.split is not None
    assert found.split.feature == 2
    assert found.split.threshold == pytest.approx(0, abs=0.1)
    # cell 1 answers "at most": there message 1 moves, in cell 0 message 0 does
    assert (np.abs(found.lift - [[2, 0], [0, 2]]) < 4 * found.se).all()
    assert found.se.max() < 0.2


def test_where_a_lift_of_everyone_does_not_fit_the_baseline_gives_way(
    prepared: Prepared,
) -> None:
    nuisances = replace(prepared.nuisances, outcome_range=(-1.0, 1.0))
    X, units = prepared.test.X[:200], prepared.test.unit_id[:200]
    before, lifts = (
        untargeted(n).predict(X, units) for n in (prepared.nuisances, nuisances)
    )
    np.testing.assert_array_equal(lifts.lift, before.lift)
    outcome = lifts.baseline[:, None] + lifts.lift
    assert (before.baseline[:, None] + before.lift).max() > 1
    assert outcome.max() <= 1 + 1e-12
    assert lifts.baseline.min() == -1


def test_everyone_alike_is_the_shrunken_average(prepared: Prepared) -> None:
    flat = untargeted(prepared.nuisances)
    X, units = prepared.test.X[:50], prepared.test.unit_id[:50]
    lifts = flat.predict(X, units)
    effects = prepared.nuisances.effects
    np.testing.assert_array_equal(lifts.lift, np.tile(effects.shrunken, (50, 1)))
    np.testing.assert_array_equal(lifts.se, np.tile(effects.shrunken_se, (50, 1)))


def test_the_cells_of_a_split_average_to_the_effect_of_everyone(
    prepared: Prepared,
) -> None:
    found = best_split(prepared)
    lift = found.predict(prepared.test.X, prepared.test.unit_id).lift
    np.testing.assert_allclose(lift.mean(axis=0), prepared.nuisances.effects.shrunken)


def raw_difference(prepared: Prepared, split: CovariateSplit) -> np.ndarray:
    """Mean score of the side that answers yes less that of the other, (M,)."""
    lift = prepared.scores[:, 1:] - prepared.scores[:, :1]
    yes = split.answers(prepared.test.X)
    return lift[yes].mean(axis=0) - lift[~yes].mean(axis=0)


def test_a_difference_between_sides_is_believed_as_far_as_it_is_sure(
    planted: Callable, prepared: Prepared
) -> None:
    """Chosen among many questions, a chance difference is the largest of them."""
    found = best_split(prepared)
    assert found.split is not None
    kept = np.diff(found.lift, axis=0)[0] / raw_difference(prepared, found.split)
    assert (kept > 0.95).all()
    kept_of_noise = []
    for seed in range(5):
        test, _ = planted(
            np.random.default_rng(seed), n_households=300,
            lift=lambda X: np.tile([1.0, 2.0], (len(X), 1)),
        )  # fmt: skip
        flat = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
        chosen = best_split(flat)
        assert chosen.split is not None
        raw = raw_difference(flat, chosen.split)
        kept_of_noise.append(np.diff(chosen.lift, axis=0)[0] @ raw / (raw @ raw))
    assert np.mean(kept_of_noise) < 0.8, kept_of_noise


def test_a_category_is_split_by_asking_for_one_level(planted: Callable) -> None:
    """Level 1 of three answers no order."""
    middle = prepared_on(
        planted,
        lambda X: np.column_stack([2.0 * (X[:, -1] == 1), 0 * X[:, 0]]),
        categorical=True,
    )
    found = best_split(middle, categorical=[3], spend=0.3)
    assert found.split == CovariateSplit(3, 1.0, categorical=True)
    assert found.lift[1, 0] > found.lift[0, 0] + 1.5


def test_a_split_pays_where_money_is_short_not_where_nobody_may_be_reached(
    prepared: Prepared,
) -> None:
    nobody = np.zeros((len(prepared.test.Y), 2), dtype=bool)
    nothing = best_split(prepared, allowed=nobody)
    assert np.isfinite(nothing.lift).all()


def test_a_feature_that_cannot_be_split_leaves_everyone_alike(
    planted: Callable,
) -> None:
    """One constant, one all missing, one that one voter in fifty has."""
    rng = np.random.default_rng(2)
    test, _ = planted(rng, n_households=300, n_features=3)
    X = np.zeros_like(test.X)
    X[:, 1] = np.nan
    X[:12, 2] = 1
    test = type(test)(**{**vars(test), "X": X})
    prepared = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
    assert best_split(prepared).split is None


def test_a_missing_value_answers_no() -> None:
    X = np.array([[1.0], [2.0], [np.nan]], dtype=np.float32)
    assert CovariateSplit(0, 1.0, categorical=False).answers(X).tolist() == [
        True,
        False,
        False,
    ]
    assert CovariateSplit(0, 2.0, categorical=True).answers(X).tolist() == [
        False,
        True,
        False,
    ]


def test_saved_cells_predict_the_same_to_the_bit(
    prepared: Prepared, tmp_path: Path
) -> None:
    X, units = prepared.test.X[:200], prepared.test.unit_id[:200]
    for name, model in (
        ("flat", untargeted(prepared.nuisances)),
        ("split", best_split(prepared)),
    ):
        (tmp_path / name).mkdir()
        model.save(tmp_path / name)
        again = CellLift.load(tmp_path / name).predict(X, units)
        for found, expected in zip(again, model.predict(X, units), strict=True):
            np.testing.assert_array_equal(found, expected)
