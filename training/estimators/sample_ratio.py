"""Sample-ratio checks of many tests and blocks, corrected for multiplicity.

One test's check is `metrics.sample_ratio_p_value`. Here: counts of many tests at once,
what fails beyond chance in a week (or any period), and Holm's correction over them.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from hustings.features.arrays import Bools, Floats, Ints
from hustings.training.estimators.metrics import sample_ratio_p_value

FAILS = 0.001
"""A single test with a p-value below this fails its sample-ratio check."""
MIN_EXPECTED = 5
"""χ² holds where every arm of a block is expected to get at least so many units."""
FAMILY = 0.01
"""Chance that any sound week of all is flagged."""


class PeriodRatio(NamedTuple):
    """The sample-ratio checks of one period.

    Attributes:
        period: Its own number.
        n_tests: Tests in it with at least two arms.
        n_failing: Of them with p below `FAILS`.
        p_value: Of as many failing by chance alone.
        flagged: Whether that is below Holm's bound over all periods.
    """

    period: int
    n_tests: int
    n_failing: int
    p_value: float
    flagged: bool


def holm(p_values: Floats, *, alpha: float) -> Bools:
    """Hypotheses to reject, any false rejection having probability alpha at most.

    Args:
        p_values: Shape (k,).
        alpha: Family-wise error rate.

    Returns:
        Shape (k,).

    Source: Holm (1979).

    >>> holm(np.array([0.01, 0.04, 0.03]), alpha=0.05).tolist()
    [True, False, False]
    """
    k = len(p_values)
    order = np.argsort(p_values)
    passes = p_values[order] <= alpha / (k - np.arange(k))
    # the first that stands lets all larger ones stand
    n_fallen = k if passes.all() else int(passes.argmin())
    fallen = np.zeros(k, dtype=bool)
    fallen[order[:n_fallen]] = True
    return fallen


def count_p_values(counts: Floats, test: Ints, share: Floats | None = None) -> Floats:
    """Pearson's sample-ratio check of every test, from how many each arm got.

    Args:
        counts: Of every arm of every test, shape (n_arms_in_all,).
        test: Code of the arm's test, from 0, shape (n_arms_in_all,).
        share: Declared relative share of every arm; equal ones without.

    Returns:
        Shape (n_tests,); NaN for a test of one arm, where there is nothing to compare.
    """
    weight = np.ones(len(counts)) if share is None else share
    total = np.bincount(test, weights=counts)
    expected = weight / np.bincount(test, weights=weight)[test] * total[test]
    statistic = np.bincount(test, weights=(counts - expected) ** 2 / expected)
    freedom = np.bincount(test) - 1
    p_values = np.full(len(total), np.nan)
    compared = freedom > 0
    p_values[compared] = stats.chi2.sf(statistic[compared], freedom[compared])
    return p_values


def failing_periods(p_values: Floats, period: Ints) -> list[PeriodRatio]:
    """Periods in which more tests fail their check than chance allows.

    A period is judged by how many of its tests fail, not by the sum of their χ²: one
    test that went wrong is that test's fault, several in a week are the platform's.
    Holm over the periods.

    Args:
        p_values: Of every test, shape (n_tests,); NaN is left out.
        period: Week (or day, or block) of every test, shape (n_tests,).
    """
    compared = ~np.isnan(p_values)
    periods, at = np.unique(period[compared], return_inverse=True)
    n_tests = np.bincount(at)
    n_failing = np.bincount(at, weights=p_values[compared] < FAILS).astype(np.int64)
    by_chance = stats.binom.sf(n_failing - 1, n_tests, FAILS)
    flagged = holm(by_chance, alpha=FAMILY)
    return [
        PeriodRatio(int(p), int(n), int(k), float(c), bool(f))
        for p, n, k, c, f in zip(
            periods, n_tests, n_failing, by_chance, flagged, strict=True
        )
    ]


def block_p_values(arm: Ints, propensities: Floats, drawn: Ints, block: Ints) -> Floats:
    """Sample-ratio check of every block of a design, shape (n_blocks,).

    A block too small for the check cannot fail it: its p-value is 1.

    Args:
        arm: 0 for control, shape (n,).
        propensities: Shape (n, 1 + A).
        drawn: Code of the unit that was randomised, shape (n,).
        block: Codes from 0, shape (n,).
    """
    p_values = []
    for b in range(int(block.max()) + 1):
        in_block = block == b
        design = propensities[in_block]
        least = design[design > 0].min() * len(np.unique(drawn[in_block]))
        p_values.append(
            sample_ratio_p_value(arm[in_block], design, drawn[in_block])
            if least >= MIN_EXPECTED
            else 1.0
        )
    return np.array(p_values)
