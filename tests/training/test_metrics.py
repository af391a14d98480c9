"""Scores, intervals and checks against hand-worked numbers and planted truth."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from hustings.training.estimators.metrics import (
    Interval,
    aipw_scores,
    area_weights,
    attrition_p_value,
    calibration_slope,
    clustered_mean,
    clustered_means,
    contacted_share,
    ipw_scores,
    permute_within_blocks,
    realised_lift,
    sample_ratio_p_value,
)
from hustings.training.estimators.spend_path import whole_budget_path

HALF = np.full((4, 2), 0.5)


def test_an_interval_is_1_96_standard_errors_wide_on_both_sides() -> None:
    found = Interval.of(2.0, se=1.0)
    assert found.low == pytest.approx(2 - 1.959964, abs=1e-6)
    assert found.high == pytest.approx(2 + 1.959964, abs=1e-6)
    assert found.se == pytest.approx(1.0)
    assert found.as_dict() == {"value": 2.0, "low": found.low, "high": found.high}
    assert found.excludes_zero
    assert Interval.of(-2.0, se=1.0).excludes_zero
    assert not Interval.of(1.9, se=1.0).excludes_zero


def test_scores_of_four_units_worked_by_hand() -> None:
    """Γ_a = μ_a + 1[W = a] (Y − μ_a) / e_a."""
    Y = np.array([1.0, 0.0, 4.0, np.nan])
    mu = np.array([[0.5, 1.0], [0.5, 1.0], [1.0, 2.0], [1.0, 2.0]])
    e = np.array([[0.5, 0.5], [0.5, 0.5], [0.8, 0.2], [0.8, 0.2]])
    found = aipw_scores(Y, np.array([0, 1, 1, 0]), mu, e)
    by_hand = [[0.5 + 0.5 / 0.5, 1.0], [0.5, 1.0 - 1 / 0.5], [1.0, 2 + 2 / 0.2], [1, 2]]
    np.testing.assert_allclose(found, by_hand)
    assert mu[0, 0] == 0.5  # the predictions given are left as they are


def test_a_missing_outcome_is_stood_in_for_by_those_like_it() -> None:
    """The residual of whoever is seen is divided by the chance of being seen too."""
    found = aipw_scores(
        np.array([3.0, np.nan]), np.array([1, 1]), np.ones((2, 2)),
        np.full((2, 2), 0.5), observed_probability=np.array([0.25, 0.25]),
    )  # fmt: skip
    np.testing.assert_allclose(found, [[1, 1 + 2 / 0.5 / 0.25], [1, 1]])


def test_weights_alone_worked_by_hand() -> None:
    """Outcomes 1, 0, 5 less their mean 2, over 0.5, 0.5 and 0.2; nothing elsewhere."""
    Y, arm = np.array([1.0, 0.0, 5.0, np.nan]), np.array([0, 1, 1, 0])
    e = np.array([[0.5, 0.5], [0.5, 0.5], [0.8, 0.2], [0.8, 0.2]])
    by_hand = [[-1 / 0.5, 0], [0, -2 / 0.5], [0, 3 / 0.2], [0, 0]]
    np.testing.assert_allclose(ipw_scores(Y, arm, e), by_hand)
    half_seen = ipw_scores(Y, arm, e, observed_probability=np.full(4, 0.5))
    np.testing.assert_allclose(half_seen, 2 * np.array(by_hand))
    # a shift of all outcomes moves no score
    np.testing.assert_allclose(ipw_scores(Y + 100, arm, e), by_hand)


def test_an_arm_that_could_not_happen_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"propensity 0\.0; expected one above 0"):
        aipw_scores(np.ones(1), np.array([1]), np.ones((1, 2)), np.array([[1.0, 0.0]]))


def test_scores_are_unbiased_however_wrong_the_predictions() -> None:
    """Effects 1 and −0.5 with unequal propensities; μ off by ten and more."""
    rng = np.random.default_rng(5)
    n, e = 200_000, np.array([0.2, 0.7, 0.1])
    x = rng.normal(size=n)
    arm = rng.choice(3, size=n, p=e)
    Y = x + np.array([0.0, 1.0, -0.5])[arm] * (1 + x) + rng.normal(size=n)
    propensities = np.tile(e, (n, 1))
    for mu in (np.zeros((n, 3)), np.column_stack([5 * x, 10 - x, x**2])):
        scores = aipw_scores(Y, arm, mu, propensities)
        for a, effect in ((1, 1.0), (2, -0.5)):
            found = clustered_mean(scores[:, a] - scores[:, 0], np.arange(n))
            assert abs(found.value - effect) < 4 * found.se


def test_the_right_predictions_lower_the_error_and_nothing_else() -> None:
    rng = np.random.default_rng(6)
    n = 20_000
    x, arm = rng.normal(size=n), rng.integers(2, size=n)
    Y = 3 * x + arm + rng.normal(size=n)
    half = np.full((n, 2), 0.5)
    right, wrong = (
        clustered_mean(np.diff(aipw_scores(Y, arm, mu, half))[:, 0], np.arange(n))
        for mu in (np.column_stack([3 * x, 3 * x + 1]), np.zeros((n, 2)))
    )
    # 2 / sqrt(n) is the error of a difference of two halves of unit noise
    assert right.se == pytest.approx(2 / np.sqrt(n), rel=0.05)
    assert wrong.se > 2.5 * right.se
    assert abs(right.value - wrong.value) < 4 * wrong.se


def test_a_clustered_mean_worked_by_hand() -> None:
    """Values 1, 3 | 4, 8: mean 4, cluster sums −4, 4, variance 32 / 16 × 2 / 1."""
    found = clustered_mean(np.array([1.0, 3.0, 4.0, 8.0]), np.array([0, 0, 1, 1]))
    assert found.value == 4
    assert found.se == pytest.approx(2.0)


def test_the_error_over_singletons_is_the_plain_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=50)
    found = clustered_mean(values, np.arange(50))
    assert found.se == pytest.approx(stats.sem(values), rel=1e-12)


def test_codes_that_nobody_has_are_no_clusters() -> None:
    values = np.random.default_rng(0).normal(size=(50, 2))
    plain = clustered_mean(values[:, 0], np.arange(50))
    assert clustered_mean(values[:, 0], 7 * np.arange(50)) == plain
    _, covariance = clustered_means(values, 7 * np.arange(50))
    np.testing.assert_allclose(covariance, np.cov(values.T) / 50)


def test_a_repeated_person_adds_nothing_to_what_is_known() -> None:
    values = np.random.default_rng(1).normal(size=200)
    once = clustered_mean(values, np.arange(200))
    twice = clustered_mean(np.repeat(values, 2), np.repeat(np.arange(200), 2))
    assert twice.se == pytest.approx(once.se)
    means, covariance = clustered_means(
        np.repeat(values, 2)[:, None], np.repeat(np.arange(200), 2)
    )
    assert means[0] == pytest.approx(once.value)
    assert covariance[0, 0] == pytest.approx(once.se**2)


def test_one_cluster_alone_has_no_error() -> None:
    with pytest.raises(ValueError, match="at least 2 clusters, got 1"):
        clustered_mean(np.arange(4.0), np.zeros(4, dtype=np.int64))


def test_a_partial_step_counts_in_expectation() -> None:
    """Two households at cost 2 each, budget 3: the second is half contacted."""
    scores = np.array([[0.0, 4.0], [1.0, 2.0], [0.0, 6.0], [0.0, 8.0]])
    row, allowed = np.array([0, 0, 1, 1]), np.ones((4, 1), dtype=bool)
    path = whole_budget_path(np.array([[9.0], [5.0]]), np.array([2.0]))
    realised = realised_lift(scores, path, row, allowed, 3.0)
    assert realised.tolist() == [4.0, 1.0, 3.0, 4.0]
    assert contacted_share(path, row, allowed, 3.0) == 0.75
    assert realised_lift(scores, path, row, allowed, 0.0).tolist() == [0, 0, 0, 0]
    assert contacted_share(path, row, allowed, 4.0) == 1.0


def test_a_partial_step_leaves_the_option_it_came_from() -> None:
    """From mail (2 for 1) to phone (3 for 3) with half the money: half of each."""
    scores = np.array([[0.0, 10.0, 20.0]])
    path = whole_budget_path(np.array([[2.0, 3.0]]), np.array([1.0, 3.0]))
    row, allowed = np.array([0]), np.ones((1, 2), dtype=bool)
    assert realised_lift(scores, path, row, allowed, 2.0).tolist() == [15.0]
    assert contacted_share(path, row, allowed, 2.0) == 1.0


def test_whoever_may_not_be_sent_an_arm_realises_nothing_of_it() -> None:
    scores, row = np.array([[0.0, 4.0], [0.0, 4.0]]), np.zeros(2, dtype=np.int64)
    allowed = np.array([[True], [False]])
    path = whole_budget_path(np.array([[1.0]]), np.array([2.0]))
    for budget, share in ((2.0, 1.0), (1.0, 0.5)):
        realised = realised_lift(scores, path, row, allowed, budget)
        assert realised.tolist() == [4 * share, 0.0]
        assert contacted_share(path, row, allowed, budget) == share / 2


def test_area_weights_give_the_mean_height_of_a_curve() -> None:
    assert area_weights(np.array([0.0, 1.0, 2.0])).tolist() == [0.25, 0.5, 0.25]
    assert area_weights(np.array([0.0])).tolist() == [1.0]
    spends = np.array([0.0, 0.3, 1.0, 4.0])
    weights = area_weights(spends)
    assert weights.sum() == pytest.approx(1)
    # the line 2 + s over [0, 4] is 4 high on average, whatever the grid
    assert weights @ (2 + spends) == pytest.approx(4)


def test_the_slope_is_that_of_least_squares_with_its_robust_error() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=300)
    y = 3 + 0.7 * x + rng.normal(size=300) * (1 + x**2)
    found = calibration_slope(y[:, None], x[:, None], np.arange(300))
    slope, intercept = np.polyfit(x, y, 1)
    centred, left = x - x.mean(), y - intercept - slope * x
    assert found.value == pytest.approx(slope)
    by_hand = np.sqrt((centred**2 * left**2).sum()) / (centred**2).sum()
    assert found.se == pytest.approx(by_hand)


def test_the_slope_counts_only_what_happens_within_a_message() -> None:
    """Messages far apart in level, and unrelated to anything within."""
    rng = np.random.default_rng(3)
    predicted, realised = rng.normal([0.0, 100.0], size=(2, 4_000, 2))
    found = calibration_slope(realised, predicted, np.arange(4_000))
    assert abs(found.value) < 4 * found.se < 0.1
    half = calibration_slope(realised + 0.5 * predicted, predicted, np.arange(4_000))
    assert abs(half.value - 0.5) < 4 * half.se


def test_a_prediction_without_spread_has_slope_zero() -> None:
    realised = np.random.default_rng(0).normal(size=(10, 2))
    found = calibration_slope(realised, np.ones((10, 2)), np.arange(10))
    assert found == Interval(0.0, 0.0, 0.0)


def test_the_ratio_check_is_pearsons_of_the_units() -> None:
    """Households of two are one draw each: 60, 25, 15 of 100."""
    arm = np.repeat([0, 1, 2], [60, 25, 15])
    e = np.array([0.5, 0.3, 0.2])
    p = stats.chisquare([60, 25, 15], [50, 30, 20]).pvalue
    single = sample_ratio_p_value(arm, np.tile(e, (100, 1)), np.arange(100))
    twos = sample_ratio_p_value(
        np.repeat(arm, 2), np.tile(e, (200, 1)), np.repeat(np.arange(100), 2)
    )
    assert single == pytest.approx(p)
    assert twos == pytest.approx(p)


def test_blocks_with_their_own_probabilities_are_checked_each_and_summed() -> None:
    """All control in one block, none in the other: right in sum, wrong in each."""
    sizes, designs = ((30, 70), (80, 20)), ((0.5, 0.5), (0.6, 0.4))
    arm = np.concatenate([np.repeat([0, 1], s) for s in sizes])
    e = np.repeat(designs, 100, axis=0)
    chi2 = [stats.chisquare(s, 100 * np.array(d)).statistic
            for s, d in zip(sizes, designs, strict=True)]  # fmt: skip
    found = sample_ratio_p_value(arm, e, np.arange(200))
    assert found == pytest.approx(stats.chi2.sf(sum(chi2), 2))
    assert found < 1e-4


def test_an_arm_that_was_not_offered_but_given_is_a_broken_log() -> None:
    e = np.tile([0.5, 0.5, 0.0], (100, 1))
    arm = np.repeat([0, 1], 50)
    assert sample_ratio_p_value(arm, e, np.arange(100)) == 1.0
    arm[0] = 2
    assert sample_ratio_p_value(arm, e, np.arange(100)) == 0.0


def draw_arms(
    rng: np.random.Generator, n: int, designs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Arms of n units in two blocks."""
    e = designs[rng.integers(2, size=n)]
    return (rng.random(n)[:, None] > e.cumsum(axis=1)[:, :-1]).sum(axis=1), e


TWO_DESIGNS = np.array([[0.38, 0.31, 0.31], [0.42, 0.29, 0.29]])


def test_a_sound_randomisation_is_flagged_no_more_often_than_chance() -> None:
    rng = np.random.default_rng(8)
    found = []
    for _ in range(200):
        arm, e = draw_arms(rng, 1_000, TWO_DESIGNS)
        found.append(sample_ratio_p_value(arm, e, np.arange(1_000)))
    assert stats.kstest(found, "uniform").pvalue > 1e-3


def test_a_broken_randomisation_is_flagged() -> None:
    """A twentieth of the controls never entered the log."""
    rng = np.random.default_rng(9)
    arm, e = draw_arms(rng, 50_000, TWO_DESIGNS)
    logged = (arm > 0) | (rng.random(len(arm)) > 0.05)
    n = int(logged.sum())
    assert sample_ratio_p_value(arm[logged], e[logged], np.arange(n)) < 1e-3


def missing(rng: np.random.Generator, share: np.ndarray) -> float:
    """p-value where whole households stay away, by arm."""
    arm, e = draw_arms(rng, 1_500, TWO_DESIGNS)
    observed = rng.random(len(arm)) > share[arm]
    household = np.arange(len(arm))
    twice = [np.repeat(a, 2, axis=0) for a in (observed, arm, e, household)]
    return attrition_p_value(*twice)


def test_equal_attrition_is_flagged_no_more_often_than_chance() -> None:
    rng = np.random.default_rng(10)
    found = [missing(rng, np.full(3, 0.3)) for _ in range(200)]
    assert stats.kstest(found, "uniform").pvalue > 1e-3


def test_attrition_that_depends_on_the_block_alone_is_not_flagged() -> None:
    """A block of many controls answers seldom: arms differ in sum, not in chance."""
    rng = np.random.default_rng(14)
    designs = np.array([[0.8, 0.2], [0.2, 0.8]])
    found = []
    for _ in range(100):
        arm, e = draw_arms(rng, 1_000, designs)
        observed = rng.random(1_000) > np.where(e[:, 0] > 0.5, 0.5, 0.1)
        found.append(attrition_p_value(observed, arm, e, np.arange(1_000)))
    assert stats.kstest(found, "uniform").pvalue > 1e-3


def test_attrition_that_depends_on_the_arm_is_flagged() -> None:
    rng = np.random.default_rng(11)
    assert missing(rng, np.array([0.3, 0.45, 0.3])) < 1e-3
    assert attrition_p_value(
        np.ones(10, dtype=bool), np.zeros(10, dtype=np.int64), np.ones((10, 1)),
        np.arange(10),
    ) == 1.0  # fmt: skip


def test_shuffled_labels_keep_blocks_in_their_numbers_and_households_whole() -> None:
    rng = np.random.default_rng(12)
    size = rng.integers(1, 4, 400)
    drawn = np.repeat(np.arange(400), size)
    block = np.repeat(rng.integers(3, size=400), size)
    arm = np.repeat(rng.integers(4, size=400), size)
    order = rng.permutation(len(drawn))
    drawn, block, arm = drawn[order], block[order], arm[order]
    given = arm.copy()
    shuffled = permute_within_blocks(arm, block, drawn, rng)

    def counts(labels: np.ndarray) -> dict[tuple[int, ...], int]:
        first = np.unique(drawn, return_index=True)[1]
        pairs, n = np.unique(
            np.column_stack([block, labels])[first], axis=0, return_counts=True
        )
        return {tuple(pair): int(k) for pair, k in zip(pairs, n, strict=True)}

    assert counts(shuffled) == counts(arm)
    assert all(len(set(shuffled[drawn == d])) == 1 for d in range(400))
    assert (shuffled != arm).mean() > 0.5
    assert (arm == given).all()


def test_shuffled_labels_of_a_voter_of_two_days_are_those_of_each_day() -> None:
    """The second day offers what the first does not."""
    drawn = np.tile(np.arange(50), 2)
    block = np.repeat([0, 1], 50)
    arm = np.concatenate([np.arange(50) % 2, 2 + np.arange(50) % 2])
    shuffled = permute_within_blocks(arm, block, drawn, np.random.default_rng(13))
    for of_day in (slice(0, 50), slice(50, 100)):
        assert sorted(shuffled[of_day]) == sorted(arm[of_day])
        assert (shuffled[of_day] != arm[of_day]).any()


def policy_gain(rng: np.random.Generator) -> Interval:
    """Half the money on one arm, unit effect x² on x, a wrong μ, couples alike."""
    x = np.repeat(rng.normal(size=150), 2)
    household = np.repeat(np.arange(150), 2)
    arm = np.repeat(rng.integers(2, size=150), 2)
    Y = x + arm * x**2 + np.repeat(rng.normal(size=150), 2) + rng.normal(size=300)
    scores = aipw_scores(Y, arm, np.zeros((300, 2)), np.full((300, 2), 0.5))
    path = whole_budget_path(np.ones((150, 1)), np.ones(1), tie_break=rng.random(150))
    allowed = np.ones((300, 1), dtype=bool)
    realised = realised_lift(scores, path, household, allowed, 75.5)
    return clustered_mean(realised, household)


def covered(draw: Callable[[np.random.Generator], Interval], truth: float) -> float:
    rng = np.random.default_rng(13)
    found = [draw(rng) for _ in range(1_000)]
    return float(np.mean([f.low <= truth <= f.high for f in found]))


def test_intervals_of_a_policys_gain_cover_its_true_gain() -> None:
    """75.5 of 150 households, effect 1 on average; 4 binomial errors of 0.7 %."""
    share = covered(policy_gain, truth=75.5 / 150)
    assert abs(share - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 1_000)
