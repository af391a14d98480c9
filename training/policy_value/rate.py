"""Rank-weighted average treatment effect (RATE), targeting operator curve (TOC).

TOC(q) is the average lift in the share q of voters ranked first less the average lift
of all. RATE integrates TOC over q: AUTOC with equal weights (sensitive to a small group
with a large lift), Qini with weights q (sensitive to a large group with a small lift).
A ranking without information has RATE 0.

Source: Yadlowsky, Fleming, Shah, Brunskill & Wager (2025), "Evaluating treatment
prioritization rules via rank-weighted average treatment effects", Journal of the
American Statistical Association.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from hustings.features.arrays import Floats, Ints
from hustings.training.estimators.metrics import Interval, clustered_means

TOC_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
WINDOW = 0.05
"""Half the width, as a share of voters, that the lift at a rank is read from."""


class Rate(NamedTuple):
    """How well one message's ranking does, in outcome units.

    Attributes:
        autoc: Area under the TOC curve.
        qini: The same, weighted by the share treated.
        p_value: Of AUTOC not being above 0, one-sided.
        toc: TOC at the asked shares.
    """

    autoc: Interval
    qini: Interval
    p_value: float
    toc: list[Interval]


def rate_of(
    lift_scores: Floats,
    priority: Floats,
    cluster: Ints,
) -> Rate:
    """RATE and TOC of a ranking, with clustered intervals.

    Both are weighted means of the scores whose weights are of the rank. A voter moves
    them by its own score and by shifting the ranks of all below it: its influence
    holds both. (The paper's half-sample bootstrap estimates the same error.)

    Args:
        lift_scores: Γ_m − Γ_0 of voters that the ranking was not learnt from, (n,).
        priority: Higher is served first, shape (n,); equals share their ranks.
        cluster: Codes from 0, shape (n,).

    >>> two = rate_of(np.array([1.0, 3.0]), np.array([0.0, 1.0]), np.arange(2))
    >>> two.autoc.value, two.qini.value
    (0.5, 0.25)
    """
    order, group = ranked(priority)
    scores = lift_scores[order]
    columns = [_autoc(scores, group), _qini(scores, group)]
    columns += [_toc(scores, group, q) for q in TOC_SHARES]
    value = [c.value for c in columns]
    influence: Floats = np.column_stack([c.influence for c in columns])
    _, covariance = clustered_means(influence, cluster[order])
    se = np.sqrt(np.diag(covariance))
    autoc, qini, *toc = (
        Interval.of(v, se=float(s)) for v, s in zip(value, se, strict=True)
    )
    return Rate(autoc, qini, one_sided_p(autoc), toc)


def one_sided_p(interval: Interval) -> float:
    """p-value of "not above 0"; 1 where there is no error to compare with."""
    if interval.se <= 0:
        return 1.0
    return float(stats.norm.sf(interval.value / interval.se))


def ranked(priority: Floats) -> tuple[Ints, Ints]:
    """Order from first to last, and the code of equals, rising, in that order."""
    order = np.argsort(-priority, kind="stable")
    steps = np.diff(priority[order]) != 0
    return order, np.concatenate([[0], np.cumsum(steps)])


class _Estimate(NamedTuple):
    value: float
    influence: Floats


def _shared(values: Floats, group: Ints) -> Floats:
    """Every value replaced by the mean over those of equal priority."""
    mean = np.bincount(group, weights=values) / np.bincount(group)
    shared: Floats = mean[group]
    return shared


def _autoc(scores: Floats, group: Ints) -> _Estimate:
    """Mean of TOC(j / n) over j: linear in the scores.

    With q the rank as a share and m(q) the lift there, a voter of rank q_i shifts the
    others by ∫_0^{q_i} m dq − ∫_{q_i}^1 m (1 − q) / q dq.
    """
    n = len(scores)
    lift = _shared(scores, group)
    q = (np.arange(n) + 0.5) / n
    weight = _shared(_harmonic_tails(n) - 1.0, group)
    above = np.cumsum(lift) / n
    odds = lift * (1 - q) / q / n
    below = odds.sum() - np.cumsum(odds)
    value = float(weight @ scores) / n
    return _Estimate(value, weight * scores + _shared(above - below, group))


def _harmonic_tails(n: int) -> Floats:
    """Σ_{j ≥ i} 1/j for every rank i from 1 to n."""
    tails: Floats = np.cumsum(1.0 / np.arange(n, 0.0, -1.0))[::-1]
    return tails


def _qini(scores: Floats, group: Ints) -> _Estimate:
    """Mean of (j / n) TOC(j / n) over j; the shift is ∫_0^{q_i} m dq."""
    n = len(scores)
    rank = np.arange(1, n + 1)
    weight = _shared((n - rank + 1) / n - (n + 1) / (2 * n), group)
    above = np.cumsum(_shared(scores, group)) / n
    value = float(weight @ scores) / n
    return _Estimate(value, weight * scores + _shared(above, group))


def _toc(scores: Floats, group: Ints, share: float) -> _Estimate:
    """Mean lift of a share ranked first less that of all.

    A voter in the share moves it by its score less the lift at its end, where it
    pushes another one out.
    """
    n = len(scores)
    lift, first = _shared(scores, group), share * n
    # whoever the share ends within counts in part, and equals count alike
    served = _shared(np.clip(first - np.arange(n), 0.0, 1.0), group)
    value = float(served @ scores) / first - float(scores.mean())
    near = np.abs(np.arange(n) + 0.5 - first) <= max(WINDOW * n, 1.0)
    end = float(lift[near].mean()) if share < 1 else 0.0
    return _Estimate(value, served * (scores - end) / share - scores)
