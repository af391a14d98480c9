"""Money: planned, committed, spent, failed and invoiced amounts.

Of plans, as the ledger says; of what was offered and sent online, as its store says.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from hustings.experiments.plans.online import OPEN, RESERVED, Online
from hustings.experiments.plans.online import SENT as SENT_ONLINE
from hustings.experiments.plans.record import (
    CANCELLED,
    LOCKED,
    RETURNED,
    SENT,
    PlanRecord,
)
from hustings.features.tables import in_twenties

Json = dict[str, Any]
KEYS = ["channel", "send_on"]
SET_UP = "set-up"
"""Stands for a channel where fees are paid that belong to no contact and no day."""
_SUMS = ("planned", "committed", "withheld", "spent", "failed")
_NOTHING: Json = {f"n_{s}": 0 for s in _SUMS} | {f"usd_{s}": 0.0 for s in _SUMS}


def amounts(contacts: pd.DataFrame) -> list[Json]:
    """Contacts and their cost by channel and day.

    Args:
        contacts: Columns channel, send_on and cost_usd, as PLAN has them.
    """
    days = contacts.assign(send_on=contacts["send_on"].dt.strftime("%Y-%m-%d"))
    return [
        {"channel": str(channel), "send_on": str(day), "n": len(rows),
         "usd": math.fsum(rows["cost_usd"])}
        for (channel, day), rows in days.groupby(KEYS, observed=True)
    ]  # fmt: skip


def with_fees(amount_rows: list[Json], setup_usd: float) -> list[Json]:
    """Amounts of contacts and, in a row of their own, set-up fees."""
    fee = {"channel": SET_UP, "send_on": "", "n": 0, "usd": float(setup_usd)}
    return [*amount_rows, fee] if setup_usd else amount_rows


def fees_of(record: PlanRecord) -> list[Json]:
    """Set-up fees of a plan: paid once something of it is sent."""
    return [row for row in record.draft_body["amounts"] if row["channel"] == SET_UP]


def total_usd(amount_rows: Iterable[Json]) -> float:
    """Sum of amounts."""
    return math.fsum(row["usd"] for row in amount_rows)


def committed_usd(record: PlanRecord) -> float:
    """Money that a plan has taken.

    Once locked, all but what was withheld; once cancelled, what was sent.
    """
    sent = record.of(SENT)
    if record.binds:
        withheld = math.fsum(total_usd(step.body["withheld"]) for step in sent)
        return total_usd(record.draft_body["amounts"]) - withheld
    fees = total_usd(fees_of(record)) if sent else 0.0
    return fees + math.fsum(total_usd(step.body["amounts"]) for step in sent)


def spend(
    records: Mapping[str, PlanRecord], online: Online | None = None
) -> pd.DataFrame:
    """Money by plan, channel and day.

    Args:
        records: Plans.
        online: What was offered and sent online; None to leave it out.

    Returns:
        Columns plan_id, state, channel, send_on (empty where an invoice is for several
        days), `n_` and `usd_` of planned, committed, withheld, spent and failed,
        `usd_actual` (as invoiced; NaN before any invoice of the row) and
        `usd_difference` (actual less spent). Every plan's contacts are in exactly one
        row.
    """
    rows = [row for record in records.values() for row in _rows_of(record)]
    if online is not None:
        rows += _rows_online(online)
    columns = [
        "plan_id", "state", *KEYS, *(f"{u}_{s}" for s in _SUMS for u in ("n", "usd")),
        "usd_actual", "usd_difference",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def shown_spend(rows: pd.DataFrame) -> pd.DataFrame:
    """Money as a person sees it.

    What was planned, committed, withheld and handed over is the campaign's own doing,
    and exact: what was withheld is what was planned less what is committed. Contacts
    that failed are about persons: rounded down to twenties, and their money with them.

    Args:
        rows: From `spend`.
    """
    n = rows["n_failed"].map(in_twenties)
    share = n / rows["n_failed"].clip(lower=1)
    return rows.assign(n_failed=n, usd_failed=(rows["usd_failed"] * share).round(2))


def _rows_online(online: Online) -> list[Json]:
    """Contacts of every online day: spent. Open offers: committed until they end."""
    reserved = online.open.assign(plan_id=RESERVED)
    parts = (
        (online.paid, SENT_ONLINE, ("planned", "committed", "spent")),
        (reserved, OPEN, ("planned", "committed")),
    )
    return [
        {
            "plan_id": str(plan_id), "state": state,
            **{key: amount[key] for key in KEYS}, **_NOTHING,
            **{f"{unit}_{s}": amount[unit] for s in sums for unit in ("n", "usd")},
            "usd_actual": math.nan, "usd_difference": math.nan,
        }
        for contacts, state, sums in parts
        for plan_id, rows in contacts.groupby("plan_id")
        for amount in amounts(rows.rename(columns={"decided_on": "send_on"}))
    ]  # fmt: skip


def _rows_of(record: PlanRecord) -> list[Json]:
    rows: dict[tuple[str, str], Json] = {}

    def row_of(amount: Json) -> Json:
        where = (amount["channel"], amount["send_on"])
        return rows.setdefault(where, {**_NOTHING, "usd_actual": math.nan})

    def added(name: str, amounts_of_step: Iterable[Json]) -> None:
        for one in amounts_of_step:
            row = row_of(one)
            row[f"n_{name}"] += one["n"]
            row[f"usd_{name}"] += one["usd"]

    added("planned", record.draft_body["amounts"])
    if record.of(SENT):
        added("spent", fees_of(record))
    for step in record.of(SENT):
        added("spent", step.body["amounts"])
        added("withheld", step.body["withheld"])
    for step in record.of(RETURNED):
        added("failed", step.body["amounts"])
        for invoice in step.body["invoices"]:
            row = row_of(invoice)
            before = 0.0 if math.isnan(row["usd_actual"]) else row["usd_actual"]
            row["usd_actual"] = before + invoice["usd"]
    added("committed", _committed(record, rows))
    return [
        {"plan_id": record.plan_id, "state": record.state, "channel": channel,
         "send_on": day, **row, "usd_difference": row["usd_actual"] - row["usd_spent"]}
        for (channel, day), row in sorted(rows.items())
    ]  # fmt: skip


def _committed(record: PlanRecord, rows: Mapping[tuple[str, str], Json]) -> list[Json]:
    """Committed money by channel and day; see `committed_usd`."""
    if not record.of(LOCKED):
        return []

    def taken(row: Json, unit: str) -> Any:
        if record.state == CANCELLED:
            return row[f"{unit}_spent"]
        return row[f"{unit}_planned"] - row[f"{unit}_withheld"]

    return [
        {"channel": c, "send_on": d, "n": taken(row, "n"), "usd": taken(row, "usd")}
        for (c, d), row in rows.items()
    ]
