"""`[plan]`: budget, days, limits, holdout and exploration."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from hustings.experiments.declaration.section import (
    Chance,
    Positive,
    Section,
    Share,
    Text,
)
from hustings.features.tables import CHANNELS, NO_CHANNEL
from hustings.training.policy_value.policies import CHAMPION, NAMES, PARTNER

Count = Annotated[int, Field(ge=0)]
Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PlaceChannelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]


class PlanChannelSection(Section):
    """`[plan.channels.<channel>]`: what using a channel at all costs and needs.

    Attributes:
        setup_usd: Fee that is paid once if the channel is used, out of the budget.
        minimum_order: Contacts at least, if it is used.
    """

    setup_usd: Usd = 0.0
    minimum_order: Count = 0


class PlanMessageSection(Section):
    """`[plan.messages.<message>]`: contacts by a message.

    Attributes:
        most: Contacts at most; no limit without.
        least: Contacts at least.
    """

    most: Count | None = None
    least: Count = 0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.most is not None and self.least > self.most:
            raise ValueError(
                f"expected least at or below most, got {self.least} and {self.most}"
            )
        return self


class PlanGroupSection(Section):
    """`[plan.groups.<name>]`: a group of voters, by the values of one column.

    Its share of all contacts lies between two bounds, its contacts below a number.

    Attributes:
        column: Column of the voters.
        values: Values of those who belong to the group.
        low: Least share of all contacts.
        high: Greatest share of all contacts.
        most: Contacts at most; no limit without.
    """

    column: str
    values: Annotated[list[str], Field(min_length=1)]
    low: Chance = 0.0
    high: Chance = 1.0
    most: Count | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(
                f"expected low at or below high, got {self.low} and {self.high}"
            )
        if self.low == 0 and self.high == 1 and self.most is None:
            raise ValueError("expected low, high or most: this group limits nothing")
        return self


class OnlyIn(Section):
    """`[plan.only]`: who may be contacted at all, by the values of one column.

    Attributes:
        column: Column of the voters.
        values: Values of those who may be.
    """

    column: str
    values: Annotated[list[str], Field(min_length=1)]


class PlaceChannel(Section):
    """`[plan.places.channels.<channel>]`: a channel that everybody in a place gets.

    Attributes:
        lift_of: Tested channel of which a share of the lift is expected.
        lift_share: That share: declared, since no test measures the channel.
        usd_per_place: What it costs in a place.
        usd_per_voter: And for every voter of the file who lives there.
        messages: Which may go by it; all that the tested channel carries without.
    """

    lift_of: Text
    lift_share: Annotated[float, Field(gt=0, le=1)]
    usd_per_place: Usd = 0.0
    usd_per_voter: Usd = 0.0
    messages: Annotated[list[Text], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _costs_something(self) -> Self:
        if self.usd_per_place == 0 and self.usd_per_voter == 0:
            raise ValueError("expected usd_per_place or usd_per_voter above 0")
        return self


class PlacesSection(Section):
    """`[plan.places]`: channels that a whole place gets, or nobody in it.

    Attributes:
        column: Column of the voters that is the place: a county, a postcode.
        channels: By name; no channel that addresses persons.
    """

    column: Text
    channels: Annotated[dict[PlaceChannelName, PlaceChannel], Field(min_length=1)]

    @field_validator("channels")
    @classmethod
    def _address_nobody(
        cls, channels: dict[str, PlaceChannel]
    ) -> dict[str, PlaceChannel]:
        persons = sorted(set(channels) & {*CHANNELS, NO_CHANNEL})
        if persons:
            raise ValueError(
                f"expected the name of a channel that addresses no person, got "
                f"{persons[0]!r}; name it by what it is, such as every_door"
            )
        return channels


class PlanSection(Section):
    """`[plan]`: budget, days, limits, holdout and exploration.

    Attributes:
        budget_usd: Money of the whole campaign; this or `spend_per_voter_usd`.
        spend_per_voter_usd: Money for each voter of the file, the holdout included.
        start_on: First day of contacts.
        days: How many days.
        capacity_per_day: Contacts a day by all channels; no limit without.
        holdout_share: Share of the voters who are never contacted; always kept.
        explore_share: Share of the others who get a random arm or nothing.
        audience: Who is planned: `all` the voters, or each `experiment`'s own.
        channels: What using a channel at all costs and needs, by channel.
        messages: Contacts at most and at least, by message.
        groups: Shares and caps of groups of voters, by a name.
        only: Who may be contacted at all; everybody without.
        places: Channels that a whole place gets, or nobody in it.
        minimum_audience: Contacts of a message at least, if it is used at all.
        confidence: Certainty at which a lift is valued; .5 is its mean.
        goal: `most_lift` for the money, or `needed_lift` at the `least_cost`.
        needed_lift: Predicted lift of all contacts together, outcome units.
        block_backlash: Whether a message is kept from segments that it surely repels.
        policy: Which judged policy is planned; the champion's without.
    """

    budget_usd: Positive | None = None
    spend_per_voter_usd: Positive | None = None
    start_on: date
    days: Annotated[int, Field(ge=1)]
    capacity_per_day: Annotated[int, Field(ge=1)] | None = None
    holdout_share: Annotated[float, Field(gt=0, lt=1)]
    explore_share: Share = 0.05
    audience: Literal["all", "experiment"] = "all"
    channels: dict[str, PlanChannelSection] = {}
    messages: dict[str, PlanMessageSection] = {}
    groups: dict[str, PlanGroupSection] = {}
    only: OnlyIn | None = None
    places: PlacesSection | None = None
    minimum_audience: Count = 0
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.5
    goal: Literal["most_lift", "least_cost"] = "most_lift"
    needed_lift: Positive | None = None
    block_backlash: bool = True
    policy: str = CHAMPION

    @field_validator("policy")
    @classmethod
    def _is_a_policy(cls, name: str) -> str:
        if name not in (CHAMPION, *NAMES) and not name.startswith(PARTNER):
            raise ValueError(
                f"expected one of {', '.join((CHAMPION, *NAMES))} or "
                f"{PARTNER}<provider>, got {name!r}"
            )
        return name

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.budget_usd is None) == (self.spend_per_voter_usd is None):
            raise ValueError(
                "expected exactly one of budget_usd and spend_per_voter_usd"
            )
        if self.holdout_share + self.explore_share >= 1:
            raise ValueError("expected holdout_share + explore_share below 1")
        return self

    @model_validator(mode="after")
    def _a_goal_says_how_much(self) -> Self:
        if (self.goal == "least_cost") != (self.needed_lift is not None):
            raise ValueError(
                'expected needed_lift with goal = "least_cost" and only with it: the '
                "predicted lift of all contacts together, in outcome units"
            )
        if self.goal == "least_cost" and self.audience != "all":
            raise ValueError('goal = "least_cost": expected audience = "all"')
        return self

    @model_validator(mode="after")
    def _places_are_of_everybody(self) -> Self:
        if self.places is not None and self.audience != "all":
            raise ValueError(
                'places: expected audience = "all", since a place is everybody in it'
            )
        return self

    @model_validator(mode="after")
    def _minimum_orders_fit(self) -> Self:
        for name, channel_section in self.channels.items():
            if (
                self.budget_usd is not None
                and channel_section.setup_usd > self.budget_usd
            ):
                raise ValueError(
                    f"channels.{name}: expected setup_usd within the budget of "
                    f"{self.budget_usd:,.2f}, got {channel_section.setup_usd:,.2f}"
                )
        return self
