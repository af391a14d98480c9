"""`[guardrails.<name>]`: outcomes that no message may harm."""

from typing import Annotated, Literal

from pydantic import Field

from hustings.experiments.declaration.section import Positive, Section, Text
from hustings.training.policy_value.guardrails import Direction


class GuardrailSection(Section):
    """`[guardrails.<name>]`: an outcome that no message may harm.

    A message that is shown to harm it is sent to nobody, or to nobody of the groups of
    `[features] segment` in which it is shown to.

    Attributes:
        outcome: As responses name it: turnout, unsubscribes, complaints.
        direction: Change that harms: "fall", "rise", or "either".
        margin: Smallest harm that matters, in units of the outcome: a message is said
            to do no harm where every harm of this size is ruled out.
        absent: What a delivery without a response means.
        alpha: Chance that it closes anything that harms nobody, over all messages and
            groups; an equal share of .05 without.
        bars_unproven: Whether a message is sent to nobody until it is shown not to harm
            by more than the margin.
    """

    outcome: Text
    direction: Direction
    margin: Positive
    absent: Literal["zero", "missing"]
    alpha: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    bars_unproven: bool = False
