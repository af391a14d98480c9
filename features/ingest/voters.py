"""The voter file, streamed: mapped, checked and written, and never held in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute as pc
import pyarrow.parquet

from hustings.features.arrays import Bools
from hustings.features.atomic import ASIDE, whole_file
from hustings.features.ingest.expressions import ROW
from hustings.features.ingest.mapping import engine, fault_rows, joined, masked
from hustings.features.ingest.rows import (
    Forgotten,
    OpenTable,
    with_numbers,
)
from hustings.features.ingest.source import TableSource
from hustings.features.persons.on_disk import ROW_GROUP, literal, quoted
from hustings.features.tables import VOTERS

_ID = "voter_id"


@dataclass
class StoredVoters:
    """Checked voters in one Parquet file.

    Attributes:
        path: The file.
        columns: Its columns.
        n_rows: Its rows.
        connection: The engine.
        earlier: Voter files of earlier deliveries, as Parquet.
    """

    path: Path
    columns: tuple[str, ...]
    n_rows: int
    connection: Any
    earlier: tuple[Path, ...]

    def is_known(self, ids: pd.Series) -> Bools:
        """Whether each id is a voter's, shape (n,)."""
        there = self.column_of(ids, _ID).index
        in_file: Bools = ids.isin(there).to_numpy(dtype=bool)
        return in_file

    def left(self, ids: pd.Series) -> Bools:
        """Whether each id is of no voter, but was in an earlier file, shape (n,)."""
        there = ~self.is_known(ids)
        before = np.zeros(len(ids), dtype=bool)
        for path in self.earlier:
            file = replace(self, path=path)
            before |= file.is_known(ids)
        return there & before

    def column_of(self, ids: pd.Series, column: str) -> pd.Series:
        """A column of the voters among some ids, by voter id."""
        distinct = pd.DataFrame({_ID: ids.dropna().astype("str").unique()})
        wanted = pyarrow.Table.from_pandas(distinct, preserve_index=False)
        self.connection.register("asked", wanted)
        rows = self.connection.execute(
            f"SELECT voter_id AS id, {quoted(column)} AS value FROM "
            f"read_parquet({literal(self.path)}) SEMI JOIN asked USING (voter_id)"
        ).to_arrow_table()
        frame: pd.DataFrame = rows.to_pandas()
        return pd.Series(
            frame["value"].to_numpy(), index=pd.Index(frame["id"], dtype="str"),
            dtype=frame["value"].dtype,
        )  # fmt: skip


@dataclass
class VoterPart:
    """Voters as mapped, on their way to the checked file.

    Attributes:
        path: All rows that could be mapped, `row__` and the texts of unknown type
            among their columns.
        table: What was read.
        connection: The engine that looks rows up.
        faults: Faults that cost their row.
        forgotten: Rows of persons who asked to be forgotten, dropped and counted.
        aside: Numbers of the rows set aside.
        ids: Their voter ids, by number.
    """

    path: Path
    table: OpenTable
    connection: Any
    faults: list[pd.DataFrame] = field(default_factory=list, init=False)
    forgotten: int = field(default=0, init=False)
    aside: set[int] = field(default_factory=set, init=False)
    ids: list[pd.Series] = field(default_factory=list, init=False)

    def set_aside(self, faults: pd.DataFrame, rows: pyarrow.Table) -> None:
        """Take rows out, and remember whose they are.

        Args:
            faults: FAULT_COLUMNS.
            rows: Mapped rows, those at fault among them.
        """
        if len(faults):
            self.faults.append(masked(faults, VOTERS.name))
            self.aside |= set(faults["row"])
            at_fault = pc.is_in(
                rows[ROW], value_set=pyarrow.array(faults["row"].unique())
            )
            id_rows = rows.select([ROW, _ID]).filter(at_fault)
            self.ids.append(_frame(id_rows)[_ID].dropna())


def map_voters(table: OpenTable, part: Path, forgotten: Forgotten) -> VoterPart:
    """Map every row of the voter file into a file aside.

    Args:
        table: The voters, open.
        part: Where the mapped rows go.
        forgotten: Whose rows are dropped.
    """
    spill = part.with_name(f".{part.name}.spill{ASIDE}")
    mapped_part = VoterPart(part, table, engine(str(spill)))
    writer: pyarrow.parquet.ParquetWriter | None = None
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        for _, block in table.blocks():
            rows, faults = block.rows, table.losses.sort(block)
            gone = forgotten(_frame(rows))
            if gone.any():
                numbers = rows[ROW].to_numpy()[gone]
                mapped_part.forgotten += int(gone.sum())
                rows = rows.filter(pyarrow.array(~gone))
                faults = faults[~faults["row"].isin(numbers)]
            if len(faults):
                mapped_part.set_aside(faults, rows)
            writer = writer or pyarrow.parquet.ParquetWriter(
                part, rows.schema, compression="snappy"
            )
            writer.write_table(rows.cast(writer.schema))
    finally:
        if writer is not None:
            writer.close()
    table.check_count()
    table.losses.check()
    return mapped_part


def _frame(rows: pyarrow.Table) -> pd.DataFrame:
    frame: pd.DataFrame = rows.to_pandas().set_index(ROW).rename_axis(None)
    return frame


def rows_of_repeated_ids(part: VoterPart) -> pd.DataFrame:
    """All rows of ids that several rows have, by their number."""
    return _rows_where(
        part,
        "voter_id IN (SELECT voter_id FROM rows GROUP BY voter_id HAVING count(*) > 1)",
    )


def rows_of(part: VoterPart, ids: Sequence[str]) -> pd.DataFrame:
    """All rows of some ids, by their number."""
    if not ids:
        return _rows_where(part, "false")
    part.connection.register(
        "asked_ids", pyarrow.table({"id": pyarrow.array(ids, pyarrow.string())})
    )
    return _rows_where(part, "voter_id IN (SELECT id FROM asked_ids)")


def _rows_where(part: VoterPart, condition: str) -> pd.DataFrame:
    connection = part.connection
    connection.register("aside", _aside(part))
    rows = connection.execute(
        f"WITH rows AS (SELECT * FROM read_parquet({literal(part.path)}) "
        f"WHERE voter_id IS NOT NULL AND {ROW} NOT IN (SELECT row FROM aside)) "
        f"SELECT * FROM rows WHERE {condition} ORDER BY {ROW}"
    ).to_arrow_table()
    return _frame(rows)


def _aside(part: VoterPart) -> pyarrow.Table:
    return pyarrow.table({"row": np.fromiter(part.aside, np.int64, len(part.aside))})


def _under_present_ids(rows: pyarrow.Table, former: Mapping[str, str]) -> pyarrow.Table:
    if not former:
        return rows
    ids = rows[_ID]
    position = pc.index_in(ids, value_set=pyarrow.array(list(former)))
    present = pyarrow.array(list(former.values())).take(position.combine_chunks())
    k = rows.column_names.index(_ID)
    return rows.set_column(k, _ID, pc.coalesce(present, ids))


def store_voters(
    part: VoterPart,
    settled: TableSource,
    former: Mapping[str, str],
    left_out: Sequence[str],
    path: Path,
    earlier: tuple[Path, ...],
) -> StoredVoters:
    """Write the accepted voters, provider columns in their types, under present ids.

    Args:
        part: The mapped rows, and those set aside.
        settled: The source with the type of every provider column.
        former: Former voter id → present one.
        left_out: Provider columns that are neither a number nor a category.
        path: The file.
        earlier: Voter files of earlier deliveries, as Parquet.
    """
    table = part.table
    columns = [
        c
        for c in _in_order(pyarrow.parquet.read_schema(part.path).names)
        if c not in left_out
    ]
    set_aside = pyarrow.array(sorted(part.aside), pyarrow.int64())
    n_rows = 0
    with whole_file(path) as aside:
        writer: pyarrow.parquet.ParquetWriter | None = None
        try:
            # read in the order of the file, which a query of several threads is not
            mapped = pyarrow.parquet.ParquetFile(part.path)
            for batch in mapped.iter_batches(ROW_GROUP, columns=[ROW, *columns]):
                rows = pyarrow.Table.from_batches([batch])
                rows = rows.filter(pc.invert(pc.is_in(rows[ROW], value_set=set_aside)))
                rows = with_numbers(rows, table, settled)
                rows = _under_present_ids(rows.drop_columns([ROW]), former)
                writer = writer or pyarrow.parquet.ParquetWriter(
                    aside, rows.schema, compression="zstd"
                )
                writer.write_table(rows, row_group_size=ROW_GROUP)
                n_rows += len(rows)
            if writer is None:
                empty = pyarrow.parquet.read_schema(part.path)
                fields = [empty.field(c) for c in columns]
                writer = pyarrow.parquet.ParquetWriter(aside, pyarrow.schema(fields))
        finally:
            if writer is not None:
                writer.close()
    table.losses.check()
    return StoredVoters(path, tuple(columns), n_rows, part.connection, earlier)


def _in_order(there: Sequence[str]) -> list[str]:
    """Our declared columns first, in their order."""
    ours = [c for c in VOTERS.columns if c in there]
    return [*ours, *(c for c in there if c not in VOTERS.columns and c != ROW)]


def merged_twice(
    part: VoterPart, old: pd.DataFrame, former: Mapping[str, str]
) -> pd.DataFrame:
    """Faults of rows whose id was merged into another id of the file.

    Args:
        part: The mapped rows.
        old: Those of them under former ids, by their number.
        former: Former voter id → present one.
    """
    if old.empty:
        return joined([])
    now = old[_ID].map(dict(former))
    there = set(rows_of(part, sorted(set(now)))[_ID])
    reason = "merged into another id of this file"
    return fault_rows(now.isin(there), _ID, old[_ID], reason)


def with_row_numbers(frame: pd.DataFrame) -> pyarrow.Table:
    """Rows by their number as a table that has the number as a column."""
    return pyarrow.Table.from_pandas(
        frame.rename_axis(ROW).reset_index(), preserve_index=False
    )
