"""PLAN and ASSIGNMENTS from the assignment of rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.spilled import let_go, row_blocks
from hustings.features.tables import CONTROL, NO_CHANNEL
from hustings.features.training_set import Arm
from hustings.serving.plan.randomise import RandomDraws, SequentialAssignment
from hustings.training.estimators.spend_path import NOTHING


def roles_of(
    assignment: SequentialAssignment, draws: RandomDraws
) -> npt.NDArray[np.str_]:
    """Role of every row, shape (n_rows,)."""
    explores = draws.explores & ~draws.held
    role = np.where(draws.held, "holdout", np.where(explores, "explore", "plan"))
    return role[: len(assignment.option)]


def frames(
    voter_id: Objects,
    row: Ints,
    predicted: Floats,
    allowed: Bools,
    arms: Sequence[Arm],
    cost: Floats,
    start_on: pd.Timestamp,
    role: npt.NDArray[np.str_],
    assignment: SequentialAssignment,
    probabilities: tuple[float, float],
    drawn: Floats,
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
        assignment: Assignment of the rows.
        probabilities: Probability of the holdout, and of exploring.
        drawn: Probability of every arm for a voter who explores, shape (n_voters, A).
        pool_probability: See `serving.plan.contacts.plan_contacts`.
    """
    option = _of_voters(assignment.option, row, allowed)
    intended = _of_voters(assignment.intended, row, allowed)
    messages = np.array([*(arm.message_id for arm in arms), CONTROL], dtype=object)
    channels = np.array([*(arm.channel for arm in arms), NO_CHANNEL], dtype=object)
    holdout, share = probabilities
    odds = _drawn_odds(drawn, option)
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
            "propensity": _propensity(of_role, option, odds, holdout, free, share),
            "intended_message_id": messages[intended],
            "intended_channel": channels[intended],
            "arm_propensity": _of_arm(option, intended, odds, free, share),
            "pool_probability": pool,
            "predicted_lift": np.where(stated == NOTHING, 0.0, believed),
        }
    )
    sent = np.flatnonzero(option != NOTHING)
    days = pd.to_timedelta(assignment.day[row[sent]], unit="D")
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
    voter_option = option[row]
    may = allowed[np.arange(len(voter_option)), np.maximum(voter_option, 0)]
    return np.where((voter_option != NOTHING) & may, voter_option, NOTHING)


class _DrawnOdds(NamedTuple):
    """Odds of voters who explore, each of shape (n_voters,).

    Attributes:
        sent: Of the arm that is sent; where nothing is, of the first arm.
        total: Of any arm.
    """

    sent: Floats
    total: Floats


def _drawn_odds(drawn: Floats, option: Ints) -> _DrawnOdds:
    sent, total = np.zeros(len(option)), np.zeros(len(option))
    for voters in row_blocks(len(option)):
        odds, at = drawn[voters].astype(np.float64), np.maximum(option[voters], 0)
        sent[voters] = odds[np.arange(len(odds)), at]
        total[voters] = odds.sum(axis=1)
    let_go(drawn)
    return _DrawnOdds(sent, total)


def _propensity(
    role: npt.NDArray[np.str_],
    option: Ints,
    drawn: _DrawnOdds,
    holdout: float,
    free: Floats,
    share: float,
) -> Floats:
    """Probability of a voter's role and contact, shape (n_voters,).

    Held out: h. Planned: (1 - h) P(in the pool) (1 - share), whatever the plan is.
    Exploring: (1 - h) P(in the pool) share q, with q the odds of what was drawn.
    """
    odds = np.where(option == NOTHING, 1.0 - drawn.total, drawn.sent)
    contact_propensity = np.where(
        role == "explore", free * share * odds, free * (1.0 - share)
    )
    return np.where(role == "holdout", holdout, contact_propensity)


def _of_arm(
    option: Ints, intended: Ints, drawn: _DrawnOdds, free: Floats, share: float
) -> Floats:
    """Probability of a voter's contact in any role, shape (n_voters,)."""
    sent = free * ((1.0 - share) * (option == intended) + share * drawn.sent)
    contacted = (1.0 - share) * (intended != NOTHING) + share * drawn.total
    arm_propensity: Floats = np.where(option == NOTHING, 1.0 - free * contacted, sent)
    return arm_propensity
