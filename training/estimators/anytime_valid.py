"""Anytime-valid intervals, e-values, and false discovery control over messages.

An interval that covers in 95 of 100 single looks misses at some look of a month far
oftener. The intervals here cover at all times at once; their e-values bound the share
of false claims over many messages and segments, however these depend on each other.

Source: Robbins (1970); Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2021/2024),
"Time-uniform central limit theory and asymptotic confidence sequences"; Wang & Ramdas
(2022), e-BH; Xu, Wang & Ramdas (2022), e-BY.
"""

import math

import numpy as np
from scipy import optimize, stats

from hustings.features.arrays import Bools, Floats
from hustings.training.estimators.metrics import Interval

ALPHA = 0.05
CLAIMS = 0.05
"""Share of false ones among the claims made, at most, on average."""


def mixture_rate(alpha: float = ALPHA) -> float:
    """Prior variance of the mixture for information 1, as a share of it.

    The boundary is tightest near the horizon with r = 1 / (−2 ln α + ln(1 − 2 ln α)).

    >>> round(mixture_rate(0.05), 3)
    0.126
    """
    spent = -2.0 * math.log(alpha)
    return 1.0 / (spent + math.log(1.0 + spent))


def always_valid_z(information: Floats | float, *, alpha: float = ALPHA) -> Floats:
    """How many standard errors an interval needs to hold at all looks, in place of z.

    √((1 + r/v) ln((v + r) / (r α²))) by Robbins' normal mixture, v the information.

    Args:
        information: Variance gathered so far as a share of that at the declared
            horizon; looking on beyond 1 stays valid, and grows wide slowly.
        alpha: Chance ever to miss.

    >>> always_valid_z(1.0).round(2).tolist()
    3.04
    """
    v = np.asarray(information, dtype=np.float64)
    r = mixture_rate(alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        wide = np.sqrt((1.0 + r / v) * np.log((v + r) / (r * alpha**2)))
    return np.asarray(np.where(v > 0, wide, np.inf))


def always_valid(
    value: float, se: float, *, information: float, alpha: float = ALPHA
) -> Interval:
    """Interval that holds at all looks together.

    Args:
        value: Estimate at this look.
        se: Its standard error.
        information: Gathered so far, as a share of the horizon's.
        alpha: Chance ever to miss.
    """
    reach = float(always_valid_z(information, alpha=alpha)) * se
    return Interval(value, value - reach, value + reach)


def e_values(z: Floats, information: Floats) -> Floats:
    """Evidence against a lift of 0, valid at any look: mean at most 1 if it is 0.

    √(r / (v + r)) exp(z² v / (2 (v + r))); an interval of `always_valid` leaves 0 out
    where it is at least 1 / α.

    Args:
        z: Estimate / standard error, shape (k,).
        information: Shape (k,).
    """
    r = mixture_rate()
    exponent = z**2 * information / (2.0 * (information + r))
    evidence = np.sqrt(r / (information + r)) * np.exp(np.minimum(exponent, 700.0))
    return np.asarray(np.nan_to_num(evidence, nan=0.0))


def always_valid_p(z: float, se: float, *, usual: float, two_sided: bool) -> float:
    """p-value that stays valid however often one looks: 1 over the evidence.

    The evidence mixes over effects of the size that is looked for, N(0, τ²), of the
    harmful side alone where only that harms: with s = τ² / (τ² + se²),

        E = √(1 − s) exp(s z² / 2), times 2 Φ(z √s) on one side.

    Its mean is at most 1 at any look where there is no effect, so that 1 / E falls
    below α at any of them with chance α at most (Robbins 1970; Ville's inequality).

    Args:
        z: Estimate over its standard error, above 0 where it harms.
        se: Standard error, above 0.
        usual: τ, in the unit of `se`; declared before anything is seen.
        two_sided: Whether any change counts.

    >>> round(always_valid_p(3.0, 1.0, usual=3.0, two_sided=False), 4)
    0.0276
    """
    s = usual**2 / (usual**2 + se**2)
    log = 0.5 * math.log1p(-s) + 0.5 * s * z**2
    if not two_sided:
        log += math.log(2.0) + float(stats.norm.logcdf(z * math.sqrt(s)))
    return math.exp(-max(log, 0.0))


def always_valid_reach(
    se: float, *, usual: float, alpha: float, two_sided: bool
) -> float:
    """How many standard errors make `always_valid_p` fall to α.

    Args:
        se: Standard error, above 0.
        usual: See `always_valid_p`.
        alpha: Chance ever to miss.
        two_sided: See `always_valid_p`.

    >>> round(always_valid_reach(1.0, usual=3.0, alpha=0.0276, two_sided=False), 2)
    3.0
    """

    def above(z: float) -> float:
        return always_valid_p(z, se, usual=usual, two_sided=two_sided) - alpha

    most = 2.0
    while above(most) > 0:
        most *= 2.0
    return float(optimize.brentq(above, 0.0, most))


def e_bh(evidence: Floats) -> Bools:
    """Claims to make so that at most a share of them is false on average.

    The largest k such that k of the m e-values are at least m / (k CLAIMS); valid under
    any dependence and at any look.

    Args:
        evidence: Shape (m,).

    >>> e_bh(np.array([100.0, 30.0, 1.0])).tolist()
    [True, True, False]
    """
    m = len(evidence)
    order = np.argsort(-evidence, kind="stable")
    enough = evidence[order] >= m / (CLAIMS * np.arange(1, m + 1))
    n_claims = int(np.flatnonzero(enough)[-1]) + 1 if enough.any() else 0
    claimed = np.zeros(m, dtype=bool)
    claimed[order[:n_claims]] = True
    return claimed


def claimed_alpha(n_claims: int, n_looked_at: int) -> float:
    """Level of the intervals of the claims, so that few of those miss on average.

    CLAIMS × claims / looked at (e-BY): whatever chose the claims.

    >>> claimed_alpha(2, 10)
    0.01
    """
    return CLAIMS * max(n_claims, 1) / n_looked_at
