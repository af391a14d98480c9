"""Poststratification of a pretest panel to the voter file, and their overlap.

Respondents of a panel are weighted so that their shared columns have the means and
spreads of the voter file (raking); the share of voters whom no
respondent resembles is reported.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hustings.features.arrays import Floats, Floats32, Ints
from hustings.training.estimators.metrics import Interval, weighted_gram
from hustings.training.learners.priors import transported
from hustings.training.learners.response import LinearColumns, fractional_logit

RIDGE = 1e-3
"""Keeps weights finite where the file lies beyond the panel."""
NEWTON_STEPS = 100
TRIMMED_AT = 20.0
"""No respondent stands for more than this times the average one."""
LEAST_LIKE = 0.005
"""A voter less like the panel than all but this share of it lies outside."""
MEMBERSHIP_PENALTY = 1.0


@dataclass(frozen=True)
class Panel:
    """A randomised pretest.

    Attributes:
        X: Columns that the voter file has too, shape (n, k).
        arm: 0 control, m the m-th message, shape (n,).
        Y: Answer in units of the outcome, shape (n,).
        weight: Survey weight, above 0, shape (n,).
    """

    X: Floats32
    arm: Ints
    Y: Floats
    weight: Floats


@dataclass(frozen=True)
class PanelOverlap:
    """Overlap of a panel with a voter file.

    Attributes:
        n: Respondents.
        effective_n: (Σ w)² / Σ w²: equally weighted ones that would know as much.
        outside_share: Share of the voters whom hardly any respondent resembles.
        worst_gap: Largest difference of a weighted panel mean and the file's, in SDs
            of the file.
    """

    n: int
    effective_n: float
    outside_share: float
    worst_gap: float


@dataclass(frozen=True)
class Poststratified:
    """Effects of a panel as they would be among the voters of the file.

    Attributes:
        weight: Of every respondent, mean 1, shape (n,).
        effect: Of every message, shape (M,).
        se: Its standard error, shape (M,).
        overlap: Overlap of the panel with the file.
    """

    weight: Floats
    effect: Floats
    se: Floats
    overlap: PanelOverlap

    def intervals(self) -> list[Interval]:
        """Interval of every message."""
        return [Interval.of(e, se=s) for e, s in zip(self.effect, self.se, strict=True)]

    def priors(
        self,
        messages: tuple[str, ...],
        source: str,
        *,
        transport: float,
        transport_sd: float,
    ) -> pd.DataFrame:
        """Rows of PRIORS, with a declared transport factor.

        Args:
            messages: In the order of the arms, length M.
            source: Name of the panel.
            transport: Share of the effect that is expected in the field.
            transport_sd: How uncertain that share is.
        """
        return pd.DataFrame(
            {
                "message_id": list(messages),
                "source": source,
                "kind": "panel",
                "effect": self.effect,
                "se": self.se,
                "transport": transport,
                "transport_sd": transport_sd,
                "n": self.overlap.effective_n,
            }
        )

    def field_effect(
        self, *, transport: float, transport_sd: float
    ) -> tuple[Floats, Floats]:
        """Mean and variance of the prior of every message, shape (M,) each."""
        factor, spread = np.full((2, len(self.effect)), [[transport], [transport_sd]])
        return transported(self.effect, self.se, factor, spread)


def poststratified(
    panel: Panel, voters: Floats32, categorical: tuple[int, ...] = ()
) -> Poststratified:
    """Reweight a panel to a voter file and estimate every message's effect.

    Args:
        panel: n respondents.
        voters: The same columns of the voters, shape (n_voters, k).
        categorical: Columns that hold category codes.

    Raises:
        ValueError: If a weight is not above 0, or an arm or the control is empty.
    """
    if not (panel.weight > 0).all():
        raise ValueError(
            f"expected survey weights above 0, got {panel.weight.min()}; leave out who "
            "stands for nobody"
        )
    size = np.bincount(panel.arm)
    if (size < 2).any():
        raise ValueError(
            f"expected at least 2 respondents in every arm, got {size.min()}"
        )
    columns = LinearColumns.of(voters, categorical)
    Z, target = _balanced(columns, panel.X), _balanced(columns, voters)
    weight = raked(Z, panel.weight, target.mean(axis=0))
    means = [_weighted_mean(panel, weight, arm) for arm in range(len(size))]
    effect = np.array([mean - means[0][0] for mean, _ in means[1:]])
    se = np.sqrt([variance + means[0][1] for _, variance in means[1:]])
    return Poststratified(weight, effect, se, _overlap(Z, target, weight))


def _balanced(columns: LinearColumns, X: Floats32) -> Floats:
    """What the weights bring into line: means, spreads, shares of levels."""
    Z = columns.matrix(X)[:, 1:]
    numbers = Z[:, : X.shape[1]]
    return np.column_stack([Z, numbers**2])


def raked(Z: Floats, weight: Floats, target: Floats) -> Floats:
    """Weights near the given ones under which the means of Z are the target's.

    w ∝ weight × exp(z'b), b from the convex dual; of columns of 0 and 1 it is raking.

    Args:
        Z: Shape (n, k).
        weight: To start from, shape (n,).
        target: Shape (k,).

    Returns:
        Mean 1, shape (n,).

    Sources: Deming & Stephan (1940); Hainmueller (2012).
    """
    away, b = Z - target, np.zeros(Z.shape[1])
    share = weight / weight.sum()
    for _ in range(NEWTON_STEPS):
        mean = share @ away
        curvature = weighted_gram(away, share) - np.outer(mean, mean)
        gradient = mean + RIDGE * b
        step = np.linalg.solve(curvature + RIDGE * np.eye(len(b)), gradient)
        step *= min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-300))
        b = b - step
        tilt = np.log(weight) + away @ b
        share = np.exp(tilt - tilt.max())
        share /= share.sum()
        if np.abs(step).max() < 1e-9:
            break
    trimmed = np.minimum(share * len(Z), TRIMMED_AT)
    return np.asarray(trimmed / trimmed.mean(), dtype=np.float64)


def _weighted_mean(panel: Panel, weight: Floats, arm: int) -> tuple[float, float]:
    """Hájek's mean of an arm and its variance."""
    at = panel.arm == arm
    share = weight[at] / weight[at].sum()
    mean = float(share @ panel.Y[at])
    n = int(at.sum())
    variance = float(share**2 @ (panel.Y[at] - mean) ** 2) * n / (n - 1)
    return mean, variance


def _overlap(Z: Floats, target: Floats, weight: Floats) -> PanelOverlap:
    spread = np.where(target.std(axis=0) > 0, target.std(axis=0), 1.0)
    gap = np.abs(np.average(Z, axis=0, weights=weight) - target.mean(axis=0)) / spread
    pooled = np.vstack([Z, target])
    pooled = np.column_stack([np.ones(len(pooled)), pooled])
    inside = np.repeat([1.0, 0.0], [len(Z), len(target)])
    # both weigh the same, however many voters there are
    balance = np.repeat([1.0, len(Z) / len(target)], [len(Z), len(target)])
    b = fractional_logit(pooled, inside, balance, MEMBERSHIP_PENALTY)
    like = pooled @ b
    least = np.quantile(like[: len(Z)], LEAST_LIKE)
    return PanelOverlap(
        n=len(Z),
        effective_n=float(weight.sum() ** 2 / (weight**2).sum()),
        outside_share=float((like[len(Z) :] < least).mean()),
        worst_gap=float(gap.max()),
    )
