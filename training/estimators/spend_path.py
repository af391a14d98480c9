"""The whole-budget path: the best assignment at every budget at once.

Per row (voter or household) the upper convex hull of (cost, value) lists its options
from cheapest worth having to dearest; the segments of all rows sorted by slope trace
the optimum of the linear relaxation of the multi-choice knapsack at every budget, and
at most one row is ever fractional.

Sources: Sinha & Zoltners (1979); Sverdrup, Wu, Athey & Wager (2025).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hustings.features.arrays import Bools, Floats, Ints

NOTHING = -1
"""Option of a row that gets nothing."""


class PartialStep(NamedTuple):
    """A row of which a fraction leaves one option for another."""

    row: int
    old: int
    new: int
    fraction: float


@dataclass(frozen=True)
class SpendPath:
    """Steps in the order in which money is best spent; axis 0 is the step.

    Attributes:
        row: Row that steps up, shape (n_steps,).
        old: Option it leaves, `NOTHING` at first, shape (n_steps,).
        new: Option it takes, shape (n_steps,).
        cost: Extra cost of the step, shape (n_steps,).
        value: Extra predicted value of the step, shape (n_steps,).
        spend: Total spend once the step is done, shape (n_steps,).
        n_rows: How many rows there are.
    """

    row: Ints
    old: Ints
    new: Ints
    cost: Floats
    value: Floats
    spend: Floats
    n_rows: int

    def steps_within(self, budget: float) -> int:
        """How many whole steps a budget buys."""
        return int(np.searchsorted(self.spend, budget * (1 + 1e-12), side="right"))

    def options_at(self, budget: float) -> Ints:
        """The option of each row at a budget, never over it, shape (n_rows,)."""
        chosen = np.full(self.n_rows, NOTHING, dtype=np.int64)
        steps = self.steps_within(budget)
        # later steps of a row overwrite earlier ones: numpy assigns in order
        chosen[self.row[:steps]] = self.new[:steps]
        return chosen

    def partial_step(self, budget: float) -> PartialStep | None:
        """The one row that a budget moves only in part.

        None where the budget ends between two steps or beyond the last.
        """
        steps = self.steps_within(budget)
        if steps >= len(self.row):
            return None
        left = budget - (self.spend[steps - 1] if steps else 0.0)
        fraction = float(left / self.cost[steps])
        if fraction <= 0:
            return None
        row, old, new = self.row[steps], self.old[steps], self.new[steps]
        return PartialStep(int(row), int(old), int(new), fraction)

    def value_at(self, budget: float) -> float:
        """Predicted value at a budget, the partial step included."""
        steps = self.steps_within(budget)
        partial = self.partial_step(budget)
        rest = self.value[steps] * partial.fraction if partial else 0.0
        return float(self.value[:steps].sum() + rest)

    def shadow_price(self, budget: float) -> float:
        """Value of one more unit of money at a budget; 0 where money is left over."""
        steps = self.steps_within(budget)
        if steps >= len(self.row):
            return 0.0
        return float(self.value[steps] / self.cost[steps])


def whole_budget_path(
    value: Floats,
    cost: Floats,
    *,
    allowed: Bools | None = None,
    tie_break: Floats | None = None,
) -> SpendPath:
    """The optimal assignment at every budget.

    Args:
        value: Predicted value of every option, shape (n_rows, n_options).
        cost: Its cost, shape (n_options,) or (n_rows, n_options), at least 0.
        allowed: Which options a row may get, shape (n_rows, n_options).
        tie_break: Order of rows whose steps are worth the same, shape (n_rows,);
            random numbers make untargeted money go to random people.

    Raises:
        ValueError: If a cost is negative or a value is not finite.
    """
    return path_of_steps(hull_steps(value, cost, allowed), len(value), tie_break)


def path_of_steps(
    steps: "Steps", n_rows: int, tie_break: Floats | None = None
) -> SpendPath:
    """The optimal assignment at every budget, from the steps of all rows.

    Args:
        steps: From `hull_steps`.
        n_rows: How many rows there are.
        tie_break: See `whole_budget_path`.
    """
    row, old, new, step_cost, step_value, slope = steps
    order = _falling(slope, row, tie_break)
    spend = np.cumsum(step_cost[order])
    return SpendPath(
        row[order], old[order], new[order], step_cost[order], step_value[order],
        spend, n_rows,
    )  # fmt: skip


class Steps(NamedTuple):
    """Steps of hulls in no order but that those of a row rise; axis 0 is the step."""

    row: Ints
    old: Ints
    new: Ints
    cost: Floats
    value: Floats
    slope: Floats


def hull_steps(value: Floats, cost: Floats, allowed: Bools | None = None) -> Steps:
    """The steps along every row's upper convex hull of (cost, value).

    Point j lies on the hull where the least slope that leads to it from any cheaper
    point exceeds the greatest that leads on from it; so all pairs of options are
    compared, a block of rows at a time, and no row waits for another.

    Args:
        value: Shape (n_rows, n_options).
        cost: Shape (n_options,) or (n_rows, n_options), at least 0.
        allowed: Shape (n_rows, n_options); None for all.

    Raises:
        ValueError: If a cost is negative or a value is not finite.
    """
    value = np.asarray(value, dtype=np.float64)
    cost = np.asarray(cost, dtype=np.float64)
    if (cost < 0).any():
        raise ValueError(f"a cost must be at least 0, got {cost.min()}")
    if not np.isfinite(value).all():
        raise ValueError("every value must be finite, got NaN or infinity")
    shared = np.argsort(cost, kind="stable") if cost.ndim == 1 else None
    parts = [_NO_STEPS]
    for start in range(0, len(value), _BLOCK):
        rows = slice(start, start + _BLOCK)
        may = None if allowed is None else allowed[rows]
        block_cost = cost if shared is not None else cost[rows]
        parts.append(_block_steps(value[rows], block_cost, may, shared, start))
    return Steps(*(np.concatenate(column) for column in zip(*parts, strict=True)))


_BLOCK = 8_192
"""Rows whose columns fit the processor's cache together."""
_BARRED = -1e250
"""Value of an option that may not be had: finite, so that no NaN arises."""
_NONE, _NO_NUMBERS = np.empty(0, dtype=np.int64), np.empty(0)
_NO_STEPS = Steps(_NONE, _NONE, _NONE, _NO_NUMBERS, _NO_NUMBERS, _NO_NUMBERS)


def _block_steps(
    value: Floats, cost: Floats, allowed: Bools | None, shared: Ints | None, first: int
) -> Steps:
    usable = value > 0 if allowed is None else allowed & (value > 0)
    option = np.argsort(cost, axis=1, kind="stable").T if shared is None else shared
    at = np.where(usable, value, _BARRED).T
    if shared is None:
        v, c = (np.take_along_axis(t, option, axis=0) for t in (at, cost.T))
    else:
        v, c = np.ascontiguousarray(at[option]), cost[option][:, None]
    return _walked(v, c, _hull(v, c), option, first)


def _hull(v: Floats, c: Floats) -> Bools:
    """Which points lie on the hull; options in the order of cost.

    Args:
        v: Values, shape (n_options, n_rows).
        c: Costs, shape (n_options, n_rows) or (n_options, 1).

    Returns:
        Shape (n_options, n_rows).
    """
    k, n = v.shape
    steepest = np.zeros((k, n))
    on, rise = np.empty((k, n), dtype=bool), np.empty(n)
    least = np.empty((k, n))
    for j in range(k):
        _slope(v[j], c[j], out=least[j])
        for i in range(j):
            np.subtract(v[j], v[i], out=rise)
            _slope(rise, c[j] - c[i], out=rise)
            np.minimum(least[j], rise, out=least[j])
            np.maximum(steepest[i], rise, out=steepest[i])
    np.greater(least, steepest, out=on)
    return on


def _slope(rise: Floats, run: Floats, *, out: Floats) -> None:
    """Rise over run; of options at one cost only a better one counts."""
    flat = run <= 0
    if not flat.any():
        np.divide(rise, run, out=out)
        return
    better = np.where(rise > 0, np.inf, -np.inf)
    np.divide(rise, np.where(flat, 1.0, run), out=out)
    np.copyto(out, better, where=flat)


def _walked(v: Floats, c: Floats, on: Bools, option: Ints, first: int) -> Steps:
    """Steps from one point of a row's hull to the next."""
    n = v.shape[1]
    at, at_value, at_cost = np.full(n, NOTHING, dtype=np.int64), np.zeros(n), 0.0 * v[0]
    at_slope = np.full(n, np.inf)
    parts = [_NO_STEPS]
    for j in range(len(v)):
        who = np.flatnonzero(on[j])
        new = option[j][who] if option.ndim == 2 else np.full(len(who), option[j])
        value = v[j][who]
        cost = c[j][who] if c.shape[1] > 1 or n == 1 else np.full(len(who), c[j, 0])
        extra_cost, extra_value = cost - at_cost[who], value - at_value[who]
        slope = np.full(len(who), np.inf)
        np.divide(extra_value, extra_cost, out=slope, where=extra_cost > 0)
        # slopes of a row fall; rounding must not let a later step sort first
        slope = np.minimum(slope, at_slope[who])
        parts.append(Steps(first + who, at[who], new, extra_cost, extra_value, slope))
        at[who], at_value[who], at_cost[who], at_slope[who] = new, value, cost, slope
    return Steps(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _falling(slope: Floats, row: Ints, tie_break: Floats | None) -> Ints:
    """Order of falling slope; equals by their row's tie-break, then as they came.

    Few slopes are equal: they are put in order after a quick sort that knows none.
    """
    order = np.argsort(-slope)
    sorted_slope = slope[order]
    same = sorted_slope[1:] == sorted_slope[:-1]
    if same.any():
        tied = np.zeros(len(order), dtype=bool)
        tied[1:] |= same
        tied[:-1] |= same
        places = np.flatnonzero(tied)
        steps = order[places]
        ties = np.zeros(len(steps)) if tie_break is None else tie_break[row[steps]]
        order[places] = steps[np.lexsort((steps, ties, -slope[steps]))]
    return order


def pooled_rows(
    value: Floats, cost: Floats, allowed: Bools, row: Ints
) -> tuple[Floats, Floats, Bools]:
    """Value, cost and permission of rows that decide for several voters together.

    Whoever of a row may not get an option neither costs nor gains by it.

    Args:
        value: Of every voter and option, shape (n_voters, n_options).
        cost: Of every option, shape (n_options,).
        allowed: Shape (n_voters, n_options).
        row: Row of every voter, from 0, shape (n_voters,).

    Returns:
        Value, cost and permission by row, shape (n_rows, n_options) each.
    """
    reach = contacts_by_row(allowed, row)
    allowed_value = np.where(allowed, value, 0.0)
    totals: Floats = np.column_stack(
        [np.bincount(row, weights=column) for column in allowed_value.T]
    )
    return totals, reach * cost, reach > 0


def contacts_by_row(allowed: Bools, row: Ints) -> Floats:
    """How many voters of a row may get each option, shape (n_rows, n_options)."""
    # float64 weights: bincount of booleans would count them as doubles anyway
    counts = [np.bincount(row, weights=column.astype(float)) for column in allowed.T]
    reach: Floats = np.column_stack(counts)
    return reach
