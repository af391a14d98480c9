"""A surrogate converts only where its link foretells the outcome's lift."""

import numpy as np
import pytest

from hustings.training.estimators.metrics import Interval
from hustings.training.measured_lift.adaptive import Decisions
from hustings.training.measured_lift.surrogate import Link, fit_link


def _both(
    seed: int, n: int = 30_000, *, through: float = 1.0, lift: float = 1.0
) -> tuple[Decisions, np.ndarray, np.ndarray]:
    """Messages move the surrogate by `lift` and 2 `lift`; the outcome follows it at .5.

    With `through` below 1 part of that never reaches the outcome: people who say they
    will, and do not.
    """
    rng = np.random.default_rng(seed)
    arm = rng.integers(0, 3, n)
    X = rng.standard_normal((n, 1))
    moved = lift * arm
    S = moved + X[:, 0] + rng.standard_normal(n)
    Y = 0.5 * (S - (1 - through) * moved) + 0.5 * rng.standard_normal(n)
    cluster = np.arange(n) // 2
    day = np.zeros(n, dtype=np.int64)
    d = Decisions(day, arm, np.full((n, 3), 1 / 3), Y, cluster)
    return d, S, X


def _linked(seed: int, **planted: float) -> Link:
    d, S, X = _both(seed, **planted)
    half = (d.cluster % 2) == 0
    return fit_link(d, S, X, half, d.cluster % 5)


def test_a_surrogate_that_carries_the_effect_converts_with_its_error() -> None:
    link = _linked(1)
    assert link.holds
    assert link.slope == pytest.approx(0.5, abs=0.02)
    assert link.ratio.low < 1 < link.ratio.high
    lift = Interval.of(0.5, se=0.01)
    converted = link.converted(lift)
    assert converted.value == 0.5
    # no number of people averages the link's error away
    assert converted.se == pytest.approx(np.hypot(0.01, 0.5 * link.ratio.se))


def test_a_surrogate_that_foretells_too_much_is_never_converted() -> None:
    link = _linked(2, through=0.3)
    assert not link.holds
    assert link.ratio.high < 1
    with pytest.raises(ValueError, match="a link that holds"):
        link.converted(Interval.of(1.0, se=0.1))


def test_messages_that_do_nothing_validate_no_link() -> None:
    assert not _linked(3, lift=0.0).holds


def test_too_few_people_with_both_try_no_link() -> None:
    d, S, X = _both(4, n=100)
    link = fit_link(d, S, X, np.arange(100) % 2 == 0, np.arange(100) % 5)
    assert not link.holds
    assert "100 people" in link.why


def test_the_ratio_of_links_covers_the_truth() -> None:
    met = [_linked(10 + s, n=4_000).ratio for s in range(60)]
    covered = np.mean([r.low < 1.0 < r.high for r in met])
    assert covered >= 0.88
    assert np.mean([r.value for r in met]) == pytest.approx(1.0, abs=0.05)
