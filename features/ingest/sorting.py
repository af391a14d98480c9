"""A table on its way: rows accepted so far, faults of the others, and its report."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from hustings.features.ingest.mapping import example_of, fault_rows, joined, masked
from hustings.features.ingest.rows import Losses
from hustings.features.ingest.source import TableSource
from hustings.features.ingest.voters import StoredVoters
from hustings.features.tables import (
    RAW_TABLES,
    REQUIRED_TABLES,
    TableError,
    check,
    problems,
)

LEFT_THE_FILE = "a voter who was in an earlier voter file and has left it"
"""No loss of a file: voters come and go, and what was sent to them stays sent."""
N_LARGEST = 3
"""So many reasons are named where too much was set aside."""


@dataclass
class SortedTable:
    """A table on its way: the rows accepted so far and the faults of the others.

    Attributes:
        name: The table.
        source: With every column and type written out.
        frame: Rows accepted so far, by their number; of the voters nothing.
        sha256: Digest of what was read.
        rows_in: Rows that belong to the table.
        losses: Values lost without their row; None of what was not read.
        faults: Of the rows set aside.
        forgotten: Rows of persons who asked to be forgotten.
        left_the_file: The campaign's own rows whose voters are in no file any more.
        not_belonging: Rows of the source that the table's filter leaves out.
        lines: Physical lines of a text file.
        left_out: Provider columns that were not taken, with the reason.
        notes: What a person should know of how it was read.
        stored: The voters.
    """

    name: str
    source: TableSource
    frame: pd.DataFrame
    sha256: str
    rows_in: int
    losses: Losses | None = None
    faults: list[pd.DataFrame] = field(default_factory=list)
    forgotten: int = 0
    left_the_file: int = field(default=0, init=False)
    not_belonging: int = 0
    lines: int | None = None
    left_out: dict[str, str] = field(default_factory=dict, init=False)
    notes: list[str] = field(default_factory=list)
    stored: StoredVoters | None = field(default=None, init=False)
    _voters: list[pd.Series] = field(default_factory=list, init=False)

    @property
    def voters(self) -> StoredVoters:
        """The checked voters.

        Raises:
            ValueError: If this is another table.
        """
        if self.stored is None:
            raise ValueError(f"expected the voters, got the table {self.name}")
        return self.stored

    @property
    def accepted(self) -> int:
        """Rows accepted so far."""
        return len(self.frame) if self.stored is None else self.stored.n_rows

    def set_aside(self, faults: pd.DataFrame) -> None:
        """Take the rows at fault out of the frame."""
        if len(faults):
            self.faults.append(masked(faults, self.name))
            at_fault = self.frame.index.isin(faults["row"])
            if "voter_id" in self.frame:
                self._voters.append(self.frame.loc[at_fault, "voter_id"].dropna())
            self.frame = self.frame[~at_fault]

    def quarantined_voters(self) -> pd.DataFrame:
        """Row and voter_id of every row set aside that names a voter."""
        ids = pd.concat([pd.Series([], dtype="str"), *self._voters])
        return pd.DataFrame(
            {
                "table": pd.Series(self.name, index=range(len(ids)), dtype="str"),
                "row": ids.index.astype("int64"),
                "voter_id": ids.astype("str").to_numpy(),
            }
        )

    def name_voters(self, voter_ids: pd.Series) -> None:
        """Say whose rows were set aside, by the number of the row."""
        self._voters.append(voter_ids.dropna())

    def quarantined(self) -> pd.DataFrame:
        """Every fault, as QUARANTINE has it."""
        faults = joined(self.faults)
        faults.insert(0, "table", pd.Series(self.name, index=faults.index, dtype="str"))
        return faults

    def check_share(self) -> None:
        """Refuse to go on where more rows were set aside than the table may lose.

        Raises:
            TableError: With the largest reasons and an example row of each.
        """
        require_few(
            self.name, self.source, self.quarantined(),
            rows_in=self.rows_in, ordinary=frozenset({LEFT_THE_FILE}),
        )  # fmt: skip

    def report(self) -> dict[str, Any]:
        """What became of every row.

        Raises:
            TableError: If rows were lost.
        """
        faults = self.quarantined()
        quarantined = int(faults["row"].nunique())
        if self.rows_in != self.accepted + quarantined + self.forgotten:
            raise TableError(
                f"table {self.name}: {self.rows_in} rows in, but {self.accepted} "
                f"accepted, {quarantined} quarantined and {self.forgotten} forgotten"
            )
        return {
            "rows_in": self.rows_in,
            "accepted": self.accepted,
            "quarantined": quarantined,
            "forgotten": self.forgotten,
            "left_the_file": self.left_the_file,
            "not_belonging": self.not_belonging,
            "lines": self.lines,
            "reasons": reasons_in(faults),
            "examples": examples_in(faults),
            "values_lost": {} if self.losses is None else self.losses.as_json(),
            "left_out": self.left_out,
            "notes": self.notes,
            "types": dict(self.source.types),
            "source": self.source.source,
            "licence": self.source.licence,
            "permitted_use": self.source.permitted_use,
            "read_from": self.source.read_from,
            "sha256": self.sha256,
        }

    def checked(self) -> pd.DataFrame:
        """The accepted rows in the order of the declaration."""
        schema = RAW_TABLES[self.name]
        ordered = [c for c in schema.columns if c in self.frame]
        undeclared = [c for c in self.frame if c not in schema.columns]
        return check(schema, self.frame[ordered + undeclared].reset_index(drop=True))

    def keep_declared(self) -> None:
        """Set aside duplicates and the rows that break the table's own declaration.

        Raises:
            TableError: If the table as a whole breaks it, or no row is left.
        """
        self.set_aside(repeated_keys(self.name, self.frame))
        faults = problems(RAW_TABLES[self.name], self.frame)
        table_faults = faults[faults["row"] == -1]
        if len(table_faults):
            column, reason = table_faults.iloc[0][["column", "reason"]]
            raise TableError(f"table {self.name}, column {column!r}: {reason}")
        self.set_aside(faults[["row", "column", "value", "reason"]])
        self.check_any_left()

    def check_any_left(self) -> None:
        """Refuse a table that has to be there and has no row left.

        Raises:
            TableError: With the largest reasons.
        """
        brought = self.name in REQUIRED_TABLES and self.source.rows != []
        if self.accepted or not brought:
            return
        why = largest_in(self.quarantined()) or "it is empty"
        raise TableError(
            f"table {self.name}: expected rows, got none out of {self.rows_in} in "
            f"{self.source.read_from}: {why}"
        )


ReadTables = dict[str, SortedTable]


def repeated_keys(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Faults of rows that have one key.

    Of equal rows the first is kept; of differing ones none, but of responses the first.

    Args:
        name: Of the table.
        frame: Its rows by their number.
    """
    key = list(RAW_TABLES[name].unique or [])
    if not set(key) <= set(frame.columns):
        return joined([])
    again = frame[frame.duplicated(key, keep=False) & frame[key].notna().all(axis=1)]
    if again.empty:
        return joined([])
    differing = again.drop_duplicates().duplicated(key, keep=False)
    differs = pd.MultiIndex.from_frame(again[key]).isin(
        pd.MultiIndex.from_frame(again.loc[differing.index[differing], key])
    )
    if name == "responses":
        # a new answer never removes an old one
        differs &= again.duplicated(key).to_numpy()
    repeats = again.duplicated(key).to_numpy() & ~differs
    key_name = ", ".join(key)
    key_texts = again[key].astype("str").agg(", ".join, axis=1)
    equal = fault_rows(
        pd.Series(repeats, again.index), key_name, key_texts,
        "duplicate key: the rows are equal and the first is kept",
    )  # fmt: skip
    unequal = fault_rows(
        pd.Series(differs, again.index), key_name, key_texts,
        "duplicate key: the rows differ and "
        + ("the first" if name == "responses" else "none")
        + " is kept",
    )  # fmt: skip
    return joined([equal, unequal])


def reasons_in(faults: pd.DataFrame) -> dict[str, int]:
    """How often each reason was given, the most frequent first.

    Args:
        faults: FAULT_COLUMNS.
    """
    if faults.empty:
        return {}
    counts = (faults["column"] + ": " + faults["reason"]).value_counts()
    return {str(reason): int(n) for reason, n in counts.items()}


def examples_in(faults: pd.DataFrame) -> dict[str, str]:
    """A row of each reason, and the value that came unless it identifies.

    Args:
        faults: FAULT_COLUMNS, masked.
    """
    if faults.empty:
        return {}
    faults = faults.assign(key=faults["column"] + ": " + faults["reason"])
    first = faults.drop_duplicates("key")
    rows = first[["key", "row", "column", "value"]].itertuples(index=False)
    return {key: example_of(row, column, value) for key, row, column, value in rows}


def largest_in(faults: pd.DataFrame) -> str:
    """The largest reasons, each with its number of rows and an example row.

    Args:
        faults: FAULT_COLUMNS, masked.
    """
    examples = examples_in(faults)
    return "; ".join(
        f"{n:,} × {reason} ({examples[reason]})"
        for reason, n in list(reasons_in(faults).items())[:N_LARGEST]
    )


def require_few(
    name: str,
    source: TableSource,
    faults: pd.DataFrame,
    *,
    rows_in: int,
    ordinary: frozenset[str],
) -> None:
    """Refuse to go on where more rows were set aside than a table may lose.

    Args:
        name: Of the table.
        source: Says how much it may lose.
        faults: FAULT_COLUMNS, masked.
        rows_in: Rows that belong to the table.
        ordinary: Reasons that are expected in ordinary life: their rows do not count as
            lost.

    Raises:
        TableError: With the largest reasons and an example row of each.
    """
    at_fault = faults[~faults["reason"].isin(ordinary)]
    lost = int(at_fault["row"].nunique())
    n_ordinary = int(faults["row"].nunique()) - lost
    if lost <= source.most_quarantined * rows_in:
        return
    allowing = math.ceil(100 * lost / rows_in) / 100
    apart = f" (besides {n_ordinary:,} that are expected)" if n_ordinary else ""
    raise TableError(
        f"table {name}: {lost:,} of {rows_in:,} rows of {source.read_from}{apart} "
        f"would be set aside, more than the {source.most_quarantined:.0%} that it may "
        f"lose: {largest_in(at_fault)}; "
        + source.mend(name, "columns")
        + f", or allow it by most_quarantined = {allowing:.2f}"
    )


def account_of(name: str, report: Mapping[str, Any]) -> list[str]:
    """What became of a table's rows: in = accepted + set aside, and what was lost.

    Args:
        name: Of the table.
        report: Its part of `ingest.json`.
    """
    forgotten = report["forgotten"]
    gone = f" + {forgotten:,} of persons who were forgotten" if forgotten else ""
    rows = (
        f"{name}: {report['rows_in']:,} rows in = {report['accepted']:,} accepted + "
        f"{report['quarantined']:,} set aside{gone}"
    )
    return [rows, *(f"  {sentence}" for sentence in reasons_of(report))]


def reasons_of(report: Mapping[str, Any]) -> list[str]:
    """Sentences on what a table lost, from its part of `ingest.json`."""
    sentences = [
        f"set aside, {reason}: {n:,} (such as {report['examples'][reason]})"
        for reason, n in report["reasons"].items()
    ]
    sentences += [
        f"value lost, {reason}: {lost['n']:,} (such as {lost['examples'][0]})"
        for reason, lost in report["values_lost"].items()
    ]
    sentences += [
        f"left out, {name}: {why}" for name, why in report["left_out"].items()
    ]
    if report["not_belonging"]:
        sentences.append(
            f"rows of the source that `where` leaves out: {report['not_belonging']:,}"
        )
    return [*sentences, *report["notes"]]
