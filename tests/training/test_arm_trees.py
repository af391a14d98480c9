"""Trees over features and message: what one message shows helps the others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hustings.training.learners.arm_trees import ArmTrees, fit_arm_trees
from hustings.training.learners.gbm import Prepared, prepare

SMALL = {
    "n_trees": 40, "learning_rate": 0.1, "num_leaves": 6, "min_child_samples": 50,
    "lambda_l2": 1.0, "feature_fraction": 1.0,
}  # fmt: skip


def alike(X: np.ndarray) -> np.ndarray:
    """Six messages that do the same, above an average effect."""
    return 2.0 + np.repeat(1.5 * (X[:, :1] > 0), 6, axis=1)


@pytest.fixture(scope="module")
def ready(planted: Callable) -> tuple[Prepared, np.ndarray]:
    test, true = planted(np.random.default_rng(1), n_households=3_000, lift=alike)
    prepared = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
    return prepared, true - true.mean(axis=0)


def test_the_planted_deviation_is_found_and_the_average_left_out(ready: tuple) -> None:
    prepared, true = ready
    trees, held = fit_arm_trees(prepared, SMALL, seed=1)
    for fold in (prepared.fold, None):
        found = trees.deviation(prepared.test.X, fold)
        assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.75
        assert np.abs(found.mean(axis=0)).max() < 0.1
    np.testing.assert_allclose(
        held, trees.deviation(prepared.test.X, prepared.fold), atol=1e-12
    )


def test_a_voter_is_predicted_by_trees_that_never_saw_its_fold(ready: tuple) -> None:
    prepared, _ = ready
    mine = prepared.fold == 2
    wild = replace(prepared, residual=np.where(mine, 1e5, prepared.residual))
    X = prepared.test.X
    before, _ = fit_arm_trees(prepared, SMALL, seed=1)
    after, _ = fit_arm_trees(wild, SMALL, seed=1)
    fold = prepared.fold
    # but for the centre, which is a mean over everybody
    gap = before.deviation(X, fold) - after.deviation(X, fold)
    gap -= after.centre - before.centre
    assert np.abs(gap[mine]).max() < 1e-6
    assert np.abs(gap[~mine]).max() > 1


def test_of_shuffled_arms_next_to_nothing_is_learnt(ready: tuple) -> None:
    prepared, true = ready
    rng = np.random.default_rng(2)
    test = replace(prepared.test, arm=rng.permutation(prepared.test.arm))
    shuffled = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
    _, found = fit_arm_trees(shuffled, SMALL, seed=1)
    assert abs(np.corrcoef(found.ravel(), true.ravel())[0, 1]) < 0.15


def test_saved_and_read_again_they_predict_the_same(
    ready: tuple, tmp_path: Path
) -> None:
    prepared, _ = ready
    assert ArmTrees.load(tmp_path) is None
    trees, _ = fit_arm_trees(prepared, SMALL, seed=1)
    trees.save(tmp_path)
    again = ArmTrees.load(tmp_path)
    assert again is not None
    for fold in (prepared.fold, None):
        np.testing.assert_array_equal(
            again.deviation(prepared.test.X, fold),
            trees.deviation(prepared.test.X, fold),
        )
