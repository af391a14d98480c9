"""`[lift]`: due days of outcomes, early outcomes, and the handling of repeats."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hustings.experiments.declaration.section import Section, Text

Days = Annotated[int, Field(ge=0)]


class LiftSection(Section):
    """`[lift]`: how the lift of the campaign's own plans is measured.

    Attributes:
        lag_days: From a decision to the day when its outcome is due.
        due_on: Day when all outcomes are due (an election's), in place of a lag.
        horizon_days: Days with decisions for which daily intervals are tuned; the
            plan's days without.
        repeats: `first`: a lift is that of a voter's first decision, with all that
            followed; `carry_over`: what a second adds is estimated as well.
        surrogate: Outcome that comes earlier; converted only by a link that holds.
        surrogate_lag_days: From a decision to the day when the surrogate is due.
    """

    lag_days: Days = 0
    due_on: date | None = None
    horizon_days: Annotated[int, Field(ge=1)] | None = None
    repeats: Literal["first", "carry_over"] = "first"
    surrogate: Text | None = None
    surrogate_lag_days: Days = 0

    @model_validator(mode="after")
    def _one_due(self) -> Self:
        if self.due_on is not None and self.lag_days:
            raise ValueError("expected lag_days or due_on, got both")
        return self
