"""The folder of a plan: written aside, its digests in the ledger, then renamed.

The order is: files, ledger, rename. Files aside count only once the ledger holds their
digests. After a kill, files aside whose digests the ledger holds are renamed, and all
other files aside are discarded.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from hustings.experiments.plans.record import PlanRecord, PlanStepError
from hustings.features.atomic import ASIDE
from hustings.features.blocks import written_in_blocks
from hustings.features.checksums import (
    CHECKSUMS,
    file_sha256,
    lost_files,
    renew_checksums,
    sha256,
)
from hustings.features.lock import holder_since, locked

FolderTable = pd.DataFrame | Iterable[pd.DataFrame]
"""A table that is written whole or block by block."""
PLANS = "plans"
IDENTITY = "identity.parquet"
"""Beside the plans: which person is behind a voter id."""
LOCK = ".lock"
N_TABLES = 256
"""Tables of plans that a process keeps at most."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def folder_of(home: Path, plan_id: str) -> Path:
    """Where a plan lies.

    Raises:
        PlanStepError: If the name could lead elsewhere.
    """
    if not _NAME.fullmatch(plan_id):
        raise PlanStepError(
            f"expected a plan's name of letters, digits, dots, - and _, got {plan_id!r}"
        )
    return home / PLANS / plan_id


def aside_of(path: Path) -> Path:
    """Temporary place of a file or folder until it is renamed."""
    return path.with_name(f".{path.name}{ASIDE}")


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Let one process at a time take steps; a second one waits.

    The lock is the system's: it goes with the process, however that ends.
    """
    (home / PLANS).mkdir(parents=True, exist_ok=True)
    with locked(home / PLANS / LOCK, wait=True):
        yield


@contextmanager
def one_command(home: Path, command: str, *, at: pd.Timestamp) -> Iterator[list[str]]:
    """One command at a time changes a campaign; the second is refused at once.

    A command may take hours, a step of a plan (`alone`) an instant: those who only read
    wait for steps, and never for a command. Of runs and of the bundle, the checksums of
    files that the command wrote are renewed at its end; where it is killed, the next
    command renews them.

    Args:
        home: The campaign's folder, which must exist.
        command: Its name, for the one that is refused.
        at: When it began.

    Yields:
        Files that changed since a command began that was killed, and are taken as
        written by it: nobody can tell whether another has written them.

    Raises:
        LockedError: If another command is at work, saying which and since when.
    """
    since = f"since {at:%Y-%m-%d %H:%M:%S} UTC"
    holder = f"`hustings {command}` (process {os.getpid()}, {since})"
    killed_ns = holder_since(home / LOCK)
    with locked(home / LOCK, holder=holder):
        begun_ns = (home / LOCK).stat().st_mtime_ns
        taken_up = [] if killed_ns is None else _renew(home, killed_ns, {})
        lost = {folder: lost_files(folder) for folder in checked_folders(home)}
        try:
            yield taken_up
        finally:
            _renew(home, begun_ns, lost)


def checked_folders(home: Path) -> list[Path]:
    """Folders of a campaign that have checksums: runs, the bundle and seals."""
    return sorted(path.parent for path in home.glob(f"[!.]*/{CHECKSUMS}"))


def _renew(home: Path, since_ns: int, lost: Mapping[Path, list[str]]) -> list[str]:
    return [
        f"{folder.name}/{name}"
        for folder in checked_folders(home)
        for name in renew_checksums(
            folder, since_ns=since_ns, lost=lost.get(folder, ())
        )
    ]


def write_aside(
    folder: Path,
    tables: Mapping[str, FolderTable],
    json_values: Mapping[str, Any],
) -> dict[str, str]:
    """Write a whole folder next to its place.

    Args:
        folder: Its place.
        tables: By name, whole or block by block; `name.parquet`.
        json_values: JSON values by name; `name.json`.

    Returns:
        SHA-256 of every file, by name.
    """
    aside = aside_of(folder)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, frame in tables.items():
        path = aside / f"{name}.parquet"
        if isinstance(frame, pd.DataFrame):
            write_table(path, frame)
            continue
        with written_in_blocks(path) as writer:
            for block in frame:
                writer.write(block)
    for name, value in json_values.items():
        text = json.dumps(value, indent=1, sort_keys=True, default=str)
        (aside / f"{name}.json").write_text(text + "\n")
    files = sorted(aside.iterdir())
    for path in files:
        _to_disk(path)
    return {path.name: sha256(path) for path in files}


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """A table as it is kept."""
    frame.to_parquet(path, index=False, compression="zstd")


def read_table(path: Path) -> pd.DataFrame:
    """A table of a plan; read once in a process while its file stays as it is.

    Files of plans are never written twice, save when a person is forgotten.
    """
    stated = path.stat()
    return _read(path, stated.st_mtime_ns, stated.st_size).copy(deep=False)


@lru_cache(maxsize=N_TABLES)
def _read(path: Path, _written_ns: int, _size: int) -> pd.DataFrame:
    return pd.read_parquet(path)


def write_file_aside(path: Path, frame: pd.DataFrame) -> str:
    """Write a single table next to its place; its SHA-256."""
    aside = aside_of(path)
    aside.parent.mkdir(parents=True, exist_ok=True)
    write_table(aside, frame)
    _to_disk(aside)
    return sha256(aside)


def settle(path: Path) -> None:
    """Move a file or folder from its temporary place to its own."""
    aside_of(path).rename(path)
    _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    """On the disk, not only in memory: the ledger must not outlive the files."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def recover(home: Path, records: Mapping[str, PlanRecord]) -> None:
    """Finish or discard what a process that was killed left aside.

    Args:
        home: The campaign's folder.
        records: What the ledger says.
    """
    for aside in sorted((home / PLANS).glob(f".*{ASIDE}")):
        record = records.get(_name_of(aside))
        wanted = record.files if record else {}
        _settle_or_discard(aside, wanted, home / PLANS / _name_of(aside))
    for plan_id, record in records.items():
        for aside in sorted((home / PLANS / plan_id).glob(f"*/.*{ASIDE}")):
            final = aside.with_name(_name_of(aside))
            _settle_or_discard(aside, record.files, final)


def _name_of(aside: Path) -> str:
    return aside.name.removeprefix(".").removesuffix(ASIDE)


def _settle_or_discard(aside: Path, wanted: Mapping[str, str], final: Path) -> None:
    if not final.exists() and _is_named(aside, wanted):
        settle(final)
    elif aside.is_dir():
        shutil.rmtree(aside)
    else:
        aside.unlink()


def _is_named(aside: Path, wanted: Mapping[str, str]) -> bool:
    """Whether the ledger names exactly what lies aside."""
    if aside.is_dir():
        digests = {p.name: sha256(p) for p in aside.iterdir() if p.is_file()}
        return bool(digests) and all(wanted.get(n) == d for n, d in digests.items())
    name = f"{aside.parent.name}/{_name_of(aside)}"
    return wanted.get(name) == sha256(aside)


def faults(home: Path, records: Mapping[str, PlanRecord]) -> list[str]:
    """Files of plans that are not what the ledger says; empty where all are.

    Args:
        home: The campaign's folder.
        records: What the ledger says.
    """
    lines = []
    for plan_id, record in records.items():
        lines += file_faults(home, record)
        there = {
            str(path.relative_to(home / PLANS / plan_id))
            for path in (home / PLANS / plan_id).rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }
        lines += [
            f"{PLANS}/{plan_id}/{name}: expected no such file, the ledger knows none"
            for name in sorted(there - record.files.keys())
        ]
    folders = (path for path in (home / PLANS).glob("*") if path.is_dir())
    lines += [
        f"{PLANS}/{path.name}: expected an entry of this plan in the ledger, got none"
        for path in sorted(folders)
        if path.name not in records and not path.name.startswith(".")
    ]
    return lines


def file_faults(home: Path, record: PlanRecord) -> list[str]:
    """Files of one plan that are not what the ledger says."""
    lines = []
    for name, digest in record.files.items():
        path = home / PLANS / record.plan_id / name
        at = f"{PLANS}/{record.plan_id}/{name}"
        if not path.is_file():
            lines.append(f"{at}: expected the file that the ledger names, got none")
        elif file_sha256(path) != digest:
            lines.append(f"{at}: its digest is not the one in the ledger: altered")
    return lines
