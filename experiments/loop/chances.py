"""What was left to chance when somebody was decided, as the plan of a day tells it.

On a day the plan z of the whole pool is a function of scores, limits and seeded hashes.
A member of the pool who is not held out explores with probability ε, whatever z is, and
then gets an arm (or nothing) with odds q; who does not explore gets z. Whoever has
z ≠ nothing, or explores, is decided and leaves the pool; so is a shadow of the holdout
with z ≠ nothing. All others stay, with probability 1 − ε, which is multiplied up.
"""

import numpy as np
import pandas as pd

from hustings.experiments.loop.decisions import EXPLORE, HOLDOUT, PLAN, Decisions
from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.tables import CONTROL
from hustings.features.training_set import Arm
from hustings.serving.plan import Plan
from hustings.training.measured_lift.adaptive import decided_propensities

_CODES = {"plan": PLAN, "explore": EXPLORE, "holdout": HOLDOUT}


def decided_rows(assignments: pd.DataFrame) -> Bools:
    """Who of a day's pool was decided: sent or kept back for good, shape (n,)."""
    planned = (assignments["intended_message_id"] != CONTROL).to_numpy()
    explored = (assignments["role"] == "explore").to_numpy()
    found: Bools = planned | explored
    return found


def arm_codes(message: pd.Series, channel: pd.Series, arms: tuple[Arm, ...]) -> Ints:
    """0 for nothing, k for the k-th arm, shape (n,)."""
    position = {tuple(arm): k for k, arm in enumerate(arms, start=1)}
    pairs = zip(message, channel, strict=True)
    return np.array([position.get(pair, 0) for pair in pairs], dtype=np.int64)


def decisions_of(
    plan: Plan,
    pool: Ints,
    arms: tuple[Arm, ...],
    *,
    day: int,
    holdout: float,
    pool_chance: Floats,
    repeat: Ints,
) -> Decisions:
    """The decided of a day with all their chances.

    Args:
        plan: Of the whole pool, its rows in the order of `pool`.
        pool: Positions in the audience, shape (n_pool,).
        arms: Length A.
        day: From 0.
        holdout: h.
        pool_chance: Probability that a voter who is not held out was still in the
            pool, shape (n_pool,).
        repeat: Decisions of each before, shape (n_pool,).
    """
    rows = np.flatnonzero(decided_rows(plan.assignments))
    mine = plan.assignments.iloc[rows]
    intended = arm_codes(mine["intended_message_id"], mine["intended_channel"], arms)
    assert plan.odds is not None
    q = plan.odds[rows]
    design, _ = decided_propensities(
        intended,
        np.column_stack([1.0 - q.sum(axis=1), q]),
        holdout=holdout,
        survival=pool_chance[rows],
        epsilon=np.full(len(rows), plan.explored),
    )
    # who has no plan is decided only by exploring: h is no part of it
    return Decisions(
        voter=pool[rows],
        day=np.full(len(rows), day),
        role=np.array([_CODES[r] for r in mine["role"]], dtype=np.int64),
        arm=arm_codes(mine["message_id"], mine["channel"], arms),
        intended=intended - 1,
        design=design,
        propensity=mine["propensity"].to_numpy(dtype=np.float64),
        repeat=repeat[rows],
    )
