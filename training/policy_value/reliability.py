"""Reliability of predicted probabilities: groups, slope, Brier score and log loss.

A probability (or share of a scale) p̂ is compared with a held-out outcome y in [0, 1].
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logit, xlogy

from hustings.features.arrays import Floats, Ints
from hustings.features.tables import SMALLEST_CELL
from hustings.training.estimators.metrics import Interval, clustered_mean
from hustings.training.learners.response import EDGE, fractional_logit

N_GROUPS = 10


@dataclass(frozen=True)
class ReliabilityGroup:
    """People of similar predictions.

    Attributes:
        predicted: Mean prediction.
        observed: Mean outcome, clustered.
        n: People.
    """

    predicted: float
    observed: Interval
    n: int


@dataclass(frozen=True)
class Reliability:
    """A reliability plot in numbers.

    Attributes:
        groups: By predicted chance, the lowest first.
        slope: Of the outcome's logit on that of the prediction: 1 is calibrated.
        level: Mean prediction less mean outcome.
        ece: Expected calibration error: mean distance of group and diagonal.
        ece_by_chance: What it would be on average if every prediction were right.
        brier: Mean squared error; `brier_base` that of the mean alone.
        log_loss: Mean −log likelihood; `log_loss_base` that of the mean alone.
        n: People.
    """

    groups: tuple[ReliabilityGroup, ...]
    slope: Interval
    level: Interval
    ece: float
    ece_by_chance: float
    brier: float
    brier_base: float
    log_loss: float
    log_loss_base: float
    n: int

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        groups = [
            {"predicted": g.predicted, "observed": g.observed.as_dict(), "n": g.n}
            for g in self.groups
        ]
        plain = {k: v for k, v in vars(self).items() if isinstance(v, float | int)}
        return {
            "groups": groups,
            "slope": self.slope.as_dict(),
            "level": self.level.as_dict(),
            **plain,
        }


def reliability(predicted: Floats, outcome: Floats, cluster: Ints) -> Reliability:
    """Compare predictions with outcomes they did not see.

    Args:
        predicted: In (0, 1), shape (n,).
        outcome: 0/1 or a share, shape (n,).
        cluster: Who shares noise, codes, shape (n,).

    Raises:
        ValueError: If a value is missing.
    """
    if not np.isfinite(predicted).all() or not np.isfinite(outcome).all():
        raise ValueError(
            "expected a prediction and an outcome of everybody; take the observed first"
        )
    groups = _groups(predicted, outcome, cluster)
    p = np.clip(predicted, EDGE / 10, 1 - EDGE / 10)
    base = np.full(len(p), outcome.mean())
    size = np.array([g.n for g in groups], dtype=np.float64)
    share = size / size.sum() if len(size) else size
    miss = np.array([abs(g.predicted - g.observed.value) for g in groups])
    noise = np.array([g.observed.se for g in groups])
    return Reliability(
        groups=groups,
        slope=_slope(p, outcome, cluster),
        level=clustered_mean(predicted - outcome, cluster),
        ece=float(share @ miss),
        # E|N(0, s²)| = s √(2/π)
        ece_by_chance=float(share @ noise * np.sqrt(2 / np.pi)),
        brier=float(np.mean((predicted - outcome) ** 2)),
        brier_base=float(np.mean((base - outcome) ** 2)),
        log_loss=_log_loss(p, outcome),
        log_loss_base=_log_loss(base, outcome),
        n=len(p),
    )


def _groups(
    predicted: Floats, outcome: Floats, cluster: Ints
) -> tuple[ReliabilityGroup, ...]:
    edges = np.quantile(predicted, np.linspace(0, 1, N_GROUPS + 1)[1:-1])
    group = np.searchsorted(np.unique(edges), predicted, side="right")
    groups = []
    for g in np.unique(group):
        at = np.flatnonzero(group == g)
        household = np.unique(cluster[at], return_inverse=True)[1]
        if len(at) < SMALLEST_CELL or household.max() < 1:
            continue
        observed = clustered_mean(outcome[at], household)
        groups.append(ReliabilityGroup(float(predicted[at].mean()), observed, len(at)))
    return tuple(groups)


def _slope(p: Floats, outcome: Floats, cluster: Ints) -> Interval:
    """Cox's (1958) recalibration slope, its error clustered (sandwich)."""
    z = logit(p)
    if np.ptp(z) < 1e-9:
        return Interval(0.0, 0.0, 0.0)
    Z = np.column_stack([np.ones(len(z)), z])
    b = fractional_logit(Z, outcome, np.ones(len(z)))
    mu = 1.0 / (1.0 + np.exp(-Z @ b))
    bread = np.linalg.inv((Z.T * (mu * (1 - mu))) @ Z)
    score = Z * (outcome - mu)[:, None]
    totals = np.column_stack([np.bincount(cluster, column) for column in score.T])
    variance = bread @ totals.T @ totals @ bread
    return Interval.of(float(b[1]), se=float(np.sqrt(variance[1, 1])))


def _log_loss(p: Floats, outcome: Floats) -> float:
    return float(-np.mean(xlogy(outcome, p) + xlogy(1 - outcome, 1 - p)))
