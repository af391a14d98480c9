"""The reference for whole-budget paths: gift wrapping over all rows at once, in numpy.

One hull point of every row a round, then one sort on slope and ties: what the planner
is measured against, beside it and in the same run.
"""

import numpy as np

from hustings.features.arrays import Bools, Floats, Ints
from hustings.training.estimators.spend_path import NOTHING, SpendPath


def gift_wrapped_path(value: Floats, cost: Floats, tie_break: Floats) -> SpendPath:
    """The optimal assignment at every budget."""
    cost = np.broadcast_to(cost, value.shape)
    usable = value > 0
    parts = _hull_steps(value, cost, usable)
    row, old, new, step_cost, step_value, slope = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    ties = tie_break[row]
    # stable: steps of one row are found in the order of falling slope
    order = np.lexsort((ties, -slope))
    spend = np.cumsum(step_cost[order])
    return SpendPath(
        row[order], old[order], new[order], step_cost[order], step_value[order],
        spend, len(value),
    )  # fmt: skip


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
