"""Power of a test: detectable lift, voters needed, and how much to explore.

Lifts and standard deviations in units of the outcome.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hustings.features.arrays import Floats, Ints
from hustings.training.estimators.anytime_valid import always_valid_z

ALPHA, POWER = 0.05, 0.8
N_DRAWS = 4_000
EPSILONS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
"""Shares of contacts to explore by that are compared."""


@dataclass(frozen=True)
class Noise:
    """How noisy an outcome is, and in what groups.

    Attributes:
        sd: Standard deviation between voters.
        household: Mean number of voters in a household, each counted by its voters
            (Σ m² / Σ m): the size of the household of a random voter.
        icc: Correlation of the outcome of two voters of a household.
        missing: Share of outcomes that never come in.
    """

    sd: float
    household: float = 1.0
    icc: float = 0.0
    missing: float = 0.0

    @property
    def design_effect(self) -> float:
        """How many times the variance grows where households are assigned whole."""
        return 1.0 + (self.household - 1.0) * self.icc

    @property
    def variance(self) -> float:
        """Variance that one voter's outcome adds to the estimate."""
        complete = self.sd**2 * self.design_effect
        return complete / (1.0 - self.missing)


@dataclass(frozen=True)
class ClaimCertainty:
    """Certainty that a claim needs: level, power, number of claims and looks.

    Attributes:
        n_claims: How many lifts are looked at; each alone is held to alpha / n_claims.
        looks: Whether every day is looked at, which widens the interval.
    """

    n_claims: int = 1
    looks: bool = False

    @property
    def critical(self) -> float:
        """Standard errors that an estimate has to be away from 0 at the end."""
        alpha = ALPHA / self.n_claims
        if self.looks:
            return float(always_valid_z(1.0, alpha=alpha))
        return float(stats.norm.isf(alpha / 2))


def lift_se(noise: Noise, n_treated: float, n_control: float) -> float:
    """Standard error of a difference in means, σ √(deff (1/n₁ + 1/n₀)).

    >>> round(lift_se(Noise(1.0), 100, 100), 4)
    0.1414
    """
    return math.sqrt(noise.variance * (1.0 / n_treated + 1.0 / n_control))


def detectable_lift(
    noise: Noise,
    n_treated: float,
    n_control: float,
    certainty: ClaimCertainty | None = None,
) -> float:
    """Smallest lift that is seen with the wanted power.

    (z_{α/2} + z_power) × standard error; with daily looks the boundary at the end
    takes the place of z_{α/2}, and to be seen earlier is a bonus left out.

    Args:
        noise: Of the outcome.
        n_treated: Voters sent the message, outcomes missing or not.
        n_control: Voters compared with.
        certainty: How sure; 5 %, power .8, one look without.

    Source: Lehr (1992); Bloom (1995), "Minimum detectable effects".

    >>> round(detectable_lift(Noise(1.0), 16 / 0.25**2, 16 / 0.25**2), 3)  # Lehr's 16
    0.248
    """
    sure = certainty or ClaimCertainty()
    beyond = float(stats.norm.ppf(POWER))
    return (sure.critical + beyond) * lift_se(noise, n_treated, n_control)


def power_of(
    lift: float,
    noise: Noise,
    n_treated: float,
    n_control: float,
    certainty: ClaimCertainty,
) -> float:
    """Chance that a lift is seen on the right side of 0 at the end."""
    se = lift_se(noise, n_treated, n_control)
    return float(stats.norm.sf(certainty.critical - abs(lift) / se))


def voters_needed(
    lift: float,
    noise: Noise,
    control_share: float,
    certainty: ClaimCertainty | None = None,
) -> int:
    """Voters in both groups together for a lift to be detectable.

    Args:
        lift: To detect.
        noise: Of the outcome.
        control_share: Of all voters, in (0, 1).
        certainty: How sure.

    >>> voters_needed(0.1, Noise(0.7), 0.5)  # 2 × 2 × (1.96 + .84)² × .49 / .01
    1539
    """
    unit = detectable_lift(noise, 1.0 - control_share, control_share, certainty)
    return math.ceil((unit / lift) ** 2)


# --- a gate: one-sided, on a paired difference whose error is known ---


def gate_power(gain: float, se: float, alpha: float) -> float:
    """Chance that a true gain is shown to lie above 0 at a one-sided level.

    Φ(gain / se − z_α).

    Args:
        gain: True gain.
        se: Standard error of its estimate, above 0.
        alpha: One-sided level.

    >>> round(gate_power(0.0, 1.0, 0.025), 3), round(gate_power(2.8, 1.0, 0.025), 2)
    (0.025, 0.8)
    """
    return float(stats.norm.cdf(gain / se - stats.norm.isf(alpha)))


def times_larger(gain: float, se: float, alpha: float) -> float:
    """Times as many voters as a test had for a true gain to be shown with power .8.

    ((z_α + z_power) se / gain)²: the variance of a paired difference falls with the
    number of voters. At most 1 where the test was large enough.

    Args:
        gain: True gain, above 0.
        se: Standard error of the test as it was.
        alpha: One-sided level of the next one.

    >>> round(times_larger(1.0, 1.0, 0.025), 2)  # (1.96 + 0.84)²
    7.85
    """
    needed = float(stats.norm.isf(alpha) + stats.norm.ppf(POWER))
    return (needed * se / gain) ** 2


# --- exploring and exploiting ---


@dataclass(frozen=True)
class Beliefs:
    """Prior of the messages' lifts before the days that remain.

    Attributes:
        mean: Shape (M,).
        covariance: Shape (M, M).
    """

    mean: Floats
    covariance: Floats

    @classmethod
    def exchangeable(cls, n: int, *, mean: float, sd: float) -> "Beliefs":
        """Prior of exchangeable messages."""
        return cls(np.full(n, mean), np.eye(n) * sd**2)


@dataclass(frozen=True)
class HoldoutSplit:
    """One way to divide the days that remain between learning and using.

    Attributes:
        epsilon: Share of the contacts drawn to explore on each exploring day.
        days: Exploring days, from the first; afterwards the best is sent.
        gain: Expected total gain over all days, in outcome units × voters.
        cost: Expected gain given up by exploring, at what was then known.
        learned: Expected gain that exploring added by a better choice, net of cost.
    """

    epsilon: float
    days: int
    gain: float
    cost: float
    learned: float


def best_known(beliefs: Beliefs, noise: Noise, n_of_each: float, seed: int) -> float:
    """Expected lift of the message that will look best, after n voters of each.

    E[max(0, posterior means)]: the posterior mean of a lift, before the data are
    seen, is normal about its prior mean, with the variance that the data take away.
    What looks below nothing is not sent.

    Args:
        beliefs: Before.
        noise: Of the outcome.
        n_of_each: Voters of every message, and as many of nothing.
        seed: Of the draws; the same draws for every n, so that curves are smooth.

    Source: Raiffa & Schlaifer (1961), preposterior analysis.
    """
    if n_of_each <= 0:
        return max(float(beliefs.mean.max()), 0.0)
    m = len(beliefs.mean)
    # all lifts share the control's noise
    S = noise.variance / n_of_each * (np.eye(m) + np.ones((m, m)))
    V = beliefs.covariance
    learnt = V @ np.linalg.solve(V + S, V)
    half = np.random.default_rng(seed).standard_normal((N_DRAWS // 2, m))
    draws = np.concatenate([half, -half]) @ _root(learnt).T + beliefs.mean
    return float(np.maximum(draws.max(axis=1), 0.0).mean())


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def splits(
    beliefs: Beliefs,
    noise: Noise,
    *,
    contacts_per_day: float,
    days: int,
    lag_days: int = 0,
    seed: int = 0,
) -> list[HoldoutSplit]:
    """Expected gain of exploring a share of the contacts for some of the days.

    On every day the best known message goes to who does not explore; an explorer gets
    a message or nothing, all with equal odds. What explorers teach is used once their
    outcomes are in. Only they are counted to teach: what the holdout adds comes on top.

    Args:
        beliefs: Of the messages' lifts.
        noise: Of the outcome.
        contacts_per_day: What money and channels allow.
        days: That remain.
        lag_days: From a contact to its outcome, 0 for the next day.
        seed: Of the draws.

    Returns:
        All splits, by share and days.
    """
    m = len(beliefs.mean)
    # an even draw over messages and nothing: what it gains while it lasts
    drawn = float(beliefs.mean.sum()) / (m + 1)
    at_once = max(float(beliefs.mean.max()), 0.0) * contacts_per_day * days
    compared = []
    for epsilon in EPSILONS:
        of_each = epsilon * contacts_per_day / (m + 1)
        lift = [best_known(beliefs, noise, of_each * k, seed) for k in range(days + 1)]
        for k in range(days + 1) if epsilon else (0,):
            best_lift = [lift[min(max(t - lag_days, 0), k)] for t in range(days)]
            share = np.where(np.arange(days) < k, epsilon, 0.0)
            cost = contacts_per_day * float(share @ (np.array(best_lift) - drawn))
            gain = contacts_per_day * float(np.sum(best_lift)) - cost
            compared.append(HoldoutSplit(epsilon, k, gain, cost, gain - at_once))
    return compared


def best_split(compared: list[HoldoutSplit]) -> HoldoutSplit:
    """The split with the largest expected gain, the least exploring among equals."""
    return max(compared, key=lambda s: (round(s.gain, 9), -s.epsilon * s.days))


def first_wave(
    beliefs: Beliefs,
    noise: Noise,
    *,
    n_audience: int,
    sizes: Ints,
    seed: int = 0,
) -> HoldoutSplit:
    """How many voters to draw for the first randomised wave of a cold start.

    The rest of the audience gets what then looks best: the wave's size is where one
    more voter in it teaches no more than it gives up.

    Args:
        beliefs: Of the messages' lifts, from priors.
        noise: Of the outcome.
        n_audience: Voters whom the campaign will contact in all.
        sizes: Of the wave, to compare, each at most n_audience.
        seed: Of the draws.

    Returns:
        The best, `epsilon` being the wave's share of the audience.
    """
    m = len(beliefs.mean)
    drawn = float(beliefs.mean.sum()) / (m + 1)
    at_once = max(float(beliefs.mean.max()), 0.0) * n_audience
    compared = []
    for n in sizes:
        lift = best_known(beliefs, noise, n / (m + 1), seed)
        gain = (n_audience - n) * lift + n * drawn
        cost = n * (lift - drawn)
        compared.append(HoldoutSplit(n / n_audience, 1, gain, cost, gain - at_once))
    return best_split(compared)
