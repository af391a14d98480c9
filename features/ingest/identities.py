"""Raw identities → an in-memory table for matching, which no stage writes.

Names and addresses are mapped like every table, but never into a table of the run.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hustings.features.ingest.reading import Folders
from hustings.features.ingest.rows import read_rows
from hustings.features.ingest.sorting import SortedTable
from hustings.features.ingest.source import TableSource
from hustings.features.tables import (
    IDENTITIES,
    PROVIDER_ROWS,
    TableError,
    check,
    problems,
)


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
    table = SortedTable(
        IDENTITIES.name, rows.table.settled(), frame, rows.table.raw.digest(),
        rows.rows_in, losses=rows.table.losses,
        not_belonging=rows.table.not_belonging,
    )  # fmt: skip
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
        raise TableError(f"{file}: expected identities of voters, got no good row")
    table.check_share()
    accepted = check(IDENTITIES, table.frame.reset_index(drop=True))
    unread = Counter[str]()
    for (column, _), n in rows.table.losses.values.items():
        unread[column] += n
    return Identities(accepted, table.report() | {"unread": dict(unread)})


def read_provider_rows(source: TableSource, folders: Folders) -> pd.DataFrame:
    """Read what a provider delivers, as PROVIDER_ROWS.

    Args:
        source: `[providers.<name>.table]`; the columns bought are its `extra`.
        folders: Folders that the prefixes of a path name.

    Raises:
        TableError: If a column is missing, or too much is lost.
    """
    frame = read_rows(source, PROVIDER_ROWS.name, folders).frame
    return check(PROVIDER_ROWS, frame.reset_index(drop=True))
