"""What was left to chance when somebody was decided, as the plan of a day tells it.

On a day the plan z of the whole pool is a function of scores, limits and seeded hashes.
A member of the pool who is not held out explores with probability ε, whatever z is, and
then gets an arm (or nothing) with odds q; who does not explore gets z. Whoever has
z ≠ nothing, or explores, is decided and leaves the pool; so is a shadow of the holdout
with z ≠ nothing. All others stay, with probability 1 − ε, which is multiplied up.
"""

import numpy as np

from hustings.experiments.loop.decisions import EXPLORE, HOLDOUT, PLAN, Decisions
from hustings.experiments.plans.designs import arm_codes, design_of, is_decided
from hustings.features.arrays import Ints
from hustings.features.training_set import Arm
from hustings.serving.plan import Plan

_CODES = {"plan": PLAN, "explore": EXPLORE, "holdout": HOLDOUT}


def decisions_of(
    plan: Plan,
    pool: Ints,
    arms: tuple[Arm, ...],
    *,
    day: int,
    holdout: float,
    repeat: Ints,
) -> Decisions:
    """The decided of a day with all their chances.

    Args:
        plan: Of the whole pool, its rows in the order of `pool`.
        pool: Positions in the audience, shape (n_pool,).
        arms: Length A.
        day: From 0.
        holdout: h.
        repeat: Decisions of each before, shape (n_pool,).
    """
    rows = np.flatnonzero(is_decided(plan.assignments))
    mine = plan.assignments.iloc[rows]
    intended = arm_codes(mine["intended_message_id"], mine["intended_channel"], arms)
    # who has no plan is decided only by exploring: h is no part of it
    return Decisions(
        voter=pool[rows],
        day=np.full(len(rows), day),
        role=np.array([_CODES[r] for r in mine["role"]], dtype=np.int64),
        arm=arm_codes(mine["message_id"], mine["channel"], arms),
        intended=intended - 1,
        design=design_of(plan, arms, holdout=holdout),
        propensity=mine["propensity"].to_numpy(dtype=np.float64),
        repeat=repeat[rows],
    )
