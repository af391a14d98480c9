"""The store of reactions for the stages: withdrawals, intake and imported counts."""

import os
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from hustings.experiments.declaration import Campaign
from hustings.experiments.stages.context import Json, Run, latest
from hustings.features.insights import Insights
from hustings.features.tables import PERMISSIONS, check
from hustings.serving.reactions.http import STORE_VARIABLE, Intake, ReactionSettings
from hustings.serving.reactions.payload import MAX_EVENTS, link_key, set_aside_recounted
from hustings.serving.reactions.store import FILE, Events, Receipt

_KEY = ["voter_id", "channel"]


def store_of(campaign: Campaign, home: Path) -> str | Path:
    """Where a campaign's reactions are kept: for the stages as for the endpoint.

    Args:
        campaign: The declaration.
        home: `.data/<campaign>`.
    """
    return os.environ.get(STORE_VARIABLE) or campaign.reactions.store or home / FILE


def permissions_now(
    run: Run, given: pd.DataFrame | None, at: pd.Timestamp
) -> pd.DataFrame | None:
    """Permissions after the withdrawals that arrived as a STOP.

    A permission that was granted anew after the STOP holds. A STOP holds for a plan of
    an earlier as-of date, too.

    Args:
        run: Its campaign's store is read.
        given: PERMISSIONS as the campaign brings them, None where it brings none.
        at: The moment that the law asks about.
    """
    store = store_of(run.campaign, run.home)
    if isinstance(store, Path) and not store.exists():
        return given
    events = Events.open(store)
    try:
        stops = events.withdrawals()
    finally:
        events.close()
    return with_withdrawals(given, stops, at)


def remember_former(run: Run, former: Mapping[str, str]) -> None:
    """Store which voter ids were renamed, so that a STOP under either id holds.

    Args:
        run: Its campaign's store is written.
        former: Former voter id → present one.
    """
    if not former:
        return
    events = Events.open(store_of(run.campaign, run.home))
    try:
        events.link(pd.DataFrame(list(former.items()), columns=["person", "voter_id"]))
    finally:
        events.close()


def with_withdrawals(
    given: pd.DataFrame | None, stops: pd.DataFrame, as_of: pd.Timestamp
) -> pd.DataFrame | None:
    """Apply withdrawals to permissions.

    Args:
        given: PERMISSIONS, None for none.
        stops: PERMISSIONS of withdrawals alone.
        as_of: A later withdrawal counts as one of this date.
    """
    if stops.empty:
        return given
    present = stops.iloc[:0] if given is None else given
    merged = stops.drop(columns="granted_at").merge(
        present, on=_KEY, how="left", suffixes=("", "_before")
    )
    # granted anew: the campaign's own row stays
    merged = merged[~(merged["granted_at"] > merged["withdrawn_at"])]
    first = merged[["withdrawn_at", "withdrawn_at_before"]].min(axis=1)
    stopped = merged.assign(
        basis=merged["basis_before"].fillna(merged["basis"]),
        withdrawn_at=first.where(first < as_of, as_of),
    )
    keys = [pd.MultiIndex.from_frame(frame[_KEY]) for frame in (present, stopped)]
    untouched = present[~keys[0].isin(keys[1])]
    rows = pd.concat([untouched, stopped[list(present.columns)]], ignore_index=True)
    return check(PERMISSIONS, rows)


def reactions_config(run: Run) -> Json:
    """Declaration and messages that the endpoint needs to take reactions in."""
    return _intake_declaration(run.campaign, run.table("messages"))


def _intake_declaration(campaign: Campaign, messages: pd.DataFrame) -> Json:
    texts = messages.reindex(columns=["message_id", "issue", "stance", "text"])
    blank = texts.astype(object).where(texts.notna(), None)
    declared = campaign.reactions.model_dump(mode="json")
    return {**declared, "messages": blank.to_dict("records")}


def open_intake(campaign: Campaign, home: Path) -> Intake:
    """Open the intake of a campaign's store, the same that `hustings serve` uses.

    Args:
        campaign: The declaration.
        home: `.data/<campaign>`; the messages are those of its latest run, none
            without one.
    """
    messages = home / (latest(home) or "") / "tables" / "messages.parquet"
    frame = pd.read_parquet(messages) if messages.exists() else pd.DataFrame()
    declared = ReactionSettings.of(_intake_declaration(campaign, frame))
    return Intake(Events.open(store_of(campaign, home)), declared, link_key())


def import_insights(intake: Intake, insights: Insights, *, now: datetime) -> Receipt:
    """Store the counts of a page's export; a repeated export adds nothing.

    An event whose count differs from the stored one is set aside: the store adds up
    and takes nothing back.

    Args:
        intake: The intake of the store.
        insights: The export.
        now: When it is read.
    """
    batches = iter(insights.events())
    receipts = []
    while batch := list(islice(batches, MAX_EVENTS)):
        before = intake.events.counted([event["event_id"] for event in batch])
        other = [event for event in batch if _is_recounted(event, before)]
        same = [event for event in batch if not _is_recounted(event, before)]
        receipts.append(intake.receive(same, received_at=now))
        aside = set_aside_recounted(other, before, received_at=now)
        receipts.append(intake.events.append(aside))
    accepted, duplicate, quarantined = (
        (sum(counts) for counts in zip(*(r[:3] for r in receipts), strict=True))
        if receipts
        else (0, 0, 0)
    )
    faults = tuple(fault for receipt in receipts for fault in receipt.faults)
    return Receipt(accepted, duplicate, quarantined, faults)


def _is_recounted(event: Mapping[str, Any], before: Mapping[str, int]) -> bool:
    count = event["count"]
    # what is no number is the intake's to set aside
    return isinstance(count, int) and before.get(event["event_id"], count) != count
