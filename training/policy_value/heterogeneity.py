"""Tests of effect heterogeneity: best linear predictor and calibration groups.

Source: Chernozhukov, Demirer, Duflo & Fernandez-Val, "Generic machine learning
inference on heterogeneous treatment effects in randomized experiments" (Econometrica).
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from hustings.features.arrays import Bools, Floats, Ints
from hustings.training.estimators.metrics import (
    Interval,
    calibration_slope,
    clustered_mean,
    clustered_means,
)


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
