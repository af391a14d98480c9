"""Minimum cost: the least money for a wanted gain."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hustings.features.arrays import Floats
from hustings.serving.plan.choose import Chosen, choose_options
from hustings.serving.plan.constraints import Limits, PlanError
from hustings.training.estimators.spend_path import whole_budget_path

N_BISECTIONS = 40
ENOUGH = 1e-4
"""Relative precision of the money where more than the budget binds."""


class LeastMoney(NamedTuple):
    """The cheapest plan found for a gain.

    Attributes:
        chosen: The plan; its value is at least what was wanted.
        spend_usd: What it costs.
        at_least_usd: No plan with that gain is cheaper.
    """

    chosen: Chosen
    spend_usd: float
    at_least_usd: float


def least_money(
    value: Floats, reach: Floats, limits: Limits, wanted: float, ties: Floats
) -> LeastMoney:
    """Least money for a wanted predicted gain within all limits but the budget.

    The best gain at a budget is concave in it; a budget whose upper bound lies below
    the wanted gain is too small, which bounds the money from below. Bisection between.

    Args:
        value: Shape (n_rows, A), as in `choose_options`.
        reach: Shape (n_rows, A).
        limits: Money in row 0, whose amount is the most that may be asked for.
        wanted: Gain, in units of `value`.
        ties: Order of equals, shape (n_rows,).

    Raises:
        PlanError: If that gain cannot be had within the limits.
    """
    cost = reach * limits.use[0]
    path = whole_budget_path(value, cost, allowed=reach > 0, tie_break=ties)
    best = path.value_at(limits.most[0])
    least = _on_path(path.spend, np.cumsum(path.value), wanted)
    most = float(min(limits.most[0], path.spend[-1] if len(path.spend) else 0.0))
    cheapest = _at(value, reach, limits, most, ties)
    if best < wanted or cheapest.value < wanted:
        raise PlanError(
            f"wanted a gain of {wanted:,.6g}, but no more than "
            f"{min(best, cheapest.bound):,.6g} can be had within the limits"
        )
    low, high = least, most
    for _ in range(N_BISECTIONS):
        if high - low <= ENOUGH * high:
            break
        # the bound of the path is often exact: look there first
        middle = min(low * (1 + ENOUGH / 2), high) if low == least else (low + high) / 2
        tried = _at(value, reach, limits, middle, ties)
        if tried.value >= wanted:
            cheapest, high = tried, middle
        else:
            low = middle
            if tried.bound < wanted:
                least = max(least, middle)
    spend = float(limits.used(cheapest.option, reach)[0])
    return LeastMoney(cheapest, spend, min(least, spend))


def _on_path(spend: Floats, value: Floats, wanted: float) -> float:
    """Money at which the path reaches a gain; the last of it where it never does."""
    if len(spend) == 0 or wanted <= 0:
        return 0.0
    return float(np.interp(wanted, np.append(0.0, value), np.append(0.0, spend)))


def _at(
    value: Floats, reach: Floats, limits: Limits, budget: float, ties: Floats
) -> Chosen:
    most = limits.most.copy()
    most[0] = budget
    return choose_options(value, reach, replace(limits, most=most), ties=ties)
