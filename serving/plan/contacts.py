"""Scores + costs + budget + eligibility → plan with propensities.

All voters are planned in the same way, the holdout as if it could be contacted,
within limits that are larger by as much as holdout and exploration take away. Then the
draws are made, and every probability is known (`serving.plan.randomise`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.spilled import blank, let_go, row_blocks
from hustings.features.training_set import Arm
from hustings.serving.plan.choose import Chosen, worth_of
from hustings.serving.plan.constraints import (
    SLACK,
    Limit,
    Limits,
    PlanError,
    by_message,
    cap,
    floor,
    limits_of,
    share_bounds,
)
from hustings.serving.plan.dual import best_at, market_of
from hustings.serving.plan.fixed_charge import (
    FixedCharge,
    PlanWithCharges,
    choose_with_charges,
)
from hustings.serving.plan.places import DecidedPlaces, PlaceOffers, decide_places
from hustings.serving.plan.randomise import (
    LARGEST,
    RandomDraws,
    SequentialAssignment,
    Spread,
    affordable_share,
    even_odds,
    expected_use,
    held_out,
    random_draws,
    sequential_assignment,
    small_enough,
)
from hustings.serving.plan.settings import GroupBound, Plan, PlanSettings
from hustings.serving.plan.tables import frames, roles_of
from hustings.training.estimators.spend_path import NOTHING
from hustings.training.estimators.split import unit_uniforms

N_ATTEMPTS = 6
"""Times that floors and shares are aimed at higher where chance missed them."""
CAUTION = (3.0, 1.0, 0.0)
"""Standard errors by which a floor is planned over, less where that cannot be done."""
OVER, OVER_AT_MOST = 2.0, 0.5
"""Standard errors (and share) by which more is wanted than there is: the next in order
take what the holdout and the draws leave over."""


class DecidingRows(NamedTuple):
    """Voters who decide together.

    Attributes:
        row: Row of every voter, shape (n_voters,).
        held: Whether a row is held out, shape (n_rows,).
        ties: Its number in [0, 1), a seeded hash of who it is, shape (n_rows,).
        value: Predicted value of every arm, shape (n_rows, A).
        reach: Contacts of every arm, shape (n_rows, A).
    """

    row: Ints
    held: Bools
    ties: Floats
    value: Floats
    reach: Floats


class _Probabilities(NamedTuple):
    """Probabilities of the holdout, of exploring and of every arm."""

    holdout: float
    share: float
    odds: Floats

    @property
    def planned(self) -> float:
        """Probability that a row is planned: neither held out nor exploring."""
        return (1.0 - self.holdout) * (1.0 - self.share)


def plan_contacts(
    voter_id: Objects,
    unit_id: Objects,
    lift: Floats,
    allowed: Bools,
    arms: Sequence[Arm],
    cost: Floats,
    settings: PlanSettings,
    rng: np.random.Generator,
    *,
    held_voters: Bools | None = None,
    bounds: Sequence[GroupBound] = (),
    explore_odds: Floats | None = None,
    pool_probability: Floats | None = None,
    predicted: Floats | None = None,
    places: PlaceOffers | None = None,
) -> Plan:
    """Plan each voter's message, channel and day within all limits.

    Args:
        voter_id: Shape (n_voters,).
        unit_id: Who decides together: household or voter, shape (n_voters,).
        lift: What every arm is worth to the planner, shape (n_voters, A).
        allowed: Who may get which arm, shape (n_voters, A).
        arms: Length A.
        cost: USD of every arm, shape (A,).
        settings: Budget, days, holdout, exploration, limits.
        rng: Who explores, and which arm.
        held_voters: Who is held out, shape (n_voters,); by `held_out` of the unit
            without. Persons keep their holdout when they move, so a unit may hold
            both kinds: those who are held out get nothing, the others decide.
        bounds: Caps and shares of groups. Where households decide, each counts by the
            share of its people who belong.
        explore_odds: Probability of every arm for a voter who explores, shape
            (n_voters, A), what is missing to 1 is that of nothing; even odds without.
            It must not depend on the voter's random draws. Of a household the mean.
        pool_probability: Probability that a voter who is not held out is still in the
            pool, shape (n_voters,); 1 without.
        predicted: Predicted lift of every arm in outcome units, shape (n_voters, A),
            which assignments state; `lift` without. It differs from the worth where
            that is cautious, in votes, or nothing under an untargeted policy.
        places: What whole places may be offered, out of the same budget. Voters of a
            place that takes something get nothing of their own and explore nothing.

    Raises:
        ValueError: If the holdout is not in (0, 1).
        PlanError: If limits contradict each other.
    """
    held = held_voters
    if held is None:
        held = held_out(unit_id, salt=settings.salt, share=settings.holdout_share)
    elif not 0 < settings.holdout_share < 1:
        raise ValueError(
            f"holdout_share must lie in (0, 1), got {settings.holdout_share}"
        )
    placed = None
    if places is not None:
        placed = _decided_places(
            places, unit_id, held, lift, allowed, arms, cost, settings, bounds,
            lift if predicted is None else predicted,
        )  # fmt: skip
        allowed = allowed & ~placed.takes[:, None]
        settings = replace(settings, budget_usd=settings.budget_usd - placed.cost_usd)
    rows = _rows(unit_id, held, lift, allowed, settings.salt)
    limits = _all_limits(rows, arms, cost, settings, bounds)
    spread = _spread(arms, limits, settings)
    _close_too_large(rows, limits, spread)
    odds = _odds(rows, limits, spread, explore_odds)
    # a held row explores nothing, but what it would have counts among all rows
    needed = (1 - settings.holdout_share) * expected_use(rows.reach, odds, limits)
    share = affordable_share(needed, limits, settings.explore_share)
    charges = _charges(arms, settings)
    probabilities = _Probabilities(settings.holdout_share, share, odds)
    drawn_plan = _drawn_plan(rows, limits, charges, probabilities, spread, rng)
    drawn = _of_voters(odds, drawn_plan.assignment.open, rows.row, allowed)
    contacts, assignments = frames(
        voter_id,
        rows.row,
        lift if predicted is None else predicted,
        allowed,
        arms,
        cost,
        settings.start_on,
        roles_of(drawn_plan.assignment, drawn_plan.draws),
        drawn_plan.assignment,
        (probabilities.holdout, share),
        drawn,
        pool_probability,
    )
    plan = Plan(
        contacts,
        assignments,
        _restated(drawn_plan, rows, limits),
        limits,
        share,
        drawn_plan.charged_plan.chosen,
        drawn_plan.used,
        drawn_plan.charged_plan.setup_usd,
        tuple(
            e.name
            for e, u in zip(charges, drawn_plan.charged_plan.used, strict=True)
            if not u
        ),
        drawn,
        rows.row,
    )
    return (
        plan if placed is None else _with_places(plan, placed, settings.holdout_share)
    )


def _decided_places(
    places: PlaceOffers,
    unit_id: Objects,
    held: Bools,
    lift: Floats,
    allowed: Bools,
    arms: Sequence[Arm],
    cost: Floats,
    settings: PlanSettings,
    bounds: Sequence[GroupBound],
    predicted: Floats,
) -> DecidedPlaces:
    """Places that take something, against what their voters could take on average.

    A row is planned with the probability that it is neither held out nor explores, and
    what exploration uses is set aside. Set-up fees and least audiences are not looked
    at here; the plan of the voters keeps them.
    """
    rows = _rows(unit_id, held, lift, allowed, settings.salt)
    limits, in_pool_share = (
        _all_limits(rows, arms, cost, settings, bounds),
        1 - settings.holdout_share,
    )
    odds = even_odds(rows.reach, limits)
    needed = in_pool_share * expected_use(rows.reach, odds, limits)
    share = affordable_share(needed, limits, settings.explore_share)
    explored = share * needed
    q = in_pool_share * (1 - share)
    return decide_places(
        places,
        lift,
        predicted,
        rows.row,
        market_of(q * rows.value, q * rows.reach, limits.less(explored), rows.ties),
        salt=settings.salt,
        holdout_share=settings.holdout_share,
        start_on=settings.start_on,
    )


def _with_places(plan: Plan, placed: DecidedPlaces, holdout: float) -> Plan:
    """The plan with its places, their money within the budget again.

    Nobody in a place that takes something was drawn to explore: there is one role
    beside the holdout, whose probability is that of not being held out.
    """
    assigned = plan.assignments
    single = placed.takes & (assigned["role"] != "holdout").to_numpy()
    free = (1.0 - holdout) * assigned["pool_probability"]
    usd = np.zeros(len(plan.limits.most))
    usd[0] = placed.cost_usd
    return replace(
        plan,
        assignments=assigned.assign(
            role=assigned["role"].mask(single, "plan"),
            propensity=assigned["propensity"].mask(single, free),
        ),
        limits=plan.limits.with_most(plan.limits.most + usd),
        used=plan.used + usd,
        places=placed.places,
        places_gap=placed.gap,
    )


def _rows(
    unit_id: Objects, held: Bools, lift: Floats, allowed: Bools, salt: str
) -> DecidingRows:
    """A row for every unit, or for its two parts where some are held out."""
    row, units = pd.factorize(np.asarray(unit_id, dtype=object))
    n_held = np.bincount(row, weights=held, minlength=len(units))
    split = (n_held > 0) & (n_held < np.bincount(row, minlength=len(units)))
    apart = split[row] & held
    if apart.any():
        names = np.asarray(unit_id, dtype=object).copy()
        names[apart] = [f"{name} (held out)" for name in names[apart]]
        row, units = pd.factorize(names)
    of_row = np.zeros(len(units), dtype=bool)
    of_row[row[held]] = True
    ties = unit_uniforms(np.asarray(units, dtype=object), salt=f"ties-{salt}")
    return DecidingRows(row, of_row, ties, *_pooled(lift, allowed, row, len(units)))


def _pooled(
    lift: Floats, allowed: Bools, row: Ints, n_rows: int
) -> tuple[Floats, Floats]:
    """Value and contacts of every row: sums over its voters who may get an arm.

    A value has the precision of the lifts, and contacts as few bytes as they need.
    """
    most = int(np.bincount(row, minlength=1).max())
    dtype = lift.dtype if lift.dtype == np.float32 else np.dtype(np.float64)
    value = blank((n_rows, lift.shape[1]), dtype)
    reach = blank(value.shape, np.min_scalar_type(most))
    for voters in row_blocks(len(row)):
        order = np.argsort(row[voters], kind="stable")
        of_row, starts = np.unique(row[voters][order], return_index=True)
        if len(of_row) == 0:
            continue
        may = allowed[voters][order]
        worth = np.where(may, lift[voters][order], 0.0)
        # of a household that two blocks share, the other part comes on top
        value[of_row] += np.add.reduceat(worth, starts, dtype=np.float64)
        reach[of_row] += np.add.reduceat(may, starts, dtype=reach.dtype)
    let_go(lift, allowed, value, reach)
    return value, reach


def _close_too_large(rows: DecidingRows, limits: Limits, spread: Spread) -> None:
    """Close arms by which a row would use more than a limit (of a day) has."""
    for block in row_blocks(len(rows.held)):
        fits = small_enough(rows.reach[block], limits.rows(block), spread, 1.0)
        rows.reach[block] = np.where(fits, rows.reach[block], 0)
        rows.value[block] = np.where(fits, rows.value[block], 0)
    let_go(rows.value, rows.reach)


def _odds(
    rows: DecidingRows, limits: Limits, spread: Spread, explore_odds: Floats | None
) -> Floats:
    """Probability of every arm for a row that explores, shape (n_rows, A)."""
    given = None if explore_odds is None else _mean_odds(explore_odds, rows)
    odds = blank(rows.value.shape, rows.value.dtype)
    for block in row_blocks(len(odds)):
        reach, of_block = rows.reach[block], limits.rows(block)
        chance = even_odds(reach, of_block) if given is None else given[block]
        odds[block] = np.where(
            small_enough(reach, of_block, spread, LARGEST), chance, 0.0
        )
    let_go(rows.reach, odds)
    return odds


def _of_voters(odds: Floats, open_: Bools, row: Ints, allowed: Bools) -> Floats:
    """Odds of every voter's open and allowed arms, shape (n_voters, A)."""
    of_voters = blank(allowed.shape, odds.dtype)
    for voters in row_blocks(len(row)):
        at = row[voters]
        chance = np.where(open_[at], odds[at], 0.0)
        of_voters[voters] = np.where(allowed[voters], chance, 0.0)
    let_go(odds, open_, allowed, of_voters)
    return of_voters


def _all_limits(
    rows: DecidingRows,
    arms: Sequence[Arm],
    cost: Floats,
    settings: PlanSettings,
    bounds: Sequence[GroupBound],
) -> Limits:
    further_limits: list[Limit] = []
    for message, most in sorted(settings.caps.items()):
        further_limits.append(
            cap(f"contacts of {message}", by_message(arms, message), most)
        )
    for message, least in sorted(settings.floors.items()):
        name = f"at least {least:,.0f} of {message}"
        further_limits.append(floor(name, by_message(arms, message), least))
    people = np.bincount(rows.row, minlength=len(rows.held))
    for bound in bounds:
        of_group = np.bincount(rows.row, weights=bound.members, minlength=len(people))
        within = of_group / np.maximum(people, 1)
        further_limits += share_bounds(
            bound.name, within, len(arms), bound.low, bound.high
        )
        if bound.most is not None:
            ones, name = np.ones(len(arms)), f"contacts in {bound.name}"
            further_limits.append(Limit(name, ones, bound.most, within))
    total = settings.capacity_per_day
    return limits_of(
        arms, cost, budget_usd=settings.budget_usd,
        capacity={c: n * settings.days for c, n in settings.capacity.items()},
        total_capacity=None if total is None else total * settings.days,
        further_limits=further_limits,
    )  # fmt: skip


def _spread(arms: Sequence[Arm], limits: Limits, settings: PlanSettings) -> Spread:
    """Capacities hold on each day; they come next after the budget."""
    n_daily = len(settings.capacity) + (settings.capacity_per_day is not None)
    daily = np.zeros(len(limits.most), dtype=bool)
    daily[1 : 1 + n_daily] = len(arms) > 0
    return Spread(settings.days, daily)


def _charges(arms: Sequence[Arm], settings: PlanSettings) -> list[FixedCharge]:
    """Channels with a fee or a minimum order; messages with a minimum audience."""
    charges = []
    for channel, needs in sorted(settings.entered.items()):
        charged_arms = np.array([arm.channel == channel for arm in arms], dtype=bool)
        if charged_arms.any():
            charges.append(FixedCharge(f"channel {channel}", charged_arms, *needs))
    if settings.minimum_audience > 0:
        for message in sorted({arm.message_id for arm in arms}):
            charged_arms = np.array(
                [arm.message_id == message for arm in arms], dtype=bool
            )
            charges.append(
                FixedCharge(
                    f"message {message}", charged_arms, 0.0, settings.minimum_audience
                )
            )
    return charges


def _mean_odds(of_voters: Floats, rows: DecidingRows) -> Floats:
    """Odds of a row: the mean of its voters', nothing where no one may get an arm."""
    if (of_voters < 0).any() or (of_voters.sum(axis=1) > 1 + 1e-9).any():
        raise ValueError(
            "explore_odds: expected probabilities that sum to at most 1 in each row"
        )
    sums = [np.bincount(rows.row, weights=column) for column in of_voters.T]
    mean = np.column_stack(sums) / np.bincount(rows.row)[:, None]
    return np.where(rows.reach > 0, mean, 0.0)


class _DrawnPlan(NamedTuple):
    charged_plan: PlanWithCharges
    assignment: SequentialAssignment
    draws: RandomDraws
    used: Floats


def _drawn_plan(
    rows: DecidingRows,
    limits: Limits,
    charges: Sequence[FixedCharge],
    probabilities: _Probabilities,
    spread: Spread,
    rng: np.random.Generator,
) -> _DrawnPlan:
    """Plan, random draws and assignment; floors and shares hold after the draws, too.

    Where chance missed a floor it is aimed at higher, and the plan made again with the
    same draws; that is rare, since it is aimed high to begin with.
    """
    draws = random_draws(
        rows.held, probabilities.share, probabilities.odds, rows.ties, rng
    )
    higher, raised = np.zeros(len(limits.most)), 1.0
    for _ in range(N_ATTEMPTS):
        charged_plan = _wanted(rows, limits, charges, probabilities, higher, raised)
        inside = limits.with_most(limits.most - _fee(charged_plan, limits))
        reach = _closed_out(rows.reach, charges, charged_plan.used)
        odds = probabilities.odds
        if not charged_plan.used.all():
            odds = np.where(reach > 0, odds, 0.0)
        merit = _merit(rows, limits, charged_plan.chosen)
        drawn = draws._replace(arm=_still(draws.arm, reach))
        assignment = sequential_assignment(
            charged_plan.chosen.option, merit, reach, inside, spread, drawn, odds,
            probabilities.share, rows.ties,
        )  # fmt: skip
        used = limits.used(assignment.option, rows.reach)
        over = used - limits.most - SLACK * limits.scale()
        lacking = _lacking(assignment.option, rows.reach, charges, charged_plan.used)
        if (over <= 0).all() and lacking <= 0:
            return _DrawnPlan(
                charged_plan, assignment, drawn, used + _fee(charged_plan, limits)
            )
        higher = higher + 2.0 * np.maximum(over, 0.0) / probabilities.planned
        raised *= 1.0 + 2.0 * max(lacking, 0.0)
    k = int(np.argmax(over / limits.scale()))
    raise PlanError(
        f"{limits.name_of(k)}: missed by {max(over[k], 0.0):,.3g} once holdout and "
        "exploration were drawn; loosen it by that or plan for more people"
    )


def _fee(charged_plan: PlanWithCharges, limits: Limits) -> Floats:
    fee_use = np.zeros(len(limits.most))
    fee_use[0] = charged_plan.setup_usd
    return fee_use


def _wanted(
    rows: DecidingRows,
    limits: Limits,
    charges: Sequence[FixedCharge],
    probabilities: _Probabilities,
    higher: Floats,
    raised: float,
) -> PlanWithCharges:
    """The plan over all rows, a function of scores and limits, not of any draw."""
    for caution in CAUTION:
        larger = _larger(rows, limits, probabilities, caution)
        larger = larger.with_most(larger.most - higher)
        q = probabilities.planned
        scaled = [
            e._replace(
                setup_usd=e.setup_usd / q,
                minimum_contacts=raised
                * (e.minimum_contacts + caution * np.sqrt(e.minimum_contacts * (1 - q)))
                / q,
            )
            for e in charges
        ]
        try:
            charged_plan = choose_with_charges(
                rows.value, rows.reach, larger, scaled, rows.ties
            )
        except PlanError:
            if caution == CAUTION[-1]:
                raise
            continue
        return charged_plan._replace(setup_usd=charged_plan.setup_usd * q)
    raise AssertionError


def _larger(
    rows: DecidingRows, limits: Limits, probabilities: _Probabilities, caution: float
) -> Limits:
    """Limits over all rows such that those of the planned ones are used up.

    What exploration uses is set aside first. Of what is left, a planned row is one of
    1 / q rows; a little more is wanted, since the last in order take what is over.
    Floors and shares are aimed at some standard errors higher.
    """
    q, in_pool_share = probabilities.planned, 1.0 - probabilities.holdout
    explored = (
        probabilities.share
        * in_pool_share
        * expected_use(rows.reach, probabilities.odds, limits)
    )
    left = limits.less(explored).most
    use = np.where(limits.use > 0, limits.use, np.nan)
    mean = np.array([np.nanmean(u) if (u > 0).any() else 1.0 for u in use])
    n = np.maximum(np.abs(left) / np.maximum(mean, 1e-12), 1.0)
    over = np.minimum(OVER * np.sqrt((1 - q) / (q * n)), OVER_AT_MOST)
    n_planned = min(float(n[0]), float(_n_reachable(rows.reach)))
    square = np.abs(left)
    if limits.of_class is not None and limits.row_class is not None:
        of_rows = limits.of_class[:, limits.row_class]
        of_shares = n_planned * (of_rows**2).mean(axis=1)
        square = np.where(limits.most == 0, of_shares, square)
    error = np.sqrt(square * (1 - q)) / q
    most = np.where(limits.floors, left / q - caution * error, left / q * (1 + over))
    return limits.with_most(most)


def _n_reachable(reach: Floats) -> int:
    """Rows that may get anything."""
    counts = [int(reach[rows].any(axis=1).sum()) for rows in row_blocks(len(reach))]
    let_go(reach)
    return sum(counts)


def _closed_out(reach: Floats, charges: Sequence[FixedCharge], used: Bools) -> Floats:
    """Contacts without the arms of channels and messages that are not used at all."""
    open_reach = reach
    for charge, open_ in zip(charges, used, strict=True):
        if not open_:
            open_reach = np.where(charge.arms, 0.0, open_reach)
    return open_reach


def _still(arm: Ints, reach: Floats) -> Ints:
    """Drawn arms that are open to their rows."""
    open_ = reach[np.arange(len(arm)), np.maximum(arm, 0)] > 0
    return np.where((arm != NOTHING) & open_, arm, NOTHING)


def _merit(rows: DecidingRows, limits: Limits, chosen: Chosen) -> Floats:
    """Value of a row's option less the prices, per contact."""
    market = market_of(rows.value, rows.reach, limits, rows.ties)
    left = best_at(market, chosen.price).left
    option = np.maximum(chosen.option, 0)
    contacts = rows.reach[np.arange(len(left)), option]
    merit: Floats = left / np.maximum(contacts, 1.0)
    # equals by ties: rounding must not order them
    return np.round(merit / max(float(merit.max(initial=0.0)), 1e-300), 12)


def _lacking(
    option: Ints, reach: Floats, charges: Sequence[FixedCharge], used: Bools
) -> float:
    """Greatest shortfall of a fixed charge in use, as a share of its minimum."""
    at = np.flatnonzero(option != NOTHING)
    arms = option[at]
    per_arm = np.bincount(arms, weights=reach[at, arms], minlength=reach.shape[1])
    short = [
        1.0 - per_arm[e.arms].sum() / e.minimum_contacts
        for e, open_ in zip(charges, used, strict=True)
        if open_ and e.minimum_contacts > 0
    ]
    return float(max(short, default=0.0))


def _restated(drawn_plan: _DrawnPlan, rows: DecidingRows, limits: Limits) -> Chosen:
    """The plan of those who are neither held out nor exploring, with its bound."""
    draws, option = drawn_plan.draws, drawn_plan.assignment.option
    planned = ~draws.held & ~draws.explores
    sent = np.where(planned, option, NOTHING)
    use_of_others = limits.used(np.where(planned, NOTHING, option), rows.reach)
    left = limits.less(use_of_others + _fee(drawn_plan.charged_plan, limits))
    price = drawn_plan.charged_plan.chosen.price
    market = market_of(rows.value, rows.reach, limits, rows.ties)
    of_planned = float(best_at(market, price).left[planned].sum())
    bound = of_planned + float(price @ left.most)
    return Chosen(option[planned], price, worth_of(sent, rows.value), bound)
