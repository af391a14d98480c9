"""What a plan's steps may not be taken back for: something has left, or came back."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hustings.experiments.handover.lists import EXPORTS
from hustings.experiments.plans import LOCKED, RETURNED, PlanRecord, folder_of
from hustings.experiments.plans.checks import sent_ids
from hustings.experiments.plans.online import online_so_far
from hustings.experiments.plans.record import Step
from hustings.experiments.plans.recorded_files import lists_outside
from hustings.experiments.record import present_id_of, received
from hustings.features.persons.identity import with_present_ids
from hustings.serving.export.folder import exports_of

_CAME_BACK = ("returned", "responses")
"""Tables of a file of results that speak of contacts."""


def objection(
    home: Path, record: PlanRecord, steps: Sequence[Step], at: pd.Timestamp
) -> str:
    """Why steps of a plan may not be taken back; empty where they may.

    Args:
        home: The campaign's folder.
        record: The plan.
        steps: Its lock, or batches that are marked as sent.
        at: Now.
    """
    if any(step.to == LOCKED for step in steps):
        return _has_left(home, record, at)
    return _came_back(home, record, steps)


def _has_left(home: Path, record: PlanRecord, at: pd.Timestamp) -> str:
    """Why a lock may not be taken back: somebody may act on the plan."""
    # commands know the time to the second; what was offered in this one counts
    plan_id = record.plan_id
    online = online_so_far(home, at + pd.Timedelta(seconds=1))
    lists = exports_of(home / EXPORTS / plan_id)
    if lists:
        return (
            f"its lists have left ({lists[0].relative_to(home)}); `hustings plans "
            "cancel` ends what was not sent"
        )
    outside = lists_outside(home, plan_id)
    if outside:
        return (
            f"its contacts have left the campaign's folder ({', '.join(outside[:3])}); "
            "`hustings plans cancel` ends what was not sent"
        )
    n_sent = int((online.of_plans["plan_id"] == plan_id).sum())
    if n_sent:
        return f"{n_sent:,} of its contacts were carried out online"
    n_open = int((online.open_of_plans["plan_id"] == plan_id).sum())
    if n_open:
        return (
            f"{n_open:,} of its contacts are on offer online; within the hour they "
            "are sent or expired"
        )
    return ""


def _came_back(home: Path, record: PlanRecord, steps: Sequence[Step]) -> str:
    """Why what is marked as sent was sent: something came back for it."""
    booked = [s for s in record.of(RETURNED) if s.seq > min(one.seq for one in steps)]
    if booked:
        return f"failures or invoices were booked since (entry {booked[0].seq:,})"
    former = present_id_of(home)
    voters = with_present_ids(sent_ids(folder_of(home, record.plan_id), steps), former)
    for file in received(home):
        if file.plan_id != record.plan_id:
            continue
        for name in _CAME_BACK:
            path = file.folder / f"{name}.parquet"
            if not path.is_file():
                continue
            ids = pd.read_parquet(path, columns=["voter_id"])["voter_id"]
            n = int(with_present_ids(ids, former).isin(voters).sum())
            if n:
                return (
                    f"results of {n:,} of its contacts came back on "
                    f"{file.received_at:%Y-%m-%d} ({file.folder.relative_to(home)})"
                )
    return ""
