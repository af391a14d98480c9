"""Policies spend the same money on voters that no model saw."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hustings.training.estimators.metrics import clustered_mean, realised_lift
from hustings.training.estimators.spend_path import NOTHING
from hustings.training.learners.average_effects import fit_nuisances
from hustings.training.learners.baselines import untargeted
from hustings.training.learners.gbm import prepare
from hustings.training.policy_value.held_out_halves import (
    BASELINES,
    HALVES,
    HeldOutHalf,
    baseline_policies,
    judge_halves,
    training_half,
)
from hustings.training.policy_value.spending import (
    Market,
    deciding_rows,
    permission_rows,
    spend_along,
)

COST = np.array([0.5, 1.0, 0.8, 1.6])
SPENDS = (0.0, 0.21, 0.4, 1.0, 5.0)


def market_of(test, spend: float = 0.4) -> Market:
    """Two messages by two channels; a third of the voters cannot be phoned."""
    allowed = np.ones((len(test.Y), 4), dtype=bool)
    allowed[np.arange(len(test.Y)) % 3 == 0, 1::2] = False
    return Market(COST, allowed, spend)


def opposed(X: np.ndarray) -> np.ndarray:
    total = X[:, :3].sum(axis=1)
    return np.column_stack([0.6 + total, 0.4 - total])


def judged(test, small_trees: dict) -> list[HeldOutHalf]:
    return judge_halves(
        test, market_of(test), categorical=[], settings=lambda *_: small_trees,
        issue_of=dict.fromkeys(test.messages, "issue"), seed=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def test_and_truth(planted: Callable):
    return planted(
        np.random.default_rng(1), n_households=1_200, lift=opposed,
        channels={"mail": 1.0, "phone": 1.5},
    )  # fmt: skip


@pytest.fixture(scope="module")
def halves(test_and_truth, small_trees: dict) -> list[HeldOutHalf]:
    return judged(test_and_truth[0], small_trees)


def sent_by(half: HeldOutHalf, name: str, spend: float) -> np.ndarray:
    """Expected number of contacts of every judged voter and arm."""
    row, path = half.policies[name]
    budget = spend * len(row)
    contacts = np.zeros((len(row), len(COST)))
    chosen = path.options_at(budget)[row]
    at = np.flatnonzero(chosen != NOTHING)
    contacts[at, chosen[at]] = 1
    partial = path.partial_step(budget)
    if partial is not None:
        mine = row == partial.row
        contacts[mine, partial.new] += partial.fraction
        if partial.old != NOTHING:
            contacts[mine, partial.old] -= partial.fraction
    return contacts * half.market.allowed


def test_every_voter_is_judged_once_and_no_unit_is_split(
    test_and_truth, halves
) -> None:
    test = test_and_truth[0]
    assert (halves[0].held ^ halves[1].held).all()
    for half in halves:
        assert not set(test.unit_id[half.held]) & set(test.unit_id[~half.held])
        assert 0.4 < half.held.mean() < 0.6
    assert training_half(test, "all", seed=1).all()
    for label, half in zip(HALVES, halves, strict=True):
        np.testing.assert_array_equal(training_half(test, label, seed=1), ~half.held)


def test_nothing_of_the_judged_goes_into_what_judges_them(
    test_and_truth, halves, small_trees: dict
) -> None:
    """Outcomes and arms of the judged go wild: policies stay, only scores move."""
    test = test_and_truth[0]
    held = halves[0].held
    wild = replace(
        test,
        Y=np.where(held, 1e3 * test.X[:, 3], test.Y),
        arm=np.where(held, test.arm[::-1], test.arm),
    )
    again = judged(wild, small_trees)[0]
    np.testing.assert_array_equal(again.lift, halves[0].lift)
    assert again.training_values == halves[0].training_values
    for name, (row, path) in halves[0].policies.items():
        np.testing.assert_array_equal(again.policies[name].row, row)
        np.testing.assert_array_equal(again.policies[name].path.spend, path.spend)
        np.testing.assert_array_equal(again.policies[name].path.new, path.new)
    assert (again.scores != halves[0].scores).any()


@pytest.mark.parametrize("spend", SPENDS)
def test_no_policy_spends_more_than_declared(halves, spend: float) -> None:
    for half in halves:
        assert set(half.policies) == {*BASELINES, "personalised"}
        for name in half.policies:
            spent = (sent_by(half, name, spend) @ COST).mean()
            assert spent <= spend + 1e-9, name
            if name == "personalised" and spend < 0.5:
                assert spent == pytest.approx(spend)


def test_what_is_realised_is_the_score_of_what_is_sent(halves) -> None:
    for half in halves:
        lift = half.scores[:, 1:] - half.scores[:, :1]
        for name in half.policies:
            for spend in SPENDS:
                sent = (sent_by(half, name, spend) * lift).sum(axis=1)
                np.testing.assert_allclose(half.realised(name, spend), sent, atol=1e-9)


def test_nobody_gets_what_they_may_not(halves) -> None:
    for half in halves:
        lift = half.realised("personalised", 5.0)
        nothing_allowed = ~half.market.allowed.any(axis=1)
        assert (lift[nothing_allowed] == 0).all()
        barred = half.market.allowed.copy()
        barred[:] = False
        row, path = half.policies["best_mix"]
        assert (realised_lift(half.scores, path, row, barred, 1e9) == 0).all()


def test_members_of_a_household_are_sent_the_same(test_and_truth) -> None:
    test, true = test_and_truth
    market = replace(market_of(test), allowed=np.ones((len(test.Y), 4), dtype=bool))
    values = np.repeat(true, 2, axis=1) * [1, 1.5, 1, 1.5]
    row, path = spend_along(values, market, deciding_rows(test))
    for spend in SPENDS:
        chosen = path.options_at(spend * len(row))[row]
        first = chosen[np.unique(test.household, return_index=True)[1]]
        np.testing.assert_array_equal(chosen, first[test.household])
    alone = replace(test, drawn=np.arange(len(test.Y)))
    np.testing.assert_array_equal(deciding_rows(alone), np.arange(len(test.Y)))


def test_the_baselines_are_what_their_names_say(test_and_truth, halves) -> None:
    for half in halves:
        contacts = {name: sent_by(half, name, 0.4) for name in half.policies}
        assert contacts["nobody"].sum() == 0
        # one message, by whatever channels pay
        sent = {
            arm.message_id
            for arm, n in zip(
                test_and_truth[0].arms,
                contacts["single_best"].sum(axis=0),
                strict=True,
            )
            if n > 0
        }
        assert len(sent) == 1
        assert half.chosen["single_best"].messages == tuple(sent)
        # random people: who may be sent the same counts the same
        row = half.policies["best_mix"].row
        np.testing.assert_array_equal(row, permission_rows(half.market.allowed))
        assert len(np.unique(half.policies["one_covariate"].row)) <= 4


def test_the_best_mix_is_worth_at_least_the_single_best_by_its_own_lights(
    planted: Callable,
) -> None:
    """A dear strong message and a cheap weak one: the mix begins with the cheap."""
    test, _ = planted(
        np.random.default_rng(3), n_households=1_500,
        lift=lambda X: np.tile([1.0, 3.0], (len(X), 1)),
    )  # fmt: skip
    issues = dict.fromkeys(test.messages, "issue")
    prepared = prepare(test, [], issues, seed=1)
    market = Market(
        np.array([0.2, 1.0]), np.ones((len(test.Y), 2), dtype=bool), spend=0.5
    )
    flat = untargeted(prepared.nuisances)
    judged_policies = baseline_policies(prepared.nuisances, test, market, flat)
    policies = {name: one.spending for name, one in judged_policies.items()}
    budget = 0.5 * len(test.Y)
    mixed = policies["best_mix"].path.value_at(budget) / len(test.Y)
    single = policies["single_best"].path.value_at(budget) / len(test.Y)
    # half the people get the strong one, or: all the weak, 3 / 8 of them moved up
    assert single == pytest.approx(1.5, abs=0.3)
    assert mixed == pytest.approx(1 + 2 * 0.3 / 0.8, abs=0.3)
    assert mixed > single
    moves = policies["best_mix"].path
    assert moves.new.tolist() == [0, 1]


def test_permission_rows_join_exactly_those_who_may_be_sent_the_same() -> None:
    rng = np.random.default_rng(0)
    allowed = rng.random((300, 11)) < 0.5
    allowed[::3] = allowed[0]
    row = permission_rows(allowed)
    same = (allowed[:, None] == allowed[None]).all(axis=2)
    np.testing.assert_array_equal(row[:, None] == row[None], same)


def test_a_judged_gain_is_the_true_one_within_its_error(test_and_truth, halves) -> None:
    """The same policy on the planted lifts in place of the scores."""
    test, true = test_and_truth
    by_arm = np.repeat(true, 2, axis=1) * [1, 1.5, 1, 1.5]
    planted = np.column_stack([np.zeros(len(true)), by_arm])
    for half in halves:
        for name in ("personalised", "one_covariate", "best_mix"):
            row, path = half.policies[name]
            budget = 0.4 * len(row)
            real = realised_lift(
                planted[half.held], path, row, half.market.allowed, budget
            )
            off = clustered_mean(
                half.realised(name, 0.4) - real, test.household[half.held]
            )
            assert abs(off.value) < 4 * off.se


def test_the_judging_scores_are_by_nuisances_of_the_other_half(
    test_and_truth, halves
) -> None:
    test = test_and_truth[0]
    half = halves[0]
    mine = test.take(~half.held)
    issues = dict.fromkeys(test.messages, "issue")
    nuisances = fit_nuisances(
        mine, prepare(mine, [], issues, seed=1).data, issues, seed=1
    )
    np.testing.assert_allclose(nuisances.scores(test.take(half.held)), half.scores)
