"""A backup of a campaign: all that it would lose with its folder, in one file.

The campaign's folder (runs, plans, ledger, answers, exports, snapshots, keys, events),
and the MLflow store where it lies in a folder. Declarations and raw files are the
user's, and stay where they are; what lies on a server is backed up there.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import hustings
from hustings.experiments.backup.archive import ArchiveFacts, links_in, write_archive
from hustings.experiments.plans.backups import (
    BACKED_UP,
    record_backup,
    remove_unfinished,
    tombstones_beside,
)
from hustings.experiments.plans.folder import alone
from hustings.experiments.plans.ledger import VARIABLE, open_ledger
from hustings.experiments.privacy.personal_data import CampaignStores
from hustings.experiments.run import STOPPED
from hustings.experiments.stages.persons import known_persons
from hustings.experiments.stages.reactions import store_of

HOME, STORE = "campaign", "mlflow"
"""Folders of an archive: the campaign's own, and the MLflow store."""


@dataclass(frozen=True)
class BackupReport:
    """A backup that was written.

    Attributes:
        file: Its archive.
        n_files: Files in it.
        n_bytes: Their size.
        outside: What the campaign has that is not in it, a line each.
    """

    file: Path
    n_files: int
    n_bytes: int
    outside: list[str]

    def text(self) -> str:
        """In words."""
        lines = [
            f"{self.file}: {self.n_files:,} files, {self.n_bytes / 1e6:,.1f} MB, with "
            "checksums. It holds people's data and the campaign's keys: keep it as the "
            "folder itself.",
            f"Keep {tombstones_beside(self.file).name} beside it: `hustings forget` "
            "writes there who is never to be restored.",
            *(f"Not in it: {line}" for line in self.outside),
        ]
        return "\n".join(lines)


def back_up(where: CampaignStores, to: Path, *, at: pd.Timestamp) -> BackupReport:
    """Write a backup of a campaign; the ledger records it first.

    Only the holder of the campaign's lock may ask for it: nothing changes meanwhile but
    what a running endpoint writes into the store of events, whose copy is consistent.

    Args:
        where: The campaign.
        to: The file, or a folder that gets one whose name says the campaign and time.
        at: When.

    Raises:
        FileExistsError: If the file is there: a backup is never overwritten; or if
            tombstones of another campaign lie beside it.
        FileNotFoundError: If the campaign has no folder.
        KeysError: If its tombstones are lost or damaged.
        ValueError: If the file would lie in a folder that it holds, or is no `.tar`.
    """
    where.require()
    name = where.campaign.campaign.name
    if not to.is_dir() and to.suffix != ".tar":
        raise ValueError(
            f"{to}: expected a folder that is there, or a file that ends in .tar"
        )
    file = to / f"{name}-{at:%Y%m%dT%H%M%SZ}.tar" if to.is_dir() else to
    within_mlflow = not where.mlflow_uri and where.store.is_dir()
    folders = {HOME: where.home}
    if within_mlflow and not where.store.resolve().is_relative_to(where.home.resolve()):
        folders[STORE] = where.store
    for folder in folders.values():
        if file.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"{file}: expected a place outside {folder}, which the backup is of"
            )
    if file.exists():
        raise FileExistsError(f"{file}: expected no such file; give it another name")
    keys, outside = known_persons(where.home).keys, _outside(where)
    outside += [
        f"{link}, a link to {link.readlink()}."
        for folder in folders.values()
        for link in links_in(folder)
    ]
    remove_unfinished(where.home)
    facts = ArchiveFacts(
        campaign=name,
        made_at=at.isoformat(),
        version=hustings.__version__,
        ledger_seq=open_ledger(where.home).head.seq,
        store=str(where.store.resolve()) if within_mlflow else "",
        outside=outside,
    )
    # first of all: a backup without tombstones beside it is not restored
    keys.copy_tombstones(tombstones_beside(file))
    # before the file is there: an erasure has to know of every one
    record_backup(where.home, BACKED_UP, file, at=at)
    with alone(where.home):
        members = write_archive(file, folders, facts)
    n_bytes = sum(member.n_bytes for member in members.values())
    return BackupReport(file, len(members), n_bytes, outside)


def _outside(where: CampaignStores) -> list[str]:
    """What a campaign has elsewhere, and how it is backed up there."""
    campaign, home = where.campaign, where.home
    lines = ["campaign.toml and the raw files that it names, which are yours."]
    events = store_of(campaign, home)
    if not isinstance(events, Path) or not events.is_relative_to(home):
        lines.append(
            "the store of events, which lies elsewhere: `pg_dump --format=custom` of "
            "its database, or a copy of its file by `sqlite3 FILE .backup`."
        )
    if os.environ.get(VARIABLE):
        lines.append(
            "the ledger, which lies in PostgreSQL: `pg_dump --format=custom --table="
            "hustings_ledger` of its database."
        )
    if where.mlflow_uri:
        lines.append("models and trials, which lie on the MLflow server.")
    lines += [
        f"run {path.name.removeprefix('.').removesuffix(STOPPED)}, which stopped "
        "before it was finished."
        for path in sorted(home.glob(f".*{STOPPED}"))
    ]
    return lines
