"""What campaigns do today: likely areas, each group its best; shown, never the gate."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hustings.training.estimators.metrics import clustered_mean, contacted_share
from hustings.training.estimators.spend_path import NOTHING
from hustings.training.learners.gbm import prepare
from hustings.training.policy_value.chosen_policies import chosen_policies
from hustings.training.policy_value.current_practice import (
    PredictedResponse,
    segment_effects,
)
from hustings.training.policy_value.held_out_halves import (
    Contender,
    HeldOutHalf,
    judge_halves,
)
from hustings.training.policy_value.policies import (
    GROUP_PLATFORM,
    LIKELY_PERSUADABLE,
    SEGMENT_BEST,
    Policy,
    VoterFacts,
)
from hustings.training.policy_value.spending import Market
from hustings.training.policy_value.verdict import evaluate

SIDES = np.array(["left", "right"], dtype=object)


def opposed(X: np.ndarray) -> np.ndarray:
    """Message 0 moves the right side, message 1 the left; 2 does little for all."""
    right = X[:, 0] > 0
    return np.column_stack([1.5 * right, 1.5 * ~right, np.full(len(X), 0.1)])


def market_of(test, spend: float = 0.4) -> Market:
    allowed = np.ones((len(test.Y), len(test.arms)), dtype=bool)
    return Market(np.ones(len(test.arms)), allowed, spend)


@pytest.fixture(scope="module")
def test(planted: Callable):
    rng = np.random.default_rng(3)
    return planted(rng, n_households=2_500, size=1, lift=opposed)[0]


@pytest.fixture(scope="module")
def chances(test) -> PredictedResponse:
    """Twenty areas; support and turnout have nothing to do with the lift."""
    rng = np.random.default_rng(5)
    area = np.array([f"P{i % 20:02d}" for i in range(len(test.Y))], dtype=object)
    turnout = 0.2 + 0.03 * (np.arange(len(test.Y)) % 20) + rng.normal(0, 0.01)
    return PredictedResponse(turnout, rng.uniform(size=len(test.Y)), area, (0.4, 0.6))


@pytest.fixture(scope="module")
def segment(test) -> np.ndarray:
    return SIDES[(test.X[:, 0] > 0).astype(int)]


def judged(
    test, small_trees: dict, facts: VoterFacts, band: Any = None, **found: Any
) -> list[HeldOutHalf]:
    market = replace(market_of(test), facts=facts)
    return judge_halves(
        test, market, categorical=[], settings=lambda *_: small_trees, band=band,
        issue_of=dict.fromkeys(test.messages, "issue"), seed=1, current_practice=found,
    )  # fmt: skip


@pytest.fixture(scope="module")
def halves(test, small_trees: dict, chances, segment) -> list[HeldOutHalf]:
    return judged(test, small_trees, chances.facts(segment), chances.band)


def sent(half: HeldOutHalf, name: str, spend: float) -> np.ndarray:
    row, path = half.policies[name]
    return path.options_at(spend * len(row))[row]


def test_areas_are_as_likely_as_their_voters(halves, chances) -> None:
    for half in halves:
        policy = half.chosen[LIKELY_PERSUADABLE]
        likely = policy.turnout(half.market.facts, half.held.sum())
        # those of fewer than twenty voters of the other half count as the mean
        large = np.isin(half.market.facts.area, list(policy.areas))
        assert large.mean() > 0.8
        near = np.abs(likely - chances.likelihood()[half.held]) < 0.02
        assert near[large].all()


def test_likely_areas_come_first_and_only_the_persuadable_are_written_to(
    halves, chances
) -> None:
    for half in halves:
        option = sent(half, LIKELY_PERSUADABLE, 0.1)
        got = option != NOTHING
        assert 0.08 < got.mean() <= 0.1
        support = chances.support[half.held]
        assert ((support[got] >= 0.4) & (support[got] <= 0.6)).all()
        # everybody persuadable in a likelier area was served before
        inside = (support >= 0.4) & (support <= 0.6)
        policy = half.chosen[LIKELY_PERSUADABLE]
        likely = policy.turnout(half.market.facts, len(got))
        assert likely[got].min() >= likely[inside & ~got].max() - 1e-9
        # one message for all of them
        assert len(np.unique(option[got])) == 1


def test_money_that_the_persuadable_do_not_need_stays_in_hand(halves, chances) -> None:
    """A fifth of the voters lies in the band: more money reaches them all, and no
    one else."""
    for half in halves:
        got = sent(half, LIKELY_PERSUADABLE, 5.0) != NOTHING
        np.testing.assert_array_equal(got, chances.persuadable()[half.held])


def test_the_persuadable_take_nobody_of_their_household_along(
    planted: Callable, small_trees: dict
) -> None:
    """Households of two are drawn together; what is spent is what is sent."""
    pairs, _ = planted(np.random.default_rng(4), n_households=1_000, lift=opposed)
    rng = np.random.default_rng(5)
    n = len(pairs.Y)
    known = PredictedResponse(
        rng.uniform(size=n), rng.uniform(size=n), None, (0.4, 0.6)
    )
    facts = known.facts(np.full(n, "all", dtype=object))
    for half in judged(pairs, small_trees, facts, known.band):
        wanted = known.persuadable()[half.held]
        np.testing.assert_array_equal(
            sent(half, LIKELY_PERSUADABLE, 5.0) != NOTHING, wanted
        )
        row, path = half.policies[LIKELY_PERSUADABLE]
        assert path.spend[-1] == wanted.sum()
        share = contacted_share(path, row, half.market.allowed, 5.0 * len(row))
        assert share == pytest.approx(wanted.mean())


def test_the_middle_third_is_persuadable_where_no_band_is_declared(chances) -> None:
    third = replace(chances, band=None).persuadable()
    assert third.mean() == pytest.approx(1 / 3, abs=0.001)


def test_without_areas_a_voter_is_an_area(chances) -> None:
    alone = replace(chances, area=None)
    np.testing.assert_array_equal(alone.likelihood(), chances.turnout)


def test_each_group_gets_the_message_that_is_best_in_it(halves, segment) -> None:
    for half in halves:
        option = sent(half, SEGMENT_BEST, 5.0)
        sides = segment[half.held]
        assert (option[sides == "right"] == 0).all()
        assert (option[sides == "left"] == 1).all()


def test_each_group_its_best_gains_what_was_planted(test, halves) -> None:
    """1.5 for every voter reached, four in ten of them."""
    gain = np.concatenate([half.realised(SEGMENT_BEST, 0.4) for half in halves])
    order = np.concatenate([np.flatnonzero(half.held) for half in halves])
    found = clustered_mean(gain, test.cluster[order])
    assert found.low < 0.6 < found.high


def test_segments_without_differences_are_drawn_to_the_average(
    planted: Callable,
) -> None:
    rng = np.random.default_rng(8)
    flat, _ = planted(
        rng, n_households=2_000, lift=lambda X: np.tile([0.3, 0.1], (len(X), 1))
    )
    prepared = prepare(flat, [], dict.fromkeys(flat.messages, "issue"), seed=1)
    names = np.array(
        [f"s{i}" for i in rng.integers(20, size=len(flat.Y))], dtype=object
    )
    found = segment_effects(prepared, names)
    average = prepared.nuisances.effects.shrunken
    lift = prepared.scores[:, 1:] - prepared.scores[:, :1]
    raw = np.array([lift[names == s].mean(axis=0) for s in found.names])
    assert np.abs(found.lift - average).mean() < 0.3 * np.abs(raw - average).mean()
    # a segment that was never trained on gets the average itself
    unknown = found.codes(np.array(["elsewhere"], dtype=object))
    np.testing.assert_array_equal(found.lift[unknown], average[None])


def test_nothing_is_formed_of_an_unknown_turnout_or_support(
    test, halves, segment
) -> None:
    known = set(halves[0].policies)
    assert {LIKELY_PERSUADABLE, SEGMENT_BEST, GROUP_PLATFORM} < known
    prepared = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
    market = replace(market_of(test), facts=VoterFacts(segment=segment))
    without = set(chosen_policies(prepared, test, market))
    assert known - without == {LIKELY_PERSUADABLE}


def test_each_group_gets_the_platform_that_does_most_in_it_for_the_money(
    planted: Callable,
) -> None:
    """Mail moves the right side, phone the left; a call costs three times a letter."""
    rng = np.random.default_rng(7)
    drawn, _ = planted(
        rng, n_households=4_000, size=1, channels={"mail": 1.0, "phone": 1.0},
        lift=lambda X: np.zeros((len(X), 2)),
    )  # fmt: skip
    by_mail = np.array([a.channel == "mail" for a in drawn.arms])
    right = drawn.X[:, 0] > 0
    sent = np.append(False, by_mail)[drawn.arm]
    called = (drawn.arm > 0) & ~sent
    moved = 1.0 * (sent & right) + 2.0 * (called & ~right)
    both = replace(drawn, Y=drawn.Y + moved)
    prepared = prepare(both, [], dict.fromkeys(both.messages, "issue"), seed=1)
    market = Market(
        np.where(by_mail, 1.0, 3.0), np.ones((len(both.Y), 4), dtype=bool), 0.5,
        facts=VoterFacts(segment=SIDES[right.astype(int)]),
    )  # fmt: skip
    policy = chosen_policies(prepared, both, market)[GROUP_PLATFORM]
    assert policy.sent["right"].channel == "mail"
    # 2 for 3 dollars against nothing for one
    assert policy.sent["left"].channel == "phone"
    assert Policy.from_json(json.loads(json.dumps(policy.to_json()))) == policy


def test_comparators_are_shown_and_decide_nothing(
    planted: Callable, small_trees: dict, segment
) -> None:
    """An oracle beats personalising; verdict and all else are as without it."""
    strong, truth = planted(
        np.random.default_rng(1), n_households=1_250,
        lift=lambda X: np.outer(X[:, :3].sum(axis=1), [1.0, -1.0]),
    )  # fmt: skip

    def oracle(_prepared, held, _voters):
        return Contender(Policy(SEGMENT_BEST), truth[held], np.zeros(truth[held].shape))

    found = {SEGMENT_BEST: oracle}
    shown, without = (
        evaluate(
            strong,
            market_of(strong),
            judged(strong, small_trees, VoterFacts(), **beside),
            segment=segment,
        ).to_json()
        for beside in (found, {})
    )  # fmt: skip
    assert set(shown["policies"]) - set(without["policies"]) == {SEGMENT_BEST}
    assert shown["differences"][SEGMENT_BEST]["value"] < 0
    assert shown["verdict"] == "personalise"
    for key in ("verdict", "champion", "best_baseline", "gain_from_personalising"):
        assert shown[key] == without[key]
    for name in without["policies"]:
        assert shown["policies"][name] == without["policies"][name]
