"""Explanations: their figures are those that the plan was made by."""

import numpy as np
import pytest

from hustings.features.training_set import Arm
from hustings.serving.plan import by_message, choose_options, floor, limits_of
from hustings.serving.plan.explain import (
    explained,
    limits_used,
    options_of,
)
from hustings.training.estimators.spend_path import NOTHING

ARMS = (Arm("trade", "mail"), Arm("trade", "phone"), Arm("schools", "mail"))
COST = np.array([0.6, 1.1, 0.6])


def planned(*, budget: float = 160.0):
    rng = np.random.default_rng(0)
    value = rng.normal(0.02, 0.02, (500, 3)) + np.array([0.0, 0.02, 0.0])
    limits = limits_of(
        ARMS,
        COST,
        budget_usd=budget,
        capacity={"phone": 8.0},
        total_capacity=None,
        further_limits=[
            floor("at least 160 of schools", by_message(ARMS, "schools"), 160.0)
        ],
    )
    chosen = choose_options(value, np.ones((500, 3)), limits, ties=rng.random(500))
    return value, limits, chosen


def test_the_plan_takes_what_the_explanation_says_leaves_most() -> None:
    value, limits, chosen = planned()
    agree = 0
    for i in range(500):
        options = options_of(
            value[[i]], ARMS, limits, chosen.price, [None] * 3, np.array([i])
        )
        best = options[0].arm if options[0].left > 0 else None
        taken = int(chosen.option[i])
        agree += best == (None if taken == NOTHING else ARMS[taken])
        for option in options:
            paid = sum(charge for _, charge in option.charges)
            assert option.left == pytest.approx(option.lift - paid)
    # all but the few rows on the edge
    assert agree > 490


def test_one_dollar_more_brings_what_its_price_says() -> None:
    value, limits, chosen = planned()
    more = limits.most.copy()
    more[0] += 1.0
    ties = np.random.default_rng(0).random(500)
    two = choose_options(value, np.ones((500, 3)), limits.with_most(more), ties=ties)
    assert two.bound - chosen.bound == pytest.approx(chosen.price[0], rel=0.05)


def test_words_name_the_message_the_money_and_the_full_limit() -> None:
    value, limits, chosen = planned()
    i = int(np.argmax(chosen.option == 0))
    cost = dict(zip(ARMS, COST, strict=True))
    told = explained(
        options_of(
            value[[i]], ARMS, limits, chosen.price, [None, None, "no address"],
            np.array([i]),
        ),
        ARMS[0], cost, unit=0.01, unit_name="points",
    )  # fmt: skip
    whole = "\n".join(told)
    assert f"trade by mail is worth {value[i, 0] * 100:.2f} points" in whole
    assert "costs $0.60" in whole
    assert "for budget in USD" in whole
    assert "this is sent" in whole
    assert "schools by mail may not be sent: no address." in whole


def test_limits_are_told_by_what_more_of_them_would_bring() -> None:
    _, limits, chosen = planned()
    left = limits.most - limits.used(chosen.option, np.ones((500, 3)))
    used = {limit.name: limit for limit in limits_used(limits, chosen, left)}
    phone, schools = used["contacts by phone"], used["at least 160 of schools"]
    assert (phone.unit, phone.channel, phone.most) == ("contacts", "phone", 8.0)
    assert phone.one_more == pytest.approx(1_000 * chosen.price[1])
    assert phone.used <= 8.0
    # a floor is told by its least contacts and by those that it has
    assert schools.most == 160.0 <= schools.used
    assert schools.binds
    _, rich, loose = planned(budget=1e6)
    spare = {limit.name: limit for limit in limits_used(rich, loose, rich.most)}
    assert not spare["budget in USD"].binds
