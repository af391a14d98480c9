"""Slope of lift on the affinity of a voter's cell for the message's own issue.

What people like of their own accord is not what moves them, but it may point there.
For voter i and message m of issue j(m), a_ij the affinity of i's cell for j,

    lift_im = average_m + γ (a_ij(m) − mean) + what the features say + noise,

one γ for all messages, so that it is known from little data. Affinity says which way
and no more: before any data γ is half-normal, above zero and so small that what it adds
is of the size that such effects have. From there on the randomised scores decide: many
of them overrule any prior, and where they speak against it γ goes to 0. Organic
reactions are a direction, never a lift.

Source: the mean of a normal truncated at 0, Johnson, Kotz & Balakrishnan (1994).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import log_ndtr

from hustings.features.arrays import Floats, Floats32, Ints

PRIOR_SHARE = 0.05
"""Lift that affinity may add, as a share of the outcome's standard deviation:
two points of a vote, the size of differences between people that field tests found."""


@dataclass(frozen=True)
class AffinitySlope:
    """Affinity slope γ, fitted without each fold and on all rows.

    Attributes:
        columns: Column of X with the affinity for each message's issue, -1 where
            nothing is known of it, shape (M,).
        centre: Mean affinity, shape (M,).
        slope: γ, shape (n_folds + 1,); the last is of all voters.
        variance: Its posterior variance, shape (n_folds + 1,).
    """

    columns: Ints
    centre: Floats
    slope: Floats
    variance: Floats

    def deviation(self, X: Floats32, fold: Ints | None) -> Floats:
        """Lift that affinity adds, mean 0, shape (n, M).

        Args:
            X: Features, shape (n, n_features).
            fold: Fold of each voter; None for voters that no fit saw.
        """
        slope = self.slope[-1] if fold is None else self.slope[fold][:, None]
        return own_affinity(X, self.columns, self.centre) * slope

    def doubt(self, X: Floats32, fold: Ints | None) -> Floats:
        """Variance of that lift, shape (n, M)."""
        variance = self.variance[-1] if fold is None else self.variance[fold][:, None]
        return own_affinity(X, self.columns, self.centre) ** 2 * variance

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        numbers = (np.array(stored[k]) for k in ("centre", "slope", "variance"))
        return cls(np.array(stored["columns"], dtype=np.int64), *numbers)


def own_affinity(X: Floats32, columns: Ints, centre: Floats) -> Floats:
    """Affinity for the message's own issue about its mean, 0 where unknown, (n, M)."""
    affinity = np.zeros((len(X), len(columns)))
    issue = columns >= 0
    affinity[:, issue] = np.nan_to_num(X[:, columns[issue]] - centre[issue])
    return affinity


def fit_affinity_slope(
    X: Floats32,
    lift: Floats,
    noise: Floats,
    fold: Ints,
    n_folds: int,
    columns: Sequence[int],
    outcome_sd: float,
    weight: Floats | None = None,
) -> AffinitySlope:
    """γ by generalised least squares over all messages together, with its prior.

    Args:
        X: Features, shape (n, n_features).
        lift: Doubly robust lifts, centred by message, shape (n, M).
        noise: Covariance of a voter's lifts between messages, shape (M, M).
        fold: Shape (n,).
        n_folds: Folds; with one there is only the fit of all.
        columns: As in `AffinitySlope`.
        outcome_sd: Standard deviation of the outcome, which the prior is a share of.
        weight: Survey weights of mean 1, shape (n,); None where all count the same.
    """
    at = np.asarray(columns, dtype=np.int64)
    centre = np.zeros(len(at))
    for m, column in enumerate(at):
        if column >= 0:
            has_affinity = ~np.isnan(X[:, column])
            of = None if weight is None else weight[has_affinity]
            values = X[has_affinity, column].astype(np.float64)
            centre[m] = np.average(values, weights=of) if has_affinity.any() else 0.0
    a = own_affinity(X, at, centre)
    precise = a @ np.linalg.pinv(noise)
    if weight is not None:
        precise = precise * weight[:, None]
    moment, size = (precise * lift).sum(axis=1), (precise * a).sum(axis=1)
    by_fold = np.array(
        [np.bincount(fold, value, minlength=n_folds) for value in (moment, size)]
    )
    left = by_fold.sum(axis=1)[:, None] - np.column_stack([by_fold, np.zeros(2)])
    spread = np.sqrt(max(float((a**2).mean()), 1e-300))
    slope, variance = _above_zero(left[0], left[1], PRIOR_SHARE * outcome_sd / spread)
    return AffinitySlope(at, centre, slope, variance)


def _above_zero(moment: Floats, size: Floats, scale: float) -> tuple[Floats, Floats]:
    """Posterior mean and variance of coefficients with a half-normal prior.

    Args:
        moment: Least-squares moment of each.
        size: Its precision.
        scale: Of the prior.
    """
    variance = 1.0 / (size + 1.0 / max(scale, 1e-12) ** 2)
    mean, sd = moment * variance, np.sqrt(variance)
    # density over distribution at the cut, by logarithms: far below zero too
    at = mean / sd
    hazard = np.exp(-0.5 * at**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(at))
    return mean + sd * hazard, variance * (1.0 - hazard * (hazard + at))
