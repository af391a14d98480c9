"""The gate spends its alpha, is shut by broken data, and forgets old champions."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hustings.training.estimators.metrics import Interval
from hustings.training.policy_value.gate import (
    GATE_ALPHA,
    blocked_by,
    is_above_zero,
    is_expired,
    spent_alpha,
)

N_LOOKS = 30


def test_the_first_attempts_worked_by_hand() -> None:
    """0.025 × 6 / π² = 0.015198; then a quarter of it, then a ninth."""
    assert spent_alpha(1) == pytest.approx(0.0151982, abs=1e-7)
    assert spent_alpha(2) == pytest.approx(0.0151982 / 4, abs=1e-7)
    assert spent_alpha(3) == pytest.approx(0.0151982 / 9, abs=1e-7)
    assert sum(spent_alpha(k) for k in range(1, 10_000)) < GATE_ALPHA
    with pytest.raises(ValueError, match="attempt of at least 1, got 0"):
        spent_alpha(0)


def test_a_bound_above_zero_is_asked_at_its_own_level() -> None:
    two_errors = Interval.of(2.0, se=1.0)
    assert is_above_zero(two_errors, alpha=0.025)
    assert not is_above_zero(two_errors, alpha=0.02)
    assert not is_above_zero(Interval(0.0, 0.0, 0.0), alpha=0.025)
    assert is_above_zero(Interval(1.0, 1.0, 1.0), alpha=0.025)


def looks(rng: np.random.Generator, n_campaigns: int, *, adding: bool) -> np.ndarray:
    """Estimates over their errors at thirty looks at data without any effect.

    Fresh data at every look, or all data so far.
    """
    fresh = rng.normal(size=(n_campaigns, N_LOOKS))
    if not adding:
        return fresh
    return fresh.cumsum(axis=1) / np.sqrt(np.arange(1, N_LOOKS + 1))


@pytest.mark.parametrize("adding", [False, True])
def test_thirty_looks_at_null_data_promote_at_most_the_nominal_share(
    adding: bool,
) -> None:
    z = looks(np.random.default_rng(0), 4_000, adding=adding)
    asked = [spent_alpha(k) for k in range(1, N_LOOKS + 1)]
    # the least estimate that passes, and the gate itself agrees on both sides of it
    least = stats.norm.isf(asked)
    for bound, alpha in zip(least, asked, strict=True):
        assert is_above_zero(Interval.of(1.001 * bound, se=1.0), alpha=alpha)
        assert not is_above_zero(Interval.of(0.999 * bound, se=1.0), alpha=alpha)
    promoted = (z > least).any(axis=1)
    at_most = GATE_ALPHA + 3 * np.sqrt(GATE_ALPHA * (1 - GATE_ALPHA) / 4_000)
    assert np.mean(promoted) <= at_most
    # were every look held to 2.5 %, far more campaigns would promote nothing
    assert (z > 1.96).any(axis=1).mean() > 5 * GATE_ALPHA


def test_a_broken_log_shuts_the_gate() -> None:
    sound = {"sample_ratio": {"ok": True}, "attrition": {"ok": True}}
    assert blocked_by(sound) == []
    assert blocked_by({**sound, "attrition": {"ok": False}}) == ["attrition"]
    both = {"sample_ratio": {"ok": False}, "attrition": {"ok": False}}
    assert blocked_by(both) == ["sample_ratio", "attrition"]


def test_a_champion_expires_after_its_days() -> None:
    day = pd.Timestamp("2026-03-01")
    then = pd.Timestamp("2026-03-31")
    assert not is_expired(day, now=then, max_age_days=30)
    assert is_expired(day, now=then + pd.Timedelta(hours=1), max_age_days=30)
    assert not is_expired(day, now=pd.Timestamp("2036-03-01"), max_age_days=None)
