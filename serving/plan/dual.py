"""Prices of limits: the Lagrangian dual of a plan.

At given prices every row takes what is worth most once its use of the limits is paid
for, and what the rows then get, with the limits at their prices, is more than any plan
within the limits can bring. The best prices make that bound lowest.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.spilled import blank, let_go, row_blocks
from hustings.serving.plan.constraints import Limits
from hustings.training.estimators.spend_path import NOTHING

TEMPERATURES = (0.3, 0.05, 0.01)
"""Of the soft maximum, relative to what a row is worth."""
N_PRICED = (2_000, 4_000, 8_000)
"""Rows that each round of first pricing looks at, at most."""
_BLOCK = 16_384


class PricedMarket(NamedTuple):
    """Rows, what each option is worth to them, and the limits they share.

    Attributes:
        value: Predicted value, shape (n_rows, A); -inf where an option may not be had
            or is not worth having, since such an effect is never bought.
        reach: Contacts an option means in a row, shape (n_rows, A).
        limits: What they may use.
        ties: A number in [0, 1) of every row: the order of equals, shape (n_rows,).
    """

    value: Floats
    reach: Floats
    limits: Limits
    ties: Floats

    def rows(self, chosen: Ints | Bools) -> "PricedMarket":
        """Some of the rows."""
        return PricedMarket(
            self.value[chosen],
            self.reach[chosen],
            self.limits.rows(chosen),
            self.ties[chosen],
        )

    def dearest(self) -> float:
        """Value of the option that is worth most, 0 where none is worth anything."""
        tops = [self.value[r].max(initial=0.0) for r in row_blocks(len(self.value))]
        let_go(self.value)
        return float(max(tops, default=0.0))


class Best(NamedTuple):
    """Best option of every row at given prices.

    Attributes:
        left: What is left to it once the prices are paid, at least 0, shape (n_rows,).
        option: Its option, or `NOTHING`, shape (n_rows,).
        margin: By how much that beats the next best, shape (n_rows,).
    """

    left: Floats
    option: Ints
    margin: Floats


def market_of(
    value: Floats, reach: Floats, limits: Limits, ties: Floats
) -> PricedMarket:
    """A market in which only what is allowed and worth having can be bought."""
    dtype = value.dtype if value.dtype == np.float32 else np.dtype(np.float64)
    worth = blank(value.shape, dtype)
    for rows in row_blocks(len(value)):
        usable = (value[rows] > 0) & (reach[rows] > 0)
        worth[rows] = np.where(usable, value[rows], -np.inf)
    let_go(value, reach, worth)
    return PricedMarket(worth, reach, limits, ties)


def priced(value: Floats, reach: Floats, limits: Limits, price: Floats) -> Floats:
    """Value of each option less the price of its use of limits."""
    charged = limits.charged_rows(price)
    left: Floats = np.where(reach > 0, value - reach * charged, -np.inf)
    return np.where(value > 0, left, -np.inf)


def best_at(market: PricedMarket, price: Floats) -> Best:
    """The best option of every row at given prices."""
    n = len(market.value)
    best = Best(np.zeros(n), np.full(n, NOTHING, dtype=np.int64), np.empty(n))
    charged = market.limits.charged(price)
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        of_class = market.limits.row_class
        block_charges = charged if of_class is None else charged[of_class[rows]]
        _best_of(market.value[rows], market.reach[rows], block_charges, rows, best)
    let_go(market.value, market.reach)
    return best


def _best_of(
    value: Floats, reach: Floats, charged: Floats, rows: slice, best: Best
) -> None:
    """The first and second best of a block, by columns: they stay in the cache."""
    top, option = best.left[rows], best.option[rows]
    second = np.full(len(value), -np.inf)
    left = np.ascontiguousarray((value - reach * charged).T)
    better, lower = np.empty(len(value), dtype=bool), np.empty(len(value))
    for a, arm_left in enumerate(left):
        np.greater(arm_left, top, out=better)
        np.minimum(arm_left, top, out=lower)
        np.maximum(second, lower, out=second)
        np.maximum(top, arm_left, out=top)
        np.copyto(option, a, where=better)
    np.subtract(top, second, out=best.margin[rows])


def bound_at(market: PricedMarket, price: Floats) -> float:
    """Value of the Lagrangian dual: no plan within the limits is worth more."""
    return float(best_at(market, price).left.sum() + price @ market.limits.most)


def first_prices(market: PricedMarket, highest: Floats) -> Floats:
    """Prices at which the dual of a random few of the rows is about lowest.

    The dual has kinks (rows worth the same all switch at one price), so its maximum
    over options is smoothed by a soft one whose temperature falls.

    Args:
        market: Its `ties` draw the few.
        highest: No price lies above, shape (n_limits,).
    """
    rows = np.flatnonzero(_offered(market))
    rows = rows[np.argsort(market.ties[rows], kind="stable")]
    limits, n = market.limits, len(rows)
    if n == 0:
        return np.zeros(len(limits.most))
    worth = float(market.value[rows[: N_PRICED[-1]]].max(axis=1).mean(dtype=float))
    # in units where every limit counts alike and a row is worth about 1
    size = np.maximum(np.abs(limits.most), 0.01 * n * np.abs(limits.use).max(axis=1))
    unit = worth * n / np.maximum(size, 1.0)
    x = np.full(len(unit), 1.0 / (2 * len(unit)))
    for temperature, at_most in zip(TEMPERATURES, N_PRICED, strict=True):
        sample = market.rows(rows[:at_most])
        share = min(at_most, n) / n
        sample = sample._replace(limits=sample.limits.with_most(limits.most * share))
        x = _lowest(sample, x, unit, highest, temperature * worth, worth * share * n)
    prices: Floats = x * unit
    return prices


def _offered(market: PricedMarket) -> Bools:
    """Rows with an option that is worth having, shape (n_rows,)."""
    offered = np.zeros(len(market.value), dtype=bool)
    for rows in row_blocks(len(offered)):
        offered[rows] = np.isfinite(market.value[rows]).any(axis=1)
    let_go(market.value)
    return offered


def _lowest(
    market: PricedMarket,
    x: Floats,
    unit: Floats,
    highest: Floats,
    soft: float,
    scale: float,
) -> Floats:
    """Where the soft dual is lowest, prices in units of their own."""

    def scaled(x: Floats) -> tuple[float, Floats]:
        bound, slope = _soft_dual(market, x * unit, soft)
        return bound / scale, slope * unit / scale

    most = np.minimum(highest / unit, 1e6)
    bounds = [(0.0, float(m)) for m in most]
    x = np.minimum(x, most)
    solution = minimize(scaled, x, jac=True, method="L-BFGS-B", bounds=bounds)
    lowest: Floats = solution.x
    return lowest


def _soft_dual(
    market: PricedMarket, price: Floats, soft: float
) -> tuple[float, Floats]:
    """The dual with a soft maximum over options and nothing, and its gradient."""
    limits = market.limits
    left = (market.value - market.reach * limits.charged_rows(price)) / soft
    top = np.maximum(left.max(axis=1), 0.0)
    weight = np.exp(left - top[:, None])
    total = weight.sum(axis=1) + np.exp(-top)
    contacts = weight / total[:, None] * market.reach
    log_total = float((top + np.log(total)).sum())
    used = _use_of(contacts, limits)
    return soft * log_total + float(price @ limits.most), limits.most - used


def _use_of(contacts: Floats, limits: Limits) -> Floats:
    """What expected contacts use, shape (n_limits,)."""
    if limits.of_class is None or limits.row_class is None:
        summed: Floats = limits.use @ contacts.sum(axis=0)
        return summed
    shape = (limits.of_class.shape[1], contacts.shape[1])
    by_class = np.zeros(shape)
    np.add.at(by_class, limits.row_class, contacts)
    used: Floats = ((limits.of_class @ by_class) * limits.use).sum(axis=1)
    return used
