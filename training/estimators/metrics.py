"""Doubly robust scores, clustered errors, policy value, calibration, checks.

Shapes: n voters, A arms; column 0 of a score matrix is control. An effect is in units
of the outcome, per voter of the audience unless it says otherwise.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy import stats

from hustings.features.arrays import Bools, Floats, Ints
from hustings.training.estimators.spend_path import NOTHING, SpendPath

Z95 = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided 95 % interval.

    >>> Interval.of(1.0, se=0.5).excludes_zero
    True
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, *, se: float) -> Self:
        """Normal interval around a value."""
        return cls(float(value), float(value - Z95 * se), float(value + Z95 * se))

    def with_scale_error(self, relative: float) -> Self:
        """Widen for a scale that is known up to a relative error, one SD.

        >>> Interval(10.0, 7.0, 13.0).with_scale_error(0.0)
        Interval(value=10.0, low=7.0, high=13.0)
        """
        of_scale = Z95 * relative * abs(self.value)
        below, above = self.value - self.low, self.high - self.value
        return replace(
            self,
            low=self.value - math.hypot(below, of_scale),
            high=self.value + math.hypot(above, of_scale),
        )

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0

    @property
    def se(self) -> float:
        """Standard error that the interval came from."""
        return (self.high - self.low) / (2 * Z95)

    def as_dict(self) -> dict[str, float]:
        """Convert to plain JSON values."""
        return {"value": self.value, "low": self.low, "high": self.high}


def aipw_scores(
    Y: Floats,
    arm: Ints,
    mu: Floats,
    propensities: Floats,
    *,
    observed_probability: Floats | None = None,
) -> Floats:
    """Doubly robust score of every voter for control and every arm.

    Γ_a = μ̂_a(x) + 1[W = a] (Y − μ̂_a(x)) / e_a, whose mean is E[Y(a)] whatever μ̂ is.

    Args:
        Y: Outcome, NaN where missing, shape (n,).
        arm: What was assigned, 0 for control, shape (n,).
        mu: Predicted outcome under every arm by a model that did not see the voter,
            shape (n, 1 + A).
        propensities: Known probability of every arm, shape (n, 1 + A).
        observed_probability: Probability that the outcome is observed, shape (n,);
            None where every outcome is.

    Returns:
        Shape (n, 1 + A). An arm with propensity 0 keeps its μ̂ alone.

    Raises:
        ValueError: If somebody got an arm of propensity 0.

    Source: Robins & Rotnitzky (1995).
    """
    n = len(Y)
    own_propensity = propensities[np.arange(n), arm]
    if (own_propensity <= 0).any():
        raise ValueError(
            f"a voter got an arm of propensity {own_propensity.min()}; "
            "expected one above 0"
        )
    weight = 1.0 / own_propensity
    if observed_probability is not None:
        weight = weight / observed_probability
    residual = Y - mu[np.arange(n), arm]
    scores = mu.astype(np.float64, copy=True)
    scores[np.arange(n), arm] += np.where(np.isnan(Y), 0.0, residual * weight)
    return scores


def ipw_scores(
    Y: Floats,
    arm: Ints,
    propensities: Floats,
    *,
    observed_probability: Floats | None = None,
) -> Floats:
    """Inverse-propensity score of every voter for control and every arm.

    1[W = a] Y / e_a, whose mean is E[Y(a)]: needs no model, and is noisier than
    `aipw_scores`. The two agree within their errors where the propensities are right.

    Args:
        Y: Outcome, NaN where missing, shape (n,).
        arm: What was assigned, 0 for control, shape (n,).
        propensities: Known probability of every arm, shape (n, 1 + A).
        observed_probability: Probability that the outcome is observed, shape (n,);
            None where every outcome is.

    Returns:
        Shape (n, 1 + A), of Y less the mean of the observed: a shift equal for all
        arms, that no lift or policy gain contains, and that lowers the variance.

    Raises:
        ValueError: If somebody got an arm of propensity 0.

    Source: Horvitz & Thompson (1952).
    """
    seen = ~np.isnan(Y)
    centre = float(Y[seen].mean()) if seen.any() else 0.0
    return aipw_scores(
        Y - centre, arm, np.zeros(propensities.shape), propensities,
        observed_probability=observed_probability,
    )  # fmt: skip


def clustered_covariance(influence: Floats, cluster: Ints) -> Floats:
    """Covariance of a sum whose terms depend on each other within clusters.

    G / (G − 1) Σ_g t_g t_g', t_g the total of the terms of cluster g, G clusters.

    Args:
        influence: Terms of k sums, each of mean 0, shape (n, k).
        cluster: Any codes, shape (n,).

    Returns:
        Shape (k, k); NaN where there are fewer than 2 clusters.

    Source: Liang & Zeger (1986).

    >>> terms = np.array([[-3.0], [-1.0], [0.0], [4.0]])
    >>> clustered_covariance(terms, np.array([0, 0, 1, 1])).tolist()
    [[64.0]]
    """
    codes = np.unique(cluster, return_inverse=True)[1]
    totals = np.column_stack([np.bincount(codes, weights=c) for c in influence.T])
    n_clusters = len(totals)
    if n_clusters < 2:
        return np.full((influence.shape[1],) * 2, np.nan)
    covariance = totals.T @ totals * n_clusters / (n_clusters - 1)
    return np.asarray(covariance, dtype=np.float64)


def clustered_mean(values: Floats, cluster: Ints) -> Interval:
    """Mean with a standard error clustered by household (or any unit).

    Args:
        values: Shape (n,).
        cluster: Any codes, shape (n,).

    Raises:
        ValueError: If there are fewer than 2 clusters.

    >>> m = clustered_mean(np.array([0.0, 2.0]), np.array([0, 1]))
    >>> m.value, round(m.se, 3)
    (1.0, 1.0)
    """
    mean = float(np.mean(values))
    covariance = _clustered(values[:, None] - mean, cluster)
    return Interval.of(mean, se=float(np.sqrt(covariance[0, 0])))


def clustered_means(
    values: Floats, cluster: Ints, weight: Floats | None = None
) -> tuple[Floats, Floats]:
    """Column means and their clustered covariance.

    With survey weights w the estimand is the mean over the population that they
    represent, Σ w v / Σ w (Hájek), its error that of the linearised ratio.

    Args:
        values: Shape (n, k).
        cluster: Any codes, shape (n,).
        weight: Survey weights of mean 1, shape (n,); None where all count the same.

    Returns:
        Means (k,) and covariance (k, k).

    Raises:
        ValueError: If there are fewer than 2 clusters.
    """
    if weight is not None:
        mean = (weight @ values) / len(values)
        return mean, clustered_means(weight[:, None] * (values - mean), cluster)[1]
    mean = values.mean(axis=0)
    return np.asarray(mean, dtype=np.float64), _clustered(values - mean, cluster)


def _clustered(centred: Floats, cluster: Ints) -> Floats:
    """Covariance of the means of centred columns, shape (k, k)."""
    if len(cluster) == 0 or (cluster == cluster[0]).all():
        n_clusters = min(len(cluster), 1)
        raise ValueError(f"expected at least 2 clusters, got {n_clusters}")
    return clustered_covariance(centred, cluster) / len(centred) ** 2


def realised_lift(
    scores: Floats, path: SpendPath, row: Ints, allowed: Bools, budget: float
) -> Floats:
    """Score of what a policy does at a budget, less that of doing nothing, (n,).

    A row that the budget moves only in part counts in expectation, so that a policy
    which sends to random people needs no draw.

    Args:
        scores: From `aipw_scores`, shape (n, 1 + A).
        path: Whole-budget path over rows (households, cells or voters).
        row: Row of every voter, shape (n,).
        allowed: Who may get which arm, shape (n, A).
        budget: Money for all n voters.
    """
    chosen = path.options_at(budget)[row]
    realised = _lift_of(scores, chosen, allowed)
    partial = path.partial_step(budget)
    if partial is not None:
        moved, old, new, fraction = partial
        at = np.flatnonzero(row == moved)
        for option, share in ((old, -fraction), (new, fraction)):
            taken = np.full(len(at), option)
            realised[at] += share * _lift_of(scores[at], taken, allowed[at])
    return realised


def _lift_of(scores: Floats, chosen: Ints, allowed: Bools) -> Floats:
    everyone = np.arange(len(scores))
    sent = (chosen != NOTHING) & allowed[everyone, np.maximum(chosen, 0)]
    taken = np.where(sent, chosen + 1, 0)
    difference: Floats = scores[everyone, taken] - scores[:, 0]
    return difference


def contacted_share(path: SpendPath, row: Ints, allowed: Bools, budget: float) -> float:
    """Share of voters that a policy sends something at a budget."""
    chosen = path.options_at(budget)
    everyone = np.arange(len(row))
    option = chosen[row]
    sent = (option != NOTHING) & allowed[everyone, np.maximum(option, 0)]
    total = float(sent.sum())
    partial = path.partial_step(budget)
    if partial is not None:
        moved, old, new, fraction = partial
        at = row == moved
        before = allowed[at, old].sum() if old != NOTHING else 0
        total += fraction * float(allowed[at, new].sum() - before)
    return total / len(row)


def area_weights(spends: Floats) -> Floats:
    """Weights that turn gains at spends into their mean over [first, last].

    The trapezoid rule: area under the cost curve / length of the axis.

    >>> area_weights(np.array([0.0, 1.0, 2.0])).tolist()
    [0.25, 0.5, 0.25]
    """
    if len(spends) == 1:
        # where nothing costs anything the curve is a point
        return np.ones(1)
    width = np.diff(spends)
    weights: Floats = np.zeros(len(spends))
    weights[:-1] += width / 2
    weights[1:] += width / 2
    weights /= width.sum()
    return weights


GRAM_ROWS = 4_096
"""Rows of a product of matrices at a time: what is weighted fits the cache."""


def weighted_gram(Z: Floats, weight: Floats) -> Floats:
    """Z' diag(weight) Z, shape (k, k), without a second matrix of Z's size.

    Args:
        Z: Shape (n, k).
        weight: Shape (n,).
    """
    gram = np.zeros((Z.shape[1], Z.shape[1]))
    for start in range(0, len(Z), GRAM_ROWS):
        rows = Z[start : start + GRAM_ROWS]
        gram += rows.T @ (rows * weight[start : start + GRAM_ROWS, None])
    return gram


def weighted_rows(values: Floats, weight: Floats | None) -> Floats:
    """Rows times the root of their weight: products of these are weighted products.

    Args:
        values: Shape (n, k).
        weight: Survey weights, shape (n,); None leaves the values as they are.
    """
    return values if weight is None else np.sqrt(weight)[:, None] * values


def calibration_slope(
    scores_lift: Floats,
    predicted: Floats,
    cluster: Ints,
    weight: Floats | None = None,
) -> Interval:
    """Slope of realised on predicted lift: 1 is calibrated, 0 is noise.

    The best linear predictor of Chernozhukov et al., "Generic ML"; arms are stacked
    with an intercept of their own, so that only heterogeneity within a message counts.

    Args:
        scores_lift: Γ_m − Γ_0 of every voter and message, shape (n, M).
        predicted: Predicted lift, from a model that did not see the voter, (n, M).
        cluster: Shape (n,).
        weight: Survey weights of mean 1, shape (n,); None where all count the same.
    """
    x = predicted - np.average(predicted, axis=0, weights=weight)
    y = scores_lift - np.average(scores_lift, axis=0, weights=weight)
    x, y = weighted_rows(x, weight), weighted_rows(y, weight)
    # a message whose score is noisier says less about the slope
    precision = 1.0 / np.maximum(y.var(axis=0), 1e-300)
    spread = float((precision * x**2).sum())
    if spread <= 0:
        return Interval(0.0, 0.0, 0.0)
    slope = float((precision * x * y).sum() / spread)
    influence = (precision * x * (y - slope * x)).sum(axis=1)
    totals = np.bincount(cluster, weights=influence)
    return Interval.of(slope, se=float(np.sqrt((totals**2).sum()) / spread))


def sample_ratio_p_value(arm: Ints, propensities: Floats, drawn: Ints) -> float:
    """Whether the arms came out in the declared ratio.

    Pearson's χ² of the randomised units, summed over blocks of equal probabilities.

    Args:
        arm: 0 for control, shape (n,).
        propensities: Shape (n, 1 + A).
        drawn: Code of the unit that was randomised, shape (n,).

    Returns:
        The p-value; a tiny one says the randomisation or the log is broken.
    """
    first = np.unique(drawn, return_index=True)[1]
    designs, block = np.unique(propensities[first], axis=0, return_inverse=True)
    statistic, freedom = 0.0, 0
    for b, design in enumerate(designs):
        units = first[block == b]
        offered = design > 0
        seen = np.bincount(arm[units], minlength=len(design))
        expected = design[offered] / design.sum() * len(units)
        if seen[~offered].any():
            return 0.0
        statistic += float(((seen[offered] - expected) ** 2 / expected).sum())
        freedom += int(offered.sum()) - 1
    return float(stats.chi2.sf(statistic, freedom)) if freedom else 1.0


def attrition_p_value(
    observed: Bools, arm: Ints, propensities: Floats, cluster: Ints
) -> float:
    """Whether outcomes go missing at different rates in different arms.

    A Wald test of equal shares of missing outcomes, clustered.

    Args:
        observed: Shape (n,).
        arm: 0 for control, shape (n,).
        propensities: Shape (n, 1 + A); arms are compared as if all were drawn with
            equal odds.
        cluster: Shape (n,).
    """
    if observed.all():
        return 1.0
    arms = np.flatnonzero(np.bincount(arm, minlength=propensities.shape[1]) > 0)
    weight = 1.0 / propensities[np.arange(len(arm)), arm]
    centred = observed - observed.mean()
    shares = np.column_stack([centred * weight * (arm == a) for a in arms])
    mean, covariance = clustered_means(shares, cluster)
    difference = mean[1:] - mean[0]
    contrast = np.column_stack([-np.ones(len(arms) - 1), np.eye(len(arms) - 1)])
    spread = contrast @ covariance @ contrast.T
    wald = float(difference @ np.linalg.pinv(spread) @ difference)
    return float(stats.chi2.sf(wald, len(arms) - 1))


def permute_within_blocks(
    arm: Ints, block: Ints, drawn: Ints, rng: np.random.Generator
) -> Ints:
    """Treatment labels shuffled among the randomised units of each block.

    The refutation: under shuffled labels every gain must vanish. A unit that was drawn
    in several blocks (a voter contacted on two days) was drawn anew in each.

    Args:
        arm: 0 for control, shape (n,).
        block: Shape (n,).
        drawn: Code of the unit that was randomised, shape (n,).
        rng: Source of randomness.
    """
    draw = block * (drawn.max() + 1) + drawn
    _, first, unit_of = np.unique(draw, return_index=True, return_inverse=True)
    label, where = arm[first].copy(), block[first]
    for b in np.unique(where):
        inside = np.flatnonzero(where == b)
        label[inside] = label[inside][rng.permutation(len(inside))]
    shuffled: Ints = label[unit_of]
    return shuffled
