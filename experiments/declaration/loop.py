"""`[loop]`: the daily loop. Budget, days and holdout are declared in `[plan]`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hustings.experiments.declaration.section import Positive, Section, Share, Text

Days = Annotated[int, Field(ge=0)]
FirstDays = Annotated[int, Field(ge=1)]


class LoopSection(Section):
    """`[loop]`: learning, exploring and pacing from day to day.

    A campaign without a test begins with a randomised wave: of `wave_voters`, or, where
    that is not given, as large as pays for what is believed of the messages (mean and
    spread of their lifts, SD of the outcome); 0 where a test came before.
    """

    channels: Annotated[list[Text], Field(min_length=1)]

    explore: Literal["uniform", "thompson"] = "uniform"
    explore_share: Share = 0.1
    explore_half_life_days: Positive = 7.0
    explore_least_share: Share = 0.02
    explore_floor: Annotated[float, Field(gt=0, lt=0.5)] = 0.02

    wave_voters: Days | None = None
    believed_lift: float | None = None
    believed_spread: Positive | None = None
    outcome_sd: Positive | None = None
    wave_days: FirstDays = 1
    wait_days: Days = 0
    front_load: Annotated[float, Field(ge=1, le=10)] = 1.0

    window_days: FirstDays | None = None
    contacts_per_voter: FirstDays = 1
    repeats: Literal["first", "each"] = "first"

    learn_from: Literal["design", "all"] = "design"
    retrain_every_days: FirstDays = 1
    gate: Literal["shrinkage", "verdict"] = "shrinkage"
    evaluate_every_days: FirstDays = 7

    outcome_first_days: Days = 1
    outcome_last_days: FirstDays = 14
    answer_share: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _wave_has_a_size(self) -> Self:
        beliefs = (self.believed_lift, self.believed_spread, self.outcome_sd)
        if (self.wave_voters is None) != all(b is not None for b in beliefs):
            raise ValueError(
                "expected wave_voters, or in its place believed_lift, believed_spread "
                "and outcome_sd, by which the first wave is sized"
            )
        return self

    @model_validator(mode="after")
    def _repeats_declared(self) -> Self:
        if (self.window_days is None) != (self.contacts_per_voter == 1):
            raise ValueError(
                "expected window_days (days from one contact to the next) exactly "
                "where contacts_per_voter is above 1, got window_days "
                f"{self.window_days} and contacts_per_voter {self.contacts_per_voter}"
            )
        return self

    @model_validator(mode="after")
    def _exploring_decays(self) -> Self:
        if self.explore_least_share > self.explore_share:
            raise ValueError(
                "expected explore_least_share at or below explore_share, got "
                f"{self.explore_least_share} and {self.explore_share}"
            )
        if self.explore_least_share == 0:
            raise ValueError(
                "expected explore_least_share above 0: without chance nothing that a "
                "day sends could be learnt from"
            )
        return self

    @model_validator(mode="after")
    def _answers_in_order(self) -> Self:
        if self.outcome_first_days > self.outcome_last_days:
            raise ValueError(
                "expected outcome_first_days at or below outcome_last_days, got "
                f"{self.outcome_first_days} and {self.outcome_last_days}"
            )
        return self
