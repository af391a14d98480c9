"""Settings of a plan, and the plan that the optimiser returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd

from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.tables import no_places
from hustings.serving.plan.choose import Chosen
from hustings.serving.plan.constraints import Limits


class ChannelCharges(NamedTuple):
    """Set-up fee and minimum order of using a channel at all.

    Attributes:
        setup_usd: Paid once if it is used.
        minimum_order: Contacts, if it is used.
    """

    setup_usd: float = 0.0
    minimum_order: float = 0.0


@dataclass(frozen=True)
class PlanSettings:
    """Settings of a plan: shares, money, days and limits.

    Attributes:
        salt: Of the campaign: fixes the holdout, person by person, for its duration.
        holdout_share: Never contacted; in (0, 1).
        explore_share: Drawn to get a random arm or nothing.
        budget_usd: Money in all.
        start_on: First day.
        days: How many days.
        capacity: Contacts a day of a channel.
        capacity_per_day: Contacts a day of all channels; None for no limit.
        caps: At most so many contacts by a message.
        floors: At least so many contacts by a message.
        entered: Set-up fee and minimum order of a channel.
        minimum_audience: Contacts of a message if it is used at all.
    """

    salt: str
    holdout_share: float
    explore_share: float
    budget_usd: float
    start_on: pd.Timestamp
    days: int
    capacity: dict[str, float]
    capacity_per_day: float | None
    caps: Mapping[str, float] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)
    entered: Mapping[str, ChannelCharges] = field(default_factory=dict)
    minimum_audience: float = 0.0


class GroupBound(NamedTuple):
    """Limits on a group of voters: a place, an age band, any declared group.

    Attributes:
        name: As a person reads it.
        members: Who belongs to it, shape (n_voters,).
        low: Least share of all contacts.
        high: Greatest share of all contacts.
        most: Contacts at most; None for no limit.
    """

    name: str
    members: Bools
    low: float = 0.0
    high: float = 1.0
    most: float | None = None


@dataclass(frozen=True)
class Plan:
    """Contacts of a plan, and the assignment of every voter.

    Attributes:
        contacts: PLAN.
        assignments: ASSIGNMENTS: everybody in the audience, the holdout included.
        chosen: The plan of those who are neither held out nor exploring, with the
            bound on what any plan could bring them within what the others leave.
        limits: Money, capacities and all other limits, exploration included.
        explored: Probability to explore of a voter who is not held out.
        over_everybody: The optimiser's result over everybody, the holdout included,
            within limits that are larger by as much: its gap is that of the
            optimisation.
        used: What the contacts use of every limit, shape (n_limits,).
        setup_usd: Set-up fees paid, part of the budget.
        closed: Channels and messages that are not used since they would have to be
            paid, or used more, as a whole.
        odds: Probability of every arm for a voter who explores, what is missing to 1
            is that of nothing, shape (n_voters, A).
        row: Row of every voter among those that decide, as `limits` counts them,
            shape (n_voters,).
        places: PLACES: what whole places get, part of the budget; no rows where
            nothing is offered to places.
        places_gap: Share of the bound that the choice of places may fall short of.
    """

    contacts: pd.DataFrame
    assignments: pd.DataFrame
    chosen: Chosen
    limits: Limits
    explored: float
    over_everybody: Chosen
    used: Floats
    setup_usd: float
    closed: tuple[str, ...]
    odds: Floats
    row: Ints
    places: pd.DataFrame = field(default_factory=no_places)
    places_gap: float = 0.0

    def left(self) -> Floats:
        """Remainder of every limit, shape (n_limits,)."""
        return self.limits.most - self.used
