"""Agreement of the judged with the planned policy: contacts, money and gain."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from hustings.experiments.results import Agreement, ArmShare
from hustings.training.policy_value.policies import CHAMPION
from hustings.training.policy_value.results import (
    NOT_LEARNT,
    Evaluation,
    PolicyValue,
)

HOUSEHOLD = 2.0
"""Times the variance of single voters: households decide together."""


def agreements(
    evaluation: Mapping[str, Any],
    contacts: pd.DataFrame,
    *,
    policy: str,
    n_audience: Mapping[str, int],
    cost: Mapping[tuple[str, str], float],
) -> list[Agreement]:
    """Planned and judged policy by experiment.

    Args:
        evaluation: As in `evaluation.json`.
        contacts: PLAN, with roles.
        policy: `[plan] policy`.
        n_audience: Voters of every planned experiment's audience.
        cost: USD by message and channel.
    """
    planned = contacts[contacts["role"] == "plan"]
    pairs = zip(planned["message_id"], planned["channel"], strict=True)
    counts = Counter((str(message), str(channel)) for message, channel in pairs)
    compared = []
    for name, stored in evaluation["experiments"].items():
        if name not in n_audience or stored["verdict"] in NOT_LEARNT:
            continue
        result = Evaluation.from_json(stored)
        wanted = result.verdict.champion if policy == CHAMPION else policy
        if wanted in result.policies:
            compared.append(
                _agreement(
                    name, wanted, result, counts, n_audience[name], cost,
                    shared=len(n_audience) > 1,
                )
            )  # fmt: skip
    return compared


def _agreement(
    name: str,
    policy: str,
    result: Evaluation,
    counts: Mapping[tuple[str, str], int],
    n_audience: int,
    cost: Mapping[tuple[str, str], float],
    *,
    shared: bool,
) -> Agreement:
    value = result.policies[policy]
    judged = {(a.message_id, a.channel): a.per_voter for a in value.delivered}
    sent = {arm: n for arm, n in counts.items() if arm in cost}
    arms = tuple(
        ArmShare(
            *arm, judged.get(arm, 0.0), sent.get(arm, 0) / n_audience,
            _error(judged.get(arm, 0.0), result.n_voters, n_audience),
        )
        for arm in sorted({*judged, *sent})
    )  # fmt: skip
    return Agreement(
        name, policy, value.gain, arms,
        sum(arm.judged * cost[arm.message_id, arm.channel] for arm in arms),
        sum(arm.planned * cost[arm.message_id, arm.channel] for arm in arms),
        "" if all(arm.agrees for arm in arms) else _why(value, arms, shared=shared),
    )  # fmt: skip


def _error(share: float, n_judged: int, n_audience: int) -> float:
    spread = max(share * (1 - min(share, 1.0)), 0.0)
    return math.sqrt(HOUSEHOLD * spread * (1 / n_judged + 1 / n_audience))


def _why(value: PolicyValue, arms: tuple[ArmShare, ...], *, shared: bool) -> str:
    worst = max(arms, key=lambda arm: abs(arm.judged - arm.planned))
    difference = (
        f"{worst.message_id} by {worst.channel}: {100 * worst.judged:.1f} contacts per "
        f"100 voters as judged, {100 * worst.planned:.1f} as planned"
    )
    if shared:
        return f"{difference}; experiments share the money that each was judged with"
    chosen = [tuple(policy["messages"] or ()) for policy in value.chosen]
    planned = tuple(sorted({arm.message_id for arm in arms if arm.planned > 0}))
    if any(chosen) and set(chosen) != {planned}:
        halves = " and ".join(", ".join(messages) for messages in chosen)
        return (
            f"{difference}; the halves of the test chose {halves}, all data {planned}"
        )
    return (
        f"{difference}; the halves of the test and all data predict other lifts, or "
        "the test's voters may be sent other channels than the audience"
    )
