"""The first rows of a file, as they stand, with the names of its columns.

A line of data is never taken for names: a person's would stand in the draft.
"""

import csv
import gzip
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pyarrow

from hustings.features.draft.layouts import Layout, layout_named, layout_of, layouts
from hustings.features.draft.special import plain_name
from hustings.features.ingest import raw_head
from hustings.features.ingest.text_format import TextFormat, column_names, detected
from hustings.features.tables import TableError

N_ROWS = 5_000
BINARY = {".parquet", ".pq", ".xlsx", ".xls"}
UNREADABLE = (
    UnicodeError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError, csv.Error,
    pyarrow.ArrowException,
)  # fmt: skip
_MOST_LEVELS = 60


@dataclass(frozen=True)
class FileHead:
    """The beginning of a file.

    Attributes:
        path: The file.
        written: How a text file is written; None for one that says so itself.
        columns: Texts without blanks around them, "" where there is none, by column.
        n_rows: Rows looked at.
        layout: The shipped layout that it has.
        given_names: Whether the names are the layout's: the file has no header.
    """

    path: Path
    written: TextFormat | None
    columns: dict[str, pd.Series]
    n_rows: int
    layout: Layout | None
    given_names: bool

    def filled(self, column: str) -> pd.Series:
        """Values of a column that are there."""
        values = self.columns[column]
        return values[values != ""]


def read_head(path: Path, *, layout: str = "") -> FileHead:
    """Read the first rows of a file.

    Args:
        path: Parquet, a workbook or text, packed or not.
        layout: Name of a shipped layout that it is said to have.

    Raises:
        TableError: If the file is not there, has no rows, a name twice in its header,
            or no header and no layout that names its columns.
    """
    if not path.is_file():
        raise TableError(f"expected a file at {path}, got no such file")
    wanted_layout = layout_named(layout) if layout else None
    try:
        written, rows = _read(path)
    except UNREADABLE as failure:
        # a decoder's message repeats what stands there
        raise TableError(
            f"{path.name}: expected a text file, packed or not, or a Parquet file, got "
            f"one that cannot be read ({type(failure).__name__})"
        ) from None
    if written is None:
        names = column_names([str(c) for c in rows], path.name)
        return _with_names(path, None, rows, names, wanted_layout)
    if rows.empty:
        raise TableError(
            f"{path.name}: expected rows below a header, got an empty file"
        )
    first, below = [str(v) for v in rows.iloc[0]], rows.iloc[1:]
    if not _is_known(first) and (not written.header or _is_data(first, below)):
        return _without_header(path, written, rows, wanted_layout)
    names = column_names(first, path.name)
    return _with_names(path, written, below, names, wanted_layout)


def _read(path: Path) -> tuple[TextFormat | None, pd.DataFrame]:
    """How a text file is written, and its first lines, the first one among them."""
    if path.suffix.lower() in BINARY:
        return None, raw_head(path, n_rows=N_ROWS)
    written = detected(path)
    plain = replace(written, header=False)
    return written, raw_head(path, written=plain, n_rows=N_ROWS + 1)


def _is_known(first: Sequence[str]) -> bool:
    """Whether a line is the header of a shipped layout."""
    return any(layout.of_header(first) for layout in layouts().values())


def _is_data(first: Sequence[str], below: pd.DataFrame) -> bool:
    """Whether a first line stands among the values below it, in several columns."""
    n_same = 0
    for cell, column in zip(first, below, strict=True):
        values = below[column].str.strip()
        if cell.strip() and values.nunique() <= max(_MOST_LEVELS, len(values) // 2):
            n_same += bool((values == cell.strip()).any())
    return n_same > 1 or (n_same == 1 and len(first) < 4)


def _without_header(
    path: Path, written: TextFormat, rows: pd.DataFrame, wanted_layout: Layout | None
) -> FileHead:
    columns = {str(c): _texts(rows[c]) for c in rows}
    layout = wanted_layout or layout_of(columns, header=False)
    names = layout.of_width(len(columns)) if layout else []
    if layout is None or not names:
        said = f", and the layout {layout.name} has other columns" if layout else ""
        raise TableError(
            f"{path.name}: expected a header of column names, got a line of data: the "
            f"file has {len(columns)} columns and no header{said}; put a line of names "
            "above it, declare names = [...] in [tables.voters], or give a shipped "
            f"layout: --layout {', '.join(n for n, v in layouts().items() if v.names)}"
        )
    values_by_name = dict(zip(names, columns.values(), strict=True))
    plain = replace(written, header=False)
    return FileHead(path, plain, values_by_name, len(rows), layout, given_names=True)


def _with_names(
    path: Path,
    written: TextFormat | None,
    below: pd.DataFrame,
    names: Sequence[str],
    wanted_layout: Layout | None,
) -> FileHead:
    if below.empty:
        raise TableError(f"{path.name}: expected rows below a header, got none")
    columns = {
        name: _texts(below[column]) for name, column in zip(names, below, strict=True)
    }
    if wanted_layout is not None and "voter_id" not in wanted_layout.placed(columns):
        header = wanted_layout.header or wanted_layout.header_any
        raise TableError(
            f"{path.name}: expected columns of the layout {wanted_layout.name}, such "
            f"as {', '.join(header[:3])}, got none of them"
        )
    layout = wanted_layout or layout_of(columns, header=True)
    return FileHead(path, written, columns, len(below), layout, given_names=False)


def _texts(values: pd.Series) -> pd.Series:
    """Texts as a CSV file would have them: whole numbers without a point."""
    text = values.astype("object").where(values.notna(), "").astype("str").str.strip()
    if pd.api.types.is_float_dtype(values) or pd.api.types.is_bool_dtype(values):
        text = text.str.removesuffix(".0")
    return text.reset_index(drop=True)


def named_like(head: FileHead, *names: str) -> str:
    """The first column of a file whose plain name is one of these; "" for none."""
    by_plain = {plain_name(c): c for c in reversed(list(head.columns))}
    return next((by_plain[n] for n in names if n in by_plain), "")
