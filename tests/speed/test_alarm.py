"""How soon a guardrail closes a message that harms, while a campaign runs.

    python -m pytest tests/speed/test_alarm.py -q -s -m speed

writes tests/speed/alarm.md: false alarms of whole campaigns, and the power of the alarm
by size of the arm, size of the harm, and share of the message's money spent until then.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from hustings.training.estimators.metrics import Interval
from hustings.training.policy_value.guardrails import (
    HARMS,
    GroupEffect,
    Guardrail,
    judge_guardrail,
)

pytestmark = pytest.mark.speed

TABLE = Path(__file__).with_name("alarm.md")
N_DAYS, N_LOOKS, N_CAMPAIGNS, N_NULL = 30, 15, 100, 1_000
N_MESSAGES = 8
RATE = 0.02
"""Of the guarded event without a message: unsubscribes, complaints."""
MARGIN = 0.01
CONTROL = 0.1
"""Held out of all voters."""
ARMS = (500, 2_000, 8_000, 32_000)
"""Contacts by a message over the whole campaign, were it never closed."""
HARMS_IN_MARGINS = (0.5, 1.0, 2.0, 4.0)
GUARDRAIL = Guardrail("complaints", "rise", MARGIN, 0.05, bars_unproven=False)


class Closed(NamedTuple):
    """What a guardrail did in one campaign.

    Attributes:
        spent: Share of the harmful message's money spent when it was closed; 1 where
            it never was.
        harmful: Whether it was closed.
        harmless: Whether any other message was.
    """

    spent: float
    harmful: bool
    harmless: bool


def campaign(n: int, harm: float, rng: np.random.Generator) -> Closed:
    """Days of counted events; message 0 does the harm, the others none.

    Args:
        n: Contacts by each message over all days.
        harm: Added to the rate by message 0.
        rng: Draws the events.
    """
    looks = np.linspace(N_DAYS / N_LOOKS, N_DAYS, N_LOOKS) / N_DAYS
    n_control = CONTROL / (1 - CONTROL) * N_MESSAGES * n
    steps = np.diff(looks, prepend=0.0)
    rates = np.full(N_MESSAGES, RATE)
    rates[0] += harm
    events = rng.poisson(steps[:, None] * n * rates).cumsum(axis=0)
    of_control = rng.poisson(steps * n_control * RATE).cumsum()
    is_closed, spent = np.zeros(N_MESSAGES, dtype=bool), 1.0
    for k, share in enumerate(looks):
        treated, held = share * n, share * n_control
        p0 = (of_control[k] + events[k].sum()) / (held + N_MESSAGES * treated)
        # as estimated: what all show together, spread as the design spreads it
        se = np.sqrt(max(p0 * (1 - p0), 1e-9) * (1 / treated + 1 / held))
        effects = [
            GroupEffect(
                "e", f"m{m}", {}, int(treated),
                Interval.of(events[k, m] / treated - of_control[k] / held, se=se),
                10**6,
            )
            for m in range(N_MESSAGES)
        ]  # fmt: skip
        rows = judge_guardrail(GUARDRAIL, [], effects)
        closed = np.array([row.status == HARMS for row in rows])
        if closed[0] and not is_closed[0]:
            spent = float(share)
        is_closed |= closed
    return Closed(spent, bool(is_closed[0]), bool(is_closed[1:].any()))


def power_rows() -> Iterator[str]:
    """A row of the table for every size of arm and harm."""
    for n in ARMS:
        for times in HARMS_IN_MARGINS:
            rng = np.random.default_rng([n, int(10 * times)])
            seen = [campaign(n, times * MARGIN, rng) for _ in range(N_CAMPAIGNS)]
            by = [
                sum(c.harmful and c.spent <= share + 1e-9 for c in seen) / len(seen)
                for share in (0.2, 0.4, 0.6, 1.0)
            ]
            spent = float(np.mean([c.spent for c in seen]))
            yield (
                f"| {n:,} | {100 * times * MARGIN:g} | "
                + " | ".join(f"{100 * share:.0f} %" for share in by)
                + f" | {100 * spent:.0f} % |"
            )


def test_a_message_that_harms_is_closed_while_money_is_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """False alarms of whole campaigns stay at the level; the power is a table."""
    rng = np.random.default_rng(1)
    false = {
        n: sum(
            c.harmful or c.harmless
            for c in (campaign(n, 0.0, rng) for _ in range(N_NULL // len(ARMS)))
        )
        for n in ARMS
    }
    total = N_NULL // len(ARMS) * len(ARMS)
    lines = [
        "# How soon a guardrail closes a message that harms",
        "",
        f"{N_MESSAGES} messages beside {100 * CONTROL:.0f} % held out, {N_DAYS} days, "
        f"looked at {N_LOOKS} times; events of {100 * RATE:g} % of the people without "
        f"a message, margin {100 * MARGIN:g} points, level 5 % of which a fifth is for "
        "the days, half of that for averages. No experiment came before. "
        "`python -m pytest tests/speed/test_alarm.py -q -s -m speed` makes this file.",
        "",
        f"False alarms: {sum(false.values())} of {total:,} campaigns in which no "
        "message harms closed any ("
        + ", ".join(f"{k} with arms of {n:,}" for n, k in false.items())
        + ").",
        "",
        "| contacts by it, whole campaign | harm, points | closed with 20 % of "
        "its money spent | 40 % | 60 % | at all | money spent on it, mean |",
        "|---|---|---|---|---|---|---|",
        *power_rows(),
    ]
    TABLE.write_text("\n".join(lines) + "\n")
    with capsys.disabled():
        print("\n".join(lines))  # noqa: T201 - this is what a benchmark is for
    assert sum(false.values()) <= 0.05 * total
