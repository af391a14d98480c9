"""Tables of databases and warehouses → raw rows in batches."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow
import pyarrow.csv

from hustings.features.ingest.source import TableSource
from hustings.features.tables import TableError

BATCH_ROWS = 1 << 16
WAREHOUSES = {"bigquery": "bigquery", "snowflake": "snowflake", "redshift": "redshift"}
"""Dialects of warehouses, reached through ibis where its driver for one is there."""

_Choose = Callable[[Sequence[str]], list[str]]
_Read = tuple[list[str], Iterator[pyarrow.Table]]


class DataMissing(TableError):  # noqa: N818 - the field's word
    """A declared file, package or database is not there."""


def database_batches(source: TableSource, campaign: Path, chosen: _Choose) -> _Read:
    """Columns of a table, and its rows in batches of only those that are chosen.

    Args:
        source: Its `database` and `table`.
        campaign: Folder of campaign.toml, which files are relative to.
        chosen: Columns that are there → those that are read.

    Raises:
        TableError: If there is no such table, or the number of its rows is another
            than the database counts.
        DataMissing: If there is no such database, or its driver is not installed.
    """
    address, table = str(source.database), str(source.table)
    kind = address.partition(":")[0]
    readers = {
        "duckdb": _from_duckdb,
        "sqlite": _from_sqlite,
        "postgresql": _from_postgresql,
        **dict.fromkeys(WAREHOUSES, _from_warehouse),
    }
    if kind not in readers:
        raise TableError(
            "expected a database address that begins with duckdb:///, sqlite:/// or "
            f"postgresql:// (or of {', '.join(WAREHOUSES)}), got {kind!r}"
        )
    return readers[kind](address, table, campaign, chosen)


def _counted(
    batches: Iterator[pyarrow.Table], n_rows: int, table: str
) -> Iterator[pyarrow.Table]:
    """The batches, whose rows must be as many as the database counts."""
    n_read = 0
    for batch in batches:
        n_read += len(batch)
        yield batch
    if n_read != n_rows:
        raise TableError(
            f"table {table}: expected {n_rows:,} rows as the database counts, got "
            f"{n_read:,}"
        )


def _database_file(address: str, campaign: Path) -> Path:
    path = campaign / urlsplit(address).path.removeprefix("/")
    if not path.is_file():
        raise DataMissing(f"expected a database at {address}, got no such file")
    return path


def _quoted(name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def _select(columns: Sequence[str], table: str) -> str:
    column_list = ", ".join('"' + c.replace('"', '""') + '"' for c in columns)
    return f"SELECT {column_list} FROM {_quoted(table)}"


def _count(table: str) -> str:
    return f"SELECT count(*) FROM {_quoted(table)}"


def _no_table(table: str, failure: Exception) -> TableError:
    first_line = str(failure).strip().splitlines()[0]
    return TableError(f"expected a table {table} in the database: {first_line}")


def _from_duckdb(address: str, table: str, campaign: Path, chosen: _Choose) -> _Read:
    import duckdb

    connection = duckdb.connect(str(_database_file(address, campaign)), read_only=True)
    try:
        empty = connection.execute(f"SELECT * FROM {_quoted(table)} LIMIT 0")
        there = [column[0] for column in empty.description or []]
        wanted = chosen(there)
        n_rows = connection.execute(_count(table)).fetchone()[0]  # type: ignore[index]
    except duckdb.Error as failure:
        connection.close()
        raise _no_table(table, failure) from None

    def batches() -> Iterator[pyarrow.Table]:
        with connection:
            reader = connection.execute(_select(wanted, table))
            for batch in reader.to_arrow_reader(BATCH_ROWS):
                yield pyarrow.Table.from_batches([batch])

    return there, _counted(batches(), n_rows, table)


def _from_sqlite(address: str, table: str, campaign: Path, chosen: _Choose) -> _Read:
    path = _database_file(address, campaign)
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        empty = connection.execute(f"SELECT * FROM {_quoted(table)} LIMIT 0")
        there = [column[0] for column in empty.description]
        wanted = chosen(there)
        (n_rows,) = connection.execute(_count(table)).fetchone()
    except sqlite3.Error as failure:
        connection.close()
        raise _no_table(table, failure) from None

    def batches() -> Iterator[pyarrow.Table]:
        from hustings.features.ingest.mapping import mixed_array

        try:
            cursor = connection.execute(_select(wanted, table))
            while rows := cursor.fetchmany(BATCH_ROWS):
                columns = zip(*rows, strict=True)
                yield pyarrow.table(
                    [mixed_array(values) for values in columns], names=wanted
                )
        finally:
            connection.close()

    return there, _counted(batches(), n_rows, table)


def postgresql_session(address: str) -> tuple[Any, Any]:
    """A session of PostgreSQL, and the module of its driver.

    Raises:
        DataMissing: If the server does not answer, or the driver is not installed.
    """
    try:
        import psycopg
        import psycopg.sql
    except ImportError:
        raise DataMissing(
            "a table in PostgreSQL needs psycopg: pip install 'hustings[postgres]'"
        ) from None
    try:
        return psycopg.connect(address, client_encoding="utf8"), psycopg
    except psycopg.OperationalError as failure:
        first_line = str(failure).strip().splitlines()[0]
        raise DataMissing(f"expected a database at {address}: {first_line}") from None


def warehouse_of(address: str) -> Any:
    """A warehouse's engine of ibis.

    Raises:
        DataMissing: If its driver is not installed.
    """
    import ibis

    kind = address.partition(":")[0]
    try:
        # Redshift speaks the protocol and the SQL of PostgreSQL
        return ibis.connect(address.replace("redshift://", "postgres://", 1))
    except (ImportError, AttributeError) as failure:
        raise DataMissing(
            f"a table in {kind} needs its driver: pip install 'ibis-framework[{kind}]' "
            f"({failure})"
        ) from None


def _from_postgresql(
    address: str,
    table: str,
    campaign: Path,  # noqa: ARG001 - as the other readers
    chosen: _Choose,
) -> _Read:
    session, psycopg = postgresql_session(address)
    session.read_only = True
    # the rows that are counted are those that are read
    session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    try:
        session.execute("SET datestyle = ISO")
        empty = session.execute(f"SELECT * FROM {_quoted(table)} LIMIT 0")
        there = [column.name for column in empty.description or []]
        wanted = chosen(there)
        (n_rows,) = session.execute(_count(table)).fetchone()
    except psycopg.Error as failure:
        session.close()
        raise _no_table(table, failure) from None

    def batches() -> Iterator[pyarrow.Table]:
        with session, session.cursor(name="rows") as cursor:
            cursor.itersize = BATCH_ROWS
            columns = ", ".join(
                f'"{c.replace(chr(34), chr(34) * 2)}"::text' for c in wanted
            )
            cursor.execute(f"SELECT {columns} FROM {_quoted(table)}")
            while rows := cursor.fetchmany(BATCH_ROWS):
                arrays = [
                    pyarrow.array(values, pyarrow.string())
                    for values in zip(*rows, strict=True)
                ]
                yield pyarrow.table(arrays, names=wanted)

    return there, _counted(batches(), n_rows, table)


def _from_warehouse(
    address: str,
    table: str,
    campaign: Path,  # noqa: ARG001 - as the other readers
    chosen: _Choose,
) -> _Read:
    backend = warehouse_of(address)
    schema, _, name = table.rpartition(".")
    rows = backend.table(name, database=schema or None)
    there = list(rows.columns)
    wanted = chosen(there)
    n_rows = int(rows.count().execute())
    read = warehouse_rows(rows, wanted).to_pyarrow_batches(chunk_size=BATCH_ROWS)
    batches = (pyarrow.Table.from_batches([batch]) for batch in read)
    return there, _counted(batches, n_rows, table)


def warehouse_rows(rows: Any, wanted: Sequence[str]) -> Any:
    """The columns that are read of a warehouse's table, numbers as exact texts.

    Args:
        rows: The table, as ibis has it.
        wanted: Its columns that are read.
    """
    exact = {
        name: rows[name].cast("string")
        for name in wanted
        if rows[name].type().is_integer() or rows[name].type().is_decimal()
    }
    return rows.select(*(exact.get(name, rows[name]).name(name) for name in wanted))
