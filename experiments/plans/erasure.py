"""Erasure of a person from plans' files, with a ledger entry before and one after.

The entry before lists the plans whose files are unaltered, so that an altered file
cannot be explained by an erasure. The entry after holds the new digests.
"""

import json
from pathlib import Path

import pandas as pd

from hustings.experiments.plans.folder import PLANS, alone, file_faults, recover, sha256
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.plans.record import (
    FORGETTING,
    FORGOTTEN,
    PlanRecord,
    known_plans,
)


def forgetting(home: Path, *, batch: str, at: pd.Timestamp) -> None:
    """Files of plans are about to lose a person.

    Args:
        home: The campaign's folder.
        batch: Name of the request; taken up again, nothing is written twice.
        at: When.
    """
    if not (home / PLANS).is_dir():
        return
    with alone(home):
        ledger = open_ledger(home)
        plan_records = known_plans(ledger)
        recover(home, plan_records)
        if plan_records and _listed(home, batch) is None:
            unaltered_plans = [
                name for name, r in plan_records.items() if not file_faults(home, r)
            ]
            ledger.append(FORGETTING, {"key": batch, "plans": unaltered_plans}, at=at)


def forgotten(home: Path, *, batch: str, at: pd.Timestamp) -> list[str]:
    """Files of plans have lost a person.

    Args:
        home: The campaign's folder.
        batch: Name of the request.
        at: When.

    Returns:
        Plans whose files changed.
    """
    listed = _listed(home, batch)
    if not listed:
        return []
    with alone(home):
        ledger = open_ledger(home)
        plan_records, changed = known_plans(ledger), []
        for name in listed:
            files = _changed(home, plan_records[name])
            if files:
                body = {"plan": name, "key": batch, "files": files}
                ledger.append(FORGOTTEN, body, at=at)
                changed.append(name)
    return changed


def n_forgotten(record: PlanRecord) -> int:
    """How many requests to be forgotten changed a plan's files."""
    return len(record.of(FORGOTTEN))


def _listed(home: Path, batch: str) -> list[str] | None:
    """Plans that were whole before; None where the request is new."""
    for entry in open_ledger(home).of_nobody(FORGETTING):
        body = json.loads(entry.body)
        if body["key"] == batch:
            return list(body["plans"])
    return None


def _changed(home: Path, record: PlanRecord) -> dict[str, str]:
    """New digests of the files that are not what they were."""
    folder = home / PLANS / record.plan_id
    now = {name: sha256(folder / name) for name in record.files}
    return {
        name: digest for name, digest in now.items() if digest != record.files[name]
    }
