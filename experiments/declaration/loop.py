"""`[loop]`: the daily loop. Budget, days and holdout are declared in `[plan]`."""

from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from hustings.experiments.declaration.section import Positive, Section, Share, Text
from hustings.features.arrays import Bools, Floats, Ints

Days = Annotated[int, Field(ge=0)]
FirstDays = Annotated[int, Field(ge=1)]


class RepeatRule(NamedTuple):
    """How often one voter may be decided, by plans and online alike.

    Attributes:
        contacts_per_voter: Decisions of a voter at most.
        window_days: From a decision to the next; None for never again.
    """

    contacts_per_voter: int
    window_days: int | None

    @classmethod
    def of(cls, loop: "LoopSection | None") -> Self:
        """As `[loop]` declares it; once for the whole campaign without."""
        if loop is None:
            return cls(1, None)
        return cls(loop.contacts_per_voter, loop.window_days)

    def allows(self, n_decisions: Ints, days_since: Ints | Floats) -> Bools:
        """Who may be decided again, shape (n,).

        Args:
            n_decisions: Decisions of each so far, shape (n,).
            days_since: Days from the last one, shape (n,).
        """
        free = n_decisions == 0
        if self.window_days is not None:
            rested = days_since >= self.window_days
            free |= (n_decisions < self.contacts_per_voter) & rested
        return np.asarray(free, dtype=bool)


class LoopSection(Section):
    """`[loop]`: learning, exploring and pacing from day to day.

    A campaign that nothing was tested for begins with a randomised wave: of
    `wave_voters`, or, where that is not given, as large as pays for what is believed of
    the messages (mean and spread of their lifts, SD of the outcome). Without either
    there is no wave: a test came before.

    Attributes:
        channels: By which messages go out.
        learner: `champion`: the registered model of the campaign; `daily`: lifts that
            are learned from the campaign's own record.
        explore: Odds of an arm for a voter who explores: `uniform`, or `thompson`, the
            probability that the arm is the best of the voter's segment.
        explore_share: Share of a day's money and capacities, on the first day after
            the wave.
        explore_half_life_days: After so many days the share is half as large.
        explore_least_share: The share never falls below this.
        explore_floor: Least odds of every allowed arm and of nothing (Thompson).
        wave_voters: Voters of the first wave, those who get nothing included.
        believed_lift: Mean of the messages' lifts, outcome units.
        believed_spread: SD of the messages' lifts about it.
        outcome_sd: SD of the outcome between voters.
        wave_days: Days over which the wave goes out.
        wait_days: Days after the wave on which nothing is sent, until answers are in.
        front_load: Money of a day in parts of an even share of what is left.
        window_days: From a decision to the next of the same voter.
        contacts_per_voter: Decisions of a voter at most.
        repeats: Which decisions teach: a voter's `first`, or `each`.
        learn_from: What the daily learner compares: `design` only voters who had the
            same probabilities, `all` also those whom the plan made differ, by what the
            features say of them. Measured lifts compare by design in either case.
        retrain_every_days: Lifts are learned again after so many days. Without it the
            daily learner learns every day, and the champion on `--retrain` alone.
        gate: `shrinkage`: the daily learner's lifts are shrunken as far as the data
            ask, and personalise from the first day; `verdict`: the plan is untargeted
            until personalising is shown to pay.
        evaluate_every_days: The verdict is asked again after so many days; 7 without.
        outcome_first_days: In a simulated campaign, days from a decision to its
            outcome, at the least.
        outcome_last_days: And at the most.
        answer_share: Share of the voters who answer.
    """

    channels: Annotated[list[Text], Field(min_length=1)]
    learner: Literal["champion", "daily"] = "champion"

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
    retrain_every_days: FirstDays | None = None
    gate: Literal["shrinkage", "verdict"] = "shrinkage"
    evaluate_every_days: FirstDays = 7

    outcome_first_days: Days = 1
    outcome_last_days: FirstDays = 14
    answer_share: Annotated[float, Field(gt=0, le=1)] = 1.0

    @property
    def has_beliefs(self) -> bool:
        """Whether lifts and noise are believed before any test."""
        return self.believed_lift is not None

    @property
    def has_wave(self) -> bool:
        """Whether the campaign begins with a randomised wave."""
        return self.has_beliefs if self.wave_voters is None else self.wave_voters > 0

    @field_validator("explore_floor")
    @classmethod
    def _floor_is_read(cls, floor: float, given: ValidationInfo) -> float:
        if given.data.get("explore") == "uniform":
            raise ValueError(
                "expected no explore_floor where explore is 'uniform', whose odds are "
                "even; set explore = 'thompson', or leave it out"
            )
        return floor

    @field_validator("learn_from", "gate", "evaluate_every_days")
    @classmethod
    def _daily_reads(cls, value: Any, given: ValidationInfo) -> Any:
        if given.data.get("learner") == "champion":
            raise ValueError(
                f"expected no {given.field_name} where learner is 'champion': the "
                "stages learn by design, and their own gate moves the champion; set "
                "learner = 'daily', or leave it out"
            )
        if given.field_name == "evaluate_every_days" and given.data.get("gate") != (
            "verdict"
        ):
            raise ValueError(
                "expected evaluate_every_days only where gate is 'verdict': with "
                "'shrinkage' nothing is evaluated from day to day"
            )
        return value

    @field_validator("repeats")
    @classmethod
    def _repeats_are_read(cls, repeats: str, given: ValidationInfo) -> str:
        several = given.data.get("contacts_per_voter", 1) > 1
        if repeats == "each" and not several:
            raise ValueError(
                "expected repeats = 'each' only where contacts_per_voter is above 1"
            )
        return repeats

    @model_validator(mode="after")
    def _beliefs_together(self) -> Self:
        beliefs = (self.believed_lift, self.believed_spread, self.outcome_sd)
        if len({b is None for b in beliefs}) > 1:
            raise ValueError(
                "expected believed_lift, believed_spread and outcome_sd together: they "
                "say what is believed before any test, and size the first wave where "
                "wave_voters is not given"
            )
        return self

    @model_validator(mode="after")
    def _wave_is_read(self) -> Self:
        idle = sorted({"wave_days", "wait_days"} & self.model_fields_set)
        if idle and not self.has_wave:
            raise ValueError(
                f"expected no {idle[0]} without a first wave; declare wave_voters, or "
                "believed_lift, believed_spread and outcome_sd"
            )
        return self

    @model_validator(mode="after")
    def _champion_learns_from_each(self) -> Self:
        if (
            self.learner == "champion"
            and self.contacts_per_voter > 1
            and self.repeats == "first"
        ):
            raise ValueError(
                "expected repeats = 'each' where learner is 'champion' and "
                "contacts_per_voter is above 1: the stages learn from every contact"
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
