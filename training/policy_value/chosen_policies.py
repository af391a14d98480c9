"""Policies chosen on training data: on a half for judging, on all for sending."""

from collections.abc import Mapping

import numpy as np

from hustings.features.arrays import Floats
from hustings.features.training_set import Arm, MessageTest
from hustings.training.learners.average_effects import Nuisances
from hustings.training.learners.gbm import Prepared
from hustings.training.policy_value.current_practice import (
    group_platform,
    likely_persuadable,
    segment_best,
)
from hustings.training.policy_value.policies import (
    BEST_MIX,
    EVERYBODY,
    GROUP_PLATFORM,
    LIKELY_PERSUADABLE,
    NOBODY,
    ONE_COVARIATE,
    PERSONALISED,
    SEGMENT_BEST,
    SINGLE_BEST,
    Policy,
)
from hustings.training.policy_value.spending import (
    Market,
    choice_of,
    equal_rows,
    spend_along,
)


def flat_worth(nuisances: Nuisances, market: Market, arms: tuple[Arm, ...]) -> Floats:
    """Average worth of every arm, at the declared confidence, shape (A,)."""
    effects = nuisances.effects
    worth = market.value(effects.shrunken[None], effects.shrunken_se[None], None).worth
    return np.asarray(nuisances.option_values(worth, arms)[0])


def untargeted_policies(
    nuisances: Nuisances, test: MessageTest, market: Market
) -> dict[str, Policy]:
    """Nobody, the single best message, and the best mix.

    Args:
        nuisances: Average effects, learnt on other voters or on these.
        test: The voters that the single best message is chosen for, arms as sent.
        market: Their prices, permissions and limits.
    """
    flat = flat_worth(nuisances, market, test.arms)
    worth = {EVERYBODY: dict(zip(test.arms, map(float, flat), strict=True))}
    best = best_message(flat, test, market)
    return {
        NOBODY: Policy(NOBODY),
        SINGLE_BEST: Policy(SINGLE_BEST, (best,), worth),
        BEST_MIX: Policy(BEST_MIX, worth=worth),
    }


def best_message(flat: Floats, test: MessageTest, market: Market) -> str:
    """The one message that promises most by whatever channels pay, within all limits.

    Args:
        flat: Worth of every arm, shape (A,).
        test: The voters, arms as sent.
        market: Prices, permissions and limits.
    """
    values = np.tile(flat, (len(test.Y), 1))
    row = equal_rows(values, market.allowed, market.groups)
    promised: dict[str, float] = {}
    for message in test.messages:
        is_sent = np.array([arm.message_id == message for arm in test.arms])
        only = np.where(is_sent, values, 0.0)
        spending = spend_along(only, market, row)
        choice = choice_of(spending, only, market, test.arms)
        promised[message] = float((choice.contacts() * only).sum())
    return max(promised, key=lambda message: promised[message])


def chosen_policies(
    prepared: Prepared,
    test: MessageTest,
    market: Market,
    band: tuple[float, float] | None = None,
) -> dict[str, Policy]:
    """Every policy that the available predictions allow, by name.

    Args:
        prepared: The test that they are chosen on.
        test: The same with arms as sent.
        market: Prices, permissions, limits and facts of its voters.
        band: Support of the persuadable; None for the middle third.
    """
    policies = untargeted_policies(prepared.nuisances, test, market)
    policies |= {name: Policy(name) for name in (ONE_COVARIATE, PERSONALISED)}
    single, facts = policies[SINGLE_BEST], market.facts
    assert single.worth is not None
    assert single.messages is not None
    flat: Mapping[Arm, float] = single.worth[EVERYBODY]
    if facts.support is not None and facts.turnout is not None:
        policies[LIKELY_PERSUADABLE] = likely_persuadable(
            facts, band, single.messages, flat
        )
    if facts.segment is not None:
        policies[SEGMENT_BEST] = segment_best(prepared, test.arms, facts.segment)
        policies[GROUP_PLATFORM] = group_platform(
            prepared, test, market, flat, facts.segment
        )
    return policies
