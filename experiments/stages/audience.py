"""Permissions and spend of an audience, shared by judging and planning."""

import pandas as pd

from hustings.experiments.plans.signing import signed_texts
from hustings.experiments.record import closed_channels
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.reactions import permissions_now, voted_so_far
from hustings.features.training_set import Arm
from hustings.serving.eligible import Eligibility, People, eligibility


def eligible_voters(
    run: Run,
    voter_id: pd.Series,
    arms: tuple[Arm, ...],
    lowers: frozenset[str],
    *,
    at: pd.Timestamp,
) -> Eligibility:
    """Permission of voters and arms under the campaign's rules at a moment.

    What is paused is barred from plans; it is judged like any other message.
    """
    return eligibility(
        voter_id,
        arms,
        run.table("messages"),
        permissions_now(run, run.optional_table("permissions"), at),
        rule_set=run.campaign.campaign.rule_set,
        as_of=at,
        lowers_turnout=lowers,
        people=people_of(run),
        signed=signed_texts(run.home),
    )


def people_of(run: Run) -> People:
    """Facts of voters besides their permissions."""
    voters = run.table("voters").set_index("voter_id")
    return People(
        age=voters.get("age"),
        do_not_contact=_do_not_contact(run),
        addresses=run.optional_table("addresses"),
        voted=voted_so_far(run),
    )


def _do_not_contact(run: Run) -> pd.DataFrame | None:
    """The campaign's list, and all who asked a channel not to be contacted since."""
    listed = [run.optional_table("do_not_contact"), closed_channels(run.home)]
    given = [frame for frame in listed if frame is not None and len(frame)]
    return pd.concat(given, ignore_index=True) if given else None


def lowers_turnout(run: Run) -> frozenset[str]:
    """Messages whose measured turnout effect lies below zero, from `train`.

    Before anything was trained no effect is measured, and no message is known to lower
    turnout.
    """
    if not run.has("turnout.json"):
        return frozenset()
    return frozenset(run.read_json("turnout")["lowers"])


def spend_per_voter(run: Run, n_audience: int) -> float:
    """Declared spend, or budget / audience, the holdout included."""
    plan = run.campaign.plan
    if plan.spend_per_voter_usd is not None:
        return plan.spend_per_voter_usd
    assert plan.budget_usd is not None
    return plan.budget_usd / n_audience
