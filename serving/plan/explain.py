"""Explanations of a plan in words: why a message is sent, what a limit costs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hustings.features.arrays import Floats
from hustings.features.training_set import Arm
from hustings.serving.plan.choose import Chosen
from hustings.serving.plan.constraints import SLACK, Limits

MANY = 1_000
"""Contacts by which a report raises a limit of contacts."""


class Binding(NamedTuple):
    """A limit, how far it is used, and what more of it would bring.

    Attributes:
        name: Of the limit.
        most: How much there is; of a floor minus the least.
        left: What is not used.
        price: What one more would bring, outcome units.
        step: Amount that `gain` refers to: 1 USD, or 1,000 contacts.
        gain: What a step more would bring, at most, outcome units.
    """

    name: str
    most: float
    left: float
    price: float
    step: int
    gain: float

    @property
    def binds(self) -> bool:
        """Whether more of it would bring anything."""
        return self.price > 0

    def told(self) -> dict[str, str | float]:
        """As a report shows it; a floor by its least contacts and those it has."""
        at_least = self.most < 0
        return {
            "name": self.name,
            "unit": "USD" if self.step == 1 else "contacts",
            "used": self.left - self.most if at_least else self.most - self.left,
            "most": -self.most if at_least else self.most,
            "price_per_unit": self.price,
            "one_more": self.gain,
            "channel": self.name.removeprefix(BY_CHANNEL)
            if self.name.startswith(BY_CHANNEL)
            else "",
        }


BY_CHANNEL = "contacts by "
"""How the limit of a channel is named."""


def bindings(limits: Limits, chosen: Chosen, left: Floats) -> list[Binding]:
    """Every limit with its price, dearest step first.

    Args:
        limits: Of the plan, money in row 0.
        chosen: With the prices.
        left: What is left of every limit, shape (n_limits,).
    """
    entries = []
    for k, price in enumerate(chosen.price[: len(limits.most)]):
        step = 1 if k == 0 else MANY
        entries.append(
            Binding(
                limits.name_of(k), float(limits.most[k]), float(left[k]),
                float(price), step, float(price) * step,
            )
        )  # fmt: skip
    return sorted(entries, key=lambda b: -b.gain)


def limits_in_words(limits: Sequence[Binding]) -> list[str]:
    """What one more dollar, or 1,000 more contacts, would bring."""
    sentences = []
    for limit in limits:
        if not limit.binds:
            sentences.append(
                f"{limit.name}: not used up; more of it would bring nothing."
            )
            continue
        change = (
            "one dollar more" if limit.step == 1 else f"{limit.step:,} contacts more"
        )
        if limit.most < 0:
            change = f"asking for {limit.step:,} contacts fewer"
        elif limit.most == 0:
            change = f"leaving it {limit.step:,} contacts more room"
        sentences.append(
            f"{limit.name}: {change} would bring up to {limit.gain:,.3g} outcomes."
        )
    return sentences


class Option(NamedTuple):
    """An arm for one voter.

    Attributes:
        arm: The arm.
        lift: What it is predicted to bring, outcome units.
        charges: What it pays at the plan's prices, by limit, above 0.
        left: What is left of the lift then.
        refused: Why it may not be had, None where it may.
    """

    arm: Arm
    lift: float
    charges: tuple[tuple[str, float], ...]
    left: float
    refused: str | None = None


def options_of(
    lift: Floats,
    arms: Sequence[Arm],
    limits: Limits,
    price: Floats,
    refused: Sequence[str | None],
    row: int = 0,
) -> list[Option]:
    """What every arm is worth to one voter at the plan's prices, the best first.

    Args:
        lift: Predicted, shape (A,).
        arms: Length A.
        limits: Of the plan.
        price: Of every limit.
        refused: Why an arm may not be had, length A.
        row: Row of the voter, where limits differ by row.
    """
    options = []
    for a, arm in enumerate(arms):
        use = limits.use_of(np.array([row]), np.array([a]))[:, 0]
        paid = use * price[: len(use)]
        charges = tuple(
            (limits.name_of(k), float(paid[k]))
            for k in np.argsort(-np.abs(paid)) if paid[k] != 0
        )  # fmt: skip
        left = float(lift[a] - paid.sum())
        options.append(Option(arm, float(lift[a]), charges, left, refused[a]))
    return sorted(options, key=lambda o: (o.refused is not None, -o.left))


def explained(
    options: Sequence[Option],
    sent: Arm | None,
    cost: dict[Arm, float],
    *,
    unit: float = 0.01,
    unit_name: str = "points",
) -> list[str]:
    """Why a voter gets what the plan sends, one sentence a line.

    Args:
        options: As `options_of` orders them.
        sent: What the plan sends, None for nothing.
        cost: USD of every arm.
        unit: Outcome units in which the sentences count.
        unit_name: Their name.
    """
    sentences = []
    for option in options:
        name = f"{option.arm.message_id} by {option.arm.channel}"
        worth = f"{option.lift / unit:.2f} {unit_name}"
        if option.refused is not None:
            sentences.append(f"{name} may not be sent: {option.refused}.")
        elif option.lift <= 0:
            sentences.append(f"{name} is predicted to bring nothing ({worth}).")
        else:
            sentences.append(
                f"{name} is worth {worth} and costs ${cost[option.arm]:.2f}"
                f"{_charged(option, unit, unit_name)}: {_verdict(option, sent)}."
            )
    return sentences


def _charged(option: Option, unit: float, unit_name: str) -> str:
    if not option.charges:
        return "; no limit is used up"
    parts = ", ".join(
        f"{abs(paid) / unit:.2f} {unit_name} "
        f"{'for' if paid > 0 else 'less, since it helps to keep'} {name}"
        for name, paid in option.charges
    )
    return f"; at today's prices it pays {parts}, which leaves {option.left / unit:.2f}"


def _verdict(option: Option, sent: Arm | None) -> str:
    if option.arm == sent:
        return "this is sent"
    if option.left <= SLACK:
        return "others gain more by the same money and contacts"
    if sent is None:
        return "just not reached before a limit was full"
    return "another message leaves more"
