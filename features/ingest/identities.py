"""Raw identities → an in-memory table for matching, which no stage writes.

Names and addresses are mapped like every table, but never into a table of the run.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from hustings.features.ingest.mapping import TableSource, map_with_faults
from hustings.features.ingest.reading import Folders, read_raw
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
        report: rows_in, accepted, quarantined, reasons, unread (column → values
            that cost their cell alone), source, licence, permitted_use, read_from,
            sha256; nobody's data.
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
        TableError: If a column is missing or no row is left.
    """
    raw = read_raw(source, IDENTITIES.name, folders)
    mapped = map_with_faults(raw.frame, source, IDENTITIES.name, file=raw.file)
    frame = mapped.frame[[c for c in mapped.frame if c in IDENTITIES.columns]]
    if "voter_id" not in frame:
        raise TableError(
            f"{raw.file}: expected a column voter_id, got none; mend "
            "[link.voters.columns] in campaign.toml"
        )
    repeated = frame["voter_id"].duplicated(keep=False) & frame["voter_id"].notna()
    faults = problems(IDENTITIES, frame[~repeated])
    accepted = frame[~repeated & ~frame.index.isin(faults["row"])]
    if accepted.empty:
        raise TableError(f"{raw.file}: expected identities of voters, got no good row")
    reason_labels = (
        faults["column"].astype("str") + ": " + faults["reason"].astype("str")
    )
    reasons = reason_labels.value_counts()
    reason_counts = {str(reason): int(n) for reason, n in reasons.items()}
    if repeated.any():
        reason_counts["voter_id: several rows, none is kept"] = int(repeated.sum())
    rows_in = len(frame) + len(raw.broken)
    return Identities(
        check(IDENTITIES, accepted.reset_index(drop=True)),
        {
            "rows_in": rows_in,
            "accepted": len(accepted),
            "quarantined": rows_in - len(accepted),
            "reasons": reason_counts,
            "unread": {
                str(name): int(n)
                for name, n in mapped.faults["column"].value_counts().items()
            },
            "source": source.source,
            "licence": source.licence,
            "permitted_use": source.permitted_use,
            "read_from": source.read_from,
            "sha256": raw.sha256,
        },
    )


def read_provider_rows(source: TableSource, folders: Folders) -> pd.DataFrame:
    """Read what a provider delivers, as PROVIDER_ROWS.

    Args:
        source: `[providers.<name>.table]`; the columns bought are its `extra`.
        folders: Folders that the prefixes of its path name.

    Raises:
        TableError: If a column is missing.
    """
    raw = read_raw(source, PROVIDER_ROWS.name, folders)
    frame = map_with_faults(raw.frame, source, PROVIDER_ROWS.name, file=raw.file).frame
    return check(PROVIDER_ROWS, frame.reset_index(drop=True))
