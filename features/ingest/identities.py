"""Raw identities → an in-memory table for matching, which no stage writes.

Names and addresses are mapped like every table, but never into a table of the run.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from hustings.features.ingest.mapping import fault_rows
from hustings.features.ingest.reading import Folders
from hustings.features.ingest.rows import RowsRead, read_rows
from hustings.features.ingest.sorting import SortedTable, largest_in
from hustings.features.ingest.source import TableSource
from hustings.features.tables import (
    IDENTITIES,
    PROVIDER_ROWS,
    TableError,
    check,
    problems,
)

OF_NOBODY = "expected a voter_id or another key, got none"


@dataclass(frozen=True)
class Identities:
    """Identities of the voters, and the report on every row.

    Attributes:
        frame: IDENTITIES table.
        report: As of every table, and `unread`: values lost alone, by column; nobody's
            data.
    """

    frame: pd.DataFrame
    report: dict[str, Any]


def read_identities(source: TableSource, folders: Folders) -> Identities:
    """Read `[link.voters]`.

    A row without an id, or with the id of another one, is left out and counted.

    Args:
        source: Where they lie and how their columns are called.
        folders: Folders that the prefixes of its path name.

    Raises:
        TableError: If a column is missing, too much is lost or no row is left.
    """
    rows = read_rows(source, IDENTITIES.name, folders)
    frame = rows.frame[[c for c in rows.frame if c in IDENTITIES.columns]]
    file = rows.table.raw.file
    if "voter_id" not in frame:
        raise TableError(
            f"{file}: expected a column voter_id, got none; mend "
            "[link.voters.columns] in campaign.toml"
        )
    table = _table_of(rows, IDENTITIES.name, frame)
    table.set_aside(rows.faults)
    repeated = table.frame["voter_id"].duplicated(keep=False)
    several = table.frame.loc[repeated, ["voter_id"]]
    reason = "several rows, none is kept"
    table.set_aside(
        pd.DataFrame(
            {"row": several.index, "column": "voter_id", "value": several["voter_id"],
             "reason": reason}
        )
    )  # fmt: skip
    table.set_aside(
        problems(IDENTITIES, table.frame)[["row", "column", "value", "reason"]]
    )
    if table.frame.empty:
        raise TableError(
            f"{file}: expected identities of voters, got no good row: "
            f"{largest_in(table.quarantined()) or 'it is empty'}"
        )
    table.check_share()
    accepted = check(IDENTITIES, table.frame.reset_index(drop=True))
    unread = {"unread": dict(rows.table.losses.by_column())}
    return Identities(accepted, table.report() | unread)


@dataclass(frozen=True)
class ProviderRows:
    """What a provider delivered, and the report on every row.

    Attributes:
        frame: PROVIDER_ROWS.
        report: As of every table; nobody's data.
    """

    frame: pd.DataFrame
    report: dict[str, Any]


def read_provider_rows(source: TableSource, folders: Folders) -> ProviderRows:
    """Read what a provider delivers, as PROVIDER_ROWS.

    Args:
        source: `[providers.<name>.table]`; the columns bought are its `extra`.
        folders: Folders that the prefixes of a path name.

    Raises:
        TableError: If a column is missing, too much is lost or no row is left.
    """
    rows = read_rows(source, PROVIDER_ROWS.name, folders)
    table = _table_of(rows, PROVIDER_ROWS.name, rows.frame)
    table.set_aside(rows.faults)
    keys = table.frame[[c for c in table.frame if c in PROVIDER_ROWS.columns]]
    nobody = keys.isna().all(axis=1)
    table.set_aside(fault_rows(nobody, "voter_id", None, OF_NOBODY))
    faults = problems(PROVIDER_ROWS, table.frame)
    table.set_aside(faults[["row", "column", "value", "reason"]])
    if table.frame.empty and table.rows_in:
        raise TableError(
            f"{rows.table.raw.file}: expected rows of a provider, got no good row: "
            f"{largest_in(table.quarantined())}"
        )
    table.check_share()
    accepted = check(PROVIDER_ROWS, table.frame.reset_index(drop=True))
    return ProviderRows(accepted, table.report())


def _table_of(rows: RowsRead, name: str, frame: pd.DataFrame) -> SortedTable:
    return SortedTable(
        name, rows.table.settled(), frame, rows.table.raw.digest(), rows.rows_in,
        losses=rows.table.losses, not_belonging=rows.table.not_belonging,
        notes=rows.table.raw.notes,
    )  # fmt: skip
