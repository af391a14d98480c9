"""How channels multiply what messages do, from the arms of one test together.

The mean lift of arm a, message m(a) by channel c(a), is

    y = K(κ) θ + noise,   noise ~ N(0, Σ),   K_am = κ_c(a) for m = m(a), else 0

with the full covariance Σ of the arms, which share controls. Effects of messages are
θ ~ N(0, s² (I + 11') / 2) and multipliers κ ~ N(1, τ²), 1 on average over the design;
τ is half-Cauchy and s as large as the lifts suggest. θ, s and τ are integrated out: a
message's effect is as uncertain as it is, so noise in it makes no channel look weak,
and how far channels differ is not taken for known. κ is what is left, by importance
sampling around its mode.

Sources: Gelman (2006) for the half-Cauchy; Geweke (1989) for the sampling.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import ndtri
from scipy.stats import chi2, qmc

from hustings.features.arrays import Floats, Ints

USUAL_SPREAD = 0.75
"""Scale of the half-Cauchy: wide, so that few channels are not pulled together."""
LARGEST_SPREAD = 3.0
SPREADS = USUAL_SPREAD * np.tan(
    np.linspace(0.0, np.arctan(LARGEST_SPREAD / USUAL_SPREAD), 26)[1:]
)
"""Values of τ of the same probability, up to `LARGEST_SPREAD`."""
EFFECT_SIZES = np.geomspace(0.1, 4.0, 12)
"""Values of s, as shares of the root mean square of the lifts."""
N_DRAWS_LOG2 = 10
DEGREES = 5.0
"""Of freedom of the t distribution that draws come from: its tails are the heavier."""
WIDER = 1.2
ROUNDS = 2


class Multipliers(NamedTuple):
    """Posterior of the multipliers.

    Attributes:
        mean: Shape (C,).
        se: Standard deviation, shape (C,).
    """

    mean: Floats
    se: Floats


def channel_multipliers(
    lift: Floats, covariance: Floats, message: Ints, channel: Ints, weight: Floats
) -> Multipliers:
    """How many times the average channel's lift each channel brings.

    Args:
        lift: Mean lift of A measured arms, shape (A,).
        covariance: Of these means, shape (A, A).
        message: Code of the message of every arm, from 0, shape (A,).
        channel: Code of its channel, from 0, shape (A,).
        weight: Share of every channel in the design; a channel without a measured arm
            is as the others are; shape (C,).
    """
    n_channels = len(weight)
    size = float(np.sqrt(np.mean(lift**2))) if len(lift) else 0.0
    if n_channels == 1 or not size > 0:
        return Multipliers(np.ones(n_channels), np.zeros(n_channels))
    # directions in which the average over the design stays 1
    basis = np.linalg.svd(weight[None] / weight.sum())[2][1:]
    likelihood = _log_likelihood(lift / size, covariance / size**2, message)

    def log_posterior(z: Floats) -> Floats:
        kappa = 1.0 + z @ basis
        return likelihood(kappa[:, channel]) + _log_prior(z)

    z, log_weight = _sampled(log_posterior, n_channels - 1)
    share = np.exp(log_weight - _log_sum(log_weight))
    kappa = 1.0 + z @ basis
    mean = share @ kappa
    return Multipliers(mean, np.sqrt(share @ (kappa - mean) ** 2))


def _log_likelihood(
    lift: Floats, covariance: Floats, message: Ints
) -> Callable[[Floats], Floats]:
    """Log density of the lifts by the multiplier of every arm, (k, A) → (k,)."""
    precision = np.linalg.pinv(covariance, hermitian=True)
    member = (message[:, None] == np.unique(message)).astype(np.float64)
    n_messages = member.shape[1]
    prior = (np.eye(n_messages) + 1.0) / 2
    # of the effects, in the coordinates in which their prior is s² I
    of_effect = member @ np.linalg.cholesky(prior)
    variances = EFFECT_SIZES**2

    def log_likelihood(kappa: Floats) -> Floats:
        design = kappa[:, :, None] * of_effect
        weighted = design.transpose(0, 2, 1) @ precision
        values, vectors = np.linalg.eigh(weighted @ design)
        along = np.einsum("kam,ka->km", vectors, weighted @ lift)
        inner = 1.0 + np.maximum(values, 0.0)[:, None] * variances[:, None]
        explained = variances[:, None] * along[:, None] ** 2 / inner
        by_size = 0.5 * (explained - np.log(inner)).sum(axis=2)
        return np.asarray(_log_sum(by_size))

    return log_likelihood


def _log_sum(logs: Floats) -> Floats:
    """Log of the sum over the last axis of what has these logs."""
    most = logs.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(logs - most).sum(axis=-1)) + most[..., 0])


def _log_prior(z: Floats) -> Floats:
    """Log density of differences between channels, τ integrated out, (k, d) → (k,)."""
    squared = (z**2).sum(axis=1)[:, None]
    by_spread = -0.5 * squared / SPREADS**2 - z.shape[1] * np.log(SPREADS)
    return np.asarray(_log_sum(by_spread))


def _sampled(log_density: Callable[[Floats], Floats], d: int) -> tuple[Floats, Floats]:
    """Draws around the mode of a density, and their log importance weights.

    Args:
        log_density: Of k points, (k, d) → (k,), but for a constant.
        d: Dimensions.
    """
    mode = minimize(lambda z: -float(log_density(z[None])[0]), np.zeros(d))
    centre = mode.x
    covariance = np.linalg.pinv(_curvature(log_density, centre))
    uniform = qmc.Sobol(d + 1, seed=0).random_base2(N_DRAWS_LOG2)
    standard = _t_draws(np.clip(uniform, 1e-9, 1 - 1e-9))
    for last in range(ROUNDS):
        root = WIDER * np.linalg.cholesky(covariance + 1e-12 * np.eye(d))
        z = centre + standard @ root.T
        log_proposal = (
            -0.5 * (DEGREES + d) * np.log1p((standard**2).sum(axis=1) / DEGREES)
        )
        log_weight = log_density(z) - log_proposal
        if last == ROUNDS - 1:
            break
        share = np.exp(log_weight - _log_sum(log_weight))
        centre = share @ z
        covariance = (share * (z - centre).T) @ (z - centre)
    return z, log_weight


def _t_draws(uniform: Floats) -> Floats:
    """Draws of the standard multivariate t distribution, shape (k, d)."""
    scale = np.sqrt(DEGREES / chi2.ppf(uniform[:, -1], DEGREES))
    return np.asarray(ndtri(uniform[:, :-1]) * scale[:, None])


def _curvature(log_density: Callable[[Floats], Floats], at: Floats) -> Floats:
    """Negative second derivatives of a log density, made positive, (d, d)."""
    d, step = len(at), 1e-3
    steps = step * np.eye(d)
    points = [at + i + j for i in (*steps, *-steps) for j in (*steps, *-steps)]
    value = log_density(np.array(points)).reshape(2 * d, 2 * d)
    plus, minus = slice(None, d), slice(d, None)
    second = (
        value[plus, plus]
        - value[plus, minus]
        - value[minus, plus]
        + value[minus, minus]
    ) / (4 * step**2)
    values, vectors = np.linalg.eigh(-(second + second.T) / 2)
    # never flatter than the prior may be
    values = np.maximum(values, 1.0 / LARGEST_SPREAD**2)
    return np.asarray((vectors * values) @ vectors.T)
