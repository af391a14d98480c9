"""RATE and TOC by hand, against the definition, and covering their truth."""

import numpy as np
import pytest

from hustings.training.estimators.metrics import Interval
from hustings.training.policy_value.rate import TOC_SHARES, one_sided_p, ranked, rate_of


def by_definition(lift_scores: np.ndarray, priority: np.ndarray) -> tuple[float, float]:
    """TOC after each voter, averaged plainly and by rank."""
    scores = lift_scores[np.argsort(-priority, kind="stable")]
    rank = np.arange(1, len(scores) + 1)
    toc = np.cumsum(scores) / rank - scores.mean()
    return toc.mean(), (toc * rank / len(scores)).mean()


def test_four_voters_worked_by_hand() -> None:
    """Served in the order 6, 2, 0, 0: TOC 4, 2, 2/3, 0; mean 5/3, by rank 5/8."""
    found = rate_of(
        np.array([0.0, 6.0, 2.0, 0.0]), np.array([1.0, 4.0, 3.0, 2.0]), np.arange(4)
    )
    assert found.autoc.value == pytest.approx((4 + 2 + 2 / 3) / 4)
    assert found.qini.value == pytest.approx((4 / 4 + 2 * 2 / 4 + 2 / 3 * 3 / 4) / 4)
    by_share = dict(zip(TOC_SHARES, (t.value for t in found.toc), strict=True))
    # a half of four voters is two of them, whose mean is 4
    assert by_share[0.5] == pytest.approx(2.0)


def test_rate_is_its_definition_on_any_ranking() -> None:
    rng = np.random.default_rng(0)
    scores, priority = rng.normal(size=(2, 57))
    found = rate_of(scores, priority, np.arange(57))
    assert (found.autoc.value, found.qini.value) == pytest.approx(
        by_definition(scores, priority)
    )


def test_equals_are_served_in_a_random_order_on_average() -> None:
    rng = np.random.default_rng(1)
    scores, priority = rng.normal(size=30), rng.integers(3, size=30).astype(float)
    found = rate_of(scores, priority, np.arange(30))
    broken = [
        by_definition(scores, priority + 1e-6 * rng.random(30)) for _ in range(4_000)
    ]
    se = np.std(broken, axis=0) / np.sqrt(4_000)
    near = np.abs(np.mean(broken, axis=0) - [found.autoc.value, found.qini.value])
    assert (near < 4 * se).all()
    order, group = ranked(np.array([1.0, 3.0, 1.0]))
    assert order.tolist() == [1, 0, 2]
    assert group.tolist() == [0, 1, 1]


def test_a_ranking_without_differences_has_no_rate_and_no_error() -> None:
    scores = np.random.default_rng(2).normal(size=40)
    found = rate_of(scores, np.zeros(40), np.arange(40))
    assert found.autoc.value == pytest.approx(0, abs=1e-12)
    assert found.qini.value == pytest.approx(0, abs=1e-12)
    assert found.p_value > 0.4
    assert one_sided_p(Interval(0.0, 0.0, 0.0)) == 1.0


def drawn(
    rng: np.random.Generator, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lift x, ranked by x and noise, in couples that share x."""
    household = np.arange(n) // 2
    x = rng.normal(size=n // 2)[household]
    noise = 2 * rng.normal(size=n) + rng.normal(size=n // 2)[household]
    return 0.5 + x + noise, x + 0.7 * rng.normal(size=n), household


def test_the_error_is_that_of_half_samples() -> None:
    """The paper's estimate: halves of the clusters vary as the whole does."""
    rng = np.random.default_rng(3)
    scores, priority, household = drawn(rng, 2_000)
    found = rate_of(scores, priority, household)
    halves = []
    for _ in range(300):
        half = np.zeros(1_000, dtype=bool)
        half[rng.permutation(1_000)[:500]] = True
        mine = half[household]
        halves.append(by_definition(scores[mine], priority[mine]))
    se = np.std(halves, axis=0, ddof=1)
    assert found.autoc.se == pytest.approx(se[0], rel=0.15)
    assert found.qini.se == pytest.approx(se[1], rel=0.15)


def test_intervals_cover_the_true_rate_and_toc() -> None:
    """300 draws; the truth from a million voters, whose error is 1 % of a draw's."""
    rng = np.random.default_rng(4)
    true = rate_of(*drawn(rng, 1_000_000))
    truth = [true.autoc.value, true.qini.value, *(t.value for t in true.toc)]
    assert len(truth) == 2 + len(TOC_SHARES)
    met = []
    for _ in range(300):
        found = rate_of(*drawn(rng, 800))
        intervals = [found.autoc, found.qini, *found.toc]
        met.append(
            [i.low <= t <= i.high for i, t in zip(intervals, truth, strict=True)]
        )
    share = np.mean(met, axis=0)
    assert (np.abs(share - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 300)).all(), share


def test_a_ranking_of_noise_is_found_wanting_no_more_often_than_chance() -> None:
    rng = np.random.default_rng(5)
    p_values = []
    for _ in range(300):
        scores, _, household = drawn(rng, 400)
        p_values.append(rate_of(scores, rng.normal(size=400), household).p_value)
    assert abs(np.mean(np.array(p_values) < 0.05) - 0.05) < 4 * np.sqrt(0.0475 / 300)
