"""The report's blocks on limits of the plan, their shadow prices, and examples.

The plan's summary may hold:

    limits    `name`, `unit` ("USD" or "contacts"), `used`, `most`, `price_per_unit`
              (outcome units that one more of the unit brings, 0 where the limit does
              not bind), `one_more` where the gain of one more step was computed, and
              `channel` where the limit is a channel's
    examples  `who`, a typical voter of a group in words, and `why`, in words
"""

import math
from collections.abc import Sequence
from typing import Any

from hustings.experiments.report.markup import (
    Html,
    escaped,
    html_block,
    html_table,
    paragraph,
)
from hustings.experiments.report.words import NOT_SHOWN, Row, number_text, usd_text

STEP_CONTACTS = 1_000
"""Gains of more capacity are stated for this many more contacts."""
MOST_EXAMPLES = 6


def limits_block(limits: Sequence[Row], outcome: Row) -> list[Html]:
    """Table of the plan's limits: used, most, and the gain of one step more.

    Args:
        limits: See the module.
        outcome: As declared; `unit_per_point` and `kind`.
    """
    if not limits:
        return []
    ordered = sorted(limits, key=lambda row: -_gain_of_more(row))
    rows = [_limit_row(row, outcome) for row in ordered]
    header = ["Limit", "More would bring, by prediction", "Used", "Most"]
    return [
        html_block(
            "What holds the plan back",
            paragraph(_binding_in_words(ordered)),
            html_table("Limits of the plan", header, rows, words=2),
        )
    ]


def _gain_of_more(row: Row) -> float:
    """Outcome units of one more dollar, or of `STEP_CONTACTS` more contacts."""
    step = 1 if row.get("unit") == "USD" else STEP_CONTACTS
    computed_gain = row.get("one_more")
    price = row.get("price_per_unit") or 0.0
    return float(computed_gain) if computed_gain is not None else float(price) * step


def _binding_in_words(limits: Sequence[Row]) -> str:
    binding = [str(row["name"]) for row in limits if _gain_of_more(row) > 0]
    if not binding:
        return "No limit binds: more money or capacity would change nothing."
    if len(binding) == 1:
        return f"One limit binds: {binding[0]}. The others have room."
    return f"{len(binding)} limits bind: {', '.join(binding)}."


def _limit_row(row: Row, outcome: Row) -> tuple[Any, ...]:
    in_usd = row.get("unit") == "USD"
    amount_text = usd_text if in_usd else number_text
    gain = _gain_of_more(row)
    gain_text = "nothing"
    if gain > 0:
        step = "one more dollar" if in_usd else f"{STEP_CONTACTS:,} more contacts"
        gain_text = f"{step}: {_gain_in_words(gain, outcome)}"
    most = row.get("most")
    return (
        row["name"],
        gain_text,
        amount_text(row.get("used")),
        NOT_SHOWN if most is None or not math.isfinite(most) else amount_text(most),
    )


def _gain_in_words(gain: float, outcome: Row) -> str:
    """A total gain: voters of a binary outcome, else points for so many voters.

    >>> _gain_in_words(3.0, {"kind": "binary", "label": "voted"})
    '3.0 more of “voted”'
    >>> _gain_in_words(8.0, {"kind": "continuous", "unit_per_point": 2.0})
    '4.0 points for one voter'
    """
    if outcome["kind"] == "binary":
        return f"{_two_digits(gain)} more of “{outcome['label']}”"
    points = gain / float(outcome["unit_per_point"])
    return f"{_two_digits(points)} points for one voter"


def _two_digits(value: float) -> str:
    if value >= 10:
        return number_text(value)
    return number_text(value, 1 if value >= 1 else 3)


def examples_block(examples: Sequence[Row]) -> list[Html]:
    """Why typical voters get one message and not another; no real voter is named.

    Args:
        examples: See the module.
    """
    items = [
        f"<dt>{escaped(row['who'])}</dt><dd>{escaped(row['why'])}</dd>"
        for row in examples[:MOST_EXAMPLES]
    ]
    if not items:
        return []
    opening = "Typical voters of a few groups; nobody in particular."
    listed = Html(f"<dl>{''.join(items)}</dl>")
    return [
        html_block("Why this message and not that", paragraph(opening, "quiet"), listed)
    ]
