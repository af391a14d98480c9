"""A plan as an experiment: designs, blocks and deliveries of the voters it decided.

On a day the plan of the whole pool is a function of values, limits and seeded hashes. A
member of the pool who is not held out explores with probability ε, whatever the plan
is, and then gets an arm (or nothing) with known odds; the others get what the plan
says. Voters with a plan, and voters who explore, are decided: sent, or kept back. All
decided voters of equal probabilities are one block of the plan's designs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.spilled import let_go, row_blocks
from hustings.features.tables import (
    ASSIGNMENTS,
    CONTROL,
    DELIVERIES,
    DESIGNS,
    NO_CHANNEL,
    UNDECIDED,
    check,
)
from hustings.features.training_set import Arm
from hustings.serving.plan import Plan
from hustings.training.measured_lift.adaptive import decided_propensities

DIGITS = 12
"""Probabilities that agree to so many digits are of one block."""


class Belief(NamedTuple):
    """Experiment of every arm, and the model that predicts its outcome.

    Attributes:
        experiment_of_arm: Experiment whose outcome the lift of every arm is in.
        model_version: As name/version, or `NO_MODEL`.
    """

    experiment_of_arm: tuple[str, ...]
    model_version: str


class Designed(NamedTuple):
    """Assignments and designs of a plan.

    Attributes:
        assignments: ASSIGNMENTS.
        designs: DESIGNS of the plan's blocks.
    """

    assignments: pd.DataFrame
    designs: pd.DataFrame


def is_decided(assignments: pd.DataFrame) -> Bools:
    """Whether a voter was decided: sent, drawn to explore, or kept back, shape (n,)."""
    intended = (assignments["intended_message_id"] != CONTROL).to_numpy()
    explored = (assignments["role"] == "explore").to_numpy()
    return np.asarray(intended | explored, dtype=bool)


def arm_codes(message: pd.Series, channel: pd.Series, arms: Sequence[Arm]) -> Ints:
    """0 for nothing, k for the k-th arm, shape (n,)."""
    position = {tuple(arm): k for k, arm in enumerate(arms, start=1)}
    of_message, messages = pd.factorize(message)
    of_channel, channels = pd.factorize(channel)
    table = np.array(
        [[position.get((m, c), 0) for c in channels] for m in messages], dtype=np.int64
    ).reshape(len(messages), len(channels))
    codes: Ints = table[of_message, of_channel]
    return codes


def design_of(plan: Plan, rows: Ints, arms: Sequence[Arm], *, holdout: float) -> Floats:
    """Probability of nothing and of every arm, given that a voter is decided.

    Args:
        plan: Of the whole pool.
        rows: Rows of decided voters among its assignments.
        arms: Length A.
        holdout: Share of voters who are held out.

    Returns:
        Shape (n_rows, 1 + A).
    """
    decided = plan.assignments.iloc[rows]
    intended = arm_codes(
        decided["intended_message_id"], decided["intended_channel"], arms
    )
    odds = plan.odds[rows].astype(np.float64)
    design, _ = decided_propensities(
        intended,
        np.column_stack([1.0 - odds.sum(axis=1), odds]),
        holdout=holdout,
        survival=decided["pool_probability"].to_numpy(dtype=np.float64),
        epsilon=np.full(len(rows), plan.explored),
    )
    return design


def designed(
    plan: Plan,
    arms: Sequence[Arm],
    belief: Belief,
    *,
    holdout: float,
    decided_only: bool = False,
) -> Designed:
    """ASSIGNMENTS of a plan with their blocks, and DESIGNS of these blocks.

    Args:
        plan: Of the whole pool.
        arms: Length A.
        belief: Experiments of the arms, and the model.
        holdout: Share of voters who are held out.
        decided_only: Whether voters who were not decided are left out.

    Worked example: four voters, one arm, holdout 0.2, ε 0.1, odds 1/2. Those whom the
    plan sends the arm are one block: nothing .2 + .8 × .1 × .5 = .24, the arm .76.
    Those with no plan are decided only if they explore: nothing .5, the arm .5.
    """
    rows = np.flatnonzero(is_decided(plan.assignments))
    probability, code = _distinct_designs(plan, rows, arms, holdout=holdout)
    experiment = _experiment_of_rows(plan.assignments, arms, belief)
    block = np.full(len(plan.assignments), UNDECIDED, dtype=object)
    several = len(set(belief.experiment_of_arm)) > 1
    suffix = experiment[rows] if several else np.full(len(rows), "", dtype=object)
    block[rows] = [
        f"b{k}{'-' + name if name else ''}"
        for k, name in zip(code, suffix, strict=True)
    ]
    assignments = plan.assignments.assign(
        experiment_id=experiment, block=block, model_version=belief.model_version
    )
    if decided_only:
        assignments = assignments.iloc[rows].reset_index(drop=True)
    blocks = pd.DataFrame(
        {"experiment_id": experiment[rows], "block": block[rows], "code": code}
    ).drop_duplicates(["experiment_id", "block"])
    return Designed(
        check(ASSIGNMENTS, assignments[list(ASSIGNMENTS.columns)]),
        _designs(blocks, probability, arms),
    )


def _distinct_designs(
    plan: Plan, rows: Ints, arms: Sequence[Arm], *, holdout: float
) -> tuple[Floats, Ints]:
    """The different designs of decided voters in order, and the number of each one's.

    Returns:
        Shapes (n_designs, 1 + A) and (n_rows,).
    """
    parts, codes, n_so_far = [np.empty((0, 1 + len(arms)))], [np.empty(0, int)], 0
    for block in row_blocks(len(rows)):
        design = design_of(plan, rows[block], arms, holdout=holdout).round(DIGITS)
        # by a hash: few designs differ, and to sort all rows takes long
        keys = pd.util.hash_pandas_object(pd.DataFrame(design), index=False)
        code, _ = pd.factorize(keys)
        parts.append(design[np.unique(code, return_index=True)[1]])
        codes.append(n_so_far + code)
        n_so_far += len(parts[-1])
    let_go(plan.odds)
    distinct, number = np.unique(np.vstack(parts), axis=0, return_inverse=True)
    return distinct, number.reshape(-1)[np.concatenate(codes)]


def _experiment_of_rows(
    assignments: pd.DataFrame, arms: Sequence[Arm], belief: Belief
) -> Objects:
    """Experiment of the intended arm, else of the sent one, else the first."""
    names = np.array([belief.experiment_of_arm[0], *belief.experiment_of_arm], object)
    intended = arm_codes(
        assignments["intended_message_id"], assignments["intended_channel"], arms
    )
    sent = arm_codes(assignments["message_id"], assignments["channel"], arms)
    experiment_ids = names[np.where(intended > 0, intended, sent)]
    return np.asarray(experiment_ids, dtype=object)


def _designs(
    blocks: pd.DataFrame, probability: Floats, arms: Sequence[Arm]
) -> pd.DataFrame:
    options = (Arm(CONTROL, NO_CHANNEL), *arms)
    keys = zip(
        blocks["experiment_id"], blocks["block"], probability[blocks["code"]],
        strict=True,
    )  # fmt: skip
    rows = [
        (experiment, block, *options[a], float(p))
        for experiment, block, probabilities in keys
        for a, p in enumerate(probabilities)
        if p > 0 or a == 0
    ]
    names = ["experiment_id", "block", "message_id", "channel", "probability"]
    return check(DESIGNS, pd.DataFrame(rows, columns=names))


def block_name(plan_id: str, block: str) -> str:
    """Name of a plan's block among those of all plans and tests of a campaign."""
    return f"{plan_id} {block}"


def as_deliveries(
    plan_id: str, assignments: pd.DataFrame, designs: pd.DataFrame, sent_on: pd.Series
) -> pd.DataFrame:
    """DELIVERIES of the voters whom a plan decided.

    Args:
        plan_id: The plan.
        assignments: ASSIGNMENTS of the plan.
        designs: DESIGNS of its blocks.
        sent_on: Day of each assignment, with its index.
    """
    decided = assignments[assignments["block"] != UNDECIDED]
    arm = ["experiment_id", "block", "message_id", "channel"]
    design = decided[arm].merge(designs, on=arm, how="left", validate="many_to_one")
    return check(
        DELIVERIES,
        pd.DataFrame(
            {
                "voter_id": decided["voter_id"].to_numpy(),
                "experiment_id": decided["experiment_id"].to_numpy(),
                "plan_id": plan_id,
                "block": [block_name(plan_id, b) for b in decided["block"]],
                "message_id": decided["message_id"].to_numpy(),
                "channel": decided["channel"].to_numpy(),
                "sent_on": sent_on.loc[decided.index].to_numpy(),
                "propensity": design["probability"].to_numpy(),
                "randomised_by": "person",
            }
        ),
    )
