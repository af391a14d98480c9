"""Surrogate outcomes: an early outcome for a late one, where the link holds.

A surrogate is worth something only if what a message does to it foretells what the
message does to the outcome. The link is fitted on half of those who have both, and
tried on the randomised contrast of the other half: without passing, a surrogate's lift
is shown as the surrogate's and never converted.

Source: Athey, Chetty, Imbens & Kang (2019), "The surrogate index".
"""

from typing import NamedTuple

import numpy as np

from hustings.features.arrays import Bools, Floats, Ints
from hustings.training.estimators.metrics import Z95, Interval
from hustings.training.measured_lift.adaptive import (
    RIDGE,
    Decisions,
    population_lifts,
    predicted_response,
)

MARGIN = 0.5
"""A link passes where lifts through it are shown to be right within this share."""
MIN_BOTH = 200
"""Fewer people with both outcomes than this try no link."""


class Link(NamedTuple):
    """Link from a surrogate to the outcome, and how well it predicts lifts.

    Attributes:
        intercept: Of the index, in outcome units.
        slope: Outcome units per unit of the surrogate.
        ratio: Lift of the outcome / lift of the index, on those who did not fit the
            link, over all messages; 1 where the surrogate carries the whole effect.
        n: People with both.
        holds: Whether it may convert.
        why: In words.
    """

    intercept: float
    slope: float
    ratio: Interval
    n: int
    holds: bool
    why: str

    def converted(self, lift: Interval) -> Interval:
        """Lift of the outcome that a lift of the index foretells, errors added.

        The error of the link is one of the scale: it grows with the lift and no
        number of people averages it away.

        Raises:
            ValueError: If the link does not hold.
        """
        if not self.holds:
            raise ValueError(f"expected a link that holds, got one where {self.why}")
        return Interval.of(
            lift.value, se=float(np.hypot(lift.se, lift.value * self.ratio.se))
        )


def fit_link(
    decisions: Decisions, surrogate: Floats, X: Floats, half: Bools, fold: Ints
) -> Link:
    """Fit the index on one half, and try it on the other's randomised contrast.

    Args:
        decisions: With the late outcome as `Y`, NaN where it is not in.
        surrogate: NaN where it is not in, shape (n,).
        X: Features, shape (n, p).
        half: Who fits; households stay together, shape (n,).
        fold: For the nuisances, shape (n,).
    """
    has_both = decisions.observed & ~np.isnan(surrogate)
    nothing = Interval(np.nan, -np.inf, np.inf)
    n_both = int(has_both.sum())
    if n_both < MIN_BOTH:
        why = f"only {n_both} people have both outcomes, {MIN_BOTH} are needed"
        return Link(0.0, 0.0, nothing, n_both, holds=False, why=why)
    fits, tries = has_both & half, has_both & ~half
    intercept, slope = _line(surrogate[fits], decisions.Y[fits])
    index = intercept + slope * surrogate[tries]
    ratio = lift_ratio(decisions.take(tries), index, X[tries], fold[tries])
    holds, why = _verdict(ratio)
    return Link(intercept, slope, ratio, n_both, holds=holds, why=why)


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    off = x - x.mean()
    slope = float(off @ y / (off @ off + RIDGE * 1e-6))
    return float(y.mean() - slope * x.mean()), slope


def lift_ratio(decisions: Decisions, index: Floats, X: Floats, fold: Ints) -> Interval:
    """Lift of the outcome / lift of the index over all arms, on the same people.

    Arms are combined by how precisely the index's lift is known times its size: the
    slope through the origin of the one on the other.

    Args:
        decisions: Of those with both.
        index: Surrogate in outcome units, shape (n,).
        X: Features, shape (n, p).
        fold: Shape (n,).
    """
    outcome, through = (
        population_lifts(d, predicted_response(X, d, fold=fold))
        for d in (decisions, _with_outcome(decisions, index))
    )
    gap = population_lifts(
        _with_outcome(decisions, decisions.Y - index),
        predicted_response(
            X, decisions, fold=fold, target=np.asarray(decisions.Y - index)
        ),
    )
    estimable = np.isfinite(outcome.value) & (through.se > 0)
    if not estimable.any():
        return Interval(np.nan, -np.inf, np.inf)
    tau = through.value[estimable]
    # lifts are squared here, which noise makes too large: it is taken off
    signal = np.maximum(tau**2 - through.se[estimable] ** 2, 0.0)
    weight = tau / gap.se[estimable] ** 2
    size = float((signal / gap.se[estimable] ** 2).sum())
    if size <= 0:
        return Interval(np.nan, -np.inf, np.inf)
    off = float(weight @ gap.value[estimable]) / size
    V = gap.covariance[np.ix_(estimable, estimable)]
    return Interval.of(1.0 + off, se=float(np.sqrt(weight @ V @ weight)) / size)


def _with_outcome(decisions: Decisions, Y: Floats) -> Decisions:
    changed = {**vars(decisions), "Y": np.asarray(Y)}
    return Decisions(**changed)


def _verdict(ratio: Interval) -> tuple[bool, str]:
    if not np.isfinite(ratio.low):
        return False, "the messages do nothing measurable to the surrogate"
    said = f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
    if ratio.low > 1.0 or ratio.high < 1.0:
        return False, f"outcome lifts are {said} times those that it foretells, not 1"
    if Z95 * ratio.se > MARGIN:
        return False, f"outcome lifts are {said} times those foretold: not known enough"
    return True, f"outcome lifts are {said} times those foretold"
