"""How a policy's money is spent on some voters: by budget alone, and under all limits.

The spend path knows the budget only and gives the whole curve. What a policy does at
the campaign's own spend obeys the plan's other limits too: the planner's optimiser,
handed in as `Allocate`, decides wherever one of them binds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.training_set import Arm, MessageTest
from hustings.training.estimators.spend_path import (
    NOTHING,
    SpendPath,
    contacts_by_row,
    pooled_rows,
    whole_budget_path,
)
from hustings.training.policy_value.policies import (
    NO_FACTS,
    Options,
    Policy,
    VoterFacts,
)


class SpendingRows(NamedTuple):
    """Voters who decide together, or random people of one kind.

    Attributes:
        value: Worth of every arm for the whole row, shape (n_rows, A).
        reach: Contacts of every arm, shape (n_rows, A).
        within: Share of the row's people in every limited group, (n_rows, G).
        ties: Order among equals, in [0, 1), shape (n_rows,).
        n_people: Of all rows.
    """

    value: Floats
    reach: Floats
    within: Floats
    ties: Floats
    n_people: int


class Allocation(NamedTuple):
    """Shares of rows that the planner gives to each arm.

    Attributes:
        share: Share of every row that gets each arm, everybody planned, (n_rows, A).
        planned: The same where some are held out and some explore, (n_rows, A); None
            where nobody asked.
        limited: Whether a limit other than the budget binds.
    """

    share: Floats
    planned: Floats | None
    limited: bool


class Allocate(Protocol):
    """The planner's optimiser under the limits of the plan, scaled to some voters."""

    def __call__(
        self,
        rows: SpendingRows,
        share: Floats,
        arms: Sequence[Arm],
        cost: Floats,
        spend: float,
        *,
        delivered: bool = False,
    ) -> Allocation:
        """What the planner does.

        Args:
            rows: Who decides together.
            share: What the budget alone would do, shape (n_rows, A): it stays as it is
                where it keeps every other limit.
            arms: Length A.
            cost: USD of every arm, shape (A,).
            spend: USD per voter.
            delivered: Whether to say what is left with a holdout and explorers.
        """


class Valuation(NamedTuple):
    """Worth of lifts to the campaign.

    Attributes:
        worth: Lift at the declared confidence.
        closed: Messages closed to a voter since its group shows backlash, (n, M).
    """

    worth: Floats
    closed: Bools


Value = Callable[[Floats, Floats, Objects | None], Valuation]
"""Lift and its standard error, (n, M) each, and the group of every voter."""


def plain_value(
    lift: Floats,
    se: Floats,  # noqa: ARG001 - a plain value has no use for it
    segment: Objects | None,  # noqa: ARG001
) -> Valuation:
    """Every lift is worth its mean, and nothing is closed."""
    return Valuation(lift, np.zeros(lift.shape, dtype=bool))


@dataclass(frozen=True)
class Market:
    """Prices, permissions and limits of a test's voters.

    Attributes:
        cost: USD of every arm, shape (A,).
        allowed: Who may get which arm, shape (n, A).
        spend: USD per voter.
        facts: Facts that policies may use besides lifts.
        groups: Who belongs to which limited group, shape (n, G); None for none.
        allocate: The planner's optimiser under the plan's limits; None where the
            budget is the only one.
        value: What lifts are worth.
    """

    cost: Floats
    allowed: Bools
    spend: float
    facts: VoterFacts = NO_FACTS
    groups: Bools | None = None
    allocate: Allocate | None = None
    value: Value = plain_value

    def take(self, rows: Bools | Ints) -> Self:
        """The market of some voters."""
        groups = None if self.groups is None else self.groups[rows]
        return replace(
            self, allowed=self.allowed[rows], facts=self.facts.take(rows), groups=groups
        )


class Spending(NamedTuple):
    """Rows that decide together, and the path along which their money is spent.

    Attributes:
        row: Row of the path of every voter, shape (n,).
        path: Whole-budget path over rows.
    """

    row: Ints
    path: SpendPath


class Choice(NamedTuple):
    """Contacts of a policy at the campaign's spend, under all limits.

    Attributes:
        row: Row of every voter, shape (n,).
        share: Share of a row that gets each arm, shape (n_rows, A).
        allowed: Who of a row may get it, shape (n, A).
        limited: Whether a limit other than the budget binds.
        planned: Share of a row that the plan itself sends each arm, where some are held
            out and some explore, shape (n_rows, A); None where nobody says how many.
    """

    row: Ints
    share: Floats
    allowed: Bools
    limited: bool
    planned: Floats | None = None

    def contacts(self) -> Floats:
        """Expected contacts of every voter and arm, shape (n, A)."""
        expected: Floats = self.share[self.row] * self.allowed
        return expected

    def delivered(self) -> Floats:
        """Expected contacts of the plan itself by voter and arm, shape (n, A)."""
        planned = self.share if self.planned is None else self.planned
        return np.asarray(planned[self.row] * self.allowed)

    def realised(self, scores: Floats) -> Floats:
        """Score of what is done less that of doing nothing, in expectation, (n,).

        Args:
            scores: Of control and every arm, shape (n, 1 + A).
        """
        lift = scores[:, 1:] - scores[:, :1]
        return np.asarray((self.contacts() * lift).sum(axis=1))


class Applied(NamedTuple):
    """A policy applied to some voters.

    Attributes:
        policy: What was chosen on training data.
        spending: At every budget.
        choice: At the campaign's spend, under all limits.
    """

    policy: Policy
    spending: Spending
    choice: Choice


def applied(
    policy: Policy,
    value: Floats,
    closed: Bools | None,
    test: MessageTest,
    market: Market,
    rng: np.random.Generator | None = None,
) -> Applied:
    """Apply a policy to voters: what is left of their options, and how money goes.

    Args:
        policy: Chosen on other voters.
        value: Worth of every arm by the lifts that the policy goes by, shape (n, A).
        closed: Arms closed besides those that are not allowed, shape (n, A); None.
        test: The voters, arms as sent.
        market: Price, permission and limits of the same voters.
        rng: Order among equals where voters decide one by one.
    """
    allowed = market.allowed if closed is None else market.allowed & ~closed
    left = policy.of(Options(value, allowed, market.facts), test.arms)
    market = replace(market, allowed=left.allowed)
    if policy.is_flat:
        row = equal_rows(left.value, left.allowed, market.groups)
    else:
        row = deciding_rows(test)
        if policy.band is not None:
            # a household's persuadable decide together, and take nobody else along
            row = together(row, permission_rows(left.allowed))
    spending = spend_along(left.value, market, row, rng)
    return Applied(
        policy, spending,
        choice_of(spending, left.value, market, test.arms, rng, delivered=True),
    )  # fmt: skip


def equal_rows(value: Floats, allowed: Bools, groups: Bools | None = None) -> Ints:
    """Voters of equal worth and permission (and groups) share a row, shape (n,)."""
    codes = [permission_rows(allowed)]
    if groups is not None and groups.shape[1]:
        codes.append(permission_rows(groups))
    frame = pd.DataFrame(value)
    codes.append(np.asarray(frame.groupby(list(frame.columns), sort=True).ngroup()))
    return together(*codes)


def spend_along(
    values: Floats, market: Market, row: Ints, rng: np.random.Generator | None = None
) -> Spending:
    """Spending from predicted lift: rows share a decision, money goes where it pays.

    Args:
        values: Lift of every arm, shape (n, A).
        market: Price and permission.
        row: Who decides together, shape (n,).
        rng: Order among equals; None leaves them as they come.
    """
    value, cost, allowed = pooled_rows(values, market.cost, market.allowed, row)
    ties = None if rng is None else rng.random(len(value))
    return Spending(
        row, whole_budget_path(value, cost, allowed=allowed, tie_break=ties)
    )


def choice_of(
    spending: Spending,
    values: Floats,
    market: Market,
    arms: Sequence[Arm],
    rng: np.random.Generator | None = None,
    *,
    delivered: bool = False,
) -> Choice:
    """Choice of a policy at the campaign's spend, by the budget or by the planner.

    Args:
        spending: At every budget.
        values: Worth of every arm, shape (n, A).
        market: Price, permission and limits.
        arms: Length A.
        rng: Order among equals.
        delivered: Whether to say what is left with a holdout and explorers.
    """
    row, path = spending
    by_budget = shares_at(path, market.spend * len(row), len(arms))
    if market.allocate is None or not by_budget.any():
        return Choice(row, by_budget, market.allowed, limited=False)
    value, _, _ = pooled_rows(values, market.cost, market.allowed, row)
    people = np.maximum(np.bincount(row, minlength=path.n_rows), 1)
    groups = market.groups
    if groups is None:
        groups = np.zeros((len(row), 0), dtype=bool)
    within = [np.bincount(row, g.astype(float), path.n_rows) / people for g in groups.T]
    ties = (rng or np.random.default_rng(0)).random(path.n_rows)
    rows = SpendingRows(
        value, contacts_by_row(market.allowed, row),
        np.array(within).T.reshape(path.n_rows, groups.shape[1]), ties, len(row),
    )  # fmt: skip
    allocation = market.allocate(
        rows, by_budget, arms, market.cost, market.spend, delivered=delivered
    )
    return Choice(
        row, allocation.share, market.allowed, allocation.limited, allocation.planned
    )


def shares_at(path: SpendPath, budget: float, n_arms: int) -> Floats:
    """Share of every row that gets each arm at a budget, shape (n_rows, A)."""
    chosen = path.options_at(budget)
    share = np.zeros((path.n_rows, n_arms))
    at = np.flatnonzero(chosen != NOTHING)
    share[at, chosen[at]] = 1.0
    partial = path.partial_step(budget)
    if partial is not None:
        share[partial.row, partial.new] += partial.fraction
        if partial.old != NOTHING:
            share[partial.row, partial.old] -= partial.fraction
    return share


def permission_rows(allowed: Bools) -> Ints:
    """Voters who may get the same arms share a row, shape (n,)."""
    packed = np.packbits(allowed, axis=1)
    return np.asarray(
        pd.DataFrame(packed).groupby(list(range(packed.shape[1]))).ngroup()
    )


def together(*codes: npt.NDArray[np.integer[Any]]) -> Ints:
    """One code for every combination of codes, shape (n,)."""
    frame = pd.DataFrame(dict(enumerate(codes)))
    return np.asarray(frame.groupby(list(frame.columns)).ngroup())


def deciding_rows(test: MessageTest) -> Ints:
    """Households decide together where the campaign drew them so; else each voter."""
    if len(np.unique(test.drawn)) == len(test.drawn):
        return np.arange(len(test.drawn))
    return np.unique(test.household, return_inverse=True)[1]
