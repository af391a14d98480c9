"""How much a day explores, and with which odds."""

import numpy as np

from hustings.experiments.declaration import LoopSection
from hustings.features.arrays import Bools, Floats, Ints

N_DRAWS = 400
"""Of the lifts that may be true: their shares are the odds, not estimates of them."""


def share_on(loop: LoopSection, day: int) -> float:
    """Share of a day's limits that is reserved to explore.

    Args:
        loop: The declaration.
        day: Days since the first day after the wave.
    """
    decayed = loop.explore_share * 0.5 ** (max(day, 0) / loop.explore_half_life_days)
    return float(max(decayed, loop.explore_least_share))


def uniform_odds(allowed: Bools) -> Floats:
    """Even odds of nothing and every allowed arm, shape (n, A)."""
    odds: Floats = allowed / (allowed.sum(axis=1, keepdims=True) + 1.0)
    return odds


def thompson_odds(
    drawn: Floats, segment: Ints, allowed: Bools, *, floor: float
) -> Floats:
    """Odds of an arm: the probability that the arm is the best of its segment.

    The share of draws in which an arm has the largest lift of the segment (nothing,
    where no lift is above 0) is its odds, above a floor that keeps every allowed arm
    and nothing possible. The odds are known, so they are exact propensities.

    Args:
        drawn: Lifts of segments that may be true, shape (n_draws, n_segments, A).
        segment: Code of every voter's segment, shape (n,).
        allowed: Shape (n, A).
        floor: Least odds of each.

    Raises:
        ValueError: If the floor leaves nothing to choose.

    Source: Thompson (1933).
    """
    n_arms = allowed.shape[1]
    if not 0 < floor * (1 + n_arms) < 1:
        raise ValueError(
            f"explore_floor: expected above 0 and below {1 / (1 + n_arms):.3f} with "
            f"{n_arms} arms, got {floor}"
        )
    best = np.where(drawn.max(axis=2) > 0, drawn.argmax(axis=2) + 1, 0)
    of_segment = np.stack([(best == k).mean(axis=0) for k in range(1 + n_arms)], axis=1)
    options = np.column_stack([np.ones(len(allowed), dtype=bool), allowed])
    # what may not be sent leaves its odds to the others
    odds = of_segment[segment] * options
    total = odds.sum(axis=1, keepdims=True)
    even = options / options.sum(axis=1, keepdims=True)
    odds = np.where(total > 0, odds / np.where(total > 0, total, 1.0), even)
    beyond_floor = 1.0 - floor * options.sum(axis=1, keepdims=True)
    floored: Floats = (floor * options + beyond_floor * odds)[:, 1:]
    return floored
