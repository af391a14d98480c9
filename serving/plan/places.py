"""Channels that take whole places: everybody in a county or postcode, or nobody.

A place takes one such channel, or its voters take their own options. At given prices
the better of the two is chosen place by place, and the sum bounds every plan. Places
are decided as if none were held out; a held-out place then takes nothing, its voters
take their own options, and so no decision hangs on the draw of any place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import linprog

from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.tables import (
    CONTROL,
    NO_CHANNEL,
    PLACES,
    SMALLEST_CELL,
    check,
)
from hustings.serving.plan.choose import (
    Chosen,
    choose_options,
    highest_prices,
    worth_of,
)
from hustings.serving.plan.constraints import Limits, PlanError
from hustings.serving.plan.dual import PricedMarket, best_at, market_of
from hustings.serving.plan.randomise import held_out
from hustings.training.estimators.spend_path import NOTHING

N_CUTS = 60
ENOUGH = 1e-5
N_SWAPS = 8
"""Places on the edge that are tried the other way."""


class PlaceOption(NamedTuple):
    """One message by one channel that addresses nobody.

    Attributes:
        channel: The channel.
        message_id: The message.
        arm: Tested arm, of which a share of the lift is expected.
        lift_share: That share, in (0, 1].
        usd_per_place: Cost in a place.
        usd_per_voter: And for every voter who lives there.
    """

    channel: str
    message_id: str
    arm: int
    lift_share: float
    usd_per_place: float
    usd_per_voter: float


@dataclass(frozen=True)
class PlaceOffers:
    """What whole places may be offered; B options.

    Attributes:
        place: Name of every voter's place, empty where there is none that may be
            taken whole, shape (n_voters,).
        options: Length B.
        counted: Voters whose lift counts in the place's, shape (n_voters, B).
    """

    place: Objects
    options: tuple[PlaceOption, ...]
    counted: Bools


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


class DecidedPlaces(NamedTuple):
    """What was decided of places.

    Attributes:
        places: PLACES: every place that could be taken.
        takes: Voters whose place takes a channel, shape (n_voters,).
        cost_usd: Of all places.
        gap: Share of the bound that places and voters may fall short of the best.
    """

    places: pd.DataFrame
    takes: Bools
    cost_usd: float
    gap: float


# --- from voters to places and back ---------------------------------------------------


def decide_places(
    offers: PlaceOffers,
    value: Floats,
    predicted: Floats,
    row: Ints,
    market: PricedMarket,
    *,
    salt: str,
    holdout_share: float,
    start_on: pd.Timestamp,
) -> DecidedPlaces:
    """Which places take which channel whole, out of the money that voters share.

    A place of fewer than `SMALLEST_CELL` voters takes none: its list would say
    something of somebody.

    Args:
        offers: What places may be offered.
        value: What every tested arm is worth in every voter, shape (n_voters, A).
        predicted: Predicted lift of the same in outcome units, shape (n_voters, A).
        row: Row of the market of every voter, shape (n_voters,).
        market: What the voters themselves could take, in expectation over the draws.
        salt: Of the campaign.
        holdout_share: Of places, in (0, 1).
        start_on: Day from which on a place gets it.

    Worked example: place A of 100 voters at a summed lift of 30 and place B of 100 at
    2, 40 USD each; a letter lifts a voter by .1 for 1 USD, and there are 50 USD. A is
    taken: 30 for 40 USD, where 40 letters bring 4. Ten voters of B get letters.
    """
    code, names = pd.factorize(offers.place, sort=True)
    is_named = np.array([bool(name) for name in names], dtype=bool)
    code = np.where(is_named[code], code - (~is_named).sum(), -1)
    names = np.asarray(names, dtype=object)[is_named]
    n_places = len(names)
    n_voters = np.bincount(code[code >= 0], minlength=n_places)
    worth, lift = (_summed(offers, of_arms, code, n_places) for of_arms in
                   (value, predicted))  # fmt: skip
    usd = _by_option(
        [o.usd_per_place + o.usd_per_voter * n_voters for o in offers.options], n_places
    )
    worth = np.where((n_voters >= SMALLEST_CELL)[:, None], worth, 0.0)
    intended, gap = np.full(n_places, NOTHING), 0.0
    if (worth > 0).any():
        of_row = np.full(len(market.value), n_places)
        np.minimum.at(of_row, row, np.where(code < 0, n_places, code))
        placed = choose_with_places(
            market.value, market.reach, market.limits,
            _with_nowhere(of_row, worth, usd, len(market.limits.most)), market.ties,
        )  # fmt: skip
        intended, gap = placed.of_place[:n_places], placed.chosen.gap
    held = held_out(names, salt=f"places-{salt}", share=holdout_share)
    frame = _frame(
        names, offers.options, intended, held, n_voters, usd, lift, holdout_share,
        start_on,
    )  # fmt: skip
    taken = np.append((intended != NOTHING) & ~held, False)
    cost_usd = float(frame["cost_usd"].sum())
    return DecidedPlaces(frame, taken[code], cost_usd, gap)


def _with_nowhere(of_row: Ints, worth: Floats, usd: Floats, n_limits: int) -> Places:
    """Places, and one more for rows of no place, which can take nothing.

    A place uses money and no other limit.
    """
    n_places, n_options = worth.shape
    use = np.zeros((n_limits, n_places + 1, n_options))
    use[0, :n_places] = usd
    return Places(of_row, np.vstack([worth, np.zeros(n_options)]), use)


def _summed(offers: PlaceOffers, of_arms: Floats, code: Ints, n_places: int) -> Floats:
    """Sum over the counted voters of every place, shape (n_places, B)."""
    here = code >= 0
    sums = [
        option.lift_share
        * np.bincount(
            code[here],
            weights=np.where(offers.counted[here, b], of_arms[here, option.arm], 0.0),
            minlength=n_places,
        )
        for b, option in enumerate(offers.options)
    ]
    return _by_option(sums, n_places)


def _by_option(columns: Sequence[npt.NDArray[Any]], n_places: int) -> Floats:
    """Columns of places side by side, shape (n_places, B)."""
    return np.array(columns, dtype=np.float64).reshape(len(columns), n_places).T


def _frame(
    names: Objects,
    options: tuple[PlaceOption, ...],
    intended: Ints,
    held: Bools,
    n_voters: Ints,
    usd: Floats,
    lift: Floats,
    holdout_share: float,
    start_on: pd.Timestamp,
) -> pd.DataFrame:
    taken, at = np.where(held, NOTHING, intended), np.arange(len(names))
    messages = np.array([*(o.message_id for o in options), CONTROL], dtype=object)
    channels = np.array([*(o.channel for o in options), NO_CHANNEL], dtype=object)
    return check(
        PLACES,
        pd.DataFrame(
            {
                "place": names,
                "role": np.where(held, "holdout", "plan"),
                "message_id": messages[taken],
                "channel": channels[taken],
                "propensity": np.where(held, holdout_share, 1.0 - holdout_share),
                "intended_message_id": messages[intended],
                "intended_channel": channels[intended],
                "send_on": start_on,
                "n_voters": n_voters,
                "cost_usd": _or_nothing(usd)[at, taken],
                "lift": _or_nothing(lift)[at, taken],
            }
        ),
    )


def _or_nothing(of_options: Floats) -> Floats:
    """With a last column of 0, which `NOTHING` picks."""
    return np.hstack([of_options, np.zeros((len(of_options), 1))])


# --- the best plan of places and rows -------------------------------------------------


def choose_with_places(
    value: Floats, reach: Floats, limits: Limits, places: Places, ties: Floats
) -> PlacedPlan:
    """The best plan where some channels take a whole place at once.

    Args:
        value: Shape (n_rows, A), as in `choose_options`.
        reach: Shape (n_rows, A).
        limits: What rows and places share.
        places: What places could be sent; a value of at most 0 is never bought.
        ties: Order of equals, shape (n_rows,).

    Returns:
        Never worse than the plan of the rows alone, where there is one.

    Raises:
        PlanError: If limits contradict each other.
    """
    market = market_of(value, reach, limits, ties)
    price, bound = _lowest(market, places)
    gain, option = _gain(places, best_at(market, price).left, price)
    of_place = np.where(gain > 0, option, NOTHING)
    best = _best_given(market, places, of_place)
    # too much for whole places: the ones that gain least give way, one by one until
    # the money lasts, then more and more of them until floors can be kept
    leaving = [p for p in np.argsort(gain, kind="stable") if gain[p] > 0]
    n_leaving = 1
    while best is None and leaving:
        lacks_money = _room(market, places, of_place) is None
        n_leaving = 1 if lacks_money else 2 * n_leaving
        of_place[leaving[:n_leaving]] = NOTHING
        del leaving[:n_leaving]
        best = _best_given(market, places, of_place)
    if best is None:
        raise PlanError("no plan of voters alone keeps all limits")
    for p in np.argsort(np.abs(gain), kind="stable")[:N_SWAPS]:
        other = of_place.copy()
        other[p] = option[p] if of_place[p] == NOTHING else NOTHING
        candidate = _best_given(market, places, other)
        if candidate and candidate.value > best.value:
            best, of_place = candidate, other
    nobody = np.full_like(of_place, NOTHING)
    of_voters = _best_given(market, places, nobody)
    if of_voters and of_voters.value > best.value:
        best, of_place = of_voters, nobody
    chosen = Chosen(best.option, price, best.value, max(bound, best.value))
    return PlacedPlan(chosen, of_place)


def _room(market: PricedMarket, places: Places, of_place: Ints) -> Floats | None:
    """What places leave of every limit; None where they use more than there is."""
    taken = np.flatnonzero(of_place != NOTHING)
    used = places.use[:, taken, of_place[taken]].sum(axis=1)
    room: Floats = market.limits.most - used
    return None if (room < 0)[~market.limits.floors].any() else room


def _best_given(market: PricedMarket, places: Places, of_place: Ints) -> Chosen | None:
    """The best options of all other rows, given the options of some places."""
    room = _room(market, places, of_place)
    if room is None:
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


def _dual(market: PricedMarket, places: Places, price: Floats) -> tuple[float, Floats]:
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


def _lowest(market: PricedMarket, places: Places) -> tuple[Floats, float]:
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
