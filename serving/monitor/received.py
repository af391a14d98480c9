"""How well messages are received: good / (good + bad), pooled towards their issue."""

import numpy as np
import pandas as pd
from scipy import stats

from hustings.features.arrays import Floats, Ints, Objects
from hustings.serving.monitor.e_values import (
    ENOUGH_BUCKETS,
    MOST_CLUSTERING,
    spread_moments,
)

WIDEST_BETWEEN = 0.1
"""Correlation of reactions within a message, against its issue, where too few messages
can say: a prior worth 1 / 0.1 − 1 = 9 reactions."""
NARROWEST_BETWEEN = 0.002
"""No prior is worth more than 499 reactions, however similar messages look."""
LEVEL = 0.95


def well_received(good: Floats, bad: Floats, issue: Objects) -> pd.DataFrame:
    """Share of good news among good and bad, with a posterior interval.

    A beta-binomial model. Shares of messages vary about the mean of their issue by the
    correlation rho that all messages show about their issues. The prior of a message
    has the mean of the *other* messages of its issue, and as its spread rho and how
    uncertain that mean is: rho / J + 1 / N for J others, as their sizes let them count,
    with N reactions. Without others it is the mean of all issues, with a wide prior.

    Args:
        good: Effective reactions that are good news, shape (n,).
        bad: Those that are bad news, shape (n,).
        issue: Issue of every message, shape (n,).

    Returns:
        Columns `rate`, `low` and `high` (95 %), in the order given.
    """
    n = good + bad
    codes, n_issues = _coded(issue)
    good_of, n_of, squares_of = (
        np.bincount(codes, v, n_issues)[codes] - v for v in (good, n, n**2)
    )
    overall = (good.sum() - good + 0.5) / (n.sum() - n + 1)
    centre = (good_of + overall) / (n_of + 1)
    rho = _between(good, n, issue)
    n_others = np.maximum(n_of, 1.0)
    spread = rho + rho * squares_of / n_others**2 + 1 / n_others
    spread = np.where(n_of > 0, np.minimum(spread, MOST_CLUSTERING), WIDEST_BETWEEN)
    kappa = 1 / spread - 1
    a, b = good + kappa * centre, bad + kappa * (1 - centre)
    tail = (1 - LEVEL) / 2
    return pd.DataFrame(
        {
            "rate": a / (a + b),
            "low": stats.beta.ppf(tail, a, b),
            "high": stats.beta.ppf(1 - tail, a, b),
        }
    )


def _coded(issue: Objects) -> tuple[Ints, int]:
    codes, names = pd.factorize(issue, use_na_sentinel=False)
    return codes.astype(np.int64), len(names)


def _between(good: Floats, n: Floats, issue: Objects) -> float:
    """Correlation within messages about their issues, over all issues."""
    codes, n_issues = _coded(issue)
    moments = [spread_moments(good[codes == i], n[codes == i]) for i in range(n_issues)]
    excess, per_rho, n_heard = np.sum(moments, axis=0)
    if n_heard - n_issues < ENOUGH_BUCKETS or per_rho <= 0:
        return WIDEST_BETWEEN
    return float(np.clip(excess / per_rho, NARROWEST_BETWEEN, MOST_CLUSTERING))
