"""What `/recommend` decided and somebody carried out, as assignments of the campaign.

A decision counts once `POST /sent` has reported it. What a plan had decided stands in
the plan's own assignments and is left out here.
"""

from pathlib import Path

import pandas as pd

from hustings.features.tables import ASSIGNMENTS, UNDECIDED, check
from hustings.serving.decided import SERVING
from hustings.serving.decisions import ONLINE, OnlineDecisions
from hustings.serving.reactions.http import Intake

PREFIX = "online-"
"""Begins the plan_id of what was sent online on a day."""


def online_decisions(home: Path) -> pd.DataFrame:
    """Voters who were sent what `/recommend` offered them at the plan's prices.

    Args:
        home: The campaign's folder.

    Returns:
        ASSIGNMENTS with plan_id (one for each day of sending), decided_on, sent_at and
        cost_usd. No chance was drawn: propensities are 1, and no block of a design
        holds them. Empty where nothing was served.
    """
    sent = _sent(home)
    day = pd.to_datetime(sent["sent_at"], unit="us").dt.as_unit("us")
    assigned = sent.assign(
        block=UNDECIDED,
        pool_probability=1.0,
        intended_message_id=sent["message_id"],
        intended_channel=sent["channel"],
        plan_id=PREFIX + day.dt.strftime("%Y-%m-%d"),
        decided_on=day.dt.normalize(),
        sent_at=day,
    )
    columns = [*ASSIGNMENTS.columns, "plan_id", "decided_on", "sent_at", "cost_usd"]
    # the same voter may be sent something again on another day, never on the same
    for _, rows in assigned.groupby("plan_id"):
        check(ASSIGNMENTS, rows[list(ASSIGNMENTS.columns)])
    return assigned[columns].reset_index(drop=True)


def _sent(home: Path) -> pd.DataFrame:
    bundle = home / SERVING
    if not (bundle / "plan.json").exists():
        nothing: pd.DataFrame = OnlineDecisions.nothing()
        return nothing
    events = Intake.of_bundle(bundle).events
    try:
        sent = OnlineDecisions.beside(events).sent()
    finally:
        events.close()
    return sent[sent["plan_id"] == ONLINE]
