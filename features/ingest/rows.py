"""One table of a source, block by block: its rows in our columns, and what was lost.

A value that cannot be read costs the value where its column is optional, and the row
where an id or a rule needs it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute as pc

from hustings.features.arrays import Bools
from hustings.features.engine import ONE_MACHINE, Engine, Queries, sql_of
from hustings.features.ingest.expressions import (
    PLACEHOLDER,
    ROW,
    YOUNGER,
    as_text,
    constant_text,
    kind_of_field,
)
from hustings.features.ingest.mapping import (
    FAULT_COLUMNS,
    MappedBlock,
    TextKinds,
    example_of,
    joined,
    map_block,
    mapping_queries,
    masked,
    of_raw_types,
    with_defaults,
)
from hustings.features.ingest.reading import (
    WHOLE_ROW,
    Folders,
    RawBlock,
    RawSource,
    open_raw,
)
from hustings.features.ingest.source import (
    RowFilter,
    TableSource,
    our_columns,
    resolved,
)
from hustings.features.tables import MAPPED_TABLES, TableError

OPTIONAL_VALUES = frozenset(
    {
        "voters", "identities", "provider_rows", "reactions", "linked_answers",
        "ballots",
    }
)  # fmt: skip
"""Tables in which a value that is optional may be lost without its row."""
N_EXAMPLES = 3
FEW_ROWS = 10_000
"""Fewer are mapped where they are read, whatever the engine."""


@dataclass
class Losses:
    """What could not be read of a table.

    Attributes:
        source: Of the table.
        table_name: The table.
        lost: Values lost without their row, by column and reason.
        examples: First rows of each, with the value unless it identifies somebody.
        present: Values that came, by column.
    """

    source: TableSource
    table_name: str
    lost: Counter[tuple[str, str]] = field(default_factory=Counter, init=False)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict, init=False)
    present: Counter[str] = field(default_factory=Counter, init=False)

    def sort(self, block: MappedBlock) -> pd.DataFrame:
        """Count the values that are lost alone; return the faults that cost a row."""
        for name in block.rows.column_names:
            if name != ROW:
                column = block.rows[name]
                self.present[name] += len(column) - column.null_count
        faults = block.faults
        if faults.empty:
            return faults
        alone = pd.Series(data=False, index=faults.index)
        for (column, reason), rows in cast(
            "Iterator[tuple[tuple[str, str], pd.DataFrame]]",
            iter(faults.groupby(["column", "reason"], sort=False)),
        ):
            if not self._costs_the_row(column, reason):
                alone[rows.index] = True
                self._count(column, reason, masked(rows, self.table_name))
        return faults[~alone]

    def _costs_the_row(self, column: str, reason: str) -> bool:
        if reason == YOUNGER:
            return True  # a child is nobody of unknown age
        declared = MAPPED_TABLES[self.table_name].columns.get(column)
        if declared is None:
            return False
        if self.table_name not in OPTIONAL_VALUES:
            return True
        return declared.required and not declared.nullable

    def _count(self, column: str, reason: str, rows: pd.DataFrame) -> None:
        self.lost[column, reason] += len(rows)
        if reason != PLACEHOLDER:
            self.present[column] += len(rows)
        examples = self.examples.setdefault((column, reason), [])
        first = rows[["row", "value"]].head(N_EXAMPLES - len(examples))
        for row, value in first.itertuples(index=False):
            examples.append(example_of(row, column, value))

    def by_column(self) -> Counter[str]:
        """Values lost without their row, by column."""
        counts = Counter[str]()
        for (column, _), n in self.lost.items():
            counts[column] += n
        return counts

    def check(self) -> None:
        """Refuse a column of which too many values cannot be read.

        Raises:
            TableError: Naming the column, the reason, an example and the key to mend.
        """
        unread = Counter[str]()
        for (column, reason), n in self.lost.items():
            if reason != PLACEHOLDER:
                unread[column] += n
        for column, n in unread.items():
            if n > self.source.most_unread * self.present[column]:
                (_, reason), _ = max(
                    ((k, v) for k, v in self.lost.items() if k[0] == column),
                    key=lambda pair: pair[1],
                )
                example = self.examples[column, reason][0]
                raise TableError(
                    f"table {self.table_name}: column {column!r} could not be read in "
                    f"{n:,} of {self.present[column]:,} rows: {reason} ({example}); "
                    + self.source.mend(self.table_name, f"columns.{column}")
                    + ", or allow more by most_unread"
                )

    def as_json(self) -> dict[str, Any]:
        """Values lost without their row, as `ingest.json` has them."""
        return {
            f"{column}: {reason}": {"n": n, "examples": self.examples[column, reason]}
            for (column, reason), n in self.lost.most_common()
        }


@dataclass
class OpenTable:
    """A table that is being read.

    Attributes:
        name: The table.
        source: With every column written out, and the types of provider columns once
            all blocks are read.
        raw: The source.
        losses: What could not be read.
        kinds: Types of provider columns.
        on: The engine of large tables.
        queries: What maps on this machine.
        broken: Faults of rows that could not be split into columns.
        not_belonging: Rows that the table's filter leaves out.
        rows_in: Rows that belong to the table, the broken ones included.
    """

    name: str
    source: TableSource
    raw: RawSource
    losses: Losses
    kinds: TextKinds
    on: Engine
    queries: Queries
    broken: list[pd.DataFrame] = field(default_factory=list, init=False)
    not_belonging: int = field(default=0, init=False)
    rows_in: int = field(default=0, init=False)

    def blocks(self) -> Iterator[tuple[pyarrow.Table, MappedBlock]]:
        """Raw and mapped rows in turn, the broken ones left out."""
        for together in _together(self.raw.blocks, self.on.rows_together):
            for block in together:
                self._note_lost_zeros(block.rows.schema)
                if block.broken:
                    self.broken.append(broken_rows(block.broken))
                self.rows_in += len(block.broken)
            raw = pyarrow.concat_tables([block.rows for block in together])
            queries = self.queries_of(raw)
            rows = belonging(queries, raw, self.source.where)
            self.not_belonging += len(raw) - len(rows)
            self.rows_in += len(rows)
            if len(rows):
                mapped = map_block(queries, rows, self.source, self.name)
                self.kinds.add(queries, mapped.rows)
                yield from _as_they_came(together, rows, mapped)

    def queries_of(self, rows: pyarrow.Table) -> Queries:
        """What maps some rows: few of them are not worth a journey."""
        here = self.on is ONE_MACHINE or len(rows) < FEW_ROWS
        return self.queries if here else self.on

    def _note_lost_zeros(self, schema: pyarrow.Schema) -> None:
        """Say where a code is stored as a number: its leading zeros are gone."""
        for name, kind, origin in our_columns(self.source, self.name):
            theirs = origin.column
            if kind != "text" or theirs is None or origin.digits is not None:
                continue
            if pyarrow.types.is_floating(schema.field(theirs).type):
                note = (
                    f"{name}: the column {theirs!r} holds numbers, as spreadsheets "
                    "store codes: leading zeros are lost; digits = N puts them back"
                )
                if note not in self.raw.notes:
                    self.raw.notes.append(note)

    def settled(self) -> TableSource:
        """The source with the types of provider columns, once all blocks are read."""
        types = {"types": self.kinds.settled()}
        return self.source.model_copy(update=types).located(self.source._lines)

    def check_count(self) -> None:
        """Compare the rows with the records that the scanner counted.

        Raises:
            TableError: If they differ.
        """
        scanned = self.raw.scanned
        if scanned is None:
            return
        n_read = self.rows_in + self.not_belonging
        if n_read != scanned.records - self.raw.n_header:
            raise TableError(
                f"{self.raw.file}: expected the rows of {scanned.records:,} records, "
                f"got {n_read:,}"
            )


def _together(blocks: Iterator[RawBlock], n_rows: int) -> Iterator[list[RawBlock]]:
    """Neighbouring blocks of the same types that have so many rows together."""
    together: list[RawBlock] = []
    for block in blocks:
        if together and (
            sum(len(b.rows) for b in together) >= n_rows
            or block.rows.schema != together[0].rows.schema
        ):
            yield together
            together = []
        together.append(block)
    if together:
        yield together


def _as_they_came(
    together: Sequence[RawBlock], raw: pyarrow.Table, mapped: MappedBlock
) -> Iterator[tuple[pyarrow.Table, MappedBlock]]:
    """Raw and mapped rows by the blocks of the source: its faults keep their order."""
    if len(together) == 1:
        yield raw, mapped
        return
    number, at_fault = raw[ROW].to_numpy(), mapped.faults["row"]
    first = 0
    for block in together:
        if not len(block.rows):
            continue
        last = block.rows[ROW][-1].as_py()
        end = int(np.searchsorted(number, last, side="right"))
        of_block = at_fault.between(block.rows[ROW][0].as_py(), last)
        if end > first:
            yield (
                raw.slice(first, end - first),
                MappedBlock(
                    mapped.rows.slice(first, end - first),
                    mapped.faults[of_block].reset_index(drop=True),
                ),
            )
        first = end


def open_table(
    source: TableSource, name: str, folders: Folders, on: Engine
) -> OpenTable:
    """Open a table for reading.

    Args:
        source: Where it lies.
        name: Of the table.
        folders: Folders that the prefixes of a path name.
        on: The engine that maps its rows.

    Raises:
        TableError: If the source lacks a column, or is not in its encoding.
        DataMissing: If there is no such file, package or database.
    """
    raw = open_raw(source, name, folders)
    full = resolved(source, raw.there, name, file=raw.file)
    return OpenTable(
        name, full, raw, Losses(full, name), TextKinds.of(full), on, mapping_queries()
    )


@dataclass(frozen=True)
class RowsRead:
    """A whole table in our columns, checked value by value.

    Attributes:
        frame: Its rows by their number in the source, those at fault among them.
        faults: FAULT_COLUMNS, of values that cost their row, and of broken rows, which
            are not in the frame.
        table: What was read.
        strata: Values of `estimate_by`; None where nothing is estimated.
    """

    frame: pd.DataFrame
    faults: pd.DataFrame
    table: OpenTable
    strata: pd.Series | None = None

    @property
    def rows_in(self) -> int:
        """Rows that belong to the table, the broken ones included."""
        return self.table.rows_in


def read_rows(
    source: TableSource, name: str, folders: Folders, on: Engine = ONE_MACHINE
) -> RowsRead:
    """Read a whole table into memory.

    Args:
        source: Where it lies.
        name: Of the table.
        folders: Folders that the prefixes of a path name.
        on: The engine that maps its rows.

    Raises:
        TableError: If the source lacks a column, cannot be read, or loses too much.
        DataMissing: If there is no such file, package or database.
    """
    table = open_table(source, name, folders, on)
    parts, faults, strata = [], list[pd.DataFrame](), list[pd.Series]()
    for raw, mapped in table.blocks():
        faults.append(table.losses.sort(mapped))
        parts.append(mapped.rows)
        if source.estimate_by is not None:
            values = raw[source.estimate_by].to_pandas()
            strata.append(values.set_axis(raw[ROW].to_pandas()))
    table.check_count()
    table.losses.check()
    settled = table.settled()
    if parts:
        rows = pyarrow.concat_tables(parts)
    else:
        nothing = dict.fromkeys(table.raw.there, pyarrow.array([], pyarrow.string()))
        numbers = pyarrow.array([], pyarrow.int64())
        empty = pyarrow.table({**nothing, ROW: numbers})
        rows = map_block(table.queries, empty, table.source, name).rows
    rows = with_numbers(rows, table, settled)
    frame = rows.to_pandas().set_index(ROW).rename_axis(None)
    all_faults = masked(joined([*table.broken, *faults]), name)
    return RowsRead(
        with_defaults(frame, name),
        all_faults,
        table,
        pd.concat(strata) if strata else None,
    )


def with_numbers(
    rows: pyarrow.Table, table: OpenTable, settled: TableSource
) -> pyarrow.Table:
    """Provider columns that turned out numbers as such; other values are lost.

    Args:
        rows: Mapped rows, these columns as texts.
        table: Its losses are counted.
        settled: The source with the type of every provider column.
    """
    numbers = {
        name: origin.model_copy(update={"column": name, "map": None, "default": None,
                                        "keep": False, "value": None,
                                        "row_number": None, "digits": None})
        for name, origin in table.kinds.unknown.items()
        if settled.types[name] == "number"
    }  # fmt: skip
    if not numbers:
        return rows
    again = TableSource(
        rows=[], source="-", licence="-", permitted_use="-", extra=numbers,
        types=dict.fromkeys(numbers, "number"),
    )  # fmt: skip
    texts = rows.select([ROW, *numbers])
    typed = map_block(table.queries_of(texts), texts, again, table.name)
    table.losses.sort(MappedBlock(typed.rows.select([ROW]), typed.faults))
    for name in numbers:
        position = rows.column_names.index(name)
        rows = rows.set_column(position, name, typed.rows[name])
    return rows


def broken_rows(broken: list[tuple[int, str]]) -> pd.DataFrame:
    """Faults of rows that could not be split into columns."""
    return pd.DataFrame(
        {
            "row": [row for row, _ in broken],
            "column": WHOLE_ROW,
            "value": pd.Series([None] * len(broken), dtype="str"),
            "reason": [reason for _, reason in broken],
        }
    )[FAULT_COLUMNS]


def belonging(
    queries: Queries, rows: pyarrow.Table, where: RowFilter | None
) -> pyarrow.Table:
    """The rows of a block that a table's filter lets through."""
    if where is None or not len(rows):
        return rows
    import ibis

    kind = kind_of_field(rows.schema.field(where.column).type)
    table = ibis.table({ROW: "int64", where.column: kind}, name="raw")
    query = table.select(ROW, text=as_text(table[where.column], kind))
    raw = of_raw_types(rows.select([ROW, where.column]))
    texts = queries.query(sql_of(query, queries.dialect), {"raw": raw})
    text = pc.fill_null(texts.sort_by(ROW)["text"], "")
    if where.not_equals is not None:
        belongs = pc.not_equal(text, constant_text(where.not_equals) or "")
    else:
        wanted = [where.equals] if where.isin is None else where.isin
        texts = pyarrow.array([constant_text(value) or "" for value in wanted])
        belongs = pc.is_in(text, value_set=texts)
    return rows.filter(belongs)


Forgotten = Callable[[pd.DataFrame], Bools]
"""Rows of a table that are of somebody who asked to be forgotten."""
