"""The curve by hand, against the mean at each spend, and covering its truth."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from hustings.training.estimators.metrics import (
    Interval,
    aipw_scores,
    clustered_mean,
    realised_lift,
)
from hustings.training.estimators.spend_path import whole_budget_path
from hustings.training.policy_value.qini import QiniCurve, joined_curves, qini_curve

SPENDS = np.linspace(0.0, 2.0, 9)
COST = np.array([1.0, 2.0])
DESIGN = np.array([0.5, 0.3, 0.2])


def curve_of(scores, values, cost, spends, cluster=None) -> QiniCurve:
    """Every voter decides alone and may be sent anything."""
    row = np.arange(len(scores))
    path = whole_budget_path(values, cost)
    allowed = np.ones((len(scores), scores.shape[1] - 1), dtype=bool)
    group = row if cluster is None else cluster
    return qini_curve(scores, path, row, allowed, cost, group, spends)


def test_a_curve_of_four_voters_worked_by_hand() -> None:
    """Served in the order of predicted lift 4, 3, 2, 1 at 1 USD each, lifts 8 4 0 -4.

    Gain a voter: 8/4, then (8 + 4)/4, then the same, then 8/4; the area over [0, 1] is
    the mean of the trapezia, (0 + 2)/2, (2 + 3)/2, (3 + 3)/2, (3 + 2)/2 = 9/4.
    """
    scores = np.array([[0.0, 8.0], [0.0, 4.0], [1.0, 1.0], [0.0, -4.0]])
    found = curve_of(
        scores, np.array([[4.0], [3.0], [2.0], [1.0]]), np.ones(1),
        np.linspace(0, 1, 5),
    )  # fmt: skip
    assert [g.value for g in found.gains] == pytest.approx([0.0, 2.0, 3.0, 3.0, 2.0])
    assert found.area.value == pytest.approx(9 / 4)
    assert found.at(0.5).value == pytest.approx(3.0)
    # whoever is left out at full spend shifts no threshold: the plain standard error
    assert found.at(1.0).se == pytest.approx(stats.sem([8, 4, 0, -4]))


def test_a_share_of_random_people_has_the_plain_error() -> None:
    """One row for all: the money moves nobody's rank, so nothing shifts."""
    rng = np.random.default_rng(0)
    scores = np.column_stack([np.zeros(200), 1 + rng.normal(size=200)])
    path = whole_budget_path(np.array([[200.0]]), np.array([[200.0]]))
    row, allowed = np.zeros(200, dtype=np.int64), np.ones((200, 1), dtype=bool)
    found = qini_curve(
        scores, path, row, allowed, np.ones(1), np.arange(200) // 2, [0, 0.4, 1]
    )
    plain = clustered_mean(0.4 * scores[:, 1], np.arange(200) // 2)
    assert found.at(0.4).value == pytest.approx(plain.value)
    assert found.at(0.4).se == pytest.approx(plain.se)


def test_a_difference_of_two_curves_is_paired() -> None:
    rng = np.random.default_rng(1)
    scores = np.column_stack([np.zeros(300), rng.normal(size=300)])
    values = rng.random((300, 1))
    one = curve_of(scores, values, np.ones(1), SPENDS[:5])
    other = curve_of(scores, 1 - values, np.ones(1), SPENDS[:5])
    apart = one.less(other)
    assert apart.area.value == pytest.approx(one.area.value - other.area.value)
    assert [g.value for g in one.less(one).gains] == [0.0] * 5
    assert one.less(one).area.se == 0
    # both send to everybody at the end: nothing between them, and no doubt of it
    assert apart.at(1.0).value == pytest.approx(0)
    assert apart.at(1.0).se == pytest.approx(0, abs=1e-12)


def test_a_spend_that_was_not_drawn_is_an_error() -> None:
    curve = curve_of(np.ones((4, 2)), np.ones((4, 1)), np.ones(1), [0.0, 1.0])
    with pytest.raises(ValueError, match=r"a spend of the curve, got 0\.3; nearest"):
        curve.at(0.3)
    with pytest.raises(ValueError, match="same clusters and spends"):
        curve.less(curve_of(np.ones((4, 2)), np.ones((4, 1)), np.ones(1), [0, 0.5, 1]))
    with pytest.raises(ValueError, match="at least 2 clusters, got 1"):
        curve_of(np.ones((4, 2)), np.ones((4, 1)), np.ones(1), [0, 1], np.zeros(4, int))


def test_two_halves_of_a_curve_weigh_by_their_voters() -> None:
    rng = np.random.default_rng(2)
    scores, values = rng.normal(size=(90, 2)), rng.random((90, 1))
    cluster = np.arange(90)
    parts = [slice(0, 30), slice(30, 90)]
    halves = [
        curve_of(scores[p], values[p], np.ones(1), SPENDS[:5], cluster[p])
        for p in parts
    ]
    found = joined_curves(halves)
    assert found.n_clusters == found.n_voters == 90
    assert found.at(0.5).value == pytest.approx(
        (halves[0].at(0.5).value + 2 * halves[1].at(0.5).value) / 3
    )
    by_hand = np.sqrt(
        (halves[0].at(0.5).se / 3) ** 2 + (halves[1].at(0.5).se * 2 / 3) ** 2
    )
    assert found.at(0.5).se == pytest.approx(by_hand, rel=0.02)


# --- coverage -------------------------------------------------------------------------


def lifts(x: np.ndarray) -> np.ndarray:
    return np.column_stack([0.3 + 0.5 * x, 0.2 + 1.2 * x])


def believed(x: np.ndarray) -> np.ndarray:
    """A model that shrinks too much: the policy is not the best one."""
    return np.column_stack([0.3 + 0.4 * x, 0.3 + 0.9 * x])


def draw_curves(
    rng: np.random.Generator, n: int = 1_200, design: np.ndarray = DESIGN
) -> tuple[QiniCurve, QiniCurve]:
    """Couples decide together; targeted by what is believed, and a mix at random."""
    household = np.arange(n) // 2
    x = rng.normal(size=n // 2)[household]
    arm = rng.choice(3, size=n // 2, p=design)[household]
    moved = np.where(arm > 0, lifts(x)[np.arange(n), np.maximum(arm - 1, 0)], 0.0)
    Y = x + moved + rng.normal(size=n) + rng.normal(size=n // 2)[household]
    mu = np.column_stack([x, x, x])
    scores = aipw_scores(Y, arm, mu, np.tile(design, (n, 1)))
    allowed = np.ones((n, 2), dtype=bool)
    targeted = whole_budget_path(2 * believed(x[::2]), np.tile(2 * COST, (n // 2, 1)))
    alike = whole_budget_path(n * np.array([[0.3, 0.31]]), n * COST[None])
    one_row = np.zeros(n, dtype=np.int64)
    return (
        qini_curve(scores, targeted, household, allowed, COST, household, SPENDS),
        qini_curve(scores, alike, one_row, allowed, COST, household, SPENDS),
    )


def true_curves(n: int = 400_000) -> tuple[np.ndarray, np.ndarray]:
    x = stats.norm.ppf((np.arange(n) + 0.5) / n)
    truth = np.column_stack([np.zeros(n), lifts(x)])
    allowed, found = np.ones((n, 2), dtype=bool), []
    for values, cost, row in (
        (believed(x), COST, np.arange(n)),
        (n * np.array([[0.3, 0.31]]), n * COST[None], np.zeros(n, dtype=np.int64)),
    ):
        path = whole_budget_path(values, cost)
        found.append(
            [realised_lift(truth, path, row, allowed, s * n).mean() for s in SPENDS]
        )
    return np.array(found[0]), np.array(found[1])


def coverage(
    draw: Callable[[np.random.Generator], list[Interval]], truth: list[float], n: int
) -> np.ndarray:
    """Share of n draws in which each interval holds its truth."""
    rng = np.random.default_rng(3)
    met = [
        [i.low <= t <= i.high for i, t in zip(draw(rng), truth, strict=True)]
        for _ in range(n)
    ]
    return np.mean(met, axis=0)


def gains_and_areas(
    rng: np.random.Generator, n: int = 1_200, design: np.ndarray = DESIGN
) -> list[Interval]:
    targeted, alike = draw_curves(rng, n, design)
    apart = targeted.less(alike)
    return [targeted.at(0.5), targeted.area, apart.at(0.5), apart.area]


def true_gains_and_areas() -> list[float]:
    targeted, alike = true_curves()
    weight = np.full(9, 1 / 8)
    weight[[0, -1]] /= 2
    at = int(np.abs(SPENDS - 0.5).argmin())
    return [
        targeted[at], weight @ targeted,
        targeted[at] - alike[at], weight @ (targeted - alike),
    ]  # fmt: skip


def test_intervals_of_gains_areas_and_differences_cover_their_truth() -> None:
    """300 draws: four binomial errors are 5 %; tests/speed/coverage.md has 2,000."""
    found = coverage(gains_and_areas, true_gains_and_areas(), 300)
    assert (np.abs(found - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 300)).all(), found
