"""Backups of a campaign that its ledger names, and the tombstones beside each of them.

A backup cannot be rewritten when a person is forgotten later. In its place a file of
tombstones lies beside it, which every erasure writes anew: a restore takes these people
out of what it restores, before anything counts.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from hustings.experiments.plans.folder import LOCK
from hustings.experiments.plans.ledger import open_ledger
from hustings.features.atomic import ASIDE
from hustings.features.lock import LockedError, locked
from hustings.features.persons.keys import Keyring

BACKED_UP, RESTORED = "backed up", "restored"
"""Kinds of the ledger's entries: a backup was begun; the campaign came out of one."""


class ListedBackup(NamedTuple):
    """A backup that the ledger names.

    Attributes:
        file: Where it was written.
        on: Day of the entry, ISO 8601.
        is_reachable: Whether it lies there, with its tombstones up to date.
    """

    file: str
    on: str
    is_reachable: bool


def tombstones_beside(backup: Path) -> Path:
    """Where the tombstones of a backup lie.

    >>> tombstones_beside(Path("spring.tar")).name
    'spring.tar.tombstones.json'
    """
    return backup.with_name(f"{backup.name}.tombstones.json")


def record_backup(home: Path, kind: str, backup: Path, *, at: pd.Timestamp) -> None:
    """Write down in the ledger that a backup is about to be written, or was restored.

    Args:
        home: The campaign's folder.
        kind: `BACKED_UP` or `RESTORED`.
        backup: Its file.
        at: When.
    """
    open_ledger(home).append(kind, {"file": str(backup.resolve())}, at=at)


def bury_in_backups(home: Path, keys: Keyring) -> list[ListedBackup]:
    """Write the tombstones beside every backup of a campaign that can be reached.

    Args:
        home: The campaign's folder.
        keys: Its tombstones.

    Returns:
        Every backup that the ledger names, in the order of their entries. One that was
        moved or lies on a disk that is not there is not reachable.
    """
    ledger, day_of = open_ledger(home), dict[str, str]()
    for entry in (*ledger.of_kind(BACKED_UP), *ledger.of_kind(RESTORED)):
        day_of[json.loads(entry.body)["file"]] = entry.at.partition("T")[0]
    return [
        ListedBackup(file, day, _buried(Path(file), keys))
        for file, day in day_of.items()
    ]


def tombstones_beside_backups(home: Path) -> list[Path]:
    """Files of tombstones beside the backups that a ledger names, as far as there.

    Args:
        home: The folder of a campaign, also of one that was just unpacked.
    """
    ledger = open_ledger(home)
    entries = (*ledger.of_kind(BACKED_UP), *ledger.of_kind(RESTORED))
    backups = {json.loads(entry.body)["file"] for entry in entries}
    files = [tombstones_beside(Path(file)) for file in sorted(backups)]
    return [file for file in files if os.access(file, os.R_OK)]


def remove_unfinished(home: Path) -> None:
    """Remove what backups that were killed left beside the files they were to write.

    Args:
        home: The campaign's folder, whose ledger names them; the caller is alone.
    """
    for entry in open_ledger(home).of_kind(BACKED_UP):
        file = Path(json.loads(entry.body)["file"])
        with suppress(OSError):
            for left in file.parent.glob(f".{escape(file.name)}.*{ASIDE}"):
                if left.is_dir():
                    shutil.rmtree(left)
                else:
                    left.unlink()


def _buried(backup: Path, keys: Keyring) -> bool:
    if not backup.is_file():
        return False
    try:
        keys.copy_tombstones(tombstones_beside(backup))
    except OSError:
        # a disk that can only be read, or a file of another campaign
        return False
    return True


@contextmanager
def unpacking_aside(home: Path) -> Iterator[Path]:
    """An empty folder beside a campaign's to unpack a backup in; gone at the end.

    Args:
        home: The campaign's folder, or that of its MLflow store, which need not exist.
    """
    remove_unpacked(home)
    aside = home.with_name(f"{_aside_begins(home)}{secrets.token_hex(4)}{ASIDE}")
    aside.mkdir(mode=0o700)
    try:
        with locked(aside / LOCK, holder=f"`hustings restore` (process {os.getpid()})"):
            yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_unpacked(home: Path) -> list[str]:
    """Remove what restorations that were killed had unpacked beside a campaign.

    Args:
        home: The campaign's folder.

    Returns:
        Names of the folders that were removed.
    """
    removed = []
    for left in sorted(home.parent.glob(f"{_aside_begins(home)}*{ASIDE}")):
        # one that is at work holds its lock
        with suppress(LockedError), locked(left / LOCK):
            shutil.rmtree(left)
            removed.append(left.name)
    return removed


def _aside_begins(home: Path) -> str:
    return f".{home.name}.restore-"
