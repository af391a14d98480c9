"""How a text file is written: encoding, delimiter, quoting, header, archive member.

What a declaration does not say is read off the beginning of the file, so that a first
look, an import and `ingest` take a file in the same way. `open_bytes` is the only place
that unpacks one.
"""

import codecs
import csv
import gzip
import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from hustings.features.tables import TableError

if TYPE_CHECKING:
    from _csv import Reader

csv.field_size_limit(1 << 31 - 1)  # a huge field is a fault of the file, told as one
N_BYTES_LOOKED_AT = 1 << 22
N_LINES_LOOKED_AT = 200
DELIMITERS = (",", "\t", ";", "|")
MAX_LINES_OF_A_RECORD = 20
"""A field over more lines was opened by a quotation mark that means no quoting."""
LONG_LINE = 40
"""No name of a single column is longer."""
MOST = 0.9
EVEN = 0.95
"""So many lines of one width settle that marks quote."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order mark → encoding; that of UTF-32 begins like that of UTF-16."""
_DATA = re.compile(
    r"^[+-]?\d+(?:[.,]\d+)?%?$|^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[ T].*)?$|^$"
)
"""A number, a date or nothing: no name of a column."""


@dataclass(frozen=True)
class TextFormat:
    """How a text file is written.

    Attributes:
        encoding: Name of its codec.
        delimiter: Between fields.
        quoting: Whether a quotation mark at the beginning of a field quotes it.
        header: Whether the first line names the columns.
        member: The file inside a zip archive; empty where there is no archive.
    """

    encoding: str = "utf-8"
    delimiter: str = ","
    quoting: bool = True
    header: bool = True
    member: str = ""

    @property
    def codec(self) -> str:
        """The codec that takes a byte order mark before UTF-8 for no text."""
        plain = self.encoding.lower().replace("_", "-") in {"utf-8", "utf8"}
        return "utf-8-sig" if plain else self.encoding

    def rows(self, text: Iterable[str]) -> "Reader":
        """Fields of every record of an opened file."""
        if self.quoting:
            return csv.reader(text, delimiter=self.delimiter)
        return csv.reader(text, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)


def detected(path: Path, *, member: str = "") -> TextFormat:
    """Read off the beginning of a text file how it is written.

    Args:
        path: The file; packed by gzip or zip, or plain.
        member: The file inside a zip archive; empty where there is only one.

    Raises:
        TableError: If an archive holds several files, or none.
    """
    member = archive_member(path, member)
    with open_bytes(path, member=member) as file:
        beginning = file.read(N_BYTES_LOOKED_AT)
    encoding = _encoding(beginning)
    codec = TextFormat(encoding=encoding).codec
    text = codecs.getincrementaldecoder(codec)(errors="replace").decode(beginning)
    lines = list(islice(io.StringIO(text, newline=None), N_LINES_LOOKED_AT + 1))
    if len(beginning) == N_BYTES_LOOKED_AT or len(lines) > N_LINES_LOOKED_AT:
        lines = lines[:-1]  # may be cut off
    delimiter, quoting = _delimiter(lines)
    written = TextFormat(encoding, delimiter, quoting, member=member)
    rows = [row for row in written.rows(io.StringIO("".join(lines))) if row]
    return TextFormat(encoding, delimiter, quoting, _has_header(rows), member)


def _encoding(beginning: bytes) -> str:
    """That of the byte order mark, else UTF-8 where it is, else of old exports."""
    for mark, encoding in _MARKS:
        if beginning.startswith(mark):
            return encoding
    sample = beginning[:4096]
    if sample.count(0) > len(sample) // 4:
        return "utf-16-le" if sample[1:2] == b"\0" else "utf-16-be"
    for encoding in ("utf-8", "cp1252"):
        try:
            codecs.getincrementaldecoder(encoding)().decode(beginning)
        except UnicodeDecodeError:
            continue
        return encoding
    return "latin-1"


def _delimiter(lines: Sequence[str]) -> tuple[str, bool]:
    """The sign that parts the lines most evenly, and whether fields are quoted."""
    quoted = {sign: _evenness(lines, TextFormat(delimiter=sign)) for sign in DELIMITERS}
    best = max(quoted, key=lambda sign: quoted[sign])
    if quoted[best][0] >= EVEN or not any('"' in line for line in lines):
        return best, True
    bare = {
        sign: _evenness(lines, TextFormat(delimiter=sign, quoting=False))
        for sign in DELIMITERS
    }
    barest = max(bare, key=lambda sign: bare[sign])
    return (barest, False) if bare[barest] > quoted[best] else (best, True)


def _evenness(lines: Sequence[str], written: TextFormat) -> tuple[float, int]:
    """Share of lines in records of the usual width; 0 for a single column."""
    reader = written.rows(io.StringIO("".join(lines)))
    widths, longest, before = Counter[int](), 0, 0
    try:
        for row in reader:
            widths[len(row)] += 1
            longest, before = max(longest, reader.line_num - before), reader.line_num
    except csv.Error:
        return (0.0, 0)
    width, n = widths.most_common(1)[0] if widths else (0, 0)
    if width < 2 or longest > MAX_LINES_OF_A_RECORD:
        return (0.0, 0)
    return (round(n / max(widths.total(), 1), 2), width)


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row is unlike the others where these are numbers or dates."""
    if len(rows) < 2:
        return True
    lengths = {len("".join(row)) for row in rows}
    if len(rows[0]) == 1 and len(lengths) == 1 and min(lengths) > LONG_LINE:
        return False  # lines of a fixed width
    first, below_first = rows[0], rows[1:]
    like, unlike = 0, 0
    for k, cell in enumerate(first):
        below = [
            row[k].strip() for row in below_first if len(row) > k and row[k].strip()
        ]
        if below and sum(bool(_DATA.match(value)) for value in below) > MOST * len(
            below
        ):
            if not cell.strip() or not _DATA.match(cell.strip()):
                unlike += 1
            elif abs(len(cell.strip()) - len(below[0])) <= 1:
                like += 1
    return like <= unlike


# --- opening --------------------------------------------------------------------------


def archive_member(path: Path, member: str = "") -> str:
    """The file that is read inside a zip archive; empty where there is no archive.

    Args:
        path: The archive, or a plain file.
        member: As declared; empty where nothing is.

    Raises:
        TableError: If there is none of that name, or several and none is declared.
    """
    if path.suffix.lower() != ".zip":
        return ""
    with zipfile.ZipFile(path) as archive:
        names = [
            entry.filename
            for entry in archive.infolist()
            if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")
        ]
    if member in names:
        return member
    if member or len(names) != 1:
        there = ", ".join(names) or "none"
        raise TableError(
            f"{path.name}: expected {'the file ' + member if member else 'one file'} "
            f"in the archive, got {there}; name one by member in campaign.toml"
        )
    return names[0]


def open_bytes(path: Path, *, member: str = "") -> IO[bytes]:
    """The bytes of a file, unpacked.

    Args:
        path: The file; packed by gzip or zip, or plain.
        member: The file inside a zip archive.
    """
    if path.suffix.lower() == ".zip":
        return zipfile.ZipFile(path).open(member)
    if path.suffix.lower() == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def column_names(header: Sequence[str], file: str) -> list[str]:
    """Names of a header line without the blanks around them.

    Args:
        header: Fields of the line.
        file: For errors.

    Raises:
        TableError: If the line is empty, or a name stands there twice.
    """
    names = [name.strip() for name in header]
    repeated = [name for name in names if names.count(name) > 1]
    if any("\n" in name or "\r" in name for name in names):
        raise TableError(
            f"{file}: expected a header of column names, got a name over several lines;"
            " if quotation marks quote no fields in this file say quoting = false in "
            "campaign.toml"
        )
    if not any(names) or repeated:
        what = f"{repeated[0]!r} twice" if any(names) else "an empty file"
        raise TableError(f"{file}: expected a header of column names, got {what}")
    return names
