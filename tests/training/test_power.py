"""Power by textbook, by simulation; exploring and exploiting by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from hustings.training.measured_lift.power import (
    Beliefs,
    ClaimCertainty,
    Noise,
    best_known,
    best_split,
    detectable_lift,
    first_wave,
    lift_se,
    power_of,
    splits,
    voters_needed,
)


def test_two_equal_groups_need_what_the_textbooks_say() -> None:
    # Cohen (1988), table 2.4.1: d = .2, power .8, two-sided 5 %: 393 in each group
    assert voters_needed(0.2, Noise(1.0), 0.5) / 2 == pytest.approx(393, abs=1)
    # d = .5: 63, by the normal formula (64 by the t)
    assert voters_needed(0.5, Noise(1.0), 0.5) / 2 == pytest.approx(63, abs=1)


def test_households_count_as_fewer_voters() -> None:
    # Donner & Klar (2000): one more for each other member, times the correlation
    pair = Noise(1.0, household=2.0, icc=0.4)
    assert pair.design_effect == pytest.approx(1.4)
    single = voters_needed(0.1, Noise(1.0), 0.5)
    assert voters_needed(0.1, pair, 0.5) == pytest.approx(1.4 * single, abs=2)


def test_the_predicted_power_is_the_simulated_one() -> None:
    noise = Noise(1.0, household=2.0, icc=0.4, missing=0.2)
    n, n_control, asked = 1_200, 400, ClaimCertainty()
    lift = detectable_lift(noise, n - n_control, n_control, asked)
    assert power_of(lift, noise, n - n_control, n_control, asked) == pytest.approx(0.8)
    rng = np.random.default_rng(1)
    seen = 0
    for _ in range(2_000):
        held = np.repeat(rng.permutation(n // 2) < n_control // 2, 2)
        together = np.repeat(rng.standard_normal(n // 2), 2)
        Y = np.sqrt(0.4) * together + np.sqrt(0.6) * rng.standard_normal(n)
        Y = Y + lift * ~held
        met = rng.random(n) > 0.2
        means = [Y[met & side].mean() for side in (~held, held)]
        off = np.where(met, Y - np.where(held, means[1], means[0]), 0.0)
        weight = np.where(held, 1 / (met & held).sum(), 1 / (met & ~held).sum())
        se = math.sqrt(((off * weight).reshape(-1, 2).sum(axis=1) ** 2).sum())
        seen += (means[0] - means[1]) / se > stats.norm.isf(0.025)
    # households half missing correlate less, so the formula is a little careful
    assert seen / 2_000 == pytest.approx(0.8, abs=0.03)


def test_daily_looks_and_many_claims_ask_for_larger_lifts() -> None:
    once, daily = ClaimCertainty(), ClaimCertainty(looks=True)
    many = ClaimCertainty(n_claims=8)
    lifts = [detectable_lift(Noise(1.0), 900, 100, a) for a in (once, many, daily)]
    assert lifts[0] < lifts[1] < lifts[2]
    assert lifts[2] / lifts[0] == pytest.approx((3.036 + 0.842) / 2.802, abs=0.01)


def test_no_split_of_the_same_voters_detects_less_than_halves() -> None:
    found = [detectable_lift(Noise(1.0), 1000 * (1 - h), 1000 * h)
             for h in (0.05, 0.1, 0.2, 0.5)]  # fmt: skip
    assert found == sorted(found, reverse=True)
    assert lift_se(Noise(1.0), 500, 500) < lift_se(Noise(1.0), 900, 100)


def test_the_best_looking_of_messages_by_a_published_constant() -> None:
    # E[max of 2 standard normals] = 1/√π; both are known exactly in the limit
    prior = Beliefs.exchangeable(2, mean=10.0, sd=1.0)
    found = best_known(prior, Noise(1.0), 1e9, seed=1)
    assert found == pytest.approx(10 + 1 / math.sqrt(math.pi), abs=0.03)
    assert best_known(prior, Noise(1.0), 0, seed=1) == 10.0
    assert (
        best_known(Beliefs.exchangeable(2, mean=-1.0, sd=0.1), Noise(1.0), 0, seed=1)
        == 0
    )


def _played(beliefs: Beliefs, noise: Noise, epsilon: float, k: int, days: int) -> float:
    """Mean total gain when the policy is really played, contacts a day 1,000."""
    rng, total, n_months = np.random.default_rng(5), 0.0, 20_000
    m, b = len(beliefs.mean), 1_000
    truth = rng.multivariate_normal(beliefs.mean, beliefs.covariance, n_months)
    n_day = epsilon * b / (m + 1)
    sums, n = np.zeros((n_months, m + 1)), 0.0
    for t in range(days):
        if n:
            estimate = (sums[:, 1:] - sums[:, :1]) / n
            S = noise.variance / n * (np.eye(m) + 1)
            gain = beliefs.covariance @ np.linalg.inv(beliefs.covariance + S)
            post = beliefs.mean + (estimate - beliefs.mean) @ gain.T
        else:
            post = np.tile(beliefs.mean, (n_months, 1))
        best = post.argmax(axis=1)
        lift = np.where(post.max(axis=1) > 0, truth[np.arange(n_months), best], 0)
        share = epsilon if t < k else 0.0
        total += float(b * ((1 - share) * lift + share * truth.sum(1) / (m + 1)).mean())
        if share:
            arms = np.column_stack([np.zeros(n_months), truth])
            noise_of = rng.standard_normal((n_months, m + 1))
            sums += n_day * arms + np.sqrt(n_day * noise.variance) * noise_of
            n += n_day
    return total


@pytest.mark.parametrize(("epsilon", "k"), [(0.1, 3), (0.3, 10), (0.0, 0)])
def test_the_predicted_gain_of_a_split_is_that_of_playing_it(
    epsilon: float, k: int
) -> None:
    beliefs, noise = Beliefs.exchangeable(5, mean=0.5, sd=1.0), Noise(10.0)
    predicted = {
        (s.epsilon, s.days): s.gain
        for s in splits(beliefs, noise, contacts_per_day=1_000, days=10)
    }[epsilon, k]
    played = _played(beliefs, noise, epsilon, k, 10)
    assert predicted == pytest.approx(played, rel=0.03)


def test_more_days_left_are_worth_more_exploring_and_a_last_day_none() -> None:
    beliefs, noise = Beliefs.exchangeable(8, mean=1.0, sd=1.0), Noise(25.0)
    explored = []
    for days in (1, 5, 30):
        best = best_split(splits(beliefs, noise, contacts_per_day=2_000, days=days))
        explored.append(best.epsilon * best.days)
    assert explored[0] == 0
    assert explored[0] < explored[1] < explored[2]


def test_outcomes_after_the_last_day_are_worth_no_exploring() -> None:
    beliefs, noise = Beliefs.exchangeable(8, mean=1.0, sd=1.0), Noise(25.0)
    late = splits(beliefs, noise, contacts_per_day=2_000, days=10, lag_days=60)
    assert best_split(late).epsilon == 0
    assert best_split(late).cost == 0


def test_messages_known_to_be_alike_are_not_tested() -> None:
    known = Beliefs.exchangeable(4, mean=1.0, sd=1e-6)
    wave = first_wave(
        known, Noise(25.0), n_audience=100_000, sizes=np.array([0, 1_000, 5_000])
    )
    assert wave.epsilon == 0
    unknown = Beliefs.exchangeable(4, mean=1.0, sd=1.0)
    wave = first_wave(
        unknown, Noise(25.0), n_audience=100_000,
        sizes=np.array([0, 1_000, 5_000, 20_000, 90_000]),
    )  # fmt: skip
    assert 0 < wave.epsilon < 0.5
    assert wave.learned > 0
