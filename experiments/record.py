"""The campaign's record: what was decided and what came back, as of a moment.

What happened is a fact of the campaign and lies in its folder: plans with their ledger,
answers, contact results. A run holds only what was computed and may be deleted. Every
reader (train, lift, day, plan, export, week) asks here, and says as of when.
"""

from pathlib import Path

import pandas as pd

from hustings.experiments.plans import BINDING, folder_of, plans
from hustings.experiments.plans.designs import as_deliveries, block_name
from hustings.experiments.plans.folder import read_table
from hustings.experiments.plans.queries import decided_so_far
from hustings.features.tables import (
    DELIVERIES,
    DESIGNS,
    DO_NOT_CONTACT,
    RESPONSES,
    check,
)

RESULTS = "results"
"""Folder of what channels reported and what was answered, by plan and file."""


def binding_plans(home: Path) -> list[str]:
    """Plans whose contacts happen: locked, sent or returned, in the order of drafts."""
    return [name for name, plan in plans(home).items() if plan.state in BINDING]


def designs_so_far(home: Path) -> pd.DataFrame:
    """DESIGNS of all plans that bind, blocks named by their plan."""
    parts = []
    for name in binding_plans(home):
        designs = read_table(folder_of(home, name) / "designs.parquet")
        parts.append(designs.assign(block=[block_name(name, b) for b in designs.block]))
    if not parts:
        return check(DESIGNS, pd.DataFrame({c: [] for c in DESIGNS.columns}))
    return check(DESIGNS, pd.concat(parts, ignore_index=True))


def deliveries_so_far(home: Path) -> pd.DataFrame:
    """DELIVERIES of all plans that bind: who got what, held-out voters as controls."""
    decided = decided_so_far(home)
    parts = []
    for name in binding_plans(home):
        designs = read_table(folder_of(home, name) / "designs.parquet")
        rows = decided[decided["plan_id"] == name]
        parts.append(as_deliveries(name, rows, designs, rows["decided_on"]))
    if not parts:
        return check(DELIVERIES, pd.DataFrame({c: [] for c in DELIVERIES.columns}))
    return check(DELIVERIES, pd.concat(parts, ignore_index=True))


def responses_so_far(home: Path, at: pd.Timestamp) -> pd.DataFrame:
    """RESPONSES to the campaign's own plans that were observed by a moment."""
    moment = at.tz_convert("UTC").tz_localize(None) if at.tzinfo else at
    parts = [
        read_table(path)
        for path in sorted((home / RESULTS).glob("*/*/responses.parquet"))
    ]
    if not parts:
        needed = [n for n, c in RESPONSES.columns.items() if c.required]
        return check(RESPONSES, pd.DataFrame({c: [] for c in needed}))
    answers = pd.concat(parts, ignore_index=True)
    key = list(RESPONSES.unique or [])
    answers = answers.drop_duplicates(key, keep="first", ignore_index=True)
    return check(RESPONSES, answers[answers["observed_at"] <= moment])


def closed_channels(home: Path) -> pd.DataFrame:
    """DO_NOT_CONTACT by what channels reported.

    Voters who have moved, or whose number is another's, are not reached by that channel
    any more; voters who asked not to be contacted, by none.
    """
    parts = [
        pd.read_parquet(path)[["voter_id", "channel", "since"]]
        for name in ("withdrawn", "unreachable")
        for path in sorted((home / RESULTS).glob(f"*/*/{name}.parquet"))
    ]
    if not parts:
        return check(
            DO_NOT_CONTACT, pd.DataFrame({"voter_id": [], "channel": [], "since": []})
        )
    reported = pd.concat(parts, ignore_index=True).sort_values("since", kind="stable")
    first = reported.drop_duplicates(["voter_id", "channel"], ignore_index=True)
    return check(DO_NOT_CONTACT, first)
