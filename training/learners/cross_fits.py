"""Cross-fitted response and observation: as much model as the people of a test carry.

Both are a ridge regression and trees, each believed as far as it lowers the error on
people that it never saw. A few hundred people carry a few straight lines, hundreds of
thousands carry trees; where nothing can be predicted the mean is left.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import lightgbm as lgb
import numpy as np

from hustings.features.arrays import Bools, Floats, Floats32, Ints
from hustings.features.training_set import Arm, MessageTest
from hustings.training.learners.boosting import (
    N_FOLDS,
    FoldBoosters,
    categorical_columns,
)
from hustings.training.learners.ridge import FoldRidges

RESPONSE_PARAMS: Mapping[str, Any] = {
    "n_trees": 60, "learning_rate": 0.1, "num_leaves": 15, "min_child_samples": 100,
}  # fmt: skip
OBSERVED_PARAMS: Mapping[str, Any] = {
    "n_trees": 30, "learning_rate": 0.1, "num_leaves": 7, "min_child_samples": 200,
}  # fmt: skip
RIDGES_A_FOLD = 2
"""Each fold of the trees is this many of the ridge regressions', which cost little: the
more folds, the more people each learns from."""
CROSS_FOLDS = RIDGES_A_FOLD * N_FOLDS
MIN_LEAF, PEOPLE_A_LEAF = 20, 20
"""Trees of few people have leaves of the number of people over `PEOPLE_A_LEAF`, and
none below `MIN_LEAF`."""
FLOOR_SHARE = 0.2
"""Nobody's probability of an observed outcome counts as less than this share of the
arm's: nobody answers for more than five of the average one."""
EVIDENCE = 1.645
"""Standard errors by which a model of who is observed must lower the held-out error."""


@dataclass(frozen=True)
class FoldBlend:
    """Ridge, trees and mean, weighted by their held-out error; a voter meets its fold.

    The weights of a fold are learnt from what the fits predicted for the other folds.

    Attributes:
        ridges: Of `CROSS_FOLDS` folds.
        trees: Of `N_FOLDS` folds.
        weights: Of ridge and trees in each of `N_FOLDS` folds, at least 0, their sum at
            most 1: the rest is the mean's; shape (N_FOLDS, 2).
        least: Least target that was seen; no prediction is below it.
        most: Greatest target that was seen.
    """

    ridges: FoldRidges
    trees: FoldBoosters
    weights: Floats
    least: float
    most: float

    @classmethod
    def fit(
        cls,
        data: lgb.Dataset,
        X: Floats32,
        rows: Bools,
        target: Floats,
        weight: Floats,
        fold: Ints,
        params: Mapping[str, Any],
        *,
        seed: int,
    ) -> tuple[Self, Floats]:
        """Cross-fit, and what the fits without each voter predict of it, shape (n,).

        Args:
            data: X binned.
            X: Features, shape (n, n_features).
            rows: Which rows to learn from, shape (n,).
            target: Shape (n,).
            weight: Shape (n,).
            fold: One of `CROSS_FOLDS`, shape (n,).
            params: Of the trees.
            seed: For LightGBM.
        """
        ridges = FoldRidges.fit(
            X, categorical_columns(data), rows, target, weight, fold, CROSS_FOLDS
        )
        trees = FoldBoosters.fit(
            data, rows, target, weight, _coarse(fold), _sized(params, rows), seed=seed
        )
        parts = _parts(ridges, trees, X, fold)
        weights = _weights(parts[rows], target[rows], weight[rows], fold[rows], ridges)
        seen = target[rows]
        least, most = (float(seen.min()), float(seen.max())) if rows.any() else (0, 0)
        blend = cls(ridges, trees, weights, least, most)
        return blend, blend._blended(parts, fold)

    def predict(self, X: Floats32, fold: Ints | None) -> Floats:
        """Prediction of every voter, shape (n,).

        Args:
            X: Shape (n, n_features).
            fold: One of `CROSS_FOLDS`, shape (n,); None for voters that no fit saw.
        """
        return self._blended(_parts(self.ridges, self.trees, X, fold), fold)

    def _blended(self, parts: Floats, fold: Ints | None) -> Floats:
        mean = self.ridges.mean[-1] if fold is None else self.ridges.mean[fold]
        weights = self.weights.mean(axis=0) if fold is None else self.weights
        of_row = weights if fold is None else weights[_coarse(fold)]
        off = ((parts - np.reshape(mean, (-1, 1))) * of_row).sum(axis=1)
        return np.asarray(np.clip(mean + off, self.least, self.most))

    def save(self, folder: Path, name: str) -> None:
        """Write JSON, and LightGBM's own text format: nothing executable."""
        self.trees.save(folder, name)
        stored = {
            "ridges": self.ridges.to_json(),
            "weights": self.weights.tolist(),
            "least": self.least,
            "most": self.most,
        }
        (folder / f"{name}.json").write_text(json.dumps(stored))

    @classmethod
    def load(cls, folder: Path, name: str) -> Self | None:
        """Read what `save` wrote; None where nothing was written."""
        trees, path = FoldBoosters.load(folder, name), folder / f"{name}.json"
        if trees is None or not path.exists():
            return None
        stored = json.loads(path.read_text())
        return cls(
            FoldRidges.from_json(stored["ridges"]),
            trees,
            np.array(stored["weights"], dtype=np.float64),
            stored["least"],
            stored["most"],
        )


def _coarse(fold: Ints) -> Ints:
    """Fold of the trees that each fold of the ridge regressions is part of."""
    return fold // RIDGES_A_FOLD


def _sized(params: Mapping[str, Any], rows: Bools) -> dict[str, Any]:
    """Settings of trees whose leaves suit the number of people."""
    leaf = max(MIN_LEAF, int(rows.sum()) // PEOPLE_A_LEAF)
    return {**params, "min_child_samples": min(params["min_child_samples"], leaf)}


def _parts(
    ridges: FoldRidges, trees: FoldBoosters, X: Floats32, fold: Ints | None
) -> Floats:
    """What ridge and trees predict, shape (n, 2)."""
    of_trees = trees.predict(X, None if fold is None else _coarse(fold))
    return np.column_stack([ridges.predict(X, fold), of_trees])


def _weights(
    parts: Floats, target: Floats, weight: Floats, fold: Ints, ridges: FoldRidges
) -> Floats:
    """Weights of every fold, from the held-out predictions of the others."""
    mean = ridges.mean[fold]
    off, left = parts - mean[:, None], target - mean
    weights = np.zeros((N_FOLDS, 2))
    for k in range(N_FOLDS):
        other = _coarse(fold) != k
        weighted = off[other] * weight[other, None]
        weights[k] = least_error_shares(
            weighted.T @ off[other], weighted.T @ left[other]
        )
    return weights


def least_error_shares(gram: Floats, moment: Floats) -> Floats:
    """Shares of two predictions with the least squared error, sum at most 1, (2,).

    Args:
        gram: Products of the predictions, shape (2, 2).
        moment: Their products with the truth, shape (2,).

    >>> least_error_shares(np.eye(2), np.array([0.9, 0.5])).round(2).tolist()
    [0.7, 0.3]
    """
    alone = np.clip(
        np.divide(moment, np.diag(gram), out=np.zeros(2), where=np.diag(gram) > 0), 0, 1
    )
    between = gram[0, 0] + gram[1, 1] - 2 * gram[0, 1]
    first = (
        np.clip((moment[0] - moment[1] + gram[1, 1] - gram[0, 1]) / between, 0, 1)
        if between > 0
        else 1.0
    )
    candidates = [
        np.zeros(2), np.array([alone[0], 0.0]), np.array([0.0, alone[1]]),
        np.array([first, 1.0 - first]),
    ]  # fmt: skip
    determinant = gram[0, 0] * gram[1, 1] - gram[0, 1] ** 2
    if determinant > 1e-9 * gram[0, 0] * gram[1, 1]:
        inside = np.linalg.solve(gram, moment)
        if (inside >= 0).all() and inside.sum() <= 1:
            candidates.append(inside)
    return min(candidates, key=lambda w: float(w @ gram @ w - 2 * moment @ w))


@dataclass(frozen=True)
class Observation:
    """Probability that an outcome is observed: the arm's rate, and what x adds.

    Attributes:
        arms: Of the test, without control, length A.
        n_assigned: People by arm, control first, shape (1 + A,).
        n_observed: Of them with an outcome, shape (1 + A,).
        of_voter: What the features add to the rate of the arm; None where nothing
            shows that they do.
        of_sent: What they add besides for voters that were sent nothing, and for those
            that were sent something; None where nothing shows that this differs.
    """

    arms: tuple[Arm, ...]
    n_assigned: Floats
    n_observed: Floats
    of_voter: FoldBlend | None
    of_sent: tuple[FoldRidges, FoldRidges] | None

    @classmethod
    def fit(
        cls, test: MessageTest, data: lgb.Dataset, fold: Ints, *, seed: int
    ) -> Self:
        """Fit as much as lowers the held-out error beyond chance.

        Args:
            test: The experiment, arms as sent, n voters.
            data: Its features binned.
            fold: One of `CROSS_FOLDS`, shape (n,).
            seed: For LightGBM.
        """
        n_arms, observed = test.propensities.shape[1], test.observed
        n_assigned, n_observed = (
            np.bincount(test.arm, rows, minlength=n_arms).astype(np.float64)
            for rows in (np.ones(len(observed)), observed)
        )
        constant = cls(test.arms, n_assigned, n_observed, None, None)
        off = observed - constant.rate(test)
        everyone, weight = np.ones(len(off), dtype=bool), np.ones(len(off))
        blend, added = FoldBlend.fit(
            data, test.X, everyone, off, weight, fold, OBSERVED_PARAMS, seed=seed
        )
        of_voter = blend if _lowers_error(off, added, test.unit) else None
        left = off - added if of_voter else off
        sent, categorical = test.arm > 0, categorical_columns(data)
        nothing, something = (
            FoldRidges.fit(test.X, categorical, rows, left, weight, fold, CROSS_FOLDS)
            for rows in (~sent, sent)
        )
        more = _of_sent((nothing, something), test, fold)
        of_sent = (nothing, something) if _lowers_error(left, more, test.unit) else None
        return cls(test.arms, n_assigned, n_observed, of_voter, of_sent)

    def rate(self, test: MessageTest) -> Floats:
        """Share of the arm of every voter that was observed, shape (n,).

        Args:
            test: The experiment, or others of it: arms as sent or merged by message.
        """
        assigned, observed = self.n_assigned, self.n_observed
        if test.arms != self.arms:
            message = test.message_of_arm[test.arm]
            names = ("", *test.messages)
            own = [names.index(m) for m in ("", *(arm.message_id for arm in self.arms))]
            assigned, observed = (
                np.bincount(own, n, minlength=len(names)).astype(np.float64)
                for n in (assigned, observed)
            )
        else:
            message = test.arm
        overall = self.n_observed.sum() / self.n_assigned.sum()
        rate = np.divide(
            observed, assigned, out=np.full(len(assigned), overall), where=observed > 0
        )
        return np.asarray(rate[message])

    def probability(self, test: MessageTest, fold: Ints) -> Floats:
        """Probability that the outcome is observed, shape (n,).

        Args:
            test: The experiment, or others of it.
            fold: One of `CROSS_FOLDS`, shape (n,).
        """
        rate = self.rate(test)
        added = np.zeros(len(rate))
        if self.of_voter is not None:
            added += self.of_voter.predict(test.X, fold)
        if self.of_sent is not None:
            added += _of_sent(self.of_sent, test, fold)
        return np.asarray(np.clip(rate + added, FLOOR_SHARE * rate, 1.0))

    def save(self, folder: Path) -> None:
        """Write JSON, and LightGBM's own text format: nothing executable."""
        stored = {
            "arms": [list(arm) for arm in self.arms],
            "n_assigned": self.n_assigned.tolist(),
            "n_observed": self.n_observed.tolist(),
            "of_sent": self.of_sent and [ridges.to_json() for ridges in self.of_sent],
        }
        (folder / "observation.json").write_text(json.dumps(stored))
        if self.of_voter is not None:
            self.of_voter.save(folder, "observed")

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read what `save` wrote; None where nothing was written."""
        path = folder / "observation.json"
        if not path.exists():
            return None
        stored = json.loads(path.read_text())
        of_sent = stored["of_sent"] and tuple(
            FoldRidges.from_json(ridges) for ridges in stored["of_sent"]
        )
        return cls(
            tuple(Arm(*arm) for arm in stored["arms"]),
            np.array(stored["n_assigned"], dtype=np.float64),
            np.array(stored["n_observed"], dtype=np.float64),
            FoldBlend.load(folder, "observed"),
            of_sent,
        )


def _of_sent(ridges: Sequence[FoldRidges], test: MessageTest, fold: Ints) -> Floats:
    nothing, something = (each.predict(test.X, fold) for each in ridges)
    return np.where(test.arm > 0, something, nothing)


def _lowers_error(off: Floats, added: Floats, unit: Ints) -> bool:
    """Whether held-out predictions lower the squared error of units beyond chance.

    Args:
        off: Observed (0 or 1) less what is predicted without them, shape (n,).
        added: What they add, shape (n,).
        unit: Code of the coarsest unit of every voter, shape (n,).
    """
    lowered = np.bincount(unit, weights=off**2 - (off - added) ** 2)
    return bool(lowered.sum() > EVIDENCE * np.sqrt((lowered**2).sum()))


@dataclass(frozen=True)
class CrossFits:
    """Cross-fitted response and probability that the outcome is observed.

    Attributes:
        response: E[Y | x] under the design's own mix of arms.
        observation: P(outcome observed | arm, x); None where nothing is missing.
    """

    response: FoldBlend
    observation: Observation | None

    def observed_probability(self, test: MessageTest, fold: Ints) -> Floats | None:
        """Probability that the outcome is observed, shape (n,), or None."""
        if self.observation is None:
            return None
        return self.observation.probability(test, fold)

    def save(self, folder: Path) -> None:
        """Write JSON, and LightGBM's own text format: nothing executable."""
        self.response.save(folder, "response")
        if self.observation is not None:
            self.observation.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: If the folder lacks the response model.
        """
        response = FoldBlend.load(folder, "response")
        if response is None:
            raise FileNotFoundError(
                f"{folder}: expected response.json and response.0.lgb.txt"
            )
        return cls(response, Observation.load(folder))


def cross_fit(
    test: MessageTest, data: lgb.Dataset, fold: Ints, *, seed: int
) -> tuple[CrossFits, Floats]:
    """Cross-fit the response and, where outcomes are missing, their probability.

    Args:
        test: The experiment, arms as sent, n voters.
        data: Its features binned.
        fold: One of `CROSS_FOLDS`, shape (n,).
        seed: For LightGBM.

    Returns:
        The fits, and the response of every voter by fits without it, shape (n,).
    """
    observed = test.observed
    weight = np.ones(len(test.Y)) if test.weight is None else test.weight
    response, predicted = FoldBlend.fit(
        data, test.X, observed, np.where(observed, test.Y, 0.0), weight, fold,
        RESPONSE_PARAMS, seed=seed,
    )  # fmt: skip
    # survey weights already say whom the people who answered stand for
    if observed.all() or test.weight is not None:
        return CrossFits(response, None), predicted
    return CrossFits(response, Observation.fit(test, data, fold, seed=seed)), predicted
