"""Many sample-ratio checks: the broken week is flagged, and no sound one."""

import numpy as np
import pytest
from scipy import stats

from hustings.training.estimators.sample_ratio import (
    block_p_values,
    count_p_values,
    failing_periods,
    holm,
)


def test_holm_worked_by_hand() -> None:
    """0.01 ≤ 0.05/4; 0.02 > 0.05/3, so it and all larger ones stand."""
    p_values = np.array([0.03, 0.01, 0.02, 0.04])
    assert holm(p_values, alpha=0.05).tolist() == [False, True, False, False]
    assert holm(np.array([0.01, 0.02]), alpha=0.05).all()
    assert holm(np.array([]), alpha=0.05).tolist() == []


def test_holm_holds_the_chance_of_any_false_alarm() -> None:
    rng = np.random.default_rng(0)
    any_alarm = [holm(rng.random(20), alpha=0.05).any() for _ in range(2_000)]
    assert np.mean(any_alarm) < 0.05 + 4 * np.sqrt(0.0475 / 2_000)


def test_counts_are_checked_by_pearson_test_by_test() -> None:
    counts = np.array([60.0, 40, 30, 30, 40, 7])
    found = count_p_values(counts, np.array([0, 0, 1, 1, 1, 2]))
    assert found[0] == pytest.approx(stats.chisquare([60, 40]).pvalue)
    assert found[1] == pytest.approx(stats.chisquare([30, 30, 40]).pvalue)
    assert np.isnan(found[2])
    unequal = count_p_values(counts[:2], np.array([0, 0]), np.array([3.0, 2.0]))
    assert unequal[0] == 1.0


def test_a_period_in_which_many_tests_fail_is_flagged_and_no_other() -> None:
    """Ten weeks of thirty tests; in the fourth, half of them are broken."""
    rng = np.random.default_rng(1)
    week, p_values = np.repeat(np.arange(10), 30), rng.random(300)
    p_values[week == 3] = np.where(rng.random(30) < 0.5, 1e-8, p_values[week == 3])
    # and one test alone goes wrong as badly as can be: its own fault, not the week's
    p_values[week == 7] = np.where(np.arange(30) == 0, 0.0, 0.5)
    found = failing_periods(p_values, week)
    assert [f.period for f in found if f.flagged] == [3]
    assert found[7].n_failing == 1
    assert found[3].p_value == pytest.approx(
        stats.binom.sf(found[3].n_failing - 1, 30, 0.001)
    )


def test_a_test_of_one_arm_counts_nowhere() -> None:
    found = failing_periods(np.array([np.nan, 0.5]), np.array([1, 2]))
    assert [f.period for f in found] == [2]


def test_sound_years_raise_no_alarm() -> None:
    rng = np.random.default_rng(2)
    week = np.repeat(np.arange(100), 40)
    alarms = [
        any(f.flagged for f in failing_periods(rng.random(4_000), week))
        for _ in range(100)
    ]
    # a family-wise rate of 1 %: five in a hundred happen once in three hundred
    assert sum(alarms) < 5


def test_the_broken_block_of_a_design_is_found_among_sound_ones() -> None:
    rng = np.random.default_rng(3)
    block = np.repeat([0, 1, 2], 1_000)
    arm = rng.integers(2, size=3_000)
    arm[(block == 1) & (rng.random(3_000) < 0.3)] = 0
    found = block_p_values(arm, np.full((3_000, 2), 0.5), np.arange(3_000), block)
    assert found[1] < 1e-6 < min(found[0], found[2])
    # four units cannot tell: at worst 1 in 16, and χ² does not hold
    few = block_p_values(
        np.zeros(4, int), np.full((4, 2), 0.5), np.arange(4), np.zeros(4, int)
    )
    assert few.tolist() == [1.0]
