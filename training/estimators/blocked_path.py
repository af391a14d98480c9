"""One budget over more rows than fit in memory: two passes over blocks, no sort.

Steps of a hull fall in slope, so a budget buys all steps steeper than some cut. The
first pass adds up what the steps of every slope cost and bring; the second takes those
above the slope where the money ends, and only those that share it are put in order.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hustings.features.arrays import Bools, Floats, Ints
from hustings.training.estimators.spend_path import NOTHING, Steps, hull_steps

_BITS = 44
"""Bits of a double below the sign, the power of two and eight more digits."""
_N_BINS = 1 << (63 - _BITS)


class Block(NamedTuple):
    """Some rows.

    Attributes:
        value: Shape (n, n_options).
        ties: Order of rows worth the same, shape (n,).
        allowed: Shape (n, n_options); None for all.
    """

    value: Floats
    ties: Floats
    allowed: Bools | None = None


@dataclass(frozen=True)
class LargeChoice:
    """The optimum at a budget, and at others.

    Attributes:
        option: Option of every row, or `NOTHING`, shape (n_rows,).
        value: Predicted value of the plan.
        bound: No plan within the budget is worth more.
        price: Value of one more unit of money.
        spends: Budgets at which the optimum is known exactly, rising.
        gains: The optimum at each.
    """

    option: npt.NDArray[np.int16]
    value: float
    bound: float
    price: float
    spends: Floats
    gains: Floats


def options_within(
    blocks: Callable[[], Iterator[Block]], cost: Floats, budget: float
) -> LargeChoice:
    """The best option of every row within a budget.

    Memory is that of one block, of the answer, and of the steps about as steep as the
    cut (within 1/256); time grows in proportion to the rows.

    Args:
        blocks: Called twice; gives the same rows in the same order each time.
        cost: Of every option, shape (n_options,), at least 0.
        budget: Money.

    Raises:
        ValueError: If a cost is negative or a value is not finite.
    """
    costs, values = _by_slope(blocks, cost)
    filled = np.flatnonzero(values > 0)[::-1]
    spends = np.concatenate([[0.0], np.cumsum(costs[filled])])
    gains = np.concatenate([[0.0], np.cumsum(values[filled])])
    n_whole = int(np.searchsorted(spends, budget * (1 + 1e-12), side="right")) - 1
    cut = int(filled[n_whole]) if n_whole < len(filled) else -1
    option, on_cut, ties = _taken_above(blocks, cost, cut)
    edge = Steps(*(np.concatenate(column) for column in zip(*on_cut, strict=True)))
    order = np.lexsort((np.arange(len(edge.row)), np.concatenate(ties), -edge.slope))
    spent = spends[n_whole] + np.cumsum(edge.cost[order])
    n = int(np.searchsorted(spent, budget * (1 + 1e-12), side="right"))
    # later steps of a row overwrite earlier ones: numpy assigns in order
    option[edge.row[order[:n]]] = edge.new[order[:n]]
    value = gains[n_whole] + float(edge.value[order[:n]].sum())
    left = budget - (float(spent[n - 1]) if n else spends[n_whole])
    price = float(edge.slope[order[n]]) if n < len(order) else 0.0
    return LargeChoice(
        option, float(value), float(value + left * price), price, spends[1:], gains[1:]
    )


def _key(slope: Floats) -> Ints:
    """The bin of a slope: the bits of a double above 0 rise as it does."""
    return slope.view(np.int64) >> _BITS


def _by_slope(
    blocks: Callable[[], Iterator[Block]], cost: Floats
) -> tuple[Floats, Floats]:
    costs, values = np.zeros(_N_BINS), np.zeros(_N_BINS)
    for block in blocks():
        steps = hull_steps(block.value, cost, block.allowed)
        key = _key(steps.slope)
        np.add.at(costs, key, steps.cost)
        np.add.at(values, key, steps.value)
    return costs, values


def _taken_above(
    blocks: Callable[[], Iterator[Block]], cost: Floats, cut: int
) -> tuple[npt.NDArray[np.int16], list[Steps], list[Floats]]:
    """Options by all steps steeper than the cut, and the steps on it."""
    options, on_cut, ties = [], [], []
    first = 0
    for block in blocks():
        steps = hull_steps(block.value, cost, block.allowed)
        key = _key(steps.slope)
        option = np.full(len(block.value), NOTHING, dtype=np.int16)
        above, on = key > cut, key == cut
        option[steps.row[above]] = steps.new[above]
        options.append(option)
        ties.append(block.ties[steps.row[on]])
        edge = Steps(*(column[on] for column in steps))
        on_cut.append(edge._replace(row=edge.row + first))
        first += len(option)
    return np.concatenate(options), on_cut, ties
