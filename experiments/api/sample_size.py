"""`power`: what a test or a holdout of some size can show."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hustings.experiments.api.frames import numbers_of
from hustings.training.measured_lift.power import (
    ClaimCertainty,
    Noise,
    detectable_lift,
    power_of,
    voters_needed,
)


@dataclass(frozen=True)
class ComparisonPower:
    """Power of a comparison; lifts in outcome units.

    Attributes:
        n_sent: Voters who are sent the message.
        n_control: Voters compared with.
        detectable_lift: Smallest lift that is seen in four of five such tests.
        power: Chance that the lift asked about is seen; None where none was.
        n_voters: Voters in both groups that it takes to see that lift in four of five
            tests, at the same shares; None where none was.
    """

    n_sent: int
    n_control: int
    detectable_lift: float
    power: float | None
    n_voters: int | None


def power(
    outcome: Any,
    n_sent: int,
    n_control: int,
    *,
    lift: float | None = None,
    n_messages: int = 1,
    daily_looks: bool = False,
    household_size: float = 1.0,
    household_correlation: float = 0.0,
    missing_share: float = 0.0,
) -> ComparisonPower:
    """Detectable lift, power and sample size, by the formulae of `hustings power`.

    Args:
        outcome: Standard deviation of the outcome, or outcomes of an earlier test.
        n_sent: Voters who are sent the message.
        n_control: Voters held out.
        lift: To be seen, outcome units.
        n_messages: Messages that are claimed about, each against the same controls.
        daily_looks: Whether every day is looked at, which asks for more.
        household_size: Mean size of a random voter's household, drawn whole.
        household_correlation: Of two outcomes of a household.
        missing_share: Share of outcomes that never come in.

    Raises:
        ValueError: If an argument is not as expected.

    >>> power(1.0, 256, 256).detectable_lift < 0.25
    True
    """
    if np.ndim(outcome) == 0:
        sd = float(outcome)
    else:
        sd = float(numbers_of(outcome, "outcome", len(outcome)).std())
    for name, value, least in (
        ("outcome", sd, 0.0), ("n_sent", n_sent, 0), ("n_control", n_control, 0),
    ):  # fmt: skip
        if not (np.isfinite(value) and value > least):
            raise ValueError(f"{name}: expected above 0, got {value}")
    if lift is not None and not (np.isfinite(lift) and lift != 0):
        raise ValueError(f"lift: expected one that is not 0, got {lift}")
    if not (0 <= missing_share < 1 and 0 <= household_correlation <= 1):
        raise ValueError(
            "expected missing_share in [0, 1) and household_correlation in [0, 1], got "
            f"{missing_share} and {household_correlation}"
        )
    if household_size < 1 or n_messages < 1:
        raise ValueError(
            "expected household_size and n_messages of at least 1, got "
            f"{household_size} and {n_messages}"
        )
    noise = Noise(sd, household_size, household_correlation, missing_share)
    sure = ClaimCertainty(n_messages, daily_looks)
    share = n_control / (n_sent + n_control)
    return ComparisonPower(
        n_sent,
        n_control,
        detectable_lift(noise, n_sent, n_control, sure),
        None if lift is None else power_of(lift, noise, n_sent, n_control, sure),
        None if lift is None else voters_needed(abs(lift), noise, share, sure),
    )
