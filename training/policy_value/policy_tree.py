"""A shallow policy tree: groups in a person's words, each with its best message.

The reward of an option is its doubly robust lift less the price of money times its
cost; nothing is always an option, worth 0. The tree maximises the mean reward over all
trees of questions with given cuts. Groups are chosen on one half of the units and
measured on the other: in the half that chose them every group looks too good.

Shapes: n voters, p columns, M messages; option 0 is nothing, option m is message m - 1.

Sources: Athey & Wager (2021), policy learning; Athey & Imbens (2016), honest trees.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.tables import SMALLEST_CELL
from hustings.training.estimators.metrics import (
    Interval,
    clustered_mean,
    clustered_means,
)

NOTHING = 0
"""Option of a group that is sent nothing."""
NOBODY = -1
"""Message of a group that may be sent none."""
LEAST_SHARE = 0.05
DEPTH = 3
BEAM = 4
"""Top questions that are followed below an exact search of two levels."""
MOST_OPTIONS = 12
EXACT_LEVELS = 2


class Cuts(NamedTuple):
    """Questions about one column.

    Attributes:
        values: Asked values, ascending.
        equal: Whether a question is "equal to the value" rather than "below the value".
    """

    values: tuple[float, ...]
    equal: bool


class Condition(NamedTuple):
    """One question of a group and the answer that its voters give.

    Attributes:
        column: Column of X.
        value: Asked value.
        equal: Whether "equal to" is asked rather than "below".
        yes: The answer; a missing value answers no.
    """

    column: int
    value: float
    equal: bool
    yes: bool

    def holds(self, X: npt.NDArray[np.floating[Any]]) -> Bools:
        """Whether each voter gives this answer, shape (n,)."""
        column = X[:, self.column]
        answer = column == self.value if self.equal else column < self.value
        holds: Bools = answer == self.yes
        return holds


class TreeGroup(NamedTuple):
    """Voters who give the same answers, and what is best for them."""

    conditions: tuple[Condition, ...]
    option: int

    def members(self, X: npt.NDArray[np.floating[Any]]) -> Bools:
        """Whether each voter belongs to the group, shape (n,)."""
        inside = np.ones(len(X), dtype=bool)
        for condition in self.conditions:
            inside &= condition.holds(X)
        return inside


@dataclass(frozen=True)
class PolicyTree:
    """Groups that part all voters.

    Attributes:
        groups: Every voter is in exactly one.
    """

    groups: tuple[TreeGroup, ...]

    def group_of(self, X: npt.NDArray[np.floating[Any]]) -> Ints:
        """Position of every voter's group, shape (n,)."""
        position = np.zeros(len(X), dtype=np.int64)
        for i, group in enumerate(self.groups):
            position[group.members(X)] = i
        return position

    def options(self, X: npt.NDArray[np.floating[Any]]) -> Ints:
        """Option of every voter, shape (n,)."""
        of_group = np.array([group.option for group in self.groups])
        return of_group[self.group_of(X)]


def grow_tree(
    reward: Floats,
    X: npt.NDArray[np.floating[Any]],
    cuts: Sequence[Cuts],
    *,
    depth: int = DEPTH,
    least: int = SMALLEST_CELL,
    cluster: Ints | None = None,
) -> PolicyTree:
    """The tree that earns most on these voters, less what luck alone would split.

    Up to two levels are searched exactly, over all questions together. With three, the
    first question is tried among the `BEAM` that an exact search of two levels likes
    best, with an exact search of two levels on each of its sides.

    A subtree stays only where it earns more than one option for all its voters by
    √(2 log Q) standard errors, Q the number of questions: about as far as the best of
    Q worthless questions goes. Equal trees: the first question, and nothing before a
    message.

    Args:
        reward: Of every option, column 0 (nothing) included, shape (n, 1 + M).
        X: Columns that may be asked about, shape (n, p).
        cuts: What may be asked about each, length p.
        depth: Questions before a group, at most.
        least: People of the smallest group.
        cluster: Who shares noise, shape (n,); None where nobody does.

    Raises:
        ValueError: If shapes do not fit, or a reward is not finite.
    """
    if reward.shape[0] != len(X) or len(cuts) != X.shape[1]:
        raise ValueError(
            f"expected a reward a voter and cuts a column, got {reward.shape[0]} "
            f"rewards for {len(X)} voters, {len(cuts)} cuts for {X.shape[1]} columns"
        )
    if not np.isfinite(reward).all():
        raise ValueError("expected finite rewards, got others")
    searched = _Search(
        np.arange(len(X)),
        np.asfortranarray(reward, dtype=np.float64),
        _codes(X, cuts),
        [_answers(c) for c in cuts],
        least,
    )
    root = searched.best(depth)
    units = np.arange(len(X)) if cluster is None else cluster
    n_questions = max(sum(len(c.values) for c in cuts), 2)
    far = math.sqrt(2 * math.log(n_questions))
    pruned = _pruned(root, reward, units, far)
    return PolicyTree(tuple(_groups(pruned, cuts, ())))


# --- search ---


def _codes(X: npt.NDArray[np.floating[Any]], cuts: Sequence[Cuts]) -> list[Ints]:
    """Bin of every voter in every column; a missing value is in the last."""
    codes = []
    for column, (values, equal) in zip(X.T, cuts, strict=True):
        cut_values = np.asarray(values, dtype=np.float64)
        column = np.asarray(column, dtype=np.float64)
        if equal:
            place = np.searchsorted(cut_values, column).clip(
                0, max(len(cut_values) - 1, 0)
            )
            equals_cut = (
                cut_values[place] == column
                if len(cut_values)
                else np.zeros(len(X), bool)
            )
            code = np.where(equals_cut, place, len(cut_values))
        else:
            code = np.searchsorted(cut_values, column, side="right")
            code[np.isnan(column)] = len(cut_values)
        codes.append(code.astype(np.int64))
    return codes


def _answers(cuts: Cuts) -> Floats:
    """Whether a bin answers a question with yes, shape (n_questions, n_bins)."""
    n = len(cuts.values)
    question, bins = np.arange(n)[:, None], np.arange(n + 1)[None, :]
    yes = bins == question if cuts.equal else bins <= question
    return np.asarray(yes, dtype=np.float64)


class _Node(NamedTuple):
    """A part of a tree: a group, or a question with both its sides."""

    rows: Ints
    value: float
    option: int
    question: tuple[int, int] | None = None
    yes: "_Node | None" = None
    no: "_Node | None" = None


class _Side(NamedTuple):
    """The best one question below every top question, on one side of it."""

    value: Floats
    question: Ints


@dataclass(frozen=True)
class _Search:
    """Some of the voters, and what may be asked of them."""

    rows: Ints
    reward: Floats
    codes: list[Ints]
    answers: list[Floats]
    least: int

    def take(self, inside: Bools) -> "_Search":
        reward = np.asfortranarray(self.reward[inside])
        codes = [code[inside] for code in self.codes]
        return replace(self, rows=self.rows[inside], reward=reward, codes=codes)

    def best(self, depth: int) -> _Node:
        """The best tree of a depth on these voters."""
        totals = self.reward.sum(axis=0)
        option = int(totals.argmax())
        leaf = _Node(self.rows, float(totals[option]), option)
        if depth < 1 or len(self.rows) < 2 * self.least:
            return leaf
        earned = self._one_level() if depth == 1 else self._two_levels()
        wide = BEAM if depth > EXACT_LEVELS else 1
        tops = self._ranked(earned)[:wide]
        grown = [self._below(leaf, top, depth - 1) for top in tops]
        # the first of equals, and a question only where it earns more
        return max([leaf, *grown], key=lambda node: round(node.value, 9))

    def _below(self, leaf: _Node, top: tuple[int, int], depth: int) -> _Node:
        column, question = top
        said_yes = self.answers[column][question][self.codes[column]] > 0
        yes, no = self.take(said_yes).best(depth), self.take(~said_yes).best(depth)
        return leaf._replace(value=yes.value + no.value, question=top, yes=yes, no=no)

    def _ranked(self, earned: list[Floats]) -> list[tuple[int, int]]:
        """Questions by what they earn, one that leaves too few on a side left out."""
        questions = [(j, q) for j, of in enumerate(earned) for q in range(len(of))]
        values = np.concatenate([*earned, np.zeros(0)])
        order = np.argsort(-values.round(9), kind="stable")
        return [questions[i] for i in order if np.isfinite(values[i])]

    def _alone(self) -> tuple[list[Floats], Floats]:
        """Reward sums of voters who answer yes to each question, and of all."""
        sums = [
            answers @ self._sums(code, answers.shape[1])
            for code, answers in zip(self.codes, self.answers, strict=True)
        ]
        return sums, self._sums(np.zeros(len(self.rows), dtype=np.int64), 1)[0]

    def _one_level(self) -> list[Floats]:
        alone, total = self._alone()
        return [_worth(a, self.least) + _worth(total - a, self.least) for a in alone]

    def _two_levels(self) -> list[Floats]:
        """What every top question earns with the best question on each side."""
        alone, total = self._alone()
        yes = [_worth(a, self.least) for a in alone]
        no = [_worth(total - a, self.least) for a in alone]
        for j, k in combinations_with_replacement(range(len(self.codes)), 2):
            joint = self._joint(j, k)
            for top, below, quadrant in _orders(j, k, joint):
                sides = _halves(quadrant, alone[top], alone[below], total, self.least)
                np.maximum(yes[top], sides[0], out=yes[top])
                np.maximum(no[top], sides[1], out=no[top])
        return [y + n for y, n in zip(yes, no, strict=True)]

    def _sums(self, code: Ints, n_bins: int) -> Floats:
        """Rewards and people of every bin, shape (n_bins, options + 1); people last."""
        columns = [
            np.bincount(code, weights=reward, minlength=n_bins)
            for reward in self.reward.T[1:]
        ]
        people = np.bincount(code, minlength=n_bins)
        return np.column_stack([np.zeros(n_bins), *columns, people])

    def _joint(self, j: int, k: int) -> Floats:
        """Reward sums of voters who answer yes to a question of j and to one of k."""
        first, second = self.answers[j], self.answers[k]
        code = self.codes[j] * second.shape[1] + self.codes[k]
        cells = self._sums(code, first.shape[1] * second.shape[1])
        cells = cells.reshape(first.shape[1], second.shape[1], -1)
        half = np.tensordot(first, cells, axes=(1, 0))
        return np.moveaxis(np.tensordot(half, second, axes=(1, 1)), -1, 1)


def _worth(sums: Floats, least: int) -> Floats:
    """Reward of the best option for all; minus infinity for too few people."""
    best = sums[..., :-1].max(axis=-1)
    return np.where(sums[..., -1] >= least, best, -np.inf)


def _orders(j: int, k: int, joint: Floats) -> Iterator[tuple[int, int, Floats]]:
    yield j, k, joint
    if j != k:
        yield k, j, joint.swapaxes(0, 1)


def _halves(
    joint: Floats, top: Floats, below: Floats, total: Floats, least: int
) -> tuple[Floats, Floats]:
    """The best question of a column below every top question: yes side, no side."""
    yes_no = top[:, None] - joint
    no_yes = below[None] - joint
    no_no = total - top[:, None] - no_yes
    on_yes = _worth(joint, least) + _worth(yes_no, least)
    on_no = _worth(no_yes, least) + _worth(no_no, least)
    empty = np.full(len(top), -np.inf)
    if on_yes.size == 0:
        return empty, empty
    return on_yes.max(axis=1), on_no.max(axis=1)


# --- what stays ---


def _pruned(node: _Node, reward: Floats, cluster: Ints, far: float) -> _Node:
    """The tree without what is no better than one option for all by enough."""
    if node.yes is None or node.no is None:
        return node
    yes = _pruned(node.yes, reward, cluster, far)
    no = _pruned(node.no, reward, cluster, far)
    leaf = node._replace(question=None, yes=None, no=None)
    both_leaves = yes.question is None and no.question is None
    if both_leaves and yes.option == no.option:
        return leaf
    split_node = node._replace(yes=yes, no=no)
    gain = np.zeros(len(reward))
    for part in _leaves(split_node):
        gain[part.rows] = reward[part.rows, part.option]
    gain = gain[node.rows] - reward[node.rows, node.option]
    cluster_code = np.unique(cluster[node.rows], return_inverse=True)[1]
    if cluster_code.max(initial=0) < 1:
        return leaf
    mean_gain = clustered_mean(gain, cluster_code)
    return split_node if mean_gain.value > far * mean_gain.se else leaf


def _leaves(node: _Node) -> Iterator[_Node]:
    if node.yes is None or node.no is None:
        yield node
        return
    yield from _leaves(node.yes)
    yield from _leaves(node.no)


def _groups(
    node: _Node, cuts: Sequence[Cuts], above: tuple[Condition, ...]
) -> Iterator[TreeGroup]:
    if node.question is None or node.yes is None or node.no is None:
        yield TreeGroup(above, node.option)
        return
    column, question = node.question
    values, equal = cuts[column]
    for side, yes in ((node.yes, True), (node.no, False)):
        condition = Condition(column, values[question], equal, yes)
        yield from _groups(side, cuts, (*above, condition))


# --- honestly ---


@dataclass(frozen=True)
class LeafOffer:
    """Messages that could be sent to the voters of a test, with their scores.

    Attributes:
        lift: Γ_m − Γ_0, nuisances by the other half, shape (n, M).
        compared: Who could have been sent the message, and nothing, shape (n, M).
        allowed: Who may be sent the message, shape (n, M).
        cost: USD of every message, shape (M,).
        predicted: Lift by the model of the other half, shape (n, M).
        weight: Survey weights of mean 1, shape (n,); None where all count the same.
    """

    lift: Floats
    compared: Bools
    allowed: Bools
    cost: Floats
    predicted: Floats
    weight: Floats | None = None

    def rewards(self, price: float) -> Floats:
        """Rewards of nothing and every message at a price, shape (n, 1 + M)."""
        net = np.where(self.allowed, self.lift - price * self.cost, 0.0)
        if self.weight is not None:
            net = net * self.weight[:, None]
        return np.column_stack([np.zeros(len(net)), net])

    def take(self, rows: Bools) -> "LeafOffer":
        """The offer of some voters."""
        return LeafOffer(
            self.lift[rows], self.compared[rows], self.allowed[rows], self.cost,
            self.predicted[rows], None if self.weight is None else self.weight[rows],
        )  # fmt: skip

    def measured(self, inside: Bools, message: int, cluster: Ints) -> Interval | None:
        """Lift of a message among some of the voters; None of too few people."""
        at = inside & self.compared[:, message]
        if self.weight is not None:
            at &= self.weight > 0
        cluster_code = np.unique(cluster[at], return_inverse=True)[1]
        if at.sum() < SMALLEST_CELL or cluster_code.max(initial=0) < 1:
            return None
        survey = None if self.weight is None else self.weight[at]
        if survey is not None:
            survey = survey / survey.mean()
        mean, covariance = clustered_means(
            self.lift[at, message][:, None], cluster_code, survey
        )
        return Interval.of(float(mean[0]), se=math.sqrt(covariance[0, 0]))


@dataclass(frozen=True)
class Measured:
    """A group and what the half that did not choose it says.

    Attributes:
        group: Its conditions and its option.
        message: Position of its best message in the half that chose, also where that
            is not worth the price of money and the option is nothing; `NOBODY` where
            none may be sent.
        n: Its voters in the half that measures.
        predicted: Mean lift of the message by the model; NaN where nobody measures.
        lift: Measured lift of the message; None of too few people.
    """

    group: TreeGroup
    message: int
    n: int
    predicted: float
    lift: Interval | None


@dataclass(frozen=True)
class HonestTree:
    """A tree chosen on the first half and measured on the second.

    Attributes:
        tree: The groups.
        measured: The same groups, measured on the second half.
        gain: What such a tree adds per voter to the best one option for all, at the
            price of money: each half by the tree of the other, both together.
        agreement: Share of all voters to whom the trees of both halves give the same.
    """

    tree: PolicyTree
    measured: tuple[Measured, ...]
    gain: Interval
    agreement: float


def honest_tree(
    offer: LeafOffer,
    X: npt.NDArray[np.floating[Any]],
    cuts: Sequence[Cuts],
    *,
    half: Ints,
    price: tuple[float, float],
    cluster: Ints,
) -> HonestTree:
    """Groups from one half of the voters, their lifts from the other.

    Args:
        offer: Of n voters.
        X: Columns that may be asked about, shape (n, p).
        cuts: What may be asked about each.
        half: 0 or 1, shape (n,); units are never split.
        price: Outcome units that a USD is worth, for the tree of each half.
        cluster: Who shares noise, shape (n,).

    Raises:
        ValueError: If a half is empty.
    """
    if not ((half == 0).any() and (half == 1).any()):
        raise ValueError("expected voters in both halves, got an empty one")
    trees, gain = [], np.zeros(len(X))
    for k in (0, 1):
        in_half, other = half == k, half != k
        tree, alone = _chosen(
            offer.take(in_half),
            X[in_half],
            cuts,
            price[k],
            cluster[in_half],
        )
        reward = offer.rewards(price[k])[other]
        sent = tree.options(X[other])
        gain[other] = reward[np.arange(len(reward)), sent] - reward[:, alone]
        trees.append(tree)
    cluster_code = np.unique(cluster, return_inverse=True)[1]
    same = trees[0].options(X) == trees[1].options(X)
    second = half == 1
    best = _best_messages(trees[0], offer.take(~second), X[~second], price[0])
    measured = _measured(trees[0], best, offer.take(second), X[second], cluster[second])
    return HonestTree(
        trees[0], measured, clustered_mean(gain, cluster_code), float(same.mean())
    )


def _chosen(
    offer: LeafOffer,
    X: npt.NDArray[np.floating[Any]],
    cuts: Sequence[Cuts],
    price: float,
    cluster: Ints,
) -> tuple[PolicyTree, int]:
    """The tree of a half and its best one option for all, among the best messages."""
    reward = offer.rewards(price)
    mean = reward.mean(axis=0)
    order = 1 + np.argsort(-mean[1:], kind="stable")[:MOST_OPTIONS]
    # among equals the cheaper message comes first, and nothing before all
    options = np.array([NOTHING, *sorted(order, key=lambda m: (offer.cost[m - 1], m))])
    least = max(SMALLEST_CELL, math.ceil(LEAST_SHARE * len(X)))
    tree = grow_tree(reward[:, options], X, cuts, least=least, cluster=cluster)
    groups = (g._replace(option=int(options[g.option])) for g in tree.groups)
    return PolicyTree(tuple(groups)), int(options[mean[options].argmax()])


def _best_messages(
    tree: PolicyTree, offer: LeafOffer, X: npt.NDArray[np.floating[Any]], price: float
) -> list[int]:
    """The message that earns most in every group, whether it is worth its price."""
    of_voter = tree.group_of(X)
    return [
        group.option - 1
        if group.option != NOTHING
        else _nearest(offer.take(of_voter == i), price)
        for i, group in enumerate(tree.groups)
    ]


def _nearest(offer: LeafOffer, price: float) -> int:
    """The message that comes nearest to being worth its price; -1 for none allowed."""
    people = offer.allowed.sum(axis=0)
    earned = offer.rewards(price)[:, 1:].sum(axis=0) / np.maximum(people, 1)
    earned[people < SMALLEST_CELL] = -np.inf
    return int(earned.argmax()) if np.isfinite(earned).any() else NOBODY


def _measured(
    tree: PolicyTree,
    best: Sequence[int],
    offer: LeafOffer,
    X: npt.NDArray[np.floating[Any]],
    cluster: Ints,
) -> tuple[Measured, ...]:
    of_voter = tree.group_of(X)
    measured_groups = []
    for i, (group, m) in enumerate(zip(tree.groups, best, strict=True)):
        inside = of_voter == i
        n = int(inside.sum())
        measurable = n > 0 and m != NOBODY
        predicted = float(offer.predicted[inside, m].mean()) if measurable else math.nan
        lift = offer.measured(inside, m, cluster) if measurable else None
        measured_groups.append(Measured(group, m, n, predicted, lift))
    return tuple(measured_groups)
