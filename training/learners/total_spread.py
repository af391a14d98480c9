"""How much lifts may differ between voters beyond what terms are expected to do.

A prior that lets few terms matter is sure of itself where many small effects add up,
and data on few people cannot tell one from the other. So the interval asks a second,
dense model of what the prediction leaves: with G = Φ'Φ of k columns of features,
every coefficient may be a little different from b,

    Φ'L − G b ~ N(G R, G ⊗ S_b),   R ~ N(0, h²/s · A_r),   A_r = r 11' + (1 − r) 1,

s the variance of lift of coefficients of variance 1, so that h is the SD between voters
of what the prediction did not expect, and r what messages share of it. A prediction
that follows the data of message m by d_m parameters (the sum of its shrinkage factors)
leaves the share 1 − d_m / k of their noise: S_b is S so scaled. Its own error is the
posterior variance of its terms, and what R adds stands beside that.

How large h is, is not known: the posterior over a grid of h and r, by their exact
likelihood, says how much is added. Where data say much, h is that of the data; where
they say little, it is open whether voters differ by little or by much.

Sources: Yang et al. (2010) for variance by all terms together; Efron (2004) for what
shrunken estimates leave of the noise; Gelman (2006) for the half-Cauchy prior.
"""

import numpy as np

from hustings.features.arrays import Floats

SHARES = np.array([0.0, 0.0125, 0.025, 0.05, 0.1, 0.2])
"""h as a share of the outcome's SD."""
USUAL_SHARE, NO_SPREAD = 0.05, 0.1
"""Scale of the half-Cauchy prior of h, and the probability that voters do not differ
at all."""
ALIKE = (0.0, 0.5, 0.95)
"""r."""
LEAST_LEFT = 0.05
"""Share of the noise that the data less the prediction hold, at least."""
TELLING = 1e-6
"""Directions of less than this share of the largest one's variance say nothing."""


def _log_prior() -> Floats:
    """Of every share; the grid is even in the logarithm of h, shape (H,)."""
    x = SHARES / USUAL_SHARE
    weight = x / (1.0 + x**2)
    weight *= (1.0 - NO_SPREAD) / weight.sum()
    weight[0] = NO_SPREAD
    return np.asarray(np.log(weight))


def unexpected_variance(
    gram: Floats,
    left: Floats,
    noise: Floats,
    learnt: Floats,
    n: float,
    outcome_sd: float,
) -> Floats:
    """Variance of lift between voters that a prediction does not expect.

    Args:
        gram: G, Φ'Φ of centred features, shape (p, p).
        left: Φ'L less what is predicted of it, shape (p, M).
        noise: S, covariance of a voter's lifts between messages, shape (M, M).
        learnt: Effective number of parameters by which the prediction follows the data
            of each message, below p, shape (M,).
        n: Voters, or the sum of their weights.
        outcome_sd: Standard deviation of the outcome, in the unit of lifts.

    Returns:
        Unit of lifts squared, shape (M,).
    """
    # columns that are turned so that they do not correlate
    values, turn = np.linalg.eigh(gram)
    telling = values > TELLING * values.max(initial=0.0)
    size, turn = values[telling], turn[:, telling]
    if not len(size):
        return np.zeros(len(noise))
    seen = (turn.T @ left) / np.sqrt(size)[:, None]
    share = np.sqrt(np.maximum(1.0 - learnt / len(size), LEAST_LEFT))
    variances, axes = np.linalg.eigh(noise * np.outer(share, share))
    root = axes * np.sqrt(np.maximum(variances, 1e-9 * variances.max()))
    whiten = np.linalg.inv(root)
    log, error = [], []
    for alike in ALIKE:
        same = alike + (1.0 - alike) * np.eye(len(noise))
        shared, mix = np.linalg.eigh(whiten @ same @ whiten.T)
        y, back = seen @ whiten.T @ mix, (root @ mix).T
        for log_prior, of_sd in zip(_log_prior(), SHARES, strict=True):
            h2 = (of_sd * outcome_sd) ** 2
            prior = h2 * n / size.sum() * np.maximum(shared, 0.0)
            total = 1.0 + size[:, None] * prior
            log.append(log_prior - 0.5 * (np.log(total) + y**2 / total).sum())
            doubt = (size @ (prior / total)) @ back**2
            beta = (np.sqrt(size)[:, None] * y * prior / total) @ back
            error.append((doubt + size @ beta**2) / n)
    weight = np.exp(np.array(log) - max(log))
    return np.asarray(weight @ np.array(error) / weight.sum())
