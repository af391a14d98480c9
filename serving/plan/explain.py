"""Explanations of a plan in words: why a message is sent, what a limit costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.stored import Stored
from hustings.features.tables import SMALLEST_CELL
from hustings.features.training_set import Arm
from hustings.serving.plan.choose import Chosen
from hustings.serving.plan.constraints import SLACK, Limits
from hustings.serving.plan.settings import Plan

MANY = 1_000
"""Contacts by which a report raises a limit of contacts."""
MOST_MESSAGES = 8
"""Messages by channel that a report explains, those of most voters."""


@dataclass(frozen=True)
class LimitUse(Stored):
    """A limit, how far it is used, and what more of it would bring.

    Attributes:
        name: Of the limit.
        unit: `USD` or `contacts`.
        used: Of the unit; of a floor the contacts that it has.
        most: How much there is; of a floor the least.
        price_per_unit: What one more would bring, outcome units; 0 where it does not
            bind.
        one_more: What one dollar more, or `MANY` contacts more, would bring at most.
        channel: Whose contacts it counts; empty for any other limit.
    """

    name: str
    unit: str
    used: float
    most: float
    price_per_unit: float
    one_more: float
    channel: str = ""

    @property
    def binds(self) -> bool:
        """Whether more of it would bring anything."""
        return self.price_per_unit > 0


BY_CHANNEL = "contacts by "
"""How the limit of a channel is named."""


def limits_used(limits: Limits, chosen: Chosen, left: Floats) -> list[LimitUse]:
    """Every limit with its price, dearest step first.

    Args:
        limits: Of the plan, money in row 0.
        chosen: With the prices.
        left: What is left of every limit, shape (n_limits,).
    """
    entries = []
    for k, price in enumerate(chosen.price[: len(limits.most)].tolist()):
        name, most, unused = limits.name_of(k), float(limits.most[k]), float(left[k])
        is_floor = most < 0
        entries.append(
            LimitUse(
                name, "contacts" if k else "USD",
                used=unused - most if is_floor else most - unused,
                most=-most if is_floor else most,
                price_per_unit=price, one_more=price * (MANY if k else 1),
                channel=name.removeprefix(BY_CHANNEL)
                if name.startswith(BY_CHANNEL) else "",
            )
        )  # fmt: skip
    return sorted(entries, key=lambda limit: -limit.one_more)


@dataclass(frozen=True)
class MessageReasons(Stored):
    """Why voters get a message by a channel, told of all of them together.

    Attributes:
        message_id: The message.
        channel: The channel.
        n_voters: Voters who get it, at least `SMALLEST_CELL`.
        why: What it and the next best are worth to them on average, a sentence each.
    """

    message_id: str
    channel: str
    n_voters: int
    why: tuple[str, ...]


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
    rows: Ints,
) -> list[Option]:
    """What every arm is worth to some voters at the plan's prices, the best first.

    Args:
        lift: Predicted, shape (n, A); the mean counts.
        arms: Length A.
        limits: Of the plan.
        price: Of every limit.
        refused: Why an arm may not be had, length A.
        rows: Rows of the voters, where limits differ by row, shape (n,).
    """
    options, mean = [], lift.mean(axis=0)
    for a, arm in enumerate(arms):
        use = limits.use_of(rows, np.full(len(rows), a)).mean(axis=1)
        paid = use * price[: len(use)]
        charges = tuple(
            (limits.name_of(k), float(paid[k]))
            for k in np.argsort(-np.abs(paid)) if paid[k] != 0
        )  # fmt: skip
        left = float(mean[a] - paid.sum())
        options.append(Option(arm, float(mean[a]), charges, left, refused[a]))
    return sorted(options, key=lambda o: (o.refused is not None, -o.left))


def explained(
    options: Sequence[Option],
    sent: Arm | None,
    cost: Mapping[Arm, float],
    *,
    unit: float,
    unit_name: str,
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
    left_of_sent = next((o.left for o in options if o.arm == sent), 0.0)
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
                f"{_charged(option, unit, unit_name)}: "
                f"{_verdict(option, sent, left_of_sent)}."
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


def _verdict(option: Option, sent: Arm | None, left_of_sent: float) -> str:
    if option.arm == sent:
        return "this is sent"
    if option.left <= SLACK:
        return "others gain more by the same money and contacts"
    if sent is None:
        return "just not reached before a limit was full"
    if option.left < left_of_sent:
        return "what is sent leaves more"
    return "it leaves no less, but a draw or the household decided"


def explained_messages(
    plan: Plan,
    voter_id: Objects,
    value: Floats,
    allowed: Bools,
    arms: Sequence[Arm],
    cost: Floats,
    *,
    unit: float,
) -> list[MessageReasons]:
    """Why the messages of most voters are sent, the one of most first.

    Groups below the privacy floor are left out, and every mean is over as many voters.

    Args:
        plan: The plan; voters drawn to explore are not explained.
        voter_id: Of everybody in the audience, shape (n,).
        value: What every arm is worth to the planner, shape (n, A).
        allowed: Who may get which arm, shape (n, A).
        arms: Length A.
        cost: USD of every arm, shape (A,).
        unit: Outcome units of a point.
    """
    contacts = plan.contacts[plan.contacts["role"] == "plan"]
    position = pd.Series(np.arange(len(voter_id)), index=voter_id)
    groups = [
        (Arm(str(message_id), str(channel)), position.loc[rows["voter_id"]].to_numpy())
        for (message_id, channel), rows in contacts.groupby(
            ["message_id", "channel"], observed=True
        )
        if len(rows) >= SMALLEST_CELL
    ]
    largest = sorted(groups, key=lambda group: -len(group[1]))[:MOST_MESSAGES]
    charged = plan.limits.charged_rows(plan.chosen.price)
    cost_of = dict(zip(arms, cost.tolist(), strict=True))

    def sentence(arm: Arm, sent: Arm, at: Ints) -> str:
        pair = list(dict.fromkeys([arms.index(arm), arms.index(sent)]))
        limits = replace(plan.limits, use=plan.limits.use[:, pair])
        options = options_of(
            value[at][:, pair], [arms[a] for a in pair], limits,
            plan.chosen.price, [None] * len(pair), plan.row[at],
        )  # fmt: skip
        options.sort(key=lambda option: option.arm != arm)
        return explained(options, sent, cost_of, unit=unit, unit_name="points")[0]

    reasons = []
    for sent, at in largest:
        left = value[at] - (charged if len(charged) == 1 else charged[plan.row[at]])
        # an option is compared over those of them who may get it
        compared = _next_best(arms, sent, left, allowed[at])
        why = [sentence(sent, sent, at)]
        why += [sentence(arms[a], sent, at[allowed[at, a]]) for a in compared]
        reasons.append(MessageReasons(*sent, len(at), tuple(why)))
    return reasons


def _next_best(
    arms: Sequence[Arm], sent: Arm, left: Floats, allowed: Bools
) -> list[int]:
    """The best other message and the best other channel that enough voters may get."""
    n = allowed.sum(axis=0)
    mean = np.where(allowed, left, 0.0).sum(axis=0) / np.maximum(n, 1)
    order = [int(a) for a in np.argsort(-mean) if n[a] >= SMALLEST_CELL]
    other_message = [a for a in order if arms[a].message_id != sent.message_id]
    other_channel = [
        a
        for a in order
        if arms[a].message_id == sent.message_id and arms[a].channel != sent.channel
    ]
    return [*other_message[:1], *other_channel[:1]]
