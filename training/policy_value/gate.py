"""The promotion gate: alpha of every attempt, blocking checks, age of the champion."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from scipy import stats

from hustings.training.estimators.metrics import Interval

GATE_ALPHA = 0.025
"""Chance that a campaign ever promotes what is worth nothing, over all its attempts."""
SPLIT_ALPHA = 0.001
"""The same for one split: it is chosen among many, and null data would pass."""
FIRST_SHARE = 6 / math.pi**2
"""1 / Σ 1/k²: what the first attempt may spend of the whole."""
BLOCKING = {
    "sample_ratio": "group sizes are not what the design says",
    "attrition": "outcomes go missing at different rates in different groups",
    "overlap": "chances of some messages are too small to judge by",
    "proxies": "who would be chosen gives away a special category",
}
"""Checks that must hold before anything is promoted, and what a failure means."""


def spent_alpha(attempt: int, *, alpha: float = GATE_ALPHA) -> float:
    """Alpha of the k-th promotion attempt of a campaign.

    α 6 / (π² k²): over any number of attempts the shares sum to at most α, so a
    campaign that looks every day promotes something worth nothing with chance α at
    most, however the looks depend on each other.

    Args:
        attempt: From 1.
        alpha: Of all attempts together.

    Raises:
        ValueError: If the attempt is below 1.

    >>> round(sum(spent_alpha(k) for k in range(1, 100_000)), 4)
    0.025
    """
    if attempt < 1:
        raise ValueError(f"expected an attempt of at least 1, got {attempt}")
    return alpha * FIRST_SHARE / attempt**2


def is_above_zero(interval: Interval, *, alpha: float) -> bool:
    """Whether the one-sided bound of an estimate at level alpha lies above 0."""
    return interval.value > float(stats.norm.isf(alpha)) * interval.se


def blocked_by(checks: Mapping[str, Any]) -> list[str]:
    """Names of the checks that forbid a promotion: what they judge cannot be trusted.

    Args:
        checks: From `evaluate`: by name, each with `ok`.
    """
    return [name for name in BLOCKING if not checks.get(name, {"ok": True})["ok"]]


def is_expired(
    promoted_at: pd.Timestamp, *, now: pd.Timestamp, max_age_days: float | None
) -> bool:
    """Whether a champion is older than a campaign lets it be; None never expires."""
    if max_age_days is None:
        return False
    return bool(now - promoted_at > pd.Timedelta(days=max_age_days))
