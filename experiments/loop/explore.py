"""How much a day explores, and with which odds."""

from typing import NamedTuple

import numpy as np

from hustings.features.arrays import Bools, Floats, Ints
from hustings.training.learners.daily import DailyLift

KINDS = ("uniform", "thompson")
N_DRAWS = 400
"""Of the lifts that may be true: their shares are the odds, not estimates of them."""


class Exploring(NamedTuple):
    """The declared policy of exploration.

    Attributes:
        kind: One of `KINDS`.
        share: Of the day's money and capacities, on the first day after the test.
        half_life_days: After so many days the share is half as large.
        least_share: It never falls below this.
        floor: Least odds of every allowed arm, and of nothing.
    """

    kind: str = "uniform"
    share: float = 0.1
    half_life_days: float = 10.0
    least_share: float = 0.02
    floor: float = 0.02


def share_on(policy: Exploring, day: int) -> float:
    """Share of a day's limits that is reserved to explore.

    >>> share_on(Exploring(share=0.2, half_life_days=5.0, least_share=0.03), 5)
    0.1
    """
    decayed = policy.share * 0.5 ** (max(day, 0) / policy.half_life_days)
    return float(max(decayed, policy.least_share))


def uniform_odds(allowed: Bools) -> Floats:
    """Nothing and every allowed arm alike, shape (n, A)."""
    odds: Floats = allowed / (allowed.sum(axis=1, keepdims=True) + 1.0)
    return odds


def thompson_odds(
    model: DailyLift,
    phi: Floats,
    segment: Ints,
    allowed: Bools,
    *,
    floor: float,
    rng: np.random.Generator,
) -> Floats:
    """Odds of an arm: how probable it is that it is the best of its segment.

    A segment's mean lift is drawn many times from what is believed; the share of draws
    in which an arm is best (nothing, where none is above 0) is its odds, over a floor
    that keeps every allowed arm and nothing possible.

    Args:
        model: What is believed.
        phi: Shape (n, p).
        segment: Code of every voter's segment, shape (n,).
        allowed: Shape (n, A).
        floor: Least odds of each.
        rng: Of the draws.

    Raises:
        ValueError: If the floor leaves nothing to choose.

    Source: Thompson (1933); the odds are known, so they are propensities.
    """
    n_arms = allowed.shape[1]
    if not 0 < floor * (1 + n_arms) < 1:
        raise ValueError(
            f"explore_floor: expected above 0 and below {1 / (1 + n_arms):.3f} with "
            f"{n_arms} arms, got {floor}"
        )
    n = int(segment.max()) + 1
    count = np.maximum(np.bincount(segment, minlength=n), 1)
    mean = np.zeros((n, phi.shape[1]))
    np.add.at(mean, segment, phi)
    drawn = model.draws(mean / count[:, None], N_DRAWS, rng)
    best = np.where(drawn.max(axis=2) > 0, drawn.argmax(axis=2) + 1, 0)
    odds = np.stack([(best == k).mean(axis=0) for k in range(1 + n_arms)], axis=1)
    mine = np.column_stack([np.ones(len(phi), dtype=bool), allowed])
    # what may not be sent leaves its odds to the others
    wide = odds[segment] * mine
    total = wide.sum(axis=1, keepdims=True)
    even = mine / mine.sum(axis=1, keepdims=True)
    wide = np.where(total > 0, wide / np.where(total > 0, total, 1.0), even)
    kept = 1.0 - floor * mine.sum(axis=1, keepdims=True)
    odds_kept: Floats = (floor * mine + kept * wide)[:, 1:]
    return odds_kept
