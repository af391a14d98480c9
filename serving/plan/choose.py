"""The best option of every row within all limits, and how far it may be from the best.

With the budget alone the whole-budget path is optimal but for one row. With more limits
every limit has a price; rows that are about indifferent at the prices are solved
exactly. The dual value is an upper bound, so the gap to the best plan is known.
"""

from dataclasses import dataclass

import numpy as np

from hustings.features.arrays import Floats, Ints
from hustings.features.spilled import let_go, row_blocks
from hustings.serving.plan.constraints import Limits, PlanError
from hustings.serving.plan.dual import (
    PricedMarket,
    best_at,
    bound_at,
    first_prices,
    market_of,
)
from hustings.serving.plan.repair import filled, within
from hustings.serving.plan.restricted_master import (
    N_EDGE,
    Relaxed,
    edge_mended,
    solve_restricted_master,
)
from hustings.training.estimators.spend_path import (
    NOTHING,
    SpendPath,
    Steps,
    hull_steps,
    path_of_steps,
)

N_SAMPLED = 20_000
"""Rows by which prices are found before all rows are asked."""
FAR = 0.05
"""Part of a limit by which a plan that knows it not may miss it."""
SETTLED = 1e-6
"""Share of a plan's value that is not worth another integer programme."""


@dataclass(frozen=True)
class Chosen:
    """A plan over rows.

    Attributes:
        option: Arm of every row, or `NOTHING`, shape (n_rows,).
        price: Shadow price of every limit, shape (n_limits,).
        value: Predicted value of the plan.
        bound: No plan is worth more than this.
    """

    option: Ints
    price: Floats
    value: float
    bound: float

    @property
    def gap(self) -> float:
        """Share of the bound that the plan may fall short of the best."""
        return (self.bound - self.value) / self.bound if self.bound > 0 else 0.0


def choose_options(
    value: Floats,
    reach: Floats,
    limits: Limits,
    rng: np.random.Generator | None = None,
    *,
    ties: Floats | None = None,
    start: Floats | None = None,
    integral: bool = True,
) -> Chosen:
    """The best option of every row within all limits.

    Args:
        value: Predicted value of every row and option, shape (n_rows, A); an option
            that is not worth having (or not allowed) is at most 0 and never taken.
        reach: Contacts an option means in a row, shape (n_rows, A); 0 where it is not
            allowed.
        limits: Money, capacities, floors, shares.
        rng: Order among rows worth the same, where `ties` are not given.
        ties: That order, a number in [0, 1) of every row, shape (n_rows,): a seeded
            hash of who the row is makes the plan independent of the order of rows.
        start: Prices to begin with, shape (n_limits,), where a like plan is known.
        integral: False leaves out the few rows that the relaxation would split, for who
            only wants the bound.

    Returns:
        Never over a limit. An effect at or below zero is never bought: a plan cannot
        gain by keeping anybody from voting.

    Raises:
        PlanError: If floors or shares contradict the other limits.
    """
    if ties is None:
        ties = (rng or np.random.default_rng(0)).random(len(value))
    market = market_of(value, reach, limits, ties)
    path, option = None, None
    if not _exceeds_others(market):
        path = _budget_path(market)
        option = path.options_at(limits.most[0])
    if (
        path is not None
        and option is not None
        and (limits.are_kept(limits.used(option, reach)))
    ):
        price = np.zeros(len(limits.most))
        price[0] = path.shadow_price(limits.most[0])
        option = _spent_up(market, path, option) if integral else option
        bound = bound_at(market, price)
    else:
        highest = highest_prices(market)
        if start is None:
            start = _sampled_prices(market, highest)
        relaxed = solve_restricted_master(market, np.minimum(start, highest), highest)
        price, bound, option = relaxed.price, relaxed.bound, relaxed.option
        option = _whole_options(market, relaxed) if integral else option
    worth = worth_of(option, value)
    # the last digits of a sum: a plan is never above its bound
    return Chosen(option, price, worth, max(bound, worth))


def _budget_path(market: PricedMarket) -> SpendPath:
    """The best plan at every budget if money were the only limit."""
    cost, parts = market.limits.use[0], []
    for rows in row_blocks(len(market.ties)):
        reach = market.reach[rows]
        allowed = np.isfinite(market.value[rows])
        value = np.where(allowed, market.value[rows], 0.0)
        steps = hull_steps(value, reach * cost, allowed)
        parts.append(steps._replace(row=steps.row + rows.start))
    let_go(market.value, market.reach)
    if not parts:
        return path_of_steps(hull_steps(market.value, cost), 0)
    joint = Steps(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return path_of_steps(joint, len(market.ties), market.ties)


def _exceeds_others(market: PricedMarket) -> bool:
    """Whether money alone would leave another limit far behind, by many rows.

    At the price of money in a random part of the rows all rows are asked what they
    would take; so the steps of all rows need not be put in order for nothing.
    """
    limits, n = market.limits, len(market.ties)
    if len(limits.most) == 1 or n <= 2 * N_SAMPLED:
        return False
    price = np.zeros(len(limits.most))
    budget = limits.most[0] * N_SAMPLED / n
    price[0] = _budget_path(_sample(market)).shadow_price(budget)
    used = limits.used(best_at(market, price).option, market.reach)
    return bool((used - limits.most > FAR * limits.scale())[1:].any())


def _sample(market: PricedMarket) -> PricedMarket:
    """A random part of many rows."""
    return market.rows(np.argpartition(market.ties, N_SAMPLED)[:N_SAMPLED])


def worth_of(option: Ints, value: Floats) -> float:
    """Predicted value of the options taken."""
    at = np.flatnonzero(option != NOTHING)
    return float(value[at, option[at]].sum(dtype=np.float64))


def highest_prices(market: PricedMarket) -> Floats:
    """More than any limit can be worth, shape (n_limits,)."""
    top = market.dearest()
    use = np.abs(market.limits.use)
    least = np.where(use > 0, use, np.inf).min(axis=1, initial=np.inf)
    return np.where(np.isfinite(least), 20.0 * max(top, 1e-9) / least, 1.0)


def _spent_up(market: PricedMarket, path: SpendPath, option: Ints) -> Ints:
    """Spend on rows near the margin what was too little for the next whole step."""
    at = path.steps_within(market.limits.most[0])
    if at >= len(path.row):
        return option
    near = path.row[max(at - N_EDGE[0] // 2, 0) : at + N_EDGE[0] // 2]
    mended = edge_mended(
        market, option, np.unique(near), SETTLED / 10 * worth_of(option, market.value)
    )
    candidate = option if mended is None else mended
    return max((option, candidate), key=lambda o: worth_of(o, market.value))


def _sampled_prices(market: PricedMarket, highest: Floats) -> Floats:
    """Prices that suit a random part of many rows, with as much of every limit."""
    price, n = first_prices(market, highest), len(market.ties)
    if n <= 2 * N_SAMPLED:
        return price
    sample = _sample(market)
    limits = sample.limits.with_most(market.limits.most * (N_SAMPLED / n))
    try:
        return solve_restricted_master(
            sample._replace(limits=limits), price, highest, enough=1e-5
        ).price
    except PlanError:  # a few rows may lack what all have
        return price


def _whole_options(market: PricedMarket, relaxed: Relaxed) -> Ints:
    """Whole options: the rows at the margin are decided again by integer programme."""
    best = best_at(market, relaxed.price)
    near = np.argsort(best.margin, kind="stable")
    near = near[np.isfinite(best.margin[near])]
    enough = SETTLED * abs(relaxed.bound)
    best_option, worth = None, -np.inf
    # who holds up a split, and those next to them; in an order that no file decides
    for size in N_EDGE:
        edge = np.unique(np.concatenate([relaxed.loose[:size], near[:size]]))
        edge = edge[np.argsort(market.ties[edge], kind="stable")]
        option = edge_mended(market, relaxed.option, edge, enough)
        if option is not None and worth_of(option, market.value) > worth:
            best_option, worth = option, worth_of(option, market.value)
        if relaxed.bound - worth <= 3 * enough or len(edge) < size:
            break
    if best_option is not None:
        return best_option
    if market.limits.floors.any():
        raise PlanError(
            "limits can be kept on average, and by no whole contacts: loosen a floor, "
            "a minimum or a share by about one contact"
        )
    option = within(relaxed.option, market)
    return filled(option, market, relaxed.price)
