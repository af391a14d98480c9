"""Queries over Parquet files that do not fit into memory."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa

from hustings.features.atomic import ASIDE
from hustings.features.atomic import ROW_GROUP as ROW_GROUP

MEMORY = "1GB"
MOST_THREADS = 4
"""More would need more than `MEMORY` for an electorate of 50 million."""


@contextmanager
def connected(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB that keeps to `MEMORY`, in no order of rows that is not asked for.

    Args:
        folder: Gets, while the block runs, a folder for what does not fit.
    """
    with TemporaryDirectory(prefix=".query-", suffix=ASIDE, dir=folder) as spilled:
        settings: dict[str, Any] = {
            "memory_limit": MEMORY, "temp_directory": spilled,
            "threads": min(os.cpu_count() or 1, MOST_THREADS),
            "preserve_insertion_order": False, "autoinstall_known_extensions": False,
        }  # fmt: skip
        with duckdb.connect(config=settings) as connection:
            # it would be written among what a command says
            connection.execute("SET enable_progress_bar = false")
            yield connection


def columns_of(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, str]:
    """DuckDB's type of every column of a table or view, in their order."""
    rows = connection.execute(f"DESCRIBE {name}").fetchall()
    return {row[0]: row[1] for row in rows}


def view(connection: duckdb.DuckDBPyConnection, name: str, path: Path) -> None:
    """Give a Parquet file a name in queries."""
    connection.execute(f"CREATE VIEW {name} AS FROM read_parquet({literal(path)})")


def enter_pairs(
    connection: duckdb.DuckDBPyConnection, name: str, pairs: Mapping[str, str]
) -> None:
    """A table of former and present ids, columns `old` and `now`."""
    columns = {"old": list(pairs), "now": list(pairs.values())}
    table = pa.table(columns, schema=pa.schema(dict.fromkeys(columns, pa.string())))
    connection.register(f"{name}_given", table)
    connection.execute(f"CREATE TEMP TABLE {name} AS FROM {name}_given")


def literal(text: object) -> str:
    """A text as SQL has it."""
    return "'" + str(text).replace("'", "''") + "'"


def quoted(column: str) -> str:
    """A column's name as SQL has it."""
    return '"' + column.replace('"', '""') + '"'
