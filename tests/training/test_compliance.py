"""Lift of those reached: planted, hand-worked, and where it cannot be known."""

import numpy as np
import pytest

from hustings.training.estimators.compliance import Compliance, compliance, fieller


def _canvassed(
    rng: np.random.Generator, n: int = 4_000, *, reach: float = 0.3, lift: float = 0.4
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Who can be reached votes more anyway; households of two share noise."""
    reachable = rng.random(n) < reach
    assigned = np.repeat(rng.random(n // 2) < 0.5, 2)
    contacted = assigned & reachable
    noise = np.repeat(rng.standard_normal(n // 2) * 0.5, 2) + rng.standard_normal(n)
    Y = 0.5 * reachable + lift * contacted + noise
    return Y, assigned, contacted, np.arange(n) // 2


def test_the_lift_of_the_reached_is_found_though_they_differ_from_the_others() -> None:
    Y, assigned, contacted, household = _canvassed(np.random.default_rng(1), 100_000)
    found = compliance(Y, assigned, contacted, household)
    assert found.reached.low < 0.4 < found.reached.high
    assert found.reached.value == pytest.approx(
        found.assigned.value / found.contacted.value
    )
    naive = Y[contacted].mean() - Y[~contacted].mean()
    assert naive > found.reached.high + 0.2


def _months(reach: float, n: int) -> list[Compliance]:
    return [
        compliance(*_canvassed(np.random.default_rng(seed), n, reach=reach))
        for seed in range(300)
    ]


def test_the_interval_covers_clustered_by_household() -> None:
    found = _months(0.3, 2_000)
    covered = np.mean([f.reached.low < 0.4 < f.reached.high for f in found])
    assert 0.92 <= covered <= 0.98


def test_where_hardly_anybody_is_reached_the_interval_may_be_without_end() -> None:
    found = _months(0.005, 200)
    assert any(np.isinf(f.reached.high) for f in found)
    covered = np.mean([f.reached.low <= 0.4 <= f.reached.high for f in found])
    assert covered >= 0.92


def test_fieller_by_hand() -> None:
    # lift 2 ± 1, share 1 known exactly: the ratio is the lift
    exact = fieller(2.0, 1.0, np.diag([1.0, 0.0]))
    assert (exact.low, exact.high) == pytest.approx((2 - 1.959964, 2 + 1.959964))


def test_who_was_reached_without_being_assigned_is_refused() -> None:
    one = np.array([False, False, True])
    with pytest.raises(ValueError, match="nobody reached who was not assigned"):
        compliance(np.zeros(3), one, ~one, np.arange(3))
