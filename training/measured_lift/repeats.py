"""Carry-over: the effect of a second contact given the first."""

from typing import NamedTuple

import numpy as np

from hustings.features.arrays import Bools, Floats, Ints
from hustings.training.estimators.metrics import Interval, clustered_covariance

CELLS = ((0, 0), (1, 0), (0, 1), (1, 1))


class CarryOver(NamedTuple):
    """Effects of two contacts on the outcome after both.

    Attributes:
        first: Of the first alone, against none.
        second: Of the second alone, against none.
        both: Of both, against none.
        second_given_first: Of a second contact with voters who had the first.
        interaction: Both − first − second: below 0 the second adds less.
    """

    first: Interval
    second: Interval
    both: Interval
    second_given_first: Interval
    interaction: Interval


def carry_over(
    Y: Floats, first: Bools, second: Bools, p_first: Floats, p_second: Floats,
    cluster: Ints,
) -> CarryOver:  # fmt: skip
    """Effects of two contacts, by the chance of the sequence that each voter had.

    Weighted means (Hájek) of the four sequences, each voter weighing 1 / (chance of
    the first × chance of the second given all that came before).

    Args:
        Y: Outcome after both, NaN where missing, shape (n,).
        first: Who got the first contact, shape (n,).
        second: Who got the second, shape (n,).
        p_first: Known chance of what each got first, shape (n,).
        p_second: Known chance of what each got second, given what had come, (n,).
        cluster: Household, shape (n,).

    Raises:
        ValueError: If a sequence did not occur, or a chance is not in (0, 1].

    Source: Robins (1986); Hernán & Robins, "Causal Inference: What If", part III.
    """
    chance = p_first * p_second
    if not ((chance > 0) & (chance <= 1)).all():
        raise ValueError(f"expected chances in (0, 1], got {chance.min()}")
    seen = ~np.isnan(Y)
    influence, mean = np.zeros((len(Y), len(CELLS))), np.zeros(len(CELLS))
    for k, (w1, w2) in enumerate(CELLS):
        in_cell = seen & (first == bool(w1)) & (second == bool(w2))
        if not in_cell.any():
            raise ValueError(f"expected voters with the contacts {w1, w2}, got none")
        share = np.where(in_cell, 1.0 / chance, 0.0)
        share /= share.sum()
        mean[k] = share[in_cell] @ Y[in_cell]
        influence[in_cell, k] = share[in_cell] * (Y[in_cell] - mean[k])
    V = clustered_covariance(influence, cluster)
    # weights of the cells (none, first, second, both) in each effect
    effects = ((-1, 1, 0, 0), (-1, 0, 1, 0), (-1, 0, 0, 1), (0, -1, 0, 1),
               (1, -1, -1, 1))  # fmt: skip
    contrasts = (np.array(c, dtype=np.float64) for c in effects)
    return CarryOver(
        *(Interval.of(float(c @ mean), se=float(np.sqrt(c @ V @ c))) for c in contrasts)
    )
