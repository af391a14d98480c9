"""Channels that target whole places: everybody in a county or postcode, or nobody.

A place takes one such channel, or its voters take their own options. At given prices
the better of the two is chosen place by place, and the sum bounds every plan. Voters
within a place that takes one cannot be held out: the holdout is whole places, by hash.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog

from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.serving.plan.choose import (
    Chosen,
    choose_options,
    highest_prices,
    worth_of,
)
from hustings.serving.plan.constraints import Limits, PlanError
from hustings.serving.plan.dual import Market, best_at, market_of
from hustings.serving.plan.randomise import held_out
from hustings.training.estimators.spend_path import NOTHING

N_CUTS = 60
ENOUGH = 1e-5
N_SWAPS = 8
"""Places on the edge that are tried the other way."""


class Places(NamedTuple):
    """What whole places could be sent; B options of place channels.

    Attributes:
        place: Place of every row, from 0, shape (n_rows,).
        value: Predicted value of an option in all of a place, shape (n_places, B).
        use: What it uses of every limit, shape (n_limits, n_places, B).
    """

    place: Ints
    value: Floats
    use: Floats


class PlacedPlan(NamedTuple):
    """A plan of places and of voters.

    Attributes:
        chosen: Options of the rows; value and bound are of places and rows together.
        of_place: Option of every place, or `NOTHING`, shape (n_places,).
    """

    chosen: Chosen
    of_place: Ints


def places_held_out(place_id: Objects, *, salt: str, share: float) -> Bools:
    """Places that take no place channel in a campaign, by hash of the place id.

    Args:
        place_id: Shape (n_places,).
        salt: The campaign's.
        share: Of all places, in (0, 1).
    """
    return held_out(place_id, salt=f"places-{salt}", share=share)


def choose_with_places(
    value: Floats, reach: Floats, limits: Limits, places: Places, ties: Floats
) -> PlacedPlan:
    """The best plan where some channels take a whole place at once.

    Args:
        value: Shape (n_rows, A), as in `choose_options`.
        reach: Shape (n_rows, A).
        limits: What rows and places share.
        places: What places could be sent; a value of at most 0 is never bought, which
            is how a place is held out.
        ties: Order of equals, shape (n_rows,).

    Raises:
        PlanError: If limits contradict each other.
    """
    market = market_of(value, reach, limits, ties)
    price, bound = _lowest(market, places)
    gain, option = _gain(places, best_at(market, price).left, price)
    of_place = np.where(gain > 0, option, NOTHING)
    best = _best_given(market, places, of_place)
    # too much for whole places: the ones that gain least give way
    for p in np.argsort(gain, kind="stable"):
        if best is not None:
            break
        of_place[p] = NOTHING
        best = _best_given(market, places, of_place)
    if best is None:
        raise PlanError("no plan of voters alone keeps all limits")
    for p in np.argsort(np.abs(gain), kind="stable")[:N_SWAPS]:
        other = of_place.copy()
        other[p] = option[p] if of_place[p] == NOTHING else NOTHING
        tried = _best_given(market, places, other)
        if tried and tried.value > best.value:
            best, of_place = tried, other
    chosen = Chosen(best.option, price, best.value, max(bound, best.value))
    return PlacedPlan(chosen, of_place)


def _best_given(market: Market, places: Places, of_place: Ints) -> Chosen | None:
    """The best options of all other rows, given the options of some places."""
    taken = np.flatnonzero(of_place != NOTHING)
    used = places.use[:, taken, of_place[taken]].sum(axis=1)
    room = market.limits.most - used
    if (room < 0)[~market.limits.floors].any():
        return None
    free = of_place[places.place] == NOTHING
    value = np.where(free[:, None] & np.isfinite(market.value), market.value, 0.0)
    limits = market.limits.with_most(room)
    try:
        chosen = choose_options(value, market.reach, limits, ties=market.ties)
    except PlanError:
        return None
    worth = worth_of(chosen.option, value) + worth_of(of_place, places.value)
    return Chosen(chosen.option, chosen.price, worth, chosen.bound)


def _gain(places: Places, left: Floats, price: Floats) -> tuple[Floats, Ints]:
    """What a place gains by its best place option over its voters' own, at prices.

    Args:
        places: The places.
        left: What is left to every row at the prices, shape (n_rows,).
        price: Of every limit.
    """
    n_places = len(places.value)
    left_of_voters = np.bincount(places.place, weights=left, minlength=n_places)
    left_of_place = places.value - np.tensordot(price, places.use, axes=1)
    left_of_place = np.where(places.value > 0, left_of_place, -np.inf)
    top = left_of_place.max(axis=1)
    option = np.where(np.isfinite(top), left_of_place.argmax(axis=1), NOTHING)
    return np.where(np.isfinite(top), top - left_of_voters, -np.inf), option


def _dual(market: Market, places: Places, price: Floats) -> tuple[float, Floats]:
    """The bound over places and rows, and its slope in the prices."""
    best = best_at(market, price)
    gain, option = _gain(places, best.left, price)
    takes = gain > 0
    row_option = np.where(takes[places.place], NOTHING, best.option)
    at = np.flatnonzero(takes)
    used = market.limits.used(row_option, market.reach)
    used = used + places.use[:, at, option[at]].sum(axis=1)
    bound = best.left.sum() + gain[at].sum() + price @ market.limits.most
    return float(bound), market.limits.most - used


def _lowest(market: Market, places: Places) -> tuple[Floats, float]:
    """Prices at which the bound over places and rows is lowest, and it.

    Source: Kelley (1960), cutting planes within the box of prices that can matter.
    """
    use = np.abs(places.use).max(axis=(1, 2), initial=0.0)
    dearest = 2 * places.value.max(initial=0.0) / np.where(use > 0, use, np.inf)
    box = [(0.0, float(h)) for h in np.maximum(highest_prices(market), dearest)]
    price = np.zeros(len(use))
    best, cuts = (np.inf, price), []
    for _ in range(N_CUTS):
        bound, slope = _dual(market, places, price)
        best = min(best, (bound, price), key=lambda pair: pair[0])
        cuts.append(np.append(slope, float(slope @ price) - bound))
        rows = np.array(cuts)
        solution = linprog(
            np.append(np.zeros(len(price)), 1.0),
            A_ub=np.column_stack([rows[:, :-1], -np.ones(len(rows))]), b_ub=rows[:, -1],
            bounds=[*box, (None, None)], method="highs",
        )  # fmt: skip
        if solution.status != 0 or best[0] - solution.x[-1] <= ENOUGH * abs(best[0]):
            break
        # part of the way from the best so far: a cutting plane's own step swings
        price = 0.5 * solution.x[:-1] + 0.5 * best[1]
    return best[1], best[0]
