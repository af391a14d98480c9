"""Restricted master problem: near-indifferent rows at the prices are solved exactly.

At good prices all but a few rows have a clear best option. The remaining rows form a
small linear programme over what the decided rows leave of the limits; its duals are
better prices. Once the prices converge, a small integer programme decides the rows near
the margin. HiGHS solves both; identical rows form one group with a count.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from hustings.features.arrays import Bools, Floats, Ints
from hustings.serving.plan.constraints import SLACK, PlanError
from hustings.serving.plan.dual import Best, PricedMarket, best_at
from hustings.training.estimators.spend_path import NOTHING

N_NEAR_TIES, N_WHOLE, PART = 3_000, 400, 4
"""Rows, the least decided ones, of each linear programme: one of `PART`, at most
`N_NEAR_TIES`, and all where there are few."""
N_ROUNDS = 40
ENOUGH = 1e-8
"""Gap of the relaxation, relative to the bound, at which prices have settled."""
UNSETTLED = 1e-4
"""Gap of the relaxation, relative to the bound, above which all rows are near ties."""
N_EDGE = (120, 500)
"""Rows of the integer programme, and of a second one where the first falls short."""
N_NODES = 500
_MISSED = 1e-6
"""By so much of its scale a limit must be missed to count as missed."""


class MasterColumns(NamedTuple):
    """Choices open to groups of equal rows; axis 0 is the choice.

    Attributes:
        group: Group that may take it.
        option: What it is, or `NOTHING`.
        worth: Its value, counted from the group's own best at the prices.
        use: What it uses of every limit, shape (n_limits, n_choices).
    """

    group: Ints
    option: Ints
    worth: Floats
    use: Floats


class NearTies(NamedTuple):
    """The undecided rows at some prices.

    Attributes:
        rows: Which they are.
        group: Group of each, equal rows in one, shape (n_near_ties,).
        n: Rows of every group.
        columns: What the groups may take.
    """

    rows: Ints
    group: Ints
    n: Floats
    columns: MasterColumns


class Relaxed(NamedTuple):
    """Prices, and the relaxed plan that goes with them.

    Attributes:
        price: Of every limit.
        bound: No plan is worth more.
        option: Option of every row; of the undecided ones that of their whole part.
        loose: Undecided rows that the relaxation would split.
    """

    price: Floats
    bound: float
    option: Ints
    loose: Ints


class _Step(NamedTuple):
    """The linear programme around some prices.

    Attributes:
        price: Where the dual of the near ties is lowest, within reach.
        value: Of the relaxed plan.
        missed: By how much it misses each limit.
        fixed: Options of the decided rows.
        near_ties: The others.
        shares: What they take.
    """

    price: Floats
    value: float
    missed: Floats
    fixed: Ints
    near_ties: NearTies
    shares: Floats


def solve_restricted_master(
    market: PricedMarket, price: Floats, highest: Floats, *, enough: float = ENOUGH
) -> Relaxed:
    """Prices at which the bound is lowest, and the relaxed plan.

    Prices move within a box around the best ones so far, so small that rows outside
    the near ties hardly change their option; it grows while the bound falls and shrinks
    when it does not. Then the programme is solved without a box, too: only so are
    limits used up where all are indifferent.

    Args:
        market: Rows and limits.
        price: To begin with.
        highest: What missing a limit by one costs, shape (n_limits,): more than any
            price can be.
        enough: Gap of the relaxation at which to stop.

    Raises:
        PlanError: If no plan keeps all limits.

    Source: Marsten, Hogan & Blankenship (1975), the boxstep method.
    """
    best, best_step = best_at(market, price), None
    bound, box = _bound(market, best, price), 1.0
    for _ in range(N_ROUNDS):
        for size in (box, np.inf):
            step = _step_around(market, best, price, highest, size)
            feasible = (step.missed <= _MISSED * market.limits.scale()).all()
            if feasible and (best_step is None or step.value > best_step.value):
                best_step = step
            there = best_at(market, step.price)
            new = _bound(market, there, step.price)
            fell = new < bound - 0.1 * enough * abs(bound)
            if new < bound:
                best, price, bound = there, step.price, new
            if fell:
                break
        box = 2.0 * box if fell else box / 4.0
        if best_step and bound - best_step.value <= enough * abs(bound):
            break
    if best_step is None or bound - best_step.value > UNSETTLED * abs(bound):
        # where most rows are indifferent, as under an untargeted policy, rows outside
        # the core use too much or too little at every price: ask all rows at once
        step = _step_around(market, best, price, highest, np.inf, every_row=True)
        feasible = (step.missed <= _MISSED * market.limits.scale()).all()
        if best_step is None and not feasible:
            raise _contradiction(market, price, step)
        if best_step is None or (feasible and step.value > best_step.value):
            best_step = step
        there = best_at(market, step.price)
        new = _bound(market, there, step.price)
        if new < bound:
            price, bound = step.price, new
    option, loose = _whole_part(best_step.fixed, best_step.near_ties, best_step.shares)
    return Relaxed(price, bound, option, loose)


def _step_around(
    market: PricedMarket,
    best: Best,
    price: Floats,
    highest: Floats,
    box: float,
    *,
    every_row: bool = False,
) -> _Step:
    n_near_ties = max(N_WHOLE, min(N_NEAR_TIES, len(best.left) // PART))
    if every_row:
        n_near_ties = len(best.left)
    near_ties, width = near_ties_at(market, best, price, n_near_ties)
    fixed = best.option.copy()
    fixed[near_ties.rows] = NOTHING
    room = market.limits.most - market.limits.used(fixed, market.reach)
    most = np.maximum(np.abs(near_ties.columns.use).max(axis=1, initial=0.0), 1e-12)
    reach = np.full(len(price), np.inf) if np.isinf(width) else box * width / most
    low, high = np.maximum(price - reach, 0.0), np.minimum(price + reach, highest)
    shares, new, missed = _relaxed(near_ties, room, low, np.maximum(high, low))
    at = np.flatnonzero(fixed != NOTHING)
    decided = float(market.value[at, fixed[at]].sum(dtype=np.float64))
    value = float(best.left[near_ties.rows].sum() + near_ties.columns.worth @ shares)
    return _Step(new, decided + value, missed, fixed, near_ties, shares)


def _bound(market: PricedMarket, best: Best, price: Floats) -> float:
    return float(best.left.sum() + price @ market.limits.most)


def near_ties_at(
    market: PricedMarket, best: Best, price: Floats, n_near_ties: int
) -> tuple[NearTies, float]:
    """The least decided rows, equal ones in groups, and their choices.

    Returns:
        The core, and the regret up to which an option belongs to it.
    """
    margin = best.margin
    scale, width = max(market.dearest(), 1e-300), np.inf
    if len(margin) > n_near_ties:
        width = float(np.partition(margin, n_near_ties)[n_near_ties])
        width = max(width * (1 + 1e-9), 1e-10 * scale)
    rows = np.flatnonzero((margin <= width) & np.isfinite(margin))
    rows = rows[np.argsort(market.ties[rows], kind="stable")]
    undecided = market.rows(rows)
    charged = undecided.limits.charged_rows(price)
    left = undecided.value - undecided.reach * charged
    regret = best.left[rows, None] - left
    open_ = np.isfinite(left) & (regret <= width)
    top = best.left[rows]
    profile = np.column_stack([regret, top])
    may = np.column_stack([open_, top <= width])
    group, first = _alike(undecided, np.where(may, np.round(profile / scale, 11), -1.0))
    n = np.bincount(group, minlength=len(first)).astype(float)
    columns = _columns(undecided.rows(first), open_[first], regret[first], price)
    idle = np.flatnonzero(best.left[rows[first]] <= width)
    nothing = MasterColumns(
        idle, np.full(len(idle), NOTHING), -best.left[rows[first[idle]]],
        np.zeros((len(price), len(idle))),
    )  # fmt: skip
    joint = [np.concatenate(c, axis=-1) for c in zip(columns, nothing, strict=True)]
    return NearTies(rows, group, n, MasterColumns(*joint)), width


def _alike(market: PricedMarket, regret: Floats) -> tuple[Ints, Ints]:
    """Groups of rows with equal choices: group of every row, and a row of each."""
    reach = np.where(regret[:, :-1] >= 0, market.reach, 0.0)
    profile = np.column_stack([regret, reach])
    frame = pd.DataFrame(profile)
    if market.limits.row_class is not None:
        frame["class"] = market.limits.row_class
    keys = pd.util.hash_pandas_object(frame, index=False)
    group, _ = pd.factorize(keys)
    _, first = np.unique(group, return_index=True)
    return group.astype(np.int64), first


def _columns(
    market: PricedMarket, open_: Bools, regret: Floats, price: Floats
) -> MasterColumns:
    row, option = np.nonzero(open_)
    use = market.limits.use_of(row, option) * market.reach[row, option]
    return MasterColumns(row, option, price @ use - regret[row, option], use)


def _relaxed(
    near_ties: NearTies, room: Floats, low: Floats, high: Floats
) -> tuple[Floats, Floats, Floats]:
    """The linear programme: share of every choice, prices, what is missed.

    To miss a limit by one costs the highest price, to leave one unused earns the
    lowest: so its duals, the prices, lie between.
    """
    columns, n_limits = near_ties.columns, len(room)
    k = len(columns.group)
    size = np.maximum(np.abs(columns.use).max(axis=1, initial=0.0), 1e-12)
    use = columns.use / size[:, None]
    eye = np.eye(n_limits)
    one = csr_array(
        (np.ones(k), (columns.group, np.arange(k))),
        shape=(len(near_ties.n), k + 2 * n_limits),
    )
    solution = linprog(
        np.concatenate([-columns.worth, high * size, -low * size]),
        A_ub=csr_array(np.hstack([use, -eye, eye])),
        b_ub=room / size,
        A_eq=one if len(near_ties.n) else None,
        b_eq=near_ties.n if len(near_ties.n) else None,
        method="highs",
    )
    if solution.status != 0:
        raise RuntimeError(
            f"HiGHS did not solve a plan's programme: {solution.message}"
        )
    price = np.clip(-solution.ineqlin.marginals / size, low, high)
    return solution.x[:k], price, solution.x[k : k + n_limits] * size


def _whole_part(fixed: Ints, near_ties: NearTies, shares: Floats) -> tuple[Ints, Ints]:
    """Whole rows of every group's shares, in the order of ties; and the rest."""
    option = fixed.copy()
    loose: list[int] = []
    n_whole = np.floor(shares + 1e-7).astype(np.int64)
    members = np.argsort(near_ties.group, kind="stable")
    starts = np.searchsorted(near_ties.group[members], np.arange(len(near_ties.n)))
    order = np.argsort(near_ties.columns.group, kind="stable")
    nexts = starts.copy()
    for j in order[n_whole[order] > 0]:
        g = near_ties.columns.group[j]
        next_members = members[nexts[g] : nexts[g] + n_whole[j]]
        option[near_ties.rows[next_members]] = near_ties.columns.option[j]
        nexts[g] += n_whole[j]
    ends = np.append(starts[1:], len(members))
    for g in np.flatnonzero(nexts < ends):
        loose.extend(near_ties.rows[members[nexts[g] : ends[g]]])
    return option, np.array(loose, dtype=np.int64)


def edge_mended(
    market: PricedMarket, option: Ints, edge: Ints, enough: float
) -> Ints | None:
    """The best whole options of a few rows, all others as they are.

    Args:
        market: Rows and limits.
        option: Of every row.
        edge: Rows to decide anew.
        enough: Value that is not worth looking for.

    Returns:
        Options within all limits, shape (n_rows,); None where there are none.
    """
    edge_market = market.rows(edge)
    fixed = option.copy()
    fixed[edge] = NOTHING
    room = market.limits.most - market.limits.used(fixed, market.reach)
    open_ = np.isfinite(edge_market.value)
    row, arm = np.nonzero(open_)
    use = edge_market.limits.use_of(row, arm) * edge_market.reach[row, arm]
    worth = edge_market.value[row, arm]
    total = float(
        np.where(open_, edge_market.value, 0.0).max(axis=1, initial=0.0).sum()
    )
    if len(row) == 0:
        return _if_kept(market, fixed)
    one = csr_array(
        (np.ones(len(row)), (row, np.arange(len(row)))), shape=(len(edge), len(row))
    )
    room = room + SLACK * market.limits.scale()
    size = np.maximum(np.abs(use).max(axis=1), 1e-300)
    # HiGHS takes a limit for kept that is missed by a millionth: then it is lowered
    for lower in (0.0, 2e-6):
        inside = LinearConstraint(
            csr_array(use / size[:, None]), -np.inf, room / size - lower
        )
        solution = milp(
            -worth / max(total, 1e-300),
            integrality=np.ones(len(row)),
            bounds=Bounds(0, 1),
            constraints=[LinearConstraint(one, -np.inf, 1.0), inside],
            options={"node_limit": N_NODES, "mip_rel_gap": enough / max(total, 1e-300)},
        )
        if solution.x is None:
            return None
        taken = np.flatnonzero(np.round(solution.x) == 1)
        mended = fixed.copy()
        mended[edge[row[taken]]] = arm[taken]
        if _if_kept(market, mended) is not None:
            return mended
    return None


def _if_kept(market: PricedMarket, option: Ints) -> Ints | None:
    within_limits = market.limits.are_kept(market.limits.used(option, market.reach))
    return option if within_limits else None


def _contradiction(market: PricedMarket, price: Floats, step: _Step) -> PlanError:
    limits, missed = market.limits, step.missed
    short = [int(k) for k in np.flatnonzero(missed > _MISSED * limits.scale())]
    missed_limits = "; ".join(
        f"{limits.name_of(k)} (limit {abs(limits.most[k]):,.6g}) is missed by at least "
        f"{missed[k]:,.6g}" for k in short
    )  # fmt: skip
    binding_limits = [
        f"{limits.name_of(k)} ({limits.most[k]:,.6g})"
        for k in map(int, np.flatnonzero(price > 0)) if k not in short
    ]  # fmt: skip
    against = (
        f" while keeping {', '.join(binding_limits)}"
        if binding_limits
        else " by those eligible"
    )
    return PlanError(
        f"no plan keeps all limits: {missed_limits}{against}; mend [plan] so that they "
        "can all hold"
    )
