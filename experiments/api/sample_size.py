"""`power`: what a test or a holdout of some size can show."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hustings.experiments.api.arguments import number_of, whole_number
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
        given = outcome
    else:
        given = numbers_of(outcome, "outcome", len(outcome)).std()
    sd = number_of(
        given, "outcome", "a standard deviation above 0, or outcomes that differ",
        lambda x: x > 0,
    )  # fmt: skip
    n_sent = whole_number(n_sent, "n_sent", 1)
    n_control = whole_number(n_control, "n_control", 1)
    n_messages = whole_number(n_messages, "n_messages", 1)
    if lift is not None:
        lift = number_of(lift, "lift", "one that is not 0", lambda x: x != 0)
    household_size = number_of(
        household_size, "household_size", "at least 1", lambda x: x >= 1
    )
    household_correlation = number_of(
        household_correlation, "household_correlation", "one in [0, 1]",
        lambda x: 0 <= x <= 1,
    )  # fmt: skip
    missing_share = number_of(
        missing_share, "missing_share", "one in [0, 1)", lambda x: 0 <= x < 1
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
