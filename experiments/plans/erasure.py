"""Erasure of a person from files that the ledger names, with entries before and after.

The entry before lists the plans and folders whose files are unaltered, so that an
altered file cannot be explained by an erasure. The entry after holds the new digests.
"""

import json
from pathlib import Path

import pandas as pd

from hustings.experiments.plans.folder import PLANS, alone, file_faults, recover
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.plans.record import (
    FORGETTING,
    FORGOTTEN,
    PlanRecord,
    known_plans,
)
from hustings.experiments.plans.recorded_files import (
    record_rewritten,
    unaltered_folders,
)
from hustings.features.checksums import sha256


def forgetting(home: Path, *, batch: str, at: pd.Timestamp) -> None:
    """Record that files of the ledger are about to lose a person.

    Args:
        home: The campaign's folder.
        batch: Name of the request; taken up again, nothing is written twice.
        at: When.
    """
    if not (home / PLANS).is_dir():
        return
    with alone(home):
        ledger = open_ledger(home)
        plan_records, folders = known_plans(ledger), unaltered_folders(home)
        recover(home, plan_records)
        if (plan_records or folders) and _listed(home, batch) is None:
            unaltered_plans = [
                name for name, r in plan_records.items() if not file_faults(home, r)
            ]
            body = {"key": batch, "plans": unaltered_plans, "folders": folders}
            ledger.append(FORGETTING, body, at=at)


def forgotten(home: Path, *, batch: str, at: pd.Timestamp) -> list[str]:
    """Record that files of the ledger have lost a person.

    Args:
        home: The campaign's folder.
        batch: Name of the request.
        at: When.

    Returns:
        Plans, and folders of exports and answers, whose files changed.
    """
    listed = _listed(home, batch)
    if listed is None:
        return []
    with alone(home):
        ledger = open_ledger(home)
        plan_records, changed = known_plans(ledger), []
        for name in listed["plans"]:
            files = _changed(home, plan_records[name])
            if files:
                body = {"plan": name, "key": batch, "files": files}
                ledger.append(FORGOTTEN, body, at=at)
                changed.append(name)
        for folder in listed["folders"]:
            if record_rewritten(home, folder, batch=batch, at=at):
                changed.append(folder)
    return changed


def n_forgotten(record: PlanRecord) -> int:
    """How many requests to be forgotten changed a plan's files."""
    return len(record.of(FORGOTTEN))


def _listed(home: Path, batch: str) -> dict[str, list[str]] | None:
    """Plans and folders that were unaltered before; None where the request is new."""
    for entry in open_ledger(home).of_nobody(FORGETTING):
        body = json.loads(entry.body)
        if body["key"] == batch:
            return {"plans": list(body["plans"]), "folders": list(body["folders"])}
    return None


def _changed(home: Path, record: PlanRecord) -> dict[str, str]:
    """New digests of the files that are not what they were."""
    folder = home / PLANS / record.plan_id
    now = {name: sha256(folder / name) for name in record.files}
    return {
        name: digest for name, digest in now.items() if digest != record.files[name]
    }
