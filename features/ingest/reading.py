"""Files and databases → raw rows, only the columns that a mapping names.

Text files are read as text, so that leading zeros and bad values survive. No other
module of the project opens a raw file.
"""

import csv
import gzip
import hashlib
import importlib.util
import io
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from hustings.features.ingest.mapping import (
    TableSource,
    as_text,
    joined,
    require_columns,
    resolved,
    wanted_columns,
)
from hustings.features.ingest.text_format import (
    TextFormat,
    column_names,
    detected,
    open_bytes,
)
from hustings.features.tables import TableError

WHOLE_ROW = "(row)"
"""The `column` of a fault that lies in the row as a whole."""
_PARQUET = {".parquet", ".pq"}


class DataMissing(TableError):  # noqa: N818 - the field's word
    """A declared file, package or database is not there."""


# --- reading --------------------------------------------------------------------------


@dataclass(frozen=True)
class Folders:
    """Folders that the prefixes of a path name.

    Attributes:
        campaign: Folder of campaign.toml.
        data: Folder of public data, `data:`.
        raw: Folder of generated sample data, `raw:`; None where there is none.
    """

    campaign: Path
    data: Path
    raw: Path | None = None


@dataclass(frozen=True)
class Raw:
    """Rows as read.

    Attributes:
        frame: Only the columns wanted; index = row in the source, from 1.
        there: Every column of the source.
        sha256: Of the file, or of the rows' content where there is no file.
        file: Name for errors.
        broken: Faults of rows that could not be split into columns.
    """

    frame: pd.DataFrame
    there: list[str]
    sha256: str
    file: str
    broken: pd.DataFrame = field(default_factory=lambda: joined([]))


_Choose = Callable[[Sequence[str]], list[str]]


def read_raw(source: TableSource, table_name: str, folders: Folders) -> Raw:
    """The rows of a source, only the columns that the mapping names.

    Raises:
        TableError: If the source lacks a column, or is not in its encoding.
        DataMissing: If there is no such file, package or database.
    """
    name = source.read_from

    def chosen(there: Sequence[str]) -> list[str]:
        mapping = resolved(source, there, table_name, file=name)
        require_columns(mapping, there, table_name, file=name)
        return list(dict.fromkeys(column for _, column in wanted_columns(mapping)))

    if source.rows is not None:
        raw = _read_rows(source.rows, name, chosen)
    elif source.database is not None:
        raw = _read_database(source, folders, chosen)
    else:
        raw = _read_file(source, file_path(source, table_name, folders), chosen)
    return raw


def raw_head(
    path: Path, *, written: TextFormat | None = None, n_rows: int
) -> pd.DataFrame:
    """The first rows of a file as they stand, every column.

    Args:
        path: A Parquet file, a workbook or a text file, packed or not.
        written: How a text file is written; as `detected` without.
        n_rows: At most so many.

    Returns:
        Texts, but for Parquet. A file without a header has columns `column_1` and so
        on; lines of another width than the first are left out.

    Raises:
        TableError: If the file has no rows, or its header a name twice.
    """
    if path.suffix in _PARQUET:
        parquet = pyarrow.parquet.ParquetFile(path)
        batch = next(parquet.iter_batches(batch_size=n_rows), None)
        return pd.DataFrame() if batch is None else batch.to_pandas()
    written = written or detected(path)
    with (
        open_bytes(path, member=written.member) as packed,
        io.TextIOWrapper(packed, encoding=written.codec, newline="") as text,
    ):
        rows = written.rows(text)
        first = next(rows, [])
        if written.header:
            names, complete_rows = column_names(first, path.name), []
        else:
            names = [f"column_{k + 1}" for k in range(len(first))]
            complete_rows = [first]
        complete_rows += [r for r in islice(rows, n_rows) if len(r) == len(names)]
    return pd.DataFrame(complete_rows[:n_rows], columns=names, dtype="str")


def _opened(path: Path, encoding: str) -> TextIO:
    """A text file, packed or not; a byte order mark before UTF-8 is no text."""
    codec = "utf-8-sig" if encoding == "utf-8" else encoding
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=codec, newline="")
    return path.open(encoding=codec, newline="")


def file_path(source: TableSource, table_name: str, folders: Folders) -> Path:
    """Where the file of a source lies.

    Raises:
        DataMissing: If it is not there; the message says what the file is, where it
            was published and what to set or install.
    """
    declared = str(source.path)
    prefix, _, rest = declared.partition(":")
    if prefix == "package":
        path, how = _package_path(rest)
    elif prefix == "data":
        path = folders.data / rest
        how = f"put it at {path}, or set HUSTINGS_DATA to the folder that has it"
    elif prefix == "raw":
        path = (folders.raw or folders.campaign) / rest
        how = "it is made by the campaign's [simulate] section"
    else:
        path = folders.campaign / declared
        how = source.mend(table_name, "path")
    if path is None or not path.is_file():
        raise DataMissing(
            f"table {table_name} needs the file {declared}, which is not there: {how}. "
            f"The data: {source.published or source.source}"
        )
    return path


def _package_path(rest: str) -> tuple[Path | None, str]:
    """A file inside a package, found without importing the package."""
    package, _, inside = rest.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None, (
            f"the package {package} is not installed; "
            "pip install 'hustings[examples]' brings the packages of the examples"
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    return root / inside, f"the installed package {package} has no such file"


def _read_rows(rows: Sequence[Mapping[str, Any]], name: str, chosen: _Choose) -> Raw:
    frame = numbered(pd.DataFrame(list(rows), dtype=object))
    there = list(frame.columns)
    return Raw(frame[chosen(there)], there, content_sha256(frame), name)


def numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its rows numbered from 1."""
    return frame.set_axis(pd.RangeIndex(1, len(frame) + 1))


def content_sha256(frame: pd.DataFrame) -> str:
    """Digest of a table's content, the same in any order of its rows."""
    names = sorted(str(name) for name in frame)
    texts = pd.DataFrame({name: as_text(frame[name]) for name in names})
    rows = np.sort(pd.util.hash_pandas_object(texts, index=False).to_numpy())
    digest = hashlib.sha256("\x1f".join(texts.columns).encode())
    digest.update(rows.tobytes())
    return digest.hexdigest()


@cache
def _digest_of(path: Path, _modified_ns: int, _bytes: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sha256(path: Path) -> str:
    """Digest of a file, read in pieces, once as long as it does not change."""
    status = path.stat()
    return _digest_of(path, status.st_mtime_ns, status.st_size)


def _read_file(source: TableSource, path: Path, chosen: _Choose) -> Raw:
    kind = source.format or _format_of(path, source)
    try:
        if kind == "parquet":
            return _read_parquet(path, chosen)
        if kind == "fixed":
            return _read_fixed(path, source, chosen)
        return _read_csv(path, source, chosen)
    except UnicodeDecodeError:
        raise TableError(_wrong_encoding(path, source.encoding)) from None
    except pyarrow.ArrowInvalid as failure:
        if "invalid UTF8" in str(failure):
            raise TableError(_wrong_encoding(path, source.encoding)) from None
        raise TableError(f"{path.name}: not readable as {kind}: {failure}") from None


def _format_of(path: Path, source: TableSource) -> str:
    if source.fixed is not None:
        return "fixed"
    return "parquet" if path.suffix in _PARQUET else "csv"


def _read_parquet(path: Path, chosen: _Choose) -> Raw:
    there = list(pyarrow.parquet.read_schema(path).names)
    table = pyarrow.parquet.read_table(path, columns=chosen(there))
    frame = numbered(table.to_pandas(ignore_metadata=True, date_as_object=False))
    return Raw(frame, there, file_sha256(path), path.name)


def _read_csv(path: Path, source: TableSource, chosen: _Choose) -> Raw:
    """Every value as text, so that leading zeros and bad values are seen."""
    there = _csv_header(path, source)
    wanted = chosen(there)
    broken: list[tuple[int, str]] = []

    def set_aside(row: Any) -> str:
        problem = f"expected {row.expected_columns} fields, got {row.actual_columns}"
        broken.append((row.number - 1, problem))
        return "skip"

    with pyarrow.input_stream(str(path), compression="detect") as stream:
        # one thread: only so does the reader know a bad row's number
        table = pyarrow.csv.read_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(
                encoding=source.encoding, use_threads=False
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=source.delimiter,
                newlines_in_values=True,
                invalid_row_handler=set_aside,
            ),
            convert_options=_texts(wanted),
        )
    frame = table.to_pandas()
    numbers = np.arange(1, len(frame) + len(broken) + 1)
    row_numbers = np.delete(numbers, [row - 1 for row, _ in broken])
    faults = [
        pd.DataFrame(
            {"row": [row], "column": [WHOLE_ROW], "value": [None], "reason": [problem]}
        )
        for row, problem in broken
    ]
    frame = frame.set_axis(pd.Index(row_numbers))
    return Raw(frame, there, file_sha256(path), path.name, joined(faults))


def _texts(columns: list[str]) -> pyarrow.csv.ConvertOptions:
    return pyarrow.csv.ConvertOptions(
        include_columns=columns,
        column_types={name: pyarrow.string() for name in columns},
        strings_can_be_null=False,
    )


def _csv_header(path: Path, source: TableSource) -> list[str]:
    with _opened(path, source.encoding) as file:
        header = next(csv.reader(file, delimiter=source.delimiter), [])
    twice = [name for name in header if header.count(name) > 1]
    if not header or twice:
        what = f"{twice[0]!r} twice" if twice else "an empty file"
        raise TableError(f"{path.name}: expected a header of column names, got {what}")
    return header


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _read_fixed(path: Path, source: TableSource, chosen: _Choose) -> Raw:
    if source.fixed is None:
        raise TableError(
            f"{path.name}: a fixed-width file needs its layout: "
            "[tables.<name>.fixed] name = [first, last]"
        )
    there = list(source.fixed)
    with _opened(path, source.encoding) as file:
        text = file.read()
    lines = pd.Series(re.split(r"\r?\n", text.rstrip("\r\n")), dtype="str")
    columns = {
        name: lines.str.slice(source.fixed[name][0] - 1, source.fixed[name][1])
        for name in chosen(there)
    }
    frame = numbered(pd.DataFrame(columns, index=lines.index))
    return Raw(frame, there, file_sha256(path), path.name)


def _wrong_encoding(path: Path, encoding: str) -> str:
    data = _content(path)
    try:
        data.decode(encoding)
    except UnicodeDecodeError as failure:
        line = data.count(b"\n", 0, failure.start) + 1
        return (
            f"{path.name}: line {line}, byte {failure.start + 1} of the file: expected "
            f"{encoding}, got the byte 0x{data[failure.start]:02X}; declare the file's "
            'own encoding in campaign.toml, such as encoding = "cp1252"'
        )
    return f"{path.name}: expected {encoding}, got bytes that are not"


# --- databases ------------------------------------------------------------------------


def _read_database(source: TableSource, folders: Folders, chosen: _Choose) -> Raw:
    address, table = str(source.database), str(source.table)
    kind = address.partition(":")[0]
    reader = {
        "duckdb": _from_duckdb,
        "sqlite": _from_sqlite,
        "postgresql": _from_postgresql,
    }.get(kind)
    if reader is None:
        raise TableError(
            "expected a database address that begins with duckdb:///, sqlite:/// or "
            f"postgresql://, got {kind!r}"
        )
    there, frame = reader(address, table, folders.campaign, chosen)
    frame = numbered(frame)
    return Raw(frame, there, content_sha256(frame), f"{kind} table {table}")


_Read = tuple[list[str], pd.DataFrame]


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


def _no_table(table: str, failure: Exception) -> TableError:
    first_line = str(failure).strip().splitlines()[0]
    return TableError(f"expected a table {table} in the database: {first_line}")


def _from_duckdb(address: str, table: str, campaign: Path, chosen: _Choose) -> _Read:
    import duckdb

    path = _database_file(address, campaign)
    with duckdb.connect(str(path), read_only=True) as connection:
        try:
            empty = connection.execute(f"SELECT * FROM {_quoted(table)} LIMIT 0")
        except duckdb.Error as failure:
            raise _no_table(table, failure) from None
        there = [column[0] for column in empty.description or []]
        rows = connection.execute(_select(chosen(there), table)).to_arrow_table()
    return there, rows.to_pandas(date_as_object=False)


def _from_sqlite(address: str, table: str, campaign: Path, chosen: _Choose) -> _Read:
    path = _database_file(address, campaign)
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        empty = connection.execute(f"SELECT * FROM {_quoted(table)} LIMIT 0")
        there = [column[0] for column in empty.description]
        wanted = chosen(there)
        rows = connection.execute(_select(wanted, table)).fetchall()
    except sqlite3.Error as failure:
        raise _no_table(table, failure) from None
    finally:
        connection.close()
    columns = {
        name: pd.array([row[i] for row in rows], dtype=object)
        for i, name in enumerate(wanted)
    }
    return there, pd.DataFrame(columns, index=range(len(rows))).infer_objects()


def _from_postgresql(
    address: str,
    table: str,
    campaign: Path,  # noqa: ARG001 - as the other readers
    chosen: _Choose,
) -> _Read:
    try:
        import psycopg
    except ImportError:
        raise DataMissing(
            "a table in PostgreSQL needs psycopg: pip install 'hustings[postgres]'"
        ) from None
    try:
        session = psycopg.connect(address, client_encoding="utf8")
    except psycopg.OperationalError as failure:
        first_line = str(failure).strip().splitlines()[0]
        raise DataMissing(f"expected a database at {address}: {first_line}") from None
    try:
        with session as connection:
            connection.read_only = True
            connection.execute("SET datestyle = ISO")
            empty = connection.execute(f"SELECT * FROM {_quoted(table)} LIMIT 0")
            there = [column.name for column in empty.description or []]
            wanted = chosen(there)
            text = bytearray()
            statement = (
                f"COPY ({_select(wanted, table)}) TO STDOUT (FORMAT csv, HEADER)"
            )
            with connection.cursor().copy(statement) as copy:
                for piece in copy:
                    text += piece
    except psycopg.Error as failure:
        raise _no_table(table, failure) from None
    rows = pyarrow.csv.read_csv(
        pyarrow.py_buffer(bytes(text)),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=_texts(wanted),
    )
    frame: pd.DataFrame = rows.to_pandas()
    return there, frame
