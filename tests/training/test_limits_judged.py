"""Policies are judged under the plan's own limits, and by budget alone without any."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hustings.experiments.stages.plan_limits import LimitsPerVoter
from hustings.serving.plan import GroupBound
from hustings.training.policy_value.chosen_policies import untargeted_policies
from hustings.training.policy_value.held_out_halves import Contender, contended
from hustings.training.policy_value.policies import Options, Policy
from hustings.training.policy_value.spending import Applied, Market

NONE = LimitsPerVoter(
    capacity={}, total=None, caps={}, floors={}, groups=(), entered={},
    minimum_audience=0.0, holdout_share=0.1, explore_share=0.05,
)  # fmt: skip
SPEND = 0.6


class Flat:
    """Average effects that are known: m0 1, m1 .8; phone does twice as much."""

    effects = SimpleNamespace(
        shrunken=np.array([1.0, 0.8]), shrunken_se=np.array([0.1, 0.1])
    )

    @staticmethod
    def option_values(lift: np.ndarray, arms) -> np.ndarray:
        message = [int(arm.message_id == "m1") for arm in arms]
        times = np.array([2.0 if arm.channel == "phone" else 1.0 for arm in arms])
        return lift[:, message] * times


@pytest.fixture(scope="module")
def test(planted: Callable):
    return planted(
        np.random.default_rng(1), n_households=1_500, size=2,
        channels={"mail": 1.0, "phone": 2.0},
    )[0]  # fmt: skip


def market_of(test, limits: LimitsPerVoter | None, **more) -> Market:
    """A letter costs .5, a call 1.1; a third of the voters have no phone."""
    phone = np.array([arm.channel == "phone" for arm in test.arms])
    allowed = np.ones((len(test.Y), len(test.arms)), dtype=bool)
    allowed[np.arange(len(test.Y)) % 3 == 0] &= ~phone
    cost = np.where(phone, 1.1, 0.5)
    return Market(cost, allowed, SPEND, allocate=limits, **more)


def applied_to(test, name: str, market: Market) -> Applied:
    rng = np.random.default_rng(2)
    lift = rng.normal(1.0, 0.5, size=(len(test.Y), 2))
    policy = Policy(name)
    if name != "personalised":
        policy = untargeted_policies(Flat, test, market)[name]
    return contended(Contender(policy, lift, 0 * lift), Flat, test, market, 1)


POLICIES = ("nobody", "single_best", "best_mix", "personalised")


@pytest.mark.parametrize("name", POLICIES)
def test_where_no_limit_binds_judging_is_by_the_spend_path(test, name: str) -> None:
    """To the last digit: also with limits that are declared and far away."""
    far = replace(NONE, capacity={"phone": 5.0}, total=9.0, caps={"m0": 5.0})
    scores = np.random.default_rng(3).normal(size=(len(test.Y), 1 + len(test.arms)))
    without = applied_to(test, name, market_of(test, None))
    under = applied_to(test, name, market_of(test, far))
    assert not under.choice.limited
    np.testing.assert_allclose(
        under.choice.realised(scores), without.choice.realised(scores), atol=1e-9
    )


@pytest.mark.parametrize("name", POLICIES)
def test_what_binds_is_kept_and_what_is_left_goes_elsewhere(test, name: str) -> None:
    calls = 0.05
    market = market_of(test, replace(NONE, capacity={"phone": calls}))
    one = applied_to(test, name, market)
    contacts = one.choice.contacts()
    phone = np.array([arm.channel == "phone" for arm in test.arms])
    by_phone = contacts[:, phone].sum() / len(test.Y)
    assert by_phone <= calls + 1e-3
    assert (contacts @ market.cost).mean() <= SPEND + 1e-6
    assert (contacts[~market.allowed] == 0).all()
    if name != "nobody":
        assert one.choice.limited
        assert by_phone == pytest.approx(calls, abs=1e-3)
        # what cannot be called is written to
        letters = contacts[:, ~phone].sum() / len(test.Y)
        assert letters > 0.9


def test_the_single_best_is_one_message_by_whatever_channels_pay(test) -> None:
    market = market_of(test, replace(NONE, capacity={"phone": 0.05}))
    one = applied_to(test, "single_best", market)
    sent = one.choice.contacts().sum(axis=0)
    messages = {a.message_id for a, n in zip(test.arms, sent, strict=True) if n > 0}
    channels = {a.channel for a, n in zip(test.arms, sent, strict=True) if n > 0}
    assert (messages, channels) == ({"m0"}, {"mail", "phone"})
    # where the better message is capped to nearly nothing, the other is the best
    capped = market_of(test, replace(NONE, caps={"m0": 0.01}))
    assert untargeted_policies(Flat, test, capped)["single_best"].messages == ("m1",)


def test_bounds_of_groups_hold(test) -> None:
    member = np.arange(len(test.Y)) // 2 % 5 == 0
    bound = GroupBound("young", member, high=0.1)
    market = market_of(test, replace(NONE, groups=(bound,)), groups=member[:, None])
    for name in ("best_mix", "personalised"):
        contacts = applied_to(test, name, market).choice.contacts().sum(axis=1)
        assert contacts[member].sum() <= 0.1 * contacts.sum() + 1e-3 * len(test.Y)


def test_a_plan_with_a_holdout_delivers_what_its_planned_voters_get(test) -> None:
    """95 % of 90 % are planned; money left by the others goes to them."""
    one = applied_to(test, "best_mix", market_of(test, NONE))
    delivered = one.choice.delivered()
    assert delivered.sum(axis=1).max() <= 0.9 * 0.95 + 1e-9
    paid = (delivered @ market_of(test, NONE).cost).mean()
    assert 0.8 * SPEND < paid <= SPEND


def test_the_same_object_is_applied_to_a_test_and_to_a_plan(test) -> None:
    """Through JSON, as the registered model keeps it."""
    market = market_of(test, NONE)
    policy = untargeted_policies(Flat, test, market)["single_best"]
    again = Policy.from_json(policy.to_json())
    options = Options(np.zeros(market.allowed.shape), market.allowed)
    for left in (policy.of(options, test.arms), again.of(options, test.arms)):
        is_sent = [arm.message_id in policy.messages for arm in test.arms]
        np.testing.assert_array_equal(left.allowed, market.allowed & is_sent)
        expected = Flat.option_values(Flat.effects.shrunken[None], test.arms)
        np.testing.assert_allclose(left.value, np.tile(expected, (len(test.Y), 1)))
