"""The policy tree: exact, honest, and blind to luck; truths are planted."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from hustings.training.policy_value.policy_tree import (
    NOTHING,
    Condition,
    Cuts,
    HonestTree,
    LeafOffer,
    PolicyTree,
    grow_tree,
    honest_tree,
)

AGE, RURAL, PRIMARIES, NOISE = range(4)
CUTS = (
    Cuts((25.0, 35.0, 45.0, 55.0, 65.0), equal=False),
    Cuts((1.0,), equal=True),
    Cuts((1.0, 2.0, 3.0), equal=False),
    Cuts((0.25, 0.5, 0.75), equal=False),
)
COST = np.array([0.6, 0.6])


def electorate(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.column_stack(
        [rng.integers(18, 90, n), rng.random(n) < 0.4, rng.integers(0, 4, n),
         rng.random(n)]
    ).astype(np.float64)  # fmt: skip


def offer_of(
    rng: np.random.Generator, lift: np.ndarray, *, noise: float, shuffled: bool = False
) -> LeafOffer:
    """Scores of two messages and a control by design probabilities of a third each.

    The score of an arm is 3 × its outcome where it was drawn: unbiased for the lift.
    """
    n = len(lift)
    arm = rng.integers(0, 3, n)
    Y = np.where(arm > 0, lift[np.arange(n), arm - 1], 0) + noise * rng.normal(size=n)
    told = rng.permutation(arm) if shuffled else arm
    gamma = 3.0 * Y[:, None] * (told[:, None] == np.arange(3))
    everybody = np.ones((n, 2), dtype=bool)
    scores = gamma[:, 1:] - gamma[:, :1]
    return LeafOffer(scores, everybody, everybody, COST, lift)


def trade_for_the_rural_and_older(X: np.ndarray) -> np.ndarray:
    """Rural, 45 or older, fewer than two primaries: message 1; women's town: 0."""
    target = (X[:, RURAL] == 1) & (X[:, AGE] >= 45) & (X[:, PRIMARIES] < 2)
    return np.column_stack([np.where(target, -2.0, 1.0), np.where(target, 6.0, -1.0)])


def honest(
    seed: int,
    lift_of: Callable[[np.ndarray], np.ndarray],
    *,
    n: int = 6_000,
    noise: float = 2.0,
    shuffled: bool = False,
) -> tuple[HonestTree, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = electorate(rng, n)
    offer = offer_of(rng, lift_of(X), noise=noise, shuffled=shuffled)
    found = honest_tree(
        offer, X, CUTS, half=rng.integers(0, 2, n), price=(0.5, 0.5),
        cluster=np.arange(n) // 2,
    )  # fmt: skip
    return found, X


def test_a_planted_group_of_three_conditions_is_found_and_named() -> None:
    found, X = honest(1, trade_for_the_rural_and_older, n=20_000, noise=1.0)
    (trade,) = [g for g in found.tree.groups if g.option == 2]
    assert set(trade.conditions) == {
        Condition(RURAL, 1.0, equal=True, yes=True),
        Condition(AGE, 45.0, equal=False, yes=False),
        Condition(PRIMARIES, 2.0, equal=False, yes=True),
    }
    expected = np.where(trade_for_the_rural_and_older(X)[:, 1] > 0, 2, 1)
    assert np.array_equal(found.tree.options(X), expected)
    assert found.agreement > 0.99
    assert found.gain.low > 0
    (measured,) = [m for m in found.measured if m.group.option == 2]
    assert measured.lift is not None
    assert measured.lift.low < 6.0 < measured.lift.high
    assert measured.predicted == pytest.approx(6.0)


def conditions(cuts: Cuts, column: int) -> Iterator[tuple[int, float, bool]]:
    for value in cuts.values:
        yield column, value, cuts.equal


def brute_force(reward: np.ndarray, X: np.ndarray, least: int) -> float:
    """The best sum of rewards over every tree of two levels, one by one."""
    asked = [q for j, cuts in enumerate(CUTS) for q in conditions(cuts, j)]

    def best(rows: np.ndarray, depth: int) -> float:
        if len(rows) < least:
            return -np.inf
        found = reward[rows].sum(axis=0).max()
        for column, value, equal in asked if depth else []:
            yes = Condition(column, value, equal, yes=True).holds(X[rows])
            sides = best(rows[yes], depth - 1) + best(rows[~yes], depth - 1)
            found = max(found, sides)
        return float(found)

    return best(np.arange(len(X)), 2)


@pytest.mark.parametrize("seed", range(6))
def test_two_levels_are_the_best_of_all_trees(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "hustings.training.policy_value.policy_tree._pruned", lambda node, *_: node
    )
    rng = np.random.default_rng(seed)
    X = electorate(rng, 60)
    X[rng.random(60) < 0.2, AGE] = np.nan
    reward = np.column_stack([np.zeros(60), rng.normal(size=(60, 3))])
    tree = grow_tree(reward, X, CUTS, depth=2, least=5)
    earned = reward[np.arange(60), tree.options(X)].sum()
    assert earned == pytest.approx(brute_force(reward, X, 5))
    assert min(np.bincount(tree.group_of(X))) >= 5


def test_groups_part_all_voters_those_with_nothing_known_included() -> None:
    rng = np.random.default_rng(3)
    X = electorate(rng, 4_000)
    lift = trade_for_the_rural_and_older(X)
    X[rng.random(X.shape) < 0.15] = np.nan
    tree = grow_tree(np.column_stack([np.zeros(4_000), lift]), X, CUTS, least=20)
    inside = np.column_stack([group.members(X) for group in tree.groups])
    assert len(tree.groups) > 2
    assert (inside.sum(axis=1) == 1).all()
    assert inside.sum(axis=0).min() >= 20


def no_effect(X: np.ndarray) -> np.ndarray:
    return np.zeros((len(X), 2))


def test_luck_alone_is_not_split_and_honest_groups_cover_the_truth() -> None:
    """In the half that chose them the lifts of groups miss 0 far more often."""
    missed, within, split = [], [], 0
    for seed in range(70):
        rng = np.random.default_rng([seed, 9])
        X, half = electorate(rng, 1_600), rng.integers(0, 2, 1_600)
        offer = offer_of(rng, no_effect(X), noise=1.0)
        few = {"X": X, "cuts": CUTS, "half": half, "price": (0.0, 0.0),
               "cluster": np.arange(1_600)}  # fmt: skip
        split += len(honest_tree(offer, **few).tree.groups) > 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "hustings.training.policy_value.policy_tree._pruned",
                lambda node, *_: node,
            )
            found = honest_tree(offer, **few)
        missed += [m.lift.excludes_zero for m in found.measured if m.lift]
        within += list(in_sample(found.tree, offer.take(half == 0), X[half == 0]))
    assert split <= 7
    assert len(missed) > 220
    assert 0.02 <= np.mean(missed) <= 0.085
    assert np.mean(within) > 0.2


def in_sample(tree: PolicyTree, offer: LeafOffer, X: np.ndarray) -> Iterator[bool]:
    """Whether the groups' lifts differ from 0 among those who chose the groups."""
    of_voter = tree.group_of(X)
    for i, group in enumerate(tree.groups):
        if group.option != NOTHING:
            own = offer.lift[of_voter == i, group.option - 1]
            yield bool(abs(own.mean()) > 1.96 * own.std() / np.sqrt(len(own)))


def test_labels_shuffled_among_voters_leave_no_gain_and_no_groups() -> None:
    found = [
        honest(seed, trade_for_the_rural_and_older, n=3_000, shuffled=True)[0]
        for seed in range(12)
    ]
    assert sum(len(f.tree.groups) > 1 for f in found) <= 2
    assert sum(f.gain.low > 0 for f in found) <= 1
    real = honest(0, trade_for_the_rural_and_older, n=3_000)[0]
    assert real.gain.low > 0


def test_the_gain_is_the_value_of_the_tree_less_the_best_one_option() -> None:
    """Truth: price 0.5, cost 0.6 for both; message 0 for all earns a known sum."""
    gains = []
    for seed in range(30):
        found, X = honest(seed, trade_for_the_rural_and_older, n=4_000, noise=1.0)
        lift = trade_for_the_rural_and_older(X)
        best = np.where(lift[:, 1] > 0, lift[:, 1], lift[:, 0]).mean()
        alone = max(lift.mean(axis=0).max(), 0.3) - 0.3
        gains.append((found.gain.value - (best - 0.3 - alone)) / found.gain.se)
    assert abs(np.mean(gains)) < 0.6
    assert np.mean(np.abs(gains) < 1.96) >= 0.8


def test_who_may_not_be_sent_a_message_is_worth_nothing_and_dear_money_buys_none() -> (
    None
):
    rng = np.random.default_rng(5)
    X = electorate(rng, 2_000)
    offer = offer_of(rng, np.tile([2.0, 1.0], (2_000, 1)), noise=0.5)
    barred = replace(offer, allowed=np.tile([False, True], (2_000, 1)))
    few = {"X": X, "cuts": CUTS, "half": np.arange(2_000) % 2,
           "cluster": np.arange(2_000)}  # fmt: skip
    free = honest_tree(barred, price=(0.0, 0.0), **few)
    assert {g.option for g in free.tree.groups} == {2}
    dear = honest_tree(barred, price=(100.0, 100.0), **few)
    (all_of_them,) = dear.measured
    assert all_of_them.group.option == NOTHING
    # who is sent nothing still learns which message came nearest
    assert all_of_them.message == 1
    assert all_of_them.lift is not None
    assert all_of_them.lift.low < 1.0 < all_of_them.lift.high


def test_equal_rewards_give_the_cheaper_message_and_no_question() -> None:
    X = electorate(np.random.default_rng(6), 400)
    lift = np.ones((400, 3))
    offer = LeafOffer(lift, lift > 0, lift > 0, np.array([0.6, 0.3, 0.3]), lift)
    found = honest_tree(
        offer, X, CUTS, half=np.arange(400) % 2, price=(0.0, 0.0),
        cluster=np.arange(400),
    )  # fmt: skip
    assert [(g.conditions, g.option) for g in found.tree.groups] == [((), 2)]


def test_what_does_not_fit_is_refused_with_both_numbers() -> None:
    X = electorate(np.random.default_rng(7), 50)
    with pytest.raises(ValueError, match="40 rewards for 50 voters"):
        grow_tree(np.zeros((40, 2)), X, CUTS)
    with pytest.raises(ValueError, match="expected finite rewards"):
        grow_tree(np.full((50, 2), np.nan), X, CUTS)
    offer = LeafOffer(
        np.zeros((50, 1)), np.ones((50, 1), bool), np.ones((50, 1), bool),
        np.ones(1), np.zeros((50, 1)),
    )  # fmt: skip
    with pytest.raises(ValueError, match="both halves"):
        honest_tree(
            offer, X, CUTS, half=np.zeros(50, int), price=(0, 0), cluster=np.arange(50)
        )


def test_one_level_more_never_earns_less_on_who_chose_it() -> None:
    rng = np.random.default_rng(8)
    X = electorate(rng, 3_000)
    reward = np.column_stack([np.zeros(3_000), trade_for_the_rural_and_older(X)])
    earned = [
        reward[np.arange(3_000), grow_tree(reward, X, CUTS, depth=d).options(X)].sum()
        for d in (0, 1, 2, 3)
    ]
    assert all(b >= a for a, b in itertools.pairwise(earned))
    assert earned[3] > earned[2] + 1
