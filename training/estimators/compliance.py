"""Intent to treat, and the lift of the voters whom a message reached.

Intent to treat is what a plan brings, and what plans are judged by. Where only some of
the assigned were reached and nobody of the others, the lift of those reached is the
intent to treat divided by the share reached.
"""

from typing import NamedTuple

import numpy as np

from hustings.features.arrays import Bools, Floats, Ints
from hustings.training.estimators.metrics import Z95, Interval, clustered_covariance


class Compliance(NamedTuple):
    """A lift of the assigned, and of those of them who were reached.

    Attributes:
        n: Voters with an outcome.
        assigned: Intent to treat: lift of being assigned.
        contacted: Share of the assigned who were reached, less that of the others.
        reached: Lift of those reached, with Fieller's interval: exact in the share
            reached, and unbounded (infinite) where that may be 0.
        reached_delta: The same with the usual approximation, for comparison.
    """

    n: int
    assigned: Interval
    contacted: Interval
    reached: Interval
    reached_delta: Interval


def contrast(
    values: Floats, treated: Bools, cluster: Ints, weight: Floats | None = None
) -> tuple[Floats, Floats]:
    """Difference in (weighted) means of k columns, and their clustered covariance.

    Args:
        values: Shape (n, k).
        treated: Who is on the one side, shape (n,); the others are the other.
        cluster: Codes, shape (n,).
        weight: 1 / probability of the own side, shape (n,); the same for all without.

    Returns:
        Differences (k,) and covariance (k, k).

    Raises:
        ValueError: If a side is empty.
    """
    w = np.ones(len(treated)) if weight is None else weight
    if treated.all() or not treated.any():
        raise ValueError(
            f"expected people on both sides, got {int(treated.sum())} of "
            f"{len(treated)} treated"
        )
    influence, difference = np.zeros_like(values), np.zeros(values.shape[1])
    for side, sign in ((treated, 1.0), (~treated, -1.0)):
        share = w[side] / w[side].sum()
        mean = share @ values[side]
        influence[side] = sign * share[:, None] * (values[side] - mean)
        difference += sign * mean
    return difference, clustered_covariance(influence, cluster)


def compliance(
    Y: Floats,
    assigned: Bools,
    contacted: Bools,
    cluster: Ints,
    weight: Floats | None = None,
) -> Compliance:
    """Lift of the assigned voters and of those among them who were reached.

    Args:
        Y: Outcome, NaN where missing, shape (n,).
        assigned: Shape (n,).
        contacted: Who was really reached, shape (n,).
        cluster: Household, shape (n,).
        weight: 1 / propensity of the own side, shape (n,).

    Raises:
        ValueError: If somebody was reached who was not assigned: then the ratio is
            not the lift of those reached.

    Source: Angrist, Imbens & Rubin (1996); Fieller (1954); Gerber & Green, "Field
    Experiments" (2012), chapter 5.

    >>> Y, assigned = np.array([1.0, 0, 1, 1, 0, 0, 1, 0]), np.arange(8) < 4
    >>> lifts = compliance(Y, assigned, np.arange(8) < 2, np.arange(8))
    >>> lifts.assigned.value, lifts.contacted.value, lifts.reached.value
    (0.5, 0.5, 1.0)
    """
    if (contacted & ~assigned).any():
        raise ValueError(
            f"expected nobody reached who was not assigned, got "
            f"{int((contacted & ~assigned).sum())}: the lift of those reached is not "
            "the intent to treat by the share reached"
        )
    seen = ~np.isnan(Y)
    outcome_and_contact = np.column_stack([Y, contacted.astype(np.float64)])[seen]
    w = None if weight is None else weight[seen]
    (lift, share), V = contrast(outcome_and_contact, assigned[seen], cluster[seen], w)
    return Compliance(
        int(seen.sum()),
        Interval.of(lift, se=np.sqrt(V[0, 0])),
        Interval.of(share, se=np.sqrt(V[1, 1])),
        fieller(lift, share, V),
        _delta(lift, share, V),
    )


def fieller(lift: float, share: float, covariance: Floats) -> Interval:
    """Ratio with the interval of all θ for which lift − θ share is not unlike 0.

    Args:
        lift: Numerator.
        share: Denominator.
        covariance: Of both, shape (2, 2).

    Returns:
        An infinite interval where the share itself may be 0.
    """
    if share == 0:
        return Interval(np.nan, -np.inf, np.inf)
    z2 = Z95**2
    a = share**2 - z2 * covariance[1, 1]
    b = lift * share - z2 * covariance[0, 1]
    c = lift**2 - z2 * covariance[0, 0]
    if a <= 0:
        return Interval(float(lift / share), -np.inf, np.inf)
    reach = np.sqrt(max(b**2 - a * c, 0.0))
    return Interval(float(lift / share), float((b - reach) / a), float((b + reach) / a))


def _delta(lift: float, share: float, covariance: Floats) -> Interval:
    if share == 0:
        return Interval(np.nan, -np.inf, np.inf)
    slope = np.array([1.0, -lift / share]) / share
    return Interval.of(lift / share, se=float(np.sqrt(slope @ covariance @ slope)))
