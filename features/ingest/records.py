"""Records of a text file, counted independently of the parser that splits them.

A scanner finds where every record ends, from the line ends and the quotation marks
alone, and hands on blocks of whole records. What the parser then makes of a block is
compared with the scanner's count, so that no record is lost between two lines.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hustings.features.ingest.text_format import MAX_LINES_OF_A_RECORD
from hustings.features.tables import TableError

BLOCK_BYTES = 1 << 24
MAX_RECORD_BYTES = 1 << 26
MOST_OVER_LINES = 0.01
"""More records than this over several lines: the marks may quote nothing."""
NEWLINE, RETURN, MARK = 10, 13, 34
_Positions = npt.NDArray[np.int64]


@dataclass
class Scanned:
    """What the scanner saw so far.

    Attributes:
        records: Whole records.
        lines: Physical lines.
        over_lines: Records over several lines.
        first_over_lines: Line at which the first of those begins.
    """

    records: int = field(default=0, init=False)
    lines: int = field(default=0, init=False)
    over_lines: int = field(default=0, init=False)
    first_over_lines: int = field(default=0, init=False)


@dataclass(frozen=True)
class RecordBlock:
    """Whole records of a text file in UTF-8.

    Attributes:
        data: Their bytes.
        ends: Position after the end of every record, shape (n_records,).
        first_line: Line of the file at which the block begins, from 1.
        over_lines: Whether a record lies over several lines.
    """

    data: bytes
    ends: _Positions
    first_line: int
    over_lines: bool

    def record(self, k: int) -> bytes:
        """The bytes of the k-th record of the block, its line end included."""
        start = int(self.ends[k - 1]) if k else 0
        return self.data[start : int(self.ends[k])]

    def line_of(self, k: int) -> int:
        """Line of the file at which the k-th record of the block begins."""
        start = int(self.ends[k - 1]) if k else 0
        blank = len(self.data[start:]) - len(self.data[start:].lstrip(b"\r\n"))
        before = np.frombuffer(self.data[: start + blank], np.uint8)
        return self.first_line + len(_line_ends(before))


@dataclass
class Scanner:
    """Cuts the bytes of a text file into blocks of whole records.

    Attributes:
        read: Gives the next bytes of the file in UTF-8, none at its end.
        file: Name for errors.
        delimiter: Between fields.
        quoting: Whether a quotation mark at the beginning of a field quotes it.
        declared: Whether a person has said so; else a record over many lines stops.
        scanned: What was seen so far.
    """

    read: Callable[[int], bytes]
    file: str
    delimiter: str
    quoting: bool
    declared: bool
    scanned: Scanned = field(default_factory=Scanned, init=False)

    def blocks(self) -> Iterator[RecordBlock]:
        """Every block of the file in turn.

        Raises:
            TableError: If a quotation mark is never closed, or opens a field over so
                many lines that it can hardly quote.
        """
        rest, at_end = b"", False
        while not at_end:
            piece = self.read(BLOCK_BYTES)
            at_end = not piece
            data = rest + piece
            if at_end and data and data[-1] not in (NEWLINE, RETURN):
                data += b"\n"
            if not at_end and data.endswith(b"\r"):
                # the newline that belongs to it may be in the next piece
                data, held = data[:-1], b"\r"
            else:
                held = b""
            if not data:
                rest = held
                continue
            block, n_used = self._block(data, at_end=at_end)
            rest = data[n_used:] + held
            if block is not None:
                yield block
        seen = self.scanned
        if (
            seen.over_lines > max(MOST_OVER_LINES * seen.records, 1)
            and not self.declared
        ):
            raise TableError(
                f"{self.file}: expected at most {MOST_OVER_LINES:.0%} of the records "
                f"over several lines, got {seen.over_lines:,} of {seen.records:,}, the "
                f"first at line {seen.first_over_lines:,}; {_SAY_QUOTING}"
            )

    def _block(self, data: bytes, *, at_end: bool) -> tuple[RecordBlock | None, int]:
        """The whole records at the beginning of the data, and their bytes."""
        codes = np.frombuffer(data, np.uint8)
        ends = _line_ends(codes)
        opens, closes, unclosed = self._quoted(data, codes)
        inside = np.zeros(len(ends), bool)
        if len(opens):
            before = np.searchsorted(opens, ends, side="left")
            inside = (before > 0) & (
                ends <= np.append(closes, len(data))[np.maximum(before - 1, 0)]
            )
        if unclosed is not None:
            self._refuse_unclosed(ends, unclosed, len(data), at_end=at_end)
        outside = np.flatnonzero(~inside)
        if not len(outside):
            if len(data) > MAX_RECORD_BYTES:
                raise TableError(
                    f"{self.file}: line {self.scanned.lines + 1:,}: expected a record "
                    f"of at most {MAX_RECORD_BYTES:,} bytes, got more"
                )
            return None, 0
        n_used = int(ends[outside[-1]]) + 1
        record_ends = self._without_blank_lines(codes, ends[outside])
        lines_over = np.diff(outside, prepend=-1)
        block = RecordBlock(
            data[:n_used],
            record_ends + 1,
            self.scanned.lines + 1,
            bool((lines_over > 1).any()),
        )
        self._count(lines_over, outside, len(record_ends))
        return block, n_used

    def _count(self, lines_over: _Positions, outside: _Positions, n: int) -> None:
        seen = self.scanned
        several = np.flatnonzero(lines_over > 1)
        if len(several):
            starts = np.r_[0, outside[:-1] + 1][several] + seen.lines + 1
            longest = int(np.argmax(lines_over[several]))
            n_lines = int(lines_over[several][longest])
            if n_lines > MAX_LINES_OF_A_RECORD and not self.declared:
                raise TableError(self._opened(int(starts[longest]), f"{n_lines:,}"))
            seen.first_over_lines = seen.first_over_lines or int(starts[0])
            seen.over_lines += len(several)
        seen.lines += int(outside[-1]) + 1
        seen.records += n

    def _refuse_unclosed(
        self, ends: _Positions, mark: int, n_bytes: int, *, at_end: bool
    ) -> None:
        """Refuse a mark that opened a field which the data do not close."""
        n_lines = len(ends) - int(np.searchsorted(ends, mark))
        line = self.scanned.lines + int(np.searchsorted(ends, mark)) + 1
        if n_lines > MAX_LINES_OF_A_RECORD and not self.declared:
            raise TableError(self._opened(line, f"more than {MAX_LINES_OF_A_RECORD}"))
        if at_end or n_bytes - mark > MAX_RECORD_BYTES:
            raise TableError(
                f"{self.file}: line {line:,}: expected the quotation mark at the "
                f"beginning of a field to be closed, got the end; {_SAY_QUOTING}"
            )

    def _opened(self, line: int, n_lines: str) -> str:
        return (
            f"{self.file}: line {line:,}: a quotation mark opens a field of {n_lines} "
            f"lines; {_SAY_QUOTING}"
        )

    @staticmethod
    def _without_blank_lines(
        codes: npt.NDArray[np.uint8], ends: _Positions
    ) -> _Positions:
        """The ends of records: an empty line is none."""
        starts = np.r_[0, ends[:-1] + 1]
        length = ends - starts
        blank = (length == 0) | ((length == 1) & (codes[starts] == RETURN))
        filled: _Positions = ends[~blank]
        return filled

    def _quoted(
        self, data: bytes, codes: npt.NDArray[np.uint8]
    ) -> tuple[_Positions, _Positions, int | None]:
        """Where quoted fields open and close; a mark that opens one to the end."""
        none = np.zeros(0, np.int64)
        if not self.quoting or MARK not in data:
            return none, none, None
        marks = np.flatnonzero(codes == MARK)
        separators = np.zeros(256, bool)
        separators[[NEWLINE, RETURN, ord(self.delimiter)]] = True
        begins = (marks == 0) | separators[codes[np.maximum(marks - 1, 0)]]
        last = len(codes) - 1
        finishes = (marks == last) | separators[codes[np.minimum(marks + 1, last)]]
        pair = np.r_[False, np.diff(marks) == 1]
        paired = np.r_[pair[1:], False]
        odd = np.arange(len(marks)) % 2 == 1
        if bool(np.where(odd, finishes | paired, begins | pair).all()):
            opens, closes = marks[::2], marks[1::2]
            if len(opens) == len(closes):
                return opens, closes, None
            return opens, closes, int(opens[-1])
        return _walked(data, marks, begins)


_SAY_QUOTING = (
    "if marks quote no fields in this file say quoting = false in campaign.toml, and "
    "quoting = true if they do"
)


def _line_ends(codes: npt.NDArray[np.uint8]) -> _Positions:
    """Position of the last byte of every line: LF, CR LF, or CR alone."""
    ends = np.flatnonzero(codes == NEWLINE)
    returns = np.flatnonzero(codes == RETURN)
    if len(returns):
        last = len(codes) - 1
        alone = (returns == last) | (codes[np.minimum(returns + 1, last)] != NEWLINE)
        if alone.any():
            ends = np.union1d(ends, returns[alone])
    return ends


def _walked(
    data: bytes, marks: _Positions, begins: npt.NDArray[np.bool_]
) -> tuple[_Positions, _Positions, int | None]:
    """As `_quoted`, mark by mark, where some marks in a field mean themselves."""
    opens, closes, at = list[int](), list[int](), 0
    openers = marks[begins]
    while True:
        k = int(np.searchsorted(openers, at))
        if k == len(openers):
            return np.array(opens, np.int64), np.array(closes, np.int64), None
        start = int(openers[k])
        end = _closing(data, start + 1)
        opens.append(start)
        if end is None:
            return np.array(opens, np.int64), np.array(closes, np.int64), start
        closes.append(end)
        at = end + 1


def _closing(data: bytes, at: int) -> int | None:
    """The mark that closes a field: the first that is not one of a pair."""
    while (position := data.find(b'"', at)) >= 0:
        if data[position + 1 : position + 2] != b'"':
            return position
        at = position + 2
    return None
