"""PLAN and ASSIGNMENTS from what was settled for rows."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.tables import CONTROL, NO_CHANNEL
from hustings.features.training_set import Arm
from hustings.serving.plan.randomise import Lots, Walked
from hustings.training.estimators.spend_path import NOTHING


def roles_of(done: Walked, lots: Lots) -> npt.NDArray[np.str_]:
    """Role of every row, shape (n_rows,)."""
    explores = lots.explores & ~lots.held
    named = np.where(lots.held, "holdout", np.where(explores, "explore", "plan"))
    return named[: len(done.option)]


def frames(
    voter_id: Objects,
    row: Ints,
    predicted: Floats,
    allowed: Bools,
    arms: Sequence[Arm],
    cost: Floats,
    start_on: pd.Timestamp,
    role: npt.NDArray[np.str_],
    done: Walked,
    chances: tuple[float, float, Floats],
    pool_probability: Floats | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """PLAN and ASSIGNMENTS of all voters.

    Args:
        voter_id: Shape (n_voters,).
        row: Row of every voter, shape (n_voters,).
        predicted: Predicted lift of every arm, outcome units, shape (n_voters, A).
        allowed: Shape (n_voters, A).
        arms: Length A.
        cost: Shape (A,).
        start_on: Day 0.
        role: Of every row.
        done: What was settled for rows.
        chances: Probability of the holdout, of exploring, and of every arm where a
            row explores, shape (n_rows, A).
        pool_probability: See `serving.plan.contacts.plan_contacts`.
    """
    option = _of_voters(done.option, row, allowed)
    intended = _of_voters(done.intended, row, allowed)
    messages = np.array([*(arm.message_id for arm in arms), CONTROL], dtype=object)
    channels = np.array([*(arm.channel for arm in arms), NO_CHANNEL], dtype=object)
    holdout, share, odds = chances
    drawn = np.where(allowed, np.where(done.open, odds, 0.0)[row], 0.0)
    pool = np.ones(len(row)) if pool_probability is None else pool_probability
    free = (1.0 - holdout) * pool
    of_role = role[row]
    voters = np.arange(len(row))
    # of a voter without a plan, who was drawn to explore, that of what was drawn
    stated = np.where(intended == NOTHING, option, intended)
    believed = predicted[voters, np.maximum(stated, 0)]
    assignments = pd.DataFrame(
        {
            "voter_id": voter_id,
            "role": of_role.astype(object),
            "message_id": messages[option],
            "channel": channels[option],
            "propensity": _propensity(of_role, option, drawn, holdout, free, share),
            "intended_message_id": messages[intended],
            "intended_channel": channels[intended],
            "arm_propensity": _of_arm(option, intended, drawn, free, share),
            "pool_probability": pool,
            "predicted_lift": np.where(stated == NOTHING, 0.0, believed),
        }
    )
    sent = np.flatnonzero(option != NOTHING)
    days = pd.to_timedelta(done.day[row[sent]], unit="D")
    contacts = assignments.loc[
        sent, ["voter_id", "message_id", "channel", "propensity", "role"]
    ].assign(
        send_on=start_on + days,
        cost_usd=cost[option[sent]],
        lift=predicted[sent, option[sent]],
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


def _propensity(
    role: npt.NDArray[np.str_],
    option: Ints,
    drawn: Floats,
    holdout: float,
    free: Floats,
    share: float,
) -> Floats:
    """Probability of a voter's role and of what it brought, shape (n_voters,).

    Held out: h. Planned: (1 - h) P(in the pool) (1 - share), whatever the plan is.
    Exploring: (1 - h) P(in the pool) share q, with q the odds of what was drawn.
    """
    mine = drawn[np.arange(len(option)), np.maximum(option, 0)]
    odds = np.where(option == NOTHING, 1.0 - drawn.sum(axis=1), mine)
    found = np.where(role == "explore", free * share * odds, free * (1.0 - share))
    return np.where(role == "holdout", holdout, found)


def _of_arm(
    option: Ints, intended: Ints, drawn: Floats, free: Floats, share: float
) -> Floats:
    """Probability of what a voter was sent, whatever the role, shape (n_voters,)."""
    rows = np.arange(len(option))
    mine = drawn[rows, np.maximum(option, 0)]
    sent = free * ((1.0 - share) * (option == intended) + share * mine)
    contacted = (1.0 - share) * (intended != NOTHING) + share * drawn.sum(axis=1)
    found: Floats = np.where(option == NOTHING, 1.0 - free * contacted, sent)
    return found
