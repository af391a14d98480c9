"""Files outside the plans' folders whose digests the ledger holds: lists and answers.

Exports (`exports/<plan>/<time>/`) and files of answers (`results/<plan>/<digest>/`) are
folders that are written whole and never changed, except when a person is forgotten.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from hustings.experiments.plans.folder import LOCK, alone, checked_folders
from hustings.experiments.plans.ledger import open_ledger
from hustings.features.atomic import ASIDE
from hustings.features.checksums import altered_files, file_sha256, sha256
from hustings.features.lock import holder_since
from hustings.serving.decided import SERVING

RECORDED, REWRITTEN = "files recorded", "files rewritten"
"""Kinds of the ledger's entries: a folder's digests, and those after an erasure."""
OUTSIDE = "outside"
"""In place of the folder, where files were written outside the campaign's own."""
FOLDERS = ("exports", "results")


@dataclass(frozen=True)
class Checked:
    """Result of comparing the files with the ledger.

    Attributes:
        n_folders: Folders whose files are as the ledger says.
        faults: Files that are not.
        unchecked: What could not be compared, and why.
    """

    n_folders: int
    faults: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


@contextmanager
def recording(home: Path, *, at: pd.Timestamp) -> Iterator[None]:
    """Record every new folder of exports and answers once the block has ended.

    Also where the block fails: a folder that an earlier command wrote, which was killed
    before its entry, is recorded when the command is repeated and refused.

    Args:
        home: The campaign's folder.
        at: When, for the ledger.
    """
    try:
        yield
    finally:
        record_folders(home, at=at)


def record_folders(home: Path, *, at: pd.Timestamp) -> None:
    """Write the digests of folders that the ledger does not name yet.

    Args:
        home: The campaign's folder.
        at: When, for the ledger.
    """
    with alone(home):
        ledger, recorded = open_ledger(home), _recorded(home)
        for folder in _folders(home):
            if folder not in recorded:
                files = {p.name: sha256(p) for p in _files(home / folder)}
                ledger.append(RECORDED, {"folder": folder, "files": files}, at=at)


def record_outside(home: Path, folder: Path, *, plan_id: str, at: pd.Timestamp) -> None:
    """Write the digests of files that lie outside the campaign's folder.

    Nobody can check them there, nor take a forgotten person out of them.

    Args:
        home: The campaign's folder.
        folder: Of the files.
        plan_id: The plan whose lists they are; empty for none.
        at: When, for the ledger.
    """
    files = {path.name: sha256(path) for path in _files(folder)}
    body = {"folder": OUTSIDE, "files": files, "plan": plan_id}
    open_ledger(home).append(RECORDED, body, at=at)


def record_outside_table(
    home: Path, name: str, sha256_of_rows: str, *, plan_id: str, at: pd.Timestamp
) -> None:
    """Write down that rows lie in a table of a database: see `record_outside`.

    Args:
        home: The campaign's folder.
        name: Of the database and its table.
        sha256_of_rows: Digest of the rows.
        plan_id: The plan whose contacts they are.
        at: When, for the ledger.
    """
    body = {"folder": OUTSIDE, "files": {name: sha256_of_rows}, "plan": plan_id}
    open_ledger(home).append(RECORDED, body, at=at)


def outside(home: Path) -> list[dict[str, Any]]:
    """Exports that were written outside the campaign's folder: day, files and plan."""
    return [
        {
            "on": entry.at.partition("T")[0],
            "files": sorted(body["files"]),
            "plan": body.get("plan", ""),
        }
        for entry in open_ledger(home).of_kind(RECORDED)
        if (body := json.loads(entry.body))["folder"] == OUTSIDE
    ]


def lists_outside(home: Path, plan_id: str) -> list[str]:
    """Files of a plan's contacts that were written outside the campaign's folder."""
    of_plan = (row for row in outside(home) if row["plan"] == plan_id)
    return sorted({name for row in of_plan for name in row["files"]})


def checked(home: Path) -> Checked:
    """Compare the files of exports and answers with the ledger."""
    recorded, there = _recorded(home), _folders(home)
    faults = recorded_faults(home)
    unchecked = [
        f"{folder}: the ledger holds no digests of its files"
        for folder in there
        if folder not in recorded
    ]
    unchecked += [
        f"{len(row['files'])} files of {row['on']} that were exported outside the "
        f"campaign's folder ({', '.join(row['files'])})"
        for row in outside(home)
    ]
    return Checked(len(recorded), faults, unchecked)


def checked_runs(home: Path) -> Checked:
    """Compare the files of runs, of the bundle and of seals with their checksums."""
    folders, since_ns = checked_folders(home), holder_since(home / LOCK)
    could_have = {
        path.parent
        for pattern in (
            "[!.]*/run.json",
            f"{SERVING}/version.json",
            "[!.]*/*.seal.json",
        )
        for path in home.glob(pattern)
    }
    faults = [
        line
        for folder in folders
        for line in altered_files(folder, at_work_since_ns=since_ns)
    ]
    unchecked = [
        f"{folder.name}: it has no checksums"
        for folder in sorted(could_have - set(folders))
    ]
    if since_ns is not None:
        unchecked.append("what the command writes that is at work")
    return Checked(len(folders), faults, unchecked)


def recorded_faults(home: Path) -> list[str]:
    """Files of exports and answers that are not what the ledger says."""
    return [
        fault
        for folder, digests in _recorded(home).items()
        for fault in _faults_of(home, folder, digests)
    ]


def _faults_of(home: Path, folder: str, digests: Mapping[str, str]) -> list[str]:
    there = _files(home / folder)
    faults = [
        f"{folder}/{path.name}: expected no such file, the ledger knows none"
        for path in there
        if path.name not in digests
    ]
    for name, digest in digests.items():
        path = home / folder / name
        if not path.is_file():
            faults.append(f"{folder}/{name}: expected the file that was recorded")
        elif file_sha256(path) != digest:
            faults.append(
                f"{folder}/{name}: its digest is not the one in the ledger: altered"
            )
    return faults


def unaltered_folders(home: Path) -> list[str]:
    """Recorded folders whose files are what the ledger says."""
    recorded = _recorded(home)
    return [f for f in recorded if not _faults_of(home, f, recorded[f])]


def record_rewritten(
    home: Path, folder: str, *, batch: str, at: pd.Timestamp
) -> dict[str, str]:
    """Write the new digests of a folder that has lost a person.

    Args:
        home: The campaign's folder.
        folder: A recorded one that was unaltered before.
        batch: Name of the request.
        at: When, for the ledger.

    Returns:
        Digests by name of the files that changed.
    """
    before = _recorded(home)[folder]
    now = {path.name: sha256(path) for path in _files(home / folder)}
    changed = {name: d for name, d in now.items() if before.get(name) != d}
    if changed:
        body = {"folder": folder, "key": batch, "files": changed}
        open_ledger(home).append(REWRITTEN, body, at=at)
    return changed


def _recorded(home: Path) -> dict[str, dict[str, str]]:
    """Digests by folder and file, as the ledger has them last."""
    digests: dict[str, dict[str, str]] = {}
    ledger = open_ledger(home)
    for entry in (*ledger.of_kind(RECORDED), *ledger.of_kind(REWRITTEN)):
        body = json.loads(entry.body)
        if body["folder"] != OUTSIDE:
            digests.setdefault(body["folder"], {}).update(body["files"])
    return digests


def _folders(home: Path) -> list[str]:
    """Folders of exports and answers that hold files, under the campaign's folder."""
    return [
        str(folder.relative_to(home))
        for parent in FOLDERS
        for folder in sorted((home / parent).glob("*/*"))
        if folder.is_dir() and _is_whole(folder) and _files(folder)
    ]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_file() and _is_whole(p))


def _is_whole(path: Path) -> bool:
    return not path.name.startswith(".") and not path.name.endswith(ASIDE)
