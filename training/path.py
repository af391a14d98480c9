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
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

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
    value = np.asarray(value, dtype=np.float64)
    cost = np.broadcast_to(np.asarray(cost, dtype=np.float64), value.shape)
    if (cost < 0).any():
        raise ValueError(f"a cost must be at least 0, got {cost.min()}")
    if not np.isfinite(value).all():
        raise ValueError("every value must be finite, got NaN or infinity")
    usable = value > 0 if allowed is None else allowed & (value > 0)
    parts = _hull_steps(value, cost, usable)
    row, old, new, step_cost, step_value, slope = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    ties = np.zeros(len(row)) if tie_break is None else tie_break[row]
    # stable: steps of one row are found in the order of falling slope
    order = np.lexsort((ties, -slope))
    spend = np.cumsum(step_cost[order])
    return SpendPath(
        row[order], old[order], new[order], step_cost[order], step_value[order],
        spend, len(value),
    )  # fmt: skip


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
    kept = np.where(allowed, value, 0.0)
    totals: Floats = np.column_stack(
        [np.bincount(row, weights=column) for column in kept.T]
    )
    return totals, reach * cost, reach > 0


def contacts_by_row(allowed: Bools, row: Ints) -> Floats:
    """How many voters of a row may get each option, shape (n_rows, n_options)."""
    # float64 weights: bincount of booleans would count them as doubles anyway
    counts = [np.bincount(row, weights=column.astype(float)) for column in allowed.T]
    reach: Floats = np.column_stack(counts)
    return reach


def _hull_steps(
    value: Floats, cost: Floats, usable: Bools
) -> list[tuple[Ints, Ints, Ints, Floats, Floats, Floats]]:
    """Gift wrapping over all rows at once: one hull vertex per round."""
    rows = np.flatnonzero(usable.any(axis=1))
    at_cost, at_value = np.zeros(len(rows)), np.zeros(len(rows))
    at = np.full(len(rows), NOTHING, dtype=np.int64)
    empty = np.empty(0, dtype=np.int64)
    at_slope = np.full(len(rows), np.inf)
    steps = [(empty, empty, empty, np.empty(0), np.empty(0), np.empty(0))]
    while len(rows):
        extra_cost = cost[rows] - at_cost[:, None]
        extra_value = value[rows] - at_value[:, None]
        better = usable[rows] & (extra_value > 0) & (extra_cost >= 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(better, extra_value / extra_cost, -np.inf)
        # of several options on one ray take the farthest; of free ones the best
        best = slope.max(axis=1)
        farthest = np.where(slope == best[:, None], extra_value, -np.inf)
        new = farthest.argmax(axis=1)
        live = best > -np.inf
        # slopes of a row fall; rounding must not let a later step sort first
        at_slope = np.minimum(best, at_slope)[live]
        rows, old, new = rows[live], at[live], new[live]
        picked = (np.flatnonzero(live), new)
        extra = extra_cost[picked], extra_value[picked]
        steps.append((rows, old, new, *extra, at_slope))
        at, at_cost, at_value = new, cost[rows, new], value[rows, new]
    return steps
