"""Files and databases → raw rows in blocks, only the columns that a mapping names.

Text files are read as text, so that leading zeros and bad values survive. Memory does
not grow with a source. No other module of the project opens a raw file.
"""

import codecs
import gzip
import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from hustings.features.checksums import file_sha256
from hustings.features.ingest.databases import DataMissing, database_batches
from hustings.features.ingest.expressions import ROW
from hustings.features.ingest.mapping import mixed_array, scalar_text
from hustings.features.ingest.records import RecordBlock, Scanned, Scanner
from hustings.features.ingest.source import (
    TableSource,
    require_columns,
    resolved,
    wanted_columns,
)
from hustings.features.ingest.text_format import (
    TextFormat,
    archive_member,
    column_names,
    detected,
    open_bytes,
)
from hustings.features.tables import TableError

WHOLE_ROW = "(row)"
"""The `column` of a fault that lies in the row as a whole."""
BATCH_ROWS = 1 << 16
_PARQUET = {".parquet", ".pq"}
_EXCEL = {".xlsx", ".xlsm"}
_UNUSED_SIGN = "\x1f"
"""A delimiter that no text file has: the unit separator of ASCII."""


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


class RawBlock(NamedTuple):
    """Rows as they stand in a source.

    Attributes:
        rows: The columns wanted, and the number of each row in the source from 1 in
            `row__`.
        broken: Number and reason of every row that could not be split into columns.
    """

    rows: pyarrow.Table
    broken: list[tuple[int, str]]

    @property
    def n_rows(self) -> int:
        """Rows of the source, the broken ones included."""
        return len(self.rows) + len(self.broken)


@dataclass
class RawSource:
    """A source that is open.

    Attributes:
        there: Every column of the source.
        file: Name for errors.
        blocks: Its rows in turn; to be read once.
        digest: SHA-256 of the file, or of the content where there is no file; known
            once the blocks are read.
        scanned: Records and lines of a text file; None of another source.
        n_header: Records of a text file that are no rows.
        notes: What a person should know of how it was read.
    """

    there: list[str]
    file: str
    blocks: Iterator[RawBlock]
    digest: Callable[[], str]
    scanned: Scanned | None = None
    n_header: int = 0
    notes: list[str] = field(default_factory=list)


_Choose = Callable[[Sequence[str]], list[str]]


def open_raw(source: TableSource, table_name: str, folders: Folders) -> RawSource:
    """Open a source, for only the columns that the mapping names.

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
        frame = pd.DataFrame(list(source.rows), dtype=object)
        there = [str(column) for column in frame]
        return _of_batches(there, name, chosen, [_texts_of(frame)])
    if source.database is not None:
        there, batches = database_batches(source, folders.campaign, chosen)
        return _of_batches(there, name, chosen, batches)
    path = file_path(source, table_name, folders)
    kind = source.format or _format_of(path, source)
    if kind == "parquet":
        return _parquet(path, chosen)
    if kind == "excel":
        return _workbook(path, source, chosen)
    return _text_file(path, source, chosen, fixed=kind == "fixed")


def first_rows(
    source: TableSource, table_name: str, folders: Folders, n_rows: int
) -> pd.DataFrame:
    """The first rows of a source as they stand, only the columns that are mapped."""
    blocks = open_raw(source, table_name, folders).blocks
    block = next(blocks, None)
    if block is None:
        return pd.DataFrame()
    frame: pd.DataFrame = block.rows.drop_columns([ROW]).slice(0, n_rows).to_pandas()
    return frame


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
    if path.suffix.lower() in _PARQUET:
        parquet = pyarrow.parquet.ParquetFile(path)
        batch = next(parquet.iter_batches(batch_size=max(n_rows, 1)), None)
        return pd.DataFrame() if batch is None else batch.to_pandas()
    if path.suffix.lower() in _EXCEL:
        there, rows = _sheet(path, "")
        return pd.DataFrame(
            [[scalar_text(cell) for cell in row] for row in islice(rows, n_rows)],
            columns=there, dtype="str",
        )  # fmt: skip
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


def _texts_of(frame: pd.DataFrame) -> pyarrow.Table:
    """Values of any type as texts."""
    return pyarrow.table(
        {
            str(name): pyarrow.array(
                [scalar_text(value) for value in frame[name]], pyarrow.string()
            )
            for name in frame
        }
    )


def _numbered(rows: pyarrow.Table, first: int) -> pyarrow.Table:
    numbers = pyarrow.array(np.arange(first, first + len(rows)), pyarrow.int64())
    return rows.append_column(ROW, numbers)


def _of_batches(
    there: list[str],
    file: str,
    chosen: _Choose,
    batches: Iterable[pyarrow.Table],
) -> RawSource:
    """A source that is no file: its digest is that of its content."""
    wanted, content = chosen(there), ContentDigest()

    def blocks() -> Iterator[RawBlock]:
        n_before = 0
        for batch in batches:
            rows = batch.select(wanted)
            content.add(rows.to_pandas())
            yield RawBlock(_numbered(rows, n_before + 1), [])
            n_before += len(rows)

    return RawSource(there, file, blocks(), content.hexdigest)


class ContentDigest:
    """Digest of a table's content, the same in any order of its rows."""

    def __init__(self) -> None:
        self._names: list[str] | None = None
        self._sums, self._n = [0, 0], 0

    def add(self, frame: pd.DataFrame) -> None:
        """Count the rows of a block in."""
        names = sorted(str(name) for name in frame)
        self._names = self._names or names
        texts = pd.DataFrame(
            {n: frame[n].map(scalar_text).astype("str") for n in names}
        )
        for k, key in enumerate(("0123456789abcdef", "fedcba9876543210")):
            hashes = pd.util.hash_pandas_object(texts, index=False, hash_key=key)
            self._sums[k] += int(hashes.to_numpy().sum(dtype="uint64"))
        self._n += len(frame)

    def hexdigest(self) -> str:
        """SHA-256 of the columns and of what was counted."""
        sums = [total % (1 << 64) for total in self._sums]
        text = "\x1f".join([*(self._names or []), *map(str, sums), str(self._n)])
        return hashlib.sha256(text.encode()).hexdigest()


def content_sha256(frame: pd.DataFrame) -> str:
    """Digest of a table's content, the same in any order of its rows."""
    content = ContentDigest()
    content.add(frame)
    return content.hexdigest()


def _format_of(path: Path, source: TableSource) -> str:
    if source.fixed is not None:
        return "fixed"
    ending = path.suffix.lower()
    return "parquet" if ending in _PARQUET else "excel" if ending in _EXCEL else "csv"


def _parquet(path: Path, chosen: _Choose) -> RawSource:
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as failure:
        raise TableError(f"{path.name}: not readable as parquet: {failure}") from None
    there = list(file.schema_arrow.names)
    wanted = chosen(there)

    def blocks() -> Iterator[RawBlock]:
        n_before = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
            rows = pyarrow.Table.from_batches([batch]).select(wanted)
            yield RawBlock(_numbered(rows, n_before + 1), [])
            n_before += len(rows)
        if n_before != file.metadata.num_rows:
            raise TableError(
                f"{path.name}: expected {file.metadata.num_rows:,} rows as the file "
                f"says, got {n_before:,}"
            )

    return RawSource(there, path.name, blocks(), lambda: file_sha256(path))


# --- workbooks ------------------------------------------------------------------------


def _sheet(path: Path, member: str) -> tuple[list[str], Iterator[Sequence[Any]]]:
    """Header and rows of a sheet of a workbook."""
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as failure:
        raise TableError(
            f"{path.name}: not readable as a workbook: {failure}"
        ) from None
    names = book.sheetnames
    if (member and member not in names) or (not member and len(names) != 1):
        wanted = f"a sheet {member!r}" if member else "one sheet"
        raise TableError(
            f"{path.name}: expected {wanted}, got {', '.join(names)}; name one by "
            "member in campaign.toml"
        )
    rows = book[member or names[0]].iter_rows(values_only=True)
    header = [scalar_text(cell) or "" for cell in next(rows, ())]
    while header and not header[-1]:
        header.pop()
    there = column_names(header, path.name)
    filled = (row for row in rows if any(cell is not None for cell in row))
    return there, ([*row, *[None] * len(there)][: len(there)] for row in filled)


def _workbook(path: Path, source: TableSource, chosen: _Choose) -> RawSource:
    there, rows = _sheet(path, source.member)
    wanted = chosen(there)
    positions = [there.index(name) for name in wanted]
    notes: list[str] = []

    def blocks() -> Iterator[RawBlock]:
        n_before = 0
        while batch := list(islice(rows, BATCH_ROWS)):
            columns = {
                name: mixed_array([row[k] for row in batch])
                for name, k in zip(wanted, positions, strict=True)
            }
            yield RawBlock(_numbered(pyarrow.table(columns), n_before + 1), [])
            n_before += len(batch)

    return RawSource(there, path.name, blocks(), lambda: file_sha256(path), notes=notes)


# --- text files -----------------------------------------------------------------------


class _Hashed(io.RawIOBase):
    """A file whose digest is taken as it is read."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n = self._file.readinto(buffer)
        self._digest.update(memoryview(buffer)[:n])
        return n

    def hexdigest(self) -> str:
        """SHA-256 of the whole file, its unread end included."""
        while piece := self._file.read(1 << 20):
            self._digest.update(piece)
        return self._digest.hexdigest()

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass
class _Utf8:
    """Bytes of a text file in UTF-8, whatever its encoding.

    Attributes:
        file: Opened, unpacked.
        name: For errors.
        encoding: Of the file.
    """

    file: IO[bytes]
    name: str
    encoding: str

    def __post_init__(self) -> None:
        codec = TextFormat(encoding=self.encoding).codec
        self._plain = codec == "utf-8-sig"
        self._decoder = codecs.getincrementaldecoder(codec)()
        self._n_bytes, self._n_lines, self._begun = 0, 0, False

    def read(self, n_bytes: int) -> bytes:
        """The next bytes; none at the end."""
        data = self.file.read(n_bytes)
        if not data and not self._n_bytes:
            return b""
        if self._plain:
            if not self._begun:
                self._begun = True
                data = data.removeprefix(codecs.BOM_UTF8)
            return data
        try:
            text = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as failure:
            raise TableError(self._wrong(failure)) from None
        self._n_bytes += len(data)
        self._n_lines += text.count("\n")
        return text.encode() if text or not data else self.read(n_bytes)

    def _wrong(self, failure: UnicodeDecodeError) -> str:
        before = failure.object[: failure.start]
        return _not_in_encoding(
            self.name, self.encoding, self._n_lines + before.count(b"\n") + 1,
            failure.object[failure.start], "cp1252",
        )  # fmt: skip


def _not_in_encoding(file: str, encoding: str, line: int, byte: int, other: str) -> str:
    return (
        f"{file}: line {line:,}: expected {encoding}, got the byte 0x{byte:02X}; "
        "declare the file's own encoding in campaign.toml, such as "
        f'encoding = "{other}"'
    )


def text_format(path: Path, source: TableSource) -> TextFormat:
    """How a text file is written: as declared, else as its beginning shows.

    Args:
        path: The file.
        source: What is declared of it.
    """
    member = archive_member(path, source.member)
    seen = detected(path, member=member)
    marked = seen.encoding not in ("cp1252", "latin-1")
    encoding = source.encoding or (seen.encoding if marked else "utf-8")
    delimiter = source.delimiter or seen.delimiter
    # marks mean quoting unless a person says that they do not
    quoting = True if source.quoting is None else source.quoting
    header = source.names is None
    return TextFormat(encoding, delimiter, quoting, header, member)


def _text_file(
    path: Path, source: TableSource, chosen: _Choose, *, fixed: bool
) -> RawSource:
    """A text file: its records are found by the scanner and split by the parser."""
    if fixed and source.fixed is None:
        raise TableError(
            f"{path.name}: a fixed-width file needs its layout: "
            "[tables.<name>.fixed] name = [first, last]"
        )
    written = text_format(path, source)
    if fixed:
        written = TextFormat(
            written.encoding, _UNUSED_SIGN, quoting=False, header=False,
            member=written.member,
        )  # fmt: skip
        there = list(source.fixed or {})
    else:
        there = source.names or _header(path, written)
    hashed = _Hashed(path)
    if path.suffix.lower() == ".zip":
        # an archive is read from its end: its digest is taken afterwards
        unpacked = open_bytes(path, member=written.member)
    else:
        unpacked = _unpacked(hashed, path)
    utf8 = _Utf8(unpacked, path.name, written.encoding)
    scanner = Scanner(
        utf8.read, path.name, written.delimiter, written.quoting,
        declared=source.quoting is not None,
    )  # fmt: skip
    try:
        wanted = chosen(there)
    except TableError:
        if written.header and not detected(path, member=written.member).header:
            raise TableError(
                f"{path.name}: expected a header of column names, got a file without "
                "one; name its columns by names = [...] in campaign.toml"
            ) from None
        raise
    parser = _Parser(path.name, written, there, wanted, source.fixed if fixed else None)

    def blocks() -> Iterator[RawBlock]:
        n_before = 0
        n_header = int(written.header)
        for block in scanner.blocks():
            first = min(n_header, len(block.ends))
            n_header -= first
            raw = parser.split(block, n_before, skip=first)
            n_before += raw.n_rows
            if raw.n_rows:
                yield raw

    def digest() -> str:
        packed = path.suffix.lower() == ".zip"
        sha256 = file_sha256(path) if packed else hashed.hexdigest()
        utf8.file.close()
        return sha256

    return RawSource(
        there, path.name, blocks(), digest, scanner.scanned, int(written.header)
    )


def _unpacked(hashed: _Hashed, path: Path) -> IO[bytes]:
    buffered = io.BufferedReader(hashed, 1 << 20)
    if path.suffix.lower() == ".gz":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=buffered))
    return buffered


def _header(path: Path, written: TextFormat) -> list[str]:
    # a byte that is not in the encoding is told by the line in which it stands
    with (
        open_bytes(path, member=written.member) as packed,
        io.TextIOWrapper(
            packed, encoding=written.codec, errors="replace", newline=""
        ) as text,
    ):
        first = next((row for row in written.rows(text) if row), [])
    return column_names(first, path.name)


@dataclass(frozen=True)
class _Parser:
    """Splits records into columns.

    Attributes:
        file: Name for errors.
        written: How the file is written.
        there: Its columns.
        wanted: Those that are read.
        fixed: Positions of the columns of a fixed-width file.
    """

    file: str
    written: TextFormat
    there: list[str]
    wanted: list[str]
    fixed: Mapping[str, tuple[int, int]] | None

    def split(self, block: RecordBlock, n_before: int, *, skip: int) -> RawBlock:
        """The rows of a block.

        Args:
            block: Whole records.
            n_before: Rows before it in the file.
            skip: Records at its beginning that are no rows.

        Raises:
            TableError: If the parser makes other rows of the records than the scanner.
        """
        start = int(block.ends[skip - 1]) if skip else 0
        n_expected = len(block.ends) - skip
        if n_expected <= 0:
            return RawBlock(_numbered(self._none(), 1), [])
        rows, broken = self._parsed(block.data[start:], block, skip)
        if len(rows) + len(broken) != n_expected:
            raise TableError(self._first_parting(block, skip))
        numbers = np.arange(1, n_expected + 1)
        if broken:
            numbers = np.delete(numbers, [k - 1 for k, _ in broken])
        rows = rows.append_column(ROW, pyarrow.array(numbers + n_before))
        return RawBlock(rows, [(k + n_before, reason) for k, reason in broken])

    def _none(self) -> pyarrow.Table:
        return pyarrow.table(
            {n: pyarrow.array([], pyarrow.string()) for n in self.wanted}
        )

    def _parsed(
        self, data: bytes, block: RecordBlock, skip: int
    ) -> tuple[pyarrow.Table, list[tuple[int, str]]]:
        broken: list[tuple[int, str]] = []

        def set_aside(row: Any) -> str:
            reason = f"expected {row.expected_columns} fields, got {row.actual_columns}"
            broken.append((row.number, reason))
            return "skip"

        names = ["line"] if self.fixed else self.there
        wanted = ["line"] if self.fixed else self.wanted
        # one thread: only so does the parser know a bad row's number
        try:
            table = pyarrow.csv.read_csv(
                pyarrow.BufferReader(data),
                read_options=pyarrow.csv.ReadOptions(
                    column_names=names, use_threads=False, block_size=len(data) + 1
                ),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=self.written.delimiter,
                    quote_char='"' if self.written.quoting else False,
                    newlines_in_values=block.over_lines,
                    invalid_row_handler=set_aside,
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=wanted,
                    column_types=dict.fromkeys(wanted, pyarrow.string()),
                    strings_can_be_null=False,
                ),
            )
        except pyarrow.ArrowInvalid as failure:
            raise TableError(self._unreadable(data, block, skip, failure)) from None
        if self.fixed:
            lines = table["line"].combine_chunks()
            table = pyarrow.table(
                {
                    name: pc.utf8_slice_codeunits(lines, *_span(self.fixed[name]))
                    for name in self.wanted
                }
            )
        return table, broken

    def _unreadable(
        self, data: bytes, block: RecordBlock, skip: int, failure: Exception
    ) -> str:
        try:
            data.decode()
        except UnicodeDecodeError as wrong:
            line = block.line_of(skip) + data.count(b"\n", 0, wrong.start)
            return _not_in_encoding(
                self.file, self.written.encoding, line, data[wrong.start], "cp1252"
            )
        return f"{self.file}: line {block.line_of(skip):,}: not readable: {failure}"

    def _first_parting(self, block: RecordBlock, skip: int) -> str:
        """The first record of which the parser makes more or less than one row."""
        for k in range(skip, len(block.ends)):
            rows, broken = self._parsed(block.record(k), block, k)
            if len(rows) + len(broken) != 1:
                break
        return (
            f"{self.file}: line {block.line_of(k):,}: expected one row of a record, "
            f"got {len(rows) + len(broken)}; say how the file is quoted by quoting = "
            "true or false in campaign.toml"
        )


def _span(position: tuple[int, int]) -> tuple[int, int]:
    first, last = position
    return first - 1, last
