"""`[plan]`: money, time, limits and what is left to chance."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from experiments.spec.section import Positive, Section, Share


class PlanSection(Section):
    """`[plan]`: money, time and what is left to chance."""

    budget_usd: Positive | None = None
    spend_per_voter_usd: Positive | None = None
    start_on: date
    days: Annotated[int, Field(ge=1)]
    capacity_per_day: Annotated[int, Field(ge=1)] | None = None
    holdout_share: Annotated[float, Field(gt=0, lt=1)]
    explore_share: Share = 0.05
    audience: Literal["all", "experiment"] = "all"

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.budget_usd is None) == (self.spend_per_voter_usd is None):
            raise ValueError(
                "expected exactly one of budget_usd and spend_per_voter_usd"
            )
        if self.holdout_share + self.explore_share >= 1:
            raise ValueError("expected holdout_share + explore_share below 1")
        return self
