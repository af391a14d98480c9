"""Response model: calibrated chances of turnout and support without any message.

Everybody's outcome, less the average effect of what they were sent, teaches the trees
and a penalised logit which voters lie above which; the level comes from people who
were sent nothing alone, on predictions by models that never saw their unit. So an
effect that differs between voters can disturb the order a little, the level not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import lightgbm as lgb
import numpy as np
import pandas as pd
from scipy.special import expit, logit

from hustings.features.arrays import Bools, Floats, Floats32, Ints, Objects
from hustings.features.tables import SMALLEST_CELL
from hustings.features.training_set import MessageTest
from hustings.training.estimators.metrics import Z95, weighted_gram
from hustings.training.estimators.split import unit_folds
from hustings.training.learners.boosting import FoldBoosters, binned

RESPONSE_PARAMS: Mapping[str, Any] = {
    "n_trees": 80, "learning_rate": 0.1, "num_leaves": 15, "min_child_samples": 100,
}  # fmt: skip
N_FOLDS = 4
EDGE = 1e-3
"""Predictions closer to 0 or 1 than this are moved there before their logit."""
LINEAR_PENALTY = 20.0
LINEAR_ROWS = 200_000
"""More rows than this add nothing to a few hundred coefficients."""
CHUNK = 100_000
NEWTON_STEPS = 25
MAX_KNOTS = 20
PEOPLE_A_KNOT = 200
"""The curve of the calibration bends once for so many controls."""


def fractional_logit(
    Z: Floats, y: Floats, weight: Floats, penalty: Floats | float = 0.0
) -> Floats:
    """Coefficients b of E[y | z] = 1 / (1 + exp(−z'b)), for any y of that mean.

    Args:
        Z: Shape (n, k).
        y: Chance, share or 0/1; values outside [0, 1] are allowed, shape (n,).
        weight: Shape (n,).
        penalty: Of the squared coefficients, shape (k,) or one for all.

    Returns:
        Shape (k,).

    Source: Papke & Wooldridge (1996); Newton's method on the convex quasi-likelihood.
    """
    b = np.zeros(Z.shape[1])
    ridge = np.broadcast_to(np.asarray(penalty, dtype=np.float64), b.shape)
    for _ in range(NEWTON_STEPS):
        mu = expit(Z @ b)
        slope = Z.T @ (weight * (y - mu)) - ridge * b
        curvature = weighted_gram(Z, weight * mu * (1 - mu)) + np.diag(ridge + 1e-9)
        step = np.linalg.solve(curvature, slope)
        # far from the optimum a full step may overshoot
        step *= min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-300))
        b = b + step
        if np.abs(step).max() < 1e-8:
            break
    return b


@dataclass(frozen=True)
class LinearColumns:
    """Features as columns of a linear model: scaled, filled, categories unfolded.

    Attributes:
        centre: Mean of every feature, shape (n_features,).
        scale: Its SD, 1 where it is constant, shape (n_features,).
        holed: Features with missing values.
        levels: (feature, level) of every category column.
        categorical: Features that hold category codes.
    """

    centre: Floats
    scale: Floats
    holed: Ints
    levels: tuple[tuple[int, float], ...]
    categorical: tuple[int, ...]

    @classmethod
    def of(cls, X: Floats32, categorical: Sequence[int]) -> Self:
        """Learn scales, holes and levels of some voters, X of shape (n, n_features)."""
        finite = np.isfinite(X)
        n = np.maximum(finite.sum(axis=0), 1)
        filled = np.where(finite, X, 0.0).astype(np.float64)
        centre = filled.sum(axis=0) / n
        spread = (np.where(finite, filled - centre, 0.0) ** 2).sum(axis=0) / n
        scale = np.where(spread > 0, np.sqrt(spread), 1.0)
        holes = ~finite.all(axis=0) & finite.any(axis=0)
        levels = tuple(
            (j, float(level))
            for j in categorical
            for level in np.unique(X[finite[:, j], j])
        )
        return cls(centre, scale, np.flatnonzero(holes), levels, tuple(categorical))

    def matrix(self, X: Floats32) -> Floats:
        """Intercept, scaled numbers, what is missing, levels: shape (n, k)."""
        finite = np.isfinite(X)
        numbers = np.where(finite, (X - self.centre) / self.scale, 0.0)
        numbers[:, list(self.categorical)] = 0.0
        missing = (~finite[:, self.holed]).astype(np.float64)
        level = [(X[:, j] == value).astype(np.float64) for j, value in self.levels]
        return np.column_stack([np.ones(len(X)), numbers, missing, *level])


@dataclass(frozen=True)
class Response:
    """A calibrated chance of every voter; a voter meets the fold that never saw it.

    Attributes:
        salt: Of the folds.
        trees: Cross-fitted.
        columns: How features become columns of the linear part.
        linear: Coefficients by fold, shape (n_folds, k).
        blend: Intercept and slopes on the logits of both parts, by fold, learnt from
            controls of the other folds, shape (n_folds, 3).
        curves: (blended chance, calibrated chance) by fold: what a straight line on
            the logits leaves, shape (n_knots, 2) each.
    """

    salt: str
    trees: FoldBoosters
    columns: LinearColumns
    linear: Floats
    blend: Floats
    curves: tuple[Floats, ...]

    def folds(self, unit_id: Objects) -> Ints:
        """Fold of every voter, shape (n,)."""
        return unit_folds(unit_id, N_FOLDS, salt=self.salt)

    def predict(self, X: Floats32, unit_id: Objects) -> Floats:
        """Chance (or mean share of the scale) without a message, shape (n,).

        Args:
            X: Features, shape (n, n_features).
            unit_id: Coarsest unit of every voter, shape (n,).
        """
        fold = self.folds(unit_id)
        parts = _parts(self.trees, self.columns, self.linear, X, fold)
        chance: Floats = expit((parts * self.blend[fold]).sum(axis=1))
        for k, curve in enumerate(self.curves):
            in_fold = fold == k
            chance[in_fold] = np.interp(chance[in_fold], *curve.T)
        return chance


def fit_response(
    test: MessageTest, categorical: Sequence[int], *, seed: int
) -> Response:
    """Learn the outcome of a test as it is without any message.

    Args:
        test: The experiment, Y a chance, 0/1 or share in [0, 1], NaN where missing.
        categorical: Columns of X that hold category codes.
        seed: Folds and LightGBM.

    Raises:
        ValueError: If no control was observed.
    """
    control = (test.arm == 0) & test.observed
    if not control.any():
        raise ValueError(
            f"experiment {test.experiment_id}: expected observed outcomes of people "
            "who were sent nothing, got none"
        )
    salt = f"response-{seed}"
    fold = unit_folds(test.unit_id, N_FOLDS, salt=salt)
    weight = 1.0 / test.propensities[np.arange(len(test.arm)), test.arm]
    if test.weight is not None:
        weight = weight * test.weight
    weight = weight / weight.mean()
    target = without_messages(test)
    data: lgb.Dataset = binned(test.X, categorical)
    trees = FoldBoosters.fit(
        data, test.observed, np.nan_to_num(target), weight, fold, RESPONSE_PARAMS,
        seed=seed,
    )  # fmt: skip
    columns = LinearColumns.of(test.X, categorical)
    linear = np.stack(
        [
            _linear_fold(test, columns, target, weight, test.observed & (fold != k))
            for k in range(N_FOLDS)
        ]
    )
    parts = _parts(trees, columns, linear, test.X[control], fold[control])
    y, w, of = test.Y[control], weight[control], fold[control]
    blend = np.stack([_blend(parts, y, w, of != k) for k in range(N_FOLDS)])
    blended = expit(parts @ blend.T)
    curves = tuple(
        _curve(blended[of != k, k], y[of != k], w[of != k]) for k in range(N_FOLDS)
    )
    return Response(salt, trees, columns, linear, blend, curves)


def without_messages(test: MessageTest) -> Floats:
    """Outcome less the average effect of the voter's own arm, shape (n,).

    Means by arm are weighted by 1 / propensity (Hájek), so that blocks with more
    controls do not set the level.
    """
    n_arms = test.propensities.shape[1]
    own_propensity = test.propensities[np.arange(len(test.arm)), test.arm]
    weight = np.where(test.observed, 1.0 / own_propensity, 0.0)
    total = np.bincount(test.arm, weight, minlength=n_arms)
    summed = np.bincount(test.arm, weight * np.nan_to_num(test.Y), minlength=n_arms)
    mean = np.divide(summed, total, out=np.zeros(n_arms), where=total > 0)
    target: Floats = test.Y - (mean - mean[0])[test.arm]
    return target


def _linear_fold(
    test: MessageTest,
    columns: LinearColumns,
    target: Floats,
    weight: Floats,
    rows: Bools,
) -> Floats:
    at = np.flatnonzero(rows)
    at = at[:: max(1, -(-len(at) // LINEAR_ROWS))]
    Z = columns.matrix(test.X[at])
    penalty = np.full(Z.shape[1], LINEAR_PENALTY)
    penalty[0] = 0.0
    return fractional_logit(Z, target[at], weight[at], penalty)


def _blend(parts: Floats, y: Floats, weight: Floats, rows: Bools) -> Floats:
    """Platt's scaling of both logits; the level alone where nobody is left to learn."""
    if not rows.any():
        return np.array([0.0, 0.5, 0.5])
    # a weak pull to the plain average of both keeps a few hundred controls sane
    prior = np.array([0.0, 0.5, 0.5])
    Z, w = parts[rows], weight[rows]
    free = fractional_logit(Z, y[rows], w)
    data_share = rows.sum() / (rows.sum() + 100.0)
    slopes = data_share * free + (1 - data_share) * prior
    level = fractional_logit_level(Z[:, 1:] @ slopes[1:], y[rows], w)
    return np.array([level, *slopes[1:]])


def _curve(p: Floats, y: Floats, weight: Floats) -> Floats:
    """Monotone knots from blended to calibrated chances, shape (n_knots, 2).

    Groups of like predictions are moved to what was observed of them, as far as groups
    differ more than their noise; between groups the way is straight.
    """
    n_groups = min(MAX_KNOTS, len(p) // PEOPLE_A_KNOT)
    ends = np.array([[0.0, 0.0], [1.0, 1.0]])
    if n_groups < 3:
        return ends
    edges = np.quantile(p, np.linspace(0, 1, n_groups + 1)[1:-1])
    group = np.searchsorted(np.unique(edges), p, side="right")
    total = np.bincount(group, weight)
    at = np.bincount(group, weight * p) / total
    off = np.bincount(group, weight * (y - p)) / total
    noise = np.bincount(group, weight**2 * (y - p) ** 2) / total**2
    noise = np.maximum(noise, 1e-12)
    spread = max(float(np.average(off**2 - noise, weights=1 / noise)), 0.0)
    # the ends of the scale are fixed, and no knot lies below the one before
    moved = np.clip(at + off * spread / (spread + noise), 0.0, 1.0)
    knots = np.column_stack([at, np.maximum.accumulate(moved)])
    return np.vstack([ends[:1], knots, ends[1:]])


def fractional_logit_level(offset: Floats, y: Floats, weight: Floats) -> float:
    """The intercept that makes the mean of 1 / (1 + exp(−a − offset)) that of y."""
    level, wanted = 0.0, float(np.average(y, weights=weight))
    wanted = min(max(wanted, EDGE), 1 - EDGE)
    for _ in range(NEWTON_STEPS):
        mu = expit(level + offset)
        slope = float(np.average(mu * (1 - mu), weights=weight))
        miss = wanted - float(np.average(mu, weights=weight))
        level += float(np.clip(miss / max(slope, 1e-9), -2.0, 2.0))
        if abs(miss) < 1e-10:
            break
    return level


def _parts(
    trees: FoldBoosters, columns: LinearColumns, linear: Floats, X: Floats32, fold: Ints
) -> Floats:
    """1 and the logits of both parts, shape (n, 3)."""
    design = np.ones((len(X), 3))
    design[:, 1] = logit(np.clip(trees.predict(X, fold), EDGE, 1 - EDGE))
    limit = float(logit(1 - EDGE))
    for start in range(0, len(X), CHUNK):
        part = slice(start, start + CHUNK)
        line = (columns.matrix(X[part]) * linear[fold[part]]).sum(axis=1)
        design[part, 2] = np.clip(line, -limit, limit)
    return design


class AreaSpread(NamedTuple):
    """How far the outcome of an area lies from the mean of its voters' predictions.

    Attributes:
        person: SD of a person's outcome around its prediction.
        area: SD of an area's mean that predictions do not follow.
    """

    person: float
    area: float


def area_spread(predicted: Floats, outcome: Floats, area: Objects) -> AreaSpread:
    """Both spreads from people who were sent nothing, predicted by others.

    Args:
        predicted: Shape (n,).
        outcome: Observed, shape (n,).
        area: Shape (n,).

    Source: DerSimonian & Laird (1986), areas as studies.
    """
    residual = outcome - predicted
    person = float(residual.var())
    grouped = pd.Series(residual - residual.mean()).groupby(np.asarray(area, object))
    mean, size = grouped.mean().to_numpy(), grouped.size().to_numpy(np.float64)
    # Σ n r̄² exceeds (areas − 1) σ² by τ² (n − Σ n² / n)
    excess = float(size @ mean**2) - (len(size) - 1) * person
    room = float(size.sum() - (size**2).sum() / size.sum())
    between = max(excess / room, 0.0) if room > 0 else 0.0
    return AreaSpread(person**0.5, between**0.5)


def by_area(predicted: Floats, area: Objects, spread: AreaSpread) -> pd.DataFrame:
    """Mean of every area with the interval in which its people's outcome will lie.

    Args:
        predicted: Of every voter, shape (n,).
        area: Shape (n,); a voter without one counts nowhere.
        spread: From `area_spread`.

    Returns:
        Columns area, n, mean, low, high, the likeliest area first; an area of fewer
        than `SMALLEST_CELL` people is left out.
    """
    frame = pd.DataFrame({"area": area, "predicted": predicted}).dropna()
    table = frame.groupby("area", sort=True)["predicted"].agg(["size", "mean"])
    table = table[table["size"] >= SMALLEST_CELL].reset_index()
    table.columns = ["area", "n", "mean"]
    half = Z95 * np.sqrt(spread.person**2 / table["n"] + spread.area**2)
    table["low"] = np.clip(table["mean"] - half, 0.0, 1.0)
    table["high"] = np.clip(table["mean"] + half, 0.0, 1.0)
    return table.sort_values(["mean", "area"], ascending=[False, True]).reset_index(
        drop=True
    )
