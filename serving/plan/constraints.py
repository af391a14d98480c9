"""Limits of a plan, each of rank one: what it may use and what it must reach.

A limit says Σ_i r_k[class of i] Σ_a w_k[a] n_ia ≤ most_k, with n the contacts of row i
by arm a. Money, capacities and caps count what is used; a floor is a limit on minus the
contacts; a group's share of contacts is one on (1[i in group] - share) n.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.training_set import Arm
from hustings.training.estimators.spend_path import NOTHING

SLACK = 1e-9
"""Sums of doubles are only so exact, relative to a limit."""


class PlanError(ValueError):
    """Limits contradict each other; the message names them with their figures."""


class Limit(NamedTuple):
    """One limit of a plan.

    Attributes:
        name: As a person reads it: "budget in USD", "contacts by sms".
        per_arm: What one contact by each arm uses, shape (A,); below 0 where it helps
            to reach a floor.
        most: How much there is.
        per_row: Times what of that a row uses, shape (n_rows,); None for all the same.
    """

    name: str
    per_arm: Floats
    most: float
    per_row: Floats | None = None


@dataclass(frozen=True)
class Limits:
    """Limits of a plan; every use is counted per contact.

    Attributes:
        use: What one contact by each arm uses of each limit, shape (n_limits, A); row
            0 is money, the others count contacts.
        most: How much there is, shape (n_limits,).
        of_class: Times this in a row of a class, shape (n_limits, n_classes).
        row_class: Class of every row, shape (n_rows,); None where there is one.
        names: Of every limit.
    """

    use: Floats
    most: Floats
    of_class: Floats | None = None
    row_class: Ints | None = None
    names: tuple[str, ...] = ()

    def less(self, spent: Floats) -> "Limits":
        """Limits that remain after some use, shape (n_limits,)."""
        left = self.most - spent
        return self.with_most(np.where(self.floors, left, np.maximum(left, 0.0)))

    def with_most(self, most: Floats) -> "Limits":
        """The same limits, as high as that."""
        return Limits(self.use, most, self.of_class, self.row_class, self.names)

    def rows(self, chosen: Ints | Bools | slice) -> "Limits":
        """The same limits over some of the rows."""
        row_class = None if self.row_class is None else self.row_class[chosen]
        return Limits(self.use, self.most, self.of_class, row_class, self.names)

    @property
    def floors(self) -> Bools:
        """Limits that some contact brings nearer to being kept, shape (n_limits,)."""
        helps: Bools = np.any(self.use < 0, axis=1)
        if self.of_class is None:
            return helps
        opposed: Bools = np.any(self.use > 0, axis=1) & np.any(
            self.of_class < 0, axis=1
        )
        return helps | opposed

    def charged(self, price: Floats) -> Floats:
        """Price of a contact in a row of a class by an arm, shape (n_classes, A)."""
        if self.of_class is None:
            charge: Floats = (price @ self.use)[None, :]
        else:
            charge = (self.of_class * price[:, None]).T @ self.use
        return charge

    def charged_rows(self, price: Floats) -> Floats:
        """The same by row, shape (n_rows, A) or (1, A)."""
        charged = self.charged(price)
        return charged if self.row_class is None else charged[self.row_class]

    def use_of(self, rows: Ints, option: Ints) -> Floats:
        """Use of one contact in some rows by their options, (n_limits, n)."""
        use = self.use[:, option]
        if self.of_class is not None and self.row_class is not None:
            use = use * self.of_class[:, self.row_class[rows]]
        return use

    def used(self, option: Ints, reach: Floats) -> Floats:
        """Use of options, shape (n_limits,).

        Args:
            option: Of every row, or `NOTHING`, shape (n_rows,).
            reach: Contacts of every row and option, shape (n_rows, A).
        """
        rows = np.flatnonzero(option != NOTHING)
        arms = option[rows]
        n_arms = self.use.shape[1]
        n_classes = 1 if self.of_class is None else self.of_class.shape[1]
        cell = arms if self.row_class is None else self.row_class[rows] * n_arms + arms
        counts = np.bincount(
            cell, weights=reach[rows, arms], minlength=n_classes * n_arms
        ).reshape(n_classes, n_arms)
        of_class = self.of_class
        if of_class is None:
            of_class = np.ones((len(self.most), 1))
        totals: Floats = ((of_class @ counts) * self.use).sum(axis=1)
        return totals

    def scale(self) -> Floats:
        """Size of what a limit speaks of, for tolerances, shape (n_limits,)."""
        largest: Floats = np.abs(self.use).max(axis=1, initial=0.0)
        return np.maximum(np.abs(self.most), largest)

    def are_kept(self, used: Floats) -> bool:
        """Whether no limit is exceeded."""
        return bool((used <= self.most + SLACK * self.scale()).all())

    def name_of(self, k: int) -> str:
        """A limit's name."""
        return self.names[k] if self.names else f"limit {k}"


def joined(limits: Sequence[Limit]) -> Limits:
    """Limits as one table; rows with the same factors in all of them form one class.

    Args:
        limits: Money first.
    """
    use = np.array([limit.per_arm for limit in limits], dtype=np.float64)
    most = np.array([limit.most for limit in limits], dtype=np.float64)
    names = tuple(limit.name for limit in limits)
    by_row = [limit.per_row for limit in limits if limit.per_row is not None]
    if not by_row:
        return Limits(use, most, names=names)
    row_class = pd.DataFrame(np.column_stack(by_row)).groupby(
        list(range(len(by_row))), sort=True
    ).ngroup().to_numpy()  # fmt: skip
    n_classes = int(row_class.max(initial=0)) + 1
    of_class = np.ones((len(limits), n_classes))
    for k, limit in enumerate(limits):
        if limit.per_row is not None:
            of_class[k, row_class] = limit.per_row
    return Limits(use, most, of_class, row_class.astype(np.int64), names)


def limits_of(
    arms: Sequence[Arm],
    cost: Floats,
    *,
    budget_usd: float,
    capacity: Mapping[str, float],
    total_capacity: float | None,
    further_limits: Sequence[Limit] = (),
) -> Limits:
    """Money, contacts of every channel with a capacity, contacts in all, and others.

    Args:
        arms: What could be sent, length A.
        cost: USD of every arm, shape (A,).
        budget_usd: Money.
        capacity: Contacts of a channel over all days of the plan.
        total_capacity: Contacts of all channels over all days; None for no limit.
        further_limits: Caps, floors, shares: see `cap`, `floor`, `share_bounds`.
    """
    limits = [Limit("budget in USD", np.asarray(cost, dtype=np.float64), budget_usd)]
    for channel, contacts in sorted(capacity.items()):
        limits.append(
            cap(f"contacts by {channel}", by_channel(arms, channel), contacts)
        )
    if total_capacity is not None:
        limits.append(cap("contacts in all", np.ones(len(arms)), total_capacity))
    return joined([*limits, *further_limits])


def by_channel(arms: Sequence[Arm], channel: str) -> Floats:
    """1 for the arms of a channel, shape (A,)."""
    return np.array([float(arm.channel == channel) for arm in arms])


def by_message(arms: Sequence[Arm], message_id: str) -> Floats:
    """1 for the arms of a message, shape (A,)."""
    return np.array([float(arm.message_id == message_id) for arm in arms])


def cap(name: str, counts: Floats, most: float) -> Limit:
    """At most so many contacts by some arms."""
    return Limit(name, counts, most)


def floor(name: str, counts: Floats, least: float) -> Limit:
    """At least so many contacts by some arms."""
    return Limit(name, -counts, -least)


def share_bounds(
    name: str, within: Floats, n_arms: int, low: float, high: float
) -> list[Limit]:
    """A group's share of all contacts lies between two bounds.

    Args:
        name: Of the group.
        within: Share of each row's people who belong to it, shape (n_rows,).
        n_arms: A.
        low: Least share, in [0, 1].
        high: Greatest share, in [low, 1].

    Raises:
        ValueError: If the bounds are not in order.
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f"{name}: expected 0 <= low <= high <= 1, got low {low} and high {high}"
        )
    bounds, ones = [], np.ones(n_arms)
    if high < 1:
        bounds.append(Limit(f"at most {high:.1%} to {name}", ones, 0.0, within - high))
    if low > 0:
        bounds.append(Limit(f"at least {low:.1%} to {name}", ones, 0.0, low - within))
    return bounds


def with_more(limits: Limits, further_limits: Sequence[Limit]) -> Limits:
    """The limits and further ones that hold in every row."""
    if not further_limits:
        return limits
    use = np.vstack([limits.use, *(limit.per_arm for limit in further_limits)])
    most = np.append(limits.most, [limit.most for limit in further_limits])
    of_class = limits.of_class
    if of_class is not None:
        of_class = np.vstack(
            [of_class, np.ones((len(further_limits), of_class.shape[1]))]
        )
    names = tuple(limits.name_of(k) for k in range(len(limits.most)))
    names += tuple(limit.name for limit in further_limits)
    return Limits(use, most, of_class, limits.row_class, names)
