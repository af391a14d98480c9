"""Rows of a request in plain Python: what `mapping` reads by DuckDB, at once.

Planning DuckDB's expressions takes ten milliseconds, whether there is one row or a
thousand. Nearly every value that comes is a plain one: an id, a code of a list, a
number, a day. Those are read here; what is not surely read alike is asked of `mapping`
once and remembered. So there is one meaning, and a test holds both ways against each
other.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import pandera.pandas as pa

from hustings.features.arrays import Objects, Values
from hustings.features.ingest.expressions import (
    MAX_EXACT,
    OLDEST_AGE,
    PLACEHOLDERS,
    YOUNGEST_AGE,
    YOUNGEST_BIRTH,
)
from hustings.features.ingest.mapping import map_with_faults, scalar_text
from hustings.features.ingest.source import (
    ColumnSource,
    Kind,
    TableSource,
    is_history,
    our_columns,
)
from hustings.features.tables import MAPPED_TABLES, TIMESTAMP

MOST_REMEMBERED = 20_000
"""Values of one column that are remembered; others are read each time."""
_PLAIN_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,17})?", re.ASCII)
_DAY = re.compile(
    r"([1-9]\d{3})-(\d\d)-(\d\d)([ T]00:00:00(\.0{1,6})?Z?)?", re.ASCII
)  # fmt: skip
_SMALLEST = 1e-200
_EPOCH = date(1970, 1, 1).toordinal()
_DAY_US = 86_400_000_000
_NO_TIME = np.iinfo(np.int64).min


class _Doubt:
    """Stands for a value that is not surely read alike."""


_DOUBT = _Doubt()
_Read = Callable[[Any], Any]
_TEXTS_ONLY = frozenset({str, type(None)})
_NUMBERS_ONLY = frozenset({int, float, type(None)})
FEW_VALUES = 16
"""Of fewer numbers, each is looked at alone."""
SHORT, MOST_LEVELS = 64, 2_000
"""So many texts of so many letters are remembered of a column of texts."""
_DIFFERENT = frozenset({"voter_id", "household_id", "cluster_id"})
"""Columns in which nearly every text is another: none is remembered."""


class _Remembered(dict[str | None, Any]):
    """What was read of short texts: at most 13 MB for thirty columns of texts.

    Args:
        read: Reads one.
        most: So many are remembered.
    """

    def __init__(self, read: _Read, most: int) -> None:
        super().__init__()
        self._read, self._most = read, most

    def __missing__(self, text: str | None) -> Any:
        value = self._read(text)
        if len(self) < self._most and (text is None or len(text) <= SHORT):
            self[text] = value
        return value


class _FaultyError(ValueError):
    """A value that cannot be read."""


@dataclass(frozen=True)
class VoterArrays:
    """VOTERS of a request as arrays.

    Attributes:
        n: Voters.
        columns: Ours, each of length n.
    """

    n: int
    columns: Mapping[str, Values]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Self:
        """The columns of a VOTERS table."""
        columns = {str(name): _values_of(frame[name]) for name in frame}
        return cls(len(frame), columns)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> Values:
        return self.columns[name]

    def coarsest_unit(self) -> Objects:
        """Cluster, else household, else the voter: `training_set.coarsest_unit`."""
        unit = self.household()
        if "cluster_id" in self:
            unit = _filled(self["cluster_id"], unit)
        return unit

    def household(self) -> Objects:
        """The household, or the voter where none is known."""
        if "household_id" not in self:
            return self["voter_id"]
        return _filled(self["household_id"], self["voter_id"])

    def with_columns(self, columns: Mapping[str, Values]) -> Self:
        """The voters with further columns, or others of the same name."""
        return type(self)(self.n, {**self.columns, **columns})

    def frame(self, names: Sequence[str]) -> pd.DataFrame:
        """Some of the columns as VOTERS."""
        return pd.DataFrame(
            {
                name: pd.Series(values, dtype="str" if values.dtype == object else None)
                for name in names
                for values in [self.columns[name]]
            },
            index=pd.RangeIndex(self.n),
        )


def _values_of(column: pd.Series) -> Values:
    if pd.api.types.is_datetime64_any_dtype(column):
        return column.to_numpy(dtype=TIMESTAMP)
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(dtype=np.float64)
    texts = column.astype(object)
    return texts.where(texts.notna(), None).to_numpy(dtype=object)


def _filled(first: Objects, other: Objects) -> Objects:
    return np.where(first == np.array(None), other, first)


class _Column(NamedTuple):
    """How one of our columns is read.

    Attributes:
        name: Ours.
        theirs: The request's; None where it is the same for everybody.
        kind: Text, number or time.
        read: A plain value, or `_DOUBT`.
        texts: What `read` says of texts.
        numbers: Of many numbers with None at once; None where one is in doubt.
        remembered: Text → what `mapping` reads, or `_FaultyError`.
    """

    name: str
    theirs: str | None
    kind: Kind
    read: _Read
    texts: _Remembered | None
    numbers: Callable[[Sequence[Any]], Values | None] | None
    remembered: dict[str | None, Any]

    def read_all(self, values: Sequence[Any]) -> list[Any] | Values:
        """A plain value or `_DOUBT` of each, or an array where none is in doubt."""
        kinds = set(map(type, values))
        if self.texts is not None and kinds <= _TEXTS_ONLY:
            return list(map(self.texts.__getitem__, values))
        if (
            self.numbers is not None
            and len(values) >= FEW_VALUES
            and kinds <= _NUMBERS_ONLY
        ):
            array = self.numbers(values)
            if array is not None:
                return array
        return list(map(self.read, values))


@dataclass(frozen=True)
class PlainMapping:
    """A mapping compiled to functions of single values.

    Attributes:
        source: The mapping, every column written out.
        table_name: Which of our tables it fills.
        columns: How each is read.
    """

    source: TableSource
    table_name: str
    columns: tuple[_Column, ...] = field(repr=False)

    @classmethod
    def of(cls, source: TableSource, table_name: str) -> Self | None:
        """Compile; None where a value depends on the other rows.

        Args:
            source: With every column written out (`resolved`).
            table_name: Which of our tables it fills.
        """
        declared = MAPPED_TABLES[table_name].columns
        columns = []
        for name, kind, origin in our_columns(source, table_name):
            settled = kind or _DECLARED_TYPES.get(source.types.get(name, ""))
            if settled is None or origin.row_number is not None:
                return None
            read, numbers = _reader(name, settled, origin, declared.get(name), source)
            most = MOST_LEVELS if settled == "text" else MOST_REMEMBERED
            texts = None if name in _DIFFERENT else _Remembered(read, most)
            columns.append(
                _Column(name, origin.column, settled, read, texts, numbers, {})
            )
        return cls(source, table_name, tuple(columns))

    def read(self, given: Mapping[str, Sequence[Any]], n: int) -> VoterArrays | None:
        """Our columns of some rows; None where a value cannot be read.

        Args:
            given: Values as JSON has them, by the request's column, each of length n.
            n: Rows.
        """
        nothing = [None] * n
        values = {
            c.name: nothing if c.theirs is None else given[c.theirs]
            for c in self.columns
        }
        read = {c.name: c.read_all(values[c.name]) for c in self.columns}
        plain = {name: v for name, v in read.items() if isinstance(v, list)}
        doubts = {
            name: [k for k, value in enumerate(column) if value is _DOUBT]
            for name, column in plain.items()
            if _DOUBT in column
        }
        try:
            if doubts:
                self._settle(values, plain, doubts)
        except _FaultyError:
            return None
        return VoterArrays(
            n, {c.name: _array(read[c.name], c.kind) for c in self.columns}
        )

    def _settle(
        self,
        values: Mapping[str, Sequence[Any]],
        plain: Mapping[str, list[Any]],
        doubts: Mapping[str, Sequence[int]],
    ) -> None:
        """Put in what `mapping` reads where the plain way is in doubt.

        Raises:
            _FaultyError: If a value cannot be read.
        """
        column = {c.name: c for c in self.columns}
        texts = {
            name: {k: scalar_text(values[name][k]) for k in at}
            for name, at in doubts.items()
        }
        unknown = {
            name: [t for t in dict.fromkeys(of.values())
                   if t not in column[name].remembered]
            for name, of in texts.items()
        }  # fmt: skip
        unknown = {name: new for name, new in unknown.items() if new}
        answers = self._mapped(column, unknown) if unknown else {}
        for name, at in doubts.items():
            remembered = column[name].remembered
            new = answers.get(name, {})
            for k in at:
                text = texts[name][k]
                value = new[text] if text in new else remembered[text]
                if value is _FaultyError:
                    raise _FaultyError
                plain[name][k] = value

    def _mapped(
        self, column: Mapping[str, _Column], unknown: Mapping[str, Sequence[str | None]]
    ) -> dict[str, dict[str | None, Any]]:
        """What `mapping` reads of texts, by column."""
        answers: dict[str, dict[str | None, Any]] = {}
        left = dict(unknown)
        while left:
            # of columns that are made of the same one, one at a time
            by_theirs = {column[name].theirs: name for name in left}
            texts = {name: left.pop(name) for name in by_theirs.values()}
            answers |= self._mapped_together(column, texts)
        for name, of_text in answers.items():
            remembered = column[name].remembered
            if len(remembered) < MOST_REMEMBERED:
                remembered |= of_text
        return answers

    def _mapped_together(
        self, column: Mapping[str, _Column], texts: Mapping[str, Sequence[str | None]]
    ) -> dict[str, dict[str | None, Any]]:
        n = max(map(len, texts.values()))
        theirs = {c.theirs for c in self.columns if c.theirs is not None}
        raw: dict[str, list[str | None]] = {name: [None] * n for name in theirs}
        for name, of_column in texts.items():
            origin = column[name].theirs
            if origin is not None:
                raw[origin] = [*of_column, *[None] * (n - len(of_column))]
        frame = pd.DataFrame(raw, index=pd.RangeIndex(n), dtype="str")
        mapped = map_with_faults(frame, self.source, self.table_name)
        answers: dict[str, dict[str | None, Any]] = {}
        for name, of_column in texts.items():
            at_fault = mapped.faults["column"] == name
            faulty = set(mapped.faults.loc[at_fault, "row"])
            values = _plain_values(mapped.frame[name], column[name].kind)
            answers[name] = {
                text: _FaultyError if k in faulty else values[k]
                for k, text in enumerate(of_column)
            }
        return answers


_DECLARED_TYPES: Mapping[str, Kind] = {"number": "number", "text": "text"}


def _array(values: list[Any] | Values, kind: Kind) -> Values:
    if isinstance(values, np.ndarray):
        return values
    if kind == "number":
        return np.array(values, dtype=np.float64)
    if kind == "time":
        ticks = [_NO_TIME if value is None else value for value in values]
        return np.array(ticks, dtype=np.int64).view(TIMESTAMP)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _plain_values(column: pd.Series, kind: Kind) -> list[Any]:
    if kind == "time":
        ticks = column.to_numpy(dtype=TIMESTAMP).view(np.int64).tolist()
        return [None if tick == _NO_TIME else tick for tick in ticks]
    return [None if pd.isna(value) else value for value in column.tolist()]


# --- how a plain value is read --------------------------------------------------------


def _reader(
    name: str,
    kind: Kind,
    origin: ColumnSource,
    declared: pa.Column | None,
    source: TableSource,
) -> tuple[_Read, Callable[[Sequence[Any]], Values | None] | None]:
    """A function of one value of JSON, and one of many numbers where there is one.

    They give `_DOUBT`, or None, of all that is not plain.
    """
    is_plain = not (
        origin.column is None or origin.map is not None or origin.formats
        or origin.thousands or origin.unit or origin.decimal != "."
        or (origin.digits is not None and kind != "text")
    )  # fmt: skip
    if not is_plain:
        return _never, None
    none = frozenset([*source.missing, *origin.missing, *PLACEHOLDERS.get(name, ())])
    keeps = _checks(name, declared, source)
    blank = None if declared is None or declared.nullable else _DOUBT
    if kind == "number":
        numbers = _numbers_reader(none, keeps, may_lack=blank is None)
        return _number_reader(none, keeps, blank), numbers
    if kind == "time":
        # no time of ours has a range that it must keep
        has_checks = declared is not None and bool(declared.checks)
        return (_never if has_checks else _time_reader(none, blank)), None
    return _text_reader(none, keeps, blank, origin.digits), None


def _never(_value: Any) -> _Doubt:
    return _DOUBT


def _number_reader(
    none: frozenset[str], keeps: Callable[[Any], Any], blank: Any
) -> _Read:
    none_numbers = _numbers_among(none)

    def read(value: Any) -> Any:
        kind = type(value)
        if kind is float or kind is int:
            is_plain = _SMALLEST < abs(value) < MAX_EXACT or value == 0
            if is_plain and value not in none_numbers:
                number = float(value)
                return number if keeps(number) else _DOUBT
            return _DOUBT
        if value is None:
            return blank
        if kind is not str:
            return _DOUBT
        text = value.strip()
        if not text:
            return blank
        if text in none or not _PLAIN_NUMBER.fullmatch(text):
            return _DOUBT
        number = float(text)
        return number if keeps(number) else _DOUBT

    return read


def _numbers_reader(
    none: frozenset[str], keeps: Callable[[Any], Any], *, may_lack: bool
) -> Callable[[Sequence[Any]], Values | None]:
    """`_number_reader` of many numbers with None; None where one is in doubt."""
    none_numbers = list(_numbers_among(none))

    def read(values: Sequence[Any]) -> Values | None:
        try:
            numbers = np.array(values, dtype=np.float64)
        except OverflowError:
            return None
        n_missing = values.count(None)
        given = numbers if n_missing == 0 else numbers[~np.isnan(numbers)]
        # what is NaN and not None is in doubt
        if len(given) + n_missing < len(values) or (n_missing and not may_lack):
            return None
        size = np.abs(given)
        is_plain = ((size > _SMALLEST) & (size < MAX_EXACT)) | (given == 0)
        if none_numbers:
            is_plain &= ~np.isin(given, none_numbers)
        return numbers if np.all(is_plain & keeps(given)) else None

    return read


def _numbers_among(none: frozenset[str]) -> set[float]:
    """Numbers of JSON that are looked up as the texts that they would be."""
    return {n for text in none if (n := _float(text)) is not None}


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _time_reader(none: frozenset[str], blank: Any) -> _Read:
    def read(value: Any) -> Any:
        if value is None:
            return blank
        if type(value) is not str:
            return _DOUBT
        text = value.strip()
        if not text:
            return blank
        day = _DAY.fullmatch(text)
        if day is None or text in none:
            return _DOUBT
        try:
            ordinal = date(int(day[1]), int(day[2]), int(day[3])).toordinal()
        except ValueError:
            return _DOUBT
        return (ordinal - _EPOCH) * _DAY_US

    return read


def _text_reader(
    none: frozenset[str],
    keeps: Callable[[Any], bool],
    blank: Any,
    digits: int | None,
) -> _Read:
    def read(value: Any) -> Any:
        if value is None:
            return blank
        if type(value) is not str:
            value = scalar_text(value)
            if value is None:
                return blank
        text = value.strip()
        if not text:
            return blank
        # signs of a placeholder, and of a number that a spreadsheet has cut
        if text in none or "#" in text or "*" in text or "+" in text:
            return _DOUBT
        if digits is not None:
            if not text.isascii():
                return _DOUBT
            text = text.rjust(digits, "0")
        return text if keeps(text) else _DOUBT

    return read


def _checks(
    name: str, declared: pa.Column | None, source: TableSource
) -> Callable[[Any], Any]:
    """Whether a plain value surely keeps its declaration; of numbers, each of many."""
    holds: list[Callable[[Any], Any]] = [
        _holds(check) for check in (declared.checks if declared is not None else ())
    ]
    if is_history(name):
        holds.append(lambda value: (value == 0.0) | (value == 1.0))
    if name == "age":
        holds.append(lambda value: (value >= YOUNGEST_AGE) & (value <= OLDEST_AGE))
    if name == "birth_year":
        latest = source.observed_on.year if source.observed_on else None
        last = YOUNGEST_BIRTH if latest is None else latest - YOUNGEST_AGE
        first = -np.inf if latest is None else latest - OLDEST_AGE
        holds.append(lambda value: (value >= first) & (value <= last))
    if not holds:
        return lambda _value: True
    if len(holds) == 1:
        return holds[0]
    return lambda value: _all(one(value) for one in holds)


def _all(held: Iterable[Any]) -> Any:
    result: Any = True
    for one in held:
        result = result & one
    return result


def _holds(check: pa.Check) -> Callable[[Any], Any]:
    statistics = check.statistics or {}
    if check.name == "isin":
        allowed = frozenset(statistics["allowed_values"])
        return lambda value: (
            np.isin(value, list(allowed))
            if isinstance(value, np.ndarray)
            else value in allowed
        )
    if check.name == "in_range":
        # the ends themselves are left to `mapping`, which knows whether they count
        low, high = statistics["min_value"], statistics["max_value"]
        return lambda value: (value > low) & (value < high)
    if check.name == "str_length":
        least = statistics["min_value"]
        return lambda value: len(value) >= least
    if check.name == "str_matches":
        pattern = re.compile(statistics["pattern"], re.ASCII)
        return lambda value: value.isascii() and pattern.search(value) is not None
    return lambda _value: False
