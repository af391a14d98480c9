"""Average effects: shrunken as far as they are uncertain, unbiased by who answers."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hustings.training.estimators.metrics import clustered_mean
from hustings.training.learners.average_effects import (
    average_effects,
    fit_nuisances,
    shrink,
    towards_nothing,
)
from hustings.training.learners.boosting import binned


def test_three_equal_errors_worked_by_hand() -> None:
    """0, 3, 6 with variance 1: between-variance 18 / 2 − 1 = 8, so 8/9 is kept.

    Posterior variance 8 − 64/9, plus (1/9)² of the mean's own 9/3.
    """
    mean, sd = shrink(np.array([0.0, 3.0, 6.0]), np.eye(3), ["a"] * 3)
    np.testing.assert_allclose(mean, [1 / 3, 3, 17 / 3])
    np.testing.assert_allclose(sd**2, 25 / 27)


def test_groups_are_shrunken_each_and_small_ones_left_alone() -> None:
    """Group a as in the hand-worked case, far from b; c has too few members."""
    estimate = np.array([0.0, 100.0, 3.0, 103.0, 6.0, 106.0, 50.0, 70.0])
    groups = ["a", "b", "a", "b", "a", "b", "c", "c"]
    mean, sd = shrink(estimate, np.eye(8), groups)
    np.testing.assert_allclose(mean[[0, 2, 4]], [1 / 3, 3, 17 / 3])
    np.testing.assert_allclose(mean[[1, 3, 5]], [100 + 1 / 3, 103, 105 + 2 / 3])
    np.testing.assert_array_equal(mean[6:], [50, 70])
    np.testing.assert_array_equal(sd[6:], [1, 1])


@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0])
def test_a_message_alone_is_shrunken_towards_nothing_and_its_interval_covers(
    noise: float,
) -> None:
    """Effects of the usual size, measured once: the posterior errs less and covers."""
    rng = np.random.default_rng(7)
    truth = rng.normal(size=1_000)
    estimate = truth + noise * rng.normal(size=1_000)
    posterior = [towards_nothing(e, noise, 1.0) for e in estimate]
    mean, sd = np.array(posterior).T
    assert ((mean - truth) ** 2).mean() < ((estimate - truth) ** 2).mean()
    assert (np.abs(mean) <= np.abs(estimate)).all()
    assert (np.abs(mean - truth) < 1.96 * sd).mean() > 0.93


def test_two_messages_are_shrunken_where_their_usual_size_is_known() -> None:
    """One of few people and one of many; a declared prior leaves the estimate alone."""
    estimate, covariance = np.array([6.0, 2.0]), np.diag([49.0, 0.01])
    usual = np.array([1.0, 1.0])
    mean, sd = shrink(estimate, covariance, ["", ""], prior_scale=usual)
    assert 0 < mean[0] < 1
    assert mean[1] == pytest.approx(2.0, abs=0.02)
    assert sd[1] == pytest.approx(0.1, abs=0.005)
    infinite = np.array([np.inf, np.inf])
    mean, sd = shrink(estimate, covariance, ["", ""], prior_scale=infinite)
    np.testing.assert_array_equal(mean, estimate)
    np.testing.assert_array_equal(sd, [7.0, 0.1])
    # far beyond everything usual: nothing underflows
    assert towards_nothing(1e6, 1.0, 1.0)[0] == pytest.approx(1e6, rel=0.01)


def test_a_noisier_estimate_moves_further_to_the_mean() -> None:
    mean, sd = shrink(np.array([0.0, 0.0, 6.0, 6.0]), np.diag([1, 9, 1, 9]), ["a"] * 4)
    assert 0 < mean[0] < mean[1] < mean[3] < mean[2] < 6
    assert sd[1] > sd[0]


def test_equal_estimates_stay_where_they_are() -> None:
    mean, _ = shrink(np.full(4, 2.0), np.eye(4) + 0.5, ["a"] * 4)
    np.testing.assert_allclose(mean, 2.0)


def many_experiments(
    spread: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, estimate, shrunken and its SD of 2,000 experiments with 8 messages.

    Estimates share the noise of their controls.
    """
    rng = np.random.default_rng(seed)
    covariance = 0.6 * np.eye(8) + 0.4
    truth = 2 + spread * rng.normal(size=(2_000, 8))
    noise = rng.multivariate_normal(np.zeros(8), covariance, size=2_000)
    found = [shrink(t, covariance, ["a"] * 8) for t in truth + noise]
    mean, sd = (np.array(x) for x in zip(*found, strict=True))
    return truth, truth + noise, mean, sd


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_shrinking_lowers_the_error_and_the_winners_curse(spread: float) -> None:
    truth, estimate, shrunken, _ = many_experiments(spread)
    assert ((shrunken - truth) ** 2).mean() < 0.95 * ((estimate - truth) ** 2).mean()
    experiments = np.arange(len(truth))

    def curse(found: np.ndarray) -> float:
        best = found.argmax(axis=1)
        return float((found - truth)[experiments, best].mean())

    assert curse(estimate) > 0.4
    assert abs(curse(shrunken)) < 0.35 * curse(estimate)


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_posterior_intervals_cover_the_truth(spread: float) -> None:
    truth, _, mean, sd = many_experiments(spread)
    covered = (np.abs(truth - mean) < 1.96 * sd).mean()
    # the spread between messages is estimated from eight of them
    assert 0.90 < covered < 0.98


CHANNELS = {"mail": 1.0, "sms": 0.4, "phone": 1.6}
FLAT_LIFTS = np.array([3.0, 4.0, 5.0])


def test_channel_multipliers_are_recovered(planted: Callable) -> None:
    rng = np.random.default_rng(1)
    test, _ = planted(
        rng, n_households=6_000, lift=lambda X: np.tile(FLAT_LIFTS, (len(X), 1)),
        channels=CHANNELS,
    )  # fmt: skip
    issues = dict.fromkeys(test.messages, "one issue")
    nuisances = fit_nuisances(test, binned(test.X, []), issues, seed=1)
    effects = nuisances.effects
    # the design draws every channel alike, so the average multiplier is 1
    np.testing.assert_allclose(effects.raw, FLAT_LIFTS, atol=4 * effects.raw_se.max())
    assert (np.abs(effects.channel - [1.0, 0.4, 1.6]) < 4 * effects.channel_se).all()
    assert effects.channel_se.max() < 0.05
    lift = np.tile(effects.shrunken, (2, 1))
    values = nuisances.option_values(lift, test.arms)
    for a, arm in enumerate(test.arms):
        true = CHANNELS[arm.channel] * FLAT_LIFTS[test.message_of_arm[a + 1] - 1]
        assert values[0, a] == pytest.approx(true, rel=0.1)


def test_where_messages_do_nothing_channels_are_taken_alike(planted: Callable) -> None:
    test, _ = planted(
        np.random.default_rng(2), n_households=2_000, channels=CHANNELS
    )  # fmt: skip
    issues = dict.fromkeys(test.messages, "one issue")
    effects = fit_nuisances(test, binned(test.X, []), issues, seed=1).effects
    error = np.maximum(effects.channel_se, 0.05)
    assert (np.abs(effects.channel - 1) < 4 * error).all()


def test_an_arm_that_nobody_was_sent_says_nothing_of_its_channel(
    planted: Callable,
) -> None:
    test, _ = planted(
        np.random.default_rng(2), n_households=1_000, channels=CHANNELS,
        lift=lambda X: np.tile(FLAT_LIFTS[:2], (len(X), 1)),
    )  # fmt: skip
    test = test.take(test.arm != 3)
    issues = dict.fromkeys(test.messages, "one issue")
    effects = fit_nuisances(test, binned(test.X, []), issues, seed=1).effects
    assert np.isfinite(effects.channel).all()
    assert effects.channel[1] < effects.channel[0] < effects.channel[2]


def steep(X: np.ndarray) -> np.ndarray:
    """Average effect 0, and ±2 where x is ±1."""
    return np.column_stack([2 * X[:, 0], -X[:, 0]])


def test_scores_undo_that_those_moved_most_answer_most(planted: Callable) -> None:
    """Outcomes missing at random given x: who is moved up answers, so who answered
    looks moved by about a point on average, and the doubly robust mean does not.
    """
    rng = np.random.default_rng(3)
    test, true = planted(rng, n_households=12_000, lift=steep)
    chance = 1 / (1 + np.exp(-2 * test.X[:, 0].astype(float)))
    seen = rng.random(len(test.Y)) < 0.1 + 0.85 * chance
    test = replace(test, Y=np.where(seen, test.Y, np.nan))
    issues = dict.fromkeys(test.messages, "one issue")
    nuisances = fit_nuisances(test, binned(test.X, []), issues, seed=1)
    complete = [
        np.nanmean(test.Y[test.arm == a]) - np.nanmean(test.Y[test.arm == 0])
        for a in (1, 2)
    ]
    off = nuisances.effects.raw - true.mean(axis=0)
    assert complete[0] - true[:, 0].mean() > 0.6
    assert (np.abs(off) < 4 * nuisances.effects.raw_se).all()
    assert np.abs(off).max() < 0.15
    again = average_effects(test, nuisances.scores(test), issues)
    np.testing.assert_allclose(again.raw, nuisances.effects.raw)


def test_average_effects_of_the_simulated_campaign_are_the_planted_ones(fitted) -> None:
    effects, truth = fitted.model.nuisances.effects, fitted.truth.mean(axis=0)
    assert (np.abs(effects.raw - truth) < 3 * effects.raw_se).all()
    assert (np.abs(effects.shrunken - truth) < 3 * effects.shrunken_se).all()
    assert effects.raw_se.max() < 0.45
    multiplier = fitted.sample.channels["multiplier"].to_numpy()
    true = multiplier / multiplier.mean()
    error = np.abs(effects.channel - true)
    assert (error < 3 * effects.channel_se).all()


def test_the_error_of_an_effect_is_that_of_its_scores(fitted) -> None:
    nuisances, merged = fitted.model.nuisances, fitted.test.by_message()
    scores = nuisances.scores(merged)
    for m in range(len(nuisances.messages)):
        plain = clustered_mean(scores[:, m + 1] - scores[:, 0], merged.household)
        assert nuisances.effects.raw_se[m] == pytest.approx(plain.se, rel=0.1)


def test_errors_hold_where_clusters_are_drawn(planted: Callable) -> None:
    """Whole precincts are sent one message and share noise: the error must know.

    Forty tests without any effect: the squared ratio of estimate to error averages 1.
    """
    rng = np.random.default_rng(4)
    ratios = []
    for _ in range(40):
        test, _ = planted(
            rng, n_households=600, clusters=60, cluster_noise=1.0, n_features=2
        )
        issues = dict.fromkeys(test.messages, "one issue")
        flat = np.zeros((len(test.Y), 3))
        flat[np.arange(len(test.Y)), test.arm] = (
            test.Y - test.Y.mean()
        ) / test.propensities[np.arange(len(test.Y)), test.arm]
        effects = average_effects(test, flat, issues)
        ratios.extend(effects.raw / effects.raw_se)
    assert np.mean(np.square(ratios)) < 2.0
