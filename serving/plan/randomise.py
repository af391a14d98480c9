"""Randomisation on top of a plan, with probabilities that are known exactly.

Rows are gone through in one order. Before a row's own draws are looked at, it is
settled from what the rows before it used, and only from that, whether its option still
fits and which arms are open to exploration. So a row's draws (held out, exploring,
which arm) are independent of what was settled for it, no limit is ever exceeded, and no
row is dropped or added once its draws are made. What the holdout and the draws leave
over goes to the next in order.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.spilled import ROWS, blank, let_go, row_blocks
from hustings.serving.plan.constraints import SLACK, Limits
from hustings.training.estimators.spend_path import NOTHING
from hustings.training.estimators.split import unit_uniforms

N_ERRORS = 1.0
"""Standard errors of the exploration still to come that are kept back for it; where
that is too little, its last rows find their arms shut."""
LARGEST = 0.25
"""Of a limit (of a day): rows that would use more by an arm do not explore it, so that
exploration stays open until a limit is nearly used up."""

DRAWN_BY = 0.95
"""Of draws, how many hold out somebody by the share that a refusal names."""


def held_out(unit_id: Sequence[str] | Objects, *, salt: str, share: float) -> Bools:
    """Whether each unit is held out of a campaign, by its id and the salt alone.

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


def require_holdout(
    held: Bools, unit_id: Sequence[str] | Objects, share: float
) -> None:
    """Refuse voters of whom the draw holds out nobody: nothing could be measured.

    Args:
        held: Who is held out, shape (n_voters,).
        unit_id: Who is drawn together, shape (n_voters,).
        share: With which the units were drawn, in (0, 1).

    Raises:
        ValueError: If there are voters and nobody is held out, saying which share
            holds out somebody in 19 of 20 draws of as many units.

    Worked example: of 5 households drawn with a share of .1 nobody is held out in
    .9^5 = 59 of 100 draws; of a share of .46 in 5.
    """
    if not len(held) or bool(np.any(held)):
        return
    n_units = len(set(unit_id))
    enough = math.ceil(100 * (1 - (1 - DRAWN_BY) ** (1 / n_units))) / 100
    raise ValueError(
        f"holdout_share: expected somebody of {len(held):,} voters ({n_units:,} drawn "
        f"apart) to be held out, got nobody by a share of {share:g}: a holdout is "
        "always kept; plan more voters at once, or with a larger share (of as many, "
        f"{max(enough, share):g} holds out somebody in 19 of 20 draws)"
    )


def mixed(ties: Floats, seed: int) -> Floats:
    """Fresh uniforms of the same rows, fixed by their ties and a seed alone.

    Args:
        ties: Numbers in [0, 1) made of 53 bits, shape (n,).
        seed: Another seed gives independent numbers.

    Source: Steele, Lea & Flood (2014), the finaliser of SplitMix64.
    """
    z = (ties * 2.0**53).astype(np.uint64) + np.uint64(seed % 2**63)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) / 2.0**53


class RandomDraws(NamedTuple):
    """Random draws of every row: holdout, exploration and arm.

    Attributes:
        held: Held out, shape (n_rows,).
        explores: Drawn to explore, where it is not held out, shape (n_rows,).
        arm: Arm drawn for it if it explores, or `NOTHING`, shape (n_rows,).
    """

    held: Bools
    explores: Bools
    arm: Ints


def random_draws(
    held: Bools, share: float, odds: Floats, ties: Floats, rng: np.random.Generator
) -> RandomDraws:
    """Random draws of every row, independent of one another and of the plan.

    Args:
        held: Held out, shape (n_rows,).
        share: Probability to explore of a row that is not held out.
        odds: Of every arm for a row that explores, shape (n_rows, A); what is missing
            to 1 is the probability of nothing.
        ties: Who a row is, a number in [0, 1): draws do not depend on the order.
        rng: Chance.
    """
    one, two = (int(rng.integers(2**62)) for _ in range(2))
    drawn, arm = mixed(ties, two), np.full(len(ties), NOTHING)
    for rows in row_blocks(len(ties)):
        passed = odds[rows].cumsum(axis=1, dtype=np.float64) > drawn[rows, None]
        arm[rows] = np.where(passed.any(axis=1), passed.argmax(axis=1), NOTHING)
    let_go(odds)
    return RandomDraws(held, ~held & (mixed(ties, one) < share), arm)


class Spread(NamedTuple):
    """How limits are spread over the days of a plan.

    Attributes:
        days: How many days.
        daily: Limits that hold on each day, for an equal part, shape (n_limits,).
    """

    days: int
    daily: Bools


def even_odds(reach: Floats, limits: Limits) -> Floats:
    """Probability of every allowed arm for a row that explores, shape (n_rows, A).

    Arms count the same but for those of scarce limits, which would otherwise stop
    exploration early; what is missing to 1 is the probability of nothing.
    """
    counts = (limits.use[1:] > 0) & ~limits.floors[1:, None]
    most = np.where(counts, limits.most[1:, None], np.inf).min(axis=0, initial=np.inf)
    is_limited = np.isfinite(most)
    weight = np.ones(len(most))
    weight[is_limited] = most[is_limited] / max(
        most[is_limited].max(initial=0.0), 1e-300
    )
    offered = (reach > 0) * weight
    total = offered.sum(axis=1, keepdims=True) + max(float(weight.mean()), 1e-9)
    odds: Floats = offered / total
    return odds


def small_enough(reach: Floats, limits: Limits, spread: Spread, part: float) -> Bools:
    """Whether options use at most that part of every limit (of a day), (n_rows, A)."""
    is_small = reach > 0
    for k in np.flatnonzero(~limits.floors & np.isfinite(limits.most)):
        use = reach * np.maximum(limits.use[k], 0.0)
        if limits.of_class is not None and limits.row_class is not None:
            use = use * limits.of_class[k, limits.row_class][:, None]
        most = limits.most[k] / (spread.days if spread.daily[k] else 1)
        is_small &= use <= part * most + SLACK * limits.scale()[k]
    return is_small


def affordable_share(needed: Floats, limits: Limits, share: float) -> float:
    """Share of rows that can explore on that share of every limit, in expectation.

    Args:
        needed: Expected use of every limit if all rows explore, shape (n_limits,).
        limits: What may be used.
        share: Of every limit, and the most of the rows.
    """
    counted = (needed > 0) & ~limits.floors
    affordable = np.divide(
        share * limits.most, needed, out=np.full(len(needed), np.inf), where=counted
    )
    return float(min(share, max(affordable.min(initial=np.inf), 0.0)))


def expected_use(reach: Floats, odds: Floats, limits: Limits) -> Floats:
    """Use of expected contacts in all, shape (n_limits,).

    Args:
        reach: Contacts an option means in a row, shape (n_rows, A).
        odds: Probability of every option, shape (n_rows, A).
        limits: What is used.
    """
    total = np.zeros(len(limits.most))
    for rows in row_blocks(len(reach)):
        contacts = reach[rows] * odds[rows]
        for k in range(len(total)):
            row_use = contacts @ limits.use[k]
            if limits.of_class is not None and limits.row_class is not None:
                row_use = row_use * limits.of_class[k, limits.row_class[rows]]
            total[k] += row_use.sum(dtype=np.float64)
    let_go(reach, odds)
    return total


class SequentialAssignment(NamedTuple):
    """Planned option of every row, and its assignment after the random draws.

    Attributes:
        intended: What the plan alone sends it, or `NOTHING`, shape (n_rows,).
        option: What it is sent, shape (n_rows,).
        day: On which day, from 0; -1 for nothing, shape (n_rows,).
        open: Arms that were open to exploration, shape (n_rows, A).
    """

    intended: Ints
    option: Ints
    day: Ints
    open: Bools


def sequential_assignment(
    wanted: Ints,
    merit: Floats,
    reach: Floats,
    limits: Limits,
    spread: Spread,
    draws: RandomDraws,
    odds: Floats,
    share: float,
    ties: Floats,
) -> SequentialAssignment:
    """Assign rows one after another, those without an option first, then by merit.

    Args:
        wanted: Option of every row by the plan over all of them, shape (n_rows,).
        merit: Whose option is kept first, shape (n_rows,).
        reach: Contacts an option means in a row, shape (n_rows, A).
        limits: What may be used in all; floors are not looked at.
        spread: Which limits hold by day.
        draws: Of every row.
        odds: Of exploring arms, shape (n_rows, A).
        share: Probability to explore.
        ties: Order of equals, shape (n_rows,).
    """
    order = np.lexsort((ties, -merit, wanted != NOTHING))
    room = _room(limits, spread, reach)
    acts = (wanted != NOTHING) | (draws.explores & (draws.arm != NOTHING))
    places = np.flatnonzero(acts[order])
    rows = order[places]
    requests = _Requests(
        rows, wanted[rows], draws.explores[rows], draws.arm[rows], draws.held[rows],
        (mixed(ties, 7)[rows] * spread.days).astype(np.int64),
        _kept_back(limits, spread, reach, odds, share, order, places),
    )  # fmt: skip
    n_rows = len(order)
    intended, option, day = (np.full(n_rows, NOTHING) for _ in range(3))
    open_, seen, at = blank(reach.shape, bool), 0, 0
    for block in row_blocks(n_rows):
        open_[block] = reach[block] > 0
    while True:
        settled = _until_a_limit_is_full(room, reach, requests.next_rows(at))
        settled_rows = rows[at : at + settled.n]
        intended[settled_rows], option[settled_rows] = settled.intended, settled.option
        day[settled_rows] = np.where(settled.option != NOTHING, settled.day, -1)
        at += settled.n
        full = settled.full_limit
        is_last = full is None and at == len(rows)
        # rows between two that act use nothing: they find the same limits full
        stop = n_rows if is_last else (places[at - 1] + 1 if at else 0)
        passed_rows = order[seen:stop]
        if room.full_to_chance.any():
            open_[passed_rows] &= _open_arms(room, passed_rows)
        seen = max(seen, stop)
        if is_last:
            let_go(reach, open_)
            return SequentialAssignment(intended, option, day, open_)
        if full is not None:
            full.is_full[full.limit, full.day] = True


class _Room(NamedTuple):
    """What is left of every limit on every day; changes as rows are settled.

    Attributes:
        limits: The limits.
        left: Shape (n_limits, n_days); one that holds for all days has column 0.
        days: Days of each limit, 1 where it holds for all, shape (n_limits,).
        largest: What a row can use of it at most, shape (n_limits,).
        is_full: Full for what the plan wants, shape (n_limits, n_days).
        full_to_chance: Full for what chance may ask, shape (n_limits, n_days).
        counted: Limits that are looked at.
    """

    limits: Limits
    left: Floats
    days: Ints
    largest: Floats
    is_full: Bools
    full_to_chance: Bools
    counted: Ints


class _Requests(NamedTuple):
    """Requests of rows; the last axis is the row."""

    rows: Ints
    wanted: Ints
    explores: Bools
    arm: Ints
    held: Bools
    first_day: Ints
    kept_back: Floats

    def next_rows(self, at: int) -> "_Requests":
        """The requests of some rows from a place on."""
        rows = slice(at, at + ROWS)
        return _Requests(
            self.rows[rows], self.wanted[rows], self.explores[rows], self.arm[rows],
            self.held[rows], self.first_day[rows], self.kept_back[:, rows],
        )  # fmt: skip


class _FullLimit(NamedTuple):
    """A limit that is full on a day, for the plan or for chance."""

    is_full: Bools
    limit: int
    day: int


class _Settled(NamedTuple):
    """Rows settled before a limit is full; `full_limit` is None where none is."""

    n: int
    intended: Ints
    option: Ints
    day: Ints
    full_limit: _FullLimit | None


def _room(limits: Limits, spread: Spread, reach: Floats) -> _Room:
    counted = np.flatnonzero(~limits.floors & np.isfinite(limits.most))
    days = np.where(spread.daily, spread.days, 1)
    of_day = (limits.most + SLACK * limits.scale()) / days
    left = np.repeat(of_day[:, None], spread.days, axis=1)
    is_full = np.zeros(left.shape, dtype=bool)
    largest = reach.max(axis=0, initial=0).astype(np.float64)
    most = (np.maximum(limits.use, 0.0) * largest).max(axis=1)
    if limits.of_class is not None:
        most = most * limits.of_class.max(axis=1)
    return _Room(limits, left, days, most, is_full, is_full.copy(), counted)


def _kept_back(
    limits: Limits, spread: Spread, reach: Floats, odds: Floats, share: float,
    order: Ints, places: Ints,
) -> Floats:  # fmt: skip
    """What exploration after some places may use (of a day), (n_limits, n_places)."""
    n_limits, n_rows = limits.use.shape[0], len(order)
    moments = blank((2, n_limits, n_rows), np.float64)
    for rows in row_blocks(n_rows):
        contacts, chance = reach[rows], odds[rows]
        for k, use in enumerate(limits.use):
            per = contacts * np.maximum(use, 0.0)
            if limits.of_class is not None and limits.row_class is not None:
                per = per * limits.of_class[k, limits.row_class[rows]][:, None]
            for power in (1, 2):
                moments[power - 1, k, rows] = (chance * per**power).sum(axis=1)
    let_go(reach, odds, moments)
    reserve = np.zeros((n_limits, len(places)))
    for k in range(n_limits):
        n_days = spread.days if spread.daily[k] else 1
        mean, square = (
            _after(share / n_days * moment[order])[places] for moment in moments[:, k]
        )
        reserve[k] = mean + N_ERRORS * np.sqrt(square)
    return reserve


def _after(of_place: Floats) -> Floats:
    """Sum over all later places."""
    later_sum: Floats = of_place[::-1].cumsum()[::-1] - of_place
    return np.maximum(later_sum, 0.0)


def _open_days(room: _Room, is_full: Bools) -> Bools:
    """On which days an arm has room in every limit, shape (n_classes, A, n_days)."""
    limits = room.limits
    n_classes = 1 if limits.of_class is None else limits.of_class.shape[1]
    open_ = np.ones((n_classes, limits.use.shape[1], is_full.shape[1]), dtype=bool)
    for k in room.counted[is_full[room.counted].any(axis=1)]:
        class_use = (
            np.ones(n_classes) if limits.of_class is None else limits.of_class[k]
        )
        uses = (class_use > 0)[:, None] & (limits.use[k] > 0)
        full = (
            is_full[k]
            if room.days[k] > 1
            else np.repeat(is_full[k, 0], is_full.shape[1])
        )
        open_ &= ~(uses[:, :, None] & full)
    return open_


def _open_arms(room: _Room, rows: Ints) -> Bools:
    """Arms that chance may still ask for, shape (n_rows, A) or (1, A)."""
    open_: Bools = np.any(_open_days(room, room.full_to_chance), axis=2)
    of_class = room.limits.row_class
    return open_ if of_class is None else open_[of_class[rows]]


def _routed(
    room: _Room, is_full: Bools, rows: Ints, option: Ints, first_day: Ints
) -> tuple[Ints, Ints]:
    """Options with room, and the first day from the row's own on that has it."""
    open_ = _open_days(room, is_full)
    n_days = open_.shape[2]
    later = (np.arange(n_days)[:, None] + np.arange(n_days)) % n_days
    ahead = open_[:, :, later]
    step = np.where(ahead.any(axis=3), ahead.argmax(axis=3), -1)
    of_class = room.limits.row_class
    class_of_row = 0 if of_class is None else of_class[rows]
    steps = step[class_of_row, np.maximum(option, 0), first_day]
    fits = (option != NOTHING) & (steps >= 0)
    return np.where(fits, option, NOTHING), (first_day + steps) % n_days


def _until_a_limit_is_full(room: _Room, reach: Floats, requests: _Requests) -> _Settled:
    """Settles rows up to the one before which a limit turns out to be full."""
    rows = requests.rows
    wanted, on = _routed(room, room.is_full, rows, requests.wanted, requests.first_day)
    drawn, drawn_on = _routed(
        room, room.full_to_chance, rows, requests.arm, requests.first_day
    )
    sent = np.where(requests.explores, drawn, wanted)
    sent[requests.held] = NOTHING
    sent_on = np.where(requests.explores, drawn_on, on)
    need, spent = (_use(room, reach, rows, option) for option in (wanted, sent))
    n, full_limit, before = len(rows), None, {}
    for k in room.counted:
        for d in range(room.days[k]):
            has_no_days = room.days[k] == 1
            use = spent[k] if has_no_days else np.where(sent_on == d, spent[k], 0.0)
            before[k, d] = np.concatenate([[0.0], np.cumsum(use)])
            asks = (need[k] > 0) & (has_no_days | (on == d))
            full = before[k, d][:-1] + need[k] + requests.kept_back[k] > room.left[k, d]
            low = before[k, d][:-1] > room.left[k, d] - room.largest[k]
            for is_full, over in (
                (room.is_full, asks & full),
                (room.full_to_chance, low),
            ):
                first = int(over.argmax()) if len(over) else 0
                if not is_full[k, d] and len(over) and over[first] and first < n:
                    n, full_limit = first, _FullLimit(is_full, int(k), d)
    for (k, d), used in before.items():
        room.left[k, d] -= used[n]
    return _Settled(n, wanted[:n], sent[:n], sent_on[:n], full_limit)


def _use(room: _Room, reach: Floats, rows: Ints, option: Ints) -> Floats:
    """What options use of every limit, shape (n_limits, n)."""
    taken = np.maximum(option, 0)
    contacts = np.where(option != NOTHING, reach[rows, taken], 0.0)
    return room.limits.use_of(rows, taken) * contacts
