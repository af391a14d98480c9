"""Boosted trees with the message as a feature, so that messages share what is learnt.

One booster a fold learns the part of the outcome that average effects and voters leave
over, h(x, a), from the features and the arm that was sent; the lift of message m
deviates from its average by h(x, m) − h(x, 0). A split on the arm groups messages that
do the same, so hundreds of messages cost no more to fit than one.

Source: the S-learner of Künzel, Sekhon, Bickel & Yu (2019), on residuals.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import lightgbm as lgb
import numpy as np

from hustings.features.arrays import Floats, Floats32, Ints
from hustings.training.learners.boosting import FoldBoosters, binned, boost
from hustings.training.learners.gbm import Prepared

DEFAULT_ARM_TREES: Mapping[str, Any] = {
    "n_trees": 60, "learning_rate": 0.08, "num_leaves": 15, "min_child_samples": 200,
    "lambda_l2": 1.0, "feature_fraction": 1.0,
}  # fmt: skip
NAME = "arm_trees"


@dataclass(frozen=True)
class ArmTrees:
    """Cross-fitted trees over features and arm.

    Attributes:
        boosters: One a fold.
        centre: Mean held-out deviation of every message, shape (M,).
    """

    boosters: FoldBoosters
    centre: Floats

    def deviation(self, X: Floats32, fold: Ints | None) -> Floats:
        """Lift less the average effect, shape (n, M).

        Args:
            X: Features, shape (n, n_features).
            fold: Fold of each voter, shape (n,), predicted by the trees without it;
                None for voters that no tree saw, who get the mean of all.
        """
        return _contrasts(self.boosters, X, fold, len(self.centre)) - self.centre

    def save(self, folder: Path) -> None:
        """Write LightGBM's text format and the centres: nothing executable."""
        self.boosters.save(folder, NAME)
        (folder / f"{NAME}.centre.txt").write_text(
            "\n".join(repr(float(c)) for c in self.centre)
        )

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read what `save` wrote; None where nothing was written."""
        boosters = FoldBoosters.load(folder, NAME)
        if boosters is None:
            return None
        text = (folder / f"{NAME}.centre.txt").read_text()
        return cls(boosters, np.array([float(line) for line in text.splitlines()]))


def fit_arm_trees(
    prepared: Prepared,
    params: Mapping[str, Any] = DEFAULT_ARM_TREES,
    *,
    seed: int,
    only: int | None = None,
) -> tuple[ArmTrees, Floats]:
    """Fit the trees of every fold.

    Args:
        prepared: The test.
        params: `n_trees` and LightGBM's own.
        seed: For LightGBM.
        only: A fold that is left out of the one fit there is, for tuning.

    Returns:
        The trees, and the deviation that they predict of voters that they never saw,
        shape (n, M): of all, or of the fold that is left out.
    """
    test, fold = prepared.test, prepared.fold
    data = _binned_with_arm(prepared)
    goal = (prepared.residual, np.maximum(prepared.weight, 1e-12))
    if only is not None:
        rows = test.observed & (fold != only)
        boosters = FoldBoosters((boost(data, rows, *goal, params, seed=seed),))
        held = test.take(fold == only)
        deviation = _contrasts(boosters, held.X, None, len(test.messages))
        centre = np.average(deviation, axis=0, weights=held.survey_weight)
        return ArmTrees(boosters, centre), deviation - centre
    boosters = FoldBoosters.fit(data, test.observed, *goal, fold, params, seed=seed)
    deviation = _contrasts(boosters, test.X, fold, len(test.messages))
    centre = np.average(deviation, axis=0, weights=test.survey_weight)
    return ArmTrees(boosters, centre), deviation - centre


def _binned_with_arm(prepared: Prepared) -> lgb.Dataset:
    """Features and the arm that was sent, binned once for all settings."""
    if NAME not in prepared.derived:
        X, arm = prepared.test.X, prepared.test.arm
        categorical = [*prepared.categorical, X.shape[1]]
        prepared.derived[NAME] = binned(_with_arm(X, arm), categorical)
    data: lgb.Dataset = prepared.derived[NAME]
    return data


def _contrasts(
    boosters: FoldBoosters, X: Floats32, fold: Ints | None, n_messages: int
) -> Floats:
    without = boosters.predict(_with_arm(X, 0), fold)
    sent = [boosters.predict(_with_arm(X, m + 1), fold) for m in range(n_messages)]
    contrast: Floats = np.column_stack(sent) - without[:, None]
    return contrast


def _with_arm(X: Floats32, arm: Ints | int) -> Floats32:
    column = np.broadcast_to(np.asarray(arm, dtype=np.float32), (len(X),))
    return np.column_stack([X, column])
