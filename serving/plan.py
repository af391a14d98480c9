"""Scores + costs + budget + eligibility → plan with propensities.

maximise Σ v_ia z_ia subject to Σ_a z_ia ≤ 1, a budget and capacities. With the budget
alone the whole-budget path is optimal but for one row. With capacities every limit has
a price (Lagrange multiplier); each row takes its best option at those prices, in the
order of what is left after paying them, while every limit holds. The dual value is an
upper bound, so the gap to the best plan is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize

from features.tables import CONTROL, NO_CHANNEL
from features.training_set import Arm
from training.path import (
    NOTHING,
    contacts_by_row,
    pooled_rows,
    whole_budget_path,
)
from training.split import unit_uniforms

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

N_CORRECTIONS = 3
BINDS, CORRECT_ENOUGH = 0.998, 0.0005
TEMPERATURES = (0.3, 0.05, 0.01)
"""Of the soft maximum, relative to what a row is worth."""
N_PRICED = (5_000, 20_000, 100_000)
"""Rows that each round of pricing looks at, at most."""
_SLACK = 1e-9


@dataclass(frozen=True)
class Limits:
    """What a plan may use; every use is counted per contact.

    Attributes:
        use: What one contact by each arm uses of each limit, shape (n_limits, A); row
            0 is money, the others count contacts.
        most: How much there is, shape (n_limits,).
    """

    use: Floats
    most: Floats

    def less(self, spent: Floats) -> "Limits":
        """What is left after some use, shape (n_limits,)."""
        return Limits(self.use, np.maximum(self.most - spent, 0.0))


@dataclass(frozen=True)
class Chosen:
    """A plan over rows.

    Attributes:
        option: Arm of every row, or `NOTHING`, shape (n_rows,).
        price: Shadow price of every limit, shape (n_limits,).
        value: Predicted value of the plan.
        bound: No plan is worth more than this.
    """

    option: Ints
    price: Floats
    value: float
    bound: float

    @property
    def gap(self) -> float:
        """Share of the bound that the plan may fall short of the best."""
        return (self.bound - self.value) / self.bound if self.bound > 0 else 0.0


def limits_of(
    arms: Sequence[Arm],
    cost: Floats,
    *,
    budget_usd: float,
    capacity: dict[str, float],
    total_capacity: float | None,
) -> Limits:
    """Money, contacts of every channel with a capacity, and contacts in all.

    Args:
        arms: What could be sent, length A.
        cost: USD of every arm, shape (A,).
        budget_usd: Money.
        capacity: Contacts of a channel over all days of the plan.
        total_capacity: Contacts of all channels over all days; None for no limit.
    """
    use, most = [cost], [budget_usd]
    for channel, contacts in sorted(capacity.items()):
        use.append(np.array([float(arm.channel == channel) for arm in arms]))
        most.append(contacts)
    if total_capacity is not None:
        use.append(np.ones(len(arms)))
        most.append(total_capacity)
    return Limits(np.array(use, dtype=np.float64), np.array(most, dtype=np.float64))


def choose_options(
    value: Floats, reach: Floats, limits: Limits, rng: np.random.Generator
) -> Chosen:
    """The best option of every row within all limits.

    Args:
        value: Predicted value of every row and option, shape (n_rows, A); an option
            that is not worth having (or not allowed) is at most 0 and never taken.
        reach: Contacts an option means in a row, shape (n_rows, A); 0 where it is not
            allowed.
        limits: Money and capacities.
        rng: Order among rows worth the same.

    Returns:
        Never over a limit. An effect at or below zero is never bought: a plan cannot
        gain by keeping anybody from voting.
    """
    ties = rng.random(len(value))
    cost = reach * limits.use[0]
    path = whole_budget_path(value, cost, allowed=reach > 0, tie_break=ties)
    option = path.options_at(limits.most[0])
    if (_used(option, reach, limits) <= limits.most * (1 + _SLACK)).all():
        price = np.zeros(len(limits.most))
        price[0] = path.shadow_price(limits.most[0])
        # topping up spends what the next whole step of the path was too dear for
        option = _filled(option, value, reach, limits, price, ties)
    else:
        price, soft = _dual_prices(value, reach, limits, rng)
        nothing = np.full(len(value), NOTHING, dtype=np.int64)
        drawn = _drawn_softly(value, reach, limits, price, soft, rng)
        drawn = _within(drawn, reach, limits, ties)
        option = max(
            (
                _filled(start, value, reach, limits, price, ties)
                for start in (nothing, drawn)
            ),
            key=lambda o: float(_taken(o, value).sum()),
        )
    worth = float(_taken(option, value).sum())
    return Chosen(option, price, worth, _bound(price, value, reach, limits))


def priced(value: Floats, reach: Floats, limits: Limits, price: Floats) -> Floats:
    """What is left of each option's value once its use of limits is paid for."""
    left: Floats = np.where(reach > 0, value - reach * (price @ limits.use), -np.inf)
    return np.where(value > 0, left, -np.inf)


def _used(option: Ints, reach: Floats, limits: Limits) -> Floats:
    contacts = _taken(option, reach)
    sent = option != NOTHING
    per_arm = np.bincount(
        option[sent], weights=contacts[sent], minlength=limits.use.shape[1]
    )
    used: Floats = limits.use @ per_arm
    return used


def _taken(option: Ints, table: Floats) -> Floats:
    rows = np.arange(len(option))
    return np.where(option != NOTHING, table[rows, np.maximum(option, 0)], 0.0)


def _bound(price: Floats, value: Floats, reach: Floats, limits: Limits) -> float:
    """Value of the Lagrangian dual: no plan within the limits is worth more."""
    left = priced(value, reach, limits, price)
    return float(np.maximum(left.max(axis=1), 0.0).sum() + price @ limits.most)


def _dual_prices(
    value: Floats, reach: Floats, limits: Limits, rng: np.random.Generator
) -> tuple[Floats, float]:
    """Prices at which the dual is lowest, and the temperature they were found at.

    The dual has kinks (rows worth the same all switch at one price), so its maximum
    over options is smoothed by a soft one whose temperature falls; the early rounds
    look at a sample of the rows, the last at all of them.
    """
    rows = np.flatnonzero((reach * (value > 0)).any(axis=1))
    value, reach = value[rows], reach[rows]
    best = np.maximum(value, 0).max(axis=1)
    # in units where every limit counts alike and a row is worth about 1
    unit = float(best.mean()) * len(rows) / np.maximum(limits.most, 1.0)
    x = np.full(len(unit), 1.0 / (2 * len(unit)))
    for temperature, at_most in zip(TEMPERATURES, N_PRICED, strict=True):
        few = rng.permutation(len(rows))[:at_most]
        soft = temperature * float(best.mean())
        share = len(few) / len(rows)
        part = Limits(limits.use, limits.most * share)

        scale = float(best.mean()) * len(few)
        x = _lowest(x, unit, scale, (value[few], reach[few], part, soft))
    return x * unit, soft


def _lowest(
    x: Floats, unit: Floats, scale: float, at: tuple[Floats, Floats, Limits, float]
) -> Floats:
    """Where the soft dual is lowest, prices in units of their own."""

    def scaled(x: Floats) -> tuple[float, Floats]:
        bound, slope = _soft_dual(x * unit, *at)
        return bound / scale, slope * unit / scale

    found = minimize(
        scaled, x, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(x)
    )
    lowest: Floats = found.x
    return lowest


def _soft_dual(
    price: Floats, value: Floats, reach: Floats, limits: Limits, soft: float
) -> tuple[float, Floats]:
    """The dual with a soft maximum over options and nothing, and its gradient."""
    share, log_total = _soft_shares(value, reach, limits, price, soft)
    bound = soft * float(log_total.sum()) + float(price @ limits.most)
    return bound, limits.most - limits.use @ (share * reach).sum(axis=0)


def _soft_shares(
    value: Floats, reach: Floats, limits: Limits, price: Floats, soft: float
) -> tuple[Floats, Floats]:
    """Share of every option under a soft maximum with nothing, and its log total."""
    left = priced(value, reach, limits, price) / soft
    top = np.maximum(left.max(axis=1), 0.0)
    weight = np.exp(left - top[:, None])
    total = weight.sum(axis=1) + np.exp(-top)
    return weight / total[:, None], top + np.log(total)


def _drawn_softly(
    value: Floats,
    reach: Floats,
    limits: Limits,
    price: Floats,
    soft: float,
    rng: np.random.Generator,
) -> Ints:
    """An option for each row by its soft shares.

    Rows that are indifferent at the prices must split between options in the ratio
    that the limits ask for; all taking one would use up one limit and leave another.
    """
    share, _ = _soft_shares(value, reach, limits, price, soft)
    passed = share.cumsum(axis=1) > rng.random(len(share))[:, None]
    return np.where(passed.any(axis=1), passed.argmax(axis=1), NOTHING)


def _within(option: Ints, reach: Floats, limits: Limits, ties: Floats) -> Ints:
    """Options without the rows, in random order, for which a limit has no room."""
    option = option.copy()
    rows = np.flatnonzero(option != NOTHING)
    rows = rows[np.argsort(ties[rows])]
    kept, left = np.full(len(option), NOTHING, dtype=np.int64), limits.most
    while len(rows):
        fits, used_up = _fits(option[rows], reach[rows, option[rows]], limits, left)
        kept[rows[:fits]] = option[rows[:fits]]
        if used_up is None:
            break
        left = limits.most - _used(kept, reach, limits)
        rows = rows[fits:]
        rows = rows[limits.use[used_up, option[rows]] <= 0]
    return kept


def _filled(
    option: Ints,
    value: Floats,
    reach: Floats,
    limits: Limits,
    price: Floats,
    ties: Floats,
) -> Ints:
    """Rows without an option take their best one, while every limit holds.

    Rows come in the order of what is left after paying the prices, per contact. Where
    a limit is used up, the arms that need it are closed and the rest look again.
    """
    option = option.copy()
    open_arms = np.ones(limits.use.shape[1], dtype=bool)
    while open_arms.any():
        empty = np.flatnonzero(option == NOTHING)
        gain = priced(value[empty], reach[empty], limits, price)
        gain = np.where(open_arms, gain, -np.inf)
        best = gain.argmax(axis=1)
        contacts = reach[empty, best]
        worth = gain[np.arange(len(empty)), best] / np.maximum(contacts, 1.0)
        order = np.lexsort((ties[empty], -worth))
        order = order[np.isfinite(worth[order])]
        left = limits.most - _used(option, reach, limits)
        fits, used_up = _fits(best[order], contacts[order], limits, left)
        taken = order[:fits]
        option[empty[taken]] = best[taken]
        if used_up is None:
            return option
        open_arms &= limits.use[used_up] <= 0
    return option


def _fits(
    best: Ints, contacts: Floats, limits: Limits, left: Floats
) -> tuple[int, int | None]:
    """How many rows in order fit, and which limit stops the next one."""
    use = limits.use[:, best] * contacts
    over = (np.cumsum(use, axis=1) > left[:, None] * (1 + _SLACK)) & (use > 0)
    stopped = over.any(axis=0)
    if not stopped.any():
        return len(best), None
    first = int(stopped.argmax())
    return first, int(over[:, first].argmax())


@dataclass(frozen=True)
class PlanTerms:
    """What a plan is made under.

    Attributes:
        salt: Of the campaign: fixes the holdout, person by person, for its duration.
        holdout_share: Never contacted; in (0, 1).
        explore_share: Drawn to get a random arm or nothing.
        budget_usd: Money in all.
        start_on: First day.
        days: How many days.
        capacity: Contacts a day of a channel.
        capacity_per_day: Contacts a day of all channels; None for no limit.
    """

    salt: str
    holdout_share: float
    explore_share: float
    budget_usd: float
    start_on: pd.Timestamp
    days: int
    capacity: dict[str, float]
    capacity_per_day: float | None


@dataclass(frozen=True)
class Plan:
    """What to send, and everybody's assignment.

    Attributes:
        contacts: PLAN.
        assignments: ASSIGNMENTS: everybody in the audience, the holdout included.
        chosen: The optimiser's result over the rows that were planned.
        limits: Money and capacities over all days, exploration included.
        explored: Share of voters actually drawn to explore.
    """

    contacts: pd.DataFrame
    assignments: pd.DataFrame
    chosen: Chosen
    limits: Limits
    explored: float


def held_out(
    unit_id: Sequence[str] | npt.NDArray[np.object_], *, salt: str, share: float
) -> Bools:
    """Who is never contacted in a campaign, the same whoever asks and whenever.

    Args:
        unit_id: Household (or voter) of each voter, shape (n_voters,).
        salt: The campaign's.
        share: Of all units, in (0, 1).

    Raises:
        ValueError: If the share is not in (0, 1): a holdout is always kept.
    """
    if not 0 < share < 1:
        raise ValueError(f"holdout_share must lie in (0, 1), got {share}")
    held: Bools = unit_uniforms(unit_id, salt=f"holdout-{salt}") < share
    return held


def plan_contacts(
    voter_id: npt.NDArray[np.object_],
    unit_id: npt.NDArray[np.object_],
    lift: Floats,
    allowed: Bools,
    arms: Sequence[Arm],
    cost: Floats,
    terms: PlanTerms,
    rng: np.random.Generator,
    *,
    held_voters: Bools | None = None,
) -> Plan:
    """Who gets which message, by which channel, on which day.

    Args:
        voter_id: Shape (n_voters,).
        unit_id: Who decides together: household or voter, shape (n_voters,).
        lift: Predicted lift of every arm, shape (n_voters, A).
        allowed: Who may get which arm, shape (n_voters, A).
        arms: Length A.
        cost: USD of every arm, shape (A,).
        terms: Budget, days, holdout, exploration.
        rng: Exploration and order among equals.
        held_voters: Who is held out, shape (n_voters,); by `held_out` of the unit
            without. Persons keep their holdout when they move, so a unit may hold
            both kinds: those who are held out get nothing, the others decide.

    Raises:
        ValueError: If the holdout is not in (0, 1).
    """
    if held_voters is None:
        held_voters = held_out(unit_id, salt=terms.salt, share=terms.holdout_share)
    units, row, held = _deciding_rows(unit_id, held_voters)
    value, _, _ = pooled_rows(lift, cost, allowed, row)
    reach = contacts_by_row(allowed, row)
    limits = limits_of(
        arms,
        cost,
        budget_usd=terms.budget_usd,
        capacity={c: n * terms.days for c, n in terms.capacity.items()},
        total_capacity=_over_days(terms),
    )
    odds = _explore_odds(reach, limits)
    share = _affordable_share(reach[~held], odds[~held], limits, terms.explore_share)
    explored = share * limits.use @ (reach * odds)[~held].sum(axis=0)
    intended, price = _intended(
        value, reach, held, limits.less(explored), 1.0 - share, rng
    )
    exploring = _exploring(intended, reach, held, share, rng)
    planned, left = ~held & ~exploring, limits.less(explored)
    ties = rng.random(len(units))
    rest = _within(np.where(planned, intended, NOTHING), reach, left, ties)
    room = limits.less(_used(rest, reach, limits))
    drawn = _explored(reach, odds, exploring, room, rng)
    left = limits.less(_used(drawn, reach, limits))
    # what rounding and the draws left over goes to the next best
    rest[planned] = _filled(
        rest[planned], value[planned], reach[planned], left, price, ties[planned]
    )
    option = np.where(exploring, drawn, rest)
    option, day = _scheduled(option, reach, arms, terms, rng)
    intended = np.where(planned, option, intended)
    role = np.where(held, "holdout", np.where(exploring, "explore", "plan"))
    chances = (1.0 - share) * _lottery(value, reach, intended, planned)
    chances += share * np.column_stack([1.0 - odds.sum(axis=1), odds])
    decided = _Rows(option, intended, day, role, chances, terms.holdout_share)
    contacts, assignments = _frames(
        voter_id, row, lift, allowed, arms, cost, terms.start_on, decided
    )
    chosen = _restated(option, value, reach, planned, price, left)
    return Plan(contacts, assignments, chosen, limits, share)


def _deciding_rows(
    unit_id: npt.NDArray[np.object_], held_voters: Bools
) -> tuple[npt.NDArray[np.str_], Ints, Bools]:
    """Rows that decide as one: a unit, or its two parts where some are held out.

    Returns:
        Name of every row, row of every voter, and whether a row is held out.
    """
    names = np.asarray(unit_id, dtype=str)
    units, unit = np.unique(names, return_inverse=True)
    n_held = np.bincount(unit, weights=held_voters)
    split = (n_held > 0) & (n_held < np.bincount(unit))
    apart = split[unit] & held_voters
    if apart.any():
        names = np.where(apart, np.char.add(names, " (held out)"), names)
        units, unit = np.unique(names, return_inverse=True)
    row = unit
    held = np.zeros(len(units), dtype=bool)
    held[row[held_voters]] = True
    return units, row, held


def _intended(
    value: Floats,
    reach: Floats,
    held: Bools,
    limits: Limits,
    share: float,
    rng: np.random.Generator,
) -> tuple[Ints, Floats]:
    """What the plan alone would send every row, and the prices of its limits.

    The holdout and those who explore are planned like all others, with limits that
    are larger by as much, so that what each would have been sent is comparable; the
    limits are then corrected for who is in fact held out.

    Args:
        value: Shape (n_rows, A).
        reach: Shape (n_rows, A).
        held: Who is held out, shape (n_rows,).
        limits: For those who are sent what is intended.
        share: Of the rows that are not held out, those who do not explore.
        rng: Order among rows worth the same.
    """
    seed = int(rng.integers(2**32))
    part = share * max(float(reach[~held].sum() / max(reach.sum(), 1.0)), 1e-9)
    larger = limits.most / part
    for _ in range(N_CORRECTIONS):
        whole = Limits(limits.use, larger)
        chosen = choose_options(value, reach, whole, np.random.default_rng(seed))
        used = share * _used(np.where(held, NOTHING, chosen.option), reach, limits)
        binds = _used(chosen.option, reach, limits) >= BINDS * larger
        ratio = np.divide(limits.most, used, out=np.ones(len(used)), where=used > 0)
        correction = np.where(binds | (ratio < 1), ratio, 1.0)
        if (np.abs(correction - 1.0) < CORRECT_ENOUGH).all():
            break
        larger = larger * correction
    return chosen.option, chosen.price


def _exploring(
    intended: Ints, reach: Floats, held: Bools, share: float, rng: np.random.Generator
) -> Bools:
    """Who explores: every row that is not held out with the same probability.

    A systematic sample along the intended options takes the same share of each, so
    that what the others use of money and capacity does not hang on the draw.
    """
    rows = np.flatnonzero(~held)
    contacts = _taken(intended[rows], reach[rows])
    order = rows[np.lexsort((rng.random(len(rows)), contacts, intended[rows]))]
    steps = np.floor(share * np.arange(len(order) + 1) + rng.random())
    found = np.zeros(len(held), dtype=bool)
    found[order[np.diff(steps) > 0]] = True
    return found


def _lottery(value: Floats, reach: Floats, intended: Ints, planned: Bools) -> Floats:
    """Probability that the plan alone gives a row nothing or an option.

    Which of several rows that are alike get what is drawn by lot; so the probability
    is the share among those of them that were planned (or, where none was, for whom it
    was intended). A row like no other is certain of its own.

    Returns:
        Shape (n_rows, 1 + A), nothing first.
    """
    frame = pd.DataFrame(np.column_stack([value, reach]))
    alike = pd.factorize(pd.util.hash_pandas_object(frame, index=False))[0]
    n_options, n_kinds = value.shape[1] + 1, int(alike.max()) + 1
    known = np.bincount(alike[planned], minlength=n_kinds) > 0
    counted = planned | ~known[alike]
    cell = alike[counted] * n_options + intended[counted] + 1
    counts = np.bincount(cell, minlength=n_kinds * n_options)
    table = counts.reshape(n_kinds, n_options)
    shares: Floats = (table / table.sum(axis=1, keepdims=True))[alike]
    return shares


def _restated(
    option: Ints,
    value: Floats,
    reach: Floats,
    planned: Bools,
    price: Floats,
    limits: Limits,
) -> Chosen:
    """The plan of those who are neither held out nor exploring, with its bound."""
    sent = option[planned]
    worth = float(_taken(sent, value[planned]).sum())
    bound = _bound(price, value[planned], reach[planned], limits)
    return Chosen(sent, price, worth, bound)


def _over_days(terms: PlanTerms) -> float | None:
    if terms.capacity_per_day is None:
        return None
    return terms.capacity_per_day * terms.days


def _explore_odds(reach: Floats, limits: Limits) -> Floats:
    """Probability of every allowed arm for a row that explores, shape (n_rows, A).

    Arms count alike but for channels with little capacity, which would otherwise stop
    exploration early; what is missing to 1 is the probability of nothing.
    """
    of_channel = limits.use[1:] > 0
    most = np.where(of_channel, limits.most[1:, None], np.inf).min(
        axis=0, initial=np.inf
    )
    known = np.isfinite(most)
    weight = np.ones(len(most))
    weight[known] = most[known] / most[known].max(initial=1.0)
    offered = (reach > 0) * weight
    odds: Floats = offered / (offered.sum(axis=1, keepdims=True) + weight.mean())
    return odds


def _affordable_share(
    reach: Floats, odds: Floats, limits: Limits, share: float
) -> float:
    """Share of rows that can explore on that share of every limit, in expectation."""
    needed = limits.use @ (reach * odds).sum(axis=0)
    affordable = np.divide(
        share * limits.most, needed, out=np.full(len(needed), np.inf), where=needed > 0
    )
    return float(min(share, affordable.min()))


def _explored(
    reach: Floats,
    odds: Floats,
    exploring: Bools,
    limits: Limits,
    rng: np.random.Generator,
) -> Ints:
    """A random allowed arm, or nothing, for each row that explores."""
    passed = odds.cumsum(axis=1) > rng.random(len(odds))[:, None]
    option = np.where(exploring & passed.any(axis=1), passed.argmax(axis=1), NOTHING)
    rows = np.flatnonzero(option != NOTHING)
    fits, _ = _fits(option[rows], reach[rows, option[rows]], limits, limits.most)
    option[rows[fits:]] = NOTHING
    return option


def _scheduled(
    option: Ints,
    reach: Floats,
    arms: Sequence[Arm],
    terms: PlanTerms,
    rng: np.random.Generator,
) -> tuple[Ints, Ints]:
    """A day for every contact, no channel over its capacity on any day.

    Returns:
        The options, without the few rows that fit no day (a household is never
        split over days), and the day of each, -1 for nothing; shape (n_rows,) each.
    """
    option, day = option.copy(), np.full(len(option), -1, dtype=np.int64)
    rows = np.flatnonzero(option != NOTHING)
    if terms.capacity_per_day is None and not terms.capacity:
        order = rng.permutation(len(rows))
        day[rows[order]] = np.arange(len(rows)) * terms.days // max(len(rows), 1)
        return option, day
    channel = [arms[o].channel for o in option[rows]]
    contacts = reach[rows, option[rows]]
    total = np.full(terms.days, terms.capacity_per_day or np.inf)
    room = {c: np.full(terms.days, terms.capacity.get(c, np.inf)) for c in set(channel)}
    for i in rng.permutation(len(rows)):
        mine = room[channel[i]]
        fits = (mine >= contacts[i]) & (total >= contacts[i])
        at = int(fits.argmax())
        if not fits[at]:
            option[rows[i]] = NOTHING
            continue
        day[rows[i]] = at
        mine[at] -= contacts[i]
        total[at] -= contacts[i]
    return option, day


def _propensities(
    option: Ints, row: Ints, allowed: Bools, chances: Floats, holdout_share: float
) -> Floats:
    """Total probability of what happened to each voter, shape (n_voters,).

    Nothing happens to who is held out, to whose row gets nothing, and to who may not
    get what the row gets.

    Args:
        option: Arm of every voter, or `NOTHING`, shape (n_voters,).
        row: Row of every voter, shape (n_voters,).
        allowed: Shape (n_voters, A).
        chances: Of nothing and every arm for a row that is not held out,
            shape (n_rows, 1 + A).
        holdout_share: Probability of being held out.
    """
    mine = chances[row]
    sent = (1 - holdout_share) * mine[np.arange(len(row)), option + 1]
    barred = np.where(allowed, 0.0, mine[:, 1:]).sum(axis=1)
    nothing = holdout_share + (1 - holdout_share) * (mine[:, 0] + barred)
    return np.where(option == NOTHING, nothing, sent)


@dataclass(frozen=True)
class _Rows:
    """What was decided for every row."""

    option: Ints
    intended: Ints
    day: Ints
    role: npt.NDArray[np.str_]
    chances: Floats
    holdout_share: float


def _frames(
    voter_id: npt.NDArray[np.object_],
    row: Ints,
    lift: Floats,
    allowed: Bools,
    arms: Sequence[Arm],
    cost: Floats,
    start_on: pd.Timestamp,
    decided: _Rows,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """PLAN and ASSIGNMENTS from what was decided for rows."""
    option = _of_voters(decided.option, row, allowed)
    intended = _of_voters(decided.intended, row, allowed)
    messages = np.array([*(arm.message_id for arm in arms), CONTROL], dtype=object)
    channels = np.array([*(arm.channel for arm in arms), NO_CHANNEL], dtype=object)
    assignments = pd.DataFrame(
        {
            "voter_id": voter_id,
            "role": decided.role[row].astype(object),
            "message_id": messages[option],
            "channel": channels[option],
            "propensity": _propensities(
                option, row, allowed, decided.chances, decided.holdout_share
            ),
            "intended_message_id": messages[intended],
            "intended_channel": channels[intended],
        }
    )
    sent = np.flatnonzero(option != NOTHING)
    days = pd.to_timedelta(decided.day[row[sent]], unit="D")
    contacts = assignments.loc[
        sent, ["voter_id", "message_id", "channel", "propensity", "role"]
    ].assign(
        send_on=start_on + days,
        cost_usd=cost[option[sent]],
        lift=lift[sent, option[sent]],
    )
    columns = [
        "voter_id", "message_id", "channel", "send_on", "cost_usd", "lift",
        "propensity", "role",
    ]  # fmt: skip
    return contacts[columns].reset_index(drop=True), assignments


def _of_voters(option: Ints, row: Ints, allowed: Bools) -> Ints:
    """Option of every voter of a row; nothing for one who may not get it."""
    mine = option[row]
    may = allowed[np.arange(len(mine)), np.maximum(mine, 0)]
    return np.where((mine != NOTHING) & may, mine, NOTHING)
