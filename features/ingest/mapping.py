"""Rows of a source → rows of one of our tables, with every fault.

`map_block` maps the rows of a file block by block; `map_columns` maps a whole frame, or
the one row of a request, by the same expression, so that both are read the same way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.compute as pc

from hustings.features.engine import Queries, sql_of
from hustings.features.ingest.expressions import (
    NONE_OF_A_NUMBER,
    ROW,
    as_number,
    constant_text,
    mapping_query,
    raw_type,
)
from hustings.features.ingest.source import (
    ALL_BLOCKS,
    ColumnSource,
    TableSource,
    kind_of,
    require_columns,
    resolved,
)
from hustings.features.tables import MAPPED_TABLES, TIMESTAMP, identifying_columns

MASK = "***"
PERSONS_IDS = ("voter_id", "household_id", "cluster_id", "merged_into")
MOST_LETTERS, MOST_DIGITS, MOST_SHOWN = 3, 8, 30
"""A value with more letters or digits may be a name or a telephone."""
FAULT_COLUMNS = ["row", "column", "value", "reason"]
NUMBERS = 0.95
"""A provider column is a number where so many of its values are."""
MEMORY = "1GB"


@dataclass(frozen=True)
class Mapped:
    """Rows in our columns, and the values that could not be read.

    Attributes:
        frame: Our columns, with the source's row labels as its index.
        faults: Columns row, column, value, reason.
    """

    frame: pd.DataFrame
    faults: pd.DataFrame


class MappedBlock(NamedTuple):
    """Rows in our columns as they pass, and the values that could not be read.

    Attributes:
        rows: Our columns and `row__`.
        faults: Columns row, column, value, reason.
    """

    rows: pyarrow.Table
    faults: pd.DataFrame


def engine(spill: str) -> Any:
    """A DuckDB connection in which times are UTC.

    Args:
        spill: Folder for what does not fit into its memory; empty where all does.
    """
    import duckdb

    settings: dict[str, Any] = {
        "memory_limit": MEMORY,
        "threads": 2,
        "temp_directory": spill,
    }
    connection = duckdb.connect(config=settings)
    connection.execute("SET TimeZone = 'UTC'")
    # it would be written among what a command says
    connection.execute("SET enable_progress_bar = false")
    return connection


class MappingQueries:
    """DuckDB for mappings: plain projections, which no optimizer makes faster.

    Optimizing the query of thirty columns takes longer than a block of rows.
    """

    dialect = "duckdb"

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        connection.execute("PRAGMA disable_optimizer")
        connection.execute(
            "CREATE MACRO IF NOT EXISTS number_text(number) AS CAST(number AS VARCHAR)"
        )

    def query(self, sql: str, tables: Mapping[str, pyarrow.Table]) -> pyarrow.Table:
        """See `engine.Queries`."""
        for name, table in tables.items():
            self._connection.register(name, table)
        return self._connection.execute(sql).to_arrow_table()

    def of_thread(self) -> "MappingQueries":
        """The same for a thread that asks at the same time."""
        return MappingQueries(self._connection.cursor())


def mapping_queries() -> MappingQueries:
    """A connection of one's own for mappings."""
    return MappingQueries(engine(""))


@cache
def _shared_queries() -> MappingQueries:
    return mapping_queries()


def map_block(
    queries: Queries, raw: pyarrow.Table, source: TableSource, table_name: str
) -> MappedBlock:
    """Map raw rows; a value that cannot be read becomes missing and is a fault.

    Args:
        queries: Of `mapping_queries`, or an engine.
        raw: Rows as the source has them, with their numbers in `row__`.
        source: The mapping, every column written out.
        table_name: Which of our tables it fills.
    """
    raw = of_raw_types(raw)
    query = mapping_query(source, table_name, raw.schema, queries.dialect)
    mapped = queries.query(query.sql, {"raw": raw})
    if queries.dialect != MappingQueries.dialect:
        schema = _mapped_schema(source, table_name, raw)
        mapped = mapped.sort_by(ROW).select(schema.names).cast(schema)
    columns = {ROW: mapped[ROW]}
    faults = []
    for k, name in enumerate(query.names):
        columns[name] = mapped[f"v{k}"]
        reason = mapped[f"r{k}"]
        if reason.null_count < len(reason):
            at_fault = mapped.select([ROW, f"g{k}", f"r{k}"]).filter(
                pc.is_valid(reason)
            )
            faults.append(_faults(at_fault, name))
    return MappedBlock(pyarrow.table(columns), joined(faults))


def _mapped_schema(
    source: TableSource, table_name: str, raw: pyarrow.Table
) -> pyarrow.Schema:
    """Types that DuckDB gives of a mapping: a table has the same by every engine."""
    nothing = raw.slice(0, 0)
    query = mapping_query(source, table_name, nothing.schema, MappingQueries.dialect)
    return _shared_queries().of_thread().query(query.sql, {"raw": nothing}).schema


def of_raw_types(raw: pyarrow.Table) -> pyarrow.Table:
    """The rows in the few types that the mapping tells apart, texts without blanks."""
    for k, field in enumerate(raw.schema):
        wanted = raw_type(field.type)
        if field.type != wanted:
            column = raw.column(k)
            if pyarrow.types.is_timestamp(field.type) and field.type.tz is not None:
                column = column.cast(pyarrow.timestamp("us", "UTC"))
            raw = raw.set_column(k, field.name, column.cast(wanted, safe=False))
        if wanted == pyarrow.string():
            trimmed = pc.utf8_trim_whitespace(raw.column(k))
            raw = raw.set_column(k, field.name, trimmed)
    return raw


def _faults(rows: pyarrow.Table, column: str) -> pd.DataFrame:
    frame: pd.DataFrame = rows.rename_columns(["row", "value", "reason"]).to_pandas()
    return frame.assign(column=column)[FAULT_COLUMNS].astype(
        {"row": "int64", "column": "str", "value": "str", "reason": "str"}
    )


def map_columns(
    raw: pd.DataFrame, source: TableSource, table_name: str = "voters"
) -> pd.DataFrame:
    """Source columns → ours; a value that cannot be read becomes missing.

    Args:
        raw: Rows as the source has them.
        source: The mapping.
        table_name: Which of our tables it fills.

    Raises:
        TableError: If a column of the source is not there.
    """
    return map_with_faults(raw, source, table_name).frame


def map_with_faults(
    raw: pd.DataFrame,
    source: TableSource,
    table_name: str = "voters",
    *,
    file: str = "the rows given",
) -> Mapped:
    """Map as `map_columns`, with a list of the values that could not be read.

    Args:
        raw: Rows as the source has them, numbered by their index.
        source: The mapping.
        table_name: Which of our tables it fills.
        file: Where the rows came from, for errors.

    Raises:
        TableError: If a column of the source is not there.
    """
    source = resolved(source, list(raw.columns), table_name, file=file)
    require_columns(source, list(raw.columns), table_name, file=file)
    queries = _shared_queries().of_thread()
    block = map_block(queries, arrow_rows(raw), source, table_name)
    types = TextKinds.of(source)
    if types.unknown:
        types.add(queries, block.rows)
        typed = source.model_copy(update={"types": types.settled()})
        block = map_block(queries, arrow_rows(raw), typed, table_name)
    return as_mapped(block, table_name)


def as_mapped(block: MappedBlock, table_name: str) -> Mapped:
    """A mapped block as a frame, its rows numbered by its index."""
    frame: pd.DataFrame = block.rows.to_pandas()
    frame = frame.set_index(ROW).rename_axis(None)
    faults = masked(block.faults, table_name)
    return Mapped(with_defaults(frame, table_name), faults)


def arrow_rows(raw: pd.DataFrame) -> pyarrow.Table:
    """A frame as raw rows, numbered by its index; mixed columns become texts."""
    columns: dict[str, Any] = {ROW: pyarrow.array(raw.index, pyarrow.int64())}
    for name in raw:
        values = raw[name]
        if values.dtype == object:
            texts = [scalar_text(value) for value in values]
            columns[str(name)] = pyarrow.array(texts, pyarrow.string())
        else:
            columns[str(name)] = pyarrow.array(values, from_pandas=True)
    return pyarrow.table(columns)


def scalar_text(value: Any) -> str | None:
    """One value as the text that a file would have; None where there is none."""
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, float | np.floating) and np.isnan(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    return constant_text(value)


def mixed_array(values: Sequence[Any]) -> pyarrow.Array:
    """Values of a column that knows no type: numbers where all are, else texts."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds <= {int}:
        if all(v is None or -(1 << 63) <= v < (1 << 63) for v in values):
            return pyarrow.array(values, pyarrow.int64())
    elif kinds <= {int, float}:
        return pyarrow.array(
            [None if v is None else float(v) for v in values], pyarrow.float64()
        )
    return pyarrow.array([_cell_text(value) for value in values], pyarrow.string())


def _cell_text(value: Any) -> str | None:
    text = scalar_text(value)
    return None if text is None else text.removesuffix(" 00:00:00")


# --- types of provider columns --------------------------------------------------------


class TextKinds:
    """Counts by which a provider column turns out a number or a text.

    A number is what reads as one in nearly every row that has a value, and loses no
    leading zero by it: never is a column a text because of one cell.

    Attributes:
        unknown: Provider columns whose type is not declared.
    """

    def __init__(self, unknown: dict[str, ColumnSource], types: dict[str, Any]) -> None:
        self.unknown = unknown
        self._types = dict(types)
        self._counts = dict.fromkeys(unknown, (0, 0, 0))

    @classmethod
    def of(cls, source: TableSource) -> "TextKinds":
        """For a source with every column written out."""
        unknown = {n: c for n, c in source.extra.items() if n not in source.types}
        return cls(unknown, source.types)

    def add(self, queries: Queries, rows: pyarrow.Table) -> None:
        """Count the texts of a block.

        Args:
            queries: Of `mapping_queries`, or an engine.
            rows: Mapped rows, the columns of unknown type as texts.
        """
        if not self.unknown:
            return
        sql = _counting(tuple(self.unknown.items()), queries.dialect)
        counted = queries.query(sql, {"texts": rows.select(list(self.unknown))})
        counts = [int(column[0].as_py()) for column in counted.columns]
        for k, name in enumerate(self.unknown):
            present, numbers, codes = self._counts[name]
            added = counts[3 * k : 3 * k + 3]
            self._counts[name] = (
                present + added[0], numbers + added[1], codes + added[2]
            )  # fmt: skip

    def settled(self) -> dict[str, Any]:
        """The type of every provider column."""
        settled = {
            name: "number" if numbers and numbers >= NUMBERS * present and not codes
            else "text"
            for name, (present, numbers, codes) in self._counts.items()
        }  # fmt: skip
        empty = {
            n: "number" for n, (present, _, _) in self._counts.items() if not present
        }
        return {**self._types, **settled, **empty}


def _counting(columns: Sequence[tuple[str, ColumnSource]], dialect: str) -> str:
    """Counts of values, numbers and codes with a leading zero, column by column."""
    key = tuple((name, origin.model_dump_json()) for name, origin in columns)
    return _counting_query(key, dialect)


@cache
def _counting_query(columns: tuple[tuple[str, str], ...], dialect: str) -> str:
    import ibis

    texts = ibis.table({name: "string" for name, _ in columns}, name="texts")
    counts = {}
    for k, (name, written) in enumerate(columns):
        text = texts[name]
        none = text.lower().isin(list(NONE_OF_A_NUMBER))
        number = as_number(text, ColumnSource.model_validate_json(written))
        counts[f"present{k}"] = text.count() - none.sum().fill_null(0)
        counts[f"numbers{k}"] = number.count()
        zero = text.re_search(r"^[+-]?0\d")
        counts[f"codes{k}"] = zero.sum().fill_null(0)
    return sql_of(texts.aggregate(**counts), dialect)


# --- faults ---------------------------------------------------------------------------


def with_defaults(frame: pd.DataFrame, table_name: str) -> pd.DataFrame:
    """One block where none is named, and no value where one may be missing."""
    ours = MAPPED_TABLES[table_name].columns
    if "block" in ours and "block" not in frame:
        frame["block"] = pd.Series(ALL_BLOCKS, index=frame.index, dtype="str")
    for name, column in ours.items():
        if name not in frame and column.required and column.nullable:
            frame[name] = pd.Series(index=frame.index, dtype=_empty_dtype(column))
    return frame


def _empty_dtype(column: pa.Column) -> str:
    return {"text": "str", "number": "float64", "time": TIMESTAMP}[kind_of(column)]


def fault_rows(
    where: pd.Series, column: str, values: pd.Series | None, reason: str
) -> pd.DataFrame:
    """One fault per marked row."""
    if not where.any():
        return _NO_FAULTS
    rows = where.index[where.to_numpy(dtype=bool)]
    value_texts = None if values is None else values.loc[rows].astype("str").to_numpy()
    faults = pd.DataFrame({"row": rows, "column": column, "reason": reason})
    faults["value"] = pd.Series(value_texts, index=faults.index, dtype="str")
    return faults[FAULT_COLUMNS]


_NO_FAULTS = pd.DataFrame(
    {
        "row": pd.Series(dtype="int64"),
        "column": pd.Series(dtype="str"),
        "value": pd.Series(dtype="str"),
        "reason": pd.Series(dtype="str"),
    }
)


def example_of(row: int, column: str, value: Any) -> str:
    """A row that shows a fault: its number, and the value that came as far as it may.

    A value may be of a person, in whatever column it stands: ids are left out, and what
    is longer than a code, a number or a date shows its look alone, letters as `a` and
    digits as `9`.

    >>> example_of(6, "income", "$52,340"), example_of(7, "income", "Pat Rivera")
    ('row 6: $52,340', 'row 7: aaa aaaaaa')
    """
    text = scalar_text(value)
    if text is None or any(name in column for name in PERSONS_IDS):
        return f"row {row}"
    return f"row {row}: {as_it_looks(text)[:MOST_SHOWN]}"


def as_it_looks(text: str) -> str:
    """A text that may be of a person by its look alone; a code or number as it is.

    >>> as_it_looks("pat@example.org"), as_it_looks("(555) 010-9999 x12")
    ('aaa@aaaaaaa.aaa', '(999) 999-9999 a99')
    """
    n_letters = sum(letter.isalpha() for letter in text)
    n_digits = sum(sign.isdigit() for sign in text)
    word = text.lower() in NONE_OF_A_NUMBER
    if word or (n_letters <= MOST_LETTERS and n_digits <= MOST_DIGITS):
        return text
    return "".join(
        "a" if sign.isalpha() else "9" if sign.isdigit() else sign for sign in text
    )


def joined(faults: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Several tables of faults as one, each fault once."""
    non_empty = [f for f in faults if len(f)]
    if not non_empty:
        return _NO_FAULTS.copy()
    joined = pd.concat(non_empty, ignore_index=True)
    return joined.drop_duplicates(["row", "column", "reason"], ignore_index=True)


def masked(faults: pd.DataFrame, table_name: str) -> pd.DataFrame:
    """The faults, without the values of identifying columns.

    Of all other columns a value that may be of a person, such as a name, an address or
    a telephone number in a field of another kind, shows its look alone.
    """
    identifying = list(identifying_columns(MAPPED_TABLES[table_name]))
    if faults.empty:
        return faults
    hidden = faults["column"].isin(identifying) & faults["value"].notna()
    by_look = faults["value"].map(as_it_looks, na_action="ignore").astype("str")
    return faults.assign(value=by_look.mask(hidden, MASK))
