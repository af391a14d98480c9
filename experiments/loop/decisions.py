"""Where the loop stands: who was decided when with which chances, and what came of it.

Everything is rows that are only added to. What a day needs (pool, money left, what may
be learnt from) is derived from them, so that the same rows give the same next day.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.training_set import Arm

PLAN, EXPLORE, HOLDOUT = 0, 1, 2
"""Roles as codes."""
ROLES = ("plan", "explore", "holdout")


@dataclass(frozen=True)
class Audience:
    """Who is campaigned to, and what may be sent to them; axis 0 is the voter.

    Attributes:
        voter_id: Shape (n,).
        household: Code of the household, shape (n,).
        phi: Columns of the learner, shape (n, p).
        segment: Code of the segment, shape (n,).
        held: Held out for the whole campaign, shape (n,).
        allowed: Who may get which arm, shape (n, A).
        arms: Length A.
        cost: USD of every arm, shape (A,).
    """

    voter_id: Objects
    household: Ints
    phi: Floats
    segment: Ints
    held: Bools
    allowed: Bools
    arms: tuple[Arm, ...]
    cost: Floats

    def __len__(self) -> int:
        return len(self.voter_id)


@dataclass(frozen=True)
class Decisions:
    """Who was decided, in the order in which it happened; axis 0 is the decision.

    Attributes:
        voter: Position in the audience, shape (k,).
        day: Day of the campaign, from 0.
        role: Code of the role, see `ROLES`.
        arm: What was assigned: 0 for nothing, a for the a-th arm.
        intended: What the plan alone would have sent, -1 for nothing.
        design: Probability of nothing and every arm given that the voter was decided,
            shape (k, 1 + A).
        propensity: Total probability of what happened.
        repeat: How many decisions of the same voter came before.
    """

    voter: Ints
    day: Ints
    role: Ints
    arm: Ints
    intended: Ints
    design: Floats
    propensity: Floats
    repeat: Ints

    @classmethod
    def none(cls, n_arms: int) -> Self:
        """Of nobody."""
        whole = np.zeros(0, dtype=np.int64)
        return cls(
            whole, whole, whole, whole, whole, np.zeros((0, 1 + n_arms)), np.zeros(0),
            whole,
        )  # fmt: skip

    def plus(self, more: Self) -> Self:
        """With those of another day."""
        mine, theirs = vars(self), vars(more)
        return replace(self, **{k: np.concatenate([mine[k], theirs[k]]) for k in mine})

    def take(self, rows: Bools | Ints) -> Self:
        """Some of them."""
        return replace(self, **{k: v[rows] for k, v in vars(self).items()})

    def __len__(self) -> int:
        return len(self.voter)


@dataclass(frozen=True)
class State:
    """The loop before a day.

    Attributes:
        decisions: So far.
        outcome: Of every decision, NaN while (or for ever) unknown, shape (k,).
        pool_probability: Probability that a voter who is not held out is still in
            the pool, shape (n,).
    """

    decisions: Decisions
    outcome: Floats
    pool_probability: Floats

    @classmethod
    def new(cls, audience: Audience) -> Self:
        """Nothing has happened yet."""
        decisions = Decisions.none(len(audience.arms))
        return cls(decisions, np.zeros(0), np.ones(len(audience)))

    def spent_usd(self, cost: Floats) -> float:
        """What the contacts so far cost."""
        sent = self.decisions.arm[self.decisions.arm > 0]
        return float(cost[sent - 1].sum())

    def in_pool(self, day: int, *, window_days: int | None, contacts: int) -> Bools:
        """Who may be decided on a day.

        Args:
            day: From 0.
            window_days: Days after a decision before the next; None: never again.
            contacts: Decisions of a voter at most.

        Returns:
            Shape (n,).
        """
        n, made = len(self.pool_probability), self.decisions
        count = np.bincount(made.voter, minlength=n)
        last = np.full(n, np.iinfo(np.int64).min // 2)
        np.maximum.at(last, made.voter, made.day)
        free = count == 0
        if window_days is not None:
            free |= (count < contacts) & (day - last >= window_days)
        return np.asarray(free, dtype=bool)

    def decided(self, more: Decisions, pool_probability: Floats) -> Self:
        """After a day's decisions, outcomes not in yet."""
        outcome = np.concatenate([self.outcome, np.full(len(more), np.nan)])
        return replace(
            self, decisions=self.decisions.plus(more), outcome=outcome,
            pool_probability=pool_probability,
        )  # fmt: skip

    def told(self, decision: Ints, outcome: Floats) -> Self:
        """With outcomes of some decisions.

        Raises:
            ValueError: If an outcome is in already: it would count twice.
        """
        if np.isfinite(self.outcome[decision]).any():
            again = int(decision[np.isfinite(self.outcome[decision])][0])
            raise ValueError(
                f"expected outcomes of decisions without one, got a second one of "
                f"decision {again}; drop the copy from the responses"
            )
        found = self.outcome.copy()
        found[decision] = outcome
        return replace(self, outcome=found)

    def teaching(self, repeats: str) -> Bools:
        """Which decisions may be learnt from by the declared rule, shape (k,).

        `first`: a voter's first decision, all that follows included in its effect;
        `each`: every decision, given what came before it.
        """
        known = np.isfinite(self.outcome)
        return known if repeats == "each" else known & (self.decisions.repeat == 0)

    def shadows(self) -> Bools:
        """Decisions of the holdout, shape (k,)."""
        found: Bools = self.decisions.role == HOLDOUT
        return found
