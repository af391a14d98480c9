"""The mapping of columns as expressions: texts of a source → our typed columns.

One expression reads a block of a file, a row of a request and (by another dialect) a
table of another engine. Each of our columns comes with the reason why a value of the
source could not be read, or breaks the declaration of its table.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import pandera.pandas as pa
import pyarrow

from hustings.features.engine import sql_of
from hustings.features.ingest.source import (
    ColumnSource,
    Kind,
    TableSource,
    is_history,
    our_columns,
)
from hustings.features.tables import MAPPED_TABLES

ROW = "row__"
"""Column of the raw rows that numbers them."""
MAX_EXACT = 2**53
"""Whole numbers below are kept exactly by a double."""
LARGEST = sys.float_info.max
OLDEST_AGE, YOUNGEST_AGE = 115, 16
YOUNGEST_BIRTH = 2012
"""Of a voter, where nobody says when the file was observed."""
YOUNGER = f"younger than {YOUNGEST_AGE}"
NO_VALUE = "expected a value, got none"
SPOILT = "expected an id as text, got a number whose last digits are lost"
FRACTION = "expected an id as text, got a number with a fraction"
PLACEHOLDER = "stands for no value"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_CUT_BY_A_SPREADSHEET = r"^[+-]?\d([.,]\d+)?[eE]\+\d{2,3}$"
_WITH_CLOCK = (
    r"^(\d{4}-\d{2}-\d{2}[ T](?:[01]\d|2[0-3]):\d{2})(:\d{2}(?:\.\d+)?)?"
    r"(?:([+-](?:0\d|1[0-4])):?([0-5]\d)?|(Z| [A-Za-z][A-Za-z_/]+))?$"
)
"""A time of ISO 8601, its zone an offset or, after a blank, a name."""
_MASKED = r"^[#*?_xX./ -]*[#*][#*?_xX./ -]*$"
"""Signs instead of a value, as in ##/##/####."""
NONE_OF_A_NUMBER = (
    "null", "none", "nil", "na", "n/a", "#n/a", "nan", "-nan", "inf", "-inf", "+inf",
    "infinity", "-infinity", "-", "--", "?", ".", "#null!", "#div/0!", "#value!",
    "missing", "\\n",
)  # fmt: skip
"""Words among numbers that are none; in small letters."""
PLACEHOLDERS: Mapping[str, tuple[str, ...]] = {
    "household_id": ("0", "00", "000", "0000", "00000", "000000", "-1"),
    "birth_year": (
        "0", "0000", "1800", "1900", "9999", "1800-01-01", "1900-01-01", "01/01/1800",
        "01/01/1900", "1/1/1800", "1/1/1900", "18000101", "19000101",
        "01-01-1900", "01.01.1900", "1800-01-01 00:00:00", "1900-01-01 00:00:00",
        "1900-01-01T00:00:00", "0000-00-00", "00/00/0000", "00000000",
    ),
    "age": ("0", "00", "000", "999", "-1"),
    "registered_on": (
        "0000-00-00", "00/00/0000", "00000000", "1800-01-01", "1900-01-01",
        "01/01/1800", "01/01/1900", "1/1/1800", "1/1/1900", "18000101", "19000101",
        "1900-01-01 00:00:00", "1900-01-01T00:00:00",
    ),
    "postcode": ("0", "00000", "99999", "000000000"),
    "precinct": ("#N/A",),
}  # fmt: skip
"""What registers write into a column of ours when they know nothing, as text."""


class MappingQuery(NamedTuple):
    """A compiled mapping.

    Attributes:
        sql: Over a table `raw`; gives `row__`, and for column k its value `v{k}`, why
            it has none `r{k}`, and the text that came `g{k}`.
        names: Our columns in the order of k.
    """

    sql: str
    names: tuple[str, ...]


def mapping_query(
    source: TableSource, table_name: str, schema: pyarrow.Schema, dialect: str
) -> MappingQuery:
    """The expression that maps rows of a source onto one of our tables.

    Args:
        source: With every column written out (`resolved`); a provider column whose
            type is not declared comes out as text.
        table_name: The table that it fills.
        schema: Of the raw rows, `row__` included.
        dialect: Of the SQL, as ibis names it.
    """
    fields = tuple((field.name, kind_of_field(field.type)) for field in schema)
    key = source.model_dump_json(
        by_alias=True,
        include={"columns", "history", "extra", "types", "missing", "observed_on"},
    )
    return _compiled(key, table_name, fields, dialect)


def kind_of_field(kind: pyarrow.DataType) -> str:
    """Type of a raw column, as far as the mapping tells types apart."""
    kinds = pyarrow.types
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    if kinds.is_boolean(kind):
        return "boolean"
    if kinds.is_integer(kind):
        return "int64"
    if kinds.is_floating(kind):
        return "float64"
    if kinds.is_decimal(kind):
        return "decimal"
    if kinds.is_date(kind):
        return "date"
    if kinds.is_timestamp(kind):
        return "timestamp"
    return "null" if kinds.is_null(kind) else "string"


def raw_type(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type in which a raw column is handed to the engine."""
    plain = {
        "boolean": pyarrow.bool_(), "float64": pyarrow.float64(),
        "date": pyarrow.date32(), "timestamp": pyarrow.timestamp("us"),
    }  # fmt: skip
    if pyarrow.types.is_integer(kind):
        return pyarrow.uint64() if kind == pyarrow.uint64() else pyarrow.int64()
    if pyarrow.types.is_decimal(kind):
        return kind
    return plain.get(kind_of_field(kind), pyarrow.string())


@cache
def _compiled(
    key: str, table_name: str, fields: tuple[tuple[str, str], ...], dialect: str
) -> MappingQuery:
    import ibis

    stated = {"source": "-", "licence": "-", "permitted_use": "-", "rows": []}
    source = TableSource.model_validate({**json.loads(key), **stated})
    types = {"decimal": "decimal(38, 10)", "null": "string"}
    raw = ibis.table({name: types.get(kind, kind) for name, kind in fields}, name="raw")
    kinds = dict(fields)
    ours = MAPPED_TABLES[table_name].columns
    columns = list(our_columns(source, table_name))
    latest = None if source.observed_on is None else source.observed_on.year
    reads = [
        _Read(name, kind or source.types.get(name), origin, latest)
        for name, kind, origin in columns
    ]
    given = raw.select(
        ROW,
        **{
            f"g{k}": read.given(raw, kinds, source.missing)
            for k, read in enumerate(reads)
        },
        **{
            f"s{k}": read.spoilt(raw, kinds)
            for k, read in enumerate(reads)
            if read.spoilt(raw, kinds) is not None
        },
    )
    mapped_rows = given.mutate(
        **{f"m{k}": read.mapped(given[f"g{k}"]) for k, read in enumerate(reads)}
    )
    typed = mapped_rows.mutate(
        **{f"v{k}": read.typed(mapped_rows[f"m{k}"]) for k, read in enumerate(reads)}
    )
    final = typed.select(
        ROW,
        **{
            f"{part}{k}": value
            for k, read in enumerate(reads)
            for part, value in read.outcome(typed, k, ours.get(read.name)).items()
        },
    )
    return MappingQuery(sql_of(final, dialect), tuple(read.name for read in reads))


class _Read(NamedTuple):
    """How one of our columns is read.

    Attributes:
        name: Ours.
        kind: Text, number or time; None of a provider column that is not settled,
            which stays a text until then.
        origin: Where its values come from.
        latest: Year in which the file was observed; None where nobody says.
    """

    name: str
    kind: Kind | None
    origin: ColumnSource
    latest: int | None

    def given(self, raw: Any, kinds: Mapping[str, str], missing: Sequence[str]) -> Any:
        """The text of the source, null where it has no value."""
        import ibis

        if self.origin.row_number is not None:
            return ibis.literal(self.origin.row_number) + raw[ROW].cast("string")
        if self.origin.column is None:
            constant = constant_text(self.origin.value)
            return ibis.literal(constant, type="string")
        column = self.origin.column
        text = as_text(raw[column], kinds[column])
        none = [*missing, *self.origin.missing]
        return text.isin(none).ifelse(ibis.null("string"), text) if none else text

    def spoilt(self, raw: Any, kinds: Mapping[str, str]) -> Any:
        """Whether a number came where a text was meant and has lost digits."""
        column = self.origin.column
        if column is None or self.kind != "text" or kinds[column] != "float64":
            return None
        value = raw[column]
        return (value.abs() >= MAX_EXACT) | (value % 1.0 != 0)

    def mapped(self, given: Any) -> Any:
        """The text after the column's map and leading zeros; null where unmapped."""
        import ibis

        value, origin = given, self.origin
        if origin.map is not None:
            ours = {
                theirs: constant_text(answer) for theirs, answer in origin.map.items()
            }
            blank = ours.pop("", None)
            if origin.default is not None:
                other: Any = ibis.literal(constant_text(origin.default), "string")
            else:
                other = given if origin.keep else ibis.null("string")
            pairs = [(k, ibis.literal(v, "string")) for k, v in ours.items()]
            value = given.cases(*pairs, else_=other) if pairs else other
            if origin.default is None or blank is not None:
                value = given.isnull().ifelse(ibis.literal(blank, "string"), value)
        if origin.digits is not None:
            short = value.length() < origin.digits
            value = short.ifelse(value.lpad(origin.digits, "0"), value)
        return value

    @property
    def closed_map(self) -> bool:
        """Whether every value that the column can have is declared."""
        return self.origin.map is not None and not self.origin.keep

    def constants(self) -> dict[str, float]:
        """Numbers of a closed map, by the text that it gives for each."""
        origin = self.origin
        answers = [*(origin.map or {}).values(), origin.default]
        texts = [constant_text(a) for a in answers if a is not None]
        return {
            text: n for text in texts if text and (n := _plain_number(text)) is not None
        }

    def typed(self, mapped: Any) -> Any:
        """The value in its type; null where it cannot be read."""
        import ibis

        if self.kind == "number" and self.closed_map and not self.origin.formats:
            pairs = list(self.constants().items())
            nothing = ibis.null("float64")
            return mapped.cases(*pairs, else_=nothing) if pairs else nothing
        if self.kind == "number" and self.origin.formats:
            return (
                self._within(as_time(mapped, self.origin.formats))
                .year()
                .cast("float64")
            )
        if self.kind == "number":
            return as_number(mapped, self.origin)
        if self.kind == "time":
            return self._within(as_time(mapped, self.origin.formats))
        return mapped

    def _within(self, time: Any) -> Any:
        """A date with a year of two digits in the century that is not to come."""
        import ibis

        if not any("%y" in written for written in self.origin.formats):
            return time
        last = self.latest
        if last is None:
            return time
        if self.name.startswith("birth"):
            last -= YOUNGEST_AGE
        return (time.year() > last).ifelse(time - ibis.interval(years=100), time)

    def outcome(self, rows: Any, k: int, declared: pa.Column | None) -> dict[str, Any]:
        """Value, reason and given text of the column."""
        import ibis

        given, mapped, value = rows[f"g{k}"], rows[f"m{k}"], rows[f"v{k}"]
        reasons: list[tuple[Any, str]] = []
        if f"s{k}" in rows.columns:
            has_fraction = rows[f"s{k}"] & given.contains(".")
            reasons.append((has_fraction, FRACTION))
            reasons.append((rows[f"s{k}"] & given.notnull(), SPOILT))
        placeholders = self._placeholders(given, value)
        if placeholders is not None:
            reasons.append((placeholders, PLACEHOLDER))
        if self.kind == "text" and self._is_id(declared):
            reasons.append((given.re_search(_CUT_BY_A_SPREADSHEET), SPOILT))
        closed = not self.origin.keep and self.origin.default is None
        if self.origin.map is not None and closed:
            expected = ", ".join(key for key in self.origin.map if key)
            reason = f"expected one of {expected} (the map of {self.origin.column})"
            reasons.append((given.notnull() & mapped.isnull(), reason))
        unread = mapped.notnull() & value.isnull()
        if self.kind in ("number", "time"):
            reasons.append((unread, self.expected))
        if is_history(self.name) and not (
            self.closed_map and set(self.constants().values()) <= {0.0, 1.0}
        ):
            reasons.append(
                (~value.isin([0.0, 1.0]), "expected 1 (voted) or 0 (did not)")
            )
        if declared is not None:
            reasons += self._broken(value, declared)
        reason = (
            ibis.cases(*reasons, else_=ibis.null("string"))
            if reasons
            else ibis.null("string")
        )
        value_or_none = (
            reason.isnull().ifelse(value, ibis.null(value.type())) if reasons else value
        )
        return {"v": value_or_none, "r": reason, "g": given}

    @property
    def expected(self) -> str:
        """What an error says of a value that cannot be read."""
        if self.kind == "number" and not self.origin.formats:
            return "expected a number"
        return time_expected(self.origin.formats)

    def _is_id(self, declared: pa.Column | None) -> bool:
        return declared is not None and self.name.endswith(
            ("_id", "_ids", "merged_into")
        )

    def _placeholders(self, given: Any, value: Any) -> Any:
        """Whether a text stands for no value; None where none can."""
        listed = list(PLACEHOLDERS.get(self.name, ()))
        if self.kind in ("number", "time"):
            # what reads as a value is looked up in a short list alone
            unread = value.isnull() & (
                given.re_search(_MASKED) | given.lower().isin(list(NONE_OF_A_NUMBER))
            )
            return unread | given.isin(listed) if listed else unread
        if not listed:
            return None
        return given.isin(listed) | given.re_search(_MASKED)

    def _broken(self, value: Any, declared: pa.Column) -> list[tuple[Any, str]]:
        """The checks of a declaration, and no value where there has to be one."""
        broken: list[tuple[Any, str]] = []
        if self.name in ("age", "birth_year") and declared.checks:
            broken += self._odd_age(value)
        if not declared.nullable:
            broken.append((value.isnull(), NO_VALUE))
        for check in declared.checks:
            broken.append((~_keeps(check, value), str(check.error)))
        return broken

    def _odd_age(self, value: Any) -> list[tuple[Any, str]]:
        """Ages that nobody has; a child is told apart, for a rule asks about it."""
        too_old = f"expected an age of at most {OLDEST_AGE}"
        if self.name == "age":
            return [(value < YOUNGEST_AGE, YOUNGER), (value > OLDEST_AGE, too_old)]
        if self.latest is None:
            return [(value > YOUNGEST_BIRTH, YOUNGER)]
        return [
            (value > self.latest - YOUNGEST_AGE, YOUNGER),
            (value < self.latest - OLDEST_AGE, too_old),
        ]


def _keeps(check: pa.Check, value: Any) -> Any:
    """A check of a declared column as an expression."""
    statistics = check.statistics or {}
    match check.name:
        case "isin":
            return value.isin(list(statistics["allowed_values"]))
        case "in_range":
            low = (
                value >= statistics["min_value"]
                if statistics.get("include_min", True)
                else (value > statistics["min_value"])
            )
            return low & (value <= statistics["max_value"])
        case "greater_than_or_equal_to":
            return value >= statistics["min_value"]
        case "greater_than":
            return value > statistics["min_value"]
        case "str_length":
            return value.length() >= statistics["min_value"]
        case "str_matches":
            return value.re_search(statistics["pattern"])
    raise ValueError(f"expected a check with an expression, got {check.name!r}")


# --- values ---------------------------------------------------------------------------


def as_text(value: Any, kind: str) -> Any:
    """A raw value as text, null where it is none; texts come without outer blanks."""
    import ibis

    if kind in ("string", "null"):
        return value.nullif("")
    if kind == "boolean":
        return value.ifelse("true", "false")
    if kind == "float64":
        number = value.isnan().ifelse(ibis.null("float64"), value)
        is_whole = (number % 1.0 == 0) & (number.abs() < MAX_EXACT)
        return is_whole.ifelse(
            is_whole.ifelse(number, ibis.null("float64")).cast("int64").cast("string"),
            _number_text()(number),
        )
    if kind == "decimal":
        # zeros after the point say nothing, those before it do
        return value.cast("string").re_extract(r"^-?\d+(\.\d*[1-9])?", 0)
    if kind in ("timestamp",):
        return value.cast("string").re_replace(r" 00:00:00$", "")
    return value.cast("string")


def as_number(text: Any, origin: ColumnSource) -> Any:
    """A text as a number, null where it is none."""
    import ibis

    bare = text
    for sign in origin.unit:
        bare = bare.replace(sign, "")
    if origin.unit:
        # Spark reads some signs of `strip` as letters
        bare = bare.re_replace(r"^\s+|\s+$", "")
    if origin.thousands:
        sign = _escaped(origin.thousands)
        point = _escaped(origin.decimal)
        grouped = rf"^[+-]?\d{{1,3}}({sign}\d{{3}})+({point}\d*)?$"
        bare = bare.re_search(grouped).ifelse(bare.replace(origin.thousands, ""), bare)
    if origin.decimal == ",":
        bare = bare.contains(".").ifelse(ibis.null("string"), bare.replace(",", "."))
    number = bare.re_search(_NUMBER).ifelse(bare, ibis.null("string"))
    truth = text.lower().cases(("true", 1.0), ("false", 0.0), else_=None)
    value = number.try_cast("float64").fill_null(truth)
    return (value.abs() > LARGEST).ifelse(ibis.null("float64"), value)


def _escaped(sign: str) -> str:
    return f"[{sign}]" if sign != "\\" else r"\\"


def as_time(text: Any, formats: Sequence[str]) -> Any:
    """A text as a time in UTC without a zone, null where it is none."""
    import ibis

    if formats:
        times = [
            _try_strptime(text, written).cast("timestamp(6)") for written in formats
        ]
        return ibis.coalesce(*times) if len(times) > 1 else times[0]
    day = text.re_search(r"^\d{4}-\d{2}-\d{2}$")
    with_clock = text.re_search(_WITH_CLOCK)
    iso = ibis.cases((day, text), (with_clock, _full_time(text)), else_=None)
    compact = text.re_search(r"^\d{8}$").ifelse(text, ibis.null("string"))
    return ibis.coalesce(
        iso.try_cast("timestamp('UTC', 6)").cast("timestamp(6)"),
        _try_strptime(compact, "%Y%m%d").cast("timestamp(6)"),
    )


def _full_time(text: Any) -> Any:
    """A time of `_WITH_CLOCK` with seconds, and minutes of its offset."""
    minute, second, offset, offset_minutes, name = (
        text.re_extract(_WITH_CLOCK, group) for group in (1, 2, 3, 4, 5)
    )
    zone = (offset != "").ifelse(
        offset + ":" + (offset_minutes != "").ifelse(offset_minutes, "00"), name
    )
    return minute + (second != "").ifelse(second, ":00") + zone


def time_expected(formats: Sequence[str]) -> str:
    """The format of a time that an error message asks for."""
    if not formats:
        return "expected a date such as 2012-11-06; give its format otherwise"
    return f"expected a date written as {' or '.join(formats)}"


def constant_text(value: Any) -> str | None:
    """A declared value as the text that a file would have."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    return str(value)


def _plain_number(text: str) -> float | None:
    """A declared constant as a number, as `as_number` reads it."""
    truth = {"true": 1.0, "false": 0.0}.get(text.lower())
    if truth is not None:
        return truth
    return float(text) if re.fullmatch(_NUMBER, text) else None


def _try_strptime(text: Any, written: str) -> Any:
    return _strptime()(text, written)


# --- functions of the engine that ibis does not know, see `features.engine` -----------


@cache
def _number_text() -> Any:
    import ibis

    @ibis.udf.scalar.builtin(signature=(("float64",), "string"))
    def number_text(number): ...  # type: ignore[no-untyped-def]

    return number_text


@cache
def _strptime() -> Any:
    import ibis

    two = ("string", "string")

    @ibis.udf.scalar.builtin(signature=(two, "timestamp"))
    def try_strptime(text, written): ...  # type: ignore[no-untyped-def]

    return try_strptime
