"""Policies that can be delivered: each closes options, or says what they are worth.

A policy is chosen once, on training data, judged under the limits of the plan, and then
delivered as it was judged: the same function is applied to the voters of a test and to
the voters of a plan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from hustings.features.arrays import Bools, Floats
from hustings.features.training_set import Arm

PERSONALISED, SINGLE_BEST, NOBODY = "personalised", "single_best", "nobody"


class Options(NamedTuple):
    """What voters may be sent, and what that is worth.

    Attributes:
        value: Worth of every arm, shape (n, A).
        allowed: Who may get which arm, shape (n, A).
    """

    value: Floats
    allowed: Bools


@dataclass(frozen=True)
class Policy:
    """One policy with what was chosen for it.

    Attributes:
        name: Such as "personalised" or "single_best".
        messages: Messages that it sends; None for all. Others are worth nothing there.
    """

    name: str
    messages: tuple[str, ...] | None = None

    def of(self, options: Options, arms: Sequence[Arm]) -> Options:
        """The options that the policy leaves.

        Args:
            options: Of n voters.
            arms: Length A.

        Worked example: four voters, messages trade and tax by mail; the policy
        `Policy("single_best", ("trade",))` leaves all four trade and nobody tax.
        """
        if self.name == NOBODY:
            return options._replace(allowed=np.zeros_like(options.allowed))
        if self.messages is None:
            return options
        is_sent = np.array([arm.message_id in self.messages for arm in arms])
        return options._replace(allowed=options.allowed & is_sent)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        messages = None if self.messages is None else list(self.messages)
        return {"name": self.name, "messages": messages}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """From what `to_json` gave."""
        messages = stored["messages"]
        return cls(stored["name"], None if messages is None else tuple(messages))
