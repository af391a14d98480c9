"""The value of an option in a plan: lift, its lower bound, and options that backfire.

Functions of arrays, for callers of `plan_contacts`.
"""

import numpy as np
from scipy.stats import norm

from hustings.features.arrays import Bools, Floats, Ints


def valued(
    lift: Floats, low: Floats, high: Floats, *, confidence: float = 0.5
) -> Floats:
    """Lift at a declared confidence: its lower bound for cautious campaigns.

    Args:
        lift: Predicted lift, shape (n_voters, A).
        low: Lower end of its two-sided 95 % interval, same shape.
        high: Upper end, same shape.
        confidence: One-sided, in [0.5, 1): at 0.5 the lift itself, at 0.975 `low`.

    Returns:
        lift - z(confidence) * standard error, with the error read off the interval.

    Raises:
        ValueError: If the confidence is not in [0.5, 1).

    >>> valued(np.array([2.0]), np.array([1.0]), np.array([3.0]), confidence=0.975)
    array([1.])
    """
    if not 0.5 <= confidence < 1:
        raise ValueError(f"confidence must lie in [0.5, 1), got {confidence}")
    if confidence == 0.5:
        # also where an interval is without end
        return lift
    error = (high - low) / (2 * norm.ppf(0.975))
    cautious: Floats = lift - norm.ppf(confidence) * error
    return cautious


def backlash(low: Floats, high: Floats, segment: Ints) -> Bools:
    """Pairs of segment and arm that lower the outcome, as far as the intervals tell.

    A segment's lift is the mean of its voters'. Their errors have most of their cause
    in common, so its interval is as wide as the mean of theirs: cautious, no
    square root of n.

    Args:
        low: Lower end of each pair's 95 % interval, shape (n_voters, A).
        high: Upper end, same shape.
        segment: Segment of every voter, from 0, shape (n_voters,).

    Returns:
        Whether a voter's segment has an upper bound below 0, shape (n_voters, A).
    """
    n = np.maximum(np.bincount(segment), 1)
    upper = np.column_stack([np.bincount(segment, weights=c) / n for c in high.T])
    if (high < low).any():
        raise ValueError("expected low <= high in every interval")
    harmed: Bools = (upper < 0)[segment]
    return harmed
