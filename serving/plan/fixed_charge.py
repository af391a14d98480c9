"""Fixed charges: set-up fees and minimum orders of channels and messages.

A set-up fee, a minimum order or a minimum audience makes use a matter of yes or no. A
plan has few of them, so branch and bound decides: at each node some are open (fee paid,
minimum a floor), some closed, and an undecided one spreads its fee over the most
contacts that it could ever send, which never overstates the cost: the bound is valid.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hustings.features.arrays import Bools, Floats, Ints
from hustings.serving.plan.choose import Chosen, choose_options
from hustings.serving.plan.constraints import Limits, PlanError, floor, with_more
from hustings.training.estimators.spend_path import NOTHING

ENOUGH = 1e-6
"""A node is skipped unless its bound exceeds that of the best plan so far by more than
this share."""
MAX_NODES = 60
UNDECIDED, CLOSED, OPEN = -1, 0, 1


class FixedCharge(NamedTuple):
    """Set-up fee and minimum of using some arms at all.

    Attributes:
        name: "channel phone".
        arms: Which arms, shape (A,).
        setup_usd: Paid once if any of them is used.
        minimum_contacts: Contacts if any of them is used.
    """

    name: str
    arms: Bools
    setup_usd: float = 0.0
    minimum_contacts: float = 0.0


class PlanWithCharges(NamedTuple):
    """A plan, and the fixed charges that it pays.

    Attributes:
        chosen: With the bound of the whole; its prices are those of the limits.
        used: Whether each charge is paid, shape (n_charges,).
        setup_usd: Fees paid.
    """

    chosen: Chosen
    used: Bools
    setup_usd: float


class _Problem(NamedTuple):
    value: Floats
    reach: Floats
    limits: Limits
    charges: Sequence[FixedCharge]
    ties: Floats


def choose_with_charges(
    value: Floats,
    reach: Floats,
    limits: Limits,
    charges: Sequence[FixedCharge],
    ties: Floats,
) -> PlanWithCharges:
    """The best plan where some channels or messages are all or nothing.

    Args:
        value: Shape (n_rows, A), as in `choose_options`.
        reach: Shape (n_rows, A).
        limits: Money in row 0; fees are paid out of it.
        charges: Channels and messages that are used with their minimum or not at all.
        ties: Order of equals, shape (n_rows,).

    Returns:
        Its prices are those of `limits`; its bound holds over all choices of charges.

    Raises:
        PlanError: If no choice of charges keeps all limits.

    Source: Land & Doig (1960), with Lagrangian bounds as in Geoffrion (1974).
    """
    problem = _Problem(value, reach, limits, charges, ties)
    none = np.full(len(charges), UNDECIDED)
    if not charges:
        return PlanWithCharges(
            _at(problem, none, None, integral=True), none == OPEN, 0.0
        )
    waiting: list[tuple[float, Ints, Floats | None]] = [(np.inf, none, None)]
    leaves: dict[bytes, Chosen | None] = {}
    best: tuple[Chosen, Ints] | None = None
    bound, failure = 0.0, None
    for _ in range(MAX_NODES):
        if not waiting:
            break
        at = max(range(len(waiting)), key=lambda i: waiting[i][0])
        most, state, start = waiting.pop(at)
        if best and most <= best[0].bound * (1 + ENOUGH):
            bound = max(bound, most)
            continue
        try:
            relaxed = _at(problem, state, start, integral=False)
        except PlanError as why:
            failure = why
            continue
        leaf = _leaning(problem, state, relaxed)
        if leaf.tobytes() not in leaves:
            leaves[leaf.tobytes()] = _leaf(problem, leaf, relaxed.price)
        best = _better(best, leaves[leaf.tobytes()], leaf)
        open_ = np.flatnonzero(state == UNDECIDED)
        if len(open_) == 0:
            bound = max(bound, relaxed.bound)
            continue
        charge = open_[np.argmax(_doubt(problem, relaxed)[open_])]
        for decided in (OPEN, CLOSED):
            branch = state.copy()
            branch[charge] = decided
            waiting.append((relaxed.bound, branch, relaxed.price[: len(limits.most)]))
    if best is None:
        raise failure or PlanError("no choice of channels keeps all limits")
    bound = max([bound, best[0].bound, *(most for most, _, _ in waiting)])
    price = best[0].price[: len(limits.most)]
    paid = sum(e.setup_usd for e, s in zip(charges, best[1], strict=True) if s == OPEN)
    return PlanWithCharges(
        replace(best[0], price=price, bound=bound), best[1] == OPEN, paid
    )


def _better(
    one: tuple[Chosen, Ints] | None, two: Chosen | None, state: Ints
) -> tuple[Chosen, Ints] | None:
    if two is None or (one is not None and one[0].value >= two.value):
        return one
    return two, state


def _at(
    problem: _Problem, state: Ints, start: Floats | None, *, integral: bool
) -> Chosen:
    """The best plan of a node; where charges are undecided, at least as good."""
    value, use, most = (
        problem.value.copy(),
        problem.limits.use.copy(),
        problem.limits.most.copy(),
    )
    floors = []
    for charge, decided in zip(problem.charges, state, strict=True):
        arms = charge.arms.astype(float)
        if decided == CLOSED:
            value[:, charge.arms] = -1.0
        elif decided == OPEN:
            most[0] -= charge.setup_usd
            if charge.minimum_contacts > 0:
                floors.append(
                    floor(f"least of {charge.name}", arms, charge.minimum_contacts)
                )
        elif charge.setup_usd > 0:
            use[0] += arms * charge.setup_usd / max(_most_sent(problem, charge), 1.0)
    if most[0] < 0:
        raise PlanError("set-up fees are more than the budget")
    limits = replace(problem.limits, use=use, most=most)
    if start is not None:
        start = np.append(start, np.zeros(len(most) + len(floors)))
        start = start[: len(most) + len(floors)]
    return choose_options(
        value, problem.reach, with_more(limits, floors), ties=problem.ties, start=start,
        integral=integral,
    )  # fmt: skip


def _most_sent(problem: _Problem, charge: FixedCharge) -> float:
    """Most contacts that any plan makes by the arms of a charge."""
    most_sent = float(problem.reach[:, charge.arms].max(axis=1, initial=0.0).sum())
    for use, most in zip(problem.limits.use[1:], problem.limits.most[1:], strict=True):
        if problem.limits.of_class is None and (use >= 0).all():
            least = float(use[charge.arms].min(initial=np.inf))
            most_sent = min(most_sent, most / least) if least > 0 else most_sent
    return most_sent


def _sent(problem: _Problem, chosen: Chosen) -> Floats:
    """Contacts under every charge, shape (n_charges,)."""
    at = np.flatnonzero(chosen.option != NOTHING)
    arms = chosen.option[at]
    per_arm = np.bincount(
        arms, weights=problem.reach[at, arms], minlength=problem.value.shape[1]
    )
    return np.array([per_arm[charge.arms].sum() for charge in problem.charges])


def _doubt(problem: _Problem, chosen: Chosen) -> Floats:
    """Effect of deciding each charge: money not yet paid and contacts lacking."""
    sent = _sent(problem, chosen)
    fees = np.array([e.setup_usd for e in problem.charges])
    least = np.array([e.minimum_contacts for e in problem.charges])
    unpaid = fees * (
        1 - sent / [max(_most_sent(problem, e), 1.0) for e in problem.charges]
    )
    lacking = np.maximum(least - sent, 0.0) * (sent > 0)
    doubt: Floats = (unpaid * chosen.price[0] + lacking) * (sent > 0) + 1e-9 * sent
    return doubt


def _leaning(problem: _Problem, state: Ints, relaxed: Chosen) -> Ints:
    """Charges decided as the relaxed plan leans."""
    least = np.array([max(e.minimum_contacts, 1.0) for e in problem.charges])
    leaning = np.where(_sent(problem, relaxed) >= least / 2, OPEN, CLOSED)
    return np.where(state == UNDECIDED, leaning, state)


def _leaf(problem: _Problem, state: Ints, start: Floats) -> Chosen | None:
    """The plan with everything decided; None if none keeps all limits."""
    try:
        return _at(problem, state, start[: len(problem.limits.most)], integral=True)
    except PlanError:
        return None
