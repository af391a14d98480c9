"""The report's blocks on limits of the plan, their shadow prices, and its reasons."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hustings.experiments.declaration import OutcomeSection
from hustings.experiments.report.markup import (
    Html,
    escaped,
    folded,
    html_block,
    html_table,
    joined,
    paragraph,
)
from hustings.experiments.report.words import (
    NOT_SHOWN,
    is_small,
    message_name,
    number_text,
    people_text,
    share_text,
    usd_text,
)
from hustings.experiments.results import BoundedGroup, PriceOfGroups
from hustings.serving.plan.explain import MANY, LimitUse, MessageReasons


def limits_block(limits: Sequence[LimitUse], outcome: OutcomeSection) -> list[Html]:
    """Table of the plan's limits: used, most, and the gain of one step more.

    Args:
        limits: Of the plan.
        outcome: As declared.
    """
    if not limits:
        return []
    ordered = sorted(limits, key=lambda limit: -limit.one_more)
    rows = [_limit_row(limit, outcome) for limit in ordered]
    header = ["Limit", "More would bring, by prediction", "Used", "Most"]
    return [
        html_block(
            "What holds the plan back",
            paragraph(_binding_in_words(ordered)),
            folded("Limits", html_table("Limits of the plan", header, rows, words=2)),
        )
    ]


def _binding_in_words(limits: Sequence[LimitUse]) -> str:
    """Which limits bind, and what becomes of money that is left."""
    if not any(limit.used for limit in limits):
        return (
            "No limit: the planned policy sends nothing, so none of the budget and of "
            "the capacities is used. They say nothing of what other policies would "
            "gain with the money."
        )
    left = "".join(
        f" {usd_text(limit.most - limit.used)} of {usd_text(limit.most)} is left."
        for limit in limits
        if limit.unit == USD
        and math.isfinite(limit.most)
        and limit.used < (1 - LEFT_OVER) * limit.most
    )
    binding = [limit.name for limit in limits if limit.binds]
    if not binding:
        return (
            f"No limit binds.{left} Everybody who may be sent something that the "
            "policy holds to be worth its price is planned already: by prediction, "
            "more money or capacity would change nothing."
        )
    if len(binding) == 1:
        return f"One limit binds: {binding[0]}. The others have room.{left}"
    rest = f" and {len(binding) - MOST_NAMED} more" if binding[MOST_NAMED:] else ""
    return f"{len(binding)} limits bind: {', '.join(binding[:MOST_NAMED])}{rest}.{left}"


MOST_NAMED = 6
"""Limits that a sentence names; the table has them all."""


def groups_block(priced: PriceOfGroups | None, outcome: OutcomeSection) -> list[Html]:
    """What limits on groups cost, and whom they move; nothing where there are none.

    Args:
        priced: Of the plan.
        outcome: As declared.
    """
    if priced is None:
        return []
    if priced.share < LEAST_PRICE:
        words = "The limits on groups cost next to nothing of the predicted gain."
    else:
        words = (
            f"The limits on groups cost {share_text(priced.share)} of the gain that is "
            f"predicted without them: {_gain_in_words(priced.price, outcome)}, were "
            "everybody planned for, the holdout included."
        )
    rows = [
        (group.name, _bound_in_words(group),
         *(NOT_SHOWN if is_small(n) else share_text(share) for n, share in
           ((group.n, group.share), (group.n_without, group.share_without))))
        for group in priced.groups
    ]  # fmt: skip
    header = ["Group", "Declared", "Share of contacts", "Without the limits"]
    return [
        html_block(
            "What limits on groups cost",
            paragraph(words),
            html_table("Groups whose contacts are limited", header, rows, words=2),
        )
    ]


def _bound_in_words(group: BoundedGroup) -> str:
    parts = []
    if group.low > 0:
        parts.append(f"at least {share_text(group.low)}")
    if group.high < 1:
        parts.append(f"at most {share_text(group.high)}")
    if group.most is not None:
        parts.append(f"at most {number_text(group.most)} contacts")
    return ", ".join(parts)


LEAST_PRICE = 0.0005
"""A smaller share of the gain may be that of whole contacts."""
USD = "USD"
LEFT_OVER = 0.02
"""Money is whole contacts: what is left of a spent budget is less than this."""


def _limit_row(limit: LimitUse, outcome: OutcomeSection) -> tuple[Any, ...]:
    in_usd = limit.unit == USD
    amount_text = usd_text if in_usd else number_text
    gain_text = "nothing"
    if limit.binds:
        step = "one more dollar" if in_usd else f"{MANY:,} more contacts"
        gain_text = f"{step}: {_gain_in_words(limit.one_more, outcome)}"
    most = amount_text(limit.most) if math.isfinite(limit.most) else NOT_SHOWN
    return (limit.name, gain_text, amount_text(limit.used), most)


def _gain_in_words(gain: float, outcome: OutcomeSection) -> str:
    """A total gain: voters of a binary outcome, else points for so many voters."""
    if outcome.kind == "binary":
        return f"{_two_digits(gain)} more of “{outcome.label}”"
    points = gain / outcome.unit_per_point
    return f"{_two_digits(points)} points for one voter"


def _two_digits(value: float) -> str:
    if value >= 10:
        return number_text(value)
    return number_text(value, 1 if value >= 1 else 3)


REASONS_OPEN = 8
"""Messages whose reasons stand open, those of most voters; the others are folded."""


def reasons_block(
    reasons: Sequence[MessageReasons], titles: Mapping[str, str]
) -> list[Html]:
    """Why voters get one message and not another, by message; no voter is named.

    Args:
        reasons: Of the plan, the message of most voters first.
        titles: Of the messages that have one, by message.
    """
    items = [
        f"<dt>{message_name(row.message_id, titles)} by {escaped(row.channel)}<br>"
        f"<small>{people_text(row.n_voters)} voters</small></dt><dd>"
        f"{joined(paragraph(w, 'quiet' if k else '') for k, w in enumerate(row.why))}"
        "</dd>"
        for row in reasons
        if not is_small(row.n_voters)
    ]
    if not items:
        return []
    opening = (
        "What each message is worth to the voters who are planned to get it, on "
        "average, and beside it the next best message and channel, over those of "
        "them who may get it."
    )
    n_open = len(items) if len(items) <= REASONS_OPEN + 2 else REASONS_OPEN
    blocks = [paragraph(opening, "quiet"), _listed(items[:n_open])]
    if items[n_open:]:
        rest = f"{len(items) - n_open} more, of fewer voters each"
        blocks.append(folded(rest, _listed(items[n_open:])))
    return blocks


def _listed(items: Sequence[str]) -> Html:
    return Html(f"<dl>{''.join(items)}</dl>")
