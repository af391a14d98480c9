"""Greedy repair of a plan, for when the integer programme finds nothing in time."""

import numpy as np

from hustings.features.arrays import Floats, Ints
from hustings.serving.plan.constraints import SLACK, Limits
from hustings.serving.plan.dual import PricedMarket, priced
from hustings.training.estimators.spend_path import NOTHING


def within(option: Ints, market: PricedMarket) -> Ints:
    """Options without the rows, in the order of ties, for which a limit has no room."""
    reach, limits = market.reach, market.limits
    rows = np.flatnonzero(option != NOTHING)
    rows = rows[np.argsort(market.ties[rows], kind="stable")]
    fitting, left = np.full(len(option), NOTHING, dtype=np.int64), limits.most
    while len(rows):
        use = limits.use_of(rows, option[rows]) * reach[rows, option[rows]]
        fits, used_up = _fits(use, limits, left)
        fitting[rows[:fits]] = option[rows[:fits]]
        if used_up is None:
            break
        left = limits.most - limits.used(fitting, reach)
        rows = rows[fits:]
        rows = rows[use[used_up, fits:] <= 0]
    return fitting


def filled(option: Ints, market: PricedMarket, price: Floats) -> Ints:
    """Rows without an option take their best one, while every limit holds.

    Rows come in the order of what is left after paying the prices, per contact. Where
    a limit is used up, the arms that need it are closed and the rest look again.
    """
    option, limits = option.copy(), market.limits
    open_arms = np.ones(limits.use.shape[1], dtype=bool)
    while open_arms.any():
        empty = np.flatnonzero(option == NOTHING)
        unfilled = market.rows(empty)
        gain = priced(unfilled.value, unfilled.reach, unfilled.limits, price)
        gain = np.where(open_arms, gain, -np.inf)
        best = gain.argmax(axis=1)
        contacts = unfilled.reach[np.arange(len(empty)), best]
        worth = gain[np.arange(len(empty)), best] / np.maximum(contacts, 1.0)
        order = np.lexsort((unfilled.ties, -worth))
        order = order[np.isfinite(worth[order])]
        use = unfilled.limits.use_of(order, best[order]) * contacts[order]
        left = limits.most - limits.used(option, market.reach)
        fits, used_up = _fits(use, limits, left)
        taken = order[:fits]
        option[empty[taken]] = best[taken]
        if used_up is None:
            return option
        open_arms &= limits.use[used_up] <= 0
    return option


def _fits(use: Floats, limits: Limits, left: Floats) -> tuple[int, int | None]:
    """How many rows in order fit, and which limit stops the next one."""
    room = (left + SLACK * limits.scale())[:, None]
    over = (np.cumsum(use, axis=1) > room) & (use > 0)
    stopped = over.any(axis=0)
    if not stopped.any():
        return use.shape[1], None
    first = int(stopped.argmax())
    return first, int(over[:, first].argmax())
