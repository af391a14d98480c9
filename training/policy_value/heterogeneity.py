"""Tests of effect heterogeneity: best linear predictor and calibration groups.

Source: Chernozhukov, Demirer, Duflo & Fernandez-Val, "Generic machine learning
inference on heterogeneous treatment effects in randomized experiments" (Econometrica).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.training.estimators.metrics import (
    Interval,
    calibration_slope,
    clustered_mean,
    clustered_means,
)
from hustings.training.learners.transport import raked


class BestLinearPredictor(NamedTuple):
    """β1 + β2 (S − mean S): the line in the prediction S that is nearest the lift.

    Attributes:
        average: β1, the average lift, in outcome units.
        slope: β2: 1 where predicted differences between voters come true, 0 where they
            are noise.
        p_value: That β2 is not above 0, one-sided: small says that there is
            heterogeneity and the predictions have found some of it.
    """

    average: Interval
    slope: Interval
    p_value: float

    def as_dict(self) -> dict[str, object]:
        """Convert to plain JSON values."""
        return {
            "average": self.average.as_dict(),
            "slope": self.slope.as_dict(),
            "p_value": self.p_value,
        }


class LiftGroup(NamedTuple):
    """Voters of similar predicted lift, and their realised lift."""

    predicted: float
    realised: Interval
    n: int

    def as_dict(self) -> dict[str, object]:
        """Convert to plain JSON values."""
        return {
            "predicted": self.predicted,
            "realised": self.realised.as_dict(),
            "n": self.n,
        }


def weighted_mean(values: Floats, cluster: Ints, weight: Floats | None) -> Interval:
    """Clustered mean, voters weighted by their survey weight.

    Args:
        values: Shape (n,).
        cluster: Codes from 0, shape (n,).
        weight: Survey weights of mean 1, shape (n,); None where all count the same.
    """
    if weight is None:
        return clustered_mean(values, cluster)
    mean, covariance = clustered_means(values[:, None], cluster, weight)
    return Interval.of(float(mean[0]), se=float(np.sqrt(covariance[0, 0])))


def best_linear_predictor(
    lift_scores: Floats,
    predicted: Floats,
    cluster: Ints,
    weight: Floats | None = None,
) -> BestLinearPredictor:
    """Average lift and heterogeneity of one message, or of all pooled.

    Args:
        lift_scores: Γ_m − Γ_0, shape (n,) or (n, M): with M messages each keeps an
            average of its own, and β2 is that of differences within messages.
        predicted: Predicted lift by a model that did not see the voter, same shape.
        cluster: Codes from 0, shape (n,).
        weight: Survey weights of mean 1, shape (n,); None where all count the same.
    """
    scores = lift_scores.reshape(len(cluster), -1)
    lift = predicted.reshape(scores.shape)
    slope = calibration_slope(scores, lift, cluster, weight)
    p_value = stats.norm.sf(slope.value / slope.se) if slope.se > 0 else 1.0
    average = weighted_mean(scores.mean(axis=1), cluster, weight)
    return BestLinearPredictor(average, slope, float(p_value))


def pooled_slope(
    lift_scores: Floats,
    predicted: Floats,
    cluster: Ints,
    weight: Floats | None = None,
) -> Interval:
    """Slope of realised on predicted lift over all pairs of a voter and a message.

    One intercept for all: differences between messages count too, as they do in the
    groups of `lift_groups`.

    Args:
        lift_scores: Γ_m − Γ_0, shape (n, M).
        predicted: Same shape.
        cluster: Codes from 0, shape (n,).
        weight: Survey weights of mean 1, shape (n,); None where all count the same.
    """
    counts = np.ones(len(cluster)) if weight is None else weight
    x = predicted - np.average(predicted.mean(axis=1), weights=counts)
    y = lift_scores - np.average(lift_scores.mean(axis=1), weights=counts)
    spread = float((counts[:, None] * x**2).sum())
    if spread <= 0:
        return Interval(0.0, 0.0, 0.0)
    slope = float((counts[:, None] * x * y).sum() / spread)
    influence = counts * (x * (y - slope * x)).sum(axis=1)
    totals = np.bincount(cluster, weights=influence)
    return Interval.of(slope, se=float(np.sqrt((totals**2).sum()) / spread))


def lift_groups(
    lift_scores: Floats,
    predicted: Floats,
    cluster: Ints,
    *,
    n_groups: int,
    at_least: int,
    weight: Floats | None = None,
) -> list[LiftGroup]:
    """Predicted against realised lift, in groups of similar prediction.

    Args:
        lift_scores: Γ_m − Γ_0, shape (n,) or (n, M), of pairs (voter, message).
        predicted: Same shape.
        cluster: Codes from 0, shape (n,).
        n_groups: How many groups, of about the same number of pairs.
        at_least: Groups of fewer voters than this are left out.
        weight: Survey weights of mean 1, shape (n,); None where all count the same.
    """
    scores = lift_scores.reshape(len(cluster), -1)
    lift = predicted.reshape(scores.shape)
    edges = np.quantile(lift, np.linspace(0, 1, n_groups + 1)[1:-1])
    group = np.searchsorted(np.unique(edges), lift, side="right")
    groups = []
    for g in np.unique(group):
        in_group = group == g
        if weight is not None:
            in_group &= (weight > 0)[:, None]
        n = int(in_group.any(axis=1).sum())
        if n >= at_least:
            counts = in_group if weight is None else in_group * weight[:, None]
            realised = _ratio_mean(scores, counts, cluster)
            expected = float(np.average(lift[in_group], weights=counts[in_group]))
            groups.append(LiftGroup(expected, realised, n))
    return groups


def _ratio_mean(values: Floats, counts: Floats | Bools, cluster: Ints) -> Interval:
    """Clustered mean over (voter, message) pairs that count as much as they do."""
    size, counted = counts.sum(), counts > 0
    mean = float(np.average(values[counted], weights=counts[counted]))
    totals = np.bincount(cluster, (counts * (values - mean)).sum(axis=1))
    return Interval.of(mean, se=float(np.sqrt((totals**2).sum()) / size))


# --- one group against the others, at equal other covariates ---


class BalancedGroup(NamedTuple):
    """Lift of a group less that of all others, as if they were alike otherwise.

    Attributes:
        column: That makes the groups.
        group: Bin of the column.
        message: Position of the message.
        n: Voters of the group.
        effective_n: What they are worth, once weighted.
        difference: With its 95 % interval.
        low: Lower end of the interval that holds for all groups and messages together.
        high: Its upper end.
    """

    column: str
    group: str
    message: int
    n: int
    effective_n: float
    difference: Interval
    low: float
    high: float

    def as_dict(self) -> dict[str, object]:
        """Convert to plain JSON values, without the message."""
        values = self._asdict() | {"difference": self.difference.as_dict()}
        return {name: value for name, value in values.items() if name != "message"}


class _Side(NamedTuple):
    """Voters of a side, and weights of mean 1 that balance them; none for too few."""

    rows: Ints
    weight: Floats

    @property
    def effective_n(self) -> float:
        if not len(self.weight):
            return 0.0
        return float(self.weight.sum() ** 2 / (self.weight**2).sum())


LEAST_BALANCED = 100
"""Fewer voters than this, once weighted, are compared with nobody."""
FAMILY = 0.05


def balanced_groups(
    lift_scores: Floats,
    groups: Mapping[str, Objects],
    covariates: Mapping[str, Floats],
    cluster: Ints,
    weight: Floats | None = None,
) -> list[BalancedGroup]:
    """Difference in lift of each group to all others at equal other covariates.

    Both sides are weighted so that their other covariates have the means of everybody
    (entropy balancing); a difference that remains is not theirs. The intervals hold
    together (Bonferroni over groups and messages). Weights are taken as known.

    Args:
        lift_scores: Γ_m − Γ_0, shape (n, M).
        groups: Column → bin of every voter, shape (n,).
        covariates: Column → what is to be alike, the column itself left out, (n, k).
        cluster: Codes from 0, shape (n,).
        weight: Survey weights of mean 1, shape (n,); None where all count the same.

    Source: Hainmueller (2012).
    """
    survey = np.ones(len(cluster)) if weight is None else weight
    compared: list[tuple[str, str, _Side, Floats, Floats]] = []
    for column, label in groups.items():
        Z = covariates[column]
        target = np.average(Z, axis=0, weights=survey)
        names = sorted(set(label.tolist()))
        # of two groups, one says it all
        for name in names[:1] if len(names) == 2 else names:
            inside = (label == name) & (survey > 0)
            sides = [_balanced(Z, rows, survey, target)
                     for rows in (inside, (label != name) & (survey > 0))]  # fmt: skip
            if min(side.effective_n for side in sides) < LEAST_BALANCED:
                continue
            value, error = _contrast(lift_scores, sides[0], sides[1], cluster)
            compared.append((column, name, sides[0], value, error))
    n_compared = max(len(compared) * lift_scores.shape[1], 1)
    z = float(stats.norm.isf(FAMILY / 2 / n_compared))
    return [
        BalancedGroup(
            column, name, m, len(side.rows), side.effective_n,
            Interval.of(value[m], se=float(error[m])),
            float(value[m] - z * error[m]), float(value[m] + z * error[m]),
        )
        for column, name, side, value, error in compared
        for m in range(lift_scores.shape[1])
    ]  # fmt: skip


def _balanced(Z: Floats, inside: Bools, survey: Floats, target: Floats) -> _Side:
    rows = np.flatnonzero(inside)
    if len(rows) < LEAST_BALANCED:
        return _Side(rows, np.zeros(0))
    return _Side(rows, raked(Z[rows], survey[rows], target))


def _contrast(
    scores: Floats, one: _Side, other: _Side, cluster: Ints
) -> tuple[Floats, Floats]:
    """Difference of both weighted means and its clustered error, shape (M,) each."""
    influence = np.zeros(scores.shape)
    value = np.zeros(scores.shape[1])
    for side, sign in ((one, 1.0), (other, -1.0)):
        share = side.weight / side.weight.sum()
        mean = share @ scores[side.rows]
        value += sign * mean
        influence[side.rows] = sign * share[:, None] * (scores[side.rows] - mean)
    totals = np.column_stack([np.bincount(cluster, column) for column in influence.T])
    return value, np.sqrt((totals**2).sum(axis=0))
