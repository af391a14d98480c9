"""A campaign put back from a backup: checked first, then in its place by one rename.

The archive is unpacked aside, every file compared with its checksum. Whoever was
forgotten after the backup was made is taken out of it again by the tombstones beside
the backup, or those that are left of the campaign's folder: without either, nothing is
restored. Then ledger, plans, runs and keys are verified, and only then does the folder
take its place.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hustings.experiments.backup.archive import (
    ONLY_MY_FOLDER,
    ArchiveFacts,
    facts_of,
    unpack,
)
from hustings.experiments.backup.campaign_backup import HOME, STORE
from hustings.experiments.backup.newer_events import keep_newer
from hustings.experiments.backup.verification import verified
from hustings.experiments.plans.backups import (
    RESTORED,
    record_backup,
    tombstones_beside,
    tombstones_beside_backups,
    unpacking_aside,
)
from hustings.experiments.plans.folder import LOCK, one_command
from hustings.experiments.plans.ledger import VARIABLE, LedgerError, open_ledger
from hustings.experiments.privacy.forget import resume
from hustings.experiments.privacy.personal_data import CampaignStores
from hustings.experiments.stages.persons import known_persons, noted_tombstones
from hustings.experiments.stages.reactions import store_of
from hustings.features.atomic import replace_folder
from hustings.features.lock import LockedError, locked
from hustings.features.persons.keys import (
    KEYS,
    TOMBSTONES_COPY,
    KeysError,
    TombstonesCopy,
    read_tombstones,
)
from hustings.serving.reactions.store import FILE

MLFLOW_FILE = "mlflow.db"
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""Columns of an MLflow store that say where files lie."""


@dataclass(frozen=True)
class RestoreReport:
    """A campaign that was restored.

    Attributes:
        facts: Of the backup.
        n_buried: Tombstones that were set after the backup was made.
        n_erased: Rows that were taken out for them.
        n_dropped: Entries of the ledger that was in its place, after the backup's.
        unverified: What does not agree with a ledger that lies elsewhere.
        verification: What was verified, in words.
        is_store_restored: Whether the MLflow store was restored, too.
        events: What became of the store of events, in words; empty where it lies
            elsewhere.
    """

    facts: ArchiveFacts
    n_buried: int
    n_erased: int
    n_dropped: int
    unverified: str
    verification: str
    is_store_restored: bool
    events: str

    def text(self) -> str:
        """In words."""
        lines = [
            f"Campaign {self.facts.campaign} is as it was at {self.facts.made_at}.",
            f"{self.n_buried} tombstones were set since: {self.n_erased:,} rows of "
            "these people are taken out again.",
        ]
        if self.n_dropped:
            lines.append(
                f"Entries of the ledger that are no longer there: {self.n_dropped:,}. "
                "What was decided, sent and answered since the backup is not on record."
            )
        if self.events:
            lines.append(self.events)
        if self.facts.store:
            lines.append(
                "The MLflow store is restored, too."
                if self.is_store_restored
                else "The MLflow store was there and stays as it is."
            )
        if self.unverified:
            lines.append(f"Against the ledger, which lies elsewhere: {self.unverified}")
        lines += [f"Not in the backup: {line}" for line in self.facts.outside]
        return "\n".join([*lines, *self.verification.splitlines()])


def restore(
    where: CampaignStores,
    backup: Path,
    *,
    tombstones: Path | None,
    replaces: bool,
    at: pd.Timestamp,
) -> RestoreReport:
    """Put a campaign back from a backup.

    Args:
        where: The campaign; its folder may be there, damaged, or not at all.
        backup: What `back_up` wrote.
        tombstones: A copy of the tombstones from elsewhere; None for those beside the
            backup and in the campaign's folder.
        replaces: Whether a folder that is there may be replaced.
        at: When.

    Raises:
        AlteredError: If the backup is not what was written.
        FileExistsError: If the campaign has a folder, and that may not be replaced.
        FileNotFoundError: If there is no backup.
        KeysError: If nobody can know who was forgotten after the backup was made.
        LedgerError: If what is restored does not hold.
        LockedError: If a command or an endpoint is at work.
        ValueError: If the backup is of another campaign.
    """
    # links stay: what they lead to is replaced
    where = where._replace(home=where.home.resolve(), store=where.store.resolve())
    name, home = where.campaign.campaign.name, where.home
    facts = facts_of(backup)
    if facts.campaign != name:
        raise ValueError(
            f"{backup}: expected a backup of campaign {name}, got one of "
            f"{facts.campaign}"
        )
    if home.exists() and not replaces:
        raise FileExistsError(
            f"{home}: expected no folder of the campaign; --replace puts the backup in "
            "its place, and what was written since is lost"
        )
    later = _later_tombstones(home, backup, tombstones)
    # a store in the campaign's folder is a part of it
    within = where.store.is_relative_to(home)
    takes_store = bool(facts.store) and (within or not _has_store(where))
    # each beside its place, on the file system of its place
    places = [home, where.store] if takes_store and not within else [home]
    for place in places:
        _require_renamable(place)
        place.parent.mkdir(parents=True, exist_ok=True)
    with _alone(home, at), ExitStack() as stack:
        asides = [stack.enter_context(unpacking_aside(place)) for place in places]
        restored, store = asides[0] / HOME / name, asides[-1] / STORE
        for folder in (restored, store):
            folder.mkdir(mode=ONLY_MY_FOLDER, parents=True)
        unpack(backup, {HOME: restored, STORE: store})
        if within:
            store = restored / where.store.relative_to(home)
        if takes_store:
            _move_places(store, Path(facts.store), where.store)
        stands = where._replace(
            home=restored, store=store if takes_store else where.store
        )
        # the entry that names the backup is none of what was done since
        n_dropped = max(0, _n_entries(home) - facts.ledger_seq - 1)
        _require_unopened(home)
        events, events_as_read = home / FILE, _written(home / FILE)
        keeps_events = events.is_file() and keep_newer(events, restored / FILE)
        with one_command(restored, "restore", at=at):
            n_buried, n_erased = _forgotten_again(stands, later, home, at)
            record_backup(restored, RESTORED, backup, at=at)
        words, unverified = _verified(stands)
        _require_unopened(home)
        if _written(events) != events_as_read:
            raise LockedError(
                f"{events}: expected nobody to write to it meanwhile; stop `hustings "
                "serve` and `hustings web` first, nothing was restored"
            )
        if home.exists() and not replaces:
            raise FileExistsError(f"{home}: another command has made it meanwhile")
        if takes_store and not within:
            replace_folder(store, where.store)
        # from here on the campaign is the restored one
        replace_folder(restored, home)
    return RestoreReport(
        facts=facts,
        n_buried=n_buried,
        n_erased=n_erased,
        n_dropped=n_dropped,
        unverified=unverified,
        verification=words,
        is_store_restored=takes_store,
        events=_of_events(where, facts, keeps=keeps_events),
    )


def _of_events(where: CampaignStores, facts: ArchiveFacts, *, keeps: bool) -> str:
    if store_of(where.campaign, where.home) != where.home / FILE:
        return ""
    if keeps:
        return (
            "The store of events of the folder that was there stays: withdrawals, "
            "ballots, pauses and what was sent online since the backup hold."
        )
    return (
        "No store of events was there to keep, or it is damaged: withdrawals (STOP), "
        f"ballots, pauses and what was sent online since {facts.made_at} are lost. "
        "Read them again from whoever received them before anything is sent."
    )


def _written(file: Path) -> tuple[int, int] | None:
    """When a file was written last, and its size; None where there is none."""
    if not file.is_file():
        return None
    stated = file.stat()
    return stated.st_mtime_ns, stated.st_size


def _require_renamable(folder: Path) -> None:
    """Refuse a place that no folder can take by a rename.

    Raises:
        ValueError: If it is where a file system is mounted.
    """
    if folder.is_mount():
        raise ValueError(
            f"{folder}: expected a folder within a file system, got the place where "
            "one is mounted, which no folder can take; mount it one folder higher"
        )


def _later_tombstones(
    home: Path, backup: Path, elsewhere: Path | None
) -> list[TombstonesCopy]:
    """Every copy of the campaign's tombstones that can be had.

    Raises:
        KeysError: If there is none: an old backup would bring the forgotten back.
    """
    if elsewhere is not None and not elsewhere.is_file():
        raise FileNotFoundError(f"{elsewhere}: expected a copy of the tombstones")
    if (home / KEYS).exists():
        # a copy that has gone is written again, where the store itself holds
        with suppress(KeysError):
            known_persons(home).keys.end()
    files = [elsewhere, tombstones_beside(backup), home / TOMBSTONES_COPY]
    copies = [read_tombstones(file) for file in files if file and file.is_file()]
    if not copies:
        raise KeysError(
            f"{tombstones_beside(backup)}: expected the tombstones of those who were "
            "forgotten since the backup was made, found none, and none in the "
            "campaign's folder; whoever they are, the backup would bring them back. "
            f"--tombstones FILE gives a later {TOMBSTONES_COPY}, or the file from "
            "beside another copy of the backup"
        )
    return copies


def _forgotten_again(
    stands: CampaignStores, later: list[TombstonesCopy], home: Path, at: pd.Timestamp
) -> tuple[int, int]:
    """Take out of what was unpacked whoever was forgotten since.

    Args:
        stands: What was unpacked.
        later: Tombstones, in any order.
        home: The campaign's folder, whose ledger may say how many there are.
        at: When.

    Returns:
        Tombstones that are new to it, and rows taken out.

    Raises:
        KeysError: If the tombstones are of another campaign, or fewer than the ledger
            has seen.
    """
    keys = known_persons(stands.home).keys
    beside_others = _beside_other_backups(stands.home, home, keys.campaign_key)
    n_buried = sum(keys.take_tombstones(copied) for copied in (*later, *beside_others))
    n_now, noted = keys.end()[0], None
    with suppress(sqlite3.DatabaseError):
        noted = noted_tombstones(home)
    if noted is not None and n_now < noted[0]:
        raise KeysError(
            f"{home}: expected the {noted[0]} tombstones that its ledger has seen, got "
            f"{n_now} with those of the backup; --tombstones FILE gives later ones"
        )
    reports = resume(stands, at=at)
    left = [path for report in reports for path in report.left]
    if left:
        raise ValueError(
            f"{left[0]}: expected nothing of people who were forgotten since the "
            "backup was made, an id or address is still in it; nothing was restored"
        )
    return n_buried, sum(sum(report.removed.values()) for report in reports)


def _beside_other_backups(
    restored: Path, home: Path, campaign_key: bytes
) -> list[TombstonesCopy]:
    """Tombstones beside every backup that the restored ledger names, or the present.

    Raises:
        KeysError: If a file was altered.
    """
    files = set(tombstones_beside_backups(restored))
    with suppress(sqlite3.DatabaseError):
        if home.is_dir():
            files |= set(tombstones_beside_backups(home))
    copies = [read_tombstones(file) for file in sorted(files)]
    # a file of that name may be of another campaign by now
    return [copied for copied in copies if copied.campaign_key == campaign_key]


def _verified(stands: CampaignStores) -> tuple[str, str]:
    """What was verified in words, and what does not agree with a ledger elsewhere."""
    try:
        return verified(stands.campaign, stands.home, "").text(), ""
    except LedgerError as fault:
        if not os.environ.get(VARIABLE):
            raise
        # it goes on from where the backup ends: files that it names are not in it
        return "", str(fault)


@contextmanager
def _alone(home: Path, at: pd.Timestamp) -> Iterator[None]:
    """Nobody else at work on the folder that is to be replaced, where there is one."""
    if not home.is_dir():
        yield
        return
    since = f"since {at:%Y-%m-%d %H:%M:%S} UTC"
    holder = f"`hustings restore` (process {os.getpid()}, {since})"
    with locked(home / LOCK, holder=holder):
        yield


def _require_unopened(home: Path) -> None:
    """Refuse while an endpoint has the store of events open: it would write on there.

    Raises:
        LockedError: Naming the file.
    """
    for path in sorted(home.glob("*.db")):
        with closing(sqlite3.connect(path, timeout=0)) as store:
            try:
                store.execute("PRAGMA journal_mode = DELETE")
            except sqlite3.OperationalError as fault:
                if fault.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    continue
                raise LockedError(
                    f"{path}: expected nobody to have it open; stop `hustings serve` "
                    "and `hustings web` first, nothing was restored"
                ) from None
            except sqlite3.DatabaseError:
                continue  # damaged: that is what a backup is for


def _has_store(where: CampaignStores) -> bool:
    return bool(where.mlflow_uri) or (where.store / MLFLOW_FILE).exists()


def _n_entries(home: Path) -> int:
    """Entries of the ledger that is to be replaced; 0 where it cannot be read."""
    if os.environ.get(VARIABLE):
        return 0
    with suppress(sqlite3.DatabaseError):
        return open_ledger(home).head.seq
    return 0


def _move_places(store: Path, before: Path, now: Path) -> None:
    """Say in an MLflow store where its files lie now: it has absolute places."""
    if before == now or not (store / MLFLOW_FILE).is_file():
        return
    with closing(sqlite3.connect(store / MLFLOW_FILE)) as database, database:
        for table, column in _PLACES:
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?) "
                f"WHERE {column} LIKE 'file:%'",
                (before.as_uri() + "/", now.as_uri() + "/"),
            )
