"""Looking daily: how often intervals ever miss, and how many claims are false."""

import numpy as np
import pytest

from hustings.training.estimators.anytime_valid import (
    always_valid,
    always_valid_z,
    claimed_alpha,
    e_bh,
    e_values,
    mixture_rate,
)

N_LOOKS, N_MONTHS = 30, 4_000


@pytest.fixture(scope="module")
def months() -> np.ndarray:
    """Studentised estimates of a lift of nil at every daily look, (months, looks)."""
    rng = np.random.default_rng(1)
    sums = rng.standard_normal((N_MONTHS, N_LOOKS)).cumsum(axis=1)
    return sums / np.sqrt(np.arange(1, N_LOOKS + 1))


def _information(n: int = N_LOOKS) -> np.ndarray:
    return np.arange(1, n + 1) / n


def test_thirty_looks_miss_at_most_once_in_twenty_and_fixed_intervals_far_oftener(
    months: np.ndarray,
) -> None:
    ours = (np.abs(months) > always_valid_z(_information())).any(axis=1).mean()
    fixed = (np.abs(months) > 1.96).any(axis=1).mean()
    assert ours <= 0.05
    assert ours > 0.005  # wide enough, and not for nothing
    assert fixed > 0.2


def test_looking_on_after_the_declared_horizon_stays_valid() -> None:
    rng = np.random.default_rng(2)
    sums = rng.standard_normal((2_000, 90)).cumsum(axis=1)
    z = sums / np.sqrt(np.arange(1, 91))
    information = np.arange(1, 91) / N_LOOKS
    assert (np.abs(z) > always_valid_z(information)).any(axis=1).mean() <= 0.05


def test_the_mixture_is_tuned_to_the_horizon() -> None:
    widths = [
        np.sqrt((1 + r) * np.log((1 + r) / (r * 0.05**2)))
        for r in np.linspace(0.02, 0.5, 200)
    ]
    assert float(always_valid_z(1.0)) <= min(widths) * 1.0005
    assert 0.1 < mixture_rate() < 0.15


def test_an_interval_excludes_zero_where_its_e_value_says_so() -> None:
    for z in (2.5, 3.0, 3.03, 3.05, 4.0):
        excluded = always_valid(z, 1.0, information=1.0).excludes_zero
        assert excluded == bool(e_values(np.array([z]), np.ones(1))[0] >= 20)


def test_nothing_is_known_before_the_first_day() -> None:
    found = always_valid(1.0, 0.1, information=0.0)
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert e_values(np.array([np.nan]), np.zeros(1)).tolist() == [0.0]


def test_an_e_value_is_at_most_one_on_average_under_nil(months: np.ndarray) -> None:
    last = e_values(months[:, -1], np.ones(N_MONTHS))
    assert last.mean() <= 1.15  # heavy-tailed: its own error is some hundredths


def test_the_best_of_many_looks_at_nil_is_claimed_in_few_months() -> None:
    # eight messages × four segments, all nil and dependent, looked at on thirty days
    rng = np.random.default_rng(3)
    any_claim = 0
    for _ in range(400):
        common = rng.standard_normal((N_LOOKS, 1))
        steps = (common + rng.standard_normal((N_LOOKS, 32))) / np.sqrt(2)
        z = steps.cumsum(axis=0) / np.sqrt(np.arange(1, N_LOOKS + 1))[:, None]
        days = zip(z, _information(), strict=True)
        any_claim += any(
            e_bh(e_values(row, np.full(32, share))).any() for row, share in days
        )
    assert any_claim / 400 <= 0.05


def test_claims_by_hand() -> None:
    # 4 looked at, 5 %: one claim needs 80, two need 40 each, three 26.7 each
    assert e_bh(np.array([70.0, 45.0, 1.0, 1.0])).tolist() == [True, True, False, False]
    assert not e_bh(np.array([70.0, 30.0, 1.0, 1.0])).any()
    assert claimed_alpha(2, 40) == pytest.approx(0.0025)
    assert claimed_alpha(0, 40) == claimed_alpha(1, 40)
